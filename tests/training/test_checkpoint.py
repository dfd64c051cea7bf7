"""A checkpoint, the data that it was trained on, and which text of the data it reads."""

import copy
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml

from training.checkpoint import load_checkpoint, load_data, text_column


@pytest.fixture
def run(trained, tmp_path, monkeypatch):
    """A run's folder, to be changed."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "datasets_cache")
    shutil.copytree(trained[1] / "run", tmp_path / "run", ignore=shutil.ignore_patterns("checkpoint-*"))
    return tmp_path / "run"


def test_model_and_processor(run):
    model, processor = load_checkpoint(str(run))
    assert not model.training
    assert model.device.type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert model.config.modalities == ("text", "audio", "vision")
    assert (model.config.audio_feature_size, processor.audio_feature_size) == (4, 4)
    assert processor.tokenize(["this is good"])[0]


def test_the_data_of_the_run(trained, run):
    corpus, recipe = load_data(str(run))
    assert recipe.data_file == str(trained[1] / "data.pkl") and corpus.sha256 == recipe.data_sha256
    np.testing.assert_array_equal(corpus.splits["test"]["label"][:], trained[0]["test"]["regression_labels"])


def test_the_data_of_the_run_must_be_what_it_was(trained, run):
    content = yaml.safe_load((run / "recipe.yaml").read_text())
    (run / "recipe.yaml").write_text(yaml.safe_dump({**content, "data_sha256": "0" * 64}))
    with pytest.raises(ValueError, match="SHA-256"):
        load_data(str(run))


def test_other_data(trained, run, mmsa_file):
    """Takes the place of the recipe's, whose SHA-256 says nothing of it."""
    other = copy.deepcopy(trained[0])
    other["test"]["regression_labels"] = -other["test"]["regression_labels"]
    corpus, recipe = load_data(str(run), mmsa_file(other, "other.pkl"))
    np.testing.assert_array_equal(corpus.splits["test"]["label"][:], other["test"]["regression_labels"])
    assert corpus.sha256 != recipe.data_sha256 and recipe.data_file == str(trained[1] / "data.pkl")


def test_without_a_recipe(trained, run, mmsa_file):
    (run / "recipe.yaml").unlink()
    for folder in (str(run), "someone/on-the-hub"):
        with pytest.raises(ValueError, match=rf"{folder} has no recipe\.yaml.*--data_file"):
            load_data(folder)
    corpus, recipe = load_data(str(run), mmsa_file(trained[0]))
    assert recipe is None and len(corpus.splits["test"]) == 9


def test_synthetic_data(run):
    content = yaml.safe_load((run / "recipe.yaml").read_text())
    content |= {"data_file": None, "data_sha256": None, "synthetic": {"train": 5, "valid": 3, "test": 4}}
    (run / "recipe.yaml").write_text(yaml.safe_dump(content))
    corpus, _ = load_data(str(run))
    assert corpus.sha256 is None and len(corpus.splits["test"]) == 4


@pytest.mark.parametrize(
    ("text_input", "wanted", "lacking", "expected"),
    [
        ("tokens", None, (), "raw_text"),
        ("tokens", "input_ids", (), "input_ids"),
        ("tokens", "raw_text", ("raw_text",), "input_ids"),  # the nearest that there is
        ("tokens", "text_values", (), "raw_text"),
        ("tokens", None, ("raw_text", "text_bert"), None),
        ("values", None, (), "text_values"),
        ("values", "raw_text", (), "text_values"),
        ("values", "text_values", ("text",), None),
        (None, "raw_text", (), None),
    ],
)
def test_which_text_is_read(trained, run, mmsa_file, text_input, wanted, lacking, expected):
    less = {name: {k: v for k, v in split.items() if k not in lacking} for name, split in trained[0].items()}
    corpus, recipe = load_data(str(run), mmsa_file(less))
    recipe.text = wanted
    processor = SimpleNamespace(text_input=text_input)
    assert text_column(corpus, processor, recipe) == expected
    if wanted is None:
        assert text_column(corpus, processor, None) == expected
