"""Hierarchical Delta-Attention's configuration."""

from typing import Literal

from huggingface_hub.dataclasses import strict

from configuration.configuration_multimodal import MODALITIES, MultimodalConfig


@strict
class DeltaAttentionConfig(MultimodalConfig):
    r"""
    Configuration of [`DeltaAttentionModel`]: "Hierachical Delta-Attention Method for Multimodal Fusion" (Panchal,
    2020).

    The paper gives no sizes, and its authors have published no code: the sizes here are ours. So is every reading of
    what the paper leaves open, said at its field.

    Args:
        target (`str`, *optional*, defaults to `"emotion"`):
            See [`MultimodalConfig`]; the paper's is one of six emotions.
        objective (`str`, *optional*, defaults to `"all"`):
            What is trained, and which prediction `logits` are. "text", "audio" or "vision": that modality's own
            prediction from its delta-attention; "correlation": the correlation of the modalities' encodings; "fusion":
            the prediction from all. These are the paper's stages, one after the other (table 1). "all" is their sum,
            for training end to end.
        hidden_size (`int`, *optional*, defaults to 40):
            d_ch and d_o: channels of the convolution and width of the delta-attention.
        kernel_size (`int`, *optional*, defaults to 3):
            Of all convolutions; odd.
        num_hidden_layers (`int`, *optional*, defaults to 1):
            Delta-attentions per modality, one after the other.
        num_attention_heads (`int`, *optional*, defaults to 5):
            Of the delta-attention; must divide `hidden_size`.
        relative_index (`str`, *optional*, defaults to `"key"`):
            Which column of W_RelPos scores the change from step i to step j. The paper multiplies by all of its T
            columns, which gives T scores where one is needed. "key" takes column j, for which W_RelPos has the paper's
            size; "offset" takes that of j - i, which makes the same change count the same wherever it happens. A single
            column would cancel: its share of step i is the same for all j.
        max_steps (`int`, *optional*, defaults to 512):
            Columns of W_RelPos, T in the paper. Later steps share the last one; with "offset", so do those that are
            more than half of it away.
        window (`int`, *optional*):
            How many steps away a step attends to at most; None for all. The paper speaks of a sliding window, and names
            no width.
        direction (`str`, *optional*, defaults to `"both"`):
            Which steps it attends to, beside itself: "both" sides; "future", as "attend to t_j where i <= j" says
            (section 4.1); "past", as the argument against looking into the future says (section 1).
        correlation_size (`int`, *optional*, defaults to 16):
            d_r: width of the encodings that are correlated.
        correlation_regularization (`float`, *optional*, defaults to 1e-3):
            Added to the diagonal of the covariances.
        correlation_weight (`float`, *optional*, defaults to 0.02):
            Of the correlation, which goes up to `correlation_size` for each of three pairs, in the objective "all".
        unimodal_weight (`float`, *optional*, defaults to 1.0):
            Of each modality's own prediction in it.
        cross_attention (`bool`, *optional*, defaults to `True`):
            Whether attention reads the fused sequence; without it, it is predicted from as it is (table 2,
            "Self-Attended and Canonically Correlated Representation").
        skip_connections (`bool`, *optional*, defaults to `True`):
            Whether each modality's own representation is added to its encoding in the fused sequence (section 4; its
            equations have none). Projected to `correlation_size`.
        fusion_size (`int`, *optional*, defaults to 40):
            d_t: width of the attention over the fused sequence.
        fusion_heads (`int`, *optional*, defaults to 2):
            Its heads ("would not require us to stack big number of attention heads"); must divide `fusion_size`.
        pooling (`str`, *optional*, defaults to `"mean"`):
            How steps become a prediction: the "mean" over them, or the state at the "last" one (over the fused
            sequence, the mean of those of its modalities). The paper does not say.
        attention_dropout, output_dropout (`float`, *optional*, default to 0.1):
            On the weights of all attentions, and before every prediction. The paper names none.
    """

    model_type = "delta_attention"
    display_name = "Hierarchical Delta-Attention"
    citation = (
        'Panchal, "Hierachical Delta-Attention Method for Multimodal Fusion", 2020 '
        "([arXiv:2011.10916](https://arxiv.org/abs/2011.10916))"
    )

    target: Literal["sentiment", "sentiment2", "sentiment7", "emotions", "emotion"] | None = "emotion"
    objective: Literal["all", "text", "audio", "vision", "correlation", "fusion"] = "all"
    hidden_size: int = 40
    kernel_size: int = 3
    num_hidden_layers: int = 1
    num_attention_heads: int = 5
    relative_index: Literal["key", "offset"] = "key"
    max_steps: int = 512
    window: int | None = None
    direction: Literal["both", "past", "future"] = "both"
    correlation_size: int = 16
    correlation_regularization: float | int = 1e-3
    correlation_weight: float | int = 0.02
    unimodal_weight: float | int = 1.0
    cross_attention: bool = True
    skip_connections: bool = True
    fusion_size: int = 40
    fusion_heads: int = 2
    pooling: Literal["mean", "last"] = "mean"
    attention_dropout: float | int = 0.1
    output_dropout: float | int = 0.1

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        self.check_sizes("num_hidden_layers", "num_attention_heads", "fusion_heads")
        if self.max_steps < 2:
            raise ValueError(f"`max_steps` must be at least 2, as one column cancels; got {self.max_steps}.")
        self.check_heads()
        self.check_heads("fusion_heads", "fusion_size")
        if self.kernel_size % 2 == 0:
            raise ValueError(f"`kernel_size` must be odd, so that a step stays where it is; got {self.kernel_size}.")
        if self.window is not None and self.window < 0:
            raise ValueError(f"`window` must be at least 0, or None for all steps; got {self.window}.")
        if self.correlation_regularization <= 0:
            raise ValueError(
                "`correlation_regularization` must be above 0, or covariances of few samples have no inverse; got "
                f"{self.correlation_regularization!r}."
            )
        if self.modalities and self.objective in MODALITIES and self.objective not in self.modalities:
            raise ValueError(
                f"`objective` is {self.objective!r}, but the corpus has no {self.objective}; it has "
                f"{', '.join(self.modalities)}."
            )
