"""MCTN: a representation of one modality that is trained to be translated into the others, and back."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from configuration.configuration_mctn import MctnConfig
from modeling.attention import attend
from modeling.modality_sequence import ModalitySequence, left_align, reconstruction_error, resample
from modeling.modeling_multimodal import MultimodalOutput, MultimodalPreTrainedModel
from modeling.recurrent import BidirectionalLSTM


@dataclass
class MctnOutput(MultimodalOutput):
    """
    Output of [`MctnModel`]. The errors come with `labels`, belong to the batch, and are None where the configuration
    has too few modalities for them; a batch in which no sample has both modalities has an error of 0.

    Args:
        translation_error (`torch.Tensor` of shape `()`): Of the source's translation to the first target.
        cycle_error (`torch.Tensor` of shape `()`): Of that translation's translation back to the source.
        second_translation_error (`torch.Tensor` of shape `()`):
            Of the representation's translation to the second target.
    """

    translation_error: torch.Tensor | None = None
    cycle_error: torch.Tensor | None = None
    second_translation_error: torch.Tensor | None = None


class MctnModel(MultimodalPreTrainedModel):
    """
    Multimodal Cyclic Translation Network (Pham, Liang, Manzini, Morency and Poczos, AAAI 2019, "Found in Translation:
    Learning Robust Joint Representations by Cyclic Translations Between Modalities"), in its hierarchical form where
    there are three modalities.

    The source, `config.translation_order`'s first modality, is encoded: E = encoder(W_s x_s + b_s), the sum of a
    bidirectional LSTM's directions. A decoder translates E to the first target, and the same encoder and decoder
    translate the translation back to the source (cycle consistency). A second encoder reads E, a second decoder
    translates its states to the second target. The prediction is from the last encoder's states alone: an LSTM over
    them, its states h_t weighted by softmax_t(tanh(w h_t + b)) and summed, a linear layer.

        decoder: s_t = LSTM(W y_(t-1) + b), y_0 = 0; c_t = attention of s_t to E (Luong's "general" score);
                 y'_t = U tanh(V [c_t; s_t] + v) + u
        loss = prediction loss + a |y'_1 - y_1|^2 + b |x'_s - x_s|^2 + c |y'_2 - y_2|^2 + d |W_out|^2

    The squared errors are means over features and over the steps of the samples that have source and target; a, b, c
    and d are `translation_weight`, `cycle_weight`, `second_translation_weight` and `output_l2_weight`. The decoder is
    given the step before (teacher forcing), so that one pass makes all steps. What a translation is compared with is
    constant: a text encoder does not learn to be easy to meet.

    Differences from the authors' code: modalities have projections to a common width and from the decoder to their own,
    where the code pads features with zeros to equal width; the decoder reads its target's step before, as the paper's
    factorisation has it, where the code's reads nothing but the source; its attention depends on the decoder's state,
    which a softmax over the sum of two linear scores, as in the code, does not; predictions are not bounded by a tanh.
    A target with more than `max_target_steps` steps is brought to as many by means (see `resample`), where the code
    reads the first ones; the source is read to its end.

    Only the source is read for a prediction. A sample without it gets a constant answer, whatever else it has, and one
    without a target has no error of that translation. With one modality there is no translation.
    """

    config_class = MctnConfig

    def __init__(self, config: MctnConfig):
        super().__init__(config)
        size = config.hidden_size
        sizes = self.build_inputs()
        self.source, *self.targets = config.modality_order
        self.input_projections = nn.ModuleDict({m: nn.Linear(n, config.projection_size) for m, n in sizes.items()})
        self.output_projections = nn.ModuleDict()
        if self.targets:
            self.output_projections = nn.ModuleDict({m: nn.Linear(size, width) for m, width in sizes.items()})
        widths = [config.projection_size, *[size] * (len(self.targets) - 1)]
        self.encoders = nn.ModuleList(BidirectionalLSTM(width, size) for width in widths)
        self.decoders = nn.ModuleList(_Decoder(config.projection_size, size) for _ in self.targets)
        self.dropout = nn.Dropout(config.dropout)
        self.regression = _AttentiveLSTM(size)
        self.output = nn.Linear(size, len(config.output_names))
        self.post_init()

    def predict(self, sequences: dict[str, ModalitySequence], labels: torch.Tensor | None = None) -> MctnOutput:
        """See the base class. Modalities other than the source count with labels alone."""
        source = left_align(sequences[self.source])[0]
        encoded = [self._encoded(0, self._projected(self.source, source))]
        for level in range(1, len(self.encoders)):
            encoded.append(self._encoded(level, encoded[-1]))
        state = self.regression(encoded[-1])
        logits = self.output(self.dropout(state))
        loss, errors = None, {}
        if labels is not None:
            errors = self._translation_errors(sequences, encoded)
            loss = self.prediction_loss(logits, labels)
            loss = loss + self.config.output_l2_weight * self.output.weight.float().square().sum()
            for name, error in errors.items():
                loss = loss + getattr(self.config, f"{name}_weight") * error
        named = {f"{name}_error": error for name, error in errors.items()}
        return MctnOutput(loss=loss, logits=logits, fusion_state=state, **named)

    def _translation_errors(self, sequences, encoded: list[ModalitySequence]) -> dict[str, torch.Tensor]:
        """By name, mean squared errors ()."""
        goals = {modality: self._goal(sequences[modality]) for modality in (self.source, *self.targets)}
        if not self.targets:
            return {}
        first = self.targets[0]
        both = goals[self.source].present & goals[first].present
        translated = self._translated(0, encoded[0], first, goals[first])
        again = self._encoded(0, self._projected(first, translated))
        back = self._translated(0, again, self.source, goals[self.source])
        errors = {
            "translation": _squared_error(translated, goals[first], both),
            "cycle": _squared_error(back, goals[self.source], both),
        }
        if len(self.targets) > 1:
            second = self.targets[1]
            both = goals[self.source].present & goals[second].present
            translated = self._translated(1, encoded[1], second, goals[second])
            errors["second_translation"] = _squared_error(translated, goals[second], both)
        return errors

    def _goal(self, sequence: ModalitySequence) -> ModalitySequence:
        """Left-aligned, of at most `max_target_steps` steps."""
        aligned = left_align(sequence)[0]
        step = torch.arange(min(aligned.mask.shape[1], self.config.max_target_steps), device=aligned.mask.device)
        return resample(aligned, step < aligned.lengths.unsqueeze(1))

    def _projected(self, modality: str, sequence: ModalitySequence) -> ModalitySequence:
        return ModalitySequence(self.input_projections[modality](sequence.values), sequence.mask).cleared()

    def _encoded(self, level: int, sequence: ModalitySequence) -> ModalitySequence:
        ahead, back = self.encoders[level](sequence)
        return ModalitySequence(self.dropout(ahead + back), sequence.mask).cleared()

    def _translated(
        self, level: int, encoded: ModalitySequence, target: str, goal: ModalitySequence
    ) -> ModalitySequence:
        """The prediction of each step of `goal` from those before it and what was encoded, in the target's features."""
        before = nn.functional.pad(self._projected(target, goal).values[:, :-1], (0, 0, 1, 0))
        values = self.output_projections[target](self.decoders[level](before, encoded))
        return ModalitySequence(values, goal.mask).cleared()


def _squared_error(translated: ModalitySequence, goal: ModalitySequence, rows: torch.Tensor) -> torch.Tensor:
    """(): of the rows that count."""
    return reconstruction_error(translated.values, ModalitySequence(goal.values, goal.mask & rows.unsqueeze(1)))


class _Decoder(nn.Module):
    """An LSTM over the target's steps, each delayed by one, whose states attend to what was encoded."""

    def __init__(self, input_size: int, size: int):
        super().__init__()
        self.lstm = nn.LSTM(input_size, size, batch_first=True)
        self.query = nn.Linear(size, size, bias=False)
        self.joined = nn.Linear(2 * size, size)

    def forward(self, before: torch.Tensor, encoded: ModalitySequence) -> torch.Tensor:
        """From delayed steps (B, N, input_size) and encoded ones (B, T, size) to (B, N, size)."""
        states, _ = self.lstm(before)
        context = attend(self.query(states), encoded.values, encoded.values, encoded.mask)
        return torch.tanh(self.joined(torch.cat([context, states], dim=-1)))


class _AttentiveLSTM(nn.Module):
    """An LSTM whose states are summed with weights softmax_t(tanh(w h_t + b)); zeros for a row without steps."""

    def __init__(self, size: int):
        super().__init__()
        self.lstm = nn.LSTM(size, size, batch_first=True)
        self.score = nn.Linear(size, 1)

    def forward(self, sequence: ModalitySequence) -> torch.Tensor:
        """From left-aligned steps (B, T, size) to (B, size)."""
        states, _ = self.lstm(sequence.values)
        scores = torch.tanh(self.score(states)).squeeze(-1).float()
        # A softmax over nothing is NaN: a row without steps weighs all alike, and is dropped by its mask.
        weights = scores.masked_fill(~sequence.mask, torch.finfo(scores.dtype).min).softmax(dim=1)
        weights = (weights * sequence.mask).to(states.dtype)
        return (weights.unsqueeze(1) @ states).squeeze(1)
