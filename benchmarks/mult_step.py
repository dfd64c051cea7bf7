"""
Milliseconds per sample of a training step (forward and backward) of MulT here and in MMSA, at CMU-MOSEI's shape, with
MMSA's sizes for it, on the same batches, in turn.

    pip install --no-deps mmsa && pip install easydict nvidia-ml-py3 pandas scikit-learn
    python benchmarks/mult_step.py

MMSA pads every batch to 50, 500 and 375 steps of text, audio and vision. Here a batch is padded to the longest of its
own samples, and recipes group samples by length ("grouped"; "as drawn": batches of chance). "fully padded" has MMSA's
shape, and masks. A sample has the same part of each modality's steps, drawn uniformly with a fixed seed, so that
lengths are half of the longest on average; features are random numbers. Times are those of the processor, on one
thread, so that what else a machine does matters less. Without MMSA, its row is left out.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from configuration import MulTConfig  # noqa: E402
from modeling import MulTModel  # noqa: E402
from training.recipe import load_yaml  # noqa: E402

STEPS = {"text": 50, "audio": 500, "vision": 375}
WIDTHS = {"text": 768, "audio": 74, "vision": 35}
MASKS = {"text": "attention_mask", "audio": "audio_attention_mask", "vision": "vision_attention_mask"}
FIELDS = load_yaml(ROOT / "recipes" / "mult_mosei.yaml")["model"]
TIMES_FASTER = 3.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch_size", type=int, default=4, help="published: 4")
    parser.add_argument("--batches", type=int, default=4, help="after one that is not counted")
    parser.add_argument("--seed", type=int, default=0, help="of lengths and features")
    options = parser.parse_args()

    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(options.seed)
    parts = torch.rand(options.batches * options.batch_size, generator=generator)
    drawn = full_samples(parts, generator)
    grouped = {name: values[parts.argsort()] for name, values in drawn.items()}
    ours = our_step()
    rows: dict[str, tuple[Callable[[dict], None], list[dict]]] = {
        "grouped": (ours, [trimmed(batch) for batch in cut(grouped, options.batch_size)]),
        "as drawn": (ours, [trimmed(batch) for batch in cut(drawn, options.batch_size)]),
        "fully padded": (ours, cut(drawn, options.batch_size)),
    }
    try:
        rows["MMSA"] = mmsa_step(), cut(drawn, options.batch_size)
    except ModuleNotFoundError as error:
        print(f"No row of MMSA: {error}. `pip install --no-deps mmsa` and what it needs brings it.")

    print(f"{options.batches} batches of {options.batch_size}; lengths drawn with seed {options.seed}:")
    for modality, steps in STEPS.items():
        lengths = drawn[MASKS[modality]].sum(dim=1).tolist()
        print(f"  {modality:8}mean {statistics.mean(lengths):.0f} of {steps}: {', '.join(map(str, lengths))}")
    milliseconds: dict[str, list[float]] = {name: [] for name in rows}
    for step, batches in rows.values():
        step(batches[-1])
    for number in range(options.batches):
        for name, (step, batches) in rows.items():
            start = time.process_time()
            step(batches[number])
            milliseconds[name].append((time.process_time() - start) * 1000 / options.batch_size)

    print(f"{'':14}{'min':>9}{'mean':>9}{'max':>9}   milliseconds per sample")
    for name, found in milliseconds.items():
        print(f"{name:14}{min(found):9.1f}{statistics.mean(found):9.1f}{max(found):9.1f}", flush=True)
    means = {name: statistics.mean(found) for name, found in milliseconds.items()}
    if "MMSA" in means:
        for name in ("grouped", "as drawn", "fully padded"):
            print(f"{name}: {means['MMSA'] / means[name]:.1f} times as fast as MMSA")
        print(f"The bar, for grouped samples with lengths of their own: at least {TIMES_FASTER:.0f} times.")


def full_samples(parts: torch.Tensor, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """As MMSA has them: the given part of `STEPS`, at least one step, and zeros behind."""
    samples = {"labels": torch.rand(len(parts), generator=generator) * 6 - 3}
    for modality, steps in STEPS.items():
        mask = torch.arange(steps) < (parts * steps).ceil().clamp(min=1)[:, None]
        values = torch.randn(*mask.shape, WIDTHS[modality], generator=generator)
        samples[f"{modality}_values"] = values.masked_fill(~mask.unsqueeze(-1), 0.0)
        samples[MASKS[modality]] = mask.long()
    return samples


def cut(samples: dict[str, torch.Tensor], size: int) -> list[dict[str, torch.Tensor]]:
    """In batches."""
    pieces = zip(*(values.split(size) for values in samples.values()), strict=True)
    return [dict(zip(samples, piece, strict=True)) for piece in pieces]


def trimmed(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Padded to the longest sample of the batch alone, as the collator does it."""
    batch = dict(batch)
    for modality in STEPS:
        longest = int(batch[MASKS[modality]].sum(dim=1).max())
        for name in (f"{modality}_values", MASKS[modality]):
            batch[name] = batch[name][:, :longest].contiguous()
    return batch


def our_step() -> Callable[[dict], None]:
    torch.manual_seed(0)
    config = MulTConfig(**{f"{modality}_feature_size": width for modality, width in WIDTHS.items()}, **FIELDS)
    model = MulTModel(config).train()

    def step(batch: dict) -> None:
        model.zero_grad()
        model(**batch).loss.backward()

    return step


def mmsa_step() -> Callable[[dict], None]:
    """
    Raises:
        ModuleNotFoundError: without MMSA, or something that it needs.
    """
    from MMSA.config import get_config_regression
    from MMSA.models.singleTask.MULT import MULT

    torch.manual_seed(0)
    settings = {**get_config_regression("mult", "mosei"), "feature_dims": list(WIDTHS.values())}
    model = MULT(SimpleNamespace(**{**settings, "train_mode": "regression"})).train()

    def step(batch: dict) -> None:
        model.zero_grad()
        found = model(*(batch[f"{modality}_values"] for modality in STEPS))["M"]
        torch.nn.functional.l1_loss(found, batch["labels"].unsqueeze(1)).backward()

    return step


if __name__ == "__main__":
    main()
