"""What became of a raw event: the words that everything on the way shares.

Codes are interface: once released, a code does not change its meaning.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import NamedTuple


class Status(enum.StrEnum):
    """The kinds of outcome."""

    EMITTED = "emitted"
    DUPLICATE = "duplicate"
    IGNORED = "ignored"
    REJECTED = "rejected"
    FAILED = "failed"


class Reason(enum.StrEnum):
    """Why an event was not emitted: a code, the status it leads to, and a sentence for people.

    The members of screening and validation stand in the order in which they are looked for: the
    first that applies decides.
    """

    status: Status
    description: str

    # The defaults are for type checkers, to which `Reason(code)` makes a member, not finds one.
    def __new__(cls, code: str, status: Status = Status.FAILED, description: str = "") -> Reason:
        """Return the member that is its code, with what else there is to say about it."""
        reason = str.__new__(cls, code)
        reason._value_ = code
        reason.status = status
        reason.description = description
        return reason

    NOT_AN_OBJECT = "not_an_object", Status.REJECTED, "The event is not a JSON object."

    UNKNOWN_SOURCE = (
        "unknown_source",
        Status.IGNORED,
        "The library in context.library.name has no entry in TRACKING_SEGMENTIO_SOURCE_MAP.",
    )
    UNSUPPORTED_TYPE = (
        "unsupported_type",
        Status.IGNORED,
        "The type is not among TRACKING_SEGMENTIO_ALLOWED_TYPES.",
    )
    TOO_DEEP = "too_deep", Status.REJECTED, "The event is nested too deeply."
    INVALID_PROPERTIES = (
        "invalid_properties",
        Status.REJECTED,
        "The properties are not an object.",
    )
    MISSING_NAME = "missing_name", Status.REJECTED, "The event has no properties.name."
    INVALID_NAME = "invalid_name", Status.REJECTED, "The event's properties.name is no string."
    DISALLOWED_NAME = (
        "disallowed_name",
        Status.IGNORED,
        "The name contains an entry of TRACKING_SEGMENTIO_DISALLOWED_SUBSTRING_NAMES.",
    )
    MISSING_DATA = "missing_data", Status.REJECTED, "The event has no properties.data."
    INVALID_DATA = "invalid_data", Status.REJECTED, "The event's properties.data is no object."
    INVALID_CONTEXT = (
        "invalid_context",
        Status.REJECTED,
        "The event's properties.context is no object.",
    )
    MISSING_USER_ID = "missing_user_id", Status.REJECTED, "The event has no userId."
    MISSING_TIMESTAMP = "missing_timestamp", Status.REJECTED, "The event has no timestamp."
    INVALID_TIMESTAMP = (
        "invalid_timestamp",
        Status.REJECTED,
        "The event's timestamp cannot be read as a moment in UTC.",
    )
    MISSING_RECEIVED_AT = "missing_received_at", Status.REJECTED, "The event has no receivedAt."
    INVALID_RECEIVED_AT = (
        "invalid_received_at",
        Status.REJECTED,
        "The event's receivedAt cannot be read as a moment in UTC.",
    )
    INVALID_USER_ID = (
        "invalid_user_id",
        Status.REJECTED,
        "The userId is no valid primary key of the user model.",
    )
    USER_NOT_FOUND = "user_not_found", Status.REJECTED, "No user has the primary key in userId."

    MALFORMED_BODY = (
        "malformed_body",
        Status.REJECTED,
        "The body of the delivery is not strict JSON, or neither an object nor an array.",
    )
    DUPLICATE = "duplicate", Status.DUPLICATE, "The event has been recorded before."

    IN_PROGRESS = (
        "in_progress",
        Status.FAILED,
        "Another process is recording the event at this moment, or died while it did.",
    )
    TRACKER_DISABLED = (
        "tracker_disabled",
        Status.FAILED,
        "event-tracking has no default tracker; is EVENT_TRACKING_ENABLED set?",
    )
    DATABASE_UNAVAILABLE = (
        "database_unavailable",
        Status.FAILED,
        "The database could not be asked for the user, for more than four hours.",
    )
    EMISSION_FAILED = (
        "emission_failed",
        Status.FAILED,
        "The tracker raised an error while it emitted the event.",
    )
    INTERNAL_ERROR = (
        "internal_error",
        Status.FAILED,
        "The event met an unexpected error on its way to the tracker.",
    )


class Outcome(NamedTuple):
    """What became of one raw event; `reason` is None exactly if the event was emitted.

    `message_id` is the raw event's, of any length and content, or None. `source` is the event's
    source as TRACKING_SEGMENTIO_SOURCE_MAP names it, None or empty if it names none.
    """

    reason: Reason | None
    message_id: str | None
    source: str | None = None

    @property
    def status(self) -> Status:
        """The kind of outcome, which the reason implies."""
        return Status.EMITTED if self.reason is None else self.reason.status


class UnrecordedEvent(NamedTuple):
    """A raw event that was rejected or failed; `raw` is its JSON, byte for byte as it came.

    For the reason `malformed_body`, `raw` is the whole body of the delivery.
    """

    outcome: Outcome
    raw: bytes


def count_by_status(outcomes: Iterable[Outcome]) -> dict[Status, int]:
    """Count the outcomes of each status, zero included."""
    counts = _NO_COUNTS.copy()
    for outcome in outcomes:
        counts[outcome.status] += 1
    return counts


_NO_COUNTS = dict.fromkeys(Status, 0)
