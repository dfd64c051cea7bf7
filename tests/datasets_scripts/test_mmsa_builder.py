"""The MMSA builder as a builder: its configuration, its cache, its report and what is left when something fails."""

import hashlib
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

import datasets_scripts.arrays.padded_arrays as padded_arrays
import datasets_scripts.pickles.mmsa_pickle as mmsa_pickle
from datasets_scripts import ConversionReport, MMSAPickle, conversion_report, load_dataset, row_features
from datasets_scripts.cards.card import dataset_card

ROWS = {"train": 7, "valid": 3, "test": 4}


@pytest.fixture
def content():
    rng = np.random.default_rng(0)
    return {
        split: {
            "id": [f"{split}$_${row}" for row in range(count)],
            "raw_text": ["words"] * count,
            "audio": rng.standard_normal((count, 6, 5)),
            "audio_lengths": rng.integers(1, 7, count),
            "annotations": ["Neutral"] * count,
            "regression_labels": rng.uniform(-3, 3, count),
        }
        for split, count in ROWS.items()
    }


def write(folder, value, name="features.pkl"):
    path = folder / name
    path.write_bytes(pickle.dumps(value))
    return path


def files_in(folder):
    """Files that are not locks; locks are left behind by `datasets` and hold nothing."""
    return sorted(path.name for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")


def test_configuration_errors(tmp_path, content):
    path = write(tmp_path, content)
    with pytest.raises(ValueError, match="`padding` must be one of .*'front'"):
        load_dataset(path, cache_dir=tmp_path, padding="front")
    with pytest.raises(ValueError, match="`data_file` must name"):
        MMSAPickle(cache_dir=str(tmp_path))
    with pytest.raises(ValueError, match="`sha256` must be that of .*but 00 came"):
        MMSAPickle(cache_dir=str(tmp_path), data_file=str(path), sha256="00")
    digest = hashlib.sha256(path.read_bytes()).hexdigest().upper()
    builder = MMSAPickle(cache_dir=str(tmp_path), data_file=str(path), sha256=digest)
    with pytest.raises(FileNotFoundError, match="run `download_and_prepare"):
        builder.report()
    for wrong in ({"text_feature_size": 0}, {"audio_feature_size": 2.5}, {"vision_feature_size": True}):
        with pytest.raises(ValueError, match=f"`{next(iter(wrong))}` must be a positive integer"):
            row_features(**wrong)
    with pytest.raises(ValueError, match="'smell'"):
        row_features(unimodal_labels=("audio", "smell"))
    with pytest.raises(ValueError, match="`token_type_ids` describes `input_ids`"):
        row_features(token_type_ids=True)


def test_file_is_read_once_and_the_cache_goes_by_content(tmp_path, content, monkeypatch):
    reads = []
    monkeypatch.setattr(mmsa_pickle, "load_pickle", lambda path: reads.append(path) or pickle.loads(path.read_bytes()))
    path, cache = write(tmp_path, content), tmp_path / "cache"
    rows = load_dataset(path, cache_dir=cache)
    assert len(reads) == 1
    assert all(Path(file["filename"]).is_relative_to(cache) for file in rows["test"].cache_files)  # memory-mapped
    copied = write(tmp_path, content, "copy.pkl")
    os.utime(path, (1, 1))
    assert conversion_report(copied, cache_dir=cache).source == "copy.pkl"
    assert load_dataset(path, cache_dir=cache)["train"][0]["label"] == rows["train"][0]["label"]
    assert len(reads) == 1
    content["train"]["regression_labels"][0] = 0.125
    write(tmp_path, content)
    assert load_dataset(path, cache_dir=cache)["train"][0]["label"] == 0.125
    assert len(reads) == 2 and rows["train"][0]["label"] != 0.125
    for info in cache.rglob("dataset_info.json"):
        assert str(tmp_path) not in info.read_text()


def test_error_while_writing_leaves_nothing(tmp_path, content, monkeypatch):
    path, cache = write(tmp_path, content), tmp_path / "cache"
    real = padded_arrays._rows

    def fails(split, columns):
        yield next(real(split, columns))
        if split.name == "test":
            raise RuntimeError("disk on fire")

    with monkeypatch.context() as patch:
        patch.setattr(padded_arrays, "_rows", fails)
        with pytest.raises(Exception, match="generating the dataset") as caught:
            load_dataset(path, cache_dir=cache)
    assert "disk on fire" in str(caught.value.__cause__)
    assert files_in(cache) == []
    assert len(load_dataset(path, cache_dir=cache)["train"]) == 7


def test_killed_process_leaves_nothing_that_is_taken_for_whole(tmp_path, content):
    path, cache = write(tmp_path, content), tmp_path / "cache"
    code = (
        "import os, signal, sys, datasets_scripts, datasets_scripts.arrays.padded_arrays as m\n"
        "real = m._rows\n"
        "def dies(split, columns):\n"
        "    yield from real(split, columns)\n"
        "    if split.name == 'valid': os.kill(os.getpid(), signal.SIGKILL)\n"
        "m._rows = dies\n"
        "datasets_scripts.load_dataset(sys.argv[1], cache_dir=sys.argv[2])\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", code, path, cache], env=environment, capture_output=True, timeout=120)
    assert done.returncode == -9
    assert not list(cache.rglob("dataset_info.json")) and not list(cache.rglob("conversion_report.json"))
    rows = load_dataset(path, cache_dir=cache)
    assert {split: len(part) for split, part in rows.items()} == ROWS
    assert not list(cache.rglob("*.incomplete"))


def test_report_and_card(tmp_path, content):
    content["test"]["audio"][0, 0, 0] = np.inf
    path = write(tmp_path, content)
    report, raw = conversion_report(path, cache_dir=tmp_path / "cache"), path.read_bytes()
    assert (report.source, report.bytes, report.rows) == ("features.pkl", len(raw), ROWS)
    assert report.sha256 == hashlib.sha256(raw).hexdigest() and report.feature_sizes == {"audio": 5}
    assert ConversionReport.from_json(report.to_json()) == report
    assert ConversionReport.from_dict(report.to_dict()) == report
    with pytest.raises(ValueError, match="must have the keys"):
        ConversionReport.from_dict({"source": "x"})
    summary = report.summary()
    assert "rows: train 7, valid 3, test 4" in summary and "+inf replaced by 0: test 1" in summary
    assert "NaN" not in summary and "without" not in summary and str(tmp_path) not in report.to_json() + summary
    card = dataset_card(report, {})
    header = yaml.safe_load(card.split("---\n")[1])
    assert header["pretty_name"] == "Converted from features.pkl" and "sentimodal" in header["tags"]
    for part in (
        report.sha256,
        "not to Sentimodal",
        "| `audio_values` | 5 |",
        "| +inf replaced by 0 | 0 | 0 | 1 |",
    ):
        assert part in card
