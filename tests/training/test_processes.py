"""Processes that train together wait for each other, and refuse to train different things."""

import os
import time
from datetime import timedelta

import pytest
import torch
from transformers import TrainingArguments

import train
from tests.training.processes import in_processes
from training.processes import check_agreement, machines_first


def slow_preparation():
    """What each process did, and when, where the others would give up after a second."""
    torch.distributed.init_process_group("gloo", timeout=timedelta(seconds=1))
    args = TrainingArguments("run", use_cpu=True)
    started = time.monotonic()
    with machines_first(args):
        begun = time.monotonic() - started
        if args.process_index == 0:
            time.sleep(4)
    return begun


def test_a_long_preparation_is_waited_for(tmp_path):
    first, second = in_processes(slow_preparation, 2, tmp_path)
    assert first < 2 and second > 3.5


def test_one_process_agrees_with_itself():
    check_agreement({"training": {"seed": 1}})


def refusal(arguments):
    """What train.py says in this process, which has its own arguments."""
    with pytest.raises(ValueError) as error:
        train.main(arguments[int(os.environ["RANK"])])
    return str(error.value)


def test_processes_with_other_settings_are_refused(tmp_path, tiny_recipe):
    common = [tiny_recipe(), "--output_dir", str(tmp_path / "run")]
    said = in_processes(refusal, 2, tmp_path / "2", [common, [*common, "--learning_rate", "0.1"]])
    assert said[0] == said[1] and not (tmp_path / "run").exists()
    assert "Process 1 would not train what process 0 trains (training.learning_rate: 0.001" in said[0]


def test_a_folder_that_not_all_see_is_refused(tmp_path, tiny_recipe):
    """A run goes on where its checkpoints are, and would begin anew where they are not."""
    recipe, size = tiny_recipe(), ["--per_device_train_batch_size", "4"]
    train.main([recipe, "--output_dir", str(tmp_path / "here"), "--num_train_epochs", "1"])
    (tmp_path / "here" / "all_results.json").unlink()
    options = ["--num_train_epochs", "1", *size, "--resume_from_checkpoint", "true"]
    arguments = [[recipe, "--output_dir", str(tmp_path / place), *options] for place in ("here", "there")]
    said = in_processes(refusal, 2, tmp_path / "2", arguments)
    assert said[0] == said[1] and "(the run: 'checkpoint-6' in process 0, 'no checkpoint' there)" in said[0]
