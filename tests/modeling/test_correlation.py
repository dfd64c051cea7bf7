"""The total correlation of two views against scikit-learn and the textbook, and its gradient where that is hard."""

import numpy as np
import pytest
import torch
from torch import nn

from modeling.correlation import total_correlation


def correlation(first, second, regularization):
    """Of all samples."""
    return total_correlation(first, second, torch.ones(len(first), dtype=torch.bool), regularization)


def views(samples=500, first=5, second=4, shared=2, noise=1.0, seed=0):
    """Two views of the same hidden signals, with means of their own."""
    random = np.random.default_rng(seed)
    hidden = random.normal(size=(samples, shared))
    return [
        torch.from_numpy(
            hidden @ random.normal(size=(shared, size)) + noise * random.normal(size=(samples, size)) + number
        )
        for number, size in enumerate((first, second), start=1)
    ]


def canonical_correlations(first, second, regularization=0.0):
    """Singular values of S11^(-1/2) S12 S22^(-1/2), by eigendecomposition, as in the paper on deep CCA."""
    views = [np.asarray(view) - np.asarray(view).mean(axis=0) for view in (first, second)]
    roots = []
    for view in views:
        covariance = view.T @ view / (len(view) - 1) + regularization * np.eye(view.shape[1])
        values, vectors = np.linalg.eigh(covariance)
        roots.append(vectors @ np.diag(values**-0.5) @ vectors.T)
    shared = views[0].T @ views[1] / (len(views[0]) - 1)
    return np.linalg.svd(roots[0] @ shared @ roots[1], compute_uv=False)


def assert_finite_gradients(*tensors):
    for tensor in tensors:
        assert tensor.grad.shape == tensor.shape and torch.isfinite(tensor.grad).all()


def test_total_correlation_is_that_of_scikit_learn():
    """Of the scores that its linear CCA finds, component by component."""
    cross_decomposition = pytest.importorskip("sklearn.cross_decomposition")
    first, second = views()
    model = cross_decomposition.CCA(n_components=4, max_iter=10_000, tol=1e-12)
    scores = model.fit_transform(first.numpy(), second.numpy())
    expected = sum(np.corrcoef(x, y)[0, 1] for x, y in zip(*(score.T for score in scores), strict=True))
    assert 0.5 < expected < 3.5
    assert correlation(first, second, 1e-12).item() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("first, second", [(5, 4), (2, 6), (1, 1), (3, 3)])
@pytest.mark.parametrize("regularization", [1e-8, 1e-3, 0.5])
def test_total_correlation_equals_the_textbook(first, second, regularization):
    one, other = views(60, first, second)
    expected = canonical_correlations(one, other, regularization).sum()
    found = correlation(one, other, regularization)
    assert found.shape == () and found.item() == pytest.approx(expected, abs=1e-9)
    assert 0 < found < min(first, second)
    assert correlation(other, one, regularization).item() == pytest.approx(expected, abs=1e-9)


def test_bounds():
    """Of the same view twice, all that there is; of views that have nothing to do with each other, little."""
    first, second = views(5000, shared=0)
    assert correlation(first, first, 1e-9).item() == pytest.approx(5, abs=1e-6)
    assert correlation(first, second, 1e-9).item() < 0.3


def test_linear_maps_and_shifts_change_nothing():
    first, second = views()
    random = torch.Generator().manual_seed(0)
    maps = [torch.randn(size, size, generator=random, dtype=torch.float64) + 2 * torch.eye(size) for size in (5, 4)]
    expected = correlation(first, second, 1e-12)
    found = correlation(first @ maps[0] + 10, 100 * (second @ maps[1]) - 3, 1e-12)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_regularization_makes_less_of_it():
    first, second = views(60)
    found = [correlation(first, second, r).item() for r in (1e-9, 1e-2, 1.0, 100.0)]
    assert found == sorted(found, reverse=True) and found[-1] < 0.5 * found[0]


def test_samples_that_do_not_count_are_left_out():
    """Whatever they hold; the gradient at them is exactly zero."""
    first, second = (view.requires_grad_() for view in views(40))
    counted = torch.rand(40, generator=torch.Generator().manual_seed(0)) < 0.6
    found = total_correlation(first, second, counted, 1e-3)
    alone = correlation(first[counted], second[counted], 1e-3)
    torch.testing.assert_close(found, alone, atol=1e-12, rtol=0)
    others = ~counted.unsqueeze(1)
    changed = total_correlation(first.masked_fill(others, 1e6), second.masked_fill(others, -7.0), counted, 1e-3)
    torch.testing.assert_close(changed, found, atol=1e-12, rtol=0)
    found.backward()
    for view in (first, second):
        assert not view.grad[~counted].any() and view.grad[counted].all()


@pytest.mark.parametrize("samples, counted", [(5, 0), (5, 1), (1, 1), (1, 0)])
def test_fewer_than_two_samples_have_no_correlation(samples, counted):
    first, second = (view.requires_grad_() for view in views(samples))
    found = total_correlation(first, second, torch.arange(samples) < counted, 1e-3)
    assert found.item() == 0
    found.backward()
    assert_finite_gradients(first, second)


@pytest.mark.parametrize("samples", [2, 3])
def test_fewer_samples_than_features(samples):
    """The covariances have no inverse of their own; n samples have at most n - 1 correlations, and these are all 1."""
    first, second = (view.requires_grad_() for view in views(samples, 16, 16))
    found = correlation(first, second, 1e-3)
    assert found.item() == pytest.approx(canonical_correlations(first.detach(), second.detach(), 1e-3).sum(), abs=1e-7)
    assert samples - 1.01 < found.item() < samples - 1
    found.backward()
    assert_finite_gradients(first, second)


@pytest.mark.parametrize("what", ["identical views", "repeated columns", "constant columns", "zeros"])
def test_repeated_singular_values_have_a_gradient(what):
    """An eigendecomposition would divide by their difference."""
    first, second = views(30, 4, 4)
    if what == "identical views":
        second = first.clone()
    elif what == "repeated columns":
        first, second = first[:, [0, 0, 1, 1]], second[:, [0, 0, 0, 0]]
    elif what == "constant columns":
        first, second = first[:, :1].expand(30, 4) * 0 + 3, second
    else:
        first, second = torch.zeros_like(first), torch.zeros_like(second)
    first, second = first.clone().requires_grad_(), second.clone().requires_grad_()
    found = correlation(first, second, 1e-4)
    assert found.item() == pytest.approx(canonical_correlations(first.detach(), second.detach(), 1e-4).sum(), abs=1e-7)
    found.backward()
    assert_finite_gradients(first, second)


def test_identical_views_of_equal_variances():
    """All singular values are the same number, v / (v + r) with v the variance."""
    signs = torch.tensor([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], dtype=torch.float64)
    first, second = signs.clone().requires_grad_(), signs.clone().requires_grad_()
    found = correlation(first, second, 0.1)
    assert found.item() == pytest.approx(3 * (4 / 3) / (4 / 3 + 0.1), abs=1e-12)
    found.backward()
    assert_finite_gradients(first, second)


@pytest.mark.parametrize("first, second", [(3, 2), (2, 3), (2, 2)])
def test_gradient_is_that_of_differences(first, second):
    one, other = (view.requires_grad_() for view in views(8, first, second))
    counted = torch.tensor([True] * 6 + [False, True])
    assert torch.autograd.gradcheck(lambda x, y: total_correlation(x, y, counted, 1e-2), (one, other))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_precision_of_the_inputs_and_of_the_gradients(dtype):
    """Computed in double precision, of encodings far from zero too."""
    first, second = ((view + 100).to(dtype).requires_grad_() for view in views(60))
    found = correlation(first, second, 1e-3)
    assert found.dtype == torch.float64
    expected = canonical_correlations(*(view.detach().double() for view in (first, second)), 1e-3).sum()
    assert found.item() == pytest.approx(expected, abs=1e-9)
    found.backward()
    assert first.grad.dtype == second.grad.dtype == dtype
    assert_finite_gradients(first, second)


def test_linear_encoders_learn_the_two_largest_correlations():
    """What CCA with two components finds is the best that there is, and a few hundred steps reach it."""
    first, second = views(500, 6, 5, shared=3)
    best = canonical_correlations(first, second)[:2].sum()
    torch.manual_seed(0)
    encoders = nn.ModuleList([nn.Linear(6, 2), nn.Linear(5, 2)]).double()
    optimizer = torch.optim.Adam(encoders.parameters(), lr=0.02)
    found = []
    for _ in range(400):
        optimizer.zero_grad()
        loss = -correlation(encoders[0](first), encoders[1](second), 1e-6)
        loss.backward()
        optimizer.step()
        found.append(-loss.item())
    assert found[0] < best - 0.1 and max(found) < best + 1e-4
    assert found[-1] == pytest.approx(best, abs=1e-2)
