"""The contract's table of screening and validation, executed row by row."""

from __future__ import annotations

import copy
import random
from datetime import UTC, datetime
from typing import Any

import pytest

from segmentio_bridge.events import Event
from segmentio_bridge.outcomes import Reason, Status
from segmentio_bridge.validation import MAX_DEPTH, Rules, find_message_id, validate
from tests.factories import make_event, make_properties, without

RULES = Rules(
    source_map={"analytics-kotlin": "mobile", "analytics-old": "", "analytics-older": None},
    allowed_types=frozenset({"track"}),
    disallowed_names=("secret", "bi.app"),
)


def with_library(name: object) -> dict[str, Any]:
    return make_event(context={"library": {"name": name}})


def with_property(name: str, value: object) -> dict[str, Any]:
    return make_event(properties=make_properties(**{name: value}))


def without_property(name: str) -> dict[str, Any]:
    return make_event(properties=without(make_properties(), name))


def nested(depth: int) -> dict[str, Any]:
    """Return an event that is `depth` levels deep, through lists and objects in turn."""
    value: Any = {}
    for level in range(depth - 4):
        value = [value] if level % 2 else {"below": value}
    return with_property("data", {"deep": value})


NOT_A_STRING: list[Any] = [None, 0, 1.5, True, [], {}, ["name"], {"name": "x"}]
NOT_AN_OBJECT: list[Any] = [0, 1.5, True, "", "text", [], ["name"]]
NOT_A_MOMENT: list[Any] = [None, 0, 1772442927, {}, [], "", "soon", "2026-13-01T00:00:00Z"]

# The rows of the contract, in their order: the reason, and events that it applies to.
TABLE: list[tuple[Reason, list[Any]]] = [
    (Reason.NOT_AN_OBJECT, [None, True, 0, 1.5, "", "text", [], [make_event()]]),
    (
        Reason.UNKNOWN_SOURCE,
        [
            {},
            *(
                with_library(name)
                for name in ["analytics.js", "Analytics-Kotlin", "", *NOT_A_STRING]
            ),
            with_library("analytics-old"),
            with_library("analytics-older"),
            without(make_event(), "context"),
            *(make_event(context=value) for value in [None, *NOT_AN_OBJECT]),
            make_event(context={}),
            *(make_event(context={"library": value}) for value in [None, *NOT_AN_OBJECT]),
            make_event(context={"library": {}}),
        ],
    ),
    (
        Reason.UNSUPPORTED_TYPE,
        [
            without(make_event(), "type"),
            *(make_event(type=value) for value in ["identify", "", "track ", *NOT_A_STRING]),
        ],
    ),
    (Reason.TOO_DEEP, [nested(MAX_DEPTH + 1), nested(400)]),
    (Reason.INVALID_PROPERTIES, [make_event(properties=value) for value in NOT_AN_OBJECT]),
    (
        Reason.MISSING_NAME,
        [
            without(make_event(), "properties"),
            make_event(properties=None),
            make_event(properties={}),
            without_property("name"),
            with_property("name", ""),
            make_event(properties={"label": "forum: view thread", "data": {}}),
            make_event(properties={"label": ["Forum: View Thread"], "data": {}}),
        ],
    ),
    (
        Reason.INVALID_NAME,
        [
            *(with_property("name", value) for value in NOT_A_STRING),
            make_event(properties={"label": "Forum: View Thread", "name": 7, "data": {}}),
        ],
    ),
    (
        Reason.DISALLOWED_NAME,
        [
            with_property("name", "edx.secret.opened"),
            with_property("name", "A SECRET"),
            # The name that old forum screens get is looked at like any other.
            make_event(properties={"label": "Forum: View Thread", "data": {}}),
        ],
    ),
    (Reason.MISSING_DATA, [without_property("data")]),
    (Reason.INVALID_DATA, [with_property("data", value) for value in [None, *NOT_AN_OBJECT]]),
    (Reason.INVALID_CONTEXT, [with_property("context", value) for value in [None, *NOT_AN_OBJECT]]),
    (
        Reason.MISSING_USER_ID,
        [without(make_event(), "userId"), *(make_event(userId=value) for value in [None, "", 0])],
    ),
    (Reason.MISSING_TIMESTAMP, [without(make_event(), "timestamp")]),
    (Reason.INVALID_TIMESTAMP, [make_event(timestamp=value) for value in NOT_A_MOMENT]),
    (Reason.MISSING_RECEIVED_AT, [without(make_event(), "receivedAt")]),
    (Reason.INVALID_RECEIVED_AT, [make_event(receivedAt=value) for value in NOT_A_MOMENT]),
]

# Decided by the pipeline, where the user model is known: see test_pipeline.
OF_THE_USER = [Reason.INVALID_USER_ID, Reason.USER_NOT_FOUND]

ROWS = [
    pytest.param(reason, event, id=f"{reason}-{number}")
    for reason, events in TABLE
    for number, event in enumerate(events)
]


@pytest.mark.parametrize(("reason", "raw"), ROWS)
def test_an_event_is_refused_for_the_reason_of_its_row(reason: Reason, raw: Any) -> None:
    before = copy.deepcopy(raw)
    assert validate(raw, RULES) is reason
    assert raw == before


def test_the_rows_are_the_reasons_of_the_enumeration_in_its_order() -> None:
    not_failures = [reason for reason in Reason if reason.status is not Status.FAILED]
    elsewhere = [*OF_THE_USER, Reason.MALFORMED_BODY, Reason.DUPLICATE]
    assert [reason for reason, _ in TABLE] + elsewhere == not_failures


def test_the_statuses_are_those_of_the_contract() -> None:
    ignored = {reason for reason in Reason if reason.status is Status.IGNORED}
    assert ignored == {Reason.UNKNOWN_SOURCE, Reason.UNSUPPORTED_TYPE, Reason.DISALLOWED_NAME}


FAULTS: dict[Reason, dict[str, Any]] = {
    Reason.UNKNOWN_SOURCE: {"context": {}},
    Reason.UNSUPPORTED_TYPE: {"type": "page"},
    Reason.INVALID_PROPERTIES: {"properties": []},
    Reason.MISSING_USER_ID: {"userId": None},
    Reason.INVALID_TIMESTAMP: {"timestamp": "soon"},
    Reason.INVALID_RECEIVED_AT: {"receivedAt": "soon"},
}


@pytest.mark.parametrize("seed", range(50))
def test_of_several_faults_the_first_row_decides(seed: int) -> None:
    chosen = random.Random(seed).sample(list(FAULTS), k=3)
    raw = make_event()
    for reason in chosen:
        raw.update(FAULTS[reason])
    assert validate(raw, RULES) is min(chosen, key=list(Reason).index)


def test_a_valid_event_is_taken_apart() -> None:
    raw = make_event(userId="7")
    event = validate(raw, RULES)
    assert event == Event(
        message_id=raw["messageId"],
        name="edx.video.loaded",
        source="mobile",
        client=raw["context"],
        properties=raw["properties"],
        user_id="7",
        timestamp=datetime(2026, 3, 2, 9, 15, 27, 352000, UTC),
        received_at=datetime(2026, 3, 2, 9, 15, 29, 4000, UTC),
    )


@pytest.mark.parametrize(
    "raw",
    [
        make_event(type="TRACK"),
        nested(MAX_DEPTH),
        without_property("context"),
        with_property("data", {}),
        with_property("context", {}),
        # These are no missing ids: whether they are keys is for the user model to say.
        *(make_event(userId=value) for value in [False, 0.0, "0", [], {}, 1.5]),
    ],
)
def test_these_are_events(raw: dict[str, Any]) -> None:
    assert isinstance(validate(raw, RULES), Event)


@pytest.mark.parametrize("name", [{}, {"name": ""}])
def test_old_forum_screens_get_their_name_from_their_label(name: dict[str, str]) -> None:
    rules = Rules({"analytics-kotlin": "mobile"}, frozenset({"track"}), ())
    event = validate(
        make_event(properties={"label": "Forum: View Thread", "data": {}, **name}), rules
    )
    assert isinstance(event, Event)
    assert event.name == "edx.bi.app.navigation.screen"


def test_a_name_beats_the_label_of_forum_screens() -> None:
    event = validate(with_property("label", "Forum: View Thread"), RULES)
    assert isinstance(event, Event)
    assert event.name == "edx.video.loaded"


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (make_event(messageId="m-1"), "m-1"),
        (make_event(messageId=""), None),
        (make_event(messageId=7), None),
        (make_event(messageId=["m-1"]), None),
        (without(make_event(), "messageId"), None),
        (["messageId"], None),
        ("messageId", None),
        (None, None),
    ],
)
def test_a_message_id_is_a_string_that_is_not_empty(raw: object, expected: str | None) -> None:
    assert find_message_id(raw) == expected
