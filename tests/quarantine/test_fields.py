"""What a column can hold, on any database."""

from __future__ import annotations

import pytest
from django.db import connection
from hypothesis import given
from hypothesis import strategies as st

from segmentio_bridge.quarantine.fields import clean, decode, encode
from segmentio_bridge.quarantine.models import QuarantinedEvent

TEXTS = [
    "",
    "plain",
    '{"a": "b"}\r\n\t',
    "100 % %41 %zz",
    "é€😀",
    "\0\x01\x7f",
    b"\xff\xfe not UTF-8 \xed\xa0\x80".decode("utf-8", "surrogateescape"),
    "\\u0000\\ud800",
]


@pytest.mark.django_db
@pytest.mark.parametrize("text", TEXTS, ids=ascii)
def test_a_payload_survives_the_database(text: str) -> None:
    row = QuarantinedEvent.objects.create(payload=text)
    row.refresh_from_db()
    assert row.payload == text
    assert QuarantinedEvent.objects.filter(payload=text).count() == 1
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT payload FROM {QuarantinedEvent._meta.db_table}")  # noqa: S608 - the table's own name
        stored = cursor.fetchone()[0]
    assert stored.isascii()
    assert "\0" not in stored


@pytest.mark.django_db
def test_a_part_of_a_payload_can_be_looked_for() -> None:
    QuarantinedEvent.objects.create(payload='{"title": "50 % für Ada 😀"}')
    assert QuarantinedEvent.objects.filter(payload__contains=encode("% für")).exists()
    assert not QuarantinedEvent.objects.filter(payload__contains=encode("% fur")).exists()


@given(st.binary())
def test_any_bytes_have_an_ascii_form(raw: bytes) -> None:
    text = raw.decode("utf-8", "surrogateescape")
    stored = encode(text)
    assert stored.isascii()
    assert decode(stored) == text


@given(st.text(st.characters()), st.integers(1, 40))
def test_a_cleaned_text_fits_and_can_be_shown(text: str, max_length: int) -> None:
    cleaned = clean(text, max_length)
    assert len(encode(cleaned)) <= max_length
    assert cleaned == "" or cleaned.isprintable() or "\ufffd" in cleaned
    cleaned.encode()
    assert clean(cleaned, max_length) == cleaned


@pytest.mark.parametrize(
    ("text", "max_length", "expected"),
    [
        ("api-1", 5, "api-1"),
        ("api-12", 5, "api-1"),
        ("a\0b", 20, "a\ufffdb"),
        ("a\ud800b", 20, "a\ufffdb"),
        ("a\u202eb\n", 30, "a\ufffdb\ufffd"),
        ("é", 6, "é"),
        ("éé", 11, "é"),
        ("aé", 6, "a"),
        ("a%%", 6, "a%"),
        ("a%", 3, "a"),
    ],
)
def test_what_does_not_fit_is_cut_between_characters(
    text: str, max_length: int, expected: str
) -> None:
    assert clean(text, max_length) == expected


def test_nothing_is_nothing() -> None:
    field = QuarantinedEvent._meta.get_field("payload")
    assert field.get_prep_value(None) is None
    assert field.from_db_value(None, None, connection) is None
