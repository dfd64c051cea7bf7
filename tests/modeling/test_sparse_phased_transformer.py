"""
The sparse phased transformer against loops over rows, slots, heads and keys in NumPy, against windows that were worked
out by hand, and against the size of its authors' network.
"""

import math

import numpy as np
import pytest
import torch

from modeling.modality_sequence import ModalitySequence
from modeling.sparse_phased_transformer import SparsePhasedTransformer, window_starts

ALL_SHIFTS = ("stride", "phase", "random")
DROPOUTS = ("attention_dropout", "relu_dropout", "residual_dropout", "embedding_dropout")
# One row of lengths per modality: longer and shorter than the windows, not multiples of the stride, and missing ones.
LENGTHS = {"text": (7, 3, 1, 0, 8), "audio": (11, 0, 2, 0, 1), "vision": (4, 9, 5, 6, 0)}
WIDTHS = {"text": 5, "audio": 2, "vision": 3}


def small_encoder(widths, shifts=ALL_SHIFTS, stride=2, radii=(3, 2, 1), repetitions=3, size=6, **dropouts):
    """In double precision; every weight is far from zero and from one, biases and normalisations included."""
    torch.manual_seed(0)
    dropouts = {**dict.fromkeys(DROPOUTS, 0.0), **dropouts}
    encoder = SparsePhasedTransformer(widths, size, repetitions, 2, stride, radii, shifts, **dropouts).double().eval()
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.normal_(0.0, 0.6)
    return encoder


def small_batch(widths, lengths=LENGTHS):
    """Left-aligned sequences by modality; what is no valid step holds numbers like any others."""
    generator, sequences = torch.Generator().manual_seed(1), {}
    for modality, width in widths.items():
        counts = torch.tensor(lengths[modality])
        steps = max(int(counts.max()), 1)
        values = torch.randn(len(counts), steps, width, generator=generator, dtype=torch.float64)
        sequences[modality] = ModalitySequence(values, torch.arange(steps) < counts[:, None])
    return sequences


class Reference:
    """
    The encoder of one sample, slot by slot, head by head and key by key.

    Args:
        weights (`dict`): The module's, by name; `read` says which of them were used.
        off (`str`): The dropout, if any, that drops everything: with probability one, it shows where it is.
    """

    def __init__(self, weights, heads, stride, radii, shifts, repetitions, off=None):
        self.weights, self.read = {name: tensor.numpy() for name, tensor in weights.items()}, set()
        self.heads, self.stride, self.shifts, self.repetitions, self.off = heads, stride, shifts, repetitions, off
        self.windows = [2 * radius + 1 for radius in radii]

    def weight(self, name):
        self.read.add(name)
        return self.weights[name]

    def linear(self, name, x):
        return self.weight(f"{name}.weight") @ x + self.weight(f"{name}.bias")

    def norm(self, name, x):
        centred = x - x.mean()
        return self.weight(f"{name}.weight") * centred / np.sqrt((centred**2).mean() + 1e-5) + self.weight(
            f"{name}.bias"
        )

    def kept(self, dropout, x):
        return np.zeros_like(x) if self.off == dropout else x

    def embedded(self, steps, size):
        """sqrt(size) x + PE: d // 2 sines and as many cosines, of positions from 1; an odd last feature has none."""
        result = math.sqrt(size) * np.array(steps)
        half = result.shape[1] // 2
        for position, row in enumerate(result, start=1):
            for k in range(half):
                angle = position * 10_000 ** (-k / max(half - 1, 1))
                row[k] += math.sin(angle)
                row[half + k] += math.cos(angle)
        return self.kept("embedding_dropout", result)

    def layer(self, name, state, context, starts, window, swapped=False):
        """One block of attention and feed-forward; `context` None is attention to the normalised slots themselves."""
        size, normed = state.shape[1], [self.norm(f"{name}.norm", slot) for slot in state]
        read = normed if context is None else [self.norm(f"{name}.context_norm", step) for step in context]
        as_query, as_key = ("key", "query") if swapped else ("query", "key")
        result = []
        for slot, x, start in zip(state, normed, starts, strict=True):
            query = self.linear(f"{name}.{as_query}", x)
            steps = [read[(start + k) % len(read)] for k in range(window)]
            keys = [self.linear(f"{name}.{as_key}", step) for step in steps]
            values = [self.linear(f"{name}.value", step) for step in steps]
            found = []
            for part in np.split(np.arange(size), self.heads):
                scores = [math.exp(query[part] @ key[part] / math.sqrt(len(part))) for key in keys]
                mean = sum(score / sum(scores) * value[part] for score, value in zip(scores, values, strict=True))
                found.append(self.kept("attention_dropout", mean))
            added = self.linear(f"{name}.output", np.concatenate(found))
            slot = slot + self.kept("residual_dropout", added)
            inner = np.maximum(
                self.linear(f"{name}.feed_forward.inner", self.norm(f"{name}.feed_forward.norm", slot)), 0
            )
            outer = self.linear(f"{name}.feed_forward.outer", self.kept("relu_dropout", inner))
            result.append(slot + self.kept("residual_dropout", outer))
        return np.array(result)

    def starts(self, slots, stride, window, repetition, length=None, shifts=("stride",)):
        shift = repetition if "stride" in shifts else 0
        phases = [int(length * math.sin(0.25 * j)) if "phase" in shifts else 0 for j in range(slots)]
        return [(j + 1) * stride - window + shift + phases[j] for j in range(slots)]

    def slots(self, sample):
        """From each modality's valid steps (L, d) to its slots; a modality without steps is not in the result."""
        names, size = list(sample), self.weight("slots").shape[1]
        sample = {modality: steps for modality, steps in sample.items() if len(steps)}
        inputs = {modality: self.embedded(steps, size) for modality, steps in sample.items()}
        hidden = {}
        for modality, steps in sample.items():
            first = [self.weight("slots")[names.index(modality)]] * math.ceil(len(steps) / self.stride)
            hidden[modality] = self.embedded(first, size)
        for i in range(self.repetitions):
            for modality, state in hidden.items():
                steps, window = inputs[modality], self.windows[0]
                starts = self.starts(len(state), self.stride, window, i, len(steps), self.shifts)
                hidden[modality] = self.layer(f"input_attention.{modality}", state, steps, starts, window)
            crossed = {}
            for target, state in hidden.items():
                starts = self.starts(len(state), 1, self.windows[1], i)
                found = []
                for source in hidden:
                    if names.index(target) < names.index(source):
                        pair, swapped = f"{target}_{source}", False
                    elif names.index(target) > names.index(source):
                        pair, swapped = f"{source}_{target}", True
                    else:
                        continue
                    name = f"cross_attention.{pair}"
                    found.append(self.layer(name, state, hidden[source], starts, self.windows[1], swapped))
                crossed[target] = sum(found) if found else state
            hidden = crossed
            for modality, state in hidden.items():
                starts = self.starts(len(state), 1, self.windows[2], i)
                hidden[modality] = self.layer(f"self_attention.{modality}", state, None, starts, self.windows[2])
        return {m: np.array([self.norm("norm", slot) for slot in state]) for m, state in hidden.items()}


def assert_equals_reference(encoder, reference, sequences, lengths):
    with torch.no_grad():
        output = encoder(sequences)
    rows = len(next(iter(lengths.values())))
    for row in range(rows):
        sample = {m: sequence.values[row, : lengths[m][row]].numpy() for m, sequence in sequences.items()}
        expected = reference.slots(sample)
        for modality, (values, mask) in output.items():
            count = math.ceil(lengths[modality][row] / reference.stride)
            assert mask[row].tolist() == [True] * count + [False] * (mask.shape[1] - count)
            assert not values[row, count:].any()
            if count:  # positions are computed in single precision
                case = f"{modality}, row {row}"
                np.testing.assert_allclose(values[row, :count].numpy(), expected[modality], atol=2e-5, err_msg=case)
    assert reference.read == set(reference.weights)


@pytest.mark.parametrize("modalities", [("text", "audio", "vision"), ("text", "vision"), ("audio", "text"), ("text",)])
@pytest.mark.parametrize("shifts", [ALL_SHIFTS, ("stride",), ("phase",), ()], ids=lambda shifts: "+".join(shifts))
def test_forward_equals_the_equations(modalities, shifts):
    """A row may lack modalities, or all but one, which then meets no other."""
    widths = {modality: WIDTHS[modality] for modality in modalities}
    encoder, radii = small_encoder(widths, shifts), (3, 2, 1)
    reference = Reference(encoder.state_dict(), 2, 2, radii, shifts, 3)
    assert_equals_reference(encoder, reference, small_batch(widths), LENGTHS)


@pytest.mark.parametrize("stride, radii, repetitions", [(1, (0, 0, 0), 2), (3, (1, 3, 2), 1), (5, (8, 4, 3), 4)])
def test_strides_and_radii(stride, radii, repetitions):
    encoder = small_encoder(WIDTHS, stride=stride, radii=radii, repetitions=repetitions)
    reference = Reference(encoder.state_dict(), 2, stride, radii, ALL_SHIFTS, repetitions)
    assert_equals_reference(encoder, reference, small_batch(WIDTHS), LENGTHS)


@pytest.mark.parametrize("dropout", DROPOUTS)
def test_every_dropout_is_in_its_place(dropout):
    """With probability one it drops all of what it is on, and training is no longer random."""
    encoder = small_encoder(WIDTHS, **{dropout: 1.0}).train()
    reference = Reference(encoder.state_dict(), 2, 2, (3, 2, 1), ALL_SHIFTS, 3, off=dropout)
    assert_equals_reference(encoder, reference, small_batch(WIDTHS), LENGTHS)


def starts_of(slots, length, stride, window, repetition=0, shifts=("stride",), training=False, used=None):
    used = torch.tensor([slots if used is None else used])
    return window_starts(slots, torch.tensor([length]), used, stride, window, repetition, shifts, training)[0].tolist()


@pytest.mark.parametrize(
    "length, stride, radius, slot, repetition, window",
    [
        (375, 5, 8, 0, 0, [*range(363, 375), *range(5)]),
        (375, 5, 8, 74, 0, [*range(358, 375)]),
        (50, 5, 8, 9, 0, [*range(33, 50)]),
        (10, 1, 4, 74, 0, [6, 7, 8, 9, 0, 1, 2, 3, 4]),
        (10, 1, 3, 0, 2, [6, 7, 8, 9, 0, 1, 2]),
    ],
)
def test_windows_of_the_authors_configuration(length, stride, radius, slot, repetition, window):
    start = starts_of(slot + 1, length, stride, len(window), repetition)[slot]
    assert len(window) == 2 * radius + 1 and [(start + k) % length for k in range(len(window))] == window
    assert start == (slot + 1) * stride - len(window) + repetition


@pytest.mark.parametrize(
    "lengths, stride, radii, target, slot, source, window",
    [
        ((375, 10), 5, (8, 0, 0), "text", 0, "text", [*range(363, 375), *range(5)]),
        ((375, 10), 5, (8, 0, 0), "text", 74, "text", [*range(358, 375)]),
        ((50, 375), 5, (8, 0, 0), "text", 9, "text", [*range(33, 50)]),
        ((75, 10), 1, (0, 4, 0), "text", 74, "audio", [6, 7, 8, 9, 0, 1, 2, 3, 4]),
        ((10, 75), 1, (0, 4, 0), "audio", 74, "text", [6, 7, 8, 9, 0, 1, 2, 3, 4]),
        ((10, 4), 1, (0, 0, 3), "text", 0, "text", [4, 5, 6, 7, 8, 9, 0]),
    ],
)
def test_a_slot_depends_on_the_steps_of_its_window(lengths, stride, radii, target, slot, source, window):
    """Beside a longer row, whose length is not the one to wrap around. Windows of one step read a step per slot."""
    widths = {"text": 4, "audio": 5}
    encoder = small_encoder(widths, ("stride",), stride=stride, radii=radii, repetitions=1)
    sequences = small_batch(widths, {m: (length, length + 13) for m, length in zip(widths, lengths, strict=True)})
    values = sequences[source].values.requires_grad_()
    (gradient,) = torch.autograd.grad(encoder(sequences)[target].values[0, slot].square().sum(), values)
    assert gradient[0].abs().sum(dim=-1).nonzero().flatten().tolist() == sorted(window)
    assert not gradient[1].any()


def test_shifts_of_each_row():
    """Phases are those of the row's own length, cut off towards zero, and shifts of several kinds add up."""
    lengths, slots = [375, 50, 500, 1, 7, 0], 100
    used = torch.tensor([math.ceil(length / 5) for length in lengths])
    for repetition in (0, 3):
        for shifts in ((), ("stride",), ("phase",), ("phase", "stride"), ALL_SHIFTS):
            found = window_starts(slots, torch.tensor(lengths), used, 5, 17, repetition, shifts, False)
            assert found.shape == (6, slots) and found.dtype == torch.int64
            for length, row in zip(lengths, found.tolist(), strict=True):
                phases = [math.trunc(length * math.sin(0.25 * j)) if "phase" in shifts else 0 for j in range(slots)]
                shift = repetition if "stride" in shifts else 0
                assert row == [(j + 1) * 5 - 17 + shift + phases[j] for j in range(slots)]
    assert math.trunc(375 * math.sin(0.25 * 13)) == -40 != math.floor(375 * math.sin(0.25 * 13))


@pytest.mark.parametrize("stride, length, bound", [(50, 1000, 3), (100, 100, 5), (21, 210, 2), (21, 211, 1)])
def test_random_shifts_come_in_training(stride, length, bound):
    """From 0 to ceil(0.05 L / h) - 1, for each slot and each row its own; h is the row's slots, not the batch's."""
    torch.manual_seed(0)
    used = math.ceil(length / stride)
    lengths, counts = torch.tensor([length] * 200 + [20]), torch.tensor([used] * 200 + [1])
    plain = window_starts(40, lengths, counts, stride, 3, 1, ("stride",), True)
    moved = window_starts(40, lengths, counts, stride, 3, 1, ("stride", "random"), True) - plain
    assert set(moved[:200].flatten().tolist()) == set(range(bound)) and not moved[200].any()
    if bound > 1:
        assert len(moved[:200].unique(dim=0)) == 200 and len(moved[:200].unique(dim=1)[0]) == 40
        share = torch.bincount(moved[:200].flatten()) / moved[:200].numel()
        assert (share - 1 / bound).abs().max() < 0.03
    assert torch.equal(window_starts(40, lengths, counts, stride, 3, 1, ("stride", "random"), False), plain)


def test_random_shifts_are_nothing_at_small_strides():
    """ceil(0.05 L / h) is 1 where there are at most 20 steps per slot, whatever the rounding."""
    lengths = torch.arange(2001)
    for stride in (1, 5, 19, 20):
        used = (lengths + stride - 1) // stride
        plain, moved = (window_starts(3, lengths, used, stride, 17, 0, shifts, True) for shifts in ((), ("random",)))
        assert torch.equal(plain, moved)


@pytest.mark.parametrize(
    "stride, shifts, moves", [(40, ("random",), True), (20, ALL_SHIFTS, False), (40, ("stride", "phase"), False)]
)
def test_windows_of_inputs_alone_move_at_random(stride, shifts, moves):
    """
    With all dropout off, nothing else is random in training, and nothing at all in evaluation. The one slot that the
    other rows have is the h of their range: with the two of the longest row, it would be 0.
    """
    widths = {"text": 3, "audio": 4}
    sequences = small_batch(widths, {"text": (80, *[40] * 6), "audio": (80, *[40] * 6)})
    encoder = small_encoder(widths, shifts, stride=stride)
    with torch.no_grad():
        steady, again, torn = encoder(sequences), encoder(sequences), encoder.train()(sequences)
    for modality in widths:
        assert torch.equal(steady[modality].values, again[modality].values)
        for rows in (slice(1), slice(1, None)):
            assert torch.equal(steady[modality].values[rows], torn[modality].values[rows]) != moves


def test_slots_of_unaligned_mosi():
    lengths = {"text": (50, 6, 1, 0), "audio": (375, 371, 5, 376), "vision": (500, 0, 0, 3)}
    widths = {"text": 3, "audio": 5, "vision": 4}
    encoder = SparsePhasedTransformer(widths, 8, 2, 2, 5, (8, 4, 3), ALL_SHIFTS, 0.0, 0.0, 0.0, 0.0).double()
    assert encoder.output_sizes == dict.fromkeys(widths, 8)
    output = encoder(small_batch(widths, lengths))
    slots = {modality: sequence.lengths.tolist() for modality, sequence in output.items()}
    assert slots == {"text": [10, 2, 1, 0], "audio": [75, 75, 1, 76], "vision": [100, 0, 0, 1]}
    shapes = {modality: tuple(sequence.values.shape) for modality, sequence in output.items()}
    assert shapes == {"text": (4, 10, 8), "audio": (4, 76, 8), "vision": (4, 100, 8)}


@pytest.mark.parametrize(
    "widths, published", [((768, 5, 20), 161_074), ((768, 74, 35), 166_618)], ids=["mosi", "mosei"]
)
@pytest.mark.parametrize("repetitions", [1, 4])
def test_size_of_the_authors_network(widths, published, repetitions):
    """Less one normalisation per modality that nothing in it reads; depth costs nothing."""
    widths = dict(zip(("text", "audio", "vision"), widths, strict=True))
    encoder = SparsePhasedTransformer(widths, 32, repetitions, 8, 5, (8, 4, 3), ALL_SHIFTS, 0.3, 0.3, 0.3, 0.3)
    assert sum(parameter.numel() for parameter in encoder.parameters()) == published - 3 * 2 * 32
