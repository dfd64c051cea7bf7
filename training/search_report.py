"""What a search leaves: the best recipe, a table of the trials, and a plot of them."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

from datasets_scripts.files import whole_file
from training.plots import pyplot, save
from training.search import Search
from training.search_space import Dimension, Range

BEST_FILE = "best_recipe.yaml"
TABLE_FILE = "trials.csv"
PLOT_FILE = "trials.png"
STATES = {"COMPLETE": "finished", "PRUNED": "pruned", "FAIL": "failed"}
COLUMNS = 3  # of the plot


def state_of(trial) -> str:
    """finished, pruned or failed."""
    return STATES[trial.state.name]


def trial_line(search: Search, trial) -> str:
    """A trial in one line: number, values, what became of it."""
    values = ", ".join(f"{field} {_shown(value)}" for field, value in search.values(trial).items())
    own = " (the recipe's own)" if trial.number == 0 else ""
    if state_of(trial) == "failed":
        result = f"failed: {' '.join(trial.user_attrs['message'].split())}"
    else:
        result = f"{search.metric} {trial.value:.4f}, {state_of(trial)} after {trial.user_attrs['epochs']:g} epochs"
    return f"trial {trial.number}{own}: {values or 'no known values'}: {result}"


def write_best(search: Search) -> Path:
    """
    Writes the best trial's recipe, which `train.py` runs, with a comment that says where it comes from.

    Raises:
        ValueError: if no trial ran to its end.
    """
    best, trials = search.best(), search.trials
    counts = {state: sum(state_of(trial) == state for trial in trials) for state in STATES.values()}
    comment = [
        f"The best of {len(trials)} trials: {', '.join(f'{count} {state}' for state, count in counts.items())}.",
        f"Searched: {', '.join(search.space.fields)}.",
        f"{search.metric} on the validation split, best epoch: {best.value:.6g} (trial {best.number}); with the "
        f"recipe's own values {trials[0].value:.6g}.",
        "The test split was not looked at.",
    ]
    recipe = search.recipe_of(best)
    recipe.search = {}
    path = search.folder / BEST_FILE
    with whole_file(path) as temporary:
        text = "".join(f"# {line}\n" for line in comment) + recipe.to_yaml()
        temporary.write_text(text, encoding="utf-8")
    return path


def write_table(search: Search) -> Path:
    """
    Writes a row per trial: number, state, value (that of a pruned trial is the best until then), epochs, seconds, the
    value of every searched field (lists and mappings as JSON), and what a failed one said.
    """
    path = search.folder / TABLE_FILE
    with whole_file(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["number", "state", "value", "epochs", "seconds", *search.space.fields, "message"])
        for trial in search.trials:
            values = search.values(trial)
            attributes = trial.user_attrs
            writer.writerow(
                [trial.number, state_of(trial), "" if trial.value is None else trial.value]
                + [f"{attributes['epochs']:g}", f"{attributes['seconds']:.2f}"]
                + [_cell(values[field]) if field in values else "" for field in search.space.fields]
                + [attributes.get("message", "")]
            )
    return path


def draw(search: Search) -> Path:
    """Draws the value by trial, with the best until then, and against each searched field."""
    plt = pyplot()
    panels = 1 + len(search.space.dimensions)
    rows, columns = math.ceil(panels / COLUMNS), min(panels, COLUMNS)
    figure, axes = plt.subplots(rows, columns, figsize=(4.2 * columns, 3.2 * rows), squeeze=False, sharey=True)
    first, *others = axes.flat[:panels]
    _draw_trials(first, search)
    for axis, dimension in zip(others, search.space.dimensions, strict=True):
        _draw_field(axis, search, dimension)
    for axis in axes.flat[panels:]:
        axis.set_visible(False)
    for row in axes:
        row[0].set_ylabel(f"{search.metric}, validation")
    better = "higher" if search.direction == "maximize" else "lower"
    handles, labels = first.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=len(labels), fontsize=8, frameon=False)
    figure.suptitle(f"{len(search.trials)} trials ({better} is better)", fontsize=10, x=0.02, ha="left")
    path = search.folder / PLOT_FILE
    save(figure, path)
    return path


# Of trials that ran to their end, were pruned, and failed.
MARKS: dict[str, dict[str, Any]] = {
    "finished": {"marker": "o", "color": "C0", "s": 22, "zorder": 3},
    "pruned": {"marker": "x", "color": "0.55", "s": 22, "linewidths": 1, "zorder": 2},
    "failed": {"marker": "|", "color": "C3", "s": 60, "linewidths": 1.5, "zorder": 2, "clip_on": False},
}


def _draw_trials(axis, search: Search) -> None:
    _scatter(axis, search, {trial.number: trial.number for trial in search.trials})
    finished = [trial for trial in search.trials if state_of(trial) == "finished"]
    choose = max if search.direction == "maximize" else min
    best = [choose(trial.value for trial in finished[: i + 1]) for i in range(len(finished))]
    axis.step(
        [*(trial.number for trial in finished), len(search.trials) - 1],
        [*best, *best[-1:]],
        where="post",
        color="C1",
        label="best so far",
        zorder=1,
    )
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.set_xlabel("trial")


def _draw_field(axis, search: Search, dimension: Dimension) -> None:
    values = {trial.number: search.values(trial) for trial in search.trials}
    known = {number: found[dimension.field] for number, found in values.items() if dimension.field in found}
    if isinstance(dimension, Range):
        _draw_range(axis, search, dimension, known)
    else:
        labels = list(dict.fromkeys([*map(_shown, dimension.choices), *map(_shown, known.values())]))
        _scatter(axis, search, {number: labels.index(_shown(value)) for number, value in known.items()})
        axis.set_xticks(range(len(labels)), labels)
        axis.set_xlim(-0.5, len(labels) - 0.5)
    axis.set_xlabel(dimension.field, fontsize=9)


def _draw_range(axis, search: Search, dimension: Range, known: dict[int, Any]) -> None:
    """Over the whole range. The recipe's own value may be one that has no place on the axis, as 0 has no logarithm."""
    numbers = {
        number: value
        for number, value in known.items()
        if isinstance(value, (int, float)) and (value > 0 or not dimension.log)
    }
    _scatter(axis, search, numbers)
    low, high = min([dimension.low, *numbers.values()]), max([dimension.high, *numbers.values()])
    if dimension.log:
        axis.set_xscale("log")
        margin = (high / low) ** 0.05
        axis.set_xlim(low / margin, high * margin)
        if high >= 10 * low:  # the decades say enough
            axis.xaxis.set_minor_formatter(pyplot().NullFormatter())
    else:
        margin = 0.05 * (high - low)
        axis.set_xlim(low - margin, high + margin)
        axis.xaxis.get_major_locator().set_params(integer=isinstance(dimension.low, int))


def _scatter(axis, search: Search, positions: dict[int, float]) -> None:
    """Marks by state; failed trials, which have no value, stand on the lower edge, the recipe's own has a ring."""
    for state, style in MARKS.items():
        trials = [t for t in search.trials if state_of(t) == state and t.number in positions]
        if not trials:
            continue
        on_edge = {"transform": axis.get_xaxis_transform()} if state == "failed" else {}
        heights = [0.0 if state == "failed" else trial.value for trial in trials]
        axis.scatter([positions[t.number] for t in trials], heights, label=state, **style, **on_edge)
    own = search.trials[0]
    if own.number in positions and own.value is not None:
        ring = {"facecolors": "none", "edgecolors": "C1", "s": 90, "zorder": 4}
        axis.scatter([positions[own.number]], [own.value], label="the recipe's own", **ring)
    axis.grid(alpha=0.3)


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _cell(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, (list, dict)) else value
