"""Read pickles of arrays without running what a pickle can run.

A pickle is a program: opening one from the internet with Python's own `pickle` hands the machine to whoever wrote it.
`load_pickle` reads the same format but admits only what plain data needs: dicts, lists, tuples, sets, strings, bytes,
numbers, and numpy arrays and scalars of booleans, numbers, strings and objects (an object array is one more container).
Everything else is refused by name, before any of it is called.

The instructions are this package's own (`pickle_instructions`), since a check of the names that a file imports leaves
holes in the standard library's:

- BUILD calls `__setstate__` or sets attributes of whatever is on the stack. On a function it could change the process;
  on a numpy dtype it could change flags or the item size and so make numpy read memory that is not the array's.
- APPENDS and SETITEMS add to whatever has the methods, SETITEMS also to arrays.
- EXT1, EXT2 and EXT4 can take an object from `copyreg`'s cache without asking for a name at all.
- NEWOBJ and NEWOBJ_EX make instances of classes, and persistent ids leave the choice of object to the reader.

A file can also be made to exhaust memory or time, by sizes that it announces, by lists that share their parts, by
numbers of millions of digits, by keys whose hashes collide. All of these have bounds, so that a file is either read
within about its own size of memory or refused.
"""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

from datasets_scripts.pickles.pickle_bounds import NotPlainError
from datasets_scripts.pickles.pickle_content import Content
from datasets_scripts.pickles.pickle_instructions import run_pickle
from datasets_scripts.pickles.pickle_values import RefusedError

# What a damaged file raises inside the interpreter. MemoryError is not here: it says nothing about the file.
_DAMAGE = (EOFError, IndexError, KeyError, OverflowError, TypeError, ValueError)


class UnsafePickleError(ValueError):
    """A pickle asks for something that a file of arrays and plain containers does not need.

    Attributes:
        name: what was asked for, `module.name` for an import, otherwise the name of the pickle instruction.
    """

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name


def load_pickle(path: str | PathLike[str]) -> Any:
    """Load a pickle that holds numpy arrays and plain containers only.

    Pickles of every protocol load, those of Python 2 included: their byte strings are read as latin1, unless they are
    the content of an array.

    Arrays are read-only. The content of large ones is not in memory but in the file, which the operating system reads
    as it is needed and which must stay as it is while they are in use; protocols 0 to 2 of Python 3, which keep it in
    another encoding, take as much memory as the arrays. Byte orders are those of the file.

    Args:
        path: the file.

    Returns:
        The object, made of dict, list, tuple, set, frozenset, str, bytes, bytearray, int, float, bool, None and numpy
        arrays, scalars and dtypes. An OrderedDict comes back as a dict. Containers are nested at most 32 deep and hold
        no container that they are in; all of them together, with nothing shared, take at most four times the file and
        256 MB more. Keys of dicts are strings, numbers, None, or tuples of these that begin with a string.

    Raises:
        FileNotFoundError: there is no such file.
        UnsafePickleError: the file asks for anything else; nothing of it was run.
        ValueError: the file is cut off, damaged, not a pickle, or breaks one of these bounds.
    """
    path = Path(path)
    if not path.is_file():
        what = "it is a folder" if path.is_dir() else "there is no such file"
        raise FileNotFoundError(f"`path` must name a pickle file, but {what}: {path}; check the path.")
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            if file.read(4) == b"PK\x03\x04":  # its P would be read as a persistent id
                raise ValueError("it is a zip archive, as torch.save and numpy.savez write")
            if not size:
                raise EOFError("it is empty")
            return run_pickle(Content(file, size))
    except RefusedError as refused:
        raise UnsafePickleError(refused.name, _refusal(path, refused)) from None
    except NotPlainError as error:
        raise ValueError(
            f"`path` must name a pickle of numpy arrays and plain containers, but {path} {error}. Open it where "
            "nothing can be harmed, if you trust it, and save its numbers as arrays, the rest as lists of strings."
        ) from None
    except _DAMAGE as error:
        raise ValueError(
            f"`path` must name a whole pickle file, but {path} ({size} bytes) is truncated or not a pickle "
            f"({type(error).__name__}: {str(error)[:200]}); compare its size and SHA-256 with the publisher's and "
            "download it again."
        ) from error


def _refusal(path: Path, refused: RefusedError) -> str:
    return (
        f"`path` must name a pickle of numpy arrays and plain containers, but {path} {refused}, which could run code "
        "or is of no use to plain data; it was not run. Get the file from its publisher and compare its SHA-256, or, "
        "if you trust it, open it where nothing can be harmed and save only its arrays, lists and strings again."
    )
