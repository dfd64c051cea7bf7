"""What a pickle of plain data may call, and what may come out of it; used by `safe_pickle`.

Nothing here calls what a file names. A file asks for a name, `FUNCTIONS` has this package's own maker for the few names
that plain data needs, and the makers check their arguments. Arrays are built as views of their content, never by
numpy's `__setstate__`, which takes the item size and the flags of a dtype from the file.
"""

from __future__ import annotations

import math
import re
import reprlib
from collections.abc import Callable
from typing import Any

import numpy as np

from datasets_scripts.pickles.pickle_bounds import NotPlainError, add_keys

# boolean, signed and unsigned integer, float, complex, bytes, string, object
_PLAIN_DTYPE = re.compile(r"[<>=|]?[?biufcSUO][0-9]{0,10}")
_MAX_DIMENSIONS = 64  # numpy's own limit
# Bound on the longest axes of an array without elements, whose size no content bounds.
_MAX_EMPTY_EXTENT = 1 << 28
_MAX_CODE_POINT = 0x10FFFF


class RefusedError(Exception):
    """A pickle asks for what plain data does not need.

    Attributes:
        name: `module.name` of an import or a call, otherwise the name of the pickle instruction.
    """

    def __init__(self, name: str, what: str) -> None:
        super().__init__(what)
        self.name = name[:200]


class Unbuilt:
    """An array or a dtype between the instruction that begins it and the one (BUILD) that gives its state.

    Attributes:
        dtype: the dtype before its byte order is known, or None for an array.
        memo_keys: where the pickle has put it; what is built replaces it there.
    """

    __slots__ = ("dtype", "memo_keys")

    def __init__(self, dtype: np.dtype | None = None) -> None:
        self.dtype = dtype
        self.memo_keys: list[int] = []

    def __str__(self) -> str:
        return "an array or a dtype without its content"

    def build(self, state: Any) -> np.ndarray | np.dtype | None:
        """What it becomes, or None where the state is not one of a plain array or dtype."""
        return _array_of_state(state) if self.dtype is None else _dtype_of_state(self.dtype, state)


class Function:
    """A function that a pickle may call. It has no attributes to set.

    Attributes:
        name: what it is called in messages.
        own_bytes: memory that its result takes, roughly.
        item_bytes: besides, per item of its arguments, or 1 where it only looks at each.
    """

    __slots__ = ("_function", "_most", "item_bytes", "name", "own_bytes")

    def __init__(self, name: str, function: Callable[..., Any], own_bytes: int = 0, item_bytes: int = 0) -> None:
        self.name = name
        self.own_bytes = own_bytes
        self.item_bytes = item_bytes
        self._function = function
        self._most = function.__code__.co_argcount

    def __str__(self) -> str:
        return f"the function `{self.name}`"

    def __call__(self, args: tuple[Any, ...]) -> Any:
        """The result.

        Raises:
            RefusedError: the arguments are not those of plain data.
        """
        result = self._function(*args) if len(args) <= self._most else None
        if result is None:
            shown = ", ".join(reprlib.repr(arg) if type(arg) in (str, int) else type(arg).__name__ for arg in args[:6])
            raise RefusedError(self.name, f"calls `{self.name}({shown})`")
        return result


def _dtype_of_state(dtype: np.dtype, state: Any) -> np.dtype | None:
    """The dtype in the byte order of the state, None unless the state changes nothing else."""
    if type(state) is not tuple or len(state) not in (8, 9):
        return None
    version, order, subarray, names, fields, size, alignment, flags = state[:8]
    orders = ("<", ">", "=") if dtype.byteorder != "|" else ("|",)
    sizes = (dtype.itemsize, dtype.alignment) if dtype.kind in "SU" else (-1, -1)
    if (
        not (type(order) is str and order in orders)
        or any(part is not None for part in (subarray, names, fields, *state[8:]))
        or any(type(number) is not int for number in (version, size, alignment, flags))
        or version not in (3, 4)
        or (size, alignment, flags) != (*sizes, dtype.flags)
    ):
        return None
    swapped = dtype.newbyteorder("S")
    return swapped if order == swapped.byteorder else dtype


def _array_of_state(state: Any) -> np.ndarray | None:
    """The array of a state (version, shape, dtype, Fortran order, content)."""
    if type(state) is not tuple or len(state) != 5:
        return None
    version, shape, dtype, fortran, content = state
    if type(version) is not int or version != 1 or not isinstance(dtype, np.dtype) or type(fortran) not in (bool, int):
        return None
    if dtype.kind == "O":
        return _array_of_objects(shape, content)
    return _array_of_bytes(shape, dtype, "F" if fortran else "C", content)


def _array_of_objects(shape: Any, content: Any) -> np.ndarray | None:
    """An array of objects is one more container; the list is in C order, whatever the array's order was."""
    if type(content) is not list or _count(shape) != len(content):
        return None
    if any(isinstance(item, np.ndarray) and item.dtype.kind == "O" for item in content):
        raise NotPlainError("holds an array of objects in an array of objects")  # freed by recursion, to any depth
    return _read_only(np.fromiter(content, dtype=object, count=len(content)).reshape(shape))


def _array_of_bytes(shape: Any, dtype: np.dtype, order: str, content: Any) -> np.ndarray | None:
    """A view of the content, not a copy."""
    if type(content) is str:  # of Python 2: characters of latin1, one a byte
        content = content.encode("latin1")
    count = _count(shape)
    if count is None or not _is_content(content) or len(content) != count * dtype.itemsize:
        return None
    if count and not dtype.itemsize:  # strings of no characters: any number of them in no content
        return None
    if dtype.kind == "U":
        _check_code_points(content, dtype)
    return _read_only(np.ndarray(shape, dtype, buffer=content, order="F" if order == "F" else "C"))


def _count(shape: Any) -> int | None:
    """Elements of an array, or None where the shape is none."""
    if type(shape) is not tuple or len(shape) > _MAX_DIMENSIONS:
        return None
    if not all(type(size) is int and 0 <= size < 1 << 62 for size in shape):
        return None
    if 0 in shape and math.prod(size for size in shape if size) > _MAX_EMPTY_EXTENT:
        raise NotPlainError(f"holds an array of shape {shape}, which is long and has no element")
    return math.prod(shape)


def _is_content(content: Any) -> bool:
    """Whether it is the bytes of an array: in memory, or as a view of the file."""
    if type(content) is np.ndarray:
        return content.dtype == np.uint8 and content.ndim == 1 and bool(content.flags.c_contiguous)
    return type(content) in (bytes, bytearray)


def _check_code_points(content: Any, dtype: np.dtype) -> None:
    """Python raises SystemError for characters that do not exist, whenever such a string is touched."""
    codes = np.frombuffer(content, np.dtype(np.uint32).newbyteorder(dtype.byteorder))
    if codes.size and codes.max() > _MAX_CODE_POINT:
        raise NotPlainError("holds a string array with characters that do not exist")


def _read_only(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


def _reconstruct(kind: Any = None, shape: Any = None, typecode: Any = None) -> Unbuilt | None:
    plain = kind is NDARRAY and type(shape) is tuple and shape == (0,) and type(typecode) in (str, bytes)
    return Unbuilt() if plain and typecode in ("b", b"b") else None


def _dtype(spec: Any = None, align: Any = False, copy: Any = True) -> Unbuilt | None:
    """A dtype of a plain kind. It is never changed: numpy's own are shared by the whole process."""
    if type(spec) is not str or not _PLAIN_DTYPE.fullmatch(spec) or {type(align), type(copy)} - {bool, int}:
        return None
    try:
        return Unbuilt(np.dtype(spec))
    except TypeError:
        return None


def _frombuffer(
    content: Any = None, dtype: Any = None, shape: Any = None, order: Any = None, axes: Any = None
) -> np.ndarray | None:
    """An array of protocol 5: in C or Fortran order, or with its axes in the order `axes`."""
    if type(content) is str or type(order) is not str or not _has_no_objects(dtype):
        return None
    if order in ("C", "F") and axes is None:
        return _array_of_bytes(shape, dtype, order, content)
    array = _array_of_bytes(shape, dtype, "C", content)
    if order != "K" or array is None or type(axes) is not tuple or len(axes) != array.ndim:
        return None
    return array.transpose(axes) if all(type(axis) is int and axis in range(array.ndim) for axis in axes) else None


def _scalar(dtype: Any = None, content: Any = None) -> np.generic | None:
    if type(content) is str:
        content = content.encode("latin1")
    if not _has_no_objects(dtype) or type(content) is not bytes or len(content) != dtype.itemsize:
        return None
    if dtype.kind == "U":
        _check_code_points(content, dtype)
    return np.frombuffer(content, dtype)[0] if content else dtype.type()


def _has_no_objects(dtype: Any) -> bool:
    return isinstance(dtype, np.dtype) and dtype.kind != "O"


def _encode(text: Any = None, encoding: Any = None) -> bytes | np.ndarray | None:
    """Bytes as protocols 0 to 2 write them. Other codecs than latin1 would be programs of their own (zip, rot13)."""
    if type(encoding) is not str or encoding not in ("latin1", "latin-1"):
        return None
    if type(text) is np.ndarray and _is_content(text):
        return text  # was encoded while it was read
    return text.encode("latin1") if type(text) is str else None


def _bytes(*args: Any) -> bytes | None:
    return None if args else b""


def _bytearray(content: Any = b"", encoding: Any = None) -> bytearray | None:
    if encoding is not None:
        content = _encode(content, encoding)
    return bytearray(content) if type(content) is bytes else None


def _set(items: Any = ()) -> set | None:
    return add_keys(set(), items) if type(items) in (list, tuple) else None


def _frozenset(items: Any = ()) -> frozenset | None:
    return frozenset(add_keys(set(), items)) if type(items) in (list, tuple) else None


def _ordered_dict(pairs: Any = ()) -> dict | None:
    if type(pairs) not in (list, tuple) or not all(type(pair) in (list, tuple) and len(pair) == 2 for pair in pairs):
        return None
    add_keys(set(), (key for key, _ in pairs))
    return dict(pairs)


def _not_callable(*args: Any) -> None:
    return None


NDARRAY = Function("numpy.ndarray", _not_callable)
ENCODE = Function("_codecs.encode", _encode, 40, 1)
FROMBUFFER = Function("numpy._frombuffer", _frombuffer, 250, 1)

# (module, name) as written in the file. Python 2 and protocols below 3 say `__builtin__`; numpy moved `numpy.core` to
# `numpy._core` in version 2.
FUNCTIONS: dict[tuple[str, str], Function] = {
    ("numpy", "ndarray"): NDARRAY,
    ("numpy", "dtype"): Function("numpy.dtype", _dtype, 250),
    ("_codecs", "encode"): ENCODE,
    ("collections", "OrderedDict"): Function("collections.OrderedDict", _ordered_dict, 240, 150),
    **{
        (module, function.name): function
        for function in (
            Function("set", _set, 240, 100),
            Function("frozenset", _frozenset, 240, 200),
            Function("bytes", _bytes),
            Function("bytearray", _bytearray, 60, 2),
        )
        for module in ("builtins", "__builtin__")
    },
    **{
        (f"numpy.{core}.{module}", name): function
        for module, name, function in (
            ("multiarray", "_reconstruct", Function("numpy._reconstruct", _reconstruct, 400)),
            ("multiarray", "scalar", Function("numpy.scalar", _scalar, 40, 1)),
            ("numeric", "_frombuffer", FROMBUFFER),
        )
        for core in ("core", "_core")
    },
}
