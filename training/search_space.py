"""
The space of a search: which fields of a recipe it changes, and where their values lie.

    search:
      training.learning_rate: {low: 1.0e-4, high: 5.0e-3, log: true}
      training.per_device_train_batch_size: {low: 16, high: 64, step: 16}
      model.fusion_size: {choices: [32, 64, 128]}

`low` and `high` belong to the range. Where both are whole numbers (and `step` is, if there is one), so are the values:
write 0.0 and 1.0 for what lies between. `log` draws the logarithm evenly; `step` keeps to low, low + step, ... high.
`choices` may be anything that the field takes. Fields may be nested instead of dotted.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from training.optimizer import PARAMETER_GROUPS
from training.recipe import ARCHITECTURES, PER_RUN_FIELDS, Recipe, check_keys

KEYS = ("low", "high", "log", "step", "choices")
# What is not searched, with all that it holds, and why.
_REASONS = {
    "it decides what trials are judged on, or by": (
        *("data_file", "data_options", "data_sha256", "synthetic", "metric_convention", "model_type", "model.target"),
        *("training.metric_for_best_model", "training.greater_is_better"),
        *("training.eval_strategy", "training.save_strategy", "training.load_best_model_at_end"),
    ),
    "a seed is no setting, but luck": ("training.seed", "training.data_seed"),
    "it belongs to one run": tuple(f"training.{name}" for name in PER_RUN_FIELDS),
    "a trial is one training of the recipe": ("stages", "search"),
}
NOT_SEARCHED = {name: reason for reason, names in _REASONS.items() for name in names}


@dataclass(frozen=True)
class Range:
    """
    Numbers from `low` to `high`, both of them among them.

    Args:
        field: Of the recipe, dotted.
        low, high: Whole numbers for whole numbers.
        log: Whether the logarithm is drawn evenly.
        step: Distance of neighbours, or None.
    """

    field: str
    low: float
    high: float
    log: bool = False
    step: float | None = None

    def __post_init__(self):
        place = f"`search.{self.field}`"
        for name in ("low", "high", "step"):
            value = getattr(self, name)
            if not _is_number(value) and not (name == "step" and value is None):
                raise ValueError(f"{place} needs a finite number as `{name}`; got {value!r}.")
        if not isinstance(self.log, bool):
            raise ValueError(f"{place} needs true or false as `log`; got {self.log!r}.")
        if not self.low < self.high:
            raise ValueError(f"{place} needs `low` below `high`; got {self.low!r} and {self.high!r}.")
        if self.log and self.low <= 0:
            raise ValueError(
                f"{place} has no logarithm at `low` {self.low!r}; give a positive one, or leave `log` out."
            )
        if self.step is None:
            return
        if self.log:
            raise ValueError(f"{place} has both `log` and `step`, which exclude each other; leave one of them out.")
        steps = (self.high - self.low) / self.step if self.step > 0 else 0.0
        if round(steps) < 1 or not math.isclose(steps, round(steps), rel_tol=1e-9):
            raise ValueError(
                f"{place} must come from `low` {self.low!r} to `high` {self.high!r} in steps of {self.step!r}; choose "
                "a `step` that divides their distance."
            )

    @property
    def whole(self) -> bool:
        return all(isinstance(number, int) for number in (self.low, self.high, self.step) if number is not None)

    @property
    def probes(self) -> tuple[Any, ...]:
        return self.low, self.high

    def suggest(self, trial) -> float:
        if self.whole:
            step = 1 if self.step is None else int(self.step)
            return trial.suggest_int(self.field, int(self.low), int(self.high), step=step, log=self.log)
        return trial.suggest_float(self.field, float(self.low), float(self.high), step=self.step, log=self.log)

    def parameter(self, value: Any) -> float | None:
        """The value as optuna stores it; None for one that does not lie in the range."""
        if not _is_number(value) or not self.low <= value <= self.high or (self.whole and value != int(value)):
            return None
        steps = 0.0 if self.step is None else (value - self.low) / self.step
        if not math.isclose(steps, round(steps), rel_tol=1e-9, abs_tol=1e-9):
            return None
        return int(value) if self.whole else float(value)

    def value(self, parameter: float) -> float:
        return parameter


@dataclass(frozen=True)
class Choice:
    """
    One of several values.

    Args:
        field: Of the recipe, dotted.
        choices: What the recipe may say there.
    """

    field: str
    choices: list[Any]

    def __post_init__(self):
        fits = isinstance(self.choices, list) and len(self.choices) > 1
        if not fits or len({_label(choice) for choice in self.choices}) < len(self.choices):
            raise ValueError(
                f"`search.{self.field}` needs a list of at least two values as `choices`, no two the same; got "
                f"{self.choices!r}."
            )

    @property
    def probes(self) -> tuple[Any, ...]:
        return tuple(self.choices)

    def suggest(self, trial) -> Any:
        return self.value(trial.suggest_categorical(self.field, [_label(choice) for choice in self.choices]))

    def parameter(self, value: Any) -> str | None:
        """The value as optuna stores it, which has no lists and mappings; None for one that is not among them."""
        return next((_label(choice) for choice in self.choices if choice == value), None)

    def value(self, parameter: str) -> Any:
        return next(choice for choice in self.choices if _label(choice) == parameter)


Dimension = Range | Choice


class Space:
    """
    The space that a recipe's `search` describes.

    Args:
        recipe: Any.

    Raises:
        ValueError: where it describes none; for an unknown field, naming the nearest one; for a field that decides by
            what trials are judged; for a bad range; and for an end of a range, or a choice, that the recipe refuses.
    """

    def __init__(self, recipe: Recipe):
        fields = dict(_fields(recipe.search))
        if not fields:
            raise ValueError(
                "The recipe names nothing to search: give it `search`, a mapping from its fields to where their "
                "values lie, such as `search: {training.learning_rate: {low: 1.0e-4, high: 1.0e-2, log: true}}`."
            )
        self.dimensions: list[Dimension] = [_dimension(field, content) for field, content in fields.items()]
        for dimension in self.dimensions:
            _check_field(dimension, recipe)

    @property
    def fields(self) -> list[str]:
        return [dimension.field for dimension in self.dimensions]

    def suggest(self, trial, fields: Iterable[str] | None = None) -> dict[str, Any]:
        """Values for a trial of optuna, by field; of these fields, or of all."""
        wanted = self.fields if fields is None else list(fields)
        return {d.field: d.suggest(trial) for d in self.dimensions if d.field in wanted}

    def values(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """From what optuna stores of a trial to what the recipe says."""
        return {d.field: d.value(parameters[d.field]) for d in self.dimensions if d.field in parameters}

    def own_values(self, recipe: Recipe) -> dict[str, Any]:
        """The values that the recipe itself has, given or as defaults, of the fields where they are known."""
        found = {}
        for field in self.fields:
            for content in (recipe.to_dict(), _defaults(recipe)):
                place: Any = content
                for key in field.split("."):
                    place = place.get(key, dataclasses.MISSING) if isinstance(place, dict) else dataclasses.MISSING
                if place is not dataclasses.MISSING:
                    found[field] = place
                    break
        return found

    def own_parameters(self, recipe: Recipe) -> dict[str, Any]:
        """Those of them that lie in the space, as optuna stores them."""
        own = self.own_values(recipe)
        found = {d.field: d.parameter(own[d.field]) for d in self.dimensions if d.field in own}
        return {field: parameter for field, parameter in found.items() if parameter is not None}


def with_values(recipe: Recipe, values: Mapping[str, Any]) -> Recipe:
    """The recipe with other values of dotted fields."""
    content = copy.deepcopy(recipe.to_dict())
    for field, value in values.items():
        *sections, last = field.split(".")
        place = content
        for section in sections:
            if not isinstance(place.get(section), dict):
                place[section] = {}
            place = place[section]
        place[last] = value
    return Recipe.from_dict(content)


def _fields(content: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    """Dotted fields and what is said of each. What is nested comes later, as on the command line."""
    for key, value in content.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and not set(value) & set(KEYS):
            yield from _fields(value, f"{name}.")
        else:
            yield name, value


def _dimension(field: str, content: Any) -> Dimension:
    if not isinstance(content, dict):
        raise ValueError(f"`search.{field}` must be a mapping: `low` and `high`, or `choices`; got {content!r}.")
    check_keys(f"search.{field}", content, KEYS)
    if "choices" in content:
        if len(content) > 1:
            raise ValueError(f"`search.{field}` has `choices` and a range, which exclude each other; got {content!r}.")
        return Choice(field, content["choices"])
    if not {"low", "high"} <= set(content):
        raise ValueError(f"`search.{field}` needs both `low` and `high`, or `choices`; got {content!r}.")
    return Range(field, **content)


def _check_field(dimension: Dimension, recipe: Recipe) -> None:
    field = dimension.field
    for name, reason in NOT_SEARCHED.items():
        if f"{field}.".startswith(f"{name}.") or name.startswith(f"{field}."):
            raise ValueError(f"`search.{field}` cannot be searched: {reason}. Leave it out of `search`.")
    for value in dimension.probes:
        try:
            with_values(recipe, {field: value, "training.output_dir": "unused"}).training_arguments()
        except ValueError as error:
            raise ValueError(f"`search.{field}`: the recipe does not take {value!r}. {error}") from None


def _defaults(recipe: Recipe) -> dict[str, Any]:
    """What holds where the recipe says nothing."""
    arguments = with_values(recipe, {"training.output_dir": "unused"}).training_arguments()
    group = {"learning_rate": arguments.learning_rate, "weight_decay": arguments.weight_decay}
    return {
        "training": vars(arguments),
        "optimizer": {"name": "adam", **dict.fromkeys(PARAMETER_GROUPS, group)},
        "model": {f.name: f.default for f in dataclasses.fields(ARCHITECTURES[recipe.model_type])},
    }


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _label(choice: Any) -> Any:
    """A choice as optuna stores it: lists and mappings as JSON."""
    return json.dumps(choice) if isinstance(choice, (list, dict)) else choice
