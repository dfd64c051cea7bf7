"""From a recipe and its corpus to a trainer: what every program that trains does in the same way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import torch
from transformers import EarlyStoppingCallback, PrinterCallback, TrainerCallback, TrainingArguments

from training.collator import MultimodalCollator
from training.corpus import Corpus, PreparedRows, check_labels, choose_text, prepare_split
from training.encoded_text import with_text_states
from training.label_generation import LABEL_GENERATORS, LabelGenerator
from training.recipe import Recipe, Stage
from training.streaming import StreamedRows
from training.trainer import MultimodalTrainer

SomeTrainer = TypeVar("SomeTrainer", bound=MultimodalTrainer)


def flush_denormals() -> None:
    """
    Has a CPU take denormal numbers for zeros, with which it is many times slower: gradients vanish over long sequences.
    To be called before anything is computed, since threads take it over where they start.
    """
    torch.set_flush_denormal(True)


def text_of(recipe: Recipe, corpus: Corpus) -> str | None:
    """Which text of the corpus the recipe's model reads; see `choose_text`."""
    has_encoder = recipe.text_encoder is not None or recipe.model.get("text_config") is not None
    return choose_text(corpus, recipe.text, has_encoder)


def prepare_splits(
    recipe: Recipe, corpus: Corpus, model, processor, text: str | None, args: TrainingArguments
) -> dict[str, PreparedRows]:
    """
    The corpus' splits as the collator and the sampler read them, their labels checked; see `check_labels` and
    `prepare_split`. Streamed training rows are shuffled.
    """
    columns: tuple[str, ...] = () if recipe.target.of_emotions else ("label",)
    if recipe.label_generation == "human":
        columns += tuple(f"{modality}_label" for modality in unimodal_tasks(model))
    check_labels(corpus.splits, model.config.label_range, columns)
    splits = {name: prepare_split(rows, processor, text) for name, rows in corpus.splits.items()}
    train = splits["train"]
    _check_full_batches(args, train)
    if isinstance(train, StreamedRows):
        seed = args.seed if args.data_seed is None else args.data_seed
        splits["train"] = train.shuffled(seed, recipe.shuffle_buffer)
    return splits


def build_label_generator(
    recipe: Recipe, model, train: PreparedRows, device: torch.device
) -> tuple[LabelGenerator | None, dict[str, np.ndarray] | None]:
    """
    The recipe's label generator at the start of training, and the corpus' own unimodal labels, by modality, that it is
    scored against; None and None for a recipe without one.

    Raises:
        ValueError: where the model's representations do not suit the generator.
    """
    strategy = LABEL_GENERATORS.get(recipe.label_generation)
    if strategy is None:
        return None, None
    strategy.check_states(model.state_sizes)
    tasks = unimodal_tasks(model)
    generator = strategy(
        train["id"][:], train["label"][:], tasks, model.config.label_range, device=device, **recipe.label_generator
    )
    return generator, {m: train[f"{m}_label"][:] for m in tasks if f"{m}_label" in train.column_names}


def build_trainer(
    trainer_class: type[SomeTrainer],
    recipe: Recipe,
    stage: Stage,
    model,
    processor,
    splits: dict[str, PreparedRows],
    generator: LabelGenerator | None = None,
    true_labels: dict[str, np.ndarray] | None = None,
    callbacks: Sequence[TrainerCallback] = (),
    **keywords,
) -> SomeTrainer:
    """
    The trainer of a stage: it trains on the training split and evaluates on the validation split, with what a text
    encoder that is not trained gives computed before. The model is None where `keywords`, which go to the trainer, say
    how to make it (`model_init`).
    """
    target, args = recipe.target, recipe.training_arguments(stage)
    if recipe.encoded_text != "none":
        given = keywords["model_init"]() if model is None else model
        splits = with_text_states(splits, given, processor, args, recipe.encoded_text)
    callbacks = list(callbacks)
    if recipe.early_stopping_patience is not None:
        callbacks.append(EarlyStoppingCallback(recipe.early_stopping_patience, recipe.early_stopping_threshold))
    trainer = trainer_class(
        model,
        args,
        data_collator=MultimodalCollator(processor, target, unimodal_labels=recipe.label_generation == "human"),
        train_dataset=splits["train"],
        eval_dataset=splits["valid"],
        compute_metrics=lambda p: target.metrics(target.scores(p.predictions), p.label_ids),
        callbacks=callbacks,
        optimizer_settings=stage.optimizer,
        modality_dropout=recipe.modality_dropout,
        label_generator=generator,
        true_labels=true_labels,
        **keywords,
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _check_full_batches(args: TrainingArguments, train: PreparedRows) -> None:
    """There must be one, where others are left out."""
    if not args.dataloader_drop_last or isinstance(train, StreamedRows):
        return
    size = args.train_batch_size * args.world_size
    if len(train) < size:
        raise ValueError(
            "`training.dataloader_drop_last` leaves out batches that are not full, and no other is made of "
            f"{len(train)} training samples: a batch has {size} ({args.train_batch_size} on {args.world_size} "
            "processes). Lower `training.per_device_train_batch_size`, or set it to false."
        )


def unimodal_tasks(model) -> tuple[str, ...]:
    """Modalities with a task, and labels, of their own."""
    return tuple(getattr(model.config, "unimodal_tasks", ()))
