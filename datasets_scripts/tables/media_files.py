"""Which media files a folder holds for which samples, by their names alone: no file is opened."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

VIDEO_SUFFIXES = (".mp4", ".avi", ".mkv", ".mov", ".webm", ".mpg", ".mpeg")
SOUND_SUFFIXES = (".wav", ".mp3", ".flac", ".m4a", ".ogg", ".opus", ".aac")
MEDIA_SUFFIXES = VIDEO_SUFFIXES + SOUND_SUFFIXES
# The folder of MMSA's data sets that holds the media as they were recorded.
RAW_FOLDER = "Raw"


@dataclass
class MediaFiles:
    """What was found.

    Attributes:
        files: per sample, `video$_$clip`, the paths within the folder, sorted; of files that lie in no folder of a
            video, per name without its suffix, which is the sample's id or `video_clip`.
        links_out: links that lead out of the folder; they were not followed.
    """

    files: dict[str, list[str]] = field(default_factory=dict)
    links_out: int = 0

    def name_of(self, sample: str) -> str | None:
        """The key in `files` of a sample's media; None where there are none."""
        return next((name for name in (sample, sample.replace("$_$", "_")) if name in self.files), None)

    def left_over(self, names: Iterable[str]) -> list[str]:
        """The files with other names than these."""
        used = set(names)
        return [path for name, paths in self.files.items() if name not in used for path in paths]


def find_media(folder: Path) -> MediaFiles:
    """The files `<video_id>/<clip_id>.*` and `<id>.*`, in the folder or in `Raw`, with one of `MEDIA_SUFFIXES`, in any
    case.

    Raises:
        OSError: a folder cannot be listed.
    """
    root = folder.resolve()
    found = MediaFiles()

    def take(file: os.DirEntry[str], prefix: str) -> None:
        name, suffix = os.path.splitext(file.name)
        if suffix.lower() in MEDIA_SUFFIXES and file.is_file():
            path = Path(file.path).relative_to(folder).as_posix()
            found.files.setdefault(prefix + name, []).append(path)

    for base in (folder, folder / RAW_FOLDER):
        for entry in _entries(base, root, found):
            if not entry.is_dir():
                take(entry, "")
            elif base != folder or entry.name != RAW_FOLDER:
                for file in _entries(Path(entry.path), root, found):
                    take(file, f"{entry.name}$_$")
    for paths in found.files.values():
        paths.sort()
    return found


def _entries(folder: Path, root: Path, found: MediaFiles) -> Iterator[os.DirEntry[str]]:
    """What a folder holds, without hidden files and links that lead out of `root`."""
    if not folder.is_dir() or (folder.is_symlink() and not _is_inside(folder, root)):
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_symlink() and not _is_inside(Path(entry.path), root):
                found.links_out += 1
            else:
                yield entry


def _is_inside(link: Path, root: Path) -> bool:
    try:
        return link.resolve().is_relative_to(root)
    except (OSError, RuntimeError):  # a link to itself
        return False
