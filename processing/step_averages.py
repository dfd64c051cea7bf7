"""Descriptors at one rate, averaged to steps at a lower one, piece by piece; and the pieces."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

# Instants on the edge between two steps belong to the later one, whatever rounding says.
_EDGE = 1e-6


class StepAverages:
    """
    Averages over steps: step i is the mean of the descriptors whose centre lies in [i / rate, (i + 1) / rate).

    Args:
        rate (`float`): Steps per second.
        size (`int`): Descriptors.
    """

    def __init__(self, rate: float, size: int):
        self.rate = rate
        self._finished_steps: list[np.ndarray] = []
        self._finished_means: list[np.ndarray] = []
        self._step = -1
        self.spoilt = 0  # values that were not finite, which means leave out
        self._sums = np.zeros(size)
        self._counts = np.zeros(size, np.int64)

    def add(self, centres: np.ndarray, values: np.ndarray, counted: np.ndarray | None = None) -> None:
        """
        Args:
            centres (`np.ndarray`): (frames,), in seconds, rising from call to call.
            values (`np.ndarray`): (frames, descriptors).
            counted (`np.ndarray`, *optional*): (frames, descriptors), bool: what a mean is over; all by default. A mean
                over nothing is 0.
        """
        if len(centres) == 0:
            return
        finite = np.isfinite(values)
        self.spoilt += int(finite.size - finite.sum())
        counted = finite if counted is None else counted & finite
        steps = np.floor(centres * self.rate + _EDGE).astype(np.int64)
        starts = np.flatnonzero(np.r_[True, steps[1:] != steps[:-1]])
        sums = np.add.reduceat(np.where(counted, values, 0.0).astype(np.float64), starts, axis=0)
        counts = np.add.reduceat(counted.astype(np.int64), starts, axis=0)
        steps = steps[starts]
        if steps[0] == self._step:
            sums[0] += self._sums
            counts[0] += self._counts
        elif self._step >= 0:
            self._finish(np.array([self._step]), self._sums[None], self._counts[None])
        self._finish(steps[:-1], sums[:-1], counts[:-1])
        self._step, self._sums, self._counts = int(steps[-1]), sums[-1], counts[-1]

    def _finish(self, steps: np.ndarray, sums: np.ndarray, counts: np.ndarray) -> None:
        self._finished_steps.append(steps)
        self._finished_means.append((sums / np.maximum(counts, 1)).astype(np.float32))

    def notes(self) -> list[str]:
        """A sentence where values were left out."""
        return [f"{self.spoilt} values were not finite; the means leave them out."] if self.spoilt else []

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """The steps' middles (steps,) in seconds, and their means (steps, descriptors), float32. Call it once, last."""
        if self._step >= 0:
            self._finish(np.array([self._step]), self._sums[None], self._counts[None])
        if not self._finished_steps:
            return np.zeros(0), np.zeros((0, len(self._sums)), np.float32)
        return (np.concatenate(self._finished_steps) + 0.5) / self.rate, np.concatenate(self._finished_means)


@dataclass(frozen=True)
class SoundWindow:
    """
    A piece of sound with sound around it.

    Args:
        samples (`np.ndarray`): (samples,), of all of it.
        first (`int`): The number of its first own frame.
        skip (`int`): How many frames of context come before that one.
        count (`int`): How many own frames it has.
        last (`bool`): Whether the sound ends with it.
    """

    samples: np.ndarray
    first: int
    skip: int
    count: int
    last: bool


class SoundWindows:
    """
    Sound in windows that overlap, for what needs the sound around a frame too. Frame k begins at sample k * hop.

    Args:
        hop, length (`int`): From frame to frame, and of a frame, in samples.
        frames (`int`): The own frames of a window; together they make up all of the sound.
        context (`int`): The frames around them, at most, on each side.
    """

    def __init__(self, hop: int, length: int, frames: int, context: int):
        self.hop = hop
        self.length = length
        self.frames = frames
        self.context = context
        self._buffer = np.zeros(0, np.float32)
        self._base = 0  # the frame at which the buffer begins
        self._first = 0

    def over(self, blocks: Iterable[np.ndarray]) -> Iterator[SoundWindow]:
        """
        Args:
            blocks: Arrays (samples,) that follow each other.

        Yields:
            `SoundWindow`: None where the sound is shorter than a frame.
        """
        for block in blocks:
            self._buffer = np.concatenate([self._buffer, block])
            # One more frame has to be there, so that the window with the last one is known to be the last.
            while len(self._buffer) >= self._needed() + self.hop:
                yield self._window(self.frames, last=False)
        total = self._base + (len(self._buffer) - self.length) // self.hop + 1
        while self._first < total and len(self._buffer) >= self.length:
            count = min(self.frames, total - self._first)
            yield self._window(count, last=self._first + count == total)

    def _needed(self) -> int:
        return (self._first - self._base + self.frames + self.context - 1) * self.hop + self.length

    def _window(self, count: int, last: bool) -> SoundWindow:
        samples = self._buffer if last else self._buffer[: self._needed()]
        window = SoundWindow(samples, self._first, self._first - self._base, count, last)
        self._first += count
        cut = max(0, self._first - self.context - self._base)
        self._buffer, self._base = self._buffer[cut * self.hop :], self._base + cut
        return window
