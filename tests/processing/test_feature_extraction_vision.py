"""Features of faces: against their formulas, on clips without faces, and with tiny encoders and a false landmarker."""

import json
import math
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import AutoModel, CLIPConfig, CLIPModel, ResNetConfig, ResNetModel, ViTConfig, ViTModel
from transformers import ViTForImageClassification as ViTClassifier

cv2 = pytest.importorskip("cv2")

from processing.face_crops import square_crop  # noqa: E402
from processing.face_tracking import Box, Face, track_face  # noqa: E402
from processing.feature_extraction import build_extractor, difference  # noqa: E402
from processing.feature_extraction_vision import VISION_EXTRACTORS  # noqa: E402
from processing.feature_extraction_vision_appearance import (  # noqa: E402
    FREQUENCIES,
    Appearance,
    FaceAppearanceExtractor,
    low_frequencies,
)
from processing.feature_extraction_vision_encoder import CROP_MARGIN, ImageEncoderExtractor  # noqa: E402
from processing.feature_extraction_vision_mediapipe import (  # noqa: E402
    BLENDSHAPES,
    MediaPipeFaceExtractor,
    face_features,
    head_pose,
    largest_face,
    rectangle,
)
from tests.drawn_faces import DrawnMedia, blank, draw_face, write_clip  # noqa: E402
from tests.local_hub import LocalHub  # noqa: E402

REAL_MEDIA = Path(__file__).resolve().parents[3] / "shared" / "data" / "media"
RANDOM = np.random.default_rng(0)
COLUMNS = FaceAppearanceExtractor.columns


def column(sequence, name):
    return sequence.values[:, COLUMNS.index(name)]


def still(time):
    return draw_face(blank(), 160, 120, 100)


def talking(time):
    """The mouth opens and closes twice a second; the face stays."""
    return draw_face(blank(), 160, 120, 120, mouth=0.5 + 0.5 * math.sin(4 * math.pi * time))


# Crops


def test_a_crop_on_the_grid_of_pixels_is_the_mean_of_blocks():
    image = RANDOM.integers(0, 256, (60, 80, 3), dtype=np.uint8)
    crop = square_crop(image, Box(40, 30, 24), 8)
    expected = image[18:42, 28:52].reshape(8, 3, 8, 3, 3).mean(axis=(1, 3))
    assert np.abs(crop - expected).max() <= 1


def test_a_crop_beyond_the_border_repeats_it():
    image = RANDOM.integers(0, 256, (10, 10), dtype=np.uint8)
    crop = square_crop(image, Box(2, 8, 8), 16, margin=2.0)
    assert np.array_equal(crop, np.pad(image, 10, mode="edge")[10:26, 4:20])


# Appearance


def test_columns_have_names_of_their_own():
    assert len(set(COLUMNS)) == len(COLUMNS) == FaceAppearanceExtractor.feature_size == 58
    documented = FaceAppearanceExtractor.__doc__
    assert all(name in documented for name in COLUMNS if "dct" not in name and "motion" not in name)


def test_low_frequencies_are_those_of_the_dct_by_its_definition():
    region = RANDOM.normal(size=(12, 18))
    rows, columns = region.shape
    for (u, v), found in zip(FREQUENCIES, low_frequencies(region), strict=True):
        total = sum(
            region[i, j]
            * math.cos(math.pi * u * (2 * i + 1) / (2 * rows))
            * math.cos(math.pi * v * (2 * j + 1) / (2 * columns))
            for i in range(rows)
            for j in range(columns)
        )
        scale = (1 if u == 0 else math.sqrt(2)) * (1 if v == 0 else math.sqrt(2)) / (rows * columns)
        assert found == pytest.approx(scale * total)
    assert sum(low_frequencies(region) ** 2) < np.mean(region**2)
    assert low_frequencies(np.full((12, 18), 3.0))[0] == pytest.approx(3.0)


def test_geometry_follows_its_definitions():
    boxes = [Box(100, 60, 40), Box(110, 58, 44), Box(112, 66, 42)]
    appearance = Appearance(rate=10.0)
    rows = [
        dict(zip(COLUMNS, appearance.update(blank(200, 100), Face(box, index != 1, 0)), strict=True))
        for index, box in enumerate(boxes)
    ]
    last = rows[-1]
    assert (last["face_x"], last["face_y"], last["face_size"]) == pytest.approx((0.06, 0.16, 0.42))
    assert last["face_x_from_mean"] == pytest.approx((112 - 322 / 3) / 42)
    assert last["face_y_from_mean"] == pytest.approx((66 - 184 / 3) / 42)
    assert last["face_size_from_mean"] == pytest.approx(math.log(42) - math.log(40 * 44 * 42) / 3)
    assert (last["face_speed_x"], last["face_speed_y"]) == pytest.approx((20 / 42, 80 / 42))
    assert last["face_growth"] == pytest.approx(10 * math.log(42 / 44))
    assert [row["face_detected"] for row in rows] == [1, 0, 1]
    assert all(rows[0][name] == 0 for name in COLUMNS if "speed" in name or "motion" in name or "from_mean" in name)


def test_a_new_track_begins_without_a_past():
    appearance = Appearance(rate=10.0)
    appearance.update(still(0), Face(Box(160, 120, 100), True, 0))
    moved = draw_face(blank(), 100, 100, 80)
    after = appearance.update(moved, Face(Box(100, 100, 80), True, 1))
    fresh = Appearance(rate=10.0).update(moved, Face(Box(100, 100, 80), True, 0))
    assert np.array_equal(after, fresh)


def test_brightness_and_contrast_are_measured_and_taken_out_of_the_rest():
    face = Face(Box(160, 120, 100), True, 0)
    bright = Appearance(10.0).update(still(0), face)
    dark = Appearance(10.0).update((still(0) * 0.5 + 10).round().astype(np.uint8), face)
    brightness, contrast = (COLUMNS.index(name) for name in ("face_brightness", "face_contrast"))
    assert dark[brightness] == pytest.approx(bright[brightness] * 0.5 + 10 / 255, abs=0.005)
    assert dark[contrast] == pytest.approx(bright[contrast] * 0.5, rel=0.02)
    assert np.abs(dark - bright)[contrast + 1 :].max() < 0.02


def test_a_speaking_mouth_moves_and_the_eyes_do_not():
    sequence = FaceAppearanceExtractor().extract(DrawnMedia(talking, 3.0))
    assert sequence.values.shape == (30, 58) and sequence.values.dtype == np.float32
    assert column(sequence, "motion_mouth")[1:].mean() > 3 * column(sequence, "motion_left_eye")[1:].mean()
    mouth = sequence.values[:, COLUMNS.index("mouth_dct_0_0") :]
    opening = [0.5 + 0.5 * math.sin(4 * math.pi * index / 10) for index in range(30)]
    assert max(abs(np.corrcoef(values, opening)[0, 1]) for values in mouth.T) > 0.9


def test_coefficients_of_the_mouth_see_the_mouth_and_those_of_the_eyes_do_not():
    face = Face(Box(160, 120, 120), True, 0)
    closed, opened = (Appearance(10.0).update(talking(time), face) for time in (0.375, 0.125))
    change = dict(zip(COLUMNS, np.abs(opened - closed), strict=True))
    eyes, mouth = (
        max(change[name] for name in COLUMNS if name.startswith(f"{region}_dct")) for region in ("eyes", "mouth")
    )
    assert mouth > 0.2 and eyes < 0.3 * mouth


def test_steps_have_their_times_and_those_without_a_face_are_left_out():
    sequence = FaceAppearanceExtractor().extract(DrawnMedia(lambda time: blank() if time > 1.95 else still(time), 4.0))
    assert sequence.step_seconds == pytest.approx(0.1)
    assert np.allclose(sequence.times, np.arange(25) / 10 + 0.05)  # half a second longer than it is seen
    assert sequence.notes == ["No face was found in 15 of 40 pictures."]
    assert list(column(sequence, "face_detected")) == [1] * 20 + [0] * 5


def test_a_part_of_a_clip_is_described_as_that_part_alone():
    extractor = FaceAppearanceExtractor(rate=5.0)
    part = extractor.extract(DrawnMedia(talking, 4.0), start=1.0, stop=2.5)
    alone = extractor.extract(DrawnMedia(lambda time: talking(time + 1.0), 1.5))
    assert np.allclose(part.values, alone.values, atol=1e-5)
    assert np.allclose(part.times, alone.times + 1.0) and part.times[0] == pytest.approx(1.1)


def test_the_same_clip_gives_the_same_features():
    media = DrawnMedia(talking, 1.0)
    extractor = FaceAppearanceExtractor()
    assert np.array_equal(extractor.extract(media).values, extractor.extract(media).values)


def test_one_extractor_serves_several_threads():
    extractor = FaceAppearanceExtractor()
    media = [DrawnMedia(lambda time, shift=shift: talking(time + shift), 1.0) for shift in (0.0, 0.1, 0.2, 0.3)]
    alone = [extractor.extract(clip).values for clip in media]
    with ThreadPoolExecutor(4) as threads:
        together = [sequence.values for sequence in threads.map(extractor.extract, media)]
    assert all(np.array_equal(*pair) for pair in zip(alone, together, strict=True))


@pytest.mark.parametrize(
    "image, found",
    [
        (blank(1, 1), 0),
        (blank(320, 2), 0),
        (blank(color=(0, 0, 0)), 0),
        (draw_face(blank(90, 160), 45, 80, 70), 10),
        (draw_face(blank(640, 100), 600, 50, 70), 10),
    ],
    ids=["pixel", "line", "black", "portrait", "wide"],
)
def test_odd_pictures_give_finite_features_or_none(image, found):
    sequence = FaceAppearanceExtractor().extract(DrawnMedia(lambda time: image, 1.0))
    assert sequence.values.shape == (found, 58) and len(sequence.times) == found
    assert np.isfinite(sequence.values).all()
    assert sequence.notes == ([] if found else ["No face was found in any of 10 pictures."])


def test_a_face_of_hardly_a_pixel_and_one_beyond_the_picture_are_finite():
    for box in (Box(0.5, 0.5, 0.1), Box(-500, 900, 700), Box(160, 120, 640)):
        values = Appearance(10.0).update(still(0), Face(box, True, 0))
        assert np.isfinite(values).all()


def test_no_video_and_no_picture_are_said():
    extractor = FaceAppearanceExtractor()
    sequence = extractor.extract(DrawnMedia(still, 1.0, has_video=False))
    assert sequence.values.shape == (0, 58) and sequence.notes == ["There is no video, so no face."]
    sequence = extractor.extract(DrawnMedia(still, 1.0), start=2.0)
    assert len(sequence) == 0 and "No picture" in sequence.notes[0]


def test_files_are_read_gray_portrait_and_tiny(tmp_path):
    pytest.importorskip("av")
    from processing.media_reading import open_media

    portrait = [draw_face(blank(120, 200), 60, 100, 80, mouth=index % 2) for index in range(10)]
    gray = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in portrait]
    extractor = FaceAppearanceExtractor()
    found = {
        name: extractor.extract(open_media(write_clip(tmp_path / f"{name}.mkv", images)))
        for name, images in {"portrait": portrait, "gray": gray, "pixel": [blank(1, 1)] * 3}.items()
    }
    assert [len(found[name]) for name in ("portrait", "gray", "pixel")] == [10, 10, 0]
    assert np.allclose(found["gray"].values, found["portrait"].values, atol=0.1)
    direct = extractor.extract(DrawnMedia(lambda time: portrait[round(time * 10)], 1.0))
    assert np.allclose(found["portrait"].values, direct.values, atol=0.02)


@pytest.mark.parametrize("rate", [0, -1.0, 61, float("nan"), "ten", True, None])
def test_a_rate_that_cannot_be_is_refused(rate):
    with pytest.raises(ValueError, match="`rate` of the extractor 'face_appearance'"):
        FaceAppearanceExtractor(rate=rate)


def test_settings_make_the_same_extractor():
    settings = json.loads(json.dumps(FaceAppearanceExtractor(rate=5.0).settings()))
    again = build_extractor(settings, VISION_EXTRACTORS)
    assert again.settings() == settings and settings["versions"]["opencv"] == cv2.__version__
    assert "`rate`" in difference(settings, FaceAppearanceExtractor().settings())
    assert list(VISION_EXTRACTORS) == ["face_appearance", "mediapipe_face", "image_encoder"]


@pytest.mark.skipif(not REAL_MEDIA.is_dir(), reason="needs ../shared/data/media")
def test_the_mouth_of_real_speakers_moves_with_their_voice_and_their_eyes_do_not():
    pytest.importorskip("av")
    from processing.media_reading import open_media

    rate, correlations = 20.0, {"motion_mouth": [], "motion_left_eye": []}
    for path in sorted(REAL_MEDIA.glob("grid/*.mpg"))[:3]:
        media = open_media(path)
        sequence = FaceAppearanceExtractor(rate=rate).extract(media)
        sound = np.concatenate(list(media.audio_blocks(16000)))
        spans = [sound[int(16000 * max(0, time - 0.06)) :][:1280] for time in sequence.times]
        loudness = [math.log(1e-3 + math.sqrt(float(np.mean(span**2)))) for span in spans]
        for name, found in correlations.items():
            found.append(np.corrcoef(column(sequence, name)[1:], loudness[1:])[0, 1])
    assert np.mean(correlations["motion_mouth"]) > 0.25
    assert np.mean(correlations["motion_mouth"]) > np.mean(correlations["motion_left_eye"]) + 0.15


# MediaPipe


def rotation(pitch, yaw, roll):
    sin, cos = np.sin, np.cos
    x = np.array([[1, 0, 0], [0, cos(pitch), -sin(pitch)], [0, sin(pitch), cos(pitch)]])
    y = np.array([[cos(yaw), 0, sin(yaw)], [0, 1, 0], [-sin(yaw), 0, cos(yaw)]])
    z = np.array([[cos(roll), -sin(roll), 0], [sin(roll), cos(roll), 0], [0, 0, 1]])
    return z @ y @ x


def landmarked(*faces):
    """A stand-in for MediaPipe's result, of faces (width, height, scores by name, matrix)."""
    return SimpleNamespace(
        face_landmarks=[[SimpleNamespace(x=0.1, y=0.1), SimpleNamespace(x=0.1 + w, y=0.1 + h)] for w, h, _, _ in faces],
        face_blendshapes=[
            [SimpleNamespace(category_name=name, score=score) for name, score in scores.items()]
            for _, _, scores, _ in faces
        ],
        facial_transformation_matrixes=[matrix for *_, matrix in faces],
    )


def test_the_pose_is_the_one_that_made_the_matrix():
    angles = (0.3, -0.7, 1.1)
    matrix = np.eye(4)
    matrix[:3, :3] = 1.7 * rotation(*angles)
    matrix[:3, 3] = (2.0, -3.0, -45.0)
    assert head_pose(matrix) == pytest.approx((*angles, 2.0, -3.0, -45.0))
    assert head_pose(np.eye(4)) == (0, 0, 0, 0, 0, 0)


def test_blendshapes_are_taken_by_name_from_the_largest_face():
    scores = {name: index / 100 for index, name in enumerate(BLENDSHAPES)}
    small, large = dict.fromkeys(BLENDSHAPES, 0.9), dict(reversed(scores.items()))
    found = landmarked((0.2, 0.2, small, np.eye(4)), (0.3, 0.4, large, np.eye(4)))
    assert largest_face(found, 1.5) == 1 and rectangle(found.face_landmarks[1]) == pytest.approx((0.1, 0.1, 0.3, 0.4))
    features = face_features(found, 1)
    assert features[:52] == pytest.approx(list(scores.values())) and len(features) == 58
    assert largest_face(landmarked(), 1.5) is None
    del large["jawOpen"]
    with pytest.raises(ValueError, match="does not give jawOpen"):
        face_features(landmarked((0.3, 0.4, large, np.eye(4))), 0)


class StandInLandmarker:
    """Gives one face in pictures that are not black, two in white ones, with `jawOpen` by brightness."""

    def __init__(self):
        self.times = []

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def detect_for_video(self, image, milliseconds):
        self.times.append(milliseconds)
        brightness = float(image.numpy_view().mean()) / 255
        face = (0.3, 0.3, {**dict.fromkeys(BLENDSHAPES, 0.0), "jawOpen": brightness}, np.eye(4))
        return landmarked(*[face] * (0 if brightness == 0 else 2 if brightness == 1 else 1))


def test_mediapipe_sees_pictures_in_order_and_faceless_ones_are_left_out(monkeypatch):
    pytest.importorskip("mediapipe")
    landmarker = StandInLandmarker()
    extractor = MediaPipeFaceExtractor("face_landmarker.task", rate=4.0)
    monkeypatch.setattr(extractor, "_landmarker", lambda: landmarker)
    levels = [0, 51, 102, 255, 0, 204, 51, 51]
    sequence = extractor.extract(DrawnMedia(lambda time: blank(color=[levels[int(time * 4)]] * 3), 2.0))
    assert landmarker.times == [0, 250, 500, 750, 1000, 1250, 1500, 1750]
    assert sequence.values[:, extractor.columns.index("jawOpen")] == pytest.approx([0.2, 0.4, 1.0, 0.8, 0.2, 0.2])
    assert sequence.times == pytest.approx([0.375, 0.625, 0.875, 1.375, 1.625, 1.875])
    assert sequence.notes[0] == "No face was found in 2 of 8 pictures." and "up to 2 faces" in sequence.notes[1]


def test_names_of_blendshapes_are_mediapipes():
    landmarker = pytest.importorskip("mediapipe.tasks.python.vision.face_landmarker")
    names = [shape.name.replace("_", "").lower() for shape in landmarker.Blendshapes]
    assert names == [name.strip("_").lower() for name in BLENDSHAPES]


def test_a_model_of_mediapipe_that_is_none_is_refused(tmp_path):
    pytest.importorskip("mediapipe")
    bad = tmp_path / "face_landmarker.task"
    bad.write_bytes(b"no model")
    extractor = MediaPipeFaceExtractor(str(bad))
    with pytest.raises(ValueError, match="`model` must be a face_landmarker.task"):
        extractor.extract(DrawnMedia(still, 1.0))
    with pytest.raises(FileNotFoundError, match="'owner/repository/file'"):
        MediaPipeFaceExtractor(str(tmp_path.name)).settings()


def test_a_model_of_mediapipe_comes_from_the_hub(tmp_path):
    pytest.importorskip("mediapipe")
    from huggingface_hub import HfApi

    with LocalHub() as hub, hub.online():
        HfApi().create_repo("org/faces")
        HfApi().upload_file(path_or_fileobj=b"model", path_in_repo="v2/face.task", repo_id="org/faces")
        extractor = MediaPipeFaceExtractor("org/faces/v2/face.task")
        settings = extractor.settings()
        with pytest.raises(ValueError, match="there is no file 'org/faces/v1/face.task'"):
            MediaPipeFaceExtractor("org/faces/v1/face.task").settings()
    assert settings["versions"]["model"].startswith(
        "sha256:9372c470eeadd5ecd9c3c74c2b3cb633f8e2f2fad799250a0f70d652b6b825e4"
    )


@pytest.mark.skipif("SENTIMODAL_FACE_LANDMARKER" not in os.environ, reason="needs MediaPipe's face_landmarker.task")
@pytest.mark.skipif(not REAL_MEDIA.is_dir(), reason="needs ../shared/data/media")
def test_mediapipe_describes_real_faces():
    from processing.media_reading import open_media

    extractor = MediaPipeFaceExtractor(os.environ["SENTIMODAL_FACE_LANDMARKER"])
    for path in sorted(REAL_MEDIA.glob("*/*.mp*")):
        sequence = extractor.extract(open_media(path))
        assert len(sequence) > 0.9 * 10 * open_media(path).info.seconds
        assert np.isfinite(sequence.values).all() and (sequence.values[:, :52] >= 0).all()
        pose = sequence.values[:, 52:]
        assert np.abs(pose[:, :3]).max() < 1.2 and (pose[:, 5] < 0).all()  # upright, before the camera


# Image encoders

TINY = dict(
    hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, image_size=32, patch_size=8
)
TINY_TEXT = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, vocab_size=50)
PREPROCESSING = {
    "image_processor_type": "ViTImageProcessor",
    "size": {"height": 32, "width": 32},
    "image_mean": [0.5, 0.4, 0.3],
    "image_std": [0.5, 0.25, 0.5],
}


@pytest.fixture(scope="module")
def encoders(tmp_path_factory):
    """Folders of tiny encoders with random weights, by kind."""
    torch.manual_seed(0)
    clip = CLIPConfig(text_config={**TINY_TEXT, "bos_token_id": 1, "eos_token_id": 2}, vision_config=TINY)
    models = {
        "vit": ViTModel(ViTConfig(**TINY)),
        "classifier": ViTClassifier(ViTConfig(**TINY)),
        "clip": CLIPModel(clip),
        "resnet": ResNetModel(ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")),
    }
    folder = tmp_path_factory.mktemp("encoders")
    for name, model in models.items():
        model.save_pretrained(folder / name)
        (folder / name / "preprocessor_config.json").write_text(json.dumps(PREPROCESSING))
    return folder


def prepared(crop):
    """What the image processor must make of a crop (32, 32, 3) by `PREPROCESSING`."""
    scaled = (crop / 255 - PREPROCESSING["image_mean"]) / PREPROCESSING["image_std"]
    return torch.tensor(scaled, dtype=torch.float32).permute(2, 0, 1)[None]


def expected_output(folder, media, rate):
    """The encoder's output for each picture, computed one by one."""
    model = AutoModel.from_pretrained(folder).eval()
    model = getattr(model, "vision_model", model)
    outputs = []
    for picture in track_face(media, rate):
        crop = square_crop(picture.image, picture.face.box, 32, CROP_MARGIN)
        with torch.no_grad():
            outputs.append(model(pixel_values=prepared(crop)))
    return outputs


@pytest.mark.parametrize(
    "name, pooling", [("vit", "pooled"), ("clip", "pooled"), ("resnet", "pooled"), ("classifier", "mean")]
)
def test_an_encoder_sees_the_crops_and_its_checkpoint_decides_the_pooling(encoders, name, pooling):
    media = DrawnMedia(lambda time: draw_face(blank(), 160 + 20 * time, 120, 90), 1.4)
    extractor = ImageEncoderExtractor(str(encoders / name), rate=5.0, batch_size=3)
    sequence = extractor.extract(media)
    outputs = expected_output(encoders / name, media, 5.0)
    if pooling == "pooled":
        expected = [output.pooler_output.flatten().numpy() for output in outputs]
    else:
        expected = [output.last_hidden_state[0].mean(0).numpy() for output in outputs]
    assert extractor.pooling == pooling and extractor.feature_size == 16
    assert sequence.values.shape == (7, 16) and np.allclose(sequence.values, expected, atol=1e-4)
    assert sequence.times == pytest.approx(np.arange(7) / 5 + 0.1)
    assert not np.allclose(sequence.values[0], sequence.values[-1], atol=1e-4)


def test_other_poolings_can_be_asked_for(encoders):
    media = DrawnMedia(still, 0.4)
    (output, _) = expected_output(encoders / "vit", media, 5.0)
    for pooling, expected in {
        "first": output.last_hidden_state[0, 0],
        "mean": output.last_hidden_state[0].mean(0),
    }.items():
        sequence = ImageEncoderExtractor(str(encoders / "vit"), rate=5.0, pooling=pooling).extract(media)
        assert np.allclose(sequence.values[0], expected, atol=1e-4)


def test_pictures_without_a_face_are_not_encoded(encoders):
    extractor = ImageEncoderExtractor(str(encoders / "vit"), rate=10.0, batch_size=4)
    sequence = extractor.extract(DrawnMedia(lambda time: still(time) if time < 0.95 else blank(), 3.0))
    assert np.allclose(sequence.times, np.arange(15) / 10 + 0.05)
    assert sequence.notes == ["No face was found in 15 of 30 pictures."]


def test_settings_of_an_encoder_name_its_model_and_make_it_again(encoders, tmp_path):
    extractor = ImageEncoderExtractor(str(encoders / "clip"), batch_size=2)
    settings = json.loads(json.dumps(extractor.settings()))
    assert settings["model"] == str(encoders / "clip") and settings["pooling"] == "pooled"
    assert settings["versions"]["model"].startswith("sha256:") and settings["versions"]["transformers"]
    again = build_extractor(settings, VISION_EXTRACTORS)
    assert again.settings() == settings and again.batch_size == 16
    assert difference(settings, ImageEncoderExtractor(str(encoders / "vit")).settings())
    changed = tmp_path / "clip"
    shutil.copytree(encoders / "clip", changed)
    model = AutoModel.from_pretrained(changed)
    model.logit_scale.data += 1
    model.save_pretrained(changed)
    assert ImageEncoderExtractor(str(changed)).versions()["model"] != settings["versions"]["model"]


def test_an_encoder_of_the_hub_is_named_by_its_commit(encoders):
    from huggingface_hub import HfApi

    with LocalHub() as hub, hub.online():
        HfApi().create_repo("org/vit")
        commit = HfApi().upload_folder(repo_id="org/vit", folder_path=encoders / "vit").oid
        assert ImageEncoderExtractor("org/vit").versions()["model"] == commit


def test_what_is_no_encoder_is_refused(encoders, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ValueError, match="`model` must be an image encoder"):
        ImageEncoderExtractor(str(tmp_path))
    with pytest.raises(ValueError, match="`model` must be an image encoder"):
        ImageEncoderExtractor(str(tmp_path / "nothing"))
    vit = str(encoders / "vit")
    with pytest.raises(ValueError, match="`pooling` must be one of"):
        ImageEncoderExtractor(vit, pooling="max")
    with pytest.raises(ValueError, match="`batch_size` must be a whole number"):
        ImageEncoderExtractor(vit, batch_size=0)
    with pytest.raises(ValueError, match=r"cannot be 'pooled'.*pooler.dense.weight"):
        ImageEncoderExtractor(str(encoders / "classifier"), pooling="pooled")


def test_a_checkpoint_that_lacks_weights_is_refused(encoders, tmp_path):
    config = ViTConfig(**{**TINY, "num_hidden_layers": 3})
    folder = tmp_path / "short"
    folder.mkdir()
    for file in (encoders / "vit").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    config.save_pretrained(folder)
    with pytest.raises(ValueError, match="lacks weights of its own model"):
        ImageEncoderExtractor(str(folder))
