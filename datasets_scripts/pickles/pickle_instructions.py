"""The instructions of pickles, each of them: those that plain data needs, and those that are refused.

Plain data is what picklers of protocols 0 to 5, of Python 2 and 3, write for numpy arrays, plain containers, strings
and numbers. Used by `safe_pickle`.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable
from typing import Any

from datasets_scripts.pickles.pickle_bounds import REFERENCE_BYTES
from datasets_scripts.pickles.pickle_content import Content
from datasets_scripts.pickles.pickle_machine import MAX_DIGITS, Machine
from datasets_scripts.pickles.pickle_values import RefusedError

Instruction = Callable[[Machine], None]

# Bytes that an object takes, roughly, with the reference to it and what is remembered of it. Small integers exist once.
_NUMBER, _FLOAT, _STRING, _TUPLE, _LIST, _DICT, _SET, _MARK, _MEMO = 40, 32, 72, 100, 160, 240, 240, 120, 100

_U1, _U2, _U4, _U8, _I4, _F8 = (struct.Struct(form) for form in ("<B", "<H", "<I", "<Q", "<i", ">d"))


def run_pickle(content: Content) -> Any:
    """The object that a pickle describes.

    Raises:
        RefusedError: the pickle asks for what plain data does not need. None of that was called.
        NotPlainError: what it describes is too large for the file, nested too deep, within itself, or has odd keys.
        EOFError, IndexError, KeyError, OverflowError, TypeError, ValueError: the file is damaged.
    """
    machine = Machine(content)
    code = None
    try:
        while code != _STOP:
            code = content.bytes[content.at]
            content.at += 1
            instruction, size = _PLAIN.get(code, _OTHER)
            machine.left -= size
            if machine.left < 0:
                machine.charge(0)
            instruction(machine)
    except (IndexError, struct.error) as error:
        if type(error) is IndexError and content.at < content.size:
            raise
        raise EOFError("it has no end") from None
    return machine.finish()


def _refuse(machine: Machine) -> None:
    """Any other instruction than those in `PLAIN`, or STOP, which comes to the end of them."""
    code = machine.content.bytes[machine.content.at - 1 : machine.content.at]
    if code == pickle.STOP:
        return
    if code not in REFUSED:
        raise ValueError(f"byte {machine.content.at - 1} is no instruction")
    name, what = REFUSED[code]
    if code == pickle.INST:
        machine.find_named_lines()  # says which class, unless it is one of the functions
    if code in _EXTENSION_CODES:
        what = f"asks for entry {machine.content.read_number(_EXTENSION_CODES[code])} of the extension registry"
    raise RefusedError(name, what)


def _push(value: Any) -> Instruction:
    return lambda machine: machine.stack.append(value)


def _push_number(form: struct.Struct) -> Instruction:
    unpack, size = form.unpack_from, form.size

    def instruction(machine: Machine) -> None:
        content = machine.content
        machine.stack.append(unpack(content.bytes, content.at)[0])
        content.at += size

    return instruction


def _with_number(act: Callable[[Machine, int], None], form: struct.Struct) -> Instruction:
    """An instruction whose number, which follows it, is a size or a key."""
    unpack, size = form.unpack_from, form.size

    def instruction(machine: Machine) -> None:
        content = machine.content
        (number,) = unpack(content.bytes, content.at)
        content.at += size
        act(machine, number)

    return instruction


def _with_line(act: Callable[[Machine, int], None]) -> Instruction:
    return lambda machine: act(machine, int(machine.content.read_line(MAX_DIGITS)))


# What it does, and how many bytes what it makes takes, besides those that it charges itself.
PLAIN: dict[bytes, tuple[Instruction, int]] = {
    pickle.NONE: (_push(None), REFERENCE_BYTES),
    pickle.NEWTRUE: (_push(True), REFERENCE_BYTES),
    pickle.NEWFALSE: (_push(False), REFERENCE_BYTES),
    pickle.INT: (Machine.read_int_line, _NUMBER),
    pickle.BININT: (_push_number(_I4), _NUMBER),
    pickle.BININT1: (_push_number(_U1), REFERENCE_BYTES),
    pickle.BININT2: (_push_number(_U2), _NUMBER),
    pickle.LONG: (Machine.read_long_line, 2 * _NUMBER),
    pickle.LONG1: (_with_number(Machine.read_long, _U1), 2 * _NUMBER),
    pickle.FLOAT: (Machine.read_float_line, _FLOAT),
    pickle.BINFLOAT: (_push_number(_F8), _FLOAT),
    pickle.STRING: (Machine.read_python2_string_line, _STRING),
    pickle.BINSTRING: (_with_number(Machine.read_python2_string, _I4), _STRING),
    pickle.SHORT_BINSTRING: (_with_number(Machine.read_python2_string, _U1), _STRING),
    pickle.BINBYTES: (_with_number(Machine.read_bytes, _U4), _STRING),
    pickle.SHORT_BINBYTES: (_with_number(Machine.read_bytes, _U1), _STRING),
    pickle.BINBYTES8: (_with_number(Machine.read_bytes, _U8), _STRING),
    pickle.BYTEARRAY8: (_with_number(Machine.read_bytearray, _U8), _STRING),
    pickle.UNICODE: (Machine.read_text_line, _STRING),
    pickle.SHORT_BINUNICODE: (_with_number(Machine.read_text, _U1), _STRING),
    pickle.BINUNICODE: (_with_number(Machine.read_text, _U4), _STRING),
    pickle.BINUNICODE8: (_with_number(Machine.read_text, _U8), _STRING),
    pickle.MARK: (Machine.mark, _MARK),
    pickle.EMPTY_TUPLE: (_push(()), REFERENCE_BYTES),
    pickle.TUPLE1: (lambda machine: machine.make_tuple(1), _TUPLE),
    pickle.TUPLE2: (lambda machine: machine.make_tuple(2), _TUPLE),
    pickle.TUPLE3: (lambda machine: machine.make_tuple(3), _TUPLE),
    pickle.TUPLE: (lambda machine: machine.make_marked(tuple), _TUPLE),
    pickle.EMPTY_LIST: (lambda machine: machine.stack.append([]), _LIST),
    pickle.LIST: (lambda machine: machine.make_marked(list), _LIST),
    pickle.APPEND: (Machine.append, 0),
    pickle.APPENDS: (Machine.appends, 0),
    pickle.EMPTY_DICT: (lambda machine: machine.stack.append({}), _DICT),
    pickle.DICT: (Machine.make_dict, _DICT),
    pickle.SETITEM: (Machine.set_item, 0),
    pickle.SETITEMS: (Machine.set_marked_items, 0),
    pickle.EMPTY_SET: (lambda machine: machine.stack.append(set()), _SET),
    pickle.ADDITEMS: (Machine.add_items, 0),
    pickle.FROZENSET: (Machine.make_frozenset, _SET),
    pickle.PUT: (_with_line(Machine.put), _MEMO),
    pickle.BINPUT: (_with_number(Machine.put, _U1), _MEMO),
    pickle.LONG_BINPUT: (_with_number(Machine.put, _U4), _MEMO),
    pickle.MEMOIZE: (lambda machine: machine.put(len(machine.memo)), _MEMO),
    pickle.GET: (_with_line(Machine.get), REFERENCE_BYTES),
    pickle.BINGET: (_with_number(Machine.get, _U1), REFERENCE_BYTES),
    pickle.LONG_BINGET: (_with_number(Machine.get, _U4), REFERENCE_BYTES),
    pickle.GLOBAL: (Machine.find_named_lines, REFERENCE_BYTES),
    pickle.STACK_GLOBAL: (Machine.find_named, REFERENCE_BYTES),
    pickle.REDUCE: (Machine.call, REFERENCE_BYTES),
    pickle.BUILD: (Machine.build, REFERENCE_BYTES),
    pickle.PROTO: (_with_number(Machine.protocol, _U1), 0),
    pickle.FRAME: (_with_number(Machine.frame, _U8), 0),
}

# The name by which it is refused, and what it does.
REFUSED: dict[bytes, tuple[str, str]] = {
    pickle.PERSID: ("persistent id", "refers to an object outside the file (a persistent id)"),
    pickle.BINPERSID: ("persistent id", "refers to an object outside the file (a persistent id)"),
    pickle.NEXT_BUFFER: ("NEXT_BUFFER", "refers to a buffer outside the file (instruction NEXT_BUFFER)"),
    pickle.READONLY_BUFFER: ("READONLY_BUFFER", "refers to a buffer outside the file (instruction READONLY_BUFFER)"),
    pickle.EXT1: ("extension code", "asks for an entry of the extension registry"),
    pickle.EXT2: ("extension code", "asks for an entry of the extension registry"),
    pickle.EXT4: ("extension code", "asks for an entry of the extension registry"),
    pickle.INST: ("INST", "makes an instance of a class (instruction INST)"),
    pickle.OBJ: ("OBJ", "makes an instance of a class (instruction OBJ)"),
    pickle.NEWOBJ: ("NEWOBJ", "makes an instance of a class (instruction NEWOBJ)"),
    pickle.NEWOBJ_EX: ("NEWOBJ_EX", "makes an instance of a class (instruction NEWOBJ_EX)"),
    # Picklers write these for numbers of more than 255 bytes, and for tuples that hold themselves.
    pickle.LONG4: ("LONG4", "holds a whole number of more than 600 digits (instruction LONG4)"),
    pickle.POP: ("POP", "takes back what it has described (instruction POP)"),
    pickle.POP_MARK: ("POP_MARK", "takes back what it has described (instruction POP_MARK)"),
    pickle.DUP: ("DUP", "repeats what it has described (instruction DUP)"),
}

_EXTENSION_CODES = {pickle.EXT1: _U1, pickle.EXT2: _U2, pickle.EXT4: _I4}

_PLAIN = {code[0]: instruction for code, instruction in PLAIN.items()}
_OTHER: tuple[Instruction, int] = (_refuse, 0)
_STOP = pickle.STOP[0]
