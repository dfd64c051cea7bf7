"""Files that are written whole or not at all."""

import os

import pytest

from datasets_scripts.files import whole_file


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_new_file(tmp_path):
    path = tmp_path / "numbers.txt"
    with whole_file(path) as temporary:
        temporary.write_text("1 2 3")
        assert temporary.parent == tmp_path and temporary != path
        assert not path.exists()
    assert path.read_text() == "1 2 3"
    assert names(tmp_path) == ["numbers.txt"]


def test_folders_are_made_and_a_string_will_do(tmp_path):
    with whole_file(str(tmp_path / "a" / "b" / "file")) as temporary:
        temporary.write_bytes(b"x")
    assert (tmp_path / "a" / "b" / "file").read_bytes() == b"x"
    assert names(tmp_path / "a" / "b") == ["file"]


def test_old_content_stays_until_the_end(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with whole_file(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("old", [None, "old"])
def test_nothing_is_left_after_an_error(tmp_path, error, old):
    path = tmp_path / "file"
    if old is not None:
        path.write_text(old)
    with pytest.raises(error), whole_file(path) as temporary:
        temporary.write_text("half of the n")
        raise error
    assert names(tmp_path) == ([] if old is None else ["file"])
    assert old is None or path.read_text() == old


def test_nothing_written_is_an_error_and_leaves_the_old_content(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(FileNotFoundError), whole_file(path):
        pass
    assert names(tmp_path) == ["file"] and path.read_text() == "old"


def test_error_while_moving_leaves_nothing(tmp_path, monkeypatch):
    def fail(source, target):
        raise OSError("cannot move")

    path = tmp_path / "file"
    path.write_text("old")
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="cannot move"), whole_file(path) as temporary:
        temporary.write_text("new")
    assert names(tmp_path) == ["file"] and path.read_text() == "old"


def test_two_at_once_do_not_meet(tmp_path):
    with whole_file(tmp_path / "a") as first, whole_file(tmp_path / "b") as second:
        first.write_text("1")
        second.write_text("2")
    assert [(tmp_path / name).read_text() for name in "ab"] == ["1", "2"]
