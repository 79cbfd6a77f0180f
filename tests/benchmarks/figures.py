"""What the bridge costs in CPU time and in memory, over the least that it could cost.

Every delivery goes through Django's WSGI handler and the site's middleware, and so do the bare
views that it is compared with.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from . import bare
from .bare import FinishedEvent, finished_events
from .events import (
    Filling,
    encode,
    fill_with_fields,
    fill_with_texts,
    fill_with_traits,
    make_events,
    make_ignored_events,
)
from .measuring import Figure, Workload, make_figure, measure
from .site import BARE_PARSE, BARE_REFUSE, BRIDGE, Environ, Site, make_environs

_SMALL_BATCH = 10
_MICROSECONDS = 1e6
_STRANGERS_GUESS = "not the secret"


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured: repetitions, deliveries of single events in each, and batch sizes."""

    repetitions: int
    memory_repetitions: int
    singles: int
    batch: int
    large_batch: int


FULL = Scale(repetitions=31, memory_repetitions=3, singles=500, batch=1000, large_batch=4000)
QUICK = Scale(repetitions=2, memory_repetitions=1, singles=20, batch=100, large_batch=400)


def measure_figures(scale: Scale) -> Iterator[Figure]:
    """Measure one figure after the other; the whole takes a few minutes at full scale."""
    site = Site()
    yield _event_of_batch(site, scale, fill_with_fields, at_most=1.15)
    yield _single_delivery(site, scale)
    yield _ignored_event(site, scale)
    yield _refused_request(site, scale)
    yield _growth(site, scale)
    yield _peak_memory(scale, "rss", "resident set")
    yield _peak_memory(scale, "tracemalloc", "Python's own allocations")
    yield _event_of_batch(site, scale, fill_with_texts, " with longer texts")
    yield _event_of_batch(site, scale, fill_with_traits, " with more that is not emitted")


def _event_of_batch(
    site: Site, scale: Scale, fill: Filling, addition: str = "", at_most: float | None = None
) -> Figure:
    bodies = [encode(make_events(scale.batch, fill))]
    samples = measure(
        scale.repetitions,
        _deliveries(site, BRIDGE, bodies),
        _emissions(_finish(site, bodies)),
    )
    return make_figure(
        f"an event of a batch of {scale.batch:,}{addition} / bare emit",
        at_most,
        [(view, emission) for view, emission in samples],
        unit="µs per event",
        units=_MICROSECONDS / scale.batch,
    )


def _single_delivery(site: Site, scale: Scale) -> Figure:
    bodies = [encode(event) for event in make_events(scale.singles)]
    samples = measure(
        scale.repetitions,
        _deliveries(site, BRIDGE, bodies),
        _bare_deliveries(site, bodies, _finish(site, bodies)),
    )
    return make_figure(
        "a single delivery / bare view that parses + bare emit",
        1.6,
        [(view, floor) for view, floor in samples],
        unit="µs per request",
        units=_MICROSECONDS / scale.singles,
    )


def _ignored_event(site: Site, scale: Scale) -> Figure:
    bodies = [encode(event) for event in make_ignored_events(scale.singles)]
    samples = measure(
        scale.repetitions,
        _deliveries(site, BRIDGE, bodies),
        _deliveries(site, BARE_PARSE, bodies),
    )
    return make_figure(
        "an ignored single event / bare view that parses",
        1.3,
        [(view, parsing) for view, parsing in samples],
        unit="µs per request",
        units=_MICROSECONDS / scale.singles,
    )


def _refused_request(site: Site, scale: Scale) -> Figure:
    bodies = [encode(event) for event in make_events(scale.singles)]
    samples = measure(
        scale.repetitions, _refusals(site, BRIDGE, bodies), _refusals(site, BARE_REFUSE, bodies)
    )
    return make_figure(
        "a refused request / bare 401",
        1.3,
        [(view, refusal) for view, refusal in samples],
        unit="µs per request",
        units=_MICROSECONDS / scale.singles,
    )


def _growth(site: Site, scale: Scale) -> Figure:
    events = make_events(scale.large_batch)
    small_batches = [
        encode(events[start : start + _SMALL_BATCH])
        for start in range(0, len(events), _SMALL_BATCH)
    ]
    samples = measure(
        scale.repetitions,
        _deliveries(site, BRIDGE, [encode(events)]),
        _deliveries(site, BRIDGE, small_batches),
    )
    return make_figure(
        f"an event of a batch of {scale.large_batch:,} / of {_SMALL_BATCH}",
        1.1,
        [(large, small) for large, small in samples],
        unit="µs per event",
        units=_MICROSECONDS / scale.large_batch,
    )


def _peak_memory(scale: Scale, meter: str, meter_title: str) -> Figure:
    body = encode(make_events(scale.large_batch))
    with tempfile.NamedTemporaryFile() as file:
        file.write(body)
        file.flush()
        command = [sys.executable, "-m", "tests.benchmarks.memory", meter, file.name]
        samples = [
            (float(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout), len(body))
            for _ in range(scale.memory_repetitions)
        ]
    return make_figure(
        f"peak memory of a delivery of {scale.large_batch:,} ({meter_title}) / its body",
        6,
        samples,
        unit="MiB",
        units=2**-20,
    )


def _deliveries(site: Site, paths: Sequence[str], bodies: Sequence[bytes]) -> Workload:
    def prepare() -> Callable[[], object]:
        environs = make_environs(paths, bodies)
        return lambda: site.deliver(environs)

    return prepare


def _bare_deliveries(
    site: Site, bodies: Sequence[bytes], events: Sequence[FinishedEvent]
) -> Workload:
    """Return a workload of taking turns at the bare view and the bare emission.

    Each alone, many times over, would be measured faster than it ever is in a delivery: the
    processor's caches would hold nothing but its code.
    """

    def run(environs: Sequence[Environ]) -> None:
        for environ, event in zip(environs, events, strict=True):
            site.deliver([environ])
            bare.emit([event])

    def prepare() -> Callable[[], object]:
        environs = make_environs(BARE_PARSE, bodies)
        return lambda: run(environs)

    return prepare


def _refusals(site: Site, paths: Sequence[str], bodies: Sequence[bytes]) -> Workload:
    def prepare() -> Callable[[], object]:
        environs = make_environs(paths, bodies, secret=_STRANGERS_GUESS)
        return lambda: site.deliver(environs, status="401 Unauthorized")

    return prepare


def _emissions(events: Sequence[FinishedEvent]) -> Workload:
    return lambda: lambda: bare.emit(events)


def _finish(site: Site, bodies: Sequence[bytes]) -> list[FinishedEvent]:
    """Deliver the bodies and return what the bridge emitted."""
    with finished_events() as events:
        site.deliver(make_environs(BRIDGE, bodies))
    return events
