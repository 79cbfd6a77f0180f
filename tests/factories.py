"""Realistic raw events, as Segment's mobile libraries send them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from typing import Any

from segmentio_bridge import testing
from segmentio_bridge.payload import Payload
from segmentio_bridge.testing import make_properties

__all__ = [
    "ParsedPayload",
    "make_event",
    "make_event_of_website",
    "make_properties",
    "without",
]

_numbers = itertools.count(1)


def make_event(**overrides: Any) -> dict[str, Any]:
    """Return a raw event of a phone's video player; `overrides` replace its top-level fields.

    That of `segmentio_bridge.testing`, with a `messageId` that is the same in every run.
    """
    message_id = f"api-{next(_numbers):08d}-2fPcQm0VbYtDkX7s"
    return testing.make_event(**{"messageId": message_id, **overrides})


class ParsedPayload(Payload):
    """A payload of raw events that are there already, and may be objects that no JSON can say."""

    __slots__ = ("_raw_events",)

    def __init__(self, raw_events: Sequence[Any]) -> None:
        super().__init__(b"")
        self._raw_events = raw_events

    def __iter__(self) -> Iterator[Any]:
        return iter(self._raw_events)

    def slices(self) -> Iterator[bytes]:
        """Yield each raw event as JSON."""
        return (json.dumps(raw).encode() for raw in self._raw_events)


def without(mapping: dict[str, Any], key: str) -> dict[str, Any]:
    """Return a copy of `mapping` that lacks `key`."""
    return {name: value for name, value in mapping.items() if name != key}


def make_event_of_website() -> dict[str, Any]:
    """Return a raw event that the website's own JavaScript sent to the same source."""
    return make_event(context={"library": {"name": "analytics.js", "version": "5.2.1"}})
