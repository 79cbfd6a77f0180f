"""What the two commands have in common."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from django.core.management.base import DjangoHelpFormatter
from django.utils import timezone


class HelpFormatter(DjangoHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Django's, which leaves the lines of the description and the examples as they are."""


def moment(text: str) -> datetime:
    """Return the moment that an option names, in UTC: ISO 8601, a date being its midnight.

    Without an offset it is in the site's time zone.

    Raises argparse.ArgumentTypeError if it is none.
    """
    try:
        value = datetime.fromisoformat(text)
        aware = value if timezone.is_aware(value) else timezone.make_aware(value)
        return aware.astimezone(UTC)
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no date, and no date and time, in ISO 8601"
        ) from None


def positive(text: str) -> int:
    """Return the number that an option names, from 1 to 999,999,999.

    Raises argparse.ArgumentTypeError if it is none.
    """
    if text.isdecimal() and text.isascii() and 0 < len(text) < 10 and int(text):
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")


def tabulate(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    """Yield the lines of a table; its last column holds numbers."""
    table = [head, *rows]
    widths = [max(len(cell) for cell in column) for column in zip(*table, strict=True)]
    for *texts, number in table:
        cells = [text.ljust(width) for text, width in zip(texts, widths, strict=False)]
        yield "  ".join([*cells, number.rjust(widths[-1])])
