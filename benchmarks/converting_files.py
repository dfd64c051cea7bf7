"""
What becomes of files: rows, lengths and repairs of each, seconds and largest resident memory of its conversion.

    python benchmarks/converting_files.py context_10.pkl label.csv CMU_MOSI_ModifiedTimestampedWords.csd
    python benchmarks/converting_files.py --gigabytes 1       # files that it makes: a pickle, sequences, Parquet

Each is converted in a process of its own, as prepare_data.py does it, into a folder of Parquet with a card, or with
--cache as train.py does it, into a memory-mapped table whose first row is then read. "Imports" are the seconds and the
memory of a process that converts nothing.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from reading_data import SHAPES, generate

ROOT = Path(__file__).resolve().parents[1]
REPAIRS = ("nan", "positive_infinity", "negative_infinity", "repaired_lengths", "filled_steps")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="*")
    parser.add_argument("--gigabytes", type=float, help="size of each of the files that are made")
    parser.add_argument("--folder", help="where to put them; a temporary folder by default")
    parser.add_argument("--num_proc", type=int)
    parser.add_argument("--cache", action="store_true")
    parser.add_argument("--convert", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.convert:
        convert(*options.convert, options.num_proc, options.cache)
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        sources = list(options.sources)
        if options.gigabytes:
            sources += [str(path) for path in in_a_process(generate_all, Path(folder), options.gigabytes)]
        measure(sources, options)


def measure(sources: list[str], options: argparse.Namespace) -> None:
    print("| source | MB | train / valid / test | steps: median (longest) | changed | seconds | MB of memory |")
    print("|---|---|---|---|---|---|---|")
    for source in ["imports", *sources]:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HOME": folder, "OMP_NUM_THREADS": "1"}
            command = [sys.executable, __file__, "x", "--convert", source, str(Path(folder) / "out")]
            command += ["--num_proc", str(options.num_proc)] if options.num_proc else []
            command += ["--cache"] if options.cache else []
            start = time.perf_counter()
            run = subprocess.run(command, capture_output=True, text=True, env=environment)
            seconds = time.perf_counter() - start
            lines = [line for line in run.stdout.splitlines() if line.startswith("CONVERTED ")]
            if not lines:
                print(f"| {Path(source).name} | | | {run.stderr.strip().splitlines()[-1]} | | {seconds:.1f} | |")
                continue
            done = json.loads(lines[0].removeprefix("CONVERTED "))
            print(f"{row(done)} {seconds:.1f} | {done['peak'] / 1e6:.0f} |", flush=True)


def in_a_process(function, *arguments):
    """Call a function elsewhere: processes that are started from here would inherit its largest memory."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def generate_all(folder: Path, gigabytes: float) -> list[Path]:
    makers = {"mosei.pkl": generate, "mosei_csd": generate_csd, "mosei.parquet": generate_parquet}
    for name, make in makers.items():
        make(folder / name, gigabytes)
    return [folder / name for name in makers]


def generate_csd(folder: Path, gigabytes: float) -> None:
    """Words, COVAREP at 100 and Facet at 30 steps a second, and labels of 10 s, in videos of 100 s."""
    import h5py

    random = np.random.default_rng(0)
    seconds, rates = 100, {"COVAREP": (100, 74), "VisualFacet42": (30, 35)}
    video_bytes = 4 * seconds * sum(rate * width for rate, width in rates.values())
    folder.mkdir()
    files = {name: h5py.File(folder / f"{name}.csd", "w") for name in (*rates, "TimestampedWords", "Opinion Labels")}
    for video in range(int(gigabytes * 1e9 / video_bytes)):
        for name, file in files.items():
            steps = {"TimestampedWords": 300, "Opinion Labels": 10}.get(name) or rates[name][0] * seconds
            bounds = np.linspace(0, seconds, steps + 1)
            group = file.create_group(f"{name}/data/video{video:04d}")
            group["intervals"] = np.stack([bounds[:-1], bounds[1:]], axis=1)
            if name in rates:
                group["features"] = random.standard_normal((steps, rates[name][1]), np.float32)
            elif name == "TimestampedWords":
                group["features"] = np.array([[b"word"]] * steps)
            else:
                group["features"] = random.uniform(-3, 3, (steps, 1))
    for file in files.values():
        file.close()


def generate_parquet(path: Path, gigabytes: float) -> None:
    """Rows as `reading_data` has them, without padding, in row groups of 64."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    random = np.random.default_rng(0)
    row_bytes, writer = 4 * sum(steps * width for steps, width in SHAPES.values()), None
    for first in range(0, int(gigabytes * 1e9 / row_bytes), 64):
        columns = {"id": [f"v{row}$_$0" for row in range(first, first + 64)], "text": ["some words"] * 64}
        for modality, (steps, width) in SHAPES.items():
            values = pa.array(random.standard_normal(64 * steps * width, np.float32))
            frames = pa.ListArray.from_arrays(np.arange(0, len(values) + 1, width, np.int32), values)
            columns[f"{modality}_values"] = pa.ListArray.from_arrays(
                np.arange(0, len(frames) + 1, steps, np.int32), frames
            )
        table = pa.table({**columns, "label": random.uniform(-3, 3, 64), "split": ["train"] * 64})
        writer = writer or pq.ParquetWriter(path, table.schema, use_dictionary=["text", "split"])
        writer.write_table(table)
    writer.close()


def convert(source: str, output: str, num_proc: int | None, cache: bool) -> None:
    from datasets_scripts import open_source

    report = None
    if source != "imports":
        builder = open_source(source)
        if cache:
            builder.download_and_prepare(num_proc=num_proc)
            next(iter(builder.rows().values()))[0]
        else:
            builder.write_folder(Path(output), num_proc=num_proc)
        report = builder.report().to_dict()
    usages = [
        resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    ]  # the larger
    print("CONVERTED " + json.dumps({"report": report, "peak": max(usages) * 1024}))


def row(done: dict) -> str:
    report = done["report"]
    if report is None:
        return "| imports alone | | | | |"
    counts = " / ".join(str(report["rows"].get(split, "-")) for split in ("train", "valid", "test"))
    first = next(iter(report["rows"]))
    longest = {
        column: max(tables[column][4] for tables in report["lengths"].values()) for column in report["lengths"][first]
    }
    lengths = ", ".join(
        f"{column.removesuffix('_values')} {quartiles[2]} ({longest[column]})"
        for column, quartiles in report["lengths"][first].items()
    )
    changed = {}
    for tables in report["counts"].values():
        for column, table in tables.items():
            for name in REPAIRS:
                key = f"{column.removesuffix('_values')} {name.replace('_', ' ')}"
                changed[key] = changed.get(key, 0) + table.get(name, 0)
    shown = ", ".join(f"{key} {count:,}" for key, count in changed.items() if count)
    return f"| {report['source']} | {report['bytes'] / 1e6:.1f} | {counts} | {lengths} | {shown} |"


if __name__ == "__main__":
    main()
