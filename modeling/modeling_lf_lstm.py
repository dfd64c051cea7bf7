"""LF-LSTM: late fusion, one LSTM per modality, their last states side by side."""

import torch
from torch import nn

from configuration.configuration_lf_lstm import LfLstmConfig
from modeling.modality_sequence import ModalitySequence
from modeling.modeling_last_states import LastStatesModel
from modeling.recurrent import SequenceEncoder


class LfLstmModel(LastStatesModel):
    """
    LF-LSTM, the late-fusion baseline that Tsai et al. (ACL 2019) compare MulT with (tables 1 to 3): one LSTM per
    modality; their states after the last valid step are concatenated, and a residual layer and a linear one, which MulT
    ends with, predict from them. No code of it was published, and the paper says no more than its name.

    The modalities need no common steps. One that a sample lacks is zeros, its LSTM's state before the first step.
    """

    config_class = LfLstmConfig
    sequence_encoder: nn.ModuleDict

    def __init__(self, config: LfLstmConfig):
        super().__init__(config)
        sizes = self.build_inputs()
        self.sequence_encoder = nn.ModuleDict(
            {m: SequenceEncoder(width, config.hidden_size, dropout=config.dropout) for m, width in sizes.items()}
        )
        self.build_head(config, dict.fromkeys(sizes, config.hidden_size))
        self.post_init()

    def represent(self, sequences: dict[str, ModalitySequence]) -> dict[str, torch.Tensor]:
        """See the base class."""
        return {modality: lstm(sequences[modality]) for modality, lstm in self.sequence_encoder.items()}
