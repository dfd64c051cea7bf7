"""Runs of every architecture on every target, and what they say of it."""

import json
import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from transformers import AutoModel, AutoProcessor

import train
from configuration import TARGETS
from datasets_scripts import EMOTIONS, MODALITIES, SyntheticCorpus
from training.corpus import prepare_split
from training.mapped_rows import MappedRows
from training.prediction import predict_rows, reference_names, table_metrics
from training.targets import Target

SYNTHETIC = {"train": 18, "valid": 10, "test": 10, "seed": 3, "missing": 0.1, "emotions": True}
MODELS = {
    "self_mm": {f"{part}_size": 8 for part in ("audio_hidden", "vision_hidden", "fusion", *MODALITIES)},
    "sugrm": {"common_size": 8, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2},
    "mmlatch": {"hidden_size": 8},
    "ucrn": {"hidden_size": 6, "num_hidden_layers": 1, "num_attention_heads": 2},
    "delta_attention": {"hidden_size": 8, "num_attention_heads": 2, "correlation_size": 4, "fusion_size": 8},
}
TASKS = {
    "sentiment": "how positive a person's utterance is, from -3 (most negative) to 3 (most positive)",
    "sentiment2": "whether a person's utterance is negative or positive",
    "sentiment7": "in seven classes from -3 to 3",
    "emotions": "which of six emotions (happy, sad, anger, surprise, disgust, fear) a person's utterance shows",
    "emotion": "which of six emotions (happy, sad, anger, surprise, disgust, fear) is the strongest",
}


@pytest.fixture
def write_recipe(tiny_recipe):
    content = yaml.safe_load(Path(tiny_recipe()).read_text())

    def write(model_type, target, **changes):
        model = {"text_config": content["model"]["text_config"], "target": target, **MODELS[model_type]}
        training = {**content["training"], "num_train_epochs": 1, "save_strategy": "no"}
        training["load_best_model_at_end"] = False
        common = {"model_type": model_type, "label_generation": "none", "synthetic": SYNTHETIC}
        return tiny_recipe(**{**common, "model": model, "training": training, **changes})

    return write


@pytest.mark.parametrize(
    ("model_type", "target"),
    # The first three are trained on a sentiment in other files.
    [(m, t) for m in MODELS for t in TARGETS if t != "sentiment" or m in ("ucrn", "delta_attention")],
)
def test_every_architecture_with_every_target(write_recipe, tmp_path, model_type, target):
    out = tmp_path / "run"
    results = train.main([write_recipe(model_type, target), "--output_dir", str(out)])
    scoring = Target(target)

    # Results: the target's metrics, of both splits, and of the modalities' own predictions where there are any.
    heads = ["", *(f"{modality}_" for modality in MODALITIES if model_type == "delta_attention")]
    for split in ("valid", "test"):
        wanted = {f"{split}_{head}{name}" for head in heads for name in scoring.metric_names}
        assert {name for name in results if name.startswith(f"{split}_")} == wanted
    assert json.loads((out / "all_results.json").read_text()).keys() == results.keys()

    # Checkpoint: loaded again it predicts the same, and says what.
    model, processor = AutoModel.from_pretrained(out).eval(), AutoProcessor.from_pretrained(out)
    assert model.config.target == target and model.config.output_names == TARGETS[target][1]
    rows = prepare_split(SyntheticCorpus(**SYNTHETIC).build()["test"], processor, "raw_text")
    if target == "emotion":
        rows = MappedRows(rows.table.select(np.flatnonzero(rows["emotions"][:].any(axis=1))))
    table = pq.read_table(out / "predictions_test.parquet")
    again = predict_rows(model, processor, rows)
    assert table.schema == again.schema and table["id"].equals(again["id"])
    for name in table.column_names[1:]:
        ours, theirs = (np.array(one[name].to_pylist(), float) for one in (table, again))
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    references = rows["emotions" if scoring.of_emotions else "label"][:].reshape(len(rows), -1)
    for name, column in zip(reference_names(scoring), references.T, strict=True):
        np.testing.assert_array_equal(table[name].to_numpy(), column)
    for name, value in table_metrics(table, scoring).items():
        assert results[f"test_{name}"] == pytest.approx(value, nan_ok=True)

    # Card.
    card = (out / "README.md").read_text()
    front = yaml.safe_load(card.split("---")[1])
    assert TASKS[target] in " ".join(card.split()) and "The weights are those of the last epoch" in card
    shown = {metric["name"] for metric in front["model-index"][0]["results"][0]["metrics"]}
    defined = {name for name in scoring.metric_names if np.isfinite(results[f"test_{name}"])}
    undefined = set(scoring.metric_names) - defined
    assert defined <= shown and not undefined & shown and "$" not in card.replace("$_$", "")
    assert all(re.search(rf"\| `{name}` \| \S+ \| - \|", card) for name in undefined)
    if model_type not in ("self_mm", "sugrm"):  # for these see below
        assert ("text_logits" in card) == (model_type == "delta_attention")
    assert ("have no emotion" in card) == (target == "emotion")


@pytest.mark.parametrize("model_type", ["self_mm", "ucrn"])
def test_classes_of_the_other_convention(write_recipe, tmp_path, model_type):
    """Of CH-SIMS zero is negative."""
    out = tmp_path / "run"
    recipe = write_recipe(model_type, "sentiment2", metric_convention="sims")
    results = train.main([recipe, "--output_dir", str(out)])
    assert {name for name in results if name.startswith("test_")} >= {"test_acc2", "test_f1"}
    table = pq.read_table(out / "predictions_test.parquet")
    positive = table["positive"].to_numpy() > table["negative"].to_numpy()
    assert results["test_acc2"] == pytest.approx(np.mean(positive == (table["label"].to_numpy() > 0)))


@pytest.mark.parametrize(
    ("target", "label_generation"), [("sentiment", "self_mm"), ("sentiment", "none"), ("emotions", "none")]
)
def test_the_card_names_the_heads_that_there_are(write_recipe, tmp_path, target, label_generation):
    """Without unimodal tasks Self-MM has no predictions of one modality alone."""
    out = tmp_path / "run"
    train.main([write_recipe("self_mm", target, label_generation=label_generation), "--output_dir", str(out)])
    model = AutoModel.from_pretrained(out).eval()
    outputs = model(**AutoProcessor.from_pretrained(out)(text="good"))
    assert (outputs.text_logits is not None) == (label_generation != "none")
    assert ("text_logits" in (out / "README.md").read_text()) == (label_generation != "none")


def test_a_run_on_emotions_chooses_its_epoch_by_them(write_recipe, tmp_path):
    training = {"num_train_epochs": 3, "per_device_train_batch_size": 6, "learning_rate": 0.01, "use_cpu": True}
    recipe, out = write_recipe("ucrn", "emotions", training=training), tmp_path / "run"
    train.main([recipe, "--output_dir", str(out), "--modality_dropout", "0.2"])
    state = json.loads((out / "checkpoint-9" / "trainer_state.json").read_text())
    found = {entry["epoch"]: entry["eval_wa_avg"] for entry in state["log_history"] if "eval_wa_avg" in entry}
    results = json.loads((out / "all_results.json").read_text())
    assert len(found) == 3 and found[results["best_epoch"]] == max(found.values())
    assert results["valid_wa_avg"] == pytest.approx(max(found.values()))
    assert (
        f"best `wa_avg` on the validation split was kept (epoch {results['best_epoch']:g} of 3)"
        in (out / "README.md").read_text()
    )
    table = pq.read_table(out / "predictions_valid.parquet")
    total = 0.0
    for emotion in EMOTIONS:
        pairs = list(zip(table[emotion].to_pylist(), table[f"{emotion}_label"].to_pylist(), strict=True))
        total += sum((p > 0.5) == (y > 0) for p, y in pairs) / len(pairs)
    assert results["valid_acc_avg"] == pytest.approx(total / len(EMOTIONS))


@pytest.mark.parametrize("target", ["emotions", "sentiment2"])
@pytest.mark.parametrize("label_generation", ["self_mm", "human"])
def test_unimodal_labels_are_of_a_sentiment(write_recipe, tmp_path, target, label_generation):
    out = tmp_path / "out"
    with pytest.raises(
        ValueError, match=f"`label_generation: {label_generation}` makes labels of a sentiment.*{target}"
    ):
        train.main([write_recipe("self_mm", target, label_generation=label_generation), "--output_dir", str(out)])
    assert not out.exists()


def test_data_without_emotions(write_recipe, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(ValueError, match="needs the column `emotions`, which synthetic corpus lacks"):
        train.main([write_recipe("ucrn", "emotions"), "--output_dir", str(out), "--synthetic.emotions", "false"])
    assert not out.exists()


def test_a_modality_that_only_the_test_split_has(write_recipe, mmsa_content, mmsa_file, tmp_path):
    """Its own predictions have results of one split only; the run ends with a card nevertheless."""
    random = np.random.default_rng(0)
    for name, split in mmsa_content.items():
        split["emotions"] = random.integers(0, 3, (len(split["id"]), 6))
        del split["vision_lengths"]
        if name == "valid":
            split["vision"] = np.zeros_like(split["vision"])
    recipe, out = write_recipe("delta_attention", "emotion", synthetic=None, data_file="unset"), tmp_path / "run"
    results = train.main([recipe, "--data_file", mmsa_file(mmsa_content), "--output_dir", str(out)])
    assert "test_vision_acc6" in results and "valid_vision_acc6" not in results
    card = (out / "README.md").read_text()
    number = 100 * results["test_vision_acc6"]
    assert re.search(rf"\| vision alone \| multimodal labels \| {number:.1f} \|", card)
