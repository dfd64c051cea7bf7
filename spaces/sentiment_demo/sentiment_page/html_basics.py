"""Text and numbers as they stand on the page. All that comes from outside goes through `escaped`."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

NAMES = {"text": "Text", "audio": "Sound", "vision": "Picture"}
MINUS = "\u2212"  # a screen reader says "minus" for this one, and nothing for a hyphen

# The page's templates would read these two as code.
_TEMPLATE_CODE = {"$": "&#36;", "{": "&#123;", "`": "&#96;"}


def escaped(text: Any) -> str:
    """Text that is shown as it is, whatever it holds: in HTML, in attributes, and in the templates of Gradio."""
    safe = html.escape(str(text), quote=True)
    for character, entity in _TEMPLATE_CODE.items():
        safe = safe.replace(character, entity)
    return safe


def signed(value: float, digits: int = 2) -> str:
    """1.234 as +1.23. The sign is that of the value, even where the digits are zeros."""
    sign = "+" if value > 0 else MINUS if value < 0 else ""
    return f"{sign}{abs(float(value)):.{digits}f}"


def seconds(value: float) -> str:
    """2.04 as 2.0 s, and 75.04 as 1:15.0."""
    minutes, rest = divmod(round(float(value), 1), 60)
    return f"{int(minutes)}:{rest:04.1f}" if minutes else f"{rest:.1f} s"


def percent(value: float) -> str:
    return f"{100 * float(value):.0f} %"


def direction(value: float) -> str:
    """Which way a number points: a part of class names."""
    return "positive" if value > 0 else "negative" if value < 0 else "neutral"


def number(value: Any) -> float | None:
    """The value where it is a number."""
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def table(caption: str, head: Sequence[str], rows: Sequence[Sequence[str]], hidden_caption: bool = False) -> str:
    """A table of cells that are HTML already; the first cell of a row is its heading."""
    caption_class = ' class="sd-hidden"' if hidden_caption else ""
    cells = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    body = "".join(
        f'<tr><th scope="row">{row[0]}</th>' + "".join(f"<td>{cell}</td>" for cell in row[1:]) + "</tr>" for row in rows
    )
    return (
        f'<table class="sd-table"><caption{caption_class}>{caption}</caption>'
        f"<thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table>"
    )


def details(summary: str, content: str) -> str:
    """A part that is folded."""
    return f'<details class="sd-details"><summary>{summary}</summary><div class="sd-scroll">{content}</div></details>'


def jump(time: float, can_jump: bool) -> str:
    """A time, as a button that moves the video there."""
    if not can_jump:
        return seconds(time)
    return (
        f'<button type="button" class="sd-jump" data-time="{time:.3f}" aria-label="Go to {seconds(time)}">'
        f"{seconds(time)}</button>"
    )
