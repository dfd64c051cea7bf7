"""One clip: what is extracted, when it is extracted again, and what is said of one that fails."""

import numpy as np
import pytest

from datasets_scripts.extraction.clip_worker import ClipWorker, ExtractionSettings
from datasets_scripts.extraction.clips import MediaFolder
from datasets_scripts.extraction.store import ClipStore
from processing.feature_extraction import FeatureSequence
from processing.media_features import ClipFeatures, MediaFeatures
from processing.transcripts import Transcript
from tests.datasets_scripts.made_clips import write_table, write_tone

SETTINGS = ExtractionSettings({"audio": MediaFeatures("egemaps_v02").audio_extractor.settings()})


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "clips"
    write_table(folder / "label.csv", [{"id": "a", "text": "hello"}, {"id": "b", "text": ""}])
    write_tone(folder / "a.wav", 1.0)
    write_tone(folder / "b.wav", 0.5)
    return folder


def extract(folder, store, settings=SETTINGS):
    worker = ClipWorker(MediaFolder(folder).path, ClipStore(store), settings)
    return {clip.id: worker(clip) for clip in MediaFolder(folder).clips()}


def test_features_are_those_of_the_extractor(folder, tmp_path):
    (folder / "b.txt").write_text("What b says.")
    outcomes = extract(folder, tmp_path / "store")
    assert [(one.failure, one.extracted) for one in outcomes.values()] == [(None, True)] * 2
    assert outcomes["a"].seconds == pytest.approx(1.0) and outcomes["b"].files.keys() == {"b.wav", "b.txt"}
    records = {name: ClipStore(tmp_path / "store").read(name) for name in outcomes}
    expected = MediaFeatures("egemaps_v02")(audio=folder / "a.wav").audio.values
    np.testing.assert_array_equal(records["a"].values["audio"], expected)
    assert len(expected) > 10 and set(records["a"].values) == {"audio"}
    assert (records["a"].text, records["b"].text) == (None, "What b says.")


def test_what_is_done_is_not_done_again(folder, tmp_path):
    def again(settings=SETTINGS):
        return [one.extracted for one in extract(folder, tmp_path / "store", settings).values()]

    assert again() == [True, True]
    assert again() == [False, False]
    write_tone(folder / "b.wav", 0.5, pitch=300)
    assert again() == [False, True]
    extractor = MediaFeatures({"name": "egemaps_v02", "rate": 10}).audio_extractor
    slower = ExtractionSettings({"audio": extractor.settings()})
    assert again(slower) == [True, True]
    assert again(slower) == [False, False]
    other = {**slower.extractors["audio"], "versions": {"opensmile": "3.0"}}
    assert again(ExtractionSettings({"audio": other})) == [True, True]
    (folder / "b.vtt").write_text("WEBVTT\n\n00:00.000 --> 00:00.400\nNew words.\n")
    assert again(ExtractionSettings({"audio": other})) == [False, True]
    ClipStore(tmp_path / "store").file("a").write_bytes(b"cut off")
    assert again(ExtractionSettings({"audio": other})) == [True, False]


def test_failures_are_said_and_leave_no_record(folder, tmp_path):
    (folder / "a.wav").write_bytes(b"RIFF, but not really")
    (folder / "b.wav").unlink()
    write_table(folder / "label.csv", [{"id": name, "text": ""} for name in "abc"])
    (folder / "c.wav").symlink_to(folder / "c.wav")
    write_tone(folder / "d.wav")
    outcomes = extract(folder, tmp_path / "store")
    assert all(one.failure and not one.extracted for one in outcomes.values())
    assert outcomes["b"].failure == "there is no media file of this id"
    assert outcomes["a"].files.keys() == {"a.wav"} and str(tmp_path) not in outcomes["a"].failure
    assert not list((tmp_path / "store").rglob("*.safetensors"))


def test_a_clip_that_is_too_long(folder, tmp_path):
    settings = ExtractionSettings(SETTINGS.extractors, max_seconds=0.8)
    outcomes = extract(folder, tmp_path / "store", settings)
    assert outcomes["b"].failure is None and "0.8" in outcomes["a"].failure


class Silence:
    """In place of `MediaFeatures`: finds nothing, and says so."""

    transcriber = None

    def __init__(self, folder, fault=None):
        self.folder, self.fault = folder, fault

    def __call__(self, video, audio, transcript):
        if self.fault is not None:
            raise self.fault
        none = FeatureSequence(np.zeros((0, 25), np.float32), np.zeros(0), 0.05, ["There is no voice."])
        said = transcript if isinstance(transcript, Transcript) else None
        return ClipFeatures(1.0, said, audio=none, notes=[f"{self.folder}/x is odd.", "There is no voice."])


def test_a_clip_in_which_there_is_nothing(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(ExtractionSettings, "features", lambda settings: Silence(folder))
    outcomes = extract(folder, tmp_path / "store")
    assert outcomes["a"].failure is None  # the table has words
    said = "There is no voice.; clips/x is odd."
    assert outcomes["b"].failure == f"there is nothing in it: no word, no step of a feature ({said})"
    record = ClipStore(tmp_path / "store").read("a")
    assert record.notes == {"audio": ["There is no voice."], "media": ["clips/x is odd."]}


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (ZeroDivisionError("of a library"), "ZeroDivisionError: of a library"),
        (MemoryError(), "MemoryError: "),
        (PermissionError(13, "Permission denied", "/home/someone/a.wav"), "Permission denied"),
    ],
)
def test_any_fault_of_a_clip_is_its_own(folder, tmp_path, monkeypatch, fault, words):
    monkeypatch.setattr(ExtractionSettings, "features", lambda settings: Silence(folder, fault))
    assert {one.failure for one in extract(folder, tmp_path / "store").values()} == {words}


def test_a_transcriber_that_does_not_exist_is_an_error_of_the_run(folder, tmp_path):
    with pytest.raises(ValueError, match="transcriber"):
        extract(folder, tmp_path / "store", ExtractionSettings(SETTINGS.extractors, str(tmp_path / "none")))


def test_clips_without_words_are_heard(folder, tmp_path, monkeypatch):
    """And extracted again with another transcriber, but those with words are not."""
    made = ExtractionSettings.features

    class Hearing:
        def __init__(self, model):
            self.model = model

        def settings(self):
            return {"model": self.model}

        def __call__(self, sound, start, stop):
            from processing.transcripts import Word

            return Transcript((Word("Heard."),))

    def features(settings):
        found = made(ExtractionSettings(settings.extractors))
        found.transcriber = settings.transcriber and Hearing(settings.transcriber)
        return found

    monkeypatch.setattr(ExtractionSettings, "features", features)
    for model, b in ((None, True), ("one", True), ("one", False), ("two", True)):
        outcomes = extract(folder, tmp_path / "store", ExtractionSettings(SETTINGS.extractors, model))
        assert [one.extracted for one in outcomes.values()] == [model is None, b]
    store = ClipStore(tmp_path / "store")
    assert (store.read("a").text, store.read("b").text) == (None, "Heard.")
