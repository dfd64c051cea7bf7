"""The metric against scikit-learn, scipy, hand-computed values, and through `evaluate`."""

from __future__ import annotations

import doctest
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
import yaml
from scipy.stats import pearsonr
from sklearn.metrics import accuracy_score, f1_score, mean_absolute_error

from spaces.multimodal_sentiment import multimodal_sentiment as module
from spaces.multimodal_sentiment.multimodal_sentiment import (
    LOWER_IS_BETTER,
    METRIC_NAMES,
    REGRESSION_CONVENTIONS,
    MultimodalSentiment,
    greater_is_better,
    regression_metrics,
    sdk_seven_class_accuracy,
)

ROOT = Path(__file__).resolve().parents[2]
SPACE = ROOT / "spaces" / "multimodal_sentiment"

MOSI_Y = [-3, -1.8, -0.4, 0, 0, 0.4, 0.6, 1.6, 2.4, 3]
MOSI_P = [-3.6, -1.2, 0.1, -0.2, 0.3, -0.3, 0.5, 1.5, 2.6, 3.4]
SIMS_Y = [-1, -0.8, -0.2, 0, 0, 0.2, 0.6, 0.8, 1]
SIMS_P = [-1.3, -0.5, -0.1, 0, 0.05, 0.1, 0.9, 0.7, 0.71]


@pytest.fixture(autouse=True)
def no_warnings() -> Iterator[None]:
    """Undefined numbers are returned, not warned about."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        yield


@pytest.fixture
def metric(tmp_path: Path) -> MultimodalSentiment:
    return MultimodalSentiment(cache_dir=str(tmp_path))


def run_python(source: str, cwd: Path, home: Path, *path: Path) -> str:
    """Standard output of a fresh interpreter whose Hugging Face caches are under `home`."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("HF_")},
        "HF_HOME": str(home),
        "HF_HUB_OFFLINE": "1",
        "HF_EVALUATE_OFFLINE": "1",
        "PYTHONPATH": os.pathsep.join(map(str, path)),
    }
    done = subprocess.run([sys.executable, "-c", source], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# Hand-computed values


def test_mosi_values_by_hand():
    scores = regression_metrics(MOSI_P, MOSI_Y)
    assert scores == pytest.approx(
        {
            "mae": 0.37,
            "corr": 0.974859,
            "acc7": 0.7,
            "acc5": 0.8,
            "acc2_has0": 0.7,
            "f1_has0": 0.709890,
            "acc2_non0": 0.75,
            "f1_non0": 0.75,
        },
        abs=5e-7,
    )


def test_sdk_bins_by_hand():
    assert sdk_seven_class_accuracy(MOSI_P, MOSI_Y) == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("value", "sdk_class"),
    [(-3.5, -3), (-2.01, -3), (-2, -2), (-1.01, -2), (-1, -1), (-0.01, -1), (0, 0)]
    + [(0.33, 1), (1, 1), (1.01, 2), (2, 2), (2.01, 3), (3.5, 3)],
)
def test_sdk_bins_at_their_ends(value, sdk_class):
    # An integer from -3 to 3 lies in the bin of its own name.
    matches = [k for k in range(-3, 4) if sdk_seven_class_accuracy([value], [k]) == 1]
    assert matches == [sdk_class]


def test_sims_values_by_hand():
    scores = regression_metrics(SIMS_P, SIMS_Y, convention="sims")
    assert scores.pop("corr") == pytest.approx(pearsonr(np.clip(SIMS_P, -1, 1), SIMS_Y).statistic)
    assert scores == pytest.approx(
        {"mae": 0.137778, "acc2": 8 / 9, "acc3": 8 / 9, "acc5": 5 / 9, "f1": 0.888889}, abs=5e-7
    )


@pytest.mark.parametrize(("convention", "key"), [("mosi", "f1_non0"), ("mosi", "f1_has0"), ("sims", "f1")])
def test_f1_weights_by_hand(convention, key):
    sign = {1: 0.9, 0: -0.9}
    y = [sign[k] for k in (1, 1, 1, 0, 0, 1, 1, 0)]
    p = [sign[k] for k in (1, 0, 1, 1, 0, 1, 1, 1)]
    by_default = regression_metrics(p, y, convention=convention)[key]
    by_references = regression_metrics(p, y, convention=convention, f1_weights="references")[key]
    by_predictions = regression_metrics(p, y, convention=convention, f1_weights="predictions")[key]
    assert by_default == by_references == pytest.approx(0.604545, abs=5e-7)
    assert by_predictions == pytest.approx(0.645455, abs=5e-7)


@pytest.mark.parametrize(
    ("value", "rounded"), [(0.5, 0), (-0.5, 0), (1.5, 2), (-1.5, -2), (2.5, 2), (-2.5, -2), (2.51, 3), (9.0, 3)]
)
def test_half_rounds_to_even(value, rounded):
    assert [k for k in range(-3, 4) if regression_metrics([value], [k])["acc7"] == 1] == [rounded]
    five = max(-2, min(2, rounded))
    assert {k for k in range(-2, 3) if regression_metrics([value], [k])["acc5"] == 1} == {five}


# Against scikit-learn and scipy


def draw(kind: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    if kind == "continuous":
        y = rng.uniform(-3, 3, 301)
        return y + rng.normal(0, 1.2, y.size), y
    if kind == "ties":  # on a grid of quarters: zeros, halves and equal pairs on both sides
        y = rng.integers(-12, 13, 400) / 4
        return y + rng.integers(-6, 7, y.size) / 4, y
    if kind == "one class predicted":
        return rng.uniform(0.1, 2, 50), rng.integers(-3, 4, 50).astype(float)
    if kind == "one class true":
        return rng.normal(0, 2, 50), rng.uniform(0.1, 3, 50)
    assert kind == "nothing right"
    y = rng.choice([-1.0, 1.0], 40)
    return -2 * y, y


KINDS = ["continuous", "ties", "one class predicted", "one class true", "nothing right"]


def rounded(values: np.ndarray, bound: int) -> list[int]:
    return [round(min(max(float(value), -bound), bound)) for value in values]  # Python's round is half to even


def sklearn_f1(p: np.ndarray, y: np.ndarray, f1_weights: str) -> float:
    first, second = (y, p) if f1_weights == "references" else (p, y)
    return f1_score(first, second, average="weighted", zero_division=0)


@pytest.mark.parametrize("f1_weights", ["references", "predictions"])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", KINDS)
def test_mosi_against_scikit_learn(kind, seed, f1_weights):
    p, y = draw(kind, seed)
    scores = regression_metrics(p, y, f1_weights=f1_weights)
    polar = np.flatnonzero(y)
    assert list(scores) == list(METRIC_NAMES["mosi"])
    assert all(type(value) is float for value in scores.values())
    assert scores == pytest.approx(
        {
            "mae": mean_absolute_error(y, p),
            "corr": pearsonr(p, y).statistic,
            "acc7": accuracy_score(rounded(y, 3), rounded(p, 3)),
            "acc5": accuracy_score(rounded(y, 2), rounded(p, 2)),
            "acc2_has0": accuracy_score(y >= 0, p >= 0),
            "f1_has0": sklearn_f1(p >= 0, y >= 0, f1_weights),
            "acc2_non0": accuracy_score(y[polar] > 0, p[polar] > 0),
            "f1_non0": sklearn_f1(p[polar] > 0, y[polar] > 0, f1_weights),
        },
        rel=1e-12,
    )


@pytest.mark.parametrize("f1_weights", ["references", "predictions"])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", KINDS)
def test_sims_against_scikit_learn(kind, seed, f1_weights):
    p, y = (np.round(values / 2.7, 3) + 0.0004 for values in draw(kind, seed))  # some beyond 1, none on a cut
    scores = regression_metrics(p, y, convention="sims", f1_weights=f1_weights)
    p, y = np.clip(p, -1, 1), np.clip(y, -1, 1)

    def classes(values, cuts):
        return np.digitize(values, cuts)

    assert list(scores) == list(METRIC_NAMES["sims"])
    corr = scores.pop("corr")
    # Clipping makes a side constant in some draws.
    assert math.isnan(corr) if np.ptp(p) == 0 or np.ptp(y) == 0 else corr == pytest.approx(pearsonr(p, y).statistic)
    assert scores == pytest.approx(
        {
            "mae": mean_absolute_error(y, p),
            "acc2": accuracy_score(y > 0, p > 0),
            "acc3": accuracy_score(classes(y, [-0.1, 0.1]), classes(p, [-0.1, 0.1])),
            "acc5": accuracy_score(classes(y, [-0.7, -0.1, 0.1, 0.7]), classes(p, [-0.7, -0.1, 0.1, 0.7])),
            "f1": sklearn_f1(p > 0, y > 0, f1_weights),
        },
        rel=1e-12,
    )


# Edges of CH-SIMS classes. A tenth k belongs to the class that integer arithmetic on k gives.


def class_of_tenth(k: int, cuts: tuple[int, ...]) -> int:
    return sum(k > cut for cut in cuts)


@pytest.mark.parametrize("p_type", [np.float32, np.float64])
@pytest.mark.parametrize("y_type", [np.float32, np.float64])
@pytest.mark.parametrize(("key", "cuts"), [("acc2", (0,)), ("acc3", (-1, 1)), ("acc5", (-7, -1, 1, 7))])
def test_sims_labels_on_cuts_keep_their_class_in_either_precision(key, cuts, y_type, p_type):
    for k in range(-10, 11):
        for other in (-7, -1, 0, 1, 7):
            p, y = np.array([k / 10], dtype=p_type), np.array([other / 10], dtype=y_type)
            equal = class_of_tenth(k, cuts) == class_of_tenth(other, cuts)
            assert regression_metrics(p, y, convention="sims")[key] == equal, (k, other)


def test_sims_float32_labels_survive_evaluate(metric):
    tenths = np.arange(-10, 11)
    float32, float64 = (tenths / 10).astype(np.float32), tenths / 10
    scores = metric.compute(predictions=float64, references=float32, convention="sims")
    assert (scores["acc2"], scores["acc3"], scores["acc5"], scores["f1"]) == (1, 1, 1, 1)


@pytest.mark.parametrize("cut", [-0.7, -0.1, 0.1, 0.7])
def test_sims_neighbours_of_a_cut_are_told_apart(cut):
    above = np.nextafter(np.float32(cut), np.float32(2))
    assert regression_metrics([above], [cut], convention="sims")["acc5"] == 0
    below = np.nextafter(np.float32(cut), np.float32(-2))
    assert regression_metrics([below], [cut], convention="sims")["acc5"] == 1


def test_zero_is_negative_in_sims_and_not_in_has0():
    assert regression_metrics([0.0], [-0.6], convention="sims")["acc2"] == 1
    assert regression_metrics([0.0], [-0.6])["acc2_has0"] == 0
    assert regression_metrics([0.0], [-0.6])["acc2_non0"] == 1
    assert regression_metrics([-0.6], [0.0])["acc2_has0"] == 0
    assert regression_metrics([-0.0], [0.4])["acc2_has0"] == 1


# Undefined numbers


@pytest.mark.parametrize("convention", ["mosi", "sims"])
@pytest.mark.parametrize("constant", [0.0, 0.1, -0.3, 1 / 3])
def test_constant_side_has_no_correlation(constant, convention):
    varied = np.linspace(-0.9, 0.8, 37)
    flat = np.full(37, constant)
    for p, y in [(flat, varied), (varied, flat), (flat, flat)]:
        scores = regression_metrics(p, y, convention=convention)
        assert math.isnan(scores["corr"])
        assert scores["mae"] == pytest.approx(np.abs(p - y).mean())


def test_sims_side_that_is_constant_once_clipped_has_no_correlation():
    assert math.isnan(regression_metrics([1.2, 1.5, 3.0], [0.2, 0.4, 0.8], convention="sims")["corr"])


def test_one_sample():
    scores = regression_metrics([0.6], [1.0])
    assert math.isnan(scores.pop("corr"))
    assert scores == pytest.approx(
        dict(mae=0.4, acc7=1, acc5=1, acc2_has0=1, f1_has0=1, acc2_non0=1, f1_non0=1), rel=1e-12
    )
    scores = regression_metrics([0.6], [1.0], convention="sims")
    assert math.isnan(scores.pop("corr"))
    assert scores == pytest.approx(dict(mae=0.4, acc2=1, acc3=1, acc5=0, f1=1), rel=1e-12)


def test_references_that_are_all_zero_leave_nothing_for_non0():
    scores = regression_metrics([0.2, -0.1, 0.0], [0.0, 0.0, 0.0])
    assert [name for name, value in scores.items() if math.isnan(value)] == ["corr", "acc2_non0", "f1_non0"]
    assert scores["acc2_has0"] == pytest.approx(2 / 3)


@pytest.mark.parametrize("factor", [1e-200, 1e-9, 1e9, 1e200])
def test_correlation_does_not_depend_on_the_unit(factor):
    p, y = draw("continuous", 0)
    assert regression_metrics(p * factor, y)["corr"] == pytest.approx(pearsonr(p, y).statistic, rel=1e-12)


def test_perfect_and_opposite_correlation_stay_in_range():
    rng = np.random.default_rng(0)
    for size in range(2, 60):  # without a bound, a quarter of these end a rounding error above 1
        y = rng.normal(size=size)
        for slope in (0.1, 3.0, -0.7):
            corr = regression_metrics(slope * y + 0.2, y)["corr"]
            assert corr == pytest.approx(math.copysign(1, slope)) and abs(corr) <= 1


# Inputs


@pytest.mark.parametrize("convert", [list, np.array, torch.tensor], ids=["list", "numpy", "torch"])
def test_kinds_and_shapes_of_inputs(convert):
    expected = regression_metrics(MOSI_P, MOSI_Y)
    column_p, column_y = convert([[value] for value in MOSI_P]), convert([[value] for value in MOSI_Y])
    flat_p, flat_y = convert(MOSI_P), convert(MOSI_Y)
    for p, y in [(flat_p, flat_y), (column_p, flat_y), (flat_p, column_y), (column_p, column_y)]:
        assert regression_metrics(p, y) == pytest.approx(expected, rel=1e-6)


def test_inputs_are_left_as_they_were():
    p, y = np.array(SIMS_P), np.array(SIMS_Y)
    before = p.copy(), y.copy()
    regression_metrics(p, y, convention="sims")
    assert (p == before[0]).all() and (y == before[1]).all()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, None])
@pytest.mark.parametrize("argument", ["predictions", "references"])
def test_value_that_is_not_finite_is_named(argument, bad):
    inputs = {"predictions": [0.1, 0.2, 0.3, 0.4], "references": [0.0, 1.0, -1.0, 2.0]}
    inputs[argument][2] = inputs[argument][3] = bad
    shown = "nan" if bad is None else str(bad)
    ids = ["abc$_$1", "abc$_$2", "abc$_$3", "abc$_$4"]
    for names in (ids, np.array(ids)):
        with pytest.raises(ValueError) as caught:
            regression_metrics(**inputs, ids=names)
        assert f"`{argument}` must be finite; got {shown} for id 'abc$_$3' (position 2)" in str(caught.value)
        assert "2 of 4 values" in str(caught.value)
    with pytest.raises(ValueError, match=re.escape(f"`{argument}` must be finite; got {shown} at position 2")):
        regression_metrics(**inputs)
    with pytest.raises(ValueError, match="position 2"):
        sdk_seven_class_accuracy(**inputs)


def test_ids_change_no_score():
    assert regression_metrics(MOSI_P, MOSI_Y, ids=range(10)) == regression_metrics(MOSI_P, MOSI_Y)


@pytest.mark.parametrize(
    ("p", "y", "options", "message"),
    [
        ([], [], {}, "must not be empty; got 0 samples"),
        (np.zeros((0, 1)), [], {}, "must not be empty"),
        ([1.0, 2.0], [1.0], {}, "got 2 predictions and 1 references"),
        (np.zeros((2, 3)), [1.0, 2.0], {}, r"`predictions` must have shape .* got \(2, 3\)"),
        ([1.0, 2.0], [[1.0, 2.0]], {}, r"`references` must have shape .* got \(1, 2\)"),
        (1.0, [1.0], {}, r"`predictions` must have shape .* got \(\)"),
        ([[1.0], [1.0, 2.0]], [1.0, 2.0], {}, "`predictions` must be real numbers"),
        (["1.0"], [1.0], {}, "`predictions` must be real numbers"),
        ([1.0], [True], {}, "`references` must be real numbers; got bool"),
        ([1j], [1.0], {}, "`predictions` must be real numbers; got complex"),
        ([1.0, 2.0], [1.0, 2.0], {"ids": ["a"]}, "got 1 ids for 2 samples"),
        ([1.0], [1.0], {"convention": "mosei"}, "`convention` must be one of 'mosi', 'sims'; got 'mosei'"),
        ([1.0], [1.0], {"convention": "emotions"}, "`convention` must be one of 'mosi', 'sims'; got 'emotions'"),
        ([1.0], [1.0], {"convention": None}, "`convention` must be one of"),
        ([1.0], [1.0], {"f1_weights": "truth"}, "`f1_weights` must be one of 'references', 'predictions'; got 'truth'"),
    ],
)
def test_bad_input_says_what_came(p, y, options, message):
    with pytest.raises(ValueError, match=message):
        regression_metrics(p, y, **options)


# Directions


def test_every_reported_metric_has_a_direction():
    for convention in REGRESSION_CONVENTIONS:
        y = np.array([-2.6, -0.8, 0.0, 0.4, 1.0, 2.8]) / (1 if convention == "mosi" else 3)
        best = regression_metrics(y, y, convention=convention)
        worse = regression_metrics(-y - 0.05, y, convention=convention)
        for name in METRIC_NAMES[convention]:
            assert greater_is_better(name) is (best[name] > worse[name]), name
    assert LOWER_IS_BETTER.issubset(METRIC_NAMES["mosi"])


@pytest.mark.parametrize(("name", "nearest"), [("mea", "mae"), ("acc_7", "acc7"), ("f1_nonzero", "f1_non0")])
def test_unknown_metric_names_the_nearest(name, nearest):
    with pytest.raises(ValueError, match=f"got '{name}'. Nearest: '{nearest}'"):
        greater_is_better(name)


# Through evaluate


@pytest.mark.parametrize("keep_in_memory", [False, True])
@pytest.mark.parametrize("options", [{}, {"convention": "sims"}, {"f1_weights": "predictions"}])
def test_batches_equal_one_call(tmp_path, options, keep_in_memory):
    metric = MultimodalSentiment(cache_dir=str(tmp_path), keep_in_memory=keep_in_memory)
    p, y = draw("ties", 5)
    expected = regression_metrics(p, y, **options)
    assert metric.compute(predictions=p, references=y, **options) == expected
    for start in range(0, len(y), 64):
        metric.add_batch(predictions=p[start : start + 64], references=y[start : start + 64])
    assert metric.compute(**options) == expected
    for prediction, reference in zip(p[:9], y[:9], strict=True):
        metric.add(prediction=prediction, reference=reference)
    assert metric.compute(**options) == regression_metrics(p[:9], y[:9], **options)


def test_evaluate_keeps_every_bit(metric):
    p = np.array([0.1 + 1e-15, 1 / 3, 0.5 + 1e-12])
    y = np.array([0.1, 0.3, 1.0])
    scores = metric.compute(predictions=p, references=y)
    assert scores == regression_metrics(p, y)
    assert scores["acc7"] == 1  # 0.5 + 1e-12 is 0.5 in float32, and 0.5 rounds to 0


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_ids_reach_errors_through_batches_and_the_metric_recovers(metric, bad):
    metric.add_batch(predictions=[1.0, 2.0], references=[1.0, 2.0])
    metric.add_batch(predictions=[bad, 2.0], references=[1.0, 2.0])
    with pytest.raises(ValueError, match=re.escape(f"got {bad} for id 'c' (position 2)")):
        metric.compute(ids=["a", "b", "c", "d"])
    assert metric.compute(predictions=MOSI_P, references=MOSI_Y) == regression_metrics(MOSI_P, MOSI_Y)


@pytest.mark.parametrize(
    ("p", "y", "options", "message"),
    [
        ([], [], {}, "must not be empty"),
        ([1.0, 2.0], [1.0], {}, "Mismatch in the number of predictions"),
        ([1.0], [1.0], {"convention": "mosei"}, "'mosi', 'sims'; got 'mosei'"),
    ],
)
def test_evaluate_refuses_what_the_function_refuses(metric, p, y, options, message):
    with pytest.raises(ValueError, match=message):
        metric.compute(predictions=p, references=y, **options)


def test_unknown_options_are_not_ignored(metric, tmp_path):
    with pytest.raises(TypeError, match="weights"):
        metric.compute(predictions=[1.0], references=[1.0], weights="references")
    with pytest.raises(ValueError, match="configurations 'default' .* and 'emotions'; got 'sims'"):
        MultimodalSentiment(config_name="sims", cache_dir=str(tmp_path))


def test_evaluate_load_from_a_copy_of_the_folder(tmp_path):
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
metric = evaluate.load("./multimodal_sentiment")
p, y = {p!r}, {y!r}
print(json.dumps([metric.compute(predictions=p, references=y, convention=c) for c in ("mosi", "sims")]))
"""
    printed = json.loads(run_python(source, tmp_path, tmp_path / "home").splitlines()[-1])
    assert printed == [regression_metrics(p, y), regression_metrics(p, y, convention="sims")]


# Documentation


def test_docstring_examples():
    results = doctest.testmod(module)
    assert results.attempted >= 6 and results.failed == 0


def test_card_examples(tmp_path):
    """Every python block of the card, which load the metric by the path that a reader in the checkout uses."""
    source = """
import doctest, re, sys
card = open("spaces/multimodal_sentiment/README.md", encoding="utf-8").read()
blocks = re.findall(r"```python\\n(.*?)```", card, re.S)
runner = doctest.DocTestRunner()
for number, block in enumerate(blocks):
    runner.run(doctest.DocTestParser().get_doctest(block, {}, f"block {number}", "README.md", 0))
print(len(blocks), runner.summarize(verbose=False).failed)
sys.exit(runner.failures)
"""
    assert run_python(source, ROOT, tmp_path / "home", ROOT).splitlines()[-1] == "4 0"


def test_card_names_every_key_and_the_space_starts_from_its_metadata():
    text = (SPACE / "README.md").read_text("utf-8")
    _, front, card = text.split("---\n", 2)
    for names in METRIC_NAMES.values():
        assert all(f"`{name}`" in card for name in names)
    metadata = yaml.safe_load(front)
    assert {"evaluate", "metric"} <= set(metadata["tags"])
    assert metadata["sdk"] == "gradio" and (SPACE / metadata["app_file"]).is_file()
    # The widget of evaluate uses `gradio.inputs`, which gradio 4 removed.
    assert metadata["sdk_version"].startswith("3.")
