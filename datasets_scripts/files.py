"""Files that are written whole or not at all, and what is said where that cannot be."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # where there are no such locks
    fcntl = None  # type: ignore[assignment]

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# Libraries that are not written in Python say it in words alone; PyTorch not even that, but that writing failed.
_OF_PYTORCH = ("PytorchStreamWriter failed writing", "unexpected pos", "iostream error")
_FULL_WORDS = ("No space left", "quota exceeded", "File too large", *_OF_PYTORCH)


class DiskFullError(OSError):
    """There is no room for a file; the message names it, and how much room there is."""


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """
    Gives a temporary name beside `path` to write to, and moves it to `path` if nothing was raised.

    Raises:
        DiskFullError: there is no room for it.

    >>> with whole_file("numbers.txt") as temporary:  # doctest: +SKIP
    ...     temporary.write_text("1 2 3")
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.incomplete")
    with room_for(path):
        try:
            yield temporary
            os.replace(temporary, path)
        finally:
            with suppress(FileNotFoundError):
                temporary.unlink()


def write_json(path: str | Path, content: Any) -> None:
    """Writes JSON for people to read, too; see `whole_file`."""
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


@contextmanager
def new_folder(path: str | Path | None, option: str = "") -> Iterator[Path]:
    """
    Gives an empty folder that becomes `path` if nothing was raised, or, without a path, is thrown away in the end.

    Args:
        option: What gave the path, for the error.

    Raises:
        FileExistsError: `path` is a file, or a folder that is not empty.
        DiskFullError: there is no room for it.
    """
    target = None if path is None else behind_link(path)
    if target is not None:
        if target.exists() and (target.is_file() or any(target.iterdir())):
            raise FileExistsError(f"{option} {target} holds other files; give an empty folder or a new one.".strip())
        target.absolute().parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=None if target is None else target.absolute().parent, prefix=".") as temporary:
        folder = Path(temporary) / "folder"
        folder.mkdir()
        if target is None:
            yield folder
            return
        with room_for(target):
            yield folder
        if target.exists():
            target.rmdir()
        # A temporary folder, and what is written there, is for its owner alone.
        for file in (folder, *folder.rglob("*")):
            file.chmod(0o755 if file.is_dir() else 0o644)
        os.replace(folder, target)


def behind_link(path: str | Path) -> Path:
    """What a link leads to, for what is put in its place there: the link stays. Any other path as it is."""
    return Path(path).resolve() if Path(path).is_symlink() else Path(path)


def keep_folder(path: str | Path, option: str) -> None:
    """
    Makes a folder, if it is not there, and keeps it for this process until that ends, however it ends, or
    `release_folder` is called. It is the folder that is kept, whatever its name is by then. On a file system without
    locks, nothing is kept.

    Args:
        option: What gave the path, for the error.

    Raises:
        FileExistsError: another process keeps it.
    """
    Path(path).mkdir(parents=True, exist_ok=True)
    if fcntl is None:
        return
    folder = os.open(path, os.O_RDONLY)
    status = os.fstat(folder)
    place = (status.st_dev, status.st_ino)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(folder)
        if isinstance(error, BlockingIOError) and place not in _kept:
            raise FileExistsError(
                f"{option} {path} is being written by another process; wait for its end, or give another folder."
            ) from None
    else:
        _kept[place] = folder


def release_folder(path: str | Path) -> None:
    """Ends what `keep_folder` began."""
    status = os.stat(path)
    folder = _kept.pop((status.st_dev, status.st_ino), None)
    if folder is not None:
        os.close(folder)


_kept: dict[tuple[int, int], int] = {}


def delete_left_over(folder: str | Path) -> None:
    """Deletes what `whole_file` leaves below a folder when its process is killed. Nobody may be writing there."""
    for file in Path(folder).rglob(".*.incomplete"):
        file.unlink(missing_ok=True)


@contextmanager
def room_for(path: str | Path) -> Iterator[None]:
    """Turns the error of a full disk, whatever wrote, into one that names the file or folder. Raises DiskFullError."""
    try:
        yield
    except Exception as error:
        if isinstance(error, DiskFullError) or not disk_is_full(error):
            raise
        said = str(error).splitlines()[0]
        free = shutil.disk_usage(existing_part(path)).free / 1e6
        raise DiskFullError(
            f"{path} could not be written ({said}): {free:,.1f} MB are free on its disk, of which a quota or a limit "
            "of this process may allow less; free some space."
        ) from error


def disk_is_full(error: BaseException | None) -> bool:
    """Whether an error, or one that it comes from, says that there is no room for a file."""
    while error is not None:
        if isinstance(error, DiskFullError) or (isinstance(error, OSError) and error.errno in _FULL):
            return True
        if any(words in str(error) for words in _FULL_WORDS):
            return True
        error = error.__cause__ or error.__context__
    return False


def check_writable(path: str | Path, option: str) -> None:
    """
    Tries whether a file or folder can be made, before hours of work for it: a file without a name is made and closed
    in the nearest folder that there is.

    Raises:
        OSError: it cannot; the message names `option`, which gave the path.
    """
    path = Path(path).absolute()
    place = existing_part(path.parent if path.is_file() else path)  # a file that is there is written anew
    try:
        with tempfile.TemporaryFile(dir=place if place.is_dir() else place / "folder"):
            pass
    except OSError as error:
        raise type(error)(
            f"{option} {path} cannot be written to: {place}: {error.strerror}; give another place."
        ) from None


def existing_part(path: str | Path) -> Path:
    """A path, or the nearest above it that exists."""
    path = Path(path).absolute()
    return next((place for place in (path, *path.parents) if os.path.lexists(place)), path)
