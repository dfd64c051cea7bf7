"""Prepared folders: a converted source as Parquet shards with a dataset card, which `datasets` reads without this code.

    FOLDER/README.md                 the card; its header says which shards are which split
    FOLDER/labels.png                the labels' histogram, where matplotlib is installed
    FOLDER/conversion_report.json    what the conversion did
    FOLDER/data/train-00000-of-00003.parquet ...

A folder has its name only when it is whole: it is written as `FOLDER.incomplete`, checked and renamed. One of that name
that is to be replaced is `FOLDER.replaced` for a moment, and deleted then.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from os import PathLike
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

from datasets_scripts.cards.card import dataset_card, label_picture
from datasets_scripts.report import ConversionReport
from datasets_scripts.schema import SPLITS

REPORT_FILE = "conversion_report.json"
CARD_FILE = "README.md"
PICTURE_FILE = "labels.png"
DATA_FOLDER = "data"
PAGE_BYTES = 64 << 10  # of a column, which whoever writes or reads it holds


class PreparedFolder:
    """The rows and the report of a prepared folder.

    Args:
        path: the folder.
        cache_dir: where memory-mapped copies of the rows are kept; by default the cache of `datasets`.

    Raises:
        ValueError: a shard is missing.
    """

    def __init__(self, path: str | PathLike[str], cache_dir: str | PathLike[str] | None = None) -> None:
        self.path = Path(path)
        self._cache_dir = None if cache_dir is None else str(cache_dir)
        self._report = ConversionReport.from_json((self.path / REPORT_FILE).read_text(encoding="utf-8"))
        check_shards(self.path, self._report)

    def report(self) -> ConversionReport:
        """What the conversion of the source did."""
        return self._report

    def rows(self, columns: list[str] | None = None) -> datasets.DatasetDict:
        """The splits, or some columns of them, in numpy format, memory-mapped."""
        return datasets.load_dataset(
            "parquet", data_files=self._files(), columns=columns, cache_dir=self._cache_dir
        ).with_format("numpy")

    def stream(self, columns: list[str] | None = None) -> datasets.IterableDatasetDict:
        """The splits, or some columns of them, in numpy format, read from the shards while they are iterated over."""
        streams = datasets.load_dataset("parquet", data_files=self._files(), columns=columns, streaming=True)
        return datasets.IterableDatasetDict({split: rows.with_format("numpy") for split, rows in streams.items()})

    def _files(self) -> dict[str, list[str]]:
        return {split: [str(self.path / name) for name in names] for split, names in shard_names(self.path).items()}


def is_prepared(path: str | PathLike[str]) -> bool:
    """Whether a path is a prepared folder."""
    return (Path(path) / REPORT_FILE).is_file() and (Path(path) / CARD_FILE).is_file()


def replaced_folder(folder: Path) -> Path:
    """Where a prepared folder is while another takes its place."""
    return folder.with_name(f"{folder.name}.replaced")


def delete_beside(folder: Path) -> None:
    """Delete what a conversion leaves beside its folder: see `take_back`, and locks, when nobody waits."""
    take_back(folder)
    Path(f"{folder}_builder.lock").unlink(missing_ok=True)


def take_back(folder: Path) -> None:
    """Delete the folder that was replaced by one of this name.

    Where there is none in its place, since the conversion was stopped or failed just then, it gets its name back.
    """
    before = replaced_folder(folder)
    if before.exists() and not folder.exists():
        os.rename(before, folder)
    shutil.rmtree(before, ignore_errors=True)


def shard_names(folder: Path) -> dict[str, list[str]]:
    """Per split, in the order of `SPLITS`, the shards of a prepared folder, relative to it, in order."""
    found: dict[str, list[str]] = {}
    for split in SPLITS:
        names = sorted(file.name for file in (folder / DATA_FOLDER).glob(f"{split}-*-of-*.parquet"))
        if names:
            found[split] = [f"{DATA_FOLDER}/{name}" for name in names]
    return found


def write_shards(folder: Path, written: str) -> None:
    """Turn the Arrow files of a builder, `<written>-<split>[-SSSSS-of-NNNNN].arrow`, into the shards of this layout.

    The library would write Parquet itself, but with a dictionary for every column: of features, hardly a value of which
    comes twice, that takes ten times as long, and half as much space again.
    """
    (folder / DATA_FOLDER).mkdir()
    pa.default_memory_pool().release_unused()  # what the conversion took and Arrow kept for later
    for file in sorted(folder.glob(f"{written}-*.arrow")):
        name = file.stem.removeprefix(f"{written}-")
        name = name if re.search(r"-\d{5}-of-\d{5}$", name) else f"{name}-00000-of-00001"
        target = folder / DATA_FOLDER / f"{name}.parquet"
        with (
            pa.OSFile(str(file)) as source,  # not mapped: the whole file would count as memory of this process
            pa.ipc.open_stream(source) as batches,
            pq.ParquetWriter(target, batches.schema, use_dictionary=False, data_page_size=PAGE_BYTES) as shard,
        ):
            for batch in batches:  # of a few MB, each a row group
                shard.write_batch(batch)
                pa.default_memory_pool().release_unused()
        file.unlink()


def check_shards(folder: Path, report: ConversionReport) -> None:
    """Raise unless the shards hold the rows that the report tells of; only their footers are read.

    Raises:
        ValueError: a shard is missing or cannot be read, or has other columns.
    """
    fix = "copy or download the folder again, or prepare it again with `prepare_data.py`"
    found: dict[str, int] = {}
    for split, names in shard_names(folder).items():
        for name in names:
            try:
                footer = pq.read_metadata(folder / name)
            except (OSError, pa.ArrowException) as error:
                raise ValueError(f"{folder / name} is not a whole Parquet file ({error}); {fix}.") from error
            columns = footer.schema.to_arrow_schema().names
            if columns != report.columns:
                raise ValueError(
                    f"{folder / name} must have the columns {report.columns}, but it has {columns}; {fix}."
                )
            found[split] = found.get(split, 0) + footer.num_rows
    expected = {split: count for split, count in report.rows.items() if count}
    if found != expected:
        raise ValueError(
            f"{folder / DATA_FOLDER} must hold the rows {expected}, as {REPORT_FILE} says, but it holds {found}; {fix}."
        )


def check_ids(folder: Path) -> None:
    """Raise unless every id of a prepared folder is there once. Raises ValueError naming the first that is not."""
    seen: dict[str, str] = {}
    for split, name in _ids(folder):
        if name in seen:
            raise ValueError(
                f"`id` must be unique, but '{name}' is in split '{seen[name]}' and again in split '{split}'; rename or "
                "drop one of the two: a sample that is trained and tested on makes the test meaningless."
            )
        seen[name] = split


def _ids(folder: Path) -> Iterator[tuple[str, str]]:
    for split, names in shard_names(folder).items():
        for name in names:
            with pq.ParquetFile(folder / name) as file:
                for batch in file.iter_batches(10_000, columns=["id"]):
                    yield from ((split, sample) for sample in batch["id"].to_pylist())


def write_card(folder: Path, report: ConversionReport) -> None:
    """Write the dataset card of a folder and, where matplotlib is installed, the picture in it."""
    pa.default_memory_pool().release_unused()
    picture = PICTURE_FILE if label_picture(report, folder / PICTURE_FILE) else None
    (folder / CARD_FILE).write_text(dataset_card(report, shard_names(folder), picture), encoding="utf-8")
