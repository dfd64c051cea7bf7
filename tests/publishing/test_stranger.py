"""What the other interpreter sees: the question and the installed packages, and nothing of the project or its user."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from publishing import stranger
from publishing.stranger import StrangerError, ask

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("configuration", "modeling", "processing", "training", "publishing")
CAN_IMPORT = """
import importlib.util
answer = [name for name in question if importlib.util.find_spec(name) is not None]
"""
# What `pip install -e` puts into the installed packages: a finder (of setuptools), or the folder's place.
FINDER = """
import importlib.machinery, sys

class _EditableFinder:
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if path else importlib.machinery.PathFinder.find_spec(name, [{root!r}])

def install():
    sys.meta_path.append(_EditableFinder)
"""
NAME = "__editable___sentimodal_0_1_0_finder"


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """An interpreter with an empty folder of installed packages; returns both."""
    place = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place)], check=True, timeout=120)
    return place / "bin" / "python", next(place.glob("lib/python*/site-packages"))


@pytest.fixture
def installed(python, monkeypatch):
    """The folder of installed packages of the interpreter that is asked; empty again afterwards."""
    executable, packages = python
    monkeypatch.setattr(sys, "executable", str(executable))
    before = set(packages.iterdir())
    yield packages
    for path in set(packages.iterdir()) - before:
        path.unlink() if path.is_file() else shutil.rmtree(path)


def test_a_question_and_its_answer():
    question = {"name": "ä", "numbers": [1, 2.5, None], "quotes": "'\"\\\n"}
    assert ask("answer = [question, 1 + 1]", question) == [question, 2]


def test_a_question_may_be_large():
    """An argument of a command may not, and features of 768 numbers a step soon are."""
    assert ask("answer = len(question)", "x" * 10**7) == 10**7


def test_the_project_is_not_there_even_in_its_folder(monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    assert ask(CAN_IMPORT, [*PACKAGES, "json"]) == ["json"]


def test_a_development_install_with_a_finder_is_not_seen(installed, monkeypatch):
    (installed / f"{NAME}.py").write_text(FINDER.format(root=str(ROOT)))
    (installed / "__editable__.sentimodal-0.1.0.pth").write_text(f"import {NAME}; {NAME}.install()")
    seen = subprocess.run([sys.executable, "-I", "-c", "import publishing"], capture_output=True, timeout=60)
    assert seen.returncode == 0, "the finder of this test does not work"
    assert ask(CAN_IMPORT, PACKAGES) == []


def test_a_development_install_with_a_path_is_not_seen(installed):
    (installed / "sentimodal.pth").write_text(f"{ROOT}\n")
    seen = subprocess.run([sys.executable, "-I", "-c", "import publishing"], capture_output=True, timeout=60)
    assert seen.returncode == 0, "the path of this test does not work"
    assert ask(CAN_IMPORT, PACKAGES) == []


@pytest.mark.parametrize("name", PACKAGES)
def test_a_copy_of_the_project_elsewhere_is_noticed(installed, name):
    (installed / f"{name}.py").write_text("")
    with pytest.raises(StrangerError, match=f"a module `{name}` can be imported outside of the project"):
        ask("answer = 1", None)


def test_it_starts_in_an_empty_folder_with_caches_of_its_own(monkeypatch, tmp_path):
    for name in ("HF_HOME", "HF_HUB_CACHE", "HF_MODULES_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_DATASETS_CACHE"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    script = """
from huggingface_hub import constants
places = [constants.HF_HOME, constants.HF_HUB_CACHE, constants.HF_TOKEN_PATH]
answer = [os.listdir(), constants.HF_HUB_OFFLINE, places, [place for place in places if os.path.exists(place)]]
"""
    files, offline, places, there = ask(script, None)
    assert (files, offline, there) == ([], True, [])
    assert not [place for place in places if Path(place).is_relative_to(tmp_path)]
    assert not Path(places[0]).parent.exists(), "it leaves nothing behind"


def test_it_has_no_settings_of_its_user(monkeypatch):
    hidden = {"PYTHONPATH": "/nowhere", "PYTHONSTARTUP": "/nowhere", "HF_TOKEN": "secret", "HF_ENDPOINT": "http://x"}
    hidden |= {"HUGGING_FACE_HUB_TOKEN": "secret"}
    for name, value in {**hidden, "OMP_NUM_THREADS": "1"}.items():
        monkeypatch.setenv(name, value)
    found = ask("answer = dict(os.environ)", None)
    assert not hidden.keys() & found.keys()
    assert found["OMP_NUM_THREADS"] == "1" and found["PATH"] == os.environ["PATH"]


def test_what_goes_wrong_is_told_by_its_last_lines():
    script = "import warnings\nfor i in range(9):\n    warnings.warn(str(i))\nraise KeyError('the name')"
    with pytest.raises(StrangerError) as caught:
        ask(script, None)
    lines = str(caught.value).splitlines()
    assert lines[-1] == "KeyError: 'the name'" and len(lines) == 5
    assert issubclass(StrangerError, ValueError)


@pytest.mark.parametrize(
    "script, message",
    [
        ("sys.exit(3)", "it ended with status 3"),
        ("os._exit(0)", "it ended with status 0"),
        ("question", "NameError: name 'answer' is not defined"),
        ("answer = {1, 2}", "TypeError: Object of type set is not JSON serializable"),
    ],
)
def test_no_answer_is_an_error(script, message):
    with pytest.raises(StrangerError, match=message):
        ask(script, None)


def test_a_script_that_does_not_end():
    with pytest.raises(StrangerError, match=r"it did not end within 0\.5 seconds"):
        ask("import time\ntime.sleep(60)", None, timeout=0.5)


def test_what_it_prints_is_no_answer(capfd):
    assert ask("print('{}')\nanswer = 5", None) == 5
    assert capfd.readouterr().out == ""


def test_it_is_this_project_that_is_hidden():
    assert stranger.PROJECT == ROOT
