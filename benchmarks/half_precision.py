"""
What loading a checkpoint in bfloat16 costs: test MAE beside that of float32, and how far predictions move.

    python benchmarks/half_precision.py runs/release/mosi-text/*/seed_1111

Each checkpoint predicts the test split of the data that it was trained on, on the CPU or, where there is one, the GPU.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModel, AutoProcessor
from transformers.utils.logging import disable_progress_bar

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import modeling  # noqa: F401  (registers the architectures)
import processing  # noqa: F401
from training.checkpoint import load_data, text_column
from training.corpus import prepare_split
from training.prediction import predict_rows, table_metrics
from training.targets import Target


def main(folders: list[str]) -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    print("| | MAE, float32 | MAE, bfloat16 | difference of predictions: mean | largest |\n|---|---|---|---|---|")
    for folder in folders:
        processor = AutoProcessor.from_pretrained(folder)
        corpus, recipe = load_data(folder)
        rows = prepare_split(corpus.split("test"), processor, text_column(corpus, processor, recipe))
        errors, predictions = [], []
        for dtype in (torch.float32, torch.bfloat16):
            model = AutoModel.from_pretrained(folder, dtype=dtype).eval().to(device)
            table = predict_rows(model, processor, rows, batch_size=64)
            errors.append(table_metrics(table, Target("sentiment"))["mae"])
            predictions.append(table["prediction"].to_numpy())
        moved = np.abs(predictions[0] - predictions[1])
        name = f"{model.config.display_name}, {corpus.name}"
        print(f"| {name} | {errors[0]:.4f} | {errors[1]:.4f} | {moved.mean():.4f} | {moved.max():.3f} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", help="checkpoints that predict a sentiment: folders of runs")
    disable_progress_bar()
    main(parser.parse_args().folders)
