"""Dropout whose masks cost a CPU little: PyTorch draws them there one number at a time."""

from __future__ import annotations

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from modeling.precision import precise

LEVELS = 2**16  # a probability is a multiple of one over it


class Dropout(nn.Dropout):
    """`torch.nn.Dropout`, for the large tensors of a network; see `dropout`."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return dropout(values, self.p, self.training)


def dropout(values: torch.Tensor, p: float, training: bool = True) -> torch.Tensor:
    """
    What `torch.nn.functional.dropout` computes; on a CPU with other random numbers, see `Noise`.

    Args:
        values (`torch.Tensor`): Of any shape.
        p (`float`): Probability of a zero. What is left is divided by the probability of being left.
        training (`bool`): Nothing happens without.
    """
    if not training or p == 0.0:
        return values
    if not has_noise(values, p):
        return nn.functional.dropout(values, p)
    return _Dropped.apply(values, p)


def has_noise(values: torch.Tensor, p: float) -> bool:
    """Whether such values are dropped by `Noise`: on a CPU, and where no compiler makes a kernel of its own."""
    return values.device.type == "cpu" and round(p * LEVELS) < LEVELS and not torch.compiler.is_compiling()


class Noise:
    """
    Which entries dropout leaves. Sixteen random bits of the default generator decide on an entry, four entries to a
    draw, so that the probability is rounded to a multiple of 2^-16; a multiple faster than a number to an entry.

    Args:
        p (`float`): Probability of dropping an entry, less than 1 when rounded.

    Attributes:
        factor (`float`): Of what is left: one over the (rounded) probability of being left.
    """

    def __init__(self, p: float):
        dropped = round(p * LEVELS)
        self.factor = LEVELS / (LEVELS - dropped)
        self.lowest_kept = dropped - LEVELS // 2  # 16-bit numbers are signed: the lowest is -LEVELS / 2

    def draw(self, shape: torch.Size | tuple[int, ...]) -> torch.Tensor:
        """New random bits: int16 of the shape, to be kept for the gradient."""
        count = torch.Size(shape).numel()
        bits = torch.empty((count + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
        return bits.view(torch.int16)[:count].view(shape)

    def left(self, values: torch.Tensor, bits: torch.Tensor) -> torch.Tensor:
        """The values, in single precision at least, where the bits leave them, and zeros."""
        values = precise(values)
        # The gradient of a threshold is this very selection, and much faster than one by a bool mask.
        return torch.ops.aten.threshold_backward(values, bits.to(values.dtype), self.lowest_kept - 0.5)

    def signed(self, values: torch.Tensor, bits: torch.Tensor) -> torch.Tensor:
        """Non-negative values with a minus where they are dropped; in place."""
        return torch.copysign(values, bits.to(values.dtype).sub_(self.lowest_kept - 0.5), out=values)


class _Dropped(torch.autograd.Function):
    @staticmethod
    def forward(ctx, values, p):
        ctx.noise = Noise(p)
        bits = ctx.noise.draw(values.shape)
        ctx.save_for_backward(bits)
        return ctx.noise.left(values, bits).mul_(ctx.noise.factor).to(values.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        (bits,) = ctx.saved_tensors
        return ctx.noise.left(gradient, bits).mul_(ctx.noise.factor).to(gradient.dtype), None
