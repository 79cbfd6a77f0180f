"""Stores of learning records: a real one for xAPI, and one for Caliper that keeps what it gets."""

from __future__ import annotations

import json
import sys
import threading
import urllib.request
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import bcrypt

from tests.servers import Server, exchange

USERNAME = "the platform"
PASSWORD = "a password"


class Ralph(Server):
    """The learning record store of France Université Numérique, with a file for its database."""

    @property
    def url(self) -> str:
        """Where statements are sent to."""
        return f"http://127.0.0.1:{self.port}/xAPI/"

    def prepare(self) -> None:
        """Admit the platform."""
        hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
        agent = {"mbox": "mailto:platform@example.org"}
        account = {"username": USERNAME, "hash": hashed, "scopes": ["all"], "agent": agent}
        (self.directory / "auth.json").write_text(json.dumps([account]))
        self.forget()

    def environment(self) -> Mapping[str, str]:
        """Keep all that it has in its directory."""
        return {
            "RALPH_APP_DIR": str(self.directory),
            "RALPH_AUTH_FILE": str(self.directory / "auth.json"),
            "RALPH_BACKENDS__LRS__FS__DEFAULT_DIRECTORY_PATH": str(self.directory),
            "RALPH_BACKENDS__LRS__FS__DEFAULT_LRS_FILE": self._database.name,
            "RALPH_RUNSERVER_BACKEND": "fs",
        }

    def command(self) -> Sequence[str | Path]:
        """Serve from one process."""
        return (
            *(sys.executable, "-m", "uvicorn", "tests.downstream.ralph_app:app"),
            *("--app-dir", Path(__file__).parents[2]),
            *("--host", "127.0.0.1", "--port", str(self.port)),
        )

    def is_ready(self) -> bool:
        """Tell whether the server answers."""
        return exchange(self.port, b"GET / HTTP/1.0\r\n\r\n").startswith(b"HTTP/")

    def statements(self) -> list[dict[str, Any]]:
        """Return the statements that are stored, as the store tells them; those with `stored`."""
        token = b64encode(f"{USERNAME}:{PASSWORD}".encode()).decode()
        headers = {"Authorization": f"Basic {token}", "X-Experience-API-Version": "1.0.3"}
        request = urllib.request.Request(f"{self.url}statements", headers=headers)
        with urllib.request.urlopen(request, timeout=10) as answer:
            statements: list[dict[str, Any]] = json.load(answer)["statements"]
        return statements

    def forget(self) -> None:
        """Lose all statements."""
        self._database.write_text("")

    @property
    def _database(self) -> Path:
        return self.directory / "statements.jsonl"


class CaliperStore(NamedTuple):
    """Where Caliper's envelopes are sent to, and those that have come."""

    url: str
    envelopes: list[dict[str, Any]]


@contextmanager
def caliper_store() -> Iterator[CaliperStore]:
    """Run a store for Caliper within this process."""
    envelopes: list[dict[str, Any]] = []

    class Keep(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            envelopes.append(json.loads(self.rfile.read(length)))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            """Log nothing."""

    with HTTPServer(("127.0.0.1", 0), Keep) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield CaliperStore(f"http://127.0.0.1:{server.server_port}/", envelopes)
        finally:
            server.shutdown()
            thread.join()
