"""SPT's configuration."""

from huggingface_hub.dataclasses import strict

from configuration.configuration_multimodal import MultimodalConfig
from configuration.configuration_multitask import SPT_SHIFTS, check_windows


@strict
class SptConfig(MultimodalConfig):
    r"""
    Configuration of [`SptModel`]: "Multimodal Phased Transformer for Sentiment Analysis" (Cheng, Fostiropoulos, Boehm
    and Soleymani, EMNLP 2021).

    The defaults are those of the authors' code, which are the same for all corpora. What it says of the windows and of
    the dropout on attention has no effect there: `spt_input_shifts=[]` and `attention_dropout=0` is what it computes.

    Args:
        hidden_size (`int`, *optional*, defaults to 32):
            Width of a hidden slot.
        num_hidden_layers (`int`, *optional*, defaults to 4):
            Repetitions of input, cross and self attention; they share their parameters.
        num_attention_heads (`int`, *optional*, defaults to 8):
            Must divide `hidden_size`.
        spt_stride (`int`, *optional*, defaults to 5):
            Steps of the input per hidden slot.
        spt_radii (three `int`, *optional*, defaults to (8, 4, 3)):
            The windows of input, cross and self attention are 2 r + 1 wide.
        spt_input_shifts (`list` of `str`, *optional*, defaults to `["stride", "phase", "random"]`):
            How the windows of input attention move from repetition to repetition. The authors' code names all three,
            but by a slip none is applied.
        attention_dropout (`float`, *optional*, defaults to 0.2):
            On the attention weights. The authors' code never passes it on: it trains with 0.
        relu_dropout, residual_dropout (`float`, *optional*, default to 0.1):
            Inside the feed-forward layers, and on what a layer adds.
        embedding_dropout (`float`, *optional*, defaults to 0.3):
            On the features and on the first slots.
        output_dropout (`float`, *optional*, defaults to 0.1):
            Inside the residual layer before the prediction.
    """

    model_type = "spt"
    display_name = "SPT"
    citation = (
        'Cheng, Fostiropoulos, Boehm and Soleymani, "Multimodal Phased Transformer for Sentiment Analysis", EMNLP 2021 '
        "([2021.emnlp-main.189](https://aclanthology.org/2021.emnlp-main.189/))"
    )

    hidden_size: int = 32
    num_hidden_layers: int = 4
    num_attention_heads: int = 8
    spt_stride: int = 5
    spt_radii: list | tuple = (8, 4, 3)
    spt_input_shifts: list | tuple = SPT_SHIFTS
    attention_dropout: float | int = 0.2
    relu_dropout: float | int = 0.1
    residual_dropout: float | int = 0.1
    embedding_dropout: float | int = 0.3
    output_dropout: float | int = 0.1

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        check_windows(self)
        self.check_sizes("num_hidden_layers", "num_attention_heads", "spt_stride")
        self.check_heads()
