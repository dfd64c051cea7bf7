"""A source to a folder: what is in it, who can read it, and what is left of a conversion that went wrong."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
from filelock import FileLock

import prepare_data
from datasets_scripts import PreparedFolder, load_dataset
from datasets_scripts.prepared import is_prepared
from tests.local_hub import LocalHub

ROOT = Path(__file__).resolve().parents[1]
ROWS = {"train": 40, "valid": 6, "test": 9}


def make_content(rows=ROWS, steps=8):
    random = np.random.default_rng(5)
    content = {}
    for split, count in rows.items():
        audio = random.normal(size=(count, steps, 5)).astype(np.float32)
        lengths = random.integers(1, steps + 1, count)
        for row, length in enumerate(lengths):
            audio[row, length:] = 0
        content[split] = {
            "id": [f"{split}{row}$_$0" for row in range(count)],
            "raw_text": [f"words {row}" for row in range(count)],
            "audio": audio,
            "audio_lengths": lengths.tolist(),
            "regression_labels": random.uniform(-3, 3, count).astype(np.float32),
        }
    content["test"]["audio"][0, 0, 2] = np.inf
    return content


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "features.pkl"
    path.write_bytes(pickle.dumps(make_content()))
    return path


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def same_rows(ours, theirs):
    assert list(ours) == list(theirs)
    for split in ours:
        ours_rows, theirs_rows = list(ours[split]), list(theirs[split])
        assert len(ours_rows) == len(theirs_rows)
        for one, other in zip(ours_rows, theirs_rows, strict=True):
            assert one.keys() == other.keys()
            for name in one:
                np.testing.assert_array_equal(one[name], other[name])


def test_a_folder_has_rows_card_and_report(source, tmp_path, capsys):
    folder = tmp_path / "prepared"
    prepare_data.main([str(source), "--output", str(folder)])
    assert "rows: train 40, valid 6, test 9" in capsys.readouterr().out
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    shards = [f"data/{split}-00000-of-00001.parquet" for split in ("test", "train", "valid")]
    assert names == ["README.md", "conversion_report.json", *shards, "labels.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "features.pkl", "prepared"]  # no locks
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.suffix != ".lock"]
    assert is_prepared(folder)

    rows, before = load_dataset(folder, cache_dir=tmp_path / "a"), load_dataset(source, cache_dir=tmp_path / "a")
    same_rows(rows, before)
    same_rows(load_dataset(folder, streaming=True), before)
    same_rows(load_dataset(source, streaming=True, cache_dir=tmp_path / "a"), before)
    plain = datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "b"))
    assert {split: part.features for split, part in plain.items()} == {s: part.features for s, part in before.items()}
    same_rows(plain.with_format("numpy"), before)
    report = PreparedFolder(folder).report()
    assert report.counts["test"]["audio_values"]["positive_infinity"] == 1
    assert report.replaced == {"test": {"audio_values": {"2": 1}}}
    assert rows["test"][0]["audio_values"][0, 2] == 0


def test_shards_and_row_groups_are_small(tmp_path):
    path = tmp_path / "features.pkl"
    path.write_bytes(pickle.dumps(make_content({"train": 600, "valid": 2, "test": 2}, steps=1000)))
    folder = tmp_path / "prepared"
    prepare_data.main([str(path), "--output", str(folder), "--max_shard_size", "4MB"])
    shards = sorted((folder / "data").glob("train-*"))
    assert len(shards) > 1 and shards[-1].name == f"train-{len(shards) - 1:05d}-of-{len(shards):05d}.parquet"
    for shard in shards:
        footer = pq.read_metadata(shard)
        assert max(footer.row_group(i).total_byte_size for i in range(footer.num_row_groups)) < 6 << 20
    ids = load_dataset(folder, cache_dir=tmp_path / "a")["train"]["id"][:]
    assert ids.tolist() == [f"train{i}$_$0" for i in range(600)]
    shards[0].unlink()
    with pytest.raises(ValueError, match=r"must hold the rows \{'train': 600, .*but it holds .*prepare it again"):
        load_dataset(folder)


def test_again_overwrite_and_folders_of_others(source, tmp_path, capsys):
    folder = tmp_path / "prepared"
    prepare_data.main([str(source), "--output", str(folder)])
    stamp = (folder / "README.md").stat().st_mtime_ns
    prepare_data.main([str(source), "--output", str(folder)])
    assert "holds the rows of" in capsys.readouterr().out
    assert (folder / "README.md").stat().st_mtime_ns == stamp
    with pytest.raises(FileExistsError, match="holds other rows .*--overwrite"):
        prepare_data.main([str(source), "--output", str(folder), "--padding", "right"])
    prepare_data.main([str(source), "--output", str(folder), "--padding", "right", "--overwrite"])
    assert PreparedFolder(folder).report().options == {"padding": "right"}
    with pytest.raises(ValueError, match="was prepared with the options .*'left'.*prepare the source again"):
        load_dataset(folder, padding="left")
    with pytest.raises(ValueError, match="is prepared already"):
        prepare_data.main([str(folder), "--output", str(tmp_path / "other")])

    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    for arguments in ([], ["--overwrite"]):
        with pytest.raises(FileExistsError, match="holds other files"):
            prepare_data.main([str(source), "--output", str(tmp_path / "mine"), *arguments])
    assert (tmp_path / "mine" / "thesis.tex").exists()


def test_a_faulty_source_leaves_the_folder_before_it(source, tmp_path):
    folder = tmp_path / "prepared"
    prepare_data.main([str(source), "--output", str(folder)])
    content = make_content()
    content["valid"]["regression_labels"][3] = np.nan
    source.write_bytes(pickle.dumps(content))
    with pytest.raises(ValueError, match="`regression_labels` of split 'valid' must be finite"):
        prepare_data.main([str(source), "--output", str(folder), "--overwrite"])
    assert len(load_dataset(folder)["valid"]) == 6
    assert not list(tmp_path.glob("*incomplete*")) and not list(tmp_path.glob("*.lock"))


def test_a_killed_conversion_looks_incomplete_and_starts_clean(tmp_path):
    source, folder = tmp_path / "features.pkl", tmp_path / "prepared"
    source.write_bytes(pickle.dumps(make_content({"train": 4000, "valid": 6, "test": 9}, steps=200)))
    command = [sys.executable, str(ROOT / "prepare_data.py"), str(source), "--output", str(folder)]
    command += ["--max_shard_size", "1MB"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    half = tmp_path / "prepared.incomplete"
    deadline = time.monotonic() + 60
    while len(list(half.glob("*.arrow"))) < 2 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait(60)
    assert half.is_dir() and not folder.exists()
    assert not is_prepared(half)
    with pytest.raises(FileNotFoundError, match="nothing at"):
        load_dataset(folder)
    (half / "data").mkdir(exist_ok=True)
    (half / "data" / "train-99999-of-00001.parquet").write_bytes(b"left over")
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    assert not half.exists() and "99999" not in "".join(os.listdir(folder / "data"))
    assert len(load_dataset(folder)["train"]) == 4000


def test_a_conversion_waits_for_another_into_the_same_folder(source, tmp_path):
    folder = tmp_path / "prepared"
    other = FileLock(f"{folder}_builder.lock")  # as the library holds it
    command = [sys.executable, "prepare_data.py", str(source), "--output", str(folder)]
    with other:
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(8)
        assert not folder.exists()
    assert process.wait(120) == 0
    assert is_prepared(folder)


def test_the_command_speaks_in_sentences(source, tmp_path):
    def run(*arguments):
        command = [sys.executable, str(ROOT / "prepare_data.py"), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120)

    done = run(source, "--output", tmp_path / "prepared", "--align", "words")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "`align` is not an option for features.pkl" in done.stderr
    assert run(source).returncode == 2
    assert "Generating train split" in run(source, "--output", tmp_path / "prepared").stderr  # the progress bar


@pytest.fixture
def hub():
    with LocalHub() as hub, hub.online():
        yield hub


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
def test_uploads_are_private_unless_asked_for(source, tmp_path, hub, capsys):
    folder = tmp_path / "prepared"
    with pytest.raises(ValueError, match="was not made by prepare_data.py"):
        prepare_data.main([str(source), "--push_to_hub", "org/mosi"])
    assert hub.requests == []
    prepare_data.main([str(source), "--output", str(folder), "--push_to_hub", "org/mosi"])
    repository = hub.repos["dataset", "org/mosi"]
    assert repository.private
    assert [commit.title for commit in repository.commits] == ["initial commit", "Rows of features.pkl"]
    uploaded = {name: content for name, content in repository.files().items() if name != ".gitattributes"}
    assert uploaded == {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*.*")}
    assert f"Uploaded: {hub.url}/datasets/org/mosi/commit/{repository.head}" in capsys.readouterr().out

    prepare_data.main([str(folder), "--push_to_hub", "org/mosi"])
    assert "org/mosi has all of this already." in capsys.readouterr().out
    assert len(repository.commits) == 2
    repository.private = False
    with pytest.raises(ValueError, match=r"org/mosi is public.*--public"):
        prepare_data.main([str(folder), "--push_to_hub", "org/mosi"])


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
def test_a_public_upload_and_one_that_breaks_off(source, tmp_path, hub, monkeypatch):
    monkeypatch.setattr("publishing.dataset_folder.check_dataset", PreparedFolder)  # seconds each; tested above
    folder = tmp_path / "prepared"
    prepare_data.main([str(source), "--output", str(folder), "--padding", "right"])
    hub.fail("POST", "/commit/", status="drop")
    with pytest.raises(ConnectionError, match=r"prepared was not uploaded to org/mosi \(\w+: .*; check the connection"):
        prepare_data.main([str(folder), "--push_to_hub", "org/mosi", "--public"])
    repository = hub.repos["dataset", "org/mosi"]
    assert len(repository.commits) == 1 and not repository.private
    repository.commit({"data/train-00001-of-00002.parquet": b"of an earlier upload"})
    prepare_data.main([str(folder), "--push_to_hub", "org/mosi", "--public"])
    shards = sorted(name for name in repository.files() if name.startswith("data/"))
    assert shards == [f"data/{split}-00000-of-00001.parquet" for split in ("test", "train", "valid")]


def test_a_report_names_no_place(source, tmp_path):
    folder = tmp_path / "prepared"
    prepare_data.main([str(source), "--output", str(folder)])
    for file in (folder / "README.md", folder / "conversion_report.json"):
        assert str(tmp_path) not in file.read_text()
    assert json.loads((folder / "conversion_report.json").read_text())["source"] == "features.pkl"
