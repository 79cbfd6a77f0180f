"""Which events have been recorded before, through the endpoint; tests/services has real caches."""

from __future__ import annotations

import json
import logging
import re
import threading
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn

import pytest
from django.contrib.auth.models import User
from django.core.cache import caches
from django.core.cache.backends.locmem import LocMemCache
from django.db import OperationalError, connection
from eventtracking.django.django_tracker import DjangoTracker
from pytest_django import Settings

from segmentio_bridge.deduplication import LEASE_SECONDS, identify
from segmentio_bridge.outcomes import Outcome, Reason
from tests.conftest import close_for_good, deliver, registered
from tests.factories import make_event, make_event_of_website, without

TrackingLog = list[dict[str, Any]]


class RecordingCache(LocMemCache):
    """A cache that counts its round trips, and can be told to fail or to refuse."""

    def __init__(self, name: str, params: dict[str, Any]) -> None:
        super().__init__(name, params)
        self.calls: list[str] = []
        self.failing: Collection[str] = ()
        self.refusing = False

    def _note(self, call: str) -> None:
        self.calls.append(call)
        if call in self.failing:
            raise ConnectionError(f"no answer to {call}")

    def add(self, *arguments: Any, **options: Any) -> bool:
        self._note("add")
        return False if self.refusing else super().add(*arguments, **options)

    def get_many(self, *arguments: Any, **options: Any) -> dict[str, Any]:
        self._note("get_many")
        return {} if self.refusing else super().get_many(*arguments, **options)

    def set_many(self, *arguments: Any, **options: Any) -> list[str]:
        self._note("set_many")
        return ["refused"] if self.refusing else super().set_many(*arguments, **options)

    def delete_many(self, *arguments: Any, **options: Any) -> None:
        self._note("delete_many")
        super().delete_many(*arguments, **options)


@pytest.fixture(autouse=True)
def cache(settings: Settings) -> Iterator[RecordingCache]:
    """The cache of the claims, with deduplication on."""
    settings.CACHES = {
        "default": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"},
        "claims": {"BACKEND": f"{__name__}.RecordingCache", "LOCATION": __name__},
    }
    settings.TRACKING_SEGMENTIO_CACHE = "claims"
    settings.TRACKING_SEGMENTIO_DEDUPLICATION_SECONDS = 3600
    cache = caches["claims"]
    assert isinstance(cache, RecordingCache)
    cache.clear()
    yield cache
    cache.clear()


@pytest.mark.usefixtures("learner")
def test_an_event_that_comes_again_is_a_duplicate(
    tracking_log: TrackingLog, outcomes: list[Outcome]
) -> None:
    event = make_event(messageId="m-1")
    assert [deliver(event), deliver([event]), deliver(event)] == [200] * 3
    assert outcomes == [
        Outcome(None, "m-1", "mobile"),
        *[Outcome(Reason.DUPLICATE, "m-1", "mobile")] * 2,
    ]
    assert len(tracking_log) == 1


@pytest.mark.usefixtures("learner")
def test_off_by_default(
    tracking_log: TrackingLog, settings: Settings, cache: RecordingCache
) -> None:
    del settings.TRACKING_SEGMENTIO_DEDUPLICATION_SECONDS
    event = make_event()
    deliver([event, event])
    assert len(tracking_log) == 2
    assert not cache.calls


@pytest.mark.usefixtures("learner")
def test_an_event_twice_in_one_batch_is_emitted_once(
    tracking_log: TrackingLog, outcomes: list[Outcome]
) -> None:
    event, other = make_event(messageId="m-1"), make_event(messageId="m-2")
    deliver([event, other, event])
    assert [outcome.reason for outcome in outcomes] == [None, None, Reason.DUPLICATE]
    assert len(tracking_log) == 2


@pytest.mark.usefixtures("learner")
def test_a_batch_that_is_composed_anew_is_told_event_by_event(tracking_log: TrackingLog) -> None:
    events = [make_event() for _ in range(10)]
    for batch in (events[:4], events[2:7], events[::-1]):
        assert deliver(batch) == 200
    assert len(tracking_log) == 10


@pytest.mark.usefixtures("learner")
@pytest.mark.parametrize("message_id", [None, "", 7, ["m-1"], {}])
def test_without_a_message_id_the_bytes_decide(
    message_id: object, tracking_log: TrackingLog
) -> None:
    event = json.dumps(make_event(messageId=message_id))
    other = json.dumps(make_event(messageId=message_id, anonymousId="other"))
    deliver(event.encode())
    deliver(f" [{other} , {event}]\n".encode())
    deliver(f"\n{other} ".encode())
    assert len(tracking_log) == 2
    # The same event in other bytes is another.
    deliver(event.replace('": ', '":', 1).encode())
    assert len(tracking_log) == 3


def test_a_message_id_is_no_other_event_s_hash() -> None:
    raw = json.dumps(without(make_event(), "messageId")).encode()
    by_bytes = identify(None, raw)
    assert identify(by_bytes, b"") != by_bytes
    assert identify(by_bytes.rpartition(".")[2], b"") != by_bytes


@pytest.mark.usefixtures("learner")
@pytest.mark.parametrize("message_id", ["m 1\r\n", "é🚀\0", "\ud800", "m" * 10_000])
def test_any_string_is_an_identity(message_id: str, tracking_log: TrackingLog) -> None:
    event = make_event(messageId=message_id)
    assert [deliver(event), deliver(event)] == [200, 200]
    assert len(tracking_log) == 1


@pytest.mark.django_db
def test_what_was_not_emitted_is_no_duplicate_when_it_comes_again(
    tracking_log: TrackingLog, outcomes: list[Outcome]
) -> None:
    events = [make_event(), make_event(userId="x"), make_event_of_website()]
    deliver(events)
    User.objects.create(pk=1, username="ada")
    deliver(events)
    assert [outcome.reason for outcome in outcomes] == [
        *[Reason.USER_NOT_FOUND, Reason.INVALID_USER_ID, Reason.UNKNOWN_SOURCE],
        *[None, Reason.INVALID_USER_ID, Reason.UNKNOWN_SOURCE],
    ]
    assert len(tracking_log) == 1


class FailingTracker(DjangoTracker):
    """A tracker that fails as often as it is told."""

    failures = 0

    def emit(self, name: str | None = None, data: Any = None) -> None:
        if self.failures:
            self.failures -= 1
            raise RuntimeError
        super().emit(name, data)


@pytest.mark.usefixtures("learner")
def test_a_delivery_of_which_one_event_failed_is_completed_by_its_retry(
    tracking_log: TrackingLog,
) -> None:
    tracker = FailingTracker()
    events = [make_event() for _ in range(5)]
    with registered(tracker):
        tracker.failures = 1
        # With claims a retry doubles nothing, whatever was emitted.
        assert [deliver(events), deliver(events)] == [503, 200]
    assert len(tracking_log) == 5


@pytest.mark.usefixtures("learner")
def test_an_event_whose_first_occurrence_fails_is_emitted_by_its_second(
    tracking_log: TrackingLog,
) -> None:
    tracker = FailingTracker()
    event = make_event()
    with registered(tracker):
        tracker.failures = 1
        deliver([event, event])
    assert len(tracking_log) == 1


@pytest.mark.usefixtures("learner")
def test_an_outage_of_the_database_leaves_no_claim_behind(tracking_log: TrackingLog) -> None:
    def gone(*arguments: Any) -> NoReturn:
        raise OperationalError

    event = make_event()
    with connection.execute_wrapper(gone):
        assert deliver(event) == 503
    assert deliver(event) == 200
    assert len(tracking_log) == 1


@pytest.mark.usefixtures("learner")
def test_a_claim_of_another_process_sends_the_delivery_back(
    tracking_log: TrackingLog, outcomes: list[Outcome], cache: RecordingCache
) -> None:
    held, free = make_event(messageId="held"), make_event(messageId="free")
    key = identify("held", b"")
    cache.add(key, 1, LEASE_SECONDS)
    assert deliver([held, free, "no object"]) == 503
    assert [outcome.reason for outcome in outcomes] == [
        *[Reason.IN_PROGRESS, None, Reason.NOT_AN_OBJECT]
    ]
    # The other process has recorded it.
    cache.set(key, 2, 3600)
    assert deliver([held, free, "no object"]) == 200
    assert len(tracking_log) == 1


@pytest.mark.usefixtures("learner")
def test_a_claim_of_a_process_that_died_runs_out(
    tracking_log: TrackingLog, cache: RecordingCache
) -> None:
    cache.add(identify("m-1", b""), 1, 0.1)
    event = make_event(messageId="m-1")
    while deliver(event) == 503:
        pass
    assert len(tracking_log) == 1


@pytest.mark.usefixtures("learner")
def test_a_claim_that_goes_as_it_is_looked_at_sends_the_delivery_back(
    tracking_log: TrackingLog, cache: RecordingCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = make_event(messageId="m-1")
    cache.add(identify("m-1", b""), 1, LEASE_SECONDS)
    with monkeypatch.context() as patch:
        patch.setattr(cache, "get_many", lambda keys: {})
        assert deliver(event) == 503
    cache.clear()
    assert deliver(event) == 200
    assert len(tracking_log) == 1


class SlowTracker(DjangoTracker):
    """A tracker that lets others act before each event."""

    def __init__(self, before_event: Any) -> None:
        super().__init__()
        self.before_event = before_event

    def emit(self, name: str | None = None, data: Any = None) -> None:
        self.before_event()
        super().emit(name, data)


@pytest.mark.usefixtures("learner")
def test_the_claims_of_a_long_delivery_are_renewed(
    tracking_log: TrackingLog, cache: RecordingCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0

    def wait() -> None:
        nonlocal now
        now += LEASE_SECONDS * 0.9

    monkeypatch.setattr("segmentio_bridge.deduplication.time.monotonic", lambda: now)
    events = [make_event() for _ in range(3)]
    with registered(SlowTracker(wait)):
        deliver(events)
    # A renewal commits what has been emitted and prolongs the rest.
    assert cache.calls.count("set_many") == 2 + 2 + 1
    deliver(events)
    assert len(tracking_log) == 3


@pytest.mark.usefixtures("learner")
def test_a_process_that_stalls_for_longer_than_its_lease_claims_anew(
    tracking_log: TrackingLog,
    outcomes: list[Outcome],
    cache: RecordingCache,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0

    def stall() -> None:
        nonlocal now
        if now == 0:
            now = LEASE_SECONDS * 2
            # Meanwhile the claims have run out, and two of the events are in other hands.
            cache.clear()
            cache.set(identify("recorded", b""), 2, 3600)
            cache.set(identify("claimed", b""), 1, LEASE_SECONDS)

    monkeypatch.setattr("segmentio_bridge.deduplication.time.monotonic", lambda: now)
    events = [make_event(messageId=name) for name in ("first", "recorded", "claimed", "free")]
    with registered(SlowTracker(stall)):
        assert deliver(events) == 503
    assert [outcome.reason for outcome in outcomes] == [
        *[None, Reason.DUPLICATE, Reason.IN_PROGRESS, None]
    ]
    assert cache.get(identify("claimed", b"")) == 1
    assert deliver(events[:2]) == deliver(events[3:]) == 200
    assert len(tracking_log) == 2


@pytest.mark.usefixtures("learner")
def test_claims_that_have_run_out_are_not_released(
    cache: RecordingCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0

    def stall_and_fail() -> None:
        nonlocal now
        now = LEASE_SECONDS * 2
        raise RuntimeError

    monkeypatch.setattr("segmentio_bridge.deduplication.time.monotonic", lambda: now)
    with registered(SlowTracker(stall_and_fail)):
        deliver(make_event())
    # It may be another's by now.
    assert "delete_many" not in cache.calls


@pytest.mark.usefixtures("learner")
@pytest.mark.parametrize(
    ("failing", "emissions"),
    [
        # Nothing is known: each delivery is emitted.
        (["add"], 2),
        (["add", "get_many", "set_many", "delete_many"], 2),
        # The first cannot be committed: its claim, not yet run out, sends the second back.
        (["set_many"], 1),
        # The first went well, but the second cannot be told from it.
        (["get_many"], 2),
        (["delete_many"], 1),
    ],
)
def test_without_the_cache_events_are_emitted_with_one_warning(
    failing: list[str],
    emissions: int,
    tracking_log: TrackingLog,
    cache: RecordingCache,
    app_log: list[logging.LogRecord],
) -> None:
    cache.failing = failing
    event = make_event()
    assert deliver([event, make_event(userId="2")]) == 200
    deliver(event)
    assert len(tracking_log) == emissions
    warnings = [record for record in app_log if record.levelno == logging.WARNING]
    assert 1 <= len(warnings) <= 2
    for warning in warnings:
        assert "TRACKING_SEGMENTIO_CACHE" in warning.getMessage()
        assert not re.search("no answer to [adgs]", logging.Formatter().format(warning))


@pytest.mark.usefixtures("learner")
def test_a_cache_that_swallows_its_own_errors_is_found_out(
    tracking_log: TrackingLog, cache: RecordingCache, app_log: list[logging.LogRecord]
) -> None:
    # As clients of Memcached and Redis do on request: no key is added, none is there.
    cache.refusing = True
    event = make_event()
    assert [deliver(event), deliver(event)] == [200, 200]
    assert len(tracking_log) == 2
    assert [record.levelname for record in app_log] == ["WARNING"] * 2


@pytest.mark.usefixtures("learner")
def test_a_cache_that_does_not_keep_the_commit_is_found_out(
    tracking_log: TrackingLog, cache: RecordingCache, app_log: list[logging.LogRecord]
) -> None:
    def refuse() -> None:
        cache.refusing = True

    with registered(SlowTracker(refuse)):
        assert deliver(make_event()) == 200
    assert len(tracking_log) == 1
    assert [record.levelname for record in app_log] == ["WARNING"]


@pytest.mark.usefixtures("learner")
def test_without_the_cache_a_failure_is_not_retried_if_that_doubled_something(
    tracking_log: TrackingLog, cache: RecordingCache
) -> None:
    cache.failing = ["add"]
    tracker = FailingTracker()
    with registered(tracker):
        tracker.failures = 1
        assert deliver([make_event(), make_event()]) == 200
    assert len(tracking_log) == 1


@pytest.mark.usefixtures("learner")
@pytest.mark.parametrize(
    ("seen_before", "calls"),
    [
        (0, {"add": 100, "set_many": 1}),
        (40, {"add": 100, "get_many": 1, "set_many": 1}),
        (100, {"add": 100, "get_many": 1}),
    ],
)
def test_round_trips_to_a_cache_that_adds_one_key_at_a_time(
    seen_before: int, calls: dict[str, int], cache: RecordingCache
) -> None:
    events = [make_event() for _ in range(100)]
    deliver(events[:seen_before])
    cache.calls.clear()
    deliver(events)
    assert {call: cache.calls.count(call) for call in set(cache.calls)} == calls


@pytest.mark.django_db(transaction=True)
def test_threads_that_deliver_the_same_events_emit_each_once(tracking_log: TrackingLog) -> None:
    User.objects.create(pk=1, username="ada")
    events = [make_event() for _ in range(50)]
    threads, rounds = 4, 5
    barrier = threading.Barrier(threads)

    def send(number: int) -> None:
        try:
            for _ in range(rounds):
                barrier.wait()
                while deliver(events[number:] + events[:number]) == 503:
                    pass
        finally:
            close_for_good(connection)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(send, range(threads)))
    assert len(tracking_log) == len(events)
