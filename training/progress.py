"""What a run says of itself while it trains: a line per epoch, its seconds, its memory."""

from __future__ import annotations

import statistics
import sys
import time

import torch
from transformers import TrainerCallback


class EpochLine(TrainerCallback):
    """Prints the epoch's training loss and validation metrics."""

    SHOWN = ("mae", "corr", "acc7", "acc6", "acc5", "acc3", "acc2_non0", "acc2", "acc_avg", "wa_avg", "f1_avg")

    def __init__(self):
        self.loss = None

    def on_log(self, args, state, control, logs=None, **kwargs):
        self.loss = (logs or {}).get("loss", self.loss)

    def on_evaluate(self, args, state, control, metrics=None, **kwargs):
        if not state.is_world_process_zero:
            return
        chosen = str(args.metric_for_best_model).removeprefix("eval_")
        names = dict.fromkeys((*self.SHOWN, *([] if chosen == "loss" else [chosen])))
        shown = [f"{name} {metrics[f'eval_{name}']:.4f}" for name in names if f"eval_{name}" in metrics]
        if not shown or chosen == "loss":
            shown = [f"loss {metrics['eval_loss']:.4f}"]
        loss = "" if self.loss is None else f"training loss {float(self.loss):.4f}, "
        print(f"epoch {state.epoch:g}: {loss}validation {' '.join(shown)}", flush=True)  # noqa: T201


class EpochSeconds(TrainerCallback):
    """Times whole epochs, with the evaluation and the checkpoint after each."""

    def __init__(self):
        self.seconds: list[float] = []
        self.started = None

    def on_epoch_begin(self, args, state, control, **kwargs):
        self._stop()
        done = state.epoch or 0.0
        if done == int(done):  # an epoch that is resumed in its middle says little
            self.started = time.perf_counter()

    def on_train_end(self, args, state, control, **kwargs):
        self._stop()

    def _stop(self):
        if self.started is not None:
            self.seconds.append(time.perf_counter() - self.started)
            self.started = None

    @property
    def median(self) -> float:
        """NaN where this process has seen no whole epoch."""
        return statistics.median(self.seconds) if self.seconds else float("nan")


def peak_memory_mb() -> float:
    """
    Most memory in MiB that this process has had: on a GPU what PyTorch allocated there, and otherwise what was
    resident. NaN where the system does not say.
    """
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated() > 0:
        return torch.cuda.max_memory_allocated() / 2**20
    try:
        import resource
    except ImportError:  # Windows
        return float("nan")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
