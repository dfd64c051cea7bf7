"""The callback that drives label generation, and the scores of what was generated."""

import math
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from transformers import TrainerControl

from datasets_scripts import MODALITIES
from training.label_callback import HISTORY_FILE, STATE_FILE, LabelGenerationCallback, label_scores


def stage(folder, epoch=0.0, global_step=0, resume=None, main=True):
    """What the trainer passes to a callback."""
    args = SimpleNamespace(output_dir=str(folder), resume_from_checkpoint=resume)
    state = SimpleNamespace(epoch=epoch, global_step=global_step, is_world_process_zero=main)
    return args, state, TrainerControl()


def silent(generator):
    return LabelGenerationCallback(generator, lambda logs: None)


def run_epoch(callback, run, folder, epoch, size=5, **state):
    """An epoch as the trainer goes through it."""
    callback.on_epoch_begin(*stage(folder, epoch=epoch - 1.0, **state))
    for rows in run.batches(size):
        run.update(rows, generators=[callback.generator])
    callback.on_epoch_end(*stage(folder, epoch=float(epoch), **state))


def test_callback_counts_epochs_from_one_and_knows_resumed_ones(tmp_path):
    calls = []
    generator = SimpleNamespace(start_epoch=lambda epoch, resumed=False: calls.append((epoch, resumed)))
    callback = LabelGenerationCallback(generator, log=None)
    for done in (None, 0, 0.25, 1.0, 1.9999, 2.0, 7.5):
        callback.on_epoch_begin(*stage(tmp_path, epoch=done))
    assert calls == [(1, False), (1, False), (1, True), (2, False), (2, True), (3, False), (8, True)]


def test_callback_writes_the_whole_history_each_epoch(simulate, tmp_path):
    run = simulate("self_mm", seed=17, samples=9)
    logged = []
    callback = LabelGenerationCallback(run.generator, logged.append)
    for epoch in (1, 2, 3):
        run_epoch(callback, run, tmp_path, epoch)
        table = pq.read_table(tmp_path / HISTORY_FILE)
        assert table.equals(run.generator.history_table())
        assert table["epoch"].to_pylist() == list(np.repeat(range(1, epoch + 1), 9))
        assert table["audio"].to_pylist()[-9:] == run.generator.labels["audio"][:-1].float().tolist()
    assert [path.name for path in tmp_path.iterdir()] == [HISTORY_FILE]
    assert len(logged) == 3


@pytest.mark.parametrize("should_log", [True, False])
def test_callback_leaves_what_is_to_be_logged(simulate, tmp_path, should_log):
    """`Trainer.log` resets `should_log`; the epoch's training loss comes after the callback."""
    args, state, control = stage(tmp_path, epoch=1.0)
    control.should_log = should_log
    run = simulate("self_mm", seed=0)
    callback = LabelGenerationCallback(run.generator, lambda logs: setattr(control, "should_log", None))
    run.train(1)
    callback.on_epoch_end(args, state, control)
    assert control.should_log is should_log


def test_only_the_main_process_writes(simulate, tmp_path):
    run = simulate("self_mm", seed=18, samples=9)
    callback = silent(run.generator)
    run_epoch(callback, run, tmp_path, 1, main=False)
    callback.on_save(*stage(tmp_path, epoch=1.0, global_step=2, main=False))
    assert list(tmp_path.iterdir()) == []
    assert list(run.generator.history) == [1]


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("batches_done", [1, 2])
def test_callback_resumes_within_an_epoch(simulate, everything, strategy, tmp_path, named, batches_done):
    """From a checkpoint in the middle of an epoch, and from one at its last step, before its end was recorded."""
    run = simulate(strategy, seed=19, samples=10)
    unbroken, resumed = silent(run.generator), silent(run.twin())
    unbroken.on_train_begin(*stage(tmp_path))
    run_epoch(unbroken, run, tmp_path, 1)
    unbroken.on_epoch_begin(*stage(tmp_path, epoch=1.0, global_step=2))
    batches = [(rows, run.states(rows)) for rows in run.batches(5)]
    for rows, states in batches[:batches_done]:
        run.update(rows, states)
    step, done = 2 + batches_done, 1 + batches_done / 2
    unbroken.on_save(*stage(tmp_path, epoch=done, global_step=step))
    checkpoint = tmp_path / f"checkpoint-{step}"
    assert [path.name for path in checkpoint.iterdir()] == [STATE_FILE]

    resume = str(checkpoint) if named else True
    folder = tmp_path / "elsewhere" if named else tmp_path
    resumed.on_train_begin(*stage(folder, epoch=done, global_step=step, resume=resume))
    assert everything(resumed.generator) == everything(unbroken.generator)
    resumed.on_epoch_begin(*stage(folder, epoch=done, global_step=step))
    for rows, states in batches[batches_done:]:
        run.update(rows, states, generators=[resumed.generator, unbroken.generator])
    unbroken.on_epoch_end(*stage(tmp_path, epoch=2.0, global_step=4))
    if batches_done < 2:
        assert resumed.generator.epoch == 2
        resumed.on_epoch_end(*stage(folder, epoch=2.0, global_step=4))
        assert everything(resumed.generator) == everything(unbroken.generator)
        unbroken.on_epoch_begin(*stage(tmp_path, epoch=2.0, global_step=4))
        resumed.on_epoch_begin(*stage(folder, epoch=2.0, global_step=4))
    else:
        assert resumed.generator.epoch == 3
        unbroken.on_epoch_begin(*stage(tmp_path, epoch=2.0, global_step=4))
    assert everything(resumed.generator) == everything(unbroken.generator)


# Scores


def test_scores_against_true_labels(simulate, strategy, tmp_path):
    """Mean shift, correlation with the true labels, and that of the shifts with the true ones."""
    run = simulate(strategy, seed=20, samples=30)
    true = {"text": run.random.uniform(-3, 3, size=30), "vision": np.full(30, 0.5)}
    logged = []
    callback = LabelGenerationCallback(run.generator, logged.append, true)
    for epoch in (1, 2, 3):
        run_epoch(callback, run, tmp_path, epoch)
    assert [logs[f"{m}_label_shift"] for logs in logged[:1] for m in MODALITIES] == [0.0, 0.0, 0.0]
    assert math.isnan(logged[0]["text_label_shift_corr"])  # nothing generated yet
    last, y_m = logged[-1], run.labels.astype(np.float64)
    for m in MODALITIES:
        generated = run.generator.labels[m][:-1].numpy()
        assert last[f"{m}_label_shift"] == pytest.approx(sum(abs(generated - y_m)) / 30)
        assert last[f"{m}_label_shift"] > 0.1
    generated = run.generator.labels["text"][:-1].numpy()
    for name, a, b in (
        ("text_label_corr", generated, true["text"]),
        ("text_label_shift_corr", generated - y_m, true["text"] - y_m),
    ):
        a, b = a - sum(a) / 30, b - sum(b) / 30
        assert last[name] == pytest.approx(sum(a * b) / math.sqrt(sum(a * a) * sum(b * b)))
    assert math.isnan(last["vision_label_corr"])  # one true value only
    assert not any(name.startswith("audio") and "corr" in name for name in last)


def scored(m_labels, true_labels, **labels):
    """Scores of labels; the last row is the spare one, which counts nowhere."""
    rows = {name: torch.tensor([*values, 99.0], dtype=torch.float64) for name, values in labels.items()}
    m_rows = torch.tensor([*m_labels, 77.0], dtype=torch.float64)
    return label_scores(SimpleNamespace(modalities=tuple(labels), m_labels=m_rows, labels=rows), true_labels)


def test_known_scores():
    """Numbers by hand, the generated labels' and the multimodal ones' side by side; without true labels, the shift."""
    true = {"text": np.float32([2, -2, 3, 2])}
    scores = scored([1, -1, 2, 0], true, text=[2, -1, 3, 0], audio=[1, 0, 0, 0])
    assert scores == pytest.approx(
        {
            "text_label_shift": 0.5,
            "text_label_corr": 10 / math.sqrt(10 * 14.75),
            "text_label_mae": 0.75,
            "text_m_label_corr": 7.5 / math.sqrt(5 * 14.75),
            "text_m_label_mae": 1.25,
            "text_label_shift_corr": 0.5 / math.sqrt(1 * 4.75),
            "audio_label_shift": 0.75,
        }
    )


def test_scores_before_anything_was_generated():
    """The generated labels are the multimodal ones: so are their scores, and no shift has a correlation."""
    scores = scored([1, -1, 2, 0], {"text": np.array([2.0, -2, 3, 2])}, text=[1, -1, 2, 0])
    assert scores["text_label_corr"] == scores["text_m_label_corr"] > 0.8
    assert scores["text_label_mae"] == scores["text_m_label_mae"] == 1.25
    assert scores["text_label_shift"] == 0
    assert math.isnan(scores["text_label_shift_corr"])


def test_scores_where_one_side_is_constant():
    constant = scored([1, 1], {"text": np.array([0.0, 2])}, text=[0, 2])
    assert math.isnan(constant["text_m_label_corr"]) and constant["text_m_label_mae"] == 1
    assert constant["text_label_corr"] == pytest.approx(1) and constant["text_label_mae"] == 0
