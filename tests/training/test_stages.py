"""Targets and stages in recipes: what they say, what the command line changes of them, and what is refused."""

import copy
from pathlib import Path

import pytest
import yaml

from configuration import TARGETS
from modeling import MODEL_CLASSES
from training.recipe import PER_RUN_FIELDS, Recipe, Stage
from training.run_folder import RunFolder, differences

BASE = {"model_type": "delta_attention", "synthetic": {"train": 12, "emotions": True}}
STAGES = [
    {"name": "text", "trainable": ["text_encoder", "branches.text"], "model": {"objective": "text"}},
    {
        "name": "pairs-2",
        "frozen": ["branches"],
        "model": {"objective": "correlation"},
        "training": {"metric_for_best_model": "loss", "num_train_epochs": 7, "learning_rate": 2e-4},
        "optimizer": {"name": "training", "rest": {"weight_decay": 0.5}},
    },
    {"name": "3"},
]
CONTENT = {
    **BASE,
    "optimizer": {"rest": {"learning_rate": 1e-3}, "text_encoder": {"learning_rate": 1e-5}},
    "training": {"num_train_epochs": 2, "learning_rate": 1e-2, "seed": 4},
    "stages": STAGES,
}


@pytest.fixture
def write(tmp_path):
    def write(content):
        path = tmp_path / "recipe.yaml"
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False))
        return str(path)

    return write


@pytest.fixture
def read(write):
    """The recipe of CONTENT, changed by a command line."""
    return lambda *arguments: Recipe.from_command_line([write(CONTENT), *arguments])


def with_stage(**fields):
    """CONTENT's stages, of which the first has other fields."""
    stages = copy.deepcopy(STAGES)
    stages[0] |= fields
    return stages


# What a recipe says


def test_stages():
    recipe = Recipe.from_dict(copy.deepcopy(CONTENT))
    text, pairs, last = recipe.stage_list()
    assert text == Stage(
        "text",
        trainable=["text_encoder", "branches.text"],
        frozen=None,
        model={"objective": "text"},
        training=recipe.training,
        optimizer=recipe.optimizer,
    )
    own = {"metric_for_best_model": "loss", "num_train_epochs": 7, "learning_rate": 2e-4}
    assert pairs.training == {**recipe.training, **own} and recipe.training["num_train_epochs"] == 2
    # Groups of the optimizer are taken whole, as they are written.
    rest = {"name": "training", "rest": {"weight_decay": 0.5}, "text_encoder": {"learning_rate": 1e-5}}
    assert (pairs.trainable, pairs.frozen, pairs.optimizer) == (None, ["branches"], rest)
    assert last == Stage("3", None, None, {}, recipe.training, recipe.optimizer)


def test_a_recipe_without_stages_has_one_of_everything():
    recipe = Recipe.from_dict(BASE)
    assert recipe.stages == [] and recipe.stage_list() == [Stage("", None, None, {}, recipe.training, {})]
    assert Recipe.from_dict({**BASE, "stages": None}) == Recipe.from_dict({**BASE, "stages": []}) == recipe


def test_training_arguments_of_a_stage(read, tmp_path):
    """In a folder of its own below that of the run; the direction is that of its metric."""
    recipe = read("--output_dir", str(tmp_path / "run"))
    run = recipe.training_arguments()
    assert (run.output_dir, run.metric_for_best_model, run.greater_is_better) == (str(tmp_path / "run"), "acc6", True)
    text, pairs, _ = (recipe.training_arguments(stage) for stage in recipe.stage_list())
    assert text.output_dir == str(tmp_path / "run" / "stages" / "text")
    assert (text.metric_for_best_model, text.greater_is_better, text.num_train_epochs) == ("acc6", True, 2)
    assert pairs.output_dir == str(tmp_path / "run" / "stages" / "pairs-2")
    assert (pairs.metric_for_best_model, pairs.greater_is_better, pairs.num_train_epochs) == ("loss", False, 7)
    assert {args.seed for args in (run, text, pairs)} == {4} and not (tmp_path / "run").exists()
    (only,) = Recipe.from_dict(BASE | {"training": {"output_dir": "x"}}).stage_list()
    assert recipe.from_dict(BASE | {"training": {"output_dir": "x"}}).training_arguments(only).output_dir == "x"


@pytest.mark.parametrize("model_class", MODEL_CLASSES, ids=lambda cls: cls.config_class.model_type)
def test_target_is_that_of_the_architecture_unless_the_recipe_says_so(model_class):
    model_type = model_class.config_class.model_type
    recipe = Recipe.from_dict({**BASE, "model_type": model_type})
    assert recipe.target.name == model_class.config_class().target and recipe.target.convention == "mosi"
    for target in TARGETS:
        recipe = Recipe.from_dict({**BASE, "model_type": model_type, "model": {"target": target}})
        assert recipe.target.name == target
        assert recipe.training["metric_for_best_model"] == recipe.target.selection
    sims = Recipe.from_dict({**BASE, "model": {"target": "sentiment2"}, "metric_convention": "sims"})
    assert sims.target.convention == "sims" and sims.training["metric_for_best_model"] == "acc2"


def test_a_metric_of_ones_own_choice_stays():
    training = {"metric_for_best_model": "eval_f1_fear"}
    assert Recipe.from_dict({**BASE, "training": training}).training["metric_for_best_model"] == "eval_f1_fear"
    assert Recipe.from_dict({**BASE, "stages": with_stage(training=training)}).stage_list()[0].training == {
        **Recipe.from_dict(BASE).training,
        **training,
    }


# The command line


def test_a_training_field_holds_for_all_stages(read):
    recipe = read("--num_train_epochs", "5", "--bf16=true")
    assert [stage.training["num_train_epochs"] for stage in recipe.stage_list()] == [5, 5, 5]
    assert [stage.training["bf16"] for stage in recipe.stage_list()] == [True] * 3
    assert [stage.training["learning_rate"] for stage in recipe.stage_list()] == [1e-2, 2e-4, 1e-2]
    assert recipe.stages[1]["training"] == {"metric_for_best_model": "loss", "learning_rate": 2e-4}


def test_a_field_of_one_stage(read):
    recipe = read("--stages.text.training.num_train_epochs", "3", "--stages.3.frozen", "[output]")
    assert [stage.training["num_train_epochs"] for stage in recipe.stage_list()] == [3, 7, 2]
    assert recipe.stage_list()[2].frozen == ["output"]
    recipe = read("--stages.pairs-2.optimizer.rest.weight_decay=0", "--stages.pairs-2.model.correlation_weight", "1")
    assert recipe.stage_list()[1].optimizer["rest"] == {"weight_decay": 0}
    assert recipe.stage_list()[1].model == {"objective": "correlation", "correlation_weight": 1}


def test_what_comes_later_counts(read):
    one, every = ("--stages.text.training.num_train_epochs", "3"), ("--num_train_epochs", "5")
    assert [stage.training["num_train_epochs"] for stage in read(*one, *every).stage_list()] == [5, 5, 5]
    assert [stage.training["num_train_epochs"] for stage in read(*every, *one).stage_list()] == [3, 5, 5]


def test_stages_are_switched_off(read):
    recipe = read("--stages", "[]")
    (only,) = recipe.stage_list()
    assert (only.name, only.trainable, only.frozen, only.model) == ("", None, None, {})
    assert only.training == recipe.training and recipe.training["num_train_epochs"] == 2
    assert read("--stages", "null") == recipe


def test_stages_of_a_command_line(read):
    recipe = read("--stages", "[{name: a, trainable: [output]}]", "--stages.a.training.max_steps", "1")
    assert recipe.stages == [{"name": "a", "trainable": ["output"], "training": {"max_steps": 1}}]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("stages.nope.trainable", "--stages.nope must name a stage.*text, pairs-2, 3"),
        ("stages.nope.training.seed", "--stages.nope.training must name a stage.*text, pairs-2, 3"),
        ("stages.text", "must name a stage of the recipe and a field"),
        ("stages.0.trainable", "--stages.0 must name a stage"),
        ("stages.text.trainabel", r"`stages\.0\.trainabel`.*nearest.*`trainable`"),
        ("stages.text.training.num_epochs", r"`stages\.text\.training\.num_epochs`.*`num_train_epochs`"),
        ("stages.text.model.objektive", r"`stages\.text\.model\.objektive`.*`objective`"),
        ("stages.text.optimizer.rets", r"`stages\.text\.optimizer\.rets`.*`rest`"),
        ("stage.text.model", "`stage`.*nearest.*`stages`"),
    ],
)
def test_fields_of_stages_that_do_not_exist(read, name, said):
    with pytest.raises(ValueError, match=said):
        read(f"--{name}", "3")


@pytest.mark.parametrize("arguments", [("--stages.text.model.objective", "text"), ("--stages.text", "1")], ids=str)
def test_stages_of_a_recipe_without_any(write, arguments):
    with pytest.raises(ValueError, match="must name a stage.*the recipe has no stages"):
        Recipe.from_command_line([write(BASE), *arguments])


# Back to YAML


@pytest.mark.parametrize(
    "arguments",
    [[], ["--num_train_epochs", "5"], ["--stages.text.training.max_steps", "3"], ["--stages", "[]"]],
    ids=str,
)
def test_resolved_recipe_runs_again_as_itself(read, write, arguments):
    recipe = read(*arguments, "--output_dir", "somewhere")
    again = Recipe.from_command_line([write(recipe.to_yaml())])
    assert again.stage_list() == [
        Stage(**{**vars(stage), "training": {k: v for k, v in stage.training.items() if k != "output_dir"}})
        for stage in recipe.stage_list()
    ]
    assert again.to_yaml() == recipe.to_yaml() and again.stages == recipe.stages


def test_a_resumed_run_must_have_the_same_stages(read, write, tmp_path):
    path = Path(write(read().to_yaml())).rename(tmp_path / "before.yaml")
    assert differences(path, read()) == []
    (difference,) = differences(path, read("--stages.text.training.max_steps", "3"))
    assert difference.startswith("stages: ")


def test_a_recipe_from_before_stages_and_targets_existed(write):
    """It is read with their defaults, so that its run can be resumed."""
    now = Recipe.from_dict({"model_type": "self_mm", "synthetic": {}})
    before = {name: value for name, value in now.to_dict().items() if name not in ("stages", "modality_dropout")}
    del before["training"]["metric_for_best_model"]
    assert differences(Path(write(before)), now) == []


# What is refused


@pytest.mark.parametrize(
    ("stages", "said"),
    [
        ({"text": {}}, "`stages` must be a list of mappings"),
        ("text", "`stages` must be a list of mappings"),
        (3, "`stages` must be a list of mappings"),
        (["text"], "`stages` must be a list of mappings"),
        ([None], "`stages` must be a list of mappings"),
        (with_stage(trainabel=["a"]), r"`stages\.0\.trainabel`.*`trainable`"),
        (with_stage(modality_dropout=0.1), r"`stages\.0\.modality_dropout` is not a recipe key"),
        (with_stage(model=[1]), r"`stages\.0\.model` must be a mapping; got \[1\]"),
        (with_stage(training="fast"), r"`stages\.0\.training` must be a mapping"),
        (with_stage(optimizer=3), r"`stages\.0\.optimizer` must be a mapping"),
        *(
            (with_stage(training={name: "x"}), rf"`stages\.0\.training\.{name}` belongs to the run")
            for name in (*PER_RUN_FIELDS, "seed")
        ),
        (with_stage(name=None), "need a `name` each"),
        (with_stage(name=""), "need a `name` each"),
        (with_stage(name="a/b"), "need a `name` each"),
        (with_stage(name=".."), "need a `name` each"),
        (with_stage(name="two words"), "need a `name` each"),
        (with_stage(name="3"), "no two the same.*'3', 'pairs-2', '3'"),
        (with_stage(name=3), "no two the same"),
        ([{"trainable": ["output"]}], "need a `name` each"),
        (with_stage(trainable="output"), r"`stages\.text\.trainable` must be a list of parts"),
        (with_stage(trainable=[]), r"`stages\.text\.trainable` must be a list of parts"),
        (with_stage(trainable=[1]), r"`stages\.text\.trainable` must be a list of parts"),
        (with_stage(trainable=None, frozen={}), r"`stages\.text\.frozen` must be a list of parts"),
        (with_stage(frozen=["output"]), "`stages.text.trainable` and `stages.text.frozen`.*give one"),
        (with_stage(model={"objektive": "text"}), r"`stages\.text\.model\.objektive`.*`objective`"),
        (with_stage(model={"target": "emotions"}), r"`stages\.text\.model\.target` cannot change"),
        (with_stage(training={"learning_rat": 1}), r"`stages\.text\.training\.learning_rat`.*`learning_rate`"),
        (with_stage(training={"remove_unused_columns": True}), r"`stages\.text\.training\.remove_unused_columns`"),
        (
            with_stage(training={"metric_for_best_model": "mae"}),
            r"`stages\.text\.training\.metric_for_best_model`.*acc6",
        ),
        (with_stage(training={"metric_for_best_model": "acc_hapy"}), "'acc_hapy'. Nearest: 'acc_happy'"),
        (with_stage(training={"metric_for_best_model": "los"}), "Nearest: 'loss'"),
        (with_stage(optimizer={"audio": {}}), r"`stages\.text\.optimizer\.audio`.*`audio_encoder`"),
        (with_stage(optimizer={"rest": 3}), r"`stages\.text\.optimizer\.rest` must be a mapping"),
        (with_stage(optimizer={"rest": {"learning_rate": -1}}), r"`stages\.text\.optimizer\.rest\.learning_rate`"),
        (with_stage(optimizer={"name": "adamw"}), r"`stages\.text\.optimizer\.name` must be 'adam' or 'training'"),
    ],
    ids=lambda value: str(value)[:60] if isinstance(value, str) else "",
)
@pytest.mark.parametrize("arguments", [[], ["--num_train_epochs", "1"]], ids=["alone", "changed"])
def test_stages_that_are_refused(write, stages, said, arguments):
    """With and without a training field on the command line, which goes through the stages before they are checked."""
    with pytest.raises(ValueError, match=said):
        Recipe.from_command_line([write({**BASE, "stages": stages}), *arguments])


@pytest.mark.parametrize("label_generation", ["self_mm", "sugrm"])
def test_generated_labels_are_of_one_training(label_generation):
    content = {"model_type": "self_mm", "synthetic": {}, "label_generation": label_generation}
    with pytest.raises(ValueError, match=f"`stages` and `label_generation: {label_generation}` exclude each other"):
        Recipe.from_dict({**content, "stages": [{"name": "heads", "trainable": ["heads"]}]})
    assert Recipe.from_dict({**content, "label_generation": "human", "stages": [{"name": "heads"}]}).stages


@pytest.mark.parametrize("stages", [[], STAGES], ids=["one training", "stages"])
def test_early_stopping_needs_evaluations(stages):
    content = {**BASE, "early_stopping_patience": 3, "stages": stages}
    place = r"stages\.3\." if stages else ""
    bad = {"training": {"eval_strategy": "no"}}
    given = {**content, **bad} if not stages else {**content, "stages": [*STAGES[:2], {**STAGES[2], **bad}]}
    with pytest.raises(ValueError, match=f"`{place}training.eval_strategy` is 'no'"):
        Recipe.from_dict(given)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"model": {"target": "valence"}}, "`target` must be one of sentiment, .*'valence'"),
        ({"model": {"target": None}}, "`target` must be one of sentiment, .*None.*training loop of your own"),
        ({"model": {"target": ["emotion"]}}, "`target` must be one of sentiment"),
        ({"model": {"target": "sentiment7"}, "metric_convention": "sims"}, "sentiment7"),
        ({"training": {"metric_for_best_model": "mae"}}, "for the target 'emotion'; got 'mae'. Nearest:"),
        ({"model": {"target": "sentiment"}, "training": {"metric_for_best_model": "acc6"}}, "'acc6'.*Nearest: 'acc"),
        ({"model": {"target": "sentiment2"}, "training": {"metric_for_best_model": "f1_hs0"}}, "Nearest: 'f1_has0'"),
        ({"training": {"metric_for_best_model": 3}}, "metric_for_best_model` must be one of loss, acc6"),
        *(({"modality_dropout": value}, "`modality_dropout` must be a share") for value in (1, -0.1, True, "0.1", [])),
        ({"modality_dropout": float("nan")}, "`modality_dropout` must be a share"),
    ],
    ids=str,
)
def test_targets_and_shares_that_are_refused(content, said):
    with pytest.raises(ValueError, match=said):
        Recipe.from_dict({**BASE, **content})


@pytest.mark.parametrize("stages", [[], [STAGES[0], STAGES[2]]], ids=["one training", "stages"])
def test_a_named_checkpoint_is_of_one_training(tmp_path, stages):
    """Stages go on where they stopped; which of them a checkpoint were of, nobody could say."""
    recipe = Recipe.from_dict({**BASE, "stages": stages})
    for stage in recipe.stage_list():
        assert RunFolder(tmp_path / "new", recipe).checkpoint(stage) is None
        assert RunFolder(tmp_path / "new", recipe, "true").checkpoint(stage) is None
        said = "--resume_from_checkpoint true" if stages else "not a whole checkpoint"
        with pytest.raises(ValueError, match=said):
            RunFolder(tmp_path / "new", recipe, str(tmp_path / "checkpoint-3")).checkpoint(stage)
