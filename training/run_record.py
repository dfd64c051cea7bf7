"""What a run notes of itself for its model card: data, machine, seconds, energy, and how training went."""

from __future__ import annotations

import importlib.util
import json
import logging
import math
import os
import platform
import sys
import time
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import torch
from transformers import TrainerCallback, TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState

from datasets_scripts import MODALITIES
from datasets_scripts.files import write_json
from training.corpus import Corpus
from training.prediction import table_metrics
from training.targets import Target

RECORD_FILE = "training_record.json"
PACKAGES = ("torch", "transformers", "accelerate", "datasets", "tokenizers", "numpy")


class TrainingRecorder(TrainerCallback, ExportableState):
    """
    Measures a training: its seconds and, where codecarbon is installed, an estimate of its energy. What processes that
    were stopped had measured comes with the checkpoint that training goes on from.

    Attributes:
        seconds (`float`): From the beginning of training to now, or to its end.
        energy_kwh (`float`, *optional*): In kilowatt-hours, of the machine, while this training ran.
    """

    def __init__(self):
        self.seconds = 0.0
        self.energy_kwh: float | None = None
        self.since: float | None = None  # what is counted already, by the clock; None while nothing trains
        self.tracker = None

    def on_train_begin(self, args, state, control, **kwargs):
        before = {"seconds": 0.0, "energy_kwh": 0.0}
        if state.global_step > 0:
            saved = (state.stateful_callbacks or {}).get(type(self).__name__, {})
            before = saved.get("attributes", {"seconds": 0.0, "energy_kwh": None})
        self.tracker = _energy_tracker() if state.is_world_process_zero else None
        self.seconds = before["seconds"]
        # A part that nobody measured makes the sum unknown.
        self.energy_kwh = before["energy_kwh"] if self.tracker is not None else None
        self.since = time.perf_counter()
        if self.tracker is not None:
            self.tracker.start_task()

    def on_train_end(self, args, state, control, **kwargs):
        self._count()
        self.since = None

    def state(self) -> dict[str, Any]:
        if self.since is not None:
            self._count()
            if self.tracker is not None:
                self.tracker.start_task()
        return {"args": {}, "attributes": {"seconds": self.seconds, "energy_kwh": self.energy_kwh}}

    def _count(self) -> None:
        """Adds what has passed since the last time."""
        assert self.since is not None
        now = time.perf_counter()
        self.seconds, self.since = self.seconds + now - self.since, now
        if self.tracker is not None:
            measured = self.tracker.stop_task()  # None where it could not start
            known = self.energy_kwh is not None and measured is not None
            self.energy_kwh = self.energy_kwh + measured.energy_consumed if known else None

    def stage(self, state: TrainerState) -> dict[str, Any]:
        """
        Of the training that has just ended: `epochs`, `best_epoch`, whose checkpoint was kept, `train_seconds`,
        `energy_kwh` (None where it was not measured) and `history`.
        """
        best = [entry["epoch"] for entry in state.log_history if entry["step"] == state.best_global_step]
        return {
            "epochs": state.epoch or 0.0,
            "best_epoch": (best or [state.epoch or 0.0])[0],
            "train_seconds": self.seconds,
            "energy_kwh": self.energy_kwh,
            "history": history(state),
        }


def _energy_tracker():
    """
    A tracker of codecarbon that writes and sends nothing; None where it is not installed. The country only decides its
    estimate of emissions, of which nothing is used.
    """
    if importlib.util.find_spec("codecarbon") is None:
        return None
    from codecarbon import OfflineEmissionsTracker

    logging.getLogger("codecarbon").setLevel(logging.CRITICAL)  # it would say that it begins before it knows its level
    return OfflineEmissionsTracker(
        country_iso_code="USA", save_to_file=False, log_level="critical", allow_multiple_runs=True
    )


def history(state: TrainerState) -> list[dict[str, float | None]]:
    """An entry per evaluation: `epoch`, `loss`, of the training since the one before, and `valid_*`."""
    entries, loss = [], None
    for entry in state.log_history:
        loss = entry.get("loss", loss)
        if "eval_loss" in entry:
            metrics = {
                f"valid_{name.removeprefix('eval_')}": value
                for name, value in entry.items()
                if name.startswith("eval_") and not name.endswith(("_runtime", "_per_second"))
            }
            entries.append({"epoch": entry["epoch"], "loss": None if loss is None else float(loss), **metrics})
            loss = None
    return entries


def machine(args: TrainingArguments) -> dict[str, Any]:
    """What the run ran on, with what: nothing that names the machine or its user."""
    gpu = torch.cuda.get_device_name(args.device) if args.device.type == "cuda" else None
    memory = None
    with suppress(ValueError, OSError, AttributeError):  # not every system says
        memory = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    versions = {name: metadata.version(name) for name in PACKAGES}
    if importlib.util.find_spec("codecarbon") is not None:
        versions["codecarbon"] = metadata.version("codecarbon")
    return {
        "gpu": gpu,
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gib": memory,
        "processes": args.world_size,
        "system": f"{platform.system()} {platform.machine()}",
        "precision": "bf16" if args.bf16 else "fp16" if args.fp16 else "fp32",
        "python": platform.python_version(),
        "versions": versions,
    }


def _processor() -> str:
    if sys.platform == "linux":
        with suppress(OSError):
            for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def described(corpus: Corpus) -> dict[str, Any]:
    """What the card says of the data. None of it is a row."""
    return {
        "name": corpus.name,
        "corpus": corpus.known,
        "sha256": corpus.sha256,
        "splits": {split: len(rows) for split, rows in corpus.splits.items()},
        "notes": corpus.notes,
    }


def unimodal_results(predictions: dict[str, pa.Table], corpus: Corpus, target: Target) -> dict[str, dict[str, Any]]:
    """
    How good each modality's own prediction is, on the samples that have the modality: by modality, `against` ("own
    labels", the modality's, where the corpus has them, else "multimodal labels") and the metrics of each split.
    """
    found: dict[str, dict[str, Any]] = {}
    for modality in MODALITIES:
        column = f"{modality}_label"
        own = not target.of_emotions and all(column in corpus.splits[name].column_names for name in predictions)
        scores = {}
        for name, table in predictions.items():
            if own:
                labels = pa.array(corpus.splits[name][column][:], pa.float32(), from_pandas=True)
                table = table.set_column(table.column_names.index("label"), "label", labels)
                table = table.filter(pc.is_valid(table["label"]))
            scores[name] = table_metrics(table, target, modality)
        if any(scores.values()):
            found[modality] = {"against": "own labels" if own else "multimodal labels", **scores}
    return found


def write_record(folder: Path, record: dict[str, Any]) -> None:
    """`training_record.json`; a number that is not defined is null."""
    write_json(folder / RECORD_FILE, without_nan(record))


def read_record(folder: Path) -> dict[str, Any]:
    return json.loads((folder / RECORD_FILE).read_text(encoding="utf-8"))


def without_nan(value: Any) -> Any:
    """JSON has neither NaN nor infinities: None stands for them."""
    if isinstance(value, dict):
        return {key: without_nan(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
