"""Stops a training whose loss, gradients or weights are no longer finite, and says which samples it was."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from transformers import TrainerCallback, TrainingArguments

from datasets_scripts.files import write_json

NONFINITE_FILE = "nonfinite_loss.json"
STEPS_BETWEEN = 64  # looks at losses, where each look makes a GPU, or other processes, wait


class NonfiniteLossError(ValueError):
    """A loss, or its gradients, is NaN or infinite."""


@dataclass
class _Step:
    """What is kept of a step until its losses are looked at: ids, and numbers that may be on a GPU."""

    number: int
    epoch: float
    ids: list[list[str]] = field(default_factory=list)
    losses: list[torch.Tensor] = field(default_factory=list)
    gradient_norm: torch.Tensor | None = None


class FiniteLoss(TrainerCallback):
    """
    Looks at every loss and at the norm of every step's gradients. The first that is NaN or infinite ends the training,
    in all processes, and is described in `nonfinite_loss.json` in the output folder, by the process that had it: step,
    epoch, ids of the batch, losses, gradient norm, learning rates, and the names of inputs, parameters and gradients
    with values that are not finite.

    One process on a CPU looks at once: nothing has changed the weights then, and the batch is at hand. On a GPU a look
    would make the processor wait for each step, and of several processes each for the others. There ids and losses are
    kept, and looked at together every 64 steps and before anything is logged, evaluated or saved, so that no checkpoint
    has weights that such a step has spoilt. Inputs are gone by then, and named in the file as unknown (null).

    Args:
        accelerator (`Accelerator`): Of the trainer.
    """

    def __init__(self, accelerator: Accelerator):
        self.accelerator = accelerator
        self.at_once = accelerator.device.type == "cpu" and accelerator.num_processes == 1
        self.steps: list[_Step] = []

    def on_train_begin(self, args, state, control, **kwargs):
        self.steps.clear()
        if args.should_save:
            Path(args.output_dir, NONFINITE_FILE).unlink(missing_ok=True)

    def on_step_begin(self, args, state, control, **kwargs):
        self.steps.append(_Step(state.global_step + 1, state.epoch or 0.0))

    def add_loss(self, trainer, ids: list[str], inputs: dict[str, Any], loss: torch.Tensor) -> None:
        """Takes in the loss of a batch of training, before its gradients are computed."""
        if not self.steps:  # outside of a training
            return
        step = self.steps[-1]
        step.ids.append([str(name) for name in ids])
        step.losses.append(loss.detach())
        if self.at_once and not math.isfinite(loss.item()):
            bad = [name for name, value in inputs.items() if not _finite(value)]
            self._stop(trainer.args, trainer.model, trainer.optimizer, step, bad)

    def add_gradient_norm(self, trainer, norm: torch.Tensor | float | None) -> None:
        """Takes in the norm of a step's gradients, before they are applied."""
        # With fp16 the gradients of some steps are expected to be infinite; the scaler leaves those steps out.
        if not self.steps or norm is None or self.accelerator.scaler is not None:
            return
        self.steps[-1].gradient_norm = torch.as_tensor(norm).detach()
        if self.at_once and not math.isfinite(float(norm)):
            self._stop(trainer.args, trainer.model, trainer.optimizer, self.steps[-1], None)

    def on_step_end(self, args, state, control, model=None, optimizer=None, **kwargs):
        due = control.should_log or control.should_evaluate or control.should_save
        if self.at_once or due or len(self.steps) >= STEPS_BETWEEN:
            self._look(args, model, optimizer)

    def on_epoch_end(self, args, state, control, model=None, optimizer=None, **kwargs):
        self._look(args, model, optimizer)

    def _look(self, args, model, optimizer) -> None:
        """At all that was taken in since the last time, by all processes."""
        if not self.steps:
            return
        steps, self.steps = self.steps, []
        if self.at_once:
            return
        found = _first_bad(steps)
        earliest = int(self.accelerator.gather(torch.tensor([found], device=self.accelerator.device)).min())
        if earliest == _NONE:
            return
        number, of_gradients = divmod(earliest, 2)
        # Gradients are those of all processes: where no loss tells whose batch it was, the first process speaks.
        if found == earliest and not (of_gradients and self.accelerator.process_index):
            step = next(step for step in steps if step.number == number)
            self._stop(args, model, optimizer, step, None)
        raise NonfiniteLossError(
            f"Another process had a loss or gradients that are not finite, in step {number}; {NONFINITE_FILE} in "
            f"{args.output_dir} says which samples it was."
        )

    def _stop(self, args: TrainingArguments, model, optimizer, step: _Step, inputs: list[str] | None) -> None:
        losses = [float(loss) for loss in step.losses]
        bad = [ids for ids, loss in zip(step.ids, losses, strict=True) if not math.isfinite(loss)]
        ids = [name for batch in bad or step.ids for name in batch]
        norm = None if step.gradient_norm is None else float(step.gradient_norm)
        parameters = list(self.accelerator.unwrap_model(model).named_parameters())
        found = {
            "step": step.number,
            "epoch": step.epoch,
            "process": self.accelerator.process_index,
            "ids": ids,
            "losses": [str(loss) for loss in losses],
            "gradient_norm": None if norm is None else str(norm),
            "learning_rates": [float(group["lr"]) for group in optimizer.param_groups],
            "inputs_not_finite": inputs,
            "parameters_not_finite": [name for name, value in parameters if not _finite(value)],
            "gradients_not_finite": [name for name, value in parameters if not _finite(value.grad)],
        }
        path = Path(str(args.output_dir)) / NONFINITE_FILE
        # Of several processes that had it in the same step, the last one's stays: each is written whole.
        write_json(path, found)
        what = "The loss is" if bad else "The loss is finite, but its gradients are"
        some = ", ".join(ids[:4]) + (f" and {len(ids) - 4} more" if len(ids) > 4 else "")
        raise NonfiniteLossError(
            f"{what} not finite ({', '.join(f'{loss:g}' for loss in losses)}; gradient norm "
            f"{'unknown' if norm is None else f'{norm:g}'}) in step {step.number}, epoch {step.epoch:.2f}, for "
            f"the samples {some}; {path} names them all, and what else is not finite. The checkpoints before it are "
            "whole. Look at these samples, lower the learning rate, give --max_grad_norm 1, or train without --fp16 "
            "and --bf16, in another folder."
        )


_NONE = torch.iinfo(torch.int64).max


def _first_bad(steps: list[_Step]) -> int:
    """
    Twice the number of the first step with something that is not finite, and one more where it is the gradients alone;
    `_NONE` if none has. The device is looked at once.
    """
    found = [(2 * step.number, loss) for step in steps for loss in step.losses]
    found += [(2 * step.number + 1, step.gradient_norm) for step in steps if step.gradient_norm is not None]
    if not found:
        return _NONE
    values = torch.stack([value.reshape(()).to(found[0][1].device, torch.float32) for _, value in found])
    finite = values.isfinite().tolist()
    return min((key for (key, _), good in zip(found, finite, strict=True) if not good), default=_NONE)


def _finite(value: Any) -> bool:
    """Of anything but a tensor of floats: true."""
    return not (isinstance(value, torch.Tensor) and value.is_floating_point()) or bool(value.isfinite().all())
