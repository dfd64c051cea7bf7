"""Rows, report and card of what was extracted: records that are made up, joined with a real table."""

import html
import json

import numpy as np
import pytest

from datasets_scripts import load_dataset
from datasets_scripts.extraction import run
from datasets_scripts.extraction.clip_worker import ExtractionSettings, Outcome
from datasets_scripts.extraction.clips import MediaFolder
from datasets_scripts.extraction.extracted_media import content_sha256, remark_of
from datasets_scripts.extraction.store import ClipRecord, ClipStore
from tests.datasets_scripts.made_clips import write_table

MADE = {
    "audio": {
        "settings": {"name": "loud", "rate": 2.5, "feature_size": 2, "model": "org/<b>*", "versions": {"lib": "1.2"}},
        "description": "how *loud* it is",
        "columns": ["mean", "top_1"],
    },
    "vision": {
        "settings": {"name": "encoder", "rate": 5.0, "feature_size": 3, "versions": {}},
        "description": "states",
        "columns": [],
    },
}
SETTINGS = ExtractionSettings({modality: made["settings"] for modality, made in MADE.items()})
NOTES = {
    "a": {"vision": ["No face in 3 of 10 pictures.", "Turned by 90."], "media": ["odd"]},
    "b": {"vision": ["No face in 4 of 25.5 pictures."], "audio": ["silent"]},
    "c": {"vision": [f"Kind {letter}." for letter in "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKL"]},
}


@pytest.fixture
def media(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "clips"
    rows = [("a", "said", "train"), ("b", "", "train"), ("c", "", "valid"), ("d", "gone", "test")]
    write_table(folder / "label.csv", [{"id": i, "text": text, "label": 1, "mode": mode} for i, text, mode in rows])
    for name in "abcd":
        (folder / f"{name}.mp4").write_bytes(name.encode())
    (folder / "b.txt").write_text("b says")
    return MediaFolder(folder)


def fill(media, store, extractors=SETTINGS.key):
    for clip in media.clips():
        if clip.id != "d":
            values = {
                "audio": np.full((2, 2), ord(clip.id), np.float32),
                "vision": np.zeros((int(clip.id != "c"), 3), "f4"),
            }
            if clip.id == "b":
                del values["vision"]  # a sound file: nothing looked for it
            text = {"b": "b says", "c": "heard"}.get(clip.id)
            files = dict.fromkeys(clip.files, clip.id * 64)
            record = ClipRecord("key", extractors, files, 2.0, text, NOTES[clip.id], values)
            store.write(clip, record)


def write(media, tmp_path, **changes):
    store = ClipStore(tmp_path / "store")
    fill(media, store, **changes)
    failed = [Outcome("d", "it is gone,\nentirely", {"d.mp4": "d" * 64})]
    return run.write_rows(media, store, SETTINGS, MADE, {"drop": ["text"]}, failed, tmp_path / "out")


def test_rows(media, tmp_path):
    report = write(media, tmp_path)
    rows = load_dataset(tmp_path / "out", cache_dir=tmp_path / "a")
    assert {split: part["id"][:].tolist() for split, part in rows.items()} == {"train": ["a", "b"], "valid": ["c"]}
    assert [*rows["train"]["text"][:], *rows["valid"]["text"][:]] == ["said", "b says", "heard"]
    assert rows["train"][1]["audio_values"].tolist() == [[98, 98], [98, 98]]
    assert rows["train"][1]["vision_values"].shape == (0, 3) and rows["valid"][0]["vision_values"].shape == (0, 3)
    assert (tmp_path / "out" / "failed_clips.csv").read_text() == 'id,reason\nd,"it is gone, entirely"\n'
    assert report.rows == {"train": 2, "valid": 1} and report.extractors == MADE
    assert any(warning.startswith("1 of 4 clips failed") for warning in report.warnings)


def test_what_came_with_the_clips_is_counted(media, tmp_path):
    counts = write(media, tmp_path).counts
    remark = "clips with the remark: {}"
    assert counts["train"]["vision_values"][remark.format("No face in # of # pictures")] == 2
    assert counts["train"]["vision_values"][remark.format("Turned by #")] == 1
    assert counts["train"]["audio_values"] == {remark.format("silent"): 1}
    assert counts["train"]["media"] == {remark.format("odd"): 1}
    assert counts["train"]["text"] == {"clips whose transcript was a file beside them": 1}
    assert counts["valid"]["text"] == {"clips whose transcript was made by speech recognition": 1}
    many = counts["valid"]["vision_values"]  # 38 kinds, of which 30 are named; and it is empty
    assert len(many) == 32 and many["other remarks"] == 8 and many["empty_sequences"] == 1


def test_the_card_says_what_made_the_features(media, tmp_path):
    write(media, tmp_path)
    card = (tmp_path / "out" / "README.md").read_text()
    assert "`audio_values`, 2 features, 2.5 steps per second" in card and "(lib 1.2)" in card
    assert "Sentimodal's `loud`: how &#42;loud&#42; it is" in card and "<b>" not in card
    shown = json.dumps({name: value for name, value in MADE["audio"]["settings"].items() if name != "versions"})
    assert f"<code>{shown}</code>" in html.unescape(card)
    assert "0. mean" in card and "The 3 features" not in card
    assert "published set" not in card and "clips with the remark: Turned by" in card


def test_a_store_of_another_run_is_refused(media, tmp_path):
    with pytest.raises(ValueError, match="was made with other settings than this run's"):
        write(media, tmp_path, extractors="other")
    assert not (tmp_path / "out").exists()


def test_a_record_that_is_gone(media, tmp_path):
    store = ClipStore(tmp_path / "store")
    fill(media, store)
    store.file("b").unlink()
    with pytest.raises(ValueError, match="is gone; was it deleted"):
        run.write_rows(media, store, SETTINGS, MADE, {}, [Outcome("d", "gone", {})], tmp_path / "out")


def test_the_sha256_is_of_files_table_and_settings(media, tmp_path):
    report = write(media, tmp_path)
    files = {"a.mp4": "a" * 64, "b.mp4": "b" * 64, "b.txt": "b" * 64, "c.mp4": "c" * 64, "d.mp4": "d" * 64}
    assert report.sha256 == content_sha256(media, SETTINGS, dict(reversed(files.items())))
    others = [
        content_sha256(media, SETTINGS, {**files, "a.mp4": "0" * 64}),
        content_sha256(media, SETTINGS, {**files, "e.mp4": "0" * 64}),
        content_sha256(media, ExtractionSettings({}), files),
    ]
    (media.path / "label.csv").write_text("id,text\na,\n")
    assert len({report.sha256, *others, content_sha256(media, SETTINGS, files)}) == 5


def test_remarks_are_notes_without_their_numbers():
    assert remark_of("In 3 of 12.5 s, from 0:30 on.") == "In # of # s, from # on"
