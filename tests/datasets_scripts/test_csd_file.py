"""Arrays of a .csd file are what h5py reads of them; what is damaged or hostile is refused, in bounded memory."""

import json
import os
import struct
import subprocess
import sys
import tracemalloc
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import datasets_scripts.csd.csd_arrays as csd_arrays
import datasets_scripts.csd.csd_file as csd_file
from datasets_scripts.csd.csd_file import CsdFile
from datasets_scripts.csd.csd_filters import unpack

h5py = pytest.importorskip("h5py")
ROOT = Path(__file__).parents[2]


def write(path, features, intervals=None, entry="v", libver="earliest", **storage):
    """A file with one entry; `features` is an array, or a function of the group that makes them."""
    with h5py.File(path, "w", libver=libver) as file:
        group = file.create_group(f"name/data/{entry}")
        if callable(features):
            features(group)
        else:
            group.create_dataset("features", data=features, **storage)
        if intervals is None:
            rows = group["features"].shape[0] if isinstance(group.get("features"), h5py.Dataset) else 0
            intervals = np.stack([np.arange(rows), np.arange(rows) + 1.0], axis=1)
        group.create_dataset("intervals", data=intervals)
    return path


def check_rows(path, rng):
    """Any rows, in any order of asking, are those that h5py reads."""
    with h5py.File(path) as file:
        expected = file["name/data/v/features"][()]
    expected = expected.reshape(len(expected), -1)
    with CsdFile(path) as file:
        array = file.features("v")
        assert (len(array), array.width) == expected.shape
        spans = [(0, len(array)), (3, 3), *(sorted(rng.integers(0, len(array) + 1, 2)) for _ in range(12))]
        for start, stop in spans:
            got = array.rows(int(start), int(stop))
            np.testing.assert_array_equal(got, expected[start:stop])
            assert got.dtype == expected.dtype
        np.testing.assert_array_equal(file.intervals("v").rows(0, len(array))[:, 1], np.arange(len(array)) + 1)


STORAGES = {
    "contiguous": {},
    "chunks": {"chunks": (7, 3)},
    "one chunk": {"chunks": (50, 5), "compression": "gzip"},
    "gzip": {"chunks": (8, 2), "compression": "gzip", "compression_opts": 9},
    "gzip, shuffle, fletcher32": {"chunks": (16, 5), "compression": "gzip", "shuffle": True, "fletcher32": True},
    "lzf": {"chunks": (11, 4), "compression": "lzf"},
    "lzf, shuffle": {"chunks": (50, 5), "compression": "lzf", "shuffle": True},
    "shuffle": {"chunks": (9, 5), "shuffle": True},
    "fletcher32": {"chunks": (9, 5), "fletcher32": True},
    "unlimited rows": {"chunks": (8, 2), "maxshape": (None, 5), "compression": "gzip"},
    "unlimited": {"chunks": (8, 2), "maxshape": (None, None)},
    "chunks larger than the array": {"chunks": (64, 8), "maxshape": (None, None), "compression": "gzip"},
}


@pytest.mark.parametrize("libver", ["earliest", "latest"])
@pytest.mark.parametrize("storage", STORAGES)
def test_rows_of_every_storage(tmp_path, storage, libver):
    rng = np.random.default_rng(0)
    for values in (rng.standard_normal((50, 5)), np.zeros((50, 5)), rng.integers(-3, 3, (50, 5)).astype("f8")):
        check_rows(write(tmp_path / "a.csd", values, libver=libver, **STORAGES[storage]), rng)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f4", ">f8", "i1", "u1", "i2", ">i4", "u4", "i8"])
def test_rows_of_every_number(tmp_path, dtype):
    rng = np.random.default_rng(1)
    values = rng.integers(0, 100, (20, 3)).astype(dtype)
    check_rows(write(tmp_path / "a.csd", values), rng)
    check_rows(write(tmp_path / "b.csd", values, chunks=(6, 2), compression="gzip", shuffle=True), rng)


@pytest.mark.parametrize("shape", [(20,), (20, 1), (20, 2, 3), (20, 2, 1, 4)])
def test_rows_of_every_shape(tmp_path, shape):
    rng = np.random.default_rng(2)
    values = rng.standard_normal(shape)
    check_rows(write(tmp_path / "a.csd", values), rng)
    check_rows(write(tmp_path / "b.csd", values, chunks=(6, *[1] * (len(shape) - 1)), compression="lzf"), rng)


def test_no_rows(tmp_path):
    for values, storage in ((np.zeros((0, 4)), {}), (np.zeros((0, 4)), {"maxshape": (None, 4)}), (np.zeros(0), {})):
        with CsdFile(write(tmp_path / "a.csd", values, np.zeros((0, 2)), **storage)) as file:
            array = file.features("v")
            assert len(array) == 0 and array.rows(0, 0).shape == (0, array.width)


def test_chunk_that_was_stored_without_its_filter(tmp_path):
    values = np.arange(40.0).reshape(10, 4)

    def features(group):
        stored = group.create_dataset("features", (10, 4), "f8", chunks=(5, 4), compression="gzip")
        stored[:5] = values[:5]
        stored.id.write_direct_chunk((5, 0), values[5:].tobytes(), filter_mask=1)

    check_rows(write(tmp_path / "a.csd", features), np.random.default_rng(3))


WORDS = ["oh", "sp", "", "naïve", "中文", "a" * 300, "two words", "x"]


@pytest.mark.parametrize(
    "storage", [{}, {"chunks": (3, 1)}, {"chunks": (3, 1), "compression": "gzip", "shuffle": True}]
)
def test_strings(tmp_path, storage):
    encoded = [word.encode() for word in WORDS]
    for name, dtype in {"fixed": "S303", "any length": h5py.string_dtype()}.items():
        values = np.array([[word] for word in encoded], dtype="S303" if name != "any length" else object)
        with CsdFile(write(tmp_path / "a.csd", values, dtype=dtype, **storage)) as file:
            assert file.features("v").is_text
            assert file.features("v").strings() == encoded, name


def test_strings_of_every_padding(tmp_path):
    def features(group, padding):
        kind = h5py.h5t.C_S1.copy()
        kind.set_size(6)
        kind.set_strpad(padding)
        kind.set_cset(h5py.h5t.CSET_UTF8)
        stored = h5py.h5d.create(group.id, b"features", kind, h5py.h5s.create_simple((3,)))
        stored.write(h5py.h5s.ALL, h5py.h5s.ALL, np.array(["a", "bcd", ""], "S6"), kind)

    for padding in (h5py.h5t.STR_NULLTERM, h5py.h5t.STR_NULLPAD, h5py.h5t.STR_SPACEPAD):
        with CsdFile(write(tmp_path / "a.csd", lambda group, padding=padding: features(group, padding))) as file:
            assert file.features("v").strings() == [b"a", b"bcd", b""]


def test_entries_and_names(tmp_path):
    path = tmp_path / "a.csd"
    names = ["z", "a b", "ü", "v[10]", "v[2]", *(f"n{number}" for number in range(30))]
    with h5py.File(path, "w") as file:
        for name in names:
            write_entry(file, name)
        file.create_group("name/metadata")["root name"] = "other"
    with CsdFile(path) as file:
        assert file.name == "name"
        assert file.entries() == sorted(names)
        assert set(file.first_entries()) <= set(names)


def write_entry(file, name, rows=2):
    group = file.create_group(f"name/data/{name}")
    group["features"] = np.ones((rows, 3))
    group["intervals"] = np.ones((rows, 2))
    return group


def refused(path, match):
    with pytest.raises(ValueError, match=match) as error, CsdFile(path) as file:
        for entry in file.entries():
            for array in (file.features(entry), file.intervals(entry)):
                if array.is_text:
                    array.strings()
                else:
                    array.rows(0, len(array))
    assert path.name in str(error.value)


def test_links_are_not_followed(tmp_path):
    other = write(tmp_path / "other.csd", np.ones((2, 3)))
    external = h5py.ExternalLink(other.name, "/name/data/v")
    for place in ("name/data/w", "name/data/v/features", "name/data", "name"):
        for link in (external, h5py.SoftLink("/elsewhere"), h5py.ExternalLink("nowhere.h5", "/x")):
            path = write(tmp_path / "a.csd", np.ones((2, 3)))
            with h5py.File(path, "a") as file:
                file["elsewhere" if place != "name" else "name/elsewhere"] = 1
                if place in file:
                    del file[place]
                if place != "name" and "elsewhere" in file:
                    del file["elsewhere"]
                file[place] = link
                if place == "name":
                    assert len(file) == 1
            refused(path, "link to another place or file, which is not followed")


def test_hard_links_in_circles_are_harmless(tmp_path):
    path = write(tmp_path / "a.csd", np.ones((2, 3)))
    with h5py.File(path, "a") as file:
        file["name/data/circle"] = file["name"]
    refused(path, "circle/features must hold 'features', but it does not")
    with h5py.File(path, "a") as file:
        del file["name/data/circle"]
        file["name/data/v/features/"[:-1] + "2"] = file["name/data/v"]
    with CsdFile(path) as file:
        assert file.entries() == ["v"]


def virtual(group):
    layout = h5py.VirtualLayout((4, 3), "f8")
    layout[:] = h5py.VirtualSource("/etc/hostname", "x", (4, 3))
    group.create_virtual_dataset("features", layout)


def raw(kind, shape=(2, 2), plan=None):
    """A function that makes features of an HDF5 type."""
    return lambda group: h5py.h5d.create(group.id, b"features", kind, h5py.h5s.create_simple(shape), plan)


def plan_of(**steps):
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    for name, arguments in steps.items():
        getattr(plan, name)(*arguments)
    return plan


F8 = h5py.h5t.NATIVE_DOUBLE
ODD_FLOAT = h5py.h5t.IEEE_F32LE.copy()
ODD_FLOAT.set_ebias(100)
REFUSED = {
    "virtual": (virtual, "must lie in the file itself"),
    "external storage": (
        raw(F8, plan=plan_of(set_external=(b"/etc/hostname", 0, 32))),
        "must lie in the file itself",
    ),
    "compact": (raw(F8, plan=plan_of(set_layout=(h5py.h5d.COMPACT,))), "must lie in the file itself"),
    "compound": (lambda group: group.create_dataset("features", data=np.zeros((2, 2), "i4,f4")), "of another type"),
    "references": (
        lambda group: group.create_dataset("features", (2, 2), dtype=h5py.ref_dtype),
        "of another type",
    ),
    "region references": (
        lambda group: group.create_dataset("features", (2, 2), dtype=h5py.regionref_dtype),
        "of another type",
    ),
    "lists": (
        lambda group: group.create_dataset("features", (2, 1), dtype=h5py.vlen_dtype(np.uint8)),
        "of another type",
    ),
    "booleans": (lambda group: group.create_dataset("features", data=np.zeros((2, 2), bool)), "of another type"),
    "complex": (lambda group: group.create_dataset("features", data=np.zeros((2, 2), "c16")), "of another type"),
    "opaque": (lambda group: group.create_dataset("features", data=np.zeros((2, 2), "V5")), "of another type"),
    "long floats": (lambda group: group.create_dataset("features", data=np.zeros((2, 2), "f16")), "of another type"),
    "odd floats": (raw(ODD_FLOAT), "of another type"),
    "long strings": (lambda group: group.create_dataset("features", data=np.zeros((2, 1), "S2000")), "of another type"),
    "one number": (lambda group: group.create_dataset("features", data=1.0), "must have 1 to 8 dimensions"),
    "nothing": (lambda group: group.create_dataset("features", data=h5py.Empty("f8")), "must have 1 to 8 dimensions"),
    "9 dimensions": (lambda group: group.create_dataset("features", data=np.ones([1] * 9)), "must have 1 to 8 dim"),
    "no numbers": (lambda group: group.create_dataset("features", data=np.ones((3, 0))), "at least one number"),
    "a group": (lambda group: group.create_group("features"), "cannot be read"),
    "absent": (lambda group: None, "must hold 'features', but it does not"),
    "scale-offset": (
        lambda group: group.create_dataset("features", data=np.ones((20, 2), "i4"), chunks=(5, 2), scaleoffset=True),
        "must be packed with one of.*filter 6",
    ),
    "unknown filter": (
        raw(F8, (20, 2), plan_of(set_chunk=((5, 2),), set_filter=(305, h5py.h5z.FLAG_OPTIONAL, (1,)))),
        "must be packed with one of.*filter 305",
    ),
    "never written": (raw(F8, (100, 100)), "declares the shape .* but 0 bytes are stored"),
    "chunks never written": (
        lambda group: group.create_dataset("features", (100, 2), "f8", chunks=(10, 2))[:50].any(),
        "in 10 chunks, but other chunks are stored",
    ),
    "absurd shape": (raw(F8, (1 << 40, 1 << 10)), "bytes are the most for one video"),
    "absurd shape in chunks": (
        raw(F8, (1 << 40, 74), plan_of(set_chunk=((1 << 10, 74),), set_deflate=(4,))),
        "bytes are the most for one video",
    ),
    "absurd chunks": (raw(F8, (100, 74), plan_of(set_chunk=((100, 74),), set_deflate=(4,))), "0 bytes|other chunks"),
    "too large chunks": (
        lambda group: group.create_dataset("features", (4, 2), "f8", chunks=(1 << 25, 2), maxshape=(None, 2)),
        "are the most for one",
    ),
    "too many chunks": (
        lambda group: group.create_dataset("features", (1 << 20, 1), "i1", chunks=(1, 1)),
        "chunks, but 262144 are the most",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_arrays_that_are_refused(tmp_path, name):
    features, match = REFUSED[name]
    refused(write(tmp_path / "a.csd", features, np.ones((2, 2))), f"^a.csd: v/features .*({match})")


def test_files_that_are_refused(tmp_path):
    path = tmp_path / "a.csd"
    path.write_bytes(b"<html>not found</html>")
    refused(path, "must be an HDF5 file, but it does not begin as one")
    path.write_bytes(csd_file.HDF5_START)
    refused(path, "cannot be read")
    for make, match in {
        "two groups": (lambda file: (file.create_group("a/data"), file.create_group("b")), "several"),
        "no group": (lambda file: None, "has none"),
        "no data": (lambda file: file.create_group("a"), "must hold 'data'"),
        "data is an array": (lambda file: file.create_dataset("a/data", data=[1]), "cannot be read"),
        "no entries": (lambda file: file.create_group("a/data"), "must hold 1 to 1000000 entries"),
        "long name": (lambda file: write_entry(file, "v" * 257), "a name of more than 256 bytes"),
        "name not UTF-8": (lambda file: file.create_group("a/data").id.links and bad_name(file), "UnicodeDecodeError"),
    }.values():
        with h5py.File(path, "w") as file:
            make(file)
        refused(path, match)
    with h5py.File(path, "w", userblock_size=512) as file:
        write_entry(file, "v")
    refused(path, "does not begin as one")
    with pytest.raises(FileNotFoundError):
        CsdFile(tmp_path / "absent.csd")


def bad_name(file):
    h5py.h5g.create(file["a/data"].id, b"\xff\xfe")


def test_entries_are_bounded(tmp_path, monkeypatch):
    path = tmp_path / "a.csd"
    with h5py.File(path, "w") as file:
        for number in range(11):
            write_entry(file, f"v{number}")
    monkeypatch.setattr(csd_file, "MAX_ENTRIES", 11)
    with CsdFile(path) as file:
        assert len(file.entries()) == 11
    monkeypatch.setattr(csd_file, "MAX_ENTRIES", 10)
    refused(path, "must hold 1 to 10 entries")


def test_totals_are_bounded(tmp_path):
    path = write(tmp_path / "a.csd", np.ones((100, 3)))
    with CsdFile(path) as file:
        size = path.stat().st_size
        file.check_total(1 << 30, size)
        with pytest.raises(ValueError, match=f"^a.csd: .* take {size + 1} bytes in a file of {size}"):
            file.check_total(1, size + 1)
        with pytest.raises(ValueError, match="^a.csd: .* more than 100 times the file"):
            file.check_total((1 << 30) + 1, 1)


def test_bombs_are_not_unpacked(tmp_path):
    """A chunk that unpacks to a thousand times what it declares, and one that cannot unpack to what it declares."""
    bomb = zlib.compress(bytes(1 << 26), 9)

    def features(group, data, chunks=(1000, 8)):
        stored = group.create_dataset("features", (1000, 8), "f8", chunks=chunks, compression="gzip")
        stored.id.write_direct_chunk((0, 0), data)

    path = write(tmp_path / "a.csd", lambda group: features(group, bomb))
    tracemalloc.start()
    refused(path, "unpacks to more than it declares")
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.stop()
    refused(write(tmp_path / "a.csd", lambda group: features(group, bomb[:-9])), "unpacks to more than it declares")
    refused(write(tmp_path / "a.csd", lambda group: features(group, zlib.compress(b"short"))), "declares")
    packed = zlib.compress(np.random.default_rng(0).bytes(64_000))
    refused(write(tmp_path / "a.csd", lambda group: features(group, packed[:-9])), "cut off or unpacks to more")
    refused(write(tmp_path / "a.csd", lambda group: features(group, b"x" * 5000)), "cannot be unpacked")
    refused(write(tmp_path / "a.csd", lambda group: features(group, bytes(200_000))), "but one takes 200000 bytes")


def test_an_index_of_chunks_that_leads_in_circles(tmp_path):
    asked = []

    def chunk_iter(take):
        while take(SimpleNamespace(chunk_offset=(0, 0), size=16)) is None:
            asked.append(1)
            assert len(asked) < 100

    with pytest.raises(ValueError, match="in 6 chunks, but other chunks are stored"):
        csd_arrays._stored_chunks(SimpleNamespace(chunk_iter=chunk_iter), (6, 2), (2, 1))


def test_the_library_holds_little(tmp_path):
    with CsdFile(write(tmp_path / "a.csd", np.ones((2, 2)))) as file:
        assert file._file.id.get_mdc_config().max_size == 1 << 18


@pytest.mark.parametrize("data", [b"\xff", b"\x05abc", b"\x20\x00", b"\xe0\xff\xff", b"\x00a\xe0"])
def test_lzf_that_is_damaged(data):
    with pytest.raises(ValueError, match="^(holds lzf data|declares chunks)"):
        unpack(data, [(32000, ())], 1000)


def test_lzf_is_bounded():
    # A byte, and copies of it: 264 bytes of three.
    with pytest.raises(ValueError, match="unpacks to 1[0-9]{3}$|unpacks to 1[0-9]{3};"):
        unpack(b"\x00a" + b"\xe0\xff\x00" * 1_000_000, [(32000, ())], 1000)


def test_heaps_are_bounded(tmp_path):
    """References to strings that lie nowhere, or are longer than a word can be, or the heap itself is damaged."""
    words = np.array([["hello"], ["x" * 100]], object)
    path = write(tmp_path / "a.csd", words, dtype=h5py.string_dtype())
    whole = path.read_bytes()
    with h5py.File(path) as file:
        at = file["name/data/v/features"].id.get_offset()
    heap = whole.index(b"GCOL")
    length, address, index = slice(at, at + 4), slice(at + 4, at + 12), slice(at + 12, at + 16)
    for where, value, match in (
        (length, 2000, "must hold strings of up to 1024 bytes, but one has 2000"),
        (length, 50, "refers to a string that the file does not hold"),
        (address, 1 << 63, "it is damaged or was cut off"),
        (address, 96, "refers to a heap that the file does not hold"),
        (index, 77, "refers to a string that the file does not hold"),
        (slice(heap + 8, heap + 16), 1 << 50, "refers to a heap that the file does not hold"),
        (slice(heap + 24, heap + 32), 1 << 50, "holds a heap whose objects are larger than it"),
    ):
        changed = bytearray(whole)
        changed[where] = value.to_bytes(where.stop - where.start, "little")
        path.write_bytes(changed)
        refused(path, match)


def test_heaps_do_not_overlap(tmp_path):
    """Each byte of the file is read for one heap: a small file cannot have many large ones."""

    def collection(content):
        return b"GCOL\1\0\0\0" + struct.pack("<QHHIQ", 32 + len(content), 1, 1, 0, len(content)) + content

    path = tmp_path / "heaps"
    path.write_bytes(collection(collection(collection(b"word" * 2))))
    for addresses, good in (([0], True), ([64], True), ([0, 32], False)):
        references = np.array([(4, address, 1) for address in addresses], csd_arrays._HEAP_REFERENCE)
        file = csd_arrays.RawFile(path)
        if good:
            assert len(list(csd_arrays._heap_strings(references, file))) == 1
        else:
            with pytest.raises(ValueError, match="refers to a heap that the file does not hold"):
                list(csd_arrays._heap_strings(references, file))
        file.close()


FUZZ = """
import json, random, resource, sys
from pathlib import Path
from datasets_scripts.csd.csd_sequences import Sequence, select, ROLES
import h5py

folder, first, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
pages = int(Path("/proc/self/statm").read_text().split()[0])
bound = pages * resource.getpagesize() + (256 << 20)
resource.setrlimit(resource.RLIMIT_AS, (bound, bound))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
results = {"whole": 0, "refused": 0}
for source in sorted(folder.glob("*.source")):
    whole = source.read_bytes()
    role = source.name.partition("-")[0]
    for case in range(first, first + count):
        rng = random.Random(f"{source.name} {case}")
        changed = bytearray(whole)
        if rng.random() < 0.2:
            del changed[rng.randrange(len(changed)) :]
        else:
            for _ in range(rng.choice([1, 1, 2, 4, 16, 64])):
                changed[rng.randrange(len(changed))] = rng.choice([0, 1, 127, 128, 255, rng.randrange(256)])
        path = folder / "case.csd"
        path.write_bytes(changed)
        try:
            select(path, {role: "case"})
            with Sequence(role, path) as sequence:
                for entry in sequence.survey().frames:
                    track = sequence.track(entry)
                    if track is not None:
                        found = track.timeline.within(0.5, 1.5)
                        track.words() if role == "words" else track.read(found)
            results["whole"] += 1
        except ValueError as error:
            assert "case.csd" in str(error), error
            results["refused"] += 1
results["grown"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(json.dumps(results))
"""


def fuzz_sources(folder):
    """Small files of every kind of storage that this reader knows."""
    rng = np.random.default_rng(0)
    kinds = {
        "plain": {},
        "gzip": {"compression": "gzip", "shuffle": True, "chunks": (16, 3)},
        "lzf": {"compression": "lzf"},
    }
    for libver in ("earliest", "latest"):
        for kind, storage in kinds.items():
            with h5py.File(folder / f"audio-{kind}-{libver}.source", "w", libver=libver) as file:
                for video in range(3):
                    group = file.create_group(f"COVAREP/data/video{video}")
                    group.create_dataset("features", data=rng.standard_normal((40, 5)), **storage)
                    group["intervals"] = np.stack([np.arange(40), np.arange(40) + 1], axis=1) / 20
        for kind, dtype in (("fixed", "S8"), ("any", h5py.string_dtype())):
            with h5py.File(folder / f"words-{kind}-{libver}.source", "w", libver=libver) as file:
                for video in range(3):
                    group = file.create_group(f"words/data/video{video}")
                    values = np.array([[b"word"], [b"sp"], [b"again"]] * 5, object if kind == "any" else "S8")
                    group.create_dataset("features", data=values, dtype=dtype)
                    group["intervals"] = np.stack([np.arange(15), np.arange(15) + 1], axis=1) / 8


def run_fuzz(folder, first, count, timeout):
    fuzz_sources(folder)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", FUZZ, str(folder), str(first), str(count)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    results = json.loads(done.stdout)
    assert results["whole"] > 10 * count / 10 and results["refused"] > 10 * count / 4, results
    assert results["grown"] < 100 << 10, results  # KiB


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is bounded by its size in /proc, as on Linux")
def test_damaged_files(tmp_path):
    run_fuzz(tmp_path, 0, 40, 120)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is bounded by its size in /proc, as on Linux")
def test_many_damaged_files(tmp_path):
    run_fuzz(tmp_path, 40, 2000, 1200)
