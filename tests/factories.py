"""Realistic raw events, as Segment's mobile libraries send them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from typing import Any

from segmentio_bridge.payload import Payload

_numbers = itertools.count(1)


def make_event(**overrides: Any) -> dict[str, Any]:
    """Return a raw event of a phone's video player; `overrides` replace its top-level fields."""
    number = next(_numbers)
    event: dict[str, Any] = {
        "anonymousId": "507f191e810c19729de860ea",
        "channel": "mobile",
        "context": {
            "app": {
                "build": "3041",
                "name": "Learn",
                "namespace": "org.example.learn",
                "version": "4.1.2",
            },
            "device": {
                "id": "b3cffcf4bd1f5a3d",
                "manufacturer": "Google",
                "model": "Pixel 7",
                "name": "panther",
                "type": "android",
            },
            "ip": "203.0.113.24",
            "library": {"name": "analytics-kotlin", "version": "1.16.3"},
            "locale": "en-GB",
            "network": {
                "bluetooth": False,
                "carrier": "Example Mobile",
                "cellular": True,
                "wifi": False,
            },
            "os": {"name": "Android", "version": "14"},
            "screen": {"density": 2.625, "height": 2201, "width": 1080},
            "timezone": "Europe/Lisbon",
            "traits": {"anonymousId": "507f191e810c19729de860ea", "email": "learner@example.org"},
            "userAgent": "Dalvik/2.1.0 (Linux; U; Android 14; Pixel 7 Build/UQ1A.240205.004)",
        },
        "event": "Loaded Video",
        "integrations": {},
        "messageId": f"api-{number:08d}-2fPcQm0VbYtDkX7s",
        "originalTimestamp": "2026-03-02T09:15:27.218Z",
        "projectId": "nQv7c1Yk2Zr8",
        "properties": {
            "category": "video",
            "context": {
                "app_name": "edx.mobileapp.android",
                "component": "videoplayer",
                "course_id": "course-v1:ExampleX+EX101+2026_T1",
                "open_in_browser_url": "https://learn.example.org/courses/course-v1:ExampleX+EX101+2026_T1",
            },
            "data": {"code": "mobile", "currentTime": 12.48, "module_id": "8f3ad1c6a1d94b0c"},
            "label": "Welcome",
            "name": "edx.video.loaded",
        },
        "receivedAt": "2026-03-02T09:15:29.004Z",
        "sentAt": "2026-03-02T09:15:28.870Z",
        "timestamp": "2026-03-02T09:15:27.352Z",
        "type": "track",
        "userId": "1",
        "version": 2,
        "writeKey": "uWk2mZr1",
    }
    return {**event, **overrides}


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


def make_properties(**overrides: Any) -> dict[str, Any]:
    """Return the properties of `make_event()`; `overrides` replace their fields."""
    properties: dict[str, Any] = make_event()["properties"]
    return {**properties, **overrides}


def make_event_of_website() -> dict[str, Any]:
    """Return a raw event that the website's own JavaScript sent to the same source."""
    return make_event(context={"library": {"name": "analytics.js", "version": "5.2.1"}})
