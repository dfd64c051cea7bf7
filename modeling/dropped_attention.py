"""Attention with dropout on its weights on a CPU, for which PyTorch has no kernel."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch.amp import custom_bwd, custom_fwd
from torch.autograd.function import once_differentiable

from modeling.dropout import Noise
from modeling.precision import precise

CACHED = 2**17  # scores at a time: half a megabyte stays in a processor's cache


def dropped_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None, p: float
) -> torch.Tensor:
    """
    dropout(softmax(Q K^T / sqrt(d) + mask)) V, some samples at a time, whose scores stay in the cache.

    For the gradient it keeps the weights alone, with a minus where they were dropped.

    Args:
        query (`torch.Tensor` of shape `(B, H, N, d)`), key (of shape `(B, H, M, d)`), value (`(B, H, M, v)`): On a CPU.
        mask (`torch.Tensor` that broadcasts to `(B, H, N, M)`, *optional*):
            As `scaled_dot_product_attention` takes it: bool, true at what counts, or added to the scores.
        p (`float`): Probability of dropping a weight, less than 1.

    Returns:
        (B, H, N, v).
    """
    if mask is not None:
        if mask.dtype == torch.bool:
            mask = torch.zeros(mask.shape, dtype=precise(query).dtype).masked_fill_(~mask, float("-inf"))
        mask = mask.expand(len(query), query.shape[1], *mask.shape[2:])
    return _DroppedAttention.apply(query, key, value, mask, p)


class _DroppedAttention(torch.autograd.Function):
    @staticmethod
    @custom_fwd(device_type="cpu", cast_inputs=torch.float32)
    def forward(ctx, query, key, value, mask, p):
        ctx.dtypes = [tensor.dtype for tensor in (query, key, value)]
        query, key, value = (precise(tensor).contiguous() for tensor in (query, key, value))
        samples, heads, steps, width = query.shape
        noise = Noise(p)
        ctx.noise, ctx.scale = noise, 1 / math.sqrt(width)
        weights = query.new_empty(samples, heads, steps, key.shape[2])
        found = query.new_empty(samples, heads, steps, value.shape[3])
        for part in parts(weights):
            scores = torch.matmul(query[part] * ctx.scale, key[part].transpose(2, 3))
            if mask is not None:
                scores += mask[part]
            torch.softmax(scores, dim=-1, out=weights[part])
            noise.signed(weights[part], noise.draw(scores.shape))
            torch.matmul(torch.relu(weights[part]), value[part], out=found[part])
        # Under autocast the mask here is a copy, which does not say whether the one that came needs a gradient.
        ctx.mask_shape = mask.shape if ctx.needs_input_grad[3] else None
        ctx.save_for_backward(query, key, value, weights)
        return found.mul_(noise.factor).to(ctx.dtypes[0])

    @staticmethod
    @custom_bwd(device_type="cpu")
    @once_differentiable
    def backward(ctx, gradient):
        query, key, value, weights = ctx.saved_tensors
        gradient = precise(gradient) * ctx.noise.factor
        gradients = [torch.empty_like(tensor) for tensor in (query, key, value)]
        for_query, for_key, for_value = gradients
        for_mask = None if ctx.mask_shape is None else query.new_empty(ctx.mask_shape)
        for part in parts(weights):
            signed = weights[part]
            torch.matmul(torch.relu(signed).transpose(2, 3), gradient[part], out=for_value[part])
            for_weights = torch.matmul(gradient[part], value[part].transpose(2, 3))
            for_weights = torch.ops.aten.threshold_backward(for_weights, signed, 0.0)
            for_scores = torch._softmax_backward_data(for_weights, signed.abs(), -1, signed.dtype)
            if for_mask is not None:
                for_mask[part] = for_scores.sum_to_size(for_mask[part].shape)
            torch.matmul(for_scores, key[part], out=for_query[part])
            torch.matmul(for_scores.transpose(2, 3), query[part], out=for_key[part])
        for_query.mul_(ctx.scale)
        for_key.mul_(ctx.scale)
        returned = [found.to(dtype) for found, dtype in zip(gradients, ctx.dtypes, strict=True)]
        return *returned, for_mask, None


def parts(weights: torch.Tensor) -> Iterator[tuple[slice, slice]]:
    """Samples and heads of weights (B, H, N, M) that fit the cache together: one of each at least."""
    samples, heads, *scores = weights.shape
    size = max(1, CACHED // max(math.prod(scores), 1))
    for first in range(0, samples, max(1, size // heads)):
        for head in range(0, heads, size):
            yield slice(first, first + max(1, size // heads)), slice(head, head + size)
