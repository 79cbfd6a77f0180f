"""From raw events to outcomes: the order of the steps, and what a failure means, in one place.

| what fails               | its event           | its neighbours | the answer                 |
|--------------------------|---------------------|----------------|----------------------------|
| the event itself         | rejected or ignored | untouched      | 200                        |
| the user query           | not emitted         | not emitted    | 503, to have it sent again |
| the emission of an event | failed              | untouched      | the retry rule decides     |
| the bridge, on one event | failed              | untouched      | the retry rule decides     |

The retry rule: if an event failed, and sending the delivery again would double nothing, the sender
is asked to. Otherwise the failure is logged and the event is gone.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Hashable, Iterable, Sequence

from django.db import Error as DatabaseError

from . import conf
from .context import build_context
from .emission import Tracker, emit, find_tracker
from .events import Event, User
from .exceptions import ServiceUnavailable
from .outcomes import Outcome, Reason, Status
from .redaction import printable, withheld
from .users import find_users, primary_key_parser
from .validation import Rules, find_message_id, validate

logger = logging.getLogger(__name__)


def process(raw_events: Iterable[object]) -> list[Outcome]:
    """Validate and emit raw events, and return what became of each, in their order.

    Makes at most one user query, and none if no event survives validation.

    Raises ServiceUnavailable if the database cannot answer, ImproperlyConfigured for a wrong
    setting, and whatever iterating over `raw_events` raises; nothing is emitted then.
    """
    rules = Rules(
        source_map=conf.SOURCE_MAP.get(),
        allowed_types=conf.ALLOWED_TYPES.get(),
        disallowed_names=conf.DISALLOWED_SUBSTRING_NAMES.get(),
    )
    validated = [(_validate(raw, rules), find_message_id(raw)) for raw in raw_events]
    events = [result for result, _ in validated if isinstance(result, Event)]
    reasons = iter(_record(events) if events else ())
    return [
        Outcome(result if isinstance(result, Reason) else next(reasons), message_id)
        for result, message_id in validated
    ]


def should_be_retried(outcomes: Sequence[Outcome]) -> bool:
    """Tell whether an event failed and a second delivery would double none of the others."""
    statuses = {outcome.status for outcome in outcomes}
    return Status.FAILED in statuses and Status.EMITTED not in statuses


def _validate(raw: object, rules: Rules) -> Event | Reason:
    try:
        return validate(raw, rules)
    except Exception as error:
        return _failed(Reason.INTERNAL_ERROR, find_message_id(raw), error)


def _record(events: Sequence[Event]) -> list[Reason | None]:
    """Emit events, and return why not for each of them, or None."""
    protected_keys = conf.PROTECTED_CONTEXT_KEYS.get()
    keys = _parse_keys(events)
    users = _get_users({key for key in keys if not isinstance(key, Reason)})
    tracker = _get_tracker() if users else None

    reasons: list[Reason | None] = []
    for event, key in zip(events, keys, strict=True):
        if isinstance(key, Reason):
            reasons.append(key)
        elif (user := users.get(key)) is None:
            reasons.append(Reason.USER_NOT_FOUND)
        elif tracker is None:
            reasons.append(Reason.TRACKER_DISABLED)
        else:
            reasons.append(_emit(tracker, event, user, protected_keys))
    return reasons


def _parse_keys(events: Iterable[Event]) -> list[Hashable | Reason]:
    parse_key = primary_key_parser()

    def parse(event: Event) -> Hashable | Reason:
        try:
            return parse_key(event.user_id)
        except ValueError:
            return Reason.INVALID_USER_ID
        except Exception as error:
            return _failed(Reason.INTERNAL_ERROR, event.message_id, error)

    return [parse(event) for event in events]


def _get_users(keys: Collection[Hashable]) -> dict[Hashable, User]:
    try:
        return find_users(keys)
    except DatabaseError as error:
        # Databases quote the query, and with it the user ids, in their messages.
        logger.error(
            "The user query failed; the delivery has to come again.", exc_info=withheld(error)
        )
        raise ServiceUnavailable from error


def _get_tracker() -> Tracker | None:
    tracker = find_tracker()
    if tracker is None:
        logger.error("No event can be emitted: %s", Reason.TRACKER_DISABLED.description)
    return tracker


def _emit(
    tracker: Tracker, event: Event, user: User, protected_keys: Collection[str]
) -> Reason | None:
    try:
        context = build_context(event, user, protected_keys)
    except Exception as error:
        return _failed(Reason.INTERNAL_ERROR, event.message_id, error)
    try:
        emit(tracker, event.name, event.properties["data"], context)
    except Exception as error:
        return _failed(Reason.EMISSION_FAILED, event.message_id, error)
    return None


def _failed(reason: Reason, message_id: str | None, error: Exception) -> Reason:
    logger.error("Event %s failed: %s.", printable(message_id), reason, exc_info=withheld(error))
    return reason
