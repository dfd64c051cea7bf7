"""Exported graphs give what the checkpoints give, whatever comes in; what cannot be exported or loaded says why."""

import copy
import importlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from transformers import MODEL_MAPPING

import export
from modeling import LfLstmModel, TfnModel
from modeling.gated_memory import CellStateLSTM, GatedMemory
from modeling.modality_sequence import longest
from modeling.valid_steps import PaddedSteps
from processing import MultimodalProcessor, MultimodalSentimentPipeline
from publishing.export_folder import comparisons, describe, export_checkpoint, largest_differences, write_manifest
from publishing.export_graph import write_graph
from publishing.exportable_layers import make_exportable
from publishing.exported_model import ExportedModel
from tests.strangers import TEXTS, checkpoint, run_alone
from tests.test_modeling_common import ARCHITECTURES, INPUTS, MAIN, make_batch, make_config, padded

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
VISION = {"vision_feature_size": 4}
ONE_LAYER = {  # what takes long is to trace layers of attention, all of them alike
    architecture: {"num_hidden_layers": 1}
    for architecture, fields in ARCHITECTURES.items()
    if {"num_hidden_layers", "num_attention_heads"} <= fields.keys()
}


@pytest.fixture(scope="module")
def tfn(tmp_path_factory):
    """A checkpoint of TFN with text and audio, its model, and the folder of its export."""
    place = tmp_path_factory.mktemp("tfn")
    model, _ = checkpoint(place / "run", model_class=TfnModel)
    (place / "onnx").mkdir()
    export_checkpoint(place / "run", place / "onnx")
    return place, model


def test_same_outputs_as_the_checkpoint(tfn):
    place, model = tfn
    exported = ExportedModel(place / "onnx")
    batch = {
        "input_ids": torch.tensor([[2, 3, 4], [4, 4, 0]]),
        "attention_mask": torch.tensor([[1, 1, 1], [1, 1, 0]]),
        "audio_values": torch.randn(2, 9, 5),
        "audio_attention_mask": torch.tensor([[0] * 4 + [1] * 5, [1] * 9]),
    }
    with torch.no_grad():
        expected = model(**batch)
    found = exported(**batch)
    assert found.keys() == {name for name in expected if name.endswith(("logits", "_state"))}
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("absent", ["input_ids", "audio_values"])
def test_missing_modality(tfn, absent):
    place, model = tfn
    whole = {"input_ids": torch.tensor([[2, 3, 4]]), "audio_values": torch.randn(1, 6, 5)}
    batch = {name: value for name, value in whole.items() if name != absent}
    with torch.no_grad():
        expected = model(**batch).logits
    exported = ExportedModel(place / "onnx")
    torch.testing.assert_close(exported(**batch).logits, expected, atol=1e-5, rtol=1e-5)
    state = {"input_ids": "text_state", "audio_values": "audio_state"}[absent]
    assert not exported(**batch)[state].any() and exported(**whole)[state].any()


@pytest.mark.parametrize("mask", [[[1, 1, 0]], [[True, True, False]], [[0.5, 2.0, 0.0]]], ids=["int", "bool", "float"])
def test_masks_mean_what_they_mean_to_the_checkpoint(tfn, mask):
    """What is not zero is valid, and a mask of what did not come says nothing."""
    place, model = tfn
    batch = {"input_ids": torch.tensor([[2, 3, 4]]), "attention_mask": torch.tensor(mask)}
    batch["audio_attention_mask"] = torch.ones(1, 6)
    with torch.no_grad():
        expected = model(**batch).logits
    torch.testing.assert_close(ExportedModel(place / "onnx")(**batch).logits, expected, atol=1e-5, rtol=1e-5)


def test_pipeline_gives_the_same(tfn):
    place, model = tfn
    processor = MultimodalProcessor.from_pretrained(place / "onnx")
    rows = [{"text": text} for text in TEXTS["text"] if text]
    predictions = [
        MultimodalSentimentPipeline(model=one, processor=processor, device="cpu")(rows, batch_size=2)
        for one in (model, ExportedModel(place / "onnx"))
    ]
    for first, second in zip(*predictions, strict=True):
        assert first["score"] == pytest.approx(second["score"], abs=1e-5)


def test_folder_says_what_it_is(tfn):
    place, _ = tfn
    manifest = json.loads((place / "onnx" / "export.json").read_text())
    assert manifest["inputs"]["audio"]["audio_values"] == {"dtype": "float32", "shape": ["batch", "audio steps", 5]}
    assert max(manifest["check"]["largest_difference"].values()) <= manifest["check"]["tolerance"]
    assert {"torch", "onnx", "onnxruntime"} <= manifest["versions"].keys()
    assert not list((place / "onnx").glob("modeling_*.py")) and not list((place / "onnx").glob("*.safetensors"))


STRANGER = """
import json
import onnxruntime
from transformers import AutoProcessor
processor = AutoProcessor.from_pretrained(question, trust_remote_code=True)
session = onnxruntime.InferenceSession(question + "/model.onnx")
inputs = processor(text=["a good"], audio_values=[[[1.0] * 5] * 3])
given = {name: value.numpy() for name, value in inputs.items()} | {"token_type_ids": 0 * inputs["input_ids"].numpy()}
found = session.run(["logits"], {one.name: given[one.name] for one in session.get_inputs()})
print(json.dumps(found[0].tolist()))
"""


@pytest.mark.slow
def test_stranger_with_onnxruntime_alone(tfn, tmp_path):
    place, model = tfn
    processor = MultimodalProcessor.from_pretrained(place / "onnx")
    with torch.no_grad():
        expected = model(**processor(text=["a good"], audio_values=[[[1.0] * 5] * 3])).logits
    found = run_alone(STRANGER, str(place / "onnx"), tmp_path)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({}, "No modality came"),
        ({"vision_values": torch.zeros(1, 2, 3)}, "`vision_values` came"),
        ({"labels": torch.zeros(1), "input_ids": torch.zeros(1, 2).long()}, "`labels` came"),
        ({"audio_values": torch.zeros(1, 2, 4)}, "must have the shape"),
        (
            {"audio_values": torch.zeros(2, 2, 5), "audio_attention_mask": torch.ones(2, 3)},
            "`audio_attention_mask` must have the shape",
        ),
        ({"audio_values": torch.zeros(2, 2, 5), "input_ids": torch.zeros(3, 2).long()}, "must have the shape"),
        ({"input_ids": torch.zeros(1, 600).long()}, "reads at most 512"),
        ({"audio_values": torch.zeros(0, 2, 5)}, "no samples"),
    ],
)
def test_what_does_not_fit_is_refused(tfn, batch, message):
    place, _ = tfn
    with pytest.raises(ValueError, match=message):
        ExportedModel(place / "onnx")(**batch)


def test_folder_that_export_did_not_write(tfn):
    place, _ = tfn
    with pytest.raises(FileNotFoundError, match="export.json"):
        ExportedModel(place / "run")


def test_device_and_training_are_refused(tfn):
    place, _ = tfn
    exported = ExportedModel(place / "onnx")
    with pytest.raises(ValueError, match="runs on the CPU"):
        exported.to("cuda")
    with pytest.raises(ValueError, match="cannot be trained"):
        exported.train()


def test_difference_is_an_error_and_leaves_nothing(tfn, tmp_path, monkeypatch):
    place, _ = tfn
    target = tmp_path / "target"
    monkeypatch.setattr("publishing.export_folder.largest_differences", lambda *models: {"logits": 0.5})
    with pytest.raises(ValueError, match="differs by"):
        export.main([str(place / "run"), "--output", str(target)])
    assert not target.exists() and not list(tmp_path.iterdir())


def test_output_that_holds_files_is_refused(tfn, tmp_path):
    place, _ = tfn
    (tmp_path / "file").write_text("mine")
    with pytest.raises(FileExistsError, match="holds other files"):
        export.main([str(place / "run"), "--output", str(tmp_path)])


def test_a_link_to_an_empty_folder_stays_one(tfn, tmp_path):
    place, _ = tfn
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to("disk")
    export.main([str(place / "run"), "--output", str(tmp_path / "link"), "--format", "exported_program"])
    assert (tmp_path / "link").is_symlink() and (tmp_path / "disk" / "export.json").is_file()


@pytest.mark.parametrize("tolerance", ["nan", "-1"])
def test_a_tolerance_that_nothing_could_meet(tmp_path, tolerance, capsys):
    with pytest.raises(SystemExit, match="2"):
        export.main([str(tmp_path), "--output", str(tmp_path / "out"), f"--tolerance={tolerance}"])
    assert "--tolerance must be at least 0; got " in capsys.readouterr().err


def test_int8_needs_onnx_and_a_text_encoder(tfn, tmp_path):
    place, _ = tfn
    with pytest.raises(ValueError, match="of the format onnx"):
        export_checkpoint(place / "run", tmp_path, "exported_program", int8=True)
    checkpoint(tmp_path / "run", text=False, **VISION)
    with pytest.raises(ValueError, match="has none"):
        export_checkpoint(tmp_path / "run", tmp_path, int8=True)


def test_int8_quantises_the_text_encoder_alone(tfn, tmp_path):
    onnx = pytest.importorskip("onnx")
    place, model = tfn
    manifest = export_checkpoint(place / "run", tmp_path, int8=True)
    graph = onnx.load(tmp_path / "model.onnx").graph
    layers = [layer for layer in model.text_encoder.modules() if isinstance(layer, nn.Linear)]
    assert manifest["int8_products"] == len(layers)
    assert sum(node.op_type == "MatMulInteger" for node in graph.node) == len(layers)
    assert not (tmp_path / "float32").exists()
    assert manifest["check"]["largest_difference_int8"]["logits"] < 0.1


@pytest.mark.parametrize("options", [[], ["--int8"]], ids=["float32", "int8"])
def test_weights_beside_the_graph(tfn, options, tmp_path, monkeypatch, capsys):
    """Where they are more than 1.5 GB, for which a small limit stands here."""
    onnx_program = importlib.import_module("torch.onnx._internal.exporter._onnx_program")
    monkeypatch.setattr(onnx_program, "_LARGE_MODEL_THRESHOLD", 1000)
    place, model = tfn
    target = tmp_path / "target"
    export.main([str(place / "run"), "--output", str(target), *options])
    files = sorted(target.glob("*.onnx*"))
    assert [file.name for file in files] == ["model.onnx", "model.onnx.data"] and not (target / "float32").exists()
    assert f"model.onnx: {sum(file.stat().st_size for file in files) / 1e6:.1f} MB" in capsys.readouterr().out
    weights = sum(parameter.numel() for parameter in model.parameters())
    assert files[1].stat().st_size < 4.1 * weights  # one set of them
    batch = {"input_ids": torch.tensor([[2, 3, 4]])}
    with torch.no_grad():
        torch.testing.assert_close(ExportedModel(target)(**batch).logits, model(**batch).logits, atol=0.01, rtol=0)


def test_exported_program_is_loaded_where_it_is_trusted(tmp_path):
    model, _ = checkpoint(tmp_path / "run", model_class=LfLstmModel)
    (tmp_path / "pt2").mkdir()
    export_checkpoint(tmp_path / "run", tmp_path / "pt2", "exported_program")
    with pytest.raises(ValueError, match="trust_remote_code"):
        ExportedModel(tmp_path / "pt2")
    exported = ExportedModel(tmp_path / "pt2", trust_remote_code=True)
    batch = {"input_ids": torch.tensor([[2]] * 3), "audio_values": torch.randn(3, 1, 5)}
    with torch.no_grad():
        torch.testing.assert_close(exported(**batch).logits, model(**batch).logits, atol=1e-5, rtol=1e-5)


def test_what_cannot_be_traced_says_why(tmp_path):
    class Refusing(TfnModel):
        def predict(self, sequences, labels=None):
            if torch.compiler.is_exporting():
                raise RuntimeError("it looks at values")
            return super().predict(sequences, labels)

    model = Refusing(make_config("tfn", **INPUTS["no_text"])).eval()
    with pytest.raises(ValueError, match="TFN .* cannot be exported as onnx; RuntimeError: it looks at values"):
        write_graph(model, "onnx", tmp_path / "model.onnx")


def test_scanned_layers_compute_the_same():
    torch.manual_seed(0)
    lstm, cells = nn.LSTM(5, 4, num_layers=2, batch_first=True), CellStateLSTM(5, 3)
    memory = GatedMemory(5, 4, (6, 0.0), (7, 0.0), (8, 0.0))
    values, steps = torch.randn(2, 6, 5), PaddedSteps(torch.ones(2, 6, dtype=torch.bool))
    with torch.no_grad():
        expected = lstm(values)[0], *cells(values, steps), memory(values, steps)
        layers = make_exportable(nn.ModuleList([lstm, cells, memory]), onnx=False)
        found = layers[0](values)[0], *layers[1](values, steps), layers[2](values, steps)
    torch.testing.assert_close(found, expected)


def test_scanned_layer_takes_steps_that_the_graph_counts():
    class Leading(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = nn.LSTM(5, 4, batch_first=True)

        def forward(self, values, mask):
            return self.lstm(values[:, : longest(mask.sum(dim=1))])[0]

    model = Leading().eval()
    values, mask = torch.randn(2, 6, 5), torch.tensor([[1, 1, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0]])
    graph = make_exportable(copy.deepcopy(model), onnx=False)
    with torch.no_grad():
        program = torch.export.export(graph, (values, mask), strict=False).module()
        for found in (mask, mask[:, :1].expand(2, 6), mask.flip(1).cumsum(1)):
            torch.testing.assert_close(program(values, found.clone()), model(values, found))


def test_lstm_of_another_kind_is_refused():
    with pytest.raises(ValueError, match="one direction"):
        make_exportable(nn.ModuleList([nn.LSTM(2, 2, batch_first=True, bidirectional=True)]), onnx=True)


def test_comparisons_vary_what_matters():
    model = TfnModel(make_config("tfn", **INPUTS["bert"]))
    batches = list(comparisons(model))
    assert {len(next(iter(batch.values()))) for batch in batches} == {1, 2, 5}
    lengths = {batch["audio_values"].shape[1] for batch in batches if "audio_values" in batch}
    assert min(lengths) == 1 and max(lengths) > 40
    whole = [batch for batch in batches if len(batch) == len(batches[0])]
    assert any(batch["audio_values"].shape[1] != batch["vision_values"].shape[1] for batch in whole)
    for name in ("input_ids", "audio_values", "vision_values"):
        assert any(name not in batch for batch in batches)
    masks = [batch["audio_attention_mask"] for batch in batches if "audio_attention_mask" in batch]
    assert any((mask[:, 0] == 0).all() for mask in masks) and any((mask[0] == 0).all() for mask in masks)


@pytest.mark.slow
@pytest.mark.parametrize("inputs", ["bert", "text_values"])
@pytest.mark.parametrize("architecture", MAIN)
def test_every_architecture_as_onnx(architecture, inputs, tmp_path):
    every_case(architecture, inputs, "onnx", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_as_exported_program(architecture, tmp_path):
    every_case(architecture, "text_values" if architecture in MAIN else "bert", "exported_program", tmp_path)


def every_case(architecture, inputs, format, folder):
    """What `export_checkpoint` compares, and padding that holds NaN, on a model with random weights."""
    torch.manual_seed(0)
    config = make_config(architecture, **INPUTS[inputs], **ONE_LAYER.get(architecture, {}))
    model = MODEL_MAPPING[type(config)](config).eval()
    outputs = write_graph(model, format, folder / ("model.onnx" if format == "onnx" else "model.pt2"))
    config.save_pretrained(folder)
    write_manifest(folder, describe(model, format, outputs))
    exported = ExportedModel(folder, trust_remote_code=True)
    assert max(largest_differences(model, exported).values()) < 1e-4
    batch = {name: value for name, value in make_batch(model).items() if not name.endswith("labels")}
    batch = padded(batch, "audio", left=2, right=1, garbage=True)
    with torch.no_grad():
        torch.testing.assert_close(exported(**batch).logits, model(**batch).logits, atol=1e-4, rtol=1e-4)


def test_program_prints_what_it_wrote(tfn, tmp_path):
    place, _ = tfn
    program = Path(export.__file__)
    command = [sys.executable, str(program), str(place / "missing"), "--output", str(tmp_path / "target")]
    found = subprocess.run(command, capture_output=True, text=True)
    assert found.returncode == 1 and "Traceback" not in found.stderr
