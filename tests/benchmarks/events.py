"""Raw events in the sizes and the variety that a busy site's mobile apps send.

1.5 to 4 KB of JSON each, of 1,000 users in 50 courses, no two alike, and the same ones in each run.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
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


#: Adds something to an event, of so many bytes or fewer.
Filling = Callable[[dict[str, Any], int, random.Random], None]


def fill_with_fields(event: dict[str, Any], size: int, rng: random.Random) -> None:
    """Add more of what events are made of anyway: short values, four out of five of them emitted.

    This keeps what makes an event expensive to copy, the number of values in a kilobyte, as it is.
    """
    traits = event["context"]["traits"]
    blocks = event["properties"]["data"].setdefault("blocks", [])
    if len(blocks) >= 4 * (len(traits) - 1):
        traits[f"preference_{len(traits)}"] = f"{rng.getrandbits(240):060x}"[:size]
    else:
        block = {
            "block_id": f"{rng.getrandbits(128):032x}"[:size],
            "completed": rng.random() < 0.5,
            "progress": round(rng.random(), 4),
        }
        blocks.append(block)


def fill_with_texts(event: dict[str, Any], size: int, rng: random.Random) -> None:
    """Add a text of up to 160 characters, which costs the bare emission next to nothing."""
    data = event["properties"]["data"]
    data[f"text_{len(data)}"] = f"{rng.getrandbits(640):0160x}"[:size]


def fill_with_traits(event: dict[str, Any], size: int, rng: random.Random) -> None:
    """Add what has to be parsed but is not emitted."""
    traits = event["context"]["traits"]
    traits[f"preference_{len(traits)}"] = f"{rng.getrandbits(240):060x}"[:size]


def make_events(count: int, fill: Filling = fill_with_fields) -> list[dict[str, Any]]:
    """Return `count` raw events that the bridge emits, filled up to their sizes with `fill`."""
    rng = random.Random(count)
    return [_make_event(rng, number, fill) for number in range(count)]


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


def _make_event(rng: random.Random, number: int, fill: Filling) -> dict[str, Any]:
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
    size = rng.randint(_SMALLEST_BYTES, _LARGEST_BYTES)
    while (missing := size - len(encode(event))) > 0:
        fill(event, missing, rng)
    return event


def _written(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
