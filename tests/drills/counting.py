"""What became of the events of a drill, counted.

The promise: an event that the sender believes to be delivered is in the tracking log, and it is
there once. More than once only if a process was killed while it worked on the event, or if the
cache that remembers events was away.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from .journal import Journal, Unit
from .sender import Sender
from .site import Site


@dataclass(frozen=True, slots=True)
class Count:
    """What became of the events of a drill."""

    strikes: int
    #: How often the worker ended or gave up, and was started again.
    revivals: int
    events: int
    requests: int
    #: Requests that were to be sent again.
    failed_requests: int
    believed_delivered: int
    logged: int
    #: Believed to be delivered, and not logged.
    missing: int
    #: In requests and tasks that a kill cut short: as many may be logged again.
    in_flight: int
    #: Logged more than once, as may happen.
    doubled: int
    #: Logged more than once, as must not happen.
    wrongly_doubled: int
    #: Answered so that Segment would discard them.
    dropped: int
    never_delivered: int
    #: Messages that the broker was left with.
    queued: int
    #: Lines of the journal that nobody can read.
    torn_lines: int
    seconds: float

    @property
    def broken_promises(self) -> list[str]:
        """Say what should not have happened, if anything."""
        faults = {
            "events were believed to be delivered, but not logged": self.missing,
            "events were logged more than once without a reason": self.wrongly_doubled,
            "events were answered so that Segment discards them": self.dropped,
            "events were not delivered at the end": self.never_delivered,
            "messages were left in the broker": self.queued,
            "lines of the log cannot be read": self.torn_lines,
        }
        return [f"{count:,} {fault}" for fault, count in faults.items() if count]


def count_events(
    sender: Sender,
    journal: Journal,
    site: Site,
    *,
    is_deduplicated: bool,
    strikes: int,
    revivals: int,
    queued: int,
    seconds: float,
) -> Count:
    """Compare what was sent with what was logged."""
    units = journal.units_by_event()
    doubled = {number for number, times in units.items() if len(times) > 1}
    is_excused = _make_excuse(site)
    wrongly_doubled = {
        number
        for number in doubled
        if not is_excused(units[number])
        # Without deduplication the sender's impatience is enough.
        and (is_deduplicated or number not in sender.timed_out)
    }
    cut_short = [unit for unit in journal.units if unit.ended is None]
    missing = sender.believed_delivered - units.keys()
    requests = sender.answers.total()
    return Count(
        strikes=strikes,
        revivals=revivals,
        events=sender.events,
        requests=requests,
        failed_requests=requests
        - sum(count for status, count in sender.answers.items() if 200 <= status < 300),
        believed_delivered=len(sender.believed_delivered),
        logged=len(units),
        missing=len(missing),
        in_flight=len({number for unit in cut_short for number in unit.logged}),
        doubled=len(doubled - wrongly_doubled),
        wrongly_doubled=len(wrongly_doubled),
        dropped=len(sender.dropped),
        never_delivered=sender.unsettled,
        queued=queued,
        torn_lines=journal.torn_lines,
        seconds=seconds,
    )


def _make_excuse(site: Site) -> Callable[[Iterable[Unit]], bool]:
    """Return a function from the units that logged an event to whether they may all have done so.

    Where nothing went wrong an event is logged by one unit only, unless the cache forgets it.
    """
    outages = site.cache_outages
    is_forgetful = site.cache is not None and not site.cache.persistent
    losses_of_memory = [outage.ended for outage in outages] if is_forgetful else []

    def is_disturbed(unit: Unit) -> bool:
        return unit.ended is None or any(
            unit.began < outage.ended and outage.began < unit.ended for outage in outages
        )

    def is_excused(units: Iterable[Unit]) -> bool:
        ages = [bisect(losses_of_memory, unit.began) for unit in units if not is_disturbed(unit)]
        return len(ages) == len(set(ages))

    return is_excused
