"""The tests' settings: the demo's site, with what only some of the tests need installed.

That is user models of other kinds, and the quarantine with the admin. It is attached to the bridge
in its own tests only: what the bridge does with an event that it could not record, the others look
at as it is without a quarantine.

`TEST_DATABASE` names a database server on this machine to test with instead of SQLite.
"""

from __future__ import annotations

import os
from typing import Any

from tests.demo.settings import *  # noqa: F403 - this is the demo's site
from tests.demo.settings import DATABASES as _DEMO_DATABASES
from tests.demo.settings import INSTALLED_APPS as _DEMO_APPS
from tests.demo.settings import MIDDLEWARE as _DEMO_MIDDLEWARE

INSTALLED_APPS = [
    *_DEMO_APPS,
    "django.contrib.admin",
    "django.contrib.messages",
    "tests.accounts",
    "tests.quarantine.apps.DetachedQuarantineConfig",
]
MIDDLEWARE = [
    *_DEMO_MIDDLEWARE,
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
STATIC_URL = "static/"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

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
