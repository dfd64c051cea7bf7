"""UCRN's configuration."""

from typing import Literal

from huggingface_hub.dataclasses import strict

from configuration.configuration_multimodal import MultimodalConfig


@strict
class UcrnConfig(MultimodalConfig):
    r"""
    Configuration of [`UcrnModel`]: "Unimodal and Crossmodal Refinement Network for Multimodal Sequence Fusion" (Guo,
    Kong, Zhou, Wang and Wang, EMNLP 2021).

    The defaults are the paper's where it says something; the rest is from its first author's later code, or ours, as
    said at each field. What the paper states of its layers and of its parameters do not go together (table 7): 422,401
    of them, for features 300, 5 and 20 wide, has the network with `refinement_layer="mult"`, `num_hidden_layers=3`,
    `self_quality="none"` and `crossmodal_axis="features"`. Leaving parts out, as table 6 does, is `crossmodal=False`,
    `self_quality="none"`, `divergence_weight=0` and `refinement=False`.

    Args:
        hidden_size (`int`, *optional*, defaults to 30):
            Width to which each modality is projected (code; the paper does not say).
        num_hidden_layers (`int`, *optional*, defaults to 5):
            Of each unimodal refinement and of the crossmodal one (section 3.2; table 7 fits three).
        num_attention_heads (`int`, *optional*, defaults to 3):
            Must divide `hidden_size`.
        refinement (`bool`, *optional*, defaults to `True`):
            Whether there is a unimodal refinement; without it the projected features go on.
        refinement_layer (`str`, *optional*, defaults to `"paper"`):
            "paper", equations 3 to 5: the width is split among the heads before their projections, and each head's
            input is added to what it returns; or "mult", MulT's layers, as in the code. Of the crossmodal one, too.
        positions (`bool`, *optional*, defaults to `False`):
            Whether sinusoidal positions are added before refinement. The paper names none, the code switches them off.
        pooling (`str`, *optional*, defaults to `"last"`):
            What of a refined sequence represents its modality: its "last" valid step (equation 6) or the "mean" of
            them. The code has learned weights per step, which fix the number of steps; that is not offered.
        divergence_weight (`float`, *optional*, defaults to 1.0):
            Lambda_m of equation 13; 0 leaves the regulariser out.
        divergence_map (`str`, *optional*, defaults to `"softmax"`):
            How features become the "probability distributions of the learned features for n classes" of equation 7:
            "softmax" over the features themselves, or "classes", a softmax over what a linear layer that the modalities
            share makes of them. The paper does not say; the code compares features without normalising them, which is
            no divergence.
        divergence_classes (`int`, *optional*, defaults to 7):
            n of "classes".
        prediction_weight (`float`, *optional*, defaults to 1.0):
            Lambda_c of equation 13.
        self_quality (`str`, *optional*, defaults to `"features"`):
            What the self-quality improvement layers weight a representation by. "features": its features are averaged
            and a linear layer with a ReLU makes the weights (section 4.2). "vector": the layer reads the
            representation itself (equation 9 as written). "steps": the refined sequence is averaged over its steps, and
            two linear layers, the first of which is `hidden_size` / 16 wide, with a sigmoid make the weights (the code,
            where one step is left to be averaged). "none": nothing is weighted.
        crossmodal (`bool`, *optional*, defaults to `True`):
            Whether there is a crossmodal refinement; without it the representations go to the prediction side by side.
        crossmodal_axis (`str`, *optional*, defaults to `"modalities"`):
            How representations are concatenated for it: as a sequence of "modalities" that attend to each other; or
            along the "features", as in the code: a sequence of one step, which can attend to nothing but itself, so
            that its query and key projections never learn.
        attention_dropout, relu_dropout, residual_dropout (`float`, *optional*, default to 0.1):
            In all layers (code).
        embedding_dropout (`float`, *optional*, defaults to 0.25):
            On what the layers start from (code).
        output_dropout (`float`, *optional*, defaults to 0.5):
            Between the two fully connected layers of the prediction (code).
    """

    model_type = "ucrn"
    display_name = "UCRN"
    citation = (
        'Guo, Kong, Zhou, Wang and Wang, "Unimodal and Crossmodal Refinement Network for Multimodal Sequence Fusion", '
        "EMNLP 2021"
    )

    hidden_size: int = 30
    num_hidden_layers: int = 5
    num_attention_heads: int = 3
    refinement: bool = True
    refinement_layer: Literal["paper", "mult"] = "paper"
    positions: bool = False
    pooling: Literal["last", "mean"] = "last"
    divergence_weight: float | int = 1.0
    divergence_map: Literal["softmax", "classes"] = "softmax"
    divergence_classes: int = 7
    prediction_weight: float | int = 1.0
    self_quality: Literal["features", "vector", "steps", "none"] = "features"
    crossmodal: bool = True
    crossmodal_axis: Literal["modalities", "features"] = "modalities"
    attention_dropout: float | int = 0.1
    relu_dropout: float | int = 0.1
    residual_dropout: float | int = 0.1
    embedding_dropout: float | int = 0.25
    output_dropout: float | int = 0.5

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        self.check_sizes("num_hidden_layers", "num_attention_heads")
        self.check_heads()
        if self.divergence_classes < 2:
            raise ValueError(f"`divergence_classes` must be at least 2; got {self.divergence_classes!r}.")
