"""The tracking context of an event; pure but for a warning, and a new dictionary each time.

Key for key what the platform's own view builds:
https://github.com/openedx/edx-platform/blob/master/common/djangoapps/track/views/segmentio.py. The
values are those of the raw event, not copies: nothing here uses them any more once event-tracking
has them. They may be anything that JSON can say, where validation has not looked; that raises
nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from functools import lru_cache
from typing import Any

from opaque_keys import InvalidKeyError
from opaque_keys.edx.keys import CourseKey

from .events import Event, User
from .redaction import printable

logger = logging.getLogger(__name__)

# What Open edX stores has at most 255 characters; longer ids would make the cache's size unbounded.
_MAX_CACHED_CHARACTERS = 255

_LEFT_OUT_OF_CLIENT = frozenset({"traits", "integrations", "userAgent"})


def build_context(event: Event, user: User, protected_keys: Collection[str]) -> dict[str, Any]:
    """Return the tracking context of `event`.

    What `properties.context` says overrides what is derived from the event's `context`, except for
    `protected_keys`, which count as if the client had not sent them.

    `timestamp` and `received_at` are aware, in UTC; all the rest is JSON. `org_id` is there if the
    final `course_id` is valid: one that is not is logged, and stays as it is.
    """
    client = event.client
    properties = event.properties
    sent: dict[str, Any] = properties.get("context", {})
    overrides = {
        key: value for key, value in sent.items() if key != "app_name" and key not in protected_keys
    }

    context: dict[str, Any] = {"event_source": event.source}
    if "application" not in overrides:
        app = client.get("app")
        context["application"] = {
            "name": sent.get("app_name", ""),
            "version": app.get("version", "") if isinstance(app, dict) else "",
        }
    context["client"] = {
        key: value for key, value in client.items() if key not in _LEFT_OUT_OF_CLIENT
    }
    context["agent"] = client.get("userAgent", "")
    context.update(overrides)
    context["user_id"] = user.id
    context["username"] = user.username
    context["timestamp"] = event.timestamp
    context["received_at"] = event.received_at
    context["ip"] = overrides.get("ip", "")
    if "label" in properties:
        context["label"] = properties["label"]
    if "course_id" in properties:
        context["course_id"] = properties["course_id"]
    if "course_id" in context:
        _add_organisation(context, event.message_id)
    return context


def _add_organisation(context: dict[str, Any], message_id: str | None) -> None:
    course_id = context["course_id"]
    try:
        context["org_id"] = _get_organisation(course_id)
    except InvalidKeyError:
        logger.warning(
            "Invalid course id %s in event %s.", printable(course_id), printable(message_id)
        )


def _get_organisation(course_id: object) -> str | None:
    if not isinstance(course_id, str):
        raise InvalidKeyError(CourseKey, course_id)
    if len(course_id) > _MAX_CACHED_CHARACTERS:
        return _parse_organisation(course_id)
    return _cached_organisation(course_id)


def _parse_organisation(course_id: str) -> str | None:
    organisation: str | None = CourseKey.from_string(course_id).org
    return organisation


# The events of a batch come from few courses, and parsing a course id takes longer than all the
# rest of this module. An id always means the same; ids that are not valid are not kept.
_cached_organisation = lru_cache(maxsize=1024)(_parse_organisation)
