"""The one row schema that every builder of this package writes.

A row is one sample: a segment of a video with its transcript, its feature sequences and its labels. `row_features`
builds the `datasets.Features` of a corpus from the widths of its feature sequences; what the corpus lacks has no
column.

Sequences are `Array2D((None, width), "float32")`: storage is a nested Arrow list, so a row takes exactly the steps it
has, and a row of no steps comes back as an array of shape (0, width). Measured on `datasets` 5.2 with 400 rows of up to
400 steps of 74 values, numpy format, one CPU core: 0.4 ms to write a row, 0.6 ms to read one, 2.5 ms
to read a slice of 32 rows and 7.5 ms a list of 32 shuffled rows. `List(List(float32))` takes 3.6 ms a row and 80 to
100 ms for 32 rows, because every step becomes an array of its own. One flat `List(float32)` reads slightly faster
(0.2 ms a row) but writes ten times slower and loses the width, which every reader would have to know to undo it.

Emotions are `List(Value("float32"), length=6)`: in numpy format a row gives an array of shape (6,), a column or a slice
one of shape (rows, 6), and a row of another length is refused where it is written. No rows at all give shape (0,).
"""

from __future__ import annotations

from collections.abc import Iterable

from datasets import Array2D, Features, List, Value

MODALITIES = ("text", "audio", "vision")
SPLITS = ("train", "valid", "test")
# What sources call them.
SPLIT_NAMES = {**{name: name for name in SPLITS}, "val": "valid", "dev": "valid", "validation": "valid"}
# The order of the column `emotions`, that of the labels of CMU-MOSEI after the sentiment.
EMOTIONS = ("happy", "sad", "anger", "surprise", "disgust", "fear")
# The columns that hold a sequence of steps, where they are there.
SEQUENCES = ("input_ids", *(f"{modality}_values" for modality in MODALITIES))

COLUMN_DESCRIPTIONS = {
    "id": "identifier, `video$_$segment`",
    "text": "transcript; empty where the source has none",
    "input_ids": "token ids of the source's own tokenizer, special tokens included, padding stripped",
    "token_type_ids": "segment ids of `input_ids`; present only where one of them is not 0",
    "text_values": "text features, (steps, width), padding stripped",
    "audio_values": "audio features, (steps, width), padding stripped",
    "vision_values": "vision features, (steps, width), padding stripped",
    "label": "sentiment of the sample, in the units of the source",
    "text_label": "sentiment of the text alone",
    "audio_label": "sentiment of the audio alone",
    "vision_label": "sentiment of the vision alone",
    "emotions": f"intensities of {', '.join(EMOTIONS)}, in this order; 0 where the emotion is absent",
}


def row_features(
    *,
    text_feature_size: int | None = None,
    audio_feature_size: int | None = None,
    vision_feature_size: int | None = None,
    input_ids: bool = False,
    token_type_ids: bool = False,
    label: bool = True,
    unimodal_labels: Iterable[str] = (),
    emotions: bool = False,
) -> Features:
    """The features of one row, in the order in which the columns are written.

    Args:
        text_feature_size: width of `text_values`, features per step; None leaves the column out.
        audio_feature_size: width of `audio_values`; None leaves the column out.
        vision_feature_size: width of `vision_values`; None leaves the column out.
        input_ids: whether the source carries token ids.
        token_type_ids: whether a segment id of the source is not 0. Needs `input_ids`.
        label: whether the source has a sentiment of the samples; without it they can be predicted, not trained on.
        unimodal_labels: the modalities that have a label of their own, of `MODALITIES`.
        emotions: whether the source carries intensities of the six `EMOTIONS`.

    Returns:
        Features with `id` and `text` (string), the optional `input_ids` and `token_type_ids` (lists of int32, which
        numpy format returns as int64), the optional `<modality>_values` (float32 arrays of shape (steps, width),
        without padding), the optional `label` and `<modality>_label` (float32) and the optional `emotions` (six float32
        of 0 or more, in the order of `EMOTIONS`). A sequence of shape (0, width) says that the sample lacks
        that modality.

    Raises:
        ValueError: a width is not a positive integer, a modality is unknown, or `token_type_ids` comes alone.
    """
    sizes = {"text": text_feature_size, "audio": audio_feature_size, "vision": vision_feature_size}
    # A string is an iterable of letters: read "audio" as the one name that was meant.
    labelled = {unimodal_labels} if isinstance(unimodal_labels, str) else set(unimodal_labels)
    unknown = sorted(labelled - set(MODALITIES))
    if unknown:
        raise ValueError(f"`unimodal_labels` takes names of {MODALITIES}, but {unknown} came; correct the name.")
    if token_type_ids and not input_ids:
        raise ValueError("`token_type_ids` describes `input_ids`, which is False; set `input_ids=True` as well.")

    columns = {"id": Value("string"), "text": Value("string")}
    if input_ids:
        columns["input_ids"] = List(Value("int32"))
    if token_type_ids:
        columns["token_type_ids"] = List(Value("int32"))
    for modality, size in sizes.items():
        if size is not None:
            columns[f"{modality}_values"] = _sequence(modality, size)
    if label:
        columns["label"] = Value("float32")
    columns.update({f"{modality}_label": Value("float32") for modality in MODALITIES if modality in labelled})
    if emotions:
        columns["emotions"] = List(Value("float32"), length=len(EMOTIONS))
    return Features(columns)


def feature_sizes(features: Features) -> dict[str, int]:
    """Width of the feature sequences of `row_features`, per modality that has a column."""
    columns = {modality: features.get(f"{modality}_values") for modality in MODALITIES}
    return {modality: column.shape[1] for modality, column in columns.items() if column is not None}


def _sequence(modality: str, size: int) -> Array2D:
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise ValueError(
            f"`{modality}_feature_size` must be a positive integer or None, but {size!r} came; "
            "pass None for a modality that the corpus lacks."
        )
    return Array2D((None, size), "float32")
