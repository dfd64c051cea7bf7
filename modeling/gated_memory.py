"""What MFN and the networks after it share: LSTMs that give their cell states, attention over them, a gated memory."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import linear

from configuration.configuration_graph_mfn import GraphMfnConfig
from configuration.configuration_mfn import MfnConfig
from modeling.alignment import word_aligned
from modeling.dropout import Dropout
from modeling.modality_sequence import ModalitySequence, any_valid
from modeling.precision import precise
from modeling.recurrent_steps import gated_memory_steps, lstm_steps
from modeling.valid_steps import PaddedSteps, StepRows, ValidSteps, before, steps_of


class TwoLayers(nn.Module):
    """W2 dropout(ReLU(W1 x + b1)) + b2: all networks of MFN within a step are such."""

    def __init__(self, input_size: int, hidden_size: int, output_size: int, dropout: float):
        super().__init__()
        self.hidden = nn.Linear(input_size, hidden_size)
        self.dropout = Dropout(dropout)
        self.output = nn.Linear(hidden_size, output_size)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return self.output(self.dropout(torch.relu(self.hidden(values))))


class MemoryFusion(nn.Module):
    """
    MFN without its output network: a system of LSTMs, delta-memory attention and the gated memory.

    The modalities are brought to common steps (see `modeling.alignment`).

    Args:
        input_sizes (`dict`): Features per step by modality.
        config (`MfnConfig`): The sizes and dropouts.
    """

    def __init__(self, input_sizes: dict[str, int], config: MfnConfig):
        super().__init__()
        self.lstms = SystemOfLSTMs(input_sizes, {m: getattr(config, f"{m}_hidden_size") for m in input_sizes})
        size = self.lstms.output_size
        self.attention = DeltaMemoryAttention(size, config.attention_size, config.attention_dropout)
        self.memory = GatedMemory.of(2 * size, config)
        self.output_size = size + config.memory_size

    def forward(self, sequences: dict[str, ModalitySequence]) -> torch.Tensor:
        """From one sequence per modality to the hidden states and the memory after the last valid step (B, size)."""
        aligned = word_aligned(sequences)
        steps = steps_of(any_valid(aligned.values()))
        hidden, cells = self.lstms(aligned, steps)
        memories = self.memory(self.attention(steps.with_previous(cells)), steps)
        return torch.cat([steps.last(hidden), steps.last(memories)], dim=-1)


class SystemOfLSTMs(nn.Module):
    """
    MFN's system of LSTMs: one per modality, which does not see the others.

    Args:
        input_sizes (`dict`): Features per step by modality.
        hidden_sizes (`dict`): Width of its states by modality.
    """

    def __init__(self, input_sizes: dict[str, int], hidden_sizes: dict[str, int]):
        super().__init__()
        self.lstms = nn.ModuleDict({m: CellStateLSTM(width, hidden_sizes[m]) for m, width in input_sizes.items()})
        self.output_size = sum(hidden_sizes[m] for m in input_sizes)

    def forward(self, sequences: dict[str, ModalitySequence], steps: PaddedSteps) -> tuple[torch.Tensor, torch.Tensor]:
        """
        From sequences (B, T, d) at common, left-aligned steps to the hidden and the cell states of all modalities, side
        by side: (steps, output_size) each. Those of a modality that a sample lacks, and of steps that are not valid,
        are zeros.
        """
        hidden: list[torch.Tensor] = []
        cells: list[torch.Tensor] = []
        for modality, lstm in self.lstms.items():
            for found, states in zip((hidden, cells), lstm(steps.take(sequences[modality].values), steps), strict=True):
                found.append(steps.cleared(states, sequences[modality].mask))
        return torch.cat(hidden, dim=-1), torch.cat(cells, dim=-1)


class DeltaMemoryAttention(nn.Module):
    """
    MFN's delta-memory attention: a = softmax(D_a(c)) over the features of c = [c_{t-1}; c_t], all modalities' cell
    states at two steps, and a * c.

    Args:
        size (`int`): Width of the cell states.
        hidden_size (`int`), dropout (`float`): Of the network D_a.
    """

    def __init__(self, size: int, hidden_size: int, dropout: float):
        super().__init__()
        self.scores = TwoLayers(2 * size, hidden_size, 2 * size, dropout)

    def forward(self, window: torch.Tensor) -> torch.Tensor:
        """From c (steps, 2 size) to what is attended to."""
        return self.scores(window).float().softmax(dim=-1).to(window.dtype) * window


class GatedMemory(nn.Module):
    """
    MFN's multi-view gated memory u, which starts from zeros and takes in x, what is attended to at a step:

        u_t = r_t * u_{t-1} + w_t * tanh(D_u(x_t)) with r_t = sigmoid(D_r([x_t; u_{t-1}])) and
                                                        w_t = sigmoid(D_w([x_t; u_{t-1}]))

    D_u, D_r and D_w being networks of two layers. Only what reads u_{t-1} runs step by step: all that depends on x
    alone is one product for all steps.

    Args:
        input_size (`int`): Width of x.
        memory_size (`int`): Width of u.
        proposal, retain, update (`(int, float)`): Width and dropout of the hidden layer of D_u, D_r and D_w.
    """

    def __init__(
        self,
        input_size: int,
        memory_size: int,
        proposal: tuple[int, float],
        retain: tuple[int, float],
        update: tuple[int, float],
    ):
        super().__init__()
        self.input_size = input_size
        self.proposal = TwoLayers(input_size, proposal[0], memory_size, proposal[1])
        self.retain = TwoLayers(input_size + memory_size, retain[0], memory_size, retain[1])
        self.update = TwoLayers(input_size + memory_size, update[0], memory_size, update[1])

    @classmethod
    def of(cls, input_size: int, config: MfnConfig | GraphMfnConfig) -> GatedMemory:
        """With a configuration's sizes and dropouts."""
        return cls(
            input_size,
            config.memory_size,
            (config.proposal_size, config.proposal_dropout),
            (config.retain_size, config.retain_dropout),
            (config.update_size, config.update_dropout),
        )

    def forward(self, inputs: torch.Tensor, steps: PaddedSteps) -> torch.Tensor:
        """From x (steps, input_size) to the memory after each step (steps, memory_size)."""
        proposals = self.proposal(inputs).tanh()
        with torch.autocast(inputs.device.type, enabled=False):
            return self._memories(precise(inputs), precise(proposals), steps).to(inputs.dtype)

    def _memories(self, inputs: torch.Tensor, proposals: torch.Tensor, steps: PaddedSteps) -> torch.Tensor:
        gates = (self.retain, self.update)
        weight = precise(torch.cat([gate.hidden.weight for gate in gates]))
        bias = precise(torch.cat([gate.hidden.bias for gate in gates]))
        from_inputs = linear(inputs, weight[:, : self.input_size], bias)
        memory_weight = weight[:, self.input_size :]
        # Dropout of all steps at once: as many draws, of factors instead of values.
        widths = [gate.hidden.out_features for gate in gates]
        ones = [inputs.new_ones(*inputs.shape[:-1], width) for width in widths]
        kept = torch.cat([gate.dropout(factors) for gate, factors in zip(gates, ones, strict=True)], dim=-1)
        outputs = [(precise(gate.output.weight), precise(gate.output.bias)) for gate in gates]
        if isinstance(steps, ValidSteps):
            return gated_memory_steps(from_inputs, kept, proposals, memory_weight, outputs[0], outputs[1], steps.rows)
        if not torch.compiler.is_compiling():
            count, length = inputs.shape[:2]
            rows = StepRows.of_equal_length(count, length, inputs.device)
            read, keep, proposed = (one.transpose(0, 1).flatten(0, 1) for one in (from_inputs, kept, proposals))
            found = gated_memory_steps(read, keep, proposed, memory_weight, outputs[0], outputs[1], rows)
            return found.unflatten(0, (length, count)).transpose(0, 1)
        retain, update = ((bias, weight.t()) for weight, bias in outputs)
        memory, memories = torch.zeros_like(proposals[:, 0]), []
        for read, keep, proposal in zip(from_inputs.unbind(1), kept.unbind(1), proposals.unbind(1), strict=True):
            hidden = torch.addmm(read, memory, memory_weight.t()).relu() * keep
            for_retain, for_update = hidden.split(widths, dim=1)
            retained = torch.addmm(retain[0], for_retain, retain[1]).sigmoid() * memory
            memory = torch.addcmul(retained, torch.addmm(update[0], for_update, update[1]).sigmoid(), proposal)
            memories.append(memory)
        return torch.stack(memories, dim=1)


class CellStateLSTM(nn.Module):
    """
    A one-directional, one-layer LSTM that gives its cell states at all steps, which `torch.nn.LSTM` keeps to itself.

    On a CPU, where `torch.nn.LSTM` is no faster than its steps, these are taken here, the valid ones alone, after one
    product of all inputs. Elsewhere its fused kernel gives the hidden states, and the cell states follow from them, all
    steps at once.

    Args:
        input_size (`int`): Features per step.
        hidden_size (`int`): Width of the states.
    """

    def __init__(self, input_size: int, hidden_size: int):
        super().__init__()
        self.lstm = nn.LSTM(input_size, hidden_size, batch_first=True)

    def forward(self, values: torch.Tensor, steps: PaddedSteps) -> tuple[torch.Tensor, torch.Tensor]:
        """From values (steps, input_size) to hidden and cell states, (steps, hidden_size) each."""
        input_weight, hidden_weight, input_bias, hidden_bias = self.lstm.all_weights[0]
        with torch.autocast(values.device.type, enabled=False):
            weights = [precise(weight) for weight in (input_weight, hidden_weight, input_bias + hidden_bias)]
            if isinstance(steps, ValidSteps):
                hidden, cells = lstm_steps(linear(precise(values), weights[0], weights[2]), weights[1], steps.rows)
            elif values.device.type == "cpu":
                hidden, cells = states_step_by_step(linear(precise(values), weights[0], weights[2]), weights[1])
            else:
                hidden, _ = self.lstm(values.to(input_weight.dtype))
                cells = cells_of(precise(values), precise(hidden), *weights)
        return hidden.to(values.dtype), cells.to(values.dtype)


def states_step_by_step(from_inputs: torch.Tensor, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What `lstm_steps` computes, in operations that a compiler reads."""
    recurrent = weight.t()
    hidden = cell = from_inputs.new_zeros(len(from_inputs), weight.shape[1])
    states = []
    for read in from_inputs.unbind(1):
        i, f, g, o = torch.addmm(read, hidden, recurrent).chunk(4, dim=-1)
        cell = torch.addcmul(f.sigmoid() * cell, i.sigmoid(), g.tanh())
        hidden = o.sigmoid() * cell.tanh()
        states.append((hidden, cell))
    hiddens, cells = zip(*states, strict=True)
    return torch.stack(hiddens, dim=1), torch.stack(cells, dim=1)


def cells_of(
    values: torch.Tensor,
    hidden: torch.Tensor,
    input_weight: torch.Tensor,
    hidden_weight: torch.Tensor,
    bias: torch.Tensor,
) -> torch.Tensor:
    """
    The cell states behind an LSTM's hidden states, without taking its steps: its gates are those of x_t and h_{t-1},
    which are known, and c_t = f_t * c_{t-1} + i_t * g_t is linear.

    Args:
        values (`torch.Tensor` of shape `(B, T, d)`), hidden (of shape `(B, T, n)`): What the LSTM read, and its states.
        input_weight, hidden_weight, bias: As `torch.nn.LSTM` has them, the sum of its two biases.
    """
    used = 3 * hidden.shape[-1]  # not the output gate, the last one
    gates = linear(values, input_weight[:used], bias[:used]) + linear(before(hidden), hidden_weight[:used])
    i, f, g = gates.chunk(3, dim=-1)
    return linear_recurrence(f.sigmoid(), i.sigmoid() * g.tanh())


def linear_recurrence(factors: torch.Tensor, terms: torch.Tensor) -> torch.Tensor:
    """
    s_t = factors_t * s_{t-1} + terms_t from s_0 = 0, in a number of operations that grows with the logarithm of T:
    each round joins the recurrences of twice as many steps. Factors are at most one in size.

    Args:
        factors, terms (`torch.Tensor` of shape `(B, T, d)`).
    """
    reach = 1
    while reach < factors.shape[1]:
        later = torch.addcmul(terms[:, reach:], factors[:, reach:], terms[:, :-reach])
        joined = factors[:, reach:] * factors[:, :-reach]
        terms = torch.cat([terms[:, :reach], later], dim=1)
        factors = torch.cat([factors[:, :reach], joined], dim=1)
        reach *= 2
    return terms
