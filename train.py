"""
Trains, evaluates and saves one model.

    accelerate launch train.py recipes/quickstart.yaml --output_dir runs/quickstart
    accelerate launch train.py recipes/self_mm_mosi.yaml --data_file unaligned_50.pkl --output_dir runs/mosi --seed 1112

After the recipe comes any `--field value`: a field of the recipe (`--data_file`, `--text_encoder`), one of
`transformers.TrainingArguments` (`--seed`, `--bf16 true`), or a name inside a section (`--model.fusion_size 64`). A run
that was stopped goes on with `--resume_from_checkpoint true`. The folder then holds the checkpoint, its code and
processor, a model card, the resolved recipe, all_results.json, the predictions on the validation and test splits, and,
of a recipe with stages, a folder for each in stages/.
"""

from __future__ import annotations

import logging
from typing import Any

from datasets import disable_progress_bars
from transformers import set_seed
from transformers.utils.logging import disable_progress_bar

import modeling  # noqa: F401  (registers the architectures)
from datasets_scripts.programs import run_program
from training.corpus import keep_labelled, load_corpus
from training.factory import build_model, build_processor, model_of_stage
from training.finished_run import FinishedRun
from training.global_batch import check_processes
from training.label_callback import label_scores
from training.prediction import own_predictions, predict_rows, table_metrics
from training.preparation import build_label_generator, build_trainer, flush_denormals, prepare_splits, text_of
from training.processes import check_agreement, machines_first
from training.progress import EpochLine, EpochSeconds, peak_memory_mb
from training.recipe import Recipe
from training.run_folder import RunFolder
from training.run_record import TrainingRecorder, described, machine, unimodal_results
from training.trainer import MultimodalTrainer

logger = logging.getLogger("train")


def main(arguments: list[str]) -> dict[str, float]:
    flush_denormals()
    recipe = Recipe.from_command_line(arguments)
    args = recipe.training_arguments()
    check_processes(args)
    folder = RunFolder(str(args.output_dir), recipe, args.resume_from_checkpoint)
    target = recipe.target
    set_seed(args.seed)

    # Data: every check comes before anything is written.
    with machines_first(args):
        corpus = load_corpus(
            recipe.data_file, recipe.synthetic, recipe.data_sha256, recipe.data_options, recipe.streaming
        )
    recipe.data_sha256 = corpus.sha256
    keep_labelled(corpus, target)
    text = text_of(recipe, corpus)
    processor = build_processor(recipe, corpus, text)
    staged = model = build_model(recipe, processor)
    for stage in recipe.stage_list():
        staged = model_of_stage(staged, stage)
        recipe.training_arguments(stage)
    splits = prepare_splits(recipe, corpus, model, processor, text, args)
    generator, true_labels = build_label_generator(recipe, model, splits["train"], args.device)
    if generator is not None:
        corpus.notes += generator.notes
    rows = {f"{name} rows": len(split) for name, split in splits.items()}
    check_agreement({**recipe.to_dict(), **rows, **folder.state()})
    folder.check_recipe()
    if (finished := folder.results()) is not None:
        logger.info(f"The run in {folder.path} was finished already; nothing is left to do.")
        return finished
    if args.should_save:
        folder.claim()
        logger.info("\n".join(corpus.notes))

    # Training, with the validation split deciding which epoch is kept; stage by stage, where the recipe has stages.
    timer, recorder = EpochSeconds(), TrainingRecorder()
    numbers: list[dict[str, Any]] = []
    for stage in recipe.stage_list():
        model = model_of_stage(model, stage)
        place = folder.stage(stage)
        done = place.numbers()
        if done is not None:
            place.load(model)
            numbers.append(done)
            continue
        if stage.name and args.should_save:
            logger.info(f"Stage {stage.name}:")
        checkpoint = folder.checkpoint(stage)
        if checkpoint is not None:
            folder.load(model, checkpoint)
        trainer = build_trainer(
            MultimodalTrainer,
            recipe,
            stage,
            model,
            processor,
            splits,
            generator,
            true_labels,
            [EpochLine(), timer, recorder],
        )
        trainer.train(resume_from_checkpoint=checkpoint)
        model = trainer.trained_model()
        numbers.append(recorder.stage(trainer.state))
        if stage.name and trainer.is_world_process_zero():
            place.finish(model, numbers[-1])
        trainer.accelerator.wait_for_everyone()

    # Results, on the main process: the test split is looked at here and nowhere else.
    if args.process_index > 0:
        return {}
    model.requires_grad_(True)
    results = {
        "seed": args.seed,
        "epochs": sum(stage["epochs"] for stage in numbers),
        "best_epoch": numbers[-1]["best_epoch"],
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "train_seconds": sum(stage["train_seconds"] for stage in numbers),
        "seconds_per_epoch": timer.median,
        "peak_memory_mb": peak_memory_mb(),
    }
    if generator is not None:
        results |= {f"train_{name}": value for name, value in label_scores(generator, true_labels or {}).items()}
    predictions = {}
    for name in ("valid", "test"):
        predictions[name] = predict_rows(model, processor, splits[name], args.eval_batch_size)
        metrics = table_metrics(predictions[name], target)
        results |= {f"{name}_{metric}": value for metric, value in metrics.items()}
        for head in own_predictions(model):
            found = table_metrics(predictions[name], target, head)
            results |= {f"{name}_{head}_{metric}": value for metric, value in found.items()}
    record = {
        "data": described(corpus),
        "stages": [{"name": stage.name} | done for stage, done in zip(recipe.stage_list(), numbers, strict=True)],
        "unimodal": unimodal_results(predictions, corpus, target),
        "machine": machine(args),
    }
    folder.finish(FinishedRun(folder.path, model.config, processor, recipe, results, record, predictions), model)
    print(f"Saved to {folder.path}. Test: " + ", ".join(f"{k} {v:.4f}" for k, v in metrics.items()))
    return results


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    for name in (logger.name, "training.encoded_text"):
        logging.getLogger(name).setLevel(logging.INFO)
    disable_progress_bar()
    disable_progress_bars()
    run_program(
        main,
        go_on="The run goes on with the same command and --resume_from_checkpoint true.",
        less_memory="Lower --per_device_train_batch_size and raise --gradient_accumulation_steps as much, so that a "
        "step has as many samples as before, or, where it was an evaluation, --per_device_eval_batch_size. In a new "
        "folder: --bf16 true, --max_text_length, or a smaller model, --model.NAME.",
    )
