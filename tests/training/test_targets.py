"""Targets: labels at the edges, scores, and metrics, by loops of their own."""

import math

import numpy as np
import pytest
import torch

from configuration import EMOTIONS, TARGETS
from spaces.multimodal_sentiment.multimodal_sentiment import METRIC_NAMES
from training.targets import Target

CONVENTIONS = ("mosi", "sims")
ALL = [
    (name, convention) for name in TARGETS for convention in CONVENTIONS if (name, convention) != ("sentiment7", "sims")
]
# Sentiments where classes meet: y, the class of two by "mosi" and by "sims", the class of seven.
EDGES = (
    (-3.4, 0, 0, 0),
    (-3.0, 0, 0, 0),
    (-2.5, 0, 0, 1),  # halves go to the even integer
    (-1.5, 0, 0, 1),
    (-0.5, 0, 0, 3),
    (-0.0, 1, 0, 3),  # zero is not negative by "mosi", and not positive by "sims"
    (0.0, 1, 0, 3),
    (0.5, 1, 1, 3),
    (0.51, 1, 1, 4),
    (1.5, 1, 1, 5),
    (2.5, 1, 1, 5),
    (3.4, 1, 1, 6),
)
INTENSITIES = (
    (0, 0, 0, 0, 0, 0),
    (0, 0, 0, 0, 0, 0.01),
    (2, 0, 1, 0, 0, 0),
    (0, 1, 3, 3, 0, 3),
    (1, 1, 1, 1, 1, 1),
    (0, 0, 0, 0, 3, 2.9),
)
STRONGEST = (-100, 5, 0, 2, 0, 4)  # the first of several


def one_hot(labels, classes):
    return np.eye(classes)[np.asarray(labels)]


# Labels


@pytest.mark.parametrize("dtype", [np.float32, np.float64, list])
@pytest.mark.parametrize(
    ("name", "convention", "column"),
    [("sentiment2", "mosi", 1), ("sentiment2", "sims", 2), ("sentiment7", "mosi", 3)],
)
def test_classes_of_a_sentiment(name, convention, column, dtype):
    sentiments = [row[0] for row in EDGES]
    given = sentiments if dtype is list else np.array(sentiments, dtype)
    labels = Target(name, convention).labels(given)
    assert labels.dtype == torch.int64 and labels.tolist() == [row[column] for row in EDGES]


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_labels_of_a_regression_are_the_sentiments(convention):
    values = np.array([row[0] for row in EDGES], np.float32)
    labels = Target("sentiment", convention).labels(values)
    assert labels.dtype == torch.float32 and labels.tolist() == values.tolist()


def test_labels_of_emotions():
    labels = Target("emotions").labels(np.array(INTENSITIES, np.float32))
    assert labels.dtype == torch.float32
    assert labels.tolist() == [[float(value > 0) for value in row] for row in INTENSITIES]


def test_labels_of_the_strongest_emotion():
    target = Target("emotion")
    labels = target.labels(np.array(INTENSITIES, np.float32))
    assert labels.dtype == torch.int64 and labels.tolist() == list(STRONGEST)
    assert target.labelled(INTENSITIES).tolist() == [label >= 0 for label in STRONGEST]


@pytest.mark.parametrize("name", ["sentiment", "sentiment2", "sentiment7", "emotions"])
def test_every_sample_has_a_label_of_the_others(name):
    references = INTENSITIES if name == "emotions" else [row[0] for row in EDGES]
    assert Target(name).labelled(references).tolist() == [True] * len(references)


@pytest.mark.parametrize(("name", "convention"), ALL)
def test_labels_do_not_write_into_the_references(name, convention):
    target = Target(name, convention)
    references = np.array(INTENSITIES if target.of_emotions else [row[0] for row in EDGES], np.float32)
    before = references.copy()
    target.labels(references)
    target.metrics(np.full((len(references), len(target.score_names)), 0.1), references)
    np.testing.assert_array_equal(references, before)


# Scores


def test_scores():
    logits = np.array([[0.3, -1.2, 5.0, 0.0, -7.5, 2.0], [900.0, -900.0, 0.0, 1.0, 1.0, 1.0]])
    np.testing.assert_array_equal(Target("sentiment").scores(logits[:, :1]), logits[:, :1])
    sigmoid = [[1 / (1 + math.exp(-value)) if value > -700 else 0.0 for value in row] for row in logits.tolist()]
    np.testing.assert_allclose(Target("emotions").scores(logits), sigmoid, atol=1e-12)
    shifted = [[math.exp(value - max(row)) for value in row] for row in logits.tolist()]
    softmax = [[value / sum(row) for value in row] for row in shifted]
    for name in ("emotion", "sentiment2", "sentiment7"):  # any number of classes
        scores = Target(name).scores(logits.astype(np.float32))
        np.testing.assert_allclose(scores, softmax, atol=1e-6)
        np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-12)


@pytest.mark.parametrize("name", TARGETS)
def test_score_names(name):
    names = Target(name).score_names
    assert names == ("prediction",) if name == "sentiment" else len(names) == len(set(names)) == len(TARGETS[name][1])
    assert not any(" " in column for column in names)  # columns of a table
    if name in ("emotions", "emotion"):
        assert names == EMOTIONS


# Metrics


def weighted_f1(predicted, true):
    """Over two classes, weighted by how often each is true."""
    total = 0.0
    for wanted in (True, False):
        tp = sum(p == wanted and y == wanted for p, y in zip(predicted, true, strict=True))
        wrong = sum(p != y for p, y in zip(predicted, true, strict=True))  # each is a miss of one class, and an error
        support = sum(y == wanted for y in true)
        total += support / len(true) * (2 * tp / (2 * tp + wrong) if tp + wrong else 0.0)
    return total


def correlation(a, b):
    mean_a, mean_b = sum(a) / len(a), sum(b) / len(b)
    shared = sum((x - mean_a) * (y - mean_b) for x, y in zip(a, b, strict=True))
    return shared / math.sqrt(sum((x - mean_a) ** 2 for x in a) * sum((y - mean_b) ** 2 for y in b))


def share(pairs):
    return sum(p == y for p, y in pairs) / len(pairs)


def by_hand(predictions, references, convention):
    """The metric of predicted sentiments, sample by sample."""
    pairs = list(zip(predictions, references, strict=True))
    if convention == "sims":
        predicted, true = [p > 0 for p, _ in pairs], [y > 0 for _, y in pairs]
        return {"acc2": share(list(zip(predicted, true, strict=True))), "f1": weighted_f1(predicted, true)}
    found = {"mae": sum(abs(p - y) for p, y in pairs) / len(pairs), "corr": correlation(predictions, references)}
    for name, bound in (("acc7", 3), ("acc5", 2)):
        found[name] = share([[round(min(max(value, -bound), bound)) for value in pair] for pair in pairs])
    for name, kept, positive in (
        ("has0", pairs, lambda value: value >= 0),
        ("non0", [pair for pair in pairs if pair[1] != 0], lambda value: value > 0),
    ):
        predicted, true = [positive(p) for p, _ in kept], [positive(y) for _, y in kept]
        found |= {f"acc2_{name}": share(list(zip(predicted, true, strict=True)))}
        found |= {f"f1_{name}": weighted_f1(predicted, true)}
    return found


def some_sentiments(limit):
    """Drawn ones, and all edges."""
    random = np.random.default_rng(5)
    return np.concatenate([random.uniform(-limit, limit, 60), [row[0] for row in EDGES if abs(row[0]) <= limit]])


@pytest.mark.parametrize(
    ("name", "convention", "limit"),
    [("sentiment2", "mosi", 3), ("sentiment2", "sims", 1), ("sentiment7", "mosi", 3)],
)
def test_metrics_of_classes_are_those_of_their_values(name, convention, limit):
    target, references = Target(name, convention), some_sentiments(limit)
    values = [-1, 1] if name == "sentiment2" else [-3, -2, -1, 0, 1, 2, 3]
    scores = np.random.default_rng(1).dirichlet(np.ones(len(values)), len(references))
    predictions = []
    for row in scores:
        predictions.append(float(values[max(range(len(values)), key=lambda k, row=row: row[k])]))
    found = target.metrics(scores, references)
    expected = by_hand(predictions, references.tolist(), convention)
    assert tuple(found) == target.metric_names
    for metric in target.metric_names:
        assert found[metric] == pytest.approx(expected[metric], abs=1e-12), metric
    assert 0 < found[target.selection] < 1


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_metrics_of_a_regression(convention):
    references = some_sentiments(1)
    predictions = references + np.random.default_rng(2).normal(scale=0.4, size=len(references))
    target = Target("sentiment", convention)
    found = target.metrics(predictions[:, None], references)
    assert tuple(found) == target.metric_names == METRIC_NAMES[convention]
    for metric, value in by_hand(predictions.tolist(), references.tolist(), convention).items():
        if convention == "mosi" or metric == "f1" or metric == "acc2":
            assert found[metric] == pytest.approx(value, abs=1e-12), metric


def test_metrics_of_emotions_by_hand():
    random = np.random.default_rng(3)
    references = random.integers(0, 4, (40, 6)) * (random.random((40, 6)) < 0.5)
    scores = random.random((40, 6))
    several, one = (Target(name).metrics(scores, references) for name in ("emotions", "emotion"))
    kept = [(s, y) for s, y in zip(scores.tolist(), references.tolist(), strict=True) if max(y) > 0]
    right = sum(y[s.index(max(s))] == max(y) for s, y in kept)
    assert several["acc6"] == one["acc6"] == pytest.approx(right / len(kept))
    for column, emotion in enumerate(EMOTIONS):
        agree = [(s[column] > 0.5) == (y[column] > 0) for s, y in zip(scores, references, strict=True)]
        assert several[f"acc_{emotion}"] == pytest.approx(sum(agree) / 40)
        agree = [(s.index(max(s)) == column) == (y[column] == max(y)) for s, y in kept]
        assert one[f"acc_{emotion}"] == pytest.approx(sum(agree) / len(kept))
    assert set(several) == set(METRIC_NAMES["emotions"]) and set(one) == set(METRIC_NAMES["emotion"])


@pytest.mark.parametrize(("name", "convention"), [pair for pair in ALL if pair[0] != "sentiment"])
def test_the_labels_themselves_score_full_marks(name, convention):
    """What is trained on and what is scored agree at every edge."""
    target = Target(name, convention)
    references = np.array(INTENSITIES[1:] if target.of_emotions else [row[0] for row in EDGES])
    if convention == "sims" and not target.of_emotions:
        references = references[np.abs(references) <= 1]
    labels = target.labels(references).numpy()
    scores = labels if name == "emotions" else one_hot(labels, len(target.score_names))
    found = target.metrics(scores, references)
    assert found[target.selection] == 1
    if name == "emotion":
        assert found["f1_weighted"] == 1
    elif name == "emotions":
        assert found["acc_avg"] == found["f1_avg"] == 1


@pytest.mark.parametrize(
    ("name", "convention", "selection"),
    [
        ("sentiment", "mosi", "mae"),
        ("sentiment", "sims", "mae"),
        ("sentiment2", "mosi", "acc2_has0"),
        ("sentiment2", "sims", "acc2"),
        ("sentiment7", "mosi", "acc7"),
        *(("emotions", convention, "wa_avg") for convention in CONVENTIONS),
        *(("emotion", convention, "acc6") for convention in CONVENTIONS),
    ],
)
def test_names(name, convention, selection):
    target = Target(name, convention)
    assert target.selection == selection and selection in target.metric_names
    expected = METRIC_NAMES[name] if target.of_emotions else METRIC_NAMES[convention]
    if name == "sentiment2":
        classes = {"mosi": ("acc2_has0", "f1_has0", "acc2_non0", "f1_non0"), "sims": ("acc2", "f1")}
        expected = classes[convention]
    assert target.metric_names == expected
    assert target.column == ("emotions" if name in ("emotions", "emotion") else "label")


# What is refused


@pytest.mark.parametrize("name", [None, "valence", "", ["emotion"]], ids=repr)
def test_unknown_targets(name):
    with pytest.raises(ValueError, match="`target` must be one of sentiment, .*emotion.*own need a training loop"):
        Target(name)


def test_seven_classes_are_those_of_mosi():
    """From -3 to 3; by "sims" a sentiment goes from -1 to 1."""
    with pytest.raises(ValueError, match="sentiment7.*sims"):
        Target("sentiment7", "sims")


def test_ids_reach_the_error_message():
    with pytest.raises(ValueError, match="'b'"):
        Target("sentiment").metrics(np.array([[0.0], [np.nan]]), np.zeros(2), ids=["a", "b"])
