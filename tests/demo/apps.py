"""The demo's own app: it writes down what became of each event."""

from __future__ import annotations

import logging
from typing import Any

from django.apps import AppConfig
from django.dispatch import receiver

from segmentio_bridge.outcomes import Outcome
from segmentio_bridge.signals import events_processed

logger = logging.getLogger("tests.demo.outcomes")


class DemoConfig(AppConfig):
    """Nothing but a name; importing this module connects the receiver."""

    name = "tests.demo"


@receiver(events_processed)
def log_outcomes(outcomes: list[Outcome], **kwargs: Any) -> None:
    """Log a line `status reason` for each event of a delivery."""
    for outcome in outcomes:
        logger.info("%s %s", outcome.status, outcome.reason or "-")
