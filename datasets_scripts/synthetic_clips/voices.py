"""
Synthetic voices: harmonics of a pitch, through the formants of vowels, in the rhythm of syllables, with hisses between.

What shows the sentiment is how high, how lively, how loud and how bright the voice is. It is a formant synthesiser made
simple, after D. H. Klatt, "Software for a cascade/parallel formant synthesizer", JASA 67(3), 1980; no word of it can be
understood.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

SAMPLING_RATE = 16_000

# First three formants of vowels, in hertz: about those of men in Peterson & Barney, "Control methods used in a study of
# the vowels", JASA 24(2), 1952.
_FORMANTS = {
    "a": (730, 1090, 2440),
    "e": (530, 1840, 2480),
    "i": (270, 2290, 3010),
    "o": (570, 840, 2410),
    "u": (300, 870, 2240),
}
_FORMANTS["y"] = _FORMANTS["i"]
_BANDWIDTHS = np.array([80.0, 110.0, 160.0])
_GAINS = np.array([1.0, 0.6, 0.35])
_HIGHEST = 4500.0  # hertz; no harmonics above


@dataclass(frozen=True)
class Voice:
    """What a speaker sounds like."""

    pitch: float  # hertz, at rest
    formant_scale: float  # how short the vocal tract is: 1 for a man of average height
    rate: float  # syllables per second
    hoarseness: float  # share of noise in the voice


@dataclass(frozen=True)
class Speech:
    """
    Attributes:
        sound: (samples,), float32, within [-1, 1], at `SAMPLING_RATE`.
        opening: (samples,), float32: how open the mouth is, 0 to 1.
    """

    sound: np.ndarray
    opening: np.ndarray

    @property
    def seconds(self) -> float:
        return len(self.sound) / SAMPLING_RATE


def draw_voice(random: np.random.Generator) -> Voice:
    """A speaker's voice, at random: lower and longer, or higher and shorter vocal tracts."""
    high = random.random() < 0.5
    return Voice(
        pitch=random.uniform(170, 215) if high else random.uniform(100, 135),
        formant_scale=random.uniform(1.10, 1.2) if high else random.uniform(0.95, 1.05),
        rate=random.uniform(4.6, 5.4),
        hoarseness=random.uniform(0.01, 0.04),
    )


def syllables(text: str) -> list[str]:
    """The vowel of each syllable, roughly: the first letter of each run of vowels."""
    runs = (re.findall(r"[aeiouy]+", word) or ["e"] for word in text.lower().split())
    return [run[0] for word in runs for run in word]


def speak(text: str, voice: Voice, sentiment: float, random: np.random.Generator) -> Speech:
    """
    A voice for a text.

    Args:
        text (`str`): What would be said.
        voice (`Voice`): Who says it.
        sentiment (`float`): How it sounds, from -1 to 1: a higher pitch (by a fifth in all), more of its
            movement, a louder voice (by 9 dB in all) and more of the high harmonics.
        random: What the rest depends on.
    """
    vowels = syllables(text)
    lengths = random.uniform(0.75, 1.25, size=len(vowels)) / voice.rate / (1 + 0.06 * sentiment)
    lengths[-1] *= 1.4
    ends = 0.2 + np.cumsum(lengths)
    time = np.arange(round((ends[-1] + 0.25) * SAMPLING_RATE)) / SAMPLING_RATE
    middles = ends - lengths / 2
    opening = _openings(time, middles, lengths, random)
    pitch = _pitch(time, middles, voice, sentiment, random)
    formants = np.array([_FORMANTS[vowel] for vowel in vowels]) * voice.formant_scale
    tracks = np.stack([np.interp(time, middles, formants[:, i]) for i in range(3)], axis=1)
    sound = _voiced(pitch, tracks, tilt=-1.5 + 0.7 * sentiment, hoarseness=voice.hoarseness, random=random) * opening
    sound += _hisses(time, ends[:-1], random)
    loudness = 0.11 * 10 ** (4.5 * sentiment / 20)  # root mean square where it speaks
    sound *= loudness / np.sqrt(np.mean(sound[opening > 0.3] ** 2))
    return Speech(np.tanh(sound).astype(np.float32), opening.astype(np.float32))


def _openings(time, middles, lengths, random) -> np.ndarray:
    """One bump per syllable, (samples,)."""
    opening = np.zeros(len(time))
    for middle, length, height in zip(middles, lengths, random.uniform(0.7, 1.0, size=len(middles)), strict=True):
        around = np.abs(time - middle) / (0.62 * length)
        near = around < 1
        opening[near] = np.maximum(opening[near], height * np.cos(0.5 * np.pi * around[near]))
    return opening


def _pitch(time, middles, voice: Voice, sentiment: float, random) -> np.ndarray:
    """Hertz, (samples,): falls through the sentence, with an accent up or down on each syllable."""
    level = voice.pitch * 2 ** (3.5 * sentiment / 12)
    movement = 0.12 * 2 ** (1.3 * sentiment)  # octaves
    accents = movement * random.choice((-1.0, 1.0), size=len(middles)) * random.uniform(0.6, 1.4, size=len(middles))
    share = (time - time[0]) / (time[-1] - time[0])
    octaves = np.interp(time, middles, accents) + movement * (0.5 - share)
    flutter = 0.006 * np.sin(2 * np.pi * 5.5 * time + random.uniform(0, 2 * np.pi))
    return level * 2 ** (octaves + flutter)


def _voiced(pitch, formants, tilt: float, hoarseness: float, random) -> np.ndarray:
    """A sum of harmonics, (samples,), each as strong as the formants let it be."""
    phase = 2 * np.pi * np.cumsum(pitch) / SAMPLING_RATE
    # Strengths change slowly; they are computed once in ten milliseconds.
    step = SAMPLING_RATE // 100
    coarse = np.arange(0, len(pitch), step)
    every = np.arange(len(pitch))
    sound = np.zeros(len(pitch))
    # sin((n + 1) x) = 2 cos(x) sin(n x) - sin((n - 1) x) spares the sines of all harmonics but the first.
    doubled_cosine, before, wave = 2 * np.cos(phase), np.zeros(len(pitch)), np.sin(phase)
    for harmonic in range(1, int(_HIGHEST / pitch.min()) + 1):
        frequency = harmonic * pitch[coarse]
        away = (frequency[:, None] - formants[coarse]) / (2 * _BANDWIDTHS)
        strength = (_GAINS / (1 + away**2)).sum(axis=1) * harmonic**tilt * (frequency < _HIGHEST)
        sound += np.interp(every, coarse, strength) * wave
        before, wave = wave, doubled_cosine * wave - before
    noise = random.normal(size=len(pitch)) * np.abs(np.sin(phase / 2))
    return sound + hoarseness * np.std(sound) * noise


def _hisses(time, places, random) -> np.ndarray:
    """A short hiss between some syllables, (samples,)."""
    sound = np.zeros(len(time))
    noise = np.diff(random.normal(size=len(time) + 1))  # more high than low
    for place in places[random.random(len(places)) < 0.4]:
        sound += 0.05 * noise * np.exp(-(((time - place) / 0.018) ** 2))
    return sound
