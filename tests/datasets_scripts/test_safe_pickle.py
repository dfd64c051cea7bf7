"""`load_pickle` gives back plain data of every protocol and runs nothing else."""

import collections
import copyreg
import os
import pickle
import pickletools
import struct

import numpy as np
import pytest

from datasets_scripts.pickles.pickle_instructions import PLAIN as PLAIN_INSTRUCTIONS
from datasets_scripts.pickles.pickle_instructions import REFUSED
from datasets_scripts.pickles.safe_pickle import UnsafePickleError, load_pickle
from tests.datasets_scripts.pickled import (
    ARRAY_STATE,
    DTYPE,
    EMPTY_STRING,
    ENCODE,
    FLOAT32,
    FROMBUFFER,
    NDARRAY,
    pure_python_pickle,
    python2_array,
    write,
)

ARRAYS = {
    "float32": np.arange(12, dtype=np.float32).reshape(3, 4),
    "float64 fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "float16": np.array([0.5, -1], np.float16),
    "big endian": np.arange(5, dtype=">i4"),
    "bool": np.array([True, False]),
    "uint8": np.arange(200, 210, dtype=np.uint8),
    "complex": np.array([1 + 2j]),
    "not contiguous": np.arange(20.0).reshape(4, 5)[::2, 1:4],
    "large": np.random.default_rng(0).standard_normal((40, 50)),
    "no rows": np.zeros((0, 7), np.float32),
    "no dimensions": np.array(3.5),
    "axes in another order": np.arange(24.0).reshape(2, 3, 4).transpose(1, 0, 2),
    "axes turned round": np.arange(60, dtype=np.int16).reshape(3, 4, 5).transpose(2, 0, 1),
    "no columns": np.zeros((3, 0), ">f4"),
    "strings": np.array(["a", "wide ü 中"]),
    "byte strings": np.array([b"abc", b"d"]),
    "objects": np.asfortranarray(np.array([["a", 1, None], [b"b", [2, 3], ()]], object)),
    "an object": np.array(None),
}
PLAIN = {
    "text": ["", "ascii", "ü 中 \U0001f600"],
    "bytes": [b"", b"raw \xff\x00", bytearray(b"ab")],
    "numbers": (0, -1, 2**70, 0.5, float("inf"), None, True),
    "sets": [{1, 2}, frozenset({"x"})],
    "nested": {"a": {"b": [(1, (2, [3]))]}},
}


@pytest.mark.parametrize("protocol", range(6))
def test_plain_data_of_every_protocol(tmp_path, protocol):
    scalars = [np.float32(1.5), np.int64(-3), np.bool_(True), np.str_("ab"), np.bytes_(b"xy"), np.str_("")]
    objects = np.array([b"video", 1.5, "text", None], dtype=object)
    shared = np.arange(3)
    content = {"arrays": ARRAYS, "plain": PLAIN, "scalars": scalars, "objects": objects, "shared": [shared, shared]}
    loaded = load_pickle(write(tmp_path, pickle.dumps(content, protocol)))
    for name, array in ARRAYS.items():
        got = loaded["arrays"][name]
        assert type(got) is np.ndarray and not got.flags.writeable and got.shape == array.shape, name
        assert got.dtype.newbyteorder("=") == array.dtype.newbyteorder("="), name  # the byte order is the file's
        np.testing.assert_array_equal(got, array, err_msg=name)
    assert loaded["plain"] == PLAIN
    assert [(type(got), got) for got in loaded["scalars"]] == [(type(scalar), scalar) for scalar in scalars]
    assert loaded["objects"].dtype == object and loaded["objects"].tolist() == objects.tolist()
    assert loaded["shared"][0] is loaded["shared"][1]


def test_ordered_dict_comes_back_as_dict(tmp_path):
    ordered = collections.OrderedDict(b=1, a=2)
    for protocol in (0, 2, 4):
        loaded = load_pickle(write(tmp_path, pickle.dumps(ordered, protocol)))
        assert type(loaded) is dict and list(loaded.items()) == [("b", 1), ("a", 2)]


@pytest.mark.parametrize("core", [b"numpy.core", b"numpy._core"])
def test_module_names_of_both_numpy_generations(tmp_path, core):
    content = pickle.dumps([np.arange(4.0), np.float32(2)], 2)
    for name in (b"numpy._core", b"numpy.core"):
        content = content.replace(name, b"<numpy>")
    loaded = load_pickle(write(tmp_path, content.replace(b"<numpy>", core)))
    np.testing.assert_array_equal(loaded[0], np.arange(4.0))
    assert loaded[1] == 2


def test_python_2_pickle(tmp_path):
    raw = struct.pack("<3f", 1.0, -2.5, 300.25)  # has bytes above 127, so ASCII fails and latin1 is needed
    for content in (
        b"S" + repr(raw)[1:].encode() + b"\n",
        b"T\x0c\x00\x00\x00" + raw,
        b"U\x0c" + raw,
        b"U\x0c" + raw + b"q\x05",
    ):
        path = write(tmp_path, b"(dS'audio'\n" + python2_array(content) + b"sS'name'\nS'caf\\xe9'\nsS'n'\nL12L\ns.")
        loaded = load_pickle(path)
        np.testing.assert_array_equal(loaded["audio"], np.array([1.0, -2.5, 300.25], np.float32))
        assert loaded["name"] == "café" and loaded["n"] == 12
    # Python 2 has each string of one byte once, and refers to it wherever it comes again.
    shared = b"(lp0\nS'\\xff'\np1\na" + python2_array(b"g1\n", b"I1").replace(b"f4", b"u1") + b"ag1\na."
    loaded = load_pickle(write(tmp_path, shared.replace(b"S'<'", b"S'|'")))
    assert loaded[0] == loaded[2] == "ÿ" and loaded[1].tolist() == [255]


class Call:
    """Pickles as a call of `function(*args)`."""

    def __init__(self, function, *args):
        self.function, self.args = function, args

    def __reduce__(self):
        return self.function, self.args


@pytest.mark.parametrize("protocol", range(6))
def test_os_system_is_named_and_not_run(tmp_path, protocol):
    marker = tmp_path / "marker"
    attack = Call(os.system, f"touch {marker}")
    path = write(tmp_path, pickle.dumps({"train": {"audio": np.array([attack], dtype=object)}}, protocol))
    with pytest.raises(UnsafePickleError, match=r"(posix|nt)\.system") as caught:
        load_pickle(path)
    assert not marker.exists()
    assert caught.value.name in ("posix.system", "nt.system")
    for part in (str(path), "not run", "SHA-256"):
        assert part in str(caught.value)
    pickle.loads(path.read_bytes())  # the attack is a real one
    assert marker.exists()


@pytest.mark.parametrize(
    "name",
    [
        "builtins.eval", "builtins.exec", "builtins.getattr", "builtins.__import__", "builtins.open", "builtins.type",
        "__builtin__.eval", "operator.attrgetter", "operator.methodcaller", "functools.partial", "subprocess.Popen",
        "os.system", "numpy.load", "numpy.fromfile", "numpy.memmap", "numpy.testing._private.utils.runstring",
        "numpy.f2py.compile", "numpy.core.multiarray.fromfile", "numpy._core.numeric.load", "numpy.dtype.__class__",
        "numpy.ndarray.__new__", "collections.defaultdict", "_codecs.decode", "pickle.loads", "copyreg._reconstructor",
        "torch._utils._rebuild_tensor_v2", "pandas.core.frame.DataFrame", "nosuchmodule.thing",
    ],
)  # fmt: skip
def test_every_other_name_is_refused(tmp_path, name):
    module, _, attribute = name.rpartition(".")
    by_line = b"c" + module.encode() + b"\n" + attribute.encode() + b"\n(tR."
    instance = b"(i" + module.encode() + b"\n" + attribute.encode() + b"\n."
    by_stack = b"\x80\x04" + b"".join(b"\x8c" + bytes([len(word)]) + word.encode() for word in (module, attribute))
    for content in (by_line, instance, by_stack + b"\x93)R."):
        with pytest.raises(UnsafePickleError) as caught:
            load_pickle(write(tmp_path, content))
        assert caught.value.name == name and f"`{name}`" in str(caught.value)


def test_dotted_names_do_not_reach_into_allowed_modules(tmp_path):
    content = b"\x80\x04\x8c\x05numpy\x8c\x14testing.break_cycles\x93)R."
    with pytest.raises(UnsafePickleError, match=r"numpy\.testing\.break_cycles"):
        load_pickle(write(tmp_path, content))


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (ENCODE + b"(Vabc\nVrot13\ntR.", "_codecs.encode"),
        (ENCODE + b"(C\x03abcVzip\ntR.", "_codecs.encode"),
        (ENCODE + b"(Vabc\nVlatin1\nVignore\ntR.", "_codecs.encode"),
        (DTYPE % b"f4,i4" + b".", "numpy.dtype"),  # structured
        (DTYPE % b"V8" + b".", "numpy.dtype"),
        (DTYPE % b"M8[s]" + b".", "numpy.dtype"),
        (DTYPE % b"no such type" + b".", "numpy.dtype"),
        (b"cnumpy\ndtype\n(](Vf4\nVi4\netR.", "numpy.dtype"),
        (b"cnumpy\nndarray\n((I3\nttR.", "numpy.ndarray"),
        (b"cnumpy\nndarray\n(I3\nt\x81.", "NEWOBJ"),
        (b"cnumpy\nndarray\n(I3\nt}\x92.", "NEWOBJ_EX"),
        (b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\ndtype\n(I0\ntC\x01btR.", "numpy._reconstruct"),
        (b"cnumpy.core.multiarray\nscalar\n(" + DTYPE % b"O" + b"C\x08abcdefghtR.", "numpy.scalar"),
        (b"cnumpy.core.numeric\n_frombuffer\n(Vabcd\n" + DTYPE % b"f4" + b"I1\nVC\ntR.", "numpy._frombuffer"),
        (b"cbuiltins\nbytes\n(I99\ntR.", "bytes"),
        (b"cbuiltins\nbytearray\n(I99\ntR.", "bytearray"),
        (ENCODE + b"(Vabc\n" + DTYPE % b"f4" + b"tR.", "_codecs.encode"),
        (DTYPE % b"3f4" + b".", "numpy.dtype"),
        (DTYPE % b"float32" + b".", "numpy.dtype"),
        (DTYPE % b"U99999999999" + b".", "numpy.dtype"),
        (b"cbuiltins\nset\n(Vab\ntR.", "set"),
        (b"ccollections\nOrderedDict\n((I1\nltR.", "collections.OrderedDict"),
        # BUILD: attributes of a callable, a float that claims to hold objects, a string that grows behind its array,
        # a record, an array of objects made of raw bytes, an array larger than its content
        (b"cnumpy.core.numeric\n_frombuffer\n(N}V__name__\nVx\nstb.", "BUILD"),
        (b"}}Va\nVb\nsb.", "BUILD"),
        (DTYPE % b"f8" + b"(I3\nV<\nNNNI-1\nI-1\nI63\ntb.", "BUILD"),
        (DTYPE % b"S1" + b"(I3\nV|\nNNNI1000\nI1\nI0\ntb.", "BUILD"),
        (DTYPE % b"S1" + b"(I3\nV|\nNNNI1\nI0\nI0\ntb.", "BUILD"),
        (DTYPE % b"O8" + b"(I3\nV>\nNNNI-1\nI-1\nI63\ntb.", "BUILD"),
        (DTYPE % b"f8" + b"(I3\nV<\nN(Va\nt}I-1\nI-1\nI0\ntb.", "BUILD"),
        (DTYPE % b"f8" + b"(I3\nV<\n(" + DTYPE % b"f4" + b"(I2\nttNNI-1\nI-1\nI0\ntb.", "BUILD"),
        (NDARRAY + b"(I1\n(I1\nt" + DTYPE % b"O8" + b"I00\nC\x08abcdefghtb.", "BUILD"),
        (NDARRAY + b"(I1\n(I9\nt" + DTYPE % b"f4" + b"I00\nC\x08abcdefghtb.", "BUILD"),
        (NDARRAY + b"(I1\n(I-2\nt" + FLOAT32 + b"I00\nC\x08abcdefghtb.", "BUILD"),
        (NDARRAY + b"(I1\n(I3\nt" + FLOAT32 + b"I00\nC\x08abcdefghtb.", "BUILD"),
        (NDARRAY + b"(I1\n(I1\nt" + FLOAT32 + b"I00\nC\x08abcdefghtb.", "BUILD"),
        (NDARRAY + b"(I1\n(I4611686018427387905\nI4\nt" + FLOAT32 + b"I00\nC\x00tb.", "BUILD"),
        (NDARRAY + b"(I1\n(I1099511627776\nt" + EMPTY_STRING + b"I00\nC\x00tb.", "BUILD"),
        (NDARRAY + b"(I1\n(" + b"I1\n" * 65 + b"t" + FLOAT32 + b"I00\nC\x04abcdtb.", "BUILD"),
        (NDARRAY + b"(I1\n(I1\nt" + FLOAT32 + b"C\x01aC\x04abcdtb.", "BUILD"),
        (NDARRAY + ARRAY_STATE + b"b" + ARRAY_STATE + b"b.", "BUILD"),  # a second time
        (FLOAT32 + b"(I3\nV>\nNNNI-1\nI-1\nI0\ntb.", "BUILD"),
        (b"cnumpy.core.multiarray\nscalar\n(" + FLOAT32 + b"C\x03abctR.", "numpy.scalar"),
        (b"cnumpy.core.multiarray\nscalar\n(" + FLOAT32 + b"C\x08abcdefghtR.", "numpy.scalar"),
        (FROMBUFFER + b"C\x04abcd" + FLOAT32 + b"(I2\ntVC\ntR.", "numpy._frombuffer"),
        (FROMBUFFER + b"C\x04abcd" + FLOAT32 + b"(I1\ntVA\ntR.", "numpy._frombuffer"),
        (FROMBUFFER + b"C\x04abcd" + FLOAT32 + b"(I1\ntVK\ntR.", "numpy._frombuffer"),
        (FROMBUFFER + b"C\x04abcd" + FLOAT32 + b"(I1\ntVK\n(I1\nttR.", "numpy._frombuffer"),
        (FROMBUFFER + b"C\x04abcd" + FLOAT32 + b"I-1\nVC\ntR.", "numpy._frombuffer"),
        (b"Pinternal\n.", "persistent id"),
        (b"Vinternal\nQ.", "persistent id"),
        (b"\x82\x01.", "extension code"),
    ],
)
def test_allowed_names_are_not_a_way_in(tmp_path, content, name):
    with pytest.raises(UnsafePickleError) as caught:
        load_pickle(write(tmp_path, content))
    assert caught.value.name == name, str(caught.value)


def test_extension_registry_is_refused_even_when_python_has_it_cached(tmp_path):
    copyreg.add_extension("os", "system", 77)
    try:
        copyreg._extension_cache[77] = os.system
        content = b"\x80\x02\x82\x4dVtrue\n\x85R."
        assert pickle.loads(content) == 0  # plain pickle runs it
        with pytest.raises(UnsafePickleError, match="entry 77 of the extension registry"):
            load_pickle(write(tmp_path, content))
    finally:
        copyreg.remove_extension("os", "system", 77)


def test_shared_dtypes_of_numpy_stay_as_they_are(tmp_path):
    content = b"cnumpy\ndtype\n(Vf8\nI0\nI0\ntR(I3\nV>\nNNNI-1\nI-1\nI0\ntb."  # asks for no copy
    assert load_pickle(write(tmp_path, content)).byteorder == ">"
    assert np.dtype("f8").byteorder == "=" and np.zeros(1).dtype.isnative


def test_what_is_referred_to_again_is_what_was_put_there_last(tmp_path):
    state = ARRAY_STATE.replace(b"C\x04abcd", b"C\x04abcdq\x02")
    array, content, again = load_pickle(write(tmp_path, b"(" + NDARRAY + b"q\x01q\x02" + state + b"bh\x02h\x01t."))
    assert content == b"abcd" and array.tobytes() == b"abcd" and again is array


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_truncation_anywhere_is_told(tmp_path, protocol):
    content = pickle.dumps({"train": {"audio": np.ones((2, 3)), "id": ["a", "b"], "n": np.float32(1)}}, protocol)
    for size in range(len(content)):
        path = write(tmp_path, content[:size], "cut.pkl")
        with pytest.raises(ValueError, match=r"cut\.pkl.*truncated or not a pickle.*SHA-256.*again"):
            load_pickle(path)


@pytest.mark.parametrize(
    "content",
    [b"", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", b"<!DOCTYPE html><html>", b"PK\x03\x04" * 9,
     bytes(range(256)), b"\x80\x04\x8c\x02\xff\xfe.", b"Nb.", b"\x80\x09N.", b"NN\x86R."],
)  # fmt: skip
def test_files_that_are_no_pickles_are_told(tmp_path, content):
    with pytest.raises(ValueError, match=r"other\.pkl \(\d+ bytes\) is truncated or not a pickle"):
        load_pickle(write(tmp_path, content, "other.pkl"))


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no such file.*nothing\.pkl; check the path"):
        load_pickle(tmp_path / "nothing.pkl")
    with pytest.raises(FileNotFoundError, match="it is a folder"):
        load_pickle(str(tmp_path))


# Every instruction of pickles: what is plain, and what no plain file needs.
NEEDED = """
INT BININT BININT1 BININT2 LONG LONG1 FLOAT BINFLOAT NONE NEWTRUE NEWFALSE STRING BINSTRING SHORT_BINSTRING BINBYTES
SHORT_BINBYTES BINBYTES8 BYTEARRAY8 UNICODE SHORT_BINUNICODE BINUNICODE BINUNICODE8 EMPTY_LIST APPEND APPENDS LIST
EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_DICT DICT SETITEM SETITEMS EMPTY_SET ADDITEMS FROZENSET MARK GET BINGET
LONG_BINGET PUT BINPUT LONG_BINPUT MEMOIZE GLOBAL STACK_GLOBAL REDUCE BUILD PROTO FRAME STOP
"""
NOT_NEEDED = {
    "LONG4": b"\x8b\x01\x00\x00\x00a.",
    "POP": b"NN0.",
    "POP_MARK": b"N(1.",
    "DUP": b"N2\x86.",
    "EXT1": b"\x82\x01.",
    "EXT2": b"\x83\x01\x00.",
    "EXT4": b"\x84\x01\x00\x00\x00.",
    "INST": b"(inumpy\nndarray\n.",
    "OBJ": b"(cnumpy\nndarray\no.",
    "NEWOBJ": b"cnumpy\nndarray\n)\x81.",
    "NEWOBJ_EX": b"cnumpy\nndarray\n)}\x92.",
    "PERSID": b"Pinternal\n.",
    "BINPERSID": b"NQ.",
    "NEXT_BUFFER": b"\x80\x05\x97.",
    "READONLY_BUFFER": b"\x80\x05N\x98.",
}
# What picklers write only from 4 GiB on, and what only those of Python 2 do.
RARE = [b"\x8d\x02" + bytes(7) + b"ab.", b"\x8e\x02" + bytes(7) + b"ab.", b"(S'a'\nT\x01\x00\x00\x00aU\x01at."]


def test_every_instruction_is_needed_by_plain_data_or_refused(tmp_path):
    """Plain means that a pickler writes it for plain data; the files here are good, and use each of these."""
    assert sorted([*NEEDED.split(), *NOT_NEEDED]) == sorted(opcode.name for opcode in pickletools.opcodes)
    codes = {opcode.name: opcode.code.encode("latin1") for opcode in pickletools.opcodes}
    assert set(PLAIN_INSTRUCTIONS) == {codes[name] for name in NEEDED.split()} - {pickle.STOP}
    assert set(REFUSED) == {codes[name] for name in NOT_NEEDED}
    rows = [("a", i) for i in range(300)]
    content = [PLAIN, [float(i) for i in range(9)], b"x" * 300, "y" * 300, rows, rows[0], rows[-1], 3**99, 40000, -5]
    files = [pickle.dumps([ARRAYS, *content], protocol) for protocol in range(6)]
    filled = [array for array in ARRAYS.values() if array.size]  # Python's own pickler fails at empty buffers
    files += [pure_python_pickle([filled, *content], protocol) for protocol in range(6)]
    seen = set()
    for file in files + RARE:
        load_pickle(write(tmp_path, file))
        seen |= {opcode.name for opcode, _, _ in pickletools.genops(file)}
    assert seen == set(NEEDED.split())


@pytest.mark.parametrize("name", NOT_NEEDED)
def test_instructions_that_plain_data_does_not_need(tmp_path, name):
    with pytest.raises(UnsafePickleError, match="was not run"):
        load_pickle(write(tmp_path, NOT_NEEDED[name]))


def test_codes_that_are_no_instructions(tmp_path):
    known = {ord(opcode.code) for opcode in pickletools.opcodes}
    for code in set(range(256)) - known:
        with pytest.raises(ValueError, match="byte 1 is no instruction"):
            load_pickle(write(tmp_path, b"N" + bytes([code]) + b"."))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"NN.", "ends with several objects or none"),
        (b".", "ends with several objects or none"),
        (b"(N.", "ends with several objects or none"),
        (b"N.N.", "2 bytes follow its end"),
        (b"N.\n", "1 bytes follow its end"),
        (b"]N", "it has no end"),
        (b"J\x01\x02", "it has no end"),
        (b"t.", "IndexError"),
        (b"NNe.", "IndexError"),
        (b"N\x86.", "lacks items"),
        (b"g5\n.", "KeyError"),
        (b"h\x05.", "KeyError"),
        (b"j\xff\xff\xff\xff.", "KeyError"),
        (b"Na.", "IndexError"),
        (b"NNa.", "items of a list are added to a NoneType"),
        (ARRAY := NDARRAY + ARRAY_STATE + b"bK\x07a.", "items of a list are added to a ndarray"),
        (NDARRAY + ARRAY_STATE + b"b(K\x07e.", "items of a list are added to a ndarray"),
        (NDARRAY + ARRAY_STATE + b"bK\x00K\x07s.", "items of a dict are added to a ndarray"),
        (NDARRAY + ARRAY_STATE + b"b(K\x00K\x07u.", "items of a dict are added to a ndarray"),
        (NDARRAY + ARRAY_STATE + b"b(K\x00\x90.", "items of a set are added to a ndarray"),
        (b"\x96\x01" + bytes(7) + b"a(K\x01e.", "items of a list are added to a bytearray"),
        (b"](K\x01\x90.", "items of a set are added to a list"),
        (b"](K\x01K\x01u.", "items of a dict are added to a list"),
        (b"\x8f(K\x01e.", "items of a list are added to a set"),
        (b"(K\x01\x91(K\x01\x90.", "items of a set are added to a frozenset"),
        (b"}(K\x01u.", "has no value"),
        (b"(K\x01d.", "has no value"),
        (b"K\x01\x85)R.", "a tuple is called"),
        (b"cnumpy\ndtype\n]R.", "called with a list"),
        (b"\x8c\x05numpyK\x01\x93.", "name is not a string"),
        (b"I12", "end of a line is missing"),
        (b"I" + b"9" * 200 + b"\n.", "number or a name is too long"),
        (b"L" + b"9" * 10**6 + b"L\n.", "number or a name is too long"),
        (b"F" + b"9" * 200 + b"\n.", "number or a name is too long"),
        (b"p" + b"9" * 200 + b"\n.", "number or a name is too long"),
        (b"c" + b"x" * 2000 + b"\ny\n.", "number or a name is too long"),
        (b"Sabc\n.", "no quotes"),
        (b"S'abc\n.", "no quotes"),
        (b"\x95\x09" + bytes(7) + b"N.", "9 bytes are announced and 2 are left"),
        (b"\x80\x06N.", "protocol 6 is not known"),
    ],
)  # fmt: skip
def test_damage_is_told(tmp_path, content, message):
    with pytest.raises(ValueError, match=rf"truncated or not a pickle.*{message}") as caught:
        load_pickle(write(tmp_path, content))
    assert type(caught.value) is ValueError and len(str(caught.value)) < 1000
