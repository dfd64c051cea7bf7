"""A checkpoint with its code beside it, loaded by a process that cannot import the project."""

import ast
import importlib
import itertools
import json
import sys
from pathlib import Path

import pytest
import torch
from transformers.dynamic_module_utils import get_relative_imports

from configuration import TARGETS
from modeling import MODEL_CLASSES, SelfMMModel
from processing import MultimodalProcessor, MultimodalSentimentPipeline
from tests.strangers import SAMPLES, TEXTS, checkpoint, run_alone
from training.remote_code import PACKAGES, relative_imports, write_remote_code

PROCESSING = Path(__file__).resolve().parents[2] / "processing"
# What Self-MM's checkpoints carry: its two files, and all that those import.
FILES = {
    **dict.fromkeys(("configuration_multimodal", "configuration_multitask", "configuration_self_mm"), "configuration"),
    **dict.fromkeys(("modeling_multimodal", "modeling_multitask", "modeling_self_mm"), "modeling"),
    **dict.fromkeys(("attention", "modality_sequence", "multimodal_transformer", "recalibration"), "modeling"),
    **dict.fromkeys(("dropout", "dropped_attention", "precision"), "modeling"),
    **dict.fromkeys(("recurrent", "recurrent_steps", "valid_steps"), "modeling"),
    **dict.fromkeys(("sparse_phased_transformer", "transformer"), "modeling"),
    # The processor and the pipeline read media, which all else in the package is for.
    **dict.fromkeys((path.stem for path in PROCESSING.glob("*.py") if path.stem != "__init__"), "processing"),
}
NAMES = sorted(f"{stem}.py" for stem in FILES)
# Of the classes that the tests write.
ENTRIES = ("modeling_self_mm", "pipeline_multimodal_sentiment", "processing_multimodal")

# By AutoModel and by AutoModelForSequenceClassification, what a stranger gets from folders for samples.
STRANGER = """
import torch
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, AutoProcessor

answers = []
for folder, samples in question:
    processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
    config = AutoConfig.from_pretrained(folder, trust_remote_code=True)
    for auto_class in (AutoModel, AutoModelForSequenceClassification):
        model = auto_class.from_pretrained(folder, trust_remote_code=True)
        with torch.no_grad():
            logits = model(**processor(**samples)).logits.tolist()
        classes = [type(part).__name__ for part in (config, model, processor)]
        target = [config.target, config.problem_type, config.output_names]
        answers.append({"classes": classes, "modalities": config.modalities, "target": target, "logits": logits})
print(json.dumps(answers))
"""


def test_checkpoints_predict_where_the_project_is_not_installed(tmp_path):
    """Every architecture, and between them every target."""
    questions, expected = [], []
    kinds = [(cls, True, target) for cls, target in zip(MODEL_CLASSES, itertools.cycle(TARGETS), strict=False)]
    kinds += [(SelfMMModel, False, "sentiment2")]
    for number, (model_class, text, target) in enumerate(kinds):
        folder = tmp_path / "org" / f"{model_class.__name__}.tiny-{number}"
        model, processor = checkpoint(folder, text, model_class, target=target)
        samples = {**SAMPLES, **(TEXTS if text else {})}
        with torch.no_grad():
            logits = model(**processor(**samples)).logits
        assert len({round(value.item(), 6) for value in logits.flatten()}) > 1
        questions.append((str(folder), samples))
        expected += [(logits, model)] * 2
    answers = run_alone(STRANGER, questions, tmp_path)
    assert len(answers) == len(expected) == 2 * len(kinds)
    for answer, (logits, model) in zip(answers, expected, strict=True):
        assert answer["classes"] == [type(model.config).__name__, type(model).__name__, "MultimodalProcessor"]
        assert tuple(answer["modalities"]) == model.config.modalities
        config = model.config
        assert answer["target"] == [config.target, config.problem_type, list(config.output_names)]
        torch.testing.assert_close(torch.tensor(answer["logits"]), logits, atol=1e-6, rtol=1e-6)


def test_folder_holds_the_code_and_names_it(tmp_path):
    checkpoint(tmp_path, text=True)
    assert sorted(path.name for path in tmp_path.glob("*.py")) == NAMES
    config = json.loads((tmp_path / "config.json").read_text())
    processor = json.loads((tmp_path / "processor_config.json").read_text())
    assert config["auto_map"] == {
        "AutoConfig": "configuration_self_mm.SelfMMConfig",
        "AutoModel": "modeling_self_mm.SelfMMModel",
        "AutoModelForSequenceClassification": "modeling_self_mm.SelfMMModel",
    }
    assert processor["auto_map"] == {"AutoProcessor": "processing_multimodal.MultimodalProcessor"}
    for reference in (*config["auto_map"].values(), *processor["auto_map"].values()):
        file, name = reference.split(".")
        assert f"class {name}(" in (tmp_path / f"{file}.py").read_text()


def test_written_code_is_complete_and_imports_relatively(tmp_path):
    written = write_remote_code(tmp_path, SelfMMModel, MultimodalProcessor, MultimodalSentimentPipeline)
    assert [path.name for path in written] == NAMES  # the configurations come along, as the model imports them
    assert sorted(path.name for path in tmp_path.iterdir()) == NAMES  # and no unfinished file
    for path in written:
        module = importlib.import_module(f"{FILES[path.stem]}.{path.stem}")
        source, copy = Path(module.__file__).read_text(), path.read_text()
        lines = len(source.splitlines())
        assert [len(copy.splitlines()[:lines]), copy.count("\n") > lines] == [lines, path.stem in ENTRIES]
        for node in ast.walk(ast.parse(copy)):
            if isinstance(node, ast.Import):
                assert not {alias.name.split(".")[0] for alias in node.names} & {*PACKAGES, "training", "publishing"}
            if isinstance(node, ast.ImportFrom):
                first_party = node.module.split(".")[0] in {*PACKAGES, "training", "publishing"}
                assert not (node.level == 0 and first_party), f"{path.name}: {node.module}"
                assert node.level == 0 or (tmp_path / f"{node.module}.py").exists()


def test_files_with_classes_name_all_others(tmp_path):
    """Read with the library's own pattern; what is named is not imported."""
    write_remote_code(tmp_path, SelfMMModel, MultimodalProcessor, MultimodalSentimentPipeline)
    for entry in ENTRIES:
        file = tmp_path / f"{entry}.py"
        assert sorted({entry, *get_relative_imports(file)}) == [name.removesuffix(".py") for name in NAMES]
        block = ast.parse(file.read_text()).body[-1]
        assert isinstance(block, ast.If) and block.test.value is False


def test_code_is_written_again_over_older_files(tmp_path):
    (tmp_path / "modeling_self_mm.py").write_text("outdated")
    write_remote_code(tmp_path, SelfMMModel)
    assert "class SelfMMModel" in (tmp_path / "modeling_self_mm.py").read_text()


def test_two_files_of_one_name_are_refused(tmp_path, monkeypatch):
    for package in ("alpha", "beta"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "same_name.py").write_text("class Thing:\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    things = [importlib.import_module(f"{package}.same_name").Thing for package in ("alpha", "beta")]
    with pytest.raises(ValueError, match=r"same_name\.py"):
        write_remote_code(tmp_path / "folder", *things)
    assert not list(tmp_path.glob("folder/*.py"))
    for package in ("alpha", "beta"):
        monkeypatch.delitem(sys.modules, f"{package}.same_name")
        monkeypatch.delitem(sys.modules, package)


@pytest.mark.parametrize(
    "source, expected, modules",
    [
        ("import torch\nfrom torch import nn\n", None, []),
        ("from transformers.utils import ModelOutput\n", None, []),
        ("from .modeling_x import X\n", None, []),
        ("from modeling_utils import helper\nfrom configurations.a import b\n", None, []),
        ("text = 'from modeling.modeling_x import X'\n# from modeling.modeling_x import X\n", None, []),
        ("from modeling.modeling_x import X\n", "from .modeling_x import X\n", ["modeling.modeling_x"]),
        (
            "from configuration.configuration_x import (\n    A,\n    B as C,\n)\n",
            "from .configuration_x import (\n    A,\n    B as C,\n)\n",
            ["configuration.configuration_x"],
        ),
        (
            "def build():\n    from processing.processing_x import f\n\n    return f\n",
            "def build():\n    from .processing_x import f\n\n    return f\n",
            ["processing.processing_x"],
        ),
        (
            "from modeling.modeling_x import X\nfrom modeling.modeling_xy import Y\n",
            "from .modeling_x import X\nfrom .modeling_xy import Y\n",
            ["modeling.modeling_x", "modeling.modeling_xy"],
        ),
    ],
)
def test_relative_imports(source, expected, modules):
    assert relative_imports(source) == (source if expected is None else expected, modules)


@pytest.mark.parametrize(
    "source", ["import modeling.modeling_x\n", "import numpy, configuration.configuration_x as c\n"]
)
def test_plain_imports_of_the_project_are_refused(source):
    with pytest.raises(ValueError, match=r"Write `from (modeling\.modeling_x|configuration\.configuration_x) import"):
        relative_imports(source)
