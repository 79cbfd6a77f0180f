"""How long events are kept, and how many."""

from __future__ import annotations

import logging
import time
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import Settings

from segmentio_bridge.quarantine import retention
from segmentio_bridge.quarantine.models import QuarantinedEvent
from tests.quarantine.site import broken, deliver, quarantine, rows

pytestmark = pytest.mark.django_db

Log = list[logging.LogRecord]


def make_rows(count: int, days: int = 0) -> None:
    """Fill the table with rows that came `days` days ago."""
    moment = timezone.now() - timedelta(days=days)
    QuarantinedEvent.objects.bulk_create(
        [QuarantinedEvent(payload="{}", created_at=moment) for _ in range(count)]
    )


def is_count(sql: str) -> bool:
    return "COUNT(" in sql


def payloads() -> list[str]:
    return [row.payload for row in rows()]


def test_the_oldest_go_first(settings: Settings) -> None:
    settings.TRACKING_SEGMENTIO_QUARANTINE_MAX_ROWS = 3
    for number in range(5):
        assert deliver(number) == 200
    assert payloads() == ["2", "3", "4"]


def test_a_delivery_of_more_than_there_is_room_for(settings: Settings) -> None:
    settings.TRACKING_SEGMENTIO_QUARANTINE_MAX_ROWS = 3
    assert deliver("before") == 200
    assert deliver(*range(10)) == 200
    assert payloads() == ["7", "8", "9"]


def test_rows_are_counted_only_when_there_may_be_too_many(settings: Settings) -> None:
    settings.TRACKING_SEGMENTIO_QUARANTINE_MAX_ROWS = 200
    counted = []
    with CaptureQueriesContext(connection) as queries:
        for number in range(220):
            before = len(queries)
            quarantine_one(number)
            if any(is_count(query["sql"]) for query in queries.captured_queries[before:]):
                counted.append(number)
            # A hundredth of the setting, and the delivery that is at hand.
            assert QuarantinedEvent.objects.count() <= 202
    # With the first of a process; as soon as the table may be full; then after a hundredth.
    assert counted == [0, 200, 203, 206, 209, 212, 215, 218]


def quarantine_one(number: int) -> None:
    assert deliver(number) == 200


def test_another_process_may_have_filled_the_table(settings: Settings) -> None:
    settings.TRACKING_SEGMENTIO_QUARANTINE_MAX_ROWS = 100
    quarantine("first")
    make_rows(150)
    assert deliver("last") == 200
    assert len(rows()) == 100


def test_a_table_that_was_emptied_is_counted_again(settings: Settings) -> None:
    settings.TRACKING_SEGMENTIO_QUARANTINE_MAX_ROWS = 10
    retention._tidied["default"] = retention._Tidied(10**9, 10, time.monotonic())
    make_rows(20)
    assert deliver("last") == 200
    assert len(rows()) == 10


def test_no_delivery_deletes_more_than_it_has_time_for(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "_MAX_TIDIED", 30)
    monkeypatch.setattr(retention, "_BATCH_SIZE", 20)
    make_rows(100)
    settings.TRACKING_SEGMENTIO_QUARANTINE_MAX_ROWS = 50
    left = []
    for number in range(4):
        assert deliver(number) == 200
        left.append(len(rows()))
    assert left == [71, 50, 50, 50]


def test_what_is_too_old_goes_while_events_come_in(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.TRACKING_SEGMENTIO_QUARANTINE_RETENTION_DAYS = 7
    make_rows(2, days=8)
    make_rows(1, days=6)
    assert deliver("first") == 200
    assert payloads() == ["{}", '"first"']

    # Once in an hour, for each process.
    make_rows(1, days=8)
    assert deliver("second") == 200
    assert len(rows()) == 4
    clock = time.monotonic() + 3601
    monkeypatch.setattr("time.monotonic", lambda: clock)
    assert deliver("third") == 200
    assert len(rows()) == 4


def test_a_failure_to_tidy_up_is_logged_and_costs_no_event(app_log: Log) -> None:
    with broken(is_count):
        assert deliver("no event") == 200
    assert len(rows()) == 1
    (record,) = [record for record in app_log if record.levelname == "ERROR"]
    assert record.name == "segmentio_bridge.quarantine.retention"
    assert record.getMessage() == "The quarantine could not be tidied up."


def test_a_wrong_retention_costs_no_event(settings: Settings, app_log: Log) -> None:
    settings.TRACKING_SEGMENTIO_QUARANTINE_RETENTION_DAYS = "thirty"
    assert deliver("no event") == 200
    assert len(rows()) == 1
    assert [record.levelname for record in app_log] == ["ERROR", "INFO"]


@pytest.fixture
def five() -> list[QuarantinedEvent]:
    """Five events."""
    return quarantine(*range(5))


def test_prune_deletes_in_batches(
    five: list[QuarantinedEvent], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "_BATCH_SIZE", 2)
    with CaptureQueriesContext(connection) as queries:
        assert retention.prune(QuarantinedEvent.objects.all()) == {"pending": 5}
    assert sum(query["sql"].startswith("DELETE") for query in queries) == 3
    assert rows() == []


def test_prune_deletes_the_oldest_first(
    five: list[QuarantinedEvent], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "_BATCH_SIZE", 2)
    assert retention.prune(QuarantinedEvent.objects.all(), 3) == {"pending": 3}
    assert rows() == five[3:]
    assert retention.prune(QuarantinedEvent.objects.all(), 0) == {}
