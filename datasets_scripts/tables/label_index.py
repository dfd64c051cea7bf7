"""Where the rows of a table of labels are, each sample once."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import KeysView
from dataclasses import dataclass, field
from typing import NamedTuple

from datasets_scripts.schema import SPLITS
from datasets_scripts.tables.csv_rows import TableRow, shown
from datasets_scripts.tables.label_columns import LabelRow

ROWS_PER_SHARD = 1000

_NAMES_SHOWN = 3


class Shard(NamedTuple):
    """A run of rows of the file, of any split: where it begins, how many rows, and the lines of those not to read."""

    offset: int
    line: int
    rows: int
    left_out: frozenset[int]


@dataclass
class _Run:
    """A shard while the table is read; `per_split` counts the rows that are kept."""

    offset: int
    line: int
    rows: int = 0
    per_split: Counter[str] = field(default_factory=Counter)
    left_out: set[int] = field(default_factory=set)


class _Seen(NamedTuple):
    """What is kept of a row, to compare it with one of the same id: its numbers and text only under a dataset."""

    line: int
    dataset: str | None
    split: str
    numbers: tuple[float, ...] = ()
    text_hash: int = 0
    earlier: tuple[str | None, ...] = ()


class LabelIndex:
    """Takes the rows of a table one by one; afterwards says what is where.

    Attributes:
        rows: rows per split.
        repeated: rows that were left out, because the sample came again under another dataset.
        other_texts: how many of these had another text than the next row of the sample.
        without_fold: rows that have no split.
        videos_without_fold: the first few of their videos.
    """

    def __init__(self) -> None:
        self.rows: Counter[str] = Counter()
        self.repeated = 0
        self.other_texts = 0
        self.without_fold = 0
        self.videos_without_fold: list[str] = []
        self._seen: dict[str, _Seen] = {}
        self._runs: list[_Run] = []

    @property
    def ids(self) -> KeysView[str]:
        """Of the rows that are kept."""
        return self._seen.keys()

    def take(self, place: TableRow, row: LabelRow | None) -> None:
        """Take the next row of the file; `row` is None where it is of a dataset that is not read.

        Raises:
            ValueError: the id came before, in the same dataset, or with another split or other numbers.
        """
        if not self._runs or self._runs[-1].rows == ROWS_PER_SHARD:
            self._runs.append(_Run(place.offset, place.line))
        self._runs[-1].rows += 1
        if row is None:
            return
        if row.split is None:
            self._take_without_fold(row)
            return
        new = _Seen(row.line, row.dataset, row.split)
        if row.dataset is not None:
            new = new._replace(numbers=tuple(row.numbers.values()), text_hash=hash(row.text))
        old = self._seen.get(row.id)
        if old is not None:
            new = self._repeat(row.id, old, new)
        self._seen[row.id] = new
        self.rows[row.split] += 1
        self._runs[-1].per_split[row.split] += 1

    def shards(self) -> dict[str, list[Shard]]:
        """Per split that has rows, the runs that hold some of them."""
        return {
            split: [
                Shard(run.offset, run.line, run.rows, frozenset(run.left_out))
                for run in self._runs
                if run.per_split[split]
            ]
            for split in SPLITS
            if self.rows[split]
        }

    def row_bytes(self, file_bytes: int) -> int:
        """Bytes of a row in the run where they are longest."""
        ends = [*(run.offset for run in self._runs[1:]), file_bytes]
        return max((end - run.offset) // run.rows for run, end in zip(self._runs, ends, strict=True))

    def warnings(self) -> list[str]:
        """What was left out, in words."""
        found = []
        if self.repeated:
            found.append(
                f"{self.repeated} rows were left out, because their ids come again under another dataset with the same "
                f"split and labels; {self.other_texts} of them have another text than the later row, which was kept"
            )
        if self.without_fold:
            found.append(
                f"{self.without_fold} rows are of videos that the standard folds do not have and were left out "
                f"({', '.join(self.videos_without_fold)}, ...); add a column `split` to keep them"
            )
        return found

    def _take_without_fold(self, row: LabelRow) -> None:
        self.without_fold += 1
        video = shown(row.id.partition("$_$")[0])
        if len(self.videos_without_fold) < _NAMES_SHOWN and video not in self.videos_without_fold:
            self.videos_without_fold.append(video)

    def _repeat(self, name: str, old: _Seen, new: _Seen) -> _Seen:
        """Leave out the earlier row of an id; what to keep of the later one."""
        datasets = (*old.earlier, old.dataset)
        if new.dataset in datasets:
            raise ValueError(
                f"`id` must be unique, but {shown(name)} comes again in line {new.line}, after line {old.line}; rename "
                "or drop one of the two: a sample that is trained and tested on makes the test meaningless."
            )
        if (old.split, old.numbers) != (new.split, new.numbers):
            raise ValueError(
                f"an id that is in several datasets must have the same split and labels in each, but {shown(name)} has "
                f"{_in_words(old)}, and {_in_words(new)}; read one of them with the option `dataset`, such as "
                f"dataset={new.dataset!r}."
            )
        self.repeated += 1
        self.other_texts += old.text_hash != new.text_hash
        self.rows[old.split] -= 1
        run = self._runs[bisect_right(self._runs, old.line, key=lambda run: run.line) - 1]
        run.per_split[old.split] -= 1
        run.left_out.add(old.line)
        return new._replace(earlier=datasets)


def _in_words(seen: _Seen) -> str:
    numbers = ", ".join(f"{number:g}" for number in seen.numbers) or "no label"
    return f"{seen.split}, {numbers} in {shown(str(seen.dataset))} (line {seen.line})"
