"""UCRN against its equations, written out with NumPy and plain Python, and against its published size."""

import itertools
import math

import numpy as np
import pytest
import torch
from huggingface_hub.errors import StrictDataclassFieldValidationError
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from configuration import UcrnConfig
from modeling import UcrnModel
from modeling.modality_sequence import ModalitySequence
from modeling.modeling_ucrn import _RefinementLayer, _SelfQuality, jensen_shannon_divergence

MODALITIES = ("text", "audio", "vision")
MASKS = {"text": "attention_mask", "audio": "audio_attention_mask", "vision": "vision_attention_mask"}
SIZES = {"text_feature_size": 4, "audio_feature_size": 5, "vision_feature_size": 3}
CMU_MOSI = {"text_feature_size": 300, "audio_feature_size": 5, "vision_feature_size": 20}
TABLE_7 = {"refinement_layer": "mult", "num_hidden_layers": 3, "self_quality": "none", "crossmodal_axis": "features"}
DROPOUTS = ["attention_dropout", "relu_dropout", "residual_dropout", "embedding_dropout", "output_dropout"]
OFF = dict.fromkeys(DROPOUTS, 0.0)
LN_2 = math.log(2)

UNALIGNED = {"text": (3, 1, 4), "audio": (7, 5, 2), "vision": (2, 3, 4)}
# Without one modality, without two, without any.
MISSING = {
    "text": (0, 4, 3, 2, 0, 0, 0),
    "audio": (5, 0, 2, 0, 3, 0, 0),
    "vision": (3, 3, 0, 0, 0, 6, 0),
}
LENGTHS = pytest.mark.parametrize("lengths", [UNALIGNED, MISSING], ids=["unaligned", "missing"])


def scramble(module, std=0.5):
    """No weight near what it starts from, whose zero biases and unit scales would hide what is done with them."""
    torch.manual_seed(1)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=std)
    return module.double().eval()


def small_model(**changes):
    return scramble(UcrnModel(UcrnConfig(**{"hidden_size": 6, "num_hidden_layers": 2, **SIZES, **changes})))


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
    exponents = [math.exp(score - max(scores)) for score in scores]
    return [exponent / sum(exponents) for exponent in exponents]


def divergence(p, q):
    """Equation 7 of two distributions, class by class; 0 log 0 is 0."""

    def kullback_leibler(p, m):
        return sum(a * math.log(a / b) for a, b in zip(p, m, strict=True) if a > 0)

    middle = [(a + b) / 2 for a, b in zip(p, q, strict=True)]
    return (kullback_leibler(p, middle) + kullback_leibler(q, middle)) / 2


class Reference:
    """
    The network of one sample: layer by layer, head by head, query by query and key by key.

    Args:
        module: Of a model, or of a layer. `read` says which of its weights were used.
        heads (`int`): Of the attentions.
    """

    def __init__(self, module, heads):
        self.weights, self.read = {name: tensor.numpy() for name, tensor in module.state_dict().items()}, set()
        self.heads = heads

    def weight(self, name):
        self.read.add(name)
        return self.weights[name]

    def linear(self, name, x):
        mapped = self.weight(f"{name}.weight") @ x
        return mapped + self.weight(f"{name}.bias") if f"{name}.bias" in self.weights else mapped

    def norm(self, name, x):
        centred = x - x.mean()
        scaled = centred / math.sqrt((centred**2).mean() + 1e-5)
        return self.weight(f"{name}.weight") * scaled + self.weight(f"{name}.bias")

    def feed_forward(self, name, x):
        inner = np.maximum(self.linear(f"{name}.inner", self.norm(f"{name}.norm", x)), 0)
        return self.linear(f"{name}.outer", inner) + x

    def attend(self, query, keys, values):
        """Of one head and one query."""
        if not keys:
            return np.zeros(len(query))
        weights = softmax([query @ key / math.sqrt(len(query)) for key in keys])
        return sum(weight * value for weight, value in zip(weights, values, strict=True))

    def paper_layer(self, name, steps, counts=None):
        """Equations 3 to 5, of steps that attend to those that count."""
        counts = [True] * len(steps) if counts is None else counts
        width = len(steps[0]) // self.heads if len(steps) else 0

        def of_head(kind, head, x):
            prefix, part = f"{name}{kind}", slice(head * width, (head + 1) * width)
            return self.weight(f"{prefix}.weight")[head] @ x[part] + self.weight(f"{prefix}.bias")[part]

        result = []
        for step in steps:
            found = []
            for head in range(self.heads):
                there = [other for other, counted in zip(steps, counts, strict=True) if counted]
                keys, values = ([of_head(kind, head, other) for other in there] for kind in ("key", "value"))
                own = step[head * width : (head + 1) * width]
                found.append(self.attend(of_head("query", head, step), keys, values) + own)
            result.append(self.feed_forward(f"{name}feed_forward", self.linear(f"{name}joined", np.concatenate(found))))
        return result

    def mult_layer(self, name, steps):
        """x' = x + attention(LN(x)), then the feed-forward part."""
        normed, result = [self.norm(f"{name}norm", step) for step in steps], []
        query, key, value = (
            [np.split(self.linear(f"{name}attention.{kind}", step), self.heads) for step in normed]
            for kind in ("query", "key", "value")
        )
        for n, step in enumerate(steps):
            found = [
                self.attend(query[n][head], [k[head] for k in key], [v[head] for v in value])
                for head in range(self.heads)
            ]
            step = step + self.linear(f"{name}attention.output", np.concatenate(found))
            result.append(self.feed_forward(f"{name}feed_forward", step))
        return result

    def refine(self, config, name, steps, places=None):
        """Of steps at the given places, counted from 1; one after the other if there are none."""
        mult = config.refinement_layer == "mult"
        values = [step * (math.sqrt(len(step)) if mult else 1.0) for step in steps]
        if config.positions:
            for position, step in zip(places or itertools.count(1), values, strict=False):
                half = len(step) // 2
                angles = [position * 10_000 ** (-k / max(half - 1, 1)) for k in range(half)]
                step[: 2 * half] += [math.sin(angle) for angle in angles] + [math.cos(angle) for angle in angles]
        for number in range(config.num_hidden_layers):
            layer = self.mult_layer if mult else self.paper_layer
            values = layer(f"{name}.layers.{number}.", values)
        return [self.norm(f"{name}.norm", step) for step in values] if mult else values

    def self_quality(self, kind, name, state, refined):
        """x W_S, feature by feature."""
        if kind == "none":
            return state
        if kind == "steps":
            mean = sum(refined) / len(refined) if len(refined) else np.zeros(len(state))
            excited = self.linear(f"{name}excite", np.maximum(self.linear(f"{name}squeeze", mean), 0))
            return state / (1 + np.exp(-excited))
        pooled = np.array([state.mean()]) if kind == "features" else state
        return state * np.maximum(self.linear(f"{name}weighting", pooled), 0)


def expected_sample(model, sample):
    """The states of the modalities, the fused one, the prediction and the divergence of a sample."""
    config = model.config
    reference = Reference(model, config.num_attention_heads)
    size, nothing = config.hidden_size, np.zeros(config.hidden_size)
    states, weighted, present = {}, {}, [modality for modality in sample if len(sample[modality])]
    for modality, steps in sample.items():
        refined = [reference.linear(f"projections.{modality}", step) for step in steps]
        if config.refinement:
            refined = reference.refine(config, f"refinements.{modality}", refined)
        state = nothing if not refined else refined[-1] if config.pooling == "last" else sum(refined) / len(refined)
        states[modality] = state
        if modality in present:
            name = f"self_quality.{modality}."
            weighted[modality] = reference.self_quality(config.self_quality, name, state, refined)

    maps = {m: reference.linear("distribution", states[m]) if model.distribution else states[m] for m in present}
    total = sum(divergence(softmax(maps[a]), softmax(maps[b])) for a, b in itertools.combinations(present, 2))

    if config.crossmodal and config.crossmodal_axis == "modalities":
        # Audio is in the second place also where the sample has no text.
        places = [config.modalities.index(modality) + 1 for modality in weighted]
        refined = reference.refine(config, "crossmodal", list(weighted.values()), places)
        weighted = dict(zip(weighted, refined, strict=True))
    fused = np.concatenate([weighted.get(modality, nothing) for modality in config.modalities])
    if config.crossmodal and config.crossmodal_axis == "features":
        (fused,) = reference.refine(config, "crossmodal", [fused])
    assert len(fused) == size * len(config.modalities)
    inner = np.maximum(reference.linear("fusion.inner", fused), 0)
    prediction = reference.linear("output", fused + reference.linear("fusion.outer", inner))
    if len(present) == len(config.modalities):
        assert reference.read == set(reference.weights)
    return states, fused, prediction, total


@pytest.mark.parametrize("crossmodal_axis", ["modalities", "features"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"refinement_layer": "mult"},
        {"pooling": "mean", "self_quality": "vector", "divergence_map": "classes", "divergence_classes": 5},
        {"refinement_layer": "mult", "self_quality": "steps", "hidden_size": 8, "num_attention_heads": 2},
        {"positions": True, "self_quality": "none"},
        {"positions": True, "refinement_layer": "mult", "num_hidden_layers": 1, "hidden_size": 3},
        {"refinement": False, "self_quality": "steps"},
        {"crossmodal": False, "target": "emotions"},
    ],
    ids="-".join,
)
@LENGTHS
def test_forward_equals_the_equations(changes, crossmodal_axis, lengths):
    model = small_model(crossmodal_axis=crossmodal_axis, **changes)
    samples = small_samples(model.config, lengths)
    with torch.no_grad():
        output = model(**to_batch(samples))
    atol = 2e-5 if model.config.positions else 1e-9  # they are computed in single precision
    for row, sample in enumerate(samples):
        states, fused, prediction, total = expected_sample(model, sample)
        for modality, state in states.items():
            np.testing.assert_allclose(output[f"{modality}_state"][row].numpy(), state, atol=atol, rtol=atol)
        np.testing.assert_allclose(output.fusion_state[row].numpy(), fused, atol=atol, rtol=atol, err_msg=f"row {row}")
        np.testing.assert_allclose(output.logits[row].numpy(), prediction, atol=atol, rtol=atol)
        assert output.divergence[row].item() == pytest.approx(total, abs=2e-5)
    assert output.fusion_state.abs().max() > 0.05 and output.divergence.max() > 0.01  # not a comparison of zeros


@pytest.mark.parametrize("present", [("audio",), ("text", "vision")], ids="+".join)
@pytest.mark.parametrize("crossmodal_axis", ["modalities", "features"])
def test_corpus_without_a_modality(present, crossmodal_axis):
    absent = {f"{modality}_feature_size": None for modality in MODALITIES if modality not in present}
    model = small_model(crossmodal_axis=crossmodal_axis, divergence_map="classes", **absent)
    assert (model.distribution is None) == (len(present) == 1)  # it would have nothing to learn from
    samples = small_samples(model.config, UNALIGNED)
    with torch.no_grad():
        output = model(**to_batch(samples))
    for row, sample in enumerate(samples):
        _, fused, prediction, total = expected_sample(model, sample)
        np.testing.assert_allclose(output.fusion_state[row].numpy(), fused, atol=1e-9)
        np.testing.assert_allclose(output.logits[row].numpy(), prediction, atol=1e-9)
        assert output.divergence[row].item() == pytest.approx(total, abs=1e-6)


@pytest.mark.parametrize("heads", [1, 2, 3])
def test_refinement_layer_equals_the_equations(heads):
    """Wherever the steps are that count; where none does, a head returns zeros."""
    layer = scramble(_RefinementLayer(6, heads, 0.9, 0.9, 0.9))
    rows = ["1111", "1100", "0011", "1001", "0100", "0000"]
    mask = torch.tensor([[step == "1" for step in row] for row in rows])
    values = torch.randn(len(rows), 4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = layer(values, mask).numpy()
    for row, steps in enumerate(values.numpy()):
        reference = Reference(layer, heads)
        expected = reference.paper_layer("", list(steps), mask[row].tolist())
        np.testing.assert_allclose(found[row], expected, atol=1e-10, err_msg=rows[row])


@pytest.mark.parametrize("kind", ["features", "vector", "steps"])
@pytest.mark.parametrize("size, squeezed", [(6, 1), (31, 1), (48, 3)])
def test_self_quality_equals_the_equation(kind, size, squeezed):
    module = scramble(_SelfQuality(size, kind))
    inner = {"features": 1, "vector": size, "steps": squeezed}[kind]
    count = size * inner + size if kind != "steps" else 2 * size * inner
    assert sum(parameter.numel() for parameter in module.parameters()) == count
    generator = torch.Generator().manual_seed(0)
    lengths = torch.tensor([4, 1, 3, 0])
    state = torch.randn(4, size, dtype=torch.float64, generator=generator)
    steps = torch.randn(4, 5, size, dtype=torch.float64, generator=generator)
    refined = ModalitySequence(steps, torch.arange(5) < lengths[:, None])
    with torch.no_grad():
        found = module(state, refined).numpy()
    for row, length in enumerate(lengths):
        reference = Reference(module, 1)
        expected = reference.self_quality(kind, "", state[row].numpy(), list(steps[row, :length].numpy()))
        np.testing.assert_allclose(found[row], expected, atol=1e-12)
        assert reference.read == set(reference.weights)


@pytest.mark.parametrize("kind", ["features", "vector"])
def test_self_quality_starts_near_one(kind):
    """Also once the model's own initialisation has gone over it: a ReLU of weights around zero silences half."""
    model = UcrnModel(UcrnConfig(self_quality=kind, **SIZES))
    for layers in model.self_quality.values():
        assert torch.equal(layers.weighting.bias, torch.ones(30)) and layers.weighting.weight.abs().min() > 0


def test_any_length_after_any_other():
    """The authors' code has learned weights per step, so that what it reads is always as long."""
    model = small_model(positions=True)
    for length in (1, 3, 25):
        samples = small_samples(model.config, {"text": (length,), "audio": (2 * length,), "vision": (1,)})
        with torch.no_grad():
            found = model(**to_batch(samples)).logits[0].numpy()
        np.testing.assert_allclose(found, expected_sample(model, samples[0])[2], atol=2e-5, rtol=2e-5)


# --- sizes -----------------------------------------------------------------------------------------------------------


def layer_size(d):
    """A pre-normalised transformer layer: attention 4 d (d + 1), feed-forward 8 d^2 + 5 d, two normalisations."""
    return 12 * d**2 + 13 * d


@pytest.mark.parametrize("self_quality, published", [("none", 422_401), ("steps", 422_581)])
def test_published_parameter_counts(self_quality, published):
    """Table 7; and with the authors' squeeze and excitation, 30 to 1 to 30 without biases, of each modality."""
    model = UcrnModel(UcrnConfig(**{**TABLE_7, "self_quality": self_quality}, **CMU_MOSI))
    assert model.num_parameters() == published
    count = {name: sum(p.numel() for p in child.parameters()) for name, child in model.named_children()}
    assert count["projections"] == 30 * (300 + 5 + 20)
    assert count["refinements"] == 3 * (3 * layer_size(30) + 60)
    assert count["crossmodal"] == 3 * layer_size(90) + 180
    assert count["fusion"] + count["output"] == 2 * (90**2 + 90) + 91
    assert count["self_quality"] == published - 422_401


def test_a_layer_of_the_paper_is_smaller():
    """Its heads' projections see a third of the width each, and it has one normalisation."""
    layer = UcrnModel(UcrnConfig(**CMU_MOSI)).refinements["text"].layers[0]
    heads = 3 * (3 * 10**2 + 30)
    assert sum(p.numel() for p in layer.parameters()) == heads + (30**2 + 30) + 2 * 30 + 8 * 30**2 + 5 * 30


@pytest.mark.parametrize(
    "switch, gone",
    [
        ({"refinement": False}, "refinements."),
        ({"crossmodal": False}, "crossmodal."),
        ({"self_quality": "none"}, "self_quality."),
        ({"divergence_weight": 0}, "distribution."),
    ],
)
def test_parts_that_table_6_leaves_out(switch, gone):
    whole, without = (
        {
            name: tuple(tensor.shape)
            for name, tensor in small_model(divergence_map="classes", **changes).named_parameters()
        }
        for changes in ({}, switch)
    )
    left = {name: shape for name, shape in whole.items() if not name.startswith(gone)}
    assert without == left != whole


@pytest.mark.parametrize("changes, layers", [({}, 5), ({"num_hidden_layers": 2}, 2)])
def test_the_configuration_reaches_every_refinement(changes, layers):
    dropouts = {"attention_dropout": 0.11, "relu_dropout": 0.12, "residual_dropout": 0.13, "embedding_dropout": 0.14}
    for kind in ("paper", "mult"):
        model = UcrnModel(UcrnConfig(refinement_layer=kind, positions=True, **SIZES, **dropouts, **changes))
        for module in (*model.refinements.values(), model.crossmodal):
            assert len(module.layers) == layers and module.dropout.p == 0.14 and module.positions
            for layer in module.layers:
                attention = layer if kind == "paper" else layer.attention
                assert (attention.heads, attention.attention_dropout if kind == "paper" else attention.dropout) == (
                    3,
                    0.11,
                )
                assert (layer.feed_forward.relu_dropout.p, layer.feed_forward.residual_dropout.p) == (0.12, 0.13)


STATES = {"text_state", "audio_state", "vision_state"}


@pytest.mark.parametrize("refinement_layer", ["paper", "mult"])
@pytest.mark.parametrize(
    "changes, differing",
    [
        ({}, set()),
        *(({name: 0.5}, STATES | {"divergence", "fusion_state", "logits"}) for name in DROPOUTS[:4]),
        *(({name: 0.5, "refinement": False}, {"fusion_state", "logits"}) for name in DROPOUTS[:4]),
        *(({name: 0.5, "refinement": False, "crossmodal": False}, set()) for name in DROPOUTS[:4]),
        ({"output_dropout": 0.5}, {"logits"}),
    ],
    ids=lambda value: "+".join(sorted(value)) or "none",
)
def test_dropout_is_where_the_configuration_puts_it(refinement_layer, changes, differing):
    """Nothing else is random: with all dropout off, training and evaluation answer alike."""
    model = small_model(refinement_layer=refinement_layer, **{**OFF, **changes})
    batch = to_batch(small_samples(model.config, UNALIGNED))
    with torch.no_grad():
        steady, torn = model(**batch), model.train()(**batch)
    assert {name for name in steady if not torch.equal(steady[name], torn[name])} == differing


# --- the axis of the crossmodal refinement ---------------------------------------------------------------------------


@pytest.mark.parametrize("refinement_layer", ["paper", "mult"])
@pytest.mark.parametrize("crossmodal_axis", ["features", "modalities"])
def test_attention_to_a_single_step_never_learns_where_to_look(refinement_layer, crossmodal_axis):
    """
    Along the features there is one step: its weight is 1, whatever its query and key are. The gradients are exactly
    zero in the plain softmax; the fused kernel's are rounding errors.
    """
    model = small_model(refinement_layer=refinement_layer, crossmodal_axis=crossmodal_axis)
    batch = to_batch(small_samples(model.config, UNALIGNED))
    with sdpa_kernel(SDPBackend.MATH):
        output = model(**batch, labels=torch.tensor([1.0, -2.0, 0.5]))
        output.loss.backward()
    silent = []
    for name, parameter in model.named_parameters():
        if crossmodal_axis == "features" and name.startswith("crossmodal.") and (".query." in name or ".key." in name):
            assert not parameter.grad.any(), name
            silent.append(parameter)
        elif not name.endswith("key.bias"):  # adding the same to all scores leaves a softmax as it is
            assert parameter.grad.abs().max() > 1e-12, name
    assert len(silent) == (8 if crossmodal_axis == "features" else 0)
    for parameter in silent:
        nn.init.normal_(parameter)
    torch.testing.assert_close(model(**batch).logits, output.logits, atol=1e-12, rtol=0)


def test_a_modality_is_changed_by_those_that_the_sample_has():
    """Along the modalities, its part of the fused state is zeros where the sample lacks it, and sees no absent one."""
    model = small_model()
    samples = small_samples(model.config, MISSING)
    with torch.no_grad():
        whole = model(**to_batch(samples)).fusion_state.unflatten(1, (3, 6))
    for row, sample in enumerate(samples):
        for position, modality in enumerate(MODALITIES):
            assert whole[row, position].any() == bool(len(sample[modality]))


# --- divergence ------------------------------------------------------------------------------------------------------


def test_divergence_equals_the_loop():
    first, second = torch.randn(2, 7, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 3
    found = jensen_shannon_divergence(first, second)
    assert found.shape == (7,) and found.dtype == torch.float32
    expected = [divergence(softmax(p), softmax(q)) for p, q in zip(first.tolist(), second.tolist(), strict=True)]
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)
    torch.testing.assert_close(found, jensen_shannon_divergence(second, first))
    torch.testing.assert_close(found, jensen_shannon_divergence(first + 5, second - 3))  # no probability changes


def test_divergence_is_the_square_of_scipys_distance():
    distance = pytest.importorskip("scipy.spatial.distance")
    first, second = torch.randn(2, 7, 5, generator=torch.Generator().manual_seed(1)) * 3
    expected = distance.jensenshannon(first.softmax(-1).numpy(), second.softmax(-1).numpy(), axis=1) ** 2
    np.testing.assert_allclose(jensen_shannon_divergence(first, second).numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("scale", [1.0, 30.0, 1e4])
def test_divergence_of_equal_distributions_is_zero(scale):
    logits = torch.randn(20, 6, generator=torch.Generator().manual_seed(0)) * scale
    torch.testing.assert_close(jensen_shannon_divergence(logits, logits.clone()), torch.zeros(20), atol=1e-6, rtol=0)


@pytest.mark.parametrize("scale", [3.0, 40.0, 1e4, -1e4])
def test_divergence_of_distributions_that_share_nothing(scale):
    """ln 2 is never exceeded, and reached where probabilities underflow: there is no NaN, nor in the gradient."""
    logits = (torch.eye(4) * scale).requires_grad_()
    found = jensen_shannon_divergence(logits.unsqueeze(0), logits.unsqueeze(1))  # of every pair
    found.sum().backward()
    assert torch.isfinite(found).all() and torch.isfinite(logits.grad).all()
    assert found.min() > -1e-6 and found.max() < LN_2 + 1e-6
    if scale >= 40:
        torch.testing.assert_close(found.detach(), LN_2 * (1 - torch.eye(4)), atol=1e-6, rtol=0)


@pytest.mark.parametrize("scale, atol", [(20.0, 1e-4), (1e4, 1e-6)])
def test_divergence_of_a_sample_approaches_three_ln_two(scale, atol):
    """States of the three modalities that each have a feature of their own."""
    model = small_model(refinement=False)
    for position, projection in enumerate(model.projections.values()):
        nn.init.zeros_(projection.weight)
        nn.init.constant_(projection.weight[position], scale)
    batch = {f"{modality}_values": torch.ones(1, 2, SIZES[f"{modality}_feature_size"]) for modality in MODALITIES}
    found = model(**batch).divergence
    assert found.shape == (1,) and found.item() == pytest.approx(3 * LN_2, abs=atol)


@pytest.mark.parametrize("divergence_map", ["softmax", "classes"])
def test_divergence_is_between_the_states(divergence_map):
    """Of each pair that the sample has; with fewer than two modalities there is none."""
    model = small_model(divergence_map=divergence_map, divergence_classes=3)
    with torch.no_grad():
        output = model(**to_batch(small_samples(model.config, MISSING)))
        states = {modality: output[f"{modality}_state"] for modality in MODALITIES}
        maps = {m: model.distribution(state) if model.distribution else state for m, state in states.items()}
    assert (model.distribution is None) == (divergence_map == "softmax")
    probabilities = {modality: [softmax(row) for row in logits.tolist()] for modality, logits in maps.items()}
    assert len(probabilities["text"][0]) == (6 if divergence_map == "softmax" else 3)
    for row in range(7):
        here = [probabilities[modality][row] for modality in MODALITIES if MISSING[modality][row]]
        pairs = [divergence(p, q) for p, q in itertools.combinations(here, 2)]
        assert output.divergence[row].item() == pytest.approx(sum(pairs), abs=1e-6)
        assert bool(pairs) == (row < 3) == bool(output.divergence[row])


def test_what_a_sample_lacks_has_no_divergence_and_no_gradient_of_it():
    model = small_model(crossmodal=False, prediction_weight=0)
    samples = small_samples(model.config, {"text": (3, 2), "audio": (2, 1), "vision": (0, 0)})
    model(**to_batch(samples), labels=torch.zeros(2)).loss.backward()
    for name, parameter in model.named_parameters():
        if "vision" in name:
            assert not parameter.grad.any(), name
        elif name.startswith(("projections.", "refinements.")) and not name.endswith("key.bias"):
            assert parameter.grad.any(), name


# --- loss ------------------------------------------------------------------------------------------------------------

LABELS = {
    "sentiment": torch.tensor([1.5, -2.0, 0.25]),
    "sentiment2": torch.tensor([1, 0, 1]),
    "sentiment7": torch.tensor([6, 0, 3]),
    "emotions": torch.tensor([[1, 0, 0, 1, 0, 0], [0, 0, 0, 0, 0, 0], [0, 1, 1, 0, 1, 1]]).float(),
    "emotion": torch.tensor([5, 0, 2]),
}


def prediction_error(target, prediction, label):
    if target == "sentiment":
        return abs(prediction[0] - label)
    if target == "emotions":
        probability = 1 / (1 + np.exp(-prediction))
        return -np.mean(np.where(np.array(label) > 0, np.log(probability), np.log(1 - probability)))
    return -math.log(softmax(prediction)[label])


@pytest.mark.parametrize("target", LABELS)
@pytest.mark.parametrize(
    "weights",
    [{}, {"divergence_weight": 0.3, "prediction_weight": 2}, {"divergence_weight": 0}, {"prediction_weight": 0}],
    ids=str,
)
def test_loss_is_equation_13(target, weights):
    model = small_model(target=target, **weights)
    samples = small_samples(model.config, UNALIGNED)
    output = model(**to_batch(samples), labels=LABELS[target])
    found = [expected_sample(model, sample)[2:] for sample in samples]
    errors = [
        prediction_error(target, prediction, label)
        for (prediction, _), label in zip(found, LABELS[target].tolist(), strict=True)
    ]
    lambda_m, lambda_c = weights.get("divergence_weight", 1), weights.get("prediction_weight", 1)
    expected = lambda_c * np.mean(errors) + lambda_m * np.mean([total for _, total in found])
    assert output.loss.item() == pytest.approx(expected, abs=1e-5)
    assert (output.divergence is None) == (lambda_m == 0)


# --- configuration ---------------------------------------------------------------------------------------------------


def test_defaults_are_the_papers():
    config = UcrnConfig(**CMU_MOSI)
    assert (config.num_hidden_layers, config.num_attention_heads, config.target) == (5, 3, "sentiment")
    assert (config.refinement_layer, config.pooling, config.crossmodal_axis) == ("paper", "last", "modalities")
    assert config.refinement and config.crossmodal and config.self_quality == "features" and not config.positions
    assert config.divergence_weight == config.prediction_weight == 1


@pytest.mark.parametrize("name", DROPOUTS)
@pytest.mark.parametrize("value", [-0.1, 1, float("nan")])
def test_dropout_out_of_range_is_named(name, value):
    with pytest.raises(ValueError, match=f"^`{name}` must be at least 0 and below 1; got {value}"):
        UcrnConfig(**SIZES, **{name: value})


@pytest.mark.parametrize(
    "fields, words",
    [
        ({"hidden_size": 0}, ["`hidden_size`", "0"]),
        ({"num_hidden_layers": 0}, ["`num_hidden_layers`", "0"]),
        ({"num_attention_heads": 0}, ["`num_attention_heads`", "0"]),
        ({"num_attention_heads": 4}, ["`num_attention_heads` must divide `hidden_size`", "4 and 30"]),
        ({"divergence_classes": 1}, ["`divergence_classes`", "at least 2", "1"]),
        ({"divergence_weight": -0.1}, ["`divergence_weight`", "-0.1"]),
        ({"prediction_weight": -1}, ["`prediction_weight`", "-1"]),
    ],
    ids=str,
)
def test_values_outside_the_rules(fields, words):
    with pytest.raises(ValueError) as error:
        UcrnConfig(**SIZES, **fields)
    assert all(word in str(error.value) for word in words), str(error.value)


@pytest.mark.parametrize("name", ["refinement_layer", "pooling", "divergence_map", "self_quality", "crossmodal_axis"])
def test_unknown_choice_is_named(name):
    with pytest.raises(StrictDataclassFieldValidationError, match=rf"\b{name}\b"):
        UcrnConfig(**SIZES, **{name: "learned"})
