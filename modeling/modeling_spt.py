"""SPT: the sparse phased transformer as a model of its own."""

from configuration.configuration_spt import SptConfig
from modeling.modeling_last_states import LastStatesModel
from modeling.sparse_phased_transformer import SparsePhasedTransformer


class SptModel(LastStatesModel):
    """
    SPT (Cheng et al., EMNLP 2021, "Multimodal Phased Transformer for Sentiment Analysis").

    Each modality is compressed into few hidden slots that read windows of its features, of the other modalities' slots
    and of its own, in turn, with the same layers in every repetition (see [`SparsePhasedTransformer`]); the prediction
    is made from the last slot of each (see [`LastStatesModel`]).

    Modalities need not be aligned, nor have equally many steps. One that a sample lacks has no slots, the others do
    without it, and it is represented by zeros.

    Unlike the authors' code: windows wrap around a sample's own length, so that nothing depends on padding, and its
    last slot is one that reads valid steps; attention dropout has an effect; the self-attention layers lack a
    normalisation that nothing reads.
    """

    config_class = SptConfig

    def __init__(self, config: SptConfig):
        super().__init__(config)
        self.sequence_encoder = SparsePhasedTransformer(
            self.build_inputs(),
            config.hidden_size,
            config.num_hidden_layers,
            config.num_attention_heads,
            stride=config.spt_stride,
            radii=config.spt_radii,
            input_shifts=config.spt_input_shifts,
            attention_dropout=config.attention_dropout,
            relu_dropout=config.relu_dropout,
            residual_dropout=config.residual_dropout,
            embedding_dropout=config.embedding_dropout,
        )
        self.build_head(config, self.sequence_encoder.output_sizes)
        self.post_init()
