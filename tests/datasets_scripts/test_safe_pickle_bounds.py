"""Files are read in about their own size of memory; those that are made to take more, or for ever, are refused."""

import mmap
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from datasets_scripts.arrays.mmsa_layout import read_layout
from datasets_scripts.pickles import pickle_content, pickle_machine
from datasets_scripts.pickles.safe_pickle import load_pickle
from tests.datasets_scripts.pickled import (
    ARRAY_STATE,
    BYTES_5000,
    ENCODE,
    FLOAT32,
    FROMBUFFER,
    LETTER,
    NDARRAY,
    OBJECTS,
    counted,
    peak_memory,
    pure_python_pickle,
    python2_array,
    write,
)


@pytest.mark.parametrize(
    "content",
    [
        counted(pickle.BINBYTES8, "<Q", 2**60),
        counted(pickle.BINBYTES8, "<Q", 2**64 - 1),
        counted(pickle.BINBYTES8, "<Q", 5),
        counted(pickle.BINBYTES, "<I", 2**32 - 1),
        counted(pickle.BINUNICODE8, "<Q", 2**60),
        counted(pickle.BINUNICODE, "<I", 2**32 - 1),
        counted(pickle.BYTEARRAY8, "<Q", 2**60),
        counted(pickle.BINSTRING, "<i", 2**31 - 1),
        counted(pickle.BINSTRING, "<i", -1),
        counted(pickle.FRAME, "<Q", 2**60),
        counted(pickle.LONG1, "<B", 255),
        counted(pickle.SHORT_BINUNICODE, "<B", 5),
        FROMBUFFER + counted(pickle.BYTEARRAY8, "<Q", 2**40),
        b"(" + NDARRAY + b"(I1\n(I1\nt" + FLOAT32 + b"I00\n" + counted(pickle.BINBYTES8, "<Q", 2**40),
    ],
)
def test_sizes_beyond_the_file_are_told_before_memory_is_taken(tmp_path, content):
    path = write(tmp_path, content + b".")
    with peak_memory() as peak, pytest.raises(ValueError, match=r"\d+ bytes are announced and \d+ are left"):
        load_pickle(path)
    assert peak() < 100_000


def nested(levels, begin=b"]", end=b"a"):
    return begin * (levels + 1) + end * levels + b"."


def doubled(levels, pair=b"\x86", first=b"N"):
    """A pair of the same pair of the same pair..."""
    return first + b"".join(b"q\x01h\x01" + pair for _ in range(levels)) + b"."


HOSTILE = {
    "within itself": (b"]q\x01h\x01a.", "within itself"),
    "dict within itself": (b"}q\x01K\x01h\x01s.", "within itself"),
    "within itself, by a tuple": (b"]q\x01h\x01\x85a.", "within itself"),
    "33 lists": (nested(32), "nested more than 32 deep"),
    "many lists": (nested(100_000), "nested more than 32 deep"),
    "many tuples": (b")" + b"\x85" * 100_000 + b".", "nested more than 32 deep"),
    "many dicts": (b"}K\x01" * 100_000 + b"N" + b"s" * 100_000 + b".", "nested more than 32 deep"),
    "deep through sharing": (nested(20)[:-1] + b"q\x01]h\x01a" + b"\x85" * 20 + b"\x86.", "nested more than 32 deep"),
    "tuples as a key": (b"}" + doubled(64)[:-1] + b"Ns.", "a tuple as a key"),
    "nested tuple as a key": (b"}X\x01\x00\x00\x00a" + b"\x85" * 100_000 + b"Ns.", "a tuple as a key"),
    "tuple of numbers as a key": (b"}K\x01K\x02\x86Ns.", "a tuple as a key"),
    "list as a key": (b"}]Ns.", "a list as a key"),
    "array as a key": (b"}" + NDARRAY + ARRAY_STATE + b"bNs.", "a ndarray as a key"),
    "list in a set": (b"\x8f(]\x90.", "a list as a key or in a set"),
    "list in a frozenset": (b"(]\x91.", "a list as a key or in a set"),
    "list in a called set": (b"cbuiltins\nset\n(](]etR.", "a list as a key or in a set"),
    "list in an OrderedDict": (b"ccollections\nOrderedDict\n(](]N\x86etR.", "a list as a key or in a set"),
    "large number as a key": (b"}\x8a\x09" + bytes(8) + b"\x01Ns.", "a int as a key"),
    "long key": (b"}X\x01\x20\x00\x00" + b"a" * 8193 + b"Ns.", "or one too long"),
    "laughs": (doubled(30), "share their parts"),
    "laughs in lists": (b"(](K\x01K\x02eq\x01" + (b"](" + b"h\x01" * 10 + b"eq\x01") * 9 + b"t.", "share"),
    "a long text many times": (b"X\x00\x00\x10\x00" + b"a" * 2**20 + b"q\x01](" + b"h\x01" * 400 + b"e\x86.", "share"),
    "an array many times": (
        NDARRAY + b"(I1\n(I1048576\nt" + FLOAT32 + b"I00\nB\x00\x00\x40\x00" + bytes(2**22)
        + b"tbq\x01](" + b"h\x01" * 100 + b"e\x86.", "share"),
    "long and empty array": (
        NDARRAY + b"(I1\n(L1099511627776L\nI0\nt" + FLOAT32 + b"I00\nC\x00tb.", "is long and has no element"),
    "long and empty array of objects": (
        NDARRAY + b"(I1\n(I0\nL1099511627776L\nt" + OBJECTS + b"I00\n]tb.",
        "is long and has no element"),
    "objects in objects": (
        NDARRAY + b"(I1\n(I1\nt" + OBJECTS + b"I00\n]" + NDARRAY + b"(I1\n(I1\nt" + OBJECTS + b"I00\n]Natbatb.",
        "array of objects in an array of objects"),
    "characters that do not exist": (
        NDARRAY + b"(I1\n(I1\nt" + LETTER + b"I00\nC\x04\x00\x00\x11\x00tb.",
        "characters that do not exist"),
    "a scalar with characters that do not exist": (
        b"cnumpy.core.multiarray\nscalar\n(" + LETTER.replace(b"<", b">") + b"C\x04\x00\x11\x00\x00tR.",
        "characters that do not exist"),
    "a function": (b"cnumpy\ndtype\n.", "holds the function `numpy.dtype`, which is no data"),
    "functions": (b"](cnumpy\ndtype\ncnumpy\nndarray\ne.", "holds the function `numpy.dtype`"),
    "an array without content": (NDARRAY + b".", "an array or a dtype without its content"),
    "an array within itself": (
        NDARRAY + b"q\x01(I1\n(I1\nt" + OBJECTS + b"I00\n]h\x01atb.",
        "an array or a dtype without its content"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_files_end_in_an_error_soon(tmp_path, case):
    content, message = HOSTILE[case]
    path = write(tmp_path, content)
    begin = time.process_time()
    with peak_memory() as peak, pytest.raises(ValueError, match=message) as caught:
        load_pickle(path)
    assert "truncated" not in str(caught.value) and len(str(caught.value)) < 1000
    assert time.process_time() - begin < 10 and peak() < 100 << 20


def large_arrays():
    values = np.random.default_rng(0).standard_normal((40, 50, 300))
    values[:, 20:] = 0  # padding
    return {
        "float32": values.astype(np.float32),
        "float64": values,
        "fortran": np.asfortranarray(values),
        "big endian": values.astype(">f4"),
        "not contiguous": values[:, ::2],
        "transposed": values.transpose(1, 2, 0),
        "int16": (1000 * values).astype(np.int16),
        "strings": values[0].astype("U20"),
        "bytes": values[0].astype("S20"),
    }


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("dump", [pickle.dumps, pure_python_pickle])
def test_content_of_large_arrays_is_held_once(tmp_path, protocol, dump):
    """From protocol 3 on it stays in the file; before, where the file has text, it is the only thing in memory."""
    arrays = large_arrays()
    path = write(tmp_path, dump(arrays, protocol))
    with peak_memory() as peak:
        loaded = load_pickle(path)
    for name, array in arrays.items():
        np.testing.assert_array_equal(loaded[name], array, err_msg=name)
        assert loaded[name].dtype.newbyteorder("=") == array.dtype.newbyteorder("=")
        assert not loaded[name].flags.writeable
    if protocol > 2:
        assert peak() < 1 << 20
    else:  # room is kept for as many characters as a text has bytes; protocol 0 writes six for some
        sizes = [array.nbytes for array in arrays.values()]
        assert peak() < sum(sizes) + max(sizes) * (6 if protocol == 0 else 2) + (4 << 20)


def test_large_arrays_of_python_2_stay_in_the_file(tmp_path):
    values = np.random.default_rng(0).standard_normal(100_000).astype(np.float32)
    content = python2_array(counted(b"T", "<i", values.nbytes, values.tobytes()), b"I100000")
    path = write(tmp_path, content + b".")
    with peak_memory() as peak:
        loaded = load_pickle(path)
    np.testing.assert_array_equal(loaded, values)
    assert peak() < 50_000


@pytest.mark.parametrize("protocol", range(6))
def test_large_bytes_and_texts_that_are_no_arrays_are_what_they_were(tmp_path, protocol):
    content = {"bytes": os.urandom(200_000), "text": "ü" * 200_000, "array": bytearray(os.urandom(200_000)), "n": 1}
    content["again"] = content["bytes"]
    loaded = load_pickle(write(tmp_path, pickle.dumps(content, protocol)))
    assert loaded == content and [type(value) for value in loaded.values()] == [bytes, str, bytearray, int, bytes]


def test_large_content_that_is_used_elsewhere_is_plain(tmp_path):
    """A file can refer again to what was read as the content of an array."""
    raw = counted(b"B", "<I", 80_000, bytes(80_000)) + b"q\x07"
    array = NDARRAY + b"(I1\n(I20000\nt" + FLOAT32 + b"I00\n" + raw + b"tb"
    first, second = load_pickle(write(tmp_path, b"(" + array + b"h\x07t."))
    assert first.shape == (20000,) and type(second) is np.ndarray and second.tobytes() == bytes(80_000)
    text = counted(b"X", "<I", 80_000, b"\xc3\xbf" * 40_000) + b"q\x07"
    array = NDARRAY + b"(I1\n(I10000\nt" + FLOAT32 + b"I00\n" + ENCODE + text + b"Vlatin1\n\x86Rtb"
    first, second = load_pickle(write(tmp_path, b"(" + array + b"h\x07t.", "text.pkl"))
    assert first.tobytes() == b"\xff" * 40_000 == second.tobytes()
    wide = counted(b"X", "<I", 80_000, "中a".encode() * 20_000)
    with pytest.raises(ValueError, match="latin"):
        load_pickle(write(tmp_path, array.replace(text, wide) + b".", "wide.pkl"))


def test_files_that_cannot_be_mapped_are_read(tmp_path, monkeypatch):
    def fails(*args, **kwargs):
        raise OSError("not on this file system")

    arrays = large_arrays()
    path = write(tmp_path, pickle.dumps(arrays, 5))
    monkeypatch.setattr(pickle_content.mmap, "mmap", fails)
    loaded = load_pickle(path)
    for name, array in arrays.items():
        np.testing.assert_array_equal(loaded[name], array, err_msg=name)
    with pytest.raises(ValueError, match="are announced|no end"):
        load_pickle(write(tmp_path, path.read_bytes()[:-50], "cut.pkl"))


def test_a_file_is_closed_when_its_arrays_are_gone(tmp_path):
    path = write(tmp_path, pickle.dumps(large_arrays(), 4))
    loaded = load_pickle(path)
    base = loaded["float32"]
    while not isinstance(base, (mmap.mmap, bytes)):
        base = base.obj if isinstance(base, memoryview) else base.base
    assert isinstance(base, mmap.mmap)
    with pytest.raises(BufferError):
        base.close()
    del loaded
    base.close()
    path.unlink()


# What is charged: about as much as Python takes. A megabyte of each exceeds a bound of one megabyte and four of file.
AMPLIFIERS = {
    "empty lists": b"]",
    "empty dicts": b"}",
    "empty sets": b"\x8f",
    "frozensets": b"(\x91",
    "tuples": b"N\x85",
    "marks": b"(",
    "memo": b"N\x94",
    "dicts": b"}K\x01Ns",
    "sets": b"\x8f(K\x01\x90",
    "called sets": b"h\x01h\x02R",
    "called OrderedDicts": b"h\x03h\x04R",
    "byte arrays": b"h\x05h\x06R",
    "encoded text": b"h\x07h\x08R",
    "arrays": b"h\x09h\x0aRh\x0bb",
    "arrays of objects": b"h\x09h\x0aRh\x0cb",
    "scalars": b"h\x0dh\x0eR",
    "arrays of strings, which are looked through": b"h\x0fh\x10R",
}
AMPLIFIED = b"".join(
    (
        b"cbuiltins\nset\nq\x01((K\x01K\x02K\x03ltq\x02",
        b"ccollections\nOrderedDict\nq\x03((K\x01K\x02\x86ltq\x04",
        b"cbuiltins\nbytearray\nq\x05(" + counted(b"B", "<I", 5000, bytes(5000)) + b"tq\x06",
        ENCODE + b"q\x07(" + counted(b"X", "<I", 5000, b"a" * 5000) + b"Vlatin1\ntq\x08",
        b"cnumpy.core.multiarray\n_reconstruct\nq\x09(cnumpy\nndarray\n(I0\ntC\x01btq\x0a",
        ARRAY_STATE + b"q\x0b",
        b"(I1\n(I100\nt" + OBJECTS + b"I00\n(" + b"N" * 100 + b"ltq\x0c",
        b"cnumpy.core.multiarray\nscalar\nq\x0d(" + BYTES_5000 + counted(b"B", "<I", 5000, bytes(5000)) + b"tq\x0e",
        FROMBUFFER[:-1] + b"q\x0f(" + counted(b"B", "<I", 4000, bytes(4000)) + LETTER + b"(I1000\ntVC\ntq\x10",
    )
)


@pytest.mark.parametrize("name", AMPLIFIERS)
def test_memory_is_bounded_by_the_file(tmp_path, monkeypatch, name):
    monkeypatch.setattr(pickle_machine, "MEMORY_BASE", 1 << 20)
    content = b"(" + AMPLIFIED + AMPLIFIERS[name] * (200_000 // len(AMPLIFIERS[name]))
    path = write(tmp_path, content)
    with (
        peak_memory() as peak,
        pytest.raises(ValueError, match=r"describes more than the \d+ MB that a file of its size"),
    ):
        load_pickle(path)
    assert peak() < 1.5 * (4 * len(content) + (1 << 20))


def test_good_files_stay_within_the_bound(tmp_path, monkeypatch):
    """Also those that have no array at all, in whatever protocol."""
    monkeypatch.setattr(pickle_machine, "MEMORY_BASE", 3 << 20)
    rng = np.random.default_rng(0)
    rows = {
        "id": [(f"video{row // 10}", row * 0.5, row + 0.25) for row in range(1000)],
        "raw_text": [f"some words of row {row}" * 4 for row in range(1000)],
        "features": rng.standard_normal((1000, 74)).tolist(),
        "lengths": rng.integers(0, 50, 1000).tolist(),
        "annotations": ["Neutral"] * 1000,
        "label": list(rng.standard_normal(1000)),
    }
    for protocol in range(6):
        assert load_pickle(write(tmp_path, pickle.dumps(rows, protocol))) == rows


def test_keys_that_collide_take_no_time(tmp_path):
    """Multiples of 2**61 - 1 have one hash, and a dict of them takes a time that grows with the square of its size."""
    numbers = [(number * (2**61 - 1)).to_bytes(12, "little") for number in range(1, 50_000)]
    with pytest.raises(ValueError, match="a int as a key"):
        load_pickle(write(tmp_path, b"}(" + b"".join(b"\x8a\x0c" + number + b"N" for number in numbers) + b"u."))


def test_keys_that_are_plain(tmp_path):
    plain = {"a": 1, b"b": 2, 3: 3, 4.5: 4, None: 5, True: 6, ("a", 1, 2.5): 7, np.int64(9): 8, -(2**59): 9}
    plain[np.str_("x")] = 10
    assert load_pickle(write(tmp_path, pickle.dumps(plain))) == plain


def split_of(rows=2, **values):
    return {"id": [f"{rows}-{row}" for row in range(rows)], "regression_labels": [0.0] * rows} | values


ONE_TEXT = "x" * 2**20
LAUGHS = [0.0] * 10
for _ in range(6):
    LAUGHS = [LAUGHS] * 10
LAYOUTS = {
    "laughs as audio": {"audio": LAUGHS},
    "laughs as labels": {"regression_labels": LAUGHS},
    "laughs as ids": {"id": [LAUGHS] * 2},
    "laughs as texts": {"raw_text": [LAUGHS] * 2},
    "long text as an id": {"id": [ONE_TEXT, ONE_TEXT + "a"]},
    "many words as an id": {"id": [["x"] * 100_000] * 2},
    "many words in an array as an id": {"id": [np.full(100_000, "x")] * 2},
    "array without a dimension as an id": {"id": [np.array("a")[()], np.array(3)]},
    "wide array as ids": {"id": np.zeros((2, 2**22), "S1")},
    "numbers as ids": {"id": np.zeros(2**22)},
    "numbers as texts": {"raw_text": np.zeros((2, 2**20))},
    "nothing in many rows as ids": {"id": np.zeros((2**27, 0), "S1")},
    "nothing in many rows as texts": {"raw_text": np.zeros((2**27, 0), "S1")},
    "nothing in many rows as emotions": {"emotions": np.zeros((2**27, 0), "O")},
    "nothing in many steps": {"audio": np.zeros((2, 2**27, 0))},
    "long text as labels": {"regression_labels": [ONE_TEXT, "a"]},
    "long text as audio": {"audio": ONE_TEXT},
    "long text among many as lengths": {"audio": np.zeros((2, 1, 1)), "audio_lengths": ["a"] * 1000 + [ONE_TEXT]},
    "long text among many as emotions": {"emotions": [ONE_TEXT, *["a"] * 100_000]},
    "arrays that grow together": {"audio": [np.zeros((2**10, 2**10), np.int8), np.zeros((2**10, 2**10))]},
    "sets as audio": {"audio": {1, 2}},
    "dicts as audio": {"audio": [{"a": 1}, {"a": LAUGHS}]},
    "numbers beyond any": {"regression_labels": [2**600, 0]},
    "many keys": {f"key {number}": 0 for number in range(20_000)},
}


@pytest.mark.parametrize("case", LAYOUTS)
def test_layouts_that_are_made_to_take_memory(tmp_path, case):
    """Each of these is a short pickle or the like of one; it is refused, or read, in memory like that of its file."""
    content = {split: split_of(rows) for split, rows in (("train", 2), ("valid", 3), ("test", 4))}
    content["train"] |= LAYOUTS[case]
    path = write(tmp_path, pickle.dumps(content, 4))
    with peak_memory() as peak, pytest.raises(ValueError) as caught:
        read_layout(load_pickle(path), "auto")
    assert len(str(caught.value)) < 5000 and type(caught.value) is ValueError
    assert peak() < 200 << 20


def test_texts_that_are_no_text_are_shown(tmp_path):
    content = {split: split_of(rows) for split, rows in (("train", 2), ("valid", 3), ("test", 4))}
    content["train"]["raw_text"] = ["half \ud83d", b"byte \xff"]
    for split in ("valid", "test"):
        content[split]["raw_text"] = ["words"] * len(content[split]["id"])
    layout = read_layout(load_pickle(write(tmp_path, pickle.dumps(content, 4))), "auto")
    assert layout.splits[0].texts == ["half \\ud83d", "byte \\xff"]


MEASURED = """
import resource, sys
import datasets
from datasets_scripts import sources
datasets.disable_progress_bars()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
sources.prepare(sys.argv[1], cache_dir=sys.argv[2])
print(1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the unit of ru_maxrss is that of Linux")
@pytest.mark.parametrize(
    ("protocol", "make"),
    [
        (2, np.ascontiguousarray),
        (3, np.ascontiguousarray),
        (4, np.ascontiguousarray),
        (5, np.ascontiguousarray),
        (4, np.asfortranarray),
        (4, lambda array: array.astype(">f4")),
        (4, lambda array: array.astype(np.float64)),
        (5, lambda array: array.transpose(1, 0, 2).copy().transpose(1, 0, 2)),
    ],
)
def test_a_conversion_takes_as_much_memory_as_its_file(tmp_path, protocol, make):
    """All of it: reading, finding the padding, writing. What the imports take is not counted."""
    rng = np.random.default_rng(0)
    content = {}
    for split, rows in (("train", 700), ("valid", 100), ("test", 200)):
        lengths = rng.integers(50, 500, rows).tolist()
        content[split] = split_of(rows, raw_text=["some words"] * rows, audio_lengths=lengths)
        content[split]["id"] = [f"{split}{row // 4}$_${row % 4}" for row in range(rows)]
        audio = rng.standard_normal((rows, 500, 74), np.float32)
        for row, length in enumerate(lengths):
            audio[row, length:] = 0
        content[split]["audio"] = make(audio)
    path = write(tmp_path, pickle.dumps(content, protocol))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", MEASURED, str(path), str(tmp_path / "cache")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=True)
    assert int(done.stdout) < path.stat().st_size + (100 << 20)
