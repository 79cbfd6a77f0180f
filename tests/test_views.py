"""The endpoint: the contract's table of answers, row by row and in its order."""

from __future__ import annotations

import io
import json
import logging
from typing import Any
from urllib.parse import quote

import django
import pytest
from django.core.handlers.asgi import ASGIRequest
from django.core.handlers.base import BaseHandler
from django.core.handlers.wsgi import WSGIRequest
from django.db import OperationalError, connection, connections
from django.http import HttpResponse
from django.test import Client
from django.urls import reverse
from eventtracking import tracker as tracking
from eventtracking.django.django_tracker import DjangoTracker
from pytest_django import Settings

from segmentio_bridge.signals import events_processed
from segmentio_bridge.views import segmentio_event
from tests.factories import make_event, make_properties

TrackingLog = list[dict[str, Any]]

URL = "/segmentio/event"
SECRET = "a secret that only Segment knows"
GOOD_KEY = f"?key={quote(SECRET)}"

EVENT = json.dumps(make_event()).encode()


def deliver(
    body: bytes = EVENT,
    *,
    method: str = "POST",
    url: str = URL,
    query: str = GOOD_KEY,
    content_type: str = "application/json",
    **environ: Any,
) -> Any:
    client = Client(enforce_csrf_checks=True)
    return client.generic(method, url + query, body, content_type, **environ)


class Stream(io.BytesIO):
    """A body on the wire: counts what is read, and may break off with an error."""

    def __init__(self, content: bytes, error: Exception | None = None) -> None:
        super().__init__(content)
        self.bytes_read = 0
        self.error = error

    def read(self, size: int | None = -1, /) -> bytes:
        if self.error:
            raise self.error
        content = super().read(size)
        self.bytes_read += len(content)
        return content


def answer(stream: Stream, **environ: Any) -> HttpResponse:
    """Call the view with a request whose body comes from `stream`, as a WSGI server would."""
    return segmentio_event(
        WSGIRequest(
            {
                "REQUEST_METHOD": "POST",
                "PATH_INFO": URL,
                "QUERY_STRING": GOOD_KEY[1:],
                "CONTENT_TYPE": "application/json",
                "wsgi.input": stream,
                **environ,
            }
        )
    )


@pytest.mark.usefixtures("learner")
@pytest.mark.parametrize("url", [URL, URL + "/"])
def test_a_delivery_is_taken_with_and_without_a_slash(url: str, tracking_log: TrackingLog) -> None:
    response = deliver(url=url)
    assert (response.status_code, response.content) == (200, b"")
    assert len(tracking_log) == 1


def test_the_route_has_a_name() -> None:
    assert reverse("segmentio_bridge:segmentio_event") == URL


@pytest.mark.parametrize(
    "method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "X"]
)
def test_row_1_other_methods(method: str) -> None:
    response = deliver(method=method, query="")
    assert (response.status_code, response["Allow"]) == (405, "POST")


def test_row_2_no_valid_key_and_nothing_is_read(app_log: list[logging.LogRecord]) -> None:
    stream = Stream(EVENT)
    response = answer(
        stream,
        CONTENT_LENGTH=str(len(EVENT)),
        QUERY_STRING="key=guess",
        CONTENT_TYPE="text/plain",
        REMOTE_ADDR="203.0.113.9",
    )
    assert (response.status_code, response.content) == (401, b"")
    assert stream.bytes_read == 0
    (record,) = app_log
    assert record.levelno == logging.WARNING
    assert record.getMessage() == "Refused a delivery from '203.0.113.9': no valid credential."


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("content_type", "encoding", "status"),
    [
        ("application/json", "", 200),
        ("APPLICATION/JSON; charset=utf-8", "identity", 200),
        ("application/json;charset=latin-1;x=y", "Identity", 200),
        ("text/plain", "", 415),
        ("application/x-www-form-urlencoded", "", 415),
        ("multipart/form-data; boundary=x", "", 415),
        ("application/json+x", "", 415),
        ("", "", 415),
        ("application/json", "gzip", 415),
        ("application/json", "identity, gzip", 415),
    ],
)
def test_row_3_media_type_and_encoding(content_type: str, encoding: str, status: int) -> None:
    response = deliver(content_type=content_type, HTTP_CONTENT_ENCODING=encoding)
    assert (response.status_code, response.content) == (status, b"")


LIMIT = len(EVENT)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("limit", "declared", "status", "most_read"),
    [
        (LIMIT, LIMIT, 200, LIMIT),
        (LIMIT - 1, LIMIT, 413, 0),
        (10, LIMIT, 413, 0),
        (LIMIT, 10**30, 413, 0),
    ],
)
def test_row_4_too_large(
    limit: int, declared: int, status: int, most_read: int, settings: Settings
) -> None:
    settings.TRACKING_SEGMENTIO_MAX_BODY_BYTES = limit
    stream = Stream(EVENT)
    assert answer(stream, CONTENT_LENGTH=str(declared)).status_code == status
    assert stream.bytes_read == most_read


@pytest.mark.django_db
@pytest.mark.parametrize(("limit", "status"), [(LIMIT, 200), (LIMIT - 1, 413), (10, 413)])
def test_row_4_a_chunked_body_too_large(limit: int, status: int, settings: Settings) -> None:
    settings.TRACKING_SEGMENTIO_MAX_BODY_BYTES = limit
    stream = Stream(EVENT)
    chunked = {"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True}
    assert answer(stream, **chunked).status_code == status
    assert stream.bytes_read <= limit + 1


@pytest.mark.usefixtures("learner")
def test_django_s_own_limit_does_not_apply(settings: Settings, tracking_log: TrackingLog) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 10
    assert deliver().status_code == 200
    assert len(tracking_log) == 1


@pytest.mark.parametrize(
    ("stream", "environ"),
    [
        pytest.param(Stream(EVENT[:-1]), {"CONTENT_LENGTH": str(len(EVENT))}, id="cut"),
        pytest.param(
            Stream(EVENT, OSError("reset")), {"CONTENT_LENGTH": str(len(EVENT))}, id="aborted"
        ),
        pytest.param(Stream(EVENT), {"HTTP_TRANSFER_ENCODING": "chunked"}, id="endless"),
    ],
)
def test_row_5_a_body_that_ends_early(
    stream: Stream, environ: dict[str, str], app_log: list[logging.LogRecord]
) -> None:
    response = answer(stream, **environ)
    assert (response.status_code, response["Retry-After"]) == (503, "30")
    (record,) = app_log
    assert record.getMessage() == "The body of a delivery broke off; it has to come again."


@pytest.mark.parametrize("declared", ["", "-1", "seven", "0", None])
def test_without_a_length_there_is_no_body(declared: str | None) -> None:
    environ = {} if declared is None else {"CONTENT_LENGTH": declared}
    assert answer(Stream(EVENT), **environ).status_code == 400


@pytest.mark.usefixtures("learner")
def test_a_chunked_body_under_asgi(tracking_log: TrackingLog) -> None:
    scope = {
        "type": "http",
        "method": "POST",
        "path": URL,
        "query_string": GOOD_KEY[1:].encode(),
        "headers": [(b"content-type", b"application/json"), (b"transfer-encoding", b"chunked")],
    }
    assert segmentio_event(ASGIRequest(scope, io.BytesIO(EVENT))).status_code == 200
    assert len(tracking_log) == 1


def test_row_6_signature(settings: Settings) -> None:
    settings.TRACKING_SEGMENTIO_SIGNATURE_SECRET = "what Segment signs with"
    response = deliver(b"not even JSON")
    assert (response.status_code, response.content) == (401, b"")


@pytest.mark.parametrize("body", [b" ", b"7", b"{", b"\xff", b'{"a": NaN}', b"[" * 100_000])
def test_row_7_malformed(body: bytes) -> None:
    response = deliver(body)
    assert response.status_code == 400
    assert response.json() == {"error": "Invalid JSON"}


@pytest.mark.usefixtures("learner")
def test_row_7_a_large_batch_that_is_malformed_at_its_end(tracking_log: TrackingLog) -> None:
    # More than is parsed at once: nothing may be emitted before the whole body has been read.
    body = json.dumps([make_event() for _ in range(200)], separators=(",", ":")).encode()
    assert deliver(body[:-1] + b",NaN]").status_code == 400
    assert not tracking_log


@pytest.mark.usefixtures("learner")
def test_row_8_no_database(tracking_log: TrackingLog) -> None:
    def gone(*arguments: Any) -> None:
        raise OperationalError("gone")

    with connection.execute_wrapper(gone):
        response = deliver()
    assert (response.status_code, response["Retry-After"]) == (503, "30")
    assert not tracking_log


@pytest.mark.django_db
@pytest.mark.parametrize("raw", [[], [None, 7], make_event(userId=None), make_event(type="page")])
def test_row_9_any_mixture_of_outcomes(raw: object) -> None:
    response = deliver(json.dumps(raw).encode())
    assert (response.status_code, response.content) == (200, b"")


class FailingTracker(DjangoTracker):
    """A tracker that fails for events named "refused"."""

    def emit(self, name: str | None = None, data: Any = None) -> None:
        if name == "refused":
            raise RuntimeError
        super().emit(name, data)


@pytest.mark.usefixtures("learner")
@pytest.mark.parametrize(("names", "status"), [(["refused"], 503), (["refused", "taken"], 200)])
def test_the_retry_rule(names: list[str], status: int) -> None:
    before = tracking.get_tracker()
    tracking.register_tracker(FailingTracker())
    batch = [make_event(properties=make_properties(name=name)) for name in names]
    try:
        assert deliver(json.dumps(batch).encode()).status_code == status
    finally:
        tracking.register_tracker(before)


@pytest.mark.parametrize(
    "name", ["WEBHOOK_SECRET", "SIGNATURE_SECRET", "MAX_BODY_BYTES", "ALLOWED_TYPES"]
)
def test_a_wrong_setting_fails_closed(
    name: str, settings: Settings, app_log: list[logging.LogRecord], tracking_log: TrackingLog
) -> None:
    setattr(settings, f"TRACKING_SEGMENTIO_{name}", {"hush": "hush"})
    response = deliver()
    assert (response.status_code, response["Retry-After"]) == (503, "30")
    assert not tracking_log
    (record,) = app_log
    assert record.levelno == logging.ERROR
    assert f"TRACKING_SEGMENTIO_{name} must be" in record.getMessage()
    assert "hush" not in record.getMessage()


def test_an_unexpected_error_is_no_500(app_log: list[logging.LogRecord]) -> None:
    response = answer(
        Stream(EVENT, RuntimeError(f"cannot read {EVENT!r}")), CONTENT_LENGTH=str(len(EVENT))
    )
    assert (response.status_code, response["Retry-After"]) == (503, "30")
    (record,) = app_log
    text = logging.Formatter().format(record)
    assert "RuntimeError" in text
    assert "learner@example.org" not in text


def test_no_transaction_is_opened_around_the_view_on_any_database(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    atomic = {**connections.settings["default"], "ATOMIC_REQUESTS": True}
    for alias in ("default", "second"):
        monkeypatch.setitem(connections.settings, alias, atomic)
    assert BaseHandler().make_view_atomic(segmentio_event) is segmentio_event


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("learner")
def test_with_atomic_requests_the_site_s_receivers_run_outside_of_a_transaction() -> None:
    connection.settings_dict["ATOMIC_REQUESTS"] = True
    seen = []

    def look(**kwargs: Any) -> None:
        seen.append(connection.in_atomic_block)

    events_processed.connect(look)
    try:
        assert deliver().status_code == 200
    finally:
        events_processed.disconnect(look)
        connection.settings_dict["ATOMIC_REQUESTS"] = False
    assert seen == [False]


@pytest.mark.usefixtures("learner")
@pytest.mark.skipif(django.VERSION < (5, 1), reason="LoginRequiredMiddleware came with Django 5.1")
def test_no_login_is_required(settings: Settings) -> None:
    settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, "django.contrib.sessions"]
    settings.MIDDLEWARE = [
        *settings.MIDDLEWARE,
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.auth.middleware.LoginRequiredMiddleware",
    ]
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
    assert deliver().status_code == 200
    assert deliver(query="").status_code == 401
