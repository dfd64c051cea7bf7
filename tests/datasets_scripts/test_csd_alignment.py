"""Frames of segments and words, against plain loops."""

import math

import numpy as np
import pytest

from datasets_scripts.csd.csd_alignment import EPSILON, Timeline, checked_intervals, means_of_finite

KINDS = ("touching", "overlapping", "gaps", "same start", "unsorted", "nested", "almost touching")


def intervals_of(kind, rng, count):
    steps = rng.uniform(0.1, 1, count)
    ends = np.cumsum(steps) - 3  # some before 0, as those of CMU-MOSEI
    starts = ends - steps
    if kind == "overlapping":
        ends = ends + rng.uniform(0, 2, count)
    elif kind == "gaps":
        ends = ends - rng.uniform(0, 0.09, count)
    elif kind == "same start":
        starts = np.round(starts)
        ends = np.maximum(starts, ends)
    elif kind == "unsorted":
        order = rng.permutation(count)
        starts, ends = starts[order], ends[order]
    elif kind == "nested":
        ends[::3] += 5
    elif kind == "almost touching":
        ends = ends + rng.choice([-2, -0.5, 0.5, 2], count) * EPSILON
    return np.stack([starts, ends], axis=1)


def frames_by_loop(intervals, start, end):
    """The SDK's rule: the common part of the two intervals is longer than epsilon; in the order of the starts."""
    order = sorted(range(len(intervals)), key=lambda frame: intervals[frame][0])
    return [frame for frame in order if min(intervals[frame][1], end) - max(intervals[frame][0], start) > EPSILON]


@pytest.mark.parametrize("kind", KINDS)
def test_frames_of_segments(kind):
    rng = np.random.default_rng(KINDS.index(kind))
    found = 0
    for count in (1, 2, 60):
        intervals = intervals_of(kind, rng, count)
        timeline = Timeline(intervals, "file: video")
        starts = rng.uniform(-5, 40, 50)
        segments = [*zip(starts, starts + rng.exponential(3, 50), strict=True), (-100, 100), (5, 5)]
        segments += intervals.tolist()
        for start, end in segments:
            expected = frames_by_loop(intervals.tolist(), start, end)
            assert timeline.within(start, end).tolist() == expected
            found += len(expected)
        assert timeline.all().tolist() == sorted(range(count), key=lambda frame: intervals[frame, 0])
        assert timeline.is_sorted == (sorted(intervals[:, 0]) == intervals[:, 0].tolist())
        assert len(timeline) == count
    assert found > 200


def test_frames_of_the_same_start_stay_in_order():
    rng = np.random.default_rng(1)
    starts = rng.integers(0, 20, 3000).astype(float)
    timeline = Timeline(np.stack([starts, starts + 1], axis=1), "file: video")
    assert timeline.all().tolist() == sorted(range(3000), key=lambda frame: starts[frame])
    assert timeline.within(7.2, 7.4).tolist() == np.flatnonzero(starts == 7).tolist()


def test_border_and_epsilon():
    timeline = Timeline(np.array([[0.0, 1.0], [1.0, 2.0], [2.0, 2.0 + EPSILON / 2], [2.5, 3.0]]), "")
    assert timeline.within(0.5, 1.5).tolist() == [0, 1]
    assert timeline.within(0.5, 1.0).tolist() == [0]  # touches the second
    assert timeline.within(0.5, 1.0 + EPSILON / 2).tolist() == [0]
    assert timeline.within(0.5, 1.0 + 2 * EPSILON).tolist() == [0, 1]
    assert timeline.within(1.9, 2.4).tolist() == [1]  # the third is too short to overlap with anything
    assert timeline.within(2.1, 2.4).tolist() == []
    assert timeline.interval(3) == (2.5, 3.0)


@pytest.mark.parametrize("row", [[1.0, math.nan], [math.inf, math.inf], [-math.inf, 0.0], [2.0, 1.5]])
def test_intervals_are_checked(row):
    good = np.array([[0, 1], [1, 1], [-1, 5]])
    assert checked_intervals(good, "file: video").dtype == np.float64
    with pytest.raises(ValueError, match=r"^file: video/intervals must hold finite seconds.*row 1 is \["):
        checked_intervals(np.array([[0.0, 1.0], row, [math.nan, 0]]), "file: video")


def test_asking_again_and_again_is_refused():
    intervals = np.stack([np.arange(2000.0), np.arange(2000.0) + 1], axis=1)
    timeline = Timeline(intervals, "file: video")
    for _ in range(70):  # 3000 * 50 in all, 2000 each
        timeline.within(0, 2000)
    with pytest.raises(ValueError, match="^file: video: intervals of labels or words overlap so much"):
        for _ in range(10):
            timeline.within(0, 2000)


def test_looking_without_finding_is_bounded():
    """One long frame makes all frames candidates of every segment."""
    intervals = np.concatenate([[[0.0, 1e6]], np.tile([[1.0, 2.0]], (5000, 1))])
    timeline = Timeline(intervals, "file: video")
    with pytest.raises(ValueError, match="check these intervals"):
        for _ in range(20_000):
            timeline.within(10, 11)


def test_means_of_finite():
    frames = np.array([[1, np.nan, np.inf, 3e38], [2, 5, -np.inf, 3e38], [6, 6, np.nan, 3e38], [7, np.nan, 8, 9]], "f4")
    means, left_out = means_of_finite(frames, np.array([3, 1]))
    large = float(np.float32(3e38))
    np.testing.assert_allclose(means, [[3, 5.5, np.nan, large], [7, np.nan, 8, 9]])
    assert left_out == 5 and means.dtype == np.float64
    means, left_out = means_of_finite(np.array([[1], [2], [4]], np.int16), np.array([2, 1]))
    assert means.tolist() == [[1.5], [4.0]] and left_out == 0


def test_means_against_loops():
    rng = np.random.default_rng(4)
    lengths = rng.integers(1, 9, 200)
    frames = rng.standard_normal((lengths.sum(), 3))
    frames[rng.random(frames.shape) < 0.3] = np.inf
    means, left_out = means_of_finite(frames, lengths)
    at = 0
    for mean, length in zip(means, lengths, strict=True):
        for value, column in zip(mean, frames[at : at + length].T.tolist(), strict=True):
            finite = [number for number in column if math.isfinite(number)]
            if finite:
                assert math.isclose(value, math.fsum(finite) / len(finite), rel_tol=1e-12, abs_tol=1e-12)
            else:
                assert math.isnan(value)
        at += length
    assert left_out == np.isinf(frames).sum()
