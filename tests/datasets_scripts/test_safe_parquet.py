"""Parquet that is damaged or hostile: rows or a ValueError, within bounded memory, and the process lives on."""

import os
import random
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import datasets_scripts.parquet.safe_parquet as safe_parquet
from datasets_scripts.parquet.parquet_rows import ParquetRows
from datasets_scripts.parquet.safe_parquet import SafeParquet
from datasets_scripts.parquet.thrift_compact import BINARY, BYTE, DOUBLE, I16, I32, I64, LIST, SET, STRUCT, Compact
from datasets_scripts.tally import Tally

LISTS = pa.list_(pa.list_(pa.float32()))


def table(rows=30):
    rng = np.random.default_rng(0)
    audio = [None if row % 7 == 0 else rng.standard_normal((row % 6, 5)).tolist() for row in range(rows)]
    return pa.table(
        {
            "id": [f"v{row // 3}$_${row}" for row in range(rows)],
            "text": pa.array([None if row % 5 == 0 else f"words {row % 4}" for row in range(rows)]),
            "audio_values": pa.array(audio, LISTS),
            "vision_values": pa.array([[[0.0] * 4] * 3] * rows, LISTS),
            "label": rng.uniform(-3, 3, rows),
            "split": ["train" if row % 3 else "test" for row in range(rows)],
            "input_ids": [[1, 2, row] for row in range(rows)],
        }
    )


def write(path, columns=None, **options):
    pq.write_table(table() if columns is None else columns, path, **options)
    return path


def convert(path, cache):
    """Rows as the builder would write them, without writing."""
    builder = ParquetRows(cache_dir=str(cache), data_file=str(path))
    source = builder.inspect()
    rows = []
    for split, shards in source.shards.items():
        tally = Tally(split)
        rows += [tally.take(row) for row in builder.read_rows(split, shards, tally)]
    return rows


# A second implementation of the compact protocol, to take headers apart and to put changed ones together. A structure
# is a list of [number, kind, value]; a list is (kind, values).


def decode(data, position=0):
    """(structure, position behind it)"""
    fields, number = [], 0
    while data[position]:
        byte, position = data[position], position + 1
        if byte >> 4:
            number += byte >> 4
        else:
            number, position = decode_value(data, position, I16)
        value, position = decode_value(data, position, byte & 15)
        fields.append([number, byte & 15, value])
    return fields, position + 1


def decode_value(data, position, kind):
    if kind in (1, 2):
        return kind == 1, position
    if kind in (I16, I32, I64):
        number, position = decode_varint(data, position)
        return (number >> 1) ^ -(number & 1), position
    if kind == BYTE:
        return data[position : position + 1], position + 1
    if kind == DOUBLE:
        return data[position : position + 8], position + 8
    if kind == BINARY:
        length, position = decode_varint(data, position)
        return data[position : position + length], position + length
    if kind in (LIST, SET):
        count, element, position = data[position] >> 4, data[position] & 15, position + 1
        if count == 15:
            count, position = decode_varint(data, position)
        values = []
        for _ in range(count):
            if element in (1, 2):
                value, position = data[position : position + 1], position + 1
            else:
                value, position = decode_value(data, position, element)
            values.append(value)
        return (element, values), position
    assert kind == STRUCT
    return decode(data, position)


def decode_varint(data, position):
    number = shift = 0
    while True:
        byte, position = data[position], position + 1
        number |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return number, position


def encode(fields):
    data, previous = b"", 0
    for number, kind, value in fields:
        kind = (1 if value else 2) if kind in (1, 2) else kind
        step = number - previous
        data += bytes([step << 4 | kind]) if 0 < step < 16 else bytes([kind]) + encode_value(I16, number)
        data += encode_value(kind, value)
        previous = number
    return data + b"\0"


def encode_value(kind, value):
    if kind in (1, 2):
        return b""
    if kind in (I16, I32, I64):
        return encode_varint(((value << 1) ^ (value >> 63)) & (2**64 - 1))
    if kind == BINARY:
        return encode_varint(len(value)) + value
    if kind in (LIST, SET):
        element, values = value
        start = bytes([len(values) << 4 | element]) if len(values) < 15 else bytes([0xF0 | element])
        start += b"" if len(values) < 15 else encode_varint(len(values))
        return start + b"".join(
            one if isinstance(one, bytes) and element != BINARY else encode_value(element, one) for one in values
        )
    return encode(value) if kind == STRUCT else value


def encode_varint(number):
    data = b""
    while number > 127:
        data, number = data + bytes([number & 127 | 128]), number >> 7
    return data + bytes([number])


def field(fields, *path):
    """The field [number, kind, value] that a path of numbers leads to; a number in brackets is a place in a list."""
    found = None
    for step in path:
        if isinstance(step, list):
            fields = found[2][1][step[0]]
            continue
        fields = found[2] if found is not None and found[1] == STRUCT else fields
        found = next(one for one in fields if one[0] == step)
    return found


def take_apart(path):
    """(bytes before the footer, footer)"""
    data = path.read_bytes()
    length = int.from_bytes(data[-8:-4], "little")
    return data[: -8 - length], decode(data[-8 - length : -8])[0]


def put_together(path, body, footer):
    data = encode(footer)
    path.write_bytes(body + data + len(data).to_bytes(4, "little") + b"PAR1")
    return path


def change_footer(path, change):
    body, footer = take_apart(path)
    change(footer)
    return put_together(path, body, footer)


def change_page(path, group, column, change, page=0):
    """Change the header of a page of a column, and move whatever comes behind it."""
    body, footer = take_apart(path)
    chunks = [chunk for one in field(footer, 4)[2][1] for chunk in field(one, 1)[2][1]]
    chunk = field(field(footer, 4)[2][1][group], 1)[2][1][column]
    starts = [one[2] for one in field(chunk, 3)[2] if one[0] in (9, 11)]
    start = min(starts)
    for _ in range(page):
        header, end = decode(body, start)
        start = end + field(header, 3)[2]
    header, end = decode(body, start)
    change(header)
    data = encode(header)
    moved = len(data) - (end - start)
    for one in chunks:
        for offset in field(one, 3)[2]:
            if offset[0] in (9, 11) and offset[2] > start:
                offset[2] += moved
    field(chunk, 3, 7)[2] += moved
    return put_together(path, body[:start] + data + body[end:], footer)


def put(*path_and_value):
    *path, value = path_and_value

    def change(fields):
        found = field(fields, *path)
        found[2] = value(found[2]) if callable(value) else value

    return change


def test_the_second_implementation_agrees_with_the_first(tmp_path):
    path = write(tmp_path / "a.parquet", row_group_size=11)
    before = path.read_bytes()
    change_footer(path, lambda footer: None)
    assert path.read_bytes() == before
    body, footer = take_apart(path)
    found = Compact(encode(footer), 10_000).struct(safe_parquet._FOOTER)
    assert [group[3] for group in found[4]] == [11, 11, 8]
    assert [element[4].decode() for element in found[2]] == [
        field(one, 4)[2].decode() for one in field(footer, 2)[2][1]
    ]
    for place, group in enumerate(found[4]):
        for column, chunk in enumerate(group[1]):
            expected = field(field(field(footer, 4)[2][1][place], 1)[2][1][column], 3)[2]
            assert chunk[3] == {number: value for number, _, value in expected if number in (5, 7, 9, 11)}
            header, end = decode(body, min(chunk[3][9], chunk[3].get(11, 2**62)))
            thrift = Compact(body[min(chunk[3][9], chunk[3].get(11, 2**62)) :], 10)
            assert thrift.struct(safe_parquet._PAGE_HEADER)[3] == field(header, 3)[2]
            assert thrift.position == end - min(chunk[3][9], chunk[3].get(11, 2**62))


@pytest.mark.parametrize(
    "data",
    (
        b"\x15",  # cut off
        b"\x15" + b"\xff" * 10 + b"\x01\x00",  # more than 64 bits
        b"\x15\xfe\xff\xff\xff\x1f\x00",  # more than the 32 bits of the field
        b"\x18\xff\x7f\x00",  # longer than the data
        b"\x19\xf5\xff\xff\x7f\x00",  # a list longer than the data
        b"\x15\x02\x05\x02\x02\x00",  # the same field again
        b"\x1f\x00",  # an unknown kind
        b"\x1c" * 40 + b"\x00" * 41,  # nested
        b"\x19\x1c" * 40 + b"\x00" * 41,
        b"\x05\xfe\xff\x07\x02\x00",  # a number of a field beyond 16 bits
    ),
)
def test_headers_that_are_refused(data):
    with pytest.raises(ValueError):
        Compact(data, 100).struct({1: I32})


def test_a_field_of_another_kind_counts_as_not_there():
    data = encode([[1, I64, 5], [2, STRUCT, [[1, I32, 7]]], [3, I32, 9], [4, LIST, (I32, [1, 2])], [5, 1, True]])
    wanted = {1: I32, 2: {1: I32}, 3: I32, 4: [I32], 5: I32}
    assert Compact(data, 100).struct(wanted) == {2: {1: 7}, 3: 9, 4: [1, 2]}
    with pytest.raises(ValueError, match="too many structures"):
        Compact(data, 1).struct(wanted)


def test_good_files_of_every_kind(tmp_path):
    expected = None
    for options in (
        {},
        {"compression": "none", "use_dictionary": False},
        {"compression": "zstd", "row_group_size": 7, "data_page_version": "2.0"},
        {"compression": "gzip", "data_page_size": 50, "write_page_checksum": True},
        {"compression": "brotli", "write_page_index": True},
        {"store_schema": False, "version": "1.0"},
        {"use_dictionary": False, "column_encoding": {"text": "DELTA_LENGTH_BYTE_ARRAY", "label": "BYTE_STREAM_SPLIT"}},
    ):
        rows = convert(write(tmp_path / "a.parquet", **options), tmp_path)
        expected = expected or rows
        assert len(rows) == len(expected) == 30
        for row, other in zip(rows, expected, strict=True):
            assert all(np.array_equal(row[column], value) for column, value in other.items())


LEAVES = ["id", "text", "audio", "vision", "label", "split", "input_ids"]
FOOTERS = {
    "rows of a group": (put(4, [0], 3, 2**40), "more rows than bytes"),
    "fewer values": (put(4, [0], 1, [0], 3, 5, 29), "has 30 values in its pages, 29 by the footer"),
    "more values": (put(4, [0], 1, [2], 3, 5, 10**9), "a header is cut off|beyond the column"),
    "negative values": (put(4, [0], 1, [0], 3, 5, -1), "a header says -1"),
    "more rows": (put(4, [0], 3, 40), "30 by the footer, and 40 rows"),
    "beyond the file": (put(4, [0], 1, [0], 3, 7, 2**40), "behind the file"),
    "negative offset": (put(4, [0], 1, [0], 3, 9, -4), "a header says -4"),
    "other file": (lambda f: field(f, 4, [0], 1)[2][1][0].insert(0, [1, BINARY, b"/etc/x"]), "lies in another file"),
    "fewer columns": (lambda f: field(f, 4, [0], 1)[2][1].pop(), "row group 0 has 6 columns and the schema 7"),
    "unknown type": (put(2, [1], 1, 77), "unknown type 77"),
    "no schema": (put(2, (STRUCT, [])), "has 7 columns and the schema 0|cannot be read"),
    "more children": (put(2, [0], 5, 2**30), "cannot be read"),
    "two roots": (put(2, [0], 5, 1), "several roots"),
}


@pytest.mark.parametrize("case", FOOTERS)
def test_footers_that_are_refused(tmp_path, case):
    change, message = FOOTERS[case]
    path = change_footer(write(tmp_path / "a.parquet", store_schema=False), change)
    with pytest.raises(ValueError, match=rf"({message}).*[;:] \w"):
        convert(path, tmp_path)


def test_histograms_that_do_not_fit(tmp_path):
    """pyarrow ends the process when it is asked in Python for such a column; so it is not asked."""

    def change(footer):
        meta = field(footer, 4, [0], 1, [0], 3)[2]
        sizes = [[2, LIST, (I64, [1, 2])], [3, LIST, (I64, [1] * 9)]]
        meta[:] = [one for one in meta if one[0] != 16] + [[16, STRUCT, sizes]]

    path = change_footer(write(tmp_path / "a.parquet", store_schema=False), change)
    with pytest.raises(ValueError, match="cannot be read .*histogram"):
        convert(path, tmp_path)


PAGES = {
    "more values": (put(5, 1, 2**31 - 1), "has 2,147,483,647 values in its pages"),
    "negative values": (put(5, 1, -5), "a header says -5"),
    "a large page": (put(2, 2**31 - 1), "has 2,147,483,647 bytes, more than"),
    "a page beyond the column": (put(3, 10**6), "goes beyond the column"),
    "negative page": (put(3, -1), "a header says -1"),
    "strings as differences": (put(5, 2, 7), "DELTA_BYTE_ARRAY"),
    "unknown kind": (put(1, 9), "unknown kind"),
    "index": (put(1, 1), "unknown kind"),  # some would skip it
    "no data": (lambda page: page.remove(field(page, 5)), "a header says None"),
}


@pytest.mark.parametrize("case", PAGES)
def test_pages_that_are_refused(tmp_path, case):
    change, message = PAGES[case]
    path = write(tmp_path / "a.parquet", store_schema=False, use_dictionary=False)
    change_page(path, 0, 1, change)
    with pytest.raises(ValueError, match=rf"({message}).*[;:] \w"):
        convert(path, tmp_path)


def test_a_dictionary_of_more_entries_than_bytes(tmp_path):
    path = write(tmp_path / "a.parquet", store_schema=False)
    change_page(path, 0, 0, put(7, 1, 2**30))
    with pytest.raises(ValueError, match="said to have 1,073,741,824 entries"):
        convert(path, tmp_path)


def test_strings_as_differences_of_a_real_writer(tmp_path):
    path = write(tmp_path / "a.parquet", use_dictionary=False, column_encoding={"text": "DELTA_BYTE_ARRAY"})
    with pytest.raises(ValueError, match="`text` of row group 0 has strings as differences"):
        convert(path, tmp_path)


def test_schemas_that_are_nested_deeply(tmp_path):
    path = write(tmp_path / "a.parquet", store_schema=False)

    def nest(footer):
        elements = field(footer, 2)[2][1]
        leaf = elements.pop(1)
        group = [[3, I32, 1], [4, BINARY, b"id"], [5, I32, 1]]
        elements[1:1] = [*([group] * 5_000), leaf]

    change_footer(path, nest)
    with pytest.raises(ValueError, match="nested deeper than 32 lists"):
        convert(path, tmp_path)


def test_footers_that_are_too_large(tmp_path):
    path = write(tmp_path / "a.parquet", store_schema=False)
    body, footer = take_apart(path)
    path.write_bytes(body + encode(footer) + (2**31).to_bytes(4, "little") + b"PAR1")
    with pytest.raises(ValueError, match="the footer of a.parquet must have at most .* but it says 2,147,483,648"):
        convert(path, tmp_path)
    groups = field(footer, 4)
    chunk = [[2, I64, 4]]
    groups[2] = (STRUCT, [[[1, LIST, (STRUCT, [chunk] * 150_000)], [2, I64, 1], [3, I64, 1]]] * 2)
    put_together(path, body, footer)
    with pytest.raises(ValueError, match="too many structures"):
        convert(path, tmp_path)


@pytest.mark.parametrize("data", (b"", b"PAR1", b"PAR1PAR1", b"x" * 100, b"PAR1" + bytes(20) + b"PARE"))
def test_what_is_no_parquet(tmp_path, data):
    path = tmp_path / "a.parquet"
    path.write_bytes(data)
    with pytest.raises(ValueError, match="must end as a Parquet file does|cannot be read"):
        convert(path, tmp_path)


def test_truncated_everywhere(tmp_path):
    path = write(tmp_path / "a.parquet")
    data = path.read_bytes()
    for length in range(0, len(data), 41):
        path.write_bytes(data[:length])
        with pytest.raises(ValueError, match="must end as a Parquet file does"):
            convert(path, tmp_path)


def zeros(path, times, **options):
    """One row group of zeros, 7 MB as often as is said, a few kilobytes of file."""
    rows, steps = 100, 500
    values = pa.array(np.zeros(rows * steps * 35, np.float32))
    inner = pa.ListArray.from_arrays(pa.array(np.arange(0, len(values) + 1, 35, np.int32)), values)
    outer = pa.ListArray.from_arrays(pa.array(np.arange(0, len(inner) + 1, steps, np.int32)), inner)
    piece = pa.table({"vision_values": outer, "label": np.zeros(rows, np.float32)})
    pq.write_table(pa.concat_tables([piece] * times), path, row_group_size=2**30, **options)
    return path


@pytest.mark.parametrize("options", ({}, {"use_dictionary": False, "compression": "zstd"}))
def test_a_bomb_is_refused_and_a_missing_modality_is_not(tmp_path, options):
    bomb = zeros(tmp_path / "bomb.parquet", 40, **options)
    assert bomb.stat().st_size < 600_000
    before = pa.total_allocated_bytes()
    message, peak = measured_peak(bomb, tmp_path)
    assert "must take at most 100 times its bytes in the file, or 256 MB" in message and "smaller row groups" in message
    assert peak < 4 << 20 and pa.total_allocated_bytes() == before
    assert len(convert(zeros(tmp_path / "small.parquet", 1, **options), tmp_path)) == 100


def measured_peak(path, cache):
    tracemalloc.start()
    try:
        with pytest.raises(ValueError) as caught:
            convert(path, cache)
        return str(caught.value), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("dictionary", (True, False))
def test_long_strings_that_are_in_many_rows(tmp_path, dictionary):
    path = tmp_path / "a.parquet"
    options = {"use_dictionary": dictionary, "dictionary_pagesize_limit": 1 << 30, "store_schema": False}
    write(path, table().set_column(1, "text", pa.array(["x" * (8 << 20)] * 30)), **options)
    with SafeParquet(path, ["id", "text"]) as file:  # one copy of a string that is in many rows
        assert pa.types.is_dictionary(file.schema.field("text").type) == dictionary
    message, peak = measured_peak(path, tmp_path)
    assert "`text` must have at most 131,072 bytes in every row, but one has 8,388,608" in message and peak < 32 << 20
    long_id = table().set_column(0, "id", pa.array([f"{row:02}" + "x" * 2000 for row in range(30)]))
    with pytest.raises(ValueError, match="`id` must have at most 1,000 bytes"):
        convert(write(path, long_id), tmp_path)


def rows_or_value_error(path, cache):
    try:
        rows = convert(path, cache)
    except ValueError as error:
        assert str(error)
        return 0
    for row in rows:
        assert isinstance(row["id"], str) and row["text"].encode() is not None
        assert all(np.isfinite(row[column]).all() for column in row if column.endswith(("label", "_values")))
    return len(rows)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=400), st.integers(0, 400))
def test_any_bytes(tmp_path_factory, data, length):
    folder = tmp_path_factory.getbasetemp()
    path = folder / "bytes.parquet"
    path.write_bytes(b"PAR1" + data + length.to_bytes(4, "little") + b"PAR1")
    assert rows_or_value_error(path, folder) == 0


INTERESTING = (0, 1, 2, -1, 7, 127, 128, 2**15, 2**31 - 1, 2**31, 2**32 + 1, -(2**31), 2**62, -(2**62))


def every_number(fields):
    """The fields that are numbers, however deep."""
    for one in fields:
        if one[1] in (I16, I32, I64):
            yield one
        elif one[1] == STRUCT:
            yield from every_number(one[2])
        elif one[1] == LIST and one[2][0] == STRUCT:
            for inner in one[2][1]:
                yield from every_number(inner)


def fuzz(folder, seed, count):
    """Convert changed files, none of which may end the process, in 3 GB of address space; prints what came of it."""
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
    chance, folder = random.Random(seed), Path(folder)
    good = [
        write(folder / "a.parquet", **options).read_bytes()
        for options in (
            {"store_schema": False},
            {"store_schema": False, "compression": "none", "use_dictionary": False, "write_page_checksum": True},
            {"compression": "zstd", "row_group_size": 7, "data_page_version": "2.0"},
            {"store_schema": False, "compression": "gzip", "data_page_size": 100},
        )
    ]
    path, rows = folder / "changed.parquet", 0
    for number in range(count):
        data = bytearray(chance.choice(good))
        kind = number % 4
        if kind < 2:
            start = 0 if kind else len(data) - 3000
            for _ in range(chance.choice((1, 1, 2, 8))):
                data[max(chance.randrange(start, len(data)), 0)] = chance.choice((0, 255, chance.randrange(256)))
        path.write_bytes(data)

        def change(fields):
            for found in chance.sample(list(every_number(fields)), chance.choice((1, 1, 2))):
                value = chance.choice((*INTERESTING, found[2] + 1, found[2] - 1, found[2] * 1000))
                found[2] = max(min(value, 2**62), -(2**62))

        if kind == 2:
            change_footer(path, change)
        elif kind == 3:
            change_page(path, 0, chance.randrange(7), change)
        rows += rows_or_value_error(path, folder) > 0
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    peak = int(status.partition("VmHWM:")[2].split()[0]) // 1024
    sys.stdout.write(f"{rows} of {count} gave rows, {peak} MB\n")


@pytest.mark.skipif(sys.platform != "linux", reason="address space is limited on Linux only")
def test_changed_files_in_a_process_of_their_own(tmp_path):
    code = "import runpy, sys; runpy.run_path(sys.argv[1])['fuzz'](sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-X", "faulthandler", "-c", code, __file__, str(tmp_path), "1", "240"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    rows, peak = int(done.stdout.split()[0]), int(done.stdout.split()[-2])
    assert 10 < rows < 230 and peak < 300
