"""The app as Django sees it, and the plugin as Open edX does.

Open edX imports this module before there are settings: what needs them is imported in `ready`.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any, ClassVar

from django.apps import AppConfig


class SegmentioBridgeConfig(AppConfig):
    """Registers the system checks, and the metrics if prometheus_client is installed.

    `plugin_app` is read by Open edX alone:
    https://github.com/openedx/edx-django-utils/tree/master/edx_django_utils/plugins
    """

    name = "segmentio_bridge"
    verbose_name = "Segment bridge"

    # For the plugin machinery of Open edX; to other sites it means nothing. It is a plugin of the
    # LMS alone: Studio has no mobile app, and a second endpoint would only be a second way in.
    plugin_app: ClassVar[dict[str, Any]] = {
        "url_config": {
            "lms.djangoapp": {
                "namespace": "segmentio_bridge",
                # The platform itself serves segmentio/, and its URLs come first.
                "regex": "^segmentio_bridge/",
                "relative_path": "urls",
            }
        },
        "settings_config": {
            "lms.djangoapp": {
                "common": {"relative_path": "plugin_settings.common"},
                "production": {"relative_path": "plugin_settings.production"},
                "test": {"relative_path": "plugin_settings.test"},
            }
        },
    }

    def ready(self) -> None:
        """Register and connect; Django calls this when all models are there."""
        from . import checks  # noqa: F401 - registers the checks, which import the user model

        if find_spec("prometheus_client"):
            from . import metrics

            metrics.connect()
