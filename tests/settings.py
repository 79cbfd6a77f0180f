"""The tests' settings: the demo's site, with user models of other kinds installed.

`TEST_DATABASE` names a database server on this machine to test with instead of SQLite.
"""

from __future__ import annotations

import os
from typing import Any

from tests.demo.settings import *  # noqa: F403 - this is the demo's site
from tests.demo.settings import DATABASES as _DEMO_DATABASES
from tests.demo.settings import INSTALLED_APPS as _DEMO_APPS

INSTALLED_APPS = [*_DEMO_APPS, "tests.accounts"]

_ON_THIS_MACHINE: dict[str, Any] = {
    "postgresql": {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": "127.0.0.1",
        "NAME": "segmentio_bridge",
        "USER": os.environ.get("TEST_DATABASE_USER", "postgres"),
        "PASSWORD": os.environ.get("TEST_DATABASE_PASSWORD", ""),
    },
    "mariadb": {
        "ENGINE": "django.db.backends.mysql",
        "HOST": "127.0.0.1",
        "NAME": "segmentio_bridge",
        "USER": os.environ.get("TEST_DATABASE_USER", "root"),
        "PASSWORD": os.environ.get("TEST_DATABASE_PASSWORD", ""),
        "OPTIONS": {"charset": "utf8mb4"},
        "TEST": {"CHARSET": "utf8mb4"},
    },
}
_server = os.environ.get("TEST_DATABASE")
DATABASES = {"default": _ON_THIS_MACHINE[_server]} if _server else _DEMO_DATABASES
