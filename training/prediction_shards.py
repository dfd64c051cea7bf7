"""
Predictions of very many rows as a folder of Parquet files, made by any number of processes, in one run or in several.

    FOLDER/part-00000.parquet ...    the rows in order, a fixed number of them in each file but the last
    FOLDER/predictions.json          what was predicted, with which checkpoint, and the metrics
    FOLDER/README.md                 for whoever opens the folder; `datasets.load_dataset(FOLDER)` reads its header

A folder has its name only when it is whole: it is written as `FOLDER.incomplete` and renamed. The files there stay when
a run is stopped, and the next one makes those that are missing. Which rows are in a file, and which of them make a
batch, depends on the numbers of rows alone: predictions are the same whoever makes them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from datasets.utils import tqdm

from datasets_scripts.extraction.share import Share
from datasets_scripts.extraction.store import settings_key
from datasets_scripts.files import behind_link, delete_left_over, keep_folder, release_folder, whole_file, write_json
from training.checkpoint import checkpoint_sha256
from training.corpus import Corpus, Rows, prepare_split
from training.prediction import predict_rows
from training.summed_metrics import metrics_of_tables
from training.targets import Target

MANIFEST_FILE = "predictions.json"
CARD_FILE = "README.md"
_RESULTS = ("metrics",)  # what the manifest has beyond what was asked for
_KEY = b"predictions"  # in the metadata of a file: which manifest it belongs to


class PredictionFolder:
    """
    A folder of predictions, begun or whole.

    Args:
        path: The folder.
        manifest: What is predicted, with what, as JSON can hold it; `rows` and `shard_rows` say what is in which file.
    """

    def __init__(self, path: str | Path, manifest: dict[str, Any]):
        self.path = behind_link(path).absolute()
        self.manifest = manifest
        self.work = self.path.with_name(f"{self.path.name}.incomplete")
        self.key = settings_key(manifest)

    @property
    def shards(self) -> list[range]:
        """The rows of each file."""
        rows, size = self.manifest["rows"], self.manifest["shard_rows"]
        return [range(start, min(start + size, rows)) for start in range(0, rows, size)]

    def begin(self) -> bool:
        """
        Makes the folder to work in, or looks into the one that is there; one process does it for all.

        Returns:
            Whether everything is there already.

        Raises:
            FileExistsError: where either folder holds something else, or another run writes there.
        """
        if self.path.exists() and (self.path.is_file() or any(self.path.iterdir())):
            self._check(self.path)
            return True
        keep_folder(self.work, "--output")
        if any(self.work.iterdir()):
            self._check(self.work)
        else:
            write_json(self.work / MANIFEST_FILE, self.manifest)
        return False

    def _check(self, folder: Path) -> None:
        file = folder / MANIFEST_FILE
        advice = f"give another --output, or delete {folder}"
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise FileExistsError(f"--output {folder} must be new, but it holds other files; {advice}.") from None
        found = {name: value for name, value in found.items() if name not in _RESULTS}
        names = sorted(
            name for name in {*found, *self.manifest} if found.get(name, ...) != self.manifest.get(name, ...)
        )
        if names:
            shown = "; ".join(f"`{name}` {found.get(name)!r} there, {self.manifest.get(name)!r} here" for name in names)
            raise FileExistsError(f"--output {folder} holds other predictions: {shown}. To go on, {advice}.")

    def missing(self) -> list[int]:
        """Numbers of the files that are not there, or not whole, or of another manifest."""
        return [number for number, rows in enumerate(self.shards) if not self._is_there(number, len(rows))]

    def _is_there(self, number: int, rows: int) -> bool:
        try:
            footer = pq.read_metadata(self.file(number))
        except (OSError, pa.ArrowException):
            return False
        return footer.num_rows == rows and (footer.metadata or {}).get(_KEY) == self.key.encode()

    def file(self, number: int) -> Path:
        """One of the files while the folder is not whole."""
        return self.work / f"part-{number:05}.parquet"

    def write(self, number: int, table: pa.Table) -> None:
        table = table.replace_schema_metadata({_KEY: self.key.encode()})
        with whole_file(self.file(number)) as temporary:
            pq.write_table(table, temporary)

    def tables(self) -> Iterator[pa.Table]:
        """One file after the other, while the folder is not whole."""
        return (pq.read_table(self.file(number)) for number in range(len(self.shards)))

    def check_whole(self) -> None:
        """Raises ValueError where a file is missing."""
        if missing := self.missing():
            raise ValueError(f"{self.file(missing[0])} is gone or damaged; run the same command again to make it.")

    def finish(self, metrics: dict[str, float]) -> None:
        """Gives the folder its name; raises as `check_whole`."""
        self.check_whole()
        delete_left_over(self.work)
        with whole_file(self.work / CARD_FILE) as temporary:
            temporary.write_text(self._card(metrics), encoding="utf-8")
        write_json(self.work / MANIFEST_FILE, {**self.manifest, "metrics": metrics})
        os.replace(self.work, self.path)
        release_folder(self.path)

    def metrics(self) -> dict[str, float]:
        """Those of the whole folder."""
        return json.loads((self.path / MANIFEST_FILE).read_text(encoding="utf-8"))["metrics"]

    def _card(self, metrics: dict[str, float]) -> str:
        made = self.manifest
        header = (
            f"configs:\n- config_name: default\n  data_files:\n  - split: {made['split']}\n    path: part-*.parquet"
        )
        lines = [
            f"---\n{header}\n---\n",
            f"# Predictions of {made['checkpoint']}\n",
            f"{made['rows']} rows of {made['data']}, split {made['split']}, in their order. {MANIFEST_FILE} says what "
            "was predicted, with what.",
            *([""] if metrics else []),
            *(f"- {name}: {value:.4f}" for name, value in metrics.items()),
        ]
        return "\n".join(lines) + "\n"


def manifest_of(
    checkpoint: str, model, processor, corpus: Corpus, rows: Rows, *, split: str, text: str | None, shard_rows: int,
    batch_size: int, metric_convention: str,
) -> dict[str, Any]:  # fmt: skip
    """
    Everything that decides what stands in which file of a `PredictionFolder`.

    Args:
        checkpoint: Its folder, or its id on the Hub.
        model: A model of this collection.
        processor: Its processor.
        corpus: The data.
        rows: Those of its split that are predicted.
        split, text, shard_rows, batch_size, metric_convention: What was chosen.
    """
    return {
        "checkpoint": Path(checkpoint).absolute().name,
        "checkpoint_sha256": checkpoint_sha256(model, processor),
        "dtype": str(model.dtype).removeprefix("torch."),
        "data": corpus.name,
        "data_sha256": corpus.sha256,
        "data_notes": corpus.notes,  # a source may have been converted in several ways
        "split": split,
        "rows": len(rows),
        "text": text,
        "shard_rows": shard_rows,
        "batch_size": batch_size,
        "metric_convention": metric_convention,
    }


def predict_shards(
    folder: PredictionFolder, model, processor, rows: Rows, target: Target, share: Share
) -> dict[str, float]:
    """
    Makes what is missing in a folder, each process its share of the files.

    Args:
        folder: Where to; whole at the end.
        model: A model of this collection.
        processor: Its processor.
        rows: What the folder's manifest tells of.
        target: What is predicted.
        share: This process' part.

    Returns:
        The metrics over all rows; none where the rows have no labels.

    Raises:
        FileExistsError: where the folder holds something else.
        ValueError: where the processes read different checkpoints or data, or do not see one folder.
    """
    if len(set(share.gathered(folder.key))) > 1:
        raise ValueError("The processes read different checkpoints or data; give all machines the same files.")
    missing = share.gathered(_to_do(folder) if share.is_first else None)[0]
    if missing is not None:
        seen = share.gathered((folder.work / MANIFEST_FILE).is_file())
        if not all(seen):
            raise ValueError(
                f"--output {folder.path} must be on a disk that all machines see, but process {seen.index(False)} does "
                f"not find {folder.work / MANIFEST_FILE}, which process 0 has written."
            )
        total = share.size_of(len(missing))
        bar = tqdm(share.of(missing), total=total, desc="Predicting", unit=" files", disable=not share.is_first)
        for number in bar:
            part = prepare_split(rows.select(folder.shards[number]), processor, folder.manifest["text"])
            folder.write(number, predict_rows(model, processor, part, folder.manifest["batch_size"]))
        share.gathered(None)  # until all are here
        if share.is_first:
            folder.check_whole()  # before they are read for the metrics
            folder.finish(metrics_of_tables(folder.tables(), target) if target.column in rows.column_names else {})
    return share.gathered(folder.metrics() if share.is_first else None)[0]


def _to_do(folder: PredictionFolder) -> list[int] | None:
    return None if folder.begin() else folder.missing()
