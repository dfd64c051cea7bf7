"""Self-MM: a multimodal and three unimodal tasks on shared encoders, the unimodal labels generated during training."""

import torch
from torch import nn

from configuration.configuration_self_mm import SelfMMConfig
from modeling.modality_sequence import first_valid_state, mean_state
from modeling.modeling_multitask import JointRepresentation, MultitaskModel
from modeling.recurrent import SequenceEncoder


class SelfMMModel(MultitaskModel):
    """
    Self-MM (Yu, Xu, Yuan and Wu, AAAI 2021, "Learning Modality-Specific Representations with Self-Supervised Multi-Task
    Learning for Multimodal Sentiment Analysis"), with its heads.

    Text is represented by the text encoder's state at the first token (or, for `text_values`, by an LSTM's end state),
    audio and vision by their LSTMs' end states; heads over each, and over the three together, predict the sentiment.
    With `sequence_encoder` "spt" or "transformer" (SUGRM, table 4), one encoder that reads all modalities represents
    each by its last valid state, text among them.

    A missing modality is represented by zeros, its LSTM's state before the first step.
    """

    config_class = SelfMMConfig

    def __init__(self, config: SelfMMConfig):
        super().__init__(config)
        if config.sequence_encoder == "lstm":
            sizes = {}
            for modality, width in self.input_sizes.items():
                if modality == "text" and config.text_config is not None:
                    sizes[modality] = width
                    continue
                encoder = SequenceEncoder(
                    width,
                    getattr(config, f"{modality}_hidden_size"),
                    getattr(config, f"{modality}_projection_size"),
                    config.sequence_dropout,
                )
                self.add_module(f"{modality}_encoder", encoder)
                sizes[modality] = encoder.output_size
        else:
            self.sequence_encoder = JointRepresentation(self.input_sizes, config)
            sizes = self.sequence_encoder.output_sizes
        self.state_sizes = {task: getattr(config, f"{task}_size") for task in ("fusion", *config.unimodal_tasks)}
        self.heads = nn.ModuleDict(
            {
                task: _Head(
                    sum(sizes.values()) if task == "fusion" else sizes[task],
                    size,
                    getattr(config, f"{task}_dropout"),
                    config.head_layers,
                    len(config.output_names),  # 1 wherever there are unimodal tasks
                )
                for task, size in self.state_sizes.items()
            }
        )
        self.post_init()

    def represent(self, sequences):
        if self.config.sequence_encoder != "lstm":
            return self.sequence_encoder(sequences)
        return {modality: self._represent(modality, sequence) for modality, sequence in sequences.items()}

    def _represent(self, modality, sequence):
        if modality == "text" and self.config.text_config is not None:
            return first_valid_state(sequence) if self.config.text_pooling == "first" else mean_state(sequence)
        return self.get_submodule(f"{modality}_encoder")(sequence)


class _Head(nn.Module):
    """F* = ReLU(W1 F + b1), then the prediction W2 F* + b2 (paper) or W3 ReLU(W2 F* + b2) + b3 (authors' code)."""

    def __init__(self, input_size: int, size: int, dropout: float, layers: int, num_labels: int):
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.space = nn.Linear(input_size, size)
        self.hidden = nn.Linear(size, size) if layers == 3 else None
        self.output = nn.Linear(size, num_labels)

    def forward(self, representation: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the prediction (B, num_labels) and F* (B, size)."""
        state = torch.relu(self.space(self.dropout(representation)))
        hidden = state if self.hidden is None else torch.relu(self.hidden(state))
        return self.output(hidden), state
