"""The demo's site with the quarantine and the admin, as a site adds them."""

from __future__ import annotations

from tests.settings import *  # noqa: F403 - this is the tests' site
from tests.settings import INSTALLED_APPS as _TEST_APPS

# The quarantine is attached to the bridge, as its app does it by itself.
INSTALLED_APPS = [
    "segmentio_bridge.quarantine" if app.endswith("DetachedQuarantineConfig") else app
    for app in _TEST_APPS
]
INSTALLED_APPS.append("django.contrib.staticfiles")
ROOT_URLCONF = "tests.browser.urls"
TIME_ZONE = "UTC"
