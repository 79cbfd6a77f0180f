"""The results as Markdown tables, for a terminal as well as for a page of the documentation."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from os import cpu_count, getloadavg
from pathlib import Path
from statistics import median

from .http import LargeDelivery, LoadResult
from .measuring import Figure
from .queries import QueryTime

_MILLISECONDS = 1e3


def describe_environment() -> str:
    """Say when, on what machine, how busy, and with which versions the results are measured."""
    from django.db import connection

    packages = ", ".join(
        f"{name} {version(name)}" for name in ("Django", "event-tracking", "gunicorn")
    )
    with connection.cursor():
        database = ".".join(str(number) for number in connection.get_database_version())
    return (
        f"Measured on {datetime.now(UTC):%Y-%m-%d} with {platform.python_implementation()} "
        f"{platform.python_version()}, {packages} and {connection.display_name} {database}, on "
        f"{cpu_count()} cores of {_processor()}, {platform.system()} {platform.release()}, with a "
        f"load of {getloadavg()[0]:.1f} before."
    )


def _processor() -> str:
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return names[0] if names else platform.machine()


def figures_table(figures: Iterable[Figure]) -> str:
    """Return the table of the ratios: their medians, the range that they lie in, and targets."""
    return table(
        ("figure", "ratio", "from–to", "at most", "measured", "floor", ""),
        [
            (
                figure.title,
                f"{median(figure.ratios):.2f}",
                f"{min(figure.ratios):.2f}–{max(figure.ratios):.2f}",
                f"{figure.at_most:g}" if figure.at_most else "",
                f"{figure.measured:.1f}",
                f"{figure.floor:.1f}",
                figure.unit,
            )
            for figure in figures
        ],
    )


def queries_table(times: Iterable[QueryTime]) -> str:
    """Return the table of the user query."""
    return table(
        ("users in one query", "CPU of the process, ms", "until the answer, ms"),
        [
            (
                f"{time.users:,}",
                f"{time.cpu * _MILLISECONDS:.2f}",
                f"{time.elapsed * _MILLISECONDS:.2f}",
            )
            for time in times
        ],
    )


def http_table(results: Iterable[LoadResult]) -> str:
    """Return the table of the loads."""
    return table(
        (
            *("workers", "load", "deliveries/s", "events/s"),
            *("p50 at half, ms", "p99 at half, ms", "answers"),
        ),
        [
            (
                str(result.workers),
                result.load.title,
                f"{result.saturation:,.1f}",
                f"{result.saturation * result.load.events:,.0f}",
                f"{result.p50 * _MILLISECONDS:,.1f}",
                f"{result.p99 * _MILLISECONDS:,.1f}",
                f"{result.answers:,}",
            )
            for result in results
        ],
    )


def large_deliveries_table(deliveries: Iterable[LargeDelivery]) -> str:
    """Return the table of the largest deliveries."""
    return table(
        ("workers", "delivery of", "answered after, s"),
        [
            (str(delivery.workers), f"{delivery.events:,} events", f"{delivery.seconds:.2f}")
            for delivery in deliveries
        ],
    )


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = [header, ["-" * width for width in widths], *rows]
    return "\n".join(
        "| "
        + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        + " |"
        for line in lines
    )


def replace_section(page: Path, name: str, text: str) -> None:
    """Put `text` into the page, between `<!-- name -->` and `<!-- end of name -->`.

    Raises ValueError if the page does not have each of these comments once, in this order.
    """
    start, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    try:
        before, rest = page.read_text().split(start)
        _, after = rest.split(end)
    except ValueError:
        raise ValueError(f"{page} needs the lines {start!r} and {end!r}, once each") from None
    page.write_text(f"{before}{start}\n\n{text}\n\n{end}{after}")
