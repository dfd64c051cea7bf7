"""Modality dropout: how often what is hidden, and what never is."""

import math
from itertools import product

import pytest
import torch

from training.modality_dropout import drop_modalities
from training.trainer import MASKS

SAMPLES = 40_000


def make_inputs(there, steps=3, seed=0):
    """Masks of samples (N, 3) that have, or lack, text, audio and vision, of differing lengths; and other inputs."""
    random = torch.Generator().manual_seed(seed)
    inputs = {}
    for index, name in enumerate(MASKS.values()):
        lengths = torch.randint(1, steps + 1, (len(there), 1), generator=random) * there[:, index : index + 1]
        inputs[name] = (torch.arange(steps) < lengths).long()
    return {**inputs, "audio_values": torch.ones(len(there), steps, 2), "labels": torch.zeros(len(there))}


def visible(inputs):
    return torch.stack([inputs[name].any(dim=1) for name in MASKS.values()], dim=1)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("there", [(1, 1, 1), (1, 0, 1), (0, 1, 1)], ids=str)
def test_how_often_which_modalities_are_left(there, share):
    """Each is hidden on its own; of what would lack everything, one that it has is left, each as likely."""
    had = [index for index, has in enumerate(there) if has]
    torch.manual_seed(1)
    found = visible(drop_modalities(make_inputs(torch.tensor([there] * SAMPLES)), MASKS, share)).tolist()
    for left in product((False, True), repeat=3):
        expected = 0.0
        if any(left) and all(index in had for index in range(3) if left[index]):
            expected = math.prod(1 - share if left[index] else share for index in had)
            if sum(left) == 1:
                expected += share ** len(had) / len(had)
        counted = sum(tuple(row) == left for row in found) / SAMPLES
        # Four standard deviations; what cannot be does not occur.
        assert abs(counted - expected) <= 4 * math.sqrt(expected * (1 - expected) / SAMPLES), left


@pytest.mark.parametrize("share", [0.3, 0.999])
def test_nothing_appears_and_nobody_loses_everything(share):
    there = torch.rand(2000, 3, generator=torch.Generator().manual_seed(2)) < 0.5
    assert not there.any(dim=1).all()  # some samples lack everything, and go on lacking it
    inputs = make_inputs(there)
    for seed in range(5):
        torch.manual_seed(seed)
        left = visible(drop_modalities(inputs, MASKS, share))
        assert not (left & ~there).any()
        assert torch.equal(left.any(dim=1), there.any(dim=1))
        alone = there.sum(dim=1) == 1
        assert torch.equal(left[alone], there[alone])


@pytest.mark.parametrize("dtype", [torch.long, torch.bool, torch.float32])
def test_a_mask_is_as_it_was_or_zero(dtype):
    inputs = make_inputs(torch.ones(200, 3, dtype=torch.long))
    inputs |= {name: inputs[name].to(dtype) for name in MASKS.values()}
    before = {name: value.clone() for name, value in inputs.items()}
    torch.manual_seed(0)
    dropped = drop_modalities(inputs, MASKS, 0.5)
    assert list(dropped) == list(inputs)
    for name, value in inputs.items():
        assert torch.equal(value, before[name])
        if name not in MASKS.values():
            assert dropped[name] is value
            continue
        hidden = ~dropped[name].any(dim=1)
        assert dropped[name].dtype == dtype and 0.3 < hidden.float().mean() < 0.6
        assert torch.equal(dropped[name][~hidden], value[~hidden])


def test_pytorchs_random_state_decides():
    inputs = make_inputs(torch.ones(50, 3, dtype=torch.long))
    torch.manual_seed(3)
    first, second = (visible(drop_modalities(inputs, MASKS, 0.5)) for _ in range(2))
    torch.manual_seed(3)
    assert torch.equal(visible(drop_modalities(inputs, MASKS, 0.5)), first)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("lacking", [["attention_mask"], ["audio_attention_mask", "vision_attention_mask"]], ids=len)
def test_a_batch_that_lacks_a_modality(lacking):
    inputs = make_inputs(torch.ones(300, 3, dtype=torch.long))
    for name in lacking:
        del inputs[name]
    torch.manual_seed(0)
    dropped = drop_modalities(inputs, MASKS, 0.8)
    assert set(dropped) == set(inputs)
    left = torch.stack([dropped[name].any(dim=1) for name in MASKS.values() if name in inputs])
    assert left.any(dim=0).all() and left.all() == (len(lacking) == 2)


def test_without_a_share_or_a_mask_nothing_is_drawn():
    """Runs without modality dropout stay what they were, random numbers included."""
    inputs = make_inputs(torch.ones(4, 3, dtype=torch.long))
    state = torch.get_rng_state()
    assert drop_modalities(inputs, MASKS, 0.0) is inputs
    masked = {"labels": inputs["labels"]}
    assert drop_modalities(masked, MASKS, 0.5) is masked
    assert torch.equal(torch.get_rng_state(), state)
