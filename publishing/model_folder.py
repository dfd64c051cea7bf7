"""A checkpoint as a folder for the Hub: weights, processor, code, card, recipe and results, and nothing else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from transformers import AutoModel

from processing.pipeline_multimodal_sentiment import TASK, MultimodalSentimentPipeline
from publishing.stranger import StrangerError, ask
from training.card_pictures import DRAWN
from training.card_words import EXAMPLE_TEXT
from training.finished_run import RECIPE_FILE, RESULTS_FILE, SEED_PREFIX, FinishedRun
from training.model_card import public_recipe, write_card
from training.remote_code import write_checkpoint

# What an earlier upload may have left that is not in the folder any more: code, weights, tokenizers, pictures.
STALE = (
    *("*.py", "*.safetensors", "*.safetensors.index.json", "tokenizer*.json", "*.model", "vocab.*", "merges.txt"),
    *("special_tokens_map.json", "added_tokens.json", "training.png", "predictions.png", *DRAWN),
)
VOCABULARIES = ("tokenizer.json", "vocab.json")  # in which any string may be a word

# Loads a checkpoint in every way that users do, and answers with the bits of the outputs.
_LOADS = """
import numpy as np
import torch
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, AutoProcessor, pipeline

torch.set_num_threads(question["threads"])
folder, samples = question["folder"], question["samples"]
answer = {}
config = AutoConfig.from_pretrained(folder, trust_remote_code=True)
processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
for auto in (AutoModel, AutoModelForSequenceClassification):
    model = auto.from_pretrained(folder, trust_remote_code=True).eval()
    with torch.no_grad():
        answer[auto.__name__] = [model(**processor(**sample)).logits.numpy().tobytes().hex() for sample in samples]
if question["pipeline"]:
    predict = pipeline(question["pipeline"], model=folder, trust_remote_code=True)
    answer["pipeline"] = [predict({name: values[0] for name, values in sample.items()}) for sample in samples]
"""


def find_run(path: str | Path) -> FinishedRun:
    """
    The run in a folder, or, in a folder of runs with several seeds, that which was best on the validation split.

    Raises:
        ValueError: where there is none.
    """
    path = Path(path).resolve()
    if (path / RESULTS_FILE).exists() or not list(path.glob(f"{SEED_PREFIX}*/{RESULTS_FILE}")):
        return FinishedRun.of_folder(path)
    runs = FinishedRun.of_folder(next(path.glob(f"{SEED_PREFIX}*/{RESULTS_FILE}")).parent).seeds()
    return min(runs, key=lambda run: run.selection_rank)


def build_model(run: FinishedRun, folder: Path, repo_id: str) -> list[str]:
    """
    Fills an empty folder with what is published of a run, and checks it; see `check_model`.

    Returns:
        What a person should know, a sentence each.

    Raises:
        ValueError: a checkpoint that would not load, or not predict what it did, with the reasons.
    """
    check_weights(run.path)
    model = AutoModel.from_pretrained(run.path)
    write_checkpoint(folder, model, run.processor)
    (folder / RECIPE_FILE).write_text(public_recipe(run).to_yaml(), encoding="utf-8")
    shutil.copyfile(run.path / RESULTS_FILE, folder / RESULTS_FILE)
    write_card(folder, run, repo_id)
    check_private(run, folder)
    check_model(run, model.eval(), folder)
    return remarks(run)


def check_weights(folder: Path) -> None:
    """
    Raises:
        ValueError: for weights that are not safetensors, or not numbers.
    """
    files = sorted(folder.glob("model*.safetensors"))
    if not files:
        raise ValueError(f"{folder} has no model.safetensors; weights of other formats are not published.")
    for file in files:
        try:
            with safe_open(file, "pt") as weights:
                for name in weights.keys():  # noqa: SIM118  (not a dictionary)
                    if not torch.isfinite(weights.get_tensor(name)).all():
                        raise ValueError(f"`{name}` in {file} is not finite: the training diverged. Train it again.")
        except SafetensorError as error:
            raise ValueError(f"{file} is not a whole safetensors file ({error}); copy the run again.") from None


def check_private(run: FinishedRun, folder: Path) -> None:
    """
    Raises:
        ValueError: where a file that would be published says where something lies on this machine.
    """
    settings = json.loads((folder / "processor_config.json").read_text(encoding="utf-8"))
    for value in (*_strings(public_recipe(run).to_dict()), *_strings(settings)):
        if value.startswith(("/", "~/")) and len(Path(value).parts) > 1:
            raise ValueError(
                f"recipe and processor would publish the path {value} of this machine. Train with a relative path, or "
                "take it out of the run's files."
            )
    places = [run.path, Path.home(), Path.cwd()]
    places += [Path(place).parent for place in (run.recipe.data_file, run.recipe.text_encoder) if place is not None]
    names = sorted({str(place) for place in places if place.is_absolute() and len(place.parts) > 1})
    for file in sorted(folder.iterdir()):
        if file.suffix in (".json", ".md", ".yaml") and file.name not in VOCABULARIES:
            text = file.read_text(encoding="utf-8")
            for name in names:
                if name in text:
                    line = next(line for line in text.splitlines() if name in line).strip()
                    raise ValueError(
                        f"{file.name} would publish the path {name} of this machine: {line[:200]!r}. Train with a "
                        "relative path, or take it out of the run's file."
                    )


def _strings(value: Any) -> Iterator[str]:
    """The strings in nested dictionaries and lists."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from _strings(one)
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from _strings(one)


def check_model(run: FinishedRun, model, folder: Path) -> None:
    """
    Loads the folder where the project cannot be seen, and, with the code beside it, the run itself: both must predict,
    bit for bit, what the model predicts here.

    Raises:
        ValueError: where they do not.
    """
    samples = probe_samples(run)
    with torch.no_grad():
        expected = [model(**run.processor(**sample)).logits.numpy().tobytes().hex() for sample in samples]
    predict = MultimodalSentimentPipeline(model=model, processor=run.processor, device=torch.device("cpu"))
    predictions = [predict({name: values[0] for name, values in sample.items()}) for sample in samples]
    for place, what in ((run.path, "the run, with the code that it was trained with,"), (folder, "what is published")):
        question = {"folder": str(place), "samples": samples, "threads": torch.get_num_threads()}
        try:
            answer = ask(_LOADS, question | {"pipeline": TASK if place == folder else None})
        except StrangerError as error:
            raise ValueError(
                f"{run.path} is not published: {what} does not load outside of the project:\n{error}"
            ) from None
        for way in ("AutoModel", "AutoModelForSequenceClassification"):
            if answer[way] != expected:
                different = next(
                    i for i, pair in enumerate(zip(answer[way], expected, strict=True)) if pair[0] != pair[1]
                )
                raise ValueError(
                    f"{run.path} is not published: through {way}, {what} does not predict the same as here; sample "
                    f"{different} gives {_values(answer[way][different])} and {_values(expected[different])}. The code "
                    "has changed since it was trained: go back to the revision that trained it, or train it again."
                )
        if answer.get("pipeline", predictions) != predictions:
            raise ValueError(
                f"{run.path} is not published: the pipeline gives {answer['pipeline'][0]} outside of the project, and "
                f"{predictions[0]} here."
            )


def probe_samples(run: FinishedRun) -> list[dict[str, list]]:
    """Samples as arguments of the processor: with every modality, without each, and two together."""
    random = np.random.default_rng(0)

    def sequence(size: int, steps: int) -> list:
        return random.normal(size=(steps, size)).astype(np.float32).tolist()

    def sample(steps: int) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for modality in run.config.modalities:
            size = getattr(run.processor, f"{modality}_feature_size")
            values["text" if size is None else f"{modality}_values"] = (
                EXAMPLE_TEXT if size is None else sequence(size, steps)
            )
        return values

    full = [sample(7), sample(3)]
    single = [{name: [value] for name, value in full[0].items()}]
    if len(full[0]) > 1:
        single += [{other: [value] for other, value in full[0].items() if other != name} for name in full[0]]
    return [*single, {name: [one[name] for one in full] for name in full[0]}]


def remarks(run: FinishedRun) -> list[str]:
    """What is not wrong, but may be missed in the card."""
    found = []
    for modality in run.config.modalities:
        if getattr(run.processor, f"{modality}_feature_size") and not getattr(run.processor, f"{modality}_feature_set"):
            found.append(
                f"Nobody will know what the {modality} features are: name them in the recipe, `feature_sets`, and "
                "train again."
            )
    if len(run.seeds()) == 1:
        found.append("The card has the results of one run; compare.py trains several seeds, whose mean it then shows.")
    return found


def _values(bits: str) -> list[float]:
    return [round(float(value), 7) for value in np.frombuffer(bytes.fromhex(bits), np.float32)]
