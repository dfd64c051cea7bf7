"""BC-LSTM: each modality's utterances in their context, then all modalities' together in theirs."""

from __future__ import annotations

import torch
from torch import nn

from configuration.configuration_bc_lstm import BcLstmConfig
from modeling.alignment import word_aligned
from modeling.modality_sequence import ModalitySequence, any_valid, last_valid_state
from modeling.modeling_multimodal import MultimodalOutput, MultimodalPreTrainedModel
from modeling.recurrent import BidirectionalLSTM, lstm_states


class BcLstmModel(MultimodalPreTrainedModel):
    """
    BC-LSTM, the hierarchical contextual LSTM (Poria, Cambria, Hazarika, Majumder, Zadeh and Morency, ACL 2017,
    "Context-Dependent Sentiment Analysis in User-Generated Videos"). A step is an utterance of a video, or a word, or
    what else the data has steps of.

    Level 1, for each modality m: h_t = [LSTM forward; LSTM backward](x_t), z_t^m = tanh(W_m h_t + b_m).
    Level 2: h_t of another such pair over the z_t^m side by side, z = ReLU(W h_t + b), the prediction W' z + b'.

    Both levels answer for the last valid step, the one that is labelled: level 1 from z_t^m with an output layer for
    each modality, level 2 from z. Of level 2 that step alone is computed. There the backward LSTM has read one
    step and has no state from a later one, so that it is the gates of that step, without weights for a state. (The
    paper labels every utterance of a whole video, here one is labelled, with those before it.) With
    `bidirectional=False` (the paper's sc-LSTM) there are forward LSTMs alone.

        loss = fusion_weight * prediction loss of level 2 + unimodal_weight * sum over m of that of m

    The paper trains level 1 first, and level 2 on what it gives: recipes with `stages` set the weights one after the
    other. Without them both levels are trained at once, and level 1 from the fused prediction, too.

    Modalities are brought to common steps (see `modeling.alignment`). One that a sample lacks is zeros in level 2, and
    has no loss of its own.
    """

    config_class = BcLstmConfig

    def __init__(self, config: BcLstmConfig):
        super().__init__(config)
        sizes, outputs = self.build_inputs(), len(config.output_names)
        self.contexts = nn.ModuleDict({modality: _Context(width, config) for modality, width in sizes.items()})
        self.unimodal_outputs = nn.ModuleDict({m: nn.Linear(config.unimodal_size, outputs) for m in sizes})
        width = len(sizes) * config.unimodal_size
        self.fusion_input_dropout = nn.Dropout(config.fusion_input_dropout)
        self.fusion_lstm = nn.LSTM(width, config.hidden_size, batch_first=True)
        self.last_step = _BackwardLastStep(width, config.hidden_size) if config.bidirectional else None
        self.hidden = nn.Linear(config.hidden_size * (1 + config.bidirectional), config.fusion_size)
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(config.fusion_size, outputs)
        self.post_init()

    def predict(self, sequences: dict[str, ModalitySequence], labels: torch.Tensor | None = None) -> MultimodalOutput:
        """See the base class."""
        aligned = word_aligned(sequences)
        contexts = {modality: context(aligned[modality]) for modality, context in self.contexts.items()}
        states = {modality: last_valid_state(context) for modality, context in contexts.items()}
        unimodal = {m: output(self.dropout(states[m])) for m, output in self.unimodal_outputs.items()}
        fused = self._fused(contexts)
        logits = self.output(self.dropout(fused))
        loss = None
        if labels is not None:
            losses = [self.prediction_loss(unimodal[m], labels, sequences[m].present) for m in unimodal]
            loss = self.config.fusion_weight * self.prediction_loss(logits, labels)
            loss = loss + self.config.unimodal_weight * torch.stack(losses).sum()
        return MultimodalOutput(
            loss=loss,
            logits=logits,
            fusion_state=fused,
            **{f"{modality}_logits": value for modality, value in unimodal.items()},
            **{f"{modality}_state": state for modality, state in states.items()},
        )

    def _fused(self, contexts: dict[str, ModalitySequence]) -> torch.Tensor:
        """Level 2 at the last step: (B, fusion_size)."""
        mask = any_valid(contexts.values())
        joined = self.fusion_input_dropout(torch.cat([context.values for context in contexts.values()], dim=-1))
        state = last_valid_state(ModalitySequence(lstm_states(self.fusion_lstm, ModalitySequence(joined, mask)), mask))
        if self.last_step is not None:
            backward = self.last_step(last_valid_state(ModalitySequence(joined, mask)))
            state = torch.cat([state, backward], dim=-1)
        return torch.relu(self.hidden(self.dropout(state)))


class _Context(nn.Module):
    """Level 1 of one modality."""

    def __init__(self, input_size: int, config: BcLstmConfig):
        super().__init__()
        self.input_dropout = nn.Dropout(config.unimodal_input_dropout)
        self.lstm: BidirectionalLSTM | nn.LSTM
        if config.bidirectional:
            self.lstm = BidirectionalLSTM(input_size, config.hidden_size)
        else:
            self.lstm = nn.LSTM(input_size, config.hidden_size, batch_first=True)
        self.dropout = nn.Dropout(config.dropout)
        self.dense = nn.Linear(config.hidden_size * (1 + config.bidirectional), config.unimodal_size)

    def forward(self, sequence: ModalitySequence) -> ModalitySequence:
        """From left-aligned features (B, T, input_size) to (B, T, unimodal_size)."""
        sequence = ModalitySequence(self.input_dropout(sequence.values), sequence.mask)
        if isinstance(self.lstm, BidirectionalLSTM):
            states = torch.cat(self.lstm(sequence), dim=-1)
        else:
            states = lstm_states(self.lstm, sequence)
        values = torch.tanh(self.dense(self.dropout(states)))
        return ModalitySequence(values, sequence.mask).cleared()


class _BackwardLastStep(nn.Module):
    """
    The state of a backward LSTM at the last step, where it starts: sigmoid(o) * tanh(sigmoid(i) * tanh(g)), without a
    forget gate and weights for the state before, which is zero.
    """

    def __init__(self, input_size: int, size: int):
        super().__init__()
        self.gates = nn.Linear(input_size, 3 * size)

    def forward(self, step: torch.Tensor) -> torch.Tensor:
        """From (B, input_size) to (B, size)."""
        entry, cell, exit_gate = self.gates(step).chunk(3, dim=-1)
        return torch.sigmoid(exit_gate) * torch.tanh(torch.sigmoid(entry) * torch.tanh(cell))
