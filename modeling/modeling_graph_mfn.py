"""Graph-MFN: MFN whose modalities are fused by a graph with a vertex for each set of them."""

from dataclasses import dataclass
from itertools import combinations

import torch
from torch import nn

from configuration.configuration_graph_mfn import GraphMfnConfig
from modeling.alignment import word_aligned
from modeling.gated_memory import GatedMemory, TwoLayers
from modeling.modality_sequence import ModalitySequence, any_valid
from modeling.modeling_multimodal import MultimodalOutput, MultimodalPreTrainedModel
from modeling.recurrent import lstm_rows
from modeling.valid_steps import steps_of


@dataclass
class GraphMfnOutput(MultimodalOutput):
    """
    Output of [`GraphMfnModel`].

    Args:
        efficacies (`torch.Tensor` of shape `(B, T, edges)`):
            How strong each edge of the graph is at each step, in the order of `DynamicFusionGraph.edges`; of no meaning
            at steps that the sample does not have.
    """

    efficacies: torch.Tensor | None = None


class GraphMfnModel(MultimodalPreTrainedModel):
    """
    Graph-MFN (Zadeh, Liang, Poria, Cambria and Morency, ACL 2018, P18-1208, "Multimodal Language Analysis in the Wild:
    CMU-MOSEI Dataset and Interpretable Dynamic Fusion Graph").

    MFN (see [`MfnModel`]) in which a dynamic fusion graph stands in the place of the attention. At each word a
    modality's vertex is ReLU(W [h_{t-1}; h_t] + b) of its LSTM's hidden states, the graph makes one vector tau of them
    (see `DynamicFusionGraph`), and the gated memory takes in tau. All words are computed at once but for the LSTMs'
    and the memory's own steps.

    Vertices read the hidden states, as in the authors' code, and all networks of the graph are trained: their public
    code keeps them where no optimiser finds them. A modality that a sample lacks has zeros for its vertex and states.
    The modalities are brought to the steps of the text (see `modeling.alignment`).
    """

    config_class = GraphMfnConfig

    def __init__(self, config: GraphMfnConfig):
        super().__init__(config)
        sizes = {m: getattr(config, f"{m}_hidden_size") for m in config.modalities}
        inputs = self.build_inputs()
        self.lstms = nn.ModuleDict({m: nn.LSTM(inputs[m], size, batch_first=True) for m, size in sizes.items()})
        self.vertices = nn.ModuleDict({m: nn.Linear(2 * size, size) for m, size in sizes.items()})
        self.graph = DynamicFusionGraph(sizes, config.graph_hidden_size, config.node_size)
        self.memory = GatedMemory.of(config.node_size, config)
        width = sum(sizes.values()) + config.memory_size
        self.output = TwoLayers(width, config.output_size, len(config.output_names), config.output_dropout)
        self.post_init()

    def predict(self, sequences: dict[str, ModalitySequence], labels: torch.Tensor | None = None) -> GraphMfnOutput:
        """See the base class."""
        aligned = word_aligned(sequences)
        steps = steps_of(any_valid(aligned.values()))
        final, vertices = [], {}
        for modality, lstm in self.lstms.items():
            values, mask = aligned[modality]
            hidden = steps.cleared(lstm_rows(lstm, values, steps), mask)
            vertex = torch.relu(self.vertices[modality](steps.with_previous(hidden)))
            vertices[modality] = steps.cleared(vertex, mask)
            final.append(steps.last(hidden))
        fused, efficacies = self.graph(vertices)
        state = torch.cat([*final, steps.last(self.memory(fused, steps))], dim=-1)
        efficacies = steps.restore(efficacies)
        logits = self.output(state)
        loss = None if labels is None else self.prediction_loss(logits, labels)
        return GraphMfnOutput(loss=loss, logits=logits, fusion_state=state, efficacies=efficacies)


class DynamicFusionGraph(nn.Module):
    """
    A vertex for every set of modalities, an edge to it from each of its proper subsets, and edges from all vertices to
    the output tau. An edge carries its source's vector times its efficacy; the vertex of several modalities, and tau,
    are two linear layers over what their edges carry, side by side. The efficacies of all edges are three linear layers
    over the modalities' own vertices. (Section 4; the code has no activation in these networks.)

    Args:
        sizes (`dict`): Width of the modalities' own vertices.
        hidden_size (`int`): Width between the two layers.
        node_size (`int`): Width of all other vertices and of tau.

    Attributes:
        edges (`list` of `(source, target)`):
            Names of vertices, modalities joined by "_"; the target of the last ones is "tau".
    """

    def __init__(self, sizes: dict[str, int], hidden_size: int, node_size: int):
        super().__init__()
        subsets = [subset for count in range(1, len(sizes) + 1) for subset in combinations(sizes, count)]
        sources = {
            "_".join(subset): ["_".join(other) for other in subsets if set(other) < set(subset)]
            for subset in subsets
            if len(subset) > 1
        }
        sources["tau"] = ["_".join(subset) for subset in subsets]
        self.sources = sources
        self.edges = [(source, target) for target, found in sources.items() for source in found]

        def network(width: int) -> nn.Sequential:
            return nn.Sequential(nn.Linear(width, hidden_size), nn.Linear(hidden_size, node_size))

        self.networks = nn.ModuleDict(
            {
                target: network(sum(sizes.get(source, node_size) for source in found))
                for target, found in sources.items()
            }
        )
        self.efficacies = nn.Sequential(*network(sum(sizes.values())), nn.Linear(node_size, len(self.edges)))

    def forward(self, vertices: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """From the modalities' own vertices (steps, size) to tau (steps, node_size) and efficacies (steps, edges)."""
        efficacies = self.efficacies(torch.cat(list(vertices.values()), dim=-1))
        strength = dict(zip(self.edges, efficacies.split(1, dim=-1), strict=True))
        found = dict(vertices)
        for target, network in self.networks.items():
            carried = [found[source] * strength[source, target] for source in self.sources[target]]
            found[target] = network(torch.cat(carried, dim=-1))
        return found["tau"], efficacies
