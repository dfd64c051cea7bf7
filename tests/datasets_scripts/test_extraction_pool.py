"""Processes that work side by side, some of which die."""

import functools
import multiprocessing
import os
import signal
import time

import pytest

from datasets_scripts.extraction.pool import Lost, Pool


def squares():
    return work


def work(job):
    """Squares a number, or does what the job says."""
    if job == "die":
        os.kill(os.getpid(), signal.SIGSEGV)
    if job == "memory":
        os.kill(os.getpid(), signal.SIGKILL)
    if job == "leave":
        os._exit(3)
    if job == "hang":
        time.sleep(600)
    if job == "threads":
        import cv2
        import torch

        return torch.get_num_threads(), cv2.getNumThreads(), os.environ["OPENBLAS_NUM_THREADS"]
    if job == "who":
        time.sleep(0.2)
        return os.getpid()
    return job**2


def faulty(how):
    if how == "die":
        os._exit(5)
    raise ValueError("there is no such extractor")


def run(jobs, processes=2, seconds=60.0, make=squares):
    return sorted(pool(make, processes, seconds).run(jobs), key=str)


def pool(make=squares, processes=2, seconds=60.0):
    return Pool(make, processes, seconds, (__name__,))


@pytest.fixture(autouse=True)
def no_process_is_left():
    yield
    assert not multiprocessing.active_children()


def test_every_job_has_its_result_and_is_taken_when_it_is_needed():
    assert run([]) == []
    taken = []

    def jobs():
        for number in range(100):
            taken.append(number)
            yield number

    found = []
    for pair in pool().run(jobs()):
        assert len(taken) <= len(found) + 3
        found.append(pair)
    assert sorted(found) == [(number, number**2) for number in range(100)]


def test_a_process_that_dies_costs_one_job():
    jobs = [1, "die", 2, "memory", 3, "leave", 4]
    found = run(jobs)
    assert [(job, result) for job, result in found if isinstance(job, int)] == [(n, n * n) for n in range(1, 5)]
    lost = {job: result.reason for job, result in found if isinstance(result, Lost)}
    assert lost == {
        "die": "its process was ended by SIGSEGV",
        "memory": "its process was ended by SIGKILL (as the system does when memory runs out)",
        "leave": "its process ended with the exit code 3",
    }
    assert len(found) == len(jobs)


def test_a_job_that_takes_too_long_is_given_up():
    begun = time.monotonic()
    found = run(["hang", 2, 3], seconds=1.0)
    assert dict(found) == {"hang": Lost("it took longer than 1 seconds"), 2: 4, 3: 9}
    assert time.monotonic() - begun < 30


def test_processes_work_side_by_side_with_one_thread_each():
    assert len({pid for _, pid in run(["who"] * 6, 2)} - {os.getpid()}) == 2
    before = os.environ.get("OPENBLAS_NUM_THREADS")
    assert run(["threads"], 1) == [("threads", (1, 1, "1"))]
    assert os.environ.get("OPENBLAS_NUM_THREADS") == before


def test_what_cannot_begin():
    with pytest.raises(ValueError, match="nothing could be extracted: ValueError: there is no such extractor"):
        run([1, 2], make=functools.partial(faulty, "raise"))
    with pytest.raises(ValueError, match="nothing could be extracted: the process ended with the exit code 5"):
        run([1, 2], make=functools.partial(faulty, "die"))


def test_an_end_before_all_is_done_ends_the_processes():
    results = pool().run(["who"] * 50)
    next(results)
    results.close()
