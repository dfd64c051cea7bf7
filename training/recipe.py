"""A recipe: one YAML file that says everything about a run, and the command line that changes it."""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml
from transformers import CONFIG_MAPPING, HfArgumentParser, TrainingArguments

from configuration import CONFIG_CLASSES
from datasets_scripts import MODALITIES, SyntheticCorpus
from spaces.multimodal_sentiment.multimodal_sentiment import REGRESSION_CONVENTIONS, greater_is_better
from training.encoded_text import PRECISIONS
from training.label_generation import LABEL_GENERATORS
from training.optimizer import PARAMETER_GROUPS
from training.presets import PRESET_KEYS, with_preset
from training.targets import Target

# What a training section says unless a recipe says otherwise: the published systems train with a constant rate, without
# clipping, for as long as validation improves.
TRAINING_DEFAULTS: dict[str, Any] = {
    "eval_strategy": "epoch",
    "save_strategy": "epoch",
    "logging_strategy": "epoch",
    "load_best_model_at_end": True,
    "save_total_limit": 2,
    "lr_scheduler_type": "constant",
    "max_grad_norm": 0.0,
    "train_sampling_strategy": "group_by_length",
    "report_to": "none",
    "disable_tqdm": True,
}
ARCHITECTURES = {config_class.model_type: config_class for config_class in CONFIG_CLASSES}
# Belong to one execution, not to the recipe: not written into the resolved recipe.
PER_RUN_FIELDS = ("output_dir", "resume_from_checkpoint", "logging_dir", "disable_tqdm")

# Settings of the library's trainer that this project's would not heed, and why.
UNUSABLE = {
    "label_smoothing_factor": "models compute their loss themselves",
    "auto_find_batch_size": "the samples of a step would be other ones; lower per_device_train_batch_size, and raise "
    "gradient_accumulation_steps as much",
    "prediction_loss_only": "the best epoch is found by metrics, which need predictions",
    "batch_eval_metrics": "metrics are those of the whole split",
}

STAGES_FOLDER = "stages"  # in the folder of a run


@dataclass(frozen=True)
class Stage:
    """
    One training of a run; see `Recipe.stages`.

    Attributes:
        name: Empty for the only training of a recipe without stages, whose `frozen` is the recipe's.
        trainable: Parts of the model that are trained, or None.
        frozen: Parts that are not, or None. With neither, all are trained.
        model: Fields of the configuration that are other ones from this stage on.
        training, optimizer: The recipe's sections with what this stage changes.
    """

    name: str
    trainable: list[str] | None
    frozen: list[str] | None
    model: dict[str, Any]
    training: dict[str, Any]
    optimizer: dict[str, Any]


@dataclass
class Recipe:
    """
    Everything that decides a run.

    A recipe that names an `architecture` starts from the settings that this project has for it on the corpus, see
    `training.presets`; one that names a `model_type`, from the defaults below.

    Args:
        model_type: Which architecture, by its configuration's `model_type`.
        data_file: Any source that `datasets_scripts` reads, a folder that `prepare_data.py` made, or the id of such a
            dataset on the Hub. Excludes `synthetic`.
        data_options: Options of the source's reader, such as `align` for CMU-MultimodalSDK sequences.
        streaming: Whether feature sequences are read from a prepared folder's shards while training goes on, instead of
            from a memory-mapped copy. Then samples come in another order: drawn from a buffer, not bucketed by length.
        shuffle_buffer: Samples in that buffer, which are held in memory.
        data_sha256: What the source's SHA-256 must be; a finished run's recipe.yaml has it, so that it runs on the same
            data.
        synthetic: Arguments of the synthetic corpus (`datasets_scripts.synthetic`), in place of a file.
        text: Which text is read: "raw_text", "input_ids" (the file's own token ids) or "text_values" (its features);
            None takes the first of these that data and recipe have.
        text_encoder: Pretrained text encoder, an id on the Hub or a folder. Without it, `model.text_config` describes
            an encoder that is trained from scratch, on a vocabulary of the training split's words.
        frozen: Parts of the model that are not trained, by the beginnings of their parameters' names ([text_encoder]),
            but used as they are, without dropout. Of a recipe with stages each stage says it.
        encoded_text: What a text encoder that is not trained gives is computed once and kept on disk; "float32" or
            "float16" (half the room, rounded) is its precision. With "none" the encoder runs in every epoch.
        max_text_length: Tokens beyond which a text is cut.
        normalize: Modalities whose features are standardised by the training split's statistics.
        feature_sets: By modality, what the features are, in words, for the processor and the model card.
        label_generation: Where unimodal labels come from: a generator ("self_mm", "sugrm"), "human" (the corpus has
            them), "none".
        label_generator: Keyword arguments of the generator.
        metric_convention: "mosi" or "sims": which of the metric's families is computed of a sentiment.
        modality_dropout: How often a modality of a training sample is hidden, from 0 to below 1; never all of them.
        early_stopping_patience: Evaluations without a new best after which training stops; None trains all epochs.
        early_stopping_threshold: How much better a new best must be.
        optimizer: `name` ("adam", as in the papers, or "training" for `training.optim`) and, by parameter group
            (text_encoder, audio_encoder, vision_encoder, sequence_encoder, rest), `learning_rate` and `weight_decay`.
        model: Fields of the architecture's configuration; what the data decides is filled in.
        training: Fields of `transformers.TrainingArguments`.
        stages: Trainings one after the other, each a mapping of `name`; `trainable`, the parts of the model that are
            trained in it, by the beginnings of their parameters' names, or `frozen`, those that are not (without
            either, all are trained; what is not is used as it is, without dropout); `model`, fields of the
            configuration that are other ones from then on, such as a loss; `training` and `optimizer`, what is other
            than in the sections of that name. Each starts from the best epoch of the one before it. Without stages
            there is one training, of everything.
        search: What `tune.py` searches, and nothing else reads: by field of the recipe, dotted inside a section, where
            its values lie; see `training.search_space`.
    """

    model_type: str
    data_file: str | None = None
    data_options: dict[str, Any] = field(default_factory=dict)
    streaming: bool = False
    shuffle_buffer: int = 500
    data_sha256: str | None = None
    synthetic: dict[str, Any] | None = None
    text: str | None = None
    text_encoder: str | None = None
    frozen: list[str] = field(default_factory=list)
    encoded_text: str = "float32"
    max_text_length: int | None = None
    normalize: list[str] = field(default_factory=list)
    feature_sets: dict[str, str] = field(default_factory=dict)
    label_generation: str = "none"
    label_generator: dict[str, Any] = field(default_factory=dict)
    metric_convention: str = "mosi"
    modality_dropout: float = 0.0
    early_stopping_patience: int | None = None
    early_stopping_threshold: float = 0.0
    optimizer: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    stages: list[dict[str, Any]] = field(default_factory=list)
    search: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        self._check_choice("model_type", tuple(ARCHITECTURES))
        self._check_choice("metric_convention", REGRESSION_CONVENTIONS)
        target = self.target
        self.training = {**TRAINING_DEFAULTS, "metric_for_best_model": target.selection, **self.training}
        self._check_choice("text", (None, "raw_text", "input_ids", "text_values"))
        self._check_choice("label_generation", ("none", "human", *LABEL_GENERATORS))
        self._check_choice("encoded_text", (*PRECISIONS, "none"))
        if (self.data_file is None) == (self.synthetic is None):
            raise ValueError(
                "A recipe needs data: either `data_file` (give it as --data_file FILE) or `synthetic`, not "
                f"{'both' if self.synthetic is not None else 'neither'}."
            )
        self._check_types()
        check_keys("model", self.model, ARCHITECTURES[self.model_type].field_names())
        text_config = self.model.get("text_config")
        if isinstance(text_config, dict):
            text_type = text_config.get("model_type", "bert")
            if text_type in CONFIG_MAPPING:  # else the configuration says what it may be
                text_class = CONFIG_MAPPING[text_type]
                names = [f.name for f in dataclasses.fields(text_class)]
                check_keys("model.text_config", text_config, ["model_type", *names, *text_class.attribute_map])
        for stage in self.stage_list():
            self._check_stage(stage, target)
        if self.stages and self.frozen:
            raise ValueError("`frozen` is for a recipe with one training; with `stages` each stage has its own.")
        if self.stages and self.label_generation in LABEL_GENERATORS:
            raise ValueError(
                f"`stages` and `label_generation: {self.label_generation}` exclude each other: generated labels move "
                "with the epochs of one training. Leave one of them out."
            )

    @property
    def target(self) -> Target:
        """What is predicted: `model.target`, or what the architecture has where that is left out."""
        default = next(f.default for f in dataclasses.fields(ARCHITECTURES[self.model_type]) if f.name == "target")
        return Target(self.model.get("target", default), self.metric_convention)

    def stage_list(self) -> list[Stage]:
        """The stages; a recipe without any has one of everything, without a name."""
        if not self.stages:
            return [Stage("", None, self.frozen or None, {}, dict(self.training), self.optimizer)]
        return [
            Stage(
                str(stage["name"]),
                stage.get("trainable"),
                stage.get("frozen"),
                dict(stage.get("model") or {}),
                {**self.training, **(stage.get("training") or {})},
                {**self.optimizer, **(stage.get("optimizer") or {})},
            )
            for stage in self.stages
        ]

    def _check_stages(self) -> None:
        """What can be wrong with the list before anything of it is read."""
        if not isinstance(self.stages, list) or not all(isinstance(stage, dict) for stage in self.stages):
            raise ValueError(f"`stages` must be a list of mappings; got {self.stages!r}.")
        for number, stage in enumerate(self.stages):
            check_keys(f"stages.{number}", stage, ("name", "trainable", "frozen", "model", "training", "optimizer"))
            for section in ("model", "training", "optimizer"):
                if not isinstance(stage.get(section) or {}, dict):
                    raise ValueError(f"`stages.{number}.{section}` must be a mapping; got {stage[section]!r}.")
            for key in set(stage.get("training") or {}) & {*PER_RUN_FIELDS, "seed"}:
                raise ValueError(f"`stages.{number}.training.{key}` belongs to the run; set it for all stages.")
        names = ["" if stage.get("name") is None else str(stage["name"]) for stage in self.stages]
        if not all(re.fullmatch(r"[A-Za-z0-9_-]+", name) for name in names) or len(set(names)) < len(names):
            raise ValueError(
                f"`stages` need a `name` each, of letters, digits, _ and -, and no two the same; got {names!r}."
            )

    def _check_stage(self, stage: Stage, target: Target) -> None:
        place = f"stages.{stage.name}." if stage.name else ""
        for name, parts in (("trainable", stage.trainable), ("frozen", stage.frozen)):
            if parts is not None and not (isinstance(parts, list) and parts and all(isinstance(p, str) for p in parts)):
                raise ValueError(f"`{place}{name}` must be a list of parts of the model; got {parts!r}.")
        if stage.trainable is not None and stage.frozen is not None:
            raise ValueError(f"`{place}trainable` and `{place}frozen` say the same from two sides; give one of them.")
        check_keys(f"{place}model", stage.model, ARCHITECTURES[self.model_type].field_names())
        if "target" in stage.model:
            raise ValueError(f"`{place}model.target` cannot change between stages; set `model.target`.")
        check_keys(f"{place}training", stage.training, [f.name for f in dataclasses.fields(TrainingArguments)])
        check_keys(f"{place}optimizer", stage.optimizer, ("name", *PARAMETER_GROUPS))
        for group in PARAMETER_GROUPS:
            settings = stage.optimizer.get(group, {})
            if not isinstance(settings, dict):
                raise ValueError(
                    f"`{place}optimizer.{group}` must be a mapping of learning_rate and weight_decay; got {settings!r}."
                )
            check_keys(f"{place}optimizer.{group}", settings, ("learning_rate", "weight_decay"))
            for name, value in settings.items():
                _check_number(f"{place}optimizer.{group}.{name}", value, minimum=0)
        if stage.optimizer.get("name", "adam") not in ("adam", "training"):
            raise ValueError(f"`{place}optimizer.name` must be 'adam' or 'training'; got {stage.optimizer['name']!r}.")
        if self.early_stopping_patience is not None and stage.training["eval_strategy"] == "no":
            raise ValueError(
                f"`early_stopping_patience` counts evaluations, but `{place}training.eval_strategy` is 'no'; evaluate, "
                "or set early_stopping_patience to null."
            )
        if stage.training.get("remove_unused_columns"):
            raise ValueError(
                f"`{place}training.remove_unused_columns` must stay false: the collator chooses the columns."
            )
        metric = stage.training.get("metric_for_best_model")
        known = ("loss", *target.metric_names)
        if metric is not None and str(metric).removeprefix("eval_") not in known:
            nearest = difflib.get_close_matches(str(metric), known, n=1, cutoff=0.0)[0]
            raise ValueError(
                f"`{place}training.metric_for_best_model` must be one of {', '.join(known)} for the target "
                f"{target.name!r}; got {metric!r}. Nearest: {nearest!r}."
            )

    def _check_types(self) -> None:
        self._check_stages()
        if (
            isinstance(self.modality_dropout, bool)
            or not isinstance(self.modality_dropout, (int, float))
            or not (0 <= self.modality_dropout < 1)
        ):
            raise ValueError(f"`modality_dropout` must be a share from 0 to below 1; got {self.modality_dropout!r}.")
        if not isinstance(self.streaming, bool) or (self.streaming and self.data_file is None):
            raise ValueError(f"`streaming` must be true or false, and needs `data_file`; got {self.streaming!r}.")
        _check_number("shuffle_buffer", self.shuffle_buffer, minimum=1, whole=True)
        if self.max_text_length is not None:
            _check_number("max_text_length", self.max_text_length, minimum=1, whole=True)
        if self.early_stopping_patience is not None:
            _check_number("early_stopping_patience", self.early_stopping_patience, minimum=1, whole=True)
        _check_number("early_stopping_threshold", self.early_stopping_threshold, minimum=0)
        if not isinstance(self.normalize, list) or not all(m in MODALITIES for m in self.normalize):
            raise ValueError(f"`normalize` must be a list of {', '.join(MODALITIES)}; got {self.normalize!r}.")
        check_keys("feature_sets", self.feature_sets, MODALITIES)
        if self.synthetic is not None:
            check_keys("synthetic", self.synthetic, list(SyntheticCorpus.__dataclass_fields__))
        if self.label_generation in LABEL_GENERATORS:
            switches = LABEL_GENERATORS[self.label_generation].SWITCHES
            check_keys("label_generator", self.label_generator, switches)
            for name, value in self.label_generator.items():
                if not isinstance(value, bool):
                    raise ValueError(f"`label_generator.{name}` must be true or false; got {value!r}.")
        elif self.label_generator:
            raise ValueError(f"`label_generator` needs one of {', '.join(LABEL_GENERATORS)} as `label_generation`.")

    def _check_choice(self, name: str, choices: Sequence[Any]) -> None:
        if getattr(self, name) not in choices:
            shown = ", ".join(str(choice) for choice in choices)
            raise ValueError(f"`{name}` must be one of {shown}; got {getattr(self, name)!r}.")

    @classmethod
    def from_command_line(cls, arguments: Sequence[str]) -> Recipe:
        """
        Args:
            arguments: `RECIPE.yaml` and then `--field value` (or `--field=value`) pairs. A field is one of the
                recipe's, one of `TrainingArguments`, or a dotted name inside a section (`--model.fusion_size 64`).

        Raises:
            ValueError: for an unknown field, naming the nearest known one, and for a value that does not fit.
        """
        if not arguments or arguments[0].startswith("--"):
            raise ValueError("The first argument must be a recipe, a YAML file; recipes/ has those of this project.")
        content, pairs = load_yaml(arguments[0]), _pairs(arguments[1:])
        if isinstance(content, dict):  # what else it may be is said below
            if "architecture" in {*content, *dict(pairs)}:  # which settings these are, the command line may say
                for name, value in pairs:
                    if name in (*PRESET_KEYS, "data_file", "data_options", "text_encoder", "text"):
                        content[name] = value
                pairs = [(name, value) for name, value in pairs if name not in PRESET_KEYS]
                content = with_preset(content, load_yaml)
            for name, value in pairs:
                _override(content, name, value)
        return cls.from_dict(content, arguments[0])

    @classmethod
    def from_dict(cls, content: Any, source: str = "the recipe") -> Recipe:
        if not isinstance(content, dict):
            raise ValueError(f"{source} must hold a mapping of recipe keys; got {type(content).__name__}.")
        content = with_preset(content, load_yaml)
        check_keys("", content, [f.name for f in dataclasses.fields(cls)])
        if "model_type" not in content:
            raise ValueError(f"{source} has neither `architecture` nor `model_type`; say which one it trains.")
        defaults = {f.name: f for f in dataclasses.fields(cls)}
        sections = ("optimizer", "model", "training", "label_generator", "feature_sets", "synthetic", "data_options")
        for name in (*sections, "search"):
            if content.get(name) is not None and not isinstance(content[name], dict):
                raise ValueError(f"`{name}` must be a mapping; got {content[name]!r}.")
        content = {
            name: value for name, value in content.items() if value is not None or defaults[name].default is None
        }
        return cls(**content)

    def training_arguments(self, stage: Stage | None = None) -> TrainingArguments:
        """
        The `training` section, or that of a stage, each value checked against its field's type. A stage with a name
        has a folder of its own in that of the run.
        """
        settings = self.training if stage is None else stage.training
        section = {"dataloader_pin_memory": torch.cuda.is_available(), **settings}
        if not section.get("output_dir"):
            raise ValueError("A run needs a folder of its own; give it as --output_dir FOLDER.")
        if stage is not None and stage.name:
            section["output_dir"] = str(Path(section["output_dir"]) / STAGES_FOLDER / stage.name)
        if section.get("greater_is_better") is None and section.get("metric_for_best_model"):
            name = str(section["metric_for_best_model"]).removeprefix("eval_")
            section["greater_is_better"] = name != "loss" and greater_is_better(name)
        if section.get("lr_scheduler_type") == "reduce_lr_on_plateau":  # whose own default is a metric that falls
            mode = "max" if section.get("greater_is_better") else "min"
            section["lr_scheduler_kwargs"] = {"mode": mode, **(section.get("lr_scheduler_kwargs") or {})}
        section["remove_unused_columns"] = False
        section["logging_nan_inf_filter"] = False  # it would look at every step's loss, and hide what stops a training
        if self.streaming:  # every process reads the stream and takes its part: ids and the like cannot be sent around
            section["accelerator_config"] = {"dispatch_batches": False, **(section.get("accelerator_config") or {})}
        parser = _TrainingParser(TrainingArguments)  # type: ignore[arg-type]
        takes_list = {action.dest for action in parser._actions if action.nargs in ("+", "*")}
        line = []
        for name, value in section.items():
            if isinstance(value, (list, tuple)):
                if name not in takes_list:
                    raise ValueError(f"`training.{name}` takes one value; got the list {value!r}.")
                line += [f"--{name}", *(str(item) for item in value)] if value else []
            elif value is not None:
                line.append(f"--{name}={json.dumps(value) if isinstance(value, dict) else value}")
        arguments = parser.parse_args_into_dataclasses(line, look_for_args_file=False)[0]
        _check_arguments(arguments)
        return arguments

    def to_dict(self) -> dict[str, Any]:
        """Everything needed to run again, without what belongs to one execution."""
        content = dataclasses.asdict(self)
        content["training"] = {k: v for k, v in content["training"].items() if k not in PER_RUN_FIELDS}
        return content

    def to_yaml(self) -> str:
        return yaml.dump(self.to_dict(), Dumper=_Dumper, sort_keys=False, allow_unicode=True)


class _Loader(yaml.SafeLoader):
    """As in YAML 1.2, 1e-3 is a number, and "no" (a value of `eval_strategy`) is not false."""


class _Dumper(yaml.SafeDumper):
    """Writes what `_Loader` reads: quotes the strings that it would take for something else."""


_YAML_12 = {
    "tag:yaml.org,2002:bool": (r"^(true|True|false|False)$", "tTfF"),
    "tag:yaml.org,2002:int": (r"^[-+]?(0|[1-9]\d*)$", "-+0123456789"),
    "tag:yaml.org,2002:float": (
        r"^([-+]?((\d+\.\d*|\.\d+)([eE][-+]?\d+)?|\d+[eE][-+]?\d+)|[-+]?\.(inf|Inf)|\.(nan|NaN))$",
        "-+.0123456789",
    ),
}
for _class in (_Loader, _Dumper):
    _class.yaml_implicit_resolvers = {
        key: [resolver for resolver in resolvers if resolver[0] not in (*_YAML_12, "tag:yaml.org,2002:timestamp")]
        for key, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    for _tag, (_pattern, _first) in _YAML_12.items():
        _class.add_implicit_resolver(_tag, re.compile(_pattern), list(_first))


class _TrainingParser(HfArgumentParser):
    def error(self, message: str):  # argparse would print hundreds of options and exit
        raise ValueError(f"In the recipe's `training` section or on the command line: {message}.")


def load_yaml(path: str | Path) -> Any:
    """
    Raises:
        FileNotFoundError: where there is no such file.
        ValueError: where it is not YAML.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no recipe {path}; recipes/ has those of this project.")
    try:
        return yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not YAML: {error}") from None


def _pairs(arguments: Sequence[str]) -> list[tuple[str, Any]]:
    pairs, position = [], 0
    while position < len(arguments):
        argument = arguments[position]
        if not argument.startswith("--"):
            raise ValueError(f"Expected --field value after the recipe; got {argument!r} without a field.")
        name, equals, value = argument[2:].partition("=")
        if not equals:
            position += 1
            if position == len(arguments) or arguments[position].startswith("--"):
                raise ValueError(f"--{name} has no value; write --{name} VALUE.")
            value = arguments[position]
        try:
            pairs.append((name, yaml.load(value, _Loader)))
        except yaml.YAMLError as error:
            raise ValueError(f"The value of --{name} is not YAML: {error}") from None
        position += 1
    return pairs


def _override(content: dict[str, Any], name: str, value: Any) -> None:
    recipe_fields = [*PRESET_KEYS, *(f.name for f in dataclasses.fields(Recipe))]
    training_fields = [f.name for f in dataclasses.fields(TrainingArguments)]
    section, dot, rest = name.partition(".")
    if dot:
        check_keys("", {section: None}, recipe_fields)
        place = content
        *sections, last = [section, *rest.split(".")]
        if section == "stages":
            place, sections = _stage_of(content, sections), sections[2:]
        for key in sections:
            if not isinstance(place.get(key), dict):
                place[key] = {}
            place = place[key]
        place[last] = value
    elif name in recipe_fields:
        content[name] = value
        # Data of one kind given on the command line replaces the recipe's data of the other kind.
        if value is not None and name in ("data_file", "synthetic"):
            content.pop({"data_file": "synthetic", "synthetic": "data_file"}[name], None)
    elif name in training_fields:
        content["training"] = {**(content.get("training") or {}), name: value}
        # It holds for every stage, whatever the recipe says of a single one.
        for stage in _stages_in(content):
            if isinstance(stage.get("training"), dict):
                stage["training"].pop(name, None)
    else:
        check_keys("", {name: None}, recipe_fields + training_fields)


def _stage_of(content: dict[str, Any], keys: list[str]) -> dict[str, Any]:
    """The stage that `--stages.NAME.field` names."""
    stages = _stages_in(content)
    names = [str(stage.get("name")) for stage in stages]
    if len(keys) < 2 or keys[1] not in names:
        raise ValueError(
            f"--{'.'.join(keys)} must name a stage of the recipe and a field, as --stages.NAME.FIELD; the recipe has "
            f"{', '.join(names) or 'no stages'}."
        )
    return stages[names.index(keys[1])]


def _stages_in(content: dict[str, Any]) -> list[dict[str, Any]]:
    """The stages of a recipe that is not checked yet."""
    stages = content.get("stages")
    return [stage for stage in stages if isinstance(stage, dict)] if isinstance(stages, list) else []


def _check_number(name: str, value: Any, minimum: float, whole: bool = False) -> None:
    fits = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool) and value >= minimum
    if not fits:
        kind = "a whole number" if whole else "a number"
        raise ValueError(f"`{name}` must be {kind}, at least {minimum:g}; got {value!r}.")


def _check_arguments(args: TrainingArguments) -> None:
    """What the trainer would take as it is, train nothing with, or end with other weights than it says."""
    for name in ("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps"):
        _check_number(f"training.{name}", getattr(args, name), minimum=1, whole=True)
    _check_number("training.learning_rate", args.learning_rate, minimum=0)
    if not args.num_train_epochs > 0:
        raise ValueError(f"`training.num_train_epochs` must be a number above 0; got {args.num_train_epochs:g}.")
    for name, reason in UNUSABLE.items():
        if getattr(args, name):
            raise ValueError(f"`training.{name}` must be left out: {reason}; got {getattr(args, name)}.")
    by_steps = args.eval_strategy == args.save_strategy == "steps"
    if args.load_best_model_at_end and by_steps and args.save_steps != args.eval_steps:
        raise ValueError(
            f"`training.save_steps` must be `training.eval_steps`, {args.eval_steps:g}, where `load_best_model_at_end` "
            f"is true; got {args.save_steps:g}: the best of the weights that are evaluated would not be there in the "
            "end. Set both to one number."
        )


def check_keys(section: str, content: dict[str, Any], known: Sequence[str]) -> None:
    for key in content:
        if key not in known:
            nearest = difflib.get_close_matches(str(key), known, n=1, cutoff=0.0)[0]
            place = f"{section}.{key}" if section else key
            raise ValueError(f"`{place}` is not a recipe key; the nearest known one is `{nearest}`.")
