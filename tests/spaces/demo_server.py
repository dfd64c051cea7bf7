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
import torch

from modeling import MMLatchModel, SelfMMModel
from processing import MultimodalProcessor
from processing.media_features import MediaFeatures
from tests.strangers import TINY_BERT
from training.factory import word_tokenizer
from training.remote_code import write_checkpoint

ROOT = Path(__file__).resolve().parents[2]
SPACE = ROOT / "spaces" / "sentiment_demo"
MEDIA = ROOT.parent / "shared" / "data" / "media"

needs_gradio = pytest.mark.skipif(importlib.util.find_spec("gradio") is None, reason="gradio is not installed")


def write_untrained(folder, model_class=SelfMMModel, seed=0, **settings):
    """A checkpoint that reads clips as trained ones do, and knows nothing."""
    features = MediaFeatures("egemaps_v02", "face_appearance")
    extractors = {"audio": features.audio_extractor, "vision": features.vision_extractor}
    sizes = {f"{name}_feature_size": one.feature_size for name, one in extractors.items()}
    tokenizer = word_tokenizer(["the plot was good and the ending bad"], {})
    processor = MultimodalProcessor(
        tokenizer,
        text_input="tokens",
        normalization={
            name: {"mean": [0.5] * one.feature_size, "std": [20.0] * one.feature_size}
            for name, one in extractors.items()
        },
        **sizes,
        **{f"{name}_extractor": one.settings() for name, one in extractors.items()},
    )
    torch.manual_seed(seed)
    config = model_class.config_class(text_config={**TINY_BERT, "vocab_size": len(tokenizer)}, **sizes, **settings)
    model = model_class(config)
    with torch.no_grad():  # so that numbers differ in the digits that the page shows
        for parameter in model.parameters():
            parameter.mul_(3.0)
    write_checkpoint(folder, model, processor)
    return folder


def write_checkpoints(folder):
    return [
        write_untrained(folder / "self_mm"),
        write_untrained(folder / "mmlatch", MMLatchModel, seed=1, hidden_size=12),
        write_untrained(folder / "emotions", seed=2, target="emotions"),
    ]


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
