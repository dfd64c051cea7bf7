"""Self-MM's configuration."""

from typing import Literal

from huggingface_hub.dataclasses import strict

from configuration.configuration_multitask import MultitaskConfig


@strict
class SelfMMConfig(MultitaskConfig):
    r"""
    Configuration of [`SelfMMModel`]: "Learning Modality-Specific Representations with Self-Supervised Multi-Task
    Learning for Multimodal Sentiment Analysis" (Yu, Xu, Yuan and Wu, AAAI 2021).

    The defaults are the paper's architecture with the sizes that its authors' code uses for CMU-MOSI. The paper and the
    code disagree on two layers, each with a switch here: set `head_layers=3` and the three `*_projection_size` for the
    code's network. `recalibration` and `sequence_encoder` are for SUGRM's table 4; Self-MM itself has no recalibration
    and LSTMs.

    Args:
        text_pooling (`str`, *optional*, defaults to `"first"`):
            What represents the text behind a text encoder: its state at the "first" token (paper), or the "mean" of its
            states, for encoders that were pretrained with it, such as sentence-transformers.
        text_hidden_size, audio_hidden_size, vision_hidden_size (`int`, *optional*, default to 64, 32 and 64):
            Width of each modality's LSTM. That of text is used only where text comes as `text_values`.
        text_projection_size, audio_projection_size, vision_projection_size (`int`, *optional*):
            Width of a linear layer after the LSTM. Unset, the LSTM's end state is the representation (paper); the
            authors' code has the layer, of width 16 for audio and 32 for vision.
        fusion_size, text_size, audio_size, vision_size (`int`, *optional*, default to 128, 64, 16 and 32):
            Width of each task's space, where the labels' class centres lie (F* in the paper).
        fusion_dropout, text_dropout, audio_dropout, vision_dropout (`float`, *optional*):
            Dropout on each head's input, by default 0.1, 0.0, 0.1 and 0.1.
        sequence_dropout (`float`, *optional*, defaults to 0.0):
            Dropout on the LSTMs' end states.
        head_layers (`int`, *optional*, defaults to 2):
            Linear layers of each head: 2 as in the paper, or 3 as in the authors' code, whose additional layer lies
            between F* and the output.
    """

    model_type = "self_mm"
    display_name = "Self-MM"
    citation = (
        'Yu, Xu, Yuan and Wu, "Learning Modality-Specific Representations with Self-Supervised Multi-Task Learning for '
        'Multimodal Sentiment Analysis", AAAI 2021 ([arXiv:2102.04830](https://arxiv.org/abs/2102.04830))'
    )

    text_pooling: Literal["first", "mean"] = "first"
    text_hidden_size: int = 64
    audio_hidden_size: int = 32
    vision_hidden_size: int = 64
    text_projection_size: int | None = None
    audio_projection_size: int | None = None
    vision_projection_size: int | None = None
    fusion_size: int = 128
    text_size: int = 64
    audio_size: int = 16
    vision_size: int = 32
    fusion_dropout: float | int = 0.1
    text_dropout: float | int = 0.0
    audio_dropout: float | int = 0.1
    vision_dropout: float | int = 0.1
    sequence_dropout: float | int = 0.0
    head_layers: int = 2

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        if self.head_layers not in (2, 3):
            raise ValueError(f"`head_layers` must be 2 (paper) or 3 (authors' code); got {self.head_layers!r}.")
