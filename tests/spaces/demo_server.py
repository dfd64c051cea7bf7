"""The demo as its users meet it: a process of its own, with checkpoints that nobody trained."""

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from modeling import MMLatchModel
from tests.strangers import media_checkpoint

ROOT = Path(__file__).resolve().parents[2]
SPACE = ROOT / "spaces" / "sentiment_demo"
MEDIA = ROOT.parent / "shared" / "data" / "media"

needs_gradio = pytest.mark.skipif(importlib.util.find_spec("gradio") is None, reason="gradio is not installed")


def write_checkpoints(folder):
    """Self-MM, MMLatch with its masks, and one for emotions; their numbers differ in the digits that are shown."""
    found = [folder / name for name in ("self_mm", "mmlatch", "emotions")]
    media_checkpoint(found[0], scale=3.0)
    media_checkpoint(found[1], MMLatchModel, seed=1, scale=3.0, hidden_size=12)
    media_checkpoint(found[2], seed=2, scale=3.0, target="emotions")
    return found


@contextmanager
def running(*arguments, environment=None, app=SPACE / "app.py"):
    """The address and the process of a demo with these arguments."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, str(app), "--port", str(port), *map(str, arguments)]
    settings = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **(environment or {})}
    process = subprocess.Popen(command, env=settings, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    address = f"http://127.0.0.1:{port}/"
    try:
        wait_until(lambda: process.poll() is not None or _answers(address), 90)
        assert process.poll() is None, process.communicate()[0]
        yield address, process
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
        process.stdout.close()


def wait_until(true, seconds):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"it was not so within {seconds} seconds"
        time.sleep(0.1)


def _answers(address):
    try:
        with urllib.request.urlopen(address, timeout=2) as response:
            return response.status == 200
    except OSError:
        return False


def kept(temporary):
    """The files in a folder."""
    return [path for path in temporary.rglob("*") if path.is_file()]


def resident_megabytes(process):
    status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
    return int(status.split("VmRSS:")[1].split()[0]) / 1000


def write_sound(path, seconds=2.0, rate=16000):
    """A voice-like tone."""
    import av

    times = np.arange(int(seconds * rate)) / rate
    samples = (0.3 * np.sin(2 * np.pi * 150 * times) * (1 + np.sin(2 * np.pi * 4 * times)) * 16000).astype(np.int16)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
        frame.sample_rate = rate
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path
