"""Fusion by the outer product of the modalities' representations: TFN's, and LMF's, which never makes it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import zip_longest

import torch
from torch import nn
from torch.amp import custom_bwd, custom_fwd
from torch.autograd.function import once_differentiable

from modeling.dropout import Noise, has_noise
from modeling.precision import precise

CACHED = 2**18  # entries of an outer product at a time, a megabyte


def outer_product(states: dict[str, torch.Tensor]) -> torch.Tensor:
    """
    The product of one entry of [1; h_m] per modality m, for all combinations of entries: all unimodal, bimodal and
    trimodal products, and 1. (TFN, section 4.2.)

    A representation that is zeros, that of a missing modality, contributes its constant 1 alone: what is left are the
    products of the others, and zeros.

    Args:
        states (`dict`): By modality, (B, d_m).

    Returns:
        (B, the product of all d_m + 1), the entries of the last modality varying fastest.
    """
    product = None
    for state in states.values():
        factor = with_one(state)
        # Only the last product is large, and nothing else of its size is kept.
        product = factor if product is None else (product.unsqueeze(2) * factor.unsqueeze(1)).flatten(1)
    if product is None:
        raise ValueError("`states` must have a modality; got none.")
    return product


def outer_product_linear(
    states: dict[str, torch.Tensor], weight: torch.Tensor, bias: torch.Tensor, dropout: float = 0.0
) -> torch.Tensor:
    """
    A linear map of the modalities' outer product (see `outer_product`) after dropout.

    On a CPU the product is made some of its entries at a time, for the map and again for its gradient: it is by far the
    largest tensor of TFN, and what makes and drops it there is memory traffic. Of it nothing is kept but random bits.

    Args:
        states (`dict`): By modality, (B, d_m).
        weight (`torch.Tensor` of shape `(O, the product of all d_m + 1)`), bias (of shape `(O,)`): Of the map.
        dropout (`float`): On the product; the caller passes 0 outside of training.

    Returns:
        (B, O).
    """
    if not has_noise(weight, dropout):
        return nn.functional.linear(nn.functional.dropout(outer_product(states), dropout), weight, bias)
    *others, last = states
    rest = with_one(states[last])
    first = outer_product({name: states[name] for name in others}) if others else rest.new_ones(len(rest), 1)
    return _ProductLinear.apply(first, rest, weight, bias, dropout)


class _ProductLinear(torch.autograd.Function):
    """dropout(first x rest) W^T + b, for factors (B, F) and (B, R) of the product."""

    @staticmethod
    @custom_fwd(device_type="cpu", cast_inputs=torch.float32)
    def forward(ctx, first, rest, weight, bias, p):
        ctx.dtypes = [tensor.dtype for tensor in (first, rest, weight, bias)]
        first, rest, weight, bias = (precise(tensor) for tensor in (first, rest, weight, bias))
        ctx.noise = Noise(p) if p > 0 else None
        first = first * ctx.noise.factor if ctx.noise else first
        found = bias.repeat(len(first), 1)
        drawn = []
        for part, columns in _parts(first, rest):
            bits = ctx.noise.draw((len(first), columns.stop - columns.start)) if ctx.noise else None
            found.addmm_(_entries(first[:, part], rest, ctx.noise, bits), weight[:, columns].t())
            drawn += [] if bits is None else [bits]
        ctx.save_for_backward(first, rest, weight, *drawn)
        return found.to(ctx.dtypes[0])

    @staticmethod
    @custom_bwd(device_type="cpu")
    @once_differentiable
    def backward(ctx, gradient):
        first, rest, weight, *drawn = ctx.saved_tensors
        gradient = precise(gradient)
        for_first, for_rest, for_weight = torch.empty_like(first), torch.zeros_like(rest), torch.empty_like(weight)
        for (part, columns), bits in zip_longest(_parts(first, rest), drawn):
            entries = _entries(first[:, part], rest, ctx.noise, bits)
            for_weight[:, columns] = gradient.t() @ entries
            for_entries = gradient @ weight[:, columns]
            if bits is not None:
                for_entries = ctx.noise.left(for_entries, bits)
            for_entries = for_entries.unflatten(1, (-1, rest.shape[1]))
            for_first[:, part] = (for_entries @ rest.unsqueeze(2)).squeeze(2)
            for_rest += (first[:, None, part] @ for_entries).squeeze(1)
        if ctx.noise:
            for_first *= ctx.noise.factor
        found = for_first, for_rest, for_weight, gradient.sum(dim=0)
        return *(tensor.to(dtype) for tensor, dtype in zip(found, ctx.dtypes, strict=True)), None


def _parts(first: torch.Tensor, rest: torch.Tensor) -> Iterator[tuple[slice, slice]]:
    """Entries of the first factor whose products fit the cache, one at least, and these products' columns."""
    width = rest.shape[1]
    size = max(1, CACHED // rest.numel())
    for start in range(0, first.shape[1], size):
        stop = min(start + size, first.shape[1])
        yield slice(start, stop), slice(start * width, stop * width)


def _entries(part: torch.Tensor, rest: torch.Tensor, noise: Noise | None, bits: torch.Tensor | None) -> torch.Tensor:
    entries = (part.unsqueeze(2) * rest.unsqueeze(1)).flatten(1)
    return entries if noise is None or bits is None else noise.left(entries, bits)


def with_one(state: torch.Tensor) -> torch.Tensor:
    """[1; h], (B, d + 1), of h (B, d)."""
    return nn.functional.pad(state, (1, 0), value=1.0)


class LowRankFusion(nn.Module):
    """
    A linear map of the modalities' outer product (see `outer_product`) whose weights are a sum of `rank` tensors of
    rank one, so that neither is ever made: h = sum_i w_i prod_m ([1; h_m] W_m^(i)) + b, the product entry by entry.

    Source: Liu et al., ACL 2018, "Efficient Low-rank Multimodal Fusion with Modality-Specific Factors", section
    3.2, with the weights w of its authors' code where the paper has a plain sum.

    Args:
        sizes (`dict`): By modality, the width of its representation.
        output_size (`int`): Width of the result.
        rank (`int`): Tensors in the sum.
    """

    def __init__(self, sizes: dict[str, int], output_size: int, rank: int):
        super().__init__()
        self.factors = nn.ParameterDict(
            {modality: nn.Parameter(torch.empty(rank, size + 1, output_size)) for modality, size in sizes.items()}
        )
        self.weight = nn.Parameter(torch.empty(1, rank))
        self.bias = nn.Parameter(torch.empty(output_size))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for factor in self.factors.values():
            nn.init.normal_(factor, std=math.sqrt(2 / sum(factor.shape[1:])))  # Xavier's, for each of the matrices
        nn.init.xavier_normal_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, states: dict[str, torch.Tensor]) -> torch.Tensor:
        """From representations (B, d_m) by modality to (B, output_size)."""
        product = torch.ones((), dtype=self.bias.dtype, device=self.bias.device)
        for modality, factor in self.factors.items():
            product = product * (with_one(states[modality]) @ factor)  # (rank, B, output_size)
        return (self.weight @ product.flatten(1)).view(product.shape[1:]) + self.bias
