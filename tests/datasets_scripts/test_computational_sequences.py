"""Computational sequences to rows, against plain loops over what was written."""

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import datasets_scripts.corpora as corpora
from datasets_scripts import load_dataset, prepare
from datasets_scripts.csd.computational_sequences import ComputationalSequences, ComputationalSequencesConfig
from datasets_scripts.csd.csd_sequences import ROLES, select

h5py = pytest.importorskip("h5py")
REAL = Path(__file__).parents[2].parent / "shared" / "data"
REAL_WORDS = REAL / "mosi" / "CMU_MOSI_ModifiedTimestampedWords.csd"
needs_real_words = pytest.mark.skipif(not REAL_WORDS.is_file(), reason="the real words of CMU-MOSI are not there")

EPSILON = 1e-5
AUDIO, VISION, TEXT = "my_COVAREP", "my_Visual_Facet_42", "my_TimestampedWordVectors"
WORDS, LABELS = "my_TimestampedWords", "my_Opinion_Labels"
COLUMNS = {"text_values": TEXT, "audio_values": AUDIO, "vision_values": VISION}


def write(folder, stem, entries, name=None, **storage):
    """A sequence; `entries` are (features, intervals) by entry."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{stem}.csd"
    with h5py.File(path, "w") as file:
        data = file.create_group(f"{name or stem}/data")
        for entry, (features, intervals) in entries.items():
            group = data.create_group(entry)
            group.create_dataset("features", data=features, **storage)
            group.create_dataset("intervals", data=intervals)
        text = file.create_dataset(f"{name or stem}/metadata/root name", (1,), h5py.string_dtype())
        text[0] = json.dumps(name or stem)
    return path


def frames(rng, rate, seconds, width):
    """Frames of a constant rate, some of them not finite."""
    starts = np.arange(0, seconds, 1 / rate)
    features = rng.standard_normal((len(starts), width))
    features[rng.random(features.shape) < 0.02] = np.nan
    features[rng.random(features.shape) < 0.01] = -np.inf
    return features, np.stack([starts, starts + 1 / rate], axis=1)


def spoken(rng, seconds, start=0.3):
    """Words that touch, pauses between some."""
    borders = np.sort(rng.uniform(start, seconds - 1, 40))
    words = [b"sp" if rng.random() < 0.25 else f"word{number}".encode() for number in range(39)]
    return np.array(words)[:, None], np.stack([borders[:-1], borders[1:]], axis=1)


def corpus(seed=0, videos=5, seconds=20.0, emotions=False):
    """By name, the entries of five sequences: labels overlap, are not in order, and begin before 0."""
    rng = np.random.default_rng(seed)
    sequences = {name: {} for name in (WORDS, TEXT, AUDIO, VISION, LABELS)}
    for number in range(videos):
        video = f"video{number}"
        words, intervals = spoken(rng, seconds)
        sequences[WORDS][video] = words, intervals
        said = words[:, 0] != b"sp"
        sequences[TEXT][video] = rng.standard_normal((said.sum(), 4)), intervals[said]
        sequences[AUDIO][video] = frames(rng, 20, seconds, 3)
        sequences[VISION][video] = frames(rng, 3, seconds - 5, 2)  # words without a frame at the end
        starts = rng.permutation(np.linspace(-0.5, seconds - 3, 6))
        values = rng.uniform(0, 3, (6, 7 if emotions else 1))
        values[:, 0] -= 1.5
        sequences[LABELS][video] = values, np.stack([starts, starts + 3.7], axis=1)
    return sequences


def write_all(folder, sequences, **storage):
    for name, entries in sequences.items():
        write(folder, name, entries, **({} if name == WORDS else storage))
    return folder


def overlapping(intervals, start, end):
    return [row for row, (a, b) in enumerate(np.asarray(intervals).tolist()) if min(b, end) - max(a, start) > EPSILON]


def mean_by_loop(rows):
    means = []
    for column in range(rows.shape[1]):
        values = [value for value in rows[:, column].tolist() if math.isfinite(value)]
        means.append(math.fsum(values) / len(values) if values else 0.0)
    return means


def rows_by_loop(sequences, align):
    """What the conversion should give, and the counts, in the plainest way."""
    rows, filled, left_out = [], {}, {}
    for video in sorted(sequences[LABELS]):
        values, intervals = sequences[LABELS][video]
        for index, (start, end) in enumerate(intervals):
            row = {"id": f"{video}$_${index}", "label": values[index, 0], "emotions": values[index, 1:]}
            words, times = sequences[WORDS].get(video, (np.zeros((0, 1), "S1"), []))
            said = [place for place in overlapping(times, start, end) if words[place, 0] != b"sp"]
            row["text"] = " ".join(words[place, 0].decode() for place in said)
            for column, name in COLUMNS.items():
                features, own = sequences[name].get(video, (np.zeros((0, 1)), []))
                if align == "labels":
                    steps = features[overlapping(own, start, end)]
                else:
                    hits = [overlapping(own, *times[place]) for place in said]
                    steps = [mean_by_loop(features[hit]) if hit else [0.0] * features.shape[1] for hit in hits]
                    if not any(hits):
                        steps = []
                    else:
                        filled[column] = filled.get(column, 0) + sum(not hit for hit in hits)
                        wrong = sum(int((~np.isfinite(features[hit])).sum()) for hit in hits)
                        left_out[column] = left_out.get(column, 0) + wrong
                row[column] = np.asarray(steps, np.float32)
            rows.append(row)
    return rows, filled, left_out


def check_rows(rows, expected):
    assert rows["id"] == [row["id"] for row in expected]
    assert rows["text"] == [row["text"] for row in expected]
    np.testing.assert_array_equal(rows["label"], np.array([row["label"] for row in expected], np.float32))
    for got, row in zip(rows, expected, strict=True):
        for column in COLUMNS:
            steps = np.nan_to_num(row[column], nan=0.0, posinf=0.0, neginf=0.0)
            if not len(steps):
                assert got[column].shape[0] == 0
            else:
                np.testing.assert_allclose(got[column], steps, rtol=1e-6, atol=1e-6)
        if "emotions" in got:
            np.testing.assert_array_equal(got["emotions"], row["emotions"].astype(np.float32))


@pytest.mark.parametrize("align", ["labels", "words"])
@pytest.mark.parametrize("emotions", [False, True])
def test_rows_against_plain_loops(tmp_path, align, emotions):
    sequences = corpus(emotions=emotions)
    storage = {"compression": "gzip", "chunks": True, "shuffle": True} if emotions else {}
    builder = prepare(write_all(tmp_path / "folder", sequences, **storage), cache_dir=tmp_path / "cache", align=align)
    rows, report = builder.rows(), builder.report()
    expected, filled, left_out = rows_by_loop(sequences, align)
    assert list(rows) == ["train"] and ("emotions" in rows["train"].column_names) == emotions
    check_rows(rows["train"], expected)
    assert report.feature_sizes == {"text": 4, "audio": 3, "vision": 2}
    for column in COLUMNS:
        counts = report.counts["train"].get(column, {})
        assert counts.get("filled_steps", 0) == filled.get(column, 0)
        assert counts.get("left_out_values", 0) == left_out.get(column, 0)
        assert counts.get("empty_sequences", 0) == sum(not len(row[column]) for row in expected)
    if align == "words":
        assert filled["vision_values"] > 0 and left_out["audio_values"] > 0
    else:
        assert report.counts["train"]["audio_values"]["nan"] > 0
    assert report.source_format == "CMU-MultimodalSDK sequences (.csd)"
    assert report.ignored_keys == [] and AUDIO in report.padding["audio_values"]
    assert report.options["align"] == align


@pytest.mark.parametrize("align", ["labels", "words"])
def test_processes_give_the_same(tmp_path, align):
    folder = write_all(tmp_path / "folder", corpus(videos=7))
    one = prepare(folder, cache_dir=tmp_path / "one", align=align)
    two = prepare(folder, cache_dir=tmp_path / "two", align=align, num_proc=2)
    for first, second in zip(one.rows()["train"], two.rows()["train"], strict=True):
        assert first.keys() == second.keys()
        for column, value in first.items():
            np.testing.assert_array_equal(value, second[column])
    assert one.report() == two.report()


def test_videos_that_a_sequence_lacks(tmp_path):
    sequences = corpus()
    del sequences[AUDIO]["video1"], sequences[WORDS]["video2"], sequences[LABELS]["video4"]
    empty = np.zeros(0), np.zeros(0)  # as extractors leave it behind when they fail
    sequences[VISION]["video3"] = empty
    folder = write_all(tmp_path / "folder", sequences)
    sequences[VISION]["video3"] = np.zeros((0, 2)), np.zeros((0, 2))
    for align in ("labels", "words"):
        builder = prepare(folder, cache_dir=tmp_path / "cache", align=align)
        expected, *_ = rows_by_loop(sequences, align)
        check_rows(builder.rows()["train"], expected)
        assert builder.rows()["train"][6]["audio_values"].shape == (0, 3)
        warnings = "\n".join(builder.report().warnings)
        assert "audio lacks 1 of 4 videos: video1" in warnings
        assert "words lacks 1 of 4 videos: video2" in warnings
        assert "vision lacks 1 of 4 videos: video3" in warnings
        assert "1 videos without labels were left out: video4" in warnings
        assert builder.report().counts["train"]["audio_values"]["empty_sequences"] >= 6
    assert builder.report().without_modality["train"] == sum(
        not row["text"] and not any(len(row[column]) for column in COLUMNS) for row in expected
    )


def test_frames_that_are_not_in_order(tmp_path):
    """They are sorted by start, as the SDK does, and that is counted."""
    sequences = corpus()
    plain = prepare(write_all(tmp_path / "plain", sequences), cache_dir=tmp_path / "cache").rows()["train"]
    rng = np.random.default_rng(5)
    for name in (AUDIO, WORDS):
        features, intervals = sequences[name]["video3"]
        order = rng.permutation(len(features))
        sequences[name]["video3"] = features[order], intervals[order]
    builder = prepare(write_all(tmp_path / "mixed", sequences), cache_dir=tmp_path / "cache")
    for first, second in zip(plain, builder.rows()["train"], strict=True):
        for column, value in first.items():
            np.testing.assert_array_equal(value, second[column])
    counts = builder.report().counts["train"]
    assert counts["audio_values"]["sorted_sequences"] == 1 and counts["text"]["sorted_sequences"] == 1
    assert "sorted_sequences" not in counts["vision_values"]


def test_parts_that_the_sdk_aligned(tmp_path):
    """Word-aligned parts of a video, `video[3]`, are its frames; parts of the labels are matched by name."""
    sequences = corpus(videos=3)
    expected, *_ = rows_by_loop(sequences, "labels")
    audio = {}
    for video, (features, intervals) in sequences[AUDIO].items():
        for part, first in enumerate(range(0, len(features), 13)):
            audio[f"{video}[{part}]"] = features[first : first + 13], intervals[first : first + 13]
    builder = prepare(write_all(tmp_path / "words", {**sequences, AUDIO: audio}), cache_dir=tmp_path / "cache")
    check_rows(builder.rows()["train"], expected)
    assert not any("audio lacks" in warning for warning in builder.report().warnings)
    assert "sorted_sequences" not in builder.report().counts["train"]["audio_values"]  # `[10]` comes after `[9]`

    cut = {name: {} for name in sequences}
    for video, (values, intervals) in sequences[LABELS].items():
        for part, (start, end) in enumerate(intervals):
            cut[LABELS][f"{video}[{part}]"] = values[part : part + 1], intervals[part : part + 1]
            for name in (TEXT, AUDIO, VISION):
                features, own = sequences[name][video]
                hit = overlapping(own, start, end)
                if hit:
                    cut[name][f"{video}[{part}]"] = features[hit], own[hit]
    cut[WORDS] = sequences[WORDS]  # of whole videos
    builder = prepare(write_all(tmp_path / "segments", cut), cache_dir=tmp_path / "cache")
    check_rows(builder.rows()["train"], expected)
    del cut[LABELS], cut[WORDS]
    rows = load_dataset(write_all(tmp_path / "unlabelled", cut), cache_dir=tmp_path / "cache")["train"]
    assert rows["id"] == [row["id"] for row in expected if any(len(row[column]) for column in COLUMNS)]


def test_without_labels_rows_are_videos(tmp_path):
    sequences = corpus(videos=3)
    del sequences[LABELS], sequences[WORDS]["video2"]
    builder = prepare(write_all(tmp_path / "folder", sequences), cache_dir=tmp_path / "cache")
    rows = builder.rows()["train"]
    assert rows.column_names == ["id", "text", "text_values", "audio_values", "vision_values"]
    assert rows["id"] == ["video0", "video1", "video2"]
    for row in rows:
        words, _ = sequences[WORDS].get(row["id"], (np.zeros((0, 1), "S1"), None))
        assert row["text"] == " ".join(word.decode() for word in words[:, 0].tolist() if word != b"sp")
        features = sequences[AUDIO][row["id"]][0].astype(np.float32)
        np.testing.assert_array_equal(row["audio_values"], np.where(np.isfinite(features), features, 0))
    assert any("can be predicted, not trained on" in warning for warning in builder.report().warnings)
    aligned = load_dataset(tmp_path / "folder", cache_dir=tmp_path / "cache", align="words")["train"]
    for row in aligned:
        assert len(row["audio_values"]) == len(row["text"].split())


def test_one_file_and_no_words(tmp_path):
    sequences = corpus(videos=2)
    path = write(tmp_path / "a", AUDIO, sequences[AUDIO])
    rows = load_dataset(path, cache_dir=tmp_path / "cache")["train"]
    assert rows.column_names == ["id", "text", "audio_values"] and rows["text"] == ["", ""]
    path = write(tmp_path / "b", WORDS, sequences[WORDS])
    rows = load_dataset(path, cache_dir=tmp_path / "cache")["train"]
    assert rows.column_names == ["id", "text"] and rows["text"][0].startswith("word")
    with pytest.raises(ValueError, match="`align` is 'words', but there is no sequence of words or word vectors"):
        load_dataset(tmp_path / "a", cache_dir=tmp_path / "cache", align="words")
    with pytest.raises(ValueError, match="holds only labels; the sequences are my_Opinion_Labels. Put"):
        load_dataset(write(tmp_path / "c", LABELS, sequences[LABELS]), cache_dir=tmp_path / "cache")


def test_word_vectors_take_the_place_of_words(tmp_path):
    sequences = corpus(videos=2)
    folder = write_all(tmp_path / "all", sequences)
    with_words = load_dataset(folder, cache_dir=tmp_path / "cache", align="words")["train"]
    del sequences[WORDS]
    builder = prepare(write_all(tmp_path / "less", sequences), cache_dir=tmp_path / "cache", align="words")
    assert any("frames of the text were taken as the words" in warning for warning in builder.report().warnings)
    for first, second in zip(with_words, builder.rows()["train"], strict=True):
        assert second["text"] == ""
        np.testing.assert_allclose(first["text_values"], second["text_values"], rtol=1e-6)
        np.testing.assert_array_equal(first["audio_values"], second["audio_values"])


NAMES = {
    "CMU_MOSI_TimestampedWords": ("words", True),
    "CMU_MOSI_ModifiedTimestampedWords": ("words", True),
    "CMU_MOSEI_TimestampedPhones": (None, True),
    "phonemes": (None, True),
    "CMU_MOSI_TimestampedWordVectors": ("text", False),
    "CMU_MOSEI_TimestampedGloveVectors_with_SP": ("text", False),
    "glove_vectors": ("text", False),
    "bert": ("text", False),
    "CMU_MOSI_COVAREP": ("audio", False),
    "CMU_MOSI_OpenSmile_EB10": ("audio", False),
    "CMU_MOSI_openSMILE_IS09": ("audio", False),
    "HuBERT": ("audio", False),
    "CMU_MOSI_Visual_Facet_42": ("vision", False),
    "FACET 4.2": ("vision", False),
    "CMU_MOSEI_VisualOpenFace2": ("vision", False),
    "OpenFace_2": ("vision", False),
    "CMU_MOSI_Opinion_Labels": ("labels", False),
    "CMU_MOSEI_Labels": ("labels", False),
    "All Labels": ("labels", False),
    "something": (None, False),
}


@pytest.mark.parametrize("inside", [False, True])
def test_roles_by_name(tmp_path, inside):
    words = {"v": (np.array([[b"a"]]), np.array([[0.0, 1]]))}
    numbers = {"v": (np.ones((1, 1)), np.array([[0.0, 1]]))}
    for name, (role, is_text) in NAMES.items():
        folder = tmp_path / name
        entries = words if is_text else numbers
        write(folder, "x" if inside else name, entries, name=name if inside else "x")
        write(folder, "zz_words", words)  # so that there is something to read
        selection = select(folder, dict.fromkeys(ROLES))
        if role == "words":
            assert selection.files["words"].stem == ("x" if inside else name)
        elif role is None:
            assert selection.ignored == ["x" if inside else name]
        else:
            assert selection.names == {"words": "zz_words", role: "x" if inside else name}


def test_several_sequences_for_one_role(tmp_path):
    sequences = corpus(videos=2)
    folder = write_all(tmp_path / "folder", sequences)
    second = {video: (features[:, :2] + 1, times) for video, (features, times) in sequences[AUDIO].items()}
    write(folder, "z_openSMILE", second, name="OpenSMILE IS09")
    write(folder, "phones", sequences[WORDS])
    write(folder, "own", second)
    builder = prepare(folder, cache_dir=tmp_path / "cache")
    report = builder.report()
    assert report.feature_sizes["audio"] == 3 and set(report.ignored_keys) == {"own", "phones", "z_openSMILE"}
    assert (
        f"audio was read from {AUDIO}, the first by name; z_openSMILE would fit as well: choose with the option `audio`"
        in report.warnings
    )
    used = [file.stem for file in builder.config.files()]
    assert used == sorted([WORDS, TEXT, AUDIO, VISION, LABELS])
    for name, ignored in (("z_openSMILE", "own"), ("OpenSMILE IS09", "own"), ("own", "z_openSMILE"), ("own.csd", None)):
        builder = prepare(folder, cache_dir=tmp_path / "cache", audio=name)
        assert builder.report().feature_sizes["audio"] == 2
        assert ignored is None or ignored in builder.report().ignored_keys
        assert AUDIO in builder.report().ignored_keys
        assert not any("audio was read from" in warning for warning in builder.report().warnings)
    with pytest.raises(ValueError, match=f"`vision` must name a sequence of folder, but it is 'FACET'; .*{VISION}"):
        prepare(folder, cache_dir=tmp_path / "cache", vision="FACET")
    with pytest.raises(ValueError, match="must hold numbers, to be read as audio, but it holds strings; choose"):
        prepare(folder, cache_dir=tmp_path / "cache", audio=WORDS, words="phones")
    with pytest.raises(ValueError, match="must hold strings, to be read as words, but it holds numbers; choose"):
        prepare(folder, cache_dir=tmp_path / "cache", words=TEXT)


def test_digest_is_of_the_files_that_are_used(tmp_path):
    folder = write_all(tmp_path / "folder", corpus(videos=2))
    digest = ComputationalSequencesConfig(data_file=str(folder)).sha256
    write(folder, "phones", {"v": (np.array([[b"a"]]), np.array([[0.0, 1]]))})
    assert ComputationalSequencesConfig(data_file=str(folder)).sha256 == digest
    (folder / "folds.json").write_text('{"train": ["video0"], "test": ["video1"]}')
    with_folds = ComputationalSequencesConfig(data_file=str(folder)).sha256
    assert with_folds != digest
    (folder / "folds.json").write_text('{"train": ["video1"], "test": ["video0"]}')
    assert ComputationalSequencesConfig(data_file=str(folder)).sha256 not in (digest, with_folds)


def test_folds_of_the_user(tmp_path, monkeypatch):
    monkeypatch.setattr(corpora, "identify", lambda videos: pytest.fail("the user's folds go first"))
    folder = write_all(tmp_path / "folder", corpus(videos=5))
    folds = {"train": ["video3", "video0", "video3"], "dev": ["video1"], "test": ["video2", "other"]}
    (folder / "folds.json").write_text(json.dumps(folds))
    builder = ComputationalSequences(cache_dir=str(tmp_path / "cache"), data_file=str(folder), corpus="none")
    source = builder.inspect()
    assert source.shards == {"train": ["video0", "video3"], "valid": ["video1"], "test": ["video2"]}
    assert source.rows == {"train": 12, "valid": 6, "test": 6}
    assert "1 of 5 videos are in none of folds.json and were left out: video4" in source.warnings
    assert "1 videos of folds.json are not in the sequences: other" in source.warnings
    (folder / "folds.json").write_text('{"valid": ["video1"]}')
    assert list(builder.inspect().shards) == ["valid"]


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("{", "must be JSON"),
        ("[" * 100_000, "must be JSON"),
        (b"\xff\xfe", "must be JSON"),
        ("[]", "but it is a list"),
        ("{}", "but it is a dict"),
        ('{"train": [], "test": []}', "must list videos"),
        ('{"training": ["video0"]}', "must name the splits .* but it has 'training'"),
        ('{"train": "video0"}', "must list the ids of the videos of 'train' as strings"),
        ('{"train": [0]}', "must list the ids of the videos of 'train' as strings"),
        ('{"train": ["video0"], "val": ["video0"]}', "has 'video0' in 'train' and in 'valid'"),
        ('{"train": ["a", "b"]}', "it has none of video0, video1"),
    ],
)
def test_folds_that_are_refused(tmp_path, content, match):
    folder = write_all(tmp_path / "folder", corpus(videos=2))
    (folder / "folds.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=f"folds.json .*{match}"):
        load_dataset(folder, cache_dir=tmp_path / "cache")


def test_standard_folds(tmp_path, monkeypatch):
    folder = write_all(tmp_path / "folder", corpus(videos=4))
    folds = {"video0": "test", "video1": "valid", "video3": "train", "another": "train"}
    monkeypatch.setattr(corpora, "identify", lambda videos: "mine" if set(videos) == set(FOUR) else None)
    monkeypatch.setattr(corpora, "standard_folds", lambda key: folds if key == "mine" else {})
    builder = ComputationalSequences(cache_dir=str(tmp_path / "cache"), data_file=str(folder))
    source = builder.inspect()
    assert source.shards == {"train": ["video3"], "valid": ["video1"], "test": ["video0"]}
    assert any("1 of 4 videos are in none of the standard folds of mine" in warning for warning in source.warnings)
    builder.config.corpus = "none"
    source = builder.inspect()
    assert source.shards == {"train": FOUR}
    assert any("say it with a file folds.json" in warning for warning in source.warnings)
    monkeypatch.setattr(corpora, "identify", lambda videos: None)
    assert builder.inspect().shards == {"train": FOUR}
    builder.config.corpus = "mine"
    assert list(builder.inspect().shards) == ["train", "valid", "test"]


FOUR = ["video0", "video1", "video2", "video3"]


def with_change(name, video, change):
    sequences = corpus(videos=2)
    sequences[name][video] = change(*(array.copy() for array in sequences[name][video]))
    return sequences


def assign(index, value, which):
    def change(features, intervals):
        (features if which == "features" else intervals)[index] = value
        return features, intervals

    return change


FAULTS = {
    "end before start": (
        AUDIO,
        assign((5, 1), -9, "intervals"),
        "COVAREP.csd: video1/intervals must hold finite.*row 5",
    ),
    "NaN interval": (WORDS, assign((0, 0), np.nan, "intervals"), "Words.csd: video1/intervals must hold finite"),
    "infinite label": (LABELS, assign((2, 1), np.inf, "intervals"), "Labels.csd: video1/intervals must hold finite"),
    "lengths": (
        VISION,
        lambda features, intervals: (features[:-1], intervals),
        "Facet_42.csd: video1/features must have one row per interval, but it has 44 rows and there are 45",
    ),
    "width": (
        VISION,
        lambda features, intervals: (features[:, :1], intervals),
        r"video1/features must have 2 numbers per row, .* its shape is \(45, 1\)",
    ),
    "intervals of one column": (
        AUDIO,
        lambda features, intervals: (features, intervals[:, :1]),
        r"video1/intervals must be \(n, 2\) numbers.*\(400, 1\) numbers",
    ),
    "intervals of strings": (
        AUDIO,
        lambda features, intervals: (features, intervals.astype("S8")),
        r"video1/intervals must be \(n, 2\) numbers.*\(400, 2\) strings",
    ),
    "words of two columns": (
        WORDS,
        lambda features, intervals: (np.repeat(features, 2, axis=1), intervals),
        r"video1/features must be \(n, 1\) words",
    ),
    "words not UTF-8": (WORDS, assign((0, 0), b"\xff", "features"), "video1/features must hold words in UTF-8"),
    "label NaN": (LABELS, assign((4, 0), np.nan, "features"), "labels of video1 must be finite.* row 4"),
    "label too large": (LABELS, assign((0, 0), 1e300, "features"), "labels of video1 must be finite.* row 0"),
    "two labels": (
        LABELS,
        lambda features, intervals: (np.repeat(features, 2, axis=1), intervals),
        "video1/features must have 1 numbers per row",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults(tmp_path, fault):
    name, change, match = FAULTS[fault]
    folder = write_all(tmp_path / "folder", with_change(name, "video1", change))
    with pytest.raises(ValueError, match=match):
        load_dataset(folder, cache_dir=tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("*.arrow"))


def test_faults_of_labels(tmp_path):
    sequences = corpus(videos=2, emotions=True)
    sequences[LABELS]["video1"][0][3, 4] = -1
    with pytest.raises(ValueError, match="intensities of emotions 0 or more, but row 3"):
        load_dataset(write_all(tmp_path / "a", sequences), cache_dir=tmp_path / "cache", num_proc=2)
    sequences[LABELS] = {video: (values[:, :3], times) for video, (values, times) in sequences[LABELS].items()}
    with pytest.raises(ValueError, match="must have one label per interval, or seven with the emotions .* it has 3"):
        load_dataset(write_all(tmp_path / "b", sequences), cache_dir=tmp_path / "cache")
    sequences = corpus(videos=2)
    sequences[LABELS] = {f"other_{video}": arrays for video, arrays in sequences[LABELS].items()}
    with pytest.raises(ValueError, match="none of other_video0, other_video1 is there; those have video0, video1"):
        load_dataset(write_all(tmp_path / "c", sequences), cache_dir=tmp_path / "cache")
    empty = {"video0": (np.zeros((0, 1)), np.zeros((0, 2)))}
    with pytest.raises(ValueError, match="Labels.csd must have a frame in some video, but it has none"):
        load_dataset(write_all(tmp_path / "d", {**corpus(videos=2), LABELS: empty}), cache_dir=tmp_path / "cache")


def test_labels_that_ask_for_everything_again_and_again(tmp_path):
    """A small file must not become a large one: 2,000 labels, each of the whole video."""
    sequences = corpus(videos=1)
    labels = {"video0": (np.zeros((2000, 1)), np.tile([[0.0, 20.0]], (2000, 1)))}
    with pytest.raises(ValueError, match="my_.*: video0: intervals of labels or words overlap so much"):
        load_dataset(write_all(tmp_path / "folder", {**sequences, LABELS: labels}), cache_dir=tmp_path / "cache")


def test_a_file_twice_under_many_names(tmp_path):
    """Videos that are links to the same arrays are not counted as data."""
    sequences = corpus(videos=1)
    path = write(tmp_path, AUDIO, sequences[AUDIO])
    with h5py.File(path, "a") as file:
        for number in range(50):
            file[f"{AUDIO}/data/copy{number}"] = file[f"{AUDIO}/data/video0"]
    with pytest.raises(ValueError, match="so some must be the same; it is damaged"):
        load_dataset(path, cache_dir=tmp_path / "cache")


def test_files_that_are_no_sequences(tmp_path):
    folder = write_all(tmp_path / "folder", corpus(videos=2))
    (folder / "broken.csd").write_bytes(b"<html>")
    with pytest.raises(ValueError, match="broken.csd must be an HDF5 file"):
        load_dataset(folder, cache_dir=tmp_path / "cache")
    (folder / "broken.csd").unlink()
    (folder / "._hidden.csd").write_bytes(b"of another system")
    with h5py.File(folder / "model.h5", "w") as file:
        file["weights"] = 1
    assert len(load_dataset(folder, cache_dir=tmp_path / "cache")["train"]) == 12
    for file in folder.glob("my_*.csd"):  # other HDF5 files are read where there is no .csd
        file.rename(file.with_suffix(".hdf5"))
    (folder / "model.h5").unlink()
    assert len(load_dataset(folder, cache_dir=tmp_path / "cache")["train"]) == 12
    nothing = tmp_path / "nothing"
    nothing.mkdir()
    with pytest.raises(FileNotFoundError, match="must hold .csd files, but there is none"):
        ComputationalSequencesConfig(data_file=str(nothing))
    with pytest.raises(FileNotFoundError, match="there is nothing at|is neither"):
        ComputationalSequencesConfig(data_file=str(tmp_path / "absent"))
    path = write(tmp_path, "something", {"v": (np.ones((1, 1)), np.array([[0.0, 1]]))})
    with pytest.raises(ValueError, match="no sequence of words.*the sequences are something. .*options words, text"):
        load_dataset(path, cache_dir=tmp_path / "cache")
    assert load_dataset(path, cache_dir=tmp_path / "cache", vision="something")["train"][0]["vision_values"] == 1


def test_options_are_checked(tmp_path):
    folder = write_all(tmp_path / "folder", corpus(videos=2))
    with pytest.raises(ValueError, match="`align` must be one of .*'frames'"):
        load_dataset(folder, cache_dir=tmp_path / "cache", align="frames")
    with pytest.raises(ValueError, match="`visoin` is not an option.*did you mean `vision`"):
        load_dataset(folder, cache_dir=tmp_path / "cache", visoin="x")


def test_without_h5py(tmp_path, monkeypatch):
    folder = write_all(tmp_path / "folder", corpus(videos=2))
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ImportError, match=r"run `pip install 'sentimodal\[csd\]'`"):
        load_dataset(folder, cache_dir=tmp_path / "cache")


@needs_real_words
def test_real_words_of_mosi(tmp_path):
    builder = prepare(REAL_WORDS, cache_dir=tmp_path)
    rows = builder.rows()
    assert {split: len(rows[split]) for split in rows} == {"train": 52, "valid": 10, "test": 31}
    assert rows["train"].column_names == ["id", "text"] and builder.report().corpus == "mosi"
    folds = corpora.standard_folds("mosi")
    with h5py.File(REAL_WORDS) as file:
        data = file["CMU_MOSI_ModifiedTimestampedWords/data"]
        for split in rows:
            for row in rows[split]:
                assert folds[row["id"]] == split
                words = data[row["id"]]["features"][:, 0].tolist()
                assert row["text"] == " ".join(word.decode() for word in words if word != b"sp")
    everything = load_dataset(REAL_WORDS, cache_dir=tmp_path, corpus="none")
    assert len(everything["train"]) == 93


@needs_real_words
def test_real_words_with_labels(tmp_path):
    """Segments of ten seconds, and a made-up audio sequence, over the real words."""
    folder = tmp_path / "folder"
    folder.mkdir()
    shutil.copy(REAL_WORDS, folder)
    rng = np.random.default_rng(0)
    with h5py.File(REAL_WORDS) as file:
        data = file["CMU_MOSI_ModifiedTimestampedWords/data"]
        words = {video: (data[video]["features"][()], data[video]["intervals"][()]) for video in list(data)[::6]}
    labels, audio = {}, {}
    for video, (_, times) in words.items():
        starts = np.arange(0, times[-1, 1], 10)
        labels[video] = rng.uniform(-3, 3, (len(starts), 1)), np.stack([starts, starts + 10], axis=1)
        audio[video] = frames(rng, 2, times[-1, 1], 3)
    write(folder, LABELS, labels)
    write(folder, AUDIO, audio)
    builder = prepare(folder, cache_dir=tmp_path / "cache", align="words")
    rows = builder.rows()
    assert sum(len(rows[split]) for split in rows) == sum(len(values) for values, _ in labels.values())
    sequences = {WORDS: words, LABELS: labels, AUDIO: audio, TEXT: {}, VISION: {}}
    expected = {row["id"]: row for row in rows_by_loop(sequences, "words")[0]}
    compared = 0
    for split in rows:
        for row in rows[split]:
            if row["id"] in expected:
                compared += 1
                assert row["text"] == expected[row["id"]]["text"]
                assert row["label"] == np.float32(expected[row["id"]]["label"])
                steps = expected[row["id"]]["audio_values"].reshape(-1, 3)
                np.testing.assert_allclose(row["audio_values"], steps, rtol=1e-6, atol=1e-6)
    assert compared == len(expected) > 100
    assert any("77 videos without labels were left out" in warning for warning in builder.report().warnings)


MEMORY = """
import resource, sys
import datasets
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
from datasets_scripts.sources import prepare
prepare(sys.argv[1], cache_dir=sys.argv[2])
print(before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the peak is counted in KiB, as on Linux")
@pytest.mark.parametrize("storage", [{}, {"compression": "gzip", "compression_opts": 1}])
def test_memory_does_not_grow_with_the_source(tmp_path, storage):
    rng = np.random.default_rng(0)
    audio, labels = {}, {}
    for number in range(200):
        starts = np.arange(0, 120, 0.05)
        values = np.round(rng.standard_normal((len(starts), 74)), 1)
        audio[f"video{number}"] = values, np.stack([starts, starts + 0.05], axis=1)
        labels[f"video{number}"] = np.zeros((15, 1)), np.stack([np.arange(15) * 8.0, np.arange(15) * 8.0 + 7], axis=1)
    write(tmp_path / "folder", AUDIO, audio, **storage)  # 284 MB as float64
    write(tmp_path / "folder", LABELS, labels)
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(tmp_path / "folder"), str(tmp_path / "cache")],
        env={**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    before, after = map(int, done.stdout.split())
    assert after - before < 75 << 10, (before, after)  # KiB


def test_parts_are_in_order(tmp_path):
    times = {f"v[{part}]": (np.ones((1, 1)), np.array([[part, part + 1.0]])) for part in range(12)}
    write(tmp_path / "folder", AUDIO, times)
    write(tmp_path / "folder", LABELS, times)
    rows = load_dataset(tmp_path / "folder", cache_dir=tmp_path / "cache")["train"]
    assert rows["id"] == [f"v$_${part}" for part in range(12)]
    assert all(len(steps) == 1 for steps in rows["audio_values"])
