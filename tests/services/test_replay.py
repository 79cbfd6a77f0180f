"""`manage.py segmentio_replay` as a process that is interrupted and killed, with real servers."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from segmentio_bridge.deduplication import LEASE_SECONDS
from tests.demo.server import read_lines
from tests.factories import make_event, make_properties
from tests.servers import PostgreSQL, Redis
from tests.test_replay import read_table

pytestmark = pytest.mark.services

ROOT = Path(__file__).parent.parent.parent

EVENTS = 5_000
BATCH_SIZE = 250
EVENTS_IN_A_FILE = 1_300

SETTINGS = """\
from tests.demo.settings import *

CACHES = {{"default": {{"BACKEND": "django.core.cache.backends.{cache}", "LOCATION": "{url}"}}}}
TRACKING_SEGMENTIO_DEDUPLICATION_SECONDS = {seconds}
DATABASES["default"].update({database})
"""


class Site:
    """A site with one user, whose tracking log is a file, and an archive of this user's events."""

    def __init__(
        self,
        directory: Path,
        *,
        redis: Redis | None = None,
        database: dict[str, object] | None = None,
    ) -> None:
        self.directory = directory
        self.ids = [f"event-{number}" for number in range(EVENTS)]
        (directory / "replay_settings.py").write_text(
            SETTINGS.format(
                cache="redis.RedisCache" if redis else "dummy.DummyCache",
                url=redis.url if redis else "",
                seconds=3600 if redis else 0,
                database=database or {},
            )
        )
        archive = directory / "archive"
        archive.mkdir()
        for number, start in enumerate(range(0, EVENTS, EVENTS_IN_A_FILE)):
            content = "".join(
                json.dumps(make_event(messageId=i, properties=make_properties(label=i))) + "\n"
                for i in self.ids[start : start + EVENTS_IN_A_FILE]
            ).encode()
            file = archive / f"{number}.gz"
            file.write_bytes(gzip.compress(content) if number % 2 else content)
        for arguments in (
            ["migrate", "--verbosity=0"],
            ["createsuperuser", "--noinput", "--username=ada", "--email=ada@example.org"],
        ):
            subprocess.run(self._command(*arguments), check=True, env=self._environment, cwd=ROOT)

    def start(self) -> subprocess.Popen[str]:
        """Start a run, or go on with it."""
        return subprocess.Popen(
            self._command(
                *("segmentio_replay", "--no-color", str(self.directory / "archive")),
                *("--resume", str(self.directory / "checkpoint"), f"--batch-size={BATCH_SIZE}"),
            ),
            env=self._environment,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def emitted(self) -> list[str]:
        """Return the ids of the events in the tracking log."""
        lines = read_lines(self.directory / "tracking.log")
        return [json.loads(line)["context"]["label"] for line in lines]

    def wait_for_events(self, count: int) -> None:
        """Return as soon as so many more events are in the tracking log."""
        log = self.directory / "tracking.log"
        deadline = time.monotonic() + 60
        goal = len(self.emitted()) + count
        while not log.exists() or log.read_bytes().count(b"\n") < goal:
            assert time.monotonic() < deadline, "no events come"
            time.sleep(0.001)

    @property
    def _environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "DEMO_DIRECTORY": str(self.directory),
            "DJANGO_SETTINGS_MODULE": "replay_settings",
            "DJANGO_SUPERUSER_PASSWORD": "a password",
            "PYTHONPATH": f"{self.directory}{os.pathsep}{ROOT}",
        }

    def _command(self, *arguments: str) -> Sequence[str]:
        return (sys.executable, "-m", "django", *arguments)


def finish(process: subprocess.Popen[str]) -> tuple[int, dict[str, int]]:
    """Return how a run ended, and its counts."""
    output, errors = process.communicate(timeout=300)
    assert process.returncode in (0, 130), errors
    return process.returncode, read_table(output)[0]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("deduplicates", [True, False])
def test_interrupted_nothing_is_lost_and_nothing_doubled(
    deduplicates: bool, number: signal.Signals, tmp_path: Path
) -> None:
    with Redis() as redis:
        site = Site(tmp_path, redis=redis if deduplicates else None)
        for count in (700, 1, 1_300):
            process = site.start()
            site.wait_for_events(count)
            process.send_signal(number)
            exit_code, counts = finish(process)
            emitted = site.emitted()
            assert exit_code == 130
            assert counts == {"emitted": len(emitted)}
            assert emitted == site.ids[: len(emitted)]
        assert finish(site.start()) == (0, {"emitted": EVENTS})
    assert site.emitted() == site.ids


def test_killed_nothing_is_lost_and_nothing_doubled_but_what_was_in_hand(tmp_path: Path) -> None:
    with Redis() as redis:
        site = Site(tmp_path, redis=redis)
        process = site.start()
        site.wait_for_events(1_100)
        process.kill()
        process.communicate()
        before = site.emitted()
        assert before == site.ids[: len(before)]
        started = time.monotonic()
        exit_code, counts = finish(site.start())
        seconds = time.monotonic() - started
    emitted = Counter(site.emitted())
    assert set(emitted) == set(site.ids)
    doubled = {message_id for message_id, count in emitted.items() if count > 1}
    batches = {int(message_id.partition("-")[2]) // BATCH_SIZE for message_id in doubled}
    assert batches <= {(len(before) - 1) // BATCH_SIZE}
    assert max(emitted.values()) <= 2
    assert exit_code == 0
    assert sum(counts.values()) == EVENTS
    # What the dead process had claimed is waited for, and no longer.
    assert seconds < LEASE_SECONDS + 30


def outage(seconds: float) -> Callable[[PostgreSQL], None]:
    def play(server: PostgreSQL) -> None:
        server.kill()
        time.sleep(seconds)
        server.start()

    return play


@pytest.mark.parametrize("play", [outage(3), PostgreSQL.restart], ids=["killed", "restarted"])
def test_a_database_that_goes_and_comes_back(
    play: Callable[[PostgreSQL], None], tmp_path: Path
) -> None:
    with PostgreSQL() as server:
        site = Site(
            tmp_path,
            database={
                "ENGINE": "django.db.backends.postgresql",
                "HOST": "127.0.0.1",
                "PORT": server.port,
                "NAME": "postgres",
                "USER": "postgres",
            },
        )
        process = site.start()
        site.wait_for_events(500)
        play(server)
        assert finish(process) == (0, {"emitted": EVENTS})
    assert site.emitted() == site.ids
