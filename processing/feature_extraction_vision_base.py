"""What the extractors of faces have in common: the walk through the pictures of a clip, and what is said of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np

from processing.face_tracking import Place
from processing.feature_extraction import FeatureExtractor, FeatureSequence

HIGHEST_RATE = 60.0


class FaceFeatureExtractor(FeatureExtractor):
    """
    A subclass says in `describe` what a face looks like; a step is a picture with a face.

    The picture of a step is what the video shows where the step begins; the time of the step is its middle, as of all
    features. Pictures without a face make no step, and are counted in a note.

    Args:
        rate (`float`): Pictures per second.
    """

    modality: ClassVar[str] = "vision"

    def __init__(self, rate: float):
        if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate <= HIGHEST_RATE:
            raise ValueError(
                f"`rate` of the extractor {self.name!r} must be a number of pictures per second above 0 and at most "
                f"{HIGHEST_RATE:g}, but it is {rate!r}."
            )
        self.rate = float(rate)

    def describe(self, media: Any, start: float, stop: float | None, notes: list[str]) -> Iterator[Described]:
        """
        For each picture, its time, the features (features,) of its face and where that is; None where it has none.

        What a person should know is added to `notes`.
        """
        raise NotImplementedError

    def extract(self, media: Any, start: float = 0.0, stop: float | None = None) -> FeatureSequence:
        if not media.info.has_video:
            return self._sequence([], [], [], ["There is no video, so no face."])
        times, values, places, notes = [], [], list[Place](), list[str]()
        pictures = 0
        for time, features, place in self.describe(media, start, stop, notes):
            pictures += 1
            if features is not None and place is not None:
                times.append(time + 0.5 / self.rate)
                values.append(np.asarray(features, np.float32))
                places.append(place)
        return self._sequence(times, values, places, faces_missing(pictures, len(values)) + notes)

    def _sequence(
        self, times: list[float], values: list[np.ndarray], places: list[Place], notes: list[str]
    ) -> FeatureSequence:
        stacked = np.stack(values) if values else np.zeros((0, self.feature_size), np.float32)
        boxes = np.array(places, np.float64).reshape(len(places), 4)
        return FeatureSequence(stacked, np.array(times, np.float64), 1 / self.rate, notes, boxes=boxes)


Described = tuple[float, np.ndarray | None, Place | None]


def faces_missing(pictures: int, faces: int) -> list[str]:
    """What to say of a clip that has a face in some of its pictures only."""
    if not pictures:
        return ["No picture of the video lies in the part that was asked for."]
    if not faces:
        return [f"No face was found in any of {pictures} pictures."]
    return [f"No face was found in {pictures - faces} of {pictures} pictures."] if faces < pictures else []
