"""Arrays within an HDF5 file, read by rows from the file itself.

The HDF5 library says where an array lies; the bytes are read and unpacked here. The library grows its buffers to
whatever a packed chunk unpacks to, a thousand times its size; here a chunk that unpacks to more than it declares is
refused, so that memory is bounded by the declared sizes, and those by what is stored. Sources: the file format
specification of the HDF Group (https://support.hdfgroup.org/documentation/hdf5/latest/_f_m_t3.html), section III.E for
the global heap.
"""

from __future__ import annotations

import itertools
import math
import os
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from datasets_scripts.csd.csd_filters import BrokenRuleError, can_unpack_to, known_filter, max_unpacked, unpack

# Bytes of one array, all its rows; of one chunk; and of one string. Chunks of one array.
MAX_ARRAY_BYTES = 1 << 30
MAX_CHUNK_BYTES = 1 << 28
MAX_STRING_BYTES = 1 << 10
_MAX_CHUNKS = 1 << 18
_MAX_DIMENSIONS = 8

# A string of any length is kept in a heap; the array has its length, the address of a collection, and an index in it.
_HEAP_REFERENCE = np.dtype([("length", "<u4"), ("address", "<u8"), ("index", "<u4")])


# What h5py raises for damaged files, as was found with some ten thousand of them.
_DAMAGE = (OSError, KeyError, RuntimeError, TypeError, AttributeError, OverflowError, ValueError, MemoryError)


@contextmanager
def naming(where: str) -> Iterator[None]:
    """Make a ValueError with the place in it of a broken rule, and of what h5py raises."""
    try:
        yield
    except BrokenRuleError as error:
        raise ValueError(f"{where} {error}") from error
    except _DAMAGE as error:
        reason = f"{type(error).__name__}: {str(error)[:200]}"
        raise ValueError(
            f"{where} cannot be read ({reason}); it is damaged, or no file of CMU-MultimodalSDK: download it again."
        ) from error


class RawFile:
    """The bytes of a file."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb", buffering=0)
        self.size = os.fstat(self._file.fileno()).st_size

    def close(self) -> None:
        self._file.close()

    def read(self, offset: int, size: int) -> bytes:
        """`size` bytes from `offset` on. Raises BrokenRuleError where the file ends before."""
        if offset + size > self.size:
            raise BrokenRuleError(
                f"reaches to byte {offset + size}, but the file has {self.size}; it is damaged or was cut off: "
                "download it again."
            )
        self._file.seek(offset)
        data = self._file.read(size)
        if len(data) != size:
            raise BrokenRuleError("became shorter while it was read; do not change the file meanwhile.")
        return data


class StoredArray:
    """An array of numbers or strings, (rows, ...); further dimensions are flattened.

    Args:
        dataset: a low-level h5py dataset; its values are not read through it.
        file: the file that it is in.
        where: its name, for messages.

    Attributes:
        shape: as declared.
        stored_bytes: what it takes in the file.
        bytes: what it takes in memory.

    Raises:
        BrokenRuleError: the array does not lie in this file as a whole, or not within the bounds of this module.
    """

    def __init__(self, dataset: Any, file: RawFile, where: str) -> None:
        import h5py

        plan = dataset.get_create_plist()
        layout = plan.get_layout()
        # Before anything else: the shape of a virtual array may be looked up in the files that it names.
        if layout not in (h5py.h5d.CONTIGUOUS, h5py.h5d.CHUNKED) or plan.get_external_count():
            raise BrokenRuleError(
                "must lie in the file itself, contiguous or chunked, but it is virtual, compact or in another file; "
                "write it again with mmdatasdk, or with h5repack."
            )
        self.shape = _shape(dataset)
        self.where = where
        self._dtype = _dtype(dataset)
        self._file = file
        self._filters = [known_filter(plan.get_filter(index)) for index in range(plan.get_nfilters())]
        self._chunk_shape: tuple[int, ...] | None = None
        self._unpacked: dict[tuple[int, ...], np.ndarray] = {}
        self.bytes = size = _checked_size(self.shape, self._item)
        if layout == h5py.h5d.CHUNKED:
            self._chunk_shape = _chunk_shape(plan, self._item)
            self._chunks = _stored_chunks(dataset, self.shape, self._chunk_shape)
            self.stored_bytes = sum(chunk.size for chunk in self._chunks.values())
            possible = size <= max_unpacked(self.stored_bytes, len(self._chunks))
        else:
            self._offset = dataset.get_offset() or 0  # None where there is nothing to store
            self.stored_bytes = dataset.get_storage_size()
            possible = self.stored_bytes == size and self._offset + size <= file.size
        if not possible or self.stored_bytes > file.size:
            raise BrokenRuleError(
                f"declares the shape {self.shape}, {size} bytes, but {self.stored_bytes} bytes are stored in a file of "
                f"{file.size}; it is damaged or was cut off: download it again."
            )

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def width(self) -> int:
        """Items per row."""
        return math.prod(self.shape[1:])

    @property
    def is_text(self) -> bool:
        """Whether the items are strings."""
        return self._dtype is None or self._dtype.kind == "S"

    @property
    def _item(self) -> np.dtype:
        """How an item lies in the file."""
        return _HEAP_REFERENCE if self._dtype is None else self._dtype

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Rows from `start` up to, not including, `stop`: (stop - start, width), in the type of the file.

        Chunks of the last rows are kept unpacked for the next call. Raises ValueError where the file is damaged.
        """
        if stop <= start:
            return np.zeros((0, self.width), self._item)
        with naming(self.where):
            read = self._read_plain if self._chunk_shape is None else self._read_chunks
            return read(start, stop).reshape(stop - start, self.width)

    def strings(self) -> list[bytes]:
        """All items of an array of strings, in order. Raises ValueError as `rows`, or where one is too long."""
        items = self.rows(0, len(self)).reshape(-1)
        if self._dtype is None:
            with naming(self.where):
                return list(_heap_strings(items, self._file))
        return [item.partition(b"\0")[0].rstrip() for item in items.tolist()]

    def _read_plain(self, start: int, stop: int) -> np.ndarray:
        row_bytes = self.width * self._item.itemsize
        return np.frombuffer(self._file.read(self._offset + start * row_bytes, (stop - start) * row_bytes), self._item)

    def _read_chunks(self, start: int, stop: int) -> np.ndarray:
        assert self._chunk_shape is not None
        height, *others = self._chunk_shape
        bands = range(start // height * height, stop, height)
        self._unpacked = {offset: chunk for offset, chunk in self._unpacked.items() if offset[0] in bands}
        rows = np.empty((stop - start, *self.shape[1:]), self._item)
        for band in bands:
            self._unpacked = {offset: chunk for offset, chunk in self._unpacked.items() if offset[0] >= band}
            first, last = max(start, band), min(stop, band + height)
            for corner in _grid(self.shape[1:], others):
                offset = (band, *corner)
                if offset not in self._unpacked:
                    self._unpacked[offset] = self._unpack(self._chunks[offset])
                # Chunks at the edge reach beyond the array.
                inside = [min(side, end - at) for side, end, at in zip(others, self.shape[1:], corner, strict=True)]
                target = [slice(at, at + size) for at, size in zip(corner, inside, strict=True)]
                source = [slice(size) for size in inside]
                chunk = self._unpacked[offset]
                rows[(slice(first - start, last - start), *target)] = chunk[(slice(first - band, last - band), *source)]
        return rows

    def _unpack(self, chunk: Any) -> np.ndarray:
        assert self._chunk_shape is not None
        expected = math.prod(self._chunk_shape) * self._item.itemsize
        filters = [item for place, item in enumerate(self._filters) if not chunk.filter_mask >> place & 1]
        if not can_unpack_to(expected, chunk.size, filters):
            raise BrokenRuleError(
                f"declares chunks of {expected} bytes, but one takes {chunk.size} bytes in the file; it is damaged: "
                "download it again."
            )
        data = unpack(self._file.read(chunk.byte_offset, chunk.size), filters, expected)
        return np.frombuffer(data, self._item).reshape(self._chunk_shape)


def _shape(dataset: Any) -> tuple[int, ...]:
    shape = dataset.shape
    if not shape or len(shape) > _MAX_DIMENSIONS:
        raise BrokenRuleError(
            f"must have 1 to {_MAX_DIMENSIONS} dimensions, but its shape is {shape}; write it as (n, d)."
        )
    return tuple(int(size) for size in shape)


def _dtype(dataset: Any) -> np.dtype | None:
    from h5py import h5t

    kind = dataset.get_type()
    if kind.get_class() == h5t.STRING:
        if kind.is_variable_str():
            return None
        if 1 <= kind.get_size() <= MAX_STRING_BYTES:
            return np.dtype(f"S{kind.get_size()}")
    elif kind.get_class() in (h5t.INTEGER, h5t.FLOAT) and kind.get_size() in (1, 2, 4, 8):
        dtype = dataset.dtype
        # An odd float is read by the library as a wider one, which is not how it lies in the file.
        if dtype.kind in "fiu" and h5t.py_create(dtype) == kind:
            return dtype
    raise BrokenRuleError(
        f"must hold integers or floats of up to 8 bytes, or strings of up to {MAX_STRING_BYTES}, but it is of another "
        "type; write it again with mmdatasdk as one of these."
    )


def _checked_size(shape: tuple[int, ...], item: np.dtype) -> int:
    """Bytes of an array in memory."""
    size = math.prod(shape) * item.itemsize
    if size > MAX_ARRAY_BYTES:
        raise BrokenRuleError(
            f"has the shape {shape}, {size} bytes, but {MAX_ARRAY_BYTES} bytes are the most for one video; it is "
            "damaged, or the video must be divided."
        )
    if not size and shape[0]:
        raise BrokenRuleError(f"must have at least one number per step, but its shape is {shape}; leave the video out.")
    return size


def _chunk_shape(plan: Any, item: np.dtype) -> tuple[int, ...]:
    shape = tuple(int(side) for side in plan.get_chunk())
    if not 0 < math.prod(shape) * item.itemsize <= MAX_CHUNK_BYTES:
        raise BrokenRuleError(
            f"has chunks of the shape {shape}, but {MAX_CHUNK_BYTES} bytes are the most for one; it is damaged, or "
            "must be written again with smaller chunks."
        )
    return shape


def _grid(shape: Iterable[int], sides: Iterable[int]) -> Iterator[tuple[int, ...]]:
    """Where the chunks of an array begin."""
    yield from itertools.product(*(range(0, size, side) for size, side in zip(shape, sides, strict=True)))


def _stored_chunks(dataset: Any, shape: tuple[int, ...], sides: tuple[int, ...]) -> dict[tuple[int, ...], Any]:
    """The stored chunks by where they begin; BrokenRuleError where they are not those of the shape."""
    wanted = math.prod(len(range(0, size, side)) for size, side in zip(shape, sides, strict=True))
    if wanted > _MAX_CHUNKS:
        raise BrokenRuleError(
            f"has {wanted} chunks, but {_MAX_CHUNKS} are the most; write it again with larger chunks."
        )
    found: list[Any] = []

    def take(chunk: Any) -> bool | None:
        found.append(chunk)
        return True if len(found) > wanted else None  # ends the walk: a damaged index may lead in circles

    dataset.chunk_iter(take)
    chunks = {tuple(chunk.chunk_offset): chunk for chunk in found}
    known = all(chunk.size for chunk in found) and all(offset in chunks for offset in _grid(shape, sides))
    if len(found) != wanted or not known:
        raise BrokenRuleError(
            f"declares the shape {shape} in {wanted} chunks, but other chunks are stored; it is damaged or was never "
            "written as a whole: download the file again."
        )
    return chunks


def _heap_strings(references: np.ndarray, file: RawFile) -> Iterator[bytes]:
    """The strings that an array refers to.

    Raises:
        BrokenRuleError: one is too long, a reference leads nowhere, or the collections overlap.
    """
    collections: dict[int, dict[int, bytes]] = {}
    left = file.size  # collections lie beside each other: all of them are not more than the file
    for length, address, index in references.tolist():
        if not length:
            yield b""
            continue
        if length > MAX_STRING_BYTES:
            raise BrokenRuleError(
                f"must hold strings of up to {MAX_STRING_BYTES} bytes, but one has {length}; is it a sequence of words?"
            )
        if address not in collections:
            collections[address], size = _read_collection(address, left, file)
            left -= size
        item = collections[address].get(index)
        if item is None or len(item) < length:
            raise BrokenRuleError("refers to a string that the file does not hold; it is damaged: download it again.")
        yield item[:length].rstrip(b"\0")


def _read_collection(address: int, limit: int, file: RawFile) -> tuple[dict[int, bytes], int]:
    """The objects of a collection of the global heap by index, and the bytes of the collection."""
    signature, _, size = struct.unpack("<4s4sQ", file.read(address, 16))
    if signature != b"GCOL" or not 16 <= size <= limit:
        raise BrokenRuleError("refers to a heap that the file does not hold; it is damaged: download it again.")
    data = file.read(address, size)
    objects: dict[int, bytes] = {}
    at = 16
    while at + 16 <= size:
        index, length = struct.unpack_from("<H6xQ", data, at)
        if index == 0:  # the free space, which is the last
            break
        if at + 16 + length > size:
            raise BrokenRuleError("holds a heap whose objects are larger than it; it is damaged: download it again.")
        objects[index] = bytes(data[at + 16 : at + 16 + length])
        at += 16 + -(-length // 8) * 8
    return objects, size
