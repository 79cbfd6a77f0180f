"""System checks: what an operator should know before the first event arrives, or gets lost.

Run by Django, which documents them: https://docs.djangoproject.com/en/stable/topics/checks/. They
trust the site's settings. A wrong value of the app's own is E001, and the other checks that need it
pass. Another setting that is wrong, such as a cache's backend that cannot be imported or a pattern
that is none, raises what Python and Django raise for it.

Ids are interface: once released, an id does not change its meaning.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core.cache.backends.dummy import DummyCache
from django.core.cache.backends.filebased import FileBasedCache
from django.core.cache.backends.locmem import LocMemCache
from django.core.checks import CheckMessage, Error, Warning, register
from django.core.exceptions import ImproperlyConfigured
from django.urls import NoReverseMatch, get_script_prefix, reverse
from django.utils.module_loading import import_string
from eventtracking.backends.logger import MAX_EVENT_SIZE, LoggerBackend

from . import conf
from .emission import find_tracker

_MIN_SECRET_LENGTH = 16

# Twice the longest wait between two attempts of a task.
_MIN_VISIBILITY_TIMEOUT = 1200

# The older ones, which a site need not have: today's apps are not built with them.
_FORMER_LIBRARIES = ("analytics-android", "analytics-ios")

_TRACK_MIDDLEWARE = re.compile(r"(?:.*\.)?track\.middleware\.TrackMiddleware")


@register
def check_settings(app_configs: Iterable[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """E001: a setting has a value of the wrong kind. W001: a name is no setting's."""
    messages: list[CheckMessage] = []
    for setting in conf.SETTINGS:
        try:
            setting.get()
        except ImproperlyConfigured as error:
            messages.append(
                Error(
                    str(error),
                    hint="Until this is mended, the deliveries that it concerns are answered 503.",
                    id="segmentio_bridge.E001",
                )
            )
    # Compared without what all of them begin with, which would make any two of them alike.
    names = [setting.name.removeprefix(conf.PREFIX) for setting in conf.SETTINGS]
    for full_name in dir(settings):
        name = full_name.removeprefix(conf.PREFIX)
        if name != full_name and name not in names:
            close = difflib.get_close_matches(name, names, n=1)
            messages.append(
                Warning(
                    f"{full_name} is no setting of segmentio_bridge.",
                    hint=f"Did you mean {conf.PREFIX}{close[0]}?" if close else "Remove it.",
                    id="segmentio_bridge.W001",
                )
            )
    return messages


@register
def check_credentials(app_configs: Iterable[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """E002: no credential. W002: a short secret. W005: a signature without a key.

    A secret is short if it has fewer than 16 characters.
    """
    try:
        keys = conf.WEBHOOK_SECRET.get()
        signature_secrets = conf.SIGNATURE_SECRET.get()
    except ImproperlyConfigured:
        return []  # E001 has said so.
    messages: list[CheckMessage] = []
    if not keys and not signature_secrets:
        messages.append(
            Error(
                "No credential is configured: every delivery is answered 401.",
                hint=f"Set {conf.WEBHOOK_SECRET.name} to a long random string, and have "
                "Segment send it, in the header Authorization: Bearer ….",
                id="segmentio_bridge.E002",
            )
        )
    if signature_secrets and not keys:
        messages.append(
            Warning(
                f"{conf.SIGNATURE_SECRET.name} is set without {conf.WEBHOOK_SECRET.name}: Segment "
                "signs only the first event of a batch, so that the others could be anybody's.",
                hint=f"Set {conf.WEBHOOK_SECRET.name} too.",
                id="segmentio_bridge.W005",
            )
        )
    for setting, secrets in (
        (conf.WEBHOOK_SECRET, keys),
        (conf.SIGNATURE_SECRET, signature_secrets),
    ):
        if any(len(secret.decode()) < _MIN_SECRET_LENGTH for secret in secrets):
            messages.append(
                Warning(
                    f"{setting.name} holds a secret of fewer than {_MIN_SECRET_LENGTH} characters, "
                    "which can be guessed.",
                    hint="Make one with: "
                    'python -c "import secrets; print(secrets.token_urlsafe(32))"',
                    id="segmentio_bridge.W002",
                )
            )
    return messages


@register
def check_tracker(app_configs: Iterable[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """E003: there is no tracker. W003: a logger backend drops events of an ordinary size.

    Mobile events have 1,500 characters and more. W003 is for a `max_event_size` of 1,024
    characters, event-tracking's default, or less; None is no limit.
    """
    tracker = find_tracker()
    if tracker is None:
        return [
            Error(
                "event-tracking has no default tracker: no event can be emitted.",
                hint="Set EVENT_TRACKING_ENABLED = True, and add "
                "'eventtracking.django.apps.EventTrackingConfig' to INSTALLED_APPS.",
                id="segmentio_bridge.E003",
            )
        ]
    return [
        Warning(
            f"The tracking backend {name!r} drops events larger than {backend.max_event_size} "
            "characters without a word; mobile events are larger.",
            hint="Set max_event_size in the OPTIONS of this LoggerBackend: 50000 is what Open edX "
            "uses, None is no limit.",
            id="segmentio_bridge.W003",
        )
        for name, backend in _backends(tracker)
        if isinstance(backend, LoggerBackend)
        and backend.max_event_size is not None
        and backend.max_event_size <= MAX_EVENT_SIZE
    ]


@register
def check_ignored_urls(
    app_configs: Iterable[AppConfig] | None, **kwargs: Any
) -> list[CheckMessage]:
    """W004: the platform's middleware would write the secret to the tracking log.

    Patterns are matched as it matches them, from the beginning of the path:
    https://github.com/openedx/edx-platform/blob/master/common/djangoapps/track/middleware.py
    """
    if not any(_TRACK_MIDDLEWARE.fullmatch(path) for path in settings.MIDDLEWARE):
        return []
    try:
        url = reverse("segmentio_bridge:segmentio_event")
    except NoReverseMatch:
        return []
    # The middleware looks at PATH_INFO, which lacks the prefix that the site is mounted at.
    path = "/" + url.removeprefix(get_script_prefix())
    patterns = getattr(settings, "TRACKING_IGNORE_URL_PATTERNS", None) or []
    # The endpoint answers to both, and Segment calls whichever the operator wrote.
    logged = [
        spelling
        for spelling in (path, f"{path}/")
        if not any(re.match(pattern, spelling) for pattern in patterns)
    ]
    if not logged:
        return []
    return [
        Warning(
            f"No entry of TRACKING_IGNORE_URL_PATTERNS matches {' or '.join(logged)}: "
            "TrackMiddleware writes each delivery to the tracking log, with ?key= in clear.",
            hint=f"Add '^{re.escape(path)}' to TRACKING_IGNORE_URL_PATTERNS, and change the secret "
            "if it has been logged.",
            id="segmentio_bridge.W004",
        )
    ]


@register
def check_deduplication(
    app_configs: Iterable[AppConfig] | None, **kwargs: Any
) -> list[CheckMessage]:
    """W006: the processes of the site do not see each other's claims, or can claim an event twice.

    Django's dummy cache keeps nothing, its local-memory cache is each process's own, and its
    file-based cache looks for a key and then sets it, between which another process can do the
    same: https://docs.djangoproject.com/en/stable/topics/cache/#local-memory-caching
    """
    try:
        alias = conf.CACHE.get()
        if not conf.DEDUPLICATION_SECONDS.get():
            return []
    except ImproperlyConfigured:
        return []  # E001 has said so.
    backend = import_string(settings.CACHES[alias]["BACKEND"])
    if not issubclass(backend, (DummyCache, FileBasedCache, LocMemCache)):
        return []
    return [
        Warning(
            f"{conf.DEDUPLICATION_SECONDS.name} is set, but the cache {alias!r} is a "
            f"{backend.__name__}: an event that another process has recorded is recorded again.",
            hint=f"Name a cache in {conf.CACHE.name} that all processes share and that adds a key "
            "only once, such as Redis.",
            id="segmentio_bridge.W006",
        )
    ]


@register
def check_queue(app_configs: Iterable[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """W007: in queue mode, Celery or its broker is set up to lose or to double events."""
    try:
        if conf.DELIVERY.get() != conf.DELIVERIES["celery"]:
            return []
    except ImproperlyConfigured:
        return []  # E001 has said so.
    # Only now: sites without queue mode need not load Celery.
    from celery import current_app

    return [
        Warning(
            f'{conf.DELIVERY.name} is "celery", but {problem}',
            hint=hint,
            id="segmentio_bridge.W007",
        )
        for problem, hint in _problems_of_queue(current_app)
    ]


@register
def check_source_map(app_configs: Iterable[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """W008: the source map lacks libraries that today's mobile apps are built with.

    A library that it maps to nothing is there: that is how a site says that it wants none of them.
    """
    try:
        source_map = conf.SOURCE_MAP.get()
    except ImproperlyConfigured:
        return []  # E001 has said so.
    missing = [
        library
        for library in conf.MOBILE_LIBRARIES
        if library not in source_map and library not in _FORMER_LIBRARIES
    ]
    if not missing:
        return []
    return [
        Warning(
            f"{conf.SOURCE_MAP.name} does not have {', '.join(missing)}: the events of apps that "
            "are built with them are ignored.",
            hint='Add them to it, with the event source "mobile", or with None if they are to be '
            "ignored.",
            id="segmentio_bridge.W008",
        )
    ]


def _problems_of_queue(app: Any) -> Iterator[tuple[str, str]]:
    if app.conf.task_always_eager:
        yield (
            "task_always_eager is on: events are recorded in the request, and no second time.",
            "Turn it off, but in tests.",
        )
    if str(app.conf.broker_write_url or app.conf.broker_url).startswith("memory:"):
        yield (
            "the broker is the memory of the process, which no worker sees.",
            "Set Celery's broker_url to RabbitMQ or Redis.",
        )
    if app.conf.task_default_delivery_mode in (1, "transient"):
        yield (
            "task_default_delivery_mode is transient: a broker that is restarted loses events.",
            "Set it to 'persistent', Celery's default.",
        )
    options = app.conf.broker_transport_options
    visibility_timeout = options.get("visibility_timeout")
    if visibility_timeout is not None and visibility_timeout < _MIN_VISIBILITY_TIMEOUT:
        yield (
            f"visibility_timeout is {visibility_timeout} seconds: what waits is given away twice.",
            f"Set it in broker_transport_options to {_MIN_VISIBILITY_TIMEOUT} or more.",
        )
    if not options.get("ack_emulation", True):
        yield (
            "ack_emulation is off: what a worker that is killed has taken from Redis is lost.",
            "Remove it from broker_transport_options.",
        )


def _backends(routing: Any) -> Iterator[tuple[str, object]]:
    for name, backend in routing.backends.items():
        yield name, backend
        if hasattr(backend, "backends"):
            yield from _backends(backend)
