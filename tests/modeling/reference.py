"""What the tests of several architectures share: samples, batches of them, and layers in plain NumPy, step by step."""

import math

import numpy as np
import torch
from torch import nn

MODALITIES = ("text", "audio", "vision")
MASKS = {"text": "attention_mask", "audio": "audio_attention_mask", "vision": "vision_attention_mask"}
SIZES = {"text_feature_size": 4, "audio_feature_size": 5, "vision_feature_size": 3}
MOSI = {"text_feature_size": 768, "audio_feature_size": 5, "vision_feature_size": 20}
MOSEI = {"text_feature_size": 768, "audio_feature_size": 74, "vision_feature_size": 35}
# By row; without one modality, without two, without any.
LENGTHS = {
    "text": (3, 1, 4, 0, 4, 3, 2, 0, 0, 0),
    "audio": (7, 5, 2, 5, 0, 2, 0, 3, 0, 0),
    "vision": (2, 3, 4, 3, 3, 0, 0, 0, 6, 0),
}
SUBSETS = [("text",), ("vision",), ("text", "audio"), ("audio", "vision"), MODALITIES]


def sizes_of(modalities, sizes=SIZES):
    return {f"{modality}_feature_size": sizes[f"{modality}_feature_size"] for modality in modalities}


def scramble(module, std=0.5):
    """No weight and no running statistic near what it starts from, so that none of them hides."""
    torch.manual_seed(1)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=std)
    for name, buffer in module.named_buffers():
        if name.endswith("running_mean"):
            nn.init.normal_(buffer)
        if name.endswith("running_variance"):
            nn.init.uniform_(buffer, 0.5, 2.0)
    return module.double().eval()


def make_samples(config, lengths=LENGTHS, seed=0):
    """By row, (T, d) of each modality, T being 0 where the sample lacks it."""
    random = np.random.default_rng(seed)
    rows = len(lengths["text"])
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


def right_padded_batch(widths, lengths):
    """forward's arguments, padded on the right alone; what is no valid step holds numbers like any others."""
    generator, batch = torch.Generator().manual_seed(1), {}
    for modality, width in widths.items():
        counts = torch.tensor(lengths[modality])
        steps = int(counts.max()) + 1
        shape = (len(counts), steps, width)
        batch[f"{modality}_values"] = torch.randn(*shape, generator=generator, dtype=torch.float64)
        batch[MASKS[modality]] = (torch.arange(steps) < counts[:, None]).long()
    return batch


class Reference:
    """The networks of one sample in plain NumPy, step by step; `read` says which of the model's weights were used."""

    def __init__(self, model):
        self.weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
        self.read = set()

    def weight(self, name):
        self.read.add(name)
        return self.weights[name]

    def linear(self, name, x):
        mapped = self.weight(f"{name}.weight") @ x
        return mapped + self.weight(f"{name}.bias") if f"{name}.bias" in self.weights else mapped

    def lstm(self, name, steps, layers=1):
        """States after each step of the last of several LSTMs; PyTorch's gates are i, f, g, o."""
        for layer in range(layers):
            names = [f"{name}.{kind}_l{layer}" for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
            w, u, b, c = (self.weight(part) for part in names)
            hidden, cell, states = np.zeros(u.shape[1]), np.zeros(u.shape[1]), []
            for step in steps:
                i, f, g, o = np.split(w @ step + b + u @ hidden + c, 4)
                cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
                hidden = sigmoid(o) * np.tanh(cell)
                states.append(hidden)
            steps = states
        return steps

    def both_directions(self, name, steps):
        """The forward and the backward state at each step."""
        ahead = self.lstm(f"{name}.forward_lstm", steps)
        back = self.lstm(f"{name}.backward_lstm", steps[::-1])[::-1]
        return list(zip(ahead, back, strict=True))

    def networks(self, sample):
        """TFN's networks: by modality, the representation of a sample, zeros where it lacks the modality."""
        states = {}
        for modality, steps in sample.items():
            name = f"sequence_encoder.networks.{modality}"
            if modality == "text":
                size = len(self.weights[f"{name}.projection.bias"])
                found = self.linear(f"{name}.projection", self.lstm(f"{name}.lstm", steps)[-1]) if len(steps) else None
            else:
                size = len(self.weights[f"{name}.layers.2.bias"])
                found = self.mean_network(name, steps) if len(steps) else None
            states[modality] = np.zeros(size) if found is None else found
        return states

    def mean_network(self, name, steps):
        scale = np.sqrt(self.weight(f"{name}.norm.running_variance") + 1e-5)
        x = (sum(steps) / len(steps) - self.weight(f"{name}.norm.running_mean")) / scale
        x = self.weight(f"{name}.norm.weight") * x + self.weight(f"{name}.norm.bias")
        for layer in range(3):
            x = np.maximum(self.linear(f"{name}.layers.{layer}", x), 0)
        return x

    def prediction_layers(self, x):
        """The output, and the state before it."""
        state = np.maximum(self.linear("prediction.first", x), 0)
        state = np.maximum(self.linear("prediction.second", state), 0)
        return self.linear("prediction.output", state), state


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(scores):
    exponents = [math.exp(score - max(scores)) for score in scores]
    return [exponent / sum(exponents) for exponent in exponents]


def parameters(model_class, config):
    return sum(parameter.numel() for parameter in model_class(config).parameters())
