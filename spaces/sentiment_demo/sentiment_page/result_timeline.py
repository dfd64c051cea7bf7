"""The sentiment over time, under the video: a plot, a bar of the instants with a face, and the same as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sentiment_page.html_basics import NAMES, details, direction, escaped, jump, number, percent, seconds, signed, table

_HEIGHT = 100.0
_CLICK = "A click on the plot moves the video; so do the buttons of the table."
_SHOWN_FACES = 400  # more marks than pixels would show nothing more


def timeline(analysis: Mapping[str, Any], can_jump: bool) -> str:
    """
    Args:
        analysis: As the pipeline gives it; without a timeline the answer is empty.
        can_jump: Whether there is a video, which a click moves to an instant.
    """
    windows = [window for window in analysis.get("timeline") or [] if window.get("end") is not None]
    if not windows or not analysis.get("seconds"):
        return ""
    length = float(analysis["seconds"])
    name, low, high = _scale(analysis, windows)
    lines = {"all": [_value(window, analysis) for window in windows]}
    if "range" in analysis:
        lines |= {modality: [number(window.get(modality)) for window in windows] for modality in NAMES}
    lines = {line: values for line, values in lines.items() if any(value is not None for value in values)}
    rows = _as_table(windows, lines, "range" in analysis, can_jump)
    plot = "" if "all" not in lines else _plot(windows, lines, length, name, low, high, can_jump)
    return (
        f'<section class="sd sd-timeline" aria-label="Over time"><h2>{escaped(name)} over time</h2>{plot}'
        f"{_faces(analysis, length)}{details('The timeline as a table', rows)}</section>"
    )


def _scale(analysis: Mapping[str, Any], windows: Sequence[Mapping[str, Any]]) -> tuple[str, float, float]:
    if "range" in analysis:
        low, high = analysis["range"]
        return "Sentiment", float(low), float(high)
    if analysis.get("scores") and ("label" in analysis or "labels" in analysis):
        return f"Probability of \u201c{_most_probable(analysis)}\u201d", 0.0, 1.0
    values = [value for window in windows if (value := _value(window, analysis)) is not None] or [0.0]
    return "Score", min(0.0, *values), max(0.0, *values) or 1.0


def _most_probable(analysis: Mapping[str, Any]) -> str:
    return max(analysis["scores"], key=analysis["scores"].__getitem__)


def _value(window: Mapping[str, Any], analysis: Mapping[str, Any]) -> float | None:
    """The number of a window that is drawn: of classes, the probability of what is most probable of the whole."""
    if "range" in analysis or not analysis.get("scores"):
        return number(window.get("score"))
    if "label" not in analysis and "labels" not in analysis:
        return None
    return number((window.get("scores") or {}).get(_most_probable(analysis)))


def _plot(
    windows: Sequence[Mapping[str, Any]],
    lines: Mapping[str, Sequence[float | None]],
    length: float,
    name: str,
    low: float,
    high: float,
    can_jump: bool,
) -> str:
    span = (high - low) or 1.0

    def height(value: float) -> float:
        return _HEIGHT * (1 - (min(max(value, low), high) - low) / span)

    middles = [1000 * (window["start"] + window["end"]) / 2 / length for window in windows]
    known = [(value, window) for value, window in zip(lines["all"], windows, strict=True) if value is not None]
    lowest, highest = min(known, key=lambda pair: pair[0]), max(known, key=lambda pair: pair[0])
    label = (
        f"{name} in {len(windows)} windows of up to {seconds(max(w['end'] - w['start'] for w in windows))}: lowest "
        f"{signed(lowest[0])} from {seconds(lowest[1]['start'])} on, highest {signed(highest[0])} from "
        f"{seconds(highest[1]['start'])} on. The table below has all of them."
    )
    drawn = [f'<line class="sd-zero" x1="0" x2="1000" y1="{height(0):.2f}" y2="{height(0):.2f}"/>'] if low < 0 else []
    for line, values in reversed(list(lines.items())):
        drawn += [f'<path class="sd-line sd-line-{line}" d="{path}"/>' for path in _paths(middles, values, height)]
    # Each instant belongs to the window whose middle is nearest; a click goes to where that window begins.
    edges = [0.0, *((a + b) / 2 for a, b in zip(middles, middles[1:], strict=False)), 1000.0]
    parts = []
    for index, window in enumerate(windows):
        title = f"{seconds(window['start'])} to {seconds(window['end'])}"
        value = lines["all"][index]
        title += "" if value is None else f": {signed(value)}"
        time = f' data-time="{window["start"]:.3f}"' if can_jump else ""
        parts.append(
            f'<rect class="sd-part" x="{edges[index]:.1f}" width="{edges[index + 1] - edges[index]:.1f}" y="0" '
            f'height="{_HEIGHT:g}"{time}><title>{escaped(title)}</title></rect>'
        )
    names = {"all": "All together", **NAMES}
    legend = "".join(
        f'<li><svg viewBox="0 0 28 8" aria-hidden="true"><path class="sd-line sd-line-{line}" d="M1 4H27"/></svg>'
        f"{names[line]}</li>"
        for line in lines
    )
    middle = f"<span>{signed((low + high) / 2, 0 if span > 2 else 1)}</span>"
    digits = 0 if span > 2 else 1
    playhead = '<b class="sd-playhead" hidden></b>' if can_jump else ""
    return (
        f'<div class="sd-plot" data-seconds="{length:.3f}"><div class="sd-axis" aria-hidden="true">'
        f"<span>{signed(high, digits)}</span>{middle}<span>{signed(low, digits)}</span></div>"
        f'<div class="sd-canvas"><svg viewBox="0 0 1000 {_HEIGHT:g}" preserveAspectRatio="none" role="img" '
        f'aria-label="{escaped(label)}">{"".join(drawn)}{"".join(parts)}</svg>{playhead}</div></div>'
        f'<div class="sd-ticks" aria-hidden="true"><span>0 s</span><span>{seconds(length / 2)}</span>'
        f'<span>{seconds(length)}</span></div><ul class="sd-legend">{legend}</ul>'
        + (f'<p class="sd-small">{_CLICK}</p>' if can_jump else "")
    )


def _paths(xs: Sequence[float], values: Sequence[float | None], height) -> list[str]:
    """One path for each run of windows that have a value; a run of one is a dot."""
    paths: list[str] = []
    run: list[str] = []
    for x, value in [*zip(xs, values, strict=True), (0.0, None)]:
        if value is not None:
            run.append(f"{x:.1f} {height(value):.2f}")
        elif run:
            paths.append("M" + "L".join(run) + ("h.01" if len(run) == 1 else ""))
            run = []
    return paths


def _faces(analysis: Mapping[str, Any], length: float) -> str:
    faces = analysis.get("faces") or []
    if not faces:
        return ""
    times = [float(face["time"]) for face in faces]
    shown = times[:: max(len(times) // _SHOWN_FACES, 1)]
    marks = "".join(f'<path d="M{1000 * time / length:.1f} 0v10"/>' for time in shown)
    label = f"A face was found {len(times)} times, from {seconds(min(times))} to {seconds(max(times))}."
    return (
        f'<div class="sd-faces"><span>Face</span><svg viewBox="0 0 1000 10" preserveAspectRatio="none" role="img" '
        f'aria-label="{label}">{marks}</svg></div>'
    )


def _as_table(
    windows: Sequence[Mapping[str, Any]],
    lines: Mapping[str, Sequence[float | None]],
    is_sentiment: bool,
    can_jump: bool,
) -> str:
    if is_sentiment:
        head = ["From", "To", *("All together" if line == "all" else NAMES[line] for line in lines)]
        rows = [
            [
                jump(window["start"], can_jump),
                seconds(window["end"]),
                *(_cell(values[index]) for values in lines.values()),
            ]
            for index, window in enumerate(windows)
        ]
        return table("The timeline", head, rows, hidden_caption=True)
    names = list(dict.fromkeys(name for window in windows for name in window.get("scores") or {}))
    rows = [
        [
            jump(window["start"], can_jump),
            seconds(window["end"]),
            *(_share(window, name) for name in names),
            *([] if names else [_cell(number(window.get("score")))]),
        ]
        for window in windows
    ]
    return table(
        "The timeline", ["From", "To", *(map(escaped, names) if names else ["Score"])], rows, hidden_caption=True
    )


def _share(window: Mapping[str, Any], name: str) -> str:
    value = number((window.get("scores") or {}).get(name))
    if value is None:
        return "\u2013"
    return percent(value) if "label" in window or "labels" in window else signed(value)


def _cell(value: float | None) -> str:
    return "\u2013" if value is None else f'<span class="sd-{direction(value)}-ink">{signed(value)}</span>'
