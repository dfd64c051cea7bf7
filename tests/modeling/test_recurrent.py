"""
The recurrent encoders against `torch.nn.LSTM` on packed sequences and on each row alone.

`SequenceEncoder` is checked with Self-MM, in test_modeling_self_mm.py.
"""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from modeling.modality_sequence import ModalitySequence
from modeling.recurrent import BidirectionalLSTM, LSTMEncoders, lstm_rows, lstm_states, steps_pay
from modeling.valid_steps import ValidSteps


def left_aligned(lengths, steps, width, seed=0, garbage=float("nan")):
    mask = torch.arange(steps) < torch.tensor(lengths)[:, None]
    values = torch.randn(*mask.shape, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return ModalitySequence(values.masked_fill(~mask.unsqueeze(-1), garbage), mask)


def bidirectional_pair(input_size=3, hidden_size=4):
    """The module and torch's own, with the same weights."""
    torch.manual_seed(0)
    module = BidirectionalLSTM(input_size, hidden_size).double()
    reference = nn.LSTM(input_size, hidden_size, batch_first=True, bidirectional=True).double()
    weights = module.forward_lstm.state_dict()
    weights |= {f"{name}_reverse": tensor for name, tensor in module.backward_lstm.state_dict().items()}
    reference.load_state_dict(weights)
    return module, reference


def packed(reference, sequence, rows):
    """(rows, T, 2 h), zeros behind the valid steps."""
    lengths = sequence.mask.sum(dim=1)[rows]
    packed = pack_padded_sequence(sequence.values[rows], lengths, batch_first=True, enforce_sorted=False)
    states, _ = pad_packed_sequence(reference(packed)[0], batch_first=True, total_length=sequence.mask.shape[1])
    return states


@pytest.mark.parametrize(
    "lengths, steps",
    [((5, 1, 3, 0, 2), 5), ((5, 1, 3, 0, 2), 8), ((1, 1), 1), ((0, 1), 1), ((4, 4), 4), ((0, 2), 3)],
)
def test_bidirectional_lstm_equals_the_packed_one(lengths, steps):
    """Padding holds NaN: neither direction may meet it before a valid step."""
    module, reference = bidirectional_pair()
    sequence = left_aligned(lengths, steps, 3)
    ahead, back = module(sequence)
    assert ahead.shape == back.shape == (len(lengths), steps, 4)
    rows = [row for row, length in enumerate(lengths) if length]
    valid = sequence.mask[rows]
    expected_ahead, expected_back = packed(reference, sequence, rows).chunk(2, dim=-1)
    torch.testing.assert_close(ahead[rows][valid], expected_ahead[valid], atol=1e-12, rtol=0)
    torch.testing.assert_close(back[rows][valid], expected_back[valid], atol=1e-12, rtol=0)


def test_bidirectional_lstm_has_the_gradients_of_the_packed_one():
    """Those of the row without steps and of padding are zero."""
    module, reference = bidirectional_pair()
    lengths = (5, 1, 3, 0, 2)
    sequence = left_aligned(lengths, 6, 3, garbage=7.0)
    other = ModalitySequence(sequence.values.clone().requires_grad_(), sequence.mask)
    sequence.values.requires_grad_()
    states = torch.cat(module(sequence), dim=-1)
    weights = torch.randn(states.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (states * weights * sequence.mask.unsqueeze(-1)).sum().backward()
    rows = [0, 1, 2, 4]
    (packed(reference, other, rows) * weights[rows] * sequence.mask[rows].unsqueeze(-1)).sum().backward()
    torch.testing.assert_close(sequence.values.grad, other.values.grad, atol=1e-12, rtol=0)
    for name, parameter in module.forward_lstm.named_parameters():
        torch.testing.assert_close(parameter.grad, getattr(reference, name).grad, atol=1e-12, rtol=0)
    for name, parameter in module.backward_lstm.named_parameters():
        torch.testing.assert_close(parameter.grad, getattr(reference, f"{name}_reverse").grad, atol=1e-12, rtol=0)


def test_directions_of_a_bidirectional_lstm_have_weights_of_their_own():
    module, _ = bidirectional_pair()
    sequence = left_aligned((4,), 4, 3)
    mirrored = ModalitySequence(sequence.values.flip(1), sequence.mask)
    ahead, _ = module(sequence)
    _, back = module(mirrored)
    assert not torch.allclose(ahead, back.flip(1), atol=1e-3)
    module.backward_lstm.load_state_dict(module.forward_lstm.state_dict())
    torch.testing.assert_close(ahead, module(mirrored)[1].flip(1))


def test_lstm_encoders_read_each_row_alone():
    sizes, lengths = {"text": 3, "vision": 5}, {"text": (4, 2, 0), "vision": (1, 6, 3)}
    torch.manual_seed(0)
    encoders = LSTMEncoders(sizes, 4).double()
    assert encoders.output_sizes == {"text": 4, "vision": 4}
    sequences = {m: left_aligned(lengths[m], max(lengths[m]) + 1, sizes[m]) for m in sizes}
    found = encoders(sequences)
    assert set(found) == set(sizes)
    for modality, sequence in sequences.items():
        lstm = nn.LSTM(sizes[modality], 4, batch_first=True).double()
        prefix = f"lstms.{modality}."
        state = encoders.state_dict()
        lstm.load_state_dict({name: state[prefix + name] for name in lstm.state_dict()})
        assert torch.equal(found[modality].mask, sequence.mask)
        for row, length in enumerate(lengths[modality]):
            expected = torch.zeros(sequence.mask.shape[1], 4, dtype=torch.float64)
            if length:
                expected[:length] = lstm(sequence.values[row : row + 1, :length])[0][0]
            torch.testing.assert_close(found[modality].values[row], expected, atol=1e-12, rtol=0)


def wide_case(lengths=(3, 40, 0, 9) * 12, requires_grad=False):
    torch.manual_seed(0)
    lstm, sequence = nn.LSTM(300, 64, batch_first=True), left_aligned(lengths, max(lengths), 300, garbage=0.0)
    return lstm, ModalitySequence(sequence.values.float().requires_grad_(requires_grad), sequence.mask)


@pytest.mark.parametrize("requires_grad", [False, True])
def test_valid_steps_alone_give_what_the_kernel_gives(requires_grad):
    lstm, sequence = wide_case(requires_grad=requires_grad)
    assert steps_pay(lstm, *sequence)
    results = []
    for states in (lstm_states(lstm, sequence), lstm(sequence.values)[0]):
        valid = states * sequence.mask.unsqueeze(-1)
        inputs = [*lstm.parameters(), *([sequence.values] if requires_grad else [])]
        results.append((valid, torch.autograd.grad(valid.square().sum(), inputs)))
    torch.testing.assert_close(*results, atol=2e-5, rtol=1e-4)


def test_valid_steps_alone_do_not_meet_padding():
    lstm, sequence = wide_case()
    torn = ModalitySequence(sequence.values.masked_fill(~sequence.mask.unsqueeze(-1), torch.nan), sequence.mask)
    assert torch.equal(lstm_states(lstm, torn), lstm_states(lstm, sequence))
    steps = ValidSteps(sequence.mask)
    assert torch.equal(lstm_rows(lstm, torn.values, steps), steps.take(lstm_states(lstm, sequence)))


def test_weights_need_not_be_parameters():
    """FullyShardedDataParallel, in its first version, puts tensors in their places while a model runs."""
    lstm, sequence = wide_case()
    expected = lstm_states(lstm, sequence)
    for name, weight in list(lstm.named_parameters()):
        delattr(lstm, name)
        setattr(lstm, name, weight.detach())
    assert not list(lstm.parameters()) and steps_pay(lstm, *sequence)
    assert torch.equal(lstm_states(lstm, sequence), expected)


def test_where_steps_pay():
    lstm, (values, mask) = wide_case()
    assert steps_pay(lstm, values, mask)
    full = torch.ones_like(mask)
    assert steps_pay(lstm, values, full)  # the kernel would make a gradient of the values
    assert not steps_pay(lstm, values.clone().requires_grad_(), full)
    with torch.no_grad():
        assert not steps_pay(lstm, values, full) and steps_pay(lstm, values, mask)
    assert not steps_pay(nn.LSTM(300, 64, num_layers=2, batch_first=True), values, mask)
    assert not steps_pay(copy.deepcopy(lstm).double(), values.double(), mask)
    assert not steps_pay(nn.LSTM(5, 4, batch_first=True), values[..., :5], mask)  # too little is spared
    with torch.autocast("cpu", torch.bfloat16):
        assert not steps_pay(lstm, values, mask)


def test_states_are_those_of_the_kernel_where_steps_do_not_pay():
    lstm = nn.LSTM(3, 4, num_layers=2, batch_first=True).double()
    sequence = left_aligned((5, 2), 5, 3, garbage=0.0)
    assert torch.equal(lstm_states(lstm, sequence), lstm(sequence.values)[0])
    steps = ValidSteps(sequence.mask)
    assert torch.equal(lstm_rows(lstm, sequence.values, steps), steps.take(lstm(sequence.values)[0]))
