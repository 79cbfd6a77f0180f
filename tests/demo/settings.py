"""The demo's site, which is the tests' site too: SQLite, event-tracking and the bridge.

Environment variables: `DEMO_DIRECTORY` is the folder for the database and the logs (without it, the
database is in memory and nothing is written), `DEMO_WEBHOOK_SECRET` and `DEMO_SIGNATURE_SECRET` are
the credentials.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

_directory = os.environ.get("DEMO_DIRECTORY")

SECRET_KEY = "the demo's own"
ALLOWED_HOSTS = ["127.0.0.1", "localhost", "testserver"]
USE_TZ = True
ROOT_URLCONF = "tests.demo.urls"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "eventtracking.django.apps.EventTrackingConfig",
    "segmentio_bridge",
    "tests.demo",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
]

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": Path(_directory, "demo.sqlite3") if _directory else ":memory:",
    }
}

# As the Open edX platform configures it: a router around a logger.
EVENT_TRACKING_ENABLED = True
EVENT_TRACKING_BACKENDS = {
    "tracking_logs": {
        "ENGINE": "eventtracking.backends.routing.RoutingBackend",
        "OPTIONS": {
            "backends": {
                "logger": {
                    "ENGINE": "eventtracking.backends.logger.LoggerBackend",
                    "OPTIONS": {"name": "tracking", "max_event_size": 50_000},
                }
            }
        },
    }
}

OPENEDX_TELEMETRY: list[str] = []

TRACKING_SEGMENTIO_WEBHOOK_SECRET = os.environ.get(
    "DEMO_WEBHOOK_SECRET", "a secret that only Segment knows"
)
TRACKING_SEGMENTIO_SIGNATURE_SECRET = os.environ.get("DEMO_SIGNATURE_SECRET")


def _log_file(name: str) -> dict[str, Any]:
    if _directory is None:
        return {"class": "logging.NullHandler"}
    return {"class": "logging.FileHandler", "filename": Path(_directory, name), "delay": True}


LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {
        "tracking": _log_file("tracking.log"),
        "outcomes": _log_file("outcomes.log"),
        "site": _log_file("site.log"),
    },
    "loggers": {
        "tracking": {"handlers": ["tracking"], "level": "INFO", "propagate": False},
        "tests.demo.outcomes": {"handlers": ["outcomes"], "level": "INFO", "propagate": False},
        "segmentio_bridge": {"handlers": ["site"], "level": "INFO"},
    },
}
