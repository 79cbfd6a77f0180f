"""Deliveries over HTTP: gunicorn with one and with two workers, and a load from the same machine.

Each worker answers one request at a time and closes the connection, as gunicorn's default worker
does behind a proxy. What sends the load shares the processors with the server.
"""

from __future__ import annotations

import itertools
import random
import socket
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from urllib.parse import quote

from tests.demo.server import TIMEOUT_SECONDS, serve

from .events import encode, make_events
from .site import BARE_PARSE, BRIDGE, SECRET

_GUNICORN = ("gunicorn", "django.core.wsgi:get_wsgi_application()", "--bind", "fd://{fd}")
_SENDERS_PER_WORKER = 4
_SENDERS_AT_HALF_LOAD = 32
_DISTINCT_SINGLES = 200
_DISTINCT_BATCHES = 4


@dataclass(frozen=True, slots=True)
class HttpScale:
    """How long each load is kept up, in seconds, and how large the batches are, in events."""

    seconds_at_saturation: float
    seconds_at_half_load: float
    batch: int
    large_batch: int
    large_deliveries: int


FULL = HttpScale(
    seconds_at_saturation=4,
    seconds_at_half_load=10,
    batch=1000,
    large_batch=4000,
    large_deliveries=5,
)
QUICK = HttpScale(
    seconds_at_saturation=0.1,
    seconds_at_half_load=0.2,
    batch=100,
    large_batch=400,
    large_deliveries=2,
)


@dataclass(frozen=True, slots=True)
class Load:
    """Requests that are sent in turn, each a delivery of so many events."""

    title: str
    requests: Sequence[bytes]
    events: int


@dataclass(frozen=True, slots=True)
class LoadResult:
    """Deliveries a second at saturation, and seconds to an answer at half of that rate."""

    workers: int
    load: Load
    saturation: float
    p50: float
    p99: float
    answers: int


@dataclass(frozen=True, slots=True)
class LargeDelivery:
    """Seconds until an idle server has answered a delivery of so many events (the median)."""

    workers: int
    events: int
    seconds: float


def measure_http(scale: HttpScale) -> tuple[list[LoadResult], list[LargeDelivery]]:
    """Measure each load, and a large delivery, with one worker and with two."""
    loads = list(_make_loads(scale))
    large_delivery = _make_request(BRIDGE[0], encode(make_events(scale.large_batch)))
    results, large_deliveries = [], []
    for workers in (1, 2):
        with _serve(workers) as port:
            results += [_measure(port, workers, load, scale) for load in loads]
            seconds = [_timed_exchange(port, large_delivery) for _ in range(scale.large_deliveries)]
            large_deliveries.append(LargeDelivery(workers, scale.large_batch, median(seconds)))
    return results, large_deliveries


def _make_loads(scale: HttpScale) -> Iterator[Load]:
    singles = [encode(event) for event in make_events(_DISTINCT_SINGLES)]
    events = make_events(_DISTINCT_BATCHES * scale.batch)
    batches = [encode(events[start::_DISTINCT_BATCHES]) for start in range(_DISTINCT_BATCHES)]
    for title, bodies, size in (
        ("single events", singles, 1),
        (f"batches of {scale.batch:,}", batches, scale.batch),
    ):
        for view, path in (("bridge", BRIDGE[0]), ("bare view", BARE_PARSE[0])):
            requests = [_make_request(path, body) for body in bodies]
            yield Load(f"{title}, {view}", requests, size)


def _make_request(path: str, body: bytes) -> bytes:
    head = (
        f"POST {path}?key={quote(SECRET)} HTTP/1.1\r\n"
        "Host: localhost\r\n"
        "User-Agent: Segment.io/1.0\r\n"
        "Content-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n"
        "\r\n"
    )
    return head.encode() + body


@contextmanager
def _serve(workers: int) -> Iterator[int]:
    with (
        tempfile.TemporaryDirectory() as directory,
        serve(
            Path(directory),
            users={},
            server=(*_GUNICORN, "--workers", str(workers)),
            environ={
                "DJANGO_SETTINGS_MODULE": "tests.benchmarks.settings",
                "DEMO_WEBHOOK_SECRET": SECRET,
            },
        ) as port,
    ):
        yield port


def _measure(port: int, workers: int, load: Load, scale: HttpScale) -> LoadResult:
    for request in load.requests[: 10 * workers]:
        _exchange(port, request)
    saturation = _saturate(port, load, scale.seconds_at_saturation, workers * _SENDERS_PER_WORKER)
    seconds = _send_at_rate(port, load, saturation / 2, scale.seconds_at_half_load)
    percentiles = quantiles(seconds, n=100, method="inclusive")
    return LoadResult(workers, load, saturation, median(seconds), percentiles[98], len(seconds))


def _saturate(port: int, load: Load, seconds: float, senders: int) -> float:
    """Return the answers a second to senders of which each sends on as soon as it is answered."""
    start = time.perf_counter()

    def send(sender: int) -> int:
        for sent in itertools.count(1):
            _exchange(port, load.requests[(sent * senders + sender) % len(load.requests)])
            if time.perf_counter() - start > seconds:
                return sent
        raise AssertionError("counting does not end")

    with ThreadPoolExecutor(senders) as pool:
        answers = sum(pool.map(send, range(senders)))
    return answers / (time.perf_counter() - start)


def _send_at_rate(port: int, load: Load, rate: float, seconds: float) -> list[float]:
    """Send `rate` requests a second at random moments; return the seconds to each answer.

    They count from the moment at which the request was due, so that a server that has fallen
    behind is not spared.
    """
    rng = random.Random(0)
    gaps = (rng.expovariate(rate) for _ in range(max(2, round(rate * seconds))))
    start = time.perf_counter()
    dues = [start + offset for offset in itertools.accumulate(gaps)]

    def send(index: int) -> float:
        time.sleep(max(0.0, dues[index] - time.perf_counter()))
        _exchange(port, load.requests[index % len(load.requests)])
        return time.perf_counter() - dues[index]

    with ThreadPoolExecutor(_SENDERS_AT_HALF_LOAD) as pool:
        return list(pool.map(send, range(len(dues))))


def _timed_exchange(port: int, request: bytes) -> float:
    start = time.perf_counter()
    _exchange(port, request)
    return time.perf_counter() - start


def _exchange(port: int, request: bytes) -> None:
    """Send a request and wait for the answer's end; raise ValueError if the answer is not 200."""
    with socket.create_connection(("127.0.0.1", port), TIMEOUT_SECONDS) as connection:
        connection.sendall(request)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    if not answer.startswith(b"HTTP/1.1 200 "):
        raise ValueError(f"200 expected, not {answer[:40]!r}")
