"""The space of a search, and how a trial is judged."""

import math
from types import SimpleNamespace

import optuna
import pytest

from tests.conftest import TINY_RECIPE
from training.recipe import Recipe
from training.search import SearchTrainer, storage_url
from training.search_space import Choice, Range, Space, with_values

RATE = {"low": 1e-4, "high": 1e-2, "log": True}


def recipe_of(search, **changes):
    return Recipe.from_dict({**TINY_RECIPE, **changes, "search": search})


def refused(search, **changes):
    with pytest.raises(ValueError) as caught:
        Space(recipe_of(search, **changes))
    return str(caught.value)


def drawn(space, count=200):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    return [space.suggest(study.ask()) for _ in range(count)]


@pytest.fixture(autouse=True)
def quiet():
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def test_values_lie_where_the_space_says():
    space = Space(
        recipe_of(
            {
                "training.learning_rate": RATE,
                "modality_dropout": {"low": 0, "high": 0.4, "step": 0.1},
                "training.per_device_train_batch_size": {"low": 4, "high": 12, "step": 4},
                "model": {"fusion_size": {"choices": [8, 16]}, "tasks": {"choices": [["M"], ["M", "T"]]}},
                "early_stopping_patience": {"choices": [None, 2]},
                "model.text_config.hidden_size": {"low": 8, "high": 10},
            }
        )
    )
    found = drawn(space)
    rates = [values["training.learning_rate"] for values in found]
    assert all(1e-4 <= rate <= 1e-2 for rate in rates)
    assert 0.3 < sum(rate < 1e-3 for rate in rates) / len(rates) < 0.7  # half of them below the geometric mean

    def of(field):
        return sorted({repr(values[field]) for values in found})

    assert {round(values["modality_dropout"], 6) for values in found} == {0, 0.1, 0.2, 0.3, 0.4}
    assert of("training.per_device_train_batch_size") == ["12", "4", "8"]
    assert of("model.text_config.hidden_size") == ["10", "8", "9"]
    assert of("model.fusion_size") == ["16", "8"]
    assert of("model.tasks") == ["['M', 'T']", "['M']"]
    assert of("early_stopping_patience") == ["2", "None"]


def test_values_are_filled_into_the_recipe_and_nothing_else_changes():
    recipe = recipe_of({"training.learning_rate": RATE}, optimizer={"rest": {"weight_decay": 0.1}})
    before = recipe.to_dict()
    values = {"training.learning_rate": 2e-3, "optimizer.rest.learning_rate": 3e-3, "model.text_config.hidden_size": 4}
    changed = with_values(recipe, values).to_dict()
    assert changed["training"].pop("learning_rate") == 2e-3
    assert changed["optimizer"] == {"rest": {"weight_decay": 0.1, "learning_rate": 3e-3}}
    assert changed["model"]["text_config"].pop("hidden_size") == 4
    assert recipe.to_dict() == before
    before["training"].pop("learning_rate")
    before["model"]["text_config"].pop("hidden_size")
    assert {**changed, "optimizer": None} == {**before, "optimizer": None}


def test_the_recipes_own_values_are_those_that_are_given_and_the_defaults():
    recipe = recipe_of(
        {
            "training.learning_rate": RATE,
            "training.warmup_steps": {"low": 1, "high": 9},
            "optimizer.rest.learning_rate": RATE,
            "optimizer.rest.weight_decay": {"low": 0.0, "high": 0.1},
            "optimizer.text_encoder.learning_rate": RATE,
            "model.fusion_size": {"choices": [8, 16]},
            "model.audio_hidden_size": {"choices": [16, 32]},
            "model.fusion_dropout": {"low": 0.0, "high": 0.5},
            "model.tasks": {"choices": [["M"], ["M", "T", "A", "V"]]},
            "model.text_config.hidden_dropout_prob": {"low": 0.0, "high": 0.5},
            "modality_dropout": {"low": 0.0, "high": 0.4, "step": 0.2},
        },
        optimizer={"rest": {"weight_decay": 0.05}, "text_encoder": {"learning_rate": 0.5}},
    )
    space = Space(recipe)
    own = space.own_values(recipe)
    assert own == {
        "training.learning_rate": 1e-3,
        "training.warmup_steps": 0,
        "optimizer.rest.learning_rate": 1e-3,  # that of the training section
        "optimizer.rest.weight_decay": 0.05,
        "optimizer.text_encoder.learning_rate": 0.5,
        "model.fusion_size": 16,
        "model.audio_hidden_size": 8,
        "model.fusion_dropout": 0.1,
        "model.tasks": None,
        "modality_dropout": 0.0,
    }
    inside = space.own_parameters(recipe)
    outside = {
        "training.warmup_steps",
        "optimizer.text_encoder.learning_rate",
        "model.audio_hidden_size",
        "model.tasks",
    }
    assert set(own) - set(inside) == outside
    assert inside["modality_dropout"] == 0.0
    assert space.values(inside)["model.fusion_size"] == 16


@pytest.mark.parametrize(
    ("content", "value", "parameter"),
    [
        ({"low": 1, "high": 5}, 3.0, 3),
        ({"low": 1, "high": 5}, 2.5, None),
        ({"low": 1, "high": 5}, 6, None),
        ({"low": 1, "high": 5}, True, None),
        ({"low": 1, "high": 5}, None, None),
        ({"low": 0.0, "high": 0.9, "step": 0.3}, 0.6, 0.6),
        ({"low": 0.0, "high": 0.9, "step": 0.3}, 0.5, None),
        ({"low": 1e-4, "high": 1e-1, "log": True}, 1e-4, 1e-4),
        ({"low": 1e-4, "high": 1e-1, "log": True}, math.nan, None),
    ],
)
def test_which_values_lie_in_a_range(content, value, parameter):
    assert Range("training.learning_rate", **content).parameter(value) == parameter


def test_choices_that_optuna_cannot_store_come_back_as_they_were():
    choice = Choice("normalize", [[], ["audio"], ["audio", "vision"]])
    for value in choice.choices:
        parameter = choice.parameter(value)
        assert isinstance(parameter, str)
        assert choice.value(parameter) == value
    assert choice.parameter(["text"]) is None


def test_a_later_nested_field_replaces_a_dotted_one():
    """As `--search.training.learning_rate "{...}"` on the command line does."""
    space = Space(recipe_of({"training.learning_rate": RATE, "training": {"learning_rate": {**RATE, "low": 1e-3}}}))
    assert space.dimensions == [Range("training.learning_rate", 1e-3, 1e-2, True)]


@pytest.mark.parametrize(
    ("field", "nearest"),
    [
        ("training.learning_rat", "learning_rate"),
        ("model.fusion_sise", "fusion_size"),
        ("model.text_config.hidden_sise", "hidden_size"),
        ("optimizer.rst.learning_rate", "rest"),
        ("optimizer.rest.learning_rates", "learning_rate"),
        ("modality_dropouts", "modality_dropout"),
        ("label_generator.warm", "label_generator.warm"),
    ],
)
def test_unknown_fields(field, nearest):
    message = refused({field: {"choices": [0.1, 0.2]}})
    assert field.rpartition(".")[2] in message
    assert nearest in message


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (0.1, ["must be a mapping", "0.1"]),
        ({"low": 1e-4}, ["both `low` and `high`"]),
        ({"low": 1e-4, "hig": 1e-2}, ["hig", "high"]),
        ({"low": 1e-2, "high": 1e-4}, ["`low` below `high`"]),
        ({"low": 1e-2, "high": 1e-2}, ["`low` below `high`"]),
        ({"low": "a", "high": 1e-2}, ["finite number", "'a'"]),
        ({"low": True, "high": 2}, ["finite number", "True"]),
        ({"low": 0.1, "high": math.inf}, ["finite number", "inf"]),
        ({"low": 0.0, "high": 1e-2, "log": True}, ["logarithm"]),
        ({"low": 1e-4, "high": 1e-2, "log": "yes"}, ["true or false"]),
        ({"low": 0.1, "high": 0.4, "step": 0.1, "log": True}, ["exclude each other"]),
        ({"low": 0.1, "high": 0.5, "step": 0.3}, ["divides"]),
        ({"low": 0.1, "high": 0.5, "step": 0.0}, ["divides"]),
        ({"low": 0.1, "high": 0.5, "step": -0.1}, ["divides"]),
        ({"choices": [1e-3]}, ["at least two"]),
        ({"choices": [1e-3, 1e-3]}, ["no two the same"]),
        ({"choices": 1e-3}, ["a list"]),
        ({"choices": [1e-3, 1e-2], "low": 1e-3}, ["exclude each other"]),
        ({"choices": [1e-3, "fast"]}, ["does not take 'fast'"]),
    ],
)
def test_bad_ranges(content, words):
    message = refused({"training.learning_rate": content})
    assert "search.training.learning_rate" in message
    for word in words:
        assert word in message


def test_ends_that_the_recipe_refuses():
    assert "-0.1" in refused({"optimizer.rest.weight_decay": {"low": -0.1, "high": 0.1}})
    assert "modality_dropout" in refused({"modality_dropout": {"low": 0.0, "high": 1.0}})
    assert "self_mmm" in refused({"label_generation": {"choices": ["none", "self_mmm"]}})


@pytest.mark.parametrize(
    "field",
    ["synthetic.seed", "model.target", "metric_convention", "training.metric_for_best_model", "training.seed"]
    + ["training.output_dir", "stages", "model_type", "model", "training", "data_file"],
)
def test_what_decides_by_what_trials_are_judged_is_not_searched(field):
    assert "cannot be searched" in refused({field: {"choices": [1, 2]}})


def test_a_recipe_without_a_space():
    assert "`search`" in refused({})
    with pytest.raises(ValueError, match="`search` must be a mapping"):
        recipe_of(["training.learning_rate"])


@pytest.mark.parametrize(
    ("greater", "values", "best"),
    [
        (False, [3.0, 2.0, 2.5, 1.0], [3.0, 2.0, 2.0, 1.0]),
        (True, [3.0, 2.0, 2.5, 4.0], [3.0, 3.0, 3.0, 4.0]),
        (True, [math.nan, 2.0, math.nan, 3.0], [math.nan, 2.0, 2.0, 3.0]),
    ],
)
def test_a_trial_is_worth_its_best_epoch(greater, values, best):
    trainer = SearchTrainer.__new__(SearchTrainer)
    trainer.args = SimpleNamespace(metric_for_best_model="eval_mae", greater_is_better=greater)
    found = [trainer.best_so_far({"eval_mae": value, "eval_loss": 0.0}) for value in values]
    assert found == pytest.approx(best, nan_ok=True)


def test_folders_with_odd_names(tmp_path):
    folder = tmp_path / "a {b} %41 what? #1 + é"
    folder.mkdir()
    optuna.create_study(storage=storage_url(folder / "trials.db"))
    assert (folder / "trials.db").exists()
