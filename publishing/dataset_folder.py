"""A prepared folder as a dataset on the Hub: it is published as it is, once it has been seen to load."""

from __future__ import annotations

from pathlib import Path

from datasets_scripts.prepared import PreparedFolder, is_prepared
from publishing.push import push
from publishing.stranger import StrangerError, ask

STALE = ("data/*.parquet",)  # shards of an earlier upload

_LOADS = """
from datasets import load_dataset
answer = {split: rows.num_rows for split, rows in load_dataset(question).items()}
"""


def check_dataset(folder: str | Path) -> PreparedFolder:
    """
    The folder that `prepare_data.py` made, once `datasets.load_dataset` has read it where the project cannot be seen.

    Raises:
        ValueError: for another folder, and for one that does not load, or not with all its rows.
    """
    folder = Path(folder).resolve()
    if not is_prepared(folder):
        raise ValueError(
            f"{folder} was not made by prepare_data.py; convert it first: python prepare_data.py {folder}."
        )
    prepared = PreparedFolder(folder)
    expected = {split: count for split, count in prepared.report().rows.items() if count}
    try:
        found = ask(_LOADS, str(folder))
    except StrangerError as error:
        raise ValueError(f"{folder} is not published: it does not load:\n{error}") from None
    if found != expected:
        raise ValueError(f"{folder} is not published: `load_dataset` finds the rows {found} in it, and not {expected}.")
    return prepared


def push_dataset(folder: str | Path, repo_id: str, private: bool) -> str | None:
    """Checks a prepared folder and uploads it; see `publishing.push.push`."""
    prepared = check_dataset(folder)
    return push(prepared.path, repo_id, "dataset", private, f"Rows of {prepared.report().source}", STALE)
