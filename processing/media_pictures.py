"""The pictures of a video at evenly spaced instants: upright, as RGB, as large as asked for."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from processing.media_container import (
    DEFAULT_FRAMES_PER_SECOND,
    MediaError,
    MediaInfo,
    MediaLimits,
    choose_stream,
    decoded,
    go_to,
    opened,
    stream_seconds,
    too_long,
)
from processing.optional_dependency import require

# A pixel this many times as wide as high, or as high as wide, is a mistake of the header.
_WIDEST_PIXEL = 4.0

# Containers round times to milliseconds: a picture that comes this much after an instant is the one of that instant.
_ROUNDING_SECONDS = 6e-4


@dataclass
class Frame:
    """
    What a video shows at an instant.

    Args:
        time (`float`): The instant, in seconds from the start of the media.
        image (`np.ndarray`): (height, width, 3), uint8, RGB, upright. Instants that show the same picture share it, so
            copy it before writing into it.
    """

    time: float
    image: np.ndarray


@dataclass(frozen=True)
class Orientation:
    """How a stored picture is turned and stretched to be shown: quarter turns clockwise, mirrored first or not."""

    quarter_turns: int = 0
    mirrored: bool = False
    pixel_aspect: float = 1.0

    def shown_size(self, width: int, height: int, longest_side: int | None = None) -> tuple[int, int]:
        """Width and height as shown, of a stored picture, made smaller (never larger) to `longest_side`."""
        wide, high = width * self.pixel_aspect, float(height)
        scale = 1.0 if longest_side is None else min(1.0, longest_side / max(wide, high))
        size = max(1, round(wide * scale)), max(1, round(high * scale))
        return size if self.quarter_turns % 2 == 0 else (size[1], size[0])


def orientation_of(frame: Any, stream: Any) -> Orientation:
    """The orientation of a decoded frame: of its display matrix, and of the shape of its pixels."""
    ratio = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio
    aspect = float(ratio) if ratio else 1.0
    if not 1 / _WIDEST_PIXEL <= aspect <= _WIDEST_PIXEL:
        aspect = 1.0
    matrix = next((np.frombuffer(bytes(data), np.int32) for data in frame.side_data if _is_matrix(data)), None)
    if matrix is None or len(matrix) < 9:
        return Orientation(pixel_aspect=aspect)
    # Rows of the matrix are where the axes of the stored picture go: (a, b) its x axis, (c, d) its y axis.
    a, b, c, d = (float(matrix[index]) for index in (0, 1, 3, 4))
    mirrored = a * d - b * c < 0
    if mirrored:
        a, b = -a, -b
    degrees = math.degrees(math.atan2(b, a))
    return Orientation(round(degrees / 90) % 4, mirrored, aspect)


def _is_matrix(data: Any) -> bool:
    return getattr(data.type, "name", "") == "DISPLAYMATRIX"


class Pictures:
    """Pictures of the video track of a file, one pass over it at a time."""

    def __init__(self, path: Path, limits: MediaLimits, info: MediaInfo, zero: float):
        self.path = path
        self.limits = limits
        self.info = info
        self.zero = zero

    def at_rate(self, rate: float, start: float, stop: float | None, longest_side: int | None) -> Iterator[Frame]:
        """See `Media.frames`."""
        end = math.inf if stop is None else stop
        index = 0

        def until(time: float) -> Iterator[float]:
            """The next instants before a time."""
            nonlocal index
            while (instant := start + index / rate) < min(time - _ROUNDING_SECONDS, end):
                index += 1
                yield instant

        shown: _Picture | None = None
        for picture in self._from(start):
            if shown is not None:  # before the first picture, the first one is shown
                for instant in until(picture.time):
                    yield Frame(instant, shown.image(longest_side))
            shown = picture
            if start + index / rate >= end:
                return
        if shown is not None:
            for instant in until(shown.end):
                yield Frame(instant, shown.image(longest_side))

    def _from(self, start: float) -> Iterator[_Picture]:
        """Pictures from the one that is shown at `start`, or an earlier one."""
        if start > 0:
            first = True
            for picture in self._pass(start):
                if first and (picture.time > start or not picture.timed):
                    break  # it was not possible to go there: from the beginning, then
                first = False
                yield picture
            if not first:
                return
        yield from self._pass(None)

    def _pass(self, start: float | None) -> Iterator[_Picture]:
        damaged, count = 0, 0
        # Each pass makes its own container, as iterators may be used at the same time, or be given up.
        with opened(self.path, self.limits) as container:
            stream = choose_stream(container, "video", MediaInfo(self.info.name))
            if stream is None:
                return
            if start is not None and not go_to(container, stream, start + self.zero):
                return
            reformatter = require("av", "Reading video", "av").video.reformatter.VideoReformatter()
            shift = 0.0
            shown_for = 1 / (self.info.frames_per_second or DEFAULT_FRAMES_PER_SECOND)
            time: float | None = None
            end = 0.0
            for frame in decoded(container, stream):
                if frame is None:
                    damaged += 1
                    continue
                stamp = stream_seconds(stream, frame.pts)
                after = 0.0 if time is None else time + shown_for
                now = after if stamp is None else stamp - self.zero + shift
                if time is not None and now < time:
                    shift += after - now  # the clock was set back, as where files were put together
                    now = after
                    self.info.add_note("The times of the video go back; it is read as going on.")
                if now > self.limits.max_seconds:
                    raise MediaError(too_long(self.info.name, now, self.limits))
                time = now
                count += 1
                damaged += bool(frame.is_corrupt)
                lasts = float(frame.duration * stream.time_base) if frame.duration else shown_for
                end = now + lasts
                yield _Picture(frame, now, end, stamp is not None, orientation_of(frame, stream), reformatter)
        if damaged:
            self.info.add_note(
                f"The video is damaged: {damaged} pieces of it could not be decoded, or only in part; where pictures "
                "are missing, the one before is shown."
            )
        if count:
            self.info.note_early_end("video", end)
        elif start is None:
            raise MediaError(f"No picture of {self.info.name!r} can be decoded: it is damaged, encrypted or has none.")


class _Picture:
    """A decoded picture, converted when it is asked for."""

    def __init__(self, frame: Any, time: float, end: float, timed: bool, orientation: Orientation, reformatter: Any):
        self.frame = frame
        self.time = time
        self.end = end
        self.timed = timed
        self.orientation = orientation
        self._reformatter = reformatter
        self._image: np.ndarray | None = None

    def image(self, longest_side: int | None) -> np.ndarray:
        if self._image is None:
            self._image = self._convert(longest_side)
        return self._image

    def _convert(self, longest_side: int | None) -> np.ndarray:
        stored = Orientation(0, False, self.orientation.pixel_aspect)
        width, height = stored.shown_size(self.frame.width, self.frame.height, longest_side)
        # Scaled in the stored colours, so that a large picture never exists as RGB.
        small = self._reformatter.reformat(self.frame, width, height, "rgb24", interpolation="AREA", threads=1)
        image = small.to_ndarray()
        if self.orientation.mirrored:
            image = image[:, ::-1]
        return np.ascontiguousarray(np.rot90(image, -self.orientation.quarter_turns))
