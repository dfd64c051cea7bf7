"""What a checkpoint says of the whole: a gauge or bars, what each modality says, and notes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from sentiment_page.html_basics import MINUS, NAMES, direction, escaped, number, percent, signed, table

_WIDTH, _RADIUS, _THICKNESS = 240.0, 100.0, 22.0
_CENTRE = (_WIDTH / 2, 112.0)


def summary(analysis: Mapping[str, Any]) -> str:
    """
    Args:
        analysis: As the pipeline gives it: of a sentiment, of classes, of emotions, or of numbers.
    """
    if "range" in analysis:
        head = _sentiment(analysis)
    elif "scores" in analysis:
        head = _scores(analysis)
    else:
        head = f'<p class="sd-number" id="sd-score">{signed(analysis["score"])}</p>'
    return f'<section class="sd" aria-label="Result">{head}{modalities(analysis)}</section>'


def gauge(score: float, label: str, low: float, high: float) -> str:
    """A half circle from the lowest to the highest label with a needle, which stops at the ends."""
    ends = f"from {_limit(low)} to {_limit(high)}"
    share = min(max((score - low) / (high - low), 0.0), 1.0)
    # Neutral is drawn as a narrow part around zero.
    zero = min(max(-low / (high - low), 0.0), 1.0)
    parts = [("negative", 0.0, zero - 0.03), ("neutral", zero - 0.03, zero + 0.03), ("positive", zero + 0.03, 1.0)]
    arcs = "".join(
        f'<path class="sd-arc sd-{name}" d="{_arc(max(start, 0.0), min(stop, 1.0))}"/>'
        for name, start, stop in parts
        if min(stop, 1.0) > max(start, 0.0)
    )
    x, y = _point(share, _RADIUS - _THICKNESS)
    name = f"Gauge: sentiment {signed(score)}, {label}, on a scale {ends}"
    return (
        f'<svg class="sd-gauge" viewBox="0 0 {_WIDTH:g} 136" role="img" aria-label="{escaped(name)}">{arcs}'
        f'<line class="sd-needle" x1="{_CENTRE[0]:g}" y1="{_CENTRE[1]:g}" x2="{x:.2f}" y2="{y:.2f}"/>'
        f'<circle class="sd-hub" cx="{_CENTRE[0]:g}" cy="{_CENTRE[1]:g}" r="6"/>'
        f'<text x="{_CENTRE[0] - _RADIUS + _THICKNESS / 2:g}" y="131" text-anchor="middle">{_limit(low)}</text>'
        f'<text x="{_CENTRE[0] + _RADIUS - _THICKNESS / 2:g}" y="131" text-anchor="middle">{_limit(high)}</text></svg>'
    )


def modalities(analysis: Mapping[str, Any]) -> str:
    """A row per modality: what it says alone, and how much it adds to the others."""
    present = [name for name in NAMES if analysis.get(name) is not None or name in _contributions(analysis)]
    if not present:
        return ""
    limits = analysis.get("range") or [-1.0, 1.0]
    rows = []
    for name in present:
        alone, added = analysis.get(name), number(_contributions(analysis).get(name))
        rows.append(
            [
                NAMES[name],
                f'<span id="sd-{name}-alone">{_alone(alone, limits)}</span>',
                "\u2013" if added is None else f'<span id="sd-{name}-adds">{_bar(added, limits)}</span>',
            ]
        )
    text = table("What each modality says", ["Modality", "Alone", "Adds to the others"], rows)
    explained = (
        "<b>Alone</b> is the checkpoint\u2019s prediction from this modality; not every checkpoint has one. "
        "<b>Adds to the others</b> is how much higher the score is with it than without it."
    )
    return f'<div class="sd-scroll">{text}</div><p class="sd-small">{explained}</p>'


def notes(sentences: Sequence[str]) -> str:
    """What a person should know of the clip."""
    if not sentences:
        return ""
    items = "".join(f"<li>{escaped(sentence)}</li>" for sentence in sentences)
    return f'<section class="sd sd-notes"><h2>Good to know</h2><ul>{items}</ul></section>'


def message(text: str) -> str:
    """What went wrong, said at once by a screen reader."""
    return f'<div class="sd sd-alert" role="alert"><strong>That did not work.</strong> {escaped(text)}</div>'


def waiting() -> str:
    """What stands where results will be."""
    return '<p class="sd sd-small">Give a clip or some text and press \u201cAnalyse\u201d; the result comes here.</p>'


def _sentiment(analysis: Mapping[str, Any]) -> str:
    score, label = float(analysis["score"]), str(analysis["label"])
    low, high = (float(end) for end in analysis["range"])
    outside = ""
    if not low <= score <= high:
        outside = '<p class="sd-small">The score lies outside the range of the labels; the needle stops at its end.</p>'
    return (
        f'<div class="sd-head">{gauge(score, label, low, high)}<p class="sd-verdict">'
        f'<span class="sd-number" id="sd-score">{signed(score)}</span> '
        f'<span class="sd-label sd-{direction(score)}-ink" id="sd-label">{escaped(label)}</span>'
        f'<span class="sd-small">from {_limit(low)} to {_limit(high)}</span></p></div>{outside}'
    )


def _scores(analysis: Mapping[str, Any]) -> str:
    scores = {str(name): float(value) for name, value in analysis["scores"].items()}
    labels = analysis.get("labels", [analysis["label"]] if "label" in analysis else None)
    if labels is None:
        rows = [[escaped(name), signed(value)] for name, value in scores.items()]
        return table("What was predicted", ["Name", "Value"], rows)
    said = ", ".join(escaped(label) for label in labels) or "none of them"
    rows = [
        [
            escaped(name),
            f'<span class="sd-share"><i style="width:{100 * min(max(value, 0), 1):.1f}%"></i></span>'
            f"<span>{percent(value)}</span>",
        ]
        for name, value in sorted(scores.items(), key=lambda pair: -pair[1])
    ]
    return f'<p class="sd-verdict"><span class="sd-label" id="sd-label">{said}</span></p>' + table(
        "Probabilities", ["Label", "Probability"], rows
    )


def _alone(value: Any, limits: Sequence[float]) -> str:
    if value is None:
        return "\u2013"
    if number(value) is not None:
        return _bar(float(value), limits)
    if value.get("label") is not None:
        return f"{escaped(value['label'])} ({percent(value['score'])})"
    if "labels" in value:
        return escaped(", ".join(value["labels"]) or "none of them")
    return escaped(", ".join(f"{name} {signed(score)}" for name, score in value.get("scores", {}).items()))


def _bar(value: float, limits: Sequence[float]) -> str:
    """A number beside a bar that goes left or right from the middle."""
    width = 50 * min(abs(value) / max(abs(limits[0]), abs(limits[1])), 1.0)
    left = 50 - width if value < 0 else 50
    return (
        f'<span class="sd-value">{signed(value)}</span><span class="sd-bar" aria-hidden="true">'
        f'<i class="sd-{direction(value)}" style="left:{left:.1f}%;width:{width:.1f}%"></i></span>'
    )


def _contributions(analysis: Mapping[str, Any]) -> Mapping[str, Any]:
    return analysis.get("contributions") or {}


def _limit(value: float) -> str:
    return f"{MINUS if value < 0 else '+' if value > 0 else ''}{abs(value):g}"


def _point(share: float, radius: float) -> tuple[float, float]:
    angle = math.pi * (1 - share)
    return _CENTRE[0] + radius * math.cos(angle), _CENTRE[1] - radius * math.sin(angle)


def _arc(start: float, stop: float) -> str:
    inner = _RADIUS - _THICKNESS
    (ax, ay), (bx, by) = _point(start, _RADIUS), _point(stop, _RADIUS)
    (cx, cy), (dx, dy) = _point(stop, inner), _point(start, inner)
    return (
        f"M{ax:.2f} {ay:.2f}A{_RADIUS:g} {_RADIUS:g} 0 0 1 {bx:.2f} {by:.2f}"
        f"L{cx:.2f} {cy:.2f}A{inner:g} {inner:g} 0 0 0 {dx:.2f} {dy:.2f}Z"
    )
