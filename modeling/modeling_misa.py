"""MISA: each modality has a private code and one in a space that all share; a transformer layer fuses the codes."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import nn
from torch.nn.functional import normalize

from configuration.configuration_misa import MisaConfig
from modeling.attention import MultiHeadAttention
from modeling.modality_sequence import ModalitySequence, left_align, mean_state
from modeling.modeling_multimodal import MultimodalOutput, MultimodalPreTrainedModel
from modeling.recurrent import BidirectionalLSTM, end_states


@dataclass
class MisaOutput(MultimodalOutput):
    """
    Output of [`MisaModel`]; `text_state`, `audio_state` and `vision_state` are the projected modalities.

    Args:
        private_codes, shared_codes (`torch.Tensor` of shape `(B, modalities, hidden_size)`):
            In the order text, audio, vision of those that the checkpoint has; zeros where the sample lacks one.
    """

    private_codes: torch.Tensor | None = None
    shared_codes: torch.Tensor | None = None


class MisaModel(MultimodalPreTrainedModel):
    """
    MISA (Hazarika, Zimmermann and Poria, ACM Multimedia 2020, "MISA: Modality-Invariant and -Specific Representations
    for Multimodal Sentiment Analysis").

    Text is the mean of the text encoder's states over its tokens; audio and vision, and text that comes as
    `text_values`, are the end states of both directions of two stacked LSTMs. Each is projected, u = LN(ReLU(W u')),
    and encoded by its own and by a shared encoder, h = sigmoid(W u). One transformer layer lets all codes attend to
    each other, and two linear layers predict from them side by side. The loss (section "Learning") is

        prediction + alpha similarity + beta difference + gamma reconstruction.

    Similarity is the mean over the pairs of modalities of the central moment discrepancy between their shared codes;
    difference the sum over modalities of `cross_correlation` of private and shared code, and over pairs of that of
    private codes; reconstruction the mean over modalities of the squared error of D(h_private + h_shared) against u,
    D being a linear layer of the modality's own.

    The prediction's loss is that of all architectures here, for a sentiment the mean absolute error; the paper's is the
    mean squared one. The authors' code has layers that nothing reads, and gives no gradient to the norm by which a code
    is divided; both are left out.

    A modality that a sample lacks is not attended to, is zeros in what is predicted from, and has no part in any loss;
    a mean over modalities or pairs is over those that at least one sample of the batch has.
    """

    config_class = MisaConfig

    def __init__(self, config: MisaConfig):
        super().__init__(config)
        size = config.hidden_size
        sizes = self.build_inputs()
        for modality, width in sizes.items():
            if modality != "text" or config.text_config is None:
                hidden_size = getattr(config, f"{modality}_hidden_size") or width
                encoder = _StackedLSTM(width, hidden_size)
                self.add_module(f"{modality}_encoder", encoder)
                sizes[modality] = encoder.output_size
        self.projections = nn.ModuleDict(
            {m: nn.Sequential(nn.Linear(width, size), nn.ReLU(), nn.LayerNorm(size)) for m, width in sizes.items()}
        )
        self.private_encoders = nn.ModuleDict({m: nn.Linear(size, size) for m in sizes})
        self.shared_encoder = nn.Linear(size, size)
        self.decoders = nn.ModuleDict({m: nn.Linear(size, size) for m in sizes})
        self.fusion = _FusionLayer(
            size, config.num_attention_heads, config.intermediate_size, config.transformer_dropout
        )
        self.hidden = nn.Linear(2 * len(sizes) * size, len(sizes) * size)
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(len(sizes) * size, len(config.output_names))
        self.post_init()

    def predict(self, sequences: dict[str, ModalitySequence], labels: torch.Tensor | None = None) -> MisaOutput:
        """See the base class."""
        present = torch.stack([sequence.present for sequence in sequences.values()], dim=1)
        states = torch.stack([self._state(modality, sequence) for modality, sequence in sequences.items()], dim=1)
        encoders = list(self.private_encoders.values())
        private = torch.stack([encoder(states[:, number]) for number, encoder in enumerate(encoders)], dim=1).sigmoid()
        shared = self.shared_encoder(states).sigmoid()
        private, shared = (codes.masked_fill(~present.unsqueeze(-1), 0.0) for codes in (private, shared))

        mask = torch.cat([present, present], dim=1)
        fused = self.fusion(torch.cat([private, shared], dim=1), mask).masked_fill(~mask.unsqueeze(-1), 0.0)
        fusion_state = torch.relu(self.dropout(self.hidden(fused.flatten(1))))
        logits = self.output(fusion_state)
        loss = None
        if labels is not None:
            loss = self.prediction_loss(logits, labels)
            loss = loss + self._code_losses(states, private, shared, present)
        return MisaOutput(
            loss=loss,
            logits=logits,
            fusion_state=fusion_state,
            private_codes=private,
            shared_codes=shared,
            **{f"{modality}_state": states[:, number] for number, modality in enumerate(sequences)},
        )

    def _state(self, modality: str, sequence: ModalitySequence) -> torch.Tensor:
        """u of a modality, (B, hidden_size); zeros where it is missing."""
        if modality == "text" and self.config.text_config is not None:
            state = mean_state(sequence)
        else:
            state = self.get_submodule(f"{modality}_encoder")(sequence)
        return self.projections[modality](state).masked_fill(~sequence.present.unsqueeze(-1), 0.0)

    def _code_losses(self, states, private, shared, present) -> torch.Tensor:
        """All weighted terms beside the prediction's."""
        config, modalities = self.config, range(present.shape[1])
        pairs = list(combinations(modalities, 2))
        reconstructed = [decoder(private[:, m] + shared[:, m]) for m, decoder in enumerate(self.decoders.values())]
        errors = [(states[:, m].float() - reconstructed[m].float()).square().mean(dim=-1) for m in modalities]
        reconstruction = _mean_of_existing(
            [_mean_over(errors[m], present[:, m]) for m in modalities], [present[:, m].any() for m in modalities]
        )
        discrepancies = [
            central_moment_discrepancy(shared[:, a], shared[:, b], present[:, a], present[:, b], config.moments)
            for a, b in pairs
        ]
        similarity = _mean_of_existing(discrepancies, [present[:, a].any() & present[:, b].any() for a, b in pairs])
        compared = [(private[:, m], shared[:, m], present[:, m]) for m in modalities]
        compared += [(private[:, a], private[:, b], present[:, a] & present[:, b]) for a, b in pairs]
        difference = sum(cross_correlation(*codes, config.difference_reduction) for codes in compared)
        return (
            config.similarity_weight * similarity
            + config.difference_weight * difference
            + config.reconstruction_weight * reconstruction
        )


def central_moment_discrepancy(
    first: torch.Tensor, second: torch.Tensor, first_counted: torch.Tensor, second_counted: torch.Tensor, moments: int
) -> torch.Tensor:
    """
    How far two samples of distributions on [0, 1] are apart: the Euclidean distance of their means, plus that of their
    central moments from the second one to the last, feature by feature. (Zellinger et al., ICLR 2017, "Central Moment
    Discrepancy (CMD) for Domain-Invariant Representation Learning", definition 2; MISA, section "Similarity Loss".)

    Args:
        first (`torch.Tensor` of shape `(N, d)`), second (of shape `(M, d)`): Samples.
        first_counted (`torch.Tensor` of shape `(N,)`), second_counted (of shape `(M,)`):
            False at rows that are to be left out.
        moments (`int`): K.

    Returns:
        A number; 0 where either has no row.
    """
    means, centred = [], []
    for values, counted in ((first, first_counted), (second, second_counted)):
        values = values.float()
        means.append(_mean_over(values, counted))
        centred.append(values - means[-1])
    distance = torch.linalg.vector_norm(means[0] - means[1])
    for order in range(2, moments + 1):
        moment, other = (
            _mean_over(values**order, counted)
            for values, counted in zip(centred, (first_counted, second_counted), strict=True)
        )
        distance = distance + torch.linalg.vector_norm(moment - other)
    return distance * (first_counted.any() & second_counted.any())


def cross_correlation(first: torch.Tensor, second: torch.Tensor, counted: torch.Tensor, reduction: str) -> torch.Tensor:
    """
    The squares of the entries of A^T B, summed, or averaged for the reduction "mean": A and B are two codes of the same
    samples, centred over the samples and scaled to length one sample by sample. (MISA, section "Difference Loss".)

    Args:
        first (`torch.Tensor` of shape `(N, d)`), second (of shape `(N, e)`): Codes.
        counted (`torch.Tensor` of shape `(N,)`): False at samples that are to be left out.
        reduction (`str`): "sum" or "mean".

    Returns:
        A number; 0 for fewer than two samples, which are their own mean.
    """
    scaled = []
    for codes in (first.float(), second.float()):
        centred = (codes - _mean_over(codes, counted)).masked_fill(~counted.unsqueeze(-1), 0.0)
        # Of a code that equals the mean nothing but rounding is left, which has no direction.
        scaled.append(normalize(centred, dim=-1, eps=1e-4))
    with torch.autocast(first.device.type, enabled=False):
        squares = (scaled[0].T @ scaled[1]).square()
    return squares.sum() if reduction == "sum" else squares.mean()


class _StackedLSTM(nn.Module):
    """
    Two bidirectional LSTMs with a layer normalisation between them; a sequence is represented by the end states of both
    directions of both.
    """

    def __init__(self, feature_size: int, hidden_size: int):
        super().__init__()
        self.first = BidirectionalLSTM(feature_size, hidden_size)
        self.norm = nn.LayerNorm(2 * hidden_size)
        self.second = BidirectionalLSTM(2 * hidden_size, hidden_size)
        self.output_size = 4 * hidden_size

    def forward(self, sequence: ModalitySequence) -> torch.Tensor:
        """(B, 4 * hidden_size); zeros for a missing sequence."""
        aligned, _ = left_align(sequence)
        lower = self.first(aligned)
        upper = self.second(ModalitySequence(self.norm(torch.cat(lower, dim=-1)), aligned.mask))
        return torch.cat([end_states(layer, aligned.mask) for layer in (lower, upper)], dim=-1)


class _FusionLayer(nn.Module):
    """
    The transformer layer of Vaswani et al., which normalises last: y = LN(x + attention(x)), LN(y + W2 ReLU(W1 y)).
    """

    def __init__(self, size: int, heads: int, intermediate_size: int, dropout: float):
        super().__init__()
        self.attention = MultiHeadAttention(size, heads, dropout)
        self.attention_norm = nn.LayerNorm(size)
        self.inner = nn.Linear(size, intermediate_size)
        self.outer = nn.Linear(intermediate_size, size)
        self.norm = nn.LayerNorm(size)
        self.dropout = nn.Dropout(dropout)

    def forward(self, values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """(B, N, size), of which those count that the mask (B, N) names."""
        values = self.attention_norm(values + self.dropout(self.attention(values, values, mask)))
        inner = self.dropout(torch.relu(self.inner(values)))
        return self.norm(values + self.dropout(self.outer(inner)))


def _mean_over(values: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
    """The mean over the rows (N, ...) that count; zeros where none does."""
    weight = counted.to(values.dtype).view(-1, *[1] * (values.dim() - 1))
    return (values * weight).sum(dim=0) / weight.sum().clamp(min=1)


def _mean_of_existing(terms: Sequence[torch.Tensor], exist: Sequence[torch.Tensor]) -> torch.Tensor | float:
    """The mean of the terms that exist; the others are zeros."""
    if not terms:
        return 0.0
    return torch.stack(list(terms)).sum() / torch.stack(list(exist)).sum().clamp(min=1)
