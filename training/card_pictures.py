"""The pictures of a model card: how training went, and what was predicted for the test split."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from datasets_scripts import MODALITIES
from training.finished_run import FinishedRun
from training.plots import pyplot, save

Picture = tuple[str, str]  # its file's name and what it shows
DRAWN = {
    "generated_labels.png": "How the generated unimodal labels are distributed, epoch by epoch",
    **{
        f"feature_masks_{modality}.png": f"The feature masks of {modality}, averaged per sentiment class"
        for modality in MODALITIES
    },
}


def draw_training(run: FinishedRun, folder: Path) -> Picture | None:
    """Training loss and the metric by which the epoch was chosen, epoch by epoch; None without matplotlib."""
    stages = [stage for stage in run.record["stages"] if stage["history"]]
    if not stages or (plots := _pyplot()) is None:
        return None
    figure, (above, below) = plots.subplots(2, 1, figsize=(7, 5), sharex=True)
    start = 0.0
    for stage in stages:
        history, epochs = stage["history"], [start + entry["epoch"] for entry in stage["history"]]
        losses = [np.nan if entry["loss"] is None else entry["loss"] for entry in history]
        found = [entry.get(f"valid_{run.selection}", entry["valid_loss"]) for entry in history]
        scores = [np.nan if value is None else value for value in found]
        label = stage["name"] or None
        above.plot(epochs, losses, marker="o", markersize=3, label=label)
        below.plot(epochs, scores, marker="o", markersize=3, label=label)
        below.axvline(start + stage["best_epoch"], color="grey", linestyle=":", linewidth=1)
        start += stage["epochs"]
    above.set_ylabel("training loss")
    below.set_ylabel(f"validation {run.selection}")
    below.set_xlabel("epoch (dotted: the one that was kept)")
    if any(stage["name"] for stage in stages):
        above.legend()
    for axis in (above, below):
        axis.grid(alpha=0.3)
    save(figure, folder / "training.png")
    return "training.png", "Training loss and the validation metric, epoch by epoch"


def draw_predictions(run: FinishedRun, folder: Path) -> Picture | None:
    """Predictions for the test split over the labels, of a model that predicts one number; None without matplotlib."""
    table = run.predictions["test"]
    if run.target.name != "sentiment" or (plots := _pyplot()) is None:
        return None
    labels, predictions = (table[name].to_numpy() for name in ("label", "prediction"))
    low, high = run.config.label_range
    figure, axis = plots.subplots(figsize=(5, 5))
    axis.plot([low, high], [low, high], color="grey", linewidth=1, label="as labelled")
    axis.scatter(labels, predictions, s=8, alpha=0.4, linewidths=0)
    axis.axhline(0, color="grey", linestyle=":", linewidth=1)
    axis.axvline(0, color="grey", linestyle=":", linewidth=1)
    axis.set(xlabel="label", ylabel="prediction", aspect="equal")
    axis.legend(loc="upper left")
    axis.grid(alpha=0.3)
    save(figure, folder / "predictions.png")
    return "predictions.png", f"Predictions for the {len(table)} test samples over their labels"


def copy_pictures(run: FinishedRun, folder: Path) -> list[Picture]:
    """Copies the pictures that plot_labels.py and plot_masks.py have drawn of the run."""
    found = [(name, shown) for name, shown in DRAWN.items() if (run.path / name).is_file()]
    for name, _ in found:
        shutil.copyfile(run.path / name, folder / name)
    return found


def _pyplot():
    """None where matplotlib, an extra, is not installed: a card then has no pictures."""
    try:
        return pyplot()
    except ImportError:
        return None
