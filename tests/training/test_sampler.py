"""The training sampler: an order that seed and epoch decide, with less padding where lengths are known."""

import random

import numpy as np
import pytest
import torch

from training.sampler import BucketSampler

SAMPLES, BATCH = 203, 8
LENGTHS = np.random.default_rng(0).integers(3, 60, size=SAMPLES)


def order(sampler, epoch=0):
    sampler.set_epoch(epoch)
    return list(sampler)


def make(lengths=LENGTHS, samples=SAMPLES, seed=5, batch_size=BATCH, group_batches=10):
    return BucketSampler(samples, seed, lengths, batch_size, group_batches)


def batches(indices, size=BATCH):
    return [indices[start : start + size] for start in range(0, len(indices), size)]


def padding(indices, lengths=LENGTHS):
    """Steps that are padding when every batch is padded to its longest."""
    return sum(int((lengths[batch].max() - lengths[batch]).sum()) for batch in batches(indices))


@pytest.mark.parametrize("samples", [1, 7, 8, 9, 80, 81, 160, 203])
@pytest.mark.parametrize("lengths", [True, False])
@pytest.mark.parametrize("group_batches", [1, 10, 50])
def test_every_sample_comes_once(samples, lengths, group_batches):
    sampler = make(LENGTHS[:samples] if lengths else None, samples, group_batches=group_batches)
    assert len(sampler) == samples
    for epoch in (0, 1, 7):
        indices = order(sampler, epoch)
        assert sorted(indices) == list(range(samples))
        assert all(type(index) is int for index in indices)


@pytest.mark.parametrize("lengths", [LENGTHS, None], ids=["lengths", "no lengths"])
def test_seed_and_epoch_decide(lengths):
    first = order(make(lengths), 3)
    assert order(make(lengths), 3) == first
    sampler = make(lengths)
    assert [order(sampler, epoch) for epoch in (0, 3, 1, 3)][1::2] == [first, first]  # not how often it was asked
    others = [order(make(lengths), epoch) for epoch in (0, 1, 2, 4)] + [order(make(lengths, seed=6), 3)]
    assert all(other != first for other in others)
    assert len({tuple(other) for other in others}) == 5
    # Seed 5 in epoch 3 is not seed 3 in epoch 5.
    assert order(make(lengths, seed=3), 5) != first


@pytest.mark.parametrize("lengths", [LENGTHS, None], ids=["lengths", "no lengths"])
def test_global_random_state_is_neither_used_nor_changed(lengths):
    first = order(make(lengths))
    torch.manual_seed(1)
    np.random.seed(1)
    random.seed(1)
    states = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    assert order(make(lengths)) == first
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.random.get_state()[1].tolist() == states[1] and random.getstate() == states[2]


def test_new_epoch_shows_from_the_next_pass_on():
    sampler = make()
    passing = iter(sampler)
    head = [next(passing) for _ in range(10)]
    sampler.set_epoch(1)
    assert head + list(passing) == order(make(), 0)
    assert list(sampler) == order(make(), 1)


def test_less_padding_than_a_random_order():
    bucketed = [padding(order(make(), epoch)) for epoch in range(5)]
    shuffled = [padding(order(make(None), epoch)) for epoch in range(5)]
    assert max(bucketed) < 0.35 * min(shuffled)


def test_groups_are_random():
    """Neighbours in length do not always meet: with groups of 10 batches, only those that fall into the same group."""
    pairs = []
    for epoch in (0, 1):
        cut = batches(order(make(), epoch))
        pairs.append({frozenset(pair) for batch in cut for pair in zip(batch, batch[1:], strict=False)})
    assert len(pairs[0] & pairs[1]) < 0.3 * len(pairs[0])


def test_batches_come_in_random_order_of_length():
    trends = []
    for epoch in range(40):
        means = [LENGTHS[batch].mean() for batch in batches(order(make(group_batches=1000), epoch))[:-1]]
        trends.append(np.corrcoef(means, np.arange(len(means)))[0, 1])
    assert abs(np.mean(trends)) < 0.1 and np.abs(trends).max() < 0.8


@pytest.mark.parametrize("samples", [3, 8, 78, 79, 81, 85, 161, 203])
@pytest.mark.parametrize("group_batches", [1, 2, 10])
def test_only_the_last_batch_is_short_and_none_is_torn(samples, group_batches):
    """Batches of consecutive indices are those that were made: each lies within one sorted group."""
    lengths = np.arange(samples)
    indices = order(make(lengths, samples, group_batches=group_batches), 2)
    cut = batches(indices)
    assert [len(batch) for batch in cut[:-1]] == [BATCH] * (len(cut) - 1)
    assert len(cut[-1]) == samples % BATCH or samples % BATCH == 0
    for batch in cut:
        assert batch == sorted(batch)


def test_lengths_may_be_a_list():
    assert order(make(LENGTHS.tolist())) == order(make(LENGTHS))
