"""Read Thrift structures in the compact protocol, which the headers of Parquet are, from bytes that may be anything.

What is read is what other readers of the same bytes read: a fault that some would pass over is an error here.
The protocol: https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

# Kinds of fields. A boolean is in its kind.
TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = range(1, 13)

# What is wanted of a value: its kind, or the fields of a structure by number, or in brackets what is wanted of each
# element of a list.
Wanted: TypeAlias = "int | Mapping[int, Wanted] | list[Wanted]"

_BITS = {I16: 16, I32: 32, I64: 64}
_MAX_DEPTH = 16
_MAX_FIELD = 2**15 - 1


class Compact:
    """Reads one value after the other from bytes.

    What is cut off, nested too deeply, out of range or unknown raises ValueError.

    Args:
        data: the bytes.
        structures: how many structures may be wanted, which bounds the memory that the result takes.

    Attributes:
        position: of the next byte.
    """

    def __init__(self, data: bytes, structures: int) -> None:
        self._data = data
        self._structures = structures
        self.position = 0

    def struct(self, wanted: Mapping[int, Wanted]) -> dict[int, Any]:
        """The fields that are wanted and there, by number. A field of another kind than wanted counts as not there."""
        self._structures -= 1
        if self._structures < 0:
            raise ValueError("a header has too many structures")
        found = {}
        number = 0
        while byte := self._byte():
            kind, previous = byte & 15, number
            number = number + (byte >> 4) if byte >> 4 else self._integer(I16)
            if not previous < number <= _MAX_FIELD:  # some would take the last of several, or count round
                raise ValueError("a header has fields that are not in order")
            if number in wanted and _kind_of(wanted[number]) == kind:
                found[number] = self._value(wanted[number])
            else:
                self._skip(kind, 0)
        return found

    def _value(self, wanted: Wanted) -> Any:
        if isinstance(wanted, Mapping):
            return self.struct(wanted)
        if isinstance(wanted, list):
            count, kind = self._list_header()
            if count and kind != _kind_of(wanted[0]):
                raise ValueError(f"a header has a list of the unexpected kind {kind}")
            return [self._value(wanted[0]) for _ in range(count)]
        if wanted == BINARY:
            length = self._varint()
            self._advance(length)
            return self._data[self.position - length : self.position]
        return self._integer(wanted)

    def _skip(self, kind: int, depth: int) -> None:
        if depth > _MAX_DEPTH:
            raise ValueError("a header is nested too deeply")
        if kind in _BITS:
            self._integer(kind)
        elif kind == BINARY:
            self._advance(self._varint())
        elif kind == STRUCT:
            while byte := self._byte():
                if not byte >> 4:
                    self._integer(I16)
                self._skip(byte & 15, depth + 1)
        elif kind in (LIST, SET):
            count, element = self._list_header()
            self._skip_all(count, (element,), depth)
        elif kind == MAP:
            count = self._varint()
            kinds = self._byte() if count else 0
            self._skip_all(count, (kinds >> 4, kinds & 15), depth)
        elif kind in (BYTE, DOUBLE):
            self._advance(1 if kind == BYTE else 8)
        elif kind not in (TRUE, FALSE):
            raise ValueError(f"a header has a field of the unknown kind {kind}")

    def _skip_all(self, count: int, kinds: tuple[int, ...], depth: int) -> None:
        """Skip the elements of a list or a map, where a boolean has a byte of its own."""
        for _ in range(count):
            for kind in kinds:
                self._skip(BYTE if kind in (TRUE, FALSE) else kind, depth + 1)

    def _list_header(self) -> tuple[int, int]:
        """(length, kind of the elements); each element has a byte at least."""
        byte = self._byte()
        count = self._varint() if byte >> 4 == 15 else byte >> 4
        if count > len(self._data) - self.position:
            raise ValueError("a list of a header is cut off")
        return count, byte & 15

    def _integer(self, kind: int) -> int:
        number = self._varint()
        if number >> _BITS[kind]:  # others would drop the upper bits
            raise ValueError(f"a header has a number of more than {_BITS[kind]} bits")
        return (number >> 1) ^ -(number & 1)

    def _varint(self) -> int:
        number = shift = 0
        while True:
            byte = self._byte()
            number |= (byte & 127) << shift
            if byte < 128:
                return number
            shift += 7
            if shift > 63:
                raise ValueError("a header has a number of more than 64 bits")

    def _byte(self) -> int:
        if self.position >= len(self._data):
            raise ValueError("a header is cut off")
        byte = self._data[self.position]
        self.position += 1
        return byte

    def _advance(self, count: int) -> None:
        if count > len(self._data) - self.position:
            raise ValueError("a header is cut off")
        self.position += count


def _kind_of(wanted: Wanted) -> int:
    if isinstance(wanted, int):
        return wanted
    return LIST if isinstance(wanted, list) else STRUCT
