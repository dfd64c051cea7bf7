"""Hierarchical Delta-Attention against its equations, written out with NumPy and plain Python, and its losses."""

import itertools
import math

import numpy as np
import pytest
import torch
from huggingface_hub.errors import StrictDataclassFieldValidationError
from torch import nn

from configuration import DeltaAttentionConfig
from modeling import DeltaAttentionModel

MODALITIES = ("text", "audio", "vision")
MASKS = {"text": "attention_mask", "audio": "audio_attention_mask", "vision": "vision_attention_mask"}
SIZES = {"text_feature_size": 4, "audio_feature_size": 5, "vision_feature_size": 3}
# Every width another one, and W_RelPos shorter than some sequences.
SMALL = {"hidden_size": 6, "num_attention_heads": 3, "max_steps": 4, "correlation_size": 2, "fusion_size": 8}
DROPOUTS = ("attention_dropout", "output_dropout")

ALIGNED = {"text": (4, 1, 3), "audio": (4, 1, 3), "vision": (4, 1, 3)}
UNALIGNED = {"text": (3, 1, 4), "audio": (7, 5, 2), "vision": (2, 3, 4)}
# Without one modality, without two, without any.
MISSING = {
    "text": (0, 4, 3, 2, 0, 0, 0),
    "audio": (5, 0, 2, 0, 3, 0, 0),
    "vision": (3, 3, 0, 0, 0, 6, 0),
}
LENGTHS = pytest.mark.parametrize("lengths", [UNALIGNED, MISSING], ids=["unaligned", "missing"])
EMOTION = torch.tensor([5, 0, 2, 1, 3, 4, 0])
every_modality = pytest.mark.parametrize("modality", MODALITIES)


def small_model(**changes):
    """In double precision and evaluation, and no weight near what it starts from."""
    model = DeltaAttentionModel(DeltaAttentionConfig(**{**SIZES, **SMALL, **changes})).double().eval()
    torch.manual_seed(1)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.6)
    return model


def small_samples(config, lengths, seed=0):
    """By row, (T, d) of each modality, T being 0 where the sample lacks it."""
    random = np.random.default_rng(seed)
    sizes = {modality: getattr(config, f"{modality}_feature_size") for modality in config.modalities}
    rows = len(next(iter(lengths.values())))
    return [{m: random.normal(size=(lengths[m][row], size)) for m, size in sizes.items()} for row in range(rows)]


def to_batch(samples):
    """forward's arguments, with NaN and more steps than needed in the padding."""
    batch = {}
    for modality, first in samples[0].items():
        steps = max(len(sample[modality]) for sample in samples) + 2
        values = np.full((len(samples), steps, first.shape[1]), np.nan)
        for row, sample in enumerate(samples):
            values[row, : len(sample[modality])] = sample[modality]
        batch[f"{modality}_values"] = torch.from_numpy(values)
        batch[MASKS[modality]] = torch.from_numpy(~np.isnan(values[:, :, 0])).long()
    return batch


def softmax(scores):
    exponents = np.exp(np.array(scores) - max(scores))
    return exponents / exponents.sum()


class Reference:
    """
    The network of one sample, step by step, head by head, query by query and key by key. A modality that the sample
    lacks has no steps anywhere.
    """

    def __init__(self, model):
        self.config, self.read = model.config, set()
        self.weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}

    def weight(self, name):
        self.read.add(name)
        return self.weights[name]

    def linear(self, name, x):
        return self.weight(f"{name}.weight") @ x + self.weight(f"{name}.bias")

    def convolution(self, name, steps):
        """Zeros beyond the ends."""
        weight, result = self.weight(f"{name}.convolution.weight"), []
        for n in range(len(steps)):
            result.append(self.weight(f"{name}.convolution.bias").copy())
            for k in range(weight.shape[2]):
                source = n + k - weight.shape[2] // 2
                if 0 <= source < len(steps):
                    result[-1] += weight[:, :, k] @ steps[source]
        return result

    def reaches(self, i, j):
        config = self.config
        near = config.window is None or abs(i - j) <= config.window
        return near and (config.direction == "both" or i == j or (j > i) == (config.direction == "future"))

    def relative(self, name, steps, i, j):
        """(x_j - x_i) . w_c, c being the key step or the offset, or the last one that there is."""
        most = self.config.max_steps
        if self.config.relative_index == "key":
            column = min(j, most - 1)
        else:
            column = min(max(j - i, -(most // 2)), most // 2) + most // 2
        return (steps[j] - steps[i]) @ self.weight(f"{name}.delta.weight")[column]

    def delta_attention(self, name, steps):
        """softmax((Q K^T + RPE) / sqrt(d_k)) V, then W_O."""
        query, key, value = ([self.linear(f"{name}.{kind}", x) for x in steps] for kind in ("query", "key", "value"))
        result = []
        for i in range(len(steps)):
            near, found = [j for j in range(len(steps)) if self.reaches(i, j)], []
            for part in np.split(np.arange(len(steps[0])), self.config.num_attention_heads):
                scores = [query[i][part] @ key[j][part] + self.relative(name, steps, i, j) for j in near]
                shares = softmax(np.array(scores) / math.sqrt(len(part)))
                found.append(sum(share * value[j][part] for share, j in zip(shares, near, strict=True)))
            result.append(self.linear(f"{name}.output", np.concatenate(found)))
        return result

    def branch(self, modality, steps):
        values = self.convolution(f"branches.{modality}.convolution", steps)
        for number in range(self.config.num_hidden_layers):
            values = self.delta_attention(f"branches.{modality}.attentions.{number}", values)
        return values

    def encoder(self, modality, steps):
        inner = self.convolution(f"encoders.{modality}.inner", steps)
        return self.convolution(f"encoders.{modality}.outer", [np.maximum(step, 0) for step in inner])

    def cross_attention(self, steps):
        query, key, value = ([self.linear(f"attention.{kind}", x) for x in steps] for kind in ("query", "key", "value"))
        result = []
        for i in range(len(steps)):
            found = []
            for part in np.split(np.arange(self.config.fusion_size), self.config.fusion_heads):
                shares = softmax([query[i][part] @ other[part] / math.sqrt(len(part)) for other in key])
                found.append(sum(share * other[part] for share, other in zip(shares, value, strict=True)))
            result.append(np.concatenate(found))
        return result

    def pooled(self, steps, width):
        if not len(steps):
            return np.zeros(width)
        return sum(steps) / len(steps) if self.config.pooling == "mean" else steps[-1]

    def sample(self, sample):
        """States, unimodal predictions, encodings, the fused state and the prediction from it."""
        config, states, answers, encoded, parts = self.config, {}, {}, {}, {}
        for modality, values in sample.items():
            attended = self.branch(modality, values)
            states[modality] = self.pooled(attended, config.hidden_size)
            answers[modality] = self.linear(f"unimodal_outputs.{modality}", states[modality])
            encoded[modality] = parts[modality] = self.encoder(modality, attended)
            if config.skip_connections:
                skipped = [self.linear(f"skips.{modality}", step) for step in attended]
                parts[modality] = [a + b for a, b in zip(encoded[modality], skipped, strict=True)]
        joined = [step for part in parts.values() for step in part]
        width = config.correlation_size
        if config.cross_attention:
            joined, width = self.cross_attention(joined), config.fusion_size
        fused = self.pooled(joined, width)
        if config.pooling == "last" and joined:
            ends = np.cumsum([len(part) for part in parts.values()])
            last = [joined[end - 1] for end, part in zip(ends, parts.values(), strict=True) if part]
            fused = sum(last) / len(last)
        if all(parts.values()):
            assert self.read == set(self.weights) - {"output.weight", "output.bias"}
        return states, answers, encoded, fused, self.linear("output", fused)


def resampled(steps, want):
    """Step n of N: the mean over the steps from floor(n L / N) to ceil((n + 1) L / N) of L."""
    have = len(steps)
    bounds = [(math.floor(n * have / want), math.ceil((n + 1) * have / want)) for n in range(want)]
    return [sum(steps[start:end]) / (end - start) for start, end in bounds]


def canonical(pairs, regularization):
    """The nuclear norm of S11^(-1/2) S12 S22^(-1/2), of observations side by side; none of fewer than two."""
    if len(pairs) < 2:
        return 0.0
    views, roots = [np.array(view) - np.mean(view, axis=0) for view in zip(*pairs, strict=True)], []
    for view in views:
        values, vectors = np.linalg.eigh(view.T @ view / (len(view) - 1) + regularization * np.eye(view.shape[1]))
        roots.append(vectors @ np.diag(values**-0.5) @ vectors.T)
    shared = views[0].T @ views[1] / (len(pairs) - 1)
    return np.linalg.svd(roots[0] @ shared @ roots[1], compute_uv=False).sum()


def expected_correlation(model, samples):
    """Over all pairs of modalities; the steps of each sample are those of the first modality that it has."""
    total = 0.0
    encoded = [Reference(model).sample(sample)[2] for sample in samples]
    for first, second in itertools.combinations(model.config.modalities, 2):
        pairs = []
        for parts in encoded:
            leading = next((len(part) for part in parts.values() if part), 0)
            if parts[first] and parts[second]:
                pairs += zip(resampled(parts[first], leading), resampled(parts[second], leading), strict=True)
        total += canonical(pairs, model.config.correlation_regularization)
    return total


def assert_equals_the_equations(model, samples, output):
    for row, sample in enumerate(samples):
        states, answers, _, fused, prediction = Reference(model).sample(sample)
        for modality, state in states.items():
            np.testing.assert_allclose(output[f"{modality}_state"][row].detach().numpy(), state, atol=1e-9)
            found = output[f"{modality}_logits"][row].detach().numpy()
            np.testing.assert_allclose(found, answers[modality], atol=1e-9)
        found = output.fusion_state[row].detach().numpy()
        np.testing.assert_allclose(found, fused, atol=1e-9, err_msg=f"row {row}")
        np.testing.assert_allclose(output.logits[row].detach().numpy(), prediction, atol=1e-9)


@pytest.mark.parametrize("cross_attention", [True, False])
@pytest.mark.parametrize("skip_connections", [True, False])
@pytest.mark.parametrize("pooling", ["mean", "last"])
@LENGTHS
def test_forward_equals_the_equations(cross_attention, skip_connections, pooling, lengths):
    model = small_model(cross_attention=cross_attention, skip_connections=skip_connections, pooling=pooling)
    samples = small_samples(model.config, lengths)
    with torch.no_grad():
        output = model(**to_batch(samples))
    assert_equals_the_equations(model, samples, output)
    assert output.fusion_state.abs().max() > 0.05  # not a comparison of zeros


@pytest.mark.parametrize(
    "changes",
    [
        {"relative_index": "offset", "num_hidden_layers": 2},
        {"relative_index": "offset", "max_steps": 3, "window": 1, "direction": "past"},
        {"direction": "future", "window": 2, "kernel_size": 1, "num_attention_heads": 1},
        {"kernel_size": 5, "fusion_heads": 4, "correlation_size": 3, "max_steps": 64},
        {"window": 0, "target": "emotions", "hidden_size": 9},
    ],
    ids=str,
)
def test_forward_with_other_settings(changes):
    model = small_model(**changes)
    samples = small_samples(model.config, UNALIGNED)
    with torch.no_grad():
        assert_equals_the_equations(model, samples, model(**to_batch(samples)))


@pytest.mark.parametrize("present", [("audio",), ("text", "vision")], ids="+".join)
def test_corpus_without_a_modality(present):
    model = small_model(**{f"{modality}_feature_size": None for modality in MODALITIES if modality not in present})
    samples = small_samples(model.config, UNALIGNED)
    output = model(**to_batch(samples), labels=EMOTION[:3])
    assert_equals_the_equations(model, samples, output)
    assert output.correlation.item() == pytest.approx(expected_correlation(model, samples), abs=1e-6)
    assert (output.correlation == 0) == (len(present) == 1)


# --- objectives ------------------------------------------------------------------------------------------------------


def cross_entropy(prediction, label):
    return -math.log(softmax(prediction)[label])


def expected_loss(model, samples, labels):
    """From its parts: every prediction's error, a modality's over the samples that have it, and the correlation."""
    config = model.config
    found = [Reference(model).sample(sample) for sample in samples]
    correlation = expected_correlation(model, samples)
    fusion = np.mean([cross_entropy(parts[4], label) for parts, label in zip(found, labels, strict=True)])
    alone = {}
    for modality in config.modalities:
        errors = [
            cross_entropy(parts[1][modality], label)
            for parts, sample, label in zip(found, samples, labels, strict=True)
            if len(sample[modality])
        ]
        alone[modality] = np.mean(errors) if errors else 0.0
    if config.objective == "all":
        return fusion - config.correlation_weight * correlation + config.unimodal_weight * sum(alone.values())
    return {"correlation": -correlation, "fusion": fusion, **alone}[config.objective]


@pytest.mark.parametrize("lengths", [ALIGNED, UNALIGNED, MISSING], ids=["aligned", "unaligned", "missing"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"correlation_weight": 0.7, "unimodal_weight": 0.3},
        {"correlation_weight": 0, "unimodal_weight": 0},
        {"objective": "text"},
        {"objective": "audio"},
        {"objective": "vision"},
        {"objective": "correlation", "correlation_regularization": 0.1},
        {"objective": "fusion"},
    ],
    ids=str,
)
def test_loss_of_every_objective(changes, lengths):
    model = small_model(**changes)
    samples = small_samples(model.config, lengths)
    labels = EMOTION[: len(samples)]
    output = model(**to_batch(samples), labels=labels)
    assert output.loss.item() == pytest.approx(expected_loss(model, samples, labels.tolist()), abs=1e-5)
    if model.config.objective in ("all", "correlation"):
        assert output.correlation.item() == pytest.approx(expected_correlation(model, samples), abs=1e-6)
        assert 0 < output.correlation < 3 * 2
    else:
        assert output.correlation is None
    without = model(**to_batch(samples))
    assert without.loss is None and without.correlation is None  # it belongs to a batch that is trained on


LABELS = {
    "sentiment": torch.tensor([1.5, -2.0, 0.25, 0.0, 3.0, -1.0, 0.5]),
    "emotions": torch.eye(7, 6) + torch.eye(7, 6).roll(2, 1),
    "sentiment7": torch.tensor([6, 0, 3, 2, 5, 1, -100]),  # the last one has no label
}


@pytest.mark.parametrize("target", LABELS)
@pytest.mark.parametrize("objective", ["all", "audio"])
def test_loss_of_other_targets(target, objective):
    """Each prediction's is that of the base class, of the samples that have the modality."""
    model = small_model(target=target, objective=objective)
    batch, labels = to_batch(small_samples(model.config, MISSING)), LABELS[target]
    with torch.no_grad():
        output = model(**batch, labels=labels)
        alone = {
            modality: model.prediction_loss(output[f"{modality}_logits"], labels, torch.tensor(MISSING[modality]) > 0)
            for modality in (MODALITIES if objective == "all" else [objective])
        }
        expected = alone["audio"]
        if objective == "all":
            expected = model.prediction_loss(output.logits, labels) + sum(alone.values()) - 0.02 * output.correlation
    torch.testing.assert_close(output.loss, expected)


@every_modality
def test_objective_of_a_modality_is_its_branch_alone(modality):
    """What a later stage trains is as it was: it has no gradient, not even zeros that weight decay would act on."""
    model, whole = small_model(objective=modality), small_model()
    samples = small_samples(model.config, UNALIGNED)
    output = model(**to_batch(samples), labels=EMOTION[:3])
    output.loss.backward()
    own = (f"branches.{modality}.", f"unimodal_outputs.{modality}.")
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == name.startswith(own), name
    expected = whole(**to_batch(samples))
    torch.testing.assert_close(output.logits, expected[f"{modality}_logits"])
    torch.testing.assert_close(output[f"{modality}_state"], expected[f"{modality}_state"])
    assert output.fusion_state is None
    for other in set(MODALITIES) - {modality}:
        assert f"{other}_state" not in output and f"{other}_logits" not in output


@pytest.mark.parametrize("objective", ["text", "vision", "fusion"])
def test_text_encoder_learns_from_objectives_that_read_text(objective):
    text_config = {"vocab_size": 20, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
    text_config |= {"num_attention_heads": 2, "max_position_embeddings": 8}
    model = small_model(text_feature_size=None, text_config=text_config, objective=objective)
    batch = {f"{m}_values": torch.ones(3, 2, SIZES[f"{m}_feature_size"]) for m in ("audio", "vision")}
    model(input_ids=torch.tensor([[3, 4, 5], [6, 7, 8], [9, 3, 4]]), labels=EMOTION[:3], **batch).loss.backward()
    gradient = model.text_encoder.embeddings.word_embeddings.weight.grad
    assert gradient is None if objective == "vision" else gradient.any()


@every_modality
def test_objective_of_a_modality_that_no_sample_has(modality):
    model = small_model(objective=modality)
    batch = to_batch(small_samples(model.config, {**UNALIGNED, modality: (0, 0, 0)}))
    output = model(**batch, labels=EMOTION[:3])
    assert output.loss.item() == 0
    output.loss.backward()
    for name, parameter in model.named_parameters():
        if name.startswith(f"branches.{modality}."):
            assert not parameter.grad.any(), name


@pytest.mark.parametrize(
    "objective, trained",
    [
        ("correlation", ("branches.", "encoders.")),
        ("fusion", ("branches.", "encoders.", "skips.", "attention.", "output.")),
        ("all", ("branches.", "encoders.", "skips.", "attention.", "output.", "unimodal_outputs.")),
    ],
)
def test_what_the_other_objectives_train(objective, trained):
    model = small_model(objective=objective)
    model(**to_batch(small_samples(model.config, UNALIGNED)), labels=EMOTION[:3]).loss.backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == name.startswith(trained), name
        # Adding the same to all scores leaves a softmax as it is, and to all observations a correlation.
        free = name.endswith("key.bias") or (objective == "correlation" and name.endswith("outer.convolution.bias"))
        if name.startswith(trained) and not free:
            assert parameter.grad.abs().max() > 1e-12, name


@pytest.mark.parametrize("objective", ["correlation", "fusion", "all"])
def test_logits_are_those_from_all_modalities(objective):
    model = small_model(objective=objective)
    samples = small_samples(model.config, UNALIGNED)
    with torch.no_grad():
        assert_equals_the_equations(model, samples, model(**to_batch(samples)))


def test_correlation_is_over_the_steps_of_the_leading_modality():
    """Text where the sample has it, else audio: a pair that a sample lacks one of has no observations of it."""
    model = small_model(objective="correlation")
    samples = small_samples(model.config, {"text": (4, 0, 3), "audio": (2, 5, 0), "vision": (6, 3, 3)})
    with torch.no_grad():
        found = model(**to_batch(samples), labels=EMOTION[:3]).correlation.item()
    encoded = [Reference(model).sample(sample)[2] for sample in samples]
    text, audio, vision = ([parts[modality] for parts in encoded] for modality in MODALITIES)
    pairs = [
        zip(text[0], resampled(audio[0], 4), strict=True),
        [*zip(text[0], resampled(vision[0], 4), strict=True), *zip(text[2], vision[2], strict=True)],
        [
            *zip(resampled(audio[0], 4), resampled(vision[0], 4), strict=True),
            *zip(audio[1], resampled(vision[1], 5), strict=True),
        ],
    ]
    assert found == pytest.approx(sum(canonical(list(pair), 1e-3) for pair in pairs), abs=1e-6)


@pytest.mark.parametrize(
    "lengths",
    [
        {"text": (1,), "audio": (4,), "vision": (3,)},  # one observation
        {"text": (3, 0, 0), "audio": (0, 4, 0), "vision": (0, 0, 2)},  # of no pair any
    ],
    ids=["one", "none"],
)
def test_batch_with_too_few_observations_has_no_correlation(lengths):
    model = small_model(objective="correlation")
    output = model(**to_batch(small_samples(model.config, lengths)), labels=EMOTION[: len(lengths["text"])])
    assert output.correlation == output.loss == 0
    output.loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is None or torch.isfinite(parameter.grad).all(), name


# --- sizes and dropout -----------------------------------------------------------------------------------------------


def test_parameter_counts():
    """Every further layer adds d_ch x T relative weights (section 4.1) to those of an attention."""
    sizes = []
    for layers in (1, 2):
        config = DeltaAttentionConfig(num_hidden_layers=layers, max_steps=100, **SIZES)
        sizes.append(DeltaAttentionModel(config).num_parameters())
    attention = 4 * (40**2 + 40) + 40 * 100
    assert sizes[1] - sizes[0] == 3 * attention
    branches = sum(40 * (3 * width + 1) for width in SIZES.values()) + 3 * attention
    encoders, skips = 3 * (40 * (3 * 40 + 1) + 16 * (3 * 40 + 1)), 3 * 16 * 41
    outputs, fusion = 3 * 6 * 41, 3 * 40 * 17 + 6 * 41
    assert sizes[0] == branches + encoders + skips + outputs + fusion


@pytest.mark.parametrize("switch, gone", [("cross_attention", "attention."), ("skip_connections", "skips.")])
def test_parts_that_are_left_out(switch, gone):
    whole, without = (set(dict(small_model(**changes).named_parameters())) for changes in ({}, {switch: False}))
    assert without == {name for name in whole if not name.startswith(gone)} != whole


STATES = {f"{modality}_state" for modality in MODALITIES}
ALONE = {f"{modality}_logits" for modality in MODALITIES}


@pytest.mark.parametrize(
    "changes, differing",
    [
        ({}, set()),
        ({"attention_dropout": 0.5}, STATES | ALONE | {"fusion_state", "logits"}),
        ({"output_dropout": 0.5}, ALONE | {"logits"}),
        ({"output_dropout": 0.5, "objective": "audio"}, {"logits", "audio_logits"}),
    ],
    ids=lambda value: "+".join(sorted(value)) or "none",
)
def test_dropout_is_where_the_configuration_puts_it(changes, differing):
    """Nothing else is random: with all dropout off, training and evaluation answer alike."""
    model = small_model(**{**dict.fromkeys(DROPOUTS, 0.0), **changes})
    batch = to_batch(small_samples(model.config, UNALIGNED))
    with torch.no_grad():
        steady, torn = model(**batch), model.train()(**batch)
    assert {name for name in steady if not torch.equal(steady[name], torn[name])} == differing


def test_attention_over_the_fused_sequence_has_dropout_of_its_own():
    model = small_model(**{**dict.fromkeys(DROPOUTS, 0.0), "attention_dropout": 0.5})
    batch = to_batch(small_samples(model.config, UNALIGNED))
    with torch.no_grad():
        steady = model(**batch)
        model.attention.train()
        torn = model(**batch)
    assert {name for name in steady if not torch.equal(steady[name], torn[name])} == {"fusion_state", "logits"}


# --- configuration ---------------------------------------------------------------------------------------------------


def test_defaults():
    config = DeltaAttentionConfig(**SIZES)
    assert (config.target, config.num_labels, config.objective) == ("emotion", 6, "all")
    assert (config.relative_index, config.direction, config.window) == ("key", "both", None)
    assert config.cross_attention and config.skip_connections and config.pooling == "mean"


@pytest.mark.parametrize(
    "fields, words",
    [
        ({"kernel_size": 4}, ["`kernel_size` must be odd", "4"]),
        ({"kernel_size": 0}, ["`kernel_size`", "0"]),
        ({"kernel_size": -3}, ["`kernel_size`", "-3"]),
        ({"window": -1}, ["`window`", "at least 0", "-1"]),
        ({"num_attention_heads": 3}, ["`num_attention_heads` must divide `hidden_size`", "3 and 40"]),
        ({"fusion_heads": 3}, ["`fusion_heads` must divide `fusion_size`", "3 and 40"]),
        ({"fusion_heads": 0}, ["`fusion_heads`", "0"]),
        ({"max_steps": 0}, ["`max_steps`", "0"]),
        ({"num_hidden_layers": 0}, ["`num_hidden_layers`", "0"]),
        ({"correlation_size": 0}, ["`correlation_size`", "0"]),
        ({"correlation_regularization": 0}, ["`correlation_regularization` must be above 0", "got 0"]),
        ({"correlation_regularization": -1e-3}, ["`correlation_regularization`", "-0.001"]),
        ({"correlation_weight": -0.1}, ["`correlation_weight`", "-0.1"]),
        ({"unimodal_weight": -1}, ["`unimodal_weight`", "-1"]),
        ({"attention_dropout": 1.0}, ["`attention_dropout`", "1.0"]),
        ({"output_dropout": float("nan")}, ["`output_dropout`", "nan"]),
    ],
    ids=str,
)
def test_values_outside_the_rules(fields, words):
    with pytest.raises(ValueError) as error:
        DeltaAttentionConfig(**SIZES, **fields)
    assert all(word in str(error.value) for word in words), str(error.value)


@every_modality
def test_objective_of_a_modality_that_the_corpus_lacks(modality):
    sizes = {name: size for name, size in SIZES.items() if not name.startswith(modality)}
    with pytest.raises(ValueError, match=f"`objective` is '{modality}', but the corpus has no {modality}; it has "):
        DeltaAttentionConfig(objective=modality, **sizes)
    for objective in ("correlation", "fusion", "all"):
        DeltaAttentionConfig(objective=objective, **sizes)
    DeltaAttentionConfig(objective=modality)  # a recipe's, before its data says what the corpus has


@pytest.mark.parametrize("name", ["objective", "relative_index", "direction", "pooling"])
def test_unknown_choice_is_named(name):
    with pytest.raises(StrictDataclassFieldValidationError, match=rf"\b{name}\b"):
        DeltaAttentionConfig(**SIZES, **{name: "none"})
