"""
Converts what is on disk into a folder of Parquet shards with a dataset card, which trains, loads and uploads as it is.

    python prepare_data.py unaligned_50.pkl --output data/mosi
    python prepare_data.py cmu_mosei_csd/ --output data/mosei --align words --num_proc 4
    python prepare_data.py data/mosi --push_to_hub org/mosi

The source may be a feature pickle in MMSA's or MulT's layout, a folder of CMU-MultimodalSDK sequences (.csd), a table
of labels (label.csv) with or without a media folder, an .npz or Parquet; which one it is, is seen by looking at it.
Further `--option value` are those of its reader: --padding (pickle, .npz), --align, --words, --text, --audio, --vision
and --labels (.csd), --dataset (tables), --split_key (.npz), --corpus (all). The folder then loads with
`datasets.load_dataset("data/mosi")` and trains with `train.py RECIPE --data_file data/mosi`.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from datasets_scripts.files import check_writable
from datasets_scripts.prepared import PreparedFolder, delete_beside, is_prepared
from datasets_scripts.programs import run_program
from datasets_scripts.sources import open_source
from publishing.dataset_folder import push_dataset


def parse(arguments: list[str]) -> tuple[argparse.Namespace, dict[str, str]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="file or folder; with --push_to_hub alone, a folder that was prepared")
    parser.add_argument("--output", help="the folder to make")
    parser.add_argument("--num_proc", type=int, help="processes that convert side by side, where the format allows it")
    parser.add_argument("--max_shard_size", default="500MB", help="size of a Parquet file")
    parser.add_argument("--overwrite", action="store_true", help="replace a folder that was prepared before")
    parser.add_argument("--push_to_hub", metavar="ORG/NAME", help="upload the folder as a dataset, private")
    parser.add_argument("--public", action="store_true", help="make the dataset on the Hub public; see its terms first")
    options, rest = parser.parse_known_args(arguments)
    if len(rest) % 2 or not all(name.startswith("--") for name in rest[::2]):
        parser.error(f"options of the reader are `--name value`; got {' '.join(rest)}")
    if options.output is None and options.push_to_hub is None:
        parser.error("give --output FOLDER")
    return options, {name.removeprefix("--"): value for name, value in zip(rest[::2], rest[1::2], strict=True)}


def main(arguments: list[str]) -> None:
    options, reader_options = parse(arguments)
    if options.output is None:
        folder = Path(options.source)
        if not is_prepared(folder):
            raise ValueError(f"{folder} was not made by prepare_data.py; give --output FOLDER to convert it first.")
    else:
        folder = Path(options.output)
        convert(options, reader_options, folder)
    if options.push_to_hub is not None:
        address = push_dataset(folder, options.push_to_hub, private=not options.public)
        print(f"{options.push_to_hub} has all of this already." if address is None else f"Uploaded: {address}")


def convert(options: argparse.Namespace, reader_options: dict[str, str], folder: Path) -> None:
    """Make the folder, unless it holds the same rows already."""
    check_writable(folder.absolute().parent, "--output")
    if is_prepared(options.source):
        raise ValueError(f"{options.source} is prepared already; leave --output out, or name its source.")
    builder = open_source(options.source, **reader_options)
    there = is_prepared(folder)
    if there and not options.overwrite:
        before = PreparedFolder(folder).report()
        if (before.sha256, before.options) == (builder.config.sha256, builder.config.chosen_options()):
            delete_beside(folder)  # a conversion may have been stopped when nothing else was left to do
            print(f"{folder} holds the rows of {options.source} already.")
            return
        raise FileExistsError(
            f"--output {folder} holds other rows (of {before.source}, options {before.options}); give another folder, "
            "or --overwrite."
        )
    if not there and folder.exists():
        if folder.is_file() or any(folder.iterdir()):
            raise FileExistsError(f"--output {folder} holds other files; give an empty folder or a new one.")
        folder.rmdir()
    builder.write_folder(folder, num_proc=options.num_proc, max_shard_size=options.max_shard_size)
    print(builder.report().summary())
    print(f"Written to {folder}.")


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    run_program(
        main,
        go_on="Nothing is left of what was begun; the same command begins anew.",
        less_memory="Lower --num_proc.",
    )
