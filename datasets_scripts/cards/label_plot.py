"""The picture of a dataset card: how the labels, and the emotions where there are any, are distributed per split."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from datasets_scripts.report import ConversionReport
from datasets_scripts.schema import EMOTIONS

# Widths of a histogram's bins in hundredths of a label: 1, 2 and 5 times a power of ten.
_BIN_WIDTHS = tuple(digit * 10**power for power in range(41) for digit in (1, 2, 5))
_MAX_BINS = 31
_SIGNS = (("negative", -1, "#c0504d"), ("zero", 0, "#8c8c8c"), ("positive", 1, "#3f7fbf"))
_SPLIT_COLOURS = {"train": "#3f5f8a", "valid": "#d08a3c", "test": "#5f9e6e"}


def label_picture(report: ConversionReport, path: Path) -> bool:
    """Draw a histogram of the labels per split and, below, the share of samples with each emotion, as a PNG.

    Returns:
        Whether there is a picture now; there is none without matplotlib (the extra `plots`), labels and emotions.
    """
    labels = {split: finite_labels(report, split) for split in report.rows}
    labels = {split: counts for split, counts in labels.items() if counts}
    emotions = {split: counts for split, counts in report.emotions.items() if report.rows.get(split)}
    if not labels and not emotions:
        return False
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return False
    figure = Figure(figsize=(9.6, 2.9 * (bool(labels) + bool(emotions))), layout="constrained")
    parts = list(figure.subfigures(2 if labels and emotions else 1, 1, squeeze=False)[:, 0])
    if labels:
        _draw_labels(parts.pop(0), labels)
    if emotions:
        _draw_emotions(parts.pop(0), report.rows, emotions)
    figure.savefig(path, format="png", dpi=130, metadata={"Software": None})
    return True


def finite_labels(report: ConversionReport, split: str) -> dict[int, int]:
    """How many samples of a split have which label, in hundredths; labels that are no number are left out."""
    found: dict[int, int] = {}
    for text, count in report.labels.get(split, {}).items():
        whole, _, decimals = text.removeprefix("-").partition(".")
        if whole.isdigit() and decimals.isdigit():
            hundredths = int(whole + decimals) * (-1 if text.startswith("-") else 1)
            found[hundredths] = found.get(hundredths, 0) + count
    return dict(sorted(found.items()))


def bin_width(values: set[int]) -> int:
    """Width of the bins, in the unit of the values: at most 31 of them, and none narrower than the labels' own grid."""
    ordered = sorted(values)
    wide_enough = next((width for width in _BIN_WIDTHS if ordered[-1] - ordered[0] <= width * (_MAX_BINS - 1)), 10**42)
    grid = min((high - low for low, high in zip(ordered, ordered[1:], strict=False)), default=100)
    return max(wide_enough, grid)


def binned(counts: dict[int, int], width: int) -> dict[int, int]:
    """Counts by bin: bin k holds what is nearest to k times the width, so that 0 is in the middle of one."""
    bins: dict[int, int] = {}
    for value, count in counts.items():
        index = (2 * value + width) // (2 * width)
        bins[index] = bins.get(index, 0) + count
    return bins


def _draw_labels(part: Any, labels: dict[str, dict[int, int]]) -> None:
    from matplotlib.patches import Patch

    width = bin_width({value for counts in labels.values() for value in counts})
    panels = part.subplots(1, len(labels), sharex=True, sharey=True, squeeze=False)[0]
    for axes, (split, counts) in zip(panels, labels.items(), strict=True):
        total = sum(counts.values())
        key: list[Patch] = []
        base: dict[int, float] = {}  # a bin around 0 can hold labels of all three signs, which are stacked
        for name, sign, colour in _SIGNS:
            own = {value: count for value, count in counts.items() if (value > 0) - (value < 0) == sign}
            bins = {index: count / total for index, count in binned(own, width).items()}
            axes.bar(
                [index * width / 100 for index in bins],
                list(bins.values()),
                0.9 * width / 100,
                bottom=[base.get(index, 0.0) for index in bins],
                color=colour,
            )
            key.append(Patch(color=colour, label=f"{name} ({sum(own.values()):,})"))
            base = {**base, **{index: base.get(index, 0.0) + share for index, share in bins.items()}}
        axes.set_title(f"{split}, {total:,} samples", fontsize=10)
        axes.set_xlabel("sentiment")
        axes.legend(handles=key, fontsize=8, frameon=False, handlelength=1)
    # Room for the legends above the bars.
    panels[0].set_ylim(top=1.3 * max(1e-9, *(bar.get_y() + bar.get_height() for a in panels for bar in a.patches)))
    panels[0].set_ylabel("share of samples")
    _plain(panels)


def _draw_emotions(part: Any, rows: dict[str, int], emotions: dict[str, dict[str, int]]) -> None:
    axes = part.subplots()
    width = 0.8 / len(emotions)
    for index, (split, counts) in enumerate(emotions.items()):
        axes.bar(
            [place + (index - (len(emotions) - 1) / 2) * width for place in range(len(EMOTIONS))],
            [counts.get(name, 0) / rows[split] for name in EMOTIONS],
            0.9 * width,
            color=_SPLIT_COLOURS.get(split),
            label=f"{split} ({counts.get('any', 0):,} of {rows[split]:,} with any)",
        )
    axes.set_xticks(range(len(EMOTIONS)), EMOTIONS)
    axes.set_xlabel("emotion present")
    axes.set_ylabel("share of samples")
    axes.legend(fontsize=8, frameon=False, handlelength=1)
    _plain([axes])


def _plain(panels: Iterable[Any]) -> None:
    from matplotlib.ticker import PercentFormatter

    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=None))
