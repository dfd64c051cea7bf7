"""What the local Hub answers: the part of the Hub's HTTP interface that its Python clients use."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from pathlib import PurePosixPath
from urllib.parse import parse_qs, unquote

from tests.hub.messages import ROUTES, Answer, Request, as_json, content_answer, failure, route
from tests.hub.metadata import check_metadata
from tests.hub.repository import HubError, Repository, git_hash

API = r"/api/(?P<kind>models|datasets|spaces)/(?P<name>[^/]+/[^/]+)"
PAGE = r"/(?:(?P<kind>datasets|spaces)/)?(?P<name>[^/]+/[^/]+)"
INVALID_TOKEN = "Invalid credentials in Authorization header"  # clients know this one by its words


class HubApi:
    """The repositories and stored objects of a Hub, and the answers to requests about them."""

    url = storage_url = ""

    def __init__(self, user: str, organizations: tuple[str, ...], multipart_size: int | None):
        self.user, self.organizations, self.multipart_size = user, organizations, multipart_size
        self.token, self.read_token = "hf_localhubwrite", "hf_localhubread"
        self.repos: dict[tuple[str, str], Repository] = {}
        self.objects: dict[str, bytes] = {}  # large files by SHA-256
        self._expected: dict[str, int] = {}  # sizes of the objects that were asked for
        self._parts: dict[tuple[str, int], bytes] = {}  # of an upload that is not complete

    def answer(self, request: Request) -> Answer:
        """Carry out a request."""
        method = "GET" if request.method == "HEAD" else request.method
        try:
            for verb, pattern, function in ROUTES:
                if verb == method and (match := pattern.fullmatch(request.path)):
                    groups = {key: unquote(value) if value else "" for key, value in match.groupdict().items()}
                    return function(self, request, **groups)
            raise HubError(404, f"The local Hub has no {request.method} {request.path}")
        except HubError as error:
            return failure(error.status, error.message, error.code, error.commit)

    def _access(self, request: Request) -> str:
        """What the token of a request allows: "write", "read", or nothing without a token."""
        token = request.headers.get("Authorization", "").removeprefix("Bearer ").strip()
        if token not in ("", self.token, self.read_token):
            raise HubError(401, INVALID_TOKEN)
        return {self.token: "write", self.read_token: "read", "": ""}[token]

    def _may_write(self, request: Request, namespace: str) -> None:
        access = self._access(request)
        if not access:
            # The code is what clients assume for a 401 of the real Hub's address.
            raise HubError(401, "Invalid username or password.", "RepoNotFound")
        if access == "read" or namespace not in (self.user, *self.organizations):
            raise HubError(403, f'You don\'t have the rights to write under the namespace "{namespace}"')

    def _repository(self, request: Request, kind: str, name: str, write: bool = False) -> Repository:
        access = self._access(request)
        repository = self.repos.get(((kind or "models").removesuffix("s"), name))
        if repository is None or (repository.private and not access):
            raise HubError(404 if access else 401, "Repository not found", "RepoNotFound")
        if write:
            self._may_write(request, name.partition("/")[0])
        return repository

    @route("GET", "/api/whoami-v2")
    def _whoami(self, request: Request) -> Answer:
        if not (access := self._access(request)):
            raise HubError(401, INVALID_TOKEN)
        organizations = [{"type": "org", "name": name, "roleInOrg": "write"} for name in self.organizations]
        token = {"accessToken": {"displayName": "local", "role": access}, "type": "access_token"}
        return as_json({"type": "user", "name": self.user, "orgs": organizations, "auth": token})

    @route("GET", "/api/agent-harnesses")
    def _agent_harnesses(self, request: Request) -> Answer:
        return as_json({"standardEnvVars": [], "harnesses": {}})

    @route("POST", "/api/validate-yaml")
    def _validate_yaml(self, request: Request) -> Answer:
        errors, warnings = check_metadata(request.data["content"], request.data["repoType"])
        listed = {"errors": [{"message": text} for text in errors], "warnings": [{"message": t} for t in warnings]}
        if errors:
            return as_json({"error": "Invalid metadata in README.md", **listed}, 400)
        return as_json(listed)

    # Repositories

    @route("POST", "/api/repos/create")
    def _create(self, request: Request) -> Answer:
        data, kind, name = self._named(request)
        page = {"url": f"{self.url}/{'' if kind == 'model' else kind + 's/'}{name}"}
        if (kind, name) in self.repos:
            return as_json({"error": "You already created this repo", **page}, 409)
        private = data.get("visibility") == "private" or bool(data.get("private"))
        self.repos[kind, name] = Repository(kind, name, self.objects, private, data.get("sdk"))
        return as_json({**page, "name": name})

    @route("DELETE", "/api/repos/delete")
    def _delete(self, request: Request) -> Answer:
        _, kind, name = self._named(request)
        self._repository(request, kind + "s", name, write=True)
        del self.repos[kind, name]
        return as_json({})

    def _named(self, request: Request) -> tuple[dict, str, str]:
        data = request.data
        namespace = data.get("organization") or self.user
        self._may_write(request, namespace)
        return data, data.get("type") or "model", f"{namespace}/{data['name']}"

    @route("PUT", API + "/settings")
    def _settings(self, request: Request, kind: str, name: str) -> Answer:
        repository, data = self._repository(request, kind, name, write=True), request.data
        if "visibility" in data or "private" in data:
            repository.private = data.get("visibility", "private" if data.get("private") else "public") == "private"
        repository.settings.update(data)
        return as_json(data)

    @route("GET", API + r"(?:/revision/(?P<revision>[^/]+))?")
    def _info(self, request: Request, kind: str, name: str, revision: str) -> Answer:
        repository = self._repository(request, kind, name)
        commit = repository.commit_at(revision or "main")
        metadata = repository.metadata(commit.id)
        files: list[dict] = [{"rfilename": path} for path in commit.files]
        if request.flag("blobs"):
            for entry, blob in zip(files, commit.files.values(), strict=True):
                entry.update(size=len(blob.content), blobId=blob.git_oid)
                if blob.lfs:
                    entry["lfs"] = {"sha256": blob.sha256, "size": len(blob.content), "pointerSize": len(blob.pointer)}
        info = {
            "id": name,
            "author": name.partition("/")[0],
            "sha": commit.id,
            "createdAt": repository.commits[0].date,
            "lastModified": commit.date,
            "private": repository.private,
            "gated": repository.settings.get("gated", False),
            "disabled": False,
            "downloads": 0,
            "likes": 0,
            "tags": metadata.get("tags", []),
            "cardData": metadata,
            "siblings": files,
        }
        if kind == "models":
            info |= {key: metadata[key] for key in ("pipeline_tag", "library_name", "model-index") if key in metadata}
        if kind == "spaces":
            info |= {"sdk": metadata.get("sdk", repository.sdk)}
        return as_json(info)

    # Branches, tags and history

    @route("GET", API + "/refs")
    def _refs(self, request: Request, kind: str, name: str) -> Answer:
        repository = self._repository(request, kind, name)

        def listed(folder: str, targets: dict[str, str]) -> list[dict]:
            return [{"name": n, "ref": f"refs/{folder}/{n}", "targetCommit": id} for n, id in targets.items()]

        branches, tags = listed("heads", repository.branches), listed("tags", repository.tags)
        return as_json({"branches": branches, "tags": tags, "converts": [], "pullRequests": []})

    @route("GET", API + r"/commits/(?P<revision>[^/]+)")
    def _commits(self, request: Request, kind: str, name: str, revision: str) -> Answer:
        history = self._repository(request, kind, name).history(revision)
        authors = [{"user": self.user}]
        fields = [{"id": c.id, "title": c.title, "message": c.message, "date": c.date} for c in history]
        return as_json([{**entry, "authors": authors} for entry in fields])

    @route("POST", API + r"/branch/(?P<branch>[^/]+)")
    def _create_branch(self, request: Request, kind: str, name: str, branch: str) -> Answer:
        repository = self._repository(request, kind, name, write=True)
        start = repository.commit_at(request.data.get("startingPoint") or "main")
        return self._add_reference(repository.branches, branch, start.id)

    @route("POST", API + r"/tag/(?P<revision>[^/]+)")
    def _create_tag(self, request: Request, kind: str, name: str, revision: str) -> Answer:
        repository = self._repository(request, kind, name, write=True)
        return self._add_reference(repository.tags, request.data["tag"], repository.commit_at(revision).id)

    def _add_reference(self, references: dict[str, str], name: str, commit_id: str) -> Answer:
        if name in references:
            raise HubError(409, f"Reference already exists: {name}")
        references[name] = commit_id
        return as_json({})

    @route("DELETE", API + r"/(?P<folder>branch|tag)/(?P<reference>[^/]+)")
    def _delete_reference(self, request: Request, kind: str, name: str, folder: str, reference: str) -> Answer:
        repository = self._repository(request, kind, name, write=True)
        if (folder, reference) == ("branch", "main"):
            raise HubError(403, "Cannot delete the default branch")
        if (repository.branches if folder == "branch" else repository.tags).pop(reference, None) is None:
            raise HubError(404, f"Invalid rev id: {reference}", "RevisionNotFound")
        return as_json({})

    # Lists of files

    @route("GET", API + r"/tree/(?P<revision>[^/]+)(?:/(?P<folder>.+))?")
    def _tree(self, request: Request, kind: str, name: str, revision: str, folder: str) -> Answer:
        repository = self._repository(request, kind, name)
        commit = repository.commit_at(revision)
        prefix = f"{folder.strip('/')}/" if folder else ""
        if prefix and not any(path.startswith(prefix) for path in commit.files):
            raise HubError(404, f"{folder} does not exist on {revision}", "EntryNotFound", commit.id)
        paths = {*commit.files, *(str(parent) for path in commit.files for parent in PurePosixPath(path).parents)}
        inside = [path for path in sorted(paths - {"."}) if path.startswith(prefix)]
        if not request.flag("recursive"):
            inside = [path for path in inside if "/" not in path.removeprefix(prefix)]
        return as_json([self._entry(repository, commit.id, path, request.flag("expand")) for path in inside])

    @route("POST", API + r"/paths-info/(?P<revision>[^/]+)")
    def _paths_info(self, request: Request, kind: str, name: str, revision: str) -> Answer:
        repository = self._repository(request, kind, name)
        commit, form = repository.commit_at(revision), parse_qs(request.body.decode())
        paths = [path.strip("/") for path in form.get("paths", [])]
        known = [path for path in paths if any(f"{file}/".startswith(f"{path}/") for file in commit.files)]
        expand = form.get("expand", [""])[0].lower() == "true"
        return as_json([self._entry(repository, commit.id, path, expand) for path in known])

    def _entry(self, repository: Repository, revision: str, path: str, expand: bool) -> dict:
        files = repository.commit_at(revision).files
        blob = files.get(path)
        if blob is None:
            inside = sorted((name, file.git_oid) for name, file in files.items() if name.startswith(f"{path}/"))
            entry: dict = {"type": "directory", "path": path, "size": 0, "oid": git_hash(repr(inside).encode(), "tree")}
        else:
            entry = {"type": "file", "path": path, "size": len(blob.content), "oid": blob.git_oid}
            if blob.lfs:
                entry["lfs"] = {"oid": blob.sha256, "size": len(blob.content), "pointerSize": len(blob.pointer)}
        if expand:
            commit = repository.last_change(path, revision)
            entry["lastCommit"] = {"id": commit.id, "title": commit.title, "date": commit.date}
        return entry

    # Downloads

    @route("GET", PAGE + r"/resolve/(?P<revision>[^/]+)/(?P<path>.+)")
    def _resolve(self, request: Request, kind: str, name: str, revision: str, path: str) -> Answer:
        commit = self._repository(request, kind, name).commit_at(revision)
        blob = commit.files.get(path)
        if blob is None:
            raise HubError(404, "Entry not found", "EntryNotFound", commit.id)
        headers = {"X-Repo-Commit": commit.id, "ETag": f'"{blob.oid}"'}
        if not blob.lfs:
            return content_answer(request, blob.content, headers)
        headers |= {"X-Linked-Size": str(len(blob.content)), "X-Linked-ETag": f'"{blob.oid}"'}
        location = f"{self.storage_url}/objects/{blob.oid}"
        return Answer(302, f"Found. Redirecting to {location}".encode(), {**headers, "Location": location})

    @route("GET", r"/objects/(?P<oid>\w+)")
    def _get_object(self, request: Request, oid: str) -> Answer:
        self._check_storage(request, oid in self.objects)
        return content_answer(request, self.objects[oid], {"ETag": f'"{oid}"'})

    def _check_storage(self, request: Request, known: bool) -> None:
        """The storage takes signed addresses alone; a token that a client shows it has leaked."""
        if "Authorization" in request.headers:
            raise HubError(400, "Only one auth mechanism allowed")
        if not known:
            raise HubError(404, "The specified key does not exist.")

    # Uploads

    @route("POST", API + r"/preupload/(?P<revision>[^/]+)")
    def _preupload(self, request: Request, kind: str, name: str, revision: str) -> Answer:
        repository = self._repository(request, kind, name, write=True)
        present = repository.commit_at(revision).files
        answers = []
        for file in request.data["files"]:
            path, blob = file["path"], present.get(file["path"])
            large = repository.is_large(path, file["size"], base64.b64decode(file["sample"]))
            answer = {"path": path, "uploadMode": "lfs" if large else "regular", "shouldIgnore": False}
            answers.append({**answer, "oid": blob.oid if blob else None})
        return as_json({"files": answers})

    @route("POST", PAGE + r"\.git/info/lfs/objects/batch")
    def _lfs_batch(self, request: Request, kind: str, name: str) -> Answer:
        self._repository(request, kind, name, write=True)
        verify = f"{self.url}{request.path.removesuffix('/objects/batch')}/verify"
        listed = []
        for wanted in request.data["objects"]:
            entry = {"oid": wanted["oid"], "size": wanted["size"]}
            if wanted["oid"] not in self.objects:
                entry["actions"] = {"upload": self._upload_action(**entry), "verify": {"href": verify}}
            listed.append(entry)
        return as_json({"transfer": "basic", "objects": listed})

    def _upload_action(self, oid: str, size: int) -> dict:
        address = f"{self.storage_url}/objects/{oid}"
        self._expected[oid] = size
        if self.multipart_size is None or size <= self.multipart_size:
            return {"href": address}
        parts = {str(n + 1): f"{address}/{n + 1}" for n in range(math.ceil(size / self.multipart_size))}
        return {"href": f"{self.url}/complete/{oid}", "header": {"chunk_size": str(self.multipart_size), **parts}}

    @route("PUT", r"/objects/(?P<oid>\w+)(?:/(?P<part>\d+))?")
    def _put_object(self, request: Request, oid: str, part: str) -> Answer:
        self._check_storage(request, oid in self._expected)
        if part:
            self._parts[oid, int(part)] = request.body
            return Answer(headers={"ETag": f'"{hashlib.md5(request.body).hexdigest()}"'})
        return self._store(oid, request.body)

    @route("POST", r"/complete/(?P<oid>\w+)")
    def _complete(self, request: Request, oid: str) -> Answer:
        parts = [(oid, part["partNumber"]) for part in request.data["parts"]]
        if any(part not in self._parts for part in parts):
            raise HubError(400, "One or more of the specified parts could not be found.")
        return self._store(oid, b"".join(self._parts.pop(part) for part in parts))

    def _store(self, oid: str, content: bytes) -> Answer:
        if hashlib.sha256(content).hexdigest() != oid or len(content) != self._expected[oid]:
            raise HubError(400, "The provided 'x-amz-content-sha256' header does not match what was computed.")
        self.objects[oid] = content
        return Answer()

    @route("POST", PAGE + r"\.git/info/lfs/verify")
    def _lfs_verify(self, request: Request, kind: str, name: str) -> Answer:
        self._repository(request, kind, name, write=True)
        if len(self.objects.get(request.data["oid"], b"")) != request.data["size"]:
            raise HubError(404, "The object was not uploaded")
        return as_json({})

    @route("POST", API + r"/commit/(?P<revision>[^/]+)")
    def _commit(self, request: Request, kind: str, name: str, revision: str) -> Answer:
        repository = self._repository(request, kind, name, write=True)
        if request.flag("create_pr"):
            raise HubError(400, "The local Hub has no pull requests")
        commit = repository.apply(revision, [json.loads(line) for line in request.body.splitlines() if line])
        page = f"{self.url}/{'' if kind == 'models' else kind + '/'}{name}/commit/{commit.id}"
        return as_json({"success": True, "commitOid": commit.id, "commitUrl": page, "hookOutput": ""})
