"""Speech recognition with small models that have random weights: their words mean nothing, the ways to them do."""

import logging

import numpy as np
import pytest
import torch
from transformers import AutoFeatureExtractor, Wav2Vec2ForCTC

from processing import speech_recognition
from processing.media_reading import open_media
from processing.speech_recognition import Transcriber, chunks
from tests.processing import speech_models

RATE = 16000
LETTERS = ["<pad>", "<s>", "</s>", "<unk>", "|", *"abcde"]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """The folders of models, by name, each made when it is first asked for."""
    folder, made = tmp_path_factory.mktemp("speech_models"), {}
    makers = {
        "words": lambda path: speech_models.save_whisper(path),
        "segments": lambda path: speech_models.save_whisper(path, alignment=False),
        "english": lambda path: speech_models.save_whisper(path, multilingual=False),
        "ctc": lambda path: speech_models.save_wav2vec2(path),
        "ctc8": lambda path: speech_models.save_wav2vec2(path, rate=8000),
        "text": lambda path: speech_models.save_text_model(path),
    }

    def model(name):
        if name not in made:
            made[name] = makers[name](folder / name)
        return made[name]

    return model


def sound(seconds, seed=0, rate=RATE):
    """Noise that is louder and softer four times a second, as media."""
    return open_media(samples(seconds, seed, rate), sampling_rate=rate)


def samples(seconds, seed=0, rate=RATE):
    random = np.random.default_rng(seed)
    loudness = np.repeat(random.uniform(0.1, 1.0, size=int(np.ceil(seconds * 4))), rate // 4)
    count = round(seconds * rate)
    return (0.1 * random.normal(size=count) * loudness[:count]).astype(np.float32)


class Blocks:
    """Media without a file: gives blocks, and counts them."""

    def __init__(self, blocks, has_audio=True):
        self.blocks, self.given = blocks, 0
        self.info = type("Info", (), {"name": "clip.mp4", "has_audio": has_audio})

    def audio_blocks(self, sampling_rate=16000, start=0.0, stop=None):
        for block in self.blocks:
            self.given += 1
            yield block


@pytest.mark.parametrize(("name", "timing"), [("words", "words"), ("segments", "cues"), ("ctc", "words")])
def test_words_have_times_in_order_within_the_clip(models, name, timing):
    transcript = Transcriber(models(name))(sound(40))
    assert transcript.timing == timing and transcript.timed and len(transcript.words) > 5
    assert all(0 <= word.start <= word.end <= 40 for word in transcript.words)
    middles = [word.middle for word in transcript.words]
    # Those at the very end of a chunk share its last hundredth of a second.
    assert min(np.diff(middles)) > -0.01
    assert transcript.between(0, 40) == transcript.text
    assert max(middles) > 30  # of the second chunk


def test_the_same_sound_gives_the_same_words(models):
    first, second = (Transcriber(models("words"))(sound(4)) for _ in range(2))
    assert first == second and first.words
    assert Transcriber(models("words"))(sound(4, seed=1)) != first


def test_ctc_is_the_likeliest_letter_of_each_frame(models):
    clip = samples(3.0)
    found = Transcriber(models("ctc"))(open_media(clip, sampling_rate=RATE)).words
    model = Wav2Vec2ForCTC.from_pretrained(models("ctc")).eval()
    inputs = AutoFeatureExtractor.from_pretrained(models("ctc"))(clip, sampling_rate=RATE, return_tensors="pt")
    with torch.no_grad():
        path = model(**inputs).logits[0].argmax(dim=-1).tolist()
    # Runs of the same letter are one; <pad> is between letters, | between words; a frame is 20 milliseconds.
    expected, before = [["", None, None]], None
    for frame, letter in enumerate([LETTERS[number] for number in path]):
        if letter == "|":
            expected.append(["", None, None])
        elif letter != "<pad>":
            word = expected[-1]
            if letter != before:
                word[0] += letter
            word[1] = frame * 0.02 if word[1] is None else word[1]
            word[2] = (frame + 1) * 0.02
        before = letter
    expected = [word for word in expected if word[0] and "<" not in word[0]]
    assert len(expected) > 5
    known = {(word.text, round(word.start, 2), round(word.end, 2)) for word in found}
    assert {(text, round(start, 2), round(end, 2)) for text, start, end in expected} <= known


def test_a_part_has_the_times_of_the_whole(models):
    clip = samples(6.0)
    part = Transcriber(models("ctc"))(open_media(clip, sampling_rate=RATE), start=2.0, stop=5.0)
    alone = Transcriber(models("ctc"))(open_media(clip[2 * RATE : 5 * RATE], sampling_rate=RATE))
    assert [word.text for word in part.words] == [word.text for word in alone.words]
    assert [word.start for word in part.words] == pytest.approx([word.start + 2 for word in alone.words])


def test_sound_comes_at_the_rate_of_the_model(models, monkeypatch):
    asked = []
    media = sound(2, rate=16000)
    blocks = media.audio_blocks
    monkeypatch.setattr(media, "audio_blocks", lambda rate, **part: asked.append(rate) or blocks(rate, **part))
    transcript = Transcriber(models("ctc8"))(media)
    assert asked == [8000]
    # Its frames are 40 milliseconds long.
    assert transcript.words and all(round(word.start / 0.04, 6) % 1 == 0 for word in transcript.words)


class TestChunks:
    def test_each_sample_is_in_one(self):
        clip = samples(100.3)
        pieces = list(chunks(iter(np.array_split(clip, 9)), RATE))
        assert np.array_equal(np.concatenate([piece for _, piece in pieces]), clip)
        assert [offset for offset, _ in pieces] == list(np.cumsum([0] + [len(piece) for _, piece in pieces[:-1]]))
        assert all(24 * RATE <= len(piece) <= 30 * RATE for _, piece in pieces[:-1])

    def test_they_are_cut_where_it_is_quiet(self):
        clip = samples(50.0)
        clip[27 * RATE : 27 * RATE + 4000] = 0
        (_, first), (offset, _) = chunks([clip], RATE)
        assert 27 * RATE < offset == len(first) < 27 * RATE + 4000

    def test_thirty_seconds_are_one(self):
        assert [len(piece) for _, piece in chunks([samples(30.0)], RATE)] == [30 * RATE]

    def test_none(self):
        assert list(chunks([], RATE)) == []

    def test_one_after_the_other(self):
        media = Blocks([samples(30.0, seed) for seed in range(20)])
        pieces = chunks(media.audio_blocks(), RATE)
        for number in range(1, 5):
            next(pieces)
            assert media.given <= number + 1

    def test_chunks_are_transcribed_as_clips_by_themselves(self, models):
        transcriber = Transcriber(models("ctc"))
        clip = samples(65.0)
        expected = []
        for offset, piece in chunks([clip], RATE):
            expected += transcriber(open_media(piece, sampling_rate=RATE)).shifted(offset / RATE).words
        found = transcriber(open_media(clip, sampling_rate=RATE)).words
        assert [word.text for word in found] == [word.text for word in expected]
        assert [word.start for word in found] == pytest.approx([word.start for word in expected])


class TestNothing:
    @pytest.mark.parametrize("seconds", [2.0, 40.0])
    def test_silence(self, models, seconds):
        clip = open_media(np.zeros(round(seconds * RATE), np.float32), sampling_rate=RATE)
        transcript = Transcriber(models("words"))(clip)
        assert transcript.text == "" and "is silent" in transcript.notes[0]

    def test_a_silent_chunk_is_skipped(self, models):
        clip = np.concatenate(
            [samples(3.0), np.zeros(27 * RATE, np.float32), np.zeros(30 * RATE, np.float32), samples(3.0)]
        )
        transcript = Transcriber(models("ctc"))(open_media(clip, sampling_rate=RATE))
        assert not transcript.notes
        assert not [word for word in transcript.words if 32 < word.middle < 58]
        assert [word for word in transcript.words if word.middle > 59]

    def test_no_sound_track_needs_no_model(self):
        transcript = Transcriber("/does/not/exist")(Blocks([], has_audio=False))
        assert transcript.words == () and transcript.notes == (
            "clip.mp4 has no sound track, so nothing was transcribed.",
        )

    def test_no_speech(self, models, monkeypatch):
        transcriber = Transcriber(models("ctc"))
        monkeypatch.setattr(transcriber, "_words", lambda *chunk: [])
        assert "recognises no speech" in transcriber(sound(1)).notes[0]

    @pytest.mark.parametrize("name", ["words", "ctc"])
    def test_a_moment(self, models, name):
        transcript = Transcriber(models(name))(Blocks([samples(0.01)]))
        assert all(0 <= word.start <= word.end <= 0.01 for word in transcript.words)


class TestErrors:
    @pytest.mark.parametrize("name", ["/does/not/exist", "nobody/no-such-model"])
    def test_no_such_model(self, name):
        with pytest.raises(ValueError, match=f"`transcriber` '{name}' cannot be loaded as a speech recognition model"):
            Transcriber(name)(sound(1))

    def test_a_model_of_text(self, models):
        name = models("text")
        with pytest.raises(ValueError, match=f"`transcriber` '{name}' cannot be loaded as a speech recognition model"):
            Transcriber(name)(sound(1))

    def test_language_of_a_model_that_has_one(self, models):
        with pytest.raises(ValueError, match=r"`language` chooses .* is of the kind 'wav2vec2'\. Leave it out"):
            Transcriber(models("ctc"), language="en")(sound(1))
        with pytest.raises(ValueError, match="none of the 1 that"):
            Transcriber(models("english"), language="de")(sound(1))
        assert Transcriber(models("english"), language="English")(sound(1)).timing == "words"

    def test_an_unknown_language(self, models):
        with pytest.raises(ValueError, match="'germann' is none of the 3 that .* near to it are german"):
            Transcriber(models("words"), language="germann")(sound(1))


def test_language_is_passed_on(models):
    texts = {
        language: Transcriber(models("words"), language=language)(sound(4)).text for language in ("de", "German", "zh")
    }
    assert texts["de"] == texts["German"] != texts["zh"]


def test_settings_are_a_record(models):
    settings = Transcriber(models("words"), language="de").settings()
    assert (
        settings["model"] == models("words")
        and settings["language"] == "de"
        and settings["revision"].startswith("sha256:")
    )
    assert set(settings["versions"]) == {"transformers", "torch"}


def test_the_model_is_loaded_once_and_late(models, monkeypatch):
    loaded = []
    original = speech_recognition.pipeline
    monkeypatch.setattr(
        speech_recognition, "pipeline", lambda *task, **given: loaded.append(given) or original(*task, **given)
    )
    transcriber = Transcriber(models("ctc"))
    assert not loaded
    transcriber(sound(1))
    transcriber(sound(1))
    assert len(loaded) == 1


@pytest.fixture(autouse=True)
def quiet():
    logging.getLogger("transformers").setLevel(logging.ERROR)
