"""Figures measured elsewhere, from a small CSV file, to stand beside those of a comparison."""

from __future__ import annotations

import csv
import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from spaces.multimodal_sentiment.multimodal_sentiment import METRIC_NAMES

METRICS = tuple(dict.fromkeys(name for names in METRIC_NAMES.values() for name in names))
RANGES = {"mae": (0.0, math.inf), "corr": (-1.0, 1.0)}  # the other metrics are shares


@dataclass(frozen=True)
class Figures:
    """
    One row of the file.

    Attributes:
        system: Name of a variant, or a `model_type`.
        source: Where they are from, such as "MMSA 2.2.1, seed 1111".
        values: By metric, on the test split.
    """

    system: str
    source: str
    values: dict[str, float]


def read_measured(path: str | Path) -> list[Figures]:
    """
    Reads a CSV file with the columns `system` and `source` and one per metric, under its name here.

    Numbers are as in the results of this project: accuracies, F1 and weighted accuracies are shares from 0 to 1. An
    empty cell is a figure that is not known.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: for anything that is not such a file; the message names row and column.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"--measured {path} is no file; give a CSV file with system, source and metrics.")
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            header = [name.strip() for name in next(reader, [])]
            _check_header(path, header)
            figures = [_figures(path, reader.line_num, header, cells) for cells in reader if cells]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"--measured {path} must be a CSV file in UTF-8; reading it gave: {error}.") from None
    if not figures:
        raise ValueError(f"--measured {path} must have a row per system below its header; it has none.")
    for number, row in enumerate(figures):
        if any((row.system, row.source) == (other.system, other.source) for other in figures[:number]):
            raise ValueError(f"--measured {path} has two rows of {row.system!r} from {row.source!r}; keep one of them.")
    return figures


def of_system(figures: Sequence[Figures], name: str, model_type: str | None) -> list[Figures]:
    """Those of a variant: rows with its name, or else rows with its `model_type`."""
    return [row for row in figures if row.system == name] or [row for row in figures if row.system == model_type]


def _check_header(path: Path, header: Sequence[str]) -> None:
    known = ("system", "source", *METRICS)
    for name in header:
        if name not in known:
            nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
            raise ValueError(
                f"--measured {path} has the unknown column {name!r}; columns are system, source and the names of "
                f"metrics. Nearest: {nearest!r}."
            )
        if header.count(name) > 1:
            raise ValueError(f"--measured {path} has the column {name!r} twice; keep one of them.")
    missing = [name for name in ("system", "source") if name not in header]
    if missing or len(header) < 3:
        raise ValueError(
            f"--measured {path} must have the columns system, source and at least one metric, separated by commas; "
            f"got {', '.join(header) or 'an empty file'}."
        )


def _figures(path: Path, line: int, header: Sequence[str], cells: Sequence[str]) -> Figures:
    if len(cells) != len(header):
        raise ValueError(
            f"--measured {path}, line {line}: must have {len(header)} cells, as the header has; got {len(cells)}. A "
            "cell with a comma in it needs quotes."
        )
    row = {name: cell.strip() for name, cell in zip(header, cells, strict=True)}
    for name in ("system", "source"):
        if not row[name]:
            raise ValueError(f"--measured {path}, line {line}: `{name}` is empty; say which {name} the figures are of.")
    values = {
        name: _number(f"--measured {path}, line {line}, column {name}", name, row[name])
        for name in header
        if name in METRICS and row[name]
    }
    return Figures(row["system"], row["source"], values)


def _number(place: str, metric: str, cell: str) -> float:
    low, high = RANGES.get(metric, (0.0, 1.0))
    try:
        value = float(cell)
    except ValueError:
        raise ValueError(f"{place}: must be a number, or empty; got {cell!r}.") from None
    if not (math.isfinite(value) and low <= value <= high):
        hint = " Divide percentages by 100." if metric not in RANGES else ""
        raise ValueError(f"{place}: must be a number from {low:g} to {high:g}; got {cell!r}.{hint}")
    return value
