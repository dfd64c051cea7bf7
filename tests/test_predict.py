"""Predictions with a run's folder: tables, one text, and data that does not fit the checkpoint."""

import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

import predict
from configuration import TARGETS
from tests.conftest import TINY_RECIPE
from training.corpus import load_corpus
from training.factory import build_model, build_processor
from training.prediction import reference_names
from training.recipe import Recipe
from training.remote_code import write_checkpoint
from training.run_folder import RunFolder
from training.targets import Target


def table_of(arguments, path):
    predict.main([*arguments, "--output", str(path)])
    return pq.read_table(path)


def test_predictions_are_those_of_the_run(trained, mmsa_file, tmp_path, capsys):
    content, folder = trained
    file = mmsa_file(content)
    for split in ("valid", "test"):
        table = table_of([str(folder / "run"), "--data_file", file, "--split", split], tmp_path / "p.parquet")
        expected = pq.read_table(folder / "run" / f"predictions_{split}.parquet")
        assert table.column_names == expected.column_names
        assert table["id"].equals(expected["id"])
        for name in expected.column_names[1:]:
            np.testing.assert_allclose(table[name].to_numpy(), expected[name].to_numpy(), atol=1e-6)
    assert "mae " in capsys.readouterr().out


def test_the_data_of_the_recipe_is_the_default(trained, mmsa_file, capsys):
    _, folder = trained
    predict.main([str(folder / "run"), "--split", "valid", "--limit", "3"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[2:]] == ["valid$_$0", "valid$_$1", "valid$_$2"]
    assert "mae" not in lines[-1]  # three samples are not the split


def test_one_text(trained, capsys):
    _, folder = trained
    predict.main([str(folder / "run"), "--text", "this is good"])
    assert "sentiment " in capsys.readouterr().out


def test_data_that_lacks_a_modality(trained, mmsa_file, tmp_path):
    content, folder = trained
    less = {name: {k: v for k, v in split.items() if "vision" not in k} for name, split in content.items()}
    table = table_of([str(folder / "run"), "--data_file", mmsa_file(less)], tmp_path / "p.parquet")
    assert table["vision_prediction"].null_count == len(table)
    assert table["audio_prediction"].null_count == 0
    assert np.isfinite(table["prediction"].to_numpy()).all()


def test_data_without_text(trained, mmsa_file, tmp_path):
    content, folder = trained
    less = {name: {k: v for k, v in split.items() if "text" not in k} for name, split in content.items()}
    table = table_of([str(folder / "run"), "--data_file", mmsa_file(less)], tmp_path / "p.parquet")
    assert table["text_prediction"].null_count == len(table)
    assert np.isfinite(table["prediction"].to_numpy()).all()


def test_wrong_feature_size_against_a_checkpoint(trained, mmsa_file, tmp_path):
    content, folder = trained
    wrong = {name: {**split, "audio": np.repeat(split["audio"], 2, axis=2)} for name, split in content.items()}
    with pytest.raises(ValueError, match=r"`audio_values` has 8 features per step.*trained on 4.*extract"):
        table_of([str(folder / "run"), "--data_file", mmsa_file(wrong)], tmp_path / "p.parquet")
    assert not list(tmp_path.glob("*p.parquet*"))


def test_a_folder_without_a_recipe_needs_data(trained, tmp_path):
    _, folder = trained
    shutil.copytree(folder / "run", tmp_path / "copy", ignore=shutil.ignore_patterns("recipe.yaml", "checkpoint-*"))
    with pytest.raises(ValueError, match="no recipe.yaml.*--data_file"):
        predict.main([str(tmp_path / "copy")])


def test_a_folder_that_is_none(tmp_path):
    with pytest.raises((OSError, ValueError), match="nowhere"):
        predict.main([str(tmp_path / "nowhere"), "--text", "hello"])


# Classes and emotions


@pytest.fixture(scope="module", params=[name for name in TARGETS if name != "sentiment"])
def checkpoint(request, tmp_path_factory):
    """An untrained checkpoint that predicts classes or emotions, in the way of a finished run; and its target."""
    sizes = {"hidden_size": 8, "num_attention_heads": 2, "correlation_size": 4, "fusion_size": 8, "max_steps": 16}
    text_config = TINY_RECIPE["model"]["text_config"]
    synthetic = {"train": 6, "valid": 5, "test": 7, "seed": 3, "missing": 0.3, "emotions": True}
    model = {"target": request.param, "text_config": text_config, **sizes}
    recipe = Recipe.from_dict({"model_type": "delta_attention", "synthetic": synthetic, "model": model})
    corpus = load_corpus(synthetic=synthetic)
    processor = build_processor(recipe, corpus, "raw_text")
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("checkpoint") / "run"
    RunFolder(path, recipe).claim()
    write_checkpoint(path, build_model(recipe, processor), processor)
    return str(path), Target(request.param), corpus.splits["test"]


def test_a_line_of_probabilities_per_sample(checkpoint, capsys):
    """The heading names them; what is true stands at the end: a sentiment, or the emotions that are present."""
    folder, target, rows = checkpoint
    predict.main([folder])
    heading, *lines, metrics = capsys.readouterr().out.splitlines()
    assert heading.split() == ["id", *target.score_names, "label"] and len(lines) == len(rows) == 7
    labels = []
    for line, row in zip(lines, rows, strict=True):
        sample, *shown = line.split()
        numbers = [float(number) for number in shown[: len(target.score_names)]]
        assert sample == row["id"] and all(0 <= number <= 1 for number in numbers)
        if target.name != "emotions":
            assert sum(numbers) == pytest.approx(1, abs=0.05)
        labels.append(" ".join(shown[len(numbers) :]))
        if target.of_emotions:
            there = [name for name, value in zip(target.score_names, row["emotions"], strict=True) if value > 0]
            assert labels[-1] == (", ".join(there) or "none")
        else:
            assert labels[-1] == f"{row['label']:+.2f}"
    assert len(set(labels)) > 2
    assert [part.split()[0] for part in metrics.split(", ")] == list(target.metric_names)


def test_the_table_of_probabilities(checkpoint, tmp_path, capsys):
    folder, target, rows = checkpoint
    table = table_of([folder, "--limit", "5"], tmp_path / "p.parquet")
    assert table["id"].to_pylist() == rows["id"][:5].tolist()
    heads = [f"{head}{name}" for head in ("", "text_", "audio_", "vision_") for name in target.score_names]
    assert table.column_names == ["id", *reference_names(target), *heads]
    there = [len(row["audio_values"]) > 0 for row in rows.select(range(5))]
    assert [value is not None for value in table[f"audio_{target.score_names[0]}"].to_pylist()] == there
    assert capsys.readouterr().out == f"5 predictions in {tmp_path / 'p.parquet'}\n"  # five are not the split


def test_the_classes_of_one_text(checkpoint, capsys):
    """From the most to the least likely, by their names in the configuration."""
    folder, target, _ = checkpoint
    predict.main([folder, "--text", "the plot was good"])
    printed = capsys.readouterr().out.splitlines()
    lines = [line.rpartition(" ") for line in printed if not line.startswith("of the ")]
    assert sorted(name for name, _, _ in lines) == sorted(TARGETS[target.name][1])
    numbers = [float(number) for _, _, number in lines]
    assert numbers == sorted(numbers, reverse=True) and all(0 < number < 1 for number in numbers)
    if target.name != "emotions":
        assert sum(numbers) == pytest.approx(1, abs=0.01)


def test_data_without_what_is_predicted(checkpoint, capsys, mmsa_content, mmsa_file):
    """A file has no emotions as a rule: predictions without labels, and without scores."""
    folder, target, _ = checkpoint
    for split in mmsa_content.values():
        split["audio"], split["vision"] = np.repeat(split["audio"], 2, axis=2), np.repeat(split["vision"], 2, axis=2)
    predict.main([folder, "--data_file", mmsa_file(mmsa_content)])
    _, *lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:9]] == mmsa_content["test"]["id"]
    if target.of_emotions:
        assert len(lines) == 9 and all(line.endswith("  -") for line in lines)
    else:
        assert lines[9].startswith(target.metric_names[0])
