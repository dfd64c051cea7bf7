"""How chunks of an HDF5 array are packed, and unpacking them to no more than they declare.

Sources: the filters of HDF5 (https://support.hdfgroup.org/documentation/hdf5/latest/_f_i_l_t_e_r.html), and for LZF the
format of Marc Lehmann's liblzf, which h5py writes.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np

Filter = tuple[int, tuple[int, ...]]  # its number and its parameters

_DEFLATE, _SHUFFLE, _FLETCHER32, _LZF = 1, 2, 3, 32000
_NAMES = {_DEFLATE: "gzip", _SHUFFLE: "shuffle", _FLETCHER32: "fletcher32", _LZF: "lzf"}
_FLETCHER32_BYTES = 4
_MAX_ITEM_BYTES = 1 << 10

# Deflate packs at most 1032 bytes into one, and LZF fewer; some bytes more for what surrounds them.
_MAX_RATIO = 1032
_OVERHEAD = 1 << 10


class BrokenRuleError(ValueError):
    """What is wrong with an array or a file; the message begins with a verb, for whoever knows the place."""


def known_filter(entry: tuple) -> Filter:
    """The filter of (number, flags, parameters, name); BrokenRuleError where it is none that is read here."""
    code, _, parameters, name = entry
    if code not in _NAMES:
        raise BrokenRuleError(
            f"must be packed with one of {sorted(_NAMES.values())}, but it is with filter {code} ({name[:40]!r}); "
            "write it again with gzip, as `h5repack -f GZIP=4 OLD NEW` does."
        )
    return code, tuple(parameters)


def max_unpacked(stored: int, chunks: int = 1) -> int:
    """The most bytes that chunks of so many stored bytes can hold."""
    return _MAX_RATIO * stored + _OVERHEAD * chunks


def can_unpack_to(expected: int, stored: int, filters: Sequence[Filter]) -> bool:
    """Whether a chunk of `expected` bytes can take `stored` bytes in the file."""
    is_packed = any(code in (_DEFLATE, _LZF) for code, _ in filters)
    most = max_unpacked(stored) if is_packed else stored
    return expected <= most and stored <= 2 * expected + _OVERHEAD


def unpack(data: bytes, filters: Sequence[Filter], expected: int) -> bytes:
    """The `expected` bytes of a chunk to which these filters were applied, in this order.

    Raises:
        BrokenRuleError: the chunk holds something else; it is not unpacked further than that.
    """
    limit = expected + _FLETCHER32_BYTES * len(filters)
    for code, parameters in reversed(filters):
        if code == _FLETCHER32:
            data = data[:-_FLETCHER32_BYTES]  # not compared: gzip has a sum of its own
        elif code == _DEFLATE:
            data = _inflate(data, limit)
        elif code == _LZF:
            data = _unpack_lzf(data, limit)
        else:
            data = _unshuffle(data, parameters)
    if len(data) != expected:
        raise BrokenRuleError(
            f"declares chunks of {expected} bytes, but one unpacks to {len(data)}; it is damaged: download the file "
            "again."
        )
    return data


def _inflate(data: bytes, limit: int) -> bytes:
    stream = zlib.decompressobj()
    try:
        unpacked = stream.decompress(data, limit + 1)
    except zlib.error as error:
        raise BrokenRuleError(f"holds gzip data that cannot be unpacked ({error}); download the file again.") from error
    if not stream.eof or len(unpacked) > limit:
        raise BrokenRuleError(
            "holds gzip data that is cut off or unpacks to more than it declares; download the file again."
        )
    return bytes(unpacked)


def _unpack_lzf(data: bytes, limit: int) -> bytes:
    """Literals (control below 32) and copies of what was unpacked before, until the data ends."""
    unpacked = bytearray()
    at = 0
    try:
        while at < len(data) and len(unpacked) <= limit:
            control = data[at]
            at += 1
            if control < 32:
                unpacked += data[at : at + control + 1]
                at += control + 1
                continue
            length = control >> 5
            if length == 7:
                length += data[at]
                at += 1
            distance = ((control & 31) << 8 | data[at]) + 1
            at += 1
            length += 2
            if distance > len(unpacked):
                raise IndexError
            copied = unpacked[len(unpacked) - distance :]
            unpacked += (copied * (length // distance + 1))[:length]
    except IndexError as error:
        raise BrokenRuleError("holds lzf data that cannot be unpacked; download the file again.") from error
    return bytes(unpacked)


def _unshuffle(data: bytes, values: tuple[int, ...]) -> bytes:
    """The first bytes of all items, then the second ones, ..., back to items; what is left over lies behind."""
    size = values[0] if values else 0
    if not 1 <= size <= _MAX_ITEM_BYTES:
        raise BrokenRuleError(f"was shuffled by items of {size} bytes, which cannot be; download the file again.")
    count = len(data) // size
    bytes_of_items = np.frombuffer(data, np.uint8, count * size).reshape(size, count)
    return bytes_of_items.T.tobytes() + data[count * size :]
