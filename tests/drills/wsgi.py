"""The drills' site for WSGI servers."""

from __future__ import annotations

import os

from django.conf import settings
from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.drills.settings")
application = get_wsgi_application()

if hasattr(settings, "CELERY_BROKER_URL"):
    from . import celery  # noqa: F401 - makes it the current application, which tasks are sent by
