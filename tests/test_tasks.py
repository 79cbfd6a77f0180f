"""Queue mode, with Celery's broker within the process; tests/services has real brokers and workers.

The messages go through the broker as they are encoded there, and the test is the worker.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, NoReturn

import pytest
from celery import Celery, current_app
from celery.exceptions import Reject
from django.core.cache import cache
from django.db import OperationalError, connection
from eventtracking.django.django_tracker import DjangoTracker
from eventtracking.tracker import get_tracker
from kombu import Connection
from pytest_django import Settings

from segmentio_bridge.deduplication import identify
from segmentio_bridge.outcomes import Outcome, Reason, UnrecordedEvent
from segmentio_bridge.signals import events_unrecorded
from segmentio_bridge.tasks import CHUNK_SIZE, MAX_RETRIES, record_events
from tests.conftest import deliver, registered
from tests.factories import make_event, make_event_of_website, make_properties
from tests.test_reporting import RecordingTelemetry

BROKER = "memory://"

TrackingLog = list[dict[str, Any]]
Message = tuple[list[Any], dict[str, Any]]


@pytest.fixture(autouse=True)
def app(settings: Settings) -> Iterator[Celery]:
    """A Celery app whose broker is in this process, with queue mode on."""
    settings.TRACKING_SEGMENTIO_DELIVERY = "celery"
    before = current_app._get_current_object()
    app = Celery("tests", broker=BROKER, set_as_current=True)
    yield app
    take_messages()
    app.close()
    before.set_current()


@pytest.fixture
def kept() -> Iterator[list[UnrecordedEvent]]:
    """What was not recorded and is offered for keeping, by which it is kept."""
    events: list[UnrecordedEvent] = []

    def keep(events: list[UnrecordedEvent], *, kept: Any = events, **kwargs: object) -> bool:
        kept.extend(events)
        return True

    events_unrecorded.connect(keep)
    yield events
    events_unrecorded.disconnect(keep)


def take_messages() -> list[Message]:
    """Take what waits in the queue, as its arguments and its headers."""
    messages = []
    with Connection(BROKER) as connection, connection.SimpleQueue("celery") as queue:
        while queue.qsize():
            message = queue.get_nowait()
            message.ack()
            (arguments, *_) = message.payload
            messages.append((arguments, message.headers))
    return messages


def work() -> list[Message]:
    """Run the tasks that wait in the queue, but none that these queue; return their messages."""
    messages = take_messages()
    for arguments, _ in messages:
        record_events(*arguments)
    return messages


def events_of(message: Message) -> list[Any]:
    (events, *_), _ = message
    found: list[Any] = json.loads(events)
    return found


@pytest.mark.usefixtures("learner")
def test_the_request_screens_and_a_worker_records(
    tracking_log: TrackingLog, outcomes: list[Outcome]
) -> None:
    accepted, unknown = make_event(messageId="m-1"), make_event(messageId="m-2", userId="2")
    body = [accepted, make_event_of_website(), unknown, None, make_event(messageId="m-3", type=1)]
    assert deliver(body) == 200
    assert [outcome.reason for outcome in outcomes] == [
        *[Reason.UNKNOWN_SOURCE, Reason.NOT_AN_OBJECT, Reason.UNSUPPORTED_TYPE]
    ]
    assert not tracking_log
    outcomes.clear()

    (message,) = work()
    assert events_of(message) == [accepted, unknown]
    assert outcomes == [
        Outcome(None, "m-1", "mobile"),
        Outcome(Reason.USER_NOT_FOUND, "m-2", "mobile"),
    ]
    assert len(tracking_log) == 1
    assert not take_messages()


@pytest.mark.usefixtures("learner")
def test_a_delivery_without_events_to_record_asks_no_broker(
    app: Celery, outcomes: list[Outcome]
) -> None:
    app.conf.broker_url = "amqp://127.0.0.1:1//"
    assert [deliver([]), deliver(make_event_of_website()), deliver(b"{}")] == [200] * 3
    assert len(outcomes) == 2


@pytest.mark.usefixtures("learner")
def test_what_is_logged_is_what_is_logged_inline(
    tracking_log: TrackingLog, settings: Settings
) -> None:
    events = [
        make_event(),
        make_event(properties=make_properties(context={"ip": "192.0.2.1", "1": {"é": "🚀\u2028"}})),
        make_event(properties=make_properties(data={"x": 1e21, "y": [1.0, -0.0, 2**60, None]})),
    ]
    # As the platform's middleware does around each request.
    request = {"host": "learn.example.org", "path": "/segmentio/event", "username": "", "ip": "::1"}
    with get_tracker().context("edx.request", request):
        deliver(events)
    work()
    settings.TRACKING_SEGMENTIO_DELIVERY = "inline"
    with get_tracker().context("edx.request", request):
        deliver(events)
    for event in tracking_log:
        del event["timestamp"]
    assert tracking_log[:3] == tracking_log[3:]
    assert repr(tracking_log[:3]) == repr(tracking_log[3:])
    assert tracking_log[0]["context"]["host"] == "learn.example.org"
    assert not get_tracker().located_context


@pytest.mark.usefixtures("learner")
@pytest.mark.parametrize(
    ("count", "chunks"),
    [(1, 1), (CHUNK_SIZE, 1), (CHUNK_SIZE + 1, 2), (4 * CHUNK_SIZE - 1, 4)],
)
def test_a_batch_is_queued_in_chunks_in_its_order(count: int, chunks: int, app: Celery) -> None:
    events = [make_event() for _ in range(count)]
    deliver(events)
    messages = take_messages()
    assert len(messages) == chunks
    assert [event for message in messages for event in events_of(message)] == events


@pytest.mark.usefixtures("learner")
def test_a_message_shows_nothing_of_the_events_but_in_its_body() -> None:
    deliver(make_event(userId="4711"))
    ((_, headers),) = take_messages()
    assert "4711" not in repr(headers)
    assert "learner@example.org" not in repr(headers)


@pytest.mark.usefixtures("learner")
def test_without_a_broker_the_delivery_comes_again(
    app: Celery,
    tracking_log: TrackingLog,
    kept: list[UnrecordedEvent],
    outcomes: list[Outcome],
    app_log: list[logging.LogRecord],
) -> None:
    app.conf.broker_url = "amqp://127.0.0.1:1//"
    start = time.monotonic()
    assert deliver([make_event(), "no object"]) == 503
    # In time for the sender to see it: Segment waits for five seconds.
    assert time.monotonic() - start < 4
    # The rejected one comes again too, and is kept then.
    assert not kept
    assert not outcomes
    (record,) = app_log
    assert record.levelno == logging.ERROR
    assert record.getMessage() == "The broker did not take a delivery."


@pytest.mark.usefixtures("learner")
def test_a_request_s_context_that_cannot_be_encoded_is_no_500(
    app_log: list[logging.LogRecord],
) -> None:
    with get_tracker().context("edx.request", {"what": object()}):
        assert deliver(make_event()) == 503
    assert [record.levelname for record in app_log] == ["ERROR"]


@pytest.mark.usefixtures("learner")
def test_what_is_rejected_is_offered_for_keeping_where_it_is_rejected(
    kept: list[UnrecordedEvent],
) -> None:
    nobody_s = json.dumps(make_event(userId="2", messageId="m-2"), indent=1)
    assert deliver(f'[ {nobody_s} , "no  object" ]'.encode()) == 200
    assert kept == [UnrecordedEvent(Outcome(Reason.NOT_AN_OBJECT, None), b'"no  object"')]
    kept.clear()
    work()
    # Byte for byte, by way of the broker.
    outcome = Outcome(Reason.USER_NOT_FOUND, "m-2", "mobile")
    assert kept == [UnrecordedEvent(outcome, nobody_s.encode())]


class FailingTracker(DjangoTracker):
    """A tracker that fails for the events of one name."""

    def emit(self, name: str | None = None, data: Any = None) -> None:
        if name == "refused":
            raise RuntimeError
        super().emit(name, data)


def named(name: str, **overrides: Any) -> dict[str, Any]:
    return make_event(properties=make_properties(name=name), **overrides)


@pytest.mark.usefixtures("learner")
def test_only_what_failed_is_tried_again(
    tracking_log: TrackingLog,
    outcomes: list[Outcome],
    kept: list[UnrecordedEvent],
) -> None:
    refused = named("refused", messageId="m-2")
    with registered(FailingTracker()):
        deliver([named("one", messageId="m-1"), refused, named("three", messageId="m-3")])
        work()
    assert [event["name"] for event in tracking_log] == ["one", "three"]
    assert [outcome.message_id for outcome in outcomes] == ["m-1", "m-3"]
    assert not kept
    outcomes.clear()

    (message,) = work()
    assert events_of(message) == [refused]
    assert [event["name"] for event in tracking_log] == ["one", "three", "refused"]
    assert outcomes == [Outcome(None, "m-2", "mobile")]


@pytest.mark.usefixtures("learner")
def test_an_outage_of_the_database_is_sat_out(
    tracking_log: TrackingLog, outcomes: list[Outcome]
) -> None:
    def gone(*arguments: Any) -> NoReturn:
        raise OperationalError

    deliver([make_event(), make_event()])
    with connection.execute_wrapper(gone):
        for _ in range(5):
            work()
    assert not outcomes
    work()
    assert len(tracking_log) == len(outcomes) == 2


class BrokenTelemetry(RecordingTelemetry):
    """A monitoring agent that takes nothing."""

    def set_attribute(self, key: str, value: object) -> NoReturn:
        raise AttributeError(f"no such attribute: {key}")


@pytest.mark.usefixtures("learner")
def test_monitoring_that_fails_harms_no_event(
    tracking_log: TrackingLog, settings: Settings, app_log: list[logging.LogRecord]
) -> None:
    deliver(make_event())
    settings.OPENEDX_TELEMETRY = [f"{__name__}.{BrokenTelemetry.__qualname__}"]
    work()
    assert len(tracking_log) == 1
    assert {record.levelname for record in app_log} == {"ERROR"}


@pytest.mark.usefixtures("learner")
def test_a_site_that_is_set_up_wrongly_is_sat_out(
    tracking_log: TrackingLog, settings: Settings
) -> None:
    deliver(make_event())
    settings.TRACKING_SEGMENTIO_PROTECTED_CONTEXT_KEYS = 7
    work()
    del settings.TRACKING_SEGMENTIO_PROTECTED_CONTEXT_KEYS
    work()
    assert len(tracking_log) == 1


@pytest.mark.usefixtures("learner")
def test_attempts_are_spread_over_more_than_four_hours(
    outcomes: list[Outcome],
    kept: list[UnrecordedEvent],
    app_log: list[logging.LogRecord],
) -> None:
    refused = named("refused", messageId="m-1")
    waits = []
    with registered(FailingTracker()):
        deliver(refused)
        while messages := take_messages():
            ((arguments, headers),) = messages
            waits.append(_seconds_until(headers["eta"]))
            record_events(*arguments)
    assert len(waits) == MAX_RETRIES + 1
    assert waits[0] == 0
    assert 0.5 < waits[1] <= 1.1
    assert sum(waits) > 4 * 3600
    # Less than RabbitMQ lets a consumer hold a message, and than Redis's default for it.
    assert max(waits) < 0.5 * 1800
    # In the end it is a failure like any other.
    assert outcomes == [Outcome(Reason.EMISSION_FAILED, "m-1", "mobile")]
    assert [json.loads(event.raw) for event in kept] == [refused]
    assert {record.levelname for record in app_log} == {"ERROR"}


def _seconds_until(eta: str | None) -> float:
    return 0 if eta is None else (datetime.fromisoformat(eta) - datetime.now(UTC)).total_seconds()


@pytest.mark.usefixtures("learner")
def test_an_outage_of_more_than_four_hours_fails_the_events(outcomes: list[Outcome]) -> None:
    def gone(*arguments: Any) -> NoReturn:
        raise OperationalError

    events = [make_event(messageId="m-1"), make_event(messageId="m-2")]
    with connection.execute_wrapper(gone):
        record_events(json.dumps(events), {}, MAX_RETRIES)
    assert outcomes == [
        Outcome(Reason.DATABASE_UNAVAILABLE, "m-1"),
        Outcome(Reason.DATABASE_UNAVAILABLE, "m-2"),
    ]
    assert not take_messages()


@pytest.mark.usefixtures("learner")
def test_what_cannot_be_queued_again_goes_back_to_the_queue(app: Celery) -> None:
    app.conf.broker_url = "amqp://127.0.0.1:1//"
    with registered(FailingTracker()), pytest.raises(Reject) as rejected:
        record_events(json.dumps([named("refused")]), {})
    assert rejected.value.requeue


@pytest.mark.usefixtures("learner")
def test_without_a_tracker_events_wait_for_it(tracking_log: TrackingLog) -> None:
    with registered(None):
        deliver(make_event())
        work()
    work()
    assert len(tracking_log) == 1


@pytest.mark.usefixtures("learner")
def test_a_claim_of_another_worker_is_sat_out(
    tracking_log: TrackingLog, settings: Settings
) -> None:
    settings.TRACKING_SEGMENTIO_DEDUPLICATION_SECONDS = 60
    cache.clear()
    deliver([make_event(messageId="held"), make_event(messageId="free")])
    cache.add(identify("held", b""), 1, 60)
    work()
    assert len(tracking_log) == 1
    cache.delete(identify("held", b""))
    work()
    assert len(tracking_log) == 2
    cache.clear()


def test_a_killed_worker_s_chunk_is_given_to_another() -> None:
    assert record_events.acks_late
    assert record_events.reject_on_worker_lost
