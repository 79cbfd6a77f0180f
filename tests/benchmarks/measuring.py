"""CPU time of several workloads, measured so that their ratios mean something."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

#: Returns what is to be measured, prepared for being run once.
Workload = Callable[[], Callable[[], object]]


@dataclass(frozen=True, slots=True)
class Figure:
    """Ratios of what was measured to its floor, one for each repetition, and their target if any.

    `measured` and `floor` are the medians in `unit`.
    """

    title: str
    at_most: float | None
    ratios: Sequence[float]
    measured: float
    floor: float
    unit: str


def make_figure(
    title: str,
    at_most: float | None,
    samples: Sequence[tuple[float, float]],
    *,
    unit: str,
    units: float,
) -> Figure:
    """Return the figure for pairs of what was measured and its floor, in seconds or bytes.

    `units` is how many of `unit` there are in one of those.
    """
    return Figure(
        title=title,
        at_most=at_most,
        ratios=[measured / floor for measured, floor in samples],
        measured=median(measured for measured, _ in samples) * units,
        floor=median(floor for _, floor in samples) * units,
        unit=unit,
    )


def measure(repetitions: int, *workloads: Workload) -> list[list[float]]:
    """Return the CPU seconds (user and system) of each workload in each repetition.

    The workloads take turns, in the opposite order every other time, after one turn to warm up.
    Each starts with garbage collected, and the collector runs as it does in a server.
    """
    for prepare in workloads:
        prepare()()
    samples = []
    for repetition in range(repetitions):
        order = list(enumerate(workloads))
        seconds = [0.0] * len(workloads)
        for index, prepare in reversed(order) if repetition % 2 else order:
            seconds[index] = _cpu_seconds(prepare())
        samples.append(seconds)
    return samples


def _cpu_seconds(run: Callable[[], object]) -> float:
    gc.collect()
    start = time.process_time()
    run()
    return time.process_time() - start
