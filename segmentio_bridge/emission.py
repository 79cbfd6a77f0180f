"""The hand-over to event-tracking: the only import of its tracker.

A returned `emit` means handed over, not stored: event-tracking logs and swallows what its
processors and backends raise.
"""

from __future__ import annotations

import threading
from typing import Any

from eventtracking.tracker import Tracker, get_tracker

__all__ = ["CONTEXT_NAME", "Tracker", "emit", "find_tracker"]

#: The name of the tracker's context that an event's own context is entered under.
CONTEXT_NAME = "edx.segmentio"

_first_use = threading.Lock()


def find_tracker() -> Tracker | None:
    """Return event-tracking's global tracker, or None if the site has not enabled it."""
    try:
        tracker = get_tracker()
    except KeyError:
        return None
    with _first_use:
        # The tracker makes its thread-local store at first use, without a lock: two threads that
        # come first at the same time would get two stores, and one of them lose its context.
        tracker.located_context  # noqa: B018 - a property that is read for its effect
    return tracker


def emit(tracker: Tracker, name: str, data: dict[str, Any], context: dict[str, Any]) -> None:
    """Emit one event within its own context, which is gone afterwards whatever happens.

    Raises whatever the tracker raises.
    """
    with tracker.context(CONTEXT_NAME, context):
        tracker.emit(name, data)
