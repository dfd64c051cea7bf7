"""MFM's codes, factors and losses in NumPy, and its published size."""

import math

import numpy as np
import pytest
import torch

from configuration.configuration_mfm import MfmConfig
from modeling.modality_sequence import ModalitySequence, reconstruction_error
from modeling.modeling_mfm import MfmModel, prior_discrepancy
from tests.modeling.test_gated_memory import perceptron, sigmoid
from tests.modeling.test_modeling_mfn import CMU_MOSEI, CMU_MOSI, INPUTS, SMALL, last_state, make_samples

MOSEI_SIZES = {
    **{"text_hidden_size": 256, "vision_hidden_size": 256, "attention_size": 1278, "proposal_size": 32},
    **{"retain_size": 64, "update_size": 128, "code_size": 32, "text_code_size": 256, "factor_size": 16},
    **{"audio_factor_size": 80, "vision_factor_size": 32},
}
WEIGHTS = {"mmd_weight": 3, "text_reconstruction_weight": 0.5, "audio_reconstruction_weight": 2.0}


def make_model(**fields):
    torch.manual_seed(0)
    return MfmModel(MfmConfig(**{**INPUTS, **SMALL, **WEIGHTS, **fields})).double().eval()


def lstm_cell(w, x, h, c):
    i, f, g, o = np.split(w["weight_ih_l0"] @ x + w["bias_ih_l0"] + w["weight_hh_l0"] @ h + w["bias_hh_l0"], 4)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def arrays(module):
    return {name: tensor.detach().numpy() for name, tensor in module.named_parameters()}


def factor_of(network, code):
    return np.maximum(perceptron(network[0], code), 0)


def discrepancy(codes):
    """From each pair of codes, and the two Gaussian integrals."""
    d, n = codes.shape[1], len(codes)
    among = sum(math.exp(-((x - y) ** 2).sum() / d**2) for x in codes for y in codes) / n**2
    to_prior = sum((1 + 2 / d**2) ** (-d / 2) * math.exp(-(x @ x) / (d**2 + 2)) for x in codes) / n
    return among - 2 * to_prior + (1 + 4 / d**2) ** (-d / 2)


def generated(generator, sample, shared):
    """The code of a modality, and its features as the authors' decoder makes them: fed with its own last state."""
    w, size = arrays(generator.encoder.lstm), generator.encoder.lstm.hidden_size
    h = c = np.zeros(size)
    for x in sample:
        h, c = lstm_cell(w, x, h, c)
    projection = arrays(generator.encoder.projection)
    code = projection["weight"] @ h + projection["bias"]
    w, output = arrays(generator.decoder), arrays(generator.output)
    own = {**w, "weight_hh_l0": w["weight_hh_l0"] - w["weight_ih_l0"]}  # theirs, whose sum with W_ih is ours
    x, found = np.concatenate([shared, factor_of(generator.factor, code)]), []
    h = c = np.zeros(len(x))
    for _ in sample:
        h, c = lstm_cell(own, x, h, c)
        found.append(output["weight"] @ h + output["bias"])
        x = h
    return code, np.array(found)


def test_prediction_and_losses():
    model = make_model()
    samples, batch = make_samples(model, [3, 1, 5])
    batch["audio_attention_mask"][1] = False
    samples[1]["audio"] = None
    labels = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    output = model(**batch, labels=labels)

    code = arrays(model.code)
    codes = np.array([code["weight"] @ last_state(model.fusion, sample) + code["bias"] for sample in samples])
    factors = [factor_of(model.factor, z) for z in codes]
    predictions = np.array([perceptron(model.output, factor)[0] for factor in factors])
    np.testing.assert_allclose(output.fusion_state.detach(), factors, atol=1e-6)
    np.testing.assert_allclose(output.logits.squeeze(1).detach(), predictions, atol=1e-6)

    expected = abs(predictions - labels.numpy()).mean() + 3 * discrepancy(codes)
    for modality, weight in (("text", 0.5), ("audio", 2.0), ("vision", 0.5)):
        rows = [row for row, sample in enumerate(samples) if sample[modality] is not None]
        found = [generated(model.generators[modality], samples[row][modality], factors[row]) for row in rows]
        expected += 3 * discrepancy(np.array([z for z, _ in found]))
        errors = [(x - samples[row][modality]) ** 2 for row, (_, x) in zip(rows, found, strict=True)]
        expected += weight * np.concatenate(errors).mean()
    assert output.loss.item() == pytest.approx(expected, abs=1e-5)


def test_prior_discrepancy_is_what_samples_of_the_prior_estimate():
    random = np.random.default_rng(0)
    codes, prior, other = 0.5 + random.normal(size=(4, 3)), *random.normal(size=(2, 200_000, 3))

    def kernel(x, y):
        return np.exp(-((x - y) ** 2).sum(axis=-1) / 9)

    among = kernel(codes[:, None], codes[None]).mean()
    estimate = among - 2 * np.mean([kernel(code, prior).mean() for code in codes]) + kernel(prior, other).mean()
    found = prior_discrepancy(torch.from_numpy(codes), torch.ones(4, dtype=torch.bool)).item()
    assert found == pytest.approx(estimate, abs=3e-3) and found > 0.02
    assert found == pytest.approx(discrepancy(codes), abs=1e-6)


def test_prior_discrepancy_is_small_for_the_prior_alone():
    torch.manual_seed(0)
    codes, everyone = torch.randn(1000, 4), torch.ones(1000, dtype=torch.bool)
    small = prior_discrepancy(codes, everyone)
    assert 0 <= small < 2e-3
    assert prior_discrepancy(codes + 1, everyone) > 20 * small and prior_discrepancy(codes * 0, everyone) > 20 * small


def test_what_is_missing_has_no_discrepancy_and_no_error():
    torch.manual_seed(0)
    codes, present = torch.randn(4, 3, requires_grad=True), torch.tensor([True, False, True, False])
    torch.testing.assert_close(
        prior_discrepancy(codes, present), prior_discrepancy(codes[present], torch.ones(2, dtype=torch.bool))
    )
    nothing = prior_discrepancy(codes, torch.zeros(4, dtype=torch.bool))
    nothing = nothing + reconstruction_error(codes[None], ModalitySequence(codes[None] + 1, torch.zeros(1, 4).bool()))
    assert nothing == 0
    nothing.backward()
    assert (codes.grad == 0).all()


def test_targets_of_the_reconstruction_get_no_gradient():
    values, made = torch.randn(2, 3, 4, requires_grad=True), torch.randn(2, 3, 4, requires_grad=True)
    reconstruction_error(made, ModalitySequence(values, torch.ones(2, 3).bool())).backward()
    assert values.grad is None and made.grad.abs().sum() > 0


def test_nothing_is_generated_without_labels():
    model = make_model()
    model.generators = None
    assert torch.isfinite(model(**make_samples(model, [2, 1])[1]).logits).all()


def test_published_sizes():
    """MMSA's has the output network of the MFN that encodes, too, which nothing reads and which never learns."""
    unread = (288 + 64) * 128 + 128 + 128 + 1
    assert MfmModel(MfmConfig(**CMU_MOSI)).num_parameters() == 1_416_123 - unread
    unread = (544 + 64) * 256 + 256 + 256 + 1
    assert MfmModel(MfmConfig(**CMU_MOSEI, **MOSEI_SIZES)).num_parameters() == 5_996_541 - unread


@pytest.mark.parametrize("field, value", [("mmd_weight", -1), ("code_size", 0), ("text_factor_dropout", 1.0)])
def test_config_errors(field, value):
    with pytest.raises(ValueError, match=f"`{field}`.*{value}"):
        MfmConfig(**{field: value})
