"""Predictions for rows of a corpus as a table, and metrics of such a table."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from datasets_scripts import EMOTIONS
from datasets_scripts.extraction.share import Share
from modeling import MultimodalOutput
from training.collator import MultimodalCollator
from training.corpus import PreparedRows
from training.memory import memory_for
from training.streaming import StreamedRows
from training.targets import Target
from training.trainer import MASKS

Change = Callable[[int, dict[str, Any]], dict[str, Any]]


def predict_rows(
    model,
    processor,
    rows: PreparedRows,
    batch_size: int = 32,
    change: Change | None = None,
    share: Share | None = None,
) -> pa.Table:
    """
    Predicts every row, in float32 or whatever the model is in, on the model's device.

    Args:
        model: A model of this collection.
        processor: Its processor.
        rows: A split that `training.corpus.prepare_split` prepared.
        batch_size: Samples at a time, taken by length where the rows are not streamed.
        change: Called with a row's position and the row before it goes to the model; returns what goes there.
        share: Of several processes that predict the same rows together: each one its share of the batches, which are
            those of one process. All return the whole table.

    Returns:
        A row per sample, in the order of the rows: `id`; the references, `label` or, of emotions, `<emotion>_label`,
        null where the rows have none; and the prediction, for a regression `prediction`, for classes and emotions a
        probability each, under their names. The same again for each modality's own prediction, with `text_`, `audio_`
        or `vision_` before the name: null where the sample lacks the modality or the model has no such head.
    """
    target = Target(model.config.target)  # what it predicts is the same by either convention
    width = len(target.score_names)
    values = {prefix: np.full((len(rows), width), np.nan) for prefix in ("", *(f"{m}_" for m in MASKS))}
    predicted = np.full(len(rows), False)
    for chosen, batch, outputs in answers(model, processor, rows, batch_size, change, share):
        predicted[chosen] = True
        assert outputs.logits is not None  # a model of this collection always predicts
        values[""][chosen] = target.scores(outputs.logits.float().cpu().numpy())
        for modality, mask_name in MASKS.items():
            logits = outputs.get(f"{modality}_logits")
            if logits is not None and mask_name in batch:
                present = batch[mask_name].bool().any(dim=1).cpu().numpy()
                scores = target.scores(logits.float().cpu().numpy())
                values[f"{modality}_"][chosen] = np.where(present[:, None], scores, np.nan)
    if share is not None and share.processes > 1:
        mine = np.flatnonzero(predicted)
        for theirs, parts in share.gathered((mine, {prefix: scores[mine] for prefix, scores in values.items()})):
            for prefix, scores in parts.items():
                values[prefix][theirs] = scores
    columns = {"id": pa.array(rows["id"][:], pa.string())}
    names = reference_names(target)
    if target.column in rows.column_names:
        references = np.asarray(rows[target.column][:], np.float32).reshape(len(rows), len(names))
        columns |= {name: pa.array(column) for name, column in zip(names, references.T, strict=True)}
    else:
        columns |= {name: pa.nulls(len(rows), pa.float32()) for name in names}
    for prefix, scores in values.items():
        for name, column in zip(target.score_names, scores.T, strict=True):
            columns[f"{prefix}{name}"] = pa.array(column.astype(np.float32), from_pandas=bool(prefix))
    return pa.table(columns)


def reference_names(target: Target) -> tuple[str, ...]:
    """The columns of a table of `predict_rows` that hold what is true."""
    return tuple(f"{name}_label" for name in EMOTIONS) if target.of_emotions else ("label",)


def answers(
    model,
    processor,
    rows: PreparedRows,
    batch_size: int,
    change: Change | None = None,
    share: Share | None = None,
) -> Iterator[tuple[np.ndarray, dict[str, torch.Tensor], MultimodalOutput]]:
    """
    The model's outputs for all rows, or a share of their batches, in evaluation mode: positions of a batch's rows, the
    batch as the model got it, and its output.
    """
    collate = MultimodalCollator(processor)  # of its labels nothing is used
    was_training = model.training
    model.eval()
    try:
        for chosen, samples in batches(rows, batch_size, share):
            if change is not None:
                samples = [change(int(i), sample) for i, sample in zip(chosen, samples, strict=True)]
            batch = collate(samples)
            for name in ("id", "labels", "references"):
                batch.pop(name, None)
            batch = {name: tensor.to(model.device) for name, tensor in batch.items()}
            with torch.no_grad(), memory_for(batch):
                outputs = model(**batch)
            yield chosen, batch, outputs
    finally:
        model.train(was_training)


def batches(
    rows: PreparedRows, batch_size: int, share: Share | None = None
) -> Iterator[tuple[np.ndarray, list[dict[str, Any]]]]:
    """Positions and rows of each batch, or of a share of them: by length, or, of streamed rows, in order."""
    if isinstance(rows, StreamedRows):
        stream = enumerate(rows)
        groups = iter(lambda: list(itertools.islice(stream, batch_size)), [])
        for group in groups if share is None else share.of(groups):
            yield np.array([position for position, _ in group]), [row for _, row in group]
        return
    order = np.argsort(np.asarray(rows["length"][:]), kind="stable")
    starts = range(0, len(order), batch_size)
    for start in starts if share is None else share.of(starts):
        chosen = order[start : start + batch_size]
        yield chosen, [rows[int(i)] for i in chosen]


def own_predictions(model) -> tuple[str, ...]:
    """The modalities whose own predictions, if any, are of the target; unimodal tasks predict something else."""
    return () if hasattr(model.config, "unimodal_tasks") else model.config.modalities


def table_metrics(table: pa.Table, target: Target, head: str = "") -> dict[str, float]:
    """
    The metric's numbers for a table of `predict_rows`.

    Args:
        table: The table.
        target: What was predicted.
        head: Whose prediction: "" for that from all modalities, or "text", "audio" or "vision", whose numbers are over
            the samples that have the modality; none where there are none.
    """
    prefix = f"{head}_" if head else ""
    table = table.filter(pc.is_valid(table[f"{prefix}{target.score_names[0]}"]))
    if head and not len(table):
        return {}
    scores, references = scores_and_references(table, target, prefix)
    return target.metrics(scores, references, ids=table["id"].to_pylist())


def scores_and_references(table: pa.Table, target: Target, prefix: str = "") -> tuple[np.ndarray, np.ndarray]:
    """Of a table of `predict_rows`: scores (N, k), and references (N,) or, of emotions, (N, 6)."""
    scores = np.stack([table[f"{prefix}{name}"].to_numpy() for name in target.score_names], axis=1)
    references = np.stack([table[name].to_numpy() for name in reference_names(target)], axis=1)
    return scores, references if target.of_emotions else references[:, 0]
