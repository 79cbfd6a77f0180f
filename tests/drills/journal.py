"""The site's journal: which events were logged, in which requests and tasks, and which of these
never came to their end.

Every process of the site appends lines to it: `TIME PID begin`, `TIME PID end`, and for an event of
the tracking log `TIME PID JSON`.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(slots=True, eq=False)
class Unit:
    """A request or a task, as one process worked on it.

    `ended` is None if the process was killed before. `logged` are the numbers of the events.
    """

    began: float
    ended: float | None = None
    logged: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Journal:
    """What the journal tells: all units of work, and how many lines nobody can read."""

    units: Sequence[Unit]
    torn_lines: int

    def units_by_event(self) -> dict[int, list[Unit]]:
        """Return for each logged event the units that it was logged in, once for each time."""
        units = defaultdict(list)
        for unit in self.units:
            for number in unit.logged:
                units[number].append(unit)
        return dict(units)


def read_journal(path: Path) -> Journal:
    """Read the journal of a site; it may go on being written to."""
    units: list[Unit] = []
    current: dict[str, Unit] = {}
    torn_lines = 0
    # What comes after the last line break is still being written.
    for line in path.read_bytes().split(b"\n")[:-1] if path.exists() else ():
        try:
            time, pid, message = line.decode().split(" ", 2)
            if message == "begin":
                current[pid] = Unit(float(time))
                units.append(current[pid])
            elif message == "end":
                current.pop(pid).ended = float(time)
            else:
                current[pid].logged.append(json.loads(message)["data"]["number"])
        except (ValueError, KeyError):
            torn_lines += 1
    return Journal(units, torn_lines)
