"""From rows of the corpus to a batch: padded to the batch's own lengths."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from datasets_scripts import MODALITIES
from training.encoded_text import STATES
from training.targets import Target

SENTIMENT = Target("sentiment")


class MultimodalCollator:
    """
    Pads rows with the processor and adds labels, references and ids.

    Args:
        processor (`MultimodalProcessor`): Knows which inputs the model reads.
        target (`Target`): Makes labels of the rows' sentiment or emotions.
        unimodal_labels (`bool`): Whether the corpus' own unimodal labels go into the batch.
    """

    def __init__(self, processor, target: Target = SENTIMENT, unimodal_labels: bool = False):
        self.processor = processor
        self.target = target
        self.unimodal_labels = unimodal_labels

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """
        Rows with the text encoder's states (see `with_text_states`) give those as `text_values`, not `input_ids`.

        Returns forward's arguments as tensors and, where the rows have the target's column, `references`, the column's
        values, from which metrics are computed; and, under "id", the list of ids.
        """
        columns: dict[str, list] = {}
        encoded = [row[STATES] for row in rows] if STATES in rows[0] else []
        if self.processor.text_input == "tokens" and not encoded:
            columns["input_ids"] = [row["input_ids"] for row in rows]
            if "token_type_ids" in rows[0]:
                columns["token_type_ids"] = [row["token_type_ids"] for row in rows]
        for modality in MODALITIES:
            name = f"{modality}_values"
            # Data that lacks a modality as a whole has no column for it.
            if getattr(self.processor, f"{modality}_feature_size") is not None and name in rows[0]:
                columns[name] = [row[name] for row in rows]
        batch: dict[str, Any] = dict(self.processor(**columns)) if _any(columns) else {}
        batch.update(_padded_states(encoded))
        batch = batch or dict[str, Any](self._nothing(len(rows)))
        if self.target.column in rows[0]:
            references = np.asarray([row[self.target.column] for row in rows], np.float32)
            batch["labels"] = self.target.labels(references)
            batch["references"] = torch.from_numpy(references)
        if self.unimodal_labels:
            for name in (f"{modality}_label" for modality in MODALITIES):
                if name in rows[0]:
                    batch[f"{name}s"] = torch.tensor([float(row[name]) for row in rows])
        batch["id"] = [row["id"] for row in rows]  # last: accelerate reads the batch size off the first entry
        return batch

    def _nothing(self, rows: int) -> dict[str, torch.Tensor]:
        """Inputs of samples that lack every modality: one masked step. Every model has an answer for them."""
        mask = torch.zeros(rows, 1, dtype=torch.long)
        inputs = {}
        for name in self.processor.model_input_names:
            if name.endswith("_values"):
                size = getattr(self.processor, name.replace("_values", "_feature_size"))
                inputs[name] = torch.zeros(rows, 1, size)
            else:
                inputs[name] = mask
        return inputs


def _any(columns: dict[str, list]) -> bool:
    return any(value is not None and len(value) > 0 for values in columns.values() for value in values)


def _padded_states(rows: list[np.ndarray]) -> dict[str, torch.Tensor]:
    """Sequences (steps, width) with zeros behind them, and their mask; nothing where none has a step."""
    longest = max((len(row) for row in rows), default=0)
    if longest == 0:
        return {}
    values = np.zeros((len(rows), longest, rows[0].shape[1]), rows[0].dtype)
    mask = np.zeros((len(rows), longest), np.int64)
    for i, row in enumerate(rows):
        values[i, : len(row)] = row
        mask[i, : len(row)] = 1
    return {"text_values": torch.from_numpy(values), "attention_mask": torch.from_numpy(mask)}
