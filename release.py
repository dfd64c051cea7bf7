"""
Makes the reference checkpoints again: trains them, builds what is published of each, and puts their cards into
model_cards/.

    python release.py --data ../shared/data/mosi
    python release.py --data ../shared/data/mosi --only mosi-text --text_encoder models/all-MiniLM-L6-v2

model_cards/releases.yaml says which recipes are trained on which file of the --data folder, and with how many seeds.
The output folder then holds the runs, and in published/ a folder for the Hub per checkpoint, checked as publish.py
checks it; `python publish.py RUNS/<release>/<system> --repo_id ORG/NAME` sends one. Started again, it goes on: finished
runs are kept, and only what follows from them is made anew.
"""

from __future__ import annotations

import argparse
import math
import shutil
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard
from transformers.utils.logging import disable_progress_bar

import compare
import plot_labels
import plot_masks
import publish
import robustness
from datasets_scripts import MODALITIES
from datasets_scripts.files import whole_file
from datasets_scripts.programs import run_program
from publishing.model_folder import find_run
from training.finished_run import FinishedRun
from training.grid import expand
from training.label_callback import HISTORY_FILE
from training.model_card import CARD_FILE, CARDS
from training.recipe import check_keys, load_yaml
from training.tables import QUOTED, markdown_row, shown_number

ROOT = Path(__file__).resolve().parent
RELEASES = CARDS / "releases.yaml"
INDEX = CARDS / "index.md.jinja"
KEYS = ("grid", "corpus", "data_file", "seeds", "noise")


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="the folder with the data files")
    parser.add_argument("--releases", default=str(RELEASES), help="what is trained, a YAML file")
    parser.add_argument("--only", nargs="+", metavar="RELEASE", help="which of the releases; by default all")
    parser.add_argument("--text_encoder", help="id or folder of the text encoder, in place of the recipes'")
    parser.add_argument("--organisation", default="sentimodal", help="under which the cards' examples load them")
    parser.add_argument("--output_dir", default="runs/release")
    parser.add_argument("--cards", default=str(CARDS), help="where the cards go")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    releases = read_releases(Path(options.releases), options.only)
    for name, release in releases.items():
        if not (Path(options.data) / release["data_file"]).is_file():
            raise FileNotFoundError(f"--data {options.data} has no {release['data_file']}, which {name} is trained on.")
    for name, release in releases.items():
        make(name, release, options)
        write_index(Path(options.cards))
    print(f"The cards are in {options.cards}.")
    return 0


def read_releases(path: Path, only: list[str] | None) -> dict[str, dict[str, Any]]:
    """
    Raises:
        ValueError: for a file that is not as it should be, or has no such release.
    """
    releases = load_yaml(path)
    if not isinstance(releases, dict):
        raise ValueError(f"{path} must map names of releases to what is trained; got {type(releases).__name__}.")
    check_keys("--only", dict.fromkeys(only or []), list(releases))
    for name, release in releases.items():
        check_keys(name, release, KEYS)
        missing = [key for key in KEYS if key not in release]
        if missing:
            raise ValueError(f"{path}: {name} must say its {missing[0]}.")
    return {name: release for name, release in releases.items() if only is None or name in only}


def make(name: str, release: dict[str, Any], options: argparse.Namespace) -> None:
    """Trains a release's systems, measures their robustness, builds their folders and copies their cards."""
    folder, grid = Path(options.output_dir) / name, str(ROOT / release["grid"])
    data_file = str(Path(options.data) / release["data_file"])
    encoder = [] if options.text_encoder is None else ["--text_encoder", options.text_encoder]
    arguments = ["--corpus", release["corpus"], "--seeds", str(release["seeds"]), "--output_dir", str(folder)]
    if compare.main([grid, *arguments, "--data_file", data_file, *encoder]) != 0:
        raise ValueError(
            f"Not all runs of {name} ended well; what failed is said above. Run this again when it is mended."
        )
    noise = [str(probability) for probability in release["noise"]]
    robustness.main([str(folder), "--data_file", data_file, "--noise", *noise])
    for variant in expand([grid], ["--data_file", data_file, *encoder], release["corpus"]):
        run = find_run(folder / variant.folder)
        checkpoint = f"{run.config.model_type.replace('_', '-')}-{name}"
        draw(run, data_file)
        published = Path(options.output_dir) / "published" / checkpoint
        shutil.rmtree(published, ignore_errors=True)
        repo_id = f"{options.organisation}/{checkpoint}"
        publish.main([str(folder / variant.folder), "--repo_id", repo_id, "--dry_run", str(published)])
        copy_card(published, Path(options.cards) / checkpoint)


def draw(run: FinishedRun, data_file: str) -> None:
    """The pictures that a card takes along where they are there."""
    if (run.path / HISTORY_FILE).exists():
        plot_labels.main([str(run.path)])
    if getattr(run.config, "feedback", "none") != "none":
        plot_masks.main([str(run.path), "--data_file", data_file])


def copy_card(published: Path, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for file in sorted(published.iterdir()):
        if file.name == CARD_FILE or file.suffix == ".png":
            shutil.copyfile(file, folder / file.name)


def write_index(cards: Path) -> None:
    """`README.md` of the folder of cards: a row per card in it, with its results on the test split."""
    found = {file.parent.name: ModelCard.load(file) for file in sorted(cards.glob(f"*/{CARD_FILE}"))}
    scored = {name: card.data.eval_results or [] for name, card in found.items()}
    results = {name: {one.metric_type: one.metric_value for one in scores} for name, scores in scored.items()}
    metrics = [name for name in QUOTED if any(name in scores for scores in results.values())]
    header = ["checkpoint", "trained on", "modalities", *metrics]
    rows = [markdown_row(*header), markdown_row(*["---"] * len(header))]
    for name, card in found.items():
        dataset = next((one.dataset_name for one in scored[name]), "")
        modalities = ", ".join(modality for modality in MODALITIES if modality in (card.data.tags or []))
        shown = [shown_number(metric, results[name].get(metric, math.nan)) for metric in metrics]
        rows.append(markdown_row(f"[{name}]({name}/{CARD_FILE})", dataset, modalities, *shown))
    text = INDEX.read_text(encoding="utf-8").replace("{{ table }}", "\n".join(rows))
    with whole_file(cards / CARD_FILE) as temporary:
        temporary.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    disable_progress_bar()
    run_program(main)
