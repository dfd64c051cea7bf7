"""Rows of a memory-mapped table without the cost of a general one, for whoever reads many of them in any order."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import torch

Reader = Callable[[int], Any]


class MappedRows(torch.utils.data.Dataset):
    """
    The rows of a table in numpy format, sequences as read-only views on the file: `datasets` builds a table, types and
    formatters for every row that it gives, which takes several times as long as copying what is in it.

    Args:
        table (`datasets.Dataset`): In the common schema; it may have further columns of numbers and lists.
    """

    def __init__(self, table: datasets.Dataset):
        if table._indices is not None:
            table = table.with_format("arrow").flatten_indices()
        self.table = table.with_format("numpy")
        batches = [batch for batch in table.data.to_batches() if batch.num_rows]
        self._starts = np.cumsum([0, *(batch.num_rows for batch in batches)]).tolist()
        self._readers = [row_reader(batch) for batch in batches]

    @property
    def column_names(self) -> list[str]:
        return self.table.column_names

    @property
    def features(self) -> datasets.Features:
        return self.table.features

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: int | str) -> Any:
        """A row, or, by its name, a column of the table."""
        if isinstance(index, str):
            return self.table[index]
        if not 0 <= index < len(self):
            raise IndexError(f"There are {len(self)} rows; got {index}.")
        part = bisect_right(self._starts, index) - 1
        return self._readers[part](index - self._starts[part])

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        return [self[int(index)] for index in indices]

    def __reduce__(self):  # memory maps are opened again in a worker process, not copied to it
        return MappedRows, (self.table,)


def row_reader(batch: pa.RecordBatch) -> Callable[[int], dict[str, Any]]:
    """What gives a row of a batch, see `column_reader`."""
    readers = {name: column_reader(batch.column(i)) for i, name in enumerate(batch.schema.names)}
    return lambda row: {name: read(row) for name, read in readers.items()}


def column_reader(column: pa.Array) -> Reader:
    """What gives a row of a column: text as `str`, sequences (steps, width) or (steps,) as arrays, else a number."""
    if isinstance(column.type, pa.ExtensionType):  # Array2D
        width, storage = column.type.shape[1], column.storage
        flat = storage.values.values.to_numpy(zero_copy_only=True)
        # Every step has `width` values, so that the offsets of the inner lists need not be read.
        origin = storage.values.offsets[0].as_py() if len(storage.values) else 0
        steps = storage.offsets.to_numpy()
        return lambda row: flat[origin + steps[row] * width : origin + steps[row + 1] * width].reshape(-1, width)
    if pa.types.is_fixed_size_list(column.type):
        table = column.flatten().to_numpy().reshape(-1, column.type.list_size)
        return lambda row: table[row]
    if pa.types.is_list(column.type):
        values, bounds = column.values.to_numpy(), column.offsets.to_numpy()
        kind = np.int64 if pa.types.is_integer(column.type.value_type) else np.float32
        return lambda row: values[bounds[row] : bounds[row + 1]].astype(kind)
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return lambda row: column[row].as_py()
    numbers = column.to_numpy(zero_copy_only=False)
    return lambda row: numbers[row]
