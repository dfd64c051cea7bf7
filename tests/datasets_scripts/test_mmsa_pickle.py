"""MMSA-style pickles to rows: every rule on generated files, each value against a plain loop, and the real files."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from datasets_scripts import conversion_report, load_dataset, row_features

ROWS = {"train": 7, "valid": 3, "test": 4}
STEPS = {"text": 9, "audio": 12, "vision": 6}
SIZES = {"text": 4, "audio": 5, "vision": 3}
REAL = Path(__file__).parents[2].parent / "shared" / "data"


def make_split(split, count, rng):
    """A split as MMSA writes it: unaligned, padded at the back, labels of its own per modality."""
    part = {
        "id": [f"{split}_video$_${row}" for row in range(count)],
        "raw_text": [f"words of {split} {row}" for row in range(count)],
        "annotations": ["Positive"] * count,
        "classification_labels": np.ones(count),
        "regression_labels": rng.uniform(-3, 3, count).astype(np.float32),
    }
    for modality in "TAV":
        part[f"regression_labels_{modality}"] = rng.uniform(-1, 1, count)
    words = rng.integers(1, STEPS["text"] + 1, count)
    part["text_bert"] = np.zeros((count, 3, STEPS["text"]), np.float32)
    for modality, steps in STEPS.items():
        lengths = words if modality == "text" else rng.integers(1, steps + 1, count)
        part[modality] = np.zeros((count, steps, SIZES[modality]), np.float32)
        for row, length in enumerate(lengths):
            part[modality][row, :length] = rng.uniform(0.1, 1, (length, SIZES[modality]))
            if modality == "text":
                part["text_bert"][row, :2, :length] = [rng.integers(100, 30000, length), np.ones(length)]
        if modality != "text":
            part[f"{modality}_lengths"] = lengths.tolist()
    return part


@pytest.fixture
def content():
    rng = np.random.default_rng(0)
    return {split: make_split(split, count, rng) for split, count in ROWS.items()}


@pytest.fixture
def convert(tmp_path):
    """Write an object as a pickle and convert it: (rows, report)."""

    def run(value, **options):
        path = write(tmp_path, value)
        rows = load_dataset(path, cache_dir=tmp_path / "cache", **options)
        return rows, conversion_report(path, cache_dir=tmp_path / "cache", **options)

    return run


def write(folder, value, name="features.pkl"):
    path = folder / name
    path.write_bytes(pickle.dumps(value))
    return path


def test_rows_against_a_plain_loop(content, convert):
    rows, report = convert(content)
    assert list(rows) == ["train", "valid", "test"]
    expected_features = row_features(
        **{f"{modality}_feature_size": size for modality, size in SIZES.items()},
        input_ids=True,
        unimodal_labels=("text", "audio", "vision"),
    )
    for split, part in content.items():
        assert rows[split].features == expected_features
        assert len(rows[split]) == len(part["id"])
        stripped = {"input_ids": 0, "text_values": 0, "audio_values": 0, "vision_values": 0}
        for index in range(len(part["id"])):
            row = rows[split][index]
            assert row["id"] == part["id"][index] and row["text"] == part["raw_text"][index]
            assert row["label"] == part["regression_labels"][index]
            for modality in ("text", "audio", "vision"):
                assert row[f"{modality}_label"] == np.float32(part[f"regression_labels_{modality[0].upper()}"][index])
            words = int(sum(part["text_bert"][index, 1]))
            assert row["input_ids"].tolist() == [int(token) for token in part["text_bert"][index, 0, :words]]
            stripped["input_ids"] += STEPS["text"] - words
            for modality, steps in STEPS.items():
                length = words if modality == "text" else part[f"{modality}_lengths"][index]
                values = row[f"{modality}_values"]
                assert values.dtype == np.float32 and values.shape == (length, SIZES[modality])
                np.testing.assert_array_equal(values, part[modality][index, :length])
                stripped[f"{modality}_values"] += steps - length
        for column, count in stripped.items():
            assert report.counts[split][column]["padding_steps"] == count
            assert sum(report.counts[split][column].values()) == count  # nothing else was changed
    assert report.ignored_keys == ["annotations", "classification_labels"]
    assert report.warnings == []
    assert (
        report.padding["text_values"] == "mask of `text_bert`" and report.padding["audio_values"] == "`audio_lengths`"
    )


def test_every_way_of_indexing_gives_float32_arrays(content, convert):
    for part in content.values():
        part["audio_lengths"] = [0, *part["audio_lengths"][1:]]
        part["vision_lengths"] = [6] * len(part["id"])  # equal lengths come back as one array
    rows, report = convert(content)
    train, part = rows["train"], content["train"]
    for picked in (slice(0, 4), [3, 0, 2], range(5), slice(0, 1), [0]):
        indices = list(range(7)[picked]) if isinstance(picked, slice) else list(picked)
        batch = train[picked]
        for position, index in enumerate(indices):
            for modality in ("audio", "vision"):
                values = batch[f"{modality}_values"][position]
                length = part[f"{modality}_lengths"][index]
                assert values.dtype == np.float32 and values.shape == (length, SIZES[modality])
                np.testing.assert_array_equal(values, part[modality][index, :length])
    assert train[0]["audio_values"].shape == (0, 5)
    assert report.counts["train"]["audio_values"]["empty_sequences"] == 1
    shuffled = train.shuffle(seed=0).select([5, 1])
    assert {values.dtype for values in shuffled["audio_values"]} == {np.dtype(np.float32)}
    again = train.map(lambda row: {"audio_values": row["audio_values"] * 2}, keep_in_memory=True)
    assert again[0]["audio_values"].shape == (0, 5)


def test_not_finite_values_are_zero_and_counted(content, convert):
    content["train"]["audio"] = content["train"]["audio"].astype(np.float64)
    content["train"]["audio_lengths"] = [4] * 7
    content["train"]["audio"][:, :4] = 1
    content["train"]["audio"][0, 1, :3] = [np.nan, np.inf, -np.inf]
    content["train"]["audio"][2, 3, 4] = -np.inf
    content["train"]["audio"][3, 0, 0] = 1e300  # too large for float32
    content["train"]["audio"][4, 4, 0] = np.nan  # in the padding
    rows, report = convert(content)
    values = rows["train"][0]["audio_values"]
    assert values[1].tolist() == [0, 0, 0, 1, 1] and values[0].tolist() == [1] * 5
    assert rows["train"][3]["audio_values"][0, 0] == 0
    counts = report.counts["train"]["audio_values"]
    assert (counts["nan"], counts["positive_infinity"], counts["negative_infinity"]) == (1, 2, 2)
    beyond = sum(frame.any() for row in content["train"]["audio"] for frame in row[4:])
    assert counts["dropped_nonzero_steps"] == beyond
    assert "nan" not in report.counts["test"]["audio_values"]
    assert "audio_values: -inf replaced by 0: train 2" in report.summary()


def test_zero_sequences_are_kept_and_a_modality_without_steps_has_no_column(content, convert):
    for part in content.values():
        part["vision"] = np.zeros((len(part["id"]), 1, 1), np.float32)
        part["vision_lengths"] = [0] * len(part["id"])
    content["test"]["audio"][1] = 0
    rows, report = convert(content)
    assert "vision_values" not in rows["train"].features and report.feature_sizes == {"text": 4, "audio": 5}
    assert any("vision has no step" in warning for warning in report.warnings)
    assert rows["test"][1]["audio_values"].shape == (content["test"]["audio_lengths"][1], 5)
    assert report.counts["test"]["audio_values"]["zero_sequences"] == 1


@pytest.mark.parametrize("shape", [(0, 3), (6, 0)])
def test_modality_of_no_width_or_no_steps_is_absent(content, convert, shape):
    for part in content.values():
        part["vision"] = np.zeros((len(part["id"]), *shape))
        part["vision_lengths"] = [0] * len(part["id"])
    rows, _ = convert(content)
    assert "vision_values" not in rows["train"].features


def test_samples_without_any_modality_are_counted(content, convert):
    part = content["valid"]
    part["raw_text"] = ["", "  ", "words"]
    part["text_bert"][:2, 1] = 0
    for modality in ("audio", "vision"):
        part[f"{modality}_lengths"] = [0, 0, 1]
    part["audio_lengths"][1] = 1
    rows, report = convert(content)
    assert report.without_modality == {"train": 0, "valid": 1, "test": 0}
    assert report.empty_text == {"train": 0, "valid": 2, "test": 0}
    assert rows["valid"][0]["input_ids"].shape == (0,) and rows["valid"][0]["text_values"].shape == (0, 4)
    assert "samples without any modality: valid 1" in report.summary()


def test_segment_ids_are_kept_where_one_is_not_zero(content, convert):
    content["valid"]["text_bert"][:, 2, 0] = 1
    rows, _ = convert(content)
    assert rows["valid"][0]["token_type_ids"].tolist() == [1] + [0] * (len(rows["valid"][0]["input_ids"]) - 1)
    assert len(rows["train"][2]["token_type_ids"]) == len(rows["train"][2]["input_ids"])


def test_aligned_file_takes_the_mask_of_its_tokens(content, convert):
    for part in content.values():
        for modality in ("audio", "vision"):
            del part[f"{modality}_lengths"]
            part[modality] = np.ones((len(part["id"]), STEPS["text"], SIZES[modality]), np.float32)
            part[modality] *= part["text_bert"][:, 1, :, None]
    content["train"]["audio"][0, 0] = 0
    rows, report = convert(content)
    for split, part in content.items():
        for index, row in enumerate(rows[split]):
            words = int(part["text_bert"][index, 1].sum())
            for modality, size in SIZES.items():
                assert row[f"{modality}_values"].shape == (words, size)
    assert report.padding["audio_values"] == "mask of `text_bert`, aligned"


@pytest.mark.parametrize("text_lengths", [True, False])
def test_text_lengths_come_first_and_also_align(content, convert, text_lengths):
    for part in content.values():
        del part["text_bert"], part["audio_lengths"]
        part["audio"] = np.resize(part["audio"], (len(part["id"]), 9, 5))
        if text_lengths:
            part["text_lengths"] = np.full(len(part["id"]), 2.0)
    rows, report = convert(content)
    if text_lengths:
        assert rows["test"][3]["text_values"].shape == (2, 4) and rows["test"][3]["audio_values"].shape == (2, 5)
        assert report.padding["audio_values"] == "`text_lengths`, aligned"
    else:
        assert report.padding["audio_values"] == "trailing zero frames common to text, audio"
        assert report.padding["vision_values"] == "`vision_lengths`"


@pytest.mark.parametrize("aligned", [True, False])
def test_front_padded_file_in_the_layout_of_mult(convert, aligned):
    rng = np.random.default_rng(3)
    steps = {"text": 8, "audio": 8 if aligned else 11, "vision": 8 if aligned else 10}
    content, lengths = {}, {}
    for split, count in (("train", 6), ("dev", 4), ("test", 4)):
        part = content[split] = {"labels": rng.uniform(-3, 3, (count, 1, 1))}
        part["id"] = np.array([[split, str(row), "2.5"] for row in range(count)]).astype("S")
        for modality, number in steps.items():
            lengths[split, modality] = [number, *rng.integers(2, number, count - 1)]
            if aligned and modality != "text":
                lengths[split, modality] = lengths[split, "text"]
            part[modality] = np.zeros((count, number, 4), np.float32)
            for row, length in enumerate(lengths[split, modality]):
                part[modality][row, number - length :] = rng.uniform(0.1, 1, (length, 4))
    content["train"]["audio"][:, -1] = 0  # data: the other side is the padded one
    content["train"]["vision"][1, 8 - lengths["train", "text"][1]] = 0  # a first word without a face
    rows, report = convert(content)
    for split, name in (("train", "train"), ("valid", "dev"), ("test", "test")):
        for index, row in enumerate(rows[split]):
            assert row["id"] == f"{name}$_${index}_2.5" and row["text"] == ""
            assert row["label"] == np.float32(content[name]["labels"][index, 0, 0])
            for modality, number in steps.items():
                array, length = content[name][modality][index], lengths[name, modality][index]
                if not aligned:  # vision alone cannot know that its first frame was a word
                    length = number - next(step for step in range(number) if array[step].any())
                np.testing.assert_array_equal(row[f"{modality}_values"], array[number - length :])
    assert report.rows["valid"] == 4
    origin = "leading zero frames" + (" common to text, audio, vision" if aligned else "")
    assert report.padding["vision_values"] == origin
    told = "\n".join(report.warnings)
    assert "'dev'" in told and "`labels`" in told and "no `raw_text`" in told


def test_lengths_of_one_on_front_padded_data_are_repaired(content, convert):
    for part in content.values():
        for row, length in enumerate(part["audio_lengths"]):
            part["audio"][row] = np.roll(part["audio"][row], STEPS["audio"] - length, axis=0)
        part["true"] = part["audio_lengths"]
        part["audio_lengths"] = [1 if length < STEPS["audio"] else length for length in part["true"]]
    rows, report = convert(content)
    for split, part in content.items():
        for row, length in zip(rows[split], part["true"], strict=True):
            assert row["audio_values"].shape == (length, 5) and row["audio_values"].any(axis=1).all()
    repaired = sum(length < STEPS["audio"] for length in content["train"]["true"])
    assert report.counts["train"]["audio_values"]["repaired_lengths"] == repaired
    assert f"{repaired} of 7 lengths of `audio_values` in split 'train' contradict" in "\n".join(report.warnings)
    assert report.ignored_keys == ["annotations", "classification_labels", "true"]
    rows, report = convert(content, padding="right")  # followed to the letter
    assert rows["train"]["audio_values"][0].shape[0] == content["train"]["audio_lengths"][0]
    assert report.counts["train"]["audio_values"]["dropped_nonzero_steps"] > 0


@pytest.mark.parametrize("ids", ["bytes", "array of strings", "pairs", "tuples with numbers", "names"])
def test_forms_of_ids(content, convert, ids):
    for split, part in content.items():
        count = range(len(part["id"]))
        part["id"] = {
            "bytes": [f"{split}é$_${row}".encode() for row in count],
            "array of strings": np.array([f"{split}é$_${row}" for row in count]),
            "pairs": np.array([[f"{split}é", row] for row in count], dtype=object),
            "tuples with numbers": [(f"{split}é".encode(), row, np.float64(1.5)) for row in count],
            "names": [f"{split}é{row}" for row in count],
        }[ids]
    rows, _ = convert(content)
    expected = {"tuples with numbers": "testé$_$3_1.5", "names": "testé3"}.get(ids, "testé$_$3")
    assert rows["test"][3]["id"] == expected


REAL_FILES = {
    "mosi/text_timing_50.pkl": {"audio": 5},
    "mosi/context_10.pkl": {"text": 100, "audio": 73, "vision": 100},
    "mmmo/aligned_20.pkl": {"text": 300, "audio": 74, "vision": 36},
}


@pytest.mark.parametrize("name", REAL_FILES)
def test_real_files(tmp_path, name):
    path = REAL / name
    if not path.is_file():
        pytest.skip(f"the real feature file {name} is not beside this repository")
    rows, report = load_dataset(path, cache_dir=tmp_path), conversion_report(path, cache_dir=tmp_path)
    source = pickle.loads(path.read_bytes())
    assert report.feature_sizes == REAL_FILES[name]
    for split, part in source.items():
        assert list(rows[split]["id"]) == part["id"]
        np.testing.assert_array_equal(rows[split]["label"][:], part["regression_labels"])
        for index in range(0, len(part["id"]), 7):
            row = rows[split][index]
            assert row["text"] == part["raw_text"][index]
            for modality in report.feature_sizes:
                length = part[f"{modality}_lengths"][index]
                np.testing.assert_array_equal(row[f"{modality}_values"], part[modality][index, :length])
            if "text_bert" in part:
                ids, mask, _ = part["text_bert"][index]
                assert row["input_ids"].tolist() == [int(token) for token, on in zip(ids, mask, strict=True) if on]
