"""MMSA-style feature pickles (MMSA, Self-MM, SUGRM, CH-SIMS, MulT) to Arrow, in the schema of this package.

    >>> from datasets_scripts import conversion_report, load_mmsa_pickle
    >>> rows = load_mmsa_pickle("unaligned_50.pkl")  # doctest: +SKIP
    >>> rows["train"][0]["audio_values"]  # a float32 array of shape (steps, width)  # doctest: +SKIP
    >>> print(conversion_report("unaligned_50.pkl").summary())  # doctest: +SKIP

Rules of the conversion
-----------------------
Splits are `train`, `valid` (or `val`, `dev`) and `test`; labels are `regression_labels` (or MulT's `labels`), and
`regression_labels_T`, `_A`, `_V` of CH-SIMS become `text_label`, `audio_label`, `vision_label`. `classification_labels`
and `annotations` are not carried over: both are the sign of the regression label, and a second copy could only disagree
with it. These and all unknown keys are listed in the report.

The six `emotions` are a key `emotions`, `emotion_labels` or `emotion` with six numbers per sample, or they follow the
sentiment in labels of seven numbers per sample, as in CMU-MOSEI. Intensities are finite and 0 or more, in the order of
`schema.EMOTIONS`; a file that has them twice has them equal. A key of these names with one entry per sample is a class,
which is not carried over either.

Padding is stripped, never guessed where the file declares it:

- `input_ids` by the mask in row 1 of `text_bert`;
- features by `<modality>_lengths`. A length of 0 says that the sample lacks the modality. Lengths that contradict the
  frames, as those of front-padded data do in some published files, are repaired and counted; see
  `padding.spans_from_lengths`;
- without lengths, features of as many steps as the text are aligned with it and take its `text_lengths` or, failing
  those, the mask of `text_bert`;
- where the file declares nothing, zero frames on the padded side are padding: leading ones if more rows begin than end
  with a zero frame, trailing ones otherwise. Features of as many steps as the text share one span, so that they stay
  aligned; a frame is padding where it is zero in all of them. A sequence of zeros only is then empty.

A sequence that is zero within its declared length stays as it is, counted: a silent second is not a missing modality.
A modality without a step in any sample has no column. NaN and infinities become 0 and are counted, in the kept steps.
"""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import datasets
import numpy as np

from datasets_scripts.mmsa_layout import MMSALayout, MMSASplit, read_layout
from datasets_scripts.padding import PADDINGS
from datasets_scripts.report import ConversionReport
from datasets_scripts.safe_pickle import load_pickle
from datasets_scripts.schema import EMOTIONS, row_features

REPORT_FILE = "conversion_report.json"


@dataclass
class MMSAPickleConfig(datasets.BuilderConfig):
    """Which file to convert, and how.

    Attributes:
        data_file: path of the pickle.
        sha256: SHA-256 of the file, in hexadecimal. Computed where it is None, compared where it is given. It names the
            cache folder, so that a changed file is converted again and a moved or copied one is not.
        padding: "auto" as the module describes; "right" or "left" where the padding is known: declared lengths then
            count from the other end and are followed without a second look.

    Raises:
        FileNotFoundError: there is no `data_file`.
        ValueError: `data_file` is missing, `padding` is unknown, or `sha256` is not that of the file.
    """

    data_file: str | None = None
    sha256: str | None = None
    padding: str = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.data_file is None:
            raise ValueError("`data_file` must name the pickle to convert, but it is None; pass its path.")
        if self.padding not in PADDINGS:
            raise ValueError(f"`padding` must be one of {PADDINGS}, but it is {self.padding!r}; correct it.")
        found = _sha256(Path(self.data_file))
        if self.sha256 is not None and self.sha256.lower() != found:
            raise ValueError(
                f"`sha256` must be that of {self.data_file}, but {self.sha256} came and the file has {found}; "
                "download the file again, or pass the SHA-256 of the file that you mean to use."
            )
        self.sha256 = found

    def create_config_id(self, config_kwargs: dict, custom_features: datasets.Features | None = None) -> str:
        """Name of the cache folder: by content, not by path."""
        return f"{self.name}-{str(self.sha256)[:32]}-{self.padding}"


class MMSAPickle(datasets.GeneratorBasedBuilder):
    """Converts one pickle into the splits train, valid and test, as the module describes.

        >>> builder = MMSAPickle(data_file="unaligned_50.pkl", cache_dir="cache")  # doctest: +SKIP
        >>> builder.download_and_prepare()  # doctest: +SKIP

    The file is read once and checked as a whole before the first row is written, so a faulty file ends in a ValueError
    that names the key, the split and the sample. Rows go into a folder `*.incomplete`, which is renamed when it is
    whole, the report inside it. Reading a pickle takes as much memory as the file; a split's arrays are let go once it
    is written.
    """

    BUILDER_CONFIG_CLASS = MMSAPickleConfig
    VERSION = datasets.Version("1.1.0")  # part of the cache folder: raise it when an unchanged file gives other rows
    # Rows held in memory before they are written: 256 rows of 500 steps of 74 float32 are 38 MB.
    DEFAULT_WRITER_BATCH_SIZE = 256

    def report(self) -> ConversionReport:
        """What the conversion did.

        Raises:
            FileNotFoundError: `download_and_prepare` has not been run.
        """
        path = Path(self._output_dir) / REPORT_FILE
        if not path.is_file():
            raise FileNotFoundError(
                f"there is no {path}; run `download_and_prepare()`, or delete that folder first if it exists."
            )
        report = ConversionReport.from_json(path.read_text(encoding="utf-8"))
        return replace(report, source=Path(self.config.data_file).name)

    def rows(self) -> datasets.DatasetDict:
        """The splits in numpy format, see `load_mmsa_pickle`."""
        return self.as_dataset().with_format("numpy")

    def _info(self) -> datasets.DatasetInfo:
        # The columns depend on the file; `_split_generators` sets the features.
        return datasets.DatasetInfo(description="Multimodal sentiment features, converted from an MMSA-style pickle.")

    def _download_and_prepare(self, dl_manager: Any, verification_mode: Any, **kwargs: Any) -> None:
        self._waiting: dict[str, MMSASplit] = {}
        try:
            super()._download_and_prepare(dl_manager, verification_mode, **kwargs)
            # `_output_dir` is the `*.incomplete` folder here: rows and report appear together or not at all.
            with self._fs.open(posixpath.join(self._output_dir, REPORT_FILE), "w", encoding="utf-8") as file:
                file.write(self._report.to_json())
        finally:
            self._waiting = {}

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        path = Path(self.config.data_file)
        content = load_pickle(path)
        try:
            layout = read_layout(content, self.config.padding)
        except ValueError as error:
            raise ValueError(f"{path.name}: {error}") from error
        columns = _features(layout)
        self.info.features = columns
        self._report = _report(path, self.config.sha256, layout, list(columns))
        self._waiting = {split.name: split for split in layout.splits}
        return [datasets.SplitGenerator(name=split.name, gen_kwargs={"split": split.name}) for split in layout.splits]

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        source = self._waiting.pop(split)
        yield from enumerate(_rows(source, self.info.features))


def load_mmsa_pickle(
    path: str | PathLike[str], *, cache_dir: str | PathLike[str] | None = None, padding: str = "auto"
) -> datasets.DatasetDict:
    """The rows of an MMSA-style pickle, converted on first use and memory-mapped.

    Args:
        path: the pickle. It is hashed on every call (2.5 s a GB where that was measured) and unpickled on the first.
        cache_dir: where converted files are kept; by default the cache of `datasets`.
        padding: see `MMSAPickleConfig`.

    Returns:
        Splits "train", "valid" and "test" in numpy format: `<modality>_values` are float32 arrays of shape
        (steps, width), of shape (0, width) where the sample lacks the modality, `input_ids` int64 arrays of shape
        (tokens,), labels float32 numbers, `emotions` float32 arrays of shape (6,). Columns are those of
        `schema.row_features`.

    Raises:
        FileNotFoundError: there is no such file.
        UnsafePickleError: the pickle asks for more than arrays and containers.
        ValueError: the file is damaged or breaks a rule of the layout.
    """
    return prepare_mmsa_pickle(path, cache_dir=cache_dir, padding=padding).rows()


def conversion_report(
    path: str | PathLike[str], *, cache_dir: str | PathLike[str] | None = None, padding: str = "auto"
) -> ConversionReport:
    """What `load_mmsa_pickle` did to the file; converts it where that has not been done. Arguments and errors as there.

    `source` is the name that the file has now, not that of an equal file that was converted before.
    """
    return prepare_mmsa_pickle(path, cache_dir=cache_dir, padding=padding).report()


def prepare_mmsa_pickle(
    path: str | PathLike[str], *, cache_dir: str | PathLike[str] | None = None, padding: str = "auto"
) -> MMSAPickle:
    """The builder of a file, its conversion done, for whoever needs both `rows()` and `report()`: it hashes once."""
    builder = MMSAPickle(
        cache_dir=None if cache_dir is None else str(cache_dir), data_file=str(Path(path)), padding=padding
    )
    builder.download_and_prepare()
    return builder


def _sha256(path: Path) -> str:
    if not path.is_file():
        what = "it is a folder" if path.is_dir() else "there is no such file"
        raise FileNotFoundError(f"`data_file` must name a pickle file, but {what}: {path}; check the path.")
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _features(layout: MMSALayout) -> datasets.Features:
    tokens = [split.tokens for split in layout.splits if split.tokens is not None]
    return row_features(
        **{f"{modality}_feature_size": size for modality, size in layout.feature_sizes.items()},
        input_ids=bool(tokens),
        token_type_ids=any(token.types.any() for token in tokens),
        unimodal_labels=tuple(layout.splits[0].unimodal_labels),
        emotions=layout.splits[0].emotions is not None,
    )


def _report(path: Path, sha256: str, layout: MMSALayout, columns: list[str]) -> ConversionReport:
    """The report; its counts are those of the splits, which grow while rows are written."""
    splits = layout.splits
    return ConversionReport(
        source=path.name,
        source_format="MMSA pickle",
        sha256=sha256,
        bytes=path.stat().st_size,
        rows={split.name: len(split.ids) for split in splits},
        columns=columns,
        feature_sizes=layout.feature_sizes,
        padding={
            column: "; ".join(dict.fromkeys(split.spans[column].origin for split in splits))
            for column in splits[0].spans
        },
        counts={split.name: split.counts for split in splits},
        empty_text={split.name: sum(not text.strip() for text in split.texts) for split in splits},
        without_modality={split.name: _count_without_modality(split) for split in splits},
        emotions={split.name: _count_emotions(split.emotions) for split in splits if split.emotions is not None},
        ignored_keys=layout.ignored_keys,
        warnings=layout.warnings,
    )


def _count_without_modality(split: MMSASplit) -> int:
    present = np.array([bool(text.strip()) for text in split.texts])
    for spans in split.spans.values():
        present |= spans.lengths > 0
    return int(np.count_nonzero(~present))


def _count_emotions(emotions: np.ndarray) -> dict[str, int]:
    """Samples with at least one emotion, under "any", and with each."""
    present = emotions > 0
    counts = dict(zip(EMOTIONS, present.sum(axis=0).tolist(), strict=True))
    return {"any": int(np.count_nonzero(present.any(axis=1))), **counts}


def _rows(split: MMSASplit, columns: datasets.Features) -> Iterator[dict[str, Any]]:
    for index, (name, text) in enumerate(zip(split.ids, split.texts, strict=True)):
        row: dict[str, Any] = {"id": name, "text": text, "label": split.labels[index]}
        for modality, labels in split.unimodal_labels.items():
            row[f"{modality}_label"] = labels[index]
        if split.emotions is not None:
            row["emotions"] = split.emotions[index]
        if split.tokens is not None:
            kept = slice(split.spans["input_ids"].starts[index], split.spans["input_ids"].stops[index])
            row["input_ids"] = split.tokens.ids[index, kept]
            if "token_type_ids" in columns:
                row["token_type_ids"] = split.tokens.types[index, kept]
        for modality, array in split.features.items():
            column = f"{modality}_values"
            spans = split.spans[column]
            row[column] = _finite(array[index, spans.starts[index] : spans.stops[index]], split, column)
        yield row


def _finite(values: np.ndarray, split: MMSASplit, column: str) -> np.ndarray:
    """Values as float32, with NaN and infinities, also those of numbers too large for float32, counted and set to 0."""
    with np.errstate(over="ignore"):
        values = values.astype(np.float32)
    finite = np.isfinite(values)
    if not finite.all():
        split.count(column, "nan", np.count_nonzero(np.isnan(values)))
        split.count(column, "positive_infinity", np.count_nonzero(np.isposinf(values)))
        split.count(column, "negative_infinity", np.count_nonzero(np.isneginf(values)))
        values[~finite] = 0
    return values
