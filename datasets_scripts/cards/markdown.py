"""Markdown of strings that may hold anything: names and keys of a source must not become markup, tables or HTML."""

from __future__ import annotations

import re
from collections.abc import Iterable

from datasets_scripts.report import one_line

# What stands for itself in Markdown, HTML and a table cell, in code and outside of it.
_PLAIN_CODE = re.compile(r"[\w .,:;/()\[\]{}'\"^$@#%?!+*=~-]+")
_SPECIAL = re.compile(r"[&<>|`*\[\]\\~#$]|(?<![^\W_])_|_(?![^\W_])")
# What would make a list, a rule or a heading of the line that it begins.
_BLOCK_START = re.compile(r"(\d*)([-+=.)])")
_CODE_SPAN = re.compile(r"`([^`]+)`")
MAX_LETTERS = 1000


def prose(text: str) -> str:
    """Text within a line, in which only `code` between single backticks is markup."""
    parts = _CODE_SPAN.split(_shortened(text))
    return "".join(code(part) if index % 2 else _entities(part) for index, part in enumerate(parts))


def item(mark: str, text: str) -> str:
    """Text as an item of a list, with the mark "-" or a number with a point."""
    text = prose(text)
    start = _BLOCK_START.match(text)
    return f"{mark} " + (f"{start[1]}{_entity(start[2])}{text[start.end() :]}" if start else text)


def code(text: str) -> str:
    """Text as code within a line."""
    text = _shortened(text)
    if text.strip() and _PLAIN_CODE.fullmatch(text):
        return f"`{text}`"
    return f"<code>{_entities(text)}</code>"


def table(header: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """A table, or an empty string where there are no rows. Numbers stand on the right, with commas.

    Cells are Markdown already: give names through `code`, sentences through `prose`.
    """
    rows = [list(row) for row in rows]
    if not rows:
        return ""
    numeric = [all(isinstance(cell, int) for cell in column) for column in zip(*rows, strict=True)]
    lines = [list(header), ["---:" if right else "---" for right in numeric], *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(cell: object) -> str:
    return f"{cell:,}" if isinstance(cell, int) else str(cell)


def _entities(text: str) -> str:
    return _SPECIAL.sub(lambda found: _entity(found.group()), text)


def _entity(letter: str) -> str:
    return f"&#{ord(letter)};"


def _shortened(text: str) -> str:
    text = one_line(text).strip()
    return text if len(text) <= MAX_LETTERS else f"{text[:MAX_LETTERS]}... ({len(text) - MAX_LETTERS} letters more)"
