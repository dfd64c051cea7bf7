"""
Draws how the generated unimodal labels of a run are distributed, epoch by epoch (Self-MM, figure 4; SUGRM, figure 4).

    python plot_labels.py runs/mosi
    python plot_labels.py runs/mosi --epochs 1 2 5 10 --output labels.png

It reads the run's generated_labels.parquet. In the first epoch all labels are the multimodal ones. Beside each epoch's
distribution stands the mean distance of its labels from those of the epoch before, which shrinks as they settle.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from datasets_scripts import MODALITIES
from datasets_scripts.programs import run_program
from training.label_callback import HISTORY_FILE
from training.plots import pyplot, save


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help=f"the folder of a run, or a {HISTORY_FILE}")
    parser.add_argument("--epochs", type=int, nargs="+", help="which epochs; by default up to six over the whole run")
    parser.add_argument("--output", help="a .png, .pdf or .svg file; by default generated_labels.png beside the labels")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> Path:
    options = parse(arguments)
    path = Path(options.folder)
    path = path / HISTORY_FILE if path.is_dir() else path
    if not path.is_file():
        raise FileNotFoundError(f"There is no {path}; runs with a label generator write it after every epoch.")
    table = pq.read_table(path)
    if table.num_rows == 0 or all(table[m].null_count == len(table) for m in MODALITIES):
        raise ValueError(f"{path} holds no generated labels.")
    output = Path(options.output) if options.output else path.with_suffix(".png")
    draw(table, options.epochs, output)
    print(f"Wrote {output}")
    return output


def labels_by_epoch(table: pa.Table) -> dict[str, dict[int, np.ndarray]]:
    """By modality that has generated labels, and by epoch, the labels in the order of the ids."""
    order = pc.sort_indices(table, [("epoch", "ascending"), ("id", "ascending")])
    table = table.take(order)
    epochs = table["epoch"].to_numpy()
    return {
        m: {int(epoch): table[m].to_numpy()[epochs == epoch] for epoch in np.unique(epochs)}
        for m in MODALITIES
        if table[m].null_count < len(table)
    }


def draw(table: pa.Table, epochs: list[int] | None, output: str | Path) -> None:
    """A row of histograms per modality, a column per epoch."""
    labels = labels_by_epoch(table)
    known = sorted(next(iter(labels.values())))
    chosen = epochs or sorted({known[round(i)] for i in np.linspace(0, len(known) - 1, min(6, len(known)))})
    missing = [epoch for epoch in chosen if epoch not in known]
    if missing:
        raise ValueError(f"--epochs {missing[0]}: the run has the epochs {known[0]} to {known[-1]}.")
    every = np.concatenate([values for by_epoch in labels.values() for values in by_epoch.values()])
    bins = np.linspace(every.min(), every.max(), 31) if np.ptp(every) else 10
    plt = pyplot()
    figure, axes = plt.subplots(
        len(labels),
        len(chosen),
        figsize=(2.1 * len(chosen) + 0.6, 1.7 * len(labels) + 0.6),
        sharex=True,
        sharey=True,
        squeeze=False,
    )
    for row, (modality, by_epoch) in zip(axes, labels.items(), strict=True):
        for axis, epoch in zip(row, chosen, strict=True):
            values = by_epoch[epoch]
            axis.hist(values, bins=bins, color="C0")
            axis.axvline(values.mean(), color="C1", linewidth=1)
            moved = np.abs(values - by_epoch[epoch - 1]).mean() if epoch - 1 in by_epoch else 0.0
            axis.set_title(f"#{epoch}, moved {moved:.3f}", fontsize=8)
        row[0].set_ylabel(f"{modality}\nsamples", fontsize=8)
    figure.supxlabel("generated label (line: mean)", fontsize=9)
    save(figure, output)


if __name__ == "__main__":
    run_program(main)
