"""Rows that a pipeline gets: text, features or media; and what of a clip stands in its answer."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from typing import Any

from configuration.configuration_multimodal import MODALITIES
from processing.clip_analysis import AnalysisOptions
from processing.media_features import AUDIO_SUFFIXES, VIDEO_SUFFIXES, ClipFeatures
from processing.media_reading import MediaError

SEQUENCES = tuple(f"{modality}_values" for modality in MODALITIES)
INPUTS = ("text", "input_ids", "token_type_ids", *SEQUENCES)
# What media come in, and with.
MEDIA = ("video", "audio", "transcript", "transcriber", "sampling_rate", "start", "stop", "limits", "progress")
ANALYSIS = tuple(AnalysisOptions.__dataclass_fields__)
ANALYSIS_BATCH_SIZE = 16
# Columns of a corpus that are no inputs.
IGNORED = ("id", "label", *(f"{modality}_label" for modality in MODALITIES), "emotions")


def as_columns(row) -> Mapping:
    """A row as a dictionary of its columns. A string that ends as the name of a media file is one."""
    if isinstance(row, Mapping):
        return row
    if not isinstance(row, (str, os.PathLike)):
        raise ValueError(f"A row must be a text, a path or a dictionary of columns; got {type(row).__name__}.")
    kind = _kind_of_media(row)
    if kind is not None:
        return {kind: row}
    if isinstance(row, os.PathLike):
        known = ", ".join((*VIDEO_SUFFIXES, *AUDIO_SUFFIXES))
        raise ValueError(f"A path must be that of a media file ({known}); got {os.fspath(row)!r}.")
    return {"text": row}


def is_media(row) -> bool:
    """Whether a row names a video or sound."""
    if isinstance(row, (str, os.PathLike)):
        return _kind_of_media(row) is not None
    return isinstance(row, Mapping) and any(row.get(kind) is not None for kind in ("video", "audio"))


def _kind_of_media(path: str | os.PathLike) -> str | None:
    suffix = os.path.splitext(os.fspath(path))[1].lower()
    return "video" if suffix in VIDEO_SUFFIXES else "audio" if suffix in AUDIO_SUFFIXES else None


def refuse_unknown_columns(columns: Mapping, known: tuple[str, ...]) -> None:
    """Raises ValueError for a column that is neither known nor one of a corpus."""
    for name in columns:
        if name not in (*known, *IGNORED):
            nearest = difflib.get_close_matches(str(name), known, n=1, cutoff=0.0)[0]
            raise ValueError(
                f"`{name}` is not a column that a checkpoint reads; the nearest known one is `{nearest}`. Leave out "
                "what is no input."
            )


def read_media(processor, row: Mapping, asked: Mapping[str, Any]) -> tuple[ClipFeatures, dict[str, Any]]:
    """A clip, and the columns of it that the checkpoint reads."""
    refuse_unknown_columns(row, (*MEDIA, *IGNORED, "text"))
    given = {name: row[name] for name in MEDIA if row.get(name) is not None} | dict(asked)
    if row.get("text"):
        given.setdefault("transcript", row["text"])
    clip = processor.extract(**given)
    columns = processor.clip_columns(clip)
    if not columns:
        raise MediaError(" ".join(["Nothing was found that the checkpoint reads.", *clip.notes]))
    return clip, columns


def faces(clip: ClipFeatures | None) -> list[dict[str, Any]]:
    """Where the face of each step was found."""
    if clip is None or clip.vision is None or clip.vision.boxes is None:
        return []
    found = zip(clip.vision.times.tolist(), clip.vision.boxes.tolist(), strict=True)
    return [{"time": time, "box": box} for time, box in found]


def named_masks(
    processor, masks: dict[str, list[float]] | None, row: Mapping, clip: ClipFeatures | None
) -> dict[str, dict[str, Any]] | None:
    """The mean mask of each step, with the step's time, or its token."""
    if masks is None:
        return None
    named: dict[str, dict[str, Any]] = {}
    for modality, values in masks.items():
        sequence = None if clip is None or modality == "text" else getattr(clip, modality)
        if sequence is not None:
            named[modality] = {"times": sequence.times.tolist(), "values": values}
        elif modality == "text" and processor.text_input == "tokens":
            ids = row["input_ids"] if "input_ids" in row else processor.tokenize([row["text"]])[0]
            named[modality] = {"tokens": processor.tokenizer.convert_ids_to_tokens(ids), "values": values}
        else:
            named[modality] = {"values": values}
    return named


def notes_on_text(processor, row: Mapping) -> list[str]:
    """Whether the checkpoint reads all of the text."""
    if processor.text_input != "tokens" or "text" not in row:
        return []
    limit = processor.token_limit
    count = len(processor.tokenizer(row["text"], verbose=False)["input_ids"])
    return [f"The text has {count} tokens; the checkpoint reads the first {limit}."] if count > limit else []
