"""Deduplication on real caches: what it asks of them, and what it withstands."""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from threading import Barrier
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.cache import caches
from django.db import connection
from pytest_django import Settings
from redis.connection import Connection

from segmentio_bridge.deduplication import identify
from tests.conftest import deliver
from tests.demo.server import SECRET, TIMEOUT_SECONDS
from tests.drills.journal import read_journal
from tests.drills.site import Site, SiteOptions, run_site
from tests.factories import make_event
from tests.servers import Memcached, Redis, Server

pytestmark = pytest.mark.services

TrackingLog = list[dict[str, Any]]

sent: list[int] = []


class CountingConnection(Connection):
    """A connection to Redis that counts what it sends: one request is one round trip."""

    def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        """Send as ever."""
        sent.append(1)
        super().send_packed_command(command, check_health)


def redis_by_django(url: str) -> dict[str, Any]:
    return {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": url,
        "OPTIONS": {"connection_class": CountingConnection},
    }


def django_redis(url: str, **options: Any) -> dict[str, Any]:
    return {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": url,
        "OPTIONS": {
            "CONNECTION_POOL_KWARGS": {"connection_class": CountingConnection},
            **options,
        },
    }


def django_redis_that_swallows_errors(url: str) -> dict[str, Any]:
    return django_redis(url, IGNORE_EXCEPTIONS=True)


def memcached(url: str) -> dict[str, Any]:
    return {
        "BACKEND": "django.core.cache.backends.memcached.PyMemcacheCache",
        "LOCATION": url,
        # How long the client leaves a server alone that has not answered.
        "OPTIONS": {"retry_timeout": 0, "dead_timeout": 0},
    }


CACHES = {
    redis_by_django: Redis,
    django_redis: Redis,
    django_redis_that_swallows_errors: Redis,
    memcached: Memcached,
}


@pytest.fixture(params=CACHES, ids=lambda make: make.__name__)
def server(request: pytest.FixtureRequest, settings: Settings) -> Iterator[Server]:
    """The server of the cache that deduplication is on with."""
    with CACHES[request.param]() as server:
        settings.CACHES = {"default": {**request.param(server.url), "KEY_PREFIX": "site"}}
        settings.TRACKING_SEGMENTIO_DEDUPLICATION_SECONDS = 3600
        sent.clear()
        yield server


@pytest.mark.usefixtures("learner", "server")
def test_an_event_that_comes_again_is_not_emitted_again(tracking_log: TrackingLog) -> None:
    events = [make_event(messageId=f"m é {number}" * 20) for number in range(10)]
    deliver(events[:6])
    assert deliver(events) == 200
    deliver(events[::-1])
    assert len(tracking_log) == 10


@pytest.mark.usefixtures("learner", "server")
def test_a_claim_of_another_process_sends_the_delivery_back(tracking_log: TrackingLog) -> None:
    event = make_event(messageId="m-1")
    caches["default"].add(identify("m-1", b""), 1, 1)
    assert deliver([event, make_event()]) == 503
    assert len(tracking_log) == 1
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while deliver(event) == 503:
        assert time.monotonic() < deadline
    assert len(tracking_log) == 2


@pytest.mark.usefixtures("learner")
def test_round_trips_to_redis_for_a_batch_of_1000(
    server: Server, tracking_log: TrackingLog
) -> None:
    if not isinstance(server, Redis):
        pytest.skip("each claim is a round trip of its own, as tests/test_deduplication.py counts")
    events = [make_event() for _ in range(1000)]
    deliver(events[:1])
    sent.clear()
    deliver(events[1:])
    # To claim and to commit.
    assert len(sent) == 2
    sent.clear()
    deliver(events)
    # To claim, and to see why not.
    assert len(sent) == 2
    assert len(tracking_log) == 1000


@pytest.mark.usefixtures("learner")
def test_without_its_server_events_are_emitted_with_a_warning(
    server: Server, tracking_log: TrackingLog, app_log: list[logging.LogRecord]
) -> None:
    event = make_event()
    deliver(event)
    server.kill()
    assert [deliver([event]), deliver([event, make_event()])] == [200, 200]
    assert len(tracking_log) == 4
    warnings = Counter(record.getMessage() for record in app_log)
    assert list(warnings.values()) == [2]
    server.start()
    app_log.clear()
    assert [deliver([event]), deliver([event])] == [200, 200]
    assert len(tracking_log) == 5
    assert not app_log


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("server")
def test_threads_that_deliver_the_same_events_emit_each_once(tracking_log: TrackingLog) -> None:
    User.objects.create(pk=1, username="ada")
    threads, rounds = 4, 5
    batches = [[make_event() for _ in range(40)] for _ in range(rounds)]
    barrier = Barrier(threads)

    def send(thread: int) -> None:
        try:
            for events in batches:
                barrier.wait(TIMEOUT_SECONDS)
                while deliver(events[thread:] + events[:thread]) == 503:
                    pass
        finally:
            connection.close()

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(send, range(threads)))
    assert len(tracking_log) == 40 * rounds


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """A site of several processes, whose claims are in Redis."""
    with run_site(SiteOptions(), lease_seconds=None, visibility_seconds=60) as site:
        yield site


def test_processes_that_are_delivered_the_same_events_emit_each_once(site: Site) -> None:
    senders, rounds = 4, 10
    batches = [
        [
            make_event(properties={"name": "same", "data": {"number": 1000 * batch + number}})
            for number in range(40)
        ]
        for batch in range(rounds)
    ]
    barrier = Barrier(senders)
    answers: Counter[int] = Counter()

    def send(sender: int) -> None:
        for events in batches:
            body = json.dumps(events[sender:] + events[:sender])
            barrier.wait(TIMEOUT_SECONDS)
            status = 503
            while status == 503:
                http = HTTPConnection("127.0.0.1", site.web.port, timeout=TIMEOUT_SECONDS)
                headers = {"Content-Type": "application/json", "Authorization": f"Bearer {SECRET}"}
                http.request("POST", "/segmentio/event", body, headers)
                status = http.getresponse().status
                http.close()
                answers[status] += 1

    with ThreadPoolExecutor(senders) as pool:
        list(pool.map(send, range(senders)))
    # They did meet: one of them had to come again.
    assert answers[200] == senders * rounds
    assert answers[503] > 0
    times = Counter(number for unit in read_journal(site.journal).units for number in unit.logged)
    assert set(times.values()) == {1}
    assert len(times) == 40 * rounds
