"""Faces: found at any size, one of them followed through motion, losses, cuts and company; nothing found in noise."""

from pathlib import Path

import numpy as np
import pytest

cv2 = pytest.importorskip("cv2")

from processing.face_crops import square_crop  # noqa: E402
from processing.face_tracking import (  # noqa: E402
    LONGEST_SIDE,
    Box,
    FaceDetector,
    FaceTracker,
    smooth,
    track_face,
    tracking_notes,
)
from processing.feature_extraction_vision_appearance import FaceAppearanceExtractor  # noqa: E402
from tests.drawn_faces import DrawnMedia, blank, draw_face  # noqa: E402

REAL_MEDIA = Path(__file__).resolve().parents[3] / "shared" / "data" / "media"
REAL_CLIPS = [*sorted(REAL_MEDIA.glob("grid/*.mpg"))[::4], *REAL_MEDIA.glob("mosi/*.mp4")]


def followed(draw, seconds, rate=10.0):
    """The followed face in each picture of a drawn clip, and the tracker."""
    tracker = FaceTracker()
    media = DrawnMedia(draw, seconds)
    return [picture.face for picture in track_face(media, rate, tracker=tracker)], tracker


def is_at(face, x, y, side, tolerance=0.15):
    box = face.box
    return max(abs(box.x - x), abs(box.y - y), abs(box.side - side)) <= tolerance * side


@pytest.mark.parametrize(
    "one, other", [((10, 10, 8), (12, 15, 6)), ((10, 10, 8), (10, 10, 4)), ((10, 10, 4), (20, 10, 8)), ((5, 5, 6),) * 2]
)
def test_overlap_is_what_counting_pixels_gives(one, other):
    def mask(x, y, side):
        pixels = np.zeros((40, 40), bool)
        pixels[y - side // 2 : y + side // 2, x - side // 2 : x + side // 2] = True
        return pixels

    one_mask, other_mask = mask(*one), mask(*other)
    expected = (one_mask & other_mask).sum() / (one_mask | other_mask).sum()
    assert Box(*one).overlap(Box(*other)) == pytest.approx(expected)


@pytest.mark.parametrize("side", [32, 60, 120, 200])
def test_detector_finds_a_face_of_any_size_and_gives_its_place(side):
    gray = cv2.cvtColor(draw_face(blank(), 150, 120, side), cv2.COLOR_RGB2GRAY)
    detector = FaceDetector()
    for found in (detector.everywhere(gray), detector.near(gray, Box(150 + side / 8, 120, side * 0.9))):
        assert len(found) == 1
        assert abs(found[0].x - 150) < 0.1 * side
        assert abs(found[0].y - 120) < 0.1 * side
        assert abs(found[0].side / side - 1) < 0.15


def test_detector_gives_the_largest_face_first():
    image = draw_face(draw_face(blank(640, 480), 120, 240, 100), 420, 240, 200)
    found = FaceDetector().everywhere(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))
    assert [round(box.side, -2) for box in found] == [200, 100]


def test_a_missing_cascade_is_explained(monkeypatch, tmp_path):
    monkeypatch.setattr(cv2.data, "haarcascades", str(tmp_path))
    with pytest.raises(ImportError, match=r"opencv-python-headless>=4\.12,<5"):
        FaceDetector()
    monkeypatch.delattr(cv2, "data")
    with pytest.raises(ImportError, match=r"OpenCV 5 left the cascades out"):
        FaceDetector()


def test_a_moving_growing_face_is_one_track():
    def place(time):
        return 80 + 60 * time, 120 + 10 * time, 70 + 15 * time

    faces, tracker = followed(lambda time: draw_face(blank(), *place(time)), 3.0)
    assert tracker.tracks == 1 and tracking_notes(tracker) == []
    assert all(face.detected for face in faces)
    assert all(is_at(face, *place(index / 10)) for index, face in enumerate(faces))


def test_the_largest_face_is_followed_though_another_is_there():
    faces, tracker = followed(lambda time: draw_face(draw_face(blank(), 80, 120, 60), 220 + 8 * time, 120, 110), 2.0)
    assert all(is_at(face, 220 + 0.8 * index, 120, 110) for index, face in enumerate(faces))
    assert "up to 2 faces" in tracking_notes(tracker)[0]


def test_another_face_takes_over_only_when_clearly_larger_and_for_a_while():
    def clip(other_side, appears, leaves):
        alone = draw_face(blank(640, 240), 120, 120, 80)
        both = draw_face(alone.copy(), 450, 120, other_side)
        return followed(lambda time: both if appears <= time < leaves else alone, 3.0)

    faces, tracker = clip(other_side=90, appears=0.5, leaves=9.0)
    assert tracker.tracks == 1 and all(is_at(face, 120, 120, 80) for face in faces)

    faces, tracker = clip(other_side=160, appears=0.95, leaves=1.95)  # seen by one search of the whole picture
    assert tracker.tracks == 1 and all(is_at(face, 120, 120, 80) for face in faces)

    faces, tracker = clip(other_side=160, appears=0.5, leaves=9.0)
    assert tracker.tracks == 2 and is_at(faces[0], 120, 120, 80) and is_at(faces[-1], 450, 120, 160)
    changed = [face.track for face in faces].index(1)
    assert 0.5 < changed / 10 <= 2.1
    assert "2 tracks" in tracking_notes(tracker)[1]


def hidden(begin, end):
    return lambda time: blank() if begin - 1e-9 <= time < end - 1e-9 else draw_face(blank(), 160, 120, 100)


def test_a_face_stays_where_it_was_while_it_is_lost_for_a_moment():
    faces, tracker = followed(hidden(1.0, 1.4), 2.0)
    assert [face.detected for face in faces] == [True] * 10 + [False] * 4 + [True] * 6
    assert tracker.tracks == 1 and all(face.box == faces[9].box for face in faces[10:14])


@pytest.mark.parametrize("start", [0.0, 0.1, 0.2, 7.3])
def test_a_face_is_lost_after_half_a_second_and_returns_as_a_new_track(start):
    tracker = FaceTracker()
    media = DrawnMedia(hidden(start + 1.0, start + 2.0), start + 3.0)
    faces = [picture.face for picture in track_face(media, 10.0, start, tracker=tracker)]
    assert [face is None for face in faces] == [False] * 15 + [True] * 5 + [False] * 10
    assert [face.detected for face in faces[9:15]] == [True] + [False] * 5
    assert faces[14].track == 0 and faces[20].track == 1
    assert is_at(faces[20], 160, 120, 100)


def test_a_cut_begins_a_new_track_in_the_same_picture():
    def draw(time):
        dark, light = blank(color=(30, 30, 30)), blank(color=(160, 170, 170))
        return draw_face(dark, 100, 130, 110) if time < 1 else draw_face(light, 220, 100, 90)

    faces, tracker = followed(draw, 2.0)
    assert [face.track for face in faces] == [0] * 10 + [1] * 10
    assert is_at(faces[9], 100, 130, 110) and is_at(faces[10], 220, 100, 90) and faces[10].detected


def test_a_small_face_is_found_by_a_closer_look():
    faces, _ = followed(lambda time: draw_face(blank(640, 360), 400, 200, 27), 1.0)
    assert all(face is not None and is_at(face, 400, 200, 27, 0.25) for face in faces)


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    "image",
    [blank(1, 1), blank(640, 1), blank(1, 640), blank(2, 3), blank(color=(0, 0, 0)), blank(color=(255, 255, 255))],
    ids=["pixel", "row", "column", "tiny", "black", "white"],
)
def test_pictures_without_anything_have_no_face(image):
    faces, tracker = followed(lambda time: image, 1.0)
    assert faces == [None] * 10 and tracker.tracks == 0


def test_noise_is_survived():
    faces, _ = followed(lambda time: noise(90, 120, seed=int(time * 10)), 1.0)
    assert len(faces) == 10


def test_a_face_that_leaves_over_the_border_is_kept_then_lost():
    faces, _ = followed(lambda time: draw_face(blank(), 250 + 60 * time, 120, 100), 4.0)
    assert faces[0].detected and faces[-1] is None
    crops = [square_crop(blank(), face.box, 32, 1.5) for face in faces if face]
    assert all(crop.shape == (32, 32, 3) for crop in crops)


def test_smoothing_does_not_depend_on_the_number_of_steps():
    old, new = Box(0, 0, 10), Box(8, -4, 20)
    twice, once = smooth(smooth(old, new, 0.1), new, 0.1), smooth(old, new, 0.2)
    assert (twice.x, twice.y, twice.side) == pytest.approx((once.x, once.y, once.side))
    assert smooth(old, new, 100.0) == new


def test_the_same_pictures_give_the_same_boxes_whatever_the_threads():
    def boxes(threads):
        cv2.setNumThreads(threads)
        clip = lambda time: draw_face(draw_face(blank(), 80 + 20 * time, 120, 60), 220, 120, 110)  # noqa: E731
        return followed(clip, 2.0)[0]

    before = cv2.getNumThreads()
    try:
        assert boxes(1) == boxes(4) == boxes(4)
    finally:
        cv2.setNumThreads(before)


def test_boxes_to_draw_are_shares_of_the_picture():
    media = DrawnMedia(lambda time: draw_face(blank(320, 160), 80, 100, 80), 1.0)
    for picture in track_face(media, rate=5.0):
        left, top, width, height = picture.place
        assert (left, top) == pytest.approx((40 / 320, 60 / 160), abs=0.06)
        assert (width, height) == pytest.approx((80 / 320, 80 / 160), rel=0.15)


def test_boxes_are_with_the_features():
    media = DrawnMedia(lambda time: draw_face(blank(320, 160), 80, 100, 80), 1.0)
    found = FaceAppearanceExtractor(rate=5.0).extract(media)
    expected = [picture.place for picture in track_face(media, rate=5.0)]
    assert found.boxes.shape == (5, 4) and found.boxes.tolist() == [list(place) for place in expected]


@pytest.mark.skipif(not REAL_CLIPS, reason="needs ../shared/data/media")
def test_real_faces_are_followed():
    pytest.importorskip("av")
    from processing.media_reading import open_media

    for path in REAL_CLIPS:
        tracker = FaceTracker()
        pictures = list(track_face(open_media(path), 5.0, tracker=tracker))
        assert max(max(picture.image.shape) for picture in pictures) <= LONGEST_SIDE
        found = sum(picture.face is not None and picture.face.detected for picture in pictures)
        assert found >= 0.95 * len(pictures), path.name
        assert tracker.tracks == 1, path.name
