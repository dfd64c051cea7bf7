"""LF-LSTM against its formulas, written out with NumPy."""

import numpy as np
import pytest
import torch

from configuration import LfLstmConfig
from modeling import LfLstmModel
from tests.modeling.reference import (
    MODALITIES,
    MOSI,
    SUBSETS,
    Reference,
    make_samples,
    parameters,
    scramble,
    sizes_of,
    to_batch,
)


@pytest.mark.parametrize("modalities", SUBSETS, ids="+".join)
def test_prediction_equals_the_formulas(modalities):
    model = scramble(LfLstmModel(LfLstmConfig(hidden_size=3, **sizes_of(modalities))))
    samples = make_samples(model.config)
    with torch.no_grad():
        output = model(**to_batch(samples))
    reference = Reference(model)
    for row, sample in enumerate(samples):
        states = {
            m: reference.lstm(f"sequence_encoder.{m}.lstm", steps)[-1] if len(steps) else np.zeros(3)
            for m, steps in sample.items()
        }
        joined = np.concatenate(list(states.values()))
        inner = np.maximum(reference.linear("residual.inner", joined), 0)
        fused = joined + reference.linear("residual.outer", inner)
        np.testing.assert_allclose(output.fusion_state[row], fused, atol=1e-9)
        np.testing.assert_allclose(output.logits[row], reference.linear("output", fused), atol=1e-9)
        for modality in modalities:
            np.testing.assert_allclose(output[f"{modality}_state"][row], states[modality], atol=1e-9)
    assert reference.read == set(reference.weights)


def test_a_missing_modality_is_zeros():
    model = scramble(LfLstmModel(LfLstmConfig(hidden_size=3, **sizes_of(MODALITIES))))
    samples = make_samples(model.config)
    with torch.no_grad():
        output = model(**to_batch(samples))
    for row, sample in enumerate(samples):
        for modality in MODALITIES:
            assert bool(output[f"{modality}_state"][row].any()) == bool(len(sample[modality]))


def test_number_of_parameters():
    """None was published. Three LSTMs 128 wide, two layers of 384 and the output."""
    lstms = sum(4 * 128 * (width + 128 + 2) for width in (768, 5, 20))
    assert parameters(LfLstmModel, LfLstmConfig(**MOSI)) == lstms + 2 * (384 * 384 + 384) + 385 == 901_761


@pytest.mark.parametrize("name, value", [("hidden_size", 0), ("dropout", 1), ("output_dropout", -0.1)])
def test_values_outside_the_rules(name, value):
    with pytest.raises(ValueError, match=f"`{name}`.*{value}"):
        LfLstmConfig(**MOSI, **{name: value})
