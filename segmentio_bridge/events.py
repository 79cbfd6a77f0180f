"""What one step of the way hands to the next."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple


class Event(NamedTuple):
    """A raw event that passed validation, but for its user.

    `client` is the raw event's `context`, `user_id` its `userId` as it came.
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
    """What the tracking context tells of a user; an `id` that is no integer is a string."""

    id: int | str
    username: str
