"""Checkpoints with their code beside them, and processes that cannot import the project."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from modeling import SelfMMModel
from processing import MultimodalProcessor
from processing.media_features import MediaFeatures
from processing.processing_multimodal import fit_normalization
from publishing.stranger import ALONE, PROJECT
from training.factory import word_tokenizer
from training.remote_code import write_checkpoint

TINY_BERT = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
RANDOM = np.random.default_rng(0)
# Three samples; the second lacks audio, the third text.
SAMPLES = {"audio_values": [RANDOM.normal(size=(3, 5)).tolist(), None, RANDOM.normal(size=(1, 5)).tolist()]}
TEXTS = {"text": ["a good film", "bad", ""]}


def media_checkpoint(folder, model_class=SelfMMModel, seed=0, scale=1.0, **settings):
    """
    A model that reads clips as trained ones do, its processor and their code.

    Args:
        scale: What the weights of the fresh model are multiplied by.
        settings: Fields of the configuration.
    """
    features = MediaFeatures("egemaps_v02", "face_appearance")
    extractors = {"audio": features.audio_extractor, "vision": features.vision_extractor}
    sizes = {f"{name}_feature_size": one.feature_size for name, one in extractors.items()}
    statistics = {
        name: {"mean": [0.5] * one.feature_size, "std": [20.0] * one.feature_size} for name, one in extractors.items()
    }
    tokenizer = word_tokenizer(["the plot was good and the ending bad"], {})
    named = {f"{name}_extractor": one.settings() for name, one in extractors.items()}
    processor = MultimodalProcessor(tokenizer, text_input="tokens", normalization=statistics, **sizes, **named)
    torch.manual_seed(seed)
    config = model_class.config_class(text_config={**TINY_BERT, "vocab_size": len(tokenizer)}, **sizes, **settings)
    model = model_class(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(scale)
    write_checkpoint(folder, model, processor)
    return model.eval(), processor


def rows():
    """The samples as rows."""
    columns = {**SAMPLES, **TEXTS}
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def checkpoint(folder, text=True, model_class=SelfMMModel, **settings):
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
    write_checkpoint(folder, model, processor)
    return model.eval(), processor


def put_on_hub(home, repo_id, folder, revision):
    """Puts a copy of a folder where a stranger with `HF_HOME=home` has it from the Hub, as `revision` and as main."""
    repository = home / "hub" / f"models--{repo_id.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(revision)
    shutil.copytree(folder, repository / "snapshots" / revision)


def assert_same_predictions(one, other):
    """Equal predictions of pipelines, but for the rounding that another batch brings."""
    if isinstance(one, dict):
        assert list(one) == list(other)
        for name in one:
            assert_same_predictions(one[name], other[name])
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other)
        for values in zip(one, other, strict=True):
            assert_same_predictions(*values)
    elif isinstance(one, float):
        assert one == pytest.approx(other, abs=5e-5)  # UCRN multiplies rounding by a hundred
    else:
        assert one == other


def run_alone(program, arguments, tmp_path, packages=None, hub=None):
    """
    What a program prints as JSON in its last line, run by a Python that cannot import the project, offline or with a
    local Hub.

    Args:
        program (`str`): Python code; it finds `arguments` as `question`.
        arguments: Anything that JSON holds.
        tmp_path: Where the process keeps its copies of remote code.
        packages (`list` of folders, *optional*): Packages that come before the installed ones.
        hub (`LocalHub`, *optional*): The Hub that it sees.
    """
    offline = {**os.environ, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}
    environment = offline if hub is None else hub.environment(home=tmp_path / "home")
    environment = {name: value for name, value in environment.items() if not name.startswith("PYTHON")}
    environment |= {"HF_MODULES_CACHE": str(tmp_path / "modules"), "OMP_NUM_THREADS": "1"}
    (tmp_path / "elsewhere").mkdir(exist_ok=True)
    first = f"import sys\nsys.path[:0] = {[str(folder) for folder in packages or ()]}\n"
    finished = subprocess.run(
        [sys.executable, "-I", "-c", first + ALONE + program, str(PROJECT)],
        input=json.dumps(arguments),
        env=environment,
        cwd=tmp_path / "elsewhere",
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout.splitlines()[-1])
