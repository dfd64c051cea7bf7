"""The only module that talks to checkpoints: from what a page was given to an answer, or to a message."""

from __future__ import annotations

import logging
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sentiment_page.limits import PageError, PageLimits
from sentiment_page.uploads import check_media, check_subtitles

logger = logging.getLogger(__name__)

TASK = "multimodal-sentiment-analysis"
MODALITIES = ("text", "audio", "vision")
# A window of the timeline is a quarter of the clip, within these seconds, and moves by a quarter of itself.
SHORTEST_WINDOW, LONGEST_WINDOW = 1.0, 4.0


@dataclass(frozen=True)
class Question:
    """
    What a page, or a program, asks.

    Args:
        checkpoint: One of the names that the page was started with.
        video, audio: Paths of uploads; one of them, or none.
        text: A transcript or, without media, what is analysed.
        subtitles: Path of a subtitle file, in place of `text`.
        use: The modalities that the checkpoint may look at.
        noise: From 0 to 1, added to the features.
    """

    checkpoint: str
    video: str | None = None
    audio: str | None = None
    text: str | None = None
    subtitles: str | None = None
    use: Sequence[str] = MODALITIES
    noise: float = 0.0

    @property
    def files(self) -> tuple[str | None, ...]:
        return (self.video, self.audio, self.subtitles)


class Checkpoints:
    """
    The checkpoints that the page offers, each loaded when it is first needed.

    Args:
        names: Folders of runs, or names on the Hub.
        transcriber: A speech recognition model for clips without a transcript.
        load: Makes a pipeline from a name.
    """

    def __init__(
        self,
        names: Sequence[str],
        transcriber: str | None = None,
        load: Callable[[str], Any] | None = None,
    ):
        if not names:
            raise ValueError("`names` must have at least one checkpoint.")
        self.names = tuple(dict.fromkeys(names))
        self.transcriber = transcriber
        self._load = load or load_pipeline
        self._loaded: dict[str, Any] = {}
        self._lock = threading.Lock()

    def __getitem__(self, name: str) -> Any:
        """The pipeline of a checkpoint."""
        if name not in self.names:
            raise PageError(f"{name} is not a checkpoint of this page; choose one of {', '.join(self.names)}.")
        with self._lock:
            if name not in self._loaded:
                self._loaded[name] = self._load(name)
            return self._loaded[name]


def load_pipeline(name: str) -> Any:
    """A pipeline with the checkpoint's own code, which whoever starts the page trusts by naming the checkpoint."""
    from transformers import pipeline

    return pipeline(TASK, model=name, trust_remote_code=True)  # type: ignore[call-overload]


def answer(
    question: Question,
    checkpoints: Checkpoints,
    limits: PageLimits,
    say: Callable[[float, str], None] = lambda share, stage: None,
) -> dict[str, Any]:
    """
    Checks a question and asks its checkpoint.

    Args:
        question, checkpoints, limits: As their classes say.
        say: Called with the share that is done, from 0 to 1, and with what is done next.

    Returns:
        What the pipeline says of a clip: a dictionary that JSON can hold.

    Raises:
        PageError: for everything that a person should read, whoever's fault it is.
    """
    say(0.02, "Checking what was given")
    text, seconds = check_question(question, limits)
    try:
        say(0.1, "Loading the checkpoint")
        return _ask(checkpoints[question.checkpoint], checkpoints.transcriber, question, text, seconds, say)
    except PageError:
        raise
    except (ValueError, OSError, ImportError) as error:
        logger.info("Refused: %s", error)
        raise PageError(_without_folders(str(error), question)) from error
    except Exception as error:
        logger.exception("An analysis failed")
        raise PageError(
            "Something went wrong here, and it is not your fault. It was written to the log of the page; please try "
            "another clip."
        ) from error


def _ask(
    pipe: Any,
    transcriber: str | None,
    question: Question,
    text: str,
    seconds: float,
    say: Callable[[float, str], None],
) -> dict[str, Any]:
    known = tuple(pipe.model.config.modalities)
    dropped = tuple(modality for modality in known if modality not in question.use)
    if len(dropped) == len(known):
        raise PageError(f"This checkpoint looks at {_listed(known)} alone; switch that on.")
    options: dict[str, Any] = {"words": True, "noise": question.noise}
    media = {name: path for name, path in (("video", question.video), ("audio", question.audio)) if path}
    if not media:
        if "text" not in known:
            raise PageError(f"This checkpoint looks at {_listed(known)}, not at text; give a clip.")
        say(0.25, "Reading")
        return pipe(text=text, **options)
    stages = iter((0.2, 0.4, 0.6))
    window = min(max(seconds / 4, SHORTEST_WINDOW), LONGEST_WINDOW)
    options |= {"drop": dropped, "window": window, "stride": window / 4}
    with tempfile.TemporaryDirectory() as folder:
        transcript = question.subtitles
        if text:
            # As a file: what somebody typed must not be taken for the path of a file of this computer.
            transcript = str(Path(folder) / "words.txt")
            Path(transcript).write_text(text, encoding="utf-8")
        if transcript is None and transcriber is not None and "text" not in dropped:
            options["transcriber"] = transcriber
        return pipe(**media, transcript=transcript, progress=lambda stage: say(next(stages, 0.8), stage), **options)


def check_question(question: Question, limits: PageLimits) -> tuple[str, float]:
    """
    The text without spaces around it, and the length of the media in seconds, 0 without any.

    Raises:
        PageError: for what is missing, contradicts itself, or is beyond the limits.
    """
    text = (question.text or "").strip()
    if not (question.video or question.audio or text):
        if question.subtitles:
            raise PageError("Subtitles belong to a clip; add a video or a sound file.")
        raise PageError("There is nothing to analyse. Give a video, a sound file, or some text.")
    if question.video and question.audio:
        raise PageError("There are a video and a sound file. Remove one of them: a video's own sound is used.")
    if text and question.subtitles:
        raise PageError("There are a transcript and a subtitle file. Remove one of them.")
    if len(text) > limits.characters:
        raise PageError(f"The text has {len(text):,} characters; at most {limits.characters:,} are taken.")
    unknown = [modality for modality in question.use if modality not in MODALITIES]
    if unknown:
        raise PageError(f"{unknown[0]} is no modality; choose among {_listed(MODALITIES)}.")
    if not question.use:
        raise PageError("Everything is switched off. Switch on text, sound or pictures.")
    if not (question.video or question.audio) and "text" not in question.use:
        raise PageError("There is only text, and text is switched off. Switch it on, or add a clip.")
    if not 0 <= question.noise <= 1:
        raise PageError(f"Noise goes from 0 to 1; {question.noise:g} came.")
    seconds = 0.0
    if question.video:
        seconds = check_media(question.video, "video", limits)
    if question.audio:
        seconds = check_media(question.audio, "audio", limits)
    if question.subtitles:
        check_subtitles(question.subtitles, limits)
    return text, seconds


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:-1]) + (" and " if len(names) > 1 else "") + names[-1]


def _without_folders(message: str, question: Question) -> str:
    """A message that names uploads as their owner knows them."""
    for path in question.files:
        if path:
            message = message.replace(str(path), Path(path).name)
    return message
