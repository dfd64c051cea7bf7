"""The dataset card: its header as the Hub and `datasets` read it, its figures, its escaping, and the picture in it."""

import random
import re
import statistics
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import datasets
import numpy as np
import pytest
from huggingface_hub import DatasetCard

from datasets_scripts import EMOTIONS, ConversionReport, conversion_report, corpora, row_features
from datasets_scripts.cards.card import dataset_card, label_picture
from datasets_scripts.cards.label_plot import bin_width, binned
from datasets_scripts.cards.markdown import MAX_LETTERS, code, item, prose, table
from datasets_scripts.corpora import CorpusInfo, FeatureSet

REAL = Path(__file__).parents[2].parent / "shared" / "data"
NAMES = tuple(f"loud_{index}" for index in range(12))
INFO = CorpusInfo(
    name="Toy Talk 2.0",
    description="Toys who talk about films.",
    people="Two dolls and a train.",
    language="de",
    label_range=(-2, 2),
    label_meaning="Guessed by one bear.",
    splits={"train": 5, "test": 3},
    feature_sets=(),
    homepage="https://example.org/toys",
    request="Ask the bear.",
    licence="Bears only.",
    citation="@misc{bear, title = {Toys}}",
)


def make_report(**changes):
    values = {
        "source": "toys.pkl",
        "source_format": "MMSA pickle",
        "sha256": "ab" * 32,
        "bytes": 1234567,
        "options": {"padding": "auto"},
        "corpus": None,
        "rows": {"train": 6, "valid": 2, "test": 4},
        "columns": ["id", "text", "text_values", "audio_values", "label"],
        "feature_sizes": {"text": 3, "audio": 12},
        "padding": {"text_values": "`text_lengths`", "audio_values": "trailing zero frames"},
        "counts": {"train": {"audio_values": {"nan": 2, "padding_steps": 1500}}, "test": {"audio_values": {"nan": 1}}},
        "lengths": {
            split: {"text_values": [1, 2, 3, 4, 5], "audio_values": [0, 10, 20, 30, 4000]}
            for split in ("train", "test")
        },
        "labels": {"train": {"-1.50": 2, "0.00": 1, "2.00": 3}, "valid": {"0.40": 2}, "test": {"-0.01": 1}},
        "empty_text": {"train": 1, "valid": 0, "test": 0},
        "without_modality": {"train": 0, "valid": 0, "test": 2},
        "ignored_keys": ["annotations"],
        "warnings": ["labels were read from the key `labels`"],
    }
    return ConversionReport(**{**values, **changes})


@pytest.fixture
def toys(monkeypatch):
    """A report of a corpus that is known, whose audio features have names."""
    sets = {("audio", 12): FeatureSet("Loudness", "audio", 12, NAMES, "10 per second", "The bear, https://example.org")}
    monkeypatch.setattr(corpora, "CORPORA", {"toys": INFO})
    monkeypatch.setattr(corpora, "feature_set", lambda corpus, modality, size: sets.get((modality, size)))
    return make_report(corpus="toys")


def card_of(report, picture=None):
    return dataset_card(report, {split: [f"data/{split}-*.parquet"] for split in report.rows}, picture)


def header_of(card):
    return DatasetCard(card, ignore_metadata_errors=False).data.to_dict()


def section(card, title):
    """The text of a section."""
    found = re.search(rf"^## {re.escape(title)}\n\n(.*?)(?=^## |\Z)", card, re.MULTILINE | re.DOTALL)
    assert found, title
    return found[1]


def tables(text):
    """The first table in a text: a list of dicts by column."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    header, rule, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    assert set("".join(rule)) <= {"-", ":"} and all(len(row) == len(header) for row in rows)
    return [dict(zip(header, row, strict=True)) for row in rows]


def test_header_of_a_known_corpus(toys):
    header = header_of(card_of(toys))
    assert header["pretty_name"] == "Toy Talk 2.0 (toys.pkl)" and header["language"] == ["de"]
    assert (header["license"], header["license_name"]) == ("other", "toy-talk-2.0-terms")
    assert header["license_link"] == INFO.homepage
    assert header["task_categories"] == ["text-classification", "audio-classification"]
    assert header["tags"] == ["multimodal-sentiment-analysis", "sentimodal", "text", "audio"]
    assert header["size_categories"] == ["n<1K"]
    assert header["configs"] == [
        {
            "config_name": "default",
            "data_files": [{"split": name, "path": [f"data/{name}-*.parquet"]} for name in ("train", "valid", "test")],
        }
    ]


def test_header_of_an_unknown_corpus():
    header = header_of(card_of(make_report()))
    assert header["pretty_name"] == "Converted from toys.pkl" and header["license"] == "unknown"
    assert not {"language", "license_name", "license_link"} & set(header)
    assert header_of(card_of(make_report(corpus="of a later version")))["license"] == "unknown"


def test_header_names_the_modalities_that_there_are():
    silent = make_report(
        columns=["id", "text", "vision_values"],
        feature_sizes={"vision": 3},
        empty_text={"train": 6, "valid": 2, "test": 4},
        labels={},
        emotions={split: dict.fromkeys(("any", *EMOTIONS), 1) for split in ("train", "valid", "test")},
    )
    header = header_of(card_of(silent))
    assert header["task_categories"] == ["video-classification"] and "task_ids" not in header
    assert header["tags"][2:] == ["emotion-recognition", "vision"]
    tokens = replace(silent, columns=["id", "text", "input_ids"], feature_sizes={})
    assert header_of(card_of(tokens))["task_categories"] == ["text-classification"]


@pytest.mark.parametrize(
    ("rows", "category"),
    [(0, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (22856, "10K<n<100K"), (10**6, "1M<n<10M"), (10**9, "1B<n<10B")],
)
def test_size_categories(rows, category):
    report = make_report(rows={"train": rows}, labels={}, empty_text={"train": 0}, without_modality={"train": 0})
    assert header_of(card_of(report))["size_categories"] == [category]


@pytest.fixture
def folder(tmp_path, toys):
    """Parquet of three splits, the training split in two files, and the card beside them: (folder, rows)."""
    rng = np.random.default_rng(0)
    features = row_features(text_feature_size=3, audio_feature_size=12, emotions=True)
    rows = {
        split: [
            {
                "id": f"{split}$_${row}",
                "text": "words",
                "text_values": rng.standard_normal((row + 1, 3)).astype(np.float32),
                "audio_values": rng.standard_normal((5 * (row % 2), 12)).astype(np.float32),
                "label": np.float32(rng.uniform(-2, 2)),
                "emotions": rng.random(6).astype(np.float32),
            }
            for row in range(count)
        ]
        for split, count in toys.rows.items()
    }
    (tmp_path / "data").mkdir()
    files = {}
    for split, part in rows.items():
        pieces = [part[:4], part[4:]] if split == "train" else [part]
        files[split] = [f"data/{split}-{index:05}-of-{len(pieces):05}.parquet" for index in range(len(pieces))]
        for name, piece in zip(files[split], pieces, strict=True):
            datasets.Dataset.from_list(piece, features=features).to_parquet(tmp_path / name)
    (tmp_path / "README.md").write_text(dataset_card(toys, files), encoding="utf-8")
    (tmp_path / "conversion_report.json").write_text(toys.to_json(), encoding="utf-8")
    return tmp_path, rows


def assert_same_rows(found, expected):
    found = list(found)
    assert [row["id"] for row in found] == [row["id"] for row in expected]
    for one, other in zip(found, expected, strict=True):
        for column in ("text_values", "audio_values", "label", "emotions"):
            assert one[column].dtype == np.float32 and np.shape(one[column]) == np.shape(other[column])
            assert np.array_equal(one[column], other[column])


def test_datasets_reads_the_folder_by_its_header(folder, tmp_path):
    path, rows = folder
    loaded = datasets.load_dataset(str(path), cache_dir=str(tmp_path / "cache"))
    assert list(loaded) == list(rows) == ["train", "valid", "test"]
    for split, part in loaded.with_format("numpy").items():
        assert_same_rows(part, rows[split])


def test_datasets_streams_the_folder_by_its_header(folder, tmp_path):
    path, rows = folder
    streams = datasets.load_dataset(str(path), streaming=True, cache_dir=str(tmp_path / "cache"))
    assert list(streams) == list(rows)
    for split, part in streams.items():
        assert_same_rows(part.with_format("numpy"), rows[split])


def test_terms(toys):
    card = card_of(toys)
    terms = section(card, "Terms")
    for part in (INFO.licence, INFO.request, INFO.homepage, INFO.citation):
        assert part in terms
    assert "These rows belong to Toy Talk 2.0" in terms and "Keep this repository private unless" in terms
    assert f"{INFO.description}\n\n{INFO.people}\n\n" in card[: card.index("## Terms")]
    assert re.findall("^## .*", card, re.MULTILINE)[0] == "## Terms"
    unknown = section(card_of(make_report()), "Terms")
    assert "not recognised" in unknown and "Keep this repository private unless" in unknown
    assert "--corpus" in unknown and "`toys`" in unknown
    assert "--corpus" not in section(card_of(make_report(options={"corpus": "none"})), "Terms")


def test_splits(toys):
    rows = {row["split"]: row for row in tables(section(card_of(toys), "Splits"))}
    assert list(rows) == ["train", "valid", "test", "all"]
    assert [rows[name]["rows"] for name in rows] == ["6", "2", "4", "12"]
    assert [rows[name]["share"] for name in rows] == ["50.0%", "16.7%", "33.3%", "100.0%"]
    assert [rows[name]["without transcript"] for name in rows] == ["1", "0", "0", "1"]
    assert [rows[name]["without any modality"] for name in rows] == ["0", "0", "2", "2"]
    assert [rows[name]["standard rows"] for name in rows] == ["5", "0", "3", "8"]
    alone = replace(toys, rows={"train": 0}, empty_text={}, without_modality={}, labels={}, lengths={})
    (train, test, both) = tables(section(card_of(alone), "Splits"))
    assert (train["rows"], train["share"], test["split"], both["standard rows"]) == ("0", "-", "test", "8")
    assert "standard rows" not in card_of(make_report())


def test_columns_features_and_lengths(toys):
    card = card_of(toys)
    columns = {row["column"]: row for row in tables(section(card, "Columns"))}
    assert list(columns) == [f"`{name}`" for name in toys.columns]
    assert [row["features per step"] for row in columns.values()] == ["", "", "3", "12", ""]
    assert columns["`label`"]["meaning"] == "sentiment of the sample, in [-2, 2]. Guessed by one bear."
    features = section(card, "Features")
    assert "`text_values`, 3 features: not known." in features
    audio = "`audio_values`, 12 features: as many as **Loudness** has (10 per second; The bear, https://example.org)."
    assert audio in features
    names = re.search(r"<details><summary>.*</summary>\n\n(.*)\n\n</details>", features, re.DOTALL)[1]
    assert names.splitlines() == [f"{index}. {name}" for index, name in enumerate(NAMES)]
    lengths = tables(section(card, "Steps per row"))
    assert [(row["column"], row["split"]) for row in lengths] == [
        (f"`{column}`", split) for column in ("text_values", "audio_values") for split in ("train", "test")
    ]
    assert list(lengths[2].values())[2:] == ["0", "10", "20", "30", "4,000"]
    aligned = replace(toys, lengths={"train": dict.fromkeys(("audio_values", "text_values"), [1, 2, 3, 4, 5])})
    (row,) = tables(section(card_of(aligned), "Steps per row"))
    assert row["column"] == "`text_values`, `audio_values`"


def test_features_that_nobody_published():
    card = card_of(make_report(feature_sizes={"text": 11, "audio": 13}))
    assert section(card, "Features").strip() == "What the features of a step are is not known."
    assert "## Features" not in card_of(make_report(feature_sizes={}, columns=["id", "text", "label"]))


def test_label_figures_are_those_of_the_labels():
    rng = random.Random(0)
    labels = {
        split: [round(rng.uniform(-3, 3), 1) for _ in range(count)] for split, count in (("train", 200), ("test", 9))
    }
    labels["test"][0] = 0.0
    counts = {split: {f"{v + 0.0:.2f}": n for v, n in Counter(values).items()} for split, values in labels.items()}
    report = make_report(rows={"train": 200, "test": 10}, labels=counts, empty_text={}, without_modality={}, lengths={})
    rows = {row["split"]: row for row in tables(section(card_of(report), "Labels"))}
    assert list(rows) == ["train", "test"]
    for split, values in labels.items():
        row = rows[split]
        assert row["with label"] == str(len(values)) and row["range"] == f"{min(values):g} to {max(values):g}"
        assert float(row["mean"]) == pytest.approx(statistics.fmean(values), abs=0.0051)
        assert float(row["standard deviation"]) == pytest.approx(statistics.pstdev(values), abs=0.0051)
        for name, number in (
            ("negative", sum(value < 0 for value in values)),
            ("zero", sum(value == 0 for value in values)),
            ("positive", sum(value > 0 for value in values)),
        ):
            assert row[name] == f"{number} ({number / len(values):.1%})"


def test_conversion(toys):
    text = section(card_of(toys), "What the conversion changed")
    assert "- padding of `text_values`: `text_lengths`\n- padding of `audio_values`: trailing zero frames" in text
    assert "Options: `padding` = `auto`." in text and "Not carried over: `annotations`." in text
    assert "| `audio_values` | NaN replaced by 0 | 2 | 0 | 1 |" in text
    assert "| `audio_values` | steps of padding stripped | 1,500 | 0 | 0 |" in text
    assert "- labels were read from the key `labels`" in section(card_of(toys), "Warnings")
    nothing = make_report(counts={}, ignored_keys=[], warnings=[], padding={}, options={})
    assert section(card_of(nothing), "What the conversion changed").strip() == "No value was changed."
    assert "## Warnings" not in card_of(nothing)


def test_every_count_is_shown_even_one_without_words():
    counts = {"train": {"text_values": {"tilted": 7}, "audio_values": {"tilted": 7}, "other": {"nan": 1}}}
    card = card_of(make_report(counts=counts))
    assert (
        "| `text_values`, `audio_values` | tilted | 7 | 0 | 0 |" in card
        and "| `other` | NaN replaced by 0 | 1 |" in card
    )


def test_replaced_values_by_feature(toys):
    replaced = {"train": {"audio_values": {str(k): 100 - k for k in range(12)}}, "test": {"audio_values": {"11": 1000}}}
    report = replace(toys, replaced=replaced)
    rows = tables(section(card_of(report), "What the conversion changed").split("that were not finite")[1])
    assert [row["feature"] for row in rows] == ["11", *map(str, range(9))]
    assert list(rows[0].values()) == ["11", "loud_11", "89", "0", "1,000"]
    assert "and 181 values of 2 other features." in card_of(report)  # 91 and 90
    unnamed = replace(make_report(feature_sizes={"audio": 99}), replaced=replaced)
    assert "| feature | train | valid | test |" in card_of(unnamed)
    assert "audio_values: 2134 values replaced by 0, in 12 of 99 features" in unnamed.summary().splitlines()
    assert sum(sum(part["audio_values"].values()) for part in replaced.values()) == 2134


def test_emotions_and_picture_stand_in_the_card():
    emotions = {split: dict.fromkeys(("any", *EMOTIONS), 1) for split in ("train", "valid", "test")}
    card = card_of(make_report(emotions=emotions), "the labels.png")
    assert "![Histograms of the labels of each split](the%20labels.png)" in section(card, "Labels")
    rows = tables(section(card, "Emotions"))
    assert [row["samples with"] for row in rows] == ["at least one emotion", *EMOTIONS]
    assert list(rows[1].values())[1:] == ["1 (16.7%)", "1 (50.0%)", "1 (25.0%)"]
    plain = card_of(make_report())
    assert "![" not in plain and "## Emotions" not in plain
    assert "## Labels" not in card_of(make_report(labels={}))


def test_many_keys_are_counted():
    text = card_of(make_report(ignored_keys=[f"key{index}" for index in range(1234)]))
    assert "`key49` and 1,184 more." in text and "key50" not in text


PIECES = (
    *("|", "`", "```", "~~~", "\n", "\n---\n", "---", "\r", "\u2028", "\x00", "\ud800", "\\", "\\|", "&lt;", "&#124;"),
    *("<script>alert(1)</script>", "</details>", "<!--", "-->", "**x**", "__y__", "[a](javascript:x)", "![i](u)"),
    *(
        "# h",
        "\n# h",
        "- ",
        "1. ",
        "> ",
        "$x$",
        "$$",
        "word",
        "中文",
        "x$_$3",
        "`code`",
        "{",
        "}",
        ": ",
        "!!python/none ",
    ),
)


def hostile(rng):
    return "".join(rng.choice(PIECES) for _ in range(rng.randint(1, 6)))


def test_escaped_text_holds_no_markup():
    rng = random.Random(0)
    for _ in range(3000):
        text = hostile(rng)
        for written in (prose(text), item("-", text)[2:], code(text)):
            # Code between backticks is literal, and what may stand there cannot end a cell.
            spans = re.findall(r"`[^`]*`", written)
            assert all("|" not in span and "<" not in span for span in spans)
            rest = re.sub(r"</?code>", "", re.sub(r"`[^`]*`", "", written))
            assert not re.search(r"[<>|`*\[\]\\~#$\n\r]", re.sub(r"&#\d+;", "", rest)), (text, written)
            assert "&" not in re.sub(r"&#\d+;", "", rest)
            written.encode("utf-8")
        assert not re.match(r"- (\d+[.)]|[-+=])", item("-", text))
    assert prose("see `vision_values` of x_y_z") == "see `vision_values` of x_y_z"
    assert code("a|b") == "<code>a&#124;b</code>" and code("video$_$3") == "`video$_$3`"


def test_hostile_names_change_nothing_but_words():
    rng = random.Random(1)
    plain = card_of(make_report(replaced={"train": {"audio_values": {"1": 2}}}))
    outline = [line for line in plain.splitlines() if line.startswith(("#", "---", "```"))]
    cells = [line.count("|") for line in plain.splitlines() if line.startswith("| ")]
    for _ in range(200):
        text = hostile(rng)
        report = make_report(
            source=text,
            source_format=text,
            options={"padding": text},
            padding={"text_values": text, "audio_values": text},
            ignored_keys=[text],
            warnings=[text],
            replaced={"train": {"audio_values": {"1": 2}}},
        )
        card = card_of(report)
        lines = card.splitlines()
        found = [line for line in lines if line.startswith(("#", "---", "```"))]
        assert [line for line in found if not line.startswith("# ")] == [
            line for line in outline if not line.startswith("# ")
        ]
        assert [line.count("|") for line in lines if line.startswith("| ")] == cells
        assert not re.search(r"<(?!/?code>)", card.split("\n---\n", 1)[1])
        header = header_of(card)
        assert header["license"] == "unknown" and header["pretty_name"].startswith("Converted from ")
        assert set(header) == set(header_of(plain)) and header["configs"] == header_of(plain)["configs"]
        assert all(line.isprintable() for line in report.summary().split("\n"))
        assert len(report.summary().split("\n")) == len(make_report(replaced=report.replaced).summary().split("\n"))
        card.encode("utf-8")


def test_long_text_is_cut_and_says_so():
    assert code("a" * (MAX_LETTERS + 5)) == f"`{'a' * MAX_LETTERS}... (5 letters more)`"
    card = card_of(make_report(source="n" * 5000, warnings=["w" * 10**6]))
    assert len(card) < 20_000 and "999000 letters more" in card and len(header_of(card)["pretty_name"]) < 250


def test_table():
    assert table(("a", "b"), []) == ""
    assert table(("a", "b"), [("x", 1234), ("y", 5)]) == "| a | b |\n| --- | ---: |\n| x | 1,234 |\n| y | 5 |"


def test_summary_is_short(toys):
    emotions = {split: dict.fromkeys(("any", *EMOTIONS), 1) for split in ("train", "valid", "test")}
    lines = toys.summary().splitlines()
    assert len(lines) <= 15 and len(replace(toys, emotions=emotions).summary().splitlines()) == len(lines) + 7
    assert "corpus: toys" in lines and "audio_values: NaN replaced by 0: train 2, test 1" in lines
    assert "audio_values: median steps: train 20, test 20; maximum 4000" in lines
    assert "corpus" not in make_report().summary()


@pytest.fixture
def figures(monkeypatch):
    """The figures that were saved."""
    figure = pytest.importorskip("matplotlib.figure")
    saved, save = [], figure.Figure.savefig
    monkeypatch.setattr(figure.Figure, "savefig", lambda self, *a, **k: (saved.append(self), save(self, *a, **k)))
    return saved


def test_picture_of_labels(tmp_path, figures):
    labels = {"train": {"-3.00": 1, "-0.20": 3, "0.00": 2, "0.20": 1, "3.00": 3}, "test": {"0.20": 4}}
    report = make_report(rows={"train": 12, "valid": 0, "test": 4}, labels=labels)
    assert label_picture(report, tmp_path / "labels.png")
    assert (tmp_path / "labels.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    train, test = figures[0].axes
    assert train.get_title() == "train, 10 samples" and test.get_title() == "test, 4 samples"
    assert train.get_xlabel() == "sentiment" and train.get_ylabel() == "share of samples"
    bars = {round(bar.get_x() + bar.get_width() / 2, 6): bar.get_height() for bar in train.patches}
    assert bars == pytest.approx({-3: 0.1, -0.2: 0.3, 0: 0.2, 0.2: 0.1, 3: 0.3})
    key = [text.get_text() for text in train.get_legend().get_texts()]
    assert key == ["negative (4)", "zero (2)", "positive (4)"]
    colours = [patch.get_facecolor() for patch in train.get_legend().get_patches()]
    assert len(set(colours)) == 3 and test.patches[0].get_facecolor() == colours[2]


def test_picture_of_emotions(tmp_path, figures):
    emotions = {
        "train": {"any": 5, **dict.fromkeys(EMOTIONS, 3)},
        "valid": {"any": 1, **dict.fromkeys(EMOTIONS, 1)},
        "test": {"any": 4, **dict.fromkeys(EMOTIONS, 2), "fear": 4},
    }
    assert label_picture(make_report(emotions=emotions), tmp_path / "both.png")
    assert label_picture(make_report(emotions=emotions, labels={}), tmp_path / "emotions.png")
    (*_, below), (alone,) = figures[0].axes, figures[1].axes
    for axes in (below, alone):
        assert [tick.get_text() for tick in axes.get_xticklabels()] == list(EMOTIONS)
        heights = [bar.get_height() for bar in axes.patches]
        assert heights == pytest.approx([3 / 6] * 6 + [1 / 2] * 6 + [2 / 4] * 5 + [4 / 4])
        assert [text.get_text() for text in axes.get_legend().get_texts()][0] == "train (5 of 6 with any)"


@pytest.mark.parametrize("labels", [{"0.00": 3}, {f"{3.4e38:.2f}": 1, f"{-3.4e38:.2f}": 1}, {"nan": 1, "1.00": 2}])
def test_picture_of_strange_labels(tmp_path, labels):
    pytest.importorskip("matplotlib")
    assert label_picture(make_report(labels={"train": labels}), tmp_path / "labels.png")


def test_no_picture_without_matplotlib_or_anything_to_draw(tmp_path, monkeypatch):
    path = tmp_path / "labels.png"
    assert not label_picture(make_report(labels={}), path)
    assert not label_picture(make_report(labels={"train": {"nan": 1}}), path)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert not label_picture(make_report(), path)
    assert not path.exists()


def test_picture_leaves_pyplot_alone(tmp_path):
    pytest.importorskip("matplotlib")
    code = (
        "import sys\nfrom datasets_scripts.report import ConversionReport\n"
        "from datasets_scripts.cards.label_plot import label_picture\n"
        "label_picture(ConversionReport.from_json(sys.stdin.read()), sys.argv[1])\n"
        "assert 'matplotlib.figure' in sys.modules and 'matplotlib.pyplot' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "labels.png"],
        input=make_report().to_json(),
        text=True,
        cwd=Path(__file__).parents[2],
        timeout=120,
        check=False,
    )
    assert done.returncode == 0 and (tmp_path / "labels.png").is_file()


@pytest.mark.parametrize("step", [1, 5, 20, 33, 100])
def test_bins_hold_the_labels_around_their_middle(step):
    rng = random.Random(step)
    counts = Counter(step * rng.randint(-300 // step, 300 // step) for _ in range(500))
    width = bin_width(set(counts))
    assert width >= step and 600 / width <= 31
    expected = Counter()
    for value, count in counts.items():
        (index,) = (k for k in range(-700, 700) if k * width - width / 2 <= value < k * width + width / 2)
        expected[index] += count
    assert binned(counts, width) == dict(expected)


@pytest.mark.parametrize("name", ["mosi/text_timing_50.pkl", "mosi/context_10.pkl", "mmmo/aligned_20.pkl"])
def test_cards_of_real_files(name, tmp_path):
    if not (REAL / name).is_file():
        pytest.skip(f"there is no {REAL / name}")
    report = conversion_report(REAL / name, cache_dir=tmp_path)
    card = card_of(report)
    assert header_of(card)["license"] == ("other" if report.corpus else "unknown")
    rows = tables(section(card, "Splits"))
    assert [int(row["rows"].replace(",", "")) for row in rows] == [*report.rows.values(), sum(report.rows.values())]
    assert len(report.summary().splitlines()) <= 20 and len(card.splitlines()) < 250
