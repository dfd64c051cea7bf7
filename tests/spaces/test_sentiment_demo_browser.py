"""The demo's page in headless Chromium: upload, run, read the numbers, switch a modality off, and what goes wrong."""

import importlib.util
import os
import re
import shutil
import time
from pathlib import Path

import pytest

from tests.spaces.demo_server import MEDIA, SPACE, kept, needs_gradio, wait_until, write_sound

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
AXE = os.environ.get("AXE_CORE")  # the path of axe.min.js, which checks accessibility
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
WORDS = "the plot was good"

pytestmark = [
    pytest.mark.slow,
    needs_gradio,
    pytest.mark.skipif(importlib.util.find_spec("playwright") is None, reason="playwright is not installed"),
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium; CHROMIUM may name it"),
]


@pytest.fixture(scope="module")
def address(demo):
    return demo[0]


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


def open_page(browser, address, width=1280, height=900, dark=False, **options):
    scheme = "dark" if dark else "light"
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme, **options)
    page = context.new_page()
    page.set_default_timeout(30_000)
    page.faults, page.hosts = [], set()
    page.on("pageerror", lambda error: page.faults.append(str(error)))
    page.on("dialog", lambda dialog: page.faults.append(f"dialog: {dialog.message}"))
    page.on("request", lambda request: page.hosts.add(re.sub(r"^(blob:)?\w+://([^/]*).*", r"\2", request.url)))
    page.add_init_script(
        "window.asked = []; const media = navigator.mediaDevices; if (media) { const get = media.getUserMedia;"
        "media.getUserMedia = function (wish) { window.asked.push(wish); return get.call(media, wish); }; }"
    )
    page.goto(address)
    page.wait_for_selector("#analyse")
    return page


@pytest.fixture
def page(browser, address):
    page = open_page(browser, address)
    yield page
    assert page.faults == []
    page.context.close()


def give(page, clip, words=None):
    page.set_input_files("#clip input[type=file]", str(clip))
    page.wait_for_selector("#clip video")
    if words is not None:
        page.fill("#words textarea", words)


def analyse(page):
    """Presses the button, and waits for what comes: the score, or a message."""
    page.evaluate("document.querySelectorAll('#sd-score, #sd-label, [role=alert]').forEach(e => e.remove())")
    page.click("#analyse")
    page.wait_for_selector("#sd-score, #sd-label, #message [role=alert]")


def shown(page, name="sd-score"):
    return page.inner_text(f"#{name}").replace("\u2212", "-")


def scan(page, name):
    """What axe-core finds wrong, where it is at hand."""
    if AXE is None:
        return
    page.evaluate(Path(AXE).read_text(encoding="utf-8"))
    script = (
        "async rules => (await axe.run(document, {runOnly: rules})).violations.map("
        "violation => [violation.id, violation.nodes.map(node => node.html.slice(0, 150))])"
    )
    assert page.evaluate(script, RULES) == [], name


def test_upload_run_and_read_the_numbers(page, clip, pipe, tmp_path):
    words = tmp_path / "words.txt"
    words.write_text(WORDS)
    expected = pipe(video=str(clip), transcript=str(words), words=True, window=1.0, stride=0.25)
    give(page, clip, WORDS)
    analyse(page)
    assert shown(page) == f"{expected['score']:+.2f}" and page.inner_text("#sd-label") == expected["label"]
    for modality in ("text", "audio", "vision"):
        assert shown(page, f"sd-{modality}-alone") == f"{expected[modality]:+.2f}"
        assert float(shown(page, f"sd-{modality}-adds")) == pytest.approx(
            expected["contributions"][modality], abs=0.006
        )
    assert "sentiment " + page.inner_text("#sd-score") in page.get_attribute("#summary svg.sd-gauge", "aria-label")
    assert page.locator("#timeline rect").count() == len(expected["timeline"])
    page.click("#timeline summary")
    assert page.locator("#timeline tbody tr").count() == len(expected["timeline"])
    last = page.locator("#timeline tbody tr").last.locator("td").nth(1).inner_text().replace("\u2212", "-")
    assert float(last) == pytest.approx(expected["timeline"][-1]["score"], abs=0.006)
    assert [w.strip("\u25b2\u25bc") for w in page.inner_text("#transcript .sd-words").split()] == WORDS.split()

    page.uncheck("#use input[value=audio], #use label:has-text('Sound') input")
    analyse(page)
    without = pipe(video=str(clip), transcript=str(words), drop=["audio"])
    assert shown(page) == f"{without['score']:+.2f}" != f"{expected['score']:+.2f}"
    assert page.locator("#sd-audio-alone").count() == 0


def test_the_timeline_moves_the_video(page, clip):
    give(page, clip, WORDS)
    analyse(page)
    page.click("#timeline summary")
    page.locator("#timeline tbody tr").nth(2).locator("button").click()
    page.wait_for_function("Math.abs(document.querySelector('#clip video').currentTime - 0.5) < 0.05")
    page.wait_for_selector("#timeline .sd-playhead:not([hidden])")
    page.locator("#timeline rect").nth(1).click(force=True)
    page.wait_for_function("Math.abs(document.querySelector('#clip video').currentTime - 0.25) < 0.05")


def test_masks_emotions_and_noise(page, clip, checkpoints):
    give(page, clip, WORDS)
    analyse(page)
    clean = shown(page)
    page.fill("#noise input[type=number]", "0.6")
    analyse(page)
    assert shown(page) != clean
    for name, wanted in ((checkpoints[1].name, "#masks svg"), (checkpoints[2].name, "#summary .sd-share")):
        page.click("#checkpoint input")
        page.click(f"[role=option]:has-text('{name}')")
        page.wait_for_selector(f".sd-about:has-text('{name}')")
        analyse(page)
        page.wait_for_selector(wanted)
    assert page.locator("#summary .sd-share").count() == 6 and page.locator("#masks svg").count() == 0


def test_text_alone_is_shown_as_it_was_typed(page):
    hostile = "good <script>alert(1)</script> <img src=x onerror=alert(1)> ${alert(2)} {{value}}"
    page.fill("#words textarea", hostile)
    analyse(page)
    assert [w.strip("\u25b2\u25bc") for w in page.inner_text("#transcript .sd-words").split()] == hostile.split()
    assert page.locator("#timeline svg").count() == 0 and page.locator("#transcript img").count() == 0


def test_sound_alone(page, tmp_path):
    page.get_by_role("tab", name="Sound only").click()
    page.set_input_files("#recording input[type=file]", str(write_sound(tmp_path / "voice.wav")))
    page.wait_for_selector("#recording .component-wrapper, #recording #waveform, #recording audio", state="attached")
    analyse(page)
    assert page.locator("#sd-audio-alone").count() == 1 and page.locator("#sd-vision-alone").count() == 0
    assert page.locator("#timeline button").count() == 0


def test_bad_input_is_said_and_stays(page, clip, tmp_path):
    analyse(page)
    alert = page.locator("#message [role=alert]")
    assert "There is nothing to analyse" in alert.inner_text()
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"\0" * 2000)
    page.set_input_files("#clip input[type=file]", str(bad))
    page.wait_for_selector("#clip button[aria-label='Clear'], #clip video", state="attached")
    analyse(page)
    assert "bad.mp4 cannot be read as video" in alert.inner_text() and "Traceback" not in page.content()
    time.sleep(1)
    assert alert.is_visible()
    page.click("#clear")
    page.wait_for_selector("#message [role=alert]", state="detached")
    give(page, clip)
    analyse(page)
    assert alert.count() == 0 and page.inner_text("#sd-score")


def test_the_keyboard_alone_is_enough(page):
    def tab_to(selector, steps=40):
        for _ in range(steps):
            if page.evaluate("wanted => !!document.activeElement.closest(wanted)", selector):
                return
            page.keyboard.press("Tab")
        raise AssertionError(f"{selector} cannot be reached")

    tab_to("#words textarea")
    page.keyboard.type(WORDS)
    tab_to("#analyse")
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline != "none", "what has the focus must be seen"
    page.keyboard.press("Enter")
    page.wait_for_selector("#sd-score")
    before = shown(page)
    tab_to("#use input")
    page.keyboard.press("Space")
    assert page.locator("#use input").first.is_checked() is False
    page.keyboard.press("Space")
    tab_to("#noise input")
    page.focus("#noise input[type=range]")
    for _ in range(10):
        page.keyboard.press("ArrowRight")
    page.focus("#analyse")
    page.evaluate("document.querySelector('#sd-score').remove()")
    page.keyboard.press("Enter")
    page.wait_for_selector("#sd-score")
    assert shown(page) != before
    tab_to("#transcript summary", steps=60)
    page.keyboard.press("Enter")
    assert page.locator("#transcript table").is_visible()


def test_an_example(page):
    examples = sorted((SPACE / "examples").glob("*.mp4"))
    name = examples[0].stem.replace("_", " ").capitalize()
    page.get_by_role("button", name=name).click()
    page.wait_for_selector("#clip video")
    page.wait_for_function("document.querySelector('#words textarea').value.length > 0")
    analyse(page)
    assert page.inner_text("#sd-score")
    page.click("#clear")
    wait_until(lambda: page.input_value("#words textarea") == "", 10)
    assert all(example.exists() for example in examples), "an example is no upload"


def test_camera_and_microphone_are_asked_for_on_demand(page):
    page.get_by_role("tab", name="Sound only").click()
    page.get_by_role("tab", name="Video").click()
    assert page.evaluate("window.asked") == []


def test_nothing_comes_from_elsewhere(page, address, clip):
    give(page, clip, WORDS)
    analyse(page)
    assert {host for host in page.hosts if host} <= {address.split("/")[2]}


def test_uploads_go_with_their_page(browser, address, clip, temporary):
    wait_until(lambda: kept(temporary) == [], 30)
    page = open_page(browser, address)
    give(page, clip, WORDS)
    analyse(page)
    assert [path.name for path in kept(temporary)] == [clip.name], "it can be played while the page is open"
    page.click("#clear")
    wait_until(lambda: kept(temporary) == [], 10)
    give(page, clip, WORDS)
    analyse(page)
    page.context.close()
    wait_until(lambda: kept(temporary) == [], 30)


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize(("width", "height"), [(1280, 900), (400, 850)])
def test_it_fits_and_can_be_used_by_all(browser, address, clip, checkpoints, width, height, dark):
    page = open_page(browser, address, width, height, dark)
    assert ("dark" in page.evaluate("document.body.className")) is dark
    scan(page, "empty")
    give(page, clip, WORDS)
    analyse(page)
    for part in ("#timeline", "#transcript"):
        page.click(f"{part} summary")
    assert page.evaluate("document.documentElement.scrollWidth") <= width, "nothing sticks out to the side"
    scan(page, "with a result")
    page.fill("#words textarea", "")
    page.click("#clear")
    analyse(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    scan(page, "with a message")
    page.context.close()


@pytest.mark.skipif(not MEDIA.is_dir(), reason="the media beside the checkout are not there")
@pytest.mark.parametrize("pattern", ["mosi/*.mp4", "grid/bbaf2n.mpg"])
def test_real_clips(page, pipe, pattern):
    clip = next(MEDIA.glob(pattern))
    page.set_input_files("#clip input[type=file]", str(clip))
    page.wait_for_selector("#clip video, #clip button[aria-label='Clear']", state="attached")
    analyse(page)
    assert shown(page) == f"{pipe(video=str(clip))['score']:+.2f}"
