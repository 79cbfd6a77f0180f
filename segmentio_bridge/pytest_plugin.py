"""The plugin for pytest, which finds it by its entry point: fixtures for the tests of sites.

Loaded by every run of pytest in an environment that has the app, for Django or not: nothing but
pytest is imported until a test asks for a fixture. They need pytest-django, which sets Django up;
without it they skip the test.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from django.http import HttpResponse

    from .testing import EmittedEvent


@pytest.fixture
def segmentio_deliver(request: pytest.FixtureRequest) -> Callable[..., HttpResponse]:
    """Post deliveries to the site's own endpoint: `segmentio_bridge.testing.deliver`.

    The test has the database, as with the fixture `db`.
    """
    _require_django(request)
    request.getfixturevalue("db")
    from .testing import deliver

    return deliver


@pytest.fixture
def segmentio_emitted(request: pytest.FixtureRequest) -> Iterator[list[EmittedEvent]]:
    """Collect the events that the app emits: `segmentio_bridge.testing.capture_emitted`.

    Raises ImproperlyConfigured if the site has no tracker.
    """
    _require_django(request)
    from .testing import capture_emitted

    with capture_emitted() as emitted:
        yield emitted


def _require_django(request: pytest.FixtureRequest) -> None:
    try:
        request.getfixturevalue("django_test_environment")
    except pytest.FixtureLookupError:
        pytest.skip("The fixtures of segmentio_bridge need pytest-django, which sets Django up.")
