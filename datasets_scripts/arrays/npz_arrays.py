"""One's own `.npz`: arrays with one entry per sample, in the splits of one's own.

    >>> from datasets_scripts import load_dataset
    >>> rows = load_dataset("features.npz")  # doctest: +SKIP

How to write one
----------------
Save arrays that have one entry per sample with `numpy.savez_compressed(path, id=..., ...)`:

| key | shape | becomes |
|---|---|---|
| `video` and `segment` (or `video_id`, `clip_id`) | (rows,) | `id`, `video$_$segment` |
| `id` or `ids` | (rows,) strings | `id`, unless there are `video` and `segment` |
| `raw_text`, or `text` of strings | (rows,) strings | `text` |
| `text`, `audio`, `vision` | (rows, steps, features), padded, or (rows, features) | `<modality>_values` |
| `text_lengths`, `audio_lengths`, `vision_lengths` | (rows,) | how many steps are not padding |
| `text_bert` | (rows, 3, tokens): token ids, mask, segment ids | `input_ids`, `token_type_ids` |
| `label`, `labels` or `regression_labels` | (rows,), or (rows, 7) with the six emotions | `label` |
| `label_text`, `text_label` or `regression_labels_T`, ... | (rows,) | `<modality>_label` |
| `emotions` | (rows, 6), see `schema.EMOTIONS` | `emotions` |
| `split` | (rows,) strings: train, valid (val, dev, validation) or test | the split |

Only numbers, booleans and strings are read, never Python objects. A vector per sample, (rows, features), is one step.
Where padding ends is found as in `padded_arrays`; write lengths, and nothing has to be found. Labels keep their units;
without them the rows have no column `label`. The names of the columns, `audio_values` and so on, are read as well. All
other keys are named in the report and not read.

Splits are found in this order:

- the key that the option `split_key` names, or `split`, or the first key `split_*` or `*_split` of strings in the order
  of the file; the report names the others;
- keys of their own for each split, with its name behind or in front: `audio_train`, `train_audio`. Whatever follows the
  split, as in `audio_train_notext`, makes a further group of rows of it. A group may lack a modality that others have:
  its rows then have no step of it. A file may have such groups beside the keys without a split;
- the standard folds of the corpus, where the videos tell it; rows of other videos are left out;
- otherwise every row is in `train`.

Rows keep the order of the file within their split, those of the keys without a split first. Rows without id get
`<split or group>$_$<row>`. What an archive may not hold is in `safe_npz`.
"""

from __future__ import annotations

import itertools
from collections.abc import Container, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from datasets_scripts.arrays.mmsa_fields import read_ids
from datasets_scripts.arrays.mmsa_layout import MMSASplit, OwnParts
from datasets_scripts.arrays.npz_keys import LABELS, TEXTS, Group, find_groups, split_candidates
from datasets_scripts.arrays.padded_arrays import ArraysBuilder, ArraysConfig
from datasets_scripts.arrays.safe_npz import NpzArchive
from datasets_scripts.builder import Source
from datasets_scripts.own_splits import folds_of, split_named, warn_of_rows_without_fold
from datasets_scripts.schema import MODALITIES, SPLITS
from datasets_scripts.tally import Tally

Rows = slice | np.ndarray


@dataclass
class NpzConfig(ArraysConfig):
    """Which archive to convert, and how.

    Attributes:
        split_key: the key that holds the split of each row; None finds it as the module describes.
    """

    split_key: str | None = None


@dataclass
class _Part:
    """Rows of one split that come from the same keys.

    Attributes:
        name: for messages, and for the ids of rows that have none.
        split: where the rows belong.
        rows: which of the arrays of the keys.
        count: how many they are.
        fields: what they have, by the keys of `mmsa_layout`.
        absent: modalities that others have and these rows lack.
    """

    name: str
    split: str
    rows: Rows
    count: int
    fields: dict[str, Any] = field(default_factory=dict)
    absent: list[str] = field(default_factory=list)


class NpzArrays(ArraysBuilder):
    """Converts one archive.

    Reading it takes as much memory as its arrays unpacked, and where a split is not one block of rows, the largest of
    them once more.
    """

    BUILDER_CONFIG_CLASS = NpzConfig
    SOURCE_FORMAT = "NumPy archive (.npz)"

    def read_arrays(self) -> OwnParts:
        self._ignored: list[str] = []
        self._warnings: list[str] = []
        with NpzArchive(self.config.path) as archive:
            parts = self._read_parts(archive)
        self._labelled = any(LABELS in part.fields for part in parts)
        if not self._labelled:
            self._warnings.append(
                "there are no labels, so the rows can be predicted, but not trained or tested on; add a key `label`"
            )
            for part in parts:  # the layout must have some; `read_rows` takes them out
                part.fields[LABELS] = np.zeros(part.count, np.float32)
        _fill_absent(parts)
        self._parts = {part.name: (part.split, part.absent) for part in parts}
        return OwnParts({part.name: part.fields for part in parts})

    def inspect(self) -> Source:
        found = super().inspect()
        for name, (_, absent) in self._parts.items():
            for modality in absent:
                _empty(self._waiting[name], f"{modality}_values")
        source = Source(
            features=found.features,
            shards={},
            row_bytes=found.row_bytes,
            padding=found.padding,
            ignored_keys=sorted(self._ignored + found.ignored_keys),
            warnings=self._warnings + found.warnings,
        )
        for split in SPLITS:
            parts = [name for name, (part_split, _) in self._parts.items() if part_split == split]
            if parts:
                source.shards[split] = [parts]
                source.rows[split] = sum(found.rows[name] for name in parts)
                source.counts[split] = _sum_counts([found.counts[name] for name in parts])
        if not self._labelled:
            del source.features["label"]
        return source

    def read_rows(self, split: str, shards: list[list[str]], tally: Tally) -> Iterator[dict[str, Any]]:
        for name in itertools.chain.from_iterable(shards):
            for row in super().read_rows(name, [None], tally):
                if not self._labelled:
                    del row["label"]
                yield row

    def _read_parts(self, archive: NpzArchive) -> list[_Part]:
        groups = find_groups(archive)
        known = {key for group in groups for key in (*group.keys.values(), *group.unused)}
        main = [group for group in groups if group.split is None]
        others = [name for name in archive.names if name not in known]
        candidates = split_candidates(archive, main[0].rows, others) if main else []
        split_key = self._split_key(candidates)
        used = {key for group in groups for key in group.keys.values()} | {split_key}
        self._ignored = [name for name in archive.names if name not in used]
        archive.check_memory(key for key in used if key is not None)
        parts: dict[str, _Part] = {}
        for group in groups:
            self._warnings += group.warnings
            if not group.rows:
                self._warnings.append(f"`{'`, `'.join(group.keys.values())}` have no rows and were left out")
                continue
            ids = _read_ids(archive, group)
            own = self._parts_of(archive, group, ids, split_key, parts)
            self._read_fields(archive, group, ids, own)
            parts.update((part.name, part) for part in own)
        if not parts:
            raise ValueError("an .npz must hold at least one row, but its arrays have none; check how it was written.")
        return sorted(parts.values(), key=lambda part: SPLITS.index(part.split))

    def _split_key(self, candidates: list[str]) -> str | None:
        """The key with the split of each row of the main group; None where there is none."""
        chosen = self.config.split_key
        if chosen is not None and chosen not in candidates:
            raise ValueError(
                f"`split_key` must name a key with one string per row, but {chosen!r} came, and such keys are "
                f"{candidates or 'none'}; correct the name, or leave the option out."
            )
        if chosen is not None or not candidates:
            return chosen
        key = "split" if "split" in candidates else candidates[0]
        others = ", ".join(f"`{name}`" for name in candidates if name != key)
        if key != "split":
            self._warnings.append(f"the split of each row was read from the key `{key}`")
        if others:
            self._warnings.append(
                f"`{key}` decided the splits, and {others} may hold others; choose with the option `split_key`"
            )
        return key

    def _parts_of(
        self, archive: NpzArchive, group: Group, ids: list[str] | None, split_key: str | None, taken: Container[str]
    ) -> list[_Part]:
        """The rows of a group by split, nothing read yet."""
        if group.split is not None:
            name = f"{group.name}_more" if group.name in taken else group.name
            return [_Part(name, group.split, slice(None), group.rows)]
        if split_key is not None:
            splits = _read_splits(archive, split_key)
        else:
            splits = self._splits_without_key(ids, group.rows)
        rows = {split: np.flatnonzero(splits == split) for split in SPLITS}
        return [_Part(split, split, _slice(own), len(own)) for split, own in rows.items() if len(own)]

    def _splits_without_key(self, ids: list[str] | None, rows: int) -> np.ndarray:
        videos = [name.partition("$_$")[0] for name in ids or ()]
        fix = "add a key `split` with train, valid or test for each row"
        folds = folds_of(set(videos), self.config.corpus, fix, self._warnings)
        if folds is None:
            return np.full(rows, "train")
        splits = np.array([folds.get(video, "") for video in videos])
        warn_of_rows_without_fold(int(np.count_nonzero(splits == "")), self._warnings)
        return splits

    def _read_fields(self, archive: NpzArchive, group: Group, ids: list[str] | None, parts: list[_Part]) -> None:
        """Read the arrays of a group, one after the other, and deal their rows out to the parts."""
        for part in parts:
            own = [f"{part.name}$_${row}" for row in range(part.count)] if ids is None else _select(ids, part.rows)
            part.fields["id"] = own
        if ids is None:
            names = ", ".join(part.name for part in parts)
            self._warnings.append(
                f"the rows of {names} have no ids and got '{parts[0].name}$_$0' and so on, after the split or the "
                "group and the row; add keys `video` and `segment`, or `id`"
            )
        for name, key in group.keys.items():
            if name in ("id", "video", "segment"):
                continue
            array = archive.read(key)
            if name in MODALITIES:
                array = _sequences(array, key)
            for part in parts:
                part.fields[name] = array[part.rows]


def _sequences(array: np.ndarray, key: str) -> np.ndarray:
    """Features as (rows, steps, features); a vector per row is one step."""
    if array.ndim not in (2, 3):
        raise ValueError(
            f"`{key}` must have the shape (rows, steps, features) or (rows, features), but it has {array.shape}; "
            "reshape it."
        )
    return array[:, None, :] if array.ndim == 2 else array


def _read_ids(archive: NpzArchive, group: Group) -> list[str] | None:
    keys = group.keys
    if "id" in keys:
        return read_ids(archive.read(keys["id"]), group.name or "all")
    if "video" not in keys:
        return None
    videos = archive.read(keys["video"]).tolist()
    segments = archive.read(keys["segment"]).tolist() if "segment" in keys else range(len(videos))
    return read_ids(list(zip(videos, segments, strict=True)), group.name or "all")


def _read_splits(archive: NpzArchive, key: str) -> np.ndarray:
    """The split of each row, of `SPLITS`."""
    given, positions = np.unique(archive.read(key), return_inverse=True)
    names = [name.decode("utf-8", "backslashreplace") if isinstance(name, bytes) else name for name in given.tolist()]
    splits = [split_named(name) for name in names]
    if None in splits:
        wrong = splits.index(None)
        raise ValueError(
            f"`{key}` must hold train, valid (val, dev, validation) or test for each row, but row "
            f"{np.flatnonzero(positions == wrong)[0]} has {names[wrong]!r:.100}; correct it, or name another key with "
            "the option `split_key`."
        )
    return np.array(splits)[positions]


def _slice(rows: np.ndarray) -> Rows:
    """Consecutive rows as a slice, which takes no copy."""
    if len(rows) and rows[-1] - rows[0] + 1 == len(rows):
        return slice(int(rows[0]), int(rows[-1]) + 1)
    return rows


def _select(ids: list[str], rows: Rows) -> list[str]:
    return ids[rows] if isinstance(rows, slice) else [ids[row] for row in rows]


def _fill_absent(parts: list[_Part]) -> None:
    """Give each part what others have and it lacks: no transcript, no tokens, and features of zeros in their place.

    The layout then finds the padding of the other features as it does elsewhere, aligned or not; `inspect` empties what
    stands here. Lengths of 0 would be taken for those of whatever is aligned with the text, so beside them the text has
    a number of steps that nothing else in the part has.
    """
    shapes = {m: part.fields[m].shape[1:] for part in parts for m in MODALITIES if m in part.fields}
    somewhere = {name for part in parts for name in part.fields}
    for part in parts:
        fields = part.fields
        part.absent = [modality for modality in shapes if modality not in fields]
        taken = {fields[name].shape[1] for name in shapes if name in fields}
        for modality in part.absent:
            steps, width = shapes[modality]
            if f"{modality}_lengths" in somewhere:
                fields[f"{modality}_lengths"] = np.zeros(part.count, np.int64)
                steps = next(number for number in itertools.count(1) if number not in taken)
            fields[modality] = np.broadcast_to(np.float32(0), (part.count, steps, width))
        if TEXTS in somewhere:
            fields.setdefault(TEXTS, [""] * part.count)
        if "text_bert" in somewhere:
            fields.setdefault("text_bert", np.zeros((part.count, 3, 0), np.int32))


def _empty(split: MMSASplit, column: str) -> None:
    """Take every step of a column, which may not be there, out of a split."""
    if column in split.spans:
        none = np.zeros(len(split.ids), np.int64)
        split.spans[column] = replace(split.spans[column], starts=none, stops=none)
        split.counts[column].clear()


def _sum_counts(tables: list[dict[str, dict[str, int]]]) -> dict[str, dict[str, int]]:
    total: dict[str, dict[str, int]] = {}
    for table in tables:
        for column, counts in table.items():
            for name, amount in counts.items():
                own = total.setdefault(column, {})
                own[name] = own.get(name, 0) + amount
    return total
