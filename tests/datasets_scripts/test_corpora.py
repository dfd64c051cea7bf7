"""What is known of CMU-MOSI, CMU-MOSEI, CH-SIMS and CH-SIMS v2.0 agrees with itself and with their real files."""

import csv
import json
import pickle
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from datasets_scripts import corpora
from datasets_scripts.corpora import CORPORA, differences_from_standard, feature_set, identify, standard_folds
from datasets_scripts.report import ConversionReport
from datasets_scripts.schema import MODALITIES, SPLITS

REAL = Path(__file__).parents[2].parent / "shared" / "data"
FOLDS = Path(corpora.__file__).parent / "folds"
EVERY_FEATURE_SET = sorted({one for info in CORPORA.values() for one in info.feature_sets}, key=lambda one: one.name)


def real_rows(name):
    path = REAL / name
    if not path.is_file():
        pytest.skip(f"the real file {name} is not at hand")
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def make_report(corpus, **changes):
    """The report of a source that is as published."""
    info = CORPORA[corpus]
    sizes = {}
    for one in info.feature_sets:
        sizes.setdefault(one.modality, one.size)
    low, high = info.label_range
    report = ConversionReport(
        source="file.pkl",
        source_format="MMSA pickle",
        sha256="0" * 64,
        bytes=1,
        options={},
        corpus=corpus,
        rows=dict(info.splits),
        columns=["id", "text", "label"],
        feature_sizes=sizes,
        labels={split: {f"{low:.2f}": 1, "0.00": 2, f"{high:.2f}": 1} for split in info.splits},
    )
    return replace(report, **changes)


@pytest.mark.parametrize(("corpus", "counts"), [("mosi", (52, 10, 31)), ("mosei", (2249, 300, 678))])
def test_folds_have_the_published_numbers_of_videos(corpus, counts):
    lists = json.loads((FOLDS / CORPORA[corpus].folds).read_text(encoding="utf-8"))
    assert tuple(lists) == SPLITS
    assert tuple(len(lists[split]) for split in SPLITS) == counts
    assert all(videos == sorted(videos) for videos in lists.values())
    everything = [video for videos in lists.values() for video in videos]
    assert len(set(everything)) == len(everything) == sum(counts), "folds share a video"
    assert standard_folds(corpus) == {video: split for split, videos in lists.items() for video in videos}


def test_folds_of_two_corpora_share_no_video():
    assert not standard_folds("mosi").keys() & standard_folds("mosei").keys()


@pytest.mark.parametrize(
    ("corpus", "video", "split"),
    [
        ("mosi", "OQvJTdtJ2H4", "train"),
        ("mosi", "WKA5OygbEKI", "valid"),
        ("mosi", "c7UH_rxdZv4", "test"),
        ("mosei", "-3g5yACwYnA", "train"),
        ("mosei", "188343", "valid"),
        ("mosei", "7l3BNtSE0xc", "test"),
        ("mosei", "-NFrJFQijFE", None),  # in the first published lists, not in the present ones
    ],
)
def test_known_videos_are_in_their_fold(corpus, video, split):
    if split is None:
        assert video not in standard_folds(corpus)
    else:
        assert standard_folds(corpus)[video] == split


def test_folds_are_a_copy():
    standard_folds("mosi").clear()
    assert len(standard_folds("mosi")) == 93


@pytest.mark.parametrize("corpus", ["sims", "simsv2"])
def test_sims_has_no_folds_by_video(corpus):
    assert standard_folds(corpus) == {}


def test_folds_agree_with_the_real_mosi_table():
    rows = real_rows("mosi/text_labels.csv")
    found = {row["id"].rpartition("_")[0]: row["split"] for row in rows}
    assert found == standard_folds("mosi")
    assert Counter(row["split"] for row in rows) == CORPORA["mosi"].splits


def test_folds_agree_with_the_real_mosei_table():
    found = {row["video_id"]: row["mode"] for row in real_rows("mosei/label.csv")}
    folds = standard_folds("mosei")
    assert len(found) == 3217
    assert all(folds[video] == split for video, split in found.items())


@pytest.mark.parametrize("corpus", ["sims", "simsv2"])
def test_splits_and_label_range_agree_with_the_real_sims_table(corpus):
    rows = [row for row in real_rows("sims/text_labels.csv") if row["dataset"] == corpus]
    low, high = CORPORA[corpus].label_range
    assert Counter(row["split"] for row in rows) == CORPORA[corpus].splits
    assert (min(float(row["label"]) for row in rows), max(float(row["label"]) for row in rows)) == (low, high)


@pytest.mark.parametrize("one", EVERY_FEATURE_SET, ids=lambda one: f"{one.modality}-{one.size}-{one.name[:20]}")
def test_feature_sets_are_whole(one):
    assert one.modality in MODALITIES
    assert one.name and one.source
    assert one.columns == () or len(one.columns) == one.size
    assert len(set(one.columns)) == len(one.columns)
    assert all(column and column == column.strip() for column in one.columns)


@pytest.mark.parametrize(
    ("corpus", "modality", "size", "columns"),
    [
        (
            "mosi",
            "audio",
            74,
            {0: "F0", 1: "VUV", 10: "creak", 11: "MCEP_0", 36: "HMPDM_0", 61: "HMPDD_0", -1: "HMPDD_12"},
        ),
        ("mosi", "audio", 5, {0: "VUV", 1: "QOQ", 2: "MDQ", 3: "MCEP_14", 4: "HMPDM_24"}),
        ("mosi", "vision", 47, {0: "Face X", 4: "angerEvidence", 16: "angerIntensity", 28: "AU1Evidence"}),
        (
            "mosi",
            "vision",
            20,
            {0: "Frametime", 1: "Face Y", 7: "angerIntensity", 13: "AU1Evidence", 19: "AU17Evidence"},
        ),
        (
            "mosei",
            "vision",
            35,
            {0: "Anger", 5: "Baseline", 10: "AU1", 28: "AU28", 29: "AU43", 32: "Pitch", 34: "Roll"},
        ),
        ("sims", "audio", 33, {0: "zero_crossing_rate", 1: "mfcc_0", 20: "mfcc_19", 21: "chroma_cqt_0"}),
        (
            "simsv2",
            "audio",
            25,
            {0: "Loudness_sma3", 10: "F0semitoneFrom27.5Hz_sma3nz", 24: "F3amplitudeLogRelF0_sma3nz"},
        ),
        ("simsv2", "vision", 177, {0: "pose_Tx", 6: "x_0", 74: "y_0", 142: "AU01_r", 159: "AU01_c", 176: "AU45_c"}),
    ],
)
def test_columns_are_where_they_were_published(corpus, modality, size, columns):
    found = feature_set(corpus, modality, size)
    assert {position: found.columns[position] for position in columns} == columns


def test_openface_columns_are_of_the_published_groups():
    """288 of gaze, 6 of the head pose, 340 of 68 landmarks, 40 of the face shape, 35 action units, in this order."""
    groups = [
        r"gaze_.*|eye_lmk_.*",
        r"pose_[TR][xyz]",
        r"[xyXYZ]_\d+",
        r"p_.*",
        r"AU\d\d_[rc]",
    ]
    columns = list(feature_set("sims", "vision", 709).columns)
    for pattern, count in zip(groups, (288, 6, 340, 40, 35), strict=True):
        assert all(re.fullmatch(pattern, column) for column in columns[:count]), pattern
        columns = columns[count:]
    assert columns == []
    presence = [column for column in feature_set("sims", "vision", 709).columns if column.endswith("_c")]
    assert len(presence) == 18 and "AU28_c" in presence and "AU28_r" not in feature_set("sims", "vision", 709).columns


def test_feature_set_takes_the_only_one_of_a_size():
    assert feature_set("mosei", "audio", 74).name == "COVAREP"
    assert feature_set(None, "audio", 74) is feature_set("mosi", "audio", 74)
    assert feature_set("sims", "text", 768) != feature_set("mosi", "text", 768)
    assert feature_set(None, "text", 768) is None, "English and Chinese BERT"
    assert feature_set("mosi", "vision", 74) is None
    assert feature_set("mosi", "audio", 6) is None
    assert feature_set(None, "vision", 12345) is None


def test_feature_set_takes_none_of_two(monkeypatch):
    info = CORPORA["mosi"]
    twin = replace(feature_set("mosi", "audio", 5), name="other five", columns=())
    monkeypatch.setitem(CORPORA, "mosi", replace(info, feature_sets=(*info.feature_sets, twin)))
    assert feature_set("mosi", "audio", 5) is None
    assert feature_set("mosi", "audio", 74) is not None


@pytest.mark.parametrize(
    "call",
    [
        lambda: standard_folds("iemocap"),
        lambda: feature_set("iemocap", "audio", 74),
        lambda: differences_from_standard("iemocap", make_report("mosi")),
    ],
)
def test_unknown_corpora_are_refused_by_name(call):
    with pytest.raises(ValueError, match="`corpus` must be one of .*'mosi'.*'iemocap' came"):
        call()


@pytest.mark.parametrize(
    ("videos", "corpus"),
    [
        ([], None),
        (["OQvJTdtJ2H4"], "mosi"),
        (["OQvJTdtJ2H4", "unknown"], "mosi"),
        (["OQvJTdtJ2H4", "unknown", "unknown too"], None),
        (["OQvJTdtJ2H4", "188343"], None),  # half of each
        (["OQvJTdtJ2H4", "03bSnISJMiM", "188343"], "mosi"),
        (["7l3BNtSE0xc", "-3g5yACwYnA"], "mosei"),
        (["video_0001"], "sims"),
        (["video_0001", "video_0060"], "sims"),
        (["video_0000", "video_0061"], None),
        (["video_0001", "csbgs2_0001"], "simsv2"),
        (["aqgy4_0005_00008"], "simsv2"),
        (["video_xjzw"], "simsv2"),
        (["video_0001", "test15"], "simsv2"),
        (["video_0001", "test16"], "sims"),
        (["video_0001", "test16", "test17"], None),
        (["test1", "test2", "test15"], None),  # names that any data may have
        (["a", "b", "c"], None),
        (["video_1", "video_00011", "xvideo_0001"], None),
        (["123456", "train0", "x"], None),
    ],
)
def test_identify_by_the_names_of_the_videos(videos, corpus):
    assert identify(videos) == corpus
    assert identify(iter(videos)) == corpus
    assert identify(videos * 3) == corpus


@pytest.mark.parametrize(
    ("file", "dataset", "corpus"),
    [
        ("mosi/text_labels.csv", "mosi", "mosi"),
        ("mosei/label.csv", None, "mosei"),
        ("sims/text_labels.csv", "sims", "sims"),
        ("sims/text_labels.csv", "simsv2", "simsv2"),
    ],
)
def test_identify_real_files(file, dataset, corpus):
    rows = [row for row in real_rows(file) if row.get("dataset") == dataset]
    videos = {row["video_id"] if "video_id" in row else row["id"].rpartition("_")[0] for row in rows}
    assert identify(videos) == corpus
    for split in SPLITS:
        part = {
            row["video_id"] if "video_id" in row else row["id"].rpartition("_")[0]
            for row in rows
            if row.get("split", row.get("mode")) == split
        }
        assert identify(part) == corpus, split


def test_every_real_video_of_sims_is_known():
    for video in {row["id"].rpartition("_")[0] for row in real_rows("sims/text_labels.csv")}:
        assert identify([video, "video_0001"]) in ("sims", "simsv2"), video
        assert video.startswith("test") or identify([video]) is not None, video


@pytest.mark.parametrize("corpus", CORPORA)
def test_facts_are_whole(corpus):
    info = CORPORA[corpus]
    assert tuple(info.splits) == SPLITS and all(rows > 0 for rows in info.splits.values())
    assert info.label_range[0] == -info.label_range[1] < 0
    assert info.language in ("en", "zh")
    assert info.homepage.startswith(("http://", "https://")) and "http" in info.request
    for sentence in (info.description, info.people, info.label_meaning, info.request, info.licence):
        assert sentence == sentence.strip() and sentence.endswith(".") and "\n" not in sentence
    assert "private" in info.licence and "academic" in info.licence
    assert {one.modality for one in info.feature_sets} == set(MODALITIES)
    assert pickle.loads(pickle.dumps(info)) == info


@pytest.mark.parametrize("corpus", CORPORA)
def test_people_are_those_who_speak_and_those_who_rated(corpus):
    people = CORPORA[corpus].people
    assert "raters" in people and "come with the data" in people
    assert len(re.findall(r"\.(?= |$)", people)) <= 3


@pytest.mark.parametrize(
    ("corpus", "seen", "words"), [("sims", 457, "Every video"), ("simsv2", 842, "842 of the 1,034")]
)
def test_clips_of_sims_are_tested_on_videos_that_are_trained_on(corpus, seen, words):
    rows = [row for row in real_rows("sims/text_labels.csv") if row["dataset"] == corpus]
    trained = {row["id"].rpartition("_")[0] for row in rows if row["split"] == "train"}
    tested = [row["id"].rpartition("_")[0] for row in rows if row["split"] == "test"]
    assert len(tested) == CORPORA[corpus].splits["test"]
    assert sum(video in trained for video in tested) == seen
    assert words in CORPORA[corpus].people


@pytest.mark.parametrize("corpus", CORPORA)
def test_citations_are_bibtex(corpus):
    citation = CORPORA[corpus].citation
    assert re.match(r"@(article|inproceedings)\{\w+,\n", citation) and citation.endswith("\n}")
    assert citation.count("{") == citation.count("}")
    fields = dict(re.findall(r"^  (\w+) = \{(.*?)\}(?:,|$)", citation, re.MULTILINE | re.DOTALL))
    assert {"title", "author", "year", "doi"} <= fields.keys()
    assert "journal" in fields or "booktitle" in fields
    assert fields["doi"].startswith("10.")
    years = {"mosi": "2016", "mosei": "2018", "sims": "2020", "simsv2": "2022"}
    assert fields["year"] == years[corpus]


@pytest.mark.parametrize("corpus", CORPORA)
def test_a_source_as_published_differs_in_nothing(corpus):
    assert differences_from_standard(corpus, make_report(corpus)) == []


def test_other_rows_are_named():
    report = make_report("mosi", rows={"train": 1447, "valid": 229, "test": 511})
    assert differences_from_standard("mosi", report) == [
        "the rows differ from the standard splits of CMU-MOSI: train 1447 instead of 1284, test 511 instead of 686"
    ]


def test_a_missing_split_is_named():
    report = make_report("sims", rows={"train": 1368, "test": 457})
    assert differences_from_standard("sims", report) == [
        "the rows differ from the standard splits of CH-SIMS: no valid instead of 456"
    ]


@pytest.mark.parametrize(("rows", "sentences"), [({"train": 16265, "valid": 1869, "test": 4643}, 2), (None, 0)])
def test_computational_sequences_say_that_builds_differ(rows, sentences):
    report = make_report("mosei", source_format="folder of CMU-MultimodalSDK computational sequences")
    found = differences_from_standard("mosei", report if rows is None else replace(report, rows=rows))
    assert len(found) == sentences
    assert all("CMU-MOSEI" in sentence for sentence in found)
    assert sentences == 0 or "computational sequences" in found[1]


def test_labels_outside_the_range_are_counted():
    labels = {"train": {"-3.00": 5, "3.33": 2, "5.00": 1}, "valid": {"0.00": 1}, "test": {"-3.01": 4}}
    assert differences_from_standard("mosei", make_report("mosei", labels=labels)) == [
        "labels outside [-3, 3], the range of CMU-MOSEI, from -3.01 to 5: train 3, test 4 rows"
    ]


def test_labels_that_are_no_numbers_are_outside_the_range():
    report = make_report("sims", labels={"test": {"nan": 2, "0.20": 1}})
    assert differences_from_standard("sims", report) == ["labels outside [-1, 1], the range of CH-SIMS: test 2 rows"]


def test_unknown_feature_sizes_are_named():
    report = make_report("mosi", feature_sizes={"text": 100, "audio": 73, "vision": 20})
    text, audio = differences_from_standard("mosi", report)
    assert text.startswith("`text_values` has 100 features per step") and "(300, 768)" in text
    assert audio.startswith("`audio_values` has 73 features per step") and "(5, 74)" in audio


def test_absent_modalities_and_labels_are_no_difference():
    assert differences_from_standard("mosi", make_report("mosi", feature_sizes={}, labels={})) == []
