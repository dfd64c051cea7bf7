"""MAG-BERT's configuration."""

from huggingface_hub.dataclasses import strict

from configuration.configuration_multimodal import MultimodalConfig


@strict
class MagBertConfig(MultimodalConfig):
    r"""
    Configuration of [`MagBertModel`]: "Integrating Multimodal Information in Large Pretrained Transformers" (Rahman et
    al., ACL 2020).

    The defaults of the gate and the head are those of the authors' code for CMU-MOSI. The fields of the transformer
    that stands in for a text encoder have no published values; the defaults are this project's.

    Args:
        beta (`float`, *optional*, defaults to 1.0):
            By how many times its length audio and vision move a word at most.
        dropout (`float`, *optional*, defaults to 0.5):
            After the gate.
        output_dropout (`float`, *optional*, defaults to 0.1):
            Before the last layer; BERT's own in the authors' code.
        hidden_size, num_hidden_layers, num_attention_heads (`int`, *optional*, default to 128, 2 and 4):
            Of the transformer that reads features, where the configuration has no text encoder.
        transformer_dropout (`float`, *optional*, defaults to 0.1):
            On its attention weights, inside its feed-forward layers and on what its layers add.

    Raises:
        ValueError: unless `beta` is above 0.
    """

    model_type = "mag_bert"
    display_name = "MAG-BERT"
    citation = (
        'Rahman et al., "Integrating Multimodal Information in Large Pretrained Transformers", ACL 2020 '
        "([arXiv:1908.05787](https://arxiv.org/abs/1908.05787))"
    )

    beta: float | int = 1.0
    dropout: float | int = 0.5
    output_dropout: float | int = 0.1
    hidden_size: int = 128
    num_hidden_layers: int = 2
    num_attention_heads: int = 4
    transformer_dropout: float | int = 0.1

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        self.check_sizes("num_hidden_layers", "num_attention_heads")
        self.check_heads()
        if self.beta <= 0:
            raise ValueError(
                f"`beta` must be above 0, or audio and vision could move nothing; got {self.beta!r}. For a model of "
                "text alone unset `audio_feature_size` and `vision_feature_size`."
            )
