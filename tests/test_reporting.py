"""What the operator sees of a delivery."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from edx_django_utils.monitoring import TelemetryBackend
from pytest_django import Settings

from segmentio_bridge.outcomes import Outcome, Reason
from segmentio_bridge.reporting import report
from segmentio_bridge.signals import events_processed
from tests.factories import make_event, make_event_of_website, make_properties

Attributes = dict[str, Any]

recorded: Attributes = {}


class RecordingTelemetry(TelemetryBackend):
    """A monitoring agent that remembers attributes, and fails for a value on demand."""

    def set_attribute(self, key: str, value: object) -> None:
        if value == "the agent fails":
            raise RuntimeError(f"{value} with {key}")
        recorded[key] = value

    def record_exception(self) -> None: ...
    def create_span(self, name: str, operation_name: str | None = None) -> None: ...
    def tag_root_span_with_error(self, exception: BaseException) -> None: ...
    def set_local_root_span_name(
        self, name: str, group: str | None = None, priority: int | None = None
    ) -> None: ...


@pytest.fixture
def attributes(settings: Settings) -> Iterator[Attributes]:
    settings.OPENEDX_TELEMETRY = [f"{__name__}.RecordingTelemetry"]
    recorded.clear()
    yield recorded
    settings.OPENEDX_TELEMETRY = []


def report_single(raw: dict[str, Any], reason: Reason | None = None) -> None:
    source = None if reason is Reason.UNKNOWN_SOURCE else "mobile"
    report([Outcome(reason, raw.get("messageId"), source)], single=raw)


NO_COUNTS = {
    f"segment_{status}_count": 0
    for status in ("emitted", "duplicate", "ignored", "rejected", "failed")
}


def test_attributes_of_a_single_event(attributes: Attributes) -> None:
    report_single(make_event())
    assert attributes == {
        **NO_COUNTS,
        "segment_batch_size": 1,
        "segment_emitted_count": 1,
        "segment_event_name": "edx.video.loaded",
        "segment_event_source": "mobile",
    }


def test_attributes_of_a_batch(attributes: Attributes) -> None:
    reasons = [None, None, Reason.UNKNOWN_SOURCE, Reason.MISSING_NAME, Reason.EMISSION_FAILED]
    report([Outcome(reason, None) for reason in reasons], single=None)
    assert attributes == {
        "segment_batch_size": 5,
        "segment_emitted_count": 2,
        "segment_duplicate_count": 0,
        "segment_ignored_count": 1,
        "segment_rejected_count": 1,
        "segment_failed_count": 1,
    }


@pytest.mark.parametrize("raw", [make_event_of_website(), {}])
def test_an_event_of_another_source_has_no_source(
    raw: dict[str, Any], attributes: Attributes
) -> None:
    report_single(raw, Reason.UNKNOWN_SOURCE)
    assert "segment_event_source" not in attributes


@pytest.mark.parametrize("properties", [None, [], {}, {"name": 7}])
def test_without_a_name_there_is_no_event_name(properties: Any, attributes: Attributes) -> None:
    report_single(make_event(properties=properties), Reason.MISSING_NAME)
    assert "segment_event_name" not in attributes


@pytest.mark.parametrize(
    ("reason", "field"),
    [(Reason.INVALID_DATA, "data"), (Reason.INVALID_CONTEXT, "context")],
)
@pytest.mark.parametrize(
    ("value", "attribute"),
    [
        ("text", "text"),
        (None, "None"),
        ([1, "two"], "[1, 'two']"),
        ("x" * 1000, "x" * 200),
        ("a\nERROR \x1b[31m\ud800é", "a\ufffdERROR \ufffd[31m\ufffdé"),
    ],
)
def test_what_stands_where_an_object_should_be(
    reason: Reason, field: str, value: object, attribute: str, attributes: Attributes
) -> None:
    report_single(make_event(properties=make_properties(**{field: value})), reason)
    assert attributes[f"segment_unexpected_{field}"] == attribute


def test_rejections_are_logged_with_reason_and_message_id(
    app_log: list[logging.LogRecord],
) -> None:
    report(
        [
            Outcome(None, "m-1"),
            Outcome(Reason.UNKNOWN_SOURCE, "m-2"),
            Outcome(Reason.MISSING_NAME, "m-3\nERROR forged"),
            Outcome(Reason.NOT_AN_OBJECT, None),
        ],
        single=None,
    )
    assert [(record.levelname, record.getMessage()) for record in app_log] == [
        ("INFO", r"Event 'm-3\nERROR forged' rejected: missing_name."),
        ("INFO", "Event - rejected: not_an_object."),
    ]


@pytest.mark.usefixtures("attributes")
def test_a_monitoring_agent_that_fails_harms_nothing(app_log: list[logging.LogRecord]) -> None:
    report_single(make_event(properties=make_properties(name="the agent fails")))
    (record,) = app_log
    assert record.getMessage() == "The monitoring attributes could not be set."
    assert "the agent fails with" not in logging.Formatter().format(record)


def test_the_signal_carries_all_outcomes_and_receivers_harm_nothing() -> None:
    received: list[list[Outcome]] = []

    def fail(**kwargs: Any) -> None:
        raise RuntimeError("a receiver fails")

    def spoil(outcomes: list[Outcome], **kwargs: Any) -> None:
        received.append(list(outcomes))
        outcomes.clear()

    outcomes = [Outcome(None, "m-1"), Outcome(Reason.MISSING_NAME, "m-2")]
    events_processed.connect(fail)
    events_processed.connect(spoil)
    try:
        report(outcomes)
    finally:
        events_processed.disconnect(fail)
        events_processed.disconnect(spoil)
    assert received == [outcomes]
    assert len(outcomes) == 2


def test_a_receiver_that_raises_and_has_no_name_harms_nothing(
    app_log: list[logging.LogRecord],
) -> None:
    # Django's own logging of the error looks for the receiver's name.
    class Nameless:
        def __call__(self, **kwargs: Any) -> None:
            raise RuntimeError("a receiver fails")

    receiver = Nameless()
    events_processed.connect(receiver)
    try:
        report([Outcome(None, "m-1")])
    finally:
        events_processed.disconnect(receiver)
    (record,) = app_log
    assert record.getMessage() == "The receivers of a signal could not all be called."
