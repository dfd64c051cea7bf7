"""A folder as one commit on the Hub: all of it, or nothing."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

import yaml
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.repocard import RepoCard

Kind = Literal["model", "dataset", "space"]


def push(
    folder: str | Path,
    repo_id: str,
    kind: Kind,
    private: bool,
    message: str,
    stale: Sequence[str] = (),
) -> str | None:
    """
    Uploads a folder, hidden files aside, in one commit on top of the newest one. What is there already is not sent
    again, and where everything is, there is no commit.

    Args:
        folder: What is uploaded; its README.md is the card.
        repo_id: Where to: `organisation/name`. The repository is made unless it exists.
        kind: "model", "dataset" or "space".
        private: That nobody else may see it. A repository that exists keeps its visibility.
        message: Of the commit.
        stale: Patterns of files that go in the same commit unless `folder` has them: those of an earlier upload. One
            without a slash is for files that lie in no folder.

    Returns:
        The address of the commit; None where nothing had changed.

    Raises:
        ValueError: a card that the Hub does not take; a public repository where `private` was asked for.
        ConnectionError: the Hub was not reached, or refused. There is no commit then, or, where only its answer was
            lost, a whole one: to push again is right in either case.
    """
    try:
        return _push(Path(folder), repo_id, kind, private, message, list(stale))
    except ValueError as error:
        if isinstance(error, HfHubHTTPError):  # some of which are, too
            raise _not_uploaded(folder, repo_id, error) from error
        raise
    except Exception as error:  # the Hub's own errors, and those of the library that it speaks through
        raise _not_uploaded(folder, repo_id, error) from error


def _push(folder: Path, repo_id: str, kind: Kind, private: bool, message: str, stale: list[str]) -> str | None:
    card = _checked_card(folder / "README.md", kind)
    api = HfApi()
    sdk = card.data.to_dict().get("sdk") if kind == "space" else None
    repo = api.create_repo(repo_id, repo_type=kind, private=private, exist_ok=True, space_sdk=sdk)
    info = api.repo_info(repo.repo_id, repo_type=kind)
    if private and info.private is False:
        raise ValueError(
            f"{repo.repo_id} is public, but private was asked for; make it private in its settings, or let it be "
            "public (--public)."
        )
    files = {file.relative_to(folder).as_posix(): file for file in sorted(folder.rglob("*")) if file.is_file()}
    files = {name: file for name, file in files.items() if not any(part.startswith(".") for part in Path(name).parts)}
    there = set(api.list_repo_files(repo.repo_id, repo_type=kind, revision=info.sha))
    gone = [name for name in there - set(files) if any(_matches(name, pattern) for pattern in stale)]
    # Not `upload_folder`, which makes several commits of a large folder.
    commit = api.create_commit(
        repo.repo_id,
        repo_type=kind,
        operations=[
            *(CommitOperationDelete(name) for name in sorted(gone) if not name.startswith(".")),
            *(CommitOperationAdd(name, file) for name, file in files.items()),
        ],
        commit_message=message,
        parent_commit=info.sha,  # whoever else has pushed meanwhile keeps what they did
    )
    return None if commit.oid == info.sha else commit.commit_url


def _matches(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern) and ("/" in pattern or "/" not in name)


def _checked_card(file: Path, kind: Kind) -> RepoCard:
    try:
        card = RepoCard.load(file)  # as it is: ModelCard and its like mend what the Hub would refuse
    except yaml.YAMLError as error:
        raise ValueError(f"The header of {file} is not YAML: {error}") from None
    card.validate(repo_type=kind)
    return card


def _not_uploaded(folder: str | Path, repo_id: str, error: Exception) -> ConnectionError:
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (409, 412):
        return ConnectionError(
            f"{folder} was not uploaded to {repo_id}: somebody else changed it meanwhile ({error}). Look at what they "
            "did, and run this again."
        )
    return ConnectionError(
        f"{folder} was not uploaded to {repo_id} ({type(error).__name__}: {error}); check the connection, the name and "
        "the token (`hf auth login`), and run this again."
    )
