"""
Metrics as functions of sums over samples, so that a bootstrap needs no sample twice.

Each is m(sum of c): a sample has columns c, and m turns their sums into the metric. The sums on a resample are
`counts @ columns`. Definitions are those of spaces/multimodal_sentiment, by way of `Target.metrics`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from training.prediction import reference_names, scores_and_references
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


def summed_metric(name: str, target: Target, origin: tuple[float, float] | None = None) -> SummedMetric:
    """
    Any metric of a target as a function of sums; on the samples as they are, it is what `Target.metrics` gives.

    Args:
        origin: Sentiments, predicted and true, that correlation's sums are taken around: the columns of samples that
            come in several parts can then be added up. By default the means of the samples that are given.

    Raises:
        ValueError: if the target has no metric of that name.
    """
    if name not in target.metric_names:
        raise ValueError(f"`metric` must be one of {', '.join(target.metric_names)} for {target.name}; got {name!r}.")
    return _emotion_metric(name, target) if target.of_emotions else _sentiment_metric(name, target, origin)


def metrics_of_tables(tables: Iterable[pa.Table], target: Target) -> dict[str, float]:
    """
    What `training.prediction.table_metrics` gives of all tables together, one of which is held at a time.

    Args:
        tables: Of `predict_rows`, with references.
        target: What was predicted.

    Raises:
        ValueError: for predictions or references that are not finite, naming the first sample, and for no tables.
    """
    metrics: dict[str, SummedMetric] = {}
    sums: dict[str, np.ndarray] = {}
    for table in tables:
        scores, references = scores_and_references(table, target)
        scores, references = np.asarray(scores, np.float64), np.asarray(references, np.float64)
        finite = np.isfinite(scores).all(axis=1) & np.isfinite(references.reshape(len(table), -1)).all(axis=1)
        if not finite.all():
            sample = table["id"][int(np.flatnonzero(~finite)[0])].as_py()
            raise ValueError(
                f"Metrics need finite predictions and labels, but {int((~finite).sum())} of {len(table)} samples of a "
                f"table have others, the first of them {sample!r}; look at the data and the checkpoint."
            )
        if not metrics:
            origin = None if target.of_emotions else (target.sentiments(scores).mean(), references.mean())
            metrics = {name: summed_metric(name, target, origin) for name in target.metric_names}
        for name, metric in metrics.items():
            sums[name] = sums.get(name, 0) + metric.columns(scores, references).sum(axis=0)
    if not metrics:
        raise ValueError("Metrics need at least one table, but none came.")
    with np.errstate(invalid="ignore", divide="ignore"):
        return {name: float(metric.value(sums[name])) for name, metric in metrics.items()}


def _sentiment_metric(name: str, target: Target, origin: tuple[float, float] | None) -> SummedMetric:
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
        p, y = pair(scores, references)
        around = (p.mean(), y.mean()) if origin is None else origin
        p, y = p - around[0], y - around[1]
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
