"""The demo's site behind a real server, in processes of their own."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

SECRET = "a secret that only Segment knows"
TIMEOUT_SECONDS = 30

GUNICORN = ("gunicorn", "tests.demo.wsgi", "--workers", "2", "--bind", "fd://{fd}")
GUNICORN_THREADS = (*GUNICORN, "--threads", "4")
UVICORN = ("uvicorn", "tests.demo.asgi:application", "--fd", "{fd}")

_CREATE_USERS = """
import django, json, sys
django.setup()
from django.contrib.auth.models import User
User.objects.bulk_create(User(pk=pk, username=name) for pk, name in json.load(sys.stdin))
"""


@contextmanager
def serve(
    directory: Path,
    users: Mapping[int, str],
    *,
    server: Sequence[str] = GUNICORN,
    environ: Mapping[str, str] | None = None,
) -> Iterator[int]:
    """Run the site on a free port of the loopback interface, and yield the port.

    The database and the logs stand in `directory`: tracking.log, outcomes.log, site.log and
    server.log, and in metrics/ what the processes have counted. `users` are usernames by primary
    key.
    """
    metrics = directory / "metrics"
    metrics.mkdir(exist_ok=True)
    environment = {
        **os.environ,
        "DEMO_DIRECTORY": str(directory),
        "DEMO_WEBHOOK_SECRET": SECRET,
        "DJANGO_SETTINGS_MODULE": "tests.demo.settings",
        "PROMETHEUS_MULTIPROC_DIR": str(metrics),
        **(environ or {}),
    }
    _run(["-m", "django", "migrate", "--verbosity", "0"], environment)
    _run(["-c", _CREATE_USERS], environment, json.dumps(list(users.items())))
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        (directory / "server.log").open("w") as log,
    ):
        # The server takes over a socket that listens already: nobody else can have taken the port,
        # and the first request waits for the server to come up.
        port: int = listener.getsockname()[1]
        fd = listener.fileno()
        process = subprocess.Popen(
            [sys.executable, "-m", *(word.format(fd=fd) for word in server)],
            env=environment,
            pass_fds=[fd],
            stdout=log,
            stderr=log,
        )
    try:
        yield port
    finally:
        process.terminate()
        process.wait(TIMEOUT_SECONDS)


def _run(arguments: Sequence[str], environment: Mapping[str, str], stdin: str = "") -> None:
    subprocess.run(
        [sys.executable, *arguments], env=environment, input=stdin, text=True, check=True
    )


def read_lines(log: Path) -> list[str]:
    """Return the lines of a log that is there or not, without one that is only being written."""
    *lines, _ = (log.read_text() if log.exists() else "").split("\n")
    return lines
