"""
Metrics as functions of sums over samples, so that a bootstrap needs no sample twice.

Each is m(sum of c): a sample has columns c, and m turns their sums into the metric. The sums on a resample are
`counts @ columns`. Definitions are those of spaces/multimodal_sentiment, by way of `Target.metrics`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from training.prediction import reference_names
from training.targets import Target

SIMS_CUTS = {"acc2": (0.0,), "acc3": (-0.1, 0.1), "acc5": (-0.7, -0.1, 0.1, 0.7), "f1": (0.0,)}
ROUNDED = {"acc7": 3, "acc5": 2}


@dataclass(frozen=True)
class SummedMetric:
    """
    A metric m(sum over samples of c), c being columns of a sample.

    Attributes:
        columns: From scores (N, k) and references (N,) or (N, 6), as `Target.metrics` takes them, to (N, columns).
        value: From sums (..., columns) to (...); NaN where the sums leave the metric undefined.
    """

    columns: Callable[[np.ndarray, np.ndarray], np.ndarray]
    value: Callable[[np.ndarray], np.ndarray]


def summed_metric(name: str, target: Target) -> SummedMetric:
    """
    Any metric of a target as a function of sums; on the samples as they are, it is what `Target.metrics` gives.

    Raises:
        ValueError: if the target has no metric of that name.
    """
    if name not in target.metric_names:
        raise ValueError(f"`metric` must be one of {', '.join(target.metric_names)} for {target.name}; got {name!r}.")
    return _emotion_metric(name, target) if target.of_emotions else _sentiment_metric(name, target)


def _sentiment_metric(name: str, target: Target) -> SummedMetric:
    sims = target.convention == "sims"

    def pair(scores: np.ndarray, references: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        p, y = target.sentiments(scores), np.asarray(references, np.float64)
        return (np.clip(p, -1, 1), np.clip(y, -1, 1)) if sims else (p, y)

    def classes(scores: np.ndarray, references: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        p, y = pair(scores, references)
        counted = y != 0 if name.endswith("non0") else np.full(len(y), True)
        return _classes(p, name, sims), _classes(y, name, sims), counted

    def errors(scores: np.ndarray, references: np.ndarray) -> np.ndarray:
        p, y = pair(scores, references)
        return np.stack([np.abs(p - y), np.ones(len(y))], axis=1)

    def moments(scores: np.ndarray, references: np.ndarray) -> np.ndarray:
        # Correlation does not change with the origin; near the mean, squares lose the fewest digits.
        p, y = (values - values.mean() for values in pair(scores, references))
        return np.stack([p, y, p * p, y * y, p * y, np.ones(len(y))], axis=1)

    def agreement(scores: np.ndarray, references: np.ndarray) -> np.ndarray:
        p, y, counted = classes(scores, references)
        return np.stack([(p == y) & counted, counted], axis=1).astype(np.float64)

    def counts(scores: np.ndarray, references: np.ndarray) -> np.ndarray:
        p, y, counted = classes(scores, references)
        return _class_counts(p, y, (0, 1), counted)

    if name == "corr":
        return SummedMetric(moments, _correlation)
    if name.startswith("f1"):
        return SummedMetric(counts, lambda sums: _weighted_f1(_by_class(sums, 2)))
    return SummedMetric(errors if name == "mae" else agreement, lambda sums: sums[..., 0] / sums[..., 1])


def _classes(values: np.ndarray, name: str, sims: bool) -> np.ndarray:
    if sims:
        return np.searchsorted(np.asarray(SIMS_CUTS[name], np.float32), values.astype(np.float32), side="left")
    if name in ROUNDED:
        return np.rint(np.clip(values, -ROUNDED[name], ROUNDED[name]))
    return (values >= 0 if name.endswith("has0") else values > 0).astype(np.int64)


def _emotion_metric(name: str, target: Target) -> SummedMetric:
    single = target.name == "emotion"
    emotions = [emotion.removesuffix("_label") for emotion in reference_names(target)]
    kind, _, which = name.partition("_")
    chosen = [emotions.index(which)] if which in emotions else range(len(emotions))

    def hits(scores: np.ndarray, references: np.ndarray) -> np.ndarray:
        labelled = _labelled(references)
        return np.stack([_strongest_is_true(scores, references) & labelled, labelled], axis=1).astype(np.float64)

    def weighted(scores: np.ndarray, references: np.ndarray) -> np.ndarray:
        # One true class per sample: the predicted one where it is among the strongest, else the first of them.
        p = scores.argmax(axis=1)
        y = np.where(_strongest_is_true(scores, references), p, references.argmax(axis=1))
        return _class_counts(p, y, range(len(emotions)), _labelled(references))

    def presence(scores: np.ndarray, references: np.ndarray) -> np.ndarray:
        if single:
            p = scores.argmax(axis=1)[:, np.newaxis] == np.arange(len(emotions))
            y = references == references.max(axis=1, keepdims=True)
            counted = _labelled(references)
        else:
            p, y, counted = scores > 0.5, references > 0, np.full(len(references), True)
        return np.concatenate([_class_counts(p[:, k], y[:, k], (False, True), counted) for k in chosen], axis=1)

    def average(sums: np.ndarray) -> np.ndarray:
        by_emotion = sums.reshape(*sums.shape[:-1], len(chosen), 2, 3)
        values = {"acc": _accuracy, "wa": _mean_recall, "f1": _weighted_f1}[kind](by_emotion)
        defined = ~np.isnan(values)
        return np.where(defined, values, 0).sum(axis=-1) / defined.sum(axis=-1)

    if name == "acc6":
        return SummedMetric(hits, lambda sums: sums[..., 0] / sums[..., 1])
    if name == "f1_weighted":
        return SummedMetric(weighted, lambda sums: _weighted_f1(_by_class(sums, len(emotions))))
    return SummedMetric(presence, average)


def _labelled(references: np.ndarray) -> np.ndarray:
    return np.any(references > 0, axis=1)


def _strongest_is_true(scores: np.ndarray, references: np.ndarray) -> np.ndarray:
    return np.take_along_axis(references, scores.argmax(axis=1)[:, np.newaxis], 1)[:, 0] == references.max(axis=1)


def _class_counts(p: np.ndarray, y: np.ndarray, classes: Sequence[int], counted: np.ndarray) -> np.ndarray:
    """(N, 3 classes): whether a counted sample is a hit of the class, predicted to be of it, and of it."""
    flags = [flag & counted for c in classes for flag in ((p == c) & (y == c), p == c, y == c)]
    return np.stack(flags, axis=1).astype(np.float64)


def _by_class(sums: np.ndarray, classes: int) -> np.ndarray:
    return sums.reshape(*sums.shape[:-1], classes, 3)


def _accuracy(counts: np.ndarray) -> np.ndarray:
    return counts[..., 0].sum(axis=-1) / counts[..., 2].sum(axis=-1)


def _mean_recall(counts: np.ndarray) -> np.ndarray:
    return (counts[..., 0] / counts[..., 2]).mean(axis=-1)


def _weighted_f1(counts: np.ndarray) -> np.ndarray:
    hits, predicted, true = np.moveaxis(counts, -1, 0)
    f1 = 2 * hits / np.maximum(predicted + true, 1)  # a class that is neither has no weight
    return (true * f1).sum(axis=-1) / true.sum(axis=-1)


def _correlation(sums: np.ndarray) -> np.ndarray:
    p, y, pp, yy, py = np.moveaxis(sums[..., :5], -1, 0) / sums[..., 5]
    variances = [square - mean**2 for square, mean in ((pp, p), (yy, y))]
    # A constant's variance is a rounding error, and so is a correlation of it.
    constant = [v <= 1e-12 * square for v, square in zip(variances, (pp, yy), strict=True)]
    root = np.sqrt(np.where(constant[0] | constant[1], np.nan, variances[0] * variances[1]))
    return np.clip((py - p * y) / root, -1, 1)
