"""What is counted and repaired row by row while a source is converted, by every reader the same way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from datasets_scripts.schema import EMOTIONS, SEQUENCES

# Videos are counted to tell which corpus this is, which the first thousands do.
_MAX_VIDEOS = 5000
# Known feature sets have hundreds of features; a file may claim millions.
_MAX_FEATURES = 10_000
# Two decimals are finer than any rating; a corpus of arbitrary numbers still has few of them.
_LABEL_DECIMALS = 2


class Tally:
    """Repairs rows of one split, or of a part of it, and counts what was found in them.

    Attributes:
        split: name of the split.
        rows: how many rows were taken.
        counts: per column, the counts that `report.COUNT_DESCRIPTIONS` names.
        replaced: per column and feature (position within a step, the first thousands of them), how many values were not
            finite.
        lengths: per sequence column, how many rows have how many steps.
        labels: how many rows have which label, rounded to two decimals.
        empty_text: rows without a transcript.
        without_modality: rows with no transcript and no step of any sequence.
        emotions: how many rows have at least one emotion, under "any", and each; empty where there are none.
        videos: the first thousands of video ids.
    """

    def __init__(self, split: str) -> None:
        self.split = split
        self.rows = 0
        self.counts: dict[str, dict[str, int]] = {}
        self.replaced: dict[str, dict[str, int]] = {}
        self.lengths: dict[str, Counter[int]] = {}
        self.labels: dict[str, int] = {}
        self.empty_text = 0
        self.without_modality = 0
        self.emotions: dict[str, int] = {}
        self.videos: set[str] = set()

    def count(self, column: str, name: str, amount: int | np.integer) -> None:
        """Add to a count of a column."""
        if amount:
            counts = self.counts.setdefault(column, {})
            counts[name] = counts.get(name, 0) + int(amount)

    def take(self, row: dict[str, Any]) -> dict[str, Any]:
        """The row with float32 sequences in which what is not finite is 0, counted."""
        self.rows += 1
        if len(self.videos) < _MAX_VIDEOS:
            self.videos.add(str(row["id"]).partition("$_$")[0])
        present = bool(row["text"].strip())
        self.empty_text += not present
        for column in SEQUENCES:
            if column not in row:
                continue
            values = row[column]
            if column.endswith("_values"):
                values = row[column] = self._finite(np.asarray(values), column)
            self.lengths.setdefault(column, Counter())[len(values)] += 1
            self.count(column, "empty_sequences", len(values) == 0)
            present = present or len(values) > 0
        self.without_modality += not present
        if row.get("label") is not None:
            label = f"{round(float(row['label']), _LABEL_DECIMALS) + 0.0:.{_LABEL_DECIMALS}f}"  # no negative zero
            self.labels[label] = self.labels.get(label, 0) + 1
        if "emotions" in row:
            shown = [name for name, value in zip(EMOTIONS, row["emotions"], strict=True) if value > 0]
            for name in ("any", *EMOTIONS):
                self.emotions[name] = self.emotions.get(name, 0) + (bool(shown) if name == "any" else name in shown)
        return row

    def _finite(self, values: np.ndarray, column: str) -> np.ndarray:
        """Values as float32, with NaN and infinities, also those of numbers too large for float32, counted and 0."""
        with np.errstate(over="ignore", invalid="ignore"):  # a signalling NaN is one more NaN
            if len(values) and not values.any():
                self.count(column, "zero_sequences", 1)
            values = np.array(values, np.float32)  # a copy: the source's own array may be read again
        finite = np.isfinite(values)
        if not finite.all():
            self.count(column, "nan", np.count_nonzero(np.isnan(values)))
            self.count(column, "positive_infinity", np.count_nonzero(np.isposinf(values)))
            self.count(column, "negative_infinity", np.count_nonzero(np.isneginf(values)))
            replaced = self.replaced.setdefault(column, {})
            wrong = np.count_nonzero(~finite[:, :_MAX_FEATURES], axis=0)
            for position in np.flatnonzero(wrong):
                replaced[str(position)] = replaced.get(str(position), 0) + int(wrong[position])
            values[~finite] = 0
        return values

    def length_quartiles(self) -> dict[str, list[int]]:
        """Per sequence column: minimum, lower quartile, median, upper quartile, maximum of the steps of a row."""
        return {column: _quartiles(lengths) for column, lengths in self.lengths.items()}

    def add(self, other: Tally) -> None:
        """Take in the counts of another part of the same split."""
        self.rows += other.rows
        self.empty_text += other.empty_text
        self.without_modality += other.without_modality
        self.videos |= other.videos
        for column, lengths in other.lengths.items():
            self.lengths.setdefault(column, Counter()).update(lengths)
        for mine, theirs in ((self.labels, other.labels), (self.emotions, other.emotions)):
            _add(mine, theirs)
        for tables, others in ((self.counts, other.counts), (self.replaced, other.replaced)):
            for column, table in others.items():
                _add(tables.setdefault(column, {}), table)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain dicts and lists, for another process."""
        lengths = {column: {str(steps): n for steps, n in table.items()} for column, table in self.lengths.items()}
        return {**vars(self), "videos": sorted(self.videos), "lengths": lengths}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Tally:
        """The tally that `to_dict` gave."""
        tally = cls(values["split"])
        vars(tally).update(values)
        tally.videos = set(values["videos"])
        tally.lengths = {
            column: Counter({int(steps): n for steps, n in table.items()})
            for column, table in values["lengths"].items()
        }
        return tally


def _add(mine: dict[str, int], theirs: Mapping[str, int]) -> None:
    for name, amount in theirs.items():
        mine[name] = mine.get(name, 0) + amount


def _quartiles(lengths: Counter[int]) -> list[int]:
    """Of the lengths that the counter has, repeated as often as it says, without interpolation."""
    values = np.array(sorted(lengths))
    upto = np.cumsum([lengths[int(value)] for value in values])
    ranks = (0, 0.25, 0.5, 0.75, 1)
    return [int(values[np.searchsorted(upto, max(rank * upto[-1], 1))]) for rank in ranks]
