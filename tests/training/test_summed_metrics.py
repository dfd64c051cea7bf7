"""Metrics as functions of sums: on resampled arrays they are what the project's metric says."""

import math

import numpy as np
import pytest

from training.summed_metrics import summed_metric
from training.targets import Target

TARGETS = [
    Target("sentiment"),
    Target("sentiment", "sims"),
    Target("sentiment2"),
    Target("sentiment2", "sims"),
    Target("sentiment7"),
    Target("emotions"),
    Target("emotion"),
]
SAMPLES = 60
# On the edges of every binning, and beyond what is clipped.
EDGES = [-3.5, -3, -2.5, -1.5, -1, -0.7, -0.5, -0.1, -0.0, 0.0, 0.1, 0.5, 0.7, 1, 1.5, 2.5, 3, 3.5]


def name_of(target):
    return f"{target.name}-{target.convention}"


def split(target, seed=0):
    """Scores and references of SAMPLES samples, with ties, edges and samples without an emotion among them."""
    random = np.random.default_rng(seed)
    if target.of_emotions:
        references = random.choice([0, 0, 0, 1, 2], size=(SAMPLES, 6)).astype(float)
        references[:, 5] = 0
        references[:2, 5] = 1  # rare: some resamples have none
        scores = random.choice([0.2, 0.5, 0.6, 0.9], size=(SAMPLES, 6))
        return scores, references
    references = random.choice(EDGES, size=SAMPLES).astype(np.float32).astype(float)
    if target.name == "sentiment":
        return random.choice(EDGES, size=(SAMPLES, 1)).astype(np.float32).astype(float), references
    return random.random((SAMPLES, 2 if target.name == "sentiment2" else 7)), references


@pytest.mark.parametrize("target", TARGETS, ids=name_of)
def test_resamples_have_the_metric_of_the_resampled_arrays(target):
    scores, references = split(target)
    random = np.random.default_rng(1)
    draws = [np.arange(SAMPLES), *(random.integers(SAMPLES, size=SAMPLES) for _ in range(30))]
    counts = np.stack([np.bincount(draw, minlength=SAMPLES) for draw in draws]).astype(float)
    expected = [target.metrics(scores[draw], references[draw]) for draw in draws]
    for name in target.metric_names:
        metric = summed_metric(name, target)
        with np.errstate(invalid="ignore", divide="ignore"):
            found = metric.value(counts @ metric.columns(scores, references))
        np.testing.assert_allclose(found, [numbers[name] for numbers in expected], rtol=1e-10, atol=1e-12, err_msg=name)


def test_some_resamples_leave_a_metric_undefined():
    """The test above covers them: NaN there is NaN here."""
    target = Target("emotions")
    scores, references = split(target)
    random = np.random.default_rng(1)
    draws = [random.integers(SAMPLES, size=SAMPLES) for _ in range(30)]
    values = [target.metrics(scores[draw], references[draw])["wa_fear"] for draw in draws]
    assert 0 < sum(map(math.isnan, values)) < 30


@pytest.mark.parametrize("constant", [0.1, 0.0, -2.7])
def test_a_constant_has_no_correlation(constant):
    """The mean of equal numbers may miss them by a rounding error, which is no variance."""
    metric = summed_metric("corr", Target("sentiment"))
    references = np.random.default_rng(0).normal(size=SAMPLES)
    columns = metric.columns(np.full((SAMPLES, 1), constant), references)
    assert np.isnan(metric.value(columns.sum(axis=0)))
    columns = metric.columns(references[:, np.newaxis], references)
    one_sample = np.zeros(SAMPLES)
    one_sample[3] = SAMPLES
    assert np.isnan(metric.value(one_sample @ columns))
    assert metric.value(columns.sum(axis=0)) == pytest.approx(1)


@pytest.mark.parametrize("shift", [0, 1e4])
def test_correlation_far_from_zero(shift):
    random = np.random.default_rng(0)
    references = random.normal(size=SAMPLES) + shift
    scores = (references + random.normal(size=SAMPLES))[:, np.newaxis]
    metric = summed_metric("corr", Target("sentiment"))
    found = metric.value(metric.columns(scores, references).sum(axis=0))
    assert found == pytest.approx(np.corrcoef(scores[:, 0], references)[0, 1], rel=1e-9)


@pytest.mark.parametrize(("name", "target"), [("acc7", TARGETS[1]), ("mae", TARGETS[5]), ("f1_weighted", TARGETS[5])])
def test_a_metric_that_the_target_lacks(name, target):
    with pytest.raises(ValueError, match=rf"`metric` must be one of .* for {target.name}; got '{name}'"):
        summed_metric(name, target)
