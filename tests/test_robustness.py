"""robustness.py on trained checkpoints: what it measures is what predictions by other ways give."""

import csv
import json
import pickle
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml

import predict
import robustness
import train
from processing.feature_noise import Noise
from spaces.multimodal_sentiment.multimodal_sentiment import regression_metrics
from tests.conftest import TINY_RECIPE, make_mmsa_content
from training.checkpoint import load_checkpoint, load_data
from training.corpus import prepare_split
from training.prediction import predict_rows
from training.robustness import remove

MODALITIES = ("text", "audio", "vision")
UCRN = {
    "model_type": "ucrn",
    "text": "text_values",
    "label_generation": "none",
    "model": {"hidden_size": 6, "num_hidden_layers": 1},
}


def make_run(folder, out, **changes):
    recipe = folder / f"{out.parent.name}_{out.name}.yaml"
    recipe.write_text(yaml.safe_dump({**TINY_RECIPE, "synthetic": None, **changes}))
    train.main([str(recipe), "--output_dir", str(out), "--num_train_epochs", "1"])


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """A folder as compare.py leaves it, on one file: UCRN with two seeds, MMLatch, which reads tokens, with one."""
    folder = tmp_path_factory.mktemp("compared")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("datasets.config.HF_DATASETS_CACHE", folder / "datasets_cache")
        content = make_mmsa_content()
        content["test"]["audio"][2] = content["test"]["vision"][4] = 0  # two samples that lack one
        content["test"]["audio_lengths"][2] = content["test"]["vision_lengths"][4] = 0
        (folder / "data.pkl").write_bytes(pickle.dumps(content))
        file = {"data_file": str(folder / "data.pkl")}
        for seed in (7, 8):
            training = {**TINY_RECIPE["training"], "seed": seed}
            make_run(folder, folder / "out" / "ucrn" / f"seed_{seed}", **UCRN, **file, training=training)
        model = {"text_config": TINY_RECIPE["model"]["text_config"], "hidden_size": 6}
        changes = {"model_type": "mmlatch", "label_generation": "none", "model": model}
        make_run(folder, folder / "out" / "mmlatch" / "seed_7", **changes, **file)
    return folder


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "datasets_cache")


def evaluate(arguments, output):
    """The lines of robustness.csv."""
    robustness.main([*map(str, arguments), "--output", str(output)])
    with open(output / "robustness.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def values(lines, **wanted):
    """Those of the lines that have all of `wanted`."""
    return [float(line["value"]) for line in lines if all(line[name] == value for name, value in wanted.items())]


def prepared(run):
    model, processor = load_checkpoint(str(run))
    corpus, recipe = load_data(str(run))
    text = "text_values" if recipe.text == "text_values" else "raw_text"
    return model, processor, prepare_split(corpus.splits["test"], processor, text)


@pytest.fixture(scope="module")
def whole(compared):
    """Everything measured of the folder, once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("datasets.config.HF_DATASETS_CACHE", compared / "datasets_cache")
        shutil.copytree(compared / "out", compared / "whole")
        written = robustness.main([str(compared / "whole"), "--noise", "0", "0.5", "1"])
    with open(written[1], newline="", encoding="utf-8") as file:
        return written, list(csv.DictReader(file))


# What is measured


def test_layout_of_compare(whole, compared):
    written, lines = whole
    assert [path.parent for path in written] == [compared / "whole" / "robustness"] * 3
    runs = [("mmlatch", "seed_7"), ("ucrn", "seed_7"), ("ucrn", "seed_8")]
    assert list(dict.fromkeys((line["group"], line["run"]) for line in lines)) == runs
    assert len(lines) == 3 * (7 + 3 * 4) * 8


def test_all_modalities_give_the_results_of_the_run(whole, compared):
    _, lines = whole
    for run in (compared / "out").glob("*/seed_*"):
        results = json.loads((run / "all_results.json").read_text())
        for metric in ("mae", "corr", "acc7", "acc2_non0"):
            (value,) = values(lines, group=run.parent.name, run=run.name, condition="all modalities", metric=metric)
            assert value == pytest.approx(results[f"test_{metric}"], abs=1e-6)


@pytest.mark.parametrize("name", ["mmlatch/seed_7", "ucrn/seed_8"])
def test_no_noise_is_no_change_and_some_is_one(whole, name):
    group, run = name.split("/")
    _, lines = whole
    every = {"group": group, "run": run, "metric": "mae"}
    (full,) = values(lines, **every, condition="all modalities")
    for modality in ("all", *MODALITIES):
        assert values(lines, **every, condition=f"noise 0 on {modality}") == [full]
        assert values(lines, **every, condition=f"noise 0.5 on {modality}") != [full]
        assert values(lines, **every, condition=f"noise 1 on {modality}") != [full]


@pytest.mark.parametrize("name", ["mmlatch/seed_7", "ucrn/seed_7"])
@pytest.mark.parametrize("kept", ["text+audio", "text+vision", "audio+vision", "text", "audio", "vision"])
def test_removal_is_leaving_the_argument_out(whole, compared, cache, name, kept):
    """Sample by sample, with the processor's arguments of what is kept, where the sample has it."""
    model, processor, rows = prepared(compared / "out" / name)
    removed = [modality for modality in MODALITIES if modality not in kept.split("+")]
    table = predict_rows(model, processor, rows, 4, change=lambda position, row: remove(row, removed))
    found, labels, alone = table["prediction"].to_numpy(), [], 0
    for i, row in enumerate(rows):
        arguments = {f"{m}_values": row[f"{m}_values"] for m in kept.split("+") if f"{m}_values" in row}
        if "text" in kept and processor.text_input == "tokens":
            arguments["input_ids"] = row["input_ids"].tolist()
            arguments.pop("text_values")
        arguments = {k: v for k, v in arguments.items() if len(v)}
        labels.append(float(row["label"]))
        if arguments:
            with torch.no_grad():
                expected = model(**processor(**arguments)).logits.item()
            assert found[i] == pytest.approx(expected, abs=1e-5)
        else:
            alone += 1
    assert np.isfinite(found).all()
    group, run = name.split("/")
    metrics = regression_metrics(found, labels)
    wanted = {"group": group, "run": run, "condition": f"only {kept}"}
    for metric in ("mae", "corr", "acc2_has0"):
        assert values(whole[1], **wanted, metric=metric) == [pytest.approx(metrics[metric], abs=1e-6)]
    assert alone == {"audio": 1, "vision": 1}.get(kept, 0)
    counts = {line["samples_without_any_modality"] for line in whole[1] if line["condition"] == f"only {kept}"}
    assert counts == {str(alone)}


def test_noise_is_added_to_raw_features(whole, compared, cache):
    """By an own loop, with the deviations of the test split and the generator of each row."""
    model, processor, rows = prepared(compared / "out" / "ucrn" / "seed_7")
    deviations = {m: np.concatenate([row[f"{m}_values"] for row in rows]).astype(np.float64) for m in MODALITIES}
    deviations = {m: every.std(axis=0) for m, every in deviations.items()}
    found, labels = [], []
    for i, row in enumerate(rows):
        arguments = {}
        for number, modality in enumerate(MODALITIES):
            steps = row[f"{modality}_values"]
            draws = np.random.default_rng([0, i, number]).random(steps.shape)
            noisy = steps + np.where(draws < 0.5, deviations[modality], 0)
            if len(steps):
                arguments[f"{modality}_values"] = noisy.astype(np.float32)
        with torch.no_grad():
            found.append(model(**processor(**arguments)).logits.item())
        labels.append(float(row["label"]))
    wanted = {"group": "ucrn", "run": "seed_7", "condition": "noise 0.5 on all"}
    for metric in ("mae", "corr"):
        expected = regression_metrics(found, labels)[metric]
        assert values(whole[1], **wanted, metric=metric) == [pytest.approx(expected, abs=1e-5)]


def test_noise_on_tokens_reaches_the_model(whole, compared, cache):
    _, processor, rows = prepared(compared / "out" / "mmlatch" / "seed_7")
    changed = Noise({}, tokenizer=processor.tokenizer)(0, rows[0], ["text"], 1.0)["input_ids"]
    assert set(changed[1:-1].tolist()) == {processor.tokenizer.mask_token_id}
    text = whole[0][0].read_text(encoding="utf-8")
    assert text.count("reads text as tokens") == 1 and "mmlatch reads text as tokens" in text and "`[MASK]`" in text


def test_results_depend_neither_on_the_batch_nor_on_other_conditions(whole, compared, cache, tmp_path):
    lines = evaluate([compared / "out" / "ucrn", "--noise", "0.5", "--batch_size", "2"], tmp_path / "out")
    mine = [line for line in whole[1] if line["group"] == "ucrn" and line["probability"] in ("", "0.5")]
    assert len(lines) == len(mine) == 2 * 11 * 8
    for one, other in zip(lines, mine, strict=True):
        assert [one[name] for name in ("run", "condition", "metric")] == [
            other[name] for name in ("run", "condition", "metric")
        ]
        assert float(one["value"]) == pytest.approx(float(other["value"]), abs=1e-5)


def test_another_seed(whole, compared, cache, tmp_path):
    lines = evaluate([compared / "out" / "ucrn" / "seed_7", "--seed", "1"], tmp_path / "out")
    for condition, alike in (("only text", True), ("noise 0.5 on all", False)):
        wanted = {"group": "ucrn", "run": "seed_7", "condition": condition, "metric": "mae"}
        assert (values(lines, **wanted) == values(whole[1], **wanted)) == alike


def test_runs_are_averaged(whole):
    written, lines = whole
    maes = values(lines, group="ucrn", condition="only text+audio", metric="mae")
    assert len(set(maes)) == 2
    shown = f"| ucrn | only text+audio | 2 | 0 | {np.mean(maes):.3f} ± {np.std(maes, ddof=1):.3f} |"
    text = written[0].read_text(encoding="utf-8")
    assert shown in text and "# Robustness on the test split of data.pkl (9 samples)" in text
    assert "UCRN's table 4" in text and "UCRN's table 5" in text


def test_a_line_per_kind_of_conditions(compared, cache, tmp_path, capsys):
    evaluate([compared / "out" / "mmlatch", "--noise", "0.5", "1"], tmp_path / "out")
    lines = capsys.readouterr().out.splitlines()
    kinds = ["all modalities (1)", "modalities removed (6)", "noise 0.5 (4)", "noise 1 (4)"]
    for line, kind in zip(lines, kinds, strict=False):
        assert line.startswith(f"mmlatch, seed_7: {kind}: acc2_non0 ")
    assert lines[4] == "" and lines[-1].startswith("Wrote ")


# Data and checkpoints of other kinds


def test_one_checkpoint_with_unimodal_heads(trained, mmsa_file, tmp_path):
    content, folder = trained
    shutil.copytree(folder / "run", tmp_path / "run", ignore=shutil.ignore_patterns("checkpoint-*"))
    written = robustness.main([str(tmp_path / "run"), "--noise", "--split", "valid"])
    assert [path.parent for path in written] == [tmp_path / "run" / "robustness"] * 3
    with open(written[1], newline="") as file:
        lines = list(csv.DictReader(file))
    assert len({line["condition"] for line in lines}) == 7 and {line["noise"] for line in lines} == {""}
    predict.main([str(tmp_path / "run"), "--split", "valid", "--output", str(tmp_path / "p.parquet")])
    table = pq.read_table(tmp_path / "p.parquet")
    expected = regression_metrics(table["prediction"].to_numpy(), table["label"].to_numpy())["mae"]
    assert values(lines, condition="all modalities", metric="mae") == [pytest.approx(expected, abs=1e-6)]


def test_a_modality_that_the_data_lack_is_none(compared, mmsa_file, tmp_path):
    content = make_mmsa_content()
    less = {name: {k: v for k, v in split.items() if "vision" not in k} for name, split in content.items()}
    empty = {name: {**split, "vision": np.zeros_like(split["vision"])} for name, split in content.items()}
    for split in empty.values():
        split["vision_lengths"] = [0] * len(split["id"])
    for name, data in (("less", less), ("empty", empty)):
        arguments = [compared / "out" / "ucrn" / "seed_7", "--data_file", mmsa_file(data, f"{name}.pkl")]
        lines = evaluate(arguments, tmp_path / name)
        assert list(dict.fromkeys(line["condition"] for line in lines)) == [
            "all modalities",
            "only text",
            "only audio",
            *(f"noise 0.5 on {modality}" for modality in ("all", "text", "audio")),
        ]
        assert {line["samples_without_any_modality"] for line in lines} == {"0"}
        text = (tmp_path / name / "robustness.md").read_text(encoding="utf-8")
        assert "ucrn reads vision, too, which no sample of the split has" in text and "table 4" not in text


def test_a_single_modality_gets_noise_alone(compared, mmsa_file, tmp_path):
    content = make_mmsa_content()
    less = {n: {k: v for k, v in s.items() if "vision" not in k and "audio" not in k} for n, s in content.items()}
    lines = evaluate([compared / "out" / "mmlatch", "--data_file", mmsa_file(less)], tmp_path / "out")
    assert list(dict.fromkeys(line["condition"] for line in lines)) == ["all modalities", "noise 0.5 on all"]
    text = (tmp_path / "out" / "robustness.md").read_text(encoding="utf-8")
    assert "mmlatch: text is its only modality, so that only noise is measured" in text
    assert "UCRN's table 5" in text


def test_data_that_has_nothing_that_the_checkpoint_reads(compared, mmsa_file, tmp_path):
    content = make_mmsa_content()
    audio = {"audio", "audio_lengths", "vision", "vision_lengths", "text"}
    less = {n: {k: v for k, v in s.items() if k not in audio} for n, s in content.items()}
    with pytest.raises(ValueError, match=r"ucrn/seed_7 reads text, audio, vision, of which data\.pkl has nothing"):
        evaluate([compared / "out" / "ucrn", "--data_file", mmsa_file(less)], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_emotions(tiny_recipe, tmp_path):
    model = {"target": "emotions", "text_config": TINY_RECIPE["model"]["text_config"], **UCRN["model"]}
    synthetic = {**TINY_RECIPE["synthetic"], "emotions": True}
    recipe = tiny_recipe(model_type="ucrn", label_generation="none", model=model, synthetic=synthetic)
    results = train.main([recipe, "--output_dir", str(tmp_path / "run"), "--num_train_epochs", "1"])
    lines = evaluate([tmp_path / "run"], tmp_path / "out")
    for metric in ("wa_avg", "acc_avg", "acc6"):
        assert values(lines, condition="all modalities", metric=metric) == [pytest.approx(results[f"test_{metric}"])]
    text = (tmp_path / "out" / "robustness.md").read_text(encoding="utf-8")
    assert "| wa_avg (L+A / L+V / A+V) | acc_avg (L+A / L+V / A+V) |" in text and "synthetic corpus" in text


def test_a_run_that_is_not_finished_is_noted(compared, cache, tmp_path):
    shutil.copytree(compared / "out" / "ucrn" / "seed_7", tmp_path / "ucrn" / "seed_7")
    (tmp_path / "ucrn" / "seed_9").mkdir()
    evaluate([tmp_path / "ucrn", "--noise"], tmp_path / "out")
    assert "ucrn, seed_9 is left out: it has no checkpoint yet." in (tmp_path / "out" / "robustness.md").read_text()


# Errors


@pytest.mark.parametrize("value", ["-0.1", "1.5", "nan"])
def test_probabilities(value):
    with pytest.raises(ValueError, match=rf"`--noise` takes probabilities from 0 to 1; got {value}"):
        robustness.parse(["a", f"--noise={value}"])


@pytest.mark.parametrize("arguments", [["--seed", "-1"], ["--batch_size", "0"]])
def test_counts(arguments):
    with pytest.raises(ValueError, match=rf"`--seed` must be at least 0 and `--batch_size`.*got .*{arguments[1]}"):
        robustness.parse(["a", *arguments])


def test_several_folders_need_an_output():
    with pytest.raises(ValueError, match=r"`--output` says where.*2 folders"):
        robustness.parse(["a", "b"])
    options = robustness.parse(["a", "b", "--output", "c", "--noise", "0.5", "1"])
    assert (options.folders, options.noise, options.split, options.seed) == (["a", "b"], [0.5, 1.0], "test", 0)


def test_nothing_is_measured_for_an_output_that_cannot_be(compared, cache, tmp_path, monkeypatch):
    (tmp_path / "out").write_text("")
    monkeypatch.setattr("training.robustness.load_checkpoint", None)
    with pytest.raises(ValueError, match=r"`--output` must be a folder; .*out is a file"):
        evaluate([compared / "out"], tmp_path / "out")
    with pytest.raises(OSError, match="--output /proc/robustness cannot be written to"):
        evaluate([compared / "out"], "/proc/robustness")


def test_different_targets_and_data(compared, trained, cache, tmp_path):
    run = tmp_path / "sims"
    shutil.copytree(compared / "out" / "ucrn" / "seed_7", run, ignore=shutil.ignore_patterns("checkpoint-*"))
    content = yaml.safe_load((run / "recipe.yaml").read_text())
    (run / "recipe.yaml").write_text(yaml.safe_dump({**content, "metric_convention": "sims"}))
    with pytest.raises(ValueError, match="one target and one metric convention"):
        evaluate([compared / "out", run], tmp_path / "out")
    lines = evaluate([run], tmp_path / "alone")
    assert {line["metric"] for line in lines} == {"mae", "corr", "acc2", "acc3", "acc5", "f1"}
    with pytest.raises(ValueError, match=r"same data.*--data_file"):
        evaluate([compared / "out", trained[1] / "run"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_without_a_recipe(compared, cache, tmp_path):
    run = tmp_path / "copy"
    ignored = shutil.ignore_patterns("checkpoint-*", "recipe.yaml")
    shutil.copytree(compared / "out" / "ucrn" / "seed_7", run, ignore=ignored)
    with pytest.raises(ValueError, match=r"copy has no recipe\.yaml.*--data_file"):
        evaluate([run], tmp_path / "out")
    assert evaluate([run, "--data_file", compared / "data.pkl", "--noise"], tmp_path / "out")
