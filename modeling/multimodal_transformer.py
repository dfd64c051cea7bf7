"""
The multimodal transformer of MulT: every modality is read through every other one by crossmodal attention.

Source: Tsai et al., ACL 2019, "Multimodal Transformer for Unaligned Multimodal Language Sequences", section 3.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from modeling.attention import FeedForward, MultiHeadAttention, with_positions
from modeling.modality_sequence import ModalitySequence


class MultimodalTransformer(nn.Module):
    """
    Every modality is projected to one width d; a crossmodal transformer per ordered pair lets each attend to each other
    one; what a modality got from the others is concatenated, (n - 1) d wide, and refined by self-attention.

    There is no mask against the future (the authors' code has one, which depends on how far the batch was padded), and
    the projection reads one step at a time (their default). What a sample lacks adds nothing to the other modalities.

    Args:
        input_sizes (`dict`): Features per step by modality.
        size (`int`): d.
        layers (`int`): Of the crossmodal transformers; those of self-attention have as many, and at least three.
        heads (`int`): Must divide d.
        attention_dropout, relu_dropout, residual_dropout, embedding_dropout (`float`): Where MulT has them.
    """

    def __init__(
        self,
        input_sizes: dict[str, int],
        size: int,
        layers: int,
        heads: int,
        attention_dropout: float,
        relu_dropout: float,
        residual_dropout: float,
        embedding_dropout: float,
    ):
        super().__init__()
        dropouts = attention_dropout, relu_dropout, residual_dropout, embedding_dropout
        self.projections = nn.ModuleDict({m: nn.Linear(width, size, bias=False) for m, width in input_sizes.items()})
        self.sources = {target: [source for source in input_sizes if source != target] for target in input_sizes}
        self.crossmodal = nn.ModuleDict(
            {
                f"{target}_from_{source}": _Transformer(size, layers, heads, *dropouts)
                for target, sources in self.sources.items()
                for source in sources
            }
        )
        self.output_sizes = {target: max(len(sources), 1) * size for target, sources in self.sources.items()}
        self.refinement = nn.ModuleDict(
            {
                target: _Transformer(width, max(layers, 3), heads, *dropouts)
                for target, width in self.output_sizes.items()
            }
        )

    def forward(self, sequences: dict[str, ModalitySequence]) -> dict[str, ModalitySequence]:
        """
        Args:
            sequences (`dict`): Left-aligned, by modality.

        Returns:
            By modality, (B, T, (n - 1) d), as many steps as it came with; (B, T, d) of the only modality of a corpus.
        """
        projected = {m: ModalitySequence(self.projections[m](values), mask) for m, (values, mask) in sequences.items()}
        found = {}
        for target, sources in self.sources.items():
            query = projected[target]
            parts = [self.crossmodal[f"{target}_from_{source}"](query, projected[source]) for source in sources]
            parts = parts or [query.values]
            joined = ModalitySequence(torch.cat(parts, dim=-1), query.mask)
            found[target] = ModalitySequence(self.refinement[target](joined, joined), query.mask).cleared()
        return found


class _Transformer(nn.Module):
    """Layers that attend from one sequence to another, or to themselves, normalised first, and at the end once more."""

    def __init__(self, size, layers, heads, attention_dropout, relu_dropout, residual_dropout, embedding_dropout):
        super().__init__()
        self.scale = math.sqrt(size)
        self.dropout = nn.Dropout(embedding_dropout)
        self.layers = nn.ModuleList(
            _Layer(size, heads, attention_dropout, relu_dropout, residual_dropout) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(size)

    def forward(self, target: ModalitySequence, source: ModalitySequence) -> torch.Tensor:
        """(B, T, size); where source is target, each layer attends to what the one before it made."""
        values = self.dropout(with_positions(target.values, self.scale))
        # The source's embedding is the same for all layers (MulT, section 3.2).
        context = None if source is target else self.dropout(with_positions(source.values, self.scale))
        for layer in self.layers:
            values = layer(values, values if context is None else context, source.mask)
        return self.norm(values)


class _Layer(nn.Module):
    def __init__(self, size, heads, attention_dropout, relu_dropout, residual_dropout):
        super().__init__()
        self.norm = nn.LayerNorm(size)  # of target and source
        self.attention = MultiHeadAttention(size, heads, attention_dropout)
        self.residual_dropout = nn.Dropout(residual_dropout)
        self.feed_forward = FeedForward(size, relu_dropout, residual_dropout)

    def forward(self, values, context, context_mask):
        found = self.attention(self.norm(values), self.norm(context), context_mask)
        # Nor does the attention's bias reach what has nothing to attend to.
        found = found.masked_fill(~context_mask.any(dim=1)[:, None, None], 0.0)
        return self.feed_forward(values + self.residual_dropout(found))
