"""Tables of transcripts and labels: MMSA's `label.csv`, with or without a folder of media, and others like it.

    >>> from datasets_scripts import conversion_report, load_dataset
    >>> rows = load_dataset("label.csv")  # doctest: +SKIP
    >>> rows["train"][0]["text"]  # doctest: +SKIP

Rules of the conversion
-----------------------
A source is a .csv or .tsv file, or a folder that holds one: `label.csv`, `labels.csv`, or the only one there. It is
UTF-8 or, failing that, GB18030. The first line names the columns, in any order, without regard to case:

| columns | become |
|---|---|
| `video_id` and `clip_id`, or `id` | `id`, `video$_$clip`. Where every `id` ends in `_<digits>`, these are the clip |
| `text`, `raw_text` or `transcript` | `text`, as it is |
| `label`, `sentiment`, `regression_label` or `regression_labels` | `label` |
| `label_T`, `label_A`, `label_V` | `text_label`, `audio_label`, `vision_label` |
| `happy`, `sad`, `anger`, `surprise`, `disgust` and `fear`, all six | `emotions` |
| `mode` or `split` | the split: train, valid (val, dev, validation) or test, in any case |
| `dataset` | nothing: it tells several corpora in one table apart |

All others are named in the report and not carried over. Spaces around ids, splits and numbers do not count. Numbers are
finite; a column of numbers is filled in every row, or in none and left out. Ids are unique.

Without a column for the split, the standard folds of the corpus, told by its videos, decide; rows of other videos are
left out. Where there are no folds either, every row is in `train`.

A table of several datasets may hold a sample more than once, if its split and its numbers are the same: CH-SIMS v2
takes over the samples of CH-SIMS with some transcripts corrected. The later row is kept. The option `dataset` reads one
of them alone.

Media are looked for in a folder as `<video_id>/<clip_id>.mp4` or `<id>.mp4`, also below `Raw` (see `media_files`).
They are not opened: the rows have text and labels, and the report says which samples lack a file. `extract.py` makes
features of them.

The table is read in three passes, one row at a time; what stays in memory is the ids. `csv_rows` has the limits.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import datasets

from datasets_scripts import corpora
from datasets_scripts.builder import Source, SourceBuilder, SourceConfig
from datasets_scripts.schema import EMOTIONS, MODALITIES, SPLIT_NAMES, SPLITS, row_features
from datasets_scripts.tables.csv_rows import TableFile, shown
from datasets_scripts.tables.label_columns import (
    Columns,
    LabelRow,
    RowRules,
    Survey,
    find_columns,
    names_ids,
    survey,
)
from datasets_scripts.tables.label_index import LabelIndex
from datasets_scripts.tables.media_files import RAW_FOLDER, find_media
from datasets_scripts.tally import Tally

TABLE_NAMES = ("label.csv", "labels.csv")
TABLE_SUFFIXES = (".csv", ".tsv")
ENCODINGS = {"utf-8": "UTF-8", "gb18030": "GB18030 (Chinese)"}

_DELIMITERS = {",": "commas", "\t": "tabs", ";": "semicolons"}
_NAMES_SHOWN = 3


@dataclass
class LabelTableConfig(SourceConfig):
    """Which table to convert.

    Attributes:
        dataset: the value of the column `dataset` whose rows are read; None for all rows.

    Raises:
        FileNotFoundError: a folder holds no table. ValueError: it holds several, or a link to one elsewhere; and as in
            `SourceConfig`.
    """

    dataset: str | None = None

    def files(self) -> list[Path]:
        """The table; media do not decide the rows."""
        return [table_in(self.path)] if self.path.is_dir() else super().files()

    def create_config_id(self, config_kwargs: dict, custom_features: datasets.Features | None = None) -> str:
        """As for every source, and by the names of the media, which the report counts."""
        name = super().create_config_id(config_kwargs, custom_features)
        if not self.path.is_dir():
            return name
        media = find_media(self.path)
        listed = json.dumps([media.links_out, sorted(media.files.items())])
        return f"{name}-{hashlib.sha256(listed.encode()).hexdigest()[:8]}"


class LabelTable(SourceBuilder):
    """Converts one table."""

    BUILDER_CONFIG_CLASS = LabelTableConfig
    VERSION = datasets.Version("1.0.0")
    SOURCE_FORMAT = "table of transcripts and labels"

    def inspect(self) -> Source:
        self._file, found, warnings = self._survey()
        columns = find_columns(self._file.header).without(name for name, n in found.empty.items() if n == found.rows)
        self._rules = RowRules(columns, self.config.dataset, found.clips_in_ids)
        warnings += [*columns.warnings, *_choices(columns, found, self.config.dataset)]
        if columns.split is None:
            self._rules = replace(self._rules, folds=self._folds(warnings))
        index = LabelIndex()
        for row in self._file.rows():
            index.take(row, self._rules.read(row))
        warnings += index.warnings()
        if self.config.path.is_dir():
            warnings += _media_warnings(self.config.path, index.ids)
        return Source(
            features=row_features(
                label="label" in columns.numbers,
                unimodal_labels=[modality for modality in MODALITIES if f"{modality}_label" in columns.numbers],
                emotions=columns.emotions,
            ),
            shards=dict(index.shards()),
            rows={split: index.rows[split] for split in SPLITS if index.rows[split]},
            row_bytes=index.row_bytes(self._file.path.stat().st_size),
            ignored_keys=list(columns.ignored),
            warnings=warnings,
        )

    def read_rows(self, split: str, shards: list[Any], tally: Tally) -> Iterator[dict[str, Any]]:
        for shard in shards:
            for row in itertools.islice(self._file.rows_from(shard.offset, shard.line), shard.rows):
                found = self._rules.read(row)
                if found is not None and found.split == split and found.line not in shard.left_out:
                    yield _schema_row(found)

    def _survey(self) -> tuple[TableFile, Survey, list[str]]:
        """The table in the first encoding that reads all of it, what all of its rows tell, and how it was read."""
        path = self.config.files()[0]
        for encoding in ENCODINGS:
            try:
                file = _open_table(path, encoding)
                columns = find_columns(file.header)
                found = survey(file.rows(), columns, self.config.dataset)
            except UnicodeDecodeError:
                continue
            _check_selection(self.config.dataset, columns, found)
            return file, found, _reading(file, found)
        raise ValueError(
            f"a table must be text in {' or '.join(ENCODINGS.values())}, but this one is neither; save it as UTF-8 "
            '("CSV UTF-8" in spreadsheet programs).'
        )

    def _folds(self, warnings: list[str]) -> dict[str, str] | None:
        """The standard split of each video; None where it is known of none."""
        rows = (self._rules.read(row) for row in self._file.rows())
        videos = {row.id.partition("$_$")[0] for row in rows if row is not None}
        corpus = corpora.corpus_of(videos, self.config.corpus)
        folds = corpora.standard_folds(corpus) if corpus is not None else {}
        if corpus is None or videos.isdisjoint(folds):
            warnings.append(
                "there is no column for the split and no standard folds are known for these videos, so every row is in "
                "`train`; add a column `split` that says train, valid or test"
            )
            return None
        warnings.append(
            f"there is no column for the split, so the standard folds of {corpora.CORPORA[corpus].name} decided"
        )
        return folds


def table_in(folder: Path) -> Path:
    """The table that a folder holds.

    Raises:
        FileNotFoundError: it holds none. ValueError: it holds several, or a link to one elsewhere.
    """
    files = [file for file in sorted(folder.iterdir()) if file.suffix.lower() in TABLE_SUFFIXES and file.is_file()]
    files = [file for file in files if not file.name.startswith(".")]
    named = [file for name in TABLE_NAMES for file in files if file.name.lower() == name]
    if not files:
        raise FileNotFoundError(f"`data_file` must name a table or a folder with label.csv, but {folder} holds none.")
    if not named and len(files) > 1:
        raise ValueError(
            f"a folder must hold one table, or one called {' or '.join(TABLE_NAMES)}, but {folder} holds "
            f"{', '.join(file.name for file in files[:_NAMES_SHOWN])}{', ...' if len(files) > _NAMES_SHOWN else ''}; "
            "name the one to read."
        )
    table = (named or files)[0]
    if not table.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"{table} is a link that leads out of its folder; name the table that it leads to.")
    return table


def _delimiters(path: Path) -> list[str]:
    """All that may separate cells, the one of the suffix first."""
    return sorted(_DELIMITERS, key=lambda delimiter: delimiter != ("\t" if path.suffix.lower() == ".tsv" else ","))


def _open_table(path: Path, encoding: str) -> TableFile:
    """The table with the delimiter that its suffix means, or with another where only that one gives ids."""
    expected, *others = _delimiters(path)
    table = TableFile.open(path, encoding, expected)
    if names_ids(table.header):
        return table
    for delimiter in others:
        with contextlib.suppress(ValueError):  # a header that cannot be read so
            other = TableFile.open(path, encoding, delimiter)
            if names_ids(other.header):
                return other
    return table


def _reading(file: TableFile, found: Survey) -> list[str]:
    """Where the file was not read as its suffix says, in words."""
    warnings = []
    if file.encoding != "utf-8":
        example = "" if found.beyond_ascii is None else f", such as the text {shown(found.beyond_ascii)}"
        warnings.append(
            f"the table is not UTF-8 and was read as {ENCODINGS[file.encoding]}{example}; if that is wrong, save it as "
            "UTF-8"
        )
    expected = _delimiters(file.path)[0]
    if file.delimiter != expected:
        warnings.append(f"cells were separated at {_DELIMITERS[file.delimiter]}, not at {_DELIMITERS[expected]}")
    return warnings


def _check_selection(dataset: str | None, columns: Columns, found: Survey) -> None:
    """Some rows must be left to read."""
    if dataset is not None and columns.dataset is None:
        raise ValueError(
            f"`dataset` chooses rows by the column `dataset`, but it is {shown(dataset)} and the table has no such "
            "column; leave the option out."
        )
    if not found.datasets.total() and not found.rows:
        raise ValueError("a table must have at least one row after the names of its columns, but it has none.")
    if not found.rows:
        raise ValueError(
            f"`dataset` must be a value of the column `dataset`, but it is {shown(str(dataset))} and the column has "
            f"{', '.join(shown(name) for name, _ in found.datasets.most_common(20))}; correct it."
        )


def _choices(columns: Columns, found: Survey, dataset: str | None) -> list[str]:
    """How ids, splits and datasets were understood, in words."""
    warnings = []
    if found.clips_in_ids and len(columns.id) == 1:
        warnings.append("every `id` ends in `_` and digits, which were read as the clip: `video_1` as `video$_$1`")
    for name in sorted(found.split_names):
        if SPLIT_NAMES[name] != name:
            warnings.append(f"split '{SPLIT_NAMES[name]}' was read from the name '{name}'")
    if dataset is None and len(found.datasets) > 1:
        shares = ", ".join(f"{shown(name)} {rows}" for name, rows in found.datasets.most_common(20))
        warnings.append(f"the rows are of several datasets ({shares}); the option `dataset` reads one of them alone")
    return warnings


def _media_warnings(folder: Path, ids: Collection[str]) -> list[str]:
    """Which samples have no media file in the folder, and which files are of none, in words."""
    media = find_media(folder)
    names = {name: media.name_of(name) for name in ids}
    without = [name for name, found in names.items() if found is None]
    extra = media.left_over(found for found in names.values() if found is not None)
    warnings = []
    if without:
        first = ", ".join(shown(name) for name in without[:_NAMES_SHOWN])
        warnings.append(
            f"{len(without)} of {len(ids)} rows have no media file `{RAW_FOLDER}/<video_id>/<clip_id>.mp4` or the like "
            f"({first}{', ...' if len(without) > _NAMES_SHOWN else ''})"
        )
    if extra:
        warnings.append(f"{len(extra)} media files belong to no row")
    if media.links_out:
        warnings.append(f"{media.links_out} links lead out of the folder and were not followed")
    return warnings


def _schema_row(row: LabelRow) -> dict[str, Any]:
    emotions = [row.numbers[name] for name in EMOTIONS if name in row.numbers]
    labels = {name: number for name, number in row.numbers.items() if name not in EMOTIONS}
    return {"id": row.id, "text": row.text, **labels, **({"emotions": emotions} if emotions else {})}
