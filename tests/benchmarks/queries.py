"""The user query of a delivery: what it costs this process, and how long the database takes."""

from __future__ import annotations

import time
from dataclasses import dataclass
from statistics import median

from segmentio_bridge.users import find_users

from .events import USERS


@dataclass(frozen=True, slots=True)
class QueryTime:
    """Medians in seconds: CPU time of this process, and time until the answer was there."""

    users: int
    cpu: float
    elapsed: float


def measure_queries(repetitions: int) -> list[QueryTime]:
    """Measure the query of a single delivery, of a small batch and of one with every user."""
    return [_measure(users, repetitions) for users in (1, 10, USERS)]


def _measure(users: int, repetitions: int) -> QueryTime:
    keys = range(1, users + 1)
    find_users(keys)
    cpu, elapsed = [], []
    for _ in range(repetitions):
        cpu_start, start = time.process_time(), time.perf_counter()
        find_users(keys)
        elapsed.append(time.perf_counter() - start)
        cpu.append(time.process_time() - cpu_start)
    return QueryTime(users, median(cpu), median(elapsed))
