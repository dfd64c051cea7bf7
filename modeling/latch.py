"""
MMLatch's top-down feedback, around any encoder.

Source: Paraskevopoulos et al., ICASSP 2022, section 2, "Top-down fusion", equation 4.
"""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from torch import nn

from modeling.modality_sequence import ModalitySequence, resample


class Latch(nn.Module):
    """
    Encodes twice. Stage I encodes the inputs i and makes, from what the encoder r_j says of each modality j, a mask
    f_jk = sigmoid(h_jk) for the features of each other modality k, h_jk being an LSTM (or a linear layer) from the
    width of r_j to that of i_k. Stage II encodes the masked inputs, where the mask of k is the mean of the others'
    (equation 4):

        i_k <- (f_jk + f_lk) / 2 * i_k

    The paper speaks of three feedback LSTMs; as the features of the modalities differ in width, its authors' code has
    one per ordered pair, as here.

    Where modalities differ in steps, r_j is brought to the steps of k (`resample`); in word-aligned corpora, the
    paper's, nothing changes. A mask is the mean over those other modalities that the sample has, and 1 where it has
    none.

    The state of an LSTM lies between -1 and 1, its masks therefore between 0.27 and 0.73 (0.36 to 0.65 in the paper's
    figure 2); those of a linear layer between 0 and 1.

    Args:
        encoder (`nn.Module`): From left-aligned sequences by modality to sequences by modality, of any number of steps;
            it names their widths in `output_sizes`.
        input_sizes (`dict`): Features per step by modality.
        feedback (`str`): "lstm" or "linear".
        feedback_dropout (`float`): On the feedback LSTMs' states, before the sigmoid.
        mask_dropout (`float`): On the masks, in training.
        stage1_gradient (`bool`): Whether gradients reach the encoder through stage I.
    """

    def __init__(
        self,
        encoder: nn.Module,
        input_sizes: dict[str, int],
        feedback: str = "lstm",
        feedback_dropout: float = 0.0,
        mask_dropout: float = 0.0,
        stage1_gradient: bool = False,
    ):
        super().__init__()
        self.encoder = encoder
        sizes: Any = encoder.output_sizes
        self.stage1_gradient = stage1_gradient
        self.feedback_dropout = nn.Dropout(feedback_dropout if feedback == "lstm" else 0.0)
        self.mask_dropout = nn.Dropout(mask_dropout)
        self.sources = {target: [source for source in input_sizes if source != target] for target in input_sizes}
        self.feedback = nn.ModuleDict(
            {
                f"{target}_from_{source}": nn.LSTM(sizes[source], input_sizes[target], batch_first=True)
                if feedback == "lstm"
                else nn.Linear(sizes[source], input_sizes[target])
                for target, sources in self.sources.items()
                for source in sources
            }
        )

    def forward(
        self, sequences: dict[str, ModalitySequence]
    ) -> tuple[dict[str, ModalitySequence], dict[str, torch.Tensor]]:
        """
        Args:
            sequences (`dict`): Left-aligned, by modality.

        Returns:
            What the encoder makes of the masked inputs, and by modality the masks (B, T, d), before dropout.
        """
        stage = contextlib.nullcontext() if self.stage1_gradient else torch.no_grad()
        with stage:
            encoded = self.encoder(sequences)
        masks, masked = {}, {}
        for modality, sequence in sequences.items():
            mask, others = self._mask(modality, sequence, encoded)
            masks[modality] = torch.where(others, mask, 1.0)
            factors = torch.where(others, self.mask_dropout(mask), 1.0)
            masked[modality] = ModalitySequence(sequence.values * factors, sequence.mask)
        return self.encoder(masked), masks

    def _mask(self, target, sequence, encoded) -> tuple[torch.Tensor, torch.Tensor]:
        """The mean of the others' masks (B, T, d), and (B, 1, 1) whether the sample has any other modality."""
        total = torch.zeros_like(sequence.values)
        count = torch.zeros_like(sequence.values[:, :1, :1])
        for source in self.sources[target]:
            layer = self.feedback[f"{target}_from_{source}"]
            there = encoded[source].present[:, None, None]
            hidden = layer(resample(encoded[source], sequence.mask).values)
            if isinstance(hidden, tuple):  # an LSTM's states at all steps, and its last ones
                hidden = hidden[0]
            gates = torch.sigmoid(self.feedback_dropout(hidden))
            total = total + gates.masked_fill(~there, 0.0)
            count = count + there.to(count.dtype)
        return total / count.clamp(min=1), count > 0
