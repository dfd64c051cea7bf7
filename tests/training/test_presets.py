"""Recipes that name an architecture: whose settings they get, and what they may change."""

import json
import pickle

import pytest
import yaml

from configuration import CONFIG_CLASSES
from datasets_scripts.corpora import standard_folds
from tests.conftest import make_mmsa_content
from training.presets import RECIPES, corpora_of
from training.recipe import Recipe, load_yaml


@pytest.fixture
def recipe_of(tmp_path):
    def read(content, *arguments):
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump(content))
        return Recipe.from_command_line([str(path), *arguments])

    return read


def same(recipe, name, *arguments):
    expected = Recipe.from_command_line([str(RECIPES / f"{name}.yaml"), *arguments])
    return recipe.to_dict() == expected.to_dict()


@pytest.mark.parametrize("corpus", ["mosi", "mosei", "context"])
def test_architecture_and_corpus(recipe_of, corpus):
    recipe = recipe_of({"architecture": "ucrn", "corpus": corpus, "data_file": "x.pkl"})
    assert same(recipe, f"ucrn_{corpus}", "--data_file", "x.pkl")


def test_synthetic_corpus_is_what_there_is_without_a_file(recipe_of):
    assert same(recipe_of({"architecture": "mmlatch"}), "mmlatch_synthetic")


def test_the_command_line_says_it_too(recipe_of):
    arguments = ["--architecture", "sugrm", "--corpus=mosei", "--data_file", "x.pkl", "--seed", "5"]
    assert same(recipe_of({}, *arguments), "sugrm_mosei", "--data_file", "x.pkl", "--seed", "5")


def test_own_settings_come_on_top(recipe_of):
    content = {
        "architecture": "self_mm",
        "corpus": "mosi",
        "data_file": "x.pkl",
        "model": {"fusion_size": 7},
        "optimizer": {"rest": {"learning_rate": 0.5}},
    }
    recipe = recipe_of(content, "--training.seed", "9", "--num_train_epochs", "2")
    preset = load_yaml(RECIPES / "self_mm_mosi.yaml")
    assert recipe.model == {**preset["model"], "fusion_size": 7}
    assert recipe.optimizer["rest"] == {**preset["optimizer"]["rest"], "learning_rate": 0.5}
    assert recipe.optimizer["text_encoder"] == preset["optimizer"]["text_encoder"]
    assert (recipe.training["seed"], recipe.training["num_train_epochs"]) == (9, 2)
    size = preset["training"]["per_device_train_batch_size"]
    assert recipe.training["per_device_train_batch_size"] == size


def test_stages_of_the_preset_can_be_changed(recipe_of):
    content = {"architecture": "delta_attention", "corpus": "synthetic"}
    first = load_yaml(RECIPES / "delta_attention_synthetic.yaml")["stages"][0]["name"]
    recipe = recipe_of(content, f"--stages.{first}.training.num_train_epochs", "1")
    assert recipe.stages[0]["training"]["num_train_epochs"] == 1


def test_a_text_encoder_takes_the_place_of_text_features(recipe_of):
    arguments = ["--data_file", "x.pkl", "--corpus", "mosi"]
    assert recipe_of({"architecture": "ucrn"}, *arguments).text == "text_values"
    recipe = recipe_of({"architecture": "ucrn"}, *arguments, "--text_encoder", "some/encoder")
    assert recipe.text is None and recipe.text_encoder == "some/encoder"


@pytest.mark.parametrize("known", [True, False])
def test_corpus_is_recognised_by_its_ids(recipe_of, tmp_path, monkeypatch, known):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    content = make_mmsa_content()
    videos = {split: [v for v, s in standard_folds("mosi").items() if s == split] for split in content}
    for name, split in content.items():
        rows = range(len(split["id"]))
        split["id"] = [f"{videos[name][i % len(videos[name])] if known else f'own{name}'}$_${i}" for i in rows]
    (tmp_path / "data.pkl").write_bytes(pickle.dumps(content))
    arguments = ["--data_file", str(tmp_path / "data.pkl")]
    if known:
        recipe, own = recipe_of({"architecture": "sugrm"}, *arguments), {"audio": "mine (4)"}
        assert recipe.feature_sets == {}  # ids do not say how features were extracted
        recipe.feature_sets = load_yaml(RECIPES / "sugrm_mosi.yaml")["feature_sets"]
        assert same(recipe, "sugrm_mosi", *arguments)
        assert recipe_of({"architecture": "sugrm", "feature_sets": own}, *arguments).feature_sets == own
    else:
        with pytest.raises(ValueError, match="no known corpus.*sugrm for context, mosei, mosi.*`corpus`"):
            recipe_of({"architecture": "sugrm"}, *arguments)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"architecture": "sugrn"}, "`architecture` must be one of .*sugrm.* got 'sugrn'"),
        ({"architecture": "self"}, "`architecture` must be one of"),
        ({"architecture": "sugrm", "corpus": "sims"}, "`corpus` is 'sims', but .*sugrm for context, mosei, mosi"),
        ({"corpus": "mosi", "model_type": "sugrm"}, "`corpus` says whose settings"),
        ({"architecture": "sugrm", "model_type": "sugrm"}, "give one of them"),
        ({"architecture": "sugrm", "corpus": "mosi", "data_file": "x", "trianing": {}}, "`trianing`.*`training`"),
    ],
)
def test_what_is_refused(recipe_of, content, message):
    with pytest.raises(ValueError, match=message):
        recipe_of(content)


def test_every_architecture_has_settings_and_every_recipe_an_architecture():
    names = {path.stem for path in RECIPES.glob("*_*.yaml")}
    architectures = [config_class.model_type for config_class in CONFIG_CLASSES]
    found = {f"{one}_{corpus}" for one in architectures for corpus in corpora_of(one)}
    assert found == names
    for one in architectures:
        assert "context" in corpora_of(one), one
        for corpus in corpora_of(one):
            assert load_yaml(RECIPES / f"{one}_{corpus}.yaml")["model_type"] == one


def test_a_finished_run_keeps_the_settings_and_not_the_name(recipe_of):
    recipe = recipe_of({"architecture": "sugrm", "corpus": "mosi", "data_file": "x.pkl"})
    written = recipe.to_dict()
    assert "architecture" not in written and written["model_type"] == "sugrm"
    assert Recipe.from_dict(json.loads(json.dumps(written))) == recipe
