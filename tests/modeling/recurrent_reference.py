"""LSTMs written out with NumPy, step by step, and batches of samples of different lengths, for the tests of models."""

import math

import numpy as np
import torch
from torch import nn

MASKS = {"text": "attention_mask", "audio": "audio_attention_mask", "vision": "vision_attention_mask"}


def scramble(module, std=0.5):
    """No weight near what it starts from, where a mistake may hide."""
    torch.manual_seed(1)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=std)
    return module.double().eval()


def make_samples(config, lengths, seed=0):
    """By row, (T, d) of each modality, T being 0 where the sample lacks it."""
    random = np.random.default_rng(seed)
    rows = len(next(iter(lengths.values())))
    return [
        {m: random.normal(size=(lengths[m][row], getattr(config, f"{m}_feature_size"))) for m in config.modalities}
        for row in range(rows)
    ]


def to_batch(samples):
    """forward's arguments, with NaN and more steps than needed in the padding: one on the left, two on the right."""
    batch = {}
    for modality, first in samples[0].items():
        steps = max(len(sample[modality]) for sample in samples) + 3
        values = np.full((len(samples), steps, first.shape[1]), np.nan)
        for row, sample in enumerate(samples):
            values[row, 1 : 1 + len(sample[modality])] = sample[modality]
        batch[f"{modality}_values"] = torch.from_numpy(values)
        batch[MASKS[modality]] = torch.from_numpy(~np.isnan(values[:, :, 0])).long()
    return batch


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(scores):
    exponents = [math.exp(score - max(scores)) for score in scores]
    return [exponent / sum(exponents) for exponent in exponents]


class Reference:
    """
    Layers of one sample, with a model's weights.

    Args:
        module: The model. `read` says which of its weights were used.
    """

    def __init__(self, module):
        self.weights, self.read = {name: tensor.numpy() for name, tensor in module.state_dict().items()}, set()

    def weight(self, name):
        self.read.add(name)
        return self.weights[name]

    def linear(self, name, x):
        mapped = self.weight(f"{name}.weight") @ x
        return mapped + self.weight(f"{name}.bias") if f"{name}.bias" in self.weights else mapped

    def lstm(self, name, steps):
        """States after each step, in the order in which the steps are given; torch's gates are i, f, g, o."""
        from_state = self.weight(f"{name}.weight_hh_l0")
        state = cell = np.zeros(from_state.shape[1])
        states = []
        for step in steps:
            gates = self.weight(f"{name}.weight_ih_l0") @ step + self.weight(f"{name}.bias_ih_l0")
            entry, forget, new, leave = np.split(gates + from_state @ state + self.weight(f"{name}.bias_hh_l0"), 4)
            cell = sigmoid(forget) * cell + sigmoid(entry) * np.tanh(new)
            state = sigmoid(leave) * np.tanh(cell)
            states.append(state)
        return states

    def both_directions(self, name, steps):
        """The forward and the backward state at each step."""
        ahead = self.lstm(f"{name}.forward_lstm", steps)
        back = self.lstm(f"{name}.backward_lstm", steps[::-1])[::-1]
        return list(zip(ahead, back, strict=True))
