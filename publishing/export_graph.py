"""A model as a graph that runs without its code: traced by `torch.export`, and as ONNX."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from modeling import MultimodalPreTrainedModel
from modeling.modeling_multimodal import longest_input
from publishing.exportable_layers import make_exportable
from training.trainer import MASKS

FORMATS = {"onnx": "model.onnx", "exported_program": "model.pt2"}
OUTPUTS = ("logits", "_state", "_mask_values")  # how the names of what is exported end: predictions, and what they show
TRACED_ROWS, TRACED_STEPS = 3, 37  # of the batch that is traced, one step less by modality; any others work
TEXT_ENCODER = "model.text_encoder"


class _Positional(nn.Module):
    """A model whose named arguments and outputs are tuples, which is what graphs have."""

    def __init__(self, model: nn.Module, inputs: Sequence[str], outputs: Sequence[str]):
        super().__init__()
        self.model = model
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)

    def forward(self, *values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        found = self.model(**dict(zip(self.inputs, values, strict=True)))
        return tuple(found[name] for name in self.outputs)


def input_shapes(model: MultimodalPreTrainedModel) -> dict[str, tuple[int, ...]]:
    """
    The graph's inputs, all of them always given: by name, the sizes behind (batch, steps), which token ids and masks do
    not have.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for modality in model.config.modalities:
        if modality == "text" and model.config.text_config is not None:
            encoder = model.get_submodule("text_encoder")
            shapes["input_ids"] = ()
            if "token_type_ids" in inspect.signature(encoder.forward).parameters:
                shapes["token_type_ids"] = ()
        else:
            shapes[f"{modality}_values"] = (getattr(model.config, f"{modality}_feature_size"),)
        shapes[MASKS[modality]] = ()
    return shapes


def random_batch(
    model: MultimodalPreTrainedModel, rows: int, steps: int, generator: torch.Generator
) -> dict[str, torch.Tensor]:
    """
    Inputs without padding. Text is cut to what its encoder reads.

    Args:
        rows, steps: The batch has (rows, steps) of every modality.
    """
    batch: dict[str, torch.Tensor] = {}
    for name, sizes in input_shapes(model).items():
        is_text = name in ("input_ids", "token_type_ids", MASKS["text"])
        shape = (rows, min(steps, longest_text(model) or steps) if is_text else steps, *sizes)
        if name == "input_ids":
            batch[name] = torch.randint(0, model.config.text_config.vocab_size, shape, generator=generator)
        elif name.endswith("_values"):
            batch[name] = torch.randn(shape, generator=generator)
        else:
            batch[name] = torch.full(shape, int(name != "token_type_ids"))
    return batch


def modality_of(name: str) -> str:
    """The modality that an argument of a model belongs to."""
    return next((modality for modality in ("audio", "vision") if name.startswith(modality)), "text")


def longest_text(model: MultimodalPreTrainedModel) -> int | None:
    """Tokens that the text encoder reads at most."""
    return None if model.config.text_config is None else longest_input(model.get_submodule("text_encoder"))


def write_graph(model: MultimodalPreTrainedModel, format: str, path: Path) -> list[str]:
    """
    Traces a model and writes its graph, for batches of any size and sequences of any length.

    Args:
        model: On the CPU, in evaluation mode, in float32.
        format: "onnx" or "exported_program".

    Returns:
        The names of the graph's outputs.

    Raises:
        ValueError: for a model that cannot be traced, with the reason.
    """
    whole = random_batch(model, TRACED_ROWS, TRACED_STEPS, torch.Generator().manual_seed(0))
    batch = {name: value[:, model.config.modalities.index(modality_of(name)) :] for name, value in whole.items()}
    with torch.no_grad():
        found = model(**batch)
    outputs = [name for name, value in found.items() if isinstance(value, torch.Tensor) and name.endswith(OUTPUTS)]
    graph = make_exportable(copy.deepcopy(model), onnx=format == "onnx")
    dynamic: Any = torch.export.Dim.DYNAMIC(min=1)
    tracing: Any = torch.fx.experimental._config
    try:
        # Without it, a size of one is another case to the tracer, which it leaves out.
        with torch.no_grad(), tracing.patch(backed_size_oblivious=True):
            program = torch.export.export(
                _Positional(graph, list(batch), outputs).eval(),
                tuple(batch.values()),
                dynamic_shapes={"values": tuple({0: dynamic, 1: dynamic} for _ in batch)},
                strict=False,
            )
            if format == "onnx":
                _write_onnx(program, list(batch), outputs, path)
            else:
                torch.export.save(program, path)
    except ImportError:
        raise
    except Exception as error:  # whatever the tracer or the converter says, in its own classes
        reason: BaseException = error
        while reason.__cause__ is not None:  # what was wrong, below the advice to the exporter's developers
            reason = reason.__cause__
        raise ValueError(
            f"{model.config.display_name} with this configuration cannot be exported as {format}; "
            f"{type(reason).__name__}: {str(reason).strip()}"
        ) from error
    return outputs


def _write_onnx(program, inputs: list[str], outputs: list[str], path: Path) -> None:
    import onnxscript  # noqa: F401  (says what is missing before the exporter does)

    converted = torch.onnx.export(
        program,
        input_names=inputs,
        output_names=outputs,
        dynamo=True,
        verbose=False,
        custom_translation_table={torch.ops.aten.sort.stable: _stable_sort},
    )
    assert converted is not None
    converted.save(str(path))


def _stable_sort(values: Any, stable: bool | None = None, dim: int = -1, descending: bool = False):
    """`torch.sort(stable=True)` of booleans: TopK, which takes the lower index first of equal values."""
    from onnxscript import opset20

    op: Any = opset20

    numbers = op.Cast(values, to=6)  # int32
    count = op.Gather(op.Shape(values), op.Constant(value_ints=[dim]))
    found, order = op.TopK(numbers, count, axis=dim, largest=int(descending), sorted=1)
    return op.Cast(found, to=values.dtype), order


def quantize_text_encoder(source: Path, target: Path) -> int:
    """
    Rewrites an ONNX graph of `write_graph` so that the text encoder multiplies in int8: weights by output channel,
    activations by tensor and at run time. The rest, embeddings included, stays in float32.

    Returns:
        How many products that are.

    Raises:
        ValueError: for a graph without a text encoder.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    graph = onnx.load(source)
    # The shapes that the exporter noted, which the quantiser infers again and takes for contradictions.
    graph.graph.ClearField("value_info")
    nodes = [
        node.name
        for node in graph.graph.node
        if node.op_type in ("MatMul", "Gemm")
        and any(p.key == "pkg.torch.onnx.name_scopes" and f"'{TEXT_ENCODER}'" in p.value for p in node.metadata_props)
    ]
    if not nodes:
        raise ValueError("int8 is for text encoders, and this checkpoint has none; leave it out.")
    quantize_dynamic(
        graph,
        target,
        nodes_to_quantize=nodes,
        per_channel=True,
        weight_type=QuantType.QInt8,
        use_external_data_format=source.with_name(f"{source.name}.data").is_file(),  # large, and too large for one file
    )
    quantized = onnx.load(target, load_external_data=False)
    return sum(node.op_type == "MatMulInteger" for node in quantized.graph.node)
