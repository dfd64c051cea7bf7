"""RAVEN against its equations, word by word and frame by frame, and its size."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from configuration import RavenConfig
from modeling import RavenModel
from tests.modeling.test_multimodal_shift import displaced, numpy_weights, sigmoid

SIZES = {"text_feature_size": 5, "audio_feature_size": 3, "vision_feature_size": 4}
SMALL = {"frame_hidden_size": 3, "hidden_size": 4, "max_frames_per_word": 3}
TEXT, AUDIO, VISION = (4, 2, 3, 5, 0, 0, 0, 1), (9, 2, 0, 0, 3, 0, 0, 8), (2, 9, 4, 0, 6, 5, 0, 0)  # steps by row
MASKS = {"text": "attention_mask", "audio": "audio_attention_mask", "vision": "vision_attention_mask"}


def small_model(**fields):
    model = RavenModel(RavenConfig(**{**SIZES, **SMALL, **fields}))
    torch.manual_seed(1)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.7)
    return model.double().eval()


def make_batch(config, seed=0):
    """Left-aligned rows of the lengths above, with NaN where there is nothing."""
    torch.manual_seed(seed)
    batch = {}
    for modality, lengths in {"text": TEXT, "audio": AUDIO, "vision": VISION}.items():
        mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
        if modality in config.modalities:
            values = torch.randn(*mask.shape, getattr(config, f"{modality}_feature_size")).double()
            batch[f"{modality}_values"] = values.masked_fill(~mask[..., None], math.nan)
            batch[MASKS[modality]] = mask.long()
    return batch


def lstm(weights, prefix, steps):
    """The last state."""
    size = weights[f"{prefix}weight_hh_l0"].shape[1]
    state, cell = np.zeros(size), np.zeros(size)
    for step in steps:
        gates = weights[f"{prefix}weight_ih_l0"] @ step + weights[f"{prefix}bias_ih_l0"]
        gates = gates + weights[f"{prefix}weight_hh_l0"] @ state + weights[f"{prefix}bias_hh_l0"]
        i, f, g, o = np.split(gates, 4)
        cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
        state = sigmoid(o) * np.tanh(cell)
    return state


def frames_of(steps, n, want, limit):
    share = steps[math.floor(n * len(steps) / want) : math.ceil((n + 1) * len(steps) / want)]
    return share if len(share) <= limit else [share[k * len(share) // limit] for k in range(limit)]


def reference(model, batch, row):
    """The prediction for one row."""
    weights, config = numpy_weights(model), model.config
    steps = {m: batch[f"{m}_values"][row, : int(batch[MASKS[m]][row].sum())].numpy() for m in config.modalities}
    anchor, *others = config.modalities
    want = next((len(values) for values in steps.values() if len(values)), 0)
    words = []
    for n in range(want):
        beside = {}
        for modality in others:
            if len(steps[modality]):
                frames = frames_of(steps[modality], n, want, config.max_frames_per_word)
                beside[modality] = lstm(weights, f"frame_encoders.{modality}.lstm.", frames)
        there = len(steps[anchor]) > 0
        word = steps[anchor][n] if there else np.zeros(getattr(config, f"{anchor}_feature_size"))
        words.append(displaced(weights, word, beside, config.beta, sigmoid, there, "shift."))
    state = lstm(weights, "lstm.", words)
    return weights["output.weight"] @ state + weights["output.bias"]


@pytest.mark.parametrize("fields", [{}, {"beta": 1.0, "max_frames_per_word": 20}, {"text_feature_size": None}], ids=str)
def test_against_the_equations(fields):
    model = small_model(**fields)
    batch = make_batch(model.config)
    with torch.no_grad():
        found = model(**batch).logits
    for row in range(len(TEXT)):
        np.testing.assert_allclose(found[row].numpy(), reference(model, batch, row), atol=1e-10, err_msg=f"row {row}")


def test_gradients_reach_the_frames_and_the_gates():
    """The authors' code cuts them."""
    model = small_model()
    model(**make_batch(model.config)).logits.sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.abs().max() > 0, name


def test_a_configuration_of_one_modality_has_no_shift():
    model = small_model(audio_feature_size=None, vision_feature_size=None)
    batch = make_batch(model.config)
    assert model.shift is None and not model.frame_encoders
    with torch.no_grad():
        found = model(**batch).logits[0].numpy()
    weights = numpy_weights(model)
    state = lstm(weights, "lstm.", batch["text_values"][0, : TEXT[0]].numpy())
    np.testing.assert_allclose(found, weights["output.weight"] @ state + weights["output.bias"], atol=1e-10)


@pytest.mark.parametrize("field, value", [("beta", 0), ("max_frames_per_word", 0), ("frame_hidden_size", 0)])
def test_config_errors(field, value):
    with pytest.raises(ValueError, match=f"`{field}`"):
        RavenConfig(**{field: value})


@pytest.mark.parametrize(
    "vision, ours, code", [(36, 1_062_303, 1_193_303), (35, 1_061_703, 1_193_153)], ids=["MOSI", "MOSEI"]
)
def test_number_of_parameters(vision, ours, code):
    """
    With word vectors of 300 and COVAREP. The authors' code, counted layer by layer: two normalisations of 100 and, per
    modality, a linear layer to 150 features, from which their LSTMs read; ours read the features themselves.
    """
    with torch.device("meta"):
        sizes = {"text_feature_size": 300, "audio_feature_size": 74, "vision_feature_size": vision}
        model = RavenModel(RavenConfig(**sizes))
    assert sum(parameter.numel() for parameter in model.parameters()) == ours
    linear_layers = 150 * (74 + vision) + 2 * 150
    wider_inputs = 4 * 150 * (2 * 150 - 74 - vision)
    assert code - ours == 200 + linear_layers + wider_inputs
