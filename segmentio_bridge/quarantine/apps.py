"""The app as Django sees it."""

from __future__ import annotations

from django.apps import AppConfig


class QuarantineConfig(AppConfig):
    """Attaches the quarantine to the bridge, which knows nothing of it."""

    name = "segmentio_bridge.quarantine"
    label = "segmentio_bridge_quarantine"
    verbose_name = "Segment bridge: quarantine"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Connect; Django calls this when all models are there."""
        from ..signals import events_unrecorded
        from .intake import keep

        events_unrecorded.connect(keep, dispatch_uid=self.label)
