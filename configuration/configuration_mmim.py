"""MMIM's configuration."""

from huggingface_hub.dataclasses import strict

from configuration.configuration_multimodal import MultimodalConfig


@strict
class MmimConfig(MultimodalConfig):
    r"""
    Configuration of [`MmimModel`], MultiModal InfoMax: "Improving Multimodal Fusion with Hierarchical Mutual
    Information Maximization for Multimodal Sentiment Analysis" (Han, Chen and Poria, EMNLP 2021).

    The defaults are those of MMSA, the same for its three corpora, and of the authors' code.

    Args:
        text_hidden_size (`int`, *optional*, defaults to 64):
            Width of one direction of the LSTM that reads `text_values` (ours; the published system has a text encoder).
        audio_hidden_size, vision_hidden_size (`int`, *optional*, default to 16):
            Width of one direction of a modality's LSTM.
        audio_projection_size, vision_projection_size (`int`, *optional*, default to 16):
            Width of the linear layer after it.
        bidirectional (`bool`, *optional*, defaults to `True`):
            Whether LSTMs read in both directions.
        sequence_dropout (`float`, *optional*, defaults to 0.0):
            On an LSTM's end state. The code's 0.1 applies to stacked LSTMs alone, and the published ones are single.
        fusion_size (`int`, *optional*, defaults to 128):
            Width of the layers that fuse the modalities.
        dropout (`float`, *optional*, defaults to 0.1):
            On what they read.
        contrastive_weight (`float`, *optional*, defaults to 0.1):
            Alpha of the loss, for contrastive predictive coding.
        information_weight (`float`, *optional*, defaults to 0.1):
            Beta of the loss, for the lower bound of the mutual information between modalities.
        audio_vision_information (`bool`, *optional*, defaults to `False`):
            Whether the bound is maximised for the pair of vision and audio, too; otherwise for those with text alone.
        entropy_size (`int`, *optional*, defaults to 4):
            Width of the projection whose entropy is estimated (code).
        entropy_shrinkage (`float`, *optional*, defaults to 0.01):
            Between 0 and 1: s of the covariance (1 - s) S + s I that the entropy is estimated from (ours).
    """

    model_type = "mmim"
    display_name = "MMIM"
    citation = (
        'Han, Chen and Poria, "Improving Multimodal Fusion with Hierarchical Mutual Information Maximization for '
        'Multimodal Sentiment Analysis", EMNLP 2021 ([arXiv:2109.00412](https://arxiv.org/abs/2109.00412))'
    )

    text_hidden_size: int = 64
    audio_hidden_size: int = 16
    vision_hidden_size: int = 16
    audio_projection_size: int = 16
    vision_projection_size: int = 16
    bidirectional: bool = True
    sequence_dropout: float | int = 0.0
    fusion_size: int = 128
    dropout: float | int = 0.1
    contrastive_weight: float | int = 0.1
    information_weight: float | int = 0.1
    audio_vision_information: bool = False
    entropy_size: int = 4
    entropy_shrinkage: float = 0.01

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        self.check_sizes()
        if not 0 < self.entropy_shrinkage < 1:
            raise ValueError(
                f"`entropy_shrinkage` must be above 0, so that the covariance of few samples has a determinant, and "
                f"below 1; got {self.entropy_shrinkage!r}."
            )
