"""UCRN: each modality is refined on its own, all are drawn to one distribution, and refined together."""

import math
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import nn

from configuration.configuration_ucrn import UcrnConfig
from modeling.attention import FeedForward, ResidualLayer, XavierLinear, attend, with_positions
from modeling.dropout import Dropout
from modeling.modality_sequence import ModalitySequence, last_valid_state, left_align, mean_state
from modeling.modeling_multimodal import MultimodalOutput, MultimodalPreTrainedModel
from modeling.transformer import Transformer


@dataclass
class UcrnOutput(MultimodalOutput):
    """
    Output of [`UcrnModel`].

    Args:
        divergence (`torch.Tensor` of shape `(B,)`):
            L_M of equation 8, from 0 to 3 ln 2: the Jensen-Shannon divergence between the modalities' distributions,
            summed over the pairs that the sample has. None where `divergence_weight` is 0.
    """

    divergence: torch.Tensor | None = None


class UcrnModel(MultimodalPreTrainedModel):
    """
    UCRN (Guo, Kong, Zhou, Wang and Wang, EMNLP 2021, "Unimodal and Crossmodal Refinement Network for Multimodal
    Sequence Fusion").

    Each modality's features are projected, refined by self-attention (URM) and represented by their last valid step;
    a Jensen-Shannon regulariser brings the representations' distributions together; self-quality improvement layers
    (SQIL) weight their features; the crossmodal refinement (CRM) reads those that a sample has; two fully connected
    layers with a residual, and the output, predict from it.

    A modality that a sample lacks is represented by zeros, is not attended to, and has no divergence.
    """

    config_class = UcrnConfig

    def __init__(self, config: UcrnConfig):
        super().__init__(config)
        size = config.hidden_size
        sizes = self.build_inputs()
        self.projections = nn.ModuleDict({m: nn.Linear(width, size, bias=False) for m, width in sizes.items()})
        self.refinements = nn.ModuleDict({m: _refinement(config, size) for m in sizes} if config.refinement else {})
        self.distribution = None
        if config.divergence_weight and config.divergence_map == "classes" and len(sizes) > 1:
            self.distribution = nn.Linear(size, config.divergence_classes)
        self.self_quality = nn.ModuleDict()
        if config.self_quality != "none":
            self.self_quality = nn.ModuleDict({m: _SelfQuality(size, config.self_quality) for m in sizes})
        width = size * len(sizes)
        self.crossmodal = None
        if config.crossmodal:
            self.crossmodal = _refinement(config, size if config.crossmodal_axis == "modalities" else width)
        self.fusion = ResidualLayer(width, config.output_dropout)
        self.output = nn.Linear(width, len(config.output_names))
        self.post_init()

    def predict(self, sequences: dict[str, ModalitySequence], labels: torch.Tensor | None = None) -> UcrnOutput:
        """See the base class; the loss is that of equation 13."""
        refined, representations = {}, {}
        for modality, sequence in sequences.items():
            refined[modality] = self._refined(modality, left_align(sequence)[0])
            pool = last_valid_state if self.config.pooling == "last" else mean_state
            representations[modality] = pool(refined[modality])
        present = {modality: sequence.present for modality, sequence in sequences.items()}
        divergence = None
        if self.config.divergence_weight:
            divergence = self._divergence(representations, present)
        weighted = dict(representations)
        for modality, layers in self.self_quality.items():
            weighted[modality] = layers(representations[modality], refined[modality])
        fused = self._fused(weighted, present)
        logits = self.output(self.fusion(fused))
        loss = None
        if labels is not None:
            loss = self.config.prediction_weight * self.prediction_loss(logits, labels)
            if divergence is not None:
                loss = loss + self.config.divergence_weight * divergence.mean()
        return UcrnOutput(
            loss=loss,
            logits=logits,
            fusion_state=fused,
            divergence=divergence,
            **{f"{modality}_state": state for modality, state in representations.items()},
        )

    def _refined(self, modality: str, sequence: ModalitySequence) -> ModalitySequence:
        sequence = ModalitySequence(self.projections[modality](sequence.values), sequence.mask)
        if self.config.refinement:
            values = self.refinements[modality](sequence)
            sequence = ModalitySequence(values, sequence.mask)
        return sequence.cleared()

    def _divergence(self, representations, present) -> torch.Tensor:
        """Equation 8, (B,)."""
        maps = dict(representations)
        if self.distribution is not None:
            maps = {modality: self.distribution(state) for modality, state in maps.items()}
        some = next(iter(maps.values()))
        total = torch.zeros(some.shape[0], device=some.device)
        for first, second in combinations(representations, 2):
            divergence = jensen_shannon_divergence(maps[first], maps[second])
            total = total + divergence * (present[first] & present[second])
        return total

    def _fused(self, representations, present) -> torch.Tensor:
        """Equations 10 and 11: (B, modalities * hidden_size)."""
        there = torch.stack([present[modality] for modality in representations], dim=1)
        steps = ModalitySequence(torch.stack(list(representations.values()), dim=1), there).cleared()
        if self.crossmodal is None:
            return steps.values.flatten(1)
        if self.config.crossmodal_axis == "modalities":
            return ModalitySequence(self.crossmodal(steps), there).cleared().values.flatten(1)
        whole = ModalitySequence(steps.values.flatten(1).unsqueeze(1), there.new_ones(there.shape[0], 1))
        return self.crossmodal(whole).squeeze(1)


def jensen_shannon_divergence(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """
    1/2 KL(p || m) + 1/2 KL(q || m) with p = softmax(first), q = softmax(second) and m = (p + q) / 2, in nats: from 0
    for equal distributions to ln 2 for those that share nothing; symmetric. (UCRN, equation 7.)

    Computed from logarithms in float32, so that probabilities that underflow add nothing instead of NaN.

    Args:
        first, second (`torch.Tensor` of shape `(..., n)`): Unnormalised log-probabilities.

    Returns:
        (...,) float32.
    """
    log_p, log_q = (values.float().log_softmax(dim=-1) for values in (first, second))
    log_m = torch.logaddexp(log_p, log_q) - math.log(2)
    divergences = log_p.exp() * (log_p - log_m) + log_q.exp() * (log_q - log_m)
    return divergences.sum(dim=-1) / 2


def _refinement(config: UcrnConfig, size: int) -> nn.Module:
    settings = (
        size,
        config.num_hidden_layers,
        config.num_attention_heads,
        config.attention_dropout,
        config.relu_dropout,
        config.residual_dropout,
        config.embedding_dropout,
        config.positions,
    )
    return Transformer(*settings) if config.refinement_layer == "mult" else _Refinement(*settings)


class _Refinement(nn.Module):
    """Equations 3 to 5, layer after layer."""

    def __init__(
        self, size, layers, heads, attention_dropout, relu_dropout, residual_dropout, embedding_dropout, positions
    ):
        super().__init__()
        self.positions = positions
        self.dropout = Dropout(embedding_dropout)
        self.layers = nn.ModuleList(
            _RefinementLayer(size, heads, attention_dropout, relu_dropout, residual_dropout) for _ in range(layers)
        )

    def forward(self, sequence: ModalitySequence) -> torch.Tensor:
        """(B, T, size) from a left-aligned sequence that attends to itself; called as MulT's transformer is."""
        values = with_positions(sequence.values, 1.0) if self.positions else sequence.values
        values = self.dropout(values)
        for layer in self.layers:
            values = layer(values, sequence.mask)
        return values


class _RefinementLayer(nn.Module):
    """
    x_h = concat_k(H_k(x_k) + x_k) over the heads' slices x_k of x (3); x' = fc1(x_h) (4); fc3(ReLU(fc2(LN(x')))) + x'
    (5). A head attends within its slice: its query, key and value are projections of that slice alone.
    """

    def __init__(self, size: int, heads: int, attention_dropout: float, relu_dropout: float, residual_dropout: float):
        super().__init__()
        self.heads = heads
        self.attention_dropout = attention_dropout
        self.query, self.key, self.value = (_HeadwiseLinear(size, heads) for _ in range(3))
        self.joined = XavierLinear(size, size)
        self.feed_forward = FeedForward(size, relu_dropout, residual_dropout)

    def forward(self, values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        dropout = self.attention_dropout if self.training else 0.0
        found = attend(self.query(values), self.key(values), self.value(values), mask, self.heads, dropout)
        return self.feed_forward(self.joined(found + values))


class _HeadwiseLinear(nn.Module):
    """A linear layer per equal part of the width, which reads and writes that part alone."""

    def __init__(self, size: int, heads: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(heads, size // heads, size // heads))
        self.bias = nn.Parameter(torch.empty(size))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        bound = math.sqrt(3 / self.weight.shape[-1])  # Xavier's, for each part
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.zeros_(self.bias)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        parts = values.unflatten(-1, (self.weight.shape[0], -1))
        return torch.einsum("...hi,hoi->...ho", parts, self.weight).flatten(-2) + self.bias


class _SelfQuality(nn.Module):
    """
    x^S = x^U * W_S, W_S = F_S(x^U) (equation 9), feature by feature.

    The linear layer of "features" and "vector" starts with biases of one: weights that start around zero would have the
    ReLU silence half of the features, some of them for good.
    """

    def __init__(self, size: int, kind: str):
        super().__init__()
        self.kind = kind
        if kind == "steps":
            self.squeeze = nn.Linear(size, max(size // 16, 1), bias=False)
            self.excite = nn.Linear(max(size // 16, 1), size, bias=False)
        else:
            self.weighting = _FromOne(1 if kind == "features" else size, size)

    def forward(self, state: torch.Tensor, refined: ModalitySequence) -> torch.Tensor:
        """From a representation (B, size) and the refined sequence behind it to (B, size)."""
        if self.kind == "steps":
            return state * torch.sigmoid(self.excite(torch.relu(self.squeeze(mean_state(refined)))))
        pooled = state.mean(dim=-1, keepdim=True) if self.kind == "features" else state
        return state * torch.relu(self.weighting(pooled))


class _FromOne(nn.Linear):
    def reset_parameters(self) -> None:
        super().reset_parameters()
        nn.init.ones_(self.bias)
