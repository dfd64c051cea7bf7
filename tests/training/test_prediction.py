"""Tables of predictions of classes and emotions, and the metrics of a table, by loops of their own."""

import math

import numpy as np
import pyarrow as pa
import pytest
import torch

from datasets_scripts import EMOTIONS, MODALITIES, SyntheticCorpus
from modeling import MODEL_CLASSES
from processing import MultimodalProcessor
from training.corpus import prepare_split
from training.factory import word_tokenizer
from training.mapped_rows import MappedRows
from training.prediction import own_predictions, predict_rows, reference_names, table_metrics
from training.targets import Target

ROWS = 26
CLOSE = {"rel": 1e-4, "abs": 1e-4}
NAMES = {
    "sentiment": ("prediction",),
    "sentiment2": ("negative", "positive"),
    "sentiment7": (
        *("highly_negative", "negative", "weakly_negative", "neutral"),
        *("weakly_positive", "positive", "highly_positive"),
    ),
    "emotions": EMOTIONS,
    "emotion": EMOTIONS,
}
TINY = {
    "delta_attention": {
        **{"hidden_size": 8, "num_attention_heads": 2, "correlation_size": 4, "fusion_size": 8, "max_steps": 16},
    },
    "ucrn": {"hidden_size": 6, "num_hidden_layers": 1},
}


class Setting:
    """A corpus with emotions and missing modalities, its processor, and untrained models that read it."""

    def __init__(self):
        corpus = SyntheticCorpus(train=8, valid=1, test=ROWS, seed=2, missing=0.3, emotions=True).build()
        tokenizer = word_tokenizer(corpus["train"]["text"][:], {})
        sizes = {"audio_feature_size": 8, "vision_feature_size": 6}
        self.processor = MultimodalProcessor(tokenizer, text_input="tokens", **sizes)
        self.rows = prepare_split(corpus["test"], self.processor, "raw_text")
        self.text = {"vocab_size": len(tokenizer), "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
        self.text |= {"intermediate_size": 8, "max_position_embeddings": 64}
        self.sizes = sizes

    def model(self, model_type, target, **fields):
        torch.manual_seed(0)
        model_class = next(cls for cls in MODEL_CLASSES if cls.config_class.model_type == model_type)
        fields = {**TINY[model_type], **self.sizes, "text_config": dict(self.text), "target": target, **fields}
        model = model_class(model_class.config_class(**fields)).eval()
        for parameter in model.parameters():
            parameter.data *= 1.3  # so that samples differ in more than rounding
        return model


@pytest.fixture(scope="module")
def setting():
    return Setting()


def probabilities(logits, target):
    values = [float(value) for value in logits]
    if target == "sentiment":
        return values
    if target == "emotions":
        return [1 / (1 + math.exp(-value)) for value in values]
    total = sum(math.exp(value) for value in values)
    return [math.exp(value) / total for value in values]


@pytest.mark.parametrize("target", ["sentiment2", "sentiment7", "emotions", "emotion", "sentiment"])
def test_table_equals_row_by_row(setting, target):
    """Delta-Attention predicts from each modality as well; what a sample lacks has no prediction of its own."""
    model, names = setting.model("delta_attention", target), NAMES[target]
    table = predict_rows(model, setting.processor, setting.rows, batch_size=5)
    references = tuple(f"{emotion}_label" for emotion in EMOTIONS) if target.startswith("emotion") else ("label",)
    heads = [f"{prefix}{name}" for prefix in ("", "text_", "audio_", "vision_") for name in names]
    assert table.column_names == ["id", *references, *heads]
    assert all(table.schema.field(name).type == pa.float32() for name in (*references, *heads))
    lacking = dict.fromkeys(MODALITIES, 0)
    for row, found in zip(setting.rows, table.to_pylist(), strict=True):
        assert found["id"] == row["id"]
        true = row["emotions"].tolist() if len(references) == 6 else [row["label"]]
        assert [found[name] for name in references] == true
        inputs = {
            "input_ids": torch.tensor([row["input_ids"].tolist()]) if len(row["input_ids"]) else None,
            "audio_values": torch.from_numpy(row["audio_values"])[None] if len(row["audio_values"]) else None,
            "vision_values": torch.from_numpy(row["vision_values"])[None] if len(row["vision_values"]) else None,
        }
        with torch.no_grad():
            outputs = model(**inputs)
        expected = probabilities(outputs.logits[0], target)
        assert [found[name] for name in names] == pytest.approx(expected, **CLOSE)
        for modality, values in zip(MODALITIES, inputs.values(), strict=True):
            own = [found[f"{modality}_{name}"] for name in names]
            if values is None:
                lacking[modality] += 1
                assert own == [None] * len(names)
            else:
                assert own == pytest.approx(probabilities(outputs[f"{modality}_logits"][0], target), **CLOSE)
    assert all(0 < count < ROWS for count in lacking.values())
    assert len({tuple(np.round(row, 4)) for row in zip(*(table[name].to_pylist() for name in names), strict=True)}) > 20


@pytest.mark.parametrize("target", ["emotion", "sentiment7"])
def test_a_model_without_own_predictions(setting, target):
    table = predict_rows(setting.model("ucrn", target), setting.processor, setting.rows)
    for name in NAMES[target]:
        assert table[name].null_count == 0
        assert all(table[f"{modality}_{name}"].null_count == ROWS for modality in MODALITIES)
    assert table_metrics(table, Target(target), "text") == {}


@pytest.mark.parametrize("target", ["emotions", "emotion", "sentiment2"])
def test_rows_without_references(setting, target):
    rows = MappedRows(setting.rows.table.remove_columns(["emotions", "label"]))
    table = predict_rows(setting.model("ucrn", target), setting.processor, rows)
    names = reference_names(Target(target))
    assert all(table[name].null_count == ROWS and table[name].type == pa.float32() for name in names)
    assert len(names) == (1 if target == "sentiment2" else 6)


def test_rows_change_before_the_model_sees_them(setting):
    """Each with its own position, whatever the order by length; references stay those of the row."""
    model, rows = setting.model("delta_attention", "emotion"), setting.rows
    ids = rows["id"][:].tolist()
    seen = []

    def without_audio(position, row):
        seen.append((position, row["id"]))
        return {**row, "audio_values": row["audio_values"][:0] if position % 2 else row["audio_values"]}

    table = predict_rows(model, setting.processor, rows, 4, without_audio)
    plain = predict_rows(model, setting.processor, rows, 4)
    assert sorted(seen) == list(enumerate(ids))
    for position, (found, before) in enumerate(zip(table.to_pylist(), plain.to_pylist(), strict=True)):
        for name in ("happy", "audio_happy", "text_happy", "happy_label"):
            if position % 2 and name == "audio_happy":
                assert found[name] is None
            elif not position % 2 or name != "happy":
                assert found[name] == (before[name] and pytest.approx(before[name], **CLOSE))


# Metrics of a table


def test_metrics_of_a_head_are_over_the_samples_that_have_it(setting):
    target = Target("emotion")
    table = predict_rows(setting.model("delta_attention", "emotion"), setting.processor, setting.rows)
    rows = table.to_pylist()
    for head in ("", *MODALITIES):
        prefix = f"{head}_" if head else ""
        kept = [row for row in rows if row[f"{prefix}happy"] is not None]
        assert (len(kept) < ROWS) == bool(head)
        right = counted = 0
        for row in kept:
            true = [row[f"{emotion}_label"] for emotion in EMOTIONS]
            scores = [row[f"{prefix}{emotion}"] for emotion in EMOTIONS]
            if max(true) > 0:
                counted += 1
                right += true[scores.index(max(scores))] == max(true)
        found = table_metrics(table, target, head)
        assert set(found) == set(target.metric_names) and found["acc6"] == pytest.approx(right / counted)


def test_metrics_of_a_regression_and_of_its_heads():
    table = pa.table(
        {
            "id": ["a", "b", "c"],
            "label": pa.array([1.0, -2.0, 0.5], pa.float32()),
            "prediction": pa.array([0.5, -1.0, 0.5], pa.float32()),
            "text_prediction": pa.array([None, -2.0, 1.5], pa.float32()),
            "audio_prediction": pa.nulls(3, pa.float32()),
        }
    )
    target = Target("sentiment")
    assert table_metrics(table, target)["mae"] == pytest.approx(0.5)
    assert table_metrics(table, target, "text")["mae"] == pytest.approx(0.5)
    assert table_metrics(table, target, "text")["acc2_non0"] == 1
    assert table_metrics(table, target, "audio") == {}


@pytest.mark.parametrize("target", NAMES)
def test_a_prediction_that_is_not_finite_is_an_error_and_no_class(target):
    scores = {name: pa.array([0.5, math.nan], pa.float32()) for name in NAMES[target]}
    references = {name: pa.array([1.0, 2.0], pa.float32()) for name in reference_names(Target(target))}
    with pytest.raises(ValueError, match="'b'"):
        table_metrics(pa.table({"id": ["a", "b"], **references, **scores}), Target(target))


def test_whose_own_predictions_are_of_the_target(setting):
    assert own_predictions(setting.model("delta_attention", "emotion")) == MODALITIES
    assert own_predictions(setting.model("delta_attention", "emotion", vision_feature_size=None)) == ("text", "audio")
    self_mm = next(cls for cls in MODEL_CLASSES if cls.config_class.model_type == "self_mm")
    assert own_predictions(self_mm(self_mm.config_class(audio_feature_size=3))) == ()  # its heads have other labels
