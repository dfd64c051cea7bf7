"""What the configurations of all architectures share: the inputs, the target and the text encoder."""

import dataclasses
import difflib
import math
from typing import Literal

from huggingface_hub.dataclasses import strict
from transformers import CONFIG_MAPPING, AutoConfig
from transformers.configuration_utils import PretrainedConfig

MODALITIES = ("text", "audio", "vision")

# Keys that `transformers` itself writes into a config.json or passes to a constructor, beside the declared fields.
_LIBRARY_KEYS = frozenset(
    {
        "attn_implementation",
        "auto_map",
        "experts_implementation",
        "model_type",
        "name_or_path",
        "num_labels",
        "output_attentions",
        "quantization_config",
        "tie_word_embeddings",
        "torch_dtype",
        "use_cache",
        "use_return_dict",
    }
)


@strict
class MultimodalConfig(PretrainedConfig):
    r"""
    Base of every architecture's configuration.

    Args:
        text_config (`dict` or `PretrainedConfig`, *optional*):
            Configuration of the text encoder, any model that `AutoModel` builds and that returns `last_hidden_state`;
            a dictionary names its `model_type` ("bert" where it does not). Text then comes as token ids (`input_ids`).
        text_feature_size (`int`, *optional*):
            Features per step of `text_values`, for text that was encoded beforehand (GloVe 300, BERT 768). Excludes
            `text_config`. With both unset the corpus has no text.
        audio_feature_size (`int`, *optional*):
            Features per step of `audio_values`; unset where the corpus has no audio.
        vision_feature_size (`int`, *optional*):
            Features per step of `vision_values`; unset where the corpus has no vision.
        label_range (`(float, float)`, *optional*, defaults to (-3.0, 3.0)):
            Lowest and highest label of the corpus: (-3, 3) for CMU-MOSI and CMU-MOSEI, (-1, 1) for CH-SIMS. Negative is
            below zero and positive above it, so zero lies strictly inside.
        problem_type (`str`, *optional*, defaults to `"regression"`):
            As in `transformers`: "regression", "single_label_classification" or "multi_label_classification".
        num_labels (`int`, *optional*, defaults to 1):
            Outputs of the prediction head.

    Raises:
        ValueError: for a value outside these rules, and for an unknown key, naming the nearest known one.
        StrictDataclassFieldValidationError: (of huggingface_hub) for a value of another type, or none of the choices.
    """

    model_type = "multimodal"
    sub_configs = {"text_config": AutoConfig}

    text_config: dict | PretrainedConfig | None = None
    text_feature_size: int | None = None
    audio_feature_size: int | None = None
    vision_feature_size: int | None = None
    label_range: list | tuple = (-3.0, 3.0)
    problem_type: Literal["regression", "single_label_classification", "multi_label_classification"] | None = (
        "regression"
    )

    def __post_init__(self, **kwargs):
        _refuse_unknown_keys(type(self).__name__, kwargs, set(self.field_names()) | _LIBRARY_KEYS)
        if isinstance(self.text_config, dict):
            text_config = dict(self.text_config)
            model_type = text_config.pop("model_type", "bert")
            if model_type not in CONFIG_MAPPING:
                raise ValueError(
                    f"`text_config.model_type` must be a model type that transformers knows; got {model_type!r}."
                )
            # Not checked for unknown keys: encoders on the Hub carry keys of their time.
            self.text_config = CONFIG_MAPPING[model_type](**text_config)
        if isinstance(self.text_config, PretrainedConfig):
            # A checkpoint is self-contained: it says what the encoder is, not where its first weights came from.
            self.text_config.name_or_path = ""
        if self.id2label is None and kwargs.get("num_labels") in (None, 1):
            self.id2label = {0: "sentiment"}
            self.label2id = {"sentiment": 0}
            kwargs.pop("num_labels", None)
        super().__post_init__(**kwargs)
        self._check_inputs()
        self._check_label_range()

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities that the model has inputs for, in the order text, audio, vision."""
        present = (
            self.text_config is not None or self.text_feature_size is not None,
            self.audio_feature_size is not None,
            self.vision_feature_size is not None,
        )
        return tuple(name for name, has in zip(MODALITIES, present, strict=True) if has)

    @classmethod
    def field_names(cls) -> tuple[str, ...]:
        """Names of the declared fields, which are the keys that a recipe's `model` section may set."""
        return tuple(field.name for field in dataclasses.fields(cls))

    def check_sizes(self, *also: str) -> None:
        """
        Raises:
            ValueError: for a field `*dropout` outside of [0, 1), and for one `*_size`, or one of `also`, below 1.
        """
        for name in self.field_names():
            value = getattr(self, name)
            if name.endswith("dropout") and not 0 <= value < 1:
                raise ValueError(f"`{name}` must be at least 0 and below 1; got {value!r}.")
            if (name.endswith("_size") or name in also) and value is not None and value < 1:
                raise ValueError(f"`{name}` must be at least 1; got {value!r}.")

    def _check_inputs(self) -> None:
        if self.text_config is not None and self.text_feature_size is not None:
            raise ValueError(
                "`text_config` (token ids) and `text_feature_size` (`text_values`) exclude each other; got both. Unset "
                "the one that the data does not have."
            )
        for modality in MODALITIES:
            name = f"{modality}_feature_size"
            size = getattr(self, name)
            if size is not None and size < 1:
                raise ValueError(f"`{name}` must be at least 1, or None for no {modality}; got {size}.")

    def _check_label_range(self) -> None:
        bounds = tuple(self.label_range)
        numbers = all(isinstance(bound, (int, float)) and math.isfinite(bound) for bound in bounds)
        if len(bounds) != 2 or not numbers or not bounds[0] < 0 < bounds[1]:
            raise ValueError(
                f"`label_range` must be two finite numbers (low, high) with low < 0 < high; got {self.label_range!r}. "
                "Shift the labels so that zero is neutral."
            )
        self.label_range = [float(bound) for bound in bounds]


def _refuse_unknown_keys(owner: str, given: dict, known: set[str]) -> None:
    for key in given:
        if key not in known and not key.startswith("_"):
            nearest = difflib.get_close_matches(key, sorted(known), n=1, cutoff=0.0)[0]
            raise ValueError(f"`{key}` is not a field of {owner}; the nearest known key is `{nearest}`.")
