"""
The face that a clip is about: found by OpenCV's Haar cascade, then followed from picture to picture.

The rules, all of them online (a picture depends on those before it alone):

1. The largest face of the first picture that has one is followed. While there is none, pictures are searched at
   `SEARCH_SIDE` pixels, and each `SURVEY_SECONDS` also at `LONGEST_SIDE`, for a small face.
2. In the next picture, the face is looked for around where it was. It is the face that overlaps the old box most, by
   `MIN_OVERLAP` of their union at least. If there is none, the whole picture is searched by the same rule.
3. A face that is not found stays where it was for `HOLD_SECONDS` (`Face.detected` is false), then is lost. After that,
   the largest face of a picture begins a new track, be it the old face or another one.
4. Each `SURVEY_SECONDS` the whole picture is searched. Another face takes over where it was wider than the followed one
   by `LARGER` in two such searches in a row.
5. A cut of scene (see `CUT_DIFFERENCE`) ends the track at once: the next one begins in the same picture.

Boxes are squares. Within a track they are smoothed over time. Faces are found upright and more or less frontal.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from processing.optional_dependency import require

CASCADE = "haarcascade_frontalface_alt2.xml"
PACKAGE = "'opencv-python-headless>=4.12,<5'"
# Pictures are read no larger than this. Sizes below are sides in pixels.
LONGEST_SIDE = 640
SEARCH_SIDE = 320
SMALLEST_FACE = 20
# Around the old box, the picture is scaled so that the face has this side, whatever its size.
NEAR_FACE = 56
NEAR_WINDOW = 2.0
NEAR_SCALES = (0.7, 1.45)

# How many windows of the cascade must agree on a face: real ones have 15 and more, small ones half of that, textures
# rarely more than 4. Where a face was just before, less is enough.
SURE = 5
LIKELY = 3

MIN_OVERLAP = 0.25
HOLD_SECONDS = 0.5
SURVEY_SECONDS = 1.0
# Times are sums of steps: what is meant to be equal differs by their rounding.
ROUNDING_SECONDS = 1e-6
LARGER = 1.5
# Mean absolute difference of two successive pictures at 16 x 16 pixels, in grey levels of 255.
CUT_DIFFERENCE = 30.0
CUT_SIDE = 16
# Time constants of the exponential smoothing of boxes. The size is steadier than the position.
POSITION_SECONDS = 0.1
SIZE_SECONDS = 0.3


@dataclass(frozen=True)
class Box:
    """A square in a picture, in pixels: its centre and its side."""

    x: float
    y: float
    side: float

    def overlap(self, other: Box) -> float:
        """Intersection over union, 0 to 1."""
        half = (self.side + other.side) / 2
        width = min(half - abs(self.x - other.x), self.side, other.side)
        height = min(half - abs(self.y - other.y), self.side, other.side)
        if width <= 0 or height <= 0:
            return 0.0
        return width * height / (self.side**2 + other.side**2 - width * height)


@dataclass(frozen=True)
class Face:
    """
    The followed face in a picture.

    Args:
        box (`Box`): Where it is, smoothed over time.
        detected (`bool`): Whether it was found in this picture; false where it stays from one before.
        track (`int`): Number of the track, from 0. Another number is another face, or the same one after a loss or cut.
    """

    box: Box
    detected: bool
    track: int


# Left, top, width and height of a face, as shares of the picture's width and height.
Place = tuple[float, float, float, float]


@dataclass(frozen=True)
class TrackedPicture:
    """A picture of a clip: its time in seconds, uint8 (height, width, 3) RGB, and the followed face, or None."""

    time: float
    image: np.ndarray
    face: Face | None

    @property
    def place(self) -> Place | None:
        """Where the face is; at the border of the picture it may reach beyond 0 and 1."""
        if self.face is None:
            return None
        height, width = self.image.shape[:2]
        box = self.face.box
        left, top = box.x - box.side / 2, box.y - box.side / 2
        return left / width, top / height, box.side / width, box.side / height


def opencv() -> Any:
    """The module `cv2`, or an ImportError that says how to get it."""
    return require("cv2", "Finding faces", PACKAGE)


class FaceDetector:
    """OpenCV's frontal face cascade on gray pictures (height, width), uint8. Not for several threads at once."""

    def __init__(self):
        self.cv2 = opencv()
        folder = getattr(getattr(self.cv2, "data", None), "haarcascades", None)
        path = Path(folder or "", CASCADE)
        if folder is None or not path.is_file():
            raise ImportError(
                f"Finding faces needs {CASCADE}, which OpenCV {self.cv2.__version__} does not have (OpenCV 5 left the "
                f"cascades out); install a version that has it with `pip install {PACKAGE}`."
            )
        self.cascade = self.cv2.CascadeClassifier(str(path))

    def everywhere(self, gray: np.ndarray, longest_side: int = SEARCH_SIDE) -> list[Box]:
        """The faces of a picture, the largest first; it is searched at `longest_side` if it is larger."""
        scale = min(1.0, longest_side / max(gray.shape))
        found = self._detect(self._resize(gray, scale), neighbours=SURE, smallest=SMALLEST_FACE)
        return [Box(box.x / scale, box.y / scale, box.side / scale) for box in found]

    def near(self, gray: np.ndarray, box: Box) -> list[Box]:
        """The faces around a box and of about its size, the largest first."""
        half = box.side * NEAR_WINDOW / 2
        left, top = (max(0, math.floor(centre - half)) for centre in (box.x, box.y))
        window = gray[top : math.ceil(max(0.0, box.y + half)), left : math.ceil(max(0.0, box.x + half))]
        if not window.size:
            return []
        scale = NEAR_FACE / box.side
        smallest, largest = (round(NEAR_FACE * factor) for factor in NEAR_SCALES)
        found = self._detect(self._resize(window, scale), neighbours=LIKELY, smallest=smallest, largest=largest)
        return [Box(box.x / scale + left, box.y / scale + top, box.side / scale) for box in found]

    def _resize(self, gray: np.ndarray, scale: float) -> np.ndarray:
        height, width = (max(1, round(side * scale)) for side in gray.shape)
        way = self.cv2.INTER_AREA if scale < 1 else self.cv2.INTER_LINEAR
        return self.cv2.resize(gray, (width, height), interpolation=way)

    def _detect(self, gray: np.ndarray, neighbours: int, smallest: int, largest: int = 0) -> list[Box]:
        found = self.cascade.detectMultiScale(
            self.cv2.equalizeHist(gray),
            scaleFactor=1.1,
            minNeighbors=neighbours,
            minSize=(smallest, smallest),
            maxSize=(largest, largest),
        )
        boxes = [Box(left + side / 2, top + side / 2, float(side)) for left, top, side, _ in np.asarray(found).tolist()]
        # The cascade works in threads and gives its boxes in any order.
        return sorted(boxes, key=lambda box: (-box.side, box.y, box.x))


class FaceTracker:
    """Follows one face through the pictures of a clip by the rules above; one tracker per clip."""

    def __init__(self):
        self.detector = FaceDetector()
        self.cv2 = self.detector.cv2
        self.tracks = 0
        self.most_faces = 0
        self._face: Face | None = None
        self._time = -math.inf
        self._seen = -math.inf
        self._surveyed = -math.inf
        self._looked_closely = -math.inf
        self._rival: Box | None = None
        self._thumbnail: np.ndarray | None = None

    def update(self, time: float, image: np.ndarray) -> Face | None:
        """
        The followed face in the next picture.

        Args:
            time (`float`): Seconds, more than of the picture before.
            image (`np.ndarray`): uint8 (height, width, 3) RGB.
        """
        gray = self.cv2.cvtColor(image, self.cv2.COLOR_RGB2GRAY)
        if self._is_cut(gray):
            self._face = self._rival = None
        self._face = self._follow(time, gray) if self._face else self._begin(time, gray)
        self._time = time
        return self._face

    def _is_cut(self, gray: np.ndarray) -> bool:
        small = self.cv2.resize(gray, (CUT_SIDE, CUT_SIDE), interpolation=self.cv2.INTER_AREA).astype(np.float64)
        before, self._thumbnail = self._thumbnail, small
        return before is not None and float(np.abs(small - before).mean()) > CUT_DIFFERENCE

    def _begin(self, time: float, gray: np.ndarray) -> Face | None:
        boxes = self._survey(time, gray)
        if not boxes and time - self._looked_closely >= SURVEY_SECONDS - ROUNDING_SECONDS:
            # A small face is worth a slow search, but not in each picture of a clip without faces.
            self._looked_closely = time
            boxes = self.detector.everywhere(gray, LONGEST_SIDE)
        return self._new_track(time, boxes[0]) if boxes else None

    def _new_track(self, time: float, box: Box) -> Face:
        self._seen, self._rival = time, None
        self.tracks += 1
        return Face(box, True, self.tracks - 1)

    def _follow(self, time: float, gray: np.ndarray) -> Face | None:
        assert self._face is not None
        old = self._face.box
        match = best_overlap(old, self.detector.near(gray, old))
        if match is None or time - self._surveyed >= SURVEY_SECONDS - ROUNDING_SECONDS:
            boxes = self._survey(time, gray)
            match = match or best_overlap(old, boxes)
            larger = self._larger_rival(match or old, boxes)
            if larger:
                return self._new_track(time, larger)
        if match is not None:
            self._seen = time
            return Face(smooth(old, match, time - self._time), True, self._face.track)
        if time - self._seen <= HOLD_SECONDS + ROUNDING_SECONDS:
            return Face(old, False, self._face.track)
        return self._new_track(time, boxes[0]) if boxes else None

    def _larger_rival(self, followed: Box, boxes: list[Box]) -> Box | None:
        """The face that takes over: the largest one of this search, where it was one of the search before, too."""
        others = [box for box in boxes if not box.overlap(followed) and box.side >= LARGER * followed.side]
        before, self._rival = self._rival, others[0] if others else None
        return best_overlap(before, others) if before else None

    def _survey(self, time: float, gray: np.ndarray) -> list[Box]:
        self._surveyed = time
        boxes = self.detector.everywhere(gray)
        self.most_faces = max(self.most_faces, len(boxes))
        return boxes


def best_overlap(box: Box, others: list[Box]) -> Box | None:
    """The one of some boxes that overlaps a box most; None where none does by `MIN_OVERLAP`."""
    best = max(others, key=box.overlap, default=None)
    return best if best is not None and box.overlap(best) >= MIN_OVERLAP else None


def smooth(old: Box, new: Box, seconds: float) -> Box:
    """A box on its way from the old one to the new one, by exponential smoothing."""
    moved = 1 - math.exp(-seconds / POSITION_SECONDS)
    grown = 1 - math.exp(-seconds / SIZE_SECONDS)
    return Box(
        old.x + moved * (new.x - old.x), old.y + moved * (new.y - old.y), old.side + grown * (new.side - old.side)
    )


def track_face(
    media: Any, rate: float, start: float = 0.0, stop: float | None = None, tracker: FaceTracker | None = None
) -> Iterator[TrackedPicture]:
    """
    The pictures of a clip, each with the followed face.

    Args:
        media (`Media`): What `media_reading.open_media` gave.
        rate (`float`): Pictures per second.
        start, stop (`float`): The part of the clip, in seconds; by default all.
        tracker (`FaceTracker`, *optional*): A fresh one, for who wants to look at its counts afterwards.
    """
    tracker = tracker or FaceTracker()
    for frame in media.frames(rate, start=start, stop=stop, longest_side=LONGEST_SIDE):
        yield TrackedPicture(frame.time, frame.image, tracker.update(frame.time, frame.image))


def tracking_notes(tracker: FaceTracker) -> list[str]:
    """What a person should know of how a clip's face was followed."""
    notes = []
    if tracker.most_faces > 1:
        notes.append(f"There are up to {tracker.most_faces} faces in a picture; the largest one is followed.")
    if tracker.tracks > 1:
        notes.append(f"The face that is followed was lost, cut away or replaced; there are {tracker.tracks} tracks.")
    return notes
