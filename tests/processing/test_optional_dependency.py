"""Libraries that only media need: named, with how to get them, when one is missing."""

import subprocess
import sys

import numpy as np
import pytest

from datasets_scripts.synthetic_clips.mp4 import write_mp4
from processing.media_features import MediaFeatures
from processing.optional_dependency import require
from publishing.stranger import PROJECT

IMPORTED = """
import sys
sys.path.insert(0, sys.argv[1])
import processing
print([name for name in ("av", "cv2", "opensmile", "mediapipe", "gradio") if name in sys.modules])
"""


def test_a_library_that_is_there():
    assert require("json", "Reading") is sys.modules["json"]


def test_a_library_that_is_missing():
    with pytest.raises(ImportError, match=r"Reading media needs nowhere_to_be, .*`pip install 'somewhere'`"):
        require("nowhere_to_be", "Reading media", "'somewhere'")


@pytest.mark.parametrize(
    "missing, package", [("av", "av"), ("cv2", "opencv-python-headless"), ("opensmile", "opensmile")]
)
def test_what_reads_media_says_what_it_needs(missing, package, tmp_path, monkeypatch):
    for name in ("av", missing):
        pytest.importorskip(name)
    path = tmp_path / "clip.mp4"
    write_mp4(path, [np.zeros((48, 64, 3), np.uint8)] * 5, 10, np.zeros(8000, np.float32), 16_000)
    rate = 10.0 + len(missing)  # settings that no other test has: extractors are kept, with what they imported
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ImportError, match=f"needs {missing}.*pip install.*{package}"):
        MediaFeatures({"name": "egemaps_v02", "rate": rate}, {"name": "face_appearance", "rate": rate})(path)


def test_nobody_imports_them_before_they_are_used():
    command = [sys.executable, "-I", "-c", IMPORTED, str(PROJECT)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
