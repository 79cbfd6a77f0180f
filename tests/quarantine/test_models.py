"""The app as Django, and the model as those who answer for personal data, see it."""

from __future__ import annotations

import re

import pytest
from django.apps import AppConfig
from django.core.management import call_command

from segmentio_bridge.quarantine.apps import QuarantineConfig
from segmentio_bridge.quarantine.models import QuarantinedEvent


def test_a_site_installs_the_package() -> None:
    config = AppConfig.create("segmentio_bridge.quarantine")
    assert type(config) is QuarantineConfig
    assert config.label == "segmentio_bridge_quarantine"


@pytest.mark.django_db
def test_the_migrations_make_the_table_of_the_model() -> None:
    call_command("makemigrations", "segmentio_bridge_quarantine", check=True, dry_run=True)


def test_personal_data_is_annotated() -> None:
    text = QuarantinedEvent.__doc__ or ""
    assert re.findall(r"^ *\.\. (\w+): \S", text, re.M) == ["pii", "pii_types", "pii_retirement"]
    assert "segmentio_prune --user-id" in text
    assert "untrusted" in text


def test_indexes_have_room_in_any_row_format() -> None:
    fields = {field.name: field for field in QuarantinedEvent._meta.concrete_fields}
    for index in QuarantinedEvent._meta.indexes:
        # MySQL's older row formats take 767 bytes, at four for a character.
        assert sum((fields[name].max_length or 8) * 4 for name in index.fields) <= 767
