"""Last come the deployment's patches, which are in PLATFORM_PATCHES as Python."""

from __future__ import annotations

import os

from tests.platform.production import *  # noqa: F403 - these are the site's settings

exec(os.environ.get("PLATFORM_PATCHES", ""))  # noqa: S102 - Tutor pastes them into such a file
