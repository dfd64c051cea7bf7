"""
The sparse phased transformer: every modality is compressed into few hidden slots, each of which reads a window of the
input, of the other modalities' slots, and of its own modality's slots, in turn.

Source: Cheng et al., EMNLP 2021, "Multimodal Phased Transformer for Sentiment Analysis"; the sampling functions and the
sharing of layers over the repetitions are those of its authors' code.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import torch
from torch import nn
from torch.nn.functional import linear

from modeling.attention import FeedForward, XavierLinear, attend, with_positions
from modeling.dropout import Dropout
from modeling.modality_sequence import ModalitySequence


class SparsePhasedTransformer(nn.Module):
    """
    Per modality ceil(L / stride) hidden slots, which start alike but for their positions. One repetition is input
    attention (a slot reads a window of the modality's steps), cross attention (of each other modality's slots; what
    comes from the two is added) and self attention (of its own modality's slots), each followed by a feed-forward
    layer. The layers are the same ones in every repetition, so depth costs no parameters. A last normalisation is
    shared by all modalities.

    A pair of modalities shares one cross attention for its two directions, with the projections of queries and keys
    exchanged ("factorised co-attention").

    Every sample has its own number of slots and windows wrap around its own length, so nothing depends on padding; in
    the authors' code they wrap around the padded length and see the padding. A modality that a sample lacks has no
    slots, and the others do without the attention to it.

    Differences from the authors' code, beside this: attention dropout has an effect; the self-attention layers lack a
    normalisation (2 `size` parameters a modality) that nothing reads; queries, keys and values start with Xavier's
    range for their own shapes, where the code takes that of the three packed into one matrix, which is narrower.

    Args:
        input_sizes (`dict`): Features per step by modality.
        size (`int`): Width of a slot.
        repetitions (`int`): Of input, cross and self attention.
        heads (`int`): Must divide `size`.
        stride (`int`): Steps of the input per slot.
        radii (three `int`): Windows of input, cross and self attention are 2 r + 1 wide.
        input_shifts (list of `str`): How the windows of input attention move, see `window_starts`. Those of cross and
            self attention move by "stride".
        attention_dropout, relu_dropout, residual_dropout, embedding_dropout (`float`): On the attention weights,
            inside the feed-forward layers, on what a layer adds, and on inputs and first slots.
    """

    def __init__(
        self,
        input_sizes: dict[str, int],
        size: int,
        repetitions: int,
        heads: int,
        stride: int,
        radii: Sequence[int],
        input_shifts: Sequence[str],
        attention_dropout: float,
        relu_dropout: float,
        residual_dropout: float,
        embedding_dropout: float,
    ):
        super().__init__()
        self.size = size
        self.repetitions = repetitions
        self.stride = stride
        self.input_shifts = tuple(input_shifts)
        self.modalities = tuple(input_sizes)
        self.output_sizes = dict.fromkeys(input_sizes, size)
        self.dropout = Dropout(embedding_dropout)
        self.slots = nn.Parameter(torch.empty(len(input_sizes), size))
        dropouts = attention_dropout, relu_dropout, residual_dropout
        windows = [2 * radius + 1 for radius in radii]
        self.input_attention = nn.ModuleDict(
            {m: _WindowLayer(size, heads, windows[0], *dropouts, width) for m, width in input_sizes.items()}
        )
        self.cross_attention = nn.ModuleDict(
            {
                f"{first}_{second}": _WindowLayer(size, heads, windows[1], *dropouts, size)
                for first, second in combinations(input_sizes, 2)
            }
        )
        self.self_attention = nn.ModuleDict({m: _WindowLayer(size, heads, windows[2], *dropouts) for m in input_sizes})
        self.norm = nn.LayerNorm(size)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.xavier_uniform_(self.slots)

    def forward(self, sequences: dict[str, ModalitySequence]) -> dict[str, ModalitySequence]:
        """
        Args:
            sequences (`dict`): Left-aligned, by modality.

        Returns:
            By modality, its slots (B, ceil(T / stride), size), of which a row of length L has ceil(L / stride).
        """
        contents, hidden = {}, {}
        for slot, modality in zip(self.slots, self.modalities, strict=True):
            sequence = sequences[modality]
            # The input's scale is the slots', whatever its own width (authors' code).
            embedded = self.dropout(with_positions(sequence.values, math.sqrt(self.size)))
            # The same in all repetitions, as the layer is.
            layer: Any = self.input_attention[modality]
            contents[modality] = layer.keys_and_values(embedded)
            # Rounded up without negative numbers, which ONNX divides in another way.
            count = (sequence.mask.shape[1] + self.stride - 1) // self.stride
            first = slot.expand(sequence.mask.shape[0], count, self.size)
            first = self.dropout(with_positions(first, math.sqrt(self.size)))
            slots = (sequence.lengths + self.stride - 1) // self.stride
            used = torch.arange(count, device=slot.device) < slots.unsqueeze(1)
            hidden[modality] = ModalitySequence(first, used)
        for repetition in range(self.repetitions):
            for modality in self.modalities:
                state, layer = hidden[modality], self.input_attention[modality]
                lengths = sequences[modality].lengths
                values = layer(state, contents[modality], lengths, repetition, self.input_shifts, self.stride)
                hidden[modality] = ModalitySequence(values, state.mask)
            hidden = self._cross(hidden, repetition)
            for modality in self.modalities:
                state = hidden[modality]
                values = self.self_attention[modality](state, None, state.lengths, repetition)
                hidden[modality] = ModalitySequence(values, state.mask)
        return {m: ModalitySequence(self.norm(state.values), state.mask).cleared() for m, state in hidden.items()}

    def _cross(self, hidden: dict[str, ModalitySequence], repetition: int) -> dict[str, ModalitySequence]:
        """All directions from the states before this layer; a modality that meets no other one stays as it is."""
        added = {modality: torch.zeros_like(state.values) for modality, state in hidden.items()}
        met = {modality: torch.zeros_like(state.present) for modality, state in hidden.items()}
        for first, second in combinations(self.modalities, 2):
            layer: Any = self.cross_attention[f"{first}_{second}"]
            for target, source, swapped in ((first, second, False), (second, first, True)):
                contents = layer.keys_and_values(hidden[source].values, swapped)
                values = layer(hidden[target], contents, hidden[source].lengths, repetition, swapped=swapped)
                there = hidden[source].present
                added[target] = added[target] + values.masked_fill(~there[:, None, None], 0.0)
                met[target] = met[target] | there
        return {
            m: ModalitySequence(torch.where(met[m][:, None, None], added[m], state.values), state.mask)
            for m, state in hidden.items()
        }


class _WindowLayer(nn.Module):
    """
    Attention of each slot to its window, and a feed-forward layer, both added to what comes in.

    Args:
        window (`int`): Steps of the context that a slot reads.
        context_size (`int`, *optional*): Width of the context, which gets a normalisation of its own; without it, the
            slots attend to each other and share one.
    """

    def __init__(
        self, size, heads, window, attention_dropout, relu_dropout, residual_dropout, context_size: int | None = None
    ):
        super().__init__()
        self.heads = heads
        self.window = window
        self.dropout = attention_dropout
        self.norm = nn.LayerNorm(size)
        self.context_norm = None if context_size is None else nn.LayerNorm(context_size)
        self.query = XavierLinear(size, size)
        self.key = XavierLinear(context_size or size, size)
        self.value = XavierLinear(context_size or size, size)
        self.output = XavierLinear(size, size)
        self.residual_dropout = Dropout(residual_dropout)
        self.feed_forward = FeedForward(size, relu_dropout, residual_dropout)

    def keys_and_values(self, context: torch.Tensor, swapped: bool = False) -> torch.Tensor:
        """Those of a context (B, T, context_size), side by side: (B, T, 2 size)."""
        return self._project(context if self.context_norm is None else self.context_norm(context), swapped)

    def _project(self, context, swapped):
        key = self.query if swapped else self.key
        weight = torch.cat([key.weight, self.value.weight])
        return linear(context, weight, torch.cat([key.bias, self.value.bias]))

    def forward(
        self,
        state: ModalitySequence,
        contents: torch.Tensor | None,
        lengths: torch.Tensor,
        repetition: int,
        shifts: Sequence[str] = ("stride",),
        stride: int = 1,
        swapped: bool = False,
    ) -> torch.Tensor:
        """
        The new slots (B, h, size) from `state`, reading the keys and values `contents` of rows of `lengths` steps, or,
        where it is None, themselves.
        """
        batch, slots, size = state.values.shape
        normed = self.norm(state.values)
        if contents is None:
            contents = self._project(normed, swapped)
        query = (self.key if swapped else self.query)(normed)
        steps = window_starts(slots, lengths, state.lengths, stride, self.window, repetition, shifts, self.training)
        steps = steps.unsqueeze(-1) + torch.arange(self.window, device=steps.device)
        # Projected before the windows are cut out: they overlap.
        key, value = _gather(contents, steps, lengths).flatten(0, 1).chunk(2, dim=-1)
        found = attend(
            query.reshape(batch * slots, 1, size),
            key,
            value,
            heads=self.heads,
            dropout=self.dropout if self.training else 0.0,
        )
        found = self.output(found.reshape(batch, slots, size))
        return self.feed_forward(state.values + self.residual_dropout(found))


def window_starts(
    slots: int,
    lengths: torch.Tensor,
    used: torch.Tensor,
    stride: int,
    window: int,
    repetition: int,
    shifts: Sequence[str],
    training: bool,
) -> torch.Tensor:
    """
    First step of each slot's window, (B, slots): (j + 1) stride - window for slot j, plus shifts, i being the
    repetition; the caller takes steps modulo the length.

    - "stride": i steps;
    - "phase": the integer part of L sin(0.25 j);
    - "random": between 0 and ceil(0.05 L / h) - 1 for h slots, in training only. At strides up to 20 that is 0.

    Args:
        lengths (`torch.Tensor` of shape `(B,)`): L, steps of the context.
        used (`torch.Tensor` of shape `(B,)`): h, slots that the row has.
    """
    slot = torch.arange(slots, device=lengths.device)
    starts = ((slot + 1) * stride - window).expand(lengths.shape[0], slots)
    if "stride" in shifts:
        starts = starts + repetition
    if "phase" in shifts:
        starts = starts + (lengths.unsqueeze(1) * torch.sin(slot * 0.25)).to(torch.int64)
    if "random" in shifts and training:
        bound = torch.ceil(0.05 * lengths / used.clamp(min=1)).unsqueeze(1)
        starts = starts + (torch.rand(starts.shape, device=starts.device) * bound).to(torch.int64)
    return starts


def _gather(values: torch.Tensor, steps: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Steps (B, slots, window), modulo each row's length, of (B, T, d): (B, slots, window, d)."""
    wrapped = steps % lengths.clamp(min=1)[:, None, None]
    flat = wrapped.flatten(1).unsqueeze(-1).expand(-1, -1, values.shape[2])
    return values.gather(1, flat).unflatten(1, wrapped.shape[1:])
