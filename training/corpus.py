"""The data of a run: loading, checking against the configuration, tokens and lengths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, List, Value

from datasets_scripts import MODALITIES, SPLITS, PreparedFolder, SyntheticCorpus, feature_sizes, prepare
from training.mapped_rows import MappedRows
from training.streaming import StreamedRows
from training.targets import Target

_TOKENIZED_ROWS = 10_000  # at a time

Rows: TypeAlias = Dataset | StreamedRows
PreparedRows: TypeAlias = MappedRows | StreamedRows  # by `prepare_split`


@dataclass
class Corpus:
    """
    Attributes:
        splits: Those of train, valid and test that there are, in the common row schema.
        name: The source's name, or "synthetic corpus", for the model card.
        sha256: Of the source; None for the synthetic corpus.
        notes: What was changed or is remarkable, a sentence each.
        known: Its name in `datasets_scripts.corpora.CORPORA`, None where it is none of them.
        extractors: By modality, the settings of the `FeatureExtractor` that made its features from media; of features
            that came as they are, nothing.
    """

    splits: dict[str, Rows]
    name: str
    sha256: str | None
    notes: list[str]
    known: str | None = None
    extractors: dict[str, dict[str, Any]] = field(default_factory=dict)

    def feature_size(self, modality: str) -> int | None:
        """Features per step of a modality's sequences, None where the corpus has none."""
        return feature_sizes(self._any_split.features).get(modality)

    @property
    def _any_split(self) -> Rows:
        """The training split, or another one where there is none: all have the same columns."""
        return self.splits["train"] if "train" in self.splits else next(iter(self.splits.values()))

    def split(self, name: str) -> Rows:
        """The rows of a split. Raises ValueError where the corpus lacks it."""
        if name not in self.splits:
            raise ValueError(
                f"{self.name} has no {name} split, only {', '.join(self.splits)}; prepare it with a split for every "
                "row, or choose another one."
            )
        return self.splits[name]

    def text_choices(self) -> list[str]:
        """Which of "raw_text", "input_ids" and "text_values" the corpus has."""
        rows = self._any_split
        found = ["raw_text"] if any(text.strip() for text in rows["text"]) else []
        return found + [column for column in ("input_ids", "text_values") if column in rows.column_names]

    def fitting_text(self, has_encoder: bool) -> list[str]:
        """Those of them that a checkpoint with, or without, a text encoder reads."""
        return [choice for choice in self.text_choices() if (choice != "text_values") == has_encoder]


def load_corpus(
    data_file: str | None = None,
    synthetic: dict | None = None,
    expected_sha256: str | None = None,
    data_options: dict | None = None,
    streaming: bool = False,
) -> Corpus:
    """
    Args:
        data_file: A source, a prepared folder or a dataset on the Hub; see `datasets_scripts.load_dataset`.
        synthetic: Arguments of `SyntheticCorpus`, where there is none of these.
        expected_sha256: What the source must be.
        data_options: Options of its reader.
        streaming: Whether feature sequences are read while they are iterated over; of a prepared folder.

    Raises:
        FileNotFoundError, ValueError: see `load_dataset`; a source with another SHA-256 than expected.
    """
    if data_file is None:
        try:
            corpus = SyntheticCorpus(**(synthetic or {}))
        except TypeError:
            known = ", ".join(SyntheticCorpus.__dataclass_fields__)
            raise ValueError(f"`synthetic` takes {known}; got {synthetic}.") from None
        return Corpus(corpus.build(), "synthetic corpus", None, [f"Made with {corpus}."])
    source = prepare(data_file, **(data_options or {}))
    if streaming and not isinstance(source, PreparedFolder):
        raise ValueError(
            f"`streaming` reads a folder of Parquet, but {data_file} is another source; convert it first: "
            f"python prepare_data.py {data_file} --output FOLDER."
        )
    report = source.report()
    if expected_sha256 not in (None, report.sha256):
        raise ValueError(
            f"{data_file} has the SHA-256 {report.sha256}, but the recipe's `data_sha256` is {expected_sha256}: the "
            "data is not what the recipe was run on. Get that file, or pass --data_sha256 null to train on this one."
        )
    notes = [line for line in report.summary().splitlines() if line.strip()]
    splits = streamed_splits(source) if isinstance(source, PreparedFolder) and streaming else dict(source.rows())
    extractors = {modality: made["settings"] for modality, made in report.extractors.items()}
    return Corpus(splits, report.source, report.sha256, notes, report.corpus, extractors)


def streamed_splits(folder: PreparedFolder) -> dict[str, Rows]:
    """The splits of a prepared folder, their feature sequences streamed."""
    columns = folder.report().columns
    streamed = [name for name in columns if name.endswith("_values")]
    tables = folder.rows([name for name in columns if name not in streamed])
    streams = folder.stream(["id", *streamed])
    return {split: StreamedRows(table, streams[split]) for split, table in tables.items()}


def keep_labelled(corpus: Corpus, target: Target, names: Sequence[str] = SPLITS) -> None:
    """
    Leaves out, and notes, the samples that have no label of the target, in the splits of these names, which must be
    there.

    Raises:
        ValueError: for a corpus without the target's column, and for a split in which no sample has a label.
    """
    for split in names:
        rows = corpus.split(split)
        if target.column not in rows.column_names:
            raise ValueError(
                f"`model.target: {target.name}` needs the column `{target.column}`, which {corpus.name} lacks; choose "
                "another target, or data with it."
            )
        labelled = target.labelled(rows[target.column][:])
        if not labelled.any():
            raise ValueError(f"No sample of the {split} split has a label for `model.target: {target.name}`.")
        if not labelled.all():
            kept = rows.select(np.flatnonzero(labelled))
            if isinstance(kept, Dataset):
                # Flattened here, as arrow tables: in numpy format the library cannot, where sequences differ in steps.
                kept = kept.with_format("arrow").flatten_indices().with_format("numpy")
            corpus.splits[split] = kept
            corpus.notes.append(
                f"{int((~labelled).sum())} of {len(rows)} samples of the {split} split have no emotion, and so no "
                f"strongest one: they are left out."
            )


def check_labels(splits: Mapping[str, Rows], label_range: tuple[float, float], columns: tuple[str, ...]) -> None:
    """
    Raises:
        ValueError: for labels outside the configuration's range, naming the first ids, and for a missing column.
    """
    low, high = label_range
    for split, rows in splits.items():
        for column in columns:
            if column not in rows.column_names:
                raise ValueError(
                    f"`label_generation: human` needs the column `{column}`, which the {split} split lacks; choose a "
                    "label generator, or drop the task from `model.tasks`."
                )
            labels = np.asarray(rows[column][:], np.float64)
            outside = np.flatnonzero(~((labels >= low - 1e-6) & (labels <= high + 1e-6)))
            if len(outside):
                first = ", ".join(f"{rows['id'][int(i)]} ({labels[i]:g})" for i in outside[:3])
                raise ValueError(
                    f"{len(outside)} of {len(rows)} values of `{column}` in the {split} split lie outside the "
                    f"configuration's `label_range` [{low:g}, {high:g}]: {first}. Set model.label_range to the corpus' "
                    "range."
                )


def prepare_split(rows: Rows, processor, text: str | None) -> PreparedRows:
    """
    Adds what the collator and the sampler need: `input_ids`, where the model reads tokens, and `length`, which stands
    for a sample's cost: its tokens if a text encoder reads them, which costs most, and otherwise its steps. Of streamed
    rows the steps are not known before they are read.

    Args:
        rows: A split in the common schema.
        processor: The checkpoint's `MultimodalProcessor`.
        text: "raw_text", "input_ids", "text_values" or None.
    """
    if isinstance(rows, StreamedRows):
        return rows.with_table(_prepare_table(rows.table, processor, text))
    return MappedRows(_prepare_table(rows, processor, text))


def _prepare_table(rows: Dataset, processor, text: str | None) -> Dataset:
    if processor.text_input != "tokens":
        lengths = np.sum([sequence_lengths(rows, modality) for modality in MODALITIES], axis=0)
        return rows.add_column("length", pa.array(lengths))
    if text == "input_ids":
        tokens = rows.with_format("arrow")["input_ids"][:]
        largest = max((pc.max(pc.list_flatten(chunk)).as_py() or 0 for chunk in tokens.chunks), default=0)
        if largest >= len(processor.tokenizer):
            raise ValueError(
                f"`input_ids` of the data go up to {largest}, but the text encoder's vocabulary has "
                f"{len(processor.tokenizer)} entries; use the encoder that they were made for, or text: raw_text."
            )
    else:
        tokens = pa.chunked_array(
            [
                pa.array(
                    [[]] * len(part)  # data without text, for a checkpoint that reads it
                    if text is None
                    else processor.tokenize([str(sample) for sample in part["text"].to_pylist()]),
                    pa.list_(pa.int32()),
                )
                for part in rows.select_columns("text").with_format("arrow").iter(_TOKENIZED_ROWS)
            ],
            pa.list_(pa.int32()),
        )
        rows = rows.remove_columns([c for c in ("input_ids", "token_type_ids") if c in rows.column_names])
        rows = rows.add_column("input_ids", tokens, feature=List(Value("int32")))
    return rows.add_column("length", pc.list_value_length(tokens).cast(pa.int64()))


def sequence_lengths(rows: Dataset | MappedRows, modality: str) -> np.ndarray:
    """Steps (N,) of each sample's sequence; zeros where the corpus lacks the modality."""
    rows = rows.table if isinstance(rows, MappedRows) else rows
    column = f"{modality}_values"
    if column not in rows.column_names:
        return np.zeros(len(rows), np.int64)
    lengths = []
    for batch in rows.select_columns(column).with_format("arrow").iter(batch_size=1000):
        lengths += [pc.list_value_length(chunk.storage).to_numpy() for chunk in batch[column].chunks]
    return np.concatenate(lengths).astype(np.int64)


def choose_text(corpus: Corpus, wanted: str | None, has_encoder: bool) -> str | None:
    """
    Which text a run reads.

    Args:
        wanted: A recipe's `text`, or None for the first that fits.
        has_encoder: Whether there is a text encoder, pretrained or from scratch.
    """
    available = corpus.text_choices()
    fitting = corpus.fitting_text(has_encoder)
    if wanted is None:
        if has_encoder and not fitting:
            raise ValueError(
                f"A text encoder reads text, but {corpus.name} has neither raw text nor token ids; leave "
                "`text_encoder` and `model.text_config` out."
            )
        return fitting[0] if fitting else None
    if wanted not in available:
        raise ValueError(f"`text` is {wanted!r}, but {corpus.name} has {', '.join(available) or 'no text'}.")
    if wanted not in fitting:
        raise ValueError(
            f"`text: {wanted}` goes "
            + ("without a text encoder; leave `text_encoder` and `model.text_config` out." if has_encoder else
               "with a text encoder; give one as --text_encoder ID_OR_FOLDER.")
        )  # fmt: skip
    return wanted
