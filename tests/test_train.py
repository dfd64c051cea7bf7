"""A run from end to end: what it leaves behind, running it again, resuming it, and every way to get it wrong."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoModel, AutoProcessor

import train
from tests.conftest import killed_run, tiny_text_encoder
from training.label_generation import SelfMMLabelGenerator

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"
STEPS = ("--eval_strategy", "steps", "--eval_steps", "2", "--save_strategy", "steps", "--save_steps", "2")


def results_of(folder):
    results = json.loads((folder / "all_results.json").read_text())
    for cost in ("train_seconds", "seconds_per_epoch", "peak_memory_mb"):
        results.pop(cost)
    return results


def assert_same_run(folder, other):
    assert results_of(folder) == results_of(other)
    ours, theirs = load_file(folder / "model.safetensors"), load_file(other / "model.safetensors")
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    for name in ("generated_labels.parquet", "predictions_valid.parquet", "predictions_test.parquet"):
        assert pq.read_table(folder / name).equals(pq.read_table(other / name)), name


def test_a_run_leaves_everything_that_it_promises(tiny_recipe, tmp_path):
    out = tmp_path / "run"
    results = train.main([tiny_recipe(), "--output_dir", str(out)])

    names = {path.name for path in out.iterdir()}
    assert names >= {
        "config.json",
        "model.safetensors",
        "processor_config.json",
        "tokenizer.json",
        "README.md",
        "recipe.yaml",
        "all_results.json",
        "generated_labels.parquet",
        "predictions_valid.parquet",
        "predictions_test.parquet",
        "training_record.json",
        "modeling_self_mm.py",
        "processing_multimodal.py",
    }
    assert not [name for name in names if "incomplete" in name]
    for split in ("valid", "test"):
        table = pq.read_table(out / f"predictions_{split}.parquet")
        columns = ["id", "label", "prediction", "text_prediction", "audio_prediction", "vision_prediction"]
        assert table.column_names == columns
        assert len(table) == 16
        error = np.abs(table["prediction"].to_numpy() - table["label"].to_numpy()).mean()
        assert results[f"{split}_mae"] == pytest.approx(error, abs=1e-6)
        nulls = [table[name].null_count for name in columns]
        assert nulls[:3] == [0, 0, 0]
        assert sum(nulls[3:]) > 0  # a tenth of the modalities is missing
    labels = pq.read_table(out / "generated_labels.parquet")
    assert labels.column_names == ["id", "epoch", "text", "audio", "vision"]
    assert sorted(set(labels["epoch"].to_pylist())) == [1, 2, 3]
    assert len(labels) == 3 * 48
    card = (out / "README.md").read_text()
    (scored,) = yaml.safe_load(card.split("---")[1])["model-index"][0]["results"]
    written = {one["type"]: one["value"] for one in scored["metrics"]}
    assert written["mae"] == pytest.approx(results["test_mae"], abs=5e-5)
    assert f"| {results['valid_mae']:.3f} | {results['test_mae']:.3f} |" in card
    assert "$" not in card.replace("$_$", "")
    config = (out / "config.json").read_text()
    assert str(tmp_path) not in config


def test_a_run_learns_and_its_checkpoint_predicts_the_same(tiny_recipe, tmp_path):
    out = tmp_path / "run"
    train.main(
        [tiny_recipe(), "--output_dir", str(out), "--num_train_epochs", "16", "--synthetic.train", "400",
         "--synthetic.valid", "60", "--model.text_config.hidden_size", "32", "--learning_rate", "3e-3"]
    )  # fmt: skip
    assert results_of(out)["test_corr"] > 0.5

    model, processor = AutoModel.from_pretrained(out).eval(), AutoProcessor.from_pretrained(out)
    outputs = model(**processor(text=["the plot was superb", "the plot was dreadful"]))
    assert outputs.logits[0] > outputs.logits[1]


def test_the_resolved_recipe_runs_again_to_the_same_result(tiny_recipe, tmp_path):
    train.main([tiny_recipe(), "--output_dir", str(tmp_path / "a"), "--num_train_epochs", "2"])
    train.main([str(tmp_path / "a" / "recipe.yaml"), "--output_dir", str(tmp_path / "b")])
    assert_same_run(tmp_path / "a", tmp_path / "b")


@pytest.mark.parametrize("step", [3, 6, 9, 13], ids=lambda step: f"killed_at_{step}")
def test_a_resumed_run_ends_like_an_unbroken_one(tiny_recipe, tmp_path, monkeypatch, step):
    """Six steps an epoch, a checkpoint every two: killed before, at and after an epoch's end."""
    recipe = tiny_recipe()
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train.main([recipe, *STEPS, "--output_dir", str(whole)])
    killed_run(monkeypatch, [recipe, *STEPS, "--output_dir", str(broken)], step)
    assert not (broken / "all_results.json").exists()
    train.main([recipe, *STEPS, "--output_dir", str(broken), "--resume_from_checkpoint", "true"])
    assert_same_run(whole, broken)


def test_a_checkpoint_that_was_not_written_whole_is_passed_over(tiny_recipe, tmp_path, monkeypatch):
    recipe = tiny_recipe()
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train.main([recipe, *STEPS, "--output_dir", str(whole)])
    killed_run(monkeypatch, [recipe, *STEPS, "--output_dir", str(broken)], 11)
    newest = max(broken.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    state = newest / "trainer_state.json"
    state.write_text(state.read_text()[:100])
    train.main([recipe, *STEPS, "--output_dir", str(broken), "--resume_from_checkpoint", "true"])
    assert_same_run(whole, broken)


def test_resuming_brings_the_labels_back_not_only_the_weights(tiny_recipe, tmp_path, monkeypatch):
    """The test above would pass for labels that never differ from the multimodal ones; these do."""
    killed_run(monkeypatch, [tiny_recipe(), *STEPS, "--output_dir", str(tmp_path / "run")], 13)
    generator = SelfMMLabelGenerator(
        [f"train{i}$_$0" for i in range(48)], np.zeros(48), ("text", "audio", "vision"), (-3, 3)
    )
    newest = max((tmp_path / "run").glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    generator.load(newest / "label_generation.safetensors")
    assert generator.epoch == 2
    assert (generator.labels["text"][:-1] - generator.labels["audio"][:-1]).abs().max() > 0.01


@pytest.mark.slow
def test_a_process_that_is_really_killed_resumes(tiny_recipe, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "train.py"), tiny_recipe(), *STEPS, "--num_train_epochs", "20"]
    train.main([*command[2:], "--output_dir", str(tmp_path / "whole")])
    broken = tmp_path / "broken"
    process = subprocess.Popen([*command, "--output_dir", str(broken)], env=environment, cwd=tmp_path)
    deadline = time.time() + 120
    while not list(broken.glob("checkpoint-1?")) and time.time() < deadline:
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert not (broken / "all_results.json").exists()
    resumed = [*command, "--output_dir", str(broken), "--resume_from_checkpoint", "true"]
    subprocess.run(resumed, env=environment, cwd=tmp_path, check=True)
    assert_same_run(tmp_path / "whole", broken)


def test_bf16_trains(tiny_recipe, tmp_path):
    results = train.main([tiny_recipe(), "--output_dir", str(tmp_path / "run"), "--bf16", "true"])
    assert all(value == value for value in results.values())


@pytest.mark.parametrize("text", ["raw_text", "input_ids", "text_values"])
def test_every_kind_of_text_in_a_file(tiny_recipe, mmsa_content, mmsa_file, tmp_path, text):
    arguments = [tiny_recipe(synthetic=None, data_file="unset"), "--data_file", mmsa_file(mmsa_content)]
    arguments += ["--output_dir", str(tmp_path / "run"), "--num_train_epochs", "1", "--text", text]
    if text == "text_values":
        arguments += ["--model.text_config", "null"]
    if text == "input_ids":  # ids of a vocabulary of 25 words
        arguments += ["--text_encoder", str(bert_folder(tmp_path / "encoder"))]
    train.main(arguments)
    names = AutoProcessor.from_pretrained(tmp_path / "run").model_input_names
    assert names[0] == ("text_values" if text == "text_values" else "input_ids")
    card = (tmp_path / "run" / "README.md").read_text()
    assert str(tmp_path) not in card
    assert "data_file: data.pkl" in card
    recipe = yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text())
    assert len(recipe["data_sha256"]) == 64


def bert_folder(folder):
    """A pretrained text encoder of a vocabulary of 25 words, as a folder."""
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder.mkdir()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"word{i}" for i in range(20))]
    (folder / "vocab.txt").write_text("\n".join(words))
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    BertModel(BertConfig(vocab_size=25, **sizes)).save_pretrained(folder)
    return folder


def test_human_labels_and_tasks(tiny_recipe, mmsa_content, mmsa_file, tmp_path):
    for split in mmsa_content.values():
        split["regression_labels"] = split["regression_labels"] / 3
        for letter in "TAV":
            split[f"regression_labels_{letter}"] = -split["regression_labels"]
    arguments = [tiny_recipe(synthetic=None, data_file=mmsa_file(mmsa_content)), "--num_train_epochs", "2"]
    arguments += ["--label_generation", "human", "--metric_convention", "sims", "--model.label_range", "[-1, 1]"]
    arguments += ["--model.tasks", "[M, T, V]"]
    results = train.main([*arguments, "--output_dir", str(tmp_path / "run")])
    assert set(results) >= {"test_acc2", "test_acc3", "test_acc5", "test_f1"}
    assert not (tmp_path / "run" / "generated_labels.parquet").exists()
    table = pq.read_table(tmp_path / "run" / "predictions_test.parquet")
    assert table["audio_prediction"].null_count == len(table)
    assert table["text_prediction"].null_count == 0


def test_without_unimodal_labels_there_are_no_untrained_heads(tiny_recipe, tmp_path):
    recipe = tiny_recipe(label_generation="none")
    assert "model.tasks" in refused([recipe, "--model.tasks", "[M, T]"], tmp_path / "refused")
    train.main([recipe, "--output_dir", str(tmp_path / "run"), "--num_train_epochs", "1"])
    table = pq.read_table(tmp_path / "run" / "predictions_test.parquet")
    assert table["prediction"].null_count == 0
    for modality in ("text", "audio", "vision"):
        assert table[f"{modality}_prediction"].null_count == len(table)


def test_normalisation_is_that_of_the_training_split(tiny_recipe, mmsa_content, mmsa_file, tmp_path):
    arguments = [tiny_recipe(synthetic=None, data_file=mmsa_file(mmsa_content)), "--normalize", "[audio]"]
    train.main([*arguments, "--output_dir", str(tmp_path / "run"), "--num_train_epochs", "1"])
    part = mmsa_content["train"]
    steps = np.concatenate([a[:n] for a, n in zip(part["audio"], part["audio_lengths"], strict=True)])
    processor = AutoProcessor.from_pretrained(tmp_path / "run")
    np.testing.assert_allclose(processor.normalization["audio"]["mean"], steps.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(processor.normalization["audio"]["std"], steps.std(axis=0), atol=1e-6)
    assert "vision" not in processor.normalization


# What goes wrong, and what is said about it. Nothing may be left behind.


def refused(arguments, out, error=ValueError):
    with pytest.raises(error) as caught:
        train.main([*arguments, "--output_dir", str(out)])
    assert not out.exists()
    return str(caught.value)


def test_batches_that_are_never_full(tiny_recipe, tmp_path):
    arguments = [tiny_recipe(), "--dataloader_drop_last", "true", "--per_device_train_batch_size"]
    message = refused([*arguments, "49"], tmp_path / "out")
    assert "no other is made of 48 training samples: a batch has 49 (49 on 1 processes)" in message
    train.main([*arguments, "48", "--output_dir", str(tmp_path / "out"), "--num_train_epochs", "1"])


def test_a_truncated_pickle(tiny_recipe, mmsa_content, mmsa_file, tmp_path):
    path = Path(mmsa_file(mmsa_content))
    path.write_bytes(path.read_bytes()[:-200])
    message = refused([tiny_recipe(synthetic=None, data_file=str(path))], tmp_path / "out")
    assert "data.pkl" in message
    assert "truncated" in message


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_a_pickle_that_tries_to_run_code(tiny_recipe, mmsa_content, mmsa_file, tmp_path):
    mmsa_content["train"]["annotations"] = Evil(tmp_path / "executed")
    message = refused([tiny_recipe(synthetic=None, data_file=mmsa_file(mmsa_content))], tmp_path / "out")
    assert "system" in message
    assert not (tmp_path / "executed").exists()


def test_a_missing_split(tiny_recipe, mmsa_content, mmsa_file, tmp_path):
    del mmsa_content["valid"]
    message = refused([tiny_recipe(synthetic=None, data_file=mmsa_file(mmsa_content))], tmp_path / "out")
    assert "valid" in message


def test_duplicate_ids(tiny_recipe, mmsa_content, mmsa_file, tmp_path):
    mmsa_content["test"]["id"][0] = mmsa_content["train"]["id"][5]
    message = refused([tiny_recipe(synthetic=None, data_file=mmsa_file(mmsa_content))], tmp_path / "out")
    assert mmsa_content["train"]["id"][5] in message


def test_labels_outside_the_range(tiny_recipe, mmsa_content, mmsa_file, tmp_path):
    mmsa_content["train"]["regression_labels"][3] = 4.5
    message = refused([tiny_recipe(synthetic=None, data_file=mmsa_file(mmsa_content))], tmp_path / "out")
    assert "train$_$3 (4.5)" in message
    assert "label_range" in message


def test_human_labels_that_the_data_lacks(tiny_recipe, mmsa_content, mmsa_file, tmp_path):
    arguments = [tiny_recipe(synthetic=None, data_file=mmsa_file(mmsa_content)), "--label_generation", "human"]
    assert "text_label" in refused(arguments, tmp_path / "out")


def test_other_data_than_the_recipe_was_run_on(tiny_recipe, mmsa_content, mmsa_file, tmp_path):
    arguments = [tiny_recipe(synthetic=None, data_file=mmsa_file(mmsa_content)), "--data_sha256", "ab" * 32]
    assert "data_sha256" in refused(arguments, tmp_path / "out")


def test_no_data_file(tiny_recipe, tmp_path):
    arguments = [tiny_recipe(synthetic=None, data_file="nowhere.pkl")]
    assert "nowhere.pkl" in refused(arguments, tmp_path / "out", FileNotFoundError)


def test_an_unknown_key(tiny_recipe, tmp_path):
    assert "`label_generation`" in refused([tiny_recipe(label_generatoin="x")], tmp_path / "out")
    assert "`fusion_size`" in refused([tiny_recipe(), "--model.fusion_siez", "3"], tmp_path / "out")
    assert "`learning_rate`" in refused([tiny_recipe(), "--learning_rat", "3"], tmp_path / "out")


def test_synthetic_arguments(tiny_recipe, tmp_path):
    assert "disagreement" in refused([tiny_recipe(), "--synthetic.disagrement", "0.5"], tmp_path / "out")


def test_token_ids_of_another_vocabulary(tiny_recipe, mmsa_content, mmsa_file, tmp_path):
    mmsa_content["train"]["text_bert"][0, 0, 0] = 400
    arguments = [tiny_recipe(synthetic=None, data_file=mmsa_file(mmsa_content)), "--text", "input_ids"]
    arguments += ["--text_encoder", str(bert_folder(tmp_path / "encoder"))]
    assert "400" in refused(arguments, tmp_path / "out")


def test_a_folder_that_holds_another_run(tiny_recipe, tmp_path, monkeypatch):
    recipe, out = tiny_recipe(), tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="another run or other files"):
        train.main([recipe, "--output_dir", str(out)])
    with pytest.raises(FileExistsError, match="no run in it"):
        train.main([recipe, "--output_dir", str(out), "--resume_from_checkpoint", "true"])
    assert [path.name for path in out.iterdir()] == ["notes.txt"]

    killed_run(monkeypatch, [recipe, *STEPS, "--output_dir", str(tmp_path / "killed")], 3)
    with pytest.raises(FileExistsError, match="--resume_from_checkpoint true"):
        train.main([recipe, *STEPS, "--output_dir", str(tmp_path / "killed")])
    other = [recipe, *STEPS, "--output_dir", str(tmp_path / "killed"), "--model.fusion_size", "17"]
    with pytest.raises(ValueError, match="another recipe"):
        train.main([*other, "--resume_from_checkpoint", "true"])

    again = [recipe, "--output_dir", str(tmp_path / "done"), "--num_train_epochs", "1"]
    results = train.main(again)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "done").iterdir()}
    with pytest.raises(FileExistsError, match="finished run"):
        train.main(again)
    # Whatever restarts killed runs need not know which of them had ended.
    done = train.main([*again, "--resume_from_checkpoint", "true"])
    assert done["test_mae"] == results["test_mae"] and done.keys() == results.keys()
    with pytest.raises(ValueError, match="another recipe"):
        train.main([*again[:-1], "2", "--resume_from_checkpoint", "true"])
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "done").iterdir()}


def test_an_error_on_the_command_line_is_one_message(tmp_path):
    (tmp_path / "bad.yaml").write_text("model_type: self_mmm\n")
    command = [sys.executable, str(ROOT / "train.py"), "bad.yaml", "--output_dir", "out"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 1
    assert "self_mm" in run.stderr.splitlines()[-1]
    assert "Traceback" not in run.stderr


@pytest.mark.skipif(not DATA.is_dir(), reason="no ../shared/data beside the checkout")
@pytest.mark.parametrize("corpus", ["context", "text_timing"])
def test_the_recipes_of_the_real_files_run(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "datasets_cache")
    arguments = [str(ROOT / "recipes" / f"self_mm_{corpus}.yaml"), "--output_dir", str(tmp_path / "run")]
    arguments += ["--data_file", str(next((DATA / "mosi").glob(f"{corpus}_*.pkl"))), "--max_steps", "4"]
    arguments += ["--eval_strategy", "no", "--save_strategy", "no", "--load_best_model_at_end", "false"]
    with pytest.raises(ValueError, match="early_stopping_patience"):
        train.main(arguments)
    arguments += ["--early_stopping_patience", "null"]
    if corpus == "text_timing":
        arguments += ["--text_encoder", str(tiny_text_encoder(tmp_path / "encoder"))]
    results = train.main(arguments)
    assert results["test_mae"] < 2
    table = pq.read_table(tmp_path / "run" / "predictions_test.parquet")
    assert table["vision_prediction"].null_count == (len(table) if corpus == "text_timing" else 0)


def test_only_the_safe_reader_opens_pickles():
    """Nothing but the safe reader touches pickles."""
    for path in ROOT.glob("*/**/*.py"):
        if path.parts[len(ROOT.parts)] in ("tests", ".venv", "benchmarks") or path.name == "safe_pickle.py":
            continue
        text = path.read_text()
        assert "pickle.load" not in text, path
        assert "torch.load(" not in text, path
