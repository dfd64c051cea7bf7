"""
Milliseconds per training step of unimodal label generation: here, in MMSA, and as SUGRM's authors' code computes it.

    pip install --no-deps mmsa && pip install easydict nvidia-ml-py3 pandas scikit-learn
    python benchmarks/label_generation.py --samples 16326 --batch_size 32

A step is what a batch costs in the second epoch: its new labels, its representations, the class centres. All get the
same random labels and states, with the widths published for CMU-MOSEI.

- Self-MM: running sums here; MMSA's own methods, which compute all class centres over the whole training split at every
  step; and that recomputation, vectorised, in the place of the running sums, whose labels must be the same.
- SUGRM: the authors' code is no package. Written here from what it does: labels sample by sample, the centres over the
  whole split, and D_max from two lists of samples, each of which is in them once for every batch that the first pass
  still had to read ("as published") or once ("without repeats"). The latter has the labels of here.

`label bookkeeping` is the time in all that, not the training step around it.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from training.label_generation import LabelGenerator, SelfMMLabelGenerator, SugrmLabelGenerator  # noqa: E402

SELF_MM_WIDTHS = {"fusion": 128, "text": 32, "audio": 16, "vision": 32}
SUGRM_WIDTHS = dict.fromkeys(SELF_MM_WIDTHS, 32)
MODALITIES = ("text", "audio", "vision")
H = 3.0
TIMES_FASTER = 20.0
Step = Callable[[torch.Tensor, dict[str, torch.Tensor]], None]
Labels = Callable[[], torch.Tensor]
Again = Callable[[], None]  # between steps: a row that comes again is a sample of its own


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=16326, help="CMU-MOSEI's training split by default")
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--steps", type=int, default=40)
    options = parser.parse_args()
    torch.set_num_threads(1)

    print(f"{options.samples} samples, batches of {options.batch_size}, median of {options.steps} steps, one thread")
    for name, widths, makers in (
        ("Self-MM", SELF_MM_WIDTHS, {"here": self_mm_here, "whole split": self_mm_whole_split, "MMSA": self_mm_mmsa}),
        (
            "SUGRM",
            SUGRM_WIDTHS,
            {"here": sugrm_here, "without repeats": sugrm_once, "as published": sugrm_as_published},
        ),
    ):
        print(f"\n{name}: milliseconds of label bookkeeping a step (bar: {TIMES_FASTER:g} times)")
        compare(makers, widths, options)


def compare(makers: dict[str, Callable], widths: dict[str, int], options: argparse.Namespace) -> None:
    """Takes the steps of all in turn, on the same batches, and prints their medians."""
    labels = np.random.default_rng(0).uniform(-H, H, options.samples).round(1)
    labels[:60], labels[60:120] = H, -H
    random = torch.Generator().manual_seed(0)
    everything = {name: torch.rand(options.samples, width, generator=random) for name, width in widths.items()}
    made: dict[str, tuple[Step, Labels, Again]] = {}
    for name, maker in makers.items():
        try:
            made[name] = maker(labels, everything, options.batch_size)
        except ModuleNotFoundError as error:
            print(f"No row of MMSA: {error}. See the top of this file.")
    seconds: dict[str, list[float]] = {name: [] for name in made}
    for _ in range(options.steps):
        rows = torch.randperm(options.samples, generator=random)[: options.batch_size]
        states = {name: torch.rand(options.batch_size, width, generator=random) for name, width in widths.items()}
        for name, (step, _, again) in made.items():
            start = time.process_time()
            step(rows, states)
            seconds[name].append(time.process_time() - start)
            again()
    medians = {name: statistics.median(found) * 1000 for name, found in seconds.items()}
    ours = made["here"][1]()
    for name, median in medians.items():
        apart = (made[name][1]() - ours).abs().max()
        print(
            f"  {name:16}{median:9.2f} ms   {median / medians['here']:6.1f} times here   labels differ by {apart:.0e}"
        )


def nothing() -> None:
    """Between the steps of those that do not ask whether a row was seen before."""


def of_generator(generator: LabelGenerator, everything: dict[str, torch.Tensor], batch_size: int):
    """The step of a generator that has seen the first epoch, its labels, and what is between its steps."""
    samples = len(everything["fusion"])
    generator.start_epoch(1)
    generator.update(torch.arange(samples), everything, {m: torch.ones(samples, dtype=torch.bool) for m in MODALITIES})
    generator.start_epoch(2)
    present = {name: torch.ones(batch_size, dtype=torch.bool) for name in MODALITIES}

    def step(rows: torch.Tensor, states: dict[str, torch.Tensor]) -> None:
        generator.targets(rows)
        generator.update(rows, states, present)

    def labels() -> torch.Tensor:
        return torch.stack([generator.labels[m][:-1] for m in MODALITIES]).float()

    return step, labels, generator.updated_in.zero_


def ids(labels: np.ndarray) -> list[str]:
    return [str(number) for number in range(len(labels))]


def self_mm_here(labels, everything, batch_size):
    return of_generator(SelfMMLabelGenerator(ids(labels), labels, MODALITIES, (-H, H)), everything, batch_size)


class WholeSplit(SelfMMLabelGenerator):
    """The same labels, with every class centre computed anew from the whole table after every batch."""

    def update(self, rows, states, present):
        super().update(rows, states, present)
        for space in self.spaces.values():
            for row, members in enumerate((space.classes[:-1] > 0, space.classes[:-1] < 0)):
                space.sums[row] = space.features[:-1][members].to(torch.float64).sum(dim=0)
                space.counts[row] = members.sum()


def self_mm_whole_split(labels, everything, batch_size):
    return of_generator(WholeSplit(ids(labels), labels, MODALITIES, (-H, H)), everything, batch_size)


def self_mm_mmsa(labels, everything, batch_size):
    """
    Raises:
        ModuleNotFoundError: without MMSA, or something that it needs.
    """
    from easydict import EasyDict
    from MMSA.config import get_config_regression
    from MMSA.trains.multiTask.SELF_MM import SELF_MM

    settings = get_config_regression("self_mm", "mosei")
    settings |= {"train_samples": len(labels), "device": torch.device("cpu"), "train_mode": "regression"}
    trainer = SELF_MM(EasyDict(settings))
    everyone = torch.arange(len(labels))
    trainer.init_labels(everyone, torch.from_numpy(labels).float())
    trainer.update_features(*everything.values(), everyone)
    trainer.update_centers()

    def step(rows: torch.Tensor, states: dict[str, torch.Tensor]) -> None:
        trainer.update_labels(*states.values(), 2, rows, None)
        trainer.update_features(*states.values(), rows)
        trainer.update_centers()

    return step, lambda: torch.stack([trainer.label_map[m] for m in MODALITIES]), nothing


def sugrm_here(labels, everything, batch_size):
    return of_generator(SugrmLabelGenerator(ids(labels), labels, MODALITIES, (-H, H)), everything, batch_size)


def sugrm_once(labels, everything, batch_size):
    return sugrm_whole_split(labels, everything, repeats=lambda row: 1)


def sugrm_as_published(labels, everything, batch_size):
    batches = -(-len(labels) // batch_size)
    return sugrm_whole_split(labels, everything, repeats=lambda row: batches - row * batches // len(labels))


def sugrm_whole_split(labels, everything, repeats: Callable[[int], int]):
    """SUGRM's section 3.3 in the order and with the loops of its authors' code; labels of zero count for no class."""
    multimodal = torch.from_numpy(labels).float()
    table, current = everything["fusion"].clone(), {m: multimodal.clone() for m in MODALITIES}
    highest, lowest = (
        [row for row in torch.nonzero(multimodal == bound).flatten().tolist() for _ in range(repeats(row))]
        for bound in (H, -H)
    )
    centres = {}

    def update_centres() -> None:
        centres["positive"] = table[multimodal > 0].mean(dim=0)
        centres["negative"] = table[multimodal < 0].mean(dim=0)

    def distance(features: torch.Tensor, centre: torch.Tensor) -> torch.Tensor:
        return torch.linalg.vector_norm(features - centre, dim=1)

    def step(rows: torch.Tensor, states: dict[str, torch.Tensor]) -> None:
        high, low = (torch.stack([table[row] for row in chosen]).mean(dim=0) for chosen in (highest, lowest))
        farthest = torch.linalg.vector_norm(high - low)
        fusion = states["fusion"]
        ratio = distance(fusion, centres["positive"]) / distance(fusion, centres["negative"])
        for modality in MODALITIES:
            state = states[modality]
            own_ratio = distance(state, centres["positive"]) / distance(state, centres["negative"])
            apart = torch.linalg.vector_norm(fusion - state, dim=1)
            for i, row in enumerate(rows):
                magnitude = 2 * H * torch.minimum(apart[i], farthest) / farthest
                if own_ratio[i] < ratio[i]:
                    new = (multimodal[row] + magnitude).clamp(-H, H)
                elif own_ratio[i] > ratio[i]:
                    new = (multimodal[row] - magnitude).clamp(-H, H)
                else:
                    new = multimodal[row]
                current[modality][row] = current[modality][row] / 3 + 2 / 3 * new
        table[rows] = fusion
        update_centres()

    update_centres()
    return step, lambda: torch.stack([current[m] for m in MODALITIES]), nothing


if __name__ == "__main__":
    main()
