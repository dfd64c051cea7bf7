"""A finished run as its folder has it, and the runs that differ from it in nothing but the seed."""

import json
import math
import shutil

import pytest
import yaml

import train
from tests.conftest import TINY_RECIPE
from tests.training.card_runs import made_run
from training import run_folder
from training.finished_run import FinishedRun
from training.run_record import without_nan

FILES = (
    "all_results.json",
    "recipe.yaml",
    "training_record.json",
    "predictions_valid.parquet",
    "predictions_test.parquet",
)
EPOCH = ("--num_train_epochs", "1", "--save_strategy", "no", "--load_best_model_at_end", "false")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a run as compare.py makes it, and what the run gave to its folder."""
    folder, given = tmp_path_factory.mktemp("finished"), []
    (folder / "recipe.yaml").write_text(yaml.safe_dump({**TINY_RECIPE, "label_generation": "none"}))
    write_card = run_folder.write_card
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_folder, "write_card", lambda place, run: (given.append(run), write_card(place, run)))
        train.main([str(folder / "recipe.yaml"), "--output_dir", str(folder / "variant" / "seed_7"), *EPOCH])
    (run,) = given
    return run.path, run


def copied(finished, place, seed, **changes):
    """A run with another seed, in `place`, whose recipe and results say so."""
    shutil.copytree(finished[0], place)
    recipe = yaml.safe_load((place / "recipe.yaml").read_text())
    recipe["training"]["seed"] = seed
    (place / "recipe.yaml").write_text(yaml.safe_dump({**recipe, **changes}))
    results = json.loads((place / "all_results.json").read_text())
    (place / "all_results.json").write_text(json.dumps({**results, "seed": seed}))
    return place


def test_a_folder_has_all_that_the_run_had(finished):
    path, run = finished
    found = FinishedRun.of_folder(str(path))
    assert found.path == path
    ours, theirs = found.config.to_dict(), run.config.to_dict()
    shared = (ours.keys() & theirs.keys()) - {"_name_or_path"}  # where it was loaded from
    assert {*run.config.field_names()} <= shared
    assert all(ours[key] == theirs[key] for key in shared)
    assert found.processor.model_input_names == run.processor.model_input_names
    assert found.processor.tokenizer.get_vocab() == run.processor.tokenizer.get_vocab()
    assert found.recipe.to_dict() == run.recipe.to_dict()
    assert found.results == without_nan(run.results) and found.results["seed"] == 7
    assert found.record == without_nan(run.record) and found.record["stages"][0]["epochs"] == 1
    for split in ("valid", "test"):
        assert found.predictions[split].equals(run.predictions[split]) and len(found.predictions[split]) == 16
    assert found.target == run.recipe.target and found.selection == "mae"
    assert found.metric("test", "mae") == run.results["test_mae"]
    assert found.metric("test", "acc99") is None


def test_undefined_results_are_none(finished, tmp_path):
    path = copied(finished, tmp_path / "run", 7)
    results = json.loads((path / "all_results.json").read_text())
    (path / "all_results.json").write_text(json.dumps({**results, "test_corr": None}))
    assert FinishedRun.of_folder(path).metric("test", "corr") is None


@pytest.mark.parametrize("missing", [[name] for name in FILES] + [list(FILES)])
def test_missing_files_are_named(finished, tmp_path, missing):
    path = copied(finished, tmp_path / "run", 7)
    for name in missing:
        (path / name).unlink()
    with pytest.raises(ValueError, match="not the folder of a finished run") as caught:
        FinishedRun.of_folder(path)
    assert all((name in str(caught.value)) == (name in missing) for name in FILES)
    assert "--resume_from_checkpoint" in str(caught.value) and str(path) in str(caught.value)


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match=r"nowhere is not the folder of a finished run.*are missing"):
        FinishedRun.of_folder(tmp_path / "nowhere")


def test_seeds_are_the_same_recipe_with_other_seeds_by_seed(finished, tmp_path):
    for seed in (100, 7, 20):
        copied(finished, tmp_path / f"seed_{seed}", seed)
    copied(finished, tmp_path / "seed_8", 8, modality_dropout=0.5)  # another recipe
    copied(finished, tmp_path / "best", 9)  # no name of a run among others
    for number, name in enumerate(("all_results.json", "training_record.json")):
        unfinished = copied(finished, tmp_path / f"seed_3{number}", 30 + number)
        (unfinished / name).unlink()
    (tmp_path / "seed_40").mkdir()
    (tmp_path / "seed_50").write_text("a file")
    for seed in (100, 7, 20):
        run = FinishedRun.of_folder(tmp_path / f"seed_{seed}")
        found = run.seeds()
        assert [one.results["seed"] for one in found] == [7, 20, 100]
        assert [one.path for one in found] == [tmp_path / f"seed_{seed}" for seed in (7, 20, 100)]
        assert run in found
    for name, seed in (("seed_8", 8), ("best", 9)):
        assert [one.results["seed"] for one in FinishedRun.of_folder(tmp_path / name).seeds()] == [seed]


@pytest.mark.parametrize("lost", ["predictions_test.parquet", "recipe.yaml", "config.json"])
def test_a_broken_run_beside_it_is_none_of_its_seeds(finished, tmp_path, lost):
    """A training of hours must not end in an error because of another one's folder."""
    path = copied(finished, tmp_path / "seed_7", 7)
    (copied(finished, tmp_path / "seed_8", 8) / lost).unlink()
    assert [one.results["seed"] for one in FinishedRun.of_folder(path).seeds()] == [7]


def test_a_run_that_ends_knows_those_that_ended_before(finished, tmp_path):
    """Its own results are not there yet when its card is written."""
    recipe = str(finished[0].parent.parent / "recipe.yaml")
    for seed in (1, 2):
        train.main([recipe, "--output_dir", str(tmp_path / f"seed_{seed}"), "--seed", str(seed), *EPOCH])
    cards = {seed: (tmp_path / f"seed_{seed}" / "README.md").read_text() for seed in (1, 2)}
    assert "test, 2 seeds" in cards[2] and "| **2**, this checkpoint |" in cards[2]
    assert "seeds" not in cards[1]


# Which run of several is the best on the validation split.


def test_an_error_ranks_by_how_low_it_is(tmp_path):
    low, high = (made_run(tmp_path, results={"valid_mae": value, "test_mae": 1 - value}) for value in (0.5, 0.7))
    assert low.selection == "mae" and low.selection_rank < high.selection_rank


def test_a_share_ranks_by_how_high_it_is(tmp_path):
    low, high = (made_run(tmp_path, "emotions", results={"valid_wa_avg": value}) for value in (0.5, 0.7))
    assert low.selection == "wa_avg" and high.selection_rank < low.selection_rank


def test_the_metric_is_that_of_the_last_stage(tmp_path):
    stages = [{"name": "one"}, {"name": "two", "training": {"metric_for_best_model": "eval_acc7"}}]
    recipe = {"stages": stages, "training": {"metric_for_best_model": "corr", "seed": 1}}
    results = [{"valid_acc7": 0.2, "valid_corr": 0.9, "valid_mae": 0.1}, {"valid_acc7": 0.4, "valid_corr": 0.1}]
    worse, better = (made_run(tmp_path, recipe=recipe, results=one) for one in results)
    assert better.selection == "acc7" and better.selection_rank < worse.selection_rank


@pytest.mark.parametrize("metric", ["loss", "eval_loss", None])
def test_what_is_no_result_ranks_nothing(tmp_path, metric):
    """The validation loss is not among the results: the target's own metric ranks."""
    training = {"seed": 1, "metric_for_best_model": metric, "load_best_model_at_end": False}
    low, high = (
        made_run(tmp_path, recipe={"training": training}, results={"valid_mae": value}) for value in (0.5, 0.7)
    )
    assert low.selection_rank < high.selection_rank


@pytest.mark.parametrize("value", [None, math.nan])
def test_a_run_without_the_metric_is_the_last(tmp_path, value):
    defined, undefined = (made_run(tmp_path, results={"valid_mae": one}) for one in (0.9, value))
    assert min([undefined, defined], key=lambda run: run.selection_rank) is defined
