"""LF-DNN against its formulas, written out with NumPy, and against the size of MMSA's."""

import numpy as np
import pytest
import torch

from configuration import LfDnnConfig
from modeling import LfDnnModel
from tests.modeling.reference import (
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

SMALL = {"text_hidden_size": 5, "text_size": 2, "audio_hidden_size": 4, "vision_hidden_size": 3, "fusion_size": 6}


@pytest.mark.parametrize("modalities", SUBSETS, ids="+".join)
def test_prediction_equals_the_formulas(modalities):
    model = scramble(LfDnnModel(LfDnnConfig(**SMALL, **sizes_of(modalities))))
    samples = make_samples(model.config)
    with torch.no_grad():
        output = model(**to_batch(samples))
    reference = Reference(model)
    for row, sample in enumerate(samples):
        states = reference.networks(sample)
        prediction, state = reference.prediction_layers(np.concatenate(list(states.values())))
        np.testing.assert_allclose(output.logits[row], prediction, atol=1e-9)
        np.testing.assert_allclose(output.fusion_state[row], state, atol=1e-9)
        for modality in modalities:
            np.testing.assert_allclose(output[f"{modality}_state"][row], states[modality], atol=1e-9)
            assert output[f"{modality}_state"][row].any() <= bool(len(sample[modality]))
    assert reference.read == set(reference.weights)


def test_training_normalises_by_the_samples_that_have_the_modality():
    """The mean network's input, before its first layer, has mean bias and, with unit weights, unit variance."""
    model = LfDnnModel(LfDnnConfig(**SMALL, **sizes_of(MODALITIES), audio_dropout=0.0)).double().train()
    seen = []
    network = model.get_submodule("sequence_encoder.networks.audio")
    network.layers[0].register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].detach()))
    samples = make_samples(model.config)
    model(**to_batch(samples))
    means = np.array([sample["audio"].mean(axis=0) for sample in samples if len(sample["audio"])])
    here = [row for row, sample in enumerate(samples) if len(sample["audio"])]
    expected = (means - means.mean(axis=0)) / np.sqrt(means.var(axis=0) + 1e-5)
    np.testing.assert_allclose(seen[0][here].numpy(), expected, atol=1e-9)
    np.testing.assert_allclose(network.norm.running_mean, 0.1 * means.mean(axis=0), atol=1e-9)
    np.testing.assert_allclose(network.norm.running_variance, 0.9 + 0.1 * means.var(axis=0, ddof=1), atol=1e-9)


@pytest.mark.parametrize(
    "sizes, fields, expected",
    [(MOSI, {}, 597_171), (MOSEI, {"text_size": 128, "audio_hidden_size": 32}, 572_283)],
    ids=["mosi", "mosei"],
)
def test_number_of_parameters_is_mmsas(sizes, fields, expected):
    assert parameters(LfDnnModel, LfDnnConfig(**sizes, **fields)) == expected


@pytest.mark.parametrize(
    "fields, words",
    [
        ({"fusion_size": 0}, ["`fusion_size`", "0"]),
        ({"audio_hidden_size": -1}, ["`audio_hidden_size`", "-1"]),
        ({"fusion_dropout": 1}, ["`fusion_dropout`", "1"]),
    ],
    ids=str,
)
def test_values_outside_the_rules(fields, words):
    with pytest.raises(ValueError) as error:
        LfDnnConfig(**MOSI, **fields)
    assert all(word in str(error.value) for word in words), str(error.value)
