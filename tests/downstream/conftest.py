"""Fixtures for what is downstream. The tests run with settings of their own: tox -e downstream."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import Celery, current_app
from django.conf import settings
from django.contrib.auth.models import User
from django.core.cache import cache
from django.test import Client
from edx_django_utils.cache import RequestCache

from tests.hostile import PATH, QUERY

if settings.SETTINGS_MODULE == "tests.downstream.settings":
    from event_routing_backends.models import RouterConfiguration

    from tests.downstream.stores import PASSWORD, USERNAME, CaliperStore, Ralph, caliper_store
else:
    # What is installed as an app there is not even to be imported here.
    collect_ignore_glob = ["test_*.py"]

Deliver = Callable[..., None]


@pytest.fixture(scope="session")
def ralph() -> Iterator[Ralph]:
    """The learning record store for xAPI."""
    with Ralph() as server:
        yield server


@pytest.fixture
def xapi(ralph: Ralph) -> Ralph:
    """The learning record store for xAPI, with nothing in it."""
    ralph.forget()
    return ralph


@pytest.fixture(scope="session")
def _caliper() -> Iterator[CaliperStore]:
    with caliper_store() as store:
        yield store


@pytest.fixture
def caliper(_caliper: CaliperStore) -> CaliperStore:
    """The store for Caliper, with nothing in it."""
    _caliper.envelopes.clear()
    return _caliper


@pytest.fixture
def celery() -> Iterator[Celery]:
    """A Celery app that runs tasks at once, on arguments that have been through its JSON."""
    before = current_app._get_current_object()
    app = Celery("downstream", broker="memory://", set_as_current=True)
    app.conf.task_always_eager = True
    yield app
    app.close()
    before.set_current()


@pytest.fixture
def site(learner: User, xapi: Ralph, caliper: CaliperStore, celery: Celery) -> None:
    """A site with a learner, which sends its statements to both stores."""
    cache.clear()
    RequestCache.clear_all_namespaces()
    for name, url in (("xAPI", xapi.url), ("Caliper", caliper.url)):
        RouterConfiguration.objects.create(
            backend_name=name,
            enabled=True,
            route_url=url,
            auth_scheme="Basic",
            username=USERNAME,
            password=PASSWORD,
            configurations={},
        )


@pytest.fixture
def deliver(site: None) -> Deliver:
    """Deliver raw events to the endpoint as Segment does: one by itself, several as a batch."""

    def post(*events: dict[str, Any]) -> None:
        body = json.dumps(events[0] if len(events) == 1 else events)
        answer = Client().post(f"{PATH}?{QUERY}", body, content_type="application/json")
        assert answer.status_code == 200

    return post
