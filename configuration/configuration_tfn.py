"""TFN's configuration."""

from huggingface_hub.dataclasses import strict

from configuration.configuration_multimodal import MultimodalConfig


@strict
class TfnConfig(MultimodalConfig):
    r"""
    Configuration of [`TfnModel`]: "Tensor Fusion Network for Multimodal Sentiment Analysis" (Zadeh, Chen, Poria,
    Cambria and Morency, EMNLP 2017).

    The defaults are those that MMSA tuned for CMU-MOSI, of the form that the authors' code has: a linear layer after
    the text's LSTM, where the paper has fully connected layers with ReLUs.

    Args:
        text_hidden_size (`int`, *optional*, defaults to 128):
            Width of the LSTM that reads the text.
        text_size (`int`, *optional*, defaults to 32):
            Width of the text's representation, that of the linear layer after the LSTM.
        audio_hidden_size, vision_hidden_size (`int`, *optional*, default to 32 and 128):
            Widths of the three layers of each, and so of its representation.
        text_dropout, audio_dropout, vision_dropout (`float`, *optional*, default to 0.3):
            On the LSTM's state, and on the normalised means of audio and vision. That of text never acts in TFN's and
            MMSA's code, which switch it off for LSTMs of one layer; with 0 it is as there.
        fusion_size (`int`, *optional*, defaults to 64):
            Width of the two layers that read the outer product. It has (`text_size` + 1) x (`audio_hidden_size` + 1) x
            (`vision_hidden_size` + 1) features; most parameters are there.
        fusion_dropout (`float`, *optional*, defaults to 0.5):
            On the outer product.
        bounded_output (`bool`, *optional*, defaults to `True`):
            Whether the prediction of `target` "sentiment" is bounded to `label_range` by a sigmoid. The authors' and
            MMSA's code bound it to (-3, 3) for every corpus. Other targets are not bounded.
    """

    model_type = "tfn"
    display_name = "TFN"
    citation = (
        'Zadeh, Chen, Poria, Cambria and Morency, "Tensor Fusion Network for Multimodal Sentiment Analysis", EMNLP '
        "2017 ([arXiv:1707.07250](https://arxiv.org/abs/1707.07250))"
    )

    text_hidden_size: int = 128
    text_size: int = 32
    audio_hidden_size: int = 32
    vision_hidden_size: int = 128
    fusion_size: int = 64
    text_dropout: float | int = 0.3
    audio_dropout: float | int = 0.3
    vision_dropout: float | int = 0.3
    fusion_dropout: float | int = 0.5
    bounded_output: bool = True

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        self.check_sizes()
