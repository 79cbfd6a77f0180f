"""The app as Django sees it."""

from __future__ import annotations

from django.apps import AppConfig


class SegmentioBridgeConfig(AppConfig):
    """Registers the system checks."""

    name = "segmentio_bridge"
    verbose_name = "Segment bridge"

    def ready(self) -> None:
        from . import checks  # noqa: F401 - registers the checks, which import the user model
