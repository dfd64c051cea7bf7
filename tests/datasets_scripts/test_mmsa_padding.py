"""Spans of padded arrays, each rule against a plain loop over rows and frames."""

import numpy as np
import pytest

from datasets_scripts.arrays.padding import (
    occupied_frames,
    padded_side,
    spans_from_frames,
    spans_from_lengths,
    spans_from_mask,
)

STEPS = 8


def padded(lengths, side, seed=0):
    """(rows, STEPS, 3) float32 with no zero frame among the data."""
    rng = np.random.default_rng(seed)
    array = np.zeros((len(lengths), STEPS, 3), np.float32)
    for row, length in enumerate(lengths):
        data = rng.uniform(0.1, 1, (length, 3)) * rng.choice([-1, 1], (length, 3))
        if length:
            array[row, slice(0, length) if side == "right" else slice(STEPS - length, STEPS)] = data
    return array


def first_zero_frame(array):
    """The lengths that the known script computes: the index of the first frame whose sum is 0, at least 1."""
    lengths = []
    for row in array:
        length = next((step for step, frame in enumerate(row) if frame.sum() == 0), len(row))
        lengths.append(max(1, length))
    return np.array(lengths)


def as_pairs(spans):
    return list(zip(spans.starts.tolist(), spans.stops.tolist(), strict=True))


def test_occupied_frames():
    rng = np.random.default_rng(1)
    array = rng.standard_normal((5, STEPS, 4)) * (rng.random((5, STEPS, 1)) < 0.5)
    array[2, 3] = [0, np.nan, 0, 0]
    array[2, 4] = [0, 0, 0, -np.inf]
    expected = [[any(value != 0 for value in frame) for frame in row] for row in array]
    np.testing.assert_array_equal(occupied_frames(array), expected)
    assert occupied_frames(np.zeros((2, 0, 4))).shape == (2, 0)


def test_lengths_of_back_padded_data_are_followed():
    lengths = np.array([1, 8, 3, 0, 5, 1])
    array = padded(lengths, "right")
    array[4, 1:3] = 0  # zeros inside a sequence are data
    spans = spans_from_lengths(lengths, occupied_frames(array), "auto", "`audio_lengths`")
    assert as_pairs(spans) == [(0, length) for length in lengths]
    assert spans.repaired == 0 and spans.origin == "`audio_lengths`"
    assert spans.lengths.tolist() == lengths.tolist()


def test_lengths_computed_as_first_zero_frame_of_front_padded_data_are_repaired():
    true_lengths = [3, 5, 8, 1, 7, 8, 2]
    array = padded(true_lengths, "left")
    array[5, 4] = 0  # a zero frame inside a full sequence: the script stops there
    array[6, -1] = 0  # a zero frame at its end, which cannot be told from padding
    lengths = first_zero_frame(array)
    assert lengths.tolist() == [1, 1, 8, 1, 1, 4, 1]
    spans = spans_from_lengths(lengths, occupied_frames(array), "auto", "")
    assert as_pairs(spans) == [(5, 8), (3, 8), (0, 8), (7, 8), (1, 8), (0, 8), (6, 7)]
    assert spans.repaired == 6


def test_right_lengths_of_front_padded_data_count_from_the_end():
    lengths = np.array([3, 5, 8, 1, 0])
    array = padded(lengths, "left")
    for padding in ("auto", "left"):
        spans = spans_from_lengths(lengths, occupied_frames(array), padding, "")
        for row, length in enumerate(lengths):
            kept = array[row, spans.starts[row] : spans.stops[row]]
            np.testing.assert_array_equal(kept, array[row, STEPS - length :])
        assert spans.repaired == (3 if padding == "auto" else 0)
    spans = spans_from_lengths(lengths, occupied_frames(array), "right", "")
    assert as_pairs(spans) == [(0, length) for length in lengths]


def test_one_contradicted_length_is_repaired_and_others_followed():
    array = padded([6, 6, 6, 6], "right")
    array[0, 0] = 0  # a video that begins without a face: the script says 1
    array[1, 3] = 0  # a face lost in between: the script says 3
    lengths = first_zero_frame(array)
    assert lengths.tolist() == [1, 3, 6, 6]
    occupied = occupied_frames(array)
    spans = spans_from_lengths(lengths, occupied, "auto", "")
    assert as_pairs(spans) == [(1, 6), (0, 3), (0, 6), (0, 6)]
    assert spans.repaired == 1
    assert spans.count_inside(occupied).tolist() == [5, 3, 6, 6]


def test_a_row_of_zeros_keeps_its_length():
    array = padded([2, 0, 5], "left")
    spans = spans_from_lengths(first_zero_frame(array), occupied_frames(array), "auto", "")
    assert as_pairs(spans) == [(6, 8), (0, 1), (3, 8)]


def test_count_inside_against_a_loop():
    rng = np.random.default_rng(2)
    occupied = rng.random((20, STEPS)) < 0.5
    lengths = rng.integers(0, STEPS + 1, 20)
    spans = spans_from_lengths(lengths, occupied, "right", "")
    assert spans.count_inside(occupied).tolist() == [sum(row[:n]) for row, n in zip(occupied, lengths, strict=True)]


def test_mask():
    mask = np.array([[1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 0, 0], [1, 1, 1, 1]], bool)
    assert as_pairs(spans_from_mask(mask, "")) == [(0, 2), (2, 4), (0, 0), (0, 4)]


@pytest.mark.parametrize("side", ["right", "left"])
def test_zero_frames_of_the_padded_side_are_padding(side):
    lengths = [3, 8, 0, 5, 1, 6, 2]
    array = padded(lengths, side)
    array[3, 5 if side == "left" else 2] = 0  # inside
    array[1, 7 if side == "left" else 0] = 0  # at the end that is not padded
    occupied = occupied_frames(array)
    assert padded_side([occupied[:3], occupied[3:]]) == side
    spans = spans_from_frames(occupied, side, " here")
    for row in range(len(lengths)):
        frames = list(array[row])
        end = 0 if side == "left" else -1
        while frames and not frames[end].any():
            frames.pop(end)
        np.testing.assert_array_equal(array[row, spans.starts[row] : spans.stops[row]], np.reshape(frames, (-1, 3)))
    assert spans.lengths.tolist() == lengths
    assert spans.origin == ("leading" if side == "left" else "trailing") + " zero frames here"


def test_side_is_right_where_nothing_tells():
    assert padded_side([np.ones((3, 4), bool), np.zeros((2, 4), bool), np.zeros((2, 0), bool)]) == "right"
