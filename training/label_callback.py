"""The callback that drives label generation, and scores of what was generated."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from transformers import TrainerCallback

from training.label_generation import LabelGenerator

STATE_FILE = "label_generation.safetensors"
HISTORY_FILE = "generated_labels.parquet"


class LabelGenerationCallback(TrainerCallback):
    """
    Tells a label generator when epochs begin and end, puts its state into every checkpoint and takes it out again, and
    writes `generated_labels.parquet` (id, epoch, text, audio, vision) after every epoch.

    Args:
        generator (`LabelGenerator`): What to drive.
        log: Called with a dictionary of numbers after each epoch, `Trainer.log` as a rule.
        true_labels (`dict`, *optional*):
            By modality, true unimodal labels (N,) in the generator's order, where the corpus has them: the generated
            ones are then scored against them.
    """

    def __init__(self, generator: LabelGenerator, log, true_labels: dict[str, np.ndarray] | None = None):
        self.generator = generator
        self.log = log
        self.true_labels = true_labels or {}

    def on_train_begin(self, args, state, control, **kwargs):
        if state.global_step > 0:
            checkpoint = args.resume_from_checkpoint
            if not isinstance(checkpoint, str):
                checkpoint = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            self.generator.load(Path(checkpoint) / STATE_FILE)

    def on_epoch_begin(self, args, state, control, **kwargs):
        done = state.epoch or 0.0
        self.generator.start_epoch(int(done) + 1, resumed=done != int(done))

    def on_epoch_end(self, args, state, control, **kwargs):
        self.generator.record(self.generator.epoch)
        wanted = control.should_log
        self.log(self.scores())
        control.should_log = wanted  # logging resets it, and the epoch's training loss is still to be logged
        if state.is_world_process_zero:
            self.generator.write_history(Path(args.output_dir) / HISTORY_FILE)

    def on_save(self, args, state, control, **kwargs):
        if state.is_world_process_zero:
            self.generator.save(Path(args.output_dir) / f"checkpoint-{state.global_step}" / STATE_FILE)

    def scores(self) -> dict[str, float]:
        return label_scores(self.generator, self.true_labels)


def label_scores(generator: LabelGenerator, true_labels: dict[str, np.ndarray]) -> dict[str, float]:
    """
    By modality: `label_shift`, the mean distance of the generated labels from the multimodal ones. Where true unimodal
    labels are known, `label_corr` and `label_mae`, the generated labels' correlation with them and mean distance from
    them; the same of the multimodal labels, `m_label_corr` and `m_label_mae`, which generation has to beat; and
    `label_shift_corr`, the correlation of what was generated beyond the multimodal label with what is true beyond it.
    NaN where a side is constant, as before the second epoch.
    """
    scores = {}
    m_labels = generator.m_labels[:-1].cpu().numpy()
    for modality in generator.modalities:
        generated = generator.labels[modality][:-1].cpu().numpy()
        scores[f"{modality}_label_shift"] = float(np.abs(generated - m_labels).mean())
        if modality in true_labels:
            true = np.asarray(true_labels[modality], np.float64)
            scores[f"{modality}_label_corr"] = _correlation(generated, true)
            scores[f"{modality}_label_mae"] = float(np.abs(generated - true).mean())
            scores[f"{modality}_m_label_corr"] = _correlation(m_labels, true)
            scores[f"{modality}_m_label_mae"] = float(np.abs(m_labels - true).mean())
            scores[f"{modality}_label_shift_corr"] = _correlation(generated - m_labels, true - m_labels)
    return scores


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return math.nan
    return float(np.corrcoef(a, b)[0, 1])
