"""Out of the quarantine."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ImproperlyConfigured
from django.db import connection, connections
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from eventtracking.tracker import get_tracker
from pytest_django import Settings

from segmentio_bridge.outcomes import Outcome
from segmentio_bridge.quarantine import release as release_module
from segmentio_bridge.quarantine.models import QuarantinedEvent
from segmentio_bridge.quarantine.release import Released, discard, release
from segmentio_bridge.signals import events_processed
from tests.factories import make_event, make_properties, without
from tests.quarantine.site import broken, deliver, post, quarantine, rows, statuses

pytestmark = pytest.mark.django_db

Log = list[logging.LogRecord]
Events = list[dict[str, Any]]

ALL = QuarantinedEvent.objects.all


def became(recorded: dict[str, int], pending: dict[str, int], **others: Any) -> Released:
    """Return what `release` says of events that became this."""
    return Released(Counter(recorded), Counter(pending), **others)


def is_update(sql: str) -> bool:
    return sql.startswith("UPDATE")


def is_user_query(sql: str) -> bool:
    return User._meta.db_table in sql


@pytest.fixture
def grace() -> User:
    """The user with the primary key 2, who is there only now."""
    return User.objects.create(pk=2, username="grace")


@pytest.fixture
def waiting(learner: User) -> list[QuarantinedEvent]:
    """Three events of a user who is not there yet."""
    return quarantine(*(make_event(userId="2", event=name) for name in "abc"))


def test_what_can_be_recorded_now_is_emitted_as_it_would_have_been(
    waiting: list[QuarantinedEvent], grace: User, tracking_log: Events
) -> None:
    before = timezone.now()
    assert release(ALL()) == became({"emitted": 3}, {})
    released = tracking_log.copy()
    for row in rows():
        assert (row.status, row.attempts, row.reason) == ("released", 1, "user_not_found")
        assert row.last_attempt_at
        assert row.last_attempt_at >= before

    tracking_log.clear()
    assert post(b"[" + b",".join(row.raw for row in waiting) + b"]") == 200
    for event in (*released, *tracking_log):
        del event["timestamp"]
    assert released == tracking_log


def test_what_cannot_stays_pending_with_the_new_reason(
    waiting: list[QuarantinedEvent], grace: User, settings: Settings, tracking_log: Events
) -> None:
    settings.TRACKING_SEGMENTIO_ALLOWED_TYPES = ["screen"]
    for attempts in (1, 2):
        assert release(ALL()) == became({}, {"unsupported_type": 3})
        for row in rows():
            assert (row.status, row.attempts) == ("pending", attempts)
            assert (row.reason, row.detail) == ("unsupported_type", 'type: "track"')
    assert tracking_log == []
    settings.TRACKING_SEGMENTIO_ALLOWED_TYPES = ["track"]
    assert release(ALL()) == became({"emitted": 3}, {})


def test_each_event_has_its_own_outcome(
    waiting: list[QuarantinedEvent], learner: User, grace: User, tracking_log: Events
) -> None:
    quarantine(without(make_event(), "timestamp"), "no event", [make_event()], None)
    assert post(b'[{"no": "JSON"') == 400
    assert post(json.dumps(make_event()).encode() + b"]") == 400
    assert release(ALL()) == became(
        {"emitted": 3}, {"missing_timestamp": 1, "not_an_object": 3, "malformed_body": 2}
    )
    assert statuses() == ["released"] * 3 + ["pending"] * 6
    assert {row.attempts for row in rows()} == {1}
    assert len(tracking_log) == 3


def test_only_what_is_chosen_and_pending_the_oldest_first(
    waiting: list[QuarantinedEvent], grace: User, tracking_log: Events
) -> None:
    assert release(ALL().filter(pk=waiting[1].pk)) == became({"emitted": 1}, {})
    assert release(ALL(), limit=1) == became({"emitted": 1}, {}, left=1)
    assert statuses() == ["released", "released", "pending"]
    assert discard(ALL()) == {"user_not_found": 1}
    assert discard(ALL()) == {}
    assert statuses() == ["released", "released", "discarded"]
    assert release(ALL()) == became({}, {})
    clients = [event["context"]["client"] for event in tracking_log]
    assert len(clients) == 2


def test_in_batches(
    waiting: list[QuarantinedEvent], grace: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(release_module, "BATCH_SIZE", 2)
    with CaptureQueriesContext(connection) as queries:
        assert release(ALL()) == became({"emitted": 3}, {})
    assert sum(is_user_query(query["sql"]) for query in queries) == 2


def test_an_event_that_has_been_recorded_before_is_released(
    waiting: list[QuarantinedEvent], grace: User, settings: Settings, tracking_log: Events
) -> None:
    settings.TRACKING_SEGMENTIO_DEDUPLICATION_SECONDS = 3600
    assert deliver(json.loads(waiting[0].payload)) == 200
    assert len(tracking_log) == 1
    assert release(ALL()) == became({"duplicate": 1, "emitted": 2}, {})
    assert statuses() == ["released"] * 3
    assert len(tracking_log) == 3


def test_the_operator_sees_it_like_a_delivery(
    waiting: list[QuarantinedEvent], grace: User, app_log: Log
) -> None:
    quarantine("no event")
    app_log.clear()
    seen: list[Outcome] = []

    def look(outcomes: list[Outcome], **kwargs: Any) -> None:
        seen.extend(outcomes)

    events_processed.connect(look)
    try:
        release(ALL())
    finally:
        events_processed.disconnect(look)
    assert [str(outcome.status) for outcome in seen] == ["emitted"] * 3 + ["rejected"]
    assert [record.getMessage() for record in app_log] == ["Event - rejected: not_an_object."]
    assert len(rows()) == 4


def test_nothing_of_the_request_that_releases_is_emitted(
    waiting: list[QuarantinedEvent], grace: User, tracking_log: Events
) -> None:
    request = {"session": "of the staff", "host": "lms", "ip": "192.0.2.1", "username": "root"}
    tracker = get_tracker()
    with tracker.context("edx.request", request):
        release(ALL())
        assert tracker.resolve_context() == request
    for event in tracking_log:
        context = event["context"]
        assert (context["session"], context["host"], context["ip"]) == ("", "", "")
        assert context["username"] == "grace"
    assert len(tracking_log) == 3


def test_without_a_tracker(
    waiting: list[QuarantinedEvent], grace: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("segmentio_bridge.pipeline.find_tracker", lambda: None)
    monkeypatch.setattr("segmentio_bridge.emission.find_tracker", lambda: None)
    assert release(ALL()) == became({}, {"tracker_disabled": 3})


@pytest.mark.parametrize("is_refused", [is_user_query, is_update])
def test_a_database_that_fails_in_the_middle_leaves_the_rest_pending(
    waiting: list[QuarantinedEvent],
    grace: User,
    app_log: Log,
    monkeypatch: pytest.MonkeyPatch,
    is_refused: Any,
) -> None:
    monkeypatch.setattr(release_module, "BATCH_SIZE", 1)
    # SQLite's rows are locked by an update, too.
    is_locked_by_update = is_refused is is_update and not connection.features.has_select_for_update
    worked = iter([True] * (1 + is_locked_by_update))

    def is_refused_later(sql: str) -> bool:
        return is_refused(sql) and not next(worked, False)

    with broken(is_refused_later):
        released = release(ALL())
    assert released == became({"emitted": 1}, {}, left=2, is_interrupted=True)
    assert statuses() == ["released", "pending", "pending"]
    (record,) = [record for record in app_log if "broke off" in record.getMessage()]
    assert record.levelname == "ERROR"
    assert "UPDATE" not in logging.Formatter().format(record)
    assert release(ALL()).recorded == {"emitted": released.left}


def test_a_wrong_setting_leaves_them_pending(
    waiting: list[QuarantinedEvent], settings: Settings
) -> None:
    settings.TRACKING_SEGMENTIO_ALLOWED_TYPES = "track"
    with pytest.raises(ImproperlyConfigured):
        release(ALL())
    assert {row.attempts for row in rows()} == {0}


def test_a_payload_that_cannot_be_parsed_any_more_harms_no_other(
    waiting: list[QuarantinedEvent], grace: User
) -> None:
    ALL().filter(pk=waiting[1].pk).update(payload='{"changed by": hand')
    assert release(ALL()) == became({"emitted": 2}, {"malformed_body": 1})
    assert statuses() == ["released", "pending", "released"]
    assert release(ALL()) == became({}, {"malformed_body": 1})


def test_a_database_with_row_locks_is_asked_to_skip_what_others_hold(
    waiting: list[QuarantinedEvent], grace: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def for_update_sql(**options: Any) -> str:
        asked.append(options["skip_locked"])
        return ""

    monkeypatch.setattr(connection.features, "has_select_for_update", True)
    monkeypatch.setattr(connection.features, "has_select_for_update_skip_locked", True)
    monkeypatch.setattr(connection.ops, "for_update_sql", for_update_sql)
    assert release(ALL()) == became({"emitted": 3}, {})
    assert asked == [True]


class _Pause(logging.Handler):  # pragma: no cover - needs a server
    """Stops the first thread that emits an event, until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = threading.Event()
        self.let_go = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.reached.set()
        assert self.let_go.wait(30)


@pytest.fixture
def pause() -> Iterator[_Pause]:  # pragma: no cover - needs a server
    """A pause within the emission of events."""
    handler = _Pause()
    logging.getLogger("tracking").addHandler(handler)
    yield handler
    logging.getLogger("tracking").removeHandler(handler)


@pytest.mark.skipif(
    connection.vendor == "sqlite", reason="SQLite in memory has one connection; see the next test"
)
@pytest.mark.django_db(transaction=True)
def test_two_who_release_at_the_same_time(  # pragma: no cover - needs a server
    pause: _Pause, tracking_log: Events
) -> None:
    quarantine(*(make_event(userId="2") for _ in range(5)))
    User.objects.create(pk=2, username="grace")
    results: list[Released] = []

    def release_all() -> None:
        results.append(release(ALL()))
        connections.close_all()

    thread = threading.Thread(target=release_all)
    thread.start()
    assert pause.reached.wait(30)
    # The other holds them all, and this one does not wait.
    assert release(ALL()) == became({}, {}, skipped=5)
    pause.let_go.set()
    thread.join(30)
    assert results == [became({"emitted": 5}, {})]
    assert statuses() == ["released"] * 5
    assert {row.attempts for row in rows()} == {1}
    assert len(tracking_log) == 5


_PREPARE = """
import django, json
django.setup()
from django.contrib.auth.models import User
from django.core.management import call_command
from segmentio_bridge.quarantine.models import QuarantinedEvent
from tests.factories import make_event

call_command("migrate", run_syncdb=True, verbosity=0)
User.objects.create(pk=1, username="ada")
QuarantinedEvent.objects.bulk_create(
    QuarantinedEvent(reason="user_not_found", payload=json.dumps(make_event())) for _ in range(400)
)
"""

_RELEASE = """
import django, sys, time
django.setup()
from segmentio_bridge.quarantine import release
from segmentio_bridge.quarantine.models import QuarantinedEvent

release.BATCH_SIZE = 20
print("ready", flush=True)
sys.stdin.readline()
released = release.release(QuarantinedEvent.objects.all())
assert not released.pending and not released.is_interrupted
print(released.recorded["emitted"], released.skipped)
"""


def test_two_processes_on_sqlite(tmp_path: Path) -> None:
    environ = {
        **os.environ,
        "DEMO_DIRECTORY": str(tmp_path),
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "TEST_DATABASE": "",
    }
    subprocess.run([sys.executable, "-c", _PREPARE], env=environ, check=True)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _RELEASE],
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
    outputs = [process.communicate("go\n", 60)[0] for process in processes]
    emitted, _ = zip(*(map(int, output.split()) for output in outputs), strict=True)
    assert sum(emitted) == 400
    assert len((tmp_path / "tracking.log").read_text().splitlines()) == 400


def test_properties_of_the_pipeline_hold(learner: User, tracking_log: Events) -> None:
    properties = make_properties(course_id="course-v1:A+B+C")
    (row,) = quarantine(make_event(userId="2", properties=properties))
    User.objects.create(pk=2, username="grace")
    release(ALL().filter(pk=row.pk))
    (event,) = tracking_log
    assert event["context"]["org_id"] == "A"
    assert event["context"]["user_id"] == 2
