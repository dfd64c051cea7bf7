"""BC-LSTM's configuration."""

from huggingface_hub.dataclasses import strict

from configuration.configuration_multimodal import MultimodalConfig


@strict
class BcLstmConfig(MultimodalConfig):
    r"""
    Configuration of [`BcLstmModel`]: "Context-Dependent Sentiment Analysis in User-Generated Videos" (Poria, Cambria,
    Hazarika, Majumder, Zadeh and Morency, ACL 2017).

    The defaults are those of its authors' code for CMU-MOSI, unless said otherwise. Its output is negative or positive
    (`target="sentiment2"`).

    Args:
        hidden_size (`int`, *optional*, defaults to 300):
            Width of each direction's LSTM, on both levels.
        unimodal_size (`int`, *optional*, defaults to 100):
            Width of what level 1 gives for each modality.
        fusion_size (`int`, *optional*, defaults to 500):
            Width of the layer before the output.
        bidirectional (`bool`, *optional*, defaults to `True`):
            False leaves the backward LSTMs out: the paper's sc-LSTM.
        unimodal_input_dropout (`float`, *optional*, defaults to 0.6):
            On the features. (The code drops the same features at all steps of a sequence; here each step has its own.)
        fusion_input_dropout (`float`, *optional*, defaults to 0.4):
            On what level 1 gives, before level 2; likewise.
        dropout (`float`, *optional*, defaults to 0.9):
            On the LSTMs' states and before the outputs.
        unimodal_weight (`float`, *optional*, defaults to 1.0):
            Of the modalities' own predictions in the loss (ours).
        fusion_weight (`float`, *optional*, defaults to 1.0):
            Of the fused prediction in the loss (ours). 1 and 0, then 0 and 1, are the paper's two levels.
    """

    model_type = "bc_lstm"
    display_name = "BC-LSTM"
    citation = (
        'Poria, Cambria, Hazarika, Majumder, Zadeh and Morency, "Context-Dependent Sentiment Analysis in '
        'User-Generated Videos", ACL 2017 ([P17-1081](https://aclanthology.org/P17-1081))'
    )

    hidden_size: int = 300
    unimodal_size: int = 100
    fusion_size: int = 500
    bidirectional: bool = True
    unimodal_input_dropout: float | int = 0.6
    fusion_input_dropout: float | int = 0.4
    dropout: float | int = 0.9
    unimodal_weight: float | int = 1.0
    fusion_weight: float | int = 1.0

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        self.check_sizes()
        if not self.unimodal_weight and not self.fusion_weight:
            raise ValueError("`unimodal_weight` and `fusion_weight` must not both be 0: nothing would be trained.")
