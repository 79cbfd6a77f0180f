"""The events of the last days by reason, as a picture and as a table.

Everything is counted and placed here; the template writes it down. Days are those of UTC, so that
the database needs no time zones of its own, which MySQL's usually lacks. Raises django.db.Error if
the database does not answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

from django.db.models import Count, QuerySet
from django.db.models.functions import TruncDate
from django.utils import timezone

from .models import QuarantinedEvent

#: How many days it shows, today among them.
DAYS = 30

#: How many reasons have a colour of their own; the others are one.
MAX_REASONS = 5

_OTHER = "other reasons"

# Each has a contrast of at least 3:1 to both backgrounds of Django's admin, white and #121212, and
# they can be told apart by most people who see colours differently.
_COLOURS = ("#0072b2", "#d55e00", "#008f68", "#b0569a", "#8f7a14")
_COLOUR_OF_OTHER = "#808080"


class Bar(NamedTuple):
    """A part of a day's column, in the units of the picture; at `x` and `y` is its upper left."""

    x: int
    y: int
    width: int
    height: int
    colour: str
    label: str


class Tick(NamedTuple):
    """A number or a day beside an axis; `position` is along that."""

    position: int
    label: str


class Series(NamedTuple):
    """A reason, or all that have no colour of their own."""

    name: str
    colour: str
    total: int


class Row(NamedTuple):
    """A day of the table; `counts` are in the order of the chart's series."""

    day: date
    counts: list[int]
    total: int


@dataclass(frozen=True)
class Chart:
    """What the template writes down; all positions are whole units of the picture.

    `rows` are the days that have events. `days` and `counts` stand along the axes. The columns lie
    between `left` and `right`, on `bottom`.
    """

    total: int
    series: Sequence[Series]
    rows: Sequence[Row]
    bars: Sequence[Bar]
    days: Sequence[Tick]
    counts: Sequence[Tick]
    summary: str

    width: int = 760
    height: int = 184
    left: int = 48
    right: int = 752
    bottom: int = 160


def draw_chart(events: QuerySet[QuarantinedEvent]) -> Chart:
    """Return the chart of those events that came in the last `DAYS` days; makes one query."""
    today = timezone.now().astimezone(UTC).date()
    days = [today - timedelta(days=age) for age in reversed(range(DAYS))]
    counts = _count(events, days[0])

    totals: Counter[str] = Counter()
    for (_, reason), count in counts.items():
        totals[reason] += count
    shown = [reason for reason, _ in totals.most_common(MAX_REASONS)]
    series = [
        Series(reason, colour, totals[reason])
        for reason, colour in zip(shown, _COLOURS, strict=False)
    ]
    others = totals.total() - sum(item.total for item in series)
    if others:
        series.append(Series(_OTHER, _COLOUR_OF_OTHER, others))

    rows = [_make_row(day, shown, len(series), counts) for day in days]
    highest = _round_up(max(row.total for row in rows))
    return Chart(
        total=totals.total(),
        series=series,
        rows=[row for row in rows if row.total],
        bars=list(_draw_bars(rows, series, highest)),
        days=[
            Tick(_find_x(index) + _BAR_WIDTH // 2, f"{day:%b} {day.day}")
            for index, day in enumerate(days)
            if (DAYS - 1 - index) % 7 == 0
        ],
        counts=[
            Tick(_find_y(count, highest), f"{count:,}")
            for count in sorted({0, highest // 2, highest})
        ],
        summary=_summarize(series, rows),
    )


_BAR_WIDTH = 19
_STEP = 23
_PLOT_HEIGHT = 140


def _count(events: QuerySet[QuarantinedEvent], first: date) -> Counter[tuple[date, str]]:
    since = datetime(first.year, first.month, first.day, tzinfo=UTC)
    counted = (
        events.filter(created_at__gte=since)
        .order_by()
        .values_list(TruncDate("created_at", tzinfo=UTC), "reason")
        .annotate(count=Count("pk"))
    )
    counts: Counter[tuple[date, str]] = Counter()
    for day, reason, count in counted:
        counts[day, reason] += count
    return counts


def _make_row(
    day: date, shown: Sequence[str], columns: int, counts: Counter[tuple[date, str]]
) -> Row:
    total = sum(count for (other_day, _), count in counts.items() if other_day == day)
    of_reasons = [counts[day, reason] for reason in shown]
    row = [*of_reasons, total - sum(of_reasons)]
    return Row(day, row[:columns], total)


def _draw_bars(rows: Iterable[Row], series: Sequence[Series], highest: int) -> Iterable[Bar]:
    for index, row in enumerate(rows):
        so_far = 0
        y = _find_y(0, highest)
        for count, item in zip(row.counts, series, strict=True):
            if not count:
                continue
            so_far += count
            # What is there can be seen, however small its part is.
            top = min(_find_y(so_far, highest), y - 1)
            label = f"{row.day}: {count:,} {item.name}"
            yield Bar(_find_x(index), top, _BAR_WIDTH, y - top, item.colour, label)
            y = top


def _find_x(index: int) -> int:
    return Chart.left + 6 + index * _STEP


def _find_y(count: int, highest: int) -> int:
    return Chart.bottom - round(_PLOT_HEIGHT * count / highest)


def _round_up(number: int) -> int:
    """Return the next number that is a single digit and zeros, and can be halved; at least 1."""
    power = int("1" + "0" * (len(str(number)) - 1))
    return next(factor * power for factor in (1, 2, 4, 6, 8, 10) if factor * power >= number)


def _summarize(series: Sequence[Series], rows: Sequence[Row]) -> str:
    busiest = max(rows, key=lambda row: row.total)
    reasons = ", ".join(f"{item.name} {item.total:,}" for item in series)
    return f"Most on one day: {busiest.total:,} on {busiest.day}. By reason: {reasons}."
