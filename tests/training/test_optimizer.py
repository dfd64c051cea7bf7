"""Parameter groups of a recipe's `optimizer` section."""

import pytest
import torch
from torch import nn

from configuration import SelfMMConfig
from modeling import SelfMMModel
from training.optimizer import PARAMETER_GROUPS, parameter_groups

TINY_BERT = {
    "model_type": "bert",
    "vocab_size": 20,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "max_position_embeddings": 16,
}
SETTINGS = {
    "name": "adam",
    "text_encoder": {"learning_rate": 5e-5, "weight_decay": 0.001},
    "audio_encoder": {"learning_rate": 5e-3, "weight_decay": 0.01},
    "vision_encoder": {"learning_rate": 1e-4, "weight_decay": 0.02},
    "rest": {"learning_rate": 1e-3, "weight_decay": 0.03},
}


def make_model(**fields):
    sizes = {"audio_feature_size": 3, "vision_feature_size": 2, "audio_projection_size": 4}
    return SelfMMModel(SelfMMConfig(**{**sizes, "text_config": TINY_BERT, **fields}))


def by_name(model, groups):
    """(learning rate, weight decay) by parameter name; every parameter must be in exactly one group."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = {}
    for group in groups:
        assert group["params"]
        for parameter in group["params"]:
            name = names[id(parameter)]
            assert name not in found
            found[name] = group["lr"], group["weight_decay"]
    return found


def biases_and_norms(model):
    """Names of the parameters that shift or scale, by the modules that have them."""
    names = set()
    for module_name, module in model.named_modules():
        for name, _ in module.named_parameters(recurse=False):
            if isinstance(module, nn.LayerNorm) or "bias" in name:
                names.add(f"{module_name}.{name}")
    return names


def test_every_parameter_has_its_groups_settings():
    model = make_model()
    found = by_name(model, parameter_groups(model, SETTINGS, 1.0, 2.0))
    assert set(found) == {name for name, _ in model.named_parameters()}
    undecayed = biases_and_norms(model)
    seen = set()
    for name, values in found.items():
        group = next((g for g in PARAMETER_GROUPS if name.startswith(g + ".")), "rest")
        rate, decay = SETTINGS[group]["learning_rate"], SETTINGS[group]["weight_decay"]
        if group == "text_encoder" and name in undecayed:
            decay = 0.0
        assert values == (rate, decay), name
        seen.add((group, decay))
    assert len(seen) == 5  # the text encoder's two and three others
    assert any(name in undecayed and not name.startswith("text_encoder") for name in found)


def test_groups_are_few():
    groups = parameter_groups(make_model(), SETTINGS, 1.0, 2.0)
    assert len(groups) == 5
    assert all(set(group) == {"params", "lr", "weight_decay"} for group in groups)


def test_text_features_have_a_text_encoder_too():
    """Where text comes as features, an LSTM is the text encoder; its biases are not decayed either."""
    model = make_model(text_config=None, text_feature_size=5)
    found = by_name(model, parameter_groups(model, SETTINGS, 1.0, 2.0))
    text = {name: values for name, values in found.items() if name.startswith("text_encoder.")}
    assert set(text) == {
        f"text_encoder.lstm.{kind}_{where}_l0" for kind in ("weight", "bias") for where in ("ih", "hh")
    }
    for name, values in text.items():
        assert values == (5e-5, 0.0 if "bias" in name else 0.001)


@pytest.mark.parametrize("settings", [{}, {"name": "training"}, {"rest": {}}], ids=str)
def test_without_settings_all_have_the_training_arguments(settings):
    model = make_model()
    found = by_name(model, parameter_groups(model, settings, 0.3, 0.7))
    undecayed = {name for name in biases_and_norms(model) if name.startswith("text_encoder.")}
    assert {name for name, values in found.items() if values == (0.3, 0.0)} == undecayed
    assert {name for name, values in found.items() if values == (0.3, 0.7)} == set(found) - undecayed


def test_each_setting_falls_back_by_itself():
    model = make_model()
    settings = {"audio_encoder": {"learning_rate": 0.0}, "rest": {"weight_decay": 0.0}}
    found = by_name(model, parameter_groups(model, settings, 0.3, 0.7))
    assert found["audio_encoder.lstm.weight_ih_l0"] == (0.0, 0.7)  # zero is a value
    assert found["heads.fusion.space.weight"] == (0.3, 0.0)
    assert found["vision_encoder.lstm.weight_ih_l0"] == (0.3, 0.7)


def test_frozen_parameters_are_left_out():
    model = make_model()
    model.text_encoder.requires_grad_(False)
    found = by_name(model, parameter_groups(model, SETTINGS, 1.0, 2.0))
    assert set(found) == {name for name, _ in model.named_parameters() if not name.startswith("text_encoder.")}
    assert {rate for rate, _ in found.values()} == {5e-3, 1e-4, 1e-3}


def test_absent_modalities_have_no_group():
    model = make_model(vision_feature_size=None)
    found = by_name(model, parameter_groups(model, SETTINGS, 1.0, 2.0))
    assert 1e-4 not in {rate for rate, _ in found.values()}


def test_torch_takes_the_groups():
    model = make_model()
    optimizer = torch.optim.Adam(parameter_groups(model, SETTINGS, 1.0, 2.0))
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer.step()
    for name, parameter in model.named_parameters():
        group = next((g for g in PARAMETER_GROUPS if name.startswith(g + ".")), "rest")
        step = (before[name] - parameter.detach()).abs().max().item()
        assert step == pytest.approx(SETTINGS[group]["learning_rate"], rel=0.05), name  # Adam's first step


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "module._orig_mod.", "_fsdp_wrapped_module."])
def test_wrapped_models_have_the_same_groups(prefix):
    """What compiles a model, or spreads it over processes, puts a name before those of its parameters."""
    model = make_model()

    class Wrapped(nn.Module):
        def named_parameters(self, *args, **kwargs):
            return ((f"{prefix}{name}", parameter) for name, parameter in model.named_parameters())

    def described(found):
        return [(group["lr"], group["weight_decay"], [id(p) for p in group["params"]]) for group in found]

    expected = described(parameter_groups(model, SETTINGS, 1.0, 2.0))
    assert described(parameter_groups(Wrapped(), SETTINGS, 1.0, 2.0)) == expected
    compiled = torch.compile(model, backend="eager")
    assert next(name for name, _ in compiled.named_parameters()).startswith("_orig_mod.")
    assert described(parameter_groups(compiled, SETTINGS, 1.0, 2.0)) == expected
