"""How long events are kept, and how many of them: as TRACKING_SEGMENTIO_QUARANTINE_* say."""

from __future__ import annotations

import logging
import time
from collections import Counter
from datetime import datetime, timedelta
from typing import NamedTuple

from django.db import router, transaction
from django.db.models import Count, QuerySet
from django.utils import timezone

from .. import conf
from ..redaction import withheld
from .models import QuarantinedEvent

logger = logging.getLogger(__name__)


def find_oldest_kept() -> datetime:
    """Return the moment before which events have been kept for long enough.

    Raises ImproperlyConfigured for a wrong setting.
    """
    return timezone.now() - timedelta(days=conf.QUARANTINE_RETENTION_DAYS.get())


def prune(events: QuerySet[QuarantinedEvent], limit: int | None = None) -> Counter[str]:
    """Delete events, at most `limit` of them and the oldest first; return how many by status.

    Deletes `_BATCH_SIZE` at a time, so that no statement keeps others waiting for long. What has
    been deleted stays so if the database fails, unless the caller has begun a transaction.

    Raises django.db.Error if the database does not answer.
    """
    alias = router.db_for_write(QuarantinedEvent)
    # By primary key, which is the order they came in; each batch begins where the last one ended.
    remaining = events.using(alias).order_by("pk")
    counts: Counter[str] = Counter()
    while limit is None or counts.total() < limit:
        size = _BATCH_SIZE if limit is None else min(_BATCH_SIZE, limit - counts.total())
        batch = list(remaining.values_list("pk", "status")[:size])
        if not batch:
            break
        last = batch[-1][0]
        # By what they have in common, again: what has been released meanwhile is to be kept by one
        # who deletes what is pending.
        remaining.filter(pk__lte=last).delete()
        counts.update(status for _, status in batch)
        remaining = remaining.filter(pk__gt=last)
    return counts


def count(events: QuerySet[QuarantinedEvent]) -> Counter[str]:
    """Return how many events `prune` would delete, by status.

    Raises django.db.Error if the database does not answer.
    """
    alias = router.db_for_write(QuarantinedEvent)
    by_status = events.using(alias).order_by().values_list("status").annotate(Count("pk"))
    return Counter(dict(by_status))


def tidy_up(alias: str) -> None:
    """Delete what is too old or too much, if it may be time to; never raises.

    Called after each delivery that was quarantined. To count the rows of a large table takes a
    while, so that is done once in an hour, or in as many new rows as there was room for at the last
    count: no fewer than a hundredth of TRACKING_SEGMENTIO_QUARANTINE_MAX_ROWS, which there can be
    more than the setting says for a while. Deletes at most `_MAX_TIDIED` rows of each kind: what is
    left is for the next delivery.
    """
    try:
        with transaction.atomic(using=alias):
            _tidy_up(alias)
    except Exception as error:
        logger.error("The quarantine could not be tidied up.", exc_info=withheld(error))


class _Tidied(NamedTuple):
    """When this process has last counted the rows; `room` is for how many there was room."""

    newest: int
    room: int
    at: float


_tidied: dict[str, _Tidied] = {}

_BATCH_SIZE = 500
_MAX_TIDIED = 10_000
_SECONDS_BETWEEN = 3600


def _tidy_up(alias: str) -> None:
    events = QuarantinedEvent.objects.using(alias)
    newest = events.order_by("-pk").values_list("pk", flat=True).first() or 0
    if not _is_due(_tidied.get(alias), newest):
        return
    prune(events.filter(created_at__lt=find_oldest_kept()), _MAX_TIDIED)
    max_rows = conf.QUARANTINE_MAX_ROWS.get()
    excess = events.count() - max_rows
    if excess > 0:
        excess -= prune(events.all(), min(excess, _MAX_TIDIED)).total()
    room = 0 if excess > 0 else max(-excess, max_rows // 100)
    _tidied[alias] = _Tidied(newest, room, time.monotonic())


def _is_due(last: _Tidied | None, newest: int) -> bool:
    # Primary keys grow by at least one with each row, whichever process makes it. That they have
    # shrunk says that somebody has emptied the table.
    return (
        last is None
        or not 0 <= newest - last.newest <= last.room
        or time.monotonic() - last.at > _SECONDS_BETWEEN
    )
