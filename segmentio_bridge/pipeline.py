"""From raw events to outcomes: the order of the steps, and what a failure means, in one place.

| what fails                   | its event           | its neighbours | the answer                 |
|------------------------------|---------------------|----------------|----------------------------|
| the event itself             | rejected or ignored | untouched      | 200                        |
| the database, on a user id   | rejected            | untouched      | 200                        |
| the user query               | not emitted         | not emitted    | 503, to have it sent again |
| the emission of an event     | failed              | untouched      | the retry rule decides     |
| the bridge, on one event     | failed              | untouched      | the retry rule decides     |
| the claim of an event        | failed              | untouched      | 503, to have it sent again |
| the cache of the claims      | as without claims   | untouched      | 200                        |
| the broker, in queue mode    | not queued          | may be queued  | 503, to have it sent again |
| whoever keeps copies         | as without copies   | untouched      | the retry rule decides     |

The retry rule: if an event failed, and nobody keeps a copy of it, and sending the delivery again
would double nothing, the sender is asked to. Otherwise the failure is logged and the event is gone.

Raw events are trusted in nothing. Raises, before any event is emitted, MalformedBody where a batch
turns out to be no JSON, ServiceUnavailable for the user query, and ImproperlyConfigured for a wrong
setting; whatever else an event does is its outcome.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from itertools import repeat
from typing import NamedTuple

from django.db import Error as DatabaseError

from . import conf
from .context import build_context
from .deduplication import Claims, identify
from .emission import Tracker, emit, find_tracker
from .events import Event, User
from .exceptions import ServiceUnavailable
from .outcomes import Outcome, Reason, Status, UnrecordedEvent
from .payload import Payload
from .redaction import printable, withheld
from .signals import events_unrecorded, send
from .users import find_users, primary_key_parser
from .validation import Rules, find_message_id, find_source, validate

logger = logging.getLogger(__name__)


class Result(NamedTuple):
    """What became of a delivery: the outcomes so far, and how many events are left to a worker.

    `should_be_retried` tells whether the sender is asked to send it again.
    """

    outcomes: list[Outcome]
    should_be_retried: bool
    queued: int = 0


class Recorded(NamedTuple):
    """What became of each raw event, in their order.

    `is_deduplicated` tells whether those that were emitted are known when they come again.
    """

    outcomes: list[Outcome]
    is_deduplicated: bool


def process(payload: Payload) -> Result:
    """Record the raw events of a delivery here and now, and offer for keeping what cannot be.

    Raises what `record` raises.
    """
    outcomes, is_deduplicated = record(payload)
    if not any(outcome.status in _UNRECORDED for outcome in outcomes):
        return Result(outcomes, should_be_retried=False)
    if any(outcome.reason is Reason.IN_PROGRESS for outcome in outcomes):
        # The whole delivery comes again: a copy of what it holds would be kept each time.
        return Result(outcomes, should_be_retried=True)
    is_kept = keep(zip(outcomes, payload.slices(), strict=True))
    retry = should_be_retried(outcomes, is_kept=is_kept, is_deduplicated=is_deduplicated)
    return Result(outcomes, retry)


def should_be_retried(outcomes: Iterable[Outcome], *, is_kept: bool, is_deduplicated: bool) -> bool:
    """Tell whether a second delivery would save an event and double none."""
    statuses = {outcome.status for outcome in outcomes}
    doubles_nothing = is_deduplicated or Status.EMITTED not in statuses
    return Status.FAILED in statuses and not is_kept and doubles_nothing


def screen(payload: Payload) -> list[Event | Outcome]:
    """Validate raw events, which needs no database; return an outcome for each that is no event.

    Raises ImproperlyConfigured for a wrong setting, and MalformedBody.
    """
    rules = Rules(
        source_map=conf.SOURCE_MAP.get(),
        allowed_types=conf.ALLOWED_TYPES.get(),
        disallowed_names=conf.DISALLOWED_SUBSTRING_NAMES.get(),
    )
    return [_screen(raw, rules) for raw in payload]


def record(payload: Payload, *, deduplicate: bool = True, emit: bool = True) -> Recorded:
    """Validate and emit raw events.

    Makes at most one user query, as `find_users` has it, and none if no event survives validation.
    Not to `deduplicate` is to leave the cache alone, as if no event had been recorded before. Not
    to `emit` is to do that, and to return what would become of the events.

    Raises ServiceUnavailable if the database cannot answer, ImproperlyConfigured for a wrong
    setting, and MalformedBody; nothing is emitted then.
    """
    screened = screen(payload)
    events = [event for event in screened if isinstance(event, Event)]
    if not events:
        return Recorded(_outcomes(screened, ()), is_deduplicated=False)
    with Claims(is_wanted=deduplicate and emit) as claims:
        identities = _identify(payload, screened) if claims.are_effective else repeat("")
        reasons = _record(list(zip(events, identities, strict=False)), claims, emits=emit)
    return Recorded(_outcomes(screened, reasons), claims.are_effective)


def keep(events: Iterable[tuple[Outcome, bytes]]) -> bool:
    """Offer those events that were rejected or failed to the receivers of `events_unrecorded`.

    Events are given with their bytes, and read only if somebody listens. Returns whether a receiver
    keeps a copy of them. Raises nothing, but what reading `events` raises.
    """
    if not events_unrecorded.has_listeners():
        return False
    unrecorded = [
        UnrecordedEvent(outcome, raw) for outcome, raw in events if outcome.status in _UNRECORDED
    ]
    if not unrecorded:
        return False
    return any(answer is True for answer in send(events_unrecorded, events=unrecorded))


_UNRECORDED = frozenset({Status.REJECTED, Status.FAILED})


def _screen(raw: object, rules: Rules) -> Event | Outcome:
    message_id = find_message_id(raw)
    try:
        result = validate(raw, rules)
    except Exception as error:
        result = _failed(Reason.INTERNAL_ERROR, message_id, error)
    if isinstance(result, Event):
        return result
    return Outcome(result, message_id, find_source(raw, rules.source_map))


def _outcomes(
    screened: Iterable[Event | Outcome], reasons: Iterable[Reason | None]
) -> list[Outcome]:
    remaining = iter(reasons)
    return [
        Outcome(next(remaining), item.message_id, item.source) if isinstance(item, Event) else item
        for item in screened
    ]


def _identify(payload: Payload, screened: Sequence[Event | Outcome]) -> list[str]:
    """Return the identity of each event among the raw events."""
    needs_slices = any(isinstance(item, Event) and item.message_id is None for item in screened)
    slices: Iterable[bytes] = payload.slices() if needs_slices else repeat(b"")
    return [
        identify(item.message_id, raw)
        for item, raw in zip(screened, slices, strict=False)
        if isinstance(item, Event)
    ]


def _record(
    events: Sequence[tuple[Event, str]], claims: Claims, *, emits: bool
) -> list[Reason | None]:
    """Emit events, given with their identities; return why not for each of them, or None."""
    protected_keys = conf.PROTECTED_CONTEXT_KEYS.get()
    parse_key = primary_key_parser()
    candidates = [(event, identity, _parse(parse_key, event)) for event, identity in events]

    claims.claim([identity for _, identity, key in candidates if not isinstance(key, Reason)])
    users = _get_users(
        {
            key
            for _, identity, key in candidates
            if not isinstance(key, Reason) and identity not in claims.refusals
        }
    )
    tracker = _get_tracker() if users else None

    reasons: list[Reason | None] = []
    for event, identity, key in candidates:
        reason: Reason | None
        claims.prolong()
        if isinstance(key, Reason):
            reason = key
        elif identity in claims.refusals:
            reason = claims.refusals[identity]
        elif key not in users:
            reason = Reason.USER_NOT_FOUND
        elif (user := users[key]) is None:
            reason = Reason.INVALID_USER_ID
        elif tracker is None:
            reason = Reason.TRACKER_DISABLED
        else:
            reason = _emit(tracker, event, user, protected_keys, emits=emits)
            if reason is None:
                claims.note_emission(identity)
        reasons.append(reason)
    return reasons


def _parse(parse_key: Callable[[object], Hashable], event: Event) -> Hashable | Reason:
    try:
        return parse_key(event.user_id)
    except ValueError:
        return Reason.INVALID_USER_ID
    except Exception as error:
        return _failed(Reason.INTERNAL_ERROR, event.message_id, error)


def _get_users(keys: Collection[Hashable]) -> dict[Hashable, User | None]:
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
    tracker: Tracker,
    event: Event,
    user: User,
    protected_keys: Collection[str],
    *,
    emits: bool,
) -> Reason | None:
    try:
        context = build_context(event, user, protected_keys)
    except Exception as error:
        return _failed(Reason.INTERNAL_ERROR, event.message_id, error)
    try:
        if emits:
            emit(tracker, event.name, event.properties["data"], context)
    except Exception as error:
        return _failed(Reason.EMISSION_FAILED, event.message_id, error)
    return None


def _failed(reason: Reason, message_id: str | None, error: Exception) -> Reason:
    logger.error("Event %s failed: %s.", printable(message_id), reason, exc_info=withheld(error))
    return reason
