"""The data of a run: loading, checking against the configuration, tokens and lengths."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, DatasetDict, List, Value

from datasets_scripts import MODALITIES, SPLITS, SyntheticCorpus, prepare
from training.targets import Target


@dataclass
class Corpus:
    """
    Attributes:
        splits: train, valid and test, in the common row schema.
        name: The file's name, or "synthetic corpus", for the model card.
        sha256: Of the file; None for the synthetic corpus.
        notes: What was changed or is remarkable, a sentence each.
    """

    splits: DatasetDict
    name: str
    sha256: str | None
    notes: list[str]

    def feature_size(self, modality: str) -> int | None:
        """Features per step of a modality's sequences, None where the corpus has none."""
        feature = self.splits["train"].features.get(f"{modality}_values")
        return None if feature is None else feature.shape[1]

    def text_choices(self) -> list[str]:
        """Which of "raw_text", "input_ids" and "text_values" the corpus has."""
        train = self.splits["train"]
        found = ["raw_text"] if any(text.strip() for text in train["text"]) else []
        return found + [column for column in ("input_ids", "text_values") if column in train.column_names]

    def fitting_text(self, has_encoder: bool) -> list[str]:
        """Those of them that a checkpoint with, or without, a text encoder reads."""
        return [choice for choice in self.text_choices() if (choice != "text_values") == has_encoder]


def load_corpus(
    data_file: str | None = None, synthetic: dict | None = None, expected_sha256: str | None = None
) -> Corpus:
    """
    Args:
        data_file: A file in MMSA's pickle layout.
        synthetic: Arguments of `SyntheticCorpus`, where there is no file.
        expected_sha256: What the file must be.

    Raises:
        FileNotFoundError, ValueError: see `load_dataset`; a file with another SHA-256 than expected.
    """
    if data_file is None:
        try:
            corpus = SyntheticCorpus(**(synthetic or {}))
        except TypeError:
            known = ", ".join(SyntheticCorpus.__dataclass_fields__)
            raise ValueError(f"`synthetic` takes {known}; got {synthetic}.") from None
        return Corpus(corpus.build(), "synthetic corpus", None, [f"Made with {corpus}."])
    builder = prepare(data_file)
    report = builder.report()
    if expected_sha256 not in (None, report.sha256):
        raise ValueError(
            f"{data_file} has the SHA-256 {report.sha256}, but the recipe's `data_sha256` is {expected_sha256}: the "
            "data is not what the recipe was run on. Get that file, or pass --data_sha256 null to train on this one."
        )
    notes = [line for line in report.summary().splitlines() if line.strip()]
    return Corpus(builder.rows(), report.source, report.sha256, notes)


def keep_labelled(corpus: Corpus, target: Target) -> None:
    """
    Leaves out, and notes, the samples that have no label of the target.

    Raises:
        ValueError: for a corpus without the target's column, and for a split in which no sample has a label.
    """
    for split in SPLITS:
        rows = corpus.splits[split]
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
            # Flattened here, as arrow tables: in numpy format the library cannot, where sequences differ in steps.
            corpus.splits[split] = kept.with_format("arrow").flatten_indices().with_format("numpy")
            corpus.notes.append(
                f"{int((~labelled).sum())} of {len(rows)} samples of the {split} split have no emotion, and so no "
                f"strongest one: they are left out."
            )


def check_labels(splits: DatasetDict, label_range: tuple[float, float], columns: tuple[str, ...]) -> None:
    """
    Raises:
        ValueError: for labels outside the configuration's range, naming the first ids, and for a missing column.
    """
    low, high = label_range
    for split in SPLITS:
        rows = splits[split]
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


def prepare_split(rows: Dataset, processor, text: str | None) -> Dataset:
    """
    Adds what the collator and the sampler need: `input_ids`, where the model reads tokens, and `length`, which stands
    for a sample's cost: its tokens if a text encoder reads them, which costs most, and otherwise its steps.

    Args:
        rows: A split in the common schema.
        processor: The checkpoint's `MultimodalProcessor`.
        text: "raw_text", "input_ids", "text_values" or None.
    """
    if processor.text_input == "tokens":
        if text is None:  # data without text, for a checkpoint that reads it
            tokens: list[list[int]] = [[] for _ in range(len(rows))]
        elif text == "raw_text":
            tokens = processor.tokenize([str(text) for text in rows["text"][:]])
        else:
            tokens = [list(ids) for ids in rows["input_ids"][:]]
            largest = max((max(ids, default=0) for ids in tokens), default=0)
            if largest >= len(processor.tokenizer):
                raise ValueError(
                    f"`input_ids` of the data go up to {largest}, but the text encoder's vocabulary has "
                    f"{len(processor.tokenizer)} entries; use the encoder that they were made for, or text: raw_text."
                )
        if text != "input_ids":
            rows = rows.remove_columns([c for c in ("input_ids", "token_type_ids") if c in rows.column_names])
            rows = rows.add_column("input_ids", pa.array(tokens, pa.list_(pa.int32())), feature=List(Value("int32")))
        lengths = np.array([len(ids) for ids in tokens], np.int64)
    else:
        lengths = np.sum([sequence_lengths(rows, modality) for modality in MODALITIES], axis=0)
    return rows.add_column("length", pa.array(lengths))


def sequence_lengths(rows: Dataset, modality: str) -> np.ndarray:
    """Steps (N,) of each sample's sequence; zeros where the corpus lacks the modality."""
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
