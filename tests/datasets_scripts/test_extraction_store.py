"""Records of clips: whole or not there."""

import numpy as np
import pytest

from datasets_scripts.extraction.clips import Clip
from datasets_scripts.extraction.store import ClipRecord, ClipStore, record_key

CLIP = Clip("speaker/ä$_$1", "train", "a/1.mp4", False, None, None)


def make_record(**changes):
    values = {"audio": np.arange(6, dtype=np.float32).reshape(2, 3), "vision": np.zeros((0, 4), np.float32)}
    record = {"key": "k", "extractors": "e", "files": {"a/1.mp4": "0" * 64}, "seconds": 1.5, "text": "Ja, schön."}
    return ClipRecord(**{**record, "notes": {"vision": ["No face."]}, "values": values, **changes})


def test_a_record_comes_back_as_it_was(tmp_path):
    store, record = ClipStore(tmp_path / "store"), make_record()
    assert store.summary(CLIP.id) is None
    with pytest.raises(ValueError, match="must hold what was extracted from 'speaker/ä.*run the extraction again"):
        store.read(CLIP.id)
    store.write(CLIP, record)
    found = store.read(CLIP.id)
    for modality, values in record.values.items():
        assert found.values[modality].dtype == np.float32 and found.values[modality].shape == values.shape
        np.testing.assert_array_equal(found.values[modality], values)
    found.values = record.values
    assert found == record
    summary = store.summary(CLIP.id)
    assert summary == make_record(values={})
    assert store.file(CLIP.id).parent.parent == tmp_path / "store"
    assert len(list(store.path.rglob("*.*"))) == 1  # nothing beside it


def test_the_same_record_is_the_same_bytes(tmp_path):
    """Also where its parts came in another order."""
    contents = []
    for name, order in (("a", 1), ("b", -1)):
        store = ClipStore(tmp_path / name)
        record = make_record()
        record.values = dict(list(record.values.items())[::order])
        store.write(CLIP, record)
        contents.append(store.file(CLIP.id).read_bytes())
    assert contents[0] == contents[1]


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b[:4], lambda b: b"", lambda b: b + b"x"])
def test_a_damaged_record_is_none(tmp_path, damage):
    store = ClipStore(tmp_path)
    store.write(CLIP, make_record())
    path = store.file(CLIP.id)
    path.write_bytes(damage(path.read_bytes()))
    assert store.summary(CLIP.id) is None
    with pytest.raises(ValueError, match="cannot be read"):
        store.read(CLIP.id)


def test_any_damaged_byte_of_the_header_is_no_error(tmp_path):
    store = ClipStore(tmp_path)
    store.write(CLIP, make_record())
    path = store.file(CLIP.id)
    content = path.read_bytes()
    for position in range(len(content) - 24):
        path.write_bytes(content[:position] + bytes([content[position] ^ 0xFF]) + content[position + 1 :])
        store.summary(CLIP.id)


def test_keys_name_content_and_settings():
    files = {"a": "1", "b": "2"}
    key = record_key(["x", None], files)
    assert key == record_key(["x", None], dict(reversed(files.items())))
    others = [
        record_key(["x", "y"], files),
        record_key(["x", None], {"a": "1"}),
        record_key(["x", None], {**files, "b": "3"}),
    ]
    assert len({key, *others}) == 4
