"""The dataset card of a prepared folder: README.md with a YAML header that the Hub and `datasets` read."""

from __future__ import annotations

import math
import re
from typing import Any
from urllib.parse import quote

import yaml

from datasets_scripts import corpora
from datasets_scripts.cards.extractor_words import extractor_words
from datasets_scripts.cards.label_plot import finite_labels, label_picture
from datasets_scripts.cards.markdown import code, item, prose, table
from datasets_scripts.corpora import CorpusInfo, FeatureSet
from datasets_scripts.report import ConversionReport, one_line
from datasets_scripts.schema import COLUMN_DESCRIPTIONS, MODALITIES, SEQUENCES

__all__ = ["dataset_card", "label_picture"]

# How many features with replaced values, and how many keys, are named one by one.
_MAX_FEATURES = 10
_MAX_KEYS = 50
# Of the Hub; each modality of the rows stands for one.
_TASKS = {"text": "text-classification", "audio": "audio-classification", "vision": "video-classification"}


def dataset_card(report: ConversionReport, files: dict[str, list[str]], picture: str | None = None) -> str:
    """The card, in Markdown with a YAML header.

    Whatever comes from the source, such as its name and its keys, is escaped.

    Args:
        report: what the conversion did.
        files: per split, names of its Parquet files relative to the card, or globs of them.
        picture: name of the picture that `label_picture` drew, relative to the card; None where there is none.
    """
    info = corpora.CORPORA.get(report.corpus) if report.corpus is not None else None
    sections = [
        _introduction(report, info),
        _terms(report, info),
        _warnings(report),
        _splits(report, info),
        _columns(report, info),
        _features(report),
        _lengths(report),
        _labels(report, info, picture),
        _emotions(report),
        _conversion(report),
        _loading(report),
    ]
    return (
        f"---\n{_header(report, info, files)}---\n\n" + "\n\n".join(section for section in sections if section) + "\n"
    )


def _header(report: ConversionReport, info: CorpusInfo | None, files: dict[str, list[str]]) -> str:
    source, modalities = one_line(report.source)[:200], _modalities(report)
    header: dict[str, Any] = {"pretty_name": f"{info.name} ({source})" if info else f"Converted from {source}"}
    if info and info.language:
        header["language"] = [info.language]
    header["license"] = "other" if info else "unknown"
    if info:
        header["license_name"] = re.sub(r"[^a-z0-9.]+", "-", f"{info.name} terms".lower())
        header["license_link"] = info.homepage
    header["task_categories"] = [_TASKS[modality] for modality in modalities]
    if "text" in modalities and report.labels:
        header["task_ids"] = ["sentiment-scoring"]
    emotions = ["emotion-recognition"] if report.emotions else []
    header["tags"] = ["multimodal-sentiment-analysis", "sentimodal", *emotions, *modalities]
    header["size_categories"] = [_size_category(sum(report.rows.values()))]
    data_files = [{"split": split, "path": list(names)} for split, names in files.items()]
    header["configs"] = [{"config_name": "default", "data_files": data_files}]
    header = {name: value for name, value in header.items() if value}
    return yaml.safe_dump(header, sort_keys=False, allow_unicode=True, width=math.inf)


def _modalities(report: ConversionReport) -> list[str]:
    """Those that some row has."""
    text = "input_ids" in report.columns or sum(report.empty_text.values()) < sum(report.rows.values())
    return [modality for modality in MODALITIES if modality in report.feature_sizes or (modality == "text" and text)]


def _size_category(rows: int) -> str:
    """The Hub's name of a number of rows, such as 1K<n<10K."""
    bounds = ["1K", "10K", "100K", "1M", "10M", "100M", "1B"]
    for index, bound in enumerate(bounds):
        if rows < 1000 * 10**index:
            return f"{bounds[index - 1]}<n<{bound}" if index else f"n<{bound}"
    return "1B<n<10B"


def _introduction(report: ConversionReport, info: CorpusInfo | None) -> str:
    source = code(report.source)
    contents = _listed([{"text": "text", "audio": "voice", "vision": "face"}[m] for m in _modalities(report)])
    samples = f"{sum(report.rows.values()):,} samples" + (f" of {contents}" if contents else "")
    rows = (
        f"{samples}, one per row, converted by Sentimodal from {source} ({prose(report.source_format)}, "
        f"{report.bytes:,} bytes, SHA-256 {code(report.sha256)})."
    )
    if info is None:
        return f"# Converted from {source}\n\n{rows}"
    return f"# {info.name}, from {source}\n\n{info.description}\n\n{info.people}\n\n{rows}"


def _terms(report: ConversionReport, info: CorpusInfo | None) -> str:
    if info is None:
        hint = ""
        if corpora.CORPORA and report.options.get("corpus") != "none":
            names = ", ".join(code(name) for name in corpora.CORPORA)
            hint = f"\n\nIf it is one of {names}, prepare the source again with `--corpus NAME` to have its terms here."
        return (
            "## Terms\n\nWhich corpus these rows are from was not recognised. They belong to it, not to Sentimodal, "
            "and its terms say who may use them. **Keep this repository private unless those terms allow you to pass "
            f"them on.** Put the corpus' licence and its citation here.{hint}"
        )
    owner = (
        f"**These rows belong to {info.name}, not to Sentimodal. Keep this repository private unless the terms of the "
        "corpus allow you to pass them on.**"
    )
    address = f"Homepage: <{info.homepage}>" if info.homepage else ""
    parts = [owner, info.licence, info.request, address]
    if info.citation:
        parts.append(f"Cite the corpus:\n\n```bibtex\n{info.citation.strip()}\n```")
    return "## Terms\n\n" + "\n\n".join(part for part in parts if part)


def _warnings(report: ConversionReport) -> str:
    return "## Warnings\n\n" + "\n".join(item("-", text) for text in report.warnings) if report.warnings else ""


def _splits(report: ConversionReport, info: CorpusInfo | None) -> str:
    standard = info.splits if info else {}
    total = sum(report.rows.values())
    rows = []
    for split in dict.fromkeys([*report.rows, *standard]):
        count = report.rows.get(split, 0)
        cells = [split, count, _share(count, total), report.empty_text.get(split, 0)]
        rows.append([*cells, report.without_modality.get(split, 0)])
    if len(rows) > 1:
        missing = (sum(report.empty_text.values()), sum(report.without_modality.values()))
        rows.append(["all", total, _share(total, total), *missing])
    header = ["split", "rows", "share", "without transcript", "without any modality"]
    if standard:
        sizes = {**standard, "all": sum(standard.values())}
        header.append("standard rows")
        rows = [[*row, sizes.get(str(row[0]), 0)] for row in rows]
    return "## Splits\n\n" + table(header, rows)


def _columns(report: ConversionReport, info: CorpusInfo | None) -> str:
    meanings = dict(COLUMN_DESCRIPTIONS)
    if info is not None:
        low, high = info.label_range
        meanings["label"] = f"sentiment of the sample, in [{low:g}, {high:g}]. {info.label_meaning}"
    sizes = {f"{modality}_values": f"{size:,}" for modality, size in report.feature_sizes.items()}
    rows = [(code(column), sizes.get(column, ""), meanings.get(column, "")) for column in report.columns]
    sequences = (
        "Sequences are float32 and without padding; one of shape (0, width) says that the sample lacks the modality."
    )
    return "\n\n".join(
        ["## Columns", table(("column", "features per step", "meaning"), rows), *([sequences] if sizes else [])]
    )


def _features(report: ConversionReport) -> str:
    """What extracted them; or the published features that a column may hold, judged by their number alone."""
    if report.extractors:
        made = [extractor_words(modality, one) for modality, one in report.extractors.items()]
        return "\n\n".join(["## Features", *made])
    known = {modality: _feature_set(report, modality) for modality in report.feature_sizes}
    if not known:
        return ""
    if not any(known.values()):
        return "## Features\n\nWhat the features of a step are is not known."
    remark = (
        "The source does not name the features of a step. The published set with as many is given; check that it is "
        "the one before you rely on the names."
    )
    parts = [_feature_names(modality, report.feature_sizes[modality], one) for modality, one in known.items()]
    return "\n\n".join(["## Features", remark, *parts])


def _feature_names(modality: str, size: int, known: FeatureSet | None) -> str:
    column = f"{code(f'{modality}_values')}, {size:,} features"
    if known is None:
        return f"{column}: not known."
    remarks = "; ".join(remark for remark in (known.steps, known.source) if remark)
    text = f"{column}: as many as **{known.name}** has{f' ({remarks})' if remarks else ''}."
    if not known.columns:
        return f"{text} No names of the features were published."
    names = "\n".join(item(f"{index}.", name) for index, name in enumerate(known.columns))
    summary = f"<summary>The {size:,} features of {known.name}, in order</summary>"
    return f"{text}\n\n<details>{summary}\n\n{names}\n\n</details>"


def _feature_set(report: ConversionReport, modality: str) -> FeatureSet | None:
    if modality in report.extractors:  # one of as many features would be another one
        return None
    corpus = report.corpus if report.corpus in corpora.CORPORA else None
    return corpora.feature_set(corpus, modality, report.feature_sizes.get(modality, 0))


def _lengths(report: ConversionReport) -> str:
    rows = [
        [", ".join(code(column) for column in columns), split, *values]
        for columns, lengths in report.same_lengths()
        for split, values in lengths.items()
    ]
    header = ("column", "split", "minimum", "lower quartile", "median", "upper quartile", "maximum")
    return f"## Steps per row\n\n{table(header, rows)}" if rows else ""


def _labels(report: ConversionReport, info: CorpusInfo | None, picture: str | None) -> str:
    parts = ["## Labels"]
    if picture is not None:
        parts.append(f"![Histograms of the labels of each split]({quote(picture)})")
    rows = [_label_row(split, finite_labels(report, split), count) for split, count in report.rows.items()]
    rows = [row for row in rows if row]
    if rows:
        header = ("split", "with label", "range", "mean", "standard deviation", "negative", "zero", "positive")
        parts += [table(header, rows), "Computed from the labels rounded to two decimals."]
    return "\n\n".join(parts) if parts[1:] else ""


def _label_row(split: str, counts: dict[int, int], rows: int) -> list[object]:
    total = sum(counts.values())
    if not total:
        return []
    labels = {hundredths / 100: count for hundredths, count in counts.items()}
    mean = math.fsum(label * count for label, count in labels.items()) / total
    deviation = math.sqrt(math.fsum((label - mean) ** 2 * count for label, count in labels.items()) / total)
    signs = [sum(count for label, count in labels.items() if (label > 0) - (label < 0) == sign) for sign in (-1, 0, 1)]
    shares = [f"{count:,} ({_share(count, total)})" for count in signs]
    return [split, total, f"{min(labels):g} to {max(labels):g}", f"{mean:.2f}", f"{deviation:.2f}", *shares]


def _emotions(report: ConversionReport) -> str:
    rows = [
        (what, *(f"{count:,} ({_share(count, report.rows[split])})" for split, count in counts.items()))
        for what, counts in report.emotion_counts()
    ]
    return f"## Emotions\n\n{table(('samples with', *report.rows), rows)}" if rows else ""


def _conversion(report: ConversionReport) -> str:
    parts = ["## What the conversion changed"]
    if report.padding:
        parts.append("\n".join(f"- padding of {code(name)}: {prose(how)}" for name, how in report.padding.items()))
    if report.options:
        options = ", ".join(f"{code(name)} = {code(str(value))}" for name, value in report.options.items())
        parts.append(f"Options: {options}.")
    changes = [
        (", ".join(code(column) for column in columns), prose(words), *counts.values())
        for columns, words, counts in report.nonzero_counts()
    ]
    parts.append(table(("column", "what", *report.rows), changes) or "No value was changed.")
    parts += [_replaced(report, column, rows) for column, rows in report.replaced_counts().items()]
    if report.ignored_keys:
        named = ", ".join(code(key) for key in report.ignored_keys[:_MAX_KEYS])
        more = len(report.ignored_keys) - _MAX_KEYS
        parts.append(f"Not carried over: {named}{f' and {more:,} more' if more > 0 else ''}.")
    return "\n\n".join(parts)


def _replaced(report: ConversionReport, column: str, rows: list[tuple[int, dict[str, int]]]) -> str:
    """Which features of a column had values that were not finite, the most frequent first."""
    known = _feature_set(report, column.removesuffix("_values"))
    names = dict(enumerate(known.columns)) if known else {}
    shown = [
        (feature, *([prose(names.get(feature, ""))] if names else []), *counts.values())
        for feature, counts in rows[:_MAX_FEATURES]
    ]
    header = ("feature", *([f"name in {known.name}"] if known and names else []), *report.rows)
    text = f"Values of {code(column)} that were not finite and are 0 now, by feature (counted from 0):\n\n"
    text += table(header, shown)
    if rest := rows[_MAX_FEATURES:]:
        values = sum(sum(counts.values()) for _, counts in rest)
        text += f"\n\nand {values:,} values of {len(rest):,} other feature{'s' if rest[1:] else ''}."
    return text


def _loading(report: ConversionReport) -> str:
    split = next((split for split, count in report.rows.items() if count), "train")
    column = next((name for name in reversed(SEQUENCES) if name in report.columns), "text")
    return f"""## Loading

```python
from datasets import load_dataset

rows = load_dataset("FOLDER").with_format("numpy")  # this folder, or ORG/NAME on the Hub
rows["{split}"][0]["{column}"]
```

`load_dataset("FOLDER", streaming=True)` reads the rows one after another, without a copy on disk. Sentimodal trains on
the folder with `python train.py RECIPE --data_file FOLDER`."""


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "-"


def _listed(words: list[str]) -> str:
    """Words as in a sentence: a, b and c."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
