"""From raw events to outcomes: neighbours, users, failures and leaks."""

from __future__ import annotations

import copy
import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import DataError, OperationalError, connection
from eventtracking import tracker as tracking
from eventtracking.django.django_tracker import DjangoTracker
from pytest_django import DjangoAssertNumQueries, Settings

from segmentio_bridge.exceptions import ServiceUnavailable
from segmentio_bridge.outcomes import Outcome, Reason, Status, UnrecordedEvent
from segmentio_bridge.payload import parse_events
from segmentio_bridge.pipeline import Result, record, should_be_retried
from segmentio_bridge.pipeline import process as process_payload
from segmentio_bridge.signals import events_unrecorded
from tests.accounts.models import UUIDUser
from tests.conftest import registered
from tests.factories import ParsedPayload, make_event, make_event_of_website, make_properties

QUERY = "SELECT username FROM auth_user WHERE id IN (1)"

TrackingLog = list[dict[str, Any]]


class RefusingTracker(DjangoTracker):
    """A tracker that raises for events of one name, with the event in its message."""

    def emit(self, name: str | None = None, data: Any = None) -> None:
        if name == "refused":
            raise RuntimeError(f"no {name} for {data}")
        super().emit(name, data)


def named(name: str, **overrides: Any) -> dict[str, Any]:
    return make_event(properties=make_properties(name=name), **overrides)


def process(raw_events: Sequence[object]) -> list[Outcome]:
    return record(ParsedPayload(raw_events)).outcomes


def reasons(outcomes: list[Outcome]) -> list[Reason | None]:
    return [outcome.reason for outcome in outcomes]


@pytest.mark.usefixtures("learner")
def test_each_event_has_its_own_outcome_in_order(tracking_log: TrackingLog) -> None:
    raw_events: list[Any] = [
        make_event(messageId="m-1"),
        make_event_of_website(),
        "no object",
        make_event(userId="2", messageId="m-2"),
        make_event(userId="1_0"),
        make_event(messageId=7, userId=1),
    ]
    before = copy.deepcopy(raw_events)
    assert process(raw_events) == [
        Outcome(None, "m-1", "mobile"),
        Outcome(Reason.UNKNOWN_SOURCE, raw_events[1]["messageId"], None),
        Outcome(Reason.NOT_AN_OBJECT, None, None),
        Outcome(Reason.USER_NOT_FOUND, "m-2", "mobile"),
        Outcome(Reason.INVALID_USER_ID, raw_events[4]["messageId"], "mobile"),
        Outcome(None, None, "mobile"),
    ]
    assert len(tracking_log) == 2
    assert raw_events == before


@pytest.mark.usefixtures("learner")
@pytest.mark.parametrize(("count", "queries"), [(0, 0), (1, 1), (500, 1)])
def test_a_delivery_makes_one_user_query_at_most(
    count: int, queries: int, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    raw_events = [make_event(userId=str(number)) for number in range(1, count + 1)]
    with django_assert_num_queries(queries):
        assert (
            reasons(process(raw_events)) == [None, *[Reason.USER_NOT_FOUND] * (count - 1)][:count]
        )


@pytest.mark.django_db
def test_events_that_do_not_survive_cost_no_query(
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    with django_assert_num_queries(0):
        process([make_event_of_website(), make_event(timestamp=None), make_event(userId="x"), None])


@pytest.mark.django_db
def test_a_user_model_with_a_uuid_key(tracking_log: TrackingLog, settings: Settings) -> None:
    settings.AUTH_USER_MODEL = "accounts.UUIDUser"
    user = UUIDUser.objects.create(email="ada@example.org")
    raw_events = [make_event(userId=str(user.pk)), make_event(userId=user.pk.hex), make_event()]
    assert reasons(process(raw_events)) == [None, None, Reason.INVALID_USER_ID]
    # An identifier that the tracking log and every other consumer can encode.
    assert [event["context"]["user_id"] for event in tracking_log] == [str(user.pk)] * 2
    assert {event["context"]["username"] for event in tracking_log} == {"ada@example.org"}


@pytest.mark.usefixtures("learner")
def test_without_a_database_nothing_is_emitted(
    tracking_log: TrackingLog, app_log: list[logging.LogRecord]
) -> None:
    def gone(*arguments: Any) -> NoReturn:
        raise OperationalError("no answer to " + QUERY)

    with connection.execute_wrapper(gone), pytest.raises(ServiceUnavailable):
        process([make_event(), make_event_of_website()])
    assert not tracking_log
    (record,) = app_log
    assert record.levelno == logging.ERROR
    text = logging.Formatter().format(record)
    assert "OperationalError" in text
    assert QUERY not in text


@pytest.mark.usefixtures("learner")
def test_a_key_that_the_database_refuses_is_invalid(tracking_log: TrackingLog) -> None:
    def refuse_4711(execute: Any, sql: str, parameters: Any, *rest: Any) -> Any:
        if 4711 in parameters:
            raise DataError("out of range")
        return execute(sql, parameters, *rest)

    raw_events = [make_event(), make_event(userId="4711"), make_event(userId="2")]
    with connection.execute_wrapper(refuse_4711):
        outcomes = process(raw_events)
    assert reasons(outcomes) == [None, Reason.INVALID_USER_ID, Reason.USER_NOT_FOUND]
    assert len(tracking_log) == 1


@pytest.mark.usefixtures("learner")
@pytest.mark.parametrize(
    "name",
    ["ALLOWED_TYPES", "SOURCE_MAP", "DISALLOWED_SUBSTRING_NAMES", "PROTECTED_CONTEXT_KEYS"],
)
def test_with_a_wrong_setting_nothing_is_emitted(
    name: str, tracking_log: TrackingLog, settings: Settings
) -> None:
    setattr(settings, f"TRACKING_SEGMENTIO_{name}", 7)
    with pytest.raises(ImproperlyConfigured, match=f"TRACKING_SEGMENTIO_{name}"):
        process([make_event()])
    assert not tracking_log


@pytest.mark.usefixtures("learner")
def test_settings_are_obeyed(tracking_log: TrackingLog, settings: Settings) -> None:
    settings.TRACKING_SEGMENTIO_SOURCE_MAP = {"analytics.js": "website"}
    settings.TRACKING_SEGMENTIO_ALLOWED_TYPES = ["Screen"]
    settings.TRACKING_SEGMENTIO_DISALLOWED_SUBSTRING_NAMES = ["Private"]
    settings.TRACKING_SEGMENTIO_PROTECTED_CONTEXT_KEYS = ["component"]
    website: dict[str, Any] = {"context": {"library": {"name": "analytics.js"}}, "type": "screen"}
    raw_events = [
        make_event(),
        named("edx.video.loaded", **website),
        named("a PRIVATE matter", **website),
    ]
    assert reasons(process(raw_events)) == [Reason.UNKNOWN_SOURCE, None, Reason.DISALLOWED_NAME]
    assert tracking_log[0]["context"]["event_source"] == "website"
    assert "component" not in tracking_log[0]["context"]


@pytest.mark.usefixtures("learner")
def test_an_emission_that_fails_affects_nothing_else(
    tracking_log: TrackingLog, app_log: list[logging.LogRecord]
) -> None:
    with registered(RefusingTracker()):
        outcomes = process([named("one"), named("refused", messageId="m-2"), named("three")])
        left_over = dict(tracking.get_tracker().located_context)
    assert reasons(outcomes) == [None, Reason.EMISSION_FAILED, None]
    assert [event["name"] for event in tracking_log] == ["one", "three"]
    assert not left_over
    (record,) = app_log
    assert record.levelno == logging.ERROR
    assert record.getMessage() == "Event 'm-2' failed: emission_failed."
    # The traceback leads to the cause; its message, which quotes the event, is withheld.
    text = logging.Formatter().format(record)
    assert "in emit" in text
    assert "currentTime" not in text


@pytest.mark.usefixtures("learner")
def test_without_a_tracker_the_events_fail(app_log: list[logging.LogRecord]) -> None:
    with registered(None):
        outcomes = process([make_event(), make_event(), make_event_of_website()])
    assert reasons(outcomes) == [
        Reason.TRACKER_DISABLED,
        Reason.TRACKER_DISABLED,
        Reason.UNKNOWN_SOURCE,
    ]
    (record,) = app_log
    assert record.levelno == logging.ERROR
    assert "EVENT_TRACKING_ENABLED" in record.getMessage()


class ValidationTrap(dict[str, Any]):
    """An object that no JSON can say: it raises when its properties are looked for."""

    def get(self, key: str, default: Any = None) -> Any:
        if key == "properties":
            raise RuntimeError("sprung by validation")
        return super().get(key, default)


class KeyTrap(int):
    """A number that no JSON can say: it raises when it is compared with others."""

    def __ge__(self, other: int) -> NoReturn:
        raise RuntimeError("sprung by the range of the key")


class ContextTrap(dict[str, Any]):
    """An object that no JSON can say: it raises when it is copied to the tracking context."""

    def items(self) -> NoReturn:
        raise RuntimeError("sprung by the context")


@pytest.mark.usefixtures("learner")
def test_an_unexpected_error_affects_nothing_else(
    tracking_log: TrackingLog, app_log: list[logging.LogRecord]
) -> None:
    raw_events = [
        named("one"),
        ValidationTrap(make_event()),
        make_event(userId=KeyTrap(1)),
        make_event(context=ContextTrap(make_event()["context"])),
        named("five"),
    ]
    outcomes = process(raw_events)
    assert reasons(outcomes) == [None, *[Reason.INTERNAL_ERROR] * 3, None]
    assert [event["name"] for event in tracking_log] == ["one", "five"]
    assert [record.levelno for record in app_log] == [logging.ERROR] * 3


@pytest.mark.usefixtures("learner")
def test_nothing_of_one_context_is_visible_to_the_next_event(tracking_log: TrackingLog) -> None:
    own = make_properties(context={"only": "mine"}, course_id="course-v1:A+B+C")
    bare = {"name": "bare", "data": {}}
    process([make_event(properties=own), make_event(properties=bare)])
    process([make_event(properties=bare)])
    first, *others = (event["context"] for event in tracking_log)
    assert {"only", "label", "course_id", "org_id"} <= first.keys()
    for context in others:
        assert not {"only", "label", "course_id", "org_id"} & context.keys()


@pytest.mark.usefixtures("learner")
def test_the_context_of_the_request_shows_through(tracking_log: TrackingLog) -> None:
    request_context = {"host": "learn.example.org", "username": "", "agent": "Segment.io/1.0"}
    with tracking.get_tracker().context("edx.request", request_context):
        process([make_event()])
    context = tracking_log[0]["context"]
    assert context["host"] == "learn.example.org"
    assert context["username"] == "ada"
    assert context["agent"].startswith("Dalvik")


EMITTED = Outcome(None, None)
IGNORED = Outcome(Reason.UNKNOWN_SOURCE, None)
REJECTED = Outcome(Reason.MISSING_NAME, None)
DUPLICATE = Outcome(Reason.DUPLICATE, None)
FAILED = Outcome(Reason.EMISSION_FAILED, None)


@pytest.mark.parametrize(
    ("outcomes", "is_kept", "is_deduplicated", "expected"),
    [
        ([], False, False, False),
        ([EMITTED, DUPLICATE], False, True, False),
        ([IGNORED, REJECTED], False, True, False),
        ([FAILED], False, False, True),
        ([FAILED], False, True, True),
        ([FAILED, IGNORED, REJECTED, DUPLICATE], False, False, True),
        # The second delivery would double what was emitted, unless that is known by then.
        ([FAILED, EMITTED], False, False, False),
        ([FAILED, EMITTED], False, True, True),
        # It would save nothing.
        ([FAILED], True, False, False),
        ([FAILED, EMITTED], True, True, False),
    ],
)
def test_a_delivery_is_retried_if_that_saves_something_and_doubles_nothing(
    outcomes: list[Outcome], is_kept: bool, is_deduplicated: bool, expected: bool
) -> None:
    retried = should_be_retried(outcomes, is_kept=is_kept, is_deduplicated=is_deduplicated)
    assert retried is expected


class Keeper:
    """Receives what was not recorded, and returns or raises its answer."""

    def __init__(self, answer: object) -> None:
        self.answer = answer
        self.events: list[UnrecordedEvent] = []

    def receive(self, events: list[UnrecordedEvent], **kwargs: object) -> object:
        self.events += events
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@contextmanager
def kept_by(*keepers: Keeper) -> Iterator[None]:
    for keeper in keepers:
        events_unrecorded.connect(keeper.receive)
    try:
        yield
    finally:
        for keeper in keepers:
            events_unrecorded.disconnect(keeper.receive)


@pytest.mark.usefixtures("learner")
@pytest.mark.parametrize(
    ("answers", "is_retried"),
    [
        ([], True),
        ([True], False),
        ([None], True),
        (["yes"], True),
        ([RuntimeError("no room")], True),
        ([RuntimeError("no room"), True], False),
    ],
)
def test_what_is_kept_need_not_come_again(answers: list[object], is_retried: bool) -> None:
    keepers = [Keeper(answer) for answer in answers]
    body = json.dumps([named("refused"), named("refused")]).encode()
    with registered(RefusingTracker()), kept_by(*keepers):
        result = process_payload(parse_events(body))
    assert result.should_be_retried is is_retried
    assert [outcome.status for outcome in result.outcomes] == [Status.FAILED] * 2


@pytest.mark.usefixtures("learner")
def test_what_is_offered_for_keeping_is_what_came_byte_for_byte() -> None:
    keeper = Keeper(True)
    slices = [
        json.dumps(named("refused"), ensure_ascii=False, indent=2).encode(),
        b'{"context" : {"library":{"name":"analytics-ios"}},"type":"track","x":[1e21,"\\ud800"]}',
        json.dumps(make_event()).encode(),
        json.dumps(make_event_of_website()).encode(),
        b"null",
    ]
    with registered(RefusingTracker()), kept_by(keeper):
        result = process_payload(parse_events(b" [ " + b" ,\n".join(slices) + b"] "))
        single = process_payload(parse_events(b"\n" + slices[1] + b" "))
    failed, rejected, emitted, ignored, scalar = result.outcomes
    assert (emitted.reason, ignored.reason) == (None, Reason.UNKNOWN_SOURCE)
    assert keeper.events == [
        UnrecordedEvent(failed, slices[0]),
        UnrecordedEvent(rejected, slices[1]),
        UnrecordedEvent(scalar, slices[4]),
        UnrecordedEvent(single.outcomes[0], slices[1]),
    ]


@pytest.mark.usefixtures("learner")
def test_what_is_recorded_is_not_offered_for_keeping() -> None:
    keeper = Keeper(True)
    with kept_by(keeper):
        body = json.dumps([make_event(), make_event_of_website()]).encode()
        assert process_payload(parse_events(body)) == Result(
            record(parse_events(body)).outcomes, should_be_retried=False
        )
    assert not keeper.events


def test_reasons_have_a_status_and_a_sentence() -> None:
    for reason in Reason:
        assert reason.status is not Status.EMITTED
        assert reason.description.endswith((".", "?"))
        assert reason == reason.value == str(reason)
