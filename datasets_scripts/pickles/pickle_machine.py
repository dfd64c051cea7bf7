"""The machine that a pickle is a program for: a stack, a stack below it for every mark, and a memo.

`Machine` has what the instructions do; which instruction does what is in `pickle_instructions`. What is made is
charged: all of it together may take `MEMORY_FACTOR` times the file and `MEMORY_BASE` bytes more. Arrays, strings and
even nested lists of numbers stay below that, whereas a file of a million empty sets does not.

Arrays cost no memory of their own: their content stays in the file, which is mapped into memory, wherever it is there
byte by byte. Protocols 0 to 2 of Python 3 keep it as text, which is decoded piece by piece.
"""

from __future__ import annotations

import codecs
from collections.abc import Sized
from typing import Any

from datasets_scripts.pickles.pickle_bounds import REFERENCE_BYTES, NotPlainError, add_keys, check_key, check_plain
from datasets_scripts.pickles.pickle_content import Content
from datasets_scripts.pickles.pickle_values import ENCODE, FROMBUFFER, FUNCTIONS, Function, RefusedError, Unbuilt

MEMORY_FACTOR = 4
MEMORY_BASE = 256 << 20
# From this size on, the content of an array stays in the file, or is decoded piece by piece.
LARGE = 1 << 16

# Bytes that one more item of a dict or a set takes, roughly.
_DICT_ITEM, _SET_ITEM = 100, 70

# Longer numbers are no data, and Python takes a time that grows with the square of their length.
MAX_DIGITS = 100
_MAX_NAME = 1000
_HIGHEST_PROTOCOL = 5


class Machine:
    """Holds what a pickle has described so far.

    Attributes:
        content: the file, read up to where the machine is.
        stack: what was described since the last mark and is in no container yet.
        memo: what the pickle can refer to again, by number.
        left: bytes of memory that it can still take.
    """

    def __init__(self, content: Content) -> None:
        self.content = content
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self._below: list[list[Any]] = []
        self._limit = MEMORY_FACTOR * content.size + MEMORY_BASE
        self.left = self._limit

    def charge(self, size: int) -> None:
        """Take `size` bytes from the memory that is left.

        Called before they are taken, or right after for what was read, since a size beyond the file is damage.
        """
        self.left -= size
        if self.left < 0:
            raise NotPlainError(f"describes more than the {self._limit >> 20} MB that a file of its size should take")

    def finish(self) -> Any:
        """The object that was described."""
        if self._below or len(self.stack) != 1:
            raise ValueError("it ends with several objects or none")
        if self.content.at != self.content.size:
            raise ValueError(f"{self.content.size - self.content.at} bytes follow its end; a file holds one pickle")
        check_plain(self.stack[0], self._limit)
        return self.stack[0]

    # The stack

    def mark(self) -> None:
        self._below.append(self.stack)
        self.stack = []

    def pop_mark(self) -> list[Any]:
        """What was pushed since the last mark."""
        items = self.stack
        self.stack = self._below.pop()
        return items

    def _top(self, kind: type) -> Any:
        """The container on top, which is about to get items; never an array, whose content would change."""
        target = self.stack[-1]
        if type(target) is not kind:
            raise TypeError(f"items of a {kind.__name__} are added to a {type(target).__name__}")
        return target

    def _is_content(self, items: list[Any], below: list[list[Any]]) -> bool:
        """Whether what is pushed next on `items` will be the content of an array.

        It is the fifth part of an array's state, or the first argument of `_frombuffer`, after a mark in both.
        """
        if not below or not below[-1]:
            return False
        target = below[-1][-1]
        if len(items) == 4:
            return type(target) is Unbuilt and target.dtype is None
        return not items and target is FROMBUFFER

    def _is_encoded_content(self) -> bool:
        """Whether a text that is pushed next will be the content of an array, encoded by a call of `encode`."""
        items, below = self.stack, self._below
        if not items and below:  # protocols 0 and 1 put a mark before the arguments
            items, below = below[-1], below[:-1]
        return len(items) == 5 and items[-1] is ENCODE and self._is_content(items[:-1], below)

    # Numbers

    def read_int_line(self) -> None:
        line = self.content.read_line(MAX_DIGITS)
        self.stack.append(line == b"01" if line in (b"00", b"01") else int(line))  # so are booleans before protocol 2

    def read_long_line(self) -> None:
        self.stack.append(int(self.content.read_line(MAX_DIGITS).removesuffix(b"L")))

    def read_float_line(self) -> None:
        self.stack.append(float(self.content.read_line(MAX_DIGITS)))

    def read_long(self, size: int) -> None:
        self.stack.append(int.from_bytes(self.content.read(size), "little", signed=True))

    # Strings

    def read_text(self, size: int, encoding: str = "utf-8", errors: str = "surrogatepass") -> None:
        if size >= LARGE and self._is_encoded_content():
            self.stack.append(self.content.read_latin1(size, encoding))
        else:
            self.stack.append(str(self.content.read(size), encoding, errors))
        self.charge(size)

    def read_text_line(self) -> None:
        self.read_text(self.content.find_line(), "raw-unicode-escape", "strict")
        self.content.skip(1)

    def read_bytes(self, size: int) -> None:
        self.stack.append(self._bytes_of(size))

    def read_bytearray(self, size: int) -> None:
        content = self._bytes_of(size)
        self.stack.append(bytearray(content) if type(content) is bytes else content)

    def read_python2_string(self, size: int) -> None:
        self._push_python2_string(self._bytes_of(size))

    def read_python2_string_line(self) -> None:
        line = self.content.read_line()
        self.charge(len(line))
        if len(line) < 2 or line[0] != line[-1] or line[:1] not in (b"'", b'"'):
            raise ValueError("a string has no quotes")
        self._push_python2_string(codecs.escape_decode(line[1:-1])[0])

    def _bytes_of(self, size: int) -> Any:
        large = size >= LARGE and self._is_content(self.stack, self._below)
        content = self.content.read_array(size) if large else self.content.read(size)
        self.charge(size)
        return content

    def _push_python2_string(self, content: Any) -> None:
        """A byte string of Python 2 is the content of an array, or text, which is ASCII or else latin1."""
        self.stack.append(content if self._is_content(self.stack, self._below) else content.decode("latin1"))

    # Containers

    def make_marked(self, kind: type) -> None:
        """A tuple or a list of what was pushed since the last mark."""
        items = self.pop_mark()  # changes which stack there is
        self.stack.append(kind(items))

    def make_tuple(self, count: int) -> None:
        if len(self.stack) < count:
            raise IndexError("a tuple lacks items")
        items = tuple(self.stack[-count:])
        del self.stack[-count:]
        self.stack.append(items)

    def append(self) -> None:
        value = self.stack.pop()
        self._top(list).append(value)

    def appends(self) -> None:
        items = self.pop_mark()
        self._top(list).extend(items)

    def make_dict(self) -> None:
        items = self.pop_mark()
        self.stack.append({})
        self._set_items(items)

    def set_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set_items([key, value])

    def set_marked_items(self) -> None:
        self._set_items(self.pop_mark())

    def _set_items(self, items: list[Any]) -> None:
        target = self._top(dict)
        if len(items) % 2:
            raise ValueError("a key of a dict has no value")
        self.charge(len(items) // 2 * _DICT_ITEM)
        for index in range(0, len(items), 2):
            check_key(items[index])
            target[items[index]] = items[index + 1]

    def add_items(self) -> None:
        items = self.pop_mark()
        self.charge(len(items) * _SET_ITEM)
        add_keys(self._top(set), items)

    def make_frozenset(self) -> None:
        items = self.pop_mark()
        self.charge(len(items) * 2 * _SET_ITEM)
        self.stack.append(frozenset(add_keys(set(), items)))

    # Memo, names, calls

    def put(self, key: int) -> None:
        value = self.stack[-1]
        if type(value) is Unbuilt:
            value.memo_keys.append(key)
        self.memo[key] = value

    def get(self, key: int) -> None:
        self.stack.append(self.memo[key])

    def find_named_lines(self) -> None:
        module, name = self.content.read_line(_MAX_NAME), self.content.read_line(_MAX_NAME)
        self._push_function(module.decode("utf-8"), name.decode("utf-8"))

    def find_named(self) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if type(name) is not str or type(module) is not str:
            raise TypeError("a name is not a string")
        self._push_function(module, name)

    def _push_function(self, module: str, name: str) -> None:
        function = FUNCTIONS.get((module, name))
        if function is None:
            full = f"{module[:_MAX_NAME]}.{name[:_MAX_NAME]}"
            raise RefusedError(full, f"asks for `{full}`")
        self.stack.append(function)

    def call(self) -> None:
        args, function = self.stack.pop(), self.stack.pop()
        if type(function) is not Function or type(args) is not tuple:
            raise TypeError(f"a {type(function).__name__} is called with a {type(args).__name__}")
        items = sum(len(arg) for arg in args if isinstance(arg, Sized))
        self.charge(function.own_bytes + items * function.item_bytes)
        self.stack.append(function(args))

    def build(self) -> None:
        """Give an array or a dtype its state. Nothing is changed: what is built takes the place of what was begun."""
        state, target = self.stack.pop(), self.stack.pop()
        if type(target) is not Unbuilt:
            raise RefusedError("BUILD", f"sets the state of a {type(target).__name__} (instruction BUILD)")
        if type(state) is tuple and state and isinstance(state[-1], Sized):
            self.charge(len(state[-1]) * (REFERENCE_BYTES if type(state[-1]) is list else 1))
        built = target.build(state)
        if built is None:
            raise RefusedError("BUILD", "gives a numpy array or dtype a state of its own (instruction BUILD)")
        while target.memo_keys:
            key = target.memo_keys.pop()
            if self.memo[key] is target:
                self.memo[key] = built
        self.stack.append(built)

    # The file

    def protocol(self, number: int) -> None:
        if number > _HIGHEST_PROTOCOL:
            raise ValueError(f"protocol {number} is not known")

    def frame(self, size: int) -> None:
        """A frame is what a reader should read at once. Here it only has to be there."""
        self.content.at = self.content.skip(size)
