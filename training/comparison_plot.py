"""The plot of a comparison."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spaces.multimodal_sentiment.multimodal_sentiment import LOWER_IS_BETTER
from training.plots import pyplot, save

if TYPE_CHECKING:
    from training.comparison import Comparison

# Beside the metric that the comparison is sorted by.
PLOTTED = ("mae", "corr", "acc2_non0", "acc7", "acc2", "acc6", "acc_avg", "wa_avg", "f1_avg")
FEWEST_FOR_FENCES = 5


def plot(comparison: Comparison, path: str | Path, heading: str) -> None:
    """
    Per metric, the mean of each variant with one standard deviation to both sides, every run as a dot, figures measured
    elsewhere as hollow squares, and a line through the mean of the reference. What is so far off that the rest would
    shrink to a point is written at the edge instead.
    """
    plt = pyplot()
    metrics = [name for name in dict.fromkeys([comparison.metric, *PLOTTED]) if name in comparison.quoted]
    variants = comparison.ranked()
    panels = max(len(metrics), 1)
    figure, _ = plt.subplots(1, panels, figsize=(3.2 * panels + 4, 1.6 + 0.3 * len(variants)))
    for axis, metric in zip(figure.axes, metrics, strict=False):
        _panel(axis, comparison, metric, variants)
    handles: dict[str, Any] = {}
    for axis in figure.axes:
        axis.set_yticks(range(len(variants)), [comparison.shown(name) for name in variants], fontsize=9)
        axis.tick_params(axis="y", length=0, labelleft=axis is figure.axes[0])
        axis.set_ylim(len(variants) - 0.5, -0.5)
        handles |= {label: handle for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    if handles:
        beside = {"loc": "upper left", "bbox_to_anchor": (1.02, 1), "borderaxespad": 0, "frameon": False}
        figure.axes[-1].legend(handles.values(), handles.keys(), fontsize=8, **beside)
    figure.suptitle(heading, fontsize=10)
    save(figure, path)


def _panel(axis, comparison: Comparison, metric: str, variants: Sequence[str]) -> None:
    column = f"test_{metric}"
    elsewhere = {
        variant: [found.values[metric] for found in comparison.elsewhere[variant] if metric in found.values]
        for variant in variants
    }
    low, high = _fences([comparison.mean(variant, column) for variant in variants])
    for row, variant in enumerate(variants):
        if row % 2:
            axis.axhspan(row - 0.5, row + 0.5, color="0.96", zorder=0)
        mean, deviation = comparison.mean(variant, column), comparison.deviation(variant, column)
        if low <= mean <= high:
            values = comparison.values(variant, column)
            error = None if math.isnan(deviation) else deviation
            axis.plot(values, [row] * len(values), "o", color="0.6", markersize=4, zorder=2, label="one run")
            style = {"fmt": "D", "color": "C0", "markersize": 5, "capsize": 3, "zorder": 3}
            axis.errorbar(mean, row, xerr=error, **style, label="mean ± standard deviation")
        elif not math.isnan(mean):
            _at_the_edge(axis, mean, row - 0.2, mean > high, "C0")
        for value in elsewhere[variant]:
            if low <= value <= high:
                hollow = {"color": "C3", "markerfacecolor": "none", "markersize": 7, "zorder": 4}
                axis.plot(value, row, "s", **hollow, label="measured elsewhere")
            else:
                _at_the_edge(axis, value, row + 0.2, value > high, "C3")
    if comparison.reference is not None and low <= comparison.mean(comparison.reference, column) <= high:
        label = f"mean of {comparison.shown(comparison.reference)}"
        mean = comparison.mean(comparison.reference, column)
        axis.axvline(mean, color="C0", linewidth=0.8, linestyle=":", zorder=1, label=label)
    better = "lower" if metric in LOWER_IS_BETTER else "higher"
    axis.set_title(f"{metric} ({better} is better)", fontsize=9)
    axis.grid(axis="x", alpha=0.3)


def _fences(means: Sequence[float]) -> tuple[float, float]:
    """Three interquartile ranges beyond the quartiles (Tukey, 1977, outer fences); none for few or equal means."""
    defined = [mean for mean in means if not math.isnan(mean)]
    first, third = np.quantile(defined, (0.25, 0.75)) if len(defined) >= FEWEST_FOR_FENCES else (0.0, 0.0)
    reach = 3 * (third - first)
    return (first - reach, third + reach) if reach > 0 else (-math.inf, math.inf)


def _at_the_edge(axis, value: float, row: float, right: bool, color: str) -> None:
    text, x, side = (f"{value:.3f} \u2192", 0.98, "right") if right else (f"\u2190 {value:.3f}", 0.02, "left")
    style = {"fontsize": 7, "color": color, "ha": side, "va": "center"}
    axis.text(x, row, text, transform=axis.get_yaxis_transform(), **style)
