"""What a checkpoint says of one sample beyond one prediction: what each modality and word adds, and how it changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from configuration.configuration_multimodal import MODALITIES
from processing.feature_noise import Noise
from processing.media_features import ClipFeatures
from processing.transcripts import Transcript, plain_transcript

# Word by word costs a prediction of the whole clip each; longer texts are asked about in groups of words.
MAX_WORD_GROUPS = 64
MAX_SECONDS_FOR_WORDS = 120.0
TEXT_COLUMNS = ("text", "input_ids", "token_type_ids", "text_values")


@dataclass(frozen=True)
class AnalysisOptions:
    """
    What is asked of a sample.

    Args:
        drop (tuple of `str`): Modalities that the model does not get.
        window, stride (`float`): Seconds that a prediction of the timeline sees, and from one to the next.
        words (`bool`, *optional*): Whether each word's contribution is asked; by default of clips up to two minutes.
        noise (`float`): The probability of `feature_noise.Noise` on every modality that is not dropped.
        seed (`int`): Of the noise.

    Raises:
        ValueError: for an unknown modality, a window or stride that is not positive, or a probability that is none.
    """

    drop: tuple[str, ...] = ()
    window: float = 4.0
    stride: float = 1.0
    words: bool | None = None
    noise: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        drop = (self.drop,) if isinstance(self.drop, str) else tuple(self.drop)
        object.__setattr__(self, "drop", drop)
        for modality in drop:
            if modality not in MODALITIES:
                raise ValueError(f"`drop` takes {', '.join(MODALITIES)}; got {modality!r}.")
        for name in ("window", "stride"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
                raise ValueError(f"`{name}` must be a positive number of seconds; got {value!r}.")
        if isinstance(self.noise, bool) or not isinstance(self.noise, (int, float)) or not 0 <= self.noise <= 1:
            raise ValueError(f"`noise` must be a probability, from 0 to 1; got {self.noise!r}.")


def windows(seconds: float, window: float, stride: float) -> Iterator[tuple[float, float]]:
    """
    The parts that a timeline is made of, each (start, stop) in seconds: one every `stride`, as long as the window, the
    last of which ends with the clip. A clip no longer than a window is one part.
    """
    start, number = 0.0, 0
    while start + window < seconds - 1e-9:
        yield start, start + window
        number += 1
        start = number * stride
    yield max(seconds - window, 0.0), seconds


@dataclass
class Question:
    """
    A row for the model, and what its answer is for.

    Args:
        kind: "whole", "without" (a modality), "window" (start, stop) or "words" (first, last).
        about: What of the kind.
        row: The columns.
    """

    kind: str
    about: Any
    row: dict[str, Any] = field(default_factory=dict)


class SampleAnalysis:
    """
    Asks a model about one sample.

    Args:
        row: Its columns, those that the checkpoint reads.
        options ([`AnalysisOptions`]): What is asked.
        clip ([`ClipFeatures`], *optional*): The media that the row comes from.
        columns_of (callable, *optional*): Of the clip and a start and a stop, the columns of that part.
        add_noise (callable, *optional*): What noise makes of a row.

    Raises:
        ValueError: where nothing is left after dropping modalities.
    """

    def __init__(
        self,
        row: Mapping[str, Any],
        options: AnalysisOptions,
        clip: ClipFeatures | None = None,
        columns_of: Callable[[ClipFeatures, float, float], dict[str, Any]] | None = None,
        add_noise: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
    ):
        self.options = options
        self.clip = clip
        self.columns_of = columns_of
        self.add_noise = add_noise or (lambda row: row)
        self.row = without(row, options.drop)
        self.present = [modality for modality in MODALITIES if _has(self.row, modality)]
        if not self.present:
            dropped = f" after {', '.join(options.drop)} was dropped" if options.drop else ""
            raise ValueError(f"The sample has nothing that the checkpoint reads{dropped}.")
        transcript = None if clip is None else clip.transcript
        if transcript is None and isinstance(row.get("text"), str):
            transcript = plain_transcript(row["text"])
        self.transcript = transcript

    def questions(self) -> list[Question]:
        """All that is asked; the first is the whole sample."""
        found = [Question("whole", None, self.row)]
        if len(self.present) > 1:
            found += [Question("without", modality, without(self.row, (modality,))) for modality in self.present]
        if self.clip is not None and self.columns_of is not None:
            for start, stop in windows(self.clip.seconds, self.options.window, self.options.stride):
                last = stop >= self.clip.seconds - 1e-9  # the middle of the last step may lie a bit behind the end
                row = without(self.columns_of(self.clip, start, np.inf if last else stop), self.options.drop)
                if row:
                    found.append(Question("window", (start, stop), row))
        found += self._words()
        for question in found:
            question.row = self.add_noise(question.row)
        return found

    def _words(self) -> list[Question]:
        wanted = self.options.words
        if wanted is None:
            wanted = self.clip is not None and self.clip.seconds <= MAX_SECONDS_FOR_WORDS
        if not wanted or self.transcript is None or "text" not in self.row:
            return []
        count = len(self.transcript.words)
        size = max(-(-count // MAX_WORD_GROUPS), 1)
        found = []
        for first in range(0, count, size):
            last = min(first + size, count)
            text = Transcript(self.transcript.words[:first] + self.transcript.words[last:]).text
            row = {**without(self.row, ("text",)), **({"text": text} if text.strip() else {})}
            if row:
                found.append(Question("words", (first, last), row))
        return found

    def answer(self, questions: Sequence[Question], predictions: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """What the predictions for the questions say, beside the first, which is the sample's own."""
        whole = predictions[0]
        base = scalar(whole, whole)
        found: dict[str, Any] = {**whole, "contributions": {}, "timeline": [], "transcript": None}
        shares: dict[int, float] = {}
        for question, prediction in zip(questions[1:], predictions[1:], strict=True):
            if question.kind == "window":
                start, stop = question.about
                found["timeline"].append({"start": start, "end": stop, **prediction})
                continue
            value = scalar(prediction, whole)
            if base is None or value is None:
                continue
            if question.kind == "without":
                found["contributions"][question.about] = base - value
            else:
                first, last = question.about
                shares |= dict.fromkeys(range(first, last), base - value)
        if self.transcript is not None:
            words = [
                {"text": word.text, "start": word.start, "end": word.end, "contribution": shares.get(index)}
                for index, word in enumerate(self.transcript.words)
            ]
            found["transcript"] = {"text": self.transcript.text, "timing": self.transcript.timing, "words": words}
        return found


def scalar(prediction: Mapping[str, Any], reference: Mapping[str, Any]) -> float | None:
    """
    One number of a prediction, whose change is a contribution: the score of a sentiment, or the probability of what
    `reference`, the sample's own prediction, finds most probable. None where several numbers are predicted.
    """
    scores = reference.get("scores")
    if scores is None:
        return prediction["score"]
    if "label" not in reference and "labels" not in reference:
        return None
    return prediction["scores"][max(scores, key=scores.__getitem__)]


def without(row: Mapping[str, Any], modalities: Sequence[str]) -> dict[str, Any]:
    """The row without the columns of some modalities."""
    names = {f"{modality}_values" for modality in modalities}
    names |= set(TEXT_COLUMNS) if "text" in modalities else set()
    return {name: value for name, value in row.items() if name not in names}


def noisy(row: Mapping[str, Any], noise: Noise, probability: float, processor) -> dict[str, Any]:
    """The row with noise on everything in it; words become tokens."""
    changed = dict(row)
    text = changed.pop("text", None)
    if text is not None:
        changed["input_ids"] = processor.tokenize([text])[0]
    return noise(0, changed, [modality for modality in MODALITIES if _has(changed, modality)], probability)


def deviations(row: Mapping[str, Any], processor) -> dict[str, np.ndarray]:
    """Standard deviation (features,) of each feature: over the training split where the processor knows, or the row."""
    found = {}
    for modality in MODALITIES:
        values = row.get(f"{modality}_values")
        if values is None:
            continue
        statistics = processor.normalization.get(modality)
        std = np.asarray(values, np.float64).std(axis=0) if statistics is None else np.asarray(statistics["std"])
        found[modality] = std
    return found


def _has(row: Mapping[str, Any], modality: str) -> bool:
    names = TEXT_COLUMNS if modality == "text" else (f"{modality}_values",)
    return any(name in row and row[name] is not None and len(row[name]) > 0 for name in names)
