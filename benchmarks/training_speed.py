"""
Training samples per second and peak memory, here, in MMSA and at the machine's limit, for the same model, batch, data
and threads.

    pip install --no-deps mmsa && pip install easydict nvidia-ml-py3 pandas scikit-learn
    python benchmarks/training_speed.py [--systems mult mfn] [--corpora mosi] [--threads 1] [--output table.csv]

A step is forward, backward and Adam, on random features of the corpus' sizes, with the sizes and the batch that were
published for it (`recipes/<system>_<corpus>.yaml`). Lengths are those of the corpus: of its words, measured on the
transcripts; frames follow from 0.337 seconds a word, CMU-MOSI's mean, 20 frames of audio and 15 of vision a second.
MMSA pads every batch to 50 words, 500 and 375 frames, or, where it averages audio and vision while it reads the data,
to one. Here a batch is as long as its longest sample, and an epoch's batches are those of `train.py`'s sampler, grouped
by length; some of them are timed, evenly spaced from the shortest to the longest. Rows:

- `here`: as `train.py` takes them. `as drawn`: batches of chance. `padded`: to MMSA's shape, with masks.
- `MMSA`: its model and optimiser; left out where it is not installed. `MMSA flushed`: the same with denormal numbers
  taken for zeros, as `train.py` does it, and all rows of here.
- `limit`: the matrix products of `here` alone, at the speed of the library's largest single one on this machine.

Each row is a process of its own, which takes turns with the others. On a CPU with one thread times are those of the
processor, which other programs disturb less. Memory is the process' highest resident size beyond what it had before the
first step. On a GPU (`--device cuda --dtype bfloat16`) MMSA stays in float32, which is all it has.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from modeling import MODEL_CLASSES  # noqa: E402
from training.recipe import load_yaml  # noqa: E402
from training.sampler import BucketSampler  # noqa: E402
from training.trainer import MASKS  # noqa: E402

# Words of an utterance: quantiles in steps of 5 %, transcripts of CMU-MOSI (2,199) and CMU-MOSEI (22,788).
WORDS = {
    "mosi": (1, 4, 5, 5, 6, 7, 7, 8, 9, 9, 10, 11, 12, 13, 14, 16, 18, 20, 23, 28, 50),
    "mosei": (1, 5, 7, 9, 10, 11, 12, 14, 15, 16, 17, 18, 20, 21, 23, 25, 27, 30, 35, 44, 50),
}
SAMPLES = {"mosi": 1284, "mosei": 16326}
WIDTHS = {
    "mosi": {"text": 768, "audio": 5, "vision": 20},
    "mosei": {"text": 768, "audio": 74, "vision": 35},
}
LONGEST = {"text": 50, "audio": 500, "vision": 375}
SECONDS_PER_WORD = 0.337
FRAMES_PER_SECOND = {"audio": 20, "vision": 15}
WORD_ALIGNED = ("mfn", "graph_mfn")  # frames are the words
AVERAGED = ("lmf", "tfn")  # MMSA averages audio and vision when it reads the data
SYSTEMS = ("mult", "mfn", "graph_mfn", "lmf", "tfn")
BARS = {"mult": 4.0, "mfn": 4.0, "graph_mfn": 4.0, "lmf": 1.5, "tfn": 1.5}
ROWS = ("here", "as drawn", "padded", "MMSA", "MMSA flushed", "limit")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--systems", nargs="+", default=list(SYSTEMS), choices=SYSTEMS)
    parser.add_argument("--corpora", nargs="+", default=list(WORDS), choices=tuple(WORDS))
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=ROWS)
    parser.add_argument("--batches", type=int, default=8, help="timed per row and round, where --seconds allows")
    parser.add_argument("--seconds", type=float, default=6.0, help="per row and round, after which no batch is begun")
    parser.add_argument("--rounds", type=int, default=2, help="how often the rows take turns")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"), help="of autocast")
    parser.add_argument("--output", help="a CSV file for the table")
    parser.add_argument("--only", nargs=3, metavar=("SYSTEM", "CORPUS", "ROW"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        sys.exit("--device cuda: no GPU is at hand; the table on a CPU needs no option.")
    if options.only:
        print("FOUND " + json.dumps(measured(*options.only, options)))
        return

    table = []
    for system in options.systems:
        for corpus in options.corpora:
            found = in_turn(system, corpus, options)
            table += found
            print_case(system, corpus, found)
    if options.output:
        with open(options.output, "w", newline="") as file:
            writer = csv.DictWriter(file, list(table[0]))
            writer.writeheader()
            writer.writerows(table)


def in_turn(system: str, corpus: str, options: argparse.Namespace) -> list[dict]:
    """The rows of one model at one corpus' shape."""
    runs: dict[str, list[dict]] = {row: [] for row in options.rows}
    for _ in range(options.rounds):
        for row in options.rows:
            command = [sys.executable, __file__, *sys.argv[1:], "--only", system, corpus, row]
            run = subprocess.run(command, capture_output=True, text=True)
            lines = [line for line in run.stdout.splitlines() if line.startswith("FOUND ")]
            if not lines:
                sys.exit(f"{system} on {corpus}, {row}, failed:\n{run.stderr[-3000:]}")
            runs[row].append(json.loads(lines[0].removeprefix("FOUND ")))
    found = []
    for row, rounds in runs.items():
        if "missing" in rounds[0]:
            print(f"No row of MMSA: {rounds[0]['missing']}. See the top of this file.")
            continue
        speeds = [one["samples_per_second"] for one in rounds]
        entry = {"system": system, "corpus": corpus, "row": row, "batch": rounds[0]["batch"]}
        entry |= {"samples_per_second": statistics.median(speeds), "lowest": min(speeds), "highest": max(speeds)}
        found.append(entry | {"peak_mb": max(one["peak_mb"] for one in rounds)})
    return found


def print_case(system: str, corpus: str, found: list[dict]) -> None:
    peer = next((entry["samples_per_second"] for entry in found if entry["row"] == "MMSA"), None)
    print(f"\n{system} at {corpus}'s shape, batches of {found[0]['batch']} (bar: {BARS[system]:g} times MMSA)")
    print(f"  {'':13}{'samples/s':>11}{'lowest':>10}{'highest':>10}{'peak MB':>10}{'times MMSA':>12}")
    for entry in found:
        times = f"{entry['samples_per_second'] / peer:12.1f}" if peer else ""
        speeds = "".join(f"{entry[name]:{width}.1f}" for name, width in (("samples_per_second", 11), ("lowest", 10)))
        memory = f"{entry['peak_mb']:10.0f}" if entry["peak_mb"] else " " * 10
        print(f"  {entry['row']:13}{speeds}{entry['highest']:10.1f}{memory}{times}", flush=True)


def measured(system: str, corpus: str, row: str, options: argparse.Namespace) -> dict:
    """Samples per second and memory of one row, in this process."""
    torch.set_flush_denormal(row != "MMSA")
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    recipe = load_yaml(ROOT / "recipes" / f"{system}_{corpus}.yaml")
    size = recipe["training"]["per_device_train_batch_size"]
    batches = chosen_batches(corpus, size, options.batches, grouped=row in ("here", "limit"))
    generator = torch.Generator().manual_seed(1)
    try:
        theirs = row.startswith("MMSA")
        step = mmsa_step(system, corpus, options) if theirs else our_step(recipe, corpus, options)
    except ModuleNotFoundError as error:
        return {"missing": str(error)}
    shape = {"MMSA": "mmsa", "MMSA flushed": "mmsa", "padded": "padded"}.get(row, "trimmed")
    on_processor = options.device == "cpu" and options.threads == 1
    clock = time.process_time if on_processor else time.perf_counter

    before = reset_peak(options.device)
    step(batch_of(system, corpus, batches[-1], shape, generator, options.device))
    if row == "limit":
        return limit(step, system, corpus, batches, generator, options, clock) | {"batch": size, "peak_mb": 0}
    seconds, samples = 0.0, 0
    for words in batches:
        batch = batch_of(system, corpus, words, shape, generator, options.device)
        start = clock()
        step(batch)
        synchronize(options.device)
        seconds += clock() - start
        samples += len(words)
        if seconds > options.seconds and shape != "trimmed":  # all their batches are alike
            break
    return {"samples_per_second": samples / seconds, "batch": size, "peak_mb": peak(options.device) - before}


def chosen_batches(corpus: str, size: int, count: int, grouped: bool) -> list[np.ndarray]:
    """Words of each sample of about so many of an epoch's batches, evenly spaced by length."""
    random = np.random.default_rng(0)
    quantiles = np.linspace(0, 1, len(WORDS[corpus]))
    words = np.interp(random.random(SAMPLES[corpus]), quantiles, WORDS[corpus]).round().astype(int)
    order = list(BucketSampler(len(words), seed=0, lengths=words if grouped else None, batch_size=size))
    full = [words[order[i : i + size]] for i in range(0, len(order) - size + 1, size)]
    full.sort(key=lambda batch: (batch.max(), batch.sum()))
    if len(full) < 2 * count:
        return full
    return [full[int((i + 0.5) * len(full) / count)] for i in range(count)]


def batch_of(
    system: str, corpus: str, words: np.ndarray, shape: str, generator: torch.Generator, device: str
) -> dict[str, torch.Tensor]:
    """
    Random features and labels of samples with so many words: "trimmed" to the longest of them, "padded" to the longest
    of the corpus, or as MMSA has them ("mmsa").
    """
    batch = {"labels": torch.rand(len(words), generator=generator) * 6 - 3}
    for modality, width in WIDTHS[corpus].items():
        lengths, longest = torch.from_numpy(words), LONGEST["text"]
        if modality != "text" and system not in WORD_ALIGNED:
            longest = LONGEST[modality]
            frames = lengths * SECONDS_PER_WORD * FRAMES_PER_SECOND[modality]
            lengths = frames.round().clamp(1, longest).long()
            if shape == "mmsa" and system in AVERAGED:
                lengths, longest = torch.ones_like(lengths), 1
        steps = int(lengths.max()) if shape == "trimmed" else longest
        mask = torch.arange(steps) < lengths[:, None]
        values = torch.randn(len(words), steps, width, generator=generator)
        batch[f"{modality}_values"] = values.masked_fill(~mask.unsqueeze(-1), 0.0)
        batch[MASKS[modality]] = mask.long()
    return {name: tensor.to(device) for name, tensor in batch.items()}


def our_step(recipe: dict, corpus: str, options: argparse.Namespace) -> Callable[[dict], None]:
    """A training step as the trainer takes it."""
    model_class = next(one for one in MODEL_CLASSES if one.config_class.model_type == recipe["model_type"])
    widths = {f"{modality}_feature_size": width for modality, width in WIDTHS[corpus].items()}
    model = model_class(model_class.config_class(**widths, **recipe["model"])).to(options.device).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    half = options.dtype == "bfloat16"

    def step(batch: dict) -> None:
        optimizer.zero_grad()
        with torch.autocast(options.device.split(":")[0], torch.bfloat16, enabled=half):
            loss = model(**batch).loss
        loss.backward()
        optimizer.step()

    return step


def mmsa_step(system: str, corpus: str, options: argparse.Namespace) -> Callable[[dict], None]:
    """
    A training step as MMSA takes it, without its copies of predictions and losses to the CPU.

    Raises:
        ModuleNotFoundError: without MMSA, or something that it needs.
    """
    from easydict import EasyDict
    from MMSA.config import get_config_regression
    from MMSA.models.AMIO import AMIO

    settings = {**get_config_regression(system, corpus), "feature_dims": list(WIDTHS[corpus].values())}
    settings |= {"train_mode": "regression", "device": torch.device(options.device), "need_model_aligned": False}
    model = AMIO(EasyDict(settings)).to(options.device).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def step(batch: dict) -> None:
        optimizer.zero_grad()
        found = model(*(batch[f"{modality}_values"] for modality in ("text", "audio", "vision")))["M"]
        torch.nn.functional.l1_loss(found, batch["labels"].unsqueeze(1)).backward()
        optimizer.step()

    return step


def limit(step, system, corpus, batches, generator, options, clock) -> dict:
    """Samples per second if the step were its matrix products, each as fast as a large one."""
    operations = samples = 0
    for words in batches:
        batch = batch_of(system, corpus, words, "trimmed", generator, options.device)
        # Without oneDNN an LSTM is products that are counted, as many as with it.
        with FlopCounterMode(display=False) as counter, torch.backends.mkldnn.flags(enabled=False):
            step(batch)
        operations += counter.get_total_flops()
        samples += len(words)
    return {"samples_per_second": samples / (operations / fastest_product(options, clock))}


def fastest_product(options: argparse.Namespace, clock: Callable[[], float], size: int = 2048) -> float:
    """Floating-point operations per second of a product of two square matrices."""
    dtype = getattr(torch, options.dtype)
    left, right = (torch.randn(size, size, device=options.device, dtype=dtype) for _ in range(2))
    best = 0.0
    for _ in range(5):
        synchronize(options.device)
        start = clock()
        left @ right
        synchronize(options.device)
        best = max(best, 2 * size**3 / (clock() - start))
    return best


def synchronize(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def reset_peak(device: str) -> float:
    """Starts a new highest size, and returns the present one, in MB (10^6 bytes)."""
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device) / 1e6
    Path("/proc/self/clear_refs").write_text("5")
    return status("VmRSS")


def peak(device: str) -> float:
    """The highest size since `reset_peak`, in MB."""
    return torch.cuda.max_memory_allocated(device) / 1e6 if device.startswith("cuda") else status("VmHWM")


def status(name: str) -> float:
    """A size of this process by Linux, in MB."""
    lines: Iterator[str] = iter(Path("/proc/self/status").read_text().splitlines())
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith(name + ":"))


if __name__ == "__main__":
    main()
