"""Which clips there are, and their files."""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from datasets_scripts.schema import MODALITIES, SPLITS
from datasets_scripts.synthetic import DEGREES, review
from datasets_scripts.synthetic_clips.faces import Look, Pose, draw_face, draw_look
from datasets_scripts.synthetic_clips.mp4 import write_mp4
from datasets_scripts.synthetic_clips.voices import SAMPLING_RATE, Speech, Voice, draw_voice, speak, syllables

COLUMNS = ("video_id", "clip_id", "text", "label", "label_T", "label_A", "label_V", "annotation", "mode")
CLIPS_PER_SPEAKER = 5
WIDTH, HEIGHT = 160, 120
FRAMES_PER_SECOND = 15
SYLLABLES = range(6, 14)  # of a sentence: one and a half to three seconds


@dataclass(frozen=True)
class SyntheticClips:
    """
    Description of a set of clips; the same arguments give the same pictures and sounds.

    A speaker has a face and a voice, five clips, and is in one split alone. Per clip a common sentiment is drawn from
    [-3, 3]; each modality has it, or, with probability `disagreement`, one of its own.

    - Text says it in adjectives, two at most (see `datasets_scripts.synthetic`).
    - Audio has it in the pitch, its movement, the loudness and the brightness of the voice (see `voices`).
    - Vision has it in the curve of the mouth, cheeks, lids and brows, which grows to its height within the clip and
      stays; the mouth opens with the voice.

    Speakers differ in pitch, colour and shape by more than a sentiment changes them. `label_A` and `label_V` are what
    was drawn plus the noise of those who would have labelled it, `label_T` what the words mean; `label` is their mean,
    weighted 2 : 1 : 1, with text first.

    Args:
        clips (`int`): How many, at least 3; the last speaker may have fewer than five.
        seed (`int`): Of everything.
        disagreement (`float`): How often a modality has a sentiment of its own.
        label_noise (`float`): Standard deviation of the noise in `label_A` and `label_V`.
    """

    clips: int = 60
    seed: int = 0
    disagreement: float = 0.5
    label_noise: float = 0.2

    def __post_init__(self) -> None:
        if not isinstance(self.clips, int) or self.clips < len(SPLITS):
            raise ValueError(f"`clips` must be a number, at least {len(SPLITS)}, one per split; got {self.clips!r}.")
        if not 0 <= self.disagreement <= 1:
            raise ValueError(f"`disagreement` must be a share between 0 and 1; got {self.disagreement!r}.")
        if not self.label_noise >= 0:
            raise ValueError(f"`label_noise` must not be negative; got {self.label_noise!r}.")

    def __iter__(self) -> Iterator[Clip]:
        speakers = max(len(SPLITS), -(-self.clips // CLIPS_PER_SPEAKER))
        for number in range(speakers):
            random = np.random.default_rng([self.seed, number])
            look, voice = draw_look(random), draw_voice(random)
            for clip in range(number, self.clips, speakers):
                own = np.random.default_rng([self.seed, number, clip])
                yield self._clip(f"speaker{number:03d}", clip // speakers, _split(number, speakers), look, voice, own)

    def _clip(self, video_id: str, clip_id: int, mode: str, look: Look, voice: Voice, random) -> Clip:
        common = random.uniform(-3, 3)
        wanted = {m: random.uniform(-3, 3) if random.random() < self.disagreement else common for m in MODALITIES}
        text, text_label = _sentence(random, wanted["text"])
        labels = {"label_T": text_label}
        for name, modality in (("label_A", "audio"), ("label_V", "vision")):
            labels[name] = float(np.clip(wanted[modality] + random.normal(scale=self.label_noise), -3, 3))
        label = (2 * labels["label_T"] + labels["label_A"] + labels["label_V"]) / 4
        row = {"video_id": video_id, "clip_id": clip_id, "text": text, "label": label, **labels}
        row |= {"annotation": "Positive" if label > 0 else "Negative" if label < 0 else "Neutral", "mode": mode}
        speech = speak(text, voice, wanted["audio"] / 3, random)
        poses = list(_poses(speech, wanted["vision"] / 3, random))
        return Clip(row, look, speech, poses)


@dataclass(frozen=True)
class Clip:
    """
    A clip before it is a file.

    Attributes:
        row: of label.csv, by `COLUMNS`.
        look: the speaker's face.
        speech: its sound.
        poses: the face in each frame.
    """

    row: dict[str, Any]
    look: Look
    speech: Speech
    poses: list[Pose]

    def frames(self) -> Iterator[np.ndarray]:
        """Pictures (height, width, 3), uint8 RGB."""
        for pose in self.poses:
            yield draw_face(self.look, pose, WIDTH, HEIGHT)


def write_synthetic_clips(folder: str | os.PathLike[str], clips: int = 60, seed: int = 0, **options: Any) -> list[dict]:
    """
    Writes the clips and their labels, as the package says. The folder has its name only when it is whole.

    Args:
        folder: where; it must not exist yet, or be empty.
        clips, seed, options: of `SyntheticClips`.

    Returns:
        The rows of label.csv.

    Raises:
        ValueError: the folder has something in it, or an option is wrong.
        ImportError: PyAV is not installed.
    """
    description = SyntheticClips(clips, seed, **options)
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"`folder` must not exist yet, or be empty; {folder} is not. Give another, or remove it.")
    incomplete = folder.with_name(f"{folder.name}.incomplete")
    if incomplete.exists():
        shutil.rmtree(incomplete)
    rows = []
    for clip in description:
        path = incomplete / "Raw" / clip.row["video_id"] / f"{clip.row['clip_id']}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_mp4(path, clip.frames(), FRAMES_PER_SECOND, clip.speech.sound, SAMPLING_RATE)
        rows.append(clip.row)
    with open(incomplete / "label.csv", "w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, COLUMNS)
        table.writeheader()
        table.writerows({k: f"{v:.4f}" if isinstance(v, float) else v for k, v in row.items()} for row in rows)
    if folder.exists():
        folder.rmdir()
    incomplete.rename(folder)
    return rows


def _split(number: int, speakers: int) -> str:
    """One speaker in six is for validation, one in six for the test, at least one each."""
    held_out = max(1, round(speakers / 6))
    if number < speakers - 2 * held_out:
        return SPLITS[0]
    return SPLITS[1] if number < speakers - held_out else SPLITS[2]


def _sentence(random, wanted: float) -> tuple[str, float]:
    """
    A short review whose sentiment is near `wanted`, and what it is exactly. Without "not" and "slightly": a hundred
    clips are too few to learn what they do.
    """
    while True:
        text, value = review(random, wanted)
        if len(syllables(text)) in SYLLABLES and not DEGREES.keys() & text.split():
            return text, value


def _poses(speech: Speech, sentiment: float, random) -> Iterator[Pose]:
    """The face of each frame: it sways, blinks, speaks, and its expression grows."""
    place, size = random.uniform(-0.06, 0.06, size=2), random.uniform(0.92, 1.04)
    phases, speeds = random.uniform(0, 2 * np.pi, size=4), random.uniform(0.4, 1.1, size=4)
    blink = random.uniform(0.3, speech.seconds)
    onset = random.uniform(0.0, 0.25) * speech.seconds
    for frame in range(int(speech.seconds * FRAMES_PER_SECOND)):
        time = (frame + 0.5) / FRAMES_PER_SECOND
        sway = np.sin(2 * np.pi * speeds * time + phases)
        around = slice(max(0, int((time - 0.02) * SAMPLING_RATE)), int((time + 0.02) * SAMPLING_RATE))
        yield Pose(
            across=float(place[0] + 0.012 * sway[0]),
            down=float(0.4 * place[1] + 0.010 * sway[1]),
            roll=float(0.05 * sway[2]),
            size=float(size + 0.012 * sway[3]),
            sentiment=sentiment * (0.35 + 0.65 * float(np.clip((time - onset) / 0.5, 0, 1))),
            opening=float(speech.opening[around].mean()),
            lids=float(abs(time - blink) < 0.08),
        )
