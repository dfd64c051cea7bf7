"""The descriptors of voice quality and prosody of eGeMAPSv02, by openSMILE."""

from __future__ import annotations

from typing import Any

import numpy as np

from processing.feature_extraction import FeatureExtractor, FeatureSequence
from processing.optional_dependency import require
from processing.step_averages import SoundWindows, StepAverages

SAMPLING_RATE = 16000

# Frames of openSMILE's configuration: one each 10 ms; its longest window has 60 ms, the one whose times it gives 20 ms.
_HOP = 160
_LONGEST_WINDOW = 960
_CENTRE_SECONDS = 0.01

_WINDOW_FRAMES = 3000
# The pitch of a frame depends on frames around it: with 50 of them on real speech, windows gave the very same numbers
# as all of the sound at once, with 20 not quite.
_CONTEXT_FRAMES = 100

# The largest float that the package's conversion to 16 bits keeps: 1.0 would come out as -1.0, and -1.1 as 0.9.
_LOUDEST = 32767 / 32768

_F0 = "F0semitoneFrom27.5Hz_sma3nz"


class EgemapsExtractor(FeatureExtractor):
    """
    The 25 low-level descriptors of the extended Geneva minimalistic acoustic parameter set (Eyben et al. 2016,
    https://doi.org/10.1109/TAFFC.2015.2457417), version 02, as the package `opensmile` computes them at 100 Hz from
    sound at 16 kHz, averaged to steps.

    Step i is the mean over the frames whose centre lies in [i / rate, (i + 1) / rate), counted from `start`. Those of
    voiced sound (named `...nz`: F0, jitter, shimmer, harmonics, formants) are averaged over the voiced frames alone (F0
    above 0), and are 0 in a step without any.

    Args:
        rate (`float`): Steps per second, at most 100.
    """

    name = "egemaps_v02"
    modality = "audio"
    description = "openSMILE eGeMAPSv02 low-level descriptors"
    packages = ("opensmile",)

    def __init__(self, rate: float = 20.0):
        if not 0.1 <= rate <= 100:
            raise ValueError(
                f"`rate` of {self.name!r} must be between 0.1 and 100 steps per second, but it is {rate!r}."
            )
        self.rate = float(rate)
        opensmile = require("opensmile", "Extracting eGeMAPS features", "opensmile")
        self._smile: Any = opensmile.Smile(
            feature_set=opensmile.FeatureSet.eGeMAPSv02, feature_level=opensmile.FeatureLevel.LowLevelDescriptors
        )
        self.columns = tuple(map(str, self._smile.feature_names))
        self.feature_size = len(self.columns)
        self._voiced_only = np.array([column.endswith("nz") for column in self.columns])

    def options(self) -> dict[str, Any]:
        return {}

    def extract(self, media, start: float = 0.0, stop: float | None = None) -> FeatureSequence:
        if not media.info.has_audio:
            return self._nothing("There is no sound track, so no sound is described.")
        averages = StepAverages(self.rate, self.feature_size)
        windows = SoundWindows(_HOP, _LONGEST_WINDOW, _WINDOW_FRAMES, _CONTEXT_FRAMES)
        for window in windows.over(media.audio_blocks(SAMPLING_RATE, start, stop)):
            # At the end of sound, openSMILE makes one frame more than its windows would.
            own = slice(window.skip, None if window.last else window.skip + window.count)
            values = self.descriptors(window.samples)[own]
            centres = (window.first + np.arange(len(values))) * (_HOP / SAMPLING_RATE) + _CENTRE_SECONDS
            voiced = values[:, [self.columns.index(_F0)]] > 0
            averages.add(centres, values, voiced | ~self._voiced_only)
        times, means = averages.result()
        if not len(times):
            return self._nothing("The sound is shorter than 60 ms, too short to describe.")
        return FeatureSequence(means, start + times, 1 / self.rate, averages.notes())

    def descriptors(self, samples: np.ndarray) -> np.ndarray:
        """(frames, 25) at 100 Hz, of sound (samples,) at 16 kHz of at least 60 ms."""
        return self._smile(np.clip(samples, -1.0, _LOUDEST), SAMPLING_RATE)[0].T

    def _nothing(self, note: str) -> FeatureSequence:
        return FeatureSequence(np.zeros((0, self.feature_size), np.float32), np.zeros(0), 1 / self.rate, [note])
