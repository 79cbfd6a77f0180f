"""From a delivery to rows."""

from __future__ import annotations

import itertools
import json
import logging
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.http import HttpRequest, HttpResponse
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import path
from pytest_django import Settings

import segmentio_bridge
from segmentio_bridge.emission import emit
from segmentio_bridge.outcomes import Outcome, Reason, Status
from segmentio_bridge.quarantine import intake
from segmentio_bridge.quarantine.models import QuarantinedEvent
from segmentio_bridge.segmentio import EventValidationError, track_segmentio_event
from tests.accounts.models import TextUser, UUIDUser
from tests.factories import make_event, make_event_of_website, make_properties, without
from tests.hostile import FIELDS, MALFORMED, VALUES, as_batch, render
from tests.quarantine.site import broken, deliver, post, quarantine, rows

pytestmark = pytest.mark.django_db

TABLE = QuarantinedEvent._meta.db_table

Log = list[logging.LogRecord]


def is_insert(sql: str) -> bool:
    return sql.startswith("INSERT") and TABLE in sql


def count_inserts(queries: CaptureQueriesContext) -> int:
    return sum(is_insert(query["sql"]) for query in queries)


def test_a_rejected_event_is_kept_as_it_came(learner: User) -> None:
    event = make_event(messageId="m-1", userId="404", event="é€😀 \0 \ud800")
    body = b' {"x" : 1.0,' + json.dumps(event, ensure_ascii=True, indent=1).encode()[1:] + b"\r\n"
    assert post(body) == 200
    (row,) = rows()
    assert row.raw == body.strip()
    assert row.payload == body.decode().strip()
    assert (row.message_id, row.user_id, row.event_name) == ("m-1", "404", "edx.video.loaded")
    assert (row.reason, row.detail) == ("user_not_found", 'userId: "404"')
    assert (row.status, row.attempts, row.last_attempt_at) == ("pending", 0, None)
    assert str(row) == "user_not_found: edx.video.loaded"


@pytest.mark.parametrize(
    "text", ["é€😀", "😀" * 8_000, "\\u0000", "\\ud83d\\ude00 \\udc00", "%41%"]
)
def test_any_text_survives(learner: User, text: str) -> None:
    raw = render(("event",), f'"{text}"').replace('"userId": "1"', '"userId": "404"').encode()
    assert post(b"[" + raw + b"," + raw + b"]") == 200
    assert [row.raw for row in rows()] == [raw, raw]


def test_neither_what_is_recorded_nor_what_is_ignored_is_kept(learner: User) -> None:
    assert deliver(make_event(), make_event_of_website(), make_event(type="identify")) == 200
    assert rows() == []


def test_nothing_of_a_stranger_is_kept(learner: User, settings: Settings) -> None:
    settings.TRACKING_SEGMENTIO_WEBHOOK_SECRET = "another"
    assert post(b"no JSON") == 401
    assert deliver(make_event(userId="404")) == 401
    assert rows() == []


def test_a_failed_event_is_kept_instead_of_sent_again(
    learner: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("segmentio_bridge.pipeline.find_tracker", lambda: None)
    event = make_event()
    assert deliver(event) == 200
    (row,) = rows()
    assert (row.reason, row.detail) == ("tracker_disabled", "")
    assert json.loads(row.payload) == event


@pytest.mark.parametrize(
    ("event", "reason", "detail"),
    [
        (without(make_event(), "userId"), "missing_user_id", ""),
        (make_event(userId="1_0"), "invalid_user_id", 'userId: "1_0"'),
        (make_event(userId=[1]), "invalid_user_id", "userId: [1]"),
        (make_event(timestamp="soon"), "invalid_timestamp", 'timestamp: "soon"'),
        (make_event(properties=[]), "invalid_properties", "properties: []"),
        (
            make_event(properties=make_properties(name={"a": "\u202e"})),
            "invalid_name",
            'properties.name: {"a": "\ufffd"}',
        ),
        (
            make_event(properties=make_properties(data="x" * 500)),
            "invalid_data",
            f'properties.data: "{"x" * 99}…',
        ),
        ("not an object", "not_an_object", '"not an object"'),
        ([["nor"], "this"], "not_an_object", '[["nor"], "this"]'),
        (None, "not_an_object", "null"),
    ],
)
def test_the_detail_shows_what_is_at_fault(event: object, reason: str, detail: str) -> None:
    (row,) = quarantine(event)
    assert (row.reason, row.detail) == (reason, detail)


def test_an_event_without_a_name_is_known_by_its_message_id_or_not_at_all() -> None:
    named, unnamed = quarantine(make_event(messageId="m-1", properties=None), [])
    assert str(named) == "missing_name: m-1"
    assert str(unnamed) == "not_an_object: unnamed"


@pytest.mark.parametrize(
    ("user_id", "known_by"),
    [
        ("404", "404"),
        (404, "404"),
        ("0404", "404"),
        (404.5, "404.5"),
        ("somebody@example.org", "somebody@example.org"),
        ("\0😀\ud800", "\ufffd😀\ufffd"),
        ("9" * 1_000, "9" * 150),
        (True, ""),
        (None, ""),
        ({"id": 404}, ""),
    ],
)
def test_a_user_id_has_one_form(user_id: object, known_by: str) -> None:
    (row,) = quarantine(make_event(userId=user_id, timestamp=None))
    assert row.user_id == known_by


def test_a_user_id_has_one_form_with_other_user_models(settings: Settings) -> None:
    settings.AUTH_USER_MODEL = UUIDUser._meta.label
    known_by = intake.identify_user("12345678123456781234567812345678")
    assert known_by == "12345678-1234-5678-1234-567812345678"
    assert intake.identify_user("no UUID") == "no UUID"
    settings.AUTH_USER_MODEL = TextUser._meta.label
    assert intake.identify_user("ada") == "ada"


def test_ids_and_names_of_any_length_and_content(learner: User) -> None:
    long = "a\0\ud800😀" * 1_000
    properties = make_properties(name=long, data=None)
    (row,) = quarantine(make_event(messageId=long, userId=long, properties=properties))
    beginning = "a\ufffd\ufffd😀"
    assert row.message_id.startswith(beginning)
    assert row.user_id.startswith(beginning)
    assert row.event_name.startswith(beginning)
    assert json.loads(row.payload)["messageId"] == long


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_body_is_kept(body: bytes) -> None:
    assert post(body) == 400
    (row,) = rows()
    assert (row.reason, row.message_id, row.user_id) == ("malformed_body", "", "")
    assert row.raw == body[: 64 * 1024]


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b'{"a": "\xff"}', "Not UTF-8 from byte 7 on."),
        (b'{"a" 1}', "Expecting ':' delimiter: character 5."),
        (b'{"a": "\n"}', "Invalid control character at: character 7."),
        (b"[" * 60_000, ""),
        (b"[" + b"9" * 5_000 + b"]", ""),
        (b"17", ""),
        (b'{"a": "' + b"x" * 70_000, "The first 65,536 of 70,007 bytes are kept."),
    ],
    ids=str,
)
def test_the_detail_shows_where_a_body_is_no_json(body: bytes, detail: str) -> None:
    assert post(body) == 400
    (row,) = rows()
    assert row.detail == detail


def test_a_malformed_body_is_cut_within_a_character() -> None:
    body = b'"' + "😀".encode() * 20_000
    assert post(body) == 400
    (row,) = rows()
    assert row.raw == body[: 64 * 1024]


def test_one_insert_for_a_delivery(learner: User) -> None:
    events = [make_event(userId="404") for _ in range(1_000)]
    with CaptureQueriesContext(connection) as queries:
        assert deliver(*events) == 200
    # As few as the database takes: SQLite, as Django uses it, has a limit of parameters.
    columns = len(QuarantinedEvent._meta.concrete_fields) - 1
    limit = connection.features.max_query_params
    rows_at_once = limit // columns if limit else 1_000
    assert count_inserts(queries) == -(-1_000 // rows_at_once)
    assert count_inserts(queries) == 1 or connection.vendor == "sqlite"
    assert [json.loads(row.payload) for row in rows()] == events
    assert len({row.created_at for row in rows()}) == 1


def test_more_than_one_statement_takes_is_kept_wholly_or_not_at_all(
    learner: User, monkeypatch: pytest.MonkeyPatch, app_log: Log
) -> None:
    monkeypatch.setattr(intake, "_MAX_ROWS_AT_ONCE", 3)
    monkeypatch.setattr(intake, "_MAX_CHARACTERS_AT_ONCE", 10_000)
    small, large = make_event(userId="404"), make_event(userId="404", event="😀" * 3_000)
    events = [small, large, small, small, small, small]
    body = json.dumps(events, ensure_ascii=False).encode()
    with CaptureQueriesContext(connection) as queries:
        assert post(body) == 200
    assert count_inserts(queries) == 4
    assert [json.loads(row.payload) for row in rows()] == events

    statements = iter((False, False, True))
    with broken(lambda sql: is_insert(sql) and next(statements)):
        assert post(body) == 200
    assert len(rows()) == len(events)


@pytest.mark.parametrize("emitted", [0, 1])
def test_what_cannot_be_written_is_logged_and_the_retry_rule_decides(
    learner: User, app_log: Log, monkeypatch: pytest.MonkeyPatch, emitted: int
) -> None:
    working = iter([True] * emitted)

    def emit_or_fail(*event: Any) -> None:
        if not next(working, False):
            raise RuntimeError("disk full")
        emit(*event)

    monkeypatch.setattr("segmentio_bridge.pipeline.emit", emit_or_fail)
    with broken(is_insert):
        status = deliver(*[make_event(event="personal") for _ in range(emitted + 1)])
    assert status == (200 if emitted else 503)
    assert rows() == []
    (record,) = [
        record for record in app_log if record.name == "segmentio_bridge.quarantine.intake"
    ]
    assert record.levelname == "ERROR"
    assert record.getMessage() == "1 events could not be quarantined."
    assert record.exc_info
    text = logging.Formatter().format(record)
    assert "OperationalError" in text
    assert "personal" not in text


def test_a_failure_to_write_leaves_the_transaction_of_the_site_alone(learner: User) -> None:
    with transaction.atomic():
        with broken(is_insert):
            assert deliver(make_event(userId="404")) == 200
        User.objects.create(pk=2, username="grace")
        assert deliver(make_event(userId="404")) == 200
    assert User.objects.count() == 2
    assert len(rows()) == 1


@pytest.mark.django_db(transaction=True)
def test_outside_of_a_transaction() -> None:
    (row,) = quarantine(make_event(userId="404"))
    with broken(is_insert):
        assert deliver(make_event(userId="404")) == 200
    assert rows() == [row]


def let_fail(request: HttpRequest) -> HttpResponse:
    """Record an event as a view of the site's own does that knows no better."""
    track_segmentio_event(request)
    return HttpResponse()


def answer(request: HttpRequest) -> HttpResponse:
    """Record an event as the platform's view does: what is wrong with it is not the sender's."""
    with suppress(EventValidationError):
        track_segmentio_event(request)
    return HttpResponse()


urlpatterns = [path("let-fail", let_fail), path("answer", answer)]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("view", "user_id", "status", "copies"),
    [("let-fail", "404", 500, 0), ("let-fail", "1", 200, 0), ("answer", "404", 200, 1)],
)
def test_in_a_transaction_of_the_site_s_own_view_a_copy_stays_if_the_event_is_not_to_come_again(
    view: str,
    user_id: str,
    status: int,
    copies: int,
    learner: User,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings.ROOT_URLCONF = __name__
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    response = Client(raise_request_exception=False).post(
        f"/{view}", json.dumps(make_event(userId=user_id)), "application/json"
    )
    assert response.status_code == status
    assert len(rows()) == copies


def test_a_wrong_setting_is_named(settings: Settings, app_log: Log) -> None:
    settings.TRACKING_SEGMENTIO_QUARANTINE_MAX_ROWS = 0
    assert deliver("no event") == 200
    assert rows() == []
    assert "TRACKING_SEGMENTIO_QUARANTINE_MAX_ROWS" in app_log[0].getMessage()
    assert app_log[0].levelname == "ERROR"


class Router:
    """Has the quarantine in a database of its own."""

    def db_for_write(self, model: type, **hints: object) -> str | None:
        return "elsewhere" if model is QuarantinedEvent else None


def test_the_router_decides_where(settings: Settings, app_log: Log) -> None:
    settings.DATABASE_ROUTERS = [f"{__name__}.Router"]
    assert deliver("no event") == 200
    assert "could not be quarantined" in app_log[0].getMessage()
    settings.DATABASE_ROUTERS = []
    assert rows() == []


def test_whatever_comes_over_the_wire_is_kept(learner: User, outcomes: list[Outcome]) -> None:
    fields = itertools.cycle(FIELDS)
    events = [render(next(fields), text) for text in VALUES.values()]
    texts = [*VALUES.values(), *events]
    assert post(as_batch(texts)) == 200
    assert [(row.payload, row.reason) for row in rows()] == [
        (text, outcome.reason)
        for text, outcome in zip(texts, outcomes, strict=True)
        if outcome.status is Status.REJECTED
    ]


def test_an_event_as_deep_as_can_be_parsed() -> None:
    deep = b"[" * 700 + b"]" * 700
    assert post(b"[" + deep + b"]") == 200
    (row,) = rows()
    assert (row.reason, row.raw) == ("not_an_object", deep)


def test_the_bridge_knows_nothing_of_the_quarantine() -> None:
    package = Path(segmentio_bridge.__file__).parent
    for module in package.rglob("*.py"):
        if "quarantine" not in module.relative_to(package).parts:
            assert "quarantine import" not in module.read_text()
            assert "from .quarantine" not in module.read_text()
    assert apps.get_app_config("segmentio_bridge_quarantine").verbose_name


def test_every_reason_fits() -> None:
    length = QuarantinedEvent._meta.get_field("reason").max_length
    assert max(len(reason) for reason in Reason) <= (length or 0)
