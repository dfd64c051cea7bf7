"""The parts of the demo that need no Gradio: what it refuses, what it asks, and how it shows an answer."""

import ast
import math
import re
import sys
import types
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

av = pytest.importorskip("av")

SPACE = Path(__file__).resolve().parents[2] / "spaces" / "sentiment_demo"
sys.path.insert(0, str(SPACE))

from sentiment_page.analysis import Checkpoints, Question, answer, check_question  # noqa: E402
from sentiment_page.descriptions import about, card_title, short_name  # noqa: E402
from sentiment_page.html_basics import escaped, seconds, signed  # noqa: E402
from sentiment_page.limits import PageError, PageLimits, RateLimiter, network_address  # noqa: E402
from sentiment_page.result_masks import masks  # noqa: E402
from sentiment_page.result_summary import gauge, message, notes, summary  # noqa: E402
from sentiment_page.result_timeline import timeline  # noqa: E402
from sentiment_page.result_transcript import transcript  # noqa: E402
from sentiment_page.uploads import SessionFiles, check_media, check_subtitles  # noqa: E402

HOSTILE = "<script>alert(1)</script>${alert(2)}{{value}}`\"'&"
LIMITS = PageLimits(seconds=2.0, megabytes=1.0, characters=50)


def sentiment(**changes):
    """An answer of the pipeline, as its docstring describes it."""
    return {
        "label": "positive",
        "score": 1.8349,
        "range": [-3.0, 3.0],
        "text": 1.5,
        "audio": -0.204,
        "vision": None,
        "seconds": 6.0,
        "contributions": {"text": 0.9, "audio": -0.1, "vision": 0.004},
        "timeline": [
            {"start": 0.0, "end": 4.0, "score": 1.0, "text": 1.0, "audio": -0.5, "vision": None},
            {"start": 1.0, "end": 5.0, "score": -2.0, "text": None, "audio": 0.5, "vision": None},
            {"start": 2.0, "end": 6.0, "score": 9.0, "text": 0.5, "audio": 0.5, "vision": None},
        ],
        "transcript": {
            "text": "a fine dull film",
            "timing": "words",
            "words": [
                {"text": "a", "start": 0.0, "end": 0.2, "contribution": 0.001},
                {"text": "fine", "start": 0.2, "end": 1.0, "contribution": 0.8},
                {"text": "dull", "start": 1.0, "end": 2.0, "contribution": -0.5},
                {"text": "film", "start": 2.0, "end": 2.5, "contribution": 0.2},
            ],
        },
        "faces": [{"time": 0.5, "box": [0.1, 0.1, 0.2, 0.2]}, {"time": 3.0, "box": [0.1, 0.1, 0.2, 0.2]}],
        "masks": None,
        "notes": [],
        **changes,
    }


EMOTIONS = {
    "labels": ["happy", "anger"],
    "scores": {"happy": 0.8, "sad": 0.1, "anger": 0.61},
    "text": {"labels": [], "scores": {"happy": 0.3, "sad": 0.1, "anger": 0.2}},
    "audio": None,
    "vision": None,
    "seconds": 5.0,
    "timeline": [
        {"start": 0.0, "end": 4.0, "labels": ["happy"], "scores": {"happy": 0.9, "sad": 0.0, "anger": 0.2}},
        {"start": 1.0, "end": 5.0, "labels": ["sad"], "scores": {"happy": 0.2, "sad": 0.7, "anger": 0.1}},
    ],
    "contributions": {"text": 0.2},
    "transcript": None,
    "faces": [],
    "masks": None,
    "notes": [],
}
CLASSES = {
    "label": "positive",
    "score": 0.9,
    "scores": {"negative": 0.1, "positive": 0.9},
    "text": {"label": "negative", "score": 0.7, "scores": {"negative": 0.7, "positive": 0.3}},
    "audio": None,
    "vision": None,
}


class Reader(HTMLParser):
    """Checks that elements are closed in order, and keeps what a test asks for."""

    VOID = {"br", "img", "input"}

    def __init__(self, html):
        super().__init__()
        self.open, self.elements, self.words = [], [], []
        self.feed(html)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    def by_id(self, name):
        return [attributes for _, attributes in self.elements if attributes.get("id") == name]

    def labels(self, tag):
        return [attributes.get("aria-label") for name, attributes in self.elements if name == tag]


# What is shown.


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (1.834, "+1.83"),
        (-0.2, "\u22120.20"),
        (0.004, "+0.00"),
        (-0.004, "\u22120.00"),
        (0, "0.00"),
        (-12.345, "\u221212.35"),
    ],
)
def test_numbers_have_a_sign_that_is_read_aloud(value, shown):
    assert signed(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"), [(0, "0.0 s"), (2.04, "2.0 s"), (59.96, "1:00.0"), (75.04, "1:15.0"), (600, "10:00.0")]
)
def test_times(value, shown):
    assert seconds(value) == shown


def test_hostile_text_is_shown_as_it_is():
    safe = escaped(HOSTILE)
    for code in ("<", ">", '"', "'", "${", "{{", "`"):
        assert code not in safe
    assert Reader(f"<p>{safe}</p>").text == HOSTILE


def test_nothing_hostile_reaches_the_page():
    word = {"text": HOSTILE, "start": 0.0, "end": 1.0, "contribution": 1.0}
    found = sentiment(
        label=HOSTILE,
        transcript={"text": HOSTILE, "timing": HOSTILE, "words": [word]},
        masks={"text": {"tokens": [HOSTILE], "values": [0.5]}},
    )
    emotions = {**EMOTIONS, "labels": [HOSTILE], "scores": {HOSTILE: 0.9}, "text": {"labels": [HOSTILE], "scores": {}}}
    emotions["timeline"] = [{"start": 0.0, "end": 4.0, "labels": [HOSTILE], "scores": {HOSTILE: 0.9}}]
    numbers = {"scores": {HOSTILE: 1.0}, "text": {"scores": {HOSTILE: 1.0}}}
    parts = [message(HOSTILE), notes([HOSTILE]), about(HOSTILE), summary(found), summary(emotions), summary(numbers)]
    parts += [timeline(found, True), timeline(emotions, True), transcript(found, True), masks(found)]
    for part in parts:
        reader = Reader(part)
        assert "script" not in [tag for tag, _ in reader.elements]
        assert not [code for code in ("<script", "${", "{{", "`") if code in part]
        for _, attributes in reader.elements:
            assert not [name for name in attributes if name.startswith("on")]
    assert sum(HOSTILE in Reader(part).text for part in parts) >= 9


def test_the_summary_of_a_sentiment_has_the_pipelines_numbers():
    html = summary(sentiment())
    reader = Reader(html)
    assert "+1.83 positive" in reader.text and "from \u22123 to +3" in reader.text
    (name,) = [label for label in reader.labels("svg") if label]
    assert name == "Gauge: sentiment +1.83, positive, on a scale from \u22123 to +3"
    assert re.search(r"Text \+1\.50 \+0\.90 Sound \u22120\.20 \u22120\.10 Picture \u2013 \+0\.00", reader.text)
    assert len(reader.by_id("sd-score")) == len(reader.by_id("sd-text-alone")) == 1


@pytest.mark.parametrize(
    ("score", "angle"), [(-3.0, 180.0), (0.0, 90.0), (1.5, 45.0), (3.0, 0.0), (7.5, 0.0), (-4.0, 180.0)]
)
def test_the_needle_points_where_the_score_is(score, angle):
    needle = dict(
        re.findall(r'(\w+)="([-\d.]+)"', re.search(r'<line class="sd-needle"[^>]*>', gauge(score, "x", -3, 3))[0])
    )
    x, y = float(needle["x2"]) - float(needle["x1"]), float(needle["y1"]) - float(needle["y2"])
    assert math.degrees(math.atan2(y, x)) == pytest.approx(angle, abs=0.1)


def test_a_score_outside_the_range_is_said():
    assert "outside the range" in summary(sentiment(score=3.4)) and "+3.40" in summary(sentiment(score=3.4))
    assert "outside the range" not in summary(sentiment())


def test_classes_emotions_and_plain_numbers():
    text = Reader(summary(EMOTIONS)).text
    assert "happy, anger" in text and "happy 80 %" in text and "none of them" in text
    assert text.index("happy 80 %") < text.index("anger 61 %") < text.index("sad 10 %")
    text = Reader(summary(CLASSES)).text
    assert "positive" in text and "90 %" in text and "negative (70 %)" in text
    assert "+0.40" in summary({"score": 0.4, "text": 0.3})
    assert "\u22120.50" in summary({"scores": {"valence": -0.5, "arousal": 0.2}, "text": {"scores": {"valence": 1.0}}})


def test_the_timeline_draws_each_window_and_has_a_table():
    reader = Reader(timeline(sentiment(), can_jump=True))
    (label, *_) = [label for label in reader.labels("svg") if label and "Sentiment" in label]
    assert "3 windows of up to 4.0 s" in label
    assert "lowest \u22122.00 from 1.0 s on, highest +9.00 from 2.0 s on" in label
    paths = [attributes for _, attributes in reader.elements if "sd-line-all" in attributes.get("class", "")]
    # Middles at 2, 3 and 4 of 6 seconds; +1 is a third of the way down, -2 five sixths, +9 cut to the top.
    assert paths[0]["d"] == "M333.3 33.33L500.0 83.33L666.7 0.00"
    text = [attributes["d"] for tag, attributes in reader.elements if attributes.get("class") == "sd-line sd-line-text"]
    assert text[:2] == ["M333.3 33.33h.01", "M666.7 41.67h.01"], "a missing value is a gap, not a line"
    assert not [1 for _, attributes in reader.elements if "sd-line-vision" in attributes.get("class", "")]
    buttons = [attributes["data-time"] for tag, attributes in reader.elements if tag == "button"]
    assert buttons == ["0.000", "1.000", "2.000"]
    assert "From To All together Text Sound" in reader.text and "0.0 s 4.0 s +1.00 +1.00 \u22120.50" in reader.text
    assert "A face was found 2 times, from 0.5 s to 3.0 s." in reader.labels("svg")


def test_without_a_video_nothing_pretends_to_move_it():
    for part in (timeline(sentiment(), can_jump=False), transcript(sentiment(), can_jump=False)):
        assert "data-time" not in part and "<button" not in part


def test_the_timeline_of_emotions_shows_the_most_probable():
    reader = Reader(timeline(EMOTIONS, can_jump=False))
    assert "Probability of \u201chappy\u201d over time" in reader.text and "90 % 0 % 20 %" in reader.text
    (path,) = [attributes["d"] for tag, attributes in reader.elements if "sd-line-all" in attributes.get("class", "")][
        :1
    ]
    assert path == "M400.0 10.00L600.0 80.00"


@pytest.mark.parametrize("part", [timeline, transcript])
def test_text_alone_has_no_times(part):
    words = [{"text": "fine", "start": None, "end": None, "contribution": 0.4}]
    found = sentiment(seconds=None, timeline=[], transcript={"text": "fine", "timing": "spread", "words": words})
    html = part(found, can_jump=False)
    assert "data-time" not in html and "spread" not in html
    assert part({"score": 1.0}, can_jump=True) == ""


def test_words_are_marked_by_more_than_colour():
    html = transcript(sentiment(), can_jump=True)
    reader = Reader(html)
    classes = {
        w: c
        for c, w in re.findall(r'<span class="([^"]*)"[^>]*data-time="[\d.]+">(?:<span[^>]*>.</span>)?(\w+)<', html)
    }
    assert classes == {
        "a": "sd-word",
        "fine": "sd-word sd-word-positive",
        "dull": "sd-word sd-word-negative",
        "film": "sd-word sd-word-positive",
    }
    assert (
        html.count("\u25b2</span>fine") == 1
        and html.count("\u25bc</span>dull") == 1
        and "\u25b2</span>film" not in html
    )
    assert "changes the score by 0.800" in reader.text and "3 dull 1.0 s \u22120.500" in reader.text
    assert "solid line" in reader.text and "dashed line" in reader.text
    css = (SPACE / "page.css").read_text(encoding="utf-8")
    assert "3px solid var(--sd-positive)" in css and "3px dashed var(--sd-negative)" in css


def test_masks_are_averaged_for_the_picture_and_whole_in_the_table():
    values = np.linspace(0, 1, 1000).tolist()
    html = masks(sentiment(masks={"audio": {"times": list(range(1000)), "values": values}, "text": {"values": [0.25]}}))
    reader = Reader(html)
    heights = [float(a["height"]) for tag, a in reader.elements if tag == "rect"]
    means = np.array(values).reshape(200, 5).mean(axis=1)
    assert heights[:-1] == pytest.approx(4 + 36 * (means - means[0]) / (means[-1] - means[0]), abs=0.01)
    assert heights[-1] == 22
    assert "Sound: 1000 steps, mean 0.500, from 0.000 to 1.000" in reader.text
    assert html.count("<tr>") == 1 + 1000 + 1 + 1
    assert masks(sentiment()) == masks(sentiment(masks={"audio": {"values": []}})) == ""


def luminance(colour):
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize(("selector", "page"), [(":root", "#ffffff"), (".dark", "#0b0f19")])
def test_contrasts(selector, page):
    css = (SPACE / "page.css").read_text(encoding="utf-8")
    block = css[css.index(selector + " {") :]
    colours = dict(re.findall(r"--sd-([\w-]+): (#\w{6});", block[: block.index("}")]))
    for name in ("positive", "negative", "ink", "muted", "neutral"):
        for background in (page, colours["panel"]):
            assert contrast(colours[name], background) >= 4.5, (name, background)
    assert contrast(colours["alert"], colours["alert-panel"]) >= 4.5


# What is refused.


@pytest.mark.parametrize("name", PageLimits.__dataclass_fields__)
def test_limits_are_positive(name):
    with pytest.raises(ValueError, match=f"`{name}` must be above 0; got 0"):
        PageLimits(**{name: 0})


def test_the_rate_limiter_counts_a_sliding_minute():
    now = [100.0]
    limiter = RateLimiter(2, clock=lambda: now[0])
    limiter.count("a")
    now[0] += 40
    limiter.count("a")
    with pytest.raises(PageError, match="more than 2 requests within a minute. Please try again in 20 seconds"):
        limiter.count("a")
    limiter.count("b")
    now[0] += 20
    limiter.count("a")
    with pytest.raises(PageError, match="in 40 seconds"):
        limiter.count("a")


def test_the_rate_limiter_remembers_a_bounded_number():
    limiter = RateLimiter(1, clock=lambda: 0.0, addresses=10)
    for number in range(1000):
        limiter.count(str(number))
    assert len(limiter) == 10
    with pytest.raises(PageError):
        limiter.count("999")


def test_only_a_proxy_is_believed_and_only_its_own_word():
    assert network_address("1.2.3.4", "9.9.9.9", behind_proxy=False) == "1.2.3.4"
    assert network_address("10.0.0.1", "9.9.9.9, 5.6.7.8", behind_proxy=True) == "5.6.7.8"
    assert network_address("10.0.0.1", "9.9.9.9, 5.6.7.8, 10.1.2.3", behind_proxy=True) == "5.6.7.8"
    assert network_address("10.0.0.1", "5.6.7.8, nonsense", behind_proxy=True) == "10.0.0.1"
    assert network_address("10.0.0.1", None, behind_proxy=True) == "10.0.0.1"
    assert network_address(None, None, behind_proxy=False) == "unknown"


def write_media(path, video=True, audio=True, length=1.0, size=(64, 48), codec="mpeg4", lie=None):
    with av.open(str(path), "w") as container:
        if video:
            pictures = container.add_stream(codec, rate=10)
            pictures.width, pictures.height, pictures.pix_fmt = *size, "yuv420p"
        if audio:
            sound = container.add_stream("aac" if path.suffix == ".mp4" else "pcm_s16le", rate=8000, layout="mono")
        for _ in range(int(length * 10) if video else 0):
            frame = av.VideoFrame.from_ndarray(np.zeros((size[1], size[0], 3), np.uint8), format="rgb24")
            container.mux(pictures.encode(frame))
        if video:
            container.mux(pictures.encode(None))
        if audio:
            for start in range(0, int(length * 8000), 1000):
                kind = "fltp" if path.suffix == ".mp4" else "s16"
                block = np.zeros((1, 1000), np.float32 if kind == "fltp" else np.int16)
                frame = av.AudioFrame.from_ndarray(block, format=kind, layout="mono")
                frame.sample_rate, frame.pts = 8000, start
                container.mux(sound.encode(frame))
            container.mux(sound.encode(None))
    return path


def test_media_within_the_limits(tmp_path):
    assert check_media(write_media(tmp_path / "a.mp4"), "video", LIMITS) == pytest.approx(1.0, abs=0.15)
    assert check_media(write_media(tmp_path / "a.wav", video=False, length=2.0), "audio", LIMITS) == pytest.approx(2.0)
    assert check_media(write_media(tmp_path / "b.mp4", audio=False), "video", LIMITS) == pytest.approx(1.0, abs=0.15)


def test_media_beyond_the_limits(tmp_path):
    long = write_media(tmp_path / "long.mp4", length=3.0)
    large = tmp_path / "large.mp4"
    large.write_bytes(bytes(1_100_000))
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("no video at all")
    cases = {
        long: "long.mp4 is longer than 2 seconds",
        large: "large.mp4 has 1 MB; at most 1 MB",
        tmp_path / "empty.mp4": "empty.mp4 is empty",
        tmp_path / "text.mp4": "text.mp4 cannot be read as video",
        tmp_path / "gone.mp4": "gone.mp4 is no longer here",
        write_media(tmp_path / "a.wav", video=False): "a.wav has no pictures.*Sound only",
    }
    for path, words in cases.items():
        with pytest.raises(PageError, match=words):
            check_media(path, "video", LIMITS)
    with pytest.raises(PageError, match="has no sound"):
        check_media(write_media(tmp_path / "silent.mp4", audio=False), "audio", LIMITS)
    with pytest.raises(PageError, match="64 . 48 pixels"):
        check_media(write_media(tmp_path / "b.mp4"), "video", PageLimits(megapixels=0.003))


def test_a_header_that_lies_about_the_length_is_not_believed(tmp_path):
    path = write_media(tmp_path / "long.mp4", length=3.0)
    data = path.read_bytes()
    for box in (b"mvhd", b"tkhd", b"mdhd"):  # durations of the movie and of its tracks
        place = data.index(box)
        offset = {b"mvhd": 20, b"tkhd": 24, b"mdhd": 20}[box]
        data = data[: place + offset] + b"\0\0\0\1" + data[place + offset + 4 :]
    path.write_bytes(data)
    with pytest.raises(PageError, match="longer than 2 seconds"):
        check_media(path, "video", LIMITS)


@pytest.mark.parametrize("name", ["list.mp4", "list.m3u8", "list.ffconcat"])
def test_playlists_do_not_open_other_files(tmp_path, name):
    clip = write_media(tmp_path / "secret.mp4")
    text = f"ffconcat version 1.0\nfile '{clip.name}'\n"
    if "concat" not in name:
        text = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{clip}\n#EXT-X-ENDLIST\n"
    (tmp_path / name).write_text(text)
    with pytest.raises(PageError, match="cannot be read as video"):
        check_media(tmp_path / name, "video", LIMITS)


def test_subtitles(tmp_path):
    good = tmp_path / "a.srt"
    good.write_text("1\n00:00:00,000 --> 00:00:01,000\nfine\n")
    check_subtitles(good, LIMITS)
    (tmp_path / "b.srt").write_text("x" * 501)
    (tmp_path / "c.exe").write_text("x")
    for name, words in {"b.srt": "more than 500 bytes", "c.exe": "no subtitle file", "d.vtt": "no longer here"}.items():
        with pytest.raises(PageError, match=words):
            check_subtitles(tmp_path / name, LIMITS)


@pytest.mark.parametrize(
    ("question", "words"),
    [
        ({}, "nothing to analyse"),
        ({"text": "  \n"}, "nothing to analyse"),
        ({"subtitles": "a.srt"}, "Subtitles belong to a clip"),
        ({"video": "a.mp4", "audio": "a.wav"}, "a video and a sound file"),
        ({"video": "a.mp4", "text": "x", "subtitles": "a.srt"}, "a transcript and a subtitle file"),
        ({"text": "x" * 51}, "51 characters; at most 50"),
        ({"text": "x", "use": ()}, "Everything is switched off"),
        ({"text": "x", "use": ("audio",)}, "text is switched off"),
        ({"text": "x", "use": ("smell",)}, "smell is no modality"),
        ({"text": "x", "noise": 1.5}, "Noise goes from 0 to 1"),
        ({"text": "x", "noise": float("nan")}, "Noise goes from 0 to 1"),
    ],
)
def test_questions_that_are_refused(question, words):
    with pytest.raises(PageError, match=words):
        check_question(Question("c", **question), LIMITS)


# What is asked.


class Pipe:
    """Remembers how it was called."""

    def __init__(self, modalities=("text", "audio", "vision"), error=None):
        self.model = types.SimpleNamespace(config=types.SimpleNamespace(modalities=list(modalities)))
        self.calls, self.error, self.read = [], error, None

    def __call__(self, **arguments):
        self.calls.append(arguments)
        if isinstance(arguments.get("transcript"), str):
            self.read = Path(arguments["transcript"]).read_text(encoding="utf-8")
        if "progress" in arguments:
            arguments["progress"]("Predicting")
        if self.error:
            raise self.error
        return {"score": 1.0}


def ask(pipe, transcriber=None, **question):
    said = []
    checkpoints = Checkpoints(["one"], transcriber, load=lambda name: pipe)
    found = answer(Question("one", **question), checkpoints, LIMITS, lambda share, stage: said.append((share, stage)))
    return found, said


@pytest.fixture
def clip(tmp_path):
    return str(write_media(tmp_path / "clip.mp4"))


def test_a_clip_is_asked_about_with_everything_chosen(clip):
    pipe = Pipe()
    found, said = ask(pipe, video=clip, text=" /etc/passwd ", use=("text", "vision"), noise=0.25)
    (call,) = pipe.calls
    assert found == {"score": 1.0} and call["video"] == clip and call["noise"] == 0.25 and call["words"] is True
    assert call["drop"] == ("audio",) and (call["window"], call["stride"]) == (1.0, 0.25) and "audio" not in call
    assert pipe.read == "/etc/passwd", "what is typed is words, never a path"
    assert not Path(call["transcript"]).exists()
    assert [share for share, _ in said] == sorted(share for share, _ in said) and said[-1][1] == "Predicting"


def test_text_alone_is_never_taken_for_a_file(clip):
    pipe = Pipe()
    ask(pipe, text=clip[:40])
    assert pipe.calls == [{"text": clip[:40], "words": True, "noise": 0.0}]


def test_subtitles_go_on_as_a_file_and_the_transcriber_only_without(clip, tmp_path):
    (tmp_path / "a.srt").write_text("1\n00:00:00,000 --> 00:00:01,000\nfine\n")
    pipe = Pipe()
    ask(pipe, transcriber="org/asr", video=clip, subtitles=str(tmp_path / "a.srt"))
    ask(pipe, transcriber="org/asr", video=clip)
    ask(pipe, transcriber="org/asr", video=clip, use=("audio", "vision"))
    assert [call["transcript"] for call in pipe.calls] == [str(tmp_path / "a.srt"), None, None]
    assert ["transcriber" in call for call in pipe.calls] == [False, True, False]


def test_what_a_checkpoint_does_not_look_at_is_not_dropped(clip):
    pipe = Pipe(modalities=("text", "audio"))
    ask(pipe, video=clip, use=("audio",))
    assert pipe.calls[0]["drop"] == ("text",)
    with pytest.raises(PageError, match="looks at text and audio alone"):
        ask(pipe, video=clip, use=("vision",))
    with pytest.raises(PageError, match="not at text; give a clip"):
        ask(Pipe(modalities=("audio",)), text="fine")


def test_refusals_name_files_as_their_owner_does(clip):
    with pytest.raises(PageError, match="^clip.mp4 is broken$"):
        ask(Pipe(error=ValueError(f"{clip} is broken")), video=clip)


def test_faults_are_logged_and_not_shown(clip, caplog):
    with pytest.raises(PageError, match="not your fault") as raised:
        ask(Pipe(error=RuntimeError("secret inner workings")), video=clip)
    assert "secret" not in str(raised.value) and "secret inner workings" in caplog.text


def test_checkpoints_are_loaded_once_and_only_those_of_the_page():
    loaded = []
    checkpoints = Checkpoints(["a", "b", "a"], load=lambda name: loaded.append(name) or Pipe())
    assert checkpoints.names == ("a", "b") and loaded == []
    assert checkpoints["b"] is checkpoints["b"] and loaded == ["b"]
    with pytest.raises(PageError, match="not a checkpoint of this page"):
        checkpoints["/etc"]
    with pytest.raises(ValueError, match="at least one"):
        Checkpoints([])


# What is kept.


def upload(folder, name="clip.mp4"):
    place = folder / f"hash{len(list(folder.iterdir()))}"
    place.mkdir()
    (place / name).write_bytes(b"x")
    return place / name


def test_uploads_go_when_their_page_needs_them_no_more(tmp_path):
    files = SessionFiles(tmp_path)
    first, second = upload(tmp_path), upload(tmp_path)
    files.hold("page", [str(first), None])
    files.hold("page", [str(first)])
    assert first.exists()
    files.hold("page", [str(second)])
    assert not first.exists() and not first.parent.exists() and second.exists()
    files.release("page")
    assert list(tmp_path.iterdir()) == []
    files.release("page")


def test_an_upload_that_another_page_needs_stays(tmp_path):
    files = SessionFiles(tmp_path)
    shared = upload(tmp_path)
    files.hold("one", [shared])
    files.hold("two", [shared])
    with files.lent([shared]):
        files.release("one")
    assert shared.exists()
    files.release("two")
    assert not shared.exists()


def test_an_upload_that_another_request_needs_stays(tmp_path):
    files = SessionFiles(tmp_path)
    shared, own = upload(tmp_path), upload(tmp_path)
    with files.lent([shared, None]):
        with files.lent([shared, own]):
            files.hold("page", [shared])
            files.release("page")
        assert shared.exists() and not own.exists()
        files.waiting = lambda: [str(shared), "/elsewhere.mp4"]
    assert shared.exists(), "somebody waits for it"
    files.waiting = tuple
    with pytest.raises(KeyError), files.lent([shared]):
        raise KeyError("a request that fails")
    assert not shared.exists()


def test_only_uploads_are_ever_deleted(tmp_path):
    uploads, outside = tmp_path / "uploads", tmp_path / "example.mp4"
    uploads.mkdir()
    outside.write_bytes(b"x")
    files = SessionFiles(uploads)
    files.hold("page", [outside, uploads / ".." / "example.mp4"])
    files.release("page")
    with files.lent([outside, uploads / ".." / "example.mp4", uploads / "never_there.mp4"]):
        pass
    assert outside.exists() and uploads.exists()


# What it says of its checkpoints, and the folder itself.


def test_checkpoints_are_described_by_their_cards(tmp_path):
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n\n# Self-MM, trained on CMU-MOSI\n\n## Use\n")
    assert card_title(str(tmp_path)) == "Self-MM, trained on CMU-MOSI" and short_name(str(tmp_path)) == tmp_path.name
    assert "Self-MM, trained on CMU-MOSI. It is often wrong" in Reader(about(str(tmp_path))).text
    (tmp_path / "README.md").write_text("# Self-MM, trained on synthetic clips\n")
    assert "a demonstration of the path from a clip to a sentiment, not of quality" in about(str(tmp_path))
    assert card_title(str(tmp_path / "nothing")) is None
    (tmp_path / "quickstart_media").mkdir()
    assert "not of quality" in about(str(tmp_path / "quickstart_media"))


def test_the_space_stands_alone():
    """What is published is this folder alone: its programs import what is in it, or what is installed."""
    installed = {"av", "gradio", "transformers", "huggingface_hub"}
    for file in SPACE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [node.module] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                root = (name or "").split(".")[0]
                assert root in {*sys.stdlib_module_names, *installed, "sentiment_page"}, (file, name)
    named = re.findall(r"^[\w-]+", (SPACE / "requirements.txt").read_text(encoding="utf-8"), re.MULTILINE)
    assert {"av", "transformers", "torch"} <= set(named) and "gradio" not in named, (
        "the header of README.md names gradio"
    )


def test_the_header_of_the_space():
    from huggingface_hub import SpaceCard

    header = SpaceCard.load(SPACE / "README.md").data.to_dict()
    assert header["sdk"] == "gradio" and header["app_file"] == "app.py" and header["title"]
    assert len(header["short_description"]) <= 60
    pictures = re.findall(r"\((screenshots/[^)]+)\)", (SPACE / "README.md").read_text(encoding="utf-8"))
    assert len(pictures) >= 4 and all((SPACE / picture).is_file() for picture in pictures)
    assert sum(file.stat().st_size for file in (SPACE / "screenshots").iterdir()) < 1e6


def test_the_examples_are_small_clips_with_words():
    clips = list((SPACE / "examples").glob("*.mp4"))
    assert len(clips) >= 3 and sum(clip.stat().st_size for clip in clips) < 500_000
    for clip in clips:
        assert check_media(clip, "video", PageLimits()) > 1
        assert clip.with_suffix(".txt").read_text(encoding="utf-8").strip()
