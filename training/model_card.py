"""The model card of a run: what was trained on what, how, how well it does, how to use it and what for."""

from __future__ import annotations

import csv
import json
import math
import re
import statistics
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from string import Template
from typing import Any, TypeGuard

import numpy as np
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from jinja2 import Environment, StrictUndefined
from transformers import PretrainedConfig

from datasets_scripts.cards.markdown import item, prose
from datasets_scripts.corpora import CORPORA, CorpusInfo
from training.card_pictures import copy_pictures, draw_predictions, draw_training
from training.card_words import ANSWERS, EXAMPLE_TEXTS, METRICS, SENSES, TASKS
from training.finished_run import SEED_PREFIX, FinishedRun
from training.measured import Figures, of_system, read_measured
from training.prediction import reference_names
from training.recipe import Recipe
from training.tables import QUOTED, markdown_row, shown_number

CARDS = Path(__file__).resolve().parent.parent / "model_cards"
TEMPLATE = CARDS / "model_card.md.jinja"
PUBLISHED = CARDS / "published"  # what papers report, a CSV file per corpus, see `training.measured`
CARD_FILE = "README.md"
ROBUSTNESS = Path("robustness") / "robustness.csv"  # where robustness.py writes it, in a run or a folder of runs
PIPELINE_TAG = "text-classification"  # of the tags that the Hub knows, the nearest

SHARES = ("acc2_has0", "acc2", "acc6")  # every target has one of these


def write_card(folder: str | Path, run: FinishedRun, repo_id: str | None = None) -> None:
    """
    Writes the card, README.md, and its pictures where matplotlib is installed, into `folder`.

    Args:
        folder: Where.
        run: The run whose checkpoint the card is of.
        repo_id: Under which name it is published; the code examples load it by this, or by the name of its folder.
    """
    folder = Path(folder)
    drawn = [draw_training(run, folder), draw_predictions(run, folder)]
    pictures = [picture for picture in drawn if picture] + copy_pictures(run, folder)
    (folder / CARD_FILE).write_text(str(model_card(run, repo_id, run.seeds(), pictures)), encoding="utf-8")


def model_card(
    run: FinishedRun,
    repo_id: str | None = None,
    runs: Sequence[FinishedRun] = (),
    pictures: Sequence[tuple[str, str]] = (),
) -> ModelCard:
    """
    All numbers in it were measured by the runs, or are the papers'.

    Args:
        run: The run whose checkpoint it is of.
        repo_id: Under which name it is published.
        runs: This run and those with other seeds.
        pictures: File name and description of each.
    """
    info = CORPORA.get(run.record["data"]["corpus"] or "")
    runs = list(runs) or [run]
    config = run.config
    low, high = (f"{bound:g}" for bound in config.label_range)
    texts = (*TASKS[run.target.name], ANSWERS[run.target.name])
    task, outputs, answer = (Template(text).substitute(low=low, high=high) for text in texts)
    example, other_example = EXAMPLE_TEXTS[info.language if info is not None else "en"]
    if run.record["unimodal"] or getattr(config, "unimodal_tasks", None):
        outputs += "; text_logits, audio_logits and vision_logits are those of one modality alone"
    robustness, measured_runs = _robustness(run)
    environment = Environment(trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    text = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        card_data=_metadata(run, repo_id, info),
        run=run,
        info=info,
        name=config.display_name,
        citation=config.citation,
        corpus=prose(_corpus_name(run, info)),
        where=json.dumps(repo_id or run.path.name),  # as Python writes it, too
        senses=_listed([SENSES[modality] for modality in config.modalities]),
        task=task,
        outputs=outputs,
        example_text=example,
        other_text=other_example,
        answer=answer,
        tokens=run.processor.text_input == "tokens",
        features=_features(run),
        inputs=_inputs(run),
        extractors=_extractors(run),
        results=_results(run, runs, info),
        metrics=METRICS["emotions" if run.target.of_emotions else run.recipe.metric_convention],
        seeds=_seeds(run, runs),
        count=len(runs),
        published=_published(run, info),
        unimodal=_unimodal(run),
        robustness=robustness,
        measured_runs=measured_runs,
        pictures=pictures,
        notes="\n".join(item("-", note) for note in run.record["data"]["notes"]),
        stages=[stage for stage in run.record["stages"] if stage["name"]],
        cost=_cost(run),
        machine=run.record["machine"],
        hardware=_hardware(run.record["machine"]),
        kept_best=bool(run.recipe.stage_list()[-1].training["load_best_model_at_end"]),
        recipe=public_recipe(run).to_yaml().strip(),
        synthetic=run.recipe.data_file is None,
        margin=_margin(run),
    )
    return ModelCard(text + "\n")  # reads the metadata, and refuses what the Hub would not read


def public_recipe(run: FinishedRun) -> Recipe:
    """
    The recipe without where files lie on the machine that it ran on, and without its token. What features are, in the
    words of whoever wrote it, stays.
    """
    content = run.recipe.to_dict()
    return Recipe.from_dict({**_public(content), "feature_sets": content["feature_sets"]})


def _public(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _public(one) for key, one in value.items() if key != "hub_token"}
    if isinstance(value, list):
        return [_public(one) for one in value]
    return _public_name(value) if isinstance(value, str) else value


def _metadata(run: FinishedRun, repo_id: str | None, info: CorpusInfo | None) -> ModelCardData:
    synthetic = run.recipe.data_file is None
    more: dict[str, Any] = {}
    if info is not None:
        more = {"license": "other", "license_name": f"{_slug(info.name)}-terms", "license_link": info.homepage}
    encoder = run.recipe.text_encoder
    return ModelCardData(
        language=info.language if info is not None else "en" if synthetic else None,
        **(more or {"license": "apache-2.0" if synthetic else "unknown"}),
        library_name="transformers",
        pipeline_tag=PIPELINE_TAG,
        base_model=None if encoder is None or Path(encoder).is_absolute() or Path(encoder).exists() else encoder,
        tags=[
            "multimodal-sentiment-analysis",
            "sentimodal",
            run.config.model_type,
            *(["emotion-recognition"] if run.target.of_emotions else ["sentiment-analysis"]),
            *run.config.modalities,
        ],
        metrics=[name for name in run.target.metric_names if _defined(run.metric("test", name))],
        model_name=(repo_id or run.path.name).rpartition("/")[2],
        eval_results=[
            EvalResult(
                task_type=PIPELINE_TAG,
                task_name="multimodal sentiment analysis",
                dataset_type=_slug(info.name if info is not None else run.record["data"]["name"]),
                dataset_name=_corpus_name(run, info),
                dataset_split="test",
                metric_type=name,
                metric_name=name,
                metric_value=round(float(run.results[f"test_{name}"]), 4),
            )
            for name in run.target.metric_names
            if _defined(run.metric("test", name))
        ]
        or None,
    )


def _corpus_name(run: FinishedRun, info: CorpusInfo | None) -> str:
    name = run.record["data"]["name"]
    return name if info is None else f"{info.name} ({name})"


def _features(run: FinishedRun) -> dict[str, int]:
    """Features per step of the modalities that come as sequences."""
    sizes = {modality: getattr(run.processor, f"{modality}_feature_size") for modality in run.config.modalities}
    return {modality: size for modality, size in sizes.items() if size is not None}


def _extractors(run: FinishedRun) -> dict[str, dict[str, Any]]:
    """Settings of what extracts the features of a modality from media, where an extractor of this collection does."""
    found = {modality: getattr(run.processor, f"{modality}_extractor", None) for modality in _features(run)}
    return {modality: settings for modality, settings in found.items() if settings is not None}


def _inputs(run: FinishedRun) -> list[str]:
    lines = []
    features = _features(run)
    for modality in run.config.modalities:
        if modality in features:
            feature_set = prose(getattr(run.processor, f"{modality}_feature_set") or "not named")
            line = f"`{modality}_values`: {features[modality]} features per step (feature set: {feature_set})"
            made = _extractors(run).get(modality)
            if made is not None:
                line += f"; from media, {made['rate']:g} steps per second, by the extractor `{made['name']}`"
            lines.append(line)
        else:
            encoder = prose(_public_name(run.recipe.text_encoder) or "trained from scratch")
            assert isinstance(run.config.text_config, PretrainedConfig)
            kind = run.config.text_config.model_type
            lines.append(f"`text`: read by a {kind} encoder ({encoder}), which is part of the model")
    return lines


def _results(run: FinishedRun, runs: Sequence[FinishedRun], info: CorpusInfo | None) -> str:
    """A row per metric: this checkpoint, the runs with all seeds, and what papers report."""
    published = _published(run, info)
    header = ["metric", "validation", "test"]
    if len(runs) > 1:
        header.append(f"test, {len(runs)} seeds")
    header += [f"published ({number})" if published[1:] else "published" for number, _ in enumerate(published, 1)]
    rows = [markdown_row(*header), markdown_row(*["---"] * len(header))]
    for name in run.target.metric_names:
        values = [_number(one.metric("test", name)) for one in runs]
        cells = [f"`{name}`", *(shown_number(name, _number(run.metric(split, name))) for split in ("valid", "test"))]
        if len(runs) > 1:
            cells.append(_mean_shown(name, values))
        cells += [shown_number(name, row.values.get(name, math.nan)) for row in published]
        rows.append(markdown_row(*cells))
    return "\n".join(rows)


def _published(run: FinishedRun, info: CorpusInfo | None) -> list[Figures]:
    """What papers report of the architecture on the corpus, for the same target."""
    key = run.record["data"]["corpus"]
    path = PUBLISHED / f"{key}{'_emotions' if run.target.of_emotions else ''}.csv"
    if info is None or not path.is_file():
        return []
    found = of_system(read_measured(path), run.config.model_type, run.config.model_type)
    return [row for row in found if set(row.values) & set(run.target.metric_names)]


def _seeds(run: FinishedRun, runs: Sequence[FinishedRun]) -> str:
    """A row per seed; empty for a single one."""
    if len(runs) < 2:
        return ""
    quoted = [name for name in QUOTED if name in run.target.metric_names]
    chosen = f"{run.ranking} (validation)"
    rows = [markdown_row("seed", chosen, *quoted), markdown_row(*["---"] * (len(quoted) + 2))]
    for one in runs:
        seed = one.results["seed"]
        cells = [shown_number(run.ranking, _number(one.metric("valid", run.ranking)))]
        cells += [shown_number(name, _number(one.metric("test", name))) for name in quoted]
        rows.append(markdown_row(f"**{seed}**, this checkpoint" if one.path == run.path else str(seed), *cells))
    return "\n".join(rows)


def _unimodal(run: FinishedRun) -> str:
    found = run.record["unimodal"]
    if not found:
        return ""
    quoted = [name for name in QUOTED if name in run.target.metric_names]
    rows = [markdown_row("", "against", *quoted), markdown_row(*["---"] * (len(quoted) + 2))]
    for modality, scores in found.items():
        numbers = scores.get("test", {})
        cells = [shown_number(name, _number(numbers.get(name))) for name in quoted]
        rows.append(markdown_row(f"{modality} alone", scores["against"], *cells))
    return "\n".join(rows)


def robustness_file(run: FinishedRun) -> Path | None:
    """What robustness.py wrote of the run, or of the runs that it is among."""
    seeded = run.path.name.startswith(SEED_PREFIX)
    folders = [run.path, *([run.path.parent, run.path.parent.parent] if seeded else [])]
    return next((folder / ROBUSTNESS for folder in folders if (folder / ROBUSTNESS).is_file()), None)


def _robustness(run: FinishedRun) -> tuple[str, int]:
    """A row per condition, the mean over the runs of the group, and their number; empty where nobody measured it."""
    path, measured = robustness_file(run), set()
    if path is None:
        return "", 0
    group = run.path.parent.name if run.path.name.startswith(SEED_PREFIX) else run.path.name
    values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["group"] == group and row["value"]:
                values[row["condition"]][row["metric"]].append(float(row["value"]))
                measured.add(row["run"])
    quoted = [name for name in QUOTED if any(name in metrics for metrics in values.values())]
    if not quoted:
        return "", 0
    rows = [markdown_row("", *quoted), markdown_row(*["---"] * (len(quoted) + 1))]
    for condition, metrics in values.items():
        rows.append(markdown_row(condition, *(_mean_shown(name, metrics.get(name, [])) for name in quoted)))
    return "\n".join(rows), len(measured)


def _margin(run: FinishedRun) -> tuple[str, float, float, str] | None:
    """
    A share that the card quotes, with half the width of its 95 % interval (normal approximation), both in percent, and
    of which test samples it is; None where there is no such metric.
    """
    count, what = run.record["data"]["splits"].get("test", 0), "test clips"
    for name in SHARES:
        share = run.metric("test", name)
        if name == "acc6":
            table = run.predictions["test"]
            there = np.any([table[column].to_numpy() > 0 for column in reference_names(run.target)], axis=0)
            count, what = int(there.sum()), "test clips with an emotion"
        if _defined(share) and count:
            return name, 100 * share, 196 * math.sqrt(share * (1 - share) / count), f"{count:,} {what}"
    return None


def _cost(run: FinishedRun) -> dict[str, Any]:
    stages = run.record["stages"]
    energy = [stage.get("energy_kwh") for stage in stages]
    return {
        "seconds": sum(stage["train_seconds"] for stage in stages),
        "energy_kwh": None if None in energy else sum(energy),
        "codecarbon": run.record["machine"]["versions"].get("codecarbon"),
        "epochs": f"{run.results['epochs']:g}",
        "best_epoch": f"{run.results['best_epoch']:g}",
        "parameters": f"{run.results['parameters']:,}",
        "peak_memory_mb": run.results.get("peak_memory_mb"),
    }


def _hardware(machine: dict[str, Any]) -> str:
    parts = [f"{machine['processes']} x {machine['gpu']}"] if machine["gpu"] else []
    parts += [machine["processor"], f"{machine['cores']} cores ({machine['threads']} threads used)"]
    parts += [f"{machine['memory_gib']} GiB of memory"] if machine["memory_gib"] else []
    return prose(", ".join(parts))


def _mean_shown(name: str, values: Sequence[float]) -> str:
    """Mean and sample standard deviation; "-" where one of them is not defined: the others' mean is another number."""
    if not values or not all(map(_defined, values)):
        return "-"
    return shown_number(name, statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else math.nan)


def _defined(value: float | None) -> TypeGuard[float]:
    """Some results are not, such as the recall of an emotion that no sample of a split has."""
    return value is not None and math.isfinite(value)


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _public_name(place: str | None) -> str | None:
    """A card is public: of a file or folder on this machine it has the name, not where it lies."""
    return Path(place).name if place is not None and Path(place).is_absolute() else place


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-")


def _listed(words: list[str]) -> str:
    """Words as in a sentence: a, b and c."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
