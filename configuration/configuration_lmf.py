"""LMF's configuration."""

from huggingface_hub.dataclasses import strict

from configuration.configuration_multimodal import MultimodalConfig


@strict
class LmfConfig(MultimodalConfig):
    r"""
    Configuration of [`LmfModel`]: "Efficient Low-rank Multimodal Fusion with Modality-Specific Factors" (Liu, Shen,
    Lakshminarasimhan, Liang, Zadeh and Morency, ACL 2018).

    The defaults are those that MMSA tuned for CMU-MOSI. The dropout after fusion that the authors' and MMSA's code
    names, and never applies, is not offered.

    Args:
        text_hidden_size (`int`, *optional*, defaults to 128):
            Width of the LSTM that reads the text.
        text_size (`int`, *optional*, defaults to 64):
            Width of the text's representation, that of the linear layer after the LSTM.
        audio_hidden_size, vision_hidden_size (`int`, *optional*, default to 16 and 128):
            Widths of the three layers of each, and so of its representation.
        text_dropout, audio_dropout, vision_dropout (`float`, *optional*, default to 0.3):
            On the LSTM's state, and on the normalised means of audio and vision. That of text never acts in TFN's and
            MMSA's code, which switch it off for LSTMs of one layer; with 0 it is as there.
        rank (`int`, *optional*, defaults to 3):
            Tensors of rank one whose sum the fusion's weights are.
    """

    model_type = "lmf"
    display_name = "LMF"
    citation = (
        'Liu, Shen, Lakshminarasimhan, Liang, Zadeh and Morency, "Efficient Low-rank Multimodal Fusion with '
        'Modality-Specific Factors", ACL 2018 ([arXiv:1806.00064](https://arxiv.org/abs/1806.00064))'
    )

    text_hidden_size: int = 128
    text_size: int = 64
    audio_hidden_size: int = 16
    vision_hidden_size: int = 128
    rank: int = 3
    text_dropout: float | int = 0.3
    audio_dropout: float | int = 0.3
    vision_dropout: float | int = 0.3

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        self.check_sizes("rank")
