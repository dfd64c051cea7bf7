"""
Exports a checkpoint as a graph for serving: ONNX, or PyTorch's ExportedProgram.

    python export.py runs/mosi --output exported/mosi
    python export.py runs/mosi --output exported/mosi_int8 --int8
    python export.py runs/mosi --output exported/mosi_pt2 --format exported_program

The graph takes batches of any size and sequences of any length, with their masks, on the CPU. Before anything is
written, its outputs are compared with the model's on random batches of several sizes and lengths, padded on either side
and with modalities missing; a difference above --tolerance is an error. --int8 makes the text encoder multiply in
8 bits, which is faster and smaller and no longer the same: `benchmarks/quantization.py` measures what it costs.

The folder holds the graph, the processor, the configuration, and export.json: inputs, outputs, versions, and the
differences that were measured. Five lines predict with it:

    from processing import MultimodalProcessor, MultimodalSentimentPipeline
    from publishing.exported_model import ExportedModel
    processor = MultimodalProcessor.from_pretrained("exported/mosi")
    predict = MultimodalSentimentPipeline(model=ExportedModel("exported/mosi"), processor=processor, device="cpu")
    print(predict("what a film"))
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from transformers.utils.logging import disable_progress_bar

from datasets_scripts.files import new_folder
from datasets_scripts.programs import run_program
from publishing.export_folder import TOLERANCE, export_checkpoint
from publishing.export_graph import FORMATS


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", help="the folder of a run, or an id on the Hub")
    parser.add_argument("--output", required=True, help="the folder to write: a new or an empty one")
    parser.add_argument("--format", choices=list(FORMATS), default="onnx")
    parser.add_argument("--int8", action="store_true", help="the text encoder in 8 bits; of ONNX alone")
    parser.add_argument(
        "--tolerance",
        type=float,
        default=TOLERANCE,
        help=f"largest difference from the model, relative to values above 1; {TOLERANCE:g} by default",
    )
    options = parser.parse_args(arguments)
    if not options.tolerance >= 0:
        parser.error(f"--tolerance must be at least 0; got {options.tolerance}")
    return options


def main(arguments: list[str]) -> None:
    options = parse(arguments)
    target = Path(options.output)
    with new_folder(target, "--output") as folder:
        manifest = export_checkpoint(options.checkpoint, folder, options.format, options.int8, options.tolerance)
    # Large weights are in a file beside the graph.
    size = sum(file.stat().st_size for file in target.glob(f"{manifest['file']}*")) / 1e6
    found = manifest["check"]
    print(f"{target / manifest['file']}: {size:.1f} MB; differs by {max(found['largest_difference'].values()):.1g}.")
    if options.int8:
        largest = max(found["largest_difference_int8"].values())
        print(f"In int8, {manifest['int8_products']} products of the text encoder; differs by {largest:.2g}.")


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    disable_progress_bar()
    run_program(main, less_memory="Export on a machine with more memory.")
