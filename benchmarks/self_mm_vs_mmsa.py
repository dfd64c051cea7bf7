"""
Seconds per epoch (training and validation) of Self-MM here and in MMSA, on the same file and text encoder, in turn.

    pip install --no-deps mmsa && pip install easydict nvidia-ml-py3 pandas scikit-learn
    python benchmarks/self_mm_vs_mmsa.py --data_file text_timing_50.pkl --text_encoder FOLDER

MMSA runs with its own defaults for CMU-MOSI; two of its assumptions about the machine (a GPU; `verbose` in a scheduler)
are worked around. Here the recipe runs as it is, for as many epochs. The file is unpickled by MMSA with plain `pickle`:
give it only a file that you trust.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pickle
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_file", required=True)
    parser.add_argument("--text_encoder", required=True)
    parser.add_argument("--recipe", default=str(ROOT / "recipes" / "self_mm_text_timing.yaml"))
    parser.add_argument("--epochs", type=int, default=2, help="per round")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--only", choices=("mmsa", "sentimodal"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        seconds = {"mmsa": mmsa_epochs, "sentimodal": our_epochs}[options.only](options)
        print("SECONDS " + json.dumps(seconds))
        return

    seconds: dict[str, list[float]] = {"mmsa": [], "sentimodal": []}
    for _ in range(options.rounds):
        for name, measured in seconds.items():
            command = [sys.executable, __file__, *sys.argv[1:], "--only", name]
            run = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
            lines = [line for line in run.stdout.splitlines() if line.startswith("SECONDS ")]
            if not lines:
                sys.exit(f"{name} failed:\n{run.stderr[-3000:]}")
            measured += json.loads(lines[0].removeprefix("SECONDS "))
    print(f"{'':12}{'min':>8}{'median':>8}{'max':>8}   seconds per epoch, {options.rounds} x {options.epochs} epochs")
    for name, measured in seconds.items():
        print(f"{name:12}{min(measured):8.1f}{statistics.median(measured):8.1f}{max(measured):8.1f}")
    ratio = statistics.median(seconds["sentimodal"]) / statistics.median(seconds["mmsa"])
    print(f"sentimodal needs {ratio:.2f} of MMSA's seconds per epoch (medians)")


def our_epochs(options: argparse.Namespace) -> list[float]:
    import train
    from training.progress import EpochLine

    marks = []
    EpochLine.on_epoch_begin = lambda self, *a, **k: marks.append(time.perf_counter()) if not marks else None
    EpochLine.on_evaluate = lambda self, *a, **k: marks.append(time.perf_counter())
    with tempfile.TemporaryDirectory() as folder:
        arguments = ["--data_file", options.data_file, "--text_encoder", options.text_encoder]
        arguments += ["--num_train_epochs", str(options.epochs), "--output_dir", folder + "/run"]
        train.main([options.recipe, *arguments])
    return [after - before for before, after in zip(marks[:-1], marks[1:], strict=True)]


class EnoughEpochsError(Exception):
    """Ends MMSA's training loop, which has no limit of its own."""


def mmsa_epochs(options: argparse.Namespace) -> list[float]:
    import torch

    if not torch.cuda.is_available():
        torch.cuda.set_device = lambda device: None
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau.__init__
    torch.optim.lr_scheduler.ReduceLROnPlateau.__init__ = lambda self, *a, verbose=None, **k: plateau(self, *a, **k)

    from MMSA import MMSA_run, get_config_regression
    from MMSA.trains.multiTask.SELF_MM import SELF_MM

    marks = []

    def timed(method):
        def test(self, model, dataloader, mode="VAL", **kwargs):
            result = method(self, model, dataloader, mode=mode, **kwargs)
            marks.append(time.perf_counter())
            if len(marks) > options.epochs:
                raise EnoughEpochsError
            return result

        return test

    initialise = SELF_MM.init_labels

    def first_labels(self, *args):
        marks[:] = [time.perf_counter()]  # the last mini-batch of the pass before the first epoch sets the start
        return initialise(self, *args)

    SELF_MM.init_labels = first_labels
    SELF_MM.do_test = timed(SELF_MM.do_test)

    with open(options.data_file, "rb") as file:
        data = pickle.load(file)
    for part in data.values():  # its LSTMs refuse empty sequences, and it wants text features that it does not use
        for name in ("audio_lengths", "vision_lengths"):
            part[name] = [max(1, int(length)) for length in part[name]]
        part.setdefault("text", torch.zeros(len(part["id"]), 1, 1).numpy())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data.pkl"
        path.write_bytes(pickle.dumps(data))
        config = get_config_regression("self_mm", "mosi")
        config["featurePath"] = str(path)
        config["train_samples"] = len(data["train"]["id"])
        config["seq_lens"] = [data["train"][name].shape[1] for name in ("text", "audio", "vision")]
        config["pretrained"] = options.text_encoder
        config["text_out"] = json.loads((Path(options.text_encoder) / "config.json").read_text())["hidden_size"]
        places = {name: Path(folder) / name for name in ("model_save_dir", "res_save_dir", "log_dir")}
        settings = {"seeds": [1111], "gpu_ids": [], "num_workers": 0, "verbose_level": 0}
        with contextlib.suppress(EnoughEpochsError):
            MMSA_run("self_mm", "mosi", config=config, **settings, **places)
    return [after - before for before, after in zip(marks[:-1], marks[1:], strict=True)]


if __name__ == "__main__":
    main()
