"""
Trains recipes with several seeds each and compares them.

    python compare.py recipes/self_mm_context.yaml recipes/sugrm_context.yaml --seeds 5 --data_file context_10.pkl
    python compare.py recipes/ablations/sugrm_table_4.yaml --corpus context --seeds 5 --data_file context_10.pkl

A file is a recipe, or a grid: a recipe and named variants of it (recipes/ablations). What follows that is not an option
below goes to every run, as to train.py (`--text_encoder`, `--num_train_epochs 3`). Seeds count up from each recipe's.

The folder then holds a run per variant and seed, comparison.md, comparison.csv (mean and standard deviation of every
result), runs.csv (every run), significance.csv (every pair: difference, interval, p) and comparison.png. Started again,
it goes on: finished runs are kept, and one that was interrupted is resumed; a data file must still have the same
content. A run that fails is listed, the others go on, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import difflib
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from datasets_scripts.programs import run_program
from training.comparison import Comparison, finished
from training.finished_run import RECIPE_FILE, RESULTS_FILE, SEED_PREFIX
from training.grid import Variant, expand
from training.measured import read_measured
from training.recipe import Recipe, load_yaml
from training.run_folder import differences
from training.significance import FEWEST_RESAMPLES, UNITS, compare_systems
from training.targets import Target

TRAIN = Path(__file__).resolve().parent / "train.py"


def parse(arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(
        usage="compare.py RECIPE_OR_GRID... [options] [--field value ...]",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--seeds", type=int, default=5, help="runs of each, with the recipe's seed and those after it")
    parser.add_argument("--output_dir", default="runs/compare", help="folder of all runs and of the comparison")
    parser.add_argument("--corpus", help="what {corpus} stands for in a grid's recipes")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time; above 1, seconds per epoch mean little")
    parser.add_argument(
        "--launch", default=shlex.quote(sys.executable), help='what starts train.py, such as "accelerate launch"'
    )
    parser.add_argument("--significance_metric", help="what is tested and sorted by; the target's selection metric")
    parser.add_argument("--reference", help="variant the others are compared with; the best on the validation split")
    parser.add_argument("--resample", choices=UNITS, default="samples", help="what the paired bootstrap draws")
    parser.add_argument("--resamples", type=int, default=10_000, help="how often it draws")
    parser.add_argument("--measured", help="CSV file of figures measured elsewhere: system, source, metrics")
    count = next((i for i, argument in enumerate(arguments) if argument.startswith("-")), len(arguments))
    options, rest = parser.parse_known_args(arguments[count:])
    options.files = arguments[:count]
    if not options.files:
        raise ValueError("The first arguments must be recipes or grids, YAML files; recipes/ has some.")
    if options.seeds < 1 or options.jobs < 1:
        raise ValueError(f"`--seeds` and `--jobs` must be at least 1; got {options.seeds} and {options.jobs}.")
    if options.resamples < FEWEST_RESAMPLES:
        raise ValueError(f"`--resamples` must be at least {FEWEST_RESAMPLES}; got {options.resamples}.")
    return options, rest


def main(arguments: list[str]) -> int:
    options, rest = parse(arguments)
    folder = Path(options.output_dir)
    variants = expand(options.files, rest, options.corpus)
    recipes = {variant.name: variant.recipe() for variant in variants}  # all are checked before the first one runs
    metric = _metric(options.significance_metric, [recipe.target for recipe in recipes.values()])
    if options.reference is not None and options.reference not in recipes:
        raise ValueError(_unknown("reference", options.reference, list(recipes)))
    figures = read_measured(options.measured) if options.measured else []
    runs = [run for variant in variants for run in _runs(variant, recipes[variant.name], options.seeds, folder)]
    waiting = [run for run in runs if not run.finished()]
    print(f"{len(runs)} runs, {len(runs) - len(waiting)} of them finished, in {folder}", flush=True)
    with ThreadPoolExecutor(options.jobs) as pool:
        failures = [message for message in pool.map(lambda run: run.train(options.launch, runs), waiting) if message]
    folders = {v.name: [r.path for r in runs if r.variant == v] for v in variants}
    model_types = {name: recipe.model_type for name, recipe in recipes.items()}
    comparison = Comparison.of_folders(folders, metric, figures=figures, model_types=model_types)
    if len(variants) > 1:
        targets = {name: recipe.target for name, recipe in recipes.items()}
        done = {name: finished(paths) for name, paths in folders.items()}
        found = compare_systems(done, targets, metric, options.resample, options.resamples)
        comparison.add_significance(found, options.reference)
    heading = f"{len(variants)} variants, {options.seeds} seeds"
    written = comparison.write(folder, heading)
    print("\n" + written[0].read_text(encoding="utf-8"))
    print("Wrote " + ", ".join(str(path) for path in written))
    for message in failures:
        print(message, file=sys.stderr)
    return 1 if failures else 0


class Run:
    """One variant with one seed, in a folder of its own."""

    def __init__(self, variant: Variant, recipe: Recipe, seed: int, folder: Path):
        self.variant = variant
        self.recipe = recipe
        self.seed = seed
        self.path = folder / variant.folder / f"{SEED_PREFIX}{seed}"
        self.log = self.path.with_suffix(".log")

    def finished(self) -> bool:
        """
        Raises:
            ValueError: if the folder holds a run of another recipe.
        """
        if (self.path / RECIPE_FILE).exists():
            recipe = self.variant.recipe("--seed", str(self.seed))
            # The file's SHA-256 is filled in by the run.
            found = differences(self.path / RECIPE_FILE, recipe, ignored=("data_sha256",))
            if found:
                raise ValueError(
                    f"{self.path} holds a run with another recipe ({'; '.join(found)}); give another --output_dir, or "
                    "delete that folder."
                )
        return (self.path / RESULTS_FILE).exists()

    @property
    def data_sha256(self) -> str | None:
        """Of the data that it was trained on; None for one that has not begun, and for synthetic data."""
        path = self.path / RECIPE_FILE
        return load_yaml(path).get("data_sha256") if path.exists() else None

    def train(self, launch: str, others: Sequence[Run]) -> str | None:
        """
        Runs train.py in a process of its own, and returns what went wrong; so does a data file whose content is not
        that which another run was trained on.
        """
        command = [*shlex.split(launch), str(TRAIN), *self.variant.arguments()]
        command += ["--seed", str(self.seed), "--output_dir", str(self.path)]
        same = (run.data_sha256 for run in others if run.recipe.data_file == self.recipe.data_file is not None)
        known = next((sha256 for sha256 in same if sha256), None)
        if known is not None and self.recipe.data_sha256 is None:
            command += ["--data_sha256", known]
        if (self.path / RECIPE_FILE).exists():
            command += ["--resume_from_checkpoint", "true"]
        print(f"{self.variant.name}, seed {self.seed} ...", flush=True)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with open(self.log, "a", encoding="utf-8") as log:
            code = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, env=os.environ).returncode
        lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["(no output)"]
        print(f"{self.variant.name}, seed {self.seed}: {lines[-1]}", flush=True)
        if code != 0 and known is not None and known in lines[-1]:
            lines[-1] += " For those of this comparison: give another --output_dir."
        if code != 0:
            return f"{self.variant.name}, seed {self.seed} failed with exit status {code}; see {self.log}: {lines[-1]}"
        return None


def _metric(name: str | None, targets: Sequence[Target]) -> str:
    """The metric to test: a name that some target has, or by what the first one's best epoch is chosen."""
    known = list(dict.fromkeys(metric for target in targets for metric in target.metric_names))
    if name is not None and name not in known:
        raise ValueError(_unknown("significance_metric", name, known))
    return name or targets[0].selection


def _unknown(option: str, value: str, known: Sequence[str]) -> str:
    nearest = difflib.get_close_matches(value, known, n=1, cutoff=0.0)[0]
    return f"`--{option}` must be one of {', '.join(known)}; got {value!r}. Nearest: {nearest!r}."


def _runs(variant: Variant, recipe: Recipe, seeds: int, folder: Path) -> list[Run]:
    first = recipe.training.get("seed", 42)
    if not isinstance(first, int):
        raise ValueError(f"{variant.name}: `training.seed` must be a whole number; got {first!r}.")
    return [Run(variant, recipe, first + number, folder) for number in range(seeds)]


if __name__ == "__main__":
    run_program(main)
