"""From a raw event to an event, or to the reason why not.

Pure: no database, no clock, and no settings but the rules that it is given. A raw event may be
anything that JSON can say, and is never changed. Nothing is raised: what is wrong has a reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from .events import Event
from .outcomes import Reason
from .timestamps import parse_iso8601_timestamp

#: How deep an event may be nested, the event itself being the first level. Copying an event takes
#: two frames of the interpreter's 1,000 for each level; real events have about ten levels.
MAX_DEPTH = 100

#: Old Android builds send this label without a name for what is a screen of the forum.
FORUM_THREAD_LABEL = "Forum: View Thread"
#: The name that the event has then, as in the platform's view.
FORUM_THREAD_NAME = "edx.bi.app.navigation.screen"


_CONTAINERS = frozenset({dict, list})


class Rules(NamedTuple):
    """The site's settings that decide about an event.

    `allowed_types` and `disallowed_names` are lower-cased. A library is unknown that `source_map`
    has no name for, or an empty one.
    """

    source_map: Mapping[str, str | None]
    allowed_types: frozenset[str]
    disallowed_names: tuple[str, ...]


def find_message_id(raw: object) -> str | None:
    """Return the event's `messageId` if it is a string that is not empty.

    Segment's have up to 100 characters; this may have any number, and any content.
    """
    message_id = raw.get("messageId") if isinstance(raw, dict) else None
    return message_id if message_id and isinstance(message_id, str) else None


def validate(raw: object, rules: Rules) -> Event | Reason:
    """Return the event that `raw` holds, or the first reason why it holds none.

    The order is that of `Reason`. The rules are those of the platform's view, but for what the
    README says is different.
    What is of no interest to the bridge, most events of a shared source, ends at the first few
    lookups; an event is only walked through once its source and type are known to be wanted.
    """
    if not isinstance(raw, dict):
        return Reason.NOT_AN_OBJECT
    source = find_source(raw, rules.source_map)
    if not source:
        return Reason.UNKNOWN_SOURCE
    event_type = raw.get("type")
    if not isinstance(event_type, str) or event_type.lower() not in rules.allowed_types:
        return Reason.UNSUPPORTED_TYPE
    if _is_deeper_than(MAX_DEPTH, raw):
        return Reason.TOO_DEEP
    properties = raw.get("properties")
    if properties is None:
        properties = {}
    elif not isinstance(properties, dict):
        return Reason.INVALID_PROPERTIES

    name = properties.get("name", "")
    if name == "":
        if properties.get("label") != FORUM_THREAD_LABEL:
            return Reason.MISSING_NAME
        name = FORUM_THREAD_NAME
    elif not isinstance(name, str):
        return Reason.INVALID_NAME
    lower_cased_name = name.lower()
    if any(disallowed in lower_cased_name for disallowed in rules.disallowed_names):
        return Reason.DISALLOWED_NAME

    if "data" not in properties:
        return Reason.MISSING_DATA
    if not isinstance(properties["data"], dict):
        return Reason.INVALID_DATA
    if not isinstance(properties.get("context", {}), dict):
        return Reason.INVALID_CONTEXT

    user_id = raw.get("userId")
    # By type: False and 0.0 equal 0, but are no missing id.
    if user_id is None or user_id == "" or (type(user_id) is int and user_id == 0):
        return Reason.MISSING_USER_ID

    if "timestamp" not in raw:
        return Reason.MISSING_TIMESTAMP
    timestamp = _read_moment(raw["timestamp"])
    if timestamp is None:
        return Reason.INVALID_TIMESTAMP
    if "receivedAt" not in raw:
        return Reason.MISSING_RECEIVED_AT
    received_at = _read_moment(raw["receivedAt"])
    if received_at is None:
        return Reason.INVALID_RECEIVED_AT

    return Event(
        message_id=find_message_id(raw),
        name=name,
        source=source,
        client=raw["context"],
        properties=properties,
        user_id=user_id,
        timestamp=timestamp,
        received_at=received_at,
    )


def find_source(raw: object, source_map: Mapping[str, str | None]) -> str | None:
    """Return the source that `context.library.name` stands for; None or empty for none."""
    client = raw.get("context") if isinstance(raw, dict) else None
    library = client.get("library") if isinstance(client, dict) else None
    name = library.get("name") if isinstance(library, dict) else None
    return source_map.get(name) if isinstance(name, str) else None


def _is_deeper_than(limit: int, value: dict[str, Any]) -> bool:
    # Exact types, which are what JSON is parsed to: isinstance would make this, the most expensive
    # step of validation, half as fast again.
    level: list[Any] = [value]
    for _ in range(limit):
        level = [
            child
            for node in level
            for child in (node.values() if type(node) is dict else node)
            if type(child) in _CONTAINERS
        ]
        if not level:
            return False
    return True


def _read_moment(value: object) -> datetime | None:
    if not isinstance(value, str):
        return None
    try:
        return parse_iso8601_timestamp(value)
    except ValueError:
        return None
