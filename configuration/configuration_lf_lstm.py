"""LF-LSTM's configuration."""

from huggingface_hub.dataclasses import strict

from configuration.configuration_multimodal import MultimodalConfig


@strict
class LfLstmConfig(MultimodalConfig):
    r"""
    Configuration of [`LfLstmModel`], the late-fusion baseline that MulT is compared with: one LSTM per modality, their
    last states concatenated.

    Neither code nor sizes of it were published; the defaults are ours.

    Args:
        hidden_size (`int`, *optional*, defaults to 128):
            Width of each modality's LSTM; that of EF-LSTM.
        dropout (`float`, *optional*, defaults to 0.3):
            On the LSTMs' states.
        output_dropout (`float`, *optional*, defaults to 0.3):
            Between the two layers of the residual layer, where MulT has it.
    """

    model_type = "lf_lstm"
    display_name = "LF-LSTM"
    citation = (
        'the late-fusion LSTM that Tsai et al., "Multimodal Transformer for Unaligned Multimodal Language Sequences", '
        "ACL 2019 ([arXiv:1906.00295](https://arxiv.org/abs/1906.00295)), compare with"
    )

    hidden_size: int = 128
    dropout: float | int = 0.3
    output_dropout: float | int = 0.3

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        self.check_sizes()
