"""From rows of the corpus to a batch: padded to the batch's own lengths."""

from __future__ import annotations

from typing import Any

import torch

from datasets_scripts import MODALITIES


class MultimodalCollator:
    """
    Pads rows with the processor and adds labels and ids.

    Args:
        processor (`MultimodalProcessor`): Knows which inputs the model reads.
        unimodal_labels (`bool`): Whether the corpus' own unimodal labels go into the batch.
    """

    def __init__(self, processor, unimodal_labels: bool = False):
        self.processor = processor
        self.unimodal_labels = unimodal_labels

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """Returns forward's arguments as tensors and, under "id", the list of ids."""
        columns = {}
        if self.processor.text_input == "tokens":
            columns["input_ids"] = [row["input_ids"] for row in rows]
            if "token_type_ids" in rows[0]:
                columns["token_type_ids"] = [row["token_type_ids"] for row in rows]
        for modality in MODALITIES:
            name = f"{modality}_values"
            # Data that lacks a modality as a whole has no column for it.
            if getattr(self.processor, f"{modality}_feature_size") is not None and name in rows[0]:
                columns[name] = [row[name] for row in rows]
        batch: dict[str, Any] = dict(self.processor(**columns))
        if "label" in rows[0]:
            batch["labels"] = torch.tensor([float(row["label"]) for row in rows])
        if self.unimodal_labels:
            for name in (f"{modality}_label" for modality in MODALITIES):
                if name in rows[0]:
                    batch[f"{name}s"] = torch.tensor([float(row[name]) for row in rows])
        batch["id"] = [row["id"] for row in rows]  # last: accelerate reads the batch size off the first entry
        return batch
