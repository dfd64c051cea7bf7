"""SUGRM: recalibrated modalities, a sparse phased transformer, and all tasks' states in one common space."""

import torch
from torch import nn

from configuration.configuration_sugrm import SugrmConfig
from modeling.modeling_multitask import JointRepresentation, MultitaskModel


class SugrmModel(MultitaskModel):
    """
    SUGRM (Hwang and Kim, "Self-Supervised Unimodal Label Generation Strategy Using Recalibrated Modality
    Representations for Multimodal Sentiment Analysis", Findings of EACL 2023), with its heads.

    The text encoder's states, audio and vision are recalibrated, each by what all hold; the sparse phased transformer
    reads the three together, and the last slot of each represents it; heads map the three, and what they are
    concatenated, into one common space of `common_size`, where the label generator compares them, and predict the
    sentiment there.

    A missing modality has no part in the squeeze, gives no slots to the others, and is represented by zeros.

    The authors' code looks at padding as at data (its squeeze, windows and last slot); here a mask says what is valid,
    and there is no switch for the other: predictions would depend on how far a batch was padded.
    """

    config_class = SugrmConfig

    def __init__(self, config: SugrmConfig):
        super().__init__(config)
        self.sequence_encoder = JointRepresentation(self.input_sizes, config)
        sizes = self.sequence_encoder.output_sizes
        self.state_sizes = dict.fromkeys(("fusion", *config.unimodal_tasks), config.common_size)
        self.heads = nn.ModuleDict(
            {task: _Head(sum(sizes.values()) if task == "fusion" else sizes[task], config) for task in self.state_sizes}
        )
        self.post_init()

    def represent(self, sequences):
        return self.sequence_encoder(sequences)


class _Head(nn.Module):
    """
    F* = ReLU(W1 F + b1) (paper), or F* = W2 dropout(ReLU(W1 F + b1)) + b2 (authors' code, `head_layers` 3), then a
    linear prediction. Dropout is on what comes out of the ReLU, which in the paper's form leaves F* without noise.
    """

    def __init__(self, input_size: int, config: SugrmConfig):
        super().__init__()
        self.dropout = nn.Dropout(config.output_dropout)
        self.hidden = nn.Linear(input_size, config.common_size)
        self.space = nn.Linear(config.common_size, config.common_size) if config.head_layers == 3 else None
        self.output = nn.Linear(config.common_size, len(config.output_names))  # 1 wherever there are unimodal tasks

    def forward(self, representation: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the prediction (B, num_labels) and F* (B, common_size)."""
        hidden = torch.relu(self.hidden(representation))
        if self.space is None:
            return self.output(self.dropout(hidden)), hidden
        state = self.space(self.dropout(hidden))
        return self.output(state), state
