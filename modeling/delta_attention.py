"""Delta self-attention: scores that look at how features change from one step to another."""

from __future__ import annotations

import math

import torch
from torch import nn

from modeling.attention import XavierLinear, attend
from modeling.modality_sequence import ModalitySequence


class SequenceConvolution(nn.Module):
    """A convolution over the steps of a sequence, which sees zeros beyond its ends and where steps are not valid."""

    def __init__(self, input_size: int, output_size: int, kernel_size: int):
        super().__init__()
        self.convolution = nn.Conv1d(input_size, output_size, kernel_size, padding=kernel_size // 2)

    def forward(self, sequence: ModalitySequence) -> ModalitySequence:
        """From a left-aligned sequence (B, T, input_size) to one of (B, T, output_size)."""
        values = self.convolution(sequence.cleared().values.transpose(1, 2)).transpose(1, 2)
        return ModalitySequence(values, sequence.mask).cleared()


class DeltaTerm(nn.Module):
    """
    RPE_ij = (x_j - x_i) . W[:, c], the change of features from step i to step j, weighted (Delta-Attention, section
    4.1).

    The column c is that of the key step j, or that of the offset j - i; later ones than there are share the last.

    Args:
        size (`int`): Features per step.
        steps (`int`): Columns of W.
        index (`str`): "key" or "offset".
    """

    def __init__(self, size: int, steps: int, index: str):
        super().__init__()
        self.index = index
        self.reach = steps // 2
        self.weight = nn.Parameter(torch.empty(steps if index == "key" else 2 * self.reach + 1, size))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.xavier_uniform_(self.weight)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """From (B, T, size) to (B, T, T)."""
        step = torch.arange(values.shape[1], device=values.device)
        if self.index == "key":
            columns = self.weight[step.clamp(max=len(self.weight) - 1)]
            # x_j . w_j for all j, and x_i . w_j for all pairs: nothing is as large as (T, T, size).
            return (values * columns).sum(dim=-1).unsqueeze(1) - values @ columns.T
        offset = (step - step.unsqueeze(1)).clamp(-self.reach, self.reach) + self.reach
        scores = values @ self.weight.T
        at_key = scores.gather(2, offset.T.expand(values.shape[0], -1, -1)).transpose(1, 2)
        at_query = scores.gather(2, offset.expand(values.shape[0], -1, -1))
        return at_key - at_query


class DeltaSelfAttention(nn.Module):
    """
    softmax((Q K^T + RPE) / sqrt(d_k)) V, head by head, then W_O (Delta-Attention, equations 10 to 12). The heads share
    RPE.

    Args:
        size (`int`): Width.
        heads (`int`): Must divide it.
        steps, index: See [`DeltaTerm`].
        window (`int`, *optional*): How far a step attends; None for all steps.
        direction (`str`): "both", "past" or "future": to which side.
        dropout (`float`): On the weights.
    """

    def __init__(
        self, size: int, heads: int, steps: int, index: str, window: int | None, direction: str, dropout: float
    ):
        super().__init__()
        self.heads = heads
        self.window = window
        self.direction = direction
        self.dropout = dropout
        self.query, self.key, self.value = (XavierLinear(size, size) for _ in range(3))
        self.delta = DeltaTerm(size, steps, index)
        self.output = XavierLinear(size, size)

    def forward(self, sequence: ModalitySequence) -> ModalitySequence:
        """From a left-aligned sequence (B, T, size) to another one."""
        values, mask = sequence
        keys = mask.unsqueeze(1) & reachable_steps(mask.shape[1], self.window, self.direction, mask.device)
        found = attend(
            self.query(values),
            self.key(values),
            self.value(values),
            keys,
            self.heads,
            self.dropout if self.training else 0.0,
            bias=self.delta(values) / math.sqrt(values.shape[-1] // self.heads),
        )
        return ModalitySequence(self.output(found), mask).cleared()


def reachable_steps(steps: int, window: int | None, direction: str, device: torch.device | None = None) -> torch.Tensor:
    """(T, T) bool: whether step i may attend to step j, which is itself or lies within the window on its side."""
    step = torch.arange(steps, device=device)
    offset = step - step.unsqueeze(1)
    reachable = torch.ones_like(offset, dtype=torch.bool)
    if window is not None:
        reachable &= offset.abs() <= window
    if direction == "future":
        reachable &= offset >= 0
    elif direction == "past":
        reachable &= offset <= 0
    return reachable
