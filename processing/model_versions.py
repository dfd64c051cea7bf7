"""Which version of a pretrained model features come from."""

from __future__ import annotations

import hashlib
from pathlib import Path

from transformers.utils import cached_file

CHUNK_BYTES = 1 << 20


def model_version(model: str, revision: str | None = None) -> str:
    """
    What names the version of a model: its commit, where it is from the Hub; of a folder "sha256:..." of its config.json
    and weights.

    Args:
        model (`str`): A model on the Hub, or a folder, as `from_pretrained` takes it.
        revision (`str`, *optional*): Of a model on the Hub.

    Raises:
        OSError: where there is no such model.
    """
    config = Path(str(cached_file(model, "config.json", revision=revision)))
    # A file of the Hub lies in the cache at snapshots/<commit>/.
    if not Path(model).is_dir() and config.parent.parent.name == "snapshots":
        return config.parent.name
    return f"sha256:{digest(config, *sorted(config.parent.glob('*.safetensors')))}"


def digest(*files: Path) -> str:
    """SHA-256 of the contents of files, one after the other."""
    total = hashlib.sha256()
    for file in files:
        with open(file, "rb") as content:
            while chunk := content.read(CHUNK_BYTES):
                total.update(chunk)
    return total.hexdigest()
