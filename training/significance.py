"""
Whether systems differ on a test split by more than its samples explain: a paired bootstrap over those samples.

A resample is a count per sample, and a metric a function of sums over samples (training/summed_metrics.py): its values
on many resamples are that function of one matrix product.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from training.prediction import reference_names
from training.summed_metrics import SummedMetric, summed_metric
from training.targets import Target

TEST_PREDICTIONS = "predictions_test.parquet"
UNITS = ("samples", "videos")
VIDEO_MARK = "$_$"  # ids are `video$_$segment`
LEVEL = 0.05
FEWEST_RESAMPLES = 100
FEWEST_UNITS = 10  # of fewer there are few different resamples, and p would be small for any difference
ENTRIES = 4_000_000  # of the largest array of a chunk of resamples: 32 MB


@dataclass(frozen=True)
class Difference:
    """
    A system's metric less that of another.

    Attributes:
        difference: Of the means over their seeds, on the test split.
        low, high: 95 % percentile interval.
        p: Two-sided, uncorrected.
        p_holm: After Holm's correction.
        resamples: On how many resamples the metric was defined for both; the others do not count.
    """

    system: str
    other: str
    difference: float
    low: float
    high: float
    p: float
    p_holm: float
    resamples: int

    @property
    def significant(self) -> bool:
        return self.p_holm < LEVEL


@dataclass(frozen=True)
class Significance:
    """
    Attributes:
        metric: Its name.
        unit: What was drawn, "samples" or "videos".
        resamples: How many resamples.
        sizes: By system, how many units and how many samples its test split has.
        pairs: Every pair of systems that can be paired, corrected for their number.
        notes: Sentences on what could not be compared, and why.
    """

    metric: str
    unit: str
    resamples: int
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    pairs: tuple[Difference, ...] = ()
    notes: tuple[str, ...] = ()

    def against(self, reference: str) -> dict[str, Difference]:
        """By system, its difference to a reference, corrected for the number of these comparisons only."""
        turned = [_turned(pair) if pair.system == reference else pair for pair in self.pairs]
        found = [pair for pair in turned if pair.other == reference]
        corrected = holm([pair.p for pair in found])
        return {pair.system: replace(pair, p_holm=p) for pair, p in zip(found, corrected, strict=True)}


def compare_systems(
    folders: Mapping[str, Sequence[Path]],
    targets: Mapping[str, Target],
    metric: str,
    unit: str = "samples",
    resamples: int = 10_000,
    seed: int = 0,
) -> Significance:
    """
    Paired bootstrap of the differences between systems.

    Every resample draws as many test samples (or whole videos) as there are, with replacement, the same for all
    systems and all their seeds. A system's statistic is the mean over its seeds of the metric on the resample. With
    d_r the differences of two systems on R resamples:

    - interval: the 2.5th and 97.5th percentile of d_r (Efron and Tibshirani, 1993, section 13.3);
    - p = min(1, 2 (min(#{d_r <= 0}, #{d_r >= 0}) + 1) / (R + 1)): the level at which the percentile interval would
      just reach 0 (Efron and Tibshirani, 1993, section 15.4), with the sample itself counted as a resample, so that
      it is never 0 (Davison and Hinkley, 1997, section 4.2);
    - p_holm: Holm's step-down correction (Holm, 1979) for the number of pairs.

    Test samples vary in this, runs do not: it says nothing on what other seeds would give.

    Args:
        folders: By system, the folders of its finished runs.
        targets: By system, what its runs predict.
        metric: Name of a metric. A system whose target lacks it is left out, and noted.
        unit: "samples", or "videos" for whole videos, by ids `video$_$segment`.
        resamples: R.
        seed: Of the resamples.

    Systems are paired where ids, references and the metric's definition are equal; others are noted, as are those
    whose predictions cannot be read.

    Raises:
        ValueError: for another `unit`, and for fewer than 100 resamples.
    """
    if unit not in UNITS:
        raise ValueError(f"`unit` must be one of {', '.join(UNITS)}; got {unit!r}.")
    if resamples < FEWEST_RESAMPLES:
        raise ValueError(f"`resamples` must be at least {FEWEST_RESAMPLES}; got {resamples}. 10,000 is usual.")
    notes: list[str] = []
    groups: list[list[_System]] = []
    for name in (name for name, runs in folders.items() if runs):
        try:
            system = _System.of_runs(name, folders[name], targets[name], metric, unit)
        except (ValueError, OSError) as error:
            notes.append(f"{name} is not compared: {error}")
            continue
        fitting = next((group for group in groups if group[0].pairs_with(system)), None)
        if fitting is None:
            groups.append([system])
        else:
            fitting.append(system)
    if len(groups) > 1:
        listed = "; ".join(_names(group) for group in groups)
        notes.append(f"Test ids, references or metrics differ between these groups, which are not compared: {listed}.")
    pairs = [pair for group in groups for pair in _group_pairs(group, resamples, seed, notes)]
    corrected = holm([pair.p for pair in pairs])
    return Significance(
        metric,
        unit,
        resamples,
        {system.name: (len(system.sums), len(system.ids)) for group in groups for system in group},
        tuple(replace(pair, p_holm=p) for pair, p in zip(pairs, corrected, strict=True)),
        tuple(notes),
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """
    Holm's step-down correction: the i-th smallest of m p-values times m - i + 1, at least the one before it, at most 1.

    Source: Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics, 1979.
    """
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(np.argsort(p_values, kind="stable")):
        largest = max(largest, min(1.0, p_values[index] * (len(p_values) - rank)))
        corrected[index] = largest
    return corrected


@dataclass(frozen=True, eq=False)
class _System:
    """
    A system's test split and runs: ids (N,), references (N,) or (N, 6), and of each unit the sums of its samples'
    columns, (units, runs, columns).
    """

    name: str
    family: str
    ids: list[str]
    references: np.ndarray
    sums: np.ndarray
    metric: SummedMetric

    @classmethod
    def of_runs(cls, name: str, runs: Sequence[Path], target: Target, metric: str, unit: str) -> _System:
        summed = summed_metric(metric, target)
        tables = [_read(run / TEST_PREDICTIONS, target) for run in runs]
        ids, references = tables[0]["id"].to_pylist(), _numbers(tables[0], reference_names(target))
        for run, table in zip(runs, tables, strict=True):
            if table["id"].to_pylist() != ids or not np.array_equal(
                _numbers(table, reference_names(target)), references
            ):
                raise ValueError(f"{runs[0]} and {run} have other test ids or references; train both on the same data.")
        if not target.of_emotions:
            references = references[:, 0]
        columns = [summed.columns(_numbers(table, target.score_names), references) for table in tables]
        units = _units(ids, unit)
        sums = np.zeros((units.max() + 1, len(runs), columns[0].shape[1]))
        np.add.at(sums, units, np.stack(columns, axis=1))
        family = target.name if target.of_emotions else target.convention
        return cls(name, family, ids, references, sums, summed)

    def statistic(self, counts: np.ndarray) -> np.ndarray:
        """(resamples,): the mean over seeds of the metric, for counts (resamples, units) of each unit."""
        units, runs, columns = self.sums.shape
        sums = (counts @ self.sums.reshape(units, -1)).reshape(len(counts), runs, columns)
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.metric.value(sums).mean(axis=1)

    def pairs_with(self, other: _System) -> bool:
        same = self.family == other.family and self.ids == other.ids
        return same and np.array_equal(self.references, other.references)


def _read(path: Path, target: Target) -> pa.Table:
    """A run's predictions, ordered by id."""
    if not path.exists():
        raise FileNotFoundError(f"There is no {path}, which train.py writes; train that run again.")
    table = pq.read_table(path)
    needed = ("id", *reference_names(target), *target.score_names)
    missing = [name for name in needed if name not in table.column_names]
    if missing:
        raise ValueError(f"{path} must have the columns {', '.join(needed)}; there is no {', '.join(missing)}.")
    numbers = _numbers(table, needed[1:])
    if not len(table) or table["id"].null_count or not np.isfinite(numbers).all():
        raise ValueError(f"{path} must have rows, an id in each, and finite numbers; train that run again.")
    return table.sort_by("id")


def _numbers(table: pa.Table, names: Sequence[str]) -> np.ndarray:
    """(N, names) float64."""
    return np.stack([table[name].to_numpy().astype(np.float64) for name in names], axis=1)


def _units(ids: Sequence[str], unit: str) -> np.ndarray:
    """(N,) int64: which unit a sample belongs to."""
    if unit == "samples":
        return np.arange(len(ids))
    without = next((name for name in ids if VIDEO_MARK not in name), None)
    if without is not None:
        raise ValueError(f"whole videos need ids `video{VIDEO_MARK}segment`; got {without!r}. Resample samples.")
    return np.unique([name.rpartition(VIDEO_MARK)[0] for name in ids], return_inverse=True)[1]


def _group_pairs(group: Sequence[_System], resamples: int, seed: int, notes: list[str]) -> Iterator[Difference]:
    units = len(group[0].sums)
    if len(group) > 1 and units < FEWEST_UNITS:
        notes.append(f"{_names(group)} are not compared: {units} is too few to draw from; {FEWEST_UNITS} are needed.")
    if len(group) < 2 or units < FEWEST_UNITS:
        return
    as_it_is = np.ones((1, units))
    undefined = [system for system in group if np.isnan(system.statistic(as_it_is)[0])]
    if undefined:
        notes.append(f"Not compared, as the metric is undefined for one of their runs: {_names(undefined)}.")
    group = [system for system in group if system not in undefined]
    chunks = [[system.statistic(counts) for system in group] for counts in _resampled(group, resamples, seed)]
    drawn = {system.name: np.concatenate(parts) for system, parts in zip(group, zip(*chunks, strict=True), strict=True)}
    for one, other in itertools.combinations(group, 2):
        differences = drawn[one.name] - drawn[other.name]
        differences = differences[~np.isnan(differences)]
        low, high = np.quantile(differences, (LEVEL / 2, 1 - LEVEL / 2))
        tail = min(np.count_nonzero(differences <= 0), np.count_nonzero(differences >= 0))
        p = min(1.0, 2 * (int(tail) + 1) / (len(differences) + 1))
        difference = float(one.statistic(as_it_is)[0] - other.statistic(as_it_is)[0])
        yield Difference(one.name, other.name, difference, float(low), float(high), p, p, len(differences))


def _names(group: Sequence[_System]) -> str:
    return ", ".join(system.name for system in group)


def _resampled(group: Sequence[_System], resamples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each unit is drawn, (chunk, units), a bounded number of resamples at a time."""
    if not group:
        return
    units = len(group[0].sums)
    chunk = max(1, ENTRIES // max(units, *(system.sums[0].size for system in group)))
    random = np.random.default_rng(seed)
    for start in range(0, resamples, chunk):
        rows = min(chunk, resamples - start)
        drawn = random.integers(units, size=(rows, units)) + units * np.arange(rows)[:, np.newaxis]
        yield np.bincount(drawn.ravel(), minlength=rows * units).reshape(rows, units).astype(np.float64)


def _turned(pair: Difference) -> Difference:
    return replace(
        pair, system=pair.other, other=pair.system, difference=-pair.difference, low=-pair.high, high=-pair.low
    )
