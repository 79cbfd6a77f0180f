"""For a well-formed event, the emitted name, data and context are equal, key for key.

Events come from a grammar; what should be emitted is written down here a second time, from the
contract's section 5 alone, and compared with what reaches the tracking log.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pytest_django import Settings

pytestmark = pytest.mark.django_db

USERS = {1: "ada", 2: "grace", 3: "алан"}
SOURCES = {
    "analytics-kotlin": "mobile",
    "@segment/analytics-react-native": "mobile",
    "lib": "other",
}
# The organisation of each course id that the grammar uses; None for one that is not valid.
COURSES = {
    "course-v1:ExampleX+EX101+2026_T1": "ExampleX",
    "course-v1:Ünï-X+a.b+run_1": "Ünï-X",
    "OldX/EX101/2012_Fall": "OldX",
    "ccx-v1:ExampleX+EX101+2026+ccx@4": "ExampleX",
    "no course at all": None,
    "": None,
}

texts = st.text(st.characters(exclude_categories=()), max_size=12)  # lone surrogates included
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
objects = st.dictionaries(texts, values, max_size=4)


@dataclass(frozen=True)
class Moment:
    """A moment as Segment writes it, and as the tracking log should show it."""

    written: str
    logged: str


@st.composite
def moments(draw: st.DrawFn) -> Moment:
    """Draw a moment with any offset, and with none to nine fractional digits."""
    local = draw(st.datetimes(datetime(1970, 1, 2), datetime(2100, 1, 1)))  # noqa: DTZ001 - the offset is added below
    digits = draw(st.integers(0, 9))
    fraction = f"{local.microsecond:06}{draw(st.integers(0, 999)):03}"[:digits]
    local = local.replace(microsecond=int(fraction[:6].ljust(6, "0")))
    minutes = draw(st.integers(-14 * 60, 14 * 60))
    sign, (hours, rest) = "-" if minutes < 0 else "+", divmod(abs(minutes), 60)
    offset = draw(
        st.sampled_from([f"{sign}{hours:02}:{rest:02}", f"{sign}{hours:02}{rest:02}", "Z", ""])
    )
    in_zone = timezone(timedelta(minutes=minutes)) if offset not in ("Z", "") else UTC
    return Moment(
        written=f"{local:%Y-%m-%dT%H:%M:%S}{'.' * bool(fraction)}{fraction}{offset}",
        logged=local.replace(tzinfo=in_zone).astimezone(UTC).isoformat(),
    )


@dataclass(frozen=True)
class Sent:
    """A raw event, with the moments in it."""

    raw: dict[str, Any]
    timestamp: Moment
    received_at: Moment


def optional(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=fields)


def merged(*parts: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.tuples(*parts).map(lambda drawn: {key: part[key] for part in drawn for key in part})


courses = st.sampled_from(sorted(COURSES))

clients = merged(
    objects,
    optional(
        app=values | optional(version=values, name=texts),
        traits=values,
        integrations=values,
        userAgent=values,
        ip=texts,
        device=objects,
    ),
    st.fixed_dictionaries(
        {
            "library": st.fixed_dictionaries(
                {"name": st.sampled_from(sorted(SOURCES)), "version": texts}
            )
        }
    ),
)

overrides = merged(
    objects,
    optional(
        app_name=values,
        application=values,
        ip=values,
        course_id=courses,
        org_id=values,
        client=values,
        agent=values,
        event_source=values,
        user_id=values,
        username=values,
        label=values,
        timestamp=values,
        received_at=values,
        component=texts,
    ),
)

names = st.fixed_dictionaries({"name": texts.filter(bool)}, optional={"label": values})
forum_screens = st.fixed_dictionaries(
    {"label": st.just("Forum: View Thread")}, optional={"name": st.just("")}
)
properties = merged(
    objects.map(lambda drawn: {f"x-{key}": value for key, value in drawn.items()}),
    st.fixed_dictionaries({"data": objects}, optional={"context": overrides, "course_id": courses}),
    names | forum_screens,
)


@st.composite
def events(draw: st.DrawFn) -> Sent:
    """Draw a well-formed event, with any of its optional and with unknown fields."""
    timestamp, received_at = draw(moments()), draw(moments())
    user_id = draw(st.sampled_from([*USERS, *map(str, USERS)]))
    raw = {
        **draw(objects),
        **draw(optional(messageId=texts, anonymousId=texts, integrations=objects, event=texts)),
        "type": draw(st.sampled_from(["track", "Track", "TRACK"])),
        "userId": user_id,
        "context": draw(clients),
        "properties": draw(properties),
        "timestamp": timestamp.written,
        "receivedAt": received_at.written,
    }
    return Sent(raw, timestamp, received_at)


def expect(sent: Sent) -> dict[str, Any]:
    """Return what the tracking log should say of `sent`: the contract's section 5, step by step."""
    client = sent.raw["context"]
    props = sent.raw["properties"]
    own = props.get("context", {})

    context: dict[str, Any] = {"event_source": SOURCES[client["library"]["name"]]}
    if "application" not in own:
        version = ""
        if isinstance(client.get("app"), dict) and "version" in client["app"]:
            version = client["app"]["version"]
        context["application"] = {
            "name": own.get("app_name", ""),
            "version": version,
        }
    context["client"] = dict(client)
    for left_out in ("traits", "integrations", "userAgent"):
        context["client"].pop(left_out, None)
    context["agent"] = client.get("userAgent", "")
    for key in own:
        if key != "app_name":
            context[key] = own[key]
    context["user_id"] = int(sent.raw["userId"])
    context["username"] = USERS[int(sent.raw["userId"])]
    context["timestamp"] = sent.timestamp.logged
    context["received_at"] = sent.received_at.logged
    context["ip"] = own.get("ip", "")
    if "label" in props:
        context["label"] = props["label"]
    if "course_id" in props:
        context["course_id"] = props["course_id"]
    organisation = COURSES[context["course_id"]] if "course_id" in context else None
    if organisation is not None:
        context["org_id"] = organisation
    name = props.get("name") or "edx.bi.app.navigation.screen"
    return {"name": name, "data": props["data"], "context": context}


@settings(
    max_examples=250,
    deadline=None,
    # The fixtures' state is put back at the start of each example.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    batch=st.lists(events(), min_size=12, max_size=20) | st.lists(events(), min_size=1, max_size=1)
)
def test_what_is_emitted_is_what_the_contract_says(
    batch: list[Sent], tracking_log: list[dict[str, Any]], settings: Settings
) -> None:
    settings.TRACKING_SEGMENTIO_SOURCE_MAP = SOURCES
    tracking_log.clear()
    User.objects.bulk_create(
        [User(pk=pk, username=name) for pk, name in USERS.items()], ignore_conflicts=True
    )
    single = len(batch) == 1
    answer = Client(headers={"authorization": "Bearer a secret that only Segment knows"}).post(
        "/segmentio/event",
        json.dumps(batch[0].raw if single else [sent.raw for sent in batch]),
        "application/json",
    )
    assert answer.status_code == 200
    for event in tracking_log:
        del event["timestamp"]  # the moment of emission
    assert tracking_log == [expect(sent) for sent in batch]
