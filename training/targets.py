"""What a target means for data: where its labels are, which samples have one, and how predictions are scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from configuration import TARGETS
from spaces.multimodal_sentiment.multimodal_sentiment import METRIC_NAMES, emotion_metrics, regression_metrics

# By target: by what the best epoch is chosen unless a recipe says otherwise; the first of these that it has.
SELECTION = {
    "sentiment": ("mae",),
    "sentiment2": ("acc2_has0", "acc2"),
    "sentiment7": ("acc7",),
    "emotions": ("wa_avg",),
    "emotion": ("acc6",),
}


@dataclass(frozen=True)
class Target:
    """
    A target of `configuration.TARGETS` on a corpus.

    Args:
        name (`str`): Which one.
        convention (`str`): "mosi" or "sims": where negative ends, and which of the metric's families is reported.
    """

    name: str
    convention: str = "mosi"

    def __post_init__(self):
        if not isinstance(self.name, str) or self.name not in TARGETS:
            raise ValueError(
                f"`target` must be one of {', '.join(TARGETS)} for data of this project; got {self.name!r}. Labels of "
                "your own need a training loop of your own."
            )
        if self.name == "sentiment7" and self.convention == "sims":
            raise ValueError(
                "`model.target: sentiment7` has the classes -3 to 3, but `metric_convention: sims` is for sentiments "
                "from -1 to 1; choose the target sentiment or sentiment2, or metric_convention: mosi."
            )

    @property
    def of_emotions(self) -> bool:
        return self.name in ("emotions", "emotion")

    @property
    def column(self) -> str:
        """Column of the rows with the references: a sentiment, or six intensities."""
        return "emotions" if self.of_emotions else "label"

    @property
    def score_names(self) -> tuple[str, ...]:
        """Names of a prediction's numbers: `prediction` of a regression, else the outputs, each with a probability."""
        if self.name == "sentiment":
            return ("prediction",)
        return tuple(name.replace(" ", "_") for name in TARGETS[self.name][1])

    @property
    def metric_names(self) -> tuple[str, ...]:
        if self.of_emotions:
            return METRIC_NAMES[self.name]
        names = METRIC_NAMES[self.convention]
        if self.name == "sentiment2":
            return tuple(name for name in names if name.startswith(("acc2", "f1")))
        return names

    @property
    def selection(self) -> str:
        """The metric by which the best epoch is chosen."""
        return next(name for name in SELECTION[self.name] if name in self.metric_names)

    def labels(self, references: np.ndarray) -> torch.Tensor:
        """
        What the model is trained on, from a batch's references.

        - sentiment: the sentiment itself.
        - sentiment2: 1 for y >= 0 (by "sims": y > 0), else 0.
        - sentiment7: y clipped to [-3, 3] and rounded, half to even, plus 3.
        - emotions: 1 where an intensity is above 0.
        - emotion: the emotion of the highest intensity, the first of several; -100, which counts for nothing, where all
          are 0.

        Args:
            references (`np.ndarray` of shape `(B,)` or `(B, 6)`): Sentiments or intensities.

        Returns:
            (B,) float32, (B,) int64, or (B, 6) float32.
        """
        values = np.asarray(references, np.float32)
        if self.name == "sentiment":
            return torch.from_numpy(values)
        if self.name == "emotions":
            return torch.from_numpy((values > 0).astype(np.float32))
        if self.name == "emotion":
            classes = np.where((values > 0).any(axis=1), values.argmax(axis=1), -100)
        elif self.name == "sentiment7":
            classes = np.rint(np.clip(values, -3, 3)) + 3
        else:
            classes = values > 0 if self.convention == "sims" else values >= 0
        return torch.from_numpy(classes.astype(np.int64))

    def labelled(self, references: np.ndarray) -> np.ndarray:
        """(N,) bool: which samples have a label; without any emotion there is no strongest one."""
        values = np.asarray(references)
        return np.any(values > 0, axis=1) if self.name == "emotion" else np.full(len(values), True)

    def scores(self, logits: np.ndarray) -> np.ndarray:
        """From logits (N, k) to (N, k): the sentiment, or probabilities."""
        tensor = torch.as_tensor(np.asarray(logits, np.float64))
        if self.name == "sentiment":
            return tensor.numpy()
        return (tensor.sigmoid() if self.name == "emotions" else tensor.softmax(dim=-1)).numpy()

    def sentiments(self, scores: np.ndarray) -> np.ndarray:
        """From scores (N, k) to the predicted sentiments (N,): of classes, the value of the most probable one."""
        scores = np.asarray(scores, np.float64)
        if self.name == "sentiment":
            return scores[:, 0]
        values = np.array([-1.0, 1.0]) if self.name == "sentiment2" else np.arange(-3.0, 4.0)
        # What is not finite has no most probable class; the metric names the sample.
        return np.where(np.isfinite(scores).all(axis=1), values[scores.argmax(axis=1)], np.nan)

    def metrics(self, scores: np.ndarray, references: np.ndarray, ids: Sequence[str] | None = None) -> dict[str, float]:
        """
        Scores of predictions, by the names in `metric_names`.

        Of sentiment classes, the most probable one's value is scored as a predicted sentiment is: -3 to 3 of seven, -1
        and 1 of two.

        Args:
            scores (`np.ndarray` of shape `(N, k)`): As `scores` returns them.
            references (`np.ndarray` of shape `(N,)` or `(N, 6)`): Sentiments or intensities.
            ids: For error messages.
        """
        scores, references = np.asarray(scores, np.float64), np.asarray(references, np.float64)
        if self.of_emotions:
            return emotion_metrics(scores, references, ids=ids, single_label=self.name == "emotion")
        found = regression_metrics(self.sentiments(scores), references, ids=ids, convention=self.convention)
        return {name: found[name] for name in self.metric_names}
