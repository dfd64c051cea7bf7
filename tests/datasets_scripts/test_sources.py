"""Which reader a source is for, what a folder may hold, and what is said of everything else."""

import pickle
import zipfile

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datasets_scripts import load_dataset, open_source
from datasets_scripts.arrays.npz_arrays import NpzArrays
from datasets_scripts.csd.computational_sequences import ComputationalSequences
from datasets_scripts.parquet.parquet_rows import ParquetRows
from datasets_scripts.pickles.mmsa_pickle import MMSAPickle
from datasets_scripts.sources import find_source
from datasets_scripts.tables.label_table import LabelTable


def make_csd(path):
    with h5py.File(path, "w") as file:
        file.create_group("words/data")


def make_parquet(path):
    pq.write_table(pa.table({"id": ["a"]}), path)


MAKERS = {
    "features.pkl": (MMSAPickle, lambda path: path.write_bytes(pickle.dumps({"train": {}}))),
    "old": (MMSAPickle, lambda path: path.write_bytes(pickle.dumps({"train": {}}, protocol=0))),
    "binary": (MMSAPickle, lambda path: path.write_bytes(pickle.dumps({"train": {}}, protocol=1))),
    "cut.pkl": (MMSAPickle, lambda path: path.write_bytes(b"\x00\x00")),
    "words.csd": (ComputationalSequences, make_csd),
    "words": (ComputationalSequences, make_csd),
    "rows.npz": (NpzArrays, lambda path: np.savez(path, id=["a"])),
    "rows.parquet": (ParquetRows, make_parquet),
    "rows": (ParquetRows, make_parquet),
    "label.csv": (LabelTable, lambda path: path.write_text("id,text,label\n")),
    "label.tsv": (LabelTable, lambda path: path.write_text("id\ttext\tlabel\n")),
}


@pytest.mark.parametrize("name", MAKERS)
def test_files_are_known_by_their_content(tmp_path, name):
    reader, make = MAKERS[name]
    make(tmp_path / name)
    assert find_source(tmp_path / name) == (reader, tmp_path / name)
    assert find_source(str(tmp_path / name)) == (reader, tmp_path / name)


def test_a_folder_is_a_source_or_holds_one(tmp_path):
    for name in ("words.csd", "label.csv", "rows.parquet"):
        folder = tmp_path / name.partition(".")[0]
        folder.mkdir()
        MAKERS[name][1](folder / name)
        (folder / ".hidden").write_text("x")
        (folder / "NOTES.txt").write_text("x")
        assert find_source(folder) == (MAKERS[name][0], folder)
    for name in ("features.pkl", "rows.npz"):
        folder = tmp_path / f"one_{name}"
        folder.mkdir()
        MAKERS[name][1](folder / name)
        assert find_source(folder) == (MAKERS[name][0], folder / name)
        MAKERS[name][1](folder / f"more_{name}")
        with pytest.raises(ValueError, match="holds several sources: .*, .*Name one"):
            find_source(folder)
    nested = tmp_path / "nested" / "data"
    nested.mkdir(parents=True)
    make_parquet(nested / "train-00000-of-00001.parquet")
    assert find_source(tmp_path / "nested") == (ParquetRows, tmp_path / "nested")
    (tmp_path / "label" / "features.pkl").write_bytes(pickle.dumps({}))
    with pytest.raises(ValueError, match=r"several sources: features\.pkl \(MMSA pickle\); label\.csv .*Name one"):
        find_source(tmp_path / "label")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no source"):
        find_source(tmp_path / "empty")


def test_what_no_reader_knows(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(ValueError, match=r"notes\.txt is none of the sources .*feature pickle.*\.csd.*Check"):
        find_source(tmp_path / "notes.txt")
    with pytest.raises(FileNotFoundError, match=r"nothing at .*none\.pkl; check"):
        find_source(tmp_path / "none.pkl")
    with zipfile.ZipFile(tmp_path / "model.pkl", "w") as archive:  # what torch.save writes
        archive.writestr("data.pkl", b"")
    with pytest.raises(ValueError, match=r"zip archive, as torch\.save"):
        load_dataset(tmp_path / "model.pkl", cache_dir=tmp_path / "cache")


def test_options_are_those_of_the_reader(tmp_path):
    MAKERS["features.pkl"][1](tmp_path / "features.pkl")
    with pytest.raises(ValueError, match=r"`align` is not an option for features\.pkl \(MMSA pickle\)"):
        open_source(tmp_path / "features.pkl", align="words")
    with pytest.raises(ValueError, match="`pading` is not an option.*did you mean `padding`"):
        open_source(tmp_path / "features.pkl", pading="left")
    with pytest.raises(ValueError, match="`corpus` must be one of .*'mosey'"):
        open_source(tmp_path / "features.pkl", corpus="mosey")
    assert open_source(tmp_path / "features.pkl", padding=None).config.padding == "auto"


def test_a_name_of_the_hub_without_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="nothing at nobody/nothing, and no dataset of that name"):
        load_dataset("nobody/nothing")
