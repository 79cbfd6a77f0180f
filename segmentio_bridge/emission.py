"""The hand-over to event-tracking: the only import of its tracker.

A returned `emit` means handed over, not stored: event-tracking logs and swallows what its
processors and backends raise (https://github.com/openedx/event-tracking). What is handed over is
what validation let through. Only `emit` raises: whatever the tracker does.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from eventtracking.tracker import Tracker, get_tracker

__all__ = [
    "CONTEXT_NAME",
    "Tracker",
    "emit",
    "find_tracker",
    "resolve_context",
    "tracker_context",
]

#: The name of the tracker's context that an event's own context is entered under.
CONTEXT_NAME = "edx.segmentio"

# The name of the context that takes the place of a request's in a worker.
_REQUEST_CONTEXT_NAME = "segmentio_bridge.request"

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


def resolve_context() -> dict[str, Any]:
    """Return what the tracker would add to an event emitted here; nothing without a tracker."""
    tracker = find_tracker()
    context: dict[str, Any] = tracker.resolve_context() if tracker else {}
    return context


def tracker_context(context: Mapping[str, Any]) -> AbstractContextManager[None]:
    """Add `context` to what is emitted within the block; an event's own context overrides it.

    In this thread only, and not without a tracker.
    """
    tracker = find_tracker()
    return tracker.context(_REQUEST_CONTEXT_NAME, context) if tracker else nullcontext()


class _HandedOver(dict[str, Any]):
    """A dictionary that event-tracking takes over instead of copying it.

    The tracker deep-copies what it is given before a processor may change it, since a caller may go
    on using it. Nothing here uses an event after its emission, so that this copy, more than a third
    of what an emission costs, would be made for nothing. What the tracker goes on with is an
    ordinary dictionary, and what its routers copy for their own backends they copy as ever.
    """

    __slots__ = ()

    def __deepcopy__(self, memo: object) -> dict[str, Any]:
        return dict(self)


def emit(tracker: Tracker, name: str, data: dict[str, Any], context: dict[str, Any]) -> None:
    """Emit one event within its own context, which is gone afterwards whatever happens.

    Data and context belong to the tracker from then on. Raises whatever the tracker raises.
    """
    handed_over = {
        key: _HandedOver(value) if type(value) is dict else value for key, value in context.items()
    }
    tracker.enter_context(CONTEXT_NAME, handed_over)
    try:
        tracker.emit(name, _HandedOver(data))
    finally:
        tracker.exit_context(CONTEXT_NAME)
