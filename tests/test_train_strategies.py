"""Runs of every architecture with every source of unimodal labels."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file

import train
from datasets_scripts import MODALITIES, SyntheticCorpus
from training.progress import EpochLine

MODELS = {
    "self_mm": {f"{part}_size": 8 for part in ("audio_hidden", "vision_hidden", "fusion", *MODALITIES)},
    "sugrm": {"common_size": 8, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2},
    "mmlatch": {"hidden_size": 8},
    "ucrn": {"hidden_size": 6, "num_hidden_layers": 1},
    "delta_attention": {"hidden_size": 8, "num_attention_heads": 2, "target": "sentiment"},
}


@pytest.fixture
def write_recipe(tiny_recipe):
    content = yaml.safe_load(Path(tiny_recipe()).read_text())

    def write(model_type, label_generation, **fields):
        model = {"text_config": content["model"]["text_config"], **MODELS[model_type], **fields}
        training = {**content["training"], "num_train_epochs": 2}
        return tiny_recipe(model_type=model_type, label_generation=label_generation, model=model, training=training)

    write.train_split = SyntheticCorpus(**content["synthetic"]).build()["train"]
    return write


@pytest.mark.parametrize("model_type", ["self_mm", "sugrm"])
@pytest.mark.parametrize("label_generation", ["self_mm", "sugrm"])
def test_every_model_with_every_strategy(write_recipe, tmp_path, model_type, label_generation):
    out = tmp_path / "run"
    results = train.main([write_recipe(model_type, label_generation), "--output_dir", str(out)])

    table, split = pq.read_table(out / "generated_labels.parquet"), write_recipe.train_split
    assert table["epoch"].to_pylist() == [1] * 48 + [2] * 48
    assert table["id"].to_pylist() == split["id"][:].tolist() * 2
    for modality in MODALITIES:
        first, last = table[modality].to_numpy().reshape(2, 48)
        np.testing.assert_array_equal(first, split["label"][:].astype(np.float32))
        there = np.array([len(values) > 0 for values in split["text" if modality == "text" else f"{modality}_values"]])
        assert (last == first)[~there].all() and not there.all()
        assert (last != first)[there].mean() > 0.9
        error = np.abs(last - split[f"{modality}_label"][:]).mean()
        assert results[f"train_{modality}_label_mae"] == pytest.approx(error, abs=1e-6)

    with safe_open(out / "checkpoint-12" / "label_generation.safetensors", framework="pt") as state:
        spaces = {name.split(".")[1] for name in state.keys() if name.startswith("spaces.")}  # noqa: SIM118
    assert spaces == ({"fusion", *MODALITIES} if label_generation == "self_mm" else {"fusion", "extremes"})

    card = (out / "README.md").read_text()
    notes = [line for line in card.splitlines() if line.startswith("- Label generation: ")]
    if label_generation == "self_mm":
        assert notes == []
    else:  # 48 samples, of which none has the label 3 or -3
        for note, end, value in zip(notes, (3, -3), (split["label"][:].max(), split["label"][:].min()), strict=True):
            assert f"label {end};" in note and f"({value:g} to {value:g})" in note


def refused(arguments, out):
    with pytest.raises(ValueError) as caught:
        train.main([*arguments, "--output_dir", str(out)])
    assert not out.exists()
    return str(caught.value)


def test_self_mm_needs_one_width_for_labels_from_a_common_space(write_recipe, tmp_path):
    recipe = write_recipe("self_mm", "sugrm", fusion_size=16, vision_size=4)
    message = refused([recipe], tmp_path / "out")
    assert "`label_generation`" in message and "fusion 16, text 8, audio 8, vision 4" in message
    for name in ("fusion", *MODALITIES):
        assert f"model.{name}_size" in message


@pytest.mark.parametrize("label_generation", ["self_mm", "sugrm", "human"])
@pytest.mark.parametrize("model_type", ["mmlatch", "ucrn", "delta_attention"])
def test_an_architecture_without_unimodal_tasks_takes_no_labels(write_recipe, tmp_path, model_type, label_generation):
    message = refused([write_recipe(model_type, label_generation)], tmp_path / "out")
    assert f"`label_generation: {label_generation}`" in message and "none" in message


def test_an_architecture_without_unimodal_tasks_trains(write_recipe, tmp_path):
    out = tmp_path / "run"
    train.main([write_recipe("mmlatch", "none"), "--output_dir", str(out), "--num_train_epochs", "1"])
    assert not (out / "generated_labels.parquet").exists()
    table = pq.read_table(out / "predictions_test.parquet")
    assert table["prediction"].null_count == 0
    assert not [name for name in table.column_names if name.endswith("_prediction") and table[name].null_count < 16]
    assert json.loads((out / "config.json").read_text())["model_type"] == "mmlatch"


class KilledError(Exception):
    pass


def test_a_resumed_run_generates_the_same_labels(write_recipe, tmp_path, monkeypatch):
    """Three steps an epoch, a checkpoint every two, killed in the second epoch, which is the first to make labels."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    arguments = [write_recipe("sugrm", "sugrm"), "--synthetic.train", "24", "--save_strategy", "steps"]
    arguments += ["--save_steps", "2", "--eval_strategy", "no", "--load_best_model_at_end", "false"]
    train.main([*arguments, "--output_dir", str(whole)])

    def die(self, args, state, control, **kwargs):
        if state.global_step == 5:
            raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(EpochLine, "on_step_end", die, raising=False)
        with pytest.raises(KilledError):
            train.main([*arguments, "--output_dir", str(broken)])
    assert (broken / "checkpoint-4").is_dir() and not (broken / "all_results.json").exists()
    train.main([*arguments, "--output_dir", str(broken), "--resume_from_checkpoint", "true"])

    labels, weights = pq.read_table(whole / "generated_labels.parquet"), load_file(whole / "model.safetensors")
    assert labels.equals(pq.read_table(broken / "generated_labels.parquet"))
    resumed = load_file(broken / "model.safetensors")
    assert all(torch.equal(weights[name], resumed[name]) for name in weights)
