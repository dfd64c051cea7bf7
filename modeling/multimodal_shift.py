"""Words that audio and vision displace within a bound: RAVEN's shift, and MAG's gate on top of it."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from modeling.modality_sequence import ModalitySequence, any_valid


def shifted(anchor: ModalitySequence, displacement: torch.Tensor, beta: float) -> torch.Tensor:
    """
    e + alpha h with alpha = min(beta |e| / |h|, 1): however long the displacement h, it moves e by at most beta times
    its length. Where the anchor is masked there is no e that could bound it, and alpha is 1.

    Norms are taken in float32 at least; at |h| = 0 and |e| = 0 everything is finite, gradients included.

    Args:
        anchor (`ModalitySequence`): e, (B, N, d).
        displacement (`torch.Tensor` of shape `(B, N, d)`): h.
        beta (`float`): Above 0.

    Returns:
        (B, N, d), of the anchor's type.
    """
    precise = torch.promote_types(anchor.values.dtype, torch.float32)
    values, displacement = anchor.values.to(precise), displacement.to(precise)
    bound, length = beta * _norm(values), _norm(displacement)
    # The minimum written as bound / max(bound, |h|): no quotient grows without limit when h is short.
    longest = torch.maximum(bound, length)
    alpha = bound / longest.masked_fill(longest == 0, 1.0)
    alpha = alpha.masked_fill(~anchor.mask.unsqueeze(-1), 1.0)
    return (values + alpha * displacement).to(anchor.values.dtype)


class MultimodalShift(nn.Module):
    """
    h = sum over the other modalities m of g_m * (W_m x_m), plus a bias, bounded and added to the anchor as `shifted`
    says; the gate g_m comes from a linear layer over [x_m; e].

    A modality adds nothing to h at steps where it is masked; where all of them are, h is zero, without its bias.

    Sources: Wang et al., AAAI 2019, "Gated Modality-mixing Network" and "Multimodal Shifting"; Rahman et al., ACL 2020,
    "Multimodal Adaptation Gate".

    Args:
        size (`int`): Width of the anchor.
        other_sizes (`dict`): Widths of the other modalities, one at least.
        beta (`float`): The bound.
        gates (`str`):
            "scalar", one number per modality and step, a sigmoid (RAVEN), or "vector", one per feature, a ReLU (MAG).
    """

    def __init__(self, size: int, other_sizes: dict[str, int], beta: float, gates: Literal["scalar", "vector"]):
        super().__init__()
        gate_size = 1 if gates == "scalar" else size
        self.activation = torch.sigmoid if gates == "scalar" else torch.relu
        self.beta = beta
        self.gates = nn.ModuleDict({m: nn.Linear(width + size, gate_size) for m, width in other_sizes.items()})
        self.directions = nn.ModuleDict({m: nn.Linear(width, size, bias=False) for m, width in other_sizes.items()})
        self.bias = nn.Parameter(torch.zeros(size))

    def reset_parameters(self) -> None:
        """Of the bias; the layers have their own."""
        nn.init.zeros_(self.bias)

    def forward(self, anchor: ModalitySequence, others: dict[str, ModalitySequence]) -> torch.Tensor:
        """From the anchor e (B, N, size) and the others at the same steps to (B, N, size)."""
        displacement = self.bias.expand_as(anchor.values)
        for modality, gate in self.gates.items():
            values, mask = others[modality]
            weight = self.activation(gate(torch.cat([values, anchor.values], dim=-1)))
            moved = weight * self.directions[modality](values)
            displacement = displacement + moved.masked_fill(~mask.unsqueeze(-1), 0.0)
        moving = any_valid(others[modality] for modality in self.gates)
        return shifted(anchor, displacement.masked_fill(~moving.unsqueeze(-1), 0.0), self.beta)


class MultimodalAdaptationGate(nn.Module):
    """
    MAG: dropout(LayerNorm(e + alpha h)), with a gate per feature.

    Source: Rahman et al., ACL 2020, "Integrating Multimodal Information in Large Pretrained Transformers".

    Args:
        size, other_sizes, beta: As of [`MultimodalShift`].
        dropout (`float`): On the result.
    """

    def __init__(self, size: int, other_sizes: dict[str, int], beta: float, dropout: float):
        super().__init__()
        self.shift = MultimodalShift(size, other_sizes, beta, gates="vector")
        self.norm = nn.LayerNorm(size)
        self.dropout = nn.Dropout(dropout)

    def forward(self, anchor: ModalitySequence, others: dict[str, ModalitySequence]) -> torch.Tensor:
        """See [`MultimodalShift`]."""
        return self.dropout(self.norm(self.shift(anchor, others)))


def _norm(values: torch.Tensor) -> torch.Tensor:
    """|x| over the last dimension, which stays; its gradient at 0 is 0, where that of a square root is not finite."""
    squares = values.square().sum(dim=-1, keepdim=True)
    zero = squares == 0
    return squares.masked_fill(zero, 1.0).sqrt().masked_fill(zero, 0.0)
