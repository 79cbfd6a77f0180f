"""The kinds of values that the options of the two commands take."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime

from django.utils import timezone


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
