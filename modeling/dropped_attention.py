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
    dropout(softmax(Q K^T / sqrt(d) + mask)) V, some samples, heads or queries at a time, whose scores stay in
    the cache.

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
        mask = mask.expand(*query.shape[:3], key.shape[2])
    return _DroppedAttention.apply(query, key, value, mask, p)


class _DroppedAttention(torch.autograd.Function):
    @staticmethod
    @custom_fwd(device_type="cpu", cast_inputs=torch.float32)
    def forward(ctx, query, key, value, mask, p):
        ctx.dtypes = [tensor.dtype for tensor in (query, key, value)]
        query, key, value = (precise(tensor).contiguous() for tensor in (query, key, value))
        noise = Noise(p)
        ctx.noise, ctx.scale = noise, 1 / math.sqrt(query.shape[3])
        weights = query.new_empty(*query.shape[:3], key.shape[2])
        found = query.new_empty(*query.shape[:3], value.shape[3])
        for part in parts(weights):
            heads = part[:2]
            scores = torch.matmul(query[part] * ctx.scale, key[heads].transpose(2, 3))
            if mask is not None:
                scores += mask[part]
            torch.softmax(scores, dim=-1, out=weights[part])
            noise.signed(weights[part], noise.draw(scores.shape))
            torch.matmul(torch.relu(weights[part]), value[heads], out=found[part])
        # Under autocast the mask here is a copy, which does not say whether the one that came needs a gradient.
        ctx.mask_has_gradient = ctx.needs_input_grad[3]
        ctx.save_for_backward(query, key, value, weights)
        return found.mul_(noise.factor).to(ctx.dtypes[0])

    @staticmethod
    @custom_bwd(device_type="cpu")
    @once_differentiable
    def backward(ctx, gradient):
        query, key, value, weights = ctx.saved_tensors
        gradient = precise(gradient) * ctx.noise.factor
        gradients = [torch.empty_like(query), torch.zeros_like(key), torch.zeros_like(value)]
        for_query, for_key, for_value = gradients
        for_mask = torch.empty_like(weights) if ctx.mask_has_gradient else None
        for part in parts(weights):
            signed, heads = weights[part], part[:2]
            for_value[heads] += torch.matmul(torch.relu(signed).transpose(2, 3), gradient[part])
            for_weights = torch.matmul(gradient[part], value[heads].transpose(2, 3))
            for_weights = torch.ops.aten.threshold_backward(for_weights, signed, 0.0)
            for_scores = torch._softmax_backward_data(for_weights, signed.abs(), -1, signed.dtype)
            if for_mask is not None:
                for_mask[part] = for_scores
            torch.matmul(for_scores, key[heads], out=for_query[part])
            for_key[heads] += torch.matmul(for_scores.transpose(2, 3), query[part])
        for_query.mul_(ctx.scale)
        for_key.mul_(ctx.scale)
        returned = [found.to(dtype) for found, dtype in zip(gradients, ctx.dtypes, strict=True)]
        return *returned, for_mask, None


def parts(weights: torch.Tensor) -> Iterator[tuple[slice, slice, slice]]:
    """Samples, heads and queries of weights (B, H, N, M) that fit the cache together: one of each at least."""
    samples, heads, queries, keys = weights.shape
    rows = max(1, CACHED // max(keys, 1))
    size = max(1, rows // max(queries, 1))  # heads
    whole = max(1, size // heads)  # samples
    for first in range(0, samples, whole):
        for head in range(0, heads, size):
            for query in range(0, queries, rows):
                yield slice(first, first + whole), slice(head, head + size), slice(query, query + rows)
