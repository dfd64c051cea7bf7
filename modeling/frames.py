"""The frames of one modality that fall to each step of another one, for what reads a word's frames one by one."""

from __future__ import annotations

import torch

from modeling.modality_sequence import ModalitySequence, longest, shares


def frames_per_step(sequence: ModalitySequence, mask: torch.Tensor, limit: int) -> tuple[torch.Tensor, torch.Tensor]:
    """
    What `resample` takes the mean of, frame by frame: each step's share (see `shares`). Of more than `limit` frames it
    has that many, at even distances, the first one among them.

    The longest share in the batch is one number that is read from the device.

    Args:
        sequence (`ModalitySequence`): Left-aligned frames (B, T, d).
        mask (`torch.Tensor` of shape `(B, N)`): Left-aligned mask of the steps.
        limit (`int`): Most frames per step.

    Returns:
        Frames (B, N, K, d), zeros where there is none, and their mask (B, N, K), left-aligned; K is what the step with
        the most frames has, and at least 1.
    """
    start, end = shares(sequence, mask)
    share = (end - start).masked_fill(~mask, 0).unsqueeze(-1)
    count = share.clamp(max=limit)
    frame = torch.arange(longest(count), device=mask.device)
    there = frame < count
    index = (start.unsqueeze(-1) + frame * share // count.clamp(min=1)).masked_fill(~there, 0)
    picked = index.flatten(1).unsqueeze(-1).expand(-1, -1, sequence.values.shape[2])
    frames = sequence.cleared().values.gather(1, picked).unflatten(1, index.shape[1:])
    return frames.masked_fill(~there.unsqueeze(-1), 0.0), there
