"""Queue mode on real brokers with real workers, which are processes of their own."""

from __future__ import annotations

import json
import logging
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from typing import Any

import pytest
import redis
from celery import Celery

from segmentio_bridge.broker import acquire_producer, delete_copy
from tests.demo.server import SECRET, read_lines
from tests.drills.site import Site, SiteOptions, run_site
from tests.factories import make_event, make_properties
from tests.servers import RabbitMQ, Redis, exchange, find_children, send_signal

pytestmark = pytest.mark.services

PATIENCE_SECONDS = 60


@pytest.fixture(scope="module", params=[RabbitMQ, Redis], ids=["rabbitmq", "redis"])
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    """A site in queue mode, with a web server and a worker."""
    options = SiteOptions(broker=request.param)
    # On a machine with much to do a process may wait for seconds, in which no lease must run out.
    with run_site(options, lease_seconds=6, visibility_seconds=5) as site:
        yield site


@pytest.fixture
def site_on_redis() -> Iterator[Site]:
    """A site in queue mode whose broker is Redis."""
    with run_site(SiteOptions(broker=Redis), lease_seconds=2, visibility_seconds=2) as site:
        yield site


@pytest.fixture
def inline_site() -> Iterator[Site]:
    """A site that records within the request."""
    with run_site(SiteOptions(), lease_seconds=None, visibility_seconds=5) as site:
        yield site


def deliver(site: Site, payload: object) -> int:
    http = HTTPConnection("127.0.0.1", site.web.port, timeout=PATIENCE_SECONDS)
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {SECRET}"}
    http.request("POST", "/segmentio/event", json.dumps(payload), headers)
    status = http.getresponse().status
    http.close()
    return status


def find_logged(site: Site, marker: str) -> list[dict[str, Any]]:
    """Return the events of the tracking log whose data have this marker."""
    messages = [line.split(" ", 2)[2] for line in read_lines(site.journal)]
    events = [json.loads(message) for message in messages if message.startswith("{")]
    return [event for event in events if event["data"].get("marker") == marker]


def wait_for_logged(site: Site, marker: str, count: int) -> list[dict[str, Any]]:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while len(logged := find_logged(site, marker)) < count:
        assert time.monotonic() < deadline, f"{len(logged)} of {count}"
        time.sleep(0.1)
    return logged


def make_events(marker: str, count: int) -> list[dict[str, Any]]:
    return [
        make_event(properties=make_properties(data={"marker": marker, "number": number}))
        for number in range(count)
    ]


def test_what_is_logged_is_what_is_logged_inline(site: Site, inline_site: Site) -> None:
    odd = {"marker": "equal", "x": 1e21, "y": [1.0, -0.0, 2**60, None, "é🚀\u2028\ud83d"]}
    events = [*make_events("equal", 150), make_event(properties=make_properties(data=odd))]
    logged = []
    for each in (site, inline_site):
        assert deliver(each, events) == 200
        found = wait_for_logged(each, "equal", len(events))
        # But for the moment of emission, and the order in which two workers come to it.
        logged.append(sorted(repr({**event, "timestamp": None}) for event in found))
    assert logged[0] == logged[1]


def test_a_delivery_of_4000_is_recorded_once(site: Site) -> None:
    events = make_events("large", 4000)
    assert deliver(site, events) == 200
    assert deliver(site, events[::-1]) == 200
    wait_for_logged(site, "large", 4000)
    assert deliver(site, make_events("after", 1)) == 200
    wait_for_logged(site, "after", 1)
    times = Counter(event["data"]["number"] for event in find_logged(site, "large"))
    assert len(times) == 4000
    doubled = {number: count for number, count in times.items() if count > 1}
    assert doubled == {}, (site.directory / "site.log").read_text()[-3000:]


def test_a_worker_that_is_killed_has_its_chunk_recorded_by_another(site: Site) -> None:
    assert site.worker is not None
    assert deliver(site, make_events("killed", 1000)) == 200
    wait_for_logged(site, "killed", 20)
    for child in find_children(site.worker.pid):
        send_signal(child, signal.SIGKILL)
    wait_for_logged(site, "killed", 500)
    site.worker.kill()
    site.worker.start()
    logged = wait_for_logged(site, "killed", 1000)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while len({event["data"]["number"] for event in logged}) < 1000:
        assert time.monotonic() < deadline
        logged = find_logged(site, "killed")


def test_a_chunk_that_a_killed_worker_had_only_just_taken_is_recorded(site_on_redis: Site) -> None:
    site = site_on_redis
    assert site.worker is not None
    assert site.broker is not None
    site.worker.kill()
    assert deliver(site, make_events("taken", 150)) == 200
    # What a worker's client does, before it notes that it has the message.
    assert exchange(site.broker.port, b"RPOP celery\r\n").startswith(b"$")
    site.worker.start()
    logged = wait_for_logged(site, "taken", 150)
    assert sorted(event["data"]["number"] for event in logged) == list(range(150))


def test_nothing_is_left_in_redis_of_what_is_done(site_on_redis: Site) -> None:
    site = site_on_redis
    assert deliver(site, make_events("done", 150)) == 200
    wait_for_logged(site, "done", 150)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while site.count_queued_messages():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_while_the_broker_is_away_deliveries_are_sent_back(site: Site) -> None:
    assert site.broker is not None
    events = make_events("broker", 10)
    assert deliver(site, events[:5]) == 200
    wait_for_logged(site, "broker", 5)
    site.broker.stop()
    assert deliver(site, events) == 503
    site.broker.start()
    assert deliver(site, events) == 200
    assert len(wait_for_logged(site, "broker", 10)) == 10


def test_no_log_of_the_worker_or_of_the_site_has_anything_of_an_event(site: Site) -> None:
    properties = make_properties(data={"marker": "secret", "note": "whoever-reads-this"})
    deliver(site, make_event(userId="4711", messageId="m-4711", properties=properties))
    deliver(site, make_event(properties=properties))
    wait_for_logged(site, "secret", 1)
    assert site.worker is not None
    for log in (site.worker.log, site.web.log, site.directory / "site.log"):
        text = log.read_text()
        assert "whoever-reads-this" not in text
        assert "learner@example.org" not in text
        assert SECRET not in text


def record_nothing() -> None:
    """Stand for a task; no worker runs it."""


@pytest.mark.parametrize(
    ("options", "copies"),
    [
        ({}, 1),
        ({"global_keyprefix": "site:"}, 1),
        # Nobody would look for it.
        ({"ack_emulation": False}, 0),
    ],
)
def test_a_message_in_redis_has_a_copy_until_it_is_deleted(
    options: dict[str, Any], copies: int, app_log: list[logging.LogRecord]
) -> None:
    app = Celery("tests", set_as_current=False)
    app.conf.broker_transport_options = options
    task = app.task(record_nothing)
    keys = [f"{options.get('global_keyprefix', '')}{key}" for key in ("unacked", "unacked_index")]
    with Redis() as server, closing(redis.Redis(port=server.port)) as client:
        app.conf.broker_url = server.url
        with acquire_producer(app) as producer:
            result = task.apply_async(producer=producer, priority=5)
        assert (client.hlen(keys[0]), client.zcard(keys[1])) == (copies, copies)
        assert [client.llen(queue) for queue in client.scan_iter(_type="list")] == [1]

        delete_copy(app, result.id)
        assert (client.hlen(keys[0]), client.zcard(keys[1])) == (0, 0)
        assert app_log == []
        server.kill()
        delete_copy(app, result.id)
    assert [record.levelname for record in app_log] == ["WARNING"]
