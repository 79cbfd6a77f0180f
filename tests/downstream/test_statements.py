"""Mobile events, delivered as by Segment, in stores of learning records."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import override_settings
from django_redis import get_redis_connection
from eventtracking.django.django_tracker import DjangoTracker
from pytest_django import Settings
from ralph.models.xapi.base.statements import BaseXapiStatement

from segmentio_bridge.outcomes import Reason
from segmentio_bridge.pipeline import process
from tests.conftest import registered
from tests.downstream.caliper import find_errors
from tests.downstream.conftest import Deliver
from tests.downstream.mobile import (
    BLOCK_ID,
    DATA,
    PAGE,
    ROWS,
    SEQUENCE,
    VIDEO,
    Row,
    make_mobile_event,
)
from tests.downstream.settings import LMS_ROOT_URL, PREPARED_BACKENDS
from tests.downstream.stand_ins import CCX_ID, COURSE_ID, COURSES, find_external_id
from tests.downstream.stores import CaliperStore, Ralph
from tests.factories import ParsedPayload, make_event, make_properties
from tests.servers import Redis

pytestmark = pytest.mark.downstream

TrackingLog = list[dict[str, Any]]

# Of `make_event()`.
HAPPENED = datetime(2026, 3, 2, 9, 15, 27, 352000, UTC)

EXTENSION = "https://w3id.org/xapi/video/extensions"

#: What a statement tells of a video beside the verb: the end of the extension's name, and a value.
RESULTS: dict[str, dict[str, object]] = {
    "edx.video.played": {"time": 12.48},
    "edx.video.paused": {"time": 12.48},
    "edx.video.stopped": {"time": 12.48},
    "edx.video.completed": {"time": 61.5},
    "edx.video.position.changed": {"time-from": 42.5, "time-to": 12.5},
    "edx.video.transcript.shown": {"time": 12.48, "cc-enabled": True},
    "edx.video.transcript.hidden": {"time": 12.48, "cc-enabled": False},
    "edx.video.closed_captions.shown": {"time": 12.48, "cc-enabled": True},
    "edx.video.closed_captions.hidden": {"time": 12.48, "cc-enabled": False},
}


def find_object(name: str) -> str:
    """Return the IRI of what an event is about."""
    if "target_url" in DATA[name]:
        return PAGE
    return f"{LMS_ROOT_URL}/xblock/{SEQUENCE if name.startswith('edx.ui.') else VIDEO}"


def problems_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what has gone wrong in event-tracking and behind it, which they swallow and log."""
    return [
        record.getMessage()
        for record in caplog.records
        if record.levelno >= logging.WARNING
        and record.name.startswith(("celery", "event_routing_backends", "eventtracking"))
    ]


def test_the_page_names_every_event() -> None:
    assert {row.name for row in ROWS} == set(DATA)
    assert {row.name for row in ROWS if row.verb and row.name.startswith("edx.video.")} == {
        *RESULTS,
        "edx.video.loaded",
    }


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_statements_for_xapi_are_what_the_page_says(
    row: Row,
    deliver: Deliver,
    xapi: Ralph,
    settings: Settings,
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings.CALIPER_EVENTS_ENABLED = False
    event = make_mobile_event(row.name)
    deliver(event)
    deliver(event)
    statements = xapi.statements()
    assert len(statements) == (1 if row.verb else 0)
    for statement in statements:
        check_statement(statement, row)
        assert not problems_in(caplog)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_events_for_caliper_are_what_the_page_says(
    row: Row,
    deliver: Deliver,
    caliper: CaliperStore,
    settings: Settings,
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings.XAPI_EVENTS_ENABLED = False
    event = make_mobile_event(row.name)
    deliver(event)
    assert len(caliper.envelopes) == (1 if row.action else 0)
    for envelope in caliper.envelopes:
        check_envelope(envelope, row)
        assert not problems_in(caplog)


def check_statement(statement: dict[str, Any], row: Row) -> None:
    BaseXapiStatement.model_validate(statement)
    assert statement["actor"]["account"] == {
        "homePage": LMS_ROOT_URL,
        "name": find_external_id(1, "xapi"),
    }
    assert datetime.fromisoformat(statement["timestamp"]) == HAPPENED
    assert statement["verb"]["display"] == {"en": row.verb}
    assert statement["object"]["id"] == find_object(row.name)
    (course,) = statement["context"]["contextActivities"]["parent"]
    assert course["id"] == f"{LMS_ROOT_URL}/course/{COURSE_ID}"
    assert course["definition"]["name"] == {"en-US": COURSES[COURSE_ID]}
    assert statement.get("result", {}).get("extensions", {}) == {
        f"{EXTENSION}/{name}": value for name, value in RESULTS.get(row.name, {}).items()
    }


def check_envelope(envelope: dict[str, Any], row: Row) -> None:
    errors = find_errors(envelope)
    if row.name == "edx.ui.lms.link_clicked":
        # As the page says: the package's own spelling.
        assert errors == ["'Webpage' is not one of " + errors[0].partition(" one of ")[2]]
    else:
        assert not errors
    (event,) = envelope["data"]
    assert event["actor"]["id"] == f"{LMS_ROOT_URL}/user/{find_external_id(1, 'caliper')}"
    assert event["eventTime"] == "2026-03-02T09:15:27.352Z"
    assert event["action"] == row.action
    assert event["object"]["id"] == find_object(row.name)
    course = event["object"]["extensions"]["isPartOf"]["id"]
    assert course == f"{LMS_ROOT_URL}/course/{COURSE_ID}"


def test_a_batch_is_as_good_as_single_deliveries(
    deliver: Deliver, xapi: Ralph, settings: Settings
) -> None:
    settings.CALIPER_EVENTS_ENABLED = False
    names = [row.name for row in ROWS if row.verb]
    # Each at a moment of its own: what tells statements apart is who did what, and when.
    events = [
        {**make_mobile_event(name), "timestamp": f"2026-03-02T09:15:{second:02}Z"}
        for second, name in enumerate(names)
    ]
    for event in events:
        deliver(event)
    alone = xapi.statements()
    deliver(*events)
    deliver(*reversed(events))
    assert xapi.statements() == alone
    assert [datetime.fromisoformat(one["timestamp"]).second for one in alone] == [
        *range(len(names))
    ]


@contextmanager
def tracker_with(**settings: Any) -> Iterator[None]:
    """Have the tracker of a site with other settings."""
    with override_settings(**settings), registered(DjangoTracker()):
        yield


def test_the_other_way_of_the_page_leads_to_the_same(
    deliver: Deliver, xapi: Ralph, tracking_log: TrackingLog
) -> None:
    event = make_mobile_event("edx.video.paused")
    deliver(event)
    (statement,) = xapi.statements()
    with tracker_with(EVENT_TRACKING_PROCESSORS=[], EVENT_TRACKING_BACKENDS=PREPARED_BACKENDS):
        deliver(event)
    assert xapi.statements() == [statement]
    # The other backends see the event as it is.
    prepared, plain = tracking_log
    assert datetime.fromisoformat(prepared["timestamp"]) == HAPPENED
    assert datetime.fromisoformat(plain["timestamp"]) > HAPPENED
    assert plain["data"] == DATA["edx.video.paused"]


def test_without_the_processors_videos_are_lost_and_times_are_wrong(
    deliver: Deliver, xapi: Ralph, caplog: pytest.LogCaptureFixture
) -> None:
    before = datetime.now(UTC)
    with tracker_with(EVENT_TRACKING_PROCESSORS=[]):
        deliver(make_mobile_event("edx.video.paused"))
        assert not xapi.statements()
        assert "Could not get value for data.id" in caplog.text
        event = make_mobile_event("edx.ui.lms.outline.selected")
        deliver(event)
        deliver(event)
    first, second = xapi.statements()
    assert first["id"] != second["id"]
    assert datetime.fromisoformat(first["timestamp"]) > before


def test_in_queue_mode_statements_are_the_same(
    deliver: Deliver, xapi: Ralph, settings: Settings
) -> None:
    event = make_mobile_event("edx.video.paused")
    deliver(event)
    (statement,) = xapi.statements()
    settings.TRACKING_SEGMENTIO_DELIVERY = "celery"
    deliver(event)
    assert xapi.statements() == [statement]


def test_in_batches_of_the_package_statements_are_the_same(
    deliver: Deliver, xapi: Ralph, settings: Settings
) -> None:
    """The package's routers can gather events in Redis, as JSON, and send them together."""
    events = [make_mobile_event("edx.video.paused"), make_mobile_event("edx.video.played")]
    with Redis() as redis:
        settings.CACHES = {
            "default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": redis.url}
        }
        settings.EVENT_ROUTING_BACKEND_BATCHING_ENABLED = True
        settings.EVENT_ROUTING_BACKEND_BATCH_SIZE = 4
        # The first batch is sent at once: nothing has been sent before.
        for event in (make_mobile_event("edx.video.stopped"), *events, *events):
            deliver(event)
        assert get_redis_connection().llen("dead_queue_xAPI") == 0
    stopped, *others = xapi.statements()
    assert stopped["verb"]["display"] == {"en": "terminated"}
    assert {one["verb"]["display"]["en"] for one in others} == {"paused", "played"}
    assert len(others) == 2
    for statement in (stopped, *others):
        BaseXapiStatement.model_validate(statement)
        assert datetime.fromisoformat(statement["timestamp"]) == HAPPENED


@pytest.mark.parametrize(
    ("course_id", "module_id", "block"),
    [
        (COURSE_ID, VIDEO, VIDEO),
        (COURSE_ID, BLOCK_ID, VIDEO),
        (
            CCX_ID,
            f"ccx-block-v1:ExampleX+EX101+2026_T1+ccx@7+type@video+block@{BLOCK_ID}",
            f"ccx-block-v1:ExampleX+EX101+2026_T1+ccx@7+type@video+block@{BLOCK_ID}",
        ),
        (COURSE_ID, "block-v1:no-usage-key", None),
        (COURSE_ID, f"lb:ExampleX:library:video:{BLOCK_ID}", None),
        (None, VIDEO, None),
        ("course-v1:ExampleX+EX101+unknown", VIDEO, None),
        ("ExampleX/EX101/2014", f"i4x://ExampleX/EX101/video/{BLOCK_ID}", None),
    ],
    ids=[
        *("usage key", "bare id", "custom course", "no usage key", "of a library", "no course"),
        *("unknown course", "old ids"),
    ],
)
def test_ids(
    course_id: str | None,
    module_id: str,
    block: str | None,
    deliver: Deliver,
    xapi: Ralph,
    tracking_log: TrackingLog,
) -> None:
    context = {} if course_id is None else {"course_id": course_id}
    data = {"module_id": module_id, "current_time": 1}
    deliver(
        make_event(properties=make_properties(name="edx.video.paused", data=data, context=context))
    )
    assert [one["object"]["id"] for one in xapi.statements()] == (
        [f"{LMS_ROOT_URL}/xblock/{block}"] if block else []
    )
    assert len(tracking_log) == 1


# What the page warns of: these tests say when it no longer needs to.


def test_two_events_of_one_moment_and_verb_are_one_statement(deliver: Deliver, xapi: Ralph) -> None:
    deliver(
        make_mobile_event("edx.video.transcript.hidden"),
        make_mobile_event("edx.video.closed_captions.shown"),
    )
    (statement,) = xapi.statements()
    assert statement["result"]["extensions"][f"{EXTENSION}/cc-enabled"] is False


@pytest.mark.parametrize("data", [{"user_id": 2}, {"username": "bob"}, {"a": {"user_id": 2}}])
def test_the_package_believes_what_the_data_say_of_the_learner(
    data: dict[str, Any], deliver: Deliver, xapi: Ralph
) -> None:
    User.objects.create(pk=2, username="bob")
    deliver(make_mobile_event("edx.video.paused", **data))
    (statement,) = xapi.statements()
    assert statement["actor"]["account"]["name"] == find_external_id(2, "xapi")


def test_the_ids_of_caliper_are_never_the_same(deliver: Deliver, caliper: CaliperStore) -> None:
    event = make_mobile_event("edx.video.paused")
    deliver(event)
    deliver(event)
    first, second = (envelope["data"][0] for envelope in caliper.envelopes)
    assert first.pop("id") != second.pop("id")
    assert first == second
    assert first["object"]["duration"] == "P0D"


@pytest.mark.parametrize("caliper_is_enabled", [False, True])
def test_caliper_takes_the_id_of_a_sequence_from_xapi(
    deliver: Deliver,
    xapi: Ralph,
    caliper: CaliperStore,
    settings: Settings,
    *,
    caliper_is_enabled: bool,
) -> None:
    settings.CALIPER_EVENTS_ENABLED = caliper_is_enabled
    deliver(make_mobile_event("edx.ui.lms.sequence.next_selected"))
    assert len(caliper.envelopes) == int(caliper_is_enabled)
    assert len(xapi.statements()) == int(not caliper_is_enabled)


def test_a_video_of_unknown_length_is_completed_without_a_result(
    deliver: Deliver, xapi: Ralph
) -> None:
    deliver(make_mobile_event("edx.video.completed", duration=None))
    (statement,) = xapi.statements()
    assert statement["result"] == {"completion": True, "extensions": {}}


def test_the_current_apps_are_rejected(deliver: Deliver, tracking_log: TrackingLog) -> None:
    properties = {
        "name": "edx.bi.app.videos.played",
        "course_id": COURSE_ID,
        "component": "video_player",
        "open_in_browser_url": "https://video.example.org/1.m3u8",
        "current_time": 12,
        "play_medium": "native",
    }
    event = make_event(properties=properties)
    deliver(event)
    assert not tracking_log
    (outcome,) = process(ParsedPayload([event])).outcomes
    assert outcome.reason is Reason.MISSING_DATA
