"""What all extractors of features from media have in common: sequences with times, and settings that name a kind."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

# Of the settings, what says how the features were computed, but not what they are.
VERSIONS = "versions"


@dataclass
class FeatureSequence:
    """
    Features of a clip, step by step.

    Args:
        values (`np.ndarray`): (steps, features), float32.
        times (`np.ndarray`): (steps,), float64: the middle of each step, in seconds from the start of the media. They
            rise, and need not be evenly spaced: a step without a face is left out.
        step_seconds (`float`): How long a step is.
        notes (list of `str`, *optional*): What a person should know of this clip, a sentence each.
        settings (`dict`, *optional*): Those of the extractor, which name the kind of features.
        boxes (`np.ndarray`, *optional*): (steps, 4), where each step's face is: left, top, width and height, as parts
            of the picture's width and height.
    """

    values: np.ndarray
    times: np.ndarray
    step_seconds: float
    notes: list[str] = field(default_factory=list)
    settings: dict[str, Any] | None = None
    boxes: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.values)

    def between(self, start: float, stop: float) -> np.ndarray:
        """The values (steps, features) whose middle lies in [start, stop), in seconds."""
        return self.values[(self.times >= start) & (self.times < stop)]


def is_feature_sequence(value: Any) -> bool:
    """
    Whether a value is a `FeatureSequence`, of this module or of a copy: the processor and the pipeline of a checkpoint
    that is loaded with its code have modules of their own each.
    """
    return type(value).__name__ == FeatureSequence.__name__


class FeatureExtractor:
    """
    Turns media into a sequence of features.

    A subclass has the class attributes below, takes its options as keyword arguments that JSON can hold, and sets
    `rate` (steps per second), `feature_size` (features per step) and `columns` (their names, in order, where they have
    any). What it computes depends on its settings and the media alone. It reads media as a stream, in bounded memory.

    Class attributes:
        name (`str`): The kind of features.
        modality (`str`): "audio" or "vision".
        description (`str`): What the features are and where they come from, for people, in a sentence's part.
        packages (tuple of `str`): The installed packages whose version matters.
    """

    name: ClassVar[str]
    modality: ClassVar[str]
    description: ClassVar[str]
    packages: ClassVar[tuple[str, ...]] = ()

    rate: float
    feature_size: int
    columns: tuple[str, ...] = ()

    def options(self) -> dict[str, Any]:
        """The keyword arguments that make the same extractor again."""
        raise NotImplementedError

    def versions(self) -> dict[str, str]:
        """Version of each of `packages`, and of anything else that the features depend on."""
        from importlib.metadata import version

        return {package: version(package) for package in self.packages}

    def extract(self, media, start: float = 0.0, stop: float | None = None) -> FeatureSequence:
        """
        Args:
            media: What `media_reading.open_media` gave.
            start, stop (`float`): The part of it, in seconds; by default all.

        Returns:
            The features. No step where the media have nothing that they describe (no sound track, no face), with a
            note that says so.

        Raises:
            MediaError: for media that cannot be read.
        """
        raise NotImplementedError

    def settings(self) -> dict[str, Any]:
        """Kind, rate, size, options and versions, as processor_config.json has them."""
        return {
            "name": self.name,
            "rate": self.rate,
            "feature_size": self.feature_size,
            **self.options(),
            VERSIONS: self.versions(),
        }


def build_extractor(settings: Mapping[str, Any], classes: Mapping[str, type[FeatureExtractor]]) -> FeatureExtractor:
    """
    The extractor of some settings.

    Args:
        settings: As of `FeatureExtractor.settings`; `name`, and options that differ from the defaults, are enough.
        classes: Extractors of the modality by name.

    Raises:
        ValueError: for an unknown name or option, and where the extractor makes other features than the settings say.
    """
    content = dict(settings)
    name = content.pop("name", None)
    if name not in classes:
        nearest = difflib.get_close_matches(str(name), classes, n=1, cutoff=0.0)[0]
        raise ValueError(f"{name!r} is not an extractor; there are {', '.join(classes)}. The nearest is {nearest!r}.")
    content.pop(VERSIONS, None)
    size = content.pop("feature_size", None)
    try:
        extractor = classes[name](**content)
    except TypeError as error:
        raise ValueError(f"The extractor {name!r} does not take these options ({error}): {content}.") from None
    if size is not None and extractor.feature_size != size:
        raise ValueError(
            f"The extractor {name!r} makes {extractor.feature_size} features per step here, but the settings say "
            f"{size}; its versions here are {extractor.versions()}, and there were {settings.get(VERSIONS)}."
        )
    return extractor


def difference(expected: Mapping[str, Any], found: Mapping[str, Any]) -> str | None:
    """
    What makes two settings different kinds of features, in words; None where they are the same. Versions do not count,
    but a model is told by its version, where both have one: its files may lie elsewhere.
    """
    if expected.get("name") != found.get("name"):
        return f"they are of the kind {found.get('name')!r}, not {expected.get('name')!r}"
    models = [settings.get(VERSIONS, {}).get("model") for settings in (expected, found)]
    same_model = models[0] is not None and models[0] == models[1]
    for key in sorted((expected.keys() | found.keys()) - {VERSIONS} - ({"model", "revision"} if same_model else set())):
        if expected.get(key) != found.get(key):
            return (
                f"of the kind {found.get('name')!r}, they have `{key}` {json.dumps(found.get(key))}, not "
                f"{json.dumps(expected.get(key))}"
            )
    return None
