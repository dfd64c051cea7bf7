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
        last_state = last_cell = None
        by_step = (tensor.unbind(1) for tensor in (from_inputs, gates, cells, bounded, hidden))
        for read, gate, cell, bound, state in zip(*by_step, strict=True):
            if last_state is None:
                gate.copy_(read)
            else:
                torch.addmm(read, last_state, recurrent, out=gate)
            i, f, g, o = gate.chunk(4, dim=1)
            gate[:, : 2 * size].sigmoid_()
            g.tanh_()
            o.sigmoid_()
            torch.mul(i, g, out=cell)
            if last_cell is not None:
                cell.addcmul_(f, last_cell)
            torch.tanh(cell, out=bound)
            torch.mul(o, bound, out=state)
            last_state, last_cell = state, cell
        ctx.save_for_backward(weight, gates, cells, bounded, hidden)
        return hidden, cells

    @staticmethod
    @once_differentiable
    def backward(ctx, for_hidden, for_cells):
        weight, gates, cells, bounded, hidden = ctx.saved_tensors
        size = hidden.shape[2]
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
        to_inner = for_gates[..., : 3 * size].unflatten(2, (3, size))
        by_step = (tensor.unbind(1)[::-1] for tensor in (for_hidden, for_cells, to_cell, for_gates, to_inner, to_o, f))
        for from_hidden, from_cell, bound, gate, inner, outer, forget in zip(*by_step, strict=True):
            if later_hidden is not None:
                from_hidden = from_hidden + later_hidden
                from_cell = from_cell + later_cell
            from_cell = torch.addcmul(from_cell, from_hidden, bound)
            inner.mul_(from_cell.unsqueeze(1))
            outer.mul_(from_hidden)
            later_hidden = gate @ weight
            later_cell = from_cell * forget
        return for_gates, for_gates.flatten(0, 1).t() @ before(hidden).flatten(0, 1)


class _GatedMemorySteps(torch.autograd.Function):
    @staticmethod
    def forward(ctx, from_inputs, kept, proposals, weight, retain_weight, retain_bias, update_weight, update_bias):
        hidden = from_inputs.new_empty(from_inputs.shape)
        memories = hidden.new_empty(proposals.shape)
        retained, updated = torch.empty_like(memories), torch.empty_like(memories)
        width = retain_weight.shape[1]
        from_memory, retain, update = (part.t().contiguous() for part in (weight, retain_weight, update_weight))
        last = None
        sequences = from_inputs, kept, proposals, hidden, retained, updated, memories
        by_step = (tensor.unbind(1) for tensor in sequences)
        for read, keep, proposal, inner, old, new, memory in zip(*by_step, strict=True):
            if last is None:
                inner.copy_(read)
            else:
                torch.addmm(read, last, from_memory, out=inner)
            inner.relu_().mul_(keep)
            torch.addmm(retain_bias, inner[:, :width], retain, out=old).sigmoid_()
            torch.addmm(update_bias, inner[:, width:], update, out=new).sigmoid_()
            torch.mul(new, proposal, out=memory)
            if last is not None:
                memory.addcmul_(old, last)
            last = memory
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
        later = None
        sequences = for_memories, retained, updated, for_proposals, for_retain, for_update, for_hidden
        by_step = (tensor.unbind(1)[::-1] for tensor in sequences)
        for gradient, old, new, for_proposal, to_old, to_new, to_inner in zip(*by_step, strict=True):
            if later is not None:
                gradient = gradient + later
            torch.mul(gradient, new, out=for_proposal)
            to_old.mul_(gradient)
            to_new.mul_(gradient)
            to_inner[:, :width].mul_(to_old @ retain_weight)
            to_inner[:, width:].mul_(to_new @ update_weight)
            later = torch.addmm(gradient * old, to_inner, weight)
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
