"""
A model that is published, and somebody with a new virtual environment in which there are `transformers` and `torch` and
nothing else: they load it by its name from the Hub, at a revision, without a network, and run the code of its card.
"""

import json
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import torch
import yaml
from transformers import AutoModel

import publish
import train
from processing import MultimodalSentimentPipeline
from publishing.model_folder import probe_samples
from tests.conftest import TINY_RECIPE
from tests.local_hub import LocalHub
from training.finished_run import FinishedRun

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")]

ROOT = Path(__file__).resolve().parents[2]
REPO = "org/self-mm"
LOADS = """
import importlib.util, json, sys
import torch
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, AutoProcessor, pipeline

question = json.load(sys.stdin)
torch.set_num_threads(question["threads"])
packages = ("configuration", "modeling", "processing", "publishing", "training", "datasets", "accelerate", "sentimodal")
found = {"packages": [name for name in packages if importlib.util.find_spec(name) is not None]}
for name, options in question["revisions"].items():
    options = {**options, "trust_remote_code": True}
    processor = AutoProcessor.from_pretrained(question["repo_id"], **options)
    answer = {"config": type(AutoConfig.from_pretrained(question["repo_id"], **options)).__name__}
    for auto in (AutoModel, AutoModelForSequenceClassification):
        model = auto.from_pretrained(question["repo_id"], **options).eval()
        with torch.no_grad():
            logits = [model(**processor(**sample)).logits for sample in question["samples"]]
        answer[auto.__name__] = [one.numpy().tobytes().hex() for one in logits]
    predict = pipeline("multimodal-sentiment-analysis", model=question["repo_id"], **options)
    answer["pipeline"] = [predict({key: values[0] for key, values in one.items()}) for one in question["samples"]]
    found[name] = answer
print(json.dumps(found))
"""
RUNS_CARD = """
import json, re, sys
from huggingface_hub import hf_hub_download

question, names = json.load(sys.stdin), {}
with open(hf_hub_download(question, "README.md"), encoding="utf-8") as file:
    blocks = re.findall(r"^```python\\n(.*?)^```$", file.read(), re.DOTALL | re.MULTILINE)
for block in blocks:
    exec(compile(block, "README.md", "exec"), names)
print(json.dumps([len(blocks), names["outputs"].logits.tolist()]))
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """The interpreter of a new virtual environment."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, timeout=300)
    python = folder / "bin" / "python"
    # The very build of torch that is installed here: others round otherwise.
    wanted = ["-c", str(ROOT / "constraints.txt"), "transformers", f"torch=={metadata.version('torch')}"]
    installed = subprocess.run(
        [str(python), "-m", "pip", "install", "--quiet", *wanted], capture_output=True, text=True, timeout=1800
    )
    if installed.returncode:
        reason = installed.stderr.strip().splitlines()[-1:] or ["no reason given"]
        pytest.skip(f"the package registry does not give {' '.join(wanted)}: {reason[0]}")
    return python


def answers(python, program, question, environment, place):
    """What a program prints as JSON, in the new environment, from an empty folder."""
    place.mkdir(exist_ok=True)
    finished = subprocess.run(
        [str(python), "-I", "-c", program],
        input=json.dumps(question),
        env=environment,
        cwd=place,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout.splitlines()[-1])


def expected(run, samples):
    model = AutoModel.from_pretrained(run.path).eval()
    with torch.no_grad():
        bits = [model(**run.processor(**sample)).logits.numpy().tobytes().hex() for sample in samples]
    predict = MultimodalSentimentPipeline(model=model, processor=run.processor, device=torch.device("cpu"))
    return {
        "config": type(run.config).__name__,
        "AutoModel": bits,
        "AutoModelForSequenceClassification": bits,
        "pipeline": [predict({name: values[0] for name, values in sample.items()}) for sample in samples],
    }


def test_a_stranger_loads_what_was_published(python, tmp_path):
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(TINY_RECIPE))
    for seed in (1, 2):
        arguments = [str(tmp_path / "recipe.yaml"), "--output_dir", str(tmp_path / f"run_{seed}"), "--seed", str(seed)]
        train.main([*arguments, "--num_train_epochs", "1"])
    first, second = (FinishedRun.of_folder(tmp_path / f"run_{seed}") for seed in (1, 2))
    samples = probe_samples(first)
    question = {"repo_id": REPO, "samples": samples, "threads": torch.get_num_threads()}
    with LocalHub() as hub:
        with hub.online():
            publish.main([str(first.path), "--repo_id", REPO])
            commit = hub.repos["model", REPO].head
            publish.main([str(second.path), "--repo_id", REPO])
        question["revisions"] = {"newest": {}, "first": {"revision": commit}}
        environment = hub.environment(tmp_path / "home")
        del environment["HF_TOKEN"]  # a stranger has none
        environment["HF_HUB_OFFLINE"] = "0"
        hub.requests.clear()
        online = answers(python, LOADS, question, environment, tmp_path / "elsewhere")
        assert {"GET", "HEAD"} >= {exchange.method for exchange in hub.requests} and hub.requests
        blocks, logits = answers(python, RUNS_CARD, REPO, environment, tmp_path / "elsewhere")
    assert online == {"packages": [], "newest": expected(second, samples), "first": expected(first, samples)}
    assert online["newest"] != online["first"]

    # The Hub is gone now.
    environment["HF_HUB_OFFLINE"] = "1"
    assert answers(python, LOADS, question, environment, tmp_path / "elsewhere") == online

    model = AutoModel.from_pretrained(second.path).eval()
    texts = re.findall(r"processor\(text=(\[.*\])\)", (second.path / "README.md").read_text())
    with torch.no_grad():
        here = model(**second.processor(text=json.loads(texts[0]))).logits
    assert blocks == 2
    torch.testing.assert_close(torch.tensor(logits), here)
