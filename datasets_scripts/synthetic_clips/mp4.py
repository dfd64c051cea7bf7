"""MP4 files of pictures and sound, by PyAV."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

_SAMPLES_PER_FRAME = 1024  # of AAC


def write_mp4(path: Path, frames: Iterable[np.ndarray], frames_per_second: int, sound: np.ndarray, rate: int) -> None:
    """
    Writes H.264 video and mono AAC sound; the same input gives the same bytes with the same version of PyAV.

    Args:
        path: where to.
        frames: pictures (height, width, 3), uint8 RGB, of even height and width.
        frames_per_second: of the pictures.
        sound: (samples,), float32, within [-1, 1].
        rate: samples per second.

    Raises:
        ImportError: PyAV is not installed.
    """
    av = _pyav()
    options = {"fflags": "+bitexact", "movflags": "+faststart"}
    with av.open(str(path), "w", format="mp4", options=options) as container:
        picture = container.add_stream("libx264", rate=frames_per_second)
        # One thread: with more, the bytes depend on how many there are.
        picture.codec_context.thread_count = 1
        picture.pix_fmt = "yuv420p"
        picture.options = {"crf": "20", "preset": "superfast"}
        voice = container.add_stream("aac", rate=rate, layout="mono")
        voice.bit_rate = 48_000
        for number, image in enumerate(frames):
            if number == 0:
                picture.height, picture.width = image.shape[:2]
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = number
            container.mux(picture.encode(frame))
        container.mux(picture.encode(None))
        for start in range(0, len(sound), _SAMPLES_PER_FRAME):
            block = np.ascontiguousarray(sound[None, start : start + _SAMPLES_PER_FRAME], dtype=np.float32)
            frame = av.AudioFrame.from_ndarray(block, format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
            container.mux(voice.encode(frame))
        container.mux(voice.encode(None))


def _pyav() -> Any:
    try:
        return importlib.import_module("av")
    except ImportError as error:
        raise ImportError(f"Writing clips needs PyAV ({error}); install it with `pip install av`.") from error
