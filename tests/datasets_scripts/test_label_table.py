"""Tables of labels: what the columns mean, what is refused, how much memory that takes, and media beside the table."""

import csv
import dataclasses
import io
import os
import random
import subprocess
import sys
import textwrap
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from datasets_scripts import EMOTIONS, corpora, load_dataset, prepare
from datasets_scripts.tables import csv_rows, label_index
from datasets_scripts.tables.csv_rows import TableFile
from datasets_scripts.tables.label_table import LabelTable

REAL = Path(__file__).parents[2].parent / "shared" / "data"

HEADER = ["video_id", "clip_id", "text", "label", "mode"]
ROWS = [
    ["-made_up1", "0001", 'He said "no", twice', "1.5", "train"],
    ["-made_up1", "0002", "two\nlines", "-0.6666667", "train"],
    ["abc_1", "82_7645", "", "0", "Valid"],
    ["xyz", "3", "  spaces stay ", "-3e0", " TEST "],
    ["xyz", "4", "好看", "2", "train"],
]


def as_csv(rows, header=HEADER, delimiter=",", line_end="\r\n"):
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator=line_end).writerows([header, *rows])
    return text.getvalue()


def column(name, *values):
    """`ROWS` with another column."""
    return [*HEADER, name], [[*row, value] for row, value in zip(ROWS, values, strict=True)]


def write(path, content, encoding="utf-8"):
    path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
    return path


@pytest.fixture
def convert(tmp_path):
    """Writes a table and gives (its rows per split, its report)."""

    def run(content, name="label.csv", encoding="utf-8", num_proc=None, **options):
        path = write(tmp_path / name, content, encoding)
        builder = prepare(path, cache_dir=tmp_path / "cache", num_proc=num_proc, **options)
        return {split: as_plain(rows) for split, rows in builder.rows().items()}, builder.report()

    return run


def as_plain(rows):
    return [
        {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in row.items()}
        for row in rows.with_format(None)
    ]


def refused(convert, content, **options):
    with pytest.raises(ValueError) as caught:
        convert(content, **options)
    assert type(caught.value) is ValueError
    return str(caught.value)


def warned(report, words):
    found = [warning for warning in report.warnings if words in warning]
    assert len(found) == 1, report.warnings
    return found[0]


def plain_rows(text, label=lambda row: row["label"], split="mode"):
    """(id, text, float32 label) per split, by a plain loop."""
    names = {"val": "valid", "dev": "valid", "validation": "valid"}
    found = {}
    for row in csv.DictReader(io.StringIO(text, newline="")):
        name = row[split].strip().lower()
        key = f"{row['video_id'].strip()}$_${row['clip_id'].strip()}"
        found.setdefault(names.get(name, name), []).append((key, row["text"], float(np.float32(label(row)))))
    return found


def triples(rows):
    return {split: [(row["id"], row["text"], row["label"]) for row in part] for split, part in rows.items()}


# What a table gives


def test_mmsa_table(convert):
    text = as_csv(ROWS)
    rows, report = convert(text)
    assert list(rows) == ["train", "valid", "test"]
    assert triples(rows) == plain_rows(text)
    assert rows["valid"][0]["id"] == "abc_1$_$82_7645" and rows["train"][0]["id"] == "-made_up1$_$0001"
    assert report.rows == {"train": 3, "valid": 1, "test": 1}
    assert report.empty_text == {"train": 0, "valid": 1, "test": 0}
    assert report.columns == ["id", "text", "label"] and report.source_format == "table of transcripts and labels"
    assert report.warnings == [] and report.ignored_keys == []


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize(("delimiter", "name"), [(",", "a.csv"), ("\t", "a.tsv"), ("\t", "a.csv"), (";", "a.csv")])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030"])
def test_ways_to_write_the_same(convert, line_end, delimiter, name, encoding):
    text = as_csv(ROWS, delimiter=delimiter, line_end=line_end)
    rows, report = convert(text, name=name, encoding=encoding)
    assert triples(rows) == plain_rows(as_csv(ROWS))
    expected = []
    if encoding == "gb18030":
        expected.append("the table is not UTF-8 and was read as GB18030 (Chinese), such as the text '好看'")
    if (delimiter, name) not in ((",", "a.csv"), ("\t", "a.tsv")):
        expected.append("cells were separated at " + {"\t": "tabs", ";": "semicolons"}[delimiter])
    assert len(report.warnings) == len(expected)
    assert all(warning.startswith(words) for warning, words in zip(report.warnings, expected, strict=True))


def test_order_case_and_spaces_of_names(convert):
    header = [" Mode", "ANNOTATION", "Clip_ID ", "", "Sentiment", "VIDEO_id", "Transcript"]
    rows, report = convert(as_csv([["Dev", "Neutral", " 007 ", "9", " 0.5 ", " v", " t "]], header=header) + "\n\r\n")
    assert rows == {"valid": [{"id": "v$_$007", "text": " t ", "label": 0.5}]}
    assert report.ignored_keys == ["ANNOTATION", "column 4, which has no name"]
    assert report.warnings == ["split 'valid' was read from the name 'dev'"]


def test_ids_of_one_column(convert):
    table = as_csv([["video_0018_0004", "a", "1"], ["x_y_7", "b", "2"]], header=["id", "text", "label"])
    rows, report = convert(table)
    assert [row["id"] for row in rows["train"]] == ["video_0018$_$0004", "x_y$_$7"]
    assert "`video_1` as `video$_$1`" in warned(report, "every `id` ends in `_` and digits")
    for ids in (["a$_$1", "b_2"], ["a_1", "b"], ["_1", "b_1"], ["a_1", "b_²"]):
        rows, report = convert(as_csv([[name, "t", "1"] for name in ids], header=["id", "text", "label"]))
        assert [row["id"] for row in rows["train"]] == ids
        assert not any("digits" in warning for warning in report.warnings)


def test_several_columns_for_one_thing(convert):
    header = ["id", "video_id", "clip_id", "raw_text", "text", "label", "regression_label", "split", "mode"]
    rows, report = convert(as_csv([["0", "v", "1", "RAW", "text", "1", "2", "test", "train"]], header=header))
    assert rows == {"train": [{"id": "v$_$1", "text": "text", "label": 1.0}]}
    assert report.ignored_keys == ["id", "raw_text", "regression_label", "split"]
    for used, unused in (("video_id", "id"), ("text", "raw_text"), ("label", "regression_label"), ("mode", "split")):
        warned(report, f"`{used}` was read, and not `{unused}` beside it")


def test_unimodal_labels(convert):
    header = [*HEADER, "label_T", "label_A", "label_V"]
    values = [["0.1", "0.2", "0.3"], ["-1", "1", "0"], ["0", "0", "0"], ["1", "0", "1"], ["-0.4", "-0.6", "-0.8"]]
    rows, report = convert(as_csv([row + more for row, more in zip(ROWS, values, strict=True)], header=header))
    assert report.columns == ["id", "text", "label", "text_label", "audio_label", "vision_label"]
    expected = {row[0] + "$_$" + row[1]: more for row, more in zip(ROWS, values, strict=True)}
    for row in (row for part in rows.values() for row in part):
        found = [row[f"{modality}_label"] for modality in ("text", "audio", "vision")]
        assert found == [float(np.float32(value)) for value in expected[row["id"]]]


def test_a_column_without_a_number_is_left_out(convert):
    rows, report = convert(as_csv([[*row, " "] for row in ROWS], header=[*HEADER, "label_T"]))
    assert triples(rows) == plain_rows(as_csv(ROWS))
    assert "text_label" not in report.columns and report.ignored_keys == ["label_T"]
    warned(report, "no row has a value in the column label_T, which was left out")
    rows, report = convert(as_csv([[*row[:3], "", row[4]] for row in ROWS]))
    assert report.columns == ["id", "text"] and report.labels == {}
    warned(report, "no row has a value in the column label,")


def test_no_labels_and_no_text(convert):
    rows, report = convert("id\na$_$1\nb$_$2\n")
    assert rows == {"train": [{"id": "a$_$1", "text": ""}, {"id": "b$_$2", "text": ""}]}
    warned(report, "no column `label`, so the rows can be predicted, but not trained")
    warned(report, "no column `text`, so `text` is empty")
    warned(report, "every row is in `train`; add a column `split`")
    assert report.without_modality == {"train": 2}


def test_emotions(convert):
    names = ["fear", "Happy", "SAD", "anger", "surprise", "disgust"]
    values = [[str((row + place) % 4) for place in range(6)] for row in range(len(ROWS))]
    text = as_csv([row + more for row, more in zip(ROWS, values, strict=True)], header=[*HEADER, *names])
    rows, report = convert(text)
    expected = {}
    for row in csv.DictReader(io.StringIO(text, newline="")):
        lower = {name.lower(): value for name, value in row.items()}
        expected[f"{row['video_id']}$_${row['clip_id']}"] = [float(lower[name]) for name in EMOTIONS]
    assert {row["id"]: row["emotions"] for part in rows.values() for row in part} == expected
    assert report.ignored_keys == [] and report.columns == ["id", "text", "label", "emotions"]
    assert refused(convert, text.replace(",0,1,2,3,0,1\r", ",0,1,-2,3,0,1\r")).count("must be 0 or more")
    assert "`SAD` must have a number in every row" in refused(convert, text.replace("0,1,2,3,0,1\r", "0,1,,3,0,1\r"))

    header, more = column("happy", *"01010")
    rows, report = convert(as_csv(more, header=header))
    assert report.ignored_keys == ["happy"] and "emotions" not in report.columns
    empty = as_csv([[*row, *[""] * 6] for row in ROWS], header=[*HEADER, *names])
    rows, report = convert(empty)
    assert "emotions" not in report.columns and sorted(report.ignored_keys) == sorted(names)


@pytest.mark.parametrize("name", ["val", "VAL", "dev", "validation", "Valid"])
def test_names_of_splits(convert, name):
    rows, report = convert(as_csv([["v", "1", "t", "1", name]]))
    assert list(rows) == ["valid"]
    assert len(report.warnings) == (name.lower() != "valid")


def test_num_proc_and_shards(convert, monkeypatch):
    monkeypatch.setattr(label_index, "ROWS_PER_SHARD", 7)
    rng = random.Random(0)
    rows = [
        [f"v{row}", f"{row:04d}", rng.choice(["好", 'say "a, b"', "x\r\ny", ""]) * row, str(row / 8), name]
        for row in range(100)
        for name in [rng.choice(["train", "val", "test"])]
    ]
    text = as_csv(rows)
    expected = plain_rows(text)
    one, _ = convert(text)
    two, report = convert(text + "\r\n", num_proc=2)  # another file, so that the cache does not answer
    assert triples(one) == triples(two) == {name: expected[name] for name in ("train", "valid", "test")}
    assert report.rows == {name: len(expected[name]) for name in ("train", "valid", "test")}


def test_batches_go_by_the_longest_rows(convert, tmp_path, monkeypatch):
    monkeypatch.setattr(label_index, "ROWS_PER_SHARD", 2)
    long = [["v", str(row), "x" * 50_000, "1", "train"] for row in range(4)]
    path = write(tmp_path / "a.csv", as_csv([*ROWS[:2] * 1, *long, *ROWS[3:]]))
    assert 50_000 < LabelTable(cache_dir=str(tmp_path), data_file=str(path)).inspect().row_bytes < 51_000


# Several datasets in one table

SEVERAL = ["dataset", "id", "text", "label", "split"]


def several(*rows):
    return as_csv(rows, header=SEVERAL)


def test_datasets_are_merged(convert, tmp_path, monkeypatch):
    monkeypatch.setattr(label_index, "ROWS_PER_SHARD", 2)
    text = several(
        ("one", "a_1", "old", "0.5", "train"),
        ("one", "a_2", "same", "1", "test"),
        ("one", "b_1", "only here", "-1", "train"),
        ("two", "a_1", "new", "0.50", "TRAIN"),
        ("two", "c_1", "new too", "0", "val"),
        (" two ", "a_2", "same", "1.0", "test"),
        ("three", "a_1", "newest", "5e-1", "train"),
    )
    rows, report = convert(text)
    assert triples(rows) == {
        "train": [("b$_$1", "only here", -1.0), ("a$_$1", "newest", 0.5)],
        "valid": [("c$_$1", "new too", 0.0)],
        "test": [("a$_$2", "same", 1.0)],
    }
    assert report.rows == {"train": 2, "valid": 1, "test": 1}
    warned(report, "('one' 3, 'two' 3, 'three' 1); the option `dataset` reads one of them alone")
    message = warned(report, "3 rows were left out, because their ids come again under another dataset")
    assert "2 of them have another text than the later row, which was kept" in message
    assert outcome(write(tmp_path / "several.csv", text), tmp_path).keys() == rows.keys()

    rows, report = convert(text, dataset="one")
    assert [row["text"] for row in rows["train"]] == ["old", "only here"] and report.options == {"dataset": "one"}
    assert not any("dataset" in warning for warning in report.warnings)
    two, _ = convert(text, num_proc=2)
    assert triples(two)["train"][1][1] == "newest"


@pytest.mark.parametrize(("label", "split"), [("0.6", "train"), ("0.5", "test")])
def test_datasets_that_disagree(convert, label, split):
    text = several(("one", "a_1", "t", "0.5", "train"), ("two", "a_1", "t", label, split))
    message = refused(convert, text)
    assert f"'a$_$1' has train, 0.5 in 'one' (line 2), and {split}, {label} in 'two' (line 3)" in message
    assert "option `dataset`, such as dataset='two'" in message
    assert convert(text, dataset="two")[0][split][0]["label"] == float(np.float32(label))


def test_an_id_twice(convert):
    both = [("one", "a_1", "t", "1", "train"), ("two", "a_1", "t", "1", "train"), ("one", "a_1", "t", "1", "train")]
    assert "'a$_$1' comes again in line 4" in refused(convert, several(*both))
    assert "'a$_$1' comes again in line 4" in refused(convert, several(*both), dataset="one")
    assert "`id` must be unique, but 'xyz$_$3' comes again in line 8, after line 6" in refused(
        convert, as_csv([*ROWS, ROWS[3]])
    )
    convert(several(*both), dataset="two")


def test_the_option_dataset_is_checked(convert):
    text = several(("one", "a_1", "t", "1", "train"), ("two", "a_2", "t", "wrong", "train"))
    message = refused(convert, text, dataset="three")
    assert "must be a value of the column `dataset`, but it is 'three' and the column has 'one', 'two'" in message
    assert "the table has no such column" in refused(convert, as_csv(ROWS), dataset="one")
    assert convert(text, dataset="one")[1].rows == {"train": 1}  # a row that is not read is not checked
    assert "'wrong'" in refused(convert, text, dataset="two")


# No column for the split


@pytest.fixture
def toy_corpus(monkeypatch):
    folds = {"v1": "train", "v2": "valid", "v3": "test"}
    info = dataclasses.replace(corpora.CORPORA["mosi"], name="Toy")
    monkeypatch.setitem(corpora.CORPORA, "toy", info)
    monkeypatch.setattr(corpora, "identify", lambda videos: "toy" if "v1" in set(videos) else None)
    monkeypatch.setattr(corpora, "standard_folds", lambda corpus: folds if corpus == "toy" else {})


def without_split(*ids):
    return as_csv([[name, "t", "1"] for name in ids], header=["id", "text", "label"])


def test_standard_folds(convert, toy_corpus):
    rows, report = convert(without_split("v3_1", "v1_1", "v9_1", "v2_1", "v1_2", "v9_2"))
    assert {split: [row["id"] for row in part] for split, part in rows.items()} == {
        "train": ["v1$_$1", "v1$_$2"],
        "valid": ["v2$_$1"],
        "test": ["v3$_$1"],
    }
    warned(report, "no column for the split, so the standard folds of Toy decided")
    warned(report, "2 rows are of videos that the standard folds do not have and were left out ('v9', ...)")


def test_no_standard_folds(convert, toy_corpus):
    assert list(convert(without_split("w1_1", "w2_1"))[0]) == ["train"]
    assert list(convert(without_split("v2_1", "v3_1"))[0]) == ["train"]  # not known by these
    assert list(convert(without_split("v2_1", "v3_1"), corpus="toy")[0]) == ["valid", "test"]
    rows, report = convert(without_split("v1_1", "v3_1"), corpus="none")
    assert list(rows) == ["train"]
    warned(report, "every row is in `train`; add a column `split` that says train, valid or test")


# Tables that are refused


def row_with(place, value, row=3):
    rows = [list(cells) for cells in ROWS]
    rows[row][place] = value
    return as_csv(rows)


FAULTS = {
    "empty": ("", "must begin with a row of column names"),
    "blank lines": ("\n\n", "must begin with a row of column names"),
    "header only": (as_csv([]), "must have at least one row"),
    "no id": (
        as_csv([["1", "2"]], header=["text", "label"]),
        "a column `id`, or `video_id` and `clip_id`, .* 'text', 'l",
    ),
    "half an id": (as_csv([["1", "2"]], header=["video_id", "label"]), "a column `id`, or `video_id` and `clip_id`"),
    "name twice": (as_csv([["1", "2", "3"]], header=["id", "Label", "label"]), "`label` must be there once"),
    # The second row takes two lines, so the fourth begins at line 6.
    "label empty": (row_with(3, " "), r"`label` must have a number .* line 6 \(id 'xyz\$_\$3'\) has none; fill it in"),
    "label words": (row_with(3, "Positive"), r"`label` must be a finite number .* line 6 \(id .*\) has 'Positive'"),
    "decimal comma": (row_with(3, "0,5"), "with a decimal point if any, but line 6 .* has '0,5'"),
    "label nan": (row_with(3, "nan"), "has 'nan'"),
    "label infinite": (row_with(3, "-inf"), "has '-inf'"),
    "label too large": (row_with(3, "1e39"), "has '1e39'"),
    "label underscore": (row_with(3, "1_5"), "has '1_5'"),
    "split unknown": (row_with(4, "Extra"), "`mode` must be one of train, valid, .* line 6 .* has 'Extra'"),
    "split empty": (row_with(4, ""), "`mode` must be one of train, .* has ''"),
    "no video": (row_with(0, " "), "`video_id` must be there in every row, in one line, but line 6 has none"),
    "line in an id": (row_with(1, "1\n2"), "`clip_id` must be .*, but line 6 has a line break"),
    "cells missing": (as_csv([*ROWS, ["v", "9"]]), "as many cells as the header, 5, but line 8 has 2"),
    "cells too many": (as_csv([*ROWS, [*ROWS[0], ""]]), "as many cells as the header, 5, but line 8 has 6"),
    "quote not closed": ('id,text\na$_$1,"t\na$_$2,t\n', "row that begins at line 2 cannot be read .*quotes"),
    "text after a quote": ('id,text\na$_$1,"t"t\n', "row that begins at line 2 cannot be read"),
    "old line ends": ("id,text\ra$_$1,t\r", "row that begins at line 1 cannot be read .*LF or CRLF"),
    "NUL": ("id,text\na$_$1,t\n\0", "must not hold NUL bytes, but line 3 does"),
    "UTF-16": (as_csv(ROWS).encode("utf-16-le"), "must not hold NUL bytes, .* save it as UTF-8"),
    "UTF-16 with mark": (as_csv(ROWS).encode("utf-16"), "NUL bytes|UTF-8 or GB18030"),
    "neither encoding": (
        "id,text\na$_$1,caf\xe9 \xff\n".encode("latin-1"),
        r"in UTF-8 or GB18030 \(Chinese\), but .*neither",
    ),
    "long row": ("id,text\na," + "x" * (1 << 20) + "\n", "at most 1,048,576 bytes, but the one that begins at line 2"),
    "long row of lines": ("id,text\na" + ',"x\n"' * (1 << 18) + "\n", "at most 1,048,576 bytes, .* at line 2"),
    "long cell": ("id,text\na," + "x" * 131_073 + "\n", "131,?072"),
    "many columns": (",".join(["id", *map(str, range(1000))]) + "\n", "at most 1000 columns, but this one has 1001"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults(convert, fault):
    content, message = FAULTS[fault]
    with pytest.raises(ValueError, match=rf"(?s)^label\.csv: .*{message}") as caught:
        convert(content)
    assert type(caught.value) is ValueError and len(str(caught.value)) < 600


def test_limits_themselves_are_admitted(convert):
    header = ["id", "text", *(f"c{place}" for place in range(998))]
    rows, report = convert(as_csv([["a", "x" * 131_072, *[""] * 998]], header=header))
    assert len(rows["train"][0]["text"]) == 131_072 and len(report.ignored_keys) == 998
    line = "a" + ",x" * 8
    text = "id" + ",x" * 8 + "\n" + line + "y" * 131_000 + "\n"
    assert convert(text)[1].rows == {"train": 1}


def test_a_row_may_be_as_long_as_the_limit(tmp_path):
    cells = ["x" * 131_071] * 8  # with what separates them, 1 MiB
    header = ",".join("abcdefgh")
    for more, refusal in ("", None), ("y", "at most 1,048,576 bytes, but the one that begins at line 3"):
        text = f"{header}\n1,2,3,4,5,6,7,8\n{','.join(cells)}{more}\n"
        rows = TableFile.open(write(tmp_path / "a.csv", text), "utf-8", ",").rows()
        assert next(rows).cells == list("12345678")
        if refusal is None:
            assert [row.cells for row in rows] == [cells]
        else:
            with pytest.raises(ValueError, match=refusal):
                next(rows)


def test_limits_do_not_depend_on_the_process(convert):
    before = csv.field_size_limit(1 << 30)
    try:
        assert "at most 131,072 characters" in refused(convert, FAULTS["long cell"][0])
        assert csv.field_size_limit() == 1 << 30
    finally:
        csv.field_size_limit(before)


def test_too_many_rows(convert, monkeypatch):
    monkeypatch.setattr(csv_rows, "MAX_ROWS", 5)
    assert convert(as_csv(ROWS))[1].rows["train"] == 3
    assert "at most 5 rows, empty lines included, but there is another one at line 8" in refused(
        convert, as_csv([*ROWS, ["v", "9", "t", "1", "train"]])
    )
    assert "at most 5 rows" in refused(convert, as_csv(ROWS) + "\n" * 9)


HOSTILE = {
    "columns": ("", ","),
    "columns after a header": ("id,text\n", ","),
    "one line": ("", "abc "),
    "quote not closed": ('id,text\na,"', "no end, "),
    "quote and lines": ('id,text\na,"', "no end\n"),
    "quotes": ("id,text\n", '"'),
    "bytes of no encoding": ("id,text\n", "\xff"),
    "old line ends": ("id,text\r", "a,b\r"),
}


@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="the memory of a process is read from Linux' /proc")
def test_hostile_tables_within_bounded_memory(tmp_path):
    """Each holds 48 MiB; the process may take 24 MiB more than it has after a small one."""
    script = """
        import pathlib, resource, sys
        from datasets_scripts.tables.label_table import LabelTable

        def refusal(path):
            try:
                LabelTable(cache_dir=str(path.parent), data_file=str(path)).inspect()
            except (ValueError, MemoryError) as error:
                return type(error)

        folder = pathlib.Path(sys.argv[1])
        assert refusal(folder / "small.csv") is None
        pages = int(pathlib.Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + (24 << 20)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        try:
            b"x" * (48 << 20)
        except MemoryError:
            print("limited")
        for path in sorted(folder.glob("hostile*.csv")):
            print(path.stem, refusal(path).__name__)
    """
    write(tmp_path / "small.csv", as_csv(ROWS))
    for number, (start, repeated) in enumerate(HOSTILE.values()):
        with (tmp_path / f"hostile{number}.csv").open("wb") as file:
            file.write(start.encode("latin-1"))
            block = (repeated * (1 << 20))[: 1 << 20].encode("latin-1")
            for _ in range(48):
                file.write(block)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert run.returncode == 0, run.stderr
    expected = ["limited", *(f"hostile{number} ValueError" for number in range(len(HOSTILE)))]
    assert run.stdout.splitlines() == expected


def test_a_huge_sparse_file_is_refused_at_once(tmp_path):
    path = write(tmp_path / "sparse.csv", "id,text\n")
    os.truncate(path, 10 << 30)
    with pytest.raises(ValueError, match="NUL bytes, but line 2"):
        list(TableFile.open(path, "utf-8", ",").rows())


# Anything at all


def outcome(path, folder):
    """The rows of a file per split, or None where it is refused."""
    builder = LabelTable(cache_dir=str(folder), data_file=str(path))
    try:
        source = builder.inspect()
    except ValueError as error:
        assert type(error) is ValueError
        return None
    parts = {
        split: [list(builder.read_rows(split, [shard], None)) for shard in shards]
        for split, shards in source.shards.items()
    }
    assert all(part for shards in parts.values() for part in shards)
    rows = {split: [row for part in shards for row in part] for split, shards in parts.items()}
    assert {split: len(part) for split, part in rows.items()} == source.rows
    ids = [row["id"] for part in rows.values() for row in part]
    assert ids and len(set(ids)) == len(ids)
    for row in (row for part in rows.values() for row in part):
        assert set(row) == set(source.features)
        row["text"].encode()  # can be written
        assert all(np.isfinite(np.float32(row[name])) for name in row if name.endswith("label"))
    return rows


fuzz = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@fuzz
@given(content=st.binary(max_size=300))
@example(content=b"\xef\xbb\xbfid\n\xef\xbb\xbf\n")
@example(content="id,text\n1,\ud7ff\ue000\n".encode("gb18030"))
def test_any_bytes(content, tmp_path):
    outcome(write(tmp_path / "any.csv", content), tmp_path)


@fuzz
@given(data=st.data())
def test_mutated_tables(data, tmp_path):
    header, rows = column("label_T", *"01234")
    content = bytearray(
        as_csv(rows, header=header).encode(data.draw(st.sampled_from(["utf-8", "utf-8-sig", "gb18030"])))
    )
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content)))
        pieces = st.sampled_from([b'"', b",", b"\n", b"\r", b"\0", b"\xff", b"train", b"1", b"\xef\xbb\xbf", b"id"])
        content[place : place + data.draw(st.integers(0, 12))] = data.draw(pieces | st.binary(max_size=3))
    outcome(write(tmp_path / "mutated.csv", bytes(content)), tmp_path)


CELLS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)


@fuzz
@given(
    texts=st.lists(CELLS, min_size=1, max_size=8),
    labels=st.lists(st.floats(-5, 5, width=32), min_size=8, max_size=8),
    splits=st.lists(st.sampled_from(["train", "VAL", "Test"]), min_size=8, max_size=8),
    delimiter=st.sampled_from([",", "\t"]),
)
def test_any_table_is_read_as_it_was_written(texts, labels, splits, delimiter, tmp_path):
    rows = [["v", str(place), text, repr(labels[place]), splits[place]] for place, text in enumerate(texts)]
    text = as_csv(rows, delimiter=delimiter)
    name = "written.tsv" if delimiter == "\t" else "written.csv"
    found = outcome(write(tmp_path / name, text), tmp_path)
    assert found is not None
    assert {split: [(row["id"], row["text"], row["label"]) for row in part] for split, part in found.items()} == (
        plain_rows(as_csv(rows))
    )


# Folders


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "corpus"
    root.mkdir()
    write(root / "label.csv", as_csv(ROWS))
    return root


def touch(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()


def of_folder(folder, **options):
    builder = prepare(folder, cache_dir=folder.parent / "cache", **options)
    return builder.rows(), builder.report()


def test_media(folder):
    touch(folder, "Raw/-made_up1/0001.mp4", "Raw/-made_up1/0001.wav", "abc_1/82_7645.FLAC", "Raw/xyz/3.mkv")
    touch(
        folder, "Raw/xyz/03.mp4", "Raw/other/1.mp4", "Raw/xyz/._4.mp4", "Raw/xyz/4.txt", "Raw/4.mp4", "Raw/xyz/4/a.mp4"
    )
    rows, report = of_folder(folder)
    assert triples({split: as_plain(part) for split, part in rows.items()}) == plain_rows(as_csv(ROWS))
    message = warned(report, "2 of 5 rows have no media file")
    assert "('-made_up1$_$0002', 'xyz$_$4')" in message
    warned(report, "3 media files belong to no row")
    assert len(report.warnings) == 2 and report.bytes == (folder / "label.csv").stat().st_size
    assert report.source == "corpus"

    touch(folder, "Raw/-made_up1/0002.webm", "xyz/4.m4a")
    (folder / "Raw/xyz/03.mp4").unlink()
    (folder / "Raw/other/1.mp4").unlink()
    (folder / "Raw/4.mp4").unlink()
    assert LabelTable(cache_dir=str(folder), data_file=str(folder)).inspect().warnings == []


def test_no_media(folder):
    message = warned(of_folder(folder)[1], "5 of 5 rows have no media file")
    assert message.endswith("('-made_up1$_$0001', '-made_up1$_$0002', 'abc_1$_$82_7645', ...)")


def test_the_report_is_of_the_media_that_are_there_now(folder):
    load_dataset(folder / "label.csv", cache_dir=folder.parent / "cache")  # the same table without its folder
    warned(of_folder(folder)[1], "5 of 5 rows have no media file")
    touch(folder, "Raw/xyz/3.mp4")
    warned(of_folder(folder)[1], "4 of 5 rows have no media file")


def test_links_out_of_the_folder(folder, tmp_path):
    outside = tmp_path / "outside"
    touch(outside, "xyz/3.mp4", "Raw/xyz/4.mp4")
    touch(folder, "inside/0001.mp4")
    (folder / "xyz").symlink_to(outside / "xyz")
    (folder / "Raw").symlink_to(outside / "Raw")
    (folder / "-made_up1").symlink_to(folder / "inside")
    (folder / "loop").symlink_to(folder / "loop")
    _, report = of_folder(folder)
    warned(report, "4 of 5 rows have no media file")
    warned(report, "3 links lead out of the folder and were not followed")
    warned(report, "1 media files belong to no row")  # inside/0001, under its own name

    (folder / "label.csv").unlink()
    (folder / "label.csv").symlink_to(write(outside / "label.csv", as_csv(ROWS)))
    with pytest.raises(ValueError, match="label.csv is a link that leads out of its folder"):
        of_folder(folder)


def test_which_table_of_a_folder(folder):
    write(folder / "extra.csv", as_csv(ROWS[:1]))
    assert sum(of_folder(folder)[1].rows.values()) == 5
    (folder / "label.csv").rename(folder / "Labels.csv")
    assert sum(of_folder(folder)[1].rows.values()) == 5
    (folder / "Labels.csv").rename(folder / "table.tsv")
    with pytest.raises(ValueError, match=r"holds extra.csv, table.tsv; name the one to read"):
        of_folder(folder)
    (folder / "table.tsv").unlink()
    assert of_folder(folder)[1].rows == {"train": 1}
    (folder / "extra.csv").unlink()
    with pytest.raises(FileNotFoundError, match="holds none"):
        LabelTable(cache_dir=str(folder), data_file=str(folder))


# Real files


def real(name):
    path = REAL / name
    if not path.is_file():
        pytest.skip(f"needs the real table {path.name}, which is not part of the project")
    return path


@pytest.mark.parametrize(
    ("name", "counts"),
    [("mosi/text_labels.csv", (1284, 229, 686)), ("mosei/label.csv", (16274, 1861, 4653))],
)
def test_real_tables(name, counts, tmp_path):
    path = real(name)
    found = load_dataset(path, cache_dir=tmp_path, num_proc=2)
    assert tuple(len(found[split]) for split in ("train", "valid", "test")) == counts
    expected = {}
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if "id" in row:
                row["video_id"], row["clip_id"] = row["id"].rsplit("_", 1)
            expected.setdefault(row.get("split") or row["mode"], []).append(
                (f"{row['video_id']}$_${row['clip_id']}", row["text"], float(np.float32(row["label"])))
            )
    for split, rows in found.items():
        columns = (rows.with_format(None)[column] for column in ("id", "text", "label"))
        assert list(zip(*columns, strict=True)) == expected[split]


def test_real_table_without_its_splits(tmp_path):
    with real("mosi/text_labels.csv").open(encoding="utf-8", newline="") as file:
        rows = [[row["id"], row["text"], row["label"]] for row in csv.DictReader(file)]
    path = write(tmp_path / "table.csv", as_csv(rows, header=["id", "text", "label"]))
    builder = prepare(path, cache_dir=tmp_path / "cache")
    with_splits = load_dataset(REAL / "mosi/text_labels.csv", cache_dir=tmp_path / "cache")
    assert {split: list(part["id"]) for split, part in builder.rows().items()} == {
        split: list(part["id"]) for split, part in with_splits.items()
    }
    warned(builder.report(), "no column for the split, so the standard folds of CMU-MOSI decided")


def test_real_ids_are_those_of_the_feature_file(tmp_path):
    table = load_dataset(real("mosi/text_labels.csv"), cache_dir=tmp_path).with_format(None)
    features = load_dataset(real("mosi/text_timing_50.pkl"), cache_dir=tmp_path).with_format(None)
    for split in table:
        labels = dict(zip(table[split]["id"], table[split]["label"], strict=True))
        assert labels == pytest.approx(
            dict(zip(features[split]["id"], features[split]["label"], strict=True)), abs=1e-4
        )


def test_real_tables_of_sims(tmp_path):
    path = real("sims/text_labels.csv")
    with path.open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    later = {row["id"]: row for row in table}
    differ = sum(row["dataset"] == "sims" and row["text"] != later[row["id"]]["text"] for row in table)
    builder = prepare(path, cache_dir=tmp_path, num_proc=2)
    found = builder.rows().with_format(None)
    assert {split: len(rows) for split, rows in found.items()} == {"train": 2722, "valid": 647, "test": 1034}
    assert Counter(row["split"] for row in later.values()) == {split: len(rows) for split, rows in found.items()}
    for split, rows in found.items():
        for name, text, label in zip(rows["id"], rows["text"], rows["label"], strict=True):
            row = later[name.replace("$_$", "_")]
            assert (row["split"], row["text"], float(np.float32(row["label"]))) == (split, text, label)
    assert differ == 32
    message = warned(builder.report(), "2281 rows were left out, because their ids come again under another dataset")
    assert f"{differ} of them have another text" in message
    first = prepare(path, cache_dir=tmp_path, dataset="sims")
    assert first.report().rows == {"train": 1368, "valid": 456, "test": 457}
    texts = {row["id"]: row["text"] for row in table if row["dataset"] == "sims"}
    for rows in first.rows().with_format(None).values():
        assert all(texts[name.replace("$_$", "_")] == text for name, text in zip(rows["id"], rows["text"], strict=True))
