"""What a run notes of itself: seconds and energy over stages and interruptions, its history, machine and heads."""

import getpass
import importlib.util
import json
import math
import platform
import sys
import types

import numpy as np
import pyarrow as pa
import pytest
from datasets import Dataset
from transformers import TrainerControl, TrainerState, TrainingArguments

import train
from datasets_scripts import EMOTIONS, MODALITIES
from tests.conftest import killed_run
from training import run_record
from training.corpus import Corpus
from training.run_record import (
    RECORD_FILE,
    TrainingRecorder,
    described,
    history,
    machine,
    read_record,
    unimodal_results,
    without_nan,
    write_record,
)
from training.targets import Target

KWH = 0.25  # of each task of the stand-in
STAND_IN = """
class Data:
    energy_consumed = 0.25

class OfflineEmissionsTracker:
    made, tasks = [], 0

    def __init__(self, **options):
        assert options["save_to_file"] is False
        self.running = False
        self.made.append(self)

    def start_task(self):
        assert not self.running, "a task is running"
        self.running = True

    def stop_task(self):
        assert self.running, "no task is running"
        self.running = False
        type(self).tasks += 1
        return Data()
"""


@pytest.fixture
def without_codecarbon(monkeypatch):
    monkeypatch.setitem(sys.modules, "codecarbon", None)  # what importlib finds where there is none


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """A package codecarbon whose every task takes `KWH`; its tracker class, which counts them."""
    folder = tmp_path / "packages"
    (folder / "codecarbon-9.8.7.dist-info").mkdir(parents=True)
    (folder / "codecarbon-9.8.7.dist-info" / "METADATA").write_text("Name: codecarbon\nVersion: 9.8.7\n")
    (folder / "codecarbon.py").write_text(STAND_IN)
    for name in [name for name in sys.modules if name.partition(".")[0] == "codecarbon"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(folder)
    tracker = importlib.import_module("codecarbon").OfflineEmissionsTracker
    yield tracker
    del sys.modules["codecarbon"]


@pytest.fixture
def clock(monkeypatch):
    """Time as the recorder sees it; it passes when `seconds` is changed."""
    now = types.SimpleNamespace(seconds=1000.0)
    monkeypatch.setattr(run_record, "time", types.SimpleNamespace(perf_counter=lambda: now.seconds))
    return now


@pytest.fixture
def ticks(monkeypatch):
    """A clock that goes on by one second whenever the recorder looks at it."""
    count = iter(range(10**6))
    monkeypatch.setattr(run_record, "time", types.SimpleNamespace(perf_counter=lambda: float(next(count))))


def train_for(recorder, clock, *parts, state=None):
    """A training whose checkpoints come after `parts`, but for the last, in seconds; the states of these."""
    state, saved = state or TrainerState(), []
    recorder.on_train_begin(None, state, TrainerControl())
    for part in parts[:-1]:
        clock.seconds += part
        saved.append(recorder.state())
    clock.seconds += parts[-1]
    recorder.on_train_end(None, state, TrainerControl())
    return saved


def going_on(saved, step=5):
    """The trainer's state after `saved` was read from a checkpoint."""
    return TrainerState(global_step=step, stateful_callbacks={"TrainingRecorder": json.loads(json.dumps(saved))})


def test_seconds_and_energy_of_a_training(stand_in, clock):
    recorder = TrainingRecorder()
    assert recorder.state()["attributes"] == {"seconds": 0.0, "energy_kwh": None}
    saved = train_for(recorder, clock, 3, 4, 5)
    clock.seconds += 100  # after its end nothing counts
    assert (recorder.seconds, recorder.energy_kwh) == (12, 3 * KWH)
    assert [one["attributes"] for one in saved] == [
        {"seconds": 3, "energy_kwh": KWH},
        {"seconds": 7, "energy_kwh": 2 * KWH},
    ]
    assert recorder.state()["attributes"] == {"seconds": 12, "energy_kwh": 3 * KWH}
    assert not any(tracker.running for tracker in stand_in.made)


def test_without_codecarbon_there_are_seconds_only(without_codecarbon, clock):
    recorder = TrainingRecorder()
    train_for(recorder, clock, 3, 4)
    assert (recorder.seconds, recorder.energy_kwh) == (7, None)


def test_only_the_main_process_measures_energy(stand_in, clock):
    recorder = TrainingRecorder()
    train_for(recorder, clock, 3, state=TrainerState(is_world_process_zero=False))
    assert (recorder.seconds, recorder.energy_kwh, stand_in.made) == (3, None, [])


def test_each_stage_begins_at_zero(stand_in, clock):
    recorder = TrainingRecorder()
    train_for(recorder, clock, 3, 4)
    # The state of a new trainer holds what its callbacks had; nothing of it is this training's.
    fresh = TrainerState(stateful_callbacks={"TrainingRecorder": recorder.state()})
    train_for(recorder, clock, 5, state=fresh)
    assert (recorder.seconds, recorder.energy_kwh) == (5, KWH)


def test_a_training_that_goes_on_adds_to_what_its_checkpoint_has(stand_in, clock):
    saved = train_for(TrainingRecorder(), clock, 3, 4, 50)
    recorder = TrainingRecorder()
    again = train_for(recorder, clock, 10, 20, state=going_on(saved[1]))
    assert (recorder.seconds, recorder.energy_kwh) == (37, 4 * KWH)
    assert again[0]["attributes"] == {"seconds": 17, "energy_kwh": 3 * KWH}


def test_a_part_that_nobody_measured_makes_the_energy_unknown(stand_in, clock, monkeypatch):
    measured = train_for(TrainingRecorder(), clock, 3, 4)[0]
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "codecarbon", None)
        unmeasured = train_for(TrainingRecorder(), clock, 3, 4)[0]
        recorder = TrainingRecorder()
        train_for(recorder, clock, 10, state=going_on(measured))
        assert (recorder.seconds, recorder.energy_kwh) == (13, None)
    recorder = TrainingRecorder()
    train_for(recorder, clock, 5, 5, state=going_on(unmeasured))
    assert (recorder.seconds, recorder.energy_kwh) == (13, None)


def test_a_checkpoint_of_before_there_was_a_recorder(stand_in, clock):
    recorder = TrainingRecorder()
    train_for(recorder, clock, 10, state=TrainerState(global_step=5, stateful_callbacks={}))
    assert (recorder.seconds, recorder.energy_kwh) == (10, None), "the energy of what came before is not known"


def test_a_tracker_that_fails_costs_the_energy_and_not_the_training(stand_in, clock, monkeypatch):
    """What codecarbon gives back where it could not start."""
    monkeypatch.setattr(stand_in, "stop_task", lambda self: setattr(self, "running", False))
    recorder = TrainingRecorder()
    train_for(recorder, clock, 3, 4)
    assert (recorder.seconds, recorder.energy_kwh) == (7, None)


@pytest.mark.skipif(importlib.util.find_spec("codecarbon") is None, reason="codecarbon is not installed")
@pytest.mark.slow
def test_the_real_codecarbon_measures_and_leaves_nothing(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    recorder, state = TrainingRecorder(), TrainerState()
    recorder.on_train_begin(None, state, TrainerControl())
    matrix = np.random.default_rng(0).normal(size=(500, 500))
    for _ in range(2):
        for _ in range(100):
            matrix = np.tanh(matrix @ matrix)
        first = recorder.state()["attributes"]["energy_kwh"]
    recorder.on_train_end(None, state, TrainerControl())
    assert 0 < first <= recorder.energy_kwh < 1
    assert recorder.energy_kwh / (recorder.seconds / 3600) < 10  # kilowatts
    assert list(tmp_path.iterdir()) == []
    assert "".join(capfd.readouterr()) == ""


# Through real trainings.


SAVING = ("--eval_strategy", "steps", "--eval_steps", "2", "--save_strategy", "steps", "--save_steps", "2")


def test_a_run_that_was_stopped_sums_up_what_its_parts_took(stand_in, ticks, tiny_recipe, tmp_path, monkeypatch):
    """Every look at the clock is a second and every task the same energy: both count the parts that are measured."""
    recipe, out = tiny_recipe(label_generation="none"), tmp_path / "run"
    arguments = [recipe, *SAVING, "--num_train_epochs", "2", "--output_dir", str(out)]
    killed_run(monkeypatch, arguments, 7)
    before = stand_in.tasks
    saved = json.loads((out / "checkpoint-6" / "trainer_state.json").read_text())
    assert saved["stateful_callbacks"]["TrainingRecorder"]["attributes"] == {
        "seconds": float(before),
        "energy_kwh": before * KWH,
    }
    train.main([*arguments, "--resume_from_checkpoint", "true"])
    assert stand_in.tasks > before > 0
    record = read_record(out)
    (stage,) = record["stages"]
    assert stage["energy_kwh"] == pytest.approx(stand_in.tasks * KWH)
    assert stage["train_seconds"] == pytest.approx(stand_in.tasks)
    assert json.loads((out / "all_results.json").read_text())["train_seconds"] == stage["train_seconds"]
    assert record["machine"]["versions"]["codecarbon"] == "9.8.7"
    assert "codecarbon 9.8.7" in (out / "README.md").read_text()


def test_a_run_that_was_stopped_without_codecarbon(stand_in, ticks, tiny_recipe, tmp_path, monkeypatch):
    recipe, out = tiny_recipe(label_generation="none"), tmp_path / "run"
    arguments = [recipe, *SAVING, "--num_train_epochs", "2", "--output_dir", str(out)]
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "codecarbon", None)
        killed_run(patch, arguments, 7)
    train.main([*arguments, "--resume_from_checkpoint", "true"])
    assert stand_in.tasks > 0
    assert read_record(out)["stages"][0]["energy_kwh"] is None
    assert "not measured" in (out / "README.md").read_text()


def test_the_record_of_a_run_with_stages(stand_in, ticks, tiny_recipe, tmp_path):
    stages = [{"name": name, "training": {"num_train_epochs": epochs}} for name, epochs in (("one", 2), ("two", 1))]
    recipe, out = tiny_recipe(label_generation="none", stages=stages), tmp_path / "run"
    train.main([recipe, "--output_dir", str(out)])
    record = read_record(out)
    assert [(stage["name"], stage["epochs"]) for stage in record["stages"]] == [("one", 2.0), ("two", 1.0)]
    assert sum(stage["energy_kwh"] for stage in record["stages"]) == pytest.approx(stand_in.tasks * KWH)
    for stage in record["stages"]:
        assert [entry["epoch"] for entry in stage["history"]] == [*range(1, int(stage["epochs"]) + 1)]
        errors = {entry["epoch"]: entry["valid_mae"] for entry in stage["history"]}
        assert errors[stage["best_epoch"]] == min(errors.values())
        assert all(entry["loss"] > 0 for entry in stage["history"])
    assert record["data"]["splits"] == {"train": 48, "valid": 16, "test": 16}
    assert record["data"]["name"] == "synthetic corpus" and record["data"]["corpus"] is None
    assert "NaN" not in (out / RECORD_FILE).read_text()


# History.


def logged(*entries):
    state = TrainerState(epoch=entries[-1]["epoch"] if entries else None)
    state.log_history = list(entries)
    return state


def test_history_has_an_entry_per_evaluation():
    state = logged(
        {"epoch": 1.0, "step": 5, "loss": 2.5, "learning_rate": 1e-3},
        {"epoch": 1.0, "step": 5, "eval_loss": 2.0, "eval_mae": 0.5, "eval_runtime": 1.0, "eval_samples_per_second": 9},
        {"epoch": 2.0, "step": 10, "loss": math.nan},
        {"epoch": 2.0, "step": 10, "eval_loss": math.nan, "eval_mae": 0.25, "eval_steps_per_second": 3.0},
        {"epoch": 2.0, "step": 10, "train_runtime": 3.0, "train_loss": 2.0},
    )
    first, second = history(state)
    assert first == {"epoch": 1.0, "loss": 2.5, "valid_loss": 2.0, "valid_mae": 0.5}
    assert second["valid_mae"] == 0.25 and math.isnan(second["loss"]) and math.isnan(second["valid_loss"])
    assert without_nan(second) == {"epoch": 2.0, "loss": None, "valid_loss": None, "valid_mae": 0.25}


def test_history_before_the_first_loss_and_without_any():
    evaluated = {"epoch": 0.5, "step": 2, "eval_loss": 1.0}
    assert history(logged(evaluated)) == [{"epoch": 0.5, "loss": None, "valid_loss": 1.0}]
    assert history(logged()) == []


def test_the_best_epoch_is_that_of_the_best_step():
    recorder = TrainingRecorder()
    state = logged(
        {"epoch": 1.0, "step": 5, "loss": 2.5},
        {"epoch": 1.0, "step": 5, "eval_loss": 2.0},
        {"epoch": 3.0, "step": 15, "eval_loss": 3.0},
    )
    state.best_global_step = 5
    stage = recorder.stage(state)
    assert (stage["epochs"], stage["best_epoch"]) == (3.0, 1.0)
    state.best_global_step = None  # nothing chose one: the last is kept
    assert recorder.stage(state)["best_epoch"] == 3.0


# The machine and the data.


def test_a_machine_has_no_name(tmp_path):
    found = machine(TrainingArguments(output_dir=str(tmp_path), use_cpu=True, bf16=True))
    text = json.dumps(found)
    for name in (platform.node(), getpass.getuser(), str(tmp_path)):
        # A name of one word, such as "linux" or "root", may be part of something else.
        assert not [word for word in text.replace('"', " ").split() if word.strip(",") == name]
    assert (found["gpu"], found["precision"], found["processes"]) == (None, "bf16", 1)
    assert found["cores"] >= 1 and found["threads"] >= 1 and found["processor"] and found["memory_gib"] > 0
    assert found["python"] == platform.python_version()
    for name in ("torch", "transformers", "numpy"):
        assert found["versions"][name] == importlib.import_module(name).__version__.partition("+")[0] or (
            found["versions"][name] == importlib.import_module(name).__version__
        )


def test_a_machine_without_codecarbon_does_not_name_it(without_codecarbon, tmp_path):
    assert "codecarbon" not in machine(TrainingArguments(output_dir=str(tmp_path), use_cpu=True))["versions"]


def corpus_of(**splits):
    rows = {name: Dataset.from_dict(columns).with_format("numpy") for name, columns in splits.items()}
    return Corpus(rows, "some data", "ab" * 32, ["A note."], "mosi")


def test_data_are_described_without_rows():
    corpus = corpus_of(train={"id": ["secret1", "secret2"]}, test={"id": ["secret3"]})
    found = described(corpus)
    assert found == {
        "name": "some data",
        "corpus": "mosi",
        "sha256": "ab" * 32,
        "splits": {"train": 2, "test": 1},
        "notes": ["A note."],
    }


def test_a_record_is_json_without_nan(tmp_path):
    record = {"a": math.nan, "b": [1.0, math.nan, {"c": (math.nan, "nan", None, 2)}], "ä": "ö"}
    assert without_nan(record) == {"a": None, "b": [1.0, None, {"c": [None, "nan", None, 2]}], "ä": "ö"}
    write_record(tmp_path, record)
    assert read_record(tmp_path) == without_nan(record)
    assert "NaN" not in (tmp_path / RECORD_FILE).read_text(encoding="utf-8")
    assert [path.name for path in tmp_path.iterdir()] == [RECORD_FILE]


# How good each modality is alone.


def pearson(xs, ys):
    mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
    products = sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True))
    squares = sum((x - mean_x) ** 2 for x in xs) * sum((y - mean_y) ** 2 for y in ys)
    return products / math.sqrt(squares)


def assert_scores(found, predictions, labels):
    """Against loops, over the samples that have both."""
    pairs = [(p, y) for p, y in zip(predictions, labels, strict=True) if p is not None and y is not None]
    assert len(pairs) > 2
    assert found["mae"] == pytest.approx(sum(abs(p - y) for p, y in pairs) / len(pairs), abs=1e-6)
    assert found["corr"] == pytest.approx(pearson(*zip(*pairs, strict=True)), abs=1e-6)
    assert found["acc2_has0"] == pytest.approx(sum((p >= 0) == (y >= 0) for p, y in pairs) / len(pairs))


def sentiment_table(random, samples, missing=()):
    """Predictions of sentiments, float32; `missing` are (modality, rows) without that modality's own."""
    columns = {"id": [f"s{i}" for i in range(samples)], "label": random.uniform(-3, 3, samples).astype(np.float32)}
    for prefix in ("", *(f"{modality}_" for modality in MODALITIES)):
        values = random.uniform(-3, 3, samples).astype(np.float32).astype(float).tolist()
        for modality, rows in missing:
            if prefix == f"{modality}_":
                values = [None if i in rows else value for i, value in enumerate(values)]
        columns[f"{prefix}prediction"] = pa.array(values, pa.float32())
    return pa.table(columns)


@pytest.fixture
def random():
    return np.random.default_rng(0)


def test_each_modality_against_the_labels_of_all(random):
    missing = [("text", (1, 4)), ("vision", range(20))]
    tables = {split: sentiment_table(random, 20, missing) for split in ("valid", "test")}
    corpus = corpus_of(**{split: {"id": table["id"].to_pylist()} for split, table in tables.items()})
    found = unimodal_results(tables, corpus, Target("sentiment"))
    assert set(found) == {"text", "audio"}, "no sample has vision"
    for modality, scores in found.items():
        assert scores["against"] == "multimodal labels" and set(scores) == {"against", "valid", "test"}
        for split, table in tables.items():
            assert set(scores[split]) == set(Target("sentiment").metric_names)
            own, labels = table[f"{modality}_prediction"].to_pylist(), table["label"].to_pylist()
            assert_scores(scores[split], own, labels)


def test_each_modality_against_its_own_labels(random):
    """Labels of its own that some samples lack, and one modality without any in one split."""
    tables = {split: sentiment_table(random, 20, [("text", (1, 4))]) for split in ("valid", "test")}
    splits = {}
    for split, table in tables.items():
        labels = {m: random.uniform(-3, 3, 20).astype(np.float32).astype(float).tolist() for m in MODALITIES}
        labels["text"][2] = labels["audio"][7] = None
        splits[split] = {"id": table["id"].to_pylist(), **{f"{m}_label": values for m, values in labels.items()}}
    del splits["valid"]["vision_label"]
    found = unimodal_results(tables, corpus_of(**splits), Target("sentiment"))
    against = {modality: scores["against"] for modality, scores in found.items()}
    assert against == {"text": "own labels", "audio": "own labels", "vision": "multimodal labels"}
    for modality, scores in found.items():
        for split, table in tables.items():
            labels = table["label"].to_pylist() if modality == "vision" else splits[split][f"{modality}_label"]
            assert_scores(scores[split], table[f"{modality}_prediction"].to_pylist(), labels)


def test_a_model_without_predictions_of_one_modality(random):
    tables = {"test": sentiment_table(random, 6, [(modality, range(6)) for modality in MODALITIES])}
    corpus = corpus_of(test={"id": tables["test"]["id"].to_pylist(), "text_label": [0.5] * 6})
    assert unimodal_results(tables, corpus, Target("sentiment")) == {}


def test_emotions_of_each_modality(random):
    """A modality that one split lacks has results of the other."""
    tables, samples = {}, 15
    for split in ("valid", "test"):
        intensities = random.integers(0, 3, (samples, 6)) + np.eye(6, dtype=int)[random.integers(0, 6, samples)]
        columns = {"id": [f"s{i}" for i in range(samples)]}
        columns |= {f"{name}_label": intensities[:, i].astype(np.float32) for i, name in enumerate(EMOTIONS)}
        for prefix in ("", *(f"{modality}_" for modality in MODALITIES)):
            chances = random.dirichlet(np.ones(6), samples).astype(np.float32)
            for i, name in enumerate(EMOTIONS):
                absent = prefix == "audio_" and split == "valid"
                columns[f"{prefix}{name}"] = pa.nulls(samples, pa.float32()) if absent else chances[:, i]
        tables[split] = pa.table(columns)
    labels = {split: {"id": table["id"].to_pylist(), "text_label": [0.5] * samples} for split, table in tables.items()}
    found = unimodal_results(tables, corpus_of(**labels), Target("emotion"))
    assert set(found) == set(MODALITIES)
    assert found["audio"]["valid"] == {} and found["text"]["against"] == "multimodal labels"
    for modality in ("text", "audio"):
        table, right = tables["test"], 0
        for row in table.to_pylist():
            chosen = max(EMOTIONS, key=lambda name, row=row: row[f"{modality}_{name}"])
            right += row[f"{chosen}_label"] == max(row[f"{name}_label"] for name in EMOTIONS)
        assert found[modality]["test"]["acc6"] == pytest.approx(right / samples)
