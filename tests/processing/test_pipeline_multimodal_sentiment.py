"""The pipeline, against direct calls of the model and plain formulas."""

import copy
import json
import math

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForSequenceClassification, pipeline
from transformers.pipelines.pt_utils import KeyDataset

from configuration import MODALITIES
from modeling import BcLstmModel, EfLstmModel, SelfMMModel
from processing import MultimodalSentimentPipeline
from processing.pipeline_multimodal_sentiment import TASK
from tests.strangers import assert_same_predictions, checkpoint, rows, run_alone

RANDOM = np.random.default_rng(1)
TARGETS = ("sentiment2", "sentiment7", "emotion", "emotions")


@pytest.fixture(scope="module")
def self_mm(tmp_path_factory):
    return checkpoint(tmp_path_factory.mktemp("org") / "self_mm")


@pytest.fixture
def pipe(self_mm):
    return MultimodalSentimentPipeline(self_mm[0], processor=self_mm[1])


def predicted(model, processor, row):
    """Logits and unimodal logits of one row, by the processor and the model."""
    with torch.no_grad():
        outputs = model(**processor(**{name: [value] for name, value in row.items()}))
    return {name: outputs[name][0].tolist() for name in outputs if name.endswith("logits")}


def test_sentiment(self_mm, pipe):
    for row in rows():
        logits = predicted(*self_mm, row)
        prediction = pipe(row)
        score = logits["logits"][0]
        assert list(prediction) == ["label", "score", "range", "text", "audio", "vision"]
        assert prediction["score"] == score
        assert prediction["label"] == ("positive" if score > 0 else "negative")
        assert prediction["range"] == [-3, 3]
        assert prediction["text"] == (logits["text_logits"][0] if row["text"] else None)
        assert prediction["audio"] == (logits["audio_logits"][0] if row["audio_values"] else None)
        assert prediction["vision"] is None
    labels = {prediction["label"] for prediction in pipe(rows())}
    assert labels == {"positive", "negative"}


@pytest.mark.parametrize("score, label", [(0.0, "neutral"), (-0.0, "neutral"), (1e-6, "positive"), (-1e-6, "negative")])
def test_sign_of_a_score(pipe, score, label):
    prediction = pipe.postprocess({"logits": torch.tensor([[score]])})
    assert prediction["label"] == label
    assert prediction["score"] == pytest.approx(score, rel=1e-6)


@pytest.mark.parametrize("target", TARGETS)
def test_classes_and_emotions(target, tmp_path):
    """BC-LSTM predicts each target from each modality, too."""
    model, processor = checkpoint(tmp_path, model_class=BcLstmModel, target=target)
    pipe = MultimodalSentimentPipeline(model, processor=processor)
    names = model.config.output_names

    def expected(logits):
        if target == "emotions":
            scores = {name: 1 / (1 + math.exp(-x)) for name, x in zip(names, logits, strict=True)}
            present = [name for name in names if scores[name] > 0.5]
            return {"labels": sorted(present, key=scores.get, reverse=True), "scores": scores}
        total = sum(math.exp(x) for x in logits)
        scores = {name: math.exp(x) / total for name, x in zip(names, logits, strict=True)}
        best = max(scores, key=scores.get)
        return {"label": best, "score": scores[best], "scores": scores}

    for row, prediction in zip(rows(), pipe(rows(), batch_size=3), strict=True):
        logits = predicted(model, processor, row)
        whole = expected(logits["logits"])
        for modality, has in zip(MODALITIES, (row["text"], row["audio_values"], None), strict=True):
            whole[modality] = expected(logits[f"{modality}_logits"]) if has else None
        assert_same_predictions(prediction, whole)


def test_threshold_of_emotions(tmp_path):
    model, processor = checkpoint(tmp_path, model_class=BcLstmModel, target="emotions")
    pipe = MultimodalSentimentPipeline(model, processor=processor, threshold=0.0)
    everything = pipe("a good film")
    ranking = sorted(everything["scores"], key=everything["scores"].get, reverse=True)
    assert everything["labels"] == everything["text"]["labels"] or len(everything["text"]["labels"]) == 6
    assert everything["labels"] == ranking
    second = everything["scores"][ranking[1]]
    assert pipe("a good film", threshold=second)["labels"] == ranking[:1]
    assert pipe("a good film", threshold=1)["labels"] == []
    for threshold in (-0.1, 1.1, "0.5", True):
        with pytest.raises(ValueError, match="`threshold` must be a probability"):
            pipe("a good film", threshold=threshold)


def test_threshold_of_a_sentiment_is_refused(pipe):
    with pytest.raises(ValueError, match="`threshold` says which.*predicts sentiment"):
        pipe("bad", threshold=0.5)


@pytest.mark.parametrize("numbers", [1, 2])
def test_labels_of_ones_own(numbers, tmp_path):
    settings = {
        "target": None,
        "problem_type": "regression",
        "id2label": dict(enumerate(["height", "width"][:numbers])),
    }
    model, processor = checkpoint(tmp_path, model_class=BcLstmModel, **settings)
    prediction = MultimodalSentimentPipeline(model, processor=processor)("bad")
    logits = predicted(model, processor, {"text": "bad"})
    if numbers == 1:
        expected = {"score": logits["logits"][0], "text": logits["text_logits"][0], "audio": None, "vision": None}
    else:
        values = {name: dict(zip(("height", "width"), logits[name], strict=True)) for name in ("logits", "text_logits")}
        expected = {"scores": values["logits"], "text": {"scores": values["text_logits"]}}
        expected |= {"audio": None, "vision": None}
    assert_same_predictions(prediction, expected)


def test_architectures_without_unimodal_predictions(tmp_path):
    model, processor = checkpoint(tmp_path, model_class=EfLstmModel)
    prediction = MultimodalSentimentPipeline(model, processor=processor)(rows()[0])
    assert [prediction[modality] for modality in MODALITIES] == [None, None, None]


def test_features_alone(tmp_path):
    """A checkpoint without a tokenizer, in batches."""
    model, processor = checkpoint(tmp_path, text=False)
    pipe = MultimodalSentimentPipeline(model, processor=processor)
    samples = [{"audio_values": RANDOM.normal(size=(steps, 5))} for steps in (1, 7, 3, 2)]
    one_by_one = [pipe(sample) for sample in samples]
    assert one_by_one[1]["score"] == predicted(model, processor, samples[1])["logits"][0]
    assert_same_predictions(pipe(samples, batch_size=4), one_by_one)


@pytest.mark.parametrize("batch_size", [2, 3, 8])
def test_batches_give_what_rows_give(pipe, batch_size):
    """Rows of different lengths, that lack different modalities, so that each batch is padded in its own way."""
    samples = [
        {"text": text, "audio_values": None if steps is None else RANDOM.normal(size=(steps, 5)).astype(np.float32)}
        for text, steps in [
            ("bad", 9),
            ("a good film", None),
            ("", 1),
            ("good good good good a", 4),
            ("a", 0),
            (None, 2),
        ]
    ]
    one_by_one = [pipe(sample) for sample in samples]
    assert len({round(prediction["score"], 5) for prediction in one_by_one}) == len(samples)
    assert_same_predictions(pipe(samples, batch_size=batch_size), one_by_one)


def test_kinds_of_inputs(pipe):
    samples = rows()
    expected = pipe(samples)
    assert isinstance(expected, list)
    assert_same_predictions(pipe(tuple(samples)), expected)
    assert_same_predictions([pipe(sample) for sample in samples], expected)
    assert_same_predictions([pipe(**sample) for sample in samples], expected)
    for batch_size in (1, 2):
        table = Dataset.from_list([{"id": f"video$_${i}", "label": 0.5, **row} for i, row in enumerate(samples)])
        streams = (table, table.to_iterable_dataset(), (row for row in samples), map(dict, samples))
        for stream in streams:
            found = pipe(stream, batch_size=batch_size)
            assert not isinstance(found, (list, dict))
            assert_same_predictions(list(found), expected)
    texts = pipe(["a good film", "bad"])
    assert_same_predictions(list(pipe(KeyDataset(table.select([0, 1]), "text"))), texts)
    assert_same_predictions([pipe("a good film"), pipe(text="bad")], texts)
    assert pipe([]) == []
    assert list(pipe(iter([]))) == []


def test_generators_are_read_as_predictions_are_asked_for(pipe):
    asked = []

    def endless():
        while True:
            asked.append(len(asked))
            yield "bad"

    predictions = iter(pipe(endless(), batch_size=2))
    assert next(predictions)["score"] == pytest.approx(pipe("bad")["score"], abs=1e-6)
    assert len(asked) <= 4


def test_rows_prepared_by_other_processes(pipe):
    assert_same_predictions(pipe(rows(), num_workers=1, batch_size=2), pipe(rows()))


def test_forms_of_the_text(pipe, self_mm):
    """Which column is the text: what the checkpoint reads, and the text itself before its token ids."""
    expected = pipe("a good film")
    ids = self_mm[1].tokenize(["a good film"])[0]
    assert pipe({"input_ids": ids}) == expected
    assert pipe({"input_ids": np.array(ids), "token_type_ids": [0] * len(ids)}) == expected
    assert pipe({"text": "a good film", "input_ids": [1], "text_values": np.ones((2, 3))}) == expected
    assert pipe({"text": " ", "input_ids": ids}) == expected
    assert pipe({"input_ids": ids, "text_values": np.ones((2, 3))}) == expected


def test_text_as_features():
    from processing import MultimodalProcessor

    torch.manual_seed(0)
    model = SelfMMModel(SelfMMModel.config_class(text_feature_size=4, audio_feature_size=5))
    processor = MultimodalProcessor(text_input="values", text_feature_size=4, audio_feature_size=5)
    pipe = MultimodalSentimentPipeline(model, processor=processor)  # in training mode until here
    values = RANDOM.normal(size=(3, 4))
    assert not model.training
    assert pipe({"text": "a film", "text_values": values})["score"] == pipe(text_values=values)["score"]
    with pytest.raises(ValueError, match="The row: `text` came, but this checkpoint has no text encoder"):
        pipe("a film")
    with pytest.raises(ValueError, match="give at least one of text_values, audio_values"):
        pipe({"text": None})


def test_kinds_of_arrays(pipe):
    """Lists, arrays and tensors, on the graph or not, of any precision that holds the values."""
    values = [[0.5, -1.0, 2.0, 0.25, 0.0], [1.0] * 5]
    expected = pipe(audio_values=values)
    for same in (np.array(values), np.array(values, np.float16), torch.tensor(values, requires_grad=True)):
        assert pipe(audio_values=same) == expected
    assert pipe(audio_values=torch.tensor(values, dtype=torch.bfloat16)) == expected
    assert pipe(input_ids=torch.tensor([2, 3])) == pipe(input_ids=[2, 3])
    for wrong in (torch.zeros(5), np.zeros(5)):
        with pytest.raises(ValueError, match=r"must be one array \(steps, features\) per row; got the shape .*5"):
            pipe(audio_values=wrong)


def test_half_precision(self_mm):
    """In bfloat16, 8 bits of mantissa."""
    model = copy.deepcopy(self_mm[0]).to(torch.bfloat16)
    pipe = MultimodalSentimentPipeline(model, processor=self_mm[1])
    exact = MultimodalSentimentPipeline(self_mm[0], processor=self_mm[1])(rows())
    for one, other in zip(pipe(rows(), batch_size=2), exact, strict=True):
        assert one["score"] == pytest.approx(other["score"], abs=0.01)
    assert pipe.dtype == torch.bfloat16


@pytest.mark.parametrize(
    "row, message",
    [
        (
            {"text": "", "audio_values": None},
            r"Row 1: The row has no modality; give at least one of text, audio_values",
        ),
        ({"id": "v$_$3"}, r"Row 1 \(v\$_\$3\): The row has no modality"),
        ({}, "Row 1: The row has no modality"),
        ({"text": "bad", "audio_value": [[0.0] * 5]}, "Row 1: `audio_value` is not a column.*nearest.*`audio_values`"),
        ({"text": "bad", "vision_values": [[0.0]]}, "Row 1: `vision_values` came, but this checkpoint was trained"),
        ({"text": ["bad"]}, "Row 1: `text` must be one string per row; got list"),
        ({"text": 3}, "Row 1: `text` must be one string"),
        ({"audio_values": [0.0] * 5}, r"Row 1: `audio_values` must be one array .*got the shape \(5,\)"),
        ({"audio_values": [[[0.0] * 5]]}, r"Row 1: `audio_values` must be one array .*got the shape \(1, 1, 5\)"),
        ({"audio_values": 0.5}, "Row 1: `audio_values` must be one array"),
        ({"audio_values": [[0.0] * 4]}, "Row 1: `audio_values` has 4 features per step .*on 5"),
        ({"audio_values": [[0.0, math.nan, 0.0, 0.0, 0.0]]}, "Row 1: `audio_values` must be finite"),
        ({"audio_values": [[0.0] * 5, [0.0] * 4]}, "Row 1: "),
        ({"text_values": [[0.0]]}, "Row 1: `text_values` came, .*give `text`"),
        ({"input_ids": [[1, 2]]}, "Row 1: `input_ids` must be the token ids of one text"),
        ({"input_ids": [1, 5]}, "Row 1: `input_ids` must be from 0 to 4.*got 1 to 5"),
        ({"audio_values": [[0.0] * 5], "token_type_ids": [0]}, "Row 1: `token_type_ids` goes with `input_ids`"),
        (7, "Row 1: A row must be a text, a path or a dictionary"),
        (None, "Row 1: A row must be a text, a path or a dictionary"),
    ],
)
def test_rows_that_are_refused(pipe, row, message):
    with pytest.raises(ValueError, match=message):
        pipe(["bad", row])
    with pytest.raises(ValueError, match=message):
        list(pipe(iter(["bad", row]), batch_size=2))


def test_inputs_that_are_refused(pipe):
    for inputs in (None, 3, b"bad", np.zeros((2, 5)), torch.zeros(2, 5)):
        with pytest.raises(ValueError, match="`inputs` must be a text, a row"):
            pipe(inputs)
    with pytest.raises(ValueError, match="not both; audio_values came beside a row"):
        pipe("bad", audio_values=np.zeros((2, 5)))
    with pytest.raises(ValueError, match="`audio_valeus` is not a column"):
        pipe("bad", audio_valeus=np.zeros((2, 5)))
    with pytest.raises(ValueError, match="The row: The row has no modality"):
        pipe("  ")


def test_predictions_that_are_not_finite_are_refused(pipe):
    with pytest.raises(ValueError, match="not finite; load it with `dtype=torch.float32`"):
        pipe.postprocess({"logits": torch.tensor([[math.nan]])})


def test_a_processor_is_needed(self_mm):
    with pytest.raises(ValueError, match="`processor` must be"):
        MultimodalSentimentPipeline(self_mm[0])


def test_task_is_known_in_the_project(self_mm, pipe, tmp_path):
    found = pipeline(TASK, model=self_mm[0], processor=self_mm[1])
    assert type(found) is MultimodalSentimentPipeline
    assert found(rows()) == pipe(rows())
    checkpoint(tmp_path)
    loaded = pipeline(TASK, model=str(tmp_path), pipeline_class=MultimodalSentimentPipeline)
    assert type(loaded.model) is SelfMMModel
    assert_same_predictions(loaded(rows()), pipe(rows()))


STRANGER = """
from transformers import AutoModelForSequenceClassification, pipeline

folder, rows = question
task = "multimodal-sentiment-analysis"
pipes = [pipeline(task, model=folder, trust_remote_code=True), pipeline(model=folder, trust_remote_code=True)]
answers = [pipe(rows, batch_size=2) for pipe in pipes]
half = pipeline(task, model=folder, trust_remote_code=True, dtype="bfloat16", device="cpu")
config = json.loads(half.model.config.to_json_string())
answers.append([str(half.dtype), type(half).__name__, config["custom_pipelines"]])
try:
    pipeline(task, model=folder, trust_remote_code=False)
except ValueError as error:
    answers.append(str(error))
print(json.dumps(answers))
"""


def test_task_is_known_where_the_project_is_not_installed(self_mm, pipe, tmp_path):
    folder = tmp_path / "org" / "name.v1"
    model, _ = checkpoint(folder)
    with_task, without_task, half, refused = run_alone(STRANGER, [str(folder), rows()], tmp_path)
    for predictions in (with_task, without_task):
        assert_same_predictions(predictions, pipe(rows()))
    assert half == ["torch.bfloat16", "MultimodalSentimentPipeline", model.config.custom_pipelines]
    assert "trust_remote_code=True" in refused


def test_configuration_names_the_pipeline(tmp_path):
    checkpoint(tmp_path)
    ((task, entry),) = json.loads((tmp_path / "config.json").read_text())["custom_pipelines"].items()
    assert task == TASK
    file, name = entry["impl"].split(".")
    assert f"class {name}(Pipeline)" in (tmp_path / f"{file}.py").read_text()
    assert entry["pt"] == [AutoModelForSequenceClassification.__name__]
