"""Computational sequences of CMU-MultimodalSDK, a .csd file or a folder of them, to rows.

    >>> from datasets_scripts import load_dataset
    >>> rows = load_dataset("cmu_mosi", align="words")  # a folder of .csd files  # doctest: +SKIP

Rules of the conversion
-----------------------
What each sequence is for is found by looking at it (see `csd_sequences`); the options `words`, `text`, `audio`,
`vision` and `labels` name one where several fit.

With labels, a row is an interval of the labels: its id is `video$_$index`, the index that of the interval in the file,
as the SDK's `video[index]`; intervals may overlap and come in any order. Labels are one number, the sentiment, or
seven, the sentiment and the six emotions. Without labels, a row is a video, and there is no column `label`.

The text is the words that overlap with the interval, without pauses (`sp`). The frames of a feature sequence are, by
the option `align`,

- "labels": those that overlap with the interval, each modality at its own rate;
- "words": one per word of the text, the mean of the frames that overlap with the whole word. The mean of a feature is
  that of its finite values. A word without a frame gets zeros, which are counted; a modality without a frame in the
  whole row is empty. Without a sequence of words, the frames of the text (word vectors) take the place of the words.

`csd_alignment` says what overlaps. A video that a sequence lacks is empty there, and is not dropped.

Splits are those of `folds.json` in the folder, `{"train": [videos], "valid": [...], "test": [...]}`; failing that, the
standard folds of a corpus that is known by its videos; failing that, everything is in train. Videos in none of the
folds are left out, with a warning.

A video is read at a time, and of its features one row at a time. Files are checked before their arrays are read; what
is refused is in `csd_file` and `csd_arrays`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np

from datasets_scripts.builder import Source, SourceBuilder, SourceConfig
from datasets_scripts.csd.csd_alignment import means_of_finite
from datasets_scripts.csd.csd_folds import FOLDS_FILE, split_videos
from datasets_scripts.csd.csd_sequences import PAUSE, ROLES, Entries, Selection, Sequence, Survey, select, video_of
from datasets_scripts.schema import EMOTIONS, MODALITIES, SPLITS, feature_sizes, row_features
from datasets_scripts.tally import Tally

ALIGNMENTS = ("labels", "words")
_SHOWN = 5


@dataclass
class ComputationalSequencesConfig(SourceConfig):
    """Which sequences to convert, and how.

    Attributes:
        align: "labels" or "words"; see the module.
        words, text, audio, vision, labels: name of the sequence that is read as this, that of its file without `.csd`
            or that in the file; found by looking where it is None.

    Raises:
        ImportError: h5py is not installed.
        ValueError: `align` is unknown, a name is not there, or a file is damaged; and as in `SourceConfig`.
    """

    align: str = "labels"
    words: str | None = None
    text: str | None = None
    audio: str | None = None
    vision: str | None = None
    labels: str | None = None

    def __post_init__(self) -> None:
        if self.align not in ALIGNMENTS:
            raise ValueError(f"`align` must be one of {ALIGNMENTS}, but it is {self.align!r}; correct it.")
        super().__post_init__()

    def selection(self) -> Selection:
        """The sequences that are read."""
        return select(self.path, {role: getattr(self, role) for role in ROLES})

    @property
    def folds_file(self) -> Path | None:
        """The user's own folds, where there are any."""
        file = self.path / FOLDS_FILE
        return file if file.is_file() else None

    def files(self) -> list[Path]:
        """The sequences that are read, and the folds, sorted."""
        folds = [] if self.folds_file is None else [self.folds_file]
        return sorted([*set(self.selection().files.values()), *folds])


class ComputationalSequences(SourceBuilder):
    """Converts one .csd file or a folder of them; see the module.

    What is held of the source is the intervals and the words of one video, and the features of one row.
    """

    BUILDER_CONFIG_CLASS = ComputationalSequencesConfig
    SOURCE_FORMAT = "CMU-MultimodalSDK sequences (.csd)"

    def inspect(self) -> Source:
        selection = self.config.selection()
        surveys: dict[str, Survey] = {}
        for role, path in selection.files.items():
            with Sequence(role, path) as sequence:
                surveys[role] = sequence.survey()
        _check_labels(surveys.get("labels"), selection)
        warnings = [*selection.warnings, *self._alignment_warnings(surveys)]
        segments = _segments(surveys)
        warnings += _missing(surveys, segments)
        videos = list(dict.fromkeys(video_of(entry)[0] for entry in segments))
        folds, remarks = split_videos(videos, self.config.folds_file, self.config.corpus)
        shards: dict[str, list[Any]] = {split: [] for split in SPLITS}
        for entry in segments:
            if video_of(entry)[0] in folds:
                shards[folds[video_of(entry)[0]]].append(entry)
        shards = {split: entries for split, entries in shards.items() if entries}
        return Source(
            features=_features(surveys),
            shards=shards,
            rows={split: sum(segments[entry] for entry in entries) for split, entries in shards.items()},
            row_bytes=self._row_bytes(surveys, sum(segments.values())),
            padding={f"{role}_values": self._origin(selection, role) for role in surveys if role in MODALITIES},
            ignored_keys=selection.ignored,
            warnings=[*warnings, *remarks],
        )

    def read_rows(self, split: str, shards: list[Any], tally: Tally) -> Iterator[dict[str, Any]]:
        with ExitStack() as opened:
            sequences = {
                role: opened.enter_context(Sequence(role, path)) for role, path in self.config.selection().files.items()
            }
            for entry in shards:
                yield from _Video(entry, sequences, feature_sizes(self.info.features), tally).rows(self.config.align)

    def _alignment_warnings(self, surveys: dict[str, Survey]) -> list[str]:
        if self.config.align != "words" or "words" in surveys:
            return []
        if "text" in surveys:
            return ["there is no sequence of words, so the frames of the text were taken as the words to align to"]
        raise ValueError(
            "`align` is 'words', but there is no sequence of words or word vectors to align to; put one into the "
            "folder, name it with the option `words`, or leave `align` out."
        )

    def _origin(self, selection: Selection, role: str) -> str:
        """What decides the steps of a row."""
        averaged = ", averaged over words" if self.config.align == "words" else ""
        return f"intervals of {selection.names[role]}{averaged}"

    def _row_bytes(self, surveys: dict[str, Survey], rows: int) -> int:
        """Of the mean row, as if its frames were all frames."""
        reference = "words" if "words" in surveys else "text"
        size = 1000
        for role in MODALITIES:
            if role in surveys:
                steps = surveys[reference if self.config.align == "words" else role].frames
                size += 4 * surveys[role].width * sum(steps.values()) // max(rows, 1)
        return size


class _Video:
    """The rows of an entry: of a video, or of a part that the SDK has cut out of one."""

    def __init__(self, entry: str, sequences: dict[str, Sequence], sizes: dict[str, int], tally: Tally) -> None:
        self._entry = entry
        self._sizes = sizes
        self._tally = tally
        tracks = {role: sequence.track(entry) for role, sequence in sequences.items()}
        self._labels = tracks.pop("labels", None)
        self._tracks = {role: track for role, track in tracks.items() if track is not None}
        self._words = self._tracks["words"].words() if "words" in self._tracks else []
        self._reference = "words" if "words" in sequences else "text"
        for role, track in self._tracks.items():
            if not track.timeline.is_sorted:
                tally.count("text" if role == "words" else f"{role}_values", "sorted_sequences", 1)

    def rows(self, align: str) -> Iterator[dict[str, Any]]:
        video, part = video_of(self._entry)
        if self._labels is None:
            yield self._row(f"{video}$_${part}" if part else video, None, align)
            return
        labels = self._labels.read(np.arange(len(self._labels.timeline)))
        for index in range(len(labels)):
            name = f"{video}$_${index}"
            if part is not None:
                name = f"{video}$_${part}" if len(labels) == 1 else f"{video}$_${part}_{index}"
            row = self._row(name, self._labels.timeline.interval(index), align)
            yield {**row, **self._label(labels[index], index)}

    def _row(self, name: str, interval: tuple[float, float] | None, align: str) -> dict[str, Any]:
        spoken = []
        if "words" in self._tracks:
            within = self._positions("words", interval)
            spoken = [position for position in within.tolist() if self._words[position] not in ("", PAUSE)]
        row: dict[str, Any] = {"id": name, "text": " ".join(self._words[position] for position in spoken)}
        steps = np.array(spoken, np.int64)
        if self._reference == "text" and "text" in self._tracks and align == "words":
            steps = self._positions("text", interval)
        for modality, size in self._sizes.items():
            row[f"{modality}_values"] = np.zeros((0, size), np.float32)
            if modality in self._tracks:
                if align == "labels" or modality == self._reference:
                    row[f"{modality}_values"] = self._tracks[modality].read(self._positions(modality, interval))
                else:
                    row[f"{modality}_values"] = self._aligned(modality, steps)
        return row

    def _positions(self, role: str, interval: tuple[float, float] | None) -> np.ndarray:
        timeline = self._tracks[role].timeline
        return timeline.all() if interval is None else timeline.within(*interval)

    def _aligned(self, modality: str, steps: np.ndarray) -> np.ndarray:
        """The mean frame of each step of the reference, (steps, width); of shape (0, width) where there is no frame."""
        means = np.zeros((len(steps), self._sizes[modality]))
        if not len(steps):
            return means
        track, column = self._tracks[modality], f"{modality}_values"
        reference = self._tracks[self._reference].timeline
        hits = [track.timeline.within(*reference.interval(step)) for step in steps.tolist()]
        lengths = np.array([len(hit) for hit in hits])
        if not lengths.any():
            return means[:0]
        together = np.concatenate(hits)
        used = np.unique(together)
        frames = track.read(used)[np.searchsorted(used, together)]
        means[lengths > 0], left_out = means_of_finite(frames, lengths[lengths > 0])
        self._tally.count(column, "left_out_values", left_out)
        self._tally.count(column, "filled_steps", np.count_nonzero(lengths == 0))
        return means

    def _label(self, values: np.ndarray, index: int) -> dict[str, Any]:
        with np.errstate(over="ignore"):  # a number too large for float32 becomes infinite and is refused
            values = values.astype(np.float32)
        if not np.isfinite(values).all() or (values[1:] < 0).any():
            raise ValueError(
                f"labels of {self._entry} must be finite, and intensities of emotions 0 or more, but row {index} is "
                f"{values.tolist()}; correct it, or leave the interval out."
            )
        return {"label": float(values[0]), **({"emotions": values[1:]} if len(values) > 1 else {})}


def _check_labels(labels: Survey | None, selection: Selection) -> None:
    if labels is not None and labels.width not in (1, 1 + len(EMOTIONS)):
        raise ValueError(
            f"{selection.files['labels'].name} must have one label per interval, or seven with the emotions "
            f"{', '.join(EMOTIONS)}, but it has {labels.width}; name another sequence with the option `labels`."
        )


def _features(surveys: dict[str, Survey]) -> datasets.Features:
    sizes = {role: survey.width for role, survey in surveys.items()}
    return row_features(
        text_feature_size=sizes.get("text"),
        audio_feature_size=sizes.get("audio"),
        vision_feature_size=sizes.get("vision"),
        label="labels" in sizes,
        emotions=sizes.get("labels", 1) > 1,
    )


def _segments(surveys: dict[str, Survey]) -> dict[str, int]:
    """Rows of each entry that has some, in the order of the rows."""
    if "labels" in surveys:
        found = {entry: count for entry, count in surveys["labels"].frames.items() if count}
        others = [survey for role, survey in surveys.items() if role != "labels"]
        if all(len(_lacking(survey, found)) == len(found) for survey in others):
            raise ValueError(
                f"the labels must be of the videos of the other sequences, but none of {_some(list(found))} is there; "
                f"those have {_some(list(others[0].frames))}."
            )
    else:
        entries = {entry for survey in surveys.values() for entry, frames in survey.frames.items() if frames}
        # Parts of a video that another sequence has as a whole come with it.
        found = {entry: 1 for entry in entries if video_of(entry)[1] is None or video_of(entry)[0] not in entries}
    return {entry: found[entry] for entry in sorted(found, key=_by_video_and_part)}


def _by_video_and_part(entry: str) -> tuple[str, int]:
    video, part = video_of(entry)
    return video, int(part or 0)


def _missing(surveys: dict[str, Survey], segments: dict[str, int]) -> list[str]:
    """What some sequences have and others lack."""
    warnings = []
    if "labels" not in surveys:
        warnings.append(
            "there is no sequence of labels, so a row is a video without a label: it can be predicted, not trained on"
        )
    for role, survey in surveys.items():
        lacking = _lacking(survey, segments)
        if lacking:
            warnings.append(f"{role} lacks {len(lacking)} of {len(segments)} videos: {_some(lacking)}")
    labelled = Entries(list(segments))
    others = {entry for survey in surveys.values() for entry in survey.frames if not labelled.find(entry)}
    if "labels" in surveys and others:
        warnings.append(f"{len(others)} videos without labels were left out: {_some(sorted(others))}")
    return warnings


def _lacking(survey: Survey, segments: dict[str, int]) -> list[str]:
    entries = Entries([entry for entry, frames in survey.frames.items() if frames])
    return [entry for entry in segments if not entries.find(entry)]


def _some(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
