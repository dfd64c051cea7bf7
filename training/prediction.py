"""Predictions for rows of a corpus as a table, and metrics of such a table."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import torch
from datasets import Dataset

from modeling import MultimodalOutput
from spaces.multimodal_sentiment.multimodal_sentiment import regression_metrics
from training.collator import MultimodalCollator
from training.trainer import MASKS


def predict_rows(model, processor, rows: Dataset, batch_size: int = 32) -> pa.Table:
    """
    Predicts every row, in float32 or whatever the model is in, on the model's device.

    Args:
        model: A model of this collection.
        processor: Its processor.
        rows: A split that `training.corpus.prepare_split` prepared.
        batch_size: Samples at a time, taken by length.

    Returns:
        (id, label, prediction, text_prediction, audio_prediction, vision_prediction) in the order of the rows. A
        unimodal prediction is null where the sample lacks the modality or the model has no such head; label is null
        where the rows have none.
    """
    names = ("prediction", *(f"{modality}_prediction" for modality in MASKS))
    values = {name: np.full(len(rows), np.nan) for name in names}
    for chosen, batch, outputs in answers(model, processor, rows, batch_size):
        assert outputs.logits is not None  # a model of this collection always predicts
        values["prediction"][chosen] = outputs.logits[:, 0].float().cpu().numpy()
        for modality, mask_name in MASKS.items():
            logits = outputs.get(f"{modality}_logits")
            if logits is not None and mask_name in batch:
                present = batch[mask_name].bool().any(dim=1).cpu().numpy()
                values[f"{modality}_prediction"][chosen] = np.where(present, logits[:, 0].float().cpu().numpy(), np.nan)
    labels = np.asarray(rows["label"][:], np.float32) if "label" in rows.column_names else None
    return pa.table(
        {
            "id": pa.array(rows["id"][:], pa.string()),
            "label": pa.nulls(len(rows), pa.float32()) if labels is None else pa.array(labels),
            "prediction": pa.array(values["prediction"].astype(np.float32)),
            **{name: pa.array(values[name].astype(np.float32), from_pandas=True) for name in names[1:]},
        }
    )


def answers(
    model, processor, rows: Dataset, batch_size: int
) -> Iterator[tuple[np.ndarray, dict[str, torch.Tensor], MultimodalOutput]]:
    """
    The model's outputs for all rows in evaluation mode, taken by length: positions of a batch's rows, the batch as the
    model got it, and its output.
    """
    collate = MultimodalCollator(processor)
    order = np.argsort(np.asarray(rows["length"][:]), kind="stable")
    was_training = model.training
    model.eval()
    try:
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            batch = collate([rows[int(i)] for i in chosen])
            batch.pop("id")
            batch.pop("labels", None)
            batch = {name: tensor.to(model.device) for name, tensor in batch.items()}
            with torch.no_grad():
                outputs = model(**batch)
            yield chosen, batch, outputs
    finally:
        model.train(was_training)


def table_metrics(table: pa.Table, convention: str) -> dict[str, float]:
    """The metric's numbers for a table of `predict_rows`."""
    return regression_metrics(
        table["prediction"].to_numpy(), table["label"].to_numpy(), ids=table["id"].to_pylist(), convention=convention
    )
