"""SUGRM's configuration."""

from typing import Literal

from huggingface_hub.dataclasses import strict

from configuration.configuration_multitask import MultitaskConfig


@strict
class SugrmConfig(MultitaskConfig):
    r"""
    Configuration of [`SugrmModel`]: "Self-Supervised Unimodal Label Generation Strategy Using Recalibrated Modality
    Representations for Multimodal Sentiment Analysis" (Hwang and Kim, Findings of EACL 2023).

    The defaults are the paper's architecture with its sizes for CMU-MOSI (table 7). The network of its authors' code is
    `head_layers=3`, `attention_dropout=0` and `spt_input_shifts=[]`.

    Args:
        recalibration (`bool`, *optional*, defaults to `True`): See [`MultitaskConfig`].
        sequence_encoder (`str`, *optional*, defaults to `"spt"`): See [`MultitaskConfig`], as for what is not here.
        common_size (`int`, *optional*, defaults to 32):
            Width of the common space, in which the states of all tasks lie (F* in the paper).
        output_dropout (`float`, *optional*, defaults to 0.3):
            Inside the heads.
        head_layers (`int`, *optional*, defaults to 2):
            Linear layers of each head: 2 as in the paper, where F* comes out of a ReLU, or 3 as in the authors' code,
            where a linear layer behind it makes F*.
    """

    model_type = "sugrm"
    display_name = "SUGRM"
    citation = (
        'Hwang and Kim, "Self-Supervised Unimodal Label Generation Strategy Using Recalibrated Modality '
        'Representations for Multimodal Sentiment Analysis", Findings of EACL 2023'
    )

    recalibration: bool = True
    sequence_encoder: Literal["lstm", "spt", "transformer"] = "spt"
    common_size: int = 32
    output_dropout: float | int = 0.3
    head_layers: int = 2

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        if self.head_layers not in (2, 3):
            raise ValueError(f"`head_layers` must be 2 (paper) or 3 (authors' code); got {self.head_layers!r}.")
