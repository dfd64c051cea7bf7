"""Figures measured elsewhere: what is read, and what is refused."""

from pathlib import Path

import pytest

from training.measured import Figures, of_system, read_measured

SHIPPED = sorted((Path(__file__).parents[2] / "benchmarks" / "measured").glob("*.csv"))


def written(folder, text):
    path = folder / "measured.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_rows(tmp_path):
    text = '\ufeffsystem, source,mae,acc2_has0\ntfn,"MMSA 2.2.1, seed 1111",0.843,0.793\n\nmult, paper ,, .5\n'
    assert read_measured(written(tmp_path, text)) == [
        Figures("tfn", "MMSA 2.2.1, seed 1111", {"mae": 0.843, "acc2_has0": 0.793}),
        Figures("mult", "paper", {"acc2_has0": 0.5}),
    ]


def test_names_come_before_model_types():
    rows = [Figures("mult", "a", {}), Figures("mult_small", "b", {}), Figures("mult", "c", {})]
    assert of_system(rows, "mult_small", "mult") == [rows[1]]
    assert of_system(rows, "mult_large", "mult") == [rows[0], rows[2]]
    assert of_system(rows, "tfn_context", "tfn") == of_system(rows, "x", None) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must have the columns system, source and at least one metric.*got an empty file"),
        ("system,mae\na,1\n", "must have the columns system, source.*got system, mae"),
        ("system,source\na,b\n", "at least one metric"),
        ("system,source,mea\na,b,1\n", "unknown column 'mea'.*Nearest: 'mae'"),
        ("system,sauce,mae\na,b,1\n", "unknown column 'sauce'.*Nearest: 'source'"),
        ("system,source,mae,mae\na,b,1,1\n", "column 'mae' twice"),
        ("system,source,mae\n", "a row per system below its header"),
        ("system,source,mae\na,b,1\na,b,c,2\n", "line 3: must have 3 cells.*got 4.*quotes"),
        ("system,source,mae\na,b,1\nb,b,one\n", "line 3, column mae: must be a number, or empty; got 'one'"),
        ("system,source,mae\na,b,nan\n", "line 2, column mae: must be a number from 0 to inf; got 'nan'"),
        ("system,source,mae\na,b,-1\n", "column mae: must be a number from 0"),
        ("system,source,acc7\na,b,37.0\n", "column acc7: must be a number from 0 to 1; got '37.0'. Divide percentages"),
        ("system,source,corr\na,b,1.5\n", "column corr: must be a number from -1 to 1; got '1.5'"),
        ("system,source,mae\n,b,1\n", "line 2: `system` is empty"),
        ("system,source,mae\na,,1\n", "line 2: `source` is empty"),
        ("system,source,mae\na,b,1\na,b,2\n", "two rows of 'a' from 'b'"),
        (b"system,source,mae\n\xff,b,1\n", "must be a CSV file in UTF-8"),
        ('system,source,mae\n"a,b,1\n', "must be a CSV file in UTF-8"),
    ],
)
def test_bad_files(tmp_path, text, message):
    with pytest.raises(ValueError, match=message) as error:
        read_measured(written(tmp_path, text))
    assert "measured.csv" in str(error.value)


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.csv is no file"):
        read_measured(tmp_path / "nowhere.csv")


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_files_that_come_along(path):
    assert all(len(row.values) == 5 and row.source.startswith("MMSA 2.2.1") for row in read_measured(path))


def test_there_are_files_that_come_along():
    assert [path.stem for path in SHIPPED] == ["context_10", "text_timing_50"]
