"""What the operator sees of a delivery: log lines, monitoring attributes and the signal.

Nothing here can change what became of an event, whatever a monitoring agent or a receiver does:
nothing is raised. What is quoted of an event came over the wire; it is cut at 200 characters, and
cannot forge a line.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from edx_django_utils.monitoring import set_custom_attribute

from .outcomes import Outcome, Reason, Status, count_by_status
from .redaction import printable, withheld
from .signals import events_processed, send

logger = logging.getLogger(__name__)

_MAX_ATTRIBUTE_CHARACTERS = 200

_COUNT_ATTRIBUTES = {status: f"segment_{status}_count" for status in Status}


def report(
    outcomes: Sequence[Outcome], *, single: dict[str, Any] | None = None, queued: int = 0
) -> None:
    """Log the rejections, set the monitoring attributes and send `events_processed`. Never raises.

    `single` is the raw event of a delivery that is no batch; `queued` is how many raw events of the
    delivery have no outcome yet, because they are left to a worker.

    Failures have been logged where they happened, with their traceback.
    """
    counts = count_by_status(outcomes)
    if counts[Status.REJECTED]:
        for outcome in outcomes:
            if outcome.status is Status.REJECTED:
                logger.info("Event %s rejected: %s.", printable(outcome.message_id), outcome.reason)
    try:
        _set_attributes(outcomes, counts, single, queued)
    except Exception as error:
        logger.error("The monitoring attributes could not be set.", exc_info=withheld(error))
    send(events_processed, outcomes=list(outcomes))


def _set_attributes(
    outcomes: Sequence[Outcome],
    counts: Mapping[Status, int],
    single: dict[str, Any] | None,
    queued: int,
) -> None:
    # .. custom_attribute_name: segment_batch_size
    # .. custom_attribute_description: The number of raw events in the delivery; 1 for a delivery of
    #    a single event.
    set_custom_attribute("segment_batch_size", len(outcomes) + queued)
    if queued:
        # .. custom_attribute_name: segment_queued_count
        # .. custom_attribute_description: How many events of the delivery were left to a worker,
        #    which sets the attributes again for those that it takes.
        set_custom_attribute("segment_queued_count", queued)
    # .. custom_attribute_name: segment_emitted_count
    # .. custom_attribute_description: How many events of the delivery were emitted.

    # .. custom_attribute_name: segment_duplicate_count
    # .. custom_attribute_description: How many events of the delivery had been recorded before.

    # .. custom_attribute_name: segment_ignored_count
    # .. custom_attribute_description: How many events of the delivery were ignored.

    # .. custom_attribute_name: segment_rejected_count
    # .. custom_attribute_description: How many events of the delivery were rejected.

    # .. custom_attribute_name: segment_failed_count
    # .. custom_attribute_description: How many events of the delivery failed.
    for status, count in counts.items():
        set_custom_attribute(_COUNT_ATTRIBUTES[status], count)
    if single is not None:
        _set_attributes_of_single(single, outcomes[0] if outcomes else None)


def _set_attributes_of_single(raw: dict[str, Any], outcome: Outcome | None) -> None:
    reason = outcome.reason if outcome else None
    if outcome and outcome.source:
        # .. custom_attribute_name: segment_event_source
        # .. custom_attribute_description: The source of a single event, as
        #    TRACKING_SEGMENTIO_SOURCE_MAP names it.
        set_custom_attribute("segment_event_source", outcome.source)
    properties = raw.get("properties")
    if not isinstance(properties, dict):
        return
    if isinstance(properties.get("name"), str):
        # .. custom_attribute_name: segment_event_name
        # .. custom_attribute_description: The name that a single event carries, cut at 200
        #    characters.
        set_custom_attribute("segment_event_name", _attribute(properties["name"]))
    if reason is Reason.INVALID_DATA:
        # .. custom_attribute_name: segment_unexpected_data
        # .. custom_attribute_description: What a single event has in place of the object
        #    properties.data, cut at 200 characters.
        set_custom_attribute("segment_unexpected_data", _attribute(properties["data"]))
    if reason is Reason.INVALID_CONTEXT:
        # .. custom_attribute_name: segment_unexpected_context
        # .. custom_attribute_description: What a single event has in place of the object
        #    properties.context, cut at 200 characters.
        set_custom_attribute("segment_unexpected_context", _attribute(properties["context"]))


def _attribute(value: object) -> str:
    # Agents write attributes to places of their own: no control character and no lone surrogate
    # may reach them.
    text = str(value)[:_MAX_ATTRIBUTE_CHARACTERS]
    return text if text.isprintable() else "".join(c if c.isprintable() else "\ufffd" for c in text)
