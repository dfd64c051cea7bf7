"""Splits whose feature sequences are read from their Parquet shards while they are iterated over."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import datasets
import numpy as np
import torch

from training.mapped_rows import MappedRows, row_reader

_READ_ROWS = 32  # at a time


class StreamedRows(torch.utils.data.IterableDataset):
    """
    A split of a prepared folder: its sequences are streamed, and whatever is small (ids, texts, labels, token ids) is a
    memory-mapped table, as everything is of a split that is not streamed.

    Args:
        table (`datasets.Dataset`): All columns but the feature sequences, in the order of the rows.
        stream (`datasets.IterableDataset`): `id` and the feature sequences.
        seed (`int`): Of the order in which training sees the rows.
        buffer_size (`int`): Rows held in memory, from which the next one is drawn; 1 keeps the order of the rows.
    """

    def __init__(self, table: datasets.Dataset, stream: datasets.IterableDataset, seed: int = 0, buffer_size: int = 1):
        self.table = table
        self.stream = stream
        self.seed = seed
        self.buffer_size = buffer_size
        self.epoch = 0

    @property
    def column_names(self) -> list[str]:
        return [*self.table.column_names, *(name for name in self.stream.column_names or [] if name != "id")]

    @property
    def features(self) -> datasets.Features:
        return datasets.Features({**self.table.features, **(self.stream.features or {})})

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, column: str) -> Any:
        """A column of the table."""
        return self.table[column]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """The rows, shuffled where `buffer_size` says so, the same way for the same seed and epoch."""
        positions = {name: position for position, name in enumerate(self.table["id"][:])}
        small, stream = MappedRows(self.table), self.stream
        random = np.random.default_rng([self.seed, self.epoch])
        stream = stream.reshard()  # row groups can be read in any order, and by several workers
        order = np.arange(stream.num_shards)
        if self.buffer_size > 1:
            random.shuffle(order)
        worker = torch.utils.data.get_worker_info()
        if worker is not None:
            order = order[worker.id :: worker.num_workers]
        groups = (stream.shard(num_shards=stream.num_shards, index=int(group)) for group in order)
        # `select` may have left some out
        rows = (row for group in groups for row in read(group) if row["id"] in positions)
        for row in rows if self.buffer_size == 1 else drawn(rows, self.buffer_size, random):
            yield {**row, **small[positions[row["id"]]]}

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def shuffled(self, seed: int, buffer_size: int) -> StreamedRows:
        """The same rows in a new random order in every epoch."""
        return StreamedRows(self.table, self.stream, seed, buffer_size)

    def select(self, positions: Sequence[int] | np.ndarray) -> StreamedRows:
        """Some of the rows."""
        return StreamedRows(self.table.select(positions).flatten_indices(), self.stream)

    def select_columns(self, column: str) -> Iterator[dict[str, Any]]:
        """The rows in order, with one of the streamed columns."""
        kept = set(self.table["id"][:])
        return (row for row in read(self.stream.select_columns(["id", column])) if row["id"] in kept)

    def with_table(self, table: datasets.Dataset) -> StreamedRows:
        """The same stream beside a table with other columns."""
        return StreamedRows(table, self.stream, self.seed, self.buffer_size)


def read(stream: datasets.IterableDataset) -> Iterator[dict[str, Any]]:
    """The rows of a stream, sequences as views on what was read."""
    for table in stream.with_format("arrow").iter(batch_size=_READ_ROWS):
        for batch in table.to_batches():
            reader = row_reader(batch)
            yield from (reader(row) for row in range(batch.num_rows))


def drawn(rows: Iterator[dict[str, Any]], size: int, random: np.random.Generator) -> Iterator[dict[str, Any]]:
    """The rows in the order in which they are drawn from a buffer of `size` rows, which the next ones fill up."""
    buffer: list[dict[str, Any]] = []
    for row in rows:
        # A view would keep all that was read with it in memory.
        row = {name: value.copy() if isinstance(value, np.ndarray) else value for name, value in row.items()}
        if len(buffer) < size:
            buffer.append(row)
            continue
        chosen = random.integers(size)
        yield buffer[chosen]
        buffer[chosen] = row
    for chosen in random.permutation(len(buffer)):
        yield buffer[chosen]
