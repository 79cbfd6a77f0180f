"""What one step of the way hands to the next; values, which nothing here looks at."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple


class Event(NamedTuple):
    """A raw event that passed validation, but for its user.

    `source` is what TRACKING_SEGMENTIO_SOURCE_MAP calls its library. `client` is the raw event's
    `context`, `properties` its `properties` and `user_id` its `userId`, as they came; `message_id`
    is None if it has none. `timestamp` and `received_at` are aware, in UTC.
    """

    message_id: str | None
    name: str
    source: str
    client: dict[str, Any]
    properties: dict[str, Any]
    user_id: object
    timestamp: datetime
    received_at: datetime


class User(NamedTuple):
    """What the tracking context tells of a user; an `id` that is no integer is a string.

    `username` is the value of the user model's USERNAME_FIELD.
    """

    id: int | str
    username: str
