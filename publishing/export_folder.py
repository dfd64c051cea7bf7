"""The folder of an exported checkpoint: graph, processor, configuration, and a manifest that says what was measured."""

from __future__ import annotations

import copy
import platform
import shutil
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import pad
from transformers import AutoModel, AutoProcessor

import modeling  # noqa: F401  (registers the architectures)
import processing  # noqa: F401
from datasets_scripts.files import write_json
from publishing.export_graph import (
    FORMATS,
    MASKS,
    input_shapes,
    longest_text,
    modality_of,
    quantize_text_encoder,
    random_batch,
    write_graph,
)
from publishing.exported_model import MANIFEST, ExportedModel
from training.remote_code import auto_map, write_remote_code

TOLERANCE = 1e-4
PACKAGES = ("torch", "transformers", "onnx", "onnxruntime", "onnxscript")
CHECKED = ((1, 1), (1, 30), (2, 3), (5, 41))  # rows and steps of the batches that are compared


def export_checkpoint(
    source: str | Path, folder: Path, format: str = "onnx", int8: bool = False, tolerance: float = TOLERANCE
) -> dict[str, Any]:
    """
    Fills an empty folder with a checkpoint as a graph, and what feeds and describes it.

    The graph's outputs are compared with the model's on random batches (see `comparisons`). With int8, that is done
    before the text encoder is quantised, and the differences after it are measured, too.

    Args:
        source: The folder of a run, or an id on the Hub.
        folder: Exists and is empty.
        format: One of `FORMATS`.
        int8: Whether the text encoder multiplies in int8; of ONNX alone.
        tolerance: The largest difference that is let through, relative to values above 1.

    Returns:
        The manifest, which is also written.

    Raises:
        ValueError: for a model that cannot be exported, or that predicts differently then.
        ImportError: without onnx, onnxscript or onnxruntime, where they are needed.
    """
    if int8 and format != "onnx":
        raise ValueError(f"int8 is of the format onnx; got {format}.")
    model = AutoModel.from_pretrained(source, dtype=torch.float32).eval()
    processor = AutoProcessor.from_pretrained(source)
    if int8 and model.config.text_config is None:
        raise ValueError("int8 is for text encoders, and this checkpoint has none; leave it out.")
    outputs = write_graph(model, format, folder / FORMATS[format])
    _write_surroundings(folder, model, processor)
    manifest = describe(model, format, outputs)
    manifest["check"] = {"tolerance": tolerance, "largest_difference": {}}
    write_manifest(folder, manifest)
    found = largest_differences(model, _load(folder))
    if not max(found.values()) <= tolerance:
        raise ValueError(
            f"{source} is not exported: as {format}, {max(found, key=lambda name: found[name])} differs by "
            f"{max(found.values()):.2g} from what the model computes, and {tolerance:.2g} is let through. Export it in "
            "the other format, or say a larger tolerance."
        )
    manifest["check"]["largest_difference"] = found
    if int8:
        graph = folder / FORMATS[format]
        exact = folder / "float32"
        exact.mkdir()
        for file in folder.glob(f"{graph.name}*"):  # large weights are in a file beside the graph
            file.rename(exact / file.name)
        manifest["int8_products"] = quantize_text_encoder(exact / graph.name, graph)
        shutil.rmtree(exact)
        manifest["check"]["largest_difference_int8"] = largest_differences(model, _load(folder))
    write_manifest(folder, manifest)
    return manifest


def largest_differences(model, exported: ExportedModel) -> dict[str, float]:
    """By output, the largest difference over all comparisons, relative to values above 1; infinite for NaN."""
    worst = dict.fromkeys(exported.manifest["outputs"], 0.0)
    for batch in comparisons(model):
        with torch.no_grad():
            expected = model(**batch)
        found = exported(**batch)
        for name in worst:
            if found[name].shape != expected[name].shape:
                raise ValueError(
                    f"`{name}` of the graph has the shape {tuple(found[name].shape)}, and the model's "
                    f"{tuple(expected[name].shape)}: it does not follow the batch. Export it in the other format."
                )
            difference = (found[name] - expected[name]).abs() / expected[name].abs().clamp(min=1.0)
            largest = float(difference.nan_to_num(nan=float("inf")).max())
            worst[name] = max(worst[name], largest)
    return worst


def comparisons(model) -> Iterator[dict[str, torch.Tensor]]:
    """Random batches: of several sizes and lengths, padded on either side, without each modality in one row and all."""
    generator = torch.Generator().manual_seed(1)
    modalities = model.config.modalities
    for rows, steps in CHECKED:
        whole = random_batch(model, rows, steps, generator)
        yield whole
        padded = {}
        for name, value in _shortened(whole).items():
            behind = 1 + modalities.index(modality_of(name))  # so that modalities differ in steps
            padded[name] = pad(value, (0, 0) * (value.dim() - 2) + (2, behind))
        yield padded
        for modality in modalities:
            first_lacks_it = dict(whole)
            first_lacks_it[MASKS[modality]] = whole[MASKS[modality]].clone()
            first_lacks_it[MASKS[modality]][0] = 0
            yield first_lacks_it
            if len(modalities) > 1:
                yield {name: value for name, value in whole.items() if modality_of(name) != modality}


def _shortened(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Without three steps, for padding in their place, and with rows of lengths of their own."""
    shorter = {name: value[:, : max(value.shape[1] - 3, 1)] for name, value in batch.items()}
    for name in set(MASKS.values()) & set(shorter):
        steps = torch.arange(shorter[name].shape[1])
        lengths = steps.numel() - torch.arange(len(shorter[name])) * 3
        shorter[name] = (steps < lengths.clamp(min=1).unsqueeze(1)).long()
    return shorter


def describe(model, format: str, outputs: list[str]) -> dict[str, Any]:
    """The manifest of a graph, but for what is measured."""
    inputs: dict[str, dict[str, Any]] = {modality: {} for modality in model.config.modalities}
    for name, sizes in input_shapes(model).items():
        modality = modality_of(name)
        described = {"dtype": "float32" if sizes else "int64", "shape": ["batch", f"{modality} steps", *sizes]}
        inputs[modality][name] = described
    return {
        "architecture": model.config.model_type,
        "format": format,
        "file": FORMATS[format],
        "int8_products": 0,
        "inputs": inputs,
        "outputs": outputs,
        "longest_text": longest_text(model),
        "versions": {"python": platform.python_version(), **dict(_versions())},
    }


def _versions() -> Iterator[tuple[str, str]]:
    for package in PACKAGES:
        try:
            yield package, version(package)
        except PackageNotFoundError:
            continue


def _write_surroundings(folder: Path, model, processor) -> None:
    """The processor and the configuration, with their code, as beside weights; no model's code."""
    config = copy.deepcopy(model.config)
    maps, processor.auto_map = auto_map(type(model), type(processor))
    config.auto_map = {"AutoConfig": maps["AutoConfig"]}
    if hasattr(config, "custom_pipelines"):
        del config.custom_pipelines
    config.save_pretrained(folder)
    processor.save_pretrained(folder)
    write_remote_code(folder, type(config), type(processor))


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    write_json(folder / MANIFEST, manifest)


def _load(folder: Path) -> ExportedModel:
    return ExportedModel(folder, trust_remote_code=True)  # it was written a moment ago
