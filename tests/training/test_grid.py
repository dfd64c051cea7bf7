"""Grids: what their files may say, what of it reaches the recipes, and the grids of the project."""

import json
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from configuration import CONFIG_CLASSES
from training.factory import build_model, model_of_stage, word_tokenizer
from training.grid import expand
from training.label_generation import LABEL_GENERATORS
from training.presets import corpora_of

ABLATIONS = Path(__file__).resolve().parents[2] / "recipes" / "ablations"
MEANT_FOR = {
    "sugrm_table_3": ("mosi", "context", "text_timing"),
    "sugrm_table_4": ("mosi", "context", "text_timing"),
    "mmlatch_table_2": ("mosei", "context"),
    "ucrn_table_6": ("mosi", "mosei", "context", "synthetic"),
    "delta_attention_table_2": ("mosei", "context", "synthetic"),
    "label_recovery": (None,),
}
# Trained end to end as it is, so that this variant changes nothing.
THE_SAME = {("delta_attention_table_2", "context"): [("Fused", "Fused, end to end")]}
BASE = {
    "model_type": "self_mm",
    "synthetic": {"train": 12},
    "label_generation": "self_mm",
    "normalize": ["audio"],
    "early_stopping_patience": 4,
    "model": {"fusion_size": 16, "text_size": 8},
    "training": {"seed": 7, "learning_rate": 1e-3},
}


@pytest.fixture
def write(tmp_path):
    """Writes a file of YAML and returns its path; a recipe base.yaml is there already."""

    def write(name, content):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False))
        return str(path)

    write("base.yaml", BASE)
    return write


@pytest.fixture
def variants(write):
    """The variants of one grid over base.yaml, written as YAML after `variants:`."""

    def variants(text, *overrides, argument=None, **keys):
        content = yaml.safe_dump({"recipe": "base.yaml", **keys})
        return {v.name: v for v in expand([write("grid.yaml", f"{content}variants: {text}\n")], overrides, argument)}

    return variants


# Recipes and grids


def test_recipes_are_variants_of_themselves(write, tmp_path):
    files = [tmp_path / "base.yaml", write("other.yaml", {**BASE, "label_generation": "sugrm"})]
    first, second = expand(files, ["--seed", "3"])
    assert (first.name, second.name) == ("base", "other") and first.folder == "base"
    assert first.arguments("--run_name", "x") == [str(files[0]), "--seed", "3", "--run_name", "x"]
    assert first.recipe().label_generation == "self_mm" and second.recipe().label_generation == "sugrm"
    assert first.recipe().training["seed"] == second.recipe().training["seed"] == 3
    assert first.recipe("--seed", "4").training["seed"] == 4


def test_files_and_variants_keep_their_order(write, tmp_path):
    grid = write("grid.yaml", {"recipe": "base.yaml", "variants": {"z": None, "a": {}, "m": {"model.fusion_size": 4}}})
    for order, names in (
        ([grid, tmp_path / "base.yaml"], "z a m base"),
        ([tmp_path / "base.yaml", grid], "base z a m"),
    ):
        assert [variant.name for variant in expand(order)] == names.split()


def test_a_variant_without_fields_is_the_recipe(variants):
    found = variants("{none: , empty: {}}")
    assert found["none"].recipe() == found["empty"].recipe()
    assert found["none"].recipe().model == BASE["model"] and found["none"].overrides == ()


def test_a_recipe_lies_beside_its_grid(write, tmp_path, monkeypatch):
    """Whatever the working directory is."""
    grid = write("deep/grids/grid.yaml", {"recipe": "../../base.yaml", "variants": {"a": {}}})
    absolute = write("deep/grid.yaml", {"recipe": str(tmp_path / "base.yaml"), "variants": {"b": {}}})
    monkeypatch.chdir(tmp_path / "deep")
    for variant in expand([grid, absolute]):
        assert variant.recipe().model == BASE["model"]


def test_a_variant_may_name_a_recipe_of_its_own(write, variants):
    write("other.yaml", {**BASE, "model": {"fusion_size": 99}})
    found = variants("{own: {recipe: other.yaml, model.text_size: 5}, shared: {model.text_size: 5}}")
    assert found["own"].recipe().model == {"fusion_size": 99, "text_size": 5}
    assert found["shared"].recipe().model == {"fusion_size": 16, "text_size": 5}
    assert "--recipe" not in found["own"].overrides


def test_corpus(write, variants):
    for corpus in ("one", "two"):
        write(f"{corpus}.yaml", {**BASE, "feature_sets": {"text": corpus}})
    text = "{a: {recipe: '{corpus}.yaml'}, b: {}, c: {recipe: one.yaml}}"
    for argument, default, sets in ((None, "one", "one"), ("two", "one", "two"), ("two", None, "two")):
        found = variants(text, argument=argument, **({"corpus": default} if default else {}))
        assert found["a"].recipe().feature_sets == {"text": sets}
        assert found["b"].recipe().feature_sets == {} and found["c"].recipe().feature_sets == {"text": "one"}
    with pytest.raises(ValueError, match=r"grid\.yaml.*\{corpus\}\.yaml.*--corpus"):
        variants(text)


def test_variants_without_a_recipe_for_the_corpus_are_left_out_where_the_grid_says_so(write, variants, caplog):
    write("here.yaml", BASE)
    text = "{a: {recipe: '{corpus}.yaml'}, b: {}}"
    assert list(variants(text, argument="here", where_published=True)) == ["a", "b"] and not caplog.messages
    assert list(variants(text, argument="gone", where_published=True)) == ["b"]
    assert caplog.messages == ["a is left out: there is no recipe gone.yaml."]
    assert list(variants(text, argument="gone")) == ["a", "b"]  # an error, once it is read


def test_corpus_of_a_recipe_that_names_an_architecture(write):
    path = write("short.yaml", {"architecture": "sugrm", "data_file": "x.pkl"})
    for corpus, rate in (("mosi", 1e-2), ("mosei", 1e-3)):
        (variant,) = expand([path], corpus=corpus)
        assert variant.recipe().optimizer["rest"]["learning_rate"] == rate


# Values


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model.tasks", ["M", "T"]),
        ("model.tasks", []),
        ("model.fusion_size", 24),
        ("model.fusion_dropout", 0.25),
        ("model.text_config.hidden_size", 8),
        ("optimizer.rest.learning_rate", 5e-5),
        ("optimizer.rest", {"learning_rate": 1e-7, "weight_decay": 1e22}),
        ("early_stopping_patience", None),
        ("training.run_name", "-1"),
        ("training.run_name", "5"),
        ("training.run_name", "null"),
        ("training.run_name", "no"),
        ("training.run_name", "007"),
        ("training.run_name", "2024-01-01"),
        ("training.run_name", "a: [b, 'c'] # d"),
        ("training.run_name", "Größe\tund 情感"),
        ("training.run_name", ""),
        ("training.run_name", "word " * 60),
        ("training.bf16", False),
        ("feature_sets", {"audio": "COVAREP, 74"}),
        ("label_generator.clip", False),
        ("training.run_name", "--a"),
        ("training.run_name", "1e-5"),
        ("training.run_name", "two\nlines"),
        ("stages", []),
    ],
    ids=repr,
)
def test_values_reach_the_recipe_as_they_are(write, field, value):
    """Through the command line of train.py, which reads each as YAML."""
    grid = {"recipe": "base.yaml", "variants": {"a": {field: value}}}
    (variant,) = expand([write("grid.yaml", json.dumps(grid))])  # JSON is YAML, with all strings quoted
    found = variant.recipe().to_dict()
    for key in field.split("."):
        found = found[key]
    assert found == value and type(found) is type(value)


def test_what_a_variant_does_not_name_stays(variants):
    recipe = variants("{a: {model.fusion_size: 4, early_stopping_patience: null}}")["a"].recipe()
    assert recipe.model == {"fusion_size": 4, "text_size": 8} and recipe.early_stopping_patience is None
    assert recipe.normalize == ["audio"] and recipe.training["learning_rate"] == 1e-3


def test_stages_of_variants(variants):
    heads = "{name: heads, frozen: [text_encoder], training: {max_steps: 3}}"
    stages = f"label_generation: none, stages: [{heads}, {{name: all}}]"
    found = variants(f"{{own: {{{stages}}}, more: {{{stages}, stages.all.model.fusion_dropout: 0.5}}}}")
    heads, every = found["own"].recipe().stage_list()
    assert (heads.frozen, heads.training["max_steps"], every.model) == (["text_encoder"], 3, {})
    assert found["more"].recipe().stage_list()[1].model == {"fusion_dropout": 0.5}
    with pytest.raises(ValueError, match="^lost: --stages.head must name a stage.*no stages"):
        variants("{lost: {stages.head.frozen: [x]}}")["lost"].recipe()


def test_overrides_come_after_a_variants_own(variants):
    found = variants("{a: {seed: 5, model.fusion_size: 4}, b: {}}", "--seed", "9", "--model.text_size=2")
    assert [found[name].recipe().training["seed"] for name in "ab"] == [9, 9]
    assert found["a"].recipe().model == {"fusion_size": 4, "text_size": 2}
    assert found["b"].recipe().model == {"fusion_size": 16, "text_size": 2}


# Names


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("M, T, A", "M_T_A"),
        ("Self-MM with SUGRM's labels", "Self-MM_with_SUGRM_s_labels"),
        ("a/b\\c", "a_b_c"),
        ("  v1.5  ", "v1.5"),
        ("(x)", "x"),
        ("大きい", "大きい"),
    ],
)
def test_folder_names(write, name, folder):
    (variant,) = expand([write("grid.yaml", {"recipe": "base.yaml", "variants": {name: None}})])
    assert variant.name == name and variant.folder == folder


def test_a_name_that_is_a_number_is_text(variants):
    assert list(variants("{64: {model.fusion_size: 64}}")) == ["64"]


def test_two_variants_of_one_name(write, tmp_path):
    """Of one folder, rather: their runs would lie in each other's."""
    grid = write("grid.yaml", {"recipe": "base.yaml", "variants": {"M, T": None, "M T": None}})
    again = write("again.yaml", {"recipe": "base.yaml", "variants": {"base": None}})
    base = tmp_path / "base.yaml"
    for files, name in (([grid], "M, T"), ([base, again], "base"), ([base, base], "base")):
        with pytest.raises(ValueError, match=f"Two variants are named '{name}'"):
            expand(files)


def test_the_tables_have_every_architecture():
    """Under the names that the architectures have, in every corpus for which they have recipes."""
    names = {config_class.model_type: config_class.display_name for config_class in CONFIG_CLASSES}
    names["delta_attention"] = "Delta-Attention"
    grid = ABLATIONS.parent / "tables" / "all_systems.yaml"
    for corpus in ("context", "mosi", "mosei", "sims"):
        found = {v.recipe("--data_file", "x.pkl").model_type: v.name for v in expand([grid], corpus=corpus)}
        assert found == {one: name for one, name in names.items() if corpus in corpora_of(one)}
    for variant in expand([ABLATIONS.parent / "tables" / "raw_text_systems.yaml"]):
        assert variant.recipe("--data_file", "x.pkl").text_encoder is not None


# What is refused


def test_unknown_key_of_a_grid(variants):
    with pytest.raises(ValueError, match="`recipes`.*nearest.*`recipe`"):
        variants("{a: {}}", recipes="x.yaml")


@pytest.mark.parametrize(
    ("field", "nearest"),
    [("model.fusionsize", "fusion_size"), ("label_generaton", "label_generation"), ("sed", "seed")],
)
def test_unknown_field_of_a_variant(variants, field, nearest):
    variant = variants(f"{{wide one: {{{field}: 3}}}}")["wide one"]
    with pytest.raises(ValueError, match=f"^wide one: `{field}`.*nearest.*`{nearest}`"):
        variant.recipe()


@pytest.mark.parametrize("text", ["", "{}", "[a, b]", "a"], ids=repr)
def test_variants_must_be_a_mapping(variants, text):
    with pytest.raises(ValueError, match=r"`variants` of .*grid\.yaml must be a mapping"):
        variants(text)


def test_a_grid_without_a_recipe(write):
    with pytest.raises(ValueError, match=r"grid\.yaml.*'b'.*`recipe`"):
        expand([write("grid.yaml", {"variants": {"a": {"recipe": "base.yaml"}, "b": {}}})])


def test_files_that_are_missing(write, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.yaml"):
        expand([tmp_path / "nowhere.yaml"])
    (variant,) = expand([write("grid.yaml", {"recipe": "nowhere.yaml", "variants": {"a": None}})])
    with pytest.raises(FileNotFoundError, match=r"nowhere\.yaml"):
        variant.recipe()


def test_a_file_that_is_neither(write):
    (variant,) = expand([write("list.yaml", "[1, 2]")])
    with pytest.raises(ValueError, match=r"^list: .*must hold a mapping"):
        variant.recipe()


# The grids of the project


def test_every_grid_is_meant_for_something():
    assert {path.stem for path in ABLATIONS.iterdir()} == set(MEANT_FOR)


@pytest.mark.parametrize(
    ("name", "corpus"), [(name, corpus) for name, corpora in MEANT_FOR.items() for corpus in corpora]
)
def test_grids_of_the_project(name, corpus, tmp_path):
    """Each variant is a recipe whose model can be built, with labels that it can train on; no two are the same."""
    data = () if corpus in (None, "synthetic") else ("--data_file", "x.pkl")
    found = expand([ABLATIONS / f"{name}.yaml"], data, corpus)
    assert len(found) == len(yaml.safe_load((ABLATIONS / f"{name}.yaml").read_text())["variants"])
    resolved = {}
    for variant in found:
        recipe = variant.recipe("--output_dir", str(tmp_path / variant.folder))
        assert corpus is None or variant.recipe_file.stem.endswith(f"_{corpus}")
        assert recipe.training_arguments().seed == recipe.training["seed"]
        model = build_model(recipe, stand_in(recipe))
        assert model.config.modalities == ("text", "audio", "vision"), variant.name
        start = model.config.to_dict()
        for stage in recipe.stage_list():
            model = model_of_stage(model, stage)
            recipe.training_arguments(stage)
        if recipe.label_generation in LABEL_GENERATORS:
            LABEL_GENERATORS[recipe.label_generation].check_states(model.state_sizes)
        resolved[variant.name] = (recipe.label_generation, recipe.label_generator, recipe.stages, start)
    for one, other in combinations(resolved, 2):
        same = (one, other) in THE_SAME.get((name, corpus), [])
        assert (resolved[one] == resolved[other]) == same, (one, other)


def stand_in(recipe):
    """A processor's part in building the model; in place of a pretrained encoder there is a small one, to load none."""
    sizes = {"text_feature_size": 6, "audio_feature_size": 5, "vision_feature_size": 4}
    if recipe.text_encoder is not None:
        recipe.text_encoder = None
        recipe.model["text_config"] = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    text_config = recipe.model.get("text_config")
    if text_config is None:
        return SimpleNamespace(text_input="values", **sizes)
    tokenizer = word_tokenizer(["good bad"], text_config)
    return SimpleNamespace(text_input="tokens", tokenizer=tokenizer, **{**sizes, "text_feature_size": None})


@pytest.mark.parametrize(
    ("variants", "message"),
    [
        ({"a": 5}, "variant 'a' must be a mapping"),
        ({"a": "text"}, "variant 'a' must be a mapping"),
        ({"..": None}, "must have a letter or a digit.*'..'"),
        ({"!!": None}, "must have a letter or a digit"),
    ],
)
def test_malformed_variants(tmp_path, variants, message):
    grid = tmp_path / "grid.yaml"
    grid.write_text(yaml.safe_dump({"recipe": "recipe.yaml", "variants": variants}))
    with pytest.raises(ValueError, match=message):
        expand([grid])
