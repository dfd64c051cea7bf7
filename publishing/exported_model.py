"""An exported model from its folder, to be called as the model that it was exported from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import pad
from transformers import AutoConfig
from transformers.utils import ModelOutput

import configuration  # noqa: F401  (registers the architectures)
from processing.optional_dependency import require

MANIFEST = "export.json"
EXTRA = "sentimodal[export]"


class ExportedModel:
    """
    Predicts as the checkpoint did, without its code: a graph that ONNX Runtime or PyTorch runs, on the CPU.

    ```python
    from processing import MultimodalProcessor, MultimodalSentimentPipeline
    from publishing.exported_model import ExportedModel

    processor = MultimodalProcessor.from_pretrained(FOLDER)
    model = ExportedModel(FOLDER)
    model(**processor(text=["what a film"])).logits  # (1, num_labels)
    MultimodalSentimentPipeline(model=model, processor=processor, device="cpu")("what a film")
    ```

    Args:
        folder: What `export.py` wrote.
        trust_remote_code (`bool`): A `model.pt2` is loaded by `torch.export.load`, which can be made to run code that
            the file brings; say True for a file of your own. ONNX files bring none.
        threads (`int`, *optional*): As many as PyTorch has, by default.

    Attributes:
        config: The checkpoint's configuration.
        manifest (`dict`): What export.json says: inputs, outputs, versions, the differences that were measured.

    Raises:
        FileNotFoundError: for a folder without an exported model.
        ValueError: for a `model.pt2` that was not said to be trusted.
        ImportError: without ONNX Runtime.
    """

    device = torch.device("cpu")
    dtype = torch.float32
    training = False
    input_modalities = ("text", "audio", "video")

    def __init__(self, folder: str | Path, trust_remote_code: bool = False, threads: int | None = None):
        folder = Path(folder)
        if not (folder / MANIFEST).is_file():
            raise FileNotFoundError(f"{folder} has no {MANIFEST}; give a folder that export.py wrote.")
        self.manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        self.config = AutoConfig.from_pretrained(folder)
        file = folder / self.manifest["file"]
        if self.manifest["format"] == "onnx":
            self._run = _onnx_graph(file, threads or torch.get_num_threads())
        elif trust_remote_code:
            self._run = _exported_program(file)
        else:
            raise ValueError(
                f"{file} is an ExportedProgram, and a file of that format can run code as it is loaded. If it is your "
                "own, say `trust_remote_code=True`; exported as onnx it brings no code."
            )

    def __call__(self, **batch: torch.Tensor | None) -> ModelOutput:
        """
        Args:
            batch: What the processor gives, or the model's `forward` takes, without labels. What is absent is missing.

        Returns:
            `ModelOutput`: the outputs that the manifest names, under the names that the model gave them.

        Raises:
            ValueError: for arguments that the model has no use for, of the wrong shape, for none at all; for a batch
                without samples.
        """
        found = self._run(self._inputs({name: value for name, value in batch.items() if value is not None}))
        return ModelOutput(zip(self.manifest["outputs"], found, strict=True))

    def eval(self) -> ExportedModel:
        """Itself: it has nothing but evaluation."""
        return self

    def train(self, mode: bool = True) -> ExportedModel:
        """
        Raises:
            ValueError: where it is to be trained.
        """
        if mode:
            raise ValueError("An exported model cannot be trained; train the checkpoint and export it again.")
        return self

    def to(self, device: Any) -> ExportedModel:
        """
        Raises:
            ValueError: for another device than the CPU.
        """
        if torch.device(device).type != "cpu":
            raise ValueError(f"An exported model runs on the CPU; got {device}.")
        return self

    def can_generate(self) -> bool:
        """What pipelines ask of a model."""
        return False

    def _inputs(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """All inputs of the graph: those that came, checked, and for what is absent one masked step."""
        modalities = self.manifest["inputs"]
        names = [name for one in modalities.values() for name in one]
        unknown = [name for name in batch if name not in names]
        if unknown:
            raise ValueError(f"`{unknown[0]}` came, but this exported model reads {', '.join(names)}; leave it out.")
        first = next((batch[next(iter(one))] for one in modalities.values() if next(iter(one)) in batch), None)
        if first is None:
            raise ValueError(f"No modality came; give at least one of {', '.join(next(iter(m)) for m in modalities)}.")
        rows, inputs = first.shape[0], {}
        if rows == 0:  # on which ONNX Runtime's LSTM ends the process
            raise ValueError("The batch has no samples; give at least one.")
        for modality, described in modalities.items():
            main = next(iter(described))
            steps = batch[main].shape[1] if main in batch and batch[main].dim() > 1 else 0
            longest = self.manifest["longest_text"] if modality == "text" else None
            if longest is not None and steps > longest:
                raise ValueError(
                    f"`{main}` has {steps} tokens but the text encoder reads at most {longest}; truncate the text with "
                    "the processor's `max_text_length`."
                )
            for name, one in described.items():
                shape = (rows, steps, *one["shape"][2:])
                is_mask = name.endswith("attention_mask")
                absent = torch.ones if main in batch and is_mask else torch.zeros
                value = batch[name] if name in batch and main in batch else absent(shape)  # no mask of what is absent
                if tuple(value.shape) != shape:
                    raise ValueError(f"`{name}` must have the shape {shape}; got {tuple(value.shape)}.")
                value = (value != 0 if is_mask else value).to("cpu", getattr(torch, one["dtype"]))
                inputs[name] = pad(value, (0, 0) * (value.dim() - 2) + (0, 1)) if steps == 0 else value
        return inputs


def _onnx_graph(file: Path, threads: int):
    runtime = require("onnxruntime", "An exported model", EXTRA)
    settings = runtime.SessionOptions()
    settings.intra_op_num_threads = threads
    session = runtime.InferenceSession(str(file), settings, providers=["CPUExecutionProvider"])
    used = [one.name for one in session.get_inputs()]

    def run(inputs: dict[str, torch.Tensor]) -> list[torch.Tensor]:
        found = session.run(None, {name: np.ascontiguousarray(inputs[name].numpy()) for name in used})
        return [torch.from_numpy(value) for value in found]

    return run


def _exported_program(file: Path):
    # What the tracer found true of the sizes that it happened to see is no condition: a text of one token is as good.
    module = torch.export.load(file).module(check_guards=False)

    def run(inputs: dict[str, torch.Tensor]) -> list[torch.Tensor]:
        with torch.no_grad():
            return list(module(*inputs.values()))

    return run
