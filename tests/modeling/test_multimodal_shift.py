"""The bounded shift and MAG's gate against NumPy, word by word, and where norms are zero or nearly so."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from modeling.modality_sequence import ModalitySequence
from modeling.multimodal_shift import MultimodalAdaptationGate, MultimodalShift, shifted

SIZE, OTHERS = 5, {"audio": 3, "vision": 4}


def bounded(word, displacement, beta, there=True):
    """One word; `word` bounds what displaces it only where it is there."""
    length = math.sqrt(sum(x * x for x in displacement))
    if not there or length == 0:
        return word + displacement
    return word + min(beta * math.sqrt(sum(x * x for x in word)) / length, 1) * displacement


def displaced(weights, word, others, beta, activation, there=True, prefix=""):
    """What a MultimodalShift with these weights makes of one word; `others` are the vectors that the word has."""
    displacement = weights[f"{prefix}bias"].copy() if others else np.zeros(len(word))
    for modality, vector in others.items():
        gate = weights[f"{prefix}gates.{modality}.weight"] @ np.concatenate([vector, word])
        gate = activation(gate + weights[f"{prefix}gates.{modality}.bias"])
        displacement += gate * (weights[f"{prefix}directions.{modality}.weight"] @ vector)
    return bounded(word, displacement, beta, there)


def normalised(weights, prefix, x):
    centred = x - x.mean()
    scaled = centred / math.sqrt((centred**2).mean() + 1e-5)
    return weights[f"{prefix}weight"] * scaled + weights[f"{prefix}bias"]


def relu(x):
    return np.maximum(x, 0)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def scramble(module):
    torch.manual_seed(1)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.7)
    return module.double().eval()


def numpy_weights(module):
    return {name: tensor.numpy() for name, tensor in module.state_dict().items()}


def some_words():
    """Words with all of the others, with one of them, with none; missing words with all and with none."""
    masks = {
        "text": torch.tensor([[1, 1, 1, 1], [0, 0, 0, 1]]).bool(),
        "audio": torch.tensor([[1, 1, 0, 0], [1, 0, 0, 1]]).bool(),
        "vision": torch.tensor([[1, 0, 1, 0], [1, 1, 0, 1]]).bool(),
    }
    torch.manual_seed(0)
    sizes = {"text": SIZE, **OTHERS}
    words = {m: ModalitySequence(torch.randn(2, 4, sizes[m]).double(), mask) for m, mask in masks.items()}
    words["text"] = words["text"].cleared()
    return words.pop("text"), words


@pytest.mark.parametrize("beta", [0.05, 1.0, 50.0])
@pytest.mark.parametrize("kind", ["scalar", "vector", "MAG"])
def test_against_each_word(kind, beta):
    words, others = some_words()
    if kind == "MAG":
        module, prefix = scramble(MultimodalAdaptationGate(SIZE, OTHERS, beta, dropout=0.5)), "shift."
    else:
        module, prefix = scramble(MultimodalShift(SIZE, OTHERS, beta, gates=kind)), ""
    weights = numpy_weights(module)
    with torch.no_grad():
        found = module(words, others)
    for row in range(2):
        for step in range(4):
            beside = {m: s.values[row, step].numpy() for m, s in others.items() if s.mask[row, step]}
            word, there = words.values[row, step].numpy(), bool(words.mask[row, step])
            activation = sigmoid if kind == "scalar" else relu
            expected = displaced(weights, word, beside, beta, activation, there, prefix)
            if kind == "MAG":
                expected = normalised(weights, "norm.", expected)
            np.testing.assert_allclose(found[row, step].numpy(), expected, atol=1e-10)


@pytest.mark.parametrize("beta", [0.2, 1.0])
def test_no_word_moves_further_than_the_bound(beta):
    torch.manual_seed(0)
    words, displacement = torch.randn(1, 50, 6), torch.randn(1, 50, 6) * torch.logspace(-3, 3, 50)[:, None]
    moved = (shifted(ModalitySequence(words, torch.ones(1, 50).bool()), displacement, beta) - words).norm(dim=-1)
    bound, length = beta * words.norm(dim=-1), displacement.norm(dim=-1)
    torch.testing.assert_close(moved, torch.minimum(bound, length), atol=1e-5, rtol=1e-4)
    assert (length < bound).any() and (length > bound).any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("there", [True, False])
def test_nothing_is_infinite_at_small_norms(there, dtype):
    sizes = torch.tensor([0.0, 1e-30, 1e-20, 1e-7, 1.0, 1e3])
    words = (sizes[:, None, None] * torch.ones(4)).expand(6, 6, 4).to(dtype).requires_grad_()
    displacement = (sizes[None, :, None] * torch.tensor([1.0, -1.0, 2.0, 0.0])).expand(6, 6, 4).to(dtype)
    displacement = displacement.requires_grad_()
    found = shifted(ModalitySequence(words, torch.full((6, 6), there)), displacement, beta=1.0)
    assert found.dtype == dtype and torch.isfinite(found).all()
    torch.testing.assert_close(found[:, 0], words[:, 0])  # nothing displaces
    torch.testing.assert_close(found[0], torch.zeros_like(found[0]) if there else displacement[0])
    found.float().sum().backward()
    assert torch.isfinite(words.grad).all() and torch.isfinite(displacement.grad).all()


def test_gradients():
    words, others = some_words()
    gate = scramble(MultimodalAdaptationGate(SIZE, OTHERS, beta=1.0, dropout=0.0))

    def gated(text, audio, vision):
        values = {"audio": audio, "vision": vision}
        beside = {m: ModalitySequence(values[m], sequence.mask) for m, sequence in others.items()}
        return gate(ModalitySequence(text, words.mask), beside)

    inputs = [sequence.values.clone().requires_grad_() for sequence in (words, *others.values())]
    assert torch.autograd.gradcheck(gated, inputs)
