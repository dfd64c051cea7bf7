"""Uploads: what is refused before anything is computed, and their removal."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import av

from sentiment_page.limits import PageError, PageLimits

# Containers that hold pictures and sound themselves. Others, such as playlists, name further files to open.
FORMATS = "mov,mp4,m4a,matroska,webm,avi,mpeg,mpegts,mpegvideo,flv,asf,ogg,wav,mp3,flac,aac,aiff,amr,caf"
SUBTITLES = (".srt", ".vtt", ".txt")


def check_media(path: str | os.PathLike, wanted: str, limits: PageLimits) -> float:
    """
    Reads what the file says of itself and when its last packet ends, and decodes nothing.

    Args:
        path: The upload.
        wanted: "video" or "audio": the kind of stream that it must have.
        limits: Of size, pictures and length.

    Returns:
        Its length in seconds.

    Raises:
        PageError: for a file that is gone, empty, too large, too long, or no such media.
    """
    path = Path(path)
    _check_file(path, limits)
    kind = "video" if wanted == "video" else "sound"
    try:
        # A file rather than a path, which FFmpeg could take for an address.
        with path.open("rb") as file, av.open(file, options={"format_whitelist": FORMATS}) as container:
            streams = [stream for stream in container.streams if stream.type in ("video", "audio")]
            if not any(stream.type == wanted for stream in streams):
                raise PageError(_without_stream(path.name, wanted))
            for stream in streams:
                if stream.type == "video":
                    _check_picture(path.name, stream.codec_context, limits)
            seconds = _seconds(container, streams, limits)
    except (av.FFmpegError, ValueError) as error:
        if isinstance(error, PageError):
            raise
        raise PageError(
            f"{path.name} cannot be read as {kind}. Use "
            f"{'MP4, WebM, MOV, AVI or MPEG' if wanted == 'video' else 'WAV, MP3, FLAC, OGG or M4A'}, and check that "
            "the file plays elsewhere."
        ) from error
    if seconds > limits.seconds:
        raise PageError(f"{path.name} is longer than {limits.seconds:g} seconds. Please cut it to what matters.")
    return seconds


def check_subtitles(path: str | os.PathLike, limits: PageLimits) -> None:
    """
    Raises:
        PageError: for a file that is gone, empty, too long, or of another kind than `SUBTITLES`.
    """
    path = Path(path)
    if path.suffix.lower() not in SUBTITLES:
        raise PageError(f"{path.name} is no subtitle file that is read here; use {', '.join(SUBTITLES)}.")
    _check_file(path, limits)
    if path.stat().st_size > 10 * limits.characters:
        raise PageError(f"{path.name} has more than {10 * limits.characters:,} bytes, too many for a short clip.")


def _check_file(path: Path, limits: PageLimits) -> None:
    if not path.is_file():
        raise PageError(f"{path.name} is no longer here: uploads are deleted soon. Please choose the file again.")
    size = path.stat().st_size
    if size == 0:
        raise PageError(f"{path.name} is empty.")
    if size > limits.megabytes * 1e6:
        raise PageError(f"{path.name} has {size / 1e6:.0f} MB; at most {limits.megabytes:g} MB are taken.")


def _without_stream(name: str, wanted: str) -> str:
    if wanted == "video":
        return f"{name} has no pictures. If it is a sound file, put it under \u201cSound only\u201d."
    return f"{name} has no sound."


def _check_picture(name: str, codec, limits: PageLimits) -> None:
    if codec.width * codec.height > limits.megapixels * 1e6:
        raise PageError(
            f"The pictures of {name} have {codec.width} \u00d7 {codec.height} pixels; at most {limits.megapixels:g} "
            "million are taken. Please make it smaller."
        )


def _seconds(container, streams, limits: PageLimits) -> float:
    """When the last packet ends. What a header says of its length may be absent, or wrong."""
    first: dict[int, float] = {}
    length = 0.0
    for packet in container.demux(streams):
        if packet.pts is None or packet.time_base is None:
            continue
        start = float(packet.pts * packet.time_base)
        begin = first.setdefault(packet.stream_index, start)
        length = max(length, start - begin + float((packet.duration or 0) * packet.time_base))
        if length > limits.seconds:
            break
    return length


class SessionFiles:
    """
    Knows which uploads an open page or a request still needs, and deletes the others.

    An upload lies under a name made of its content, so that several may need the same file; it goes with the last.

    Args:
        folder: Of all uploads. Files elsewhere, such as the examples, are never deleted.
    """

    def __init__(self, folder: str | os.PathLike):
        self.folder = Path(folder).resolve()
        self.waiting: Callable[[], Iterable[str]] = tuple
        """The files of the requests that have not begun; whoever has the queue sets it."""
        self._pages: dict[str, set[Path]] = {}
        self._requests: Counter[Path] = Counter()
        self._lock = threading.Lock()

    def hold(self, page: str, paths: Iterable[str | os.PathLike | None]) -> None:
        """From now on the page needs these files alone."""
        with self._lock:
            before = self._pages.pop(page, set())
            now = self._uploads(paths)
            if now:
                self._pages[page] = now
            self._delete(before)

    def release(self, page: str) -> None:
        """The page was closed."""
        self.hold(page, ())

    @contextmanager
    def lent(self, paths: Iterable[str | os.PathLike | None]) -> Iterator[None]:
        """The files are needed until the request is answered, and then no more."""
        uploads = self._uploads(paths)
        with self._lock:
            self._requests.update(uploads)
        try:
            yield
        finally:
            with self._lock:
                self._requests.subtract(uploads)
                self._requests = +self._requests
                self._delete(uploads)

    def _uploads(self, paths: Iterable[str | os.PathLike | None]) -> set[Path]:
        resolved = {Path(path).resolve() for path in paths if path}
        return {path for path in resolved if path.is_relative_to(self.folder)}

    def _delete(self, paths: set[Path]) -> None:
        held = {path for held in self._pages.values() for path in held}
        for path in paths - held - self._requests.keys() - self._uploads(self.waiting()):
            path.unlink(missing_ok=True)
            if path.parent != self.folder and path.parent.is_dir() and not any(path.parent.iterdir()):
                path.parent.rmdir()
