"""Which strings are moments, and which moments they are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta

import pytest
from dateutil import parser
from hypothesis import example, given, settings
from hypothesis import strategies as st

from segmentio_bridge.timestamps import parse_iso8601_timestamp


def utc(
    year: int,
    month: int,
    day: int,
    hour: int = 0,
    minute: int = 0,
    second: int = 0,
    microsecond: int = 0,
) -> datetime:
    return datetime(year, month, day, hour, minute, second, microsecond, tzinfo=UTC)


def read(text: str) -> datetime | None:
    """The moment in `text`, or None; what is raised beside ValueError fails the test."""
    try:
        return parse_iso8601_timestamp(text)
    except ValueError:
        return None


def read_with_dateutil(text: str, default: datetime | None = None) -> datetime | None:
    """The moment in `text` as dateutil alone reads it on a server in UTC."""
    with time_zone("UTC"):
        try:
            moment = parser.parse(text, default=default)
            return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
        except (ValueError, OverflowError):
            return None


def in_digits_from(zero: int, text: str) -> str:
    """`text` with the digits of the script whose zero has this code point."""
    return text.translate({ord("0") + digit: zero + digit for digit in range(10)})


@contextmanager
def time_zone(name: str) -> Iterator[None]:
    """Set the zone that the process takes for local."""
    before = os.environ["TZ"]  # Django has set it
    os.environ["TZ"] = name
    time.tzset()
    try:
        yield
    finally:
        os.environ["TZ"] = before
        time.tzset()


ACCEPTED = {
    # As Segment sends them.
    "2026-03-02T09:15:27.352Z": utc(2026, 3, 2, 9, 15, 27, 352_000),
    "2026-03-02T09:15:27Z": utc(2026, 3, 2, 9, 15, 27),
    "2026-03-02T09:15:27.352123456Z": utc(2026, 3, 2, 9, 15, 27, 352_123),
    # Fractions.
    "2026-03-02T09:15:27.3Z": utc(2026, 3, 2, 9, 15, 27, 300_000),
    "2026-03-02T09:15:27.000001Z": utc(2026, 3, 2, 9, 15, 27, 1),
    "2026-03-02T09:15:27.0000009Z": utc(2026, 3, 2, 9, 15, 27),
    "2026-03-02T09:15:27.999999999999999999Z": utc(2026, 3, 2, 9, 15, 27, 999_999),
    "2026-03-02 09:15:27.999999999 +01:00": utc(2026, 3, 2, 8, 15, 27, 999_999),
    "2026-03-02T09:15:27,352Z": utc(2026, 3, 2, 9, 15, 27, 352_000),
    # Offsets.
    "2026-03-02T09:15:27+00:00": utc(2026, 3, 2, 9, 15, 27),
    "2026-03-02T09:15:27-00:00": utc(2026, 3, 2, 9, 15, 27),
    "2026-03-02T09:15:27+05:30": utc(2026, 3, 2, 3, 45, 27),
    "2026-03-02T09:15:27+0530": utc(2026, 3, 2, 3, 45, 27),
    "2026-03-02T09:15:27+05": utc(2026, 3, 2, 4, 15, 27),
    "2026-03-02T09:15:27-03:30": utc(2026, 3, 2, 12, 45, 27),
    "2026-03-02T09:15:27.5+05:30": utc(2026, 3, 2, 3, 45, 27, 500_000),
    "2026-03-02T09:15:27+23:59": utc(2026, 3, 1, 9, 16, 27),
    "2026-03-02T09:15:27-23:59": utc(2026, 3, 3, 9, 14, 27),
    "2026-03-02 09:15:27 -0500 (EST)": utc(2026, 3, 2, 14, 15, 27),
    "2026-03-02 09:15:27 UTC": utc(2026, 3, 2, 9, 15, 27),
    "2026-03-02 09:15:27 GMT": utc(2026, 3, 2, 9, 15, 27),
    # No offset is UTC.
    "2026-03-02T09:15:27": utc(2026, 3, 2, 9, 15, 27),
    "2026-03-02T09:15:27.352": utc(2026, 3, 2, 9, 15, 27, 352_000),
    "2026-03-02 09:15": utc(2026, 3, 2, 9, 15),
    # A day alone is its beginning.
    "2026-03-02": utc(2026, 3, 2),
    "20260302": utc(2026, 3, 2),
    "2026/03/02": utc(2026, 3, 2),
    "March 2, 2026": utc(2026, 3, 2),
    "2 Mar 2026": utc(2026, 3, 2),
    "3/2/2026": utc(2026, 3, 2),
    # Other spellings.
    "20260302T091527Z": utc(2026, 3, 2, 9, 15, 27),
    "20260302T091527+0100": utc(2026, 3, 2, 8, 15, 27),
    "2026-03-02T09:15Z": utc(2026, 3, 2, 9, 15),
    "2026-03-02T09Z": utc(2026, 3, 2, 9),
    "2026-03-02 09:15:27Z": utc(2026, 3, 2, 9, 15, 27),
    "2026-03-02t09:15:27z": utc(2026, 3, 2, 9, 15, 27),
    "  2026-03-02T09:15:27Z  ": utc(2026, 3, 2, 9, 15, 27),
    "2026-03-02T09:15:27Z\n": utc(2026, 3, 2, 9, 15, 27),
    "2026-03-02 9:15 PM": utc(2026, 3, 2, 21, 15),
    "2026-03-02 9:15:27 am": utc(2026, 3, 2, 9, 15, 27),
    "2026-03-02 12:00 AM": utc(2026, 3, 2),
    "Mon, 02 Mar 2026 09:15:27 +0100": utc(2026, 3, 2, 8, 15, 27),
    "Mon, 02 Mar 2026 09:15:27 GMT": utc(2026, 3, 2, 9, 15, 27),
    "Mon Mar  2 09:15:27 2026": utc(2026, 3, 2, 9, 15, 27),
    "Mon Mar  2 09:15:27 UTC 2026": utc(2026, 3, 2, 9, 15, 27),
    # The ends of the calendar, and its leap days.
    "0001-01-01T00:00:00Z": utc(1, 1, 1),
    "0001-01-01T05:00:00+05:00": utc(1, 1, 1),
    "9999-12-31T23:59:59.999999Z": utc(9999, 12, 31, 23, 59, 59, 999_999),
    "9999-12-31T22:59:59-01:00": utc(9999, 12, 31, 23, 59, 59),
    "2024-02-29T12:00:00Z": utc(2024, 2, 29, 12),
    "2000-02-29": utc(2000, 2, 29),
}

REFUSED = [
    # Nothing at all.
    "",
    " ",
    "\n",
    "null",
    "yesterday",
    "last Tuesday, after lunch",
    "not a timestamp",
    "Z",
    ".",
    "-",
    "nan",
    "infinity",
    # The day is left open.
    "09:15:27",
    "09:15:27Z",
    "T09:15:27Z",
    "9:15 PM",
    "Monday",
    "Mon 09:15",
    "2020",
    "March",
    "March 2026",
    "2026-03",
    "2026-03T09:15:27Z",
    "2 March",
    "29 February",
    "Thu 2020",
    "Thu 2",
    # ... though the first Thursday of a month is the same, wherever one begins to look for it.
    "Thu Jan 2020",
    "Thursday, January 2020, 10:00",
    # No such day or time.
    "2026-02-29",
    "2026-02-29T00:00:00Z",
    "1900-02-29T00:00:00Z",
    "2026-13-02T00:00:00Z",
    "2026-00-02T00:00:00Z",
    "2026-03-00T00:00:00Z",
    "2026-03-32T00:00:00Z",
    "2026-04-31T00:00:00Z",
    "2026-03-02T24:00:00Z",
    "2026-03-02T24:00:00",
    "2026-03-02 24:00",
    "2026-03-02T25:00:00Z",
    "2026-03-02T09:60:00Z",
    "2026-03-02T09:15:60Z",
    "2026-12-31T23:59:60Z",
    "2026-03-02 13:15 PM",
    "0000-01-01T00:00:00Z",
    "10000-01-01T00:00:00Z",
    # An offset of a day or more, or none at all.
    "2026-03-02T09:15:27+24:00",
    "2026-03-02T09:15:27-24:00",
    "2026-03-02T09:15:27+2400",
    "2026-03-02T09:15:27+99:99",
    "2026-03-02T09:15:27 +24",
    "2026-03-02T09:15:27+",
    "2026-03-02T09:15:27+05:",
    "2026-03-02T09:15:27.Z",
    # An abbreviation stands for several zones, or for that of the server.
    "2026-03-02T09:15:27 EST",
    "2026-03-02T09:15:27 CST",
    "2026-03-02T09:15:27 IST",
    "2026-03-02T09:15:27 BST",
    "2026-03-02T09:15:27 XYZ",
    "Mon, 02 Mar 2026 09:15:27 PDT",
    # No moment that exists in UTC.
    "0001-01-01T00:00:00+05:00",
    "0001-01-01 00:00:00 +05:00",
    "0001-01-01T00:00:00+00:01",
    "9999-12-31T23:59:59-01:00",
    "9999-12-31 23:59:59 -0100",
    "9999-12-31T23:59:59.999999-00:01",
    # Numbers are no timestamps.
    "0",
    "1772442927",
    "1772442927352",
    "1e9",
    "999999999999999999999999999999999999",
    # dateutil raises decimal.InvalidOperation, which is no ValueError.
    "2026-03-02 99999999999999999999999999999h",
    # What no one who writes a date types.
    "\0",
    "2026-03-02T09:15:27Z\0",
    "2026-03-02\0T09:15:27Z",
    "\ud800",
    "2026-03-02T09:15:27Z\udfff",
    "2026-03-02\ud83d",
    in_digits_from(0x0660, "2026-03-02"),
    in_digits_from(0x0660, "2026-03-02T09:15:27Z"),
    in_digits_from(0xFF10, "2026") + "-03-02",
    "2026-03-02T09:15:2" + in_digits_from(0x0660, "7") + "Z",
    "2026-03-0²",
]

_MEGABYTE = 1_000_000
# dateutil alone takes from seconds to a minute for these.
TOO_LONG = {
    "digits": "1" * _MEGABYTE,
    "letters": "a" * _MEGABYTE,
    "digits and dots": "1." * (_MEGABYTE // 2),
    "dashes": "-" * _MEGABYTE,
    "spaces": " " * _MEGABYTE,
    "NULs": "\0" * _MEGABYTE,
    "lone surrogates": "\ud800" * _MEGABYTE,
    "spaces after a timestamp": "2026-03-02T09:15:27Z" + " " * _MEGABYTE,
    "spaces within a timestamp": "2026-03-02" + " " * _MEGABYTE + "09:15:27Z",
    "digits of a fraction, and no such month": f"2026-13-02T09:15:27.{'9' * _MEGABYTE}Z",
    "digits of a year": "2" * _MEGABYTE + "-03-02T09:15:27Z",
    "digits of an offset": "2026-03-02T09:15:27+" + "0" * _MEGABYTE,
}


@pytest.mark.parametrize(("text", "moment"), ACCEPTED.items(), ids=map(ascii, ACCEPTED))
def test_accepted(text: str, moment: datetime) -> None:
    result = parse_iso8601_timestamp(text)
    assert result == moment
    assert result.tzinfo is UTC


@pytest.mark.parametrize("text", REFUSED, ids=ascii)
def test_refused(text: str) -> None:
    assert read(text) is None


@pytest.mark.parametrize("text", TOO_LONG.values(), ids=TOO_LONG)
def test_refused_whatever_the_length(text: str) -> None:
    assert read(text) is None


def test_any_number_of_fractional_digits_is_read() -> None:
    result = parse_iso8601_timestamp(f"2026-03-02T09:15:27.{'123456789' * 100_000}+01:00")
    assert result == utc(2026, 3, 2, 8, 15, 27, 123_456)


def test_the_longest_string_that_dateutil_gets() -> None:
    assert read("2026-03-02".ljust(128)) == utc(2026, 3, 2)
    assert read("2026-03-02".ljust(129)) is None


# Against an independent computation: integers, and the calendar's count of days.

FRACTIONS = st.text("0123456789", max_size=12)


@settings(deadline=None, max_examples=1_000)
@given(
    day=st.dates(),
    second=st.integers(0, 86_399),
    fraction=FRACTIONS,
    sign=st.sampled_from("+-"),
    offset=st.none() | st.integers(0, 1_439),
    colon=st.sampled_from([":", ""]),
)
@example(date.min, 0, "", "+", 1, ":")
@example(date.min, 60, "", "+", 1, ":")
@example(date.max, 86_399, "999999999", "-", 1, ":")
@example(date.max, 86_399, "999999999", "-", 0, ":")
@example(date(2026, 3, 2), 33_327, "0000009", "+", None, ":")
def test_iso_8601_against_arithmetic(
    day: date, second: int, fraction: str, sign: str, offset: int | None, colon: str
) -> None:
    text = (
        f"{day.isoformat()}T{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}"
        f"{'.' if fraction else ''}{fraction}"
        f"{'Z' if offset is None else f'{sign}{offset // 60:02}{colon}{offset % 60:02}'}"
    )
    seconds = day.toordinal() * 86_400 + second - int(f"{sign}{offset or 0}") * 60
    microseconds = seconds * 1_000_000 + int(fraction.ljust(6, "0")[:6])
    first_day, day_after_last = 1, date.max.toordinal() + 1
    exists = first_day * 86_400_000_000 <= microseconds < day_after_last * 86_400_000_000

    result = read(text)
    assert (result is not None) == exists
    if result is not None:
        days_and_rest = divmod(microseconds, 86_400_000_000)
        midnight = result.replace(hour=0, minute=0, second=0, microsecond=0)
        assert (result.toordinal(), (result - midnight) // timedelta(microseconds=1)) == (
            days_and_rest
        )


# Against dateutil: what the standard library reads in its place, it reads alike.


def numbers(width: int, highest: int) -> st.SearchStrategy[str]:
    return st.integers(0, highest).map(lambda number: f"{number:0{width}}")


@settings(deadline=None, max_examples=1_000)
@given(
    st.builds(
        "{}-{}-{}T{}:{}:{}{}{}".format,
        numbers(4, 9999),
        numbers(2, 13),
        numbers(2, 32),
        numbers(2, 25),
        numbers(2, 61),
        numbers(2, 61),
        st.just("") | FRACTIONS.map(".{}".format),
        st.sampled_from(["", "Z"])
        | st.builds(
            "{}{}{}{}".format,
            st.sampled_from("+-"),
            numbers(2, 25),
            st.sampled_from([":", ""]),
            numbers(2, 99),
        ),
    )
)
@example("2026-03-02T09:15:27.352Z")
@example("0001-01-01T00:00:00")
@example("0031-12-11T00:00:00Z")
@example("2026-03-02T24:00:00Z")
@example("2026-03-02T09:15:27+05:99")
@example("2026-03-02T09:15:27+23:60")
def test_iso_8601_as_dateutil_reads_it(text: str) -> None:
    assert read(text) == read_with_dateutil(text)


# Any text: an aware datetime in UTC or ValueError, whatever the server's zone and day.

_PIECES = (
    "0|1|2|9|12|13|24|29|31|59|60|99|2020|2026|9999|0001|20260302|091527|.5|1e5"
    "|Mon|Thursday|Jan|March|Feb|sept|am|PM|h|m|s|st|of|and|ad"
    "|T|Z|z|UTC|GMT|EST|IST|CST|XYZ|(|)"
    "| |  |:|:|-|-|/|+|.|,|\0|\n|\u0663|\ud800|é"
    "|2026-03-02|09:15:27|+05:30|-0500|2 Mar 2026|Jan 2020"
)
TOKENS = st.sampled_from(_PIECES.split("|"))
TEXTS = st.text(st.characters(), max_size=150) | st.lists(TOKENS, max_size=14).map("".join)

# The abbreviations of some of these are among the tokens.
ZONES = ["UTC", "America/New_York", "Asia/Kolkata", "XYZ-14", "CST+11"]


@settings(deadline=None, max_examples=1_000)
@given(TEXTS)
@example("2026-03-02 09:15")
@example("2026-03-02 09:15 EST")
@example("2026-03-02 09:15 XYZ")
@example("09:15")
@example("Mon")
@example("2026-03-02 -")
def test_any_text_in_any_zone(text: str) -> None:
    results = []
    for zone in ZONES:
        with time_zone(zone):
            results.append(read(text))
    assert results == [results[0]] * len(ZONES)
    assert results[0] is None or results[0].tzinfo is UTC


@settings(deadline=None, max_examples=1_000)
@given(st.lists(TOKENS, max_size=8).map(" ".join) | st.lists(TOKENS, max_size=8).map("".join))
@example("2026-03-02 09:15")
@example("Mon 2 Mar 2026")
@example("Thu Jan 2020")
def test_no_day_is_guessed(text: str) -> None:
    # dateutil takes what a string leaves out from a default, which is today if one does not say.
    result = read(text)
    if result is not None:
        midnights = [utc(1999, 12, 27), utc(2024, 2, 29), utc(2026, 11, 9)]
        readings = {read_with_dateutil(text, midnight) for midnight in midnights}
        assert len(readings) == 1
        # In which century two digits lie is not dateutil's to say: it goes by the server's clock.
        assert [f"{reading:%y-%m-%d %H:%M:%S.%f}" for reading in readings if reading] == [
            f"{result:%y-%m-%d %H:%M:%S.%f}"
        ]


TWO_DIGIT_YEARS = ["3 Mar 26", "3 Mar 68", "03/02/76", "Tue, 03 Mar 99 10:00:00 +0000", "26-03-02"]

_READ_IN_A_YEAR = """
import json, sys, time
now = time.strptime(sys.argv[1], "%Y")
time.localtime = lambda seconds=None: now

from segmentio_bridge.timestamps import parse_iso8601_timestamp

results = []
for text in json.loads(sys.argv[2]):
    try:
        results.append(parse_iso8601_timestamp(text).isoformat())
    except ValueError:
        results.append(None)
print(json.dumps(results))
"""


def read_in_year(year: int, texts: list[str]) -> list[str | None]:
    """What a server that is started in `year` reads; dateutil looks at the clock when imported."""
    process = subprocess.run(
        [sys.executable, "-c", _READ_IN_A_YEAR, str(year), json.dumps(texts)],
        check=True,
        capture_output=True,
        text=True,
    )
    results: list[str | None] = json.loads(process.stdout)
    return results


def test_the_year_that_the_server_was_started_in_does_not_matter() -> None:
    texts = ["2026-03-02T09:15:27Z", "2026-03-02 09:15", "09:15", *TWO_DIGIT_YEARS]
    in_2026 = read_in_year(2026, texts)
    assert in_2026[:3] == ["2026-03-02T09:15:27+00:00", "2026-03-02T09:15:00+00:00", None]
    assert dict(zip(texts, read_in_year(2070, texts), strict=True)) == dict(
        zip(texts, in_2026, strict=True)
    )
