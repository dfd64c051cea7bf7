"""What the .csd files of a source are for, and the frames of a video in one of them.

A sequence has one of the `ROLES`, found by what it holds and what it is called:

- strings are words, unless the name says phonemes;
- numbers are labels, audio, vision or text (word vectors) by the words in `_KEYWORDS`, looked for in the name of the
  file first, then in the name that the file gives the sequence.

What fits no role is left alone. Where several fit one, it is the first by name; the reader's options say otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from datasets_scripts.csd.csd_alignment import Timeline, checked_intervals
from datasets_scripts.csd.csd_arrays import StoredArray
from datasets_scripts.csd.csd_file import HDF5_START, CsdFile

ROLES = ("words", "text", "audio", "vision", "labels")
PAUSE = "sp"

_KEYWORDS = {
    "labels": ("label", "opinion"),
    "audio": ("covarep", "opensmile", "egemaps", "mfcc", "wav2vec", "hubert", "acoustic", "audio"),
    "vision": ("facet", "openface", "visual", "vision", "video"),
    "text": ("wordvector", "glove", "word2vec", "bert", "embedding"),
}
# An entry that the SDK has aligned: a part of a video, counted from 0.
_PART = re.compile(r"(.+)\[(\d+)\]", re.DOTALL)


@dataclass
class Selection:
    """The files of a source that are read.

    Attributes:
        files: by role, of `ROLES`.
        names: of these sequences, by role.
        ignored: names of the sequences that fit no role, or whose role another one has.
        warnings: what was chosen, for people.
    """

    files: dict[str, Path] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    ignored: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Candidate:
    path: Path
    names: tuple[str, str]  # of the file, and in it
    role: str | None


def select(path: Path, wanted: Mapping[str, str | None]) -> Selection:
    """The sequences of a file or folder by role.

    Args:
        path: a .csd file, or a folder with some; without any, its other HDF5 files.
        wanted: by role, the name of the sequence to take for it; None where it is found by looking.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a wanted name is not there, no sequence fits a role, or there are labels alone; and as `CsdFile`.
    """
    candidates = [_look_at(file) for file in _csd_files(path)]
    known = ", ".join(" or ".join(dict.fromkeys(candidate.names)) for candidate in candidates)
    selection = Selection()
    taken: dict[str, _Candidate] = {}
    for role, name in wanted.items():
        if name is not None:
            named = [candidate for candidate in candidates if name in (*candidate.names, candidate.path.name)]
            if not named:
                raise ValueError(
                    f"`{role}` must name a sequence of {path.name}, but it is {name!r}; there are {known}."
                )
            taken[role] = named[0]
    for role in ROLES:
        fitting = [one for one in candidates if one.role == role and one not in taken.values()]
        if role not in taken and fitting:
            taken[role] = fitting[0]
            if fitting[1:]:
                others = " and ".join(candidate.names[0] for candidate in fitting[1:])
                selection.warnings.append(
                    f"{role} was read from {fitting[0].names[0]}, the first by name; {others} would fit as well: "
                    f"choose with the option `{role}`"
                )
    if not taken or set(taken) == {"labels"}:
        what = "only labels" if taken else "no sequence of words, text, audio or vision"
        raise ValueError(
            f"{path.name} must hold words or features to be read, but it holds {what}; the sequences are {known}. Put "
            f"the others beside them, or say what they are with the options {', '.join(ROLES)}."
        )
    for role in ROLES:
        if role in taken:
            selection.files[role] = taken[role].path
            selection.names[role] = taken[role].names[0]
    selection.ignored = [one.names[0] for one in candidates if one not in taken.values()]
    return selection


def video_of(entry: str) -> tuple[str, str | None]:
    """The video of an entry, and which part of it: None for a whole one."""
    part = _PART.fullmatch(entry)
    return (part[1], part[2]) if part else (entry, None)


class Entries:
    """The entries of a sequence, found by those of another: a video by its parts, and a part by its video."""

    def __init__(self, names: list[str]) -> None:
        self._names = set(names)
        self._parts: dict[str, list[tuple[int, str]]] = {}
        for name in names:
            video, part = video_of(name)
            if part is not None:
                self._parts.setdefault(video, []).append((int(part), name))

    def find(self, entry: str) -> list[str]:
        """The entries that have the frames of an entry of another sequence, in order; empty where there are none."""
        if entry in self._names:
            return [entry]
        video, part = video_of(entry)
        if part is None:
            return [name for _, name in sorted(self._parts.get(entry, []))]
        return [video] if video in self._names else []


@dataclass
class Survey:
    """What a sequence declares, checked, nothing of it read.

    Attributes:
        width: numbers per frame.
        frames: how many frames each entry has.
    """

    width: int
    frames: dict[str, int]


class Sequence:
    """A .csd file in its role, open for reading; a context manager. Raises as `CsdFile`."""

    def __init__(self, role: str, path: Path) -> None:
        self.role = role
        self.file = CsdFile(path)
        self._entries: Entries | None = None

    def __enter__(self) -> Sequence:
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()

    def survey(self) -> Survey:
        """Look at all entries. Raises ValueError where they do not fit the role, each other or the file."""
        frames: dict[str, int] = {}
        width, unpacked, stored = None, 0, 0
        for entry in self.file.entries():
            features, intervals = self._arrays(entry)
            if width is None and len(features):
                width = features.width
            if len(features) and features.width != width:
                raise ValueError(
                    f"{features.where} must have {width} numbers per row, as the entries before it, but its shape is "
                    f"{features.shape}; correct it, or leave the video out."
                )
            frames[entry] = len(features)
            unpacked += features.bytes + intervals.bytes
            stored += features.stored_bytes + intervals.stored_bytes
        self.file.check_total(unpacked, stored)
        if width is None:
            raise ValueError(f"{self.file.path.name} must have a frame in some video, but it has none; take it away.")
        return Survey(width, frames)

    def track(self, entry: str) -> Track | None:
        """The frames of an entry of any sequence of the source; None where this one has none of them."""
        if self._entries is None:
            self._entries = Entries(self.file.entries())
        names = self._entries.find(entry)
        arrays = [arrays for arrays in map(self._arrays, names) if len(arrays[0])]
        return Track(f"{self.file.path.name}: {entry}", arrays) if arrays else None

    def _arrays(self, entry: str) -> tuple[StoredArray, StoredArray]:
        """Features and intervals of an entry, of the same length; of length 0, they may have any shape and type."""
        features, intervals = self.file.features(entry), self.file.intervals(entry)
        if not len(features) and not len(intervals):
            return features, intervals
        if intervals.is_text or intervals.shape[1:] != (2,):
            raise ValueError(
                f"{intervals.where} must be (n, 2) numbers, start and end in seconds, but it is {intervals.shape} "
                f"{'strings' if intervals.is_text else 'numbers'}; correct it, or leave the video out."
            )
        if features.is_text != (self.role == "words"):
            wanted, found = ("strings", "numbers") if self.role == "words" else ("numbers", "strings")
            raise ValueError(
                f"{features.where} must hold {wanted}, to be read as {self.role}, but it holds {found}; choose another "
                f"sequence with the option `{self.role}`."
            )
        if self.role == "words" and features.width != 1:
            raise ValueError(f"{features.where} must be (n, 1) words, but its shape is {features.shape}; correct it.")
        if len(features) != len(intervals):
            raise ValueError(
                f"{features.where} must have one row per interval, but it has {len(features)} rows and there are "
                f"{len(intervals)} intervals; correct it, or leave the video out."
            )
        return features, intervals


class Track:
    """The frames of a video in one sequence.

    Args:
        where: file and video, for messages.
        arrays: features and intervals, of one frame or more; several where the file has the video in parts.

    Attributes:
        timeline: when the frames are.
    """

    def __init__(self, where: str, arrays: list[tuple[StoredArray, StoredArray]]) -> None:
        self._where = where
        self._features = [features for features, _ in arrays]
        self._firsts = np.cumsum([0, *(len(features) for features in self._features)])
        intervals = np.concatenate([intervals.rows(0, len(intervals)) for _, intervals in arrays])
        self.timeline = Timeline(checked_intervals(intervals, where), where)

    def read(self, positions: np.ndarray) -> np.ndarray:
        """The frames at some positions of the timeline, (positions, width), in their order and the file's type.

        What lies between the first and the last of them is read as well.
        """
        frames = [self._read_part(part, positions) for part in np.unique(self._parts(positions))]
        if len(frames) == 1:
            return frames[0]
        together = np.concatenate([self._features[0].rows(0, 0), *frames])
        back = np.empty(len(positions), np.int64)
        back[np.argsort(self._parts(positions), kind="stable")] = np.arange(len(positions))
        return together[back]

    def words(self) -> list[str]:
        """All words of a sequence of words, pauses and all, by position. Raises ValueError where one is not UTF-8."""
        words = [word for features in self._features for word in features.strings()]
        try:
            return [word.decode("utf-8") for word in words]
        except UnicodeDecodeError as error:
            raise ValueError(f"{self._where}/features must hold words in UTF-8, but {error}; correct it.") from error

    def _parts(self, positions: np.ndarray) -> np.ndarray:
        """In which array each position is."""
        return np.searchsorted(self._firsts, positions, "right") - 1

    def _read_part(self, part: int, positions: np.ndarray) -> np.ndarray:
        own = positions[self._parts(positions) == part] - self._firsts[part]
        first = int(own.min())
        rows = self._features[part].rows(first, int(own.max()) + 1)
        in_order = np.array_equal(own, np.arange(first, first + len(rows)))  # as ever, but for damaged intervals
        return rows if in_order else rows[own - first]


def _csd_files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise FileNotFoundError(
            f"`data_file` must name a .csd file or a folder of them, but there is nothing at {path}."
        )
    files = [file for file in sorted(path.iterdir()) if file.is_file() and not file.name.startswith(".")]
    named = [file for file in files if file.suffix.lower() == ".csd"]
    found = named or [file for file in files if _begins_as_hdf5(file)]
    if not found:
        raise FileNotFoundError(f"{path} must hold .csd files, but there is none; check the path.")
    return found


def _begins_as_hdf5(file: Path) -> bool:
    with file.open("rb") as opened:
        return opened.read(len(HDF5_START)) == HDF5_START


def _look_at(path: Path) -> _Candidate:
    with CsdFile(path) as file:
        names = (path.stem, file.name)
        features = [file.features(entry) for entry in file.first_entries()]
        first = next((array for array in features if len(array)), features[0])
        return _Candidate(path, names, _role(names, first.is_text))


def _role(names: tuple[str, ...], is_text: bool) -> str | None:
    plain = [re.sub("[^a-z0-9]", "", name.lower()) for name in names]
    if is_text:
        return None if any("phon" in name for name in plain) else "words"
    for name in plain:
        for role, keywords in _KEYWORDS.items():
            if any(keyword in name for keyword in keywords):
                return role
    return None
