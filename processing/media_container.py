"""Media files opened safely: what may be read, within which limits, which tracks, and what is known before decoding."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from processing.optional_dependency import require

# The container formats that are read. None of them can name another file or an address to be read in its place, as
# playlists (HLS, DASH, ffconcat, SDP, image sequences) can: those would hand out any file of a server.
CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,asf,flv,mpeg,mpegts,mpegvideo,m4v,h264,hevc,av1,obu,ivf,ogg,nut,mxf,dv,"
    "rm,gif,wav,w64,aiff,au,caf,flac,mp3,aac,ac3,eac3,amr,amrnb,amrwb,ape,tta,wv"
)

# Decoding in one thread: several processes share the cores, and a decoder's threads would fight over them.
DECODER_THREADS = 1

# Where neither the file nor the times of its pictures say.
DEFAULT_FRAMES_PER_SECOND = 25.0

# A track may end this much earlier than the media.
_EARLY_END_SECONDS = 0.5

FORMAT_WORDS = "MP4, MOV, WebM, Matroska, AVI, MPEG, WMV, FLV, WAV, MP3, AAC, FLAC or Ogg"


class MediaError(ValueError):
    """Media that cannot be read, or that are beyond a limit. The message is meant for whoever gave them."""


@dataclass(frozen=True)
class MediaLimits:
    """
    How large media may be. What is beyond is refused before it is decoded, or while, where its header is wrong.

    Args:
        max_seconds (`float`): Length.
        max_pixels (`int`): Pixels of a picture; by default those of 8K (8192 x 4320).
        max_bytes (`int`): Size of the file, or of the array.
    """

    max_seconds: float = 3600.0
    max_pixels: int = 8192 * 4320
    max_bytes: int = 4 * 2**30

    def __post_init__(self):
        for name in ("max_seconds", "max_pixels", "max_bytes"):
            if not getattr(self, name) > 0:
                raise ValueError(f"`{name}` must be above 0, but it is {getattr(self, name)!r}.")


@dataclass
class MediaInfo:
    """
    What is known of media.

    Args:
        name (`str`): Of the file, without its folder.
        seconds (`float`): Length: of the longer track, as the file says.
        has_audio, has_video (`bool`): Whether there is such a track that can be decoded. A cover picture is no video.
        width, height (`int`): Of the picture as it is shown: turned upright, with square pixels; 0 without video.
        rotation (`int`): By how many degrees the stored picture is turned clockwise to be shown: 0, 90, 180 or 270.
        frames_per_second (`float` or `None`): Pictures per second, on average; None where the file does not say.
        sampling_rate, channels (`int`): Of the sound; 0 without.
        notes (list of `str`): What a person should know, a sentence each. Reading adds to it: damage is found then.
    """

    name: str
    seconds: float = 0.0
    has_audio: bool = False
    has_video: bool = False
    width: int = 0
    height: int = 0
    rotation: int = 0
    frames_per_second: float | None = None
    sampling_rate: int = 0
    channels: int = 0
    notes: list[str] = field(default_factory=list)

    def note_early_end(self, word: str, end: float) -> None:
        """Adds a sentence where a track ("sound" or "video") ends well before the media, as in a file that was cut."""
        if end < self.seconds - _EARLY_END_SECONDS:
            self.add_note(f"The {word} ends at {end:.1f} s, though the media last {self.seconds:.1f} s.")

    def add_note(self, note: str) -> None:
        """Adds a sentence, unless it is there: media are often read more than once."""
        if note not in self.notes:
            self.notes.append(note)


def check_file(source: Any, limits: MediaLimits) -> Path:
    """The path of a file of this computer, once its kind and size are fine."""
    try:
        path = Path(source)
        status = os.stat(path)
    except (OSError, ValueError, TypeError) as error:
        raise FileNotFoundError(
            f"`source` must be a file on this computer, but {str(source)!r} cannot be found ({error}). Addresses are "
            "not fetched: download the file first."
        ) from None
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "no regular file"
        raise MediaError(f"`source` must be a media file, but {path.name!r} is {kind}; name a file.")
    if status.st_size == 0:
        raise MediaError(f"{path.name!r} is empty (0 bytes); was it copied or uploaded completely?")
    if status.st_size > limits.max_bytes:
        raise MediaError(
            f"{path.name!r} has {status.st_size:,} bytes, and the limit is {limits.max_bytes:,} (`max_bytes`); cut or "
            "compress it, or raise the limit."
        )
    return path


@contextmanager
def opened(path: Path, limits: MediaLimits) -> Iterator[Any]:
    """The container of a file, for reading; nothing but this file can be read through it."""
    av = require("av", "Reading video and sound", "av")
    options = {
        "format_whitelist": CONTAINERS,
        "protocol_whitelist": "none",
        "max_pixels": str(limits.max_pixels),
        "threads": str(DECODER_THREADS),
    }
    try:
        # A Python file rather than a name: FFmpeg takes names like "concat:..." or "http:..." for something else.
        source = open(path, "rb")  # noqa: SIM115
    except OSError as error:
        raise MediaError(f"{path.name!r} cannot be opened ({error.strerror}); may it be read?") from None
    with source as file:
        try:
            container = av.open(file, options=options, buffer_size=2**17, metadata_errors="replace")
        except (av.error.FFmpegError, UnicodeError) as error:
            raise MediaError(_not_media(path, error)) from None
        with container:
            for stream in container.streams:
                if stream.codec_context is not None:
                    stream.codec_context.thread_count = DECODER_THREADS
                    stream.codec_context.options = {"max_pixels": options["max_pixels"]}
            yield container


def _not_media(path: Path, error: Exception) -> str:
    reason = getattr(error, "strerror", None) or str(error)
    if isinstance(error, require("av", "Reading video and sound", "av").error.ArgumentError):
        reason = "files of its kind are not opened"
    return (
        f"{path.name!r} is not a media file that can be read ({reason}): it is of another kind, damaged at its start, "
        f"or cut off before it was finished. Give {FORMAT_WORDS}; playlists and single pictures are not read."
    )


def is_picture_track(stream: Any) -> bool:
    """Whether a video stream is a picture that goes with the sound: the cover of an album, thumbnails."""
    kinds = require("av", "Reading video and sound", "av").stream.Disposition
    return bool(stream.disposition & (kinds.attached_pic | kinds.timed_thumbnails))


def choose_stream(container: Any, kind: str, info: MediaInfo) -> Any | None:
    """The stream of a kind ("audio" or "video") to read: of those that can be decoded the default one, or the first."""
    streams = [stream for stream in getattr(container.streams, kind) if kind == "audio" or not is_picture_track(stream)]
    decodable = [stream for stream in streams if stream.codec_context is not None]
    word = "sound" if kind == "audio" else "video"
    if streams and not decodable:
        info.add_note(f"The {word} is in a format that cannot be decoded here; it is read as if there were none.")
    if not decodable:
        return None
    default = require("av", "Reading video and sound", "av").stream.Disposition.default
    chosen = next((stream for stream in decodable if stream.disposition & default), decodable[0])
    if len(streams) > 1:
        place = streams.index(chosen) + 1
        info.add_note(f"Of {len(streams)} {word} tracks, number {place} is read: the default one, or the first.")
    return chosen


def stream_seconds(stream: Any, value: int | None) -> float | None:
    """A time of a stream in seconds."""
    return None if value is None or stream.time_base is None else float(value * stream.time_base)


def packets(container: Any, stream: Any) -> Iterator[Any]:
    """The packets of a stream; None for a place where the file cannot be read, after which it goes on."""
    av = require("av", "Reading video and sound", "av")
    for other in container.streams:
        if other.index != stream.index:
            other.discard = av.stream.Discard.all
    failures = 0
    source = container.demux(stream)
    while True:
        try:
            packet = next(source)
        except StopIteration:
            return
        except (av.error.FFmpegError, OSError):
            failures += 1
            yield None
            if failures > 100:
                return
            source = container.demux(stream)
            continue
        yield packet


def decoded(container: Any, stream: Any) -> Iterator[Any]:
    """The frames of a stream in order; None for a piece that cannot be decoded."""
    av = require("av", "Reading video and sound", "av")
    for packet in packets(container, stream):
        # Decoders make noise of what is encrypted, rather than refuse it.
        if packet is None or packet.has_sidedata("encryption_info"):
            yield None
            continue
        try:
            frames = packet.decode()
        except av.error.EOFError:
            continue
        except (av.error.FFmpegError, ValueError):
            yield None
            continue
        yield from frames


def go_to(container: Any, stream: Any, seconds: float) -> bool:
    """
    Goes to the last place at or before a time (of the file's own clock) from which a stream can be decoded.

    False where that is not possible, or not to be trusted: in MPEG program streams, times after a jump can be wrong by
    a picture.
    """
    if container.format.name == "mpeg":
        return False
    try:
        container.seek(int(seconds / stream.time_base), backward=True, stream=stream)
    except (OSError, ValueError):
        return False
    return True


def too_long(name: str, seconds: float, limits: MediaLimits) -> str:
    """What is said of media beyond the limit on length."""
    return (
        f"{name!r} lasts {duration_words(seconds)}, and the limit is {duration_words(limits.max_seconds)} "
        "(`max_seconds`); cut it into shorter pieces, or raise the limit."
    )


def too_many_pixels(name: str, width: int, height: int, limits: MediaLimits) -> str:
    """What is said of pictures beyond the limit on pixels."""
    return (
        f"{name} has pictures of {width} x {height} pixels, {width * height:,} in all, and the limit is "
        f"{limits.max_pixels:,} (`max_pixels`); make it smaller, or raise the limit."
    )


def duration_words(seconds: float) -> str:
    """A length of time for people: 10 h 0 min, 1 min 5 s, 2.5 s."""
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
