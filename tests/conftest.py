"""What several test files share: recipes and files small enough to train on in seconds."""

import os
import pickle

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
import pytest
import torch
import yaml
from transformers import BertConfig, BertModel

import train
from training.factory import word_tokenizer
from training.progress import EpochLine

torch.set_num_threads(1)  # the models here are so small that more threads only wait for each other

TINY_RECIPE = {
    "model_type": "self_mm",
    "synthetic": {"train": 48, "valid": 16, "test": 16, "seed": 3, "missing": 0.1},
    "label_generation": "self_mm",
    "model": {
        "text_config": {
            "model_type": "bert",
            "hidden_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 16,
            "max_position_embeddings": 64,
        },
        "audio_hidden_size": 8,
        "vision_hidden_size": 8,
        "fusion_size": 16,
        "text_size": 8,
        "audio_size": 8,
        "vision_size": 8,
    },
    "training": {
        "num_train_epochs": 3,
        "per_device_train_batch_size": 8,
        "learning_rate": 1e-3,
        "seed": 7,
        "use_cpu": True,
    },
}


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """What is cached goes to a folder of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets_cache"))
        yield


class KilledError(Exception):
    pass


def killed_run(monkeypatch, arguments, step):
    """Trains until a step, where the process dies."""

    def die(self, args, state, control, **kwargs):
        if state.global_step == step:
            raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(EpochLine, "on_step_end", die, raising=False)
        with pytest.raises(KilledError):
            train.main(arguments)


@pytest.fixture
def tiny_recipe(tmp_path):
    """A recipe file that trains in seconds; keyword arguments change its top level."""

    def write(**changes):
        path = tmp_path / "tiny.yaml"
        path.write_text(yaml.safe_dump({**TINY_RECIPE, **changes}))
        return str(path)

    return write


def make_mmsa_content():
    """The content of a file in MMSA's layout: token ids, audio and vision, right-padded, in three splits."""
    random = np.random.default_rng(0)

    def split(name, samples):
        tokens = np.zeros((samples, 3, 6), np.float32)
        lengths = random.integers(3, 7, samples)
        for i, length in enumerate(lengths):
            tokens[i, 0, :length] = random.integers(5, 20, length)
            tokens[i, 1, :length] = 1
        audio, vision = random.normal(size=(samples, 5, 4)), random.normal(size=(samples, 7, 3))
        audio_lengths, vision_lengths = random.integers(1, 6, samples), random.integers(1, 8, samples)
        for i in range(samples):
            audio[i, audio_lengths[i] :] = 0
            vision[i, vision_lengths[i] :] = 0
        return {
            "raw_text": [f"this is sample number {i} good" for i in range(samples)],
            "id": [f"{name}$_${i}" for i in range(samples)],
            "text": random.normal(size=(samples, 6, 8)).astype(np.float32) * tokens[:, 1, :, None],
            "text_bert": tokens,
            "audio": audio.astype(np.float32),
            "vision": vision.astype(np.float32),
            "audio_lengths": audio_lengths.tolist(),
            "vision_lengths": vision_lengths.tolist(),
            "regression_labels": random.uniform(-3, 3, samples).astype(np.float32),
            "classification_labels": np.ones(samples, np.int64),
            "annotations": ["Neutral"] * samples,
        }

    return {name: split(name, samples) for name, samples in (("train", 24), ("valid", 8), ("test", 9))}


def tiny_text_encoder(folder):
    """A BERT of a few words with its tokenizer, saved in the way of a pretrained one; returns the folder."""
    tokenizer = word_tokenizer(["IT WAS REALLY GOOD"], {"max_position_embeddings": 128})
    tokenizer.save_pretrained(folder)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    BertModel(BertConfig(vocab_size=len(tokenizer), max_position_embeddings=128, **sizes)).save_pretrained(folder)
    return folder


@pytest.fixture
def mmsa_content():
    return make_mmsa_content()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A content of a file, and a folder with the file and a run on it: raw text, 4 audio and 3 vision features."""
    folder, content = tmp_path_factory.mktemp("trained"), make_mmsa_content()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("datasets.config.HF_DATASETS_CACHE", folder / "datasets_cache")
        (folder / "data.pkl").write_bytes(pickle.dumps(content))
        recipe = {**TINY_RECIPE, "synthetic": None, "data_file": str(folder / "data.pkl")}
        (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
        train.main([str(folder / "recipe.yaml"), "--output_dir", str(folder / "run"), "--num_train_epochs", "1"])
    return content, folder


@pytest.fixture
def mmsa_file(tmp_path, monkeypatch):
    """Writes a content as a pickle and returns its path; conversions are cached below `tmp_path`."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "datasets_cache")

    def write(content, name="data.pkl"):
        path = tmp_path / name
        path.write_bytes(pickle.dumps(content))
        return str(path)

    return write
