"""MulT's configuration."""

from huggingface_hub.dataclasses import strict

from configuration.configuration_multimodal import MultimodalConfig


@strict
class MulTConfig(MultimodalConfig):
    r"""
    Configuration of [`MulTModel`]: "Multimodal Transformer for Unaligned Multimodal Language Sequences" (Tsai et al.,
    ACL 2019).

    The defaults are those of the authors' code, whose number of parameters others compare with. The paper's own tables
    are said to be from `hidden_size=40`, `num_hidden_layers=4` and 10 heads for CMU-MOSI, 8 for CMU-MOSEI. MMSA's tuned
    values for each corpus are in the recipes.

    Args:
        hidden_size (`int`, *optional*, defaults to 30):
            d, the width to which each modality is projected.
        num_hidden_layers (`int`, *optional*, defaults to 5):
            Of the crossmodal transformers; those of self-attention have as many, and at least three.
        num_attention_heads (`int`, *optional*, defaults to 5):
            Must divide `hidden_size`.
        text_kernel_size, audio_kernel_size, vision_kernel_size (`int`, *optional*, default to 1):
            Steps that the projection of a modality reads at once (equation 1). It keeps the number of steps and finds
            zeros beyond them; MMSA's, which is 5 steps wide for CMU-MOSI, shortens the sequence instead.
        positions (`bool`, *optional*, defaults to `True`):
            Whether sinusoidal positions are added (equation 2). MMSA's code leaves them out.
        text_dropout (`float`, *optional*, defaults to 0.25):
            On the text's features. In the authors' code it is the same as `embedding_dropout`.
        attention_dropout (`float`, *optional*, defaults to 0.1):
            On the weights of the attention to text, and of the self-attention after the crossmodal transformers.
        audio_attention_dropout, vision_attention_dropout (`float`, *optional*, default to 0.0):
            On the weights of the crossmodal attention to audio and to vision.
        relu_dropout, residual_dropout (`float`, *optional*, default to 0.1):
            Inside the feed-forward layers, and on what a layer adds.
        embedding_dropout (`float`, *optional*, defaults to 0.25):
            On what the transformers start from.
        output_dropout (`float`, *optional*, defaults to 0.0):
            Inside the residual layer before the prediction.
    """

    model_type = "mult"
    display_name = "MulT"
    citation = (
        'Tsai, Bai, Liang, Kolter, Morency and Salakhutdinov, "Multimodal Transformer for Unaligned Multimodal '
        'Language Sequences", ACL 2019 ([arXiv:1906.00295](https://arxiv.org/abs/1906.00295))'
    )

    hidden_size: int = 30
    num_hidden_layers: int = 5
    num_attention_heads: int = 5
    text_kernel_size: int = 1
    audio_kernel_size: int = 1
    vision_kernel_size: int = 1
    positions: bool = True
    text_dropout: float | int = 0.25
    attention_dropout: float | int = 0.1
    audio_attention_dropout: float | int = 0.0
    vision_attention_dropout: float | int = 0.0
    relu_dropout: float | int = 0.1
    residual_dropout: float | int = 0.1
    embedding_dropout: float | int = 0.25
    output_dropout: float | int = 0.0

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        self.check_sizes("num_hidden_layers", "num_attention_heads")
        self.check_heads()
