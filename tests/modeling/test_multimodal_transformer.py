"""MulT's encoder against loops over rows, steps, heads and keys in NumPy, and against its published sizes."""

import math

import numpy as np
import pytest
import torch

from configuration import MMLatchConfig
from modeling import MMLatchModel
from modeling.modality_sequence import ModalitySequence
from modeling.multimodal_transformer import MultimodalTransformer

DROPOUTS = ("attention_dropout", "relu_dropout", "residual_dropout", "embedding_dropout")
# One row of lengths per modality, in which rows lack one, two and all of them.
LENGTHS = {"text": (4, 3, 1, 0, 0), "audio": (6, 0, 2, 1, 0), "vision": (2, 5, 0, 0, 0)}
WIDTHS = {"text": 5, "audio": 3, "vision": 4}
SIZE = 6


def small_encoder(widths, layers=2, heads=2, size=SIZE, **dropouts):
    """In double precision; every weight is far from zero and from one, biases and normalisations included."""
    torch.manual_seed(0)
    dropouts = {**dict.fromkeys(DROPOUTS, 0.0), **dropouts}
    encoder = MultimodalTransformer(widths, size, layers, heads, **dropouts).double().eval()
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.normal_(0.0, 0.6)
    return encoder


def small_batch(widths, lengths=LENGTHS):
    """Left-aligned sequences by modality; what is no valid step holds numbers like any others."""
    generator, sequences = torch.Generator().manual_seed(1), {}
    for modality, width in widths.items():
        counts = torch.tensor(lengths[modality])
        steps = int(counts.max()) + 1
        values = torch.randn(len(counts), steps, width, generator=generator, dtype=torch.float64)
        sequences[modality] = ModalitySequence(values, torch.arange(steps) < counts[:, None])
    return sequences


class Reference:
    """
    The encoder of one sample, step by step, head by head and key by key.

    Args:
        weights (`dict`): The module's, by name; `read` says which of them were used.
        off (`(str, str)`): The dropout, if any, that drops everything, and the transformers that it is in, "crossmodal"
            or "refinement": with probability one, it shows where it is.
    """

    def __init__(self, weights, layers, heads, off=(None, None)):
        self.weights, self.read = {name: tensor.numpy() for name, tensor in weights.items()}, set()
        self.layers, self.heads, self.off, self.part = layers, heads, off, None

    def weight(self, name):
        self.read.add(name)
        return self.weights[name]

    def linear(self, name, x):
        return self.weight(f"{name}.weight") @ x + self.weight(f"{name}.bias")

    def norm(self, name, x):
        centred = x - x.mean()
        scaled = centred / np.sqrt((centred**2).mean() + 1e-5)
        return self.weight(f"{name}.weight") * scaled + self.weight(f"{name}.bias")

    def kept(self, dropout, x):
        return np.zeros_like(x) if self.off == (dropout, self.part) else x

    def embedded(self, steps):
        """sqrt(d) x + PE: d // 2 sines and as many cosines, of positions from 1; an odd last feature has none."""
        result = []
        for position, step in enumerate(steps, start=1):
            row, half = math.sqrt(len(step)) * step, len(step) // 2
            for k in range(half):
                angle = position * 10_000 ** (-k / max(half - 1, 1))
                row[k] += math.sin(angle)
                row[half + k] += math.cos(angle)
            result.append(self.kept("embedding_dropout", row))
        return result

    def attention(self, name, x, keys):
        if not keys:
            return np.zeros(len(x))
        query, size = self.linear(f"{name}.query", x), len(x)
        found = np.zeros(size)
        for part in np.split(np.arange(size), self.heads):
            scores = [
                math.exp(query[part] @ self.linear(f"{name}.key", key)[part] / math.sqrt(len(part))) for key in keys
            ]
            for score, key in zip(scores, keys, strict=True):
                found[part] += score / sum(scores) * self.linear(f"{name}.value", key)[part]
        return self.linear(f"{name}.output", self.kept("attention_dropout", found))

    def transformer(self, name, target, source, layers):
        """From a target to a source, whose embedding stays as it is; where that is None, to what the layers make."""
        self.part = name.split(".")[0]
        values = self.embedded(target)
        fixed = None if source is None else self.embedded(source)
        for number in range(layers):
            layer = f"{name}.layers.{number}"
            keys = [self.norm(f"{layer}.norm", step) for step in (values if fixed is None else fixed)]
            result = []
            for step in values:
                added = self.attention(f"{layer}.attention", self.norm(f"{layer}.norm", step), keys)
                step = step + self.kept("residual_dropout", added)
                inner = self.linear(f"{layer}.feed_forward.inner", self.norm(f"{layer}.feed_forward.norm", step))
                outer = self.linear(f"{layer}.feed_forward.outer", self.kept("relu_dropout", np.maximum(inner, 0)))
                result.append(step + self.kept("residual_dropout", outer))
            values = result
        return [self.norm(f"{name}.norm", step) for step in values]

    def states(self, sample):
        """From each modality's valid steps (L, d) to its states (L, (n - 1) d)."""
        projected = {m: [self.weight(f"projections.{m}.weight") @ step for step in sample[m]] for m in sample}
        result = {}
        for target, steps in projected.items():
            parts = [
                self.transformer(f"crossmodal.{target}_from_{source}", steps, projected[source], self.layers)
                for source in sample
                if source != target
            ]
            joined = [np.concatenate(step) for step in zip(*parts or [steps], strict=True)]
            result[target] = self.transformer(f"refinement.{target}", joined, None, max(self.layers, 3))
        return result


def assert_equals_reference(encoder, reference, sequences, lengths=LENGTHS):
    with torch.no_grad():
        output = encoder(sequences)
    for row in range(len(lengths["text"])):
        sample = {m: sequence.values[row, : lengths[m][row]].numpy() for m, sequence in sequences.items()}
        for modality, expected in reference.states(sample).items():
            values, mask = output[modality]
            assert torch.equal(mask, sequences[modality].mask) and not values[row, len(expected) :].any()
            if expected:  # positions are computed in single precision
                found, case = values[row, : len(expected)].numpy(), f"{modality}, row {row}"
                np.testing.assert_allclose(found, expected, atol=2e-5, err_msg=case)
    assert reference.read == set(reference.weights)


@pytest.mark.parametrize("modalities", [("text", "audio", "vision"), ("text", "vision"), ("audio",)])
@pytest.mark.parametrize("layers", [1, 4])
def test_forward_equals_the_equations(modalities, layers):
    """
    Of corpora with three modalities, two and one. A step that has nothing to attend to, as its sample lacks the source,
    gets the projection of zeros.
    """
    widths = {modality: WIDTHS[modality] for modality in modalities}
    encoder = small_encoder(widths, layers)
    assert_equals_reference(encoder, Reference(encoder.state_dict(), layers, 2), small_batch(widths))
    width = max(len(modalities) - 1, 1) * SIZE
    assert encoder.output_sizes == dict.fromkeys(modalities, width)
    assert [refined.norm.weight.numel() for refined in encoder.refinement.values()] == [width] * len(modalities)


@pytest.mark.parametrize("heads, size", [(1, 5), (3, 9)])
def test_heads_and_odd_widths(heads, size):
    encoder = small_encoder(WIDTHS, heads=heads, size=size)
    assert_equals_reference(encoder, Reference(encoder.state_dict(), 2, heads), small_batch(WIDTHS))


@pytest.mark.parametrize("part", ["crossmodal", "refinement"])
@pytest.mark.parametrize("dropout", DROPOUTS)
def test_every_dropout_is_in_its_place(dropout, part):
    """With probability one it drops all of what it is on, and training is no longer random."""
    encoder = small_encoder(WIDTHS, **{dropout: 1.0})
    getattr(encoder, part).train()
    reference = Reference(encoder.state_dict(), 2, 2, off=(dropout, part))
    assert_equals_reference(encoder, reference, small_batch(WIDTHS))


def test_nothing_is_random_without_dropout():
    sequences, encoder = small_batch(WIDTHS), small_encoder(WIDTHS)
    with torch.no_grad():
        torch.testing.assert_close(encoder(sequences), encoder.train()(sequences), atol=0, rtol=0)


@pytest.mark.parametrize("audio, vision, published", [(5, 20, 1_071_211), (74, 35, 1_073_731)], ids=["mosi", "mosei"])
def test_published_parameter_counts(audio, vision, published):
    """MulT as a whole, with its residual head: without feedback, MMLatch around it adds nothing."""
    sizes = {"text_feature_size": 300, "audio_feature_size": audio, "vision_feature_size": vision}
    config = MMLatchConfig(encoder="mult", feedback="none", hidden_size=30, num_hidden_layers=5, **sizes)
    assert MMLatchModel(config).num_parameters() == published
