"""A fresh Python that sees nothing of this project: what loads there, loads for everyone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

# What a program begins with: no way to the project, which a development install offers to every process. Its argument
# is the project's folder, and its input the question, for which an argument may be too short.
ALONE = """
import importlib, json, os, sys
sys.meta_path[:] = [finder for finder in sys.meta_path if "__editable__" not in repr(finder)]
project, question = sys.argv[1], json.load(sys.stdin)
sys.path[:] = [place for place in sys.path if os.path.realpath(place or ".") != project]
for name in ("configuration", "modeling", "processing", "training", "publishing"):
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        continue
    sys.exit(f"a module `{name}` can be imported outside of the project: rename it, or take it off the path")
"""
PROJECT = Path(__file__).resolve().parent.parent
# Settings of a user's Python, token and caches.
USERS = ("PYTHON", "HF_", "HUGGINGFACE", "HUGGING_FACE_", "TRANSFORMERS_", "DATASETS_")


class StrangerError(ValueError):
    """What did not work in the other process: the end of what it said."""


def ask(script: str, question: Any, timeout: float = 900) -> Any:
    """
    Runs `script` in an interpreter of the same version and packages, in an empty folder, offline, with caches of its
    own and without the project.

    Args:
        script: Python; it finds the question as `question`, and leaves its answer in `answer`.
        question: Anything that JSON holds.
        timeout: Seconds.

    Returns:
        The answer, through JSON.

    Raises:
        StrangerError: where the script failed, with its last lines.
    """
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        environment = {name: value for name, value in os.environ.items() if not name.startswith(USERS)}
        environment |= {
            "HF_HOME": str(place / "home"),
            "HF_MODULES_CACHE": str(place / "modules"),
            "HF_HUB_OFFLINE": "1",
        }
        (place / "empty").mkdir()
        answer = place / "answer.json"
        program = f"{ALONE}\n{script}\nopen({str(answer)!r}, 'w').write(json.dumps(answer))\n"
        try:
            finished = subprocess.run(
                # Without byte code, which would be written into the folder that is published.
                [sys.executable, "-I", "-B", "-c", program, str(PROJECT)],
                input=json.dumps(question),
                env=environment,
                cwd=place / "empty",
                capture_output=True,
                text=True,
                timeout=timeout,
            )
        except subprocess.TimeoutExpired:
            raise StrangerError(f"it did not end within {timeout:g} seconds") from None
        if finished.returncode != 0 or not answer.exists():
            said = [line for line in finished.stderr.splitlines() if line.strip()]
            raise StrangerError("\n".join(said[-5:]) or f"it ended with status {finished.returncode}")
        return json.loads(answer.read_text(encoding="utf-8"))
