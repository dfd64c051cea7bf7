"""Where the padding of a padded array ends: from lengths, from a mask, or from the frames themselves.

A frame is one step of one sample, a vector of features. It is occupied when one of its values is not 0 (NaN is not 0).
Everything here works on the table of occupied frames, (rows, steps) booleans, of one modality or, where modalities are
aligned step by step, of several together.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

PADDINGS = ("auto", "right", "left")


@dataclass(frozen=True)
class Spans:
    """The steps of each row that are not padding: from `starts` up to, not including, `stops`.

    Attributes:
        starts: (rows,) int64.
        stops: (rows,) int64; equal to `starts` where the row has no step.
        origin: how they were found, for people.
        repaired: in how many rows the source's own length contradicted its frames and was not followed.
    """

    starts: np.ndarray
    stops: np.ndarray
    origin: str
    repaired: int = 0

    @property
    def lengths(self) -> np.ndarray:
        return self.stops - self.starts

    def count_inside(self, occupied: np.ndarray) -> np.ndarray:
        """How many occupied frames of (rows, steps) lie inside, (rows,) int64."""
        steps = np.arange(occupied.shape[1])
        inside = (steps >= self.starts[:, None]) & (steps < self.stops[:, None]) & occupied
        return np.count_nonzero(inside, axis=1)


def occupied_frames(array: np.ndarray) -> np.ndarray:
    """Which frames of (rows, steps, features) hold a value that is not 0: (rows, steps) booleans."""
    return np.asarray(array.any(axis=2))


def spans_from_lengths(lengths: np.ndarray, occupied: np.ndarray, padding: str, origin: str) -> Spans:
    """Spans of the lengths that the source declares, (rows,) int64 between 0 and the number of steps.

    `padding` "right" takes the first `length` steps and "left" the last, without a second look. "auto" takes the first
    `length` steps unless occupied frames lie behind them. Such a length contradicts its row, and the known reason is
    that the lengths of front-padded data were computed as the index of the first zero frame, at least 1. Then:

    - if all steps but the last `length` are zero, the row is padded in front and the length is right: the last
      `length` steps;
    - if the length is 1 and the first frame is zero, the length is that script's minimum: from the first occupied
      frame to the last;
    - if at least half of the rows of the split were repaired in these two ways, the other contradicted lengths of the
      split are zero frames inside a sequence: again from the first occupied frame to the last;
    - otherwise the source is followed, and the report counts the occupied frames that it leaves out.

    A length of 0 always means that the sample lacks the modality.
    """
    steps = occupied.shape[1]
    starts, stops = np.zeros_like(lengths), lengths.copy()
    if padding == "left":
        return Spans(steps - lengths, np.full_like(lengths, steps), f"{origin}, counted from the end")
    if padding == "right":
        return Spans(starts, stops, origin)

    first, last = _occupied_range(occupied)
    contradicted = (lengths > 0) & (last > lengths)
    at_the_end = contradicted & (first >= steps - lengths)
    minimum = contradicted & ~at_the_end & (lengths == 1) & (first > 0)
    whole = minimum
    if 2 * np.count_nonzero(at_the_end | minimum) >= len(lengths):
        whole = contradicted & ~at_the_end
    starts, stops = np.where(whole, first, starts), np.where(whole, last, stops)
    starts, stops = np.where(at_the_end, steps - lengths, starts), np.where(at_the_end, steps, stops)
    return Spans(starts, stops, origin, int(np.count_nonzero(at_the_end | whole)))


def spans_from_mask(mask: np.ndarray, origin: str) -> Spans:
    """Spans of a (rows, steps) mask of booleans whose true steps are one block per row."""
    starts, stops = _occupied_range(mask)
    return Spans(np.where(stops > 0, starts, 0), stops, origin)


def spans_from_frames(occupied: np.ndarray, side: str, remark: str = "") -> Spans:
    """Spans of what is left when the zero frames of one side, "right" or "left", are taken as padding.

    Zero frames of the other side are data. A row of zeros only is padding only: it has no step. `remark` is added to
    the origin.
    """
    steps = occupied.shape[1]
    first, last = _occupied_range(occupied)
    if side == "left":
        return Spans(first, np.full_like(first, steps), f"leading zero frames{remark}")
    return Spans(np.zeros_like(last), last, f"trailing zero frames{remark}")


def padded_side(tables: Iterable[np.ndarray]) -> str:
    """The side with more rows that begin ("left") or end ("right") with a zero frame; "right" where they are equal.

    `tables` are the occupied frames of all splits: a file is padded one way throughout.
    """
    leading = trailing = 0
    for occupied in tables:
        first, last = _occupied_range(occupied)
        leading += int(np.count_nonzero((last > 0) & (first > 0)))
        trailing += int(np.count_nonzero((last > 0) & (last < occupied.shape[1])))
    return "left" if leading > trailing else "right"


def _occupied_range(occupied: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First occupied step and last occupied step plus one, (rows,) int64; (steps, 0) for a row without one."""
    steps = occupied.shape[1]
    if not steps:  # argmax has no answer; a row without a step has no occupied one
        return np.zeros(len(occupied), np.int64), np.zeros(len(occupied), np.int64)
    some = occupied.any(axis=1)
    first = np.where(some, occupied.argmax(axis=1), steps)
    last = np.where(some, steps - occupied[:, ::-1].argmax(axis=1), 0)
    return first, last
