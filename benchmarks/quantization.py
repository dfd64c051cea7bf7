"""
What serving a text encoder in 8 bits costs and gains: test metrics, how far predictions move, latency and file size,
beside float32 and bfloat16.

    pip install onnx onnxscript onnxruntime
    python benchmarks/quantization.py runs/release/mosi-text/Self-MM/seed_1111 [...] [--threads 1]

Each checkpoint is exported to ONNX, in float32 and with int8 products in its text encoder (`export.py --int8`), and
predicts the test split of the data that it was trained on, on the CPU: as itself, in bfloat16, and as both graphs.
Differences are those of predictions from the checkpoint's own. Latency is that of one sample, the median over samples
of the split; samples per second those of batches of 32, in order of length. Rows of the table take turns in both. One
thread is timed by the processor's clock, anything else by the wall's; ONNX Runtime has as many threads as PyTorch.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModel, AutoProcessor
from transformers.utils.logging import disable_progress_bar

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import modeling  # noqa: F401  (registers the architectures)
import processing  # noqa: F401
from publishing.export_folder import export_checkpoint
from publishing.export_graph import FORMATS, quantize_text_encoder
from publishing.exported_model import ExportedModel
from training.checkpoint import load_data, text_column
from training.collator import MultimodalCollator
from training.corpus import prepare_split
from training.prediction import batches, predict_rows, table_metrics
from training.targets import Target

SHOWN = ("mae", "corr", "acc7")
ONE, MANY = 1, 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", help="checkpoints that predict a sentiment from text: folders of runs")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--samples", type=int, default=40, help="that latency is measured with")
    options = parser.parse_args()
    disable_progress_bar()
    torch.set_num_threads(options.threads)
    names = None
    for folder in options.folders:
        processor = AutoProcessor.from_pretrained(folder)
        corpus, recipe = load_data(folder)
        rows = prepare_split(corpus.split("test"), processor, text_column(corpus, processor, recipe))
        target = Target("sentiment", recipe.metric_convention if recipe is not None else "mosi")
        with tempfile.TemporaryDirectory() as place:
            models, megabytes = variants(folder, Path(place))
            tables = {name: predict_rows(model, processor, rows, batch_size=64) for name, model in models.items()}
            seconds = timed(models, processor, rows, options)
        expected = tables["float32"]["prediction"].to_numpy()
        for name, table in tables.items():
            metrics = table_metrics(table, target)
            if names is None:
                names = [one for one in metrics if one in SHOWN or one.startswith("acc2")]
                heading = ["", *names, "moved: mean", "largest", "1 sample, ms", f"{MANY}: samples/s", "MB"]
                print(f"| {' | '.join(heading)} |\n|{'---|' * len(heading)}")
            moved = np.abs(table["prediction"].to_numpy() - expected)
            cells = [f"{models['float32'].config.display_name}, {corpus.name}: {name}"]
            cells += [f"{metrics[one]:.4f}" for one in names]
            cells += [f"{moved.mean():.4f}", f"{moved.max():.3f}", f"{seconds[name][ONE] * 1e3:.2f}"]
            cells += [f"{MANY / seconds[name][MANY]:.0f}", f"{megabytes[name]:.1f}"]
            print(f"| {' | '.join(cells)} |", flush=True)


def variants(folder: str, place: Path) -> tuple[dict[str, Any], dict[str, float]]:
    """The models of the table's rows, and the megabytes of their weights as they are saved."""
    models: dict[str, Any] = {}
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        models[name] = AutoModel.from_pretrained(folder, dtype=dtype).eval()
    megabytes = {
        name: sum(value.numel() * value.element_size() for value in model.state_dict().values()) / 1e6
        for name, model in models.items()
    }
    (place / "float32").mkdir()
    export_checkpoint(folder, place / "float32")
    shutil.copytree(place / "float32", place / "int8")
    quantize_text_encoder(place / "float32" / FORMATS["onnx"], place / "int8" / FORMATS["onnx"])
    for name in ("float32", "int8"):
        models[f"ONNX, {name}"] = ExportedModel(place / name)
        megabytes[f"ONNX, {name}"] = (place / name / FORMATS["onnx"]).stat().st_size / 1e6
    return models, megabytes


def timed(models: dict[str, Any], processor, rows, options: argparse.Namespace) -> dict[str, dict[int, float]]:
    """By row of the table and batch size, the median of the seconds of a batch."""
    clock = time.process_time if options.threads == 1 else time.perf_counter
    collate = MultimodalCollator(processor)
    found: dict[str, dict[int, float]] = {name: {} for name in models}
    for size, count in ((ONE, options.samples), (MANY, max(options.samples // 8, 2))):
        every = [samples for _, samples in batches(rows, size) if len(samples) == size]
        chosen = every[:: max(len(every) // count, 1)][:count]
        seconds: dict[str, list[float]] = {name: [] for name in models}
        for number, samples in enumerate([chosen[0], *chosen]):
            batch = collate(samples)
            batch = {name: value for name, value in batch.items() if name not in ("id", "labels", "references")}
            for name, model in models.items():
                begun = clock()
                with torch.no_grad():
                    model(**batch)
                if number:
                    seconds[name].append(clock() - begun)
        for name, measured in seconds.items():
            found[name][size] = statistics.median(measured)
    return found


if __name__ == "__main__":
    main()
