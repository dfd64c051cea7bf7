"""Recipes that name an architecture and take its settings from the recipe that this project has for the corpus."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from configuration import CONFIG_CLASSES
from datasets_scripts.sources import prepare

RECIPES = Path(__file__).resolve().parent.parent / "recipes"
PRESET_KEYS = ("architecture", "corpus")


def with_preset(content: dict[str, Any], load: Callable[[Path], Any]) -> dict[str, Any]:
    """
    A recipe with the settings of its `architecture` on its `corpus`: those of `recipes/<architecture>_<corpus>.yaml`,
    changed by what the recipe says itself.

    Args:
        content: A recipe. `architecture` is a `model_type`; without it nothing is changed. `corpus` is "mosi", "mosei",
            "sims" or any other that the architecture has a recipe for; where it is left out, it is recognised by the
            ids of `data_file`, or is "synthetic".
        load: Reads a YAML file.

    Returns:
        The recipe without `architecture` and `corpus`.

    Raises:
        ValueError: where the corpus is not known, or there is no such recipe.
    """
    if "architecture" not in content:
        if "corpus" in content:
            raise ValueError("`corpus` says whose settings an `architecture` takes; name the architecture, too.")
        return content
    own = {key: value for key, value in content.items() if key not in PRESET_KEYS}
    architecture = str(content["architecture"])
    if "model_type" in own:
        raise ValueError(
            f"`architecture` {architecture!r} takes its settings from a recipe, `model_type` {own['model_type']!r} "
            "starts from the configuration's defaults; give one of them."
        )
    architectures = [config_class.model_type for config_class in CONFIG_CLASSES]
    if architecture not in architectures:
        raise ValueError(f"`architecture` must be one of {', '.join(architectures)}; got {architecture!r}.")
    known = corpora_of(architecture)
    corpus = content.get("corpus") or _recognised(own)
    if corpus not in known:
        said = f"`corpus` {'is' if content.get('corpus') else 'was recognised as'} {corpus!r}"
        raise ValueError(
            f"{said if corpus else 'The ids of the data are of no known corpus'}, but this project has settings of "
            f"{architecture} for {', '.join(known)}; choose one of them as `corpus`."
        )
    preset = load(RECIPES / f"{architecture}_{corpus}.yaml")
    if not content.get("corpus"):
        preset.pop("feature_sets", None)  # ids say whose utterances these are, not how their features were extracted
    if own.get("data_file") is not None:
        preset.pop("synthetic", None)
    if own.get("text_encoder") is not None and "text" not in own:
        preset.pop("text", None)  # what the preset reads instead of text
    return _merged(preset, own)


def corpora_of(architecture: str) -> list[str]:
    """The corpora that the project has a recipe for, of an architecture."""
    return sorted(path.stem.removeprefix(f"{architecture}_") for path in RECIPES.glob(f"{architecture}_*.yaml"))


def _recognised(content: dict[str, Any]) -> str | None:
    if content.get("data_file") is None:
        return "synthetic"
    return prepare(str(content["data_file"]), **(content.get("data_options") or {})).report().corpus


def _merged(below: Any, above: Any) -> Any:
    """What is `above`, and in mappings the rest of what is `below`."""
    if not isinstance(below, dict) or not isinstance(above, dict):
        return above
    return {**below, **{key: _merged(below.get(key), value) for key, value in above.items()}}
