"""RAVEN's configuration."""

from huggingface_hub.dataclasses import strict

from configuration.configuration_multimodal import MultimodalConfig


@strict
class RavenConfig(MultimodalConfig):
    r"""
    Configuration of [`RavenModel`]: "Words Can Shift: Dynamically Adjusting Word Representations Using Nonverbal
    Behaviors" (Wang et al., AAAI 2019).

    The defaults are those of the authors' code for CMU-MOSI.

    Args:
        frame_hidden_size (`int`, *optional*, defaults to 150):
            Width of the state in which an LSTM sums up a word's frames of one modality.
        max_frames_per_word (`int`, *optional*, defaults to 20):
            Frames of a modality that are read per word (one second, at the rate of the authors' code). Of more, as many
            at even distances; the authors' code reads the first ones.
        beta (`float`, *optional*, defaults to 0.2):
            By how many times its length audio and vision move a word at most. The paper chooses it on the validation
            split; 0.2 is the bound of the authors' code, which shortens every displacement h by it, to
            0.2 |e| h / max(|h|, 1).
        hidden_size (`int`, *optional*, defaults to 300):
            Width of the LSTM that reads the words.
        dropout (`float`, *optional*, defaults to 0.2):
            On the frames and on the shifted words.

    Raises:
        ValueError: unless `beta` is above 0.
    """

    model_type = "raven"
    display_name = "RAVEN"
    citation = (
        'Wang et al., "Words Can Shift: Dynamically Adjusting Word Representations Using Nonverbal Behaviors", AAAI '
        "2019 ([arXiv:1811.09362](https://arxiv.org/abs/1811.09362))"
    )

    frame_hidden_size: int = 150
    max_frames_per_word: int = 20
    beta: float | int = 0.2
    hidden_size: int = 300
    dropout: float | int = 0.2

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        self.check_sizes("max_frames_per_word")
        if self.beta <= 0:
            raise ValueError(
                f"`beta` must be above 0, or audio and vision could move nothing; got {self.beta!r}. For a model of "
                "text alone unset `audio_feature_size` and `vision_feature_size`."
            )
