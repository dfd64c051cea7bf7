"""MMLatch: high-level representations of each modality mask the input features of the others."""

from dataclasses import dataclass
from itertools import combinations

import torch
from torch import nn

from configuration.configuration_mmlatch import MMLatchConfig
from modeling.attention import ResidualLayer, XavierLinear, attend
from modeling.latch import Latch
from modeling.modality_sequence import (
    ModalitySequence,
    last_valid_state,
    leading_mask,
    left_align,
    resample,
    restore,
)
from modeling.modeling_multimodal import MultimodalOutput, MultimodalPreTrainedModel
from modeling.multimodal_transformer import MultimodalTransformer
from modeling.recurrent import BidirectionalLSTM


@dataclass
class MMLatchOutput(MultimodalOutput):
    """
    Output of [`MMLatchModel`].

    Args:
        text_mask_values, audio_mask_values, vision_mask_values (`torch.Tensor` of shape `(B, T, d)`):
            By what each feature of the modality was multiplied at each step, from 0 to 1; zeros at steps that are not
            valid. None without feedback, and for a modality that the checkpoint does not have. Text's are those of the
            text encoder's states where there is one.
    """

    text_mask_values: torch.Tensor | None = None
    audio_mask_values: torch.Tensor | None = None
    vision_mask_values: torch.Tensor | None = None


class MMLatchModel(MultimodalPreTrainedModel):
    """
    MMLatch (Paraskevopoulos, Georgiou and Potamianos, ICASSP 2022, "MMLatch: Bottom-up Top-down Fusion for Multimodal
    Sentiment Analysis").

    Unimodal encoders, wrapped in the feedback of [`Latch`]; three symmetric cross-modal attentions and a_AVT over what
    they say (equations 1 to 3); an LSTM over the seven side by side; a linear prediction. With `encoder` "mult", the
    multimodal transformer is wrapped instead, and the prediction comes from its last states through MulT's residual
    head (table 2, last rows).

    The paper reads word-aligned corpora. Where the modalities of a sample differ in steps, its representations are
    brought to the steps of its text, or of the first modality that it has, before the cross-modal attentions.

    A modality that a sample lacks is represented by zeros, makes no mask, and has no part in the cross-modal
    attentions: what would be attended to in it, or from it, adds nothing.
    """

    config_class = MMLatchConfig

    def __init__(self, config: MMLatchConfig):
        super().__init__(config)
        sizes = self.build_inputs()
        encoder: MultimodalTransformer | _AttentiveLSTMs
        if config.encoder == "mult":
            encoder = MultimodalTransformer(
                sizes,
                config.hidden_size,
                config.num_hidden_layers,
                config.num_attention_heads,
                config.attention_dropout,
                config.relu_dropout,
                config.residual_dropout,
                config.embedding_dropout,
            )
            self.fusion: _ResidualFusion | _CrossModalFusion = _ResidualFusion(
                encoder.output_sizes, config.output_dropout
            )
        else:
            encoder = _AttentiveLSTMs(sizes, config.hidden_size, config.dropout)
            self.fusion = _CrossModalFusion(config)
        self.sequence_encoder: nn.Module = encoder
        if config.feedback != "none":
            self.sequence_encoder = Latch(
                encoder,
                sizes,
                config.feedback,
                feedback_dropout=config.fusion_dropout,
                mask_dropout=config.mask_dropout,
                stage1_gradient=config.stage1_gradient,
            )
        self.output = nn.Linear(self.fusion.output_size, len(config.output_names))
        self.post_init()

    def predict(self, sequences: dict[str, ModalitySequence], labels: torch.Tensor | None = None) -> MMLatchOutput:
        given, orders = sequences, {}
        sequences = {}
        for modality, sequence in given.items():
            sequences[modality], orders[modality] = left_align(sequence)
        masks = {}
        if self.config.feedback == "none":
            encoded = self.sequence_encoder(sequences)
        else:
            encoded, masks = self.sequence_encoder(sequences)
        state = self.fusion(encoded)
        logits = self.output(state)
        loss = None
        if labels is not None:
            loss = self.prediction_loss(logits, labels)
        return MMLatchOutput(
            loss=loss,
            logits=logits,
            fusion_state=state,
            **{f"{m}_state": last_valid_state(sequence) for m, sequence in encoded.items()},
            **{
                f"{m}_mask_values": restore(mask, orders[m]).masked_fill(~given[m].mask.unsqueeze(-1), 0.0)
                for m, mask in masks.items()
            },
        )


class DotProductAttention(nn.Module):
    """softmax(Q K^T / sqrt(p)) V with one head, no biases, no projection of the result and no residual."""

    def __init__(self, size: int, dropout: float):
        super().__init__()
        self.query, self.key, self.value = (XavierLinear(size, size, bias=False) for _ in range(3))
        self.dropout = dropout

    def forward(self, queries: torch.Tensor, context: torch.Tensor, context_mask: torch.Tensor) -> torch.Tensor:
        """From queries (B, N, p) and a context (B, M, p) with its mask (B, M) to (B, N, p)."""
        dropout = self.dropout if self.training else 0.0
        return attend(self.query(queries), self.key(context), self.value(context), context_mask, dropout=dropout)


class _AttentiveLSTMs(nn.Module):
    """Per modality a bidirectional LSTM whose directions are added, then self-attention over its states."""

    def __init__(self, input_sizes: dict[str, int], size: int, dropout: float):
        super().__init__()
        self.lstms = nn.ModuleDict({m: BidirectionalLSTM(width, size) for m, width in input_sizes.items()})
        self.dropout = nn.Dropout(dropout)
        self.attentions = nn.ModuleDict({m: DotProductAttention(size, dropout) for m in input_sizes})
        self.output_sizes = dict.fromkeys(input_sizes, size)

    def forward(self, sequences: dict[str, ModalitySequence]) -> dict[str, ModalitySequence]:
        encoded = {}
        for modality, lstm in self.lstms.items():
            sequence = sequences[modality]
            ahead, back = lstm(sequence)
            states = self.dropout(ahead) + self.dropout(back)
            states = self.attentions[modality](states, states, sequence.mask)
            encoded[modality] = ModalitySequence(states, sequence.mask).cleared()
        return encoded


class _CrossModalFusion(nn.Module):
    """
    Equations 1 to 3, and the LSTM over what they make.

    a_kl = softmax(Q_k K_l^T / sqrt(p)) V_l + r_k; m_kl = a_kl + a_lk for each pair; a_AVT attends from m_AV to r_T. Of
    a corpus without a modality, the parts without it are left.
    """

    def __init__(self, config: MMLatchConfig):
        super().__init__()
        size, dropout = config.hidden_size, config.fusion_dropout
        self.modalities = config.modalities
        self.avt_residual = config.avt_residual
        self.pairs = list(combinations(self.modalities, 2))
        # For each pair one attention per direction: six maps, none of them shared.
        self.attentions = nn.ModuleDict(
            {
                f"{target}_from_{source}": DotProductAttention(size, dropout)
                for pair in self.pairs
                for target, source in (pair, pair[::-1])
            }
        )
        parts = len(self.modalities) + len(self.pairs)
        self.all_three = None
        if len(self.modalities) == 3:
            self.all_three = DotProductAttention(size, dropout)
            parts += 1
        self.lstm = BidirectionalLSTM(parts * size, size)
        self.dropout = nn.Dropout(dropout)
        self.summed = None
        self.output_size = size
        if config.fusion_pooling == "attention_sum":
            self.summed = DotProductAttention(2 * size, dropout)
            self.output_size = 2 * size

    def forward(self, encoded: dict[str, ModalitySequence]) -> torch.Tensor:
        """(B, output_size)."""
        mask = leading_mask([encoded[modality] for modality in self.modalities])
        r = {modality: resample(encoded[modality], mask) for modality in self.modalities}
        parts = {modality: sequence.values for modality, sequence in r.items()}
        for first, second in self.pairs:
            there = self._attended(self.attentions[f"{first}_from_{second}"], r[first], r[second], True)
            back = self._attended(self.attentions[f"{second}_from_{first}"], r[second], r[first], True)
            parts[f"{first}_{second}"] = there + back
        if self.all_three is not None:
            both = r["audio"].present | r["vision"].present
            queries = ModalitySequence(parts["audio_vision"], mask & both.unsqueeze(1))
            parts["all"] = self._attended(self.all_three, queries, r["text"], self.avt_residual)
        ahead, back = self.lstm(ModalitySequence(torch.cat(list(parts.values()), dim=-1), mask))
        ahead, back = self.dropout(ahead), self.dropout(back)
        if self.summed is not None:
            states = torch.cat([ahead, back], dim=-1)
            return ModalitySequence(self.summed(states, states, mask), mask).cleared().values.sum(dim=1)
        # Each direction's last state: the backward one's is that at the first step.
        first_state = back[:, 0].masked_fill(~mask[:, :1], 0.0)
        return last_valid_state(ModalitySequence(ahead, mask)) + first_state

    def _attended(self, attention, queries: ModalitySequence, context: ModalitySequence, residual: bool):
        """Equation 1; what is not there attends to nothing."""
        found = attention(queries.values, context.values, context.mask)
        found = found.masked_fill(~queries.present[:, None, None], 0.0)
        return found + queries.values if residual else found


class _ResidualFusion(ResidualLayer):
    """MulT's head before its output, on the modalities' last states side by side."""

    def __init__(self, sizes: dict[str, int], dropout: float):
        size = sum(sizes.values())
        super().__init__(size, dropout)
        self.output_size = size

    def forward(self, encoded):
        """(B, output_size)."""
        return super().forward(torch.cat([last_valid_state(sequence) for sequence in encoded.values()], dim=-1))
