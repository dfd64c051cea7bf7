"""Which media files a folder holds for which samples, by their names alone: no file is opened."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

MEDIA_SUFFIXES = (".mp4", ".avi", ".mkv", ".mov", ".webm", ".wav", ".mp3", ".flac", ".m4a")
# The folder of MMSA's data sets that holds the media as they were recorded.
RAW_FOLDER = "Raw"


@dataclass
class MediaFiles:
    """What was found.

    Attributes:
        files: per sample, `video$_$clip`, the paths within the folder, sorted.
        links_out: links that lead out of the folder; they were not followed.
    """

    files: dict[str, list[str]] = field(default_factory=dict)
    links_out: int = 0


def find_media(folder: Path) -> MediaFiles:
    """The files `Raw/<video_id>/<clip_id>.*` and `<video_id>/<clip_id>.*` with one of `MEDIA_SUFFIXES`, in any case.

    Raises:
        OSError: a folder cannot be listed.
    """
    root = folder.resolve()
    found = MediaFiles()
    for base in (folder, folder / RAW_FOLDER):
        for video in _entries(base, root, found):
            if not video.is_dir() or (base == folder and video.name == RAW_FOLDER):
                continue
            for file in _entries(Path(video.path), root, found):
                clip, suffix = os.path.splitext(file.name)
                if suffix.lower() in MEDIA_SUFFIXES and file.is_file():
                    path = Path(file.path).relative_to(folder).as_posix()
                    found.files.setdefault(f"{video.name}$_${clip}", []).append(path)
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
