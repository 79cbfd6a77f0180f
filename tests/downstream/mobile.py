"""What mobile apps send, and what becomes of it as docs/downstream.md says.

The fields are those of the apps edx-app-android and edx-app-ios; those of navigation are the
website's, which an app may send as well.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from tests.downstream.stand_ins import COURSE_ID
from tests.factories import make_event, make_properties
from tests.test_docs import ROOT, rows

BLOCK_ID = "8f3ad1c6a1d94b0c9b1a3b5d7e9f0a2c"
VIDEO = f"block-v1:{COURSE_ID.removeprefix('course-v1:')}+type@video+block@{BLOCK_ID}"
SEQUENCE = VIDEO.replace("@video", "@sequential")
PAGE = f"https://learn.example.org/courses/{COURSE_ID}/courseware"

_VIDEO = {"module_id": VIDEO, "code": "mobile"}
_AT = {**_VIDEO, "current_time": 12.48}
_TAB = {"id": SEQUENCE, "current_tab": 1, "tab_count": 4, "widget_placement": "top"}
_TARGET = {"target_url": PAGE, "target_name": "Week 1"}

#: What is in `properties.data`, by `properties.name`.
DATA: dict[str, dict[str, Any]] = {
    "edx.video.loaded": _VIDEO,
    "edx.video.played": _AT,
    "edx.video.paused": _AT,
    "edx.video.stopped": _AT,
    # None of the apps sends it; the website's player sends the length with it.
    "edx.video.completed": {**_AT, "duration": 61.5},
    "edx.video.position.changed": {
        **_VIDEO,
        "old_time": 42.5,
        "new_time": 12.5,
        "seek_type": "skip",
        "requested_skip_interval": -30,
    },
    "edx.video.transcript.shown": _AT,
    "edx.video.transcript.hidden": _AT,
    "edx.video.closed_captions.shown": _AT,
    "edx.video.closed_captions.hidden": _AT,
    "edx.video.language_menu.shown": _VIDEO,
    "edx.video.language_menu.hidden": _VIDEO,
    "edx.video.seeked": {**_VIDEO, "old_time": 42.5, "new_time": 12.5},
    "edx.ui.lms.sequence.next_selected": _TAB,
    "edx.ui.lms.sequence.previous_selected": _TAB,
    "edx.ui.lms.sequence.tab_selected": {**_TAB, "target_tab": 3},
    "edx.ui.lms.outline.selected": _TARGET,
    "edx.ui.lms.link_clicked": {**_TARGET, "current_url": PAGE},
    "edx.bi.app.navigation.screen": {"context": {"app_name": "edx.mobileapp.iOS"}},
    "edx.bi.app.navigation.component.viewed": {"block_id": VIDEO, "course_id": COURSE_ID},
    "edx.bi.app.navigation.open-in-browser": {"block_id": VIDEO, "supported": True},
    "edx.bi.app.browser.launched": {"target_url": PAGE},
    "edx.bi.video.downloaded": _VIDEO,
    "edx.bi.video.speed.changed": {**_AT, "old_speed": "1.0", "new_speed": "1.5"},
}


class Row(NamedTuple):
    """A row of the page's tables; None stands for nothing."""

    name: str
    verb: str | None
    action: str | None


def _read_tables() -> list[Row]:
    page = (ROOT / "docs" / "downstream.md").read_text()
    section = page.split("\n## What becomes of which event\n")[1].split("\n## ")[0]
    tables = [table for table in section.split("\n\n") if table.startswith("| event ")]
    return [
        Row(name.strip("`"), *(None if cell == "–" else cell for cell in cells))
        for table in tables
        for name, *cells in rows(f"{table}\n")
    ]


ROWS = _read_tables()


def make_mobile_event(name: str, /, **overrides: Any) -> dict[str, Any]:
    """Return a raw event of this name; `overrides` replace fields of its `properties.data`."""
    properties = make_properties(name=name, data={**DATA[name], **overrides})
    return make_event(properties=properties)
