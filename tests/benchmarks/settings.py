"""The demo's site as the benchmarks measure it.

Environment variables: `BENCHMARK_DATABASE` is a key of `ENGINES`, `BENCHMARK_DATABASE_NAME` the
database's name (a file for SQLite). Where a database server is and who logs in comes from its own
client library: PGHOST, PGUSER, … for PostgreSQL, the group `client` of my.cnf for MariaDB.
"""

from __future__ import annotations

import os
from typing import Any

from tests.demo.settings import *  # noqa: F403 - this is the demo's site
from tests.demo.settings import INSTALLED_APPS as _DEMO_APPS

ENGINES = {
    "sqlite": "django.db.backends.sqlite3",
    "postgresql": "django.db.backends.postgresql",
    "mariadb": "django.db.backends.mysql",
}

_database = os.environ["BENCHMARK_DATABASE"]
_database_name = os.environ["BENCHMARK_DATABASE_NAME"]
_options: dict[str, Any] = {"read_default_group": "client"} if _database == "mariadb" else {}

_default: Any = {
    "ENGINE": ENGINES[_database],
    "NAME": _database_name,
    "OPTIONS": _options,
    # Opening a connection is the site's cost, not the bridge's, and the floors open none.
    "CONN_MAX_AGE": None,
    "TEST": {"NAME": _database_name},
}
DATABASES = {"default": _default}

# The demo's own app writes a line about every outcome.
INSTALLED_APPS = [app for app in _DEMO_APPS if app != "tests.demo"]
ROOT_URLCONF = "tests.benchmarks.urls"

# For the bare views, which read `request.body`.
DATA_UPLOAD_MAX_MEMORY_SIZE = None

# A real file handler, which formats, writes and flushes each line, on a file that keeps nothing:
# no disk is measured, and the floors are as low as they can be.
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"file": {"class": "logging.FileHandler", "filename": os.devnull}},
    "loggers": {
        "tracking": {"handlers": ["file"], "level": "INFO", "propagate": False},
        "segmentio_bridge": {"handlers": ["file"], "level": "INFO", "propagate": False},
    },
}
