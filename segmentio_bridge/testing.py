"""For the tests of sites that use the app: events, deliveries of them, and what became of them.

With pytest, the plugin's fixtures `segmentio_deliver` and `segmentio_emitted` do what `deliver` and
`capture_emitted` do here. The sender makes its sample events with this module, so that nothing of
pytest, or of Django's own means for tests, may be imported with it.
"""

from __future__ import annotations

import copy
import hmac
import json
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from django.core.exceptions import ImproperlyConfigured

from . import conf, emission
from .payload import find_signable

if TYPE_CHECKING:
    from django.http import HttpResponse


@dataclass(frozen=True)
class EmittedEvent:
    """One event as event-tracking's global tracker got it, before any processor or backend."""

    name: str
    data: dict[str, Any]
    #: The event's own context and all that was around it, the request's for instance.
    context: dict[str, Any]


def make_event(**overrides: Any) -> dict[str, Any]:
    """Return a raw event of a phone's video player; `overrides` replace its top-level fields.

    Each has a `messageId` of its own; all else is the same each time: it happened on 2 March 2026,
    to the user with the primary key 1. `userId` is a string in JSON: write `userId=str(user.pk)`.
    """
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
        # Random, since the claims of deduplication may outlive a run of the tests.
        "messageId": str(uuid.uuid4()),
        "originalTimestamp": "2026-03-02T09:15:27.218Z",
        "projectId": "nQv7c1Yk2Zr8",
        "properties": make_properties(),
        "receivedAt": "2026-03-02T09:15:29.004Z",
        "sentAt": "2026-03-02T09:15:28.870Z",
        "timestamp": "2026-03-02T09:15:27.352Z",
        "type": "track",
        "userId": "1",
        "version": 2,
        "writeKey": "uWk2mZr1",
    }
    return {**event, **overrides}


def make_properties(**overrides: Any) -> dict[str, Any]:
    """Return the properties of `make_event()`; `overrides` replace their fields.

    `name` and `data` are what is emitted.
    """
    course_id = "course-v1:ExampleX+EX101+2026_T1"
    properties: dict[str, Any] = {
        "category": "video",
        "context": {
            "app_name": "edx.mobileapp.android",
            "component": "videoplayer",
            "course_id": course_id,
            "open_in_browser_url": f"https://learn.example.org/courses/{course_id}",
        },
        "data": {"code": "mobile", "currentTime": 12.48, "module_id": "8f3ad1c6a1d94b0c"},
        "label": "Welcome",
        "name": "edx.video.loaded",
    }
    return {**properties, **overrides}


def make_batch(size: int, **overrides: Any) -> list[dict[str, Any]]:
    """Return `size` raw events; `overrides` replace the top-level fields of each.

    A list of any other raw events is a batch, too. Segment's have up to 4,000:
    https://segment.com/docs/connections/destinations/catalog/actions-webhook/#batch-size-limits.
    """
    return [make_event(**copy.deepcopy(overrides)) for _ in range(size)]


def sign(body: bytes, secret: str) -> str:
    """Return the `X-Signature` that Segment sends with `body`.

    The HMAC-SHA1, in lower-case hexadecimal digits, of the whole body of a single event, or of the
    first element of a batch, as it stands in the body. What is no JSON is signed as a whole.
    """
    *_, signed = find_signable(body)
    return hmac.digest(secret.encode(), signed, "sha1").hex()


def deliver(delivery: object, *, headers: Mapping[str, str] | None = None) -> HttpResponse:
    """Post one delivery to this site's endpoint as Segment does, and return the answer.

    `delivery` is an event, a list of events, or the bytes of a body. The request goes to where the
    site's URLs have the endpoint, by way of its middleware, as if by https. It carries the site's
    own credentials: the key as a bearer token, and a signature, each if the setting is there; of a
    list of secrets the first one counts. `headers` go along, and take the place of those.

    Needs a database, and the settings of a test run, as Django's test client does. Raises
    NoReverseMatch if the site's URLs do not include the endpoint, ImproperlyConfigured if a secret
    has a wrong value, and TypeError for what cannot be encoded in JSON.
    """
    from django.test import Client
    from django.urls import get_script_prefix, reverse

    body = delivery if isinstance(delivery, bytes) else json.dumps(delivery).encode()
    credentials = {}
    if keys := conf.WEBHOOK_SECRET.get():
        # Servers hand over the bytes of a header as Latin-1 (PEP 3333); the client leaves it to us.
        credentials["Authorization"] = f"Bearer {keys[0].decode('latin-1')}"
    if secrets := conf.SIGNATURE_SECRET.get():
        credentials["X-Signature"] = sign(body, secrets[0].decode())
    path = reverse("segmentio_bridge:segmentio_event")
    # A server takes the prefix off before Django sees the path; the client does not.
    path = "/" + path.removeprefix(get_script_prefix())
    answer = Client(enforce_csrf_checks=True).post(
        path,
        body,
        content_type="application/json",
        secure=True,
        headers={
            # Once more, since the client has none for an empty body.
            "Content-Type": "application/json",
            "User-Agent": "Segment.io/1.0",
            **credentials,
            **(headers or {}),
        },
    )
    return cast("HttpResponse", answer)


@contextmanager
def capture_emitted() -> Iterator[list[EmittedEvent]]:
    """Collect, in a list, the events that the app emits in this process within the block.

    Each is a copy, made before the site's processors and backends get the event; they get it as
    ever. What other code emits is left out, and so is what the tracker refuses by raising. The
    tracker is afterwards as it was before.

    Raises ImproperlyConfigured if the site has no tracker.
    """
    tracker = emission.find_tracker()
    if tracker is None:
        raise ImproperlyConfigured(
            "There is no event-tracking tracker to capture from: set EVENT_TRACKING_ENABLED, and "
            'have "eventtracking.django.apps.EventTrackingConfig" in INSTALLED_APPS.'
        )
    emitted: list[EmittedEvent] = []
    tracker_emit = tracker.emit

    def emit(name: Any = None, data: Any = None) -> None:
        ours = []
        if emission.CONTEXT_NAME in tracker.located_context:
            ours = [EmittedEvent(name, _copied(data), _copied(tracker.resolve_context()))]
        tracker_emit(name, data)
        emitted.extend(ours)

    attributes = vars(tracker)
    before = {name: value for name, value in attributes.items() if name == "emit"}
    attributes["emit"] = emit
    try:
        yield emitted
    finally:
        del attributes["emit"]
        attributes.update(before)


def _copied(value: Any) -> Any:
    # Not by copy.deepcopy: what the app hands over comes apart from its copy at the top level only.
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_copied(item) for item in value]
    return value
