"""The demo's site as the drills play with it.

Environment variables:

- `DRILL_DIRECTORY`: the folder for the database file and the logs
- `DRILL_POSTGRESQL_PORT`: where PostgreSQL is, if the site uses it
- `DRILL_CACHE_URL`: the Redis that events are deduplicated with, if they are
- `DRILL_BROKER_URL`: the broker, in queue mode
- `DRILL_VISIBILITY_SECONDS`: after how long Redis as a broker gives a message to another worker
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from tests.demo.settings import *  # noqa: F403 - this is the demo's site
from tests.demo.settings import INSTALLED_APPS as _DEMO_APPS

_directory = Path(os.environ.get("DRILL_DIRECTORY", os.curdir))
_postgresql_port = os.environ.get("DRILL_POSTGRESQL_PORT")
_cache_url = os.environ.get("DRILL_CACHE_URL")
_broker_url = os.environ.get("DRILL_BROKER_URL")

# The drills' own app comes after event-tracking's, whose tracker it replaces.
INSTALLED_APPS = [*(app for app in _DEMO_APPS if app != "tests.demo"), "tests.drills"]

_sqlite: dict[str, Any] = {
    "ENGINE": "django.db.backends.sqlite3",
    "NAME": _directory / "drill.sqlite3",
}
_postgresql: dict[str, Any] = {
    "ENGINE": "django.db.backends.postgresql",
    "HOST": "127.0.0.1",
    "PORT": _postgresql_port,
    "NAME": "postgres",
    "USER": "postgres",
    # As most sites have it: a connection that has died is found out by a request.
    "CONN_MAX_AGE": 60,
}
DATABASES = {"default": _postgresql if _postgresql_port else _sqlite}

if _cache_url:
    CACHES = {
        "default": {
            "BACKEND": "django.core.cache.backends.redis.RedisCache",
            "LOCATION": _cache_url,
        }
    }
    TRACKING_SEGMENTIO_DEDUPLICATION_SECONDS = 3600

if _broker_url:
    TRACKING_SEGMENTIO_DELIVERY = "celery"
    CELERY_BROKER_URL = _broker_url
    CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
    CELERY_BROKER_TRANSPORT_OPTIONS = (
        {
            "visibility_timeout": int(os.environ["DRILL_VISIBILITY_SECONDS"]),
            # Look for messages of killed workers every second, not every 100.
            "unacked_restore_interval": 1,
            "unacked_restore_throttle": 1,
            # A worker that is killed while it looks keeps the others from looking for so long.
            "unacked_mutex_expire": 5,
        }
        if _broker_url.startswith("redis")
        else {}
    )

# All processes of the site append to the same two files. A line goes out in one write, which Linux
# puts at the end of the file as a whole.
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "journal": {"format": "%(created).6f %(process)d %(message)s"},
        "site": {"format": "%(asctime)s %(process)d %(levelname)s %(message)s"},
    },
    "handlers": {
        "journal": {
            "class": "logging.FileHandler",
            "filename": _directory / "journal.log",
            "formatter": "journal",
            "delay": True,
        },
        "site": {
            "class": "logging.FileHandler",
            "filename": _directory / "site.log",
            "formatter": "site",
            "delay": True,
        },
    },
    "loggers": {
        "tracking": {"handlers": ["journal"], "level": "INFO", "propagate": False},
        "tests.drills.journal": {"handlers": ["journal"], "level": "INFO", "propagate": False},
        "segmentio_bridge": {"handlers": ["site"], "level": "INFO", "propagate": False},
    },
}
