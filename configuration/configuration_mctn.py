"""MCTN's configuration."""

from huggingface_hub.dataclasses import strict

from configuration.configuration_multimodal import MODALITIES, MultimodalConfig


@strict
class MctnConfig(MultimodalConfig):
    r"""
    Configuration of [`MctnModel`]: "Found in Translation: Learning Robust Joint Representations by Cyclic Translations
    Between Modalities" (Pham, Liang, Manzini, Morency and Poczos, AAAI 2019).

    The defaults are those of its authors' code for CMU-MOSI, unless said otherwise.

    Args:
        hidden_size (`int`, *optional*, defaults to 32):
            Width of every LSTM's state.
        projection_size (`int`, *optional*, defaults to 32):
            Width to which each modality's features are projected, so that one encoder and one decoder serve both ways
            (ours; the code pads features with zeros instead).
        translation_order (`list` of `str`, *optional*, defaults to `["text", "audio", "vision"]`):
            The source, its first target, its second target. Modalities that the configuration does not have are passed
            over. The prediction is made from the source alone.
        max_target_steps (`int`, *optional*, defaults to 20):
            A target of more steps is brought to this number by means. The code reads the first 20 words of every
            modality, the source too; here the source is read to its end.
        dropout (`float`, *optional*, defaults to 0.0):
            On the encoders' states and before the output.
        translation_weight, cycle_weight, second_translation_weight (`float`, *optional*, default to 0.1):
            Of the mean squared errors of the translation to the first target, of its translation back, and of the
            translation to the second target, beside a prediction loss with a weight of 1.
        output_l2_weight (`float`, *optional*, defaults to 0.01):
            Of the sum of the output layer's squared weights in the loss.
    """

    model_type = "mctn"
    display_name = "MCTN"
    citation = (
        'Pham, Liang, Manzini, Morency and Poczos, "Found in Translation: Learning Robust Joint Representations by '
        'Cyclic Translations Between Modalities", AAAI 2019 ([arXiv:1812.07809](https://arxiv.org/abs/1812.07809))'
    )

    hidden_size: int = 32
    projection_size: int = 32
    translation_order: list | tuple = MODALITIES
    max_target_steps: int = 20
    dropout: float | int = 0.0
    translation_weight: float | int = 0.1
    cycle_weight: float | int = 0.1
    second_translation_weight: float | int = 0.1
    output_l2_weight: float | int = 0.01

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        self.check_sizes("max_target_steps")
        order = list(self.translation_order)
        known = all(name in MODALITIES for name in order)
        if not known or len(set(order)) < len(order) or not set(self.modalities) <= set(order):
            raise ValueError(
                "`translation_order` must name each modality of the configuration once, out of "
                f"{', '.join(MODALITIES)}; got {self.translation_order!r} for {', '.join(self.modalities)}."
            )
        self.translation_order = order

    @property
    def modality_order(self) -> list[str]:
        """The configuration's modalities: the source, then its targets."""
        return [modality for modality in self.translation_order if modality in self.modalities]
