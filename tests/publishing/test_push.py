"""A folder becomes one commit or none, whatever happens to the connection, and whoever else writes meanwhile."""

import pytest
from huggingface_hub import HfApi

from publishing.push import push

# The client itself hands over open files in a way that its HTTP library does not like.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

WEIGHTS = bytes(range(256)) * 400
FILES = {
    "README.md": b"---\nlicense: mit\ntags: [sentiment]\n---\n# Card\n",
    "config.json": b'{"model_type": "self_mm"}',
    "model.safetensors": WEIGHTS,
    "plots/loss.png": b"\x89PNG\r\n\x1a\n" + bytes(300),
}
# Small and large files, in the order in which they are asked for.
STEPS = {
    "create": ("POST", "/api/repos/create"),
    "information": ("GET", "/api/models/org/name"),
    "list": ("GET", "/tree/"),
    "preupload": ("POST", "/preupload/"),
    "batch": ("POST", "/objects/batch"),
    "upload": ("PUT", "/objects/"),
    "verify": ("POST", "/verify"),
    "commit": ("POST", "/commit/"),
}


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    """The client waits between its tries."""
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)


def sent(folder, repo_id="org/name", private=False, stale=("*.py", "model*.safetensors")):
    return push(folder, repo_id, "model", private, "Publish", stale)


def contents(repository):
    """The files of a repository but for the one that the Hub itself writes."""
    return {name: content for name, content in repository.files().items() if name != ".gitattributes"}


def asked(hub, method, part):
    return [exchange.status for exchange in hub.requests if exchange.method == method and part in exchange.path]


def titles(repository):
    return [commit.title for commit in repository.commits]


def test_a_folder_is_one_commit_with_an_address(hub, folder):
    address = sent(folder)
    repository = hub.repos["model", "org/name"]
    assert titles(repository) == ["initial commit", "Publish"]
    assert address == f"{hub.url}/org/name/commit/{repository.head}"
    assert contents(repository) == FILES
    assert not repository.private


@pytest.mark.parametrize("kind", ["dataset", "space"])
def test_datasets_and_spaces_go_where_they_belong(hub, folder, kind):
    (folder / "README.md").write_text("---\ntitle: Name\nsdk: static\n---\n")
    address = push(folder, "org/name", kind, False, "Publish")
    repository = hub.repos[kind, "org/name"]
    assert list(hub.repos) == [(kind, "org/name")] and titles(repository) == ["initial commit", "Publish"]
    assert address == f"{hub.url}/{kind}s/org/name/commit/{repository.head}"
    assert repository.sdk == ("static" if kind == "space" else None)
    assert push(folder, "org/name", kind, False, "Publish") is None


def test_to_push_again_changes_nothing(hub, folder):
    sent(folder)
    head = hub.repos["model", "org/name"].head
    hub.requests.clear()
    assert sent(folder) is None
    assert hub.repos["model", "org/name"].head == head
    assert asked(hub, "PUT", "") == [] and asked(hub, "POST", "/commit/") == []


def test_only_what_changed_is_sent_and_a_large_file_never_twice(hub, folder):
    sent(folder)
    (folder / "config.json").write_bytes(b"{}")
    (folder / "weights").mkdir()
    (folder / "model.safetensors").rename(folder / "weights" / "model.safetensors")
    hub.requests.clear()
    sent(folder)
    assert asked(hub, "PUT", "") == []
    assert contents(hub.repos["model", "org/name"]).keys() == {
        "README.md",
        "config.json",
        "plots/loss.png",
        "weights/model.safetensors",
    }
    assert hub.repos["model", "org/name"].files()["weights/model.safetensors"] == WEIGHTS


def test_hidden_files_are_not_sent(hub, folder):
    for name in (".env", ".cache/huggingface/token", "plots/.thumbnail.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("secret")
    sent(folder)
    assert contents(hub.repos["model", "org/name"]) == FILES


def test_what_an_earlier_upload_left_goes_in_the_same_commit(hub, folder):
    HfApi().create_repo("org/name")
    repository = hub.repos["model", "org/name"]
    kept = {".hidden.py": b"", "paper.pdf": b"theirs", "tools/theirs.py": b"theirs"}
    repository.commit({"old.py": b"old", "model-00001-of-00002.safetensors": WEIGHTS, **kept}, "Earlier")
    sent(folder)
    assert titles(repository) == ["initial commit", "Earlier", "Publish"]
    assert contents(repository) == {**FILES, **kept}
    assert sent(folder) is None


def test_without_patterns_everything_that_was_there_stays(hub, folder):
    HfApi().create_repo("org/name")
    hub.repos["model", "org/name"].commit({"old.py": b"old"})
    sent(folder, stale=())
    assert contents(hub.repos["model", "org/name"]) == {**FILES, "old.py": b"old"}


@pytest.mark.parametrize("status", [503, "drop"])
@pytest.mark.parametrize("step", STEPS)
def test_a_broken_connection_leaves_what_was_there_or_all_of_the_new(hub, folder, step, status):
    """Every step fails for long; then again with the connection back."""
    before = {"README.md": b"# Before\n", "model.safetensors": b"before"}
    HfApi().create_repo("org/name")
    repository = hub.repos["model", "org/name"]
    repository.commit(before, "Before")
    hub.fail(*STEPS[step], times=50, status=status)
    with pytest.raises(ConnectionError, match=r"(?s)was not uploaded to org/name .*run this again"):
        sent(folder)
    assert titles(repository) == ["initial commit", "Before"] and contents(repository) == before
    hub._faults.clear()
    assert sent(folder) is not None
    assert titles(repository) == ["initial commit", "Before", "Publish"] and contents(repository) == FILES


@pytest.mark.parametrize("status", [503, "drop"])
def test_a_connection_that_comes_back_is_waited_for(hub, folder, status):
    for step in ("preupload", "batch", "upload", "verify"):
        hub.fail(*STEPS[step], times=2, status=status)
    assert sent(folder) is not None
    assert contents(hub.repos["model", "org/name"]) == FILES


@pytest.mark.parametrize("status", [503, "drop"])
def test_a_commit_whose_answer_is_lost_is_not_made_twice(hub, folder, status):
    hub.fail(*STEPS["commit"], status=status, when="after")
    with pytest.raises(ConnectionError, match="run this again"):
        sent(folder)
    repository = hub.repos["model", "org/name"]
    assert titles(repository) == ["initial commit", "Publish"] and contents(repository) == FILES
    assert sent(folder) is None
    assert titles(repository) == ["initial commit", "Publish"]


def test_a_failed_first_upload_leaves_an_empty_repository_to_go_on_with(hub, folder):
    hub.fail(*STEPS["commit"], status="drop")
    with pytest.raises(ConnectionError):
        sent(folder)
    assert contents(hub.repos["model", "org/name"]) == {}
    sent(folder)
    assert contents(hub.repos["model", "org/name"]) == FILES


@pytest.mark.parametrize("step", ["list", "preupload", "upload", "commit"])
def test_what_somebody_else_commits_meanwhile_is_kept(hub, folder, step):
    HfApi().create_repo("org/name")
    repository = hub.repos["model", "org/name"]
    hub.before(*STEPS[step], lambda: repository.commit({"README.md": b"# Theirs\n", "theirs.txt": b"x"}, "Theirs"))
    with pytest.raises(ConnectionError, match="somebody else changed it meanwhile"):
        sent(folder)
    assert contents(repository) == {"README.md": b"# Theirs\n", "theirs.txt": b"x"}
    sent(folder)
    assert titles(repository) == ["initial commit", "Theirs", "Publish"]
    assert contents(repository) == {**FILES, "theirs.txt": b"x"}


def test_private_and_public(hub, folder):
    sent(folder, private=True)
    repository = hub.repos["model", "org/name"]
    assert repository.private
    assert sent(folder, private=False) is None
    assert repository.private, "what is private stays private"
    repository.private = False
    head = repository.head
    (folder / "config.json").write_bytes(b"{}")
    with pytest.raises(ValueError, match=r"org/name is public, but private was asked for"):
        sent(folder, private=True)
    assert repository.head == head and not repository.private


def test_who_may_not_write_is_told(hub, folder, monkeypatch):
    with pytest.raises(ConnectionError, match=r"(?s)not uploaded to others/name .*the name and the token"):
        sent(folder, "others/name")
    for token in ("hf_wrong", hub.read_token):
        monkeypatch.setenv("HF_TOKEN", token)
        with pytest.raises(ConnectionError, match=r"(?s)not uploaded to org/name .*hf auth login"):
            sent(folder)
    assert not hub.repos


def test_a_hub_that_is_not_there(hub, folder, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(ConnectionError, match="check the connection"):
        sent(folder)


@pytest.mark.parametrize(
    "card, message",
    [
        ("---\nlanguage: Klingon!\n---\n# Card\n", "language"),
        ("---\nlicense: [\n---\n", "README.md"),
        ("---\ntags: sentiment\n---\n", "tags"),
    ],
)
def test_a_card_that_the_hub_does_not_take_is_refused_before_anything_is_made(hub, folder, card, message):
    (folder / "README.md").write_text(card)
    with pytest.raises(ValueError, match=message):
        sent(folder)
    assert not hub.repos


def test_a_folder_without_a_card_is_refused_before_anything_is_made(hub, folder):
    (folder / "README.md").unlink()
    with pytest.raises(ValueError, match="README.md"):
        sent(folder)
    assert not hub.repos
