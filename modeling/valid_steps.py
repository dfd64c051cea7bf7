"""The steps of a batch of sequences as rows, so that recurrent networks meet no padding."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch.nn.functional import pad

from modeling.modality_sequence import ModalitySequence, costs_nothing_to_ask, last_valid_state


class StepRows(NamedTuple):
    """
    How P rows stand for the steps of sequences: first all first steps, then all second ones, and so on, the sequences
    in the same order at each step, the longest first. (`torch.nn.utils.rnn.PackedSequence` has this order.)

    Attributes:
        counts (`list` of `int`): Rows of each step, which never grow.
        previous (`torch.Tensor` of shape `(P - counts[0],)`): For each row but those of first steps, that of the same
            sequence's step before it.
    """

    counts: list[int]
    previous: torch.Tensor

    @classmethod
    def of_equal_length(cls, sequences: int, steps: int, device: torch.device) -> StepRows:
        """Of sequences which all have so many steps."""
        return cls([sequences] * steps, torch.arange(sequences * (steps - 1), device=device))

    def before(self, states: torch.Tensor) -> torch.Tensor:
        """From states (P, d) to those of each row's previous step, zeros at first steps: (P, d)."""
        return pad(states.index_select(0, self.previous), (0, 0, len(states) - len(self.previous), 0))


class PaddedSteps:
    """
    Steps of left-aligned sequences as they are, (B, T, d).

    Args:
        mask (`torch.Tensor` of shape `(B, T)`): True at valid steps.
    """

    def __init__(self, mask: torch.Tensor):
        self.mask = mask

    def take(self, values: torch.Tensor) -> torch.Tensor:
        """Values (B, T, d) as the steps are held here."""
        return values

    def restore(self, rows: torch.Tensor) -> torch.Tensor:
        """What `take` made of values (B, T, d)."""
        return rows

    def cleared(self, rows: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """The rows with zeros where a mask (B, T) is false."""
        return ModalitySequence(rows, mask).cleared().values

    def with_previous(self, states: torch.Tensor) -> torch.Tensor:
        """[s_{t-1}; s_t] at each step, s_0 being zeros: from width d to 2 d."""
        return torch.cat([before(states), states], dim=-1)

    def last(self, rows: torch.Tensor) -> torch.Tensor:
        """The rows (B, d) of each sequence's last step; zeros for one without steps."""
        return last_valid_state(ModalitySequence(rows, self.mask))


class ValidSteps(PaddedSteps):
    """
    Valid steps alone, as rows (P, d) in the order of `StepRows`, with the methods of `PaddedSteps`.

    Attributes:
        rows (`StepRows`): Their order.
    """

    def __init__(self, mask: torch.Tensor):
        super().__init__(mask)
        lengths = mask.sum(dim=1)
        order = torch.argsort(lengths, descending=True, stable=True)
        step, place = mask[order].t().nonzero(as_tuple=True)
        self.positions = order[place] * mask.shape[1] + step  # among B T steps
        counts = mask.sum(dim=0)
        starts = counts.cumsum(0) - counts
        later = step > 0
        self.rows = StepRows([count for count in counts.tolist() if count], (starts[step - 1] + place)[later])
        place_of_sequence = torch.empty_like(order).index_copy_(0, order, torch.arange(len(order)))
        self.last_rows = starts[(lengths - 1).clamp(min=0)] + place_of_sequence
        self.present = lengths > 0

    def take(self, values):
        return values.flatten(0, 1).index_select(0, self.positions)

    def restore(self, rows):
        everywhere = rows.new_zeros(self.mask.numel(), rows.shape[1]).index_copy(0, self.positions, rows)
        return everywhere.unflatten(0, self.mask.shape)

    def cleared(self, rows, mask):
        kept = mask.flatten().index_select(0, self.positions)
        return rows if kept.all() else rows.masked_fill(~kept.unsqueeze(-1), 0.0)

    def with_previous(self, states):
        return torch.cat([self.rows.before(states), states], dim=-1)

    def last(self, rows):
        if len(rows) == 0:
            return rows.sum() + rows.new_zeros(len(self.mask), rows.shape[1])
        found = rows.index_select(0, self.last_rows.clamp(max=len(rows) - 1))
        return found.masked_fill(~self.present.unsqueeze(-1), 0.0)


def steps_of(mask: torch.Tensor) -> PaddedSteps:
    """
    The valid steps of left-aligned sequences where it costs nothing to ask for their number; all steps elsewhere.

    Args:
        mask (`torch.Tensor` of shape `(B, T)`).
    """
    return ValidSteps(mask) if costs_nothing_to_ask(mask) else PaddedSteps(mask)


def before(states: torch.Tensor) -> torch.Tensor:
    """The states of each step's previous step, zeros before the first: (B, T, n)."""
    return pad(states[:, :-1], (0, 0, 1, 0))
