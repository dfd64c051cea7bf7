"""The processor: padding and masks, what it refuses, normalisation, and that it comes back as it was saved."""

import json

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, pre_tokenizers, processors
from tokenizers.models import WordLevel
from transformers import AutoModel, AutoProcessor, PreTrainedTokenizerFast

from configuration import SelfMMConfig
from modeling import SelfMMModel
from processing import MultimodalProcessor
from processing.processing_multimodal import fit_normalization

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "good", "bad", "film"]
SIZES = {"audio_feature_size": 3, "vision_feature_size": 2}
RANDOM = np.random.default_rng(0)


def word_tokenizer(**arguments):
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [("[CLS]", 2), ("[SEP]", 3)]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    special = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special, **arguments)


def token_processor(tokenizer_arguments=None, **arguments):
    return MultimodalProcessor(
        word_tokenizer(**(tokenizer_arguments or {})), **{"text_input": "tokens", **SIZES, **arguments}
    )


def value_processor(**arguments):
    return MultimodalProcessor(**{"text_input": "values", "text_feature_size": 4, **SIZES, **arguments})


def features(steps, size):
    return RANDOM.normal(size=(steps, size)).astype(np.float32)


def test_values_are_padded_on_the_right_and_masked():
    rows = {"text": [features(3, 4), features(1, 4)], "audio": [features(2, 3), features(5, 3)]}
    inputs = value_processor()(text_values=rows["text"], audio_values=rows["audio"])
    assert set(inputs) == {"text_values", "attention_mask", "audio_values", "audio_attention_mask"}
    for modality, mask_name in (("text", "attention_mask"), ("audio", "audio_attention_mask")):
        values, mask = inputs[f"{modality}_values"], inputs[mask_name]
        assert values.dtype == torch.float32 and mask.dtype == torch.int64
        assert values.shape[:2] == mask.shape == (2, max(map(len, rows[modality])))
        for i, row in enumerate(rows[modality]):
            assert mask[i].tolist() == [1] * len(row) + [0] * (mask.shape[1] - len(row))
            np.testing.assert_array_equal(values[i, : len(row)].numpy(), row)
            assert (values[i, len(row) :] == 0).all()


def test_text_becomes_tokens():
    inputs = token_processor()(text=["a good film", "bad"])
    assert inputs["input_ids"].tolist() == [[2, 4, 5, 7, 3], [2, 6, 3, 0, 0]]
    assert inputs["attention_mask"].tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]
    assert inputs["input_ids"].dtype == inputs["attention_mask"].dtype == torch.int64


def test_padding_side_and_token_of_the_tokenizer():
    """Masks are what counts: whatever side the tokenizer would pad on, here it is the right."""
    processor = token_processor({"padding_side": "left"})
    processor.tokenizer.pad_token = "a"
    assert processor(text=["good film", "bad"])["input_ids"].tolist() == [[2, 5, 7, 3], [2, 6, 3, 4]]


@pytest.mark.parametrize(
    "ids",
    [
        [[2, 5, 7, 3], [2, 3]],
        [np.array([2, 5, 7, 3]), np.array([2, 3])],
        [torch.tensor([2, 5, 7, 3]), torch.tensor([2, 3])],
    ],
    ids=["lists", "numpy", "torch"],
)
def test_token_ids_instead_of_text(ids):
    processor = token_processor()
    inputs = processor(input_ids=ids)
    assert inputs["input_ids"].tolist() == [[2, 5, 7, 3], [2, 3, 0, 0]]
    assert inputs["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert processor(input_ids=ids[0])["input_ids"].tolist() == [[2, 5, 7, 3]]


def test_segments_of_token_ids():
    processor = token_processor()
    inputs = processor(input_ids=[[2, 5, 3], None, [2]], token_type_ids=[[0, 1, 1], None, [0]])
    assert inputs["token_type_ids"].tolist() == [[0, 1, 1], [0, 0, 0], [0, 0, 0]]
    assert processor(input_ids=[2, 5, 3], token_type_ids=[0, 1, 1])["token_type_ids"].tolist() == [[0, 1, 1]]
    assert "token_type_ids" not in processor(input_ids=[2, 5, 3])


@pytest.mark.parametrize("processor", [token_processor(), value_processor()], ids=["tokens", "values"])
def test_one_sample_is_a_list_of_one(processor):
    arguments = {"audio_values": features(4, 3), "vision_values": features(1, 2)}
    arguments |= {"text": "good film"} if processor.tokenizer else {"text_values": features(3, 4)}
    several = processor(**{name: [value] for name, value in arguments.items()})
    nested = {name: value if isinstance(value, str) else value.tolist() for name, value in arguments.items()}
    for one in (processor(**arguments), processor(**nested)):
        assert set(one) == set(processor.model_input_names) == set(several)
        for name in several:
            assert len(one[name]) == 1 and torch.equal(one[name], several[name])


@pytest.mark.parametrize("empty", [None, "", []], ids=["None", "empty text", "no steps"])
def test_samples_that_lack_a_modality(empty):
    processor, audio = token_processor(), features(2, 3)
    nothing = np.zeros((0, 3)) if empty == "" else empty
    inputs = processor(text=["good", empty or "", "film"], audio_values=[nothing, audio, nothing])
    assert inputs["attention_mask"].tolist() == [[1, 1, 1], [0, 0, 0], [1, 1, 1]]
    assert inputs["audio_attention_mask"].tolist() == [[0, 0], [1, 1], [0, 0]]
    assert (inputs["audio_values"][[0, 2]] == 0).all()
    first = processor(text=[empty, "good"], audio_values=[nothing, audio])  # the first sample tells nothing of the rest
    assert first["attention_mask"].tolist() == [[0, 0, 0], [1, 1, 1]]
    assert first["audio_attention_mask"].tolist() == [[0, 0], [1, 1]]


def test_blank_text_is_no_text():
    assert token_processor().tokenize(["", "  \n", "bad"]) == [[], [], [2, 6, 3]]


def test_what_no_sample_has_is_left_out():
    inputs = token_processor()(text=["good", "bad"], audio_values=[None, None], vision_values=[[], np.zeros((0, 2))])
    assert set(inputs) == {"input_ids", "attention_mask"}


def test_model_input_names():
    assert token_processor(vision_feature_size=None).model_input_names == [
        "input_ids",
        "attention_mask",
        "audio_values",
        "audio_attention_mask",
    ]
    assert value_processor(audio_feature_size=None, vision_feature_size=None).model_input_names == [
        "text_values",
        "attention_mask",
    ]
    only_vision = MultimodalProcessor(vision_feature_size=2)
    assert only_vision.model_input_names == ["vision_values", "vision_attention_mask"]


@pytest.mark.parametrize(
    "processor",
    [token_processor(max_text_length=4), token_processor({"model_max_length": 4})],
    ids=["processor's limit", "tokenizer's limit"],
)
def test_truncation_is_counted_and_reported(processor, caplog):
    texts = ["good film", "", "a good good good film", "bad bad bad"]
    with caplog.at_level("WARNING"):
        ids = processor.tokenize(texts)
    assert ids == [[2, 5, 7, 3], [], [2, 4, 5, 3], [2, 6, 6, 3]]  # cut inside, the special tokens stay
    (record,) = caplog.records
    assert record.getMessage().startswith("2 of 4 texts are longer than 4 tokens (the longest has 7)")
    caplog.clear()
    with caplog.at_level("WARNING"):
        assert processor(text=texts[:2])["input_ids"].shape == (2, 4)
    assert not caplog.records


def test_inputs_are_not_changed():
    processor = value_processor(normalization={"audio": {"mean": [1.0] * 3, "std": [2.0] * 3}})
    rows = [features(2, 3), features(3, 3)]
    before = [row.copy() for row in rows]
    processor(audio_values=rows)["audio_values"].fill_(7)
    for row, copy in zip(rows, before, strict=True):
        np.testing.assert_array_equal(row, copy)


# Normalisation


def normalization_rows():
    """Far from zero, of differing scale, with a constant feature; some rows are empty."""
    scales, centres = np.array([1.0, 1e-3, 0.0, 50.0]), np.array([1e6, -7.0, 0.1, 0.0])
    rows = [RANDOM.normal(size=(steps, 4)) * scales + centres for steps in (5, 0, 1, 40)]
    return rows, np.concatenate(rows)


def test_statistics_equal_numpy_over_all_valid_steps():
    rows, steps = normalization_rows()
    statistics = fit_normalization(iter(rows), "audio")
    np.testing.assert_allclose(statistics["mean"], steps.mean(axis=0), rtol=1e-9)
    np.testing.assert_allclose(statistics["std"], [*steps.std(axis=0)[:2], 1.0, steps.std(axis=0)[3]], rtol=1e-6)
    assert json.loads(json.dumps(statistics)) == statistics


def test_statistics_of_single_precision_rows_far_from_zero():
    rows = [(RANDOM.normal(size=(500, 2)) + 1e4).astype(np.float32) for _ in range(4)]
    expected = np.concatenate(rows).astype(np.float64)
    statistics = fit_normalization(rows, "audio")
    np.testing.assert_allclose(statistics["mean"], expected.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(statistics["std"], expected.std(axis=0), rtol=1e-9)


def test_statistics_of_nothing():
    with pytest.raises(ValueError, match="audio.*`normalize`"):
        fit_normalization([np.zeros((0, 3))], "audio")


def test_normalisation_spares_the_padding():
    rows, steps = normalization_rows()
    processor = MultimodalProcessor(audio_feature_size=4, normalization={"audio": fit_normalization(rows, "audio")})
    inputs = processor(audio_values=rows)
    values, mask = inputs["audio_values"].numpy(), inputs["audio_attention_mask"].numpy().astype(bool)
    assert (values[~mask] == 0).all()
    expected = (steps - steps.mean(axis=0)) / np.where(steps.std(axis=0) > 1e-8, steps.std(axis=0), 1.0)
    np.testing.assert_allclose(values[mask][:, [1, 3]], expected[:, [1, 3]], atol=1e-3)
    np.testing.assert_allclose(values[mask][:, 0], expected[:, 0], atol=0.1)  # float32 near 1e6 has steps of 0.06
    assert (values[mask][:, 2] == 0).all()


def test_normalisation_is_by_modality():
    statistics = {"vision": {"mean": [1.0, -1.0], "std": [2.0, 0.5]}}
    inputs = value_processor(normalization=statistics)(audio_values=np.ones((1, 3)), vision_values=np.ones((1, 2)))
    assert inputs["audio_values"].tolist() == [[[1.0, 1.0, 1.0]]]
    assert inputs["vision_values"].tolist() == [[[0.0, 4.0]]]


# What is refused


def named(arguments):
    return "+".join(arguments) or "nothing" if isinstance(arguments, dict) else ""


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"text_input": "words"}, ["`text_input`", "'words'"]),
        ({"text_input": "tokens"}, ["tokenizer", "'tokens'", "no tokenizer"]),
        ({"tokenizer": word_tokenizer()}, ["tokenizer", "None", "a tokenizer"]),
        ({"text_input": "values"}, ["`text_feature_size`", "'values'"]),
        ({"text_feature_size": 3}, ["`text_feature_size`", "3"]),
        ({"tokenizer": word_tokenizer(), "text_input": "tokens", "max_text_length": -1}, ["`max_text_length`", "-1"]),
        ({"tokenizer": word_tokenizer(), "text_input": "tokens", "max_text_length": 1}, ["`max_text_length`", "1"]),
        (
            {"audio_feature_size": 1, "normalization": {"audoi": {"mean": [0], "std": [1]}}},
            ["`normalization`", "audoi"],
        ),
        (
            {"audio_feature_size": 2, "normalization": {"audio": {"mean": [0], "std": [1]}}},
            ["`normalization`", "audio"],
        ),
        (
            {"audio_feature_size": 1, "normalization": {"audio": {"mean": [0], "std": [0]}}},
            ["`normalization`", "audio"],
        ),
    ],
    ids=named,
)
def test_bad_settings(arguments, words):
    with pytest.raises(ValueError) as error:
        MultimodalProcessor(**arguments)
    assert all(word in str(error.value) for word in words), str(error.value)


TOKENS, VALUES = token_processor(audio_feature_set="COVAREP"), value_processor(text_feature_set="GloVe")
NO_TEXT = MultimodalProcessor(audio_feature_size=3)


@pytest.mark.parametrize(
    "processor, arguments, words",
    [
        (TOKENS, {}, ["input_ids, audio_values, vision_values"]),
        (VALUES, {}, ["text_values, audio_values, vision_values"]),
        (TOKENS, {"text": "good", "input_ids": [2, 3]}, ["`text`", "`input_ids`"]),
        (TOKENS, {"text": []}, ["sample"]),
        (TOKENS, {"text_values": np.ones((2, 4))}, ["`text_values`", "`text`"]),
        (VALUES, {"text": "good"}, ["`text`", "`text_values`", "4 features", "(GloVe)"]),
        (VALUES, {"input_ids": [2, 3]}, ["`text_values`", "(GloVe)"]),
        (NO_TEXT, {"text": "good"}, ["`text`", "without text"]),
        (NO_TEXT, {"text_values": np.ones((2, 4))}, ["`text_values`", "without text"]),
        (NO_TEXT, {"vision_values": np.ones((2, 2))}, ["`vision_values`", "without vision"]),
        (TOKENS, {"audio_values": np.ones((2, 5))}, ["`audio_values`", "5 features", "sample 0", "3", "(COVAREP)"]),
        (TOKENS, {"audio_values": [np.ones((2, 3)), np.ones((2, 4))]}, ["`audio_values`", "4 features", "sample 1"]),
        (TOKENS, {"audio_values": np.ones(3)}, ["`audio_values`", "(steps, 3)", "sample 0"]),
        (TOKENS, {"audio_values": [np.ones((2, 3)), np.ones((1, 2, 3))]}, ["`audio_values`", "sample 1", "(1, 2, 3)"]),
        (
            TOKENS,
            {"audio_values": [np.ones((1, 3)), np.full((1, 3), np.nan)]},
            ["`audio_values`", "finite", "sample 1"],
        ),
        (TOKENS, {"vision_values": np.full((1, 2), np.inf)}, ["`vision_values`", "finite"]),
        (TOKENS, {"vision_values": np.full((1, 2), 1e300)}, ["`vision_values`", "finite"]),
        (TOKENS, {"text": ["good", "bad"], "audio_values": [np.ones((1, 3))]}, ["'text': 2", "'audio_values': 1"]),
        (TOKENS, {"text": ["", None], "audio_values": [None, []]}, ["lacks every modality"]),
        (TOKENS, {"input_ids": [[2, 5, 3]], "token_type_ids": [[0, 1]]}, ["`token_type_ids`"]),
        (TOKENS, {"input_ids": [[2, 3], [2, 3]], "token_type_ids": [[0, 0]]}, ["`token_type_ids`"]),
        (TOKENS, {"audio_values": np.ones((1, 3)), "token_type_ids": [0, 1]}, ["`token_type_ids`"]),
        (TOKENS, {"text": "good", "token_type_ids": [0, 1, 1]}, ["`token_type_ids`"]),
    ],
    ids=named,
)
@pytest.mark.filterwarnings("ignore:overflow")
def test_bad_samples(processor, arguments, words):
    with pytest.raises(ValueError) as error:
        processor(**arguments)
    assert all(word in str(error.value) for word in words), str(error.value)


def test_unknown_settings_and_inputs():
    with pytest.raises(TypeError, match="audio_featuresize"):
        MultimodalProcessor(audio_featuresize=3)
    with pytest.raises(TypeError, match="pictures"):
        TOKENS(pictures=np.ones((1, 3)))


# Saving and loading


def settings_of(processor):
    return {name: value for name, value in vars(processor).items() if name != "tokenizer"}


@pytest.mark.parametrize("kind", ["tokens", "values", "no text"])
def test_round_trip(kind, tmp_path):
    rows = [features(4, 3), features(2, 3)]
    arguments = {"audio_feature_set": "COVAREP, 100 Hz", "normalization": {"audio": fit_normalization(rows, "audio")}}
    if kind == "tokens":
        processor, text = token_processor(max_text_length=5, **arguments), {"text": ["a good good film", "bad"]}
    elif kind == "values":
        processor, text = value_processor(**arguments), {"text_values": [features(1, 4), features(2, 4)]}
    else:
        processor, text = MultimodalProcessor(audio_feature_size=3, **arguments), {}
    expected = processor(audio_values=rows, **text)
    files = processor.save_pretrained(tmp_path)
    assert "processor_config.json" in {path.name for path in tmp_path.iterdir()} and files
    assert str(tmp_path) not in (tmp_path / "processor_config.json").read_text()
    for loaded in (MultimodalProcessor.from_pretrained(tmp_path), AutoProcessor.from_pretrained(tmp_path)):
        assert type(loaded) is MultimodalProcessor and settings_of(loaded) == settings_of(processor)
        assert (loaded.tokenizer is None) == (processor.tokenizer is None)
        found = loaded(audio_values=rows, **text)
        assert set(found) == set(expected)
        assert all(torch.equal(found[name], expected[name]) for name in expected)
        loaded.save_pretrained(tmp_path / "again")
        again = (tmp_path / "again" / "processor_config.json").read_text()
        assert again == (tmp_path / "processor_config.json").read_text()


@pytest.mark.parametrize("kind", ["tokens", "values"])
def test_predictions_survive_the_round_trip(kind, tmp_path):
    rows = [features(4, 3), features(2, 3), None]
    normalization = {"audio": fit_normalization(rows[:2], "audio")}
    config = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    if kind == "tokens":
        processor = token_processor(normalization=normalization)
        samples = {"text": ["a good film", None, "bad"]}
        text = {"text_config": {**config, "vocab_size": len(processor.tokenizer)}}
    else:
        processor = value_processor(normalization=normalization)
        samples, text = {"text_values": [features(3, 4), None, features(1, 4)]}, {"text_feature_size": 4}
    samples |= {"audio_values": rows, "vision_values": [features(1, 2), features(6, 2), features(2, 2)]}
    model = SelfMMModel(SelfMMConfig(**text, **SIZES)).eval()
    for part in (model, processor):
        part.save_pretrained(tmp_path)
    loaded_model, loaded_processor = AutoModel.from_pretrained(tmp_path), AutoProcessor.from_pretrained(tmp_path)
    with torch.no_grad():
        expected = model(**processor(**samples)).logits
        again = loaded_model(**loaded_processor(**samples)).logits  # whose weights lie elsewhere in memory
        torch.testing.assert_close(again, expected, atol=1e-6, rtol=0)
        for i in range(3):
            alone = {name: values[i : i + 1] for name, values in samples.items()}
            torch.testing.assert_close(model(**processor(**alone)).logits, expected[i : i + 1], atol=1e-5, rtol=1e-5)
    assert expected.unique().numel() == 3
