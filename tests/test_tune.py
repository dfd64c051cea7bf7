"""A search from end to end: what it leaves, what it never sees, being stopped, and every way to get it wrong."""

import csv
import fcntl
import gc
import itertools
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

import train
import tune
from tests.conftest import TINY_RECIPE
from training import search
from training.recipe import Recipe, load_yaml
from training.search import SearchTrainer

ROOT = Path(__file__).resolve().parents[1]
SPACE = {
    "training.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
    "model.fusion_size": {"choices": [8, 16]},
    "training.per_device_train_batch_size": {"low": 8, "high": 24, "step": 8},
}
FAST = ("--num_train_epochs", "2")
FILES = {"recipe.yaml", "search.json", "trials.db", "trials.csv", "trials.png", "best_recipe.yaml"}


def run(recipe, out, trials, *options):
    tune.main([recipe, "--trials", str(trials), "--output_dir", str(out), *FAST, *options])
    return rows_of(out)


def rows_of(out):
    """The table of the trials, without what the clock says."""
    with open(out / "trials.csv", newline="") as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def refused(arguments):
    with pytest.raises((ValueError, OSError)) as caught:
        tune.main(arguments)
    return str(caught.value)


@pytest.fixture(autouse=True, scope="module")
def frozen():
    """Each trial collects garbage several times: what is there before any of them need not be looked through."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """A recipe, and the folder of a search of three trials that never saved a checkpoint."""
    folder = tmp_path_factory.mktemp("searched")
    recipe = folder / "tiny.yaml"
    recipe.write_text(yaml.safe_dump({**TINY_RECIPE, "search": SPACE}))

    def saving(*args, **kwargs):
        raise AssertionError("a trial saves a checkpoint")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SearchTrainer, "_save_checkpoint", saving)
        run(str(recipe), folder / "out", 3, "--no_pruning")
    return str(recipe), folder / "out"


def test_a_search_leaves_everything_that_it_promises(searched):
    _, out = searched
    assert {path.name for path in out.iterdir()} == FILES
    rows = rows_of(out)
    assert [row["number"] for row in rows] == list("012")
    assert [row["state"] for row in rows] == ["finished"] * 3
    assert [row["epochs"] for row in rows] == ["2"] * 3
    own, *others = ([float(row[field]) for field in SPACE] for row in rows)
    assert own == [1e-3, 16, 8]
    for rate, size, batch in others:
        assert 1e-4 <= rate <= 1e-2
        assert size in (8, 16)
        assert batch in (8, 16, 24)
    assert others[0] != others[1]
    with Image.open(out / "trials.png") as image:
        assert np.asarray(image.convert("L")).std() > 10


def test_the_best_recipe_trains_to_the_value_that_the_search_reports(searched, tmp_path):
    """And the recipe with the space, which training ignores, to that of the first trial."""
    recipe, out = searched
    rows = rows_of(out)
    best = min(rows, key=lambda row: float(row["value"]))
    text = (out / "best_recipe.yaml").read_text()
    assert text.startswith("# The best of 3 trials: 3 finished, 0 pruned, 0 failed.\n")
    comment = " ".join(line.lstrip("# ") for line in text.splitlines() if line.startswith("#"))
    assert f"mae on the validation split, best epoch: {float(best['value']):.6g} (trial {best['number']})" in comment
    assert f"own values {float(rows[0]['value']):.6g}" in comment
    content = Recipe.from_dict(load_yaml(out / "best_recipe.yaml"))
    assert content.search == {}
    assert content.training["learning_rate"] == float(best["training.learning_rate"])

    for file, row in ((out / "best_recipe.yaml", best), (recipe, rows[0])):
        folder = tmp_path / Path(file).stem
        results = train.main([str(file), "--output_dir", str(folder), *FAST])
        states = [json.loads(state.read_text()) for state in folder.glob("checkpoint-*/trainer_state.json")]
        assert min(state["best_metric"] for state in states) == float(row["value"])  # to the last bit
        assert results["valid_mae"] == pytest.approx(float(row["value"]), abs=1e-5)


def test_what_is_printed(searched, capsys):
    recipe, out = searched
    before = (out / "trials.db").read_bytes()
    run(recipe, out, 3, "--no_pruning")
    lines = capsys.readouterr().out.splitlines()
    rows = rows_of(out)
    best = min(rows, key=lambda row: float(row["value"]))
    assert lines[0] == f"3 trials are in {out}"
    assert lines[1] == f"mae on the validation split: {float(rows[0]['value']):.4f} with the recipe's own values"
    assert f"{float(best['value']):.4f} with the best ones, those of trial {best['number']}" in lines[2]
    assert str(out / "best_recipe.yaml") in lines[3]
    assert lines[4] == "The test split was not looked at."
    assert (out / "trials.db").read_bytes() == before


class Untouchable:
    """Stands for the test split; whoever looks at it fails."""

    def __getattribute__(self, name):
        raise AssertionError(f"the test split was asked for {name}")

    def __len__(self):
        raise AssertionError("the test split was asked for its length")


@pytest.mark.parametrize("there", [True, False])
def test_the_test_split_is_never_read(tiny_recipe, tmp_path, monkeypatch, there):
    load = search.load_corpus

    def loading(*args):
        corpus = load(*args)
        if there:
            corpus.splits["test"] = Untouchable()
        else:
            del corpus.splits["test"]
        return corpus

    monkeypatch.setattr(search, "load_corpus", loading)
    rows = run(tiny_recipe(search=SPACE, normalize=["audio"]), tmp_path / "out", 2, "--num_train_epochs", "1")
    assert [row["state"] for row in rows] == ["finished"] * 2


class KilledError(Exception):
    pass


def kill_in_training(monkeypatch, number):
    """The training of that number, counted from now, dies in its second epoch."""
    step, count = SearchTrainer.training_step, itertools.count()

    class Dying(SearchTrainer):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.dies = next(count) == number

        def training_step(self, *args, **kwargs):
            if self.dies and self.state.epoch >= 1:
                raise KilledError
            return step(self, *args, **kwargs)

    monkeypatch.setattr(search, "SearchTrainer", Dying)


def test_a_search_that_was_stopped_goes_on_to_the_same_trials(searched, tmp_path, monkeypatch):
    recipe, whole = searched
    broken = tmp_path / "broken"
    with monkeypatch.context() as patch:
        kill_in_training(patch, 1)
        with pytest.raises(KilledError):
            run(recipe, broken, 3, "--no_pruning")
    assert not (broken / "trials.csv").exists()
    assert len(run(recipe, broken, 2, "--no_pruning")) == 2
    assert run(recipe, broken, 3, "--no_pruning") == rows_of(whole)
    assert (broken / "best_recipe.yaml").read_text() == (whole / "best_recipe.yaml").read_text()


@pytest.mark.slow
def test_a_process_that_is_really_killed_goes_on(tiny_recipe, tmp_path):
    """Over the trials in which the sampler looks at those before it, with pruning."""
    recipe = tiny_recipe(search=SPACE)
    options = ("--startup_trials", "3", "--warmup_epochs", "0")
    whole = run(recipe, tmp_path / "whole", 16, *options)
    assert {row["state"] for row in whole} == {"finished", "pruned"}

    broken = tmp_path / "broken"
    command = [sys.executable, str(ROOT / "tune.py"), recipe, "--trials", "16", "--output_dir", str(broken)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    for wanted in (2, 12):
        process = subprocess.Popen([*command, *FAST, *options], env=environment, cwd=tmp_path)
        deadline = time.time() + 120
        while stored(broken) < wanted and time.time() < deadline:
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert wanted <= stored(broken) < 16
    subprocess.run([*command, *FAST, *options], env=environment, cwd=tmp_path, check=True, timeout=300)
    assert rows_of(broken) == whole


def stored(out):
    """How many trials the storage has."""
    if not (out / "trials.db").exists():
        return 0
    connection = sqlite3.connect(out / "trials.db")
    try:
        return connection.execute("select count(*) from trials").fetchone()[0]
    except sqlite3.OperationalError:  # not made yet
        return 0
    finally:
        connection.close()


def test_trials_that_cannot_be_trained_are_listed_and_passed_over(tiny_recipe, tmp_path, capsys):
    space = {
        "model.text_config.num_attention_heads": {"choices": [2, 3]},
        "training.learning_rate": {"choices": [1e-3, 1e30]},
    }
    rows = run(tiny_recipe(search=space), tmp_path / "out", 6, "--num_train_epochs", "1")
    assert len(rows) == 6
    seen = set()
    for row in rows:
        heads, rate = row["model.text_config.num_attention_heads"], float(row["training.learning_rate"])
        seen.add((heads, rate))
        if heads == "3":
            assert (row["state"], row["epochs"], row["value"]) == ("failed", "0", "")
            assert "multiple of the number of attention heads" in row["message"]
        elif rate > 1:
            assert (row["state"], row["value"]) == ("failed", "")
            assert row["message"]
        else:
            assert row["state"] == "finished"
    assert len(seen) >= 3
    failed = next(line for line in capsys.readouterr().out.splitlines() if "num_attention_heads 3" in line)
    assert "failed: The hidden size (16)" in failed


def test_trials_that_lag_behind_are_pruned(tiny_recipe, tmp_path):
    recipe = tiny_recipe(search={"training.learning_rate": {"choices": [1e-3, 1e-9]}})
    options = ("--startup_trials", "1", "--num_train_epochs", "3", "--warmup_epochs")
    rows = run(recipe, tmp_path / "out", 3, *options, "0")
    assert rows[0]["state"] == "finished"
    lagging = [row for row in rows if row["training.learning_rate"] == "1e-09"]
    assert lagging
    for row in lagging:
        assert row["state"] == "pruned"
        assert float(row["value"]) > float(rows[0]["value"])
    assert lagging[0]["epochs"] == "1"
    later = run(recipe, tmp_path / "later", rows.index(lagging[0]) + 1, *options, "1")
    assert (later[-1]["state"], later[-1]["epochs"]) == ("pruned", "2")


def test_a_metric_of_which_more_is_better_and_values_that_are_lists(tiny_recipe, tmp_path):
    model = {**TINY_RECIPE["model"], "target": "sentiment2"}
    space = {"early_stopping_patience": {"choices": [None, 1]}, "normalize": {"choices": [[], ["audio", "vision"]]}}
    recipe = tiny_recipe(search=space, model=model, label_generation="none")
    rows = run(recipe, tmp_path / "out", 3, "--num_train_epochs", "1", "--seed", "8")
    assert {row["normalize"] for row in rows} == {"[]", '["audio", "vision"]'}
    values = [float(row["value"]) for row in rows if row["state"] == "finished"]
    assert f"best epoch: {max(values):.6g} " in (tmp_path / "out" / "best_recipe.yaml").read_text()
    assert "acc2_has0" in (tmp_path / "out" / "best_recipe.yaml").read_text()


def test_own_values_outside_of_the_space_are_still_the_first_trial(tiny_recipe, tmp_path):
    space = {"training.learning_rate": {"low": 1e-9, "high": 1e-8, "log": True}}
    rows = run(tiny_recipe(search=space), tmp_path / "out", 2, "--num_train_epochs", "1")
    assert float(rows[0]["training.learning_rate"]) == 1e-3
    assert float(rows[1]["training.learning_rate"]) < 1e-7
    assert "(trial 0)" in (tmp_path / "out" / "best_recipe.yaml").read_text()


def test_one_search_at_a_time(tiny_recipe, tmp_path):
    recipe, out = tiny_recipe(search=SPACE), tmp_path / "out"
    out.mkdir()
    other = os.open(out, os.O_RDONLY)  # in the place of another process
    fcntl.flock(other, fcntl.LOCK_EX)
    assert "is being written by another process" in refused([recipe, "--trials", "1", "--output_dir", str(out)])
    os.close(other)
    assert list(out.iterdir()) == []


def test_a_folder_that_holds_something_else(searched, tmp_path):
    recipe, out = searched
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    command = [recipe, "--trials", "5", "--output_dir", str(out)]
    assert "training: " in refused([*command, "--no_pruning", "--num_train_epochs", "3"])
    assert "'pruning': False" not in refused([*command, *FAST])
    assert "pruning: False then, True now" in refused([*command, *FAST])
    space = ["--no_pruning", *FAST, "--search.model.fusion_size", "{choices: [8, 16, 32]}"]
    assert "search: " in refused([*command, *space])
    assert before == {path: path.stat().st_mtime_ns for path in out.iterdir()}

    other = tmp_path / "other"
    other.mkdir()
    (other / "recipe.yaml").write_text("model_type: self_mm\n")
    assert "other files than a search" in refused([recipe, "--trials", "2", "--output_dir", str(other)])
    assert "is a file" in refused([recipe, "--trials", "2", "--output_dir", recipe])
    assert [path.name for path in other.iterdir()] == ["recipe.yaml"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--stages", "[{name: a}, {name: b}]", "--label_generation", "none"], "`stages`"),
        (["--eval_strategy", "steps", "--save_strategy", "steps"], "'steps'"),
        (["--load_best_model_at_end", "false"], "load_best_model_at_end"),
        (["--search", "null"], "nothing to search"),
        (["--search.model.fusion_sise", "{low: 1, high: 2}"], "`fusion_size`"),
        (["--model.fusion_sise", "3"], "`fusion_size`"),
        (["--trials", "0"], "`--trials`"),
        (["--startup_trials", "-1"], "`--startup_trials`"),
    ],
)
def test_what_cannot_be_searched(tiny_recipe, tmp_path, options, words):
    command = [tiny_recipe(search=SPACE), "--trials", "2", "--output_dir", str(tmp_path / "out"), *options]
    assert words in refused(command)
    assert not (tmp_path / "out").exists()


def test_a_recipe_that_fails_by_itself(tiny_recipe, tmp_path):
    model = {**TINY_RECIPE["model"], "text_config": {**TINY_RECIPE["model"]["text_config"], "num_attention_heads": 3}}
    command = [tiny_recipe(search=SPACE, model=model), "--trials", "2", "--output_dir", str(tmp_path / "out")]
    message = refused(command)
    assert "with its own values" in message
    assert "attention heads (3)" in message


def test_without_optuna(tiny_recipe, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ImportError, match=r"\[tune\]"):
        run(tiny_recipe(search=SPACE), tmp_path / "out", 2)
    assert not (tmp_path / "out").exists()


def test_the_space_that_shows_it(tmp_path):
    """It is the quickstart recipe with a space, and the space is one."""
    content = load_yaml(ROOT / "recipes" / "search" / "self_mm_quickstart.yaml")
    space = content.pop("search")
    assert content == load_yaml(ROOT / "recipes" / "quickstart.yaml")
    shown = search.Space(Recipe.from_dict({**content, "search": space}))
    assert set(shown.own_parameters(Recipe.from_dict(content))) == set(space)
