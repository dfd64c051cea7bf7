"""Videos and sound in: `open_media` checks a file or an array, and gives its sound in blocks and pictures at a rate."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from processing.media_container import (
    DEFAULT_FRAMES_PER_SECOND,
    MediaError,
    MediaInfo,
    MediaLimits,
    check_file,
    choose_stream,
    decoded,
    opened,
    packets,
    stream_seconds,
    too_long,
    too_many_pixels,
)
from processing.media_pictures import Frame, Pictures, orientation_of
from processing.media_sound import Sound

__all__ = ["Frame", "Media", "MediaError", "MediaInfo", "MediaLimits", "open_media"]

_SAMPLING_RATES = (1000, 768000)
_MOST_CHANNELS = 64
_HIGHEST_RATE = 1000.0
# Decoders overshoot 1 a little in loud sound; beyond this, floats are integers that were not scaled.
_HIGHEST_PEAK = 2.0
# How many pictures may be undecodable before the first good one: streams that were recorded from the air start so.
_FIRST_PICTURE_TRIES = 500


class Media:
    """
    A file or an array, of which sound and pictures can be read, as often as wanted; nothing is kept open in between.

    Attributes:
        info (`MediaInfo`): What is known of it. Time 0 is where the earlier of its tracks starts.
    """

    def __init__(self, info: MediaInfo, sound: Sound | None, pictures: Pictures | None):
        self.info = info
        self._sound = sound
        self._pictures = pictures

    def audio_blocks(
        self, sampling_rate: int = 16000, start: float = 0.0, stop: float | None = None, block_seconds: float = 30.0
    ) -> Iterator[np.ndarray]:
        """
        The sound, as one channel (the mean of them, as FFmpeg mixes), in blocks that follow each other without a gap.

        Args:
            sampling_rate (`int`): Samples per second that are wanted.
            start, stop (`float`): The part that is wanted, in seconds; the first sample is that of `start`. It ends
                where the sound ends, and is never filled up to `stop`.
            block_seconds (`float`): Length of a block; the last one may be shorter.

        Yields:
            (samples,), float32, mostly within [-1, 1]. Where the sound starts late or is interrupted, or could not be
            decoded, there is silence, so that each sample is in its place in time (to 50 ms, as times in files jitter).
            Nothing where there is no sound.

        Raises:
            MediaError: for sound that cannot be decoded at all, and beyond the limit on length.
        """
        _check_range(start, stop)
        _check_number("sampling_rate", sampling_rate, *_SAMPLING_RATES)
        _check_number("block_seconds", block_seconds, 0.01, 600.0)
        if self._sound is None:
            return
        yield from self._sound.blocks(int(sampling_rate), start, stop, max(1, round(block_seconds * sampling_rate)))

    def frames(
        self, rate: float, start: float = 0.0, stop: float | None = None, longest_side: int | None = None
    ) -> Iterator[Frame]:
        """
        What the video shows at the instants `start + i / rate`, up to `stop` or its end.

        Args:
            rate (`float`): Pictures per second that are wanted, at whatever rate, even or not, the video has them.
            start, stop (`float`): The part that is wanted, in seconds, `stop` left out.
            longest_side (`int`, *optional*): Larger pictures are made smaller: this many pixels on their longer side.

        Yields:
            `Frame`: At each instant the last picture whose time is not after it (by more than the 0.6 ms by which
            containers round); before the first one, the first. Nothing where there is no video.

        Raises:
            MediaError: for a video of which nothing can be decoded, and beyond the limits.
        """
        _check_range(start, stop)
        _check_number("rate", rate, 1e-3, _HIGHEST_RATE)
        if longest_side is not None:
            _check_number("longest_side", longest_side, 1, 100000)
        if self._pictures is None:
            return
        yield from self._pictures.at_rate(float(rate), start, stop, longest_side)


def open_media(source: Any, limits: MediaLimits | None = None, sampling_rate: int | None = None) -> Media:
    """
    Looks at media and checks them against limits; sound and pictures are decoded later, piece by piece.

    Args:
        source (path or `np.ndarray`): A media file on this computer (addresses and playlists are not followed), or
            sound: (samples,) or (samples, channels), floats within [-1, 1] or int16.
        limits (`MediaLimits`, *optional*): How large it may be.
        sampling_rate (`int`): Samples per second, of an array; a file has its own.

    Returns:
        `Media`

    Raises:
        FileNotFoundError: where there is no such file.
        MediaError: for what is not media, has neither sound nor video that can be decoded, or is beyond the limits.
        ValueError: for an array that is not sound.
    """
    limits = limits or MediaLimits()
    if isinstance(source, np.ndarray):
        return _open_array(source, limits, sampling_rate)
    if sampling_rate is not None:
        raise ValueError(
            f"`sampling_rate` is only for an array, but `source` is {str(source)!r}: a file has its own; leave it out."
        )
    return _open_file(check_file(source, limits), limits)


def _open_array(array: np.ndarray, limits: MediaLimits, sampling_rate: int | None) -> Media:
    if sampling_rate is None:
        raise ValueError("An array of sound needs its `sampling_rate`, in samples per second; give it with the array.")
    _check_number("sampling_rate", sampling_rate, *_SAMPLING_RATES)
    if array.ndim not in (1, 2) or (array.ndim == 2 and not 0 < array.shape[1] <= _MOST_CHANNELS):
        raise ValueError(
            f"An array of sound must be (samples,) or (samples, channels) with at most {_MOST_CHANNELS} channels, but "
            f"its shape is {array.shape}; transpose it if its channels come first."
        )
    if array.dtype != np.int16 and array.dtype.kind != "f":
        raise ValueError(
            f"An array of sound must hold floats within [-1, 1] or int16, but it holds {array.dtype}; convert it."
        )
    if array.nbytes > limits.max_bytes:
        raise MediaError(
            f"The sound has {array.nbytes:,} bytes, and the limit is {limits.max_bytes:,} (`max_bytes`); cut it, or "
            "raise the limit."
        )
    info = MediaInfo("sound", len(array) / sampling_rate)
    if info.seconds > limits.max_seconds:
        raise MediaError(too_long(info.name, info.seconds, limits))
    info.channels = 1 if array.ndim == 1 else array.shape[1]
    info.sampling_rate = int(sampling_rate)
    info.has_audio = True
    samples = array.astype(np.float32) / (32768.0 if array.dtype == np.int16 else 1.0)
    if not np.isfinite(samples).all():
        raise ValueError("An array of sound must have finite values, but it has NaN or infinite ones; mend it first.")
    if len(samples) and (peak := float(np.abs(samples).max())) > _HIGHEST_PEAK:
        raise ValueError(
            f"Floats of sound must be within [-1, 1], but the largest is {peak:.6g} in size; divide the array by it, "
            "or give int16."
        )
    if samples.ndim == 2:
        samples = samples.mean(axis=1)
    if not len(samples):
        info.add_note("The sound is empty.")
    return Media(info, Sound(samples, limits, info), None)


def _open_file(path: Path, limits: MediaLimits) -> Media:
    info = MediaInfo(path.name)
    with opened(path, limits) as container:
        audio = choose_stream(container, "audio", info)
        video = choose_stream(container, "video", info)
        if audio is None and video is None:
            raise MediaError(_nothing_to_read(info))
        starts = [stream_seconds(stream, stream.start_time) for stream in (audio, video) if stream is not None]
        zero = min((start for start in starts if start is not None), default=0.0)
        info.seconds = _stated_seconds(container, (audio, video), zero)
        if info.seconds > limits.max_seconds:
            raise MediaError(too_long(info.name, info.seconds, limits))
        if audio is not None:
            _inspect_sound(audio, info)
        if video is not None:
            _inspect_video(container, video, info, limits)
    if not info.has_audio and not info.has_video:
        raise MediaError(_nothing_to_read(info))
    if info.seconds == 0.0:
        info.seconds = _measured_seconds(path, limits, zero, info)
    sound = Sound(path, limits, info, zero) if info.has_audio else None
    return Media(info, sound, Pictures(path, limits, info, zero) if info.has_video else None)


def _nothing_to_read(info: MediaInfo) -> str:
    notes = f": {' '.join(info.notes)}" if info.notes else "."
    return f"{info.name!r} has neither sound nor video that can be decoded{notes}"


def _stated_seconds(container: Any, streams: tuple, zero: float) -> float:
    """The length of the longer track as the file says, or of the file; 0 where it does not say."""
    ends = []
    for stream in streams:
        if stream is None:
            continue
        length = stream_seconds(stream, stream.duration) or 0.0
        start = stream_seconds(stream, stream.start_time)
        ends.append(
            length + (0.0 if start is None else start - zero) if length > 0 else (container.duration or 0) / 1e6
        )
    return max(0.0, *ends)


def _measured_seconds(path: Path, limits: MediaLimits, zero: float, info: MediaInfo) -> float:
    """The length of a file that does not say it, as what a browser records: of its packets, without decoding."""
    end = 0.0
    picture = 1 / (info.frames_per_second or DEFAULT_FRAMES_PER_SECOND)
    for kind in ("audio", "video"):
        with opened(path, limits) as container:
            stream = choose_stream(container, kind, MediaInfo(info.name))
            untimed = 0.0
            for packet in packets(container, stream) if stream is not None else ():
                if packet is None or not packet.size:
                    continue
                lasts = stream_seconds(stream, packet.duration or 0) or picture
                time = stream_seconds(stream, packet.pts)
                untimed = (untimed if time is None else time - zero) + lasts
                end = max(end, untimed)
                if end > limits.max_seconds:
                    raise MediaError(too_long(info.name, end, limits))
    return end


def _inspect_sound(stream: Any, info: MediaInfo) -> None:
    info.sampling_rate = int(stream.codec_context.sample_rate or 0)
    info.channels = int(stream.codec_context.channels or 0)
    if not _SAMPLING_RATES[0] <= info.sampling_rate <= _SAMPLING_RATES[1]:
        info.add_note(f"The sound has a sampling rate of {info.sampling_rate} Hz, which cannot be; it is not read.")
        info.sampling_rate = info.channels = 0
        return
    info.has_audio = True


def _inspect_video(container: Any, stream: Any, info: MediaInfo, limits: MediaLimits) -> None:
    """Fills in what is known of the video; its first picture is decoded, as only pictures say how they are turned."""
    width, height = stream.codec_context.width, stream.codec_context.height
    if width * height > limits.max_pixels:
        raise MediaError(too_many_pixels(repr(info.name), width, height, limits))
    rate = stream.average_rate or stream.guessed_rate
    info.frames_per_second = float(rate) if rate and 0 < rate <= 1000 else None
    tries = islice(decoded(container, stream), _FIRST_PICTURE_TRIES)
    frame = next((frame for frame in tries if frame is not None), None)
    if frame is None:
        info.add_note("No picture of the video can be decoded: it is damaged, encrypted or empty.")
        return
    orientation = orientation_of(frame, stream)
    info.has_video = True
    info.width, info.height = orientation.shown_size(frame.width, frame.height)
    info.rotation = orientation.quarter_turns * 90


def _check_range(start: float, stop: float | None) -> None:
    if not (math.isfinite(start) and start >= 0):
        raise ValueError(f"`start` must be at least 0 seconds, but it is {start!r}.")
    if stop is not None and not stop > start:
        raise ValueError(f"`stop` must be after `start`, but `stop` is {stop!r} and `start` {start!r}.")


def _check_number(name: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise ValueError(f"`{name}` must be between {least} and {most}, but it is {value!r}.")
