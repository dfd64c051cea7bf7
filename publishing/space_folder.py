"""A Space of this repository, or a metric, which is one, as a folder for the Hub: its files, and what they import."""

from __future__ import annotations

import ast
import shutil
from pathlib import Path

from huggingface_hub import SpaceCard

from publishing.stranger import StrangerError, ask

ROOT = Path(__file__).resolve().parent.parent
REQUIRED = ("title", "sdk", "app_file")  # in the header of a Space's README.md
STALE = ("*.py", "**/*.py", "requirements.txt")

_STARTS = """
import importlib.util, runpy
answer = None
if importlib.util.find_spec(question["sdk"]) is not None:
    sys.path.insert(0, question["folder"])
    os.chdir(question["folder"])
    runpy.run_path(question["app_file"], run_name="imported")
    answer = "started"
"""
_SCORES = """
import evaluate
answer = []
for name, predictions, references in question["cases"]:
    metric = evaluate.load(question["file"], *([name] if name else []))
    answer.append(repr(metric.compute(predictions=predictions, references=references)))
"""


def build_space(source: Path, folder: Path) -> list[str]:
    """
    Fills an empty folder with the Space in `source` and the modules of this repository that its programs import, and
    starts it where the project cannot be seen.

    Returns:
        What a person should know, a sentence each.

    Raises:
        ValueError: for a folder that is no Space, and for one that does not start.
    """
    if not (source / "README.md").is_file():
        raise ValueError(f"{source} is no Space: it has no README.md with a header.")
    header = SpaceCard.load(source / "README.md").data.to_dict()
    missing = [name for name in REQUIRED if not header.get(name)]
    if missing:
        raise ValueError(
            f"The header of {source / 'README.md'} must name {', '.join(REQUIRED)}; {missing[0]} is missing."
        )
    if not (source / header["app_file"]).is_file():
        raise ValueError(f"{source / 'README.md'} names the app_file {header['app_file']!r}, which is not there.")
    shutil.copytree(
        source, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__", ".*", "*.pyc", "test_*.py")
    )
    for module in imported_modules(sorted(folder.glob("**/*.py"))):
        file = module.relative_to(ROOT)
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(module, folder / file)
    question = {"folder": str(folder), "app_file": header["app_file"], "sdk": header["sdk"]}
    try:
        started = ask(_STARTS, question)
    except StrangerError as error:
        raise ValueError(f"{source} is not published: its {header['app_file']} does not start:\n{error}") from None
    return [] if started else [f"{header['app_file']} was not started here: {header['sdk']} is not installed."]


def build_metric(source: Path, folder: Path, cases: list[tuple[str | None, list, list]]) -> list[str]:
    """
    A Space whose folder holds a metric of the same name: it must load, and score as it does here, where the project
    cannot be seen.

    Args:
        source, folder: As of `build_space`.
        cases: Configuration, predictions and references of what is scored.

    Raises:
        ValueError: as `build_space`, and where the metric does not load or scores otherwise.
    """
    import evaluate  # needs a second, and nothing else here does

    file = f"{source.name}.py"
    if not (source / file).is_file():
        raise ValueError(f"{source} is no metric: a metric has its code in {file}.")
    notes = build_space(source, folder)
    expected = []
    for name, predictions, references in cases:
        metric = evaluate.load(str(source / file), *([name] if name else []))
        expected.append(repr(metric.compute(predictions=predictions, references=references)))
    try:
        found = ask(_SCORES, {"file": str(folder / file), "cases": cases})
    except StrangerError as error:
        raise ValueError(f"{source} is not published: {file} does not load outside of the project:\n{error}") from None
    if found != expected:
        raise ValueError(f"{source} is not published: it scores {found} outside of the project, and {expected} here.")
    return notes


def imported_modules(files: list[Path]) -> list[Path]:
    """The modules of this repository that Python files import, directly or not, with the packages that they lie in."""
    found: dict[Path, None] = {}
    waiting = list(files)
    while waiting:
        for module in _imports(waiting.pop()):
            if module not in found:
                found[module] = None
                waiting.append(module)
    return sorted(found)


def _imports(file: Path) -> list[Path]:
    names: list[str] = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    modules = []
    for name in names:
        parts = name.split(".")
        for length in range(1, len(parts) + 1):  # a module brings the packages that it lies in
            place = ROOT.joinpath(*parts[:length])
            modules += [path for path in (place.with_suffix(".py"), place / "__init__.py") if path.is_file()]
    return modules
