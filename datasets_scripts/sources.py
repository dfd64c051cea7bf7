"""Which reader a source is for, found by looking at it, and the one way to open any of them."""

from __future__ import annotations

import difflib
from os import PathLike
from pathlib import Path
from typing import Any

import datasets

from datasets_scripts.builder import SourceBuilder
from datasets_scripts.computational_sequences import ComputationalSequences
from datasets_scripts.label_table import LabelTable
from datasets_scripts.mmsa_pickle import MMSAPickle
from datasets_scripts.npz_arrays import NpzArrays
from datasets_scripts.parquet_rows import ParquetRows
from datasets_scripts.report import ConversionReport

_PICKLE_SUFFIXES = (".pkl", ".pickle", ".p")
_TABLE_SUFFIXES = (".csv", ".tsv")
# First bytes of a pickle: of protocol 2 and later, and of a dict or list in protocols 0 and 1.
_PICKLE_STARTS = (b"\x80", b"(d", b"(l", b"}q", b"]q")
_HDF5_START = b"\x89HDF\r\n\x1a\n"


def reader_of(path: str | PathLike[str]) -> type[SourceBuilder]:
    """The reader of a source, by looking at it.

    Raises:
        FileNotFoundError: there is nothing at `path`.
        ValueError: no reader knows what is there, or a folder holds several sources.
    """
    path = Path(path)
    if path.is_dir():
        return _reader_of_folder(path)
    if not path.is_file():
        raise FileNotFoundError(f"`data_file` must name a source, but there is nothing at {path}; check the path.")
    reader = _reader_of_file(path)
    if reader is None:
        raise ValueError(
            f"{path.name} is none of the sources that can be read: a feature pickle (MMSA's or MulT's layout), a .csd "
            "file or a folder of them (CMU-MultimodalSDK), a table of labels (.csv) or a folder with label.csv, .npz, "
            "Parquet. Check that it is the right file, and that it was downloaded whole."
        )
    return reader


def _reader_of_file(path: Path) -> type[SourceBuilder] | None:
    with path.open("rb") as file:
        start = file.read(8)
    if start.startswith(_HDF5_START):
        return ComputationalSequences
    if start.startswith(b"PAR1"):
        return ParquetRows
    if start.startswith(b"PK") and path.suffix.lower() not in _PICKLE_SUFFIXES:
        return NpzArrays
    if start.startswith(_PICKLE_STARTS) or path.suffix.lower() in _PICKLE_SUFFIXES:
        return MMSAPickle
    if path.suffix.lower() in _TABLE_SUFFIXES:
        return LabelTable
    return None


def _reader_of_folder(path: Path) -> type[SourceBuilder]:
    """A folder is a source of its own where it holds sequences of the SDK, a table of labels, or Parquet."""
    files = [file for file in sorted(path.iterdir()) if file.is_file() and not file.name.startswith(".")]
    found: dict[type[SourceBuilder], list[str]] = {}
    for file in files:
        reader = _reader_of_file(file)
        if reader is not None:
            found.setdefault(reader, []).append(file.name)
    if not found and any(path.glob("*/*.parquet")):
        return ParquetRows
    whole = [reader for reader in found if reader not in (MMSAPickle, NpzArrays)]
    if len(found) == 1 and whole:
        return whole[0]
    if not found:
        raise ValueError(
            f"{path} holds no source: no .csd file, no label.csv, no Parquet; name the folder or the file that does."
        )
    shown = "; ".join(f"{', '.join(names[:3])} ({reader.SOURCE_FORMAT})" for reader, names in found.items())
    raise ValueError(f"{path} holds several sources, or one that is a file of its own: {shown}. Name one of them.")


def open_source(
    path: str | PathLike[str], *, cache_dir: str | PathLike[str] | None = None, **options: Any
) -> SourceBuilder:
    """The builder of a source, nothing converted yet.

    Args:
        path: file or folder.
        cache_dir: where converted sources are kept; by default the cache of `datasets`.
        options: of the reader; see its configuration.

    Raises:
        FileNotFoundError, ValueError: as `reader_of`; and for an option that the reader does not have.
    """
    reader = reader_of(path)
    known = reader.BUILDER_CONFIG_CLASS.option_names()
    for name in options:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean `{near[0]}`?" if near else f"its options are {', '.join(known)}."
            raise ValueError(f"`{name}` is not an option for {Path(path).name} ({reader.SOURCE_FORMAT}); {hint}")
    options = {name: value for name, value in options.items() if value is not None}
    return reader(cache_dir=None if cache_dir is None else str(cache_dir), data_file=str(Path(path)), **options)


def prepare(
    path: str | PathLike[str],
    *,
    cache_dir: str | PathLike[str] | None = None,
    num_proc: int | None = None,
    **options: Any,
) -> SourceBuilder:
    """The builder of a source, its conversion done, for whoever needs both `rows()` and `report()`."""
    builder = open_source(path, cache_dir=cache_dir, **options)
    builder.download_and_prepare(num_proc=num_proc)
    return builder


def load_dataset(
    path: str | PathLike[str],
    *,
    cache_dir: str | PathLike[str] | None = None,
    num_proc: int | None = None,
    **options: Any,
) -> datasets.DatasetDict:
    """The rows of a source, converted on first use and memory-mapped."""
    return prepare(path, cache_dir=cache_dir, num_proc=num_proc, **options).rows()


def conversion_report(
    path: str | PathLike[str], *, cache_dir: str | PathLike[str] | None = None, **options: Any
) -> ConversionReport:
    """What `load_dataset` did to the source; converts it where that has not been done. Arguments as there."""
    return prepare(path, cache_dir=cache_dir, **options).report()
