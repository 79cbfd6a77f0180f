"""A site's code that uses the public names, for mypy to read where only the package is installed.

There is no import of Django: without django-stubs it has no types.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, assert_type

from segmentio_bridge import __version__, segmentio
from segmentio_bridge.outcomes import Outcome, Reason, Status, UnrecordedEvent, count_by_status
from segmentio_bridge.processors import EventTimeProcessor, MobileVideoProcessor
from segmentio_bridge.signals import delivery_answered, events_processed, events_unrecorded
from segmentio_bridge.testing import sign

assert_type(__version__, str)
assert_type(sign(b"{}", "secret"), str)
assert_type(segmentio.ERROR_UNAUTHORIZED, str)
assert_type(segmentio.ERROR_MISSING_NAME, str)
assert_type(segmentio.parse_iso8601_timestamp("2026-03-02T09:15:27Z"), datetime)

processors: list[Callable[[Any], Any]] = [EventTimeProcessor(), MobileVideoProcessor()]


def count(outcomes: list[Outcome], **kwargs: object) -> None:
    """Look at what became of the events of a delivery."""
    for outcome in outcomes:
        assert_type(outcome.status, Status)
        assert_type(outcome.reason, Reason | None)
        assert_type(outcome.message_id, str | None)
        assert_type(outcome.source, str | None)
    assert_type(count_by_status(outcomes), dict[Status, int])


def keep(events: list[UnrecordedEvent], **kwargs: object) -> bool:
    """Look at events that were not recorded, and keep them."""
    for event in events:
        assert_type(event.raw, bytes)
        assert_type(event.outcome, Outcome)
        outcome, raw = event
        assert_type(outcome, Outcome)
        assert_type(raw, bytes)
    return True


def measure(status_code: int, seconds: float, events: int | None, **kwargs: object) -> None:
    """Look at the answer to a delivery."""


events_processed.connect(count)
events_unrecorded.connect(keep)
delivery_answered.connect(measure)


def explain(reason: Reason) -> str:
    """Say what a reason is, and what it leads to."""
    assert_type(reason.status, Status)
    assert_type(Reason.USER_NOT_FOUND.description, str)
    assert_type(Reason["USER_NOT_FOUND"], Reason)
    assert_type(Reason("user_not_found"), Reason)
    return f"{reason} ({reason.status is Status.REJECTED}): {reason.description}"


def record(request: Any) -> str | None:
    """Record an event, or return why not."""
    try:
        segmentio.track_segmentio_event(request)
    except segmentio.EventValidationError as error:
        return str(error)
    return None
