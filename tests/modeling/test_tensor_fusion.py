"""The outer product, entry by entry, and the low-rank map of it against the map with all its weights."""

import itertools
import math

import numpy as np
import pytest
import torch

import modeling.tensor_fusion
from modeling.tensor_fusion import LowRankFusion, outer_product, outer_product_linear

WIDTHS = {"text": 2, "audio": 4, "vision": 3}
SUBSETS = [("text",), ("audio", "vision"), ("text", "audio", "vision")]
SUBSET = pytest.mark.parametrize("modalities", SUBSETS, ids="+".join)


def make_states(modalities, rows=3):
    random = np.random.default_rng(0)
    return {modality: random.normal(size=(rows, WIDTHS[modality])) for modality in modalities}


def tensors_of(states):
    return {modality: torch.from_numpy(state) for modality, state in states.items()}


def expected_product(states, row):
    factors = [[1.0, *state[row]] for state in states.values()]
    return [math.prod(entries) for entries in itertools.product(*factors)]


@SUBSET
def test_outer_product_has_every_product(modalities):
    states = make_states(modalities)
    found = outer_product(tensors_of(states))
    assert found.shape == (3, math.prod(WIDTHS[modality] + 1 for modality in modalities))
    np.testing.assert_allclose(found.numpy(), [expected_product(states, row) for row in range(3)], atol=1e-12)


def test_outer_product_without_a_modality_is_that_of_the_others():
    states = make_states(WIDTHS)
    states["audio"][1] = 0.0
    found = outer_product(tensors_of(states)).unflatten(1, (3, 5, 4))[1]
    others = {modality: state for modality, state in tensors_of(states).items() if modality != "audio"}
    torch.testing.assert_close(found[:, 0].flatten(), outer_product(others)[1])
    assert not found[:, 1:].any()


def test_outer_product_of_nothing_is_refused():
    with pytest.raises(ValueError, match="`states` must have a modality"):
        outer_product({})


@SUBSET
@pytest.mark.parametrize("rank", [1, 3])
@pytest.mark.parametrize("outputs", [1, 2])
def test_low_rank_map_equals_that_of_the_whole_tensor(modalities, rank, outputs):
    """Its weights, W[o, j] = sum_i w_i prod_m W_m^(i)[j_m, o], are made here and applied to the outer product."""
    torch.manual_seed(0)
    fusion = LowRankFusion({modality: WIDTHS[modality] for modality in modalities}, outputs, rank).double()
    torch.nn.init.normal_(fusion.bias)
    states = make_states(modalities)
    with torch.no_grad():
        found = fusion(tensors_of(states))
    factors = [fusion.factors[modality].detach().numpy() for modality in modalities]
    weight, bias = fusion.weight.detach().numpy(), fusion.bias.detach().numpy()
    assert found.shape == (3, outputs)
    for row, output in itertools.product(range(3), range(outputs)):
        expected = bias[output]
        entries = itertools.product(*(range(WIDTHS[modality] + 1) for modality in modalities))
        for index, product in zip(entries, expected_product(states, row), strict=True):
            for i in range(rank):
                whole = math.prod(factor[i, at, output] for factor, at in zip(factors, index, strict=True))
                expected += weight[0, i] * whole * product
        assert found[row, output].item() == pytest.approx(expected, abs=1e-10)


def test_low_rank_map_starts_with_xaviers_normal_weights():
    torch.manual_seed(0)
    fusion = LowRankFusion({"text": 399, "audio": 15}, 5, 40)
    assert fusion.factors["text"].std().item() == pytest.approx(math.sqrt(2 / (400 + 5)), rel=0.02)
    assert fusion.factors["audio"].std().item() == pytest.approx(math.sqrt(2 / (16 + 5)), rel=0.05)
    assert fusion.weight.std().item() == pytest.approx(math.sqrt(2 / (1 + 40)), rel=0.3)
    assert fusion.bias.shape == (5,) and not fusion.bias.any()


@SUBSET
@pytest.mark.parametrize("p", [0.0, 0.25])
@pytest.mark.parametrize("cached", [1, 40, 2**18], ids=["an entry at a time", "some", "all at once"])
def test_linear_map_of_the_dropped_product(modalities, p, cached, monkeypatch):
    """Which entries are dropped is read off a map that gives them all; the rest is the formula."""
    monkeypatch.setattr(modeling.tensor_fusion, "CACHED", cached)
    states = tensors_of(make_states(modalities))
    product = outer_product(states)
    size = product.shape[1]
    torch.manual_seed(1)
    everything = outer_product_linear(states, torch.eye(size).double(), torch.zeros(size).double(), p)
    kept = everything != 0
    torch.testing.assert_close(everything, product * kept / (1 - p), rtol=0, atol=1e-12)
    assert kept.all() if p == 0 else not kept.all()
    weight, bias = torch.randn(2, size).double(), torch.randn(2).double()
    weighting = torch.randn(3, 2).double()
    found = []
    for compute in (
        lambda given, *layer: outer_product_linear(given, *layer, p),
        lambda given, *layer: torch.nn.functional.linear(outer_product(given) * kept / (1 - p), *layer),
    ):
        leaves = {modality: state.clone().requires_grad_() for modality, state in states.items()}
        layer = [tensor.clone().requires_grad_() for tensor in (weight, bias)]
        torch.manual_seed(1)
        result = compute(leaves, *layer)
        (result * weighting).sum().backward()
        found.append([result, *(leaf.grad for leaf in (*leaves.values(), *layer))])
    for ours, expected in zip(*found, strict=True):
        torch.testing.assert_close(ours, expected, rtol=0, atol=1e-12)
