"""The emotion scores of the metric: by hand, by plain loops, against scikit-learn, and through `evaluate`."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score

from spaces.multimodal_sentiment.multimodal_sentiment import (
    EMOTIONS,
    LOWER_IS_BETTER,
    METRIC_NAMES,
    REGRESSION_CONVENTIONS,
    MultimodalSentiment,
    emotion_metrics,
    greater_is_better,
    regression_metrics,
)

ROOT = Path(__file__).resolve().parents[2]
SPACE = ROOT / "spaces" / "multimodal_sentiment"

# Samples: happy alone; anger, the lesser of two; nothing; fear and disgust, equally strong.
HAND_P = [
    [0.9, 0.1, 0.2, 0.6, 0.0, 0.0],
    [0.3, 0.7, 0.4, 0.1, 0.0, 0.0],
    [0.6, 0.2, 0.1, 0.1, 0.0, 0.3],
    [0.1, 0.0, 0.0, 0.0, 0.2, 0.8],
]
HAND_Y = [
    [2.0, 0.0, 0.0, 0.0, 0.0, 0.0],
    [0.0, 1.0, 2.0, 0.0, 0.0, 0.0],
    [0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
    [0.0, 0.0, 0.0, 0.0, 1.0, 1.0],
]


@pytest.fixture(autouse=True)
def no_warnings() -> Iterator[None]:
    """Undefined numbers are returned, not warned about."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        yield


@pytest.fixture
def metric(tmp_path: Path) -> MultimodalSentiment:
    return MultimodalSentiment(config_name="emotions", cache_dir=str(tmp_path))


def one_emotion(emotion: str, values: list[float]) -> np.ndarray:
    """Rows in which every other emotion is 0."""
    rows = np.zeros((len(values), len(EMOTIONS)))
    rows[:, EMOTIONS.index(emotion)] = values
    return rows


def same(scores: dict[str, float], expected: dict[str, float]) -> None:
    """Equal but for rounding, in keys, their order, and where they are nan."""
    assert list(scores) == list(expected)
    assert all(type(value) is float for value in scores.values())
    assert scores == pytest.approx(expected, rel=1e-12, abs=1e-12, nan_ok=True)


# By hand


@pytest.mark.parametrize("emotion", EMOTIONS)
def test_weighted_and_plain_accuracy_of_eight_samples(emotion):
    y = one_emotion(emotion, [1, 0, 0, 0, 1, 0, 0, 1])
    p = one_emotion(emotion, [1, 0, 1, 0, 0, 0, 0, 1])
    scores = emotion_metrics(p, y)
    assert scores[f"wa_{emotion}"] == pytest.approx(0.733333, abs=5e-7)
    assert scores[f"acc_{emotion}"] == 0.75
    assert scores["wa_avg"] == scores[f"wa_{emotion}"]  # no other emotion has one
    assert scores["acc_avg"] == pytest.approx((0.75 + 5) / 6)
    assert scores["acc6"] == pytest.approx(1 if emotion == "happy" else 2 / 3)  # all scores 0: the first one, happy


def test_multi_label_by_hand():
    scores = emotion_metrics(HAND_P, HAND_Y)
    undefined = math.nan
    # F1 of both classes and their weights: happy 2/3 (1 sample) and 4/5 (3); anger, disgust 0 (1) and 6/7 (3);
    # surprise 6/7 (4 of class absent).
    expected = {
        "acc6": 2 / 3,
        "acc_avg": (0.75 + 1 + 0.75 + 0.75 + 0.75 + 1) / 6,
        "wa_avg": (5 / 6 + 1 + 0.5 + 0.5 + 1) / 5,
        "f1_avg": (23 / 30 + 1 + 9 / 14 + 6 / 7 + 9 / 14 + 1) / 6,
        **{"acc_happy": 0.75, "wa_happy": 5 / 6, "f1_happy": 23 / 30},
        **{"acc_sad": 1, "wa_sad": 1, "f1_sad": 1},
        **{"acc_anger": 0.75, "wa_anger": 0.5, "f1_anger": 9 / 14},
        **{"acc_surprise": 0.75, "wa_surprise": undefined, "f1_surprise": 6 / 7},
        **{"acc_disgust": 0.75, "wa_disgust": 0.5, "f1_disgust": 9 / 14},
        **{"acc_fear": 1, "wa_fear": 1, "f1_fear": 1},
    }
    same(scores, expected)


def test_single_label_by_hand():
    scores = emotion_metrics(HAND_P, HAND_Y, single_label=True)
    undefined = math.nan
    # Three samples: happy for happy, sad for anger, fear for disgust or fear.
    expected = {
        "acc6": 2 / 3,
        "acc_avg": (1 + 2 / 3 + 2 / 3 + 1 + 2 / 3 + 1) / 6,
        "wa_avg": (1 + 0.5 + 0.5 + 1) / 4,
        "f1_avg": (1 + 4 / 5 + 8 / 15 + 1 + 8 / 15 + 1) / 6,
        "f1_weighted": 2 / 3,  # true classes: happy, anger, fear
        **{"acc_happy": 1, "wa_happy": 1, "f1_happy": 1},
        **{"acc_sad": 2 / 3, "wa_sad": undefined, "f1_sad": 4 / 5},
        **{"acc_anger": 2 / 3, "wa_anger": 0.5, "f1_anger": 8 / 15},
        **{"acc_surprise": 1, "wa_surprise": undefined, "f1_surprise": 1},
        **{"acc_disgust": 2 / 3, "wa_disgust": 0.5, "f1_disgust": 8 / 15},
        **{"acc_fear": 1, "wa_fear": 1, "f1_fear": 1},
    }
    same(scores, expected)


@pytest.mark.parametrize("single_label", [False, True])
def test_a_perfect_prediction_is_perfect(single_label):
    y = np.vstack([np.diag([3, 2, 1, 1 / 3, 2 / 3, 0.5]), np.zeros(6)])
    scores = emotion_metrics(y / 3, y, threshold=0, single_label=single_label)
    assert list(scores) == list(METRIC_NAMES["emotion" if single_label else "emotions"])
    assert set(scores.values()) == {1.0}


# By plain loops


def draw(kind: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    if kind == "continuous":
        y = np.where(rng.random((150, 6)) < [0.5, 0.3, 0.2, 0.1, 0.15, 0.05], rng.uniform(0.1, 3, (150, 6)), 0)
        return np.clip(y / 3 + rng.normal(0.2, 0.3, y.shape), 0, 1), y
    if kind == "ties":  # scores on the threshold, equal scores and equal intensities
        y = rng.integers(0, 4, (200, 6)) * (rng.random((200, 6)) < 0.4) / 3
        return rng.integers(0, 5, y.shape) / 4, y
    if kind == "flags":
        return rng.random((80, 6)), rng.integers(0, 2, (80, 6))
    if kind == "few":
        return rng.random((3, 6)), rng.integers(0, 2, (3, 6)) * 1.5
    assert kind == "absent and everywhere"
    y = rng.integers(0, 3, (60, 6)).astype(float)
    y[:, 1], y[:, 4] = 0, 1
    return rng.random(y.shape), y


KINDS = ["continuous", "ties", "flags", "few", "absent and everywhere"]


def binary_f1(pairs: list[tuple[bool, bool]]) -> float:
    """Class-weighted F1 of (predicted, true) pairs through precision and recall."""
    total = 0.0
    for label in (False, True):
        right = sum(predicted == label == true for predicted, true in pairs)
        predictions = sum(predicted == label for predicted, _ in pairs)
        truths = sum(true == label for _, true in pairs)
        if right:
            precision, recall = right / predictions, right / truths
            total += truths * 2 * precision * recall / (precision + recall)
    return total / len(pairs)


def by_loops(p, y, single_label: bool, threshold: float) -> dict[str, float]:
    """What the docstring says, sample by sample."""
    rows: list[tuple[list[bool], list[bool]]] = []
    hits: list[bool] = []
    for scores, intensities in zip(p, y, strict=True):
        best = max(range(6), key=lambda k: (scores[k], -k))
        strongest = [k for k in range(6) if intensities[k] == max(intensities)]
        has_emotion = any(intensity > 0 for intensity in intensities)
        if has_emotion:
            hits.append(best in strongest)
        if not single_label:
            rows.append(([score > threshold for score in scores], [intensity > 0 for intensity in intensities]))
        elif has_emotion:
            rows.append(([k == best for k in range(6)], [k in strongest for k in range(6)]))
    result: dict[str, float] = {}
    for k, emotion in enumerate(EMOTIONS):
        pairs = [(predicted[k], true[k]) for predicted, true in rows]
        n_true, n_false = sum(true for _, true in pairs), sum(not true for _, true in pairs)
        tp = sum(predicted and true for predicted, true in pairs)
        tn = sum(not predicted and not true for predicted, true in pairs)
        result[f"acc_{emotion}"] = (tp + tn) / len(pairs)
        result[f"wa_{emotion}"] = (tp * n_false / n_true + tn) / (2 * n_false) if n_true and n_false else math.nan
        result[f"f1_{emotion}"] = binary_f1(pairs)
    averages = {"acc6": sum(hits) / len(hits)}
    for name in ("acc", "wa", "f1"):
        values = [result[f"{name}_{emotion}"] for emotion in EMOTIONS]
        defined = [value for value in values if value == value]
        averages[f"{name}_avg"] = sum(defined) / len(defined)
    return {**averages, **result}


@pytest.mark.parametrize("single_label", [False, True])
@pytest.mark.parametrize("threshold", [0.5, 0.25, 0])
@pytest.mark.parametrize("kind", KINDS)
def test_against_plain_loops(kind, threshold, single_label):
    for seed in range(3):
        p, y = draw(kind, seed)
        scores = emotion_metrics(p, y, single_label=single_label, threshold=threshold)
        assert list(scores) == list(METRIC_NAMES["emotion" if single_label else "emotions"])
        scores.pop("f1_weighted", None)
        same(scores, by_loops(p.tolist(), y.tolist(), single_label, threshold))


# Against scikit-learn


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", KINDS)
def test_multi_label_against_scikit_learn(kind, seed):
    p, y = draw(kind, seed)
    scores = emotion_metrics(p, y)
    predicted, present = p > 0.5, y > 0
    for k, emotion in enumerate(EMOTIONS):
        pair = present[:, k], predicted[:, k]
        assert scores[f"acc_{emotion}"] == pytest.approx(accuracy_score(*pair))
        assert scores[f"f1_{emotion}"] == pytest.approx(f1_score(*pair, average="weighted", zero_division=0))
        if 0 < present[:, k].sum() < len(y):
            assert scores[f"wa_{emotion}"] == pytest.approx(balanced_accuracy_score(*pair))
        else:
            assert math.isnan(scores[f"wa_{emotion}"])
    # TBJE's program counts all cells at once.
    assert scores["acc_avg"] == pytest.approx(accuracy_score(present.ravel(), predicted.ravel()))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", ["continuous", "ties", "flags", "few"])
def test_single_label_against_scikit_learn(kind, seed):
    p, y = draw(kind, seed)
    p, y = p[y.sum(axis=1) > 0], y[y.sum(axis=1) > 0]
    scores = emotion_metrics(p, y, single_label=True)
    predicted = [row.index(max(row)) for row in p.tolist()]
    true = []
    for best, row in zip(predicted, y.tolist(), strict=True):
        strongest = [k for k in range(6) if row[k] == max(row)]
        true.append(best if best in strongest else strongest[0])
    assert scores["acc6"] == pytest.approx(accuracy_score(true, predicted))
    assert scores["f1_weighted"] == pytest.approx(f1_score(true, predicted, average="weighted", zero_division=0))
    # The bound that the card states.
    assert scores["f1_weighted"] <= 2 * scores["acc6"] / (1 + scores["acc6"]) + 1e-12


# Ties and thresholds


@pytest.mark.parametrize(("scores", "hit"), [([0.5, 0.2, 0.5, 0, 0, 0], 0), ([0.2, 0.5, 0.5, 0, 0, 0], 1)])
@pytest.mark.parametrize("single_label", [False, True])
def test_of_equal_scores_the_first_counts(scores, hit, single_label):
    assert emotion_metrics([scores], [[0, 1, 0.5, 0, 0, 0]], single_label=single_label)["acc6"] == hit


@pytest.mark.parametrize(("best", "hit"), [("sad", 1), ("disgust", 1), ("happy", 0), ("fear", 0)])
@pytest.mark.parametrize("single_label", [False, True])
def test_of_equal_intensities_any_is_right(best, hit, single_label):
    p, y = one_emotion(best, [0.9]), [[0.3, 2, 0, 0, 2, 0]]
    assert emotion_metrics(p, y, single_label=single_label)["acc6"] == hit


def test_f1_weighted_takes_the_predicted_one_of_equal_truths_else_the_first():
    y = [[0, 2, 0, 0, 2, 0], [0, 2, 0, 0, 2, 0], [0, 0, 0, 0, 1, 0]]
    p = np.vstack([one_emotion(name, [0.9]) for name in ("disgust", "happy", "disgust")])
    scores = emotion_metrics(p, y, single_label=True)
    # True classes: disgust (predicted), sad (the first), disgust.
    assert scores["f1_weighted"] == pytest.approx((2 * 1 + 1 * 0) / 3)
    # One against the rest, every tied emotion is true.
    assert scores["acc_sad"] == pytest.approx(1 / 3) and scores["acc_disgust"] == pytest.approx(2 / 3)


@pytest.mark.parametrize("threshold", [0.5, 0.25, 0, -1, 2])
def test_a_score_on_the_threshold_is_absent(threshold):
    for score, present in [(threshold, 0), (np.nextafter(threshold, 9), 1), (np.nextafter(threshold, -9), 0)]:
        found = emotion_metrics(np.full((1, 6), score), np.ones((1, 6)), threshold=threshold)
        assert found["acc_avg"] == present, score


def test_logits_with_threshold_0_score_as_their_probabilities():
    p, y = draw("continuous", 4)
    p = np.clip(p, 0.01, 0.99)
    assert emotion_metrics(np.log(p / (1 - p)), y, threshold=0) == emotion_metrics(p, y)


def test_only_presence_counts_but_for_acc6():
    p, y = draw("continuous", 5)
    graded, flags = emotion_metrics(p, y), emotion_metrics(p, (y > 0).astype(int))
    assert graded.pop("acc6") < flags.pop("acc6")  # equal intensities, and any of them is right
    assert graded == flags


def test_single_label_uses_no_threshold_and_leaves_samples_without_emotion_out():
    p, y = draw("continuous", 6)
    empty = y.max(axis=1) == 0
    assert 0 < empty.sum() < len(y)
    scores = emotion_metrics(p, y, single_label=True)
    assert emotion_metrics(p, y, single_label=True, threshold=0.9) == scores
    assert emotion_metrics(p[~empty], y[~empty], single_label=True) == scores
    assert emotion_metrics(p[~empty], y[~empty])["acc6"] == scores["acc6"] == emotion_metrics(p, y)["acc6"]


# Undefined numbers


def test_weighted_accuracy_of_an_emotion_with_one_class_is_undefined():
    p, y = draw("absent and everywhere", 0)
    scores = emotion_metrics(p, y)
    assert [name for name, value in scores.items() if math.isnan(value)] == ["wa_sad", "wa_disgust"]
    defined = [scores[f"wa_{emotion}"] for emotion in ("happy", "anger", "surprise", "fear")]
    assert scores["wa_avg"] == pytest.approx(sum(defined) / 4)


def test_no_emotion_anywhere():
    p = np.full((4, 6), 0.1)
    p[0, 0] = 0.8
    scores = emotion_metrics(p, np.zeros((4, 6)))
    undefined = {"acc6", "wa_avg", *(f"wa_{emotion}" for emotion in EMOTIONS)}
    assert {name for name, value in scores.items() if math.isnan(value)} == undefined
    assert scores["acc_happy"] == 0.75 and scores["acc_avg"] == pytest.approx(23 / 24)
    single = emotion_metrics(p, np.zeros((4, 6)), single_label=True)
    assert list(single) == list(METRIC_NAMES["emotion"]) and all(math.isnan(value) for value in single.values())


def test_one_sample():
    scores = emotion_metrics([[0.9, 0, 0, 0, 0, 0]], [[1, 0, 0, 0, 0, 0]])
    undefined = {"wa_avg", *(f"wa_{emotion}" for emotion in EMOTIONS)}
    assert {name for name, value in scores.items() if math.isnan(value)} == undefined
    assert {value for name, value in scores.items() if name not in undefined} == {1.0}


# Inputs


@pytest.mark.parametrize("convert", [list, np.array, torch.tensor], ids=["list", "numpy", "torch"])
def test_kinds_of_inputs(convert):
    for single_label in (False, True):
        expected = emotion_metrics(np.array(HAND_P), np.array(HAND_Y), single_label=single_label)
        same(emotion_metrics(convert(HAND_P), convert(HAND_Y), single_label=single_label), expected)


def test_inputs_are_left_as_they_were():
    p, y = np.array(HAND_P), np.array(HAND_Y)
    emotion_metrics(p, y)
    emotion_metrics(p, y, single_label=True)
    assert (p == HAND_P).all() and (y == HAND_Y).all()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, None])
@pytest.mark.parametrize("argument", ["predictions", "references"])
def test_value_that_is_not_finite_is_named(argument, bad):
    inputs = {"predictions": [list(row) for row in HAND_P], "references": [list(row) for row in HAND_Y]}
    inputs[argument][2][4] = inputs[argument][3][0] = bad
    shown = "nan" if bad is None else str(bad)
    ids = ["abc$_$1", "abc$_$2", "abc$_$3", "abc$_$4"]
    for names in (ids, np.array(ids), iter(ids)):
        with pytest.raises(ValueError) as caught:
            emotion_metrics(**inputs, ids=names)
        expected = f"`{argument}` must be finite; got {shown} for id 'abc$_$3' (position 2), emotion 'disgust'"
        assert expected in str(caught.value) and "2 of 24 values" in str(caught.value)
    expected = f"`{argument}` must be finite; got {shown} at position 2, emotion 'disgust'"
    with pytest.raises(ValueError, match=re.escape(expected)):
        emotion_metrics(**inputs, single_label=True)


def test_negative_intensity_is_named_and_negative_score_is_not():
    y = np.array(HAND_Y)
    y[1, 5] = y[3, 0] = -0.5
    for ids in (["a", "b", "c", "d"], iter("abcd")):
        with pytest.raises(ValueError) as caught:
            emotion_metrics(HAND_P, y, ids=ids)
        expected = (
            "`references` must be intensities from 0 (absent) up; got -0.5 for id 'b' (position 1), emotion 'fear'"
        )
        assert expected in str(caught.value) and "2 of 24 values are negative" in str(caught.value)
    with pytest.raises(ValueError, match="got -0.5 at position 1, emotion 'fear'"):
        emotion_metrics(HAND_P, y, single_label=True)
    assert emotion_metrics(-np.array(HAND_P), HAND_Y)["acc_happy"] == 0.75
    assert emotion_metrics(HAND_P, np.negative(np.zeros((4, 6))))["acc_sad"] == 0.75  # -0.0 is absent


ROW = [[0.0] * 6]


@pytest.mark.parametrize(
    ("p", "y", "options", "message"),
    [
        ([], [], {}, "must not be empty; got 0 samples"),
        (np.zeros((0, 6)), [], {}, "must not be empty"),
        (ROW * 2, ROW, {}, "got 2 predictions and 1 references"),
        ([[0.0] * 7], ROW, {}, r"`predictions` must have shape \(samples, 6\), .* order happy, sad, .*got \(1, 7\)"),
        (ROW, [[0.0] * 5], {}, r"`references` must have shape \(samples, 6\).*surprise, disgust, fear; got \(1, 5\)"),
        (ROW[0], ROW, {}, r"`predictions` must have shape \(samples, 6\).*got \(6,\)"),
        ([ROW], ROW, {}, r"`predictions` must have shape \(samples, 6\).*got \(1, 1, 6\)"),
        (np.zeros((0, 5)), ROW, {}, r"`predictions` must have shape \(samples, 6\).*got \(0, 5\)"),
        (0.5, ROW, {}, r"`predictions` must have shape \(samples, 6\).*got \(\)"),
        ([[0.0] * 6, [0.0] * 5], ROW * 2, {}, "`predictions` must be real numbers, equally many per sample"),
        ([["happy"] * 6], ROW, {}, "`predictions` must be real numbers; got <U5"),
        (ROW, np.zeros((1, 6), dtype=bool), {}, "`references` must be real numbers; got bool"),
        (ROW, ROW, {"ids": ["a", "b"]}, "got 2 ids for 1 samples"),
        (ROW, ROW, {"single_label": "yes"}, "`single_label` must be one of False, True; got 'yes'"),
        (ROW, ROW, {"threshold": math.nan}, "`threshold` must be a finite number.*got nan"),
        (ROW, ROW, {"threshold": math.inf}, "`threshold` must be a finite number.*got inf"),
        (ROW, ROW, {"threshold": "0.5"}, "`threshold` must be a finite number.*got '0.5'"),
        (ROW, ROW, {"threshold": True}, "`threshold` must be a finite number.*got True"),
        (ROW, ROW, {"threshold": [0.5] * 6}, "`threshold` must be a finite number"),
    ],
)
def test_bad_input_says_what_came(p, y, options, message):
    with pytest.raises(ValueError, match=message):
        emotion_metrics(p, y, **options)


def test_regression_takes_its_own_conventions_only():
    assert REGRESSION_CONVENTIONS == ("mosi", "sims")
    for name in ("emotions", "emotion"):
        with pytest.raises(ValueError, match=f"must be one of 'mosi', 'sims'; got '{name}'."):
            regression_metrics([1.0], [1.0], convention=name)


# Names


def test_names_and_directions():
    assert EMOTIONS == ("happy", "sad", "anger", "surprise", "disgust", "fear")
    per_emotion = [f"{score}_{emotion}" for emotion in EMOTIONS for score in ("acc", "wa", "f1")]
    assert METRIC_NAMES["emotions"] == ("acc6", "acc_avg", "wa_avg", "f1_avg", *per_emotion)
    assert METRIC_NAMES["emotion"] == ("acc6", "acc_avg", "wa_avg", "f1_avg", "f1_weighted", *per_emotion)
    y = np.eye(6)
    for single_label, names in [(False, "emotions"), (True, "emotion")]:
        best = emotion_metrics(y, y, single_label=single_label)
        worse = emotion_metrics(1 - y, y, single_label=single_label)
        for name in METRIC_NAMES[names]:
            assert greater_is_better(name) is (best[name] > worse[name]) is True, name
            assert name not in LOWER_IS_BETTER


@pytest.mark.parametrize(
    ("name", "nearest"), [("wa_angry", "wa_anger"), ("f1_weigthed", "f1_weighted"), ("waavg", "wa_avg")]
)
def test_unknown_name_leads_to_the_nearest(name, nearest):
    with pytest.raises(ValueError, match=f"wa_surprise; got '{name}'. Nearest: '{nearest}'"):
        greater_is_better(name)


# Through evaluate


@pytest.mark.parametrize("keep_in_memory", [False, True])
@pytest.mark.parametrize("options", [{}, {"threshold": 0.25}, {"single_label": True}])
def test_batches_equal_one_call(tmp_path, options, keep_in_memory):
    metric = MultimodalSentiment(config_name="emotions", cache_dir=str(tmp_path), keep_in_memory=keep_in_memory)
    p, y = draw("ties", 5)
    expected = emotion_metrics(p, y, **options)
    same(metric.compute(predictions=p, references=y, **options), expected)
    for start in range(0, len(y), 64):
        metric.add_batch(predictions=p[start : start + 64], references=y[start : start + 64].tolist())
    same(metric.compute(**options), expected)
    for prediction, reference in zip(p[:9], y[:9], strict=True):
        metric.add(prediction=prediction, reference=reference)
    same(metric.compute(**options), emotion_metrics(p[:9], y[:9], **options))


def test_evaluate_keeps_every_bit(metric):
    p = np.full((2, 6), 0.5)
    p[0] = np.nextafter(0.5, 1)  # 0.5 in float32, which is absent
    y = np.repeat([[1.0], [0.0]], 6, axis=1)
    assert metric.compute(predictions=p, references=y)["acc_avg"] == 1


@pytest.mark.parametrize("bad", [math.nan, math.inf, None])
def test_ids_reach_errors_through_batches_and_the_metric_recovers(metric, bad):
    metric.add_batch(predictions=HAND_P[:2], references=HAND_Y[:2])
    metric.add_batch(predictions=[HAND_P[2], [0.1, bad, 0, 0, 0, 0]], references=HAND_Y[2:])
    shown = "nan" if bad is None else bad
    with pytest.raises(ValueError, match=re.escape(f"got {shown} for id 'd' (position 3), emotion 'sad'")):
        metric.compute(ids=["a", "b", "c", "d"])
    same(metric.compute(predictions=HAND_P, references=HAND_Y), emotion_metrics(HAND_P, HAND_Y))


@pytest.mark.parametrize(
    ("p", "y", "options", "message"),
    [
        ([], [], {}, "must not be empty"),
        (ROW * 2, ROW, {}, "Mismatch in the number of predictions"),
        ([[0.0] * 7], ROW, {}, r"must have shape \(samples, 6\), .* got \(1, 7\)"),
        ([[0.0] * 6, [0.0] * 5], ROW * 2, {}, "equally many per sample"),
        ([0.5], [1.0], {}, "don't match the expected format"),
        (ROW, [[-1.0] * 6], {}, "must be intensities from 0"),
        (ROW, ROW, {"threshold": math.nan}, "`threshold` must be a finite number"),
        (ROW, ROW, {"convention": "mosi"}, "`convention` belongs to the configuration 'default'; this is 'emotions'"),
        (ROW, ROW, {"f1_weights": "references"}, "`f1_weights` belongs to the configuration 'default'"),
    ],
)
def test_evaluate_refuses_what_does_not_fit(metric, p, y, options, message):
    with pytest.raises(ValueError, match=message):
        metric.compute(predictions=p, references=y, **options)


@pytest.mark.parametrize("option", [{"single_label": False}, {"threshold": 0.5}])
def test_the_default_configuration_refuses_options_of_emotions(tmp_path, option):
    metric = MultimodalSentiment(cache_dir=str(tmp_path))
    with pytest.raises(ValueError) as caught:
        metric.compute(predictions=[1.0], references=[1.0], **option)
    name = next(iter(option))
    assert f"`{name}` belongs to the configuration 'emotions'; this is 'default'" in str(caught.value)
    assert "with `convention` and `f1_weights`" in str(caught.value)
    assert metric.compute(predictions=[0.5, 1], references=[0.5, 1])["mae"] == 0


def test_unknown_options_and_configurations_are_not_ignored(metric, tmp_path):
    with pytest.raises(TypeError, match="cutoff"):
        metric.compute(predictions=ROW, references=ROW, cutoff=0.5)
    with pytest.raises(ValueError, match="configurations 'default' .* and 'emotions'; got 'emotion'"):
        MultimodalSentiment(config_name="emotion", cache_dir=str(tmp_path))


def test_evaluate_load_of_both_configurations_from_a_copy_of_the_file(tmp_path):
    """In a fresh interpreter, outside the checkout, without the packages the tests compare with."""
    folder = tmp_path / "multimodal_sentiment"
    folder.mkdir()
    (folder / "multimodal_sentiment.py").write_text((SPACE / "multimodal_sentiment.py").read_text("utf-8"), "utf-8")
    p, y = (values.tolist() for values in draw("ties", 7))
    source = f"""
import sys
sys.modules["sklearn"] = sys.modules["scipy"] = None
import json
import evaluate
p, y = {p!r}, {y!r}
emotions = evaluate.load("./multimodal_sentiment", "emotions")
sentiment = evaluate.load("./multimodal_sentiment")
for start in range(0, len(y), 90):
    emotions.add_batch(predictions=p[start:start + 90], references=y[start:start + 90])
    columns = [[row[0] for row in rows[start:start + 90]] for rows in (p, y)]
    sentiment.add_batch(predictions=columns[0], references=columns[1])
results = [emotions.compute(), emotions.compute(predictions=p, references=y, single_label=True), sentiment.compute()]
try:
    evaluate.load("./multimodal_sentiment", "feelings")
except ValueError as error:
    results.append(str(error))
print(json.dumps(results))
"""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("HF_")},
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_OFFLINE": "1",
        "HF_EVALUATE_OFFLINE": "1",
        "PYTHONPATH": "",
    }
    done = subprocess.run([sys.executable, "-c", source], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    many, one, sentiment, refusal = json.loads(done.stdout.splitlines()[-1])
    same(many, emotion_metrics(p, y))
    same(one, emotion_metrics(p, y, single_label=True))
    same(sentiment, regression_metrics([row[0] for row in p], [row[0] for row in y]))
    assert "'default'" in refusal and "'emotions'; got 'feelings'" in refusal


# Documentation


def test_card_states_columns_and_bound():
    card = (SPACE / "README.md").read_text("utf-8")
    assert ", ".join(EMOTIONS) in card
    assert round(100 * 2 * 0.497 / 1.497, 1) == 66.4
    assert round(np.mean([72.6, 73.7, 75.9, 87.0, 84.8, 93.2]), 1) == 81.2
