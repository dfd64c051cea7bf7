"""The rows of a media folder: labels and text of its table, features of its clips from the store."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np

from datasets_scripts.builder import Source, SourceBuilder, SourceConfig, file_sha256
from datasets_scripts.extraction.clip_worker import ExtractionSettings, Outcome
from datasets_scripts.extraction.clips import MediaFolder
from datasets_scripts.extraction.failures import FAILURES_FILE, write_failures
from datasets_scripts.extraction.store import ClipRecord, ClipStore
from datasets_scripts.schema import MODALITIES, row_features
from datasets_scripts.tally import Tally

_MAX_REMARKS = 30  # different ones of a column
_BESIDE = "clips whose transcript was a file beside them"
_HEARD = "clips whose transcript was made by speech recognition"


@dataclass(frozen=True)
class Extraction:
    """An extraction that is done.

    Attributes:
        media: the folder.
        store: the records of its clips.
        settings: how they were extracted.
        extractors: as in `ConversionReport`.
        options: what was chosen, for the report.
        failed: the clips without a record, by id.
        files: SHA-256 of each media file and transcript that was read, by its name within the folder.
    """

    media: MediaFolder
    store: ClipStore
    settings: ExtractionSettings
    extractors: dict[str, dict[str, Any]]
    options: dict[str, Any]
    failed: dict[str, Outcome]
    files: dict[str, str]

    @property
    def feature_sizes(self) -> dict[str, int]:
        """Features per step, by modality."""
        return {modality: made["settings"]["feature_size"] for modality, made in self.extractors.items()}

    def record(self, clip: str) -> ClipRecord:
        """Of a clip that did not fail; see `ClipStore.read`. Raises ValueError where another run has replaced it."""
        record = self.store.read(clip)
        if record.extractors != self.settings.key:
            raise ValueError(
                f"{self.store.file(clip)} was made with other settings than this run's: another run works on the same "
                "folder; let one of them end, then run this one again."
            )
        return record


def content_sha256(media: MediaFolder, settings: ExtractionSettings, files: dict[str, str]) -> str:
    """
    The SHA-256 that names what was extracted from a folder: of the lines "<sha256>  <name>" of its files, sorted by
    name, then that of the table, then the key of the settings. Other features of the same media have another one.
    """
    lines = [f"{digest}  {name}\n" for name, digest in sorted(files.items())]
    if media.table is not None:
        lines.append(f"{file_sha256(media.table)}  {media.table.name}\n")
    lines.append(f"{settings.key}\n")
    return hashlib.sha256("".join(lines).encode("utf-8")).hexdigest()


@dataclass
class ExtractedMediaConfig(SourceConfig):
    """
    Attributes:
        extraction: what to write the rows of.
    """

    extraction: Extraction | None = None

    @property
    def done(self) -> Extraction:
        assert self.extraction is not None
        return self.extraction

    def files(self) -> list[Path]:
        table = [] if self.done.media.table is None else [self.done.media.table]
        return table + [self.path / name for name in self.done.files]

    def content_sha256(self) -> str:
        return content_sha256(self.done.media, self.done.settings, self.done.files)

    @classmethod
    def option_names(cls) -> list[str]:
        return [name for name in super().option_names() if name != "extraction"]

    def chosen_options(self) -> dict[str, Any]:
        return {**super().chosen_options(), **self.done.options}


class ExtractedMedia(SourceBuilder):
    """Joins a table and a store; clips that failed are left out and named in `failed_clips.csv`."""

    BUILDER_CONFIG_CLASS = ExtractedMediaConfig
    VERSION = datasets.Version("1.0.0")
    SOURCE_FORMAT = "folder of media"

    def inspect(self) -> Source:
        done: Extraction = self.config.done
        table = done.media.source
        rows = dict.fromkeys(table.rows, 0)
        largest, failed = 1, 0
        for clip in done.media.clips():
            if clip.id in done.failed:
                failed += 1
            else:
                rows[clip.split] += 1
                largest = max(largest, done.store.file(clip.id).stat().st_size)
        warnings = done.media.warnings()
        if failed:
            warnings.append(f"{failed} of {failed + sum(rows.values())} clips failed and are left out; {FAILURES_FILE} "
                            "says which, and why")  # fmt: skip
        return Source(
            features=row_features(
                audio_feature_size=done.feature_sizes.get("audio"),
                vision_feature_size=done.feature_sizes.get("vision"),
                label="label" in table.features,
                unimodal_labels=[modality for modality in MODALITIES if f"{modality}_label" in table.features],
                emotions="emotions" in table.features,
            ),
            shards={split: shards for split, shards in table.shards.items() if rows[split]},
            rows={split: count for split, count in rows.items() if count},
            row_bytes=largest,
            extractors=done.extractors,
            ignored_keys=table.ignored_keys,
            warnings=warnings,
        )

    def read_rows(self, split: str, shards: list[Any], tally: Tally) -> Iterator[dict[str, Any]]:
        done: Extraction = self.config.done
        for row in done.media.rows(split, shards):
            if row["id"] in done.failed:
                continue
            record = done.record(row["id"])
            if not row["text"].strip() and record.text is not None:
                row["text"] = record.text
                tally.count("text", _BESIDE if len(record.files) > 1 else _HEARD, 1)
            for modality, size in done.feature_sizes.items():
                row[f"{modality}_values"] = record.values.get(modality, np.zeros((0, size), np.float32))
            for name, notes in record.notes.items():
                _count_remarks(tally, f"{name}_values" if name in MODALITIES else name, notes)
            yield row

    def _download_and_prepare(self, dl_manager: Any, verification_mode: Any, **kwargs: Any) -> None:
        super()._download_and_prepare(dl_manager, verification_mode, **kwargs)
        if self.config.done.failed:
            write_failures(Path(self._output_dir) / FAILURES_FILE, self.config.done.failed.values())


def remark_of(note: str) -> str:
    """A note with its numbers taken out, by which the notes of many clips are counted."""
    return re.sub(r"\d+(?:[.,:]\d+)*", "#", note).rstrip(".")


def _count_remarks(tally: Tally, column: str, notes: list[str]) -> None:
    for remark in dict.fromkeys(f"clips with the remark: {remark_of(note)}" for note in notes):
        known = tally.counts.get(column, {})
        tally.count(column, remark if remark in known or len(known) < _MAX_REMARKS else "other remarks", 1)
