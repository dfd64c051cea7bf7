"""What the page says of its checkpoints: in the words of their cards."""

from __future__ import annotations

from pathlib import Path

from sentiment_page.html_basics import escaped

QUICKSTART = "quickstart"
"""What the names of checkpoints begin with that `make demo` trains."""


def about(name: str) -> str:
    """A paragraph on one checkpoint: what it is, what it was trained on, and how far to trust it."""
    title = card_title(name)
    said = f"<b>{escaped(short_name(name))}</b>" + (f" is {escaped(title)}." if title else ".")
    if "synthetic" in (title or "").lower() or short_name(name).startswith(QUICKSTART):
        return (
            f'<p class="sd sd-about">{said} Its data are made by a program, so it is a demonstration of the path from '
            "a clip to a sentiment, not of quality: what it says of real people means nothing.</p>"
        )
    return (
        f'<p class="sd sd-about">{said} It is often wrong, above all on speakers, languages and recordings unlike '
        "those that it was trained on. Do not decide anything about a person with it.</p>"
    )


def card_title(name: str) -> str | None:
    """The first heading of a checkpoint's card, such as "Self-MM, trained on CMU-MOSI"; None where there is none."""
    try:
        if Path(name).is_dir():
            text = (Path(name) / "README.md").read_text(encoding="utf-8")
        else:
            from huggingface_hub import ModelCard

            text = ModelCard.load(name).text
    except Exception:  # a card is nice to have: the Hub may be away, and a folder need not have one
        return None
    headings = (line[2:].strip() for line in text.splitlines() if line.startswith("# "))
    return next(headings, None)


def short_name(name: str) -> str:
    """A folder by its own name, a checkpoint of the Hub by its full one."""
    return Path(name).name if Path(name).is_dir() else name
