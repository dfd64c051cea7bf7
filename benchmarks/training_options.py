"""
What the ways to train faster give on this machine: tables in which each way takes turns with what `train.py` does.

    python benchmarks/training_options.py [--parts text steps reading] [--output FILE.csv]
    python benchmarks/training_options.py --parts compile
    python benchmarks/training_options.py --parts steps --device cuda --dtype bfloat16 --attention flash_attention_2

- `text`: seconds per epoch with a frozen text encoder of MiniLM's shape, in Self-MM on texts as long as CMU-MOSI's: the
  encoder run in every epoch, or its outputs kept on disk in float32 and float16; and the seconds that these cost once.
  With `--data_file` and `--text_encoder`, that data and encoder, by `recipes/self_mm_text_timing.yaml`.
- `steps`: milliseconds of a training step, of Self-MM with such an encoder and of MulT at CMU-MOSI's shape, with
  autocast in bfloat16, with other optimizers than the fused one, and with the encoder's attention step by step.
- `reading`: milliseconds to read and collate a batch, without and with worker processes, at CMU-MOSEI's shape.
- `compile` (minutes): the step under `torch.compile`, and the seconds that the first pass over the batches takes, with
  the number of graphs that were compiled (some again, as lengths change) and of breaks between them.

Features are random, with the lengths of the corpus; see `training_speed.py`. Batches are those of an epoch grouped by
length, the first of which is not counted.
"""

from __future__ import annotations

import argparse
import csv
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import torch
from torch._dynamo.utils import counters
from torch.utils.data import DataLoader
from transformers import set_seed

sys.path.insert(0, str(Path(__file__).resolve().parent))

from made_training import ROOT, MadeTraining, check_device  # noqa: E402

import training.preparation  # noqa: E402
from training.collator import MultimodalCollator  # noqa: E402
from training.corpus import load_corpus, prepare_split  # noqa: E402
from training.encoded_text import with_text_states  # noqa: E402
from training.factory import build_model, build_processor, model_of_stage  # noqa: E402
from training.optimizer import parameter_groups  # noqa: E402
from training.progress import EpochSeconds  # noqa: E402
from training.recipe import Recipe, load_yaml  # noqa: E402
from training.sampler import BucketSampler  # noqa: E402

PARTS = ("text", "steps", "reading", "compile")
STEPPED = {"self_mm": "Self-MM, MiniLM", "mult": "MulT"}
SAMPLES = 300  # of the training split of `text`
READ = 256  # samples that are read
BASE = "as train.py"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", default=["text", "steps", "reading"], choices=PARTS)
    parser.add_argument("--data_file", help="for `text`: CMU-MOSI's transcripts and word timing, text_timing_50.pkl")
    parser.add_argument("--text_encoder", help="for `text`, with --data_file: the encoder's folder")
    parser.add_argument("--epochs", type=int, default=2, help="of `text`, after one that is not counted")
    parser.add_argument("--batches", type=int, default=5, help="of `steps` and `compile`, after one not counted")
    parser.add_argument("--systems", nargs="+", default=list(STEPPED), choices=STEPPED)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"), help="of every row's autocast")
    parser.add_argument("--attention", choices=("eager", "sdpa", "flash_attention_2"), help="of every text encoder")
    parser.add_argument("--output", help="a CSV file for all tables")
    options = parser.parse_args()
    check_device(options.device)
    if options.attention == "flash_attention_2" and (options.device == "cpu" or options.dtype == "float32"):
        sys.exit("--attention flash_attention_2 needs --device cuda and --dtype bfloat16.")
    if bool(options.data_file) != bool(options.text_encoder):
        sys.exit("--data_file and --text_encoder go together.")
    torch.set_num_threads(options.threads)

    measure = {"text": text_rows, "steps": step_rows, "reading": reading_rows, "compile": compile_rows}
    table = [row for part in options.parts for row in measure[part](options)]
    if options.output:
        names = list(dict.fromkeys(name for row in table for name in row))
        with open(options.output, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(table)


def text_rows(options: argparse.Namespace) -> list[dict]:
    """A whole training per row."""
    found = []
    print("\nSelf-MM with a frozen text encoder: seconds per epoch, training and validation")
    with tempfile.TemporaryDirectory() as folder:
        datasets.config.HF_DATASETS_CACHE = Path(folder) / "cache"
        for kept in ("none", "float32", "float16"):
            found.append(text_row(kept, Path(folder) / kept, options))
    print(f"  {'':30}{'per epoch':>10}{'times':>8}{'once':>8}")
    for row in found:
        row["times"] = round(found[0]["seconds"] / row["seconds"], 2)
        print(f"  {row['row']:30}{row['seconds']:10.2f}{row['times']:8.1f}{row['once']:8.2f}", flush=True)
    return found


def text_row(kept: str, folder: Path, options: argparse.Namespace) -> dict:
    settings = {"num_train_epochs": options.epochs + 1, "save_strategy": "no", "use_cpu": options.device == "cpu"}
    settings |= {"load_best_model_at_end": False, "eval_strategy": "epoch", "bf16": options.dtype == "bfloat16"}
    once, epochs = [0.0], EpochSeconds()

    def timed(*args, **kwargs):
        started = time.perf_counter()
        splits = with_text_states(*args, **kwargs)
        once[0] = time.perf_counter() - started
        return splits

    training.preparation.with_text_states = timed
    fields = {"frozen": ["text_encoder"], "encoded_text": kept}
    if options.data_file:
        fields |= {"data_file": options.data_file, "text_encoder": options.text_encoder}
        made = LoadedTraining(folder, settings, **fields)
    else:
        made = MadeTraining("self_mm", "mosi", SAMPLES, folder, settings, **fields)
    trainer = made.trainer(made.model(options.attention))
    trainer.add_callback(epochs)
    trainer.train()
    name = "encoder in every epoch" if kept == "none" else f"outputs kept in {kept}"
    seconds = round(statistics.median(epochs.seconds[1:]), 3)
    return {"part": "text", "row": name, "seconds": seconds, "once": round(once[0], 2)}


class LoadedTraining(MadeTraining):
    """The same on data of its own, by the recipe for CMU-MOSI's transcripts and word timing."""

    def __init__(self, folder: Path, training: dict[str, Any], **fields):
        content = load_yaml(ROOT / "recipes" / "self_mm_text_timing.yaml") | fields | {"early_stopping_patience": None}
        content["training"] |= {**training, "output_dir": str(folder)}
        self.recipe = Recipe.from_dict(content)
        self.stage = self.recipe.stage_list()[0]
        self.args = self.recipe.training_arguments(self.stage)
        self.corpus = load_corpus(self.recipe.data_file)
        self.processor = build_processor(self.recipe, self.corpus, "raw_text")
        self.splits = {
            name: prepare_split(rows, self.processor, "raw_text") for name, rows in self.corpus.splits.items()
        }

    def model(self, attention: str | None = None):
        """See the base class; the encoder is the one that was named."""
        set_seed(0)
        model = build_model(self.recipe, self.processor)
        if attention is not None:
            model.text_encoder.set_attn_implementation(attention)
        return model_of_stage(model, self.stage)


def step_rows(options: argparse.Namespace) -> list[dict]:
    """Each way takes its turn at every batch."""
    found = []
    for system in options.systems:
        ways: dict[str, Callable] = {
            BASE: Adam,
            "Adam, several tensors a call": several,
            "Adam, a tensor a call": single,
        }
        made, batches = stepped(system, options)
        steps = {name: Step(made, options, optimizer) for name, optimizer in ways.items()}
        if options.dtype == "float32":
            steps["autocast in bfloat16"] = Step(made, options, dtype=torch.bfloat16)
        if system == "self_mm" and options.attention is None:
            steps["encoder's attention eager"] = Step(made, options, attention="eager")
        found += in_turn(system, steps, batches, options)
    return found


def compile_rows(options: argparse.Namespace) -> list[dict]:
    """The batches twice: compiling takes its time at the first."""
    found = []
    for system in options.systems:
        made, batches = stepped(system, options)
        counters.clear()
        compiled = Step(made, options, compiled=True)
        started = time.perf_counter()
        for batch in batches:
            compiled(batch)
        first = time.perf_counter() - started
        rows = in_turn(system, {BASE: Step(made, options), "torch.compile": compiled}, batches, options)
        graphs, breaks = counters["stats"]["unique_graphs"], sum(counters["graph_break"].values())
        rows[1] |= {"first_seconds": round(first, 1), "graphs": graphs, "graph_breaks": breaks}
        print(
            f"  The {len(batches)} batches took {first:.0f} seconds the first time: {graphs} graphs, {breaks} breaks."
        )
        found += rows
    return found


def stepped(system: str, options: argparse.Namespace) -> tuple[MadeTraining, list[dict]]:
    """A training, and batches of it, one of which is not counted."""
    size = load_yaml(ROOT / "recipes" / f"{system}_mosi.yaml")["training"]["per_device_train_batch_size"]
    with tempfile.TemporaryDirectory() as folder:
        made = MadeTraining(system, "mosi", size * (options.batches + 1), folder, {"use_cpu": options.device == "cpu"})
    rows, collator = made.splits["train"], MultimodalCollator(made.processor)
    order = list(BucketSampler(len(rows), seed=0, lengths=rows["length"][:], batch_size=size))
    batches = []
    for start in range(0, len(order), size):
        batch = collator(rows.__getitems__(order[start : start + size]))
        batches.append({n: v.to(options.device) for n, v in batch.items() if n not in ("id", "references")})
    return made, batches


Adam = partial(torch.optim.Adam, fused=True)
several = partial(torch.optim.Adam, foreach=True, fused=False)
single = partial(torch.optim.Adam, foreach=False, fused=False)


class Step:
    """A training step of a model of its own: forward, backward, optimizer."""

    def __init__(self, made, options, optimizer=Adam, dtype=None, attention=None, compiled=False):
        model = made.model(attention or options.attention).to(options.device).train()
        settings, args = made.stage.optimizer, made.args
        self.optimizer = optimizer(parameter_groups(model, settings, args.learning_rate, args.weight_decay))
        self.model = torch.compile(model) if compiled else model
        self.dtype = dtype or getattr(torch, options.dtype)
        self.device = options.device.partition(":")[0]

    def __call__(self, batch: dict) -> None:
        with torch.autocast(self.device, torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            loss = self.model(**batch).loss
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()


def in_turn(system: str, steps: dict[str, Step], batches: list[dict], options: argparse.Namespace) -> list[dict]:
    """Milliseconds per step of each, on the same batches."""
    on_processor = options.device == "cpu" and options.threads == 1
    clock = time.process_time if on_processor else time.perf_counter
    milliseconds: dict[str, list[float]] = {name: [] for name in steps}
    for number, batch in enumerate(batches):
        for name, step in steps.items():
            started = clock()
            step(batch)
            if options.device != "cpu":
                torch.cuda.synchronize()
            if number > 0:
                milliseconds[name].append(1000 * (clock() - started))
    base = statistics.mean(milliseconds[BASE])
    print(f"\n{STEPPED[system]}, {options.dtype}: milliseconds per step of {len(batches[0]['labels'])} samples")
    print(f"  {'':30}{'mean':>10}{'times as fast':>16}")
    found = []
    for name, values in milliseconds.items():
        mean = statistics.mean(values)
        print(f"  {name:30}{mean:10.1f}{base / mean:16.2f}", flush=True)
        found.append({"part": "steps", "system": system, "row": name, "milliseconds": round(mean, 1)})
        found[-1]["times"] = round(base / mean, 2)
    return found


def reading_rows(options: argparse.Namespace) -> list[dict]:
    """Milliseconds per batch, without anything that is trained."""
    found = []
    print("\nReading and collating, CMU-MOSEI's shape: milliseconds per batch")
    for system in options.systems:
        with tempfile.TemporaryDirectory() as folder:
            made = MadeTraining(system, "mosei", READ, folder, {"use_cpu": True})
        rows, size = made.splits["train"], made.args.train_batch_size
        for workers in (0, 1, 2):
            loader = DataLoader(
                rows,
                batch_size=size,
                sampler=BucketSampler(len(rows), seed=0, lengths=rows["length"][:], batch_size=size),
                collate_fn=MultimodalCollator(made.processor),
                num_workers=workers,
                persistent_workers=workers > 0,
            )
            seconds = []
            for _ in range(3):  # the first starts the workers
                started = time.perf_counter()
                for _batch in loader:
                    pass
                seconds.append(time.perf_counter() - started)
            one = {"part": "reading", "system": system, "row": f"{workers} worker processes"}
            one["milliseconds"] = round(1000 * min(seconds[1:]) / len(loader), 2)
            print(f"  {STEPPED[system]:18}{one['row']:22}{one['milliseconds']:8.2f}  ({size} samples)", flush=True)
            found.append(one)
    return found


if __name__ == "__main__":
    logging.disable(logging.INFO)
    main()
