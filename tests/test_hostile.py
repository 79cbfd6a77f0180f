"""Hostile input: the one corpus of tests/hostile.py, against every entry point of the bridge."""

from __future__ import annotations

import gc
import json
import logging
import os
import socket
import struct
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import User
from django.http import HttpRequest
from django.test import RequestFactory, override_settings
from pytest_django import DjangoAssertNumQueries, Settings

from segmentio_bridge.outcomes import Status
from segmentio_bridge.segmentio import EventValidationError, track_segmentio_event
from segmentio_bridge.testing import sign
from segmentio_bridge.views import segmentio_event
from tests import hostile
from tests.accounts.models import InheritedUser, TextUser, UUIDUser
from tests.demo.server import GUNICORN, SECRET, TIMEOUT_SECONDS, UVICORN, read_lines, serve
from tests.factories import make_event
from tests.hostile import (
    AUTHORIZATIONS,
    CONTENT_ENCODINGS,
    CONTENT_TYPES,
    LONG_VALUES,
    MALFORMED,
    MANY_VALUES,
    MOMENTS,
    PATH,
    QUERIES,
    QUERY,
    SIGNATURES,
    STRANGE,
    UNREADABLE,
    VALUES,
    Endpoint,
    Field,
    as_batch,
    as_delivery,
    process_unchanged,
    render,
)

EVENT = json.dumps(make_event()).encode()
BATCH = json.dumps([make_event(userId=1), make_event(event="é€😀")], ensure_ascii=False).encode()
BEARER = f"Bearer {SECRET}"

FIELDS = [pytest.param(field, id=".".join(field) or "event") for field in hostile.FIELDS]

# The fields that decide whether an event is emitted, and with what context.
READ_FIELDS = {
    *("event", "type", "userId", "messageId", "timestamp", "receivedAt", "context", "context.app"),
    *("context.app.version", "context.library", "context.library.name", "context.userAgent"),
    *("properties", "properties.name", "properties.label", "properties.data"),
    *("properties.context", "properties.context.app_name", "properties.context.course_id"),
    *("properties.context.ip", "properties.course_id"),
}


# Fields and values -------------------------------------------------------------------------------


def make_texts(field: Field) -> list[str]:
    """Return a realistic event with each of the hostile values in `field`, as JSON."""
    read_as_moment = {("timestamp",), ("receivedAt",), ("sentAt",), ("userId",)}
    moments = MOMENTS.values() if field in read_as_moment else ()
    return [render(field, value) for value in (*VALUES.values(), *moments)]


@pytest.mark.parametrize("field", [field for field in FIELDS if field.id in READ_FIELDS])
def test_every_value_in_every_field_that_is_read(endpoint: Endpoint, field: Field) -> None:
    endpoint.deliver_elements(make_texts(field))


@pytest.mark.parametrize("field", [field for field in FIELDS if field.id not in READ_FIELDS])
def test_every_value_in_every_field_that_is_handed_on(endpoint: Endpoint, field: Field) -> None:
    texts = make_texts(field)
    endpoint.deliver_among_neighbours(texts)
    # Each value alone too, in one field out of four.
    endpoint.deliver_elements(texts[hostile.FIELDS.index(field) % 4 :: 4])


@pytest.mark.parametrize("field", [field for field in FIELDS if field.id in READ_FIELDS])
def test_facade(learner: User, field: Field) -> None:
    for text in make_texts(field):
        body = as_delivery(text)
        (outcome,) = process_unchanged(body)
        refused = body.startswith(b"[") or outcome.status is Status.REJECTED
        assert track(body) is refused


def track(body: bytes) -> bool:
    """Record the event in `body` through the facade; return whether it raised the documented error.

    Any other is an error of the test.
    """
    try:
        track_segmentio_event(make_request(body))
    except EventValidationError:
        return True
    return False


def make_request(body: bytes) -> HttpRequest:
    return RequestFactory().post(f"{PATH}?{QUERY}", body, content_type="application/json")


@pytest.mark.parametrize("model", [User, InheritedUser, TextUser, UUIDUser])
@pytest.mark.usefixtures("db")
def test_user_ids_of_any_user_model(
    model: Any,
    settings: Settings,
    tracking_log: list[dict[str, Any]],
    app_log: list[logging.LogRecord],
    django_assert_max_num_queries: DjangoAssertNumQueries,
) -> None:
    key = uuid.UUID("12345678123456781234567812345678") if model is UUIDUser else 1
    model.objects.create(pk=key)
    settings.AUTH_USER_MODEL = model._meta.label
    assert get_user_model() is model
    texts = make_texts(("userId",))
    with hostile.watch(tracking_log, app_log) as endpoint:
        with django_assert_max_num_queries(1):
            amid_a_batch = endpoint.deliver(as_batch(texts))
        alone = [endpoint.deliver(as_delivery(text)) for text in texts]
    assert amid_a_batch.emitted
    assert [answer.outcomes[0] for answer in alone] == amid_a_batch.outcomes


# Bodies ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED)
def test_malformed_body(endpoint: Endpoint, settings: Settings, body: bytes) -> None:
    assert endpoint.post(body) == (400, [], [])
    assert track(body)
    settings.TRACKING_SEGMENTIO_SIGNATURE_SECRET = SECRET
    assert endpoint.post(body).status == 401
    assert endpoint.post(body, HTTP_X_SIGNATURE=sign(body, SECRET)).status == 400
    assert endpoint.post(body, HTTP_X_SIGNATURE=sign(body, "another")).status == 401


@pytest.mark.parametrize(("body", "count"), STRANGE.values(), ids=STRANGE)
def test_strange_body(endpoint: Endpoint, body: bytes, count: int) -> None:
    answer = endpoint.deliver(body)
    assert (answer.status, len(answer.outcomes)) == (200, count)
    assert process_unchanged(body) == answer.outcomes


@pytest.mark.parametrize("body", [EVENT, BATCH], ids=["event", "batch"])
def test_truncated_body(endpoint: Endpoint, body: bytes) -> None:
    for truncated in hostile.truncations(body):
        assert endpoint.post(truncated) == (400, [], []), truncated


@pytest.mark.parametrize("body", [EVENT, BATCH], ids=["event", "batch"])
def test_mutated_body(endpoint: Endpoint, body: bytes) -> None:
    statuses = {
        endpoint.deliver(mutant).status for mutant in hostile.mutations(body, 1_500, seed=1)
    }
    assert statuses == {200, 400}


def test_body_as_deep_as_the_interpreter_can_just_parse(endpoint: Endpoint) -> None:
    # Where that is depends on the interpreter, and on how deep it stands itself.
    for levels in (*range(700, 1_000, 7), *range(1_000, 100_000, 3_000)):
        for nested in (hostile.arrays(levels), hostile.objects(levels)):
            for text in (nested, render(("properties", "data"), nested)):
                assert endpoint.deliver(as_batch([text])).emitted == []


@pytest.mark.parametrize(("excess", "status"), [(-1, 200), (0, 200), (1, 413)])
def test_body_around_the_limit(endpoint: Endpoint, excess: int, status: int) -> None:
    body = EVENT.ljust(16 * 2**20 + excess)
    answer = endpoint.post(body)
    assert answer.status == status
    assert len(answer.emitted) == (status == 200)


# Credentials and other headers -------------------------------------------------------------------


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES)
def test_query_without_the_secret(endpoint: Endpoint, query: str) -> None:
    assert endpoint.post(EVENT, query=query).status == 401


@pytest.mark.parametrize("authorization", AUTHORIZATIONS.values(), ids=AUTHORIZATIONS)
def test_authorization_without_the_secret(endpoint: Endpoint, authorization: str) -> None:
    answer = endpoint.post(EVENT, query="", HTTP_AUTHORIZATION=authorization)
    assert answer.status == 401


@pytest.mark.parametrize("signature", SIGNATURES.values(), ids=SIGNATURES)
def test_signature_of_nothing(endpoint: Endpoint, settings: Settings, signature: str) -> None:
    settings.TRACKING_SEGMENTIO_SIGNATURE_SECRET = SECRET
    assert endpoint.post(EVENT, HTTP_X_SIGNATURE=signature).status == 401
    settings.TRACKING_SEGMENTIO_WEBHOOK_SECRET = None
    assert endpoint.post(EVENT, HTTP_X_SIGNATURE=signature).status == 401


def test_key_among_2000_parameters(endpoint: Endpoint) -> None:
    query = "&".join([*["a=1"] * 1_000, QUERY, *["%ff&&=" for _ in range(1_000)]])
    assert endpoint.post(EVENT, query=query).status == 200


def test_key_beside_strange_headers(endpoint: Endpoint) -> None:
    values = [*AUTHORIZATIONS.values(), *SIGNATURES.values(), *QUERIES.values()]
    for text in values:
        value = text.encode("utf-8", "surrogatepass").decode("latin-1")
        answer = endpoint.post(
            EVENT,
            HTTP_AUTHORIZATION=value,
            HTTP_X_SIGNATURE=value,
            HTTP_USER_AGENT=value,
            HTTP_COOKIE=value,
            HTTP_REFERER=value,
            HTTP_ORIGIN=value,
            HTTP_X_FORWARDED_FOR=value,
            HTTP_ACCEPT=value,
            HTTP_ACCEPT_LANGUAGE=value,
            HTTP_RANGE=value,
            HTTP_EXPECT=value,
            REMOTE_ADDR=value,
        )
        assert (answer.status, len(answer.emitted)) == (200, 1), value


@pytest.mark.parametrize(("content_type", "is_json"), CONTENT_TYPES.values(), ids=CONTENT_TYPES)
def test_content_type(endpoint: Endpoint, content_type: str, is_json: bool) -> None:
    answer = endpoint.post(EVENT, query="", content_type=content_type, HTTP_AUTHORIZATION=BEARER)
    assert answer.status == (200 if is_json else 415)
    answer = endpoint.post(EVENT, query="", content_type=content_type)
    assert answer.status == 401


@pytest.mark.parametrize("encoding", CONTENT_ENCODINGS.values(), ids=CONTENT_ENCODINGS)
def test_content_encoding(endpoint: Endpoint, encoding: str) -> None:
    assert endpoint.post(EVENT, HTTP_CONTENT_ENCODING=encoding).status == 415
    assert endpoint.post(EVENT, query="", HTTP_CONTENT_ENCODING=encoding).status == 401


@pytest.mark.parametrize(
    ("length", "status"),
    [
        ("", 400),
        ("-1", 400),
        ("-99999999999999999999", 400),
        ("abc", 400),
        ("1.5", 400),
        ("0x10", 400),
        ("\u00b2", 400),
        ("9" * 5_000, 400),
        ("0", 400),
        (str(len(EVENT) - 1), 400),
        (str(len(EVENT)), 200),
        (f" {len(EVENT)} ", 200),
        ("9" * 20, 413),
    ],
)
def test_declared_length(endpoint: Endpoint, length: str, status: int) -> None:
    assert endpoint.post(EVENT, CONTENT_LENGTH=length).status == status


def test_transfer_encoding_that_nobody_took_away(endpoint: Endpoint) -> None:
    # The server does not say where the body ends, so there is no way to read it.
    for encoding in ("chunked", "gzip", "", "\ud800"):
        answer = endpoint.post(EVENT, HTTP_TRANSFER_ENCODING=encoding)
        assert (answer.status, answer.emitted) == (503, [])


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "TRACE", "P\u00d6ST"])
def test_other_method(endpoint: Endpoint, method: str) -> None:
    assert endpoint.post(EVENT, REQUEST_METHOD=method).status == 405


# Over a real socket ------------------------------------------------------------------------------
#
# What does not keep to HTTP, the servers refuse themselves, each in its own way, and some of it
# they accept. What is asserted is that the site never fails, and goes on.


class Site(NamedTuple):
    """A server that serves the demo's site."""

    port: int
    directory: Path
    #: Django reads the whole body before it looks for a view if it is served over ASGI.
    reads_body_first: bool

    def read_log(self, name: str) -> list[str]:
        return read_lines(self.directory / name)

    def count_emitted(self) -> int:
        return len(self.read_log("tracking.log"))


@pytest.fixture(scope="module", params=[GUNICORN, UVICORN], ids=["gunicorn", "uvicorn"])
def running_site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("site")
    with serve(directory, {1: "ada"}, server=request.param) as port:
        yield Site(port, directory, reads_body_first=request.param is UVICORN)


@pytest.fixture
def site(running_site: Site) -> Iterator[Site]:
    """A server that still takes a good delivery after the test."""
    yield running_site
    emitted_before = running_site.count_emitted()
    for _ in range(2):  # gunicorn has two workers.
        assert exchange(running_site, head(EVENT), EVENT) == 200
    assert running_site.count_emitted() == emitted_before + 2
    # gunicorn tells of a malformed chunk by an error of its own, which nobody can know.
    errors = [line for line in running_site.read_log("site.log") if "WithheldError" in line]
    assert not [line for line in errors if "gunicorn.http.errors" not in line]


def head(
    body: bytes | int | None = None,
    *lines: str,
    query: str = QUERY,
    content_type: str = "application/json",
) -> bytes:
    """Return the head of a request, with the length of `body` if that is given."""
    length = len(body) if isinstance(body, bytes) else body
    return "\r\n".join(
        [
            f"POST {PATH}?{query} HTTP/1.1",
            "Host: localhost",
            f"Content-Type: {content_type}",
            *([] if length is None else [f"Content-Length: {length}"]),
            *lines,
            "\r\n",
        ]
    ).encode("latin-1")


def chunk(content: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(content), content)


CHUNKED = "Transfer-Encoding: chunked"
LAST_CHUNK = chunk(b"")


def connect(site: Site) -> socket.socket:
    return socket.create_connection(("127.0.0.1", site.port), TIMEOUT_SECONDS)


def read_status(connection: socket.socket) -> int | None:
    """Return the status of the answer, or None if there is none."""
    line = b""
    with suppress(ConnectionError), connection.makefile("rb") as answer:
        line = answer.readline()
    return int(line.split()[1]) if line else None


def exchange(site: Site, *pieces: bytes, half_close: bool = False) -> int | None:
    """Send the pieces, and nothing more with `half_close`; return the status of the answer."""
    with connect(site) as connection:
        # The server may have seen enough before it has seen all; its answer is there all the same.
        with suppress(OSError):
            for piece in pieces:
                connection.sendall(piece)
            if half_close:
                connection.shutdown(socket.SHUT_WR)
        return read_status(connection)


TAKEN = {
    "length": (head(EVENT), EVENT),
    "byte by byte": (head(EVENT), *(bytes([byte]) for byte in EVENT)),
    "chunked": (head(None, CHUNKED), chunk(EVENT[:100]), chunk(EVENT[100:]), LAST_CHUNK),
    "chunked byte by byte": (
        head(None, CHUNKED),
        *(chunk(bytes([byte])) for byte in EVENT),
        LAST_CHUNK,
    ),
    "chunked in capitals": (head(None, CHUNKED.upper()), chunk(EVENT), LAST_CHUNK),
    "chunks with extensions and trailers": (
        head(None, CHUNKED),
        b"%X;name=value\r\n%s\r\n" % (len(EVENT), EVENT),
        b"0\r\nX-Trailer: 1\r\n\r\n",
    ),
    "headers that are not ASCII": (head(EVENT, "X-Name: \xe9\xff"), EVENT),
}


@pytest.mark.parametrize("pieces", TAKEN.values(), ids=TAKEN)
def test_taken(site: Site, pieces: Sequence[bytes]) -> None:
    emitted_before = site.count_emitted()
    assert exchange(site, *pieces) == 200
    assert site.count_emitted() == emitted_before + 1


REFUSED = {
    "nothing": (),
    "length too long": (head(len(EVENT) + 10), EVENT),
    "length far too long": (head(10**10), EVENT),
    "length too short": (head(len(EVENT) - 10), EVENT),
    "length zero": (head(0), EVENT),
    "no length": (head(None), EVENT),
    "no body": (head(None),),
    **{
        f"length {length[:20]}": (head(None, f"Content-Length: {length}"), EVENT)
        for length in ("-5", "abc", "+5", "1_0", "\xb2", "0x10", "5, 6", "9" * 30, "9" * 5_000)
    },
    "two lengths": (head(5, "Content-Length: 6"), EVENT),
    "chunked to nothing": (head(None, CHUNKED), LAST_CHUNK),
    "chunked without an end": (head(None, CHUNKED), chunk(EVENT)),
    "chunk cut": (head(None, CHUNKED), chunk(EVENT)[:-10]),
    "chunk too long": (head(None, CHUNKED), b"1" + chunk(EVENT), LAST_CHUNK),
    "chunk too short": (head(None, CHUNKED), b"%x\r\n" % (len(EVENT) - 1), EVENT, LAST_CHUNK),
    **{
        f"chunk of size {size[:20]!r}": (head(None, CHUNKED), size + b"\r\n", EVENT, LAST_CHUNK)
        for size in (b"", b"-5", b"zz", b"+5", b"1_0", b"f" * 16, b"f" * 5_000, b" ", b"\xff")
    },
    "trailers that are none": (head(None, CHUNKED), chunk(EVENT), b"0\r\nX Y\r\n\r\n"),
    "another transfer encoding": (head(None, "Transfer-Encoding: gzip"), EVENT),
    "no transfer encoding": (head(None, "Transfer-Encoding: x"), EVENT),
    "NUL in a header": (head(EVENT, "X: a\0b"), EVENT),
    "space in a header's name": (head(EVENT, "X Y: a"), EVENT),
    "header without a colon": (head(EVENT, "X"), EVENT),
    "byte in the path that is not ASCII": (head(EVENT, query="key=\xff"), EVENT),
    "another host": (head(EVENT).replace(b"localhost", b"evil.example"), EVENT),
    "another protocol": (bytes.fromhex("16030100a5010000a10303") + bytes(160),),
    "junk": (b"\r\n\r\n\0\xff" * 100,),
    "line ends": (b"\r\n" * 1_000,),
}


@pytest.mark.parametrize("pieces", REFUSED.values(), ids=REFUSED)
def test_refused(site: Site, pieces: Sequence[bytes]) -> None:
    emitted_before = site.count_emitted()
    assert exchange(site, *pieces, half_close=True) in (None, 400, 411, 413, 431, 501, 503)
    assert site.count_emitted() == emitted_before


# Each server has its own mind about these.
LEFT_TO_THE_SERVER = {
    "length twice": (head(EVENT, f"Content-Length: {len(EVENT)}"), EVENT),
    "length and chunks": (head(EVENT, CHUNKED), chunk(EVENT), LAST_CHUNK),
    "two transfer encodings": (
        head(None, "Transfer-Encoding: gzip, chunked"),
        chunk(EVENT),
        LAST_CHUNK,
    ),
    "identity": (head(EVENT, "Transfer-Encoding: identity"), EVENT),
    "line feed alone": (head(EVENT, "X: a\nY: b"), EVENT),
    "carriage return alone": (head(EVENT, "X: a\rY: b"), EVENT),
    "folded header": (head(EVENT, "X: a\r\n b"), EVENT),
    "long header": (head(EVENT, "X: " + "a" * 100_000), EVENT),
    "5,000 headers": (head(EVENT, *["X: 1"] * 5_000), EVENT),
    "long query string": (head(EVENT, query=f"{QUERY}&a=" + "x" * 100_000), EVENT),
    "unknown expectation": (head(EVENT, "Expect: a miracle"), EVENT),
    "upgrade": (head(EVENT, "Connection: Upgrade", "Upgrade: websocket"), EVENT),
    "method in small letters": (head(EVENT).replace(b"POST", b"post"), EVENT),
    "HTTP 1.0": (head(EVENT).replace(b"HTTP/1.1", b"HTTP/1.0"), EVENT),
    "HTTP 9.9": (head(EVENT).replace(b"HTTP/1.1", b"HTTP/9.9"), EVENT),
}


@pytest.mark.parametrize("pieces", LEFT_TO_THE_SERVER.values(), ids=LEFT_TO_THE_SERVER)
def test_left_to_the_server(site: Site, pieces: Sequence[bytes]) -> None:
    emitted_before = site.count_emitted()
    status = exchange(site, *pieces)
    assert status in (200, 400, 401, 405, 414, 417, 431, 505)
    assert site.count_emitted() == emitted_before + (status == 200)


@pytest.mark.parametrize(("content_type", "query"), UNREADABLE.values(), ids=UNREADABLE)
def test_what_django_fails_on(site: Site, content_type: str, query: str) -> None:
    # Any site with any view answers so, depending on the versions of Django and the server. What is
    # asserted is that no more harm is done.
    emitted_before = site.count_emitted()
    body = EVENT[:-1]
    status = exchange(site, head(body, query=query, content_type=content_type), body)
    assert status in (400, 401, 431, 500)
    assert site.count_emitted() == emitted_before


LIMIT = 16 * 2**20


def test_body_over_the_limit(site: Site) -> None:
    body = b" " * (LIMIT + 1)
    assert exchange(site, head(body), body) == 413
    assert exchange(site, head(None, CHUNKED), chunk(body), LAST_CHUNK) == 413
    if not site.reads_body_first:
        assert exchange(site, head(10**10)) == 413


def test_stranger_with_a_huge_body(site: Site) -> None:
    if not site.reads_body_first:
        # The answer is there before anything of the body is.
        assert exchange(site, head(10**10, query="")) == 401
        assert exchange(site, head(None, CHUNKED, query="")) == 401
    body = b"[" * (LIMIT + 1)
    assert exchange(site, head(body, query=""), body) == 401
    assert exchange(site, head(None, CHUNKED, query=""), chunk(body), LAST_CHUNK) == 401


@pytest.mark.parametrize("levels", [900, 5_000, 9_500, 100_000])
def test_deep_bodies(site: Site, levels: int) -> None:
    # Some servers call the site in a thread, whose stack is smaller than a process's.
    for nested in (hostile.arrays(levels), hostile.objects(levels)):
        body = as_batch([nested, render(("properties", "data"), nested)])
        assert exchange(site, head(body), body) in (200, 400)


def test_slow_uploads(site: Site) -> None:
    with connect(site) as slow:
        for piece in (head(EVENT), EVENT[:10], EVENT[10:20]):
            slow.sendall(piece)
            assert exchange(site, head(EVENT), EVENT) == 200
        slow.sendall(EVENT[20:])
        assert read_status(slow) == 200


@pytest.mark.parametrize("headers", [head(EVENT), head(None, CHUNKED)], ids=["length", "chunked"])
def test_aborted_upload(site: Site, headers: bytes) -> None:
    emitted_before = site.count_emitted()
    reset = struct.pack("ii", 1, 0)  # Do linger, for no time: the other side gets a reset.
    for sent in (b"", b"4", b"400\r\n" + EVENT[:500]):
        with connect(site) as connection:
            connection.sendall(headers + sent)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
    assert exchange(site, head(EVENT), EVENT) == 200
    assert site.count_emitted() == emitted_before + 1


# Cost --------------------------------------------------------------------------------------------


class Cost(NamedTuple):
    """What a delivery costs, or may cost at most."""

    #: How much the process grows at most while it takes the delivery, in sizes of the body.
    memory: float
    #: The processor's time, in times of a plain `json.loads` of the same body.
    time: float


class Case(NamedTuple):
    """A body, how it is sent, and what that may cost at most."""

    name: str
    size: int
    is_signed: bool
    bound: Cost


# What has been measured is half of these bounds or less. The largest ratios of time are those to a
# json.loads that gives up at the first characters, within a millisecond. Python's own forms of
# JSON's smallest values take up most of the memory: a plain json.loads of `[{},{},…` takes 26 sizes
# of the body. What many values cost is in proportion to their number; there are fewer of them here
# than there could be, to save time.
CASES = [
    *(Case(name, 16 * 2**20, False, Cost(memory=20, time=500)) for name in LONG_VALUES),
    *(Case(name, 2**18, False, Cost(memory=200, time=600)) for name in MANY_VALUES),
    *(Case(name, 16 * 2**20, True, Cost(memory=32, time=500)) for name in LONG_VALUES),
    *(Case(name, 2**18, True, Cost(memory=60, time=100)) for name in MANY_VALUES),
]

# Each case in a process of its own, in which nothing is left over from the one before.
_MEASURE = """
import django, json, os, sys
django.setup()
from django.contrib.auth.models import User
from django.core.management import call_command
from segmentio_bridge.signals import events_processed
from tests.demo.apps import log_outcomes
from tests.test_hostile import measure

call_command("migrate", run_syncdb=True, verbosity=0)
User.objects.create(pk=1, username="ada")
events_processed.disconnect(log_outcomes)  # It is the demo's own.
for case in json.load(sys.stdin):
    if os.fork() == 0:
        print(json.dumps(measure(*case)), flush=True)
        os._exit(0)
    os.wait()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="what a process takes up is read from /proc")
def test_cost_is_bounded() -> None:
    # Coverage is not measured there, since that would cost far more than what is measured.
    environ = {name: value for name, value in os.environ.items() if "COVERAGE" not in name}
    output = subprocess.run(
        [sys.executable, "-c", _MEASURE],
        env={**environ, "DJANGO_SETTINGS_MODULE": "tests.settings", "TEST_DATABASE": ""},
        input=json.dumps([case[:3] for case in CASES]),
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    ).stdout
    costs = [Cost(*json.loads(line)) for line in output.splitlines()]
    assert not [
        (case, cost)
        for case, cost in zip(CASES, costs, strict=True)
        if cost.memory > case.bound.memory or cost.time > case.bound.time
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="what a process takes up is read from /proc")
@pytest.mark.parametrize("name", [*LONG_VALUES, *MANY_VALUES])
@pytest.mark.parametrize("is_signed", [True, False], ids=["signature", "key"])
def test_expensive_bodies_are_answered(learner: User, name: str, is_signed: bool) -> None:
    measure(name, 20_000, is_signed)


def measure(name: str, size: int, is_signed: bool) -> Cost:
    """Deliver a body, either with the key or with a wrong signature, and measure what that costs.

    With the wrong signature, all of the body is the first element, whose end has to be found before
    the delivery can be refused.
    """
    make_body = {**LONG_VALUES, **MANY_VALUES}[name]
    body = b"[" + make_body(size - 2) + b"]" if is_signed else make_body(size)
    request = RequestFactory().post(PATH, body, content_type="application/json")
    request.META["HTTP_X_SIGNATURE" if is_signed else "HTTP_AUTHORIZATION"] = BEARER
    plain = min(time_of(lambda: load(body)) for _ in range(3))

    gc.collect()
    # Linux keeps in mind the greatest size of a process, until 5 is written there.
    Path("/proc/self/clear_refs").write_text("5")
    size_before = read_size("VmRSS")
    key, signature_secret = (None, SECRET) if is_signed else (SECRET, None)
    statuses: list[int] = []
    with override_settings(
        TRACKING_SEGMENTIO_WEBHOOK_SECRET=key, TRACKING_SEGMENTIO_SIGNATURE_SECRET=signature_secret
    ):
        seconds = time_of(lambda: statuses.append(segmentio_event(request).status_code))
    growth = read_size("VmHWM") - size_before
    assert statuses == [401] if is_signed else statuses in ([200], [400])
    return Cost(growth / len(body), seconds / plain)


def time_of(action: Callable[[], object]) -> float:
    started = time.process_time()
    action()
    return time.process_time() - started


def load(body: bytes) -> object:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def read_size(name: str) -> int:
    """Return a size of this process, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (kilobytes,) = [line.split()[1] for line in lines if line.startswith(f"{name}:")]
    return int(kilobytes) * 1024
