"""A checkpoint with its code beside it, loaded by a process that cannot import the project."""

import ast
import importlib
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from configuration import TARGETS
from modeling import MODEL_CLASSES, SelfMMModel
from processing import MultimodalProcessor
from processing.processing_multimodal import fit_normalization
from training.remote_code import PACKAGES, auto_map, relative_imports, write_remote_code

TINY_BERT = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
# What Self-MM's checkpoints carry: its two files, and all that those import.
FILES = {
    **dict.fromkeys(("configuration_multimodal", "configuration_multitask", "configuration_self_mm"), "configuration"),
    **dict.fromkeys(("modeling_multimodal", "modeling_multitask", "modeling_self_mm"), "modeling"),
    **dict.fromkeys(("attention", "modality_sequence", "multimodal_transformer", "recalibration"), "modeling"),
    **dict.fromkeys(("recurrent", "sparse_phased_transformer", "transformer"), "modeling"),
    "processing_multimodal": "processing",
}
NAMES = sorted(f"{stem}.py" for stem in FILES)
RANDOM = np.random.default_rng(0)
SAMPLES = {"audio_values": [RANDOM.normal(size=(3, 5)).tolist(), None, RANDOM.normal(size=(1, 5)).tolist()]}
TEXTS = {"text": ["a good film", "bad", ""]}

# Run by a Python that sees nothing of the project; its answers are its last line of output.
STRANGER = """
import importlib, json, sys
# A development install (pip install -e) finds the project for every process; a stranger has none.
sys.meta_path[:] = [finder for finder in sys.meta_path if "__editable__" not in repr(finder)]
for name in ("modeling", "configuration", "processing", "publishing", "training"):
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        continue
    sys.exit(f"{name} can be imported here")

import torch
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, AutoProcessor

answers = []
for folder, samples in json.loads(sys.argv[1]):
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


def checkpoint(folder, text, model_class=SelfMMModel, **settings):
    """A model, its processor and their code, put into a folder in the way of a finished run."""
    sizes = {"audio_feature_size": 5}
    normalization = {"audio": fit_normalization([row for row in SAMPLES["audio_values"] if row], "audio")}
    torch.manual_seed(0)
    config_class = model_class.config_class
    if text:
        words = WordLevel({word: i for i, word in enumerate(["[PAD]", "[UNK]", "a", "good", "bad"])}, unk_token="[UNK]")
        tokenizer = Tokenizer(words)
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]")
        processor = MultimodalProcessor(tokenizer, text_input="tokens", normalization=normalization, **sizes)
        model = model_class(config_class(text_config={**TINY_BERT, "vocab_size": 5}, **sizes, **settings))
    else:
        processor = MultimodalProcessor(normalization=normalization, **sizes)
        model = model_class(config_class(**sizes, **settings))
    model.config.auto_map, processor.auto_map = auto_map(model_class, MultimodalProcessor)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    write_remote_code(folder, model_class, config_class, MultimodalProcessor)
    return model.eval(), processor


def as_a_stranger(questions, tmp_path):
    """Answers to pairs of a folder and samples, two each: by AutoModel and by AutoModelForSequenceClassification."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment |= {"HF_HOME": str(tmp_path / "home"), "HF_MODULES_CACHE": str(tmp_path / "modules")}
    environment |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    (tmp_path / "elsewhere").mkdir()
    finished = subprocess.run(
        [sys.executable, "-I", "-c", STRANGER, json.dumps(questions)],
        env=environment,
        cwd=tmp_path / "elsewhere",
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout.splitlines()[-1])


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
    answers = as_a_stranger(questions, tmp_path)
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
    written = write_remote_code(tmp_path, SelfMMModel, MultimodalProcessor)
    assert [path.name for path in written] == NAMES  # the configurations come along, as the model imports them
    assert sorted(path.name for path in tmp_path.iterdir()) == NAMES  # and no unfinished file
    for path in written:
        module = importlib.import_module(f"{FILES[path.stem]}.{path.stem}")
        source, copy = Path(module.__file__).read_text(), path.read_text()
        assert len(copy.splitlines()) == len(source.splitlines())
        for node in ast.walk(ast.parse(copy)):
            if isinstance(node, ast.Import):
                assert not {alias.name.split(".")[0] for alias in node.names} & {*PACKAGES, "training", "publishing"}
            if isinstance(node, ast.ImportFrom):
                first_party = node.module.split(".")[0] in {*PACKAGES, "training", "publishing"}
                assert not (node.level == 0 and first_party), f"{path.name}: {node.module}"
                assert node.level == 0 or (tmp_path / f"{node.module}.py").exists()


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
