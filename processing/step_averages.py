"""Descriptors at one rate, averaged to steps at a lower one, piece by piece."""

from __future__ import annotations

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
        counted = np.ones(values.shape, bool) if counted is None else counted
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

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """The steps' middles (steps,) in seconds, and their means (steps, descriptors), float32. Call it once, last."""
        if self._step >= 0:
            self._finish(np.array([self._step]), self._sums[None], self._counts[None])
        if not self._finished_steps:
            return np.zeros(0), np.zeros((0, len(self._sums)), np.float32)
        return (np.concatenate(self._finished_steps) + 0.5) / self.rate, np.concatenate(self._finished_means)


class SoundWindows:
    """
    Sound in windows that overlap, for what needs the sound around a frame too.

    Frame k begins at sample k * hop and needs `length` samples. A window has `frames` frames of its own, and up to `context`
    more on each side.

    Args:
        hop, length (`int`): Of a frame, in samples.
        frames, context (`int`): Of a window, in frames.
    """

    def __init__(self, hop: int, length: int, frames: int, context: int):
        self.hop = hop
        self.length = length
        self.frames = frames
        self.context = context

    def over(self, blocks):
        """
        Args:
            blocks: Arrays (samples,), one after the other.

        Yields:
            samples (`np.ndarray`), first (`int`), skip (`int`), count (`int`): The samples of a window; the number of its
            first own frame; how many frames of context come before that; how many own frames it has.
        """
        buffer = np.zeros(0, np.float32)
        base = first = 0  # frames at which the buffer and the next window begin
        ahead = (self.frames + self.context - 1) * self.hop + self.length
        for block in blocks:
            buffer = np.concatenate([buffer, block])
            while len(buffer) >= (first - base) * self.hop + ahead:
                yield buffer[: (first - base) * self.hop + ahead], first, first - base, self.frames
                first += self.frames
                cut = max(0, first - self.context - base)
                buffer, base = buffer[cut * self.hop :], base + cut
        total = base + max(0, (len(buffer) - self.length) // self.hop + 1) if len(buffer) >= self.length else base
        while first < total:
            count = min(self.frames, total - first)
            yield buffer[: (first - base) * self.hop + ahead], first, first - base, count
            first += count
            cut = max(0, first - self.context - base)
            buffer, base = buffer[cut * self.hop :], base + cut
