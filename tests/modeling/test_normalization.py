"""Batch normalisation of the samples that have a modality, against PyTorch's own on those samples alone."""

import copy

import pytest
import torch
from torch import nn

from modeling.normalization import PresentBatchNorm

PRESENT = torch.tensor([True, False, True, True, False])


def scrambled_pair():
    """Ours and PyTorch's with the same weights and running statistics, none of them what they start from."""
    torch.manual_seed(0)
    module, reference = PresentBatchNorm(3).double(), nn.BatchNorm1d(3).double()
    with torch.no_grad():
        for own, theirs in zip(tensors(module), tensors(reference), strict=True):
            own.copy_(torch.rand_like(own) + 0.5)
            theirs.copy_(own)
    return module, reference


def tensors(module):
    variance = module.running_variance if isinstance(module, PresentBatchNorm) else module.running_var
    return module.weight, module.bias, module.running_mean, variance


def values_of(rows, seed=0):
    return torch.randn(rows, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * 3 + 1


@pytest.mark.parametrize("present", [PRESENT, torch.ones(5, dtype=torch.bool)], ids=["some", "all"])
def test_training_is_pytorchs_on_the_samples_that_have_it(present):
    module, reference = scrambled_pair()
    for seed in range(3):
        values = values_of(5, seed)
        values[~present] = 100.0
        own, theirs = values.clone().requires_grad_(), values[present].clone().requires_grad_()
        found, expected = module(own, present), reference(theirs)
        torch.testing.assert_close(found[present], expected)
        weights = values_of(5, 9)
        (found * weights * present.unsqueeze(1)).sum().backward()
        (expected * weights[present]).sum().backward()
        torch.testing.assert_close(own.grad[present], theirs.grad)
        assert not own.grad[~present].any()
    for ours, other in zip(tensors(module), tensors(reference), strict=True):
        torch.testing.assert_close(ours, other)
    torch.testing.assert_close([module.weight.grad, module.bias.grad], [reference.weight.grad, reference.bias.grad])


def test_evaluation_is_pytorchs_and_changes_nothing():
    module, reference = scrambled_pair()
    before = copy.deepcopy(module.state_dict())
    torch.testing.assert_close(module.eval()(values_of(5), PRESENT), reference.eval()(values_of(5)))
    torch.testing.assert_close(module.state_dict(), before, atol=0, rtol=0)


@pytest.mark.parametrize("number", [0, 1])
def test_fewer_than_two_samples_are_normalised_by_the_running_statistics_which_stay(number):
    module, reference = scrambled_pair()
    before, values = copy.deepcopy(module.state_dict()), values_of(4).requires_grad_()
    found = module(values, torch.arange(4) < number)
    torch.testing.assert_close(found, reference.eval()(values))
    torch.testing.assert_close(module.state_dict(), before, atol=0, rtol=0)
    found.sum().backward()
    assert all(torch.isfinite(tensor.grad).all() for tensor in (values, module.weight, module.bias))


def test_half_precision_counts_in_float32():
    """A mean far from zero leaves bfloat16 nothing of the variance."""
    module = PresentBatchNorm(1).to(torch.bfloat16)
    values = torch.tensor([[1000.0], [1008.0], [1016.0], [1024.0]], dtype=torch.bfloat16)
    found = module(values, torch.ones(4, dtype=torch.bool))
    expected = nn.BatchNorm1d(1)(values.float())
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), expected, atol=0.02, rtol=0)


def test_starts_as_pytorchs():
    for own, theirs in zip(tensors(PresentBatchNorm(4)), tensors(nn.BatchNorm1d(4)), strict=True):
        assert torch.equal(own, theirs)
