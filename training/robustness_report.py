"""Tables and a plot of what robustness.py measured."""

from __future__ import annotations

import csv
import math
import statistics
from collections.abc import Sequence
from pathlib import Path

from datasets_scripts import EMOTIONS
from datasets_scripts.files import whole_file
from spaces.multimodal_sentiment.multimodal_sentiment import greater_is_better
from training.plots import pyplot, save
from training.robustness import FULL, REMOVED, Condition, Measured, noise, only
from training.tables import HIGHER_PRECISION, markdown_row
from training.targets import Target

# UCRN's table 4: what is left, by its abbreviations, and the scores; of these, a target's own.
PAIRS = {"L+A": ("text", "audio"), "L+V": ("text", "vision"), "A+V": ("audio", "vision")}
PAPER_SCORES = ("acc2_has0", "acc2_non0", "acc2", "acc7", "wa_avg", "acc_avg")
PAPER_NOISE = 0.5
FIELDS = (
    "group",
    "run",
    "condition",
    "kept_modalities",
    "noise",
    "probability",
    "metric",
    "value",
    "drop_percent",
    "samples_without_any_modality",
)
HOW = (
    "Mean and sample standard deviation over the runs of a group. *only ...*: the other modalities are removed, their "
    "sequences are empty. *noise p on ...*: x' = x + s b, with b drawn from Bernoulli(p) for every step and feature, "
    "and s the feature's standard deviation over all valid steps of the split; the paper whose protocol this is (UCRN, "
    "section 4.4) gives the noise no scale, this one is ours. Samples that are left without any modality are predicted "
    "like the others.",
)


class RobustnessReport:
    """
    Args:
        target: Of all runs.
        measured: Every run under every condition.
        notes: What else a reader must know, a sentence each.
    """

    def __init__(self, target: Target, measured: Sequence[Measured], notes: Sequence[str] = ()):
        self.target = target
        self.measured = list(measured)
        self.notes = list(notes)
        self.groups = list(dict.fromkeys(one.run.group for one in self.measured))
        by_name: dict[str, Condition] = {}
        for one in self.measured:
            by_name.setdefault(one.condition.name, one.condition)
        self.conditions = sorted(by_name.values(), key=lambda condition: condition.order)
        self._full = {one.run.path: one.scores for one in self.measured if one.condition.kind == FULL}

    def of(self, group: str, condition: str) -> list[Measured]:
        """What was measured of a group under a condition, an entry per run; empty where it was not."""
        return [one for one in self.measured if (one.run.group, one.condition.name) == (group, condition)]

    def values(self, group: str, condition: str, metric: str) -> list[float]:
        """The metric of every run for which it is defined."""
        return _defined(one.scores[metric] for one in self.of(group, condition))

    def drop(self, one: Measured, metric: str) -> float:
        """How much of the score of the same run with everything is gone, in percent."""
        return relative_drop(metric, self._full[one.run.path][metric], one.scores[metric])

    def drops(self, group: str, condition: str, metric: str) -> list[float]:
        """`drop` of every run for which it is defined."""
        return _defined(self.drop(one, metric) for one in self.of(group, condition))

    def markdown(self, heading: str) -> str:
        degraded = [condition for condition in self.conditions if condition.kind != FULL]
        parts = [
            f"# {heading}",
            *HOW,
            *self.notes,
            "## Results",
            "`mae` and `corr` are as they are, the other metrics in percent."
            + (" Those of each emotion are in robustness.csv." if self.target.of_emotions else ""),
            self._table(self.conditions, ["without any"], self._results),
        ]
        if degraded:
            parts += [
                "## Relative drop, in percent",
                "(full - degraded) / full of each run, of `mae` (degraded - full) / full: positive is worse. Undefined "
                "(-) where the full score is not above 0.",
                self._table(degraded, [], self._drops),
            ]
        return "\n\n".join([*parts, *self._of_the_paper()]) + "\n"

    @property
    def _shown(self) -> list[str]:
        return [name for name in self.target.metric_names if not name.endswith(EMOTIONS)]

    def _table(self, conditions: Sequence[Condition], more: Sequence[str], cells) -> str:
        lines = [markdown_row("", "condition", "runs", *more, *self._shown)]
        lines.append("|---|---|" + "---|" * (1 + len(more) + len(self._shown)))
        for group in self.groups:
            for condition in conditions:
                found = self.of(group, condition.name)
                if found:
                    lines.append(markdown_row(group, condition.name, str(len(found)), *cells(group, condition.name)))
        return "\n".join(lines)

    def _results(self, group: str, condition: str) -> list[str]:
        counts = sorted({one.without_any for one in self.of(group, condition)})
        without = " to ".join(dict.fromkeys(str(count) for count in (counts[0], counts[-1])))
        shown = []
        for name in self._shown:
            scale, digits = (1, 3) if name in HIGHER_PRECISION else (100, 1)
            shown.append(_cell([value * scale for value in self.values(group, condition, name)], digits))
        return [without, *shown]

    def _drops(self, group: str, condition: str) -> list[str]:
        return [_cell(self.drops(group, condition, name), 1) for name in self._shown]

    def _of_the_paper(self) -> list[str]:
        """Tables 4 and 5 of UCRN, where their conditions were measured."""
        scores = [name for name in PAPER_SCORES if name in self.target.metric_names]
        tables = {
            "table 4: relative drop, one modality removed": {name: only(kept) for name, kept in PAIRS.items()},
            f"table 5: relative drop, noise on all modalities, p = {PAPER_NOISE:g}": {"": noise(PAPER_NOISE)},
        }
        parts = []
        for title, wanted in tables.items():
            heading = " / ".join(wanted)
            groups = [group for group in self.groups if all(self.of(group, name) for name in wanted.values())]
            if not groups or not scores:
                continue
            lines = [markdown_row("", *(f"{name} ({heading})" if heading else name for name in scores))]
            lines.append("|---|" + "---|" * len(scores))
            for group in groups:
                cells = [
                    " / ".join(
                        _cell(self.drops(group, condition, name), 2, deviation=False) for condition in wanted.values()
                    )
                    for name in scores
                ]
                lines.append(markdown_row(group, *cells))
            more = " L, A and V, language, audio and vision, are what is left." if heading else ""
            parts += [f"## UCRN's {title}", f"Percent, means over the runs.{more}", "\n".join(lines)]
        return parts

    def write(self, folder: str | Path, heading: str) -> list[Path]:
        """
        Writes robustness.md, robustness.csv (a row per run, condition and metric) and robustness.png.

        Returns:
            Their paths.
        """
        paths = [Path(folder) / f"robustness.{kind}" for kind in ("md", "csv", "png")]
        with whole_file(paths[0]) as temporary:
            temporary.write_text(self.markdown(heading), encoding="utf-8")
        with whole_file(paths[1]) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(FIELDS)
            for one in self.measured:
                condition = one.condition
                probability = f"{condition.probability:g}" if condition.noisy else ""
                what = [one.run.group, one.run.path.name, condition.name, "+".join(condition.kept)]
                what += ["+".join(condition.noisy), probability]
                for name, value in one.scores.items():
                    numbers = ["" if math.isnan(number) else number for number in (value, self.drop(one, name))]
                    writer.writerow([*what, name, *numbers, one.without_any])
        self.plot(paths[2], heading)
        return paths

    def plot(self, path: str | Path, heading: str) -> None:
        """
        The main metric: its drop per condition and group as bars and, of several probabilities of noise, its value
        against them as lines, for noise on all modalities and on each; each with a standard deviation where there are
        several runs.
        """
        plt = pyplot()
        metric = main_metric(self.target)
        noisy = [condition for condition in self.conditions if condition.noisy]
        places = list(dict.fromkeys(condition.name.rpartition(" on ")[2] for condition in noisy))
        several = len({condition.probability for condition in noisy}) > 1
        degraded = [c for c in self.conditions if c.kind == REMOVED or (c.noisy and not several)]
        height = max(1.8 + max(len(degraded), 6) * (0.12 + 0.14 * len(self.groups)), 5.0)
        rows = [["bars", *places[row : row + 2]] for row in range(0, len(places), 2)] if several else [["bars"]]
        width = max(len(row) for row in rows)
        rows = [row + ["."] * (width - len(row)) for row in rows]
        figure, axes = plt.subplot_mosaic(
            rows, figsize=(6.5 + 3.6 * (width - 1), height), width_ratios=[1.6] + [1] * (width - 1)
        )
        thickness = 0.8 / max(len(self.groups), 1)
        for number, group in enumerate(self.groups):
            look = {"color": f"C{number}", "label": group}
            drops = {row: self.drops(group, condition.name, metric) for row, condition in enumerate(degraded)}
            drops = {row: values for row, values in drops.items() if values}
            positions = [row - 0.4 + thickness * (number + 0.5) for row in drops]
            means, deviations = [_mean(values) for values in drops.values()], [_error(v) for v in drops.values()]
            axes["bars"].barh(positions, means, thickness, xerr=deviations, error_kw={"linewidth": 1}, **look)
            for place in places if several else ():
                names = {0.0: FULL} | {c.probability: c.name for c in noisy if c.name.endswith(f" on {place}")}
                points = {probability: self.values(group, name, metric) for probability, name in names.items()}
                points = {probability: values for probability, values in points.items() if values}
                means, deviations = [_mean(values) for values in points.values()], [_error(v) for v in points.values()]
                axes[place].errorbar(list(points), means, yerr=deviations, marker="o", capsize=3, **look)
        bars = axes["bars"]
        bars.set_axisbelow(True)
        bars.axvline(0, color="0.3", linewidth=0.8)
        bars.set_yticks(range(len(degraded)), [condition.name for condition in degraded])
        bars.set_ylim(max(len(degraded), 1) - 0.5, -0.5)
        bars.set_xlabel(f"relative drop of {metric}, percent; right is worse")
        bars.grid(axis="x", alpha=0.3)
        bars.legend(fontsize=8)
        for place in places if several else ():
            axes[place].set_title(f"noise on {place}", fontsize=9)
            axes[place].set_xlabel("probability of noise")
            axes[place].set_ylabel(metric)
            axes[place].grid(alpha=0.3)
        figure.suptitle(heading, fontsize=10)
        save(figure, path)


def main_metric(target: Target) -> str:
    """The one that is plotted: a sentiment's two classes, and otherwise what the best epoch is chosen by."""
    if target.name == "sentiment":
        return "acc2" if "acc2" in target.metric_names else "acc2_non0"
    return target.selection


def relative_drop(metric: str, full: float, degraded: float) -> float:
    """
    In percent, (full - degraded) / full, or the other way round for an error, so that positive is worse; NaN where
    either is, and where `full` is not above 0, of which nothing can be a share.
    """
    if not full > 0:
        return math.nan
    return 100 * (full - degraded if greater_is_better(metric) else degraded - full) / full


def _defined(values) -> list[float]:
    return [value for value in values if not math.isnan(value)]


def _mean(values: Sequence[float]) -> float:
    return statistics.fmean(values)


def _error(values: Sequence[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else math.nan


def _cell(values: Sequence[float], digits: int, deviation: bool = True) -> str:
    if not values:
        return "-"
    shown = f"{_mean(values):.{digits}f}"
    return f"{shown} ± {statistics.stdev(values):.{digits}f}" if deviation and len(values) > 1 else shown
