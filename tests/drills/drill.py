"""One drill: a site, events coming in, harm being done to it, and the wait until all is well."""

from __future__ import annotations

import random
import shutil
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.demo.server import SECRET

from .counting import Count, count_events
from .journal import read_journal
from .sender import Sender, Traffic
from .site import Site, SiteOptions, run_site
from .strikes import Strike

_POLL_SECONDS = 0.5
# A site that has nothing left to do, and has noted nothing for so long, is done.
_QUIET_SECONDS = 3


@dataclass(frozen=True, slots=True)
class Drill:
    """What is done to which site, and how often: `pause` is the mean of the seconds in between."""

    name: str
    title: str
    site: SiteOptions
    strikes: Sequence[Strike] = ()
    pause: float = 1
    #: How many times as long as the others this one takes, as what it does takes longer.
    length: float = 1
    #: Whether it is worth its time where there is little of it.
    quick: bool = False


@dataclass(frozen=True, slots=True)
class Scale:
    """How long a drill takes, and how long everything may take to come right afterwards.

    `lease_seconds` replaces the bridge's own, unless it is None.
    """

    seconds: float
    events_per_second: float
    pauses: float
    recovery_seconds: float
    lease_seconds: int | None
    visibility_seconds: int


FULL = Scale(
    seconds=25,
    events_per_second=120,
    pauses=1,
    recovery_seconds=200,
    lease_seconds=None,
    # A worker waits up to 35 seconds between its attempts while claims run out.
    visibility_seconds=40,
)
QUICK = Scale(
    seconds=6,
    events_per_second=150,
    pauses=0.6,
    recovery_seconds=60,
    lease_seconds=6,
    visibility_seconds=10,
)


class Interrupted(Exception):
    """The drill was told to end before its time."""


def run_drill(
    drill: Drill, scale: Scale, interrupted: threading.Event, keep: Path | None = None
) -> Count:
    """Run a drill and count; raise Interrupted if `interrupted` is set meanwhile.

    The logs of the site are copied to the folder `keep`.
    """
    start = time.monotonic()
    traffic = Traffic(
        seconds=scale.seconds * drill.length,
        events_per_second=scale.events_per_second,
        repeats=drill.site.deduplication,
    )
    with run_site(drill.site, scale.lease_seconds, scale.visibility_seconds) as site:
        try:
            with Sender(site.web.port, SECRET, traffic) as sender:
                supervision = _Supervision(site, interrupted)
                strikes = _strike(site, drill, scale, supervision)
                queued = _recover(site, sender, scale, supervision)
            site.stop()
        finally:
            if keep:
                _copy_logs(site, keep)
        journal = read_journal(site.journal)
    return count_events(
        sender,
        journal,
        site,
        is_deduplicated=drill.site.deduplication,
        strikes=strikes,
        revivals=supervision.revivals,
        queued=queued,
        seconds=time.monotonic() - start,
    )


class _Supervision:
    """Waits, and meanwhile does what an init system does for a worker that has ended by itself."""

    def __init__(self, site: Site, interrupted: threading.Event) -> None:
        self.revivals = 0
        self._site = site
        self._interrupted = interrupted

    def wait(self, seconds: float) -> None:
        if self._interrupted.wait(seconds):
            raise Interrupted
        if self._site.revive_worker():
            self.revivals += 1


def _strike(site: Site, drill: Drill, scale: Scale, supervision: _Supervision) -> int:
    """Strike for as long as new events come in; return how often."""
    end = time.monotonic() + scale.seconds * drill.length
    strikes = 0
    while (remaining := end - time.monotonic()) > 0:
        pause = random.uniform(0.2, 1.8) * drill.pause * scale.pauses
        supervision.wait(min(pause, remaining))
        if drill.strikes and pause < remaining:
            random.choice(drill.strikes)(site)
            strikes += 1
    return strikes


def _recover(site: Site, sender: Sender, scale: Scale, supervision: _Supervision) -> int:
    """Wait until all is delivered and nothing is left to do, or for so long.

    Returns how many messages are left in the broker.
    """
    deadline = time.monotonic() + scale.recovery_seconds
    while time.monotonic() < deadline:
        supervision.wait(_POLL_SECONDS)
        is_quiet = time.time() - site.journal.stat().st_mtime > _QUIET_SECONDS
        if is_quiet and not sender.unsettled and not site.count_queued_messages():
            return 0
    return site.count_queued_messages()


def _copy_logs(site: Site, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for log in site.logs:
        if log.exists():
            name = log.name if log.parent == site.directory else f"{log.parent.name}.log"
            shutil.copy(log, folder / name)
