"""After the platform's own defaults: wherever the LMS runs, is tested or is built into an image."""

from __future__ import annotations

from typing import Any

from .. import conf
from . import NO_CREDENTIAL, ignore_endpoint

#: What the platform sets by itself, and what is therefore nobody's choice.
PLATFORM_SOURCE_MAP = {"analytics-android": "mobile", "analytics-ios": "mobile"}


def plugin_settings(settings: Any) -> None:
    """Accept today's mobile libraries, ignore the endpoint, and ask for no credential yet."""
    if getattr(settings, conf.SOURCE_MAP.name, None) == PLATFORM_SOURCE_MAP:
        source_map = dict.fromkeys(conf.MOBILE_LIBRARIES, "mobile")
        setattr(settings, conf.SOURCE_MAP.name, source_map)
    ignore_endpoint(settings)
    silenced = getattr(settings, "SILENCED_SYSTEM_CHECKS", None) or ()
    settings.SILENCED_SYSTEM_CHECKS = [*silenced, NO_CREDENTIAL]
