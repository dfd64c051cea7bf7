"""Attention, feed-forward layer and positions against loops over rows, heads, queries, keys and features."""

import math

import numpy as np
import pytest
import torch

from modeling.attention import FeedForward, MultiHeadAttention, ResidualLayer, XavierLinear, attend, with_positions

# Keys that count: all of four, some on either side, one, none.
KEY_MASKS = ["1111", "1100", "0011", "1001", "0100", "0000"]


def key_mask():
    return torch.tensor([[key == "1" for key in row] for row in KEY_MASKS])


def randoms(*shapes, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes]


def attended(queries, keys, values, heads, bias=None):
    """softmax(Q K^T / sqrt(d / heads) + bias) V of one row: (N, d), (M, d), (M, d), the keys that count, to (N, d)."""
    result = np.zeros_like(queries)
    bias = np.zeros((len(queries), len(keys))) if bias is None else bias
    part = queries.shape[1] // heads
    for head in range(heads):
        features = slice(head * part, (head + 1) * part)
        for n, query in enumerate(queries):
            scores = [sum(query[features] * key[features]) / math.sqrt(part) for key in keys]
            weights = [math.exp(score + added) for score, added in zip(scores, bias[n], strict=True)]
            for weight, value in zip(weights, values, strict=True):
                result[n, features] += weight / sum(weights) * value[features]
    return result


def random_weights(module):
    """In place of the start, whose zero biases and unit scales would hide what is done with them."""
    torch.manual_seed(1)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter)
    return module.double(), {name: parameter.detach().numpy() for name, parameter in module.named_parameters()}


@pytest.mark.parametrize("heads", [1, 2, 4, 8])
@pytest.mark.parametrize("masked", [False, True])
def test_attend_equals_the_loop(heads, masked):
    rows = len(KEY_MASKS)
    query, key, value = randoms((rows, 5, 8), (rows, 4, 8), (rows, 4, 8))
    mask = key_mask()
    found = attend(query, key, value, mask if masked else None, heads)
    assert found.shape == (rows, 5, 8)
    for row in range(rows):
        counts = mask[row].numpy() if masked else np.full(4, True)
        expected = attended(query[row].numpy(), key[row].numpy()[counts], value[row].numpy()[counts], heads)
        np.testing.assert_allclose(found[row].numpy(), expected, atol=1e-12, err_msg=f"row {row}")


def keys_of_each_query():
    """(rows, 5, 4) bool: any, of the first query none, of the second one all, of the last row none at all."""
    mask = torch.rand(len(KEY_MASKS), 5, 4, generator=torch.Generator().manual_seed(1)) < 0.5
    mask[:, 0], mask[:, 1], mask[-1] = False, True, False
    return mask


@pytest.mark.parametrize("heads", [1, 4])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("masked", ["no", "keys", "each query"])
def test_attend_with_a_bias_and_with_keys_of_each_query(heads, biased, masked):
    """The bias is added to the scores of all heads after their division; a query without any key gets zeros."""
    rows = len(KEY_MASKS)
    query, key, value, bias = randoms((rows, 5, 8), (rows, 4, 8), (rows, 4, 8), (rows, 5, 4))
    mask = {"no": None, "keys": key_mask(), "each query": keys_of_each_query()}[masked]
    found = attend(query, key, value, mask, heads, bias=bias if biased else None)
    counts = torch.ones(rows, 5, 4) if mask is None else mask if mask.dim() == 3 else mask[:, None].expand(rows, 5, 4)
    for row in range(rows):
        for n in range(5):
            there = counts[row, n].bool().numpy()
            added = bias[row, n : n + 1].numpy()[:, there] if biased else None
            keys, values = key[row].numpy()[there], value[row].numpy()[there]
            expected = attended(query[row, n : n + 1].numpy(), keys, values, heads, added)
            np.testing.assert_allclose(found[row, n].numpy(), expected[0], atol=1e-12, err_msg=f"row {row}, {n}")


@pytest.mark.parametrize("biased", [False, True])
def test_queries_without_a_key_of_their_own_have_no_gradient(biased):
    mask = keys_of_each_query()
    tensors = randoms(*[(len(KEY_MASKS), n, 8) for n in (5, 4, 4)], (len(KEY_MASKS), 5, 4))
    for tensor in tensors:
        tensor.requires_grad_()
    query, key, value, bias = tensors
    attend(query, key, value, mask, 2, bias=bias if biased else None).square().sum().backward()
    for tensor in (query, key, value):
        assert torch.isfinite(tensor.grad).all() and tensor.grad[:-1].any() and not tensor.grad[-1].any()
    assert not query.grad[:, 0].any()
    if biased:  # with a single key, a query has weight 1 there, whatever the bias
        assert not bias.grad[~mask].any()
        assert bias.grad[mask & (mask.sum(dim=2, keepdim=True) > 1)].all()


def test_bias_may_be_more_precise_than_the_query():
    """As under autocast, where projections are in half precision and what is computed beside them may not be."""
    query, key, value, bias = randoms((2, 5, 8), (2, 4, 8), (2, 4, 8), (2, 5, 4), dtype=torch.float32)
    expected = attend(query, key, value, bias=bias)
    found = attend(query.bfloat16(), key.bfloat16(), value.bfloat16(), bias=bias)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), expected, atol=0.05, rtol=0.05)


def test_attend_has_one_head_unless_told():
    query, key, value = randoms((1, 3, 8), (1, 4, 8), (1, 4, 8))
    assert torch.equal(attend(query, key, value), attend(query, key, value, heads=1))
    assert not torch.allclose(attend(query, key, value), attend(query, key, value, heads=2))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_nothing_to_attend_to_gives_zeros_and_no_gradient(dtype):
    tensors = randoms(*[(len(KEY_MASKS), 4, 8)] * 3, dtype=dtype)
    for tensor in tensors:
        tensor.requires_grad_()
    found = attend(*tensors, key_mask(), heads=2)
    assert torch.equal(found[-1], torch.zeros(4, 8, dtype=dtype)) and found[:-1].all()
    found.square().sum().backward()
    for tensor in tensors:
        assert torch.isfinite(tensor.grad).all() and not tensor.grad[-1].any()
    _, key, value = tensors
    for gradient in (key.grad, value.grad):  # nor do the keys that do not count have one; with one key, none has
        assert not gradient[~key_mask()].any()
    assert value.grad[key_mask()].all() and key.grad[:4][key_mask()[:4]].all()


def test_dropout_is_on_the_weights_of_each_head():
    """With a single key every weight is 1: dropped it gives zeros, kept twice the value, per query and head."""
    query, key, value = randoms((3, 50, 4), (3, 1, 4), (3, 1, 4))
    mask = torch.tensor([[True], [True], [False]])
    torch.testing.assert_close(attend(query, key, value, mask, 2)[:2], value[:2].expand(2, 50, 4))
    torch.manual_seed(0)
    found = attend(query, key, value, mask, 2, dropout=0.5) / value
    assert not found[2].any()
    by_head = found[:2].unflatten(-1, (2, 2))
    torch.testing.assert_close(by_head[..., 0], by_head[..., 1])  # one weight for the features of a head
    assert set(by_head.round(decimals=9).unique().tolist()) == {0.0, 2.0}
    assert 0.3 < (by_head > 0).double().mean() < 0.7
    assert not torch.equal(by_head[:, :, 0], by_head[:, :, 1])  # and another one for the other head


@pytest.mark.parametrize("heads", [1, 3])
@pytest.mark.parametrize("context_size", [None, 5])
def test_multi_head_attention_equals_the_loop(heads, context_size):
    rows, width = len(KEY_MASKS), context_size or 6
    module, weights = random_weights(MultiHeadAttention(6, heads, dropout=0.9, context_size=context_size))
    queries, context = randoms((rows, 5, 6), (rows, 4, width))
    found = module.eval()(queries, context, key_mask()).detach().numpy()

    def project(name, steps):
        return np.array([weights[f"{name}.weight"] @ step + weights[f"{name}.bias"] for step in steps]).reshape(-1, 6)

    for row in range(rows):
        keys = context[row].numpy()[key_mask()[row].numpy()]
        heard = attended(project("query", queries[row].numpy()), project("key", keys), project("value", keys), heads)
        np.testing.assert_allclose(found[row], project("output", heard), atol=1e-10)


def test_multi_head_attention_drops_weights_in_training_only():
    module, weights = random_weights(MultiHeadAttention(4, 2, dropout=0.5))
    queries, context = randoms((1, 50, 4), (1, 1, 4))
    mask = torch.ones(1, 1, dtype=torch.bool)
    assert torch.equal(module.eval()(queries, context, mask), module(queries, context, mask))
    torch.manual_seed(0)
    found = module.train()(queries, context, mask)[0].detach().numpy()
    value = weights["value.weight"] @ context[0, 0].numpy() + weights["value.bias"]
    both = [np.array([first, first, second, second]) * value for first in (0, 2) for second in (0, 2)]
    outcomes = [weights["output.weight"] @ heard + weights["output.bias"] for heard in both]
    nearest = [min(range(4), key=lambda i: abs(outcomes[i] - step).max()) for step in found]
    assert set(nearest) == {0, 1, 2, 3}  # each head's weight on its own
    np.testing.assert_allclose(found, [outcomes[i] for i in nearest], atol=1e-10)


def inner_units(weights, x):
    """ReLU(W1 LayerNorm(x)), feature by feature."""
    mean = sum(x) / len(x)
    variance = sum((x - mean) ** 2) / len(x)
    normed = weights["norm.weight"] * (x - mean) / math.sqrt(variance + 1e-5) + weights["norm.bias"]
    return np.maximum(weights["inner.weight"] @ normed + weights["inner.bias"], 0)


def test_feed_forward_equals_the_formula():
    module, weights = random_weights(FeedForward(5, 0.9, 0.9))
    assert weights["inner.weight"].shape == (20, 5)
    (values,) = randoms((2, 3, 5))
    found = module.eval()(values).detach().numpy()
    for row in range(2):
        for step in range(3):
            x = values[row, step].numpy()
            expected = x + weights["outer.weight"] @ inner_units(weights, x) + weights["outer.bias"]
            np.testing.assert_allclose(found[row, step], expected, atol=1e-10)


@pytest.mark.parametrize("relu_dropout, residual_dropout", [(0.5, 0.0), (0.0, 0.5)])
def test_dropouts_of_the_feed_forward_layer(relu_dropout, residual_dropout):
    """The second layer lets the first four inner units through and adds 10: only the residual's dropout takes this."""
    module, weights = random_weights(FeedForward(4, relu_dropout, residual_dropout))
    with torch.no_grad():
        module.outer.weight.copy_(torch.eye(4, 16))
        module.outer.bias.fill_(10.0)
    (values,) = randoms((1, 60, 4))
    torch.manual_seed(0)
    added = (module.train()(values) - values)[0].detach().numpy()
    inner = np.array([inner_units(weights, x)[:4] for x in values[0].numpy()])
    assert (inner > 0).any()
    kept, dropped = (2 * inner + 10, 10 + 0 * inner) if relu_dropout else (2 * (inner + 10), 0 * inner)
    is_kept, is_dropped = np.isclose(added, kept), np.isclose(added, dropped)
    assert (is_kept | is_dropped).all() and is_kept[inner > 0].any() and is_dropped[inner > 0].any()


def test_residual_layer_equals_the_formula():
    module, weights = random_weights(ResidualLayer(5, 0.9))
    (values,) = randoms((4, 5))
    found = module.eval()(values).detach().numpy()
    for x, state in zip(values.numpy(), found, strict=True):
        inner = np.maximum(weights["inner.weight"] @ x + weights["inner.bias"], 0)
        expected = x + weights["outer.weight"] @ inner + weights["outer.bias"]
        np.testing.assert_allclose(state, expected, atol=1e-12)


def test_dropout_of_the_residual_layer_is_between_its_maps():
    """With probability one it leaves the second map's bias; what comes in goes past it."""
    module, weights = random_weights(ResidualLayer(5, 1.0))
    (values,) = randoms((4, 5))
    found = module.train()(values).detach().numpy()
    np.testing.assert_allclose(found, values.numpy() + weights["outer.bias"], atol=1e-12)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7, 8])
@pytest.mark.parametrize("scale", [1.0, 2.5])
def test_positions_equal_the_loop(size, scale):
    steps, half = 40, size // 2
    (values,) = randoms((2, steps, size), dtype=torch.float32)
    values[0, 3] = 0.0  # no padding, whatever the codes of MulT and SPT take it for
    found = with_positions(values, scale)
    for step in range(steps):
        expected = scale * values[:, step].double().numpy()
        for channel in range(half):
            frequency = 10_000 ** (-channel / (half - 1)) if half > 1 else 1.0
            expected[:, channel] += math.sin((step + 1) * frequency)
            expected[:, half + channel] += math.cos((step + 1) * frequency)
        np.testing.assert_allclose(found[:, step].numpy(), expected, atol=1e-5, err_msg=f"step {step}")


def test_positions_keep_the_dtype():
    """Computed in single precision: bfloat16 knows no odd number above 256."""
    values = torch.zeros(1, 600, 8, dtype=torch.bfloat16)
    found = with_positions(values, 1.0)
    assert found.dtype == torch.bfloat16
    expected = [[math.sin((step + 1) * 10_000 ** (-channel / 3)) for channel in range(4)] for step in range(600)]
    np.testing.assert_allclose(found[0, :, :4].float().numpy(), expected, atol=5e-3)


@pytest.mark.parametrize("inputs, outputs", [(50, 150), (150, 50)])
def test_xavier_linear_starts_uniform_with_zero_bias(inputs, outputs):
    torch.manual_seed(0)
    bound = math.sqrt(6 / (inputs + outputs))
    for layer in (XavierLinear(inputs, outputs), XavierLinear(inputs, outputs, bias=False)):
        weights = layer.weight.detach().numpy()
        assert 0.99 * bound < weights.max() <= bound and -bound <= weights.min() < -0.99 * bound
        assert weights.var() == pytest.approx(bound**2 / 3, rel=0.05)  # that of a uniform distribution
        assert layer.bias is None or not layer.bias.any()


def test_attention_layers_start_as_xavier_linears():
    for module in (MultiHeadAttention(4, 2, 0.0, context_size=3), FeedForward(4, 0.0, 0.0)):
        linears = [child for child in module.children() if isinstance(child, torch.nn.Linear)]
        assert linears and all(isinstance(child, XavierLinear) and child.bias is not None for child in linears)
