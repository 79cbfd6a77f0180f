"""What README.md and docs/*.md tell a site to do, done: the blocks as they stand there.

Each site here is one that Django's own `startproject` makes. Its settings and URLs get the lines of
the pages, its server runs in processes of its own, and so does each command.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.demo.server import TIMEOUT_SECONDS, read_lines, serve
from tests.factories import make_event, make_event_of_website, make_properties
from tests.servers import find_free_port
from tests.test_docs import code

#: What a site has beside the lines of the pages: a tracking log, and no New Relic, whose agent of
#: today is too new for the lowest version of edx-django-utils.
OWN_SETTINGS = """
OPENEDX_TELEMETRY = []
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {
        "tracking": {"class": "logging.FileHandler", "filename": BASE_DIR / "tracking.log"}
    },
    "loggers": {"tracking": {"handlers": ["tracking"], "level": "INFO", "propagate": False}},
}
"""
#: A cache that all processes share, on a machine without servers.
SHARED_CACHE = """
CACHES = {
    "default": {"BACKEND": "django.core.cache.backends.db.DatabaseCache", "LOCATION": "cached"}
}
"""
#: A broker that other processes see, likewise; and the app, as Celery's documentation has it.
BROKER = """
CELERY_BROKER_URL = "filesystem://"
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "control_folder": BASE_DIR / "queue",
    "data_folder_in": BASE_DIR / "queue" / "messages",
    "data_folder_out": BASE_DIR / "queue" / "messages",
}
"""
CELERY = """
import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

app = Celery("config")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
"""
METRICS_URL = """
from config.metrics import metrics

urlpatterns += [path("metrics", metrics)]
"""

Events = list[dict[str, Any]]
Ran = subprocess.CompletedProcess[str]


class Site:
    """A site in a directory, to which lines are added before it is served."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.tracking_log = directory / "tracking.log"
        self.url = "http://127.0.0.1:1"
        directory.mkdir()
        self._run("-m", "django", "startproject", "config", str(directory))
        self.add("settings", OWN_SETTINGS)

    def add(self, module: str, *blocks: str) -> None:
        """Write blocks to the end of one of the site's own modules."""
        with (self.directory / "config" / f"{module}.py").open("a") as file:
            file.writelines(f"\n{block}" for block in blocks)

    def follow_the_readme(self) -> None:
        """Do what a site needs as the README says, and make the secret as it says."""
        settings, urls = code("README.md", "In five minutes", "python")
        (command,) = re.findall(r'"…"  # (python -c .*)$', settings, re.M)
        _, *arguments = shlex.split(command)
        secret = self._run(*arguments).stdout.strip()
        self.add("settings", settings.replace("…", secret))
        self.add("urls", urls)

    def manage(self, line: str) -> Ran:
        """Run a line `manage.py …` of a page, on the site that the page calls your.site."""
        program, *arguments = shlex.split(line.replace("https://your.site", self.url))
        return self._run(program, *arguments)

    @contextmanager
    def served(self, *server: str, **environ: str) -> Iterator[None]:
        """Serve the site for as long as the context lasts; it has one user."""
        server = server or ("gunicorn", "config.wsgi", "--workers", "2")
        with serve(
            self.directory,
            {1: "ada"},
            server=(*server, "--bind", "fd://{fd}"),
            environ={**self.environment, **environ},
        ) as port:
            self.url = f"http://127.0.0.1:{port}"
            yield

    def deliver(self, *events: Any) -> None:
        """Have the command deliver a batch of events; the site takes it."""
        file = self.directory / "events.json"
        file.write_text(json.dumps(events))
        sent = self.manage(
            f"manage.py segmentio_send https://your.site/segmentio/event --batch {len(events)} "
            f"--events {shlex.quote(str(file))}"
        )
        assert sent.returncode == 0, sent

    def logged(self) -> Events:
        """Return the events of the tracking log."""
        return [json.loads(line) for line in read_lines(self.tracking_log)]

    def names(self) -> list[str]:
        """Return their names."""
        return [event["name"] for event in self.logged()]

    @property
    def environment(self) -> dict[str, str]:
        """What the site's processes find in their environment."""
        return {"DJANGO_SETTINGS_MODULE": "config.settings", "PYTHONPATH": str(self.directory)}

    def _run(self, *arguments: str) -> Ran:
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=self.directory,
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
        )


def lines(page: str, heading: str) -> list[str]:
    """Return the commands of the one block of text below a heading."""
    (block,) = code(page, heading, "text")
    return block.splitlines()


def named(*names: str, **overrides: Any) -> Events:
    return [make_event(properties=make_properties(name=name), **overrides) for name in names]


# A site that has followed the README, and nothing else --------------------------------------------


@pytest.fixture(scope="module")
def _new_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The site after five minutes."""
    site = Site(tmp_path_factory.mktemp("sites") / "new")
    site.follow_the_readme()
    with site.served():
        yield site


@pytest.fixture
def new_site(_new_site: Site) -> Site:
    """That site, with nothing in its tracking log, which its processes append to."""
    os.truncate(_new_site.tracking_log, 0)
    return _new_site


def test_a_site_is_set_up_in_five_minutes(new_site: Site) -> None:
    checked = new_site.manage("manage.py check --fail-level INFO")
    assert (checked.returncode, checked.stderr) == (0, "")
    # Larger than what event-tracking logs unless it is told otherwise.
    event = make_event(properties=make_properties(data={"text": "x" * 20_000}))
    new_site.deliver(event)
    assert [event["data"] for event in new_site.logged()] == [event["properties"]["data"]]


def test_segment_can_be_played(new_site: Site) -> None:
    one, many, refused = lines("docs/operations.md", "Why was my event not recorded?")
    sent = new_site.manage(one)
    assert (sent.returncode, sent.stderr) == (0, "")
    assert "1 delivery, 1 event; 200: 1;" in sent.stdout
    assert new_site.names() == ["edx.video.played"]
    sent = new_site.manage(many)
    assert (sent.returncode, sent.stderr) == (0, "")
    assert "4 deliveries, 4000 events; 200: 4;" in sent.stdout
    assert len(new_site.logged()) == 4_001
    sent = new_site.manage(refused)
    assert sent.returncode == 1
    assert "1 delivery, 1 event; 401: 1;" in sent.stdout
    assert len(new_site.logged()) == 4_001


# A site that has done more than it has to ---------------------------------------------------------


@pytest.fixture(scope="module")
def _site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The site with the quarantine, deduplication, and processors for what is downstream."""
    site = Site(tmp_path_factory.mktemp("sites") / "site")
    site.follow_the_readme()
    (quarantine,) = code("docs/operations.md", "The quarantine", "python")
    (duplicates,) = code("docs/reliability.md", "Duplicates", "python")
    (processors,) = code("docs/downstream.md", "For all backends", "python")
    site.add("settings", quarantine, SHARED_CACHE, duplicates, processors)
    site.manage("manage.py createcachetable")
    migrated = site.manage("manage.py migrate")
    assert re.search(r"Applying segmentio_bridge_quarantine\.\w+\.\.\. OK", migrated.stdout)
    with site.served():
        yield site


@pytest.fixture
def site(_site: Site) -> Site:
    """That site, with nothing in its tracking log."""
    os.truncate(_site.tracking_log, 0)
    return _site


def test_the_lines_of_the_pages_go_together(site: Site) -> None:
    checked = site.manage("manage.py check --fail-level INFO")
    assert (checked.returncode, checked.stderr) == (0, "")


def test_what_comes_again_is_not_recorded_again(site: Site) -> None:
    events = named("one", "two")
    site.deliver(*events)
    site.deliver(*events, *named("three"))
    assert site.names() == ["one", "two", "three"]


def test_events_are_prepared_for_what_is_downstream(site: Site) -> None:
    course, block = "course-v1:X+Y+Z", "block-v1:X+Y+Z+type@video+block@0123456789abcdef"
    properties = make_properties(
        name="edx.video.played", data={"module_id": block}, context={"course_id": course}
    )
    event = make_event(properties=properties)
    site.deliver(event)
    (logged,) = site.logged()
    assert logged["timestamp"].startswith("2026-03-02T09:15:27.352")
    assert logged["data"]["id"] == "0123456789abcdef"


def test_the_quarantine_keeps_releases_and_forgets(site: Site) -> None:
    release, prune, retire = lines("docs/operations.md", "The quarantine")
    site.deliver(*named("now"), *named("later", userId="2"), *named("a", "b", userId="4711"))
    assert site.names() == ["now"]
    created = site.manage("manage.py createsuperuser --noinput --username grace --email g@x.org")
    assert created.returncode == 0

    tried = site.manage(f"{release} --dry-run")
    assert tried.stderr.strip().endswith("Would stay pending: 2.")
    assert site.names() == ["now"]
    released = site.manage(release)
    assert released.stderr.strip().endswith("Still pending: 2.")
    assert count(released.stdout) == {"emitted": 1, "rejected": 2, "all": 3}
    assert site.names() == ["now", "later"]

    assert count(site.manage(prune).stdout) == {"all": 0}
    with closing(sqlite3.connect(site.directory / "db.sqlite3")) as database, database:
        database.execute(
            "UPDATE segmentio_bridge_quarantine_quarantinedevent SET created_at = '2026-01-01'"
            " WHERE id = (SELECT max(id) FROM segmentio_bridge_quarantine_quarantinedevent)"
        )
    assert count(site.manage(f"{prune} --dry-run").stdout) == {"pending": 1, "all": 1}
    assert count(site.manage(prune).stdout) == {"pending": 1, "all": 1}
    assert count(site.manage(f"{retire} --dry-run").stdout) == {"pending": 1, "all": 1}
    assert count(site.manage(retire).stdout) == {"pending": 1, "all": 1}
    assert count(site.manage(retire).stdout) == {"all": 0}


def count(table: str) -> dict[str, int]:
    """Return the numbers of a table that a command has printed, by the first words of its rows."""
    rows = [line.split() for line in table.splitlines()[1:]]
    return {first: int(number) for first, *_, number in rows}


def test_archives_are_replayed(site: Site) -> None:
    dry, resumed = lines("docs/operations.md", "Replay")
    archive = site.directory / "segment-logs"
    archive.mkdir()
    first_of_march = named("one", "two", receivedAt="2026-03-01T09:15:29.004Z")
    lines_of_archive = [json.dumps(event) for event in [*first_of_march, *named("of the second")]]
    (archive / "a").write_text("\n".join(lines_of_archive))

    tried = site.manage(dry)
    assert (tried.returncode, tried.stdout.splitlines()[1].split()) == (0, ["emitted", "3"])
    assert site.names() == []
    for _ in range(2):
        replayed = site.manage(resumed)
        assert replayed.returncode == 0
        assert (site.directory / "replay.position").exists()
        assert site.names() == ["one", "two"]


# A site in queue mode, with a worker, and the metrics of both -------------------------------------


@pytest.fixture(scope="module")
def worker_port() -> int:
    """Where the worker shows its metrics; what the page says may be taken on this machine."""
    return find_free_port()


@pytest.fixture(scope="module")
def queueing_site(tmp_path_factory: pytest.TempPathFactory, worker_port: int) -> Iterator[Site]:
    """The site in queue mode, without a worker, served as the page on metrics says."""
    site = Site(tmp_path_factory.mktemp("sites") / "queueing")
    site.follow_the_readme()
    (queue_mode,) = code("docs/reliability.md", "Queue mode", "python")
    (view,) = code("docs/metrics.md", "Exposing them", "python")
    (worker_s,) = code("docs/metrics.md", "Celery", "python")
    site.add("settings", BROKER, queue_mode)
    site.add("__init__", "from config.celery import app")
    site.add("celery", CELERY, worker_s.replace("9809", str(worker_port)))
    site.add("metrics", view)
    site.add("urls", METRICS_URL)
    (site.directory / "queue" / "messages").mkdir(parents=True)

    clear, start = (
        line.replace("/run/segment-metrics", str(site.directory / "segment-metrics"))
        for line in lines("docs/metrics.md", "Several processes")
    )
    subprocess.run(["bash", "-euc", clear], check=True)
    variable, *server, rest = shlex.split(start)
    assert rest == "…"
    name, _, value = variable.partition("=")
    with site.served(*server, "config.wsgi", **{name: value}):
        yield site


@contextmanager
def working(site: Site, **environ: str) -> Iterator[None]:
    """Have a worker at the site's queue."""
    with (site.directory / "worker.log").open("w") as log:
        worker = subprocess.Popen(
            [sys.executable, "-m", "celery", "--app", "config", "worker", "--pool", "solo"],
            cwd=site.directory,
            env={**os.environ, **site.environment, **environ},
            stdout=log,
            stderr=log,
        )
    try:
        yield
    finally:
        worker.terminate()
        worker.wait(TIMEOUT_SECONDS)


def scrape(url: str) -> dict[str, float]:
    """Return the bridge's counters by name and labels, those at zero left out."""
    with urllib.request.urlopen(url) as answer:
        families = list(text_string_to_metric_families(answer.read().decode()))
    return {
        f"{sample.name}{{{','.join(dict(sorted(sample.labels.items())).values())}}}": sample.value
        for family in families
        for sample in family.samples
        if sample.name.endswith("_total") and sample.value
    }


def wait_until(condition: Callable[[], object]) -> None:
    """Wait for what another process does; if it never does, the test goes on to say so."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.1)


def test_workers_count_together(queueing_site: Site) -> None:
    for _ in range(4):
        queueing_site.deliver(make_event_of_website())
    assert any((queueing_site.directory / "segment-metrics").iterdir())
    pages = [scrape(f"{queueing_site.url}/metrics") for _ in range(8)]
    assert (
        pages
        == [
            {
                "segmentio_bridge_deliveries_total{200}": 4,
                "segmentio_bridge_events_total{ignored,unknown_source,}": 4,
            }
        ]
        * 8
    )


def test_a_worker_records_what_was_queued_and_shows_its_metrics(
    queueing_site: Site, worker_port: int, tmp_path: Path
) -> None:
    checked = queueing_site.manage("manage.py check --fail-level INFO")
    assert (checked.returncode, checked.stderr) == (0, "")
    queueing_site.deliver(*named("one", "two", "three"))
    assert queueing_site.names() == []
    with working(queueing_site, PROMETHEUS_MULTIPROC_DIR=str(tmp_path)):
        wait_until(lambda: len(queueing_site.names()) == 3)
        assert queueing_site.names() == ["one", "two", "three"]
        # They are counted when they have been logged.
        wait_until(lambda: scrape(f"http://127.0.0.1:{worker_port}/metrics"))
        assert scrape(f"http://127.0.0.1:{worker_port}/metrics") == {
            "segmentio_bridge_events_total{emitted,,mobile}": 3
        }
