"""The recalibration against loops over rows, steps and features in plain Python, and against its published sizes."""

import math

import pytest
import torch

from modeling.modality_sequence import ModalitySequence
from modeling.recalibration import ModalityRecalibration

WIDTHS = {"text": 4, "audio": 2, "vision": 3}
# By row and modality; row 1 has its steps behind its padding, row 2 between, row 3 lacks audio, row 4 everything.
MASKS = {
    "text": ("1111", "0011", "0100", "1000", "0000"),
    "audio": ("11100", "00111", "01010", "00000", "00000"),
    "vision": ("110", "001", "101", "111", "000"),
}


def small_module(reduction=2, widths=WIDTHS):
    torch.manual_seed(0)
    module = ModalityRecalibration(widths, reduction).double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0.0, 0.8)
    return module


def small_batch(widths=WIDTHS):
    """Padding holds numbers like any others, only larger."""
    generator, sequences = torch.Generator().manual_seed(1), {}
    for modality, width in widths.items():
        mask = torch.tensor([[step == "1" for step in row] for row in MASKS[modality]])
        values = torch.randn(*mask.shape, width, generator=generator, dtype=torch.float64)
        sequences[modality] = ModalitySequence(torch.where(mask[..., None], values, 50 + values), mask)
    return sequences


def linear(layer, x):
    return [
        sum(w * value for w, value in zip(row, x, strict=True)) + bias
        for row, bias in zip(layer.weight.tolist(), layer.bias.tolist(), strict=True)
    ]


def expected_gates(module, sample):
    """By modality, 2 sigmoid(E), from the valid steps of each."""
    squeezed = []
    for modality, steps in sample.items():
        for feature in range(WIDTHS[modality]):
            column = [step[feature] for step in steps]
            squeezed.append(sum(column) / len(column) if column else 0.0)
    joint = [max(z, 0.0) for z in linear(module.squeeze, squeezed)]
    return {m: [2 / (1 + math.exp(-e)) for e in linear(module.excite[m], joint)] for m in sample}


@pytest.mark.parametrize("modalities", [("text", "audio", "vision"), ("audio", "vision"), ("text",)])
def test_every_step_is_weighted_by_the_gates_of_its_sample(modalities):
    widths = {modality: WIDTHS[modality] for modality in modalities}
    module, sequences = small_module(widths=widths), small_batch(widths)
    with torch.no_grad():
        output = module(sequences)
    assert list(output) == list(modalities)
    for row in range(5):
        sample = {
            m: [step for step, there in zip(values[row].tolist(), MASKS[m][row], strict=True) if there == "1"]
            for m, (values, _) in sequences.items()
        }
        for modality, gates in expected_gates(module, sample).items():
            values, mask = output[modality]
            assert torch.equal(mask, sequences[modality].mask)
            for step, there in enumerate(MASKS[modality][row]):
                if there == "1":
                    given = sequences[modality].values[row, step].tolist()
                    expected = [gate * value for gate, value in zip(gates, given, strict=True)]
                    assert values[row, step].tolist() == pytest.approx(expected, abs=1e-12), (modality, row, step)
            assert min(abs(gate - 1) for gate in gates) > 1e-3  # not a comparison of what was left as it was


def test_gates_are_one_without_weights():
    """2 sigmoid(0): the other values of a sigmoid would shrink all features."""
    module, sequences = small_module(), small_batch()
    with torch.no_grad():
        for parameter in module.excite.parameters():
            parameter.zero_()
        torch.testing.assert_close(module(sequences), sequences, atol=0, rtol=0)


def test_modalities_are_joined_in_the_order_of_their_sizes():
    """Not in that of the batch: a checkpoint has the order in its weights."""
    module, sequences = small_module(), small_batch()
    turned = {modality: sequences[modality] for modality in reversed(sequences)}
    with torch.no_grad():
        torch.testing.assert_close(module(turned), module(sequences), atol=0, rtol=0)


@pytest.mark.parametrize(
    "widths, reduction, bottleneck",
    [((768, 5, 20), 4, 198), ((768, 74, 35), 4, 219), ((4, 2, 3), 1, 9), ((4, 2, 3), 5, 1), ((4, 2, 3), 10, 1)],
)
def test_bottleneck_is_the_sum_of_the_sizes_over_the_reduction(widths, reduction, bottleneck):
    """Rounded down (793 / 4 and 877 / 4 for CMU-MOSI and CMU-MOSEI), and at least one wide."""
    module = ModalityRecalibration(dict(zip(WIDTHS, widths, strict=True)), reduction)
    assert tuple(module.squeeze.weight.shape) == (bottleneck, sum(widths))
    assert [tuple(layer.weight.shape) for layer in module.excite.values()] == [(w, bottleneck) for w in widths]


@pytest.mark.parametrize(
    "widths, published", [((768, 5, 20), 315_019), ((768, 74, 35), 385_222)], ids=["mosi", "mosei"]
)
def test_size_of_the_authors_module(widths, published):
    module = ModalityRecalibration(dict(zip(WIDTHS, widths, strict=True)), 4)
    assert sum(parameter.numel() for parameter in module.parameters()) == published
