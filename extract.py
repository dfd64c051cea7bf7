"""
Turns a folder of media into a folder of features, which trains, loads and uploads as those of prepare_data.py do.

    python extract.py clips/ --labels label.csv --output data/mine
    python extract.py clips/ --output data/mine --audio '{"name": "egemaps_v02", "rate": 10}' --drop vision
    accelerate launch extract.py clips/ --output data/mine

Media are clips/<video_id>/<clip_id>.mp4 or clips/<id>.mp4, also below clips/Raw, video or sound; where there are both,
the video is read. The table says what is said in them, how they are labelled and their split, see prepare_data.py;
without one, every file is a clip to predict, in the split "test". Words come from the table; where it has none, from
<the same name>.srt, .vtt or .txt beside the clip; where there is none, from --transcriber.

What was extracted lies in OUTPUT.clips, a file per clip, until OUTPUT is written and no clip has failed: a run that was
stopped, however it was, goes on where it was with the same command. Clips that fail are listed in failed_clips.csv and
left out, and the program ends with the exit code 1. Started by `accelerate launch` on several machines, each process
takes its share of the clips; OUTPUT must be on a disk that all see.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from datasets.utils.py_utils import convert_file_size_to_int

from datasets_scripts.corpora import CORPORA
from datasets_scripts.extraction import run
from datasets_scripts.extraction.clip_worker import ExtractionSettings
from datasets_scripts.extraction.clips import MediaFolder
from datasets_scripts.extraction.failures import FAILURES_FILE
from datasets_scripts.extraction.share import Share
from datasets_scripts.extraction.store import ClipStore
from datasets_scripts.files import behind_link, check_writable
from datasets_scripts.prepared import PreparedFolder, delete_beside, is_prepared
from datasets_scripts.programs import run_program
from datasets_scripts.schema import MODALITIES
from processing.media_features import EXTRACTORS, MediaFeatures

DEFAULTS = {modality: next(iter(extractors)) for modality, extractors in EXTRACTORS.items()}


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("media", help="the folder of media")
    parser.add_argument("--labels", help="the table of labels; by default the one in the folder, if there is one")
    parser.add_argument("--output", required=True, help="the folder to make")
    for modality, extractors in EXTRACTORS.items():
        parser.add_argument(
            f"--{modality}",
            default=DEFAULTS[modality],
            metavar="NAME_OR_JSON",
            help=f"{', '.join(extractors)}, or settings in JSON with a name (default: {DEFAULTS[modality]})",
        )
    parser.add_argument("--transcriber", metavar="MODEL", help="speech recognition for clips without a transcript")
    parser.add_argument("--language", help="what is spoken, such as en, for a transcriber that knows several languages")
    parser.add_argument("--drop", nargs="+", default=[], choices=MODALITIES, help="modalities to leave out")
    parser.add_argument("--num_proc", type=int, default=2, help="processes side by side (default: 2)")
    parser.add_argument("--max_seconds", type=float, default=3600.0, help="longer clips fail (default: 3600)")
    parser.add_argument(
        "--clip_timeout", type=float, default=7200.0, help="a clip fails that takes so many seconds (default: 7200)"
    )
    parser.add_argument(
        "--corpus",
        choices=[*CORPORA, "none"],
        help="which corpus this is, where the ids do not tell; see prepare_data.py",
    )
    parser.add_argument("--dataset", help="the value of the table's column `dataset` whose rows are read")
    parser.add_argument("--max_shard_size", default="500MB", help="size of a Parquet file")
    parser.add_argument("--keep_clips", action="store_true", help="keep OUTPUT.clips when all is done")
    parser.add_argument("--overwrite", action="store_true", help="replace a folder that was made before")
    options = parser.parse_args(arguments)
    if options.transcriber is not None and "text" in options.drop:
        parser.error("--transcriber finds words, which --drop text leaves out; give one of them")
    if options.num_proc < 1:
        parser.error(f"--num_proc must be 1 or more; got {options.num_proc}")
    for name in ("max_seconds", "clip_timeout"):
        if not getattr(options, name) > 0:
            parser.error(f"--{name} must be more than 0; got {getattr(options, name)}")
    try:
        fits = convert_file_size_to_int(options.max_shard_size) > 0
    except ValueError:
        fits = False
    if not fits:
        parser.error(f"--max_shard_size must be a size such as 500MB or 2GB; got {options.max_shard_size}")
    return options


def main(arguments: list[str]) -> int:
    """Returns the exit code: 1 where clips failed."""
    options = parse(arguments)
    chosen = {
        modality: settings_of(modality, getattr(options, modality))
        for modality in EXTRACTORS
        if modality not in options.drop
    }
    extractors = run.described(MediaFeatures(chosen.get("audio"), chosen.get("vision")))
    settings = ExtractionSettings(
        {modality: made["settings"] for modality, made in extractors.items()},
        options.transcriber,
        options.language,
        options.max_seconds,
    )
    media = MediaFolder(
        Path(options.media),
        None if options.labels is None else Path(options.labels),
        text="text" not in options.drop,
        dataset=options.dataset,
        corpus=options.corpus,
    )
    folder = behind_link(options.output)
    check_writable(folder.absolute().parent, "--output")
    shown = report_options(options)
    store = clip_store(folder)
    with Share() as share, run.kept(store) if share.is_first else nullcontext():
        # The first process looks for all: once it writes the folder, the others would see another.
        code = exit_code_before(options, folder, media, settings, shown) if share.is_first else None
        code = share.gathered(code)[0]
        if code is not None:
            return code
        work = run.Work()
        for part in share.gathered(
            run.extract_share(media, store, settings, share, options.num_proc, options.clip_timeout)
        ):
            work.add(part)
        if share.is_first:
            report = run.write_rows(
                media,
                store,
                settings,
                extractors,
                shown,
                work.failed,
                folder,
                corpus=options.corpus,
                max_shard_size=options.max_shard_size,
            )
            print(f"{report.summary()}\n{work}\nWritten to {folder}.")
            if not work.failed and not options.keep_clips:
                run.remove(store)
            if work.failed:
                listed = folder / FAILURES_FILE
                print(f"{len(work.failed)} clips failed; {listed} says which, and why.", file=sys.stderr)
        share.gathered(None)  # a launcher stops all processes once one ends with an error, also while the first writes
    return 1 if work.failed else 0


def clip_store(folder: Path) -> ClipStore:
    """Where the clips of an output folder lie until it is written."""
    return ClipStore(Path(f"{folder}.clips"))


def settings_of(modality: str, text: str) -> dict[str, Any]:
    """The settings that an option gives: a name, or JSON."""
    if not text.lstrip().startswith("{"):
        return {"name": text}
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(
            f'--{modality} must be a name or settings in JSON, such as {{"name": "{DEFAULTS[modality]}"}}, but it is '
            f"{text} ({error}); correct it."
        ) from None


def report_options(options: argparse.Namespace) -> dict[str, Any]:
    """What was chosen, for the report; places on this machine are left out."""
    transcriber = options.transcriber
    if transcriber is not None and Path(transcriber).is_dir():
        transcriber = Path(transcriber).name
    found = {
        "transcriber": transcriber,
        "language": options.language,
        "dataset": options.dataset,
        "drop": sorted(options.drop) or None,
    }
    return {name: value for name, value in found.items() if value is not None}


def exit_code_before(
    options: argparse.Namespace,
    folder: Path,
    media: MediaFolder,
    settings: ExtractionSettings,
    shown: dict[str, Any],
) -> int | None:
    """The exit code where the folder holds the rows already; None where it is to be written."""
    if is_prepared(folder) and not options.overwrite:
        corpus = {} if options.corpus is None else {"corpus": options.corpus}
        if run.is_same(PreparedFolder(folder).report(), media, settings, corpus | shown, options.num_proc):
            failed = (folder / FAILURES_FILE).is_file()
            delete_beside(folder)  # an extraction may have been stopped when nothing else was left to do
            if not failed and not options.keep_clips:
                run.remove(clip_store(folder))
            rest = f", but for those in {FAILURES_FILE}; try these again with --overwrite" if failed else ""
            print(f"{folder} holds the rows of {media.path} already{rest}.")
            return 1 if failed else 0
        raise FileExistsError(
            f"--output {folder} holds other rows, or those of other media or settings; give another folder, or "
            "--overwrite."
        )
    if not is_prepared(folder) and folder.exists():
        if folder.is_file() or any(folder.iterdir()):
            raise FileExistsError(f"--output {folder} holds other files; give an empty folder or a new one.")
        folder.rmdir()
    return None


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    run_program(
        main,
        go_on="The same command goes on where it was.",
        less_memory="Lower --num_proc; a clip takes less if it is shorter (--max_seconds).",
    )
