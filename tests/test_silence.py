"""Silence: no secret and no personal data in a log, a monitoring attribute or an answer.

The one exception stands in the contract: a log may name an event by its messageId, and an invalid
course id; a monitoring attribute holds the name of a single event, and what it has in place of the
objects data and context.
"""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any, ClassVar, NoReturn
from urllib.parse import quote

import pytest
from django.contrib.auth.models import User
from django.core.handlers.wsgi import WSGIRequest
from django.core.mail import EmailMessage
from django.db import OperationalError, connection
from django.http import HttpResponse
from django.test import Client
from django.utils.log import AdminEmailHandler
from edx_django_utils.monitoring import TelemetryBackend
from eventtracking import tracker as tracking
from eventtracking.tracker import Tracker
from pytest_django import Settings

from segmentio_bridge.outcomes import Outcome, Reason, Status
from segmentio_bridge.testing import sign
from segmentio_bridge.views import segmentio_event
from tests.factories import make_event, without

PATH = "/segmentio/event"

# What nobody must ever read, each with the word by which it is recognised.
KEY = "the k3y that only Segment knows"
SIGNATURE_SECRET = "the s1gning secret that only Segment knows"
GUESS = "a str4nger's guess"
PERSONAL = "p3rsonal"
FORBIDDEN = ("k3y", "s1gning", "str4nger", PERSONAL)

# What may stand in the monitoring attributes for it, and nowhere else.
NAME = "n4me"
VALUE = "v4lue"
ALLOWED = {
    "segment_event_name": NAME,
    "segment_unexpected_data": VALUE,
    "segment_unexpected_context": VALUE,
}

# What gets into a log as it is can write lines of that log.
FORGERY = "\r\nf0rged ERROR segmentio_bridge.views All secrets are out.\x1b[31m"


def make_private(value: Any) -> Any:
    """Return a copy of objects that has personal data and a forged line in every string."""
    if isinstance(value, dict):
        return {key: make_private(item) for key, item in value.items()}
    return f"{value} {PERSONAL}{FORGERY}" if isinstance(value, str) else value


def make_private_event(**overrides: Any) -> dict[str, Any]:
    """Return an event that is emitted, and private in all that does not decide about that.

    The messageId and the name are not private, and are forgeries.
    """
    public = make_event()
    event: dict[str, Any] = {
        **make_private(public),
        **{key: public[key] for key in ("type", "userId", "timestamp", "receivedAt")},
        "messageId": f"a message{FORGERY}",
        PERSONAL: FORGERY,
    }
    event["context"]["library"]["name"] = public["context"]["library"]["name"]
    event["properties"]["name"] = f"{NAME}{FORGERY}"
    event["properties"]["context"]["course_id"] = "course-v1:X+Y+Z"
    return {**event, **overrides}


def make_private_properties(**overrides: Any) -> dict[str, Any]:
    """Return the properties of `make_private_event()`; `overrides` replace their fields."""
    return {**make_private_event()["properties"], **overrides}


class Telemetry(TelemetryBackend):
    """A monitoring agent."""

    attributes: ClassVar[list[tuple[str, object]]] = []

    def set_attribute(self, key: str, value: object) -> None:
        self.attributes.append((key, value))

    # The bridge uses none of these.
    record_exception = None
    create_span = None
    tag_root_span_with_error = None
    set_local_root_span_name = None


class Witness(logging.Handler):
    """Looks at every log record, monitoring attribute and answer."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
        self.findings: list[str] = []
        self.logged: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record)
        self.logged.append(text)
        self.look_at(text, *FORBIDDEN, NAME, VALUE, "\nf0rged", "\rf0rged", "\x1b")
        if record.name.startswith("segmentio_bridge"):
            # Some handlers send more of a record than its text.
            self.look_at(repr(record.__dict__), *FORBIDDEN, NAME, VALUE)

    def look_at_answer(self, answer: HttpResponse) -> None:
        text = f"{answer.serialize()!r} {answer.reason_phrase} {answer.cookies}"
        self.look_at(text, *FORBIDDEN, NAME, VALUE, "f0rged", "message")

    def look_at_attributes(self) -> None:
        for key, value in Telemetry.attributes:
            text = str(value)
            self.look_at(text, *FORBIDDEN, "\n", "\r", "\x1b")
            self.look_at(text, *({NAME, VALUE} - {ALLOWED.get(key)}))
            if len(text) > 200:
                self.findings.append(text)

    def look_at(self, text: str, *words: str | None) -> None:
        self.findings += [text for word in words if word and word in text]


@pytest.fixture
def witness(settings: Settings) -> Iterator[Witness]:
    """Somebody who must not have seen anything at the end of the test."""
    settings.TRACKING_SEGMENTIO_WEBHOOK_SECRET = KEY
    settings.TRACKING_SEGMENTIO_SIGNATURE_SECRET = SIGNATURE_SECRET
    settings.OPENEDX_TELEMETRY = [f"{__name__}.{Telemetry.__qualname__}"]
    Telemetry.attributes.clear()
    witness = Witness()
    package = logging.getLogger("segmentio_bridge")
    level = package.level
    package.setLevel(logging.DEBUG)
    logging.getLogger().addHandler(witness)
    yield witness
    logging.getLogger().removeHandler(witness)
    package.setLevel(level)
    witness.look_at_attributes()
    assert witness.findings == []


def deliver(witness: Witness, content: object, **environ: Any) -> int:
    """Post bytes, or an event or a batch as JSON, with all credentials; return the status."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    answer = Client(raise_request_exception=True).generic(
        "POST",
        PATH,
        body,
        "application/json",
        **{
            "QUERY_STRING": f"key={quote(KEY)}",
            "HTTP_AUTHORIZATION": f"Bearer {KEY}",
            "HTTP_X_SIGNATURE": sign(body, SIGNATURE_SECRET),
            "HTTP_USER_AGENT": PERSONAL,
            "HTTP_COOKIE": f"sessionid={PERSONAL}",
            **environ,
        },
    )
    assert isinstance(answer, HttpResponse)
    witness.look_at_answer(answer)
    return answer.status_code


@pytest.fixture
def private_learner(db: None) -> User:
    """The user with the primary key 1, about whom nothing else may be told."""
    return User.objects.create(pk=1, username=PERSONAL, email=f"{PERSONAL}@example.org")


def test_the_witness_sees(witness: Witness) -> None:
    logging.getLogger("segmentio_bridge.views").info("Hello %s", FORGERY)
    logging.getLogger("django.request").info("Hello %s", PERSONAL)
    logging.getLogger("segmentio_bridge").info("Hello", extra={"data": VALUE})
    Telemetry.attributes.append(("segment_event_name", PERSONAL * 100))
    Telemetry.attributes.append(("segment_event_source", NAME))
    witness.look_at_attributes()
    witness.look_at_answer(HttpResponse(headers={"X-Name": NAME}))
    assert len(witness.findings) == 8
    witness.findings.clear()
    Telemetry.attributes.clear()


# What is taken ------------------------------------------------------------------------------------


def test_emitted(
    witness: Witness, private_learner: User, tracking_log: list[dict[str, Any]]
) -> None:
    assert deliver(witness, make_private_event()) == 200
    assert deliver(witness, [make_private_event(), make_private_event()]) == 200
    assert len(tracking_log) == 3
    assert PERSONAL in json.dumps(tracking_log)
    assert witness.logged == []
    assert dict(Telemetry.attributes)["segment_event_name"].startswith(NAME)  # type: ignore[attr-defined]  # object, to mypy


def test_invalid_course_id(witness: Witness, private_learner: User) -> None:
    context = make_private_properties()["context"]
    for course_id in (f"no course{FORGERY}", [FORGERY], {FORGERY: 1}):
        properties = make_private_properties(context={**context, "course_id": course_id})
        witness.logged.clear()
        assert deliver(witness, make_private_event(properties=properties)) == 200
        (line,) = witness.logged
        assert "Invalid course id" in line
        assert "a message" in line


# For each reason not to emit an event, an event that there is that reason for.
REFUSED: dict[Reason, Any] = {
    Reason.NOT_AN_OBJECT: [f"{PERSONAL}{FORGERY}"],
    Reason.UNKNOWN_SOURCE: make_private_event(context=make_private(make_event()["context"])),
    Reason.UNSUPPORTED_TYPE: make_private_event(type=f"{PERSONAL}{FORGERY}"),
    Reason.TOO_DEEP: make_private_event(extra=json.loads("[" * 100 + "]" * 100)),
    Reason.INVALID_PROPERTIES: make_private_event(properties=f"{PERSONAL}{FORGERY}"),
    Reason.MISSING_NAME: make_private_event(properties=make_private_properties(name="")),
    Reason.INVALID_NAME: make_private_event(properties=make_private_properties(name=[PERSONAL])),
    Reason.DISALLOWED_NAME: make_private_event(
        properties=make_private_properties(name=f"{NAME} disallowed{FORGERY}")
    ),
    Reason.MISSING_DATA: make_private_event(properties=without(make_private_properties(), "data")),
    Reason.INVALID_DATA: make_private_event(
        properties=make_private_properties(data=[VALUE, FORGERY, "x" * 1_000])
    ),
    Reason.INVALID_CONTEXT: make_private_event(
        properties=make_private_properties(context=f"{VALUE}{FORGERY}{'x' * 1_000}")
    ),
    Reason.MISSING_USER_ID: make_private_event(userId=None),
    Reason.INVALID_USER_ID: make_private_event(userId=f"{PERSONAL}{FORGERY}"),
    Reason.USER_NOT_FOUND: make_private_event(userId="404"),
    Reason.MISSING_TIMESTAMP: without(make_private_event(), "timestamp"),
    Reason.INVALID_TIMESTAMP: make_private_event(timestamp=f"{PERSONAL}{FORGERY}"),
    Reason.MISSING_RECEIVED_AT: without(make_private_event(), "receivedAt"),
    Reason.INVALID_RECEIVED_AT: make_private_event(receivedAt=f"{PERSONAL}{FORGERY}"),
}


def test_there_is_an_event_for_every_reason() -> None:
    decided = {Status.IGNORED, Status.REJECTED}
    of_events = set(Reason) - {Reason.MALFORMED_BODY}
    assert set(REFUSED) == {reason for reason in of_events if reason.status in decided}


@pytest.mark.parametrize("reason", REFUSED)
def test_not_emitted(
    witness: Witness,
    private_learner: User,
    outcomes: list[Outcome],
    settings: Settings,
    reason: Reason,
) -> None:
    settings.TRACKING_SEGMENTIO_DISALLOWED_SUBSTRING_NAMES = ["disallowed"]
    raw = REFUSED[reason]
    assert deliver(witness, [raw, raw]) == 200
    assert deliver(witness, raw if isinstance(raw, dict) else [raw]) == 200
    assert [outcome.reason for outcome in outcomes] == [reason] * 3
    assert len(witness.logged) == (3 if reason.status is Status.REJECTED else 0)


# What fails ---------------------------------------------------------------------------------------


class Quoter:
    """Raises errors that quote whatever they are given."""

    def __call__(self, *args: object, **kwargs: object) -> NoReturn:
        cause = ValueError(f"{args!r} {kwargs!r} {args} {FORGERY}")
        raise RuntimeError(f"cannot take {args!r} {FORGERY}") from cause

    get = __call__


def test_failed_emission(
    witness: Witness,
    private_learner: User,
    outcomes: list[Outcome],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tracker = Tracker()
    monkeypatch.setattr(tracker, "emit", Quoter())
    monkeypatch.setitem(tracking.TRACKERS, tracking.DEFAULT_TRACKER_NAME, tracker)
    assert deliver(witness, make_private_event()) == 503
    assert deliver(witness, [make_private_event(), make_private_event()]) == 503
    assert [outcome.reason for outcome in outcomes] == [Reason.EMISSION_FAILED] * 3
    assert len([line for line in witness.logged if "RuntimeError" in line]) == 3


def test_no_tracker(
    witness: Witness, private_learner: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(tracking.TRACKERS, tracking.DEFAULT_TRACKER_NAME)
    assert deliver(witness, make_private_event()) == 503
    assert len([line for line in witness.logged if "segmentio_bridge" in line]) == 1


@pytest.mark.skipif(
    not connection.features.can_rollback_ddl, reason="the table would stay away for good"
)
def test_missing_table(witness: Witness, private_learner: User) -> None:
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE auth_user RENAME TO auth_somebody")
    assert deliver(witness, make_private_event()) == 503
    assert "Error" in "".join(witness.logged)


def test_database_that_quotes_the_query(witness: Witness, private_learner: User) -> None:
    # As PostgreSQL does: LINE 1: SELECT ... WHERE "auth_user"."id" IN (1).
    def refuse(execute: object, sql: str, params: Any, *args: object) -> NoReturn:
        raise OperationalError(f"LINE 1: {sql} {params} {PERSONAL}{FORGERY}")

    with connection.execute_wrapper(refuse):
        assert deliver(witness, make_private_event()) == 503
    assert "OperationalError" in "".join(witness.logged)


def test_failing_monitoring(
    witness: Witness, private_learner: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Telemetry, "set_attribute", Quoter())
    for raw in (make_private_event(), REFUSED[Reason.INVALID_DATA]):
        assert deliver(witness, raw) == 200
    assert "RuntimeError" in "".join(witness.logged)


def test_body_that_breaks_off(witness: Witness) -> None:
    for error in (OSError(PERSONAL, FORGERY), RuntimeError(f"{PERSONAL}{FORGERY}")):
        request = WSGIRequest(
            {
                "REQUEST_METHOD": "POST",
                "PATH_INFO": PATH,
                "QUERY_STRING": f"key={quote(KEY)}",
                "CONTENT_TYPE": "application/json",
                "CONTENT_LENGTH": "10",
                "wsgi.input": Stream(error),
            }
        )
        answer = segmentio_event(request)
        witness.look_at_answer(answer)
        assert answer.status_code == 503


class Stream(io.BytesIO):
    """A body that cannot be read."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    def read(self, size: int | None = -1, /) -> bytes:
        raise self._error


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TRACKING_SEGMENTIO_WEBHOOK_SECRET", [KEY.encode()]),
        ("TRACKING_SEGMENTIO_WEBHOOK_SECRET", f"{KEY}\ud800"),
        ("TRACKING_SEGMENTIO_SIGNATURE_SECRET", {SIGNATURE_SECRET: FORGERY}),
        ("TRACKING_SEGMENTIO_SOURCE_MAP", KEY),
    ],
)
def test_wrong_setting(witness: Witness, settings: Settings, name: str, value: object) -> None:
    setattr(settings, name, value)
    assert deliver(witness, make_private_event()) == 503
    assert name in "".join(witness.logged)


# What is refused ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "environ"),
    [
        (401, {"QUERY_STRING": f"key={quote(GUESS)}", "HTTP_AUTHORIZATION": ""}),
        (401, {"QUERY_STRING": quote(FORGERY), "HTTP_AUTHORIZATION": f"Bearer {GUESS}{FORGERY}"}),
        (401, {"QUERY_STRING": f"key={KEY[:-1]}", "HTTP_AUTHORIZATION": f"Token {KEY}"}),
        (401, {"QUERY_STRING": "", "HTTP_AUTHORIZATION": "", "REMOTE_ADDR": f"127.0.0.1{FORGERY}"}),
        (401, {"HTTP_X_SIGNATURE": f"{SIGNATURE_SECRET}{FORGERY}"}),
        (401, {"HTTP_X_SIGNATURE": GUESS}),
        (405, {"REQUEST_METHOD": "PUT"}),
        (413, {"CONTENT_LENGTH": "99999999999"}),
        (415, {"CONTENT_TYPE": f"text/plain; charset={PERSONAL}{FORGERY}"}),
        (415, {"HTTP_CONTENT_ENCODING": f"{PERSONAL}{FORGERY}"}),
        (503, {"HTTP_TRANSFER_ENCODING": f"{PERSONAL}{FORGERY}"}),
    ],
)
def test_refused_delivery(witness: Witness, status: int, environ: dict[str, str]) -> None:
    assert deliver(witness, make_private_event(), **environ) == status
    assert witness.logged  # by Django, if not by the bridge


@pytest.mark.parametrize(
    "body",
    [
        json.dumps(make_private_event()).encode()[:-1],
        json.dumps([make_private_event(), make_private_event()]).encode()[:-1],
        json.dumps(f"{PERSONAL}{FORGERY}").encode(),
        f"{PERSONAL}{FORGERY}\0".encode(),
        PERSONAL.encode("utf-16"),
        f'{{"{PERSONAL}": NaN}}'.encode(),
        f'[{{"{PERSONAL}": 1e999}}]'.encode(),
    ],
)
def test_malformed_body(witness: Witness, body: bytes) -> None:
    assert deliver(witness, body) == 400


def test_mail_to_the_admins(
    witness: Witness, settings: Settings, mailoutbox: list[EmailMessage]
) -> None:
    # What Django's default LOGGING does where ADMINS is set.
    settings.ADMINS = [("Admin", "admin@example.org")]
    settings.TRACKING_SEGMENTIO_SOURCE_MAP = None
    handler = AdminEmailHandler()
    logger = logging.getLogger("django.request")
    logger.addHandler(handler)
    try:
        assert deliver(witness, make_private_event()) == 503
    finally:
        logger.removeHandler(handler)
    assert not [mail for mail in mailoutbox if KEY in mail.body]
