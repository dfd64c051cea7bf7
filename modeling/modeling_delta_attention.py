"""Hierarchical Delta-Attention: attention to changes in each modality, correlated encodings, attention over all."""

from dataclasses import dataclass
from itertools import combinations

import torch
from torch import nn

from configuration.configuration_delta_attention import DeltaAttentionConfig
from configuration.configuration_multimodal import MODALITIES
from modeling.attention import XavierLinear, attend
from modeling.correlation import total_correlation
from modeling.delta_attention import DeltaSelfAttention, SequenceConvolution
from modeling.modality_sequence import (
    ModalitySequence,
    last_valid_state,
    leading_mask,
    left_align,
    mean_state,
    resample,
)
from modeling.modeling_multimodal import MultimodalOutput, MultimodalPreTrainedModel


@dataclass
class DeltaAttentionOutput(MultimodalOutput):
    """
    Output of [`DeltaAttentionModel`].

    Args:
        correlation (`torch.Tensor` of shape `()`):
            Total correlation of the modalities' encodings over the batch, summed over the pairs of modalities. It
            belongs to the batch, not to a sample, and comes with `labels`, where the objective has it.
    """

    correlation: torch.Tensor | None = None


class DeltaAttentionModel(MultimodalPreTrainedModel):
    """
    Hierarchical Delta-Attention (Panchal, 2020, "Hierachical Delta-Attention Method for Multimodal Fusion").

    Per modality a convolution, delta self-attention ([`DeltaSelfAttention`]) and a prediction of its own; encoders of
    two convolutions, trained to correlate (deep CCA); their encodings one after the other in time, each with its
    modality's representation added, read by attention, pooled, and predicted from. Text comes through a text encoder,
    or as features like the others.

    `config.objective` says which of these is trained, and which prediction `logits` are; recipes with `stages` go
    through them as the paper does (table 1).

    Correlation needs steps that belong together: modalities of a sample that differ in steps are brought to those of
    its text, or of the first modality that it has, for the correlation alone. Every such step of every sample is an
    observation; the paper's batch of four utterances has too few by itself.

    A modality that a sample lacks has no steps in the fused sequence, no correlation, and no loss of its own.
    """

    config_class = DeltaAttentionConfig

    def __init__(self, config: DeltaAttentionConfig):
        super().__init__(config)
        size, encoded = config.hidden_size, config.correlation_size
        sizes = self.build_inputs()
        self.branches = nn.ModuleDict({m: _Branch(width, config) for m, width in sizes.items()})
        self.unimodal_outputs = nn.ModuleDict({m: nn.Linear(size, len(config.output_names)) for m in sizes})
        self.encoders = nn.ModuleDict({m: _Encoder(size, encoded, config.kernel_size) for m in sizes})
        self.skips = nn.ModuleDict({m: nn.Linear(size, encoded) for m in sizes} if config.skip_connections else {})
        self.attention = _FusedAttention(config) if config.cross_attention else None
        self.dropout = nn.Dropout(config.output_dropout)
        self.output = nn.Linear(config.fusion_size if config.cross_attention else encoded, len(config.output_names))
        self.post_init()

    @property
    def read_modalities(self) -> tuple[str, ...]:
        objective = self.config.objective
        return (objective,) if objective in MODALITIES else super().read_modalities

    def predict(
        self, sequences: dict[str, ModalitySequence], labels: torch.Tensor | None = None
    ) -> DeltaAttentionOutput:
        """See the base class; the loss is that of `config.objective`."""
        objective = self.config.objective
        attended = {m: self.branches[m](left_align(sequence)[0]) for m, sequence in sequences.items()}
        states = {m: self._pooled(sequence) for m, sequence in attended.items()}
        answers = {m: self.unimodal_outputs[m](self.dropout(state)) for m, state in states.items()}
        encoded, fused, logits = {}, None, answers.get(objective)
        if objective not in MODALITIES:
            encoded = {m: self.encoders[m](sequence) for m, sequence in attended.items()}
            fused = self._fused(attended, encoded)
            logits = self.output(self.dropout(fused))
        assert logits is not None
        loss = correlation = None
        if labels is not None:
            if objective in ("all", "correlation"):
                correlation = self._correlation(encoded)
            loss = self._loss(logits, answers, {m: s.present for m, s in attended.items()}, labels, correlation)
        return DeltaAttentionOutput(
            loss=loss,
            logits=logits,
            fusion_state=fused,
            correlation=correlation,
            **{f"{m}_logits": answer for m, answer in answers.items()},
            **{f"{m}_state": state for m, state in states.items()},
        )

    def _pooled(self, sequence: ModalitySequence) -> torch.Tensor:
        return mean_state(sequence) if self.config.pooling == "mean" else last_valid_state(sequence)

    def _fused(self, attended, encoded) -> torch.Tensor:
        """(B, fusion_size), or (B, correlation_size) without cross-attention."""
        parts = []
        for modality, sequence in encoded.items():
            values = sequence.values
            if modality in self.skips:
                values = values + self.skips[modality](attended[modality].values)
            parts.append(ModalitySequence(values, sequence.mask))
        joined = ModalitySequence(*(torch.cat(tensors, dim=1) for tensors in zip(*parts, strict=True))).cleared()
        if self.attention is not None:
            joined = self.attention(joined)
        if self.config.pooling == "mean":
            return mean_state(joined)
        lengths = [part.mask.shape[1] for part in parts]
        last = [
            last_valid_state(ModalitySequence(values, part.mask))
            for values, part in zip(joined.values.split(lengths, dim=1), parts, strict=True)
        ]
        there = torch.stack([part.present for part in parts]).sum(dim=0).clamp(min=1).unsqueeze(-1)
        return torch.stack(last).sum(dim=0) / there

    def _correlation(self, encoded) -> torch.Tensor:
        mask = leading_mask(list(encoded.values()))
        views = {modality: resample(sequence, mask) for modality, sequence in encoded.items()}
        total = mask.new_zeros((), dtype=torch.float32)
        for first, second in combinations(views.values(), 2):
            both = (first.mask & second.mask).flatten()
            found = total_correlation(
                first.values.flatten(0, 1), second.values.flatten(0, 1), both, self.config.correlation_regularization
            )
            total = total + found.float()
        return total

    def _loss(self, logits, answers, present, labels, correlation) -> torch.Tensor:
        objective = self.config.objective
        if objective in MODALITIES:
            return self.prediction_loss(logits, labels, present[objective])
        if objective == "fusion":
            return self.prediction_loss(logits, labels)
        if objective == "correlation":
            return -correlation
        loss = self.prediction_loss(logits, labels) - self.config.correlation_weight * correlation
        for modality, answer in answers.items():
            loss = loss + self.config.unimodal_weight * self.prediction_loss(answer, labels, present[modality])
        return loss


class _Branch(nn.Module):
    """X' = Conv1D(X), then delta self-attention over X' (equations 9 to 12)."""

    def __init__(self, input_size: int, config: DeltaAttentionConfig):
        super().__init__()
        self.convolution = SequenceConvolution(input_size, config.hidden_size, config.kernel_size)
        self.attentions = nn.ModuleList(
            DeltaSelfAttention(
                config.hidden_size,
                config.num_attention_heads,
                config.max_steps,
                config.relative_index,
                config.window,
                config.direction,
                config.attention_dropout,
            )
            for _ in range(config.num_hidden_layers)
        )

    def forward(self, sequence: ModalitySequence) -> ModalitySequence:
        sequence = self.convolution(sequence)
        for attention in self.attentions:
            sequence = attention(sequence)
        return sequence


class _Encoder(nn.Module):
    """Two convolutions with a ReLU between them (section 4.2)."""

    def __init__(self, input_size: int, output_size: int, kernel_size: int):
        super().__init__()
        self.inner = SequenceConvolution(input_size, input_size, kernel_size)
        self.outer = SequenceConvolution(input_size, output_size, kernel_size)

    def forward(self, sequence: ModalitySequence) -> ModalitySequence:
        inner = self.inner(sequence)
        return self.outer(ModalitySequence(torch.relu(inner.values), inner.mask))


class _FusedAttention(nn.Module):
    """softmax(Q K^T / sqrt(d_t)) V over the fused sequence (equations 14 to 16), d_t being a head's width."""

    def __init__(self, config: DeltaAttentionConfig):
        super().__init__()
        self.heads = config.fusion_heads
        self.dropout = config.attention_dropout
        self.query, self.key, self.value = (XavierLinear(config.correlation_size, config.fusion_size) for _ in range(3))

    def forward(self, sequence: ModalitySequence) -> ModalitySequence:
        values, mask = sequence
        dropout = self.dropout if self.training else 0.0
        found = attend(self.query(values), self.key(values), self.value(values), mask, self.heads, dropout)
        return ModalitySequence(found, mask).cleared()
