"""The system checks, each by its id, through Django's own registry of checks."""

# ruff: noqa: N802 - ids of checks are written in capitals, in the names of their tests too.

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import Celery, current_app
from django.core.checks import CheckMessage, Error, Warning, run_checks
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.urls import URLPattern, get_script_prefix, set_script_prefix
from eventtracking.django.django_tracker import DjangoTracker
from eventtracking.tracker import TRACKERS, get_tracker, register_tracker
from pytest_django import Settings

# This module is the URLconf of a site that does not serve the endpoint.
urlpatterns: list[URLPattern] = []

LONG = "0123456789abcdef"
SHORT = "0123456789abcde"

LOGGER = "eventtracking.backends.logger.LoggerBackend"
ROUTING = "eventtracking.backends.routing.RoutingBackend"
ASYNC_ROUTING = "eventtracking.backends.async_routing.AsyncRoutingBackend"

MIDDLEWARE_OF_THE_PLATFORM = "common.djangoapps.track.middleware.TrackMiddleware"


def run(check_id: str) -> list[CheckMessage]:
    return [message for message in run_checks() if message.id == f"segmentio_bridge.{check_id}"]


def run_all() -> list[CheckMessage]:
    return [message for message in run_checks() if str(message.id).startswith("segmentio_bridge.")]


def logger_backend(**options: Any) -> dict[str, Any]:
    return {"ENGINE": LOGGER, "OPTIONS": {"name": "tracking", **options}}


def routing_backend(engine: str = ROUTING, **backends: Any) -> dict[str, Any]:
    return {"ENGINE": engine, "OPTIONS": {"backends": backends}}


UseTracker = Callable[[dict[str, Any]], None]


@pytest.fixture
def use_tracker(settings: Settings) -> Iterator[UseTracker]:
    """Make event-tracking's default tracker anew, from the given backends."""
    before = get_tracker()

    def use(backends: dict[str, Any]) -> None:
        settings.EVENT_TRACKING_BACKENDS = backends
        register_tracker(DjangoTracker())

    yield use
    register_tracker(before)


@pytest.fixture
def track_middleware(settings: Settings) -> None:
    """The platform's middleware is configured, in its place among the site's."""
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, MIDDLEWARE_OF_THE_PLATFORM]


@pytest.fixture
def script_prefix() -> Iterator[Callable[[str], None]]:
    """Serve the site below a prefix, as `django.setup()` does for FORCE_SCRIPT_NAME."""
    before = get_script_prefix()
    yield set_script_prefix
    set_script_prefix(before)


def test_nothing_to_say_about_a_site_that_is_set_up_well(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run_all() == []
    call_command("check", fail_level="DEBUG")
    assert "no issues" in capsys.readouterr().out


def test_every_message_has_a_hint(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(TRACKERS, "default")
    settings.TRACKING_SEGMENTIO_WEBHOOK_SECRET = None
    settings.TRACKING_SEGMENTIO_MAX_BODY_BYTES = "16M"
    settings.TRACKING_SEGMENTIO_SOURCEMAP = {}
    messages = run_all()
    assert {message.id for message in messages} == {
        "segmentio_bridge.E001",
        "segmentio_bridge.E002",
        "segmentio_bridge.E003",
        "segmentio_bridge.W001",
    }
    assert all(message.hint for message in messages)


# E001: a setting has a value of the wrong kind.


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WEBHOOK_SECRET", 5),
        ("SIGNATURE_SECRET", b"bytes"),
        ("ALLOWED_TYPES", "track"),
        ("DISALLOWED_SUBSTRING_NAMES", [""]),
        ("SOURCE_MAP", ["analytics-ios"]),
        ("PROTECTED_CONTEXT_KEYS", None),
        ("MAX_BODY_BYTES", "16777216"),
    ],
)
def test_E001_names_the_setting(name: str, value: object, settings: Settings) -> None:
    setattr(settings, f"TRACKING_SEGMENTIO_{name}", value)
    (message,) = run("E001")
    assert isinstance(message, Error)
    assert f"TRACKING_SEGMENTIO_{name} must be " in message.msg


def test_E001_once_for_each_wrong_setting(settings: Settings) -> None:
    settings.TRACKING_SEGMENTIO_ALLOWED_TYPES = "track"
    settings.TRACKING_SEGMENTIO_MAX_BODY_BYTES = 0
    assert [message.msg.split()[0] for message in run("E001")] == [
        "TRACKING_SEGMENTIO_ALLOWED_TYPES",
        "TRACKING_SEGMENTIO_MAX_BODY_BYTES",
    ]


def test_E001_stops_the_check_command(settings: Settings) -> None:
    settings.TRACKING_SEGMENTIO_WEBHOOK_SECRET = [LONG, None]
    with pytest.raises(SystemCheckError) as caught:
        call_command("check")
    assert "segmentio_bridge.E001" in str(caught.value)
    assert "TRACKING_SEGMENTIO_WEBHOOK_SECRET" in str(caught.value)


# E002: no credential is configured.


@pytest.mark.parametrize("key", [None, "", [], [""]], ids=repr)
@pytest.mark.parametrize("signature_secret", [None, "", [], [""]], ids=repr)
def test_E002_without_a_credential(
    key: object, signature_secret: object, settings: Settings
) -> None:
    settings.TRACKING_SEGMENTIO_WEBHOOK_SECRET = key
    settings.TRACKING_SEGMENTIO_SIGNATURE_SECRET = signature_secret
    (message,) = run("E002")
    assert isinstance(message, Error)
    assert "TRACKING_SEGMENTIO_WEBHOOK_SECRET" in str(message.hint)


def test_E002_without_the_settings(settings: Settings) -> None:
    del settings.TRACKING_SEGMENTIO_WEBHOOK_SECRET
    del settings.TRACKING_SEGMENTIO_SIGNATURE_SECRET
    assert len(run("E002")) == 1


@pytest.mark.parametrize(
    ("key", "signature_secret"),
    [(LONG, None), (["", LONG], None), (None, LONG), (LONG, LONG), (SHORT, None)],
)
def test_E002_not_with_any_credential(
    key: object, signature_secret: object, settings: Settings
) -> None:
    settings.TRACKING_SEGMENTIO_WEBHOOK_SECRET = key
    settings.TRACKING_SEGMENTIO_SIGNATURE_SECRET = signature_secret
    assert run("E002") == []


def test_E002_not_beside_E001(settings: Settings) -> None:
    settings.TRACKING_SEGMENTIO_WEBHOOK_SECRET = 5
    assert [message.id for message in run_all()] == ["segmentio_bridge.E001"]


# E003: there is no tracker.


def test_E003_without_a_tracker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(TRACKERS, "default")
    (message,) = run("E003")
    assert isinstance(message, Error)
    assert "EVENT_TRACKING_ENABLED" in str(message.hint)


def test_E003_not_with_a_tracker(use_tracker: UseTracker) -> None:
    use_tracker({})
    assert run("E003") == []


# W001: a name is no setting's.


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("WEBHOOK_SECRETS", "Did you mean TRACKING_SEGMENTIO_WEBHOOK_SECRET?"),
        ("WEBHOOKSECRET", "Did you mean TRACKING_SEGMENTIO_WEBHOOK_SECRET?"),
        ("SIGNATUR_SECRET", "Did you mean TRACKING_SEGMENTIO_SIGNATURE_SECRET?"),
        ("ALLOWED_TYPE", "Did you mean TRACKING_SEGMENTIO_ALLOWED_TYPES?"),
        (
            "DISALLOWED_SUBSTRINGS_NAMES",
            "Did you mean TRACKING_SEGMENTIO_DISALLOWED_SUBSTRING_NAMES?",
        ),
        ("SOURCES_MAP", "Did you mean TRACKING_SEGMENTIO_SOURCE_MAP?"),
        ("MAX_BODY_BYTE", "Did you mean TRACKING_SEGMENTIO_MAX_BODY_BYTES?"),
        # Only the prefix resembles a setting, and that tells nothing.
        ("FOO", "Remove it."),
        ("URL", "Remove it."),
        ("NOTHING_THAT_RESEMBLES_ANY_OF_THEM_IN_THE_LEAST_OR_AT_ALL", "Remove it."),
    ],
)
def test_W001_suggests_what_was_meant(name: str, hint: str, settings: Settings) -> None:
    setattr(settings, f"TRACKING_SEGMENTIO_{name}", "a value")
    (message,) = run("W001")
    assert isinstance(message, Warning)
    assert message.msg.startswith(f"TRACKING_SEGMENTIO_{name} ")
    assert message.hint == hint


@pytest.mark.parametrize(
    "name",
    [
        # Other settings of the platform's, which the bridge has no opinion on.
        "TRACKING_IGNORE_URL_PATTERNS",
        "TRACKING_BACKENDS",
        "SEGMENT_KEY",
        "TRACKING_SEGMENTIO_SOURCE_MAP",
    ],
)
def test_W001_not_for_other_names(name: str, settings: Settings) -> None:
    setattr(settings, name, {})
    assert run("W001") == []


# W002: a secret is too short.

CREDENTIALS = ["WEBHOOK_SECRET", "SIGNATURE_SECRET"]


@pytest.mark.parametrize("name", CREDENTIALS)
@pytest.mark.parametrize(
    "value",
    [
        SHORT,
        [SHORT],
        (LONG, SHORT),
        "x",
        # Fewer than 16 characters, though not fewer than 16 bytes.
        pytest.param("é" * 15, id="15 characters in 30 bytes"),
    ],
)
def test_W002_for_fewer_than_16_characters(name: str, value: object, settings: Settings) -> None:
    settings.TRACKING_SEGMENTIO_WEBHOOK_SECRET = LONG
    setattr(settings, f"TRACKING_SEGMENTIO_{name}", value)
    (message,) = run("W002")
    assert isinstance(message, Warning)
    assert message.msg.startswith(f"TRACKING_SEGMENTIO_{name} ")


def test_W002_for_both_credentials(settings: Settings) -> None:
    settings.TRACKING_SEGMENTIO_WEBHOOK_SECRET = SHORT
    settings.TRACKING_SEGMENTIO_SIGNATURE_SECRET = SHORT
    assert len(run("W002")) == 2


@pytest.mark.parametrize("name", CREDENTIALS)
@pytest.mark.parametrize("value", [LONG, [LONG, ""], [LONG, LONG * 2]])
def test_W002_not_for_16_characters(name: str, value: object, settings: Settings) -> None:
    settings.TRACKING_SEGMENTIO_WEBHOOK_SECRET = LONG
    setattr(settings, f"TRACKING_SEGMENTIO_{name}", value)
    assert run("W002") == []


# W003: a logger backend drops events of an ordinary size.


@pytest.mark.parametrize(
    ("backends", "names"),
    [
        pytest.param({"logs": logger_backend()}, ["logs"], id="at the top"),
        pytest.param({"logs": {"ENGINE": LOGGER}}, ["logs"], id="without options"),
        pytest.param(
            {"logs": logger_backend(max_event_size=1024)}, ["logs"], id="the default, spelt out"
        ),
        pytest.param({"logs": logger_backend(max_event_size=500)}, ["logs"], id="even less"),
        pytest.param({"route": routing_backend(logs=logger_backend())}, ["logs"], id="in a router"),
        pytest.param(
            {
                "route": routing_backend(
                    deep=routing_backend(deeper=routing_backend(logs=logger_backend()))
                )
            },
            ["logs"],
            id="three routers deep",
        ),
        pytest.param(
            {"route": routing_backend(ASYNC_ROUTING, logs=logger_backend())},
            ["logs"],
            id="in an asynchronous router",
        ),
        pytest.param(
            {
                "first": logger_backend(),
                "route": routing_backend(
                    fine=logger_backend(max_event_size=None), second=logger_backend()
                ),
                "third": logger_backend(),
            },
            ["first", "second", "third"],
            id="several",
        ),
    ],
)
def test_W003_for_the_default_size_and_less(
    backends: dict[str, Any], names: list[str], use_tracker: UseTracker
) -> None:
    use_tracker(backends)
    messages = run("W003")
    assert all(isinstance(message, Warning) for message in messages)
    assert [re.findall("'(.*?)'", message.msg) for message in messages] == [
        [name] for name in names
    ]


@pytest.mark.parametrize(
    "backends",
    [
        pytest.param({}, id="none"),
        pytest.param({"logs": logger_backend(max_event_size=50_000)}, id="the platform's size"),
        pytest.param({"logs": logger_backend(max_event_size=None)}, id="no limit"),
        pytest.param(
            {"route": routing_backend(logs=logger_backend(max_event_size=50_000))}, id="in a router"
        ),
        pytest.param({"route": routing_backend()}, id="an empty router"),
        pytest.param({"route": {"ENGINE": ROUTING}}, id="a router without options"),
    ],
)
def test_W003_not_for_a_chosen_size(backends: dict[str, Any], use_tracker: UseTracker) -> None:
    use_tracker(backends)
    assert run("W003") == []


# W004: the platform's middleware would write the secret to the tracking log.


@pytest.mark.usefixtures("track_middleware")
@pytest.mark.parametrize(
    ("patterns", "logged"),
    [
        ([], ["/segmentio/event", "/segmentio/event/"]),
        (["^/event", "^/login", "^/heartbeat"], ["/segmentio/event", "/segmentio/event/"]),
        # TrackMiddleware uses re.match, which looks at the beginning only.
        (["segmentio"], ["/segmentio/event", "/segmentio/event/"]),
        (["^/segmentio_bridge/event"], ["/segmentio/event", "/segmentio/event/"]),
        (["^/segmentio/event$"], ["/segmentio/event/"]),
        ([r"^/segmentio/event\Z"], ["/segmentio/event/"]),
        (["^/segmentio/event/"], ["/segmentio/event"]),
        (["^/event", "^/segmentio/event/$"], ["/segmentio/event"]),
    ],
)
def test_W004_for_a_spelling_that_is_logged(
    patterns: list[str], logged: list[str], settings: Settings
) -> None:
    settings.TRACKING_IGNORE_URL_PATTERNS = patterns
    (message,) = run("W004")
    assert isinstance(message, Warning)
    assert f"matches {' or '.join(logged)}: " in message.msg
    assert "?key=" in message.msg
    assert "change the secret" in str(message.hint)


@pytest.mark.usefixtures("track_middleware")
def test_W004_without_the_setting(settings: Settings) -> None:
    del settings.TRACKING_IGNORE_URL_PATTERNS
    assert len(run("W004")) == 1


@pytest.mark.usefixtures("track_middleware")
@pytest.mark.parametrize(
    "patterns",
    [
        ["^/event", "^/login", "^/heartbeat", "^/segmentio/event", "^/performance"],
        ["/segmentio/event"],
        ["^/segmentio/event/?$"],
        ["^/segmentio/"],
        ["^/segmentio/event$", "^/segmentio/event/$"],
        ("",),
        [re.compile("^/segmentio/event")],
    ],
    ids=str,
)
def test_W004_not_if_both_spellings_are_covered(patterns: object, settings: Settings) -> None:
    settings.TRACKING_IGNORE_URL_PATTERNS = patterns
    assert run("W004") == []


@pytest.mark.usefixtures("track_middleware")
def test_W004_goes_once_its_hint_is_followed(settings: Settings) -> None:
    (message,) = run("W004")
    settings.TRACKING_IGNORE_URL_PATTERNS = re.findall("'(.*?)'", str(message.hint))
    assert run("W004") == []


@pytest.mark.usefixtures("track_middleware")
def test_W004_not_if_the_endpoint_is_not_served(settings: Settings) -> None:
    settings.ROOT_URLCONF = __name__
    assert run("W004") == []


@pytest.mark.parametrize(
    ("middleware", "count"),
    [
        (MIDDLEWARE_OF_THE_PLATFORM, 1),
        ("track.middleware.TrackMiddleware", 1),
        ("lms.track.middleware.TrackMiddleware", 1),
        # Others of a similar name write no query to the tracking log.
        ("eventtracking.django.middleware.TrackRequestMiddleware", 0),
        ("soundtrack.middleware.TrackMiddleware", 0),
        ("track.middleware.TrackMiddlewareOfOurs", 0),
    ],
)
def test_W004_only_with_the_middleware_of_the_platform(
    middleware: str, count: int, settings: Settings
) -> None:
    settings.MIDDLEWARE = [middleware]
    assert len(run("W004")) == count


# TrackMiddleware matches the patterns against PATH_INFO, which lacks the prefix.
@pytest.mark.usefixtures("track_middleware")
@pytest.mark.parametrize(
    ("pattern", "count"), [("^/segmentio/event", 0), ("^/lms/segmentio/event", 1)]
)
def test_W004_takes_the_path_as_the_middleware_sees_it(
    pattern: str, count: int, settings: Settings, script_prefix: Callable[[str], None]
) -> None:
    script_prefix("/lms/")
    settings.TRACKING_IGNORE_URL_PATTERNS = [pattern]
    assert len(run("W004")) == count


# W005: a signature without a key.


@pytest.mark.parametrize("key", [None, "", [""]], ids=repr)
@pytest.mark.parametrize("signature_secret", [LONG, ["", LONG]], ids=repr)
def test_W005_for_a_signature_without_a_key(
    key: object, signature_secret: object, settings: Settings
) -> None:
    settings.TRACKING_SEGMENTIO_WEBHOOK_SECRET = key
    settings.TRACKING_SEGMENTIO_SIGNATURE_SECRET = signature_secret
    (message,) = run("W005")
    assert isinstance(message, Warning)
    assert message.hint == "Set TRACKING_SEGMENTIO_WEBHOOK_SECRET too."


@pytest.mark.parametrize(
    ("key", "signature_secret"), [(LONG, LONG), (LONG, None), (None, None), (None, [""])]
)
def test_W005_not_otherwise(key: object, signature_secret: object, settings: Settings) -> None:
    settings.TRACKING_SEGMENTIO_WEBHOOK_SECRET = key
    settings.TRACKING_SEGMENTIO_SIGNATURE_SECRET = signature_secret
    assert run("W005") == []


# No message of any check holds a secret.


@pytest.mark.usefixtures("track_middleware")
@pytest.mark.parametrize("name", CREDENTIALS)
@pytest.mark.parametrize(
    "value",
    [
        "hunter2",
        ["hunter2", "hunter2" * 3],
        b"hunter2",
        ["hunter2", None],
        {"hunter2": "hunter2"},
        "hunter2\ud800",
        ["hunter2", "hunter2\ud800"],
    ],
    ids=ascii,
)
def test_no_message_holds_a_secret(name: str, value: object, settings: Settings) -> None:
    setattr(settings, f"TRACKING_SEGMENTIO_{name}", value)
    # Somebody may well put a secret under a name that is misspelt.
    settings.TRACKING_SEGMENTIO_WEBHOOK_SECERT = "hunter2"
    messages = run_all()
    assert {"segmentio_bridge.W001", "segmentio_bridge.W004"} < {message.id for message in messages}
    for message in messages:
        assert "hunter2" not in f"{message} {message!r} {message.msg} {message.hint}"
    with pytest.raises(SystemCheckError) as caught:
        call_command("check", fail_level="WARNING")
    assert "hunter2" not in str(caught.value)


# W006: the processes of the site do not see each other's claims.


def cache_of(backend: str, **options: Any) -> dict[str, Any]:
    return {"BACKEND": f"django.core.cache.backends.{backend}", **options}


@pytest.mark.parametrize(
    ("cache", "name"),
    [
        (cache_of("locmem.LocMemCache"), "LocMemCache"),
        (cache_of("dummy.DummyCache"), "DummyCache"),
        (cache_of("filebased.FileBasedCache", LOCATION="/nowhere"), "FileBasedCache"),
    ],
)
def test_W006_for_a_cache_of_one_process(
    cache: dict[str, Any], name: str, settings: Settings
) -> None:
    settings.CACHES = {"default": cache_of("db.DatabaseCache", LOCATION="caches"), "claims": cache}
    settings.TRACKING_SEGMENTIO_DEDUPLICATION_SECONDS = 3600
    settings.TRACKING_SEGMENTIO_CACHE = "claims"
    (message,) = run("W006")
    assert name in message.msg
    assert "'claims'" in message.msg
    settings.TRACKING_SEGMENTIO_CACHE = "default"
    assert run("W006") == []


def test_W006_not_without_deduplication(settings: Settings) -> None:
    settings.CACHES = {"default": cache_of("dummy.DummyCache")}
    assert run("W006") == []


def test_W006_not_beside_E001(settings: Settings) -> None:
    settings.TRACKING_SEGMENTIO_DEDUPLICATION_SECONDS = "an hour"
    assert run("W006") == []
    assert len(run("E001")) == 1


# W007: in queue mode, Celery or its broker is set up to lose or to double events.


@pytest.fixture
def celery() -> Iterator[Celery]:
    """The current Celery app, set up well."""
    before = current_app._get_current_object()
    app = Celery("checked", broker="amqp://127.0.0.1//", set_as_current=True)
    yield app
    app.close()
    before.set_current()


PROBLEMS: list[tuple[dict[str, Any], str]] = [
    ({"task_always_eager": True}, "task_always_eager"),
    ({"broker_url": "memory://"}, "memory"),
    ({"task_default_delivery_mode": "transient"}, "transient"),
    ({"task_default_delivery_mode": 1}, "transient"),
    ({"broker_transport_options": {"visibility_timeout": 600}}, "visibility_timeout"),
    ({"broker_transport_options": {"ack_emulation": False}}, "ack_emulation"),
]


@pytest.mark.parametrize(("configuration", "problem"), PROBLEMS)
def test_W007_for_a_queue_that_loses_or_doubles(
    configuration: dict[str, Any], problem: str, celery: Celery, settings: Settings
) -> None:
    celery.conf.update(configuration)
    assert run("W007") == []
    settings.TRACKING_SEGMENTIO_DELIVERY = "celery"
    (message,) = run("W007")
    assert problem in message.msg


@pytest.mark.parametrize(
    "configuration",
    [
        {},
        {"broker_url": "redis://127.0.0.1/0"},
        {"broker_transport_options": {"visibility_timeout": 3600, "ack_emulation": True}},
        {"task_default_delivery_mode": "persistent"},
    ],
)
def test_W007_not_for_a_queue_that_keeps_what_it_takes(
    configuration: dict[str, Any], celery: Celery, settings: Settings
) -> None:
    settings.TRACKING_SEGMENTIO_DELIVERY = "celery"
    celery.conf.update(configuration)
    assert run("W007") == []


def test_W007_not_beside_E001(settings: Settings) -> None:
    settings.TRACKING_SEGMENTIO_DELIVERY = "rabbitmq"
    assert run("W007") == []
    (message,) = run("E001")
    assert "inline" in message.msg
    assert "celery" in message.msg
