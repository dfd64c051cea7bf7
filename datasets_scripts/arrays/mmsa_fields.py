"""Read the single keys of an MMSA-style split: ids, transcripts, labels, lengths, tokens, feature arrays.

Every function takes what the pickle held under a key, checks it and returns it in one shape. Every error is a
ValueError that names the key, the split, the rule, the sample where there is one, and what to do.

Values come from anywhere. Lists can share parts, so that a short file holds long ones; what `load_pickle` gives stays
within a few times the file when it is written out, and nothing here makes more of it than that.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from datasets_scripts.arrays.padding import Spans, spans_from_mask
from datasets_scripts.schema import EMOTIONS

_ID_NUMBERS = (int, float, np.integer, np.floating)
_NUMBERS = (bool, int, float, np.bool_, np.integer, np.floating)
_PLAIN_NUMBERS = {bool, int, float}
_EMOTION_NAMES = ", ".join(EMOTIONS)

_MAX_ID_WORDS = 16
_MAX_ID_LENGTH = 1000
_MAX_SHOWN_NAMES = 30
# How many times larger a list of arrays may become by taking the one type that holds the numbers of all of them.
_MAX_PROMOTION = 4
# How many values are checked at a time.
_PIECE_VALUES = 1 << 20


class _ShortRepr(reprlib.Repr):
    """What a file has, for messages: never all of it, and never containers within themselves without end."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = self.maxlong = 100
        self.maxlevel = 2

    def repr_ndarray(self, array: np.ndarray, level: int) -> str:
        return f"an array of shape {array.shape}"


_shown = _ShortRepr().repr


def shown_names(names: Iterable[Any]) -> str:
    """Names of keys for a message, sorted; of many, the first."""
    shown = sorted(str(name)[:100] for name in names)
    more = len(shown) - _MAX_SHOWN_NAMES
    return f"{shown[:_MAX_SHOWN_NAMES]}" + (f" and {more} more" if more > 0 else "")


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
    words = _id_words(item)
    # Start and end may be numbers; a video has a name.
    if (
        words
        and isinstance(words[0], str)
        and words[0]
        and all(isinstance(word, (str, *_ID_NUMBERS)) for word in words)
    ):
        segment = "_".join(str(word) for word in words[1:])
        name = f"{words[0]}$_${segment}" if segment else words[0]
        if len(name) <= _MAX_ID_LENGTH:
            return name
    raise ValueError(
        f"`id` of split '{split}' must hold names or rows of (video, start, end), of at most {_MAX_ID_LENGTH} "
        f"characters, but row {row} has {_shown(item)}; write it as 'video$_$segment'."
    )


def _id_words(item: Any) -> list[Any]:
    """The parts of an id, or nothing where there are more than an id has."""
    if isinstance(item, np.ndarray):
        item = item.reshape(-1).tolist() if item.size <= _MAX_ID_WORDS else []
    words = item if isinstance(item, (list, tuple)) else [item]
    if len(words) > _MAX_ID_WORDS or any(
        isinstance(word, (str, bytes)) and len(word) > _MAX_ID_LENGTH for word in words
    ):
        return []
    return [_decode(word) if isinstance(word, (str, bytes)) else word for word in words]


def read_texts(value: Any, split: str, ids: list[str]) -> list[str]:
    """Transcripts, (rows,) strings."""
    items = _items(value, "raw_text", split)
    _check_count(len(items), "raw_text", split, ids)
    for item, name in zip(items, ids, strict=True):
        if not isinstance(item, (str, bytes)):
            raise ValueError(
                f"`raw_text` of split '{split}' must hold strings, but id '{name}' has {_shown(item)}; "
                "write an empty string where there is no transcript."
            )
    return [_decode(item) for item in items]


def _items(value: Any, key: str, split: str) -> Sequence[Any]:
    """The rows of a list or of an array of strings."""
    if isinstance(value, (list, tuple)):
        return value
    what = f"a {type(value).__name__}"
    if isinstance(value, np.ndarray):
        # An array can be long and hold nothing, and as a list take many times its size.
        if value.ndim and value.dtype.kind in "OSU" and 0 < value.size <= _MAX_ID_WORDS * len(value):
            return value.tolist()
        if value.shape[:1] == (0,):
            return []
        what = f"an array of {value.dtype} of the shape {value.shape}"
    raise ValueError(
        f"`{key}` of split '{split}' must be a list or an array with one entry per sample, strings, but it is {what}; "
        "write it as a list."
    )


def _decode(value: str | bytes) -> str:
    # Bytes that are not UTF-8, and halves of characters, are shown, not lost: one should not end a conversion.
    text = value.decode("utf-8", errors="backslashreplace") if isinstance(value, bytes) else str(value)
    return text.encode("utf-8", errors="backslashreplace").decode("utf-8")


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
    if isinstance(value, np.ndarray):
        if not value.ndim or value.size != len(value):
            return False
        if value.dtype.kind != "O":
            return value.dtype.kind in "biufSU"
        value = value.reshape(-1)
    return isinstance(value, (list, tuple, np.ndarray)) and all(map(_is_single, value))


def _is_single(item: Any) -> bool:
    """Whether it is a number or a string, alone or as the only item of a list or an array."""
    while isinstance(item, (list, tuple)) and len(item) == 1:
        item = item[0]
    if isinstance(item, np.ndarray):
        return item.size == 1 and item.dtype.kind in "biufSU"
    return isinstance(item, (str, bytes, *_NUMBERS))


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
    mask = array[:, 1] > 0
    spans = spans_from_mask(mask, "mask of `text_bert`")
    good = (array[:, 1] <= 1).all(axis=1) & (np.count_nonzero(mask, axis=1) == spans.lengths)
    rule = "must hold a mask of 0 and 1 whose ones are one block"
    _check_rows(good, mask if good.all() else array[:, 1].astype(np.int32), "text_bert", split, ids, rule, fix)
    types = np.zeros(mask.shape, np.int32)  # takes no memory where nothing is written, and most are 0
    np.copyto(types, array[:, 2], where=mask & (array[:, 2] != 0), casting="unsafe")
    return Tokens(array[:, 0].astype(np.int32), types, spans)


def _is_whole(values: np.ndarray) -> np.ndarray:
    """Which values are whole numbers of 0 or more."""
    whole = np.empty(values.shape, bool)
    rows = max(1, _PIECE_VALUES // max(1, values[:1].size))
    for start in range(0, len(values), rows):
        piece = values[start : start + rows]
        whole[start : start + rows] = np.isfinite(piece) & (piece >= 0) & (piece == np.floor(piece))
    return whole


def _numbers(value: Any, key: str, split: str, meaning: str) -> np.ndarray:
    dtype = _dtype_of_others(value)
    if dtype is None:
        try:
            array = np.asarray(value)
        except ValueError as error:  # rows of different sizes
            raise ValueError(
                f"`{key}` of split '{split}' must be one array of shape {meaning}, but its rows differ in size "
                f"({error}); pad them to one size."
            ) from error
        if array.dtype.kind in "biuf":
            return array
        dtype = str(array.dtype)
    raise ValueError(
        f"`{key}` of split '{split}' must hold numbers in the shape {meaning}, but its dtype is {dtype}; save it as "
        "one array of numbers."
    )


def _dtype_of_others(value: Any) -> str | None:
    """The dtype of `value` where it does not hold numbers only; making an array of it can take much memory."""
    dtypes: set[np.dtype] = set()
    seen: set[int] = set()
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, np.ndarray):
            dtypes.add(item.dtype)
        elif isinstance(item, (str, bytes)):
            return f"{'<U' if isinstance(item, str) else 'S'}{len(item)}"
        elif isinstance(item, (list, tuple)):
            if id(item) not in seen and not _PLAIN_NUMBERS.issuperset(map(type, item)):
                waiting.extend(item)
            seen.add(id(item))
        elif not isinstance(item, _NUMBERS):
            return "object"
    if all(dtype.kind in "biuf" for dtype in dtypes):
        sizes = [dtype.itemsize for dtype in dtypes]
        if not sizes or np.result_type(*dtypes).itemsize <= _MAX_PROMOTION * min(sizes):
            return None
    return " and ".join(sorted(map(str, dtypes)))


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
