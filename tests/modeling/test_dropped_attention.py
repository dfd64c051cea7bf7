"""Attention with dropout against its formula, with the weights that were dropped read off a first pass."""

import math

import pytest
import torch

import modeling.dropped_attention
from modeling.dropped_attention import dropped_attention

SHAPE = (3, 2, 5, 7)  # samples, heads, queries, keys
MASKS = pytest.mark.parametrize("kind", ["none", "keys", "each", "added"])
PARTS = pytest.mark.parametrize(
    "cached", [1, 14, 40, 80, 2**17], ids=["a query at a time", "queries", "a head", "some", "all at once"]
)


def make(kind, dtype=torch.float64):
    torch.manual_seed(0)
    samples, heads, queries, keys = SHAPE
    tensors = [torch.randn(samples, heads, steps, 4, dtype=dtype) for steps in (queries, keys, keys)]
    if kind == "none":
        return tensors, None
    if kind == "keys":
        return tensors, (torch.arange(keys) < torch.tensor([7, 3, 1])[:, None])[:, None, None]
    if kind == "each":
        mask = torch.rand(samples, 1, queries, keys) < 0.6
        return tensors, mask | (torch.arange(keys) == 0)
    return tensors, torch.randn(samples, 1, queries, keys, dtype=dtype)


def plain(query, key, value, mask, kept, p):
    scores = query @ key.transpose(2, 3) / math.sqrt(query.shape[-1])
    if mask is not None and mask.dtype == torch.bool:
        scores = scores.masked_fill(~mask, -math.inf)
    elif mask is not None:
        scores = scores + mask
    return (scores.softmax(dim=-1) * kept / (1 - p)) @ value


def kept_weights(tensors, mask, p):
    """Which weights a pass with the seed 1 keeps: with one key per value, its result is the weights themselves."""
    query, key, _ = tensors
    torch.manual_seed(1)
    found = dropped_attention(query, key, torch.eye(SHAPE[3], dtype=query.dtype).expand(*SHAPE[:2], -1, -1), mask, p)
    return found != 0


@MASKS
@PARTS
def test_results_and_gradients_are_those_of_the_formula(kind, cached, monkeypatch):
    monkeypatch.setattr(modeling.dropped_attention, "CACHED", cached)
    tensors, mask = make(kind)
    p = 0.25  # a multiple of 2^-16
    kept = kept_weights(tensors, mask, p)
    weights = torch.randn(*SHAPE[:3], 4, dtype=torch.float64)
    found = []
    for compute in (lambda *given: dropped_attention(*given, p), lambda *given: plain(*given, kept, p)):
        leaves = [tensor.clone().requires_grad_() for tensor in tensors]
        added = mask.clone().requires_grad_() if kind == "added" else mask
        torch.manual_seed(1)
        result = compute(*leaves, added)
        (result * weights).sum().backward()
        found.append([result, *(leaf.grad for leaf in leaves), *([added.grad] if kind == "added" else [])])
    for ours, expected in zip(*found, strict=True):
        torch.testing.assert_close(ours, expected, rtol=0, atol=1e-12)
    counted = torch.ones(SHAPE, dtype=torch.bool) if mask is None or kind == "added" else mask.expand(SHAPE)
    assert not kept[~counted].any() and 0.5 < kept[counted].double().mean() < 0.95


def test_half_precision_keeps_its_type():
    tensors, mask = make("keys", torch.bfloat16)
    leaves = [tensor.requires_grad_() for tensor in tensors]
    found = dropped_attention(*leaves, mask, 0.25)
    found.sum().backward()
    assert found.dtype == torch.bfloat16 and found.isfinite().all()
    assert all(leaf.grad.dtype == torch.bfloat16 and leaf.grad.isfinite().all() for leaf in leaves)


@MASKS
def test_under_autocast(kind):
    tensors, mask = make(kind, torch.float32)
    leaves = [*tensors, mask] if kind == "added" else tensors
    leaves = [tensor.requires_grad_() for tensor in leaves]
    with torch.autocast("cpu", torch.bfloat16):
        half = [leaf.bfloat16() for leaf in leaves]
        found = dropped_attention(*half[:3], half[3] if kind == "added" else mask, 0.25)
        loss = (found.float() * torch.randn(found.shape)).sum()
    loss.backward()
    assert all(leaf.grad is not None and leaf.grad.isfinite().all() and leaf.grad.any() for leaf in leaves)
