"""A trained checkpoint and the data that it was trained on, or other data for it."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path

import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, HFValidationError
from transformers import AutoModel, AutoProcessor

import modeling  # noqa: F401  (registers the architectures)
import processing  # noqa: F401  (registers the processor)
from datasets_scripts.builder import file_sha256
from processing.feature_extraction import VERSIONS, difference
from training.corpus import Corpus, load_corpus
from training.digests import add_tensors
from training.finished_run import RECIPE_FILE
from training.recipe import Recipe, load_yaml


def load_checkpoint(folder: str):
    """
    Model in evaluation mode and processor, from a folder or an id on the Hub. The model is on a GPU where there is one,
    on one of its own in each process that `accelerate launch` started.
    """
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count())
        torch.cuda.set_device(device)
    return AutoModel.from_pretrained(folder).eval().to(device), AutoProcessor.from_pretrained(folder)


def checkpoint_sha256(model, processor) -> str:
    """The SHA-256 of what decides a checkpoint's predictions: weights, configuration and the processor's files."""
    found = hashlib.sha256(model.config.to_json_string().encode("utf-8"))
    add_tensors(found, model)
    with tempfile.TemporaryDirectory() as folder:
        processor.save_pretrained(folder)
        for path in sorted(file for file in Path(folder).rglob("*") if file.is_file()):
            found.update(f"{path.relative_to(folder)} {file_sha256(path)}".encode())
    return found.hexdigest()


def load_recipe(folder: str | Path) -> Recipe | None:
    """That of a run, or of a checkpoint on the Hub; None where it has none, or cannot be reached."""
    path = Path(folder) / RECIPE_FILE
    if not Path(folder).is_dir():
        try:
            path = Path(hf_hub_download(str(folder), RECIPE_FILE))
        except (EntryNotFoundError, HFValidationError, OSError):
            return None
    return Recipe.from_dict(load_yaml(path), str(path)) if path.is_file() else None


def load_data(folder: str, data_file: str | None = None) -> tuple[Corpus, Recipe | None]:
    """
    The corpus, that of `data_file` or of the checkpoint's recipe, and the recipe, where the folder has one.

    Raises:
        ValueError: if neither says what to read.
    """
    recipe = load_recipe(folder)
    if data_file is not None:
        corpus = load_corpus(data_file)
    elif recipe is not None:
        corpus = load_corpus(recipe.data_file, recipe.synthetic, recipe.data_sha256, recipe.data_options)
    else:
        raise ValueError(f"{folder} has no {RECIPE_FILE}; say what to read with --data_file.")
    return corpus, recipe


def check_features(corpus: Corpus, processor) -> None:
    """
    Raises:
        ValueError: for features that another extractor made than those that the checkpoint was trained on. Of features
            that no extractor of this collection made, only the size is known, which the processor checks.
    """
    for modality, found in corpus.extractors.items():
        expected = getattr(processor, f"{modality}_extractor", None)
        if expected is not None and (other := difference(expected, found)) is not None:
            settings = json.dumps({name: value for name, value in expected.items() if name != VERSIONS})
            raise ValueError(
                f"The {modality} features of {corpus.name} are not those that the checkpoint was trained on: {other}. "
                f"Extract them again with the checkpoint's settings: python extract.py MEDIA_FOLDER --{modality} "
                f"'{settings}' --output FOLDER."
            )


def text_column(corpus: Corpus, processor, recipe: Recipe | None) -> str | None:
    """
    The text that the checkpoint was trained on, or the nearest that the data has. Whoever reads data for a checkpoint
    asks this first; data that it cannot read are refused here.

    Raises:
        ValueError: as `check_features`.
    """
    check_features(corpus, processor)
    fitting = corpus.fitting_text(has_encoder=processor.text_input == "tokens")
    if processor.text_input is None or not fitting:
        return None
    return recipe.text if recipe is not None and recipe.text in fitting else fitting[0]
