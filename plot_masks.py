"""
Averages the feature masks of an MMLatch checkpoint over a split and draws them per sentiment class (MMLatch, figure 2).

    python plot_masks.py runs/mmlatch --split test
    python plot_masks.py runs/mmlatch --data_file aligned_50.pkl --modality vision --output masks.png

Writes feature_masks.parquet (modality, sentiment, feature, mask, samples) and a heat map for each modality. The mask
of a sample is its mean over the valid steps; classes are the labels rounded to whole numbers (CH-SIMS' labels are first
spread to the same seven classes), and "all" is every sample.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from transformers.utils.logging import disable_progress_bar

from datasets_scripts import MODALITIES, SPLITS
from datasets_scripts.files import whole_file
from datasets_scripts.programs import run_program
from modeling.modality_sequence import ModalitySequence, mean_state
from training.checkpoint import load_checkpoint, load_data, text_column
from training.corpus import prepare_split
from training.plots import pyplot, save
from training.prediction import answers
from training.trainer import MASKS

CLASSES = ("neg++", "neg+", "neg", "neu", "pos", "pos+", "pos++")


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="a checkpoint: the folder of a run")
    parser.add_argument("--data_file", help="a source of data or a prepared folder; by default what the run read")
    parser.add_argument("--split", default="test", choices=SPLITS)
    parser.add_argument("--modality", nargs="+", choices=MODALITIES, help="which modalities; by default all")
    parser.add_argument("--output", help="the parquet file; the pictures lie beside it. By default in the folder")
    parser.add_argument("--batch_size", type=int, default=32)
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> Path:
    options = parse(arguments)
    model, processor = load_checkpoint(options.folder)
    if getattr(model.config, "feedback", "none") == "none":
        raise ValueError(f"{options.folder} has no feature masks; a checkpoint of MMLatch with feedback has.")
    wanted = options.modality or model.config.modalities
    lacking = [modality for modality in wanted if modality not in model.config.modalities]
    if lacking:
        raise ValueError(
            f"--modality {lacking[0]}: the checkpoint was trained with {', '.join(model.config.modalities)}."
        )
    corpus, recipe = load_data(options.folder, options.data_file)
    rows = prepare_split(corpus.split(options.split), processor, text_column(corpus, processor, recipe))
    masks = mean_masks(model, processor, rows, wanted, options.batch_size)
    for modality, values in masks.items():
        if np.isnan(values).all():
            raise ValueError(f"No sample of the split has {modality} and another modality that masks it.")
    classes = sentiment_classes(np.asarray(rows["label"][:], np.float64), model.config.label_range)
    output = Path(options.output or Path(options.folder) / "feature_masks.parquet")
    table = by_class(masks, classes)
    with whole_file(output) as temporary:
        pq.write_table(table, temporary)
    pictures = [output.with_name(f"{output.stem}_{modality}.png") for modality in masks]
    for modality, picture in zip(masks, pictures, strict=True):
        draw(table, modality, picture)
    print("Wrote " + ", ".join(str(path) for path in (output, *pictures)))
    return output


def mean_masks(model, processor, rows, modalities, batch_size: int) -> dict[str, np.ndarray]:
    """
    By modality, each sample's mask (N, features), averaged over its valid steps; NaN where it lacks the modality, or
    has no other one, so that nothing masks it.
    """
    found: dict[str, np.ndarray] = {}
    for chosen, batch, outputs in answers(model, processor, rows, batch_size):
        for modality in modalities:
            values, mask = outputs[f"{modality}_mask_values"], batch.get(MASKS[modality])
            found.setdefault(modality, np.full((len(rows), values.shape[2]), np.nan))
            if mask is not None:
                means = mean_state(ModalitySequence(values.float(), mask.bool())).cpu().numpy()
                count = sum(batch[name].bool().any(dim=1).int() for name in MASKS.values() if name in batch)
                means[~(mask.bool().any(dim=1) & (count > 1)).cpu().numpy()] = np.nan
                found[modality][chosen] = means
    return found


def sentiment_classes(labels: np.ndarray, label_range) -> np.ndarray:
    """0 to 6: labels as whole numbers from -3 to 3, after another range was spread to that one, plus 3."""
    low, high = label_range
    spread = np.where(labels < 0, labels * (-3 / low), labels * (3 / high))
    return np.clip(np.rint(spread), -3, 3).astype(int) + 3


def by_class(masks: dict[str, np.ndarray], classes: np.ndarray) -> pa.Table:
    """(modality, sentiment, feature, mask, samples); a class without any sample is left out."""
    columns: dict[str, list] = {name: [] for name in ("modality", "sentiment", "feature", "mask", "samples")}
    for modality, values in masks.items():
        present = ~np.isnan(values).any(axis=1)
        for number, name in [*enumerate(CLASSES), (None, "all")]:
            members = present if number is None else present & (classes == number)
            if not members.any():
                continue
            means = values[members].mean(axis=0)
            columns["modality"] += [modality] * len(means)
            columns["sentiment"] += [name] * len(means)
            columns["feature"] += list(range(len(means)))
            columns["mask"] += means.tolist()
            columns["samples"] += [int(members.sum())] * len(means)
    return pa.table(columns)


def draw(table: pa.Table, modality: str, output: Path) -> None:
    """Heat map: a row per sentiment class, a column per feature."""
    rows = [row for row in table.to_pylist() if row["modality"] == modality]
    names = [name for name in CLASSES if any(row["sentiment"] == name for row in rows)]
    grid = np.array([[row["mask"] for row in rows if row["sentiment"] == name] for name in names])
    samples = {row["sentiment"]: row["samples"] for row in rows}
    plt = pyplot()
    figure, axis = plt.subplots(figsize=(max(5, min(0.22 * grid.shape[1], 16)) + 2, 0.35 * len(names) + 1.6))
    image = axis.imshow(grid, aspect="auto", cmap="viridis", interpolation="nearest")
    axis.set_yticks(range(len(names)), [f"{name} ({samples[name]})" for name in names])
    axis.set_xlabel(f"{modality} feature")
    axis.set_title("Mean mask per sentiment class (samples)", fontsize=10)
    figure.colorbar(image, ax=axis, pad=0.01, fraction=0.03)
    save(figure, output)


if __name__ == "__main__":
    disable_progress_bar()
    run_program(main)
