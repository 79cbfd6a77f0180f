"""What would become of stored events if they were released now; emits nothing.

Whether an event has been recorded before is not looked up: that would take a claim, which a
delivery of the same event could meet. The events are trusted no more than when they came.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

from django.db.models import QuerySet

from .. import conf
from ..context import build_context
from ..events import Event
from ..outcomes import Outcome, Reason, Status
from ..payload import Payload
from ..pipeline import record, screen
from ..users import find_users, primary_key_parser
from .models import QuarantinedEvent
from .redelivery import redeliver
from .release import BATCH_SIZE, choose


class Preview(NamedTuple):
    """What would be emitted, but for what the tracker itself adds."""

    name: str
    data: dict[str, Any]
    context: dict[str, Any]


def preview(row: QuarantinedEvent) -> Preview | Reason:
    """Return what would be emitted for an event, or the reason why it would not be.

    Raises ServiceUnavailable or django.db.Error if the database does not answer, and
    ImproperlyConfigured for a wrong setting.
    """
    malformed: Preview | Reason = Reason.MALFORMED_BODY
    (result,) = redeliver([row], _preview, malformed)
    return result


def forecast(events: QuerySet[QuarantinedEvent], limit: int | None = None) -> Counter[str]:
    """Count what would become of the events that `release` would try: `emitted`, or why not.

    Raises what `preview` raises.
    """
    chosen, _ = choose(events, limit)
    counts: Counter[str] = Counter()
    for start in range(0, len(chosen), BATCH_SIZE):
        batch = QuarantinedEvent.objects.filter(pk__in=chosen[start : start + BATCH_SIZE])
        outcomes = redeliver(
            list(batch),
            lambda payload: record(payload, emit=False).outcomes,
            Outcome(Reason.MALFORMED_BODY, None),
        )
        counts.update(outcome.reason or Status.EMITTED for outcome in outcomes)
    return counts


def _preview(payload: Payload) -> list[Preview | Reason]:
    (outcome,) = record(payload, emit=False).outcomes
    if outcome.reason:
        return [outcome.reason]
    return [_show(event) for event in screen(payload) if isinstance(event, Event)]


def _show(event: Event) -> Preview | Reason:
    key = primary_key_parser()(event.user_id)
    user = find_users({key}).get(key)
    if user is None:
        return Reason.USER_NOT_FOUND  # Since a moment ago.
    context = build_context(event, user, conf.PROTECTED_CONTEXT_KEYS.get())
    return Preview(event.name, event.properties["data"], context)
