"""One .csd file, a computational sequence of CMU-MultimodalSDK: its entries, and the two arrays of each.

    <name> / data / <entry> / features    (n, ...), a row per frame, word or label
                            / intervals   (n, 2), where it begins and ends, in seconds

An entry is a video, or a part of one, `video[3]`, in files that the SDK has aligned. `<name> / metadata` is not read.

Nothing but these groups and arrays is opened, and each by a hard link, so that no other file is read and no path leads
in circles; see `csd_arrays` for what an array may be. Names and entries are bounded, and a file that is damaged or
breaks a rule ends in a ValueError that names the file, the entry, the rule and what to do.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from datasets_scripts.csd.csd_arrays import RawFile, StoredArray, naming
from datasets_scripts.csd.csd_filters import BrokenRuleError

HDF5_START = b"\x89HDF\r\n\x1a\n"
MAX_ENTRIES = 1_000_000
MAX_NAME_BYTES = 256
# What the arrays of a whole file may take in memory: some of them can be all zeros, but not all of a large one.
_MAX_UNPACKED_RATIO = 100
_ALWAYS_UNPACKED = 1 << 30
_METADATA_CACHE_BYTES = 1 << 18


class CsdFile:
    """A .csd file, open for reading; a context manager.

    Attributes:
        path: the file.
        name: of the sequence, as the file has it.

    Raises:
        ImportError: h5py is not installed.
        ValueError: see the module.
    """

    def __init__(self, path: Path) -> None:
        h5py = import_h5py()
        self.path = path
        with path.open("rb") as file:
            if file.read(len(HDF5_START)) != HDF5_START:
                raise ValueError(
                    f"{path.name} must be an HDF5 file, but it does not begin as one; it may be a page of a server "
                    "that had no file: download it again."
                )
        with ExitStack() as opened, naming(path.name):
            self._raw = RawFile(path)
            opened.callback(self._raw.close)
            # No lock: file systems of clusters have none, and nothing is written.
            self._file = opened.enter_context(h5py.File(path, "r", locking=False))
            _bound_metadata_cache(self._file.id)
            self.name, self._data = self._open_sequence()
            self._opened = opened.pop_all()

    def __enter__(self) -> CsdFile:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        self._opened.close()

    def entries(self) -> list[str]:
        """Names of the entries, sorted. Raises ValueError where they are too many or too long, or none."""
        with naming(f"{self.path.name}: data"):
            names = [name.decode("utf-8") for name in _link_names(self._data, MAX_ENTRIES)]
            if not names or len(names) > MAX_ENTRIES or len(set(names)) != len(names):
                raise BrokenRuleError(
                    f"must hold 1 to {MAX_ENTRIES} entries of different names, but it holds {len(names)}; it is "
                    "damaged, or must be divided."
                )
            return sorted(names)

    def first_entries(self) -> list[str]:
        """Names of some entries, without looking at all of them; ValueError where there is none."""
        with naming(f"{self.path.name}: data"):
            names = _link_names(self._data, 9)
            if not names:
                raise BrokenRuleError("must hold at least one entry, but it is empty; download the file again.")
            return [name.decode("utf-8") for name in names]

    def features(self, entry: str) -> StoredArray:
        """The features of an entry, (n, ...)."""
        return self._array(entry, "features")

    def intervals(self, entry: str) -> StoredArray:
        """The intervals of an entry, (n, 2)."""
        return self._array(entry, "intervals")

    def check_total(self, unpacked: int, stored: int) -> None:
        """Raise ValueError where the arrays of all entries are more than the file can hold, or than anyone packs."""
        if stored > self._raw.size:
            raise ValueError(
                f"{self.path.name}: the arrays of all entries take {stored} bytes in a file of {self._raw.size}, so "
                "some must be the same; it is damaged: download it again."
            )
        if unpacked > max(_ALWAYS_UNPACKED, _MAX_UNPACKED_RATIO * self._raw.size):
            raise ValueError(
                f"{self.path.name}: the arrays of all entries take {unpacked} bytes when unpacked, more than "
                f"{_MAX_UNPACKED_RATIO} times the file; it is damaged, or made to fill the disk."
            )

    def _array(self, entry: str, name: str) -> StoredArray:
        import h5py

        where = f"{self.path.name}: {entry}/{name}"
        with naming(where):
            group = _open_group(self._data, entry.encode("utf-8"))
            _check_link(group, name.encode("utf-8"))
            return StoredArray(h5py.h5d.open(group, name.encode("utf-8")), self._raw, where)

    def _open_sequence(self) -> tuple[str, Any]:
        """The name of the one group at the top, and its group `data`."""
        plan = self._file.id.get_create_plist()
        if plan.get_userblock() or plan.get_sizes() != (8, 8):
            raise BrokenRuleError("must begin with HDF5 data of 8-byte addresses; write it again with mmdatasdk.")
        names = _link_names(self._file.id, 1)
        if len(names) != 1:
            raise BrokenRuleError(
                f"must hold one group, the sequence, with `data` in it, but it has {'several' if names else 'none'}; "
                "is it a file of CMU-MultimodalSDK?"
            )
        return names[0].decode("utf-8"), _open_group(_open_group(self._file.id, names[0]), b"data")


def import_h5py() -> Any:
    """The module h5py. Raises ImportError, which says how to get it."""
    try:
        import h5py
    except ImportError as error:
        raise ImportError("h5py is needed to read .csd files; run `pip install 'sentimodal[csd]'`.") from error
    return h5py


def _bound_metadata_cache(file: Any) -> None:
    """The library would hold up to 32 MiB of group and chunk indexes of each file, which are read once."""
    config = file.get_mdc_config()
    config.set_initial_size = True
    config.initial_size = config.min_size = config.max_size = _METADATA_CACHE_BYTES
    config.incr_mode = config.decr_mode = config.flash_incr_mode = 0  # fixed
    file.set_mdc_config(config)


def _link_names(group: Any, most: int) -> list[bytes]:
    """Names in a group, in the order of the file; where there are more than `most`, one more than that."""
    import h5py

    names: list[bytes] = []

    def take(name: bytes) -> bool | None:
        names.append(name)
        return True if len(name) > MAX_NAME_BYTES or len(names) > most else None  # ends the walk

    group.links.iterate(take, order=h5py.h5.ITER_NATIVE)
    if names and len(names[-1]) > MAX_NAME_BYTES:
        raise BrokenRuleError(f"holds a name of more than {MAX_NAME_BYTES} bytes, {names[-1][:40]!r}...; shorten it.")
    return names


def _open_group(parent: Any, name: bytes) -> Any:
    import h5py

    _check_link(parent, name)
    return h5py.h5g.open(parent, name)


def _check_link(parent: Any, name: bytes) -> None:
    import h5py

    if not parent.links.exists(name):
        raise BrokenRuleError(f"must hold {_shown(name)}, but it does not; correct it, or leave it out.")
    if parent.links.get_info(name).type != h5py.h5l.TYPE_HARD:
        raise BrokenRuleError(
            f"must hold {_shown(name)} itself, but that is a link to another place or file, which "
            "is not followed; write the file again as a whole."
        )


def _shown(name: bytes) -> str:
    return repr(name.decode("utf-8", "replace"))
