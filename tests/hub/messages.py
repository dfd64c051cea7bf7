"""Requests to the local Hub, its answers, and which method answers which request."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from email.message import Message
from urllib.parse import parse_qs, urlsplit

ROUTES: list[tuple[str, re.Pattern, Callable]] = []


@dataclass
class Request:
    """A request of a client; `target` is the path with its query, as sent."""

    method: str
    target: str
    headers: Message
    body: bytes

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, list[str]]:
        return parse_qs(urlsplit(self.target).query)

    def flag(self, name: str) -> bool:
        """Whether a parameter of the query is true."""
        return self.query.get(name, ["false"])[0].lower() in ("true", "1")

    @property
    def data(self) -> dict:
        return json.loads(self.body or b"{}")


@dataclass
class Answer:
    """What is sent back."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


def as_json(value: object, status: int = 200, **headers: str) -> Answer:
    return Answer(status, json.dumps(value).encode(), {"Content-Type": "application/json", **headers})


def failure(status: int, message: str, code: str = "", commit: str = "") -> Answer:
    """An answer that clients turn into the exception of `code`."""
    headers = {"X-Error-Message": message, "X-Error-Code": code, "X-Repo-Commit": commit}
    return as_json({"error": message}, status, **{name: value for name, value in headers.items() if value})


def route(method: str, pattern: str) -> Callable[[Callable], Callable]:
    """Let a method of HubApi answer the requests whose whole path matches; named groups become its arguments."""

    def register(function: Callable) -> Callable:
        ROUTES.append((method, re.compile(pattern), function))
        return function

    return register


def content_answer(request: Request, content: bytes, headers: dict[str, str]) -> Answer:
    """A file, or the range of bytes of it that was asked for."""
    headers = {"Content-Type": "application/octet-stream", "Accept-Ranges": "bytes", **headers}
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", request.headers.get("Range", ""))
    if not match or not any(match.groups()):
        return Answer(200, content, headers)
    first, last = match.groups()
    start = int(first) if first else max(len(content) - int(last), 0)
    stop = min(int(last) + 1, len(content)) if first and last else len(content)
    if start >= stop:
        return Answer(416, b"", {"Content-Range": f"bytes */{len(content)}"})
    return Answer(206, content[start:stop], {**headers, "Content-Range": f"bytes {start}-{stop - 1}/{len(content)}"})
