"""The demo's endpoint, as programs meet it: a running process, checkpoints with their own code, gradio_client."""

import concurrent.futures
import re
import shutil
import subprocess
import sys

import pytest

from publishing.space_folder import build_space
from tests.spaces.demo_server import (
    SPACE,
    kept,
    needs_gradio,
    resident_megabytes,
    running,
    wait_until,
    write_sound,
)

pytestmark = [pytest.mark.slow, needs_gradio]
WORDS = "the plot was good"


@pytest.fixture(scope="module")
def client(demo):
    from gradio_client import Client

    return Client(demo[0], verbose=False)


def analyse(client, **question):
    from gradio_client import handle_file

    files = {name: handle_file(str(question.pop(name))) for name in ("video", "audio", "subtitles") if name in question}
    return client.predict(api_name="/analyze", **files, **question)


def assert_same(answer, other):
    """All numbers, names and notes of an answer, wherever they are."""
    if isinstance(other, dict):
        assert answer.keys() == other.keys()
        for name in other:
            assert_same(answer[name], other[name])
    elif isinstance(other, (list, tuple)):
        assert len(answer) == len(other)
        for one, another in zip(answer, other, strict=True):
            assert_same(one, another)
    else:
        assert answer == (pytest.approx(other, abs=1e-4) if isinstance(other, float) else other)


def test_a_video_gets_the_pipelines_answer(client, clip, pipe, tmp_path, temporary):
    words = tmp_path / "words.txt"
    words.write_text(WORDS)
    asked = {"video": str(clip), "transcript": str(words), "words": True, "window": 1.0, "stride": 0.25}
    found = analyse(client, video=clip, text=WORDS)
    assert_same(found, pipe(**asked))
    without = analyse(client, video=clip, text=WORDS, use=["text", "vision"])
    assert without["audio"] is None and without["score"] != found["score"]
    assert_same(without, pipe(**asked, drop=["audio"]))
    noisy = analyse(client, video=clip, text=WORDS, noise=0.5)
    assert noisy["score"] != found["score"]
    assert kept(temporary) == [], "an upload, or a transcript, is left after its answer"


def test_sound_text_and_subtitles(client, clip, pipe, tmp_path, temporary):
    sound = write_sound(tmp_path / "voice.wav")
    assert_same(analyse(client, audio=sound), pipe(audio=str(sound), words=True, window=1.0, stride=0.25))
    assert_same(analyse(client, text=WORDS), pipe(text=WORDS, words=True))
    subtitles = tmp_path / "clip.srt"
    subtitles.write_text(f"1\n00:00:00,000 --> 00:00:01,000\n{WORDS}\n")
    found = analyse(client, video=clip, subtitles=subtitles)
    assert found["transcript"]["timing"] == "cues" and found["transcript"]["text"] == WORDS
    assert kept(temporary) == []


def test_every_checkpoint_answers_in_its_own_form(client, clip, checkpoints):
    masked = analyse(client, video=clip, text=WORDS, checkpoint=str(checkpoints[1]))
    assert set(masked["masks"]) == {"text", "audio", "vision"}
    emotions = analyse(client, video=clip, text=WORDS, checkpoint=str(checkpoints[2]))
    assert set(emotions["scores"]) == {"happy", "sad", "anger", "surprise", "disgust", "fear"}


def test_bad_input_is_a_message(client, clip, tmp_path, temporary):
    from gradio_client.exceptions import AppError

    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"\0" * 1000)
    torn = tmp_path / "torn.mp4"
    torn.write_bytes(clip.read_bytes()[:3000])
    long = write_sound(tmp_path / "long.wav", seconds=11)
    cases = [
        ({}, "nothing to analyse"),
        ({"video": bad}, "bad.mp4 cannot be read as video"),
        ({"video": torn}, "torn.mp4|damaged"),
        ({"audio": long}, "longer than 10 seconds"),
        ({"text": WORDS, "use": []}, "switched off"),
        ({"text": "x" * 3000}, "at most 2,000"),
        ({"text": WORDS, "checkpoint": "/etc"}, "/etc is not a checkpoint of this page"),
        ({"text": WORDS, "use": ["smell"]}, "smell is no modality"),
        ({"text": WORDS, "use": "text"}, "must be a list"),
        ({"text": WORDS, "noise": 2}, "from 0 to 1; 2 came"),
    ]
    for question, words in cases:
        with pytest.raises(AppError) as raised:
            analyse(client, **question)
        assert re.search(words, str(raised.value)), str(raised.value)
        assert "Traceback" not in str(raised.value) and str(temporary) not in str(raised.value)
    assert kept(temporary) == []


@pytest.mark.parametrize("path", ["/etc/passwd", str(SPACE / "app.py")])
@pytest.mark.parametrize("meta", [{"meta": {"_type": "gradio.FileData"}}, {}])
def test_files_of_the_server_cannot_be_had(demo, client, path, meta):
    """Neither as an upload that never was one, nor as words that are a path."""
    import httpx

    for place in (0, 1, 3):  # video, audio, subtitles
        data = [None, None, None, None, ["text", "audio", "vision"], 0, None]
        data[place] = {"path": path, **meta}
        event = httpx.post(f"{demo[0]}gradio_api/call/analyze", json={"data": data}).json()["event_id"]
        answer = httpx.get(f"{demo[0]}gradio_api/call/analyze/{event}", timeout=60).text
        assert "event: error" in answer
        assert "cannot be read" not in answer and "no subtitle file" not in answer, "it reached the analysis"
    assert analyse(client, text=path)["transcript"]["text"].split() == path.split()


def test_too_many_requests_are_refused(checkpoints):
    from gradio_client import Client
    from gradio_client.exceptions import AppError

    with running("--model", checkpoints[0], "--requests_per_minute", 2) as (address, _):
        client = Client(address, verbose=False)
        for _ in range(2):
            analyse(client, text=WORDS)
        with pytest.raises(AppError, match="more than 2 requests within a minute. Please try again in"):
            analyse(Client(address, verbose=False), text=WORDS)


def at_once(address, clips):
    """The answers for clips that are sent at the same time, and what the others were told."""
    from gradio_client import Client

    client = Client(address, verbose=False, max_workers=len(clips), httpx_kwargs={"timeout": 120})

    def one(clip):
        try:
            return analyse(client, video=clip, text=WORDS)["score"]
        except Exception as error:
            return str(error)

    with concurrent.futures.ThreadPoolExecutor(len(clips)) as pool:
        answers = list(pool.map(one, clips))
    return [a for a in answers if not isinstance(a, str)], [a for a in answers if isinstance(a, str)]


def test_fifty_requests_at_once(demo, client, clip, tmp_path, record_testsuite_property):
    """All are answered or politely refused, the page lives on, and memory stays."""
    address, process = demo
    expected = analyse(client, video=clip, text=WORDS)["score"]
    clips = []
    for number in range(50):  # the same clip for the eye, with a different end, so that each is an upload of its own
        clips.append(tmp_path / f"{number}.mp4")
        clips[-1].write_bytes(clip.read_bytes() + (12).to_bytes(4, "big") + b"free" + number.to_bytes(4, "big"))
    before = resident_megabytes(process)
    scores, refusals = at_once(address, clips)
    after = resident_megabytes(process)
    record_testsuite_property(
        "load", f"{len(scores)} answered, {len(refusals)} refused, {before:.0f} to {after:.0f} MB"
    )
    assert len(scores) >= 20 and scores == pytest.approx([expected] * len(scores), abs=1e-4)
    assert all("Queue is full" in refusal for refusal in refusals), refusals
    assert after - before < 150
    assert process.poll() is None
    assert analyse(client, video=clip, text=WORDS)["score"] == pytest.approx(expected, abs=1e-4)


def test_the_same_clip_from_several_at_once(demo, client, clip):
    """One's answer does not take the upload away from those that wait with the same file."""
    scores, refusals = at_once(demo[0], [clip] * 8)
    assert not refusals and len(set(scores)) == 1


def test_uploads_that_nobody_asks_about_go_by_themselves(checkpoints, clip, tmp_path):
    import httpx

    environment = {"TMPDIR": str(tmp_path)}
    with running("--model", checkpoints[0], "--minutes_kept", 0.05, environment=environment) as (address, _):
        sent = httpx.post(f"{address}gradio_api/upload", files={"files": clip.read_bytes()})
        assert sent.status_code == 200 and len(kept(tmp_path)) == 1
        wait_until(lambda: kept(tmp_path) == [], 20)


def test_a_file_that_is_too_large_is_refused_on_its_way(checkpoints, tmp_path):
    import httpx

    environment = {"TMPDIR": str(tmp_path)}
    with running("--model", checkpoints[0], "--megabytes", 0.1, environment=environment) as (address, _):
        sent = httpx.post(f"{address}gradio_api/upload", files={"files": bytes(200_000)})
        assert sent.status_code == 413 and kept(tmp_path) == []


def test_the_example_of_the_readme(demo, clip, tmp_path, monkeypatch, capsys):
    (code,) = re.findall(r"```python\n(.*?)```", (SPACE / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    shutil.copy(clip, "clip.mp4")
    exec(code.replace("http://127.0.0.1:7860", demo[0]), {})
    assert re.search(r"(positive|negative) -?\d\.\d+ \{'text': ", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "make demo"),
        (("--model", "./nowhere"), "there is no such folder"),
        (("--model", "."), "config.json"),
        (("--model", ".", "--seconds", "0"), "`seconds` must be above 0"),
    ],
)
def test_what_cannot_start_says_why(tmp_path, arguments, words):
    shutil.copytree(SPACE, tmp_path / "space", ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, str(tmp_path / "space" / "app.py"), *arguments]
    finished = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert finished.returncode != 0 and words in finished.stderr and "Traceback" not in finished.stderr


def test_it_is_published_whole_and_starts_elsewhere(tmp_path):
    assert build_space(SPACE, tmp_path / "space") == []
    files = {str(path.relative_to(tmp_path / "space")) for path in (tmp_path / "space").rglob("*.py")}
    here = {str(path.relative_to(SPACE)) for path in SPACE.rglob("*.py")}
    assert files == here, "the Space carries what is in its folder, and nothing twice"


def test_it_starts_without_the_project(checkpoints, tmp_path):
    """As on the Hub: the folder alone, names from the environment."""
    folder = tmp_path / "space"
    shutil.copytree(SPACE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    environment = {"SENTIMODAL_MODELS": f"{checkpoints[0]}, {checkpoints[2]}", "PYTHONPATH": ""}
    with running(environment=environment, app=folder / "app.py") as (address, _):
        from gradio_client import Client

        client = Client(address, verbose=False)
        assert "scores" in analyse(client, text=WORDS, checkpoint=str(checkpoints[2]))
        assert "score" in analyse(client, text=WORDS)
