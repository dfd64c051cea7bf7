"""A small Hugging Face Hub on this machine: a real HTTP server that keeps what it is sent.

Tests upload to it and download from it through the real clients (`huggingface_hub`, `transformers`, `datasets`), see
what they asked for, and break their connections:

    with LocalHub() as hub:
        with hub.online():                                   # for calls in this process
            HfApi().create_repo("org/name")
        subprocess.run(command, env=hub.environment())       # for another one
        hub.repos["model", "org/name"].files()               # {".gitattributes": b"..."}
        hub.requests                                         # [Exchange("POST", "/api/repos/create", 200), ...]
        hub.fail("POST", "/commit/", times=2, status=503)    # the next two commits are refused
        hub.before("POST", "/commit/", function)             # another client is faster

Files are stored over plain HTTP with git's large file storage; the Xet protocol is not spoken.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal, NamedTuple
from unittest import mock

from huggingface_hub import close_session, constants, hf_api

from tests.hub.api import HubApi
from tests.hub.messages import Answer, Request, failure

# Settings of the caller's own environment that would send a client elsewhere, or keep it offline.
CLIENT_SETTINGS = ("HF_", "HUGGINGFACE", "HUGGING_FACE_", "TRANSFORMERS_", "DATASETS_")


class Exchange(NamedTuple):
    """A request that was answered; the status is "drop" where the connection was cut."""

    method: str
    path: str
    status: int | str


@dataclass
class Fault:
    """What becomes of the next requests that match; see `LocalHub.fail`."""

    method: str
    pattern: str
    times: int
    status: int | Literal["drop"]
    when: Literal["before", "middle", "after"]

    def matches(self, method: str, path: str) -> bool:
        return self.times > 0 and self.method == method and re.search(self.pattern, path) is not None


class LocalHub(HubApi):
    """The server. `url`, `token` (may write), `read_token` (may not), `repos` and `requests` are for tests to read.

    The token belongs to `user`, who may write in their own namespace and in those of `organizations`. Large files of
    more than `multipart_size` bytes are asked for in parts of that size.
    """

    def __init__(
        self, user: str = "tester", organizations: tuple[str, ...] = ("org",), multipart_size: int | None = None
    ):
        super().__init__(user, organizations, multipart_size)
        self.requests: list[Exchange] = []
        self._faults: list[Fault] = []
        self._hooks: list[tuple[str, str, Callable[[], object]]] = []
        self._lock = threading.RLock()

    def __enter__(self) -> LocalHub:
        self._running = contextlib.ExitStack()
        self.home = Path(self._running.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        self.url = self._serve()
        self.storage_url = self._serve()  # of another origin, as the storage of the Hub is: clients keep their token
        return self

    def __exit__(self, *error: object) -> None:
        self._running.close()

    def _serve(self) -> str:
        server = _Server(("127.0.0.1", 0), _Handler)
        server.hub = self
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        self._running.callback(server.server_close)
        self._running.callback(server.shutdown)
        return f"http://127.0.0.1:{server.server_port}"

    def fail(
        self,
        method: str,
        pattern: str,
        times: int = 1,
        status: int | Literal["drop"] = 503,
        when: Literal["before", "middle", "after"] = "before",
    ) -> None:
        """Let the next requests fail whose path (with its query) contains the regular expression `pattern`.

        `status` is the status of the answer, or "drop" to cut the connection. `when` is "before" anything is done (a
        cut comes after half of the request's body), "after" it is carried out (its answer is lost), or "middle" (only
        with "drop": half of the body of the answer is sent).
        """
        if when == "middle" and status != "drop":
            raise ValueError(f'when="middle" cuts an answer and needs status="drop", but status is {status!r}')
        with self._lock:
            self._faults.append(Fault(method, pattern, times, status, when))

    def before(self, method: str, pattern: str, function: Callable[[], object]) -> None:
        """Call a function once, just before the next request that matches is carried out."""
        with self._lock:
            self._hooks.append((method, pattern, function))

    def environment(self, home: Path | None = None) -> dict[str, str]:
        """Environment variables of a process for which this is the Hub; `home` holds its caches and its code."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(CLIENT_SETTINGS)}
        return {
            **kept,
            "HF_ENDPOINT": self.url,
            "HF_TOKEN": self.token,
            "HF_HOME": str(home or self.home),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_DISABLE_UPDATE_CHECK": "1",
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }

    @contextlib.contextmanager
    def online(self) -> Iterator[None]:
        """Make this the Hub of `huggingface_hub` in this process, whatever was set when it was imported.

        Processes that are started meanwhile have it as their Hub, too, and all is as before afterwards. Calls of
        `transformers` and `datasets`, which copy settings when they are imported, belong in such a process.
        """
        settings: dict[str, Any] = {
            "HF_HUB_OFFLINE": False,
            "HF_HUB_DISABLE_XET": True,
            "HF_HUB_DISABLE_TELEMETRY": True,
            "ENDPOINT": self.url,
            "HUGGINGFACE_CO_URL_TEMPLATE": self.url + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HUB_CACHE": str(self.home / "hub"),
            "HF_TOKEN_PATH": str(self.home / "token"),
            "AGENT_HARNESSES_PATH": str(self.home / ".agent_harnesses.json"),
        }
        with contextlib.ExitStack() as patches:
            patches.enter_context(mock.patch.dict(os.environ, self.environment(), clear=True))
            patches.enter_context(mock.patch.multiple(constants, **settings))
            patches.enter_context(mock.patch.object(hf_api.api, "endpoint", self.url))
            close_session()  # the next one reads the proxy settings of now
            patches.callback(close_session)
            yield

    def take_fault(self, method: str, path: str) -> Fault | None:
        """The fault that a request meets, if any; it counts as met."""
        with self._lock:
            fault = next((fault for fault in self._faults if fault.matches(method, path)), None)
            if fault:
                fault.times -= 1
            return fault

    def run_hooks(self, method: str, path: str) -> None:
        """Call what was to be called before a request. A hook is gone first, for it may make such a request itself."""
        with self._lock:
            met = [hook for hook in self._hooks if hook[0] == method and re.search(hook[1], path)]
            self._hooks = [hook for hook in self._hooks if hook not in met]
        for _, _, function in met:
            function()

    def carry_out(self, request: Request) -> Answer:
        """The answer to a request; one request is carried out at a time."""
        with self._lock:
            return self.answer(request)


class _Server(ThreadingHTTPServer):
    hub: LocalHub
    request_queue_size = 64
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):  # a client that has gone away is no error of ours
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    """Reads a request, meets its fault if it has one, and sends the answer."""

    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def _exchange(self) -> None:
        hub, fault = self.server.hub, self.server.hub.take_fault(self.command, self.path)
        moment = fault.when if fault else None
        if fault and fault.status == "drop" and moment == "before":
            self.rfile.read(int(self.headers.get("Content-Length") or 0) // 2)
            return self._cut()
        request = Request(self.command, self.path, self.headers, self._body())
        hub.run_hooks(self.command, self.path)
        answer = None if moment == "before" else hub.carry_out(request)
        if fault and fault.status == "drop" and moment == "after":
            return self._cut()
        if fault and fault.status != "drop":
            answer = failure(fault.status, "The local Hub was told to fail")
        assert answer is not None
        self._send(answer, cut=moment == "middle")

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _exchange  # noqa: N815 (the names that http.server asks for)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        chunks = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _send(self, answer: Answer, cut: bool) -> None:
        # Noted before it is sent, so that whoever has the answer finds the request in the list.
        self.server.hub.requests.append(Exchange(self.command, self.path, "drop" if cut else answer.status))
        self.send_response(answer.status)
        for name, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
            self.send_header(name, value)
        self.send_header("X-Request-Id", self.headers.get("X-Amzn-Trace-Id", ""))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body[: len(answer.body) // 2] if cut else answer.body)
        if cut:
            self._close()

    def _cut(self) -> None:
        self.server.hub.requests.append(Exchange(self.command, self.path, "drop"))
        self._close()

    def _close(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: tests read `LocalHub.requests`."""
