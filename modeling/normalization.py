"""Normalisation over the samples of a batch that have a modality."""

from __future__ import annotations

import torch
from torch import nn


class PresentBatchNorm(nn.Module):
    """
    Batch normalisation over the samples that have a modality: (x - mean) / sqrt(variance + eps) * weight + bias,
    feature by feature.

    In training, mean and variance are those of the batch's samples that have the modality; the others say nothing about
    it. The running statistics follow them as PyTorch's do (Ioffe and Szegedy, ICML 2015), with the
    unbiased variance. They take the batch's place in evaluation, and in training where fewer than two samples have the
    modality: one sample has no variance.

    Args:
        size (`int`): Features.
        momentum (`float`): Share of a batch in the new running statistics.
        eps (`float`): Added to the variance.
    """

    def __init__(self, size: int, momentum: float = 0.1, eps: float = 1e-5):
        super().__init__()
        self.momentum = momentum
        self.eps = eps
        self.weight = nn.Parameter(torch.empty(size))
        self.bias = nn.Parameter(torch.empty(size))
        self.running_mean: torch.Tensor
        self.running_variance: torch.Tensor
        self.register_buffer("running_mean", torch.empty(size))
        self.register_buffer("running_variance", torch.empty(size))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for ones in (self.weight, self.running_variance):
            nn.init.ones_(ones)
        for zeros in (self.bias, self.running_mean):
            nn.init.zeros_(zeros)

    def forward(self, values: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
        """
        Args:
            values (`torch.Tensor` of shape `(B, size)`): One vector per sample, finite in those that do not count, too.
            present (`torch.Tensor` of shape `(B,)`): True at the samples that have the modality.

        Returns:
            (B, size). Samples without the modality are normalised by what the others are.
        """
        # Sums of squares in half precision would lose what the differences are about.
        precise = values.to(torch.promote_types(values.dtype, torch.float32))
        mean, variance = self.running_mean.to(precise.dtype), self.running_variance.to(precise.dtype)
        if self.training:
            mean, variance = self._of_batch(precise, present, mean, variance)
        normal = (precise - mean) * torch.rsqrt(variance + self.eps)
        return (normal * self.weight + self.bias).to(values.dtype)

    def _of_batch(self, values, present, running_mean, running_variance) -> tuple[torch.Tensor, torch.Tensor]:
        """The batch's statistics where it has any, else the running ones, which follow; nothing waits for a GPU."""
        counted, number = present.unsqueeze(1).to(values.dtype), present.sum()
        mean = (values * counted).sum(dim=0) / number.clamp(min=1)
        squares = ((values - mean).square() * counted).sum(dim=0)
        enough = number >= 2
        with torch.no_grad():
            share = self.momentum * enough.to(values.dtype)
            self.running_mean.copy_(running_mean.lerp(mean, share))
            self.running_variance.copy_(running_variance.lerp(squares / (number - 1).clamp(min=1), share))
        variance = squares / number.clamp(min=1)
        return torch.where(enough, mean, running_mean), torch.where(enough, variance, running_variance)
