"""The hand-over to event-tracking: an event is the tracker's own, and is passed on as it is."""

from __future__ import annotations

import copy
import threading
from typing import Any

import pytest
from eventtracking import tracker as tracking
from eventtracking.backends.routing import RoutingBackend

from segmentio_bridge.emission import emit, find_tracker

Event = dict[str, Any]

DATA: Event = {"nested": {"list": [1, {"two": 2}]}, "text": "x"}
CONTEXT: Event = {"client": {"library": {"name": "n"}}, "label": [{"a": 1}], "username": "ada"}


class Keep:
    """A backend that keeps the events it gets, and checks that they are ordinary."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def send(self, event: Event) -> None:
        assert type(event["data"]) is type(event["context"]) is dict
        assert all(type(value) in (dict, list, str) for value in event["context"].values())
        self.events.append(event)


def spoil(event: Event) -> Event:
    """Change an event in place, as processors may."""
    event["data"]["nested"]["list"].append("spoilt")
    event["context"]["client"]["library"]["name"] = "spoilt"
    return event


def test_what_one_router_changes_the_next_does_not_see() -> None:
    first, second = Keep(), Keep()
    tracker = tracking.Tracker(
        {
            "1": RoutingBackend({"keep": first}, [spoil]),
            "2": RoutingBackend({"keep": second}),
        }
    )
    emit(tracker, "name", copy.deepcopy(DATA), copy.deepcopy(CONTEXT))
    ((changed,), (unchanged,)) = first.events, second.events
    assert changed["data"]["nested"]["list"][-1] == "spoilt"
    assert changed["context"]["client"]["library"]["name"] == "spoilt"
    assert (unchanged["name"], unchanged["data"], unchanged["context"]) == ("name", DATA, CONTEXT)


def test_the_context_is_left_whatever_happens() -> None:
    class Broken(RoutingBackend):
        def send(self, event: Event) -> None:
            raise RuntimeError

    tracker = tracking.Tracker()
    tracker.routing_backend = Broken()
    with pytest.raises(RuntimeError):
        emit(tracker, "name", {}, {})
    assert not tracker.located_context


def test_threads_that_come_first_at_the_same_time_do_not_mix() -> None:
    keep = Keep()
    before = tracking.get_tracker()
    barrier = threading.Barrier(8)

    def run(number: int) -> None:
        barrier.wait()
        tracker = find_tracker()
        for _ in range(50):
            emit(tracker, str(number), {}, {"mark": str(number)})

    try:
        for _ in range(10):
            fresh = type(before)()
            fresh.routing_backend.register_backend("keep", keep)
            tracking.register_tracker(fresh)
            threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    finally:
        tracking.register_tracker(before)
    assert len(keep.events) == 10 * 8 * 50
    assert all(event["context"] == {"mark": event["name"]} for event in keep.events)
