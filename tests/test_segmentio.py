"""The facade: the names that a site knows from the platform's module."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from django.http import HttpRequest
from django.test import RequestFactory
from eventtracking import tracker as tracking

from segmentio_bridge import segmentio, views
from segmentio_bridge.exceptions import ServiceUnavailable
from tests.factories import make_event, make_event_of_website, make_properties, without


def make_request(body: object) -> HttpRequest:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return RequestFactory().post("/anywhere", content, "application/json")


@pytest.mark.usefixtures("learner")
def test_an_event_is_recorded_without_credentials(tracking_log: list[dict[str, Any]]) -> None:
    segmentio.track_segmentio_event(make_request(make_event()))
    assert [event["name"] for event in tracking_log] == ["edx.video.loaded"]


@pytest.mark.django_db
def test_an_ignored_event_is_no_error(tracking_log: list[dict[str, Any]]) -> None:
    segmentio.track_segmentio_event(make_request(make_event_of_website()))
    assert not tracking_log


@pytest.mark.usefixtures("learner")
@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (make_event(userId=None), segmentio.ERROR_MISSING_USER_ID),
        (make_event(userId="99"), segmentio.ERROR_USER_NOT_EXIST),
        (make_event(userId="ada"), segmentio.ERROR_INVALID_USER_ID),
        (
            make_event(properties=make_properties(context=7)),
            segmentio.ERROR_INVALID_CONTEXT_FIELD_TYPE,
        ),
        (make_event(properties=make_properties(data=7)), segmentio.ERROR_INVALID_DATA_FIELD_TYPE),
        (
            make_event(properties=without(make_properties(), "data")),
            segmentio.ERROR_MISSING_DATA,
        ),
        (
            make_event(properties=without(make_properties(), "name")),
            segmentio.ERROR_MISSING_NAME,
        ),
        (without(make_event(), "timestamp"), segmentio.ERROR_MISSING_TIMESTAMP),
        (without(make_event(), "receivedAt"), segmentio.ERROR_MISSING_RECEIVED_AT),
        (make_event(timestamp="soon"), "The event's timestamp cannot be read as a moment in UTC."),
        ([make_event()], "The event is not a JSON object."),
        (b"{", "The body is not valid JSON."),
        (b"7", "The body is not valid JSON."),
    ],
)
def test_a_rejected_event_raises_with_the_matching_constant(raw: Any, message: str) -> None:
    with pytest.raises(segmentio.EventValidationError) as caught:
        segmentio.track_segmentio_event(make_request(raw))
    assert str(caught.value) == message


@pytest.mark.usefixtures("learner")
def test_what_is_no_fault_of_the_event_raises_another_error() -> None:
    before = tracking.TRACKERS.pop(tracking.DEFAULT_TRACKER_NAME)
    try:
        with pytest.raises(ServiceUnavailable, match="EVENT_TRACKING_ENABLED"):
            segmentio.track_segmentio_event(make_request(make_event()))
    finally:
        tracking.register_tracker(before)


def test_the_view_and_the_parser_are_the_package_s_own() -> None:
    assert segmentio.segmentio_event is views.segmentio_event
    assert segmentio.parse_iso8601_timestamp("2026-03-02T09:15:27.352Z") == datetime(
        2026, 3, 2, 9, 15, 27, 352000, UTC
    )


def test_the_constants_are_texts_that_differ() -> None:
    constants = {
        name: getattr(segmentio, name) for name in segmentio.__all__ if name[:6] == "ERROR_"
    }
    assert len(constants) == len(set(constants.values())) == 10
    assert all(isinstance(text, str) for text in constants.values())
