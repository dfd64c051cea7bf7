"""
Modality recalibration: the features of each modality are weighted by what all modalities hold.

Source: SUGRM (Hwang and Kim), section 3.2.1, "Modality Recalibration Module"; after Hu et al., CVPR 2018
(squeeze and excitation), and Vaezi Joze et al., CVPR 2020.
"""

from __future__ import annotations

import torch
from torch import nn

from modeling.modality_sequence import ModalitySequence, mean_state


class ModalityRecalibration(nn.Module):
    """
    S_s = mean of F_s over its steps; Z = ReLU(W_z [S_t; S_a; S_v] + b_z); E_s = W_s Z + b_s; F_s becomes
    2 sigmoid(E_s) F_s, the same weights at every step.

    The mean is over valid steps (the authors' code takes in the padding); that of a missing modality is zero.

    Args:
        sizes (`dict`): Features per step by modality.
        reduction (`int`): Z is the sum of the sizes over this wide, rounded down (4 in the authors' code; the paper
            does not say).
    """

    def __init__(self, sizes: dict[str, int], reduction: int):
        super().__init__()
        total = sum(sizes.values())
        bottleneck = max(total // reduction, 1)
        self.squeeze = nn.Linear(total, bottleneck)
        self.excite = nn.ModuleDict({modality: nn.Linear(bottleneck, size) for modality, size in sizes.items()})

    def forward(self, sequences: dict[str, ModalitySequence]) -> dict[str, ModalitySequence]:
        """The same sequences with their features weighted."""
        squeezed = torch.cat([mean_state(sequences[modality]) for modality in self.excite], dim=-1)
        joint = torch.relu(self.squeeze(squeezed))
        weighted = {}
        for modality, excite in self.excite.items():
            values, mask = sequences[modality]
            gates = 2 * torch.sigmoid(excite(joint))
            weighted[modality] = ModalitySequence(values * gates.unsqueeze(1), mask)
        return weighted
