"""MMLatch against its equations, written out with NumPy and plain Python, and against its authors' sizes."""

import itertools
import math

import numpy as np
import pytest
import torch
from huggingface_hub.errors import StrictDataclassFieldValidationError
from torch import nn

from configuration import MMLatchConfig
from modeling import MMLatchModel
from modeling.modeling_mmlatch import DotProductAttention
from modeling.multimodal_transformer import MultimodalTransformer

MODALITIES = ("text", "audio", "vision")
MASKS = {"text": "attention_mask", "audio": "audio_attention_mask", "vision": "vision_attention_mask"}
SIZES = {"text_feature_size": 4, "audio_feature_size": 5, "vision_feature_size": 3}
CMU_MOSEI = {"text_feature_size": 300, "audio_feature_size": 74, "vision_feature_size": 35}
DROPOUTS = ["dropout", "fusion_dropout", "mask_dropout", "output_dropout"]
DROPOUTS += ["attention_dropout", "relu_dropout", "residual_dropout", "embedding_dropout"]
OFF = dict.fromkeys(DROPOUTS, 0.0)
MULT = {"encoder": "mult", "num_hidden_layers": 2, "num_attention_heads": 2}

ALIGNED = {"text": (4, 1, 3), "audio": (4, 1, 3), "vision": (4, 1, 3)}
UNALIGNED = {"text": (3, 1, 4), "audio": (7, 5, 2), "vision": (2, 3, 4)}
# Without one modality, without two, without any.
MISSING = {
    "text": (0, 4, 3, 2, 0, 0, 0),
    "audio": (5, 0, 2, 0, 3, 0, 0),
    "vision": (3, 3, 0, 0, 0, 6, 0),
}
LENGTHS = pytest.mark.parametrize("lengths", [ALIGNED, UNALIGNED, MISSING], ids=["aligned", "unaligned", "missing"])


def small_model(seed=0, **changes):
    """In double precision and evaluation, every size different, and no weight near zero."""
    torch.manual_seed(seed)
    model = MMLatchModel(MMLatchConfig(**{"hidden_size": 6, **SIZES, **changes})).double().eval()
    for name, parameter in model.named_parameters():
        if not name.startswith("text_encoder"):
            nn.init.normal_(parameter, std=0.6)
    return model


def small_samples(config, lengths, seed=0):
    """By row, (T, d) of each modality, T being 0 where the sample lacks it."""
    random = np.random.default_rng(seed)
    rows = len(next(iter(lengths.values())))
    sizes = {m: getattr(config, f"{m}_feature_size") for m in config.modalities}
    return [{m: random.normal(size=(lengths[m][row], sizes[m])) for m in config.modalities} for row in range(rows)]


def right_padded(count, steps):
    return list(range(count))


def left_padded(count, steps):
    return list(range(steps - count, steps))


def padded_inside(count, steps):
    """Half of the steps at the start, the others at the end."""
    return [step if step < count / 2 else steps - count + step for step in range(count)]


def to_batch(samples, places=right_padded, spare=0):
    """forward's arguments, steps where `places` puts them, and NaN everywhere else."""
    batch = {}
    for modality, first in samples[0].items():
        steps = max(len(sample[modality]) for sample in samples) + spare
        values = np.full((len(samples), steps, first.shape[1]), np.nan)
        mask = np.zeros((len(samples), steps), dtype=np.int64)
        for row, sample in enumerate(samples):
            for place, step in zip(places(len(sample[modality]), steps), sample[modality], strict=True):
                values[row, place], mask[row, place] = step, 1
        batch |= {f"{modality}_values": torch.from_numpy(values), MASKS[modality]: torch.from_numpy(mask)}
    return batch


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm(weights, prefix, steps):
    """States after each of (T, d): i, f, o = sigmoid(...), g = tanh(...), c = f c + i g, h = o tanh(c)."""
    size = weights[f"{prefix}.weight_hh_l0"].shape[1]
    bias = weights[f"{prefix}.bias_ih_l0"] + weights[f"{prefix}.bias_hh_l0"]
    state, cell, states = np.zeros(size), np.zeros(size), []
    for step in steps:
        sums = weights[f"{prefix}.weight_ih_l0"] @ step + weights[f"{prefix}.weight_hh_l0"] @ state + bias
        i, f, g, o = np.split(sums, 4)
        cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
        state = sigmoid(o) * np.tanh(cell)
        states.append(state)
    return np.array(states)


def both_directions(weights, prefix, steps):
    backwards = lstm(weights, f"{prefix}.backward_lstm", steps[::-1])
    return lstm(weights, f"{prefix}.forward_lstm", steps), backwards[::-1]


def attention(weights, prefix, queries, context):
    """softmax(Q K^T / sqrt(p)) V, query by query."""
    result = []
    for step in queries:
        query = weights[f"{prefix}.query.weight"] @ step
        scores = [query @ (weights[f"{prefix}.key.weight"] @ other) / math.sqrt(len(query)) for other in context]
        total = sum(math.exp(score) for score in scores)
        values = [weights[f"{prefix}.value.weight"] @ other for other in context]
        result.append(sum(math.exp(score) / total * value for score, value in zip(scores, values, strict=True)))
    return np.array(result)


def resampled(steps, want):
    """Step n of N: the mean over the steps from floor(n L / N) to ceil((n + 1) L / N) of L."""
    have = len(steps)
    bounds = [(math.floor(n * have / want), math.ceil((n + 1) * have / want)) for n in range(want)]
    return np.array([sum(steps[start:end]) / (end - start) for start, end in bounds])


def encode(weights, prefix, sample):
    """r of the modalities that the sample has."""
    encoded = {}
    for modality, steps in sample.items():
        if len(steps):
            ahead, back = both_directions(weights, f"{prefix}.lstms.{modality}", steps)
            states = ahead + back
            encoded[modality] = attention(weights, f"{prefix}.attentions.{modality}", states, states)
    return encoded


def latch_mask(weights, encoded, target, steps, width):
    """Equation 4's mean of what the others say; what the sample lacks says nothing."""
    found = []
    for source in encoded:
        if source != target:
            prefix, said = f"sequence_encoder.feedback.{target}_from_{source}", resampled(encoded[source], steps)
            if f"{prefix}.weight" in weights:
                said = np.array([weights[f"{prefix}.weight"] @ step + weights[f"{prefix}.bias"] for step in said])
            else:
                said = lstm(weights, prefix, said)
            found.append(sigmoid(said))
    return sum(found) / len(found) if found else np.ones((steps, width))


def fuse(config, weights, encoded):
    """The fused state of a sample, equations 1 to 3."""
    size = config.hidden_size
    width = size if config.fusion_pooling == "last" else 2 * size
    if not encoded:
        return np.zeros(width)
    steps = len(next(iter(encoded.values())))  # of text, or of the first modality that there is
    nothing = np.zeros((steps, size))
    r = {m: resampled(encoded[m], steps) if m in encoded else nothing for m in config.modalities}
    parts = list(r.values())
    pairs = {}
    for one, other in itertools.combinations(config.modalities, 2):
        there, back = r[one], r[other]
        if one in encoded and other in encoded:
            there = there + attention(weights, f"fusion.attentions.{one}_from_{other}", r[one], r[other])
            back = back + attention(weights, f"fusion.attentions.{other}_from_{one}", r[other], r[one])
        pairs[one, other] = there + back
        parts.append(pairs[one, other])
    if len(config.modalities) == 3:
        m_av = pairs["audio", "vision"]
        a_avt = m_av if config.avt_residual else nothing
        if "text" in encoded and len(encoded) > 1:
            a_avt = a_avt + attention(weights, "fusion.all_three", m_av, r["text"])
        parts.append(a_avt)
    ahead, back = both_directions(weights, "fusion.lstm", np.concatenate(parts, axis=1))
    if config.fusion_pooling == "last":
        return ahead[-1] + back[0]
    states = np.concatenate([ahead, back], axis=1)
    return sum(attention(weights, "fusion.summed", states, states))


def expected_sample(model, sample):
    """The fused state, the prediction, the last states and the masks of one sample."""
    config = model.config
    weights = {name: tensor.double().numpy() for name, tensor in model.state_dict().items()}
    masks, prefix = {}, "sequence_encoder"
    if config.feedback != "none":
        prefix += ".encoder"
        said = encode(weights, prefix, sample)
        masks = {m: latch_mask(weights, said, m, *steps.shape) for m, steps in sample.items() if len(steps)}
        sample = {m: steps * masks[m] if m in masks else steps for m, steps in sample.items()}
    encoded = encode(weights, prefix, sample)
    state = fuse(config, weights, encoded)
    last = {m: encoded[m][-1] if m in encoded else np.zeros(config.hidden_size) for m in config.modalities}
    return state, weights["output.weight"] @ state + weights["output.bias"], last, masks


def assert_equals_the_equations(model, samples, output):
    for row, sample in enumerate(samples):
        state, prediction, last, masks = expected_sample(model, sample)
        np.testing.assert_allclose(output.fusion_state[row].numpy(), state, atol=1e-9, err_msg=f"row {row}")
        np.testing.assert_allclose(output.logits[row].numpy(), prediction, atol=1e-9)
        for modality, expected in last.items():
            np.testing.assert_allclose(output[f"{modality}_state"][row].numpy(), expected, atol=1e-9)
        for modality, expected in masks.items():
            found = output[f"{modality}_mask_values"][row, : len(expected)].numpy()
            np.testing.assert_allclose(found, expected, atol=1e-9, err_msg=f"{modality}, row {row}")


@pytest.mark.parametrize("feedback", ["none", "linear", "lstm"])
@pytest.mark.parametrize("fusion_pooling", ["last", "attention_sum"])
@pytest.mark.parametrize("avt_residual", [True, False])
@LENGTHS
def test_forward_equals_the_equations(feedback, fusion_pooling, avt_residual, lengths):
    model = small_model(feedback=feedback, fusion_pooling=fusion_pooling, avt_residual=avt_residual)
    samples = small_samples(model.config, lengths)
    with torch.no_grad():
        output = model(**to_batch(samples, spare=2))
    assert_equals_the_equations(model, samples, output)
    assert output.fusion_state.abs().max() > 0.05  # not a comparison of zeros


@pytest.mark.parametrize("feedback", ["none", "lstm"])
@pytest.mark.parametrize(
    "present", [("audio",), ("text", "vision"), ("audio", "vision"), ("text", "audio")], ids="+".join
)
def test_corpus_without_a_modality(present, feedback):
    """The parts of equation 3 that need it are left out, and an only modality has nothing that would mask it."""
    absent = {f"{modality}_feature_size": None for modality in MODALITIES if modality not in present}
    model = small_model(feedback=feedback, **absent)
    assert model.config.modalities == present
    parts = {1: 1, 2: 3}[len(present)]
    assert model.fusion.lstm.forward_lstm.input_size == parts * 6 and model.fusion.all_three is None
    for lengths in (UNALIGNED, MISSING):
        samples = small_samples(model.config, lengths)
        with torch.no_grad():
            output = model(**to_batch(samples))
        assert_equals_the_equations(model, samples, output)
        for modality in MODALITIES:
            masks = getattr(output, f"{modality}_mask_values")
            assert (masks is not None) == (modality in present and feedback != "none")
            if masks is not None and len(present) == 1:
                assert torch.equal(masks.unique(), torch.tensor([0.0, 1.0]).double())


@pytest.mark.parametrize("places", [right_padded, left_padded, padded_inside])
def test_mask_values_lie_where_the_steps_are(places):
    """As many as there are input features, and zeros at padding."""
    model = small_model()
    samples = small_samples(model.config, UNALIGNED)
    batch = to_batch(samples, places, spare=2)
    with torch.no_grad():
        output = model(**batch)
    for modality in MODALITIES:
        values = batch[f"{modality}_values"]
        expected = np.zeros(values.shape)
        for row, sample in enumerate(samples):
            masks = expected_sample(model, sample)[-1][modality]
            for place, mask in zip(places(len(masks), values.shape[1]), masks, strict=True):
                expected[row, place] = mask
        np.testing.assert_allclose(output[f"{modality}_mask_values"].numpy(), expected, atol=1e-9)


def test_mask_values_are_zeros_where_a_sample_lacks_the_modality():
    model = small_model()
    samples = small_samples(model.config, MISSING)
    with torch.no_grad():
        output = model(**to_batch(samples))
        without = model(text_values=torch.ones(2, 3, 4))
    for modality in MODALITIES:
        for row, sample in enumerate(samples):
            assert output[f"{modality}_mask_values"][row].any() == bool(len(sample[modality]))
    assert torch.equal(without.text_mask_values, torch.ones(2, 3, 4).double())  # nothing masks it
    assert without.audio_mask_values.shape == (2, 1, 5) and not without.audio_mask_values.any()


@pytest.mark.parametrize("changes", [{"feedback": "none"}, {"feedback": "none", "hidden_size": 4, **MULT}])
def test_no_mask_values_without_feedback(changes):
    model = small_model(**changes)
    output = model(**to_batch(small_samples(model.config, ALIGNED)))
    assert [getattr(output, f"{modality}_mask_values") for modality in MODALITIES] == [None, None, None]


def test_masks_of_text_are_on_the_states_of_its_encoder():
    """Of the encoder run on each row's tokens alone, padding inside included."""
    text_config = {"vocab_size": 20, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
    text_config |= {"num_attention_heads": 2, "max_position_embeddings": 8}
    model = small_model(text_feature_size=None, text_config=text_config)
    samples = small_samples(MMLatchConfig(**SIZES | {"text_feature_size": None}), UNALIGNED)
    ids = torch.tensor([[3, 4, 5, 0, 0], [0, 0, 0, 0, 6], [7, 8, 0, 9, 10]])
    mask = (ids > 0).long()
    with torch.no_grad():
        output = model(input_ids=ids, attention_mask=mask, **to_batch(samples))
        for row in range(3):
            tokens = ids[row][mask[row] == 1]
            text = model.text_encoder(input_ids=tokens[None]).last_hidden_state[0].numpy()
            _, prediction, _, masks = expected_sample(model, {"text": text, **samples[row]})
            np.testing.assert_allclose(output.logits[row].numpy(), prediction, atol=1e-9)
            found = output.text_mask_values[row]
            np.testing.assert_allclose(found[mask[row] == 1].numpy(), masks["text"], atol=1e-9)
            assert found.shape == (5, 8) and not found[mask[row] == 0].any()


@pytest.mark.parametrize("feedback", ["none", "lstm"])
@LENGTHS
def test_mult_predicts_through_a_residual_head(feedback, lengths):
    """h + W2 ReLU(W1 h) of the last valid states, each as wide as the two others' crossmodal transformers together."""
    model = small_model(hidden_size=4, feedback=feedback, **MULT)
    encoder = model.sequence_encoder if feedback == "none" else model.sequence_encoder.encoder
    assert isinstance(encoder, MultimodalTransformer)
    stages = []
    encoder.register_forward_hook(lambda module, arguments, made: stages.append(made))
    samples = small_samples(model.config, lengths)
    with torch.no_grad():
        output = model(**to_batch(samples, left_padded, spare=1))
    assert len(stages) == (1 if feedback == "none" else 2)
    weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    for row, sample in enumerate(samples):
        last = {m: np.zeros(8) for m in MODALITIES}
        for modality, steps in sample.items():
            if len(steps):
                last[modality] = stages[-1][modality].values[row, len(steps) - 1].numpy()
            np.testing.assert_allclose(output[f"{modality}_state"][row].numpy(), last[modality], atol=1e-12)
        h = np.concatenate([last[m] for m in MODALITIES])
        inner = np.maximum(weights["fusion.inner.weight"] @ h + weights["fusion.inner.bias"], 0)
        state = h + weights["fusion.outer.weight"] @ inner + weights["fusion.outer.bias"]
        np.testing.assert_allclose(output.fusion_state[row].numpy(), state, atol=1e-9)
        prediction = weights["output.weight"] @ state + weights["output.bias"]
        np.testing.assert_allclose(output.logits[row].numpy(), prediction, atol=1e-9)


def test_the_configuration_reaches_mult():
    dropouts = {"attention_dropout": 0.11, "relu_dropout": 0.12, "residual_dropout": 0.13, "embedding_dropout": 0.14}
    model = small_model(hidden_size=8, encoder="mult", num_hidden_layers=5, num_attention_heads=4, **dropouts)
    encoder = model.sequence_encoder.encoder
    transformers = [*encoder.crossmodal.values(), *encoder.refinement.values()]
    assert len(transformers) == 6 + 3
    for transformer in transformers:
        assert len(transformer.layers) == 5 and transformer.dropout.p == 0.14
        for layer in transformer.layers:
            assert (layer.attention.heads, layer.attention.dropout) == (4, 0.11)
            assert (layer.feed_forward.relu_dropout.p, layer.residual_dropout.p) == (0.12, 0.13)
    assert {layer.out_features for layer in encoder.projections.values()} == {8}


PARTS = {
    # Bidirectional LSTMs 2 * 4 (d p + p^2 + 2 p) and self-attention 3 p^2, p = 100.
    "encoders": sum(8 * (d * 100 + 100**2 + 200) + 3 * 100**2 for d in (300, 74, 35)),
    # Three symmetric attentions of six maps, and a_AVT's three.
    "attentions": 3 * 6 * 100**2 + 3 * 100**2,
    "fusion lstm": 8 * (700 * 100 + 100**2 + 200),
}
# On the sum over time of a self-attention 200 wide, or on the last state.
HEADS = {"attention_sum": 3 * 200**2 + 200 + 1, "last": 100 + 1}
FEEDBACK = {
    "none": 0,
    "linear": sum(2 * (100 + 1) * d for d in (300, 74, 35)),
    "lstm": sum(2 * 4 * (100 * d + d**2 + 2 * d) for d in (300, 74, 35)),
}


@pytest.mark.parametrize(
    "fusion_pooling, feedback, published",
    [
        ("attention_sum", "none", 1_633_801),  # these three as in the authors' code
        ("attention_sum", "lstm", 2_741_153),
        ("attention_sum", "linear", 1_716_419),
        ("last", "none", 1_513_701),
        ("last", "lstm", 2_621_053),
        ("last", "linear", 1_596_319),
    ],
)
def test_parameter_counts(fusion_pooling, feedback, published):
    assert sum(PARTS.values()) + HEADS[fusion_pooling] + FEEDBACK[feedback] == published
    model = MMLatchModel(MMLatchConfig(fusion_pooling=fusion_pooling, feedback=feedback, **CMU_MOSEI))
    count = {name: sum(p.numel() for p in child.parameters()) for name, child in model.named_children()}
    assert sum(count.values()) == published
    assert count["sequence_encoder"] == PARTS["encoders"] + FEEDBACK[feedback]


def test_loss_is_the_mean_absolute_error():
    model = small_model()
    samples = small_samples(model.config, UNALIGNED)
    labels = [1.5, -2.0, 0.25]
    for given in (torch.tensor(labels), torch.tensor(labels)[:, None]):
        output = model(**to_batch(samples), labels=given)
        errors = [abs(expected_sample(model, s)[1].item() - y) for s, y in zip(samples, labels, strict=True)]
        assert output.loss.item() == pytest.approx(sum(errors) / 3, abs=1e-6)


@pytest.mark.parametrize(
    "changes", [{}, {"feedback": "linear"}, {"hidden_size": 4, **MULT}], ids=["lstm", "linear", "mult"]
)
def test_masks_are_random_in_training_only(changes):
    """The authors' code drops them in evaluation, too."""
    model = small_model(**{**OFF, **changes, "mask_dropout": 0.2})
    batch = to_batch(small_samples(model.config, UNALIGNED))
    with torch.no_grad():
        first, second = model(**batch), model(**batch)
        torn, torn_again = model.train()(**batch), model(**batch)
    assert torch.equal(first.logits, second.logits)
    assert not torch.equal(torn.logits, torn_again.logits) and not torch.equal(first.logits, torn.logits)
    for modality in MODALITIES:  # what comes back is whole
        torch.testing.assert_close(first[f"{modality}_mask_values"], torn[f"{modality}_mask_values"], atol=0, rtol=0)


STATES, VALUES = ({f"{modality}_{kind}" for modality in MODALITIES} for kind in ("state", "mask_values"))
FUSED = {"logits", "fusion_state"}


@pytest.mark.parametrize("fusion_pooling", ["last", "attention_sum"])
@pytest.mark.parametrize(
    "feedback, changed, differing",
    [
        ("lstm", {}, set()),
        ("none", {"dropout": 0.9}, STATES | FUSED),
        ("lstm", {"dropout": 0.9}, STATES | VALUES | FUSED),
        ("none", {"fusion_dropout": 0.9}, FUSED),
        ("linear", {"fusion_dropout": 0.9}, FUSED),
        ("lstm", {"fusion_dropout": 0.9}, STATES | VALUES | FUSED),
        ("lstm", {"mask_dropout": 0.9}, STATES | FUSED),
        ("none", {"mask_dropout": 0.9}, set()),
        ("lstm", dict.fromkeys(DROPOUTS[3:], 0.9), set()),  # those of "mult"
    ],
)
def test_dropout_is_where_the_configuration_puts_it(fusion_pooling, feedback, changed, differing):
    """Nothing else is random: with all dropout off, training and evaluation answer alike."""
    model = small_model(feedback=feedback, fusion_pooling=fusion_pooling, **{**OFF, **changed})
    batch = to_batch(small_samples(model.config, ALIGNED))
    with torch.no_grad():
        steady, torn = model(**batch), model.train()(**batch)
    assert {name for name in steady if not torch.equal(steady[name], torn[name])} == differing


@pytest.mark.parametrize("changed", ["attention_dropout", "relu_dropout", "residual_dropout", "embedding_dropout"])
def test_dropouts_of_mult(changed):
    model = small_model(hidden_size=4, feedback="none", **MULT, **{**OFF, changed: 0.5})
    batch = to_batch(small_samples(model.config, ALIGNED))
    with torch.no_grad():
        steady, torn = model(**batch), model.train()(**batch)
    assert not any(torch.equal(steady[name], torn[name]) for name in STATES | FUSED)


def test_output_dropout_is_inside_the_head_of_mult():
    """On ReLU(W1 h): W2, here the identity, and its bias of 10 come after it."""
    model = small_model(hidden_size=4, **MULT, **{**OFF, "output_dropout": 0.5})
    nn.init.eye_(model.fusion.outer.weight)
    nn.init.constant_(model.fusion.outer.bias, 10.0)
    batch = to_batch(small_samples(model.config, ALIGNED))
    with torch.no_grad():
        steady, torn = model(**batch), model.train()(**batch)
    assert {name for name in steady if not torch.equal(steady[name], torn[name])} == FUSED
    last = torch.cat([steady[f"{modality}_state"] for modality in MODALITIES], dim=1)
    whole, found = (output.fusion_state - last - 10 for output in (steady, torn))
    dropped, doubled = torch.isclose(found, 0 * whole, atol=1e-9), torch.isclose(found, 2 * whole, atol=1e-9)
    assert (dropped | doubled).all() and (dropped & ~doubled).any() and (doubled & ~dropped).any()


@pytest.mark.parametrize("where", ["dropout", "fusion_dropout"])
@pytest.mark.parametrize("on", ["weights", "states"])
def test_dropout_is_on_the_weights_and_on_the_states(where, on):
    """Each of the two is random where the other one is silenced."""
    model = small_model(feedback="none", fusion_pooling="attention_sum", **{**OFF, where: 0.5})
    batch = to_batch(small_samples(model.config, ALIGNED))
    with torch.no_grad():
        steady = model(**batch)
        for module in model.modules():
            if on == "states" and isinstance(module, DotProductAttention):
                module.dropout = 0.0
            if on == "weights" and isinstance(module, nn.Dropout):
                module.p = 0.0
        assert not torch.equal(steady.logits, model.train()(**batch).logits)


@pytest.mark.parametrize("fusion_pooling, count", [("last", 7), ("attention_sum", 8)])
def test_every_attention_has_the_dropout_of_its_part(fusion_pooling, count):
    model = small_model(fusion_pooling=fusion_pooling, dropout=0.3, fusion_dropout=0.4)
    for part, expected in ((model.sequence_encoder, [0.3] * 3), (model.fusion, [0.4] * count)):
        attentions = [module for module in part.modules() if isinstance(module, DotProductAttention)]
        assert [module.dropout for module in attentions] == expected


def test_stage_1_gradients_are_the_configurations_choice():
    """They reach the encoders through the masks; what comes after the encoders has the same gradients either way."""
    gradients = []
    for stage1_gradient in (False, True):
        model = small_model(stage1_gradient=stage1_gradient)
        model(**to_batch(small_samples(model.config, UNALIGNED)), labels=torch.zeros(3)).loss.backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    for name, gradient in gradients[0].items():
        same = torch.allclose(gradient, gradients[1][name], atol=1e-12, rtol=0)
        assert same != name.startswith("sequence_encoder.encoder."), name


def test_attentions_start_as_xavier_uniform():
    model = MMLatchModel(MMLatchConfig(**CMU_MOSEI))
    layers = [module for module in model.modules() if isinstance(module, DotProductAttention)]
    assert len(layers) == 3 + 6 + 1
    bound = math.sqrt(6 / 200)
    for layer in layers:
        for linear in (layer.query, layer.key, layer.value):
            assert linear.bias is None and 0.99 * bound < linear.weight.abs().max() <= bound


def test_defaults_are_the_papers():
    config = MMLatchConfig(**CMU_MOSEI)
    assert (config.encoder, config.feedback, config.fusion_pooling) == ("lstm", "lstm", "last")
    assert (config.hidden_size, config.dropout, config.problem_type) == (100, 0.2, "regression")
    assert config.avt_residual and not config.stage1_gradient
    assert (config.num_hidden_layers, config.num_attention_heads) == (4, 10)


@pytest.mark.parametrize("name", DROPOUTS)
@pytest.mark.parametrize("value", [-0.1, 1.0, 1, 1.5, float("nan")])
def test_dropout_out_of_range_is_named(name, value):
    with pytest.raises(ValueError, match=f"^`{name}` must be at least 0 and below 1; got {value}"):
        MMLatchConfig(**SIZES, **{name: value})


@pytest.mark.parametrize("name", DROPOUTS)
@pytest.mark.parametrize("value", [0, 0.99])
def test_dropout_in_range_is_taken(name, value):
    assert getattr(MMLatchConfig(**SIZES, **{name: value}), name) == value


@pytest.mark.parametrize("name", ["hidden_size", "num_hidden_layers", "num_attention_heads"])
@pytest.mark.parametrize("encoder", ["lstm", "mult"])
def test_size_below_one_is_named(name, encoder):
    for value in (0, -1):
        with pytest.raises(ValueError, match=f"^`{name}` must be at least 1; got {value}"):
            MMLatchConfig(encoder=encoder, **SIZES, **{name: value})


def test_heads_must_divide_the_width_of_mult_alone():
    MMLatchConfig(hidden_size=15, num_attention_heads=10, **SIZES)
    MMLatchConfig(hidden_size=15, num_attention_heads=5, encoder="mult", **SIZES)
    with pytest.raises(ValueError, match="`num_attention_heads` must divide `hidden_size`; got 10 and 15"):
        MMLatchConfig(hidden_size=15, num_attention_heads=10, encoder="mult", **SIZES)


@pytest.mark.parametrize(
    "name, value", [("encoder", "gru"), ("feedback", "gru"), ("fusion_pooling", "mean"), ("avt_residual", "no")]
)
def test_unknown_choice_is_named(name, value):
    with pytest.raises(StrictDataclassFieldValidationError, match=rf"\b{name}\b"):
        MMLatchConfig(**SIZES, **{name: value})
