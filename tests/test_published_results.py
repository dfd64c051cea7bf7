"""The published figures that stand beside results: they are read, they are of known systems, they are as printed."""

import csv
from pathlib import Path

import pytest

from modeling import MODEL_CLASSES
from spaces.multimodal_sentiment.multimodal_sentiment import METRIC_NAMES
from training.measured import of_system, read_measured

FOLDER = Path(__file__).parents[1] / "model_cards" / "published"
CONVENTIONS = {"mosi": "mosi", "mosei": "mosi", "sims": "sims", "mosei_emotions": "emotions"}
MODEL_TYPES = {model_class.config_class.model_type for model_class in MODEL_CLASSES}


def first(corpus, system):
    """The system's first row, which must be of its own paper."""
    return of_system(read_measured(FOLDER / f"{corpus}.csv"), system, None)[0]


def test_there_is_a_file_per_task():
    assert {path.stem for path in FOLDER.glob("*.csv")} == set(CONVENTIONS)


@pytest.mark.parametrize("corpus", CONVENTIONS)
def test_rows_are_of_known_systems_with_the_metrics_of_the_corpus(corpus):
    path = FOLDER / f"{corpus}.csv"
    rows = read_measured(path)
    with path.open(encoding="utf-8", newline="") as file:
        header = next(csv.reader(file))
    assert set(header[2:]) <= set(METRIC_NAMES[CONVENTIONS[corpus]])
    for row in rows:
        assert row.system in MODEL_TYPES and row.values, row
        assert "table" in row.source or "CMU-MultimodalSDK" in row.source, row.source
    systems = [row.system for row in rows]
    assert systems == sorted(systems, key=systems.index), "the rows of a system stand together"


# Percentages as the papers print them, "negative or not / negative or positive".
SENTIMENT = [
    ("mosi", "self_mm", "Yu et al.", 0.713, 0.798, "84.00/85.98", "84.42/85.95"),  # table 1
    ("mosei", "self_mm", "Yu et al.", 0.530, 0.765, "82.81/85.17", "82.53/85.30"),  # table 1
    ("mosi", "sugrm", "Hwang and Kim", 0.703, 0.800, "84.4/86.3", "84.3/86.3"),  # table 2
    ("mosei", "sugrm", "Hwang and Kim", 0.544, 0.748, "83.7/84.4", "83.6/84.0"),  # table 2
    ("mosei", "mmlatch", "Paraskevopoulos et al.", 0.585, 0.700, "-/82.4", "-/82.5"),  # table 1, average
    ("mosi", "ucrn", "Guo et al.", 0.89, 0.69, "-/81.71", "-/82.01"),  # table 2
    ("mosei", "ucrn", "Guo et al.", 0.60, 0.68, "-/82.25", "-/82.30"),  # table 3
]


@pytest.mark.parametrize(("corpus", "system", "authors", "mae", "corr", "accuracies", "f1"), SENTIMENT)
def test_sentiment_as_the_systems_own_paper_prints_it(corpus, system, authors, mae, corr, accuracies, f1):
    row = first(corpus, system)
    assert row.source.startswith(authors)
    found = {name: value for name, value in row.values.items() if name not in ("acc7", "mae", "corr")}
    assert (row.values["mae"], row.values["corr"]) == (mae, corr)
    expected = {}
    for metric, pair in (("acc2", accuracies), ("f1", f1)):
        for convention, percentage in zip(("has0", "non0"), pair.split("/"), strict=True):
            if percentage != "-":
                expected[f"{metric}_{convention}"] = pytest.approx(float(percentage) / 100, abs=1e-9)
    assert found == expected


def test_seven_classes_of_mmlatch():
    assert first("mosei", "mmlatch").values["acc7"] == 0.520


def test_sims_as_the_paper_of_self_mm_prints_it():
    row = first("sims", "self_mm")
    assert row.source.startswith("Yu et al., AAAI 2021, table 3")
    assert row.values == {"mae": 0.419, "corr": 0.616, "acc2": 0.8074, "f1": 0.8078}


def test_emotions_as_the_paper_of_delta_attention_prints_them():
    row = first("mosei_emotions", "delta_attention")
    assert row.source.startswith("Panchal, 2020, table 2; aligned")
    # Table 2, multimodal, aligned data: accuracy and F1 of happy, sad, anger, surprise, disgust, fear.
    printed = [72.1, 72.6, 75.4, 73.7, 83.2, 75.9, 89.2, 87.0, 87.1, 84.8, 86.3, 93.2]
    names = [
        f"{score}_{name}"
        for name in ("happy", "sad", "anger", "surprise", "disgust", "fear")
        for score in ("acc", "f1")
    ]
    assert row.values == pytest.approx({"acc6": 0.497, **{n: p / 100 for n, p in zip(names, printed, strict=True)}})


def test_emotions_of_ucrn_average_to_the_printed_average():
    weighted, plain = of_system(read_measured(FOLDER / "mosei_emotions.csv"), "ucrn", None)
    assert "weighted accuracy" in weighted.source and "plain accuracy" in plain.source
    assert (weighted.values["wa_avg"], plain.values["acc_avg"]) == (0.8325, 0.8227)
    for row, score in ((weighted, "wa"), (plain, "acc")):
        values = [
            value for name, value in row.values.items() if name.startswith(f"{score}_") and name != f"{score}_avg"
        ]
        assert len(values) == 6
        assert sum(values) / 6 == pytest.approx(row.values[f"{score}_avg"], abs=1e-4)
    # Table 1 goes on after angry with fear, disgust and surprise.
    assert (weighted.values["wa_fear"], weighted.values["wa_surprise"]) == (0.905, 0.879)
    assert (plain.values["acc_fear"], plain.values["f1_fear"]) == (0.897, 0.886)
