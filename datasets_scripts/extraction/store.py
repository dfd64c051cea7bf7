"""What was extracted from each clip, a file each, written whole or not at all, so that a stopped extraction goes on."""

from __future__ import annotations

import hashlib
import json
import re
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from datasets_scripts.extraction.clips import Clip
from datasets_scripts.files import whole_file

_ENTRY = "record"  # of the metadata of a file; with several entries their order is arbitrary
_MAX_HEADER = 100 << 20  # as safetensors has it
_FOLDER = re.compile(r"[0-9a-f]{3}")
# A record, or what `whole_file` leaves of one.
_FILE = re.compile(r"[0-9a-f]{64}\.safetensors|\.[0-9a-f]{64}\.safetensors\.\d+\.incomplete")


@dataclass
class ClipRecord:
    """
    Attributes:
        key: names the content of the files and the settings that made this; see `record_key`.
        extractors: names the settings of the extractors alone.
        files: SHA-256 of each file that was read, by its name within the media folder.
        seconds: how long the clip is.
        text: its transcript, where the table has none and something else has.
        notes: what a person should know, sentences by where they are from: "audio", "vision" or "media".
        values: the features (steps, features) of each modality that was extracted.
    """

    key: str
    extractors: str
    files: dict[str, str]
    seconds: float
    text: str | None = None
    notes: dict[str, list[str]] = field(default_factory=dict)
    values: dict[str, np.ndarray] = field(default_factory=dict)


def record_key(settings: Any, files: dict[str, str]) -> str:
    """Of a record: the same only for files of the same content and the same settings."""
    return settings_key([settings, files])


def settings_key(settings: Any) -> str:
    """The SHA-256 of anything that JSON can hold."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode("utf-8")).hexdigest()


class ClipStore:
    """A folder of records; a clip has one at most. They lie in up to 4096 folders, so that a million clips can be kept.

    Args:
        path: the folder, made with the first record.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def file(self, clip: str) -> Path:
        """Where the record of a clip is, or will be, by its id."""
        name = hashlib.sha256(clip.encode("utf-8")).hexdigest()
        return self.path / name[:3] / f"{name}.safetensors"

    def others(self) -> Iterator[Path]:
        """What lies in the folder, or in those of its records, and is no record."""
        return (file for file in self._files() if not _FILE.fullmatch(file.name))

    def delete(self) -> None:
        """Deletes the records, and the folder, unless something else lies in it."""
        for file in self._files():
            if _FILE.fullmatch(file.name):
                file.unlink(missing_ok=True)
        with suppress(OSError):
            for folder in (*self.path.iterdir(), self.path):
                folder.rmdir()

    def _files(self) -> Iterator[Path]:
        if not self.path.is_dir():
            return
        for entry in self.path.iterdir():
            if _FOLDER.fullmatch(entry.name) and entry.is_dir() and not entry.is_symlink():
                yield from entry.iterdir()
            else:
                yield entry

    def write(self, clip: Clip, record: ClipRecord) -> None:
        """Replaces the clip's record by this one."""
        content = {"id": clip.id, **asdict(record)}
        values = content.pop("values")
        with whole_file(self.file(clip.id)) as temporary:
            temporary.write_bytes(save(values, {_ENTRY: json.dumps(content, ensure_ascii=False)}))

    def summary(self, clip: str) -> ClipRecord | None:
        """A clip's record without its values; None where there is none, or none that is whole."""
        try:
            with self.file(clip).open("rb") as file:
                (length,) = struct.unpack("<Q", file.read(8))
                header = json.loads(file.read(min(length, _MAX_HEADER)))
                ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
                if file.seek(0, 2) != 8 + length + max(ends, default=0):
                    return None
            return _record(header["__metadata__"][_ENTRY])
        except (OSError, ValueError, KeyError, TypeError, struct.error):
            return None

    def read(self, clip: str) -> ClipRecord:
        """A clip's record.

        Raises:
            ValueError: there is none, or it is damaged.
        """
        path = self.file(clip)
        try:
            with safe_open(path, framework="np") as file:
                record = _record(file.metadata()[_ENTRY])
                record.values = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a dict)
            return record
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise ValueError(
                f"{path} must hold what was extracted from {clip!r}, but it cannot be read ({error}); run the "
                "extraction again."
            ) from error


def _record(text: str) -> ClipRecord:
    content = json.loads(text)
    del content["id"]  # for whoever looks into a file
    return ClipRecord(**content)
