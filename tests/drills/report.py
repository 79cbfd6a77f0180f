"""The counts as a Markdown table, for a terminal as well as for a page of the documentation."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from os import cpu_count

from tests.benchmarks.report import table

from .counting import Count

_PACKAGES = ("Django", "event-tracking", "celery", "kombu", "redis", "gunicorn")


def describe_environment() -> str:
    """Say when, on what machine, and with which versions the drills are run."""
    packages = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    return (
        f"Played on {datetime.now(UTC):%Y-%m-%d} with {platform.python_implementation()} "
        f"{platform.python_version()}, {packages}, on {cpu_count()} cores, {platform.system()} "
        f"{platform.release()}."
    )


def describe_celery(counts: Mapping[str, Count]) -> str:
    """Say what was Celery's doing and not the bridge's, or nothing."""
    revivals = sum(count.revivals for count in counts.values())
    if not revivals:
        return ""
    return f"Workers gave up {revivals:,} times as they lost their broker, and were restarted."


def counts_table(counts: Mapping[str, Count]) -> str:
    """Return the table of counts by the drill's title, with a line for all of them."""
    columns: dict[str, Callable[[Count], int]] = {
        "strikes": lambda count: count.strikes,
        "events": lambda count: count.events,
        "requests": lambda count: count.requests,
        "failed": lambda count: count.failed_requests,
        "delivered": lambda count: count.believed_delivered,
        "logged": lambda count: count.logged,
        "missing": lambda count: count.missing,
        "in flight": lambda count: count.in_flight,
        "doubled": lambda count: count.doubled,
        "wrongly doubled": lambda count: count.wrongly_doubled,
        "seconds": lambda count: round(count.seconds),
    }
    rows = [
        (title, *(f"{read(count):,}" for read in columns.values()))
        for title, count in counts.items()
    ]
    totals = (f"{sum(map(read, counts.values())):,}" for read in columns.values())
    return table(("drill", *columns), [*rows, ("all", *totals)])
