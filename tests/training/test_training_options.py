"""Mixed precision and torch.compile through train.py: what is trained, saved and gone on with stays the same."""

import pytest
import torch
import yaml
from safetensors.torch import load_file

import train
from tests.conftest import TINY_RECIPE, killed_run
from training.optimizer import parameter_groups
from training.trainer import MultimodalTrainer

COSTS = ("train_seconds", "seconds_per_epoch", "peak_memory_mb")
TEXT = TINY_RECIPE["model"]["text_config"]
SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
SYSTEMS = {
    "self_mm": {},
    "sugrm": {"label_generation": "sugrm", "model": {"text_config": TEXT, **SMALL}},
    "mmlatch": {"label_generation": "none", "model": {"text_config": TEXT, "hidden_size": 16}},
    "ucrn": {"label_generation": "none", "model": {"text_config": TEXT, **SMALL}},
    "delta_attention": {
        "label_generation": "none",
        "model": {"text_config": TEXT, "hidden_size": 8, "num_attention_heads": 2, "target": "sentiment"},
    },
}
SAME_NUMBERS = ("self_mm",)  # whose results when traced are those of the model as it is
COMPILED = ["--torch_compile", "true", "--torch_compile_backend", "eager"]  # traced as ever, and run as it is


def recipe_of(folder, system):
    content = {**TINY_RECIPE, "model_type": system, "optimizer": {"text_encoder": {"learning_rate": 1e-4}}}
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump({**content, **SYSTEMS[system]}))
    return str(path)


def results(run):
    return {name: value for name, value in run.items() if name not in COSTS}


@pytest.mark.parametrize("system", SYSTEMS)
def test_bfloat16(system, tmp_path):
    """Autocast alone: weights, labels and what is saved stay in float32, and results are near those in float32."""
    recipe = recipe_of(tmp_path, system)
    expected = train.main([recipe, "--output_dir", str(tmp_path / "full"), "--num_train_epochs", "1"])
    arguments = [recipe, "--output_dir", str(tmp_path / "half"), "--num_train_epochs", "1", "--bf16", "true"]
    found = train.main(arguments)
    weights = load_file(tmp_path / "half" / "model.safetensors")
    assert weights.keys() == load_file(tmp_path / "full" / "model.safetensors").keys()
    assert all(tensor.dtype == torch.float32 for tensor in weights.values() if tensor.is_floating_point())
    assert found["test_mae"] == pytest.approx(expected["test_mae"], abs=0.03)
    assert found["test_mae"] != expected["test_mae"]  # it was not in float32


def compiled_run(monkeypatch, arguments):
    """The results of a run, and the optimizer's groups as (rate, tensors)."""
    groups = []

    def noting(*args):
        found = parameter_groups(*args)
        groups.append([(group["lr"], len(group["params"])) for group in found])
        return found

    with monkeypatch.context() as patch:
        patch.setattr("training.trainer.parameter_groups", noting)
        return results(train.main(arguments)), groups


@pytest.mark.slow
@pytest.mark.parametrize("system", SYSTEMS)
def test_compiled(system, tmp_path, monkeypatch):
    recipe = recipe_of(tmp_path, system)
    runs = {}
    for name, options in {"plain": [], "compiled": COMPILED}.items():
        arguments = [recipe, "--output_dir", str(tmp_path / name), "--num_train_epochs", "2", *options]
        runs[name] = compiled_run(monkeypatch, arguments)
    assert runs["compiled"][1] == runs["plain"][1]
    plain, compiled = (load_file(tmp_path / name / "model.safetensors") for name in runs)
    assert compiled.keys() == plain.keys() and all(tensor.isfinite().all() for tensor in compiled.values())
    if system in SAME_NUMBERS:
        assert runs["compiled"][0] == pytest.approx(runs["plain"][0], abs=1e-4)
        torch.testing.assert_close(compiled, plain, atol=1e-5, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("options", [COMPILED, ["--bf16", "true"]])
def test_a_resumed_run_ends_as_an_unbroken_one(options, tmp_path, monkeypatch):
    recipe = recipe_of(tmp_path, "self_mm")
    expected = train.main([recipe, "--output_dir", str(tmp_path / "whole"), *options])
    arguments = [recipe, "--output_dir", str(tmp_path / "killed"), *options]
    killed_run(monkeypatch, arguments, step=9)
    assert results(train.main([*arguments, "--resume_from_checkpoint", "true"])) == results(expected)


def test_a_gradient_norm_without_clipping_leaves_gradients_alone(tmp_path, monkeypatch):
    norms, whole = [], MultimodalTrainer._get_grad_norm

    def noting(self, model, grad_norm=None):
        before = [parameter.grad.clone() for parameter in model.parameters()]
        norm = whole(self, model, grad_norm)
        assert all(torch.equal(p.grad, old) for p, old in zip(model.parameters(), before, strict=True))
        expected = sum(old.double().square().sum() for old in before).sqrt()
        norms.append((float(norm), float(expected), grad_norm))
        return norm

    monkeypatch.setattr(MultimodalTrainer, "_get_grad_norm", noting)
    multiply = torch._foreach_mul_
    calls = []
    monkeypatch.setattr(torch, "_foreach_mul_", lambda *args: calls.append(1) or multiply(*args))
    recipe = recipe_of(tmp_path, "self_mm")
    train.main([recipe, "--output_dir", str(tmp_path / "run"), "--num_train_epochs", "1"])
    assert len(norms) == 6 and not calls
    assert all(given is None and found == pytest.approx(expected, rel=1e-4) for found, expected, given in norms)
    train.main([recipe, "--output_dir", str(tmp_path / "clipped"), "--num_train_epochs", "1", "--max_grad_norm", "0.1"])
    assert len(calls) == 6 and all(given is not None for *_, given in norms[6:])
