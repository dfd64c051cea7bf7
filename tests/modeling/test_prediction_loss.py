"""The loss that architectures share, by problem type, against NumPy; and what it refuses."""

import math

import numpy as np
import pytest
import torch

from configuration import MultimodalConfig
from modeling.modeling_multimodal import MultimodalPreTrainedModel

ROWS = 5
OWN = {"target": None, "num_labels": 3}
# By name: a configuration, and labels of five samples.
PROBLEMS = {
    "sentiment": ({}, torch.tensor([1.5, -2.0, 0.0, 3.0, -0.25])),
    "regression": ({**OWN, "problem_type": "regression"}, torch.arange(15.0).reshape(ROWS, 3) / 4 - 2),
    "sentiment2": ({"target": "sentiment2"}, torch.tensor([0, 1, 1, 0, 1])),
    "sentiment7": ({"target": "sentiment7"}, torch.tensor([6, 0, 3, 2, 2])),
    "emotion": ({"target": "emotion"}, torch.tensor([5, 0, 3, 2, 2])),
    "emotions": ({"target": "emotions"}, torch.eye(ROWS, 6) + torch.eye(ROWS, 6).roll(2, 1)),
    "multi": ({**OWN, "problem_type": "multi_label_classification"}, torch.eye(ROWS, 3)),
}
SINGLE = ["sentiment2", "sentiment7", "emotion"]
SEVERAL = ["sentiment", "regression", "emotions", "multi"]
every_problem = pytest.mark.parametrize("problem", PROBLEMS)


def make(problem, dtype=torch.float32, scale=2.0):
    """The model of nothing but its configuration, predictions and labels."""
    settings, labels = PROBLEMS[problem]
    model = MultimodalPreTrainedModel(MultimodalConfig(audio_feature_size=1, **settings))
    logits = scale * torch.randn(ROWS, model.config.num_labels, generator=torch.Generator().manual_seed(0))
    return model, logits.to(dtype).requires_grad_(), labels


def errors(model, logits, labels):
    """(B,): of each sample, the mean over its outputs."""
    predictions, labels = logits.detach().double().numpy(), labels.numpy()
    found = []
    for prediction, label in zip(predictions, labels, strict=True):
        if model.config.problem_type == "regression":
            found.append(np.mean(abs(prediction - label)))
        elif model.config.problem_type == "multi_label_classification":
            log_yes, log_no = (-np.log1p(np.exp(sign * prediction)) for sign in (-1, 1))
            found.append(-np.mean(label * log_yes + (1 - label) * log_no))
        elif label == -100:
            found.append(math.nan)
        else:
            found.append(math.log(sum(np.exp(prediction))) - prediction[label])
    return np.array(found)


@every_problem
def test_loss_is_the_mean_over_samples(problem):
    model, logits, labels = make(problem)
    loss = model.prediction_loss(logits, labels)
    assert loss.shape == () and loss.item() == pytest.approx(errors(model, logits, labels).mean(), abs=1e-6)
    loss.backward()
    assert logits.grad.all()
    library = {
        "regression": torch.nn.functional.l1_loss,
        "single_label_classification": torch.nn.functional.cross_entropy,
        "multi_label_classification": torch.nn.functional.binary_cross_entropy_with_logits,
    }[model.config.problem_type]
    again = logits.detach().requires_grad_()
    library(again, labels.reshape(again.shape) if problem in SEVERAL else labels).backward()
    torch.testing.assert_close(logits.grad, again.grad)


@every_problem
@pytest.mark.parametrize("present", ["10110", "00001", "11111", "00000"])
def test_samples_that_are_not_present_have_no_part(problem, present):
    """The others are averaged over those alone. Of none at all the loss is zero, and its gradient finite."""
    model, logits, labels = make(problem)
    counted = torch.tensor([row == "1" for row in present])
    loss = model.prediction_loss(logits, labels, counted)
    expected = errors(model, logits, labels)[counted.numpy()].mean() if counted.any() else 0.0
    assert loss.item() == pytest.approx(expected, abs=1e-6)
    loss.backward()
    assert torch.isfinite(logits.grad).all()
    assert not logits.grad[~counted].any() and logits.grad[counted].all()


@pytest.mark.parametrize("problem", SINGLE)
@pytest.mark.parametrize("present", ["11111", "10110"])
@pytest.mark.parametrize("labelled", ["10011", "00100", "01001", "00000"])
def test_samples_without_a_label_have_no_part(problem, present, labelled):
    """As with transformers, their label is -100."""
    model, logits, labels = make(problem)
    has_label, counted = (torch.tensor([row == "1" for row in rows]) for rows in (labelled, present))
    labels = labels.masked_fill(~has_label, -100)
    loss = model.prediction_loss(logits, labels, None if present == "11111" else counted)
    counted = counted & has_label
    expected = errors(model, logits, labels)[counted.numpy()].mean() if counted.any() else 0.0
    assert loss.item() == pytest.approx(expected, abs=1e-6)
    loss.backward()
    assert torch.isfinite(logits.grad).all()
    assert not logits.grad[~counted].any() and logits.grad[counted].all()


@every_problem
def test_labels_may_have_the_shape_of_the_predictions_or_not(problem):
    """(B, 1) of one number or one class, and all labels of a batch in a row."""
    model, logits, labels = make(problem)
    expected = model.prediction_loss(logits, labels)
    for given in (labels.reshape(ROWS, -1), labels.reshape(-1)):
        torch.testing.assert_close(model.prediction_loss(logits, given), expected, atol=0, rtol=0)
    if problem in SEVERAL:
        torch.testing.assert_close(model.prediction_loss(logits, labels.double()), expected, atol=0, rtol=0)


@every_problem
def test_loss_is_computed_in_single_precision(problem):
    """Of predictions in half precision, too."""
    model, logits, labels = make(problem, torch.bfloat16)
    loss = model.prediction_loss(logits, labels)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(errors(model, logits, labels).mean(), rel=1e-5)
    loss.backward()
    assert logits.grad.dtype == torch.bfloat16 and torch.isfinite(logits.grad).all()


@every_problem
def test_loss_of_predictions_that_are_far_off(problem):
    """Finite, where the logarithm of a probability would not be."""
    model, logits, labels = make(problem, scale=1e5)
    loss = model.prediction_loss(logits, labels)
    loss.backward()
    assert torch.isfinite(loss) and loss > 1e3 and torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("problem", SINGLE)
@pytest.mark.parametrize(
    "labels, words",
    [
        (torch.tensor([0, 1]), ["one class (int64) per sample, 5", "(2,)"]),
        (torch.zeros(ROWS, 2, dtype=torch.long), ["one class (int64) per sample, 5", "(5, 2)"]),
        (torch.zeros(ROWS), ["one class (int64) per sample, 5", "torch.float32"]),
    ],
    ids=["fewer", "more", "numbers"],
)
def test_labels_that_are_no_classes_are_named(problem, labels, words):
    model, logits, _ = make(problem)
    with pytest.raises(ValueError, match="^`labels` must hold") as error:
        model.prediction_loss(logits, labels)
    assert all(word in str(error.value) for word in words), str(error.value)


@pytest.mark.parametrize("problem", SEVERAL)
@pytest.mark.parametrize("rows", [ROWS - 1, ROWS + 1])
def test_another_number_of_labels_is_named(problem, rows):
    model, logits, labels = make(problem)
    given = torch.zeros(rows, *labels.shape[1:])
    with pytest.raises(ValueError, match="^`labels` must hold a number per prediction") as error:
        model.prediction_loss(logits, given)
    assert str(tuple(logits.shape)) in str(error.value) and str(tuple(given.shape)) in str(error.value)


@pytest.mark.parametrize("problem", ["emotions", "multi", "regression"])
def test_one_label_for_several_outputs_is_named(problem):
    """It would be broadcast over them."""
    model, logits, _ = make(problem)
    with pytest.raises(ValueError, match="^`labels` must hold a number per prediction"):
        model.prediction_loss(logits, torch.zeros(ROWS))
