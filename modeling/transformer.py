"""The transformer that MulT stacks, and UCRN after it: layers that normalise first, from one sequence to another."""

from __future__ import annotations

import math

import torch
from torch import nn

from modeling.attention import FeedForward, MultiHeadAttention, with_positions
from modeling.dropout import Dropout
from modeling.modality_sequence import ModalitySequence


class Transformer(nn.Module):
    """
    Layers that attend from one sequence to another, or to themselves, normalised first, and at the end once more.

    Source: Tsai et al., ACL 2019, "Multimodal Transformer for Unaligned Multimodal Language Sequences", section 3.2.

    Args:
        size (`int`): Width.
        layers (`int`): Number of layers.
        heads (`int`): Must divide the width.
        attention_dropout, relu_dropout, residual_dropout, embedding_dropout (`float`): Where MulT has them.
        positions (`bool`): Whether sinusoidal positions are added to what comes in.
    """

    def __init__(
        self,
        size: int,
        layers: int,
        heads: int,
        attention_dropout: float,
        relu_dropout: float,
        residual_dropout: float,
        embedding_dropout: float,
        positions: bool = True,
    ):
        super().__init__()
        self.scale = math.sqrt(size)
        self.positions = positions
        self.dropout = Dropout(embedding_dropout)
        self.layers = nn.ModuleList(
            TransformerLayer(size, heads, attention_dropout, relu_dropout, residual_dropout) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(size)

    def forward(self, target: ModalitySequence, source: ModalitySequence | None = None) -> torch.Tensor:
        """(B, T, size); without a source, each layer attends to what the one before it made."""
        values = self._embedded(target)
        # The source's embedding is the same for all layers (MulT, section 3.2).
        context = None if source is None else self._embedded(source)
        mask = target.mask if source is None else source.mask
        for layer in self.layers:
            values = layer(values, values if context is None else context, mask)
        return self.norm(values)

    def _embedded(self, sequence: ModalitySequence) -> torch.Tensor:
        values = sequence.values
        return self.dropout(with_positions(values, self.scale) if self.positions else self.scale * values)


class TransformerLayer(nn.Module):
    """x + dropout(attention(LayerNorm(x))), then the feed-forward part."""

    def __init__(self, size: int, heads: int, attention_dropout: float, relu_dropout: float, residual_dropout: float):
        super().__init__()
        self.norm = nn.LayerNorm(size)  # of target and source
        self.attention = MultiHeadAttention(size, heads, attention_dropout)
        self.residual_dropout = Dropout(residual_dropout)
        self.feed_forward = FeedForward(size, relu_dropout, residual_dropout)

    def forward(self, values: torch.Tensor, context: torch.Tensor, context_mask: torch.Tensor) -> torch.Tensor:
        """From values (B, T, size) and a context (B, S, size) with its mask (B, S) to (B, T, size)."""
        found = self.attention(self.norm(values), self.norm(context), context_mask)
        # Nor does the attention's bias reach what has nothing to attend to.
        found = found.masked_fill(~context_mask.any(dim=1)[:, None, None], 0.0)
        return self.feed_forward(values + self.residual_dropout(found))
