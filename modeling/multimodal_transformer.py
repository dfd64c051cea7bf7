"""
The multimodal transformer of MulT: every modality is read through every other one by crossmodal attention.

Source: Tsai et al., ACL 2019, "Multimodal Transformer for Unaligned Multimodal Language Sequences", section 3.
"""

from __future__ import annotations

import torch
from torch import nn

from modeling.modality_sequence import ModalitySequence
from modeling.transformer import Transformer


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
                f"{target}_from_{source}": Transformer(size, layers, heads, *dropouts)
                for target, sources in self.sources.items()
                for source in sources
            }
        )
        self.output_sizes = {target: max(len(sources), 1) * size for target, sources in self.sources.items()}
        self.refinement = nn.ModuleDict(
            {
                target: Transformer(width, max(layers, 3), heads, *dropouts)
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
