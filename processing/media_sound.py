"""The sound of media as one channel at any sampling rate, in blocks, each sample in its place in time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
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
from processing.media_pictures import go_to, too_long
from processing.optional_dependency import require

# Times of sound are rounded, or taken from a clock: only what differs by more is a gap or an overlap. After damage a
# gap is likely, and every difference counts.
_TOLERANCE_SECONDS = 0.05
_TOLERANCE_AFTER_DAMAGE_SECONDS = 0.002

# Times that go back by more are a clock that was set back: the sound goes on.
_SET_BACK_SECONDS = 1.0

# Decoders need some packets before the wanted place to sound as they would have.
_RUN_UP_SECONDS = 0.5

_ARRAY_PIECE = 16384


class Timeline:
    """
    Pieces of sound put at their places in time: gaps become silence, overlaps are cut, and blocks come out.

    Args:
        sampling_rate (`int`): Of the pieces.
        start, stop (`int` or `None`): The wanted part, in samples.
        block (`int`): Samples per block.
    """

    def __init__(self, sampling_rate: int, start: int, stop: int | None, block: int):
        self.sampling_rate = sampling_rate
        self.position = start  # of what is written next
        self.stop = stop
        self.block = block
        self._pieces: list[np.ndarray] = []
        self._filled = 0

    @property
    def full(self) -> bool:
        return self.stop is not None and self.position >= self.stop

    def put(self, place: int, samples: np.ndarray) -> Iterator[np.ndarray]:
        """Adds samples that start at a place; what lies before the position is cut off."""
        samples = samples[max(0, self.position - place) :]
        if len(samples) == 0:
            return
        while (gap := place - self.position) > 0 and not self.full:
            yield from self._write(np.zeros(min(gap, self.block), np.float32))
        yield from self._write(samples)

    def _write(self, samples: np.ndarray) -> Iterator[np.ndarray]:
        if self.stop is not None:
            samples = samples[: max(0, self.stop - self.position)]
        self.position += len(samples)
        while len(samples):
            piece, samples = samples[: self.block - self._filled], samples[self.block - self._filled :]
            self._pieces.append(piece)
            self._filled += len(piece)
            if self._filled == self.block:
                yield from self.rest()

    def rest(self) -> Iterator[np.ndarray]:
        """What does not fill a block."""
        if self._pieces:
            yield np.concatenate(self._pieces)
            self._pieces, self._filled = [], 0


class Sound:
    """
    The sound of a file or an array.

    Args:
        source (`Path` or `np.ndarray`): A file, or an array (samples,) float32.
        limits (`MediaLimits`): Checked again while reading, as headers can be wrong.
        info (`MediaInfo`): Of the media; gets notes.
        zero (`float`): The time of the file's own clock at which the media start.
    """

    def __init__(self, source: Path | np.ndarray, limits: MediaLimits, info: MediaInfo, zero: float = 0.0):
        self.source = source
        self.limits = limits
        self.info = info
        self.zero = zero

    def blocks(self, sampling_rate: int, start: float, stop: float | None, block: int) -> Iterator[np.ndarray]:
        """See `Media.audio_blocks`."""
        first = round(start * sampling_rate)
        last = None if stop is None else round(stop * sampling_rate)
        timeline = Timeline(sampling_rate, first, last, block)
        for place, samples in self._placed(sampling_rate, start):
            if place / sampling_rate > self.limits.max_seconds:
                raise MediaError(too_long(self.info.name, place / sampling_rate, self.limits))
            yield from timeline.put(place, samples)
            if timeline.full:
                break
        yield from timeline.rest()

    def _placed(self, sampling_rate: int, start: float) -> Iterator[tuple[int, np.ndarray]]:
        """Pieces of sound at the wanted rate, each with the place of its first sample."""
        resampler: _Resampler | None = None
        gaps, silent, doubled = 0, 0.0, 0.0
        for time, damaged, frame in self._frames(start):
            if resampler is not None and (resampler.kind != _kind(frame) or resampler.misses(time, damaged)):
                missing = time - resampler.time
                gaps, silent, doubled = gaps + (missing > 0), silent + max(0.0, missing), doubled + max(0.0, -missing)
                yield from resampler.finish()
                resampler = None
            if resampler is None:
                resampler = _Resampler(frame, sampling_rate, time)
            yield from resampler.add(frame)
        if resampler is not None:
            yield from resampler.finish()
        if silent >= 0.01:
            places = "one place" if gaps == 1 else f"{gaps} places"
            self.info.add_note(
                f"The sound is interrupted in {places}, for {silent:.2f} s in all; silence is put there."
            )
        if doubled >= 0.01:
            self.info.add_note(f"By its times, {doubled:.2f} s of the sound come twice; the second time is left out.")

    def _frames(self, start: float) -> Iterator[tuple[float, bool, Any]]:
        """Frames of sound with their time, and whether something before them was lost."""
        if isinstance(self.source, np.ndarray):
            yield from self._array_frames(self.source, start)
            return
        if start > _RUN_UP_SECONDS:
            first = True
            for item in self._file_frames(start - _RUN_UP_SECONDS):
                if first and item[0] > start:
                    break  # it was not possible to go there: from the beginning, then
                first = False
                yield item
            if not first:
                return
        yield from self._file_frames(None)

    def _array_frames(self, samples: np.ndarray, start: float) -> Iterator[tuple[float, bool, Any]]:
        av = require("av", "Changing the sampling rate of sound", "av")
        rate = self.info.sampling_rate
        begin = int(max(0.0, start - _RUN_UP_SECONDS) * rate)
        for place in range(begin, len(samples), _ARRAY_PIECE):
            piece = np.ascontiguousarray(samples[place : place + _ARRAY_PIECE])[None]
            frame = av.AudioFrame.from_ndarray(piece, format="fltp", layout="mono")
            frame.sample_rate = rate
            yield place / rate, False, frame

    def _file_frames(self, start: float | None) -> Iterator[tuple[float, bool, Any]]:
        assert isinstance(self.source, Path)
        lost, count, damaged = 0, 0, False
        with opened(self.source, self.limits) as container:
            stream = choose_stream(container, "audio", MediaInfo(self.info.name))
            if stream is None or (start is not None and not go_to(container, stream, start + self.zero)):
                return
            end: float | None = None
            shift = 0.0
            for frame in decoded(container, stream):
                if frame is None or frame.is_corrupt:
                    lost, damaged = lost + 1, True
                    continue
                if frame.samples == 0 or not frame.sample_rate:
                    continue
                stamp = stream_seconds(stream, frame.pts)
                if stamp is None and end is None and start is not None:
                    return  # without time stamps only a reading from the beginning knows the time
                time = stamp - self.zero + shift if stamp is not None else end or 0.0
                if end is not None and time < end - _SET_BACK_SECONDS:
                    shift += end - time
                    time = end
                    self.info.add_note("The times of the sound go back; it is read as going on.")
                end = time + frame.samples / frame.sample_rate
                count += 1
                yield time, damaged, frame
                damaged = False
        if lost:
            self.info.add_note(f"The sound is damaged: {lost} pieces of it could not be decoded.")
        if end is not None:
            self.info.note_early_end("sound", end)
        if count == 0 and lost and start is None:
            raise MediaError(f"No sound of {self.info.name!r} can be decoded: it is damaged or encrypted.")
        if count == 0 and start is None:
            self.info.add_note("The sound track is empty.")


def _kind(frame: Any) -> tuple:
    return frame.sample_rate, frame.format.name, frame.layout.name


def _silence_like(frame: Any, samples: int) -> Any:
    av = require("av", "Changing the sampling rate of sound", "av")
    silence = av.AudioFrame(format=frame.format.name, layout=frame.layout.name, samples=samples)
    silence.sample_rate = frame.sample_rate
    zero = b"\x80" if frame.format.name.startswith("u8") else b"\0"
    for plane in silence.planes:
        plane.update(zero * plane.buffer_size)
    return silence


class _Resampler:
    """
    Frames without a gap, as one channel at another rate.

    Silence goes before the first one, up to where a sample at one rate coincides with one at the other, counted from
    the start of the media: so a part of the sound has the same samples wherever reading began.
    """

    def __init__(self, frame: Any, sampling_rate: int, time: float):
        av = require("av", "Changing the sampling rate of sound", "av")
        self.kind = _kind(frame)
        self.time = time  # at which the next frame should start
        common = math.gcd(frame.sample_rate, sampling_rate)
        first, self._silent = divmod(round(time * frame.sample_rate), frame.sample_rate // common)
        self.place = first * (sampling_rate // common)
        # Weights of channels that sum to at most 1: by default FFmpeg makes stereo sound in floats louder as mono.
        options = {"rematrix_maxval": "1.0"}
        self._resampler = av.AudioResampler(format="fltp", layout="mono", rate=sampling_rate, options=options)
        self._taken = 0

    def misses(self, time: float, damaged: bool) -> bool:
        """Whether a frame at a time does not continue the frames so far."""
        return abs(time - self.time) > (_TOLERANCE_AFTER_DAMAGE_SECONDS if damaged else _TOLERANCE_SECONDS)

    def add(self, frame: Any) -> Iterator[tuple[int, np.ndarray]]:
        if self._silent and self._taken == 0:
            yield from self._push(_silence_like(frame, self._silent))
        self.time += frame.samples / frame.sample_rate
        yield from self._push(frame)

    def _push(self, frame: Any) -> Iterator[tuple[int, np.ndarray]]:
        frame.pts = self._taken
        frame.time_base = Fraction(1, frame.sample_rate)
        self._taken += frame.samples
        yield from self._take(self._resampler.resample(frame))

    def finish(self) -> Iterator[tuple[int, np.ndarray]]:
        yield from self._take(self._resampler.resample(None))

    def _take(self, frames: Any) -> Iterator[tuple[int, np.ndarray]]:
        for frame in frames:
            if frame is None:
                continue
            samples = np.nan_to_num(frame.to_ndarray()[0].astype(np.float32), posinf=0.0, neginf=0.0)
            yield self.place, samples
            self.place += len(samples)
