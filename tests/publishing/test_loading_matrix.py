"""
Every way in which a stranger loads a checkpoint, for every architecture, with the oldest and the newest supported
`transformers`; and some of it with the installed one.
"""

import itertools
import json
import subprocess
import sys

import pytest
import torch
from huggingface_hub import HfApi

from configuration import TARGETS
from modeling import MODEL_CLASSES
from processing import MultimodalSentimentPipeline
from tests.local_hub import LocalHub
from tests.strangers import SAMPLES, TEXTS, assert_same_predictions, checkpoint, put_on_hub, rows, run_alone

# The first with configurations that are dataclasses, and the newest that the package registry has.
SUPPORTED = ("transformers==5.4.0", "transformers<6")
SOME = ("self_mm", "mfm")  # both have a file of configuration between their own and the shared one
REVISION = "a" * 40
# What a model in bfloat16, with 8 bits for a number, may be off by, as a part of the largest logit.
BFLOAT16 = 0.3

# Answers of a stranger: by way of loading the logits, or the pipeline's predictions.
LOADS = """
import os
import torch
import transformers
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, AutoProcessor, pipeline

TASK = "multimodal-sentiment-analysis"
AUTO_CLASSES = {"AutoModel": AutoModel, "AutoModelForSequenceClassification": AutoModelForSequenceClassification}


def answers(name, samples, rows, saved, ways, revision):
    def load(auto_class, name=name, **options):
        return auto_class.from_pretrained(name, trust_remote_code=True, **options)

    def logits(model):
        with torch.no_grad():
            return model(**inputs).logits.float().tolist()

    def predictions(name=name, *task, **options):
        return pipeline(*task, model=name, trust_remote_code=True, **options)(rows, batch_size=2)

    inputs = load(AutoProcessor)(**samples)
    found = {"AutoConfig": type(load(AutoConfig)).__name__}
    for way in ways:
        if way in AUTO_CLASSES:
            found[way] = logits(load(AUTO_CLASSES[way]))
        elif way == "pipeline":
            found[way] = predictions(name, task=TASK)
        elif way == "pipeline without a task":
            found[way] = predictions()
        elif way == "pipeline with a revision":
            found[way] = predictions(revision=revision)
        elif way == "bfloat16":
            model = load(AutoModel, dtype=torch.bfloat16)
            assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
            found[way] = logits(model)
        elif way == "device_map":
            found[way] = logits(load(AutoModelForSequenceClassification, device_map="auto"))
        elif way == "revision":
            found[way] = logits(load(AutoModel, revision=revision))
        elif way == "compile":
            # All but the C++ compiler, which takes minutes.
            found[way] = logits(torch.compile(load(AutoModel), backend="aot_eager", dynamic=False))
            torch._dynamo.reset()
        elif way == "saved":
            load(AutoModel).save_pretrained(saved)
            load(AutoProcessor).save_pretrained(saved)
        elif way == "saved pipeline":
            pipeline(model=name, trust_remote_code=True).save_pretrained(saved)
        else:
            raise KeyError(way)
    return found


questions = question
print(json.dumps([transformers.__version__, [answers(**question) for question in questions]]))
"""

FROM_A_FOLDER = ("AutoModel", "AutoModelForSequenceClassification", "pipeline", "pipeline without a task")
FROM_THE_HUB = (*FROM_A_FOLDER, "revision", "pipeline with a revision", "bfloat16", "device_map")


class Collection:
    """Tiny checkpoints, each in a folder and in a stranger's cache of the Hub, and what they predict."""

    def __init__(self, path, model_classes):
        self.path = path
        self.cases = {}
        targets = itertools.cycle(TARGETS)
        kinds = [(model_class, model_class.config_class.model_type, next(targets)) for model_class in model_classes]
        for model_class, name, target in [*kinds, (model_classes[0], "without_text", "sentiment")]:
            text = name != "without_text"
            folder = path / "org" / f"{name}.v1"
            model, processor = checkpoint(folder, text, model_class, target=target)
            put_on_hub(path / "home", f"org/{name}", folder, REVISION)
            samples = {**SAMPLES, **TEXTS} if text else SAMPLES
            some = rows() if text else [{"audio_values": values} for values in SAMPLES["audio_values"] if values]
            with torch.no_grad():
                logits = model(**processor(**samples)).logits
            predictions = MultimodalSentimentPipeline(model, processor=processor)(some)
            self.cases[name] = (type(model.config).__name__, samples, some, logits, predictions)

    def folder(self, name):
        return str(self.path / "org" / f"{name}.v1")

    def ask(self, place, ways, packages=None, saved="saved"):
        """Lets a stranger load every checkpoint from `place(name)` and compares; returns the version that it has."""
        questions = [
            {
                "name": place(name),
                "samples": samples,
                "rows": some,
                "saved": str(self.path / saved / f"{name}.v2"),
                "ways": ways,
                "revision": REVISION,
            }
            for name, (_, samples, some, _, _) in self.cases.items()
        ]
        version, answers = run_alone(LOADS, questions, self.path, packages)
        assert len(answers) == len(self.cases)
        for found, (config_name, _, _, logits, predictions) in zip(answers, self.cases.values(), strict=True):
            assert found.pop("AutoConfig") == config_name
            assert list(found) == [way for way in ways if not way.startswith("saved")]
            for way, answer in found.items():
                if way.startswith("pipeline"):
                    assert_same_predictions(answer, predictions)
                else:
                    tolerance = BFLOAT16 * logits.abs().max().item() if way == "bfloat16" else 1e-5
                    torch.testing.assert_close(torch.tensor(answer), logits, atol=tolerance, rtol=0)
        return version


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    return Collection(tmp_path_factory.mktemp("collection"), MODEL_CLASSES)


@pytest.fixture(scope="module", params=SUPPORTED)
def packages(request, tmp_path_factory):
    """A folder with a supported version and all that it requires, but for torch."""
    folder = tmp_path_factory.mktemp("packages")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(folder), request.param]
    installed = subprocess.run(command, capture_output=True, text=True, timeout=600)
    if installed.returncode:
        reason = installed.stderr.strip().splitlines()[-1:] or ["no reason given"]
        pytest.skip(f"the package registry does not give {request.param}: {reason[0]}")
    return [folder]


@pytest.mark.slow
def test_every_architecture_with_the_oldest_and_the_newest_transformers(collection, packages):
    (info,) = packages[0].glob("transformers-*.dist-info")
    version = info.name.removeprefix("transformers-").removesuffix(".dist-info")
    assert collection.ask(collection.folder, FROM_A_FOLDER, packages) == version
    saved = f"saved with {version}"
    assert collection.ask(lambda name: f"org/{name}", (*FROM_THE_HUB, "saved"), packages, saved) == version
    again = lambda name: str(collection.path / saved / f"{name}.v2")  # noqa: E731
    assert collection.ask(again, FROM_A_FOLDER, packages) == version


@pytest.mark.slow
def test_every_architecture_compiles(collection):
    collection.ask(collection.folder, ("compile",))


def test_some_architectures_with_the_installed_transformers(tmp_path):
    chosen = [model_class for model_class in MODEL_CLASSES if model_class.config_class.model_type in SOME]
    assert len(chosen) == len(SOME)
    collection = Collection(tmp_path, chosen)
    collection.ask(lambda name: f"org/{name}", (*FROM_THE_HUB, "saved pipeline"))
    for name in collection.cases:
        assert_same_files(tmp_path / "org" / f"{name}.v1", tmp_path / "saved" / f"{name}.v2")


# Loads a checkpoint from the Hub, sends what it has to another place there, and loads that.
PUSHES = """
import torch
from transformers import AutoModel, AutoProcessor, pipeline

logits = []
for name in ("org/original", "org/copy"):
    model = AutoModel.from_pretrained(name, trust_remote_code=True)
    processor = AutoProcessor.from_pretrained(name, trust_remote_code=True)
    with torch.no_grad():
        logits.append(model(**processor(**question)).logits.tolist())
    if name == "org/original":
        model.push_to_hub("org/copy")
        processor.push_to_hub("org/copy")
predictions = pipeline(model="org/copy", trust_remote_code=True)([{"text": text} for text in question["text"] if text])
print(json.dumps([logits, predictions]))
"""


@pytest.mark.parametrize("text", [True, False])
def test_users_push_what_they_loaded(text, tmp_path):
    model, processor = checkpoint(tmp_path / "original", text)
    samples = {**SAMPLES, **(TEXTS if text else {})}
    with LocalHub() as hub:
        with hub.online():
            HfApi().create_repo("org/original")
            HfApi().upload_folder(repo_id="org/original", folder_path=tmp_path / "original")
        program = PUSHES if text else PUSHES.replace('[{"text": text} for text in question["text"] if text]', "[]")
        (first, second), predictions = run_alone(program, samples, tmp_path, hub=hub)
        copied, original = (hub.repos["model", f"org/{name}"].files() for name in ("copy", "original"))
    with torch.no_grad():
        torch.testing.assert_close(torch.tensor(first), model(**processor(**samples)).logits, atol=1e-6, rtol=0)
    assert first == second and len(predictions) == (2 if text else 0)
    code = {name: content for name, content in original.items() if name.endswith(".py")}
    assert code and {name: content for name, content in copied.items() if name.endswith(".py")} == code
    assert copied["model.safetensors"] == original["model.safetensors"]


def assert_same_files(folder, saved):
    """What is saved again has all the code, and says where to find it."""
    code = {path.name: path.read_text() for path in folder.glob("*.py")}
    assert {path.name: path.read_text() for path in saved.glob("*.py")} == code
    for file, names in {
        "config.json": ("auto_map", "custom_pipelines"),
        "processor_config.json": ("auto_map",),
    }.items():
        before, after = (json.loads((where / file).read_text()) for where in (folder, saved))
        assert [after[name] for name in names] == [before[name] for name in names]
