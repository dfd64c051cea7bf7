"""Configurations: defaults, what is refused and in which words, text encoders, and what config.json holds."""

import copy
import json

import pytest
from huggingface_hub.errors import StrictDataclassFieldValidationError
from transformers import AutoConfig, BertConfig, DistilBertConfig

from configuration import (
    CONFIG_CLASSES,
    MODALITIES,
    TARGETS,
    DeltaAttentionConfig,
    MMLatchConfig,
    MultimodalConfig,
    SelfMMConfig,
    SugrmConfig,
    UcrnConfig,
)

TINY_BERT = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
FULL = {
    "text_config": TINY_BERT,
    "audio_feature_size": 33,
    "vision_feature_size": 709,
    "label_range": (-1, 1),
    "tasks": ("M", "A"),
    "text_pooling": "mean",
    "audio_projection_size": 16,
    "fusion_dropout": 0,
    "head_layers": 3,
}


def test_defaults():
    config = SelfMMConfig()
    assert config.modalities == () and config.text_config is None
    assert (config.num_labels, config.problem_type, config.label_range) == (1, "regression", [-3.0, 3.0])
    assert config.id2label == {0: "sentiment"} and config.label2id == {"sentiment": 0}
    assert config.tasks == ["M", "T", "A", "V"] and config.head_layers == 2


@pytest.mark.parametrize("config_class", CONFIG_CLASSES)
def test_registered_for_auto_config(config_class):
    assert type(AutoConfig.for_model(config_class.model_type)) is config_class
    assert issubclass(config_class, MultimodalConfig)


@pytest.mark.parametrize(
    "fields, modalities",
    [
        ({"text_config": {}}, ("text",)),
        ({"text_feature_size": 300}, ("text",)),
        ({"vision_feature_size": 20, "audio_feature_size": 5}, ("audio", "vision")),
        ({"vision_feature_size": 20, "text_feature_size": 5}, ("text", "vision")),
        ({"vision_feature_size": 20, "text_config": {}, "audio_feature_size": 5}, MODALITIES),
    ],
)
def test_modalities_are_those_with_an_input(fields, modalities):
    config = SelfMMConfig(**fields)
    assert config.modalities == config.unimodal_tasks == modalities
    assert SelfMMConfig(**fields, tasks=["M", "A"]).unimodal_tasks == tuple(m for m in modalities if m == "audio")


def test_round_trip_keeps_every_field(tmp_path):
    config = SelfMMConfig(**copy.deepcopy(FULL))
    config.save_pretrained(tmp_path)
    for loaded in (SelfMMConfig.from_pretrained(tmp_path), AutoConfig.from_pretrained(tmp_path)):
        assert type(loaded) is SelfMMConfig and type(loaded.text_config) is BertConfig
        assert {**loaded.to_dict(), "_name_or_path": ""} == config.to_dict()
        for name, value in FULL.items():
            if name == "text_config":
                assert {key: getattr(loaded.text_config, key) for key in value} == value
            else:
                found = getattr(loaded, name)
                assert (tuple(found) if isinstance(value, tuple) else found) == value
        assert [type(bound) for bound in loaded.label_range] == [float, float]


def test_config_json_names_no_other_place(tmp_path):
    """A checkpoint is self-contained, wherever the encoder's weights came from and whatever folder it was in."""
    BertConfig(**TINY_BERT).save_pretrained(tmp_path / "encoder")
    for text_config in (
        AutoConfig.from_pretrained(tmp_path / "encoder"),
        {**TINY_BERT, "_name_or_path": str(tmp_path / "encoder")},
    ):
        SelfMMConfig(text_config=text_config).save_pretrained(tmp_path / "first")
        loaded = SelfMMConfig.from_pretrained(tmp_path / "first")
        loaded.save_pretrained(tmp_path / "second")
        for folder in ("first", "second"):
            text = (tmp_path / folder / "config.json").read_text()
            assert str(tmp_path) not in text
            assert not json.loads(text)["text_config"].get("_name_or_path")


def test_text_config_is_a_dictionary_or_a_configuration():
    assert type(SelfMMConfig(text_config=TINY_BERT).text_config) is BertConfig
    other = SelfMMConfig(text_config={"model_type": "distilbert", "dim": 8}).text_config
    assert type(other) is DistilBertConfig and other.hidden_size == 8
    given = BertConfig(**TINY_BERT)
    assert SelfMMConfig(text_config=given).text_config.to_dict() == given.to_dict()
    settings = {"model_type": "bert", **TINY_BERT}
    SelfMMConfig(text_config=settings)
    assert settings == {"model_type": "bert", **TINY_BERT}  # the caller's dictionary stays as it was


def test_lists_of_two_configurations_are_their_own():
    first, second = SelfMMConfig(), SelfMMConfig()
    first.tasks.remove("T")
    first.label_range[0] = -1.0
    assert second.tasks == ["M", "T", "A", "V"] and second.label_range == [-3.0, 3.0]
    assert SelfMMConfig().tasks == ["M", "T", "A", "V"] and SelfMMConfig().label_range == [-3.0, 3.0]


# By target: how transformers calls the problem, and how many outputs there are.
PROBLEMS = {
    "sentiment": ("regression", 1),
    "sentiment2": ("single_label_classification", 2),
    "sentiment7": ("single_label_classification", 7),
    "emotions": ("multi_label_classification", 6),
    "emotion": ("single_label_classification", 6),
}
every_target = pytest.mark.parametrize("target", PROBLEMS)
every_class = pytest.mark.parametrize("config_class", CONFIG_CLASSES)


def test_names_of_the_outputs():
    emotions = ("happy", "sad", "anger", "surprise", "disgust", "fear")
    assert {target: names for target, (_, names) in TARGETS.items() if target != "sentiment7"} == {
        "sentiment": ("sentiment",),
        "sentiment2": ("negative", "positive"),
        "emotions": emotions,
        "emotion": emotions,
    }
    classes = TARGETS["sentiment7"][1]  # -3 to 3
    assert (classes[0], classes[3], classes[6]) == ("highly negative", "neutral", "highly positive")
    assert [classes.index(f"weakly {way}") for way in ("negative", "positive")] == [2, 4]


@every_class
@every_target
def test_target_says_what_the_outputs_are(config_class, target, tmp_path):
    config, (problem_type, labels) = config_class(target=target), PROBLEMS[target]
    assert (config.problem_type, config.num_labels) == (problem_type, labels)
    assert tuple(config.id2label) == tuple(range(labels)) and config.output_names == TARGETS[target][1]
    assert config.label2id == {name: index for index, name in config.id2label.items()}
    assert config.one_number == (target == "sentiment")
    config.save_pretrained(tmp_path)
    loaded = AutoConfig.from_pretrained(tmp_path)
    assert {**loaded.to_dict(), "_name_or_path": ""} == config.to_dict()
    assert loaded.id2label == config.id2label and loaded.output_names == config.output_names
    same = config_class(target=target, problem_type=problem_type, num_labels=labels, id2label=config.id2label)
    assert same.to_dict() == config.to_dict() | {"label2id": same.label2id}


def test_default_targets():
    for config_class in CONFIG_CLASSES:
        target = "emotion" if config_class is DeltaAttentionConfig else "sentiment"
        config = config_class()
        assert (config.target, config.problem_type) == (target, PROBLEMS[target][0])


def test_every_architecture_says_what_it_is():
    assert {SelfMMConfig, SugrmConfig, MMLatchConfig, UcrnConfig, DeltaAttentionConfig} < set(CONFIG_CLASSES)
    for attribute in ("model_type", "display_name"):
        names = [getattr(config_class, attribute) for config_class in CONFIG_CLASSES]
        assert all(names) and len(set(names)) == len(names)
    assert all(len(config_class.citation) > 20 for config_class in CONFIG_CLASSES)


def other_problem(target):
    return next(problem_type for problem_type, _ in PROBLEMS.values() if problem_type != PROBLEMS[target][0])


@every_target
@pytest.mark.parametrize("wrong", ["problem_type", "num_labels", "id2label"])
def test_what_contradicts_the_target_is_refused(target, wrong, tmp_path):
    """Also where it stands in a config.json."""
    problem_type, labels = PROBLEMS[target]
    given = {
        "problem_type": other_problem(target),
        "num_labels": labels + 1,
        "id2label": {index: f"class {index}" for index in range(labels + 1)},
    }[wrong]
    with pytest.raises(ValueError, match=f"^`target` '{target}' has `problem_type` '{problem_type}'") as error:
        MultimodalConfig(target=target, **{wrong: given})
    assert f"`num_labels` {labels}" in str(error.value) and "None for labels of your own" in str(error.value)
    assert (given if wrong == "problem_type" else str(labels + 1)) in str(error.value)
    config = MultimodalConfig(target=target).to_dict()
    if wrong == "num_labels":
        config = {key: value for key, value in config.items() if key not in ("id2label", "label2id")}
    (tmp_path / "config.json").write_text(json.dumps({**config, wrong: given}))
    with pytest.raises(ValueError, match=f"^`target` '{target}'"):
        MultimodalConfig.from_pretrained(tmp_path)


@every_target
def test_outputs_may_have_other_names(target, tmp_path):
    """As many as the target has outputs, with keys as JSON has them, too."""
    labels = PROBLEMS[target][1]
    names = {index: f"class {index}" for index in range(labels)}
    for given in (names, {str(index): name for index, name in names.items()}):
        config = MultimodalConfig(target=target, id2label=given)
        assert config.id2label == names and config.output_names == tuple(names.values())
        config.save_pretrained(tmp_path)
        assert MultimodalConfig.from_pretrained(tmp_path).id2label == names
    named = MultimodalConfig(target=target, id2label=names, label2id={name: index for index, name in names.items()})
    assert named.label2id == {name: index for index, name in names.items()}


def test_labels_of_ones_own():
    config = MultimodalConfig(target=None, num_labels=6, problem_type="multi_label_classification")
    assert config.num_labels == 6 and len(config.id2label) == len(config.output_names) == 6
    names = {0: "bored", 1: "keen", 2: "angry"}
    named = MultimodalConfig(target=None, id2label=names, problem_type="single_label_classification")
    assert named.num_labels == 3 and named.output_names == ("bored", "keen", "angry")
    assert MultimodalConfig(target=None, num_labels=1, problem_type="regression").one_number
    assert not MultimodalConfig(target=None, num_labels=2, problem_type="regression").one_number
    assert not MultimodalConfig(target=None, num_labels=1, problem_type="multi_label_classification").one_number


@every_class
def test_labels_of_ones_own_round_trip(config_class, tmp_path):
    config = config_class(target=None, num_labels=3, problem_type="regression")
    config.save_pretrained(tmp_path)
    loaded = AutoConfig.from_pretrained(tmp_path)
    assert loaded.target is None and loaded.num_labels == 3 and loaded.problem_type == "regression"
    assert {**loaded.to_dict(), "_name_or_path": ""} == config.to_dict()


@every_class
def test_labels_of_ones_own_need_a_problem_type(config_class):
    for fields in ({}, {"num_labels": 3}, {"id2label": {0: "bored", 1: "keen"}}):
        with pytest.raises(ValueError, match="`target` None is for labels of your own; set `problem_type`"):
            config_class(target=None, **fields)


@pytest.mark.parametrize("label_range", [(-1, 1), (-3, 2), (-4, 4)])
def test_seven_classes_are_those_of_one_range(label_range):
    with pytest.raises(ValueError, match=r"^`target` 'sentiment7' .* `label_range` must be \(-3, 3\)") as error:
        MultimodalConfig(target="sentiment7", label_range=label_range)
    assert str([float(bound) for bound in label_range]) in str(error.value)
    for target in ("sentiment", "sentiment2", "emotions", "emotion"):
        assert MultimodalConfig(target=target, label_range=label_range).label_range == list(map(float, label_range))
    MultimodalConfig(target="sentiment7", label_range=(-3, 3))


@every_class
def test_unknown_target_is_named(config_class):
    with pytest.raises(StrictDataclassFieldValidationError, match="'target'.*'sentiment3'"):
        config_class(target="sentiment3")


@pytest.mark.parametrize("config_class", [SelfMMConfig, SugrmConfig])
@pytest.mark.parametrize(
    "fields",
    [
        *({"target": target} for target in PROBLEMS if target != "sentiment"),
        {"target": None, "problem_type": "regression", "num_labels": 2},
    ],
    ids=lambda fields: str(fields["target"]),
)
def test_only_a_number_has_unimodal_tasks_beside_it(config_class, fields, tmp_path):
    config = config_class(audio_feature_size=5, **fields)
    assert config.tasks == ["M"] and config.unimodal_tasks == ()
    assert config_class(**fields, tasks=("M",)).tasks == ["M"]
    config.save_pretrained(tmp_path)
    assert AutoConfig.from_pretrained(tmp_path).tasks == ["M"]
    for tasks in (["M", "T"], ["M", "A"], ["M", "T", "A", "V"]):
        with pytest.raises(ValueError, match=f"^`tasks` T, A and V .* target {fields['target']!r}") as error:
            config_class(**fields, tasks=tasks)
        assert str(tasks) in str(error.value)


@pytest.mark.parametrize("fields", [{}, {"target": None, "problem_type": "regression", "num_labels": 1}], ids=str)
def test_a_number_has_all_tasks_unless_told(fields):
    assert SelfMMConfig(**fields).tasks == SugrmConfig(**fields).tasks == ["M", "T", "A", "V"]
    assert SelfMMConfig(**fields, tasks=["M"]).tasks == ["M"]


@pytest.mark.parametrize(
    "written, nearest",
    [
        ("audio_featuresize", "audio_feature_size"),
        ("text_confg", "text_config"),
        ("fusiondropout", "fusion_dropout"),
        ("headlayers", "head_layers"),
        ("numlabels", "num_labels"),
    ],
)
def test_unknown_key_names_the_nearest(written, nearest):
    with pytest.raises(ValueError, match=f"`{written}` is not a field of SelfMMConfig.*`{nearest}`"):
        SelfMMConfig(**{written: 1})


@pytest.mark.parametrize(
    "fields, words",
    [
        ({"tasks": ["T", "A"]}, ["`tasks`", "M among them", "'T'"]),
        ({"tasks": []}, ["`tasks`"]),
        ({"tasks": ["M", "M"]}, ["`tasks`", "different"]),
        ({"tasks": ["M", "X"]}, ["`tasks`", "'X'"]),
        ({"head_layers": 1}, ["`head_layers`", "got 1"]),
        ({"head_layers": 4}, ["`head_layers`", "got 4"]),
        ({"num_labels": 3}, ["`target`", "`num_labels`", "3"]),
        ({"problem_type": "multi_label_classification"}, ["`target`", "`problem_type`", "multi_label_classification"]),
        ({"fusion_dropout": 1.0}, ["`fusion_dropout`", "1.0"]),
        ({"audio_dropout": -0.1}, ["`audio_dropout`", "-0.1"]),
        ({"sequence_dropout": float("nan")}, ["`sequence_dropout`", "nan"]),
        ({"vision_size": 0}, ["`vision_size`", "0"]),
        ({"text_hidden_size": -2}, ["`text_hidden_size`", "-2"]),
        ({"audio_projection_size": 0}, ["`audio_projection_size`", "0"]),
        ({"audio_feature_size": 0}, ["`audio_feature_size`", "no audio", "0"]),
        ({"text_feature_size": -1}, ["`text_feature_size`", "no text", "-1"]),
        ({"text_feature_size": 300, "text_config": {}}, ["`text_config`", "`text_feature_size`", "both"]),
        ({"text_config": {"model_type": "brt"}}, ["`text_config.model_type`", "'brt'"]),
        ({"label_range": (0, 3)}, ["`label_range`", "(0, 3)"]),
        ({"label_range": (3, -3)}, ["`label_range`", "(3, -3)"]),
        ({"label_range": (-1,)}, ["`label_range`", "two"]),
        ({"label_range": (-1, 0.5, 1)}, ["`label_range`", "two"]),
        ({"label_range": (-1, float("inf"))}, ["`label_range`", "finite", "inf"]),
        ({"label_range": (float("nan"), 1)}, ["`label_range`", "finite", "nan"]),
        ({"label_range": ("-1", "1")}, ["`label_range`", "numbers"]),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_values_outside_the_rules(fields, words):
    with pytest.raises(ValueError) as error:
        SelfMMConfig(**fields)
    assert all(word in str(error.value) for word in words), str(error.value)


@pytest.mark.parametrize(
    "field, value",
    [("audio_feature_size", "5"), ("audio_size", 1.5), ("head_layers", True), ("tasks", "MTA"), ("label_range", 3)]
    + [("text_config", 768), ("text_pooling", "max"), ("problem_type", "ranking"), ("fusion_dropout", "0.1")],
)
def test_values_of_another_type(field, value):
    with pytest.raises(StrictDataclassFieldValidationError, match=f"'{field}'"):
        SelfMMConfig(**{field: value})
