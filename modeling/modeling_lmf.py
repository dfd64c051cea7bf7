"""LMF: TFN's fusion with weights of low rank, so that the outer product is never made."""

import torch

from configuration.configuration_lmf import LmfConfig
from modeling.modality_sequence import ModalitySequence
from modeling.modeling_multimodal import MultimodalOutput, MultimodalPreTrainedModel
from modeling.tensor_fusion import LowRankFusion
from modeling.utterance_networks import UtteranceNetworks


class LmfModel(MultimodalPreTrainedModel):
    """
    LMF (Liu, Shen, Lakshminarasimhan, Liang, Zadeh and Morency, ACL 2018, "Efficient Low-rank Multimodal Fusion with
    Modality-Specific Factors").

    Each modality is represented by one vector as in TFN (see `UtteranceNetworks`). The prediction is a linear map of
    their outer product, whose weights are a sum of tensors of rank one, one factor per modality (section 3.2; see
    `LowRankFusion`).

    A modality that a sample lacks is zeros, so that only its constant 1 is left: the map is then one of the outer
    product of the others.
    """

    config_class = LmfConfig

    def __init__(self, config: LmfConfig):
        super().__init__(config)
        self.sequence_encoder = UtteranceNetworks(self.build_inputs(), config)
        self.fusion = LowRankFusion(self.sequence_encoder.output_sizes, len(config.output_names), config.rank)
        self.post_init()

    def predict(self, sequences: dict[str, ModalitySequence], labels: torch.Tensor | None = None) -> MultimodalOutput:
        """See the base class."""
        states = self.sequence_encoder(sequences)
        logits = self.fusion(states)
        return MultimodalOutput(
            loss=None if labels is None else self.prediction_loss(logits, labels),
            logits=logits,
            **{f"{modality}_state": state for modality, state in states.items()},
        )
