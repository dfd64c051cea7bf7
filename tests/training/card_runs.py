"""Finished runs made by hand: what a card is written from, without a training."""

from pathlib import Path

import numpy as np
import pyarrow as pa
from transformers import BertConfig

from configuration import TARGETS
from datasets_scripts import EMOTIONS, MODALITIES
from processing import MultimodalProcessor
from training.factory import word_tokenizer
from training.finished_run import FinishedRun
from training.recipe import ARCHITECTURES, Recipe
from training.targets import Target

SIZES = {"text": 300, "audio": 74, "vision": 35}
ENCODER = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
MACHINE = {
    "gpu": None,
    "processor": "A processor @ 2 GHz",
    "cores": 4,
    "threads": 2,
    "memory_gib": 7.5,
    "processes": 1,
    "system": "Linux x86_64",
    "precision": "fp32",
    "python": "3.11.2",
    "versions": {"torch": "2.8.0", "transformers": "5.0.0"},
}


def made_run(
    path,
    target="sentiment",
    modalities=MODALITIES,
    tokens=True,
    seed=1,
    corpus=None,
    data="a corpus",
    stages=(("", 4.0, 3.0),),
    recipe=(),
    record=(),
    results=(),
    model_type="delta_attention",
):
    """
    A run on `modalities`, its text as `tokens` or as features. `stages` are names, epochs and best epochs; `recipe`,
    `record` and `results` change single fields. Its results are random numbers of two decimals, by the seed.
    """
    random = np.random.default_rng(seed)
    tokens = tokens and "text" in modalities
    sizes = {m: SIZES[m] for m in modalities if not (m == "text" and tokens)}
    features = {f"{modality}_feature_size": size for modality, size in sizes.items()}
    sets = {f"{modality}_feature_set": f"{modality} features" for modality in sizes}
    tokenizer = word_tokenizer(["it was good"], {"max_position_embeddings": 64}) if tokens else None
    text_input = None if "text" not in modalities else "tokens" if tokens else "values"
    fields = {"data_file": "data.pkl", "data_sha256": "ab" * 32, "training": {"seed": seed}}
    fields |= {"model_type": model_type, "model": {"target": target}, **dict(recipe)}
    made = Recipe.from_dict(fields)
    text_config = BertConfig(vocab_size=20, **ENCODER) if tokens else None
    config = ARCHITECTURES[model_type](target=target, text_config=text_config, **features)
    numbers = {"seed": seed, "epochs": sum(epochs for _, epochs, _ in stages), "best_epoch": stages[-1][2]}
    numbers |= {"parameters": 12345, "train_seconds": 90.0, "seconds_per_epoch": 20.0, "peak_memory_mb": None}
    for split in ("valid", "test"):
        numbers |= {f"{split}_{name}": round(random.uniform(0.2, 0.9), 2) for name in made.target.metric_names}
    return FinishedRun(
        Path(path),
        config,
        MultimodalProcessor(tokenizer, text_input, **features, **sets),
        made,
        {**numbers, **dict(results)},
        {
            "data": {
                "name": data,
                "corpus": corpus,
                "sha256": made.data_sha256,
                "splits": {"train": 48, "valid": 16, "test": 1000},
                "notes": ["A note on the data."],
            },
            "stages": [made_stage(made, *stage) for stage in stages],
            "unimodal": {},
            "machine": MACHINE,
            **dict(record),
        },
        {split: made_predictions(made.target, random) for split in ("valid", "test")},
    )


def made_stage(recipe, name, epochs, best_epoch):
    metric = f"valid_{recipe.target.selection}"
    history = [
        {"epoch": float(epoch), "loss": 1 / epoch, "valid_loss": 1.5 / epoch, metric: 0.5 + 0.1 * (epoch == best_epoch)}
        for epoch in range(1, int(epochs) + 1)
    ]
    numbers = {"epochs": epochs, "best_epoch": best_epoch, "train_seconds": 60.0, "energy_kwh": None}
    return {"name": name, **numbers, "history": history}


def made_predictions(target: Target, random, samples=12):
    """A table as `predict_rows` makes it, random: references, predictions, and those of each modality alone."""
    columns = {"id": [f"clip{i}" for i in range(samples)]}
    if target.of_emotions:
        columns |= {f"{name}_label": random.integers(0, 3, samples).astype(np.float32) for name in EMOTIONS}
    else:
        columns["label"] = random.uniform(-3, 3, samples).astype(np.float32)
    width = len(TARGETS[target.name][1])
    for prefix in ("", *(f"{modality}_" for modality in MODALITIES)):
        values = random.uniform(-3, 3, (samples, width))
        if target.name != "sentiment":
            values = np.exp(values) / np.exp(values).sum(axis=1, keepdims=True)
        for name, column in zip(target.score_names, values.T, strict=True):
            columns[f"{prefix}{name}"] = column.astype(np.float32)
    return pa.table(columns)
