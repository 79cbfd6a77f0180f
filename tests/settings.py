"""The tests' settings: the demo's site, with user models of other kinds installed."""

from __future__ import annotations

from tests.demo.settings import *  # noqa: F403 - this is the demo's site
from tests.demo.settings import INSTALLED_APPS as _DEMO_APPS

INSTALLED_APPS = [*_DEMO_APPS, "tests.accounts"]
