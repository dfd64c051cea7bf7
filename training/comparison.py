"""Tables and a plot from the results of several runs per variant."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import os
import statistics
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets_scripts import MODALITIES
from datasets_scripts.files import whole_file
from spaces.multimodal_sentiment.multimodal_sentiment import LOWER_IS_BETTER
from training.comparison_plot import plot
from training.finished_run import RESULTS_FILE
from training.measured import METRICS, Figures, of_system
from training.significance import LEVEL, Difference, Significance
from training.tables import COSTS, QUOTED, markdown_row, scale_of, shown_number

SIGNIFICANCE_FILE = "significance.csv"

# Sections of the Markdown file: heading, prefix of the results in it, results themselves.
SECTIONS = (
    ("Test split", "test_"),
    *((f"Test split, {modality} alone", f"test_{modality}_") for modality in MODALITIES),
    ("Validation split", "valid_"),
    ("Generated labels", "train_"),
)
QUOTED_COSTS = ("parameters", "seconds_per_epoch")


class Comparison:
    """
    Args:
        results: By variant, one dictionary per finished run: what `all_results.json` holds.
        wanted: How many runs there should be of each.
        metric: By what the tables are sorted, on the test split; the first that there is, unless given.
        figures: What was measured elsewhere.
        model_types: By variant, which rows of `figures` are of it beside those with its name.
    """

    def __init__(
        self,
        results: dict[str, list[dict[str, float | None]]],
        wanted: int,
        metric: str | None = None,
        figures: Sequence[Figures] = (),
        model_types: Mapping[str, str] | None = None,
    ):
        self.results = results
        self.wanted = wanted
        names = dict.fromkeys(name for runs in results.values() for run in runs for name in run)
        self.columns = [name for name in names if name != "seed"]
        on_test = [name.removeprefix("test_") for name in self.columns if _section(name) == "test_"]
        self.metric = metric or next(iter(on_test), None)
        self.quoted = [name for name in dict.fromkeys([self.metric, *QUOTED]) if name in on_test]
        self.significance: Significance | None = None
        self.reference: str | None = None
        self.why = ""
        self.figures = figures
        self.elsewhere = {name: of_system(figures, name, (model_types or {}).get(name)) for name in results}
        self.ending = common_ending(list(results))

    @classmethod
    def of_folders(cls, folders: Mapping[str, Sequence[Path]], metric: str | None = None, **more: Any) -> Comparison:
        """From the folders of the runs; those that are not finished are left out. `more` is as above."""
        results = {
            name: [json.loads((run / RESULTS_FILE).read_text(encoding="utf-8")) for run in finished(runs)]
            for name, runs in folders.items()
        }
        return cls(results, max((len(runs) for runs in folders.values()), default=0), metric, **more)

    def add_significance(self, significance: Significance, reference: str | None = None) -> None:
        """
        Adds tests of the differences in the metric.

        Args:
            significance: The tests.
            reference: With which variant the others are compared; of those that were tested, the one with the best
                mean of the metric on the validation split, unless given.
        """
        self.significance = significance
        if reference is not None:
            self.reference, self.why = reference, "as asked for"
            return
        column = f"valid_{self.metric}"
        tested = {name for pair in significance.pairs for name in (pair.system, pair.other)}
        ranked = [name for name in self.ranked(column, tested) if self.values(name, column)]
        if ranked:
            self.reference, self.why = ranked[0], f"the best `{self.metric}` on the validation split"

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

    def ranked(self, column: str | None = None, among: Collection[str] | None = None) -> list[str]:
        """The variants, best mean of a column first (the metric on the test split); those without it last."""
        column = column or f"test_{self.metric}"
        sign = 1 if column in COSTS or column.rpartition("_")[2] in LOWER_IS_BETTER else -1
        means = {name: sign * self.mean(name, column) for name in self.results if among is None or name in among}
        return sorted(means, key=lambda name: (math.isnan(means[name]), 0 if math.isnan(means[name]) else means[name]))

    def shown(self, variant: str) -> str:
        """The name without the ending that all have."""
        return variant.removesuffix(self.ending)

    # Markdown

    def markdown(self, heading: str) -> str:
        parts = [f"# {heading}", self._summary(), *self._remarks()]
        if self.figures:
            parts += ["## Measured elsewhere", self._measured()]
        for title, prefix in SECTIONS:
            columns = [name for name in self.columns if _section(name) == prefix]
            if columns:
                parts += [f"## {title}", self._table(columns, prefix)]
            if prefix == "test_":
                parts += ["## Cost", self._table([name for name in COSTS if name in self.columns], "")]
        return "\n\n".join(parts) + "\n"

    def _summary(self) -> str:
        """The first table: what is asked first, a line per variant."""
        order = self.ranked()
        columns = {
            "system": [self.shown(name) for name in order],
            "seeds": [self._seeds(name) for name in order],
        }
        for metric in self.quoted:
            columns[metric] = self._best_bold(order, f"test_{metric}", deviation=metric == self.metric)
            if metric == self.metric:
                columns |= self._beside(order, metric)
        for cost in QUOTED_COSTS:
            if cost in self.columns:
                columns[cost.replace("_", " ")] = self._best_bold(order, cost)
        rows = [markdown_row(*cells) for cells in zip(*columns.values(), strict=True)]
        return "\n".join([markdown_row(*columns), "|" + "---|" * len(columns), *rows])

    def _beside(self, order: Sequence[str], metric: str) -> dict[str, list[str]]:
        """Columns beside the metric of the first table: differences to the reference, figures from elsewhere."""
        columns = {}
        found = self._differences()
        if found:
            columns["difference [95 %]"] = [
                _difference(metric, found[name]) if name in found else "reference" if name == self.reference else "-"
                for name in order
            ]
            columns["p"] = [_p_value(found[name]) if name in found else "" for name in order]
        figures = [[row.values[metric] for row in self.elsewhere[name] if metric in row.values] for name in order]
        if any(figures):
            shown = [shown_number(metric, values[0], math.nan) if values else "" for values in figures]
            columns[f"{metric} elsewhere"] = shown
        return columns

    def _best_bold(self, order: Sequence[str], column: str, deviation: bool = False) -> list[str]:
        means = {name: shown_number(column, self.mean(name, column), math.nan) for name in order}
        distinct = {means[name] for name in order if self.values(name, column)}
        best = means[self.ranked(column)[0]] if len(distinct) > 1 else None
        cells = {
            name: shown_number(column, self.mean(name, column), self.deviation(name, column) if deviation else math.nan)
            for name in order
        }
        return [f"**{cells[name]}**" if means[name] == best else cells[name] for name in order]

    def _differences(self) -> dict[str, Difference]:
        if self.significance is None or self.reference is None:
            return {}
        return self.significance.against(self.reference)

    def _remarks(self) -> list[str]:
        """What the numbers of the first table are, in words."""
        ending = f" Names are without their common ending `{self.ending}`." if self.ending else ""
        remarks = [
            f"Test split, sorted by `{self.metric}`; the best of a column in bold. Mean and sample standard deviation "
            "over seeds. `mae`, `corr` and label scores are as they are, the other metrics in percent; seconds per "
            "epoch are the median of a run's epochs, each with its evaluation; peak memory is that of the whole "
            f"process in MiB (on a GPU, what was allocated there).{ending}"
        ]
        if self.significance is not None:
            if self._differences():
                remarks.append(self._what_p_is(self.significance, str(self.reference)))
            elif self.reference is not None:
                remarks.append(f"No system can be compared with {self.reference}.")
            if self.significance.notes:
                remarks.append("\n".join(f"- {note}" for note in self.significance.notes))
        if any(len(rows) > 1 for rows in self.elsewhere.values()):
            remarks.append("Of several figures measured elsewhere for one system, the first table has the first.")
        return remarks

    def _what_p_is(self, found: Significance, reference: str) -> str:
        comparisons = len(self._differences())
        units, samples = found.sizes[reference]
        drawn, alone = f"the {samples:,} test samples", ""
        if found.unit == "videos":
            drawn = f"the {units:,} videos of the {samples:,} test samples, each drawn whole"
        else:
            alone = " Samples are drawn one by one, as if independent; `--resample videos` draws whole videos."
        smallest = [2 / (found.resamples + 1) * count for count in (comparisons, len(found.pairs))]
        coarse = (
            f" So few resamples give no p below {smallest[0]:.2g} here, or {smallest[1]:.2g} among all pairs."
            if smallest[1] > LEVEL
            else ""
        )
        return (
            f"Difference: to `{self.shown(reference)}` ({self.why}), with its 95 % interval. p: two-sided, with "
            f"Holm's correction for {comparisons} comparisons; `*` is below {LEVEL:g}. Both come from a paired "
            f"bootstrap over {drawn}: {found.resamples:,} resamples, means over seeds.{alone}{coarse} In p, the test "
            f"{found.unit} vary; the seeds that were run and the training data do not, so it does not say what other "
            f"seeds would give. All pairs, corrected for their number, are in {SIGNIFICANCE_FILE}."
        )

    def _measured(self) -> str:
        """Every figure from elsewhere, with its source."""
        metrics = [name for name in METRICS if any(name in row.values for row in self.figures)]
        lines = [markdown_row("system", "source", *metrics), "|---|---|" + "---|" * len(metrics)]
        for row in self.figures:
            cells = [shown_number(name, row.values.get(name, math.nan), math.nan) for name in metrics]
            lines.append(markdown_row(row.system, row.source, *cells))
        return "\n".join(lines)

    def _table(self, columns: Sequence[str], prefix: str) -> str:
        names = [name.removeprefix(prefix) for name in columns]
        lines = [markdown_row("", "seeds", *names), "|---|---|" + "---|" * len(columns)]
        for variant in self.ranked():
            cells = [shown_number(name, self.mean(variant, name), self.deviation(variant, name)) for name in columns]
            lines.append(markdown_row(self.shown(variant), self._seeds(variant), *cells))
        return "\n".join(lines)

    def _seeds(self, variant: str) -> str:
        runs = len(self.results[variant])
        return f"{runs} of {self.wanted}" if runs < self.wanted else f"{runs}"

    # Files

    def write(self, folder: str | Path, heading: str) -> list[Path]:
        """
        Writes comparison.md, comparison.csv (a row per variant), runs.csv (a row per run), comparison.png and, where
        differences were tested, significance.csv (a row per pair).

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
        plot(self, folder / "comparison.png", heading)
        written = [folder / name for name in ("comparison.md", "comparison.csv", "runs.csv", "comparison.png")]
        if self.significance is None or not self.significance.pairs:
            (folder / SIGNIFICANCE_FILE).unlink(missing_ok=True)  # one of an earlier comparison would mislead
            return written
        names = [field.name for field in dataclasses.fields(Difference)]
        tested = (self.significance.metric, self.significance.unit)
        pairs = [[*dataclasses.astuple(pair), *tested] for pair in self.significance.pairs]
        _write_csv(folder / SIGNIFICANCE_FILE, [*names, "metric", "resampled"], pairs)
        return [*written, folder / SIGNIFICANCE_FILE]


def finished(runs: Sequence[Path]) -> list[Path]:
    """Those of the folders that hold a finished run."""
    return [run for run in runs if (run / RESULTS_FILE).exists()]


def common_ending(names: Sequence[str]) -> str:
    """The longest ending from a `_` on that all names have, with something before it; "" for a single name."""
    if len(names) < 2:
        return ""
    ending = os.path.commonprefix([name[:0:-1] for name in names])[::-1]  # the first character of a name stays
    start = ending.find("_")
    return ending[start:] if start >= 0 else ""


def _section(name: str) -> str | None:
    """The prefix of the section that a result belongs to; the modalities' own on the validation split are in the
    csv."""
    fitting = [prefix for _, prefix in SECTIONS if name.startswith(prefix) and name not in COSTS]
    if any(name.startswith(f"valid_{modality}_") for modality in MODALITIES):
        return None
    return max(fitting, key=len, default=None)


def _difference(metric: str, found: Difference) -> str:
    scale, digits = scale_of(metric)
    shown = [f"{value * scale:+.{digits}f}" for value in (found.difference, found.low, found.high)]
    return f"{shown[0]} [{shown[1]}, {shown[2]}]"


def _p_value(found: Difference) -> str:
    shown = f"{found.p_holm:.3f}" if found.p_holm >= 0.001 else "< 0.001"
    return f"{shown} *" if found.p_holm < LEVEL else shown


def _write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence]) -> None:
    with whole_file(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
