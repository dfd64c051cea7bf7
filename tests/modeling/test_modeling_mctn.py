"""MCTN against its formulas, written out with NumPy and plain Python, and against its published size."""

import math

import numpy as np
import pytest
import torch

from configuration import MctnConfig
from modeling import MctnModel
from modeling.modality_sequence import ModalitySequence
from modeling.modeling_mctn import _squared_error
from tests.modeling.reference import MASKS, Reference, make_samples, scramble, softmax, to_batch

SIZES = {"text_feature_size": 4, "audio_feature_size": 5, "vision_feature_size": 3}
CMU_MOSI = {"text_feature_size": 300, "audio_feature_size": 5, "vision_feature_size": 20}
UNALIGNED = {"text": (3, 1, 4), "audio": (7, 5, 2), "vision": (2, 3, 9)}
# Without one modality, without two, without any.
MISSING = {"text": (0, 4, 3, 2, 0, 0), "audio": (5, 0, 2, 0, 3, 0), "vision": (3, 3, 0, 0, 0, 0)}
ERRORS = ("translation_error", "cycle_error", "second_translation_error")


def small_model(**changes):
    fields = {"hidden_size": 6, "projection_size": 3, "max_target_steps": 4, **SIZES, **changes}
    return scramble(MctnModel(MctnConfig(**fields)))


class Mctn(Reference):
    """One sample at a time."""

    def __init__(self, model):
        super().__init__(model)
        self.config, self.order = model.config, model.config.modality_order

    def encoded(self, level, steps):
        return [ahead + back for ahead, back in self.both_directions(f"encoders.{level}", steps)]

    def projected(self, modality, steps):
        return [self.linear(f"input_projections.{modality}", step) for step in steps]

    def goal(self, steps):
        """Step n of at most N: the mean of its share of the steps."""
        wanted = min(len(steps), self.config.max_target_steps)
        shares = [
            (math.floor(n * len(steps) / wanted), math.ceil((n + 1) * len(steps) / wanted)) for n in range(wanted)
        ]
        return [steps[start:end].mean(axis=0) for start, end in shares]

    def translated(self, level, encoded, target, goal):
        name = f"decoders.{level}"
        projected = self.projected(target, goal)
        before = [np.zeros(self.config.projection_size), *projected[:-1]]
        steps = []
        for state in self.lstm(f"{name}.lstm", before):
            query = self.linear(f"{name}.query", state)
            weights = softmax([query @ step / math.sqrt(len(step)) for step in encoded])
            context = sum(weight * step for weight, step in zip(weights, encoded, strict=True))
            joined = np.tanh(self.linear(f"{name}.joined", np.concatenate([context, state])))
            steps.append(self.linear(f"output_projections.{target}", joined))
        return steps

    def state(self, sample):
        """What is predicted from, and the encoders' states."""
        steps = self.projected(self.order[0], sample[self.order[0]])
        levels = []
        for level in range(max(len(self.order) - 1, 1)):
            steps = self.encoded(level, steps)
            levels.append(steps)
        states = self.lstm("regression.lstm", steps)
        scores = [np.tanh(self.linear("regression.score", state))[0] for state in states]
        zeros = np.zeros(self.config.hidden_size)
        return sum((weight * state for weight, state in zip(softmax(scores), states, strict=True)), zeros), levels

    def squared_errors(self, sample):
        """By name, one number per step that counts: the mean over its features."""
        source, *targets = self.order
        found = {name: [] for name in ERRORS[: (0, 2, 3)[len(targets)]]}
        _, levels = self.state(sample) if len(sample[source]) else (None, None)
        goals = {modality: self.goal(steps) for modality, steps in sample.items() if len(steps)}

        def add(name, predicted, goal):
            found[name] += [((p - g) ** 2).mean() for p, g in zip(predicted, goal, strict=True)]

        if source in goals and targets and targets[0] in goals:
            translated = self.translated(0, levels[0], targets[0], goals[targets[0]])
            again = self.encoded(0, self.projected(targets[0], translated))
            add("translation_error", translated, goals[targets[0]])
            add("cycle_error", self.translated(0, again, source, goals[source]), goals[source])
        if source in goals and len(targets) == 2 and targets[1] in goals:
            translated = self.translated(1, levels[1], targets[1], goals[targets[1]])
            add("second_translation_error", translated, goals[targets[1]])
        return found


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"translation_order": ["vision", "text", "audio"]},
        {"vision_feature_size": None},
        {"text_feature_size": None},
        {"text_feature_size": None, "vision_feature_size": None},
    ],
    ids=["three", "from vision", "text and audio", "audio and vision", "audio"],
)
@pytest.mark.parametrize("lengths", [UNALIGNED, MISSING], ids=["unaligned", "missing"])
def test_equals_the_formulas(changes, lengths):
    weights = {"translation_weight": 0.3, "cycle_weight": 0.5, "second_translation_weight": 0.7}
    model = small_model(output_l2_weight=0.2, **weights, **changes)
    samples, reference = make_samples(model.config, lengths), Mctn(model)
    labels = torch.linspace(-2, 2, len(samples), dtype=torch.float64)
    with torch.no_grad():
        output = model(**to_batch(samples), labels=labels)

    states = np.stack([reference.state(sample)[0] for sample in samples])
    logits = np.stack([reference.linear("output", state) for state in states])
    errors = {}
    for sample in samples:
        for name, found in reference.squared_errors(sample).items():
            errors.setdefault(name, []).extend(found)
    np.testing.assert_allclose(output.fusion_state, states, atol=1e-7)  # weights over the steps are float32
    np.testing.assert_allclose(output.logits, logits, atol=1e-7)
    assert {name for name in ERRORS if output.get(name) is not None} == set(errors)
    loss = np.abs(logits[:, 0] - labels.numpy()).mean() + 0.2 * (reference.weight("output.weight") ** 2).sum()
    for name, found in errors.items():
        np.testing.assert_allclose(output[name], np.mean(found), rtol=1e-5)
        loss += weights[name.replace("_error", "_weight")] * np.mean(found)
    np.testing.assert_allclose(output.loss, loss, rtol=1e-5)
    assert reference.read == set(reference.weights)


def test_long_targets_are_means():
    """Nine steps to four, two of which share the step between them."""
    model = small_model()
    samples = make_samples(model.config, UNALIGNED)
    goal = model._goal(ModalitySequence(torch.from_numpy(samples[2]["vision"])[None], torch.ones(1, 9).bool()))
    np.testing.assert_allclose(goal.values[0], np.stack(Mctn(model).goal(samples[2]["vision"])), atol=1e-12)
    assert goal.mask.tolist() == [[True] * 4]


def test_only_the_source_is_read_for_a_prediction():
    model = small_model()
    batch = to_batch(make_samples(model.config, UNALIGNED))
    other = {**batch, "audio_values": batch["audio_values"] * 3 + 1}
    alone = {name: batch[name] for name in ("text_values", MASKS["text"])}
    with torch.no_grad():
        first, second, third = (model(**inputs) for inputs in (batch, other, alone))
    assert torch.equal(first.logits, second.logits) and torch.equal(first.logits, third.logits)
    assert first.loss is None and not [name for name in ERRORS if first.get(name) is not None]


def test_a_sample_without_the_source_gets_the_constant():
    model = small_model()
    samples = make_samples(model.config, MISSING)
    with torch.no_grad():
        logits = model(**to_batch(samples)).logits
    for row in (0, 4, 5):
        assert torch.equal(logits[row], model.output.bias)
    assert not torch.isclose(logits[1], model.output.bias).any()


def test_a_batch_without_pairs_has_no_errors():
    model = small_model()
    batch = to_batch(make_samples(model.config, {"text": (0, 2), "audio": (3, 0), "vision": (2, 0)}))
    with torch.no_grad():
        output = model(**batch, labels=torch.zeros(2))
    assert [float(output[name]) for name in ERRORS] == [0, 0, 0] and torch.isfinite(output.loss)


def test_what_is_compared_with_has_no_gradient():
    mask = torch.ones(1, 2).bool()
    predicted, goal = (torch.rand(1, 2, 3, requires_grad=True) for _ in range(2))
    _squared_error(ModalitySequence(predicted, mask), ModalitySequence(goal, mask), torch.ones(1).bool()).backward()
    assert predicted.grad.abs().min() > 0 and goal.grad is None


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_parameters():
    """
    MMSA's port has 763,778 for features padded to 768: 205,312 and 16,896 of two encoders, 2,080 of each attention,
    263,424 of each decoder (a bidirectional cell that reads 768 + 32, and the layer to 768), 1,024 of each layer for a
    state that starts a decoder, 8,514 of the regression. The encoder over 32 and the regression are the same here;
    projections take the place of everything 768 wide.
    """
    model = MctnModel(MctnConfig(**CMU_MOSI))
    assert count(model) == 86_631
    lstm = 4 * (32 * (32 + 32) + 2 * 32)  # both sizes are 32
    assert [count(encoder) for encoder in model.encoders] == [2 * lstm] * 2 == [16_896] * 2
    assert [count(decoder) for decoder in model.decoders] == [lstm + 32 * 32 + 64 * 32 + 32] * 2
    assert count(model.regression) + count(model.output) == 8_514
    assert count(model.input_projections) == 325 * 32 + 3 * 32
    assert count(model.output_projections) == 325 * 32 + 325
    published = 2 * 4 * (32 * (768 + 32) + 2 * 32) + 16_896 + 2 * (2_080 + 263_424 + 1_024) + 8_514
    assert published == 763_778


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"translation_order": ["text", "audio"]}, "`translation_order` must name each modality"),
        ({"translation_order": ["text", "audio", "video"]}, "`translation_order`.*'video'"),
        ({"translation_order": ["text", "audio", "vision", "text"]}, "`translation_order`"),
        ({"max_target_steps": 0}, "`max_target_steps` must be at least 1"),
        ({"projection_size": 0}, "`projection_size` must be at least 1"),
        ({"cycle_weight": -1.0}, "`cycle_weight` must be at least 0"),
    ],
)
def test_config_errors(fields, message):
    with pytest.raises(ValueError, match=message):
        MctnConfig(**SIZES, **fields)


def test_order_may_name_modalities_that_are_not_there():
    config = MctnConfig(audio_feature_size=5, vision_feature_size=3, translation_order=["vision", "text", "audio"])
    assert config.modality_order == ["vision", "audio"]
