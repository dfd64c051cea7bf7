"""How tables show results: shares in percent, correlations and errors with three decimals."""

from __future__ import annotations

import math

COSTS = ("parameters", "seconds_per_epoch", "peak_memory_mb", "epochs", "best_epoch", "train_seconds")
HIGHER_PRECISION = ("mae", "corr", "shift")  # three decimals; shares are shown as percentages
# Of a table with little room.
QUOTED = ("mae", "corr", "acc2_has0", "acc2_non0", "acc7", "acc2", "acc3", "f1", "acc6", "acc_avg", "wa_avg", "f1_avg")


def markdown_row(*cells: str) -> str:
    """A row of a Markdown table."""
    return "|" + "|".join(f" {cell} ".replace("|", "\\|") if cell else " " for cell in cells) + "|"


def shown_number(name: str, mean: float, deviation: float = math.nan) -> str:
    """A result, a cost or a mean of them as tables show it, with a deviation where there is one; "-" for NaN."""
    if math.isnan(mean):
        return "-"
    if name in COSTS:
        shown = f"{mean:,.0f}" if name in ("parameters", "peak_memory_mb") else f"{mean:.1f}"
        return shown if math.isnan(deviation) or name == "parameters" else f"{shown} ± {deviation:.1f}"
    scale, digits = scale_of(name)
    shown = f"{mean * scale:.{digits}f}"
    return shown if math.isnan(deviation) else f"{shown} ± {deviation * scale:.{digits}f}"


def scale_of(name: str) -> tuple[int, int]:
    """By what a metric is multiplied to be shown, and its decimals."""
    return (1, 3) if name.rpartition("_")[2] in HIGHER_PRECISION else (100, 1)
