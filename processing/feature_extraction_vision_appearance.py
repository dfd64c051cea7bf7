"""A face in some 60 numbers, without a trained network: where it is, how it moves, and how eyes and mouth look."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from processing.face_crops import square_crop
from processing.face_tracking import Box, Face, FaceTracker, opencv, track_face, tracking_notes
from processing.feature_extraction_vision_base import Described, FaceFeatureExtractor

# The crop is a bit larger than the box of the detector, which ends at the chin.
CROP_SIDE = 64
CROP_MARGIN = 1.1
# Rows and columns of the crop.
EYES = (slice(14, 34), slice(8, 56))
MOUTH = (slice(38, 62), slice(15, 49))
REGIONS = {
    "face": (slice(4, 60), slice(8, 56)),
    "left_eye": (EYES[0], slice(8, 32)),
    "right_eye": (EYES[0], slice(32, 56)),
    "mouth": MOUTH,
}
# Weights of red, green and blue in gray, ITU-R BT.601.
LUMA = np.array([0.299, 0.587, 0.114])
# Contrast below this, in grey levels of 255, is noise that must not be made large.
LEAST_CONTRAST = 4.0
HIGHEST_FREQUENCY = 5
FREQUENCIES = [(row, total - row) for total in range(HIGHEST_FREQUENCY + 1) for row in range(total + 1)]

GEOMETRY = (
    "face_x",
    "face_y",
    "face_size",
    "face_x_from_mean",
    "face_y_from_mean",
    "face_size_from_mean",
    "face_speed_x",
    "face_speed_y",
    "face_growth",
    "face_detected",
)
LIGHT = ("face_brightness", "face_contrast")


class FaceAppearanceExtractor(FaceFeatureExtractor):
    """
    Position, motion and low spatial frequencies of the followed face (see `face_tracking`), 58 features per step:

    - `face_x`, `face_y`: the centre of the face, from the middle of the picture, as a share of its width and height
      (-0.5 to 0.5); `face_size`: the side of its box as a share of the picture's shorter side.
    - `face_x_from_mean`, `face_y_from_mean`: the centre, from its mean over the track so far, in sides of the face;
      `face_size_from_mean`: the natural logarithm of the side, from its mean over the track so far.
    - `face_speed_x`, `face_speed_y`: how the centre moved since the step before, in sides of the face per second;
      `face_growth`: how the logarithm of the side changed, per second. 0 at the first step of a track.
    - `face_detected`: 1; 0 where the face was not found for a moment and is taken to have stayed.
    - `face_brightness`, `face_contrast`: mean and standard deviation of the gray crop of the face, of 255.
    - `motion_...`: mean absolute difference of the crop, normalised to mean 0 and standard deviation 1, to the same
      place in the picture of the step before, in the face and the regions of the left eye, the right eye (as seen) and
      the mouth. 0 at the first step of a track.
    - `eyes_dct_r_c`, `mouth_dct_r_c`: coefficient of row frequency r and column frequency c, r + c <= 5, of the
      two-dimensional orthonormal DCT-II of a region of the normalised crop, divided by the root of its number of
      pixels: the squares of all coefficients of a region would add up to its mean square.

    Args:
        rate (`float`, *optional*, defaults to 10.0): Pictures per second: two to three per syllable, and several times
            faster than real time on one core.
    """

    name = "face_appearance"
    description = (
        "position, motion and low DCT frequencies of eyes and mouth of the largest face, followed with OpenCV's Haar "
        "cascade"
    )
    columns = (
        *GEOMETRY,
        *LIGHT,
        *(f"motion_{region}" for region in REGIONS),
        *(f"{region}_dct_{row}_{column}" for region in ("eyes", "mouth") for row, column in FREQUENCIES),
    )
    feature_size = len(columns)

    def __init__(self, rate: float = 10.0):
        super().__init__(rate)

    def options(self) -> dict[str, Any]:
        return {}

    def versions(self) -> dict[str, str]:
        return {"opencv": opencv().__version__}

    def describe(self, media: Any, start: float, stop: float | None, notes: list[str]) -> Iterator[Described]:
        tracker = FaceTracker()
        appearance = Appearance(self.rate)
        for picture in track_face(media, self.rate, start, stop, tracker):
            features = appearance.update(picture.image, picture.face) if picture.face else None
            yield picture.time, features, picture.place
        notes += tracking_notes(tracker)


class Appearance:
    """The features of one picture after the other; `update` says what they are, given those before."""

    def __init__(self, rate: float):
        self.rate = rate
        self.track = -1
        self.steps = 0
        self.place_sum = np.zeros(3)
        self.place = np.zeros(3)
        self.image = np.zeros((1, 1, 3), np.uint8)

    def update(self, image: np.ndarray, face: Face) -> np.ndarray:
        """The features (58,) of the face in a picture, uint8 (height, width, 3) RGB."""
        box = face.box
        height, width = image.shape[:2]
        begins = face.track != self.track
        if begins:
            self.track, self.steps, self.place_sum = face.track, 0, np.zeros(3)
        place = np.array([box.x, box.y, math.log(box.side)])
        self.steps += 1
        self.place_sum += place
        units = np.array([box.side, box.side, 1.0])
        speed = np.zeros(3) if begins else (place - self.place) / units * self.rate
        gray = gray_crop(image, box)
        crop = normalized(gray)
        # In the box of now both times: it trembles, and would make all of the face seem to move.
        change = crop - (crop if begins else normalized(gray_crop(self.image, box)))
        self.place, self.image = place, image
        return np.concatenate(
            [
                [box.x / width - 0.5, box.y / height - 0.5, box.side / min(width, height)],
                (place - self.place_sum / self.steps) / units,
                speed,
                [float(face.detected), gray.mean() / 255, gray.std() / 255],
                [np.abs(change[region]).mean() for region in REGIONS.values()],
                low_frequencies(crop[EYES]),
                low_frequencies(crop[MOUTH]),
            ]
        )


def gray_crop(image: np.ndarray, box: Box) -> np.ndarray:
    """The face in a picture (height, width, 3), gray: (64, 64), 0 to 255."""
    return square_crop(image, box, CROP_SIDE, CROP_MARGIN) @ LUMA


def normalized(gray: np.ndarray) -> np.ndarray:
    """A gray picture with mean 0 and standard deviation 1, or less where there is hardly any contrast."""
    return (gray - gray.mean()) / max(gray.std(), LEAST_CONTRAST)


def low_frequencies(region: np.ndarray) -> np.ndarray:
    """Coefficients of the DCT-II of a region at `FREQUENCIES`, as of `FaceAppearanceExtractor`."""
    rows, columns = (cosines(side) for side in region.shape)
    spectrum = rows @ region @ columns.T / math.sqrt(region.size)
    return np.array([spectrum[frequency] for frequency in FREQUENCIES])


@functools.lru_cache(maxsize=8)
def cosines(side: int) -> np.ndarray:
    """The first rows of the orthonormal DCT-II matrix: (frequencies, side)."""
    frequency = np.arange(HIGHEST_FREQUENCY + 1)[:, None]
    matrix = np.cos(math.pi * frequency * (2 * np.arange(side) + 1) / (2 * side))
    return matrix * np.where(frequency, math.sqrt(2 / side), math.sqrt(1 / side))
