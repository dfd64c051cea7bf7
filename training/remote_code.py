"""
Puts the code of a checkpoint beside its weights, so that `AutoModel.from_pretrained(..., trust_remote_code=True)` and
`AutoProcessor` work in a process that cannot import the project.

`transformers` copies the file that defines a class, and what it imports relatively, from one flat folder. Here the
files lie in packages and import each other absolutely; the copies import relatively.
"""

from __future__ import annotations

import ast
import inspect
import sys
from pathlib import Path

from transformers import PreTrainedModel

from datasets_scripts.files import whole_file
from processing import MultimodalProcessor
from processing.pipeline_multimodal_sentiment import TASK, MultimodalSentimentPipeline

PACKAGES = ("configuration", "modeling", "processing")
# What config.json says of the pipeline; `transformers.pipeline` reads it.
PIPELINES = {
    TASK: {
        "impl": f"{MultimodalSentimentPipeline.__module__.rpartition('.')[2]}.{MultimodalSentimentPipeline.__name__}",
        "pt": ["AutoModelForSequenceClassification"],
    }
}
AUTO_MODELS = ("AutoModel", "AutoModelForSequenceClassification")


def write_checkpoint(folder: str | Path, model: PreTrainedModel, processor: MultimodalProcessor) -> None:
    """Model, processor and pipeline, with their code, as they are saved everywhere: for anyone to load."""
    model.config.auto_map, processor_map = auto_map(type(model), type(processor))
    model.config.custom_pipelines = PIPELINES  # type: ignore[attr-defined]
    processor.auto_map = processor_map  # type: ignore[attr-defined]  # the library's way of adding it to the file
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    config_class = model.config_class
    assert config_class is not None
    write_remote_code(folder, type(model), config_class, type(processor), MultimodalSentimentPipeline)


def auto_map(model_class: type[PreTrainedModel], processor_class: type) -> tuple[dict[str, str], dict[str, str]]:
    """`auto_map` of config.json and of processor_config.json: which file and class each Auto class finds."""
    model = f"{_file_stem(model_class)}.{model_class.__name__}"
    config_class = model_class.config_class
    assert config_class is not None, f"{model_class.__name__} names no configuration class"
    config = {"AutoConfig": f"{_file_stem(config_class)}.{config_class.__name__}"}
    config |= dict.fromkeys(AUTO_MODELS, model)
    return config, {"AutoProcessor": f"{_file_stem(processor_class)}.{processor_class.__name__}"}


def write_remote_code(folder: str | Path, *classes: type) -> list[Path]:
    """
    Copies the modules that define `classes`, and every first-party module that those import, into `folder`. Each of
    those that define a class names all the others at its end (see `_names`).

    Returns:
        The files written.

    Raises:
        ValueError: if two modules of different packages have the same file name, which a flat folder cannot hold.
    """
    waiting = [sys.modules[cls.__module__].__name__ for cls in classes]
    entries = {module.rpartition(".")[2] for module in waiting}
    sources: dict[str, tuple[str, str]] = {}
    while waiting:
        module = waiting.pop()
        stem = module.rpartition(".")[2]
        if stem in sources:
            if sources[stem][0] != module:
                raise ValueError(f"{sources[stem][0]} and {module} would both be {stem}.py in a checkpoint's folder.")
            continue
        text = Path(str(inspect.getsourcefile(sys.modules[module]))).read_text(encoding="utf-8")
        text, imported = relative_imports(text)
        sources[stem] = module, text
        waiting += imported
    written = []
    for stem, (_, text) in sorted(sources.items()):
        path = Path(folder) / f"{stem}.py"
        if stem in entries:
            text += _names(sorted(set(sources) - {stem}))
        with whole_file(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
        written.append(path)
    return written


def relative_imports(source: str) -> tuple[str, list[str]]:
    """
    Rewrites `from configuration.configuration_x import Y` to `from .configuration_x import Y`.

    Returns:
        The new source and the names of the modules that it imports.
    """
    lines = source.splitlines(keepends=True)
    modules: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if _first_party(alias.name):
                    raise ValueError(f"Write `from {alias.name} import ...`: published code needs relative imports.")
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module and _first_party(node.module):
            modules.append(node.module)
            stem = node.module.rpartition(".")[2]
            lines[node.lineno - 1] = lines[node.lineno - 1].replace(f"from {node.module} ", f"from .{stem} ", 1)
    return "".join(lines), modules


def _names(stems: list[str]) -> str:
    """
    Lines that import nothing, but in which `transformers` reads relative imports. It copies what a file names: with a
    model or processor that was loaded from a checkpoint and is saved again (the pipeline, too, which nothing imports),
    and, before 5.10, from a local folder nothing else, not what the named files import in turn.
    """
    comment = "# The files that belong to this one, for `transformers`, which copies what it finds named."
    return "\n".join(["", "", comment, "if False:", *(f"    from .{stem} import *" for stem in stems), ""])


def _first_party(module: str) -> bool:
    return module.partition(".")[0] in PACKAGES


def _file_stem(cls: type) -> str:
    return cls.__module__.rpartition(".")[2]
