"""Out of the quarantine: stored events through the pipeline once more, or discarded.

What the admin and the commands do is done here. The events are trusted no more than when they came.
An event that is emitted and whose row cannot be updated afterwards, because the database fails at
that very moment, stays pending and is emitted again when it is released again; deduplication, where
it is on, knows it.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple

from django.db import Error as DatabaseError
from django.db import connections, router, transaction
from django.db.models import QuerySet
from django.utils import timezone

from ..emission import resolve_context, tracker_context
from ..exceptions import ServiceUnavailable
from ..outcomes import Outcome, Reason
from ..outcomes import Status as OutcomeStatus
from ..pipeline import record
from ..redaction import withheld
from ..reporting import report
from .intake import describe, find_value
from .models import QuarantinedEvent, Status
from .redelivery import redeliver

logger = logging.getLogger(__name__)

#: How many events are released in one transaction: what is emitted twice, at the most, if the
#: process is killed while it releases them.
BATCH_SIZE = 100


class Released(NamedTuple):
    """What became of the events that were to be released.

    `recorded` counts those that are released now, by `emitted` or the reason `duplicate`; `pending`
    those that are not, by their reason. `skipped` is how many were no longer pending, or in the
    hands of another process. `left` is how many were not tried: because the limit was reached, or
    because `is_interrupted` says that the database did not answer.
    """

    recorded: Counter[str]
    pending: Counter[str]
    skipped: int = 0
    left: int = 0
    is_interrupted: bool = False


def release(events: QuerySet[QuarantinedEvent], limit: int | None = None) -> Released:
    """Send the pending ones among `events` through the pipeline, the oldest first.

    One that is emitted, or turns out to have been recorded before, is released. Any other stays
    pending, with the new reason. Bodies that are no JSON stay as they are. `limit` is how many to
    try at the most.

    Of two processes that release an event at the same time, one emits it: the other skips it, or
    waits and finds it released. If the database fails, what has not been tried stays pending.

    Raises django.db.Error if the database does not even list the events, and ImproperlyConfigured
    for a wrong setting.
    """
    *_, released = release_in_batches(events, limit)
    return released


def release_in_batches(
    events: QuerySet[QuarantinedEvent], limit: int | None = None
) -> Iterator[Released]:
    """Do what `release` does, and yield what has become of the events so far after each batch.

    Yields at least once; the counters are the same each time. What a batch has released stays so,
    wherever the caller stops. Raises what `release` raises.
    """
    alias = router.db_for_write(QuarantinedEvent)
    chosen, left = choose(events, limit)
    released = Released(Counter(), Counter(), left=len(chosen) + left)
    yield released
    for start in range(0, len(chosen), BATCH_SIZE):
        batch = chosen[start : start + BATCH_SIZE]
        try:
            with transaction.atomic(using=alias), _without_this_request():
                rows = _lock(batch, alias)
                outcomes = _release(rows, alias)
        except (DatabaseError, ServiceUnavailable) as error:
            logger.error("The release of events broke off.", exc_info=withheld(error))
            yield released._replace(is_interrupted=True)
            return
        report(outcomes)
        for outcome in outcomes:
            counts = released.recorded if _is_recorded(outcome) else released.pending
            counts[outcome.reason or OutcomeStatus.EMITTED] += 1
        released = released._replace(
            skipped=released.skipped + len(batch) - len(rows), left=released.left - len(batch)
        )
        yield released


def choose(events: QuerySet[QuarantinedEvent], limit: int | None) -> tuple[list[int], int]:
    """Return the primary keys of the oldest pending events, and how many more there are.

    At most `limit`, or all of them for None.

    Raises django.db.Error if the database does not answer.
    """
    alias = router.db_for_write(QuarantinedEvent)
    pending = events.using(alias).filter(status=Status.PENDING).order_by("created_at", "pk")
    keys = list(pending.values_list("pk", flat=True))
    chosen = keys[:limit]
    return chosen, len(keys) - len(chosen)


def discard(events: QuerySet[QuarantinedEvent]) -> Counter[str]:
    """Mark the pending ones among `events` as not to be released; return how many by reason.

    Raises django.db.Error if the database does not answer.
    """
    alias = router.db_for_write(QuarantinedEvent)
    pending = events.using(alias).filter(status=Status.PENDING).order_by()
    counts: Counter[str] = Counter()
    with transaction.atomic(using=alias):
        for reason in pending.values_list("reason", flat=True).distinct():
            counts[reason] = pending.filter(reason=reason).update(status=Status.DISCARDED)
    return +counts


def _lock(keys: Sequence[int], alias: str) -> list[QuarantinedEvent]:
    """Return those that are still pending, so that nobody else can have them until the end."""
    features = connections[alias].features
    pending = QuarantinedEvent.objects.using(alias).filter(pk__in=keys, status=Status.PENDING)
    if not features.has_select_for_update:
        # SQLite locks no rows, but the database for the first who writes: from here on, whoever
        # else wants to release waits for the end of this transaction.
        pending.update(status=Status.PENDING)
    locked = pending.select_for_update(skip_locked=features.has_select_for_update_skip_locked)
    return list(locked.order_by("created_at", "pk"))


def _release(rows: Sequence[QuarantinedEvent], alias: str) -> list[Outcome]:
    malformed = Outcome(Reason.MALFORMED_BODY, None)
    outcomes = redeliver(rows, lambda payload: record(payload).outcomes, malformed)
    now = timezone.now()
    for row, outcome in zip(rows, outcomes, strict=True):
        row.attempts += 1
        row.last_attempt_at = now
        if _is_recorded(outcome):
            row.status = Status.RELEASED
        elif outcome.reason and outcome.reason != row.reason:
            row.reason = outcome.reason
            row.detail = describe(outcome.reason, find_value(row.raw))
    QuarantinedEvent.objects.using(alias).bulk_update(rows, _CHANGED_BY_RELEASE)
    return outcomes


_CHANGED_BY_RELEASE = ("status", "reason", "detail", "attempts", "last_attempt_at")


def _is_recorded(outcome: Outcome) -> bool:
    return outcome.status in (OutcomeStatus.EMITTED, OutcomeStatus.DUPLICATE)


def _without_this_request() -> AbstractContextManager[None]:
    """Keep what the tracker knows of the current request out of the events.

    On an Open edX site that is the session, the page and the browser of the member of the staff who
    releases a learner's event. Their keys stay, since consumers look for them, but are empty.
    """
    return tracker_context(dict.fromkeys(resolve_context(), ""))
