"""Drops and tables of robustness.py, by hand."""

import csv
import math
from pathlib import Path

import numpy as np
import pytest

from datasets_scripts import EMOTIONS, MODALITIES
from training.robustness import Measured, Run, conditions
from training.robustness_report import FIELDS, RobustnessReport, main_metric, relative_drop
from training.targets import Target

NAN = math.nan
SENTIMENT = Target("sentiment")
ACC2 = {  # by run: all modalities, the pairs, the single ones, noise 0.5 on all, text, audio, vision
    "seed_1": [0.80, 0.78, 0.76, 0.60, 0.75, 0.55, 0.5, 0.72, 0.74, 0.79, 0.82],
    "seed_2": [0.84, 0.84, 0.80, 0.63, 0.77, 0.56, 0.5, 0.70, 0.72, 0.80, 0.84],
}


def scores(target, **known):
    return {**dict.fromkeys(target.metric_names, 0.5), **known}


def measured(group, run, values, target=SENTIMENT, modalities=MODALITIES, probabilities=(0.5,), without_any=0):
    """A run's results, `values` by condition: a number for the main metric, or several metrics by name."""
    run = Run(group, Path("runs") / group / run, target, None)
    found = conditions(modalities, probabilities)
    values = [value if isinstance(value, dict) else {main_metric(target): value} for value in values]
    return [Measured(run, c, scores(target, **v), without_any) for c, v in zip(found, values, strict=True)]


@pytest.fixture
def report():
    """Two runs of one group, one of a group that reads no vision."""
    less = [{"mae": 0.8, "corr": NAN}, {"mae": 1.0, "corr": 0.2}, *({"mae": 0.6} for _ in range(4))]
    results = [one for run, values in ACC2.items() for one in measured("A|B", run, values, without_any=3)]
    return RobustnessReport(SENTIMENT, results + measured("less", "seed_1", less, modalities=("text", "audio")))


def tables(markdown):
    """By heading, the rows of its table, each a dictionary by column."""
    found = {}
    for section in markdown.split("\n## ")[1:]:
        lines = [line.replace("\\|", "/").strip("|") for line in section.splitlines() if line.startswith("|")]
        header, _, *rows = [[cell.strip() for cell in line.split("|")] for line in lines]
        assert all(len(row) == len(header) for row in rows)
        found[section.partition("\n")[0]] = [dict(zip(header, row, strict=True)) for row in rows]
    return found


def cell(rows, group, condition, column):
    (found,) = [row[column] for row in rows if (row[""], row["condition"]) == (group, condition)]
    return found


# Drops


@pytest.mark.parametrize(
    ("metric", "full", "degraded", "expected"),
    [
        ("acc2_non0", 0.8, 0.6, 25.0),
        ("acc2_non0", 0.8, 0.9, -12.5),
        ("mae", 0.8, 1.0, 25.0),  # an error that grows is worse, too
        ("mae", 0.8, 0.6, -25.0),
        ("corr", 0.5, -0.1, 120.0),
        ("wa_avg", 0.5, 0.5, 0.0),
        ("acc7", 0.0, 0.3, NAN),
        ("mae", 0.0, 0.3, NAN),
        ("corr", -0.2, -0.4, NAN),  # (full - degraded) / full would call it better
        ("corr", NAN, 0.3, NAN),
        ("corr", 0.3, NAN, NAN),
    ],
)
def test_relative_drop(metric, full, degraded, expected):
    assert relative_drop(metric, full, degraded) == pytest.approx(expected, nan_ok=True)


def test_drops_are_of_each_run(report):
    """The mean of the runs' drops, not the drop of their means."""
    drops = report.drops("A|B", "only audio+vision", "acc2_non0")
    assert drops == pytest.approx([100 * 0.20 / 0.80, 100 * 0.21 / 0.84])
    assert report.drops("less", "only text", "mae") == pytest.approx([25.0])
    assert report.drops("less", "only text", "corr") == []  # undefined with everything
    assert report.values("less", "only text", "corr") == [0.2] and report.values("less", "all modalities", "corr") == []
    assert report.drops("less", "only vision", "mae") == []  # not measured


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (Target("sentiment"), "acc2_non0"),
        (Target("sentiment", "sims"), "acc2"),
        (Target("sentiment2"), "acc2_has0"),
        (Target("sentiment7"), "acc7"),
        (Target("emotions"), "wa_avg"),
        (Target("emotion"), "acc6"),
    ],
)
def test_main_metric(target, expected):
    assert main_metric(target) == expected


# Markdown


def test_results(report):
    text = report.markdown("Heading")
    assert text.startswith("# Heading\n\n") and text.endswith("|\n")
    rows = tables(text)["Results"]
    assert [(row[""], row["condition"]) for row in rows] == [
        *(("A/B", condition.name) for condition in conditions(MODALITIES, [0.5])),
        *(("less", condition.name) for condition in conditions(("text", "audio"), [0.5])),
    ]
    shown = cell(rows, "A/B", "only text+vision", "acc2_non0")
    assert shown == f"78.0 ± {100 * np.std([0.76, 0.80], ddof=1):.1f}"
    assert cell(rows, "less", "only text", "mae") == "1.000" and cell(rows, "less", "all modalities", "corr") == "-"
    assert {row["runs"] for row in rows if row[""] == "A/B"} == {"2"}
    assert [row["without any"] for row in rows] == ["3"] * 11 + ["0"] * 6


def test_drop_table(report):
    rows = tables(report.markdown("x"))["Relative drop, in percent"]
    assert "all modalities" not in {row["condition"] for row in rows} and len(rows) == 15
    drops = [100 * (0.80 - 0.72) / 0.80, 100 * (0.84 - 0.70) / 0.84]
    shown = cell(rows, "A/B", "noise 0.5 on all", "acc2_non0")
    assert shown == f"{np.mean(drops):.1f} ± {np.std(drops, ddof=1):.1f}"
    assert cell(rows, "A/B", "noise 0.5 on vision", "acc2_non0").startswith("-1.2")  # noise may help
    assert cell(rows, "less", "only text", "mae") == "25.0" and cell(rows, "less", "only text", "corr") == "-"


def test_tables_of_the_paper(report):
    found = tables(report.markdown("x"))
    (row,) = found["UCRN's table 4: relative drop, one modality removed"]  # the other group has two modalities
    pairs = [np.mean([1 - ACC2[run][i] / ACC2[run][0] for run in ACC2]) for i in (1, 2, 3)]
    expected = " / ".join(f"{100 * value:.2f}" for value in pairs)
    assert row == {
        "": "A/B",
        "acc2_has0 (L+A / L+V / A+V)": "0.00 / 0.00 / 0.00",
        "acc2_non0 (L+A / L+V / A+V)": expected,
        "acc7 (L+A / L+V / A+V)": "0.00 / 0.00 / 0.00",
    }
    both = found["UCRN's table 5: relative drop, noise on all modalities, p = 0.5"]
    assert [row[""] for row in both] == ["A/B", "less"]
    assert both[0]["acc2_non0"] == f"{100 * np.mean([0.08 / 0.80, 0.14 / 0.84]):.2f}"


def test_no_tables_of_the_paper_without_their_conditions():
    values = [0.8, 0.7, 0.6, 0.5]
    results = measured("a", "a", [*values, 0.5, 0.5], modalities=("text", "audio"), probabilities=[0.4])
    assert list(tables(RobustnessReport(SENTIMENT, results).markdown("x"))) == ["Results", "Relative drop, in percent"]
    results = measured("a", "a", [0.8], modalities=("text",), probabilities=[])
    assert list(tables(RobustnessReport(SENTIMENT, results).markdown("x"))) == ["Results"]


def test_emotions(tmp_path):
    target = Target("emotions")
    values = [{"wa_avg": 0.8 - 0.01 * i, "acc_avg": 0.5, "wa_happy": 0.4, "wa_fear": NAN} for i in range(11)]
    report = RobustnessReport(target, measured("a", "a", values, target=target))
    text = report.markdown("x")
    found = tables(text)
    assert list(found["Results"][0])[4:] == ["acc6", "acc_avg", "wa_avg", "f1_avg"] and "robustness.csv" in text
    (row,) = found["UCRN's table 4: relative drop, one modality removed"]
    assert row["wa_avg (L+A / L+V / A+V)"] == "1.25 / 2.50 / 3.75" and len(row) == 3
    with open(report.write(tmp_path, "x")[1], newline="") as file:
        lines = list(csv.DictReader(file))
    assert {f"wa_{emotion}" for emotion in EMOTIONS} < {line["metric"] for line in lines}


def test_notes_come_first(report):
    report.notes = ["One thing.", "Another."]
    before = report.markdown("x").partition("## Results")[0]
    assert "\n\nOne thing.\n\nAnother.\n\n" in before


# Files


def test_files(report, tmp_path):
    out = tmp_path / "deep" / "out"
    written = report.write(out, "Heading")
    assert [path.name for path in written] == ["robustness.md", "robustness.csv", "robustness.png"]
    assert sorted(out.iterdir()) == sorted(written)
    assert written[0].read_text(encoding="utf-8") == report.markdown("Heading")


def test_csv(report, tmp_path):
    with open(report.write(tmp_path, "x")[1], newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file, strict=True))
    assert tuple(lines[0]) == FIELDS
    assert len(lines) == (11 * 2 + 6) * len(SENTIMENT.metric_names)
    (line,) = [
        line
        for line in lines
        if (line["run"], line["condition"], line["metric"]) == ("seed_2", "noise 0.5 on audio", "acc2_non0")
    ]
    assert (line["group"], line["kept_modalities"], line["noise"], line["probability"]) == (
        "A|B",
        "text+audio+vision",
        "audio",
        "0.5",
    )
    assert float(line["value"]) == 0.80 and float(line["drop_percent"]) == pytest.approx(100 * 0.04 / 0.84)
    assert line["samples_without_any_modality"] == "3"
    (line,) = [
        line for line in lines if (line["group"], line["condition"], line["metric"]) == ("less", "only text", "corr")
    ]
    assert (line["kept_modalities"], line["noise"], line["probability"]) == ("text", "", "")
    assert (line["value"], line["drop_percent"]) == ("0.2", "")


def test_a_picture_that_fails_leaves_no_part_of_it(report, tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError("full")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", fail)
    with pytest.raises(OSError, match="full"):
        report.write(tmp_path, "x")
    assert {path.name for path in tmp_path.iterdir()} == {"robustness.md", "robustness.csv"}


@pytest.mark.parametrize(
    ("modalities", "probabilities"),
    [(MODALITIES, [0.0, 0.25, 0.5, 1.0]), (MODALITIES, []), (("text",), [0.5]), (("text",), [])],
    ids=["several", "no noise", "one modality", "nothing"],
)
def test_pictures(tmp_path, modalities, probabilities):
    image = pytest.importorskip("matplotlib.image")
    count = len(conditions(modalities, probabilities))
    results = []
    for group in ("a", "b"):
        values = [0.8 - 0.01 * i for i in range(count)]
        results += measured(group, "seed_1", values, modalities=modalities, probabilities=probabilities)
    picture = image.imread(RobustnessReport(SENTIMENT, results).write(tmp_path, "x")[2])
    assert picture.ndim == 3 and (picture[..., :3].min(axis=2) < 0.9).mean() > 0.002


@pytest.fixture
def drawn(monkeypatch):
    figures = []
    monkeypatch.setattr("training.robustness_report.save", lambda figure, path: figures.append(figure))
    return figures


def test_bars_are_the_drops(report, tmp_path, drawn):
    report.plot(tmp_path / "x.png", "x")
    (bars,) = drawn[0].axes  # with noise of one probability there is no line to draw
    assert [label.get_text() for label in bars.get_yticklabels()][:3] == [
        "only text+audio",
        "only text+vision",
        "only audio+vision",
    ]
    widths = [patch.get_width() for patch in bars.containers[1].patches]
    assert len(widths) == 10 and widths[2] == pytest.approx(25.0)


def test_lines_go_through_the_values(tmp_path, drawn):
    """Of several probabilities: from everything on, for noise on all modalities and on each."""
    several = conditions(MODALITIES, [0.25, 0.5])
    values = [0.9 - 0.01 * i for i in range(len(several))]
    names = {condition.name: value for condition, value in zip(several, values, strict=True)}
    results = measured("a", "seed_1", values, probabilities=[0.25, 0.5])
    RobustnessReport(SENTIMENT, results).plot(tmp_path / "x.png", "x")
    bars, *panels = drawn[0].axes
    assert len(bars.get_yticklabels()) == 6
    assert [panel.get_title() for panel in panels] == [f"noise on {place}" for place in ("all", *MODALITIES)]
    for panel, place in zip(panels, ("all", *MODALITIES), strict=True):
        (container,) = panel.containers
        expected = [[0.0, 0.9], *([p, names[f"noise {p:g} on {place}"]] for p in (0.25, 0.5))]
        np.testing.assert_allclose(container.lines[0].get_xydata(), expected)
