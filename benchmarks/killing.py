"""
Kills train.py, prepare_data.py and extract.py with SIGKILL, again and again, and looks at what that leaves.

    python benchmarks/killing.py train --kills 100
    python benchmarks/killing.py prepare_data --kills 100
    python benchmarks/killing.py extract --kills 100

A program runs once unbroken. Then it is started, killed with its whole process group, looked at, and started again,
to be killed again or to end, until there were so many kills. A third of the kills come at a random moment of the run, a
third when something in the output folder has just changed, and a third at a random operation on files, of those that
the unbroken run did; the last two with a random delay of up to 3 ms. After every kill, an output folder that looks
complete has to be complete: what `AutoModel.from_pretrained` and predict.py take for a trained model (config.json is
there) has the weights, bit for bit, and all other files of the unbroken run; a stage that says that it is finished has
its weights; a prepared folder (there is a folder of that name) is, byte for byte, that of the unbroken run, or with
--overwrite the one before it. A run that came to its end has the files of the unbroken run and nothing else, in the
folder and beside it, byte for byte but for seconds and memory.

The runs are forked from one process that has imported everything: a program takes seconds to import what it needs, and
most kills would hit that. extract.py's workers are forked from the run for the same reason. One thread per process:
threads do not survive a fork.
"""

# ruff: noqa: E402  (threads are decided before anything is imported)

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"
os.environ.update(TOKENIZERS_PARALLELISM="false", HF_HUB_OFFLINE="1")

import argparse
import importlib
import json
import multiprocessing
import pickle
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import datasets
import numpy as np
import torch
from transformers.utils.logging import disable_progress_bar

import extract
import prepare_data
import train
from datasets_scripts.extraction import pool
from tests.conftest import make_mmsa_content
from tests.datasets_scripts.made_clips import make_folder
from tests.dying import Child

KILLED = -signal.SIGKILL
COSTS = ("train_seconds", "seconds_per_epoch", "peak_memory_mb")
Content = dict[str, Any]


@dataclass
class Case:
    """
    One way to run a program.

    Attributes:
        name: What the table calls it.
        run: Runs it with an output folder, which it makes or goes on with.
        check: What is wrong with an output folder in which a run was killed; see `looks_complete`.
        before: Makes what is at the place of the output folder before the first run.
    """

    name: str
    run: Callable[[Path], int | None]
    check: Callable[[Path, Content, Content], list[str]]
    before: Callable[[Path], int | None] = lambda out: None


@dataclass
class Tally:
    kills: int = 0
    moments: dict[str, int] = field(default_factory=lambda: {"before": 0, "while": 0, "after": 0})
    runs: int = 0
    resumes: int = 0
    broken: list[str] = field(default_factory=list)
    different: list[str] = field(default_factory=list)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", choices=PROGRAMS)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--every", type=int, help="kill at every so-manieth operation on files, once, not at random")
    parser.add_argument("--cases", type=int, nargs="+", help="only these lines of the table, from 0")
    parser.add_argument("--folder", help="where to work, and to leave everything; a temporary folder by default")
    options = parser.parse_args()
    torch.set_num_threads(1)
    disable_progress_bar()
    datasets.disable_progress_bars()
    folder = Path(options.folder or tempfile.mkdtemp(prefix="killing-"))
    folder.mkdir(parents=True, exist_ok=True)
    datasets.config.HF_DATASETS_CACHE = folder / "cache"
    cases = PROGRAMS[options.program](folder)
    cases = [cases[number] for number in options.cases or range(len(cases))]
    print(f"{options.program}.py" + HEADING)
    tallies = []
    for number, case in enumerate(cases):
        share = options.kills // len(cases) + (number < options.kills % len(cases))
        plans = Plans(share, random.Random(options.seed), options.every)
        tallies.append(kill(case, folder / f"case_{number}", plans))
        print(line(case.name, tallies[-1]), flush=True)
    faults = [fault for tally in tallies for fault in (*tally.broken, *tally.different)]
    print("\n".join(faults) or "No folder looked complete that was not; every result was that of an unbroken run.")
    if options.folder is None:
        shutil.rmtree(folder)
    return 1 if faults else 0


HEADING = f"\n{'':34}{'kills':>6}{'before':>8}{'while':>7}{'after writing':>15}{'runs':>6}{'resumes':>9}" + (
    f"{'broken folders':>16}{'other results':>15}"
)


def line(name: str, tally: Tally) -> str:
    moments = tally.moments
    return (
        f"{name:34}{tally.kills:>6}{moments['before']:>8}{moments['while']:>7}{moments['after']:>15}{tally.runs:>6}"
        f"{tally.resumes:>9}{len(tally.broken):>16}{len(tally.different):>15}"
    )


@dataclass
class Plan:
    """How a run is killed: what decides the moment, which moment, and how many seconds after it."""

    kind: str
    when: float
    delay: float = 0.0


class Plans:
    """The kills of a case, one after the other."""

    def __init__(self, kills: int, chance: random.Random, every: int | None):
        self.left, self.chance, self.every = kills, chance, every
        self.position = 0

    def measured(self, seconds: float, changes: int, operations: int) -> None:
        """Takes in what the unbroken run was like."""
        self.seconds, self.changes, self.operations = seconds, max(changes, 1), max(operations, 1)
        if self.every is not None:
            self.left = len(range(1, operations + 1, self.every))

    def next(self, begun: bool) -> Plan | None:
        """The next kill; None where the run, which was killed already or has not begun, is left to end."""
        if self.left == 0 or (begun and (self.every is not None or self.chance.random() < 0.4)):
            return None
        if self.every is not None:
            self.position, self.left = self.position + 1, self.left - 1
            return Plan("operation", 1 + (self.position - 1) * self.every)
        kind = self.chance.choice(("moment", "change", "operation"))
        if kind == "moment":
            return Plan(kind, self.chance.uniform(0.0, self.seconds))
        most = self.changes if kind == "change" else self.operations
        return Plan(kind, self.chance.randint(1, most), self.chance.choice((0.0, self.chance.uniform(0.0, 0.003))))

    def killed(self) -> None:
        if self.every is None:
            self.left -= 1


def kill(case: Case, folder: Path, plans: Plans) -> Tally:
    """Runs a case unbroken, then with kills; folders of runs with a fault are kept."""
    (folder / "whole").mkdir(parents=True)
    out, log = folder / "whole" / "out", folder / "log.txt"
    Child(lambda: case.before(out), log).wait()
    old = contents(out)
    child = Child(lambda: case.run(out), log, folder=out, note=folder / "note.json")
    changes = 0
    seen = signature(out.parent)
    while not child.ended():
        now = signature(out.parent)
        changes, seen = changes + (now != seen), now
    seconds = time.perf_counter() - child.began
    if child.code:
        sys.exit(f"{case.name}: the unbroken run ended with {child.code}; see {log}")
    whole, beside = contents(out), names(out)
    note = json.loads((folder / "note.json").read_text())
    operations = note["operations"]
    for module in note["modules"]:
        with suppress(Exception):  # some are no files
            importlib.import_module(module)

    plans.measured(seconds, changes, operations)
    tally = Tally()
    while plans.left:
        place = folder / f"run_{tally.runs}"
        place.mkdir()
        out, log, said = place / "out", place / "log.txt", len(tally.broken) + len(tally.different)
        Child(lambda: case.before(out), log).wait()  # noqa: B023  (it is called at once)
        tally.runs += 1
        done: list[Plan | None] = []
        code = None
        while code != 0:
            done.append(plans.next(begun=bool(done)))
            tally.resumes += len(done) > 1
            code = run_and_kill(case, out, log, done[-1])
            where = f"{case.name}, {place.name}, {done}"
            if code == KILLED:
                plans.killed()
                tally.kills += 1
                found = contents(out)
                written = found != old or bool(names(out) - {"out"})
                tally.moments["after" if found == whole else "while" if written else "before"] += 1
                tally.broken += [f"BROKEN FOLDER ({where}): {fault}" for fault in case.check(out, whole, old)]
            elif code != 0:
                tally.different.append(f"DOES NOT GO ON ({where}): exit code {code}; {last_line(log)}")
                break
        if code == 0:
            faults = differences(contents(out), whole)
            left = sorted(names(out) ^ beside)
            faults += [f"left beside the folder: {left}"] if left else []
            tally.different += [f"OTHER RESULT ({where}): {fault}" for fault in faults]
        if said == len(tally.broken) + len(tally.different):
            shutil.rmtree(place)
    return tally


def run_and_kill(case: Case, out: Path, log: Path, plan: Plan | None) -> int:
    """The exit code of a run, negative where it was killed."""
    if plan is None:
        return Child(lambda: case.run(out), log).wait()
    if plan.kind == "operation":
        return Child(lambda: case.run(out), log, folder=out, operation=plan.when, delay=plan.delay).wait()
    child = Child(lambda: case.run(out), log)
    if plan.kind == "moment":
        while not child.ended() and time.perf_counter() - child.began < plan.when:
            time.sleep(0.0005)
    else:
        seen, changes = signature(out.parent), 0
        while not child.ended() and changes < plan.when:
            now = signature(out.parent)
            changes, seen = changes + (now != seen), now
        time.sleep(plan.delay)
    child.kill()
    return child.wait()


def signature(folder: Path) -> set[tuple[str, int, int]]:
    """Which files a folder has, how large they are, and when they were written."""
    found = set()
    for place, _, files in os.walk(folder):
        for name in files:
            try:
                state = os.stat(os.path.join(place, name))
            except FileNotFoundError:
                continue
            if name != "log.txt":
                found.add((os.path.join(place, name), state.st_size, state.st_mtime_ns))
    return found


def names(out: Path) -> set[str]:
    """What lies beside an output folder, and itself."""
    return {path.name for path in out.parent.iterdir()} - {"log.txt"}


def last_line(log: Path) -> str:
    return (log.read_text().strip().splitlines() or [""])[-1]


def contents(out: Path) -> Content:
    """Each file of a folder, by its name: its bytes, or what they say but for seconds and memory."""
    found: Content = {}
    for path in sorted(out.rglob("*")):
        if not path.is_file():
            continue
        name = path.relative_to(out).as_posix()
        if "checkpoint-" in name:  # of no use to anyone when the run is done; only which there are
            found[name] = None
        elif path.name in ("all_results.json", "stage.json", "training_record.json"):
            found[name] = without_costs(json.loads(path.read_text()))
        elif path.name == "README.md" and (out / "recipe.yaml").exists():
            found[name] = None  # a card with seconds and watt-hours
        else:
            found[name] = path.read_bytes()
    return found


def without_costs(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: without_costs(one)
            for key, one in value.items()
            if key not in (*COSTS, "energy_kwh") and not key.endswith(("_runtime", "_per_second"))
        }
    return [without_costs(one) for one in value] if isinstance(value, list) else value


def differences(found: Content, expected: Content) -> list[str]:
    faults = [f"{name} is missing" for name in expected.keys() - found.keys()]
    faults += [f"{name} is too much" for name in found.keys() - expected.keys()]
    return faults + [f"{name} differs" for name in found.keys() & expected.keys() if found[name] != expected[name]]


def check_run(out: Path, whole: Content, old: Content) -> list[str]:
    """A run of train.py that was killed."""
    found = contents(out)
    if "all_results.json" in found:
        return differences(found, whole)
    faults = []
    if "config.json" in found:
        lasting = {name: value for name, value in whole.items() if "checkpoint-" not in name}
        lasting.pop("all_results.json")
        faults = differences({name: value for name, value in found.items() if name in lasting}, lasting)
    for name in found:
        if name.endswith("stage.json"):
            weights = name.replace("stage.json", "model.safetensors")
            if found.get(weights) != whole[weights] or found[name] != whole[name]:
                faults.append(f"{name} is there, but {weights} or itself is not that of the unbroken run")
    return faults


def check_prepared(out: Path, whole: Content, old: Content) -> list[str]:
    """A prepared folder: there is none, or a whole one."""
    found = contents(out)
    return differences(found, whole) if found and found != old else []


def train_cases(folder: Path) -> list[Case]:
    def case(name: str, recipe: str, *arguments: str, data_file: bool = False) -> Case:
        line = [str(ROOT / "recipes" / recipe), *small, *arguments, "--use_cpu", "true", "--seed", "7"]
        return Case(
            name,
            lambda out: not train.main([*line, "--output_dir", str(out), "--resume_from_checkpoint", "true"]),
            check_run,
        )

    batches = ("--per_device_train_batch_size", "8")
    small = ("--num_train_epochs", "3", *batches)
    synthetic = ("--synthetic.train", "40", "--synthetic.valid", "16", "--synthetic.test", "16")
    steps = ("--eval_strategy", "steps", "--eval_steps", "2", "--save_strategy", "steps", "--save_steps", "2")
    data = folder / "features.pkl"
    data.write_bytes(pickle.dumps(make_mmsa_content()))
    return [
        case("quickstart", "quickstart.yaml", *synthetic),
        case("quickstart, saved in mid-epoch", "quickstart.yaml", *synthetic, *steps, "--save_total_limit", "1"),
        case("delta_attention, three stages", "delta_attention_synthetic.yaml", *synthetic, *steps),
        case("lf_dnn, from a pickle", "lf_dnn_mosi.yaml", "--data_file", str(data), *steps),
    ]


def prepare_cases(folder: Path) -> list[Case]:
    content = make_mmsa_content()
    many = {
        name: {key: [value[i % len(value)] for i in range(1500)] for key, value in split.items()}
        for name, split in content.items()
    }
    for name, split in many.items():
        split["id"] = [f"{name}$_${number}" for number in range(1500)]
        split |= {key: np.stack(split[key]) for key in ("text", "text_bert", "audio", "vision")}
    sources = {"few.pkl": content, "many.pkl": many}
    for name, rows in sources.items():
        (folder / name).write_bytes(pickle.dumps(rows))

    def prepare(source: str, *arguments: str) -> Callable[[Path], None]:
        return lambda out: prepare_data.main([str(folder / source), "--output", str(out), *arguments])

    return [
        Case("a pickle", prepare("few.pkl"), check_prepared),
        Case("shards, two processes", prepare("many.pkl", "--max_shard_size", "100KB"), check_prepared),
        Case("--overwrite", prepare("many.pkl", "--overwrite"), check_prepared, before=prepare("few.pkl")),
    ]


def extract_cases(folder: Path) -> list[Case]:
    # Workers are forked from the run, see above.
    pool.multiprocessing = SimpleNamespace(  # type: ignore[assignment]
        get_all_start_methods=lambda: [], get_context=lambda method: multiprocessing.get_context("fork")
    )
    clips = make_folder(folder / "clips", 12)

    def extraction(*arguments: str) -> Callable[[Path], int]:
        return lambda out: extract.main([str(clips), "--output", str(out), "--drop", "vision", *arguments])

    egemaps = ("--audio", '{"name": "egemaps_v02", "rate": 10}')
    return [
        Case("log mel, two processes", extraction(), check_prepared),
        Case("one process", extraction("--num_proc", "1"), check_prepared),
        Case("--overwrite", extraction("--overwrite", *egemaps), check_prepared, before=extraction()),
    ]


PROGRAMS = {"train": train_cases, "prepare_data": prepare_cases, "extract": extract_cases}

if __name__ == "__main__":
    sys.exit(main())
