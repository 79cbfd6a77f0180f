"""The app's signals."""

from __future__ import annotations

from django.dispatch import Signal

#: Sent once for each delivery that was taken, with `outcomes`: the list of an `Outcome` for each of
#: its raw events, in their order. A receiver that raises harms neither the delivery nor the others.
events_processed = Signal()
