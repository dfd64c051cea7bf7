"""Recurrences with written-out gradients: results against plain loops, gradients against finite differences."""

import math

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from modeling.recurrent_steps import gated_memory_steps, lstm_steps
from modeling.valid_steps import StepRows

COUNTS = pytest.mark.parametrize("counts", [[3], [2, 2], [3, 3, 2, 2, 1], [], [1, 1]], ids=str)


def rows_of(counts):
    """The order of rows, from its definition."""
    starts = np.cumsum([0, *counts])
    previous = [starts[step - 1] + place for step in range(1, len(counts)) for place in range(counts[step])]
    return StepRows(counts, torch.tensor(previous, dtype=torch.int64))


def sequences(counts):
    """The rows of each sequence, first step first."""
    starts = np.cumsum([0, *counts])
    return [
        [int(starts[step]) + place for step, count in enumerate(counts) if place < count]
        for place in range(max(counts, default=0))
    ]


def draw(*shape):
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


def sigmoid(value):
    return 1 / (1 + np.exp(-value))


@COUNTS
def test_lstm_equals_a_loop(counts):
    torch.manual_seed(0)
    size = 4
    inputs, weight = draw(sum(counts), 4 * size), draw(4 * size, size)
    hidden, cells = (found.detach().numpy() for found in lstm_steps(inputs, weight, rows_of(counts)))
    assert hidden.shape == cells.shape == (sum(counts), size)
    for rows in sequences(counts):
        h, c = np.zeros(size), np.zeros(size)
        for row in rows:
            gates = inputs.detach().numpy()[row] + weight.detach().numpy() @ h
            i, f, g, o = np.split(gates, 4)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
            np.testing.assert_allclose(cells[row], c, atol=1e-12)
            np.testing.assert_allclose(hidden[row], h, atol=1e-12)


@COUNTS
def test_gradients_of_the_lstm(counts):
    torch.manual_seed(1)
    rows, weight = rows_of(counts), draw(12, 3)
    if counts:
        assert gradcheck(lambda *given: lstm_steps(*given, rows), (draw(sum(counts), 12), weight))
    else:
        sum(states.sum() for states in lstm_steps(draw(0, 12), weight, rows)).backward()
        assert not weight.grad.any()


def test_lstm_is_the_library_s():
    torch.manual_seed(2)
    lstm = torch.nn.LSTM(5, 6, batch_first=True)
    values = torch.nn.utils.rnn.pack_sequence([torch.randn(length, 5) for length in (9, 9, 4, 1)])
    expected = lstm(values)[0].data
    expected.square().sum().backward()
    wanted = [parameter.grad.clone() for parameter in lstm.parameters()]
    lstm.zero_grad()
    input_weight, hidden_weight, input_bias, hidden_bias = lstm.all_weights[0]
    from_inputs = torch.nn.functional.linear(values.data, input_weight, input_bias + hidden_bias)
    hidden, _ = lstm_steps(from_inputs, hidden_weight, rows_of(values.batch_sizes.tolist()))
    torch.testing.assert_close(hidden, expected, rtol=0, atol=1e-6)
    hidden.square().sum().backward()
    for found, gradient in zip((parameter.grad for parameter in lstm.parameters()), wanted, strict=True):
        torch.testing.assert_close(found, gradient, rtol=1e-4, atol=1e-5)


def memory_arguments(counts, size=3, retain=4, update=2):
    kept = (torch.rand(sum(counts), retain + update) < 0.7).double() / 0.7
    return (
        draw(sum(counts), retain + update),
        kept,
        draw(sum(counts), size),
        draw(retain + update, size),
        (draw(size, retain), draw(size)),
        (draw(size, update), draw(size)),
        rows_of(counts),
    )


@COUNTS
def test_memory_equals_a_loop(counts):
    torch.manual_seed(3)
    arguments = memory_arguments(counts)
    found = gated_memory_steps(*arguments).detach().numpy()
    inputs, kept, proposals, weight = (tensor.detach().numpy() for tensor in arguments[:4])
    (retain, retain_bias), (update, update_bias) = ([t.detach().numpy() for t in pair] for pair in arguments[4:6])
    for rows in sequences(counts):
        memory = np.zeros(3)
        for row in rows:
            hidden = [kept[row, j] * max(0.0, inputs[row, j] + math.fsum(weight[j] * memory)) for j in range(6)]
            kept_part = sigmoid(retain @ hidden[:4] + retain_bias)
            new_part = sigmoid(update @ hidden[4:] + update_bias)
            memory = kept_part * memory + new_part * proposals[row]
            np.testing.assert_allclose(found[row], memory, atol=1e-12)


@COUNTS
def test_gradients_of_the_memory(counts):
    torch.manual_seed(4)
    inputs, kept, proposals, weight, retain, update, rows = memory_arguments(counts)

    def memory(inputs, proposals, weight, *outputs):
        return gated_memory_steps(inputs, kept, proposals, weight, outputs[:2], outputs[2:], rows)

    if counts:
        assert gradcheck(memory, (inputs, proposals, weight, *retain, *update))
    else:
        memory(inputs, proposals, weight, *retain, *update).sum().backward()
        assert not any(parameter.grad.any() for parameter in (weight, *retain, *update))


def test_nothing_that_came_in_is_changed():
    torch.manual_seed(5)
    arguments = memory_arguments([2, 2, 1])
    tensors = [*arguments[:4], *arguments[4], *arguments[5]]
    before = [tensor.detach().clone() for tensor in tensors]
    gated_memory_steps(*arguments).sum().backward()
    inputs, weight = draw(5, 8), draw(8, 2)
    tensors += [inputs, weight]
    before += [inputs.detach().clone(), weight.detach().clone()]
    lstm_steps(inputs, weight, arguments[-1])[0].sum().backward()
    assert all(torch.equal(tensor, old) for tensor, old in zip(tensors, before, strict=True))
