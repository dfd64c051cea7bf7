"""
A corpus that needs no download: short film reviews as text, with unaligned audio and vision sequences, and a sentiment
planted in each modality and, where asked for, emotions. The modalities sometimes disagree, and the true unimodal labels
are known.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from datasets import Dataset, DatasetDict

from datasets_scripts.schema import EMOTIONS, MODALITIES, SPLITS, row_features

_SUBJECTS = ("plot", "acting", "music", "ending", "camera", "script", "pace", "cast", "humour", "dialogue")
_VERBS = ("was", "felt", "seemed", "is", "stayed")
_ADJECTIVES = {
    "dreadful": -3.0,
    "awful": -2.6,
    "poor": -2.0,
    "boring": -1.6,
    "weak": -1.2,
    "uneven": -0.6,
    "ordinary": 0.0,
    "usual": 0.0,
    "decent": 0.6,
    "fresh": 1.2,
    "pleasant": 1.6,
    "good": 2.0,
    "great": 2.6,
    "superb": 3.0,
}
DEGREES = {"": 1.0, "slightly": 0.5, "not": -0.5}
_FILLERS = ("well", "so", "um", "honestly", "you know", "i think", "to be fair", "anyway")

_EMOTION_WORDS = {
    "happy": ("happy", "cheerful", "delighted"),
    "sad": ("sad", "gloomy", "tearful"),
    "anger": ("angry", "furious", "annoyed"),
    "surprise": ("surprised", "amazed", "astonished"),
    "disgust": ("disgusted", "sickened", "repelled"),
    "fear": ("scared", "afraid", "frightened"),
}
_EMOTION_SIGNS = {"happy": 1, "sad": -1, "anger": -1, "surprise": 0, "disgust": -1, "fear": -1}
_EMOTION_COUNTS = (0.25, 0.45, 0.3)  # how often none, one, two are present
_INTENSITY_WORDS = {1: "somewhat", 2: "quite", 3: "deeply"}


@dataclass(frozen=True)
class SyntheticCorpus:
    """
    Description of a synthetic corpus; `build` makes it. The same arguments give the same corpus.

    Per sample a common sentiment is drawn from [-3, 3]; each modality has it, or, with probability `disagreement`, one
    of its own. The label is the mean of the three, weighted 2 : 1 : 1, with text first.

    - Text says it in words: clauses such as "the plot was slightly weak", whose mean is the text's sentiment, among
      fillers.
    - Audio (10 steps per second, 8 features) and vision (4 steps per second, 6 features) carry it in one burst at a
      random place, along a fixed direction of the features, over autocorrelated noise. The two differ in length and are
      not aligned with the words.

    With `emotions`, rows also have the six intensities of `EMOTIONS`. None, one or two emotions are present, with
    probabilities 0.25, 0.45 and 0.3, each with an intensity of 1, 2 or 3; the others are 0. Happiness needs a positive
    common sentiment, surprise none, and the other four a negative one. Each modality shows a present emotion with
    probability 1 - `disagreement`, and at least one that the sample has shows it:

    - Text in a phrase at its end, such as "and it left me quite scared".
    - Audio and vision in one more burst, as high as the intensity, along the emotion's own direction of the features.
      The six directions are orthogonal to each other, but not to that of the sentiment.

    Nothing else of the corpus changes: without these phrases and bursts a row is that of the same corpus without
    emotions, its labels and the number of its steps included.

    Args:
        train, valid, test (`int`): Samples per split.
        seed (`int`): Of everything.
        disagreement (`float`): How often a modality has a sentiment of its own, and how often it hides an emotion.
        missing (`float`): How often a sample lacks a modality; never all of them.
        noise (`float`): Standard deviation of the noise in audio and vision. The burst of the sentiment is up to 1.5
            high, that of an emotion up to 3.
        emotions (`bool`): Whether samples have emotions.
    """

    train: int = 600
    valid: int = 150
    test: int = 150
    seed: int = 0
    disagreement: float = 0.3
    missing: float = 0.0
    noise: float = 0.3
    emotions: bool = False

    AUDIO_RATE = 10.0  # steps per second
    VISION_RATE = 4.0
    AUDIO_SIZE = 8
    VISION_SIZE = 6

    def __post_init__(self):
        for name in ("train", "valid", "test"):
            if not isinstance(getattr(self, name), int) or getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be a number of samples, at least 1; got {getattr(self, name)!r}.")
        for name in ("disagreement", "missing"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"`{name}` must be a share between 0 and 1; got {getattr(self, name)!r}.")
        if self.noise < 0:
            raise ValueError(f"`noise` must not be negative; got {self.noise!r}.")
        if not isinstance(self.emotions, bool):
            raise ValueError(f"`emotions` must be True or False; got {self.emotions!r}.")

    def build(self) -> DatasetDict:
        """
        The corpus: rows of the common schema with `text_label`, `audio_label` and `vision_label`, and with `emotions`,
        (6,) each, where they were asked for; numpy format.
        """
        # One direction per modality for all splits, from a generator of its own: the splits' sizes do not touch it.
        directions = np.random.default_rng([self.seed, len(SPLITS)])
        audio = _unit(directions.normal(size=self.AUDIO_SIZE))
        vision = _unit(directions.normal(size=self.VISION_SIZE))
        features = row_features(
            audio_feature_size=self.AUDIO_SIZE,
            vision_feature_size=self.VISION_SIZE,
            unimodal_labels=MODALITIES,
            emotions=self.emotions,
        )
        emotion_directions = self._emotion_directions()
        splits = {}
        for index, split in enumerate(SPLITS):
            random = np.random.default_rng([self.seed, index])
            rows = []
            for number in range(getattr(self, split)):
                common = random.uniform(-3, 3)
                row = self._row(f"{split}{number}$_$0", random, common, audio, vision)
                if self.emotions:
                    # A generator per row: what is drawn for one, however much, touches no other and not the rest.
                    own = np.random.default_rng([self.seed, len(SPLITS) + 2 + index, number])
                    self._add_emotions(row, own, common, emotion_directions)
                rows.append(row)
            splits[split] = Dataset.from_list(rows, features=features).with_format("numpy")
        return DatasetDict(splits)

    def _row(self, sample_id, random, common, audio_direction, vision_direction) -> dict:
        wanted = {m: random.uniform(-3, 3) if random.random() < self.disagreement else common for m in MODALITIES}
        text, text_label = review(random, wanted["text"])
        seconds = 0.35 * len(text.split()) + random.uniform(0.2, 1.0)
        audio = self._sequence(random, seconds * self.AUDIO_RATE, wanted["audio"], audio_direction)
        vision = self._sequence(random, seconds * self.VISION_RATE, wanted["vision"], vision_direction)
        label = (2 * text_label + wanted["audio"] + wanted["vision"]) / 4
        keep = random.random(len(MODALITIES)) >= self.missing
        if not keep.any():
            keep[random.integers(len(MODALITIES))] = True
        return {
            "id": sample_id,
            "text": text if keep[0] else "",
            "audio_values": audio if keep[1] else audio[:0],
            "vision_values": vision if keep[2] else vision[:0],
            "label": label,
            "text_label": text_label,
            "audio_label": wanted["audio"],
            "vision_label": wanted["vision"],
        }

    def _sequence(self, random, steps: float, sentiment: float, direction: np.ndarray) -> np.ndarray:
        steps = max(4, round(steps))
        noise = np.empty((steps, len(direction)))
        noise[0] = random.normal(scale=self.noise, size=len(direction))
        for step in range(1, steps):
            fresh = random.normal(scale=self.noise, size=len(direction))
            noise[step] = 0.6 * noise[step - 1] + 0.8 * fresh  # keeps the standard deviation
        burst = _burst(random, steps) * 1.5 * sentiment / 3
        return (noise + burst[:, None] * direction).astype(np.float32)

    def _emotion_directions(self) -> dict[str, np.ndarray]:
        """Per modality with features, the directions of `EMOTIONS`, (6, features), of unit length and orthogonal."""
        random = np.random.default_rng([self.seed, len(SPLITS) + 1])
        sizes = {"audio": self.AUDIO_SIZE, "vision": self.VISION_SIZE}
        return {m: np.linalg.qr(random.normal(size=(size, len(EMOTIONS))))[0].T for m, size in sizes.items()}

    def _add_emotions(self, row: dict, random, common: float, directions: dict[str, np.ndarray]) -> None:
        """Draw the emotions of a row, write them in and show them in its modalities."""
        possible = [name for name, sign in _EMOTION_SIGNS.items() if sign == 0 or sign * common > 0]
        count = min(random.choice(len(_EMOTION_COUNTS), p=_EMOTION_COUNTS), len(possible))
        present = {str(name): int(random.integers(1, 4)) for name in random.choice(possible, size=count, replace=False)}
        row["emotions"] = [float(present.get(name, 0)) for name in EMOTIONS]
        there = [m for m in MODALITIES if len(row["text" if m == "text" else f"{m}_values"])]
        for name, intensity in present.items():
            showing = [m for m in there if random.random() >= self.disagreement] or [random.choice(there)]
            if "text" in showing:
                word = random.choice(_EMOTION_WORDS[name])
                row["text"] += f" and it left me {_INTENSITY_WORDS[intensity]} {word}"
            for m in ("audio", "vision"):
                if m in showing:
                    values = row[f"{m}_values"]
                    burst = _burst(random, len(values)) * intensity
                    direction = directions[m][EMOTIONS.index(name)]
                    row[f"{m}_values"] = (values + burst[:, None] * direction).astype(np.float32)


def _burst(random, steps: int) -> np.ndarray:
    """One rise and fall of height 1 at a random place, (steps,), 0 elsewhere."""
    width = max(3, round(steps * random.uniform(0.3, 0.6)))
    start = random.integers(steps - width + 1)
    burst = np.zeros(steps)
    burst[start : start + width] = np.hanning(width + 2)[1:-1]
    return burst


def review(random, wanted: float) -> tuple[str, float]:
    """A review whose sentiment is near `wanted`, and what it is exactly."""
    clauses, values = [], []
    for subject in random.choice(_SUBJECTS, size=random.integers(1, 4), replace=False):
        # The best of a few random clauses, so that text comes near to what is wanted and keeps its variety.
        choices = [
            (random.choice(list(_ADJECTIVES)), random.choice(list(DEGREES), p=(0.6, 0.2, 0.2))) for _ in range(6)
        ]
        adjective, degree = min(choices, key=lambda pair: abs(_ADJECTIVES[pair[0]] * DEGREES[pair[1]] - wanted))
        values.append(_ADJECTIVES[adjective] * DEGREES[degree])
        words = ["the", subject, random.choice(_VERBS), degree, adjective]
        filler = random.choice(_FILLERS) if random.random() < 0.4 else ""
        clauses.append(" ".join(word for word in (filler, *words) if word))
    return " and ".join(clauses), float(np.mean(values))


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)
