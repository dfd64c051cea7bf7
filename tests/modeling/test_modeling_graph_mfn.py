"""Graph-MFN word by word and edge by edge in NumPy, and its published size."""

import numpy as np
import pytest
import torch

from configuration.configuration_graph_mfn import GraphMfnConfig
from modeling.modeling_graph_mfn import GraphMfnModel
from tests.modeling.test_gated_memory import memories, perceptron, sigmoid
from tests.modeling.test_modeling_mfn import CMU_MOSEI, CMU_MOSI, INPUTS, SMALL, make_samples

MOSEI_SIZES = {
    **{"text_hidden_size": 64, "audio_hidden_size": 16, "vision_hidden_size": 64, "node_size": 128},
    **{"retain_size": 64, "update_size": 256, "output_size": 128},
}
ALL = "text_audio_vision"
EDGES = {  # by target, in the order of the efficacies
    "text_audio": ["text", "audio"],
    "text_vision": ["text", "vision"],
    "audio_vision": ["audio", "vision"],
    ALL: ["text", "audio", "vision", "text_audio", "text_vision", "audio_vision"],
    "tau": ["text", "audio", "vision", "text_audio", "text_vision", "audio_vision", ALL],
}


def make_model(**fields):
    torch.manual_seed(0)
    small = {**INPUTS, **SMALL, "node_size": 5, "graph_hidden_size": 6, **fields}
    return GraphMfnModel(GraphMfnConfig(**small)).double().eval()


class Reference:
    def __init__(self, model):
        self.model, self.weights = model, {name: value.numpy() for name, value in model.state_dict().items()}

    def linear(self, name, x):
        return self.weights[f"{name}.weight"] @ x + self.weights[f"{name}.bias"]

    def hidden_states(self, modality, steps):
        w = {
            name: self.weights[f"lstms.{modality}.{name}_l0"]
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        }
        h = c = np.zeros(w["weight_hh"].shape[1])
        found = [h]
        for x in steps:
            i, f, g, o = np.split(w["weight_ih"] @ x + w["bias_ih"] + w["weight_hh"] @ h + w["bias_hh"], 4)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
            found.append(h)
        return found

    def tau(self, vertices, edges):
        """The graph's output and its efficacies at one step."""
        efficacies = np.concatenate(list(vertices.values()))
        for layer in range(3):
            efficacies = self.linear(f"graph.efficacies.{layer}", efficacies)
        found, number = dict(vertices), 0
        for target, sources in edges.items():
            carried = []
            for source in sources:
                carried.append(found[source] * efficacies[number])
                number += 1
            inner = self.linear(f"graph.networks.{target}.0", np.concatenate(carried))
            found[target] = self.linear(f"graph.networks.{target}.1", inner)
        assert number == len(efficacies)
        return found["tau"], efficacies

    def sample(self, sample, edges):
        """The last state and the efficacies at each step; a modality that is None has zeros."""
        sizes = {m: self.weights[f"lstms.{m}.weight_hh_l0"].shape[1] for m in sample}
        steps = len(next(values for values in sample.values() if values is not None))
        nothing = {m: [np.zeros(size)] * (steps + 1) for m, size in sizes.items()}
        hidden = {m: nothing[m] if values is None else self.hidden_states(m, values) for m, values in sample.items()}
        taus, efficacies = [], []
        for t in range(1, steps + 1):
            vertices = {
                m: np.maximum(self.linear(f"vertices.{m}", np.concatenate([h[t - 1], h[t]])), 0)
                * (sample[m] is not None)
                for m, h in hidden.items()
            }
            tau, strength = self.tau(vertices, edges)
            taus.append(tau)
            efficacies.append(strength)
        memory = memories(self.model.memory, taus)[-1]
        return np.concatenate([*(h[-1] for h in hidden.values()), memory]), np.array(efficacies)


@pytest.mark.parametrize(
    "absent, edges",
    [
        ([], EDGES),
        (["vision"], {"text_audio": ["text", "audio"], "tau": ["text", "audio", "text_audio"]}),
        (["text", "vision"], {"tau": ["audio"]}),
    ],
    ids=["three", "two", "one"],
)
def test_word_by_word(absent, edges):
    model = make_model(**{f"{modality}_feature_size": None for modality in absent})
    samples, batch = make_samples(model, [3, 1, 5])
    assert model.graph.edges == [(source, target) for target, sources in edges.items() for source in sources]
    output, reference = model(**batch), Reference(model)
    for row, sample in enumerate(samples):
        state, efficacies = reference.sample(sample, edges)
        np.testing.assert_allclose(output.fusion_state[row].detach(), state, atol=1e-10)
        np.testing.assert_allclose(output.efficacies[row, : len(efficacies)].detach(), efficacies, atol=1e-10)
        np.testing.assert_allclose(output.logits[row].detach(), perceptron(model.output, state), atol=1e-10)


def test_missing_modality_has_a_vertex_of_zeros():
    model = make_model()
    samples, batch = make_samples(model, [3, 1, 5])
    batch["vision_attention_mask"][2] = False
    samples[2]["vision"] = None
    state, efficacies = Reference(model).sample(samples[2], EDGES)
    output = model(**batch)
    np.testing.assert_allclose(output.fusion_state[2].detach(), state, atol=1e-10)
    np.testing.assert_allclose(output.efficacies[2, :5].detach(), efficacies, atol=1e-10)


def test_published_sizes():
    """MMSA's registers all but the networks of the four vertices of several modalities, 208,656 for CMU-MOSI."""
    model = GraphMfnModel(GraphMfnConfig(**CMU_MOSI))
    vertices = sum(
        parameter.numel() for name, parameter in model.graph.networks.named_parameters() if not name.startswith("tau")
    )
    assert (model.num_parameters(), vertices) == (2_110_624 + 208_656, 208_656)
    assert GraphMfnModel(GraphMfnConfig(**CMU_MOSEI, **MOSEI_SIZES)).num_parameters() == 675_792 + 133_712


@pytest.mark.parametrize("field, value", [("node_size", 0), ("graph_hidden_size", -1), ("update_dropout", 1.5)])
def test_config_errors(field, value):
    with pytest.raises(ValueError, match=f"`{field}`.*{value}"):
        GraphMfnConfig(**{field: value})
