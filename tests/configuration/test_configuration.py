"""Configurations: defaults, what is refused and in which words, text encoders, and what config.json holds."""

import copy
import json

import pytest
from huggingface_hub.errors import StrictDataclassFieldValidationError
from transformers import AutoConfig, BertConfig, DistilBertConfig

from configuration import CONFIG_CLASSES, MODALITIES, MultimodalConfig, SelfMMConfig

TINY_BERT = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
FULL = {
    "text_config": TINY_BERT,
    "audio_feature_size": 33,
    "vision_feature_size": 709,
    "label_range": (-1, 1),
    "tasks": ("M", "A"),
    "text_pooling": "mean",
    "audio_projection_size": 16,
    "fusion_dropout": 0,
    "head_layers": 3,
}


def test_defaults():
    config = SelfMMConfig()
    assert config.modalities == () and config.text_config is None
    assert (config.num_labels, config.problem_type, config.label_range) == (1, "regression", [-3.0, 3.0])
    assert config.id2label == {0: "sentiment"} and config.label2id == {"sentiment": 0}
    assert config.tasks == ["M", "T", "A", "V"] and config.head_layers == 2


@pytest.mark.parametrize("config_class", CONFIG_CLASSES)
def test_registered_for_auto_config(config_class):
    assert type(AutoConfig.for_model(config_class.model_type)) is config_class
    assert issubclass(config_class, MultimodalConfig)


@pytest.mark.parametrize(
    "fields, modalities",
    [
        ({"text_config": {}}, ("text",)),
        ({"text_feature_size": 300}, ("text",)),
        ({"vision_feature_size": 20, "audio_feature_size": 5}, ("audio", "vision")),
        ({"vision_feature_size": 20, "text_feature_size": 5}, ("text", "vision")),
        ({"vision_feature_size": 20, "text_config": {}, "audio_feature_size": 5}, MODALITIES),
    ],
)
def test_modalities_are_those_with_an_input(fields, modalities):
    config = SelfMMConfig(**fields)
    assert config.modalities == config.unimodal_tasks == modalities
    assert SelfMMConfig(**fields, tasks=["M", "A"]).unimodal_tasks == tuple(m for m in modalities if m == "audio")


def test_round_trip_keeps_every_field(tmp_path):
    config = SelfMMConfig(**copy.deepcopy(FULL))
    config.save_pretrained(tmp_path)
    for loaded in (SelfMMConfig.from_pretrained(tmp_path), AutoConfig.from_pretrained(tmp_path)):
        assert type(loaded) is SelfMMConfig and type(loaded.text_config) is BertConfig
        assert {**loaded.to_dict(), "_name_or_path": ""} == config.to_dict()
        for name, value in FULL.items():
            if name == "text_config":
                assert {key: getattr(loaded.text_config, key) for key in value} == value
            else:
                found = getattr(loaded, name)
                assert (tuple(found) if isinstance(value, tuple) else found) == value
        assert [type(bound) for bound in loaded.label_range] == [float, float]


def test_config_json_names_no_other_place(tmp_path):
    """A checkpoint is self-contained, wherever the encoder's weights came from and whatever folder it was in."""
    BertConfig(**TINY_BERT).save_pretrained(tmp_path / "encoder")
    for text_config in (
        AutoConfig.from_pretrained(tmp_path / "encoder"),
        {**TINY_BERT, "_name_or_path": str(tmp_path / "encoder")},
    ):
        SelfMMConfig(text_config=text_config).save_pretrained(tmp_path / "first")
        loaded = SelfMMConfig.from_pretrained(tmp_path / "first")
        loaded.save_pretrained(tmp_path / "second")
        for folder in ("first", "second"):
            text = (tmp_path / folder / "config.json").read_text()
            assert str(tmp_path) not in text
            assert not json.loads(text)["text_config"].get("_name_or_path")


def test_text_config_is_a_dictionary_or_a_configuration():
    assert type(SelfMMConfig(text_config=TINY_BERT).text_config) is BertConfig
    other = SelfMMConfig(text_config={"model_type": "distilbert", "dim": 8}).text_config
    assert type(other) is DistilBertConfig and other.hidden_size == 8
    given = BertConfig(**TINY_BERT)
    assert SelfMMConfig(text_config=given).text_config.to_dict() == given.to_dict()
    settings = {"model_type": "bert", **TINY_BERT}
    SelfMMConfig(text_config=settings)
    assert settings == {"model_type": "bert", **TINY_BERT}  # the caller's dictionary stays as it was


def test_lists_of_two_configurations_are_their_own():
    first, second = SelfMMConfig(), SelfMMConfig()
    first.tasks.remove("T")
    first.label_range[0] = -1.0
    assert second.tasks == ["M", "T", "A", "V"] and second.label_range == [-3.0, 3.0]
    assert SelfMMConfig().tasks == ["M", "T", "A", "V"] and SelfMMConfig().label_range == [-3.0, 3.0]


def test_number_of_labels_of_the_shared_fields():
    config = MultimodalConfig(num_labels=6, problem_type="multi_label_classification")
    assert config.num_labels == 6 and len(config.id2label) == 6
    named = MultimodalConfig(id2label={0: "negative", 1: "positive"}, problem_type="single_label_classification")
    assert named.num_labels == 2


@pytest.mark.parametrize(
    "written, nearest",
    [
        ("audio_featuresize", "audio_feature_size"),
        ("text_confg", "text_config"),
        ("fusiondropout", "fusion_dropout"),
        ("headlayers", "head_layers"),
        ("numlabels", "num_labels"),
    ],
)
def test_unknown_key_names_the_nearest(written, nearest):
    with pytest.raises(ValueError, match=f"`{written}` is not a field of SelfMMConfig.*`{nearest}`"):
        SelfMMConfig(**{written: 1})


@pytest.mark.parametrize(
    "fields, words",
    [
        ({"tasks": ["T", "A"]}, ["`tasks`", "M among them", "'T'"]),
        ({"tasks": []}, ["`tasks`"]),
        ({"tasks": ["M", "M"]}, ["`tasks`", "different"]),
        ({"tasks": ["M", "X"]}, ["`tasks`", "'X'"]),
        ({"head_layers": 1}, ["`head_layers`", "got 1"]),
        ({"head_layers": 4}, ["`head_layers`", "got 4"]),
        ({"num_labels": 3}, ["`num_labels`", "3"]),
        ({"problem_type": "multi_label_classification"}, ["`problem_type`", "multi_label_classification"]),
        ({"fusion_dropout": 1.0}, ["`fusion_dropout`", "1.0"]),
        ({"audio_dropout": -0.1}, ["`audio_dropout`", "-0.1"]),
        ({"sequence_dropout": float("nan")}, ["`sequence_dropout`", "nan"]),
        ({"vision_size": 0}, ["`vision_size`", "0"]),
        ({"text_hidden_size": -2}, ["`text_hidden_size`", "-2"]),
        ({"audio_projection_size": 0}, ["`audio_projection_size`", "0"]),
        ({"audio_feature_size": 0}, ["`audio_feature_size`", "no audio", "0"]),
        ({"text_feature_size": -1}, ["`text_feature_size`", "no text", "-1"]),
        ({"text_feature_size": 300, "text_config": {}}, ["`text_config`", "`text_feature_size`", "both"]),
        ({"text_config": {"model_type": "brt"}}, ["`text_config.model_type`", "'brt'"]),
        ({"label_range": (0, 3)}, ["`label_range`", "(0, 3)"]),
        ({"label_range": (3, -3)}, ["`label_range`", "(3, -3)"]),
        ({"label_range": (-1,)}, ["`label_range`", "two"]),
        ({"label_range": (-1, 0.5, 1)}, ["`label_range`", "two"]),
        ({"label_range": (-1, float("inf"))}, ["`label_range`", "finite", "inf"]),
        ({"label_range": (float("nan"), 1)}, ["`label_range`", "finite", "nan"]),
        ({"label_range": ("-1", "1")}, ["`label_range`", "numbers"]),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_values_outside_the_rules(fields, words):
    with pytest.raises(ValueError) as error:
        SelfMMConfig(**fields)
    assert all(word in str(error.value) for word in words), str(error.value)


@pytest.mark.parametrize(
    "field, value",
    [("audio_feature_size", "5"), ("audio_size", 1.5), ("head_layers", True), ("tasks", "MTA"), ("label_range", 3)]
    + [("text_config", 768), ("text_pooling", "max"), ("problem_type", "ranking"), ("fusion_dropout", "0.1")],
)
def test_values_of_another_type(field, value):
    with pytest.raises(StrictDataclassFieldValidationError, match=f"'{field}'"):
        SelfMMConfig(**{field: value})
