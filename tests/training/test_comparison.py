"""Means and deviations over runs, and the tables and the plot that show them."""

import csv
import json
import math

import numpy as np
import pytest

from training.comparison import Comparison, common_ending
from training.comparison_plot import plot
from training.measured import Figures
from training.significance import Difference, Significance
from training.tables import COSTS

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


# The first table


def summary(comparison):
    """The first table: its rows as dictionaries, in order."""
    lines = comparison.markdown("x").split("\n\n")[1].splitlines()
    header, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    return [dict(zip(header, row, strict=True)) for row in rows]


def difference(system, other, value, p):
    return Difference(system, other, value, value - 0.01, value + 0.02, p, p, 1000)


@pytest.fixture
def systems():
    """Four systems of one corpus with a metric each that is theirs to win, and one without a finished run."""
    numbers = {
        "tfn_context": (0.9, 0.70, 0.80),
        "self_mm_context": (0.8, 0.60, 0.81),
        "mult_context": (1.0, None, 0.79),
        "lmf_context": (0.9, 0.65, 0.7904),
    }
    results = {
        name: [run(seed, mae + seed / 100, corr, acc2) for seed in (0, 1)]
        for name, (mae, corr, acc2) in numbers.items()
    }
    return {**results, "none_context": []}


def outcome(*pairs, **more):
    names = {name for pair in pairs for name in (pair.system, pair.other)}
    return Significance("mae", more.pop("unit", "samples"), 1000, dict.fromkeys(names, (12, 511)), pairs, **more)


def test_the_first_table_is_sorted_and_short(systems):
    rows = summary(Comparison(systems, 2))
    assert [row["system"] for row in rows] == ["self_mm", "tfn", "lmf", "mult", "none"]
    assert list(rows[0]) == ["system", "seeds", "mae", "corr", "acc2_non0", "parameters", "seconds per epoch"]
    assert [row["mae"] for row in rows] == [
        *("**0.805 ± 0.007**", "0.905 ± 0.007", "0.905 ± 0.007", "1.005 ± 0.007", "-")
    ]
    assert [row["corr"] for row in rows] == ["0.600", "**0.700**", "0.650", "-", "-"]  # higher is better
    assert [row["acc2_non0"] for row in rows] == ["**81.0**", "80.0", "79.0", "79.0", "-"]
    assert [row["seeds"] for row in rows] == ["2", "2", "2", "2", "0 of 2"]
    text = Comparison(systems, 2).markdown("x")
    assert "without their common ending `_context`" in text and "## Measured" not in text and " p:" not in text
    below = text.partition("## Test split")[2]  # sorted, too
    assert below.index("| self_mm | 2 | 0.805") < below.index("| tfn | 2 | 0.905")
    assert {row["parameters"] for row in rows} == {"1,234,567", "-"}  # the same of all: none is the best


def test_sorted_by_another_metric(systems):
    rows = summary(Comparison(systems, 2, "corr"))
    assert [row["system"] for row in rows] == ["tfn", "lmf", "self_mm", "mult", "none"]
    assert list(rows[0])[2:4] == ["corr", "mae"] and rows[1]["corr"] == "0.650 ± 0.000" and rows[1]["mae"] == "0.905"


def test_what_looks_equal_is_bold_alike():
    """A mean is the best if it is shown as the best one is; where all are alike, none stands out."""
    rows = summary(Comparison({n: [{"test_acc6": v}] for n, v in (("a", 0.5001), ("b", 0.5), ("c", 0.4))}, 1))
    assert [row["acc6"] for row in rows] == ["**50.0**", "**50.0**", "40.0"]
    assert [row["acc6"] for row in summary(Comparison({n: [{"test_acc6": 0.5}] for n in "ab"}, 1))] == ["50.0", "50.0"]


def test_differences_to_the_reference(systems):
    comparison = Comparison(systems, 2)
    pairs = [
        difference("tfn_context", "self_mm_context", 0.1, 0.002),
        difference("tfn_context", "lmf_context", 0.0, 0.9),
        difference("self_mm_context", "lmf_context", -0.1, 0.03),
    ]
    comparison.add_significance(outcome(*pairs, notes=("mult_context is not compared: it has none.",)))
    rows = {row["system"]: row for row in summary(comparison)}
    assert {name: row["difference [95 %]"] for name, row in rows.items()} == {
        "self_mm": "reference",
        "tfn": "+0.100 [+0.090, +0.120]",
        "lmf": "+0.100 [+0.080, +0.110]",
        "mult": "-",
        "none": "-",
    }
    # Two comparisons with the reference, not three.
    assert [rows[name]["p"] for name in ("tfn", "lmf", "self_mm", "mult")] == ["0.004 *", "0.030 *", "", ""]
    text = comparison.markdown("x")
    assert "to `self_mm` (the best `mae` on the validation split)" in text and "correction for 2 comparisons" in text
    assert "over the 511 test samples: 1,000 resamples" in text and "`--resample videos`" in text
    assert "- mult_context is not compared: it has none." in text and "seeds that were run" in text
    assert "So few resamples" not in text


def test_the_reference_is_not_chosen_on_the_test_split(systems):
    for name, runs in systems.items():
        for result in runs:
            result["valid_mae"] = 0.5 if name == "mult_context" else 0.7
    pairs = [difference("tfn_context", name, 0.1, 0.04) for name in ("self_mm_context", "mult_context")]
    comparison = Comparison(systems, 2)
    comparison.add_significance(outcome(*pairs, unit="videos"))
    assert comparison.reference == "mult_context"
    text = comparison.markdown("x")
    assert "over the 12 videos of the 511 test samples" in text and "the test videos vary" in text
    comparison.add_significance(outcome(*pairs), "tfn_context")
    assert "to `tfn` (as asked for)" in comparison.markdown("x")
    assert [row["p"] for row in summary(comparison)] == ["0.080", "", "", "0.080", ""]


def test_a_reference_that_was_not_outcome(systems):
    comparison = Comparison(systems, 2)
    comparison.add_significance(outcome(difference("tfn_context", "lmf_context", 0.1, 0.04)), "none_context")
    assert "No system can be compared with none_context." in comparison.markdown("x")
    assert "p" not in summary(comparison)[0]


def test_shares_differ_by_points_and_small_p_values():
    comparison = Comparison({n: [{"test_acc6": 0.5, "valid_acc6": 0.5}] for n in "ab"}, 1)
    pair = Difference("b", "a", -0.0251, -0.05, -0.001, 0.0002, 0.0002, 10)
    comparison.add_significance(Significance("acc6", "samples", 30, {"a": (9, 9)}, (pair,)))
    assert summary(comparison)[1] == {
        **{"system": "b", "seeds": "1", "acc6": "50.0", "difference [95 %]": "-2.5 [-5.0, -0.1]", "p": "< 0.001 *"}
    }
    assert "So few resamples give no p below 0.065 here, or 0.065 among all pairs." in comparison.markdown("x")


def test_figures_from_elsewhere(systems):
    figures = [
        Figures("tfn", "MMSA 2.2.1", {"mae": 0.843, "acc7": 0.37}),
        Figures("lmf_context", "a paper", {"mae": 0.86, "corr": 0.667}),
        Figures("lmf_context", "another", {"mae": 0.87}),
        Figures("bc_lstm", "a | b", {"corr": 0.5}),
    ]
    types = {name: name.removesuffix("_context") for name in systems}
    comparison = Comparison(systems, 2, figures=figures, model_types=types)
    assert [row["mae elsewhere"] for row in summary(comparison)] == ["", "0.843", "0.860", "", ""]
    text = comparison.markdown("x")
    section = text.partition("## Measured elsewhere\n\n")[2].partition("\n\n")[0]
    assert section.splitlines() == [
        "| system | source | mae | corr | acc7 |",
        "|---|---|---|---|---|",
        "| tfn | MMSA 2.2.1 | 0.843 | - | 37.0 |",
        "| lmf_context | a paper | 0.860 | 0.667 | - |",
        "| lmf_context | another | 0.870 | - | - |",
        "| bc_lstm | a \\| b | - | 0.500 | - |",
    ]
    assert "Of several figures" in text
    alone = Comparison(systems, 2, figures=figures[3:], model_types=types)
    assert "mae elsewhere" not in summary(alone)[0] and "| bc_lstm |" in alone.markdown("x")


@pytest.mark.parametrize(
    ("names", "ending"),
    [
        (["self_mm_context", "tfn_context"], "_context"),
        (["a_text_timing", "b_text_timing"], "_text_timing"),
        (["tfn_context"], ""),
        (["mfn", "tfn"], ""),
        (["_context", "tfn_context"], ""),
        (["x_a", "x_a"], "_a"),
        ([], ""),
    ],
)
def test_common_ending(names, ending):
    assert common_ending(names) == ending


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
    plot(more, tmp_path / "more.png", "x")
    assert image.imread(tmp_path / "more.png").shape[0] > picture.shape[0] + 100


def test_significance_csv(systems, tmp_path):
    comparison = Comparison(systems, 2)
    pairs = (difference("tfn_context", "lmf_context", 0.1, 0.04), difference("tfn_context", "mult_context", 0.2, 0.01))
    comparison.add_significance(outcome(*pairs))
    written = comparison.write(tmp_path, "x")
    assert written[4].name == "significance.csv"
    rows = read_csv(written[4])
    names = ["system", "other", "difference", "low", "high", "p", "p_holm", "resamples", "metric", "resampled"]
    assert list(rows[0]) == names and [row["other"] for row in rows] == ["lmf_context", "mult_context"]
    assert float(rows[1]["high"]) == 0.22 and (rows[0]["metric"], rows[0]["resampled"]) == ("mae", "samples")
    # That of an earlier comparison does not stay beside a new one's tables.
    assert Comparison(systems, 2).write(tmp_path, "x") == written[:4] and not written[4].exists()


def test_picture_of_many(tmp_path, monkeypatch):
    """Sorted; what is far off is written at the edge; figures from elsewhere are hollow."""
    axes = []
    monkeypatch.setattr("training.comparison_plot.save", lambda figure, path: axes.extend(figure.axes))
    maes = {"s0_x": 0.75, "s1_x": 0.7, "s2_x": 0.8, "s3_x": 0.72, "s4_x": 0.78, "s5_x": 1.3}
    results = {name: [{"test_mae": mae - 0.01}, {"test_mae": mae + 0.01}] for name, mae in maes.items()}
    figures = [Figures("s2_x", "a", {"mae": 0.85}), Figures("s3_x", "a", {"mae": 5.0})]
    comparison = Comparison(results, 2, figures=figures)
    comparison.reference = "s1_x"
    plot(comparison, tmp_path / "x.png", "x")
    (axis,) = axes
    assert [label.get_text() for label in axis.get_yticklabels()] == ["s1", "s3", "s0", "s4", "s2", "s5"]
    hollow = [line for line in axis.lines if line.get_markerfacecolor() == "none"]
    assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in hollow] == [(0.85, 4)]
    assert {text.get_text() for text in axis.texts} == {"1.300 \u2192", "5.000 \u2192"}
    assert axis.get_xlim()[1] < 0.9
    labels = {text.get_text() for text in axis.get_legend().get_texts()}
    assert labels == {"one run", "mean ± standard deviation", "measured elsewhere", "mean of s1"}


@pytest.mark.parametrize("results", [{"a": [], "b": []}, {"a": [{"seed": 1, "epochs": 2.0}]}], ids=["runs", "metrics"])
def test_nothing_to_compare(results, tmp_path):
    written = Comparison(results, 2).write(tmp_path, "x")
    image = pytest.importorskip("matplotlib.image")
    assert image.imread(written[3]).ndim == 3
    assert [row["seeds"] for row in read_csv(written[1])] == [str(len(runs)) for runs in results.values()]
    assert len(read_csv(written[2])) == sum(len(runs) for runs in results.values())
