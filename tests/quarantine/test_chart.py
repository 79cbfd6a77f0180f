"""The chart of the last days."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from segmentio_bridge.quarantine.chart import Chart, draw_chart
from segmentio_bridge.quarantine.models import QuarantinedEvent

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _at_noon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timezone, "now", lambda: NOON)


def make_rows(count: int, reason: str, **age: Any) -> None:
    QuarantinedEvent.objects.bulk_create(
        [
            QuarantinedEvent(payload="{}", reason=reason, created_at=NOON - timedelta(**age))
            for _ in range(count)
        ]
    )


def draw() -> Chart:
    with CaptureQueriesContext(connection) as queries:
        chart = draw_chart(QuarantinedEvent.objects.all())
    assert len(queries) == 1
    return chart


def test_nothing() -> None:
    chart = draw()
    assert (chart.total, chart.series, chart.rows, chart.bars) == (0, [], [], [])


def test_days_are_those_of_utc() -> None:
    make_rows(1, "today", hours=12)
    make_rows(1, "yesterday", hours=12, microseconds=1)
    make_rows(1, "first", days=29, hours=12)
    make_rows(1, "too old", days=29, hours=12, microseconds=1)
    chart = draw()
    assert [(f"{row.day}", row.total) for row in chart.rows] == [
        ("2026-02-01", 1),
        ("2026-03-01", 1),
        ("2026-03-02", 1),
    ]
    assert chart.total == 3
    assert [tick.label for tick in chart.days] == ["Feb 2", "Feb 9", "Feb 16", "Feb 23", "Mar 2"]


def test_the_most_frequent_reasons_and_the_others() -> None:
    for number in range(8):
        make_rows(number + 1, f"reason {number}", days=number)
    chart = draw()
    assert [(item.name, item.total) for item in chart.series] == [
        ("reason 7", 8),
        ("reason 6", 7),
        ("reason 5", 6),
        ("reason 4", 5),
        ("reason 3", 4),
        ("other reasons", 6),
    ]
    assert len({item.colour for item in chart.series}) == 6
    assert chart.rows[-1].counts == [0, 0, 0, 0, 0, 1]
    assert chart.rows[0].counts == [8, 0, 0, 0, 0, 0]
    assert chart.summary == (
        "Most on one day: 8 on 2026-02-23. By reason: reason 7 8, reason 6 7, reason 5 6, "
        "reason 4 5, reason 3 4, other reasons 6."
    )


@pytest.mark.parametrize(
    ("count", "labels"),
    [
        (1, ["0", "1"]),
        (2, ["0", "1", "2"]),
        (3, ["0", "2", "4"]),
        (7, ["0", "4", "8"]),
        (11, ["0", "10", "20"]),
        (50, ["0", "30", "60"]),
        (1001, ["0", "1,000", "2,000"]),
    ],
)
def test_the_scale_is_round(count: int, labels: list[str]) -> None:
    make_rows(count, "a")
    chart = draw()
    assert [tick.label for tick in chart.counts] == labels
    (bar,) = chart.bars
    assert chart.bottom - 140 <= bar.y < bar.y + bar.height == chart.bottom
    assert bar.label == f"2026-03-02: {count:,} a"


def test_columns_stand_on_each_other_and_everything_can_be_seen() -> None:
    make_rows(600, "many")
    make_rows(1, "few")
    make_rows(1, "fewer")
    bars = draw().bars
    assert [bar.label for bar in bars] == [
        "2026-03-02: 600 many",
        "2026-03-02: 1 few",
        "2026-03-02: 1 fewer",
    ]
    assert all(bar.height >= 1 for bar in bars)
    assert [bar.y for bar in bars[:-1]] == [bar.y + bar.height for bar in bars[1:]]


def test_everything_is_within_the_picture() -> None:
    for day in range(30):
        make_rows(5, f"reason {day % 7}", days=day)
    chart = draw()
    assert len(chart.bars) == 30
    for bar in chart.bars:
        assert chart.left <= bar.x < bar.x + bar.width <= chart.right < chart.width
        assert 0 < bar.y < bar.y + bar.height <= chart.bottom < chart.height


def luminance(colour: str) -> float:
    channels = [int(colour[index : index + 2], 16) / 255 for index in (1, 3, 5)]
    red, green, blue = (
        channel / 12.92 if channel <= 0.04045 else ((channel + 0.055) / 1.055) ** 2.4
        for channel in channels
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("background", ["#ffffff", "#121212"])
def test_the_colours_can_be_seen_on_both_themes(background: str) -> None:
    for number in range(7):
        make_rows(1, f"reason {number}")
    for item in draw().series:
        darker, lighter = sorted((luminance(item.colour), luminance(background)))
        assert (lighter + 0.05) / (darker + 0.05) >= 3, item.colour
