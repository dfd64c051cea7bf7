"""The column `emotions`: its form in rows, and how MMSA-style pickles fill it."""

import pickle

import datasets
import numpy as np
import pytest
import yaml
from datasets import Dataset, List, Value

import datasets_scripts.pickles.mmsa_pickle as mmsa_pickle
from datasets_scripts import EMOTIONS, ConversionReport, MMSAPickle, conversion_report, load_dataset, row_features
from datasets_scripts.cards.card import dataset_card

ROWS = {"train": 7, "valid": 3, "test": 4}
ORDER = "happy, sad, anger, surprise, disgust, fear"


@pytest.fixture
def content():
    """Words and a label per sample, and intensities in thirds, most of them 0."""
    rng = np.random.default_rng(0)
    return {
        split: {
            "id": [f"{split}$_${row}" for row in range(count)],
            "raw_text": ["words"] * count,
            "regression_labels": rng.uniform(-3, 3, count),
            "emotions": rng.integers(1, 10, (count, 6)) / 3 * (rng.random((count, 6)) < 0.4),
        }
        for split, count in ROWS.items()
    }


def with_labels(content, keep=False, shape=(7,)):
    """The emotions after the sentiment in the labels."""
    for part in content.values():
        part["regression_labels"] = np.column_stack([part["regression_labels"], part["emotions"]])
        part["regression_labels"] = part["regression_labels"].reshape(-1, *shape)
        if not keep:
            del part["emotions"]


def write(folder, value):
    path = folder / "features.pkl"
    path.write_bytes(pickle.dumps(value))
    return path


@pytest.fixture
def convert(tmp_path):
    """Write an object as a pickle and convert it: (rows, report)."""

    def run(value):
        path = write(tmp_path, value)
        return load_dataset(path, cache_dir=tmp_path / "cache"), conversion_report(path, cache_dir=tmp_path / "cache")

    return run


def assert_emotions(rows, content, expected):
    for split in content:
        np.testing.assert_array_equal(rows[split]["emotions"][:], expected[split].astype(np.float32))


# The schema


def table(count):
    return np.random.default_rng(1).uniform(0, 3, (count, 6)).astype(np.float32)


def rows_with(emotions):
    rows = [
        {"id": str(row), "text": "", "audio_values": np.ones((row % 3, 2)), "label": 0.5, "emotions": values}
        for row, values in enumerate(emotions)
    ]
    return Dataset.from_list(rows, features=row_features(audio_feature_size=2, emotions=True)).with_format("numpy")


def test_order_and_place_of_the_column():
    assert EMOTIONS == ("happy", "sad", "anger", "surprise", "disgust", "fear")
    columns = row_features(audio_feature_size=2, unimodal_labels=("text", "vision"), emotions=True)
    assert list(columns) == ["id", "text", "audio_values", "label", "text_label", "vision_label", "emotions"]
    assert columns["emotions"] == List(Value("float32"), length=6)
    assert "emotions" not in row_features(audio_feature_size=2)


def changed(rows, folder, way):
    """The rows after one of the ways in which `datasets` copies or picks them, and which rows these are."""
    if way == "select":
        return rows.select([4, 0, 7]), [4, 0, 7]
    if way == "contiguous select":
        return rows.select(range(3, 8)), list(range(3, 8))
    if way == "disk":
        rows.select([4, 0, 7]).save_to_disk(folder / "saved")
        return datasets.load_from_disk(folder / "saved").with_format("numpy"), [4, 0, 7]
    if way == "parquet":
        rows.to_parquet(folder / "rows.parquet")
        return Dataset.from_parquet(
            str(folder / "rows.parquet"), cache_dir=str(folder / "cache"), features=rows.features
        ).with_format("numpy"), list(range(10))
    if way == "map":
        return rows.map(lambda row: {"steps": len(row["audio_values"])}, keep_in_memory=True), list(range(10))
    return rows, list(range(10))


@pytest.mark.parametrize("way", ["as built", "select", "contiguous select", "disk", "parquet", "map"])
def test_a_row_gives_six_numbers_and_a_column_a_table(tmp_path, way):
    emotions = table(10)
    rows, indices = changed(rows_with(emotions), tmp_path, way)
    expected = emotions[indices]
    assert rows.features["emotions"] == List(Value("float32"), length=6)
    batches = [rows["emotions"][:], rows[:]["emotions"], next(rows.iter(len(indices)))["emotions"]]
    batches.append(np.stack([row["emotions"] for row in rows]))
    for batch in batches:
        assert batch.dtype == np.float32 and batch.shape == (len(indices), 6)
        np.testing.assert_array_equal(batch, expected)
    assert rows[1]["emotions"].shape == (6,) and rows[1]["emotions"].dtype == np.float32
    np.testing.assert_array_equal(rows[-1]["emotions"], expected[-1])
    np.testing.assert_array_equal(rows[1:2]["emotions"], expected[1:2])
    np.testing.assert_array_equal(rows[[2, 0]]["emotions"], expected[[2, 0]])


@pytest.mark.parametrize("count", [5, 7])
def test_another_number_of_emotions_is_refused(count):
    with pytest.raises(Exception, match="length=6"):
        rows_with([np.zeros(count)])


# Pickles


@pytest.mark.parametrize("key", ["emotions", "emotion_labels", "emotion"])
@pytest.mark.parametrize("shape", [(6,), (1, 6), (6, 1)], ids=str)
def test_emotions_of_a_key(content, convert, key, shape):
    expected = {split: part.pop("emotions") for split, part in content.items()}
    for split, part in content.items():
        part[key] = expected[split].reshape(-1, *shape)
    rows, report = convert(content)
    assert_emotions(rows, content, expected)
    for split, part in content.items():
        np.testing.assert_array_equal(rows[split]["label"][:], part["regression_labels"].astype(np.float32))
    assert rows["train"].features == row_features(emotions=True) and report.columns[-1] == "emotions"
    assert report.ignored_keys == []
    assert f"emotions were read from `{key}` in the order {ORDER}, which the file does not state" in report.warnings


@pytest.mark.parametrize("shape", [(7,), (1, 7), (7, 1)], ids=str)
@pytest.mark.parametrize("key", ["regression_labels", "labels"])
def test_sentiment_and_emotions_in_one_array(content, convert, key, shape):
    expected = {split: part["emotions"] for split, part in content.items()}
    sentiment = {split: part["regression_labels"] for split, part in content.items()}
    with_labels(content, shape=shape)
    for part in content.values():
        part[key] = part.pop("regression_labels")
    rows, report = convert(content)
    assert_emotions(rows, content, expected)
    for split in content:
        np.testing.assert_array_equal(rows[split]["label"][:], sentiment[split].astype(np.float32))
    assert f"emotions were read from `{key}` (after the sentiment) in the order {ORDER}" in report.warnings[-1]


def test_lists_and_whole_numbers_will_do(content, convert):
    expected = {}
    for split, part in content.items():
        expected[split] = np.ceil(part["emotions"])
        part["emotions"] = expected[split].astype(int).tolist()
    content["valid"]["emotions"] = [np.array([row]) for row in content["valid"]["emotions"]]  # (1, 6) each
    content["test"]["emotions"] = np.array(content["test"]["emotions"]) > 0
    expected["test"] = expected["test"] > 0
    rows, _ = convert(content)
    assert_emotions(rows, content, expected)


def test_equal_emotions_may_be_there_twice(content, convert):
    expected = {split: part["emotions"] for split, part in content.items()}
    with_labels(content, keep=True)
    for split, part in content.items():
        part["emotion"] = expected[split].astype(np.float32)[:, None]
    rows, report = convert(content)
    assert_emotions(rows, content, expected)
    told = "read from `regression_labels` (after the sentiment) and `emotions` and `emotion` in the order"
    assert any(told in warning for warning in report.warnings)


@pytest.mark.parametrize(
    "classes",
    [lambda n: ["anger"] * n, lambda n: np.array(["anger"] * n, object), np.arange, lambda n: np.ones((n, 1, 1))],
    ids=["strings", "objects", "numbers", "column"],
)
def test_a_class_per_sample_is_not_carried_over(content, convert, classes):
    expected = {split: part["emotions"] for split, part in content.items()}
    for part in content.values():
        part["emotion"] = classes(len(part["id"]))
    rows, report = convert(content)
    assert_emotions(rows, content, expected)
    assert report.ignored_keys == ["emotion"]
    assert "`emotion` has one entry per sample, not six intensities, and was not carried over" in report.warnings
    for part in content.values():
        del part["emotions"]
    content["test"].pop("emotion")
    rows, report = convert(content)
    assert "emotions" not in rows["train"].features and report.emotions == {}


def test_a_file_without_emotions_is_as_it_was(content, convert):
    for part in content.values():
        del part["emotions"]
    rows, report = convert(content)
    assert rows["train"].features == row_features() and report.emotions == {} and report.warnings == []
    assert "emotion" not in report.summary() + dataset_card(report, {})


def put(key, value, split="valid"):
    def change(content):
        content[split][key] = value(content[split][key]) if callable(value) else value

    return change


def at(index, value):
    def change(array):
        array = np.array(array)
        array[index] = value
        return array

    return change


def in_labels(index, value):
    def change(content):
        with_labels(content)
        content["valid"]["regression_labels"][index] = value

    return change


def labels_in(*splits):
    def change(content):
        with_labels(content)
        for split, part in content.items():
            if split not in splits:
                part["regression_labels"] = part["regression_labels"][:, :1]

    return change


def twice(change):
    def run(content):
        with_labels(content, keep=True)
        change(content)

    return run


def two_keys(content):
    for part in content.values():
        part["emotion_labels"] = part["emotions"].copy()
    content["valid"]["emotion_labels"][2, 5] += 0.5


INTENSITIES = rf"of split 'valid' must hold finite intensities of 0 or more for {ORDER}, but id "
ABSENT = "; write 0 for an absent emotion"
ERRORS = {
    "negative": (put("emotions", at((1, 2), -0.5)), rf"`emotions` {INTENSITIES}'valid\$_\$1' has -0\.5{ABSENT}"),
    "NaN": (put("emotions", at((0, 5), np.nan)), rf"`emotions` {INTENSITIES}'valid\$_\$0' has nan{ABSENT}"),
    "infinite": (put("emotions", at((2, 0), np.inf)), rf"`emotions` {INTENSITIES}'valid\$_\$2' has inf"),
    "too large": (put("emotions", at((2, 0), 1e300)), rf"`emotions` {INTENSITIES}'valid\$_\$2' has inf"),
    "several": (put("emotions", at((slice(1, 3), 0), -1)), rf"{INTENSITIES}'valid\$_\$1' has .*\(and 1 more samples\)"),
    "negative in labels": (in_labels((1, 3), -1), rf"`regression_labels` {INTENSITIES}'valid\$_\$1' has -1"),
    "sentiment NaN": (
        in_labels((1, 0), np.nan),
        r"`regression_labels` of split 'valid' must be finite, .*\$1' has nan",
    ),
    "sentiment too large": (in_labels((1, 0), 1e300), r"`regression_labels` of split 'valid' must be finite, .* inf;"),
    "seven of a key": (
        put("emotions", np.zeros((3, 7))),
        rf"six numbers per sample, .* of {ORDER}, .*\(3, 7\); select",
    ),
    "one row too few": (put("emotions", np.zeros((2, 6))), "`emotions` of split 'valid' must have one row per id"),
    "labels of eight": (put("regression_labels", np.zeros((3, 8))), r"or seven, .* but its shape is \(3, 8\); other"),
    "ragged": (put("emotions", [[1.0] * 6, [1.0], [1.0] * 6]), "`emotions` .* must be one array of shape"),
    "dicts": (put("emotions", [{"happy": 1}] * 3), "`emotions` of split 'valid' must hold numbers in the shape"),
    "names": (put("emotions", [["happy"] * 6] * 3), "`emotions` .* must hold numbers .* dtype is <U5"),
    "class in one split": (put("emotions", ["happy"] * 3), "`emotions` of split 'valid' must hold numbers"),
    "key in some splits": (
        lambda content: content["valid"].pop("emotions"),
        r"`emotions` must be in every split, but it is missing in \['valid'\], where the keys are",
    ),
    "another key in one split": (
        lambda content: content["valid"].update(emotion=content["valid"].pop("emotions")),
        r"`emotion` must be in every split, but it is missing in \['train', 'test'\]",
    ),
    "labels of one split": (
        labels_in("test"),
        r"`regression_labels` must hold the six emotions .* missing in \['train', 'valid'\], where .* one number; add",
    ),
    "labels of two splits": (
        labels_in("train", "test"),
        r"in every split or in none, but they are missing in \['valid'\]",
    ),
    "differs from labels": (
        twice(put("emotions", at((1, 4), 2.25))),
        r"`emotions` of split .* must hold the same emotions as `regression_labels`, but id 'valid\$_\$1' has 2\.25",
    ),
    "two keys differ": (
        two_keys,
        r"`emotion_labels` of split .* must hold the same emotions as `emotions`, but id 'valid\$_\$2' has .*; keep",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_error_names_what_is_wrong_and_leaves_nothing(tmp_path, content, case):
    change, message = ERRORS[case]
    change(content)
    with pytest.raises(ValueError, match=rf"^features\.pkl: .*{message}") as caught:
        load_dataset(write(tmp_path, content), cache_dir=tmp_path / "cache")
    assert "; " in str(caught.value) and str(tmp_path) not in str(caught.value)
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.suffix != ".lock"]


def test_report_counts_the_emotions(content, convert):
    content["valid"]["emotions"][:] = 0
    content["valid"]["emotions"][1, 5] = 1 / 3
    _, report = convert(content)
    for split, part in content.items():
        expected = {"any": sum(any(value > 0 for value in row) for row in part["emotions"])}
        for index, name in enumerate(EMOTIONS):
            expected[name] = sum(row[index] > 0 for row in part["emotions"])
        assert report.emotions[split] == expected
    train, test = report.emotions["train"], report.emotions["test"]
    lines = report.summary().splitlines()
    assert f"samples with at least one emotion: train {train['any']}, valid 1, test {test['any']}" in lines
    assert f"samples with sad: train {train['sad']}, valid 0, test {test['sad']}" in lines
    assert ConversionReport.from_json(report.to_json()) == report
    card = dataset_card(report, {})
    assert yaml.safe_load(card.split("---\n")[1])["pretty_name"] == "Converted from features.pkl"
    assert "## Emotions\n\n| samples with | train | valid | test |" in card
    fear = [f"{shown['fear']} ({shown['fear'] / ROWS[split]:.1%})" for split, shown in report.emotions.items()]
    assert f"| fear | {' | '.join(fear)} |" in card and fear[1] == "1 (33.3%)"
    assert f"| `emotions` |  | intensities of {ORDER}, in this order; 0 where the emotion is absent |" in card


def test_a_conversion_by_an_older_reader_is_not_taken(tmp_path, content, monkeypatch):
    reads = []
    monkeypatch.setattr(mmsa_pickle, "load_pickle", lambda path: reads.append(path) or pickle.loads(path.read_bytes()))
    path, cache = write(tmp_path, content), tmp_path / "cache"
    assert datasets.Version("1.0.0") < MMSAPickle.VERSION
    with monkeypatch.context() as patch:
        patch.setattr(MMSAPickle, "VERSION", datasets.Version("1.0.0"))
        load_dataset(path, cache_dir=cache)
        load_dataset(path, cache_dir=cache)
    assert len(reads) == 1
    load_dataset(path, cache_dir=cache)
    assert len(reads) == 2
