"""What Open edX's plugin machinery does to the platform's settings on behalf of the app.

The platform hands its settings module to `plugin_settings` of one of these modules at a time:
`common` after its own defaults, then `production` after the site's YAML, or `test` in its own test
suite. What a deployment patches comes later still. So nothing here may override what it finds, and
nothing may read Django's settings, which do not exist yet. The machinery is described in
https://github.com/openedx/edx-django-utils/tree/master/edx_django_utils/plugins.
"""

from __future__ import annotations

from typing import Any

#: Matches the endpoint at the plugin's own mount, as `re.match` does, with and without a slash.
ENDPOINT_PATTERN = "^/segmentio_bridge/event"


class Provisional(str):
    """The id of a check that is silenced only until the site's own settings have been read.

    The type tells it from the same id where the site has silenced the check for good.
    """

    __slots__ = ()


#: No credential is configured. That is an error, and it would stop the commands that are run while
#: an image is built: they have the platform's settings and not yet the site's, where secrets are.
NO_CREDENTIAL = Provisional("segmentio_bridge.E002")


def ignore_endpoint(settings: Any) -> None:
    """Keep the platform's TrackMiddleware from logging deliveries, and with them `?key=`.

    Makes a new list, because Studio's settings may share the old one. What the patterns are for:
    https://github.com/openedx/edx-platform/blob/master/common/djangoapps/track/middleware.py
    """
    patterns = getattr(settings, "TRACKING_IGNORE_URL_PATTERNS", None) or ()
    if ENDPOINT_PATTERN not in patterns:
        settings.TRACKING_IGNORE_URL_PATTERNS = [*patterns, ENDPOINT_PATTERN]
