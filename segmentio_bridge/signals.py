"""The app's signals; receivers run where they are sent: in the request, worker or command."""

from __future__ import annotations

import logging
from typing import Any

from django.dispatch import Signal

from .redaction import withheld

logger = logging.getLogger(__name__)

#: Sent once for each delivery that was taken, with `outcomes`: the list of an `Outcome` for each of
#: its raw events, in their order. Those that are left to a worker are not in it: the worker sends
#: it for them, after each attempt at a chunk. A replay and a release send it for each of their
#: batches. A receiver that raises harms neither the delivery nor the others.
events_processed = Signal()

#: Sent with `events`: a list of an `UnrecordedEvent` for each event of a delivery that was rejected
#: or failed. A receiver that returns True keeps a copy of all of them, so that the sender need not
#: send them again. The events come from outside and have been checked for nothing.
events_unrecorded = Signal()

#: Sent after each request to the endpoint that used the right method, with the answer's
#: `status_code`, `seconds`, the time that it took, as a float, and `events`, the number of raw
#: events that the delivery holds, those left to a worker included, or None if it was refused as a
#: whole.
delivery_answered = Signal()


def send(signal: Signal, **named: Any) -> list[object]:
    """Send a signal to all its receivers, and return what those that did not raise have answered.

    Never raises. Django logs what a receiver raises, but trips over one that has no name.
    """
    if not signal.receivers:
        return []
    try:
        answers = signal.send_robust(sender=None, **named)
    except Exception as error:
        logger.error("The receivers of a signal could not all be called.", exc_info=withheld(error))
        return []
    return [answer for _, answer in answers if not isinstance(answer, Exception)]
