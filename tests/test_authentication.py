"""Credentials, at the public door: every configured one has to verify."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any
from urllib.parse import quote

import pytest
from django.test import Client
from pytest_django import Settings

from tests.factories import make_event

pytestmark = pytest.mark.django_db

URL = "/segmentio/event"
KEY = "a key of a decent length"
OTHER_KEY = "the key before the last"
SIGNING = "what Segment signs with"
OTHER_SIGNING = "what Segment signed with"
UNICODE_KEY = "schlüssel mit 🔑 und ümlaut"

BODY = json.dumps(make_event()).encode()


def sign(body: bytes, secret: str = SIGNING) -> str:
    """Sign as Segment's documentation describes it, independently of the package."""
    return hmac.new(secret.encode(), body, hashlib.sha1).hexdigest()


def deliver(query: str = "", body: bytes = BODY, **headers: Any) -> int:
    client = Client(enforce_csrf_checks=True)
    return client.generic("POST", URL + query, body, "application/json", **headers).status_code


@pytest.fixture
def keyed(settings: Settings) -> None:
    settings.TRACKING_SEGMENTIO_WEBHOOK_SECRET = [OTHER_KEY, KEY, UNICODE_KEY, ""]


@pytest.fixture
def signed(settings: Settings) -> None:
    settings.TRACKING_SEGMENTIO_WEBHOOK_SECRET = None
    settings.TRACKING_SEGMENTIO_SIGNATURE_SECRET = [SIGNING, "", OTHER_SIGNING]


@pytest.mark.usefixtures("keyed")
@pytest.mark.parametrize(
    ("query", "headers"),
    [
        (f"?key={quote(KEY)}", {}),
        (f"?key={KEY.replace(' ', '+')}", {}),
        (f"?key={quote(OTHER_KEY)}", {}),
        (f"?key={quote(UNICODE_KEY)}", {}),
        (f"?a=1&key={quote(KEY)}&b=%FF&c", {}),
        ("", {"HTTP_AUTHORIZATION": f"Bearer {KEY}"}),
        ("", {"HTTP_AUTHORIZATION": f"bearer  {OTHER_KEY}"}),
        ("", {"HTTP_AUTHORIZATION": f"Bearer {UNICODE_KEY}".encode().decode("latin-1")}),
        # An ASGI server or a proxy may have decoded the header already.
        ("", {"HTTP_AUTHORIZATION": f"Bearer {UNICODE_KEY}"}),
        ("?key=wrong", {"HTTP_AUTHORIZATION": f"Bearer {KEY}"}),
        (f"?key={quote(KEY)}", {"HTTP_AUTHORIZATION": "Basic d3Jvbmc6d3Jvbmc="}),
        # Neither a signature nor a charset has a say where only a key is configured.
        (f"?key={quote(KEY)}", {"HTTP_X_SIGNATURE": "wrong"}),
        (f"?key={quote(KEY)}", {"CONTENT_TYPE": "application/json; charset=utf-16"}),
    ],
)
def test_the_key_opens(query: str, headers: dict[str, Any]) -> None:
    assert deliver(query, **headers) == 200


WRONG: list[tuple[str, dict[str, Any]]] = [
    ("", {}),
    ("?key", {}),
    ("?key=", {}),
    ("?key=%00", {}),
    ("?key=%ff%fe", {}),
    ("?key=%ed%a0%80", {}),
    ("?key=ключ", {}),
    ("?key=\x00", {}),
    (f"?key={KEY[:-1]}", {}),
    (f"?key={quote(KEY)}%00", {}),
    (f"?key={quote(KEY.upper())}", {}),
    (f"?KEY={quote(KEY)}", {}),
    (f"?key={quote(KEY)}&key={quote(KEY)}", {}),
    (f"?key=wrong&key={quote(KEY)}", {}),
    (f"?key[]={quote(KEY)}", {}),
    ("?" + "&".join(f"a{number}=1" for number in range(2000)), {}),
    ("", {"HTTP_AUTHORIZATION": ""}),
    ("", {"HTTP_AUTHORIZATION": "Bearer"}),
    ("", {"HTTP_AUTHORIZATION": "Bearer "}),
    ("", {"HTTP_AUTHORIZATION": KEY}),
    ("", {"HTTP_AUTHORIZATION": f"Basic {KEY}"}),
    ("", {"HTTP_AUTHORIZATION": "Bearer \ud800"}),
    ("", {"HTTP_AUTHORIZATION": "Bearer \x00"}),
    ("?key=%41", {"CONTENT_TYPE": "application/json; charset=utf-16"}),
]


@pytest.mark.parametrize("end", ["à", "Å", "\u2005"])
def test_a_key_that_ends_in_what_latin_1_takes_for_white_space(
    end: str, settings: Settings
) -> None:
    # The last byte in UTF-8 is 0xA0 or 0x85, which is a space to Python where it is no text yet.
    settings.TRACKING_SEGMENTIO_WEBHOOK_SECRET = f"{KEY}{end}"
    token = f"Bearer {KEY}{end} ".encode().decode("latin-1")
    assert deliver(HTTP_AUTHORIZATION=token) == 200


@pytest.mark.usefixtures("keyed")
@pytest.mark.parametrize(("query", "headers"), WRONG)
def test_everything_else_does_not(query: str, headers: dict[str, Any]) -> None:
    assert deliver(query, **headers) == 401


@pytest.mark.parametrize("secret", [None, "", [], [""]])
@pytest.mark.parametrize(("query", "headers"), WRONG)
def test_without_a_configured_credential_nobody_passes(
    secret: Any, query: str, headers: dict[str, Any], settings: Settings
) -> None:
    settings.TRACKING_SEGMENTIO_WEBHOOK_SECRET = secret
    settings.TRACKING_SEGMENTIO_SIGNATURE_SECRET = secret
    assert deliver(query, **headers) == 401


def test_the_settings_may_be_missing_altogether(settings: Settings) -> None:
    del settings.TRACKING_SEGMENTIO_WEBHOOK_SECRET
    del settings.TRACKING_SEGMENTIO_SIGNATURE_SECRET
    assert deliver("?key=None") == 401


FIRST = b'{"b" : 1e21,"a":1.0, "\\ud800":"\xe2\x80\xa8"}'
BATCH = b" [\n " + FIRST + b" \t, " + BODY + b"]"


@pytest.mark.usefixtures("signed")
@pytest.mark.parametrize(
    ("body", "signature"),
    [
        pytest.param(BODY, sign(BODY), id="single"),
        pytest.param(BODY, sign(BODY, OTHER_SIGNING), id="rotated"),
        pytest.param(BATCH, sign(FIRST), id="first element of a batch"),
        pytest.param(BATCH, sign(BATCH), id="whole batch"),
        pytest.param(b"[]", sign(b"[]"), id="empty batch"),
    ],
)
def test_the_signature_opens(body: bytes, signature: str) -> None:
    assert deliver("", body, HTTP_X_SIGNATURE=signature) == 200


@pytest.mark.usefixtures("signed")
@pytest.mark.parametrize(
    ("body", "signature"),
    [
        pytest.param(BODY, sign(BODY + b" "), id="another body"),
        pytest.param(BODY, sign(BODY, "a stranger's secret"), id="another secret"),
        pytest.param(BODY, sign(BODY, ""), id="the empty secret of the list"),
        pytest.param(BODY, sign(BODY)[:-1], id="cut"),
        pytest.param(BODY, "sha1=" + sign(BODY), id="with a prefix"),
        pytest.param(BODY, hmac.new(SIGNING.encode(), BODY, "sha256").hexdigest(), id="SHA-256"),
        pytest.param(BATCH, sign(json.dumps(json.loads(FIRST)).encode()), id="encoded again"),
        pytest.param(BATCH, sign(FIRST + b" "), id="with white space"),
        pytest.param(BATCH, sign(BODY), id="the second element"),
        pytest.param(BATCH.replace(b"1.0", b"1.1"), sign(FIRST), id="tampered first element"),
        pytest.param(b"[NaN]", sign(b"NaN"), id="a first element that is not JSON"),
        pytest.param(BODY, "", id="empty"),
        pytest.param(BODY, "\x00", id="NUL"),
        pytest.param(BODY, "\ud800é", id="not Latin-1"),
    ],
)
def test_no_other_signature_does(body: bytes, signature: str) -> None:
    assert deliver("", body, HTTP_X_SIGNATURE=signature) == 401
    assert deliver("", body) == 401


@pytest.mark.usefixtures("signed")
def test_a_signature_is_verified_before_the_body_is_parsed() -> None:
    malformed = b'{"a": '
    assert deliver("", malformed) == 401
    assert deliver("", malformed, HTTP_X_SIGNATURE=sign(malformed)) == 400


def test_both_credentials_are_needed_where_both_are_configured(settings: Settings) -> None:
    settings.TRACKING_SEGMENTIO_WEBHOOK_SECRET = KEY
    settings.TRACKING_SEGMENTIO_SIGNATURE_SECRET = SIGNING
    good_key = f"?key={quote(KEY)}"
    assert deliver(good_key, HTTP_X_SIGNATURE=sign(BODY)) == 200
    assert deliver(good_key) == 401
    assert deliver(good_key, HTTP_X_SIGNATURE=sign(BODY, "wrong")) == 401
    assert deliver("?key=wrong", HTTP_X_SIGNATURE=sign(BODY)) == 401
    assert deliver(HTTP_X_SIGNATURE=sign(BODY)) == 401
    # One cannot stand in for the other.
    assert deliver(f"?key={quote(SIGNING)}", HTTP_X_SIGNATURE=sign(BODY, KEY)) == 401
