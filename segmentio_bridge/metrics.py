"""Prometheus metrics: they listen to the app's signals, and the app knows nothing of them.

Needs prometheus_client, and is imported only where that is installed. Importing has no effect.

What is counted comes from outside, the labels do not: their values are statuses, reasons and status
codes, which are closed sets, and the sources that TRACKING_SEGMENTIO_SOURCE_MAP names.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from functools import cache

from prometheus_client import REGISTRY, Counter, Histogram, Metric

from .exceptions import DeliveryRefused
from .outcomes import Outcome, Reason, Status
from .signals import delivery_answered, events_processed

logger = logging.getLogger(__name__)

#: What the endpoint answers to a POST.
STATUS_CODES = (200, *sorted({kind.status_code for kind in DeliveryRefused.__subclasses__()}))

#: In events. Segment's batches have up to 4,000:
#: https://segment.com/docs/connections/destinations/catalog/actions-webhook/#batch-size-limits.
EVENT_BUCKETS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 4_000)

#: In seconds. Segment waits for an answer for 5, or for 10, depending on the destination.
SECOND_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Metrics:
    """All metrics, as one collector: a registry takes all of them or none.

    It is the registry that calls `describe` and `collect`, as
    https://prometheus.github.io/client_python/collector/custom/ has it.

    Each has a label, without which its series would exist at once: prometheus_client would open
    its files in every management command, and raise an error where their directory is missing.
    """

    def __init__(self) -> None:
        self._events = Counter(
            "segmentio_bridge_events_total",
            "Raw events by what became of them.",
            ["outcome", "reason", "source"],
            registry=None,
        )
        self._deliveries = Counter(
            "segmentio_bridge_deliveries_total",
            "Deliveries by the status code of the answer.",
            ["status_code"],
            registry=None,
        )
        self._delivery_events = Histogram(
            "segmentio_bridge_delivery_events",
            "Raw events per delivery, of those not refused as a whole.",
            ["status_code"],
            buckets=EVENT_BUCKETS,
            registry=None,
        )
        self._delivery_duration = Histogram(
            "segmentio_bridge_delivery_duration_seconds",
            "Time from a delivery's arrival at the view to its answer.",
            ["status_code"],
            buckets=SECOND_BUCKETS,
            registry=None,
        )
        # The children of the metrics: to look one up by its labels costs more than to count.
        self._event_counters: dict[tuple[Reason | None, str | None], Counter] = {}
        self._answers: dict[int, tuple[Counter, Histogram]] = {}
        self._sizes: dict[int, Histogram] = {}

    def describe(self) -> Iterator[Metric]:
        """Yield the metrics without their samples."""
        for metric in self._all():
            yield from metric.describe()

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics with their samples."""
        for metric in self._all():
            yield from metric.collect()

    def count_events(self, outcomes: Iterable[Outcome], **kwargs: object) -> None:
        """Receive `events_processed`."""
        numbers: dict[tuple[Reason | None, str | None], int] = {}
        for reason, _, source in outcomes:
            labels = reason, source
            numbers[labels] = numbers.get(labels, 0) + 1
        for labels, number in numbers.items():
            counter = self._event_counters.get(labels)
            if counter is None:
                counter = self._start_events(*labels)
            counter.inc(number)

    def count_delivery(
        self, status_code: int, seconds: float, events: int | None, **kwargs: object
    ) -> None:
        """Receive `delivery_answered`; a delivery that was refused as a whole has no `events`."""
        answers = self._answers.get(status_code)
        if answers is None:
            answers = self._start_answers(status_code)
        deliveries, duration = answers
        deliveries.inc()
        duration.observe(seconds)
        if events is not None:
            size = self._sizes.get(status_code)
            if size is None:
                size = self._sizes[status_code] = self._delivery_events.labels(status_code)
            size.observe(events)

    def _all(self) -> tuple[Counter | Histogram, ...]:
        return self._events, self._deliveries, self._delivery_events, self._delivery_duration

    def _start_events(self, reason: Reason | None, source: str | None) -> Counter:
        # A counter that appears has not risen, to Prometheus: what is rare would be seen from its
        # second time on. So the first event of a source shows all that can become of the next.
        for each in (None, *Reason):
            status = Status.EMITTED if each is None else each.status
            self._event_counters[each, source] = self._events.labels(
                status, each or "", source or ""
            )
        return self._event_counters[reason, source]

    def _start_answers(self, status_code: int) -> tuple[Counter, Histogram]:
        for each in STATUS_CODES:
            self._deliveries.labels(each)
        answers = self._deliveries.labels(status_code), self._delivery_duration.labels(status_code)
        self._answers[status_code] = answers
        return answers


@cache
def connect() -> None:
    """Count from now on, in prometheus_client's own registry; a second call changes nothing.

    Never raises: where the names are taken in that registry, that is logged, and nothing counted.
    """
    metrics = Metrics()
    try:
        REGISTRY.register(metrics)
    except ValueError:
        logger.warning(
            "The metrics are not counted: Prometheus' registry has metrics of these names already."
        )
        return
    events_processed.connect(metrics.count_events, weak=False)
    delivery_answered.connect(metrics.count_delivery, weak=False)
