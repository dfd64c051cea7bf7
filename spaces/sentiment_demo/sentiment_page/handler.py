"""Requests of pages and of programs: counted, answered, and their files deleted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sentiment_page.analysis import MODALITIES, Checkpoints, Question, answer
from sentiment_page.gradio_import import gradio as gr
from sentiment_page.limits import PageError, PageLimits, RateLimiter, network_address
from sentiment_page.result_masks import masks
from sentiment_page.result_summary import message, notes, summary
from sentiment_page.result_timeline import timeline
from sentiment_page.result_transcript import transcript
from sentiment_page.uploads import SessionFiles

PARTS = 7
"""Of what a page gets: a message, the summary, timeline, words, masks and notes, and the whole answer."""


class RequestHandler:
    """
    Args:
        checkpoints: That are offered.
        limits: What is refused.
        files: Of all uploads.
        behind_proxy: Whether visitors come through a proxy, as on the Hub.
    """

    def __init__(self, checkpoints: Checkpoints, limits: PageLimits, files: SessionFiles, behind_proxy: bool = False):
        self.checkpoints = checkpoints
        self.limits = limits
        self.files = files
        self.behind_proxy = behind_proxy
        self._limiter = RateLimiter(limits.requests_per_minute)

    def for_page(
        self,
        video: str | None,
        audio: str | None,
        text: str | None,
        subtitles: str | None,
        use: Sequence[str],
        noise: float,
        checkpoint: str,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008  # Gradio finds it by its default
    ) -> tuple[Any, ...]:
        """`PARTS` parts. The clip stays while the page is open, so that it can be played and asked about again."""
        question = Question(checkpoint, video, audio, text, subtitles, tuple(use), noise)
        self.files.hold(str(request.session_hash), question.files)
        try:
            found = self._answer(question, request, lambda share, stage: progress(share, desc=stage))
        except PageError as error:
            return (message(str(error)), *[""] * (PARTS - 2), None)
        return (
            "",
            summary(found),
            timeline(found, can_jump=bool(video)),
            transcript(found, can_jump=bool(video)),
            masks(found),
            notes(found.get("notes") or []),
            found,
        )

    def for_program(
        self,
        request: gr.Request,
        video: str | None = None,
        audio: str | None = None,
        text: str | None = None,
        subtitles: str | None = None,
        use: Sequence[str] = MODALITIES,
        noise: float | None = 0.0,
        checkpoint: str | None = None,
    ) -> dict[str, Any]:
        """
        Analyses a clip, sound or text. The files are deleted after the answer.

        Args:
            request: Whose it is.
            video, audio: A file; one of them, or neither.
            text: What is said in it or, without a file, what is analysed.
            subtitles: A .srt, .vtt or .txt file, in place of `text`.
            use: Which of "text", "audio" and "vision" the checkpoint may look at.
            noise: From 0 to 1.
            checkpoint: One of those that the page offers, by default the first.
        """
        try:
            with self.files.lent((video, audio, subtitles)):
                if not isinstance(use, (list, tuple)):
                    raise PageError(f"`use` must be a list of modalities; got {use!r}.")
                chosen = checkpoint or self.checkpoints.names[0]
                question = Question(chosen, video, audio, text, subtitles, tuple(map(str, use)), noise or 0.0)
                return self._answer(question, request)
        except PageError as error:
            raise gr.Error(str(error), print_exception=False) from None

    def closed(self, request: gr.Request) -> None:
        """A page was closed or loaded anew."""
        self.files.release(str(request.session_hash))

    def _answer(self, question: Question, request: gr.Request, *say) -> dict[str, Any]:
        forwarded = request.headers.get("x-forwarded-for")
        host = request.client.host if request.client else None
        self._limiter.count(network_address(host, forwarded, self.behind_proxy))
        return answer(question, self.checkpoints, self.limits, *say)
