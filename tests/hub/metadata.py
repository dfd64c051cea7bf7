"""What the Hub requires of the metadata at the top of a README.md, as far as this project writes it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

FRONT_MATTER = re.compile(r"\A\s*---\r?\n(.*?)^---\s*$", re.DOTALL | re.MULTILINE)
REPO_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
LANGUAGE = re.compile(r"[a-z]{2,3}(-\w+)*|multilingual|code")
COLORS = ("red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray")
SDKS = ("gradio", "streamlit", "docker", "static")
REPO_ID_FIELDS = {"model": ("base_model", "datasets"), "dataset": (), "space": ("models", "datasets")}


def read_metadata(readme: str) -> Any:
    """The parsed YAML between the `---` lines; None without them. Raises yaml.YAMLError if it does not parse."""
    match = FRONT_MATTER.match(readme)
    return yaml.safe_load(match.group(1)) if match else None


def check_metadata(readme: str, repo_type: str) -> tuple[list[str], list[str]]:
    """Errors and warnings of a README.md, in the Hub's wording where it is known."""
    try:
        metadata = read_metadata(readme)
    except yaml.YAMLError as error:
        return [f"YAML Metadata Error: {error}"], []
    if metadata is None:
        return [], ["empty or missing yaml metadata in repo card"]
    if not isinstance(metadata, dict):
        return ["YAML Metadata Error: expected a mapping"], []
    errors = [*_list_errors(metadata), *_language_errors(metadata)]
    for field in REPO_ID_FIELDS[repo_type]:
        errors += [
            f'"{field}" with value "{value}" is not valid. Use an id from https://hf.co.'
            for value in _listed(metadata.get(field))
            if not REPO_ID.fullmatch(str(value))
        ]
    if repo_type == "space":
        errors += _space_errors(metadata)
    if repo_type == "model" and "model-index" in metadata:
        errors += _model_index_errors(metadata["model-index"])
    return errors, []


def _listed(value: Any) -> list:
    return [] if value is None else value if isinstance(value, list) else [value]


def _list_errors(metadata: dict) -> Iterator[str]:
    if not isinstance(metadata.get("tags", []), list):
        yield '"tags" must be an array'
    if not isinstance(metadata.get("pipeline_tag", ""), str):
        yield '"pipeline_tag" must be a string'


def _language_errors(metadata: dict) -> Iterator[str]:
    for number, language in enumerate(_listed(metadata.get("language"))):
        if not isinstance(language, str) or not LANGUAGE.fullmatch(language):
            yield (
                f'"language[{number}]" with value "{language}" is not valid. It must be an ISO 639-1, 639-2 or 639-3 '
                'code (two/three letters), or a special value like "code", "multilingual".'
            )


def _space_errors(metadata: dict) -> Iterator[str]:
    if metadata.get("sdk") not in SDKS:
        yield f'"sdk" must be one of [{", ".join(SDKS)}]'
    for field in ("colorFrom", "colorTo"):
        if field in metadata and metadata[field] not in COLORS:
            yield f'"{field}" must be one of [{", ".join(COLORS)}]'
    if len(str(metadata.get("short_description", ""))) > 60:
        yield '"short_description" length must be less than or equal to 60 characters long'


def _model_index_errors(index: Any) -> Iterator[str]:
    """A model-index is a list of models with a name, and results with a task, a dataset and metrics."""
    yield from _array_errors("model-index", index)
    for model_path, model in _entries("model-index", index):
        yield from _missing(model_path, model, ("name",))
        yield from _array_errors(f"{model_path}.results", _field(model, "results"))
        for path, result in _entries(f"{model_path}.results", _field(model, "results")):
            yield from _missing(f"{path}.task", _field(result, "task"), ("type",))
            yield from _missing(f"{path}.dataset", _field(result, "dataset"), ("name", "type"))
            yield from _array_errors(f"{path}.metrics", _field(result, "metrics"))
            for metric_path, metric in _entries(f"{path}.metrics", _field(result, "metrics")):
                yield from _missing(metric_path, metric, ("type", "value"))


def _field(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


def _array_errors(path: str, value: Any) -> Iterator[str]:
    if not isinstance(value, list):
        yield f'"{path}" must be an array'


def _entries(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    for number, entry in enumerate(value if isinstance(value, list) else []):
        yield f"{path}[{number}]", entry


def _missing(path: str, value: Any, names: tuple[str, ...]) -> Iterator[str]:
    for name in names:
        if _field(value, name) is None:
            yield f'"{path}.{name}" is required'
