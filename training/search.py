"""A search for the values of a recipe: trial after trial, judged on the validation split, kept in a file."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import set_seed

from datasets_scripts.files import keep_folder, whole_file
from training.corpus import Corpus, keep_labelled, load_corpus
from training.factory import build_model, build_processor, model_of_stage
from training.finished_run import RECIPE_FILE
from training.preparation import build_label_generator, build_trainer, prepare_splits, text_of
from training.recipe import Recipe
from training.run_folder import differences
from training.search_space import Space, with_values
from training.trainer import MultimodalTrainer

STORAGE_FILE = "trials.db"
SETTINGS_FILE = "search.json"
TRIAL_FOLDER = ".trial"  # of the trial that runs
STUDY = "search"
SEARCHED_SPLITS = ("train", "valid")  # the test split is of no use to a search
# What a trial raises for values that do not go together, for a training that diverged, and for a model that is too big.
FAILURES = (ValueError, StrictDataclassError, torch.OutOfMemoryError)
# A trial keeps no checkpoint: of its best epoch only the value is wanted.
TRIAL_TRAINING = {"save_strategy": "no", "load_best_model_at_end": False, "log_level": "error"}


def import_optuna():
    """
    optuna, silent.

    Raises:
        ImportError: that says how to install it.
    """
    try:
        import optuna
    except ImportError:
        raise ImportError("A search needs optuna: pip install -e '.[tune]', or pip install optuna.") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


class SearchTrainer(MultimodalTrainer):
    """The trainer of one trial. After each epoch it reports the best value so far, which is that of the trial."""

    best = math.nan
    reports = 0

    def best_so_far(self, metrics: dict[str, float]) -> float:
        value = metrics[f"eval_{metric_name(self.args)}"]
        better = value > self.best if self.args.greater_is_better else value < self.best
        if better or math.isnan(self.best):
            self.best = value
        return self.best

    def train(self, *args, **kwargs):
        output = super().train(*args, **kwargs)
        if not math.isfinite(self.best):
            raise ValueError(f"After no epoch {metric_name(self.args)} on the validation split was a finite number.")
        return output

    def _report_to_hp_search(self, trial, step, metrics):
        if self.state.global_step == 0:  # `eval_on_start`, which is no epoch that could be the best
            return
        # By epochs, as trials with other batch sizes have other steps.
        self.reports += 1
        super()._report_to_hp_search(trial, self.reports, metrics)


class Search:
    """
    A search in a folder. Trials that were finished are read from there, and the next one depends on them, the recipe
    and its number alone: a search that was stopped goes on to the same trials as an unbroken one.

    Of a trial that runs nothing is kept until it is finished; it is begun again with the same values.

    Args:
        recipe: With `search`. Its `output_dir` is not used.
        folder: New, empty, or that of the same search.
        pruning: Whether a trial is given up after an epoch by which it was worse, in its best epoch, than the median of
            the finished ones.
        startup_trials: How many have to be finished before that.
        warmup_epochs: How many epochs every trial is given.

    Raises:
        ImportError: without optuna.
        FileExistsError: if the folder holds something else, or another process searches there.
        ValueError: if it holds another search; for a recipe that cannot be searched.
    """

    def __init__(
        self,
        recipe: Recipe,
        folder: str | Path,
        pruning: bool = True,
        startup_trials: int = 5,
        warmup_epochs: int = 2,
    ):
        self.optuna = import_optuna()
        self.recipe = recipe
        self.folder = Path(folder)
        self.settings = {"pruning": pruning, "startup_trials": startup_trials, "warmup_epochs": warmup_epochs}
        self.args = with_values(recipe, {"training.output_dir": str(self.folder / TRIAL_FOLDER)}).training_arguments()
        self._check_recipe()
        self.space = Space(recipe)
        self._check_folder()
        keep_folder(self.folder, "--output_dir")
        self.corpus = load_without_test(recipe)
        recipe.data_sha256 = self.corpus.sha256
        keep_labelled(self.corpus, recipe.target, SEARCHED_SPLITS)
        self._check_same()
        self._claim()
        self.study = self.optuna.create_study(
            study_name=STUDY,
            storage=storage_url(self.folder / STORAGE_FILE),
            direction=self.direction,
            load_if_exists=True,
        )

    @property
    def metric(self) -> str:
        """By what trials are judged: that by which a training of the recipe chooses its best epoch."""
        return metric_name(self.args)

    @property
    def direction(self) -> str:
        return "maximize" if self.args.greater_is_better else "minimize"

    @property
    def trials(self) -> list:
        """The finished ones, as optuna has them; its numbers are their positions."""
        return self.study.get_trials(deepcopy=False)

    def best(self):
        """
        The best of the trials that ran to their end.

        Raises:
            ValueError: if there is none.
        """
        try:
            return self.study.best_trial
        except ValueError:
            raise ValueError(f"No trial in {self.folder} ran to its end; its trials.csv says why.") from None

    def run(self, count: int) -> Iterator[Any]:
        """Runs trials until there are `count` in the folder, and gives each as it is finished."""
        for number in range(len(self.trials), count):
            trial = self._run_trial(number)
            if len(self.trials) != number:
                raise ValueError(f"Another process searches in {self.folder}; let one finish, then start it again.")
            self.study.add_trial(trial)
            yield self.trials[number]

    def values(self, trial) -> dict[str, Any]:
        """The values of a trial by field; those of the first one are the recipe's own, where they are known."""
        return self.space.own_values(self.recipe) if trial.number == 0 else self.space.values(trial.params)

    def recipe_of(self, trial) -> Recipe:
        """The recipe with the values of a trial."""
        return with_values(self.recipe, {} if trial.number == 0 else self.values(trial))

    def _check_recipe(self) -> None:
        if self.recipe.stages:
            raise ValueError(
                "A trial is one training, but the recipe has `stages`; search one of them as a recipe of its own, or "
                "train everything at once with --stages []."
            )
        if self.args.world_size > 1:
            raise ValueError("A search runs in one process: start it with python, not with a launcher.")
        if self.args.eval_strategy != "epoch" or not self.args.load_best_model_at_end:
            raise ValueError(
                "Trials are judged by their best epoch: `training.eval_strategy` must be epoch and "
                f"`training.load_best_model_at_end` true; got {self.recipe.training['eval_strategy']!r} and "
                f"{self.args.load_best_model_at_end}."
            )

    def _check_folder(self) -> None:
        if self.folder.is_file():
            raise FileExistsError(f"--output_dir {self.folder} is a file; give a folder.")
        if not self.folder.is_dir() or not any(self.folder.iterdir()):
            return
        if not (self.folder / SETTINGS_FILE).exists():
            raise FileExistsError(f"--output_dir {self.folder} holds other files than a search; give another folder.")

    def _check_same(self) -> None:
        """Compares with the search that the folder holds."""
        if not (self.folder / RECIPE_FILE).exists():
            return
        then = json.loads((self.folder / SETTINGS_FILE).read_text(encoding="utf-8"))
        found = differences(self.folder / RECIPE_FILE, self.recipe)
        found += [f"{k}: {then.get(k)!r} then, {v!r} now" for k, v in self.settings.items() if then.get(k) != v]
        if found:
            raise ValueError(
                f"--output_dir {self.folder} holds another search ({'; '.join(found)}); go on with the same recipe and "
                "options, or give another folder."
            )

    def _claim(self) -> None:
        if (self.folder / RECIPE_FILE).exists():
            return
        with whole_file(self.folder / SETTINGS_FILE) as temporary:
            temporary.write_text(json.dumps(self.settings) + "\n", encoding="utf-8")
        with whole_file(self.folder / RECIPE_FILE) as temporary:
            temporary.write_text(self.recipe.to_yaml(), encoding="utf-8")

    def _study_so_far(self, number: int):
        """A study in memory with the finished trials, and its storage; what it draws depends on the number alone."""
        optuna = self.optuna
        storage = optuna.storages.InMemoryStorage()
        seed = int(np.random.SeedSequence([self.args.seed, number]).generate_state(1)[0])
        study = optuna.create_study(
            study_name=STUDY,
            storage=storage,
            direction=self.direction,
            sampler=optuna.samplers.TPESampler(seed=seed),
        )
        study.add_trials(self.trials)
        return study, storage

    def _pruner(self):
        if not self.settings["pruning"]:
            return self.optuna.pruners.NopPruner()
        return self.optuna.pruners.MedianPruner(
            n_startup_trials=self.settings["startup_trials"], n_warmup_steps=self.settings["warmup_epochs"] + 1
        )

    def _run_trial(self, number: int):
        # Drawn before the trial starts, as its trainer is made of the values.
        draft, _ = self._study_so_far(number)
        fields = self.space.fields
        if number == 0:
            own = self.space.own_parameters(self.recipe)
            draft.enqueue_trial(own)
            fields = list(own)
        drawn = draft.ask()
        values = self.space.suggest(drawn, fields)

        study, storage = self._study_so_far(number)
        study.enqueue_trial(drawn.params)
        trainer, started = None, time.perf_counter()
        try:
            trainer = self._trainer({} if number == 0 else values)
            trainer.hyperparameter_search(
                hp_space=lambda trial: self.space.suggest(trial, fields) and {},  # the trainer has them already
                compute_objective=trainer.best_so_far,
                n_trials=1,
                direction=self.direction,
                backend="optuna",
                study_name=STUDY,
                storage=storage,
                load_if_exists=True,
                pruner=self._pruner(),
            )
            finished = study.trials[number]
        except FAILURES as error:
            if number == 0:
                raise ValueError(
                    f"The recipe fails with its own values, so that there is nothing to compare with: {error}"
                ) from error
            finished = self.optuna.trial.create_trial(
                state=self.optuna.trial.TrialState.FAIL,
                params=drawn.params,
                distributions=drawn.distributions,
                user_attrs={"message": str(error)},
            )
        finally:
            shutil.rmtree(self.folder / TRIAL_FOLDER, ignore_errors=True)
        finished.user_attrs = {
            **finished.user_attrs,
            "epochs": 0.0 if trainer is None else trainer.state.epoch or 0.0,
            "seconds": time.perf_counter() - started,
        }
        return finished

    def _trainer(self, values: dict[str, Any]) -> SearchTrainer:
        """The trainer of a trial, at the start of training, as `train.py` has it for the same recipe."""
        settings = {**TRIAL_TRAINING, "output_dir": str(self.folder / TRIAL_FOLDER)}
        changes = {**values, **{f"training.{name}": value for name, value in settings.items()}}
        recipe = with_values(self.recipe, changes)
        stage = recipe.stage_list()[0]
        args = recipe.training_arguments(stage)
        set_seed(args.seed)
        text = text_of(recipe, self.corpus)
        processor = build_processor(recipe, self.corpus, text)
        model = model_of_stage(build_model(recipe, processor), stage)
        splits = prepare_splits(recipe, self.corpus, model, processor, text, args)
        generator, true_labels = build_label_generator(recipe, model, splits["train"], args.device)
        return build_trainer(
            SearchTrainer,
            recipe,
            stage,
            None,
            processor,
            splits,
            generator,
            true_labels,
            model_init=lambda: model,
        )


def storage_url(path: Path) -> str:
    """A file as optuna takes it, which fills in what stands in braces."""
    from sqlalchemy import URL  # comes with optuna

    address = URL.create("sqlite", database=str(path.resolve())).render_as_string()
    return address.replace("{", "{{").replace("}", "}}")


def metric_name(args) -> str:
    return str(args.metric_for_best_model).removeprefix("eval_")


def load_without_test(recipe: Recipe) -> Corpus:
    """The recipe's corpus; what is not there cannot be looked at."""
    corpus = load_corpus(recipe.data_file, recipe.synthetic, recipe.data_sha256, recipe.data_options, recipe.streaming)
    corpus.splits = {name: corpus.split(name) for name in SEARCHED_SPLITS}
    return corpus
