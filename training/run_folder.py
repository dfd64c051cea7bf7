"""The folder of a run: when it may be used, which checkpoint goes on, and what a finished run leaves in it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from safetensors.torch import load_model, save_model
from transformers.utils import CONFIG_NAME, SAFE_WEIGHTS_NAME

from datasets_scripts.files import (
    check_writable,
    delete_left_over,
    keep_folder,
    release_folder,
    room_for,
    whole_file,
    write_json,
)
from training.finished_run import PREDICTIONS_FILE, RECIPE_FILE, RESULTS_FILE, FinishedRun
from training.model_card import write_card
from training.recipe import STAGES_FOLDER, Recipe, Stage, load_yaml
from training.remote_code import write_checkpoint
from training.run_record import without_nan, write_record
from training.whole_checkpoints import checkpoint_is_whole

BATCH_SETTINGS = ("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps")
STAGED = ".incomplete"  # the folder in which the results of a run lie until all are written
STAGE_WEIGHTS = "model.safetensors"
STAGE_FILE = "stage.json"


class RunFolder:
    """
    The output folder of one run.

    Args:
        path: Where.
        recipe: What is run.
        resume: The value of `training.resume_from_checkpoint`: None or "false", "true", or a checkpoint's folder.

    Raises:
        FileExistsError: if the folder holds a run, finished or not, which is not to be resumed, or other files.
        OSError: if nothing can be written there.
        ValueError: if it is to be resumed with another recipe.
    """

    def __init__(self, path: str | Path, recipe: Recipe, resume: str | None = None):
        self.path = Path(path)
        self.recipe = recipe
        self.resume = None if resume is None or str(resume).lower() in ("false", "none") else str(resume)
        if recipe.stages and self.resume is not None and self.resume.lower() != "true":
            raise ValueError(
                f"--resume_from_checkpoint {self.resume} names a checkpoint, but the recipe has stages, which go on "
                "where they stopped: give --resume_from_checkpoint true."
            )
        self._check()

    def _check(self) -> None:
        if self.path.is_file():
            raise FileExistsError(f"--output_dir {self.path} is a file; give a folder.")
        check_writable(self.path, "--output_dir")
        # A run that was killed while it claimed the folder leaves nothing but a file that has no name yet.
        if not self.path.is_dir() or all(_left_over(file) for file in self.path.iterdir()):
            return
        if (self.path / RESULTS_FILE).exists() and self.resume is None:
            raise FileExistsError(
                f"--output_dir {self.path} holds a finished run ({RESULTS_FILE} is there); give another folder, or "
                "delete this one."
            )
        if self.resume is None:
            raise FileExistsError(
                f"--output_dir {self.path} holds another run or other files; give an empty folder, or go on with "
                "that run with --resume_from_checkpoint true."
            )
        known = self.path / RECIPE_FILE
        if not known.exists():
            raise FileExistsError(
                f"--output_dir {self.path} has no {RECIPE_FILE}: there is no run in it to go on with."
            )

    def results(self) -> dict[str, float] | None:
        """Those of a run that was finished, None before."""
        file = self.path / RESULTS_FILE
        return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None

    def check_recipe(self) -> None:
        """
        Compares the resolved recipe with that of the run to be resumed. A step's samples may be divided into other
        batches, as where memory ran out; the trainer compares how many they are with its checkpoint.
        """
        known = self.path / RECIPE_FILE
        if not known.exists():
            return
        shown = "; ".join(differences(known, self.recipe, ignored_settings=BATCH_SETTINGS if self._trained() else ()))
        if shown:
            raise ValueError(
                f"--output_dir {self.path} holds a run with another recipe ({shown}); resume with the same "
                "recipe, or give another folder."
            )

    def _trained(self) -> bool:
        """Whether there is a checkpoint to go on with, in whichever stage the run is."""
        return any(
            self.checkpoint(stage) is not None
            for stage in self.recipe.stage_list()
            if self.stage(stage).numbers() is None
        )

    def claim(self) -> None:
        """
        Makes the folder, keeps it for this process, and writes the resolved recipe, unless a run is resumed: then what
        it had not finished writing when it was stopped is deleted.

        Raises:
            FileExistsError: another run writes into the folder, or has begun in it since it was looked at.
        """
        keep_folder(self.path, "--output_dir")
        self._check()
        delete_left_over(self.path)
        if not (self.path / RECIPE_FILE).exists():
            with whole_file(self.path / RECIPE_FILE) as temporary:
                temporary.write_text(self.recipe.to_yaml(), encoding="utf-8")

    def stage(self, stage: Stage) -> StageFolder:
        """The folder of a stage, or of the only training, which is that of the run."""
        return StageFolder(self.path / STAGES_FOLDER / stage.name if stage.name else self.path)

    def checkpoint(self, stage: Stage) -> str | None:
        """The checkpoint to go on with: the one that was named, or the newest that was written whole."""
        if self.resume is None:
            return None
        path = self.stage(stage).path
        if self.resume.lower() != "true":
            if not checkpoint_is_whole(self.resume):
                raise ValueError(f"--resume_from_checkpoint {self.resume} is not a whole checkpoint of this run.")
            return self.resume
        found = [file for file in path.glob("checkpoint-*") if checkpoint_is_whole(file)]
        return str(max(found, key=lambda path: int(path.name.rpartition("-")[2]))) if found else None

    def load(self, model, checkpoint: str) -> None:
        """
        Weights of a checkpoint, where it has them in one file: the trainer loads them, too, but what a text encoder
        that is not trained gives is computed before, and where it came from there may be another by now.
        """
        weights = Path(checkpoint) / SAFE_WEIGHTS_NAME
        if weights.exists():
            load_model(model, weights)

    def state(self) -> dict[str, str]:
        """How far the run is, in every process that sees the folder the same."""
        if self.results() is not None:
            return {"the run": "finished"}
        return {
            f"stage {stage.name}" if stage.name else "the run": "finished"
            if self.stage(stage).numbers() is not None
            else Path(self.checkpoint(stage) or "no checkpoint").name
            for stage in self.recipe.stage_list()
        }

    def finish(self, run: FinishedRun, model) -> None:
        """
        Puts the checkpoint, its code, the predictions, the record, the model card and the results into the folder;
        `config.json`, without which nobody takes it for a model, comes when all else of that is there, and
        `all_results.json`, which says that the run is finished, last.

        Raises:
            DiskFullError: there is no room for them; nothing of them is there then.
        """
        staged = self.path / STAGED
        shutil.rmtree(staged, ignore_errors=True)
        try:
            with room_for(self.path):
                staged.mkdir()
                write_checkpoint(staged, model, run.processor)
                for split, table in run.predictions.items():
                    pq.write_table(table, staged / PREDICTIONS_FILE.format(split=split))
                write_record(staged, run.record)
                write_card(staged, run)
        except OSError:
            shutil.rmtree(staged, ignore_errors=True)
            raise
        for file in sorted(staged.iterdir(), key=lambda file: (file.name == CONFIG_NAME, file.name)):
            file.chmod(0o644)  # some writers leave files that only their owner can read
            os.replace(file, self.path / file.name)
        staged.rmdir()
        write_json(self.path / RESULTS_FILE, without_nan(run.results))
        release_folder(self.path)


class StageFolder:
    """
    What a stage of a run leaves: `model.safetensors`, the weights that the next one starts from, and, last of all,
    `stage.json`, numbers of it. Its checkpoints, of no use from then on, are deleted.
    """

    def __init__(self, path: Path):
        self.path = path

    def numbers(self) -> dict[str, Any] | None:
        """Those of a finished stage; None for one that is not finished, and for a training that is no stage."""
        file = self.path / STAGE_FILE
        return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None

    def load(self, model) -> None:
        self._delete_checkpoints()  # in case the run was stopped just then
        load_model(model, self.path / STAGE_WEIGHTS)

    def finish(self, model, numbers: dict[str, Any]) -> None:
        with whole_file(self.path / STAGE_WEIGHTS) as temporary:
            save_model(model, str(temporary))
        write_json(self.path / STAGE_FILE, without_nan(numbers))
        self._delete_checkpoints()

    def _delete_checkpoints(self) -> None:
        for checkpoint in self.path.glob("checkpoint-*"):
            shutil.rmtree(checkpoint, ignore_errors=True)


def _left_over(file: Path) -> bool:
    return file.name.startswith(".") and file.name.endswith(".incomplete")


def differences(
    recipe_file: Path, recipe: Recipe, ignored: Sequence[str] = (), ignored_settings: Sequence[str] = ()
) -> list[str]:
    """
    How the recipe of a run differs from `recipe`: "key: value then, value now" for each key but those that are ignored,
    in the `training` section those of `ignored_settings`. A key that the file does not have yet has its default.
    """
    before = Recipe.from_dict(load_yaml(recipe_file), str(recipe_file)).to_dict()
    now = recipe.to_dict()
    for content in (before, now):
        content["training"] = {k: v for k, v in content["training"].items() if k not in ignored_settings}
    return [
        f"{key}: {before.get(key)!r} then, {value!r} now"
        for key, value in now.items()
        if key not in ignored and before.get(key) != value
    ]
