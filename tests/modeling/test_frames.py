"""The frames of each step against plain loops, and against `resample`, which takes their mean."""

import math

import pytest
import torch

from modeling.frames import frames_per_step
from modeling.modality_sequence import ModalitySequence, resample

CASES = [(7, 3), (3, 7), (5, 5), (1, 4), (6, 1), (0, 4), (4, 0), (0, 0), (40, 3)]  # frames and steps of a row


def some_frames():
    lengths, steps = zip(*CASES, strict=True)
    mask = torch.arange(42) < torch.tensor(lengths)[:, None]
    values = torch.arange(len(CASES) * 42 * 2, dtype=torch.float64).reshape(len(CASES), 42, 2) + 1
    wanted = torch.arange(8) < torch.tensor(steps)[:, None]
    return ModalitySequence(values.masked_fill(~mask.unsqueeze(-1), math.nan), mask), wanted


@pytest.mark.parametrize("limit", [1, 4, 100])
def test_against_loops(limit):
    sequence, wanted = some_frames()
    frames, there = frames_per_step(sequence, wanted, limit)
    assert frames.shape == (len(CASES), 8, min(limit, 14), 2) and there.shape == frames.shape[:3]
    for row, (have, want) in enumerate(CASES):
        for step in range(8):
            share = range(math.floor(step * have / want), math.ceil((step + 1) * have / want)) if step < want else []
            if len(share) > limit:
                share = [share[k * len(share) // limit] for k in range(limit)]
            expected = sequence.values[row, list(share)]
            assert there[row, step].tolist() == [k < len(share) for k in range(there.shape[2])]
            torch.testing.assert_close(frames[row, step, : len(share)], expected, atol=0, rtol=0)
            assert not frames[row, step, len(share) :].any()


def test_their_mean_is_what_resample_gives():
    sequence, wanted = some_frames()
    frames, there = frames_per_step(sequence, wanted, limit=100)
    mean = frames.sum(dim=2) / there.sum(dim=2, keepdim=True).clamp(min=1)
    torch.testing.assert_close(mean, resample(sequence, wanted).values)


def test_no_more_frames_than_the_longest_share():
    sequence, wanted = some_frames()
    short = ModalitySequence(sequence.values[:3], sequence.mask[:3])
    assert frames_per_step(short, wanted[:3], limit=20)[0].shape[2] == 3  # 7 frames of 3 steps
    nothing = ModalitySequence(torch.zeros(2, 1, 2), torch.zeros(2, 1).bool())
    frames, there = frames_per_step(nothing, wanted[:2], limit=20)
    assert frames.shape == (2, 8, 1, 2) and not there.any()
