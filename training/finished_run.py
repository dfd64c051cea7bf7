"""A finished run, as its folder has it: what a model card is written from and a checkpoint published from."""

from __future__ import annotations

import json
import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from transformers import AutoConfig, AutoProcessor

import modeling  # noqa: F401  (registers the architectures)
from configuration import MultimodalConfig
from processing import MultimodalProcessor
from spaces.multimodal_sentiment.multimodal_sentiment import greater_is_better
from training.recipe import Recipe, load_yaml
from training.run_record import RECORD_FILE, read_record
from training.targets import Target

RECIPE_FILE = "recipe.yaml"
RESULTS_FILE = "all_results.json"
PREDICTIONS_FILE = "predictions_{split}.parquet"
SEED_PREFIX = "seed_"  # of folders of runs that differ in nothing but their seed
SPLITS = ("valid", "test")

logger = logging.getLogger(__name__)


@dataclass
class FinishedRun:
    """
    Attributes:
        path: Its folder.
        config, processor: Of the checkpoint.
        recipe: What was run, resolved.
        results: `all_results.json`: numbers of the run, and `valid_*` and `test_*`.
        record: What `training.run_record` notes.
        predictions: Of the validation and the test split, tables of `predict_rows`.
    """

    path: Path
    config: MultimodalConfig
    processor: MultimodalProcessor
    recipe: Recipe
    results: dict[str, Any]
    record: dict[str, Any]
    predictions: dict[str, pa.Table]

    @classmethod
    def of_folder(cls, path: str | Path) -> FinishedRun:
        """
        Raises:
            ValueError: for a folder without a finished run, or with one whose files are not what they should be.
        """
        path = Path(path)
        wanted = [RESULTS_FILE, RECIPE_FILE, RECORD_FILE, *(PREDICTIONS_FILE.format(split=split) for split in SPLITS)]
        missing = [name for name in wanted if not (path / name).is_file()]
        if missing:
            raise ValueError(
                f"{path} is not the folder of a finished run: {', '.join(missing)} "
                f"{'is' if len(missing) == 1 else 'are'} missing. Train with train.py, or go on with a run that was "
                "stopped with --resume_from_checkpoint true."
            )
        return cls(
            path,
            AutoConfig.from_pretrained(path),
            AutoProcessor.from_pretrained(path),
            Recipe.from_dict(load_yaml(path / RECIPE_FILE), str(path / RECIPE_FILE)),
            json.loads((path / RESULTS_FILE).read_text(encoding="utf-8")),
            read_record(path),
            {split: pq.read_table(path / PREDICTIONS_FILE.format(split=split)) for split in SPLITS},
        )

    @property
    def target(self) -> Target:
        return self.recipe.target

    @property
    def selection(self) -> str:
        """The validation metric by which the epoch was chosen, or would have been."""
        chosen = self.recipe.stage_list()[-1].training["metric_for_best_model"] or self.target.selection
        return str(chosen).removeprefix("eval_")

    @property
    def ranking(self) -> str:
        """The metric that ranks runs: that, or, where it is the loss, which is no result, the target's."""
        return self.selection if self.selection in self.target.metric_names else self.target.selection

    @property
    def selection_rank(self) -> float:
        """The lower, the better the run on the validation split; infinite where that is not defined."""
        value = self.metric("valid", self.ranking)
        if value is None or math.isnan(value):
            return math.inf
        return -value if greater_is_better(self.ranking) else value

    def metric(self, split: str, name: str) -> float | None:
        """A result, None where it is not defined or there is none."""
        return self.results.get(f"{split}_{name}")

    def seeds(self) -> list[FinishedRun]:
        """This run and the finished ones beside it that differ in nothing but the seed, by seed."""
        runs = [self]
        for path in self.path.parent.glob(f"{SEED_PREFIX}*") if self.path.name.startswith(SEED_PREFIX) else ():
            if path != self.path and (path / RESULTS_FILE).is_file() and (path / RECORD_FILE).is_file():
                try:
                    other = FinishedRun.of_folder(path)
                except (ValueError, OSError) as error:
                    logger.warning("%s is not counted among the runs with other seeds: %s", path, error)
                    continue
                if _without_seed(other.recipe) == _without_seed(self.recipe):
                    runs.append(other)
        return sorted(runs, key=lambda run: run.results["seed"])


def _without_seed(recipe: Recipe) -> dict[str, Any]:
    content = recipe.to_dict()
    return {**content, "training": {**content["training"], "seed": None}}
