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
import sys
from pathlib import Path

from huggingface_hub import CommitInfo, HfApi

from datasets_scripts.prepared import PreparedFolder, is_prepared
from datasets_scripts.sources import open_source


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
        push(PreparedFolder(folder), options.push_to_hub, private=not options.public)


def convert(options: argparse.Namespace, reader_options: dict[str, str], folder: Path) -> None:
    """Make the folder, unless it holds the same rows already."""
    if is_prepared(options.source):
        raise ValueError(f"{options.source} is prepared already; leave --output out, or name its source.")
    builder = open_source(options.source, **reader_options)
    there = is_prepared(folder)
    if there and not options.overwrite:
        before = PreparedFolder(folder).report()
        if (before.sha256, before.options) == (builder.config.sha256, builder.config.chosen_options()):
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


def push(prepared: PreparedFolder, repo_id: str, private: bool) -> None:
    """Upload a prepared folder in one commit; shards of an earlier upload are deleted in it.

    Raises:
        ValueError: the repository is public, and nobody said that it may be.
        ConnectionError: the Hub was not reached, or refused. There is no commit then.
    """
    try:
        commit = _upload(prepared, repo_id, private)
    except ValueError:
        raise
    except Exception as error:  # the Hub's own errors, and those of the library that it speaks through
        raise ConnectionError(
            f"{prepared.path} was not uploaded to {repo_id} ({type(error).__name__}: {error}); check the connection, "
            "the name and the token (`hf auth login`), and run this again."
        ) from error
    print(f"Uploaded to {commit.commit_url}.")


def _upload(prepared: PreparedFolder, repo_id: str, private: bool) -> CommitInfo:
    api = HfApi()
    repo = api.create_repo(repo_id, repo_type="dataset", private=private, exist_ok=True)
    visible = api.repo_info(repo.repo_id, repo_type="dataset").private is False
    if visible and private:
        raise ValueError(
            f"{repo.repo_id} is public, and the rows belong to a corpus whose terms may not allow that; make it "
            "private in its settings, or give --public."
        )
    return api.upload_folder(
        repo_id=repo.repo_id,
        repo_type="dataset",
        folder_path=prepared.path,
        commit_message=f"Rows of {prepared.report().source}",
        delete_patterns=["data/*.parquet"],
        ignore_patterns=[".*"],
    )


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        main(sys.argv[1:])
    except (ValueError, OSError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
