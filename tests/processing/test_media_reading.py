"""Media of every kind and with every fault: each read with sound and pictures in their places in time, or refused."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from processing.media_reading import MediaError, MediaLimits, open_media
from tests.media import (
    corrupt,
    grey_level,
    quadrants,
    replace_bytes,
    set_matroska_seconds,
    set_rotation,
    tone,
    truncate,
    voice,
    write_clip,
    write_cover_art,
    write_ten_hours,
)

ROOT = Path(__file__).resolve().parents[2]
REAL = ROOT.parent / "shared" / "data" / "media"

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def sound_of(media, *arguments, **options):
    return np.concatenate([np.zeros(0, np.float32), *media.audio_blocks(*arguments, **options)])


def levels_of(media, *arguments, **options):
    """Mean brightness of the pictures."""
    return [frame.image.mean() for frame in media.frames(*arguments, **options)]


def loudness(sound, sampling_rate, start, stop):
    return float(np.sqrt(np.mean(sound[int(start * sampling_rate) : int(stop * sampling_rate)] ** 2)))


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".ts"])
def test_containers_give_their_pictures_and_their_sound(tmp_path, suffix):
    rate = 48000 if suffix == ".webm" else 44100
    media = open_media(write_clip(tmp_path / f"clip{suffix}", 2.0, fps=25, sampling_rate=rate))
    info = media.info
    assert (info.has_audio, info.has_video, info.width, info.height) == (True, True, 64, 48)
    assert (info.sampling_rate, info.channels, info.frames_per_second) == (rate, 1, 25.0)
    assert info.seconds == pytest.approx(2.0, abs=0.06) and info.notes == []
    frames = list(media.frames(5))
    assert [frame.time for frame in frames][:10] == pytest.approx([i / 5 for i in range(10)])
    late = int(suffix in (".mpg", ".ts"))  # there, the sound starts a little before the pictures
    for i, frame in enumerate(frames[: 8 if suffix == ".mpg" else 10]):  # FFmpeg writes the last times of a .mpg wrong
        assert frame.image.dtype == np.uint8 and frame.image.shape == (48, 64, 3)
        assert abs(frame.image.mean() - grey_level(max(0, 5 * i - late))) < 5
    sound = sound_of(media)
    assert sound.dtype == np.float32 and len(sound) / 16000 == pytest.approx(2.0, abs=0.06)
    spectrum = np.abs(np.fft.rfft(sound[8000:24000]))
    assert spectrum.argmax() == 220
    assert loudness(sound, 16000, 0.5, 1.5) == pytest.approx(0.3 / np.sqrt(2), rel=0.06)


@pytest.mark.parametrize("suffix", [".wav", ".mp3", ".flac", ".m4a"])
def test_sound_without_a_video(tmp_path, suffix):
    media = open_media(write_clip(tmp_path / f"sound{suffix}", 1.0, sampling_rate=44100))
    assert media.info.has_audio and not media.info.has_video and media.info.frames_per_second is None
    assert list(media.frames(5)) == []
    assert len(sound_of(media)) / 16000 == pytest.approx(1.0, abs=0.06)


def test_video_without_sound(tmp_path):
    media = open_media(write_clip(tmp_path / "silent.mp4", 1.0, audio=False))
    assert media.info.has_video and not media.info.has_audio and media.info.sampling_rate == 0
    assert list(media.audio_blocks()) == [] and len(levels_of(media, 5)) == 5


def test_a_cover_picture_is_not_a_video(tmp_path):
    media = open_media(write_cover_art(tmp_path / "song.mp3"))
    assert media.info.has_audio and not media.info.has_video and list(media.frames(5)) == []
    assert len(sound_of(media)) / 16000 == pytest.approx(2.0, abs=0.06)


# --- pictures -------------------------------------------------------------------------------------------------------


def test_variable_frame_rate_shows_the_last_picture_that_came(tmp_path):
    times = [0.0, 0.1, 0.2, 1.0, 1.05, 1.9]
    media = open_media(write_clip(tmp_path / "variable.mp4", times=times, sound=tone(2.0)))
    for rate in (10, 7, 30):
        for frame in media.frames(rate):
            shown = max(index for index, time in enumerate(times) if time <= frame.time + 6e-4)
            assert abs(frame.image.mean() - grey_level(shown)) < 4, (rate, frame.time)


def test_pictures_that_start_late_are_shown_from_the_start(tmp_path):
    media = open_media(write_clip(tmp_path / "late.mkv", 2.0, video_start=0.5))
    assert media.info.seconds == pytest.approx(2.5, abs=0.01)
    levels = levels_of(media, 10)
    assert len(levels) == 25
    assert np.allclose(levels[:6], grey_level(0), atol=4) and abs(levels[6] - grey_level(1)) < 4


def test_a_part_is_the_same_as_of_the_whole(tmp_path):
    for suffix in (".mp4", ".mkv", ".avi", ".ts", ".mpg"):
        rate = 16000 if suffix == ".mkv" else 44100  # times are whole milliseconds there
        path = write_clip(tmp_path / f"part{suffix}", 5.0, fps=25, sound=voice(5.0, rate), sampling_rate=rate)
        media = open_media(path)
        whole, part = levels_of(media, 10), levels_of(media, 10, 2.3, 4.1)
        assert len(part) == 18 and np.abs(np.array(whole[23:41]) - part).max() == 0, suffix
        sound = sound_of(media, start=2.3, stop=4.1)
        noise = 0.05 if suffix == ".mp4" else 1e-4  # AAC makes some noise itself, another one each time
        assert len(sound) == 28800 and np.abs(sound_of(media)[36800:65600] - sound).max() < noise, suffix


def test_a_part_is_reached_without_decoding_what_comes_before(tmp_path, monkeypatch):
    from processing import media_pictures

    decoded = []
    real = media_pictures.decoded
    monkeypatch.setattr(
        media_pictures, "decoded", lambda *given: (decoded.append(1) or frame for frame in real(*given))
    )
    media = open_media(write_clip(tmp_path / "long.mp4", 20.0, audio=False))
    assert len(levels_of(media, 10, 18.0, 18.5)) == 5
    assert len(decoded) < 30


@pytest.mark.parametrize(
    ("degrees", "corners"),
    [
        (0, (RED, GREEN, BLUE, WHITE)),
        (90, (BLUE, RED, WHITE, GREEN)),
        (180, (WHITE, BLUE, GREEN, RED)),
        (270, (GREEN, WHITE, RED, BLUE)),
    ],
)
def test_turned_pictures_come_upright(tmp_path, degrees, corners):
    path = write_clip(
        tmp_path / "turned.mp4", 0.5, paint=lambda *_: quadrants(), rotation=degrees, pixel_format="yuv444p"
    )
    media = open_media(path)
    size = (64, 48) if degrees % 180 == 0 else (48, 64)
    assert (media.info.width, media.info.height, media.info.rotation) == (*size, degrees)
    image = next(media.frames(2)).image
    assert image.shape == (size[1], size[0], 3)
    found = [image[y, x].astype(int) for y in (5, -5) for x in (5, -5)]
    assert np.abs(np.array(found) - np.array(corners)).max() < 12
    small = next(media.frames(2, longest_side=16)).image
    assert small.shape == (size[1] // 4, size[0] // 4, 3)


def test_pixels_that_are_not_square_are_made_so(tmp_path):
    media = open_media(write_clip(tmp_path / "wide.mp4", 0.5, pixel_aspect="2:1"))
    assert (media.info.width, media.info.height) == (128, 48)
    assert next(media.frames(2)).image.shape == (48, 128, 3)
    assert next(media.frames(2, longest_side=64)).image.shape == (24, 64, 3)
    set_rotation(tmp_path / "wide.mp4", 90)
    assert next(open_media(tmp_path / "wide.mp4").frames(2)).image.shape == (128, 48, 3)


@pytest.mark.parametrize("size", [(1, 1), (33, 17), (2, 200)])
def test_odd_sizes(tmp_path, size):
    media = open_media(write_clip(tmp_path / "odd.mp4", 0.5, size=size))
    assert next(media.frames(2)).image.shape == (size[1], size[0], 3)
    assert next(media.frames(2, longest_side=1)).image.shape == (1, 1, 3)


def test_a_single_picture(tmp_path):
    media = open_media(write_clip(tmp_path / "still.mp4", 3.0, times=[0.0]))
    assert len(levels_of(media, 10)) == 1
    assert any("video ends at 0.1 s" in note for note in media.info.notes)


# --- sound ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rate", "suffix"), [(8000, ".wav"), (96000, ".flac"), (44100, ".mkv")])
def test_any_sampling_rate_comes_at_the_wanted_one(tmp_path, rate, suffix):
    media = open_media(write_clip(tmp_path / f"rate{suffix}", 1.0, sampling_rate=rate))
    for wanted in (16000, 8000, 22050):
        sound = sound_of(media, wanted)
        assert len(sound) == wanted
        inner = slice(wanted // 10, -wanted // 10)
        assert np.abs(sound - tone(1.0, wanted))[inner].max() < 2e-3


def test_channels_are_mixed_as_a_mean(tmp_path):
    left = np.stack([tone(1.0), np.zeros(16000, np.float32)], axis=1)
    assert np.abs(sound_of(open_media(write_clip(tmp_path / "a.wav", sound=left))) - tone(1.0) / 2).max() < 1e-4
    both = np.stack([tone(1.0)] * 2, axis=1)
    assert np.abs(sound_of(open_media(write_clip(tmp_path / "b.wav", sound=both))) - tone(1.0)).max() < 1e-4
    surround = np.stack([tone(1.0)] * 6, axis=1)
    media = open_media(write_clip(tmp_path / "c.mkv", sound=surround))
    assert media.info.channels == 6
    assert np.abs(sound_of(media) - tone(1.0)).max() < 1e-4


def test_blocks_follow_each_other(tmp_path):
    media = open_media(write_clip(tmp_path / "blocks.wav", 2.3, sampling_rate=44100))
    blocks = list(media.audio_blocks(block_seconds=0.5))
    assert [len(block) for block in blocks] == [8000] * 4 + [4800]
    assert np.array_equal(np.concatenate(blocks), sound_of(media))
    assert len(sound_of(media, start=0.25, stop=99.0)) == 32800


def test_sound_that_starts_late_is_preceded_by_silence(tmp_path):
    media = open_media(write_clip(tmp_path / "late.mkv", 1.0, audio_start=0.5))
    sound = sound_of(media)
    assert len(sound) == 24000
    assert np.abs(sound[:8000]).max() == 0 and np.abs(sound[8000:] - tone(1.0)).max() < 1e-4
    assert np.abs(sound_of(media, start=0.4) - sound[6400:]).max() < 1e-6


def test_damage_leaves_the_rest_in_its_place(tmp_path):
    time = np.arange(160000) / 16000
    sound = (0.4 * np.sin(2 * np.pi * (200 + 60 * time) * time)).astype(np.float32)  # each moment has its own pitch
    media = open_media(corrupt(write_clip(tmp_path / "damaged.mp4", 10.0, sound=sound)))
    found = sound_of(media)
    assert any("sound is damaged" in note for note in media.info.notes)
    assert any("silence is put there" in note for note in media.info.notes)
    assert min(loudness(found, 16000, second, second + 0.1) for second in np.arange(3, 7, 0.1)) < 0.01
    for second in (1.0, 8.5):
        part = slice(int(second * 16000), int((second + 0.5) * 16000))
        shifts = range(-400, 401, 5)
        errors = [np.abs(np.roll(found, shift)[part] - sound[part]).mean() for shift in shifts]
        assert abs(shifts[int(np.argmin(errors))]) <= 35, second  # within 2 ms
    frames = list(media.frames(10))
    assert len(frames) == 100 and any("video is damaged" in note for note in media.info.notes)
    assert abs(frames[95].image.mean() - grey_level(95)) < 4
    before = list(media.info.notes)
    sound_of(media)
    assert media.info.notes == before  # reading again does not say everything twice


def test_a_file_that_was_cut_off(tmp_path):
    media = open_media(truncate(write_clip(tmp_path / "cut.mkv", 4.0), 0.5))
    assert 1.5 < len(sound_of(media)) / 16000 < 2.5 and 15 <= len(levels_of(media, 10)) <= 25
    assert sum("ends at" in note and "last 4.0 s" in note for note in media.info.notes) == 2
    with pytest.raises(MediaError, match="cut.mp4.* is not a media file .* cut off before it was finished"):
        open_media(truncate(write_clip(tmp_path / "cut.mp4"), 0.5))


def test_times_that_go_back_go_on(tmp_path):
    path = write_clip(tmp_path / "joined.ts", 2.0, fps=25, sampling_rate=16000)
    path.write_bytes(2 * path.read_bytes())
    media = open_media(path)
    assert abs(len(sound_of(media)) / 16000 - 4.0) < 0.2 and abs(len(levels_of(media, 10)) - 40) <= 2
    assert {"The times of the sound go back; it is read as going on."} <= {*media.info.notes}
    assert {"The times of the video go back; it is read as going on."} <= {*media.info.notes}


def test_pictures_without_times_follow_each_other(tmp_path):
    media = open_media(write_clip(tmp_path / "raw.h264", 2.0, fps=25, audio=False))
    assert media.info.seconds == pytest.approx(2.0, abs=0.05)
    levels = levels_of(media, 25)
    assert np.abs(np.array(levels) - [grey_level(i) for i in range(50)]).max() < 5
    assert np.array_equal(levels_of(media, 25, 1.0), levels[25:])


def test_several_tracks_are_chosen_from(tmp_path):
    media = open_media(write_clip(tmp_path / "two.mkv", 1.0, audio_tracks=2))
    assert media.info.notes == ["Of 2 sound tracks, number 1 is read: the default one, or the first."]


def test_tracks_that_cannot_be_decoded(tmp_path):
    path = replace_bytes(write_clip(tmp_path / "unknown.mkv", 1.0), b"V_MPEG4/ISO/AVC", b"V_XXXX4/ISO/AVC")
    media = open_media(path)
    assert media.info.has_audio and not media.info.has_video
    assert media.info.notes == [
        "The video is in a format that cannot be decoded here; it is read as if there were none."
    ]
    with pytest.raises(MediaError, match="neither sound nor video that can be decoded"):
        open_media(replace_bytes(path, b"A_PCM/INT/LIT", b"A_XXX/INT/LIT"))


def test_encrypted_media_are_refused(tmp_path):
    options = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": "76" * 16, "encryption_kid": "a7" * 16}
    media = open_media(write_clip(tmp_path / "locked.mp4", 1.0, options=options))
    assert not media.info.has_video and any("encrypted" in note for note in media.info.notes)
    with pytest.raises(MediaError, match="No sound of 'locked.mp4' can be decoded: it is damaged or encrypted"):
        sound_of(media)
    with pytest.raises(MediaError, match="neither sound nor video that can be decoded: No picture"):
        open_media(write_clip(tmp_path / "locked.mp4", 1.0, audio=False, options=options))


# --- limits ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_ten_hours_are_refused_before_decoding(tmp_path, monkeypatch, suffix):
    from processing import media_reading

    monkeypatch.setattr(media_reading, "decoded", lambda *_: pytest.fail("something was decoded"))
    with pytest.raises(MediaError, match=r"lasts 10 h 0 min, and the limit is 1 h 0 min \(`max_seconds`\); cut it"):
        open_media(write_ten_hours(tmp_path / f"long{suffix}"))


def test_ten_hours_that_claim_to_be_short_are_refused_while_decoding(tmp_path):
    media = open_media(set_matroska_seconds(write_ten_hours(tmp_path / "long.mkv"), 5.0))
    assert media.info.seconds == pytest.approx(5.0)
    with pytest.raises(MediaError, match=r"lasts 2 h 0 min, and the limit is 1 h 0 min"):
        for _ in media.frames(0.01):
            pass
    path = write_clip(tmp_path / "sound.mkv", 30.0, video=False)
    media = open_media(set_matroska_seconds(path, 2.0), MediaLimits(max_seconds=10))
    with pytest.raises(MediaError, match=r"sound.mkv' lasts 10.* s, and the limit is 10 s"):
        sound_of(media)


def test_a_length_that_is_not_stated_is_measured(tmp_path):
    path = write_clip(tmp_path / "recorded.webm", 3.0, sampling_rate=48000, options={"live": "1"})
    media = open_media(path)
    assert media.info.seconds == pytest.approx(3.0, abs=0.02)
    assert len(levels_of(media, 10)) == 30
    with pytest.raises(MediaError, match="recorded.webm' lasts 2.* s, and the limit is 2 s"):
        open_media(path, MediaLimits(max_seconds=2))


def test_too_many_pixels_and_bytes(tmp_path):
    path = write_clip(tmp_path / "large.mp4", 0.3, size=(320, 240))
    with pytest.raises(MediaError, match=r"320 x 240 pixels, 76,800 in all, and the limit is 76,799 \(`max_pixels`\)"):
        open_media(path, MediaLimits(max_pixels=76_799))
    assert open_media(path, MediaLimits(max_pixels=76_800)).info.width == 320
    with pytest.raises(MediaError, match=r"bytes, and the limit is 1,000 \(`max_bytes`\)"):
        open_media(path, MediaLimits(max_bytes=1000))
    with pytest.raises(ValueError, match="`max_seconds` must be above 0, but it is 0"):
        MediaLimits(max_seconds=0)


@pytest.mark.slow
def test_8k_pictures_come_small_in_bounded_memory(tmp_path):
    path = write_clip(tmp_path / "8k.mp4", 1.0, fps=3, size=(7680, 4320), paint=paint_8k, audio=False)
    script = (
        "import sys, resource; sys.path.insert(0, sys.argv[2]);"
        "from processing.media_reading import open_media;"
        "media = open_media(sys.argv[1]);"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss;"
        "shapes = {frame.image.shape for frame in media.frames(3, longest_side=640)};"
        "assert shapes == {(360, 640, 3)}, shapes;"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    run = subprocess.run([sys.executable, "-c", script, path, ROOT], capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) < 600 * 1024  # KiB; one picture has 50 MB as it is stored, 100 MB as RGB


def paint_8k(index, time):
    return np.full((4320, 7680, 3), grey_level(index), np.uint8)


# --- what is not media ----------------------------------------------------------------------------------------------


def test_sources_that_are_not_media_files(tmp_path):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("hello " * 1000)
    (tmp_path / "zeros.wav").write_bytes(bytes(100_000))
    (tmp_path / "noise.mp3").write_bytes(np.random.default_rng(0).bytes(100_000))
    with pytest.raises(FileNotFoundError, match="must be a file on this computer, but .*absent.mp4' cannot be found"):
        open_media(tmp_path / "absent.mp4")
    with pytest.raises(MediaError, match="is a folder; name a file"):
        open_media(tmp_path)
    with pytest.raises(MediaError, match=r"'empty.mp4' is empty \(0 bytes\)"):
        open_media(tmp_path / "empty.mp4")
    for name in ("text.mp4", "zeros.wav", "noise.mp3"):
        with pytest.raises(MediaError, match=f"'{name}' (is not a media file|has neither sound nor video)"):
            open_media(tmp_path / name)
    with pytest.raises(MediaError, match="no regular file"):
        open_media("/dev/zero")


@pytest.mark.parametrize(
    "address",
    [
        "http://localhost:1/a.mp4",
        "concat:{}",
        "subfile,,start,0,end,99,,:{}",
        "file:{}",
        "data:video/mp4;base64,AA",
        "\0",
    ],
)
def test_addresses_and_protocols_are_not_followed(tmp_path, address):
    clip = write_clip(tmp_path / "clip.ts", 0.5)
    with pytest.raises(FileNotFoundError, match="Addresses are not fetched"):
        open_media(address.format(clip))


@pytest.mark.parametrize("suffix", [".m3u8", ".ffconcat", ".mp4", ".ts", ".mkv", ".sdp"])
def test_files_that_name_other_files_are_not_followed(tmp_path, suffix):
    clip = write_clip(tmp_path / "clip.ts", 0.5)
    for content in (
        f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{clip}\n#EXT-X-ENDLIST\n",
        f"ffconcat version 1.0\nfile '{clip}'\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\n",
    ):
        path = tmp_path / f"list{suffix}"
        path.write_text(content)
        with pytest.raises(MediaError, match="is not a media file that can be read"):
            open_media(path)


def test_a_picture_or_a_pattern_of_pictures_is_not_media(tmp_path):
    clip = write_clip(tmp_path / "one.avi", 0.1, audio=False, video_codec="mjpeg", pixel_format="yuvj420p")
    content = clip.read_bytes()
    picture = content[content.index(b"\xff\xd8\xff") : content.rindex(b"\xff\xd9") + 2]
    for name in ("picture.jpg", "picture%d.jpg", "picture1.jpg"):
        (tmp_path / name).write_bytes(picture)
        with pytest.raises(MediaError, match="single pictures are not read"):
            open_media(tmp_path / name)


def test_nothing_but_media_errors_comes_out_of_damaged_files(tmp_path):
    generator = np.random.default_rng(0)
    contents = {
        suffix: write_clip(tmp_path / f"clip{suffix}", 0.6, fps=25, sampling_rate=48000).read_bytes()
        for suffix in (".mp4", ".mkv", ".webm", ".avi", ".mpg", ".ts", ".mp3", ".wav")
    }
    read = 0
    for case in range(160):
        suffix, content = list(contents.items())[case % len(contents)]
        damaged = bytearray(content)
        for place in generator.integers(0, min(len(damaged), 4000 if case % 2 else len(damaged)), 1 + case % 30):
            damaged[place] = generator.integers(0, 256)
        path = tmp_path / f"damaged{suffix}"
        path.write_bytes(bytes(damaged[: len(damaged) if case % 3 else int(generator.integers(1, len(damaged)))]))
        try:
            media = open_media(path, MediaLimits(max_seconds=60, max_pixels=10**6))
            sound = sound_of(media)
            assert np.isfinite(sound).all()
            for frame in media.frames(5, longest_side=32):
                assert max(frame.image.shape) <= 32
            read += 1
        except MediaError:
            pass
    assert read > 40


# --- arrays ---------------------------------------------------------------------------------------------------------


def test_arrays_are_sound():
    expected = tone(1.0, 44100)
    stereo = np.stack([expected, np.zeros_like(expected)], axis=1)
    for array, factor in (
        (expected, 1.0),
        (expected.astype(np.float64), 1.0),
        ((expected * 32768).round().astype(np.int16), 1.0),
        (stereo, 0.5),
    ):
        media = open_media(array, sampling_rate=44100)
        assert media.info.seconds == 1.0 and media.info.has_audio and not media.info.has_video
        assert media.info.channels == (2 if array.ndim == 2 else 1)
        assert np.abs(sound_of(media, 44100) - factor * expected).max() < 1e-4
        sound = sound_of(media)
        assert len(sound) == 16000 and np.abs(sound - factor * tone(1.0))[1600:-1600].max() < 2e-3
        assert np.abs(sound_of(media, start=0.7) - sound[11200:]).max() < 1e-6


def test_an_empty_array_has_no_sound():
    media = open_media(np.zeros(0, np.float32), sampling_rate=16000)
    assert list(media.audio_blocks()) == [] and media.info.notes == ["The sound is empty."]


@pytest.mark.parametrize(
    ("array", "rate", "words"),
    [
        (np.zeros(100), None, "needs its `sampling_rate`"),
        (np.zeros(100), 0, "`sampling_rate` must be between 1000 and 768000, but it is 0"),
        (np.zeros((2, 1000)), 16000, r"must be \(samples,\) or \(samples, channels\).*\(2, 1000\); transpose it"),
        (np.zeros((2, 2, 2)), 16000, r"its shape is \(2, 2, 2\)"),
        (np.zeros(100, np.int32), 16000, "floats within .* or int16, but it holds int32"),
        (np.array([0.0, np.nan]), 16000, "NaN or infinite"),
        (np.array([0.0, np.inf]), 16000, "NaN or infinite"),
        (np.array([0.0, -32768.0]), 16000, r"within \[-1, 1\], but the largest is 32768 in size; divide"),
    ],
)
def test_arrays_that_are_not_sound(array, rate, words):
    with pytest.raises(ValueError, match=words):
        open_media(array, sampling_rate=rate)


def test_limits_hold_for_arrays():
    with pytest.raises(MediaError, match="'sound' lasts 2 s, and the limit is 1 s"):
        open_media(np.zeros(32000), MediaLimits(max_seconds=1), sampling_rate=16000)
    with pytest.raises(MediaError, match="256,000 bytes, and the limit is 1,000"):
        open_media(np.zeros(32000), MediaLimits(max_bytes=1000), sampling_rate=16000)


# --- arguments ------------------------------------------------------------------------------------------------------


def test_arguments_out_of_range(tmp_path):
    path = write_clip(tmp_path / "clip.mp4", 0.5)
    media = open_media(path)
    for read in (media.audio_blocks, lambda **given: media.frames(5, **given)):
        with pytest.raises(ValueError, match="`start` must be at least 0 seconds, but it is -1"):
            list(read(start=-1))
        with pytest.raises(ValueError, match="`stop` must be after `start`"):
            list(read(start=0.4, stop=0.4))
        assert list(read(start=99.0)) == []
    with pytest.raises(ValueError, match="`rate` must be between"):
        list(media.frames(0))
    with pytest.raises(ValueError, match="`longest_side` must be between"):
        list(media.frames(5, longest_side=0))
    with pytest.raises(ValueError, match="`sampling_rate` must be between"):
        list(media.audio_blocks(10))
    with pytest.raises(ValueError, match="`sampling_rate` is only for an array"):
        open_media(path, sampling_rate=16000)


# --- real clips -----------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not REAL.is_dir(), reason="no real media here")
def test_real_clips():
    clips = sorted(REAL.glob("*/*.m*")) + sorted(REAL.glob("*/*.wav"))
    assert clips
    for clip in clips:
        media = open_media(clip)
        sound = sound_of(media)
        assert abs(len(sound) / 16000 - media.info.seconds) < 0.1 and 0.01 < np.abs(sound).max() < 1.2
        if media.info.has_video:
            frames = list(media.frames(10, longest_side=100))
            assert abs(len(frames) - 10 * media.info.seconds) <= 2
            assert all(max(frame.image.shape) == 100 and frame.image.std() > 5 for frame in frames)
        assert media.info.notes == []
