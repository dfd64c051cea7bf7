"""Several processes that train together, on one machine or on several: who goes first, and that all do the same."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch.distributed
from accelerate.utils import gather_object
from transformers import TrainingArguments

from datasets_scripts.extraction.share import PATIENCE


@contextmanager
def machines_first(args: TrainingArguments) -> Iterator[None]:
    """
    The first process of each machine does what is within, and then the others do. They wait as long as it takes:
    `args.main_process_first` gives up after `ddp_timeout` seconds, on a CPU after half an hour in any case.
    """
    if args.world_size == 1:
        yield
        return
    group = torch.distributed.new_group(timeout=PATIENCE, backend="gloo")
    try:
        if args.local_process_index:
            torch.distributed.barrier(group)
        yield
    finally:
        if not args.local_process_index:
            torch.distributed.barrier(group)
        torch.distributed.destroy_process_group(group)


def check_agreement(found: dict[str, Any]) -> None:
    """
    To be called by all processes, with what decides what they do, by name; sections may be dictionaries themselves.

    Raises:
        ValueError: in all of them, where one has something else than the first one: each would train something of its
            own, or they would wait for each other.
    """
    first, *others = gather_object([dict(_flat(found))])
    for process, other in enumerate(others, start=1):
        names = sorted(name for name in {*first, *other} if first.get(name) != other.get(name))
        if names:
            shown = "; ".join(f"{name}: {first.get(name)!r} in process 0, {other.get(name)!r} there" for name in names)
            raise ValueError(
                f"Process {process} would not train what process 0 trains ({shown}). Give all machines the same "
                "command line and data, and as --output_dir one folder that all of them see."
            )


def _flat(content: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in content.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
