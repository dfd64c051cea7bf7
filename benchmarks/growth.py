"""
How cost grows: with the length of sequences, the size of the batch, the width of features, the size of the corpus and
the number of epochs, each beside the growth that is expected.

    python benchmarks/growth.py                        # a shorter range of each, under three minutes on one core
    python benchmarks/growth.py --full --plot FOLDER   # 50 to 5,000 steps, 1,000 to 1,000,000 rows, and pictures

"slope" is that of a line through the upper half of the range, both axes logarithmic: 1 where twice as much costs twice
as much, 0 where it costs the same. "expected" is the highest that it should be: 2 in the length where every step
attends to every other, 1 elsewhere in length, batch and width; 0 for what a step of training costs whatever the size of
the corpus. A slope more than 0.25 above is marked "worse".

Models have their default sizes, their input is random, of the given steps in each modality. A point is a forward and
backward pass in a process of its own, the fastest of several, in time of the processor; its memory is what the process
takes at most beyond what the model has. A curve ends before a point that would take longer than --seconds. The corpus
is a prepared folder of small rows (3 to 12 steps of 8, 4 and 4 features), opened as training opens it. The first time
that a row is read, its pages of the file come into this process' memory: of many rows each has pages of its own, of few
they share them, so that a random batch costs up to twice as much in a large corpus until it was read before.

Gradients of the first of many steps of a recurrent network may be too small for normal floating-point numbers, with
which processors are several times slower. They are taken for zero here, see `torch.set_flush_denormal`; --denormals
keeps them, and then some curves jump where they begin.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import datasets  # noqa: E402

from datasets_scripts.prepared import DATA_FOLDER, REPORT_FILE, write_card  # noqa: E402
from datasets_scripts.report import ConversionReport  # noqa: E402
from datasets_scripts.schema import row_features  # noqa: E402
from modeling import MODEL_CLASSES  # noqa: E402
from processing import MultimodalProcessor  # noqa: E402
from training.collator import MultimodalCollator  # noqa: E402
from training.corpus import load_corpus, prepare_split  # noqa: E402
from training.label_generation import LABEL_GENERATORS, LabelGenerator  # noqa: E402
from training.plots import pyplot, save  # noqa: E402
from training.sampler import BucketSampler  # noqa: E402
from training.trainer import MASKS  # noqa: E402

WIDTHS = {"text": 300, "audio": 74, "vision": 35}
ROW_WIDTHS = {"text": 8, "audio": 4, "vision": 4}
STATE_WIDTHS = {"self_mm": {"fusion": 128, "text": 64, "audio": 16, "vision": 32}, "sugrm": dict.fromkeys(
    ("fusion", "text", "audio", "vision"), 32)}  # fmt: skip
# By architecture, in the number of steps: quadratic where all steps attend to all.
LENGTH_SLOPES = {
    "self_mm": 1, "sugrm": 1, "mmlatch": 2, "ucrn": 2, "delta_attention": 2, "mult": 2, "mfn": 1, "tfn": 1,
}  # fmt: skip
# In the width of features: MMLatch's masks are made by LSTMs as wide as the features that they mask.
WIDTH_SLOPES = {**dict.fromkeys(LENGTH_SLOPES, 1), "mmlatch": 2}
TOLERANCE = 0.25
BATCH = 32


@dataclass
class Curve:
    """A cost by size; `expected` is its highest slope."""

    name: str
    expected: float
    sizes: list[int] = field(default_factory=list)
    costs: list[float] = field(default_factory=list)

    def add(self, size: int, cost: float) -> None:
        self.sizes.append(size)
        self.costs.append(cost)

    @property
    def slope(self) -> float:
        """Of a line through the points above the middle of the range; NaN where there are fewer than two."""
        points = [(x, y) for x, y in zip(self.sizes, self.costs, strict=True) if y > 0]
        if len(points) < 2:
            return math.nan
        middle = math.sqrt(points[0][0] * points[-1][0])
        upper = [point for point in points if point[0] >= middle * 0.999]
        x, y = np.log(np.array(upper if len(upper) > 1 else points[-2:])).T
        return float(np.polyfit(x, y, 1)[0])

    @property
    def is_worse(self) -> bool:
        return self.slope > self.expected + TOLERANCE


@dataclass
class Family:
    """Curves over the same sizes."""

    title: str
    size_name: str
    unit: str
    sizes: list[int]
    curves: list[Curve]

    def show(self) -> None:
        print(f"\n{self.title}, {self.unit}, by {self.size_name}")
        print(" " * 34 + "".join(f"{size:>10,}" for size in self.sizes) + f"{'slope':>8}{'expected':>10}")
        for curve in self.curves:
            found = dict(zip(curve.sizes, curve.costs, strict=True))
            cells = "".join(f"{_number(found[size]) if size in found else '-':>10}" for size in self.sizes)
            slope = f"{curve.slope:8.2f}{curve.expected:10.0f}" + ("  worse" if curve.is_worse else "")
            print(f"{curve.name:34}{cells}{slope}", flush=True)

    def draw(self, folder: Path) -> None:
        """A picture, the expected slope of each curve dashed, from the curve's last point downwards."""
        figure, axes = pyplot().subplots(figsize=(8, 5.5))
        for curve in self.curves:
            points = [(x, y) for x, y in zip(curve.sizes, curve.costs, strict=True) if y > 0]
            if len(points) < 2:
                continue
            sizes, costs = map(np.array, zip(*points, strict=True))
            (line,) = axes.loglog(sizes, costs, "o-", label=f"{curve.name} ({curve.slope:.2f} / {curve.expected:.0f})")
            limit = costs[-1] * (sizes / sizes[-1]) ** float(curve.expected)
            shown = limit >= costs.min() / 3
            axes.loglog(sizes[shown], limit[shown], "--", color=line.get_color(), linewidth=0.9, alpha=0.7)
        axes.set(xlabel=self.size_name, ylabel=self.unit, title=self.title)
        axes.set_xticks(self.sizes, [f"{size:,}" for size in self.sizes])
        axes.minorticks_off()
        axes.grid(True, which="major", alpha=0.3)
        axes.legend(
            title="slope / expected (dashed)", fontsize=7, title_fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5)
        )
        save(figure, folder / f"{self.title.replace(' ', '_').replace(',', '').lower()}.png")


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="the whole ranges, which take many minutes")
    parser.add_argument("--plot", metavar="FOLDER", help="where to draw the curves; needs matplotlib")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="what to measure")
    parser.add_argument("--architectures", nargs="+", default=list(LENGTH_SLOPES), help="model types")
    parser.add_argument("--seconds", type=float, help="longest point of a curve; 1.5 by default, 60 with --full")
    parser.add_argument("--folder", help="where to put generated corpora; a temporary folder by default")
    parser.add_argument("--denormals", action="store_true", help="do not take very small numbers for zero")
    options = parser.parse_args()
    options.seconds = options.seconds or (60.0 if options.full else 1.5)
    if options.plot:
        pyplot()  # says now if it cannot
    torch.set_num_threads(1)
    torch.set_flush_denormal(not options.denormals)
    families = []
    for name in options.only:
        for family in PARTS[name](options):
            family.show()
            families.append(family)
    if options.plot:
        for family in families:
            family.draw(Path(options.plot))
    worse = [f"{curve.name} ({family.title})" for family in families for curve in family.curves if curve.is_worse]
    print(f"\nWorse than expected: {', '.join(worse) or 'nothing'}")


# Models


def by_length(options: argparse.Namespace) -> Iterable[Family]:
    sizes = [50, 100, 200, 400, 800, 1600, 3200, 5000] if options.full else [50, 100, 200, 400, 800]
    points = lambda steps: {"steps": steps, "batch_size": 2}  # noqa: E731
    return model_curves("Length of sequences", "steps in each modality", sizes, points, LENGTH_SLOPES, options)


def by_batch_size(options: argparse.Namespace) -> Iterable[Family]:
    sizes = [1, 4, 16, 64, 256] if options.full else [4, 16, 64]
    points = lambda batch: {"steps": 40, "batch_size": batch}  # noqa: E731
    return model_curves("Batch size", "samples in a batch", sizes, points, dict.fromkeys(LENGTH_SLOPES, 1), options)


def by_feature_size(options: argparse.Namespace) -> Iterable[Family]:
    sizes = [32, 128, 512, 2048, 8192] if options.full else [32, 256, 2048]
    points = lambda width: {"steps": 40, "batch_size": 8, "width": width}  # noqa: E731
    return model_curves("Width of features", "features per step", sizes, points, WIDTH_SLOPES, options)


def model_curves(
    title: str,
    size_name: str,
    sizes: list[int],
    point: Callable[[int], dict[str, int]],
    slopes: dict[str, int],
    options: argparse.Namespace,
) -> Iterable[Family]:
    seconds, memory = [], []
    for model_type in options.architectures:
        time_curve, memory_curve = (Curve(model_type, slopes.get(model_type, 1)) for _ in range(2))
        for size in sizes:
            if time_curve.costs:
                times = (size / time_curve.sizes[-1]) ** time_curve.expected
                if times * time_curve.costs[-1] / 1000 > options.seconds:
                    break
            took, peak = in_process(step_cost, model_type, **point(size))
            time_curve.add(size, took * 1000)
            memory_curve.add(size, peak / 1e6)
        seconds.append(time_curve)
        memory.append(memory_curve)
    yield Family(f"{title}, time", size_name, "ms of a training step", sizes, seconds)
    yield Family(f"{title}, memory", size_name, "MB of a training step", sizes, memory)


def step_cost(model_type: str, steps: int, batch_size: int, width: int | None = None) -> tuple[float, int]:
    """Seconds of a forward and backward pass, and bytes at most beyond what the model takes."""
    model_class = next(cls for cls in MODEL_CLASSES if cls.config_class.model_type == model_type)
    widths = {modality: width or size for modality, size in WIDTHS.items()}
    fields: dict[str, Any] = {f"{modality}_feature_size": size for modality, size in widths.items()}
    fields["target"] = "sentiment"
    if model_type == "delta_attention":
        fields["max_steps"] = max(steps, 512)
    torch.manual_seed(0)
    model = model_class(model_class.config_class(**fields)).train()
    batch = {"labels": torch.rand(batch_size) * 6 - 3}
    for modality, size in widths.items():
        batch[f"{modality}_values"] = torch.randn(batch_size, steps, size)
        batch[MASKS[modality]] = torch.ones(batch_size, steps, dtype=torch.long)
    before, spent, fastest = resident("VmRSS"), 0.0, math.inf
    for _ in range(4):
        model.zero_grad()
        begun = time.process_time()
        model(**batch).loss.backward()
        took = time.process_time() - begun
        fastest, spent = min(fastest, took), spent + took
        if spent > 1:
            break
    return fastest, resident("VmHWM") - before


# The corpus


def by_rows(options: argparse.Namespace) -> Iterable[Family]:
    sizes = [1_000, 10_000, 100_000, 1_000_000] if options.full else [1_000, 10_000, 100_000]
    once = [Curve(name, 1) for name in ("first opening (converts)", "lengths", "the order of an epoch")]
    opening, held = Curve("opening again", 0), Curve("lengths and order of an open corpus", 1)
    step = [Curve(name, 0) for name in ("first batch", "a random batch", "a random batch, read before")]
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for size in sizes:
            path = Path(folder) / str(size)
            in_process(write_corpus, path, size)
            found = in_process(first_opening, path) | in_process(corpus_cost, path)
            for curve in (*once, opening, *step, held):
                curve.add(size, found[curve.name])
    yield Family("Rows of a corpus, seconds once", "rows", "s", sizes, [*once, opening])
    yield Family("Rows of a corpus, a step", "rows", "ms", sizes, step)
    yield Family("Rows of a corpus, memory", "rows", "MB", sizes, [held])


def write_corpus(folder: Path, rows: int, together: int = 1000) -> None:
    """A prepared folder of random rows, as many to a row group as prepare_data.py puts there."""
    features = row_features(**{f"{modality}_feature_size": width for modality, width in ROW_WIDTHS.items()})
    schema, random = features.arrow_schema, np.random.default_rng(0)
    (folder / DATA_FOLDER).mkdir(parents=True)
    with pq.ParquetWriter(folder / DATA_FOLDER / "train-00000-of-00001.parquet", schema, use_dictionary=False) as file:
        for start in range(0, rows, together):
            count = min(together, rows - start)
            columns = [pa.array([f"video{row}$_$0" for row in range(start, start + count)]), pa.array(["good"] * count)]
            for modality, width in ROW_WIDTHS.items():
                ends = np.concatenate([[0], np.cumsum(random.integers(3, 13, count))]).astype(np.int32)
                values = pa.array(random.standard_normal(ends[-1] * width, np.float32))
                steps = pa.ListArray.from_arrays(pa.array(np.arange(ends[-1] + 1, dtype=np.int32) * width), values)
                kind = schema.field(f"{modality}_values").type
                columns.append(pa.ExtensionArray.from_storage(kind, pa.ListArray.from_arrays(pa.array(ends), steps)))
            columns.append(pa.array(random.uniform(-3, 3, count).astype(np.float32)))
            file.write_batch(pa.record_batch(columns, schema=schema))
    report = ConversionReport(
        "growth", "random rows", f"{rows:064x}", 0, {}, None, {"train": rows}, list(features), ROW_WIDTHS
    )
    (folder / REPORT_FILE).write_text(report.to_json(), encoding="utf-8")
    write_card(folder, report)


def first_opening(path: Path) -> dict[str, float]:
    use_cache(path)
    begun = time.process_time()
    load_corpus(str(path))
    return {"first opening (converts)": time.process_time() - begun}


def corpus_cost(path: Path) -> dict[str, float]:
    """Of a corpus that was opened before: seconds, and milliseconds of what happens at every step."""
    use_cache(path)
    sizes = {f"{modality}_feature_size": width for modality, width in ROW_WIDTHS.items()}
    processor = MultimodalProcessor(None, text_input="values", **sizes)
    collate = MultimodalCollator(processor)
    found, before = {}, resident("RssAnon")
    clock = Clock()
    corpus = load_corpus(str(path))
    corpus.text_choices()
    found["opening again"] = clock.lap()
    rows = prepare_split(corpus.splits["train"], processor, "text_values")
    lengths = rows["length"][:]
    found["lengths"] = clock.lap()
    sampler = BucketSampler(len(rows), 0, lengths, BATCH)
    order = list(sampler)
    found["the order of an epoch"] = clock.lap()
    collate(rows.__getitems__(order[:BATCH]))
    found["first batch"] = clock.lap() * 1000
    found["lengths and order of an open corpus"] = (resident("RssAnon") - before) / 1e6
    batches = np.random.default_rng(0).integers(0, len(rows), (50, BATCH)).tolist()
    for name in ("a random batch", "a random batch, read before"):
        clock.lap()
        for chosen in batches:
            collate(rows.__getitems__(chosen))
        found[name] = clock.lap() * 1000 / len(batches)
    return found


# Label generation


def by_samples(options: argparse.Namespace) -> Iterable[Family]:
    sizes = [1_000, 10_000, 100_000, 1_000_000] if options.full else [1_000, 10_000, 100_000]
    names = ("making it", "the start of an epoch", "the end of an epoch", "saving its state", "loading it")
    once, steps, disk = [], [], []
    for strategy in LABEL_GENERATORS:
        curves = [Curve(f"{strategy}: {name}", 1) for name in names]
        step, written = Curve(f"{strategy}: a step", 0), Curve(f"{strategy}: state file", 1)
        for size in sizes:
            with tempfile.TemporaryDirectory(dir=options.folder) as folder:
                found = in_process(generator_cost, strategy, size, Path(folder))
            for curve in (*curves, step, written):
                curve.add(size, found[curve.name.partition(": ")[2]])
        once, steps, disk = [*once, *curves], [*steps, step], [*disk, written]
    yield Family("Label generation, seconds once", "training samples", "s", sizes, once)
    yield Family("Label generation, a step", "training samples", "ms", sizes, steps)
    yield Family("Label generation, disk", "training samples", "MB", sizes, disk)


def by_epochs(options: argparse.Namespace) -> Iterable[Family]:
    """
    What the end of an epoch costs after many of them, at 20,000 samples. The file with the labels of all epochs is
    written whole each time, so that it can be read at any time: that is proportional to the epochs so far.
    """
    sizes = [2, 8, 32, 128] if options.full else [2, 8, 32]
    end, saving, disk = Curve("the end of an epoch", 1), Curve("saving its state", 0), Curve("state file", 0)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for size in sizes:
            found = in_process(generator_cost, "self_mm", 20_000, Path(folder), size)
            end.add(size, found["the end of an epoch"])
            saving.add(size, found["saving its state"])
            disk.add(size, found["state file"])
    yield Family("Epochs with label generation, time", "epochs so far", "s", sizes, [end, saving])
    yield Family("Epochs with label generation, disk", "epochs so far", "MB", sizes, [disk])


def generator_cost(strategy: str, samples: int, folder: Path, epochs: int = 2) -> dict[str, float]:
    """Of a label generator at the end of so many epochs: seconds, milliseconds of a step, MB of its state."""
    found, clock = {}, Clock()
    generator = new_generator(strategy, samples)
    found["making it"] = clock.lap()
    for epoch in range(1, epochs + 1):
        clock.lap()
        generator.start_epoch(epoch)
        found["the start of an epoch"] = clock.lap()
        found["a step"] = steps_of(generator, strategy) * 1000
        clock.lap()
        generator.record(epoch)
    generator.write_history(folder / "history.parquet")
    found["the end of an epoch"] = clock.lap()
    generator.save(folder / "state.safetensors")
    found["saving its state"] = clock.lap()
    found["state file"] = (folder / "state.safetensors").stat().st_size / 1e6
    other = new_generator(strategy, samples)
    clock.lap()
    other.load(folder / "state.safetensors")
    found["loading it"] = clock.lap()
    return found


def new_generator(strategy: str, samples: int) -> LabelGenerator:
    labels = np.random.default_rng(0).uniform(-3, 3, samples)
    ids = [f"video{sample}$_${sample % 40}" for sample in range(samples)]
    return LABEL_GENERATORS[strategy](ids, labels, ("text", "audio", "vision"), (-3, 3))


def steps_of(generator: LabelGenerator, strategy: str, count: int = 20) -> float:
    """Seconds of a step."""
    random, present = torch.Generator().manual_seed(0), torch.ones(BATCH, dtype=torch.bool)
    seconds = []
    for _ in range(count):
        ids = [generator.ids[row] for row in torch.randint(len(generator.ids), (BATCH,), generator=random).tolist()]
        states = {name: torch.rand(BATCH, width, generator=random) for name, width in STATE_WIDTHS[strategy].items()}
        begun = time.process_time()
        rows = generator.rows(ids)
        generator.targets(rows)
        generator.update(rows, states, dict.fromkeys(generator.modalities, present))
        seconds.append(time.process_time() - begun)
    return float(np.median(seconds))


# Measuring


class Clock:
    """Seconds of the processor from one lap to the next."""

    def __init__(self) -> None:
        self.last = time.process_time()

    def lap(self) -> float:
        last, self.last = self.last, time.process_time()
        return self.last - last


def resident(name: str) -> int:
    """Bytes of this process, as the kernel counts them."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    return 0


def use_cache(path: Path) -> None:
    datasets.config.HF_DATASETS_CACHE = path.parent / f"cache-{path.name}"
    datasets.disable_progress_bars()


def in_process(function: Callable, *arguments: Any, **keywords: Any) -> Any:
    """What a function returns in a process of its own, which has imported everything already."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(theirs, function, arguments, keywords))
    process.start()
    theirs.close()
    try:
        return ours.recv()
    except EOFError:
        sys.exit(f"{function.__name__}{arguments}{keywords} failed; see above.")
    finally:
        process.join()


def _send(pipe: Any, function: Callable, arguments: tuple, keywords: dict[str, Any]) -> None:
    pipe.send(function(*arguments, **keywords))


PARTS: dict[str, Callable[[argparse.Namespace], Iterable[Family]]] = {
    "length": by_length,
    "batch_size": by_batch_size,
    "feature_size": by_feature_size,
    "rows": by_rows,
    "samples": by_samples,
    "epochs": by_epochs,
}

if __name__ == "__main__":
    main()
