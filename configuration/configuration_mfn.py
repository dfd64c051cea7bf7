"""MFN's configuration."""

from huggingface_hub.dataclasses import strict

from configuration.configuration_multimodal import MultimodalConfig


@strict
class MfnConfig(MultimodalConfig):
    r"""
    Configuration of [`MfnModel`]: "Memory Fusion Network for Multi-view Sequential Learning" (Zadeh, Liang, Mazumder,
    Poria, Cambria and Morency, AAAI 2018).

    The paper gives no sizes: the defaults are those that MMSA found for CMU-MOSI. A `*_size` and the `*_dropout` of the
    same name are of the hidden layer of one of MFN's networks, all of which have two layers.

    Args:
        text_hidden_size (`int`, *optional*, defaults to 256):
            Width of the text's LSTM.
        audio_hidden_size (`int`, *optional*, defaults to 32):
            Width of the audio's.
        vision_hidden_size (`int`, *optional*, defaults to 256):
            Width of the vision's.
        memory_size (`int`, *optional*, defaults to 400):
            Width of the multi-view gated memory.
        attention_size, attention_dropout (*optional*, default to 32 and 0.2):
            Of the delta-memory attention, D_a.
        proposal_size, proposal_dropout (*optional*, default to 64 and 0.0):
            Of what proposes an update of the memory, D_u.
        retain_size, retain_dropout (*optional*, default to 256 and 0.7):
            Of the gate that retains the memory, D_gamma1.
        update_size, update_dropout (*optional*, default to 32 and 0.5):
            Of the gate that lets the update in, D_gamma2.
        output_size, output_dropout (*optional*, default to 128 and 0.0):
            Of the prediction.
    """

    model_type = "mfn"
    display_name = "MFN"
    citation = (
        'Zadeh, Liang, Mazumder, Poria, Cambria and Morency, "Memory Fusion Network for Multi-view Sequential '
        'Learning", AAAI 2018 ([arXiv:1802.00927](https://arxiv.org/abs/1802.00927))'
    )

    text_hidden_size: int = 256
    audio_hidden_size: int = 32
    vision_hidden_size: int = 256
    memory_size: int = 400
    attention_size: int = 32
    attention_dropout: float | int = 0.2
    proposal_size: int = 64
    proposal_dropout: float | int = 0.0
    retain_size: int = 256
    retain_dropout: float | int = 0.7
    update_size: int = 32
    update_dropout: float | int = 0.5
    output_size: int = 128
    output_dropout: float | int = 0.0

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        self.check_sizes()
