"""TFN against its formulas, written out with NumPy, and against the size of MMSA's."""

import numpy as np
import pytest
import torch

from configuration import TfnConfig
from modeling import TfnModel
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
    sigmoid,
    sizes_of,
    to_batch,
)

SMALL = {"text_hidden_size": 5, "text_size": 2, "audio_hidden_size": 4, "vision_hidden_size": 3, "fusion_size": 6}


def small_model(modalities=MODALITIES, **changes):
    return scramble(TfnModel(TfnConfig(**{**SMALL, **sizes_of(modalities), **changes})))


def expected_sample(reference, sample):
    states = reference.networks(sample)
    product = np.ones(1)
    for state in states.values():
        product = np.outer(product, [1.0, *state]).flatten()
    return states, *reference.prediction_layers(product)


@pytest.mark.parametrize("modalities", SUBSETS, ids="+".join)
def test_prediction_equals_the_formulas(modalities):
    model = small_model(modalities, label_range=[-1, 2])
    samples = make_samples(model.config)
    with torch.no_grad():
        output = model(**to_batch(samples))
    reference = Reference(model)
    for row, sample in enumerate(samples):
        states, prediction, state = expected_sample(reference, sample)
        assert output.logits[row].item() == pytest.approx(-1 + 3 * sigmoid(prediction[0]), abs=1e-9)
        np.testing.assert_allclose(output.fusion_state[row], state, atol=1e-9)
        for modality in modalities:
            np.testing.assert_allclose(output[f"{modality}_state"][row], states[modality], atol=1e-9)
    assert reference.read == set(reference.weights)


@pytest.mark.parametrize("bias", [1000.0, -1000.0])
@pytest.mark.parametrize("bounded", [True, False])
def test_a_sentiment_is_bounded_to_the_label_range_unless_it_is_switched_off(bounded, bias):
    model = small_model(label_range=[-1, 2], bounded_output=bounded)
    torch.nn.init.constant_(model.prediction.output.bias, bias)
    with torch.no_grad():
        logits = model(**to_batch(make_samples(model.config))).logits
    if bounded:
        torch.testing.assert_close(logits, torch.full_like(logits, 2.0 if bias > 0 else -1.0))
    else:
        assert ((logits * np.sign(bias)) > 500).all()


@pytest.mark.parametrize(
    "fields",
    [{"target": "sentiment2"}, {"target": "emotions"}, {"target": None, "problem_type": "regression"}],
    ids=str,
)
def test_other_targets_are_not_bounded(fields):
    model = small_model(**fields)
    samples = make_samples(model.config)
    with torch.no_grad():
        logits = model(**to_batch(samples)).logits
    expected = [expected_sample(Reference(model), sample)[1] for sample in samples]
    np.testing.assert_allclose(logits.numpy(), expected, atol=1e-9)


def test_loss_is_the_mean_absolute_error():
    model = small_model()
    samples = make_samples(model.config)
    labels = np.linspace(-3, 3, len(samples))
    with torch.no_grad():
        output = model(**to_batch(samples), labels=torch.from_numpy(labels))
    predictions = [-3 + 6 * sigmoid(expected_sample(Reference(model), sample)[1][0]) for sample in samples]
    assert output.loss.item() == pytest.approx(np.abs(np.array(predictions) - labels).mean(), abs=1e-6)


def test_what_a_sample_lacks_has_no_gradient_of_it():
    model = small_model()
    lengths = {modality: LENGTHS[modality][4:5] * 2 for modality in MODALITIES}  # without audio
    model.train()(**to_batch(make_samples(model.config, lengths)), labels=torch.tensor([1.0, -1.0])).loss.backward()
    for name, parameter in model.named_parameters():
        assert bool(parameter.grad.any()) == (".audio." not in name), name


def test_nothing_but_the_layer_after_it_is_as_large_as_the_outer_product():
    """What training keeps for the backward pass: dropout's result and its mask."""
    model = TfnModel(TfnConfig(**MOSI)).train()
    sizes = {}

    def pack(tensor):
        sizes[tensor.untyped_storage().data_ptr()] = tensor.numel()
        return tensor

    rows = 7
    values = {"text_values": torch.randn(rows, 3, 768), "audio_values": torch.randn(rows, 3, 5)}
    values["vision_values"] = torch.randn(rows, 3, 20)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(**values, labels=torch.zeros(rows))
    assert sum(size == rows * 33 * 33 * 129 for size in sizes.values()) <= 2


MOSEI_FIELDS = {"text_size": 128, "audio_hidden_size": 16, "fusion_size": 16}


@pytest.mark.parametrize(
    "sizes, fields, mmsa", [(MOSI, {}, 9_497_043), (MOSEI, MOSEI_FIELDS, 5_042_541 - 2)], ids=["mosi", "mosei"]
)
def test_number_of_parameters_is_mmsas(sizes, fields, mmsa):
    """The 5,042,541 measured of it for CMU-MOSEI count the two constants of its output range, 6 and -3."""
    assert parameters(TfnModel, TfnConfig(**sizes, **fields)) == mmsa


def test_fewer_modalities_have_fewer_factors():
    config = TfnConfig(text_feature_size=10, vision_feature_size=4)
    assert TfnModel(config).prediction.first.in_features == 33 * 129


@pytest.mark.parametrize(
    "fields, words",
    [
        ({"fusion_size": 0}, ["`fusion_size`", "0"]),
        ({"text_hidden_size": 0}, ["`text_hidden_size`", "0"]),
        ({"fusion_dropout": 1}, ["`fusion_dropout`", "1"]),
        ({"audio_dropout": -0.1}, ["`audio_dropout`", "-0.1"]),
    ],
    ids=str,
)
def test_values_outside_the_rules(fields, words):
    with pytest.raises(ValueError) as error:
        TfnConfig(**MOSI, **fields)
    assert all(word in str(error.value) for word in words), str(error.value)
