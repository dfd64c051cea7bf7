"""TFN: the outer product of the modalities' representations has a feature for every interaction between them."""

import math

import torch

from configuration.configuration_tfn import TfnConfig
from modeling.modality_sequence import ModalitySequence
from modeling.modeling_multimodal import MultimodalOutput, MultimodalPreTrainedModel
from modeling.tensor_fusion import outer_product_linear
from modeling.utterance_networks import PredictionLayers, UtteranceNetworks


class TfnModel(MultimodalPreTrainedModel):
    """
    TFN (Zadeh, Chen, Poria, Cambria and Morency, EMNLP 2017, "Tensor Fusion Network for Multimodal Sentiment
    Analysis").

    Each modality is represented by one vector h_m (section 4.1; see `UtteranceNetworks`): text by an LSTM's state after
    the last valid step and a linear layer, audio and vision by layers over the mean of their valid steps. The outer
    product of the [1; h_m] (section 4.2) has all products of entries of one, two and three modalities; two layers with
    ReLUs and the output read it after dropout (section 4.3). One number is bounded to the label range by a sigmoid.

    A modality that a sample lacks is zeros, so that only its constant 1 is left: the products without it are those of
    the sample's other modalities, and the rest of the tensor is zeros.
    """

    config_class = TfnConfig

    def __init__(self, config: TfnConfig):
        super().__init__(config)
        self.sequence_encoder = UtteranceNetworks(self.build_inputs(), config)
        products = math.prod(size + 1 for size in self.sequence_encoder.output_sizes.values())
        self.prediction = PredictionLayers(
            products, config.fusion_size, len(config.output_names), config.fusion_dropout
        )
        self.post_init()

    def predict(self, sequences: dict[str, ModalitySequence], labels: torch.Tensor | None = None) -> MultimodalOutput:
        """See the base class."""
        states = self.sequence_encoder(sequences)
        layer = self.prediction.first
        dropout = self.prediction.dropout.p if self.training else 0.0
        hidden = outer_product_linear(states, layer.weight, layer.bias, dropout)
        logits, fusion_state = self.prediction.after_first(hidden)
        if self.config.bounded_output and self.config.target == "sentiment":
            low, high = self.config.label_range
            logits = low + (high - low) * torch.sigmoid(logits)
        return MultimodalOutput(
            loss=None if labels is None else self.prediction_loss(logits, labels),
            logits=logits,
            fusion_state=fusion_state,
            **{f"{modality}_state": state for modality, state in states.items()},
        )
