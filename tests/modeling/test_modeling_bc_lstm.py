"""BC-LSTM against its formulas, written out with NumPy and plain Python, and against its published size."""

import numpy as np
import pytest
import torch
from torch import nn

from configuration import BcLstmConfig
from modeling import BcLstmModel
from modeling.modeling_bc_lstm import _BackwardLastStep
from tests.modeling.reference import Reference, make_samples, scramble, sigmoid, to_batch

SIZES = {"text_feature_size": 4, "audio_feature_size": 5, "vision_feature_size": 3}
UTTERANCES = {"text_feature_size": 100, "audio_feature_size": 73, "vision_feature_size": 100}
ALIGNED = {"text": (3, 1, 4), "audio": (3, 1, 4), "vision": (3, 1, 4)}
# Without one modality, without two, without any; as many steps of those that are there.
MISSING = {"text": (0, 4, 3, 2, 0, 0), "audio": (5, 0, 3, 0, 3, 0), "vision": (5, 4, 0, 0, 0, 0)}


def small_model(**changes):
    return scramble(
        BcLstmModel(BcLstmConfig(**{"hidden_size": 6, "unimodal_size": 4, "fusion_size": 5, **SIZES, **changes}))
    )


class BcLstm(Reference):
    """One sample at a time."""

    def __init__(self, model):
        super().__init__(model)
        self.config = model.config

    def context(self, modality, steps):
        name = f"contexts.{modality}"
        if self.config.bidirectional:
            states = [np.concatenate(pair) for pair in self.both_directions(f"{name}.lstm", steps)]
        else:
            states = self.lstm(f"{name}.lstm", steps)
        return [np.tanh(self.linear(f"{name}.dense", state)) for state in states]

    def answers(self, sample):
        """The fused prediction, and those of the modalities that the sample has."""
        contexts = {modality: self.context(modality, steps) for modality, steps in sample.items()}
        width = self.config.unimodal_size
        nothing = np.zeros(width)
        length = max(map(len, contexts.values()))
        joined = [
            np.concatenate([context[step] if context else nothing for context in contexts.values()])
            for step in range(length)
        ]
        state = self.lstm("fusion_lstm", joined)[-1] if length else np.zeros(self.config.hidden_size)
        if self.config.bidirectional:
            last = joined[-1] if length else np.zeros(width * len(contexts))
            entry, new, leave = np.split(self.linear("last_step.gates", last), 3)
            state = np.concatenate([state, sigmoid(leave) * np.tanh(sigmoid(entry) * np.tanh(new))])
        hidden = np.maximum(self.linear("hidden", state), 0)
        unimodal = {m: self.linear(f"unimodal_outputs.{m}", steps[-1]) for m, steps in contexts.items() if steps}
        return self.linear("output", hidden), unimodal


@pytest.mark.parametrize("changes", [{}, {"bidirectional": False}, {"text_feature_size": None}])
@pytest.mark.parametrize("lengths", [ALIGNED, MISSING], ids=["aligned", "missing"])
def test_equals_the_formulas(changes, lengths):
    model = small_model(unimodal_weight=0.3, fusion_weight=0.7, **changes)
    samples, reference = make_samples(model.config, lengths), BcLstm(model)
    labels = torch.linspace(-2, 2, len(samples), dtype=torch.float64)
    with torch.no_grad():
        output = model(**to_batch(samples), labels=labels)

    answers = [reference.answers(sample) for sample in samples]
    errors = {modality: [] for modality in model.config.modalities}
    for row, (fused, unimodal) in enumerate(answers):
        np.testing.assert_allclose(output.logits[row], fused, atol=1e-12)
        for modality, answer in unimodal.items():
            np.testing.assert_allclose(output[f"{modality}_logits"][row], answer, atol=1e-12)
            errors[modality].append(abs(answer[0] - labels[row].item()))
    loss = 0.7 * np.mean([abs(fused[0] - label) for (fused, _), label in zip(answers, labels.tolist(), strict=True)])
    loss += 0.3 * sum(np.mean(found) for found in errors.values())
    np.testing.assert_allclose(output.loss, loss, rtol=1e-5)
    assert reference.read == set(reference.weights)


def test_modalities_are_read_at_the_steps_of_the_first():
    """Audio of twice as many steps is the mean of two at a time."""
    model = small_model(vision_feature_size=None)
    samples = make_samples(model.config, {"text": (3, 2), "audio": (6, 4)})
    with torch.no_grad():
        found = model(**to_batch(samples)).logits
        paired = [{**s, "audio": s["audio"].reshape(-1, 2, 5).mean(axis=1)} for s in samples]
        torch.testing.assert_close(found, model(**to_batch(paired)).logits)


def test_the_last_step_of_a_backward_lstm():
    """Its state there is the same with whatever forget gate and weights for the state before."""
    lstm, module = nn.LSTM(3, 4, bidirectional=True, batch_first=True), _BackwardLastStep(3, 4)
    kept = [gate * 4 + unit for gate in (0, 2, 3) for unit in range(4)]
    module.gates.weight.data = lstm.weight_ih_l0_reverse.data[kept]
    module.gates.bias.data = (lstm.bias_ih_l0_reverse + lstm.bias_hh_l0_reverse).data[kept]
    steps = torch.randn(2, 5, 3)
    torch.testing.assert_close(module(steps[:, -1]), lstm(steps)[0][:, -1, 4:])


def test_levels_learn_apart():
    """With the one weight or the other at 0, as in the stages of the paper's training."""
    batch = to_batch(make_samples(small_model().config, ALIGNED))
    for unimodal_weight, fusion_weight, untouched in (
        (1.0, 0.0, ("fusion", "hidden", "output", "last")),
        (0.0, 1.0, ()),
    ):
        model = small_model(unimodal_weight=unimodal_weight, fusion_weight=fusion_weight)
        model(**batch, labels=torch.ones(3)).loss.backward()
        for name, parameter in model.named_parameters():
            still = name.startswith(untouched) if untouched else name.startswith("unimodal_outputs")
            # With one labelled step, the last, level 1's backward LSTMs carry a state for level 2 alone.
            if not name.endswith("backward_lstm.weight_hh_l0"):
                assert bool(parameter.grad.abs().max() == 0) == still, name


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_parameters():
    """
    The authors' code has 4,746,404 for a regression of these features, and 804 more with its outputs of two classes. It
    has one bias for each gate, where torch has two, and a whole backward LSTM on level 2.
    """
    model = BcLstmModel(BcLstmConfig(**UTTERANCES))

    def of_lstm(width, biases):
        return 4 * (300 * (width + 300) + biases * 300)

    dense = 600 * 100 + 100 + 100 + 1
    level_1 = sum(2 * of_lstm(width, 1) + dense for width in (100, 73, 100))
    level_2 = 2 * of_lstm(300, 1) + 600 * 500 + 500 + 500 + 1
    assert level_1 + level_2 == 4_746_404
    never_used = 4 * 300 * 300 + 300 * 300 + 300  # weights for a state, and the forget gate
    second_biases = (3 * 2 + 1) * 1_200
    assert count(model) == level_1 + level_2 - never_used + second_biases == 4_304_504
    assert count(BcLstmModel(BcLstmConfig(**UTTERANCES, bidirectional=False))) == 2_378_804


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"unimodal_weight": 0, "fusion_weight": 0.0}, "`unimodal_weight` and `fusion_weight` must not both be 0"),
        ({"dropout": 1.0}, "`dropout` must be at least 0 and below 1"),
        ({"fusion_size": 0}, "`fusion_size` must be at least 1"),
    ],
)
def test_config_errors(fields, message):
    with pytest.raises(ValueError, match=message):
        BcLstmConfig(**SIZES, **fields)
