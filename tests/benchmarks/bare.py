"""The floors: the least that Django and event-tracking can do for a delivery."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt
from eventtracking.tracker import get_tracker

from segmentio_bridge.emission import CONTEXT_NAME


@csrf_exempt
def parse(request: HttpRequest) -> HttpResponse:
    """Parse the request's JSON and do nothing with it."""
    json.loads(request.body)
    return HttpResponse()


@csrf_exempt
def refuse(request: HttpRequest) -> HttpResponse:
    """Answer 401 without a look at the request."""
    return HttpResponse(status=401)


@dataclass(frozen=True, slots=True)
class FinishedEvent:
    """What is handed to the tracker for one event."""

    name: str
    data: dict[str, Any]
    context: dict[str, Any]


@contextmanager
def finished_events() -> Iterator[list[FinishedEvent]]:
    """Yield a list that every event emitted within the block is added to."""
    collector = _Collector()
    backends = get_tracker().backends
    backends["collector"] = collector
    try:
        yield collector.events
    finally:
        del backends["collector"]


class _Collector:
    """A tracking backend that keeps what it is sent."""

    def __init__(self) -> None:
        self.events: list[FinishedEvent] = []

    def send(self, event: dict[str, Any]) -> None:
        self.events.append(FinishedEvent(event["name"], event["data"], event["context"]))


def emit(events: Sequence[FinishedEvent]) -> None:
    """Emit each event in its own context: two entries in the tracker's context, and `emit`.

    Less than `with tracker.context(...)`, which also cleans up after an error.
    """
    tracker = get_tracker()
    for event in events:
        tracker.enter_context(CONTEXT_NAME, event.context)
        tracker.emit(event.name, event.data)
        tracker.exit_context(CONTEXT_NAME)
