"""Fixtures that all tests share."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.contrib.auth.models import User


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
