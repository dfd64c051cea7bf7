"""Means and deviations over runs, and the tables and the plot that show them."""

import csv
import json
import math

import numpy as np
import pytest

from training.comparison import COSTS, Comparison

NAN = float("nan")
MAE, CORR, ACC2 = (0.91, 0.94, 0.985), (0.7, 0.66, 0.71), (0.801, 0.822, 0.8)


def run(seed, mae, corr, acc2, **more):
    return {
        "seed": seed,
        "epochs": 4.0,
        "parameters": 1_234_567,
        "seconds_per_epoch": 2.0 + seed / 10,
        "peak_memory_mb": 1500.0,
        "valid_mae": mae + 0.1,
        "test_mae": mae,
        "test_corr": corr,
        "test_acc2_non0": acc2,
        **more,
    }


@pytest.fixture
def comparison():
    """Three runs of one variant, two of three of another, none of the last."""
    whole = [run(i, *numbers) for i, numbers in enumerate(zip(MAE, CORR, ACC2, strict=True))]
    part = [
        run(0, 1.2, None, 0.5, train_audio_label_mae=0.25),
        run(1, 1.4, 0.2, NAN, train_audio_label_mae=NAN),
    ]
    return Comparison({"M, V": whole, "part": part, "none": []}, wanted=3)


def cells(markdown, variant, column):
    """The cells of a variant below a column, of all tables that have it."""
    found, header = [], []
    for line in markdown.splitlines():
        row = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| |"):
            header = row
        elif line.startswith(f"| {variant} |") and column in header:
            assert len(row) == len(header)
            found.append(row[header.index(column)])
    return found


def read_csv(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, strict=True))


# Numbers


@pytest.mark.parametrize(("column", "values"), [("test_mae", MAE), ("test_corr", CORR), ("test_acc2_non0", ACC2)])
def test_mean_and_sample_deviation(comparison, column, values):
    assert comparison.values("M, V", column) == list(values)
    assert comparison.mean("M, V", column) == pytest.approx(sum(values) / 3, rel=1e-12)
    by_hand = math.sqrt(sum((value - sum(values) / 3) ** 2 for value in values) / 2)
    assert comparison.deviation("M, V", column) == pytest.approx(by_hand, rel=1e-12)
    assert comparison.deviation("M, V", column) == pytest.approx(np.std(values, ddof=1), rel=1e-12)


@pytest.mark.parametrize(("column", "value"), [("test_corr", 0.2), ("test_acc2_non0", 0.5)])
def test_what_a_run_has_no_number_for_does_not_count(comparison, column, value):
    """A correlation with a constant is undefined: null in the results, NaN where they come from elsewhere."""
    assert comparison.values("part", column) == [value] and comparison.mean("part", column) == value
    assert math.isnan(comparison.deviation("part", column))


@pytest.mark.parametrize(("variant", "column"), [("none", "test_mae"), ("M, V", "train_audio_label_mae")])
def test_without_any_value(comparison, variant, column):
    assert comparison.values(variant, column) == []
    assert math.isnan(comparison.mean(variant, column)) and math.isnan(comparison.deviation(variant, column))


def test_columns_are_those_of_any_run_and_not_the_seed(comparison):
    assert comparison.columns == [*list(run(0, 1, 1, 1))[1:], "train_audio_label_mae"]
    assert Comparison({"a": []}, 2).columns == []


def test_folders(tmp_path):
    """A run without results is not finished, whatever else lies in its folder."""
    folders = {"a": [tmp_path / f"a{i}" for i in range(3)], "b": [tmp_path / "b0"]}
    for folder, results in (
        (folders["a"][0], {"test_mae": 1.0, "test_corr": None}),
        (folders["a"][2], {"test_mae": 3}),
    ):
        folder.mkdir()
        (folder / "all_results.json").write_text(json.dumps(results))
    (tmp_path / "a1" / "checkpoint-3").mkdir(parents=True)
    found = Comparison.of_folders(folders)
    assert found.wanted == 3 and list(found.results) == ["a", "b"]
    assert found.values("a", "test_mae") == [1.0, 3.0] and found.results["b"] == []


# Markdown


def test_cells(comparison):
    text = comparison.markdown("Two of them")
    assert text.startswith("# Two of them\n\n") and text.endswith("|\n")
    # Validation and test
    assert cells(text, "M, V", "mae") == ["0.945 ± 0.038", "1.045 ± 0.038"]
    assert cells(text, "M, V", "corr") == ["0.690 ± 0.026"]
    assert cells(text, "M, V", "acc2_non0") == ["80.8 ± 1.2"]
    assert cells(text, "part", "corr") == ["0.200"] and cells(text, "part", "acc2_non0") == ["50.0"]
    assert cells(text, "M, V", "audio_label_mae") == ["-"] and cells(text, "part", "audio_label_mae") == ["0.250"]
    assert cells(text, "none", "mae") == ["-", "-"]


def test_costs(comparison):
    text = comparison.markdown("x")
    cost = text.partition("## Cost")[2].partition("##")[0]
    header = next(line for line in cost.splitlines() if line.startswith("| |"))
    shown = header.strip("| ").split(" | ")[1:]
    assert shown == [name for name in COSTS if name not in ("best_epoch", "train_seconds")]
    assert cells(text, "M, V", "parameters") == ["1,234,567"]  # has no deviation worth showing
    assert cells(text, "M, V", "seconds_per_epoch") == ["2.1 ± 0.1"]
    assert cells(text, "M, V", "peak_memory_mb") == ["1,500 ± 0.0"]


def test_train_seconds_are_a_cost_and_no_label_score():
    text = Comparison({"a": [{"train_seconds": 12.34, "test_mae": 1.0}]}, 1).markdown("x")
    assert "Generated labels" not in text and cells(text, "a", "train_seconds") == ["12.3"]


def test_seeds_that_are_missing_show(comparison):
    text = comparison.markdown("x")
    assert set(cells(text, "M, V", "seeds")) == {"3"}
    assert set(cells(text, "part", "seeds")) == {"2 of 3"} and set(cells(text, "none", "seeds")) == {"0 of 3"}


def test_sections_are_those_with_results(comparison):
    text = comparison.markdown("x")
    headings = [line.removeprefix("## ") for line in text.splitlines() if line.startswith("## ")]
    assert headings == ["Test split", "Cost", "Validation split", "Generated labels"]
    text = Comparison({"a": [{"test_mae": 1.0, "epochs": 1.0}]}, 1).markdown("x")
    assert "Validation split" not in text and "Generated labels" not in text


def test_own_predictions_have_sections_of_their_own():
    """Of the test split, a modality each, below that of the prediction from all; those of validation are in the csv."""
    own = {"test_text_acc6": 0.25, "test_text_f1_happy": 0.5, "test_vision_acc6": 0.125, "valid_text_acc6": 0.75}
    runs = [{"seed": 1, "test_acc6": 0.5, "valid_acc6": 0.625, "epochs": 5.0, **own, "train_text_label_shift": 0.1}]
    text = Comparison({"a": runs, "b": [{"seed": 1, "test_acc6": 0.375}]}, 1).markdown("x")
    sections = dict(section.split("\n\n", 1) for section in text.split("\n## ")[1:])
    assert list(sections) == [
        *("Test split", "Cost", "Test split, text alone", "Test split, vision alone"),
        *("Validation split", "Generated labels"),
    ]
    header = [line for line in text.splitlines() if line.startswith("| |")]
    assert header == [
        *("| | seeds | acc6 |", "| | seeds | epochs |", "| | seeds | acc6 | f1_happy |", "| | seeds | acc6 |"),
        *("| | seeds | acc6 |", "| | seeds | text_label_shift |"),
    ]
    assert cells(text, "a", "acc6") == ["50.0", "25.0", "12.5", "62.5"]
    assert cells(text, "b", "acc6") == ["37.5", "-", "-", "-"] and cells(text, "a", "f1_happy") == ["50.0"]
    assert cells(text, "a", "text_label_shift") == ["0.100"]


def test_own_predictions_in_the_files(tmp_path):
    runs = [{"seed": seed, "test_mae": 1.0 + seed, "valid_audio_mae": 2.0 + seed} for seed in (0, 1)]
    comparison = Comparison({"a": runs}, 2)
    (row,) = read_csv(comparison.write(tmp_path, "x")[1])
    assert (row["test_mae_mean"], row["valid_audio_mae_mean"]) == ("1.5", "2.5")
    assert "valid_audio_mae" in read_csv(tmp_path / "runs.csv")[0]
    assert "audio" not in comparison.markdown("x")


@pytest.mark.parametrize(
    "results",
    [
        {"a": [{"test_mae": 1.0, "epochs": 3.0}]},
        {"a": []},
        {"a|b": [{"test_mae": 1.0}]},
    ],
    ids=["whole", "nothing finished", "bar"],
)
def test_tables_are_rectangular(results):
    """What is not is shown as text."""
    lines = [line for line in Comparison(results, 2).markdown("x").splitlines() if line.startswith("|")]
    bars = [line.replace("\\|", "").count("|") for line in lines]
    assert all(line.endswith("|") for line in lines)
    for start in range(0, len(bars), 3):
        assert len(set(bars[start : start + 3])) == 1


# Files


def test_written_files(comparison, tmp_path):
    out = tmp_path / "deep" / "out"
    written = comparison.write(out, "Heading")
    assert [path.name for path in written] == ["comparison.md", "comparison.csv", "runs.csv", "comparison.png"]
    assert sorted(out.iterdir()) == sorted(written)
    assert written[0].read_text(encoding="utf-8") == comparison.markdown("Heading")


def test_comparison_csv(comparison, tmp_path):
    rows = read_csv(comparison.write(tmp_path, "x")[1])
    assert [row["variant"] for row in rows] == ["M, V", "part", "none"]
    assert [row["seeds"] for row in rows] == ["3", "2", "0"]
    assert list(rows[0]) == [
        "variant",
        "seeds",
        *(f"{name}_{kind}" for name in comparison.columns for kind in ("mean", "std")),
    ]
    for column, values in (("test_mae", MAE), ("test_corr", CORR)):
        assert float(rows[0][f"{column}_mean"]) == comparison.mean("M, V", column)
        assert float(rows[0][f"{column}_std"]) == pytest.approx(np.std(values, ddof=1), rel=1e-12)
    assert rows[1]["test_corr_mean"] == "0.2" and rows[1]["test_corr_std"] == ""
    assert rows[0]["train_audio_label_mae_mean"] == "" and set(list(rows[2].values())[2:]) == {""}


def test_runs_csv(comparison, tmp_path):
    rows = read_csv(comparison.write(tmp_path, "x")[2])
    assert list(rows[0]) == ["variant", "seed", *comparison.columns]
    assert [(row["variant"], row["seed"]) for row in rows] == [
        *(("M, V", str(seed)) for seed in range(3)),
        ("part", "0"),
        ("part", "1"),
    ]
    assert [float(row["test_mae"]) for row in rows] == [*MAE, 1.2, 1.4]
    assert rows[3]["test_corr"] == "" and rows[0]["train_audio_label_mae"] == ""


def test_picture(comparison, tmp_path):
    """Wide for its four metrics, and higher with more variants."""
    image = pytest.importorskip("matplotlib.image")
    picture = image.imread(comparison.write(tmp_path, "x")[3])
    assert picture.ndim == 3 and 1000 < picture.shape[1] < 4000 and 200 < picture.shape[0] < 1000
    assert (picture[..., :3].min(axis=2) < 0.9).mean() > 0.005  # something was drawn
    more = Comparison({**comparison.results, **{f"v{i}": comparison.results["part"] for i in range(6)}}, 3)
    more.plot(tmp_path / "more.png", "x")
    assert image.imread(tmp_path / "more.png").shape[0] > picture.shape[0] + 100


@pytest.mark.parametrize("results", [{"a": [], "b": []}, {"a": [{"seed": 1, "epochs": 2.0}]}], ids=["runs", "metrics"])
def test_nothing_to_compare(results, tmp_path):
    written = Comparison(results, 2).write(tmp_path, "x")
    image = pytest.importorskip("matplotlib.image")
    assert image.imread(written[3]).ndim == 3
    assert [row["seeds"] for row in read_csv(written[1])] == [str(len(runs)) for runs in results.values()]
    assert len(read_csv(written[2])) == sum(len(runs) for runs in results.values())
