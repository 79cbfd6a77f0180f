"""Reading the moments that Segment writes; pure, and independent of the server's clock and zone.

A text is trusted in nothing. Raises ValueError.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

from dateutil import parser

# What Segment sends: https://segment.com/docs/connections/spec/common/#timestamps. The standard
# library reads this form many times faster than dateutil, and truncates beyond microseconds too.
_ISO_8601 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T(?:[01][0-9]|2[0-3]):[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?"
    r"(?:Z|[+-][0-9]{2}:?[0-9]{2})?"
)

# dateutil reads character by character in Python; no date that a person writes is longer.
_MAX_DATEUTIL_CHARACTERS = 128

# dateutil fills what a string leaves out from a default. Two defaults without a common year, month
# or day, nor a day of the week that comes next, tell a string that names its day from one whose day
# would be a guess.
_DEFAULTS = (datetime(2000, 1, 1, tzinfo=UTC), datetime(2001, 2, 15, tzinfo=UTC))


class _WithoutGuesses(parser.parserinfo):
    def convertyear(self, year: int, century_specified: bool = False) -> int:
        if not century_specified:
            raise ValueError("a year without a century")
        return year


_DATEUTIL = parser.parser(_WithoutGuesses())


def parse_iso8601_timestamp(value: str) -> datetime:
    """Return the moment that `value` names, as an aware datetime in UTC.

    ISO 8601 with any offset and any number of fractional digits (beyond microseconds truncated),
    in which https://segment.com/docs/connections/spec/common/#timestamps has all that Segment
    writes, and what else dateutil reads in up to 128 printable ASCII characters, as it does for the
    platform's view. Without an offset it is UTC. What dateutil would have to guess is not read: a
    day or a century that is left out, and time zones by other abbreviations than UTC's own. Its
    guesses depend on where and when the server runs.

    Raises ValueError if `value` cannot be read, or is a moment that does not exist in UTC.
    """
    try:
        return _in_utc(_parse(value))
    except OverflowError:
        raise ValueError("no moment that exists in UTC") from None


def _parse(value: str) -> datetime:
    if _ISO_8601.fullmatch(value):
        return datetime.fromisoformat(value)
    text = value.strip() if len(value) <= _MAX_DATEUTIL_CHARACTERS else ""
    if not (text.isascii() and text.isprintable()):
        raise ValueError("no text that a date is written in")
    try:
        first, second = (
            _DATEUTIL.parse(text, default=default, tzinfos=_time_zone) for default in _DEFAULTS
        )
    except Exception as error:
        # dateutil documents ValueError and OverflowError, but lets others slip from its lexer,
        # decimal.InvalidOperation among them. Whatever a string does to it, it is no date.
        raise ValueError("not a timestamp") from error
    if first != second:
        raise ValueError("a timestamp without a day")
    return first


def _time_zone(name: str | None, offset: int | None) -> timezone:
    if name is not None and offset is None:
        raise ValueError("an abbreviation that stands for several time zones")
    return timezone(timedelta(seconds=offset or 0))


def _in_utc(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        return moment.replace(tzinfo=UTC)
    return moment.astimezone(UTC)
