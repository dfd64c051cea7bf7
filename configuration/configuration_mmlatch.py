"""MMLatch's configuration."""

from typing import Literal

from huggingface_hub.dataclasses import strict

from configuration.configuration_multimodal import MultimodalConfig


@strict
class MMLatchConfig(MultimodalConfig):
    r"""
    Configuration of [`MMLatchModel`]: "MMLatch: Bottom-up Top-down Fusion for Multimodal Sentiment Analysis"
    (Paraskevopoulos, Georgiou and Potamianos, ICASSP 2022).

    The defaults are the paper's. What its authors' code does differently has a switch where it changes results; all of
    it together is `fusion_pooling="attention_sum"`, `avt_residual=False`, `stage1_gradient=True`.

    Args:
        encoder (`str`, *optional*, defaults to `"lstm"`):
            What the feedback is wrapped around (table 2): "lstm", bidirectional LSTMs with self-attention and the
            cross-modal attentions after them, or "mult", the multimodal transformer.
        feedback (`str`, *optional*, defaults to `"lstm"`):
            What makes the masks (table 2): "lstm", "linear" or "none", which is the paper's baseline.
        hidden_size (`int`, *optional*, defaults to 100):
            Width of the LSTMs and attentions; of "mult", 40 in its paper.
        dropout (`float`, *optional*, defaults to 0.2):
            On the encoders' states and the weights of their attention, as the paper has it.
        fusion_dropout (`float`, *optional*, defaults to 0.1):
            On the weights of the attentions after the encoders and on the fusion LSTM's states, and on the feedback
            LSTMs' states (authors' code; the paper has one dropout, 0.2).
        mask_dropout (`float`, *optional*, defaults to 0.2):
            On the masks, in training only (not in the paper). The authors' code leaves it on in evaluation, too, which
            makes their predictions random.
        stage1_gradient (`bool`, *optional*, defaults to `False`):
            Whether gradients flow through the encoders in the first stage; not so in the paper, but in its code.
        fusion_pooling (`str`, *optional*, defaults to `"last"`):
            What is predicted from: "last", the last states of the fusion LSTM's two directions, added (paper), or
            "attention_sum", the sum over time of a self-attention over both directions side by side (authors' code).
        avt_residual (`bool`, *optional*, defaults to `True`):
            Whether a_AVT has the residual of equation 1, which the authors' code leaves out.
        num_hidden_layers, num_attention_heads (`int`, *optional*, default to 4 and 10):
            Of "mult".
        attention_dropout, relu_dropout, residual_dropout, embedding_dropout, output_dropout (`float`, *optional*):
            Of "mult", by default 0.1, 0.1, 0.1, 0.25 and 0.0, those of MulT's authors.
    """

    model_type = "mmlatch"
    display_name = "MMLatch"
    citation = (
        'Paraskevopoulos, Georgiou and Potamianos, "MMLatch: Bottom-up Top-down Fusion for Multimodal Sentiment '
        'Analysis", ICASSP 2022 ([arXiv:2201.09828](https://arxiv.org/abs/2201.09828))'
    )

    encoder: Literal["lstm", "mult"] = "lstm"
    feedback: Literal["none", "linear", "lstm"] = "lstm"
    hidden_size: int = 100
    dropout: float | int = 0.2
    fusion_dropout: float | int = 0.1
    mask_dropout: float | int = 0.2
    stage1_gradient: bool = False
    fusion_pooling: Literal["last", "attention_sum"] = "last"
    avt_residual: bool = True
    num_hidden_layers: int = 4
    num_attention_heads: int = 10
    attention_dropout: float | int = 0.1
    relu_dropout: float | int = 0.1
    residual_dropout: float | int = 0.1
    embedding_dropout: float | int = 0.25
    output_dropout: float | int = 0.0

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        self.check_sizes("num_hidden_layers", "num_attention_heads")
        if self.encoder == "mult":
            self.check_heads()
