"""Fixtures that all tests share."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User


class _TrackingLog(logging.Handler):
    """Keeps what the site's tracker logs, after event-tracking has copied and encoded it."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[dict[str, Any]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.events.append(json.loads(record.getMessage()))


@pytest.fixture
def tracking_log() -> Iterator[list[dict[str, Any]]]:
    """The events that reach the tracking log during the test, in their order."""
    handler = _TrackingLog()
    logger = logging.getLogger("tracking")
    logger.addHandler(handler)
    yield handler.events
    logger.removeHandler(handler)


@pytest.fixture
def learner(db: None) -> User:
    """The user with the primary key 1."""
    return User.objects.create(pk=1, username="ada")
