"""One corpus in every layout that the readers know, for tests that compare what becomes of it."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from datasets_scripts import MODALITIES, open_source

SIZES = {"text": 5, "audio": 4, "vision": 3}
STEPS = {"text": 6, "audio": 9, "vision": 7}
ROWS = {"train": 32, "valid": 8, "test": 8}


def make_rows(seed: int = 0) -> dict[str, list[dict]]:
    """Rows by split: id, label and a sequence of each modality, no value of which is 0."""
    random = np.random.default_rng(seed)
    splits: dict[str, list[dict]] = {}
    for split, count in ROWS.items():
        splits[split] = []
        for number in range(count):
            label = np.float32(np.round(random.uniform(-3, 3), 1))
            row = {"id": f"{split}{number:03d}$_$0", "label": label}  # in the order of the names, as HDF5 has them
            for modality, size in SIZES.items():
                values = random.normal(label / 3, 1, (random.integers(1, STEPS[modality] + 1), size))
                row[f"{modality}_values"] = np.where(values == 0, 1, values).astype(np.float32)
            splits[split].append(row)
    return splits


def padded(rows: list[dict], modality: str, front: bool = False) -> np.ndarray:
    """The sequences of a modality as one array, zeros behind or in front of them."""
    array = np.zeros((len(rows), STEPS[modality], SIZES[modality]), np.float32)
    for target, row in zip(array, rows, strict=True):
        values = row[f"{modality}_values"]
        target[len(target) - len(values) if front else 0 :][: len(values)] = values
    return array


def mmsa_content(splits: dict[str, list[dict]]) -> dict[str, dict]:
    return {
        split: {
            "id": [row["id"] for row in rows],
            "raw_text": [""] * len(rows),
            "regression_labels": np.array([row["label"] for row in rows]),
            **{modality: padded(rows, modality) for modality in MODALITIES},
            **{f"{m}_lengths": [len(row[f"{m}_values"]) for row in rows] for m in MODALITIES},
        }
        for split, rows in splits.items()
    }


def write_mmsa(splits, folder: Path) -> Path:
    path = folder / "unaligned.pkl"
    path.write_bytes(pickle.dumps(mmsa_content(splits)))
    return path


def write_mult(splits, folder: Path) -> Path:
    """As MulT keeps CMU-MOSI: padded in front, no lengths, no transcripts, ids in three parts, labels (rows, 1, 1)."""
    content = {
        split: {
            "id": np.array([[row["id"].partition("$_$")[0].encode(), b"0.0", b"1.0"] for row in rows]),
            "labels": np.array([row["label"] for row in rows]).reshape(-1, 1, 1),
            **{modality: padded(rows, modality, front=True) for modality in MODALITIES},
        }
        for split, rows in splits.items()
    }
    path = folder / "mosi_data_noalign.pkl"
    path.write_bytes(pickle.dumps(content, protocol=2))
    return path


def write_npz(splits, folder: Path) -> Path:
    arrays = {}
    for split, part in mmsa_content(splits).items():
        del part["raw_text"]
        arrays |= {f"{key}_{split}": np.asarray(value) for key, value in part.items()}
    np.savez_compressed(folder / "corpus.npz", **arrays)
    return folder / "corpus.npz"


def write_parquet(splits, folder: Path) -> Path:
    path = folder / "parquet"
    path.mkdir()
    for split, rows in splits.items():
        columns = {
            "id": pa.array([row["id"] for row in rows]),
            "label": pa.array([row["label"] for row in rows], pa.float32()),
            **{f"{m}_values": pa.array([row[f"{m}_values"].tolist() for row in rows]) for m in MODALITIES},
        }
        pq.write_table(pa.table(columns), path / f"{split}.parquet")
    return path


def write_csd(splits, folder: Path) -> Path:
    """A video per row, whose only segment is its first second."""
    path = folder / "csd"
    path.mkdir()
    names = {"text": "WordVectors", "audio": "COVAREP", "vision": "FACET", "label": "Opinion Labels"}
    for role, name in names.items():
        with h5py.File(path / f"{name}.csd", "w") as file:
            data = file.create_group(f"{name}/data")
            file.create_group(f"{name}/metadata")["root name"] = json.dumps(name)
            for row in (row for rows in splits.values() for row in rows):
                video = data.create_group(row["id"].partition("$_$")[0])
                values = row[f"{role}_values"] if role != "label" else np.array([[row["label"]]])
                bounds = np.linspace(0, 1, len(values) + 1)
                video["features"] = values
                video["intervals"] = np.stack([bounds[:-1], bounds[1:]], axis=1)
    folds = {split: [row["id"].partition("$_$")[0] for row in rows] for split, rows in splits.items()}
    (path / "folds.json").write_text(json.dumps(folds))
    return path


def write_prepared(splits, folder: Path) -> Path:
    open_source(write_mmsa(splits, folder)).write_folder(folder / "prepared")
    return folder / "prepared"


LAYOUTS: dict[str, Callable[[dict[str, list[dict]], Path], Path]] = {
    "mmsa": write_mmsa,
    "mult": write_mult,
    "npz": write_npz,
    "parquet": write_parquet,
    "csd": write_csd,
    "prepared": write_prepared,
}
