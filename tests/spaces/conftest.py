"""A running demo with checkpoints that nobody trained, for the tests that meet it."""

import pytest

from datasets_scripts.synthetic_clips import write_synthetic_clips
from tests.spaces.demo_server import kept, running, write_checkpoints


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    return write_checkpoints(tmp_path_factory.mktemp("checkpoints"))


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips") / "clips"
    row = write_synthetic_clips(folder, clips=3, seed=4)[0]
    return folder / "Raw" / row["video_id"] / f"{row['clip_id']}.mp4"


@pytest.fixture(scope="module")
def temporary(tmp_path_factory):
    """Where the demo's process puts what is temporary."""
    return tmp_path_factory.mktemp("temporary")


@pytest.fixture(scope="module")
def demo(checkpoints, temporary):
    """Address and process."""
    models = [argument for folder in checkpoints for argument in ("--model", str(folder))]
    arguments = [*models, "--requests_per_minute", "1000", "--seconds", "10"]
    with running(*arguments, environment={"TMPDIR": str(temporary)}) as (address, process):
        yield address, process
    assert kept(temporary) == [], "something temporary is left after the end"


@pytest.fixture(scope="module")
def pipe(checkpoints):
    from transformers import pipeline

    return pipeline("multimodal-sentiment-analysis", model=str(checkpoints[0]), trust_remote_code=True)
