"""
Where the time of a training step goes, in percent: what `train.py` does, at a corpus' shape, on made-up rows.

    python benchmarks/profile_training.py [--systems mult mfn] [--corpora mosi] [--output FILE.csv]

Two measurements of the same steps. A clock around the parts of a step, as `train.py` runs it: reading and collating,
label generation, forward, backward, optimizer, and what is left, the trainer's own. Then PyTorch's profiler, which says
how the time within forward and backward is divided among kinds of operators (by their own time, without that of what
they call); `python` is the part of forward and backward in which no operator runs. Steps are those of batches spread
evenly over an epoch, grouped by length; the first few are not counted.

On a CPU times are those of the processor where there is one thread. On a GPU (`--device cuda --dtype bfloat16`) each
part waits for the GPU before its clock stops, which a training does not do.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile, record_function
from transformers import TrainerCallback

sys.path.insert(0, str(Path(__file__).resolve().parent))

from made_training import ROOT, MadeTraining, check_device  # noqa: E402

from training.recipe import load_yaml  # noqa: E402
from training.trainer import MultimodalTrainer  # noqa: E402

SYSTEMS = ("self_mm", "mult", "mfn", "graph_mfn")
CORPORA = ("mosi", "mosei")
WARM_UP = 2  # steps
STEP = "training_step"  # what the profiler calls a step
PARTS = ("reading and collating", "label generation", "forward", "backward", "optimizer", "trainer")
# The first that an operator's name contains says its kind.
KINDS = {
    "attention": ("attention", "softmax", "flash"),
    "recurrent": ("lstm", "gru", "rnn"),
    "matrix products": ("mm", "addbmm", "linear", "matmul", "conv", "einsum", "gemm"),
    "random numbers": ("dropout", "bernoulli", "rand", "normal_", "uniform"),
    "normalisation": ("norm",),
    "indexing": ("gather", "index", "scatter", "embedding", "select", "slice", "sort", "nonzero"),
    "copying": (
        "copy",
        "cat",
        "clone",
        "contiguous",
        "fill",
        "zero",
        "empty",
        "stack",
        "pad",
        "strided",
        "view",
        "resize",
    ),
}
COLUMNS = [*PARTS, *KINDS, "elementwise and other", "python"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--systems", nargs="+", default=list(SYSTEMS), choices=SYSTEMS)
    parser.add_argument("--corpora", nargs="+", default=list(CORPORA), choices=CORPORA)
    parser.add_argument("--steps", type=int, default=4, help="per measurement")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"), help="of autocast")
    parser.add_argument("--attention", help="of the text encoder: eager, sdpa or flash_attention_2")
    parser.add_argument("--output", help="a CSV file for the table")
    options = parser.parse_args()
    check_device(options.device)
    torch.set_num_threads(options.threads)

    table = []
    for system in options.systems:
        for corpus in options.corpora:
            with tempfile.TemporaryDirectory() as folder:
                table.append({"system": system, "corpus": corpus, **measured(system, corpus, folder, options)})
            show(table[-1])
    if options.output:
        with open(options.output, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(table[0]))
            writer.writeheader()
            writer.writerows(table)


def show(row: dict) -> None:
    print(f"\n{row['system']} at {row['corpus']}'s shape: {row['milliseconds_per_step']:.1f} ms per step of", end=" ")
    print(f"{row['batch']} samples")
    print("  of the step:  " + ", ".join(f"{name} {row[name]:.1f} %" for name in PARTS))
    within = sorted(COLUMNS[len(PARTS) :], key=lambda name: -row[name])
    print("  of forward and backward:  " + ", ".join(f"{name} {row[name]:.1f} %" for name in within), flush=True)


def measured(system: str, corpus: str, folder: str, options: argparse.Namespace) -> dict:
    """Milliseconds of a step; percent of it by part, and percent of forward and backward by kind of operator."""
    training = {"use_cpu": options.device == "cpu", "bf16": options.dtype == "bfloat16"}
    training |= {"gradient_accumulation_steps": 1, "max_steps": WARM_UP + options.steps + 1}
    size = load_yaml(ROOT / "recipes" / f"{system}_{corpus}.yaml")["training"]["per_device_train_batch_size"]
    made = MadeTraining(system, corpus, size * training["max_steps"], folder, training)
    gpu = options.device.startswith("cuda")
    trainer = made.trainer(made.model(options.attention))
    clock = Clock(time.process_time if not gpu and options.threads == 1 else time.perf_counter, gpu)
    clocked(trainer, clock, options.steps)
    trainer.train()
    total = sum(clock.seconds.values())
    row = {"batch": size, "milliseconds_per_step": round(1000 * total / options.steps, 1)}
    row |= {part: round(100 * clock.seconds[part] / total, 1) for part in PARTS}

    trainer = made.trainer(made.model(options.attention))
    kinds = kinds_of(trainer, options.steps, gpu)
    total = sum(kinds.values())
    return row | {kind: round(100 * kinds[kind] / total, 1) for kind in COLUMNS[len(PARTS) :]}


class Clock:
    """Seconds by part of a step; what runs within another part is not counted to that one."""

    def __init__(self, now: Callable[[], float], gpu: bool):
        self.now, self.gpu = now, gpu
        self.seconds: Counter[str] = Counter()
        self.running = ["trainer"]
        self.last: float | None = None  # while it stands still

    def start(self) -> None:
        self.last = self.now()

    def stop(self) -> None:
        self._count()
        self.last = None

    def around(self, part: str, function: Callable) -> Callable:
        """The function, timed."""

        def timed(*args, **kwargs):
            self._count()
            self.running.append(part)
            try:
                return function(*args, **kwargs)
            finally:
                self._count()
                self.running.pop()

        return timed

    def _count(self) -> None:
        if self.last is None:
            return
        if self.gpu:
            torch.cuda.synchronize()
        now = self.now()
        self.seconds[self.running[-1]] += now - self.last
        self.last = now


def clocked(trainer: MultimodalTrainer, clock: Clock, steps: int) -> None:
    """Lets the clock run for some steps of a training, after those that warm up."""
    rows, model, generator = trainer.train_dataset, trainer.model, trainer.label_generator
    trainer.data_collator = clock.around("reading and collating", trainer.data_collator)
    rows.__getitems__ = clock.around("reading and collating", rows.__getitems__)
    model.forward = clock.around("forward", model.forward)
    trainer.accelerator.backward = clock.around("backward", trainer.accelerator.backward)
    optimizer = trainer.create_optimizer()
    optimizer.step = clock.around("optimizer", optimizer.step)
    if generator is not None:
        for name in ("rows", "targets", "update"):
            setattr(generator, name, clock.around("label generation", getattr(generator, name)))

    class Steps(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == WARM_UP:
                clock.start()
            elif state.global_step == WARM_UP + steps:
                clock.stop()

    trainer.add_callback(Steps())


def kinds_of(trainer: MultimodalTrainer, steps: int, gpu: bool) -> Counter[str]:
    """Microseconds within `training_step` by kind of operator."""
    step, profiled = trainer.training_step, profile(activities=[ProfilerActivity.CPU, *[ProfilerActivity.CUDA] * gpu])
    wall, done = 0.0, 0

    def profiled_step(*args, **kwargs):
        nonlocal wall, done
        done += 1
        if done == WARM_UP + 1:
            profiled.start()
        started = time.perf_counter()
        with record_function(STEP):
            loss = step(*args, **kwargs)
        if gpu:
            torch.cuda.synchronize()
        wall += time.perf_counter() - started if done > WARM_UP else 0.0
        if done == WARM_UP + steps:
            profiled.stop()
        return loss

    trainer.training_step = profiled_step
    trainer.train()
    kinds: Counter[str] = Counter()
    for event in profiled.key_averages():
        kinds[kind_of(event.key)] += event.self_device_time_total if gpu else event.self_cpu_time_total
    if gpu:  # what the GPU waited for
        kinds["python"] = max(1e6 * wall - sum(kinds.values()), 0.0)
    return kinds


def kind_of(operator: str) -> str:
    name = operator.removeprefix("aten::").lower()
    if name.startswith(("autograd::", STEP)) or name.endswith("backward0"):
        return "python"  # or the engine that calls operators
    return next((kind for kind, parts in KINDS.items() if any(part in name for part in parts)), "elementwise and other")


if __name__ == "__main__":
    main()
