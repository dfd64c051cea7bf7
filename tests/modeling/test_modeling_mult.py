"""MulT: its convolutions, dropouts and head against loops in NumPy, its size against the published ones."""

import numpy as np
import pytest
import torch

from configuration import MulTConfig
from modeling import MulTModel
from modeling.modality_sequence import ModalitySequence
from modeling.multimodal_transformer import MultimodalTransformer
from tests.modeling.reference import MASKS, right_padded_batch, scramble

WIDTHS = {"text": 4, "audio": 3, "vision": 5}
FEATURES = {f"{modality}_feature_size": width for modality, width in WIDTHS.items()}
SMALL = {"hidden_size": 6, "num_hidden_layers": 1, "num_attention_heads": 2, **FEATURES}
DROPOUTS = tuple(name for name in MulTConfig.field_names() if name.endswith("dropout"))
NO_DROPOUT = dict.fromkeys(DROPOUTS, 0.0)
LENGTHS = {"text": (4, 3, 1), "audio": (6, 0, 2), "vision": (2, 5, 0)}


def small_model(**fields):
    """In double precision; every weight is far from zero and from one."""
    return scramble(MulTModel(MulTConfig(**{**SMALL, **NO_DROPOUT, **fields})), std=0.6)


def small_batch():
    return right_padded_batch(WIDTHS, LENGTHS)


def sequences_of(batch):
    return {m: ModalitySequence(batch[f"{m}_values"], batch[MASKS[m]].bool()) for m in WIDTHS}


def convolved(weight, steps, kernel):
    """One sample's steps (L, d), by a kernel of that many, whose middle (or what is left of it) is at each step."""
    result = []
    for step in range(len(steps)):
        found = np.zeros(len(weight))
        for offset in range(kernel):
            at = step + offset - (kernel - 1) // 2
            if 0 <= at < len(steps):
                found += weight[:, offset * steps.shape[1] : (offset + 1) * steps.shape[1]] @ steps[at]
        result.append(found)
    return np.array(result)


@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5, 9])
def test_projection_is_a_convolution_that_sees_zeros_beyond_a_samples_own_steps(kernel):
    sizes = {"text": kernel, "audio": 1, "vision": 2}
    encoder = small_model(**{f"{m}_kernel_size": size for m, size in sizes.items()}).sequence_encoder
    seen = {}
    for modality, projection in encoder.projections.items():
        projection.register_forward_hook(lambda module, given, found, m=modality: seen.update({m: found}))
    sequences = sequences_of(small_batch())
    encoder(sequences)
    for modality, (values, mask) in sequences.items():
        weight = encoder.projections[modality].weight.detach().numpy()
        assert weight.shape == (6, sizes[modality] * WIDTHS[modality])
        for row, length in enumerate(LENGTHS[modality]):
            expected = convolved(weight, values[row, :length].numpy(), sizes[modality])
            found = seen[modality][row, :length].detach().numpy()
            np.testing.assert_allclose(found, expected.reshape(found.shape), atol=1e-12)
        assert seen[modality].shape == (*mask.shape, 6)


def test_kernels_are_those_of_conv1d():
    """The same numbers, in another order, give what PyTorch's convolution of the same length gives."""
    encoder, sequences = small_model(audio_kernel_size=3).sequence_encoder, sequences_of(small_batch())
    values = sequences["audio"].cleared().values[:1]
    kernel = encoder.projections["audio"].weight.unflatten(1, (3, 3)).transpose(1, 2)
    expected = torch.nn.functional.conv1d(values.transpose(1, 2), kernel, padding="same").transpose(1, 2)
    found = []
    encoder.projections["audio"].register_forward_hook(lambda module, given, output: found.append(output[:1]))
    encoder(sequences)
    torch.testing.assert_close(found[0], expected)


def test_prediction_is_made_from_the_last_valid_states():
    """y = W3 (x + W2 ReLU(W1 x + b1) + b2) + b3, where x has zeros for what a sample lacks."""
    model, batch = small_model(text_kernel_size=3), small_batch()
    weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    with torch.no_grad():
        output, encoded = model(**batch), model.sequence_encoder(sequences_of(batch))
    for row in range(3):
        x = []
        for modality, (values, _) in encoded.items():
            length = LENGTHS[modality][row]
            state = values[row, length - 1].numpy() if length else np.zeros(12)
            np.testing.assert_allclose(output[f"{modality}_state"][row], state, atol=1e-12)
            x = [*x, *state]
        inner = np.maximum(weights["residual.inner.weight"] @ x + weights["residual.inner.bias"], 0)
        state = x + weights["residual.outer.weight"] @ inner + weights["residual.outer.bias"]
        np.testing.assert_allclose(output.fusion_state[row], state, atol=1e-12)
        expected = weights["output.weight"] @ state + weights["output.bias"]
        np.testing.assert_allclose(output.logits[row], expected, atol=1e-12)


def test_loss_is_the_mean_absolute_error():
    model, batch, labels = small_model(), small_batch(), torch.tensor([1.5, -2.0, 0.25], dtype=torch.float64)
    with torch.no_grad():
        output = model(**batch, labels=labels)
    expected = sum(abs(float(y) - float(p)) for p, y in zip(output.logits[:, 0], labels, strict=True)) / 3
    assert float(output.loss) == pytest.approx(expected, abs=1e-6)


def attention_dropouts(encoder):
    """By transformer, that of its layers' attention, which is the same in all of them."""
    found = {}
    for part in ("crossmodal", "refinement"):
        for name, transformer in getattr(encoder, part).items():
            (found[f"{part}.{name}"],) = {layer.attention.dropout for layer in transformer.layers}
    return found


def test_attention_dropout_is_that_of_the_source():
    dropouts = {"attention_dropout": 0.3, "audio_attention_dropout": 0.2, "vision_attention_dropout": 0.1}
    assert attention_dropouts(small_model(**dropouts).sequence_encoder) == {
        "crossmodal.audio_from_text": 0.3,
        "crossmodal.vision_from_text": 0.3,
        "crossmodal.text_from_audio": 0.2,
        "crossmodal.vision_from_audio": 0.2,
        "crossmodal.text_from_vision": 0.1,
        "crossmodal.audio_from_vision": 0.1,
        **dict.fromkeys(("refinement.text", "refinement.audio", "refinement.vision"), 0.3),
    }


def test_one_attention_dropout_is_for_all_sources():
    encoder = MultimodalTransformer(WIDTHS, 6, 2, 2, 0.4, 0.0, 0.0, 0.0)
    assert set(attention_dropouts(encoder).values()) == {0.4}


def test_text_dropout_is_on_the_text_alone():
    """Far from one, it leaves half of the text's features, twice as large; nothing else is random."""
    model, batch, seen = small_model(text_dropout=0.5).train(), small_batch(), {}
    model.sequence_encoder.register_forward_pre_hook(lambda module, given: seen.update(given[0]))
    model(**batch)
    for modality in WIDTHS:
        values = sequences_of(batch)[modality].cleared().values
        if modality != "text":
            torch.testing.assert_close(seen[modality].values, values)
            continue
        dropped = seen["text"].values == 0
        torch.testing.assert_close(seen["text"].values, torch.where(dropped, 0.0, 2 * values))
        counted = dropped[batch["attention_mask"].bool()]
        assert counted.any() and not counted.all()
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(**batch).logits, small_model()(**batch).logits)


@pytest.mark.parametrize("name", DROPOUTS)
def test_every_dropout_makes_training_random_and_evaluation_not(name):
    model, batch = small_model(**{name: 0.5}), small_batch()
    with torch.no_grad():
        assert torch.equal(model(**batch).logits, model(**batch).logits)
        model.train()
        assert not torch.equal(model(**batch).logits, model(**batch).logits)


def test_positions_can_be_left_out():
    """Without them, the last state does not depend on the order of the steps before it; with them, it does."""
    batch = small_batch()
    turned = {**batch, "audio_values": batch["audio_values"][:, [1, 0, *range(2, 7)]]}
    with torch.no_grad():
        for positions in (True, False):
            model = small_model(positions=positions)
            same = torch.allclose(model(**batch).logits[0], model(**turned).logits[0], atol=1e-9)
            assert same is not positions


def test_a_missing_modality_adds_nothing():
    model, batch = small_model(vision_kernel_size=3), small_batch()
    batch["audio_attention_mask"] = torch.zeros_like(batch["audio_attention_mask"])
    other = {**batch, "audio_values": batch["audio_values"] + 1}
    with torch.no_grad():
        output, same = model(**batch), model(**other)
    assert torch.equal(output.logits, same.logits) and not output.audio_state.any()
    assert output.text_state.any(dim=1).all()


@pytest.mark.parametrize(
    "sizes, fields, published",
    [
        ((300, 5, 20), {}, 1_071_211),  # the authors' code with its defaults: the number that UCRN's table 7 has
        ((300, 74, 35), {}, 1_073_731),
        # MMSA's code with the values of its table
        ((768, 5, 20), {"hidden_size": 50, "num_attention_heads": 10, "kernels": (5, 5, 5)}, 2_571_551),
        ((768, 74, 35), {"hidden_size": 30, "num_attention_heads": 6, "kernels": (5, 1, 3)}, 982_951),
    ],
    ids=["mosi", "mosei", "mosi in MMSA", "mosei in MMSA"],
)
def test_published_parameter_counts(sizes, fields, published):
    names = ("text", "audio", "vision")
    kernels = fields.pop("kernels", None)
    if kernels is not None:
        fields |= {"num_hidden_layers": 4}
        fields |= {f"{m}_kernel_size": kernel for m, kernel in zip(names, kernels, strict=True)}
    fields |= {f"{m}_feature_size": size for m, size in zip(names, sizes, strict=True)}
    with torch.device("meta"):
        assert MulTModel(MulTConfig(**fields)).num_parameters() == published


@pytest.mark.parametrize(
    "field, value, rule",
    [
        ("num_attention_heads", 4, "must divide `hidden_size`; got 4 and 6"),
        ("num_attention_heads", 0, "at least 1"),
        ("num_hidden_layers", 0, "at least 1"),
        ("text_kernel_size", 0, "at least 1"),
        ("text_dropout", 1.0, "below 1"),
        ("vision_attention_dropout", -0.1, "at least 0"),
    ],
)
def test_bad_fields_are_named(field, value, rule):
    with pytest.raises(ValueError, match=f"`{field}`.*{rule}"):
        MulTConfig(**{**SMALL, field: value})
