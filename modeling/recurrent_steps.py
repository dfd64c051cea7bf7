"""
Recurrences step by step whose gradients are written out, over rows that stand for steps (see `valid_steps.StepRows`).

Autograd adds a product of weights' size to their gradient at every step, and records every operation of every step.
Here the steps of the way back hold what is sequential alone; weights get theirs in one product over all steps, and what
depends on a step's own values is made for all steps at once.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.autograd.function import once_differentiable

from modeling.valid_steps import StepRows


def lstm_steps(from_inputs: torch.Tensor, weight: torch.Tensor, rows: StepRows) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Hidden and cell states (P, n) each of an LSTM that starts from zeros, in single or double precision.

    Args:
        from_inputs (`torch.Tensor` of shape `(P, 4 n)`):
            What inputs and biases add to the gates, in the order of `torch.nn.LSTM`: input, forget, cell, output.
        weight (`torch.Tensor` of shape `(4 n, n)`): Of the hidden states.
        rows (`StepRows`): The steps that the P rows stand for.
    """
    return _LSTMSteps.apply(from_inputs, weight, rows)


def gated_memory_steps(
    from_inputs: torch.Tensor,
    kept: torch.Tensor,
    proposals: torch.Tensor,
    memory_weight: torch.Tensor,
    retain: tuple[torch.Tensor, torch.Tensor],
    update: tuple[torch.Tensor, torch.Tensor],
    rows: StepRows,
) -> torch.Tensor:
    """
    The memory u (P, m) of MFN after each step, from u_0 = 0, in single or double precision:

        h_t = kept_t * ReLU(from_inputs_t + W u_{t-1}),     its first entries h^r, the others h^w
        u_t = sigmoid(W_r h^r_t + b_r) * u_{t-1} + sigmoid(W_w h^w_t + b_w) * proposals_t

    Args:
        from_inputs (`torch.Tensor` of shape `(P, d)`): What the inputs add, biases included.
        kept (`torch.Tensor` of shape `(P, d)`): Dropout's factors.
        proposals (`torch.Tensor` of shape `(P, m)`).
        memory_weight (`torch.Tensor` of shape `(d, m)`): W.
        retain, update (`torch.Tensor` of shape `(m, d_r)` and `(m,)`): Weight and bias of each gate; the two d_r add up
            to d.
        rows (`StepRows`): The steps that the P rows stand for.
    """
    return _GatedMemorySteps.apply(from_inputs, kept, proposals, memory_weight, *retain, *update, rows)


def _steps(counts: list[int], backwards: bool = False) -> Iterator[tuple[slice, slice | None]]:
    """The rows of each step, and those of the step before it that they go on from; none for the first step's."""
    starts = [0]
    for count in counts:
        starts.append(starts[-1] + count)
    for step in range(len(counts))[:: -1 if backwards else 1]:
        before = slice(starts[step - 1], starts[step - 1] + counts[step]) if step else None
        yield slice(starts[step], starts[step + 1]), before


class _LSTMSteps(torch.autograd.Function):
    @staticmethod
    def forward(ctx, from_inputs, weight, rows):
        size = weight.shape[1]
        gates = torch.empty_like(from_inputs)
        hidden = gates.new_empty(len(gates), size)
        cells, bounded = torch.empty_like(hidden), torch.empty_like(hidden)  # bounded: tanh of the cell states
        recurrent = weight.t().contiguous()
        for now, before in _steps(rows.counts):
            gate, cell = gates[now], cells[now]
            if before is None:
                gate.copy_(from_inputs[now])
            else:
                torch.addmm(from_inputs[now], hidden[before], recurrent, out=gate)
            i, f, g, o = gate.chunk(4, dim=1)
            gate[:, : 2 * size].sigmoid_()
            g.tanh_()
            o.sigmoid_()
            torch.mul(i, g, out=cell)
            if before is not None:
                cell.addcmul_(f, cells[before])
            torch.mul(o, torch.tanh(cell, out=bounded[now]), out=hidden[now])
        ctx.rows = rows
        ctx.save_for_backward(weight, gates, cells, bounded, hidden)
        return hidden, cells

    @staticmethod
    @once_differentiable
    def backward(ctx, for_hidden, for_cells):
        weight, gates, cells, bounded, hidden = ctx.saved_tensors
        rows, size = ctx.rows, hidden.shape[1]
        i, f, g, o = gates.chunk(4, dim=1)
        # First what a gradient of a step's cell state (of its hidden state: the last quarter) is multiplied with.
        for_gates = torch.empty_like(gates)
        to_i, to_f, to_g, to_o = for_gates.chunk(4, dim=1)
        torch.mul(g, i * (1 - i), out=to_i)
        torch.mul(rows.before(cells), f * (1 - f), out=to_f)
        torch.mul(i, 1 - g * g, out=to_g)
        torch.mul(bounded, o * (1 - o), out=to_o)
        to_cell = o * (1 - bounded * bounded)
        to_inner = for_gates[:, : 3 * size].unflatten(1, (3, size))
        for_hidden, for_cells = for_hidden.clone(), for_cells.clone()  # to which later steps add
        for now, before in _steps(rows.counts, backwards=True):
            from_cell = for_cells[now].addcmul_(for_hidden[now], to_cell[now])
            to_inner[now].mul_(from_cell.unsqueeze(1))
            to_o[now].mul_(for_hidden[now])
            if before is not None:
                for_hidden[before].addmm_(for_gates[now], weight)
                for_cells[before].addcmul_(from_cell, f[now])
        later = for_gates[len(for_gates) - len(rows.previous) :]
        return for_gates, later.t() @ hidden.index_select(0, rows.previous), None


class _GatedMemorySteps(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx, from_inputs, kept, proposals, weight, retain_weight, retain_bias, update_weight, update_bias, rows
    ):
        hidden = torch.empty_like(from_inputs)
        memories, retained, updated = (torch.empty_like(proposals) for _ in range(3))
        width = retain_weight.shape[1]
        from_memory, retain, update = (part.t().contiguous() for part in (weight, retain_weight, update_weight))
        for now, before in _steps(rows.counts):
            inner, memory = hidden[now], memories[now]
            if before is None:
                inner.copy_(from_inputs[now])
            else:
                torch.addmm(from_inputs[now], memories[before], from_memory, out=inner)
            inner.relu_().mul_(kept[now])
            old = torch.addmm(retain_bias, inner[:, :width], retain, out=retained[now]).sigmoid_()
            new = torch.addmm(update_bias, inner[:, width:], update, out=updated[now]).sigmoid_()
            torch.mul(new, proposals[now], out=memory)
            if before is not None:
                memory.addcmul_(old, memories[before])
        ctx.rows = rows
        weights = weight, retain_weight, update_weight
        ctx.save_for_backward(kept, proposals, *weights, hidden, memories, retained, updated)
        return memories

    @staticmethod
    @once_differentiable
    def backward(ctx, for_memories):
        kept, proposals, weight, retain_weight, update_weight, hidden, memories, retained, updated = ctx.saved_tensors
        rows, width = ctx.rows, retain_weight.shape[1]
        # First what a gradient of a step's memory (of its hidden layer) is multiplied with.
        for_retain = rows.before(memories) * retained * (1 - retained)
        for_update = proposals * updated * (1 - updated)
        for_hidden = kept * (hidden > 0)
        for_memories = for_memories.clone()  # to which later steps add
        for now, before in _steps(rows.counts, backwards=True):
            gradient, inner = for_memories[now], for_hidden[now]
            to_old, to_new = for_retain[now].mul_(gradient), for_update[now].mul_(gradient)
            inner[:, :width].mul_(to_old @ retain_weight)
            inner[:, width:].mul_(to_new @ update_weight)
            if before is not None:
                for_memories[before].addcmul_(gradient, retained[now]).addmm_(inner, weight)
        later = for_hidden[len(for_hidden) - len(rows.previous) :]
        return (
            for_hidden,
            None,
            for_memories * updated,
            later.t() @ memories.index_select(0, rows.previous),
            for_retain.t() @ hidden[:, :width],
            for_retain.sum(dim=0),
            for_update.t() @ hidden[:, width:],
            for_update.sum(dim=0),
            None,
        )
