"""The settings: what each accepts, what it refuses, and when it is read."""

from __future__ import annotations

import os
import subprocess
import sys
import traceback
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from pytest_django import Settings

from segmentio_bridge import conf
from segmentio_bridge.conf import Setting

# Stands in values that are refused, wherever their type leaves room for it.
MARK = "hunter2"

DEFAULTS: list[tuple[Setting[Any], object]] = [
    (conf.WEBHOOK_SECRET, ()),
    (conf.SIGNATURE_SECRET, ()),
    (conf.ALLOWED_TYPES, frozenset({"track"})),
    (conf.DISALLOWED_SUBSTRING_NAMES, ()),
    (
        conf.SOURCE_MAP,
        {
            "analytics-android": "mobile",
            "analytics-ios": "mobile",
            "analytics-kotlin": "mobile",
            "analytics-swift": "mobile",
            "@segment/analytics-react-native": "mobile",
            "analytics-react-native": "mobile",
            "analytics-flutter": "mobile",
        },
    ),
    (conf.PROTECTED_CONTEXT_KEYS, frozenset()),
    (conf.MAX_BODY_BYTES, 16_777_216),
    (conf.DELIVERY, "segmentio_bridge.pipeline.process"),
    (conf.DEDUPLICATION_SECONDS, 0),
    (conf.CACHE, "default"),
    (conf.QUARANTINE_RETENTION_DAYS, 30),
    (conf.QUARANTINE_MAX_ROWS, 100_000),
]

ACCEPTED: list[tuple[Setting[Any], object, object]] = [
    *[
        (setting, value, expected)
        for setting in (conf.WEBHOOK_SECRET, conf.SIGNATURE_SECRET)
        for value, expected in (
            (None, ()),
            ("", ()),
            ([], ()),
            ([""], ()),
            ("old", (b"old",)),
            ("schlüssel", (b"schl\xc3\xbcssel",)),
            (["old", "", "new"], (b"old", b"new")),
            (("old", "new"), (b"old", b"new")),
            ({"old"}, (b"old",)),
            (frozenset({"old"}), (b"old",)),
        )
    ],
    (conf.ALLOWED_TYPES, [], frozenset()),
    (conf.ALLOWED_TYPES, ["Track", "SCREEN", "track"], frozenset({"track", "screen"})),
    (conf.ALLOWED_TYPES, ("track",), frozenset({"track"})),
    (conf.ALLOWED_TYPES, {"track"}, frozenset({"track"})),
    (conf.DISALLOWED_SUBSTRING_NAMES, [".BI.", "debug"], (".bi.", "debug")),
    (conf.DISALLOWED_SUBSTRING_NAMES, (), ()),
    (conf.DISALLOWED_SUBSTRING_NAMES, frozenset({" "}), (" ",)),
    (conf.SOURCE_MAP, {}, {}),
    (conf.SOURCE_MAP, {"a": "mobile", "b": "", "c": None}, {"a": "mobile", "b": "", "c": None}),
    (conf.SOURCE_MAP, MappingProxyType({"a": "mobile"}), {"a": "mobile"}),
    (conf.PROTECTED_CONTEXT_KEYS, ["org_id", "ORG_ID"], frozenset({"org_id", "ORG_ID"})),
    (conf.PROTECTED_CONTEXT_KEYS, (), frozenset()),
    # JSON allows an empty key, so a site may want to protect it.
    (conf.PROTECTED_CONTEXT_KEYS, [""], frozenset({""})),
    (conf.MAX_BODY_BYTES, 1, 1),
    (conf.MAX_BODY_BYTES, 10**12, 10**12),
    (conf.DELIVERY, "inline", "segmentio_bridge.pipeline.process"),
    (conf.DELIVERY, "celery", "segmentio_bridge.tasks.enqueue"),
    (conf.DEDUPLICATION_SECONDS, 0, 0),
    (conf.DEDUPLICATION_SECONDS, 86_400, 86_400),
    (conf.CACHE, "default", "default"),
    (conf.QUARANTINE_RETENTION_DAYS, 1, 1),
    (conf.QUARANTINE_MAX_ROWS, 1, 1),
]

REFUSED: list[tuple[Setting[Any], object]] = [
    *[
        (setting, value)
        for setting in (conf.WEBHOOK_SECRET, conf.SIGNATURE_SECRET)
        for value in (
            MARK.encode(),
            12345,
            True,
            {MARK: MARK},
            [MARK, None],
            [MARK, MARK.encode()],
            [[MARK]],
            # A lone surrogate: the error that Python raises for it quotes the whole string.
            f"{MARK}\ud800",
            [f"{MARK}\ud800"],
        )
    ],
    *[
        (setting, value)
        for setting in (conf.ALLOWED_TYPES, conf.DISALLOWED_SUBSTRING_NAMES)
        for value in (None, MARK, [MARK, 1], [MARK, None], {MARK: 1}, 7, ["", MARK])
    ],
    (conf.SOURCE_MAP, None),
    (conf.SOURCE_MAP, MARK),
    (conf.SOURCE_MAP, [MARK]),
    (conf.SOURCE_MAP, [(MARK, "mobile")]),
    (conf.SOURCE_MAP, {MARK: 1}),
    (conf.SOURCE_MAP, {MARK: ["mobile"]}),
    (conf.SOURCE_MAP, {1: MARK}),
    (conf.SOURCE_MAP, {None: MARK}),
    (conf.PROTECTED_CONTEXT_KEYS, None),
    (conf.PROTECTED_CONTEXT_KEYS, MARK),
    (conf.PROTECTED_CONTEXT_KEYS, [MARK, 1]),
    (conf.PROTECTED_CONTEXT_KEYS, {MARK: True}),
    (conf.MAX_BODY_BYTES, None),
    (conf.MAX_BODY_BYTES, 0),
    (conf.MAX_BODY_BYTES, -1),
    (conf.MAX_BODY_BYTES, True),
    (conf.MAX_BODY_BYTES, 1024.0),
    (conf.MAX_BODY_BYTES, MARK),
    (conf.MAX_BODY_BYTES, "1024"),
    (conf.MAX_BODY_BYTES, [1024]),
    *[(conf.DELIVERY, value) for value in (None, MARK, "Celery", ["celery"], True)],
    *[(conf.DEDUPLICATION_SECONDS, value) for value in (None, -1, True, 1.5, "60", MARK)],
    *[
        (setting, value)
        for setting in (conf.QUARANTINE_RETENTION_DAYS, conf.QUARANTINE_MAX_ROWS)
        for value in (None, 0, -1, True, 1.5, "30", MARK)
    ],
    (conf.QUARANTINE_RETENTION_DAYS, 10**9),
    *[(conf.CACHE, value) for value in (None, MARK, ["default"], "")],
]


def _id(value: object) -> str:
    name = value.name.removeprefix(conf.PREFIX) if isinstance(value, Setting) else repr(value)
    return ascii(name).strip("'\"")


def test_every_setting_is_in_the_table_and_in_these() -> None:
    defined = {value.name for value in vars(conf).values() if isinstance(value, Setting)}
    assert {setting.name for setting in conf.SETTINGS} == defined
    for table in (DEFAULTS, ACCEPTED, REFUSED):
        assert {row[0].name for row in table} == defined


@pytest.mark.parametrize("setting", conf.SETTINGS, ids=_id)
def test_names_have_the_prefix_and_are_said_once(setting: Setting[object]) -> None:
    assert setting.name.startswith("TRACKING_SEGMENTIO_")
    assert [other.name for other in conf.SETTINGS].count(setting.name) == 1


@pytest.mark.parametrize(("setting", "expected"), DEFAULTS, ids=_id)
def test_default(setting: Setting[Any], expected: object, settings: Settings) -> None:
    delattr(settings, setting.name)
    assert setting.get() == expected


@pytest.mark.parametrize(("setting", "value", "expected"), ACCEPTED, ids=_id)
def test_accepted(
    setting: Setting[Any], value: object, expected: object, settings: Settings
) -> None:
    setattr(settings, setting.name, value)
    parsed = setting.get()
    assert parsed == expected
    assert type(parsed) is type(expected) or setting is conf.SOURCE_MAP


@pytest.mark.parametrize(("setting", "value"), REFUSED, ids=_id)
def test_refused_without_showing_the_value(
    setting: Setting[Any], value: object, settings: Settings
) -> None:
    setattr(settings, setting.name, value)
    with pytest.raises(ImproperlyConfigured) as caught:
        setting.get()
    assert str(caught.value) == f"{setting.name} must be {setting.expects}."
    shown = "".join(traceback.format_exception(caught.value))
    assert setting.name in shown
    assert MARK not in shown
    assert "12345" not in shown
    # What comes before the last error is not shown at all.
    assert shown.count("Traceback (most recent call last)") == 1


@pytest.mark.parametrize(
    ("setting", "first", "second"),
    [
        (conf.WEBHOOK_SECRET, "one", "two"),
        (conf.SIGNATURE_SECRET, "one", "two"),
        (conf.ALLOWED_TYPES, ["track"], ["screen"]),
        (conf.DISALLOWED_SUBSTRING_NAMES, ["a"], ["b"]),
        (conf.SOURCE_MAP, {"a": "mobile"}, {"b": "mobile"}),
        (conf.PROTECTED_CONTEXT_KEYS, ["a"], ["b"]),
        (conf.MAX_BODY_BYTES, 1, 2),
        (conf.DELIVERY, "inline", "celery"),
        (conf.DEDUPLICATION_SECONDS, 1, 2),
        (conf.QUARANTINE_RETENTION_DAYS, 1, 2),
        (conf.QUARANTINE_MAX_ROWS, 1, 2),
    ],
    ids=_id,
)
def test_read_at_every_use(
    setting: Setting[Any], first: object, second: object, settings: Settings
) -> None:
    setattr(settings, setting.name, first)
    before = setting.get()
    setattr(settings, setting.name, second)
    assert setting.get() == setting.parse(second) != before
    delattr(settings, setting.name)
    assert setting.get() == setting.parse(setting.default)


def test_a_value_that_is_changed_in_place_is_seen(settings: Settings) -> None:
    settings.TRACKING_SEGMENTIO_ALLOWED_TYPES = types = ["track"]
    assert conf.ALLOWED_TYPES.get() == {"track"}
    types.append("Screen")
    assert conf.ALLOWED_TYPES.get() == {"track", "screen"}
    types.append("")
    with pytest.raises(ImproperlyConfigured, match="TRACKING_SEGMENTIO_ALLOWED_TYPES"):
        conf.ALLOWED_TYPES.get()


def test_the_first_setting_that_is_asked_for_in_a_process_is_the_site_s(tmp_path: Path) -> None:
    program = "from segmentio_bridge import conf; print(conf.MAX_BODY_BYTES.get())"
    site = {"DJANGO_SETTINGS_MODULE": "small_site", "PYTHONPATH": os.pathsep.join(["", *sys.path])}
    (tmp_path / "small_site.py").write_text("TRACKING_SEGMENTIO_MAX_BODY_BYTES = 7\n")
    printed = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, **site},
        stdout=subprocess.PIPE,
        check=True,
    )
    assert printed.stdout == b"7\n"
