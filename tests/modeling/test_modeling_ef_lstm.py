"""EF-LSTM against its formulas, written out with NumPy, and against the size of MMSA's."""

import math

import numpy as np
import pytest
import torch

from configuration import EfLstmConfig
from modeling import EfLstmModel
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


def expected_steps(sample, sizes):
    """The features side by side, at the steps of the first modality that is there: of the others, means of shares."""
    number = next((len(steps) for steps in sample.values() if len(steps)), 0)
    joined = []
    for n in range(number):
        parts = []
        for modality, steps in sample.items():
            share = steps[n * len(steps) // number : math.ceil((n + 1) * len(steps) / number)]
            parts.append(share.mean(axis=0) if len(steps) else np.zeros(sizes[f"{modality}_feature_size"]))
        joined.append(np.concatenate(parts))
    return joined


@pytest.mark.parametrize("modalities", SUBSETS, ids="+".join)
@pytest.mark.parametrize("layers", [1, 3])
def test_prediction_equals_the_formulas(modalities, layers):
    sizes = sizes_of(modalities)
    model = scramble(EfLstmModel(EfLstmConfig(hidden_size=3, num_hidden_layers=layers, **sizes)))
    samples = make_samples(model.config)
    with torch.no_grad():
        output = model(**to_batch(samples))
    reference = Reference(model)
    for row, sample in enumerate(samples):
        steps = expected_steps(sample, sizes)
        last = reference.lstm("lstm", steps, layers)[-1] if steps else np.zeros(3)
        state = np.maximum(reference.linear("hidden", last), 0)
        np.testing.assert_allclose(output.fusion_state[row], state, atol=1e-9)
        np.testing.assert_allclose(output.logits[row], reference.linear("output", state), atol=1e-9)
    assert reference.read == set(reference.weights)


def test_dropout_lies_between_the_lstms_and_around_the_layer_after_them():
    model = EfLstmModel(EfLstmConfig(**sizes_of(MODALITIES)))
    assert (model.lstm.num_layers, model.lstm.dropout, model.dropout.p) == (4, 0.5, 0.5)
    assert EfLstmModel(EfLstmConfig(num_hidden_layers=1, **sizes_of(MODALITIES))).lstm.dropout == 0


@pytest.mark.parametrize(
    "sizes, fields, mmsa",
    [(MOSI, {}, 885_605), (MOSEI, {"hidden_size": 256, "num_hidden_layers": 2}, 1_754_725)],
    ids=["mosi", "mosei"],
)
def test_number_of_parameters_is_mmsas_without_its_normalisation(sizes, fields, mmsa):
    """That has a weight and a bias for each of 50 steps, which no sequence of another length could use."""
    assert parameters(EfLstmModel, EfLstmConfig(**sizes, **fields)) == mmsa - 2 * 50


@pytest.mark.parametrize("name, value", [("hidden_size", 0), ("num_hidden_layers", 0), ("dropout", 1)])
def test_values_outside_the_rules(name, value):
    with pytest.raises(ValueError, match=f"`{name}`.*{value}"):
        EfLstmConfig(**MOSI, **{name: value})
