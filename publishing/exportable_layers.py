"""Layers that loop over steps, in the form in which a graph can hold them: one loop for sequences of any length."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch._higher_order_ops.scan import scan_op
from torch.nn.functional import linear

from modeling.gated_memory import CellStateLSTM, GatedMemory
from modeling.valid_steps import PaddedSteps


def make_exportable(model: nn.Module, onnx: bool) -> nn.Module:
    """
    Replaces, in place, the layers of a model that `torch.export` would unroll for the number of steps that it happens
    to see. What the model computes in evaluation mode stays the same.

    Args:
        model: In evaluation mode.
        onnx: Whether the graph is for ONNX, which has an operator for LSTMs.
    """
    for name, layer in list(model.named_children()):
        if isinstance(layer, CellStateLSTM):
            model.add_module(name, _ScannedLSTM(layer.lstm.all_weights[0]))
        elif isinstance(layer, GatedMemory):
            model.add_module(name, _ScannedMemory(layer))
        elif isinstance(layer, nn.LSTM):
            model.add_module(name, _StackedLSTM(layer, _OnnxLSTM if onnx else _ScannedLSTM))
        else:
            make_exportable(layer, onnx)
    return model


class _StackedLSTM(nn.Module):
    """The layers of a `torch.nn.LSTM`, with its interface; nobody reads the last states, which are None."""

    def __init__(self, lstm: nn.LSTM, layer: type[_OnnxLSTM] | type[_ScannedLSTM]):
        super().__init__()
        if lstm.bidirectional or not lstm.batch_first or not lstm.bias or lstm.proj_size:
            raise ValueError(f"An LSTM of one direction, with biases and batch_first, can be exported; got {lstm}.")
        self.layers = nn.ModuleList(layer(weights) for weights in lstm.all_weights)

    def forward(self, values: torch.Tensor) -> tuple[torch.Tensor, None]:
        """From (B, T, input_size) to the last layer's hidden states (B, T, hidden_size)."""
        for layer in self.layers:
            values, _ = layer(values)
        return values, None


class _OnnxLSTM(nn.Module):
    """ONNX's operator LSTM, which runs nowhere else, with the weights of one layer of `torch.nn.LSTM`."""

    input_weight: torch.Tensor
    hidden_weight: torch.Tensor
    bias: torch.Tensor

    def __init__(self, weights: Sequence[torch.Tensor]):
        super().__init__()
        input_weight, hidden_weight, input_bias, hidden_bias = (_in_onnx_order(weight) for weight in weights)
        self.register_buffer("input_weight", input_weight.unsqueeze(0))
        self.register_buffer("hidden_weight", hidden_weight.unsqueeze(0))
        self.register_buffer("bias", torch.cat([input_bias, hidden_bias]).unsqueeze(0))
        self.hidden_size = hidden_weight.shape[1]

    def forward(self, values: torch.Tensor) -> tuple[torch.Tensor, None]:
        batch, steps, _ = values.shape
        hidden = torch.onnx.ops.symbolic(
            "LSTM",
            (values.transpose(0, 1), self.input_weight, self.hidden_weight, self.bias),
            {"hidden_size": self.hidden_size},
            dtype=values.dtype,
            shape=(steps, 1, batch, self.hidden_size),
        )
        return hidden.squeeze(1).transpose(0, 1), None


class _ScannedLSTM(nn.Module):
    """One layer that gives hidden and cell states at all steps, as `modeling.gated_memory.CellStateLSTM` does."""

    input_weight: torch.Tensor
    hidden_weight: torch.Tensor
    bias: torch.Tensor

    def __init__(self, weights: Sequence[torch.Tensor]):
        super().__init__()
        input_weight, hidden_weight, input_bias, hidden_bias = (weight.detach() for weight in weights)
        self.register_buffer("input_weight", input_weight)
        self.register_buffer("hidden_weight", hidden_weight)
        self.register_buffer("bias", input_bias + hidden_bias)

    def forward(self, values: torch.Tensor, steps: PaddedSteps | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """From (B, T, input_size) to (B, T, hidden_size) each, of all steps."""
        reads = linear(values, self.input_weight, self.bias).transpose(0, 1)
        start = values.new_zeros(values.shape[0], self.hidden_weight.shape[1])
        hidden, cells = _loop(_lstm_step, (start, start.clone()), (reads,), (self.hidden_weight,))
        return hidden.transpose(0, 1), cells.transpose(0, 1)


def _lstm_step(hidden, cell, read, hidden_weight):
    i, f, g, o = (read + linear(hidden, hidden_weight)).chunk(4, dim=-1)
    cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
    return o.sigmoid() * cell.tanh(), cell


class _ScannedMemory(nn.Module):
    """`modeling.gated_memory.GatedMemory`, without dropout."""

    def __init__(self, memory: GatedMemory):
        super().__init__()
        self.memory = memory

    def forward(self, inputs: torch.Tensor, steps: PaddedSteps) -> torch.Tensor:
        """From x (B, T, input_size) to the memory after each of all steps (B, T, memory_size)."""
        proposals = self.memory.proposal(inputs).tanh()
        retain, update = self.memory.retain, self.memory.update
        width = inputs.shape[2]

        reads = [linear(inputs, gate.hidden.weight[:, :width], gate.hidden.bias) for gate in (retain, update)]
        weights = [(gate.hidden.weight[:, width:], gate.output.weight, gate.output.bias) for gate in (retain, update)]
        by_step = [one.transpose(0, 1) for one in (*reads, proposals)]
        (memories,) = _loop(_memory_step, (torch.zeros_like(proposals[:, 0]),), by_step, (*weights[0], *weights[1]))
        return memories.transpose(0, 1)


def _memory_step(memory, for_retain, for_update, proposal, *weights):
    retain, update = (
        linear((read + linear(memory, hidden)).relu(), output, bias).sigmoid()
        for read, (hidden, output, bias) in ((for_retain, weights[:3]), (for_update, weights[3:]))
    )
    return (retain * memory + update * proposal,)


def _loop(
    step: Callable[..., tuple[torch.Tensor, ...]],
    start: Sequence[torch.Tensor],
    reads: Sequence[torch.Tensor],
    constants: Sequence[torch.Tensor],
) -> tuple[torch.Tensor, ...]:
    """
    A loop over steps that stays one in a graph. It is the operator below PyTorch's `scan`, which compiles it first, and
    then refuses a number of steps that the graph computes.

    Args:
        step: From the states, what is read at a step, and the constants to the new states.
        start: The states (B, n) before the first step.
        reads: By step, (T, B, d) each.
        constants: The same at all steps.

    Returns:
        The states after each step, (T, B, n) each.
    """

    def with_outputs(*values):
        states = step(*values)
        return [*states, *(state.clone() for state in states)]  # what is given out may not alias what is carried

    found = scan_op(with_outputs, list(start), list(reads), tuple(constants))
    return tuple(found[len(start) :])


def _in_onnx_order(weight: torch.Tensor) -> torch.Tensor:
    """The gates' rows, i f g o in PyTorch, as i o f g."""
    i, f, g, o = weight.detach().chunk(4)
    return torch.cat([i, o, f, g])
