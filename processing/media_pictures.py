"""The pictures of a video at evenly spaced instants: upright, as RGB, as large as asked for."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from processing.media_container import (
    MediaError,
    MediaInfo,
    MediaLimits,
    choose_stream,
    decoded,
    opened,
    stream_seconds,
)

# A pixel this many times as wide as high, or as high as wide, is a mistake of the header.
_WIDEST_PIXEL = 4.0


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
        current: _Picture | None = None
        index = 0
        for picture in self._from(start):
            # Before the first picture, the first one is shown.
            until = picture.time if current is not None else -math.inf
            while (instant := start + index / rate) < until and current is not None:
                if stop is not None and instant >= stop:
                    return
                yield Frame(instant, current.image(longest_side))
                index += 1
            if stop is not None and start + index / rate >= stop:
                return
            current = picture
        while current is not None and (instant := start + index / rate) < current.end:
            if stop is not None and instant >= stop:
                return
            yield Frame(instant, current.image(longest_side))
            index += 1

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
            shown_for = 1 / self.info.frames_per_second if self.info.frames_per_second else 1 / 25
            time: float | None = None
            for frame in decoded(container, stream):
                if frame is None:
                    damaged += 1
                    continue
                stamp = stream_seconds(stream, frame.pts)
                after = 0.0 if time is None else time + shown_for
                now = after if stamp is None else stamp - self.zero
                if time is not None and now < time:
                    now = after  # a time that goes back is wrong
                if now > self.limits.max_seconds:
                    raise MediaError(too_long(self.info.name, now, self.limits))
                time = now
                count += 1
                damaged += bool(frame.is_corrupt)
                lasts = float(frame.duration * stream.time_base) if frame.duration else shown_for
                yield _Picture(frame, now, now + lasts, stamp is not None, orientation_of(frame, stream), self.limits)
        if damaged:
            self.info.add_note(
                f"The video is damaged: {damaged} pieces of it could not be decoded, or only in part; where pictures are "
                "missing, the one before is shown."
            )
        if count == 0 and start is None:
            raise MediaError(f"No picture of {self.info.name!r} can be decoded: it is damaged, encrypted or has none.")


class _Picture:
    """A decoded picture, converted when it is asked for."""

    def __init__(
        self, frame: Any, time: float, end: float, timed: bool, orientation: Orientation, limits: MediaLimits
    ):
        self.frame = frame
        self.time = time
        self.end = end
        self.timed = timed
        self.orientation = orientation
        self._limits = limits
        self._image: np.ndarray | None = None

    def image(self, longest_side: int | None) -> np.ndarray:
        if self._image is None:
            self._image = self._convert(longest_side)
        return self._image

    def _convert(self, longest_side: int | None) -> np.ndarray:
        if self.frame.width * self.frame.height > self._limits.max_pixels:
            raise MediaError(too_many_pixels("The video", self.frame.width, self.frame.height, self._limits))
        stored = Orientation(0, False, self.orientation.pixel_aspect)
        width, height = stored.shown_size(self.frame.width, self.frame.height, longest_side)
        # Scaled in the stored colours, so that a large picture never exists as RGB.
        small = self.frame.reformat(width=width, height=height, format="rgb24", interpolation="AREA")
        image = small.to_ndarray()
        if self.orientation.mirrored:
            image = image[:, ::-1]
        return np.ascontiguousarray(np.rot90(image, -self.orientation.quarter_turns))


def go_to(container: Any, stream: Any, seconds: float) -> bool:
    """Goes to the last place at or before a time (of the file's own clock) from which a stream can be decoded."""
    try:
        container.seek(int(seconds / stream.time_base), backward=True, stream=stream)
    except (OSError, ValueError):
        return False
    return True


def too_long(name: str, seconds: float, limits: MediaLimits) -> str:
    """What is said of media beyond the limit on length."""
    return (
        f"{name!r} lasts {duration_words(seconds)}, and the limit is {duration_words(limits.max_seconds)} "
        "(`max_seconds`); cut it into shorter pieces, or raise the limit."
    )


def too_many_pixels(name: str, width: int, height: int, limits: MediaLimits) -> str:
    """What is said of pictures beyond the limit on pixels."""
    return (
        f"{name} has pictures of {width} x {height} pixels, {width * height:,} in all, and the limit is "
        f"{limits.max_pixels:,} (`max_pixels`); make it smaller, or raise the limit."
    )


def duration_words(seconds: float) -> str:
    """A length of time for people: 10 h 0 min, 1 min 5 s, 2.5 s."""
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
