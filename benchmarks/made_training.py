"""A training as `train.py` has it, at a corpus' shape, on made-up rows, for the programs that measure it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import PretrainedConfig, set_seed

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from training_speed import (  # noqa: E402
    FRAMES_PER_SECOND,
    LONGEST,
    SAMPLES,
    SECONDS_PER_WORD,
    WIDTHS,
    WORD_ALIGNED,
    WORDS,
)

from datasets_scripts.schema import row_features  # noqa: E402
from training.corpus import Corpus, prepare_split  # noqa: E402
from training.factory import build_model, build_processor, model_of_stage  # noqa: E402
from training.preparation import build_label_generator, build_trainer  # noqa: E402
from training.recipe import Recipe, load_yaml  # noqa: E402
from training.trainer import MultimodalTrainer  # noqa: E402

# The shape of all-MiniLM-L6-v2; its weights make no difference to what is measured.
MINILM = {
    **{"model_type": "bert", "vocab_size": 30_522, "hidden_size": 384, "num_hidden_layers": 6},
    **{"num_attention_heads": 12, "intermediate_size": 1536, "max_position_embeddings": 512},
}
ENCODED = ("self_mm",)  # whose text is tokens
VOCABULARY = [f"word{i}" for i in range(2000)]


class MadeTraining:
    """
    The recipe of a system on a corpus, with a corpus, a processor and a model made for it.

    Args:
        system, corpus: Name the recipe, `recipes/<system>_<corpus>.yaml`. Self-MM gets a text encoder of MiniLM's
            shape; the others read text of the corpus' width.
        samples: Of the training split; validation has a sixth.
        folder: For what is written.
        training: Fields of `TrainingArguments`, beside those of the recipe.
        fields: Of the recipe, in place of its own.
    """

    def __init__(self, system: str, corpus: str, samples: int, folder: str | Path, training: dict[str, Any], **fields):
        content = load_yaml(ROOT / "recipes" / f"{system}_{corpus}.yaml")
        self.words_are_text = system in ENCODED
        content |= {"synthetic": {}, "early_stopping_patience": None, "text_encoder": None, **fields}
        content["text"] = "raw_text" if self.words_are_text else "text_values"
        content["training"] |= {"output_dir": str(folder), "eval_strategy": "no", "save_strategy": "no"}
        content["training"] |= {"load_best_model_at_end": False, "lr_scheduler_type": "constant", **training}
        content["training"].pop("lr_scheduler_kwargs", None)
        if self.words_are_text:
            content["model"]["text_config"] = MINILM
        self.recipe = Recipe.from_dict(content)
        aligned = system in WORD_ALIGNED
        splits = {
            name: made_rows(corpus, count, seed, aligned, not self.words_are_text)
            for seed, (name, count) in enumerate({"train": samples, "valid": max(samples // 6, 1)}.items())
        }
        self.corpus = Corpus(splits, "made", None, [])
        self.processor = build_processor(self.recipe, self.corpus, self.recipe.text)
        self.splits = {
            name: prepare_split(rows, self.processor, self.recipe.text) for name, rows in self.corpus.splits.items()
        }
        self.stage = self.recipe.stage_list()[0]
        self.args = self.recipe.training_arguments(self.stage)

    def model(self, attention: str | None = None):
        """The model at the start, the same each time, its text encoder as large as MiniLM."""
        set_seed(0)
        tokens = self.processor.tokenizer
        if tokens is None:
            model = build_model(self.recipe, self.processor)
        else:  # the tokenizer has fewer words than MiniLM, whose embeddings have a part in the cost
            build = {**self.recipe.model, "text_config": MINILM}
            for modality in ("audio", "vision"):
                build[f"{modality}_feature_size"] = getattr(self.processor, f"{modality}_feature_size")
            model_class = type(build_model(self.recipe, self.processor))
            model = model_class(model_class.config_class(**build))
        text_config = model.config.text_config
        if attention is not None and isinstance(text_config, PretrainedConfig):
            model.text_encoder.set_attn_implementation(attention)
        return model_of_stage(model, self.stage)

    def trainer(self, model, trainer_class: type[MultimodalTrainer] = MultimodalTrainer) -> MultimodalTrainer:
        """The trainer with its label generator, where the recipe has one."""
        made = build_label_generator(self.recipe, model, self.splits["train"], self.args.device)
        return build_trainer(trainer_class, self.recipe, self.stage, model, self.processor, self.splits, *made)


def made_rows(corpus: str, count: int, seed: int, aligned: bool, text_features: bool) -> Dataset:
    """Random features, as long as those of the corpus, and words of a made-up vocabulary."""
    random = np.random.default_rng(seed)
    words = np.interp(random.random(count), np.linspace(0, 1, len(WORDS[corpus])), WORDS[corpus]).round().astype(int)
    widths = {m: width for m, width in WIDTHS[corpus].items() if text_features or m != "text"}

    def rows():
        for number, length in enumerate(words):
            row = {"id": f"{seed}-{number}", "text": " ".join(random.choice(VOCABULARY, length))}
            for modality, width in widths.items():
                steps = int(length)
                if modality != "text" and not aligned:
                    frames = length * SECONDS_PER_WORD * FRAMES_PER_SECOND[modality]
                    steps = int(np.clip(round(frames), 1, LONGEST[modality]))
                row[f"{modality}_values"] = random.standard_normal((steps, width), np.float32)
            yield row | {"label": float(random.uniform(-3, 3))}

    features = row_features(**{f"{modality}_feature_size": width for modality, width in widths.items()})
    return Dataset.from_list(list(rows()), features=features).with_format("numpy")


def samples_of(corpus: str) -> int:
    """Of the corpus' training split."""
    return SAMPLES[corpus]


def check_device(device: str) -> None:
    """Ends the program where it asks for a GPU and there is none."""
    if device.startswith("cuda") and not torch.cuda.is_available():
        sys.exit(f"--device {device}: PyTorch finds no GPU here; leave --device out to measure on the CPU.")
