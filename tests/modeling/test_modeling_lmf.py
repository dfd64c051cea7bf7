"""LMF against its formulas, written out with NumPy, and against the size of MMSA's."""

import numpy as np
import pytest
import torch

from configuration import LmfConfig
from modeling import LmfModel
from tests.modeling.reference import (
    LENGTHS,
    MODALITIES,
    MOSEI,
    MOSI,
    SUBSETS,
    Reference,
    make_samples,
    parameters,
    scramble,
    sizes_of,
    to_batch,
)

SMALL = {"text_hidden_size": 5, "text_size": 2, "audio_hidden_size": 4, "vision_hidden_size": 3, "rank": 3}


def small_model(modalities=MODALITIES, **changes):
    return scramble(LmfModel(LmfConfig(**{**SMALL, **sizes_of(modalities), **changes})))


def expected_sample(reference, sample):
    states, result = reference.networks(sample), reference.weight("fusion.bias").copy()
    for i, weight in enumerate(reference.weight("fusion.weight")[0]):
        product = np.ones_like(result)
        for modality, state in states.items():
            product = product * (np.array([1.0, *state]) @ reference.weight(f"fusion.factors.{modality}")[i])
        result += weight * product
    return states, result


@pytest.mark.parametrize("modalities", SUBSETS, ids="+".join)
@pytest.mark.parametrize("target", ["sentiment", "sentiment7"])
def test_prediction_equals_the_formulas(modalities, target):
    model = small_model(modalities, target=target)
    samples = make_samples(model.config)
    with torch.no_grad():
        output = model(**to_batch(samples))
    reference = Reference(model)
    for row, sample in enumerate(samples):
        states, prediction = expected_sample(reference, sample)
        np.testing.assert_allclose(output.logits[row], prediction, atol=1e-9)
        for modality in modalities:
            np.testing.assert_allclose(output[f"{modality}_state"][row], states[modality], atol=1e-9)
    assert reference.read == set(reference.weights)


def test_a_sample_without_anything_gets_what_the_constants_say():
    model = small_model()
    with torch.no_grad():
        found = model(**to_batch(make_samples(model.config))).logits[-1].item()
    constants = np.ones(3)
    for factor in model.fusion.factors.values():
        constants *= factor.detach().numpy()[:, 0, 0]
    assert found == pytest.approx(model.fusion.weight.detach().numpy()[0] @ constants + model.fusion.bias.item())


def test_what_a_sample_lacks_has_no_gradient_of_it():
    """Its network gets none, and of its factors only what meets the constant."""
    model = small_model()
    lengths = {modality: LENGTHS[modality][4:5] * 2 for modality in MODALITIES}  # without audio
    model.train()(**to_batch(make_samples(model.config, lengths)), labels=torch.tensor([1.0, -1.0])).loss.backward()
    for name, parameter in model.named_parameters():
        if name == "fusion.factors.audio":
            assert parameter.grad[:, 0].any() and not parameter.grad[:, 1:].any()
        elif name != "fusion.bias":  # one error is positive and the other negative
            assert bool(parameter.grad.any()) == (".audio." not in name), name


def test_fusion_weights_and_bias_learn():
    model = small_model()
    model(**to_batch(make_samples(model.config)), labels=torch.full((10,), 50.0)).loss.backward()
    assert model.fusion.weight.grad.any() and model.fusion.bias.grad.any()
    assert all(factor.grad.any() for factor in model.fusion.factors.values())


@pytest.mark.parametrize("sizes, rank, expected", [(MOSI, 3, 505_071), (MOSEI, 4, 508_475)], ids=["mosi", "mosei"])
def test_number_of_parameters_is_mmsas(sizes, rank, expected):
    """Of MMSA's, the fusion's weights and bias, `rank` + 1, are given to no optimiser."""
    assert parameters(LmfModel, LmfConfig(**sizes, rank=rank)) == expected


@pytest.mark.parametrize(
    "fields, words",
    [
        ({"rank": 0}, ["`rank` must be at least 1", "0"]),
        ({"text_size": 0}, ["`text_size`", "0"]),
        ({"vision_dropout": 1.5}, ["`vision_dropout`", "1.5"]),
    ],
    ids=str,
)
def test_values_outside_the_rules(fields, words):
    with pytest.raises(ValueError) as error:
        LmfConfig(**MOSI, **fields)
    assert all(word in str(error.value) for word in words), str(error.value)
