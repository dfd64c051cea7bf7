"""The local Hub does for the real clients what the Hub does: it keeps, finds, refuses and forgets as it should."""

import hashlib
import io
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationDelete,
    EvalResult,
    HfApi,
    ModelCard,
    ModelCardData,
    constants,
    get_hf_file_metadata,
    hf_hub_download,
    hf_hub_url,
    snapshot_download,
    whoami,
)
from huggingface_hub.errors import (
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import get_session

from tests.local_hub import LocalHub

# The client itself hands over open files in a way that its HTTP library does not like.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

KINDS = ("model", "dataset", "space")
WEIGHTS = bytes(range(256)) * 400
FILES = {
    "README.md": b"---\nlicense: mit\nsdk: gradio\ntags: [sentiment]\n---\n# Card\n",
    "config.json": b'{"model_type": "bert", "hidden_size": 24, "num_attention_heads": 2}',
    "model.safetensors": WEIGHTS,
    "plots/loss.png": b"\x89PNG\r\n\x1a\n" + bytes(300),
    "notes/empty.txt": b"",
}
LARGE = {"model.safetensors", "plots/loss.png"}


def created(hub, name="org/name", kind="model", files=None):
    """A repository of the Hub, made by a client, with files that were committed directly."""
    HfApi().create_repo(name, repo_type=kind, space_sdk="gradio" if kind == "space" else None)
    repository = hub.repos[kind, name]
    if files:
        repository.commit(files, "Files")
    return repository


def additions(files):
    return [CommitOperationAdd(path, content) for path, content in files.items()]


def commit(files, name="org/name", **options):
    return HfApi().create_commit(name, additions(files), commit_message="Change", **options)


def asked(hub, method, part):
    """The statuses of the requests whose path contains a part."""
    return [exchange.status for exchange in hub.requests if exchange.method == method and part in exchange.path]


def refused(status):
    return pytest.raises(HfHubHTTPError, check=lambda error: error.response.status_code == status)


def test_a_token_names_its_user(hub):
    identity = HfApi().whoami()
    assert (identity["name"], [entry["name"] for entry in identity["orgs"]]) == ("tester", ["org"])
    with refused(401) as caught:
        HfApi(token="hf_wrong").whoami()
    assert caught.value.request_id  # by which people ask the Hub what went wrong


@pytest.mark.parametrize("kind", KINDS)
def test_a_repository_is_created_once_changed_and_deleted(hub, kind):
    api, options = HfApi(), {"repo_type": kind, "space_sdk": "gradio" if kind == "space" else None}
    assert not api.repo_exists("org/name", repo_type=kind)
    url = api.create_repo("org/name", private=True, **options)
    assert (url.repo_id, url.repo_type) == ("org/name", kind)
    with refused(409):
        api.create_repo("org/name", **options)
    assert api.create_repo("org/name", exist_ok=True, **options) == url
    repository = hub.repos[kind, "org/name"]
    assert repository.private and [entry.title for entry in repository.commits] == ["initial commit"]
    assert repository.files().keys() == {".gitattributes"} | ({"README.md"} if kind == "space" else set())
    api.update_repo_settings("org/name", private=False, repo_type=kind)
    assert not repository.private and api.repo_info("org/name", repo_type=kind).private is False
    api.delete_repo("org/name", repo_type=kind)
    assert not hub.repos
    with pytest.raises(RepositoryNotFoundError):
        api.delete_repo("org/name", repo_type=kind)


def test_who_may_write(hub):
    created(hub)
    assert HfApi().create_repo("alone").repo_id == "tester/alone"
    with refused(403):
        HfApi().create_repo("others/name")
    for token, status in ((hub.read_token, 403), (False, 401)):
        with refused(status):
            HfApi(token=token).create_repo("org/other")
        with refused(status):
            commit({"a.txt": b"a"}, token=token)
    assert len(hub.repos["model", "org/name"].commits) == 1


def test_a_private_repository_is_there_for_its_owner_alone(hub):
    created(hub, files=FILES).private = True
    assert HfApi(token=hub.read_token).model_info("org/name").private
    for call in (
        lambda: HfApi(token=False).model_info("org/name"),
        lambda: HfApi(token=False).list_repo_files("org/name"),
        lambda: hf_hub_download("org/name", "config.json", token=False),
        lambda: HfApi().model_info("org/missing"),
    ):
        with pytest.raises(RepositoryNotFoundError):
            call()
    assert asked(hub, "GET", "/org/missing") == [404] and 401 in asked(hub, "GET", "/api/models/org/name")


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_is_uploaded_and_downloaded_in_one_commit(hub, folder, kind):
    repository, before = created(hub, kind=kind), hub.repos[kind, "org/name"].head
    info = HfApi().upload_folder(repo_id="org/name", folder_path=folder, repo_type=kind, commit_message="Publish")
    assert (info.oid, repository.commits[-1].parent) == (repository.head, before)
    assert [entry.title for entry in repository.commits] == ["initial commit", "Publish"]
    contents = repository.files()
    assert contents.pop(".gitattributes").startswith(repository.files(before)[".gitattributes"])
    assert contents == FILES
    assert {path for path, blob in repository.commits[-1].files.items() if blob.lfs} == LARGE
    copy = Path(snapshot_download("org/name", repo_type=kind))
    assert {name: (copy / name).read_bytes() for name in FILES} == FILES


def test_the_second_upload_of_a_folder_changes_nothing(hub, folder):
    repository = created(hub)
    first = HfApi().upload_folder(repo_id="org/name", folder_path=folder)
    hub.requests.clear()
    assert HfApi().upload_folder(repo_id="org/name", folder_path=folder).oid == first.oid == repository.head
    assert asked(hub, "PUT", "") == [] and asked(hub, "POST", "/commit/") == []
    (folder / "config.json").write_text("{}")
    HfApi().upload_folder(repo_id="org/name", folder_path=folder)
    changed = [path for path, content in repository.files().items() if repository.files(first.oid)[path] != content]
    assert changed == ["config.json"] and asked(hub, "PUT", "") == []


def test_a_large_file_that_is_known_is_not_sent_again(hub):
    created(hub, files={"a.safetensors": WEIGHTS})
    created(hub, "org/second")
    commit({"b.safetensors": WEIGHTS, "c.safetensors": WEIGHTS[1:]}, "org/second")
    assert len(asked(hub, "PUT", "/objects/")) == 1
    assert hub.repos["model", "org/second"].files()["b.safetensors"] == WEIGHTS


def test_a_large_file_gets_a_rule_in_gitattributes(hub):
    repository = created(hub)
    commit({"a.png": FILES["plots/loss.png"], "b.safetensors": WEIGHTS, "long.txt": b"a" * (10 * 2**20 + 1)})
    rules = repository.files()[".gitattributes"].decode()
    assert [rules.count(f"{name} filter=lfs") for name in ("a.png", "long.txt", "b.safetensors")] == [1, 1, 0]


def test_large_files_in_parts(folder):
    with LocalHub(multipart_size=30_000) as hub, hub.online():
        repository = created(hub)
        HfApi().upload_folder(repo_id="org/name", folder_path=folder)
        assert repository.files()["model.safetensors"] == WEIGHTS
        parts = [exchange.path[-2:] for exchange in hub.requests if exchange.method == "PUT"]
        assert {"/1", "/2", "/3", "/4"} <= set(parts) and asked(hub, "POST", "/complete/") == [200]


def test_what_is_stored_is_what_was_announced(hub):
    created(hub)
    oid = hashlib.sha256(b"right").hexdigest()
    wanted = {"operation": "upload", "objects": [{"oid": oid, "size": 5}]}
    headers = {"Authorization": f"Bearer {hub.token}"}
    batch = get_session().post(f"{hub.url}/org/name.git/info/lfs/objects/batch", json=wanted, headers=headers)
    actions = batch.json()["objects"][0]["actions"]
    assert get_session().put(actions["upload"]["href"], content=b"wrong").status_code == 400
    verify = {"url": actions["verify"]["href"], "json": wanted["objects"][0], "headers": headers}
    assert get_session().post(**verify).status_code == 404
    lines = [
        {"key": "header", "value": {"summary": "Change"}},
        {"key": "file", "value": {"path": "a.txt", "content": "YQ==", "encoding": "base64"}},
        {"key": "lfsFile", "value": {"path": "a.bin", "algo": "sha256", "oid": oid, "size": 5}},
    ]
    body = "\n".join(json.dumps(line) for line in lines)
    send = {"url": f"{hub.url}/api/models/org/name/commit/main", "content": body, "headers": headers}
    assert get_session().post(**send).status_code == 400
    assert hub.repos["model", "org/name"].files().keys() == {".gitattributes"}
    assert get_session().put(actions["upload"]["href"], content=b"right").status_code == 200
    assert get_session().post(**verify).status_code == 200 and get_session().post(**send).status_code == 200
    assert hub.repos["model", "org/name"].files()["a.bin"] == b"right"


def test_files_and_folders_are_deleted_whole_or_not_at_all(hub):
    repository = created(hub, files=FILES)
    for operations in (
        [CommitOperationDelete("config.json"), CommitOperationDelete("missing.json")],
        [CommitOperationDelete("config.json"), CommitOperationDelete("missing/")],
        [CommitOperationDelete("plots")],
    ):
        with pytest.raises(RemoteEntryNotFoundError):
            HfApi().create_commit("org/name", operations, commit_message="Delete")
    assert repository.files().keys() == {".gitattributes", *FILES}
    operations = [CommitOperationDelete("config.json"), CommitOperationDelete("plots/"), *additions({"a/b": b"new"})]
    HfApi().create_commit("org/name", operations, commit_message="Delete")
    assert repository.files().keys() == {".gitattributes", "README.md", "model.safetensors", "notes/empty.txt", "a/b"}
    assert repository.files(repository.commits[-2].id).keys() == {".gitattributes", *FILES}


def test_a_commit_on_a_head_that_is_no_longer_one_is_refused(hub):
    repository = created(hub)
    head = repository.head
    hub.before("POST", "/commit/", lambda: repository.commit({"theirs.txt": b"theirs"}, "Theirs"))
    with refused(412):
        commit({"ours.txt": b"ours"}, parent_commit=head)
    assert [entry.title for entry in repository.commits] == ["initial commit", "Theirs"]
    assert commit({"ours.txt": b"ours"}, parent_commit=repository.head[:8]).oid == repository.head
    assert repository.files().keys() == {".gitattributes", "theirs.txt", "ours.txt"}


def test_a_hook_may_be_a_client_itself_and_is_called_once(hub):
    repository = created(hub)
    hub.before("POST", "/commit/main", lambda: commit({"theirs.txt": b"theirs"}))
    commit({"ours.txt": b"ours"})
    assert [len(entry.files) for entry in repository.commits] == [1, 2, 3]
    assert "theirs.txt" not in repository.commits[0].files and "ours.txt" not in repository.commits[1].files


def test_branches_tags_and_history(hub):
    repository, api = created(hub, files=FILES), HfApi()
    first = repository.head
    api.create_branch("org/name", branch="try/this", revision=repository.commits[0].id)
    api.create_tag("org/name", tag="v1.0", tag_message="First")
    commit({"config.json": b"{}"}, revision="try/this")
    commit({"config.json": b"[]"})
    refs = api.list_repo_refs("org/name")
    branches = {"main": repository.head, "try/this": repository.branches["try/this"]}
    assert {entry.name: entry.target_commit for entry in refs.branches} == branches
    assert [(entry.ref, entry.target_commit) for entry in refs.tags] == [("refs/tags/v1.0", first)]
    for revision, content in (("main", b"[]"), ("v1.0", FILES["config.json"]), (first, FILES["config.json"])):
        assert Path(hf_hub_download("org/name", "config.json", revision=revision)).read_bytes() == content
        assert api.model_info("org/name", revision=revision).sha == repository.commit_at(revision).id
    assert hub.repos["model", "org/name"].files("try/this").keys() == {".gitattributes", "config.json"}
    titles = [entry.title for entry in api.list_repo_commits("org/name")]
    assert titles == ["Change", "Files", "initial commit"]
    with refused(409):
        api.create_branch("org/name", branch="try/this")
    api.create_branch("org/name", branch="try/this", exist_ok=True)
    with refused(409):
        api.create_tag("org/name", tag="v1.0")
    api.delete_branch("org/name", branch="try/this")
    api.delete_tag("org/name", tag="v1.0")
    with refused(403):
        api.delete_branch("org/name", branch="main")
    assert (list(repository.branches), repository.tags) == (["main"], {})


def test_what_is_not_there_has_an_error_of_its_own(hub):
    created(hub, files=FILES)
    for call in (
        lambda: HfApi().model_info("org/name", revision="v9"),
        lambda: hf_hub_download("org/name", "config.json", revision="v9"),
        lambda: commit({"a.txt": b"a"}, revision="v9"),
        lambda: HfApi().create_tag("org/name", tag="v1", revision="v9"),
        lambda: HfApi().delete_tag("org/name", tag="v9"),
    ):
        with pytest.raises(RevisionNotFoundError):
            call()
    with pytest.raises(RemoteEntryNotFoundError):
        hf_hub_download("org/name", "missing.json")
    with pytest.raises(RemoteEntryNotFoundError):
        list(HfApi().list_repo_tree("org/name", "missing"))
    assert not HfApi().file_exists("org/name", "missing.json") and HfApi().file_exists("org/name", "plots/loss.png")


@pytest.mark.parametrize("kind", KINDS)
def test_lists_of_files_tell_sizes_hashes_and_changes(hub, kind):
    repository, api = created(hub, kind=kind, files=FILES), HfApi()
    repository.commit({"config.json": b"{}"}, "Later")
    expected = repository.files()
    assert sorted(api.list_repo_files("org/name", repo_type=kind)) == sorted(expected)
    info = api.repo_info("org/name", repo_type=kind, files_metadata=True)
    assert (info.sha, info.card_data.license, info.tags) == (repository.head, "mit", ["sentiment"])
    assert {file.rfilename: file.size for file in info.siblings} == {name: len(expected[name]) for name in expected}
    weights = next(file for file in info.siblings if file.rfilename == "model.safetensors")
    assert weights.lfs.sha256 == hashlib.sha256(WEIGHTS).hexdigest()
    top = {entry.path for entry in api.list_repo_tree("org/name", repo_type=kind)}
    assert top == {".gitattributes", "README.md", "config.json", "model.safetensors", "notes", "plots"}
    paths = ["config.json", "plots", "plots/loss.png", "missing"]
    config, plots, image = api.get_paths_info("org/name", paths, expand=True, repo_type=kind)
    assert config.blob_id == hashlib.sha1(b"blob 2\0{}").hexdigest() and config.lfs is None
    assert [entry.last_commit.title for entry in (config, plots, image)] == ["Later", "Files", "Files"]
    assert (plots.path, image.lfs.size) == ("plots", 308)


def test_metadata_of_a_file_without_its_content(hub):
    repository = created(hub, files=FILES)
    small, large = (get_hf_file_metadata(hf_hub_url("org/name", name)) for name in ("config.json", "model.safetensors"))
    assert small.commit_hash == large.commit_hash == repository.head
    assert (small.size, large.size) == (len(FILES["config.json"]), len(WEIGHTS))
    assert (small.etag, large.etag) == (
        repository.commits[-1].files["config.json"].git_oid,
        hashlib.sha256(WEIGHTS).hexdigest(),
    )
    assert large.location.startswith(hub.storage_url) and large.xet_file_data is None
    assert {exchange.method for exchange in hub.requests[1:]} == {"HEAD"}


@pytest.mark.parametrize(
    "asked_range, status, expected",
    [
        ("bytes=0-9", 206, WEIGHTS[:10]),
        ("bytes=100000-", 206, WEIGHTS[100000:]),
        ("bytes=-7", 206, WEIGHTS[-7:]),
        ("bytes=5-999999", 206, WEIGHTS[5:]),
        ("bytes=999999-", 416, b""),
    ],
)
def test_a_range_of_a_file(hub, asked_range, status, expected):
    created(hub, files=FILES)
    answer = get_session().get(hf_hub_url("org/name", "model.safetensors"), headers={"Range": asked_range})
    assert (answer.status_code, answer.content) == (status, expected)


def test_a_token_that_reaches_the_storage_is_refused(hub):
    created(hub, files=FILES)
    location = get_hf_file_metadata(hf_hub_url("org/name", "model.safetensors")).location
    leaking = urllib.request.Request(location, headers={"Authorization": f"Bearer {hub.token}"})
    with pytest.raises(urllib.error.HTTPError, match="400"):
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(leaking, timeout=5)


@pytest.mark.parametrize("chunk, again", [(1000, 206), (10**6, 200)])
def test_a_download_that_breaks_off_goes_on_with_what_was_written(hub, monkeypatch, chunk, again):
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", chunk)  # bytes that the client writes at once
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)
    created(hub, files=FILES)
    hub.fail("GET", "/objects/", status="drop", when="middle")
    assert Path(hf_hub_download("org/name", "model.safetensors")).read_bytes() == WEIGHTS
    assert asked(hub, "GET", "/objects/") == ["drop", again]


@pytest.mark.parametrize("status", [503, "drop"])
@pytest.mark.parametrize("pattern", ["POST /preupload/", "POST /objects/batch", "PUT /objects/", "POST /verify"])
def test_what_comes_before_a_commit_is_tried_again(hub, monkeypatch, status, pattern):
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)
    repository = created(hub)
    hub.fail(*pattern.split(), times=2, status=status)
    commit({"model.safetensors": WEIGHTS})
    assert asked(hub, *pattern.split()) == [status, status, 200]
    assert repository.files()["model.safetensors"] == WEIGHTS and len(repository.commits) == 2


@pytest.mark.parametrize(
    "status, error", [(503, HfHubHTTPError), (500, HfHubHTTPError), ("drop", httpx2.TransportError)]
)
@pytest.mark.parametrize("when, happened", [("before", False), ("after", True)])
def test_a_commit_that_fails_has_happened_or_not(hub, status, error, when, happened):
    repository = created(hub)
    hub.fail("POST", "/commit/", status=status, when=when)
    with pytest.raises(error):
        commit(FILES)
    assert len(repository.commits) == 1 + happened and ("model.safetensors" in repository.files()) == happened
    commit(FILES)  # again, for the client could not know
    assert len(repository.commits) == 2
    assert {name: repository.files()[name] for name in FILES} == FILES


def test_a_cut_in_the_middle_needs_a_cut(hub):
    with pytest.raises(ValueError, match='status="drop"'):
        hub.fail("GET", "/", when="middle", status=500)


def test_clients_at_the_same_time_commit_one_after_another(hub):
    repository, head = created(hub), hub.repos["model", "org/name"].head
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: commit({f"{number}.bin": bytes([number]) * 99}), range(8)))
    assert [len(entry.files) for entry in repository.commits] == list(range(1, 10))
    assert [entry.parent for entry in repository.commits[1:]] == [entry.id for entry in repository.commits[:-1]]
    assert all(repository.files()[f"{number}.bin"] == bytes([number]) * 99 for number in range(8))

    def attempt(number):
        try:
            return commit({f"late{number}.txt": b"late"}, parent_commit=last).oid
        except HfHubHTTPError as error:
            return error.response.status_code

    last = repository.head
    assert last != head
    with ThreadPoolExecutor(8) as pool:
        assert sorted(map(str, pool.map(attempt, range(8)))) == sorted(["412"] * 7 + [repository.head])


RESULT = {
    "task": {"type": "text-classification"},
    "dataset": {"name": "MOSI", "type": "mosi"},
    "metrics": [{"type": "mae", "value": 0.7}],
}


@pytest.mark.parametrize(
    "metadata, kind, error",
    [
        ("license: [", "model", "YAML"),
        ("- a", "model", "mapping"),
        ("language: english", "model", "language"),
        ("tags: sentiment", "dataset", "tags"),
        ("base_model: ./bert", "model", "base_model"),
        ("sdk: flask", "space", "sdk"),
        ("{sdk: gradio, colorFrom: teal}", "space", "colorFrom"),
        ("{model-index: {name: m}}", "model", '"model-index" must be an array'),
        ({"results": [RESULT]}, "model", '"model-index[0].name" is required'),
        ({"name": "m"}, "model", '"model-index[0].results" must be an array'),
        ({"name": "m", "results": [{**RESULT, "task": {}}]}, "model", "results[0].task.type"),
        ({"name": "m", "results": [{**RESULT, "dataset": {"type": "d"}}]}, "model", "results[0].dataset.name"),
        ({"name": "m", "results": [{**RESULT, "dataset": {"name": "d"}}]}, "model", "results[0].dataset.type"),
        ({"name": "m", "results": [{**RESULT, "metrics": [{"type": "mae"}]}]}, "model", "metrics[0].value"),
        ({"name": "m", "results": [{**RESULT, "metrics": [{"value": 1}]}]}, "model", "metrics[0].type"),
        ({"name": "m", "results": [{"task": {"type": "t"}, "dataset": RESULT["dataset"]}]}, "model", "metrics"),
    ],
)
def test_metadata_that_the_hub_refuses(hub, metadata, kind, error):
    text = metadata if isinstance(metadata, str) else json.dumps({"model-index": [metadata]})
    card = f"---\n{text}\n---\n# Card\n"
    created(hub, kind=kind)
    with pytest.raises(ValueError) as caught:
        HfApi().upload_file(path_or_fileobj=card.encode(), path_in_repo="README.md", repo_id="org/name", repo_type=kind)
    assert error in str(caught.value)
    assert len(hub.repos[kind, "org/name"].commits) == 1


def test_metadata_that_the_hub_accepts(hub):
    result = EvalResult("text-classification", "mosi", "MOSI", "mae", 0.7, dataset_split="test", dataset_args={"n": 1})
    data = ModelCardData(license="mit", language=["en", "zh"], model_name="m", eval_results=[result])
    ModelCard(f"---\n{data.to_yaml()}\n---\n# Card\n").validate()
    with pytest.warns(UserWarning, match="empty or missing yaml metadata"):
        created(hub) and commit({"README.md": b"# Card\n"})
    with pytest.raises(ValueError, match="language"):
        ModelCard("---\nlanguage: english\n---\n").validate()


def test_online_lasts_as_long_as_its_block():
    def state():
        return {name: getattr(constants, name) for name in dir(constants)}, dict(os.environ), HfApi().endpoint

    before = state()
    with LocalHub() as hub:
        with hub.online():
            assert HfApi().endpoint == hub.url and not constants.HF_HUB_OFFLINE
            assert "HF_HUB_OFFLINE" not in os.environ
            assert whoami()["name"] == hub.user
        assert state() == before
        if constants.HF_HUB_OFFLINE:
            with pytest.raises(OfflineModeIsEnabled):
                HfApi(endpoint=hub.url, token=hub.token).whoami()
        assert hub.requests == [("GET", "/api/whoami-v2", 200)]


def test_transformers_and_datasets_in_another_process(hub):
    created(hub, files=FILES).private = True
    table = io.BytesIO()
    pq.write_table(pa.table({"text": ["good", "bad"], "label": [1.5, -2.0]}), table)
    files = {"data/train.parquet": table.getvalue(), "README.md": b"---\nlicense: mit\n---\n"}
    created(hub, "org/rows", "dataset", files).private = True
    program = (
        "import datasets, transformers\n"
        "print(transformers.AutoConfig.from_pretrained('org/name').hidden_size)\n"
        "print(datasets.load_dataset('org/rows', split='train')['label'][:])\n"
        "transformers.BertConfig(hidden_size=48).push_to_hub('org/pushed')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=hub.environment(), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:2] == ["24", "[1.5, -2.0]"]
    assert json.loads(hub.repos["model", "org/pushed"].files()["config.json"])["hidden_size"] == 48
