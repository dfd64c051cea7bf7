"""Facial movements and the pose of the head, by MediaPipe's Face Landmarker."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from processing.face_tracking import LONGEST_SIDE, Place
from processing.feature_extraction_vision_base import Described, FaceFeatureExtractor
from processing.model_versions import digest
from processing.optional_dependency import require

_PAIRED = (
    *("browDown", "browOuterUp", "cheekSquint", "eyeBlink", "eyeLookDown", "eyeLookIn", "eyeLookOut", "eyeLookUp"),
    *("eyeSquint", "eyeWide", "jaw", "mouth", "mouthDimple", "mouthFrown", "mouthLowerDown", "mouthPress"),
    *("mouthSmile", "mouthStretch", "mouthUpperUp", "noseSneer"),
)
_SINGLE = (
    *("_neutral", "browInnerUp", "cheekPuff", "jawForward", "jawOpen", "mouthClose", "mouthFunnel", "mouthPucker"),
    *("mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper"),
)
# In MediaPipe's order, which is that of the alphabet.
BLENDSHAPES = tuple(sorted([*_SINGLE, *(name + side for name in _PAIRED for side in ("Left", "Right"))]))
POSE = ("head_pitch", "head_yaw", "head_roll", "head_x", "head_y", "head_z")
MOST_FACES = 3
PURPOSE = "The extractor 'mediapipe_face'"
WHERE = "https://ai.google.dev/edge/mediapipe/solutions/vision/face_landmarker"


class MediaPipeFaceExtractor(FaceFeatureExtractor):
    """
    The 52 blendshapes of MediaPipe's Face Landmarker and the pose of the head, 58 features per step, of the face that
    is largest in each picture, by the rectangle around its landmarks.

    - the blendshapes by their names, 0 to 1; left and right are the person's;
    - `head_pitch`, `head_yaw`, `head_roll`: angles in radians of the rotation Rz(roll) Ry(yaw) Rx(pitch) that turns a
      head looking at the camera into this one; x points to the right of the picture, y up, z to the viewer;
    - `head_x`, `head_y`, `head_z`: where the head is from the camera, in centimetres, as far as one picture tells.

    Args:
        model (`str`): The file `face_landmarker.task`, which the package mediapipe does not carry: a path, or
            "owner/repository/file" on the Hub.
        rate (`float`, *optional*, defaults to 10.0): Pictures per second.
        revision (`str`, *optional*): Of the repository on the Hub.
    """

    name = "mediapipe_face"
    description = "MediaPipe Face Landmarker's 52 blendshapes and head pose of the largest face"
    packages = ("mediapipe",)
    columns = (*BLENDSHAPES, *POSE)
    feature_size = len(columns)

    def __init__(self, model: str, rate: float = 10.0, revision: str | None = None):
        super().__init__(rate)
        self.model = str(model)
        self.revision = revision

    def options(self) -> dict[str, Any]:
        options = {"model": self.model}
        return options if self.revision is None else {**options, "revision": self.revision}

    def versions(self) -> dict[str, str]:
        """Version of the package, and the SHA-256 of the model's file."""
        return {**super().versions(), "model": f"sha256:{self._digest}"}

    def describe(self, media: Any, start: float, stop: float | None, notes: list[str]) -> Iterator[Described]:
        most_faces = 0
        mediapipe = require("mediapipe", PURPOSE)
        with self._landmarker() as landmarker:
            for frame in media.frames(self.rate, start=start, stop=stop, longest_side=LONGEST_SIDE):
                image = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(frame.image))
                result = landmarker.detect_for_video(image, round(frame.time * 1000))
                most_faces = max(most_faces, len(result.face_landmarks))
                face = largest_face(result, frame.image.shape[1] / frame.image.shape[0])
                if face is None:
                    yield frame.time, None, None
                else:
                    yield frame.time, face_features(result, face), rectangle(result.face_landmarks[face])
        if most_faces > 1:
            notes.append(f"There are up to {most_faces} faces in a picture; the largest one is described.")

    @functools.cached_property
    def _path(self) -> Path:
        """The model's file, from the Hub where it is not on this computer."""
        path = Path(self.model)
        if path.is_file():
            return path
        owner, repository, file = (self.model.split("/", 2) + ["", ""])[:3]
        if not (owner and repository and file):
            raise FileNotFoundError(
                f"`model` must be the file face_landmarker.task (from {WHERE}) or 'owner/repository/file' on the Hub, "
                f"but there is no file {self.model!r}."
            )
        hub = require("huggingface_hub", PURPOSE)
        try:
            return Path(hub.hf_hub_download(f"{owner}/{repository}", file, revision=self.revision))
        except (OSError, ValueError) as error:
            raise ValueError(
                f"`model` must be a file or 'owner/repository/file' on the Hub, but there is no file {self.model!r}, "
                f"and the Hub says: {error}"
            ) from None

    @functools.cached_property
    def _digest(self) -> str:
        return digest(self._path)

    def _landmarker(self) -> Any:
        tasks = require("mediapipe.tasks.python", PURPOSE, "mediapipe")
        vision = require("mediapipe.tasks.python.vision", PURPOSE, "mediapipe")
        options = vision.FaceLandmarkerOptions(
            base_options=tasks.BaseOptions(model_asset_path=str(self._path)),
            running_mode=vision.RunningMode.VIDEO,
            num_faces=MOST_FACES,
            output_face_blendshapes=True,
            output_facial_transformation_matrixes=True,
        )
        try:
            return vision.FaceLandmarker.create_from_options(options)
        except (RuntimeError, ValueError) as error:
            raise ValueError(
                f"`model` must be a face_landmarker.task for MediaPipe (from {WHERE}), but {self.model!r} cannot be "
                f"loaded as one: {error}"
            ) from None


def largest_face(result: Any, aspect: float) -> int | None:
    """
    Which of the faces of a `FaceLandmarkerResult` is the largest, None where it has no face.

    Args:
        result: What the landmarker gave.
        aspect (`float`): Width of the picture by its height; landmarks are shares of both.
    """
    sizes = [rectangle(landmarks) for landmarks in result.face_landmarks]
    return max(range(len(sizes)), key=lambda face: sizes[face][2] * aspect * sizes[face][3], default=None)


def face_features(result: Any, face: int) -> np.ndarray:
    """The features (58,) of a face of a `FaceLandmarkerResult`."""
    scores = {shape.category_name: float(shape.score) for shape in result.face_blendshapes[face]}
    if missing := [name for name in BLENDSHAPES if name not in scores]:
        raise ValueError(
            f"`model` must give the {len(BLENDSHAPES)} blendshapes of MediaPipe's Face Landmarker, but it does not "
            f"give {', '.join(missing)}; take another face_landmarker.task."
        )
    pose = head_pose(np.asarray(result.facial_transformation_matrixes[face], np.float64))
    return np.array([*(scores[name] for name in BLENDSHAPES), *pose])


def rectangle(landmarks: Any) -> Place:
    """The rectangle around landmarks."""
    x, y = np.array([(landmark.x, landmark.y) for landmark in landmarks]).T
    return float(x.min()), float(y.min()), float(np.ptp(x)), float(np.ptp(y))


def head_pose(matrix: np.ndarray) -> tuple[float, ...]:
    """`POSE` of a facial transformation matrix (4, 4), which may also scale."""
    rotation = matrix[:3, :3] / np.linalg.norm(matrix[:3, :3], axis=0)
    pitch = math.atan2(rotation[2, 1], rotation[2, 2])
    yaw = math.asin(min(1.0, max(-1.0, -rotation[2, 0])))
    roll = math.atan2(rotation[1, 0], rotation[0, 0])
    return pitch, yaw, roll, *(float(shift) for shift in matrix[:3, 3])
