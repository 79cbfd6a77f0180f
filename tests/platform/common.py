"""The platform's own settings, before any site's."""

from __future__ import annotations

import sys
from typing import Any

from edx_django_utils.plugins import add_plugins, get_plugin_apps

SECRET_KEY = "the platform's own"
ALLOWED_HOSTS = ["*"]
USE_TZ = True
ROOT_URLCONF = "tests.platform.urls"
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
DATA_UPLOAD_MAX_MEMORY_SIZE = None
OPENEDX_TELEMETRY: list[str] = []
SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": ":memory:",
        "ATOMIC_REQUESTS": True,
    }
}

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "eventtracking.django.apps.EventTrackingConfig",
]

MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "tests.platform.track.middleware.TrackMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
]

TRACKING_IGNORE_URL_PATTERNS = [
    "^/event",
    "^/login",
    "^/heartbeat",
    "^/segmentio/event",
    "^/performance",
]

EVENT_TRACKING_ENABLED = True
EVENT_TRACKING_BACKENDS: dict[str, Any] = {
    "tracking_logs": {
        "ENGINE": "eventtracking.backends.routing.RoutingBackend",
        "OPTIONS": {
            "backends": {
                "logger": {
                    "ENGINE": "eventtracking.backends.logger.LoggerBackend",
                    "OPTIONS": {"name": "tracking", "max_event_size": 50_000},
                }
            },
            "processors": [
                {"ENGINE": "tests.platform.track.processors.TopLevelFields"},
                {"ENGINE": "tests.platform.track.processors.LegacyEventTypes"},
            ],
        },
    }
}
EVENT_TRACKING_PROCESSORS: list[dict[str, Any]] = []

TRACKING_SEGMENTIO_WEBHOOK_SECRET = None
TRACKING_SEGMENTIO_ALLOWED_TYPES = ["track"]
TRACKING_SEGMENTIO_DISALLOWED_SUBSTRING_NAMES: list[str] = []
TRACKING_SEGMENTIO_SOURCE_MAP = {"analytics-android": "mobile", "analytics-ios": "mobile"}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"stdout": {"class": "logging.StreamHandler", "stream": sys.stdout}},
    "loggers": {"tracking": {"handlers": ["stdout"], "level": "INFO", "propagate": False}},
}

INSTALLED_APPS.extend(get_plugin_apps("lms.djangoapp"))
add_plugins(__name__, "lms.djangoapp", "common")
