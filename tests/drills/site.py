"""The site that the drills play with: web server, worker, and the servers that it depends on."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.demo.server import SECRET
from tests.servers import PostgreSQL, RabbitMQ, Redis, Server, ServerError, exchange

from .sender import USERS

_CHECKOUT = Path(__file__).parents[2]

_PREPARE_DATABASE = """
import django
django.setup()
from django.contrib.auth.models import User
from django.core.management import call_command
call_command("migrate", verbosity=0)
User.objects.bulk_create(User(pk=pk, username=f"learner-{pk}") for pk in range(1, %d))
"""


class _Program(Server):
    """A program of the site itself, which runs with the drills' settings."""

    def __init__(self, settings: Mapping[str, str]) -> None:
        super().__init__()
        self._settings = settings

    def environment(self) -> Mapping[str, str]:
        """Return what tests/drills/settings.py asks for."""
        # What a program keeps in the home directory, as gunicorn does, it must not share.
        return {**self._settings, "HOME": str(self.directory)}


class WebServer(_Program):
    """Gunicorn with two workers, which are forked from a process that has loaded the site."""

    @property
    def url(self) -> str:
        """The URL of the endpoint."""
        return f"http://127.0.0.1:{self.port}/segmentio/event"

    def command(self) -> Sequence[str | Path]:
        """Answer one request after the other in each worker."""
        return (
            *(sys.executable, "-m", "gunicorn", "tests.drills.wsgi", "--preload"),
            *("--workers", "2", "--bind", f"127.0.0.1:{self.port}"),
        )

    def is_ready(self) -> bool:
        """Tell whether the site answers."""
        return b" 405 " in exchange(self.port, b"GET /segmentio/event HTTP/1.0\r\n\r\n")


class Worker(_Program):
    """A Celery worker with a pool of two processes."""

    stop_seconds = 10

    _log_before = 0

    @property
    def url(self) -> str:
        """Nothing: nobody connects to a worker."""
        return ""

    def command(self) -> Sequence[str | Path]:
        """Leave out what only a cluster of workers needs."""
        return (
            *(sys.executable, "-m", "celery", "-A", "tests.drills.celery", "worker"),
            *("--concurrency", "2", "--loglevel", "INFO", "--without-gossip", "--without-mingle"),
        )

    def start(self) -> None:
        """Start the worker, and return as soon as it takes tasks."""
        self._log_before = self.log.stat().st_size if self.log.exists() else 0
        super().start()

    def stop(self) -> None:
        """Stop the worker in good order if it can, else kill it, as an init system does.

        Under load a pool sometimes waits for minutes for its last results to be read.
        """
        with suppress(ServerError):
            super().stop()

    def is_ready(self) -> bool:
        """Tell whether the worker has said since its start that it is ready."""
        return b" ready." in self._said()

    @property
    def has_ended(self) -> bool:
        """Whether the worker has ended, or has given up and does not manage to end, as happens."""
        return super().has_ended or b"Unrecoverable error" in self._said()

    def _said(self) -> bytes:
        return self.log.read_bytes()[self._log_before :]


@dataclass(frozen=True, slots=True)
class Outage:
    """From when to when a server was away, in seconds since the epoch."""

    began: float
    ended: float


@dataclass(frozen=True, slots=True)
class SiteOptions:
    """What a site is made of: which servers, and how its tracker behaves.

    Without a `broker` (a class of servers) events are recorded inline.
    """

    broker: type[RabbitMQ] | type[Redis] | None = None
    postgresql: bool = False
    deduplication: bool = True
    persistent_cache: bool = True
    tracker_failures: float = 0


@dataclass(frozen=True, slots=True)
class Site:
    """A site that runs, with the servers that it has."""

    directory: Path
    web: WebServer
    worker: Worker | None
    broker: RabbitMQ | Redis | None
    database: PostgreSQL | None
    cache: Redis | None
    #: When the cache was away: what was emitted meanwhile may be emitted again.
    cache_outages: list[Outage] = field(default_factory=list)

    @property
    def journal(self) -> Path:
        """The file that each request, task and emission is noted in."""
        return self.directory / "journal.log"

    @property
    def logs(self) -> Iterator[Path]:
        """What there is to read if something goes wrong."""
        yield self.journal
        yield self.directory / "site.log"
        for server in (self.web, self.worker, self.broker, self.database, self.cache):
            if server is not None:
                yield server.log

    def stop(self) -> None:
        """Have the site end its work in good order."""
        self.web.stop()
        if self.worker is not None:
            self.worker.stop()

    def revive_worker(self) -> bool:
        """Start the worker again if it has ended or given up; tell whether it had."""
        if self.worker is None or not self.worker.has_ended:
            return False
        self.worker.kill()
        self.worker.start()
        return True

    def count_queued_messages(self) -> int:
        """Return how many messages wait in the broker, or are being worked on."""
        if isinstance(self.broker, Redis):
            lengths = (b"LLEN celery\r\n", b"HLEN unacked\r\n")
            return sum(int(exchange(self.broker.port, length)[1:]) for length in lengths)
        if isinstance(self.broker, RabbitMQ):
            return self.broker.count_messages()
        return 0


@contextmanager
def run_site(
    options: SiteOptions, lease_seconds: int | None, visibility_seconds: int
) -> Iterator[Site]:
    """Run a site of its own, and leave nothing of it."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(TemporaryDirectory(prefix="segmentio-drill-")))
        database = stack.enter_context(PostgreSQL()) if options.postgresql else None
        broker: RabbitMQ | Redis | None = None
        if options.broker is RabbitMQ:
            broker = stack.enter_context(RabbitMQ())
        elif options.broker is Redis:
            broker = stack.enter_context(Redis(persistent=True))
        cache = None
        if options.deduplication:
            cache = stack.enter_context(Redis(persistent=options.persistent_cache))
        settings = {
            "DEMO_WEBHOOK_SECRET": SECRET,
            "DJANGO_SETTINGS_MODULE": "tests.drills.settings",
            "DRILL_DIRECTORY": str(directory),
            "DRILL_TRACKER_FAILURES": str(options.tracker_failures),
            "DRILL_VISIBILITY_SECONDS": str(visibility_seconds),
            "PYTHONPATH": str(_CHECKOUT),
        }
        if database:
            settings["DRILL_POSTGRESQL_PORT"] = str(database.port)
        if broker:
            settings["DRILL_BROKER_URL"] = broker.url
        if cache:
            settings["DRILL_CACHE_URL"] = cache.url
        if lease_seconds:
            settings["DRILL_LEASE_SECONDS"] = str(lease_seconds)
        subprocess.run(
            [sys.executable, "-c", _PREPARE_DATABASE % (USERS + 1)],
            env={**os.environ, **settings},
            check=True,
        )
        worker = stack.enter_context(Worker(settings)) if broker else None
        web = stack.enter_context(WebServer(settings))
        yield Site(directory, web, worker, broker, database, cache)


@contextmanager
def outage(outages: list[Outage]) -> Iterator[None]:
    """Note how long the block took."""
    began = time.time()
    yield
    outages.append(Outage(began, time.time()))
