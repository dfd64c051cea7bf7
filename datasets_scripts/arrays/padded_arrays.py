"""Padded arrays, as MMSA, Self-MM, SUGRM, CH-SIMS and MulT keep them, to rows of the schema without padding.

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

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import datasets

from datasets_scripts.arrays.mmsa_layout import MMSALayout, MMSASplit, read_layout
from datasets_scripts.arrays.padding import PADDINGS
from datasets_scripts.builder import Source, SourceBuilder, SourceConfig
from datasets_scripts.schema import row_features
from datasets_scripts.tally import Tally


@dataclass
class ArraysConfig(SourceConfig):
    """Which padded arrays to convert, and how.

    Attributes:
        padding: "auto" as the module describes; "right" or "left" where the padding is known: declared lengths then
            count from the other end and are followed without a second look.

    Raises:
        ValueError: `padding` is unknown; and as in `SourceConfig`.
    """

    padding: str = "auto"

    def __post_init__(self) -> None:
        if self.padding not in PADDINGS:
            raise ValueError(f"`padding` must be one of {PADDINGS}, but it is {self.padding!r}; correct it.")
        super().__post_init__()


class ArraysBuilder(SourceBuilder):
    """Base of the readers whose source is read into memory as one dict of padded arrays per split.

    The source is read once and checked as a whole before the first row is written, so a faulty one ends in a ValueError
    that names the key, the split and the sample. A split's arrays are let go once it is written.
    """

    BUILDER_CONFIG_CLASS = ArraysConfig

    @abstractmethod
    def read_arrays(self) -> Any:
        """The splits as `mmsa_layout.read_layout` takes them."""

    def inspect(self) -> Source:
        layout = read_layout(self.read_arrays(), self.config.padding)
        self._waiting: dict[str, MMSASplit] = {split.name: split for split in layout.splits}
        return Source(
            features=_features(layout),
            shards={split.name: [None] for split in layout.splits},
            rows={split.name: len(split.ids) for split in layout.splits},
            row_bytes=_row_bytes(layout),
            padding={
                column: "; ".join(dict.fromkeys(split.spans[column].origin for split in layout.splits))
                for column in layout.splits[0].spans
            },
            counts={split.name: split.counts for split in layout.splits},
            ignored_keys=layout.ignored_keys,
            warnings=layout.warnings,
        )

    def read_rows(self, split: str, shards: list[Any], tally: Tally) -> Iterator[dict[str, Any]]:
        yield from _rows(self._waiting.pop(split), self.info.features)

    def _download_and_prepare(self, dl_manager: Any, verification_mode: Any, **kwargs: Any) -> None:
        try:
            super()._download_and_prepare(dl_manager, verification_mode, **kwargs)
        finally:
            self._waiting = {}


def _features(layout: MMSALayout) -> datasets.Features:
    tokens = [split.tokens for split in layout.splits if split.tokens is not None]
    return row_features(
        text_feature_size=layout.feature_sizes.get("text"),
        audio_feature_size=layout.feature_sizes.get("audio"),
        vision_feature_size=layout.feature_sizes.get("vision"),
        input_ids=bool(tokens),
        token_type_ids=any(token.types.any() for token in tokens),
        unimodal_labels=tuple(layout.splits[0].unimodal_labels),
        emotions=layout.splits[0].emotions is not None,
    )


def _row_bytes(layout: MMSALayout) -> int:
    """Of the longest possible row, and some for its text."""
    values = [sum(array[0].size for array in split.features.values()) for split in layout.splits]
    return 4 * max(values) + 1000


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
            row[column] = array[index, spans.starts[index] : spans.stops[index]]
        yield row
