"""Tables and a plot from the results of several runs per variant."""

from __future__ import annotations

import csv
import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path

from datasets_scripts import MODALITIES
from training.files import whole_file
from training.plots import pyplot, save
from training.run_folder import RESULTS_FILE

# Sections of the Markdown file: heading, prefix of the results in it, results themselves.
COSTS = ("parameters", "seconds_per_epoch", "peak_memory_mb", "epochs", "best_epoch", "train_seconds")
SECTIONS = (
    ("Test split", "test_"),
    *((f"Test split, {modality} alone", f"test_{modality}_") for modality in MODALITIES),
    ("Validation split", "valid_"),
    ("Generated labels", "train_"),
)
HIGHER_PRECISION = ("mae", "corr", "shift")  # three decimals; shares are shown as percentages
PLOTTED = (
    "test_mae",
    "test_corr",
    "test_acc2_non0",
    "test_acc2",
    "test_acc6",
    "test_acc_avg",
    "test_wa_avg",
    "test_f1_avg",
)


class Comparison:
    """
    Args:
        results: By variant, one dictionary per finished run: what `all_results.json` holds.
        wanted: How many runs there should be of each.
    """

    def __init__(self, results: dict[str, list[dict[str, float | None]]], wanted: int):
        self.results = results
        self.wanted = wanted
        names = dict.fromkeys(name for runs in results.values() for run in runs for name in run)
        self.columns = [name for name in names if name != "seed"]

    @classmethod
    def of_folders(cls, folders: dict[str, Sequence[Path]]) -> Comparison:
        """From the folders of the runs; those that are not finished are left out."""
        results = {
            name: [
                json.loads((folder / RESULTS_FILE).read_text(encoding="utf-8"))
                for folder in runs
                if (folder / RESULTS_FILE).exists()
            ]
            for name, runs in folders.items()
        }
        return cls(results, max((len(runs) for runs in folders.values()), default=0))

    def values(self, variant: str, column: str) -> list[float]:
        """A result of all runs that have it."""
        found = [run.get(column) for run in self.results[variant]]
        return [float(value) for value in found if value is not None and not math.isnan(value)]

    def mean(self, variant: str, column: str) -> float:
        values = self.values(variant, column)
        return statistics.fmean(values) if values else math.nan

    def deviation(self, variant: str, column: str) -> float:
        """Sample standard deviation; NaN for fewer than two runs."""
        values = self.values(variant, column)
        return statistics.stdev(values) if len(values) > 1 else math.nan

    def markdown(self, heading: str) -> str:
        parts = [
            f"# {heading}",
            "Mean and sample standard deviation over seeds. `mae`, `corr` and label scores are as they are, the other "
            "metrics in percent; seconds per epoch are the median of a run's epochs, each with its evaluation; peak "
            "memory is that of the whole process in MiB (on a GPU, what was allocated there).",
        ]
        for title, prefix in SECTIONS:
            columns = [name for name in self.columns if _section(name) == prefix]
            if columns:
                parts += [f"## {title}", self._table(columns, prefix)]
            if prefix == "test_":
                parts += ["## Cost", self._table([name for name in COSTS if name in self.columns], "")]
        return "\n\n".join(parts) + "\n"

    def _table(self, columns: Sequence[str], prefix: str) -> str:
        names = [name.removeprefix(prefix) for name in columns]
        lines = [markdown_row("", "seeds", *names), "|---|---|" + "---|" * len(columns)]
        for variant, runs in self.results.items():
            cells = [_cell(name, self.mean(variant, name), self.deviation(variant, name)) for name in columns]
            missing = f" of {self.wanted}" if len(runs) < self.wanted else ""
            lines.append(markdown_row(variant, f"{len(runs)}{missing}", *cells))
        return "\n".join(lines)

    def write(self, folder: str | Path, heading: str) -> list[Path]:
        """
        Writes comparison.md, comparison.csv (a row per variant), runs.csv (a row per run) and comparison.png.

        Returns:
            Their paths.
        """
        folder = Path(folder)
        with whole_file(folder / "comparison.md") as temporary:
            temporary.write_text(self.markdown(heading), encoding="utf-8")
        both = [f"{name}_{kind}" for name in self.columns for kind in ("mean", "std")]
        rows = [
            [variant, len(self.results[variant])]
            + [
                "" if math.isnan(value) else value
                for name in self.columns
                for value in (self.mean(variant, name), self.deviation(variant, name))
            ]
            for variant in self.results
        ]
        _write_csv(folder / "comparison.csv", ["variant", "seeds", *both], rows)
        runs = [
            [variant, run.get("seed"), *("" if run.get(name) is None else run[name] for name in self.columns)]
            for variant, found in self.results.items()
            for run in found
        ]
        _write_csv(folder / "runs.csv", ["variant", "seed", *self.columns], runs)
        self.plot(folder / "comparison.png", heading)
        return [folder / name for name in ("comparison.md", "comparison.csv", "runs.csv", "comparison.png")]

    def plot(self, path: str | Path, heading: str) -> None:
        """Per metric, the mean of each variant with one standard deviation to both sides, and every run as a dot."""
        plt = pyplot()
        metrics = [name for name in PLOTTED if name in self.columns]
        variants = list(self.results)
        height = 1.6 + 0.32 * len(variants)
        figure, _ = plt.subplots(1, max(len(metrics), 1), figsize=(3.2 * max(len(metrics), 1) + 2, height))
        for axis, metric in zip(figure.axes, metrics, strict=False):
            for row, variant in enumerate(variants):
                values = self.values(variant, metric)
                axis.plot(values, [row] * len(values), "o", color="0.6", markersize=4, zorder=1)
                if values:
                    deviation = self.deviation(variant, metric)
                    error = None if math.isnan(deviation) else deviation
                    axis.errorbar(self.mean(variant, metric), row, xerr=error, fmt="D", color="C0", capsize=3, zorder=2)
            better = "lower" if metric == "test_mae" else "higher"
            axis.set_title(f"{metric.removeprefix('test_')} ({better} is better)", fontsize=9)
            axis.set_yticks(range(len(variants)), variants if axis is figure.axes[0] else [""] * len(variants))
            axis.set_ylim(len(variants) - 0.5, -0.5)
            axis.grid(axis="x", alpha=0.3)
        figure.suptitle(heading, fontsize=10)
        save(figure, path)


def _section(name: str) -> str | None:
    """The prefix of the section that a result belongs to; the modalities' own on the validation split are in the
    csv."""
    fitting = [prefix for _, prefix in SECTIONS if name.startswith(prefix) and name not in COSTS]
    if any(name.startswith(f"valid_{modality}_") for modality in MODALITIES):
        return None
    return max(fitting, key=len, default=None)


def markdown_row(*cells: str) -> str:
    """A row of a Markdown table."""
    return "|" + "|".join(f" {cell} ".replace("|", "\\|") if cell else " " for cell in cells) + "|"


def _cell(name: str, mean: float, deviation: float) -> str:
    if math.isnan(mean):
        return "-"
    kind = name.rpartition("_")[2]
    if name in COSTS:
        shown = f"{mean:,.0f}" if name in ("parameters", "peak_memory_mb") else f"{mean:.1f}"
        return shown if math.isnan(deviation) or name == "parameters" else f"{shown} ± {deviation:.1f}"
    scale, digits = (1, 3) if kind in HIGHER_PRECISION else (100, 1)
    shown = f"{mean * scale:.{digits}f}"
    return shown if math.isnan(deviation) else f"{shown} ± {deviation * scale:.{digits}f}"


def _write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence]) -> None:
    with whole_file(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
