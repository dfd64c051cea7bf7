"""
How a checkpoint predicts when modalities are missing or noisy: the runs, the conditions, and what each does to a row.

The protocol is that of UCRN (Guo et al., EMNLP 2021), section 4.4. A modality is removed by giving an empty sequence in
its place. Noise is that of `processing.feature_noise`, scaled by the features' standard deviations over all valid steps
of the split.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, cast

import numpy as np
from datasets import Dataset
from transformers import AutoConfig

from configuration import MultimodalConfig
from datasets_scripts import MODALITIES
from processing.feature_noise import Noise, noise_tokens
from processing.processing_multimodal import feature_statistics
from training.checkpoint import load_checkpoint, load_data, load_recipe, text_column
from training.corpus import Corpus, prepare_split, sequence_lengths
from training.mapped_rows import MappedRows
from training.prediction import predict_rows, table_metrics
from training.recipe import Recipe
from training.targets import Target

CONFIG_FILE = "config.json"
FULL = "all modalities"
REMOVED = "modalities removed"


# Runs


@dataclass(frozen=True)
class Run:
    """
    Attributes:
        group: Runs of the same group are averaged.
        path: The checkpoint's folder.
        target: What it predicts, by the convention of its recipe.
        recipe: None for a checkpoint that has none.
    """

    group: str
    path: Path
    target: Target
    recipe: Recipe | None

    @property
    def label(self) -> str:
        return f"{self.group}, {self.path.name}" if _is_seed(self.path) else self.group


def find_runs(folders: Sequence[str | Path]) -> tuple[list[Run], list[Path]]:
    """
    The checkpoints that folders are, or hold.

    A folder is a checkpoint, or has runs as `seed_<number>`, or, as compare.py leaves it, `<variant>/seed_<number>`.
    The group of a checkpoint is its parent if it is named `seed_<number>`, and else itself.

    Returns:
        The runs, and the folders of runs that have no checkpoint yet.

    Raises:
        ValueError: for a folder without any checkpoint, and for runs of different targets.
    """
    groups: dict[Path, Path] = {}  # by run, the folder that is its group
    unfinished: list[Path] = []
    for folder in (Path(os.path.abspath(folder)) for folder in folders):
        paths = [folder]
        if not (folder / CONFIG_FILE).is_file():
            seeds = [path for pattern in ("seed_*", "*/seed_*") for path in folder.glob(pattern)]
            seeds = [path for path in seeds if path.is_dir() and _is_seed(path)]
            seeds.sort(key=lambda path: (path.parent.name, int(path.name.removeprefix("seed_"))))
            paths = [path for path in seeds if (path / CONFIG_FILE).is_file()]
            unfinished += [path for path in seeds if path not in paths]
        if not paths:
            raise ValueError(
                f"FOLDER must be a checkpoint, or hold some as seed_<number> or <variant>/seed_<number>; {folder} "
                f"{'has no ' + CONFIG_FILE + ' and no such runs' if folder.is_dir() else 'is no folder'}. Give a run's "
                "folder, or that of compare.py."
            )
        groups |= {path: path.parent if _is_seed(path) else path for path in paths}
    names = _short_names(list(dict.fromkeys(groups.values())))
    runs = [_read_run(names[group], path) for path, group in groups.items()]
    for run in runs:
        if run.target != runs[0].target:
            raise ValueError(
                "All runs must have one target and one metric convention, so that one table holds them; "
                f"{runs[0].path} has {runs[0].target.name} by {runs[0].target.convention}, {run.path} has "
                f"{run.target.name} by {run.target.convention}. Evaluate them one after the other."
            )
    return runs, unfinished


def load_common_data(runs: Sequence[Run], data_file: str | None = None) -> Corpus:
    """
    The data that all runs are evaluated on: the file, or what they were trained on.

    Raises:
        ValueError: if that is not the same for all, or a checkpoint without a recipe comes without a file.
    """
    if data_file is None:
        known = [run for run in runs if run.recipe is not None]
        for run in known:
            if _data(run) != _data(known[0]):
                raise ValueError(
                    f"All runs must be evaluated on the same data; {known[0].path} was trained on {_data(known[0])}, "
                    f"{run.path} on {_data(run)}. Say which with --data_file, or evaluate them one after the other."
                )
    # Of one without a recipe, where there is one: it says that it needs a file.
    first = next((run for run in runs if run.recipe is None), runs[0])
    return load_data(str(first.path), data_file)[0]


def _is_seed(path: Path) -> bool:
    return re.fullmatch(r"seed_\d+", path.name) is not None


def _short_names(paths: Sequence[Path]) -> dict[Path, str]:
    """By path, its last part, or as many as make all names differ."""
    for depth in range(1, max(len(path.parts) for path in paths) + 1):
        names = {path: "/".join(path.parts[-depth:]) for path in paths}
        if len(set(names.values())) == len(names):
            break
    return names


def _read_run(group: str, path: Path) -> Run:
    config = AutoConfig.from_pretrained(path)
    if not isinstance(config, MultimodalConfig):
        raise ValueError(
            f"FOLDER must be a checkpoint of this collection; {path} holds one of {type(config).__name__}. Give "
            "the folder of a run of train.py."
        )
    recipe = load_recipe(path)
    return Run(group, path, Target(str(config.target), recipe.metric_convention if recipe else "mosi"), recipe)


def _data(run: Run) -> str:
    """What a run's recipe says of its data; equal where the data is."""
    assert run.recipe is not None
    if run.recipe.data_file is None:
        return f"the synthetic corpus {json.dumps(run.recipe.synthetic or {}, sort_keys=True)}"
    return run.recipe.data_sha256 or run.recipe.data_file


# Conditions


@dataclass(frozen=True)
class Condition:
    """
    What of the data a model gets.

    Attributes:
        name: What the tables call it.
        kind: FULL, REMOVED or "noise <probability>".
        kept: The modalities that are not removed.
        noisy: Those with noise.
        probability: That of the noise.
    """

    name: str
    kind: str
    kept: tuple[str, ...]
    noisy: tuple[str, ...] = ()
    probability: float = 0.0

    @property
    def order(self) -> tuple:
        """Sorts: everything first, then by the number of modalities removed, then by the noise."""
        kinds = 0 if self.kind == FULL else 1 if self.kind == REMOVED else 2
        kept, noisy = ([MODALITIES.index(m) for m in modalities] for modalities in (self.kept, self.noisy))
        return kinds, self.probability, -len(noisy), -len(kept), noisy, kept


def only(kept: Sequence[str]) -> str:
    """Name of the condition in which nothing else is left."""
    return f"only {'+'.join(kept)}"


def noise(probability: float, modality: str = "all") -> str:
    """Name of the condition with noise on one modality, or on all."""
    return f"noise {probability:g} on {modality}"


def conditions(modalities: Sequence[str], probabilities: Sequence[float] = ()) -> list[Condition]:
    """All modalities; each non-empty part of them; and, by probability, noise on all of them and on each alone."""
    every = tuple(modalities)
    found = [Condition(FULL, FULL, every)]
    for size in range(len(every) - 1, 0, -1):
        found += [Condition(only(kept), REMOVED, kept) for kept in combinations(every, size)]
    for probability in sorted(set(probabilities)):
        kind = f"noise {probability:g}"
        found.append(Condition(noise(probability), kind, every, every, probability))
        if len(every) > 1:
            found += [Condition(noise(probability, m), kind, every, (m,), probability) for m in every]
    return found


# What they do to a row


def remove(row: dict[str, Any], modalities: Sequence[str]) -> dict[str, Any]:
    """The row of a prepared split with empty sequences, (0, features) or no tokens, in place of the modalities'."""
    changed = dict(row)
    for modality in modalities:
        names = [f"{modality}_values", *(("input_ids", "token_type_ids") if modality == "text" else ())]
        changed |= {name: row[name][:0] for name in names if name in row}
    return changed


def feature_deviations(rows: Dataset, modality: str) -> np.ndarray:
    """Standard deviation (features,) of each feature over all steps of all rows; 0 of a constant one."""
    name = f"{modality}_values"
    mean, deviations = feature_statistics(row[name] for row in rows.select_columns(name))
    if mean is None:
        raise ValueError(f"No sample of the split has {modality}, so that its features have no deviation.")
    return deviations


# Measuring


@dataclass(frozen=True)
class Measured:
    """
    Attributes:
        run: Whose result it is.
        condition: What the model got.
        scores: By metric.
        without_any: How many samples were left without any modality; they are predicted like the others.
    """

    run: Run
    condition: Condition
    scores: dict[str, float]
    without_any: int


class Evaluation:
    """
    Runs on one split, under all conditions.

    Args:
        corpus: The data.
        split: "train", "valid" or "test".
        probabilities: Of noise; none for removed modalities alone.
        seed: Of the noise.
        batch_size: Samples at a time.
    """

    def __init__(self, corpus: Corpus, split: str, probabilities: Sequence[float], seed: int = 0, batch_size: int = 32):
        self.corpus = corpus
        self.rows = corpus.split(split)
        self.probabilities = probabilities
        self.seed = seed
        self.batch_size = batch_size
        self.notes: list[str] = []
        self._deviations: dict[str, np.ndarray] = {}
        self._prepared: tuple[Any, MappedRows] | None = None

    def measure(self, run: Run) -> Iterator[Measured]:
        """Loads the run's checkpoint and evaluates it, a result per condition."""
        if run.target.column not in self.rows.column_names:
            raise ValueError(
                f"{run.path} predicts {run.target.name}, which needs the column `{run.target.column}`; "
                f"{self.corpus.name} has none. Give data with it as --data_file."
            )
        model, processor = load_checkpoint(str(run.path))
        rows = self._rows(processor, text_column(self.corpus, processor, run.recipe))
        lengths = {modality: _lengths(rows, processor, modality) for modality in model.config.modalities}
        modalities = [modality for modality in MODALITIES if modality in lengths and lengths[modality].any()]
        if not modalities:
            raise ValueError(
                f"{run.path} reads {', '.join(model.config.modalities)}, of which {self.corpus.name} has nothing; give "
                "data with one of these as --data_file."
            )
        self._note(run, model, processor, modalities)
        add_noise = self._noise(processor, modalities) if self.probabilities else None
        for condition in conditions(modalities, self.probabilities):

            def change(position: int, row: dict[str, Any], condition: Condition = condition) -> dict[str, Any]:
                if add_noise is not None and condition.noisy:
                    return add_noise(position, row, condition.noisy, condition.probability)
                return remove(row, [modality for modality in modalities if modality not in condition.kept])

            table = predict_rows(model, processor, rows, self.batch_size, change)
            left = np.sum([lengths[modality] for modality in condition.kept], axis=0)
            yield Measured(run, condition, table_metrics(table, run.target), int((left == 0).sum()))

    def _rows(self, processor, text: str | None) -> MappedRows:
        """The split as the processor needs it; that of the run before where it read the same way."""
        tokenizer = processor.tokenizer
        backend = getattr(tokenizer, "backend_tokenizer", None)
        content = tokenizer if backend is None else backend.to_str()  # one without such a backend is like no other
        limit = None if tokenizer is None else tokenizer.model_max_length
        key = (text, processor.text_input, processor.max_text_length, limit, content)
        if self._prepared is None or self._prepared[0] != key:
            self._prepared = None  # the old one goes before the new one comes
            rows = cast(MappedRows, prepare_split(self.rows, processor, text))  # nothing is streamed here
            self._prepared = (key, rows)
        return self._prepared[1]

    def _noise(self, processor, modalities: Sequence[str]) -> Noise:
        tokens = processor.text_input == "tokens" and "text" in modalities
        for modality in modalities:
            if modality not in self._deviations and not (modality == "text" and tokens):
                self._deviations[modality] = feature_deviations(self.rows, modality)
        return Noise(self._deviations, self.seed, processor.tokenizer if tokens else None)

    def note(self, sentence: str) -> None:
        """Something that a reader must know of the results; it is noted once."""
        if sentence not in self.notes:
            self.notes.append(sentence)

    def _note(self, run: Run, model, processor, modalities: Sequence[str]) -> None:
        lacking = [modality for modality in model.config.modalities if modality not in modalities]
        if lacking:
            self.note(
                f"{run.group} reads {' and '.join(lacking)}, too, which no sample of the split has: everything is "
                "measured without."
            )
        if len(modalities) == 1:
            self.note(f"{run.group}: {modalities[0]} is its only modality, so that only noise is measured.")
        if processor.text_input == "tokens" and "text" in modalities and self.probabilities:
            token = processor.tokenizer.convert_ids_to_tokens(noise_tokens(processor.tokenizer)[0])
            self.note(
                f"{run.group} reads text as tokens, which have no features to add noise to: each token that is not a "
                f"special one is replaced by `{token}` with the probability of the noise."
            )


def _lengths(rows: MappedRows, processor, modality: str) -> np.ndarray:
    """Steps or tokens (N,) that the processor finds in each sample of a prepared split."""
    if modality == "text" and processor.text_input == "tokens":
        return np.array([len(tokens) for tokens in rows["input_ids"][:]], np.int64)
    return sequence_lengths(rows, modality)
