"""Which files of a folder are a Parquet source, and what split their names say."""

from __future__ import annotations

import re
from pathlib import Path

from datasets_scripts.own_splits import split_named

_SUFFIX = ".parquet"
_DATA_FOLDER = "data"


def files_in(folder: Path) -> list[Path]:
    """The files of a source: those in the folder, in `data/` and in folders called as a split in both; in order.

    Numbers in names count as numbers, so that `train_10` comes after `train_9`.

    Raises:
        FileNotFoundError: there are none.
        ValueError: one is a link that leads elsewhere.
    """
    found = []
    for place in (folder, folder / _DATA_FOLDER):
        for inner in (place, *_folders_of_splits(place)):
            found += _parquet_in(inner)
    if not found:
        raise FileNotFoundError(
            f"`data_file` must name a Parquet file or a folder of them, but {folder} holds none, nor does data/ in it "
            "or a folder called train, valid or test; name the folder that does."
        )
    for file in found:
        _check_link(file, folder)
    return sorted(found, key=lambda file: _order(file.relative_to(folder)))


def files_elsewhere(folder: Path, files: list[Path]) -> list[str]:
    """Parquet files in other folders of the folder, by name: they are not read."""
    there = {file for file in folder.glob(f"*/*{_SUFFIX}") if not _is_hidden(file.relative_to(folder))}
    return sorted(str(file.relative_to(folder)) for file in there - set(files))


def splits_by_name(files: list[Path], root: Path) -> dict[Path, str]:
    """The split of each file by the name of its folder, or the beginning of its own; empty where no name says one.

    Raises:
        ValueError: only some names say one.
    """
    splits = {file: _split_of(file, root) for file in files}
    named = {file: split for file, split in splits.items() if split is not None}
    if named and len(named) < len(files):
        unnamed = [str(file.relative_to(root)) for file, split in splits.items() if split is None]
        raise ValueError(
            f"the names of all files or of none must begin with a split, but {', '.join(unnamed[:5])} do not, and "
            f"{len(named)} others do; rename them (train..., valid..., test...), or take them out of the folder."
        )
    return named


def _split_of(file: Path, root: Path) -> str | None:
    if file.parent != root and split_named(file.parent.name):
        return split_named(file.parent.name)
    words = [split_named(word) for word in re.findall("[a-z]+", file.name.lower())]
    # `train_and_test.parquet` says nothing.
    return words[0] if words and len({word for word in words if word}) == 1 else None


def _folders_of_splits(place: Path) -> list[Path]:
    return [inner for inner in place.iterdir() if inner.is_dir() and split_named(inner.name)] if place.is_dir() else []


def _parquet_in(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return [f for f in folder.iterdir() if f.suffix.lower() == _SUFFIX and f.is_file() and not f.name.startswith(".")]


def _check_link(file: Path, folder: Path) -> None:
    """Links inside the folder are fine, and so is a snapshot in the cache of the Hub: its files are links to blobs."""
    real, root = file.resolve(), folder.resolve()
    if not real.is_relative_to(root) and real.parent != root.parent.parent / "blobs":
        raise ValueError(f"{file} is a link that leads out of its folder; name the folder that it leads to.")


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _order(path: Path) -> list[list[tuple[int, str]]]:
    return [[(int(word), "") if word.isdecimal() else (-1, word) for word in _words(part)] for part in path.parts]


def _words(name: str) -> list[str]:
    return re.split(r"(\d+)", name)
