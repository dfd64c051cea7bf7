"""Which split the videos of a corpus belong to: from the user's own folds, or the standard ones of a known corpus."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from datasets_scripts import corpora
from datasets_scripts.schema import SPLIT_NAMES, SPLITS

FOLDS_FILE = "folds.json"
_MAX_BYTES = 1 << 26
_SHAPE = '{"train": ["video", ...], "valid": [...], "test": [...]}'
_SHOWN = 5


def split_videos(
    videos: Iterable[str], folds_file: Path | None, corpus: str | None
) -> tuple[dict[str, str], list[str]]:
    """The split of each video, and warnings; videos that are in no fold are left out.

    Args:
        videos: ids.
        folds_file: the user's folds, which go first; None where there are none.
        corpus: the key in `corpora.CORPORA`; "none" for none of them; None to tell by the ids.

    Raises:
        ValueError: the folds are not as `_SHAPE` says, or have none of the videos.
    """
    videos = list(videos)
    warnings: list[str] = []
    key = corpora.corpus_of(videos, corpus)
    if folds_file is not None:
        folds, source = read_folds(folds_file), folds_file.name
        absent = sorted(set(folds) - set(videos))
        if absent:
            warnings.append(f"{len(absent)} videos of {source} are not in the sequences: {_some(absent)}")
    else:
        folds, source = corpora.standard_folds(key) if key else {}, f"the standard folds of {key}"
    if not folds:
        warnings.append(
            "it is not known which videos are for training, validation and test, so all are in train; say it with a "
            f"file {FOLDS_FILE} beside the sequences: {_SHAPE}"
        )
        return dict.fromkeys(videos, "train"), warnings
    left = [video for video in videos if video not in folds]
    if len(left) == len(videos):
        raise ValueError(
            f"{source} must have the videos of the sequences, but it has none of {_some(videos)}; correct it, or put a "
            f"{FOLDS_FILE} beside the sequences."
        )
    if left:
        warnings.append(f"{len(left)} of {len(videos)} videos are in none of {source} and were left out: {_some(left)}")
    return {video: folds[video] for video in videos if video in folds}, warnings


def read_folds(path: Path) -> dict[str, str]:
    """The split of each video in a file of the user's folds. Raises ValueError as `split_videos`."""
    if path.stat().st_size > _MAX_BYTES:
        raise ValueError(f"{path.name} must have at most {_MAX_BYTES} bytes; is it the file of folds?")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path.name} must be JSON, {_SHAPE}, but {str(error)[:200]}; correct it.") from error
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{path.name} must be {_SHAPE}, but it is a {type(content).__name__}; correct it.")
    folds: dict[str, str] = {}
    for name, videos in content.items():
        split = SPLIT_NAMES.get(name)
        if split is None:
            raise ValueError(f"{path.name} must name the splits {SPLITS}, but it has {name[:100]!r}; correct it.")
        if not isinstance(videos, list) or not all(isinstance(video, str) for video in videos):
            raise ValueError(f"{path.name} must list the ids of the videos of {name!r} as strings; correct it.")
        for video in videos:
            if folds.setdefault(video, split) != split:
                raise ValueError(f"{path.name} has {video!r} in {folds[video]!r} and in {split!r}; keep one of them.")
    if not folds:
        raise ValueError(f"{path.name} must list videos, {_SHAPE}, but it has none; correct it, or delete it.")
    return folds


def _some(videos: list[str]) -> str:
    return ", ".join(videos[:_SHOWN]) + (", ..." if len(videos) > _SHOWN else "")
