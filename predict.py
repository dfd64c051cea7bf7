"""
Predicts with a trained checkpoint: a table of samples, one text, or one video or sound file.

    python predict.py runs/mosi --data_file unaligned_50.pkl --split test --output predictions.parquet
    accelerate launch predict.py runs/mosi --data_file data/large --split test --output predictions/
    python predict.py runs/mosi --text "I did not expect to like it, but I did."
    python predict.py runs/quickstart --split test --limit 5
    python predict.py runs/mine --video clip.mp4 --transcript clip.srt --drop audio

Without --data_file it reads the data that the folder's recipe.yaml names. The table has the columns id, label,
prediction and, where the sample has the modality, text_prediction, audio_prediction and vision_prediction. Of a
checkpoint that predicts classes or emotions, a probability of each stands in place of the prediction.

A folder as --output is for splits of any size: it gets a Parquet file for every --shard_rows rows, and memory is that
of one of them. A run that was stopped goes on with what is missing, with the same command, in any number of processes;
the folder has its name when all is there, and FOLDER.incomplete until then. Several processes that `accelerate launch`
started, each on a GPU of its own where there are some, share the files, or the batches of a .parquet file; what comes
out does not depend on how many there are. On several machines the folder must be on a disk that all see.

Of a video or sound file, features are extracted as those that the checkpoint was trained on were, where it names their
extractors. What comes out is the sentiment overall, of each modality alone and over time, what each modality adds, and
the transcript; --output writes all of it as JSON.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from transformers.utils.logging import disable_progress_bar

from datasets_scripts import MODALITIES, SPLITS
from datasets_scripts.extraction.share import Share
from datasets_scripts.files import check_writable, whole_file, write_json
from datasets_scripts.programs import run_program
from processing import MultimodalSentimentPipeline
from processing.pipeline_multimodal_sentiment import ANALYSIS
from training.answer_text import answer_as_text
from training.checkpoint import load_checkpoint, load_data, text_column
from training.corpus import prepare_split
from training.prediction import predict_rows, reference_names, table_metrics
from training.prediction_shards import PredictionFolder, manifest_of, predict_shards
from training.targets import Target


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="a checkpoint: the folder of a run, or an id on the Hub")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--text", help="one sample that has text and nothing else")
    source.add_argument("--video", help="one video file")
    source.add_argument("--audio", help="one sound file")
    source.add_argument("--data_file", help="a source of data or a prepared folder, see prepare_data.py")
    parser.add_argument("--split", default="test", choices=SPLITS)
    parser.add_argument(
        "--output",
        help="where to write the table, a .parquet file or a folder of them, or the analysis, JSON; printed where not "
        "given",
    )
    parser.add_argument("--shard_rows", type=int, default=10_000, help="rows in each file of a folder (default: 10000)")
    parser.add_argument("--limit", type=int, help="only the first so many samples of the split")
    parser.add_argument("--batch_size", type=int, default=32)
    media = parser.add_argument_group("of --video and --audio")
    media.add_argument("--transcript", help="what is said: text, or a .txt, .srt or .vtt file")
    media.add_argument("--transcriber", help="a speech recognition model: a folder, or an id on the Hub")
    asked = parser.add_argument_group("of --video, --audio and --text")
    asked.add_argument("--drop", nargs="+", choices=MODALITIES, help="modalities that the model does not get")
    asked.add_argument("--window", type=float, help="seconds that a prediction of the timeline sees; 4 by default")
    asked.add_argument("--stride", type=float, help="seconds from one of them to the next; 1 by default")
    asked.add_argument("--noise", type=float, help="probability of noise on every feature and word")
    asked.add_argument("--words", action=argparse.BooleanOptionalAction, help="what each word adds")
    options = parser.parse_args(arguments)
    one = options.text is not None or options.video is not None or options.audio is not None
    for name in ("transcript", "transcriber", *ANALYSIS):
        if getattr(options, name, None) is not None and not one:
            parser.error(f"--{name} is for one sample: --video, --audio or --text; of a split see robustness.py")
    for name in ("shard_rows", "limit", "batch_size"):
        if (value := getattr(options, name)) is not None and value < 1:
            parser.error(f"--{name} must be 1 or more; got {value}")
    options.one = one
    if options.output is not None and not one:
        path = Path(options.output)
        options.as_folder = options.output.endswith("/") or path.is_dir() or not path.suffix
        if not options.as_folder and path.suffix != ".parquet":
            parser.error(f"--output must be a .parquet file or a folder, with / at its end; got {options.output}")
    return options


def main(arguments: list[str]) -> None:
    options = parse(arguments)
    if options.output is not None:
        check_writable(options.output, "--output")
    with Share() as share:
        if options.one and share.processes > 1:
            raise ValueError(
                f"One sample is for one process, but {share.processes} were started; start it as python predict.py."
            )
        model, processor = load_checkpoint(options.folder)
        if options.one:
            predict_one(MultimodalSentimentPipeline(model=model, processor=processor), options)
        else:
            predict_split(model, processor, options, share)


def predict_split(model, processor, options: argparse.Namespace, share: Share) -> None:
    """A split of the data, to a table that is printed or written, or to a folder of tables."""
    corpus, recipe = load_data(options.folder, options.data_file)
    text = text_column(corpus, processor, recipe)
    rows = corpus.split(options.split)
    unused = [m for m in MODALITIES if f"{m}_values" in rows.column_names and m not in model.config.modalities]
    if unused and share.is_first:
        logging.warning(f"The checkpoint was trained without {' and '.join(unused)}; the data's is not used.")
    if options.limit is not None:
        rows = rows.select(range(min(options.limit, len(rows))))
    convention = recipe.metric_convention if recipe is not None else "mosi"
    target = Target(model.config.target, convention)
    metrics = {}
    if options.output is not None and options.as_folder:
        chosen = {"split": options.split, "text": text, "metric_convention": convention}
        sizes = {"shard_rows": options.shard_rows, "batch_size": options.batch_size}
        manifest = manifest_of(options.folder, model, processor, corpus, rows, **chosen, **sizes)
        metrics = predict_shards(PredictionFolder(options.output, manifest), model, processor, rows, target, share)
        if share.is_first:
            print(f"{len(rows)} predictions in {options.output}")
    else:
        table = predict_rows(model, processor, prepare_split(rows, processor, text), options.batch_size, share=share)
        if not share.is_first:
            return
        if options.output is None:
            print(as_text(table, rows) if target.name == "sentiment" else classes_as_text(table, target))
        else:
            with whole_file(options.output) as temporary:
                pq.write_table(table, temporary)
            print(f"{len(table)} predictions in {options.output}")
        if target.column in rows.column_names:
            metrics = table_metrics(table, target)
    if options.limit is None and metrics and share.is_first:
        print(", ".join(f"{name} {value:.4f}" for name, value in metrics.items()))


def predict_one(pipe: MultimodalSentimentPipeline, options: argparse.Namespace) -> None:
    """One text, or one clip with what its parts say."""
    names = ("text", "video", "audio", "transcript", "transcriber", *ANALYSIS)
    given: dict[str, Any] = {name: getattr(options, name, None) for name in names}
    answer = pipe(**{name: value for name, value in given.items() if value is not None})
    if options.output is None:
        print(answer_as_text(answer))
    else:
        write_json(options.output, answer)
        print(f"The answer is in {options.output}")


def as_text(table: pa.Table, rows) -> str:
    """Predictions beside the labels that there are, a line per sample."""
    names = ["overall", *MODALITIES]
    columns = ["prediction", *(f"{modality}_prediction" for modality in MODALITIES)]
    labels = {"overall": table["label"].to_pylist()}
    labels |= {m: rows[f"{m}_label"][:].tolist() for m in MODALITIES if f"{m}_label" in rows.column_names}
    width = max([len(sample) for sample in table["id"].to_pylist()], default=2)
    lines = ["".ljust(width) + "".join(f"{name:>18}" for name in names)]
    lines.append("id".ljust(width) + f"{'predicted':>10}{'label':>8}" * len(names))
    for i, sample in enumerate(table["id"].to_pylist()):
        cells = [sample.ljust(width)]
        for name, column in zip(names, columns, strict=True):
            predicted = table[column][i].as_py()
            label = labels[name][i] if name in labels else None
            cells.append(f"{_number(predicted):>10}{_number(label):>8}")
        lines.append("".join(cells))
    return "\n".join(lines)


def classes_as_text(table: pa.Table, target: Target) -> str:
    """Probabilities beside what is true, a line per sample: a sentiment, or the emotions that are present."""
    ids = table["id"].to_pylist()
    width, cells = max([len(sample) for sample in ids], default=2), [len(name) + 2 for name in target.score_names]
    heading = "".join(f"{name:>{cell}}" for name, cell in zip(target.score_names, cells, strict=True))
    lines = ["id".ljust(width) + heading + "  label"]
    truths = [table[name].to_pylist() for name in reference_names(target)]
    for i, sample in enumerate(ids):
        scores = [table[name][i].as_py() for name in target.score_names]
        shown = "".join(f"{score:>{cell}.2f}" for score, cell in zip(scores, cells, strict=True))
        truth = [values[i] for values in truths]
        if truth[0] is None:
            label = "-"
        elif target.of_emotions:
            present = [name for name, value in zip(target.score_names, truth, strict=True) if value > 0]
            label = ", ".join(present) or "none"
        else:
            label = _number(truth[0])
        lines.append(f"{sample.ljust(width)}{shown}  {label}")
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:+.2f}"


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    disable_progress_bar()
    run_program(
        main,
        go_on="A folder as --output goes on with the same command.",
        less_memory="Lower --batch_size.",
    )
