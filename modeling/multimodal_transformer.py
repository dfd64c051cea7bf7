"""
The multimodal transformer of MulT: every modality is read through every other one by crossmodal attention.

Source: Tsai et al., ACL 2019, "Multimodal Transformer for Unaligned Multimodal Language Sequences", section 3.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import pad

from modeling.modality_sequence import ModalitySequence
from modeling.transformer import Transformer


class MultimodalTransformer(nn.Module):
    """
    Every modality is projected to one width d by a convolution over its steps (equation 1); a crossmodal transformer
    per ordered pair lets each attend to each other one; what a modality got from the others is concatenated, (n - 1) d
    wide, and refined by self-attention.

    There is no mask against the future (the authors' code has one, which depends on how far the batch was padded). The
    convolution keeps the number of steps, and finds zeros beyond a sample's own. What a sample lacks adds nothing to
    the other modalities.

    Args:
        input_sizes (`dict`): Features per step by modality.
        size (`int`): d.
        layers (`int`): Of the crossmodal transformers; those of self-attention have as many, and at least three.
        heads (`int`): Must divide d.
        attention_dropout, relu_dropout, residual_dropout, embedding_dropout (`float`): Where MulT has them.
        source_dropouts (`dict`, *optional*): By source modality, the attention dropout of the crossmodal transformers
            that read it, where it is not `attention_dropout`.
        kernel_sizes (`dict`, *optional*): By modality, how many steps its projection reads at once, where it is not
            one, which is the default of the authors' code.
        positions (`bool`): Whether sinusoidal positions are added.
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
        source_dropouts: dict[str, float] | None = None,
        kernel_sizes: dict[str, int] | None = None,
        positions: bool = True,
    ):
        super().__init__()
        dropouts = relu_dropout, residual_dropout, embedding_dropout, positions
        attention = {**dict.fromkeys(input_sizes, attention_dropout), **(source_dropouts or {})}
        self.kernel_sizes = {**dict.fromkeys(input_sizes, 1), **(kernel_sizes or {})}
        # A convolution as a linear layer over the steps of its window side by side.
        self.projections = nn.ModuleDict(
            {m: nn.Linear(self.kernel_sizes[m] * width, size, bias=False) for m, width in input_sizes.items()}
        )
        self.sources = {target: [source for source in input_sizes if source != target] for target in input_sizes}
        self.crossmodal = nn.ModuleDict(
            {
                f"{target}_from_{source}": Transformer(size, layers, heads, attention[source], *dropouts)
                for target, sources in self.sources.items()
                for source in sources
            }
        )
        self.output_sizes = {target: max(len(sources), 1) * size for target, sources in self.sources.items()}
        self.refinement = nn.ModuleDict(
            {
                target: Transformer(width, max(layers, 3), heads, attention_dropout, *dropouts)
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
        projected = {
            m: ModalitySequence(self.projections[m](_windows(sequence, self.kernel_sizes[m])), sequence.mask)
            for m, sequence in sequences.items()
        }
        found = {}
        for target, sources in self.sources.items():
            query = projected[target]
            parts = [self.crossmodal[f"{target}_from_{source}"](query, projected[source]) for source in sources]
            parts = parts or [query.values]
            joined = ModalitySequence(torch.cat(parts, dim=-1), query.mask)
            found[target] = ModalitySequence(self.refinement[target](joined), query.mask).cleared()
        return found


def _windows(sequence: ModalitySequence, size: int) -> torch.Tensor:
    """
    From a left-aligned sequence (B, T, d) to (B, T, size d): each step's features between those of the (size - 1) // 2
    steps before and the size // 2 after it, zeros where there is none.
    """
    steps = sequence.mask.shape[1]
    padded = pad(sequence.cleared().values, (0, 0, (size - 1) // 2, size // 2))
    return torch.cat([padded[:, first : first + steps] for first in range(size)], dim=-1)
