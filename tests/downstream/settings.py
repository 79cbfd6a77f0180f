"""The site of these tests: the demo's, with edx-event-routing-backends as a platform has it.

Its settings are the defaults of that package's plugin, and then what docs/downstream.md tells an
operator to add: whoever follows the page gets what is tested here.
"""

from __future__ import annotations

import copy
import re
import sys
from pathlib import Path
from typing import Any

from tests.demo.settings import *  # noqa: F403 - this is the demo's site
from tests.demo.settings import EVENT_TRACKING_BACKENDS
from tests.demo.settings import INSTALLED_APPS as _DEMO_APPS
from tests.downstream import stand_ins

stand_ins.install()

# The package looks for the platform when it is imported.
from event_routing_backends.settings.common import plugin_settings  # noqa: E402 - it reads what stands above

INSTALLED_APPS = [*_DEMO_APPS, "celery_utils", "config_models", "event_routing_backends"]
LMS_ROOT_URL = "https://learn.example.org"

plugin_settings(sys.modules[__name__])
CALIPER_EVENTS_ENABLED = True
SEND_TRACKING_EVENT_EMITTED_SIGNAL = True

# The package asks the database for "xapi" and "caliper" where it has "xAPI" and "Caliper": the
# platform's MySQL takes them for the same, SQLite does not.
_backends: dict[str, Any] = EVENT_TRACKING_BACKENDS
_routers = _backends["event_transformer"]["OPTIONS"]["backends"]
for _name, _stored_name in (("xapi", "xAPI"), ("caliper", "Caliper")):
    _routers[_name]["OPTIONS"]["backend_name"] = _stored_name

_page = (Path(__file__).parents[2] / "docs" / "downstream.md").read_text()
_FOR_ALL, _FOR_ONE = re.findall(r"^```python\n(.*?)^```$", _page, re.M | re.S)

#: The backends of a site that has followed the page's other way.
PREPARED_BACKENDS = copy.deepcopy(EVENT_TRACKING_BACKENDS)
exec(_FOR_ONE, {"EVENT_TRACKING_BACKENDS": PREPARED_BACKENDS})  # noqa: S102 - the page is ours
EVENT_TRACKING_PROCESSORS: list[dict[str, Any]] = []
exec(_FOR_ALL)  # noqa: S102 - the page's own lines
