"""What MulT, SPT and LF-LSTM share: an encoder, the last states side by side, a residual layer."""

import torch
from torch import nn

from configuration.configuration_multimodal import MultimodalConfig
from modeling.attention import ResidualLayer
from modeling.modality_sequence import ModalitySequence, last_valid_state, left_align
from modeling.modeling_multimodal import MultimodalOutput, MultimodalPreTrainedModel


class LastStatesModel(MultimodalPreTrainedModel):
    """
    Base of architectures that predict from the state at each modality's last valid step: the states h_m, side by side,
    go through a residual layer and a linear one,

        x = [h_text; h_audio; h_vision],  y = W3 (x + W2 dropout(ReLU(W1 x + b1)) + b2) + b3.

    A modality that a sample lacks is zeros in x.

    A subclass's `__init__` makes `sequence_encoder`, calls `build_head` and ends with `post_init`; its configuration
    has an `output_dropout`.
    """

    sequence_encoder: nn.Module

    def build_head(self, config: MultimodalConfig, state_sizes: dict[str, int]) -> None:
        """Makes the layers after the encoder, whose states are as wide as `state_sizes` says, by modality."""
        size = sum(state_sizes.values())
        self.residual = ResidualLayer(size, config.output_dropout)
        self.output = nn.Linear(size, len(config.output_names))

    def represent(self, sequences: dict[str, ModalitySequence]) -> dict[str, torch.Tensor]:
        """h_m by modality, (B, state_sizes[m])."""
        aligned = {modality: left_align(sequence)[0] for modality, sequence in sequences.items()}
        return {modality: last_valid_state(found) for modality, found in self.sequence_encoder(aligned).items()}

    def predict(self, sequences: dict[str, ModalitySequence], labels: torch.Tensor | None = None) -> MultimodalOutput:
        """See the base class."""
        states = self.represent(sequences)
        state = self.residual(torch.cat(list(states.values()), dim=-1))
        logits = self.output(state)
        loss = None if labels is None else self.prediction_loss(logits, labels)
        return MultimodalOutput(
            loss=loss, logits=logits, fusion_state=state, **{f"{m}_state": found for m, found in states.items()}
        )
