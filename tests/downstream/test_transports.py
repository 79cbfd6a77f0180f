"""The bridge's events on the ways that event-tracking has to other processes, both of them JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from django.test import override_settings
from eventtracking.backends.async_routing import AsyncRoutingBackend
from eventtracking.backends.event_bus import EventBusRoutingBackend
from eventtracking.django.django_tracker import DjangoTracker
from eventtracking.tracker import Tracker
from openedx_events.analytics.data import TrackingLogData
from openedx_events.analytics.signals import TRACKING_EVENT_EMITTED
from openedx_events.event_bus.avro.deserializer import deserialize_bytes_to_event_data
from openedx_events.event_bus.avro.serializer import serialize_event_data_to_bytes

from segmentio_bridge.processors import EventTimeProcessor, MobileVideoProcessor
from tests.conftest import registered
from tests.downstream.conftest import Deliver
from tests.downstream.mobile import BLOCK_ID, VIDEO, make_mobile_event
from tests.downstream.settings import EVENT_TRACKING_PROCESSORS
from tests.downstream.stores import Ralph
from tests.factories import make_event, make_properties
from tests.hostile import VALUES
from tests.test_processors import Keep

pytestmark = pytest.mark.downstream

# Of `make_event()`.
HAPPENED = datetime(2026, 3, 2, 9, 15, 27, 352000, UTC)
RECEIVED = datetime(2026, 3, 2, 9, 15, 29, 4000, UTC)

PROCESSORS = [EventTimeProcessor(), MobileVideoProcessor()]

NAME = "edx.video.played"


@contextmanager
def event_bus() -> Iterator[None]:
    """Carry what is sent to the event bus to its consumer, which is this process, as Avro."""

    def carry(sender: object, *, metadata: Any, tracking_log: TrackingLogData, **rest: Any) -> None:
        if rest.get("from_event_bus"):
            return
        record = serialize_event_data_to_bytes(
            {"tracking_log": tracking_log}, TRACKING_EVENT_EMITTED
        )
        data = deserialize_bytes_to_event_data(record, TRACKING_EVENT_EMITTED)
        TRACKING_EVENT_EMITTED.send_event_with_custom_metadata(metadata, send_robust=False, **data)

    TRACKING_EVENT_EMITTED.connect(carry)
    try:
        yield
    finally:
        TRACKING_EVENT_EMITTED.disconnect(carry)


def make_events() -> tuple[list[Any], list[dict[str, Any]]]:
    """Return values of all kinds, and raw events that carry them wherever a client may put one.

    Those that are too deep for the bridge are left out.
    """
    values = [json.loads(text) for name, text in VALUES.items() if "deep" not in name]
    return values, [
        make_event(
            properties=make_properties(
                name=NAME,
                data={"module_id": VIDEO, "value": value},
                context={"value": value},
                label=value,
            )
        )
        for value in values
    ]


def check_arrivals(arrived: list[dict[str, Any]], values: list[Any], *, moment: type) -> None:
    assert len(arrived) == len(values) > 100
    for event, value in zip(arrived, values, strict=True):
        assert event["data"] == {"module_id": VIDEO, "value": value, "id": BLOCK_ID}
        context = event["context"]
        assert (context["value"], context["label"]) == (value, value)
        assert context["user_id"] == 1
        stamps = [event["timestamp"], context["timestamp"], context["received_at"]]
        assert all(isinstance(stamp, moment) for stamp in stamps[1:])
        moments = [datetime.fromisoformat(str(stamp)) for stamp in stamps]
        assert moments == [HAPPENED, HAPPENED, RECEIVED]


def test_what_a_client_may_send_survives_the_asynchronous_backend(deliver: Deliver) -> None:
    keep = Keep()
    backend = AsyncRoutingBackend(PROCESSORS, {"keep": keep}, "asynchronous")
    values, events = make_events()
    with registered(Tracker({"asynchronous": backend})):
        deliver(*events)
    check_arrivals(keep.events, values, moment=datetime)


@pytest.mark.parametrize("where", ["before the bus", "behind the bus"])
def test_what_a_client_may_send_survives_the_event_bus(where: str, deliver: Deliver) -> None:
    keep = Keep()
    before, behind = (PROCESSORS, []) if where == "before the bus" else ([], PROCESSORS)
    backend = EventBusRoutingBackend(behind, {"keep": keep}, "bus")
    values, events = make_events()
    with event_bus(), registered(Tracker({"bus": backend}, processors=before)):
        deliver(*events)
    check_arrivals(keep.events, values, moment=str)


@pytest.mark.parametrize("where", ["before the bus", "behind the bus"])
def test_a_statement_is_the_same_by_way_of_the_event_bus(
    where: str, deliver: Deliver, xapi: Ralph
) -> None:
    event = make_mobile_event(NAME)
    deliver(event)
    (statement,) = xapi.statements()

    before, behind = (
        (EVENT_TRACKING_PROCESSORS, [])
        if where == "before the bus"
        else ([], EVENT_TRACKING_PROCESSORS)
    )
    processor = "event_routing_backends.processors.xapi.transformer_processor.XApiProcessor"
    router = {
        "ENGINE": "event_routing_backends.backends.sync_events_router.SyncEventsRouter",
        "OPTIONS": {"backend_name": "xAPI", "processors": [{"ENGINE": processor}]},
    }
    bus = {
        "ENGINE": "eventtracking.backends.event_bus.EventBusRoutingBackend",
        "OPTIONS": {"backend_name": "bus", "processors": behind, "backends": {"xapi": router}},
    }
    with (
        override_settings(EVENT_TRACKING_PROCESSORS=before, EVENT_TRACKING_BACKENDS={"bus": bus}),
        event_bus(),
        registered(DjangoTracker()),
    ):
        deliver(event)
        assert xapi.statements() == [statement]
        xapi.forget()
        deliver(event)
    (again,) = xapi.statements()
    assert {**again, "stored": None} == {**statement, "stored": None}
