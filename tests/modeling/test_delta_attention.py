"""Delta self-attention and its convolution against loops over heads, queries, keys, steps and features."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from modeling.delta_attention import DeltaSelfAttention, DeltaTerm, SequenceConvolution, reachable_steps
from modeling.modality_sequence import ModalitySequence

DIRECTIONS = ("both", "past", "future")
INDICES = pytest.mark.parametrize("index", ["key", "offset"])


def scramble(module):
    """No weight near what it starts from, whose zero biases would hide what is done with them."""
    torch.manual_seed(1)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.6)
    return module.double().eval(), {name: parameter.detach().numpy() for name, parameter in module.named_parameters()}


def left_aligned(lengths, steps, width, garbage=float("nan"), seed=0):
    mask = torch.arange(steps) < torch.tensor(lengths)[:, None]
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(*mask.shape, width, generator=generator, dtype=torch.float64)
    return ModalitySequence(values.masked_fill(~mask.unsqueeze(-1), garbage), mask)


def column(index, i, j, steps):
    """Which one of W scores the change from step i to step j."""
    if index == "key":
        return min(j, steps - 1)
    reach = steps // 2
    return min(max(j - i, -reach), reach) + reach


def relative_term(values, weight, index, steps):
    """(T, T): (x_j - x_i) . w_c."""
    result = np.zeros((len(values), len(values)))
    for i, start in enumerate(values):
        for j, end in enumerate(values):
            for feature, w in enumerate(weight[column(index, i, j, steps)]):
                result[i, j] += (end[feature] - start[feature]) * w
    return result


def reaches(i, j, window, direction):
    near = window is None or abs(i - j) <= window
    return near and (direction == "both" or i == j or (j > i) == (direction == "future"))


def softmax(scores):
    exponents = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return exponents / exponents.sum(axis=-1, keepdims=True)


@INDICES
@pytest.mark.parametrize("steps", [1, 2, 7, 8])
@pytest.mark.parametrize("length", [1, 5, 8, 13])
def test_delta_term_equals_the_loops(index, steps, length):
    """Also of more steps than W has columns, and of changes over more steps than it has offsets."""
    term, weights = scramble(DeltaTerm(3, steps, index))
    values = torch.randn(2, length, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = term(values).detach().numpy()
    assert found.shape == (2, length, length)
    for row in range(2):
        expected = relative_term(values[row].numpy(), weights["weight"], index, steps)
        np.testing.assert_allclose(found[row], expected, atol=1e-12)
        np.testing.assert_allclose(found[row].diagonal(), 0, atol=1e-12)  # a step does not change to itself


@INDICES
def test_delta_term_sees_changes_alone(index):
    """What never changes, an expression that a face always has, adds nothing."""
    term, _ = scramble(DeltaTerm(3, 6, index))
    values = torch.randn(1, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = term(values)
    torch.testing.assert_close(term(values + torch.tensor([2.0, -7.0, 0.5])), found, atol=1e-12, rtol=0)
    torch.testing.assert_close(term(3 * values), 3 * found, atol=1e-12, rtol=0)


@INDICES
def test_a_single_column_would_cancel_in_the_softmax(index):
    """With one column for all, every step attends alike: nothing of where the change starts is left."""
    values = torch.randn(1, 6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    spread = {}
    for steps in (1, 6):
        weights = softmax(scramble(DeltaTerm(3, steps, index))[0](values)[0].detach().numpy())
        spread[steps] = abs(weights - weights[0]).max()
    assert spread[1] < 1e-12 and spread[6] > 0.05


def test_offsets_make_the_same_change_count_the_same_wherever_it_happens():
    values = torch.randn(1, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    later = torch.cat([torch.zeros(1, 2, 3), values], dim=1)
    for index, same in (("offset", True), ("key", False)):
        term, _ = scramble(DeltaTerm(3, 20, index))
        assert torch.allclose(term(values), term(later)[:, 2:, 2:], atol=1e-12) == same


def test_size_of_the_relative_weights():
    """d_ch x T, as the paper says; by offset, as many on either side of none."""
    assert DeltaTerm(40, 512, "key").weight.numel() == 40 * 512
    assert [DeltaTerm(40, steps, "offset").weight.shape[0] for steps in (1, 2, 7, 512)] == [1, 3, 7, 513]
    layer = DeltaSelfAttention(40, 5, 512, "key", None, "both", 0.1)
    assert sum(p.numel() for p in layer.parameters()) == 4 * (40**2 + 40) + 40 * 512  # the heads share them


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("window", [None, 0, 1, 3, 20])
@pytest.mark.parametrize("steps", [1, 6])
def test_reachable_steps_equal_the_loops(steps, window, direction):
    found = reachable_steps(steps, window, direction)
    assert found.dtype == torch.bool
    assert found.tolist() == [[reaches(i, j, window, direction) for j in range(steps)] for i in range(steps)]
    assert found.diagonal().all()  # so that no step is left without any


def attended(values, weights, heads, steps, index, window, direction):
    """A row's valid steps (T, d) after the whole layer."""

    def project(name, step):
        return weights[f"{name}.weight"] @ step + weights[f"{name}.bias"]

    relative, result = relative_term(values, weights["delta.weight"], index, steps), []
    for i, step in enumerate(values):
        near, found = [j for j in range(len(values)) if reaches(i, j, window, direction)], []
        for head in np.split(np.arange(len(step)), heads):
            query = project("query", step)[head]
            scores = np.array([query @ project("key", values[j])[head] + relative[i, j] for j in near])
            shares = softmax(scores / math.sqrt(len(head)))
            found.append(sum(share * project("value", values[j])[head] for share, j in zip(shares, near, strict=True)))
        result.append(project("output", np.concatenate(found)))
    return np.array(result)


@INDICES
@pytest.mark.parametrize("heads", [1, 3])
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("window", [None, 0, 2])
def test_delta_self_attention_equals_the_equations(index, heads, direction, window):
    """Equations 11 and 12, over valid steps alone; of W's five columns some have to be shared."""
    layer, weights = scramble(DeltaSelfAttention(6, heads, 5, index, window, direction, 0.9))
    lengths = (7, 3, 1, 0)
    for garbage in (0.0, 1e3):  # a convolution before it leaves zeros; nothing depends on it
        sequence = left_aligned(lengths, 8, 6, garbage)
        with torch.no_grad():
            found = layer(sequence)
        assert torch.equal(found.mask, sequence.mask)
        for row, length in enumerate(lengths):
            steps = sequence.values[row, :length].numpy()
            expected = np.zeros((8, 6))
            if length:
                expected[:length] = attended(steps, weights, heads, 5, index, window, direction)
            np.testing.assert_allclose(found.values[row].numpy(), expected, atol=1e-10, err_msg=f"row {row}")


def test_dropout_is_on_the_weights_in_training():
    """With probability one, what is left is the output's bias."""
    layer, weights = scramble(DeltaSelfAttention(6, 3, 5, "key", None, "both", 1.0))
    sequence = left_aligned((4, 2), 5, 6, 0.0)
    steady = layer(sequence)
    assert torch.equal(steady.values, layer(sequence).values)
    torn = layer.train()(sequence).values.detach().numpy()
    for row, length in enumerate((4, 2)):
        np.testing.assert_allclose(torn[row, :length], np.tile(weights["output.bias"], (length, 1)), atol=1e-12)
        assert not torn[row, length:].any()


@INDICES
@pytest.mark.parametrize("window", [None, 0])
def test_gradients_stay_with_the_valid_steps(index, window):
    layer, _ = scramble(DeltaSelfAttention(6, 3, 5, index, window, "past", 0.0))
    sequence = left_aligned((4, 0), 5, 6, 0.0)
    sequence.values.requires_grad_()
    layer(sequence).values.square().sum().backward()
    gradient = sequence.values.grad
    assert torch.isfinite(gradient).all() and gradient[sequence.mask].all() and not gradient[~sequence.mask].any()
    assert all(torch.isfinite(parameter.grad).all() for parameter in layer.parameters())


@pytest.mark.parametrize("kernel_size", [1, 3, 5])
def test_convolution_equals_the_loops_and_does_not_see_the_padding(kernel_size):
    """NaN in the padding, as wide as it may be; beyond the ends there are zeros."""
    module, weights = scramble(SequenceConvolution(4, 3, kernel_size))
    weight, bias = weights["convolution.weight"], weights["convolution.bias"]
    lengths = (6, 2, 1, 0)
    for steps in (6, 9):
        sequence = left_aligned(lengths, steps, 4)
        found = module(sequence)
        assert torch.equal(found.mask, sequence.mask) and found.values.shape == (4, steps, 3)
        for row, length in enumerate(lengths):
            expected = np.zeros((steps, 3))
            for step in range(length):
                expected[step] = bias
                for k in range(kernel_size):
                    source = step + k - kernel_size // 2
                    if 0 <= source < length:
                        expected[step] += weight[:, :, k] @ sequence.values[row, source].numpy()
            np.testing.assert_allclose(found.values[row].detach().numpy(), expected, atol=1e-12)
