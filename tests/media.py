"""Media that tests make: clips with every property and fault that real ones have, written by PyAV, small and quick."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

Paint = Callable[[int, float], np.ndarray]


def tone(seconds: float, sampling_rate: int = 16000, frequency: float = 220.0, amplitude: float = 0.3) -> np.ndarray:
    """A sine: (samples,) float32."""
    time = np.arange(round(seconds * sampling_rate)) / sampling_rate
    return (amplitude * np.sin(2 * np.pi * frequency * time)).astype(np.float32)


def voice(seconds: float, sampling_rate: int = 16000, seed: int = 0) -> np.ndarray:
    """Something like speech: syllables with a gliding pitch and harmonics, pauses, and noise: (samples,) float32."""
    generator = np.random.default_rng(seed)
    time = np.arange(round(seconds * sampling_rate)) / sampling_rate
    pitch = 140 + 40 * np.sin(2 * np.pi * 0.7 * time + seed) + 15 * np.sin(2 * np.pi * 2.3 * time)
    phase = 2 * np.pi * np.cumsum(pitch) / sampling_rate
    harmonics = sum(np.sin(k * phase) / k**1.3 for k in range(1, 12))
    syllables = np.clip(np.sin(2 * np.pi * 3.1 * time) + 0.4, 0, 1) * (np.sin(2 * np.pi * 0.31 * time) > -0.6)
    noise = 0.01 * generator.standard_normal(len(time))
    return (0.15 * harmonics * syllables + noise).astype(np.float32)


def grey(index: int, time: float, width: int = 64, height: int = 48) -> np.ndarray:
    """A uniform picture that tells its number: its brightness is `grey_level(index)`."""
    return np.full((height, width, 3), grey_level(index), np.uint8)


def grey_level(index: int) -> int:
    """Brightness of picture `index` of `grey`: neighbours differ by at least 23 of 256."""
    return 20 + (index * 23) % 207


def quadrants(width: int = 64, height: int = 48) -> np.ndarray:
    """A picture that tells how it is turned: red top left, green top right, blue bottom left, white bottom right."""
    picture = np.full((height, width, 3), 255, np.uint8)
    half_height, half_width = height // 2, width // 2
    picture[:half_height, :half_width] = (255, 0, 0)
    picture[:half_height, half_width:] = (0, 255, 0)
    picture[half_height:, :half_width] = (0, 0, 255)
    return picture


def write_clip(
    path: Path,
    seconds: float = 2.0,
    fps: float = 10,
    size: tuple[int, int] = (64, 48),
    paint: Paint | None = None,
    times: Sequence[float] | None = None,
    sound: np.ndarray | None = None,
    sampling_rate: int = 16000,
    video: bool = True,
    audio: bool = True,
    audio_start: float = 0.0,
    video_start: float = 0.0,
    audio_tracks: int = 1,
    rotation: int = 0,
    pixel_aspect: str | None = None,
    video_codec: str | None = None,
    audio_codec: str | None = None,
    pixel_format: str | None = None,
    keyframe_every: int = 12,
    options: dict[str, str] | None = None,
) -> Path:
    """
    A clip. The container goes by the file's suffix: .mp4, .mkv, .webm, .avi, .mpg, .ts, .wav, .mp3, .flac, ...

    Args:
        seconds: Length of both tracks.
        fps: Pictures per second; `times`, where given, says when each picture is shown instead (variable frame rate).
        size: Width and height as stored.
        paint: Makes picture `index` of time `time`: (height, width, 3) uint8; by default `grey`, which tells the index.
        sound: (samples,) or (samples, channels), floats; by default a tone of 220 Hz.
        video, audio: Whether there are such tracks.
        audio_start, video_start: When the tracks start, in seconds; may be negative in .mkv.
        audio_tracks: How many of the same.
        rotation: Degrees clockwise by which players are told to turn the pictures; for .mp4 and .mov.
        pixel_aspect: Width to height of a pixel, as "2:1".
        keyframe_every: Pictures from key frame to key frame.

    Returns:
        `path`
    """
    suffix = path.suffix.lower()
    if suffix in (".wav", ".mp3", ".flac", ".m4a"):
        video = False
    paint = paint or (lambda index, time: grey(index, time, *size))
    times = [video_start + index / fps for index in range(max(1, round(seconds * fps)))] if times is None else times
    sound = tone(seconds, sampling_rate) if sound is None else sound
    with av.open(str(path), "w", options=options or {}) as container:
        streams = []
        picture_stream = None
        if video:
            codec = video_codec or _VIDEO_CODECS.get(suffix, "libx264")
            picture_stream = container.add_stream(codec, rate=Fraction(fps).limit_denominator(1001))
            picture_stream.width, picture_stream.height = size
            odd = size[0] % 2 or size[1] % 2
            picture_stream.pix_fmt = pixel_format or ("yuv444p" if odd else "yuv420p")
            picture_stream.gop_size = keyframe_every
            picture_stream.codec_context.time_base = Fraction(1, 1000) if suffix not in _EVEN else Fraction(1, int(fps))
            if codec == "libx264":
                picture_stream.options = {"preset": "ultrafast", "crf": "10"}
            if pixel_aspect:
                picture_stream.codec_context.sample_aspect_ratio = Fraction(*map(int, pixel_aspect.split(":")))
        if audio:
            codec = audio_codec or _AUDIO_CODECS.get(suffix, "aac")
            layout = _LAYOUTS[1 if sound.ndim == 1 else sound.shape[1]]
            for _ in range(audio_tracks):
                streams.append(container.add_stream(codec, rate=sampling_rate, layout=layout))
        packets = []
        if picture_stream is not None:
            packets += _encoded_pictures(picture_stream, times, paint)
        for stream in streams:
            packets += _encoded_sound(stream, sound, sampling_rate, audio_start)
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            container.mux(packet)
    if rotation:
        set_rotation(path, rotation)
    return path


_VIDEO_CODECS = {".webm": "libvpx", ".mpg": "mpeg1video", ".avi": "mpeg4", ".ts": "mpeg2video"}
_AUDIO_CODECS = {
    ".wav": "pcm_s16le",
    ".mkv": "pcm_s16le",
    ".avi": "pcm_s16le",
    ".flac": "flac",
    ".mp3": "libmp3lame",
    ".webm": "libopus",
    ".mpg": "mp2",
    ".ts": "mp2",
}
_LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1"}
_EVEN = (".mpg", ".avi", ".ts")  # their clock ticks once per picture


def _encoded_pictures(stream, times: Sequence[float], paint: Paint) -> list[av.Packet]:
    base = stream.codec_context.time_base
    packets = []
    for index, time in enumerate(times):
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(paint(index, time)), format="rgb24")
        frame = frame.reformat(format=stream.pix_fmt)
        frame.pts, frame.time_base = round(time / base), base
        packets += stream.encode(frame)
    return packets + stream.encode(None)


def _encoded_sound(stream, sound: np.ndarray, sampling_rate: int, start: float) -> list[av.Packet]:
    channels = sound[:, None] if sound.ndim == 1 else sound
    resampler = av.AudioResampler(format=stream.codec_context.format, layout=stream.layout, rate=sampling_rate)
    packets = []
    for place in range(0, len(channels), 1024):
        piece = np.ascontiguousarray(channels[place : place + 1024].T.astype(np.float32))
        frame = av.AudioFrame.from_ndarray(piece, format="fltp", layout=stream.layout.name)
        frame.sample_rate = sampling_rate
        frame.pts, frame.time_base = round(start * sampling_rate) + place, Fraction(1, sampling_rate)
        for ready in resampler.resample(frame):
            packets += stream.encode(ready)
    return packets + stream.encode(None)


def write_ten_hours(path: Path) -> Path:
    """Ten hours of a video in a small file: one picture per hour."""
    return write_clip(path, times=[3600.0 * hour for hour in range(11)], audio=False)


def set_rotation(path: Path, degrees: int) -> None:
    """Writes into an .mp4 or .mov file that its pictures are to be turned clockwise by 0, 90, 180 or 270 degrees."""
    quarter = {0: (1, 0, 0, 1), 90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}[degrees]
    a, b, c, d = (value << 16 for value in quarter)
    content = bytearray(path.read_bytes())
    place = content.find(b"tkhd")
    while place >= 0:
        version = content[place + 4]
        matrix = place + 4 + (52 if version == 1 else 40)
        width = struct.unpack(">I", content[matrix + 36 : matrix + 40])[0]
        if width:  # a sound track has none
            content[matrix : matrix + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
        place = content.find(b"tkhd", place + 4)
    path.write_bytes(bytes(content))


def write_cover_art(path: Path, seconds: float = 2.0) -> Path:
    """An .mp3 with a picture of its cover, which is stored as a video track of one picture."""
    with av.open(str(path), "w") as container:
        sound = container.add_stream("libmp3lame", rate=44100, layout="mono")
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 48, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        picture = av.VideoFrame.from_ndarray(quadrants(), format="rgb24").reformat(format="yuvj420p")
        picture.pts = 0
        container.mux(cover.encode(picture))
        container.mux(cover.encode(None))
        container.mux(_encoded_sound(sound, tone(seconds, 44100), 44100, 0.0))
    return path


def set_matroska_seconds(path: Path, seconds: float) -> Path:
    """Writes into the header of an .mkv or .webm file that it lasts so long, which may be a lie."""
    content = bytearray(path.read_bytes())
    place = content.index(b"\x44\x89\x88") + 3  # the element Duration, of 8 bytes, in milliseconds
    content[place : place + 8] = struct.pack(">d", 1000 * seconds)
    path.write_bytes(bytes(content))
    return path


def replace_bytes(path: Path, old: bytes, new: bytes) -> Path:
    """Replaces something in a file by something as long, everywhere; it must be there."""
    content = path.read_bytes()
    assert old in content and len(old) == len(new)
    path.write_bytes(content.replace(old, new))
    return path


def truncate(path: Path, share: float) -> Path:
    """Cuts a file off after a share of its bytes."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


def corrupt(path: Path, begin: float = 0.4, end: float = 0.6, seed: int = 0) -> Path:
    """Overwrites the bytes between two shares of a file with noise."""
    content = bytearray(path.read_bytes())
    first, last = int(len(content) * begin), int(len(content) * end)
    content[first:last] = np.random.default_rng(seed).integers(0, 256, last - first, dtype=np.uint8).tobytes()
    path.write_bytes(bytes(content))
    return path
