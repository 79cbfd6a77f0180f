"""Raw events in the sizes and the variety that a busy site's mobile apps send.

1.5 to 4 KB of JSON each, of 1,000 users in 50 courses, no two alike, and the same ones in each run.
"""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.factories import make_event, make_event_of_website

USERS = 1000
COURSES = 50

_SMALLEST_BYTES = 1500
_LARGEST_BYTES = 4000

_START = datetime(2026, 3, 2, 9, 15, 27, tzinfo=UTC)

_NAMES = (
    "edx.video.loaded",
    "edx.video.played",
    "edx.video.paused",
    "edx.video.position.changed",
    "edx.video.stopped",
    "edx.video.transcript.shown",
    "edx.bi.app.navigation.screen",
    "edx.bi.app.course.bulk_download",
    "edx.bi.app.discovery.courses_search",
    "edx.bi.app.profile.view",
)

# One character beyond Latin-1 or the basic plane makes Python hold a whole text in two or four
# bytes a character; the titles of a site's courses hold some.
_LABELS = (
    "Welcome",
    "Week 3: Homework and reading",
    "Métodos numéricos",
    "Über diese Einheit",
    "欢迎来到本课程",
    "مقدمة في الإحصاء",
    "Let's get started 🚀",
)

_LIBRARIES = ("analytics-android", "analytics-ios", "analytics-kotlin", "analytics-swift")


def make_events(count: int) -> list[dict[str, Any]]:
    """Return `count` raw events that the bridge emits."""
    rng = random.Random(count)
    return [_make_event(rng, number) for number in range(count)]


def make_ignored_events(count: int) -> list[dict[str, Any]]:
    """Return `count` raw events of the same kind from a library that is not in the source map."""
    client = make_event_of_website()["context"]
    return [
        {**event, "context": {**event["context"], "library": client["library"]}}
        for event in make_events(count)
    ]


def encode(value: object) -> bytes:
    """Return `value` as Segment writes JSON: UTF-8, without spaces."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def _make_event(rng: random.Random, number: int) -> dict[str, Any]:
    # Milliseconds apart: no two timestamps are alike.
    moment = _START + timedelta(milliseconds=137 * number)
    course_id = f"course-v1:ExampleX+EX{rng.randrange(COURSES):03}+2026_T1"
    event = make_event(
        userId=str(rng.randint(1, USERS)),
        messageId=f"{rng.getrandbits(128):032x}",
        anonymousId=f"{rng.getrandbits(96):024x}",
        originalTimestamp=_written(moment),
        timestamp=_written(moment + timedelta(milliseconds=rng.randint(1, 9))),
        sentAt=_written(moment + timedelta(seconds=1)),
        receivedAt=_written(moment + timedelta(milliseconds=rng.randint(1100, 9900))),
    )
    event["context"]["library"]["name"] = rng.choice(_LIBRARIES)
    event["properties"].update(
        name=rng.choice(_NAMES),
        label=rng.choice(_LABELS),
        context={
            "app_name": "edx.mobileapp.android",
            "component": "videoplayer",
            "course_id": course_id,
            "open_in_browser_url": f"https://learn.example.org/courses/{course_id}/courseware",
        },
        data={
            "code": "mobile",
            "currentTime": round(rng.uniform(0, 600), 2),
            "duration": rng.randint(60, 900),
            "module_id": f"block-v1:ExampleX+type@video+block@{rng.getrandbits(128):032x}",
        },
    )
    _grow(event, rng.randint(_SMALLEST_BYTES, _LARGEST_BYTES), rng)
    return event


def _grow(event: dict[str, Any], size: int, rng: random.Random) -> None:
    """Fill up to `size` bytes: four fifths with what is emitted, the rest with what is not."""
    traits = event["context"]["traits"]
    blocks: list[dict[str, Any]] = []
    event["properties"]["data"]["blocks"] = blocks
    while (missing := size - len(encode(event))) > 0:
        if len(blocks) >= 4 * (len(traits) - 1):
            traits[f"preference_{len(traits)}"] = f"{rng.getrandbits(240):060x}"[:missing]
        else:
            block = {
                "block_id": f"{rng.getrandbits(128):032x}"[:missing],
                "completed": rng.random() < 0.5,
                "progress": round(rng.random(), 4),
            }
            blocks.append(block)


def _written(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
