"""One's own Parquet: rows in the columns of the schema, read piece by piece, whatever the size.

    >>> from datasets_scripts import load_dataset
    >>> rows = load_dataset("folder")  # doctest: +SKIP

How to write it
---------------
One row is one sample. The columns are those of `schema`, all optional but one that holds something to learn from:

| column | type | what |
|---|---|---|
| `id` | string | `video$_$segment`, unique in all files |
| `text` or `raw_text` | string | transcript; null where there is none |
| `text_values`, `audio_values`, `vision_values` | list<list<float>> | (steps, features); null or [] where missing |
| `label`, `labels` or `sentiment` | number | in the units of the source; never null |
| `text_label`, `audio_label`, `vision_label` | number | of a modality alone; never null |
| `emotions` | list<float> of six | intensities, see `schema.EMOTIONS` |
| `input_ids`, `token_type_ids` | list<int> | tokens, without padding |
| `split` | string | train, valid (val, dev, validation) or test |

Features may be of any float type, of fixed or variable size, and `datasets.Array2D`; the steps of a column have one
width in all rows and files. A list of fixed size, one vector per row, is one step. Rows have exactly the steps that
they have: nothing is taken as padding. A null among the numbers is NaN, which becomes 0 and is counted, as NaN does.
Other columns are named in the report and not read.

A source is a file or a folder. In a folder, files are read from itself, from `data/` and, in both, from folders that
are called as a split. The split of a row is found in this order: in the column `split`; in a folder, by the name of the
file's folder or the beginning of the file's name (`train.parquet`, `test-00000-of-00002.parquet`); by the standard
folds of the corpus, where the videos tell it, and rows of other videos are then left out; otherwise every row is in
`train`. Rows keep the order of the files and within them. Rows without id get `<split>$_$<row>`.

Row groups are what several processes share (`num_proc`), so write some: 10 to 100 MB each. One process holds about a
page of each column and some megabytes of rows, also where a file is one row group. What a file may not hold is in
`safe_parquet`.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from datasets_scripts.builder import Source, SourceBuilder, SourceConfig
from datasets_scripts.own_splits import folds_of, split_named, warn_of_rows_without_fold
from datasets_scripts.parquet.parquet_columns import (
    FEATURES,
    MAX_TEXT_BYTES,
    NUMBERS,
    STRING_NAMES,
    TOKENS,
    Columns,
    declared_width,
    find_columns,
    first_width,
    intensities,
    numbers,
    sequences,
    strings,
    tokens,
)
from datasets_scripts.parquet.parquet_files import files_elsewhere, files_in, splits_by_name
from datasets_scripts.parquet.parquet_keys import check_keys, keys_of, read_all_keys, video_of
from datasets_scripts.parquet.safe_parquet import SafeParquet
from datasets_scripts.schema import MODALITIES, SPLITS, row_features
from datasets_scripts.tally import Tally

_BATCH_BYTES = 1 << 20  # read at once; a page has about as much, and the builder collects more before it writes
_MAX_BATCH_ROWS = 256
_EVERY_ROW = ""


@dataclass
class ParquetConfig(SourceConfig):
    """Which Parquet to convert, a file or a folder."""

    def files(self) -> list[Path]:
        return files_in(self.path) if self.path.is_dir() else super().files()


class Piece(NamedTuple):
    """A row group: in which file, which one, and how many rows of the split come before its own."""

    path: str
    group: int
    first: int


@dataclass
class _Rules:
    """How to read the rows; sent to every process.

    Attributes:
        columns: which are read.
        widths: features per step, by column.
        folds: the split of each video, where nothing else says it.
        batch_rows: how many rows are read at once.
    """

    columns: Columns
    widths: dict[str, int] = field(default_factory=dict)
    folds: Mapping[str, str] | None = None
    batch_rows: int = 1

    def split_of_row(self, name: str, given: str) -> str | None:
        """The split of a row by its id and its column `split`; None where no split is known of it."""
        if "split" in self.columns.names:
            return split_named(given)
        if self.folds is not None:
            return self.folds.get(video_of(name))
        return _EVERY_ROW


class ParquetRows(SourceBuilder):
    """Converts Parquet with the columns of the schema."""

    BUILDER_CONFIG_CLASS = ParquetConfig
    SOURCE_FORMAT = "Parquet table"

    def inspect(self) -> Source:
        files, warnings = self.config.files(), []
        by_name: dict[Path, str] = {}
        if self.config.path.is_dir():
            by_name = splits_by_name(files, self.config.path)
            elsewhere = files_elsewhere(self.config.path, files)
            if elsewhere:
                warnings.append(f"files in other folders were not read: {', '.join(elsewhere[:10])}")
        columns, row_bytes = _check_files(files)
        rules = _Rules(columns, batch_rows=min(max(_BATCH_BYTES // row_bytes, 1), _MAX_BATCH_ROWS))
        self._rules = rules
        rules.widths = _find_widths(files, rules, warnings)
        videos = check_keys(files, columns)
        if "split" in columns.names:
            by_name = {}
        elif not by_name:
            fix = "add a column `split`, or write train.parquet, valid.parquet and test.parquet into a folder"
            rules.folds = folds_of(videos, self.config.corpus, fix, warnings)
        pieces, rows = _deal_out(files, rules, by_name, warnings)
        _check_content(columns, rules.widths, warnings)
        return Source(
            features=row_features(
                text_feature_size=rules.widths.get("text_values"),
                audio_feature_size=rules.widths.get("audio_values"),
                vision_feature_size=rules.widths.get("vision_values"),
                input_ids="input_ids" in columns.names,
                token_type_ids="token_type_ids" in columns.names,
                label="label" in columns.names,
                unimodal_labels=[modality for modality in MODALITIES if f"{modality}_label" in columns.names],
                emotions="emotions" in columns.names,
            ),
            shards=pieces,
            rows=rows,
            row_bytes=max(row_bytes // 3, 1),  # reading takes the page and the levels as well
            ignored_keys=sorted(columns.ignored),
            warnings=warnings,
        )

    def read_rows(self, split: str, shards: list[Piece], tally: Tally) -> Iterator[dict[str, Any]]:
        for path, pieces in itertools.groupby(shards, key=lambda piece: piece.path):
            with SafeParquet(Path(path), STRING_NAMES) as file:
                for piece in pieces:
                    yield from self._rows_of(file, split, piece)

    def _rows_of(self, file: SafeParquet, split: str, piece: Piece) -> Iterator[dict[str, Any]]:
        rules, number = self._rules, piece.first
        names = [
            name
            for column, name in rules.columns.names.items()
            if column not in FEATURES or column in rules.widths  # the others have no value at all
        ]
        for batch in file.batches([piece.group], names, rules.batch_rows):
            ids, splits = keys_of(batch, rules.columns)
            wanted = [rules.split_of_row(*keys) in (split, _EVERY_ROW) for keys in zip(ids, splits, strict=True)]
            if not any(wanted):
                continue
            values = _values(batch, rules, ids)
            for row in np.flatnonzero(wanted):
                chosen = {column: column_values[row] for column, column_values in values.items()}
                yield {**chosen, "id": ids[row] or f"{split}$_${number}"}
                number += 1


def _check_files(files: list[Path]) -> tuple[Columns, int]:
    """The columns of all files, and the bytes of a row in memory, roughly.

    Raises:
        ValueError: a file is refused, or they differ in their columns.
    """
    first, total, rows = None, 0, 0
    for path in files:
        with SafeParquet(path, STRING_NAMES) as file:
            columns = find_columns(file.schema)
            first = first or columns
            if columns.names != first.names:
                differing = sorted(set(columns.names.items()) ^ set(first.names.items()))
                raise ValueError(
                    f"all files must have the same columns, but `{differing[0][1]}` is in only one of {files[0].name} "
                    f"and {path.name}; write it in all, or leave it out."
                )
            total += file.check_columns(columns.names.values())
            rows += sum(file.group_rows)
    if first is None or not rows:
        raise ValueError("a table must hold at least one row, but it has none; check how it was written.")
    return first, total // rows + 1


def _find_widths(files: list[Path], rules: _Rules, warnings: list[str]) -> dict[str, int]:
    """Features per step of each column of features that has a step."""
    widths = {}
    for column in FEATURES:
        if column in rules.columns.names:
            width = next(_possible_widths(files, rules, column), None)
            if width is None:
                modality = column.partition("_")[0]
                warnings.append(f"{modality} has no step in any sample, so there is no column `{column}`")
            else:
                widths[column] = width
    return widths


def _possible_widths(files: list[Path], rules: _Rules, column: str) -> Iterator[int]:
    """The width that the type declares, or that of the first step in each batch of rows."""
    name = rules.columns.names[column]
    for path in files:
        with SafeParquet(path) as file:
            width = declared_width(file.schema.field(name).type)
            if width is not None:
                yield width
            for batch in file.batches(list(range(len(file.group_rows))), [name], rules.batch_rows):
                width = first_width(rules.columns.of(batch, column))
                if width is not None:
                    yield width


def _deal_out(
    files: list[Path], rules: _Rules, by_name: dict[Path, str], warnings: list[str]
) -> tuple[dict[str, list[Piece]], dict[str, int]]:
    """The row groups of each split, and its rows. A row group with rows of several splits is in each of them."""
    counts: dict[tuple[Path, int], Counter[str | None]] = {}
    if "split" in rules.columns.names or rules.folds is not None:
        for path, group, ids, splits in read_all_keys(files, rules.columns):
            named = (rules.split_of_row(*keys) for keys in zip(ids, splits, strict=True))
            counts.setdefault((path, group), Counter()).update(named)
    else:
        for path in files:
            with SafeParquet(path) as file:
                for group, count in enumerate(file.group_rows):
                    counts[path, group] = Counter({by_name.get(path, "train"): count})
    pieces: dict[str, list[Piece]] = {split: [] for split in SPLITS}
    rows = dict.fromkeys(SPLITS, 0)
    for (path, group), table in counts.items():
        for split in SPLITS:
            if table[split]:
                pieces[split].append(Piece(str(path), group, rows[split]))
                rows[split] += table[split]
    warn_of_rows_without_fold(sum(table[None] for table in counts.values()), warnings)
    return {split: own for split, own in pieces.items() if own}, {split: n for split, n in rows.items() if n}


def _check_content(columns: Columns, widths: dict[str, int], warnings: list[str]) -> None:
    """Check that there is something to learn from, and say what is not there."""
    if "text" not in columns.names and "input_ids" not in columns.names and not widths:
        raise ValueError(
            "a table must hold `text`, `input_ids` or `<modality>_values` with a value in some row, but its other "
            f"columns are {list(columns.ignored)}; rename those that hold text or features."
        )
    if "token_type_ids" in columns.names and "input_ids" not in columns.names:
        raise ValueError("`token_type_ids` belong to `input_ids`, but there are none; add them, or leave these out.")
    if "id" not in columns.names:
        warnings.append("there is no column `id`, so ids are '<split>$_$<row>'; add one with 'video$_$segment'")
    if "text" not in columns.names:
        warnings.append("there is no column `text`, so `text` is empty in every row")
    if "label" not in columns.names:
        warnings.append("there is no column `label`, so the rows can be predicted, but not trained or tested on")
    if "attention_mask" in columns.ignored and "input_ids" in columns.names:
        warnings.append("`attention_mask` is not read: `input_ids` are taken as they are, without padding")


def _values(batch: pa.RecordBatch, rules: _Rules, ids: list[str]) -> dict[str, Any]:
    """The columns of a batch of rows by their names in the schema, one value per row."""
    columns, names = rules.columns, rules.columns.names
    values: dict[str, Any] = {"id": ids, "text": [""] * len(ids)}
    if "text" in names:
        values["text"] = strings(columns.of(batch, "text"), names["text"], MAX_TEXT_BYTES)
    for column in TOKENS:
        if column in names:
            values[column] = tokens(columns.of(batch, column), names[column], ids)
    if "token_type_ids" in names:
        _check_same_lengths(values["input_ids"], values["token_type_ids"], ids)
    for column, width in rules.widths.items():
        values[column] = sequences(columns.of(batch, column), width, names[column], ids)
    for column in NUMBERS:
        if column in names:
            values[column] = numbers(columns.of(batch, column), names[column], ids)
    if "emotions" in names:
        values["emotions"] = intensities(columns.of(batch, "emotions"), names["emotions"], ids)
    return values


def _check_same_lengths(tokens: list[np.ndarray], types: list[np.ndarray], ids: list[str]) -> None:
    for name, one, other in zip(ids, tokens, types, strict=True):
        if len(one) != len(other):
            raise ValueError(
                f"`token_type_ids` must have one entry per token in every row, but id '{name}' has {len(other)} and "
                f"{len(one)} `input_ids`; tokenize the text again."
            )
