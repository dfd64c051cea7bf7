"""MFN word by word in NumPy, and its published size."""

import numpy as np
import pytest
import torch

from configuration.configuration_mfn import MfnConfig
from modeling.modeling_mfn import MfnModel
from tests.modeling.test_gated_memory import lstm_states, memories, perceptron

CMU_MOSI = {"text_feature_size": 768, "audio_feature_size": 5, "vision_feature_size": 20}
CMU_MOSEI = {**CMU_MOSI, "audio_feature_size": 74, "vision_feature_size": 35}
MOSEI_SIZES = {
    **{"text_hidden_size": 128, "vision_hidden_size": 128, "memory_size": 128, "attention_size": 128},
    **{"proposal_size": 128, "update_size": 256},
}
SMALL = {"text_hidden_size": 4, "audio_hidden_size": 3, "vision_hidden_size": 2, "memory_size": 5}
INPUTS = {"text_feature_size": 6, "audio_feature_size": 4, "vision_feature_size": 3}


def last_state(fusion, sample):
    """[h_t; h_a; h_v; u] of one sample, whose modalities have the same steps; one that is None has zeros."""
    steps = len(next(values for values in sample.values() if values is not None))
    hidden, cells = [], []
    for modality, lstm in fusion.lstms.lstms.items():
        nothing = np.zeros((steps, lstm.lstm.hidden_size))
        h, c = (nothing, nothing) if sample[modality] is None else lstm_states(lstm, sample[modality])
        hidden.append(h)
        cells.append(c)
    cells = np.concatenate(cells, axis=1)
    attended = []
    for t in range(steps):
        window = np.concatenate([cells[t - 1] if t else np.zeros_like(cells[t]), cells[t]])
        weights = np.exp(perceptron(fusion.attention.scores, window))
        attended.append(weights / weights.sum() * window)
    return np.concatenate([*(h[-1] for h in hidden), memories(fusion.memory, attended)[-1]])


def make_samples(model, lengths):
    """Samples of as many words, and forward's arguments with NaN in the padding."""
    random = np.random.default_rng(0)
    sizes = {m: getattr(model.config, f"{m}_feature_size") for m in model.config.modalities}
    samples = [{m: random.normal(size=(length, size)) for m, size in sizes.items()} for length in lengths]
    batch = {}
    for m, size in sizes.items():
        values = np.full((len(samples), max(lengths) + 2, size), np.nan)
        for row, sample in enumerate(samples):
            values[row, : lengths[row]] = sample[m]
        batch[f"{m}_values"] = torch.from_numpy(values)
        batch["attention_mask" if m == "text" else f"{m}_attention_mask"] = torch.from_numpy(~np.isnan(values[..., 0]))
    return samples, batch


def make_model(**fields):
    torch.manual_seed(0)
    return MfnModel(MfnConfig(**{**INPUTS, **SMALL, **fields})).double().eval()


@pytest.mark.parametrize("without", [None, "text_feature_size", "audio_feature_size"])
def test_word_by_word(without):
    model = make_model(**({without: None} if without else {}))
    samples, batch = make_samples(model, [3, 1, 5])
    output = model(**batch)
    for row, sample in enumerate(samples):
        state = last_state(model.fusion, sample)
        np.testing.assert_allclose(output.fusion_state[row].detach(), state, atol=1e-6)
        np.testing.assert_allclose(output.logits[row].detach(), perceptron(model.output, state), atol=1e-6)


def test_missing_modality_has_zeros_for_states():
    model = make_model()
    samples, batch = make_samples(model, [3, 1, 5])
    batch["audio_attention_mask"][2] = False
    samples[2]["audio"] = None
    state = model(**batch).fusion_state[2].detach()
    np.testing.assert_allclose(state, last_state(model.fusion, samples[2]), atol=1e-6)


@pytest.mark.parametrize(
    "config, parameters", [(MfnConfig(**CMU_MOSI), 2_172_657), (MfnConfig(**CMU_MOSEI, **MOSEI_SIZES), 1_276_865)]
)
def test_published_sizes(config, parameters):
    """MMSA's, measured."""
    assert MfnModel(config).num_parameters() == parameters


@pytest.mark.parametrize("field, value", [("memory_size", 0), ("retain_dropout", 1.0), ("attention_dropout", -0.1)])
def test_config_errors(field, value):
    with pytest.raises(ValueError, match=f"`{field}`.*{value}"):
        MfnConfig(**{field: value})
