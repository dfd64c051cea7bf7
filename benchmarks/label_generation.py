"""
Milliseconds per step of Self-MM's label bookkeeping: running sums, as here, against recomputing all class centres over
all samples at every step, as the authors' code and MMSA do.

    python benchmarks/label_generation.py --samples 16326 --batch_size 32

The recomputation is written here from the paper's equations 1 and 2, vectorised, with the widths of the authors'
CMU-MOSEI network.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from training.label_generation import SelfMMLabelGenerator  # noqa: E402

WIDTHS = {"fusion": 128, "text": 32, "audio": 16, "vision": 16}


class RecomputingGenerator(SelfMMLabelGenerator):
    """The same labels, with every class centre computed anew from the whole table after every batch."""

    def observe(self, rows, states, present):
        super().observe(rows, states, present)
        for space in self.spaces.values():
            for row, members in enumerate((space.classes[:-1] > 0, space.classes[:-1] < 0)):
                space.sums[row] = space.features[:-1][members].to(torch.float64).sum(dim=0)
                space.counts[row] = members.sum()


def milliseconds(generator_class, samples: int, batch_size: int, steps: int) -> tuple[float, torch.Tensor]:
    """Median per step in the second epoch, and the labels at the end."""
    random = torch.Generator().manual_seed(0)
    labels = np.random.default_rng(0).uniform(-3, 3, samples)
    generator = generator_class([str(i) for i in range(samples)], labels, ("text", "audio", "vision"), (-3, 3))
    present = {name: torch.ones(batch_size, dtype=torch.bool) for name in generator.modalities}
    everything = {name: torch.rand(samples, width, generator=random) for name, width in WIDTHS.items()}
    generator.start_epoch(1)
    all_present = {name: torch.ones(samples, dtype=torch.bool) for name in generator.modalities}
    generator.update(torch.arange(samples), everything, all_present)
    generator.start_epoch(2)
    seconds = []
    for _ in range(steps):
        rows = torch.randperm(samples, generator=random)[:batch_size]
        states = {name: torch.rand(batch_size, width, generator=random) for name, width in WIDTHS.items()}
        start = time.perf_counter()
        generator.targets(rows)
        generator.update(rows, states, present)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds) * 1000, torch.stack(list(generator.labels.values()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=16326)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--steps", type=int, default=200)
    options = parser.parse_args()
    torch.set_num_threads(1)
    running, labels = milliseconds(SelfMMLabelGenerator, options.samples, options.batch_size, options.steps)
    whole, same = milliseconds(RecomputingGenerator, options.samples, options.batch_size, options.steps)
    print(f"{options.samples} samples, batches of {options.batch_size}, median of {options.steps} steps, one thread")
    print(f"running sums      {running:8.2f} ms a step")
    print(f"whole table       {whole:8.2f} ms a step   ({whole / running:.1f} times as long)")
    print(f"largest difference of their labels {(labels - same).abs().max():.1e}")


if __name__ == "__main__":
    main()
