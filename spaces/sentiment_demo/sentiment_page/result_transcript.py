"""The words of a clip, coloured and marked by what each adds to the score, and the same as a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sentiment_page.html_basics import details, direction, escaped, jump, number, signed, table

_TIMING = {
    "words": "Each word has its own time.",
    "cues": "Words are spread over their subtitle.",
    "spread": "The words are spread over the clip: nobody measured when each is said.",
}
# Words below this share of the strongest one stay plain, those above it have an arrow too.
_PLAIN, _STRONG = 0.1, 0.5
_UP, _DOWN = "\u25b2", "\u25bc"


def transcript(analysis: Mapping[str, Any], can_jump: bool) -> str:
    """
    Args:
        analysis: As the pipeline gives it; without a transcript the answer is empty.
        can_jump: Whether there is a video, which a click on a word moves.
    """
    found = analysis.get("transcript")
    if not found or not found.get("words"):
        return ""
    words = found["words"]
    shares = [number(word.get("contribution")) for word in words]
    strongest = max((abs(share) for share in shares if share is not None), default=0.0)
    timed = can_jump and any(word.get("end") is not None for word in words)
    spoken = " ".join(_word(word, share, strongest, timed) for word, share in zip(words, shares, strict=True))
    known = any(share is not None for share in shares)
    timing = _TIMING.get(str(found.get("timing"))) if analysis.get("seconds") else None
    explained = f'<p class="sd-small">{timing}</p>' if timing else ""
    return (
        f'<section class="sd" aria-label="Transcript"><h2>Words</h2>{_legend(strongest) if known else ""}'
        f'<p class="sd-words">{spoken}</p>{explained}{_as_table(words, shares, timed) if known else ""}</section>'
    )


def _word(word: Mapping[str, Any], share: float | None, strongest: float, timed: bool) -> str:
    time = f' data-time="{float(word["start"]):.3f}"' if timed and word.get("start") is not None else ""
    text = escaped(word.get("text", ""))
    weight = 0.0 if share is None or strongest == 0 else abs(share) / strongest
    if share is None or weight < _PLAIN:
        return f'<span class="sd-word"{time}>{text}</span>'
    way = direction(share)
    arrow = ""
    if weight >= _STRONG:
        arrow = f'<span class="sd-arrow" aria-hidden="true">{_UP if share > 0 else _DOWN}</span>'
    return (
        f'<span class="sd-word sd-word-{way}" style="--sd-weight:{weight:.2f}" title="{signed(share, 3)}"{time}>'
        f"{arrow}{text}</span>"
    )


def _legend(strongest: float) -> str:
    raises, lowers = (
        f'<span class="sd-word sd-word-{way}" style="--sd-weight:.7">{text}</span>'
        for way, text in (("positive", f"{_UP} solid line"), ("negative", f"{_DOWN} dashed line"))
    )
    return (
        f'<p class="sd-small">{raises}: the word raises the score. {lowers}: it lowers it. An arrow stands before the '
        f"strongest words; the strongest changes the score by {strongest:.3f}.</p>"
    )


def _as_table(words, shares, timed: bool) -> str:
    rows = []
    for position, (word, share) in enumerate(zip(words, shares, strict=True), start=1):
        start = number(word.get("start"))
        rows.append(
            [
                str(position),
                escaped(word.get("text", "")),
                "\u2013" if start is None or word.get("end") is None else jump(start, timed),
                "\u2013" if share is None else signed(share, 3),
            ]
        )
    return details(
        "The words as a table", table("Words", ["Number", "Word", "Said at", "Adds"], rows, hidden_caption=True)
    )
