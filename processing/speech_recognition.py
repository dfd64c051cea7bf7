"""Transcripts by a speech recognition model of the Hub, or of a folder, through the pipeline of transformers."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from transformers import pipeline

from processing.model_versions import model_version
from processing.subtitles import SHORTEST_SECONDS
from processing.transcripts import Transcript, Word, split_words, spread

CHUNK_SECONDS = 30.0  # what Whisper hears at once
SEARCH_SECONDS = 6.0  # at the end of a chunk, where the quietest moment is looked for
FEWEST_SECONDS = 0.5  # shorter chunks are filled up with silence; convolutions need a few frames
SILENCE = 1e-3  # the highest sample of a chunk in which nobody speaks: 60 dB below full scale

_LEVEL_SECONDS = 0.02
_WHISPER, _CTC = "seq2seq_whisper", ("ctc", "ctc_with_lm")


class Transcriber:
    """
    Writes down what is said in media.

    Sound longer than `CHUNK_SECONDS` is cut at the quietest moment of the last `SEARCH_SECONDS` of each chunk, and each
    chunk is transcribed by itself: memory does not grow with the length, and no word is said twice. Chunks without
    sound are skipped, since models invent words for them.

    Whisper gives each word a time where its checkpoint knows which attention heads follow the sound
    (`generation_config.alignment_heads`), and otherwise each segment; models with CTC, such as wav2vec2, give each word
    one; of other models, the words of a chunk share its time.

    The model is loaded at the first use. It decodes greedily, so the same sound gives the same words.

    Args:
        model (`str`): A model of the Hub, or its folder.
        language (`str`, *optional*): What is spoken, such as "en" or "english", for multilingual Whisper models;
            without it they guess, chunk by chunk.
        device (`int`, `str` or `torch.device`, *optional*): Where it computes; by default where the pipeline does.
    """

    def __init__(self, model: str, language: str | None = None, device: int | str | torch.device | None = None):
        self.model, self.language, self.device = str(model), language, device

    def settings(self) -> dict[str, Any]:
        """What the transcripts depend on, as a record: model, its commit on the Hub or the SHA-256 of its
        files, language and versions. It loads the model."""
        return {
            "name": "speech_recognition",
            "model": self.model,
            "revision": model_version(self.recognizer.model.name_or_path),  # a model that cannot be loaded has none
            "language": self.language,
            "versions": {package: version(package) for package in ("transformers", "torch")},
        }

    @functools.cached_property
    def recognizer(self) -> Any:
        """
        The pipeline.

        Raises:
            ValueError: for a model that does not exist, is none of speech recognition, or does not know the language.
        """
        try:
            recognizer = pipeline("automatic-speech-recognition", model=self.model, device=self.device)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError) as error:
            raise ValueError(
                f"`transcriber` {self.model!r} cannot be loaded as a speech recognition model: {_first_line(error)} "
                "Give the id of one on the Hub, such as openai/whisper-tiny, or its folder, with its tokenizer."
            ) from error
        if recognizer.tokenizer is None or recognizer.feature_extractor is None:
            raise ValueError(
                f"`transcriber` {self.model!r} has no tokenizer or no feature extractor, so it makes no text of sound; "
                "give a speech recognition model, such as openai/whisper-tiny."
            )
        self._check_language(recognizer)
        return recognizer

    def __call__(self, media, start: float = 0.0, stop: float | None = None) -> Transcript:
        """
        Args:
            media: What `media_reading.open_media` gave.
            start, stop (`float`): The part of it, in seconds; by default all.

        Returns:
            The transcript, its times from the start of the media. Without words, and with a note that says why, where
            there is no sound track, no sound, or no speech that the model recognises.

        Raises:
            MediaError: for media that cannot be read.
            ValueError: for a model that cannot be loaded.
        """
        if not media.info.has_audio:
            return Transcript(notes=(f"{media.info.name} has no sound track, so nothing was transcribed.",))
        rate = self.recognizer.feature_extractor.sampling_rate
        words: list[Word] = []
        heard = False
        for offset, sound in chunks(media.audio_blocks(rate, start=start, stop=stop), rate):
            if np.abs(sound).max() >= SILENCE:
                heard = True
                begin = start + offset / rate
                words.extend(self._words(sound, rate, begin))
        timing = "words" if self._timestamps == "word" else "cues"
        if not heard:
            return Transcript((), timing, (f"The sound of {media.info.name} is silent; nothing was transcribed.",))
        if not words:
            return Transcript((), timing, (f"{self.model} recognises no speech in {media.info.name}.",))
        return Transcript(tuple(words), timing)

    def _words(self, sound: np.ndarray, rate: int, begin: float) -> list[Word]:
        """The words of a chunk that starts at `begin`, in seconds."""
        seconds = len(sound) / rate
        lacking = round(FEWEST_SECONDS * rate) - len(sound)
        if lacking > 0:
            sound = np.pad(sound, (0, lacking))
        with torch.inference_mode():
            result = self.recognizer({"raw": sound, "sampling_rate": rate}, **self._options)
        # Whisper writes the space before a word, CTC models do not.
        before = "" if self.recognizer.type == _WHISPER else " "
        words: list[Word] = []
        earliest, latest = 0.0, max(0.0, seconds - SHORTEST_SECONDS)
        for piece in result.get("chunks") or [{"text": result["text"], "timestamp": (0.0, seconds)}]:
            first, last = piece["timestamp"]
            # Whisper leaves a time open where a chunk ends within a word, and may time words after its end.
            first = min(max(earliest, 0.0 if first is None else float(first)), latest)
            last = min(max(first, seconds if last is None else float(last)), seconds)
            earliest = min(last, latest)
            words.extend(spread(split_words(piece["text"], before), begin + first, begin + last))
        return words

    @functools.cached_property
    def _timestamps(self) -> bool | str:
        """What the pipeline is asked for: a time for each "word", for each segment (True), or none (False)."""
        recognizer = self.recognizer
        if recognizer.type in _CTC:
            return "word"
        if recognizer.type != _WHISPER:
            return False
        config = recognizer.model.generation_config
        if getattr(config, "no_timestamps_token_id", None) is None:
            return False
        return "word" if getattr(config, "alignment_heads", None) else True

    @functools.cached_property
    def _options(self) -> dict[str, Any]:
        """Arguments of the pipeline's call."""
        options: dict[str, Any] = {}
        if self._timestamps:
            options["return_timestamps"] = self._timestamps
        if self.recognizer.type not in _CTC:
            options["generate_kwargs"] = {"num_beams": 1, "do_sample": False}
            if self.language is not None and _is_multilingual(self.recognizer):
                options["generate_kwargs"] |= {"language": self.language.lower(), "task": "transcribe"}
        return options

    def _check_language(self, recognizer: Any) -> None:
        if self.language is None:
            return
        if recognizer.type != _WHISPER:
            raise ValueError(
                f"`language` chooses among those of a multilingual Whisper model; {self.model} is of the kind "
                f"{recognizer.model.config.model_type!r}. Leave it out, and give a model of the language."
            )
        from transformers.models.whisper.tokenization_whisper import LANGUAGES, TO_LANGUAGE_CODE

        name = self.language.lower()
        code = TO_LANGUAGE_CODE.get(name, name)
        known = {"en"}
        if _is_multilingual(recognizer):
            known = {token.strip("<|>") for token in recognizer.model.generation_config.lang_to_id}
        if code not in known:
            names = sorted(known) + sorted(LANGUAGES[each] for each in known if each in LANGUAGES)
            nearest = difflib.get_close_matches(name, names, n=3, cutoff=0.4) or sorted(known)[:3]
            raise ValueError(
                f"`language` {self.language!r} is none of the {len(known)} that {self.model} knows; near to it are "
                f"{', '.join(nearest)}."
            )


def chunks(blocks: Iterable[np.ndarray], rate: int) -> Iterator[tuple[int, np.ndarray]]:
    """
    Cuts sound into chunks of at most `CHUNK_SECONDS`, each at its quietest moment near its end.

    Args:
        blocks: (samples,) each, float32, one after the other.
        rate (`int`): Samples per second.

    Yields:
        Where a chunk starts, in samples, and its samples. Each sample is in one chunk; the last may be short.
    """
    most = round(CHUNK_SECONDS * rate)
    offset, kept = 0, np.empty(0, np.float32)
    for block in blocks:
        kept = np.concatenate([kept, block])
        while len(kept) > most:
            cut = _quietest(kept[:most], rate)
            yield offset, kept[:cut]
            offset, kept = offset + cut, kept[cut:]
    if len(kept):
        yield offset, kept


def _quietest(sound: np.ndarray, rate: int) -> int:
    """The sample in the middle of the quietest fifth of a second of the end of a chunk."""
    step = round(_LEVEL_SECONDS * rate)
    count = round(SEARCH_SECONDS / _LEVEL_SECONDS)
    begin = len(sound) - count * step
    energy = np.square(sound[begin:].astype(np.float64)).reshape(count, step).sum(axis=1)
    wide = round(0.2 / _LEVEL_SECONDS)
    around = np.convolve(energy, np.ones(wide), mode="valid")
    return begin + (int(np.argmin(around)) + wide // 2) * step


def _is_multilingual(recognizer: Any) -> bool:
    return bool(getattr(recognizer.model.generation_config, "lang_to_id", None))


def _first_line(error: Exception) -> str:
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return line if line.endswith(".") else f"{line}."
