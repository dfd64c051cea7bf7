"""A folder of media to a folder that trains: side by side, in pieces, interrupted, and with clips that fail."""

import csv
import fcntl
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

import extract
import predict
import train
from datasets_scripts import PreparedFolder, load_dataset
from datasets_scripts.extraction import clip_worker
from datasets_scripts.report import ConversionReport
from processing.media_features import MediaFeatures
from tests.conftest import TINY_RECIPE
from tests.datasets_scripts.made_clips import make_folder, make_rows, write_table, write_tone

ROOT = Path(__file__).resolve().parents[1]
MEDIA = ROOT.parent / "shared" / "data" / "media"
SOUND = ("--drop", "vision", "--num_proc", "2")
LAUNCHER = [
    *(sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"),
    *("--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"),
]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def clips(tmp_path):
    return make_folder(tmp_path / "clips")


def run(*arguments):
    return extract.main([str(argument) for argument in arguments])


def command(*arguments, launcher=(sys.executable,)):
    return [*launcher, str(ROOT / "extract.py"), *map(str, arguments)]


def environment(tmp_path):
    return {**os.environ, "HF_DATASETS_CACHE": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


def contents(folder):
    """All files of a folder, by name."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def failures(path):
    with (path / "failed_clips.csv").open(encoding="utf-8", newline="") as file:
        return {row["id"]: row["reason"] for row in csv.DictReader(file)}


def test_a_folder_becomes_rows(clips, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(clips, "--output", out, *SOUND) == 0
    captured = capsys.readouterr()
    printed = captured.out
    assert "Extracting: 100%" in captured.err and "0 failed, " in captured.err  # the progress bar
    assert "9 clips: 9 extracted, 0 from an earlier run, 0 failed" in printed and f"Written to {out}." in printed
    assert not (tmp_path / "out.clips").exists()
    rows = load_dataset(out, cache_dir=tmp_path / "a")
    assert {split: len(part) for split, part in rows.items()} == {"train": 5, "valid": 2, "test": 2}
    expected = {f"{row['video_id']}$_${row['clip_id']}": row for row in make_rows()}
    for part in rows.values():
        for row in part:
            known = expected[str(row["id"])]
            assert row["text"] == known["text"] and row["label"] == np.float32(known["label"])
            assert (row["text_label"], row["audio_label"], row["vision_label"]) == (-1, 0.5, 2)
            assert set(row["emotions"]) == {known["happy"]}
    features = MediaFeatures("egemaps_v02")
    found = features(audio=clips / "Raw" / "speaker0" / "1.wav").audio.values
    np.testing.assert_array_equal(rows["train"][1]["audio_values"], found)
    assert "vision_values" not in rows["train"].column_names

    report = PreparedFolder(out).report()
    assert report.extractors["audio"]["settings"] == features.audio_extractor.settings()
    assert len(report.extractors["audio"]["columns"]) == 25 and report.options == {"drop": ["vision"]}
    assert report.bytes == sum(file.stat().st_size for file in clips.rglob("*.*"))
    card = (out / "README.md").read_text()
    assert "Sentimodal's `egemaps_v02`: " in card and "opensmile 2." in card and "0. Loudness_sma3" in card
    for file in (out / "README.md", out / "conversion_report.json"):
        assert str(tmp_path) not in file.read_text()


def test_again_overwrite_and_folders_of_others(clips, tmp_path, capsys):
    out = tmp_path / "out"
    run(clips, "--output", out, *SOUND)
    before = contents(out)
    assert run(clips, "--output", out, *SOUND) == 0
    assert "holds the rows of" in capsys.readouterr().out
    write_tone(clips / "Raw" / "speaker2" / "2.wav", 0.7, 400)
    for changes in ((), ("--audio", '{"name": "egemaps_v02", "rate": 10}')):
        with pytest.raises(FileExistsError, match="holds other rows, or those of other media or settings.*--overwrite"):
            run(clips, "--output", out, *SOUND, *changes)
    assert contents(out) == before
    assert run(clips, "--output", out, *SOUND, "--overwrite", "--keep_clips") == 0
    assert PreparedFolder(out).report().sha256 != json.loads(before["conversion_report.json"])["sha256"]
    assert len(list((tmp_path / "out.clips").rglob("*.safetensors"))) == 9
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    with pytest.raises(FileExistsError, match="holds other files"):
        run(clips, "--output", tmp_path / "mine", *SOUND, "--overwrite")


def test_clips_that_fail_are_listed_and_left_out(clips, tmp_path, capsys):
    (clips / "Raw" / "speaker0" / "1.wav").write_bytes(b"no sound at all")
    (clips / "Raw" / "speaker1" / "0.wav").unlink()
    write_tone(clips / "Raw" / "speaker1" / "1.mp3")
    out = tmp_path / "out"
    assert run(clips, "--output", out, *SOUND) == 1
    found = failures(out)
    assert found.keys() == {"speaker0$_$1", "speaker1$_$0", "speaker1$_$1"}
    assert found["speaker1$_$0"] == "there is no media file of this id"
    assert "several files have its name" in found["speaker1$_$1"]
    printed = capsys.readouterr()
    assert "3 clips failed" in printed.err and "speaker0$_$1 failed: " in printed.out + printed.err
    ids = [str(row["id"]) for part in load_dataset(out, cache_dir=tmp_path / "a").values() for row in part]
    assert len(ids) == 6 and found.keys().isdisjoint(ids)
    assert any("3 of 9 clips failed" in warning for warning in PreparedFolder(out).report().warnings)
    assert run(clips, "--output", out, *SOUND) == 1
    assert "try these again with --overwrite" in capsys.readouterr().out

    write_tone(clips / "Raw" / "speaker0" / "1.wav", 0.55, 170)
    write_tone(clips / "Raw" / "speaker1" / "0.wav", 0.65, 210)
    (clips / "Raw" / "speaker1" / "1.mp3").unlink()
    assert run(clips, "--output", out, *SOUND, "--overwrite") == 0
    assert "3 extracted, 6 from an earlier run, 0 failed" in capsys.readouterr().out
    assert run(make_folder(tmp_path / "again" / "clips"), "--output", tmp_path / "whole", *SOUND) == 0
    assert contents(out) == contents(tmp_path / "whole")


def test_no_clip_at_all(clips, tmp_path):
    for file in clips.rglob("*.wav"):
        file.write_bytes(b"no sound at all")
    with pytest.raises(ValueError, match="all 9 clips failed, so .*out was not written; .*failed_clips.csv says why"):
        run(clips, "--output", tmp_path / "out", *SOUND)
    assert not (tmp_path / "out").exists() and len(failures(tmp_path / "out.clips")) == 9


def test_media_and_files_of_others_in_the_place_of_records_stay(clips, tmp_path):
    media = clips.rename(tmp_path / "out.clips")
    before = contents(media)
    with pytest.raises(FileExistsError, match=r"out\.clips, where .* holds other files, such as .*; give another"):
        run(media, "--output", tmp_path / "out", *SOUND)
    assert contents(media) == before and not (tmp_path / "out").exists()

    notes = tmp_path / "else.clips" / "notes.txt"
    assert run(media, "--output", tmp_path / "else", *SOUND, "--keep_clips") == 0
    notes.write_text("mine")
    with pytest.raises(FileExistsError, match="holds other files, such as notes.txt"):
        run(media, "--output", tmp_path / "else", *SOUND)
    extract.clip_store(tmp_path / "else").delete()
    assert contents(notes.parent) == {"notes.txt": b"mine"}


def test_one_extraction_at_a_time(clips, tmp_path):
    store = tmp_path / "out.clips"
    store.mkdir()
    other = os.open(store, os.O_RDONLY)  # in the place of another process
    fcntl.flock(other, fcntl.LOCK_EX)
    with pytest.raises(FileExistsError, match=r"out\.clips is being written by another process; wait for its end"):
        run(clips, "--output", tmp_path / "out", *SOUND)
    os.close(other)
    assert run(clips, "--output", tmp_path / "out", *SOUND) == 0 and not store.exists()


def test_a_full_disk_stops_the_extraction(clips, tmp_path):
    """Of no clip is it said that it failed."""
    out, store = tmp_path / "out", tmp_path / "out.clips"
    limited = ["bash", "-c", 'ulimit -f 1; exec "$@"', "bash"]  # KiB of a file
    done = subprocess.run(
        [*limited, *command(clips, "--output", out, *SOUND)], capture_output=True, text=True, env=environment(tmp_path)
    )
    assert done.returncode == 1 and "failed: " not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert "could not be written" in last and last.endswith("free some space. The same command goes on where it was.")
    assert not out.exists() and not list(store.rglob("*.safetensors"))
    assert run(clips, "--output", out, *SOUND) == 0 and not store.exists()


def test_a_link_to_a_folder_stays_one(clips, tmp_path):
    link, place = tmp_path / "link", tmp_path / "big disk" / "place"
    place.mkdir(parents=True)
    link.symlink_to(place)
    for changes in ((), ("--overwrite", "--max_seconds", "60")):
        assert run(clips, "--output", link, *SOUND, *changes) == 0
        assert link.is_symlink() and PreparedFolder(place).report().rows == {"train": 5, "valid": 2, "test": 2}
    assert [file.name for file in place.parent.iterdir()] == ["place"]


def test_names_that_are_not_utf_8(clips, tmp_path):
    try:
        shutil.copy(clips / "Raw" / "speaker0" / "1.wav", os.fsencode(clips) + b"/\xff.wav")
    except OSError:
        pytest.skip("the file system has no such names")
    with pytest.raises(ValueError, match=r"must be UTF-8, but one is '\\udcff\.wav'; rename"):
        run(clips, "--output", tmp_path / "out", *SOUND)


class Killing(clip_worker.ClipWorker):
    """Dies on one clip, as of a fault in a decoder."""

    def __call__(self, clip):
        if clip.id == "speaker0$_$1":
            os.kill(os.getpid(), signal.SIGSEGV)
        if clip.id == "speaker1$_$2":
            time.sleep(600)
        return super().__call__(clip)


class KillingWork(clip_worker.ClipWork):
    def __call__(self):
        return Killing(self.folder, clip_worker.ClipStore(self.store), self.settings)


@pytest.mark.slow
def test_a_clip_that_kills_its_process_or_never_ends_fails(clips, tmp_path, monkeypatch):
    monkeypatch.setattr("datasets_scripts.extraction.run.ClipWork", KillingWork)
    assert run(clips, "--output", tmp_path / "out", *SOUND, "--clip_timeout", "5") == 1
    assert failures(tmp_path / "out") == {
        "speaker0$_$1": "its process was ended by SIGSEGV",
        "speaker1$_$2": "it took longer than 5 seconds",
    }
    assert PreparedFolder(tmp_path / "out").report().rows == {"train": 4, "valid": 1, "test": 2}


@pytest.mark.slow
def test_side_by_side_is_one_after_the_other(clips, tmp_path):
    run(clips, "--output", tmp_path / "one", "--drop", "vision", "--num_proc", "1")
    run(clips, "--output", tmp_path / "three", "--drop", "vision", "--num_proc", "3")
    assert contents(tmp_path / "one") == contents(tmp_path / "three")


def test_without_labels(clips, tmp_path):
    (clips / "label.csv").unlink()
    (clips / "Raw" / "speaker0" / "0.txt").write_text("What was said.")
    assert run(clips, "--output", tmp_path / "out", *SOUND) == 0
    rows = load_dataset(tmp_path / "out", cache_dir=tmp_path / "a")
    assert list(rows) == ["test"] and rows["test"].column_names == ["id", "text", "audio_values"]
    assert [str(row["id"]) for row in rows["test"]][:2] == ["speaker0$_$0", "speaker0$_$1"]
    assert rows["test"]["text"][:2].tolist() == ["What was said.", ""]


def test_text_is_left_out(clips, tmp_path):
    assert run(clips, "--output", tmp_path / "out", "--drop", "vision", "text", "--audio", "egemaps_v02") == 0
    rows = load_dataset(tmp_path / "out", cache_dir=tmp_path / "a")
    assert set(rows["train"]["text"][:]) == {""} and len(rows["train"][0]["audio_values"]) > 5


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--audio", "egemap"), "'egemap' is not an extractor.*nearest is 'egemaps_v02'"),
        (("--audio", "{egemaps_v02}"), "--audio must be a name or settings in JSON, such as"),
        (("--audio", '{"name": "egemaps_v02", "colour": 1}'), "does not take these options"),
        (("--labels", "none.csv"), "none.csv"),
        (("--dataset", "sims"), "`dataset` chooses rows by the column"),
        (("--transcriber", "/no/such/model"), "nothing could be extracted: .*transcriber"),
    ],
)
def test_wrong_arguments(clips, tmp_path, arguments, words):
    with pytest.raises((ValueError, OSError), match=words):
        run(clips, "--output", tmp_path / "out", "--drop", "vision", *arguments)
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.clips").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("--num_proc", "0"),
        ("--clip_timeout", "0"),
        ("--clip_timeout", "nan"),
        ("--max_seconds", "nan"),
        ("--max_shard_size", "many"),
        ("--max_shard_size", "0MB"),
        ("--corpus", "moshi"),
        ("--transcriber", "x", "--drop", "text"),
    ],
)
def test_arguments_that_cannot_be(clips, tmp_path, arguments, capsys):
    with pytest.raises(SystemExit, match="2"):
        run(clips, "--output", tmp_path / "out", *arguments)
    assert arguments[0] in capsys.readouterr().err


def test_reports_from_before_extraction_load(clips, tmp_path):
    run(clips, "--output", tmp_path / "out", *SOUND)
    content = json.loads((tmp_path / "out" / "conversion_report.json").read_text())
    del content["extractors"]
    assert ConversionReport.from_dict(content).extractors == {}
    for wrong in ({**content, "unknown": 1}, {name: content[name] for name in content if name != "rows"}):
        with pytest.raises(ValueError, match="must have the keys"):
            ConversionReport.from_dict(wrong)


def make_recipe(tmp_path, data, **changes):
    model = {name: size for name, size in TINY_RECIPE["model"].items() if not name.startswith("vision")}
    recipe = {**TINY_RECIPE, "synthetic": None, "data_file": str(data), "model": model, "label_generation": "human"}
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump({**recipe, **changes}))
    return str(path)


@pytest.mark.slow
def test_the_folder_trains_and_other_kinds_are_refused(clips, tmp_path, capsys):
    data, other, model = tmp_path / "data", tmp_path / "other", tmp_path / "run"
    run(clips, "--output", data, *SOUND)
    run(clips, "--output", other, *SOUND, "--audio", '{"name": "egemaps_v02", "rate": 10}')
    train.main([make_recipe(tmp_path, data), "--output_dir", str(model), "--num_train_epochs", "1"])
    settings = json.loads((model / "processor_config.json").read_text())["audio_extractor"]
    assert settings == PreparedFolder(data).report().extractors["audio"]["settings"]

    predict.main([str(model), "--data_file", str(data)])
    assert "speaker2$_$2" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"not those that the checkpoint was trained on: .*`rate` 10.*extract\.py"):
        predict.main([str(model), "--data_file", str(other)])
    (clips / "label.csv").unlink()
    run(clips, "--output", tmp_path / "unlabelled", *SOUND)
    predict.main([str(model), "--data_file", str(tmp_path / "unlabelled")])
    assert "speaker0$_$0" in capsys.readouterr().out


@pytest.mark.slow
def test_a_run_is_not_resumed_on_features_of_another_kind(clips, tmp_path, monkeypatch):
    from tests.conftest import killed_run

    data, model = tmp_path / "data", tmp_path / "run"
    run(clips, "--output", data, *SOUND)
    arguments = [make_recipe(tmp_path, data), "--output_dir", str(model), "--save_strategy", "steps"]
    arguments += ["--eval_strategy", "steps", "--save_steps", "1", "--eval_steps", "1"]
    killed_run(monkeypatch, arguments, step=2)
    run(clips, "--output", data, *SOUND, "--overwrite", "--audio", '{"name": "egemaps_v02", "rate": 10}')
    with pytest.raises(ValueError, match="holds a run with another recipe.*data_sha256"):
        train.main([*arguments, "--resume_from_checkpoint", "true"])


@pytest.mark.slow
def test_a_killed_run_goes_on_and_ends_as_an_unbroken_one(tmp_path):
    clips = make_folder(tmp_path / "clips", 60)
    subprocess.run(
        command(clips, "--output", tmp_path / "whole", *SOUND),
        check=True,
        capture_output=True,
        env=environment(tmp_path),
    )
    arguments = command(clips, "--output", tmp_path / "out", *SOUND)
    store = tmp_path / "out.clips"
    for enough in (3, 20):
        process = subprocess.Popen(
            arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment(tmp_path)
        )
        deadline = time.monotonic() + 120
        while len(list(store.rglob("*.safetensors"))) < enough and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait(60)
        assert not (tmp_path / "out").exists()
    last = subprocess.run(arguments, check=True, capture_output=True, text=True, env=environment(tmp_path))
    extracted, kept = map(int, re.search(r"(\d+) extracted, (\d+) from an earlier run, 0 failed", last.stdout).groups())
    assert extracted + kept == 60 and 20 <= kept < 60
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert not store.exists() and not list(tmp_path.glob("*.incomplete*"))


@pytest.mark.slow
def test_shares_of_processes_that_accelerate_launches(clips, tmp_path):
    (clips / "Raw" / "speaker0" / "1.wav").write_bytes(b"no sound at all")
    (clips / "Raw" / "speaker1" / "1.wav").write_bytes(b"nor here")
    assert run(clips, "--output", tmp_path / "alone", *SOUND) == 1
    options = ("--output", tmp_path / "out", "--drop", "vision", "--num_proc", "1", "--keep_clips")
    done = subprocess.run(
        command(clips, *options, launcher=LAUNCHER),
        capture_output=True,
        text=True,
        env=environment(tmp_path),
        timeout=300,
    )
    assert done.returncode == 1, done.stderr
    assert "9 clips: 7 extracted, 0 from an earlier run, 2 failed" in done.stdout
    assert contents(tmp_path / "out") == contents(tmp_path / "alone")


SLOW_WRITER = """
import sys, time
sys.path.insert(0, {root!r})
import extract
from datasets_scripts.extraction import run

write_rows = run.write_rows

def slowly(*arguments, **options):
    time.sleep(4)  # as the rows of many clips take
    return write_rows(*arguments, **options)

run.write_rows = slowly
if __name__ == "__main__":
    sys.exit(extract.main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_all_processes_wait_for_the_one_that_writes(clips, tmp_path):
    """Else the launcher would stop it: with a clip that failed, the others end with an error."""
    (clips / "Raw" / "speaker0" / "1.wav").write_bytes(b"no sound at all")
    script = tmp_path / "slow_extract.py"
    script.write_text(SLOW_WRITER.format(root=str(ROOT)))
    done = subprocess.run(
        [*LAUNCHER, str(script), str(clips), "--output", str(tmp_path / "out"), "--drop", "vision", "--num_proc", "1"],
        capture_output=True,
        text=True,
        env=environment(tmp_path),
        timeout=300,
    )
    assert done.returncode == 1 and list(failures(tmp_path / "out")) == ["speaker0$_$1"], done.stderr
    assert PreparedFolder(tmp_path / "out").report().rows == {"train": 4, "valid": 2, "test": 2}


@pytest.mark.slow
def test_what_is_said_where_another_process_has_ended(clips, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("years of work")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    place = {**environment(tmp_path), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    processes = [
        subprocess.Popen(
            command(clips, "--output", tmp_path / "out", *SOUND),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={**place, "RANK": rank},
        )
        for rank in ("0", "1")
    ]
    first, second = (process.communicate(timeout=120)[1] for process in processes)
    assert "holds other files; give an empty folder or a new one." in first
    assert "another of the 2 processes has ended" in second and "Traceback" not in first + second


@pytest.mark.slow
def test_videos_with_faces_and_voices(tmp_path):
    from datasets_scripts.synthetic_clips import write_synthetic_clips

    clips = tmp_path / "clips"
    write_synthetic_clips(clips, clips=6, seed=1)
    assert run(clips, "--output", tmp_path / "out") == 0
    rows = load_dataset(tmp_path / "out", cache_dir=tmp_path / "a")
    for part in rows.values():
        for row in part:
            assert len(row["audio_values"]) > 10 and len(row["vision_values"]) > 5
    report = PreparedFolder(tmp_path / "out").report()
    assert report.extractors.keys() == {"audio", "vision"}


@pytest.mark.slow
@pytest.mark.skipif(not MEDIA.is_dir(), reason="no real clips")
def test_real_clips(tmp_path):
    clips = tmp_path / "clips"
    shutil.copytree(MEDIA / "grid", clips / "grid")
    shutil.copytree(MEDIA / "mosi", clips / "mosi")
    for file in clips.rglob("*"):
        file.chmod(0o755 if file.is_dir() else 0o644)
    ids = sorted(file.stem for file in (clips / "grid").glob("*.mpg"))
    rows = [{"video_id": "grid", "clip_id": name, "text": "", "label": 0.5, "mode": "train"} for name in ids]
    write_table(clips / "label.csv", rows)
    assert run(clips, "--output", tmp_path / "out") == 0
    report = PreparedFolder(tmp_path / "out").report()
    assert report.rows == {"train": 11} and report.empty_text == {"train": 11}
    assert any(warning.startswith("2 media files belong to no row") for warning in report.warnings)
    low, *_, high = report.lengths["train"]["vision_values"]
    assert 25 <= low <= high <= 31  # of three seconds, ten a second
