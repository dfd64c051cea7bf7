"""What a card says of features that were extracted from media: here everything is known."""

from __future__ import annotations

import json
from typing import Any

from datasets_scripts.cards.markdown import code, item, prose


def extractor_words(modality: str, made: dict[str, Any]) -> str:
    """The paragraph of a modality's features.

    Args:
        modality: whose.
        made: an entry of `ConversionReport.extractors`.
    """
    settings = dict(made["settings"])
    versions = ", ".join(f"{prose(name)} {prose(version)}" for name, version in settings.pop("versions", {}).items())
    size, rate, columns = settings["feature_size"], settings["rate"], made["columns"]
    text = (
        f"{code(f'{modality}_values')}, {size:,} features, {rate:g} steps per second, extracted from the media by "
        f"Sentimodal's {code(settings['name'])}: {prose(made['description'])}{f' ({versions})' if versions else ''}. "
        f"Its settings, with which `extract.py --{modality}` makes the same of other media: "
        f"{code(json.dumps(settings))}."
    )
    if not columns:
        return text
    names = "\n".join(item(f"{index}.", name) for index, name in enumerate(columns))
    return f"{text}\n\n<details><summary>The {size:,} features, in order</summary>\n\n{names}\n\n</details>"
