"""
Seconds and memory from a feature pickle of CMU-MOSEI's shape to the first batch, and per epoch, here and in MMSA.

    pip install --no-deps mmsa && pip install easydict nvidia-ml-py3 pandas scikit-learn
    python benchmarks/reading_data.py --gigabytes 1

Every row of the table is a process of its own. "First batch" is the time, imports done, to the first batch of 32
training samples; "epoch" that for all other batches of the split, in the order that training has; "peak" is the largest
resident memory of the process, of which "imports" is what it has before it reads anything. The generated file holds
text features 50 x 768, audio 500 x 74 and vision 375 x 35, padded at the back, of random length. MMSA's part is
skipped where it is not installed; it unpickles with plain `pickle`, which is safe with a file that this script made.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import multiprocessing
import os
import pickle
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
SHARES = {"train": 0.72, "valid": 0.08, "test": 0.2}
SHAPES = {"text": (50, 768), "audio": (500, 74), "vision": (375, 35)}
BATCH = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument("--folder", help="where to put the generated file; a temporary folder by default")
    parser.add_argument("--only", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        way, path = options.only
        print("MEASURED " + json.dumps(WAYS[way](Path(path))))
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        source = Path(folder) / "mosei.pkl"
        # In a process of its own: those that are measured would inherit this one's largest memory.
        making = multiprocessing.get_context("spawn").Process(target=generate, args=(source, options.gigabytes))
        making.start()
        making.join()
        size = source.stat().st_size
        print(f"{size / 1e6:.0f} MB; MB of memory are 10^6 bytes")
        print(f"{'':44}{'first batch s':>14}{'epoch s':>9}{'imports MB':>12}{'peak MB':>9}{'peak / file':>13}")
        for way in WAYS:
            if way == MMSA and importlib.util.find_spec("MMSA") is None:
                print(f"{way:44}  MMSA is not installed")
                continue
            measured = in_a_process(way, source)
            first, epoch = (f"{measured[name]:.1f}" if name in measured else "-" for name in ("first", "epoch"))
            ratio = measured["peak"] / size
            print(
                f"{way:44}{first:>14}{epoch:>9}{measured['imports'] / 1e6:>12.0f}{measured['peak'] / 1e6:>9.0f}"
                f"{ratio:>13.2f}",
                flush=True,
            )


def in_a_process(way: str, source: Path) -> dict[str, float]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HOME": str(source.parent / "hf"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--only", way, str(source)]
    run = subprocess.run(command, capture_output=True, text=True, env=environment)
    lines = [line for line in run.stdout.splitlines() if line.startswith("MEASURED ")]
    if not lines:
        sys.exit(f"{way} failed:\n{run.stderr[-3000:]}")
    return json.loads(lines[0].removeprefix("MEASURED "))


def generate(path: Path, gigabytes: float) -> None:
    """Write the file."""
    random = np.random.default_rng(0)
    row_bytes = 4 * sum(steps * width for steps, width in SHAPES.values())
    total = int(gigabytes * 1e9 / row_bytes)
    content = {}
    for split, share in SHARES.items():
        count = round(total * share)
        part = content[split] = {
            "id": [f"{split}{row}$_$0" for row in range(count)],
            "raw_text": ["some words that somebody said"] * count,
            "regression_labels": random.uniform(-3, 3, count).astype(np.float32),
        }
        for modality, (steps, width) in SHAPES.items():
            array = random.standard_normal((count, steps, width), np.float32)
            lengths = random.integers(steps // 8, steps + 1, count)
            for row, length in enumerate(lengths):
                array[row, length:] = 0
            part[modality], part[f"{modality}_lengths"] = array, lengths.tolist()
    with path.open("wb") as file:
        pickle.dump(content, file, protocol=4)


def resident() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def mmsa(path: Path) -> dict[str, float]:
    from MMSA.data_loader import MMDataLoader

    args = {
        "dataset_name": "mosei", "custom_feature": "", "featurePath": str(path), "use_bert": False, "batch_size": BATCH,
        "feature_dims": [0, 0, 0], "feature_T": "", "feature_A": "", "feature_V": "", "need_data_aligned": False,
    }  # fmt: skip
    imports, start = resident(), time.perf_counter()
    batches = iter(MMDataLoader(args, 0)["train"])
    next(batches)
    first = time.perf_counter() - start
    return {"imports": imports, "first": first, **epoch(batches)}


def epoch(batches) -> dict[str, float]:
    """Seconds for all batches but the first."""
    start = time.perf_counter()
    for _ in batches:
        pass
    return {"epoch": time.perf_counter() - start, "peak": resident()}


def ours(path: Path, streaming: bool = False) -> dict[str, float]:
    from torch.utils.data import DataLoader

    from processing import MultimodalProcessor
    from training.collator import MultimodalCollator
    from training.corpus import load_corpus, prepare_split
    from training.sampler import BucketSampler

    imports, start = resident(), time.perf_counter()
    corpus = load_corpus(str(path), streaming=streaming)
    sizes = {f"{modality}_feature_size": corpus.feature_size(modality) for modality in SHAPES}
    processor = MultimodalProcessor(None, text_input="values", **sizes)
    rows = prepare_split(corpus.splits["train"], processor, "text_values")
    if streaming:
        sampler, rows = None, rows.shuffled(0, 1000)
    else:
        sampler = BucketSampler(len(rows), 0, lengths=rows["length"][:], batch_size=BATCH)
    batches = iter(DataLoader(rows, BATCH, sampler=sampler, collate_fn=MultimodalCollator(processor)))
    next(batches)
    first = time.perf_counter() - start
    return {"imports": imports, "first": first, **epoch(batches)}


def prepare(path: Path) -> dict[str, float]:
    from datasets_scripts import open_source

    imports, start = resident(), time.perf_counter()
    open_source(path).write_folder(folder_of(path))
    return {"imports": imports, "first": time.perf_counter() - start, "peak": resident()}


def folder_of(path: Path) -> Path:
    return path.parent / "prepared"


MMSA = "MMSA 2.2.1's loader"
# In this order: later ones find what earlier ones left.
WAYS = {
    MMSA: mmsa,
    "here, the pickle, first time (converts)": ours,
    "here, the pickle, again": ours,
    "here, prepare_data.py (seconds in all)": prepare,
    "here, the prepared folder, first time": lambda path: ours(folder_of(path)),
    "here, the prepared folder, again": lambda path: ours(folder_of(path)),
    "here, the prepared folder, streamed": lambda path: ours(folder_of(path), streaming=True),
}

if __name__ == "__main__":
    main()
