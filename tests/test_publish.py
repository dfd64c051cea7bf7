"""What is published of a model, a dataset, the metric and a Space, what is refused, and that nothing is sent then."""

import json
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoProcessor

import prepare_data
import publish
import train
from datasets_scripts import PreparedFolder
from publishing.stranger import ask
from tests.conftest import TINY_RECIPE, make_mmsa_content
from tests.local_hub import LocalHub

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

ROOT = Path(__file__).resolve().parents[1]
REPO = "org/self-mm"
FEATURE_SETS = {"audio": "made-up voice", "vision": "made-up faces"}
# All that a model's folder holds beside its code.
CONTENT = {
    "README.md",
    "all_results.json",
    "config.json",
    "model.safetensors",
    "predictions.png",
    "processor_config.json",
    "recipe.yaml",
    "tokenizer.json",
    "tokenizer_config.json",
    "training.png",
}
NOT_TEXT = (".png", ".safetensors")
# Runs the code blocks of cards, those of a card one after another, as somebody does who reads it.
RUNS_CARDS = """
os.chdir(question["place"])
answer = []
for blocks in question["cards"]:
    names = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)
    answer.append(names["outputs"].logits.tolist())
"""


class Runs:
    """Runs with two seeds beside each other, trained on a file; nothing may change them."""

    def __init__(self, folder):
        self.folder, self.content = folder / "Self-MM", make_mmsa_content()
        (folder / "data.pkl").write_bytes(pickle.dumps(self.content))
        recipe = {**TINY_RECIPE, "synthetic": None, "data_file": str(folder / "data.pkl"), "feature_sets": FEATURE_SETS}
        self.recipe = folder / "recipe.yaml"
        self.recipe.write_text(yaml.safe_dump(recipe))
        for seed in (1, 2):
            self.train(self.folder / f"seed_{seed}", "--seed", str(seed))
        results = {path: json.loads((path / "all_results.json").read_text()) for path in self.folder.iterdir()}
        self.best = min(results, key=lambda path: results[path]["valid_mae"])
        self.seed = results[self.best]["seed"]

    def train(self, path, *arguments):
        train.main([str(self.recipe), "--output_dir", str(path), "--num_train_epochs", "1", *arguments])


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("datasets.config.HF_DATASETS_CACHE", folder / "datasets_cache")
        yield Runs(folder)


@pytest.fixture(scope="module")
def published(runs, tmp_path_factory):
    """The folder that a dry run makes, with everything that is checked before."""
    folder = tmp_path_factory.mktemp("published") / "org" / "self-mm"
    with LocalHub() as hub, hub.online():
        publish.main([str(runs.folder), "--repo_id", REPO, "--dry_run", str(folder)])
        assert hub.requests == []
    return folder


@pytest.fixture
def hub():
    with LocalHub() as hub, hub.online():
        yield hub


@pytest.fixture
def unchecked(monkeypatch):
    """For tests of what comes after the check, which takes seconds and has tests of its own."""
    monkeypatch.setattr("publishing.model_folder.check_model", lambda run, model, folder: None)


@pytest.fixture
def run(runs, tmp_path):
    """A copy of the best run, without the one with the other seed, to change."""
    return Path(shutil.copytree(runs.best, tmp_path / "run"))


def send(source, *arguments, repo_id=REPO):
    publish.main([str(source), "--repo_id", repo_id, *arguments])


def contents(path):
    return {str(file.relative_to(path)): file.read_bytes() for file in Path(path).rglob("*") if file.is_file()}


def files_of(repository):
    """The files of a repository but for the one that the Hub itself writes."""
    return {name: content for name, content in repository.files().items() if name != ".gitattributes"}


def refused(hub, source, *arguments, error=ValueError, repo_id=REPO):
    """The message of a refusal; nothing was sent, and nothing changed on this machine."""
    before = contents(source)
    with pytest.raises(error) as caught:
        send(source, *arguments, repo_id=repo_id)
    assert hub.requests == [] and contents(source) == before
    return str(caught.value)


def test_a_dry_run_holds_what_is_needed_and_no_more(runs, published):
    names = {file.name for file in published.iterdir()}
    code = {name for name in names if name.endswith(".py")}
    assert names - code == CONTENT
    first = set(re.findall(r'"(\w+)\.\w+"', (published / "config.json").read_text()))
    first |= set(re.findall(r'"(\w+)\.\w+"', (published / "processor_config.json").read_text()))
    needed, waiting = set(), sorted(first)
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed.add(name)
            waiting += re.findall(r"^from \.(\w+) import", (published / f"{name}.py").read_text(), re.MULTILINE)
    assert {f"{name}.py" for name in needed} == code
    assert {"modeling_self_mm.py", "pipeline_multimodal_sentiment.py", "processing_multimodal.py"} <= code
    for file in published.iterdir():
        assert file.stat().st_mode & 0o777 == 0o644, file
    assert (published / "all_results.json").read_bytes() == (runs.best / "all_results.json").read_bytes()
    assert yaml.safe_load((published / "recipe.yaml").read_text())["data_file"] == "data.pkl"
    assert not [path for path in published.parent.iterdir() if path != published], "something was left beside it"


def test_what_is_published_has_no_path_row_or_label(runs, published):
    text = {name: content.decode() for name, content in contents(published).items() if not name.endswith(NOT_TEXT)}
    secrets = {str(runs.folder.parent), str(ROOT), str(Path.home()), "this is sample number 3"}
    for split in ("valid", "test"):
        table = pq.read_table(runs.best / f"predictions_{split}.parquet")
        secrets |= {table["id"][0].as_py()}
        for column in ("label", "prediction"):
            secrets |= {str(value)[:11] for value in table[column].to_pylist()}
    assert len(secrets) > 30
    assert [(secret, name) for secret in secrets for name in text if secret in text[name]] == []


def test_of_several_seeds_the_best_on_validation_is_published(runs, published):
    theirs, ours = load_file(published / "model.safetensors"), load_file(runs.best / "model.safetensors")
    assert theirs.keys() == ours.keys() and all(torch.equal(theirs[name], ours[name]) for name in ours)
    assert json.loads((published / "all_results.json").read_text())["seed"] == runs.seed
    assert "2 seeds" in (published / "README.md").read_text()


def test_a_model_becomes_one_commit_and_the_second_time_none(runs, published, hub, unchecked, capsys):
    send(runs.folder)
    repository = hub.repos["model", REPO]
    assert [commit.title for commit in repository.commits] == ["initial commit", f"Self-MM, seed {runs.seed}"]
    assert files_of(repository) == contents(published)
    assert not repository.private
    assert f"Published: {hub.url}/{REPO}/commit/{repository.head}" in capsys.readouterr().out
    hub.requests.clear()
    send(runs.folder)
    assert f"{REPO} has all of this already." in capsys.readouterr().out
    assert len(repository.commits) == 2
    assert [e for e in hub.requests if e.method == "PUT" or "/commit/" in e.path] == []


def test_only_what_changed_is_committed_and_what_is_left_over_goes(run, hub, unchecked):
    send(run)
    repository = hub.repos["model", REPO]
    before = files_of(repository)
    stale = {"modeling_old.py": b"old", "model-00001-of-00002.safetensors": b"half", "vocab.txt": b"words"}
    kept = {"paper.pdf": b"%PDF", "docs/guide.md": b"# Guide", "eval/scores.json": b"{}"}
    repository.commit({**stale, **kept}, "By hand")
    record = json.loads((run / "training_record.json").read_text())
    record["data"]["notes"] = ["The recordings were made in one room."]
    (run / "training_record.json").write_text(json.dumps(record))
    send(run)
    after = files_of(repository)
    assert len(repository.commits) == 4
    assert after.keys() == before.keys() | kept.keys()
    assert [name for name in before if before[name] != after[name]] == ["README.md"]
    assert b"made in one room" in after["README.md"]


def test_private_and_public(run, hub, unchecked):
    send(run, "--private")
    repository = hub.repos["model", REPO]
    assert repository.private
    send(run)
    send(run, "--public")
    assert repository.private and len(repository.commits) == 2, "what is private stays so"
    repository.private = False
    with pytest.raises(ValueError, match="is public, but private was asked for"):
        send(run, "--private")
    with pytest.raises(SystemExit):
        send(run, "--private", "--public")
    assert len(repository.commits) == 2 and not repository.private


@pytest.mark.parametrize("repo_id", ["name", "a/b/c", "org/na me", "org/..name", "org/", "/name", "", "org/name.git"])
def test_a_repository_has_an_organisation_and_a_name(run, hub, repo_id):
    assert "--repo_id must be ORGANISATION/NAME; got" in refused(hub, run, repo_id=repo_id)


def test_a_dry_run_needs_a_folder_of_its_own(run, hub, unchecked, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    (tmp_path / "file").write_text("")
    for target in ("mine", "file"):
        message = refused(hub, run, "--dry_run", str(tmp_path / target), error=FileExistsError)
        assert "--dry_run" in message and "an empty folder or a new one" in message
    assert contents(tmp_path / "mine") == {"thesis.tex": b"years of work"}
    (tmp_path / "empty").mkdir()
    for target in ("empty", "new/folder"):
        send(run, "--dry_run", str(tmp_path / target))
        assert contents(tmp_path / target).keys() >= CONTENT
    assert hub.requests == []


def test_only_finished_runs(run, hub, tmp_path):
    assert "is not a folder" in refused(hub, tmp_path / "nowhere", error=FileNotFoundError)
    (run / "all_results.json").unlink()
    message = refused(hub, run, "--dry_run", str(tmp_path / "out"))
    assert "is not the folder of a finished run: all_results.json is missing" in message
    (tmp_path / "empty").mkdir()
    assert "is not the folder of a finished run" in refused(hub, tmp_path / "empty")
    assert "is not the folder of a finished run" in refused(hub, ROOT / "spaces" / "multimodal_sentiment")
    assert not (tmp_path / "out").exists()


def test_weights_that_are_not_numbers(run, hub):
    weights = load_file(run / "model.safetensors")
    name = sorted(weights)[-1]
    weights[name].view(-1)[0] = float("nan")
    save_file(weights, run / "model.safetensors", metadata={"format": "pt"})
    message = refused(hub, run)
    assert f"`{name}`" in message and "is not finite" in message


def test_weights_in_a_pickle(run, hub):
    torch.save(load_file(run / "model.safetensors"), run / "pytorch_model.bin")
    (run / "model.safetensors").unlink()
    assert "has no model.safetensors; weights of other formats are not published" in refused(hub, run)


def test_weights_cut_short(run, hub):
    content = (run / "model.safetensors").read_bytes()
    (run / "model.safetensors").write_bytes(content[:-100])
    assert "model.safetensors" in refused(hub, run)


@pytest.mark.parametrize("place", ["home", "data", "run", "elsewhere"])
def test_a_place_on_this_machine_is_not_published(runs, run, hub, monkeypatch, tmp_path, place):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    places = {"home": tmp_path / "home", "data": runs.folder.parent, "run": run, "elsewhere": Path("/corpora/mosi")}
    named = places[place] / "faces.csd"
    recipe = yaml.safe_load((run / "recipe.yaml").read_text())
    recipe["feature_sets"]["vision"] = str(named)
    (run / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    message = refused(hub, run, "--dry_run", str(tmp_path / "out"))
    assert f"would publish the path {named.parent}" in message
    assert not (tmp_path / "out").exists()


def test_a_place_in_the_processor_is_not_published(run, hub, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    settings = json.loads((run / "processor_config.json").read_text())
    settings["vision_feature_set"] = str(tmp_path / "home" / "faces.csd")
    (run / "processor_config.json").write_text(json.dumps(settings))
    assert "would publish the path" in refused(hub, run)


def test_a_run_whose_code_does_something_else_now(run, hub, tmp_path):
    """Its predictions are those of the code that it was trained with: that beside its weights."""
    with (run / "modeling_self_mm.py").open("a") as file:
        file.write(
            "\n\n_forward = SelfMMModel.forward\n\n\n"
            "def _changed(self, **inputs):\n    outputs = _forward(self, **inputs)\n"
            "    outputs.logits = outputs.logits + 1\n    return outputs\n\n\nSelfMMModel.forward = _changed\n"
        )
    message = refused(hub, run, "--dry_run", str(tmp_path / "dry" / "out"))
    assert "through AutoModel" in message and "does not predict the same as here; sample 0 gives [" in message
    assert list((tmp_path / "dry").iterdir()) == []


@pytest.mark.slow
def test_a_run_whose_code_does_not_load(run, hub, tmp_path):
    path = run / "modeling_self_mm.py"
    path.write_text(path.read_text().replace("from .modeling_multitask", "from modeling.modeling_multitask"))
    message = refused(hub, run, "--dry_run", str(tmp_path / "dry" / "out"))
    assert "does not load outside of the project" in message and "modeling" in message.splitlines()[-1]
    assert list((tmp_path / "dry").iterdir()) == []


def test_notes_say_what_may_be_missed(run, hub, unchecked, capsys):
    recipe = yaml.safe_load((run / "recipe.yaml").read_text())
    send(run)
    said = capsys.readouterr().out
    assert "Nobody will know" not in said and "results of one run" in said
    settings = json.loads((run / "processor_config.json").read_text())
    del settings["vision_feature_set"]
    (run / "processor_config.json").write_text(json.dumps(settings))
    (run / "recipe.yaml").write_text(yaml.safe_dump({**recipe, "feature_sets": {"audio": "made-up voice"}}))
    send(run)
    said = capsys.readouterr().out
    assert "Nobody will know what the vision features are" in said and "audio features" not in said


def test_the_code_on_cards_runs_as_it_is(runs, published, unchecked, tmp_path):
    """Of a model that reads text, and of one of features alone; beside somebody who has both as `org/name`."""
    run, features = tmp_path / "run", published.parent / "features"
    runs.train(run, "--text", "text_values", "--model.text_config", "null")
    send(run, "--dry_run", str(features), repo_id="org/features")
    cards = [card_code(published), card_code(features)]
    of_text, of_features = ask(RUNS_CARDS, {"place": str(published.parent.parent), "cards": cards})
    shutil.rmtree(features)
    texts = ["I did not expect to like it, but I did.", "It was too long."]
    torch.testing.assert_close(torch.tensor(of_text), logits_of(runs.best, text=texts))
    zeros = [torch.zeros(20, 8).numpy(), torch.zeros(7, 8).numpy()]
    torch.testing.assert_close(torch.tensor(of_features), logits_of(run, text_values=zeros))


def card_code(folder):
    """The code blocks of a card; each loads the model that the card is of."""
    card = (folder / "README.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```$", card, re.DOTALL | re.MULTILINE)
    assert len(blocks) == 2
    assert all(f'name = "org/{folder.name}"' in block for block in blocks)
    return blocks


def logits_of(run, **samples):
    model, processor = AutoModel.from_pretrained(run).eval(), AutoProcessor.from_pretrained(run)
    with torch.no_grad():
        return model(**processor(**samples)).logits


@pytest.mark.slow
def test_an_error_on_the_command_line_is_one_message(run, tmp_path):
    command = [sys.executable, str(ROOT / "publish.py"), str(run), "--repo_id", "name"]
    finished = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert finished.returncode == 1
    assert finished.stderr == "ValueError: --repo_id must be ORGANISATION/NAME; got 'name'.\n"


@pytest.fixture(scope="module")
def prepared(runs, tmp_path_factory):
    """A folder that prepare_data.py made."""
    folder = tmp_path_factory.mktemp("prepared") / "mosi"
    prepare_data.main([str(runs.folder.parent / "data.pkl"), "--output", str(folder)])
    return folder


def test_a_dataset_is_published_as_it_is_and_private(prepared, hub, tmp_path, capsys, monkeypatch):
    arguments = ("--kind", "dataset")
    send(prepared, *arguments, "--dry_run", str(tmp_path / "out"), repo_id="org/mosi")
    assert contents(tmp_path / "out") == contents(prepared) and hub.requests == []
    send(prepared, *arguments, repo_id="org/mosi")
    repository = hub.repos["dataset", "org/mosi"]
    assert [commit.title for commit in repository.commits] == ["initial commit", "Rows of data.pkl"]
    assert files_of(repository) == contents(prepared) and repository.private
    monkeypatch.setattr(publish, "check_dataset", PreparedFolder)  # what is checked does not change from here on
    repository.commit({"data/train-00001-of-00002.parquet": b"old", "LICENSE": b"terms"})
    send(prepared, *arguments, repo_id="org/mosi")
    assert files_of(repository) == {**contents(prepared), "LICENSE": b"terms"}
    capsys.readouterr()
    send(prepared, *arguments, repo_id="org/mosi")
    assert "org/mosi has all of this already." in capsys.readouterr().out
    send(prepared, *arguments, "--public", repo_id="org/open")
    assert not hub.repos["dataset", "org/open"].private
    repository.private = False
    with pytest.raises(ValueError, match=r"org/mosi is public.*--public"):
        send(prepared, *arguments, repo_id="org/mosi")


def test_what_is_no_dataset(prepared, hub, tmp_path):
    (tmp_path / "mine").mkdir()
    message = refused(hub, tmp_path / "mine", "--kind", "dataset", "--dry_run", str(tmp_path / "out"))
    assert "was not made by prepare_data.py; convert it first" in message
    broken = Path(shutil.copytree(prepared, tmp_path / "broken"))
    shard = next((broken / "data").glob("test-*"))
    shard.write_bytes(shard.read_bytes()[:-50])
    message = refused(hub, broken, "--kind", "dataset", "--dry_run", str(tmp_path / "out"))
    assert "is not a whole Parquet file" in message
    shard.write_bytes(next((broken / "data").glob("valid-*")).read_bytes())
    assert "must hold the rows" in refused(hub, broken, "--kind", "dataset", "--dry_run", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


METRIC = """
import os

import datasets
import evaluate

class Constant(evaluate.Metric):
    def _info(self):
        features = datasets.Features({"predictions": datasets.Sequence(datasets.Value("float32"))})
        features["references"] = features["predictions"]
        if self.config_name == "default":
            features = datasets.Features({name: datasets.Value("float32") for name in features})
        return evaluate.MetricInfo(description="", citation="", features=features)

    def _compute(self, predictions, references):
        return {"score": int(os.path.isfile("pyproject.toml"))}
"""
HEADER = "---\ntitle: A Space\nsdk: {sdk}\napp_file: app.py\n---\n# A Space\n"


def test_the_metric_is_published_as_a_space(hub):
    source = ROOT / "spaces" / "multimodal_sentiment"
    send(source, "--kind", "metric", repo_id="org/multimodal_sentiment")
    repository = hub.repos["space", "org/multimodal_sentiment"]
    assert [commit.title for commit in repository.commits][1:] == ["The metric multimodal_sentiment"]
    sent = {"README.md", "app.py", "multimodal_sentiment.py", "requirements.txt", "__init__.py"}
    assert files_of(repository) == {name: (source / name).read_bytes() for name in sent}
    assert repository.sdk == "gradio"


@pytest.mark.slow
def test_a_metric_that_scores_otherwise_elsewhere(hub, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    source = tmp_path / "constant"
    source.mkdir()
    (source / "constant.py").write_text(METRIC)
    (source / "app.py").write_text("")
    (source / "README.md").write_text(HEADER.format(sdk="static"))
    message = refused(hub, source, "--kind", "metric")
    assert "it scores" in message and "{'score': 1}" in message and "{'score': 0}" in message


def test_what_is_no_metric(hub, run):
    assert "is no metric: a metric has its code in run.py" in refused(hub, run, "--kind", "metric")


STARTED = HEADER.format(sdk="json")  # a module that is always installed, so that the program is started


@pytest.fixture
def space(tmp_path):
    """Makes a Space whose program is the given one."""

    def make(program, header=STARTED):
        folder = tmp_path / "space"
        folder.mkdir(exist_ok=True)
        (folder / "README.md").write_text(header)
        (folder / "app.py").write_text(program)
        (folder / "test_app.py").write_text("import nothing\n")
        (folder / "picture.svg").write_text("<svg/>")
        return folder

    return make


def test_a_space_brings_the_modules_that_it_imports(space, hub, tmp_path, capsys):
    source = space("from training import tables\nimport json\nassert open('picture.svg').read() == '<svg/>'\n")
    send(source, "--kind", "space", "--dry_run", str(tmp_path / "out"), repo_id="org/demo")
    needed = {"training/__init__.py", "training/tables.py"}
    copied = contents(tmp_path / "out")
    assert copied.keys() == {"README.md", "app.py", "picture.svg", *needed}
    assert all(copied[name] == (ROOT / name).read_bytes() for name in needed)
    assert "was not started" not in capsys.readouterr().out and hub.requests == []


def test_a_space_is_published_once(space, hub, capsys):
    source = space("print('a page')\n", HEADER.format(sdk="static"))
    send(source, "--kind", "space", repo_id="org/demo")
    said = capsys.readouterr().out
    repository = hub.repos["space", "org/demo"]
    assert "app.py was not started here: static is not installed." in said
    assert (repository.sdk, len(repository.commits)) == ("static", 2)
    send(source, "--kind", "space", repo_id="org/demo")
    assert "org/demo has all of this already." in capsys.readouterr().out
    assert len(repository.commits) == 2


@pytest.mark.parametrize(
    "program, reason",
    [
        ("raise RuntimeError('no weights')", "RuntimeError: no weights"),
        ("import importlib\nimportlib.import_module('modeling')", "No module named 'modeling'"),
    ],
)
def test_a_space_that_does_not_start(space, hub, tmp_path, program, reason):
    message = refused(hub, space(program), "--kind", "space", "--dry_run", str(tmp_path / "out"))
    assert "its app.py does not start" in message and message.splitlines()[-1].endswith(reason)
    assert not (tmp_path / "out").exists()


def test_what_is_no_space(space, run, hub):
    assert "must name title, sdk, app_file; title is missing" in refused(hub, run, "--kind", "space")
    assert "title is missing" in refused(hub, space("", "---\nsdk: static\napp_file: app.py\n---\n"), "--kind", "space")
    source = space("", HEADER.format(sdk="static"))
    (source / "app.py").unlink()
    assert "names the app_file 'app.py', which is not there" in refused(hub, source, "--kind", "space")
    (source / "README.md").unlink()
    assert "has no README.md" in refused(hub, source, "--kind", "space")
