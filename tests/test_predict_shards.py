"""Predictions as a folder of files: the same however they were made, by many processes, or after having been killed."""

import fcntl
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from datasets import load_dataset

import predict
from tests.conftest import TINY_RECIPE
from tests.training.processes import in_processes
from training.checkpoint import checkpoint_sha256, load_checkpoint
from training.corpus import load_corpus
from training.factory import build_model, build_processor
from training.prediction import table_metrics
from training.prediction_shards import PredictionFolder
from training.recipe import Recipe
from training.remote_code import write_checkpoint
from training.run_folder import RunFolder
from training.summed_metrics import metrics_of_tables
from training.targets import Target

ROOT = Path(__file__).parents[1]
ROWS = 53
SIZES = ["--shard_rows", "10", "--batch_size", "4"]
FILES = [f"part-{number:05}.parquet" for number in range(6)]


def make_checkpoint(path: Path, seed: int = 0) -> str:
    """An untrained checkpoint with a text encoder, in the way of a finished run."""
    synthetic = {"train": 6, "valid": 5, "test": ROWS, "seed": 3, "missing": 0.3}
    model = {"text_config": TINY_RECIPE["model"]["text_config"]}
    recipe = Recipe.from_dict({"model_type": "self_mm", "synthetic": synthetic, "model": model})
    processor = build_processor(recipe, load_corpus(synthetic=synthetic), "raw_text")
    torch.manual_seed(seed)
    RunFolder(path, recipe).claim()
    write_checkpoint(path, build_model(recipe, processor), processor)
    return str(path)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return make_checkpoint(tmp_path_factory.mktemp("checkpoint") / "run")


@pytest.fixture(scope="module")
def whole(checkpoint, tmp_path_factory):
    """The folder that one process makes without a stop."""
    path = tmp_path_factory.mktemp("predictions") / "whole"
    predict.main([checkpoint, "--output", f"{path}/", *SIZES])
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def start(processes: int, *arguments: str, cwd: Path) -> list[subprocess.Popen]:
    """As a launcher starts them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {**os.environ, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return [
        subprocess.Popen(
            [sys.executable, str(ROOT / "predict.py"), *arguments],
            cwd=cwd,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**common, "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes)},
        )  # fmt: skip
        for rank in range(processes)
    ]


def finished(processes: list[subprocess.Popen]) -> list[str]:
    """What each has printed."""
    printed = [process.communicate(timeout=300)[0] for process in processes]
    assert not any(process.returncode for process in processes), printed
    return printed


def test_files_hold_the_rows_in_order(checkpoint, whole):
    assert sorted(contents(whole)) == ["README.md", *FILES, "predictions.json"]
    tables = [pq.read_table(whole / name) for name in FILES]
    assert [len(table) for table in tables] == [10, 10, 10, 10, 10, 3]
    rows = load_corpus(synthetic={"train": 6, "valid": 5, "test": ROWS, "seed": 3, "missing": 0.3}).splits["test"]
    table = pa.concat_tables(tables)
    assert table["id"].to_pylist() == list(rows["id"])
    np.testing.assert_array_equal(table["label"].to_numpy(), rows["label"][:])


def test_predictions_and_metrics_are_those_of_one_file(checkpoint, whole, tmp_path, capsys):
    """Other rows make a batch there, so that they agree but for rounding."""
    predict.main([checkpoint, "--output", str(tmp_path / "p.parquet"), "--batch_size", "4"])
    expected, table = pq.read_table(tmp_path / "p.parquet"), pa.concat_tables(pq.read_table(whole / f) for f in FILES)
    assert table.schema.equals(expected.schema)
    for name in table.column_names[1:]:
        assert table[name].is_null().equals(expected[name].is_null())
        np.testing.assert_allclose(table[name].to_numpy(), expected[name].to_numpy(), atol=1e-5)
    assert np.ptp(table["prediction"].to_numpy()) > 1e-3
    metrics = json.loads((whole / "predictions.json").read_text())["metrics"]
    assert metrics == pytest.approx(table_metrics(table, Target("sentiment")), abs=1e-9)
    printed = capsys.readouterr().out.splitlines()[-1]
    assert printed == ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())


def test_the_library_reads_the_folder(whole, tmp_path):
    by_files = load_dataset("parquet", data_files=str(whole / "part-*.parquet"), cache_dir=str(tmp_path / "a"))
    by_card = load_dataset(str(whole), cache_dir=str(tmp_path / "b"))
    assert len(by_files["train"]) == len(by_card["test"]) == ROWS
    assert by_files["train"]["id"][:] == by_card["test"]["id"][:]


def test_a_whole_folder_is_not_made_again(checkpoint, whole, capsys):
    before = {file: file.stat().st_mtime_ns for file in whole.iterdir()}
    predict.main([checkpoint, "--output", str(whole), *SIZES])
    assert {file: file.stat().st_mtime_ns for file in whole.iterdir()} == before
    assert "mae " in capsys.readouterr().out


def half_done(whole: Path, path: Path) -> Path:
    """The folder `path`.incomplete as a killed process leaves it: some files, one damaged, one half written."""
    work = path.with_name(f"{path.name}.incomplete")
    shutil.copytree(whole, work)
    manifest = json.loads((work / "predictions.json").read_text())
    del manifest["metrics"]
    (work / "predictions.json").write_text(json.dumps(manifest))
    for name in (FILES[1], FILES[5], "README.md"):
        (work / name).unlink()
    (work / FILES[3]).write_bytes((whole / FILES[3]).read_bytes()[:-20])
    (work / f".{FILES[4]}.123.incomplete").write_bytes(b"half")
    return work


def test_a_stopped_run_goes_on_with_what_is_missing(checkpoint, whole, tmp_path, monkeypatch):
    work, made = half_done(whole, tmp_path / "out"), []
    kept = {name: (work / name).stat().st_mtime_ns for name in (FILES[0], FILES[2], FILES[4])}
    monkeypatch.setattr(
        PredictionFolder, "write", lambda *args, write=PredictionFolder.write: (made.append(args[1]), write(*args))
    )
    predict.main([checkpoint, "--output", str(tmp_path / "out"), *SIZES])
    assert made == [1, 3, 5]
    assert contents(tmp_path / "out") == contents(whole) and not work.exists()
    assert kept == {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in kept}


def test_a_file_of_another_folder_is_made_again(checkpoint, whole, tmp_path):
    """It has as many rows, but of another checkpoint."""
    other = make_checkpoint(tmp_path / "other", seed=1)
    predict.main([other, "--output", str(tmp_path / "wrong"), *SIZES])
    work = half_done(whole, tmp_path / "out")
    shutil.copy(tmp_path / "wrong" / FILES[0], work / FILES[0])
    predict.main([checkpoint, "--output", str(tmp_path / "out"), *SIZES])
    assert contents(tmp_path / "out") == contents(whole) != contents(tmp_path / "wrong")


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["--shard_rows", "11", "--batch_size", "4"], "`shard_rows` 10 there, 11 here"),
        (["--shard_rows", "10", "--batch_size", "5"], "`batch_size`"),
        ([*SIZES, "--limit", "50"], "`rows` 53 there, 50 here"),
        ([*SIZES, "--split", "valid"], "`split` 'test' there, 'valid' here"),
    ],
)
def test_other_settings_are_refused(checkpoint, whole, tmp_path, begun, arguments, name):
    if begun:
        half_done(whole, tmp_path / "out")
    else:
        shutil.copytree(whole, tmp_path / "out")
    before = {file.name: contents(file) for file in tmp_path.iterdir()}
    with pytest.raises(FileExistsError, match=f"{name}.*give another --output, or delete"):
        predict.main([checkpoint, "--output", str(tmp_path / "out"), *arguments])
    assert {file.name: contents(file) for file in tmp_path.iterdir()} == before


def test_another_checkpoint_is_refused(checkpoint, whole, tmp_path):
    half_done(whole, tmp_path / "out")
    (tmp_path / "elsewhere").mkdir()
    other = make_checkpoint(tmp_path / "elsewhere" / "run", seed=1)  # of the same name
    with pytest.raises(FileExistsError, match="out.incomplete holds other predictions: `checkpoint_sha256`"):
        predict.main([other, "--output", str(tmp_path / "out"), *SIZES])


def test_other_data_is_refused(checkpoint, whole, tmp_path, mmsa_content, mmsa_file):
    content = mmsa_content
    shutil.copytree(whole, tmp_path / "out")
    with pytest.raises(FileExistsError, match="`data_sha256`"):
        predict.main([checkpoint, "--data_file", mmsa_file(content), "--output", str(tmp_path / "out"), *SIZES])


def test_what_decides_the_hash_of_a_checkpoint(checkpoint, tmp_path):
    shutil.copytree(checkpoint, tmp_path / "moved")
    model, processor = load_checkpoint(checkpoint)
    assert checkpoint_sha256(model, processor) == checkpoint_sha256(*load_checkpoint(str(tmp_path / "moved")))
    model.config.label_range = (-1.0, 1.0)
    other_config = checkpoint_sha256(model, processor)
    next(model.parameters()).data.view(-1)[0] += 1e-6
    other_weight = checkpoint_sha256(model, processor)
    processor.tokenizer.add_tokens(["another"])
    other_tokens = checkpoint_sha256(model, processor)
    assert len({checkpoint_sha256(*load_checkpoint(checkpoint)), other_config, other_weight, other_tokens}) == 4


def test_a_folder_with_something_else(checkpoint, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="holds other files; give another --output"):
        predict.main([checkpoint, "--output", str(tmp_path), *SIZES])
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


def test_a_link_to_an_empty_folder(checkpoint, whole, tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    predict.main([checkpoint, "--output", f"{tmp_path / 'link'}/", *SIZES])
    assert contents(tmp_path / "disk") == contents(whole) and (tmp_path / "link").is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["disk", "link"]


def test_one_run_at_a_time_writes_into_a_folder(checkpoint, whole, tmp_path):
    path = tmp_path / "predictions"
    work = half_done(whole, path)
    other = os.open(work, os.O_RDONLY)  # in the place of another process
    fcntl.flock(other, fcntl.LOCK_EX)
    before = contents(work)
    with pytest.raises(FileExistsError, match="predictions.incomplete is being written by another process"):
        predict.main([checkpoint, "--output", f"{path}/", *SIZES])
    assert contents(work) == before
    os.close(other)
    predict.main([checkpoint, "--output", f"{path}/", *SIZES])
    assert contents(path) == contents(whole)


def test_a_file_that_goes_before_the_end(checkpoint, whole, tmp_path):
    """What is missing at the end keeps the folder from having its name."""
    folder = PredictionFolder(tmp_path / "out", {**json.loads((whole / "predictions.json").read_text())})
    assert not folder.begin()
    with pytest.raises(ValueError, match=r"part-00000.parquet is gone or damaged; run the same command"):
        folder.finish({})
    assert not folder.path.exists()


def refusal_of_each(arguments, folders):
    """What predict.py says in this process, whose --output is in a folder of its own."""
    os.chdir(folders[int(os.environ["RANK"])])
    with pytest.raises(ValueError) as error:
        predict.main(arguments)
    return str(error.value)


def test_a_folder_that_not_all_processes_see(checkpoint, tmp_path):
    """Before anything is predicted: of what the others write, the first process would find nothing."""
    folders = [tmp_path / "one", tmp_path / "other"]
    for folder in folders:
        folder.mkdir()
    arguments = [checkpoint, "--output", "out/", *SIZES]
    said = in_processes(refusal_of_each, 2, tmp_path / "2", arguments, [str(folder) for folder in folders])
    assert "on a disk that all machines see, but process 1 does not find" in said[0] and len(set(said)) == 2
    assert not list(tmp_path.rglob("part-*"))


@pytest.mark.parametrize(
    "arguments",
    [["--output", "p.csv"], ["--output", "p/", "--shard_rows", "0"], ["--limit", "-1"], ["--batch_size", "0"]],
)
def test_wrong_arguments(checkpoint, arguments, capsys):
    with pytest.raises(SystemExit):
        predict.main([checkpoint, *arguments])
    assert arguments[-2] in capsys.readouterr().err


@pytest.mark.parametrize("name", ["sentiment", "sentiment2", "sentiment7", "emotions", "emotion"])
def test_metrics_of_parts_are_those_of_the_whole(name):
    target, random = Target(name), np.random.default_rng(0)
    rows, width = 200, len(target.score_names)
    columns = {"id": [str(row) for row in range(rows)]}
    if target.of_emotions:
        references = random.integers(0, 4, (rows, 6)) * (random.random((rows, 6)) < 0.5)
        columns |= {
            f"{emotion}_label": values for emotion, values in zip(target.score_names, references.T, strict=True)
        }
    else:
        columns["label"] = random.uniform(-3, 3, rows) + np.linspace(0, 1, rows)  # parts differ in their means
    columns |= {score: random.random(rows) + np.linspace(0, 1, rows) for score in target.score_names[:width]}
    table = pa.table({k: v if k == "id" else np.asarray(v, np.float32) for k, v in columns.items()})
    parts = [table.slice(start, 70) for start in range(0, rows, 70)]
    assert metrics_of_tables(parts, target) == pytest.approx(table_metrics(table, target), abs=1e-12, nan_ok=True)


def test_metrics_of_what_is_not_finite():
    values = np.array([1, 2, np.nan], np.float32)
    table = pa.table({"id": ["a", "b", "c"], "label": np.ones(3, np.float32), "prediction": values})
    with pytest.raises(ValueError, match="1 of 3 samples.*first of them 'c'"):
        metrics_of_tables([table], Target("sentiment"))
    with pytest.raises(ValueError, match="at least one table"):
        metrics_of_tables([], Target("sentiment"))


@pytest.mark.slow
def test_two_processes_make_the_same_folder(checkpoint, whole, tmp_path):
    first, second = finished(start(2, checkpoint, "--output", "out/", *SIZES, cwd=tmp_path))
    assert contents(tmp_path / "out") == contents(whole)
    assert "3/3" in first and f"{ROWS} predictions in out/" in first
    assert "predictions" not in second


@pytest.mark.slow
def test_two_processes_make_the_same_file(checkpoint, tmp_path):
    predict.main([checkpoint, "--output", str(tmp_path / "alone.parquet"), "--batch_size", "4"])
    finished(start(2, checkpoint, "--output", "both.parquet", "--batch_size", "4", cwd=tmp_path))
    assert (tmp_path / "both.parquet").read_bytes() == (tmp_path / "alone.parquet").read_bytes()


@pytest.mark.slow
def test_killed_processes_and_another_number_of_them(checkpoint, tmp_path):
    """Two processes are killed once some files are there; three make the rest."""
    sizes = ["--shard_rows", "1", "--batch_size", "1"]
    predict.main([checkpoint, "--output", str(tmp_path / "whole"), *sizes])
    processes = start(2, checkpoint, "--output", "out", *sizes, cwd=tmp_path)
    work, deadline = tmp_path / "out.incomplete", time.monotonic() + 200
    while len(list(work.glob("part-*"))) < 5 and time.monotonic() < deadline:
        time.sleep(0.005)
    for process in processes:
        process.kill()
        process.communicate(timeout=60)
    there = len(list(work.glob("part-*")))
    assert 5 <= there < ROWS and not (tmp_path / "out").exists()
    finished(start(3, checkpoint, "--output", "out", *sizes, cwd=tmp_path))
    assert contents(tmp_path / "out") == contents(tmp_path / "whole") and not work.exists()


@pytest.mark.slow
def test_accelerate_launches_them(checkpoint, whole, tmp_path):
    command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    command += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    command += [str(ROOT / "predict.py"), checkpoint, "--output", "out/", *SIZES]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "out") == contents(whole) and "3/3" in done.stderr


@pytest.mark.slow
def test_one_sample_is_for_one_process(checkpoint, tmp_path):
    processes = start(2, checkpoint, "--text", "hello", cwd=tmp_path)
    printed = [process.communicate(timeout=300)[0] for process in processes]
    assert all(process.returncode != 0 for process in processes)
    assert all("One sample is for one process, but 2 were started" in text for text in printed)
