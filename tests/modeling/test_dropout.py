"""Dropout by random bits: how often it drops, what is left, its gradient, and where PyTorch's own stays."""

import pytest
import torch
from torch import nn

from modeling.dropout import Dropout, dropout


@pytest.mark.parametrize("p", [0.1, 0.4, 0.75])
def test_drops_with_its_probability_and_scales_what_is_left(p):
    torch.manual_seed(0)
    values = torch.rand(300, 1001) + 1.0
    found = dropout(values, p)
    kept = found != 0
    assert kept.float().mean().item() == pytest.approx(1 - p, abs=0.005)  # seven standard deviations
    torch.testing.assert_close(found[kept], values[kept] / (1 - p), rtol=1e-4, atol=0)
    # Neither rows nor columns, nor neighbours, are dropped together.
    for mean in (kept.float().mean(dim=0), kept.float().mean(dim=1)):
        assert mean.min() > 1 - p - 0.2 and mean.max() < 1 - p + 0.2
    together = (kept[:, 1:] & kept[:, :-1]).float().mean().item()
    assert together == pytest.approx((1 - p) ** 2, abs=0.01)


def test_mean_is_kept_by_a_probability_that_is_rounded():
    """3e-5 is two parts of 65,536, not 1.97: what is left is scaled by the rounded one."""
    torch.manual_seed(0)
    found = dropout(torch.ones(2_000_000, dtype=torch.float64), 3e-5)
    kept = found[found != 0]
    assert 20 < len(found) - len(kept) < 120
    assert kept[0].item() == pytest.approx(65536 / 65534, abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_gradient_passes_where_values_did(dtype):
    torch.manual_seed(0)
    values = torch.ones(64, 33, dtype=dtype, requires_grad=True)
    found = dropout(values, 0.3)
    assert found.dtype == dtype
    weights = torch.randn(64, 33, dtype=dtype)
    (found * weights).sum().backward()
    expected = torch.where(found != 0, weights * found, 0.0)
    torch.testing.assert_close(values.grad, expected)
    assert (found == 0).any()


def test_module_does_nothing_in_evaluation_and_repeats_with_a_seed():
    layer, values = Dropout(0.5), torch.rand(5, 7)
    assert layer.eval()(values) is values
    layer.train()
    answers = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        answers.append(layer(values))
    assert torch.equal(answers[0], answers[1]) and not torch.equal(answers[0], answers[2])
    assert dropout(values, 0.0) is values


@pytest.mark.parametrize("p", [1.0, 1 - 1e-9])
def test_nothing_is_left_of_a_probability_of_one(p):
    assert not dropout(torch.ones(100), p).any()


def test_a_compiled_network_has_the_library_s_dropout():
    """Random bits of a fixed draw would be the same in every step of a compiled graph."""
    drawn = []

    def step(values):
        return dropout(values, 0.5)

    compiled = torch.compile(step, backend="eager")
    for _ in range(3):
        drawn.append(compiled(torch.ones(1000)))
    assert not torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[1], drawn[2])
    torch.manual_seed(3)
    found = compiled(torch.ones(1000))
    torch.manual_seed(3)
    assert torch.equal(found, nn.functional.dropout(torch.ones(1000), 0.5))
