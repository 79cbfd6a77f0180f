"""What sites test with is what a site needs: tried here on this site, and on one of its own."""

from __future__ import annotations

import copy
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, current_app
from django.contrib.auth.models import User
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpResponse
from django.test import override_settings
from django.urls import include, path, set_script_prefix
from eventtracking.backends.routing import RoutingBackend
from eventtracking.processors.exceptions import EventEmissionExit
from eventtracking.tracker import Tracker, emit, get_tracker
from pytest_django import Settings

from segmentio_bridge.testing import (
    EmittedEvent,
    capture_emitted,
    deliver,
    make_batch,
    make_event,
    make_properties,
)
from tests.conftest import registered

Deliver = Callable[..., HttpResponse]
Emitted = list[EmittedEvent]
Run = Callable[..., pytest.RunResult]

PAGE = Path(__file__).parent.parent / "docs" / "testing.md"

#: A site that the endpoint is at an unusual place of, that redirects to https, and whose processor
#: drops all events after it has spoilt them.
SITE = {
    "settings": """
        ALLOWED_HOSTS = []
        DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
        DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
        INSTALLED_APPS = [
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "eventtracking.django.apps.EventTrackingConfig",
            "segmentio_bridge",
        ]
        MIDDLEWARE = [
            "django.middleware.security.SecurityMiddleware",
            "django.middleware.csrf.CsrfViewMiddleware",
        ]
        ROOT_URLCONF = "site_urls"
        SECRET_KEY = "a site of its own"
        SECURE_SSL_REDIRECT = True
        USE_TZ = True
        EVENT_TRACKING_ENABLED = True
        EVENT_TRACKING_PROCESSORS = [{"ENGINE": "site_processors.Spoiler"}]
        TRACKING_SEGMENTIO_WEBHOOK_SECRET = ["the new key of the site", "the old key"]
        TRACKING_SEGMENTIO_SIGNATURE_SECRET = "what the site's Segment signs with"
    """,
    "site_urls": """
        from django.urls import include, path

        urlpatterns = [path("far/away/", include("segmentio_bridge.urls"))]
    """,
    "site_processors": """
        from eventtracking.processors.exceptions import EventEmissionExit

        class Spoiler:
            def __call__(self, event):
                event["data"].clear()
                event["context"].clear()
                raise EventEmissionExit
    """,
}


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run tests in a process of their own, as those of another project."""
    monkeypatch.delenv("DJANGO_SETTINGS_MODULE")
    pytester.makeini("[pytest]\nfilterwarnings = error\n")

    def run(*arguments: str, **modules: str) -> pytest.RunResult:
        pytester.makepyfile(**modules)
        return pytester.runpytest_subprocess(*arguments)

    return run


def test_the_examples_of_the_docs_pass_at_a_site(run: Run) -> None:
    examples = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.M | re.S)
    tests = {f"test_example_{number}": example for number, example in enumerate(examples)}
    run("--ds=settings", **SITE, **tests).assert_outcomes(passed=4)


def test_without_pytest_django_tests_are_skipped(run: Run) -> None:
    result = run(
        "-p",
        "no:django",
        "-rs",
        test_skipped="""
        def test_deliver(segmentio_deliver):
            raise AssertionError

        def test_emitted(segmentio_emitted):
            raise AssertionError
        """,
    )
    result.assert_outcomes(skipped=2)
    result.stdout.fnmatch_lines(["*need pytest-django, which sets Django up*"])


def test_the_plugin_costs_other_projects_nothing(run: Run) -> None:
    result = run(
        test_modules="""
        import sys

        def test_modules():
            ours = {name for name in sys.modules if name.startswith("segmentio_bridge")}
            assert ours == {"segmentio_bridge", "segmentio_bridge.pytest_plugin"}
        """
    )
    result.assert_outcomes(passed=1)


def test_production_imports_nothing_for_tests() -> None:
    program = (
        "import sys; import segmentio_bridge.sender; "
        "sys.exit(bool({'pytest', 'django.test', 'unittest.mock'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_an_event_is_recorded(
    learner: User, segmentio_deliver: Deliver, segmentio_emitted: Emitted
) -> None:
    raw = make_event()
    assert segmentio_deliver(raw).status_code == 200
    (event,) = segmentio_emitted
    assert (event.name, event.data) == (raw["properties"]["name"], raw["properties"]["data"])
    assert event.context["username"] == "ada"
    assert event.context["client"]["library"] == raw["context"]["library"]


def test_overrides_replace_fields() -> None:
    event = make_event(userId="7", properties=make_properties(name="a name", more=1))
    assert (event["userId"], event["properties"]["name"]) == ("7", "a name")
    assert event.keys() == make_event().keys()
    assert event["properties"].keys() == {*make_properties(), "more"}


def test_events_have_nothing_in_common_but_their_values() -> None:
    first, second = make_batch(2, context={"library": {"name": "analytics-ios"}})
    assert first.pop("messageId") != second.pop("messageId")
    assert first == second
    before = copy.deepcopy(second)
    first["context"]["library"]["name"] = first["properties"]["data"]["code"] = "changed"
    assert second == before


@pytest.mark.parametrize("signature_secret", [None, "a secret to sign with", ["", "ключ", "old"]])
@pytest.mark.parametrize("key", [None, "a key", ["", "ключ", "old"]])
def test_the_credentials_are_those_of_the_site(
    key: object,
    signature_secret: object,
    learner: User,
    settings: Settings,
    segmentio_emitted: Emitted,
) -> None:
    settings.TRACKING_SEGMENTIO_WEBHOOK_SECRET = key
    settings.TRACKING_SEGMENTIO_SIGNATURE_SECRET = signature_secret
    statuses = {deliver(make_event()).status_code, deliver(make_batch(2)).status_code}
    if key or signature_secret:
        assert statuses == {200}
        assert len(segmentio_emitted) == 3
    else:
        assert statuses == {401}
        assert segmentio_emitted == []


@pytest.mark.parametrize("name", ["Authorization", "authorization", "X-Signature", "x-signature"])
def test_headers_take_the_place_of_credentials(
    name: str, segmentio_deliver: Deliver, settings: Settings
) -> None:
    settings.TRACKING_SEGMENTIO_SIGNATURE_SECRET = "a secret to sign with"
    assert segmentio_deliver(make_event()).status_code == 200
    assert segmentio_deliver(make_event(), headers={name: "Bearer wrong"}).status_code == 401


def test_bodies_go_as_they_are(segmentio_deliver: Deliver) -> None:
    assert segmentio_deliver(b"{").status_code == 400
    assert segmentio_deliver(b"").status_code == 400
    assert segmentio_deliver([], headers={"Content-Type": "text/plain"}).status_code == 415


urlpatterns = [path("elsewhere/", include("segmentio_bridge.urls"))]


def test_the_endpoint_is_found_where_it_is(
    learner: User, segmentio_emitted: Emitted, settings: Settings
) -> None:
    settings.ROOT_URLCONF = __name__
    settings.FORCE_SCRIPT_NAME = "/below/"
    set_script_prefix("/below/")
    try:
        assert deliver(make_event()).status_code == 200
    finally:
        set_script_prefix("/")
    assert len(segmentio_emitted) == 1


def test_queue_mode_can_be_tested_where_tasks_run_at_once(
    learner: User,
    settings: Settings,
    segmentio_deliver: Deliver,
    segmentio_emitted: Emitted,
) -> None:
    settings.TRACKING_SEGMENTIO_DELIVERY = "celery"
    before = current_app._get_current_object()
    app = Celery("tests", broker="memory://", set_as_current=True)
    app.conf.task_always_eager = True
    try:
        assert segmentio_deliver(make_batch(2)).status_code == 200
    finally:
        app.close()
        before.set_current()
    assert len(segmentio_emitted) == 2


def test_what_is_captured_is_what_was_handed_over(learner: User) -> None:
    class Broken:
        def send(self, event: Any) -> None:
            raise RuntimeError

    def spoil(event: Any) -> Any:
        event["data"]["list"].append("spoilt")
        event["context"]["client"]["library"]["name"] = "spoilt"
        if event["data"]["list"][0] == "drop":
            raise EventEmissionExit
        return event

    tracker = Tracker({"router": RoutingBackend({"broken": Broken()}, [spoil])}, None, [spoil])
    with registered(tracker), capture_emitted() as emitted, tracker.context("a", {"around": 1}):
        for word in ("drop", "keep"):
            deliver(make_event(properties=make_properties(data={"list": [word]})))
    assert [event.data for event in emitted] == [{"list": ["drop"]}, {"list": ["keep"]}]
    for event in emitted:
        assert type(event.data) is type(event.context["client"]) is dict
        assert event.context["client"]["library"]["name"] == "analytics-kotlin"
        assert event.context["around"] == 1


def test_what_others_emit_is_let_through(
    segmentio_emitted: Emitted, tracking_log: list[dict[str, Any]]
) -> None:
    emit("of the site's own", {"x": 1})
    assert [event["name"] for event in tracking_log] == ["of the site's own"]
    assert segmentio_emitted == []


def test_what_the_tracker_refuses_is_not_emitted(learner: User) -> None:
    class Refusing(Tracker):
        def emit(self, name: Any = None, data: Any = None) -> None:
            raise RuntimeError

    with registered(Refusing()), capture_emitted() as emitted:
        assert deliver(make_event()).status_code == 503
    assert emitted == []


def test_captures_leave_no_trace(learner: User, tracking_log: list[dict[str, Any]]) -> None:
    tracker = get_tracker()
    before = dict(vars(tracker))
    with capture_emitted() as outer:
        deliver(make_event())
        with suppress(ZeroDivisionError), capture_emitted() as inner:
            deliver(make_event())
            _ = 1 / 0
        deliver(make_event())
    deliver(make_event())
    assert (len(outer), len(inner), len(tracking_log)) == (3, 1, 4)
    assert get_tracker() is tracker
    assert vars(tracker) == before


def test_without_a_tracker_there_is_nothing_to_capture() -> None:
    with registered(None), pytest.raises(ImproperlyConfigured, match="EVENT_TRACKING_ENABLED"):
        capture_emitted().__enter__()


@override_settings(TRACKING_SEGMENTIO_DEDUPLICATION_SECONDS=60)
def test_no_event_is_the_duplicate_of_another(
    learner: User, segmentio_deliver: Deliver, segmentio_emitted: Emitted
) -> None:
    batch = make_batch(3)
    for delivery in (batch, make_batch(3), batch):
        assert segmentio_deliver(delivery).status_code == 200
    assert len(segmentio_emitted) == 6
