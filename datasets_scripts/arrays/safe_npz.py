"""Read arrays of an `.npz` archive without trusting it: nothing is unpickled, and no size is believed unchecked.

An archive is refused, with a ValueError that says why and what to do, where

- it is no whole zip file, it holds something else than `NAME.npy`, or two members of one name;
- a name is absolute or leads out of the archive;
- a member is encrypted, or packed otherwise than stored or deflated, which is all that NumPy writes;
- its members together unpack to more than `MAX_RATIO` times the archive and more than `FREE_BYTES`: a bomb;
- an array that is read is of Python objects, or of anything else than numbers, booleans and text;
- the shape and the dtype of an array do not give the size of its member, or a dimension is larger than the number of
  bytes of the archive (or than `FREE_DIMENSION`): rows without content would cost memory all the same;
- the arrays that are read do not fit into the memory of the machine;
- what is unpacked does not have the declared size and CRC.

Only the members that are asked for are unpacked, piece by piece into an array of the size that was checked before.
"""

from __future__ import annotations

import io
import os
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

# Deflate reaches 1032:1, on zeros; feature archives are far below, and what is small does no harm at any ratio.
MAX_RATIO = 200
FREE_BYTES = 64 << 20
FREE_DIMENSION = 100_000
MAX_ARRAYS = 10_000

_MAX_READ = 4 << 20  # of the archive at once, its table of contents included
_PIECE = 1 << 20
_MAX_HEADER = 10_000  # characters, as NumPy's own limit; headers of plain arrays have about 100
_PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 0x1 | 0x40
# What `zipfile` raises on faulty input.
_ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    RuntimeError,
    OverflowError,
    ValueError,
    IndexError,
)


@dataclass(frozen=True)
class ArrayHeader:
    """What a member says of its array, checked.

    Attributes:
        shape: of the array.
        dtype: of numbers, booleans or text.
        fortran_order: whether the first index changes fastest.
        offset: bytes of the member before the values.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    fortran_order: bool
    offset: int

    @property
    def count(self) -> int:
        return _product(self.shape)

    @property
    def is_text(self) -> bool:
        return self.dtype.kind in "US"


class NpzArchive:
    """The arrays of an archive by name, in the order of the archive. A context manager that closes the file.

    Raises:
        ValueError: it is refused; see the module.
    """

    def __init__(self, path: Path) -> None:
        self._bytes = path.stat().st_size
        self._file = _BoundedReads(path)
        try:
            with _refusing("the archive"):
                self._zip = zipfile.ZipFile(self._file)  # type: ignore[arg-type]
            self._members = _checked_members(self._zip.infolist(), self._bytes)
        except BaseException:
            self._file.close()
            raise
        self._headers: dict[str, ArrayHeader] = {}

    def __enter__(self) -> NpzArchive:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, t: TracebackType | None) -> None:
        self._zip.close()
        self._file.close()

    @property
    def names(self) -> list[str]:
        return list(self._members)

    def header(self, name: str) -> ArrayHeader:
        """Shape and dtype of an array, without its values.

        Raises:
            ValueError: it is refused.
        """
        if name not in self._headers:
            with _refusing(f"`{name}`"), self._zip.open(self._members[name]) as member:
                start = member.read(_MAX_HEADER + 100)
            self._headers[name] = self._checked_header(name, start)
        return self._headers[name]

    def check_memory(self, names: Iterable[str]) -> None:
        """Raise ValueError unless these arrays together fit into the memory of the machine."""
        total, memory = sum(self._members[name].file_size for name in names), _memory()
        if memory is not None and total > memory:
            raise ValueError(
                f"the arrays of an .npz are read into memory, but these have {total:,} bytes and the machine has "
                f"{memory:,}; write the rows as Parquet, which is read piece by piece."
            )

    def read(self, name: str) -> np.ndarray:
        """An array.

        Raises:
            ValueError: it is refused.
        """
        header = self.header(name)
        with _refusing(f"`{name}`"), self._zip.open(self._members[name]) as member:
            member.read(header.offset)
            array = _read_values(member, header)
        if header.dtype.kind == "b":  # any other byte in a boolean is undefined
            array = array != 0
        elif header.dtype.kind == "U":
            _check_characters(name, array)
        return array.reshape(header.shape, order="F" if header.fortran_order else "C")

    def _checked_header(self, name: str, start: bytes) -> ArrayHeader:
        shape, fortran_order, dtype, offset = _parse_header(name, start)
        if dtype.hasobject:
            raise ValueError(
                f"`{name}` must be an array of numbers or text, but it holds Python objects, which are never "
                "unpickled; pad sequences of different lengths into one array of numbers, with their lengths under "
                f"`{name}_lengths`, or make text an array of strings (`numpy.array(texts, dtype=str)`), and save again."
            )
        if dtype.kind not in "biufUS":
            raise ValueError(
                f"`{name}` must be an array of numbers or text, but its dtype is {dtype}; save it as float32, as "
                "whole numbers or as strings."
            )
        header = ArrayHeader(shape, dtype, fortran_order, offset)
        declared, found = offset + header.count * dtype.itemsize, self._members[name].file_size
        if declared != found:
            raise ValueError(
                f"`{name}` must have the size that its shape {shape} and dtype {dtype} give, {declared:,} bytes, but "
                f"it has {found:,}; the archive is damaged: write or download it again."
            )
        largest = max(self._bytes, FREE_DIMENSION)
        if any(size > largest for size in shape):
            raise ValueError(
                f"`{name}` must not have more rows, steps or features than the archive has bytes, but its shape is "
                f"{shape}; check how it was written."
            )
        return header


class _BoundedReads(io.RawIOBase):
    """A file that refuses to be read in large pieces: `zipfile` reads a table of contents whole, whatever its size."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")

    def read(self, size: int | None = -1) -> bytes:
        data = self._file.read(_MAX_READ + 1 if size is None or size < 0 else min(size, _MAX_READ + 1))
        if len(data) > _MAX_READ:
            raise ValueError(f"its table of contents has more than {_MAX_READ:,} bytes")
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self._file.close()
        super().close()


def _checked_members(infos: list[zipfile.ZipInfo], archive_bytes: int) -> dict[str, zipfile.ZipInfo]:
    """The members by the name of their array."""
    names = [info.filename for info in infos]
    if any(name.rpartition("/")[2] == "data.pkl" for name in names):
        raise ValueError(
            "an .npz holds arrays that NumPy wrote, but this is an archive that `torch.save` wrote, with a pickle "
            "inside; load it where it was made and save its arrays with `numpy.savez_compressed`."
        )
    if not names or len(names) > MAX_ARRAYS:
        raise ValueError(f"an .npz must hold 1 to {MAX_ARRAYS:,} arrays, but this one holds {len(names):,}; check it.")
    members: dict[str, zipfile.ZipInfo] = {}
    for info in infos:
        _check_member(info)
        name = info.filename.removesuffix(".npy")
        if members.setdefault(name, info) is not info:
            raise ValueError(f"an .npz must hold each array once, but {name!r} is in it twice; write it again.")
    total, largest = sum(info.file_size for info in infos), max(MAX_RATIO * archive_bytes, FREE_BYTES)
    if total > largest:
        raise ValueError(
            f"an .npz must unpack to at most {MAX_RATIO} times its size, or {FREE_BYTES >> 20} MB, but its arrays have "
            f"{total:,} bytes and the archive {archive_bytes:,}; leave arrays of zeros only out, or save it "
            "uncompressed with `numpy.savez`."
        )
    return members


def _check_member(info: zipfile.ZipInfo) -> None:
    name = info.filename
    parts = name.replace("\\", "/").split("/")
    if name != info.orig_filename or parts[0] == "" or ".." in parts or ":" in parts[0]:
        raise ValueError(
            f"an .npz must hold arrays under plain names, but one is {info.orig_filename!r:.200}; it was not written "
            "by NumPy: save the arrays again with `numpy.savez`."
        )
    if not name.endswith(".npy") or name == ".npy":
        raise ValueError(
            f"an .npz must hold NAME.npy alone, but there is {name!r:.200}; if this is another kind of archive, unpack "
            "it and name the file inside that you mean."
        )
    if info.flag_bits & _ENCRYPTED or info.compress_type not in _PACKINGS:
        how = "encrypted" if info.flag_bits & _ENCRYPTED else f"packed with method {info.compress_type} of zip"
        raise ValueError(
            f"an .npz must be stored or deflated, but {name!r:.200} is {how}; unpack it and save the arrays with "
            "`numpy.savez`."
        )


def _parse_header(name: str, start: bytes) -> tuple[tuple[int, ...], bool, np.dtype, int]:
    """Shape, order and dtype of the array that begins like this, and where its values begin."""
    stream, reading = io.BytesIO(start), np.lib.format
    try:
        version = reading.read_magic(stream)
        readers: dict[tuple[int, int], Any] = {
            (1, 0): reading.read_array_header_1_0,
            (2, 0): reading.read_array_header_2_0,
        }
        if version not in readers:
            raise ValueError(f"its format is version {version}, which plain arrays do not have")
        shape, fortran_order, dtype = readers[version](stream, max_header_size=_MAX_HEADER)
        shape = tuple(int(size) for size in shape)
        if any(size < 0 for size in shape):
            raise ValueError(f"its shape is {shape}")
    except Exception as error:  # of Python's parser and tokenizer, which NumPy calls, many kinds
        raise ValueError(
            f"`{name}` must be an array that NumPy wrote, but its header cannot be read ({str(error):.200}); the "
            "archive is damaged or was written by something else: write or download it again."
        ) from error
    return shape, fortran_order, dtype, stream.tell()


def _read_values(member: Any, header: ArrayHeader) -> np.ndarray:
    """The values in one dimension; they reach to the end of the member, which is where its CRC is compared."""
    try:
        array = np.empty(header.count, np.uint8 if header.dtype.kind == "b" else header.dtype)
    except MemoryError as error:
        raise ValueError(f"there is no memory for its {header.count * header.dtype.itemsize:,} bytes") from error
    view = array.view(np.uint8).data if array.nbytes else memoryview(b"")
    position = 0
    while position < len(view):
        piece = member.read(min(_PIECE, len(view) - position))
        if not piece:
            raise ValueError(f"it ends after {position:,} of {len(view):,} bytes")
        view[position : position + len(piece)] = piece
        position += len(piece)
    return array


def _check_characters(name: str, array: np.ndarray) -> None:
    """Raise where an array of text holds what is no character; Python would fail on it later, at some other place."""
    if not array.dtype.itemsize:
        return
    width = array.dtype.itemsize // 4
    step = max(_PIECE // width, 1)
    for start in range(0, len(array), step):
        codes = array[start : start + step].view(array.dtype.byteorder + "u4").reshape(-1, width)
        wrong = (codes > 0x10FFFF) | ((codes >= 0xD800) & (codes < 0xE000))
        if wrong.any():
            row, column = np.argwhere(wrong)[0]
            raise ValueError(
                f"`{name}` must hold text, but entry {start + row} has the code {codes[row, column]:#x}, which is no "
                "character; write the text again, decoded with `errors='replace'`."
            )


@contextmanager
def _refusing(what: str) -> Iterator[None]:
    """Turn what `zipfile` raises on faulty archives into one kind of error."""
    try:
        yield
    except _ZIP_ERRORS as error:
        raise ValueError(
            f"{what} must be whole and as `numpy.savez` writes it, but it cannot be read ({str(error):.200}); it is "
            "damaged or cut off: write or download the file again."
        ) from error


def _memory() -> int | None:
    """Bytes of memory that the machine has; None where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def _product(shape: tuple[int, ...]) -> int:
    product = 1
    for size in shape:
        product *= size
    return product
