"""From a video, or from sound and words, to the features that a checkpoint was trained on."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from processing.feature_extraction import FeatureExtractor, FeatureSequence, build_extractor
from processing.feature_extraction_audio import AUDIO_EXTRACTORS
from processing.feature_extraction_vision import VISION_EXTRACTORS
from processing.media_reading import Media, MediaLimits, open_media
from processing.speech_recognition import Transcriber
from processing.transcripts import Transcript, plain_transcript, read_transcript

if TYPE_CHECKING:
    from typing_extensions import TypeIs

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg")
AUDIO_SUFFIXES = (".wav", ".mp3", ".flac", ".m4a", ".aac", ".ogg", ".opus")
EXTRACTORS = {"audio": AUDIO_EXTRACTORS, "vision": VISION_EXTRACTORS}


@dataclass
class ClipFeatures:
    """
    What a clip holds.

    Args:
        seconds (`float`): How long it is.
        transcript (`Transcript`, *optional*): What is said; None where nobody wrote it down.
        audio, vision (`FeatureSequence`, *optional*): Without a step where there is no sound, or no face; None where
            nothing looked for it.
        notes (list of `str`, *optional*): What a person should know, a sentence each.
    """

    seconds: float
    transcript: Transcript | None = None
    audio: FeatureSequence | None = None
    vision: FeatureSequence | None = None
    notes: list[str] = field(default_factory=list)

    def between(self, start: float, stop: float) -> dict[str, Any]:
        """The columns `text`, `audio_values` and `vision_values` of the part from `start` to `stop`, in seconds."""
        columns: dict[str, Any] = {}
        if self.transcript is not None:
            columns["text"] = self.transcript.between(start, stop)
        for modality in EXTRACTORS:
            sequence = getattr(self, modality)
            if sequence is not None:
                columns[f"{modality}_values"] = sequence.between(start, stop)
        return columns

    def columns(self) -> dict[str, Any]:
        """The columns of the whole clip."""
        columns: dict[str, Any] = {} if self.transcript is None else {"text": self.transcript.text}
        for modality in EXTRACTORS:
            sequence = getattr(self, modality)
            if sequence is not None:
                columns[f"{modality}_values"] = sequence.values
        return columns


class MediaFeatures:
    """
    Extracts features from media, one clip after the other.

    Args:
        audio, vision (`str`, `dict` or [`FeatureExtractor`], *optional*):
            What extracts a modality: a name, settings as processor_config.json has them, or the extractor. None leaves
            the modality out.
        transcriber (`str` or [`Transcriber`], *optional*):
            A speech recognition model of the Hub, its folder, or a transcriber, for clips that come without a
            transcript.
        limits ([`MediaLimits`], *optional*): What is refused.

    Raises:
        ValueError: for extractors that do not exist, or that make other features than their settings say.
    """

    def __init__(
        self,
        audio: str | Mapping[str, Any] | FeatureExtractor | None = None,
        vision: str | Mapping[str, Any] | FeatureExtractor | None = None,
        transcriber: str | Transcriber | None = None,
        limits: MediaLimits | None = None,
    ):
        self.audio_extractor = _extractor("audio", audio)
        self.vision_extractor = _extractor("vision", vision)
        self.transcriber = load_transcriber(transcriber) if isinstance(transcriber, str) else transcriber
        self.limits = limits or MediaLimits()

    def __call__(
        self,
        video: str | os.PathLike | None = None,
        audio: Any = None,
        transcript: str | Path | Transcript | None = None,
        start: float = 0.0,
        stop: float | None = None,
        sampling_rate: int | None = None,
        progress: Callable[[str], None] | None = None,
    ) -> ClipFeatures:
        """
        Args:
            video (path, *optional*): A video file; its sound is used, unless `audio` comes, too.
            audio (path or array, *optional*): A sound file, a video file whose sound is meant, or samples with their
                `sampling_rate`.
            transcript (`str`, path or [`Transcript`], *optional*): What is said: text, or a .txt, .srt or .vtt file.
            start, stop (`float`, *optional*): The part to look at, in seconds; by default all. Times count from the
                start of the media.
            sampling_rate (`int`, *optional*): Samples per second, where `audio` is an array.
            progress (callable, *optional*): Called with what is done next, in a few words.

        Raises:
            MediaError: for media that cannot be read or are beyond the limits, and where nothing is found in them.
            ValueError: for arguments that contradict each other.
        """
        if video is None and audio is None:
            raise ValueError("Neither `video` nor `audio` came; give one of them, or both.")
        if not 0 <= start < (float("inf") if stop is None else stop):
            raise ValueError(
                f"`start` and `stop` must be seconds, the first before the second; got {start} and {stop}."
            )
        say = progress or (lambda stage: None)
        say("Opening the file")
        pictures = None if video is None else open_media(video, self.limits)
        sound = pictures if audio is None else open_media(audio, self.limits, sampling_rate)
        opened = [media for media in (pictures, sound) if media is not None]
        seconds = max(media.info.seconds for media in opened)
        if start >= seconds:
            raise ValueError(f"`start` must lie before the end of the clip, {seconds:.2f} s; got {start}.")
        clip = ClipFeatures(min(seconds, stop) if stop is not None else seconds)
        assert sound is not None
        if self.audio_extractor is not None:
            say("Listening to the voice")
            clip.audio = self._extract(clip, self.audio_extractor, sound, start, stop)
        if self.vision_extractor is not None and pictures is not None:
            say("Looking at the face")
            clip.vision = self._extract(clip, self.vision_extractor, pictures, start, stop)
        if _is_transcript(transcript):
            clip.transcript = transcript if transcript.timed else plain_transcript(transcript.text, seconds)
        elif transcript is not None:
            clip.transcript = read_transcript(transcript, seconds)
        elif self.transcriber is not None:
            say("Writing down what is said")
            clip.transcript = self.transcriber(sound, start, stop)
        if clip.transcript is not None:
            clip.notes += clip.transcript.notes
            if start > 0 or stop is not None:
                clip.transcript = clip.transcript.clipped(start, clip.seconds)
        found = [note for media in opened for note in media.info.notes]  # damage is found while reading
        clip.notes = list(dict.fromkeys([*found, *clip.notes]))
        return clip

    def _extract(
        self, clip: ClipFeatures, extractor: FeatureExtractor, media: Media, start: float, stop: float | None
    ) -> FeatureSequence:
        sequence = extractor.extract(media, start, stop)
        sequence.settings = extractor.settings()
        clip.notes += [note for note in sequence.notes if note not in clip.notes]
        return sequence


def _is_transcript(value: Any) -> TypeIs[Transcript]:
    """Of this module, or of a copy that goes with a checkpoint."""
    return type(value).__name__ == Transcript.__name__


def _extractor(modality: str, chosen: str | Mapping[str, Any] | FeatureExtractor | None) -> FeatureExtractor | None:
    if chosen is None or isinstance(chosen, FeatureExtractor):
        return chosen
    settings = {"name": chosen} if isinstance(chosen, str) else dict(chosen)
    return _kept_extractor(modality, json.dumps(settings, sort_keys=True))


@functools.lru_cache(maxsize=8)
def _kept_extractor(modality: str, settings: str) -> FeatureExtractor:
    """Extractors are kept: some load models."""
    return build_extractor(json.loads(settings), EXTRACTORS[modality])


@functools.lru_cache(maxsize=2)
def load_transcriber(model: str, language: str | None = None) -> Transcriber:
    """The transcriber of a model, which is kept, since it takes seconds to load."""
    return Transcriber(model, language=language)
