"""The share of one of several processes, which `accelerate launch` or `torchrun` started, on one machine or more."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Any, TypeVar

import torch.distributed

SomeItem = TypeVar("SomeItem")
# How long processes wait for one another: one may be done hours before the others are, which is no sign of a hang.
PATIENCE = timedelta(days=100)


class Share:
    """
    Every process takes the items whose position it is, counted around. A process that was started alone takes all.

    Attributes:
        position: of this process, from 0.
        processes: how many there are.
    """

    def __init__(self) -> None:
        self.position = int(os.environ.get("RANK", 0))
        self.processes = int(os.environ.get("WORLD_SIZE", 1))

    def __enter__(self) -> Share:
        if self.processes > 1:
            torch.distributed.init_process_group("gloo", timeout=PATIENCE)
        return self

    def __exit__(self, *fault: Any) -> None:
        if self.processes > 1:
            torch.distributed.destroy_process_group()

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes what there is once, and speaks."""
        return self.position == 0

    def of(self, items: Iterable[SomeItem]) -> Iterator[SomeItem]:
        """The items of this process."""
        return itertools.islice(items, self.position, None, self.processes)

    def size_of(self, count: int) -> int:
        """How many of so many items are this process'."""
        return len(range(self.position, count, self.processes))

    def gathered(self, found: Any) -> list[Any]:
        """
        What each process has found, in their order, once all are here.

        Raises:
            ConnectionError: one of them has ended.
        """
        if self.processes == 1:
            return [found]
        everything: list[Any] = [None] * self.processes
        try:
            torch.distributed.all_gather_object(everything, found)
        except RuntimeError as error:
            raise ConnectionError(
                f"another of the {self.processes} processes has ended ({str(error).splitlines()[0]}); see what it "
                "says, and start all of them again."
            ) from error
        return everything
