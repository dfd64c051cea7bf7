"""MFM's configuration."""

from huggingface_hub.dataclasses import strict

from configuration.configuration_mfn import MfnConfig


@strict
class MfmConfig(MfnConfig):
    r"""
    Configuration of [`MfmModel`]: "Learning Factorized Multimodal Representations" (Tsai, Liang, Zadeh, Morency and
    Salakhutdinov, ICLR 2019).

    The paper gives no sizes for CMU-MOSI: the defaults are those that MMSA found. Its `lda_*` are the `*_weight` here.

    Args:
        text_hidden_size, audio_hidden_size, vision_hidden_size (`int`, *optional*, default to 128, 32 and 128):
            These and all up to `update_dropout` are of the MFN that encodes the modalities together; see [`MfnConfig`].
        memory_size (`int`, *optional*, defaults to 64):
            Of its memory.
        attention_size, attention_dropout (*optional*, default to 32 and 0.7):
            Of its attention.
        proposal_size, proposal_dropout (*optional*, default to 64 and 0.0):
            Of what proposes an update of its memory.
        retain_size, retain_dropout (*optional*, default to 32 and 0.0):
            Of the gate that retains it.
        update_size, update_dropout (*optional*, default to 64 and 0.5):
            Of the gate that lets the update in.
        code_size (`int`, *optional*, defaults to 80):
            Width of z_y, the code of all modalities.
        text_code_size, audio_code_size, vision_code_size (`int`, *optional*, default to 64, 80 and 80):
            Width of z_m, the code of one, and of the LSTM before it.
        factor_size, factor_dropout (*optional*, default to 64 and 0.5):
            Of F_y, the factor from which the label is predicted: both layers that make it of z_y.
        text_factor_size, audio_factor_size, vision_factor_size (`int`, *optional*, default to 32, 16 and 64):
            Of F_m, the factor of one modality.
        text_factor_dropout, audio_factor_dropout, vision_factor_dropout (*optional*, default to 0.5, 0.7 and 0.5):
            Between the layers that make it of z_m.
        output_dropout (`float`, *optional*, defaults to 0.0):
            Between the layers of the prediction, which is as wide inside as the factor.
        mmd_weight (`float`, *optional*, defaults to 100):
            Of the discrepancy between the codes and the prior.
        text_reconstruction_weight, audio_reconstruction_weight, vision_reconstruction_weight (`float`, *optional*):
            Of the errors of what is generated; default to 0.5, 0.01 and 0.5.
    """

    model_type = "mfm"
    display_name = "MFM"
    citation = (
        'Tsai, Liang, Zadeh, Morency and Salakhutdinov, "Learning Factorized Multimodal Representations", ICLR 2019 '
        "([arXiv:1806.06176](https://arxiv.org/abs/1806.06176))"
    )

    text_hidden_size: int = 128
    vision_hidden_size: int = 128
    memory_size: int = 64
    attention_dropout: float | int = 0.7
    retain_size: int = 32
    retain_dropout: float | int = 0.0
    update_size: int = 64
    code_size: int = 80
    text_code_size: int = 64
    audio_code_size: int = 80
    vision_code_size: int = 80
    factor_size: int = 64
    factor_dropout: float | int = 0.5
    text_factor_size: int = 32
    text_factor_dropout: float | int = 0.5
    audio_factor_size: int = 16
    audio_factor_dropout: float | int = 0.7
    vision_factor_size: int = 64
    vision_factor_dropout: float | int = 0.5
    mmd_weight: float | int = 100
    text_reconstruction_weight: float | int = 0.5
    audio_reconstruction_weight: float | int = 0.01
    vision_reconstruction_weight: float | int = 0.5
