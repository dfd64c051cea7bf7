"""The model card that a run writes: what was trained on what, how, and how well it does."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from string import Template

import transformers
import yaml

from datasets_scripts import MODALITIES
from datasets_scripts.cards.markdown import item
from training.corpus import Corpus
from training.recipe import Recipe

TEMPLATE = Path(__file__).resolve().parent.parent / "model_cards" / "run_card.md"

TASKS = {
    "sentiment": (
        "Predicts how positive a person's utterance is, from $low (most negative) to $high (most positive),",
        "(batch, 1): the sentiment",
    ),
    "sentiment2": ("Predicts whether a person's utterance is negative or positive,", "(batch, 2): negative, positive"),
    "sentiment7": (
        "Predicts how positive a person's utterance is, in seven classes from -3 to 3,",
        "(batch, 7): the classes from -3 to 3",
    ),
    "emotions": (
        "Predicts which of six emotions (happy, sad, anger, surprise, disgust, fear) a person's utterance shows,",
        "(batch, 6): an emotion is predicted where the sigmoid is above 0.5",
    ),
    "emotion": (
        "Predicts which of six emotions (happy, sad, anger, surprise, disgust, fear) is the strongest in a person's "
        "utterance,",
        "(batch, 6): before the softmax over the emotions",
    ),
}
METRICS = {
    "sims": "`mae` and `corr` are those of predictions clipped to [-1, 1]; `acc2` and `f1` tell positive from the "
    "rest; F1 is weighted by the labels' frequencies.",
    "mosi": "`acc2_has0` and `f1_has0` tell negative from non-negative, `acc2_non0` and `f1_non0` negative from "
    "positive, without the samples whose label is zero; F1 is weighted by the labels' frequencies.",
    "emotions": "`acc_`, `wa_` and `f1_` are, per emotion and averaged, the accuracy, the mean of recall and "
    "specificity, and the F1 weighted by the labels' frequencies; `acc6` is how often the highest score is that of a "
    "strongest emotion, among samples with any.",
}


def write_card(
    recipe: Recipe, corpus: Corpus, model, processor, results: dict, stages: dict[str, dict[str, float]] | None = None
) -> str:
    """
    The card's text. All numbers in it are `results` and those of `stages`, by their names, measured by the run.
    """
    name, paper = model.config.display_name, model.config.citation
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
    rows = [f"| {m} | {_number(results.get(f'valid_{m}'))} | {_number(results[f'test_{m}'])} |" for m in metrics]
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
                            {"type": m, "name": m, "value": round(float(results[f"test_{m}"]), 4)}
                            for m in metrics
                            if math.isfinite(results[f"test_{m}"])
                        ],
                    }
                ],
            }
        ],
    }
    example = 'text="I liked it."' if processor.text_input == "tokens" else f"{modalities[0]}_values=sequence"
    low, high = (f"{bound:g}" for bound in model.config.label_range)
    task, outputs = (Template(text).substitute(low=low, high=high) for text in TASKS[model.config.target])
    heads = [m for m in MODALITIES if results.get(f"test_{m}_{metrics[0]}") is not None]
    if heads or getattr(model.config, "unimodal_tasks", None):
        outputs += "; text_logits, audio_logits and vision_logits are those of one modality alone"
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        front_matter=yaml.safe_dump(front, sort_keys=False).strip(),
        name=name,
        paper=paper,
        corpus=corpus.name,
        modalities=_listed([{"text": "text", "audio": "voice", "vision": "face"}[m] for m in modalities]),
        task=task,
        outputs=outputs,
        example=example,
        inputs="\n".join(inputs),
        splits=", ".join(f"{split} {size}" for split, size in sizes.items()),
        sha256=f"\nSHA-256 of the file: `{corpus.sha256}`\n" if corpus.sha256 else "",
        notes="\n".join(item("-", note) for note in corpus.notes),
        results="\n".join(rows),
        metrics=METRICS["emotions" if recipe.target.of_emotions else recipe.metric_convention],
        stages=_stages(stages or {}),
        selection=recipe.stage_list()[-1].training["metric_for_best_model"],
        epochs=f"{results['epochs']:g}",
        best_epoch=f"{results['best_epoch']:g}",
        seed=results["seed"],
        parameters=f"{results['parameters']:,}",
        transformers_version=transformers.__version__,
        recipe=replace(recipe, data_file=_public_name(recipe.data_file), text_encoder=_public_name(recipe.text_encoder))
        .to_yaml()
        .strip(),
    )


def _number(value: float | None) -> str:
    """
    Some results are not defined, such as the recall of an emotion that no sample of a split has; and a modality's own
    predictions have none on a split that lacks it.
    """
    return "-" if value is None or not math.isfinite(value) else f"{value:.4f}"


def _stages(stages: dict[str, dict[str, float]]) -> str:
    if not stages:
        return ""
    shown = ", ".join(f"{name} ({one['epochs']:g} epochs, best {one['best_epoch']:g})" for name, one in stages.items())
    return f" It was trained in stages, each from the best epoch of the one before it: {shown}."


def _public_name(place: str | None) -> str | None:
    """A card is public: of a file or folder on this machine it has the name, not where it lies."""
    return Path(place).name if place is not None and Path(place).exists() else place


def _listed(words: list[str]) -> str:
    """Words as in a sentence: a, b and c."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
