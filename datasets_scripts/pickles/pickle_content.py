"""Bytes of a pickle: read in order and never past the end, mapped into memory where they are the content of arrays."""

from __future__ import annotations

import codecs
import mmap
import struct
from typing import Any, BinaryIO

import numpy as np

_PIECE = 1 << 20


class Content:
    """A file that is read from its beginning to its end.

    A size that the file announces is compared with what is left of the file before anything is made of that size.

    Attributes:
        bytes: the file; what is not read through the methods here is read at `at`, and moves it on.
        at: position of the next byte.
        size: bytes of the file, at least 1.
    """

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.bytes = _mapped(file)
        self.at = 0
        self.size = size
        self._file = file

    def skip(self, size: int) -> int:
        """Go `size` bytes on; the position before. Raises EOFError where the file is shorter."""
        start = self.at
        if not 0 <= size <= self.size - start:
            raise EOFError(f"{size} bytes are announced and {self.size - start} are left")
        self.at = start + size
        return start

    def read(self, size: int) -> bytes:
        start = self.skip(size)
        return self.bytes[start : self.at]

    def read_number(self, form: struct.Struct) -> Any:
        """The next number. Raises struct.error where the file is shorter."""
        (number,) = form.unpack_from(self.bytes, self.at)
        self.at += form.size
        return number

    def find_line(self, longest: int | None = None) -> int:
        """Size of the line that begins here, without its end. Raises EOFError where it has none or is too long."""
        stop = self.size if longest is None else min(self.size, self.at + longest + 1)
        end = self.bytes.find(b"\n", self.at, stop)
        if end < 0:
            raise EOFError("the end of a line is missing" if stop == self.size else "a number or a name is too long")
        return end - self.at

    def read_line(self, longest: int | None = None) -> bytes:
        line = self.read(self.find_line(longest))
        self.at += 1
        return line

    def read_array(self, size: int) -> np.ndarray:
        """(size,) uint8, read-only. It takes no memory of its own, and keeps the file mapped."""
        return np.frombuffer(self.bytes, np.uint8, size, self.skip(size))

    def read_latin1(self, size: int, encoding: str) -> np.ndarray:
        """The latin1 bytes of a text of `size` bytes in another encoding, (characters,) uint8.

        It is read piece by piece and not mapped, so that nothing but the result takes memory.
        """
        self._file.seek(self.skip(size))
        decoder = codecs.getincrementaldecoder(encoding)()
        characters = np.empty(size, np.uint8)  # each takes at least a byte in the file
        count = 0
        for left in range(size, 0, -_PIECE):
            text = decoder.decode(self._file.read(min(_PIECE, left)), final=left <= _PIECE)
            part = np.frombuffer(text.encode("latin1"), np.uint8)
            characters[count : count + part.size] = part
            count += part.size
        characters.resize(count, refcheck=False)
        return characters


def _mapped(file: BinaryIO) -> Any:
    """The file mapped into memory, or its bytes where the file system does not map files."""
    try:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError:
        file.seek(0)
        return file.read()
