"""Deep canonical correlation analysis: how much two encodings of the same samples have in common, linearly."""

from __future__ import annotations

import torch


def total_correlation(
    first: torch.Tensor, second: torch.Tensor, counted: torch.Tensor, regularization: float
) -> torch.Tensor:
    """
    The sum of all canonical correlations of two views: the nuclear norm of S11^(-1/2) S12 S22^(-1/2), with r I added to
    both covariances (Andrew, Arora, Bilmes and Livescu, ICML 2013, "Deep Canonical Correlation Analysis", section 3).

    Whitening by Cholesky factors instead of inverse square roots leaves the singular values as they are; its gradient
    has no differences of eigenvalues in a denominator, and that of singular values has none either. In double
    precision.

    Args:
        first (`torch.Tensor` of shape `(N, d)`), second (of shape `(N, e)`): Both views of the same samples.
        counted (`torch.Tensor` of shape `(N,)`): False at samples that are to be left out.
        regularization (`float`): r, above 0.

    Returns:
        A number from 0 to min(d, e); 0 for fewer than two samples.
    """
    precise = torch.float32 if first.device.type == "mps" else torch.float64
    weight = counted.to(precise).unsqueeze(-1)
    samples = weight.sum()
    views = []
    for view in (first.to(precise), second.to(precise)):
        mean = (view * weight).sum(dim=0) / samples.clamp(min=1)
        views.append((view - mean) * weight)
    divisor = (samples - 1).clamp(min=1)
    factors = []
    for view in views:
        identity = torch.eye(view.shape[1], dtype=precise, device=view.device)
        factors.append(torch.linalg.cholesky(view.T @ view / divisor + regularization * identity))
    shared = views[0].T @ views[1] / divisor
    whitened = torch.linalg.solve_triangular(factors[0], shared, upper=False)
    whitened = torch.linalg.solve_triangular(factors[1], whitened.T, upper=False)
    return torch.linalg.svdvals(whitened).sum()
