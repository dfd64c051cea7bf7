"""The model as a stage trains it: what is trained, what of the configuration changes, and that weights stay."""

import pytest
import torch

from configuration import DeltaAttentionConfig, SelfMMConfig
from modeling import DeltaAttentionModel, SelfMMModel
from training.factory import model_of_stage
from training.recipe import Stage

BERT = {"model_type": "bert", "vocab_size": 12, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
SIZES = {"audio_feature_size": 3, "vision_feature_size": 2}
DELTA = {"hidden_size": 8, "num_attention_heads": 2, "correlation_size": 4, "fusion_size": 8}


def stage(name="one", trainable=None, frozen=None, **model):
    return Stage(name, trainable=trainable, frozen=frozen, model=model, training={}, optimizer={})


@pytest.fixture
def model():
    torch.manual_seed(0)
    text = {**BERT, "intermediate_size": 8, "max_position_embeddings": 16}
    return DeltaAttentionModel(DeltaAttentionConfig(text_config=text, target="emotions", **DELTA, **SIZES))


def weights(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def trained(model):
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


# What is trained


@pytest.mark.parametrize(
    ("parts", "of_them"),
    [
        ({}, lambda name: True),
        ({"trainable": ["encoders"]}, lambda name: name.split(".")[0] == "encoders"),  # not "text_encoder"
        ({"trainable": ["output"]}, lambda name: name in ("output.weight", "output.bias")),  # not "unimodal_outputs"
        ({"trainable": ["output.bias"]}, lambda name: name == "output.bias"),
        (
            {"trainable": ["text_encoder", "branches.text"]},
            lambda name: name.startswith("text_encoder.") or name.startswith("branches.text."),
        ),
        ({"frozen": ["text_encoder"]}, lambda name: not name.startswith("text_encoder.")),
        ({"frozen": ["branches", "output"]}, lambda name: name.split(".")[0] not in ("branches", "output")),
    ],
)
def test_parts_are_beginnings_of_names_up_to_a_dot(model, parts, of_them):
    expected = {name for name, _ in model.named_parameters() if of_them(name)}
    assert model_of_stage(model, stage(**parts)) is model
    assert trained(model) == expected


def test_every_stage_says_anew_what_is_trained(model):
    for parts in ({"trainable": ["skips"]}, {"frozen": ["skips"]}, {}):
        model = model_of_stage(model, stage(**parts))
    assert trained(model) == {name for name, _ in model.named_parameters()}


@pytest.mark.parametrize(
    ("part", "nearest"),
    [
        ("text_encodr", "text_encoder"),
        ("branches.txt", "branches.text"),
        ("outpt", "output"),
        ("text_encoder.", "text_encoder"),
        ("unimodal_output", "unimodal_outputs"),
        ("", None),
    ],
)
@pytest.mark.parametrize("key", ["trainable", "frozen"])
def test_an_unknown_part_names_the_nearest(model, key, part, nearest):
    with pytest.raises(ValueError, match=f"`{key}` .*'second' names '{part}'.*nearest part is '{nearest or '.*'}'"):
        model_of_stage(model, stage("second", **{key: ["encoders", part]}))


def test_a_stage_that_trains_nothing(model):
    everything = [name for name, _ in model.named_children() if name != "dropout"]
    with pytest.raises(ValueError, match="'last' trains nothing"):
        model_of_stage(model, stage("last", frozen=everything))


# Fields that change


@pytest.mark.parametrize(
    "fields",
    [
        {"objective": "text"},
        {"objective": "correlation", "correlation_weight": 0.5},
        {"output_dropout": 0.4, "attention_dropout": 0.0},
        {"pooling": "last", "window": 3, "direction": "past"},
    ],
    ids=str,
)
def test_changed_fields_keep_the_weights_bit_for_bit(model, fields):
    before = weights(model)
    changed = model_of_stage(model, stage(trainable=["encoders"], **fields))
    for name, value in fields.items():
        assert getattr(changed.config, name) == value
    kept = {name: value for name, value in model.config.to_dict().items() if name not in fields}
    assert {name: value for name, value in changed.config.to_dict().items() if name not in fields} == kept
    assert list(weights(changed)) == list(before)
    for name, value in weights(changed).items():
        assert torch.equal(value, before[name]) and value.dtype == before[name].dtype
    assert all(name.startswith("encoders.") for name in trained(changed))


def test_fields_stay_changed(model):
    model = model_of_stage(model, stage(objective="text", output_dropout=0.3))
    model = model_of_stage(model, stage(objective="fusion"))
    assert (model.config.objective, model.config.output_dropout, model.dropout.p) == ("fusion", 0.3, 0.3)
    assert model_of_stage(model, stage()) is model


def test_the_change_is_one_of_behaviour(model):
    """Dropout and objective are those of the stage, not only in the configuration."""
    inputs = {"audio_values": torch.randn(2, 4, 3), "vision_values": torch.randn(2, 4, 2)}
    changed = model_of_stage(model, stage(objective="audio")).eval()
    with torch.no_grad():
        before, after = model.eval()(**inputs), changed(**inputs)
    assert torch.equal(after.logits, before.audio_logits) and not torch.equal(after.logits, before.logits)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"hidden_size": 16}, "branches"),
        ({"skip_connections": False}, "skips"),
        ({"cross_attention": False}, "attention"),
        ({"num_hidden_layers": 2}, "branches"),
    ],
    ids=str,
)
def test_fields_that_change_parameters_are_refused(model, fields, named):
    with pytest.raises(
        ValueError, match=f"`model` may not change.*{next(iter(fields))}.*{named}.*the recipe's `model`"
    ):
        model_of_stage(model, stage(**fields))


def test_fields_that_do_not_fit_the_configuration(model):
    with pytest.raises(ValueError, match="`output_dropout` must be"):
        model_of_stage(model, stage(output_dropout=2.0))


def test_another_architecture():
    model = SelfMMModel(SelfMMConfig(text_config={**BERT, "intermediate_size": 8}, **SIZES))
    before = weights(model)
    changed = model_of_stage(model, stage(trainable=["heads"], fusion_dropout=0.5))
    assert changed.config.fusion_dropout == 0.5 and trained(changed) == {n for n in before if n.startswith("heads.")}
    assert all(torch.equal(value, before[name]) for name, value in weights(changed).items())
