"""The site that is measured: its database with the users, and its WSGI application."""

from __future__ import annotations

import io
import itertools
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

import django

from .events import USERS

#: As long as the README tells operators to make it, and of the same characters.
SECRET = "kT4-zQ9v_1bXw7Rr0aYc6Hn2mUj8PfEs5GdLo3iVtCq"

BRIDGE = ("/segmentio/event",)
BARE_PARSE = ("/bare/parse", "/bare-too/parse")
BARE_REFUSE = ("/bare/refuse", "/bare-too/refuse")

Environ = dict[str, Any]


@contextmanager
def benchmark_site(database: str) -> Iterator[None]:
    """Set Django up on a new database of this kind, with the users, and drop it at the end.

    Processes that are started meanwhile inherit the settings, and see the same database.
    """
    with tempfile.TemporaryDirectory(prefix="segmentio-benchmarks-") as directory:
        in_directory = Path(directory, "benchmarks.sqlite3")
        os.environ.update(
            DJANGO_SETTINGS_MODULE="tests.benchmarks.settings",
            DEMO_WEBHOOK_SECRET=SECRET,
            BENCHMARK_DATABASE=database,
            BENCHMARK_DATABASE_NAME=str(in_directory)
            if database == "sqlite"
            else f"segmentio_benchmarks_{os.getpid()}",
        )
        django.setup()
        from django.contrib.auth.models import User  # models need the apps to be set up
        from django.db import connection

        from segmentio_bridge.signals import delivery_answered, events_processed

        # Prometheus' metrics are an option, and are measured by nobody here.
        for signal in (delivery_answered, events_processed):
            signal.receivers.clear()
        name = connection.creation.create_test_db(verbosity=0, autoclobber=True, serialize=False)
        try:
            User.objects.bulk_create(
                User(pk=pk, username=f"learner-{pk}") for pk in range(1, USERS + 1)
            )
            yield
        finally:
            connection.creation.destroy_test_db(name, verbosity=0)


class Site:
    """The site's WSGI application, called as a server calls it, middleware and signals included."""

    def __init__(self) -> None:
        from django.core.wsgi import get_wsgi_application

        self._application: Callable[..., Any] = get_wsgi_application()
        self._status = ""

    def deliver(self, environs: Iterable[Environ], status: str = "200 OK") -> None:
        """Make one request after the other; raise ValueError if one is not answered `status`."""
        statuses = {self._answer(environ) for environ in environs}
        if statuses != {status}:
            raise ValueError(f"{status} expected, not {statuses}")

    def _answer(self, environ: Environ) -> str:
        response = self._application(environ, self._start_response)
        b"".join(response)
        response.close()
        return self._status

    def _start_response(self, status: str, headers: object, exc_info: object = None) -> None:
        self._status = status


def make_environs(
    paths: Sequence[str], bodies: Iterable[bytes], *, secret: str = SECRET
) -> list[Environ]:
    """Return a WSGI environment for each body, to be delivered to the paths in turn."""
    return [
        make_environ(path, io.BytesIO(body), len(body), secret=secret)
        for path, body in zip(itertools.cycle(paths), bodies, strict=False)
    ]


def make_environ(path: str, body: IO[bytes], size: int, *, secret: str = SECRET) -> Environ:
    """Return the WSGI environment of a delivery of `size` bytes; it is good for one request."""
    return {
        "CONTENT_LENGTH": str(size),
        "CONTENT_TYPE": "application/json",
        "HTTP_ACCEPT": "*/*",
        "HTTP_ACCEPT_ENCODING": "gzip",
        "HTTP_HOST": "localhost",
        "HTTP_USER_AGENT": "Segment.io/1.0",
        "HTTP_X_FORWARDED_FOR": "203.0.113.7",
        "HTTP_X_FORWARDED_PROTO": "https",
        "PATH_INFO": path,
        "QUERY_STRING": f"key={quote(secret)}",
        "REMOTE_ADDR": "127.0.0.1",
        "REMOTE_PORT": "40000",
        "REQUEST_METHOD": "POST",
        "SCRIPT_NAME": "",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "8000",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.errors": io.StringIO(),
        "wsgi.input": body,
        "wsgi.multiprocess": True,
        "wsgi.multithread": False,
        "wsgi.run_once": False,
        "wsgi.url_scheme": "http",
        "wsgi.version": (1, 0),
    }
