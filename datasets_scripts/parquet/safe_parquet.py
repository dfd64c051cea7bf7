"""Read Parquet files without trusting them: what reading would take is known and bounded before a value is decoded.

A few bytes of Parquet can stand for gigabytes: runs, dictionaries and compression say so, and the sizes in the footer
need not be true. So the footer and the headers of the pages, which a decoder goes by, are read here first. A file is
refused, with a ValueError that says why and what to do, where

- it is cut off, is encrypted, or keeps columns in other files;
- its footer has more than `MAX_FOOTER_BYTES`, or more than `FREE_FOOTER_BYTES` and a tenth of the file;
- its schema is nested deeper than `MAX_DEPTH`, or it has more than `MAX_STRUCTURES` columns, all row groups together;
- it has more rows than bytes, and more than `FREE_ROWS`;
- the pages of a column are not whole, or hold other numbers of values than the footer says;
- the columns that are read would take, in one row group, more than `MAX_RATIO` times their bytes in the file and more
  than `FREE_BYTES`;
- a page has more than `MAX_PAGE_BYTES`, or strings are encoded as differences, which grow with the square of a page;
- pyarrow finds it damaged. (Its own view of the columns is not asked for: it ends the process on some faults.)

The format: https://github.com/apache/parquet-format
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, cast

import pyarrow as pa
import pyarrow.parquet as pq

from datasets_scripts.parquet.thrift_compact import BINARY, I32, I64, Compact, Wanted

MAX_FOOTER_BYTES = 16 << 20
FREE_FOOTER_BYTES = 1 << 20
MAX_DEPTH = 32
MAX_STRUCTURES = 200_000
FREE_ROWS = 100_000
# Features compress little, padding and missing modalities well; what is small does no harm at any ratio.
MAX_RATIO = 100
FREE_BYTES = 256 << 20
MAX_PAGE_BYTES = 256 << 20
MAX_PAGES = 100_000

_MAGIC = b"PAR1"
_FOOTER_SHARE = 10
_MAX_PAGE_HEADER = 64 << 10  # statistics of strings are in it, which writers cut off
_READ_BUFFER = 256 << 10  # of each column; without it pyarrow reads the column of a whole row group at once
_DATA_PAGE, _DICTIONARY_PAGE, _DATA_PAGE_V2 = 0, 2, 3
_DELTA_BYTE_ARRAY = 7
# Bytes of a decoded value, by the physical type: boolean, int32, int64, int96, float, double, byte array, fixed number
# of bytes. Byte arrays are strings, decoded as numbers of a dictionary; a fixed number of bytes is float16.
_VALUE_BYTES = (1, 4, 8, 12, 4, 8, 4, 2)
_LEVEL_BYTES = 4  # of the levels that say to which list a value belongs
_ENTRY_BYTES = 16  # of the entry of a dictionary
# The structures of the format, as far as they are needed.
_PAGE_HEADER: Mapping[int, Wanted] = {
    1: I32,  # type
    2: I32,  # uncompressed_page_size
    3: I32,  # compressed_page_size
    5: {1: I32, 2: I32},  # data_page_header: num_values, encoding
    7: {1: I32},  # dictionary_page_header: num_values
    8: {1: I32, 4: I32},  # data_page_header_v2: num_values, encoding
}
_META_DATA: Mapping[int, Wanted] = {
    5: I64,  # num_values
    7: I64,  # total_compressed_size
    9: I64,  # data_page_offset
    11: I64,  # dictionary_page_offset
}
_FOOTER: Mapping[int, Wanted] = {
    2: [{1: I32, 4: BINARY, 5: I32}],  # schema: type, name, num_children
    4: [{1: [{1: BINARY, 3: _META_DATA}], 3: I64}],  # row_groups: columns (file_path, meta_data), num_rows
}
_OPTIONS: dict[str, Any] = dict(
    memory_map=False,
    pre_buffer=False,
    buffer_size=_READ_BUFFER,
    thrift_string_size_limit=MAX_FOOTER_BYTES,
    thrift_container_size_limit=MAX_FOOTER_BYTES,
    page_checksum_verification=True,
)
_PARQUET_ERRORS = (
    pa.ArrowException,
    OSError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    OverflowError,
    RecursionError,
    MemoryError,
)


@dataclass(frozen=True)
class _Leaf:
    """A column as it is stored: a list of lists of floats is one column of floats.

    Attributes:
        path: names from the top, joined by dots.
        value_bytes: of a value in memory.
    """

    path: str
    value_bytes: int


class SafeParquet:
    """A file whose footer was checked. A context manager that closes it.

    Args:
        path: of the file.
        strings: names of columns of strings that are read as dictionaries where the file has them so: a long one that
            is in many rows is then in memory once.

    Attributes:
        schema: of the rows, as Arrow.
        group_rows: rows of each row group.

    Raises:
        ValueError: it is refused; see the module.
    """

    def __init__(self, path: Path, strings: Collection[str] = ()) -> None:
        self._path = path
        self._size = path.stat().st_size
        footer = _read_footer(path, self._size)
        with self._refusing():
            content = Compact(footer, MAX_STRUCTURES).struct(_FOOTER)
            self._leaves = _leaves(content.get(2, []))
            self._groups = content.get(4, [])
            self.group_rows = [_count(group, 3) for group in self._groups]
        rows = sum(self.group_rows)
        if rows > max(self._size, FREE_ROWS):
            raise ValueError(
                f"{path.name} must not have more rows than bytes, but it says {rows:,} rows and has {self._size:,} "
                "bytes; it is damaged: write or download it again."
            )
        with self._refusing():
            dictionaries = [name for name in strings if self._has_dictionary(name)]
            self._file = pq.ParquetFile(path, read_dictionary=dictionaries, **_OPTIONS)
        try:
            with self._refusing():
                self.schema: pa.Schema = self._file.schema_arrow
        except ValueError:
            self._file.close()
            raise

    def __enter__(self) -> SafeParquet:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, t: TracebackType | None) -> None:
        self._file.close()

    def check_columns(self, names: Collection[str]) -> int:
        """Check the pages of some columns.

        Returns:
            Bytes that these columns take in memory, all rows together, roughly.

        Raises:
            ValueError: they are refused; see the module.
        """
        with self._path.open("rb") as file:
            return sum(self._check_group(file, index, names) for index in range(len(self._groups)))

    def batches(self, groups: list[int], names: list[str], rows: int) -> Iterator[pa.RecordBatch]:
        """Some columns of some row groups, a few rows after the other. `check_columns` comes first, once.

        Raises:
            ValueError: pyarrow finds the file damaged.
        """
        with self._refusing():
            batches = self._file.iter_batches(batch_size=rows, row_groups=groups, columns=names, use_threads=False)
        while True:
            with self._refusing():
                batch = next(batches, None)
                if batch is None:
                    return
                batch.validate(full=True)
            if len(batch):
                yield batch

    def _has_dictionary(self, name: str) -> bool:
        """Whether a column begins with a dictionary in some row group."""
        column = next((index for index, leaf in enumerate(self._leaves) if leaf.path == name), None)
        if column is None:
            return False
        with self._path.open("rb") as file:
            for group in self._groups:
                for chunk in group.get(1, [])[column : column + 1]:
                    meta = chunk.get(3, {})
                    start, left = self._range(meta)
                    if _count(meta, 5) and _read_page_header(file, start, left)[0].get(1) == _DICTIONARY_PAGE:
                        return True
        return False

    def _range(self, chunk: Mapping[int, Any]) -> tuple[int, int]:
        """Where a column of a row group begins in the file, and how many bytes it has."""
        start, size = _count(chunk, 9), _count(chunk, 7)
        if 0 < chunk.get(11, 0) < start:
            start = chunk[11]
        if start + size > self._size:
            raise ValueError(f"a column is said to end at {start + size:,}, behind the file")
        return start, size

    def _check_group(self, file: BinaryIO, index: int, names: Collection[str]) -> int:
        memory = compressed = 0
        with self._refusing():
            chunks = self._groups[index].get(1, [])
            if len(chunks) != len(self._leaves):
                raise ValueError(f"row group {index} has {len(chunks)} columns and the schema {len(self._leaves)}")
            for leaf, chunk in zip(self._leaves, chunks, strict=True):
                if leaf.path.partition(".")[0] in names:
                    where = f"`{leaf.path}` of row group {index}"
                    if chunk.get(1):
                        raise ValueError(f"{where} lies in another file, {chunk[1]!r:.100}")
                    memory += self._check_chunk(file, chunk.get(3, {}), leaf, where, self.group_rows[index])
                    compressed += _count(chunk[3], 7)
        largest = max(MAX_RATIO * compressed, FREE_BYTES)
        if memory > largest:
            raise ValueError(
                f"a row group must take at most {MAX_RATIO} times its bytes in the file, or {FREE_BYTES >> 20} MB, but "
                f"row group {index} of {self._path.name} takes {memory:,} bytes of memory and has {compressed:,}; "
                "write smaller row groups, and null for a sequence that a row lacks."
            )
        return memory

    def _check_chunk(self, file: BinaryIO, chunk: Mapping[int, Any], leaf: _Leaf, where: str, rows: int) -> int:
        """Go through the headers of the pages of a column; returns the bytes of memory that decoding it takes."""
        (start, left), said = self._range(chunk), _count(chunk, 5)
        values = memory = pages = 0
        while values < said:
            pages += 1
            if pages > MAX_PAGES:
                raise ValueError(f"{where} has more than {MAX_PAGES:,} pages")
            header, size = _read_page_header(file, start, left)
            size += _count(header, 3)
            start, left = start + size, left - size
            if left < 0:
                raise ValueError(f"a page of {where} goes beyond the column")
            in_page, in_memory = _check_page(header, where)
            values, memory = values + in_page, memory + in_memory
        if values != said or values < rows:
            raise ValueError(f"{where} has {values:,} values in its pages, {said:,} by the footer, and {rows:,} rows")
        return memory + values * (leaf.value_bytes + _LEVEL_BYTES)

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        """Turn what pyarrow and the headers raise on faulty files into one kind of error."""
        try:
            yield
        except _PARQUET_ERRORS as error:
            raise ValueError(
                f"{self._path.name} must be a whole Parquet file, but it cannot be read "
                f"({' '.join(str(error).split()):.300}); it is damaged, cut off, or uses something that is not "
                "supported: write or download it again."
            ) from error


def _read_footer(path: Path, size: int) -> bytes:
    with path.open("rb") as file:
        file.seek(max(size - 8, 0))
        end = file.read(8)
        if size < 12 or end[4:] != _MAGIC:
            what = "is encrypted, which is not supported" if end[4:] == b"PARE" else "does not"
            raise ValueError(
                f"{path.name} must end as a Parquet file does, but it {what}; download it again, or write it again "
                "without encryption."
            )
        length = int.from_bytes(end[:4], "little")
        largest = min(max(size // _FOOTER_SHARE, FREE_FOOTER_BYTES), MAX_FOOTER_BYTES, size - 12)
        if length > largest:
            raise ValueError(
                f"the footer of {path.name} must have at most {largest:,} bytes, but it says {length:,}; the file is "
                "damaged, or has far too many row groups: write it again."
            )
        file.seek(size - 8 - length)
        return file.read(length)


def _leaves(elements: list[dict[int, Any]]) -> list[_Leaf]:
    """The columns as they are stored, from the elements of the schema, each followed by its children."""
    leaves: list[_Leaf] = []
    # On the way down from the root: the name of each element, and how many of its children are still to come.
    names: list[str] = []
    left: list[int] = []
    for element in elements:
        while left and not left[-1]:
            left.pop()
            names.pop()
        if left:
            left[-1] -= 1
        elif names or leaves:
            raise ValueError("its schema has several roots")
        name, children = element.get(4, b"").decode("utf-8"), element.get(5, 0)
        if children > 0 or not left and not leaves:
            names.append(name)
            left.append(children)
        else:
            kind = element.get(1, -1)
            if not 0 <= kind < len(_VALUE_BYTES):
                raise ValueError(f"the column {name!r:.100} has the unknown type {kind}")
            leaves.append(_Leaf(".".join([*names[1:], name]), _VALUE_BYTES[kind]))
        if len(left) > MAX_DEPTH:
            raise ValueError(f"its columns are nested deeper than {MAX_DEPTH} lists")
    return leaves


def _read_page_header(file: BinaryIO, start: int, left: int) -> tuple[dict[int, Any], int]:
    """The header of the page that begins there, and its size."""
    file.seek(start)
    thrift = Compact(file.read(min(_MAX_PAGE_HEADER, left)), len(_PAGE_HEADER))
    return thrift.struct(_PAGE_HEADER), thrift.position


def _check_page(header: Mapping[int, Any], where: str) -> tuple[int, int]:
    """(values that a page adds to its column, bytes that it takes in memory)."""
    unpacked, kind = _count(header, 2), header.get(1)
    if unpacked > MAX_PAGE_BYTES:
        raise ValueError(f"a page of {where} has {unpacked:,} bytes, more than {MAX_PAGE_BYTES:,}")
    if kind == _DICTIONARY_PAGE:
        entries = _count(header.get(7, {}), 1)
        if entries > unpacked:
            raise ValueError(f"the dictionary of {where} is said to have {entries:,} entries in {unpacked:,} bytes")
        return 0, unpacked + entries * _ENTRY_BYTES
    if kind not in (_DATA_PAGE, _DATA_PAGE_V2):
        raise ValueError(f"a page of {where} is of an unknown kind")
    data = header.get(5 if kind == _DATA_PAGE else 8, {})
    if data.get(2 if kind == _DATA_PAGE else 4) == _DELTA_BYTE_ARRAY:
        raise ValueError(f"{where} has strings as differences (DELTA_BYTE_ARRAY): write them plain or as a dictionary")
    return _count(data, 1), unpacked


def _count(fields: Mapping[int, Any], number: int) -> int:
    """A number of 0 or more that must be there."""
    value = cast("int | None", fields.get(number))
    if value is None or value < 0:
        raise ValueError(f"a header says {value} where it must have a number of 0 or more")
    return value
