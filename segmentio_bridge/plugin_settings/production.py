"""After the site's YAML, whose lists replace those of `common` whole."""

from __future__ import annotations

from typing import Any

from . import Provisional, ignore_endpoint


def plugin_settings(settings: Any) -> None:
    """Ignore the endpoint here too, and ask for a credential from now on."""
    ignore_endpoint(settings)
    silenced = getattr(settings, "SILENCED_SYSTEM_CHECKS", None) or ()
    settings.SILENCED_SYSTEM_CHECKS = [
        check for check in silenced if not isinstance(check, Provisional)
    ]
