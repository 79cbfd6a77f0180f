"""Queue mode: how long the largest delivery takes until it is answered.

python -m tests.benchmarks.queue [--write PAGE]

Starts a RabbitMQ and a Redis of its own, and a site with a worker for each of them.
"""

from __future__ import annotations

import argparse
import sys
import time
from http.client import HTTPConnection
from pathlib import Path
from statistics import median

from tests.demo.server import SECRET, TIMEOUT_SECONDS
from tests.drills.site import Site, SiteOptions, run_site
from tests.servers import RabbitMQ, Redis

from .events import encode, make_events
from .report import replace_section, table

_EVENTS = 4000
_DELIVERIES = 7


def main() -> int:
    """Measure with each broker; print the table, and write it into a page."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.queue")
    parser.add_argument("--write", type=Path, metavar="PAGE")
    page = parser.parse_args().write
    brokers: dict[str, type[RabbitMQ] | type[Redis]] = {"RabbitMQ": RabbitMQ, "Redis": Redis}
    text = table(
        ("broker", "delivery of", "answered after, s"),
        [
            (name, f"{_EVENTS:,} events", f"{_seconds_to_answer(broker):.2f}")
            for name, broker in brokers.items()
        ],
    )
    sys.stdout.write(f"{text}\n")
    if page:
        replace_section(page, "benchmarks of queue mode", text)
    return 0


def _seconds_to_answer(broker: type[RabbitMQ] | type[Redis]) -> float:
    body = encode(make_events(_EVENTS))
    options = SiteOptions(broker=broker, deduplication=False)
    with run_site(options, lease_seconds=None, visibility_seconds=3600) as site:
        if site.worker is None:
            raise TypeError("a site with a broker has a worker")
        # What the worker does with the events is not what the sender waits for.
        site.worker.stop()
        _deliver(site, body)
        return median(_deliver(site, body) for _ in range(_DELIVERIES))


def _deliver(site: Site, body: bytes) -> float:
    start = time.perf_counter()
    http = HTTPConnection("127.0.0.1", site.web.port, timeout=TIMEOUT_SECONDS)
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {SECRET}"}
    http.request("POST", "/segmentio/event", body, headers)
    status = http.getresponse().status
    http.close()
    if status != 200:
        raise ValueError(f"200 expected, not {status}")
    return time.perf_counter() - start


if __name__ == "__main__":
    sys.exit(main())
