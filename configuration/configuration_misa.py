"""MISA's configuration."""

from typing import Literal

from huggingface_hub.dataclasses import strict

from configuration.configuration_multimodal import MultimodalConfig


@strict
class MisaConfig(MultimodalConfig):
    r"""
    Configuration of [`MisaModel`]: "MISA: Modality-Invariant and -Specific Representations for Multimodal Sentiment
    Analysis" (Hazarika, Zimmermann and Poria, ACM Multimedia 2020).

    The defaults are those of MMSA for CMU-MOSI. As in all architectures here, a sentiment is trained with the mean
    absolute error; the paper takes the mean squared one.

    Args:
        hidden_size (`int`, *optional*, defaults to 128):
            Width to which each modality is projected, and of its codes.
        text_hidden_size, audio_hidden_size, vision_hidden_size (`int`, *optional*):
            Width of one direction of a modality's LSTMs; as many as it has features per step where unset, as published.
            Text has LSTMs where it comes as `text_values`.
        num_attention_heads (`int`, *optional*, defaults to 2):
            Of the layer that fuses the codes; must divide `hidden_size`.
        intermediate_size (`int`, *optional*, defaults to 2048):
            Width inside that layer's feed-forward part.
        transformer_dropout (`float`, *optional*, defaults to 0.1):
            Of that layer: on attention weights, inside the feed-forward part, and on what both parts add (code).
        dropout (`float`, *optional*, defaults to 0.2):
            Between the two layers of the prediction.
        similarity_weight (`float`, *optional*, defaults to 0.3):
            Alpha of the loss, for the central moment discrepancy of the shared codes.
        difference_weight (`float`, *optional*, defaults to 0.1):
            Beta of the loss, for the cross-correlation of private codes with shared ones and with each other.
        reconstruction_weight (`float`, *optional*, defaults to 1.0):
            Gamma of the loss, for the error of the reconstructed modalities.
        moments (`int`, *optional*, defaults to 5):
            K, the moments that the discrepancy compares.
        difference_reduction (`str`, *optional*, defaults to `"mean"`):
            Whether a cross-correlation's squares are summed over its entries, "sum", which is the squared Frobenius
            norm that the paper writes, or averaged, "mean", as in the code, which the published weights go with: with
            codes 128 wide, the sum is 16,384 times as much.
    """

    model_type = "misa"
    display_name = "MISA"
    citation = (
        'Hazarika, Zimmermann and Poria, "MISA: Modality-Invariant and -Specific Representations for Multimodal '
        'Sentiment Analysis", ACM Multimedia 2020 ([arXiv:2005.03545](https://arxiv.org/abs/2005.03545))'
    )

    hidden_size: int = 128
    text_hidden_size: int | None = None
    audio_hidden_size: int | None = None
    vision_hidden_size: int | None = None
    num_attention_heads: int = 2
    intermediate_size: int = 2048
    transformer_dropout: float | int = 0.1
    dropout: float | int = 0.2
    similarity_weight: float | int = 0.3
    difference_weight: float | int = 0.1
    reconstruction_weight: float | int = 1.0
    moments: int = 5
    difference_reduction: Literal["mean", "sum"] = "mean"

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        self.check_sizes("num_attention_heads", "moments")
        self.check_heads()
