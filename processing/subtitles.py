"""
Subtitles: SubRip (.srt) and WebVTT (.vtt), as they are found, down to the times of words.

WebVTT is as in https://www.w3.org/TR/webvtt1/; its settings, regions, styles and comments are left out, and so are the
tags of both. SubRip has no standard: times may have a point or a comma, or no fraction, and blank lines within or no
blank line between subtitles are read as what they mean.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass, field, replace

SHORTEST_SECONDS = 0.01  # of what was said at the end of a clip, or after it

_TIME = r"(?:(\d+):)?(\d{1,2}):(\d{1,2})(?:[.,](\d{1,3}))?"
_TIMES = re.compile(rf"\s*{_TIME}\s*-->\s*{_TIME}(?:\s.*)?$")
# What was meant to be a line of times.
_LIKE_TIMES = re.compile(r"\s*-?[\d:.,]*\d[\d:.,]*\s*-{1,2}>|\s*-->")
_WORD_TIME = re.compile(rf"<{_TIME}>")
_TAGS = re.compile(r"</?[A-Za-z][^<>]*>|\{\\[^{}]*\}|</>")
_ENTITY = re.compile(r"&#?\w+;")
_NOT_CUES = ("NOTE", "STYLE", "REGION")


@dataclass(frozen=True)
class Segment:
    """A part of a cue with a time of its own, in seconds."""

    start: float
    end: float
    text: str


@dataclass(frozen=True)
class Cue:
    """A subtitle: its time, in seconds, and its text, in one segment or in one for each time that stands in it."""

    start: float
    end: float
    segments: tuple[Segment, ...]

    def until(self, stop: float) -> Cue:
        """The cue, with nothing later than `stop`, and each segment with an instant before it."""
        latest = max(0.0, stop - SHORTEST_SECONDS)
        segments = tuple(replace(s, start=min(s.start, latest), end=min(s.end, stop)) for s in self.segments)
        return replace(self, end=min(self.end, stop), segments=segments)


@dataclass
class _Raw:
    """A cue as it stands in the file: its times, the number of its line, and the lines of its text."""

    start: float
    end: float
    place: int
    lines: list[str] = field(default_factory=list)


def read_cues(text: str, name: str, webvtt: bool) -> tuple[list[Cue], list[str]]:
    """
    The cues that have text, in the order of the file, and a note on what else of it is left out.

    Args:
        text (`str`): Content of the file.
        name (`str`): What to call it in errors.
        webvtt (`bool`): Whether it is WebVTT rather than SubRip.

    Raises:
        ValueError: for a line of times that cannot be read, an end before its start, and a file without cues; each with
            the line's number.
    """
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    if webvtt and not re.match(r"WEBVTT(\s|$)", lines[0]):
        raise ValueError(
            f"The subtitles {name} do not start with the line WEBVTT, as .vtt files do; line 1 is {lines[0]!r}."
        )
    raws, outside = _webvtt_cues(lines, name) if webvtt else _subrip_cues(lines, name)
    repeated = _leave_out_rolled_lines(raws) if webvtt else 0
    cues = [cue for raw in raws if (cue := _cue(raw, name)).segments]
    if not cues:
        raise ValueError(f"The subtitles {name} have no subtitle with text.")
    notes = []
    if outside:
        notes.append(f"{outside} lines of the subtitles have no time and are left out.")
    if repeated:
        notes.append(f"{repeated} lines are shown again above the next one, and count once.")
    return cues, notes


def _webvtt_cues(lines: list[str], name: str) -> tuple[list[_Raw], int]:
    """Cues of blocks: an optional name, times, text, up to a blank line; and how many lines are in other blocks."""
    cues: list[_Raw] = []
    outside = 0
    start = 0
    blank = [number for number, line in enumerate(lines) if not line.strip()]
    for stop in (*blank, len(lines)):
        block = lines[start:stop]
        if block and block[0].split()[0] not in _NOT_CUES:
            current = None
            for number, line in enumerate(block, start + 1):
                times = _times(line, number, name)
                if times:
                    current = _Raw(*times, number)
                    cues.append(current)
                elif current is not None:
                    current.lines.append(line)
            if current is None and start > 0:  # the block of line 1 is the header
                outside += len(block)
        start = stop + 1
    return cues, outside


def _subrip_cues(lines: list[str], name: str) -> tuple[list[_Raw], int]:
    """Cues from one line of times to the next; the number of the next does not belong to the text. And lines before."""
    cues: list[_Raw] = []
    before: list[str] = []
    for number, line in enumerate(lines, 1):
        times = _times(line, number, name)
        if times:
            _leave_out_number(cues[-1].lines if cues else before)
            cues.append(_Raw(*times, number))
        else:
            (cues[-1].lines if cues else before).append(line)
    return cues, sum(bool(line.strip()) for line in before)


def _leave_out_number(lines: list[str]) -> None:
    while lines and not lines[-1].strip():
        lines.pop()
    if lines and lines[-1].strip().isdigit():
        lines.pop()


def _times(line: str, number: int, name: str) -> tuple[float, float] | None:
    match = _TIMES.match(line)
    if match is None:
        if _LIKE_TIMES.match(line):
            raise ValueError(
                f"Line {number} of the subtitles {name} should have times, such as 00:01:02.500 --> 00:01:04.000, but "
                f"is {line.strip()!r}; correct it."
            )
        return None
    start, end = _seconds(match.groups()[:4], line, number, name), _seconds(match.groups()[4:], line, number, name)
    if end < start:
        raise ValueError(f"Line {number} of the subtitles {name} ends before it starts: {line.strip()!r}; correct it.")
    return start, end


def _seconds(parts, line: str, number: int, name: str) -> float:
    hours, minutes, seconds, fraction = parts
    if int(minutes) > 59 or int(seconds) > 59:
        raise ValueError(
            f"Line {number} of the subtitles {name} has a time with more than 59 minutes or seconds: {line.strip()!r}; "
            "correct it."
        )
    return int(hours or 0) * 3600 + int(minutes) * 60 + int(seconds) + float(f"0.{fraction or 0}")


def _leave_out_rolled_lines(cues: list[_Raw]) -> int:
    """
    Captions that roll, as those of YouTube, show each line again above the next one, without the times of its words;
    what is shown again is not said again. Returns how many lines that are.
    """
    if not any(_WORD_TIME.search(line) for cue in cues for line in cue.lines):
        return 0
    repeated = 0
    shown: list[str] = []
    for cue in cues:
        before, shown = shown, [_plain(line) for line in cue.lines]
        kept = [line for line in cue.lines if _WORD_TIME.search(line) or _plain(line) not in before]
        repeated += sum(bool(line.strip()) for line in cue.lines) - sum(bool(line.strip()) for line in kept)
        cue.lines = kept
    return repeated


def _cue(raw: _Raw, name: str) -> Cue:
    text = "\n".join(raw.lines)
    segments, start, position = [], raw.start, 0
    for match in _WORD_TIME.finditer(text):
        time = _seconds(match.groups(), match[0], raw.place, name)
        if not start <= time <= raw.end:
            raise ValueError(
                f"The subtitle of line {raw.place} of {name} has the time {match[0]}, which is not between the time "
                f"before it and its end, {raw.end:.3f} s; correct it."
            )
        segments.append(Segment(start, time, _plain(text[position : match.start()])))
        start, position = time, match.end()
    segments.append(Segment(start, raw.end, _plain(text[position:])))
    if not any(segment.text.strip() for segment in segments):
        segments = []
    return Cue(raw.start, raw.end, tuple(segments))


def _plain(text: str) -> str:
    """Text without tags and entities, in one line."""
    text = _TAGS.sub("", _WORD_TIME.sub("", text))
    return _ENTITY.sub(lambda match: html.unescape(match[0]), text).replace("\n", " ")
