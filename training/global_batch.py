"""The samples of one optimiser step, over all processes and accumulated batches: which rows count, and how much."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import TrainerCallback, TrainingArguments
from transformers.trainer_callback import ExportableState


@dataclass(frozen=True)
class Share:
    """
    What one process's batch is of its step.

    Attributes:
        rows: Rows that count; the others, at its end, repeat samples so that all processes have equally many.
        slots: Rows that every process's batch has in this place, with those that do not count.
        weight: What the mean loss over `rows` is multiplied by. The mean over processes and accumulated batches, which
            the trainer takes, then is the mean over the samples of the step.
        last: Whether it ends the step.
    """

    rows: int
    slots: int
    weight: float
    last: bool


def real_rows(samples: int, slots: int, process: int, processes: int) -> int:
    """
    How many of a process's rows in the last batch of an epoch are no repetition.

    Args:
        samples: Samples of the split.
        slots: Rows of each process's batch.
    """
    everywhere = samples % (slots * processes) or slots * processes
    return min(max(everywhere - process * slots, 0), slots)


def shares(slots: Sequence[int], samples: int, ended: bool, process: int, processes: int) -> list[Share]:
    """
    The shares of the batches that a process accumulates to a step.

    Args:
        slots: Rows of each batch.
        samples: Samples of the split.
        ended: Whether the last of these batches is the last of the epoch, filled up where the split ends before it.
    """
    rows, everywhere = list(slots), [number * processes for number in slots]
    if ended and processes > 1:
        of_each = [real_rows(samples, slots[-1], one, processes) for one in range(processes)]
        rows[-1], everywhere[-1] = of_each[process], sum(of_each)
    scale = processes * len(slots) / sum(everywhere)
    return [
        Share(counted, number, counted * scale, last=position == len(slots) - 1)
        for position, (counted, number) in enumerate(zip(rows, slots, strict=True))
    ]


def first_rows(batch: dict[str, Any], rows: int) -> dict[str, Any]:
    """A batch's first rows, but never none: a process whose rows all are repetitions computes on one of them."""
    if rows >= len(batch["id"]):
        return batch
    return {name: value[: max(rows, 1)] for name, value in batch.items()}


def filled(tensor: torch.Tensor, rows: int, slots: int, value: float = 0) -> torch.Tensor:
    """The first rows of a tensor, and rows of `value` up to `slots`: processes exchange tensors of one shape."""
    tensor = tensor[:rows]
    return torch.cat([tensor, tensor.new_full((slots - rows, *tensor.shape[1:]), value)])


def check_processes(args: TrainingArguments) -> None:
    """
    Raises:
        ValueError: where a launcher started several processes that would each train alone, into the same folder; for
            DeepSpeed's stage 3, under which transformers cannot make a model's parameters.
    """
    plugin = args.deepspeed_plugin
    if plugin is not None and plugin.zero_stage == 3:
        raise ValueError(
            "`zero_stage` must be 1 or 2 in the launcher's configuration; got 3. FSDP shares weights out, too: launch "
            "with recipes/accelerate/fsdp.yaml."
        )
    launched = int(os.environ.get("WORLD_SIZE", 1)) if "LOCAL_RANK" in os.environ else 1
    if launched > 1 and args.world_size != launched:
        raise ValueError(
            f"{launched} processes were started, but each takes itself for one of {args.world_size}: there are no GPUs "
            "for them. Give --use_cpu true to train on the CPU."
        )


class SameGlobalBatch(TrainerCallback, ExportableState):
    """
    Keeps the number of samples per step in checkpoints, and refuses to go on with another one: the trainer counts an
    epoch's samples in steps, and would leave some out and take others twice. Processes, batch size and accumulated
    batches may change as long as their product is the same.

    Args:
        samples (`int`): Per step, over all processes and accumulated batches.
        processes, accumulated (`int`): What of it are processes and accumulated batches.
    """

    def __init__(self, samples: int, processes: int, accumulated: int):
        self.samples = samples
        self.processes = processes
        self.accumulated = accumulated

    def state(self) -> dict[str, Any]:
        return {"args": {}, "attributes": {"samples": self.samples}}

    def on_train_begin(self, args, state, control, **kwargs):
        known = state.stateful_callbacks.get(type(self).__name__)
        state.stateful_callbacks[type(self).__name__] = self.state()
        if state.global_step == 0 or known is None:
            return
        before = known["attributes"]["samples"]
        if before != self.samples:
            raise ValueError(
                f"The checkpoint to go on with was trained with {before} samples per step, but this run has "
                f"{self.samples}: --per_device_train_batch_size {args.train_batch_size} on {self.processes} "
                f"process{'es' if self.processes > 1 else ''}, --gradient_accumulation_steps {self.accumulated}. "
                f"{self._remedy(before)}"
            )

    def _remedy(self, samples: int) -> str:
        if samples % self.processes:
            fitting = ", ".join(str(n) for n in range(1, samples + 1) if samples % n == 0)
            return f"{samples} cannot be shared by {self.processes} processes; take one of {fitting}."
        each = samples // self.processes
        accumulated = self.accumulated if each % self.accumulated == 0 else 1
        return f"Give --per_device_train_batch_size {each // accumulated} --gradient_accumulation_steps {accumulated}."
