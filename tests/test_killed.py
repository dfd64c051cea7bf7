"""Programs that are killed at every operation on files go on and end like unbroken ones; see benchmarks/killing.py."""

import subprocess
import sys
from pathlib import Path

import pytest

KILLING = Path(__file__).resolve().parents[1] / "benchmarks" / "killing.py"


def killed(program, every, *cases):
    """The table of a program that was killed at every so-manieth operation on files."""
    command = [sys.executable, str(KILLING), program, "--every", str(every), "--cases", *map(str, cases)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    assert "every result was that of an unbroken run" in done.stdout
    return done.stdout


def kills_of(table, case):
    """Of a line of the table, the numbers."""
    (line,) = [line for line in table.splitlines() if line.startswith(case)]
    return [int(number) for number in line[len(case) :].split()]


def test_a_conversion():
    kills, before, while_, after, runs, *_, broken, other = kills_of(killed("prepare_data", 5, 0), "a pickle")
    assert kills == runs == before + while_ + after and while_ > 0 and broken == other == 0


@pytest.mark.slow
@pytest.mark.parametrize(("program", "cases"), [("train", (1, 2)), ("prepare_data", (0, 1, 2)), ("extract", (0, 2))])
def test_every_operation(program, cases):
    assert " 0 " in killed(program, 1, *cases)
