"""The drills' own app: it marks the units of work in the journal, and has a tracker of its own.

Environment variables: `DRILL_TRACKER_FAILURES` is the part of the emissions that fail, between 0
and 1; `DRILL_LEASE_SECONDS` is how long a killed process blocks the events that it had claimed, if
that is not to be as long as in a real site.
"""

from __future__ import annotations

import logging
import os
import random
import time
from typing import Any

from django.apps import AppConfig
from django.core.signals import request_finished, request_started
from eventtracking.django.django_tracker import DjangoTracker
from eventtracking.tracker import register_tracker

from segmentio_bridge import deduplication

_LONGEST_PAUSE_SECONDS = 0.003

_tracker_failures = float(os.environ.get("DRILL_TRACKER_FAILURES", "0"))
_lease_seconds = os.environ.get("DRILL_LEASE_SECONDS")

logger = logging.getLogger("tests.drills.journal")


class DrillsConfig(AppConfig):
    """Registers what the drills need in each process of the site."""

    name = "tests.drills"

    def ready(self) -> None:
        """Take event-tracking's tracker's place, and watch the requests."""
        register_tracker(DrillTracker())
        request_started.connect(note_begin)
        request_finished.connect(note_end)
        if _lease_seconds:
            deduplication.LEASE_SECONDS = int(_lease_seconds)


class TrackerFailure(Exception):
    """The tracker fails, as the drill wants it to."""


class DrillTracker(DjangoTracker):
    """A tracker that fails now and then, if it is to, before it has emitted anything.

    It takes its time before and after the emission, as a slow disk would: there a process is most
    likely to be killed.
    """

    def emit(self, name: str | None = None, data: Any = None) -> None:
        """Emit an event, or raise TrackerFailure."""
        if random.random() < _tracker_failures:
            raise TrackerFailure
        time.sleep(random.uniform(0, _LONGEST_PAUSE_SECONDS))
        super().emit(name, data)
        time.sleep(random.uniform(0, _LONGEST_PAUSE_SECONDS))


def note_begin(**_: Any) -> None:
    """Note in the journal that this process begins a request or a task."""
    logger.info("begin")


def note_end(**_: Any) -> None:
    """Note in the journal that this process has come to the end of it."""
    logger.info("end")
