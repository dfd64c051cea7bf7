"""
Latency of one sample, samples per second of batches, and the seconds until a fresh process has predicted: here, in
MMSA, and by the part that nobody can do without.

    pip install --no-deps mmsa && pip install easydict nvidia-ml-py3 pandas scikit-learn
    python benchmarks/inference.py [--threads 1] [--compile]
    python benchmarks/inference.py --models self_mm tfn --rounds 20 --no-start

CMU-MOSI's shape: 50 tokens or words, audio and vision of as many steps, 5 and 20 features; lengths as in the corpus, a
dozen words in the mean. MMSA pads every sample to 50 steps; here a batch is as long as its longest sample. "full" has
50 valid steps in every sample, the same arithmetic for both. Weights are random; the sizes are MMSA's defaults for
CMU-MOSI, with a text encoder of MiniLM's size (6 layers, width 384) where it has one. The models take turns. The limit
is what is left when the architecture is taken away: the text encoder alone, on the tokens without padding, or, of
models that read features, one product with a matrix of as many weights as the model has, per sample.

One thread is timed by the processor's clock, which other programs disturb less, anything else by the wall's.
The start is timed by the wall's clock, in processes of their own, with the caches of files warm.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn
from transformers import CONFIG_MAPPING, MODEL_MAPPING, AutoModel, BertConfig
from transformers.utils.logging import disable_progress_bar

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import modeling  # noqa: E402, F401  (registers the architectures)
from training.trainer import MASKS  # noqa: E402

STEPS = 50
WIDTHS = {"text": 768, "audio": 5, "vision": 20}
MINILM = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}
WITH_ENCODER = ("self_mm", "misa", "mmim", "mag_bert")
PEERS = {
    "self_mm": "multiTask.SELF_MM.SELF_MM",
    "tfn": "singleTask.TFN.TFN",
    "lmf": "singleTask.LMF.LMF",
    "mfn": "singleTask.MFN.MFN",
    "graph_mfn": "singleTask.Graph_MFN.Graph_MFN",
    "mult": "singleTask.MULT.MULT",
    "misa": "singleTask.MISA.MISA",
}
BATCHES = (1, 8, 32, 128)
Predict = Callable[[], Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(PEERS), choices=list(PEERS), metavar="MODEL")
    parser.add_argument("--rounds", type=int, default=11, help="predictions of one sample; of batches, a quarter")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--compile", action="store_true", help="torch.compile's rows, too: needs a C++ compiler")
    parser.add_argument("--no-start", dest="start", action="store_false", help="leave the process start out")
    parser.add_argument("--no-latency", dest="latency", action="store_false", help="only the process start")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    disable_progress_bar()
    if options.compile and not any(shutil.which(name) for name in ("g++", "clang++", "c++")):
        sys.exit("--compile needs a C++ compiler; there is no g++, clang++ or c++ here.")
    if options.latency:
        latency(options)
    if options.start:
        start(options)


def latency(options: argparse.Namespace) -> None:
    clock = time.process_time if options.threads == 1 else time.perf_counter
    heading = "".join(f"{f'{size}: samples/s':>16}" for size in BATCHES[1:])
    print(f"{'':28}{'1: median, ms':>14}{'p95, ms':>10}{heading}")
    for name in options.models:
        torch.manual_seed(0)
        rows = {"sentimodal": ours(name), "sentimodal, full": ours(name, full=True)}
        if options.compile:
            rows["sentimodal, compiled"], seconds = compiled(name)
        peer = peers(name)
        if peer is not None:
            rows["MMSA"] = peer
        rows["limit"] = limit(name)
        seconds_of = timed(rows, options.rounds, clock)
        for row, by_batch in seconds_of.items():
            one = sorted(by_batch[1])
            cells = "".join(f"{size / statistics.median(by_batch[size]):16.0f}" for size in BATCHES[1:])
            p95 = one[min(len(one) - 1, round(0.95 * (len(one) - 1)))]
            print(f"{f'{name}, {row}':28}{statistics.median(one) * 1e3:14.2f}{p95 * 1e3:10.2f}{cells}", flush=True)
        if "MMSA" in seconds_of:
            gains = [
                statistics.median(seconds_of["MMSA"][size]) / statistics.median(seconds_of["sentimodal"][size])
                for size in BATCHES
            ]
            print(f"{'':4}times as fast as MMSA at {BATCHES}: {', '.join(f'{gain:.1f}' for gain in gains)}")
        if options.compile:
            print(f"{'':4}torch.compile took {seconds:.0f} seconds")


def timed(rows: dict[str, dict[int, Predict]], rounds: int, clock: Callable[[], float]):
    """By row and batch size the seconds of each prediction, after one that is not counted; the rows take turns."""
    found: dict[str, dict[int, list[float]]] = {row: {size: [] for size in BATCHES} for row in rows}
    with torch.no_grad():
        for size in BATCHES:
            for number in range((rounds if size == 1 else max(rounds // 4, 2)) + 1):
                for row, predictions in rows.items():
                    begun = clock()
                    predictions[size]()
                    if number:
                        found[row][size].append(clock() - begun)
    return found


def batch_of(name: str, size: int, full: bool = False, trim: bool = True) -> dict[str, torch.Tensor]:
    """Random samples with lengths as in CMU-MOSI: log-normal, of which a dozen is the mean."""
    generator = torch.Generator().manual_seed(size)
    lengths = torch.randn(size, generator=generator).mul(0.6).add(2.3).exp().clamp(1, STEPS).long()
    if full:
        lengths = torch.full((size,), STEPS)
    steps = int(lengths.max()) if trim else STEPS
    mask = (torch.arange(steps) < lengths.unsqueeze(1)).long()
    batch = {MASKS[modality]: mask for modality in WIDTHS}
    for modality, width in WIDTHS.items():
        if modality == "text" and name in WITH_ENCODER:
            batch["input_ids"] = torch.randint(1000, 30000, mask.shape, generator=generator) * mask
        else:
            values = torch.randn(*mask.shape, width, generator=generator)
            batch[f"{modality}_values"] = values * mask.unsqueeze(-1)
    return batch


def our_model(name: str) -> nn.Module:
    sizes = {f"{modality}_feature_size": width for modality, width in WIDTHS.items()}
    if name in WITH_ENCODER:
        sizes.pop("text_feature_size")
        sizes["text_config"] = {"model_type": "bert", **MINILM}
    config = CONFIG_MAPPING[name](**sizes)
    return MODEL_MAPPING[type(config)](config).eval()


def ours(name: str, full: bool = False) -> dict[int, Predict]:
    model = our_model(name)
    return {size: partial(model, **batch_of(name, size, full)) for size in BATCHES}


def compiled(name: str) -> tuple[dict[int, Predict], float]:
    """With shapes left open; and the seconds until every batch has been predicted once."""
    model = torch.compile(our_model(name), dynamic=True)
    found = {size: partial(model, **batch_of(name, size)) for size in BATCHES}
    begun = time.perf_counter()
    with torch.no_grad():
        for predict in found.values():
            predict()
    return found, time.perf_counter() - begun


def limit(name: str) -> dict[int, Predict]:
    found: dict[int, Predict] = {}
    if name in WITH_ENCODER:
        encoder = AutoModel.from_config(BertConfig(**MINILM)).eval()
        for size in BATCHES:
            batch = batch_of(name, size)
            found[size] = partial(encoder, **{key: batch[key] for key in ("input_ids", "attention_mask")})
        return found
    weights = sum(parameter.numel() for parameter in our_model(name).parameters())
    matrix = torch.randn(-(-weights // 1024), 1024)
    return {size: partial(nn.functional.linear, torch.randn(size, 1024), matrix) for size in BATCHES}


def peers(name: str) -> dict[int, Predict] | None:
    """MMSA's model with its defaults for CMU-MOSI; None without MMSA, or what it needs."""
    try:
        from importlib import import_module

        from MMSA.config import get_config_regression

        module, _, class_name = PEERS[name].rpartition(".")
        peer_class = getattr(import_module(f"MMSA.models.{module}"), class_name)
    except ModuleNotFoundError as error:
        print(f"No rows of MMSA: {error}. `pip install --no-deps mmsa` and what it needs brings it.")
        return None
    torch.manual_seed(0)
    settings = {**get_config_regression(name, "mosi"), "feature_dims": list(WIDTHS.values())}
    settings |= {"train_mode": "regression", "device": "cpu", "seq_lens": [STEPS] * 3, "use_bert": False}
    with tempfile.TemporaryDirectory() as folder:
        if name in WITH_ENCODER:
            write_encoder(Path(folder))
            settings |= {"pretrained": folder, "use_bert": True, "need_data_aligned": True}
            settings |= {"text_out": MINILM["hidden_size"], "feature_dims": [MINILM["hidden_size"], 5, 20]}
        model = peer_class(SimpleNamespace(**settings)).eval()
    if name == "misa":  # it takes BERT's width for granted
        layers = model.project_t
        layers.project_t = nn.Linear(MINILM["hidden_size"], layers.project_t.out_features)
    found = {}
    for size in BATCHES:
        batch = batch_of(name, size, trim=False)
        mask = batch["attention_mask"].float()
        text = batch.get("text_values")
        if name in WITH_ENCODER:
            text = torch.stack([batch["input_ids"].float(), mask, torch.zeros_like(mask)], dim=1)
        parts: list[Any] = [text, batch["audio_values"], batch["vision_values"]]
        if name in ("tfn", "lmf"):  # its loader gives them means over all steps
            parts[1:] = [part.mean(dim=1, keepdim=True) for part in parts[1:]]
        if name == "self_mm":
            lengths = mask.sum(dim=1).long()
            parts[1:] = [(part, lengths) for part in parts[1:]]
        found[size] = partial(model, *parts)
    return found


def write_encoder(folder: Path) -> None:
    """A text encoder with random weights, as MMSA reads it."""
    from transformers import BertModel

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{number}" for number in range(100))]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    BertModel(BertConfig(**MINILM)).save_pretrained(folder)
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}), encoding="utf-8")


START = """
import sys, time
marks = [("Python", time.time() - float(sys.argv[2]))]
def mark(name):
    marks.append((name, time.time() - float(sys.argv[2]) - sum(seconds for _, seconds in marks)))
import torch
mark("import torch")
{body}
print("SECONDS " + repr(marks))
"""
AUTO = """
from transformers import AutoModel, AutoProcessor
mark("import transformers")
processor = AutoProcessor.from_pretrained(sys.argv[1], trust_remote_code=True)
mark("processor")
model = AutoModel.from_pretrained(sys.argv[1], trust_remote_code=True).eval()
mark("model")
inputs = processor(text=["a good film"])
with torch.no_grad():
    model(**inputs)
    mark("first prediction")
    model(**inputs)
    mark("second prediction")
"""
PIPELINE = """
from transformers import pipeline
mark("import transformers")
predict = pipeline("multimodal-sentiment-analysis", model=sys.argv[1], trust_remote_code=True)
mark("pipeline")
predict("a good film")
mark("first prediction")
predict("a good film")
mark("second prediction")
"""
EXPORTED = """
sys.path.insert(0, {root!r})
from processing import MultimodalProcessor
from publishing.exported_model import ExportedModel
mark("import")
processor = MultimodalProcessor.from_pretrained(sys.argv[1])
model = ExportedModel(sys.argv[1])
mark("processor and model")
inputs = processor(text=["a good film"])
model(**inputs)
mark("first prediction")
model(**inputs)
mark("second prediction")
"""


def start(options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder, exported = Path(place) / "checkpoint", Path(place) / "exported"
        write_checkpoint_folder(folder)
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_MODULES_CACHE": f"{place}/modules"}
        environment["OMP_NUM_THREADS"] = str(options.threads)
        programs = {"AutoModel": (AUTO, folder), "pipeline(...)": (PIPELINE, folder)}
        if export(folder, exported):
            programs["exported to ONNX"] = EXPORTED.format(root=str(ROOT)), exported
        for title, (body, source) in programs.items():
            runs = [parts_of(START.replace("{body}", body), source, environment, place) for _ in range(3)]
            best = min(runs, key=lambda parts: sum(seconds for _, seconds in parts))
            print(f"\n{title}: {sum(seconds for _, seconds in best):.2f} seconds, the best of three")
            for name, seconds in best:
                print(f"    {name:24}{seconds:8.3f}")
        command = [sys.executable, str(ROOT / "predict.py"), str(folder), "--text", "a good film"]
        times = []
        for _ in range(3):
            begun = time.perf_counter()
            subprocess.run(command, env=environment, check=True, capture_output=True, cwd=place)
            times.append(time.perf_counter() - begun)
        print(f"\npython predict.py CHECKPOINT --text ...: {min(times):.2f} seconds, the best of three")


def export(folder: Path, target: Path) -> bool:
    """Whether the libraries for it are there."""
    from publishing.export_folder import export_checkpoint

    target.mkdir()
    try:
        export_checkpoint(folder, target)
    except ImportError as error:
        print(f"No start of an exported model: {error}")
        return False
    return True


def write_checkpoint_folder(folder: Path) -> None:
    """Self-MM around a text encoder of MiniLM's size, with its processor and code, as it is published."""
    from processing import MultimodalProcessor
    from training.factory import word_tokenizer
    from training.remote_code import write_checkpoint

    tokenizer = word_tokenizer(["a good film and a bad one"], {})
    processor = MultimodalProcessor(tokenizer, text_input="tokens", audio_feature_size=5, vision_feature_size=20)
    write_checkpoint(folder, our_model("self_mm"), processor)


def parts_of(program: str, folder: Path, environment: dict[str, str], place: str) -> list[tuple[str, float]]:
    """Seconds of each part of a process, from its start."""
    command = [sys.executable, "-c", program, str(folder), str(time.time())]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=place)
    line = next((line for line in run.stdout.splitlines() if line.startswith("SECONDS ")), None)
    if line is None:
        sys.exit(f"The process failed:\n{run.stderr[-3000:]}")
    return json.loads(line.removeprefix("SECONDS ").replace("(", "[").replace(")", "]").replace("'", '"'))


if __name__ == "__main__":
    main()
