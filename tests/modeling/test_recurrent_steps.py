"""Recurrences with written-out gradients: results against plain loops, gradients against finite differences."""

import math

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from modeling.recurrent_steps import gated_memory_steps, lstm_steps

STEPS = pytest.mark.parametrize("steps", [1, 2, 5])


def draw(*shape):
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


def sigmoid(value):
    return 1 / (1 + np.exp(-value))


@STEPS
def test_lstm_equals_a_loop(steps):
    torch.manual_seed(0)
    rows, size = 3, 4
    inputs, weight = draw(rows, steps, 4 * size), draw(4 * size, size)
    hidden, cells = (found.detach().numpy() for found in lstm_steps(inputs, weight))
    for row in range(rows):
        h, c = np.zeros(size), np.zeros(size)
        for step in range(steps):
            gates = inputs.detach().numpy()[row, step] + weight.detach().numpy() @ h
            i, f, g, o = np.split(gates, 4)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
            np.testing.assert_allclose(cells[row, step], c, atol=1e-12)
            np.testing.assert_allclose(hidden[row, step], h, atol=1e-12)


@STEPS
def test_gradients_of_the_lstm(steps):
    torch.manual_seed(1)
    assert gradcheck(lstm_steps, (draw(2, steps, 12), draw(12, 3)))


def test_lstm_is_the_library_s():
    torch.manual_seed(2)
    lstm = torch.nn.LSTM(5, 6, batch_first=True)
    values = torch.randn(4, 9, 5)
    expected, _ = lstm(values)
    expected.square().sum().backward()
    wanted = [parameter.grad.clone() for parameter in lstm.parameters()]
    lstm.zero_grad()
    input_weight, hidden_weight, input_bias, hidden_bias = lstm.all_weights[0]
    hidden, _ = lstm_steps(torch.nn.functional.linear(values, input_weight, input_bias + hidden_bias), hidden_weight)
    torch.testing.assert_close(hidden, expected, rtol=0, atol=1e-6)
    hidden.square().sum().backward()
    for found, gradient in zip((parameter.grad for parameter in lstm.parameters()), wanted, strict=True):
        torch.testing.assert_close(found, gradient, rtol=1e-4, atol=1e-5)


def memory_arguments(steps, rows=2, size=3, retain=4, update=2):
    kept = (torch.rand(rows, steps, retain + update) < 0.7).double() / 0.7
    return (
        draw(rows, steps, retain + update),
        kept,
        draw(rows, steps, size),
        draw(retain + update, size),
        (draw(size, retain), draw(size)),
        (draw(size, update), draw(size)),
    )


@STEPS
def test_memory_equals_a_loop(steps):
    torch.manual_seed(3)
    arguments = memory_arguments(steps)
    found = gated_memory_steps(*arguments).detach().numpy()
    inputs, kept, proposals, weight = (tensor.detach().numpy() for tensor in arguments[:4])
    (retain, retain_bias), (update, update_bias) = ([t.detach().numpy() for t in pair] for pair in arguments[4:])
    for row in range(len(found)):
        memory = np.zeros(3)
        for step in range(steps):
            hidden = [
                kept[row, step, j] * max(0.0, inputs[row, step, j] + math.fsum(weight[j] * memory)) for j in range(6)
            ]
            kept_part = sigmoid(retain @ hidden[:4] + retain_bias)
            new_part = sigmoid(update @ hidden[4:] + update_bias)
            memory = kept_part * memory + new_part * proposals[row, step]
            np.testing.assert_allclose(found[row, step], memory, atol=1e-12)


@STEPS
def test_gradients_of_the_memory(steps):
    torch.manual_seed(4)
    inputs, kept, proposals, weight, retain, update = memory_arguments(steps)

    def memory(inputs, proposals, weight, *outputs):
        return gated_memory_steps(inputs, kept, proposals, weight, outputs[:2], outputs[2:])

    assert gradcheck(memory, (inputs, proposals, weight, *retain, *update))


def test_nothing_that_came_in_is_changed():
    torch.manual_seed(5)
    arguments = memory_arguments(3)
    tensors = [*arguments[:4], *arguments[4], *arguments[5]]
    before = [tensor.detach().clone() for tensor in tensors]
    gated_memory_steps(*arguments).sum().backward()
    inputs, weight = draw(2, 3, 8), draw(8, 2)
    tensors += [inputs, weight]
    before += [inputs.detach().clone(), weight.detach().clone()]
    lstm_steps(inputs, weight)[0].sum().backward()
    assert all(torch.equal(tensor, old) for tensor, old in zip(tensors, before, strict=True))
