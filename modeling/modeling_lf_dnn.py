"""LF-DNN: late fusion, one vector per modality, side by side."""

import torch

from configuration.configuration_lf_dnn import LfDnnConfig
from modeling.modality_sequence import ModalitySequence
from modeling.modeling_multimodal import MultimodalOutput, MultimodalPreTrainedModel
from modeling.utterance_networks import PredictionLayers, UtteranceNetworks


class LfDnnModel(MultimodalPreTrainedModel):
    """
    LF-DNN, the late-fusion baseline of MMSA: each modality is represented by one vector as in TFN (see
    `UtteranceNetworks`), the vectors are concatenated, and two layers with ReLUs and the output predict from them.

    A modality that a sample lacks is zeros.
    """

    config_class = LfDnnConfig

    def __init__(self, config: LfDnnConfig):
        super().__init__(config)
        self.sequence_encoder = UtteranceNetworks(self.build_inputs(), config)
        width = sum(self.sequence_encoder.output_sizes.values())
        self.prediction = PredictionLayers(width, config.fusion_size, len(config.output_names), config.fusion_dropout)
        self.post_init()

    def predict(self, sequences: dict[str, ModalitySequence], labels: torch.Tensor | None = None) -> MultimodalOutput:
        """See the base class."""
        states = self.sequence_encoder(sequences)
        logits, fusion_state = self.prediction(torch.cat(list(states.values()), dim=1))
        return MultimodalOutput(
            loss=None if labels is None else self.prediction_loss(logits, labels),
            logits=logits,
            fusion_state=fusion_state,
            **{f"{modality}_state": state for modality, state in states.items()},
        )
