"""The plugin for Open edX: its settings, the platform's machinery that loads it, and the page."""

# ruff: noqa: N802 - ids of checks are written in capitals, in the names of their tests too.

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from django.conf import global_settings
from django.core.checks import Warning, run_checks
from edx_django_utils.plugins import get_plugin_apps
from pytest_django import Settings

from segmentio_bridge import conf
from segmentio_bridge.apps import SegmentioBridgeConfig
from segmentio_bridge.plugin_settings import ENDPOINT_PATTERN, NO_CREDENTIAL, common, production
from segmentio_bridge.plugin_settings import test as testing
from tests.factories import make_event, make_event_of_website, make_properties

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/openedx.md").read_text()

SECRET = "a secret that only Segment knows"
ENDPOINT = "/segmentio_bridge/event"
KEY = "?key=a+secret+that+only+Segment+knows"

#: The libraries that today's mobile apps are built with.
TODAYS_LIBRARIES = {
    "analytics-kotlin",
    "analytics-swift",
    "@segment/analytics-react-native",
    "analytics-react-native",
    "analytics-flutter",
}
PLATFORM_SOURCE_MAP = {"analytics-android": "mobile", "analytics-ios": "mobile"}
WHOLE_SOURCE_MAP = dict.fromkeys(conf.MOBILE_LIBRARIES, "mobile")

MODULES = pytest.mark.parametrize("module", [common, production, testing])


# What the plugin does to settings ----------------------------------------------------------------


def test_today_s_libraries_are_added_to_the_platform_s_source_map() -> None:
    platform_s = dict(PLATFORM_SOURCE_MAP)
    settings = SimpleNamespace(TRACKING_SEGMENTIO_SOURCE_MAP=platform_s)
    common.plugin_settings(settings)
    assert settings.TRACKING_SEGMENTIO_SOURCE_MAP == WHOLE_SOURCE_MAP
    assert set(WHOLE_SOURCE_MAP) == TODAYS_LIBRARIES | set(PLATFORM_SOURCE_MAP)
    assert platform_s == PLATFORM_SOURCE_MAP


@pytest.mark.parametrize(
    "source_map",
    [
        {},
        None,
        {"analytics-android": "mobile"},
        {"analytics-android": "mobile", "analytics-ios": "phone"},
        {"analytics-android": "mobile", "analytics-ios": "mobile", "ours": "mobile"},
    ],
    ids=str,
)
def test_a_source_map_that_is_not_the_platform_s_stays(source_map: object) -> None:
    settings = SimpleNamespace(TRACKING_SEGMENTIO_SOURCE_MAP=source_map)
    common.plugin_settings(settings)
    assert settings.TRACKING_SEGMENTIO_SOURCE_MAP is source_map


def test_the_platform_s_source_map_stays_where_it_is_a_site_s_choice() -> None:
    settings = SimpleNamespace(TRACKING_SEGMENTIO_SOURCE_MAP=dict(PLATFORM_SOURCE_MAP))
    production.plugin_settings(settings)
    testing.plugin_settings(settings)
    assert settings.TRACKING_SEGMENTIO_SOURCE_MAP == PLATFORM_SOURCE_MAP


@MODULES
def test_no_setting_of_the_app_is_made_or_changed(module: Any) -> None:
    settings = SimpleNamespace()
    module.plugin_settings(settings)
    assert not [name for name in vars(settings) if name.startswith(conf.PREFIX)]
    site_s = {setting.name: object() for setting in conf.SETTINGS}
    settings = SimpleNamespace(**site_s)
    module.plugin_settings(settings)
    assert site_s.items() <= vars(settings).items()


@MODULES
@pytest.mark.parametrize(
    ("before", "after"),
    [
        (["^/event"], ["^/event", ENDPOINT_PATTERN]),
        (("^/event", "^/login"), ["^/event", "^/login", ENDPOINT_PATTERN]),
        ([], [ENDPOINT_PATTERN]),
        (None, [ENDPOINT_PATTERN]),
        ([ENDPOINT_PATTERN, "^/event"], [ENDPOINT_PATTERN, "^/event"]),
    ],
)
def test_the_endpoint_is_added_once_to_what_is_ignored(
    module: Any, before: Any, after: list[str]
) -> None:
    settings = SimpleNamespace(TRACKING_IGNORE_URL_PATTERNS=before)
    length = len(before or ())
    module.plugin_settings(settings)
    module.plugin_settings(settings)
    assert after == settings.TRACKING_IGNORE_URL_PATTERNS
    # Studio's settings share the lists of the LMS's.
    assert len(before or ()) == length


@MODULES
def test_the_endpoint_is_ignored_where_nothing_else_is(module: Any) -> None:
    settings = SimpleNamespace()
    module.plugin_settings(settings)
    (pattern,) = settings.TRACKING_IGNORE_URL_PATTERNS
    assert all(re.match(pattern, path) for path in (ENDPOINT, f"{ENDPOINT}/"))
    assert not re.match(pattern, "/segmentio/event")


@pytest.mark.parametrize(
    ("before", "between", "after"),
    [
        ({}, [NO_CREDENTIAL], []),
        ({"SILENCED_SYSTEM_CHECKS": None}, [NO_CREDENTIAL], []),
        ({"SILENCED_SYSTEM_CHECKS": ("a.W001",)}, ["a.W001", NO_CREDENTIAL], ["a.W001"]),
        # The site itself has silenced the check.
        ({"SILENCED_SYSTEM_CHECKS": [str(NO_CREDENTIAL)]}, [NO_CREDENTIAL] * 2, [NO_CREDENTIAL]),
    ],
)
def test_a_missing_credential_is_no_error_until_the_site_s_settings_are_there(
    before: dict[str, Any], between: list[str], after: list[str]
) -> None:
    settings = SimpleNamespace(**before)
    common.plugin_settings(settings)
    assert between == settings.SILENCED_SYSTEM_CHECKS
    testing.plugin_settings(settings)
    assert between == settings.SILENCED_SYSTEM_CHECKS
    production.plugin_settings(settings)
    assert after == settings.SILENCED_SYSTEM_CHECKS


@pytest.mark.parametrize("site_s", [{}, {"SILENCED_SYSTEM_CHECKS": None}], ids=str)
def test_the_site_s_yaml_may_have_replaced_what_common_has_set(site_s: dict[str, Any]) -> None:
    settings = SimpleNamespace(**site_s)
    production.plugin_settings(settings)
    assert settings.SILENCED_SYSTEM_CHECKS == []


# How the platform finds it -----------------------------------------------------------------------


def test_the_distribution_says_that_it_has_a_plugin_for_the_lms() -> None:
    (plugin,) = entry_points(group="lms.djangoapp", name="segmentio_bridge")
    assert plugin.dist
    assert plugin.dist.name == "segmentio-bridge"
    assert plugin.load() is SegmentioBridgeConfig


def test_the_app_is_installed_in_the_lms_and_not_in_studio() -> None:
    app = "segmentio_bridge.apps.SegmentioBridgeConfig"
    assert get_plugin_apps("lms.djangoapp").count(app) == 1
    assert app not in get_plugin_apps("cms.djangoapp")


def test_nothing_reads_settings_when_it_is_imported() -> None:
    modules = ["apps", *(f"plugin_settings.{name}" for name in ("common", "production", "test"))]
    imports = ", ".join(f"segmentio_bridge.{module}" for module in modules)
    script = f"import {imports}; from django.conf import settings; assert not settings.configured"
    environment = {key: value for key, value in os.environ.items() if not key.startswith("DJANGO")}
    subprocess.run([sys.executable, "-c", script], env=environment, check=True)


# A site that is laid out as the platform is ------------------------------------------------------


@dataclass(frozen=True)
class Visit:
    """What came of deliveries to the site: its tracking log, and its own report."""

    log: list[dict[str, Any]]
    answers: list[tuple[int, str]]
    checks: dict[str, str]
    patterns: list[str]
    silenced: list[str]
    source_map: dict[str, str | None]


def environment(yaml: str = "{}", patches: str = "", urls: str = "") -> dict[str, str]:
    return {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.platform.settings",
        "PLATFORM_PATCHES": patches,
        "PLATFORM_URLS": urls,
        "PLATFORM_YAML": yaml,
    }


def visit(*deliveries: tuple[str, Any], **site: str) -> Visit:
    """Deliver events to URLs of the site, which has the given YAML, patches and added URLs."""
    lines = [json.dumps({"url": url, "events": events}) for url, events in deliveries]
    result = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.platform"],
        cwd=ROOT,
        env=environment(**site),
        input="\n".join(lines),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    *log, report = (json.loads(line) for line in result.stdout.splitlines())
    report["answers"] = [tuple(answer) for answer in report["answers"]]
    return Visit(log=log, **report)


def check(settings: str) -> tuple[int, str]:
    """Run Django's own command on a settings module, and return its status and errors."""
    result = subprocess.run(
        [sys.executable, "-m", "django", "check"],
        cwd=ROOT,
        env={**environment(), "DJANGO_SETTINGS_MODULE": settings},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return result.returncode, result.stderr


OWN_VIEW = (200, "the platform's own view")
SET_SECRET = f"TRACKING_SEGMENTIO_WEBHOOK_SECRET = {SECRET!r}\n"


def make_event_of_library(name: str) -> dict[str, Any]:
    event = make_event()
    return {**event, "context": {**event["context"], "library": {"name": name}}}


@pytest.fixture(scope="module")
def visited() -> Visit:
    """The site as it is after installation: nothing is set but the secret."""
    return visit(
        (ENDPOINT + KEY, make_event()),
        (f"{ENDPOINT}/{KEY}", [make_event(), make_event_of_website(), make_event(userId="404")]),
        (f"{ENDPOINT}?key=guessed", make_event()),
        (f"/segmentio/event{KEY}", make_event()),
        ("/calculate?x=1", None),
        *((ENDPOINT + KEY, make_event_of_library(name)) for name in sorted(TODAYS_LIBRARIES)),
        patches=SET_SECRET,
    )


def test_deliveries_are_taken_at_the_plugin_s_own_mount(visited: Visit) -> None:
    assert visited.answers[:3] == [(200, ""), (200, ""), (401, "")]
    assert visited.log[0]["name"] == visited.log[1]["name"] == "edx.video.loaded"
    assert visited.log[1]["context"]["path"] == f"{ENDPOINT}/"


def test_the_platform_s_own_endpoint_stays_the_platform_s(visited: Visit) -> None:
    assert visited.answers[3] == OWN_VIEW


def test_today_s_libraries_are_accepted_unless_the_site_chose_others(visited: Visit) -> None:
    assert visited.source_map == WHOLE_SOURCE_MAP
    assert [status for status, _ in visited.answers[5:]] == [200] * len(TODAYS_LIBRARIES)
    logged = {event["context"]["client"]["library"]["name"] for event in visited.log[3:]}
    assert logged == TODAYS_LIBRARIES


def test_the_tracking_log_has_events_and_no_deliveries(visited: Visit) -> None:
    # The platform's middleware does log what it is not told to ignore.
    assert visited.log[2]["name"] == "/calculate"
    assert visited.log[2]["data"] == {"GET": {"x": "1"}}
    assert len(visited.log) == 3 + len(TODAYS_LIBRARIES)
    text = json.dumps(visited.log)
    assert "secret" not in text
    assert "guessed" not in text


def test_an_event_passes_the_platform_s_context_and_processors(visited: Visit) -> None:
    event = visited.log[0]
    raw = make_event()
    assert {**event, "context": None, "data": None, "timestamp": None} == {
        "accept_language": "en",
        "agent": raw["context"]["userAgent"],
        "context": None,
        "data": None,
        "event_source": "mobile",
        "event_type": "load_video",
        "host": "testserver",
        "ip": "",
        "name": "edx.video.loaded",
        "referer": "",
        "session": "",
        "time": "2026-03-02T09:15:27.352000+00:00",
        "timestamp": None,
        "username": "ada",
    }
    assert event["data"] == raw["properties"]["data"]
    context = event["context"]
    assert (context["client_id"], context["path"], context["user_id"]) == (None, ENDPOINT, 1)
    assert context["received_at"] == "2026-03-02T09:15:29.004000+00:00"
    assert context["org_id"] == "ExampleX"


def test_the_checks_have_nothing_to_say_after_installation(visited: Visit) -> None:
    assert visited.checks == {}
    assert visited.silenced == []
    assert visited.patterns.count(ENDPOINT_PATTERN) == 1
    assert "^/segmentio/event" in visited.patterns


def test_what_the_site_s_yaml_says_stays() -> None:
    chosen = {"analytics-ios": "phone", "analytics-swift": "phone", "analytics-flutter": None}
    site_s = {
        "SILENCED_SYSTEM_CHECKS": ["urls.W005"],
        "TRACKING_IGNORE_URL_PATTERNS": ["^/login"],
        "TRACKING_SEGMENTIO_SOURCE_MAP": chosen,
        "TRACKING_SEGMENTIO_WEBHOOK_SECRET": SECRET,
    }
    site = visit(
        *(
            (ENDPOINT + KEY, make_event_of_library(f"analytics-{name}"))
            for name in ("ios", "kotlin")
        ),
        (f"{ENDPOINT}/{KEY}", []),
        yaml=yaml.safe_dump(site_s),
    )
    assert site.source_map == chosen
    assert site.silenced == ["urls.W005"]
    assert site.patterns == ["^/login", ENDPOINT_PATTERN]
    assert [event["event_source"] for event in site.log] == ["phone"]
    assert set(site.checks) == {"segmentio_bridge.W008"}


def test_a_list_that_a_deployment_replaces_is_what_W004_is_for() -> None:
    site = visit(
        (ENDPOINT + KEY, []),
        patches=f"{SET_SECRET}TRACKING_IGNORE_URL_PATTERNS = ['^/login']",
    )
    assert set(site.checks) == {"segmentio_bridge.W004"}
    assert site.log[0]["data"] == {"GET": {"key": SECRET}}


def test_an_image_can_be_built_before_there_is_a_secret() -> None:
    assert check("tests.platform.common") == (0, "")
    status, errors = check("tests.platform.settings")
    assert status == 1
    assert NO_CREDENTIAL in errors


# W008: the source map lacks libraries that today's mobile apps are built with.


def run_W008() -> list[Any]:
    return [message for message in run_checks() if message.id == "segmentio_bridge.W008"]


@pytest.mark.parametrize(
    ("source_map", "missing"),
    [
        (PLATFORM_SOURCE_MAP, TODAYS_LIBRARIES),
        ({}, TODAYS_LIBRARIES),
        ({**WHOLE_SOURCE_MAP, "analytics-swift": "phone"}, set()),
        ({"analytics-swift": "mobile"}, TODAYS_LIBRARIES - {"analytics-swift"}),
        # The platform's own libraries of old may be missing.
        (dict.fromkeys(TODAYS_LIBRARIES, "mobile"), set()),
        # What is ignored on purpose is not missing.
        ({**WHOLE_SOURCE_MAP, "analytics-flutter": None, "analytics-kotlin": ""}, set()),
    ],
    ids=["platform's", "empty", "whole", "one", "today's", "ignored on purpose"],
)
def test_W008_names_what_is_missing(
    source_map: dict[str, str | None], missing: set[str], settings: Settings
) -> None:
    settings.TRACKING_SEGMENTIO_SOURCE_MAP = source_map
    messages = run_W008()
    assert len(messages) == bool(missing)
    for message in messages:
        assert isinstance(message, Warning)
        assert set(re.findall(r"[@\w/-]*analytics-[\w-]+", message.msg)) == missing
        assert '"mobile"' in str(message.hint)


def test_W008_not_for_the_default(settings: Settings) -> None:
    del settings.TRACKING_SEGMENTIO_SOURCE_MAP
    assert run_W008() == []


def test_W008_not_beside_E001(settings: Settings) -> None:
    settings.TRACKING_SEGMENTIO_SOURCE_MAP = ["analytics-kotlin"]
    assert run_W008() == []


# The page ----------------------------------------------------------------------------------------


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.M | re.S)


class Filter:
    """Collects what a Tutor plugin adds to one of Tutor's filters."""

    def __init__(self) -> None:
        self.items: list[tuple[str, str]] = []

    def add_item(self, item: tuple[str, str]) -> None:
        self.items.append(item)

    def add_items(self, items: Sequence[tuple[str, str]]) -> None:
        self.items.extend(items)


@pytest.fixture
def patches(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """What the page's Tutor plugin patches, with the secret in its place."""
    unique, added = Filter(), Filter()
    hooks = SimpleNamespace(Filters=SimpleNamespace(CONFIG_UNIQUE=unique, ENV_PATCHES=added))
    monkeypatch.setitem(sys.modules, "tutor", SimpleNamespace(hooks=hooks))
    exec("".join(block for block in blocks("python") if "hooks" in block), {})  # noqa: S102 - the page's
    ((name, _),) = unique.items
    patches: dict[str, list[str]] = {}
    for place, content in added.items:
        patches.setdefault(place, []).append(content.replace(f"{{{{ {name} }}}}", SECRET))
    return patches


def test_the_tutor_plugin_sets_the_secret(patches: dict[str, list[str]]) -> None:
    site = visit(
        (ENDPOINT + KEY, make_event()), patches="".join(patches["openedx-lms-common-settings"])
    )
    assert site.answers == [(200, "")]
    assert len(site.log) == 1
    assert site.checks == {}


def test_the_proxy_knows_the_endpoint_and_what_is_the_largest_body(
    patches: dict[str, list[str]],
) -> None:
    limit, rewriting = patches["caddyfile-lms"]
    assert f"handle {ENDPOINT}* {{" in limit
    (mebibytes,) = re.findall(r"max_size (\d+)MiB", limit)
    assert int(mebibytes) * 1024 * 1024 == conf.MAX_BODY_BYTES.default
    assert rewriting == f"rewrite /segmentio/event {ENDPOINT}"


def test_the_old_path_can_be_taken_over(patches: dict[str, list[str]], tmp_path: Path) -> None:
    (run,) = patches["openedx-dockerfile-post-git-checkout"]
    (command,) = re.findall(r"^RUN (.*)$", run, re.M)
    (tmp_path / "lms").mkdir()
    subprocess.run(["bash", "-c", command], cwd=tmp_path, check=True)
    site = visit(
        (f"/segmentio/event{KEY}", make_event()),
        (ENDPOINT + KEY, make_event()),
        patches=SET_SECRET,
        urls=(tmp_path / "lms/urls.py").read_text(),
    )
    assert site.answers == [(200, ""), (200, "")]
    assert [event["context"]["path"] for event in site.log] == ["/segmentio/event", ENDPOINT]
    assert site.checks == {}


def test_the_lines_for_settings_do_what_the_page_says() -> None:
    # The largest event that Segment takes, in letters that become the most characters in the log.
    data = {"text": "ж" * (32 * 1024 // 2)}
    largest = make_event(properties=make_properties(data=data))
    without = visit((ENDPOINT + KEY, largest), patches=SET_SECRET)
    lines = [block for block in blocks("python") if "hooks" not in block]
    assert len(lines) == 3
    site = visit(
        (ENDPOINT + KEY, largest), ("/something-else", []), patches="".join([SET_SECRET, *lines])
    )
    assert without.log == []
    assert [event["data"] for event in site.log] == [data]
    assert site.checks == {}


def test_the_yaml_of_the_page_is_what_it_says(settings: Settings) -> None:
    requirements, secret, source_map = (yaml.safe_load(block) for block in blocks("yaml"))
    assert requirements == {"OPENEDX_EXTRA_PIP_REQUIREMENTS": ["segmentio-bridge"]}
    assert f"--append OPENEDX_EXTRA_PIP_REQUIREMENTS={requirements.popitem()[1][0]}\n" in PAGE
    for name, value in {**secret, **source_map}.items():
        setattr(settings, name, value)
    assert [message for message in run_checks() if str(message.id).startswith("segmentio")] == []


@pytest.mark.parametrize("block", blocks("sh"))
def test_the_shell_takes_the_commands_of_the_page(block: str) -> None:
    subprocess.run(["bash", "-n"], input=block, text=True, check=True)


def test_every_setting_on_the_page_exists() -> None:
    from tests.platform import common as platform_s

    known = {
        *dir(platform_s),
        *dir(global_settings),
        *(setting.name for setting in conf.SETTINGS),
        "ATOMIC_REQUESTS",  # of a database
        "CONFIG_UNIQUE",  # Tutor's, and so are these
        "ENV_PATCHES",
        "OPENEDX_EXTRA_PIP_REQUIREMENTS",
        "SEGMENTIO_BRIDGE_SECRET",
    }
    named = set(re.findall(r"\b[A-Z]+(?:_[A-Z]+)+\b", PAGE))
    assert len(named) > 12
    assert named <= known
