"""Transcripts: what was said, word by word, and when; from text, text files and subtitles."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from processing.subtitles import Cue, read_cues

SUBTITLE_SUFFIXES = (".srt", ".vtt")
TRANSCRIPT_SUFFIXES = (".txt", *SUBTITLE_SUFFIXES)
_SUFFIXES_IN_WORDS = ", ".join(TRANSCRIPT_SUFFIXES)
# What a string ends in that is a file's name, if not of one that can be read.
_OTHER_SUFFIXES = (".ass", ".sbv", ".ttml", ".json", ".csv", ".pdf", ".doc", ".docx", ".rtf", ".mp4", ".wav", ".mp3")
_FILE_SUFFIXES = TRANSCRIPT_SUFFIXES + _OTHER_SUFFIXES
MAX_BYTES = 16 << 20  # of a file; an hour of speech is about 60 kB

_BYTE_ORDER_MARKS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
# Scripts that are written without spaces between words; a name of a character starts with one of these.
_SPACELESS = ("CJK UNIFIED", "CJK COMPATIBILITY", "HIRAGANA", "KATAKANA", "BOPOMOFO", "THAI", "LAO", "KHMER", "MYANMAR")
_LATE_SECONDS = 0.5  # how much later than the clip a cue may end without a note


@dataclass(frozen=True)
class Word:
    """
    A word as it is written, with the punctuation that touches it.

    Args:
        text (`str`): The word.
        start, end (`float`, *optional*): When it is said, in seconds from the start of the clip; both None where
            nothing is known of its time.
        before (`str`): What stands between the word before and this one: spaces, or nothing.
    """

    text: str
    start: float | None = None
    end: float | None = None
    before: str = " "

    @property
    def middle(self) -> float | None:
        return None if self.start is None or self.end is None else (self.start + self.end) / 2


@dataclass(frozen=True)
class Transcript:
    """
    What was said in a clip.

    Args:
        words (tuple of `Word`): In the order of the text. Where languages have no spaces between words, a word is one
            character.
        timing (`str`): Where the words' times come from: "words" (each has its own), "cues" (each subtitle or segment
            has one, and its words share it by their length) or "spread" (the words share the clip by their length, or
            have no times).
        notes (tuple of `str`): What a person should know of how it was read, a sentence each.
    """

    words: tuple[Word, ...] = ()
    timing: str = "spread"
    notes: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The words with the spaces between them."""
        return "".join(word.before + word.text for word in self.words).strip()

    @property
    def timed(self) -> bool:
        """Whether every word has a time."""
        return all(word.middle is not None for word in self.words)

    def clipped(self, start: float, stop: float) -> Transcript:
        """
        The words whose middle lies in [start, stop), in seconds, with their times as they are.

        Raises:
            ValueError: where words have no times.
        """
        if not self.timed:
            raise ValueError(
                "The words of this transcript have no times, so none can be said to lie in a part of the clip; read it "
                "with `seconds`, the clip's length."
            )
        return replace(self, words=tuple(word for word in self.words if start <= word.middle < stop))  # type: ignore[operator]

    def between(self, start: float, stop: float) -> str:
        """The text of the words whose middle lies in [start, stop), in seconds."""
        return self.clipped(start, stop).text

    def shifted(self, seconds: float) -> Transcript:
        """The same words, said `seconds` later; words without times stay so."""
        moved = (
            word
            if word.start is None or word.end is None
            else replace(word, start=word.start + seconds, end=word.end + seconds)
            for word in self.words
        )
        return replace(self, words=tuple(moved))


def split_words(text: str, before: str = "") -> list[Word]:
    """
    Words of a text, without times. They are what stands between spaces; where a script has none, each character is one.

    Args:
        text (`str`): The text.
        before (`str`): What stands before its first word, if the text does not start with spaces.
    """
    words = []
    for match in re.finditer(r"(\s*)(\S+)", text):
        space = match[1] or before
        for piece in _pieces(match[2]):
            words.append(Word(piece, before=space))
            space = ""
        before = " "
    return words


def spread(words: Iterable[Word], start: float, stop: float) -> list[Word]:
    """The same words, one after the other over [start, stop], each for as long as its share of the characters."""
    words = list(words)
    total = sum(len(word.text) for word in words)
    timed, position = [], 0
    for word in words:
        begin = start + (stop - start) * position / total
        position += len(word.text)
        timed.append(replace(word, start=begin, end=start + (stop - start) * position / total))
    return timed


def plain_transcript(text: str, seconds: float | None = None) -> Transcript:
    """
    A transcript of text alone.

    Args:
        text (`str`): What is said.
        seconds (`float`, *optional*): Length of the clip, over which the words are spread; without it they have no
            times.
    """
    words = split_words(text)
    return Transcript(tuple(words if seconds is None else spread(words, 0.0, seconds)), "spread")


def read_transcript(source: str | Path, seconds: float | None = None) -> Transcript:
    """
    The transcript of a clip from its text, a text file or subtitles.

    Args:
        source (`str` or `Path`): The text itself, or the path of a .txt, .srt or .vtt file in UTF-8, or in UTF-16 with
            a byte order mark. A string that looks like a path is one; `plain_transcript` takes any text.
        seconds (`float`, *optional*): Length of the clip. Plain text is spread over it; subtitles that start after it
            are left out, with a note.

    Raises:
        FileNotFoundError: for a path that does not exist.
        ValueError: for another kind of file, one that is empty or not text, malformed subtitles, subtitles of another
            clip, and text without words.
    """
    if seconds is not None and not 0 < seconds < float("inf"):
        raise ValueError(f"`seconds` must be the clip's length, more than 0; got {seconds!r}.")
    if isinstance(source, str) and not _looks_like_path(source):
        if not source.strip():
            raise ValueError("`transcript` is a text without words; leave it out if there is none.")
        return plain_transcript(source, seconds)
    path = os.path.expanduser(source)
    suffix = os.path.splitext(path)[1].lower()
    if not os.path.isfile(path):
        what = "is a folder" if os.path.isdir(path) else "does not exist"
        raise FileNotFoundError(
            f"`transcript` {str(source)!r} looks like a file's path, but {what}; give the text itself, or the path of "
            f"a {_SUFFIXES_IN_WORDS} file."
        )
    if suffix not in TRANSCRIPT_SUFFIXES:
        raise ValueError(f"`transcript` must be a text or a {_SUFFIXES_IN_WORDS} file; got {str(source)!r}.")
    text = _read_text(path)
    if suffix in SUBTITLE_SUFFIXES:
        return _from_cues(*read_cues(text, path, webvtt=suffix == ".vtt"), path, seconds)
    return plain_transcript(text, seconds)


def _from_cues(cues: list[Cue], notes: list[str], name: str, seconds: float | None) -> Transcript:
    cues = sorted(cues, key=lambda cue: cue.start)
    notes = list(notes)
    if seconds is not None:
        inside = [cue for cue in cues if cue.start < seconds]
        if not inside:
            raise ValueError(
                f"The subtitles {name} start at {cues[0].start:.2f} s, after the end of the clip ({seconds:.2f} s); "
                "they seem to be of another clip, or of the recording that it was cut from."
            )
        if len(inside) < len(cues):
            notes.append(
                f"{len(cues) - len(inside)} of {len(cues)} subtitles start after the end of the clip and are left out."
            )
        late = sum(cue.end > seconds + _LATE_SECONDS for cue in inside)
        if late:
            notes.append(f"{late} subtitles end after the clip; their words are taken to be said before its end.")
        cues = [cue.until(seconds) for cue in inside]
    if any(after.start < before.end for before, after in zip(cues, cues[1:], strict=False)):
        notes.append("Some subtitles overlap in time; their words stand one subtitle after the other.")
    words: list[Word] = []
    each_timed = True
    for cue in cues:
        before = " "
        for segment in cue.segments:
            found = split_words(segment.text, before)
            words.extend(spread(found, segment.start, segment.end))
            each_timed &= len(found) <= 1
            before = " " if segment.text[-1:].isspace() else "" if found else before
    return Transcript(tuple(words), "words" if each_timed else "cues", tuple(notes))


def _looks_like_path(text: str) -> bool:
    """Whether a string means a file: it ends as one, or starts as an absolute or relative path and has no spaces."""
    text = text.strip()
    if "\n" in text:
        return False
    rooted = re.match(r"(/|\.{1,2}/|~|\\\\|[A-Za-z]:[\\/])\S+$", text) is not None
    return rooted or text.lower().endswith(_FILE_SUFFIXES)


def _read_text(path: str) -> str:
    size = os.path.getsize(path)
    if size > MAX_BYTES:
        raise ValueError(
            f"The transcript {path} has {size} bytes; at most {MAX_BYTES} are read, which is days of speech."
        )
    content = Path(path).read_bytes()
    encoding = next((name for mark, name in _BYTE_ORDER_MARKS.items() if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"The transcript {path} is not {encoding.removesuffix('-sig').upper()} text: byte {error.start} cannot be "
            f"decoded ({error.reason}). Save it as UTF-8."
        ) from None
    if "\0" in text:
        raise ValueError(f"The transcript {path} is not a text: it contains a zero character.")
    if not text.strip():
        raise ValueError(f"The transcript {path} is empty; leave it out if there is none.")
    return text


def _pieces(token: str) -> Iterator[str]:
    """Parts of what stands between two spaces: itself, or the characters of a script that has no spaces."""
    piece, closed = "", False  # closed: the next letter starts another piece
    for character in token:
        spaceless = unicodedata.name(character, "").startswith(_SPACELESS) and _is_letter(character)
        opening = unicodedata.category(character) in ("Ps", "Pi")
        starts = spaceless or (closed and (_is_letter(character) or opening))
        if starts and any(_is_letter(other) for other in piece):
            yield piece
            piece = ""
        closed = spaceless or (closed and not _is_letter(character))
        piece += character
    yield piece


def _is_letter(character: str) -> bool:
    """Whether it is part of a word by itself; marks and punctuation go with what is before them."""
    return unicodedata.category(character)[0] in "LN"
