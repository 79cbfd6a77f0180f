"""Hostile input: the one corpus of tests/hostile.py, against every entry point of the bridge."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import RequestFactory
from pytest_django.fixtures import SettingsWrapper

from segmentio_bridge.segmentio import EventValidationError, track_segmentio_event
from tests import hostile
from tests.hostile import MOMENTS, VALUES, Endpoint, Field, as_batch, render


@pytest.fixture
def endpoint(
    learner: User, tracking_log: list[dict[str, Any]], app_log: list[logging.LogRecord]
) -> Iterator[Endpoint]:
    with hostile.watch(tracking_log, app_log) as endpoint:
        yield endpoint


_TIMES = {"timestamp", "receivedAt", "originalTimestamp", "sentAt", "userId"}

FIELDS = [pytest.param(field, id=".".join(field) or "event") for field in hostile.FIELDS]


def _texts(field: Field) -> list[str]:
    """Return a realistic event with each of the hostile values in `field`."""
    values = [*VALUES.values(), *(MOMENTS.values() if _TIMES.issuperset(field) else ())]
    return [render(field, value) for value in values]


@pytest.mark.parametrize("field", FIELDS)
def test_hostile_field(endpoint: Endpoint, field: Field) -> None:
    endpoint.deliver_elements(_texts(field))
