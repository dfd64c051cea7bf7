"""`load_pickle` gives back plain data of every protocol and runs nothing else."""

import collections
import copyreg
import os
import pickle
import struct

import numpy as np
import pytest

from datasets_scripts.safe_pickle import UnsafePickleError, load_pickle

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
    "strings": np.array(["a", "wide ü 中"]),
    "byte strings": np.array([b"abc", b"d"]),
}
PLAIN = {
    "text": ["", "ascii", "ü 中 \U0001f600"],
    "bytes": [b"", b"raw \xff\x00", bytearray(b"ab")],
    "numbers": (0, -1, 2**70, 0.5, float("inf"), None, True),
    "sets": [{1, 2}, frozenset({"x"})],
    "nested": {"a": {"b": [(1, (2, [3]))]}},
}


def write(folder, content, name="file.pkl"):
    path = folder / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("protocol", range(6))
def test_plain_data_of_every_protocol(tmp_path, protocol):
    scalars = [np.float32(1.5), np.int64(-3), np.bool_(True), np.str_("ab"), np.bytes_(b"xy"), np.str_("")]
    objects = np.array([b"video", 1.5, "text", None], dtype=object)
    shared = np.arange(3)
    content = {"arrays": ARRAYS, "plain": PLAIN, "scalars": scalars, "objects": objects, "shared": [shared, shared]}
    loaded = load_pickle(write(tmp_path, pickle.dumps(content, protocol)))
    for name, array in ARRAYS.items():
        got = loaded["arrays"][name]
        dtype = pickle.loads(pickle.dumps(array, protocol)).dtype  # numpy may turn big into little endian
        assert type(got) is np.ndarray and got.dtype == dtype and got.shape == array.shape, name
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
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n(I3\ntcnumpy\ndtype\n"
        b"(S'f4'\nI0\nI1\ntR(I3\nS'<'\nNNNI-1\nI-1\nI0\ntbI00\nS" + repr(raw)[1:].encode() + b"\ntb"
    )
    loaded = load_pickle(write(tmp_path, b"(dS'audio'\n" + array + b"sS'name'\nS'caf\\xe9'\ns."))
    np.testing.assert_array_equal(loaded["audio"], np.array([1.0, -2.5, 300.25], np.float32))
    assert loaded["name"] == "café"


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


DTYPE = b"cnumpy\ndtype\n(V%s\nI0\nI1\ntR"
NDARRAY = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntC\x01btR"
ENCODE = b"c_codecs\nencode\n"


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
        (b"cnumpy\nndarray\n(I3\nt}\x92.", "NEWOBJ"),
        (b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\ndtype\n(I0\ntC\x01btR.", "numpy._reconstruct"),
        (b"cnumpy.core.multiarray\nscalar\n(" + DTYPE % b"O" + b"C\x08abcdefghtR.", "numpy.scalar"),
        (b"cnumpy.core.numeric\n_frombuffer\n(Vabcd\n" + DTYPE % b"f4" + b"I1\nVC\ntR.", "numpy._frombuffer"),
        (b"cbuiltins\nbytes\n(I99\ntR.", "bytes"),
        (b"cbuiltins\nset\n(Vab\ntR.", "set"),
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
        (NDARRAY + b"(I1\n(I-2\nt" + DTYPE % b"f4" + b"I00\nC\x08abcdefghtb.", "BUILD"),
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
