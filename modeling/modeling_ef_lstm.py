"""EF-LSTM: early fusion, one LSTM over the features of all modalities side by side."""

import torch
from torch import nn

from configuration.configuration_ef_lstm import EfLstmConfig
from modeling.alignment import side_by_side
from modeling.modality_sequence import ModalitySequence, last_valid_state
from modeling.modeling_multimodal import MultimodalOutput, MultimodalPreTrainedModel
from modeling.recurrent import lstm_states


class EfLstmModel(MultimodalPreTrainedModel):
    """
    EF-LSTM, the early-fusion baseline: at each step the features of all modalities are concatenated, stacked LSTMs read
    them, and two linear layers predict from the last one's state after the last valid step.

    The modalities are brought to the steps of the text (see `modeling.alignment`). One that a sample lacks is zeros.
    """

    config_class = EfLstmConfig

    def __init__(self, config: EfLstmConfig):
        super().__init__(config)
        size = config.hidden_size
        self.lstm = nn.LSTM(
            sum(self.build_inputs().values()),
            size,
            config.num_hidden_layers,
            batch_first=True,
            dropout=config.dropout if config.num_hidden_layers > 1 else 0.0,
        )
        self.dropout = nn.Dropout(config.dropout)
        self.hidden = nn.Linear(size, size)
        self.output = nn.Linear(size, len(config.output_names))
        self.post_init()

    def predict(self, sequences: dict[str, ModalitySequence], labels: torch.Tensor | None = None) -> MultimodalOutput:
        """See the base class."""
        joined = side_by_side(sequences)
        state = last_valid_state(ModalitySequence(lstm_states(self.lstm, joined), joined.mask))
        state = torch.relu(self.hidden(self.dropout(state)))
        logits = self.output(self.dropout(state))
        loss = None if labels is None else self.prediction_loss(logits, labels)
        return MultimodalOutput(loss=loss, logits=logits, fusion_state=state)
