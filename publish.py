"""
Publishes a trained model, a dataset, the metric or a Space on the Hugging Face Hub, in one commit.

    python publish.py runs/mosi --repo_id org/self-mm-mosi
    python publish.py runs/compare/Self-MM --repo_id org/self-mm-mosi --dry_run published/self-mm-mosi
    python publish.py data/mosi --kind dataset --repo_id org/mosi
    python publish.py spaces/multimodal_sentiment --kind metric --repo_id org/multimodal_sentiment

A model is the folder of a run, or one with a run per seed, of which the best on the validation split is published and
all are on the card; with it go its processor, the code that it needs, its card, recipe and results. Before anything is
sent it is loaded in a fresh Python that cannot see this project, and must predict there, bit for bit, what it predicts
here. What is on the Hub already is not sent again: to publish twice changes nothing.

--dry_run FOLDER makes the folder and checks it, and sends nothing. A dataset is a folder that prepare_data.py made; it
becomes private unless --public says that it may be seen. HF_ENDPOINT, HF_TOKEN and `hf auth login` are those of
huggingface_hub.
"""

from __future__ import annotations

import argparse
import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from transformers.utils.logging import disable_progress_bar

from datasets_scripts.files import new_folder
from datasets_scripts.programs import run_program
from publishing import model_folder, space_folder
from publishing.dataset_folder import STALE as DATASET_STALE
from publishing.dataset_folder import check_dataset
from publishing.model_folder import build_model, find_run
from publishing.push import Kind, push
from publishing.space_folder import build_metric, build_space

# What is scored to see that the metric does the same elsewhere.
METRIC_CASES: list[tuple[str | None, list, list]] = [
    (None, [-1.6, 0.2, 2.5, -0.1], [-2.0, 0.0, 3.0, 1.0]),
    (
        "emotions",
        [[0.9, 0.1, 0.2, 0.6, 0.0, 0.0], [0.3, 0.7, 0.4, 0.1, 0.0, 0.6]],
        [[2, 0, 0, 0, 0, 0], [0, 1, 2, 0, 0, 1]],
    ),
]


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="the folder of a run, or of a dataset, a metric or a Space")
    parser.add_argument("--repo_id", required=True, metavar="ORG/NAME", help="where it goes")
    parser.add_argument("--kind", choices=list(BUILDERS), default="model")
    seen = parser.add_mutually_exclusive_group()
    seen.add_argument("--private", action="store_true", help="nobody else may see it (datasets: by default)")
    seen.add_argument("--public", action="store_true", help="everybody may see it (all but datasets: by default)")
    parser.add_argument("--dry_run", metavar="FOLDER", help="make this folder instead, and send nothing")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> None:
    options = parse(arguments)
    check_repo_id(options.repo_id)
    source = Path(options.source)
    if not source.is_dir():
        raise FileNotFoundError(f"{source} is not a folder; give that of a run, a dataset, a metric or a Space.")
    with new_folder(options.dry_run, "--dry_run") as folder:
        built = BUILDERS[options.kind](source.resolve(), folder, options)
        for note in built.notes:
            print(note)
        files = [file for file in built.folder.rglob("*") if file.is_file()]
        print(f"Checked: {len(files)} files, {sum(file.stat().st_size for file in files) / 1e6:.1f} MB.")
        if options.dry_run is None:
            private = options.private or (options.kind == "dataset" and not options.public)
            address = push(built.folder, options.repo_id, built.kind, private, built.message, built.stale)
            print(f"{options.repo_id} has all of this already." if address is None else f"Published: {address}")
    if options.dry_run is not None:
        print(f"Written to {options.dry_run}; nothing was sent.")


@dataclass
class Built:
    """A folder that was checked, and how it is sent: see `publishing.push`."""

    folder: Path
    kind: Kind
    message: str
    stale: Sequence[str]
    notes: Sequence[str] = ()


def model(source: Path, folder: Path, options: argparse.Namespace) -> Built:
    run = find_run(source)
    notes = build_model(run, folder, options.repo_id)
    message = f"{run.config.display_name}, seed {run.results['seed']}"
    return Built(folder, "model", message, model_folder.STALE, notes)


def dataset(source: Path, folder: Path, options: argparse.Namespace) -> Built:
    """A prepared folder is what is published, as it is: only a dry run copies it."""
    prepared = check_dataset(source)
    if options.dry_run is not None:
        shutil.copytree(source, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".*"))
    message = f"Rows of {prepared.report().source}"
    return Built(source if options.dry_run is None else folder, "dataset", message, DATASET_STALE)


def metric(source: Path, folder: Path, options: argparse.Namespace) -> Built:
    notes = build_metric(source, folder, METRIC_CASES)
    return Built(folder, "space", f"The metric {source.name}", space_folder.STALE, notes)


def space(source: Path, folder: Path, options: argparse.Namespace) -> Built:
    return Built(folder, "space", f"The Space {source.name}", space_folder.STALE, build_space(source, folder))


BUILDERS = {"model": model, "dataset": dataset, "metric": metric, "space": space}


def check_repo_id(repo_id: str) -> None:
    """
    Raises:
        ValueError: for anything but ORGANISATION/NAME.
    """
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise ValueError(f"--repo_id must be ORGANISATION/NAME; got {repo_id!r}: {error}") from None
    if repo_id.count("/") != 1:
        raise ValueError(f"--repo_id must be ORGANISATION/NAME; got {repo_id!r}.")


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    disable_progress_bar()
    run_program(main)
