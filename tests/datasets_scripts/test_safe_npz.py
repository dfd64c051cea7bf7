"""Archives that are damaged or hostile: rows or a ValueError, within bounded memory, and nothing is executed."""

import io
import os
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import datasets_scripts.arrays.safe_npz as safe_npz
from datasets_scripts.arrays.npz_arrays import NpzArrays
from datasets_scripts.arrays.safe_npz import NpzArchive
from datasets_scripts.tally import Tally

AUDIO = np.random.default_rng(0).standard_normal((3, 4, 5)).astype(np.float32)
ARRAYS = {
    "id": np.array(["a$_$1", "a$_$2", "b$_$1"]),
    "audio": AUDIO,
    "audio_lengths": np.array([4, 2, 3]),
    "label": np.array([1.0, -1.0, 0.5]),
    "split": np.array(["train", "valid", "test"]),
}


def npy(array):
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.asanyarray(array))
    return stream.getvalue()


def npy_with(header, values=b"", version=(1, 0)):
    """An array with any text as its header."""
    header = header.encode("latin1")
    length = struct.pack("<H" if version == (1, 0) else "<I", len(header))
    return b"\x93NUMPY" + bytes(version) + length + header + values


def header(shape, descr="<f4", order=False):
    return f"{{'descr': {descr!r}, 'fortran_order': {order}, 'shape': {shape}, }}"


def write(path, members, packing=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", packing) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return path


def read_all(path):
    with NpzArchive(path) as archive:
        return {name: archive.read(name) for name in archive.names}


def convert(path, cache):
    """Rows as the builder would write them, without writing."""
    builder = NpzArrays(cache_dir=str(cache), data_file=str(path))
    source = builder.inspect()
    builder.info.features = source.features
    rows = []
    for split, shards in source.shards.items():
        tally = Tally(split)
        rows += [tally.take(row) for row in builder.read_rows(split, shards, tally)]
    return rows


@pytest.mark.parametrize("save", (np.savez, np.savez_compressed))
def test_good_arrays_are_read_bit_for_bit(tmp_path, save):
    path = tmp_path / "a.npz"
    arrays = ARRAYS | {
        "fortran": np.asfortranarray(AUDIO),
        "big": AUDIO.astype(">f8"),
        "flags": AUDIO > 0,
        "empty": np.zeros((3, 0, 5)),
        "scalar": np.float16(2.5),
        "bytes": np.array([b"x", b"long"]),
        "nothing": np.array(["", ""]),
        "none": np.array([], "U0"),
        "more": np.random.default_rng(1).integers(-128, 128, 3 << 20, np.int8),
    }
    save(path, **arrays)
    found = read_all(path)
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype and found[name].shape == array.shape
        assert found[name].tobytes() == array.tobytes()


def test_nothing_is_unpickled(tmp_path):
    class Attack:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'marker'}",)

    path = tmp_path / "a.npz"
    np.savez(path, audio=np.array([Attack(), 1], dtype=object), other=np.array([Attack()], dtype=object))
    with pytest.raises(ValueError, match="`audio` .*Python objects, which are never unpickled; pad"):
        convert(path, tmp_path)
    np.savez(path, **ARRAYS, other=np.array([Attack()], dtype=object))
    assert len(convert(path, tmp_path)) == 3  # what is not known is not opened
    assert not (tmp_path / "marker").exists()


GOOD = npy(AUDIO)
MEMBERS = {
    "checkpoint": ([("archive/data.pkl", b"x"), ("archive/version", b"3")], "`torch.save` wrote"),
    "another archive": ([("audio.npy", GOOD), ("inner.npz", b"PK")], "NAME.npy alone, but there is 'inner.npz'"),
    "a document": ([("word/document.xml", b"<x/>")], "NAME.npy alone"),
    "parent": ([("../audio.npy", GOOD)], "plain names, but one is '../audio.npy'"),
    "parent inside": ([("a/../audio.npy", GOOD)], "plain names"),
    "absolute": ([("/audio.npy", GOOD)], "plain names"),
    "drive": ([("C:/audio.npy", GOOD)], "plain names"),
    "windows": ([("a\\..\\..\\audio.npy", GOOD)], "plain names"),
    "no name": ([(".npy", GOOD)], "NAME.npy alone"),
    "nothing": ([], "1 to 10,000 arrays, but this one holds 0"),
    "not an array": ([("audio.npy", b"no array")], "`audio` must be an array that NumPy wrote"),
    "shorter": ([("audio.npy", GOOD[:-1])], r"give, 368 bytes, but it has 367"),
    "longer": ([("audio.npy", GOOD + b"x")], r"give, 368 bytes, but it has 369"),
    "larger shape": ([("audio.npy", npy_with(header((2**40, 4)), bytes(64)))], "must have the size that its shape"),
    "no values but rows": ([("audio.npy", npy_with(header((2**40, 0))))], "more rows, steps or features than"),
    "no rows but features": ([("audio.npy", npy_with(header((0, 2**62))))], "more rows, steps or features than"),
    "no bytes in a string": ([("id.npy", npy_with(header((2**40,), "<U0")))], "more rows, steps or features than"),
    "negative": ([("audio.npy", npy_with(header((-1, -4)), bytes(16)))], r"its shape is \(-1, -4\)"),
    "overflow": ([("audio.npy", npy_with(header((2**32, 2**32)), bytes(16)))], "must have the size"),
    "objects": ([("audio.npy", npy_with(header((2,), "|O"), bytes(16)))], "never unpickled"),
    "objects in records": ([("audio.npy", npy_with(header((1,), [("a", "|O")]), bytes(8)))], "never unpickled"),
    "subarrays": ([("audio.npy", npy_with(header((1,), "(2,)f4"), bytes(8)))], "its dtype is|header cannot be read"),
    "dates": ([("audio.npy", npy_with(header((1,), "<M8[s]"), bytes(8)))], "its dtype is datetime64"),
    "no such dtype": ([("audio.npy", npy_with(header((1,), "<q99"), bytes(8)))], "header cannot be read"),
    "call": ([("audio.npy", npy_with("__import__('os').system('true')"))], "header cannot be read"),
    "nested": ([("audio.npy", npy_with("(" * 5000))], "header cannot be read"),
    "signs": ([("audio.npy", npy_with("-" * 9000 + "1"))], "header cannot be read"),
    "sum": ([("audio.npy", npy_with("+".join(["1j"] * 3000)))], "header cannot be read"),
    "long header": ([("audio.npy", npy_with(header((1,)) + " " * 20_000, bytes(4)))], "header cannot be read"),
    "very long header": ([("audio.npy", npy_with(header((1,)) + " " * 90_000, b"", (2, 0)))], "header cannot be read"),
    "version": ([("audio.npy", npy_with(header((1,)), bytes(4), (9, 0)))], "format is version"),
    "keys": ([("audio.npy", npy_with("{'shape': (1,)}"))], "header cannot be read"),
    "no character": ([("raw_text.npy", npy(np.array([[0x110000]], np.uint32).view("U1")[:, 0]))], "code 0x110000"),
    "half a character": ([("raw_text.npy", npy(np.array([[0xDFFF]], ">u4").view(">U1")[:, 0]))], "code 0xdfff"),
}


@pytest.mark.parametrize("case", MEMBERS)
@pytest.mark.parametrize("packing", (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
def test_archives_that_are_refused(tmp_path, case, packing):
    members, message = MEMBERS[case]
    path = write(tmp_path / "a.npz", members, packing)
    with pytest.raises(ValueError, match=rf"({message}).*[;:,] \w"):
        read_all(path)
    with pytest.raises(ValueError):
        convert(path, tmp_path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_array_that_is_there_twice(tmp_path):
    path = write(tmp_path / "a.npz", [("audio.npy", GOOD), ("audio.npy", GOOD)])
    with pytest.raises(ValueError, match="each array once, but 'audio' is in it twice"):
        read_all(path)


def test_a_name_that_goes_on_behind_its_end(tmp_path):
    path = write(tmp_path / "a.npz", [("audio.npy?.exe", GOOD)])
    path.write_bytes(path.read_bytes().replace(b".npy?", b".npy\0"))
    with pytest.raises(ValueError, match="plain names"):
        read_all(path)


@pytest.mark.parametrize("packing", (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
def test_other_packings(tmp_path, packing):
    with pytest.raises(ValueError, match=f"packed with method {packing} of zip"):
        read_all(write(tmp_path / "a.npz", [("audio.npy", GOOD)], packing))


def test_encrypted(tmp_path):
    path = write(tmp_path / "a.npz", [("audio.npy", GOOD)])
    data = bytearray(path.read_bytes())
    data[6] |= 1
    data[data.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match="'audio.npy' is encrypted"):
        read_all(path)


def measured_peak(function, *arguments):
    tracemalloc.start()
    try:
        with pytest.raises(ValueError) as caught:
            function(*arguments)
        return str(caught.value), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_bombs_are_refused_before_they_are_unpacked(tmp_path):
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("audio.npy", "w") as member:
        member.write(npy_with(header((80, 1 << 20), "|i1")))
        for _ in range(80):
            member.write(bytes(1 << 20))
    assert path.stat().st_size < 100_000
    message, peak = measured_peak(convert, path, tmp_path)
    assert "must unpack to at most 200 times its size, or 64 MB" in message and peak < 8 << 20


def test_a_small_bomb_that_lies_about_its_size(tmp_path):
    path = write(tmp_path / "a.npz", [("audio.npy", npy_with(header((4096, 1024), "|i1"), bytes(64 << 20)))])
    data = path.read_bytes()
    real = struct.pack("<I", len(npy_with(header((4096, 1024), "|i1"))) + (64 << 20))
    said = struct.pack("<I", len(npy_with(header((4096, 1024), "|i1"))) + (4 << 20))
    path.write_bytes(data.replace(real, said))
    message, peak = measured_peak(read_all, path)
    assert "Bad CRC-32" in message and peak < 24 << 20


def test_sizes_of_64_bits_that_lie(tmp_path):
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive, archive.open("audio.npy", "w", force_zip64=True) as member:
        member.write(GOOD)
    data = bytearray(path.read_bytes())
    start = data.index(b"PK\1\2")
    name, extra = struct.unpack("<HH", data[start + 28 : start + 32])
    field = struct.pack("<HHQQ", 1, 16, 2**50, len(GOOD))
    record = data[start : start + 46 + name]
    record[24:28], record[20:24], record[30:32] = b"\xff" * 4, b"\xff" * 4, struct.pack("<H", len(field))
    end = data[start + 46 + name + extra :]
    end[12:16] = struct.pack("<I", len(record) + len(field))
    path.write_bytes(data[:start] + record + field + end)
    message, peak = measured_peak(read_all, path)
    assert "1,125,899,906,842,624 bytes" in message and peak < 8 << 20


def test_tables_of_contents_that_are_huge(tmp_path, monkeypatch):
    entry = b"PK\1\2" + bytes(24) + struct.pack("<H", 5) + bytes(16) + b"a.npy"
    table = entry * 120_000
    end = b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 0xFFFF, 0xFFFF, len(table), 0, 0)
    path = tmp_path / "a.npz"
    path.write_bytes(table + end)
    message, peak = measured_peak(read_all, path)
    assert "table of contents has more than" in message and peak < 16 << 20
    monkeypatch.setattr(safe_npz, "MAX_ARRAYS", 2)
    with pytest.raises(ValueError, match="1 to 2 arrays, but this one holds 3"):
        read_all(write(path, [(f"{name}.npy", GOOD) for name in "abc"]))


def test_arrays_that_do_not_fit_into_memory(tmp_path, monkeypatch):
    path = tmp_path / "a.npz"
    np.savez(path, **ARRAYS, unknown=np.zeros(10_000))
    monkeypatch.setattr(safe_npz, "_memory", lambda: 5_000)
    assert len(convert(path, tmp_path)) == 3  # what is not read does not count
    monkeypatch.setattr(safe_npz, "_memory", lambda: 500)
    with pytest.raises(ValueError, match="the machine has 500; write the rows as Parquet"):
        convert(path, tmp_path)


@pytest.mark.parametrize("save", (np.savez, np.savez_compressed))
def test_truncated_everywhere(tmp_path, save):
    path = tmp_path / "a.npz"
    save(path, **ARRAYS)
    data = path.read_bytes()
    for length in range(0, len(data), max(len(data) // 150, 1)):
        path.write_bytes(data[:length])
        with pytest.raises(ValueError, match="[;:] "):
            read_all(path)


def test_a_changed_bit_of_the_values_is_found(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, **ARRAYS)
    data = path.read_bytes()
    start = data.index(AUDIO.tobytes())
    for position in range(start, start + AUDIO.nbytes, 7):
        path.write_bytes(data[:position] + bytes([data[position] ^ 4]) + data[position + 1 :])
        with pytest.raises(ValueError, match="Bad CRC-32"):
            read_all(path)


def rows_or_value_error(path, cache):
    try:
        rows = convert(path, cache)
    except ValueError as error:
        assert str(error)
        return
    for row in rows:
        assert isinstance(row["id"], str) and row["text"].encode() is not None
        assert np.isfinite(row.get("label", 0.0))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300), st.booleans())
def test_any_bytes(folder, data, zipped):
    path = folder / "bytes.npz"
    path.write_bytes((b"PK\3\4" if zipped else b"") + data)
    with pytest.raises(ValueError):
        read_all(path)


@settings(max_examples=150, deadline=None)
@given(st.booleans(), st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=6))
def test_archives_with_changed_bytes(folder, packed, changes):
    path = folder / "changed.npz"
    (np.savez_compressed if packed else np.savez)(path, **ARRAYS)
    data = bytearray(path.read_bytes())
    for place, value in changes:
        data[min(int(place * len(data)), len(data) - 1)] = value
    path.write_bytes(data)
    rows_or_value_error(path, folder)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(sorted(ARRAYS)),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=4),
    st.integers(0, 30),
)
def test_arrays_with_changed_bytes_in_good_archives(folder, name, changes, cut):
    members = {key: bytearray(npy(array)) for key, array in ARRAYS.items()}
    data = members[name]
    for place, value in changes:  # most of them in the header
        data[min(int(place * place * len(data)), len(data) - 1)] = value
    members[name] = data[: len(data) - cut] if cut < 5 else data
    path = write(folder / "arrays.npz", [(f"{key}.npy", bytes(value)) for key, value in members.items()])
    rows_or_value_error(path, folder)


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(("<f4", "|i1", "<U2", "|S3", "<U0", "|b1", ">f8", "<f2", "<i8", "|O", "<c8", "<f16")),
    st.lists(st.sampled_from((0, 1, 2, 3, 7, 2**20, 2**31, 2**40, 2**63)), max_size=4),
    st.sampled_from(("audio", "text", "id", "label", "split", "text_bert", "audio_lengths", "emotions", "video")),
    st.booleans(),
    st.binary(max_size=200),
)
def test_headers_of_any_shape(folder, dtype, shape, name, order, values):
    others = {key: npy(array) for key, array in ARRAYS.items()}
    others[name] = npy_with(header(tuple(shape), dtype, order), values)
    path = write(folder / "headers.npz", [(f"{key}.npy", data) for key, data in others.items()])
    rows_or_value_error(path, folder)
