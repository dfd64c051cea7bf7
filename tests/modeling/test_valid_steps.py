"""Steps as rows: their order, and what both ways of holding them give, against loops over samples."""

import pytest
import torch

from modeling.valid_steps import PaddedSteps, StepRows, ValidSteps, before, steps_of

LENGTHS = pytest.mark.parametrize("lengths", [[2, 4, 0, 1], [3, 3], [0, 0], [1]], ids=str)


def mask_of(lengths):
    return torch.arange(max([1, *lengths])) < torch.tensor(lengths).unsqueeze(1)


def values_of(mask, width=2):
    return torch.arange(1.0, mask.numel() * width + 1).view(*mask.shape, width)


def test_order():
    steps = ValidSteps(mask_of([2, 4, 0, 1]))
    rows = steps.take(values_of(mask_of([2, 4, 0, 1]), 1)).flatten()  # sample s, step t is 4 s + t + 1
    assert rows.tolist() == [5, 1, 13, 6, 2, 7, 8]  # steps 1, 1, 1, 2, 2, 3, 4 of samples 1, 0, 3, 1, 0, 1, 1
    assert steps.rows.counts == [3, 2, 1, 1] and steps.rows.previous.tolist() == [0, 1, 3, 5]


@LENGTHS
@pytest.mark.parametrize("kind", [PaddedSteps, ValidSteps])
def test_steps_of_samples(lengths, kind):
    mask = mask_of(lengths)
    values, steps = values_of(mask), kind(mask)
    rows = steps.take(values)
    there_and_back, previous, last = steps.restore(rows), steps.restore(steps.with_previous(rows)), steps.last(rows)
    other = torch.rand(mask.shape) < 0.5
    cleared = steps.restore(steps.cleared(rows, other))
    assert last.shape == (len(lengths), 2)
    for sample, length in enumerate(lengths):
        assert last[sample].tolist() == (values[sample, length - 1].tolist() if length else [0, 0])
        for step in range(length):
            earlier = values[sample, step - 1].tolist() if step else [0, 0]
            assert there_and_back[sample, step].tolist() == values[sample, step].tolist()
            assert previous[sample, step].tolist() == earlier + values[sample, step].tolist()
            assert cleared[sample, step].tolist() == (values[sample, step] * other[sample, step]).tolist()


@LENGTHS
def test_gradients_come_back_to_where_they_belong(lengths):
    mask = mask_of(lengths)
    values, steps = values_of(mask).requires_grad_(), ValidSteps(mask)
    rows = steps.take(values)
    (steps.last(rows).sum() * 10 + steps.restore(rows).sum()).backward()
    for sample, length in enumerate(lengths):
        for step in range(mask.shape[1]):
            expected = (step < length) + 10 * (step == length - 1)
            assert values.grad[sample, step].tolist() == [expected, expected]


def test_sequences_of_equal_length():
    rows = StepRows.of_equal_length(2, 3, torch.device("cpu"))
    steps = ValidSteps(torch.ones(2, 3, dtype=torch.bool))
    assert rows.counts == steps.rows.counts == [2, 2, 2] and rows.previous.equal(steps.rows.previous)
    values = values_of(steps.mask)
    assert steps.restore(rows.before(steps.take(values))).equal(before(values))


def test_where_lengths_would_have_to_be_waited_for():
    assert type(steps_of(mask_of([2, 1]))) is ValidSteps
    assert type(steps_of(mask_of([2, 1]).to("meta"))) is PaddedSteps
