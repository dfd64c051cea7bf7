"""The synthetic corpus: that it is what its description says."""

import numpy as np
import pytest

from datasets_scripts.schema import row_features
from datasets_scripts.synthetic import SyntheticCorpus

ADJECTIVES = {
    **{"dreadful": -3.0, "awful": -2.6, "poor": -2.0, "boring": -1.6, "weak": -1.2, "uneven": -0.6, "ordinary": 0.0},
    **{"usual": 0.0, "decent": 0.6, "fresh": 1.2, "pleasant": 1.6, "good": 2.0, "great": 2.6, "superb": 3.0},
}
SUBJECTS = {"plot", "acting", "music", "ending", "camera", "script", "pace", "cast", "humour", "dialogue"}
VERBS = {"was", "felt", "seemed", "is", "stayed"}
DEGREES = {"slightly": 0.5, "not": -0.5}
SPLITS = ("train", "valid", "test")
MODALITIES = ("text", "audio", "vision")


@pytest.fixture(scope="module")
def corpus():
    return SyntheticCorpus(train=500, valid=60, test=200, seed=11).build()


@pytest.fixture(scope="module")
def gaps():
    """Many modalities are missing, and each has a sentiment of its own."""
    return SyntheticCorpus(train=600, valid=1, test=1, seed=12, disagreement=1.0, missing=0.3).build()["train"]


def small(**fields):
    return SyntheticCorpus(**{"train": 6, "valid": 3, "test": 3, **fields}).build()


def assert_same_rows(first, second):
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        assert set(a) == set(b)
        for name in a:
            np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def clause_values(text):
    """The sentiment of each clause, read from its words."""
    values = []
    for clause in text.split(" and "):
        words = clause.split()
        _, subject, verb, *rest = words[words.index("the") :]
        assert subject in SUBJECTS and verb in VERBS and 1 <= len(rest) <= 2
        degree = DEGREES[rest[0]] if len(rest) == 2 else 1.0
        values.append(degree * ADJECTIVES[rest[-1]])
    return values


def test_rows(corpus):
    expected = row_features(audio_feature_size=8, vision_feature_size=6, unimodal_labels=MODALITIES)
    for split, size in zip(SPLITS, (500, 60, 200), strict=True):
        rows = corpus[split]
        assert len(rows) == size and rows.features == expected
        assert len(set(rows["id"][:])) == size
        row = rows[0]
        assert row["audio_values"].shape[1] == 8 and row["vision_values"].shape[1] == 6
        assert row["audio_values"].dtype == row["vision_values"].dtype == np.float32
        assert row["text"] and np.isfinite(row["audio_values"]).all() and np.isfinite(row["vision_values"]).all()
    assert len({sample for split in SPLITS for sample in corpus[split]["id"][:]}) == 760
    assert all("$_$" in sample for sample in corpus["train"]["id"][:])


@pytest.mark.parametrize("fields", [{}, {"missing": 0.4, "disagreement": 1.0, "noise": 1.0, "seed": 3}], ids=str)
def test_same_arguments_give_the_same_corpus(fields):
    first, second = small(**fields), small(**fields)
    for split in SPLITS:
        assert_same_rows(first[split], second[split])


def test_seeds_differ():
    first, second = small(seed=0), small(seed=1)
    for split in SPLITS:
        assert (np.asarray(first[split]["text"][:]) != np.asarray(second[split]["text"][:])).any()
        assert (np.asarray(first[split]["label"][:]) != np.asarray(second[split]["label"][:])).all()


def test_splits_differ():
    corpus = small(train=3)
    assert len({tuple(np.asarray(corpus[split]["label"][:]).tolist()) for split in SPLITS}) == 3


def test_global_random_state_is_not_used():
    np.random.seed(0)
    first = small()
    np.random.seed(1)
    assert_same_rows(first["train"], small()["train"])


def test_sizes_do_not_touch_one_another():
    """A smaller split is the beginning of a larger one, and the other splits stay as they are."""
    first, second = small(train=4, valid=1), small(train=9, valid=3)
    assert_same_rows(first["train"], second["train"].select(range(4)))
    assert_same_rows(first["valid"], second["valid"].select(range(1)))
    assert_same_rows(first["test"], second["test"])


def test_one_sample_per_split_will_do():
    corpus = small(train=1, valid=1, test=1)
    assert [len(corpus[split]) for split in SPLITS] == [1, 1, 1]


def test_text_label_is_what_the_words_say(corpus):
    clauses = set()
    for row in corpus["train"]:
        values = clause_values(row["text"])
        clauses.add(len(values))
        assert row["text_label"] == pytest.approx(sum(values) / len(values), abs=1e-6)
    assert clauses == {1, 2, 3}
    words = {word for text in corpus["train"]["text"][:] for word in text.split()}
    assert words.issuperset([*ADJECTIVES, *DEGREES, *SUBJECTS])


def test_label_is_the_weighted_mean(corpus):
    rows = corpus["train"]
    text, audio, vision, label = (np.asarray(rows[f"{name}label"][:]) for name in ("text_", "audio_", "vision_", ""))
    np.testing.assert_allclose(label, (2.0 * text + audio + vision) / 4, atol=1e-6)
    for values in (text, audio, vision, label):
        assert values.min() >= -3 and values.max() <= 3
        assert values.min() < -2 and values.max() > 2


@pytest.mark.parametrize("disagreement", [0.0, 0.3, 1.0])
def test_disagreement(disagreement):
    rows = SyntheticCorpus(train=400, valid=1, test=1, seed=4, disagreement=disagreement).build()["train"]
    text, audio, vision = (np.asarray(rows[f"{name}_label"][:]) for name in MODALITIES)
    expected = 1 - (1 - disagreement) ** 2  # neither of the two has its own
    share = (audio != vision).mean()
    assert abs(share - expected) <= 4 * np.sqrt(expected * (1 - expected) / 400)
    agreement = np.corrcoef(text, audio)[0, 1]
    if disagreement == 0:
        assert agreement > 0.9 and np.abs(text - audio).mean() < 0.5
    elif disagreement == 1:
        assert abs(agreement) < 0.2 and abs(np.corrcoef(audio, vision)[0, 1]) < 0.2
    else:
        assert 0.35 < agreement < 0.75


def test_missing(gaps):
    absent = {
        "text": np.array([text == "" for text in gaps["text"][:]]),
        "audio": np.array([row["audio_values"].shape == (0, 8) for row in gaps]),
        "vision": np.array([row["vision_values"].shape == (0, 6) for row in gaps]),
    }
    # All three would be missing in 2.7 % of the samples; one of them is then put back.
    expected = 0.3 - 0.3**3 / 3
    for rows in absent.values():
        assert abs(rows.mean() - expected) < 4 * np.sqrt(expected * (1 - expected) / 600)
    assert not np.all(list(absent.values()), axis=0).any()
    assert np.sum(list(absent.values()), axis=0).max() == 2
    labels = np.asarray(gaps["text_label"][:])
    assert np.isfinite(labels).all() and (labels[absent["text"]] != 0).any()  # the truth is known all the same


@pytest.mark.parametrize(("missing", "counts"), [(0.0, {3}), (1.0, {1})])
def test_none_and_all_missing(missing, counts):
    found = set()
    for row in small(train=40, missing=missing)["train"]:
        found.add(bool(row["text"]) + bool(len(row["audio_values"])) + bool(len(row["vision_values"])))
    assert found == counts


def test_lengths_follow_the_rates(corpus):
    audio_seconds, vision_seconds, spare = [], [], []
    for row in corpus["train"]:
        audio, vision = len(row["audio_values"]), len(row["vision_values"])
        audio_seconds.append(audio / 10)
        vision_seconds.append(vision / 4)
        assert abs(audio / 10 - vision / 4) <= 0.5 / 10 + 0.5 / 4 + 1e-9  # the same seconds, but for rounding
        spare.append(audio / 10 - 0.35 * len(row["text"].split()))
    assert min(spare) >= 0.2 - 0.05 and max(spare) <= 1.0 + 0.05
    assert max(spare) - min(spare) > 0.7
    assert len(set(audio_seconds)) > 30 and len(set(vision_seconds)) > 12


@pytest.mark.parametrize("modality", ["audio", "vision"])
def test_sentiment_lies_along_one_direction(corpus, modality):
    """What of the features goes with the label in the training split reads it in the test split; the rest does not."""

    def features_and_labels(split):
        features = np.stack([row[f"{modality}_values"].mean(axis=0) for row in corpus[split]])
        return features, np.asarray(corpus[split][f"{modality}_label"][:])

    features, labels = features_and_labels("train")
    direction = features.T @ labels  # the noise has no part in it, but for chance
    direction /= np.linalg.norm(direction)
    unseen, unseen_labels = features_and_labels("test")
    slope, intercept = np.polyfit(features @ direction, labels, 1)
    assert np.corrcoef(unseen @ direction, unseen_labels)[0, 1] > 0.8
    error = np.abs(slope * (unseen @ direction) + intercept - unseen_labels).mean()
    assert error < 0.5 * np.abs(unseen_labels - labels.mean()).mean()
    rest = np.linalg.svd(direction[None])[2][1:].T  # the other directions
    readout = np.linalg.lstsq(features @ rest, labels, rcond=None)[0]
    assert abs(np.corrcoef(unseen @ rest @ readout, unseen_labels)[0, 1]) < 0.3


@pytest.mark.parametrize("modality", ["audio", "vision"])
def test_burst(modality):
    """Without noise nothing is left but one burst along a direction of unit length, as high as the sentiment says."""
    rows = SyntheticCorpus(train=60, valid=1, test=1, noise=0.0).build()["train"]
    directions, starts = [], []
    for row in rows:
        values, label = row[f"{modality}_values"].astype(np.float64), float(row[f"{modality}_label"])
        active = np.flatnonzero(np.abs(values).max(axis=1) > 0)
        assert (np.diff(active) == 1).all()
        assert max(3, 0.3 * len(values) - 1) <= len(active) <= max(3, 0.6 * len(values) + 1)
        peak = values[np.abs(values).max(axis=1).argmax()]
        assert 0.8 * 0.5 * abs(label) <= np.linalg.norm(peak) <= 0.5 * abs(label) + 1e-6
        directions.append(np.sign(label) * peak / np.linalg.norm(peak))
        assert np.linalg.matrix_rank(values, tol=1e-5) == 1
        starts.append(active[0] / len(values))
    np.testing.assert_allclose(directions, np.broadcast_to(directions[0], (60, len(directions[0]))), atol=1e-4)
    assert np.ptp(starts) > 0.3


@pytest.mark.parametrize("noise", [0.3, 1.0])
def test_noise_has_its_size_and_a_memory(noise):
    rows = SyntheticCorpus(train=40, valid=1, test=1, noise=noise).build()["train"]
    silent = SyntheticCorpus(train=40, valid=1, test=1, noise=0.0).build()["train"]
    deviations, memory = [], []
    for row, clean in zip(rows, silent, strict=True):
        rest = row["audio_values"] - clean["audio_values"]
        deviations.append((rest**2).mean())
        memory.append((rest[1:] * rest[:-1]).mean())
    assert np.sqrt(np.mean(deviations)) == pytest.approx(noise, rel=0.05)
    assert np.mean(memory) / np.mean(deviations) == pytest.approx(0.6, abs=0.05)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"train": 0}, "train"),
        ({"valid": -1}, "valid"),
        ({"test": 2.0}, "test"),
        ({"train": "many"}, "train"),
        ({"disagreement": 1.1}, "disagreement"),
        ({"disagreement": -0.1}, "disagreement"),
        ({"missing": 2}, "missing"),
        ({"missing": float("nan")}, "missing"),
        ({"noise": -0.1}, "noise"),
    ],
    ids=str,
)
def test_refused(fields, named):
    with pytest.raises(ValueError, match=f"`{named}` must"):
        SyntheticCorpus(**fields)
