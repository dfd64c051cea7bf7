"""
Searches for better values of a recipe's fields.

    python tune.py recipes/search/self_mm_quickstart.yaml --trials 40 --output_dir runs/tune
    python tune.py recipes/search/self_mm_quickstart.yaml --trials 40 --num_train_epochs 5

The recipe's `search` says which fields, and where their values lie (training/search_space.py); `train.py` does not read
it. What follows and is no option below changes the recipe, as with train.py (`--seed 1112`, `--data_file FILE`).

Each trial is a training with the recipe's seed, judged by its best epoch on the validation split; the first one has the
recipe's own values, the others are drawn by optuna's TPE (at random, until ten have a value). A trial whose best epoch
is worse than the median of what the finished ones had by then is given up; one whose values do not go together, or that
diverges, is listed as failed. The test split is thrown away as soon as the data is read.

The folder then holds best_recipe.yaml, which train.py runs, trials.csv, trials.png, and trials.db, the finished trials.
Started again, it goes on until there are as many as --trials says, and they are those of an unbroken search.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from datasets import disable_progress_bars
from transformers.utils.logging import disable_progress_bar

import modeling  # noqa: F401  (registers the architectures)
from datasets_scripts.programs import run_program
from training.preparation import flush_denormals
from training.recipe import Recipe
from training.search import Search
from training.search_report import draw, trial_line, write_best, write_table


def parse(arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(
        usage="tune.py RECIPE --trials N [options] [--field value ...]",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--trials", type=int, required=True, help="how many, with those that the folder has already")
    parser.add_argument("--output_dir", default="runs/tune", help="folder of the search")
    parser.add_argument("--no_pruning", action="store_true", help="let every trial run to its end")
    parser.add_argument("--startup_trials", type=int, default=5, help="trials to be finished before any is pruned")
    parser.add_argument("--warmup_epochs", type=int, default=2, help="epochs of every trial before it may be pruned")
    options, rest = parser.parse_known_args(arguments)
    for name, least in (("trials", 1), ("startup_trials", 0), ("warmup_epochs", 0)):
        if getattr(options, name) < least:
            raise ValueError(f"`--{name}` must be at least {least}; got {getattr(options, name)}.")
    return options, rest


def main(arguments: list[str]) -> Path:
    flush_denormals()
    options, rest = parse(arguments)
    recipe = Recipe.from_command_line(rest)
    search = Search(recipe, options.output_dir, not options.no_pruning, options.startup_trials, options.warmup_epochs)
    if search.trials:
        print(f"{len(search.trials)} trials are in {search.folder}", flush=True)
    for trial in search.run(options.trials):
        print(trial_line(search, trial), flush=True)
    written = [write_table(search), draw(search), write_best(search)]
    own, best = search.trials[0], search.best()
    print(f"{search.metric} on the validation split: {own.value:.4f} with the recipe's own values")
    print(f"{search.metric} on the validation split: {best.value:.4f} with the best ones, those of trial {best.number}")
    print("Wrote " + ", ".join(str(path) for path in written))
    print("The test split was not looked at.")
    return search.folder


if __name__ == "__main__":
    disable_progress_bar()
    disable_progress_bars()
    run_program(main)
