"""
Recurrences step by step whose gradients are written out.

Autograd adds a product of weights' size to their gradient at every step, and records every operation of every step.
Here the steps of the way back hold what is sequential alone; weights get theirs in one product over all steps, and what
depends on a step's own values is made for all steps at once.
"""

from __future__ import annotations

import torch
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad


def lstm_steps(from_inputs: torch.Tensor, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Hidden and cell states (B, T, n) each of an LSTM that starts from zeros, in single or double precision.

    Args:
        from_inputs (`torch.Tensor` of shape `(B, T, 4 n)`):
            What inputs and biases add to the gates, in the order of `torch.nn.LSTM`: input, forget, cell, output.
        weight (`torch.Tensor` of shape `(4 n, n)`): Of the hidden states.
    """
    return _LSTMSteps.apply(from_inputs, weight)


def gated_memory_steps(
    from_inputs: torch.Tensor,
    kept: torch.Tensor,
    proposals: torch.Tensor,
    memory_weight: torch.Tensor,
    retain: tuple[torch.Tensor, torch.Tensor],
    update: tuple[torch.Tensor, torch.Tensor],
) -> torch.Tensor:
    """
    The memory u (B, T, m) of MFN after each step, from u_0 = 0, in single or double precision:

        h_t = kept_t * ReLU(from_inputs_t + W u_{t-1}),     its first entries h^r, the others h^w
        u_t = sigmoid(W_r h^r_t + b_r) * u_{t-1} + sigmoid(W_w h^w_t + b_w) * proposals_t

    Args:
        from_inputs (`torch.Tensor` of shape `(B, T, d)`): What the inputs add, biases included.
        kept (`torch.Tensor` of shape `(B, T, d)`): Dropout's factors.
        proposals (`torch.Tensor` of shape `(B, T, m)`).
        memory_weight (`torch.Tensor` of shape `(d, m)`): W.
        retain, update (`torch.Tensor` of shape `(m, d_r)` and `(m,)`): Weight and bias of each gate; the two d_r add up
            to d.
    """
    return _GatedMemorySteps.apply(from_inputs, kept, proposals, memory_weight, *retain, *update)


class _LSTMSteps(torch.autograd.Function):
    @staticmethod
    def forward(ctx, from_inputs, weight):
        rows, steps, width = from_inputs.shape
        size = weight.shape[1]
        gates = from_inputs.new_empty(rows, steps, width)
        hidden = gates.new_empty(rows, steps, size)
        cells, bounded = torch.empty_like(hidden), torch.empty_like(hidden)  # bounded: tanh of the cell states
        recurrent = weight.t().contiguous()
        for step in range(steps):
            gate, cell = gates[:, step], cells[:, step]
            if step == 0:
                gate.copy_(from_inputs[:, 0])
            else:
                torch.addmm(from_inputs[:, step], hidden[:, step - 1], recurrent, out=gate)
            gate[:, : 2 * size].sigmoid_()
            gate[:, 2 * size : 3 * size].tanh_()
            gate[:, 3 * size :].sigmoid_()
            i, f, g, o = gate.chunk(4, dim=1)
            torch.mul(i, g, out=cell)
            if step > 0:
                cell.addcmul_(f, cells[:, step - 1])
            torch.tanh(cell, out=bounded[:, step])
            torch.mul(o, bounded[:, step], out=hidden[:, step])
        ctx.save_for_backward(weight, gates, cells, bounded, hidden)
        return hidden, cells

    @staticmethod
    @once_differentiable
    def backward(ctx, for_hidden, for_cells):
        weight, gates, cells, bounded, hidden = ctx.saved_tensors
        steps, size = hidden.shape[1:]
        i, f, g, o = gates.chunk(4, dim=2)
        # First what a gradient of a step's cell state (of its hidden state: the last quarter) is multiplied with.
        for_gates = torch.empty_like(gates)
        to_i, to_f, to_g, to_o = for_gates.chunk(4, dim=2)
        torch.mul(g, i * (1 - i), out=to_i)
        torch.mul(before(cells), f * (1 - f), out=to_f)
        torch.mul(i, 1 - g * g, out=to_g)
        torch.mul(bounded, o * (1 - o), out=to_o)
        to_cell = o * (1 - bounded * bounded)
        later_hidden = later_cell = None
        for step in reversed(range(steps)):
            from_hidden = for_hidden[:, step] if later_hidden is None else for_hidden[:, step] + later_hidden
            from_cell = torch.addcmul(for_cells[:, step], from_hidden, to_cell[:, step])
            if later_cell is not None:
                from_cell += later_cell
            gate = for_gates[:, step]
            gate[:, : 3 * size].unflatten(1, (3, size)).mul_(from_cell.unsqueeze(1))
            gate[:, 3 * size :].mul_(from_hidden)
            later_hidden = gate @ weight
            later_cell = from_cell * f[:, step]
        return for_gates, for_gates.flatten(0, 1).t() @ before(hidden).flatten(0, 1)


class _GatedMemorySteps(torch.autograd.Function):
    @staticmethod
    def forward(ctx, from_inputs, kept, proposals, weight, retain_weight, retain_bias, update_weight, update_bias):
        hidden = from_inputs.new_empty(from_inputs.shape)
        memories = hidden.new_empty(proposals.shape)
        retained, updated = torch.empty_like(memories), torch.empty_like(memories)
        width = retain_weight.shape[1]
        from_memory, retain, update = (part.t().contiguous() for part in (weight, retain_weight, update_weight))
        for step in range(memories.shape[1]):
            inner, memory = hidden[:, step], memories[:, step]
            if step == 0:
                inner.copy_(from_inputs[:, 0])
            else:
                torch.addmm(from_inputs[:, step], memories[:, step - 1], from_memory, out=inner)
            inner.relu_().mul_(kept[:, step])
            torch.addmm(retain_bias, inner[:, :width], retain, out=retained[:, step]).sigmoid_()
            torch.addmm(update_bias, inner[:, width:], update, out=updated[:, step]).sigmoid_()
            torch.mul(updated[:, step], proposals[:, step], out=memory)
            if step > 0:
                memory.addcmul_(retained[:, step], memories[:, step - 1])
        weights = weight, retain_weight, update_weight
        ctx.save_for_backward(kept, proposals, *weights, hidden, memories, retained, updated)
        return memories

    @staticmethod
    @once_differentiable
    def backward(ctx, for_memories):
        kept, proposals, weight, retain_weight, update_weight, hidden, memories, retained, updated = ctx.saved_tensors
        width = retain_weight.shape[1]
        earlier = before(memories)
        # First what a gradient of a step's memory (of its hidden layer) is multiplied with.
        for_retain = earlier * retained * (1 - retained)
        for_update = proposals * updated * (1 - updated)
        for_hidden = kept * (hidden > 0)
        for_proposals = torch.empty_like(memories)
        inner = torch.empty_like(hidden[:, 0])
        later = None
        for step in reversed(range(memories.shape[1])):
            gradient = for_memories[:, step] if later is None else for_memories[:, step] + later
            torch.mul(gradient, updated[:, step], out=for_proposals[:, step])
            for_retain[:, step] *= gradient
            for_update[:, step] *= gradient
            torch.mm(for_retain[:, step], retain_weight, out=inner[:, :width])
            torch.mm(for_update[:, step], update_weight, out=inner[:, width:])
            for_hidden[:, step] *= inner
            later = torch.addmm(gradient * retained[:, step], for_hidden[:, step], weight)
        by_retain, by_update = (gradients.flatten(0, 1) for gradients in (for_retain, for_update))
        by_step = hidden.flatten(0, 1)
        return (
            for_hidden,
            None,
            for_proposals,
            for_hidden.flatten(0, 1).t() @ earlier.flatten(0, 1),
            by_retain.t() @ by_step[:, :width],
            by_retain.sum(dim=0),
            by_update.t() @ by_step[:, width:],
            by_update.sum(dim=0),
        )


def before(states: torch.Tensor) -> torch.Tensor:
    """The states of each step's previous step, zeros before the first: (B, T, n)."""
    return pad(states[:, :-1], (0, 0, 1, 0))
