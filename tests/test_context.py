"""The tracking context: each rule of the contract's section 5 by itself."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from segmentio_bridge.context import build_context
from segmentio_bridge.events import Event, User
from segmentio_bridge.validation import Rules, validate
from tests.factories import make_event, make_properties, without

RULES = Rules({"analytics-kotlin": "mobile"}, frozenset({"track"}), ())


def build(raw: dict[str, Any], *, protected: frozenset[str] = frozenset()) -> dict[str, Any]:
    event = validate(raw, RULES)
    assert isinstance(event, Event)
    return build_context(event, User(7, "ada"), protected)


def with_context(**context: Any) -> dict[str, Any]:
    return make_event(properties=make_properties(context=context))


def with_client(**fields: Any) -> dict[str, Any]:
    return make_event(context={"library": {"name": "analytics-kotlin"}, **fields})


@pytest.mark.parametrize(
    ("raw", "application"),
    [
        (make_event(), {"name": "edx.mobileapp.android", "version": "4.1.2"}),
        (with_context(), {"name": "", "version": "4.1.2"}),
        (with_context(app_name=None), {"name": None, "version": "4.1.2"}),
        (with_context(application="as it is", app_name="unused"), "as it is"),
        (with_client(), {"name": "edx.mobileapp.android", "version": ""}),
        (with_client(app={}), {"name": "edx.mobileapp.android", "version": ""}),
        (with_client(app=[4]), {"name": "edx.mobileapp.android", "version": ""}),
        (with_client(app={"version": 4}), {"name": "edx.mobileapp.android", "version": 4}),
    ],
)
def test_application(raw: dict[str, Any], application: object) -> None:
    assert build(raw)["application"] == application


def test_client_is_the_context_without_what_stands_elsewhere_or_is_private() -> None:
    raw = with_client(
        traits={"email": "a@example.org"}, integrations={}, userAgent="agent", locale=None
    )
    context = build(raw)
    assert context["client"] == {"library": {"name": "analytics-kotlin"}, "locale": None}
    assert context["agent"] == "agent"


def test_without_a_user_agent_the_agent_is_empty() -> None:
    assert build(with_client())["agent"] == ""


def test_the_sent_context_overrides_but_not_the_user_and_the_moments() -> None:
    context = build(
        with_context(
            event_source="app",
            client="mine",
            agent="mine",
            user_id=99,
            username="root",
            timestamp="mine",
            received_at="mine",
            label="mine",
            extra=[1],
        )
    )
    assert context["event_source"] == "app"
    assert context["client"] == "mine"
    assert context["agent"] == "mine"
    assert context["extra"] == [1]
    assert (context["user_id"], context["username"]) == (7, "ada")
    assert context["timestamp"].isoformat() == "2026-03-02T09:15:27.352000+00:00"
    assert context["received_at"].isoformat() == "2026-03-02T09:15:29.004000+00:00"
    assert context["label"] == "Welcome"
    assert "app_name" not in context


def test_protected_keys_count_as_not_sent() -> None:
    raw = with_context(event_source="app", application="app", ip="192.0.2.1", extra=1, app_name="a")
    context = build(raw, protected=frozenset({"event_source", "application", "ip"}))
    assert context["event_source"] == "mobile"
    assert context["application"] == {"name": "a", "version": "4.1.2"}
    assert context["ip"] == ""
    assert context["extra"] == 1


@pytest.mark.parametrize(
    ("raw", "ip"),
    [
        (make_event(), ""),  # the sender's own context.ip is no one's business here
        (make_event(properties=without(make_properties(), "context")), ""),
        (with_context(ip="192.0.2.1"), "192.0.2.1"),
        (with_context(ip=None), None),
    ],
)
def test_ip(raw: dict[str, Any], ip: object) -> None:
    assert build(raw)["ip"] == ip


@pytest.mark.parametrize("label", ["Welcome", "", None, {"a": 1}])
def test_a_label_is_taken_as_it_is(label: object) -> None:
    assert build(make_event(properties=make_properties(label=label)))["label"] == label


def test_no_label() -> None:
    assert "label" not in build(make_event(properties=without(make_properties(), "label")))


COURSE, OTHER = "course-v1:ExampleX+EX101+2026_T1", "course-v1:OtherX+OT1+2026"
LONG = f"course-v1:LongX+{'L' * 300}+2026"


@pytest.mark.parametrize(
    ("raw", "course_id", "org_id"),
    [
        (with_context(course_id=COURSE), COURSE, "ExampleX"),
        (make_event(properties=make_properties(context={}, course_id=OTHER)), OTHER, "OtherX"),
        (make_event(properties=make_properties(course_id=OTHER)), OTHER, "OtherX"),
        (with_context(course_id="OldX/EX101/2012"), "OldX/EX101/2012", "OldX"),
        (with_context(course_id=LONG), LONG, "LongX"),
        (with_context(course_id=COURSE, org_id="sent"), COURSE, "ExampleX"),
    ],
    ids=[
        "in the context",
        "in the properties",
        "in both",
        "of the old form",
        "very long",
        "with an org_id",
    ],
)
def test_org_id_is_that_of_the_final_course(
    raw: dict[str, Any], course_id: str, org_id: str, caplog: pytest.LogCaptureFixture
) -> None:
    context = build(raw)
    assert (context["course_id"], context["org_id"]) == (course_id, org_id)
    assert not caplog.records


def test_without_a_course_there_is_no_organisation() -> None:
    context = build(with_context())
    assert "course_id" not in context
    assert "org_id" not in context


@pytest.mark.parametrize(
    ("course_id", "logged"),
    [
        ("no course", "'no course'"),
        ("", "''"),
        (None, "-"),
        (7, "'7'"),
        ({"a": 1}, "\"{'a': 1}\""),
        ("course-v1:\nERROR forged", r"'course-v1:\nERROR forged'"),
        ("course-v1:a+b+c\ud800", r"'course-v1:a+b+c\ud800'"),
        ("lib-collection:org:lib:one", "'lib-collection:org:lib:one'"),
        ("x" * 1000, "'" + "x" * 200 + "'"),
    ],
)
def test_an_invalid_course_id_is_logged_and_emitted_as_it_is(
    course_id: object, logged: str, caplog: pytest.LogCaptureFixture
) -> None:
    context = build({**with_context(course_id=course_id), "messageId": "m-1"})
    assert context["course_id"] == course_id
    assert "org_id" not in context
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == f"Invalid course id {logged} in event 'm-1'."
