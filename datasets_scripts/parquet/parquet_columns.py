"""What the columns of a Parquet table of one's own mean, and their values, checked. See `parquet_rows`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from datasets_scripts.schema import EMOTIONS, MODALITIES

FEATURES = tuple(f"{modality}_values" for modality in MODALITIES)
TOKENS = ("input_ids", "token_type_ids")
NUMBERS = ("label", *(f"{modality}_label" for modality in MODALITIES))
STRINGS = ("id", "text", "split")
# The names of each column; the first that is there is read.
COLUMN_NAMES: dict[str, tuple[str, ...]] = {
    **{name: (name,) for name in ("id", "split", *FEATURES, *TOKENS, *NUMBERS, "emotions")},
    "text": ("text", "raw_text"),
    "label": ("label", "labels", "sentiment"),
}
# Anything that may be read as a dictionary, see `safe_parquet`.
STRING_NAMES = tuple(name for column in STRINGS for name in COLUMN_NAMES[column])
MAX_ID_BYTES = 1_000
MAX_TEXT_BYTES = 1 << 17

_HOW_TO_WRITE_FEATURES = (
    "write a list of steps in each row, each a list of the same number of floats, as a column of "
    "`pyarrow.list_(pyarrow.list_(pyarrow.float32()))` or of `datasets.Array2D` is"
)


@dataclass(frozen=True)
class Columns:
    """Which columns of a table are read.

    Attributes:
        names: in the table, by those of the schema.
        ignored: the others.
    """

    names: dict[str, str]
    ignored: tuple[str, ...]

    def of(self, batch: pa.RecordBatch, column: str) -> pa.Array:
        """A column of a batch by its name in the schema, as plain Arrow."""
        array = batch.column(self.names[column])
        return array.storage if isinstance(array, pa.ExtensionArray) else array


def find_columns(schema: pa.Schema) -> Columns:
    """Find the columns of a table and check their types.

    Raises:
        ValueError: a column that is read is there twice, or has a type that cannot be read.
    """
    names = {}
    for column, aliases in COLUMN_NAMES.items():
        there = [alias for alias in aliases if alias in schema.names]
        if there:
            names[column] = there[0]
            if len(schema.get_all_field_indices(there[0])) > 1:
                raise ValueError(
                    f"the column `{there[0]}` must be there once, but it is there twice; drop one of them."
                )
            _check_type(column, there[0], schema.field(there[0]).type)
    return Columns(names, tuple(dict.fromkeys(name for name in schema.names if name not in names.values())))


def declared_width(kind: pa.DataType) -> int | None:
    """Features per step of a column of features, where its type says so."""
    if isinstance(kind, pa.BaseExtensionType):  # `datasets.Array2D`; see `_is_features`
        return int(kind.shape[1])
    if pa.types.is_fixed_size_list(kind) and _is_number(kind.value_type):
        return int(kind.list_size)
    return int(kind.value_type.list_size) if pa.types.is_fixed_size_list(kind.value_type) else None


def first_width(array: pa.Array) -> int | None:
    """Features of the first step in a column of features; None where there is no step."""
    steps = pc.list_flatten(array).drop_null()
    return pc.list_value_length(steps[:1])[0].as_py() if len(steps) else None


def sequences(array: pa.Array, width: int, name: str, ids: Sequence[str]) -> list[np.ndarray]:
    """Features of each row, (steps, width), in the type of the table; null and [] have no step, a null value is NaN."""
    if _is_number(array.type.value_type):  # one step, a list of fixed size
        lengths, values = array.is_valid().to_numpy(zero_copy_only=False).astype(np.int64), pc.list_flatten(array)
    else:
        lengths, steps = _lengths(array), pc.list_flatten(array)
        widths = pc.list_value_length(steps).fill_null(-1).to_numpy(zero_copy_only=False)
        wrong = np.flatnonzero(widths != width)
        if wrong.size:
            row = ids[_row_of(int(wrong[0]), lengths)]
            found = int(widths[wrong[0]])
            raise ValueError(
                f"`{name}` must have {width} features in every step, as in the first, but id '{row}' has a step "
                f"{'that is null' if found < 0 else f'of {found}'}; write steps of one size, and null or [] where a "
                "row has no step."
            )
        values = pc.list_flatten(steps)
    table = values.to_numpy(zero_copy_only=False).reshape(-1, width)
    if table.dtype == object:  # float16 with nulls
        table = table.astype(np.float32)
    return np.split(table, np.cumsum(lengths)[:-1])


def numbers(array: pa.Array, name: str, ids: Sequence[str]) -> np.ndarray:
    """One finite number for each row, (rows,) float32."""
    values = _float32(array)
    wrong = np.flatnonzero(~np.isfinite(values))
    if wrong.size:
        row = int(wrong[0])
        raise ValueError(
            f"`{name}` must be a finite number in every row, but id '{ids[row]}' has {_shown(array[row])}; correct it, "
            "drop the row, or drop the column if the rows have no labels."
        )
    return values


def intensities(array: pa.Array, name: str, ids: Sequence[str]) -> np.ndarray:
    """Six finite intensities of 0 or more for each row, (rows, 6) float32."""
    lengths = pc.list_value_length(array).fill_null(-1).to_numpy(zero_copy_only=False)
    wrong = np.flatnonzero(lengths != len(EMOTIONS))
    if not wrong.size:
        table = _float32(pc.list_flatten(array)).reshape(-1, len(EMOTIONS))
        wrong = np.flatnonzero(~(np.isfinite(table) & (table >= 0)).all(axis=1))
    if wrong.size:
        row = int(wrong[0])
        raise ValueError(
            f"`{name}` must hold six finite intensities of 0 or more in every row, those of {', '.join(EMOTIONS)}, but "
            f"id '{ids[row]}' has {_shown(array[row])}; write 0 for an absent emotion, or drop the row."
        )
    return table


def tokens(array: pa.Array, name: str, ids: Sequence[str]) -> list[np.ndarray]:
    """Whole numbers from 0 to 2**31 - 1 of each row, int32; null has none."""
    lengths, values = _lengths(array), pc.list_flatten(array)
    good = pc.and_(pc.greater_equal(values, 0), pc.less(values, 2**31)).fill_null(False).to_numpy(zero_copy_only=False)
    wrong = np.flatnonzero(~good)
    if wrong.size:
        row, found = ids[_row_of(int(wrong[0]), lengths)], values[int(wrong[0])].as_py()
        raise ValueError(
            f"`{name}` must hold whole numbers from 0 to {2**31 - 1}, but id '{row}' has {found}; tokenize the text "
            "again, without padding."
        )
    whole = values.to_numpy(zero_copy_only=False).astype(np.int32)
    return np.split(whole, np.cumsum(lengths)[:-1])


def strings(array: pa.Array, name: str, largest: int) -> list[str]:
    """Strings of at most `largest` bytes; null is an empty one."""
    values = array.dictionary if isinstance(array, pa.DictionaryArray) else array
    length = pc.max(pc.binary_length(values)).as_py() or 0
    if length > largest:
        raise ValueError(
            f"`{name}` must have at most {largest:,} bytes in every row, but one has {length:,}; check what the column "
            "holds."
        )
    return [item.as_py() or "" for item in array]


def _check_type(column: str, name: str, kind: pa.DataType) -> None:
    given, kind, types = kind, _storage(kind), pa.types
    if column in STRINGS:
        if not _is_string(kind) and not types.is_null(kind):
            fix = " (an id is 'video$_$segment')" if column == "id" else ""
            raise ValueError(f"`{name}` must be a column of strings{fix}, but its type is {kind}; write it as strings.")
    elif column in NUMBERS:
        if not _is_number(kind):
            raise ValueError(
                f"`{name}` must be a column of numbers, but its type is {kind}; write it as float32, or rename the "
                "column if it is not the sentiment."
            )
    elif column in FEATURES:
        if not _is_features(given):
            raise ValueError(
                f"`{name}` must hold sequences of steps, but its type is {kind}; {_HOW_TO_WRITE_FEATURES}."
            )
    elif not _is_list(kind) or not _is_number(kind.value_type):
        raise ValueError(f"`{name}` must be a column of lists of numbers, but its type is {kind}; write it so.")
    elif column in TOKENS and not types.is_integer(kind.value_type):
        raise ValueError(f"`{name}` must hold whole numbers, but its type is {kind}; write it as lists of int32.")


def _is_features(kind: pa.DataType) -> bool:
    """Lists of lists of numbers, as themselves or as `datasets.Array2D`, or a list of fixed size, which is one step."""
    if isinstance(kind, pa.BaseExtensionType):  # other tensors are kept flat
        return len(getattr(kind, "shape", ())) == 2 and _is_list(kind.storage_type.value_type)
    if not _is_list(kind):
        return False
    if _is_number(kind.value_type):
        return pa.types.is_fixed_size_list(kind) and kind.list_size > 0
    return _is_list(kind.value_type) and _is_number(kind.value_type.value_type)


def _storage(kind: pa.DataType) -> pa.DataType:
    return kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_floating(kind) or pa.types.is_integer(kind)


def _is_string(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _lengths(array: pa.Array) -> np.ndarray:
    """Elements of the list in each row, (rows,) int64; null has none."""
    return pc.list_value_length(array).fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)


def _row_of(element: int, lengths: np.ndarray) -> int:
    """The row that an element of the lists of all rows belongs to."""
    return int(np.searchsorted(np.cumsum(lengths), element, side="right"))


def _float32(array: pa.Array) -> np.ndarray:
    """Numbers as float32; null is NaN, and what is too large is infinite."""
    with np.errstate(over="ignore", invalid="ignore"):
        return array.to_numpy(zero_copy_only=False).astype(np.float32)


def _shown(value: Any) -> str:
    return f"{value.as_py()!r:.100}"
