"""A repository of the local Hub: whole snapshots of files, one after another, with branches and tags."""

from __future__ import annotations

import base64
import codecs
import fnmatch
import hashlib
import json
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import cached_property
from pathlib import PurePosixPath

from tests.hub.metadata import read_metadata

LARGE = 10 * 2**20  # bytes; the Hub keeps no larger file in git itself
LFS_PATTERNS = {
    "model": "*.7z *.arrow *.bin *.bz2 *.ckpt *.ftz *.gz *.h5 *.joblib *.lfs.* *.mlmodel *.model *.msgpack *.npy *.npz "
    "*.onnx *.ot *.parquet *.pb *.pickle *.pkl *.pt *.pth *.rar *.safetensors *.tar.* *.tar *.tflite *.tgz *.wasm "
    "*.xz *.zip *.zst *tfevents*",
    "dataset": "*.pcm *.sam *.raw *.aac *.flac *.mp3 *.ogg *.wav *.bmp *.gif *.png *.tiff *.jpg *.jpeg *.webp *.mp4 "
    "*.webm",
}


class HubError(Exception):
    """A request that the Hub refuses: HTTP status, message, and the X-Error-Code by which clients know it."""

    def __init__(self, status: int, message: str, code: str = "", commit: str = ""):
        super().__init__(message)
        self.status, self.message, self.code, self.commit = status, message, code, commit


def git_hash(content: bytes, kind: str = "blob") -> str:
    """The id that git gives to an object: SHA-1 of its kind, its size, a zero byte and the content."""
    return hashlib.sha1(f"{kind} {len(content)}\0".encode() + content).hexdigest()


def is_text(sample: bytes) -> bool:
    """Whether the first bytes of a file are UTF-8 without a zero byte; the last character may be cut."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(sample)
    except UnicodeDecodeError:
        return False
    return b"\0" not in sample


@dataclass(frozen=True)
class Blob:
    """The content of a file, and whether it is kept in large file storage."""

    content: bytes
    lfs: bool

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @cached_property
    def pointer(self) -> bytes:
        """What git keeps in the place of a large file."""
        size = len(self.content)
        return f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {size}\n".encode()

    @cached_property
    def git_oid(self) -> str:
        return git_hash(self.pointer if self.lfs else self.content)

    @property
    def oid(self) -> str:
        """By which clients know that a file has not changed: SHA-256 of a large file, git's SHA-1 of another."""
        return self.sha256 if self.lfs else self.git_oid


@dataclass(frozen=True)
class Commit:
    """A whole snapshot: every file of the repository after the commit, by path."""

    id: str
    parent: str | None
    title: str
    message: str
    date: str
    files: Mapping[str, Blob]


@dataclass
class Repository:
    """The history of one repository. A commit happens as a whole or, with a HubError, not at all."""

    type: str
    name: str
    objects: dict[str, bytes]  # large files by SHA-256, of all repositories of the Hub
    private: bool = False
    sdk: str | None = None
    settings: dict = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    _commits: dict[str, Commit] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        patterns = LFS_PATTERNS["model"] + (" " + LFS_PATTERNS["dataset"] if self.type == "dataset" else "")
        files = {".gitattributes": "".join(lfs_rule(pattern) for pattern in patterns.split())}
        if self.type == "space":
            title = self.name.rpartition("/")[2]
            files["README.md"] = f"---\ntitle: {title}\nsdk: {self.sdk}\n---\n"
        self._append("main", None, {path: Blob(text.encode(), False) for path, text in files.items()}, "initial commit")

    @property
    def head(self) -> str:
        """The id of the last commit of the branch main."""
        return self.branches["main"]

    @property
    def commits(self) -> list[Commit]:
        """The commits of the branch main, the first one first."""
        return self.history("main")[::-1]

    def files(self, revision: str = "main") -> dict[str, bytes]:
        """The contents of all files by path, at a branch, a tag or a commit."""
        return {path: blob.content for path, blob in self.commit_at(revision).files.items()}

    def history(self, revision: str) -> list[Commit]:
        """The commits that lead to a revision, the last one first."""
        commits = [self.commit_at(revision)]
        while commits[-1].parent:
            commits.append(self._commits[commits[-1].parent])
        return commits

    def commit_at(self, revision: str) -> Commit:
        """The commit that a branch, a tag, or an id (at least 7 digits of it) names."""
        name = revision.removeprefix("refs/heads/").removeprefix("refs/tags/")
        found = self.branches.get(name) or self.tags.get(name)
        ids = [found] if found else [id for id in self._commits if len(revision) >= 7 and id.startswith(revision)]
        if len(ids) != 1:
            raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return self._commits[ids[0]]

    def last_change(self, path: str, revision: str) -> Commit:
        """The last commit that changed a file, or a file in a folder."""

        def state(commit: Commit) -> dict[str, str]:
            return {name: blob.oid for name, blob in commit.files.items() if f"{name}/".startswith(f"{path}/")}

        commits = self.history(revision)
        unchanged = [state(commit) == state(commits[0]) for commit in commits] + [False]
        return commits[unchanged.index(False) - 1]

    def metadata(self, revision: str) -> dict:
        """The metadata of the README.md."""
        readme = self.commit_at(revision).files.get("README.md")
        return (read_metadata(readme.content.decode()) if readme else None) or {}

    def is_large(self, path: str, size: int, sample: bytes) -> bool:
        """Whether a file belongs in large file storage: by `.gitattributes`, by its size, or because it is no text."""
        return size > LARGE or not is_text(sample) or has_lfs_rule(path, self.commit_at("main").files)

    def commit(self, files: Mapping[str, bytes], title: str = "Commit", branch: str = "main") -> Commit:
        """Commit files directly, as another client of the Hub would."""
        with self._lock:
            blobs = dict(self.commit_at(branch).files)
            for path, content in files.items():
                blobs[path] = Blob(content, self.is_large(path, len(content), content[:512]))
            return self._append(branch, self.branches[branch], blobs, title)

    def apply(self, branch: str, lines: Iterable[dict]) -> Commit:
        """Carry out the lines of a commit request; large files are taken from `objects`."""
        operations = [(line["key"], line["value"]) for line in lines]
        if not operations or operations[0][0] != "header":
            raise HubError(400, "The first line of a commit must be its header")
        with self._lock:
            head, header = self.commit_at(branch), operations[0][1]
            if branch not in self.branches:
                raise HubError(400, f"Invalid reference for a branch: {branch}")
            if not head.id.startswith(header.get("parentCommit") or ""):
                raise HubError(412, "A commit has happened since. Please refresh and try again.")
            files = dict(head.files)
            for key, value in operations[1:]:
                _change(files, key, value, self.objects)
            return self._append(branch, head.id, files, header["summary"], header.get("description", ""))

    def _append(self, branch: str, parent: str | None, files: dict[str, Blob], title: str, message: str = "") -> Commit:
        self.objects.update({blob.sha256: blob.content for blob in files.values() if blob.lfs})
        tree = {path: blob.git_oid for path, blob in files.items()}
        # The count makes two commits of the same files on the same parent two commits, as their dates do in git.
        identity = [self.type, self.name, parent, sorted(tree.items()), title, message, len(self._commits)]
        commit_id = git_hash(json.dumps(identity).encode(), "commit")
        date = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        self._commits[commit_id] = Commit(commit_id, parent, title, message, date, dict(sorted(files.items())))
        self.branches[branch] = commit_id
        return self._commits[commit_id]


def lfs_rule(pattern: str) -> str:
    return f"{pattern} filter=lfs diff=lfs merge=lfs -text\n"


def has_lfs_rule(path: str, files: Mapping[str, Blob]) -> bool:
    """Whether a line of `.gitattributes` names the file as a large one."""
    attributes = files[".gitattributes"].content.decode() if ".gitattributes" in files else ""
    patterns = [line.split()[0] for line in attributes.splitlines() if "filter=lfs" in line]
    return any(
        fnmatch.fnmatchcase(path if "/" in pattern else PurePosixPath(path).name, pattern) for pattern in patterns
    )


def _change(files: dict[str, Blob], key: str, value: dict, objects: Mapping[str, bytes]) -> None:
    path = value["path"]
    if key == "file":
        files[path] = Blob(base64.b64decode(value["content"], validate=True), lfs=False)
    elif key == "lfsFile":
        if value["oid"] not in objects:
            raise HubError(400, f"LFS pointer pointed to a file that does not exist: {path}")
        files[path] = Blob(objects[value["oid"]], lfs=True)
        if not has_lfs_rule(path, files):  # the Hub adds the rule itself
            before = files[".gitattributes"].content if ".gitattributes" in files else b""
            files[".gitattributes"] = Blob(before + lfs_rule(path).encode(), lfs=False)
    elif key in ("deletedFile", "deletedFolder"):
        inside = [name for name in files if name == path or name.startswith(path.rstrip("/") + "/")]
        gone = inside if key == "deletedFolder" else [name for name in inside if name == path]
        if not gone:
            raise HubError(404, f"A file with this name doesn't exist: {path}", "EntryNotFound")
        for name in gone:
            del files[name]
    else:
        raise HubError(400, f"Unknown operation of a commit: {key}")
