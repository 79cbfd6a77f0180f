"""`manage.py segmentio_send`, against the site itself and against servers that misbehave."""

from __future__ import annotations

import hmac
import io
import json
import os
import re
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple, cast
from urllib.parse import quote

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import connections
from django.test.testcases import LiveServerThread
from pytest_django import Settings

from segmentio_bridge import sender
from tests.factories import make_event, make_properties

TrackingLog = list[dict[str, Any]]

SECRET = "a secret that only Segment knows"
ANOTHER_SECRET = "s+cret & ünknown = 100% /?#"
SIGNATURE_SECRET = "the secret that Segment signs with"
SECRETS = [SECRET, ANOTHER_SECRET, SIGNATURE_SECRET]

ANSWERED = re.compile(r" *(\d+|-)  +(\d+) events?  +([\d.]+) ms  (.+)")

NO_SUCH_PORT = "http://127.0.0.1:1/"


class Played(NamedTuple):
    """What the command said, and how it ended."""

    exit_code: int
    #: Of each delivery: the status, the number of events, the sentence.
    answers: list[tuple[str, int, str]]
    totals: str
    errors: str

    @property
    def statuses(self) -> list[str]:
        return [status for status, _, _ in self.answers]


def play(url: str, *arguments: str, stdout: io.StringIO | None = None) -> Played:
    """Run the command; whatever it says, there must be no secret in it."""
    stdout, stderr, exit_code = stdout or io.StringIO(), io.StringIO(), 0
    try:
        call_command("segmentio_send", url, *arguments, stdout=stdout, stderr=stderr, no_color=True)
    except CommandError as error:
        stderr.write(str(error))
        exit_code = error.returncode
    said = stdout.getvalue() + stderr.getvalue()
    for secret in SECRETS:
        for spelling in (secret, quote(secret), quote(secret, safe="")):
            assert spelling not in said
    *lines, totals = stdout.getvalue().splitlines() or [""]
    matches = [ANSWERED.fullmatch(line) for line in lines]
    assert None not in matches, lines
    answers = [(match[1], int(match[2]), match[4]) for match in matches if match]
    return Played(exit_code, answers, totals, stderr.getvalue())


# The site's own endpoint


@pytest.fixture(scope="module")
def server(django_db_setup: None) -> Iterator[str]:
    """The URL of the site's endpoint.

    pytest-django's live_server would take every path for that of a file, in a site without
    STATIC_URL and MEDIA_URL.
    """
    in_memory = {
        connection.alias: connection
        for connection in connections.all()
        if connection.vendor == "sqlite"
    }
    for connection in in_memory.values():
        connection.inc_thread_sharing()
    thread = LiveServerThread(
        "127.0.0.1",
        static_handler=cast(Any, lambda media: media.application),
        connections_override=in_memory,
    )
    thread.daemon = True
    thread.start()
    thread.is_ready.wait()
    yield f"http://127.0.0.1:{thread.port}/segmentio/event"
    thread.terminate()
    for connection in in_memory.values():
        connection.dec_thread_sharing()


@pytest.fixture
def endpoint(transactional_db: None, learner: User, settings: Settings, server: str) -> str:
    """The URL of the site's endpoint; the site has one user, and a key."""
    settings.TRACKING_SEGMENTIO_WEBHOOK_SECRET = SECRET
    settings.TRACKING_SEGMENTIO_SIGNATURE_SECRET = None
    return server


def test_a_sample_event_is_recorded_now(endpoint: str, tracking_log: TrackingLog) -> None:
    started = datetime.now(UTC)
    played = play(endpoint)
    assert played.exit_code == 0
    assert played.answers == [("200", 1, "OK: Segment takes it for delivered.")]
    assert re.fullmatch(
        r"1 delivery, 1 event; 200: 1; p50 ([\d.]+) ms, slowest \1 ms", played.totals
    )
    assert played.errors == ""
    (event,) = tracking_log
    assert event["name"] == "edx.video.played"
    assert event["context"]["username"] == "ada"
    assert event["context"]["org_id"] == "SampleX"
    received_at = datetime.fromisoformat(event["context"]["received_at"])
    timestamp = datetime.fromisoformat(event["context"]["timestamp"])
    assert started - timedelta(seconds=1) < timestamp < received_at < datetime.now(UTC)


def test_sample_events_are_of_the_user_that_is_asked_for(
    endpoint: str, tracking_log: TrackingLog
) -> None:
    User.objects.create(pk=77, username="grace")
    assert play(endpoint, "--user-id", "77").exit_code == 0
    assert play(endpoint, "--user-id", "no user").exit_code == 0
    assert [event["context"]["username"] for event in tracking_log] == ["grace"]


@pytest.mark.parametrize(
    ("arguments", "deliveries"),
    [
        (["--count", "3"], [1, 1, 1]),
        (["--batch", "3"], [3]),
        (["--batch", "3", "--count", "7"], [3, 3, 1]),
        (["--batch", "3", "--count", "1"], [1]),
    ],
    ids=["single", "one batch", "batches", "less than a batch"],
)
def test_deliveries_of_sample_events(
    arguments: list[str], deliveries: list[int], endpoint: str, tracking_log: TrackingLog
) -> None:
    played = play(endpoint, *arguments)
    assert [events for _, events, _ in played.answers] == deliveries
    assert len(tracking_log) == sum(deliveries)


GIVEN = [make_event(properties=make_properties(name=name)) for name in ("один", "two", "three 🎈")]


@pytest.mark.parametrize(
    "content",
    [
        json.dumps(GIVEN).encode(),
        json.dumps(GIVEN, indent=4, ensure_ascii=False).encode(),
        "\n".join(map(json.dumps, GIVEN)).encode(),
        b"\xef\xbb\xbf" + "\r\n\r\n".join(map(json.dumps, GIVEN)).encode() + b"\r\n",
        " ".join(json.dumps(event, indent=2) for event in GIVEN).encode(),
        f"{json.dumps(GIVEN[0])}\n{json.dumps(GIVEN[1:])}\n".encode(),
    ],
    ids=["array", "laid out", "lines", "lines of Windows", "objects laid out", "lines of both"],
)
@pytest.mark.parametrize("batch", [[], ["--batch", "2"]], ids=["single", "batch"])
def test_given_events(
    content: bytes,
    batch: list[str],
    endpoint: str,
    tracking_log: TrackingLog,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = tmp_path / "events"
    file.write_bytes(content)
    assert play(endpoint, "--events", str(file), *batch).exit_code == 0
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
    assert play(endpoint, "--events", "-", *batch).exit_code == 0
    names = [event["properties"]["name"] for event in GIVEN]
    assert [event["name"] for event in tracking_log] == names * 2


WITH_KEY = {"TRACKING_SEGMENTIO_WEBHOOK_SECRET": ["", SECRET, ANOTHER_SECRET]}
WITH_STRANGE_KEY = {"TRACKING_SEGMENTIO_WEBHOOK_SECRET": ANOTHER_SECRET}
WITH_SIGNATURE = {
    "TRACKING_SEGMENTIO_WEBHOOK_SECRET": None,
    "TRACKING_SEGMENTIO_SIGNATURE_SECRET": ["", SIGNATURE_SECRET],
}
WITH_BOTH = WITH_SIGNATURE | WITH_KEY
WITH_NONE = {"TRACKING_SEGMENTIO_WEBHOOK_SECRET": None}
IN_URL = f"?key={quote(SECRET)}"


@pytest.mark.parametrize(
    ("configured", "query", "arguments", "status"),
    [
        (WITH_KEY, "", [], 200),
        (WITH_KEY, "", ["--bearer", ANOTHER_SECRET], 200),
        (WITH_KEY, "", ["--key", ANOTHER_SECRET], 200),
        (WITH_KEY, "?a=b", ["--key", ANOTHER_SECRET], 200),
        (WITH_KEY, "", ["--bearer", SIGNATURE_SECRET], 401),
        (WITH_KEY, "", ["--key", SIGNATURE_SECRET], 401),
        (WITH_KEY, "", ["--no-credentials"], 401),
        (WITH_KEY, "", ["--no-credentials", "--bearer", SECRET], 200),
        (WITH_KEY, IN_URL, [], 200),
        (WITH_KEY, "?key=wrong", [], 401),
        (WITH_KEY, "?key=", [], 401),
        (WITH_KEY, IN_URL, ["--no-credentials"], 200),
        (WITH_KEY, "", ["--no-credentials", "--sign", SIGNATURE_SECRET], 401),
        (WITH_STRANGE_KEY, "", [], 200),
        (WITH_SIGNATURE, "", [], 200),
        (WITH_SIGNATURE, "", ["--sign", SIGNATURE_SECRET], 200),
        (WITH_SIGNATURE, "", ["--sign", SECRET], 401),
        (WITH_SIGNATURE, "", ["--no-credentials"], 401),
        (WITH_BOTH, "", [], 200),
        (WITH_BOTH, IN_URL, [], 200),
        (WITH_BOTH, "", ["--key", SECRET], 200),
        (WITH_BOTH, "", ["--sign", SIGNATURE_SECRET], 200),
        (WITH_BOTH, "", ["--no-credentials", "--bearer", SECRET], 401),
        (WITH_BOTH, "", ["--no-credentials", "--key", SECRET, "--sign", SIGNATURE_SECRET], 200),
        (WITH_NONE, IN_URL, [], 401),
        (WITH_NONE, "", ["--no-credentials"], 401),
    ],
)
@pytest.mark.parametrize("batch", [[], ["--batch", "2"]], ids=["single", "batch"])
def test_credentials(
    configured: dict[str, Any],
    query: str,
    arguments: list[str],
    status: int,
    batch: list[str],
    endpoint: str,
    settings: Settings,
) -> None:
    for name, value in configured.items():
        setattr(settings, name, value)
    played = play(endpoint + query, *arguments, *batch)
    assert played.statuses == [str(status)]
    assert played.exit_code == (status != 200)
    assert played.errors == ("" if status == 200 else "Not delivered: 1 of 1.")


def test_it_says_that_there_is_no_credential(endpoint: str, settings: Settings) -> None:
    settings.TRACKING_SEGMENTIO_WEBHOOK_SECRET = None
    played = play(endpoint)
    assert played.statuses == ["401"]
    assert played.errors.startswith(
        "No credential is sent: neither TRACKING_SEGMENTIO_WEBHOOK_SECRET nor "
        "TRACKING_SEGMENTIO_SIGNATURE_SECRET is set here, and none is given."
    )


def test_lone_surrogates_arrive_signed(
    endpoint: str, settings: Settings, tracking_log: TrackingLog, tmp_path: Path
) -> None:
    settings.TRACKING_SEGMENTIO_SIGNATURE_SECRET = SIGNATURE_SECRET
    event = make_event(properties=make_properties(data={"half an emoji": "\ud83c", "é": "🎈"}))
    file = tmp_path / "event.json"
    file.write_text(json.dumps(event))
    assert play(endpoint, "--events", str(file)).exit_code == 0
    assert tracking_log[0]["data"] == {"half an emoji": "\ud83c", "é": "🎈"}


# Other servers

Answer = Callable[["Handler"], None]


class Request(NamedTuple):
    """A request as it came over the wire."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


class Server(ThreadingHTTPServer):
    """Gives every request the same answer, and keeps what it was asked."""

    def __init__(self, answer: Answer, *, reads_bodies: bool = True) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/hook"
        self.answer = answer
        self.reads_bodies = reads_bodies
        self.requests: list[Request] = []
        self.ending = threading.Event()


class Handler(BaseHTTPRequestHandler):
    """Does what its server was told."""

    server: Server

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"]) if self.server.reads_bodies else 0
        body = self.rfile.read(length)
        self.server.requests.append(
            Request(self.command, self.path, dict(self.headers.items()), body)
        )
        self.server.answer(self)

    def log_message(self, format: str, *args: Any) -> None:
        """Be quiet."""


@contextmanager
def serving(
    answer: Answer, *, reads_bodies: bool = True, tls: ssl.SSLContext | None = None
) -> Iterator[Server]:
    with Server(answer, reads_bodies=reads_bodies) as server:
        if tls:
            server.url = server.url.replace("http://", "https://")
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        try:
            yield server
        finally:
            server.ending.set()
            server.shutdown()
            thread.join()


def status(code: int, **headers: str) -> Answer:
    def answer(handler: Handler) -> None:
        handler.send_response_only(code)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()

    return answer


def pieces(*texts: bytes, seconds: float = 0) -> Answer:
    """Answer with raw bytes, each piece so many seconds after the other, and close."""

    def answer(handler: Handler) -> None:
        for text in texts:
            handler.wfile.write(text)
            handler.server.ending.wait(seconds)

    return answer


def test_a_request_is_like_segments(settings: Settings) -> None:
    settings.TRACKING_SEGMENTIO_WEBHOOK_SECRET = None
    settings.TRACKING_SEGMENTIO_SIGNATURE_SECRET = SIGNATURE_SECRET
    with serving(status(200)) as server:
        url = f"{server.url}/ü b/%20?x=1 2#fragment"
        assert play(url, "--bearer", SECRET, "--key", ANOTHER_SECRET).exit_code == 0
    (request,) = server.requests
    assert request.method == "POST"
    assert request.target == (f"/hook/%C3%BC%20b/%20?x=1%202&key={quote(ANOTHER_SECRET, safe='')}")
    assert request.headers == {
        "Host": f"127.0.0.1:{server.server_port}",
        "Accept-Encoding": "identity",
        "Content-Length": str(len(request.body)),
        "Content-Type": "application/json",
        "User-Agent": "Segment.io/1.0",
        "Authorization": f"Bearer {SECRET}",
        "X-Signature": hmac.digest(SIGNATURE_SECRET.encode(), request.body, "sha1").hex(),
    }
    event = json.loads(request.body)
    assert request.body == json.dumps(event, separators=(",", ":")).encode()
    assert event["messageId"].startswith("segmentio-send-")
    assert 1_500 <= len(request.body) <= 4_000


def test_a_batch_is_signed_over_its_first_event(settings: Settings) -> None:
    settings.TRACKING_SEGMENTIO_SIGNATURE_SECRET = SIGNATURE_SECRET
    with serving(status(200)) as server:
        assert play(server.url, "--batch", "2", "--count", "4").exit_code == 0
    message_ids = set()
    for request in server.requests:
        first, second = json.loads(request.body)
        message_ids |= {first["messageId"], second["messageId"]}
        signed = json.dumps(first, separators=(",", ":")).encode()
        assert request.body.startswith(b"[" + signed + b",")
        expected = hmac.digest(SIGNATURE_SECRET.encode(), signed, "sha1").hex()
        assert request.headers["X-Signature"] == expected
    assert len(message_ids) == 4


def test_without_credentials_nothing_of_the_settings_goes_out(settings: Settings) -> None:
    settings.TRACKING_SEGMENTIO_SIGNATURE_SECRET = SIGNATURE_SECRET
    with serving(status(200)) as server:
        play(server.url, "--no-credentials")
    (request,) = server.requests
    assert request.target == "/hook"
    assert not {"Authorization", "X-Signature"} & set(request.headers)


def test_a_url_needs_no_path() -> None:
    with serving(status(200)) as server:
        play(server.url.removesuffix("/hook"))
    assert server.requests[0].target == "/"


DELIVERED = "Segment takes it for delivered."
RETRIED = "Segment would retry it for up to four hours."
DISCARDED = "Segment would discard it for good."


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (200, f"OK: {DELIVERED}"),
        (204, f"No Content: {DELIVERED}"),
        (299, f"Unknown status: {DELIVERED}"),
        (400, f"Bad Request: {DISCARDED}"),
        (401, f"Unauthorized: {DISCARDED}"),
        (404, f"Not Found: {DISCARDED}"),
        (405, f"Method Not Allowed: {DISCARDED}"),
        (408, f"Request Timeout: {RETRIED}"),
        (415, f"Unsupported Media Type: {DISCARDED}"),
        (423, f"Locked: {RETRIED}"),
        (429, f"Too Many Requests: {RETRIED}"),
        (500, f"Internal Server Error: {RETRIED}"),
        (501, f"Not Implemented: {DISCARDED}"),
        (502, f"Bad Gateway: {RETRIED}"),
        (503, f"Service Unavailable: {RETRIED}"),
        (504, f"Gateway Timeout: {RETRIED}"),
    ],
)
def test_what_segment_makes_of_a_status(code: int, words: str) -> None:
    with serving(status(code)) as server:
        played = play(server.url)
    assert played.answers == [(str(code), 1, words)]
    assert played.exit_code == (not 200 <= code < 300)


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("https://user:word@site.example/event/?key=abc#d", "'https://site.example/event/'"),
        ("/hook/", "'http://127.0.0.1:{port}/hook/'"),
        ("//[", "an unknown place"),
        ("", "an unknown place"),
    ],
)
def test_redirects_are_not_followed(code: int, location: str, words: str) -> None:
    with serving(status(code, Location=location)) as server:
        played = play(server.url, "--key", SECRET)
    assert len(server.requests) == 1
    ((shown, _, sentence),) = played.answers
    assert shown == str(code)
    assert sentence.endswith(
        f", a redirect to {words.format(port=server.server_port)}, by which a POST can become a "
        f"GET without events: {RETRIED}"
    )


def test_a_secret_that_a_redirect_repeats_is_not_shown() -> None:
    with serving(status(302, Location=f"/other?key={quote(SECRET)}")) as server:
        assert play(server.url, "--key", SECRET).statuses == ["302"]


OK = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (pieces(b"", seconds=20), "No answer within 0.3 s"),
        (pieces(OK, seconds=20), "No answer within 0.3 s"),
        (pieces(OK + b"Content-Length: 9\r\n\r\nmore", seconds=20), "No answer within 0.3 s"),
        (pieces(OK, b"A: 1\r\n", b"B: 2\r\n", b"\r\n", seconds=0.15), "No answer within 0.3 s"),
        (pieces(OK, b"A: 1\r\n", b"\r\n", *[b"more"] * 30, seconds=0.05), "No answer within 0.3 s"),
        (pieces(OK + b"A: ", *[b"1"] * 30, seconds=0.05), "No answer within 0.3 s"),
        (pieces(), "The connection was closed without an answer"),
        (pieces(b"SSH-2.0-OpenSSH\r\n"), "The answer is no HTTP, or not all of it"),
        (
            pieces(OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nabc"),
            "The answer is no HTTP, or not all of it",
        ),
    ],
    ids=[
        *("silent", "stuck in head", "stuck in body", "slow", "trickling", "trickling head"),
        *("closed", "no HTTP", "broken off"),
    ],
)
def test_answers_that_do_not_come(answer: Answer, words: str) -> None:
    with serving(answer) as server:
        played = play(server.url, "--timeout", "0.3")
    assert played == (
        1,
        [("-", 1, f"{words}: {RETRIED}")],
        "1 delivery, 1 event; no answer: 1",
        "Not delivered: 1 of 1.",
    )


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (NO_SUCH_PORT, "Nothing listens at '127.0.0.1', port 1"),
        ("http://[::ffff:127.0.0.1]:1/", "Nothing listens at '::ffff:127.0.0.1', port 1"),
        (f"http://{'x' * 64}.example/", f"The host name '{'x' * 64}.example' cannot be resolved"),
        ("http://[fe80::1%nowhere]/", "The host name 'fe80::1%nowhere' cannot be resolved"),
        ("https://255.255.255.255/", "Network is unreachable"),
    ],
)
def test_servers_that_are_not_there(url: str, words: str) -> None:
    assert play(url).answers == [("-", 1, f"{words}: {RETRIED}")]


def test_a_refusal_of_a_body_that_was_not_read_is_seen() -> None:
    large = ["--batch", "4000"]
    with serving(status(413), reads_bodies=False) as server:
        played = play(server.url, *large)
    ((shown, events, sentence),) = played.answers
    assert (shown, events) == ("413", 4000)
    assert sentence.endswith(f"Too Large: {DISCARDED}")


def test_totals(settings: Settings) -> None:
    answers = iter([status(200), status(503), pieces(), status(200)])
    with serving(lambda handler: next(answers)(handler)) as server:
        played = play(server.url, "--count", "7", "--batch", "2")
    assert played.statuses == ["200", "503", "-", "200"]
    assert re.fullmatch(
        r"4 deliveries, 7 events; 200: 2; 503: 1; no answer: 1; p50 [\d.]+ ms, slowest [\d.]+ ms",
        played.totals,
    )
    assert (played.exit_code, played.errors) == (1, "Not delivered: 2 of 4.")


class InterruptedOutput(io.StringIO):
    """Ctrl-C is pressed while the third delivery is reported."""

    def write(self, text: str, /) -> int:
        if self.getvalue().count("\n") == 2:
            self.write = super().write  # type: ignore[method-assign]  # for this object only
            raise KeyboardInterrupt
        return super().write(text)


def test_interrupted_it_still_shows_totals() -> None:
    with serving(status(200)) as server:
        played = play(server.url, "--count", "9", stdout=InterruptedOutput())
    assert played.statuses == ["200", "200"]
    assert played.totals.startswith("3 deliveries, 3 events; 200: 3; p50 ")
    assert (played.exit_code, played.errors) == (130, "Interrupted.")


# TLS

# Self-signed for localhost and 127.0.0.1, until 2099; its key protects nothing.
CERTIFICATE = """\
-----BEGIN CERTIFICATE-----
MIIBeDCCAR2gAwIBAgIBATAKBggqhkjOPQQDAjAUMRIwEAYDVQQDDAlsb2NhbGhv
c3QwIBcNMjAwMTAxMDAwMDAwWhgPMjEwMDAxMDEwMDAwMDBaMBQxEjAQBgNVBAMM
CWxvY2FsaG9zdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABA5UN4cBZfks2s+L
mfChweTI/2T7wE7fxhs8ajQMMWuzdMtlVNAvTnjH/iIalmwU/6jvffgMODWndGX6
WktKaoajXjBcMB0GA1UdDgQWBBQAeUWoQUbSEwLDPmZ43dj6qJXl1zAaBgNVHREE
EzARgglsb2NhbGhvc3SHBH8AAAEwDwYDVR0TAQH/BAUwAwEB/zAOBgNVHQ8BAf8E
BAMCAoQwCgYIKoZIzj0EAwIDSQAwRgIhAMlDoTHS8d9/EG/CpEa9q+rXohGQNsKI
TCBvLxSjlfJ9AiEAxNuppdN9Lpo72KdXbH6LbOZvH3Za8D+q6djYCR83zuE=
-----END CERTIFICATE-----
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgnNYCgKEM1fpzi1hQ
VloLhnU9yjNtkRTtuVn4Xo8bCnuhRANCAAQOVDeHAWX5LNrPi5nwocHkyP9k+8BO
38YbPGo0DDFrs3TLZVTQL054x/4iGpZsFP+o7334DDg1p3Rl+lpLSmqG
-----END PRIVATE KEY-----
"""


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    file = tmp_path / "certificate.pem"
    file.write_text(CERTIFICATE)
    return file


@pytest.fixture
def tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def test_a_certificate_must_be_trusted(tls: ssl.SSLContext) -> None:
    with serving(status(200), tls=tls) as server:
        played = play(server.url)
    ((shown, _, sentence),) = played.answers
    assert shown == "-"
    assert re.fullmatch(
        rf"The certificate is not to be trusted \(self.signed certificate\): {RETRIED}", sentence
    )
    assert not server.requests


def test_a_certificate_must_be_the_servers(
    tls: ssl.SSLContext, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with serving(status(200), tls=tls) as server:
        played = play(server.url.replace("127.0.0.1", "127.1"))
    assert "not valid for '127.1'" in played.answers[0][2]


def test_tls(tls: ssl.SSLContext, certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with serving(status(200), tls=tls) as server:
        played = play(server.url, "--count", "2")
    assert played.statuses == ["200", "200"]


def test_a_server_that_does_not_speak_tls() -> None:
    with serving(status(200)) as server:
        played = play(server.url.replace("http://", "https://"))
    assert re.fullmatch(rf"TLS failed \(\w+\): {RETRIED}", played.answers[0][2])


# Usage


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--count", "0"], "--count must be at least 1."),
        (["--batch", "-1"], "--batch must be at least 1."),
        (["--timeout", "0"], "--timeout must be more than 0 and at most 3600 seconds."),
        (["--timeout", "nan"], "--timeout must be more than 0 and at most 3600 seconds."),
        (["--timeout", "inf"], "--timeout must be more than 0 and at most 3600 seconds."),
        (["--count", "few"], "Error: argument --count: invalid int value: 'few'"),
        (
            ["--events", "-", "--count", "1"],
            "--count is for sample events; given ones go as they are.",
        ),
        (
            ["--events", "-", "--user-id", "1"],
            "--user-id is for sample events; given ones go as they are.",
        ),
        (["--events", "/no/such/file"], "/no/such/file: No such file or directory"),
        (["--events", "/"], "/: Is a directory"),
        (["--key", ""], "The key is empty."),
        (["--bearer", ""], "The bearer token is empty."),
        (["--sign", ""], "The signature secret is empty."),
        (["--key", f"{SECRET}\udcff"], "The key is not UTF-8."),
        (["--bearer", f"{SECRET}\udcff"], "The bearer token is not UTF-8."),
        (["--sign", f"{SECRET}\udcff"], "The signature secret is not UTF-8."),
    ],
)
def test_unusable_options(arguments: list[str], words: str) -> None:
    assert play(NO_SUCH_PORT, *arguments) == (1, [], "", words)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("site.example/event", "The URL must begin with https:// or http://, and name a host."),
        ("ftp://site.example/", "The URL must begin with https:// or http://, and name a host."),
        ("https:///event", "The URL must begin with https:// or http://, and name a host."),
        ("https://site.example:port/", "The URL is malformed."),
        ("https://site.example:65536/", "The URL is malformed."),
        ("https://[site/", "The URL is malformed."),
        ("https://site example/", "The URL is malformed."),
        ("https://site\x01.example/", "The URL is malformed."),
        ("https://site.example/\udcff", "The URL is not UTF-8."),
        ("", "The URL is empty."),
        (
            f"https://ada:{quote(SECRET)}@site.example/",
            "The URL must not hold a user name or a password.",
        ),
    ],
)
@pytest.mark.parametrize("arguments", [[], ["--no-credentials"]], ids=["", "stranger"])
def test_unusable_urls(url: str, words: str, arguments: list[str]) -> None:
    assert play(url, *arguments) == (1, [], "", words)


def test_two_keys_are_one_too_many() -> None:
    played = play(f"{NO_SUCH_PORT}?k%65y={quote(SECRET)}", "--key", SECRET)
    assert played == (1, [], "", "The URL has a key already.")


def test_a_key_that_no_header_can_carry(settings: Settings) -> None:
    settings.TRACKING_SEGMENTIO_WEBHOOK_SECRET = f"{SECRET}\n"
    assert play(NO_SUCH_PORT) == (
        1,
        [],
        "",
        (
            "The bearer token (by default the site's key) holds a control character, which no "
            "header can carry."
        ),
    )


def test_a_setting_of_a_wrong_type(settings: Settings) -> None:
    settings.TRACKING_SEGMENTIO_WEBHOOK_SECRET = {SECRET: SECRET}
    assert play(NO_SUCH_PORT) == (
        1,
        [],
        "",
        "TRACKING_SEGMENTIO_WEBHOOK_SECRET must be None, a string, or a list of strings.",
    )


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no events"),
        (b" \n", "no events"),
        (b"[]", "no events"),
        (b'{"a": 1}\n{"a": 2\n', "no JSON: Expecting ',' delimiter: line 3 column 1 (char 17)"),
        (b'{"a": 1}\nnull\n', "neither an object nor an array: line 2"),
        (b'{"a": "\xff"}', "not UTF-8"),
        (b'{"a": ' + b"9" * 5000 + b"}", "a number of too many digits, or nested too deeply"),
        (b"[" * 200_000, "a number of too many digits, or nested too deeply"),
    ],
)
def test_unusable_files(content: bytes, words: str, tmp_path: Path) -> None:
    file = tmp_path / "events"
    file.write_bytes(content)
    assert play(NO_SUCH_PORT, "--events", str(file)) == (1, [], "", f"{file}: {words}")


def test_an_event_that_cannot_be_encoded() -> None:
    event: list[Any] = []
    for _ in range(200_000):
        event = [event]
    with pytest.raises(sender.Unsendable, match="An event is nested too deeply"):
        next(sender.send(NO_SUCH_PORT, [event], sender.Credentials()))


def test_credentials_do_not_show_themselves() -> None:
    assert repr(sender.Credentials(SECRET, SECRET, SECRET)) == "Credentials()"


def test_the_help_keeps_its_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        call_command("segmentio_send", "--help")
    shown = capsys.readouterr().out
    assert "\n  TRACKING_SEGMENTIO_WEBHOOK_SECRET\n      goes along as" in shown
    assert "segmentio/event \\\n        --count 1000 --batch 250\n" in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_as_a_program_on_a_machine_without_pytest_and_credentials(tmp_path: Path) -> None:
    (tmp_path / "pytest.py").write_text("raise ImportError")
    sent = subprocess.run(
        [sys.executable, "-m", "django", "segmentio_send", NO_SUCH_PORT],
        capture_output=True,
        text=True,
        timeout=60,
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.demo.settings",
            "DEMO_WEBHOOK_SECRET": "",
            "PYTHONPATH": f"{tmp_path}:.",
        },
    )
    assert sent.returncode == 1
    assert re.fullmatch(
        r"  -      1 event +[\d.]+ ms  Nothing listens at '127.0.0.1', port 1: .*\n"
        r"1 delivery, 1 event; no answer: 1\n",
        sent.stdout,
    )
    assert re.fullmatch(
        r"No credential is sent: .*\nCommandError: Not delivered: 1 of 1\.\n", sent.stderr
    )
