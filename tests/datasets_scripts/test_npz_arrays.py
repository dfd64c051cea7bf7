"""One's own .npz: every rule of the layout against plain loops, what a file may get wrong, and the real files."""

import csv
import pickle
from pathlib import Path

import numpy as np
import pytest

from datasets_scripts import load_dataset, prepare
from datasets_scripts.corpora import standard_folds

REAL = Path(__file__).parents[2].parent / "shared" / "data"
ROWS = 7
SPLITS = ["train", "test", "train", "valid", "train", "valid", "test"]
LENGTHS = {"text": [2, 3, 0, 1, 3, 2, 3], "audio": [4, 1, 2, 0, 3, 4, 1], "vision": [1, 2, 1, 2, 2, 2, 1]}
WIDTHS = {"text": 3, "audio": 5, "vision": 2}


@pytest.fixture
def arrays():
    """Seven rows in three splits, padded with zeros behind, three steps of text, four of audio, two of vision."""
    rng = np.random.default_rng(0)
    found = {
        "video": np.array(["a", "a", "b", "b", "c", "c", "c"]),
        "segment": np.array([1, 2, 1, 2, 1, 2, 3]),
        "raw_text": np.array(["one", "two words", "", "vier", "fünf", "六", "seven"]),
        "split": np.array(SPLITS),
        "label": rng.uniform(-3, 3, ROWS),
        "label_text": rng.uniform(-3, 3, ROWS).astype(np.float32),
        "audio_label": rng.uniform(-3, 3, ROWS).astype(np.float16),
        "regression_labels_V": rng.uniform(-3, 3, (ROWS, 1)),
        "emotions": rng.uniform(0, 3, (ROWS, 6)),
    }
    for modality, lengths in LENGTHS.items():
        found[modality] = padded(lengths, WIDTHS[modality], rng)
        found[f"{modality}_lengths"] = np.array(lengths)
    return found


def padded(lengths, width, rng, steps=None):
    array = np.zeros((len(lengths), max(lengths) if steps is None else steps, width), np.float32)
    for row, length in enumerate(lengths):
        array[row, :length] = rng.standard_normal((length, width))
    return array


def write(folder, arrays, name="own.npz"):
    path = folder / name
    np.savez_compressed(path, **arrays)
    return path


def load(folder, arrays, **options):
    return load_dataset(write(folder, arrays), cache_dir=folder / "cache", **options)


def report(folder, arrays, **options):
    return prepare(write(folder, arrays), cache_dir=folder / "cache", **options).report()


def counts_of(found, split, column):
    return {name: count for name, count in found.counts[split][column].items() if count}


def same(row, expected):
    assert sorted(row) == sorted(expected)
    for column, value in expected.items():
        if isinstance(value, str):
            assert row[column] == value, column
        else:
            value = np.asarray(value, np.float32)
            assert row[column].shape == value.shape and np.array_equal(row[column], value), column


def test_every_key_against_plain_loops(tmp_path, arrays):
    arrays["extra"] = np.zeros(3)
    rows = load(tmp_path, arrays)
    assert list(rows) == ["train", "valid", "test"]
    for split, part in rows.items():
        own = [row for row in range(ROWS) if SPLITS[row] == split]
        assert len(part) == len(own)
        for row, found in zip(own, part, strict=True):
            expected = {
                "id": f"{arrays['video'][row]}$_${arrays['segment'][row]}",
                "text": str(arrays["raw_text"][row]),
                "label": arrays["label"][row],
                "text_label": arrays["label_text"][row],
                "audio_label": arrays["audio_label"][row],
                "vision_label": arrays["regression_labels_V"][row, 0],
                "emotions": arrays["emotions"][row],
            }
            for modality, lengths in LENGTHS.items():
                expected[f"{modality}_values"] = arrays[modality][row, : lengths[row]]
            same(found, expected)
    found = report(tmp_path, arrays)
    assert found.ignored_keys == ["extra"]
    assert found.rows == {"train": 3, "valid": 2, "test": 2}
    assert counts_of(found, "valid", "audio_values") == {"padding_steps": 4, "empty_sequences": 1}
    assert [warning for warning in found.warnings if "`split`" in warning] == []


@pytest.mark.parametrize("lengths", (True, False))
@pytest.mark.parametrize("side", ("right", "left"))
def test_the_same_arrays_as_a_pickle_give_the_same_rows(tmp_path, lengths, side):
    rng = np.random.default_rng(1)
    content, arrays = {}, {}
    for split, count in (("train", 5), ("valid", 2), ("test", 3)):
        part = {
            "id": [f"{split}$_${row}" for row in range(count)],
            "raw_text": [f"words {row}" for row in range(count)],
            "regression_labels": rng.uniform(-3, 3, count),
            "text_bert": np.stack([rng.integers(1, 9, (count, 4)), np.ones((count, 4)), np.ones((count, 4))], axis=1),
        }
        for modality, width, steps in (("text", 3, 4), ("audio", 5, 4), ("vision", 2, 6)):
            array = padded(rng.integers(1, steps + 1, count), width, rng, steps)
            part[modality] = array if side == "right" else array[:, ::-1].copy()
            if lengths:
                part[f"{modality}_lengths"] = np.array([np.count_nonzero(row.any(axis=1)) for row in array])
        content[split] = part
        arrays.update({f"{key}_{split}": np.array(value) for key, value in part.items()})
    path = tmp_path / "own.pkl"
    path.write_bytes(pickle.dumps(content))
    from_pickle, from_npz = load_dataset(path, cache_dir=tmp_path / "cache"), load(tmp_path, arrays)
    assert list(from_npz) == list(from_pickle) == ["train", "valid", "test"]
    for split, part in from_pickle.items():
        assert len(part) == len(from_npz[split])
        for expected, row in zip(part, from_npz[split], strict=True):
            assert sorted(row) == sorted(expected)
            for column, value in expected.items():
                assert np.array_equal(row[column], value) and np.shape(row[column]) == np.shape(value)


def keys_of_a_split(split, count, rng, modalities=("text", "audio", "vision"), steps=4):
    """Arrays without padding."""
    part = {"id": np.array([f"{split}$_${row}" for row in range(count)]), "label": rng.uniform(-3, 3, count)}
    for modality in modalities:
        part[modality] = rng.standard_normal((count, steps, WIDTHS[modality])).astype(np.float32)
    return part


@pytest.mark.parametrize("name", ("{key}_{split}", "{split}_{key}"))
def test_keys_with_the_split_in_their_name(tmp_path, name):
    rng, arrays, parts = np.random.default_rng(0), {}, {}
    for given, split, count in (("dev", "valid", 2), ("test", "test", 3), ("train", "train", 4)):
        parts[split] = keys_of_a_split(split, count, rng)
        parts[split]["raw_text"] = np.array([f"{split} {row}" for row in range(count)])
        arrays.update({name.format(key=key, split=given): value for key, value in parts[split].items()})
    rows = load(tmp_path, arrays)
    assert list(rows) == ["train", "valid", "test"]
    for split, part in parts.items():
        assert rows[split]["id"][:].tolist() == list(part["id"]) and rows[split]["text"][:].tolist() == list(
            part["raw_text"]
        )
        for row, found in enumerate(rows[split]):
            assert np.array_equal(found["audio_values"], part["audio"][row])


def test_lengths_of_a_group_may_have_the_split_in_front(tmp_path):
    rng, arrays = np.random.default_rng(0), {}
    for split, lengths in (("train", [1, 3]), ("test", [2, 3])):
        arrays |= {f"audio_{split}": np.ones((2, 3, 2)), f"audio_{split}_lengths": lengths, f"y_{split}": [1, 2]}
        arrays[f"label_{split}"] = rng.uniform(-1, 1, 2)
    rows = load(tmp_path, arrays)
    assert [[len(row["audio_values"]) for row in rows[split]] for split in ("train", "test")] == [[1, 3], [2, 3]]
    assert report(tmp_path, arrays).ignored_keys == ["y_test", "y_train"]


def test_groups_that_lack_a_modality(tmp_path):
    rng = np.random.default_rng(0)
    groups = {
        "": keys_of_a_split("main", 4, rng),
        "_train_notext": keys_of_a_split("notext", 3, rng, ("audio", "vision")),
        "_train_noaudio": keys_of_a_split("noaudio", 2, rng, ("text", "vision")),
        "_valid": keys_of_a_split("valid", 2, rng, ("audio", "vision"), steps=5),
    }
    groups[""]["raw_text"] = np.array(list("abcd"))
    groups[""]["split"] = np.array(["train", "test", "train", "test"])
    arrays = {f"{key}{suffix}": value for suffix, group in groups.items() for key, value in group.items()}
    rows = load(tmp_path, arrays)
    order = {"train": [("", 0), ("", 2), *(("_train_notext", row) for row in range(3))]}
    order["train"] += [("_train_noaudio", row) for row in range(2)]
    order |= {"valid": [("_valid", 0), ("_valid", 1)], "test": [("", 1), ("", 3)]}
    for split, expected in order.items():
        assert len(rows[split]) == len(expected)
        for (suffix, row), found in zip(expected, rows[split], strict=True):
            group = groups[suffix]
            values = {"id": str(group["id"][row]), "label": group["label"][row]}
            values["text"] = str(group["raw_text"][row]) if "raw_text" in group else ""
            for modality, width in WIDTHS.items():
                values[f"{modality}_values"] = group[modality][row] if modality in group else np.zeros((0, width))
            same(found, values)
    found = report(tmp_path, arrays)
    assert counts_of(found, "train", "text_values") == {"empty_sequences": 3}
    assert counts_of(found, "train", "audio_values") == {"empty_sequences": 2}


def test_what_is_aligned_with_the_text_stays_so_where_there_is_no_text(tmp_path):
    audio = np.ones((2, 4, 3), np.float32)
    vision = audio.copy()
    audio[:, 3:], vision[:, 1:] = 0, 0
    main = {"text": np.ones((2, 4, 3)), "audio": audio, "vision": vision, "label": [1, 2], "split": ["test", "valid"]}
    group = {"audio_train": audio, "vision_train": vision, "label_train": [1, 2]}
    rows = load(tmp_path, main | group)["train"]
    assert [len(rows[0][f"{modality}_values"]) for modality in WIDTHS] == [0, 3, 3]  # one span: the longer of both
    # With lengths of the text in the file, those of rows without text say nothing about what would be aligned with it.
    rows = load(tmp_path, main | group | {"text_lengths": [4, 4]})["train"]
    assert [len(rows[0][f"{modality}_values"]) for modality in WIDTHS] == [0, 3, 1]
    tokens = np.stack([np.full((2, 4), 7), np.ones((2, 4)), np.zeros((2, 4))], axis=1)
    rows = load(tmp_path, main | group | {"text_bert": tokens})["train"]
    assert [len(rows[0][column]) for column in ("input_ids", "text_values", "audio_values")] == [0, 0, 3]


def test_lengths_where_another_group_lacks_the_modality(tmp_path):
    rng = np.random.default_rng(0)
    train, test = keys_of_a_split("train", 2, rng), keys_of_a_split("test", 2, rng, ("text", "vision"))
    arrays = {f"{key}_train": value for key, value in train.items()} | {f"{k}_test": v for k, v in test.items()}
    rows = load(tmp_path, arrays | {"audio_lengths_train": [1, 2]})
    assert [len(row["audio_values"]) for split in rows for row in rows[split]] == [1, 2, 0, 0]
    with pytest.raises(ValueError, match=r"`audio_lengths` must be in every split, .*\['valid'\]"):
        more = {f"{key}_valid": value for key, value in keys_of_a_split("valid", 2, rng).items()}
        load(tmp_path, arrays | more | {"audio_lengths_train": [1, 2]})


def test_names_of_splits(tmp_path, arrays):
    arrays["split"] = np.array([b"TRAIN", b"validation", b" train", b"dev", b"val ", b"Test", b"train"])
    rows = load(tmp_path, arrays)
    assert {split: len(part) for split, part in rows.items()} == {"train": 3, "valid": 3, "test": 1}
    arrays["split"] = np.full(ROWS, "test")
    assert {split: len(part) for split, part in load(tmp_path, arrays).items()} == {"test": ROWS}


def test_several_keys_may_hold_the_split(tmp_path, arrays):
    splits = arrays.pop("split")
    arrays["split_b"], arrays["a_split"] = splits, splits[::-1]
    arrays["split_numbers"], arrays["split_short"] = np.arange(ROWS), splits[:2]
    rows = load(tmp_path, arrays)["test"]
    assert rows["id"][:].tolist() == ["a$_$2", "c$_$3"]
    found = report(tmp_path, arrays)
    assert any("read from the key `split_b`" in warning for warning in found.warnings)
    assert any("`a_split` may hold others; choose with the option `split_key`" in w for w in found.warnings)
    assert found.ignored_keys == ["a_split", "split_numbers", "split_short"]
    chosen = report(tmp_path, arrays, split_key="a_split")
    assert chosen.options["split_key"] == "a_split" and not any("may hold" in warning for warning in chosen.warnings)
    assert load(tmp_path, arrays, split_key="a_split")["test"]["id"][:].tolist() == ["a$_$1", "c$_$2"]
    with pytest.raises(ValueError, match=r"`split_key` must name .*'split_short' came.*\['split_b', 'a_split'\]"):
        load(tmp_path, arrays, split_key="split_short")


def test_standard_folds_decide_where_nothing_else_does(tmp_path, arrays):
    folds = standard_folds("mosi")
    videos = [next(video for video, split in folds.items() if split == wanted) for wanted in ("train", "valid", "test")]
    del arrays["split"]
    arrays["video"] = np.array([*videos, *videos, "nobody"])
    arrays["segment"] = np.arange(ROWS)
    rows = load(tmp_path, arrays)
    for number, split in enumerate(("train", "valid", "test")):
        assert rows[split]["id"][:].tolist() == [f"{videos[number]}$_${row}" for row in (number, number + 3)]
    warnings = report(tmp_path, arrays).warnings
    assert any("standard folds of CMU-MOSI decided" in warning for warning in warnings)
    assert any(warning.startswith("1 rows of videos that are not in the standard folds") for warning in warnings)
    assert list(load(tmp_path, arrays, corpus="none")) == ["train"]


def test_everything_is_train_where_no_split_is_known(tmp_path, arrays):
    del arrays["split"]
    assert load(tmp_path, arrays)["train"]["text"][:].tolist() == list(arrays["raw_text"])
    assert any("every row is in `train`; add a key `split`" in w for w in report(tmp_path, arrays).warnings)


def test_ids(tmp_path, arrays):
    arrays["id"] = np.array([f"x_{row}" for row in range(ROWS)])
    assert load(tmp_path, arrays)["valid"]["id"][:].tolist() == ["b$_$2", "c$_$2"]  # video and segment are preferred
    assert any("`id` was not carried over" in warning for warning in report(tmp_path, arrays).warnings)
    del arrays["segment"]
    assert load(tmp_path, arrays)["valid"]["id"][:].tolist() == ["x_3", "x_5"]
    del arrays["id"]
    assert load(tmp_path, arrays)["valid"]["id"][:].tolist() == ["b$_$3", "c$_$5"]
    assert any("number of the row" in warning for warning in report(tmp_path, arrays).warnings)
    del arrays["video"]
    assert load(tmp_path, arrays)["valid"]["id"][:].tolist() == ["valid$_$0", "valid$_$1"]
    assert any("have no ids" in warning for warning in report(tmp_path, arrays).warnings)


def test_one_vector_per_row_is_one_step(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {"audio": rng.standard_normal((3, 5)), "text": rng.standard_normal((3, 2)), "labels": [1, 2, 3]}
    rows = load(tmp_path, arrays)["train"]
    for row, found in enumerate(rows):
        assert np.array_equal(found["audio_values"], arrays["audio"][row : row + 1].astype(np.float32))
        assert np.array_equal(found["text_values"], arrays["text"][row : row + 1].astype(np.float32))


def test_text_of_strings_is_the_transcript(tmp_path):
    arrays = {"text": np.array(["a", "b"]), "label": [1, 2]}
    assert load(tmp_path, arrays)["train"]["text"][:].tolist() == ["a", "b"]
    both = arrays | {"raw_text": np.array(["c", "d"])}
    assert load(tmp_path, both)["train"]["text"][:].tolist() == ["c", "d"]
    assert report(tmp_path, both).ignored_keys == ["text"]
    utf8 = arrays | {"text": np.array(["é".encode(), b"\xff"])}
    assert load(tmp_path, utf8)["train"]["text"][:].tolist() == ["é", "\\xff"]


def test_rows_without_labels_have_no_column_for_them(tmp_path, arrays):
    for key in ("label", "label_text", "audio_label", "regression_labels_V"):
        del arrays[key]
    rows = load(tmp_path, arrays)
    assert not [column for column in rows["train"].column_names if "label" in column]
    found = report(tmp_path, arrays)
    assert found.labels == {} and any("there are no labels" in warning for warning in found.warnings)


def test_labels_of_seven_numbers_hold_the_emotions(tmp_path, arrays):
    table = np.abs(np.random.default_rng(3).standard_normal((ROWS, 7)))
    del arrays["emotions"]
    rows = load(tmp_path, arrays | {"label": table})["valid"]
    assert np.array_equal(rows["label"][:], table[[3, 5], 0].astype(np.float32))
    assert np.array_equal(rows["emotions"][:], table[[3, 5], 1:].astype(np.float32))


def test_dtypes_orders_and_values_that_are_not_finite(tmp_path, arrays):
    audio = arrays["audio"]
    audio[0, 0, :3] = np.nan, np.inf, -np.inf
    expected = np.where(np.isfinite(audio[0]), audio[0], 0)
    for change in (np.asfortranarray, lambda a: a.astype(">f4"), lambda a: a.astype("<f8"), lambda a: a.astype("f4")):
        rows = load(tmp_path, arrays | {"audio": change(audio)})["train"]
        assert np.array_equal(rows[0]["audio_values"], expected)
    assert report(tmp_path, arrays).counts["train"]["audio_values"]["nan"] == 1
    bits = arrays | {"audio": audio > 0}
    assert np.array_equal(load(tmp_path, bits)["train"][0]["audio_values"], audio[0] > 0)


def test_values_are_equal_bit_for_bit(tmp_path):
    bits = np.random.default_rng(0).integers(0, 2**32, (5, 3, 4), np.uint32)
    values = bits.view(np.float32)
    values[~np.isfinite(values)] = -0.0
    rows = load(tmp_path, {"audio": values, "audio_lengths": [3] * 5, "label": np.arange(5.0)})["train"]
    assert np.stack([row["audio_values"] for row in rows]).tobytes() == values.tobytes()


def without(*keys):
    return lambda arrays: [arrays.pop(key) for key in keys]


def put(key, value):
    def change(arrays):
        arrays[key] = value(arrays[key]) if callable(value) else np.asarray(value)

    return change


ERRORS = {
    "rows": (
        put("audio", lambda a: a[:3]),
        r"`audio` must have one entry per row, as `video` of shape \(7,\).*\(3, 4, 5\)",
    ),
    "scalar": (put("label", 3.0), r"`label` must have one entry per row, .*its shape is \(\)"),
    "dimensions": (put("vision", np.zeros((7, 2, 2, 2))), r"`vision` must have the shape \(rows, steps, features\) or"),
    "one dimension": (put("vision", np.zeros(7)), r"`vision` must have the shape .*\(7,\)"),
    "split name": (put("split", ["train"] * 6 + ["trian"]), "`split` must hold train, .*row 6 has 'trian'"),
    "split numbers": (put("split", np.arange(7)), r"`split` must hold one string per row, shape \(7,\).*int64"),
    "ids twice": (put("segment", np.ones(7, int)), r"`id` must be unique, but 'b\$_\$1'"),
    "video numbers": (put("video", np.arange(7)), "`id` of split 'all' must hold names"),
    "label text": (put("label", ["a"] * 7), "`label`|`regression_labels` of split 'train' must hold numbers"),
    "label NaN": (put("label", [np.nan] * 7), "`regression_labels` of split 'train' must be finite"),
    "objects": (put("audio", np.array([[1], [2, 3]] + [[1]] * 5, dtype=object)), "`audio` .*Python objects, .*"),
    "complex": (put("audio", np.zeros((7, 2), complex)), "`audio` must be an array of numbers or text, .*complex128"),
    "dates": (put("segment", np.zeros(7, "M8[s]")), "`segment` must be an array of numbers or text"),
    "records": (put("vision", np.zeros(7, "f4,f4")), "`vision` must be an array of numbers or text"),
    "no rows": (lambda a: [a.update({key: value[:0]}) for key, value in list(a.items())], "at least one row"),
    "unknown keys": (lambda a: (a.clear(), a.update(x=np.zeros(3))), r"under keys such as .*\['x'\]"),
    "nothing to learn from": (
        without("raw_text", *WIDTHS, *(f"{modality}_lengths" for modality in WIDTHS)),
        "must hold at least one of `raw_text`",
    ),
    "no character": (put("raw_text", np.array([[0xD800]] * 7, np.uint32).view("U1")[:, 0]), "`raw_text` .*0xd800"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_error_names_what_is_wrong(tmp_path, arrays, case):
    change, message = ERRORS[case]
    change(arrays)
    with pytest.raises(ValueError, match=rf"^own\.npz: .*({message}).*[;:] \w"):
        load(tmp_path, arrays)
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.suffix != ".lock"]


def test_a_group_without_rows_is_left_out(tmp_path, arrays):
    group = {"audio_valid_more": np.zeros((0, 4, 5)), "label_valid_more": np.zeros(0)}
    assert (
        load(tmp_path, arrays | group)["valid"]["text"][:].tolist()
        == load(tmp_path, arrays)["valid"]["text"][:].tolist()
    )
    assert any("`audio_valid_more`" in w and "no rows" in w for w in report(tmp_path, arrays | group).warnings)


@pytest.mark.skipif(not REAL.is_dir(), reason="the real corpora are not at hand")
def test_real_rows_without_text(tmp_path):
    path = REAL / "mmmo" / "mmmo_seq.npz"
    rows, arrays = load_dataset(path, cache_dir=tmp_path), dict(np.load(path))
    assert {split: len(part) for split, part in rows.items()} == {"train": 220, "valid": 40, "test": 80}
    for row, found in enumerate(rows["train"]):
        audio, vision = arrays["audio_train_notext"][row], arrays["vision_train_notext"][row]
        steps = 20
        while not (audio[steps - 1].any() or vision[steps - 1].any()):
            steps -= 1
        expected = {"id": f"train_notext$_${row}", "text": "", "label": arrays["label_train_notext"][row]}
        expected |= {"text_values": np.zeros((0, 300)), "audio_values": audio[:steps], "vision_values": vision[:steps]}
        same(found, expected)
    for split in ("valid", "test"):
        own = np.flatnonzero(arrays["orig_split"] == split)
        for row, found in zip(own, rows[split], strict=True):
            assert found["label"] == arrays["label"][row]
            steps = len(found["audio_values"])
            assert np.array_equal(found["audio_values"], arrays["audio"][row, :steps])
            assert np.array_equal(found["text_values"], arrays["text"][row, :steps])
            assert not any(arrays[modality][row, steps:].any() for modality in WIDTHS)


@pytest.mark.skipif(not REAL.is_dir(), reason="the real corpora are not at hand")
@pytest.mark.parametrize("key", (None, "split_features"))
def test_real_vectors_per_utterance(tmp_path, key):
    path = REAL / "mosi" / "mosi_utterance.npz"
    builder, arrays = prepare(path, cache_dir=tmp_path, split_key=key), dict(np.load(path))
    sizes = {"train": 1284, "valid": 229, "test": 686} if key is None else {"train": 1447, "valid": 241, "test": 511}
    assert builder.report().rows == sizes and builder.report().corpus == "mosi"
    with (REAL / "mosi" / "text_labels.csv").open(encoding="utf-8", newline="") as file:
        labels = [float(line["label"]) for line in csv.DictReader(file)]
    for split, part in builder.rows().items():
        own = np.flatnonzero(arrays[key or "split_standard"] == split)
        ids = [
            f"{video}$_${segment}" for video, segment in zip(arrays["video"][own], arrays["segment"][own], strict=True)
        ]
        assert part["id"][:].tolist() == ids and part["text"][:].tolist() == list(arrays["raw_text"][own])
        assert np.array_equal(np.concatenate(list(part["audio_values"][:])), arrays["audio"][own])
        assert set(np.round(part["label"][:], 3)) <= set(np.round(np.float32(labels), 3))
