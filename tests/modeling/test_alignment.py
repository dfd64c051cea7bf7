"""Common steps for all modalities, against loops over rows and steps."""

import math

import pytest
import torch

from modeling.alignment import side_by_side, word_aligned
from modeling.modality_sequence import ModalitySequence

WIDTHS = {"text": 2, "audio": 3, "vision": 1}
# One row of lengths per modality: equal ones, longer and shorter ones, and rows that lack one, two and all of them.
LENGTHS = {"text": (4, 3, 5, 0, 0, 0), "audio": (4, 7, 2, 3, 0, 0), "vision": (4, 1, 0, 5, 2, 0)}
ROWS = 6


def samples(widths=WIDTHS):
    """Per row and modality, its valid steps: a list of lists of numbers."""
    generator = torch.Generator().manual_seed(0)
    return [
        {m: torch.randn(LENGTHS[m][row], size, generator=generator, dtype=torch.float64) for m, size in widths.items()}
        for row in range(ROWS)
    ]


def batched(rows, left=0, right=2):
    """With padding on both sides, between the first and the last valid step too, that holds numbers like any others."""
    sequences = {}
    for modality in rows[0]:
        longest = max(len(row[modality]) for row in rows)
        steps = left + 2 * longest + right
        values = torch.full((len(rows), steps, rows[0][modality].shape[1]), 9.0, dtype=torch.float64)
        mask = torch.zeros(len(rows), steps, dtype=torch.bool)
        for number, row in enumerate(rows):
            for step, features in enumerate(row[modality]):
                at = left + step + (1 if step > 1 else 0)
                values[number, at], mask[number, at] = features, True
        sequences[modality] = ModalitySequence(values, mask)
    return sequences


def aligned_sample(sample):
    """The number of common steps, and by modality its features at each of them, or None."""
    wanted = next((len(steps) for steps in sample.values() if len(steps)), 0)
    result = {}
    for modality, steps in sample.items():
        have, found = len(steps), []
        for number in range(wanted if have else 0):
            first, last = number * have // wanted, math.ceil((number + 1) * have / wanted)
            share = steps[first:last]
            found.append([sum(float(step[k]) for step in share) / len(share) for k in range(steps.shape[1])])
        result[modality] = found
    return wanted, result


def assert_equals(found, expected):
    torch.testing.assert_close(found, torch.tensor(expected, dtype=found.dtype).reshape(found.shape))


@pytest.mark.parametrize("left, right", [(0, 0), (3, 1)])
@pytest.mark.parametrize("modalities", [("text", "audio", "vision"), ("audio", "vision"), ("vision",)])
def test_word_aligned(modalities, left, right):
    rows = samples({modality: WIDTHS[modality] for modality in modalities})
    found = word_aligned(batched(rows, left, right))
    assert list(found) == list(modalities)
    assert len({sequence.mask.shape for sequence in found.values()}) == 1
    for number, sample in enumerate(rows):
        _, expected = aligned_sample(sample)
        for modality, (values, mask) in found.items():
            count = len(expected[modality])
            assert mask[number].tolist() == [step < count for step in range(mask.shape[1])]
            assert_equals(values[number, :count], expected[modality])
            assert not values[number, count:].any()


@pytest.mark.parametrize("left, right", [(0, 0), (3, 1)])
@pytest.mark.parametrize("modalities", [("text", "audio", "vision"), ("audio", "vision"), ("vision",)])
def test_side_by_side(modalities, left, right):
    rows = samples({modality: WIDTHS[modality] for modality in modalities})
    values, mask = side_by_side(batched(rows, left, right))
    assert values.shape[2] == sum(WIDTHS[modality] for modality in modalities)
    for number, sample in enumerate(rows):
        wanted, expected = aligned_sample(sample)
        assert mask[number].tolist() == [step < wanted for step in range(mask.shape[1])]
        for step in range(wanted):
            joined = []
            for modality in modalities:  # what the sample lacks is zeros
                joined += expected[modality][step] if expected[modality] else [0.0] * WIDTHS[modality]
            assert_equals(values[number, step], joined)
        assert not values[number, wanted:].any()


def test_aligned_corpora_stay_as_they_are():
    """To the bit, also in single precision."""
    generator = torch.Generator().manual_seed(1)
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    sequences = {m: ModalitySequence(torch.randn(2, 5, size, generator=generator), mask) for m, size in WIDTHS.items()}
    for modality, (values, found) in word_aligned(sequences).items():
        assert torch.equal(found, mask)
        assert torch.equal(values, sequences[modality].values * mask.unsqueeze(-1))


def test_nothing_is_common_to_rows():
    """A row gets the same steps alone as among others."""
    rows = samples()
    values, mask = side_by_side(batched(rows))
    for number in range(ROWS):
        alone, valid = side_by_side(batched(rows[number : number + 1]))
        steps = min(alone.shape[1], values.shape[1])
        torch.testing.assert_close(alone[0, :steps], values[number, :steps])
        assert int(valid.sum()) == int(mask[number].sum())


def test_gradients_reach_the_valid_steps_alone():
    rows = samples()
    sequences = batched(rows)
    for sequence in sequences.values():
        sequence.values.requires_grad_()
    side_by_side(sequences).values.sum().backward()
    for modality, (values, mask) in sequences.items():
        there = values.grad.abs().sum(dim=-1) > 0
        assert torch.equal(there, mask), modality
