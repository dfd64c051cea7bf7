"""The list of clips that failed."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path

from datasets_scripts.extraction.clip_worker import Outcome
from datasets_scripts.files import whole_file
from datasets_scripts.report import one_line

FAILURES_FILE = "failed_clips.csv"


def write_failures(path: Path, failed: Iterable[Outcome]) -> None:
    """A table of ids and reasons, sorted by id."""
    with whole_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["id", "reason"])
        table.writerows((one.clip, one_line(str(one.failure))) for one in sorted(failed))
