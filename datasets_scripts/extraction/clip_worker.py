"""What is done with one clip: its files to a record in the store, or the reason why not."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from datasets_scripts.builder import file_sha256
from datasets_scripts.extraction.clips import Clip
from datasets_scripts.extraction.store import ClipRecord, ClipStore, record_key, settings_key
from processing.media_features import ClipFeatures, MediaFeatures, load_transcriber
from processing.media_reading import MediaError, MediaLimits
from processing.transcripts import Transcript

MODALITIES = ("audio", "vision")
# What takes long to import, and is imported once for all processes, where it is installed.
PRELOAD = (__name__, "av", "cv2", "opensmile")


@dataclass(frozen=True)
class ExtractionSettings:
    """What decides the features of a clip, besides its files.

    Attributes:
        extractors: settings of a `FeatureExtractor` by modality, "audio" and "vision"; those that are extracted.
        transcriber: a speech recognition model, an id or a folder, for clips without a transcript.
        language: what is spoken, for models that know several languages.
        max_seconds: longer clips are refused.
    """

    extractors: dict[str, dict[str, Any]]
    transcriber: str | None = None
    language: str | None = None
    max_seconds: float = MediaLimits().max_seconds

    @property
    def key(self) -> str:
        """Names the settings of the extractors."""
        return settings_key([self.extractors, self.max_seconds])

    def features(self) -> MediaFeatures:
        """What extracts."""
        transcriber = None if self.transcriber is None else load_transcriber(self.transcriber, self.language)
        limits = replace(MediaLimits(), max_seconds=self.max_seconds)
        return MediaFeatures(self.extractors.get("audio"), self.extractors.get("vision"), transcriber, limits)


class Outcome(NamedTuple):
    """
    Attributes:
        clip: the id.
        failure: why the store has no record of the clip; None where it has.
        files: as in `ClipRecord`, of those that could be read.
        seconds: of media.
        extracted: whether the record is new.
        unwritten: whether it is not the clip that failed, but the store.
    """

    clip: str
    failure: str | None
    files: dict[str, str]
    seconds: float = 0.0
    extracted: bool = False
    unwritten: bool = False


@dataclass(frozen=True)
class ClipWork:
    """Makes a `ClipWorker` in the process that is to use it."""

    folder: Path
    store: Path
    settings: ExtractionSettings

    def __call__(self) -> ClipWorker:
        return ClipWorker(self.folder, ClipStore(self.store), self.settings)


class ClipWorker:
    """Extracts clips, one after the other.

    Args:
        folder: the media folder.
        store: where records are looked for and put.
        settings: how to extract.

    Raises:
        ValueError: an extractor or a transcriber cannot be made.
    """

    def __init__(self, folder: Path, store: ClipStore, settings: ExtractionSettings) -> None:
        self._folder = folder
        self._store = store
        self._settings = settings
        self._features = settings.features()
        transcriber = self._features.transcriber
        # Loads the model: better one error now than one of each clip.
        self._hearing = None if transcriber is None else transcriber.settings()

    def __call__(self, clip: Clip) -> Outcome:
        """Raises nothing: whatever is wrong with a clip is its failure, and the other clips go on."""
        files: dict[str, str] = {}
        try:
            if clip.fault is not None:
                return Outcome(clip.id, clip.fault, files)
            files.update({name: file_sha256(self._folder / name) for name in clip.files})
            key = record_key([self._settings.key, self._hearing if clip.needs_hearing else None], files)
            known = self._store.summary(clip.id)
            extracted = known is None or known.key != key
            if known is None or extracted:
                known = self._record(clip, key, files)
                try:
                    self._store.write(clip, known)
                except OSError as error:
                    return Outcome(clip.id, str(error), files, unwritten=True)
            return Outcome(clip.id, None, files, known.seconds, extracted)
        except MediaError as error:  # a sentence
            return Outcome(clip.id, self._without_places(str(error)), files)
        except OSError as error:  # its text says where the file lies
            return Outcome(clip.id, error.strerror or self._without_places(str(error)), files)
        except Exception as error:
            return Outcome(clip.id, self._without_places(f"{type(error).__name__}: {error}"), files)

    def _record(self, clip: Clip, key: str, files: dict[str, str]) -> ClipRecord:
        """
        Raises:
            MediaError: it cannot be read, or nothing is in it.
        """
        path = self._folder / str(clip.media)
        transcript = None if clip.transcript is None else self._folder / clip.transcript
        found = self._features(
            video=path if clip.is_video else None,
            audio=None if clip.is_video else path,
            transcript=Transcript() if clip.has_text else transcript,
        )
        text = None if clip.has_text or found.transcript is None else found.transcript.text
        values = {
            modality: sequence.values for modality in MODALITIES if (sequence := getattr(found, modality)) is not None
        }
        notes = {name: [self._without_places(note) for note in listed] for name, listed in _notes(found).items()}
        if not clip.has_text and not (text or "").strip() and not any(map(len, values.values())):
            said = "; ".join(note for listed in notes.values() for note in listed)
            raise MediaError(f"there is nothing in it: no word, no step of a feature{f' ({said})' if said else ''}")
        return ClipRecord(key, self._settings.key, files, found.seconds, text, notes, values)

    def _without_places(self, text: str) -> str:
        """The folder of the media is named by its name alone: others read this on the dataset's card."""
        return text.replace(str(self._folder), self._folder.name)


def _notes(found: ClipFeatures) -> dict[str, list[str]]:
    """The notes by where they are from."""
    sequences = {modality: getattr(found, modality) for modality in MODALITIES}
    notes = {modality: list(one.notes) for modality, one in sequences.items() if one is not None}
    known = {note for listed in notes.values() for note in listed}
    notes["media"] = [note for note in found.notes if note not in known]
    return {name: listed for name, listed in notes.items() if listed}
