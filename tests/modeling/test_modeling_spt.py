"""
SPT as a model: its head against loops in NumPy, its size against the authors' code. The encoder has a test of its own.
"""

import numpy as np
import pytest
import torch

from configuration import SptConfig
from modeling import SptModel
from modeling.modality_sequence import ModalitySequence
from tests.modeling.reference import MASKS, right_padded_batch, scramble

WIDTHS = {"text": 4, "audio": 3, "vision": 5}
FEATURES = {f"{modality}_feature_size": width for modality, width in WIDTHS.items()}
SMALL = {"hidden_size": 6, "num_hidden_layers": 2, "num_attention_heads": 2, "spt_stride": 2, **FEATURES}
DROPOUTS = tuple(name for name in SptConfig.field_names() if name.endswith("dropout"))
NO_DROPOUT = dict.fromkeys(DROPOUTS, 0.0)
LENGTHS = {"text": (4, 3, 1), "audio": (7, 0, 2), "vision": (2, 5, 0)}


def small_model(**fields):
    """In double precision; every weight is far from zero and from one."""
    return scramble(SptModel(SptConfig(**{**SMALL, **NO_DROPOUT, **fields})), std=0.6)


def small_batch():
    return right_padded_batch(WIDTHS, LENGTHS)


def test_prediction_is_made_from_the_last_slots():
    """y = W3 (x + W2 ReLU(W1 x + b1) + b2) + b3; x has slot ceil(L / stride) - 1 of each, zeros where L is 0."""
    model, batch = small_model(), small_batch()
    weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    sequences = {m: ModalitySequence(batch[f"{m}_values"], batch[MASKS[m]].bool()) for m in WIDTHS}
    with torch.no_grad():
        output = model(**batch)
        slots = model.sequence_encoder({m: sequence.cleared() for m, sequence in sequences.items()})
    for row in range(3):
        x = []
        for modality in ("text", "audio", "vision"):
            length = LENGTHS[modality][row]
            last = -(-length // 2) - 1
            state = slots[modality].values[row, last].numpy() if length else np.zeros(6)
            np.testing.assert_allclose(output[f"{modality}_state"][row], state, atol=1e-12)
            x = [*x, *state]
        inner = np.maximum(weights["residual.inner.weight"] @ x + weights["residual.inner.bias"], 0)
        state = x + weights["residual.outer.weight"] @ inner + weights["residual.outer.bias"]
        np.testing.assert_allclose(output.fusion_state[row], state, atol=1e-12)
        expected = weights["output.weight"] @ state + weights["output.bias"]
        np.testing.assert_allclose(output.logits[row], expected, atol=1e-12)


def test_the_configuration_reaches_the_encoder():
    fields = {"spt_radii": [3, 2, 1], "spt_input_shifts": ["phase"], "attention_dropout": 0.4, "embedding_dropout": 0.2}
    encoder = small_model(**fields, relu_dropout=0.1, residual_dropout=0.3).sequence_encoder
    assert (encoder.size, encoder.repetitions, encoder.stride) == (6, 2, 2)
    assert encoder.input_shifts == ("phase",) and encoder.dropout.p == 0.2
    windows = {"input_attention": 7, "cross_attention": 5, "self_attention": 3}
    for name, window in windows.items():
        for layer in getattr(encoder, name).values():
            assert (layer.window, layer.heads, layer.dropout, layer.residual_dropout.p) == (window, 2, 0.4, 0.3)
            assert (layer.feed_forward.relu_dropout.p, layer.feed_forward.residual_dropout.p) == (0.1, 0.3)


@pytest.mark.parametrize("name", DROPOUTS)
def test_every_dropout_makes_training_random_and_evaluation_not(name):
    model, batch = small_model(**{name: 0.5}), small_batch()
    with torch.no_grad():
        assert torch.equal(model(**batch).logits, model(**batch).logits)
        model.train()
        assert not torch.equal(model(**batch).logits, model(**batch).logits)


def test_a_missing_modality_gives_no_slots():
    model, batch = small_model(), small_batch()
    batch["audio_attention_mask"] = torch.zeros_like(batch["audio_attention_mask"])
    other = {**batch, "audio_values": batch["audio_values"] + 1}
    with torch.no_grad():
        output, same = model(**batch), model(**other)
    assert torch.equal(output.logits, same.logits) and not output.audio_state.any()
    assert output.text_state.any(dim=1).all()


@pytest.mark.parametrize("sizes, published", [((300, 5, 20), 148_907), ((300, 74, 35), 154_451)], ids=["mosi", "mosei"])
@pytest.mark.parametrize("layers", [1, 4])
def test_published_parameter_counts(sizes, published, layers):
    """Less a normalisation, 32 wide, in each of three layers, which nothing in the authors' code reads."""
    names = ("text_feature_size", "audio_feature_size", "vision_feature_size")
    config = SptConfig(num_hidden_layers=layers, **dict(zip(names, sizes, strict=True)))
    with torch.device("meta"):
        assert SptModel(config).num_parameters() == published - 3 * 2 * 32


@pytest.mark.parametrize(
    "field, value, rule",
    [
        ("num_attention_heads", 4, "must divide `hidden_size`; got 4 and 6"),
        ("num_hidden_layers", 0, "at least 1"),
        ("spt_stride", 0, "at least 1"),
        ("spt_radii", [8, 4], "three whole numbers.*got \\[8, 4\\]"),
        ("spt_radii", [8, 4, -1], "three whole numbers"),
        ("spt_radii", [8, 4, 1.5], "three whole numbers"),
        ("spt_input_shifts", ["stride", "phases"], "stride, phase, random; got"),
        ("spt_input_shifts", ["stride", "stride"], "different ones"),
        ("output_dropout", 1, "below 1"),
    ],
)
def test_bad_fields_are_named(field, value, rule):
    with pytest.raises(ValueError, match=f"`{field}`.*{rule}"):
        SptConfig(**{**SMALL, field: value})
