"""What a conversion did to a source file: counts, sizes, warnings, and the dataset card made of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from datasets_scripts.schema import COLUMN_DESCRIPTIONS, EMOTIONS

# Every count of `ConversionReport.counts`, with the words it is shown with.
COUNT_DESCRIPTIONS = {
    "nan": "NaN replaced by 0",
    "positive_infinity": "+inf replaced by 0",
    "negative_infinity": "-inf replaced by 0",
    "padding_steps": "steps of padding stripped",
    "dropped_nonzero_steps": "stripped steps that were not zero",
    "repaired_lengths": "lengths that contradicted the frames, read from the frames",
    "empty_sequences": "sequences without a step (modality absent)",
    "zero_sequences": "sequences of zeros only, kept",
}


@dataclass(frozen=True)
class ConversionReport:
    """What came in, what came out, and what was changed between them.

    Attributes:
        source: name of the source file or folder, without where it lies.
        source_format: what kind of source it is, for people.
        sha256: SHA-256 of the source, in hexadecimal; of several files as `builder.source_sha256` says.
        bytes: size of the source.
        options: the options of the reader that are not None.
        corpus: its name in `corpora.CORPORA`, None where it is none of them.
        rows: rows per split.
        columns: the columns written, in order.
        feature_sizes: width of the feature sequences per modality; a modality without features is not named.
        padding: per sequence column, how its padding was found.
        counts: per split and column, the counts that `COUNT_DESCRIPTIONS` names; a missing one is 0.
        replaced: per split, sequence column and feature (position within a step, as a string), how many values were not
            finite.
        lengths: per split and sequence column: minimum, lower quartile, median, upper quartile and maximum of the steps
            of a row.
        labels: per split, how many rows have which label, rounded to two decimals; empty where rows have no label.
        empty_text: samples without a transcript, per split.
        without_modality: samples with no transcript and no step of any sequence, per split.
        emotions: per split, how many samples have at least one emotion present (an intensity above 0), under "any", and
            how many have each, under its name; empty where the source has no emotions.
        ignored_keys: keys of the source that were not carried over.
        warnings: what a person should read before training on the result.
    """

    source: str
    source_format: str
    sha256: str
    bytes: int
    options: dict[str, Any]
    corpus: str | None
    rows: dict[str, int]
    columns: list[str]
    feature_sizes: dict[str, int]
    padding: dict[str, str] = field(default_factory=dict)
    counts: dict[str, dict[str, dict[str, int]]] = field(default_factory=dict)
    replaced: dict[str, dict[str, dict[str, int]]] = field(default_factory=dict)
    lengths: dict[str, dict[str, list[int]]] = field(default_factory=dict)
    labels: dict[str, dict[str, int]] = field(default_factory=dict)
    empty_text: dict[str, int] = field(default_factory=dict)
    without_modality: dict[str, int] = field(default_factory=dict)
    emotions: dict[str, dict[str, int]] = field(default_factory=dict)
    ignored_keys: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain dicts and lists, a copy."""
        return asdict(self)

    def to_json(self) -> str:
        """The report as JSON text, indented, ending in a newline."""
        return json.dumps(self.to_dict(), ensure_ascii=False, indent=2) + "\n"

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ConversionReport:
        """The report that `to_dict` gave.

        Raises:
            ValueError: a key is missing or unknown.
        """
        known = {item.name for item in fields(cls)}
        if set(values) != known:
            raise ValueError(
                f"`values` must have the keys {sorted(known)}, but {sorted(values)} came; "
                "delete the converted folder and convert the source again."
            )
        return cls(**values)

    @classmethod
    def from_json(cls, text: str) -> ConversionReport:
        """The report that `to_json` gave. Raises ValueError as `from_dict` does, or where `text` is not JSON."""
        return cls.from_dict(json.loads(text))

    def summary(self) -> str:
        """A few short lines for a terminal or a log; counts of zero are left out."""
        rows = ", ".join(f"{split} {count}" for split, count in self.rows.items())
        sizes = ", ".join(f"{modality} {size}" for modality, size in self.feature_sizes.items()) or "none"
        lines = [
            f"{self.source}: {self.source_format}, {self.bytes} bytes, SHA-256 {self.sha256}",
            f"rows: {rows}",
            f"features per step: {sizes}",
            f"columns: {', '.join(self.columns)}",
            *(f"padding of {column}: {origin}" for column, origin in self.padding.items()),
            *(f"{column}: {words}: {_per_split(counts)}" for column, words, counts in self._nonzero_counts()),
        ]
        samples = {"a transcript": self.empty_text, "any modality": self.without_modality}
        lines += [
            f"samples without {what}: {_per_split(counts)}" for what, counts in samples.items() if any(counts.values())
        ]
        for what, *counts in self._emotion_rows():
            per_split = (f"{split} {count}" for split, count in zip(self.rows, counts, strict=True))
            lines.append(f"samples with {what}: {', '.join(per_split)}")
        if self.ignored_keys:
            lines.append(f"not carried over: {', '.join(self.ignored_keys)}")
        return "\n".join([*lines, *(f"warning: {warning}" for warning in self.warnings)])

    def card(self) -> str:
        """A dataset card in Markdown with a YAML header, for the folder or the Hub repository of the result."""
        header = [
            "---",
            f"pretty_name: {json.dumps('Converted from ' + self.source)}",
            "license: unknown",
            "tags:",
            "- multimodal-sentiment-analysis",
            "- sentimodal",
            "---",
        ]
        body = [
            f"# Converted from {_code(self.source)}",
            "## Source",
            f"The rows were converted by Sentimodal's `datasets_scripts` from one file, {_code(self.source)} "
            f"({self.source_format}, {self.bytes:,} bytes, SHA-256 `{self.sha256}`). The data is not part of "
            "Sentimodal: it belongs to the corpus that the file was made from, and that corpus's terms decide who may "
            "use and pass on these rows. Put its licence and its citation here before publishing them.",
            "## Rows",
            _table(("split", "rows", "without transcript", "without any modality"), self._row_counts()),
            "## Columns",
            _table(("column", "features per step", "meaning"), self._column_rows()),
            "Sequences are float32 without padding; a sequence of shape (0, width) says that the sample lacks that "
            "modality.",
        ]
        if self.emotions:
            body += ["## Emotions", _table(("samples with", *self.rows), self._emotion_rows())]
        body.append("## What the conversion changed")
        body += ["\n".join(f"- padding of `{column}`: {origin}" for column, origin in self.padding.items())]
        changes = [(f"`{column}`", words, *counts.values()) for column, words, counts in self._nonzero_counts()]
        body += [_table(("column", "what", *self.rows), changes) or "No value was changed."]
        if self.ignored_keys:
            body.append("Not carried over: " + ", ".join(_code(key) for key in self.ignored_keys) + ".")
        if self.warnings:
            body += ["## Warnings", "\n".join(f"- {warning}" for warning in self.warnings)]
        return "\n".join(header) + "\n\n" + "\n\n".join(part for part in body if part) + "\n"

    def _nonzero_counts(self) -> list[tuple[str, str, dict[str, int]]]:
        """(column, words, count per split) of every count that is not 0 in every split."""
        found = []
        for column in dict.fromkeys(column for tables in self.counts.values() for column in tables):
            for name, words in COUNT_DESCRIPTIONS.items():
                counts = {split: self.counts.get(split, {}).get(column, {}).get(name, 0) for split in self.rows}
                if any(counts.values()):
                    found.append((column, words, counts))
        return found

    def _row_counts(self) -> list[tuple[str, int, int, int]]:
        return [
            (split, count, self.empty_text.get(split, 0), self.without_modality.get(split, 0))
            for split, count in self.rows.items()
        ]

    def _emotion_rows(self) -> list[tuple]:
        """(words, count per split) of samples with any emotion and with each; empty where there are no emotions."""
        words = {"any": "at least one emotion", **{emotion: emotion for emotion in EMOTIONS}}
        if not self.emotions:
            return []
        return [(what, *(self.emotions[split][name] for split in self.rows)) for name, what in words.items()]

    def _column_rows(self) -> list[tuple[str, str, str]]:
        sizes = {f"{modality}_values": str(size) for modality, size in self.feature_sizes.items()}
        return [(f"`{column}`", sizes.get(column, ""), COLUMN_DESCRIPTIONS.get(column, "")) for column in self.columns]


def _per_split(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{split} {count}" for split, count in counts.items() if count)


def _code(text: str) -> str:
    """Text as Markdown code; a backtick inside would end it early."""
    return "`" + text.replace("`", "'").replace("\n", " ") + "`"


def _table(header: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """A Markdown table, or an empty string where there are no rows."""
    header, rows = list(header), [list(row) for row in rows]
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines) if rows else ""
