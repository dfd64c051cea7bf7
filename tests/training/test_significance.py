"""The paired bootstrap, against one that resamples arrays in a loop."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from training import significance
from training.significance import Significance, compare_systems, holm
from training.targets import Target

SAMPLES, VIDEOS = 48, 12
SENTIMENT = Target("sentiment")
IDS = [f"v{i // 4:02}$_${i % 4}" for i in range(SAMPLES)]
REFERENCES = np.random.default_rng(0).normal(size=SAMPLES).round(1).astype(np.float32)


def save(folder, predictions, references=REFERENCES, ids=IDS):
    """A run with these predictions."""
    folder.mkdir(parents=True, exist_ok=True)
    columns = {"id": list(ids), "label": pa.array(references, pa.float32())}
    columns["prediction"] = pa.array(predictions, pa.float32())
    pq.write_table(pa.table(columns), folder / "predictions_test.parquet")
    return folder


def noisy(seed, spread, shift=0.0):
    noise = np.random.default_rng(seed).normal(scale=spread, size=SAMPLES)
    return (REFERENCES + noise + shift).astype(np.float32)


@pytest.fixture
def folders(tmp_path):
    """Three systems with two, three and one seeds: good, nearly as good, bad."""
    spreads = {"good": (0.5, 2), "close": (0.6, 3), "bad": (2.0, 1)}
    return {
        name: [save(tmp_path / name / f"seed_{seed}", noisy([seed, i], spread)) for seed in range(seeds)]
        for i, (name, (spread, seeds)) in enumerate(spreads.items())
    }


def targets(folders):
    return dict.fromkeys(folders, SENTIMENT)


def pair_of(found, system, other):
    return next(pair for pair in found.pairs if (pair.system, pair.other) == (system, other))


def predictions_of(runs):
    return [pq.read_table(run / "predictions_test.parquet")["prediction"].to_numpy() for run in runs]


def accuracy(p, y):
    return ((p > 0) == (y > 0))[y != 0].mean()


METRICS = {
    "mae": lambda p, y: np.abs(p.astype(float) - y).mean(),
    "corr": lambda p, y: np.corrcoef(p, y)[0, 1],
    "acc2_non0": accuracy,
}


def by_hand(folders, system, other, metric, drawn):
    """Difference of the means over seeds of a metric, on each of several arrays of positions."""
    runs = {name: predictions_of(folders[name]) for name in (system, other)}

    def mean(name, positions):
        scores = [METRICS[metric](run[positions], REFERENCES[positions]) for run in runs[name]]
        return sum(scores) / len(scores)

    return np.array([mean(system, positions) - mean(other, positions) for positions in drawn])


# Numbers


@pytest.mark.parametrize(("unit", "metric"), [("samples", "mae"), ("samples", "corr"), ("videos", "acc2_non0")])
def test_intervals_and_p_values_are_those_of_a_loop(folders, unit, metric):
    found = compare_systems(folders, targets(folders), metric, unit, resamples=300, seed=5)
    size = SAMPLES if unit == "samples" else VIDEOS
    units = np.random.default_rng(5).integers(size, size=(300, size))
    samples = np.arange(SAMPLES).reshape(size, -1)  # of each unit
    drawn = [samples[row].ravel() for row in units]
    assert [(pair.system, pair.other) for pair in found.pairs] == [
        *(("good", "close"), ("good", "bad"), ("close", "bad"))
    ]
    for pair in found.pairs:
        expected = by_hand(folders, pair.system, pair.other, metric, drawn)
        (whole,) = by_hand(folders, pair.system, pair.other, metric, [np.arange(SAMPLES)])
        assert pair.difference == pytest.approx(whole, rel=1e-6)
        assert (pair.low, pair.high) == pytest.approx(tuple(np.quantile(expected, (0.025, 0.975))), rel=1e-6)
        tail = min((expected <= 0).sum(), (expected >= 0).sum())
        assert pair.p == pytest.approx(min(1, 2 * (tail + 1) / 301)) and pair.resamples == 300
    assert found.sizes == dict.fromkeys(folders, (size, SAMPLES)) and (found.unit, found.notes) == (unit, ())


def test_p_is_never_0_and_the_same_predictions_have_p_1(folders, tmp_path):
    folders["again"] = [save(tmp_path / "again" / f"{i}", p) for i, p in enumerate(predictions_of(folders["good"]))]
    found = compare_systems(folders, targets(folders), "mae", resamples=200)
    same = pair_of(found, "good", "again")
    assert (same.difference, same.low, same.high, same.p, same.p_holm) == (0, 0, 0, 1, 1)
    assert pair_of(found, "good", "bad").p == pytest.approx(2 / 201)


def test_p_and_interval_agree(tmp_path):
    """p is below 5 % where the interval leaves 0 out, but for the one resample that is added to the count."""
    folders = {"base": [save(tmp_path / "base", noisy(1, 0.5))]}
    for i, shift in enumerate(np.linspace(0, 0.6, 25)):
        folders[f"s{i}"] = [save(tmp_path / f"s{i}", noisy(2, 0.5, shift))]
    found = compare_systems(folders, targets(folders), "mae", resamples=1000).against("base")
    decided = [pair for pair in found.values() if abs(pair.p - 0.05) > 0.003]
    assert {pair.p < 0.05 for pair in decided} == {True, False}
    for pair in decided:
        assert (pair.p < 0.05) == (pair.low > 0 or pair.high < 0)


def test_under_the_null_p_values_are_about_uniform(tmp_path):
    """Two systems that differ by noise alone: about a twentieth of the tests come out below 5 %."""
    random, below = np.random.default_rng(3), 0
    for trial in range(100):
        folders = {name: [save(tmp_path / f"{name}{trial}", REFERENCES + random.normal(size=SAMPLES))] for name in "ab"}
        below += compare_systems(folders, targets(folders), "mae", resamples=200).pairs[0].p < 0.05
    assert 0 < below < 15


def test_chunks_do_not_matter(folders, monkeypatch):
    whole = compare_systems(folders, targets(folders), "mae", resamples=150)
    monkeypatch.setattr(significance, "ENTRIES", SAMPLES * 32)
    assert compare_systems(folders, targets(folders), "mae", resamples=150) == whole


def test_the_same_seed_gives_the_same(folders):
    one, again, other = (compare_systems(folders, targets(folders), "mae", resamples=150, seed=s) for s in (1, 1, 2))
    assert one == again != other


def test_videos_that_agree_within_widen_the_interval(tmp_path):
    """Errors that a video's samples share are as many as there are videos."""
    shared = np.repeat(np.random.default_rng(0).normal(size=VIDEOS), SAMPLES // VIDEOS)
    folders = {"a": [save(tmp_path / "a", REFERENCES + shared)], "b": [save(tmp_path / "b", REFERENCES + 0.8)]}
    width = {}
    for unit in ("samples", "videos"):
        (pair,) = compare_systems(folders, targets(folders), "mae", unit, resamples=1000).pairs
        width[unit] = pair.high - pair.low
    assert width["videos"] > 1.4 * width["samples"]


@pytest.mark.parametrize(
    ("p", "expected"),
    [
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ([0.6, 0.9], [1.0, 1.0]),
        ([0.04], [0.04]),
        ([], []),
        ([0.02, 0.02, 0.02], [0.06, 0.06, 0.06]),
    ],
)
def test_holm(p, expected):
    assert holm(p) == pytest.approx(expected)


def test_a_reference_has_fewer_comparisons_than_all_pairs(folders):
    found = compare_systems(folders, targets(folders), "mae", resamples=200)
    assert [pair.p_holm for pair in found.pairs] == pytest.approx(holm([pair.p for pair in found.pairs]))
    against = found.against("close")
    assert list(against) == ["good", "bad"] and {pair.other for pair in against.values()} == {"close"}
    turned = pair_of(found, "close", "bad")
    assert against["bad"].difference == -turned.difference > 0
    assert (against["bad"].low, against["bad"].high) == (-turned.high, -turned.low)
    assert [pair.p_holm for pair in against.values()] == pytest.approx(holm([pair.p for pair in against.values()]))
    assert against["bad"].p_holm == pytest.approx(2 * 2 / 201)


# What can be paired


def test_rows_in_another_order_are_the_same_split(folders, tmp_path):
    expected = compare_systems(folders, targets(folders), "mae", resamples=100)
    order = np.random.default_rng(0).permutation(SAMPLES)
    for run, predictions in zip(folders["close"], predictions_of(folders["close"]), strict=True):
        save(run, predictions[order], REFERENCES[order], [IDS[i] for i in order])
    assert compare_systems(folders, targets(folders), "mae", resamples=100) == expected


@pytest.mark.parametrize("other", ["ids", "references"])
def test_other_test_splits_are_noted(folders, tmp_path, other):
    changed = {"ids": [*IDS[:-1], "other$_$1"]} if other == "ids" else {"references": REFERENCES + 1}
    folders["stranger"] = [save(tmp_path / "stranger", noisy(1, 1.0), **changed)]
    found = compare_systems(folders, targets(folders), "mae", resamples=100)
    assert {name for pair in found.pairs for name in (pair.system, pair.other)} == {"good", "close", "bad"}
    assert len(found.notes) == 1 and found.notes[0].endswith("not compared: good, close, bad; stranger.")
    assert found.against("stranger") == {}


def test_runs_of_one_system_with_other_splits(folders, tmp_path):
    save(folders["good"][1], noisy(1, 1.0), ids=[*IDS[:-1], "other$_$1"])
    found = compare_systems(folders, targets(folders), "mae", resamples=100)
    assert [(pair.system, pair.other) for pair in found.pairs] == [("close", "bad")]
    assert (
        len(found.notes) == 1 and "good is not compared: " in found.notes[0] and "seed_1 have other" in found.notes[0]
    )


def test_another_target(folders, tmp_path):
    """Classes of a sentiment share its references: they are compared by a metric that both have, and only by that."""
    probability = 1 / (1 + np.exp(-noisy(4, 0.5)))
    table = {"id": IDS, "label": REFERENCES}
    names = Target("sentiment2").score_names
    table |= dict(zip(names, np.stack([1 - probability, probability]).astype(np.float32), strict=True))
    (tmp_path / "classes").mkdir()
    pq.write_table(pa.table(table), tmp_path / "classes" / "predictions_test.parquet")
    folders["classes"] = [tmp_path / "classes"]
    kinds = {**targets(folders), "classes": Target("sentiment2")}
    found = compare_systems(folders, kinds, "mae", resamples=100)
    assert len(found.pairs) == 3 and "classes is not compared: `metric` must be one of acc2_has0" in found.notes[0]
    found = compare_systems(folders, kinds, "acc2_has0", resamples=100)
    assert len(found.pairs) == 6 and found.notes == ()


def test_emotions(tmp_path):
    target = Target("emotions")
    random = np.random.default_rng(0)
    references = random.choice([0, 0, 1], size=(SAMPLES, 6))
    folders = {}
    for name, share in (("good", 0.9), ("bad", 0.5)):
        (tmp_path / name).mkdir()
        scores = np.where(random.random((SAMPLES, 6)) < share, references > 0, references == 0).astype(np.float32)
        columns = dict(zip(target.score_names, scores.T, strict=True))
        columns |= {f"{e}_label": c.astype(np.float32) for e, c in zip(target.score_names, references.T, strict=True)}
        pq.write_table(pa.table({"id": IDS, **columns}), tmp_path / name / "predictions_test.parquet")
        folders[name] = [tmp_path / name]
    (pair,) = compare_systems(folders, dict.fromkeys(folders, target), "wa_avg", resamples=200).pairs
    assert pair.difference > 0.2 and pair.significant and pair.resamples == 200


def test_an_undefined_metric_is_noted(folders, tmp_path):
    folders["constant"] = [save(tmp_path / "constant", np.full(SAMPLES, 0.1))]
    found = compare_systems(folders, targets(folders), "corr", resamples=100)
    assert len(found.pairs) == 3
    assert found.notes == ("Not compared, as the metric is undefined for one of their runs: constant.",)


@pytest.mark.parametrize("fault", ["absent", "column", "not finite", "no parquet", "empty"])
def test_predictions_that_cannot_be_read_are_noted(folders, fault):
    path = folders["bad"][0] / "predictions_test.parquet"
    table = pq.read_table(path)
    if fault == "absent":
        path.unlink()
    elif fault == "no parquet":
        path.write_bytes(b"nothing")
    elif fault == "not finite":
        save(path.parent, np.where(np.arange(SAMPLES) == 3, np.nan, REFERENCES))
    else:
        pq.write_table(table.drop_columns("prediction") if fault == "column" else table[:0], path)
    found = compare_systems(folders, targets(folders), "mae", resamples=100)
    assert [(pair.system, pair.other) for pair in found.pairs] == [("good", "close")]
    assert len(found.notes) == 1 and found.notes[0].startswith("bad is not compared: ")


def test_videos_need_their_names_in_the_ids(folders):
    for runs in folders.values():
        for run, predictions in zip(runs, predictions_of(runs), strict=True):
            save(run, predictions, ids=[str(i) for i in range(SAMPLES)])
    found = compare_systems(folders, targets(folders), "mae", "videos", resamples=100)
    assert found.pairs == () and "whole videos need ids `video$_$segment`; got '0'" in found.notes[0]


def test_too_few_to_draw_from(tmp_path):
    folders = {
        name: [save(tmp_path / name, noisy(seed, 1.0)[:8], REFERENCES[:8], IDS[:8])] for seed, name in enumerate("ab")
    }
    found = compare_systems(folders, targets(folders), "mae", resamples=100)
    assert found.pairs == () and found.notes == ("a, b are not compared: 8 is too few to draw from; 10 are needed.",)


def test_systems_without_runs(folders):
    folders["none"] = []
    assert len(compare_systems(folders, targets(folders), "mae", resamples=100).pairs) == 3
    assert compare_systems({"none": []}, {"none": SENTIMENT}, "mae") == Significance("mae", "samples", 10_000)


@pytest.mark.parametrize(("option", "value"), [("unit", "speakers"), ("resamples", 99)])
def test_options(option, value):
    with pytest.raises(ValueError, match=f"`{option}` must be .* got '?{value}"):
        compare_systems({}, {}, "mae", **{option: value})
