"""Rows of a .csv or .tsv file, one at a time and within bounded memory.

`csv.reader` alone reads a line of any length, takes a quote that is never closed as one cell up to the end of the file,
and its limit of a cell is a setting of the whole process. Here the file is read in binary lines of bounded length, and
each row says where it begins, so that a part of the file can be read again without the rest.

A file is refused, with a ValueError that names the line, where

- a row, which quoted line breaks may spread over several lines, has more than `MAX_ROW_BYTES`;
- a cell has more than `MAX_CELL_CHARACTERS`, or there are more than `MAX_COLUMNS` or `MAX_ROWS`;
- a row has more or fewer cells than the header;
- there are NUL bytes, or a quote is not closed, or something follows a closing quote.

Lines end in LF or CRLF. Empty lines are skipped.
"""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

MAX_ROW_BYTES = 1 << 20
# What `csv` admits by default. Checked here too, because any part of the process may have raised it.
MAX_CELL_CHARACTERS = 131_072
MAX_COLUMNS = 1_000
MAX_ROWS = 10_000_000

_MAX_SHOWN = 60


class TableRow(NamedTuple):
    """One row: where it begins (bytes from the start of the file, line from 1), and its cells."""

    offset: int
    line: int
    cells: list[str]


@dataclass(frozen=True)
class TableFile:
    """A table whose header has been read.

    Attributes:
        path: of the file.
        encoding: "utf-8" or another one in which the bytes of a line break are part of no other character.
        delimiter: between cells.
        header: the first row, without a byte order mark.
    """

    path: Path
    encoding: str
    delimiter: str
    header: tuple[str, ...]

    @classmethod
    def open(cls, path: Path, encoding: str, delimiter: str) -> TableFile:
        """Read the header.

        Raises:
            ValueError: there is none, or it breaks a rule of the module. UnicodeDecodeError: it is of another encoding.
        """
        first = next(_read(path, encoding, delimiter, 0, 1), None)
        if first is None:
            raise ValueError("the table must begin with a row of column names, but it is empty; add one.")
        if len(first.cells) > MAX_COLUMNS:
            raise ValueError(
                f"a table must have at most {MAX_COLUMNS} columns, but this one has {len(first.cells)}; "
                "take out those that are neither text nor labels."
            )
        return cls(path, encoding, delimiter, tuple(first.cells))

    def rows(self) -> Iterator[TableRow]:
        """The rows after the header. Errors as `open`."""
        rows = _read(self.path, self.encoding, self.delimiter, 0, 1)
        next(rows, None)
        yield from self._whole(rows)

    def rows_from(self, offset: int, line: int) -> Iterator[TableRow]:
        """The rows from the one on that begins there. Errors as `open`."""
        return self._whole(_read(self.path, self.encoding, self.delimiter, offset, line))

    def _whole(self, rows: Iterable[TableRow]) -> Iterator[TableRow]:
        for row in rows:
            if len(row.cells) != len(self.header):
                raise ValueError(
                    f"each row must have as many cells as the header, {len(self.header)}, but line {row.line} has "
                    f"{len(row.cells)}; put a cell that holds {self.delimiter!r} into double quotes, or add the cells "
                    "that are missing."
                )
            yield row


def shown(value: str) -> str:
    """A value in quotes for a message, cut where it is long."""
    return repr(value if len(value) <= _MAX_SHOWN else value[:_MAX_SHOWN] + "...")


def _read(path: Path, encoding: str, delimiter: str, offset: int, line: int) -> Iterator[TableRow]:
    with path.open("rb") as file:
        file.seek(offset)
        lines = _Lines(file, encoding, offset, line)
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        for count in itertools.count():
            lines.begin_row()
            try:
                cells = next(reader, None)
            except csv.Error as error:
                raise ValueError(
                    f"the row that begins at line {lines.row_line} cannot be read ({error}); check its quotes and line "
                    "ends: a cell that holds the delimiter, a quote or a line break stands in double quotes, a quote "
                    "in it is doubled, and lines end in LF or CRLF."
                ) from error
            if cells is None:
                return
            if count > MAX_ROWS:
                raise ValueError(
                    f"a table must have at most {MAX_ROWS:,} rows, empty lines included, but there is another one at "
                    f"line {lines.row_line}; split it."
                )
            if lines.row_bytes > MAX_CELL_CHARACTERS and max(map(len, cells)) > MAX_CELL_CHARACTERS:
                raise ValueError(
                    f"a cell must have at most {MAX_CELL_CHARACTERS:,} characters, but one in the row that begins at "
                    f"line {lines.row_line} has more; check that its quotes are closed."
                )
            if cells:
                yield TableRow(lines.row_offset, lines.row_line, cells)


class _Lines:
    """Decoded lines for `csv.reader`, which takes as many as a row has.

    Attributes:
        row_offset, row_line: where the row begins that is being read.
        row_bytes: how much of it was read.
    """

    def __init__(self, file: BinaryIO, encoding: str, offset: int, line: int) -> None:
        self._file = file
        self._encoding = encoding
        self._next_offset = offset
        self._next_line = line
        self.begin_row()

    def begin_row(self) -> None:
        self.row_offset, self.row_line, self.row_bytes = self._next_offset, self._next_line, 0

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        raw = self._file.readline(MAX_ROW_BYTES - self.row_bytes + 1)
        if not raw:
            raise StopIteration
        if b"\0" in raw:
            raise ValueError(
                f"a table must not hold NUL bytes, but line {self._next_line} does; it is no text, or in UTF-16: save "
                'it as UTF-8 ("CSV UTF-8" in spreadsheet programs).'
            )
        if self.row_bytes + len(raw) > MAX_ROW_BYTES:
            raise ValueError(
                f"a row must have at most {MAX_ROW_BYTES:,} bytes, but the one that begins at line {self.row_line} has "
                "more; check that its quotes are closed, that lines end in LF or CRLF, and that this is a table."
            )
        # No character of several bytes holds the byte of a line break, so a line decodes apart from the others.
        text = raw.decode(self._encoding)
        if self._next_offset == 0:
            text = text.removeprefix("\ufeff")
        self.row_bytes += len(raw)
        self._next_offset += len(raw)
        self._next_line += 1
        return text
