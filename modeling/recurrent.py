"""Recurrent encoders of masked sequences."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import linear

from modeling.modality_sequence import (
    ModalitySequence,
    costs_nothing_to_ask,
    first_valid_state,
    last_valid_state,
    left_align,
)
from modeling.recurrent_steps import lstm_steps
from modeling.valid_steps import PaddedSteps, ValidSteps

# Multiplications that a CPU does in the time that the operations of one step take beside them, on the way there and on
# the way there and back.
STEP_COST, STEP_COST_TRAINING = 2_000_000, 3_000_000


class SequenceEncoder(nn.Module):
    """
    One-layer LSTM whose state after the last valid step represents the sequence, or, of one that reads in both
    directions, the states at the ends of both; a missing sequence is represented by zeros. (Self-MM, section "Overall
    Architecture": F_s = sLSTM(I_s).)

    Args:
        feature_size (`int`): Features per step.
        hidden_size (`int`): Width of the state.
        projection_size (`int`, *optional*): Width of a linear layer after it; none where unset.
        dropout (`float`): On the state, before the linear layer.
        bidirectional (`bool`): Whether the LSTM reads in both directions.
    """

    def __init__(
        self,
        feature_size: int,
        hidden_size: int,
        projection_size: int | None = None,
        dropout: float = 0.0,
        bidirectional: bool = False,
    ):
        super().__init__()
        self.lstm: nn.LSTM | BidirectionalLSTM
        if bidirectional:
            self.lstm = BidirectionalLSTM(feature_size, hidden_size)
        else:
            self.lstm = nn.LSTM(feature_size, hidden_size, batch_first=True)
        width = hidden_size * (1 + bidirectional)
        self.dropout = nn.Dropout(dropout)
        self.projection = nn.Linear(width, projection_size) if projection_size is not None else None
        self.output_size = projection_size if projection_size is not None else width

    def forward(self, sequence: ModalitySequence) -> torch.Tensor:
        """Returns (B, output_size)."""
        aligned, _ = left_align(sequence)
        if isinstance(self.lstm, BidirectionalLSTM):
            state = end_states(self.lstm(aligned), aligned.mask)
        else:
            state = last_valid_state(ModalitySequence(lstm_states(self.lstm, aligned), aligned.mask))
        state = self.dropout(state)
        if self.projection is not None:
            state = self.projection(state)
        return state.masked_fill(~sequence.present.unsqueeze(-1), 0.0)


def lstm_states(lstm: nn.Module, sequence: ModalitySequence) -> torch.Tensor:
    """
    The hidden states (B, T, hidden_size) of a one-directional LSTM of one layer over a left-aligned sequence. What they
    are behind the last valid step stands for nothing.
    """
    if not steps_pay(lstm, *sequence):
        return lstm(sequence.values)[0]
    steps = ValidSteps(sequence.mask)
    return steps.restore(lstm_rows(lstm, sequence.values, steps))


def lstm_rows(lstm: nn.Module, values: torch.Tensor, steps: PaddedSteps) -> torch.Tensor:
    """The same from values (B, T, d), as `steps` holds them."""
    if not isinstance(steps, ValidSteps) or not steps_pay(lstm, values, steps.mask):
        return steps.take(lstm(values)[0])
    assert isinstance(lstm, nn.LSTM)
    input_weight, hidden_weight, input_bias, hidden_bias = lstm.all_weights[0]
    from_inputs = linear(steps.take(values), input_weight, input_bias + hidden_bias)
    return lstm_steps(from_inputs, hidden_weight, steps.rows)[0]


def steps_pay(lstm: nn.Module, values: torch.Tensor, mask: torch.Tensor) -> bool:
    """
    Whether `lstm_steps` over the valid steps takes less time than PyTorch's kernel, whose single steps cost less, but
    which computes padding, too, and a gradient of values that need none.
    """
    if not costs_nothing_to_ask(mask) or not isinstance(lstm, nn.LSTM) or lstm.num_layers > 1:
        return False
    weight = lstm.all_weights[0][0]  # of the values; what shards a model may leave it no parameters
    if not weight.dtype == values.dtype == torch.float32 or torch.is_autocast_enabled("cpu"):
        return False
    valid, width = int(mask.sum()), weight.shape[1]
    spared, cost = (mask.numel() - valid) * (width + lstm.hidden_size), STEP_COST
    if torch.is_grad_enabled():
        spared, cost = 3 * spared, STEP_COST_TRAINING
        if not values.requires_grad:
            spared += valid * width
    return spared * weight.shape[0] > mask.shape[1] * cost


class LSTMEncoders(nn.Module):
    """
    One one-directional LSTM per modality, with the interface of the encoders that read the modalities together.

    Args:
        input_sizes (`dict`): Features per step by modality.
        size (`int`): Width of the states.
    """

    def __init__(self, input_sizes: dict[str, int], size: int):
        super().__init__()
        self.lstms = nn.ModuleDict({m: nn.LSTM(width, size, batch_first=True) for m, width in input_sizes.items()})
        self.output_sizes = dict.fromkeys(input_sizes, size)

    def forward(self, sequences: dict[str, ModalitySequence]) -> dict[str, ModalitySequence]:
        """From left-aligned sequences by modality to their states (B, T, size)."""
        return {
            m: ModalitySequence(lstm_states(lstm, sequences[m]), sequences[m].mask).cleared()
            for m, lstm in self.lstms.items()
        }


class BidirectionalLSTM(nn.Module):
    """
    An LSTM per direction, over the valid steps alone: the backward one starts at each row's last valid step.

    `torch.nn.LSTM` does so for packed sequences only, whose lengths it wants on the CPU, which makes a GPU wait.
    """

    def __init__(self, input_size: int, hidden_size: int):
        super().__init__()
        self.forward_lstm = nn.LSTM(input_size, hidden_size, batch_first=True)
        self.backward_lstm = nn.LSTM(input_size, hidden_size, batch_first=True)

    def forward(self, sequence: ModalitySequence) -> tuple[torch.Tensor, torch.Tensor]:
        """From a left-aligned sequence to both directions' states (B, T, hidden_size), in the order of the steps."""
        step = torch.arange(sequence.mask.shape[1], device=sequence.mask.device)
        # Reverses the valid steps; the same again brings them back. What is behind them stands for nothing.
        mirror = (sequence.lengths.unsqueeze(1) - 1 - step).clamp(min=0).unsqueeze(-1)
        mirrored = sequence.values.gather(1, mirror.expand_as(sequence.values))
        ahead = lstm_states(self.forward_lstm, sequence)
        back = lstm_states(self.backward_lstm, ModalitySequence(mirrored, sequence.mask))
        return ahead, back.gather(1, mirror.expand_as(back))


def end_states(directions: tuple[torch.Tensor, torch.Tensor], mask: torch.Tensor) -> torch.Tensor:
    """The states (B, 2 hidden_size) of both directions of a `BidirectionalLSTM` after all that they read."""
    ahead, back = (ModalitySequence(states, mask) for states in directions)
    return torch.cat([last_valid_state(ahead), first_valid_state(back)], dim=-1)
