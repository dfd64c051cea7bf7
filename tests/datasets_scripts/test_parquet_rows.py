"""One's own Parquet: every rule against plain loops, every type, layout and number of processes, and every error."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datasets_scripts import load_dataset, prepare
from datasets_scripts.corpora import standard_folds
from datasets_scripts.parquet.parquet_files import files_in
from datasets_scripts.parquet.parquet_rows import ParquetRows

F32, LISTS = pa.float32(), pa.list_(pa.list_(pa.float32()))
SPLITS = ["train", "test", "train", "validation", "train", "Dev", "test", "train", "TRAIN "]
NAMES = {"validation": "valid", "Dev": "valid", "TRAIN ": "train"}
STEPS = {"text": [1, 2, 0, 3, 1, 1, 2, 2, 4], "audio": [0, 2, 5, 1, 1, 3, 0, 2, 2], "vision": [1] * 9}
WIDTHS = {"text": 3, "audio": 5, "vision": 2}


@pytest.fixture
def rows():
    """Nine rows; what a row lacks is null where its number is even and [] where it is odd."""
    rng = np.random.default_rng(0)
    found = []
    for number, split in enumerate(SPLITS):
        row = {
            "id": f"v{number // 3}$_${number % 3}",
            "text": None if number == 4 else f"words {number} ü",
            "label": float(rng.uniform(-3, 3)),
            "text_label": float(rng.uniform(-3, 3)),
            "audio_label": float(rng.uniform(-3, 3)),
            "vision_label": float(rng.uniform(-3, 3)),
            "emotions": rng.uniform(0, 3, 6).astype(np.float32).tolist(),
            "input_ids": [101, *range(number), 102],
            "token_type_ids": [0] * (number + 1) + [1],
            "split": split,
        }
        for modality, width in WIDTHS.items():
            steps = STEPS[modality][number]
            values = rng.standard_normal((steps, width)).astype(np.float16).tolist()  # exact in every type
            row[f"{modality}_values"] = None if steps == 0 and number % 2 == 0 else values
        found.append(row)
    return found


def table(rows, **types):
    """The rows as a table, with other types where they are given."""
    columns = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        kind = types.get(name, LISTS if name.endswith("_values") else None)
        columns[name] = pa.array([row.get(name) for row in rows], kind)
    return pa.table(columns)


def write(path, rows, types=None, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table(rows, **(types or {})) if isinstance(rows, list) else rows, path, **options)
    return path


def load(folder, rows, types=None, **options):
    return load_dataset(write(folder / "own.parquet", rows, types), cache_dir=folder / "cache", **options)


def report(folder, rows, types=None, **options):
    return prepare(write(folder / "own.parquet", rows, types), cache_dir=folder / "cache", **options).report()


def expected_splits(rows):
    found = {"train": [], "valid": [], "test": []}
    for row in rows:
        found[NAMES.get(row["split"], row["split"])].append(row)
    return found


def check(found, rows):
    """The rows of a split against those that were written, value by value."""
    assert len(found) == len(rows)
    for row, given in zip(found, rows, strict=True):
        assert sorted(row) == sorted(name for name in given if name != "split")
        assert row["id"] == given["id"] and row["text"] == (given["text"] or "")
        for modality, width in WIDTHS.items():
            values = row[f"{modality}_values"]
            steps = given[f"{modality}_values"] or []
            assert values.dtype == np.float32 and values.shape == (len(steps), width)
            for step, expected in zip(values, steps, strict=True):
                assert step.tolist() == expected
        for name in ("label", "text_label", "audio_label", "vision_label"):
            assert row[name] == np.float32(given[name])
        for name in ("emotions", "input_ids", "token_type_ids"):
            assert row[name].tolist() == given[name]


@pytest.mark.parametrize("group", (1, 2, 4, 100))
def test_every_column_against_plain_loops(tmp_path, rows, group):
    path = write(tmp_path / "own.parquet", rows, row_group_size=group)
    builder = prepare(path, cache_dir=tmp_path / "cache")
    assert list(builder.rows()) == ["train", "valid", "test"]
    for split, expected in expected_splits(rows).items():
        check(builder.rows()[split], expected)
    found = builder.report()
    assert found.rows == {"train": 5, "valid": 2, "test": 2} and found.ignored_keys == [] and found.warnings == []
    assert found.counts["train"] == {"text_values": {"empty_sequences": 1}, "audio_values": {"empty_sequences": 1}}
    assert found.empty_text == {"train": 1, "valid": 0, "test": 0}
    assert found.lengths["test"]["audio_values"] == [0, 0, 0, 2, 2]


LIST_TYPES = {
    "float32": LISTS,
    "float64": pa.list_(pa.list_(pa.float64())),
    "float16": pa.list_(pa.list_(pa.float16())),
    "large": pa.large_list(pa.large_list(F32)),
    "fixed width": pa.list_(pa.list_(F32, 5)),
    "fixed width, large": pa.large_list(pa.list_(pa.float64(), 5)),
    "Array2D": datasets.Array2D((None, 5), "float32")(),
}


@pytest.mark.parametrize("kind", LIST_TYPES)
@pytest.mark.parametrize("stored", (True, False))
def test_types_of_features(tmp_path, rows, kind, stored):
    arrow = LIST_TYPES[kind]
    values = pa.array(
        [row["audio_values"] for row in rows], arrow.storage_type if isinstance(arrow, pa.ExtensionType) else arrow
    )
    if isinstance(arrow, pa.ExtensionType):
        values = pa.ExtensionArray.from_storage(arrow, values)
    whole = table(rows)
    whole = whole.set_column(whole.schema.get_field_index("audio_values"), "audio_values", values)
    path = write(tmp_path / "own.parquet", whole, store_schema=stored, row_group_size=4)
    found = load_dataset(path, cache_dir=tmp_path / "cache")
    for split, expected in expected_splits(rows).items():
        check(found[split], expected)


def test_sequences_of_one_size(tmp_path, rows):
    rng = np.random.default_rng(1)
    for row in rows:
        row["vision_values"] = rng.standard_normal((4, 2)).astype(np.float32).tolist()
    rows[2]["vision_values"] = None
    found = load(tmp_path, rows, {"vision_values": pa.list_(pa.list_(F32, 2), 4)})
    for split, expected in expected_splits(rows).items():
        check(found[split], expected)


def test_a_list_of_fixed_size_is_one_step(tmp_path, rows):
    given = [None if number == 3 else [float(number), 0.5] for number in range(9)]
    for row, values in zip(rows, given, strict=True):
        row["vision_values"] = values
    found = load(tmp_path, rows, {"vision_values": pa.list_(pa.float64(), 2)})
    for row, values in zip(rows, given, strict=True):
        row["vision_values"] = None if values is None else [values]
    for split, expected in expected_splits(rows).items():
        check(found[split], expected)


def test_other_types_and_names_of_columns(tmp_path, rows):
    for row in rows:
        row["raw_text"], row["sentiment"] = row.pop("text"), round(row.pop("label"))
        row["extra"], row["attention_mask"] = b"x", [1] * len(row["input_ids"])
    types = {"sentiment": pa.int8(), "raw_text": pa.large_string(), "id": pa.dictionary(pa.int32(), pa.string())}
    types |= {"emotions": pa.list_(pa.float64(), 6), "input_ids": pa.large_list(pa.int64()), "text_label": pa.float16()}
    for row in rows:
        row["text_label"] = float(np.float16(row["text_label"]))
    found = load(tmp_path, rows, types)
    assert found["train"]["text"][:].tolist() == [row["raw_text"] or "" for row in expected_splits(rows)["train"]]
    assert found["test"]["label"][:].tolist() == [row["sentiment"] for row in expected_splits(rows)["test"]]
    assert report(tmp_path, rows, types).ignored_keys == ["attention_mask", "extra"]
    assert any("`attention_mask` is not read" in warning for warning in report(tmp_path, rows, types).warnings)
    for row in rows:
        row["text"], row["label"] = "preferred", 0.5
    found = load(tmp_path, rows, types)
    assert found["train"][0]["text"] == "preferred" and found["train"][0]["label"] == 0.5
    assert report(tmp_path, rows, types).ignored_keys == ["attention_mask", "extra", "raw_text", "sentiment"]


def test_values_are_equal_bit_for_bit_and_made_finite(tmp_path):
    bits = np.random.default_rng(0).integers(0, 2**32, (50, 3, 4), np.uint32)
    bits[0, 0] = 0x80000000, 1, 0x7FC00000, 0xFF800000  # -0, the smallest number, NaN, -inf
    values = bits.view(np.float32)
    rows = [{"id": str(number), "audio_values": value.tolist(), "label": 0.0} for number, value in enumerate(values)]
    rows[1]["audio_values"][0][0] = None
    path = write(tmp_path / "own.parquet", rows)
    builder = prepare(path, cache_dir=tmp_path / "cache")
    with np.errstate(invalid="ignore"):
        values[1, 0, 0] = np.nan
        expected = np.where(np.isfinite(values), values, np.float32(0))
    assert np.stack([row["audio_values"] for row in builder.rows()["train"]]).tobytes() == expected.tobytes()
    counts = builder.report().counts["train"]["audio_values"]
    assert counts["nan"] == np.isnan(values).sum() and counts["negative_infinity"] == np.isneginf(values).sum()


def test_numbers_too_large_for_float32_are_infinite(tmp_path):
    rows = [{"id": "a", "audio_values": [[1e300, -1e300, 1e30]], "label": 0.0}]
    types = {"audio_values": pa.list_(pa.list_(pa.float64()))}
    found = load(tmp_path, rows, types)["train"][0]["audio_values"]
    assert found.tolist() == [[0, 0, np.float32(1e30)]]
    assert report(tmp_path, rows, types).counts["train"]["audio_values"]["positive_infinity"] == 1


@pytest.mark.parametrize("num_proc", (None, 2, 5))
def test_several_processes_give_the_same_rows(tmp_path, rows, num_proc):
    for part in range(3):
        more = [dict(row, id=f"{part}{row['id']}") for row in rows]
        write(tmp_path / "own" / f"{part}.parquet", more, row_group_size=2)
    builder = prepare(tmp_path / "own", cache_dir=tmp_path / f"cache{num_proc}", num_proc=num_proc)
    whole = [dict(row, id=f"{part}{row['id']}") for part in range(3) for row in rows]
    for split, expected in expected_splits(whole).items():
        check(builder.rows()[split], expected)
    assert builder.report().rows == {"train": 15, "valid": 6, "test": 6}
    assert builder.report().counts["train"]["text_values"]["empty_sequences"] == 3


LAYOUTS = {
    "files": {"train.parquet": "train", "valid.parquet": "valid", "test.parquet": "test"},
    "Hub": {
        "data/train-00000-of-00002.parquet": "train",
        "data/train-00001-of-00002.parquet": "train",
        "data/validation-00000-of-00001.parquet": "valid",
        "data/test-00000-of-00001.parquet": "test",
    },
    "many": {f"train_{number}.parquet": "train" for number in range(12)} | {"Dev.parquet": "valid"},
    "folders": {"train/b.parquet": "train", "train/a2.parquet": "train", "val/b.parquet": "valid"},
    "folders in data": {"data/train/0.parquet": "train", "data/test/0.parquet": "test"},
    "words behind": {"train-audio.v2.parquet": "train", "test.small.PARQUET": "test"},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_folders_of_files_named_by_split(tmp_path, rows, layout):
    folder, expected = tmp_path / "own", {}
    for number, (name, split) in enumerate(LAYOUTS[layout].items()):
        part = [
            {name: v for name, v in dict(row, id=f"{number}{row['id']}").items() if name != "split"} for row in rows
        ]
        write(folder / name, part[: 2 + number % 3])
        expected.setdefault(split, []).append((name, part[: 2 + number % 3]))
    (folder / "README.md").write_text("a card")
    (folder / ".hidden.parquet").write_bytes(b"")
    builder = ParquetRows(cache_dir=str(tmp_path / "cache"), data_file=str(folder))
    builder.download_and_prepare()
    assert sorted(builder.rows()) == sorted(expected)
    for split, parts in expected.items():
        if layout == "folders":
            parts.sort()
        check(builder.rows()[split], [row for _, part in parts for row in part])


def test_the_column_is_stronger_than_the_name(tmp_path, rows):
    write(tmp_path / "own" / "train.parquet", rows)
    found = load_dataset(tmp_path / "own", cache_dir=tmp_path / "cache")
    assert {split: len(part) for split, part in found.items()} == {"train": 5, "valid": 2, "test": 2}


def test_a_file_of_its_own_has_no_split_in_its_name(tmp_path, rows):
    for row in rows:
        del row["split"]
    builder = prepare(write(tmp_path / "test.parquet", rows), cache_dir=tmp_path / "cache")
    check(builder.rows()["train"], rows)
    assert any("every row is in `train`; add a column `split`" in warning for warning in builder.report().warnings)


def test_files_that_are_not_read_are_named(tmp_path, rows):
    write(tmp_path / "own" / "a.parquet", rows)
    write(tmp_path / "own" / "old" / "a.parquet", rows)
    warnings = prepare(tmp_path / "own", cache_dir=tmp_path / "cache").report().warnings
    assert warnings == ["files in other folders were not read: old/a.parquet"]


def test_numbers_in_names_are_numbers(tmp_path):
    names = ["train_10.parquet", "train_9.parquet", "train_1.parquet", "data/train_2.parquet", "x/train_0.parquet"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = [str(file.relative_to(tmp_path)) for file in files_in(tmp_path)]
    assert found == ["data/train_2.parquet", "train_1.parquet", "train_9.parquet", "train_10.parquet"]


def test_links(tmp_path, rows):
    outside = write(tmp_path / "outside.parquet", rows)
    folder = tmp_path / "hub" / "snapshots" / "main"
    folder.mkdir(parents=True)
    (folder / "train.parquet").symlink_to(outside)
    with pytest.raises(ValueError, match="is a link that leads out of its folder; name"):
        load_dataset(folder, cache_dir=tmp_path / "cache")
    (folder / "train.parquet").unlink()
    write(tmp_path / "hub" / "blobs" / "0123", rows)
    (folder / "train.parquet").symlink_to("../../blobs/0123")  # as the cache of the Hub has it
    check(load_dataset(folder, cache_dir=tmp_path / "cache")["test"], expected_splits(rows)["test"])


def test_standard_folds_decide_where_nothing_else_does(tmp_path, rows):
    folds = standard_folds("mosi")
    videos = [next(video for video, split in folds.items() if split == wanted) for wanted in ("test", "train", "valid")]
    for number, row in enumerate(rows):
        del row["split"]
        row["id"] = f"{(*videos, 'nobody')[number % 4]}$_${number}"
    builder = prepare(write(tmp_path / "own.parquet", rows, row_group_size=2), cache_dir=tmp_path / "cache")
    for number, split in enumerate(("test", "train", "valid")):
        check(builder.rows()[split], rows[number::4])
    warnings = builder.report().warnings
    assert any("standard folds of CMU-MOSI decided" in warning for warning in warnings)
    assert any(warning.startswith("2 rows of videos that are not in the standard folds") for warning in warnings)
    assert list(load(tmp_path, rows, corpus="none")) == ["train"]


@pytest.mark.parametrize("group", (2, 5))
def test_rows_without_ids(tmp_path, rows, group):
    for row in rows:
        del row["id"]
    path = write(tmp_path / "own.parquet", rows, row_group_size=group)
    for num_proc in (None, 2):
        builder = prepare(path, cache_dir=tmp_path / f"cache{num_proc}", num_proc=num_proc)
        for split, expected in expected_splits(rows).items():
            check(builder.rows()[split], [dict(row, id=f"{split}$_${n}") for n, row in enumerate(expected)])
    assert any("there is no column `id`" in warning for warning in builder.report().warnings)


def test_what_is_not_there_has_no_column(tmp_path):
    rows = [{"id": str(n), "audio_values": None if n < 70 else [[1.0, 2.0]], "vision_values": []} for n in range(80)]
    found = load(tmp_path, rows)["train"]
    assert found.column_names == ["id", "text", "audio_values"]
    assert [row["audio_values"].shape for row in found] == [(0, 2)] * 70 + [(1, 2)] * 10
    warnings = report(tmp_path, rows).warnings
    for words in ("vision has no step in any sample", "no column `text`", "no column `label`"):
        assert any(words in warning for warning in warnings)


def test_what_was_converted_and_written_by_datasets_gives_the_same_rows(tmp_path):
    rng, content = np.random.default_rng(0), {}
    for split in ("train", "valid", "test"):
        content[split] = {"id": [f"{split}$_${row}" for row in range(5)], "regression_labels": rng.uniform(-3, 3, 5)}
        content[split]["raw_text"] = ["words"] * 5
        content[split]["audio"] = rng.standard_normal((5, 6, 5)).astype(np.float32)
        content[split]["audio_lengths"] = np.array([0, 6, 3, 2, 1])
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(content))
    converted = load_dataset(tmp_path / "a.pkl", cache_dir=tmp_path / "cache")
    (tmp_path / "own").mkdir()
    for split, part in converted.items():
        part.to_parquet(tmp_path / "own" / f"{split}.parquet")
    again = load_dataset(tmp_path / "own", cache_dir=tmp_path / "cache")
    for split, part in converted.items():
        assert again[split].features == part.features
        for row, other in zip(part, again[split], strict=True):
            assert all(np.array_equal(row[column], other[column]) for column in row)


def at(number, name, value):
    def change(rows):
        rows[number][name] = value

    return change


def everywhere(name, value):
    return lambda rows: [row.update({name: value}) for row in rows]


def without(name):
    return lambda rows: [row.pop(name) for row in rows]


ERRORS = {
    "id null": (at(3, "id", None), {}, "`id` must be there in every row, but row 3 has none"),
    "id empty": (at(8, "id", ""), {}, "`id` must be there in every row, but row 8 has none"),
    "ids are numbers": (everywhere("id", 5), {}, "`id` must be a column of strings .*int64"),
    "id twice": (at(7, "id", "v0$_$1"), {}, r"`id` must be unique, but 'v0\$_\$1' is in own.parquet and again"),
    "label null": (at(5, "label", None), {}, r"`label` must be a finite number .*id 'v1\$_\$2' has None"),
    "label NaN": (at(2, "label", float("nan")), {}, r"`label` must be a finite number .*id 'v0\$_\$2' has nan"),
    "label too large": (at(2, "label", 1e39), {}, r"`label` must be a finite number .*has 1e\+39"),
    "modality label": (at(2, "audio_label", float("inf")), {}, "`audio_label` must be a finite number .*has inf"),
    "label text": (everywhere("label", "good"), {}, "`label` must be a column of numbers, but its type is string"),
    "split": (at(4, "split", "tset"), {}, r"`split` must be train, .*id 'v1\$_\$1' has 'tset'"),
    "split null": (at(4, "split", None), {}, r"`split` must be train, .*id 'v1\$_\$1' has ''"),
    "emotions five": (at(1, "emotions", [0.0] * 5), {}, r"six finite intensities .*id 'v0\$_\$1' has \[0"),
    "emotions null": (at(1, "emotions", None), {}, r"six finite intensities .*id 'v0\$_\$1' has None"),
    "emotion null": (at(1, "emotions", [0.0, None] * 3), {}, r"six finite intensities .*id 'v0\$_\$1'"),
    "emotion negative": (at(6, "emotions", [0.0] * 5 + [-1.0]), {}, r"six finite intensities .*id 'v2\$_\$0'"),
    "token negative": (at(6, "input_ids", [1, -1]), {}, r"`input_ids` must hold whole .*id 'v2\$_\$0' has -1"),
    "token too large": (at(6, "input_ids", [2**31, 1]), {}, "`input_ids` must hold whole .*has 2147483648"),
    "token null": (at(6, "input_ids", [None]), {}, "`input_ids` must hold whole .*has None"),
    "tokens float": (everywhere("input_ids", [1.5]), {}, "`input_ids` must hold whole numbers, but its type"),
    "types of other length": (at(6, "token_type_ids", [0]), {}, r"one entry per token .*id 'v2\$_\$0' has 1 and 8"),
    "types alone": (without("input_ids"), {}, "`token_type_ids` belong to `input_ids`"),
    "width in a row": (
        at(5, "audio_values", [[1.0] * 5, [1.0] * 4]),
        {},
        r"`audio_values` must have 5 features in every step, .*id 'v1\$_\$2' has a step of 4",
    ),
    "width of a row": (at(8, "text_values", [[1.0] * 4] * 2), {}, r"3 features in every step, .*'v2\$_\$2' .* of 4"),
    "step null": (at(5, "audio_values", [None, [1.0] * 5]), {}, r"id 'v1\$_\$2' has a step that is null"),
    "steps without width": (at(5, "audio_values", [[]]), {}, r"id 'v1\$_\$2' has a step of 0"),
    "flat": (everywhere("audio_values", [1.0]), {"audio_values": pa.list_(F32)}, "a list of steps in each row"),
    "strings in features": (
        everywhere("audio_values", [["a"]]),
        {"audio_values": pa.list_(pa.list_(pa.string()))},
        "`audio_values` must hold sequences of steps, .*a list of steps in each row",
    ),
    "a tensor": (
        everywhere("audio_values", [1.0] * 10),
        {"audio_values": pa.fixed_shape_tensor(F32, (2, 5))},
        "`audio_values` must hold sequences of steps",
    ),
    "long text": (at(0, "text", "x" * 140_000), {}, "`text` must have at most 131,072 bytes .*one has 140,000"),
    "nothing to learn from": (
        lambda rows: [rows.__setitem__(n, {"id": row["id"], "x": 1, "label": 1.0}) for n, row in enumerate(rows)],
        {},
        r"must hold `text`, `input_ids` or .*\['x'\]",
    ),
    "no rows": (lambda rows: rows.clear(), {"id": pa.string()}, "at least one row"),
}


FOUND_IN_A_WORKER = ("label NaN", "width in a row", "emotions null", "token null", "long text")


@pytest.mark.parametrize(
    "case, num_proc", [(case, None) for case in ERRORS] + [(case, 2) for case in FOUND_IN_A_WORKER]
)
def test_error_names_what_is_wrong(tmp_path, rows, case, num_proc):
    change, types, message = ERRORS[case]
    change(rows)
    if "fixed_shape" in str(types):
        storage = pa.array([row["audio_values"] for row in rows], pa.list_(F32, 10))
        whole = table([{name: v for name, v in row.items() if name != "audio_values"} for row in rows])
        kind = types["audio_values"]
        rows = whole.append_column("audio_values", pa.ExtensionArray.from_storage(kind, storage))
    elif not rows:
        rows = pa.table({"id": pa.array([], pa.string())})
    path = write(tmp_path / "own.parquet", rows, {} if isinstance(rows, pa.Table) else types, row_group_size=2)
    with pytest.raises(ValueError, match=rf"(?s){message}.*[;:,] \w") as caught:
        load_dataset(path, cache_dir=tmp_path / "cache", num_proc=num_proc)
    assert "own.parquet" in str(caught.value) and str(tmp_path) not in str(caught.value)
    assert not [file for file in (tmp_path / "cache").rglob("*") if file.is_file() and file.suffix != ".lock"]


def test_row_groups_without_rows(tmp_path, rows):
    path, whole = tmp_path / "own.parquet", table(rows)
    with pq.ParquetWriter(path, whole.schema) as writer:
        for part in (whole[:0], whole[:4], whole[:0], whole[4:]):
            writer.write_table(part)
    for split, expected in expected_splits(rows).items():
        check(load_dataset(path, cache_dir=tmp_path / "cache")[split], expected)


def test_columns_that_are_there_twice(tmp_path, rows):
    whole = table(rows)
    pq.write_table(whole.append_column("label", whole["text_label"]), tmp_path / "own.parquet")
    with pytest.raises(ValueError, match="the column `label` must be there once, but it is there twice; drop"):
        load_dataset(tmp_path / "own.parquet", cache_dir=tmp_path / "cache")


def test_files_that_differ(tmp_path, rows):
    folder = tmp_path / "own"
    write(folder / "a.parquet", rows)
    for name, change, message in (
        ("columns", without("label"), "must have the same columns, but `label` is in only one of a.parquet and b"),
        ("width", everywhere("audio_values", [[1.0]]), "`audio_values` must have 5 features in every step"),
        ("ids", lambda rows: None, r"'v0\$_\$0' is in a.parquet and again in b.parquet"),
    ):
        others = [dict(row, id=row["id"] if name == "ids" else f"x{row['id']}") for row in rows]
        change(others)
        write(folder / "b.parquet", others)
        with pytest.raises(ValueError, match=message):
            load_dataset(folder, cache_dir=tmp_path / "cache")
    (folder / "b.parquet").unlink()
    for row in rows:
        del row["split"]
    write(folder / "a.parquet", rows)
    write(folder / "train.parquet", rows)
    with pytest.raises(ValueError, match="must begin with a split, but a.parquet do not, and 1 others do; rename"):
        load_dataset(folder, cache_dir=tmp_path / "cache")


def test_a_folder_without_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="`data_file` must name a Parquet file or a folder"):
        files_in(tmp_path)


CODE = """
import sys
from datasets_scripts.sources import prepare

def resident(name):
    return int(open("/proc/self/status").read().partition(name)[2].split()[0]) // 1024

before = resident("VmHWM:")
builder = prepare(sys.argv[1], cache_dir=sys.argv[2])
print(before, resident("VmHWM:"), sum(builder.report().rows.values()))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
@pytest.mark.parametrize("rows_in_group", (320, 2**30))
def test_memory_does_not_grow_with_the_file(tmp_path, rows_in_group):
    count, steps, width = 1000, 170, 74
    rng = np.random.default_rng(0)
    parts = []
    for start in range(0, 4000, count):
        values = pa.array(rng.standard_normal(count * steps * width, np.float32))
        inner = pa.ListArray.from_arrays(pa.array(np.arange(0, len(values) + 1, width, np.int32)), values)
        outer = pa.ListArray.from_arrays(pa.array(np.arange(0, len(inner) + 1, steps, np.int32)), inner)
        ids = [f"v$_${start + row}" for row in range(count)]
        parts.append(pa.table({"id": ids, "audio_values": outer, "label": np.zeros(count)}))
    path = write(tmp_path / "own.parquet", pa.concat_tables(parts), row_group_size=rows_in_group)
    assert path.stat().st_size > 150 << 20
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", CODE, str(path), str(tmp_path / "cache")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=True)
    before, peak, rows = map(int, done.stdout.split())
    assert rows == 4000 and peak < before + 80
