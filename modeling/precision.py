"""The precision in which sums over many terms are made."""

import torch


def precise(tensor: torch.Tensor) -> torch.Tensor:
    """At least single precision: errors of long sums, and of recurrences, add up."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
