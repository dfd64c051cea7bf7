"""A loss or gradients that are not finite: training stops, says which samples it was, and keeps what was before."""

import json
import math

import pytest
import torch
import yaml

import train
from tests.conftest import TINY_RECIPE
from tests.training.processes import in_processes
from training.nonfinite import STEPS_BETWEEN, FiniteLoss, NonfiniteLossError
from training.trainer import MultimodalTrainer

STEPS = ("--eval_strategy", "steps", "--eval_steps", "2", "--save_strategy", "steps", "--save_steps", "2")


class Spoiling:
    """Spoils a step of training, counted from 1: its labels, or, after the loss, a gradient. `ids` are its samples'."""

    def __init__(self, patch, step, what, process=None):
        self.ids, training_step = None, MultimodalTrainer.training_step

        def spoilt(trainer, model, inputs, *args, **kwargs):
            here = process is None or trainer.accelerator.process_index == process
            if trainer.state.global_step + 1 != step or not here:
                return training_step(trainer, model, inputs, *args, **kwargs)
            self.ids = list(inputs["id"])
            if what == "labels":
                inputs["labels"] = inputs["labels"].clone()
                inputs["labels"][0] = math.nan
            loss = training_step(trainer, model, inputs, *args, **kwargs)
            if what == "gradient":
                self.name, parameter = next(
                    one for one in model.named_parameters() if one[0].startswith("heads.fusion")
                )
                parameter.grad.view(-1)[0] = math.inf
            return loss

        patch.setattr(MultimodalTrainer, "training_step", spoilt)


def stopped(arguments):
    with pytest.raises(NonfiniteLossError) as raised:
        train.main(arguments)
    return str(raised.value)


@pytest.mark.parametrize("at_once", [True, False], ids=["at_once", "later"])
def test_a_loss_that_is_nan(tiny_recipe, tmp_path, monkeypatch, at_once):
    out = tmp_path / "run"
    arguments = [tiny_recipe(), *STEPS, "--output_dir", str(out)]
    with monkeypatch.context() as patch:
        if not at_once:
            late = property(lambda self: False, lambda self, value: None)
            patch.setattr(FiniteLoss, "at_once", late, raising=False)
        spoilt = Spoiling(patch, 7, "labels")
        said = stopped(arguments)
    found = json.loads((out / "nonfinite_loss.json").read_text())
    assert found["step"] == 7 and found["process"] == 0 and found["losses"] == ["nan"]
    assert found["ids"] == spoilt.ids and len(spoilt.ids) == 8
    assert found["inputs_not_finite"] == (["labels"] if at_once else None)
    assert bool(found["parameters_not_finite"]) is not at_once  # the step was taken before anyone looked
    assert all(rate > 0 for rate in found["learning_rates"])
    assert "in step 7, epoch 1.0" in said and str(out / "nonfinite_loss.json") in said and spoilt.ids[0] in said
    assert {path.name for path in out.glob("checkpoint-*")} == {"checkpoint-4", "checkpoint-6"}
    assert not (out / "config.json").exists()

    train.main([*arguments, "--resume_from_checkpoint", "true"])  # whatever it was has passed
    assert not (out / "nonfinite_loss.json").exists() and (out / "all_results.json").exists()


def test_gradients_that_are_infinite(tiny_recipe, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        spoilt = Spoiling(patch, 3, "gradient")
        said = stopped([tiny_recipe(), "--output_dir", str(tmp_path / "run")])
    found = json.loads((tmp_path / "run" / "nonfinite_loss.json").read_text())
    assert found["step"] == 3 and found["ids"] == spoilt.ids
    assert found["gradient_norm"] in ("inf", "nan") and math.isfinite(float(found["losses"][0]))
    assert found["gradients_not_finite"] == [spoilt.name] and found["parameters_not_finite"] == []
    assert "The loss is finite, but its gradients are not" in said


def test_accumulated_batches(tiny_recipe, tmp_path, monkeypatch):
    """All samples of the bad batch are named, and none of the other that makes the step with it."""
    with monkeypatch.context() as patch:
        count, training_step = [], MultimodalTrainer.training_step

        def spoilt(trainer, model, inputs, *args, **kwargs):
            count.append(list(inputs["id"]))
            if len(count) == 4:
                inputs["labels"] = inputs["labels"] * math.nan
            return training_step(trainer, model, inputs, *args, **kwargs)

        patch.setattr(MultimodalTrainer, "training_step", spoilt)
        sizes = ("--per_device_train_batch_size", "4", "--gradient_accumulation_steps", "2")
        stopped([tiny_recipe(), *sizes, "--output_dir", str(tmp_path / "run")])
    found = json.loads((tmp_path / "run" / "nonfinite_loss.json").read_text())
    assert found["step"] == 2 and found["ids"] == count[3] and len(found["losses"]) == 2


def test_losses_are_looked_at_together_now_and_then():
    class Accelerator:
        device, num_processes, scaler = torch.device("cpu"), 2, None
        looks = 0

        def gather(self, tensor):
            self.looks += 1
            return tensor

    finite, state = FiniteLoss(Accelerator()), type("State", (), {"global_step": 0, "epoch": 0.0})
    control = type("Control", (), {"should_log": False, "should_evaluate": False, "should_save": False})
    for step in range(2 * STEPS_BETWEEN + 1):
        state.global_step = step
        finite.on_step_begin(None, state, control)
        finite.add_loss(None, ["a"], {}, torch.tensor(1.0))
        finite.on_step_end(None, state, control)
    assert finite.accelerator.looks == 2 and len(finite.steps) == 1
    control.should_save = True
    finite.on_step_begin(None, state, control)
    finite.on_step_end(None, state, control)
    assert finite.accelerator.looks == 3 and not finite.steps


def one_of_two(recipe, out):
    with pytest.MonkeyPatch.context() as patch:
        spoilt = Spoiling(patch, 2, "labels", process=1)
        try:
            train.main([recipe, "--per_device_train_batch_size", "4", "--output_dir", out])
        except NonfiniteLossError as error:
            return {"said": str(error), "ids": spoilt.ids}
    return {"said": "nothing", "ids": None}


@pytest.mark.slow
def test_every_process_stops_and_the_one_with_the_batch_says_what_it_was(tmp_path):
    recipe, out = tmp_path / "recipe.yaml", tmp_path / "run"
    recipe.write_text(yaml.safe_dump(TINY_RECIPE))
    first, second = in_processes(one_of_two, 2, tmp_path / "processes", str(recipe), str(out))
    assert "Another process had a loss" in first["said"] and "in step 2" in first["said"]
    found = json.loads((out / "nonfinite_loss.json").read_text())
    assert found["process"] == 1 and found["step"] == 2 and found["ids"] == second["ids"]
    assert not list(out.glob("checkpoint-*"))
