"""What a run says of its own costs: seconds of whole epochs, peak memory."""

import math
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from training import progress
from training.progress import EpochLine, EpochSeconds, peak_memory_mb
from training.targets import Target


@pytest.fixture
def clock(monkeypatch):
    """A time that stands still until it is set."""
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(progress, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    return clock


def printed(capsys, metrics, metric="mae", loss=None, main=True):
    line = EpochLine()
    state = SimpleNamespace(epoch=2.0, is_world_process_zero=main)
    line.on_log(None, state, None, {} if loss is None else {"loss": loss})
    line.on_log(None, state, None, {"text_label_shift": 0.1})  # a log without a loss leaves it as it was
    line.on_evaluate(SimpleNamespace(metric_for_best_model=metric), state, None, metrics)
    return capsys.readouterr().out.strip()


@pytest.mark.parametrize(
    ("target", "shown"),
    [
        ("sentiment", ("mae", "corr", "acc7", "acc5", "acc2_non0")),
        ("sentiment2", ("acc2_non0", "acc2_has0")),  # the one it chooses by, too
        ("sentiment7", ("mae", "corr", "acc7", "acc5", "acc2_non0")),
        ("emotions", ("acc6", "acc_avg", "wa_avg", "f1_avg")),
        ("emotion", ("acc6", "acc_avg", "wa_avg", "f1_avg")),
    ],
)
def test_a_line_shows_the_metrics_of_the_target(capsys, target, shown):
    metrics = {f"eval_{name}": 0.5 for name in Target(target).metric_names} | {"eval_loss": 1.25}
    line = printed(capsys, metrics, Target(target).selection, loss="0.7")
    assert line == "epoch 2: training loss 0.7000, validation " + " ".join(f"{name} 0.5000" for name in shown)
    assert printed(capsys, metrics, "eval_loss") == "epoch 2: validation loss 1.2500"  # a stage that has no other
    assert printed(capsys, metrics, main=False) == ""


def begin(timer, epoch):
    timer.on_epoch_begin(None, SimpleNamespace(epoch=epoch), None)


def test_an_epoch_ends_where_the_next_begins(clock):
    """What comes between, evaluation and checkpoint, is part of it."""
    timer = EpochSeconds()
    for epoch, now in ((None, 100.0), (1.0, 103.0), (2, 104.5)):
        clock.now = now
        begin(timer, epoch)
    clock.now = 114.5
    timer.on_train_end(None, None, None)
    assert timer.seconds == [3.0, 1.5, 10.0] and timer.median == 3.0
    clock.now = 999.0
    timer.on_train_end(None, None, None)
    assert timer.seconds == [3.0, 1.5, 10.0]


def test_an_epoch_that_is_resumed_in_its_middle_does_not_count(clock):
    timer = EpochSeconds()
    begin(timer, 1.5)
    clock.now = 101.0
    begin(timer, 2.0)
    clock.now = 105.0
    timer.on_train_end(None, None, None)
    assert timer.seconds == [4.0]


def test_the_median_of_no_epoch(clock):
    timer = EpochSeconds()
    assert math.isnan(timer.median)
    timer.on_train_end(None, None, None)  # a run that was resumed after its last epoch
    assert math.isnan(timer.median)


def test_the_median_of_two_epochs(clock):
    timer = EpochSeconds()
    timer.seconds = [1.0, 4.0]
    assert timer.median == 2.5


@pytest.mark.parametrize(("system", "expected"), [("linux", 3072.0), ("darwin", 3.0)])
def test_units_of_the_system(monkeypatch, system, expected):
    """Linux counts in KiB, macOS in bytes."""
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(resource, "getrusage", lambda who: SimpleNamespace(ru_maxrss=3 * 2**20))
    monkeypatch.setattr(sys, "platform", system)
    assert peak_memory_mb() == expected


def test_a_system_that_does_not_say(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setitem(sys.modules, "resource", None)  # as on Windows
    assert math.isnan(peak_memory_mb())


def test_memory_of_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 5 * 2**20)
    assert peak_memory_mb() == 5.0


def test_a_gpu_that_the_run_did_not_use(monkeypatch):
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 0)
    monkeypatch.setattr(resource, "getrusage", lambda who: SimpleNamespace(ru_maxrss=2**20))
    monkeypatch.setattr(sys, "platform", "linux")
    assert peak_memory_mb() == 1024.0


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system has no /proc")
def test_memory_of_this_process(monkeypatch):
    """At least what the kernel says of this program; the most of what started it may have been more."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    sizes = {}
    for file in ("/proc/self/status", "/proc/meminfo"):
        for line in Path(file).read_text().splitlines():
            name, _, value = line.partition(":")
            if value.strip().endswith(" kB"):
                sizes[name] = int(value.split()[0]) / 1024
    assert 0.9 * sizes["VmHWM"] < peak_memory_mb() < sizes["MemTotal"]
