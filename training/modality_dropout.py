"""Random modality dropout: in training, a sample sometimes lacks what it has."""

from __future__ import annotations

from typing import Any

import torch


def drop_modalities(inputs: dict[str, Any], masks: dict[str, str], share: float) -> dict[str, Any]:
    """
    Hides each modality of each sample with probability `share`, but never all that the sample has: where all were
    drawn, one of them, each as likely, stays.

    The random numbers are PyTorch's, whose state a checkpoint has: a resumed run hides the same.

    Args:
        inputs (`dict`): Forward's arguments; not changed.
        masks (`dict`): By modality, the name of its mask (B, T).
        share (`float`): From 0 to below 1.

    Returns:
        The arguments with the masks of what is hidden set to zero.
    """
    names = [name for name in masks.values() if name in inputs]
    if not share or not names:
        return inputs
    there = torch.stack([inputs[name].bool().any(dim=1) for name in names])
    draws = torch.rand(there.shape, device=there.device)
    # The last of those that are there by an order of their own, so that a low share does not choose which one stays.
    order = torch.rand(there.shape, device=there.device).masked_fill(~there, -1.0)
    kept = there & (draws >= share)
    last = order == order.max(dim=0, keepdim=True).values
    kept |= there & last & ~kept.any(dim=0, keepdim=True)
    hidden = {
        name: inputs[name] * keep.unsqueeze(1).to(inputs[name].dtype) for name, keep in zip(names, kept, strict=True)
    }
    return {**inputs, **hidden}
