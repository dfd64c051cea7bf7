"""Files that are written whole or not at all."""

import errno
import fcntl
import os
import resource
import signal
import sys
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.numpy import save_file

from datasets_scripts.files import (
    DiskFullError,
    check_writable,
    delete_left_over,
    disk_is_full,
    keep_folder,
    release_folder,
    whole_file,
)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_new_file(tmp_path):
    path = tmp_path / "numbers.txt"
    with whole_file(path) as temporary:
        temporary.write_text("1 2 3")
        assert temporary.parent == tmp_path and temporary != path
        assert not path.exists()
    assert path.read_text() == "1 2 3"
    assert names(tmp_path) == ["numbers.txt"]


def test_folders_are_made_and_a_string_will_do(tmp_path):
    with whole_file(str(tmp_path / "a" / "b" / "file")) as temporary:
        temporary.write_bytes(b"x")
    assert (tmp_path / "a" / "b" / "file").read_bytes() == b"x"
    assert names(tmp_path / "a" / "b") == ["file"]


def test_old_content_stays_until_the_end(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with whole_file(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("old", [None, "old"])
def test_nothing_is_left_after_an_error(tmp_path, error, old):
    path = tmp_path / "file"
    if old is not None:
        path.write_text(old)
    with pytest.raises(error), whole_file(path) as temporary:
        temporary.write_text("half of the n")
        raise error
    assert names(tmp_path) == ([] if old is None else ["file"])
    assert old is None or path.read_text() == old


def test_nothing_written_is_an_error_and_leaves_the_old_content(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(FileNotFoundError), whole_file(path):
        pass
    assert names(tmp_path) == ["file"] and path.read_text() == "old"


def test_error_while_moving_leaves_nothing(tmp_path, monkeypatch):
    def fail(source, target):
        raise OSError("cannot move")

    path = tmp_path / "file"
    path.write_text("old")
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="cannot move"), whole_file(path) as temporary:
        temporary.write_text("new")
    assert names(tmp_path) == ["file"] and path.read_text() == "old"


def test_two_at_once_do_not_meet(tmp_path):
    with whole_file(tmp_path / "a") as first, whole_file(tmp_path / "b") as second:
        first.write_text("1")
        second.write_text("2")
    assert [(tmp_path / name).read_text() for name in "ab"] == ["1", "2"]


def test_a_full_disk_names_the_file(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(DiskFullError, match=r"file could not be written .*MB are free"), whole_file(path) as temporary:
        temporary.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert names(tmp_path) == ["file"] and path.read_text() == "old"


@contextmanager
def largest_file(size):
    """No file of this process may grow beyond a size, in bytes, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def write_bytes(path):
    path.write_bytes(bytes(100_000))


def write_table(path):
    pq.write_table(pa.table({"x": np.random.default_rng(0).random(100_000)}), path)


def write_tensors(path):
    save_file({"x": np.ones(100_000)}, path)


def write_pickle(path):
    torch.save(torch.ones(100_000), path)


@pytest.mark.parametrize("write", [write_bytes, write_table, write_tensors, write_pickle])
def test_whoever_finds_no_room(tmp_path, write):
    """Four libraries, each with an error of its own."""
    full = pytest.raises(DiskFullError, match="file could not be written")
    with largest_file(10_000), full, whole_file(tmp_path / "file") as temporary:
        write(temporary)
    assert names(tmp_path) == []


def test_an_error_that_comes_from_a_full_disk():
    try:
        try:
            raise OSError(errno.EDQUOT, "Disk quota exceeded")
        except OSError as error:
            raise RuntimeError("could not convert") from error
    except RuntimeError as error:
        assert disk_is_full(error)
    assert not disk_is_full(OSError(errno.ENOENT, "no such file")) and not disk_is_full(None)


def test_places_that_can_be_written_to(tmp_path):
    for path in (tmp_path, tmp_path / "new", tmp_path / "a" / "b" / "c"):
        check_writable(path, "--output")
    assert names(tmp_path) == []


def test_a_file_that_is_written_anew(tmp_path):
    (tmp_path / "table.parquet").write_text("the last one")
    check_writable(tmp_path / "table.parquet", "--output")
    assert (tmp_path / "table.parquet").read_text() == "the last one" and names(tmp_path) == ["table.parquet"]


@pytest.mark.skipif(sys.platform != "linux", reason="a file system that nobody can write to")
def test_places_that_cannot(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OSError, match=r"--output .*file/a/b cannot be written to.*Not a directory.*another place"):
        check_writable(tmp_path / "file" / "a" / "b", "--output")
    with pytest.raises(OSError, match="--output /proc/new cannot be written to"):
        check_writable("/proc/new", "--output")


def test_a_folder_that_can_only_be_read(tmp_path, monkeypatch):
    def refused(*args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refused)
    with pytest.raises(PermissionError, match=r"--output_dir .*new cannot be written to.*Permission denied"):
        check_writable(tmp_path / "new", "--output_dir")


def test_what_a_killed_process_left(tmp_path):
    for folder in (tmp_path, tmp_path / "checkpoint-3"):
        folder.mkdir(exist_ok=True)
        for name in (".a.txt.77.incomplete", "a.txt", ".incomplete", ".hidden"):
            (folder / name).write_text("x")
    delete_left_over(tmp_path)
    assert names(tmp_path) == [".hidden", ".incomplete", "a.txt", "checkpoint-3"]
    assert names(tmp_path / "checkpoint-3") == [".hidden", ".incomplete", "a.txt"]


def kept_by_another(path):
    """Whether another process could not keep it: locks are of open files, so that this one can ask in its place."""
    folder = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(folder)
    return False


def test_a_folder_is_kept_until_it_is_released(tmp_path):
    path, renamed = tmp_path / "new" / "folder", tmp_path / "renamed"
    for _ in range(2):  # a process may ask for what it has
        keep_folder(path, "--output")
        assert kept_by_another(path) and names(path) == []
    path.rename(renamed)
    assert kept_by_another(renamed)
    release_folder(renamed)
    assert not kept_by_another(renamed)
    release_folder(renamed)


def test_a_folder_that_another_process_keeps(tmp_path):
    ready, done = os.pipe()
    child = os.fork()
    if child == 0:
        keep_folder(tmp_path, "--output")
        os.write(done, b"1")
        signal.pause()
    os.read(ready, 1)
    with pytest.raises(FileExistsError, match=f"--output {tmp_path} is being written by another process; wait for its"):
        keep_folder(tmp_path, "--output")
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    keep_folder(tmp_path, "--output")
    release_folder(tmp_path)
