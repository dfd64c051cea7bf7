"""MFN: an LSTM per modality, attention over the changes of their memories, and a memory of what they share."""

import torch

from configuration.configuration_mfn import MfnConfig
from modeling.gated_memory import MemoryFusion, TwoLayers
from modeling.modality_sequence import ModalitySequence
from modeling.modeling_multimodal import MultimodalOutput, MultimodalPreTrainedModel


class MfnModel(MultimodalPreTrainedModel):
    """
    MFN (Zadeh, Liang, Mazumder, Poria, Cambria and Morency, AAAI 2018, arXiv:1802.00927, "Memory Fusion Network for
    Multi-view Sequential Learning").

    At each word one LSTM per modality takes its features (System of LSTMs); the cell states of all, at the word and at
    the one before, c = [c_{t-1}; c_t], are attended to, a = softmax(D_a(c)) (Delta-memory Attention Network); and the
    memory takes in x = a * c by its gates (Multi-view Gated Memory, see `GatedMemory`):

        u_t = r_t * u_{t-1} + w_t * tanh(D_u(x_t))

    The hidden states and the memory after the last word go through a network of two layers. The gates read the memory
    before the step as well as x, as in the authors' code.

    The modalities are brought to the steps of the text (see `modeling.alignment`), and the last step is the last valid
    one; the authors' code takes the last of the padded ones. The states of a modality that a sample lacks are zeros.
    """

    config_class = MfnConfig

    def __init__(self, config: MfnConfig):
        super().__init__(config)
        self.fusion = MemoryFusion(self.build_inputs(), config)
        outputs = len(config.output_names)
        self.output = TwoLayers(self.fusion.output_size, config.output_size, outputs, config.output_dropout)
        self.post_init()

    def predict(self, sequences: dict[str, ModalitySequence], labels: torch.Tensor | None = None) -> MultimodalOutput:
        """See the base class."""
        state = self.fusion(sequences)
        logits = self.output(state)
        loss = None if labels is None else self.prediction_loss(logits, labels)
        return MultimodalOutput(loss=loss, logits=logits, fusion_state=state)
