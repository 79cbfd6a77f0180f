"""After the platform's own settings, those of the site's YAML, which is in PLATFORM_YAML."""

from __future__ import annotations

import os

import yaml
from edx_django_utils.plugins import add_plugins

from tests.platform.common import *  # noqa: F403 - these are the platform's settings

globals().update(yaml.safe_load(os.environ.get("PLATFORM_YAML", "{}")))

add_plugins(__name__, "lms.djangoapp", "production")
