"""Check the contents of an MMSA-style file as a whole and find the steps of every sequence that are data.

The layout is `{train, valid, test} -> {id, raw_text, text, text_bert, audio, vision, *_lengths, regression_labels}`,
with padded arrays. Sources: the feature files of MMSA (https://github.com/thuiar/MMSA) and Self-MM, which SUGRM and
CH-SIMS share, and those of MulT (https://github.com/yaohungt/Multimodal-Transformer), which name the labels `labels`,
give ids as (video, start, end), pad in front and have no lengths. `padded_arrays` documents the rules; a
breach of one is a ValueError.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from datasets_scripts.arrays.mmsa_fields import (
    Tokens,
    check_same_emotions,
    is_one_per_sample,
    read_emotions,
    read_ids,
    read_labels,
    read_lengths,
    read_sentiment,
    read_sequences,
    read_texts,
    read_tokens,
    shown_names,
)
from datasets_scripts.arrays.padding import Spans, occupied_frames, padded_side, spans_from_frames, spans_from_lengths
from datasets_scripts.schema import EMOTIONS, MODALITIES, SPLIT_NAMES, SPLITS

_LABEL_KEYS = ("regression_labels", "labels")
_UNIMODAL_LABEL_KEYS = {f"regression_labels_{modality[0].upper()}": modality for modality in MODALITIES}
_EMOTION_KEYS = ("emotions", "emotion_labels", "emotion")


@dataclass
class MMSASplit:
    """One split, checked.

    Attributes:
        name: "train", "valid" or "test".
        ids, texts, labels, unimodal_labels: one entry per sample; the last per modality that has labels of its own.
        emotions: intensities in the order of `schema.EMOTIONS`, (rows, 6) float32; None where the source has none.
        emotion_keys: where they were read; several hold the same.
        features: per modality, the padded (rows, steps, features) array of the source.
        lengths: per modality, the (rows,) lengths that the source declares.
        tokens: what `text_bert` holds.
        spans: per sequence column, which steps are data.
        zero_sequences: per feature column, rows whose kept frames are all zero.
        counts: per sequence column, counts for the report that the rows themselves do not tell.
    """

    name: str
    ids: list[str]
    texts: list[str]
    labels: np.ndarray
    unimodal_labels: dict[str, np.ndarray] = field(default_factory=dict)
    emotions: np.ndarray | None = None
    emotion_keys: list[str] = field(default_factory=list)
    features: dict[str, np.ndarray] = field(default_factory=dict)
    lengths: dict[str, np.ndarray] = field(default_factory=dict)
    tokens: Tokens | None = None
    spans: dict[str, Spans] = field(default_factory=dict)
    zero_sequences: dict[str, int] = field(default_factory=dict)
    counts: dict[str, dict[str, int]] = field(default_factory=dict)

    def count(self, column: str, name: str, amount: int | np.integer) -> None:
        counts = self.counts.setdefault(column, {})
        counts[name] = counts.get(name, 0) + int(amount)


@dataclass
class MMSALayout:
    """All splits of a file, and what a report says of them before any row is written."""

    splits: list[MMSASplit]
    feature_sizes: dict[str, int]
    ignored_keys: list[str]
    warnings: list[str]


class OwnParts(dict[str, Mapping[str, Any]]):
    """Parts that a reader put together itself, under names of its own: splits or pieces of them, as many as it has."""


def read_layout(content: Any, padding: str) -> MMSALayout:
    """Check the object that a pickle held and find its padding; `padding` is one of `padding.PADDINGS`."""
    warnings: list[str] = []
    parts, ignored = _find_splits(content, warnings)
    used = _used_keys(parts, warnings)
    ignored += sorted({str(key) for part in parts.values() for key in part if key not in used})
    splits = [_read_split(name, part, used) for name, part in parts.items()]
    _check_ids_are_unique(splits)
    _check_emotions(splits, warnings)
    sizes = _feature_sizes(splits)
    _find_spans(splits, padding)
    _drop_absent(splits, sizes, warnings)
    if not sizes and all(split.tokens is None and not any(split.texts) for split in splits):
        raise ValueError(
            "the file must hold at least one of `raw_text`, `text_bert`, `text`, `audio` and `vision`, but no sample "
            f"has any of them; the other keys are {shown_names(ignored)}; check that this is a feature file."
        )
    _count_steps(splits)
    _warn_of_frames(splits, warnings)
    return MMSALayout(splits, sizes, ignored, warnings)


def _find_splits(content: Any, warnings: list[str]) -> tuple[dict[str, Mapping], list[str]]:
    """The three splits, and the other keys beside them; `OwnParts` as they are."""
    if isinstance(content, OwnParts):
        return dict(content), []
    if not isinstance(content, Mapping):
        raise ValueError(
            f"the file must hold a dict of the splits {SPLITS}, but it holds a {type(content).__name__}; "
            "check that this is a feature file in MMSA's layout."
        )
    found = shown_names(content)
    parts, read = {}, set()
    for split in SPLITS:
        name = next((name for name in SPLIT_NAMES if SPLIT_NAMES[name] == split and name in content), None)
        if name is None:
            raise ValueError(
                f"the file must hold the splits {SPLITS}, but '{split}' is missing and the keys are {found}; "
                "download the file again or add the split."
            )
        if not isinstance(content[name], Mapping):
            raise ValueError(
                f"split '{name}' must be a dict of arrays, but it is a {type(content[name]).__name__}; "
                "check that this is a feature file in MMSA's layout."
            )
        if name != split:
            warnings.append(f"split '{split}' was read from the key '{name}'")
        parts[split] = content[name]
        read.add(name)
    return parts, sorted(str(key) for key in content if key not in read)


def _used_keys(parts: Mapping[str, Mapping], warnings: list[str]) -> set[str]:
    """The keys that are read. Each must be in every split or in none; ids and labels in every split."""
    keys = {split: set(part) for split, part in parts.items()}
    everywhere, somewhere = set.intersection(*keys.values()), set.union(*keys.values())
    label = next((key for key in _LABEL_KEYS if key in somewhere), _LABEL_KEYS[0])
    readable = {"id", "raw_text", "text_bert", label, *_UNIMODAL_LABEL_KEYS, *MODALITIES}
    # Lengths describe the feature array of their name; `text_bert` has a mask of its own.
    readable |= {f"{modality}_lengths" for modality in MODALITIES if modality in somewhere}
    for key in sorted(somewhere & set(_EMOTION_KEYS)):
        if all(is_one_per_sample(part[key]) for part in parts.values() if key in part):
            warnings.append(f"`{key}` has one entry per sample, not six intensities, and was not carried over")
        else:
            readable.add(key)
    for key in sorted(readable & (somewhere | {"id", label}) - everywhere):
        lacking = [split for split, names in keys.items() if key not in names]
        found = shown_names(keys[lacking[0]])
        raise ValueError(
            f"`{key}` must be in every split, but it is missing in {lacking}, where the keys are {found}; "
            "add it or download the file again."
        )
    if label != _LABEL_KEYS[0]:
        warnings.append(f"labels were read from the key `{label}`")
    if "raw_text" not in everywhere:
        warnings.append("there is no `raw_text`, so `text` is empty in every row")
    return readable & everywhere


def _read_split(name: str, part: Mapping, used: set[str]) -> MMSASplit:
    ids = read_ids(part["id"], name)
    texts = read_texts(part["raw_text"], name, ids) if "raw_text" in used else [""] * len(ids)
    label_key = next(key for key in _LABEL_KEYS if key in used)
    labels, emotions = read_sentiment(part[label_key], label_key, name, ids)
    split = MMSASplit(name, ids, texts, labels)
    if emotions is not None:
        _add_emotions(split, label_key, emotions)
    for key in _EMOTION_KEYS:
        if key in used:
            _add_emotions(split, key, read_emotions(part[key], key, name, ids))
    for key, modality in _UNIMODAL_LABEL_KEYS.items():
        if key in used:
            split.unimodal_labels[modality] = read_labels(part[key], key, name, ids)
    for modality in MODALITIES:
        if modality in used:
            array = read_sequences(part[modality], modality, name, ids)
            split.features[modality] = array
            key = f"{modality}_lengths"
            if key in used:
                split.lengths[modality] = read_lengths(part[key], key, name, ids, array.shape[1])
    if "text_bert" in used:
        split.tokens = read_tokens(part["text_bert"], name, ids)
        split.spans["input_ids"] = split.tokens.spans
    return split


def _add_emotions(split: MMSASplit, key: str, emotions: np.ndarray) -> None:
    if split.emotions is not None:
        check_same_emotions(emotions, key, split.emotions, split.emotion_keys[0], split.name, split.ids)
    split.emotions = emotions
    split.emotion_keys.append(key)


def _check_emotions(splits: list[MMSASplit], warnings: list[str]) -> None:
    """Emotions are in every split or in none; only where they come with the labels can they be in some."""
    keys = list(dict.fromkeys(key for split in splits for key in split.emotion_keys))
    for key in keys:
        lacking = [split.name for split in splits if key not in split.emotion_keys]
        if lacking:
            raise ValueError(
                f"`{key}` must hold the six emotions after the sentiment in every split or in none, but they are "
                f"missing in {lacking}, where each sample has one number; add them or take them out of the others."
            )
    if keys:
        origin = " and ".join(f"`{key}`" + " (after the sentiment)" * (key in _LABEL_KEYS) for key in keys)
        order = ", ".join(EMOTIONS)
        warnings.append(f"emotions were read from {origin} in the order {order}, which the file does not state")


def _check_ids_are_unique(splits: list[MMSASplit]) -> None:
    seen: dict[str, str] = {}
    for split in splits:
        for name in split.ids:
            if name in seen:
                raise ValueError(
                    f"`id` must be unique, but '{name}' is in split '{seen[name]}' and again in split '{split.name}'; "
                    "rename or drop one of the two: a sample that is trained and tested on makes the test meaningless."
                )
            seen[name] = split.name


def _feature_sizes(splits: list[MMSASplit]) -> dict[str, int]:
    """Width per modality. A modality without width or steps is taken out of the splits."""
    sizes: dict[str, int] = {}
    for modality in MODALITIES:
        shapes = {split.name: split.features[modality].shape for split in splits if modality in split.features}
        widths = {name: shape[2] for name, shape in shapes.items()}
        filled = {name: bool(shape[1] and shape[2]) for name, shape in shapes.items()}
        if any(filled.values()) and (len(set(widths.values())) > 1 or not all(filled.values())):
            raise ValueError(
                f"`{modality}` must have the same number of features per step in every split and at least one step, "
                f"but its shapes are {shapes}; extract every split with the same feature set."
            )
        if any(filled.values()):
            sizes[modality] = widths[splits[0].name]
        else:
            for split in splits:
                split.features.pop(modality, None)
    return sizes


def _find_spans(splits: list[MMSASplit], padding: str) -> None:
    scanned: dict[tuple[str, ...], list[tuple[MMSASplit, np.ndarray]]] = {}
    for split in splits:
        occupied = {modality: occupied_frames(array) for modality, array in split.features.items()}
        for modality, frames in occupied.items():
            spans = _declared_spans(split, modality, frames, padding)
            if spans is not None:
                _set_spans(split, modality, spans, frames)
        for group in _scan_groups(split):
            scanned.setdefault(group, []).append((split, np.stack([occupied[modality] for modality in group])))
    for group, tables in scanned.items():
        side = padded_side(np.any(frames, axis=0) for _, frames in tables) if padding == "auto" else padding
        for split, frames in tables:
            spans = spans_from_frames(
                np.any(frames, axis=0), side, " common to " + ", ".join(group) if group[1:] else ""
            )
            for modality, own in zip(group, frames, strict=True):
                _set_spans(split, modality, spans, own)


def _declared_spans(split: MMSASplit, modality: str, occupied: np.ndarray, padding: str) -> Spans | None:
    """Spans that the file declares: by lengths of the modality, or by the text's where both have as many steps."""
    steps = occupied.shape[1]
    if modality in split.lengths:
        return spans_from_lengths(split.lengths[modality], occupied, padding, f"`{modality}_lengths`")
    if "text" in split.lengths and split.features["text"].shape[1] == steps:
        return spans_from_lengths(split.lengths["text"], occupied, padding, "`text_lengths`, aligned")
    if split.tokens is None or split.tokens.ids.shape[1] != steps:
        return None
    if modality == "text":
        return split.tokens.spans
    return spans_from_lengths(split.tokens.spans.lengths, occupied, padding, "mask of `text_bert`, aligned")


def _scan_groups(split: MMSASplit) -> list[tuple[str, ...]]:
    """Modalities without declared spans; those with as many steps as the text are aligned and share their padding."""
    left = [modality for modality in split.features if f"{modality}_values" not in split.spans]
    if "text" not in left:
        return [(modality,) for modality in left]
    steps = split.features["text"].shape[1]
    aligned = tuple(modality for modality in left if split.features[modality].shape[1] == steps)
    return [aligned, *((modality,) for modality in left if modality not in aligned)]


def _set_spans(split: MMSASplit, modality: str, spans: Spans, occupied: np.ndarray) -> None:
    column = f"{modality}_values"
    inside = spans.count_inside(occupied)
    split.spans[column] = spans
    split.zero_sequences[column] = int(np.count_nonzero((spans.lengths > 0) & (inside == 0)))
    split.count(column, "dropped_nonzero_steps", occupied.sum() - inside.sum())
    split.count(column, "repaired_lengths", spans.repaired)


def _drop_absent(splits: list[MMSASplit], sizes: dict[str, int], warnings: list[str]) -> None:
    """Take out the modalities that no sample has."""
    for modality in list(sizes):
        column = f"{modality}_values"
        if any(split.spans[column].lengths.any() for split in splits):
            continue
        dropped = sum(split.counts[column]["dropped_nonzero_steps"] for split in splits)
        although = f", although {dropped} of its frames are not zero" if dropped else ""
        warnings.append(f"{modality} has no step in any sample, so there is no column `{column}`{although}")
        del sizes[modality]
        for split in splits:
            del split.features[modality], split.spans[column], split.counts[column]


def _count_steps(splits: list[MMSASplit]) -> None:
    for split in splits:
        for column, spans in split.spans.items():
            if column == "input_ids" and split.tokens is not None:
                array = split.tokens.ids
            else:
                array = split.features[column.removesuffix("_values")]
            split.count(column, "padding_steps", len(array) * array.shape[1] - spans.lengths.sum())


def _warn_of_frames(splits: list[MMSASplit], warnings: list[str]) -> None:
    for split in splits:
        for column, spans in split.spans.items():
            if spans.repaired:
                warnings.append(
                    f"{spans.repaired} of {len(split.ids)} lengths of `{column}` in split '{split.name}' contradict "
                    "its frames (padded in front) and were read from the frames"
                )
    for column in splits[0].spans:
        kept = sum(np.count_nonzero(split.spans[column].lengths) for split in splits)
        if column != "input_ids" and kept == sum(split.zero_sequences[column] for split in splits):
            warnings.append(f"every frame of `{column}` is zero; it may stand for a modality that is missing")
