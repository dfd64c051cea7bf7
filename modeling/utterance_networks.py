"""Networks that represent each modality of an utterance by one vector, and layers that predict from such vectors."""

from __future__ import annotations

import torch
from torch import nn

from configuration.configuration_multimodal import MultimodalConfig
from modeling.modality_sequence import ModalitySequence, mean_state
from modeling.normalization import PresentBatchNorm
from modeling.recurrent import SequenceEncoder


class UtteranceNetworks(nn.Module):
    """
    The modality embedding subnetworks of TFN, which LMF and LF-DNN have, too: an LSTM and a linear layer for text,
    `MeanNetwork` for audio and vision. (Zadeh et al., EMNLP 2017, section 4.1, as its authors' code has them.)

    A modality that a sample lacks is represented by zeros.

    Args:
        input_sizes (`dict`): Features per step by modality.
        config (`MultimodalConfig`):
            Its `text_size` is the width of the text's representation, `text_hidden_size` that of its LSTM;
            `audio_hidden_size` and `vision_hidden_size` are the widths of the others' layers, the last of which is the
            representation; `<modality>_dropout` is the dropout of each.
    """

    def __init__(self, input_sizes: dict[str, int], config: MultimodalConfig):
        super().__init__()
        self.networks = nn.ModuleDict()
        self.output_sizes: dict[str, int] = {}
        for modality, width in input_sizes.items():
            size, dropout = (getattr(config, f"{modality}_{name}") for name in ("hidden_size", "dropout"))
            network: SequenceEncoder | MeanNetwork
            if modality == "text":
                network = SequenceEncoder(width, size, getattr(config, "text_size"), dropout)  # noqa: B009
            else:
                network = MeanNetwork(width, size, dropout)
            self.networks[modality] = network
            self.output_sizes[modality] = network.output_size

    def forward(self, sequences: dict[str, ModalitySequence]) -> dict[str, torch.Tensor]:
        """From sequences by modality to representations (B, size) by modality."""
        return {modality: network(sequences[modality]) for modality, network in self.networks.items()}


class MeanNetwork(nn.Module):
    """
    The mean over the valid steps, batch normalisation, dropout, and three layers ReLU(W x + b). A sequence without any
    step is represented by zeros.

    Args:
        feature_size (`int`): Features per step.
        size (`int`): Width of the layers.
        dropout (`float`): On the normalised mean.
    """

    def __init__(self, feature_size: int, size: int, dropout: float):
        super().__init__()
        self.norm = PresentBatchNorm(feature_size)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(nn.Linear(width, size) for width in (feature_size, size, size))
        self.output_size = size

    def forward(self, sequence: ModalitySequence) -> torch.Tensor:
        """Returns (B, size)."""
        state = self.dropout(self.norm(mean_state(sequence), sequence.present))
        for layer in self.layers:
            state = torch.relu(layer(state))
        return state.masked_fill(~sequence.present.unsqueeze(-1), 0.0)


class PredictionLayers(nn.Module):
    """
    Dropout, two layers ReLU(W x + b), and a linear one: what TFN and LF-DNN predict with.

    Args:
        input_size (`int`): Width of what comes in.
        size (`int`): Width of the two layers.
        outputs (`int`): Predictions.
        dropout (`float`): On what comes in.
    """

    def __init__(self, input_size: int, size: int, outputs: int, dropout: float):
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.first = nn.Linear(input_size, size)
        self.second = nn.Linear(size, size)
        self.output = nn.Linear(size, outputs)

    def forward(self, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """From (B, input_size) to the predictions (B, outputs) and the state before them (B, size)."""
        return self.after_first(self.first(self.dropout(values)))

    def after_first(self, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The same from what the first layer made of the dropped input, (B, size), before its ReLU."""
        state = torch.relu(self.second(torch.relu(hidden)))
        return self.output(state), state
