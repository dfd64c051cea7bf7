"""To be written."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from datasets_scripts.builder import Source, SourceBuilder
from datasets_scripts.tally import Tally


class LabelTable(SourceBuilder):
    """To be written."""

    SOURCE_FORMAT = "table of transcripts and labels"

    def inspect(self) -> Source:
        raise NotImplementedError

    def read_rows(self, split: str, shards: list[Any], tally: Tally) -> Iterator[dict[str, Any]]:
        raise NotImplementedError
