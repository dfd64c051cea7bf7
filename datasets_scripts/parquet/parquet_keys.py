"""Ids and splits of a Parquet table of one's own, read without the rest. See `parquet_rows`."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pyarrow as pa

from datasets_scripts.own_splits import split_named
from datasets_scripts.parquet.parquet_columns import MAX_ID_BYTES, STRING_NAMES, Columns, strings
from datasets_scripts.parquet.safe_parquet import SafeParquet

_BATCH_ROWS = 1024
_ENOUGH_VIDEOS = 5000


def check_keys(files: list[Path], columns: Columns) -> set[str]:
    """Check that ids are there and unique, and that splits are known; returns the first thousands of videos.

    Of the ids only hashes are held: eight bytes each, whatever their length.

    Raises:
        ValueError: one is not. It names the row.
    """
    hashes, videos = array("Q"), set[str]()
    for _, _, ids, splits in read_all_keys(files, columns):
        if "id" in columns.names:
            if "" in ids:
                row = len(hashes) + ids.index("")
                raise ValueError(f"`id` must be there in every row, but row {row} has none; write 'video$_$segment'.")
            hashes.extend(map(_hash, ids))
            videos.update(map(video_of, ids if len(videos) < _ENOUGH_VIDEOS else ()))
        for name, given in zip(ids, splits, strict=True):
            if "split" in columns.names and split_named(given) is None:
                raise ValueError(
                    f"`split` must be train, valid (val, dev, validation) or test in every row, but id '{name}' has "
                    f"{given!r:.100}; correct it."
                )
    found, counts = np.unique(np.asarray(hashes, np.uint64), return_counts=True)
    if (counts > 1).any():
        _raise_if_twice(files, columns, set(found[counts > 1].tolist()))
    return videos


def read_all_keys(files: list[Path], columns: Columns) -> Iterator[tuple[Path, int, list[str], list[str]]]:
    """(file, row group, ids, splits) of a few rows after the other; empty strings where there is no such column."""
    names = [columns.names[column] for column in ("id", "split") if column in columns.names]
    for path in files:
        with SafeParquet(path, STRING_NAMES) as file:
            for group in range(len(file.group_rows) if names else 0):
                for batch in file.batches([group], names, _BATCH_ROWS):
                    yield path, group, *keys_of(batch, columns)


def keys_of(batch: pa.RecordBatch, columns: Columns) -> tuple[list[str], list[str]]:
    """Ids and splits of a batch; empty strings where there is no such column."""
    nothing = [""] * len(batch)
    ids, splits = (
        strings(columns.of(batch, column), columns.names[column], MAX_ID_BYTES) if column in columns.names else nothing
        for column in ("id", "split")
    )
    return ids, splits


def video_of(name: str) -> str:
    """The video that an id names."""
    return name.partition("$_$")[0]


def _raise_if_twice(files: list[Path], columns: Columns, hashes: set[int]) -> None:
    """Raise for the first id that is there twice, among those with these hashes."""
    seen: dict[str, str] = {}
    for path, _, ids, _ in read_all_keys(files, columns):
        for name in ids:
            if _hash(name) not in hashes:
                continue
            if name in seen:
                raise ValueError(
                    f"`id` must be unique, but '{name}' is in {seen[name]} and again in {path.name}; rename or drop "
                    "one of the two: a sample that is trained and tested on makes the test meaningless."
                )
            seen[name] = path.name


def _hash(name: str) -> int:
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "little")
