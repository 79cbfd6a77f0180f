"""Queue mode: what survives screening is left to Celery, which records it in its own time.

The request hands the events over as the JSON that they came in, in chunks, with the tracker context
that it ran in, so that a worker emits what the request would have emitted. A worker acknowledges a
chunk when it is done with it: one that is killed has its chunk given to another.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping, Sequence
from typing import Any

from celery import shared_task
from celery.exceptions import Reject
from edx_django_utils.monitoring import set_code_owner_attribute_from_module

from .broker import acquire_producer, delete_copy
from .emission import resolve_context, tracker_context
from .events import Event
from .exceptions import ServiceUnavailable
from .outcomes import Outcome, Reason, Status
from .payload import Payload, parse_events
from .pipeline import Result, keep, record, screen
from .redaction import withheld
from .reporting import report
from .validation import find_message_id

logger = logging.getLogger(__name__)

#: How many events a worker is given at once: a fraction of a second's work, which is what is done
#: twice if the worker is killed.
CHUNK_SIZE = 100

#: A worker waits 1, 2, 4, … seconds between attempts, but no more than ten minutes: less than
#: RabbitMQ lets a consumer keep a message for, and than Redis's visibility timeout.
MAX_RETRY_SECONDS = 600

#: The waits add up to 4 hours and 7 minutes, at least: as long as Segment itself goes on trying.
MAX_RETRIES = 33


def enqueue(payload: Payload) -> Result:
    """Screen the raw events of a delivery, and leave those that survive to a worker.

    Returns when the broker has taken all of them. Raises ServiceUnavailable if it does not,
    ImproperlyConfigured for a wrong setting, and MalformedBody.
    """
    queued: list[bytes] = []
    decided: list[tuple[Outcome, bytes]] = []
    for item, raw in zip(screen(payload), payload.slices(), strict=True):
        if isinstance(item, Event) or item.status is Status.FAILED:
            queued.append(raw)
        else:
            decided.append((item, raw))
    try:
        _send(queued, resolve_context())
    except Exception as error:
        logger.error("The broker did not take a delivery.", exc_info=withheld(error))
        raise ServiceUnavailable from error
    keep(decided)
    return Result([outcome for outcome, _ in decided], should_be_retried=False, queued=len(queued))


@shared_task(  # type: ignore[untyped-decorator]  # Celery publishes no types
    acks_late=True,
    ignore_result=True,
    name="segmentio_bridge.record_events",
    reject_on_worker_lost=True,
    serializer="json",
)
def record_events(events: str, context: dict[str, Any], attempt: int = 0) -> None:
    """Record a chunk of raw events, given as a JSON array; try again later with those that fail.

    `context` is the tracker context of the request they came with.
    """
    _set_code_owner()
    payload = parse_events(events.encode())
    outcomes = _record(payload, context)
    failed: list[bytes] = []
    settled: list[tuple[Outcome, bytes]] = []
    for outcome, raw in zip(outcomes, payload.slices(), strict=True):
        if outcome.status is Status.FAILED and attempt < MAX_RETRIES:
            failed.append(raw)
        else:
            settled.append((outcome, raw))
    try:
        _send(failed, context, attempt=attempt + 1)
    except Exception as error:
        logger.error("The broker did not take a second attempt.", exc_info=withheld(error))
        raise Reject("no second attempt", requeue=True) from None
    keep(settled)
    report([outcome for outcome, _ in settled])
    request = record_events.request
    if request.id and not request.is_eager:
        delete_copy(record_events.app, request.id)


def _set_code_owner() -> None:
    # Not by way of the decorator: where a monitoring agent fails, the task would fail with it.
    try:
        set_code_owner_attribute_from_module(__name__)
    except Exception as error:
        logger.error("Monitoring was not told whose task this is.", exc_info=withheld(error))


def _record(payload: Payload, context: Mapping[str, Any]) -> Sequence[Outcome]:
    try:
        with tracker_context(context):
            return record(payload).outcomes
    except ServiceUnavailable:
        reason = Reason.DATABASE_UNAVAILABLE
    except Exception as error:
        logger.error("A chunk of events met an unexpected error.", exc_info=withheld(error))
        reason = Reason.INTERNAL_ERROR
    return [Outcome(reason, find_message_id(raw)) for raw in payload]


def _send(events: Sequence[bytes], context: Mapping[str, Any], attempt: int = 0) -> None:
    """Give events to the broker; return when it has taken them."""
    if not events:
        return
    wait = min(2 ** (attempt - 1), MAX_RETRY_SECONDS) if attempt else 0
    with acquire_producer(record_events.app) as producer:
        for start in range(0, len(events), CHUNK_SIZE):
            chunk = b"[%b]" % b",".join(events[start : start + CHUNK_SIZE])
            record_events.apply_async(
                (chunk.decode(), context, attempt),
                # Not what Celery would make of the arguments for its logs and monitors.
                argsrepr="(events, context)",
                countdown=wait * random.uniform(1, 1.1),  # noqa: S311 - spreads load, no secret
                producer=producer,
                # Once more with a new connection, for the pool may hold one that has died.
                retry=True,
                retry_policy={"max_retries": 1, "interval_start": 0},
            )
