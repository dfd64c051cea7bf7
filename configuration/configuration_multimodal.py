"""What the configurations of all architectures share: the inputs, the target and the text encoder."""

import dataclasses
import difflib
import math
from typing import Literal

from huggingface_hub.dataclasses import strict
from transformers import CONFIG_MAPPING, AutoConfig
from transformers.configuration_utils import PretrainedConfig

MODALITIES = ("text", "audio", "vision")
EMOTIONS = ("happy", "sad", "anger", "surprise", "disgust", "fear")
_ProblemType = Literal["regression", "single_label_classification", "multi_label_classification"]
# By target: how transformers calls such a problem, and the names of the outputs.
TARGETS: dict[str, tuple[_ProblemType, tuple[str, ...]]] = {
    "sentiment": ("regression", ("sentiment",)),
    "sentiment2": ("single_label_classification", ("negative", "positive")),
    "sentiment7": (
        "single_label_classification",
        (
            "highly negative",
            "negative",
            "weakly negative",
            "neutral",
            "weakly positive",
            "positive",
            "highly positive",
        ),
    ),
    "emotions": ("multi_label_classification", EMOTIONS),
    "emotion": ("single_label_classification", EMOTIONS),
}

# Keys that `transformers` itself writes into a config.json or passes to a constructor, beside the declared fields.
_LIBRARY_KEYS = frozenset(
    {
        "attn_implementation",
        "auto_map",
        "custom_pipelines",
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
        target (`str`, *optional*, defaults to `"sentiment"`):
            What is predicted: "sentiment", one number; "sentiment2", negative or positive; "sentiment7", the classes
            -3 to 3; "emotions", which of the six are present; "emotion", which of the six is the strongest. None is
            for labels of one's own: `problem_type` and, unless there are two, `num_labels` (or `id2label`) say which.
        problem_type (`str`, *optional*):
            As in `transformers`: "regression", "single_label_classification" or "multi_label_classification". It
            follows from `target`, as do `num_labels` and, unless they are given, the names in `id2label`.
        num_labels (`int`, *optional*):
            Outputs of the prediction head.

    Raises:
        ValueError: for a value outside these rules, and for an unknown key, naming the nearest known one.
        StrictDataclassFieldValidationError: (of huggingface_hub) for a value of another type, or none of the choices.
    """

    model_type = "multimodal"
    # Of an architecture: what tables and cards call it, and where it was published, in Markdown.
    display_name = ""
    citation = ""
    sub_configs = {"text_config": AutoConfig}

    text_config: dict | PretrainedConfig | None = None
    text_feature_size: int | None = None
    audio_feature_size: int | None = None
    vision_feature_size: int | None = None
    label_range: list | tuple = (-3.0, 3.0)
    target: Literal["sentiment", "sentiment2", "sentiment7", "emotions", "emotion"] | None = "sentiment"
    problem_type: _ProblemType | None = None

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
        if self.target is not None:
            problem_type, names = TARGETS[self.target]
            labels = len(names) if self.id2label is None else len(self.id2label)
            given = (self.problem_type or problem_type, kwargs.get("num_labels") or labels, labels)
            if given != (problem_type, len(names), len(names)):
                raise ValueError(
                    f"`target` {self.target!r} has `problem_type` {problem_type!r} and `num_labels` {len(names)}; got "
                    f"{given[0]!r} and {given[1]}, with {labels} names in `id2label`. Choose the `target` that is "
                    "meant, or None for labels of your own."
                )
            self.problem_type = problem_type
            if self.id2label is None:
                kwargs.pop("num_labels", None)
                self.id2label = dict(enumerate(names))
                self.label2id = {name: index for index, name in enumerate(names)}
        elif self.problem_type is None:
            raise ValueError(
                "`target` None is for labels of your own; set `problem_type`, and `num_labels` unless there are two."
            )
        super().__post_init__(**kwargs)
        self._check_inputs()
        self._check_label_range()

    @classmethod
    def from_dict(cls, config_dict, **kwargs):
        # What is given beside a checkpoint's own fields is set afterwards by the library; what follows from another
        # target would stay as it was.
        if kwargs.get("target") not in (None, config_dict.get("target")):
            follows = ("problem_type", "id2label", "label2id", "num_labels")
            config_dict = {key: value for key, value in config_dict.items() if key not in follows}
            config_dict["target"] = kwargs.pop("target")
        return super().from_dict(config_dict, **kwargs)

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
            ValueError: for a field `*dropout` outside of [0, 1), one `*_weight` below 0, one `*_size`, or one of
                `also`, below 1, and a number that is not finite.
        """
        for name in self.field_names():
            value = getattr(self, name)
            if name.endswith("dropout") and not 0 <= value < 1:
                raise ValueError(f"`{name}` must be at least 0 and below 1; got {value!r}.")
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"`{name}` must be finite; got {value!r}.")
            if name.endswith("_weight") and value < 0:
                raise ValueError(f"`{name}` must be at least 0; got {value!r}.")
            if (name.endswith("_size") or name in also) and value is not None and value < 1:
                raise ValueError(f"`{name}` must be at least 1; got {value!r}.")

    @property
    def output_names(self) -> tuple[str, ...]:
        """What the outputs of the prediction head stand for, in their order."""
        return tuple((self.id2label or {}).values())

    @property
    def one_number(self) -> bool:
        """Whether the model predicts one number per sample, which alone has unimodal tasks beside it."""
        return self.problem_type == "regression" and self.num_labels == 1

    def check_heads(self, heads: str = "num_attention_heads", size: str = "hidden_size") -> None:
        """
        Raises:
            ValueError: where one field, the heads of an attention, does not divide another, its width.
        """
        if getattr(self, size) % getattr(self, heads):
            raise ValueError(f"`{heads}` must divide `{size}`; got {getattr(self, heads)} and {getattr(self, size)}.")

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
        if self.target == "sentiment7" and self.label_range != [-3.0, 3.0]:
            raise ValueError(
                f"`target` 'sentiment7' has the classes -3 to 3, so `label_range` must be (-3, 3); got "
                f"{self.label_range}. Choose 'sentiment' or 'sentiment2' for this corpus."
            )


def _refuse_unknown_keys(owner: str, given: dict, known: set[str]) -> None:
    for key in given:
        if key not in known and not key.startswith("_"):
            nearest = difflib.get_close_matches(key, sorted(known), n=1, cutoff=0.0)[0]
            raise ValueError(f"`{key}` is not a field of {owner}; the nearest known key is `{nearest}`.")
