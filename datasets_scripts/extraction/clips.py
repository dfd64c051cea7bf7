"""The clips of a media folder: which file is whose, which words and labels belong to it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from datasets_scripts.builder import Source
from datasets_scripts.schema import row_features
from datasets_scripts.tables.csv_rows import shown
from datasets_scripts.tables.label_table import LabelTable, table_in
from datasets_scripts.tables.media_files import VIDEO_SUFFIXES, find_media
from datasets_scripts.tally import Tally

# Files with what is said, beside the media and with the same name; the first that is there is read.
TRANSCRIPT_SUFFIXES = (".srt", ".vtt", ".txt")
# Clips of a folder without a table: there is nothing to train on.
UNLABELLED_SPLIT = "test"

_NAMES_SHOWN = 3


class Clip(NamedTuple):
    """One sample.

    Attributes:
        id: its id in the rows.
        split: its split.
        media: its file, within the folder; None where there is none that can be read.
        has_text: whether the table has its transcript.
        transcript: the file with its transcript, within the folder; None where the table has it, or nothing has.
        fault: why there is no `media`; None where there is.
    """

    id: str
    split: str
    media: str | None
    has_text: bool
    transcript: str | None
    fault: str | None

    @property
    def is_video(self) -> bool:
        return self.media is not None and self.media.lower().endswith(VIDEO_SUFFIXES)

    @property
    def needs_hearing(self) -> bool:
        """Whether nobody wrote down what is said."""
        return not self.has_text and self.transcript is None

    @property
    def files(self) -> list[str]:
        """What decides its features, within the folder."""
        return [name for name in (self.media, self.transcript) if name is not None]


class MediaFolder:
    """A folder of media and the table of its clips.

    Args:
        path: the folder; see `media_files.find_media` for the names of its files.
        labels: the table; by default the one in the folder, if there is one. Without any table every file is a clip,
            named after the file, without labels, in the split "test".
        text: whether transcripts are used.
        dataset, corpus: options of `LabelTable`.

    Raises:
        FileNotFoundError, ValueError: there is no such folder or table, it holds no media, or the table is faulty.
    """

    def __init__(
        self,
        path: Path,
        labels: Path | None = None,
        *,
        text: bool = True,
        dataset: str | None = None,
        corpus: str | None = None,
    ) -> None:
        if not path.is_dir():
            raise FileNotFoundError(f"a folder of media must be a folder, but there is none at {path}; check the path.")
        self.path = Path(os.path.abspath(path))
        self._text = text
        self._media = find_media(self.path)
        for file in (file for files in self._media.files.values() for file in files):
            if file != file.encode("utf-8", "ignore").decode("utf-8"):
                raise ValueError(f"names of media must be UTF-8, but one is {ascii(file)}; rename that file or folder.")
        if not self._media.files:
            raise ValueError(
                f"{path} holds no media: no <video_id>/<clip_id>.mp4, no <id>.mp4 and the like, also not below Raw; "
                "name the folder that does."
            )
        self.table = _table_of(self.path) if labels is None else labels
        self._rows: LabelTable | None = None
        if self.table is not None:
            self._rows = LabelTable(data_file=str(self.table), dataset=dataset, corpus=corpus)
            self.source = self._rows.inspect()
        elif dataset is not None:
            raise ValueError(f"`dataset` chooses rows of a table, but {path} has none; leave it out or give --labels.")
        else:
            names = sorted(self._media.files)
            self.source = Source(
                features=row_features(label=False),
                shards={UNLABELLED_SPLIT: [names]},
                rows={UNLABELLED_SPLIT: len(names)},
                warnings=["there is no table of labels: each file is a clip without a label, which can be predicted"],
            )
        self._names = Counter(name for split, row in self._all_rows() if (name := self._media.name_of(row["id"])))

    def rows(self, split: str, shards: list[Any]) -> Iterator[dict[str, Any]]:
        """Id, text and labels of the clips in some of the shards of `source`."""
        if self._rows is None:
            yield from ({"id": name, "text": ""} for names in shards for name in names)
            return
        for row in self._rows.read_rows(split, shards, Tally(split)):
            yield row if self._text else {**row, "text": ""}

    def clips(self) -> Iterator[Clip]:
        """All clips, in the order of the rows."""
        for split, row in self._all_rows():
            media, fault = self._media_of(row["id"])
            has_text = bool(row["text"].strip())
            transcript = None if media is None or has_text or not self._text else self._transcript_beside(media)
            yield Clip(row["id"], split, media, has_text, transcript, fault)

    def __len__(self) -> int:
        return sum(self.source.rows.values())

    def warnings(self) -> list[str]:
        """What a person should know of the table and of the names of the files."""
        found = list(self.source.warnings)
        extra = self._media.left_over(self._names)
        if extra:
            first = ", ".join(shown(name) for name in extra[:_NAMES_SHOWN])
            more = ", ..." if len(extra) > _NAMES_SHOWN else ""
            found.append(f"{len(extra)} media files belong to no row and were not read ({first}{more})")
        beside = sum(len(self._media.files[name]) > 1 and _chosen(self._media.files[name])[0] is not None
                     for name in self._names)  # fmt: skip
        if beside:
            found.append(f"{beside} clips have a sound file beside the video, whose own sound was read")
        if self._media.links_out:
            found.append(f"{self._media.links_out} links lead out of the folder and were not followed")
        return found

    def _all_rows(self) -> Iterator[tuple[str, dict[str, Any]]]:
        for split, shards in self.source.shards.items():
            yield from ((split, row) for row in self.rows(split, shards))

    def _media_of(self, sample: str) -> tuple[str | None, str | None]:
        """The file of a sample, or why there is none."""
        name = self._media.name_of(sample)
        if name is None:
            return None, "there is no media file of this id"
        if self._names[name] > 1:
            return None, f"{self._media.files[name][0]} could be the file of several rows; put it into <video_id>/"
        return _chosen(self._media.files[name])

    def _transcript_beside(self, media: str) -> str | None:
        for suffix in TRANSCRIPT_SUFFIXES:
            file = (self.path / media).with_suffix(suffix)
            if file.is_file() and file.resolve().is_relative_to(self.path.resolve()):
                return file.relative_to(self.path).as_posix()
        return None


def _table_of(folder: Path) -> Path | None:
    try:
        return table_in(folder)
    except FileNotFoundError:
        return None


def _chosen(paths: list[str]) -> tuple[str | None, str | None]:
    """Of the files of one name, the only video, or else the only one; or why none is taken."""
    videos = [path for path in paths if path.lower().endswith(VIDEO_SUFFIXES)]
    candidates = videos or paths
    if len(candidates) == 1:
        return candidates[0], None
    return None, f"several files have its name: {', '.join(candidates)}; leave one of them"
