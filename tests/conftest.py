"""Fixtures that all tests share."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db.backends.base.base import BaseDatabaseWrapper
from eventtracking.tracker import DEFAULT_TRACKER_NAME, TRACKERS, Tracker, register_tracker
from hypothesis import HealthCheck, settings

from segmentio_bridge import testing
from segmentio_bridge.outcomes import Outcome
from segmentio_bridge.signals import events_processed
from tests import hostile

pytest_plugins = ["pytester", "segmentio_bridge.pytest_plugin"]

# How many inputs tests/test_fuzz.py tries for each property; HYPOTHESIS_PROFILE or the option
# --hypothesis-profile chooses. A test's examples share its fixtures, which stand for the site.
for _profile, _examples in (("default", 250), ("ci", 3_000)):
    settings.register_profile(
        _profile,
        max_examples=_examples,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


class _Records(logging.Handler):
    """Keeps log records."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


class _TrackingLog(logging.Handler):
    """Keeps what the site's tracker logs, after event-tracking has copied and encoded it."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[dict[str, Any]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.events.append(json.loads(record.getMessage()))


@contextmanager
def _attached(handler: logging.Handler, name: str) -> Iterator[None]:
    logger = logging.getLogger(name)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


@contextmanager
def registered(tracker: Tracker | None) -> Iterator[None]:
    """Make `tracker` the global one, or have none."""
    before = TRACKERS.pop(DEFAULT_TRACKER_NAME)
    if tracker is not None:
        register_tracker(tracker)
    try:
        yield
    finally:
        register_tracker(before)


def deliver(delivery: object) -> int:
    """Post a delivery with the site's own credentials, and return the status of the answer."""
    return testing.deliver(delivery).status_code


def close_for_good(connection: BaseDatabaseWrapper) -> None:
    """Close the connection of a thread that ends, which Django keeps to a database in memory."""
    raw = connection.connection
    connection.close()
    with suppress(Exception):  # It is closed already, if the database is not in memory.
        raw.close()


@pytest.fixture
def tracking_log() -> Iterator[list[dict[str, Any]]]:
    """The events that reach the tracking log during the test, in their order."""
    handler = _TrackingLog()
    with _attached(handler, "tracking"):
        yield handler.events


@pytest.fixture
def app_log() -> Iterator[list[logging.LogRecord]]:
    """What the package logs during the test."""
    handler = _Records()
    with _attached(handler, "segmentio_bridge"):
        yield handler.records


@pytest.fixture
def learner(db: None) -> User:
    """The user with the primary key 1."""
    return User.objects.create(pk=1, username="ada")


@pytest.fixture
def outcomes() -> Iterator[list[Outcome]]:
    """The outcomes that are reported during the test, in their order."""
    received: list[Outcome] = []

    def receive(outcomes: list[Outcome], **kwargs: object) -> None:
        received.extend(outcomes)

    events_processed.connect(receive)
    yield received
    events_processed.disconnect(receive)


@pytest.fixture
def endpoint(
    learner: User, tracking_log: list[dict[str, Any]], app_log: list[logging.LogRecord]
) -> Iterator[hostile.Endpoint]:
    """The endpoint, for hostile input."""
    with hostile.watch(tracking_log, app_log) as endpoint:
        yield endpoint
