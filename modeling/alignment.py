"""Modalities brought to common steps, for the architectures that read them word by word."""

from __future__ import annotations

import torch

from modeling.modality_sequence import ModalitySequence, any_valid, leading_mask, left_align, resample


def word_aligned(sequences: dict[str, ModalitySequence]) -> dict[str, ModalitySequence]:
    """
    All modalities left-aligned and at the same steps: those of the first one that the sample has, in the order text,
    audio, vision. Of the others, a step is the mean over its share of their steps (see `resample`); nothing changes
    where they are aligned already.

    Returns:
        By modality, values (B, N, d) and masks; a modality that a sample lacks is zeros, and masked.
    """
    aligned = {modality: left_align(sequence)[0] for modality, sequence in sequences.items()}
    mask = leading_mask(list(aligned.values()))
    return {modality: resample(sequence, mask) for modality, sequence in aligned.items()}


def side_by_side(sequences: dict[str, ModalitySequence]) -> ModalitySequence:
    """
    The modalities' features concatenated at common steps (see `word_aligned`): (B, N, sum of d). A step is valid where
    the sample has any modality.
    """
    aligned = word_aligned(sequences)
    values = torch.cat([sequence.values for sequence in aligned.values()], dim=-1)
    mask = any_valid(aligned.values())
    return ModalitySequence(values, mask)
