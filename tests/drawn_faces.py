"""Drawn faces that the detector takes for real ones, and media that show them, from memory or from a file."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np

GRAY = (110, 110, 110)


def blank(width: int = 320, height: int = 240, color: Sequence[int] = GRAY) -> np.ndarray:
    """A picture (height, width, 3) of one colour."""
    return np.full((height, width, 3), color, np.uint8)


def draw_face(image: np.ndarray, x: float, y: float, side: float, mouth: float = 0.3) -> np.ndarray:
    """Draws a face whose box has this centre and side; `mouth` says how far it is open, 0 to 1."""

    def ellipse(across, down, width, height, color):
        middle, center = x + across * side, y + down * side
        top, left = (max(0, math.floor(place)) for place in (center - height * side, middle - width * side))
        bottom, right = (max(0, math.ceil(place) + 1) for place in (center + height * side, middle + width * side))
        part = image[top:bottom, left:right]
        rows, columns = np.ogrid[top : top + part.shape[0], left : left + part.shape[1]]
        part[((columns - middle) / width) ** 2 + ((rows - center) / height) ** 2 <= side**2] = color

    ellipse(0, -0.1, 0.48, 0.62, (70, 50, 40))
    ellipse(0, 0.03, 0.40, 0.55, (215, 175, 150))
    for eye in (-0.17, 0.17):
        ellipse(eye, -0.17, 0.11, 0.025, (80, 55, 45))
        ellipse(eye, -0.09, 0.09, 0.04, (235, 230, 225))
        ellipse(eye, -0.09, 0.04, 0.04, (50, 40, 40))
    ellipse(0, 0.02, 0.035, 0.11, (225, 190, 165))
    ellipse(0, 0.12, 0.07, 0.02, (150, 110, 95))
    ellipse(0, 0.28, 0.14, 0.03 + 0.07 * mouth, (140, 60, 60))
    return image


class DrawnMedia:
    """As of `processing.media_reading.Media`: a video that a function of time draws."""

    def __init__(self, draw: Callable[[float], np.ndarray], seconds: float, has_video: bool = True):
        self.draw = draw
        self.info = SimpleNamespace(has_video=has_video, seconds=seconds)

    def frames(self, rate, start=0.0, stop=None, longest_side=None) -> Iterator[SimpleNamespace]:
        end = self.info.seconds if stop is None else min(stop, self.info.seconds)
        for index in range(math.ceil((end - start) * rate - 1e-9)):
            image = self.draw(start + index / rate)
            assert longest_side is not None and max(image.shape) <= longest_side
            yield SimpleNamespace(time=start + index / rate, image=image)


def write_clip(path: Path, images: Sequence[np.ndarray], rate: int = 10) -> Path:
    """Writes pictures to a video file without loss, whatever their size."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=rate)
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = "gray" if images[0].ndim == 2 else "bgr0"
        for index, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="gray" if image.ndim == 2 else "rgb24")
            frame.pts, frame.time_base = index, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path
