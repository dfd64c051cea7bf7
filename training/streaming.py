"""Splits whose feature sequences are read from their Parquet shards while they are iterated over."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import datasets
import numpy as np
import torch


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
        stream = self.stream
        if self.buffer_size > 1:
            seed = int(np.random.default_rng([self.seed, self.epoch]).integers(2**31))
            stream = stream.shuffle(seed=seed, buffer_size=self.buffer_size)
        for row in stream:
            position = positions.get(row["id"])
            if position is not None:  # not one that `select` left out
                yield {**row, **self.table[position]}

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
        return (row for row in self.stream.select_columns(["id", column]) if row["id"] in kept)

    def with_table(self, table: datasets.Dataset) -> StreamedRows:
        """The same stream beside a table with other columns."""
        return StreamedRows(table, self.stream, self.seed, self.buffer_size)
