"""EF-LSTM's configuration."""

from huggingface_hub.dataclasses import strict

from configuration.configuration_multimodal import MultimodalConfig


@strict
class EfLstmConfig(MultimodalConfig):
    r"""
    Configuration of [`EfLstmModel`], the early-fusion baseline of the papers: one LSTM over the concatenated features.

    The defaults are those of MMSA for CMU-MOSI. Its normalisation over the steps, whose weights are one per step and
    fix the number of steps, is not offered.

    Args:
        hidden_size (`int`, *optional*, defaults to 128):
            Width of the LSTM's state and of the layer after it.
        num_hidden_layers (`int`, *optional*, defaults to 4):
            LSTMs, one on top of the other.
        dropout (`float`, *optional*, defaults to 0.5):
            Between the LSTMs, and before and after the layer after them.
    """

    model_type = "ef_lstm"
    display_name = "EF-LSTM"
    citation = (
        'the early-fusion LSTM that Zadeh et al., "Memory Fusion Network for Multi-view Sequential Learning", AAAI '
        "2018 ([arXiv:1802.00927](https://arxiv.org/abs/1802.00927)), compare with"
    )

    hidden_size: int = 128
    num_hidden_layers: int = 4
    dropout: float | int = 0.5

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        self.check_sizes("num_hidden_layers")
