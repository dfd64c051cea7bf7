"""MulT: every modality read through every other one by crossmodal transformers."""

import torch

from configuration.configuration_mult import MulTConfig
from modeling.dropout import Dropout
from modeling.modality_sequence import ModalitySequence
from modeling.modeling_last_states import LastStatesModel
from modeling.modeling_multimodal import MultimodalOutput
from modeling.multimodal_transformer import MultimodalTransformer


class MulTModel(LastStatesModel):
    """
    MulT (Tsai et al., ACL 2019, "Multimodal Transformer for Unaligned Multimodal Language Sequences").

    Each modality's features, the text's with dropout, are projected to one width by a convolution over time (section
    3.1, equation 1) and get positions; a crossmodal transformer per ordered pair of modalities (section 3.2) lets each
    read the others; what a modality read is concatenated and goes through self-attention; the prediction is made from
    the last valid states (see [`LastStatesModel`], and [`MultimodalTransformer`] for the encoder).

    Modalities need not be aligned, nor have equally many steps. One that a sample lacks adds nothing to the others and
    is represented by zeros.

    Unlike the authors' code: no mask against the future, whose place depends there on how far a batch was padded;
    padding is neither attended to nor taken for the last step; positions do not depend on what the features are; a
    modality whose features are already as wide as the network is projected, too. A corpus with one modality has
    self-attention alone.
    """

    config_class = MulTConfig

    def __init__(self, config: MulTConfig):
        super().__init__(config)
        sizes = self.build_inputs()
        self.text_dropout = Dropout(config.text_dropout)
        self.sequence_encoder = MultimodalTransformer(
            sizes,
            config.hidden_size,
            config.num_hidden_layers,
            config.num_attention_heads,
            attention_dropout=config.attention_dropout,
            relu_dropout=config.relu_dropout,
            residual_dropout=config.residual_dropout,
            embedding_dropout=config.embedding_dropout,
            source_dropouts={
                "audio": config.audio_attention_dropout,
                "vision": config.vision_attention_dropout,
            },
            kernel_sizes={modality: getattr(config, f"{modality}_kernel_size") for modality in sizes},
            positions=config.positions,
        )
        self.build_head(config, self.sequence_encoder.output_sizes)
        self.post_init()

    def predict(self, sequences: dict[str, ModalitySequence], labels: torch.Tensor | None = None) -> MultimodalOutput:
        """See the base class."""
        if "text" in sequences:
            values, mask = sequences["text"]
            sequences = {**sequences, "text": ModalitySequence(self.text_dropout(values), mask)}
        return super().predict(sequences, labels)
