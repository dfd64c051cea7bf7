"""One modality of a batch as a masked sequence, and what every encoder does with such sequences."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn


class ModalitySequence(NamedTuple):
    """
    One modality of a batch: `values` (B, T, d) and `mask` (B, T), true at valid steps.

    T is at least 1: what a batch lacks altogether is one masked step, so that every module runs for every batch, and
    every parameter has a gradient, without cases of its own. (DistributedDataParallel waits for all of them.)
    """

    values: torch.Tensor
    mask: torch.Tensor

    @property
    def lengths(self) -> torch.Tensor:
        """(B,) int64: valid steps."""
        return self.mask.sum(dim=1)

    @property
    def present(self) -> torch.Tensor:
        """(B,) bool: whether the sample has at least one valid step."""
        return self.mask.any(dim=1)

    def cleared(self) -> ModalitySequence:
        """The same with zeros at the steps that are not valid."""
        if costs_nothing_to_ask(self.mask) and self.mask.all():
            return self
        return ModalitySequence(self.values.masked_fill(~self.mask.unsqueeze(-1), 0.0), self.mask)


def at_least_one_step(values: torch.Tensor, mask: torch.Tensor) -> ModalitySequence:
    """A sequence without any step gets a masked one."""
    if values.shape[1] == 0:
        values = values.new_zeros(values.shape[0], 1, values.shape[2])
        mask = mask.new_zeros(values.shape[0], 1)
    return ModalitySequence(values, mask)


def untouched(module: nn.Module) -> torch.Tensor | float:
    """
    A zero that depends on every trained parameter of a module, to add where it is too costly to run for a batch that
    lacks its modality: DistributedDataParallel waits for the gradient of every one of them in every batch.
    """
    if not torch.is_grad_enabled():
        return 0.0
    return sum(parameter.flatten()[0] for parameter in module.parameters() if parameter.requires_grad) * 0.0


def left_align(sequence: ModalitySequence) -> tuple[ModalitySequence, torch.Tensor]:
    """
    Moves each row's valid steps to the front, in their order: a recurrent network then meets no padding before the last
    valid step, wherever the padding was.

    Returns:
        The sequence, and the order (B, T) that made it, which `restore` undoes.
    """
    if costs_nothing_to_ask(sequence.mask) and not (sequence.mask[:, 1:] & ~sequence.mask[:, :-1]).any():
        return sequence, torch.arange(sequence.mask.shape[1]).expand(sequence.mask.shape)
    order = torch.argsort(~sequence.mask, dim=1, stable=True)
    values = sequence.values.gather(1, order.unsqueeze(-1).expand_as(sequence.values))
    return ModalitySequence(values, sequence.mask.gather(1, order)), order


def costs_nothing_to_ask(mask: torch.Tensor) -> bool:
    """Whether a value of the mask may decide what is computed: on a GPU, that waits; in a graph, it ends the graph."""
    return mask.device.type == "cpu" and not torch.compiler.is_compiling()


def restore(values: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    """Puts steps (B, T, d) that `left_align` moved back to where they were."""
    return values.gather(1, order.argsort(dim=1).unsqueeze(-1).expand_as(values))


def first_valid_state(sequence: ModalitySequence) -> torch.Tensor:
    """The state (B, d) at each row's first valid step ([CLS] for a BERT-like encoder); zeros where there is none."""
    return _state_at(sequence, sequence.mask.to(torch.uint8).argmax(dim=1))


def last_valid_state(sequence: ModalitySequence) -> torch.Tensor:
    """The state (B, d) at each row's last valid step; zeros where there is none."""
    from_behind = sequence.mask.flip(1).to(torch.uint8).argmax(dim=1)
    return _state_at(sequence, sequence.mask.shape[1] - 1 - from_behind)


def mean_state(sequence: ModalitySequence) -> torch.Tensor:
    """The mean (B, d) over each row's valid steps; zeros where there is none."""
    counts = sequence.lengths.clamp(min=1).unsqueeze(-1).to(sequence.values.dtype)
    return sequence.cleared().values.sum(dim=1) / counts


def any_valid(sequences: Iterable[ModalitySequence]) -> torch.Tensor:
    """(B, T): the steps at which at least one of the sequences, all of T steps, is valid."""
    return torch.stack([sequence.mask for sequence in sequences]).any(dim=0)


def reconstruction_error(generated: torch.Tensor, sequence: ModalitySequence) -> torch.Tensor:
    """
    Mean squared error over the features and the valid steps of a batch; zero where there is none. What is to be met is
    constant: it gets no gradient.

    Args:
        generated (`torch.Tensor` of shape `(B, T, d)`): What should be like the sequence's values.
    """
    squares = (generated.float() - sequence.values.detach().float()).square().mean(dim=-1)
    return (squares * sequence.mask).sum() / sequence.mask.sum().clamp(min=1)


def leading_mask(sequences: Sequence[ModalitySequence]) -> torch.Tensor:
    """
    (B, N): each row's steps of the first of the sequences that it has; left-aligned, as the sequences are. N is what
    the longest row needs, which is read from the device: words are few beside frames.
    """
    lengths = torch.zeros_like(sequences[0].lengths)
    for sequence in sequences:
        lengths = torch.where(lengths > 0, lengths, sequence.lengths)
    return torch.arange(longest(lengths), device=lengths.device) < lengths.unsqueeze(1)


def longest(lengths: torch.Tensor) -> int:
    """The largest of the lengths, which is read from the device, and at least 1."""
    steps: Any = lengths.max().clamp(min=1).item()  # an int; while tracing, what stands for one
    torch._check(steps >= 1)
    return steps


def shares(sequence: ModalitySequence, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """
    (B, N) each: where the share of step n of N begins and ends among a sequence's L steps, floor(n L / N) and
    ceil((n + 1) L / N).
    """
    have, want = sequence.lengths.unsqueeze(1), mask.sum(dim=1, keepdim=True).clamp(min=1)
    step = torch.arange(mask.shape[1], device=mask.device).unsqueeze(0)
    return torch.minimum(step * have // want, have), torch.minimum(((step + 1) * have + want - 1) // want, have)


def resample(sequence: ModalitySequence, mask: torch.Tensor) -> ModalitySequence:
    """
    Brings a sequence to the steps of another one: step n of N is the mean over its share of the steps (see `shares`).
    With as many steps on both sides, as in word-aligned corpora, nothing changes.

    Args:
        sequence (`ModalitySequence`): Left-aligned.
        mask (`torch.Tensor` of shape `(B, N)`): Left-aligned mask of the wanted steps.

    Returns:
        Values (B, N, d); a row that has no step in `sequence` has none in the result.
    """
    # Differences of running sums cost no more than the two sequences; double precision keeps long ones exact, and a
    # step that stands for itself is taken as it is.
    if costs_nothing_to_ask(mask) and torch.equal(mask.sum(dim=1), sequence.lengths):
        values = sequence.values[:, : mask.shape[1]]
        if missing := mask.shape[1] - values.shape[1]:
            values = torch.nn.functional.pad(values, (0, 0, 0, missing))
        return ModalitySequence(values, mask).cleared()
    sequence = sequence.cleared()
    precise = torch.float32 if sequence.values.device.type == "mps" else torch.float64
    sums = torch.nn.functional.pad(sequence.values.to(precise).cumsum(dim=1), (0, 0, 1, 0))
    start, end = shares(sequence, mask)
    start_at, end_at = (index.unsqueeze(-1).expand(-1, -1, sums.shape[2]) for index in (start, end))
    mean = (sums.gather(1, end_at) - sums.gather(1, start_at)) / (end - start).clamp(min=1).unsqueeze(-1)
    only = sequence.values.gather(1, start_at.clamp(max=sequence.mask.shape[1] - 1))
    values = torch.where((end - start == 1).unsqueeze(-1), only, mean.to(only.dtype))
    return ModalitySequence(values, mask & sequence.present.unsqueeze(1)).cleared()


def _state_at(sequence: ModalitySequence, step: torch.Tensor) -> torch.Tensor:
    state = sequence.values[torch.arange(step.shape[0], device=step.device), step]
    return state.masked_fill(~sequence.present.unsqueeze(-1), 0.0)
