"""
What becomes of files: rows, lengths and repairs of each, seconds and largest resident memory of its conversion.

    python benchmarks/converting_files.py context_10.pkl label.csv CMU_MOSI_ModifiedTimestampedWords.csd

Each is converted by prepare_data.py's means in a process of its own, into a temporary folder. "Imports" are the seconds
and the memory of a process that converts nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
REPAIRS = ("nan", "positive_infinity", "negative_infinity", "repaired_lengths", "filled_steps")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="+")
    parser.add_argument("--num_proc", type=int)
    parser.add_argument("--convert", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.convert:
        convert(*options.convert, options.num_proc)
        return
    print("| source | MB | train / valid / test | steps: median (longest) | changed | seconds | MB of memory |")
    print("|---|---|---|---|---|---|---|")
    for source in ["imports", *options.sources]:
        with tempfile.TemporaryDirectory() as folder:
            environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HOME": folder, "OMP_NUM_THREADS": "1"}
            command = [sys.executable, __file__, "x", "--convert", source, str(Path(folder) / "out")]
            command += ["--num_proc", str(options.num_proc)] if options.num_proc else []
            start = time.perf_counter()
            run = subprocess.run(command, capture_output=True, text=True, env=environment)
            seconds = time.perf_counter() - start
            lines = [line for line in run.stdout.splitlines() if line.startswith("CONVERTED ")]
            if not lines:
                print(f"| {Path(source).name} | | | {run.stderr.strip().splitlines()[-1]} | | {seconds:.1f} | |")
                continue
            done = json.loads(lines[0].removeprefix("CONVERTED "))
            print(f"{row(done)} {seconds:.1f} | {done['peak'] / 1e6:.0f} |", flush=True)


def convert(source: str, output: str, num_proc: int | None) -> None:
    from datasets_scripts import open_source

    report = None
    if source != "imports":
        builder = open_source(source)
        builder.write_folder(Path(output), num_proc=num_proc)
        report = builder.report().to_dict()
    usages = [resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
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
