"""From what the bridge could not record to rows: the receiver of `events_unrecorded`.

Runs within the delivery, so that the answer to the sender can depend on it. The events come from an
authenticated sender, and are trusted in nothing else. Never raises.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import router, transaction
from django.utils import timezone

from .. import conf
from ..exceptions import MalformedBody
from ..outcomes import Outcome, Reason, UnrecordedEvent
from ..payload import parse_events
from ..redaction import withheld
from ..users import primary_key_parser
from . import retention
from .fields import clean
from .models import MAX_DETAIL_LENGTH, MAX_ID_LENGTH, MAX_NAME_LENGTH, QuarantinedEvent

logger = logging.getLogger(__name__)

#: How much is kept of a body that is no JSON, in bytes.
MAX_MALFORMED_BYTES = 64 * 1024


def keep(events: Sequence[UnrecordedEvent], **kwargs: Any) -> bool:
    """Store a copy of each event; return whether all of them are stored.

    Makes one INSERT statement, as far as the database has room for it in one: more for more than
    `_MAX_ROWS_AT_ONCE` events or `_MAX_CHARACTERS_AT_ONCE`, all of them in one transaction. Of more
    events than TRACKING_SEGMENTIO_QUARANTINE_MAX_ROWS only the last ones are stored, since the next
    moment would delete the others.

    If the delivery is taken within a transaction of the site's, the copies are part of it.
    """
    alias = router.db_for_write(QuarantinedEvent)
    try:
        max_rows = conf.QUARANTINE_MAX_ROWS.get()
        with transaction.atomic(using=alias):
            for rows in _group(_make_rows(events[-max_rows:])):
                QuarantinedEvent.objects.using(alias).bulk_create(rows)
    except ImproperlyConfigured as error:
        logger.error("%d events could not be quarantined: %s", len(events), error)
        return False
    except Exception as error:
        # Databases quote the query, and with it the events, in their messages.
        logger.error("%d events could not be quarantined.", len(events), exc_info=withheld(error))
        return False
    retention.tidy_up(alias)
    return True


def identify_user(user_id: object) -> str:
    """Return the text by which the quarantine knows a raw `userId`; empty if it names nobody.

    What can be the primary key of a user has one text, however it is written: `"7"`, `7` and `"07"`
    are the same, and so is a UUID with and without dashes. It has at most MAX_ID_LENGTH characters.
    """
    if isinstance(user_id, bool) or not isinstance(user_id, str | int | float):
        return ""
    try:
        text = str(primary_key_parser()(user_id))
    except Exception:
        # ValueError, or whatever a site's own kind of key makes of it: it is nobody's then.
        text = str(user_id)
    return clean(text, MAX_ID_LENGTH)


def identify_message(message_id: str) -> str:
    """Return the text by which the quarantine knows a `messageId`, cut at MAX_ID_LENGTH."""
    return clean(message_id, MAX_ID_LENGTH)


def find_value(raw: bytes) -> Any:
    """Return what the JSON of a raw event says; None if that is null, or cannot be parsed here."""
    try:
        # As an element: parse_events would take an array for a batch.
        (value,) = parse_events(b"[%b]" % raw)
    except (MalformedBody, ValueError):
        return None
    return value


def describe(reason: Reason | None, raw: object) -> str:
    """Return what the raw event has where the reason finds fault with it; empty if nothing.

    As JSON, cut at `_MAX_DETAIL_CHARACTERS`, after the field's name.
    """
    path = _AT_FAULT.get(reason) if reason else None
    if path is None:
        return ""
    value = raw
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    text = json.dumps(value, ensure_ascii=False)
    if len(text) > _MAX_DETAIL_CHARACTERS:
        text = f"{text[:_MAX_DETAIL_CHARACTERS]}…"
    return clean(f"{'.'.join(path)}: {text}" if path else text, MAX_DETAIL_LENGTH)


_MAX_DETAIL_CHARACTERS = 100

# The reasons that a look at one value of the event explains. What is missing is not there to see.
_AT_FAULT: dict[Reason, tuple[str, ...]] = {
    Reason.NOT_AN_OBJECT: (),
    Reason.UNKNOWN_SOURCE: ("context", "library"),
    Reason.UNSUPPORTED_TYPE: ("type",),
    Reason.INVALID_PROPERTIES: ("properties",),
    Reason.INVALID_NAME: ("properties", "name"),
    Reason.DISALLOWED_NAME: ("properties", "name"),
    Reason.INVALID_DATA: ("properties", "data"),
    Reason.INVALID_CONTEXT: ("properties", "context"),
    Reason.INVALID_TIMESTAMP: ("timestamp",),
    Reason.INVALID_RECEIVED_AT: ("receivedAt",),
    Reason.INVALID_USER_ID: ("userId",),
    Reason.USER_NOT_FOUND: ("userId",),
}

# Segment's largest batch; and what leaves room for the driver's own escapes in the 16 MiB that
# MariaDB takes in one statement.
_MAX_ROWS_AT_ONCE = 4_000
_MAX_CHARACTERS_AT_ONCE = 6 * 1024 * 1024


def _make_rows(events: Iterable[UnrecordedEvent]) -> Iterator[QuarantinedEvent]:
    now = timezone.now()
    for outcome, raw in events:
        row = (
            _make_row_of_body(raw)
            if outcome.reason is Reason.MALFORMED_BODY
            else _make_row_of_event(outcome, raw)
        )
        row.reason = outcome.reason or ""
        row.created_at = now
        yield row


def _make_row_of_event(outcome: Outcome, raw: bytes) -> QuarantinedEvent:
    value = find_value(raw)
    event = value if isinstance(value, dict) else {}
    properties = event.get("properties")
    name = properties.get("name") if isinstance(properties, dict) else None
    return QuarantinedEvent(
        message_id=identify_message(outcome.message_id or ""),
        user_id=identify_user(event.get("userId")),
        event_name=clean(name, MAX_NAME_LENGTH) if isinstance(name, str) else "",
        detail=describe(outcome.reason, value),
        payload=raw.decode("utf-8", "surrogateescape"),
    )


def _make_row_of_body(body: bytes) -> QuarantinedEvent:
    kept = body[:MAX_MALFORMED_BYTES]
    if len(kept) < len(body):
        detail = f"The first {len(kept):,} of {len(body):,} bytes are kept."
    else:
        detail = _find_fault(body)
    return QuarantinedEvent(
        detail=clean(detail, MAX_DETAIL_LENGTH), payload=kept.decode("utf-8", "surrogateescape")
    )


def _find_fault(body: bytes) -> str:
    try:
        json.loads(body.decode())
    except UnicodeDecodeError as error:
        return f"Not UTF-8 from byte {error.start:,} on."
    except json.JSONDecodeError as error:
        return f"{error.msg}: character {error.pos:,}."
    except (ValueError, RecursionError):
        return ""
    return ""  # What Python reads, but is not strict JSON or no delivery.


def _group(rows: Iterable[QuarantinedEvent]) -> Iterator[list[QuarantinedEvent]]:
    """Yield lists of rows, each for one statement; at least one list."""
    group: list[QuarantinedEvent] = []
    size = 0
    for row in rows:
        # What is not ASCII takes three characters for each byte, see `fields`.
        length = len(row.payload) if row.payload.isascii() else 3 * len(row.raw)
        is_full = len(group) == _MAX_ROWS_AT_ONCE or size + length > _MAX_CHARACTERS_AT_ONCE
        if group and is_full:
            yield group
            group, size = [], 0
        group.append(row)
        size += length
    yield group
