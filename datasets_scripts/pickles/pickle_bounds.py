"""Bounds on what comes out of a pickle: containers that stay small when they are written out, keys that stay fast.

Used by `safe_pickle`, whose readers hand the content on to functions of numpy and Python that know no bounds.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import numpy as np

# Functions that go through nested containers, numpy's among them, end in errors of their own beyond some depth.
_MAX_DEPTH = 32
# The time that a dict takes to find a key grows with the key, and where keys can be made to collide, with their number.
_MAX_KEY_LENGTH = 4096
_MAX_KEY_PARTS = 16
_MAX_KEY_NUMBER = 1 << 60

# Containers of no more bytes are measured each time, since remembering one takes more memory than it has.
_SMALL = 100

REFERENCE_BYTES = 8

_SCALARS = frozenset((bool, int, float, type(None)))
_STRINGS = frozenset((str, bytes, bytearray))
_CONTAINERS = frozenset((dict, list, tuple, set, frozenset))


class NotPlainError(Exception):
    """What a pickle holds is not plain: too large for its file, nested too deep, within itself, an odd key."""


def add_keys(target: set, keys: Iterable[Any]) -> set:
    """Add the members of a set, or the keys of a dict.

    Raises:
        NotPlainError: one of them is neither a string, nor a number, nor a tuple of these that begins with a string.
            Hashing a nested tuple can take for ever, and so can a table of numbers that were chosen to collide.
    """
    for key in keys:
        check_key(key)
        target.add(key)
    return target


def check_key(key: Any) -> None:
    """Raise NotPlainError as `add_keys` does."""
    if type(key) is tuple:
        plain = 0 < len(key) <= _MAX_KEY_PARTS and isinstance(key[0], (str, bytes)) and all(map(_is_plain_key, key))
    else:
        plain = _is_plain_key(key)
    if not plain:
        raise NotPlainError(f"has a {type(key).__name__} as a key or in a set, or one too long")


def _is_plain_key(key: Any) -> bool:
    if isinstance(key, (str, bytes)):
        return len(key) <= _MAX_KEY_LENGTH
    if type(key) is int:
        return abs(key) < _MAX_KEY_NUMBER
    return key is None or isinstance(key, (bool, float, np.bool_, np.integer, np.float32, np.float16))


def check_plain(value: Any, limit: int) -> None:
    """Raise unless a value consists of plain data and stays small when it is written out.

    Containers of a pickle can share parts, so that a short file describes lists of any size; numpy's and Python's own
    functions would take memory for all of it. What `limit` bounds is the bytes of the whole as if nothing were shared:
    a reference per item and, outside of dicts, which nobody makes arrays of, the bytes of strings and arrays.

    Raises:
        NotPlainError: a container holds itself, is nested too deep or too large, or something else than data.
    """
    _measure([value], 0, limit, {})


def _measure(container: Any, above: int, limit: int, done: dict[int, tuple[int, int] | None]) -> tuple[int, int]:
    """Bytes of a container, written out, and how many containers deep it is.

    `above` is how many containers it lies in; `done` is what was found by id, None for those that it lies in.
    """
    if id(container) in done:
        found = done[id(container)]
        if found is None:
            raise NotPlainError("holds a container within itself")
    else:
        _check_depth(above)
        done[id(container)] = None
        found = _measure_parts(container, above, limit, done)
        if found[1] == 1 and found[0] <= _SMALL:
            del done[id(container)]
        else:
            done[id(container)] = found
    _check_depth(above + found[1])
    return found


def _measure_parts(container: Any, above: int, limit: int, done: dict[int, tuple[int, int] | None]) -> tuple[int, int]:
    parts = _parts(container)
    size, depth = len(parts) * REFERENCE_BYTES, 0
    kinds = set(map(type, parts))
    if kinds == {str} and type(container) is not dict:
        size += sum(map(len, parts))
    elif not kinds <= _SCALARS:
        for part in parts:
            if type(part) in _CONTAINERS or (type(part) is np.ndarray and part.dtype.kind == "O"):
                inner_size, inner_depth = _measure(part, above + 1, limit, done)
                size, depth = size + inner_size, max(depth, inner_depth)
            elif type(container) is dict:
                _leaf_bytes(part)
            else:
                size += _leaf_bytes(part)
    if size > limit:
        raise NotPlainError(f"holds lists that share their parts and take more than {limit >> 20} MB without that")
    return size, depth + 1


def _check_depth(depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise NotPlainError(f"has containers nested more than {_MAX_DEPTH} deep")


def _parts(container: Any) -> Collection[Any]:
    if type(container) is dict:
        return [part for pair in container.items() for part in pair]
    return container.ravel() if type(container) is np.ndarray else container


def _leaf_bytes(value: Any) -> int:
    """Bytes of what is no container, beside the reference to it."""
    kind = type(value)
    if kind in _SCALARS:
        return 0
    if kind in _STRINGS:
        return len(value)
    if isinstance(value, (np.ndarray, np.generic)):
        return value.nbytes
    if isinstance(value, np.dtype):
        return 0
    raise NotPlainError(f"holds {value}, which is no data")
