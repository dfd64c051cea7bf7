"""How programs end."""

import errno
import sys

import pytest
import torch

from datasets_scripts.files import DiskFullError
from datasets_scripts.programs import message, out_of_memory, run_program


def ended(main, monkeypatch, **words):
    monkeypatch.setattr(sys, "argv", ["program", "--a", "1"])
    with pytest.raises(SystemExit) as ended:
        run_program(main, **words)
    return ended.value.code


@pytest.mark.parametrize(("result", "code"), [(None, 0), (0, 0), (1, 1), ({"mae": 1.0}, 0)])
def test_the_exit_code(monkeypatch, result, code):
    given = []
    assert ended(lambda arguments: given.append(arguments) or result, monkeypatch) == code
    assert given == [["--a", "1"]]


def raising(error):
    def main(arguments):
        raise error

    return main


@pytest.mark.parametrize("error", [ValueError("no"), FileNotFoundError("no"), ImportError("no")])
def test_what_the_user_can_mend_is_one_message(monkeypatch, error):
    assert ended(raising(error), monkeypatch, go_on="Go on.") == f"{type(error).__name__}: no"


def test_a_fault_of_the_program_is_shown_as_it_is(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["program"])
    with pytest.raises(KeyError):
        run_program(raising(KeyError("x")))


def test_a_stop_says_how_to_go_on(monkeypatch):
    assert ended(raising(KeyboardInterrupt()), monkeypatch, go_on="Go on.") == "Stopped. Go on."


def test_a_full_disk_says_how_to_go_on():
    assert message(DiskFullError("x could not be written"), "Go on.") == "DiskFullError: x could not be written Go on."
    assert message(OSError(errno.ENOSPC, "No space left on device"), "Go on.").endswith("Go on.")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("8 bytes"),
        torch.OutOfMemoryError("CUDA out of memory"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
    ],
)
def test_memory_that_runs_out_says_what_to_lower(error):
    assert out_of_memory(error)
    said = message(error, "Go on.", "Lower it.")
    assert said.startswith("Out of memory. ") and said.endswith("\nLower it. Go on.") and str(error) in said


def test_memory_of_a_cpu():
    with pytest.raises(RuntimeError) as raised:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert out_of_memory(raised.value)
    assert not out_of_memory(RuntimeError("shapes do not fit")) and message(RuntimeError("shapes")) is None
