"""
Trains, evaluates and saves one model.

    accelerate launch train.py recipes/quickstart.yaml --output_dir runs/quickstart
    accelerate launch train.py recipes/self_mm_mosi.yaml --data_file unaligned_50.pkl --output_dir runs/mosi --seed 1112

After the recipe comes any `--field value`: a field of the recipe (`--data_file`, `--text_encoder`), one of
`transformers.TrainingArguments` (`--seed`, `--bf16 true`), or a name inside a section (`--model.fusion_size 64`). A run
that was stopped goes on with `--resume_from_checkpoint true`. The folder then holds the checkpoint, its code and
processor, a model card, the resolved recipe, all_results.json, and the predictions on the validation and test splits.
"""

from __future__ import annotations

import logging
import sys

import numpy as np
from huggingface_hub.errors import StrictDataclassError
from transformers import EarlyStoppingCallback, PrinterCallback, TrainerCallback, set_seed
from transformers.utils.logging import disable_progress_bar

import modeling  # noqa: F401  (registers the architectures)
from spaces.multimodal_sentiment.multimodal_sentiment import regression_metrics
from training.collator import MultimodalCollator
from training.corpus import check_labels, choose_text, load_corpus, prepare_split
from training.factory import build_model, build_processor
from training.label_callback import label_scores
from training.label_generation import LABEL_GENERATORS
from training.model_card import write_card
from training.prediction import predict_rows, table_metrics
from training.progress import EpochLine, EpochSeconds, peak_memory_mb
from training.recipe import Recipe
from training.run_folder import RunFolder
from training.trainer import MultimodalTrainer

logger = logging.getLogger("train")


def main(arguments: list[str]) -> dict[str, float]:
    recipe = Recipe.from_command_line(arguments)
    args = recipe.training_arguments()
    folder = RunFolder(str(args.output_dir), recipe, args.resume_from_checkpoint)
    set_seed(args.seed)

    # Data: every check comes before anything is written.
    with args.main_process_first(desc="reading the data"):
        corpus = load_corpus(recipe.data_file, recipe.synthetic, recipe.data_sha256)
    recipe.data_sha256 = corpus.sha256
    has_encoder = recipe.text_encoder is not None or recipe.model.get("text_config") is not None
    text = choose_text(corpus, recipe.text, has_encoder)
    processor = build_processor(recipe, corpus, text)
    model = build_model(recipe, processor)
    tasks = getattr(model.config, "unimodal_tasks", ())
    human = recipe.label_generation == "human"
    check_labels(corpus.splits, model.config.label_range, ("label", *(f"{m}_label" for m in tasks if human)))
    splits = {name: prepare_split(rows, processor, text) for name, rows in corpus.splits.items()}
    strategy = LABEL_GENERATORS.get(recipe.label_generation)
    if strategy is not None:
        strategy.check_states(model.state_sizes)
    folder.check_recipe()
    if args.should_save:
        folder.claim()
        logger.info("\n".join(corpus.notes))

    # Labels for the unimodal tasks.
    train = splits["train"]
    generator, true_labels = None, None
    if strategy is not None:
        generator = strategy(
            train["id"][:],
            train["label"][:],
            tasks,
            model.config.label_range,
            device=args.device,
            **recipe.label_generator,
        )
        corpus.notes += generator.notes
        for note in generator.notes if args.should_save else ():
            logger.info(note)
        true_labels = {m: train[f"{m}_label"][:] for m in tasks if f"{m}_label" in train.column_names}

    # Training, with the validation split deciding which epoch is kept.
    timer = EpochSeconds()
    callbacks: list[TrainerCallback] = [EpochLine(), timer]
    if recipe.early_stopping_patience is not None:
        callbacks.append(EarlyStoppingCallback(recipe.early_stopping_patience, recipe.early_stopping_threshold))
    trainer = MultimodalTrainer(
        model,
        args,
        data_collator=MultimodalCollator(processor, unimodal_labels=human),
        train_dataset=train,
        eval_dataset=splits["valid"],
        compute_metrics=lambda p: regression_metrics(
            p.predictions, np.asarray(p.label_ids), convention=recipe.metric_convention
        ),
        callbacks=callbacks,
        optimizer_settings=recipe.optimizer,
        label_generator=generator,
        true_labels=true_labels,
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train(resume_from_checkpoint=folder.checkpoint())

    # Results, on the main process: the test split is looked at here and nowhere else.
    if not trainer.is_world_process_zero():
        return {}
    model = trainer.accelerator.unwrap_model(trainer.model)
    results = {
        "seed": args.seed,
        "epochs": trainer.state.epoch,
        "best_epoch": best_epoch(trainer.state),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "train_seconds": trainer.state.log_history[-1]["train_runtime"],
        "seconds_per_epoch": timer.median,
        "peak_memory_mb": peak_memory_mb(),
    }
    if generator is not None:
        results |= {f"train_{name}": value for name, value in label_scores(generator, true_labels or {}).items()}
    predictions = {}
    for name in ("valid", "test"):
        predictions[name] = predict_rows(model, processor, splits[name], args.eval_batch_size)
        metrics = table_metrics(predictions[name], recipe.metric_convention)
        results |= {f"{name}_{metric}": value for metric, value in metrics.items()}
    folder.finish(model, processor, results, predictions, write_card(recipe, corpus, model, processor, results))
    print(f"Saved to {folder.path}. Test: " + ", ".join(f"{k} {v:.4f}" for k, v in metrics.items()))
    return results


def best_epoch(state) -> float:
    """The epoch of the evaluation whose checkpoint was kept."""
    steps = {entry["step"]: entry["epoch"] for entry in state.log_history}
    return steps.get(state.best_global_step, state.epoch)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logger.setLevel(logging.INFO)
    disable_progress_bar()
    try:
        main(sys.argv[1:])
    except (ValueError, OSError, StrictDataclassError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
