"""The feedback masks of MMLatch: how much of each step of a modality is let through."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sentiment_page.html_basics import NAMES, details, escaped, seconds, table

_HEIGHT, _LOWEST = 40.0, 4.0
_SHOWN = 200  # steps of a modality that are drawn one by one; more are averaged


def masks(analysis: Mapping[str, Any]) -> str:
    """
    Args:
        analysis: As the pipeline gives it; of a checkpoint without masks the answer is empty.
    """
    found = {name: mask for name, mask in (analysis.get("masks") or {}).items() if mask and mask.get("values")}
    if not found:
        return ""
    parts = "".join(_mask(name, mask) for name, mask in found.items())
    return (
        '<section class="sd" aria-label="Feature masks"><h2>Feature masks</h2><p class="sd-small">This checkpoint '
        "looks twice: the other modalities decide how much of each step it sees the second time, from 0 (nothing) to 1 "
        "(all of it; the mean over the features of the step). The differences are small, so the bars are stretched "
        f"from the lowest to the highest value of their modality.</p>{parts}</section>"
    )


def _mask(name: str, mask: Mapping[str, Any]) -> str:
    values = [min(max(float(value), 0.0), 1.0) for value in mask["values"]]
    drawn = _averaged(values)
    heights = [_LOWEST + (_HEIGHT - _LOWEST) * share for share in _stretched(drawn)]
    bars = "".join(
        f'<rect x="{1000 * index / len(drawn):.2f}" width="{1000 / len(drawn):.2f}" y="{_HEIGHT - height:.2f}" '
        f'height="{height:.2f}"/>'
        for index, height in enumerate(heights)
    )
    title = escaped(NAMES.get(name, name))
    mean = sum(values) / len(values)
    label = f"{title}: {len(values)} steps, mean {mean:.3f}, from {min(values):.3f} to {max(values):.3f}"
    return (
        f'<div class="sd-mask"><p>{label}</p><svg viewBox="0 0 1000 {_HEIGHT:g}" preserveAspectRatio="none" '
        f'shape-rendering="crispEdges" role="img" aria-label="{label}">{bars}</svg>'
        f"{details(f'{title} masks as a table', _as_table(mask, values))}</div>"
    )


def _stretched(values: Sequence[float]) -> list[float]:
    """From 0 for the lowest to 1 for the highest; halves where all are the same."""
    low, span = min(values), max(values) - min(values)
    return [(value - low) / span if span else 0.5 for value in values]


def _averaged(values: Sequence[float]) -> list[float]:
    size = -(-len(values) // _SHOWN)
    return [sum(part) / len(part) for part in (values[i : i + size] for i in range(0, len(values), size))]


def _as_table(mask: Mapping[str, Any], values: Sequence[float]) -> str:
    if mask.get("tokens"):
        head, names = "Token", [escaped(token) for token in mask["tokens"]]
    elif mask.get("times"):
        head, names = "Middle of the step", [seconds(time) for time in mask["times"]]
    else:
        head, names = "Step", [str(index) for index in range(1, len(values) + 1)]
    rows = [[name, f"{value:.3f}"] for name, value in zip(names, values, strict=False)]
    return table("Masks", [head, "Mask"], rows, hidden_caption=True)
