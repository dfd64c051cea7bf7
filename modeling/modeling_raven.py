"""RAVEN: what is seen and heard while a word is spoken shifts the word's representation."""

import torch
from torch import nn

from configuration.configuration_raven import RavenConfig
from modeling.frames import frames_per_step
from modeling.modality_sequence import ModalitySequence, last_valid_state, leading_mask, left_align, resample
from modeling.modeling_multimodal import MultimodalOutput, MultimodalPreTrainedModel
from modeling.multimodal_shift import MultimodalShift
from modeling.recurrent import SequenceEncoder, lstm_states


class RavenModel(MultimodalPreTrainedModel):
    """
    RAVEN (Wang et al., AAAI 2019, "Words Can Shift: Dynamically Adjusting Word Representations Using Nonverbal
    Behaviors"), the Recurrent Attended Variation Embedding Network.

    With e a word, and h_a and h_v the last states of an LSTM each over its audio and vision frames:

        g_m = sigmoid(w_m [h_m; e] + b_m), one number, m one of a and v
        h = g_a W_a h_a + g_v W_v h_v + b
        e' = dropout(e + alpha h), alpha = min(beta |e| / |h|, 1)

    An LSTM reads the shifted words, and the prediction is linear in its state after the last one.

    The authors' code has no sigmoid, shortens h another way (see `beta`), maps the frames linearly before the LSTM,
    whose own input weights can do the same, and normalises the audio of a batch, in evaluation, too. It cuts the
    gradient of h, so that the frames' LSTMs, the gates and W_m stay as they were initialised; here it flows. It trains
    on the squared error; here, as everywhere, `prediction_loss` is the absolute one.

    A word's frames are its share of the modality's steps: the corpora of the paper give them by the time at which the
    word is spoken. Words are the steps of the text; in a configuration without text, those of its first modality, which
    is then what the others shift.

    A modality that a sample lacks shifts nothing, and without all of them e' is e. A sample without words has e = 0 and
    alpha = 1 at the steps of the first modality that it has.
    """

    config_class = RavenConfig

    def __init__(self, config: RavenConfig):
        super().__init__(config)
        (anchor, size), *others = self.build_inputs().items()
        self.anchor = anchor
        width = config.frame_hidden_size
        self.frame_encoders = nn.ModuleDict({m: SequenceEncoder(feature_size, width) for m, feature_size in others})
        self.shift = None
        if others:
            self.shift = MultimodalShift(size, dict.fromkeys(self.frame_encoders, width), config.beta, gates="scalar")
        self.dropout = nn.Dropout(config.dropout)
        self.lstm = nn.LSTM(size, config.hidden_size, batch_first=True)
        self.output = nn.Linear(config.hidden_size, len(config.output_names))
        self.post_init()

    def predict(self, sequences: dict[str, ModalitySequence], labels: torch.Tensor | None = None) -> MultimodalOutput:
        """See the base class."""
        aligned = {m: left_align(sequence)[0] for m, sequence in sequences.items()}
        mask = leading_mask(list(aligned.values()))
        words = resample(aligned[self.anchor], mask)
        values = words.values
        if self.shift is not None:
            values = self.shift(words, {m: self._summed_up(m, aligned[m], mask) for m in self.frame_encoders})
        states = lstm_states(self.lstm, ModalitySequence(self.dropout(values), mask))
        state = last_valid_state(ModalitySequence(states, mask))
        logits = self.output(state)
        loss = None if labels is None else self.prediction_loss(logits, labels)
        return MultimodalOutput(loss=loss, logits=logits, fusion_state=state)

    def _summed_up(self, modality: str, sequence: ModalitySequence, mask: torch.Tensor) -> ModalitySequence:
        """h_m of each word, (B, N, frame_hidden_size), with zeros and masked where there is no frame."""
        sequence = ModalitySequence(self.dropout(sequence.values), sequence.mask)
        frames, there = frames_per_step(sequence, mask, self.config.max_frames_per_word)
        states = self.frame_encoders[modality](ModalitySequence(frames.flatten(0, 1), there.flatten(0, 1)))
        return ModalitySequence(states.unflatten(0, mask.shape), there.any(dim=2))
