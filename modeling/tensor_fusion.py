"""Fusion by the outer product of the modalities' representations: TFN's, and LMF's, which never makes it."""

from __future__ import annotations

import math

import torch
from torch import nn


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
            product = product * torch.einsum("bd,rdo->bro", with_one(states[modality]), factor)
        return (self.weight @ product).squeeze(1) + self.bias
