"""MMIM against its formulas, written out with NumPy and plain Python, and against its published sizes."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from configuration import MmimConfig
from modeling import MmimModel
from modeling.modeling_mmim import contrastive_loss, gaussian_entropy
from tests.modeling.reference import Reference, make_samples, scramble, to_batch

MODALITIES = ("text", "audio", "vision")
SIZES = {"text_feature_size": 4, "audio_feature_size": 3, "vision_feature_size": 5}
SMALL = {"text_hidden_size": 4, "audio_hidden_size": 3, "vision_hidden_size": 2, "fusion_size": 7}
SMALL |= {"audio_projection_size": 5, "vision_projection_size": 6, "entropy_size": 3}
BERT_WIDE = {"vocab_size": 20, "hidden_size": 768, "intermediate_size": 8, "num_hidden_layers": 1}
BERT_WIDE |= {"num_attention_heads": 2, "max_position_embeddings": 8}
LENGTHS = {
    "complete": {"text": (3, 1, 4, 2, 2), "audio": (2, 5, 3, 1, 2), "vision": (4, 2, 1, 3, 3)},
    # Vision is there for one sample alone, the last sample has nothing.
    "missing": {"text": (3, 0, 2, 1, 0), "audio": (1, 4, 2, 2, 0), "vision": (0, 0, 3, 0, 0)},
    "no vision": {"text": (3, 2, 1), "audio": (2, 5, 3), "vision": (0, 0, 0)},
    "one row": {"text": (3,), "audio": (2,), "vision": (1,)},
    "nothing": {"text": (0, 0), "audio": (0, 0), "vision": (0, 0)},
}
LABELS = {
    "mixed": ("sentiment", [1.5, -2.0, 0.25, -0.5, 0.75]),
    "positive": ("sentiment", [1.5, 2.0, 0.25, 0.5, 0.75]),
    "neutral": ("sentiment", [0.0] * 5),
    "two classes": ("sentiment2", [1, 0, 1, 0, -100]),
    "seven classes": ("sentiment7", [4, 2, 6, 0, 3]),
    "strongest emotion": ("emotion", [4, 2, 5, 0, 3]),
}


def small_model(**changes):
    """No weight near what it starts from, whose zero biases would hide what is done with them."""
    model = MmimModel(MmimConfig(**{**SMALL, **SIZES, **changes}))
    return scramble(model)


class Network(Reference):
    """The network of one sample, step by step."""

    def __init__(self, model):
        super().__init__(model)
        self.config = model.config

    def end(self, name, steps):
        """The state after the last step."""
        states = self.lstm(name, steps)
        return states[-1] if states else np.zeros(self.weights[f"{name}.weight_hh_l0"].shape[1])

    def state(self, modality, steps):
        """h of a modality."""
        name = f"{modality}_encoder"
        if self.config.bidirectional:
            ends = [self.end(f"{name}.lstm.forward_lstm", steps), self.end(f"{name}.lstm.backward_lstm", steps[::-1])]
            state = np.concatenate(ends)
        else:
            state = self.end(f"{name}.lstm", steps)
        if modality != "text":
            state = self.linear(f"{name}.projection", state)
        return state if len(steps) else np.zeros(len(state))

    def answer(self, sample):
        """States, Z and prediction of a sample."""
        states = {modality: self.state(modality, steps) for modality, steps in sample.items()}
        fused = np.tanh(self.linear("fusion.0", np.concatenate(list(states.values()))))
        fused = np.tanh(self.linear("fusion.2", fused))
        return states, fused, self.linear("output", fused)

    def log_density(self, name, x, y):
        """log q(y | x) + d/2 log 2 pi, feature by feature."""
        mean, log_variance = (
            self.linear(f"{name}.{part}.2", np.maximum(self.linear(f"{name}.{part}.0", x), 0))
            for part in ("mean", "log_variance")
        )
        variance = np.exp(np.tanh(log_variance))
        return sum(-math.log(v) / 2 - (m - one) ** 2 / (2 * v) for m, v, one in zip(mean, variance, y, strict=True))

    def entropy(self, name, group):
        """Of the states of a group of samples."""
        rows = [np.tanh(self.linear(f"{name}.projection", y)) for y in group]
        return expected_entropy(rows, self.config.entropy_shrinkage)


def expected_entropy(rows, shrinkage):
    if len(rows) < 2:
        return 0.0
    mean = sum(rows) / len(rows)
    covariance = sum(np.outer(row - mean, row - mean) for row in rows) / len(rows)
    return math.log(np.linalg.det((1 - shrinkage) * covariance + shrinkage * np.eye(len(mean)))) / 2


def expected_contrast(predictions, states):
    """Sample by sample, among the states of the others."""
    total = 0.0
    for prediction, own in zip(predictions, states, strict=True):

        def score(state, prediction=prediction):
            return math.exp(prediction @ state / np.linalg.norm(prediction) / np.linalg.norm(state))

        total -= math.log(score(own) / sum(score(state) for state in states))
    return total / max(len(states), 1)


NEUTRAL = {"sentiment": 0, "sentiment2": 0.5, "sentiment7": 3}


def expected_regularisation(model, samples, labels, target):
    """What the loss has beside the prediction's."""
    reference, config = Network(model), model.config
    answers, total = [reference.answer(sample) for sample in samples], 0.0
    for modality in config.modalities:
        there = [answer for answer, sample in zip(answers, samples, strict=True) if len(sample[modality])]
        predictions = [reference.linear(f"predictors.{modality}", fused) for _, fused, _ in there]
        total += config.contrastive_weight * expected_contrast(predictions, [states[modality] for states, *_ in there])
    pairs = [("text", "audio"), ("text", "vision")] + [("vision", "audio")] * config.audio_vision_information
    for x, y in pairs:
        if x not in config.modalities or y not in config.modalities:
            continue
        rows = [row for row, sample in enumerate(samples) if len(sample[x]) and len(sample[y])]
        name = f"information.{x}_{y}"
        densities = [reference.log_density(name, answers[row][0][x], answers[row][0][y]) for row in rows]
        information = sum(densities) / max(len(rows), 1)
        if target in NEUTRAL:
            positive = [answers[row][0][y] for row in rows if labels[row] > NEUTRAL[target]]
            negative = [answers[row][0][y] for row in rows if NEUTRAL[target] > labels[row] != -100]
            information += (reference.entropy(name, positive) + reference.entropy(name, negative)) / 2
        total -= config.information_weight * information
    return total, reference


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("changes", [{}, {"bidirectional": False, "target": "emotions"}], ids=["", "emotions"])
def test_forward_equals_the_formulas(changes, lengths):
    model = small_model(**changes)
    samples = make_samples(model.config, lengths)
    with torch.no_grad():
        output = model(**to_batch(samples))
    for row, sample in enumerate(samples):
        states, fused, prediction = Network(model).answer(sample)
        for modality, state in states.items():
            np.testing.assert_allclose(output[f"{modality}_state"][row].numpy(), state, atol=1e-9)
        np.testing.assert_allclose(output.fusion_state[row].numpy(), fused, atol=1e-9, err_msg=f"row {row}")
        np.testing.assert_allclose(output.logits[row].numpy(), prediction, atol=1e-9)
    assert output.fusion_state.abs().max() > 0.05  # not a comparison of zeros


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("case", LABELS)
def test_loss_equals_the_formulas(case, lengths):
    """Weights that no term can hide behind."""
    target, labels = LABELS[case]
    weights = {"contrastive_weight": 0.7, "information_weight": 1.3, "entropy_shrinkage": 0.2}
    model = small_model(audio_vision_information=case == "mixed", target=target, **weights)
    samples = make_samples(model.config, lengths)
    labels = torch.tensor(labels[: len(samples)])
    output = model(**to_batch(samples), labels=labels)
    expected, reference = expected_regularisation(model, samples, labels.tolist(), target)
    expected += model.prediction_loss(output.logits, labels).item()
    assert output.loss.item() == pytest.approx(expected, rel=1e-5, abs=1e-5)
    if case == "mixed" and lengths is LENGTHS["complete"]:
        assert reference.read == set(reference.weights)
    output.loss.backward()
    for name, parameter in model.named_parameters():
        assert torch.isfinite(parameter.grad).all(), name


@pytest.mark.parametrize(
    "present, also, pairs",
    [
        (MODALITIES, False, ["text_audio", "text_vision"]),
        (MODALITIES, True, ["text_audio", "text_vision", "vision_audio"]),
        (("text", "vision"), True, ["text_vision"]),
        (("audio", "vision"), False, []),
        (("audio", "vision"), True, ["vision_audio"]),
        (("audio",), True, []),
    ],
)
def test_pairs_are_those_that_the_checkpoint_has(present, also, pairs):
    absent = {f"{modality}_feature_size": None for modality in MODALITIES if modality not in present}
    model = small_model(audio_vision_information=also, **absent)
    assert list(model.information) == pairs and list(model.predictors) == list(present)
    samples, labels = make_samples(model.config, LENGTHS["complete"]), torch.tensor(LABELS["mixed"][1])
    output = model(**to_batch(samples), labels=labels)
    expected, _ = expected_regularisation(model, samples, labels.tolist(), "sentiment")
    expected += (output.logits[:, 0] - labels).abs().mean().item()
    assert output.loss.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    "fields, groups",
    [
        ({}, True),
        ({"target": "sentiment2"}, True),
        ({"target": "sentiment7"}, True),
        ({"target": "emotions"}, False),
        ({"target": "emotion"}, False),
        ({"target": None, "problem_type": "regression", "num_labels": 1}, True),
        ({"target": None, "problem_type": "regression", "num_labels": 3}, False),
        ({"target": None, "problem_type": "single_label_classification"}, False),
    ],
    ids=str,
)
def test_entropy_is_estimated_where_the_target_is_a_sentiment(fields, groups):
    model = small_model(**fields)
    assert {bound.projection is not None for bound in model.information.values()} == {groups}


def test_entropy_of_a_known_distribution():
    """Variances 0.04 and 0.01, and a correlation of 0.5; what does not count may be anything."""
    covariance = torch.tensor([[0.04, 0.01], [0.01, 0.01]])
    samples = torch.randn(20_000, 2, generator=torch.Generator().manual_seed(0)) @ torch.linalg.cholesky(covariance).T
    counted = torch.arange(20_000) < 19_000
    samples[~counted] = 5.0
    expected = math.log(0.04 * 0.01 * (1 - 0.5**2)) / 2
    assert gaussian_entropy(samples, counted, 1e-6).item() == pytest.approx(expected, abs=0.02)
    for few in (counted & False, torch.arange(20_000) == 7):
        assert gaussian_entropy(samples, few, 0.1).item() == 0


def test_entropy_of_the_same_sample_twice_is_finite():
    samples = torch.full((2, 3), 0.5, requires_grad=True)
    entropy = gaussian_entropy(samples, torch.ones(2, dtype=torch.bool), 0.01)
    entropy.backward()
    assert entropy.item() == pytest.approx(3 * math.log(0.01) / 2) and not samples.grad.any()


def test_contrast_of_known_scores():
    every = torch.ones(2, dtype=torch.bool)
    states = torch.tensor([[3.0, 0.0], [0.0, 0.5]])
    # Predictions of any length in the direction of their state, and of the other one's.
    right, wrong = torch.tensor([[7.0, 0.0], [0.0, 1.0]]), torch.tensor([[0.0, 1.0], [7.0, 0.0]])
    assert contrastive_loss(right, states, every).item() == pytest.approx(math.log(1 + math.exp(-1)))
    assert contrastive_loss(wrong, states, every).item() == pytest.approx(math.log(1 + math.exp(1)))
    # The states are what is told apart: a prediction that fits both equally tells nothing.
    one = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert contrastive_loss(one, states[[0, 0]], every).item() == pytest.approx(math.log(2))
    for counted in (every.new_tensor([True, False]), ~every):
        assert contrastive_loss(wrong, states, counted).item() == 0


def test_likelihood_has_a_maximum():
    """However much y is scaled down: variances are no smaller than 1/e."""
    model = small_model(information_weight=1.0, target="emotions")
    bound, x = model.information["text_audio"], torch.zeros(3, 8, dtype=torch.float64)
    for parameter in bound.parameters():
        nn.init.zeros_(parameter)
    nn.init.constant_(bound.log_variance[2].bias, -50.0)
    y, every = torch.zeros(3, 5, dtype=torch.float64), torch.ones(3, dtype=torch.bool)
    assert bound(x, y, every, ()).item() == pytest.approx(5 / 2)


def test_text_is_represented_by_its_first_token():
    text_config = {**BERT_WIDE, "hidden_size": 8}
    torch.manual_seed(0)
    model = MmimModel(MmimConfig(text_config=text_config, **SMALL)).eval()
    ids, lengths = torch.tensor([[3, 4, 5, 0], [6, 7, 8, 9], [1, 1, 1, 1]]), (3, 4, 0)
    mask = (torch.arange(4) < torch.tensor(lengths)[:, None]).long()
    with torch.no_grad():
        output = model(input_ids=ids, attention_mask=mask)
        for row, length in enumerate(lengths[:2]):
            states = model.text_encoder(input_ids=ids[row : row + 1, :length]).last_hidden_state[0]
            torch.testing.assert_close(output.text_state[row], states[0], atol=1e-5, rtol=1e-5)
    assert not output.text_state[2].any()


@pytest.mark.parametrize("sizes, measured", [((5, 20), 281_673), ((74, 35), 292_425)], ids=["CMU-MOSI", "CMU-MOSEI"])
def test_published_parameter_counts(sizes, measured):
    """Without the text encoder, 768 wide: those of the public code."""
    config = MmimConfig(text_config=BERT_WIDE, audio_feature_size=sizes[0], vision_feature_size=sizes[1])
    parameters = MmimModel(config).named_parameters()
    assert sum(p.numel() for name, p in parameters if not name.startswith("text_encoder.")) == measured


def test_dropout_is_where_the_configuration_puts_it():
    everywhere = {f"{modality}_state" for modality in MODALITIES} | {"fusion_state", "logits"}
    for bidirectional in (True, False):
        for changed, differing in (
            ({}, set()),
            ({"dropout": 0.9}, {"fusion_state", "logits"}),
            ({"sequence_dropout": 0.9}, everywhere),
        ):
            model = small_model(bidirectional=bidirectional, **{"dropout": 0.0, **changed})
            batch = to_batch(make_samples(model.config, LENGTHS["complete"]))
            with torch.no_grad():
                steady, torn = model(**batch), model.train()(**batch)
            assert {name for name in steady if not torch.equal(steady[name], torn[name])} == differing


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"entropy_shrinkage": 0.0}, "`entropy_shrinkage` must be above 0.*below 1; got 0.0"),
        ({"entropy_shrinkage": 1.0}, "`entropy_shrinkage` must be above 0.*below 1; got 1.0"),
        ({"entropy_size": 0}, "`entropy_size` must be at least 1"),
        ({"information_weight": -1}, "`information_weight` must be at least 0"),
        ({"sequence_dropout": 1.0}, "`sequence_dropout` must be at least 0 and below 1"),
    ],
    ids=lambda value: "".join(value) if isinstance(value, dict) else "",
)
def test_bad_configurations_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        MmimConfig(**fields)
