"""One line per epoch instead of the library's dictionaries."""

from __future__ import annotations

from transformers import TrainerCallback


class EpochLine(TrainerCallback):
    """Prints the epoch's training loss and validation metrics."""

    SHOWN = ("mae", "corr", "acc7", "acc5", "acc3", "acc2_non0", "acc2")

    def __init__(self):
        self.loss = None

    def on_log(self, args, state, control, logs=None, **kwargs):
        self.loss = (logs or {}).get("loss", self.loss)

    def on_evaluate(self, args, state, control, metrics=None, **kwargs):
        if not state.is_world_process_zero:
            return
        shown = [f"{name} {metrics[f'eval_{name}']:.4f}" for name in self.SHOWN if f"eval_{name}" in metrics]
        loss = "" if self.loss is None else f"training loss {float(self.loss):.4f}, "
        print(f"epoch {state.epoch:g}: {loss}validation {' '.join(shown)}", flush=True)  # noqa: T201
