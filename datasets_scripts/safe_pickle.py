"""Read pickles of arrays without running what a pickle can run.

A pickle is a program: loading one from the internet with `pickle.load` hands the machine to whoever wrote it.
`load_pickle` interprets the same format but admits only what plain data needs: dicts, lists, tuples, sets, strings,
bytes, numbers, and numpy arrays and scalars of booleans, numbers, strings and objects (an object array is one more
container). Everything else is refused by name, before any of it is called.

The interpreter is the standard library's Python one (`pickle._Unpickler`), not the faster C one, because only there
can the instructions themselves be restricted, and a check of imported names alone leaves holes:

- BUILD calls `__setstate__` or sets attributes of whatever is on the stack. On a function it could change the process;
  on a numpy dtype it could change flags or the item size and so make numpy read memory that is not the array's.
  Here it is allowed on arrays and dtypes only, and the state is checked first.
- EXT1, EXT2 and EXT4 can take an object from `copyreg`'s cache without asking for a name at all: refused.
- NEWOBJ and NEWOBJ_EX make instances of classes, and persistent ids leave the choice of object to the reader: refused.

The cost is small, since arrays of any size are a handful of instructions each.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable
from math import prod
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

# boolean, signed and unsigned integer, float, complex, bytes, string, object
_PLAIN_KINDS = "biufcSUO"

# What a damaged file raises inside the interpreter. MemoryError is not here: a good file can be too large.
_DAMAGE = (
    pickle.UnpicklingError, EOFError, AssertionError, AttributeError, IndexError, KeyError, OverflowError, TypeError,
    ValueError, struct.error,
)  # fmt: skip


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

    Pickles of every protocol load, those of Python 2 included: their byte strings are read as ASCII, and as latin1
    where they are not ASCII, which is what numpy's raw array bytes need.

    Args:
        path: the file.

    Returns:
        The object, made of dict, list, tuple, set, frozenset, str, bytes, bytearray, int, float, bool, None and numpy
        arrays and scalars. An OrderedDict comes back as a dict.

    Raises:
        FileNotFoundError: there is no such file.
        UnsafePickleError: the file asks for anything else; nothing of it was run.
        ValueError: the file is cut off, damaged or not a pickle.
    """
    path = Path(path)
    if not path.is_file():
        what = "it is a folder" if path.is_dir() else "there is no such file"
        raise FileNotFoundError(f"`path` must name a pickle file, but {what}: {path}; check the path.")
    try:
        return _load(path, "ASCII")
    except UnicodeDecodeError:
        return _load(path, "latin1")


def _load(path: Path, encoding: str) -> Any:
    with path.open("rb") as file:
        if file.read(4) == b"PK\x03\x04":  # its P would be read as a persistent id
            raise _damaged(path, ValueError("it is a zip archive, as torch.save and numpy.savez write"))
        file.seek(0)
        try:
            return _PlainUnpickler(_WholeReads(file), path, encoding).load()
        except UnsafePickleError:
            raise
        except _RefusedCallError as call:
            raise _refusal(path, call.name, f"calls {call}") from None
        except UnicodeDecodeError as error:
            if encoding == "ASCII" and error.encoding == "ascii":
                raise  # byte strings of Python 2: the caller tries again
            raise _damaged(path, error) from error
        except _DAMAGE as error:
            raise _damaged(path, error) from error


def _refusal(path: Path, name: str, what: str) -> UnsafePickleError:
    return UnsafePickleError(
        name,
        f"`path` must name a pickle of numpy arrays and plain containers, but {path} {what}, which could run code; it "
        "was not run. Get the file from its publisher and compare its SHA-256, or, if you trust it, open it where "
        "nothing can be harmed and save only its arrays, lists and strings again.",
    )


def _damaged(path: Path, error: Exception) -> ValueError:
    size = path.stat().st_size
    return ValueError(
        f"`path` must name a whole pickle file, but {path} ({size} bytes) is truncated or not a pickle "
        f"({type(error).__name__}: {error}); compare its size and SHA-256 with the publisher's and download it again."
    )


class _WholeReads:
    """A file that has what is asked of it or ends in EOFError; the unpickler would go on with half a name."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def read(self, size: int) -> bytes:
        content = self._file.read(size)
        if len(content) < size:
            raise EOFError(f"{size - len(content)} bytes are missing at the end")
        return content

    def readline(self) -> bytes:
        line = self._file.readline()
        if not line.endswith(b"\n"):
            raise EOFError("the end of a line is missing")
        return line


class _Callable:
    """A callable that a pickle may use. It has no attributes to set and makes no instances."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *args: Any) -> Any:
        return self._function(*args)


class _PlainUnpickler(pickle._Unpickler):
    """The standard library's unpickler, with names and instructions restricted to plain data."""

    def __init__(self, file: _WholeReads, path: Path, encoding: str) -> None:
        super().__init__(file, encoding=encoding)
        self._path = path

    def find_class(self, module: str, name: str) -> _Callable:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise _refusal(self._path, f"{module}.{name}", f"asks for `{module}.{name}`") from None

    def persistent_load(self, pid: Any) -> Any:
        raise _refusal(self._path, "persistent id", "refers to an object outside the file (a persistent id)")

    def get_extension(self, code: int) -> None:
        raise _refusal(self._path, "extension code", f"asks for entry {code} of the extension registry")

    def load_instance(self) -> None:
        raise _refusal(self._path, "NEWOBJ", "makes an instance of a class (instruction NEWOBJ)")

    def load_build(self) -> None:
        state, target = self.stack[-1], self.stack[-2]
        plain_dtype = isinstance(target, np.dtype) and _is_plain_dtype_state(target, state)
        if not plain_dtype and not (type(target) is np.ndarray and _is_plain_array_state(state)):
            raise _refusal(self._path, "BUILD", f"sets the state of a {type(target).__name__} (instruction BUILD)")
        super().load_build()

    dispatch = {
        **pickle._Unpickler.dispatch,
        pickle.BUILD[0]: load_build,
        pickle.NEWOBJ[0]: load_instance,
        pickle.NEWOBJ_EX[0]: load_instance,
    }


def _is_plain_dtype_state(dtype: np.dtype, state: Any) -> bool:
    """Whether the state changes nothing but the byte order.

    The item size and the flags of a dtype decide what numpy reads as the array's memory, so they must already be what
    the state says.
    """
    if not isinstance(state, tuple) or len(state) not in (8, 9) or state[0] not in (3, 4):
        return False
    _, order, subarray, names, fields, size, alignment, flags = state[:8]
    has_order = dtype.byteorder != "|"
    return (
        order in (("<", ">", "=") if has_order else ("|",))
        and subarray is None
        and names is None
        and fields is None
        and (size, alignment) == ((dtype.itemsize, dtype.alignment) if dtype.kind in "SU" else (-1, -1))
        and flags == dtype.flags
        and (len(state) == 8 or state[8] is None)
    )


def _is_plain_array_state(state: Any) -> bool:
    """Whether the state is (version, shape, dtype, order, content) with as much content as the shape says."""
    if not isinstance(state, tuple) or len(state) != 5:
        return False
    version, shape, dtype, fortran, content = state
    if version != 1 or not isinstance(shape, tuple) or not isinstance(dtype, np.dtype) or fortran not in (True, False):
        return False
    if not all(type(size) is int and size >= 0 for size in shape):
        return False
    if dtype.kind == "O":
        return type(content) is list and len(content) == prod(shape)
    # The raw bytes of a Python 2 array come as a string of latin1 (or ASCII) characters, one a byte.
    return type(content) in (bytes, str) and len(content) == prod(shape) * dtype.itemsize


class _RefusedCallError(Exception):
    """A call of an allowed name with arguments that plain data does not need."""

    def __init__(self, name: str, args: tuple[Any, ...]) -> None:
        shown = ", ".join(repr(arg)[:40] if isinstance(arg, (str, int)) else type(arg).__name__ for arg in args)
        super().__init__(f"`{name}({shown})`")
        self.name = name


def _dtype(*args: Any) -> np.dtype:
    """A dtype of a plain kind, always a new one: numpy's own are shared by the whole process."""
    spec = args[0] if args else None
    try:
        dtype = np.dtype(spec, False, True) if isinstance(spec, str) else None
    except TypeError:
        dtype = None
    if dtype is None or dtype.kind not in _PLAIN_KINDS:
        raise _RefusedCallError("numpy.dtype", args)
    return dtype


def _reconstruct(*args: Any) -> np.ndarray:
    """An empty array, to be filled by BUILD."""
    if len(args) != 3 or args[0] is not _NDARRAY:
        raise _RefusedCallError("numpy._reconstruct", args)
    return np.empty((0,), dtype="b")


def _frombuffer(*args: Any) -> np.ndarray:
    if len(args) != 4 or type(args[0]) not in (bytes, bytearray) or not _has_no_objects(args[1]):
        raise _RefusedCallError("numpy._frombuffer", args)
    content, dtype, shape, order = args
    return np.frombuffer(content, dtype=dtype).reshape(shape, order=order)


def _scalar(*args: Any) -> np.generic:
    content = args[1].encode("latin1") if len(args) == 2 and isinstance(args[1], str) else args[-1]
    if len(args) != 2 or not _has_no_objects(args[0]) or not isinstance(content, bytes):
        raise _RefusedCallError("numpy.scalar", args)
    dtype = args[0]
    return np.frombuffer(content, dtype=dtype, count=1)[0] if dtype.itemsize else dtype.type()


def _has_no_objects(dtype: Any) -> bool:
    return isinstance(dtype, np.dtype) and dtype.kind != "O"


def _encode(*args: Any) -> bytes:
    """Bytes as protocols 0 to 2 write them. Other codecs than latin1 would be programs of their own (zip, rot13)."""
    if len(args) != 2 or type(args[0]) is not str or args[1] not in ("latin1", "latin-1"):
        raise _RefusedCallError("_codecs.encode", args)
    return args[0].encode("latin1")


def _container(kind: type) -> Callable[..., Any]:
    def make(*args: Any) -> Any:
        if len(args) > 1 or not all(type(arg) in (list, tuple, dict, set, bytes) for arg in args):
            raise _RefusedCallError(kind.__name__, args)
        return kind(*args)

    return make


def _not_callable(*args: Any) -> None:
    raise _RefusedCallError("numpy.ndarray", args)


_NDARRAY = _Callable(_not_callable)

# (module, name) as written in the file. Python 2 and protocols below 3 say `__builtin__`; numpy moved `numpy.core` to
# `numpy._core` in version 2.
_ALLOWED: dict[tuple[str, str], _Callable] = {
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _Callable(_dtype),
    ("_codecs", "encode"): _Callable(_encode),
    ("collections", "OrderedDict"): _Callable(_container(dict)),
    **{
        (module, name): _Callable(_container(kind))
        for module in ("builtins", "__builtin__")
        for name, kind in (("set", set), ("frozenset", frozenset), ("bytes", bytes), ("bytearray", bytearray))
    },
    **{
        (f"numpy.{core}.{module}", name): _Callable(function)
        for core in ("core", "_core")
        for module, name, function in (
            ("multiarray", "_reconstruct", _reconstruct),
            ("multiarray", "scalar", _scalar),
            ("numeric", "_frombuffer", _frombuffer),
        )
    },
}
