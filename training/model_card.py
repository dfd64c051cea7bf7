"""The model card that a run writes: what was trained on what, how, and how well it does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from string import Template

import transformers
import yaml

from training.corpus import Corpus
from training.recipe import Recipe

TEMPLATE = Path(__file__).resolve().parent.parent / "model_cards" / "run_card.md"

# By model_type: the paper's name and where it appeared.
PAPERS = {
    "self_mm": (
        "Self-MM",
        'Yu, Xu, Yuan and Wu, "Learning Modality-Specific Representations with Self-Supervised Multi-Task Learning for '
        'Multimodal Sentiment Analysis", AAAI 2021 ([arXiv:2102.04830](https://arxiv.org/abs/2102.04830))',
    ),
    "sugrm": (
        "SUGRM",
        'Hwang and Kim, "Self-Supervised Unimodal Label Generation Strategy Using Recalibrated Modality '
        'Representations for Multimodal Sentiment Analysis", Findings of EACL 2023',
    ),
    "mmlatch": (
        "MMLatch",
        'Paraskevopoulos, Georgiou and Potamianos, "MMLatch: Bottom-up Top-down Fusion for Multimodal Sentiment '
        'Analysis", ICASSP 2022 ([arXiv:2201.09828](https://arxiv.org/abs/2201.09828))',
    ),
}


def write_card(recipe: Recipe, corpus: Corpus, model, processor, results: dict) -> str:
    """The card's text. All numbers in it are `results`, measured by the run."""
    name, paper = PAPERS[recipe.model_type]
    modalities = model.config.modalities
    sizes = {split: f"{len(rows)} samples" for split, rows in corpus.splits.items()}
    inputs = []
    for modality in modalities:
        if modality == "text" and model.config.text_config is not None:
            encoder = _public_name(recipe.text_encoder) or "trained from scratch"
            inputs.append(f"- text: tokens of a {model.config.text_config.model_type} encoder ({encoder})")
        else:
            feature_set = getattr(processor, f"{modality}_feature_set") or "not named"
            size = getattr(model.config, f"{modality}_feature_size")
            inputs.append(f"- {modality}: {size} features per step (feature set: {feature_set})")
    metrics = [key.removeprefix("test_") for key in results if key.startswith("test_")]
    rows = [f"| {m} | {results[f'valid_{m}']:.4f} | {results[f'test_{m}']:.4f} |" for m in metrics]
    front = {
        "library_name": "transformers",
        "pipeline_tag": "text-classification",
        "tags": ["multimodal", "sentiment-analysis", recipe.model_type, *modalities],
        "model-index": [
            {
                "name": name,
                "results": [
                    {
                        "task": {"type": "text-classification", "name": "multimodal sentiment analysis"},
                        "dataset": {"name": corpus.name, "type": "custom", "split": "test"},
                        "metrics": [
                            {"type": m, "name": m, "value": round(float(results[f"test_{m}"]), 4)} for m in metrics
                        ],
                    }
                ],
            }
        ],
    }
    example = 'text="I liked it."' if processor.text_input == "tokens" else f"{modalities[0]}_values=sequence"
    low, high = model.config.label_range
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        front_matter=yaml.safe_dump(front, sort_keys=False).strip(),
        name=name,
        paper=paper,
        corpus=corpus.name,
        modalities=_listed([{"text": "text", "audio": "voice", "vision": "face"}[m] for m in modalities]),
        low=f"{low:g}",
        high=f"{high:g}",
        example=example,
        inputs="\n".join(inputs),
        splits=", ".join(f"{split} {size}" for split, size in sizes.items()),
        sha256=f"\nSHA-256 of the file: `{corpus.sha256}`\n" if corpus.sha256 else "",
        notes="\n".join(f"- {note}" for note in corpus.notes),
        results="\n".join(rows),
        selection=recipe.training["metric_for_best_model"],
        epochs=f"{results['epochs']:g}",
        best_epoch=f"{results['best_epoch']:g}",
        seed=results["seed"],
        parameters=f"{results['parameters']:,}",
        transformers_version=transformers.__version__,
        recipe=replace(recipe, data_file=_public_name(recipe.data_file), text_encoder=_public_name(recipe.text_encoder))
        .to_yaml()
        .strip(),
    )


def _public_name(place: str | None) -> str | None:
    """A card is public: of a file or folder on this machine it has the name, not where it lies."""
    return Path(place).name if place is not None and Path(place).exists() else place


def _listed(words: list[str]) -> str:
    """Words as in a sentence: a, b and c."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
