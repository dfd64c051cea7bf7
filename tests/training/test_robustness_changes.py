"""What robustness.py does to rows, by loops of their own; and which runs and conditions it finds."""

import copy
from itertools import combinations
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from datasets import Dataset
from transformers import BertConfig

from configuration import UcrnConfig
from datasets_scripts import MODALITIES
from datasets_scripts.schema import row_features
from processing.feature_noise import Noise, noise_tokens
from training.factory import word_tokenizer
from training.robustness import (
    FULL,
    Evaluation,
    Run,
    conditions,
    feature_deviations,
    find_runs,
    load_common_data,
    remove,
)
from training.targets import Target

WIDTHS = {"text": 5, "audio": 4, "vision": 3}
WORDS = ["the", "plot", "was", "great", "and", "cast", "is", "good", "but", "pace", "felt", "slow"]
DEVIATIONS = {m: np.arange(1, width + 1) * 0.5 for m, width in WIDTHS.items()}


def make_row(steps=40, seed=0):
    random = np.random.default_rng(seed)
    values = {f"{m}_values": random.normal(size=(steps, w)).astype(np.float32) for m, w in WIDTHS.items()}
    return {"id": "a", "label": np.float32(1), "length": 3 * steps, **values}


def same(row, other):
    assert row.keys() == other.keys()
    for name, value in row.items():
        np.testing.assert_array_equal(value, other[name])
        assert np.asarray(value).dtype == np.asarray(other[name]).dtype


@pytest.fixture
def tokenizer():
    return word_tokenizer([" ".join(WORDS)], {})


@pytest.fixture
def token_row(tokenizer):
    """[CLS], 4000 words with unknown ones among them, [SEP]."""
    words = np.random.default_rng(1).choice([*WORDS, "zyzzyva"], 4000)
    ids = tokenizer(" ".join(words))["input_ids"]
    assert tokenizer.unk_token_id in ids
    return {"id": "a", "input_ids": np.array(ids), "token_type_ids": np.zeros(len(ids), np.int64)}


# Removal


@pytest.mark.parametrize("modalities", [c for n in range(4) for c in combinations(MODALITIES, n)], ids="+".join)
def test_removed_sequences_are_empty_and_the_rest_stays(modalities):
    row = make_row()
    before = copy.deepcopy(row)
    changed = remove(row, modalities)
    same(row, before)
    assert changed.keys() == row.keys()
    for name, value in row.items():
        modality = name.removesuffix("_values")
        if modality in modalities:
            assert changed[name].shape == (0, WIDTHS[modality]) and changed[name].dtype == np.float32
        else:
            assert changed[name] is value


@pytest.mark.parametrize("kind", [np.array, list])
def test_removed_tokens(kind):
    row = {"id": "a", "input_ids": kind([2, 7, 3]), "token_type_ids": kind([0, 1, 1]), "audio_values": np.ones((2, 4))}
    changed = remove(row, ["text", "vision"])  # there is no vision, whose column is not made up
    assert changed.keys() == row.keys() and len(row["input_ids"]) == 3
    assert len(changed["input_ids"]) == len(changed["token_type_ids"]) == 0
    assert changed["audio_values"] is row["audio_values"]


# Noise on features


@pytest.mark.parametrize("probability", [0.1, 0.5, 0.9])
def test_noise_adds_a_deviation_with_its_probability(probability):
    row = make_row(4000)
    before = copy.deepcopy(row)
    changed = Noise(DEVIATIONS, seed=3)(7, row, MODALITIES, probability)
    same(row, before)
    for modality, width in WIDTHS.items():
        values = changed[f"{modality}_values"]
        assert values.dtype == np.float32 and values.shape == (4000, width)
        hits = np.zeros((4000, width))
        for step in range(4000):
            for feature in range(width):
                added = float(values[step, feature]) - float(row[f"{modality}_values"][step, feature])
                hits[step, feature] = added / DEVIATIONS[modality][feature]
        np.testing.assert_allclose(hits, np.rint(hits), atol=1e-5)  # all of it or nothing
        hits = np.rint(hits)
        assert set(np.unique(hits)) == {0, 1}
        spread = 4 * np.sqrt(probability * (1 - probability) / 4000)
        np.testing.assert_allclose(hits.mean(axis=0), probability, atol=spread)  # of every feature
        # Steps and features are drawn on their own: no two features, and no two steps in a row, go together.
        related = np.corrcoef(np.concatenate([hits[1:], hits[:-1]], axis=1).T) - np.eye(2 * width)
        assert np.abs(related).max() < 4.5 / np.sqrt(4000)
    assert all(changed[name] is row[name] for name in ("id", "label", "length"))


def test_noise_that_is_never_or_always_there():
    row = make_row()
    noise = Noise(DEVIATIONS)
    same(noise(0, row, MODALITIES, 0.0), row)
    always = noise(0, row, MODALITIES, 1.0)
    for modality in MODALITIES:
        expected = row[f"{modality}_values"] + DEVIATIONS[modality].astype(np.float32)
        np.testing.assert_array_equal(always[f"{modality}_values"], expected)


def test_a_higher_probability_changes_what_a_lower_one_does_and_more():
    row = make_row()
    hits = [Noise(DEVIATIONS)(0, row, ["audio"], p)["audio_values"] != row["audio_values"] for p in (0.2, 0.6)]
    assert hits[1][hits[0]].all() and hits[1].sum() > hits[0].sum() > 0


def test_noise_is_of_the_seed_the_row_and_the_modality_alone():
    row = make_row()
    row["vision_values"] = row["audio_values"].copy()
    noise = Noise({**DEVIATIONS, "vision": DEVIATIONS["audio"]}, seed=5)
    first = noise(3, row, MODALITIES, 0.5)
    for position in (9, 0, 3):
        again = noise(position, row, MODALITIES, 0.5)  # whatever came before
    same(again, first)
    alone = noise(3, row, ["vision"], 0.5)
    np.testing.assert_array_equal(alone["vision_values"], first["vision_values"])
    assert alone["audio_values"] is row["audio_values"]
    other = Noise(noise.deviations, seed=6)
    for changed in (noise(4, row, ["audio"], 0.5), other(3, row, ["audio"], 0.5)):
        assert (changed["audio_values"] != first["audio_values"]).mean() > 0.3
    assert (first["audio_values"] != first["vision_values"]).mean() > 0.3


def test_noise_on_a_row_without_the_modality():
    row = remove(make_row(), ["audio"])
    assert Noise(DEVIATIONS)(0, row, ["audio"], 1.0)["audio_values"].shape == (0, 4)


# Deviations


@pytest.fixture
def rows():
    random = np.random.default_rng(2)
    steps = [3, 0, 7, 1]
    values = [random.normal([1e6, 0, 3, -2], [1, 5, 0, 1e-3], size=(n, 4)).astype(np.float32) for n in steps]
    features = row_features(audio_feature_size=4)
    columns = {"id": list("abcd"), "text": [""] * 4, "audio_values": values, "label": [0.0] * 4}
    return values, Dataset.from_dict(columns, features=features).with_format("numpy")


def test_deviations_are_over_all_steps(rows):
    values, dataset = rows
    found = feature_deviations(dataset, "audio")
    every = [[float(row[step, feature]) for row in values for step in range(len(row))] for feature in range(4)]
    for feature, numbers in enumerate(every):
        mean = sum(numbers) / len(numbers)
        by_hand = (sum((number - mean) ** 2 for number in numbers) / len(numbers)) ** 0.5
        assert found[feature] == pytest.approx(by_hand, rel=1e-9, abs=1e-15)
    assert found[2] == 0 and (found[[0, 1, 3]] > 0).all()  # a constant one gets no noise


def test_deviations_of_nothing(rows):
    with pytest.raises(ValueError, match="No sample of the split has audio"):
        feature_deviations(rows[1].select([1]), "audio")


# Noise on tokens


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_tokens_are_replaced_but_for_special_ones(tokenizer, token_row, probability):
    before = copy.deepcopy(token_row)
    changed = Noise({}, tokenizer=tokenizer)(0, token_row, ["text"], probability)
    same(token_row, before)
    assert changed["token_type_ids"] is token_row["token_type_ids"]
    old, new = token_row["input_ids"].tolist(), changed["input_ids"].tolist()
    assert len(new) == len(old) and (new[0], new[-1]) == (tokenizer.cls_token_id, tokenizer.sep_token_id)
    replaced = [after != token for token, after in zip(old[1:-1], new[1:-1], strict=True)]
    assert all(after == tokenizer.mask_token_id for after, hit in zip(new[1:-1], replaced, strict=True) if hit)
    share = sum(replaced) / len(replaced)
    assert share == pytest.approx(probability, abs=4 * (probability * (1 - probability) / 4000) ** 0.5)


def test_without_a_mask_token_it_is_the_unknown_one(tokenizer, token_row):
    tokenizer.mask_token = None
    changed = Noise({}, tokenizer=tokenizer)(0, token_row, ["text"], 1.0)["input_ids"]
    assert set(changed[1:-1].tolist()) == {tokenizer.unk_token_id}


def test_an_unknown_token_that_also_ends_texts_stays(tokenizer):
    tokenizer.unk_token = tokenizer.sep_token
    assert tokenizer.sep_token_id in noise_tokens(tokenizer)[1]


def test_a_tokenizer_with_neither(tokenizer):
    tokenizer.mask_token = tokenizer.unk_token = None
    with pytest.raises(ValueError, match=r"mask token or an unknown token.*neither; leave noise out"):
        Noise({}, tokenizer=tokenizer)


# Conditions


def names(modalities, probabilities=()):
    return [condition.name for condition in conditions(modalities, probabilities)]


def test_conditions_of_three_modalities():
    found = conditions(MODALITIES, [0.5, 0.25, 0.5])
    assert [condition.name for condition in found] == [
        "all modalities",
        "only text+audio",
        "only text+vision",
        "only audio+vision",
        "only text",
        "only audio",
        "only vision",
        *(f"noise {p} on {m}" for p in ("0.25", "0.5") for m in ("all", *MODALITIES)),
    ]
    assert [c.kept for c in found[:7]] == [MODALITIES, *combinations(MODALITIES, 2), *((m,) for m in MODALITIES)]
    assert [c.noisy for c in found[:7]] == [()] * 7
    assert all(c.kept == MODALITIES for c in found[7:])
    assert [c.noisy for c in found[7:]] == 2 * [MODALITIES, ("text",), ("audio",), ("vision",)]
    assert [c.probability for c in found] == [0.0] * 7 + [0.25] * 4 + [0.5] * 4
    assert len({c.kind for c in found}) == 4
    assert sorted(found[5:] + found[:5], key=lambda condition: condition.order) == found


def test_conditions_of_fewer():
    assert names(("text", "vision"), [1.0]) == [
        FULL,
        "only text",
        "only vision",
        *(f"noise 1 on {m}" for m in ("all", "text", "vision")),
    ]
    assert names(("audio",), [0.5]) == [FULL, "noise 0.5 on all"]
    assert names(("audio",)) == [FULL]


# Runs


@pytest.fixture
def checkpoint(tmp_path):
    """A folder with a configuration and, perhaps, a recipe."""

    def make(name, target="sentiment", **recipe):
        folder = tmp_path / name
        UcrnConfig(target=target, text_feature_size=3, audio_feature_size=2, vision_feature_size=2).save_pretrained(
            folder
        )
        if recipe:
            content = {"model_type": "ucrn", "model": {"target": target}, **recipe}
            (folder / "recipe.yaml").write_text(yaml.safe_dump(content))
        return folder

    return make


def grouped(folders):
    return [(run.group, run.path.name) for run in find_runs(folders)[0]]


def test_a_checkpoint_is_its_own_group(checkpoint, monkeypatch, tmp_path):
    folders = [checkpoint("a"), checkpoint("b")]
    assert grouped(folders) == [("a", "a"), ("b", "b")]
    assert grouped([folders[0], folders[0]]) == [("a", "a")]  # no run counts twice
    assert [run.label for run in find_runs(folders)[0]] == ["a", "b"]
    monkeypatch.chdir(folders[1])
    assert grouped([".", "../a"]) == [("b", "b"), ("a", "a")]


def test_seeds_of_one_parent_are_a_group(checkpoint):
    folders = [checkpoint(f"x/{name}") for name in ("seed_1", "seed_2", "seed_b")]
    assert grouped(folders) == [("x", "seed_1"), ("x", "seed_2"), ("seed_b", "seed_b")]
    assert find_runs(folders)[0][0].label == "x, seed_1"


def test_a_folder_of_compare(checkpoint, tmp_path):
    for name in ("b/seed_10", "b/seed_9", "a/seed_1", "a/other", "b/seed_9/checkpoint-3", "a/seed_1x"):
        checkpoint(f"out/{name}")
    (tmp_path / "out" / "a" / "seed_1.log").write_text("")
    (tmp_path / "out" / "a" / "seed_2" / "checkpoint-3").mkdir(parents=True)
    runs, unfinished = find_runs([tmp_path / "out"])
    assert [(run.group, run.path.name) for run in runs] == [("a", "seed_1"), ("b", "seed_9"), ("b", "seed_10")]
    assert unfinished == [tmp_path / "out" / "a" / "seed_2"]
    assert grouped([tmp_path / "out" / "b"]) == [("b", "seed_9"), ("b", "seed_10")]


def test_groups_of_one_name_get_longer_ones(checkpoint):
    folders = [checkpoint(f"{name}/seed_1") for name in ("x/ucrn", "y/ucrn", "y/other")]
    assert [group for group, _ in grouped(folders)] == ["x/ucrn", "y/ucrn", "y/other"]


def test_a_folder_that_is_no_checkpoint(tmp_path, checkpoint):
    (tmp_path / "empty" / "deep").mkdir(parents=True)
    for folder, what in (("empty", r"has no config\.json and no such runs"), ("nowhere", "is no folder")):
        with pytest.raises(ValueError, match=rf"FOLDER must be a checkpoint.*{folder} {what}.*Give a run's folder"):
            find_runs([checkpoint("a"), tmp_path / folder])
    BertConfig().save_pretrained(tmp_path / "bert")
    with pytest.raises(ValueError, match=r"of this collection; .*bert holds one of BertConfig"):
        find_runs([tmp_path / "bert"])


@pytest.mark.parametrize(
    ("first", "second"),
    [({"target": "sentiment"}, {"target": "sentiment7"}), ({}, {"synthetic": {}, "metric_convention": "sims"})],
    ids=["target", "convention"],
)
def test_runs_of_different_targets(checkpoint, first, second):
    with pytest.raises(ValueError, match=r"one target and one metric convention.*/a has.*/b has.*one after the other"):
        find_runs([checkpoint("a", **first), checkpoint("b", **second)])


def test_the_convention_is_the_recipes(checkpoint):
    run = find_runs([checkpoint("a", synthetic={}, metric_convention="sims")])[0][0]
    assert run.target == Target("sentiment", "sims") and run.recipe.synthetic == {}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"data_file": "a.pkl", "data_sha256": "0" * 64}, {"data_file": "a.pkl", "data_sha256": "1" * 64}),
        ({"data_file": "a.pkl"}, {"data_file": "b.pkl"}),
        ({"synthetic": {"seed": 1}}, {"synthetic": {"seed": 2}}),
        ({"synthetic": {}}, {"data_file": "b.pkl"}),
    ],
)
def test_runs_on_different_data(checkpoint, mmsa_content, mmsa_file, first, second):
    runs, _ = find_runs([checkpoint("a", **first), checkpoint("b", **second)])
    with pytest.raises(ValueError, match=r"same data; .*/a was trained on .*/b on .*--data_file"):
        load_common_data(runs)
    assert len(load_common_data(runs, mmsa_file(mmsa_content)).splits["test"]) == 9


def test_the_same_file_in_two_places(checkpoint, mmsa_content, mmsa_file):
    """It is the content that counts."""
    path = mmsa_file(mmsa_content)
    sha256 = load_common_data(find_runs([checkpoint("x", data_file=path)])[0]).sha256
    files = {"a": path, "b": "elsewhere.pkl"}
    runs, _ = find_runs([checkpoint(n, data_file=f, data_sha256=sha256) for n, f in files.items()])
    assert load_common_data(runs).sha256 == sha256


def test_a_checkpoint_without_a_recipe_needs_data(checkpoint):
    runs, _ = find_runs([checkpoint("a", synthetic={"train": 4}), checkpoint("b")])
    with pytest.raises(ValueError, match=r"/b has no recipe\.yaml.*--data_file"):
        load_common_data(runs)


def test_data_without_the_targets_labels(mmsa_content, mmsa_file, checkpoint):
    run = find_runs([checkpoint("a", target="emotions")])[0][0]
    corpus = load_common_data([run], mmsa_file(mmsa_content))
    with pytest.raises(ValueError, match=r"/a predicts emotions.*column `emotions`.*--data_file"):
        next(Evaluation(corpus, "test", [0.5]).measure(run))


def test_the_split_is_prepared_once_for_processors_that_read_alike(mmsa_content, mmsa_file, checkpoint, monkeypatch):
    corpus = load_common_data([Run("a", checkpoint("a"), Target("sentiment"), None)], mmsa_file(mmsa_content))
    evaluation, made = Evaluation(corpus, "test", []), []
    monkeypatch.setattr("training.robustness.prepare_split", lambda rows, *rest: made.append(rest) or len(made))

    def processor(words=None, **fields):
        tokenizer = None if words is None else word_tokenizer(words, {})
        known = {"text_input": "values" if words is None else "tokens", "max_text_length": None}
        return SimpleNamespace(tokenizer=tokenizer, **{**known, **fields})

    calls = [(processor(WORDS), "raw_text"), (processor(WORDS), "raw_text"), (processor(WORDS[:5]), "raw_text")]
    calls += [(processor(WORDS[:5]), "input_ids"), (processor(WORDS[:5], max_text_length=9), "input_ids")]
    calls += [(processor(), "text_values"), (processor(), "text_values"), (processor(), None)]
    assert [evaluation._rows(*call) for call in calls] == [1, 1, 2, 3, 4, 5, 5, 6]
