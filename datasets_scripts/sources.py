"""Which reader a source is for, found by looking at it, and the one way to open any of them."""

from __future__ import annotations

import difflib
import re
from os import PathLike
from pathlib import Path
from typing import Any

import datasets
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

from datasets_scripts.arrays.npz_arrays import NpzArrays
from datasets_scripts.builder import SourceBuilder
from datasets_scripts.csd.computational_sequences import ComputationalSequences
from datasets_scripts.parquet.parquet_rows import ParquetRows
from datasets_scripts.pickles.mmsa_pickle import MMSAPickle
from datasets_scripts.prepared import PreparedFolder, is_prepared
from datasets_scripts.report import ConversionReport
from datasets_scripts.tables.label_table import LabelTable

_PICKLE_SUFFIXES = (".pkl", ".pickle", ".p")
_TABLE_SUFFIXES = (".csv", ".tsv")
# First bytes of a pickle: of protocol 2 and later, and of a dict or list in protocols 0 and 1.
_PICKLE_STARTS = (b"\x80", b"(d", b"(l", b"}q", b"]q")
_FILE_SUFFIXES = (*_PICKLE_SUFFIXES, *_TABLE_SUFFIXES, ".npz", ".parquet", ".csd")
_HDF5_START = b"\x89HDF\r\n\x1a\n"


def find_source(path: str | PathLike[str]) -> tuple[type[SourceBuilder], Path]:
    """The reader of a source, by looking at it, and the source: of a folder with one feature file in it, that file.

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
    return reader, path


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


def _reader_of_folder(path: Path) -> tuple[type[SourceBuilder], Path]:
    """A folder is a source of its own where it holds sequences of the SDK, a table of labels, or Parquet."""
    files = [file for file in sorted(path.iterdir()) if file.is_file() and not file.name.startswith(".")]
    found: dict[type[SourceBuilder], list[str]] = {}
    for file in files:
        reader = _reader_of_file(file)
        if reader is not None:
            found.setdefault(reader, []).append(file.name)
    if not found and (any(path.glob("*/*.parquet")) or any(path.glob("data/*/*.parquet"))):
        return ParquetRows, path
    if len(found) == 1:
        ((reader, names),) = found.items()
        if reader not in (MMSAPickle, NpzArrays):
            return reader, path
        if len(names) == 1:
            return reader, path / names[0]
    if not found:
        raise ValueError(
            f"{path} holds no source: no .csd file, no label.csv, no Parquet, no feature file; name the folder or the "
            "file that does. Of video and sound, `extract.py` makes features first."
        )
    shown = "; ".join(f"{', '.join(names[:3])} ({reader.SOURCE_FORMAT})" for reader, names in found.items())
    raise ValueError(f"{path} holds several sources: {shown}. Name one of them.")


def open_source(
    path: str | PathLike[str], *, cache_dir: str | PathLike[str] | None = None, **options: Any
) -> SourceBuilder:
    """The builder of a source, nothing converted yet.

    Args:
        path: file or folder.
        cache_dir: where converted sources are kept; by default the cache of `datasets`.
        options: of the reader; see its configuration.

    Raises:
        FileNotFoundError, ValueError: as `find_source`; and for an option that the reader does not have.
    """
    reader, path = find_source(path)
    known = reader.BUILDER_CONFIG_CLASS.option_names()
    for name in options:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean `{near[0]}`?" if near else f"its options are {', '.join(known)}."
            raise ValueError(f"`{name}` is not an option for {Path(path).name} ({reader.SOURCE_FORMAT}); {hint}")
    options = {name: value for name, value in options.items() if value is not None}
    return reader(cache_dir=None if cache_dir is None else str(cache_dir), data_file=str(path), **options)


def prepare(
    path: str | PathLike[str],
    *,
    cache_dir: str | PathLike[str] | None = None,
    num_proc: int | None = None,
    **options: Any,
) -> SourceBuilder | PreparedFolder:
    """A source, converted where that has not been done, or a prepared folder: both have `rows()` and `report()`.

    Arguments and errors as `load_dataset`.
    """
    path = _local(path)
    if is_prepared(path):
        folder = PreparedFolder(path, cache_dir)
        different = {name: value for name, value in options.items() if folder.report().options.get(name) != value}
        if different:
            raise ValueError(
                f"{path} was prepared with the options {folder.report().options}, but {different} came; leave them "
                "out, or prepare the source again with them."
            )
        return folder
    builder = open_source(path, cache_dir=cache_dir, **options)
    builder.download_and_prepare(num_proc=num_proc)
    return builder


def load_dataset(
    path: str | PathLike[str],
    *,
    streaming: bool = False,
    cache_dir: str | PathLike[str] | None = None,
    num_proc: int | None = None,
    **options: Any,
) -> datasets.DatasetDict | datasets.IterableDatasetDict:
    """The rows of a source, a prepared folder, or a dataset on the Hub that was made of one.

    A source is hashed on every call and converted on the first; a prepared folder is neither.

    Args:
        path: a file or folder that `find_source` knows, a folder that `prepare_data.py` made, or the id of such a
            dataset on the Hub.
        streaming: read the rows while they are iterated over, from a prepared folder without copying it.
        cache_dir: where converted sources are kept, memory-mapped; by default the cache of `datasets`.
        num_proc: processes that convert side by side, where the format allows it.
        options: of the reader; see its configuration.

    Returns:
        The splits that there are of "train", "valid" and "test", in numpy format: `<modality>_values` are float32
        arrays of shape (steps, width), of shape (0, width) where the sample lacks the modality, `input_ids` int64
        arrays of shape (tokens,), labels float32 numbers, `emotions` float32 arrays of shape (6,). Columns are those of
        `schema.row_features`.

    Raises:
        FileNotFoundError: there is nothing at `path`.
        UnsafePickleError: a pickle asks for more than arrays and containers.
        ValueError: the source is damaged or breaks a rule of its layout, or an option is unknown.
    """
    corpus = prepare(path, cache_dir=cache_dir, num_proc=num_proc, **options)
    if not streaming:
        return corpus.rows()
    if isinstance(corpus, PreparedFolder):
        return corpus.stream()
    return datasets.IterableDatasetDict({split: rows.to_iterable_dataset() for split, rows in corpus.rows().items()})


def conversion_report(
    path: str | PathLike[str], *, cache_dir: str | PathLike[str] | None = None, **options: Any
) -> ConversionReport:
    """What `load_dataset` did to the source; converts it where that has not been done. Arguments as there."""
    return prepare(path, cache_dir=cache_dir, **options).report()


def _local(path: str | PathLike[str]) -> Path:
    """The path itself where there is something; else the folder of a dataset of that name on the Hub."""
    local = Path(path)
    if local.exists() or not re.fullmatch(r"[\w.-]+/[\w.-]+", str(path)) or local.suffix in _FILE_SUFFIXES:
        return local
    try:
        return Path(snapshot_download(str(path), repo_type="dataset"))
    except (OSError, HfHubHTTPError, HFValidationError) as error:
        raise FileNotFoundError(
            f"there is nothing at {path}, and no dataset of that name could be had from the Hub "
            f"({type(error).__name__}); check the path, or the name and your access to it."
        ) from error
