"""Checkpoints that are not whole: half written, half deleted, with no room for them; and batches that do not fit."""

import errno
import fcntl
import json
import os
import shutil

import pytest
import torch
import yaml
from safetensors.torch import load_file

import train
from datasets_scripts.files import DiskFullError, release_folder
from tests.conftest import TINY_RECIPE, KilledError, killed_run
from training.memory import BatchMemoryError, memory_for, shapes
from training.trainer import MultimodalTrainer
from training.whole_checkpoints import FILES_FILE, checkpoint_is_whole

STEPS = ("--eval_strategy", "steps", "--eval_steps", "2", "--save_strategy", "steps", "--save_steps", "2")
RESUME = ("--resume_from_checkpoint", "true")


def same_weights(folder, other):
    ours, theirs = (load_file(one / "model.safetensors") for one in (folder, other))
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A recipe and the folder of an unbroken run."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "recipe.yaml").write_text(yaml.safe_dump(TINY_RECIPE))
    train.main([str(folder / "recipe.yaml"), *STEPS, "--output_dir", str(folder / "run")])
    return str(folder / "recipe.yaml"), folder / "run"


def test_a_checkpoint_lists_all_of_its_files(whole, tmp_path):
    run = whole[1]
    checkpoints = sorted(run.glob("checkpoint-*"))
    assert len(checkpoints) == 2  # the best and the last
    for checkpoint in checkpoints:
        files = json.loads((checkpoint / FILES_FILE).read_text())
        assert files.keys() >= {"model.safetensors", "optimizer.pt", "scheduler.pt", "trainer_state.json"}
        assert files.keys() >= {"rng_state.pth", "label_generation.safetensors"}
        assert checkpoint_is_whole(checkpoint)
    for number, name in enumerate([*files, FILES_FILE]):
        other = tmp_path / f"{number}"
        shutil.copytree(checkpoint, other)
        content = (other / name).read_bytes()
        (other / name).write_bytes(content[:-1])
        assert not checkpoint_is_whole(other) or name == FILES_FILE
        (other / name).unlink()
        assert not checkpoint_is_whole(other), name
    assert not checkpoint_is_whole(tmp_path / "none")


def test_a_full_disk_while_a_checkpoint_is_written(whole, tmp_path, monkeypatch):
    recipe, unbroken = whole
    out, save, count = tmp_path / "run", torch.save, []

    def failing(content, path, *args, **kwargs):
        count.append(path)
        if len(count) < 8:
            return save(content, path, *args, **kwargs)
        with open(path, "wb") as file:
            file.write(b"half")
        raise RuntimeError("[enforce fail at inline_container.cc:664] . PytorchStreamWriter failed writing file data/3")

    monkeypatch.setattr(torch, "save", failing)
    with pytest.raises(DiskFullError, match=r"checkpoint-\d+ could not be written .*MB are free on its disk"):
        train.main([recipe, *STEPS, "--output_dir", str(out)])
    left = list(out.glob("checkpoint-*"))
    assert left and all(checkpoint_is_whole(one) for one in left) and not (out / "config.json").exists()
    monkeypatch.undo()
    train.main([recipe, *STEPS, "--output_dir", str(out), *RESUME])
    assert same_weights(out, unbroken)


def test_a_full_disk_while_results_are_written(whole, tmp_path, monkeypatch):
    recipe, unbroken = whole
    out = tmp_path / "run"

    def failing(table, path, *args, **kwargs):
        path.write_bytes(b"PAR1 half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("training.run_folder.pq.write_table", failing)
        with pytest.raises(DiskFullError, match="run could not be written"):
            train.main([recipe, *STEPS, "--output_dir", str(out), "--label_generation", "none"])
    assert not list(out.glob(".incomplete")) and not {"config.json", "model.safetensors"} & {
        p.name for p in out.iterdir()
    }
    train.main([recipe, *STEPS, "--output_dir", str(out), "--label_generation", "none", *RESUME])
    assert (out / "all_results.json").exists()


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB."), MemoryError(), None],
    ids=["gpu", "python", "cpu"],
)
def test_a_batch_that_does_not_fit(error):
    batch = {"id": ["a", "b"], "audio_values": torch.zeros(2, 50, 8), "labels": torch.zeros(2)}
    with pytest.raises(BatchMemoryError, match="The batch: 2 samples; audio_values 50 x 8."), memory_for(batch):
        if error is None:
            torch.empty(1 << 60, dtype=torch.uint8)
        raise error
    with pytest.raises(RuntimeError, match="^another$"), memory_for(batch):
        raise RuntimeError("another")
    assert shapes({"input_ids": torch.zeros(3, 7), "attention_mask": torch.zeros(3, 7)}) == "3 samples; input_ids 7"


def test_a_run_without_enough_memory_goes_on_with_smaller_batches(whole, tmp_path, monkeypatch):
    recipe, unbroken = whole
    out, step = tmp_path / "run", MultimodalTrainer.compute_loss

    def failing(trainer, model, inputs, *args, **kwargs):
        if model.training and trainer.state.global_step == 9 and len(inputs["id"]) > 4:
            torch.empty(1 << 60, dtype=torch.uint8)
        return step(trainer, model, inputs, *args, **kwargs)

    monkeypatch.setattr(MultimodalTrainer, "compute_loss", failing)
    arguments = [recipe, *STEPS, "--output_dir", str(out)]
    with pytest.raises(BatchMemoryError, match="8 samples; input_ids"):
        train.main(arguments)
    half = ("--per_device_train_batch_size", "4")
    with pytest.raises(ValueError, match="8 samples per step, but this run has 4"):
        train.main([*arguments, *half, *RESUME])
    train.main([*arguments, *half, "--gradient_accumulation_steps", "2", *RESUME])
    ours, theirs = (load_file(one / "model.safetensors") for one in (out, unbroken))
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-3) for name in ours)


@pytest.mark.parametrize("saved", ["last", "later"])
def test_a_run_whose_folder_was_moved_ends_with_its_best_weights(tmp_path, monkeypatch, saved):
    """The first epoch is the best; the run is stopped when nothing, or one more checkpoint, is left to be written."""
    rates = {group: {"learning_rate": 0.05} for group in ("rest", "audio_encoder", "vision_encoder")}
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({**TINY_RECIPE, "optimizer": rates}))
    arguments = [str(recipe), "--metric_for_best_model", "acc7", "--output_dir"]
    unbroken = train.main([*arguments, str(tmp_path / "unbroken")])
    assert unbroken["best_epoch"] == 1.0

    before, after = tmp_path / "before", tmp_path / "after"
    if saved == "last":
        with monkeypatch.context() as patch, pytest.raises(KilledError):
            patch.setattr("train.predict_rows", raising)
            train.main([*arguments, str(before)])
    else:
        killed_run(monkeypatch, [*arguments, str(before)], 15)
    shutil.copytree(before, tmp_path / "without")
    before.rename(after)
    shutil.copytree(tmp_path / "unbroken", before)  # another run has its place by now
    for weights in before.glob("checkpoint-*/model.safetensors"):
        weights.unlink()
    train.main([*arguments, str(after), *RESUME])
    assert same_weights(after, tmp_path / "unbroken")

    shutil.rmtree(tmp_path / "without" / "checkpoint-6")
    with pytest.raises(ValueError, match="best checkpoint so far is checkpoint-6, but .* is not there or not whole"):
        train.main([*arguments, str(tmp_path / "without"), *RESUME])


def test_one_run_at_a_time_writes_into_a_folder(whole, tmp_path, monkeypatch):
    """Begun while the other reads its data, or resumed while the other still trains."""
    recipe, out, load = whole[0], tmp_path / "run", train.load_corpus

    def and_another_begins(*args, **kwargs):
        with monkeypatch.context() as patch:
            patch.setattr("train.load_corpus", load)
            killed_run(monkeypatch, [recipe, *STEPS, "--seed", "8", "--output_dir", str(out)], 3)
        return load(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr("train.load_corpus", and_another_begins)
        with pytest.raises(FileExistsError, match="holds another run"):
            train.main([recipe, *STEPS, "--seed", "8", "--output_dir", str(out)])

    release_folder(out)
    other = os.open(out, os.O_RDONLY)  # in the place of another process
    fcntl.flock(other, fcntl.LOCK_EX)
    before = sorted(path.name for path in out.iterdir())
    with pytest.raises(FileExistsError, match="--output_dir .* is being written by another process"):
        train.main([recipe, *STEPS, "--seed", "8", "--output_dir", str(out), *RESUME])
    assert sorted(path.name for path in out.iterdir()) == before
    os.close(other)
    train.main([recipe, *STEPS, "--seed", "8", "--output_dir", str(out), *RESUME])
    assert (out / "all_results.json").exists()


def test_checkpoints_without_the_optimiser_are_not_gone_on_with(whole, tmp_path, monkeypatch):
    arguments = [whole[0], *STEPS, "--save_only_model", "true", "--output_dir", str(tmp_path / "run")]
    killed_run(monkeypatch, arguments, 5)
    with pytest.raises(ValueError, match=r"`training.save_only_model` is true, so that .*checkpoint-4 has no state of"):
        train.main([*arguments, *RESUME])


def raising(*args, **kwargs):
    raise KilledError


@pytest.mark.parametrize("killed_at", [7, 9])
def test_a_resumed_epoch_logs_the_loss_of_all_of_it(whole, tmp_path, monkeypatch, killed_at):
    """Six steps an epoch, a checkpoint every two: resumed between the epochs, or within the second one."""
    recipe, unbroken = whole
    killed_run(monkeypatch, [recipe, *STEPS, "--output_dir", str(tmp_path / "run")], killed_at)
    train.main([recipe, *STEPS, "--output_dir", str(tmp_path / "run"), *RESUME])
    records = [json.loads((run / "training_record.json").read_text()) for run in (unbroken, tmp_path / "run")]
    histories = [[entry["loss"] for entry in record["stages"][0]["history"]] for record in records]
    assert histories[0] == histories[1] and sum(loss is not None for loss in histories[0]) == 3
