"""HTTP as a Hub speaks it: answers and errors, who may do what, and faults where a test asks for them."""

import json
import re
import signal
import subprocess
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from .repositories import Repo

WRITER, READER = "hf_writer", "hf_reader"  # tokens; the reader may not write


@dataclass
class Fault:
    """What is to go wrong with a request.

    Attributes:
        path: a regular expression.
        times: how often.
        spared: how many requests are answered as usual before that.
        status, code: it is answered with this error.
        answer: it is answered with this, and nothing is done.
        cut: the connection is closed after so many bytes are read.
        lost: what it asks for is done, and the connection is closed without an answer.
        interrupts: the client's process, which gets a Ctrl-C while it waits for an answer.
    """

    method: str
    path: str
    times: int = 1
    spared: int = 0
    status: int | None = None
    code: str = ""
    answer: Any = None
    cut: int | None = None
    lost: bool = False
    interrupts: subprocess.Popen | None = None


class Refused(Exception):
    def __init__(self, status: int, message: str, code: str = "", **more: str):
        super().__init__(message)
        self.status, self.code, self.more = status, code, more


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # the second half of an answer would wait for the acknowledgement of the first
    server: Any  # the `HubServer`
    fault: Fault | None = None

    def log_message(self, *arguments: Any) -> None:
        pass

    def _handle(self) -> None:
        parts = urlsplit(self.path)
        self.where, self.query = unquote(parts.path), parse_qs(parts.query)
        length = int(self.headers.get("Content-Length") or 0)
        fault = self.fault = self._next_fault()
        if fault and fault.interrupts:
            fault.interrupts.send_signal(signal.SIGINT)
            time.sleep(0.5)  # until it has arrived, before the connection does
            self._hang_up()
            return
        if fault and fault.cut is not None:
            self.rfile.read(min(length, fault.cut))
            self._hang_up()
            return
        self.body = self.rfile.read(length)
        with self.server.lock:
            self.server.requests.append((self.command, self.where, length))
            try:
                if fault and fault.answer is not None:
                    self._answer(200, fault.answer)
                    return
                if fault and not fault.lost:
                    raise Refused(fault.status or 500, "as the test asked for", fault.code)
                self._route()
            except Refused as refused:
                headers = {"X-Error-Code": refused.code, "X-Error-Message": str(refused)}
                self._answer(
                    refused.status, {"error": str(refused), **refused.more}, {k: v for k, v in headers.items() if v}
                )

    def _next_fault(self) -> Fault | None:
        """What is to go wrong with this request, if anything."""
        with self.server.lock:
            for fault in self.server.faults:
                if fault.times and fault.method == self.command and re.search(fault.path, self.where):
                    if fault.spared:
                        fault.spared -= 1
                        return None
                    fault.times -= 1
                    return fault
        return None

    def _hang_up(self) -> None:
        self.close_connection = True
        self.connection.close()

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _handle

    def _answer(self, status: int, content: Any = None, headers: dict[str, str] | None = None) -> None:
        if self.fault and self.fault.lost:
            self._hang_up()
            return
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        kind = "application/octet-stream" if isinstance(content, bytes) else "application/json"
        for name, value in {"Content-Type": kind, "Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    # Who asks, and for what

    @property
    def token(self) -> str:
        return self.headers.get("Authorization", "").removeprefix("Bearer ")

    def _check_token(self) -> None:
        if self.token and self.token not in (WRITER, READER):
            raise Refused(401, "Invalid username or password.")

    def _writable(self, repo_id: str) -> None:
        self._check_token()
        if not self.token:
            raise Refused(401, "Invalid username or password.")
        if self.token != WRITER or not repo_id.startswith("org/"):
            raise Refused(403, f"Forbidden: you must have write access to {repo_id}")

    def _repo(self, repo_id: str) -> Repo:
        self._check_token()
        repo = self.server.repos.get(repo_id)
        if repo is None or (repo.private and not self.token):
            raise Refused(404 if self.token else 401, "Repository not found", "RepoNotFound")
        return repo

    def _sha(self, repo: Repo, revision: str) -> str:
        sha = repo.resolve(revision)
        if sha is None:
            raise Refused(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return sha

    def _route(self) -> None:
        """Answers the request.

        Raises:
            Refused: it cannot be done; the error is the answer.
        """
        raise NotImplementedError
