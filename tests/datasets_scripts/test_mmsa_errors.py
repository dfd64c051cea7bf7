"""Every rule of MMSA-style pickles that a file can break: what the error says, and that nothing stays."""

import os
import pickle

import numpy as np
import pytest

from datasets_scripts import UnsafePickleError, load_dataset


@pytest.fixture
def content():
    """Two samples in train and test, three in valid; 4 tokens, 3 audio steps of 5 features, 2 vision steps of 1."""
    rng = np.random.default_rng(0)
    return {split: make_split(split, count, rng) for split, count in (("train", 2), ("valid", 3), ("test", 2))}


def make_split(split, count, rng):
    tokens = np.stack([rng.integers(1, 9, (count, 4)), np.ones((count, 4)), np.zeros((count, 4))], axis=1)
    return {
        "id": [f"{split}$_${row}" for row in range(count)],
        "raw_text": ["words"] * count,
        "text_bert": tokens,
        "audio": rng.standard_normal((count, 3, 5)),
        "audio_lengths": [3] * count,
        "vision": np.ones((count, 2, 1)),
        "vision_lengths": [2] * count,
        "regression_labels": np.zeros(count),
        "regression_labels_T": np.zeros(count),
        "regression_labels_A": np.zeros(count),
    }


def drop(key, split="valid"):
    return lambda content: content[split].pop(key)


def put(key, value, split="valid"):
    def change(content):
        content[split][key] = value(content[split][key]) if callable(value) else value

    return change


def at(index, value):
    def change(array):
        array[index] = value
        return array

    return change


def same_id(split, other):
    def change(content):
        content[split]["id"][1] = content[other]["id"][0]

    return change


COUNT = r"of split 'valid' must have one row per id, but it has 2 rows and there are 3 ids"
WHOLE = r"`text_bert` of split 'valid' must hold whole "

ERRORS = {
    "missing split": (lambda content: content.pop("test"), r"'test' is missing and the keys are \['train', 'valid'\]"),
    "split is no dict": (lambda content: content.update(test=[1]), "'test' must be a dict of arrays, but it is a list"),
    "no ids": (drop("id"), r"`id` must be in every split, but it is missing in \['valid'\]"),
    "empty split": (put("id", []), "`id` of split 'valid' must name at least one sample"),
    "ids are numbers": (put("id", [1, 2, 3]), "`id` of split 'valid' must hold names .* row 0 has 1"),
    "ids are no list": (put("id", "abc"), "`id` of split 'valid' must be a list or an array"),
    "id twice in a split": (same_id("valid", "valid"), r"'valid\$_\$0' is in split 'valid' and again in split 'valid'"),
    "id in two splits": (same_id("test", "train"), r"'train\$_\$0' is in split 'train' and again in split 'test'"),
    "no labels": (drop("regression_labels"), "`regression_labels` must be in every split, .*'valid'"),
    "labels count": (put("regression_labels", np.zeros(2)), f"`regression_labels` {COUNT}"),
    "label NaN": (put("regression_labels", at(1, np.nan)), r"`regression_labels` .*finite.*'valid\$_\$1' has nan"),
    "label inf": (put("regression_labels_A", at(2, np.inf)), r"`regression_labels_A` .*'valid\$_\$2' has inf"),
    "label in one split": (drop("regression_labels_T"), "`regression_labels_T` must be in every split"),
    "label width": (
        put("regression_labels", np.zeros((3, 4, 2))),
        r"`regression_labels` .*one number per sample, or seven, .* but its shape is \(3, 4, 2\)",
    ),
    "label of a modality has seven": (
        put("regression_labels_T", np.zeros((3, 7))),
        r"`regression_labels_T` .*one number per sample, but its shape is \(3, 7\)",
    ),
    "features in one split": (drop("vision", "test"), r"`vision` must be in every split, .*\['test'\]"),
    "features count": (put("audio", lambda a: a[:2]), f"`audio` {COUNT}"),
    "one vector per sample": (put("audio", lambda a: a[:, 0]), r"\(rows, steps, features\), but it has \(3, 5\)"),
    "width": (put("audio", lambda a: a[:, :, :4]), r"`audio` must have the same number of features .*\(3, 3, 4\)"),
    "no width in one split": (put("vision", lambda a: a[:, :, :0]), "`vision` must have the same number of features"),
    "features are text": (put("audio", ["a", "b", "c"]), "`audio` of split 'valid' must hold numbers .*dtype is <U1"),
    "ragged": (put("audio", [np.ones((n, 5)) for n in (1, 2, 3)]), "`audio` of split 'valid' .*rows differ in size"),
    "length beyond": (put("audio_lengths", [1, 4, 2]), r"`audio_lengths` .*from 0 to 3.*'valid\$_\$1' has 4"),
    "length negative": (put("vision_lengths", [1, 2, -1]), r"`vision_lengths` of split 'valid' .*'valid\$_\$2' has -1"),
    "length fraction": (put("vision_lengths", [1, 1.5, 1]), r"`vision_lengths` .*'valid\$_\$1' has 1\.5"),
    "lengths count": (put("audio_lengths", [1, 2]), f"`audio_lengths` {COUNT}"),
    "lengths in one split": (drop("audio_lengths"), "`audio_lengths` must be in every split"),
    "tokens shape": (put("text_bert", lambda a: a[:, :2]), r"\(rows, 3, tokens\), but it has \(3, 2, 4\)"),
    "tokens count": (put("text_bert", lambda a: a[:2]), f"`text_bert` {COUNT}"),
    "token fraction": (put("text_bert", at((1, 0, 0), 7.5)), rf"{WHOLE}token ids.*'valid\$_\$1' has 7\.5"),
    "token negative": (put("text_bert", at((2, 0, 3), -1)), rf"{WHOLE}token ids.*'valid\$_\$2' has -1"),
    "token too large": (put("text_bert", at((0, 0), 2.0**31)), rf"{WHOLE}token ids.*'valid\$_\$0' has 2\.147"),
    "segment NaN": (put("text_bert", at((0, 2, 0), np.nan)), rf"{WHOLE}segment ids.*'valid\$_\$0' has nan"),
    "mask of two": (put("text_bert", at((0, 1, 0), 2)), r"mask of 0 and 1 .*'valid\$_\$0' has \[2 1 1 1\]"),
    "mask with a hole": (put("text_bert", at((0, 1, 1), 0)), r"ones are one block, .*'valid\$_\$0' has \[1 0 1 1\]"),
    "texts count": (put("raw_text", ["a", "b"]), f"`raw_text` {COUNT}"),
    "text is a number": (put("raw_text", ["a", 5, "b"]), r"`raw_text` .*strings, but id 'valid\$_\$1' has 5"),
}


def files_in(folder):
    """Files that are not locks; locks are left behind by `datasets` and hold nothing."""
    return sorted(path.name for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")


def write(folder, value):
    path = folder / "features.pkl"
    path.write_bytes(pickle.dumps(value))
    return path


def test_the_unchanged_content_is_good(tmp_path, content):
    assert len(load_dataset(write(tmp_path, content), cache_dir=tmp_path / "cache")["valid"]) == 3


@pytest.mark.parametrize("case", ERRORS)
def test_error_names_what_is_wrong_and_leaves_nothing(tmp_path, content, case):
    change, message = ERRORS[case]
    change(content)
    with pytest.raises(ValueError, match=rf"^features\.pkl: .*{message}.*[;:] \w") as caught:
        load_dataset(write(tmp_path, content), cache_dir=tmp_path / "cache")
    assert str(tmp_path) not in str(caught.value)
    assert files_in(tmp_path / "cache") == []


def test_files_that_hold_something_else(tmp_path):
    with pytest.raises(ValueError, match="must hold a dict of the splits .* but it holds a list; "):
        load_dataset(write(tmp_path, [1, 2]), cache_dir=tmp_path / "cache")
    bare = {split: {"id": [split], "regression_labels": [1.0], "video": [2]} for split in ("train", "valid", "test")}
    with pytest.raises(ValueError, match=r"at least one of `raw_text`, .*no sample has any.*\['video'\]; "):
        load_dataset(write(tmp_path, bare), cache_dir=tmp_path / "cache")
    with pytest.raises(FileNotFoundError, match=r"nothing at .*none\.pkl; check"):
        load_dataset(tmp_path / "none.pkl", cache_dir=tmp_path / "cache")


def test_unsafe_and_truncated_pickles(tmp_path, content):
    class Attack:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'marker'}",)

    content["train"]["extra"] = Attack()
    path = write(tmp_path, content)
    with pytest.raises(UnsafePickleError, match=r"\.system"):
        load_dataset(path, cache_dir=tmp_path / "cache")
    assert not (tmp_path / "marker").exists()
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(ValueError, match="truncated or not a pickle"):
        load_dataset(path, cache_dir=tmp_path / "cache")
    assert files_in(tmp_path / "cache") == []
