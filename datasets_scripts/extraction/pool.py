"""Processes that work side by side, and of which any may die: a file that crashes a decoder costs one clip, no more."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, NamedTuple

import torch

# Each process has one thread: with as many processes as cores, more would only wait for each other.
_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENCV_FOR_THREADS_NUM": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
_LAST_SECONDS = 5.0  # that a process has to end by itself
_LONGEST_WAIT = 3600.0  # seconds at a time: the system does not take any number


class Lost(NamedTuple):
    """In place of a result: the process that worked on a job ended before it had one, and why, in words."""

    reason: str


@dataclass
class _Worker:
    process: BaseProcess
    connection: Connection
    job: Any  # that it works on, or will once it is ready
    since: float | None = None  # when it was given the job; None before it is ready


class Pool:
    """
    Args:
        make: Called in each process, once: gives the function that does a job. Both can be pickled, and so can jobs and
            results; the function raises nothing.
        processes: How many.
        seconds: After how long a job is given up, and its process ended.
        preload: Modules that `make` needs, which are imported once for all processes, where the system can do that.
    """

    def __init__(
        self, make: Callable[[], Callable[[Any], Any]], processes: int, seconds: float, preload: tuple[str, ...] = ()
    ) -> None:
        self._make = make
        self._processes = processes
        self._seconds = seconds
        # Not "fork": libraries that have started threads do not survive it, and pipes would stay open in siblings.
        method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
        self._context: Any = multiprocessing.get_context(method)
        if method == "forkserver":
            self._context.set_forkserver_preload(["__main__", "torch", *preload])

    def run(self, jobs: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
        """Each job with its result, or with `Lost`, in the order in which they are done.

        Raises:
            ValueError: `make` failed.
        """
        waiting = iter(jobs)
        workers: list[_Worker] = []
        try:
            with _one_thread_each():
                while True:
                    while len(workers) < self._processes and (job := next(waiting, None)) is not None:
                        workers.append(self._start(job))
                    if not workers:
                        return
                    for worker in self._heard(workers):
                        if worker.since is None:
                            self._begin(worker)
                            continue
                        job, result = worker.job, self._receive(worker)
                        if isinstance(result, Lost):
                            workers.remove(worker)
                        elif (following := next(waiting, None)) is not None:
                            self._give(worker, following)
                        else:
                            workers.remove(worker)
                            self._end(worker)
                        yield job, result
        finally:
            for worker in workers:
                worker.process.kill()
                self._end(worker)

    def _start(self, job: Any) -> _Worker:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_serve, args=(theirs, self._make), daemon=True)
        process.start()
        theirs.close()
        return _Worker(process, ours, job)

    def _begin(self, worker: _Worker) -> None:
        try:
            fault = worker.connection.recv()
        except (EOFError, ConnectionResetError):
            fault = f"the process {_how_it_ended(worker.process)}"
        if fault is not None:
            raise ValueError(f"nothing could be extracted: {fault}")
        self._give(worker, worker.job)

    def _give(self, worker: _Worker, job: Any) -> None:
        worker.job, worker.since = job, time.monotonic()
        with contextlib.suppress(BrokenPipeError):  # it died between two jobs: found when its result is read
            worker.connection.send(job)

    def _heard(self, workers: list[_Worker]) -> list[_Worker]:
        """Those that are ready, have a result, have died or are late."""
        ends = [worker.since + self._seconds for worker in workers if worker.since is not None]
        left = min(max(min(ends) - time.monotonic(), 0.0), _LONGEST_WAIT) if ends else None
        heard = wait([worker.connection for worker in workers], left)
        late = time.monotonic() - self._seconds
        return [w for w in workers if w.connection in heard or (w.since is not None and w.since <= late)]

    def _receive(self, worker: _Worker) -> Any:
        if not worker.connection.poll():
            worker.process.kill()
            self._end(worker)
            return Lost(f"it took longer than {self._seconds:g} seconds")
        try:
            return worker.connection.recv()
        except (EOFError, ConnectionResetError):
            reason = f"its process {_how_it_ended(worker.process)}"
            self._end(worker)
            return Lost(reason)

    def _end(self, worker: _Worker) -> None:
        worker.connection.close()
        worker.process.join(_LAST_SECONDS)
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()


def _serve(connection: Connection, make: Callable[[], Callable[[Any], Any]]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the keyboard: the process that gives the jobs ends this one
    try:
        torch.set_num_threads(1)
        work = make()
    except Exception as error:
        connection.send(f"{type(error).__name__}: {error}")
        return
    connection.send(None)
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):  # nobody waits for results any more
        while True:
            connection.send(work(connection.recv()))


def _how_it_ended(process: BaseProcess) -> str:
    process.join(_LAST_SECONDS)
    code = process.exitcode
    if code is None or code >= 0:
        return f"ended with the exit code {code}"
    memory = " (as the system does when memory runs out)" if -code == getattr(signal, "SIGKILL", None) else ""
    return f"was ended by {signal.Signals(-code).name}{memory}"


@contextlib.contextmanager
def _one_thread_each() -> Iterator[None]:
    """What is started in it finds the number of threads in its environment."""
    before = {name: os.environ.get(name) for name in _ENVIRONMENT}
    os.environ.update(_ENVIRONMENT)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
