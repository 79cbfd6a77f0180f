"""What it costs to replay an archive, in time and in memory, beside the bare emission.

python -m tests.benchmarks.replay                     a million events, in about five minutes
python -m tests.benchmarks.replay --events 100000     fewer

Needs /proc, and 1 GB of disk space for a million events.
"""

from __future__ import annotations

import argparse
import gzip
import io
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from segmentio_bridge.outcomes import Outcome

from . import bare
from .events import encode, make_events
from .report import describe_environment, table
from .site import benchmark_site

_DISTINCT_EVENTS = 5_000
_EVENTS_IN_A_FILE = 100_000
_LINES_AT_ONCE = 1_000
_EVENTS_BETWEEN_FLOORS = 20_000
_EVENTS_OF_A_FLOOR = 1_000
_MIB = 1024 * 1024
_MICROSECONDS = 1e6


def main() -> None:
    """Write an archive, replay it, and print what that took."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.replay")
    parser.add_argument("--events", type=int, default=1_000_000)
    events: int = parser.parse_args().events
    with (
        benchmark_site("sqlite"),
        tempfile.TemporaryDirectory(prefix="segmentio-replay-") as directory,
    ):
        sys.stdout.write(f"{describe_environment()}\n\n")
        archive = Path(directory, "archive")
        stored, expanded = _write_archive(archive, events)
        sys.stdout.write(f"{events:,} events, {stored:,.0f} MiB, expanded {expanded:,.0f} MiB\n\n")
        sys.stdout.write(f"{_measure(archive, events, Path(directory))}\n")


def _write_archive(directory: Path, events: int) -> tuple[float, float]:
    """Write events of a few thousand kinds, no two with the same id; return sizes in MiB."""
    directory.mkdir()
    lines = _make_lines(events)
    expanded = 0
    for number in range(-(-events // _EVENTS_IN_A_FILE)):
        with gzip.open(directory / f"{number:05}.gz", "wb", compresslevel=1) as file:
            for _ in range(_EVENTS_IN_A_FILE // _LINES_AT_ONCE):
                expanded += file.write(b"".join(islice(lines, _LINES_AT_ONCE)))
    stored = sum(file.stat().st_size for file in directory.iterdir())
    return stored / _MIB, expanded / _MIB


def _make_lines(count: int) -> Iterator[bytes]:
    parts = []
    for event in make_events(_DISTINCT_EVENTS):
        before, _, behind = encode(event).partition(event["messageId"].encode())
        parts.append((before, behind + b"\n"))
    for number in range(count):
        before, behind = parts[number % len(parts)]
        yield b"%b%032x%b" % (before, number, behind)


class _Observer:
    """Looks at the memory of the process while events are recorded, and at the floor in between.

    So the floor is measured under the same load of the machine as what stands on it.
    """

    def __init__(self, events: int) -> None:
        self._tenth = events // 10
        self._floor_events = _find_finished_events()
        self.events = 0
        self.at_a_tenth = 0.0
        self.at_the_end = 0.0
        self.emitted = 0
        self.cpu = 0.0
        self.elapsed = 0.0

    def __call__(self, outcomes: list[Outcome], **kwargs: Any) -> None:
        self.events += len(outcomes)
        self.at_the_end = _resident()
        if self.events <= self._tenth:
            self.at_a_tenth = self.at_the_end
        if self.events % _EVENTS_BETWEEN_FLOORS == 0:
            elapsed, cpu = time.perf_counter(), time.process_time()
            bare.emit(self._floor_events)
            self.cpu += time.process_time() - cpu
            self.elapsed += time.perf_counter() - elapsed
            self.emitted += len(self._floor_events)


def _measure(archive: Path, events: int, directory: Path) -> str:
    from django.core.management import call_command

    from segmentio_bridge.signals import events_processed

    observer = _Observer(events)
    events_processed.connect(observer)
    said = io.StringIO()
    started, cpu_started = time.perf_counter(), time.process_time()
    call_command(
        "segmentio_replay",
        str(archive),
        resume=str(directory / "checkpoint"),
        stdout=said,
        stderr=said,
    )
    cpu = (time.process_time() - cpu_started - observer.cpu) / events
    elapsed = (time.perf_counter() - started - observer.elapsed) / events
    events_processed.disconnect(observer)
    if f"emitted          {events:,}" not in said.getvalue() or observer.events != events:
        raise ValueError(said.getvalue())
    reading = _measure_reading(archive)
    floor, floor_elapsed = observer.cpu / observer.emitted, observer.elapsed / observer.emitted
    rates = table(
        ("", "CPU, µs per event", "events per second"),
        [
            ("replay", f"{cpu * _MICROSECONDS:.1f}", f"{1 / elapsed:,.0f}"),
            ("of that, reading and parsing", f"{reading * _MICROSECONDS:.1f}", ""),
            ("bare emit", f"{floor * _MICROSECONDS:.1f}", f"{1 / floor_elapsed:,.0f}"),
            ("replay / bare emit", f"{cpu / floor:.2f}", f"{floor_elapsed / elapsed:.2f}"),
        ],
    )
    memory = table(
        ("resident set", "MiB"),
        [
            ("after 10 %", f"{observer.at_a_tenth:.1f}"),
            ("after 100 %", f"{observer.at_the_end:.1f}"),
        ],
    )
    return f"{rates}\n\n{memory}"


def _find_finished_events() -> list[bare.FinishedEvent]:
    from segmentio_bridge.payload import parse_events
    from segmentio_bridge.pipeline import process

    with bare.finished_events() as finished:
        process(parse_events(encode(make_events(_EVENTS_OF_A_FLOOR))))
    return finished


def _measure_reading(archive: Path) -> float:
    """Return the CPU seconds that it takes to read an event out of the archive."""
    from segmentio_bridge.replay import Archive, Place

    first = min(archive.iterdir())
    started = time.process_time()
    batches = Archive([str(first)]).read_batches(1000, Place())
    events = sum(1 for batch in batches for _ in batch.parse())
    return (time.process_time() - started) / events


def _resident() -> float:
    """Return the resident set of this process in MiB."""
    status = Path("/proc/self/status").read_text()
    (kibibytes,) = re.findall(r"^VmRSS:\s+(\d+) kB$", status, re.MULTILINE)
    return int(kibibytes) / 1024


if __name__ == "__main__":
    main()
