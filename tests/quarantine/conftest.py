"""The site with the quarantine attached to the bridge, and people who use its admin."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.apps import apps
from django.contrib.auth.models import Permission, User
from django.core.cache import cache
from django.test import Client
from pytest_django import Settings

from segmentio_bridge.quarantine import retention
from segmentio_bridge.quarantine.apps import QuarantineConfig
from segmentio_bridge.signals import events_unrecorded


@pytest.fixture(autouse=True)
def _quarantine(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Attach the quarantine as a site has it that installs the app."""
    config = apps.get_app_config("segmentio_bridge_quarantine")
    assert isinstance(config, QuarantineConfig)
    settings.ROOT_URLCONF = "tests.quarantine.urls"
    monkeypatch.setattr(retention, "_tidied", {})
    cache.clear()
    QuarantineConfig.ready(config)
    yield
    assert events_unrecorded.disconnect(dispatch_uid=config.label)


@pytest.fixture
def admin(db: None) -> Client:
    """A superuser at the admin."""
    return _log_in(User.objects.create_superuser("root", id=50))


@pytest.fixture
def viewer(db: None) -> Client:
    """Somebody who may view the quarantine, and nothing else."""
    return _log_in(_create_staff(51, "view_quarantinedevent"))


@pytest.fixture
def changer(db: None) -> Client:
    """Somebody who may release and discard, but not delete."""
    return _log_in(_create_staff(52, "view_quarantinedevent", "change_quarantinedevent"))


@pytest.fixture
def outsider(db: None) -> Client:
    """Somebody of the staff who has nothing to do with the quarantine."""
    return _log_in(_create_staff(53, "view_user"))


def _create_staff(pk: int, *permissions: str) -> User:
    user = User.objects.create(pk=pk, username=f"staff {pk}", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    return user


def _log_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client
