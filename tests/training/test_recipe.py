"""Recipes: what they say, what the command line changes, and what is refused."""

import dataclasses
import json
from enum import Enum
from pathlib import Path

import pytest
import torch
from transformers import CONFIG_MAPPING, TrainingArguments, get_scheduler

from training.label_generation import LABEL_GENERATORS
from training.recipe import PER_RUN_FIELDS, TRAINING_DEFAULTS, Recipe, load_yaml

ROOT = Path(__file__).resolve().parents[2]
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))
BASE = {"model_type": "self_mm", "synthetic": {"train": 12}}
FIELDS = {field.name: field for field in dataclasses.fields(TrainingArguments) if field.init}

TEXT = """
model_type: self_mm
synthetic: {train: 12, valid: 4, test: 4, disagreement: 1e-1}
label_generation: self_mm
label_generator: {clip: false}
normalize: [audio]
optimizer:
  rest: {learning_rate: 1e-3, weight_decay: 1.0e-4}
  text_encoder: {learning_rate: 5E-5}
model:
  fusion_size: 16
training:
  learning_rate: 1e-5
  num_train_epochs: 3
  seed: 7
"""


@pytest.fixture
def recipe_file(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(TEXT)
    return str(path)


def read(recipe_file, *arguments):
    return Recipe.from_command_line([recipe_file, *arguments])


def with_data(path):
    """A recipe of the project; those that need a file get the name of one."""
    return Recipe.from_command_line(
        [str(path), *([] if load_yaml(path).get("synthetic") else ["--data_file", "x.pkl"])]
    )


# What a file says


def test_file(recipe_file):
    recipe = read(recipe_file)
    assert recipe.model_type == "self_mm"
    assert recipe.synthetic == {"train": 12, "valid": 4, "test": 4, "disagreement": 0.1}
    assert recipe.data_file is None
    assert recipe.label_generation == "self_mm" and recipe.label_generator == {"clip": False}
    assert recipe.normalize == ["audio"] and recipe.model == {"fusion_size": 16}
    own = {"metric_for_best_model": "mae", "learning_rate": 1e-5, "num_train_epochs": 3, "seed": 7}
    assert recipe.training == {**TRAINING_DEFAULTS, **own}


def test_numbers_with_exponent_are_numbers(recipe_file):
    recipe = read(
        recipe_file, "--adam_epsilon", "1e-9", "--optimizer.rest.weight_decay=2e-2", "--weight_decay", "3.e-1"
    )
    numbers = [
        recipe.training["learning_rate"],
        recipe.training["adam_epsilon"],
        recipe.training["weight_decay"],
        recipe.optimizer["rest"]["learning_rate"],
        recipe.optimizer["rest"]["weight_decay"],
        recipe.optimizer["text_encoder"]["learning_rate"],
    ]
    assert all(type(number) is float for number in numbers)
    assert numbers == [1e-5, 1e-9, 0.3, 1e-3, 2e-2, 5e-5]
    arguments = read(recipe_file, "--output_dir", "x", "--adam_epsilon", "1e-9").training_arguments()
    assert arguments.learning_rate == 1e-5 and arguments.adam_epsilon == 1e-9


@pytest.mark.parametrize("text", ["1e5x", "e5", "1-5", "5e"])
def test_what_only_resembles_a_number_stays_text(recipe_file, text):
    assert read(recipe_file, "--run_name", text).training["run_name"] == text


def test_null_is_the_default(recipe_file):
    recipe = Recipe.from_dict(
        {**BASE, "normalize": None, "optimizer": None, "training": None, "label_generation": None}
    )
    assert recipe == Recipe.from_dict(BASE)
    assert recipe.normalize == [] and recipe.optimizer == {} and recipe.label_generation == "none"
    assert read(recipe_file, "--data_sha256", "null").data_sha256 is None


# Training arguments


def test_training_arguments(recipe_file, tmp_path):
    arguments = read(recipe_file, "--output_dir", str(tmp_path / "run")).training_arguments()
    assert isinstance(arguments, TrainingArguments)
    assert arguments.output_dir == str(tmp_path / "run")
    assert (arguments.seed, arguments.num_train_epochs, arguments.learning_rate) == (7, 3, 1e-5)
    assert arguments.metric_for_best_model == "mae" and arguments.greater_is_better is False
    assert arguments.remove_unused_columns is False
    assert arguments.max_grad_norm == 0 and arguments.lr_scheduler_type == "constant"
    assert arguments.eval_strategy == arguments.save_strategy == "epoch" and arguments.load_best_model_at_end
    assert not (tmp_path / "run").exists()  # nothing is written yet


@pytest.mark.parametrize(("metric", "greater"), [("mae", False), ("corr", True), ("acc7", True), ("loss", False)])
def test_direction_of_the_metric(recipe_file, metric, greater):
    recipe = read(recipe_file, "--output_dir", "x", "--metric_for_best_model", metric)
    assert recipe.training_arguments().greater_is_better is greater
    opposite = str(not greater).lower()
    recipe = read(recipe_file, "--output_dir", "x", "--metric_for_best_model", metric, "--greater_is_better", opposite)
    assert recipe.training_arguments().greater_is_better is not greater


@pytest.mark.parametrize(
    ("target", "improving"), [("sentiment", (0.9, 0.8, 0.7, 0.6)), ("sentiment2", (0.6, 0.7, 0.8, 0.9))]
)
def test_a_rate_that_waits_for_the_metric_knows_its_direction(recipe_file, target, improving):
    """It falls where the metric gets worse, and not where it gets better."""
    kwargs = ("--lr_scheduler_type", "reduce_lr_on_plateau", "--lr_scheduler_kwargs", "{factor: 0.5, patience: 1}")
    recipe = read(recipe_file, *kwargs, "--output_dir", "x", "--model.target", target)
    arguments = recipe.training_arguments()
    for values, falls in ((improving, False), (improving[::-1], True)):
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        given = {"optimizer": optimizer, "scheduler_specific_kwargs": arguments.lr_scheduler_kwargs}
        scheduler = get_scheduler(arguments.lr_scheduler_type, **given)
        for value in values:
            scheduler.step(value)
        assert (optimizer.param_groups[0]["lr"] < 1) == falls
    kept = read(recipe_file, *kwargs[:2], "--output_dir", "x", "--lr_scheduler_kwargs", "{mode: max}")
    assert kept.training_arguments().lr_scheduler_kwargs["mode"] == "max"
    assert "mode" not in recipe.training["lr_scheduler_kwargs"]  # the recipe stays as it was written


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--per_device_train_batch_size", "0"), "`training.per_device_train_batch_size` must be a whole number, at "),
        (("--per_device_eval_batch_size", "0"), "`training.per_device_eval_batch_size` must be a whole number, at "),
        (("--gradient_accumulation_steps", "0"), "`training.gradient_accumulation_steps` must be .* least 1; got 0"),
        (("--num_train_epochs", "0"), "`training.num_train_epochs` must be a number above 0; got 0"),
        (("--num_train_epochs", "nan"), "`training.num_train_epochs` must be a number above 0; got nan"),
        (("--learning_rate", "-1e-3"), "`training.learning_rate` must be a number, at least 0; got -0.001"),
        (("--learning_rate", "nan"), "`training.learning_rate` must be a number, at least 0; got nan"),
        (("--label_smoothing_factor", "0.1"), "`training.label_smoothing_factor` must be left out: models .*; got 0.1"),
        (
            ("--auto_find_batch_size", "true"),
            "`training.auto_find_batch_size` must be left out: the samples .* got Tru",
        ),
        (("--prediction_loss_only", "true"), "`training.prediction_loss_only` must be left out: the best .*; got True"),
        (("--batch_eval_metrics", "true"), "`training.batch_eval_metrics` must be left out: metrics .*; got True"),
    ],
)
def test_settings_that_train_nothing_or_would_not_be_heeded(recipe_file, arguments, message):
    with pytest.raises(ValueError, match=message):
        read(recipe_file, "--output_dir", "x", *arguments).training_arguments()


def test_the_best_weights_have_to_be_saved(recipe_file):
    steps = ("--output_dir", "x", "--eval_strategy", "steps", "--eval_steps", "2", "--save_strategy", "steps")
    with pytest.raises(ValueError, match=r"`training.save_steps` must be `training.eval_steps`, 2, .*; got 6"):
        read(recipe_file, *steps, "--save_steps", "6").training_arguments()
    for fitting in (("--save_steps", "2"), ("--save_steps", "6", "--load_best_model_at_end", "false")):
        read(recipe_file, *steps, *fitting).training_arguments()
    read(recipe_file, *steps[:-1], "best").training_arguments()


def typed(value):
    """How a person types a default on the command line."""
    if value is None:
        return "null"
    if isinstance(value, Enum):
        return value.value
    return json.dumps(value) if isinstance(value, (bool, list, dict)) else str(value)


FIXED = {"output_dir", "remove_unused_columns", "logging_nan_inf_filter"}  # those that are not a recipe's to say


@pytest.mark.parametrize("name", sorted(set(FIELDS) - FIXED))
def test_every_training_argument_is_accepted(recipe_file, name):
    field = FIELDS[name]
    default = field.default if field.default is not dataclasses.MISSING else field.default_factory()
    common = [
        "--output_dir",
        "x",
        "--use_cpu",
        "true",
        "--load_best_model_at_end",
        "false",
        "--greater_is_better",
        "false",
    ]
    recipe = read(recipe_file, *common, f"--{name}", typed(default))
    expected = {
        "dataloader_pin_memory": False,
        **recipe.training,
        **dict.fromkeys(FIXED - {"output_dir"}, False),
        name: default,
    }
    if name == "greater_is_better":
        expected[name] = False  # what the metric says, in place of null
    expected = TrainingArguments(**expected).to_dict()
    result = recipe.training_arguments().to_dict()
    assert result == expected


def test_lists_and_mappings_reach_the_training_arguments(recipe_file):
    arguments = read(
        recipe_file,
        *("--output_dir", "x", "--label_names", "[labels]", "--include_for_metrics", "[loss, inputs]"),
        *("--lr_scheduler_kwargs", "{a: 1}", "--include_num_input_tokens_seen=no"),
    ).training_arguments()
    assert arguments.label_names == ["labels"] and arguments.include_for_metrics == ["loss", "inputs"]
    assert arguments.lr_scheduler_kwargs == {"a": 1}


def test_empty_list_reaches_the_training_arguments(recipe_file):
    assert read(recipe_file, "--output_dir", "x", "--label_names", "[]").training_arguments().label_names in ([], None)


def test_negative_numbers_reach_the_training_arguments(recipe_file):
    for text in ("-1", "-0.5", "-1e-5"):
        arguments = read(recipe_file, "--output_dir", "x", "--weight_decay", text).training_arguments()
        assert arguments.weight_decay == float(text)


def test_no_is_a_strategy_in_a_file_too(recipe_file):
    Path(recipe_file).write_text(TEXT + "  eval_strategy: no\n  load_best_model_at_end: no\n")
    arguments = read(recipe_file, "--output_dir", "x", "--save_strategy", "no").training_arguments()
    assert arguments.eval_strategy == arguments.save_strategy == "no" and not arguments.load_best_model_at_end


def test_no_never_means_yes(recipe_file):
    assert read(recipe_file, "--bf16", "no", "--output_dir", "x").training_arguments().bf16 is False
    try:
        clip = read(recipe_file, "--label_generator.clip", "no").label_generator["clip"]
    except ValueError as error:
        assert "label_generator.clip" in str(error)
    else:
        assert clip is False


@pytest.mark.parametrize("name", ["007", "1_000", "1:30", "2024-01-01", "yes"])
def test_folder_is_the_one_that_was_named(recipe_file, name):
    assert read(recipe_file, "--output_dir", name).training_arguments().output_dir == name


# The command line


def test_overrides(recipe_file):
    recipe = read(
        recipe_file,
        *("--seed", "9", "--bf16=true", "--text_encoder", "some/encoder", "--max_text_length=40"),
        *("--model.fusion_size", "64", "--model.text_config.hidden_size", "8", "--training.num_train_epochs=5"),
        *("--optimizer.audio_encoder.learning_rate", "5e-3", "--normalize", "[audio, vision]", "--run_name=a=b"),
        *("--synthetic.train", "20"),
    )
    assert recipe.training["seed"] == 9 and recipe.training["bf16"] is True and recipe.training["num_train_epochs"] == 5
    assert recipe.training["learning_rate"] == 1e-5  # what was not named stays
    assert recipe.text_encoder == "some/encoder" and recipe.max_text_length == 40
    assert recipe.model == {"fusion_size": 64, "text_config": {"hidden_size": 8}}
    assert recipe.optimizer["audio_encoder"] == {"learning_rate": 0.005}
    assert recipe.optimizer["rest"] == {"learning_rate": 1e-3, "weight_decay": 1e-4}
    assert recipe.normalize == ["audio", "vision"] and recipe.training["run_name"] == "a=b"
    assert recipe.synthetic == {"train": 20, "valid": 4, "test": 4, "disagreement": 0.1}


def test_the_last_one_counts(recipe_file):
    assert read(recipe_file, "--seed", "1", "--seed", "2").training["seed"] == 2


def test_data_of_one_kind_replaces_the_other(recipe_file, tmp_path):
    recipe = read(recipe_file, "--data_file", "mosi.pkl")
    assert recipe.data_file == "mosi.pkl" and recipe.synthetic is None
    path = tmp_path / "file.yaml"
    path.write_text("model_type: self_mm\ndata_file: mosi.pkl\n")
    recipe = read(str(path), "--synthetic", "{train: 5}")
    assert recipe.data_file is None and recipe.synthetic == {"train": 5}
    assert read(str(path), "--data_file", "other.pkl").data_file == "other.pkl"


# Back to YAML


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes_of_the_project(path, tmp_path):
    recipe = with_data(path)
    recipe.training["output_dir"] = str(tmp_path / "run")
    arguments = recipe.training_arguments()
    assert arguments.output_dir == str(tmp_path / "run") and arguments.seed == recipe.training["seed"]
    for stage in recipe.stage_list():
        assert recipe.training_arguments(stage).seed == arguments.seed
    config = CONFIG_MAPPING[recipe.model_type](**{"audio_feature_size": 5, "vision_feature_size": 4, **recipe.model})
    assert config.modalities
    if recipe.label_generation in LABEL_GENERATORS:
        keywords = recipe.label_generator
        generator = LABEL_GENERATORS[recipe.label_generation](["a"], [0.5], ("audio",), config.label_range, **keywords)
        assert generator.label_range == tuple(config.label_range)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_resolved_recipe_runs_again_as_itself(path, tmp_path):
    recipe = with_data(path)
    recipe.data_sha256 = "0123456789abcdef" * 4
    saved = tmp_path / "resolved.yaml"
    saved.write_text(recipe.to_yaml(), encoding="utf-8")
    assert Recipe.from_command_line([str(saved)]) == recipe
    again = Recipe.from_command_line([str(saved), "--output_dir", str(tmp_path / "second")])
    assert again.to_yaml() == recipe.to_yaml()


def test_yaml_says_everything_but_what_belongs_to_one_execution(recipe_file, tmp_path):
    recipe = read(recipe_file, "--output_dir", "x", "--resume_from_checkpoint", "true", "--disable_tqdm", "false")
    saved = tmp_path / "resolved.yaml"
    saved.write_text(recipe.to_yaml(), encoding="utf-8")
    content = load_yaml(saved)
    assert set(content) == {field.name for field in dataclasses.fields(Recipe)}
    assert not set(content["training"]) & set(PER_RUN_FIELDS)
    assert content["training"] == {k: v for k, v in recipe.training.items() if k not in PER_RUN_FIELDS}
    assert recipe.training["output_dir"] == "x"  # the recipe itself keeps it


@pytest.mark.parametrize("text", ["1e-5", "5E3", "null", "true", "0.5", "Größe: 3", "007", "no"])
def test_text_that_looks_like_something_else_survives(tmp_path, text):
    recipe = Recipe.from_dict({**BASE, "feature_sets": {"audio": text}})
    saved = tmp_path / "resolved.yaml"
    saved.write_text(recipe.to_yaml(), encoding="utf-8")
    assert Recipe.from_command_line([str(saved)]).feature_sets == {"audio": text}


# What is refused


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"trainin": {}}, ["`trainin`", "`training`"]),
        ({"model": {"fusion_sise": 3}}, ["`model.fusion_sise`", "`fusion_size`"]),
        ({"training": {"learning_rat": 3}}, ["`training.learning_rat`", "`learning_rate`"]),
        ({"optimizer": {"text_encodr": {}}}, ["`optimizer.text_encodr`", "`text_encoder`"]),
        ({"optimizer": {"rest": {"weight_decy": 0}}}, ["`optimizer.rest.weight_decy`", "`weight_decay`"]),
        ({"synthetic": {"trian": 5}}, ["`synthetic.trian`", "`train`"]),
        ({"label_generation": "self_mm", "label_generator": {"clp": 1}}, ["`label_generator.clp`", "`clip`"]),
        ({"feature_sets": {"auido": "COVAREP"}}, ["`feature_sets.auido`", "`audio`"]),
        ({7: 1}, ["`7`"]),
    ],
    ids=lambda value: ".".join(map(str, value)) if isinstance(value, dict) else "",
)
def test_unknown_keys_name_the_nearest(content, said):
    with pytest.raises(ValueError) as error:
        Recipe.from_dict({**BASE, **content})
    assert all(part in str(error.value) for part in said), str(error.value)


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("--sed", ["`sed`", "`seed`"]),
        ("--data-file", ["`data-file`", "`data_file`"]),
        ("--modle.fusion_size", ["`modle`", "`model`"]),
        ("--model.fusion_sise", ["`model.fusion_sise`", "`fusion_size`"]),
        ("--training.sed", ["`training.sed`", "`seed`"]),
        ("--optimizer.rest.learning_rte", ["`optimizer.rest.learning_rte`", "`learning_rate`"]),
        ("--label_names_", ["`label_names_`", "`label_names`"]),
    ],
)
def test_unknown_arguments_name_the_nearest(recipe_file, argument, said):
    with pytest.raises(ValueError) as error:
        read(recipe_file, argument, "3")
    assert all(part in str(error.value) for part in said), str(error.value)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--seed"], "--seed has no value"),
        (["--bf16", "true", "--seed"], "--seed has no value"),
        (["--seed", "--bf16", "true"], "--seed has no value"),
        (["3"], "'3' without a field"),
        (["--seed", "3", "4"], "'4' without a field"),
        (["-seed", "3"], "'-seed' without a field"),
        (["--model", "{a"], "--model"),
        (["--run_name", "a: b: c"], "--run_name"),
    ],
)
def test_arguments_that_are_no_pairs(recipe_file, arguments, said):
    with pytest.raises(ValueError) as error:
        read(recipe_file, *arguments)
    assert said in str(error.value)


@pytest.mark.parametrize("arguments", [[], ["--seed", "3"]])
def test_recipe_comes_first(arguments):
    with pytest.raises(ValueError, match="first argument must be a recipe"):
        Recipe.from_command_line(arguments)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seed", "abc"),
        ("seed", "1.5"),
        ("seed", "[1, 2]"),
        ("learning_rate", "fast"),
        ("num_train_epochs", "{a: 1}"),
        ("bf16", "perhaps"),
        ("lr_scheduler_type", "consant"),
        ("eval_strategy", "sometimes"),
    ],
)
def test_training_values_of_the_wrong_kind(recipe_file, name, value):
    recipe = read(recipe_file, "--output_dir", "x", f"--{name}", value)
    with pytest.raises(ValueError, match=name):
        recipe.training_arguments()


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ({"max_text_length": "long"}, "max_text_length"),
        ({"max_text_length": 0}, "max_text_length"),
        ({"max_text_length": 2.5}, "max_text_length"),
        ({"early_stopping_patience": "eight"}, "early_stopping_patience"),
        ({"early_stopping_threshold": "small"}, "early_stopping_threshold"),
        ({"optimizer": {"rest": {"learning_rate": "fast"}}}, "optimizer.rest.learning_rate"),
    ],
    ids=str,
)
def test_recipe_values_that_are_no_numbers(content, named):
    with pytest.raises(ValueError, match=named):
        Recipe.from_dict({**BASE, **content})


@pytest.mark.parametrize("name", ["optimizer", "model", "training", "label_generator", "feature_sets", "synthetic"])
@pytest.mark.parametrize("value", [[1], "a", 3, True], ids=str)
def test_sections_are_mappings(name, value):
    with pytest.raises(ValueError, match=f"`{name}` must be a mapping"):
        Recipe.from_dict({**BASE, name: value})


@pytest.mark.parametrize("value", [[1], "a", 3], ids=str)
def test_optimizer_groups_are_mappings(value):
    with pytest.raises(ValueError, match=r"optimizer\.rest"):
        Recipe.from_dict({**BASE, "optimizer": {"rest": value}})


@pytest.mark.parametrize("value", ["audio", ["auido"], 3], ids=str)
def test_normalize_is_a_list_of_modalities(value):
    with pytest.raises(ValueError, match="normalize"):
        Recipe.from_dict({**BASE, "normalize": value})


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ({"model_type": "self_m"}, "self_mm"),
        ({"model_type": "bert"}, "model_type"),
        ({"model_type": ["self_mm"]}, "model_type"),
        ({"text": "raw"}, "raw_text, input_ids, text_values"),
        ({"label_generation": "selfmm"}, "none, human, self_mm"),
        ({"metric_convention": "mosei"}, "mosi, sims"),
        ({"optimizer": {"name": "adamw"}}, "'adam' or 'training'"),
    ],
    ids=str,
)
def test_unknown_choices(content, named):
    with pytest.raises(ValueError) as error:
        Recipe.from_dict({**BASE, **content})
    assert named in str(error.value)


def test_data_of_both_kinds_or_of_none():
    with pytest.raises(ValueError, match="--data_file FILE.*not both"):
        Recipe.from_dict({**BASE, "data_file": "x.pkl"})
    with pytest.raises(ValueError, match="--data_file FILE.*not neither"):
        Recipe.from_dict({"model_type": "self_mm"})


def test_model_type_is_needed():
    with pytest.raises(ValueError, match="neither `architecture` nor `model_type`"):
        Recipe.from_dict({"synthetic": {}})


def test_output_dir_is_needed():
    with pytest.raises(ValueError, match="--output_dir FOLDER"):
        Recipe.from_dict(BASE).training_arguments()


@pytest.mark.parametrize("value", ["true", "True", "yes"])
def test_columns_are_the_collators(recipe_file, value):
    with pytest.raises(ValueError, match="remove_unused_columns"):
        read(recipe_file, "--remove_unused_columns", value)
    arguments = read(recipe_file, "--remove_unused_columns", "false", "--output_dir", "x").training_arguments()
    assert arguments.remove_unused_columns is False


@pytest.mark.parametrize(
    "arguments", [[], ["--seed", "3"], ["--model.fusion_size", "3"], ["--text", "raw_text"]], ids=str
)
@pytest.mark.parametrize("text", ["", "- a\n- b\n", "self_mm\n", "5\n"], ids=["empty", "list", "word", "number"])
def test_file_that_is_no_mapping(tmp_path, text, arguments):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match="must hold a mapping"):
        Recipe.from_command_line([str(path), *arguments])


def test_file_that_is_no_yaml(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("model: [1, 2\n")
    with pytest.raises(ValueError, match="recipe.yaml is not YAML"):
        Recipe.from_command_line([str(path)])


def test_file_that_is_missing(tmp_path):
    for path in (tmp_path / "recipe.yaml", tmp_path):
        with pytest.raises(FileNotFoundError, match="There is no recipe"):
            Recipe.from_command_line([str(path)])
