"""What a conversion did to a source file: counts, sizes, lengths and warnings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from typing import Any

from datasets_scripts.schema import EMOTIONS

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
    "left_out_values": "values that were not finite, left out of a word's mean",
    "sorted_sequences": "videos whose frames were not in order of time, sorted",
    "filled_steps": "words without a frame, filled with zeros",
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
        extractors: per modality whose features were extracted from media, what made them: `settings` (its name, rate,
            size, options and versions), `description` (in words) and `columns` (the names of the features, in order;
            empty where they have none). Empty where the source came with features.
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
    extractors: dict[str, dict[str, Any]] = field(default_factory=dict)
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
        """The report that `to_dict` gave, now or before some of the keys were there.

        Raises:
            ValueError: a key is unknown, or one is missing that has no default.
        """
        known = {item.name for item in fields(cls)}
        needed = {item.name for item in fields(cls) if item.default_factory is MISSING and item.default is MISSING}
        if not needed <= set(values) <= known:
            raise ValueError(
                f"`values` must have the keys {sorted(needed)}, and may have {sorted(known - needed)}, but "
                f"{sorted(values)} came; delete the converted folder and convert the source again."
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
        padding = "; ".join(f"{column} by {origin}" for column, origin in self.padding.items())
        corpus = [f"corpus: {self.corpus}"] if self.corpus else []
        lines = [
            f"{self.source}: {self.source_format}, {self.bytes} bytes, SHA-256 {self.sha256}",
            *corpus,
            f"rows: {rows}",
            f"features per step: {sizes}",
            *(f"{modality} extracted by {made['settings']['name']}" for modality, made in self.extractors.items()),
            f"columns: {', '.join(self.columns)}",
            *self._length_lines(),
            *([f"padding: {padding}"] if padding else []),
            *(f"{', '.join(columns)}: {words}: {_per_split(n)}" for columns, words, n in self.nonzero_counts()),
            *self._replaced_lines(),
        ]
        samples = {"a transcript": self.empty_text, "any modality": self.without_modality}
        lines += [
            f"samples without {what}: {_per_split(counts)}" for what, counts in samples.items() if any(counts.values())
        ]
        for what, counts in self.emotion_counts():
            lines.append(f"samples with {what}: " + ", ".join(f"{split} {count}" for split, count in counts.items()))
        if self.ignored_keys:
            lines.append(f"not carried over: {', '.join(self.ignored_keys)}")
        return "\n".join(one_line(line) for line in [*lines, *(f"warning: {warning}" for warning in self.warnings)])

    def nonzero_counts(self) -> list[tuple[list[str], str, dict[str, int]]]:
        """(columns, words, count per split) of every count that is not 0 in every split.

        Columns with the same counts, as those that are aligned have, are together.
        """
        names = dict.fromkeys(COUNT_DESCRIPTIONS)
        names.update(dict.fromkeys(name for tables in self.counts.values() for t in tables.values() for name in t))
        found: dict[tuple, tuple[list[str], str, dict[str, int]]] = {}
        for column in self._in_order({column for tables in self.counts.values() for column in tables}):
            for name in names:
                counts = {split: self.counts.get(split, {}).get(column, {}).get(name, 0) for split in self.rows}
                if any(counts.values()):
                    words = COUNT_DESCRIPTIONS.get(name, name)
                    found.setdefault((name, *counts.values()), ([], words, counts))[0].append(column)
        return list(found.values())

    def replaced_counts(self) -> dict[str, list[tuple[int, dict[str, int]]]]:
        """Per sequence column, (feature, count per split) of the features with replaced values, most of them first."""
        found: dict[str, list[tuple[int, dict[str, int]]]] = {}
        for column in self._in_order({column for tables in self.replaced.values() for column in tables}):
            tables = {split: self.replaced.get(split, {}).get(column, {}) for split in self.rows}
            features = {feature for table in tables.values() for feature in table}
            rows = [(int(f), {split: table.get(f, 0) for split, table in tables.items()}) for f in features]
            found[column] = sorted(rows, key=lambda row: (-sum(row[1].values()), row[0]))
        return found

    def emotion_counts(self) -> list[tuple[str, dict[str, int]]]:
        """(words, count per split) of samples with any emotion and with each; empty where there are no emotions."""
        words = {"any": "at least one emotion", **{emotion: emotion for emotion in EMOTIONS}}
        if not self.emotions:
            return []
        return [
            (what, {split: self.emotions.get(split, {}).get(name, 0) for split in self.rows})
            for name, what in words.items()
        ]

    def same_lengths(self) -> list[tuple[list[str], dict[str, list[int]]]]:
        """(columns, `lengths` per split): aligned columns, whose figures are the same in every split, are together."""
        found: dict[tuple, tuple[list[str], dict[str, list[int]]]] = {}
        for column in self._in_order({column for tables in self.lengths.values() for column in tables}):
            lengths = {split: table[column] for split, table in self.lengths.items() if column in table}
            key = tuple((split, *values) for split, values in lengths.items())
            found.setdefault(key, ([], lengths))[0].append(column)
        return list(found.values())

    def _in_order(self, columns: set[str]) -> list[str]:
        """Columns in the order in which they are written, others behind."""
        return [name for name in self.columns if name in columns] + sorted(columns - set(self.columns))

    def _length_lines(self) -> list[str]:
        """The steps of a row: medians per split, and the maximum of all."""
        lines = []
        for columns, lengths in self.same_lengths():
            medians = ", ".join(f"{split} {values[2]}" for split, values in lengths.items())
            longest = max(values[4] for values in lengths.values())
            lines.append(f"{', '.join(columns)}: median steps: {medians}; maximum {longest}")
        return lines

    def _replaced_lines(self) -> list[str]:
        """How many values of a column were replaced, and in how many of its features."""
        lines = []
        for column, rows in self.replaced_counts().items():
            total = sum(sum(counts.values()) for _, counts in rows)
            size = self.feature_sizes.get(column.removesuffix("_values"), len(rows))
            lines.append(f"{column}: {total} values replaced by 0, in {len(rows)} of {size} features")
        return lines


def one_line(text: str) -> str:
    """Text without line breaks and other characters that are not shown: names in a source can be anything."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def _per_split(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{split} {count}" for split, count in counts.items() if count)
