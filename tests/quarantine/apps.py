"""The quarantine without its attachment to the bridge."""

from __future__ import annotations

from segmentio_bridge.quarantine.apps import QuarantineConfig


class DetachedQuarantineConfig(QuarantineConfig):
    """Has the tables and the admin, and leaves the bridge as it is; `conftest` attaches it."""

    default = False

    def ready(self) -> None:
        """Attach nothing."""
