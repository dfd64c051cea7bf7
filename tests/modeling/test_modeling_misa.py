"""MISA against its formulas, written out with NumPy and plain Python, and against its published sizes."""

import itertools
import math

import numpy as np
import pytest
import torch
from huggingface_hub.errors import StrictDataclassFieldValidationError

from configuration import MisaConfig
from modeling import MisaModel
from modeling.modeling_misa import central_moment_discrepancy, cross_correlation
from tests.modeling.reference import Reference, make_samples, scramble, sigmoid, to_batch

MODALITIES = ("text", "audio", "vision")
SIZES = {"text_feature_size": 4, "audio_feature_size": 3, "vision_feature_size": 5}
SMALL = {"hidden_size": 8, "intermediate_size": 7, "audio_hidden_size": 3}
OFF = {"dropout": 0.0, "transformer_dropout": 0.0}
BERT_WIDE = {"vocab_size": 20, "hidden_size": 768, "intermediate_size": 8, "num_hidden_layers": 1}
BERT_WIDE |= {"num_attention_heads": 2, "max_position_embeddings": 8}
LENGTHS = {
    "complete": {"text": (3, 1, 4), "audio": (2, 5, 3), "vision": (4, 2, 1)},
    # Vision is there for one sample alone, the last sample has nothing.
    "missing": {"text": (3, 0, 2, 0), "audio": (0, 4, 2, 0), "vision": (0, 0, 3, 0)},
    "no vision": {"text": (3, 2, 1), "audio": (2, 5, 3), "vision": (0, 0, 0)},
    "one row": {"text": (3,), "audio": (2,), "vision": (1,)},
    "nothing": {"text": (0, 0), "audio": (0, 0), "vision": (0, 0)},
}


def small_model(**changes):
    """No weight near what it starts from, whose zero biases and unit scales would hide what is done with them."""
    model = MisaModel(MisaConfig(**{**SMALL, **SIZES, **changes}))
    return scramble(model)


class Network(Reference):
    """The network of one sample, step by step, head by head and code by code."""

    def __init__(self, model):
        super().__init__(model)
        self.config = model.config

    def norm(self, name, x):
        centred = x - x.mean()
        return self.weight(f"{name}.weight") * centred / math.sqrt((centred**2).mean() + 1e-5) + self.weight(
            f"{name}.bias"
        )

    def state(self, modality, steps):
        """u of a modality."""
        name, ends = f"{modality}_encoder", []
        for layer in ("first", "second"):
            ahead = self.lstm(f"{name}.{layer}.forward_lstm", steps)
            back = self.lstm(f"{name}.{layer}.backward_lstm", steps[::-1])[::-1]
            ends += [ahead[-1], back[0]]
            if layer == "first":
                steps = [self.norm(f"{name}.norm", np.concatenate(pair)) for pair in zip(ahead, back, strict=True)]
        projected = np.maximum(self.linear(f"projections.{modality}.0", np.concatenate(ends)), 0)
        return self.norm(f"projections.{modality}.2", projected)

    def fused(self, tokens):
        """The layer that attends among the tokens of a sample."""
        result = []
        for token in tokens:
            found = []
            query = np.split(self.linear("fusion.attention.query", token), self.config.num_attention_heads)
            for head, part in enumerate(query):
                keys, values = (
                    [
                        np.split(self.linear(f"fusion.attention.{kind}", other), self.config.num_attention_heads)[head]
                        for other in tokens
                    ]
                    for kind in ("key", "value")
                )
                scores = [part @ key / math.sqrt(len(part)) for key in keys]
                weights = np.exp(scores) / np.exp(scores).sum()
                found.append(sum(weight * value for weight, value in zip(weights, values, strict=True)))
            attended = self.linear("fusion.attention.output", np.concatenate(found))
            token = self.norm("fusion.attention_norm", token + attended)
            inner = np.maximum(self.linear("fusion.inner", token), 0)
            result.append(self.norm("fusion.norm", token + self.linear("fusion.outer", inner)))
        return result


def expected_sample(model, reference, sample):
    """States, private and shared codes by modality that is there, fused state and prediction of a sample."""
    size = model.config.hidden_size
    states = {m: reference.state(m, steps) for m, steps in sample.items() if len(steps)}
    private = {m: sigmoid(reference.linear(f"private_encoders.{m}", u)) for m, u in states.items()}
    shared = {m: sigmoid(reference.linear("shared_encoder", u)) for m, u in states.items()}
    tokens = iter(reference.fused([*private.values(), *shared.values()]))
    joined = [next(tokens) if m in states else np.zeros(size) for _ in range(2) for m in sample]
    fused = np.maximum(reference.linear("hidden", np.concatenate(joined)), 0)
    return states, private, shared, fused, reference.linear("output", fused)


def expected_discrepancy(first, second, moments):
    """Of two lists of vectors."""
    if not first or not second:
        return 0.0
    total = 0.0
    for order in range(1, moments + 1):
        found = []
        for rows in (first, second):
            mean = sum(rows) / len(rows)
            found.append(mean if order == 1 else sum((row - mean) ** order for row in rows) / len(rows))
        total += math.sqrt(sum((a - b) ** 2 for a, b in zip(*found, strict=True)))
    return total


def expected_correlation(first, second, reduction):
    """Of the codes of the same samples, entry by entry."""
    if len(first) < 2:
        return 0.0
    scaled = []
    for rows in (first, second):
        mean = sum(rows) / len(rows)
        scaled.append([(row - mean) / np.linalg.norm(row - mean) for row in rows])
    size = len(first[0])
    squares = [sum(a[i] * b[j] for a, b in zip(*scaled, strict=True)) ** 2 for i in range(size) for j in range(size)]
    return sum(squares) / (len(squares) if reduction == "mean" else 1)


def expected_loss(model, samples, labels):
    """Of a batch, term by term."""
    config, reference = model.config, Network(model)
    answers = [expected_sample(model, reference, sample) for sample in samples]
    error = sum(abs(answer[-1].item() - label) for answer, label in zip(answers, labels, strict=True)) / len(labels)

    def of(part, modality, *also):
        """The rows' codes of those that have the modality, and another one."""
        return [answer[part][modality] for answer in answers if {modality, *also} <= set(answer[0])]

    pairs, there = list(itertools.combinations(config.modalities, 2)), [m for m in config.modalities if of(0, m)]
    errors = []
    for modality in there:
        codes = zip(of(0, modality), of(1, modality), of(2, modality), strict=True)
        gaps = [u - reference.linear(f"decoders.{modality}", private + shared) for u, private, shared in codes]
        errors.append(sum((gap**2).mean() for gap in gaps) / len(gaps))
    compared = [(a, b) for a, b in pairs if a in there and b in there]
    similarity = sum(expected_discrepancy(of(2, a), of(2, b), config.moments) for a, b in compared)
    difference = sum(expected_correlation(of(1, m), of(2, m), config.difference_reduction) for m in there)
    difference += sum(expected_correlation(of(1, a, b), of(1, b, a), config.difference_reduction) for a, b in pairs)
    return (
        error
        + config.similarity_weight * similarity / max(len(compared), 1)
        + config.difference_weight * difference
        + config.reconstruction_weight * sum(errors) / max(len(errors), 1)
    )


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("changes", [{}, {"num_attention_heads": 4, "target": "emotions"}], ids=["", "emotions"])
def test_forward_equals_the_formulas(changes, lengths):
    model = small_model(**changes)
    samples = make_samples(model.config, lengths)
    with torch.no_grad():
        output = model(**to_batch(samples))
    for row, sample in enumerate(samples):
        reference = Network(model)
        states, private, shared, fused, prediction = expected_sample(model, reference, sample)
        for number, modality in enumerate(sample):
            for found, expected in (
                (output[f"{modality}_state"], states),
                (output.private_codes[:, number], private),
                (output.shared_codes[:, number], shared),
            ):
                nothing = np.zeros(model.config.hidden_size)
                np.testing.assert_allclose(found[row].numpy(), expected.get(modality, nothing), atol=1e-9)
        np.testing.assert_allclose(output.fusion_state[row].numpy(), fused, atol=1e-9, err_msg=f"row {row}")
        np.testing.assert_allclose(output.logits[row].numpy(), prediction, atol=1e-9)
        if len(states) == 3:
            assert set(reference.weights) - reference.read == {n for n in reference.weights if n.startswith("decoders")}


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize(
    "changes", [{}, {"difference_reduction": "sum", "moments": 2}, {"vision_feature_size": None}], ids=str
)
def test_loss_equals_the_formulas(changes, lengths):
    """Weights that no term can hide behind."""
    weights = {"similarity_weight": 0.7, "difference_weight": 1.3, "reconstruction_weight": 0.4}
    model = small_model(**weights, **changes)
    samples = make_samples(model.config, lengths)
    labels = [1.5, -2.0, 0.25, 0.5][: len(samples)]
    output = model(**to_batch(samples), labels=torch.tensor(labels))
    assert output.loss.item() == pytest.approx(expected_loss(model, samples, labels), rel=1e-5)
    output.loss.backward()
    for name, parameter in model.named_parameters():
        assert torch.isfinite(parameter.grad).all(), name


@pytest.mark.parametrize("name", ["similarity_weight", "difference_weight", "reconstruction_weight"])
def test_a_weight_scales_its_term(name):
    weights = dict.fromkeys(("similarity_weight", "difference_weight", "reconstruction_weight"), 0)
    found = []
    for weight in (0, 1, 3):
        model = small_model(**{**weights, name: weight})
        samples = make_samples(model.config, LENGTHS["complete"])
        with torch.no_grad():
            found.append(model(**to_batch(samples), labels=torch.zeros(3)).loss.item())
    assert found[2] - found[0] == pytest.approx(3 * (found[1] - found[0]), rel=1e-5)
    assert found[1] - found[0] > 1e-3


def test_discrepancy():
    """In what can be said without computing it."""
    random = torch.Generator().manual_seed(0)
    first, every = torch.rand(5, 3, generator=random), torch.ones(5, dtype=torch.bool)
    shuffled = first[[3, 1, 0, 4, 2]]
    assert central_moment_discrepancy(first, shuffled, every, every, 5).item() == pytest.approx(0, abs=1e-6)
    # A shift leaves all but the mean as it is.
    shift = torch.tensor([0.3, 0.0, 0.4])
    assert central_moment_discrepancy(first, first + shift, every, every, 5).item() == pytest.approx(0.5, abs=1e-6)
    # Rows that do not count may hold anything.
    counted = torch.tensor([True, True, True, False, False])
    expected = central_moment_discrepancy(first[:3], first, every[:3], every, 5)
    first_changed = first.masked_fill(~counted[:, None], 9.0)
    torch.testing.assert_close(central_moment_discrepancy(first_changed, first, counted, every, 5), expected)
    assert central_moment_discrepancy(first, first, ~every, every, 5).item() == 0


def test_cross_correlation():
    every = torch.ones(4, dtype=torch.bool)
    # Codes of one feature each, so that their signs are left: two that vary independently, and one that is the other.
    first = torch.tensor([[1.0], [1.0], [0.0], [0.0]])
    second = torch.tensor([[1.0], [0.0], [1.0], [0.0]])
    assert cross_correlation(first, second, every, "sum").item() == pytest.approx(0)
    assert cross_correlation(first, first, every, "sum").item() == pytest.approx(16)
    wide = torch.cat([first, torch.zeros(4, 3)], dim=1)
    assert cross_correlation(wide, wide, every, "sum").item() == pytest.approx(16)
    assert cross_correlation(wide, wide, every, "mean").item() == pytest.approx(1)
    for counted in (every.new_tensor([True, False, False, False]), ~every):
        assert cross_correlation(first, first, counted, "sum").item() == 0


def test_text_encoder_is_averaged_over_its_tokens():
    text_config = {**BERT_WIDE, "hidden_size": 8}
    torch.manual_seed(0)
    model = MisaModel(MisaConfig(text_config=text_config, **SMALL)).eval()
    ids, lengths = torch.tensor([[3, 4, 5, 0], [6, 7, 8, 9], [1, 1, 1, 1]]), (3, 4, 0)
    mask = (torch.arange(4) < torch.tensor(lengths)[:, None]).long()
    with torch.no_grad():
        output = model(input_ids=ids, attention_mask=mask)
        for row, length in enumerate(lengths[:2]):
            states = model.text_encoder(input_ids=ids[row : row + 1, :length]).last_hidden_state[0]
            expected = model.projections["text"](states.sum(dim=0) / length)
            torch.testing.assert_close(output.text_state[row], expected, atol=1e-5, rtol=1e-5)
    assert not output.text_state[2].any() and not hasattr(model, "audio_encoder")


@pytest.mark.parametrize(
    "sizes, measured", [((5, 20), 1_138_033), ((74, 35), 1_435_105)], ids=["CMU-MOSI", "CMU-MOSEI"]
)
def test_published_parameter_counts(sizes, measured):
    """
    Without the text encoder, 768 wide. The public code has two layers more that nothing reads: a normalisation of the
    text, 2 x 1536, and a discriminator of codes, 128 x 4 + 4.
    """
    config = MisaConfig(text_config=BERT_WIDE, audio_feature_size=sizes[0], vision_feature_size=sizes[1])
    parameters = MisaModel(config).named_parameters()
    count = sum(p.numel() for name, p in parameters if not name.startswith("text_encoder."))
    assert count == measured - 3072 - 516


def test_dropout_is_where_the_configuration_puts_it():
    samples = make_samples(small_model().config, LENGTHS["complete"])
    for changed, differing in (
        ({}, set()),
        ({"dropout": 0.9}, {"fusion_state", "logits"}),
        ({"transformer_dropout": 0.9}, {"fusion_state", "logits"}),
    ):
        model = small_model(**{**OFF, **changed})
        with torch.no_grad():
            steady, torn = model(**to_batch(samples)), model.train()(**to_batch(samples))
        assert {name for name in steady if not torch.equal(steady[name], torn[name])} == differing


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"hidden_size": 7}, "`num_attention_heads` must divide `hidden_size`; got 2 and 7"),
        ({"moments": 0}, "`moments` must be at least 1"),
        ({"audio_hidden_size": 0}, "`audio_hidden_size` must be at least 1"),
        ({"difference_weight": -0.1}, "`difference_weight` must be at least 0"),
        ({"transformer_dropout": 1.0}, "`transformer_dropout` must be at least 0 and below 1"),
    ],
    ids=lambda value: "".join(value) if isinstance(value, dict) else "",
)
def test_bad_configurations_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        MisaConfig(**fields)


def test_unknown_reduction_is_refused():
    with pytest.raises(StrictDataclassFieldValidationError, match="difference_reduction"):
        MisaConfig(difference_reduction="max")
