"""
Evaluates checkpoints with modalities removed and with noise on them (the protocol of UCRN, section 4.4).

    python robustness.py runs/ucrn --noise 0.25 0.5 0.75 1
    python robustness.py runs/ucrn runs/delta_attention --data_file context_10.pkl --output runs/robustness
    python robustness.py runs/compare

A folder is a checkpoint, or holds several, as compare.py leaves them: <variant>/seed_<number>. The results of a
variant's runs are averaged. Without --data_file the data is what the runs were trained on.

Conditions: all modalities; each part of the modalities that the checkpoint reads and the data has, the others removed;
and, for each probability p of --noise, noise on each modality alone and on all: x' = x + s b, with b drawn from
Bernoulli(p) for every step and feature and s the feature's standard deviation over the split's steps. The paper gives
the noise no scale; this one is ours. Text that comes as tokens has no features to add to: there each token that is not
a special one is replaced with probability p by the tokenizer's mask token or, without one, its unknown token.

Writes robustness.md (results, relative drops in percent, and those in the layout of UCRN's tables 4 and 5),
robustness.csv (a row per run, condition and metric) and robustness.png.
"""

from __future__ import annotations

import argparse
from itertools import groupby
from pathlib import Path

from transformers.utils.logging import disable_progress_bar

from datasets_scripts import SPLITS
from datasets_scripts.files import check_writable
from datasets_scripts.programs import run_program
from training.plots import pyplot
from training.robustness import Evaluation, find_runs, load_common_data
from training.robustness_report import RobustnessReport, main_metric


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", metavar="FOLDER", help="a checkpoint, or a folder of compare.py")
    parser.add_argument("--data_file", help="a source of data or a prepared folder; by default what the runs read")
    parser.add_argument("--split", default="test", choices=SPLITS)
    parser.add_argument(
        "--noise", nargs="*", type=float, default=[0.5], help="probabilities; without a value, no noise"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the noise")
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--output", help="a folder; by default `robustness` in FOLDER, if there is one FOLDER")
    options = parser.parse_args(arguments)
    for probability in options.noise:
        if not 0 <= probability <= 1:
            raise ValueError(f"`--noise` takes probabilities from 0 to 1; got {probability:g}. Give others.")
    if options.seed < 0 or options.batch_size < 1:
        raise ValueError(
            f"`--seed` must be at least 0 and `--batch_size` at least 1; got {options.seed} and {options.batch_size}."
        )
    if options.output is None and len(options.folders) > 1:
        raise ValueError(
            f"With several folders, `--output` says where the tables go; got {len(options.folders)} folders and no "
            "`--output`. Give one."
        )
    return options


def main(arguments: list[str]) -> list[Path]:
    options = parse(arguments)
    output = Path(options.output or Path(options.folders[0]) / "robustness")
    if output.is_file():
        raise ValueError(f"`--output` must be a folder; {output} is a file. Give another.")
    check_writable(output, "--output")
    pyplot()  # that it lacks is better known now than in the end
    runs, unfinished = find_runs(options.folders)
    corpus = load_common_data(runs, options.data_file)
    target = runs[0].target
    evaluation = Evaluation(corpus, options.split, options.noise, options.seed, options.batch_size)
    for path in unfinished:
        evaluation.note(f"{path.parent.name}, {path.name} is left out: it has no checkpoint yet.")
    measured, shown = [], main_metric(target)
    for run in runs:
        for kind, found in groupby(evaluation.measure(run), key=lambda one: one.condition.kind):
            results = list(found)
            measured += results
            values = [one.scores[shown] for one in results]
            numbers = " to ".join(dict.fromkeys(f"{value:.4f}" for value in (min(values), max(values))))
            print(f"{run.label}: {kind} ({len(results)}): {shown} {numbers}", flush=True)

    heading = f"Robustness on the {options.split} split of {corpus.name} ({len(evaluation.rows)} samples)"
    written = RobustnessReport(target, measured, evaluation.notes).write(output, heading)
    print("\n" + written[0].read_text(encoding="utf-8"))
    print("Wrote " + ", ".join(str(path) for path in written))
    return written


if __name__ == "__main__":
    disable_progress_bar()
    run_program(main)
