"""LF-DNN's configuration."""

from huggingface_hub.dataclasses import strict

from configuration.configuration_multimodal import MultimodalConfig


@strict
class LfDnnConfig(MultimodalConfig):
    r"""
    Configuration of [`LfDnnModel`], the late-fusion baseline of MMSA: TFN's networks for the modalities, and layers
    over their representations side by side.

    The defaults are those of MMSA for CMU-MOSI.

    Args:
        text_hidden_size (`int`, *optional*, defaults to 128):
            Width of the LSTM that reads the text.
        text_size (`int`, *optional*, defaults to 256):
            Width of the text's representation, that of the linear layer after the LSTM.
        audio_hidden_size, vision_hidden_size (`int`, *optional*, default to 16 and 128):
            Widths of the three layers of each, and so of its representation.
        text_dropout, audio_dropout, vision_dropout (`float`, *optional*, default to 0.2):
            On the LSTM's state, and on the normalised means of audio and vision. That of text never acts in TFN's and
            MMSA's code, which switch it off for LSTMs of one layer; with 0 it is as there.
        fusion_size (`int`, *optional*, defaults to 128):
            Width of the two layers that read the representations.
        fusion_dropout (`float`, *optional*, defaults to 0.2):
            On the concatenated representations.
    """

    model_type = "lf_dnn"
    display_name = "LF-DNN"
    citation = (
        'the late-fusion network that Yu et al., "CH-SIMS: A Chinese Multimodal Sentiment Analysis Dataset with '
        'Fine-grained Annotation of Modality", ACL 2020 '
        "([paper](https://aclanthology.org/2020.acl-main.343/)), compare with"
    )

    text_hidden_size: int = 128
    text_size: int = 256
    audio_hidden_size: int = 16
    vision_hidden_size: int = 128
    fusion_size: int = 128
    text_dropout: float | int = 0.2
    audio_dropout: float | int = 0.2
    vision_dropout: float | int = 0.2
    fusion_dropout: float | int = 0.2

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        self.check_sizes()
