"""What an analysis asks, and what it makes of the answers, against a model whose answer is a known sum."""

import numpy as np
import pytest

from processing.clip_analysis import AnalysisOptions, SampleAnalysis, deviations, noisy, scalar, windows
from processing.feature_extraction import FeatureSequence
from processing.feature_noise import Noise
from processing.media_features import ClipFeatures
from processing.transcripts import Transcript, Word

TEXT, STARTS = ("a", "good", "bad", "film"), np.arange(4) * 0.75
WORTH = {"good": 2.0, "bad": -3.0}


def sequence(values, step=0.5):
    values = np.asarray(values, np.float32)
    return FeatureSequence(values, (np.arange(len(values)) + 0.5) * step, step)


def clip():
    """Three seconds: "a good" before 1.5 s, "bad film" after; sound of 1, 2, ..., 6, a face in the first second."""
    words = [Word(word, start, start + 0.75) for word, start in zip(TEXT, STARTS, strict=True)]
    return ClipFeatures(
        3.0,
        Transcript(tuple(words), "words"),
        sequence([[n] for n in range(1, 7)]),
        sequence([[10.0], [20.0]]),
    )


def predict(row):
    """The worth of the words, the sum of the sound and a tenth of that of the pictures."""
    text = sum(WORTH.get(word, 0.0) for word in row.get("text", "").split())
    audio = float(np.sum(row.get("audio_values", 0.0)))
    vision = float(np.sum(row.get("vision_values", 0.0))) / 10
    return {"label": "positive", "score": text + audio + vision, "text": None, "audio": None, "vision": None}


def columns_of(clip, start, stop):
    return {name: value for name, value in clip.between(start, stop).items() if len(value)}


def analyse(**options):
    one = clip()
    analysis = SampleAnalysis(one.columns(), AnalysisOptions(**options), one, columns_of)
    questions = analysis.questions()
    return analysis.answer(questions, [predict(question.row) for question in questions])


def test_contributions_are_what_each_part_adds():
    found = analyse()
    assert found["score"] == -1.0 + 21.0 + 3.0
    assert found["contributions"] == {"text": -1.0, "audio": 21.0, "vision": 3.0}
    words = {word["text"]: word["contribution"] for word in found["transcript"]["words"]}
    assert words == {"a": 0.0, "good": 2.0, "bad": -3.0, "film": 0.0}


def test_windows_see_their_part():
    found = analyse(window=1.5, stride=1.5)["timeline"]
    assert [(window["start"], window["end"]) for window in found] == [(0.0, 1.5), (1.5, 3.0)]
    assert [window["score"] for window in found] == [2.0 + 6.0 + 3.0, -3.0 + 15.0]


def test_a_dropped_modality_is_nowhere():
    found = analyse(drop=["audio"], window=1.5, stride=1.5)
    assert found["score"] == 2.0 and set(found["contributions"]) == {"text", "vision"}
    assert [window["score"] for window in found["timeline"]] == [5.0, -3.0]
    assert analyse(drop="audio")["score"] == 2.0


def test_of_one_modality_nothing_is_taken_away():
    found = analyse(drop=("audio", "vision"))
    assert found["contributions"] == {}
    assert [word["contribution"] for word in found["transcript"]["words"]] == [0.0, 2.0, -3.0, 0.0]


def test_dropping_everything_is_refused():
    with pytest.raises(ValueError, match="nothing that the checkpoint reads after text, audio, vision was dropped"):
        analyse(drop=("text", "audio", "vision"))


def test_long_texts_are_asked_about_in_groups():
    text = " ".join(["good"] * 150)
    analysis = SampleAnalysis({"text": text, "audio_values": np.ones((1, 1))}, AnalysisOptions(words=True))
    questions = [question for question in analysis.questions() if question.kind == "words"]
    assert len(questions) == 50 and [question.about for question in questions[:2]] == [(0, 3), (3, 6)]
    found = analysis.answer(analysis.questions(), [predict(question.row) for question in analysis.questions()])
    assert [word["contribution"] for word in found["transcript"]["words"]] == [6.0] * 150


def test_words_are_not_asked_of_long_clips_unless_wanted():
    one = clip()
    one.seconds = 500.0
    kinds = {q.kind for q in SampleAnalysis(one.columns(), AnalysisOptions(), one).questions()}
    assert "words" not in kinds
    kinds = {q.kind for q in SampleAnalysis(one.columns(), AnalysisOptions(words=True), one).questions()}
    assert "words" in kinds


@pytest.mark.parametrize("seconds, expected", [(2.0, [(0, 2)]), (4.0, [(0, 4)]), (5.5, [(0, 4), (1, 5), (1.5, 5.5)])])
def test_windows_cover_the_clip(seconds, expected):
    assert list(windows(seconds, 4.0, 1.0)) == [pytest.approx(one) for one in expected]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"drop": ("voice",)}, "`drop` takes text, audio, vision; got 'voice'"),
        ({"window": 0}, "`window` must be a positive number of seconds; got 0"),
        ({"stride": float("inf")}, "`stride` must be a positive"),
        ({"stride": "1"}, "`stride` must be a positive"),
        ({"noise": 1.5}, "`noise` must be a probability, from 0 to 1; got 1.5"),
        ({"noise": True}, "`noise` must be a probability"),
    ],
)
def test_options_that_are_none(options, message):
    with pytest.raises(ValueError, match=message):
        AnalysisOptions(**options)


def test_the_number_of_a_prediction():
    whole = {"label": "negative", "scores": {"negative": 0.7, "positive": 0.3}}
    assert scalar({"label": "positive", "scores": {"negative": 0.2, "positive": 0.8}}, whole) == 0.2
    emotions = {"labels": [], "scores": {"happy": 0.1, "sad": 0.4}}
    assert scalar({"labels": ["happy"], "scores": {"happy": 0.9, "sad": 0.3}}, emotions) == 0.3
    assert scalar({"scores": {"valence": 1.0}}, {"scores": {"valence": 2.0}}) is None


def test_noise_is_the_same_with_and_without_the_other_modalities():
    row = {"audio_values": np.arange(12.0).reshape(6, 2), "vision_values": np.ones((3, 2))}
    noise = Noise(deviations(row, NoNormalization), seed=4)
    both, one = (
        noisy(columns, noise, 0.5, NoNormalization) for columns in (row, {"audio_values": row["audio_values"]})
    )
    np.testing.assert_array_equal(both["audio_values"], one["audio_values"])
    added = both["audio_values"] - row["audio_values"]
    expected = np.std(row["audio_values"], axis=0)
    assert set(np.round(added.ravel(), 4)) == {0.0, *np.round(expected, 4)}
    np.testing.assert_array_equal(both["vision_values"], row["vision_values"])  # constant, so there is nothing to add


class NoNormalization:
    normalization: dict = {}
