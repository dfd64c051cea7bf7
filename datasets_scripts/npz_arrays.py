"""To be written."""

from __future__ import annotations

from typing import Any

from datasets_scripts.padded_arrays import ArraysBuilder


class NpzArrays(ArraysBuilder):
    """To be written."""

    SOURCE_FORMAT = "NumPy archive (.npz)"

    def read_arrays(self) -> Any:
        raise NotImplementedError
