"""The processors for event-tracking: whose events they prepare, and how; others are left alone."""

from __future__ import annotations

import copy
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Any

import pytest
from django.contrib.auth.models import User as Learner
from django.test import override_settings
from eventtracking.backends.logger import DateTimeJSONEncoder
from eventtracking.backends.routing import RoutingBackend
from eventtracking.django.django_tracker import DjangoTracker
from eventtracking.tracker import Tracker, get_tracker

from segmentio_bridge.context import build_context
from segmentio_bridge.events import Event, User
from segmentio_bridge.outcomes import Reason
from segmentio_bridge.pipeline import process
from segmentio_bridge.processors import EventTimeProcessor, MobileVideoProcessor
from segmentio_bridge.validation import Rules, validate
from tests.conftest import registered
from tests.factories import ParsedPayload, make_event, make_properties
from tests.hostile import VALUES

RULES = Rules({"analytics-kotlin": "mobile"}, frozenset({"track"}), ())

# Of `make_event()`.
HAPPENED = datetime(2026, 3, 2, 9, 15, 27, 352000, UTC)
RECEIVED = datetime(2026, 3, 2, 9, 15, 29, 4000, UTC)
EMITTED = datetime(2026, 3, 2, 9, 16, 1, 123456, UTC)

BLOCK = "block-v1:ExampleX+EX101+2026_T1+type@video+block@8f3ad1c6a1d94b0c"

BOTH = [
    {"ENGINE": "segmentio_bridge.processors.EventTimeProcessor"},
    {"ENGINE": "segmentio_bridge.processors.MobileVideoProcessor"},
]


def emitted(**overrides: Any) -> dict[str, Any]:
    """Return what the tracker makes of an event; `overrides` replace its top-level fields."""
    raw = make_event()
    event = validate(raw, RULES)
    assert isinstance(event, Event)
    return {
        "name": event.name,
        "timestamp": EMITTED,
        "data": event.properties["data"],
        "context": build_context(event, User(1, "ada"), ()),
        **overrides,
    }


def with_context(**overrides: Any) -> dict[str, Any]:
    """Return `emitted()` with other values in its context."""
    return emitted(context={**emitted()["context"], **overrides})


def of_video(name: str = "edx.video.played", **data: Any) -> dict[str, Any]:
    return emitted(name=name, data=data)


def encoded(event: dict[str, Any]) -> str:
    return json.dumps(event, cls=DateTimeJSONEncoder)


def transported(event: dict[str, Any]) -> dict[str, Any]:
    """Return an event as it comes out of event-tracking's JSON."""
    result: dict[str, Any] = json.loads(encoded(event))
    return result


class Keep:
    """A backend that keeps what it is sent."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def send(self, event: dict[str, Any]) -> None:
        self.events.append(event)


@contextmanager
def tracker_of_settings(keep: Keep) -> Iterator[None]:
    """Have the tracker of a site that names both processors for all its backends."""
    with override_settings(EVENT_TRACKING_PROCESSORS=BOTH, EVENT_TRACKING_BACKENDS={}):
        tracker = DjangoTracker()
    tracker.routing_backend.register_backend("keep", keep)
    with registered(tracker):
        yield


# The time of an event


def test_an_event_is_stamped_with_the_moment_it_happened() -> None:
    event = emitted()
    result = EventTimeProcessor()(event)
    assert result == {**emitted(), "timestamp": HAPPENED}
    assert result["data"] is event["data"]
    assert result["context"] is event["context"]
    assert event["timestamp"] == EMITTED


@pytest.mark.parametrize(
    ("event", "stamp"),
    [
        (transported(emitted()), "2026-03-02T09:15:27.352000+00:00"),
        (with_context(timestamp=HAPPENED.replace(microsecond=0)), HAPPENED.replace(microsecond=0)),
        ({**transported(emitted()), "timestamp": EMITTED}, HAPPENED),
        (emitted(timestamp="2026-03-02T09:16:01Z"), "2026-03-02T09:15:27.352000+00:00"),
        (
            transported(with_context(timestamp=HAPPENED.replace(microsecond=0))),
            "2026-03-02T09:15:27.000000+00:00",
        ),
        (
            with_context(timestamp="2026-03-02T09:15:27.352Z", received_at="2026-03-02T09:15:29Z"),
            HAPPENED,
        ),
    ],
    ids=["JSON", "whole second", "event bus", "its stamp only", "whole second in JSON", "Z"],
)
def test_a_stamp_keeps_the_form_that_it_has_on_its_way(
    event: dict[str, Any], stamp: datetime | str
) -> None:
    result = EventTimeProcessor()(event)
    assert result == {**event, "timestamp": stamp}
    assert EventTimeProcessor()(result) == result
    if isinstance(stamp, str):
        # As event-tracking's event bus backend reads it.
        assert datetime.strptime(stamp, "%Y-%m-%dT%H:%M:%S.%f%z") == datetime.fromisoformat(stamp)


def test_an_event_without_a_stamp_gets_none() -> None:
    for event in (emitted(timestamp=None), {**emitted(), "time": HAPPENED}):
        event.pop("timestamp", None)
        assert EventTimeProcessor()(event) is event


def test_an_event_that_comes_again_is_stamped_with_the_same_moment(learner: Learner) -> None:
    keep = Keep()
    with tracker_of_settings(keep):
        for _ in range(2):
            process(ParsedPayload([make_event(messageId="the same")]))
    first, second = keep.events
    assert first == second
    assert first["timestamp"] == HAPPENED


# Whose events they are

CONTEXT_OF_BRIDGE = emitted()["context"]


class BrokenZone(tzinfo):
    """A time zone that cannot say what it is."""

    dst = tzname = None  # type: ignore[assignment]  # what is never asked

    def utcoffset(self, moment: datetime | None) -> timedelta:
        """Fail, and quote the event."""
        raise RuntimeError(f"on {moment:%Y-%m-%d}")


NO_CONTEXTS: list[object] = [None, "x", [], {}, [("timestamp", HAPPENED)]]
NO_MOMENTS: list[object] = [
    *(None, 0, 1772442927.352, True, [], {}, "", "yesterday", "1772442927", "{}"),
    *(date(2026, 3, 2), HAPPENED.replace(tzinfo=None), "2026-03-02T09:15:27.352"),
]


@pytest.mark.parametrize(
    "event",
    [
        None,
        "edx.video.played",
        [emitted()],
        {},
        *(emitted(context=context) for context in NO_CONTEXTS),
        *(
            emitted(context={key: value for key, value in CONTEXT_OF_BRIDGE.items() if key != left})
            for left in (
                *("agent", "application", "client", "event_source", "ip", "received_at"),
                *("timestamp", "user_id", "username"),
            )
        ),
        emitted(context={"timestamp": HAPPENED, "received_at": RECEIVED, "user_id": 1}),
        *(
            with_context(**{key: value})
            for key in ("timestamp", "received_at")
            for value in NO_MOMENTS
        ),
    ],
    ids=repr,
)
def test_what_did_not_come_through_the_bridge_is_left_alone(
    event: Any, app_log: list[logging.LogRecord]
) -> None:
    before = copy.deepcopy(event)
    for processor in (EventTimeProcessor(), MobileVideoProcessor()):
        assert processor(event) is event
    assert event == before
    assert not app_log


def test_every_context_of_the_bridge_is_known() -> None:
    barest = make_event(
        context={"library": {"name": "analytics-kotlin"}},
        properties={"name": "edx.video.played", "data": {"module_id": BLOCK}},
    )
    event = validate(barest, RULES)
    assert isinstance(event, Event)
    context = build_context(event, User(1, "ada"), ())
    assert EventTimeProcessor()(emitted(context=context))["timestamp"] == HAPPENED


@pytest.mark.parametrize("text", VALUES.values(), ids=VALUES)
def test_a_client_cannot_make_the_bridge_s_own_event_a_stranger(text: str) -> None:
    value = json.loads(text)
    keys = [*CONTEXT_OF_BRIDGE, "timestamp", "received_at", "data", "name"]
    raw = make_event(properties=make_properties(context=dict.fromkeys(keys, value)))
    event = validate(raw, RULES)
    if event is Reason.TOO_DEEP:
        return
    assert isinstance(event, Event)
    context = build_context(event, User(1, "ada"), ())
    assert EventTimeProcessor()(emitted(context=context))["timestamp"] == HAPPENED


def test_events_of_other_emitters_in_the_process_are_left_alone(learner: Learner) -> None:
    keep = Keep()
    data = {"module_id": BLOCK, "current_time": 1}
    before = datetime.now(UTC)
    with tracker_of_settings(keep):
        tracker = get_tracker()
        with tracker.context("edx.request", {"timestamp": HAPPENED, "session": "x"}):
            tracker.emit("edx.video.played", data)
            process(ParsedPayload([make_event()]))
            tracker.emit("edx.video.played", data)
    first, of_bridge, last = keep.events
    assert of_bridge["timestamp"] == HAPPENED
    assert first["timestamp"] > before
    assert last["timestamp"] > before
    assert first["data"] == last["data"] == data


# The fields of a video player


@pytest.mark.parametrize(
    ("module_id", "block_id"),
    [
        (BLOCK, "8f3ad1c6a1d94b0c"),
        (BLOCK.replace("block-v1:", "ccx-block-v1:").replace("T1", "T1+ccx@7"), "8f3ad1c6a1d94b0c"),
        ("block-v1:X+Y+Z+type@video+block@Wéek_1.a-b~c", "Wéek_1.a-b~c"),
        ("i4x://X/Y/video/8f3ad1c6", "i4x-X-Y-video-8f3ad1c6"),
        ("i4x://X/Y/video/a.b:c", "i4x-X-Y-video-a_b_c"),
        ("8f3ad1c6a1d94b0c", "8f3ad1c6a1d94b0c"),
        ("Week_1", "Week_1"),
        ("", None),
        ("block-v1:X+Y+Z", None),
        ("course-v1:X+Y+Z", None),
        ("lb:X:Y:video:8f3ad1c6", None),
        ("a b", None),
        ("8f3ad1c6\n", None),
        ("x" * 255, "x" * 255),
        ("x" * 256, None),
        (8, None),
        (None, None),
        (["8f3ad1c6"], None),
    ],
)
def test_the_id_is_that_of_the_block_within_its_course(
    module_id: object, block_id: str | None
) -> None:
    event = of_video(module_id=module_id)
    data = {"module_id": module_id} | ({"id": block_id} if block_id else {})
    assert MobileVideoProcessor()(event) == {**event, "data": data}


@pytest.mark.parametrize(
    ("sent", "added"),
    [
        ({"current_time": 12.48}, {"currentTime": 12.48}),
        ({"current_time": 0}, {"currentTime": 0}),
        ({"current_time": None}, {}),
        ({"current_time": 12.48, "currentTime": 3}, {}),
        ({"seek_type": "skip"}, {"type": "onSkipSeek"}),
        ({"seek_type": "slide"}, {"type": "onSlideSeek"}),
        ({"seek_type": "skip", "type": "onCaptionSeek"}, {}),
        ({"seek_type": "Skip"}, {}),
        ({"seek_type": ["skip"]}, {}),
        ({"old_time": 1, "new_time": 2, "requested_skip_interval": 1, "code": "mobile"}, {}),
        ({"id": "as it is"}, {}),
    ],
    ids=repr,
)
def test_fields_are_added_beside_those_that_are_there(
    sent: dict[str, Any], added: dict[str, Any]
) -> None:
    event = of_video(module_id=BLOCK, **sent)
    expected = {"id": "8f3ad1c6a1d94b0c", "module_id": BLOCK, **sent, **added}
    assert MobileVideoProcessor()(event)["data"] == expected


def test_only_the_data_is_another() -> None:
    event = of_video(module_id=BLOCK, nested={"list": []})
    result = MobileVideoProcessor()(event)
    assert event["data"] == {"module_id": BLOCK, "nested": {"list": []}}
    assert result["data"]["nested"] is event["data"]["nested"]
    assert {**result, "data": None} == {**event, "data": None}
    assert MobileVideoProcessor()(transported(event)) == transported(result)


@pytest.mark.parametrize(
    "event",
    [
        of_video("edx.bi.video.downloaded", module_id=BLOCK),
        of_video("edx.video", module_id=BLOCK),
        of_video("EDX.VIDEO.PLAYED", module_id=BLOCK),
        of_video(),
        of_video(current_time=1, seek_type="skip"),
        of_video(module_id=BLOCK, id="8f3ad1c6a1d94b0c"),
        of_video(module_id="no id at all"),
        *(emitted(name=name) for name in (None, 1, ["edx.video.played"])),
        *(emitted(data=data) for data in (None, "module_id", ["module_id"])),
        {"context": emitted()["context"]},
    ],
    ids=repr,
)
def test_what_is_no_event_of_a_player_is_the_same_object(event: dict[str, Any]) -> None:
    before = copy.deepcopy(event)
    assert MobileVideoProcessor()(event) is event
    assert event == before


# What holds of both


@pytest.mark.parametrize("text", VALUES.values(), ids=VALUES)
def test_hostile_values_do_no_harm(text: str, app_log: list[logging.LogRecord]) -> None:
    value = json.loads(text)
    data = dict.fromkeys(("module_id", "current_time", "seek_type", "old_time"), value)
    for event in (
        of_video(**data),
        of_video(**{**data, "id": value, "currentTime": value, "type": value}),
        emitted(name=value, data=value),
        emitted(timestamp=value, data=data),
    ):
        before = encoded(event)
        for processor in (EventTimeProcessor(), MobileVideoProcessor()):
            assert encoded(processor(event))
        assert encoded(event) == before
    assert not app_log


def test_what_fails_all_the_same_is_logged_and_leaves_the_event(
    app_log: list[logging.LogRecord],
) -> None:
    event = with_context(timestamp=HAPPENED.replace(tzinfo=BrokenZone()))
    assert EventTimeProcessor()(event) is event
    (record,) = app_log
    assert record.getMessage() == "EventTimeProcessor failed."
    assert "on 2026-03-02" not in logging.Formatter().format(record)


@pytest.mark.parametrize("nested", [False, True], ids=["for all backends", "for one router"])
def test_the_raw_event_is_not_changed(learner: Learner, *, nested: bool) -> None:
    """At the top the tracker's own dictionaries are met, whose values are the raw event's."""
    keep, processors = Keep(), [EventTimeProcessor(), MobileVideoProcessor()]
    raw = make_event(
        properties=make_properties(
            name="edx.video.position.changed",
            data={"module_id": BLOCK, "current_time": 1, "seek_type": "skip", "nested": {"a": [1]}},
        )
    )
    before = copy.deepcopy(raw)
    router = RoutingBackend({"keep": keep}, processors)
    with registered(
        Tracker({"router": router}) if nested else Tracker(router.backends, None, processors)
    ):
        process(ParsedPayload([raw]))
    (event,) = keep.events
    assert event["timestamp"] == HAPPENED
    assert event["data"] == {
        **before["properties"]["data"],
        "id": "8f3ad1c6a1d94b0c",
        "currentTime": 1,
        "type": "onSkipSeek",
    }
    assert raw == before


def test_one_router_s_processors_are_not_another_s(learner: Learner) -> None:
    prepared, plain = Keep(), Keep()
    before = datetime.now(UTC)
    tracker = Tracker(
        {
            "1": RoutingBackend({"keep": prepared}, [EventTimeProcessor(), MobileVideoProcessor()]),
            "2": RoutingBackend({"keep": plain}),
        }
    )
    with registered(tracker):
        process(ParsedPayload([make_event()]))
    assert prepared.events[0]["timestamp"] == HAPPENED
    assert plain.events[0]["timestamp"] > before
    assert "id" in prepared.events[0]["data"]
    assert "id" not in plain.events[0]["data"]
