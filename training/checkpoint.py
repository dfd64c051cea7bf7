"""A trained checkpoint and the data that it was trained on, or other data for it."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, HFValidationError
from transformers import AutoModel, AutoProcessor

import modeling  # noqa: F401  (registers the architectures)
import processing  # noqa: F401  (registers the processor)
from processing.feature_extraction import VERSIONS, difference
from training.corpus import Corpus, load_corpus
from training.finished_run import RECIPE_FILE
from training.recipe import Recipe, load_yaml


def load_checkpoint(folder: str):
    """Model in evaluation mode, on a GPU where there is one, and processor, from a folder or an id on the Hub."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return AutoModel.from_pretrained(folder).eval().to(device), AutoProcessor.from_pretrained(folder)


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
