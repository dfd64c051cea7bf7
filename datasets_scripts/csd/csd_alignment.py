"""Which frames of a sequence lie within a segment or a word, by their intervals.

The rule is that of CMU-MultimodalSDK (https://github.com/CMU-MultiComp-Lab/CMU-MultimodalSDK, `mmdataset.align`): a
frame belongs to a segment where their intervals overlap by more than `EPSILON` seconds. A frame on the border of two
segments belongs to both, intervals that only touch do not overlap, and an interval that is not longer than `EPSILON`
overlaps with nothing. Frames come in the order of their start; of the same start, in that of the file.
"""

from __future__ import annotations

import numpy as np

EPSILON = 1e-5
# How often a frame may be given out, on average: segments overlap a little, words hardly, damaged ones without end.
_MAX_REPEATS = 50
# Frames that are looked at and not given out, for one that is.
_LOOKS = 40


def checked_intervals(intervals: np.ndarray, where: str) -> np.ndarray:
    """Intervals, (n, 2) numbers, as float64 seconds.

    Raises:
        ValueError: one is not finite, or ends before it starts. `where` names the file and the video.
    """
    intervals = intervals.astype(np.float64)
    wrong = ~np.isfinite(intervals).all(axis=1) | (intervals[:, 1] < intervals[:, 0])
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(
            f"{where}/intervals must hold finite seconds, each end not before its start, but row {row} is "
            f"{intervals[row].tolist()}; correct it, or leave the video out."
        )
    return intervals


class Timeline:
    """The frames of a video, by their intervals.

    Args:
        intervals: (n, 2), as `checked_intervals` gives them, in any order.
        where: the file and the video, for messages.

    Attributes:
        is_sorted: whether the file has them in the order of their start.
    """

    def __init__(self, intervals: np.ndarray, where: str) -> None:
        self._where = where
        self._intervals = intervals
        self._order = np.argsort(intervals[:, 0], kind="stable")
        self.is_sorted = bool((self._order[1:] > self._order[:-1]).all())
        self._starts, self._ends = intervals[self._order].T
        self._latest_ends = np.maximum.accumulate(self._ends)
        self._work = 0.0

    def __len__(self) -> int:
        return len(self._order)

    def all(self) -> np.ndarray:
        """Positions of all frames in the file, in order of time."""
        return self._order

    def interval(self, frame: int) -> tuple[float, float]:
        """Start and end of the frame at a position in the file."""
        start, end = self._intervals[frame]
        return float(start), float(end)

    def within(self, start: float, end: float) -> np.ndarray:
        """Positions, in the file, of the frames that overlap with an interval, in order of time.

        Raises:
            ValueError: frames were asked for again and again, far more often than segments of a video overlap.
        """
        first = np.searchsorted(self._latest_ends, start, "right")
        last = np.searchsorted(self._starts, end, "left")
        overlap = np.minimum(self._ends[first:last], end) - np.maximum(self._starts[first:last], start)
        found = self._order[first:last][overlap > EPSILON]
        self._work += len(found) + len(overlap) / _LOOKS
        if self._work > _MAX_REPEATS * (len(self) + 1000):
            raise ValueError(
                f"{self._where}: intervals of labels or words overlap so much that each of its {len(self)} frames "
                f"would be read more than {_MAX_REPEATS} times; check these intervals."
            )
        return found


def means_of_finite(frames: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, int]:
    """Means over groups of frames, and how many values were left out.

    Args:
        frames: (frames, width), the groups one after the other.
        lengths: (groups,), frames per group, at least one.

    Returns:
        (groups, width) float64: the mean of a feature is that of its finite values; NaN where it has none.
    """
    frames = frames.astype(np.float64)
    finite = np.isfinite(frames)
    starts = np.cumsum(lengths) - lengths
    counts = np.add.reduceat(finite, starts, axis=0, dtype=np.int64)
    frames[~finite] = 0
    with np.errstate(invalid="ignore", over="ignore"):
        return np.add.reduceat(frames, starts, axis=0) / counts, int(finite.size - counts.sum())
