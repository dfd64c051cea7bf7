"""Whatever a file holds, `load_pickle` gives plain data or a ValueError, and touches nothing else."""

import copyreg
import os
import pickle
import pickletools
import struct
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datasets_scripts.arrays.mmsa_layout import read_layout
from datasets_scripts.pickles import pickle_machine
from datasets_scripts.pickles.safe_pickle import load_pickle
from tests.datasets_scripts.pickled import (
    ARRAY_STATE,
    DTYPE,
    ENCODE,
    FLOAT32,
    FROMBUFFER,
    LETTER,
    NDARRAY,
    OBJECTS,
    counted,
    python2_array,
)

GENERATED = settings(
    derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck), max_examples=400
)
LEAVES = (bool, int, float, complex, str, bytes, bytearray, type(None), np.dtype)


@pytest.fixture(scope="module", autouse=True)
def small_bounds():
    """So that short files come to them: content of 16 bytes stays in the file, and memory ends after 4 MB."""
    patch = pytest.MonkeyPatch()
    patch.setattr(pickle_machine, "LARGE", 16)
    patch.setattr(pickle_machine, "MEMORY_BASE", 4 << 20)
    yield
    patch.undo()


def sample():
    """Plain data with everything in it."""
    array = np.arange(12, dtype=np.float32).reshape(2, 3, 2)
    return {
        "train": {
            "id": ["a$_$1", "ü$_$2", ("v", 1.5, 2)],
            "audio": array,
            "fortran": np.asfortranarray(array),
            "turned": array.transpose(2, 0, 1),
            "big": np.arange(3, dtype=">i2"),
            "text": np.array(["a", "中"]),
            "objects": np.array([b"a", 1, None, "x", [1]], object),
            "empty": np.zeros((0, 3)),
        },
        "plain": [
            1,
            -1,
            300,
            70000,
            2**70,
            1.5,
            None,
            True,
            False,
            b"ab",
            bytearray(b"cd"),
            {1, "a"},
            frozenset({2}),
            (),
        ],
        "scalars": [np.float32(1), np.int64(2), np.str_("é"), np.bool_(True)],
        "again": [array, array, "a$_$1"],
    }


GOOD = [pickle.dumps(sample(), protocol) for protocol in range(6)]
GOOD.append(b"(dS'audio'\n" + python2_array(b"U\x0c" + struct.pack("<3f", 1, -2, 3e9)) + b"sS'n'\nI5\ns.")
# Where an instruction begins: a cut or a splice there goes deeper than one within an instruction.
STARTS = [[position for _, _, position in pickletools.genops(content)] for content in GOOD]


def check_plain(value):
    """Raise unless all of it is plain, by exact type."""
    if type(value) in (list, tuple, set, frozenset):
        for item in value:
            check_plain(item)
    elif type(value) is dict:
        for key, item in value.items():
            check_plain(key)
            check_plain(item)
    elif type(value) is np.ndarray:
        assert value.dtype.kind in "biufcSUO" and value.dtype.fields is None and value.dtype.subdtype is None
        assert not value.flags.writeable
        if value.nbytes < 1 << 16:
            check_plain(value.tolist())  # touches every element
    else:
        assert isinstance(value, (np.generic, *LEAVES)), type(value)


def same(one, other):
    """Whether what `load_pickle` gave is what the standard library gives, NaN included, with types."""
    if type(one) is np.ndarray and type(other) is np.ndarray:
        if one.shape != other.shape or one.dtype.newbyteorder("=") != other.dtype.newbyteorder("="):
            return False
        if one.dtype.kind == "O":
            return same(list(one.ravel()), list(other.ravel()))
        return one.astype(other.dtype).tobytes() == other.tobytes()
    if type(one) is np.ndarray:  # the content of an array, to which the file refers again; no pickler does
        content = other.encode("latin1") if isinstance(other, str) else other
        return isinstance(content, (bytes, bytearray)) and one.dtype == np.uint8 and one.tobytes() == content
    if type(one) is not type(other):
        return False
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return same(list(one.items()), list(other.items()))
    return repr(one) == repr(other)


PLAIN_NAMES = {("numpy", name) for name in ("ndarray", "dtype", "_reconstruct", "scalar", "_frombuffer")}
PLAIN_NAMES |= {("builtins", name) for name in ("set", "frozenset", "bytes", "bytearray")}
PLAIN_NAMES |= {("_codecs", "encode"), ("collections", "OrderedDict")}


class Reference(pickle._Unpickler):
    """The standard library's, for files that `load_pickle` has taken; it makes only what the names there make."""

    def find_class(self, module, name):
        module = module.replace("__builtin__", "builtins")
        assert (module.split(".")[0], name) in PLAIN_NAMES
        return dict if name == "OrderedDict" else super().find_class(module, name)


def check(folder, content, compare=False):
    """The one property: plain data, or a ValueError of bounded length; and nothing else has changed."""
    path = folder / "fuzzed.pkl"
    path.unlink(missing_ok=True)  # never written over: what was loaded before may still be mapped
    path.write_bytes(content)
    modules, extensions = set(sys.modules), dict(copyreg._extension_registry)
    try:
        value = load_pickle(path)
    except ValueError as error:
        assert len(str(error)) < 2000
        value = None
        compare = False
    check_plain(value)
    assert set(sys.modules) == modules and copyreg._extension_registry == extensions
    assert [file.name for file in folder.iterdir()] == ["fuzzed.pkl"] and path.read_bytes() == content
    for name, expected in DTYPES.items():
        assert describe(np.dtype(name)) == expected
    if compare:
        expected = load_by_reference(path)
        assert expected is None or same(value, expected)
    return value


def load_by_reference(path):
    """What the standard library makes of the file, or None where it is stricter: `I02` is no number to it."""
    with path.open("rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return Reference(file, encoding="latin1").load()
        except Exception:
            return None


def describe(dtype):
    return dtype.str, dtype.flags, dtype.itemsize, dtype.alignment, dtype.byteorder, dtype.metadata, dtype.hasobject


DTYPES = {
    name: describe(np.dtype(name)) for name in ("f4", "f8", "i1", "i2", "i4", "i8", "u1", "b1", "O", "S1", "U1", "S0")
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


def test_the_property_holds_for_good_files_and_is_not_empty(folder):
    for content in GOOD:
        value = check(folder, content, compare=True)
        assert value is not None
    assert same(value, {"audio": np.array([1, -2, 3e9], np.float32), "n": 5})
    with pytest.raises(AssertionError):
        check_plain([{"a": (object(),)}])
    assert not same([np.float32(1)], [np.float64(1)]) and not same(np.zeros(2), np.zeros((2, 1)))


@st.composite
def files_with_a_random_end(draw):
    which = draw(st.integers(0, len(GOOD) - 1))
    return GOOD[which][: draw(st.sampled_from(STARTS[which]))] + draw(st.binary(max_size=60))


@st.composite
def changed_files(draw, files):
    """Bits turned, bytes changed, parts cut out, repeated or taken from other files; several of these."""
    content = bytearray(draw(st.sampled_from(files)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(content) - 1, 0)))
        change = draw(st.sampled_from(["bit", "byte", "cut", "end", "repeat", "splice", "number"]))
        if not content:
            break
        if change == "bit":
            content[at] ^= 1 << draw(st.integers(0, 7))
        elif change == "byte":
            content[at] = draw(st.integers(0, 255))
        elif change == "cut":
            del content[at : at + draw(st.integers(1, 20))]
        elif change == "end":
            del content[at:]
        elif change == "repeat":
            content[at:at] = content[at : at + draw(st.integers(1, 40))]
        elif change == "number":
            content[at : at + 4] = draw(
                st.sampled_from([b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", bytes(4), b"\0\0\0\x80"])
            )
        else:
            other = draw(st.integers(0, len(GOOD) - 1))
            begin, end = sorted(draw(st.tuples(*[st.sampled_from(STARTS[other])] * 2)))
            content[at:at] = GOOD[other][begin:end]
    return bytes(content)


def numbers(form, *values):
    return st.sampled_from(values).map(lambda value: struct.pack(form, value))


def counted_bytes(form, content):
    """A size and as many bytes; sometimes a size that is not true."""
    extreme = {"<B": 255, "<I": 2**32 - 1, "<i": -1, "<Q": 2**62}[form]
    sizes = st.sampled_from([None] * 15 + [0, 1, extreme])
    return st.builds(lambda part, size: struct.pack(form, len(part) if size is None else size) + part, content, sizes)


def line(content):
    return content.map(lambda text: text + b"\n")


NAMES = """numpy dtype,numpy ndarray,numpy.core.multiarray _reconstruct,numpy._core.multiarray scalar,
numpy.core.numeric _frombuffer,_codecs encode,builtins set,__builtin__ bytearray,collections OrderedDict,os system,
builtins eval,numpy load,copyreg _reconstructor""".replace("\n", "").split(",")
SHORT = st.binary(max_size=20)
TEXTS = ["", "a", "latin1", "latin-1", "f4", "O8", "U3", "S0", "<", "|", "C", "F", "K", "numpy", "dtype", "ü中"]
UTF8 = st.sampled_from(TEXTS).map(str.encode)
DECIMALS = [b"0", b"1", b"-1", b"00", b"01", b"3", b"255", b"99999999999", b"1" * 5000, b"x", b"", b"1L"]
DECIMAL = st.sampled_from(DECIMALS)
# What follows an instruction, by the name that `pickletools` gives it.
ARGUMENTS = {
    "uint1": numbers("<B", 0, 1, 2, 3, 4, 5, 77, 255),
    "uint2": numbers("<H", 0, 1, 300, 65535),
    "int4": numbers("<i", 0, 1, 2, -1, 2**31 - 1, -(2**31)),
    "uint4": numbers("<I", 0, 1, 2, 2**31, 2**32 - 1),
    "uint8": numbers("<Q", 0, 1, 20, 2**40, 2**64 - 1),
    "float8": numbers(">d", 0.0, 1.5, float("nan"), float("inf")),
    "stringnl": line(st.sampled_from([b"'a'", b"'\\xff'", b'"b"', b"'", b"a", b"'\\x'", b"'latin1'"])),
    "stringnl_noescape": line(SHORT),
    "stringnl_noescape_pair": line(st.sampled_from(NAMES).map(lambda name: name.replace(" ", "\n").encode())),
    "unicodestringnl": line(st.sampled_from([b"a", b"latin1", b"\\u4e2d", b"\\ud83d", b"\\U00110000", b"\xff"])),
    "decimalnl_short": line(DECIMAL),
    "decimalnl_long": line(DECIMAL),
    "floatnl": line(st.sampled_from([b"1.5", b"nan", b"-inf", b"1e999", b"x", b"9" * 5000])),
    "string1": counted_bytes("<B", SHORT),
    "string4": counted_bytes("<i", SHORT),
    "bytes1": counted_bytes("<B", SHORT),
    "bytes4": counted_bytes("<I", SHORT),
    "bytes8": counted_bytes("<Q", SHORT),
    "bytearray8": counted_bytes("<Q", SHORT),
    "unicodestring1": counted_bytes("<B", UTF8),
    "unicodestring4": counted_bytes("<I", UTF8),
    "unicodestring8": counted_bytes("<Q", UTF8),
    "long1": counted_bytes("<B", SHORT),
    "long4": counted_bytes("<i", SHORT),
}


def with_argument(opcode):
    code = opcode.code.encode("latin1")
    return ARGUMENTS[opcode.arg.name].map(lambda argument: code + argument) if opcode.arg else st.just(code)


INSTRUCTIONS = st.one_of(*map(with_argument, pickletools.opcodes))
# Several instructions that make sense together.
PHRASES = [
    NDARRAY,
    FLOAT32,
    OBJECTS,
    LETTER,
    ENCODE,
    FROMBUFFER,
    DTYPE % b"f4",
    DTYPE % b"S3",
    ARRAY_STATE,
    NDARRAY + ARRAY_STATE + b"b",
    NDARRAY + b"(I1\n(I5\nt" + FLOAT32 + b"I00\n",
    b"(I1\n(I2\nt" + OBJECTS + b"I00\n(NNlt",
    ENCODE + counted(b"X", "<I", 20, b"a" * 20) + b"Vlatin1\n\x86R",
    counted(b"B", "<I", 20, bytes(20)),
    b"cnumpy.core.multiarray\nscalar\n(",
    b"(I2\nI0\nt",
    *b"I01\n tb tR q\x01 h\x01 ](h\x01h\x01e h\x01h\x01\x86q\x01 K\x01 N (".split(b" "),
]


@st.composite
def programs(draw):
    begin, end = draw(st.sampled_from([b"", b"\x80\x04", b"("])), draw(st.sampled_from([b".", b"t.", b""]))
    return begin + b"".join(draw(st.lists(st.one_of(st.sampled_from(PHRASES), INSTRUCTIONS), max_size=30))) + end


@GENERATED
@given(content=files_with_a_random_end())
def test_random_ends(folder, content):
    check(folder, content)


@GENERATED
@given(content=changed_files(GOOD))
def test_changed_files(folder, content):
    check(folder, content, compare=True)


@GENERATED
@given(content=programs())
def test_programs(folder, content):
    check(folder, content, compare=True)


def corpus():
    """A small good file in MMSA's layout, everything in every split."""
    return {
        split: {
            "id": [f"{split}$_${row}" for row in range(2)],
            "raw_text": ["a b", "c"],
            "text": np.ones((2, 4, 2)),
            "text_bert": np.array([[[5, 6, 7, 0], [1, 1, 1, 0], [0] * 4]] * 2, np.float32),
            "audio": np.ones((2, 3, 2), np.float32),
            "audio_lengths": [3, 2],
            "vision": [[[1.0, 2.0]], [[0.0, 0.0]]],
            "regression_labels": np.array([1.5, -2]),
            "regression_labels_T": [0, 1],
            "emotions": np.ones((2, 6)),
        }
        for split in ("train", "valid", "test")
    }


CORPORA = [pickle.dumps(corpus(), protocol) for protocol in (2, 4)]


def check_layout(folder, content):
    """What is plain but no corpus ends in a ValueError, too."""
    value = check(folder, content)
    try:
        read_layout(value, "auto")
    except ValueError as error:
        assert len(str(error)) < 5000
        return False
    return True


@GENERATED
@given(content=changed_files(CORPORA))
def test_changed_corpora(folder, content):
    check_layout(folder, content)


ODD_ARRAYS = [
    np.zeros(2),
    np.zeros((2, 3, 2)),
    np.zeros((0, 3)),
    np.zeros((2, 0)),
    np.zeros((2, 2, 0), "f2"),
    np.array(3),
]
ODD_ARRAYS += [np.array(["a", "b"]), np.array([b"a", b"b"]), np.array([None, 1], object), np.array(None), np.float32(2)]
ODD_ARRAYS += [np.ones((2, 6)), np.full((2, 7), np.nan), np.zeros((2, 3, 4), "i1"), np.array([1j, 2])]
ODD_ARRAYS += [np.array([["a", 1], ["b", 2]], object)]
ODD_SCALARS = [st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3), st.binary(max_size=3)]


def containers(inner):
    names = st.text(max_size=2)
    return st.one_of(st.lists(inner, max_size=3), st.tuples(inner, inner), st.dictionaries(names, inner, max_size=2))


VALUES = st.recursive(st.one_of(*ODD_SCALARS, st.sampled_from(ODD_ARRAYS)), containers, max_leaves=6)
PLACES = st.tuples(st.sampled_from(["train", "test"]), st.sampled_from(list(corpus()["test"])))


@GENERATED
@given(changes=st.dictionaries(PLACES, VALUES, max_size=3))
def test_corpora_with_odd_values(folder, changes):
    content = corpus()
    for (split, key), value in changes.items():
        content[split][key] = value
    assert check_layout(folder, pickle.dumps(content, 4)) or changes


@pytest.mark.slow
@pytest.mark.parametrize("files", [files_with_a_random_end(), changed_files(GOOD), changed_files(CORPORA), programs()])
def test_many_more_files(folder, files):
    @settings(GENERATED, max_examples=20_000)
    @given(content=files)
    def run(content):
        check(folder, content, compare=True)
        check_layout(folder, content)

    run()


def test_programs_are_not_all_refused(folder):
    """A generator whose files are all damaged would test the first check only."""
    taken, refused, damaged = [], [], []

    @settings(GENERATED, max_examples=500)
    @given(content=programs())
    def run(content):
        path = folder / "fuzzed.pkl"
        path.unlink(missing_ok=True)
        path.write_bytes(content)
        try:
            load_pickle(path)
            taken.append(content)
        except ValueError as error:
            (damaged if "truncated" in str(error) else refused).append(content)

    run()
    assert len(taken) > 10 and len(refused) > 100 and len(damaged) > 100


LIMITED = """
import resource, sys
from pathlib import Path
import datasets_scripts.pickles.safe_pickle as safe_pickle
pages = int(Path("/proc/self/statm").read_text().split()[0])
limit = pages * resource.getpagesize() + (300 << 20) + 2 * max(Path(name).stat().st_size for name in sys.argv[1:])
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
for name in sys.argv[1:]:
    try:
        safe_pickle.load_pickle(name)
        print(Path(name).name, "loaded")
    except BaseException as error:
        print(Path(name).name, type(error).__name__)
"""


def run_limited(files):
    """What comes of loading files in a process that may take 300 MB more, besides the file mapped and read."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", LIMITED, *map(str, files)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return dict(row.split() for row in done.stdout.splitlines())


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="limits the memory of a process as Linux does")
def test_memory_of_the_process_is_enough(tmp_path):
    """Files that say they are huge, or are small programs for huge objects, with the bound that users have."""
    text, content = counted(b"X", "<I", 2**20, b"a" * 2**20), counted(b"B", "<I", 2**20, bytes(2**20))
    dtype = DTYPE % b"S1048576" + b"(I3\nV|\nNNNI1048576\nI1\nI0\ntb"
    scalar = b"cnumpy.core.multiarray\nscalar\nq\x01(" + dtype + content
    hostile = {
        "sizes": counted(b"\x8e", "<Q", 2**60),
        "empty_sets": b"(" + b"\x8f" * 1_500_000 + b"t.",
        "laughs": b"(]q\x01" + (b"](" + b"h\x01" * 100 + b"eq\x01") * 9 + b"t.",
        "texts": b"(" + ENCODE + b"q\x01(" + text + b"Vlatin1\ntq\x02" + b"h\x01h\x02R" * 10_000 + b"t.",
        "scalars": b"(" + scalar + b"tq\x02" + b"h\x01h\x02R" * 10_000 + b"t.",
    }
    files = []
    for name, content in {**hostile, "good": GOOD[4]}.items():
        files.append(tmp_path / name)
        files[-1].write_bytes(content)
    assert run_limited(files) == {**dict.fromkeys(hostile, "ValueError"), "good": "loaded"}
