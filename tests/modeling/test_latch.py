"""The latch against equation 4 of MMLatch, written out step by step, around encoders whose inputs are recorded."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from modeling.latch import Latch
from modeling.modality_sequence import ModalitySequence
from modeling.multimodal_transformer import MultimodalTransformer
from modeling.recurrent import LSTMEncoders
from modeling.sparse_phased_transformer import SparsePhasedTransformer

INPUTS = {"text": 3, "audio": 5, "vision": 4}
OUTPUTS = {"text": 6, "audio": 7, "vision": 2}
ALIGNED = {"text": (4, 2, 1), "audio": (4, 2, 1), "vision": (4, 2, 1)}
UNALIGNED = {"text": (4, 2, 7), "audio": (1, 6, 2), "vision": (9, 3, 5)}
# Without one modality, without two, without any.
MISSING = {"text": (4, 0, 3, 0), "audio": (0, 6, 0, 0), "vision": (3, 2, 0, 0)}


class Recorder(nn.Module):
    """A layer per modality, over every `stride`-th step; keeps what it was given and what it made of it."""

    def __init__(self, input_sizes=None, stride=1):
        super().__init__()
        input_sizes = input_sizes or INPUTS
        self.layers = nn.ModuleDict({m: nn.Linear(width, OUTPUTS[m]) for m, width in input_sizes.items()})
        self.output_sizes = {m: OUTPUTS[m] for m in input_sizes}
        self.stride, self.given, self.made = stride, [], []

    def forward(self, sequences):
        made = {}
        for modality, layer in self.layers.items():
            values, mask = (tensor[:, :: self.stride] for tensor in sequences[modality])
            made[modality] = ModalitySequence(torch.tanh(2 * layer(values)), mask).cleared()
        self.given.append(sequences)
        self.made.append(made)
        return made


def small_latch(encoder=None, input_sizes=None, **settings):
    """In double precision and evaluation, with feedback weights large enough for masks that differ."""
    torch.manual_seed(0)
    latch = Latch(encoder or Recorder(input_sizes), input_sizes or INPUTS, **settings).double()
    for parameter in latch.feedback.parameters():
        nn.init.normal_(parameter)
    return latch.eval()


def small_batch(lengths, seed=0):
    generator, batch = torch.Generator().manual_seed(seed), {}
    for modality, counts in lengths.items():
        mask = torch.arange(max(counts)) < torch.tensor(counts)[:, None]
        values = torch.randn(*mask.shape, INPUTS[modality], generator=generator, dtype=torch.float64)
        batch[modality] = ModalitySequence(values, mask).cleared()
    return batch


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def resampled(steps, want):
    """Step n of N: the mean over the steps from floor(n L / N) to ceil((n + 1) L / N) of L."""
    have = len(steps)
    bounds = [(math.floor(n * have / want), math.ceil((n + 1) * have / want)) for n in range(want)]
    return [sum(steps[start:end]) / (end - start) for start, end in bounds]


def gates(layer, steps):
    """sigmoid(h) for each step, h of an LSTM from zero or of a linear layer."""
    weights = {name: parameter.detach().numpy() for name, parameter in layer.named_parameters()}
    if "weight" in weights:
        return np.array([sigmoid(weights["weight"] @ step + weights["bias"]) for step in steps])
    size, found = weights["weight_hh_l0"].shape[1], []
    state, cell = np.zeros(size), np.zeros(size)
    for step in steps:
        sums = weights["weight_ih_l0"] @ step + weights["bias_ih_l0"] + weights["weight_hh_l0"] @ state
        i, f, g, o = np.split(sums + weights["bias_hh_l0"], 4)
        cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
        state = sigmoid(o) * np.tanh(cell)
        found.append(sigmoid(state))
    return np.array(found)


def valid_steps(sequence, row):
    return sequence.values[row].detach().numpy()[sequence.mask[row].numpy()]


def expected_mask(latch, target, steps, encoded):
    """(f_jk + f_lk) / 2 for one sample, whose encoded modalities are (L, width); of those that it has."""
    found = []
    for source, said in encoded.items():
        if source != target and len(said):
            found.append(gates(latch.feedback[f"{target}_from_{source}"], resampled(said, steps)))
    return sum(found) / len(found) if found else np.ones((steps, INPUTS[target]))


def assert_latched(latch, batch, encoded, masked, masks):
    """The masks of what stage I `encoded`, and the inputs of stage II, `masked` by them; returns the masks' values."""
    met = []
    for modality, sequence in batch.items():
        assert masks[modality].shape == sequence.values.shape
        assert masks[modality].min() >= 0 and masks[modality].max() <= 1
        for row, steps in enumerate(sequence.mask.sum(dim=1).tolist()):
            if steps:
                said = {m: valid_steps(states, row) for m, states in encoded.items()}
                expected = expected_mask(latch, modality, steps, said)
                found = masks[modality][row, :steps].detach().numpy()
                np.testing.assert_allclose(found, expected, atol=1e-10, err_msg=f"{modality}, row {row}")
                inputs = sequence.values[row, :steps].numpy()
                np.testing.assert_allclose(valid_steps(masked[modality], row), expected * inputs, atol=1e-10)
                met.append(expected)
        assert torch.equal(masked[modality].mask, sequence.mask)
    return met


@pytest.mark.parametrize("feedback", ["lstm", "linear"])
@pytest.mark.parametrize("lengths", [ALIGNED, UNALIGNED, MISSING], ids=["aligned", "unaligned", "missing"])
@pytest.mark.parametrize("stride", [1, 3])
def test_masks_equal_equation_4(feedback, lengths, stride):
    """Stage I reads the inputs, stage II the inputs times the masks, and what comes back is stage II's."""
    torch.manual_seed(0)
    encoder, batch = Recorder(stride=stride), small_batch(lengths)
    latch = small_latch(encoder, feedback=feedback)
    encoded, masks = latch(batch)
    assert len(encoder.given) == 2
    for modality, sequence in batch.items():
        assert torch.equal(encoder.given[0][modality].values, sequence.values)
        assert encoded[modality] is encoder.made[1][modality]
    met = assert_latched(latch, batch, encoder.made[0], encoder.given[1], masks)
    met = np.concatenate([mask.ravel() for mask in met])
    between = met[met != 1]  # exactly 1 only where a sample has nothing else
    reach = 1 if feedback == "lstm" else math.inf  # of what comes before the sigmoid
    assert sigmoid(-reach) < between.min() < 0.45 and 0.55 < between.max() < sigmoid(reach)
    assert (met == 1).any() == (lengths is MISSING)


WRAPPED = {
    "spt": lambda: SparsePhasedTransformer(INPUTS, 6, 2, 2, 3, (2, 1, 1), ["stride"], 0.1, 0.1, 0.1, 0.1),
    "mult": lambda: MultimodalTransformer(INPUTS, 6, 1, 2, 0.1, 0.1, 0.1, 0.1),
    "lstm": lambda: LSTMEncoders(INPUTS, 6),
}


@pytest.mark.parametrize("name", WRAPPED)
@pytest.mark.parametrize("feedback", ["lstm", "linear"])
@pytest.mark.parametrize("lengths", [ALIGNED, UNALIGNED, MISSING], ids=["aligned", "unaligned", "missing"])
def test_any_encoder_can_be_wrapped(name, feedback, lengths):
    """Of other widths than the inputs, and, the sparse phased transformer, of other numbers of steps."""
    latch, batch = small_latch(WRAPPED[name](), feedback=feedback), small_batch(lengths)
    stages = []
    latch.encoder.register_forward_hook(lambda module, arguments, made: stages.append((*arguments, made)))
    encoded, masks = latch(batch)
    (_, first), (masked, second) = stages
    assert_latched(latch, batch, first, masked, masks)
    for modality, states in latch.encoder(masked).items():
        steps = states.mask.sum(dim=1).tolist()
        if name == "spt":
            assert steps == [math.ceil(count / 3) for count in lengths[modality]]
        torch.testing.assert_close(encoded[modality].values, states.values)
        assert encoded[modality] is second[modality]


@pytest.mark.parametrize("feedback", ["lstm", "linear"])
def test_every_ordered_pair_has_a_layer_of_its_own(feedback):
    latch = small_latch(feedback=feedback)
    pairs = [(target, source) for target in INPUTS for source in INPUTS if target != source]
    assert set(latch.feedback) == {f"{target}_from_{source}" for target, source in pairs}
    assert len({id(parameter) for parameter in latch.feedback.parameters()}) == 6 * (4 if feedback == "lstm" else 2)
    expected = 0
    for target, source in pairs:
        wide, high = OUTPUTS[source], INPUTS[target]
        expected += 4 * (wide * high + high**2 + 2 * high) if feedback == "lstm" else (wide + 1) * high
    assert sum(parameter.numel() for parameter in latch.feedback.parameters()) == expected


@pytest.mark.parametrize("present", [("text",), ("vision",), ("text", "vision"), ("audio", "vision")])
def test_corpus_without_a_modality(present):
    """Of two modalities each gets the other's gates alone; an only one is left as it is."""
    sizes = {m: INPUTS[m] for m in present}
    latch, batch = small_latch(input_sizes=sizes), small_batch({m: UNALIGNED[m] for m in present})
    encoded, masks = latch(batch)
    assert set(masks) == set(encoded) == set(present) and len(latch.feedback) == len(present) * (len(present) - 1)
    encoder = latch.encoder
    assert_latched(latch, batch, encoder.made[0], encoder.given[1], masks)
    if len(present) == 1:
        assert torch.equal(encoder.given[1][present[0]].values, batch[present[0]].values)


def loss_of(encoded):
    """Weighs every state differently."""
    generator = torch.Generator().manual_seed(5)
    return sum(
        (values * torch.randn(values.shape, generator=generator, dtype=values.dtype)).sum()
        for values, _ in encoded.values()
    )


def gradients(module):
    return {name: parameter.grad.clone() for name, parameter in module.named_parameters()}


def test_stage_1_gives_the_encoder_no_gradient():
    """The encoder's gradients are those of masks that are constants, and the feedback layers learn all the same."""
    latch, batch = small_latch(), small_batch(UNALIGNED)
    encoded, masks = latch(batch)
    loss_of(encoded).backward()
    found = gradients(latch)
    assert all(found[name].abs().max() > 0 for name in found)
    latch.zero_grad()
    constant = {m: ModalitySequence(values * masks[m].detach(), mask) for m, (values, mask) in batch.items()}
    loss_of(latch.encoder(constant)).backward()
    for name, gradient in gradients(latch.encoder).items():
        torch.testing.assert_close(found[f"encoder.{name}"], gradient, atol=1e-12, rtol=0)
    both = small_latch(stage1_gradient=True)
    loss_of(both(batch)[0]).backward()
    for name, gradient in gradients(both).items():
        same = torch.allclose(found[name], gradient, atol=1e-12, rtol=0)
        assert same == name.startswith("feedback."), name


def test_stage_1_gives_the_encoder_its_gradient_on_demand():
    """Those of a changed weight in both stages, by differences."""
    latch, batch = small_latch(stage1_gradient=True), small_batch(MISSING)
    loss_of(latch(batch)[0]).backward()
    for name, layer in latch.encoder.layers.items():
        for parameter in layer.parameters():
            entry = parameter.data.view(-1)
            start, losses = entry[0].item(), []
            for change in (1e-5, -1e-5):
                entry[0] = start + change
                losses.append(loss_of(latch(batch)[0]).item())
            entry[0] = start
            slope = (losses[0] - losses[1]) / 2e-5
            assert parameter.grad.view(-1)[0].item() == pytest.approx(slope, abs=1e-6), name


def test_stage_1_gradients_change_no_result():
    batch = small_batch(UNALIGNED)
    results = [small_latch(stage1_gradient=value)(batch) for value in (False, True)]
    torch.testing.assert_close(*results, atol=0, rtol=0)


def test_mask_dropout_is_on_the_masks_in_training_only():
    """Each feature of a step is dropped on its own or doubled before stage II; the masks that come back are whole."""
    latch, batch = small_latch(mask_dropout=0.5), small_batch(ALIGNED)
    _, masks = latch(batch)
    torch.testing.assert_close(masks, latch(batch)[1], atol=0, rtol=0)
    latch.encoder.given.clear()
    _, in_training = latch.train()(batch)
    for modality, sequence in batch.items():
        whole = (sequence.values * masks[modality])[sequence.mask].detach().numpy()
        found = latch.encoder.given[1][modality].values[sequence.mask].detach().numpy()
        dropped, doubled = found == 0, np.isclose(found, 2 * whole)
        assert (dropped | doubled).all() and dropped.any() and doubled.any()
        torch.testing.assert_close(in_training[modality], masks[modality], atol=0, rtol=0)


def test_what_no_other_modality_masks_loses_nothing_to_mask_dropout():
    latch, batch = (
        small_latch(mask_dropout=0.5).train(),
        small_batch({"text": (4, 2), "audio": (0, 3), "vision": (0, 2)}),
    )
    latch(batch)
    assert torch.equal(latch.encoder.given[1]["text"].values[0], batch["text"].values[0])
    assert not torch.equal(latch.encoder.given[1]["text"].values[1], batch["text"].values[1])


def test_feedback_dropout_is_on_the_states_of_the_lstms_in_training_only():
    """Where a state is dropped, the gate is one half."""
    settings = {"input_sizes": {"text": 3, "vision": 4}, "feedback_dropout": 0.5}
    batch = small_batch({"text": (4, 2), "vision": (4, 2)})
    latch = small_latch(**settings)
    _, masks = latch(batch)
    _, found = latch.train()(batch)
    for modality, sequence in batch.items():
        whole = masks[modality][sequence.mask].detach().numpy()
        torn = found[modality][sequence.mask].detach().numpy()
        dropped = np.isclose(torn, 0.5)
        doubled = np.isclose(torn, sigmoid(2 * np.log(whole / (1 - whole))))
        assert (dropped | doubled).all() and dropped.any() and (doubled & ~dropped).any()
    linear = small_latch(feedback="linear", **settings)
    torch.testing.assert_close(linear(batch)[1], linear.train()(batch)[1], atol=0, rtol=0)
