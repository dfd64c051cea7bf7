"""The LSTM that gives its cell states, attention over them and the gated memory, step by step in NumPy."""

import copy

import numpy as np
import pytest
import torch

from modeling.gated_memory import (
    CellStateLSTM,
    DeltaMemoryAttention,
    GatedMemory,
    SystemOfLSTMs,
    cells_of,
    linear_recurrence,
)
from modeling.modality_sequence import ModalitySequence
from modeling.valid_steps import PaddedSteps, ValidSteps

EITHER = pytest.mark.parametrize("kind", [PaddedSteps, ValidSteps])


def left_aligned(lengths):
    return torch.arange(max(lengths)) < torch.tensor(lengths).unsqueeze(1)


def all_valid(values):
    return ValidSteps(torch.ones(values.shape[:2], dtype=torch.bool))


def at_all_steps(module, values):
    """What a module of steps gives for values (B, T, d) that all are valid, (B, T, n) or several of them."""
    steps = all_valid(values)
    found = module(steps.take(values), steps)
    return steps.restore(found) if isinstance(found, torch.Tensor) else [steps.restore(one) for one in found]


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm_states(module, steps):
    """Hidden and cell states of one sample, (T, n) each."""
    weights = {name: tensor.detach().numpy() for name, tensor in module.lstm.named_parameters()}
    size = weights["weight_hh_l0"].shape[1]
    h, c, hidden, cells = np.zeros(size), np.zeros(size), [], []
    for x in steps:
        gates = weights["weight_ih_l0"] @ x + weights["weight_hh_l0"] @ h
        i, f, g, o = np.split(gates + weights["bias_ih_l0"] + weights["bias_hh_l0"], 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        hidden.append(h)
        cells.append(c)
    return np.array(hidden), np.array(cells)


def perceptron(network, x):
    w = {name: tensor.detach().numpy() for name, tensor in network.named_parameters()}
    inner = np.maximum(w["hidden.weight"] @ x + w["hidden.bias"], 0)
    return w["output.weight"] @ inner + w["output.bias"]


def memories(module, steps):
    """The memory of one sample after each step."""
    memory, found = np.zeros(module.proposal.output.out_features), []
    for x in steps:
        both = np.concatenate([x, memory])
        retain, update = sigmoid(perceptron(module.retain, both)), sigmoid(perceptron(module.update, both))
        memory = retain * memory + update * np.tanh(perceptron(module.proposal, x))
        found.append(memory)
    return np.array(found)


@pytest.fixture
def lstm():
    torch.manual_seed(0)
    return CellStateLSTM(4, 3).double()


def fused(lstm, values):
    """What runs where there is no CPU: PyTorch's hidden states, and the cells that follow from them."""
    input_weight, hidden_weight, input_bias, hidden_bias = lstm.lstm.all_weights[0]
    hidden, _ = lstm.lstm(values)
    return hidden, cells_of(values, hidden, input_weight, hidden_weight, input_bias + hidden_bias)


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_cell_states(lstm, steps):
    values = torch.randn(5, steps, 4, dtype=torch.float64)
    for hidden, cells in (at_all_steps(lstm, values), fused(lstm, values)):
        for row in range(5):
            expected = lstm_states(lstm, values[row].numpy())
            np.testing.assert_allclose(hidden[row].detach(), expected[0], atol=1e-12)
            np.testing.assert_allclose(cells[row].detach(), expected[1], atol=1e-12)


def test_gradients_of_the_cell_states(lstm):
    """Of the input and of all weights, against finite differences and against PyTorch's own LSTM."""
    values = torch.randn(2, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda values, *_: tuple(at_all_steps(lstm, values)), (values, *lstm.parameters()))
    weights = torch.randn(2, 2, 4, 3, dtype=torch.float64)
    gradients = []
    for hidden, cells in (at_all_steps(lstm, values), fused(lstm, values)):
        loss = (weights[0] * hidden + weights[1] * cells).sum()
        gradients.append(torch.autograd.grad(loss, (values, *lstm.parameters())))
    torch.testing.assert_close(*gradients)


def test_raw_features_cost_no_gradient(lstm):
    values = torch.randn(2, 4, 4, dtype=torch.float64)
    at_all_steps(lstm, values)[1].sum().backward()
    assert values.grad is None and all(parameter.grad.abs().sum() > 0 for parameter in lstm.parameters())


@pytest.mark.parametrize("steps", [1, 2, 5, 8, 9])
def test_linear_recurrence(steps):
    factors, terms = torch.rand(2, steps, 3), torch.randn(2, steps, 3)
    state, expected = torch.zeros(2, 3), []
    for t in range(steps):
        state = factors[:, t] * state + terms[:, t]
        expected.append(state)
    torch.testing.assert_close(linear_recurrence(factors, terms), torch.stack(expected, dim=1))


@EITHER
def test_attention(kind):
    torch.manual_seed(0)
    module, cells = DeltaMemoryAttention(3, 4, 0.5).double().eval(), torch.randn(2, 4, 3, dtype=torch.float64)
    steps = kind(torch.ones(2, 4, dtype=torch.bool))
    found = steps.restore(module(steps.with_previous(steps.take(cells)))).detach().numpy()
    for row in range(2):
        for t in range(4):
            window = np.concatenate([cells[row, t - 1] if t else np.zeros(3), cells[row, t]])
            weights = np.exp(perceptron(module.scores, window))
            np.testing.assert_allclose(found[row, t], weights / weights.sum() * window, atol=1e-6)


def make_memory(dropout=0.0):
    torch.manual_seed(0)
    return GatedMemory(5, 3, (4, 0.0), (6, dropout), (7, dropout)).double()


@EITHER
def test_memory(kind):
    module, inputs = make_memory(0.5).eval(), torch.randn(3, 6, 5, dtype=torch.float64)
    lengths = [4, 6, 2]
    steps = kind(left_aligned(lengths))
    found = steps.restore(module(steps.take(inputs), steps)).detach().numpy()
    for row, length in enumerate(lengths):
        expected = memories(module, inputs[row].numpy())
        np.testing.assert_allclose(found[row, :length], expected[:length], atol=1e-12)


def test_dropout_of_the_gates():
    """With practically everything dropped, a gate is what its last bias makes of it."""
    module, inputs = make_memory(1 - 1e-9).train(), torch.randn(2, 3, 5, dtype=torch.float64)
    gates = [sigmoid(gate.output.bias.detach().numpy()) for gate in (module.retain, module.update)]
    found = at_all_steps(module, inputs).detach().numpy()
    for row in range(2):
        memory = 0
        for t in range(3):
            memory = gates[0] * memory + gates[1] * np.tanh(perceptron(module.proposal, inputs[row, t].numpy()))
            np.testing.assert_allclose(found[row, t], memory, atol=1e-12)


def test_dropout_differs_from_step_to_step_and_keeps_the_mean():
    """Of a gate whose hidden layer is one whatever it reads."""
    module = GatedMemory(1, 1, (1, 0.0), (400, 0.5), (1, 0.0))
    for parameter in module.retain.parameters():
        torch.nn.init.zeros_(parameter)
    torch.nn.init.ones_(module.retain.hidden.bias)
    torch.nn.init.constant_(module.retain.output.weight, 1 / 400)
    torch.nn.init.constant_(module.update.output.bias, 50.0)  # an open gate
    torch.nn.init.constant_(module.proposal.output.bias, 50.0)  # tanh is one
    for layer in (module.proposal.output, module.update.output):
        torch.nn.init.zeros_(layer.weight)
    found = at_all_steps(module.train(), torch.zeros(1, 200, 1))[0, :, 0].double()
    retained = (found[1:] - 1) / found[:-1]
    logits = torch.log(retained / (1 - retained))
    assert logits.std() > 0.02 and abs(logits.mean() - 1) < 0.02


@EITHER
def test_missing_modality_has_no_states(kind):
    torch.manual_seed(0)
    module = SystemOfLSTMs({"text": 4, "audio": 2}, {"text": 3, "audio": 2})
    mask = torch.tensor([[True, True], [True, False]])
    sequences = {
        "text": ModalitySequence(torch.randn(2, 2, 4), mask),
        "audio": ModalitySequence(torch.zeros(2, 2, 2), mask & torch.tensor([[True], [False]])),
    }
    steps = kind(mask)
    hidden, cells = (steps.restore(states) for states in module(sequences, steps))
    for states in (hidden, cells):
        assert states.shape == (2, 2, 5)
        assert states[1, 0, :3].abs().min() > 0 and (states[1, 0, 3:] == 0).all() and (states[1, 1] == 0).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_many_steps_keep_their_precision(dtype):
    """States are computed in single precision and only then rounded to that of the inputs."""
    torch.manual_seed(0)
    module = CellStateLSTM(4, 3).to(dtype)
    values = torch.randn(2, 200, 4).to(dtype)
    cells, exact = at_all_steps(module, values)[1], at_all_steps(copy.deepcopy(module).double(), values.double())[1]
    assert cells.dtype == dtype
    torch.testing.assert_close(cells.double(), exact, atol=1e-2 if dtype == torch.bfloat16 else 1e-5, rtol=1e-2)
