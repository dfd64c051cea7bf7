"""MAG-BERT: audio and vision displace the embedding of each token before a pretrained encoder reads it."""

import torch
from torch import nn

from configuration.configuration_mag_bert import MagBertConfig
from modeling.alignment import word_aligned
from modeling.attention import with_positions
from modeling.modality_sequence import ModalitySequence, any_valid, last_valid_state, left_align, resample
from modeling.modeling_multimodal import MultimodalOutput, MultimodalPreTrainedModel
from modeling.multimodal_shift import MultimodalAdaptationGate
from modeling.transformer import TransformerLayer


class MagBertModel(MultimodalPreTrainedModel):
    """
    MAG-BERT (Rahman et al., ACL 2020, "Integrating Multimodal Information in Large Pretrained Transformers").

    With e the output of the text encoder's embeddings, before its first layer, and a and v the audio and vision that
    fall to a token:

        g_m = ReLU(W_gm [m; e] + b_m), m one of a and v
        h = g_a * (W_a a) + g_v * (W_v v) + b
        e' = dropout(LayerNorm(e + alpha h)), alpha = min(beta |e| / |h|, 1)

    The encoder's layers read e'; the prediction is linear in tanh(W x + b), x being the first token's state. The paper
    has one bias b in h, the authors' code one per modality. Their code gives the frames of a word to each of its
    tokens, and none to the special ones; here the modalities are brought to the tokens by their share of the steps
    (`resample`). Their pooler starts from BERT's, here at random. They train on the squared error; here, as everywhere,
    `prediction_loss` is the absolute one, which MMSA trains it on, too.

    Without a text encoder the first modality of the configuration is the one that is displaced, projected to
    `hidden_size` and with its positions added, and a transformer that starts at random reads the result. The prediction
    then comes from the state at the last valid step: there is no token that stands for the whole, and where the steps
    are an utterance and those before it, the last one is the one that is labelled. A configuration with one modality
    has no gate.

    Audio or vision that a sample lacks displaces nothing; without both, e' is LayerNorm(e). A sample without what is
    displaced has e = 0 (its positions alone, without a text encoder) and alpha = 1: its prediction comes from the other
    modalities, whose mean stands for all of them where a text encoder has but one position to read.
    """

    config_class = MagBertConfig
    text_encoder_reads_others = True

    def __init__(self, config: MagBertConfig):
        super().__init__(config)
        (anchor, size), *others = self.build_inputs().items()
        self.anchor = anchor
        self.sequence_encoder: _FeatureTransformer | None = None
        gate_size = state_size = size
        if config.text_config is None:
            self.sequence_encoder = _FeatureTransformer(config, size)
            gate_size = state_size = config.hidden_size
        elif others:
            gate_size = _embedding_size(self.get_submodule("text_encoder"))
        self.gate = MultimodalAdaptationGate(gate_size, dict(others), config.beta, config.dropout) if others else None
        self.pooler = nn.Linear(state_size, state_size)
        self.dropout = nn.Dropout(config.output_dropout)
        self.output = nn.Linear(state_size, len(config.output_names))
        self.post_init()

    def encode_text(
        self, inputs: dict[str, torch.Tensor], mask: torch.Tensor, others: dict[str, ModalitySequence]
    ) -> torch.Tensor:
        """See the base class; the gate acts on what the encoder's embeddings give to its layers."""
        gate = self.gate
        if gate is None:
            return super().encode_text(inputs, mask, others)
        readable = inputs["attention_mask"].bool()
        others = {m: resample(left_align(sequence)[0], readable) for m, sequence in others.items()}
        # A hook leaves the encoder, and with it the names of its parameters, as they are.
        hook = self.get_submodule("text_encoder.embeddings").register_forward_hook(
            lambda _module, _arguments, embedded: gate(ModalitySequence(embedded, mask).cleared(), others)
        )
        try:
            return super().encode_text(inputs, mask, others)
        finally:
            hook.remove()

    def predict(self, sequences: dict[str, ModalitySequence], labels: torch.Tensor | None = None) -> MultimodalOutput:
        """See the base class."""
        encoder = self.sequence_encoder
        if encoder is None:
            # The first token's state, or that of the empty position which the encoder reads in a row without text.
            state = left_align(sequences["text"])[0].values[:, 0]
        else:
            state = self._last_state(encoder, word_aligned(sequences))
        state = torch.tanh(self.pooler(state))
        logits = self.output(self.dropout(state))
        loss = None if labels is None else self.prediction_loss(logits, labels)
        return MultimodalOutput(loss=loss, logits=logits, fusion_state=state)

    def _last_state(self, encoder: "_FeatureTransformer", aligned: dict[str, ModalitySequence]) -> torch.Tensor:
        """(B, hidden_size)."""
        anchor = aligned[self.anchor]
        embedded = encoder.embedded(anchor)
        if self.gate is not None:
            embedded = self.gate(ModalitySequence(embedded, anchor.mask), aligned)
        mask = any_valid(aligned.values())
        return last_valid_state(ModalitySequence(encoder(embedded, mask), mask))


class _FeatureTransformer(nn.Module):
    """What stands in for a text encoder: an embedding of features, and layers as MulT has them."""

    def __init__(self, config: MagBertConfig, feature_size: int):
        super().__init__()
        size, dropout = config.hidden_size, config.transformer_dropout
        self.projection = nn.Linear(feature_size, size)
        self.layers = nn.ModuleList(
            TransformerLayer(size, config.num_attention_heads, dropout, dropout, dropout)
            for _ in range(config.num_hidden_layers)
        )
        self.norm = nn.LayerNorm(size)

    def embedded(self, sequence: ModalitySequence) -> torch.Tensor:
        """From left-aligned features (B, T, feature_size) to (B, T, size); their positions alone where masked."""
        values = ModalitySequence(self.projection(sequence.values), sequence.mask).cleared().values
        return with_positions(values, scale=1.0)

    def forward(self, values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """From what was embedded and its mask (B, T) to (B, T, size)."""
        for layer in self.layers:
            values = layer(values, values, mask)
        return self.norm(values)


def _embedding_size(encoder: nn.Module) -> int:
    """The width of what a text encoder's embeddings give to its layers, as their layer normalisation has it."""
    embeddings = getattr(encoder, "embeddings", None)
    weights = [getattr(part, "weight", None) for part in embeddings.children()] if embeddings is not None else []
    sizes = [len(weight) for weight in weights if weight is not None and weight.dim() == 1]
    if not sizes:
        raise ValueError(
            f"`text_config` is that of {type(encoder).__name__}, which has no `embeddings` with a layer normalisation, "
            "as BERT and its kin have; MAG-BERT displaces what comes from there. Choose such an encoder, or unset "
            "`audio_feature_size` and `vision_feature_size`."
        )
    return sizes[-1]
