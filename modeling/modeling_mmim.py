"""MMIM: fusion that keeps what the modalities know of each other, and what it knows of each of them."""

import torch
from torch import nn
from torch.nn.functional import normalize

from configuration.configuration_mmim import MmimConfig
from modeling.modality_sequence import ModalitySequence, first_valid_state
from modeling.modeling_multimodal import MultimodalOutput, MultimodalPreTrainedModel
from modeling.recurrent import SequenceEncoder

# From the modality that predicts to the one that is predicted.
_TEXT_PAIRS = (("text", "audio"), ("text", "vision"))
_AUDIO_VISION = (("vision", "audio"),)
_ORDERED_CLASSES = ("sentiment2", "sentiment7")


class MmimModel(MultimodalPreTrainedModel):
    """
    MMIM, MultiModal InfoMax (Han, Chen and Poria, EMNLP 2021, "Improving Multimodal Fusion with Hierarchical Mutual
    Information Maximization for Multimodal Sentiment Analysis").

    Text is represented by the text encoder's state at the first token (or, for `text_values`, by an LSTM's end states),
    audio and vision by a linear layer of their LSTMs' end states. Two layers fuse them, Z = tanh(W2 tanh(W1 [h; ...])),
    and a linear one predicts from Z. The loss (section "Training") is

        prediction + alpha sum_m contrast(Z, h_m) - beta sum_(x, y) information(x, y)

    with `contrastive_loss` over the modalities, and over the pairs text-audio and text-vision, of those that the
    checkpoint has, `MutualInformationBound`: the likelihood of y given x, plus the entropy of y.

    The authors alternate two steps of optimisers: one raises the likelihood by the networks that predict y, the other
    lowers the whole loss by everything else. Here all parameters lower the one loss: both steps raise the same
    likelihood, in which the networks meet no other term, and Adam does not see its weight. Their entropy reads the
    batches before this one, too; here it reads this batch alone, so that a resumed run goes on as it was.

    The entropy is that of a mixture of the samples with a negative and with a positive sentiment. Targets other than a
    sentiment (emotions, labels of one's own that are not one number) have no such groups, and their loss no entropy.

    A modality that a sample lacks is zeros in what is fused, and the sample has no part in the terms that read it.
    """

    config_class = MmimConfig

    def __init__(self, config: MmimConfig):
        super().__init__(config)
        sizes = self.build_inputs()
        for modality, width in sizes.items():
            if modality != "text" or config.text_config is None:
                encoder = SequenceEncoder(
                    width,
                    getattr(config, f"{modality}_hidden_size"),
                    getattr(config, f"{modality}_projection_size", None),
                    config.sequence_dropout,
                    config.bidirectional,
                )
                self.add_module(f"{modality}_encoder", encoder)
                sizes[modality] = encoder.output_size
        size = config.fusion_size
        self.dropout = nn.Dropout(config.dropout)
        self.fusion = nn.Sequential(nn.Linear(sum(sizes.values()), size), nn.Tanh(), nn.Linear(size, size), nn.Tanh())
        self.output = nn.Linear(size, len(config.output_names))
        self.predictors = nn.ModuleDict({modality: nn.Linear(size, width) for modality, width in sizes.items()})
        self.has_polarity = config.one_number or config.target in _ORDERED_CLASSES
        pairs = _TEXT_PAIRS + (_AUDIO_VISION if config.audio_vision_information else ())
        self.pairs = [(x, y) for x, y in pairs if x in sizes and y in sizes]
        self.information = nn.ModuleDict(
            {
                f"{x}_{y}": MutualInformationBound(
                    sizes[x], sizes[y], config.entropy_size if self.has_polarity else None, config.entropy_shrinkage
                )
                for x, y in self.pairs
            }
        )
        self.post_init()

    def predict(self, sequences: dict[str, ModalitySequence], labels: torch.Tensor | None = None) -> MultimodalOutput:
        """See the base class."""
        states = {modality: self._state(modality, sequence) for modality, sequence in sequences.items()}
        fused = self.fusion(self.dropout(torch.cat(list(states.values()), dim=-1)))
        logits = self.output(fused)
        loss = None
        if labels is not None:
            present = {modality: sequence.present for modality, sequence in sequences.items()}
            loss = self.prediction_loss(logits, labels)
            for modality, predictor in self.predictors.items():
                contrast = contrastive_loss(predictor(fused), states[modality], present[modality])
                loss = loss + self.config.contrastive_weight * contrast
            groups = self._groups(labels)
            for (x, y), bound in zip(self.pairs, self.information.values(), strict=True):
                information = bound(states[x], states[y], present[x] & present[y], groups)
                loss = loss - self.config.information_weight * information
        return MultimodalOutput(
            loss=loss,
            logits=logits,
            fusion_state=fused,
            **{f"{modality}_state": state for modality, state in states.items()},
        )

    def _state(self, modality: str, sequence: ModalitySequence) -> torch.Tensor:
        if modality == "text" and self.config.text_config is not None:
            return first_valid_state(sequence)
        return self.get_submodule(f"{modality}_encoder")(sequence)

    def _groups(self, labels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The samples (B,) with a positive sentiment and those with a negative one, where the target has such."""
        if not self.has_polarity:
            return ()
        labels = labels.reshape(-1)
        if self.config.target in _ORDERED_CLASSES:
            # Classes in the order of their sentiment; -100 is no class.
            neutral = (len(self.config.output_names) - 1) / 2
            return labels > neutral, (labels < neutral) & (labels >= 0)
        return labels > 0, labels < 0


class MutualInformationBound(nn.Module):
    """
    A lower bound of the mutual information of two modalities, E log q(y | x) + H(y), without the terms that never
    change (section "Modality-level Mutual Information Maximization"; the bound is that of Barber and Agakov).

    q is a Gaussian with means mu(x) and variances exp(s(x)), both from networks of two layers. The code scores it by
    -(mu(x) - y)^2 / (2 exp(s(x))) alone, which any variance that is large enough makes zero; here is the whole
    log-density. It has no maximum while y shrinks together with the variance: s is kept between -1 and 1 by the tanh
    that the code asks for and then leaves out.

    y is taken for a mixture of one Gaussian per group of samples in equal parts, whose entropy is the mean of theirs.
    Those are of tanh(W y), narrow enough for the covariance of a batch (code). A group with fewer than two samples adds
    nothing.

    Args:
        x_size, y_size (`int`): Widths of x and y.
        entropy_size (`int`, *optional*): Width of W y; unset where the entropy is left out.
        shrinkage (`float`): See `gaussian_entropy`.
    """

    def __init__(self, x_size: int, y_size: int, entropy_size: int | None, shrinkage: float):
        super().__init__()
        self.shrinkage = shrinkage
        self.mean = nn.Sequential(nn.Linear(x_size, y_size), nn.ReLU(), nn.Linear(y_size, y_size))
        self.log_variance = nn.Sequential(nn.Linear(x_size, y_size), nn.ReLU(), nn.Linear(y_size, y_size), nn.Tanh())
        self.projection = nn.Linear(y_size, entropy_size) if entropy_size is not None else None

    def forward(
        self, x: torch.Tensor, y: torch.Tensor, counted: torch.Tensor, groups: tuple[torch.Tensor, ...]
    ) -> torch.Tensor:
        """
        Args:
            x (`torch.Tensor` of shape `(B, x_size)`), y (of shape `(B, y_size)`): The two modalities.
            counted (`torch.Tensor` of shape `(B,)`): False at samples that are to be left out.
            groups (`tuple`): (B,) bool for each part of the mixture, true at its samples.
        """
        log_variance, error = self.log_variance(x).float(), (self.mean(x).float() - y.float()).square()
        log_density = -(log_variance + error * torch.exp(-log_variance)).sum(dim=-1) / 2
        bound = (log_density * counted).sum() / counted.sum().clamp(min=1)
        if self.projection is None:
            return bound
        projected = torch.tanh(self.projection(y))
        entropies = [gaussian_entropy(projected, counted & group, self.shrinkage) for group in groups]
        return bound + torch.stack(entropies).mean()


def gaussian_entropy(values: torch.Tensor, counted: torch.Tensor, shrinkage: float) -> torch.Tensor:
    """
    1/2 log det((1 - s) S + s I) with the covariance S of samples in [-1, 1]: the entropy of a Gaussian without the
    terms that never change. In float32; the identity, beyond whose variances such samples cannot get, keeps it finite.

    Args:
        values (`torch.Tensor` of shape `(N, d)`): Samples.
        counted (`torch.Tensor` of shape `(N,)`): False at samples that are to be left out.
        shrinkage (`float`): s, above 0 and below 1.

    Returns:
        A number; 0 for fewer than two samples.
    """
    weight, values = counted.float().unsqueeze(-1), values.float()
    samples = weight.sum().clamp(min=1)
    centred = (values - (values * weight).sum(dim=0) / samples) * weight
    identity = torch.eye(values.shape[1], device=values.device)
    with torch.autocast(values.device.type, enabled=False):
        covariance = (1 - shrinkage) * (centred.T @ centred) / samples + shrinkage * identity
        return torch.linalg.slogdet(covariance).logabsdet / 2 * (counted.sum() > 1)


def contrastive_loss(predictions: torch.Tensor, states: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
    """
    Contrastive predictive coding: which of a batch's states belongs to a prediction. With both scaled to length one,
    p_i of sample i and h_j of sample j,

        - 1/N sum_i log( exp(p_i . h_i) / sum_j exp(p_i . h_j) ).

    (MMIM, section "Fusion-level Mutual Information Maximization"; there j runs over the states, in the code over the
    predictions.)

    Args:
        predictions, states (`torch.Tensor` of shape `(N, d)`): What is predicted, and what is there.
        counted (`torch.Tensor` of shape `(N,)`): False at samples that are to be left out.

    Returns:
        A number; 0 where no sample counts, or one alone.
    """
    predictions, states = (normalize(values.float(), dim=-1) for values in (predictions, states))
    with torch.autocast(predictions.device.type, enabled=False):
        scores = predictions @ states.T
    # Not minus infinity: a sum over nothing but that has no gradient, and such rows do not count anyhow.
    others = scores.masked_fill(~counted.unsqueeze(0), torch.finfo(scores.dtype).min)
    losses = others.logsumexp(dim=1) - scores.diagonal()
    return torch.where(counted, losses, 0.0).sum() / counted.sum().clamp(min=1)
