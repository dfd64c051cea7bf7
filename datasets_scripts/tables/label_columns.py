"""What the columns of a table of labels mean, found by their names, and what a row says by them."""

from __future__ import annotations

import math
import re
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from datasets_scripts.schema import EMOTIONS, SPLIT_NAMES
from datasets_scripts.tables.csv_rows import TableRow, shown

# Names of a column, the first that is there is read; compared without case and surrounding spaces.
TEXT_NAMES = ("text", "raw_text", "transcript")
LABEL_NAMES = ("label", "sentiment", "regression_label", "regression_labels")
SPLIT_COLUMN_NAMES = ("mode", "split")
UNIMODAL_LABEL_NAMES = {"text_label": "label_t", "audio_label": "label_a", "vision_label": "label_v"}

_CLIP_AT_THE_END = re.compile(r".+_[0-9]+", re.DOTALL)
_LARGEST_FLOAT32 = float(np.finfo(np.float32).max)
_MAX_NAMES_SHOWN = 20


@dataclass(frozen=True)
class Columns:
    """Positions of the columns that are read.

    Attributes:
        header: the names in the table.
        id: one column, or the two of the video and of the clip.
        text, split, dataset: None where the table has no such column.
        numbers: of `label` and `<modality>_label`, by their names in the schema, and of each emotion by its name, where
            the table has them.
        ignored: names of the others.
        warnings: what was chosen.
    """

    header: tuple[str, ...]
    id: tuple[int, ...]
    text: int | None
    split: int | None
    dataset: int | None
    numbers: dict[str, int]
    ignored: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def emotions(self) -> bool:
        return EMOTIONS[0] in self.numbers

    def raw_id(self, cells: list[str]) -> str:
        """The id as the table has it, that of two columns as `video$_$clip`; spaces around it are dropped."""
        return "$_$".join(cells[position].strip() for position in self.id)

    def without(self, empty: Iterable[str]) -> Columns:
        """The same, but with no number where no row has one; the six emotions go together."""
        empty = set(empty)
        if not empty.issuperset(EMOTIONS):
            empty -= set(EMOTIONS)
        names = [self.header[position] for name, position in self.numbers.items() if name in empty]
        if not names:
            return self
        return replace(
            self,
            numbers={name: position for name, position in self.numbers.items() if name not in empty},
            ignored=(*self.ignored, *names),
            warnings=(*self.warnings, f"no row has a value in the column {', '.join(names)}, which was left out"),
        )


def names_ids(header: Iterable[str]) -> bool:
    """Whether some columns of a header make ids."""
    names = {_normal(name) for name in header}
    return "id" in names or {"video_id", "clip_id"} <= names


def find_columns(header: tuple[str, ...]) -> Columns:
    """Find the columns of a table.

    Raises:
        ValueError: none make ids, or a name that is read is there twice.
    """
    positions: dict[str, int] = {}
    twice = set()
    for position, name in enumerate(header):
        if positions.setdefault(_normal(name), position) != position:
            twice.add(_normal(name))
    if not names_ids(header):
        names = ", ".join(shown(name) for name in header[:_MAX_NAMES_SHOWN])
        raise ValueError(
            "a table of labels must have a column `id`, or `video_id` and `clip_id`, but the names in its first line "
            f"are {names}{', ...' if len(header) > _MAX_NAMES_SHOWN else ''}; rename the columns or add a first line "
            "with their names."
        )
    used: dict[str, int] = {}
    warnings = []

    def take(*names: str) -> int | None:
        there = [name for name in names if name in positions]
        if len(there) > 1:
            warnings.append(f"`{there[0]}` was read, and not {', '.join(f'`{name}`' for name in there[1:])} beside it")
        if not there:
            return None
        used[there[0]] = positions[there[0]]
        return used[there[0]]

    if {"video_id", "clip_id"} <= set(positions):
        ids: tuple[int | None, ...] = (take("video_id", "id"), take("clip_id"))
    else:
        ids = (take("id"),)
    numbers = {"label": take(*LABEL_NAMES)}
    numbers.update({column: take(name) for column, name in UNIMODAL_LABEL_NAMES.items()})
    if set(EMOTIONS) <= set(positions):
        numbers.update({name: take(name) for name in EMOTIONS})
    text, split, dataset = take(*TEXT_NAMES), take(*SPLIT_COLUMN_NAMES), take("dataset")
    for name in sorted(twice & set(used)):
        raise ValueError(f"the column `{name}` must be there once, but it is there twice; rename or drop one of them.")
    if text is None:
        warnings.append("there is no column `text`, so `text` is empty in every row")
    if numbers["label"] is None:
        warnings.append("there is no column `label`, so the rows can be predicted, but not trained or tested on")
    return Columns(
        header=header,
        id=tuple(position for position in ids if position is not None),
        text=text,
        split=split,
        dataset=dataset,
        numbers={name: position for name, position in numbers.items() if position is not None},
        ignored=tuple(
            name.strip() or f"column {position + 1}, which has no name"
            for position, name in enumerate(header)
            if position not in used.values()
        ),
        warnings=tuple(warnings),
    )


def _normal(name: str) -> str:
    return name.strip().lower()


@dataclass
class Survey:
    """What only all rows together tell.

    Attributes:
        rows: how many there are, of the chosen dataset.
        datasets: rows per value of the column `dataset`, of all.
        empty: rows without a number, per name in `Columns.numbers`, of the chosen dataset.
        clips_in_ids: whether every id ends in `_<digits>` and none has `$_$`.
        split_names: how splits are called, where they have one of the names that are known.
        beyond_ascii: the first text that is not ASCII.
    """

    rows: int = 0
    datasets: Counter[str] = field(default_factory=Counter)
    empty: Counter[str] = field(default_factory=Counter)
    clips_in_ids: bool = True
    split_names: set[str] = field(default_factory=set)
    beyond_ascii: str | None = None


def survey(rows: Iterable[TableRow], columns: Columns, dataset: str | None) -> Survey:
    """Read the whole table once, for the chosen dataset or for all."""
    found = Survey()
    for row in rows:
        cells = row.cells
        if columns.dataset is not None:
            name = cells[columns.dataset].strip()
            found.datasets[name] += 1
            if dataset not in (None, name):
                continue
        found.rows += 1
        found.empty.update(name for name, position in columns.numbers.items() if not cells[position].strip())
        raw = columns.raw_id(cells)
        found.clips_in_ids = found.clips_in_ids and "$_$" not in raw and bool(_CLIP_AT_THE_END.fullmatch(raw))
        if columns.split is not None and (name := _normal(cells[columns.split])) in SPLIT_NAMES:
            found.split_names.add(name)
        if found.beyond_ascii is None and columns.text is not None and not cells[columns.text].isascii():
            found.beyond_ascii = cells[columns.text]
    return found


class LabelRow(NamedTuple):
    """A row of the table, checked.

    Attributes:
        line: where it begins in the file, from 1.
        id: `video$_$clip`, or as the table has it.
        split: None where the standard folds do not have its video.
        dataset: None where the table has no such column.
        text: as the table has it.
        numbers: by the names in `Columns.numbers`.
    """

    line: int
    id: str
    split: str | None
    dataset: str | None
    text: str
    numbers: dict[str, float]


@dataclass(frozen=True)
class RowRules:
    """How to read the rows of one table.

    Attributes:
        columns: of the table.
        dataset: the one value of the column `dataset` whose rows are read; None for all.
        clips_in_ids: whether ids end in `_<digits>`, which is then the clip.
        folds: the split of each video, for a table without a column for it; None puts every row into `train`.
    """

    columns: Columns
    dataset: str | None
    clips_in_ids: bool
    folds: Mapping[str, str] | None = None

    def read(self, row: TableRow) -> LabelRow | None:
        """The row, checked; None where it is not of the chosen dataset.

        Raises:
            ValueError: it has no id, no split that is known, or no number where one belongs.
        """
        columns = self.columns
        dataset = None if columns.dataset is None else sys.intern(row.cells[columns.dataset].strip())
        if self.dataset not in (None, dataset):
            return None
        name = self._id(row)
        return LabelRow(
            line=row.line,
            id=name,
            split=self._split(row, name),
            dataset=dataset,
            text="" if columns.text is None else row.cells[columns.text],
            numbers={column: self._number(row, name, column, position) for column, position in columns.numbers.items()},
        )

    def _id(self, row: TableRow) -> str:
        for position in self.columns.id:
            cell = row.cells[position].strip()
            if not cell or "\n" in cell or "\r" in cell:
                what = "a line break in it: is a quote not closed?" if cell else "none; fill it in, or delete the line."
                raise ValueError(
                    f"`{self.columns.header[position].strip()}` must be there in every row, in one line, but line "
                    f"{row.line} has {what}"
                )
        name = self.columns.raw_id(row.cells)
        if not self.clips_in_ids:
            return name
        video, _, clip = name.rpartition("_")
        return f"{video}$_${clip}"

    def _split(self, row: TableRow, name: str) -> str | None:
        position = self.columns.split
        if position is None:
            return "train" if self.folds is None else self.folds.get(name.partition("$_$")[0])
        cell = row.cells[position]
        split = SPLIT_NAMES.get(_normal(cell))
        if split is None:
            raise ValueError(
                f"`{self.columns.header[position].strip()}` must be one of {', '.join(SPLIT_NAMES)} in every row, but "
                f"line {row.line} (id {shown(name)}) has {shown(cell)}; correct it, or delete the line."
            )
        return split

    def _number(self, row: TableRow, name: str, column: str, position: int) -> float:
        cell = row.cells[position]
        header = self.columns.header[position].strip()
        where = f"line {row.line} (id {shown(name)})"
        if not cell.strip():
            raise ValueError(
                f"`{header}` must have a number in every row or in none, but {where} has none; fill it in, delete the "
                "line, or delete the column."
            )
        try:
            # `float` takes 1_5 for 15, which nobody means here.
            number = math.nan if "_" in cell else float(cell)
        except ValueError:
            number = math.nan
        if not abs(number) <= _LARGEST_FLOAT32:
            raise ValueError(
                f"`{header}` must be a finite number in every row, with a decimal point if any, but {where} has "
                f"{shown(cell)}; correct it, or delete the line."
            )
        if number < 0 and column in EMOTIONS:
            raise ValueError(
                f"`{header}` is the intensity of an emotion and must be 0 or more, but {where} has {shown(cell)}; "
                "correct it."
            )
        return number
