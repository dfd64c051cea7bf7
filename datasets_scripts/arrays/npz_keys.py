"""What the keys of an archive of one's own mean: which field of which rows each of them holds. See `npz_arrays`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from datasets_scripts.arrays.safe_npz import NpzArchive
from datasets_scripts.own_splits import split_named
from datasets_scripts.schema import MODALITIES

LABELS = "regression_labels"
TEXTS = "raw_text"
# The keys of each field; the first that is there is read. Fields have the names of `mmsa_layout`, and some of our own.
FIELD_KEYS: dict[str, tuple[str, ...]] = {
    "id": ("id", "ids"),
    "video": ("video", "video_id"),
    "segment": ("segment", "clip_id"),
    TEXTS: ("raw_text",),
    "text_bert": ("text_bert",),
    LABELS: ("label", "labels", "regression_labels"),
    "emotions": ("emotions",),
}
for _modality in MODALITIES:
    _unimodal = f"{LABELS}_{_modality[0].upper()}"
    FIELD_KEYS[_modality] = (_modality, f"{_modality}_values")
    FIELD_KEYS[f"{_modality}_lengths"] = (f"{_modality}_lengths",)
    FIELD_KEYS[_unimodal] = (f"label_{_modality}", f"{_modality}_label", _unimodal)

_FIELDS = {key: name for name, keys in FIELD_KEYS.items() for key in keys}
# The longest first: `raw_text_train` is not the key `text` of something else.
_KEYS_BY_LENGTH = sorted(_FIELDS, key=len, reverse=True)


@dataclass
class Group:
    """Keys whose entries belong to the same rows.

    Attributes:
        split: of the rows, where the keys say it; None for the main group, the keys without the name of a split.
        name: the split and what follows it in the keys, "train_notext"; empty for the main group.
        keys: by field.
        unused: keys of a field that another one was read for.
        rows: how many each of the arrays has.
        warnings: what was chosen.
    """

    split: str | None
    name: str
    keys: dict[str, str] = field(default_factory=dict)
    unused: list[str] = field(default_factory=list)
    rows: int = 0
    warnings: list[str] = field(default_factory=list)


def find_groups(archive: NpzArchive) -> list[Group]:
    """The groups of an archive, the main one first, the others in the order of the archive.

    Raises:
        ValueError: the arrays of a group differ in their number of rows, or one is refused, or there are none.
    """
    found: dict[str, Group] = {"": Group(None, "")}
    keys: dict[str, list[tuple[str, str]]] = {}
    for key in archive.names:
        meaning = _meaning(key)
        if meaning is not None:
            alias, split, name = meaning
            found.setdefault(name, Group(split, name))
            keys.setdefault(name, []).append((alias, key))
    groups = [group for name, group in found.items() if name in keys]
    if not groups:
        raise ValueError(
            "an .npz must hold arrays under keys such as `audio`, `vision`, `text`, `label` and `id`, but its keys are "
            f"{archive.names[:20]}; save them under these names."
        )
    for group in groups:
        _choose_keys(archive, group, dict(keys[group.name]))
        _count_rows(archive, group)
    return groups


def split_candidates(archive: NpzArchive, rows: int, others: Iterable[str]) -> list[str]:
    """The keys that may hold the split of each of the rows of the main group, in the order of the archive.

    Args:
        rows: of the main group.
        others: keys that are of no field.

    Raises:
        ValueError: there is a `split` that does not hold one string per row.
    """
    found = []
    for key in others:
        if key == "split" or key.startswith("split_") or key.endswith("_split"):
            header = archive.header(key)
            if header.is_text and header.shape == (rows,):
                found.append(key)
            elif key == "split":
                raise ValueError(
                    f"`split` must hold one string per row, shape ({rows},), but it has the shape {header.shape} and "
                    f"the dtype {header.dtype}; write train, valid or test for each row."
                )
    return found


def _meaning(key: str) -> tuple[str, str | None, str] | None:
    """(key without the split, split, name of the group), or None where a key is of no field."""
    if key in _FIELDS:
        return key, None, ""
    if key.endswith("_lengths"):  # `audio_train_lengths` as well as `audio_lengths_train`
        base = _meaning(key.removesuffix("_lengths"))
        if base is not None and base[1] is not None and base[0] in MODALITIES:
            return f"{base[0]}_lengths", base[1], base[2]
    for alias in _KEYS_BY_LENGTH:
        if key.startswith(f"{alias}_"):
            rest = key.removeprefix(f"{alias}_")
        elif key.endswith(f"_{alias}"):
            rest = key.removesuffix(f"_{alias}")
        else:
            continue
        first, _, tag = rest.partition("_")
        split = split_named(first)
        if split is not None:
            return alias, split, f"{split}_{tag}" if tag else split
    return None


def _choose_keys(archive: NpzArchive, group: Group, keys: dict[str, str]) -> None:
    """Choose one key for each field; `keys` are those of the group by their names without the split."""
    for name, aliases in FIELD_KEYS.items():
        there = [keys[alias] for alias in aliases if alias in keys]
        if there:
            group.keys[name] = there[0]
            _leave_out(group, there[1:], f"`{there[0]}` was read")
    text = group.keys.get("text")
    if text is not None and archive.header(text).is_text:
        del group.keys["text"]
        if TEXTS in group.keys:
            _leave_out(group, [text], f"the transcripts are those of `{group.keys[TEXTS]}`")
        else:
            group.keys[TEXTS] = text
    for modality in MODALITIES:
        if modality not in group.keys and f"{modality}_lengths" in group.keys:
            lengths = group.keys.pop(f"{modality}_lengths")
            _leave_out(group, [lengths], f"there are no features `{modality}`")
    _choose_ids(group)


def _choose_ids(group: Group) -> None:
    """Video and segment make better ids than `id`: the corpus and its folds are known by the videos."""
    if "video" in group.keys and "segment" in group.keys:
        left, why = ["id"], "ids were made of the video and the segment"
    elif "id" in group.keys:
        left, why = ["video", "segment"], f"ids were read from `{group.keys['id']}`"
    else:
        left, why = ["segment"], "there is no video"
        if "video" in group.keys:
            group.warnings.append("there is no segment, so the number of the row in the file stands for it in the ids")
    _leave_out(group, [group.keys.pop(name) for name in left if name in group.keys], why)


def _leave_out(group: Group, keys: list[str], why: str) -> None:
    if keys:
        group.unused += keys
        group.warnings.append(f"{', '.join(f'`{key}`' for key in keys)} was not carried over: {why}")


def _count_rows(archive: NpzArchive, group: Group) -> None:
    shapes = {key: archive.header(key).shape for key in group.keys.values()}
    counts = {key: shape[0] if shape else None for key, shape in shapes.items()}
    first = next(iter(counts))
    for key, count in counts.items():
        if count is None or count != counts[first]:
            raise ValueError(
                f"`{key}` must have one entry per row, as `{first}` of shape {shapes[first]}, but its shape is "
                f"{shapes[key]}; save arrays of the same rows."
            )
    group.rows = counts[first] or 0
