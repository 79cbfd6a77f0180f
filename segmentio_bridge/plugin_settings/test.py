"""In the platform's own test suite, after its settings for that; there are no credentials."""

from __future__ import annotations

from typing import Any

from . import ignore_endpoint


def plugin_settings(settings: Any) -> None:
    """Ignore the endpoint here too."""
    ignore_endpoint(settings)
