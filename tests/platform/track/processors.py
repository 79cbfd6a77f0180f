"""The processors that make the events in the tracking log look as they always did."""

from __future__ import annotations

from typing import Any

TOP_LEVEL = (
    "username",
    "session",
    "ip",
    "agent",
    "host",
    "referer",
    "accept_language",
    "event_type",
    "event_source",
    "page",
)

EVENT_TYPES = {
    "edx.video.loaded": "load_video",
    "edx.video.paused": "pause_video",
    "edx.video.played": "play_video",
}


class TopLevelFields:
    """Moves fields from the context to the top of the event, and has it say when it happened."""

    def __call__(self, event: dict[str, Any]) -> dict[str, Any]:
        context = dict(event["context"])
        time = context.pop("timestamp", event["timestamp"])
        top = {field: context.pop(field) for field in TOP_LEVEL if field in context}
        return {**event, **top, "context": context, "time": time}


class LegacyEventTypes:
    """Gives the mobile players' events the types of the web player's."""

    def __call__(self, event: dict[str, Any]) -> dict[str, Any]:
        return {**event, "event_type": EVENT_TYPES.get(event["name"], event["name"])}
