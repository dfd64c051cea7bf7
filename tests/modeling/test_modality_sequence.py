"""Masked sequences against plain loops over rows and steps, with padding anywhere and anything in it."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from modeling.modality_sequence import (
    ModalitySequence,
    at_least_one_step,
    first_valid_state,
    last_valid_state,
    leading_mask,
    left_align,
    mean_state,
    resample,
    restore,
    untouched,
)

# Padding on the right, on the left, on both sides, in the middle, none, and nothing else.
MASKS = ["110000", "000011", "011100", "101001", "111111", "000000"]


def scattered(width=3, garbage=float("nan")):
    """One row per mask of `MASKS`; padding holds garbage."""
    mask = torch.tensor([[step == "1" for step in row] for row in MASKS])
    values = torch.randn(*mask.shape, width, generator=torch.Generator().manual_seed(0))
    return ModalitySequence(values.masked_fill(~mask.unsqueeze(-1), garbage), mask)


def left_aligned(lengths, steps, width=3, garbage=float("nan"), dtype=torch.float32):
    mask = torch.arange(steps) < torch.tensor(lengths)[:, None]
    values = torch.randn(*mask.shape, width, generator=torch.Generator().manual_seed(0), dtype=dtype)
    return ModalitySequence(values.masked_fill(~mask.unsqueeze(-1), garbage), mask)


def valid_steps(sequence, row):
    """[step][feature] of a row's valid steps, in plain Python."""
    steps, mask = sequence.values[row].tolist(), sequence.mask[row].tolist()
    return [step for step, valid in zip(steps, mask, strict=True) if valid]


def window(n, have, want):
    """Steps of L = have that step n of N = want is the mean of."""
    return range(math.floor(n * have / want), math.ceil((n + 1) * have / want))


def resampled(steps, want):
    """(N, d), in double precision."""
    return [np.mean([np.float64(steps[i]) for i in window(n, len(steps), want)], axis=0) for n in range(want)]


def test_lengths_and_presence():
    sequence = scattered()
    assert sequence.lengths.tolist() == [row.count("1") for row in MASKS]
    assert sequence.present.tolist() == ["1" in row for row in MASKS]


def test_cleared_has_zeros_where_padding_held_garbage():
    sequence = scattered()
    sequence.values.requires_grad_()
    cleared = sequence.cleared()
    assert torch.equal(cleared.mask, sequence.mask)
    for row, mask in enumerate(MASKS):
        for step, valid in enumerate(mask):
            expected = sequence.values[row, step] if valid == "1" else torch.zeros(3)
            assert torch.equal(cleared.values[row, step], expected)
    cleared.values.square().sum().backward()
    assert torch.isfinite(sequence.values.grad).all() and not sequence.values.grad[~sequence.mask].any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_sequence_has_at_least_one_step(dtype):
    values, mask = torch.zeros(2, 0, 3, dtype=dtype), torch.zeros(2, 0, dtype=torch.bool)
    filled = at_least_one_step(values, mask)
    assert filled.values.shape == (2, 1, 3) and not filled.values.any() and filled.values.dtype == dtype
    assert filled.mask.tolist() == [[False], [False]]
    for mask in (torch.ones(2, 1, dtype=torch.bool), torch.zeros(2, 1, dtype=torch.bool)):
        values = torch.ones(2, 1, 3, dtype=dtype)
        kept = at_least_one_step(values, mask)
        assert kept.values is values and kept.mask is mask


def test_untouched_modules_get_gradients_of_zero():
    module = nn.Sequential(nn.Linear(3, 2), nn.LSTM(2, 2))
    (untouched(module) + torch.ones(4)).sum().backward()
    for parameter in module.parameters():
        assert parameter.grad.shape == parameter.shape and not parameter.grad.any()
    with torch.no_grad():
        assert untouched(module) == 0.0


def test_left_align_moves_the_valid_steps_to_the_front_and_restore_back():
    sequence = scattered()
    aligned, order = left_align(sequence)
    for row in range(len(MASKS)):
        steps = valid_steps(sequence, row)
        assert aligned.mask[row].tolist() == [step < len(steps) for step in range(6)]
        assert aligned.values[row, : len(steps)].tolist() == steps
    torch.testing.assert_close(restore(aligned.values, order), sequence.values, atol=0, rtol=0, equal_nan=True)
    numbered = restore(torch.arange(1.0, 7.0).expand(len(MASKS), 6).unsqueeze(-1), order).squeeze(-1)
    for row, mask in enumerate(sequence.mask):  # what a model made of step n goes to the n-th valid one
        assert numbered[row][mask].tolist() == list(range(1, int(mask.sum()) + 1))


def test_left_align_keeps_the_order_of_many_steps():
    """More than the few for which every sort is stable."""
    mask = torch.rand(2, 3000, generator=torch.Generator().manual_seed(0)) < 0.5
    numbers = torch.arange(3000.0).expand(2, 3000)
    aligned, _ = left_align(ModalitySequence(numbers.unsqueeze(-1), mask))
    for row in range(2):
        valid = [step for step in range(3000) if mask[row, step]]
        assert aligned.values[row, : len(valid), 0].tolist() == valid


@pytest.mark.parametrize(
    "state, of_steps",
    [
        (first_valid_state, lambda steps: steps[0]),
        (last_valid_state, lambda steps: steps[-1]),
        (mean_state, lambda steps: [sum(feature) / len(steps) for feature in zip(*steps, strict=True)]),
    ],
    ids=["first", "last", "mean"],
)
def test_states_are_those_of_valid_steps(state, of_steps):
    """A row without any has zeros, whatever its padding holds."""
    sequence = scattered()
    found = state(sequence)
    for row in range(len(MASKS)):
        steps = valid_steps(sequence, row)
        expected = of_steps(steps) if steps else [0.0, 0.0, 0.0]
        assert found[row].tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("state", [first_valid_state, last_valid_state, mean_state])
def test_states_pass_no_gradient_to_padding(state):
    sequence = scattered()
    sequence.values.requires_grad_()
    state(sequence).square().sum().backward()
    assert torch.isfinite(sequence.values.grad).all() and not sequence.values.grad[~sequence.mask].any()
    assert sequence.values.grad[sequence.present].flatten(1).any(dim=1).all()


def test_leading_mask_is_of_the_first_sequence_that_a_row_has():
    """As wide as the longest of these, however wide the sequences are."""
    lengths = [(3, 0, 0, 2, 0), (5, 4, 0, 0, 7), (1, 6, 2, 6, 0)]
    sequences = [left_aligned(counts, steps) for counts, steps in zip(lengths, (4, 7, 9), strict=True)]
    for chosen in ((0, 1, 2), (2, 1, 0), (1,)):
        found = leading_mask([sequences[n] for n in chosen])
        steps = max(next((lengths[n][row] for n in chosen if lengths[n][row]), 0) for row in range(len(lengths[0])))
        assert found.shape[1] == max(steps, 1)
        for row in range(5):
            leading = next((lengths[n][row] for n in chosen if lengths[n][row]), 0)
            assert found[row].tolist() == [step < leading for step in range(steps)], (chosen, row)


# (L, N) of each row: longer, shorter, equal, to and from one step, to and from none.
LENGTHS = [(7, 3), (3, 7), (5, 5), (1, 4), (6, 1), (4, 6), (6, 4), (0, 5), (3, 0), (0, 0), (7, 6), (2, 7)]


@pytest.mark.parametrize("garbage", [0.0, 1e30, float("nan")])
@pytest.mark.parametrize("wider", [(0, 0), (2, 0), (0, 3)], ids=["tight", "padded source", "padded target"])
def test_resample_equals_the_loop(garbage, wider):
    have, want = zip(*LENGTHS, strict=True)
    sequence = left_aligned(have, max(have) + wider[0], garbage=garbage)
    mask = torch.arange(max(want) + wider[1]) < torch.tensor(want)[:, None]
    result = resample(sequence, mask)
    assert result.values.shape == (*mask.shape, 3) and result.values.dtype == torch.float32
    for row, (steps, wanted) in enumerate(LENGTHS):
        expected = np.zeros((mask.shape[1], 3))
        if steps and wanted:
            expected[:wanted] = resampled(valid_steps(sequence, row), wanted)
        np.testing.assert_allclose(result.values[row].numpy(), expected, atol=1e-6, err_msg=f"{steps} to {wanted}")
        assert result.mask[row].tolist() == [bool(steps) and step < wanted for step in range(mask.shape[1])]


def test_resample_with_as_many_steps_changes_nothing():
    """Of every row as many as it has, among other lengths and with other padding: not a bit differs."""
    lengths = [9, 4, 1, 0, 7]
    sequence = left_aligned(lengths, 9)
    mask = torch.arange(12) < torch.tensor(lengths)[:, None]
    result = resample(sequence, mask)
    assert torch.equal(result.values[:, :9][sequence.mask], sequence.values[sequence.mask])
    assert torch.equal(result.mask, mask) and not result.values[~mask].any()
    long = left_aligned([5000], 5000)
    assert torch.equal(resample(long, long.mask).values, long.values)
    small_beside_large = torch.tensor([[[1.0], [1e-12], [1e-3]]])
    for values in (small_beside_large, torch.rand(1, 50, 3, dtype=torch.float64)):
        mask = torch.ones(values.shape[:2], dtype=torch.bool)
        assert torch.equal(resample(ModalitySequence(values, mask), mask).values, values)


@pytest.mark.parametrize("want", [1, 7, 4999, 5000, 9001])
def test_resample_of_long_sequences_is_exact(want):
    """Running sums of 5000 steps near 1000 would be off by tenths in single precision."""
    sequence = left_aligned([5000], 5000)
    sequence = ModalitySequence(sequence.values + 1000, sequence.mask)
    found = resample(sequence, torch.ones(1, want, dtype=torch.bool)).values[0].numpy()
    np.testing.assert_allclose(found, resampled(sequence.values[0].numpy(), want), rtol=2e-7)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_resample_keeps_the_dtype_and_is_as_precise(dtype):
    """In half precision the sum of the first row would be beyond every number."""
    sequence = left_aligned([600, 7], 600, dtype=dtype, garbage=0.0)
    sequence = ModalitySequence(sequence.values + 200, sequence.mask)
    result = resample(sequence, torch.ones(2, 3, dtype=torch.bool))
    assert result.values.dtype == dtype
    for row in range(2):
        expected = torch.tensor(np.array(resampled(valid_steps(sequence, row), 3))).to(dtype)
        torch.testing.assert_close(result.values[row], expected, rtol=max(1e-13, 2 * torch.finfo(dtype).eps), atol=0)


def test_gradient_of_resample_is_shared_by_the_steps_of_a_window():
    have, want = zip(*LENGTHS, strict=True)
    sequence = left_aligned(have, max(have), dtype=torch.float64)
    sequence.values.requires_grad_()
    mask = torch.arange(max(want)) < torch.tensor(want)[:, None]
    weights = np.random.default_rng(0).normal(size=(*mask.shape, 3))
    (resample(sequence, mask).values * torch.from_numpy(weights)).sum().backward()
    expected = np.zeros(sequence.values.shape)
    for row, (steps, wanted) in enumerate(LENGTHS):
        for n in range(wanted if steps else 0):
            for i in window(n, steps, wanted):
                expected[row, i] += weights[row, n] / len(window(n, steps, wanted))
    np.testing.assert_allclose(sequence.values.grad.numpy(), expected, atol=1e-12)
