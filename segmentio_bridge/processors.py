"""Processors for event-tracking, which a site may name in its settings; nothing here imports it.

They prepare the events of mobile apps for consumers that know the website's: the time that an event
is stamped with, and the names of a video player's fields. An event comes to them with the raw
event's own values in it, and may be on its way to several backends: what changes is replaced, in a
copy of as few dictionaries as it takes, and nothing is changed in place. They trust nothing of an
event, and raise nothing.
"""

from __future__ import annotations

import logging
import re
from abc import ABC, abstractmethod
from datetime import datetime
from functools import lru_cache
from typing import Any

from opaque_keys import InvalidKeyError
from opaque_keys.edx.keys import CourseKey, UsageKey

from .redaction import withheld

logger = logging.getLogger(__name__)

# What tells the bridge's events from others: it puts all of these into every context. A client can
# choose the values of some, but can leave none out, and has no say in the two moments. The name of
# the tracker's context, or a mark in it, would tell the events of the platform's own view apart,
# and what a backend emits in the middle; but the one is gone after JSON, when a processor may run
# in another process, and the other must not be: the context is that view's, key for key.
_MOMENTS = ("timestamp", "received_at")
_KEYS_OF_BRIDGE = frozenset(
    {"agent", "application", "client", "event_source", "ip", "user_id", "username", *_MOMENTS}
)

# A block's id by itself, without the course that it stands in.
_BLOCK_ID = re.compile(r"[\w.~-]+")

# What Open edX stores has at most 255 characters; longer ids would make the cache's size unbounded.
_MAX_CHARACTERS = 255

_SEEK_TYPES = {"skip": "onSkipSeek", "slide": "onSlideSeek"}


class _Processor(ABC):
    """Prepares the events that came through the bridge, and returns all others as they are."""

    def __call__(self, event: Any) -> Any:
        """Return `event`, or what takes its place; the same object if there is nothing to do.

        Raises nothing: an event that cannot be prepared is logged, and returned as it is.
        """
        try:
            return self._prepare(event) if _came_through_bridge(event) else event
        except Exception as error:
            logger.error("%s failed.", type(self).__name__, exc_info=withheld(error))
            return event

    @abstractmethod
    def _prepare(self, event: dict[str, Any]) -> dict[str, Any]:
        """Return what takes the place of an event that came through the bridge."""


class EventTimeProcessor(_Processor):
    """Stamps an event with the moment it happened, instead of that of its emission.

    The moment is the context's `timestamp`, in UTC: Segment's, which is the device's clock
    corrected by the difference from Segment's own. Where event-tracking's stamp has become a string
    on the way, it stays a string: in ISO 8601, always with microseconds, without which
    event-tracking's event bus backend cannot read it.
    """

    def _prepare(self, event: dict[str, Any]) -> dict[str, Any]:
        stamp = event.get("timestamp")
        if stamp is None:
            # The platform's processors for the tracking log have been here, and left a `time`.
            return event
        moment = _read_moment(event["context"]["timestamp"])
        is_text = isinstance(stamp, str)
        return {
            **event,
            "timestamp": moment.isoformat(timespec="microseconds") if is_text else moment,
        }


class MobileVideoProcessor(_Processor):
    """Gives the data of a video player's event the names that the website's player uses.

    Concerns events named `edx.video.…` that carry a `module_id`. What is added, beside the fields
    that are there, of which none is changed:

    - `id`: the block's id within its course, as the website's player sends it and as
      edx-event-routing-backends builds the usage key from. Of an old `i4x://` key, the platform's
      form of it for HTML. Left out if `module_id` names no block of a course, or has more than 255
      characters.
    - `currentTime`: `current_time`, in seconds.
    - `type`: `seek_type`, `skip` as `onSkipSeek` and `slide` as `onSlideSeek`.

    Names and values are those that the platform's own processors give the tracking log, but for
    what these mend of old builds by `requested_skip_interval`:
    https://github.com/openedx/edx-platform/blob/master/common/djangoapps/track/transformers.py. The
    log is the same with this processor as without; only that there a `module_id` that is a bare
    block id, without its course, is dropped.
    """

    def _prepare(self, event: dict[str, Any]) -> dict[str, Any]:
        name, data = event.get("name"), event.get("data")
        if not (isinstance(name, str) and name.startswith("edx.video.")):
            return event
        if not (isinstance(data, dict) and "module_id" in data):
            return event
        translated = {
            "id": _find_block_id(data["module_id"]),
            "currentTime": data.get("current_time"),
            "type": _find_seek_type(data.get("seek_type")),
        }
        added = {
            key: value for key, value in translated.items() if value is not None and key not in data
        }
        return {**event, "data": {**data, **added}} if added else event


def _came_through_bridge(event: object) -> bool:
    """Tell whether the bridge, or the platform's view that it stands for, emitted an event."""
    context = event.get("context") if isinstance(event, dict) else None
    return (
        isinstance(context, dict)
        and context.keys() >= _KEYS_OF_BRIDGE
        and all(_is_moment(context[key]) for key in _MOMENTS)
    )


def _is_moment(value: object) -> bool:
    if not isinstance(value, datetime | str):
        return False
    try:
        return _read_moment(value).utcoffset() is not None
    except ValueError:
        return False


def _read_moment(value: datetime | str) -> datetime:
    return datetime.fromisoformat(value) if isinstance(value, str) else value


def _find_block_id(module_id: object) -> str | None:
    if not isinstance(module_id, str) or len(module_id) > _MAX_CHARACTERS:
        return None
    return _parse_block_id(module_id)


# Parsing a usage key takes longer than all the rest of this module, and most events of a time come
# from few videos.
@lru_cache(maxsize=1024)
def _parse_block_id(module_id: str) -> str | None:
    try:
        key = UsageKey.from_string(module_id)
    except InvalidKeyError:
        return module_id if _BLOCK_ID.fullmatch(module_id) else None
    block_id: str | None = key.html_id() if isinstance(key.context_key, CourseKey) else None
    return block_id


def _find_seek_type(seek_type: object) -> str | None:
    return _SEEK_TYPES.get(seek_type) if isinstance(seek_type, str) else None
