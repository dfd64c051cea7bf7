"""An extraction from beginning to end: all clips of a folder, in all processes, to the folder of rows."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets.utils import tqdm

from datasets_scripts.builder import file_sha256
from datasets_scripts.extraction.clip_worker import PRELOAD, ClipWork, ExtractionSettings, Outcome
from datasets_scripts.extraction.clips import Clip, MediaFolder
from datasets_scripts.extraction.extracted_media import ExtractedMedia, Extraction, content_sha256
from datasets_scripts.extraction.failures import FAILURES_FILE, write_failures
from datasets_scripts.extraction.pool import Lost, Pool
from datasets_scripts.extraction.share import Share
from datasets_scripts.extraction.store import ClipStore
from datasets_scripts.files import keep_folder, release_folder
from datasets_scripts.prepared import PreparedFolder
from datasets_scripts.report import ConversionReport
from processing.media_features import MediaFeatures


@dataclass
class Work:
    """What became of some clips.

    Attributes:
        failed: the outcomes of those that failed.
        clips, extracted: how many there were, and of how many there was no record before.
        media_seconds: how long the extracted ones are.
        seconds: how long that took.
    """

    failed: list[Outcome] = field(default_factory=list)
    clips: int = 0
    extracted: int = 0
    media_seconds: float = 0.0
    seconds: float = 0.0

    def take(self, outcome: Outcome) -> None:
        self.clips += 1
        if outcome.failure is not None:
            self.failed.append(outcome)
        elif outcome.extracted:
            self.extracted += 1
            self.media_seconds += outcome.seconds

    @property
    def speed(self) -> float:
        """Seconds of media per second."""
        return self.media_seconds / max(self.seconds, 1e-9)

    def add(self, other: Work) -> None:
        """Takes in what became of other clips at the same time."""
        self.failed += other.failed
        self.clips += other.clips
        self.extracted += other.extracted
        self.media_seconds += other.media_seconds
        self.seconds = max(self.seconds, other.seconds)

    def __str__(self) -> str:
        return (
            f"{self.clips} clips: {self.extracted} extracted, {self.clips - self.extracted - len(self.failed)} from an "
            f"earlier run, {len(self.failed)} failed; {self.media_seconds:.1f} s of media in {self.seconds:.1f} s "
            f"({self.speed:.1f} times real time)"
        )


def described(features: MediaFeatures) -> dict[str, dict[str, Any]]:
    """The extractors as in `ConversionReport.extractors`."""
    found = {"audio": features.audio_extractor, "vision": features.vision_extractor}
    return {
        modality: {
            "settings": extractor.settings(),
            "description": extractor.description,
            "columns": list(extractor.columns),
        }
        for modality, extractor in found.items()
        if extractor is not None
    }


def is_same(
    report: ConversionReport, media: MediaFolder, settings: ExtractionSettings, options: dict[str, Any], threads: int
) -> bool:
    """Whether a prepared folder holds what would be extracted: all files are read for that, none is decoded."""
    with ThreadPoolExecutor(threads) as pool:
        found = pool.map(lambda clip: _files_of(media, clip), media.clips())
        files = {name: digest for part in found for name, digest in part.items()}
    return (report.sha256, report.options) == (content_sha256(media, settings, files), options)


def extract_share(
    media: MediaFolder, store: ClipStore, settings: ExtractionSettings, share: Share, processes: int, seconds: float
) -> Work:
    """Extracts the clips of one share, in so many processes; a clip that takes longer than `seconds` fails.

    Raises:
        ValueError: the extractors cannot be loaded.
        OSError: a record cannot be written, as on a full disk.
    """
    work, begun = Work(), time.perf_counter()
    pool = Pool(ClipWork(media.path, store.path, settings), processes, seconds, PRELOAD)
    total = share.size_of(len(media))
    with tqdm(total=total, desc="Extracting", unit=" clips", disable=not share.is_first) as bar:
        for clip, result in pool.run(share.of(media.clips())):
            outcome = _lost(media, clip, result) if isinstance(result, Lost) else result
            if outcome.unwritten:
                raise OSError(outcome.failure)
            work.take(outcome)
            work.seconds = time.perf_counter() - begun
            if outcome.failure is not None:
                tqdm.write(f"{outcome.clip} failed: {outcome.failure}")
            bar.set_postfix_str(f"{len(work.failed)} failed, {work.speed:.1f} x real time", refresh=False)
            bar.update()
    return work


def write_rows(
    media: MediaFolder,
    store: ClipStore,
    settings: ExtractionSettings,
    extractors: dict[str, dict[str, Any]],
    options: dict[str, Any],
    failed: list[Outcome],
    folder: Path,
    *,
    corpus: str | None = None,
    max_shard_size: str = "500MB",
) -> ConversionReport:
    """Writes the prepared folder, whole or not at all.

    Raises:
        ValueError: every clip failed.
    """
    if len(failed) == len(media):
        listed = store.path / FAILURES_FILE
        write_failures(listed, failed)
        raise ValueError(f"all {len(failed)} clips failed, so {folder} was not written; {listed} says why.")
    failures = {outcome.clip: outcome for outcome in failed}
    files: dict[str, str] = {}
    for clip in media.clips():
        done = failures.get(clip.id) or store.summary(clip.id)
        if done is None:
            raise ValueError(f"{store.file(clip.id)} is gone; was it deleted? Run the extraction again.")
        files.update(done.files)
    extraction = Extraction(media, store, settings, extractors, options, failures, files)
    builder = ExtractedMedia(data_file=str(media.path), extraction=extraction, corpus=corpus)
    builder.write_folder(folder, max_shard_size=max_shard_size)
    return PreparedFolder(folder).report()


@contextmanager
def kept(store: ClipStore) -> Iterator[None]:
    """
    Keeps the store for this process.

    Raises:
        FileExistsError: another process keeps it; or its folder holds what no extraction wrote, which is not touched.
    """
    other = next((file for file in store.others() if file.name != FAILURES_FILE), None)
    if other is not None:
        raise FileExistsError(
            f"{store.path}, where what is extracted lies until all is done, holds other files, such as {other.name}; "
            "give another --output."
        )
    keep_folder(store.path, "--output")
    try:
        yield
    finally:
        with suppress(OSError):
            store.path.rmdir()  # where nothing was extracted
        with suppress(FileNotFoundError):
            release_folder(store.path)


def remove(store: ClipStore) -> None:
    """Deletes the records."""
    (store.path / FAILURES_FILE).unlink(missing_ok=True)
    store.delete()


def _lost(media: MediaFolder, clip: Clip, lost: Lost) -> Outcome:
    """The failure of a clip whose process did not live to say what it read."""
    return Outcome(clip.id, lost.reason, _files_of(media, clip))


def _files_of(media: MediaFolder, clip: Clip) -> dict[str, str]:
    """As in `ClipRecord`, of a clip that was not extracted; empty where a file cannot be read."""
    try:
        return {name: file_sha256(media.path / name) for name in clip.files}
    except OSError:
        return {}
