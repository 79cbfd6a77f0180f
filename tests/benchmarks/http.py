"""Deliveries over HTTP: gunicorn with one and with two workers, and a load on the same machine.

Each worker answers one request at a time and closes the connection, as gunicorn's default worker
does behind a proxy. What sends the load shares the processors with the server.
"""

from __future__ import annotations

import itertools
import random
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from urllib.parse import quote

from tests.demo.server import SECRET, TIMEOUT_SECONDS, serve

from .events import encode, make_events
from .site import BARE_PARSE, BRIDGE

_SENDERS_AT_SATURATION_PER_WORKER = 4
_SENDERS_AT_HALF_LOAD = 32


@dataclass(frozen=True, slots=True)
class HttpScale:
    """How long and with what is measured, in seconds and events."""

    saturated_seconds: float
    half_loaded_seconds: float
    largest_deliveries: int
    batch: int
    large_batch: int


FULL = HttpScale(
    saturated_seconds=4,
    half_loaded_seconds=10,
    largest_deliveries=5,
    batch=1000,
    large_batch=4000,
)
QUICK = HttpScale(
    saturated_seconds=0.2,
    half_loaded_seconds=0.3,
    largest_deliveries=1,
    batch=100,
    large_batch=400,
)


@dataclass(frozen=True, slots=True)
class Load:
    """Requests to send in turn, each of a delivery of so many events."""

    title: str
    requests: Sequence[bytes]
    events: int


@dataclass(frozen=True, slots=True)
class LoadResult:
    """Deliveries a second at saturation, and seconds to an answer at half of that."""

    workers: int
    load: Load
    saturation: float
    answered: int
    p50: float
    p99: float


@dataclass(frozen=True, slots=True)
class LargeDelivery:
    """The median of the seconds to answer one delivery of many events, sent to an idle server."""

    workers: int
    events: int
    seconds: float


def measure_http(scale: HttpScale) -> Iterator[LoadResult | LargeDelivery]:
    """Measure each load against one worker and against two."""
    loads = _make_loads(scale)
    largest = _request(BRIDGE, encode(make_events(scale.large_batch)))
    for workers in (1, 2):
        with tempfile.TemporaryDirectory() as directory, _serve(Path(directory), workers) as port:
            for load in loads:
                yield _measure(port, workers, load, scale)
            seconds = median(
                _exchange(port, largest, start=time.perf_counter())
                for _ in range(scale.largest_deliveries)
            )
            yield LargeDelivery(workers, scale.large_batch, seconds)


def _make_loads(scale: HttpScale) -> list[Load]:
    singles = [encode(event) for event in make_events(200)]
    batches = [encode(make_events(scale.batch + number)[number:]) for number in range(4)]
    return [
        Load(f"{title}, {view}", [_request(path, body) for body in bodies], events)
        for title, bodies, events in (
            ("single events", singles, 1),
            (f"batches of {scale.batch:,}", batches, scale.batch),
        )
        for view, path in (("bridge", BRIDGE), ("bare view", BARE_PARSE))
    ]
