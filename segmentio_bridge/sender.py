"""Plays Segment: events, the requests that carry them, and what Segment makes of the answers.

For trying a deployment; no delivery to this site passes here. The URL may lead to any server, whose
answers are trusted in nothing. Raises Unsendable, whose words quote neither a secret nor an event,
and ImproperlyConfigured for a wrong setting of this site.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import Enum
from itertools import islice
from typing import Any
from urllib.parse import SplitResult, parse_qsl, quote, urljoin, urlsplit

from django.utils.encoding import iri_to_uri

from . import conf
from .redaction import printable
from .testing import make_event, make_properties, sign

#: How long Segment's classic webhooks wait for an answer.
TIMEOUT_SECONDS = 5.0


class Unsendable(Exception):
    """Segment could not send this URL, credential or event; the text says why."""


@dataclass(frozen=True)
class Credentials:
    """What deliveries carry to be let in; None for what they do not carry."""

    #: The query parameter `key`.
    key: str | None = field(default=None, repr=False)
    #: The token of `Authorization: Bearer`.
    bearer: str | None = field(default=None, repr=False)
    #: The secret that `X-Signature` is computed with.
    signature_secret: str | None = field(default=None, repr=False)


class Verdict(Enum):
    """What Segment makes of an answer."""

    DELIVERED = "delivered"
    RETRIED = "retried"
    DISCARDED = "discarded"


@dataclass(frozen=True)
class Answer:
    """What came back for one delivery."""

    #: How many events the delivery held.
    events: int
    #: From before connecting to the end of the answer, or to the failure.
    seconds: float
    #: None if no answer came.
    status: int | None
    #: What came, or why nothing did, in words.
    description: str

    @property
    def verdict(self) -> Verdict:
        """What Segment makes of it."""
        return judge(self.status)


def judge(status: int | None) -> Verdict:
    """Return what Segment makes of an answer's status; None stands for no answer at all.

    https://segment.com/docs/connections/destinations/#retries
    """
    if status is None:
        return Verdict.RETRIED
    if 200 <= status < 300:
        return Verdict.DELIVERED
    if status == 501 or (400 <= status < 500 and status not in (408, 423, 429)):
        return Verdict.DISCARDED
    return Verdict.RETRIED


def make_sample_event(user_id: str) -> dict[str, Any]:
    """Return a raw event of a phone's video player that happens now, with an id of its own.

    The bridge's defaults accept it if `user_id` is the primary key of a user. The `messageId`
    begins with `segmentio-send-`, by which logs can be searched.
    """
    received_at = datetime.now(UTC)
    happened_at = _moment(received_at - timedelta(milliseconds=900))
    course_id = "course-v1:SampleX+SX101+2026_T1"
    return make_event(
        messageId=f"segmentio-send-{uuid.uuid4()}",
        originalTimestamp=happened_at,
        projectId="sampleProject",
        properties=make_properties(
            context={
                "app_name": "edx.mobileapp.android",
                "component": "videoplayer",
                "course_id": course_id,
                "open_in_browser_url": f"https://learning.example.com/courses/{course_id}/",
            },
            data={
                "code": "mobile",
                "currentTime": 73.25,
                "module_id": f"block-v1:{course_id[10:]}+type@video+block@sample",
            },
            label="How to take notes",
            name="edx.video.played",
        ),
        event="Played Video",
        receivedAt=_moment(received_at),
        sentAt=_moment(received_at - timedelta(milliseconds=150)),
        timestamp=happened_at,
        userId=user_id,
        writeKey="sampleWriteKey",
    )


def read_events(content: bytes) -> list[Any]:
    """Return the events of a JSON object, a JSON array, or JSON lines.

    That is, of JSON values one after the other; an array stands for its elements, which may be
    anything. NaN and infinite numbers are read, though no JSON, for the site to refuse them.

    Raises Unsendable, with the line where there is one, for what is none of these.
    """
    events: list[Any] = []
    try:
        text = content.decode("utf-8-sig")
        position = _skip_whitespace(text, 0)
        while position < len(text):
            value, end = _DECODER.raw_decode(text, position)
            if not isinstance(value, dict | list):
                line = text.count("\n", 0, position) + 1
                raise Unsendable(f"neither an object nor an array: line {line}")
            events.extend(value if isinstance(value, list) else [value])
            position = _skip_whitespace(text, end)
    except json.JSONDecodeError as error:
        raise Unsendable(f"no JSON: {error}") from None
    except UnicodeDecodeError:
        raise Unsendable("not UTF-8") from None
    except (ValueError, RecursionError):
        raise Unsendable("a number of too many digits, or nested too deeply") from None
    return events


def add_site_credentials(credentials: Credentials, url: str) -> Credentials:
    """Return `credentials` with this site's settings for what is missing.

    The key goes as a bearer token, unless the credentials or the URL have a key or a token; of a
    list of secrets the first one counts. Raises Unsendable for an unusable URL, and
    ImproperlyConfigured if a setting has a wrong value.
    """
    keys, signature_secrets = conf.WEBHOOK_SECRET.get(), conf.SIGNATURE_SECRET.get()
    if keys and credentials.key is None and credentials.bearer is None and not has_key(url):
        credentials = replace(credentials, bearer=keys[0].decode())
    if signature_secrets and credentials.signature_secret is None:
        credentials = replace(credentials, signature_secret=signature_secrets[0].decode())
    return credentials


def has_key(url: str) -> bool:
    """Tell whether the URL carries a key. Raises Unsendable for an unusable URL."""
    return any(name == "key" for name, _ in parse_qsl(_split(url).query, keep_blank_values=True))


def send(
    url: str,
    events: Iterable[Any],
    credentials: Credentials,
    *,
    batch_size: int | None = None,
    timeout: float = TIMEOUT_SECONDS,
) -> Iterator[Answer]:
    """Deliver `events` as Segment does, and yield the answers as they come.

    Each event goes by itself, as a JSON object; with a `batch_size`, at least 1, in JSON arrays of
    at most so many. Each delivery has a connection of its own. Redirects are not followed, and of
    an answer's body no more than 1 MiB is read.

    `timeout` seconds after it has begun, a delivery is given up. Only the look-up of the host's
    name, and connecting to the host, can take longer.

    Raises Unsendable; if that is for the URL or a credential, before anything is sent.
    """
    endpoint = _Endpoint(url, credentials, timeout)
    return (endpoint.deliver(body, count) for body, count in _make_bodies(events, batch_size))


class _Endpoint:
    """Where deliveries go, and what all of them have in common."""

    def __init__(self, url: str, credentials: Credentials, timeout: float):
        parts = _split(url)
        query = parts.query
        self._headers: dict[str, bytes | str] = {
            "Content-Type": "application/json",
            "User-Agent": "Segment.io/1.0",
        }
        if credentials.key is not None:
            if has_key(url):
                raise Unsendable("The URL has a key already.")
            pair = f"key={quote(_encode('key', credentials.key), safe='')}"
            query = f"{query}&{pair}" if query else pair
        if credentials.bearer is not None:
            token = _encode("bearer token", credentials.bearer)
            if any(byte < 0x20 or byte == 0x7F for byte in token):
                raise Unsendable(
                    "The bearer token (by default the site's key) holds a control character, which "
                    "no header can carry."
                )
            self._headers["Authorization"] = b"Bearer " + token
        if credentials.signature_secret is not None:
            _encode("signature secret", credentials.signature_secret)
        self._signature_secret = credentials.signature_secret
        self._url = url
        self._host = parts.hostname or ""
        # Made once for all deliveries: it reads every certificate that the system trusts.
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        default_port = http.client.HTTPS_PORT if self._tls else http.client.HTTP_PORT
        self._port = default_port if parts.port is None else parts.port
        path = parts.path or "/"
        self._target = iri_to_uri(f"{path}?{query}" if query else path)
        self._timeout = timeout

    def deliver(self, body: bytes, events: int) -> Answer:
        """Make one request, and say what came of it."""
        headers = dict(self._headers)
        if self._signature_secret is not None:
            headers["X-Signature"] = sign(body, self._signature_secret)
        started = time.perf_counter()
        status = None
        try:
            status, location = self._post(body, headers, started + self._timeout)
            description = self._describe(status, location)
        except (OSError, UnicodeError, http.client.HTTPException) as error:
            description = self._explain(error)
        return Answer(events, time.perf_counter() - started, status, description)

    def _post(
        self, body: bytes, headers: dict[str, bytes | str], deadline: float
    ) -> tuple[int, str | None]:
        with closing(self._make_connection()) as connection:
            connection.connect()
            # Kept, since an answer that ends the connection takes it away.
            wire: socket.socket = connection.sock
            with _cut_at(deadline, wire):
                # A server need not read a delivery that it refuses; what it answered is there.
                with suppress(BrokenPipeError, ConnectionResetError, ssl.SSLEOFError):
                    connection.request("POST", self._target, body, headers)
                with connection.getresponse() as response:
                    response.read(_MAX_BYTES_READ)
                    return response.status, response.getheader("Location")

    def _make_connection(self) -> http.client.HTTPConnection:
        if self._tls is None:
            return http.client.HTTPConnection(self._host, self._port, timeout=self._timeout)
        return http.client.HTTPSConnection(
            self._host, self._port, timeout=self._timeout, context=self._tls
        )

    def _describe(self, status: int, location: str | None) -> str:
        # The server's own words could hold anything.
        phrase = http.client.responses.get(status, "Unknown status")
        if not 300 <= status < 400:
            return phrase
        place = _find_place(self._url, location) or "an unknown place"
        return f"{phrase}, a redirect to {place}, by which a POST can become a GET without events"

    def _explain(self, error: OSError | UnicodeError | http.client.HTTPException) -> str:
        match error:
            case TimeoutError():
                return f"No answer within {self._timeout:g} s"
            case socket.gaierror() | UnicodeError():
                return f"The host name {printable(self._host)} cannot be resolved"
            case ConnectionRefusedError():
                return f"Nothing listens at {printable(self._host)}, port {self._port}"
            case ssl.SSLCertVerificationError():
                return f"The certificate is not to be trusted ({error.verify_message})"
            case ssl.SSLError():
                return f"TLS failed ({error.reason or type(error).__name__})"
            case ConnectionError():
                return "The connection was closed without an answer"
            case OSError(errno=int(number)):
                return os.strerror(number)
            case _:
                return "The answer is no HTTP, or not all of it"


def _make_bodies(events: Iterable[Any], batch_size: int | None) -> Iterator[tuple[bytes, int]]:
    if batch_size is None:
        for event in events:
            yield _encode_json(event), 1
        return
    remaining = iter(events)
    while batch := list(islice(remaining, batch_size)):
        yield _encode_json(batch), len(batch)


def _encode_json(value: Any) -> bytes:
    try:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    except RecursionError:
        raise Unsendable("An event is nested too deeply.") from None
    # A lone surrogate, which UTF-8 has no bytes for, is escaped in JSON as it is in Python.
    return text.encode(errors="backslashreplace")


def _encode(name: str, value: str) -> bytes:
    try:
        encoded = value.encode()
    except UnicodeEncodeError:
        raise Unsendable(f"The {name} is not UTF-8.") from None
    if not encoded:
        raise Unsendable(f"The {name} is empty.")
    return encoded


def _split(url: str) -> SplitResult:
    _encode("URL", url)
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        raise Unsendable("The URL is malformed.") from None
    if parts.scheme not in ("https", "http") or not host:
        raise Unsendable("The URL must begin with https:// or http://, and name a host.")
    if not host.isprintable() or " " in host:
        raise Unsendable("The URL is malformed.")
    if parts.username is not None:
        raise Unsendable("The URL must not hold a user name or a password.")
    return parts


def _find_place(url: str, location: str | None) -> str | None:
    """Return where `url` redirects to, in quotes, without what is likely to hold a secret."""
    if not location:
        return None
    try:
        parts = urlsplit(urljoin(url, location))
    except ValueError:
        return None
    _, _, server = parts.netloc.rpartition("@")
    return printable(f"{parts.scheme}://{server}{parts.path}")


@contextmanager
def _cut_at(deadline: float, wire: socket.socket) -> Iterator[None]:
    """End the connection at the deadline, and raise TimeoutError.

    The time limit of a socket would not do: it begins anew with each byte that comes.
    """
    is_late = threading.Event()

    def cut() -> None:
        is_late.set()
        with suppress(OSError):
            # That of a TLS connection would say goodbye first.
            socket.socket.shutdown(wire, socket.SHUT_RDWR)

    timer = threading.Timer(deadline - time.perf_counter(), cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    except (OSError, http.client.HTTPException):
        if not is_late.is_set():
            raise
    finally:
        timer.cancel()
    if is_late.is_set():
        raise TimeoutError


def _moment(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _skip_whitespace(text: str, position: int) -> int:
    while position < len(text) and text[position] in " \t\n\r":
        position += 1
    return position


#: How much of an answer's body is read; Segment takes no notice of it.
_MAX_BYTES_READ = 1024 * 1024

_DECODER = json.JSONDecoder()
