"""The processor and the pipeline on media: a drawn, speaking face, real extractors, untrained models."""

import json
import shutil

import numpy as np
import pytest
import torch
from transformers import AutoProcessor

import predict
from datasets_scripts.synthetic_clips import write_synthetic_clips
from datasets_scripts.synthetic_clips.mp4 import write_mp4
from modeling import MMLatchModel
from processing import MultimodalProcessor, MultimodalSentimentPipeline
from processing.feature_extraction import FeatureSequence, difference
from processing.media_features import MediaFeatures
from processing.media_reading import MediaError, MediaLimits
from tests.strangers import assert_same_predictions, media_checkpoint, run_alone
from training.checkpoint import load_checkpoint

pytest.importorskip("av")
pytest.importorskip("opensmile")
pytest.importorskip("cv2")

AUDIO, VISION = "egemaps_v02", "face_appearance"
SRT = "1\n00:00:00,000 --> 00:00:01,000\nthe plot\n\n2\n00:00:01,000 --> 00:00:02,000\nwas good\n"


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Path and transcript of a clip of two to three seconds."""
    folder = tmp_path_factory.mktemp("clips") / "clips"
    row = write_synthetic_clips(folder, clips=3, seed=0)[0]
    return folder / "Raw" / row["video_id"] / f"{row['clip_id']}.mp4", row["text"]


@pytest.fixture(scope="module")
def features():
    return MediaFeatures(AUDIO, VISION)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("self_mm")
    media_checkpoint(folder)
    return folder


def load(folder):
    model, processor = load_checkpoint(str(folder))
    return MultimodalSentimentPipeline(model=model, processor=processor)


@pytest.fixture(scope="module")
def pipe(folder):
    return load(folder)


def score(pipe, **columns):
    """What the model itself says of some columns."""
    with torch.no_grad():
        return pipe.model(**pipe.processor(**columns)).logits.item()


def test_an_analysis_is_of_the_extracted_features(pipe, clip, features):
    path, text = clip
    found = pipe(str(path), transcript=text, window=1.0, stride=0.5)
    extracted = features(path, transcript=text)
    audio, vision = extracted.audio.values, extracted.vision.values
    columns = {"text": text, "audio_values": audio, "vision_values": vision}
    whole = score(pipe, **columns)
    assert found["score"] == pytest.approx(whole, abs=1e-5)
    for modality, column in {"text": "text", "audio": "audio_values", "vision": "vision_values"}.items():
        rest = score(pipe, **{name: value for name, value in columns.items() if name != column})
        assert found["contributions"][modality] == pytest.approx(whole - rest, abs=1e-5)
        assert isinstance(found[modality], float)
    second = found["timeline"][1]
    assert (second["start"], second["end"]) == (0.5, 1.5)
    # Steps of audio are 50 ms long and of vision 100 ms: those whose middle lies within.
    expected = score(
        pipe, text=extracted.transcript.between(0.5, 1.5), audio_values=audio[10:30], vision_values=vision[5:15]
    )
    assert second["score"] == pytest.approx(expected, abs=1e-5)
    assert found["seconds"] == pytest.approx(extracted.seconds)
    assert pipe(str(path), transcript=text, window=60.0)["timeline"][0]["score"] == pytest.approx(whole, abs=1e-5)
    assert found["transcript"]["text"] == text and found["transcript"]["timing"] == "spread"
    assert all(word["contribution"] is not None for word in found["transcript"]["words"])
    assert found["masks"] is None and found["notes"] == []
    assert len(found["faces"]) == len(vision)
    assert all(0 < part < 1 for face in found["faces"] for part in face["box"])


def test_the_processor_makes_inputs_of_a_clip(pipe, clip, features):
    path, text = clip
    extracted = features(path)
    expected = pipe.processor(
        text=[text, ""],
        audio_values=[extracted.audio.values] * 2,
        vision_values=[extracted.vision.values] * 2,
    )
    found = pipe.processor(video=[path, path], text=[text, "."])
    torch.testing.assert_close(found["audio_values"], expected["audio_values"])
    torch.testing.assert_close(found["vision_values"], expected["vision_values"])
    assert found["input_ids"][0].tolist() == expected["input_ids"][0].tolist()
    one = pipe.processor(video=path)
    assert "input_ids" not in one and one["audio_values"].shape == (1, *extracted.audio.values.shape)


def test_dropped_modalities_and_parts(pipe, clip):
    path, text = clip
    whole = pipe(video=path, transcript=text)
    found = pipe(video=path, transcript=text, drop=["audio"])
    assert found["score"] == pytest.approx(whole["score"] - whole["contributions"]["audio"], abs=1e-5)
    assert found["audio"] is None and found["vision"] == pytest.approx(whole["vision"], abs=1e-5)
    part = pipe(video=path, transcript=text, start=0.5, stop=1.5)
    assert part["score"] != pytest.approx(whole["score"], abs=1e-6) and part["seconds"] == 1.5


def test_subtitles_are_heard_in_their_window(pipe, clip, tmp_path):
    subtitles = tmp_path / "clip.srt"
    subtitles.write_text(SRT)
    found = pipe(video=clip[0], transcript=str(subtitles), drop=["audio", "vision"], window=1.0, stride=1.0)
    assert [word["start"] for word in found["transcript"]["words"]][0] == 0.0
    assert found["timeline"][0]["score"] == pytest.approx(score(pipe, text="the plot"), abs=1e-5)
    assert found["timeline"][1]["score"] == pytest.approx(score(pipe, text="was good"), abs=1e-5)


def test_noise_changes_the_score_in_the_same_way_each_time(pipe, clip):
    path, text = clip
    scores = [pipe(video=path, transcript=text, noise=noise)["score"] for noise in (0.0, 0.5, 0.5)]
    assert scores[1] == scores[2] != scores[0]
    assert pipe(video=path, transcript=text, noise=0.5, seed=1)["score"] != scores[1]


def test_many_clips(pipe, clip):
    path, text = clip
    one = pipe(video=path, transcript=text, words=False)
    row = {"video": str(path), "text": text, "id": "x", "label": 1.0}
    listed = pipe([row, "the plot was good"], words=False)
    assert listed[0]["score"] == pytest.approx(one["score"], abs=1e-6) and listed[0]["timeline"]
    assert listed[1]["score"] == pytest.approx(score(pipe, text="the plot was good"), abs=1e-5)
    streamed = next(iter(pipe(row for _ in range(1))))
    assert streamed["score"] == pytest.approx(one["score"], abs=1e-6) and "timeline" not in streamed


def test_text_can_be_analysed_too(pipe):
    found = pipe("the plot was good", words=True)
    words = found["transcript"]["words"]
    assert [word["text"] for word in words] == ["the", "plot", "was", "good"]
    expected = score(pipe, text="the plot was good") - score(pipe, text="the plot was")
    assert words[3]["contribution"] == pytest.approx(expected, abs=1e-5)
    assert found["timeline"] == [] and found["seconds"] is None


def test_sound_alone(pipe, clip):
    found = pipe(audio=clip[0])
    assert isinstance(found["audio"], float) and found["vision"] is None and found["text"] is None
    assert found["contributions"] == {} and any("no transcript" in note for note in found["notes"])
    samples = np.sin(np.arange(16_000) * 2 * np.pi * 220 / 16_000).astype(np.float32)
    assert np.isfinite(pipe(audio=samples, sampling_rate=16_000)["score"])


def write_clip(path, frames, sound):
    write_mp4(path, frames, 10, sound, 16_000)
    return path


def test_a_clip_without_a_face(pipe, tmp_path):
    gray = np.full((48, 64, 3), 127, np.uint8)
    path = write_clip(tmp_path / "gray.mp4", [gray] * 10, np.zeros(16_000, np.float32))
    found = pipe(str(path))
    assert found["vision"] is None and found["faces"] == [] and isinstance(found["audio"], float)
    assert any("No face was found" in note for note in found["notes"])
    with pytest.raises(ValueError, match="nothing that the checkpoint reads after audio was dropped"):
        pipe(str(path), drop=["audio"])


def test_the_steps_of_masks(features, clip, tmp_path):
    media_checkpoint(tmp_path, MMLatchModel)
    pipe = load(tmp_path)
    path, text = clip
    found = pipe(video=path, transcript=text)["masks"]
    extracted = features(path)
    assert found["audio"]["times"] == extracted.audio.times.tolist()
    assert len(found["vision"]["values"]) == len(extracted.vision.times)
    assert found["text"]["tokens"] == pipe.processor.tokenizer.convert_ids_to_tokens(pipe.processor.tokenize([text])[0])
    with torch.no_grad():
        inputs = pipe.processor(text=text, audio_values=extracted.audio.values, vision_values=extracted.vision.values)
        masks = pipe.model(**inputs).audio_mask_values[0]
    np.testing.assert_allclose(found["audio"]["values"], masks.mean(dim=1).numpy(), atol=1e-5)
    assert pipe("the plot", words=True)["masks"] is not None


# The kind of features


def test_the_kind_is_saved_and_another_one_refused(pipe, folder, features):
    content = json.loads((folder / "processor_config.json").read_text())
    assert content["audio_extractor"] == features.audio_extractor.settings()
    assert content["vision_extractor"]["name"] == VISION and content["vision_extractor"]["versions"]
    loaded = AutoProcessor.from_pretrained(folder)
    assert loaded.vision_extractor == content["vision_extractor"]
    size = features.audio_extractor.feature_size
    values = np.zeros((3, size), np.float32)
    times = np.arange(3.0)
    same = FeatureSequence(values, times, 1.0, settings={**content["audio_extractor"], "versions": {"opensmile": "9"}})
    assert pipe({"audio_values": same})["score"] == pytest.approx(score(pipe, audio_values=values), abs=1e-6)
    moved = {"name": "audio_encoder", "model": "/elsewhere", "versions": {"model": "sha256:1"}}
    assert difference({**moved, "model": "org/name"}, moved) is None
    assert "`model`" in difference({**moved, "model": "org/name", "versions": {"model": "sha256:2"}}, moved)
    for settings, message in [
        ({**content["audio_extractor"], "name": "covarep"}, "they are of the kind 'covarep', not 'egemaps_v02'"),
        ({**content["audio_extractor"], "rate": 5.0}, "they have `rate` 5.0, not 20.0"),
    ]:
        with pytest.raises(ValueError, match=message):
            pipe({"audio_values": FeatureSequence(values, times, 1.0, settings=settings)})


def test_checkpoints_whose_features_media_do_not_give(clip):
    processor = MultimodalProcessor(audio_feature_size=74, audio_feature_set="COVAREP")
    with pytest.raises(MediaError, match=r"(?s)Nothing was found.*audio features \(COVAREP\) that no extractor"):
        processor(video=clip[0])


@pytest.mark.parametrize(
    "settings, message",
    [
        ("egemaps_v02", "must be the settings of one of egemaps_v02"),
        ({"name": "covarep"}, "must be the settings of one of egemaps_v02"),
        ({"name": "egemaps_v02", "feature_size": 25}, "makes 25 features per step, but `audio_feature_size` is 74"),
    ],
)
def test_settings_that_are_none(settings, message):
    with pytest.raises(ValueError, match=message):
        MultimodalProcessor(audio_feature_size=74, audio_extractor=settings)


STRANGER = """
from transformers import AutoProcessor, pipeline

folder, path, text = question
pipe = pipeline("multimodal-sentiment-analysis", model=folder, trust_remote_code=True)
clip = pipe.processor.extract(video=path, transcript=text)
answer = pipe(video=path, transcript=clip.transcript)
answer["again"] = pipe({"text": text, "audio_values": clip.audio, "vision_values": clip.vision})["score"]
print(json.dumps(answer))
"""


def test_media_where_the_project_is_not_installed(clip, tmp_path):
    folder = tmp_path / "mmlatch"
    media_checkpoint(folder, MMLatchModel)
    path, text = clip
    found = run_alone(STRANGER, [str(folder), str(path), text], tmp_path)
    expected = load(folder)(video=path, transcript=text)
    assert_same_predictions(found, {**expected, "again": expected["score"]})
    assert found["masks"]["vision"]["times"] and found["faces"]


# What is refused


@pytest.mark.parametrize(
    "row, options, error, message",
    [
        ("nowhere.mp4", {}, FileNotFoundError, "nowhere.mp4"),
        ({"video": "CLIP", "audio_values": [[0.0]]}, {}, ValueError, "`audio_values` is not a column"),
        ({"text": "the plot"}, {"transcript": "the plot"}, ValueError, "`transcript` goes with media"),
        ("CLIP", {"window": -1}, ValueError, "`window` must be a positive"),
        ("CLIP", {"start": 2.0, "stop": 1.0}, ValueError, "`start` and `stop`"),
        ("CLIP", {"start": 99.0}, ValueError, "`start` must lie before the end of the clip"),
        ("CLIP", {"limits": MediaLimits(max_seconds=0.5)}, MediaError, "limit"),
        ("CLIP", {"transcript": "words.docx"}, (ValueError, FileNotFoundError), "words.docx"),
        (["CLIP", "nowhere.wav"], {}, FileNotFoundError, "Row 1: .*nowhere.wav"),
    ],
)
def test_media_that_are_refused(pipe, clip, row, options, error, message):
    def named(value):
        return str(clip[0]) if value == "CLIP" else value

    row = {k: named(v) for k, v in row.items()} if isinstance(row, dict) else named(row)
    row = [named(one) for one in row] if isinstance(row, list) else row
    with pytest.raises(error, match=message):
        pipe(row, **options)


# predict.py


def test_predict_prints_an_analysis(folder, clip, capsys):
    path, text = clip
    predict.main([str(folder), "--video", str(path), "--transcript", text, "--window", "1"])
    printed = capsys.readouterr().out
    for part in ("sentiment ", "of the text alone", "what each modality adds:", "0.0 to 1.0", f"transcript: {text}"):
        assert part in printed


def test_predict_writes_an_analysis(folder, pipe, clip, tmp_path):
    path, text = clip
    output = tmp_path / "answer.json"
    arguments = ["--video", str(path), "--transcript", text, "--drop", "audio", "vision", "--output", str(output)]
    predict.main([str(folder), *arguments])
    answer = json.loads(output.read_text())
    expected = pipe(video=path, transcript=text, drop=["audio", "vision"])
    assert answer["score"] == pytest.approx(expected["score"], abs=1e-6)
    assert set(answer) == set(expected)


def test_predict_refuses_what_is_for_one_sample(folder, capsys):
    with pytest.raises(SystemExit):
        predict.main([str(folder), "--split", "test", "--drop", "audio"])
    assert "--drop is for one sample" in capsys.readouterr().err


def test_a_name_that_is_no_sound_is_text(pipe, clip, tmp_path):
    path = tmp_path / "clip.data"
    shutil.copy(clip[0], path)
    assert "timeline" not in pipe(str(path))
    assert pipe(video=path)["timeline"]
