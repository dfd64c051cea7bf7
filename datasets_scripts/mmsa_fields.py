"""Read the single keys of an MMSA-style split: ids, transcripts, labels, lengths, tokens, feature arrays.

Every function takes what the pickle held under a key, checks it and returns it in one shape. Every error is a
ValueError that names the key, the split, the rule, the sample where there is one, and what to do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from datasets_scripts.padding import Spans, spans_from_mask
from datasets_scripts.schema import EMOTIONS

_ID_NUMBERS = (int, float, np.integer, np.floating)
_EMOTION_NAMES = ", ".join(EMOTIONS)


@dataclass(frozen=True)
class Tokens:
    """The three rows of `text_bert`, (rows, tokens) each.

    Attributes:
        ids: int32 token ids.
        types: int32 segment ids, 0 in the padding.
        spans: where the mask is 1.
    """

    ids: np.ndarray
    types: np.ndarray
    spans: Spans


def read_ids(value: Any, split: str) -> list[str]:
    """Ids as `video$_$segment`, from strings, bytes or rows of (video, segment) or (video, start, end)."""
    ids = [_read_id(item, split, row) for row, item in enumerate(_items(value, "id", split))]
    if not ids:
        raise ValueError(f"`id` of split '{split}' must name at least one sample, but it is empty; drop this file.")
    return ids


def _read_id(item: Any, split: str, row: int) -> str:
    words = list(item) if isinstance(item, (list, tuple, np.ndarray)) else [item]
    words = [_decode(word) if isinstance(word, (str, bytes)) else word for word in words]
    # Start and end may be numbers; a video has a name.
    if (
        words
        and isinstance(words[0], str)
        and words[0]
        and all(isinstance(word, (str, *_ID_NUMBERS)) for word in words)
    ):
        segment = "_".join(str(word) for word in words[1:])
        return f"{words[0]}$_${segment}" if segment else words[0]
    raise ValueError(
        f"`id` of split '{split}' must hold names or rows of (video, start, end), but row {row} has {item!r}; "
        "write it as 'video$_$segment'."
    )


def read_texts(value: Any, split: str, ids: list[str]) -> list[str]:
    """Transcripts, (rows,) strings."""
    items = _items(value, "raw_text", split)
    _check_count(len(items), "raw_text", split, ids)
    for item, name in zip(items, ids, strict=True):
        if not isinstance(item, (str, bytes)):
            raise ValueError(
                f"`raw_text` of split '{split}' must hold strings, but id '{name}' has {item!r}; "
                "write an empty string where there is no transcript."
            )
    return [_decode(item) for item in items]


def _items(value: Any, key: str, split: str) -> list:
    """The rows of a list or array."""
    if isinstance(value, np.ndarray) and value.ndim:
        return value.tolist()
    if isinstance(value, (list, tuple)):
        return list(value)
    raise ValueError(
        f"`{key}` of split '{split}' must be a list or an array with one entry per sample, but it is a "
        f"{type(value).__name__}; write it as a list."
    )


def _decode(value: str | bytes) -> str:
    # Bytes that are not UTF-8 are shown, not lost: one odd character should not end a conversion.
    return value.decode("utf-8", errors="backslashreplace") if isinstance(value, bytes) else str(value)


def read_labels(value: Any, key: str, split: str, ids: list[str]) -> np.ndarray:
    """Labels, (rows,) float32, from one finite number per sample in any shape that begins with the rows."""
    labels = _rows_of_numbers(value, key, split, ids, "(rows,)")
    if labels.size != len(ids):
        raise ValueError(
            f"`{key}` of split '{split}' must hold one number per sample, but its shape is {labels.shape}; "
            "several targets per sample are not the sentiment of one modality: select one of them."
        )
    return _finite_labels(labels.reshape(-1), key, split, ids)


def read_sentiment(value: Any, key: str, split: str, ids: list[str]) -> tuple[np.ndarray, np.ndarray | None]:
    """The labels of the whole sample, and the emotions where they come with them.

    Args:
        value: one finite number per sample, or seven, the sentiment and the six emotions, which is how CMU-MOSEI orders
            its labels; in any shape that begins with the rows.

    Returns:
        Sentiment, (rows,) float32, and intensities in the order of `EMOTIONS`, (rows, 6) float32, or None where each
        sample has one number.
    """
    labels = _rows_of_numbers(value, key, split, ids, "(rows,) or (rows, 7)")
    if labels.size not in (len(ids), len(ids) * (1 + len(EMOTIONS))):
        raise ValueError(
            f"`{key}` of split '{split}' must hold one number per sample, or seven, which are the sentiment and the "
            f"intensities of {_EMOTION_NAMES}, but its shape is {labels.shape}; other targets per sample are not "
            "sentiment: select one of them."
        )
    table = labels.reshape(len(ids), -1)
    sentiment = _finite_labels(table[:, 0], key, split, ids)
    return sentiment, _intensities(table[:, 1:], key, split, ids) if table.shape[1] > 1 else None


def read_emotions(value: Any, key: str, split: str, ids: list[str]) -> np.ndarray:
    """Intensities in the order of `EMOTIONS`, (rows, 6) float32, from six numbers of 0 or more per sample in any shape
    that begins with the rows."""
    emotions = _rows_of_numbers(value, key, split, ids, "(rows, 6)")
    if emotions.size != len(ids) * len(EMOTIONS):
        raise ValueError(
            f"`{key}` of split '{split}' must hold six numbers per sample, the intensities of {_EMOTION_NAMES}, but "
            f"its shape is {emotions.shape}; select these six, or rename the key if it holds something else."
        )
    return _intensities(emotions.reshape(len(ids), -1), key, split, ids)


def is_one_per_sample(value: Any) -> bool:
    """Whether a value is a list or an array with one number or string per sample, such as the name of a class."""
    try:
        array = np.asarray(value)
        if array.dtype == object:  # strings may come in an array of objects
            array = np.asarray(array.tolist())
    except ValueError:  # rows of different sizes
        return False
    return bool(array.ndim) and array.size == len(array) and array.dtype.kind in "biufSU"


def check_same_emotions(
    emotions: np.ndarray, key: str, others: np.ndarray, other_key: str, split: str, ids: list[str]
) -> None:
    """Raise unless both tables of intensities, (rows, 6) each, are equal."""
    rule = f"must hold the same emotions as `{other_key}`"
    _check_rows(emotions == others, emotions, key, split, ids, rule, "keep the right one of the two in the file")


def _finite_labels(labels: np.ndarray, key: str, split: str, ids: list[str]) -> np.ndarray:
    with np.errstate(over="ignore"):  # a number too large for float32 becomes infinite and is refused
        labels = labels.astype(np.float32)
    _check_rows(np.isfinite(labels), labels, key, split, ids, "must be finite", "correct the label or drop the sample")
    return labels


def _intensities(table: np.ndarray, key: str, split: str, ids: list[str]) -> np.ndarray:
    with np.errstate(over="ignore"):
        table = table.astype(np.float32)
    rule = f"must hold finite intensities of 0 or more for {_EMOTION_NAMES}"
    fix = "write 0 for an absent emotion, or drop the sample"
    _check_rows(np.isfinite(table) & (table >= 0), table, key, split, ids, rule, fix)
    return table


def read_lengths(value: Any, key: str, split: str, ids: list[str], steps: int) -> np.ndarray:
    """Lengths, (rows,) int64 from 0 to `steps`."""
    lengths = _numbers(value, key, split, "(rows,)")
    _check_count(lengths.size, key, split, ids)
    lengths = lengths.reshape(-1)
    good = _is_whole(lengths) & (lengths <= steps)
    rule = f"must hold whole numbers from 0 to {steps}, the steps of the array"
    _check_rows(good, lengths, key, split, ids, rule, "compute the lengths again or download the file again")
    return lengths.astype(np.int64)


def read_sequences(value: Any, key: str, split: str, ids: list[str]) -> np.ndarray:
    """A padded feature array, (rows, steps, features), in the dtype of the source."""
    array = _numbers(value, key, split, "(rows, steps, features)")
    if array.ndim != 3:
        raise ValueError(
            f"`{key}` of split '{split}' must have the shape (rows, steps, features), but it has {array.shape}; "
            "reshape one vector per sample to (rows, 1, features)."
        )
    _check_count(len(array), key, split, ids)
    return array


def read_tokens(value: Any, split: str, ids: list[str]) -> Tokens:
    """`text_bert`, (rows, 3, tokens): token ids, mask, segment ids, usually stored as floats."""
    array = _numbers(value, "text_bert", split, "(rows, 3, tokens)")
    fix = "tokenize the text again"
    if array.ndim != 3 or array.shape[1] != 3:
        raise ValueError(
            f"`text_bert` of split '{split}' must have the shape (rows, 3, tokens), but it has {array.shape}; {fix}."
        )
    _check_count(len(array), "text_bert", split, ids)
    for position, what in enumerate(("token ids", "mask", "segment ids")):
        values = array[:, position]
        good = _is_whole(values) & (values < 2**31)
        _check_rows(good, values, "text_bert", split, ids, f"must hold whole {what} of 0 or more", fix)
    tokens, mask, types = array.astype(np.int32).swapaxes(0, 1)
    spans = spans_from_mask(mask > 0, "mask of `text_bert`")
    good = (mask <= 1).all(axis=1) & (mask.sum(axis=1) == spans.lengths)
    _check_rows(good, mask, "text_bert", split, ids, "must hold a mask of 0 and 1 whose ones are one block", fix)
    return Tokens(tokens, np.where(mask > 0, types, 0), spans)


def _is_whole(values: np.ndarray) -> np.ndarray:
    """Which values are whole numbers of 0 or more."""
    return np.isfinite(values) & (values >= 0) & (values == np.floor(values))


def _numbers(value: Any, key: str, split: str, meaning: str) -> np.ndarray:
    try:
        array = np.asarray(value)
    except ValueError as error:  # rows of different sizes
        raise ValueError(
            f"`{key}` of split '{split}' must be one array of shape {meaning}, but its rows differ in size ({error}); "
            "pad them to one size."
        ) from error
    if array.dtype.kind not in "biuf":
        raise ValueError(
            f"`{key}` of split '{split}' must hold numbers in the shape {meaning}, but its dtype is {array.dtype}; "
            "save it as one array of numbers."
        )
    return array


def _rows_of_numbers(value: Any, key: str, split: str, ids: list[str], meaning: str) -> np.ndarray:
    array = _numbers(value, key, split, meaning)
    _check_count(len(array) if array.ndim else 0, key, split, ids)
    return array


def _check_count(count: int, key: str, split: str, ids: list[str]) -> None:
    if count != len(ids):
        raise ValueError(
            f"`{key}` of split '{split}' must have one row per id, but it has {count} rows and there are {len(ids)} "
            "ids; the file is damaged or was put together wrongly: build or download it again."
        )


def _check_rows(
    good: np.ndarray, values: np.ndarray, key: str, split: str, ids: list[str], rule: str, fix: str
) -> None:
    """Raise for the first row that is not good, with its id and its value, or its first bad value of several."""
    bad = np.flatnonzero(~good if good.ndim == 1 else ~good.all(axis=1))
    if bad.size:
        wrong = values[bad[0]] if good.ndim == 1 else values[bad[0]][~good[bad[0]]][0]
        shown = np.array2string(np.asarray(wrong), threshold=12, max_line_width=1000)
        more = f" (and {bad.size - 1} more samples)" if bad.size > 1 else ""
        raise ValueError(f"`{key}` of split '{split}' {rule}, but id '{ids[bad[0]]}' has {shown}{more}; {fix}.")
