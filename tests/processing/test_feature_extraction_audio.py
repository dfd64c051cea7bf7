"""Features of sound: openSMILE's descriptors and encoders' states, in steps, the same in windows as all at once."""

import math
from pathlib import Path

import numpy as np
import opensmile
import pytest
import torch
from transformers import (
    HubertConfig,
    HubertModel,
    ViTConfig,
    ViTModel,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Model,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperModel,
)

from datasets_scripts.feature_sets import EGEMAPS
from processing import feature_extraction_audio_egemaps
from processing.feature_extraction import build_extractor
from processing.feature_extraction_audio import AUDIO_EXTRACTORS
from processing.media_reading import MediaLimits, open_media
from processing.step_averages import SoundWindows, StepAverages
from tests.media import set_matroska_seconds, tone, voice, write_clip

REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "media"
F0 = EGEMAPS.columns.index("F0semitoneFrom27.5Hz_sma3nz")


@pytest.fixture(scope="module")
def egemaps():
    return AUDIO_EXTRACTORS["egemaps_v02"]()


def media_of(sound, sampling_rate=16000):
    return open_media(sound, sampling_rate=sampling_rate)


def smile_of(sound):
    """What the package gives for all of the sound: the starts of its frames and their descriptors."""
    smile = opensmile.Smile(opensmile.FeatureSet.eGeMAPSv02, opensmile.FeatureLevel.LowLevelDescriptors)
    return smile.process_signal(sound, 16000).to_numpy()


def means_of(frames, rate):
    """Loops that average frames as the extractor's docstring says."""
    steps = {}
    for k, frame in enumerate(frames):
        centre = (k + 1) / 100
        steps.setdefault(math.floor(centre * rate + 1e-9), []).append(frame)
    times, rows = [], []
    for step, members in sorted(steps.items()):
        voiced = [frame for frame in members if frame[F0] > 0]
        row = []
        for column, name in enumerate(EGEMAPS.columns):
            counted = voiced if name.endswith("nz") else members
            row.append(sum(float(frame[column]) for frame in counted) / len(counted) if counted else 0.0)
        times.append((step + 0.5) / rate)
        rows.append(row)
    return np.array(times), np.array(rows)


# --- eGeMAPS ----------------------------------------------------------------------------------------------------------


def test_settings_and_columns(egemaps):
    assert egemaps.columns == EGEMAPS.columns and egemaps.feature_size == EGEMAPS.size == 25
    settings = egemaps.settings()
    assert settings == {
        "name": "egemaps_v02",
        "rate": 20.0,
        "feature_size": 25,
        "versions": {"opensmile": opensmile.__version__},
    }
    assert build_extractor(settings, AUDIO_EXTRACTORS).settings() == settings
    for rate in (0, 101, -5):
        with pytest.raises(ValueError, match="`rate` of 'egemaps_v02' must be"):
            AUDIO_EXTRACTORS["egemaps_v02"](rate=rate)


@pytest.mark.parametrize("rate", [20.0, 30.0, 100.0, 7.0])
def test_steps_are_means_of_the_packages_descriptors(rate):
    sound = voice(3.0)
    sequence = AUDIO_EXTRACTORS["egemaps_v02"](rate=rate).extract(media_of(sound))
    times, means = means_of(smile_of(sound), rate)
    assert sequence.values.dtype == np.float32 and sequence.step_seconds == 1 / rate and sequence.notes == []
    assert np.allclose(sequence.times, times) and sequence.values.shape == means.shape
    assert np.allclose(sequence.values, means, rtol=1e-5, atol=1e-4)
    voiced = (sequence.values[:, F0] > 0).mean()
    assert 0.2 < voiced < 0.95  # both kinds of steps are there


def test_pitch_of_a_sine(egemaps):
    sequence = egemaps.extract(media_of(tone(1.0, frequency=220.0)))
    inner = sequence.between(0.2, 0.8)
    assert np.abs(inner[:, F0] - 12 * math.log2(220 / 27.5)).max() < 0.1  # 36 semitones
    louder = egemaps.extract(media_of(tone(1.0, amplitude=0.9))).between(0.2, 0.8)
    assert (louder[:, 0] > inner[:, 0]).all()


@pytest.mark.parametrize("seconds", [5.0, 6.06, 7.51])
def test_windows_do_not_show(egemaps, monkeypatch, seconds):
    monkeypatch.setattr(feature_extraction_audio_egemaps, "_WINDOW_FRAMES", 150)
    sound = voice(seconds, seed=3)
    _, means = means_of(smile_of(sound), 20.0)
    assert np.allclose(egemaps.extract(media_of(sound)).values, means, rtol=1e-5, atol=1e-4)


def test_a_part_is_described_as_if_cut_out(egemaps):
    sound = voice(4.0)
    part = egemaps.extract(media_of(sound), 1.0, 2.5)
    alone = egemaps.extract(media_of(sound[16000:40000]))
    assert np.allclose(part.times, alone.times + 1.0) and 1.0 < part.times[0] < part.times[-1] < 2.5
    assert np.allclose(part.values, alone.values, atol=1e-4)


def test_the_loudest_sound_does_not_wrap_around(egemaps):
    loud = np.clip(5 * tone(1.0), -1, 1)
    nearly = 0.999 * loud
    assert np.abs(smile_of(loud) - smile_of(nearly)).max() > 10  # the package alone
    difference = egemaps.extract(media_of(loud)).values - egemaps.extract(media_of(nearly)).values
    assert np.abs(difference[:, 0]).max() < 0.02  # loudness
    for sign in (1, -1):  # decoders overshoot
        over = np.where(sign * loud == 1, sign * 1.2, loud).astype(np.float32)
        assert np.abs(egemaps.extract(media_of(over)).values - egemaps.extract(media_of(loud)).values).max() < 1e-3


def test_values_that_are_not_finite_are_left_out(egemaps, monkeypatch):
    real = egemaps.descriptors

    def spoilt(samples):
        values = real(samples).copy()
        values[50, 3], values[51, 0] = np.nan, np.inf
        return values

    expected = egemaps.extract(media_of(voice(1.0)))
    monkeypatch.setattr(egemaps, "descriptors", spoilt)
    found = egemaps.extract(media_of(voice(1.0)))
    assert np.isfinite(found.values).all() and found.notes == ["2 values were not finite; the means leave them out."]
    assert (found.values != expected.values).sum() == 2


def test_silence_and_noise_are_finite(egemaps):
    silence = egemaps.extract(media_of(np.zeros(32000, np.float32)))
    assert len(silence) == 40 and np.isfinite(silence.values).all()
    assert (silence.values[:, F0] == 0).all() and silence.notes == []
    generator = np.random.default_rng(0)
    for sound in (generator.uniform(-1, 1, 32000), np.sign(generator.standard_normal(32000)), np.eye(1, 32000)[0]):
        assert np.isfinite(egemaps.extract(media_of(sound.astype(np.float32))).values).all()


@pytest.mark.parametrize(("samples", "steps"), [(0, 0), (1, 0), (959, 0), (960, 1), (1600, 2)])
def test_short_sound(egemaps, samples, steps):
    sequence = egemaps.extract(media_of(tone(1.0)[:samples]))
    assert sequence.values.shape == (steps, 25) and len(sequence.times) == steps
    assert np.isfinite(sequence.values).all()
    assert sequence.notes == ([] if steps else ["The sound is shorter than 60 ms, too short to describe."])


def test_no_sound_track(egemaps, tmp_path):
    sequence = egemaps.extract(open_media(write_clip(tmp_path / "silent.mp4", 0.5, audio=False)))
    assert sequence.values.shape == (0, 25) and sequence.notes == ["There is no sound track, so no sound is described."]


def test_a_file_is_described_at_16_khz(egemaps, tmp_path):
    path = write_clip(tmp_path / "clip.wav", sound=tone(2.0, 44100), sampling_rate=44100)
    found, expected = egemaps.extract(open_media(path)), egemaps.extract(media_of(tone(2.0)))
    assert np.abs(found.between(0.2, 1.8)[:, F0] - expected.between(0.2, 1.8)[:, F0]).max() < 0.05
    narrow = write_clip(tmp_path / "narrow.wav", sound=tone(2.0, 8000), sampling_rate=8000)
    assert np.abs(egemaps.extract(open_media(narrow)).between(0.2, 1.8)[:, F0] - 36).max() < 0.1


@pytest.mark.skipif(not REAL.is_dir(), reason="no real media here")
def test_real_speech_in_windows(egemaps, monkeypatch):
    clips = sorted(REAL.glob("*/*.m*"))[-2:]
    sound = np.concatenate([block for clip in clips for block in open_media(clip).audio_blocks()])
    sound = np.clip(sound, -1, 32767 / 32768)
    monkeypatch.setattr(feature_extraction_audio_egemaps, "_WINDOW_FRAMES", 500)
    _, means = means_of(smile_of(sound), 20.0)
    assert np.allclose(egemaps.extract(media_of(sound)).values, means, rtol=1e-5, atol=1e-4)


# --- encoders ---------------------------------------------------------------------------------------------------------

WAV2VEC2 = dict(
    hidden_size=24,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=32,
    conv_dim=(16,) * 7,
    num_conv_pos_embeddings=16,
    num_conv_pos_embedding_groups=4,
)


def saved_encoder(folder, model, processor):
    torch.manual_seed(0)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def wav2vec2(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("wav2vec2")
    return saved_encoder(folder, Wav2Vec2Model(Wav2Vec2Config(**WAV2VEC2)), Wav2Vec2FeatureExtractor())


@pytest.fixture(scope="module")
def whisper(tmp_path_factory):
    torch.manual_seed(0)
    config = WhisperConfig(
        d_model=24,
        encoder_layers=2,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        vocab_size=64,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
    )
    return saved_encoder(tmp_path_factory.mktemp("whisper"), WhisperModel(config), WhisperFeatureExtractor())


def encoder(model, **options):
    return AUDIO_EXTRACTORS["audio_encoder"](model, **options)


def test_states_are_those_of_the_model(wav2vec2):
    sound = voice(3.0)
    extractor = encoder(wav2vec2)
    sequence = extractor.extract(media_of(sound))
    assert (extractor.rate, extractor.feature_size, sequence.step_seconds) == (50.0, 24, 0.02)
    model = Wav2Vec2Model.from_pretrained(wav2vec2).eval()
    normal = (sound - sound.mean()) / np.sqrt(sound.var() + 1e-7)
    with torch.no_grad():
        states = model(torch.tensor(normal)[None], output_hidden_states=True).hidden_states
    assert sequence.values.shape == (149, 24) and sequence.values.dtype == np.float32
    assert np.allclose(sequence.values, states[-1][0], atol=1e-5)
    assert np.allclose(sequence.times, (np.arange(149) + 0.5) / 50)
    first = encoder(wav2vec2, layer=1).extract(media_of(sound)).values
    assert np.allclose(first, states[1][0], atol=1e-5) and not np.allclose(first, states[2][0], atol=1e-2)


def test_states_are_averaged_over_steps(wav2vec2):
    sound = voice(3.0)
    own = encoder(wav2vec2).extract(media_of(sound))
    sequence = encoder(wav2vec2, rate=10.0).extract(media_of(sound))
    assert len(sequence) == 30
    for step in range(30):
        members = [own.values[k] for k in range(149) if step <= (k + 0.5) / 5 < step + 1]
        assert np.allclose(sequence.values[step], np.mean(members, axis=0), atol=1e-5)


def test_long_sound_is_encoded_in_windows(wav2vec2):
    sound = voice(9.0)
    options = {"window_seconds": 3.0, "context_seconds": 0.5}
    sequence = encoder(wav2vec2, **options).extract(media_of(sound))
    assert len(sequence) == (len(sound) - 400) // 320 + 1
    assert np.allclose(np.diff(sequence.times), 0.02)
    model = encoder(wav2vec2)
    piece = sound[125 * 320 : (325 - 1) * 320 + 400]  # frames 150 to 299, and 25 on each side
    expected = model.extract(media_of(piece)).values[25:175]
    assert np.allclose(sequence.values[150:300], expected, atol=1e-5)


def test_hubert(tmp_path):
    folder = saved_encoder(tmp_path, HubertModel(HubertConfig(**WAV2VEC2)), Wav2Vec2FeatureExtractor())
    assert encoder(folder, rate=20.0).extract(media_of(voice(2.0))).values.shape == (40, 24)


def test_whisper_has_states_for_the_sound_alone(whisper):
    sound = voice(3.0)
    extractor = encoder(whisper, window_seconds=20.0, context_seconds=2.0)
    assert (extractor.rate, extractor.feature_size) == (50.0, 24)
    sequence = extractor.extract(media_of(sound))
    assert sequence.values.shape == (150, 24)
    features = WhisperFeatureExtractor()(sound, sampling_rate=16000, return_tensors="pt").input_features
    with torch.no_grad():
        states = WhisperModel.from_pretrained(whisper).eval().get_encoder()(features).last_hidden_state[0]
    assert np.allclose(sequence.values, states[:150], atol=1e-5)
    longer = encoder(whisper, rate=10.0, window_seconds=10.0, context_seconds=1.0).extract(media_of(voice(25.0)))
    assert len(longer) == 250 and np.isfinite(longer.values).all()


def test_settings_of_an_encoder(wav2vec2):
    extractor = encoder(wav2vec2, rate=25.0, layer=-2)
    settings = extractor.settings()
    assert settings["model"] == wav2vec2 and settings["layer"] == -2 and settings["rate"] == 25.0
    assert settings["versions"]["model"].startswith("sha256:") and "transformers" in settings["versions"]
    again = build_extractor(settings, AUDIO_EXTRACTORS)
    assert again.settings() == settings
    sound = media_of(voice(1.0))
    assert np.array_equal(again.extract(sound).values, extractor.extract(sound).values)


def test_encoders_that_cannot_be(wav2vec2, whisper, tmp_path):
    with pytest.raises(ValueError, match="`layer` must be between -3 and 2, .* but it is 3"):
        encoder(wav2vec2, layer=3)
    with pytest.raises(ValueError, match="`rate` must be from 0.1 to the encoder's own 50 steps"):
        encoder(wav2vec2, rate=51)
    with pytest.raises(ValueError, match="reads 30 s at a time, but .* are 34 s; make them shorter"):
        encoder(whisper, window_seconds=30)
    with pytest.raises(ValueError, match="`window_seconds` must be between 1 and 120"):
        encoder(wav2vec2, window_seconds=0)
    with pytest.raises(ValueError, match="cannot be loaded as one"):
        encoder(str(tmp_path / "nothing"))
    other = saved_encoder(
        tmp_path, ViTModel(ViTConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)),
        Wav2Vec2FeatureExtractor(),
    )  # fmt: skip
    with pytest.raises(ValueError, match="must be an encoder of the wav2vec 2.0 kind or Whisper's, but it is a 'vit'"):
        encoder(other)


def test_too_little_sound_for_an_encoder(wav2vec2, tmp_path):
    extractor = encoder(wav2vec2)
    short = extractor.extract(media_of(tone(1.0)[:399]))
    assert short.values.shape == (0, 24) and "shorter than 25 ms" in short.notes[0]
    assert len(extractor.extract(media_of(tone(1.0)[:400]))) == 1
    none = extractor.extract(open_media(write_clip(tmp_path / "silent.mp4", 0.5, audio=False)))
    assert none.values.shape == (0, 24) and "no sound track" in none.notes[0]


# --- steps and windows ------------------------------------------------------------------------------------------------


def test_means_do_not_depend_on_the_pieces():
    generator = np.random.default_rng(0)
    values, counted = generator.normal(size=(500, 3)), generator.random((500, 3)) < 0.5
    centres = (np.arange(500) + 0.5) / 100
    whole = StepAverages(7.0, 3)
    whole.add(centres, values, counted)
    times, means = whole.result()
    for step, (time, mean) in enumerate(zip(times, means, strict=True)):
        members = [k for k in range(500) if math.floor(centres[k] * 7) == step]
        assert time == pytest.approx((step + 0.5) / 7)
        for column in range(3):
            chosen = [values[k, column] for k in members if counted[k, column]]
            assert mean[column] == pytest.approx(np.mean(chosen) if chosen else 0.0, abs=1e-6)
    pieces = StepAverages(7.0, 3)
    cuts = [0, 1, 1, 40, 41, 44, 300, 500]
    for first, last in zip(cuts, cuts[1:], strict=False):
        pieces.add(centres[first:last], values[first:last], counted[first:last])
    assert all(np.allclose(a, b) for a, b in zip(pieces.result(), (times, means), strict=True))
    assert [len(part) for part in StepAverages(7.0, 3).result()] == [0, 0]


@pytest.mark.parametrize("total", [0, 9, 10, 11, 19, 100, 127, 130, 131, 250, 263])
@pytest.mark.parametrize("context", [0, 3])
def test_windows_cover_every_frame_once(total, context):
    sound = np.arange(total, dtype=np.float32)
    frames = max(0, (total - 10) // 4 + 1)
    for pieces in (1, 3, 50):
        windows = list(SoundWindows(4, 10, 8, context).over(np.array_split(sound, pieces)))
        covered = [window.first + k for window in windows for k in range(window.count)]
        assert covered == list(range(frames))
        assert [window.last for window in windows] == [False] * (len(windows) - 1) + [True] * (frames > 0)
        for window in windows:
            assert window.skip == min(context, window.first) and window.samples[0] == 4 * (window.first - window.skip)
            after = (len(window.samples) - 10) // 4 + 1 - window.skip - window.count
            assert after == min(context, frames - window.first - window.count) or window.last
            assert len(window.samples) <= (8 + 2 * context - 1) * 4 + 10 + 4


def test_limits_reach_extractors(egemaps, tmp_path):
    path = write_clip(tmp_path / "sound.mkv", 12.0, video=False)
    media = open_media(set_matroska_seconds(path, 2.0), MediaLimits(max_seconds=5))
    with pytest.raises(ValueError, match="the limit is 5 s"):
        egemaps.extract(media)
