"""Emotions of the synthetic corpus: who has them, that each modality shows them, and that nothing else changes."""

import re

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from datasets_scripts import EMOTIONS, SyntheticCorpus, row_features

WORDS = {
    **dict.fromkeys(("happy", "cheerful", "delighted"), "happy"),
    **dict.fromkeys(("sad", "gloomy", "tearful"), "sad"),
    **dict.fromkeys(("angry", "furious", "annoyed"), "anger"),
    **dict.fromkeys(("surprised", "amazed", "astonished"), "surprise"),
    **dict.fromkeys(("disgusted", "sickened", "repelled"), "disgust"),
    **dict.fromkeys(("scared", "afraid", "frightened"), "fear"),
}
DEGREES = {"somewhat": 1.0, "quite": 2.0, "deeply": 3.0}
PHRASE = re.compile(r" and it left me (\w+) (\w+)")
MODALITIES = ("text", "audio", "vision")


class Pair:
    """The same corpus with emotions and without, and what the difference shows."""

    def __init__(self, **fields):
        fields = {"valid": 1, "test": 1, **fields}
        self.rows = list(SyntheticCorpus(**fields, emotions=True).build()["train"])
        self.base = list(SyntheticCorpus(**fields).build()["train"])
        self.emotions = np.stack([row["emotions"] for row in self.rows])
        self.directions = {name: self._directions(name) for name in ("audio", "vision")}
        self.has = np.array(
            [[bool(len(row[c])) for c in ("text", "audio_values", "vision_values")] for row in self.rows]
        )
        self.shown = np.stack([self._shown(index) for index in range(len(self.rows))])

    def difference(self, index, name):
        return self.rows[index][f"{name}_values"].astype(float) - self.base[index][f"{name}_values"]

    def phrases(self, index):
        """Intensities that the words at the end say, (6,)."""
        found = np.zeros(6)
        for degree, word in PHRASE.findall(self.rows[index]["text"]):
            found[EMOTIONS.index(WORDS[word])] = DEGREES[degree]
        return found

    def _directions(self, name):
        """(6, features), each the first left-over of a sample with this emotion alone."""
        found = {}
        for index in np.flatnonzero((self.emotions > 0).sum(axis=1) == 1):
            values = self.difference(index, name)
            if len(values) and np.abs(values).max() > 0.1:
                peak = values[np.linalg.norm(values, axis=1).argmax()]
                found.setdefault(int(self.emotions[index].argmax()), peak / np.linalg.norm(peak))
        return np.stack([found[emotion] for emotion in range(6)])

    def _shown(self, index):
        """Whether text, audio and vision show each emotion, (3, 6) booleans."""
        shown = [self.phrases(index) > 0]
        for name in ("audio", "vision"):
            along = self.difference(index, name) @ self.directions[name].T
            shown.append(np.abs(along).max(axis=0, initial=0) > 0.1)
        return np.array(shown)


@pytest.fixture(scope="module")
def pair():
    return Pair(train=500, seed=5)


@pytest.fixture(scope="module")
def gaps():
    return Pair(train=300, seed=6, missing=0.5)


def small(**fields):
    return SyntheticCorpus(**{"train": 6, "valid": 3, "test": 3, "emotions": True, **fields}).build()


def assert_same_rows(first, second):
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        assert set(a) == set(b)
        for name in a:
            np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def test_rows():
    corpus = small()
    expected = row_features(
        audio_feature_size=8, vision_feature_size=6, unimodal_labels=("text", "audio", "vision"), emotions=True
    )
    for split in corpus.values():
        assert split.features == expected
        assert split["emotions"][:].shape == (len(split), 6) and split["emotions"][:].dtype == np.float32
    assert "emotions" not in SyntheticCorpus(train=1, valid=1, test=1).build()["train"].column_names


def test_without_emotions_the_corpus_is_the_published_one():
    """Numbers measured before the corpus knew emotions."""
    corpus = SyntheticCorpus().build()
    first, last = corpus["train"][0], corpus["train"][599]
    assert first["text"] == "you know the script was dreadful and the dialogue felt slightly dreadful"
    assert last["text"] == "the ending is ordinary"
    assert corpus["test"][149]["text"] == "um the cast stayed great and the plot was good"
    labels = [first["label"], last["label"], corpus["test"][149]["label"]]
    np.testing.assert_allclose(labels, [-0.4496521, 0.5516288, 2.1944919], rtol=1e-6)
    assert first["audio_values"].shape == (50, 8) and last["audio_values"].shape == (19, 8)
    sums = [first["audio_values"].sum(), last["audio_values"].sum(), last["vision_values"].sum()]
    np.testing.assert_allclose(sums, [-6.713173, 5.821774, -2.9030972], rtol=1e-4)


@pytest.mark.parametrize("which", ["pair", "gaps"])
def test_nothing_else_changes(which, request):
    pair = request.getfixturevalue(which)
    for index, (row, base) in enumerate(zip(pair.rows, pair.base, strict=True)):
        assert set(row) - set(base) == {"emotions"}
        for name in ("id", "label", "text_label", "audio_label", "vision_label"):
            assert row[name] == base[name]
        assert PHRASE.sub("", row["text"]) == base["text"] and bool(row["text"]) == bool(base["text"])
        for name in ("audio", "vision"):
            values = pair.difference(index, name)  # fails where the steps differ
            burst = values @ pair.directions[name].T
            np.testing.assert_allclose(burst @ pair.directions[name], values, atol=1e-4)


def test_counts_and_intensities(pair):
    counts = (pair.emotions > 0).sum(axis=1)
    for number, share in enumerate((0.25, 0.45, 0.3)):
        assert abs((counts == number).mean() - share) <= 4 * np.sqrt(share * (1 - share) / 500)
    assert counts.max() == 2
    intensities = pair.emotions[pair.emotions > 0]
    for intensity in (1, 2, 3):
        assert abs((intensities == intensity).mean() - 1 / 3) <= 4 * np.sqrt(2 / 9 / len(intensities))
    assert set(intensities.tolist()) == {1.0, 2.0, 3.0}
    assert ((pair.emotions > 0).sum(axis=0) > 20).all()


def test_which_emotions_go_with_which_sentiment():
    rows = SyntheticCorpus(train=400, valid=1, test=1, seed=9, disagreement=0.0, emotions=True).build()["train"]
    common, present = rows["audio_label"][:], rows["emotions"][:] > 0  # without disagreement it is the common one
    assert (common[present[:, EMOTIONS.index("happy")]] > 0).all()
    for name in ("sad", "anger", "disgust", "fear"):
        assert (common[present[:, EMOTIONS.index(name)]] < 0).all()
    surprised = common[present[:, EMOTIONS.index("surprise")]]
    assert (surprised > 0).any() and (surprised < 0).any()
    assert present.any(axis=0).all()


@pytest.mark.parametrize("name", ["audio", "vision"])
def test_bursts(pair, name):
    """One rise and fall per emotion that is shown, as high as it is intense, along directions of their own."""
    np.testing.assert_allclose(pair.directions[name] @ pair.directions[name].T, np.eye(6), atol=1e-4)
    starts = []
    for index, shown in enumerate(pair.shown[:, MODALITIES.index(name)]):
        along = pair.difference(index, name) @ pair.directions[name].T
        assert np.abs(along[:, ~shown]).max(initial=0) < 1e-4
        for emotion in np.flatnonzero(shown):
            intensity, burst = pair.emotions[index, emotion], along[:, emotion]
            assert 0.8 * intensity <= burst.max() <= intensity + 1e-5 and burst.min() > -1e-4
            active = np.flatnonzero(burst > 1e-4)
            assert (np.diff(active) == 1).all()
            assert max(3, 0.3 * len(burst) - 1) <= len(active) <= max(3, 0.6 * len(burst) + 1)
            starts.append(active[0] / len(burst))
    assert len(starts) > 100 and np.ptp(starts) > 0.3


@pytest.mark.parametrize("which", ["pair", "gaps"])
def test_what_is_shown_is_present_and_what_is_present_is_shown(which, request):
    pair = request.getfixturevalue(which)
    present = pair.emotions > 0
    assert not (pair.shown & ~present[:, None]).any()
    assert (pair.shown.any(axis=1) == present).all()
    assert not (pair.shown & ~pair.has[:, :, None]).any()
    for index, shown in enumerate(pair.shown[:, 0]):  # the words say how much, too
        np.testing.assert_array_equal(pair.phrases(index), np.where(shown, pair.emotions[index], 0))
    if which == "gaps":
        assert (pair.has.sum(axis=1) == 1).any() and pair.has.any(axis=1).all()


def test_modalities_disagree(pair):
    shown = pair.shown.transpose(0, 2, 1)[pair.emotions > 0]  # (emotions that are present, 3)
    expected = 0.7 + 0.3**3 / 3  # where all three would hide it, one shows it
    for share in shown.mean(axis=0):
        assert abs(share - expected) <= 4 * np.sqrt(expected * (1 - expected) / len(shown))
    for disagreement, count in ((0.0, 3), (1.0, 1)):
        every = Pair(train=150, seed=8, disagreement=disagreement)
        assert (every.shown.sum(axis=1)[every.emotions > 0] == count).all()


def test_same_arguments_give_the_same_corpus_whatever_numpy_drew_before():
    np.random.seed(0)
    first = small(missing=0.3)
    np.random.seed(1)
    second = small(missing=0.3)
    for split in first:
        assert_same_rows(first[split], second[split])


def test_sizes_do_not_touch_one_another():
    first, second = small(train=4, valid=1), small(train=9, valid=3)
    assert_same_rows(first["train"], second["train"].select(range(4)))
    assert_same_rows(first["valid"], second["valid"].select(range(1)))
    assert_same_rows(first["test"], second["test"])


def test_seeds_and_splits_differ():
    first, second = small(train=30, valid=30, seed=0), small(train=30, valid=30, seed=1)
    assert (first["train"]["emotions"][:] != second["train"]["emotions"][:]).any()
    assert (first["train"]["emotions"][:] != first["valid"]["emotions"][:]).any()


@pytest.mark.parametrize("value", ["yes", 1, None])
def test_refused(value):
    with pytest.raises(ValueError, match="`emotions` must be True or False; got"):
        SyntheticCorpus(emotions=value)


def test_emotions_are_learned_from_words_and_means():
    """Logistic regression on a bag of words and the means of audio and vision, measured 0.84 to 0.94 per emotion."""
    corpus = SyntheticCorpus(train=600, valid=1, test=250, emotions=True).build()
    words = CountVectorizer().fit(corpus["train"]["text"][:])

    def inputs(split):
        means = [
            np.concatenate([row["audio_values"].mean(axis=0), row["vision_values"].mean(axis=0)])
            for row in corpus[split]
        ]
        return np.hstack([words.transform(corpus[split]["text"][:]).toarray(), means])

    train, test = inputs("train"), inputs("test")
    for index, name in enumerate(EMOTIONS):
        model = LogisticRegression(max_iter=1000, class_weight="balanced")
        model.fit(train, corpus["train"]["emotions"][:][:, index] > 0)
        truth, predicted = corpus["test"]["emotions"][:][:, index] > 0, model.predict(test)
        accuracy = (predicted[truth].mean() + (~predicted[~truth]).mean()) / 2  # the weighted one: both classes alike
        assert truth.sum() >= 10 and accuracy > 0.7, (name, accuracy)
