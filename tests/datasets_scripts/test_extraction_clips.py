"""Which file, which words and which labels are a clip's."""

import pytest

from datasets_scripts.extraction.clips import MediaFolder
from tests.datasets_scripts.made_clips import make_folder, write_table


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


def table(folder, *ids, **columns):
    return write_table(folder / "label.csv", [{"id": name, "text": "", "mode": "train", **columns} for name in ids])


def clips(folder, *arguments, **options):
    return {clip.id: clip for clip in MediaFolder(folder, *arguments, **options).clips()}


def test_files_of_rows(tmp_path):
    table(tmp_path, "a$_$1", "a$_$2", "b$_$1", "b$_$2", "c", "none")
    touch(tmp_path, "a/1.mp4", "Raw/a/2.MPG", "b_1.webm", "Raw/b_2.opus", "c.ogg", "other.aac")
    found = clips(tmp_path)
    assert {name: clip.media for name, clip in found.items()} == {
        "a$_$1": "a/1.mp4",
        "a$_$2": "Raw/a/2.MPG",
        "b$_$1": "b_1.webm",
        "b$_$2": "Raw/b_2.opus",
        "c": "c.ogg",
        "none": None,
    }
    assert [clip.is_video for clip in found.values()] == [True, True, True, False, False, False]
    assert found["none"].fault == "there is no media file of this id" and found["c"].fault is None
    warnings = MediaFolder(tmp_path).warnings()
    assert "1 media files belong to no row and were not read ('other.aac')" in warnings


def test_ids_of_one_column_that_end_in_digits(tmp_path):
    """The table reads them as `video$_$clip`; the files have the name that the table has."""
    table(tmp_path, "one_1", "two_23")
    touch(tmp_path, "one_1.mp4", "two/23.mp4")
    assert {name: clip.media for name, clip in clips(tmp_path).items()} == {
        "one$_$1": "one_1.mp4",
        "two$_$23": "two/23.mp4",
    }


def test_several_files_of_a_name(tmp_path):
    table(tmp_path, "a$_$1", "b$_$1", "c$_$1", "d$_$1")
    touch(tmp_path, "a/1.mp4", "a/1.wav", "b/1.mp4", "Raw/b/1.avi", "c/1.mp3", "c/1.wav", "d/1.wav")
    found = clips(tmp_path)
    assert found["a$_$1"].media == "a/1.mp4" and found["d$_$1"].media == "d/1.wav"
    assert found["b$_$1"].media is None
    assert found["b$_$1"].fault == "several files have its name: Raw/b/1.avi, b/1.mp4; leave one of them"
    assert "c/1.mp3, c/1.wav" in found["c$_$1"].fault
    assert "1 clips have a sound file beside the video, whose own sound was read" in MediaFolder(tmp_path).warnings()


def test_a_file_that_two_rows_could_mean(tmp_path):
    table(tmp_path, "a$_$b_1", "a_b$_$1", "c$_$1")
    touch(tmp_path, "a_b_1.mp4", "c_1.mp4")
    found = clips(tmp_path)
    assert found["c$_$1"].media == "c_1.mp4"
    for name in ("a$_$b_1", "a_b$_$1"):
        assert found[name].media is None and "a_b_1.mp4 could be the file of several rows" in found[name].fault


def test_words_are_the_tables_or_lie_beside_the_clip(tmp_path):
    rows = [{"id": name, "text": text, "mode": "test"} for name, text in zip("abcdef", ["said", " ", "", "", "", ""])]  # noqa: B905
    write_table(tmp_path / "label.csv", rows)
    touch(tmp_path, *(f"{name}.mp4" for name in "abcdef"))
    touch(tmp_path, "a.srt", "b.txt", "c.vtt", "c.txt", "d.srt", "d.vtt", "e.doc")
    (tmp_path.parent / f"{tmp_path.name}.txt").write_text("not of this folder")
    (tmp_path / "f.txt").symlink_to(tmp_path.parent / f"{tmp_path.name}.txt")
    found = clips(tmp_path)
    assert {name: (clip.has_text, clip.transcript) for name, clip in found.items()} == {
        "a": (True, None),
        "b": (False, "b.txt"),
        "c": (False, "c.vtt"),
        "d": (False, "d.srt"),
        "e": (False, None),
        "f": (False, None),
    }
    assert [clip.needs_hearing for clip in found.values()] == [False, False, False, False, True, True]
    assert found["b"].files == ["b.mp4", "b.txt"]
    dropped = MediaFolder(tmp_path, text=False)
    assert {clip.transcript for clip in dropped.clips()} == {None} and not any(c.has_text for c in dropped.clips())
    assert {row["text"] for row in dropped.rows("test", dropped.source.shards["test"])} == {""}


def test_a_table_elsewhere(tmp_path):
    folder = tmp_path / "clips"
    table(folder, "a$_$1")
    touch(folder, "a/1.mp4", "a/2.mp4")
    other = write_table(tmp_path / "other.csv", [{"id": "a$_$2", "label": 1.5, "split": "valid"}])
    media = MediaFolder(folder, other)
    assert [(clip.id, clip.split) for clip in media.clips()] == [("a$_$2", "valid")]
    assert "label" in media.source.features and len(media) == 1
    with pytest.raises(FileNotFoundError, match="none.csv"):
        MediaFolder(folder, tmp_path / "none.csv")


def test_labels_of_every_kind_are_in_the_rows(tmp_path):
    media = MediaFolder(make_folder(tmp_path / "clips"))
    assert list(media.source.features) == [
        *("id", "text", "label", "text_label", "audio_label", "vision_label", "emotions"),
    ]
    rows = list(media.rows("valid", media.source.shards["valid"]))
    assert [(row["id"], row["label"], row["emotions"][0]) for row in rows] == [
        ("speaker1$_$2", 0.5, 1.0),
        ("speaker2$_$0", 1.0, 0.0),
    ]
    assert len(media) == 9 and [clip.split for clip in media.clips()] == ["train"] * 5 + ["valid"] * 2 + ["test"] * 2


def test_without_a_table_every_file_is_a_clip(tmp_path):
    touch(tmp_path, "b.mp4", "a/1.wav", "a/2.mp4", "a/2.wav", "a/2.txt", "notes.txt")
    media = MediaFolder(tmp_path)
    assert [(clip.id, clip.split, clip.media) for clip in media.clips()] == [
        ("a$_$1", "test", "a/1.wav"),
        ("a$_$2", "test", "a/2.mp4"),
        ("b", "test", "b.mp4"),
    ]
    assert "label" not in media.source.features
    assert any("no table of labels" in warning for warning in media.warnings())
    with pytest.raises(ValueError, match="`dataset` chooses rows of a table.*leave it out"):
        MediaFolder(tmp_path, dataset="sims")


def test_folders_that_hold_nothing(tmp_path):
    with pytest.raises(FileNotFoundError, match="must be a folder.*check the path"):
        MediaFolder(tmp_path / "none")
    table(tmp_path, "a")
    with pytest.raises(ValueError, match="holds no media"):
        MediaFolder(tmp_path)


def test_several_tables_are_not_chosen_from(tmp_path):
    touch(tmp_path, "a.mp4", "one.csv", "two.csv")
    with pytest.raises(ValueError, match=r"one\.csv, two\.csv; name the one to read"):
        MediaFolder(tmp_path)
