"""
Predicts with a trained checkpoint: a table of samples, or one text.

    python predict.py runs/mosi --data_file unaligned_50.pkl --split test --output predictions.parquet
    python predict.py runs/mosi --text "I did not expect to like it, but I did."
    python predict.py runs/quickstart --split test --limit 5

Without --data_file it reads the data that the folder's recipe.yaml names. The table has the columns id, label,
prediction and, where the sample has the modality, text_prediction, audio_prediction and vision_prediction. Of a
checkpoint that predicts classes or emotions, a probability of each stands in place of the prediction.
"""

from __future__ import annotations

import argparse
import logging
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from huggingface_hub.errors import StrictDataclassError
from transformers.utils.logging import disable_progress_bar

from datasets_scripts import MODALITIES, SPLITS
from training.checkpoint import load_checkpoint, load_data, text_column
from training.corpus import prepare_split
from training.files import whole_file
from training.prediction import predict_rows, reference_names, table_metrics
from training.targets import Target


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="a checkpoint: the folder of a run, or an id on the Hub")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--text", help="one sample that has text and nothing else")
    source.add_argument("--data_file", help="a source of data or a prepared folder, see prepare_data.py")
    parser.add_argument("--split", default="test", choices=SPLITS)
    parser.add_argument("--output", help="where to write the table, a .parquet file; printed where not given")
    parser.add_argument("--limit", type=int, help="only the first so many samples of the split")
    parser.add_argument("--batch_size", type=int, default=32)
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> None:
    options = parse(arguments)
    model, processor = load_checkpoint(options.folder)
    if options.text is not None:
        predict_text(model, processor, options.text)
        return

    corpus, recipe = load_data(options.folder, options.data_file)
    text = text_column(corpus, processor, recipe)
    rows = corpus.split(options.split)
    unused = [m for m in MODALITIES if f"{m}_values" in rows.column_names and m not in model.config.modalities]
    if unused:
        logging.warning(f"The checkpoint was trained without {' and '.join(unused)}; the data's is not used.")
    if options.limit is not None:
        rows = rows.select(range(min(options.limit, len(rows))))
    target = Target(model.config.target, recipe.metric_convention if recipe is not None else "mosi")
    table = predict_rows(model, processor, prepare_split(rows, processor, text), options.batch_size)
    if options.output is None:
        print(as_text(table, rows) if target.name == "sentiment" else classes_as_text(table, target))
    else:
        with whole_file(options.output) as temporary:
            pq.write_table(table, temporary)
        print(f"{len(table)} predictions in {options.output}")
    if options.limit is None and target.column in rows.column_names:
        print(", ".join(f"{name} {value:.4f}" for name, value in table_metrics(table, target).items()))


def predict_text(model, processor, text: str) -> None:
    with torch.no_grad():
        outputs = model(**processor(text=text).to(model.device))
    target = Target(model.config.target)
    if target.name != "sentiment":
        scores = target.scores(outputs.logits.float().cpu().numpy())[0]
        for name, score in sorted(zip(model.config.output_names, scores, strict=True), key=lambda pair: -pair[1]):
            print(f"{name} {score:.3f}")
        return
    low, high = model.config.label_range
    print(f"sentiment {outputs.logits.item():+.3f} (from {low:g} to {high:g})")
    if outputs.text_logits is not None:
        print(f"of the text alone {outputs.text_logits.item():+.3f}")


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
    try:
        main(sys.argv[1:])
    except (ValueError, OSError, StrictDataclassError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
