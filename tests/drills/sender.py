"""Plays Segment as a sender: distinct events, single and in batches, retried until they are taken.

What it makes of an answer is what Segment makes of it, only sooner: it waits 50 milliseconds to two
seconds between attempts, where Segment goes on for four hours.
"""

from __future__ import annotations

import heapq
import http.client
import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from urllib.parse import quote

from tests.benchmarks.events import encode
from tests.factories import make_event, make_properties

#: The users that the events are of have the primary keys from 1 to this.
USERS = 50

_TIMEOUT_SECONDS = 5
_SHORTEST_BACKOFF_SECONDS = 0.05
_LONGEST_BACKOFF_SECONDS = 2
_LONGEST_BACKOFF_ATTEMPT = 10


@dataclass(frozen=True, slots=True)
class Traffic:
    """How much is sent for how long.

    With `repeats`, three in a hundred events are sent a second time though they were delivered, and
    one in a hundred is sent twice at once.
    """

    seconds: float
    events_per_second: float
    repeats: bool
    largest_batch: int = 40
    senders: int = 6


@dataclass(frozen=True, slots=True, order=True)
class _Task:
    """An event to send, once it is due."""

    due: float
    order: int
    number: int
    attempt: int = 0


class Sender:
    """Sends from `with` on, in threads, until the end of the block.

    Events are known by their numbers, from 0 on, which go with their data to the tracking log.
    """

    def __init__(self, port: int, secret: str, traffic: Traffic) -> None:
        self._port = port
        self._path = f"/segmentio/event?key={quote(secret)}"
        self._traffic = traffic
        self._orders = itertools.count()
        self._changed = threading.Condition()
        self._stopping = False
        self._threads = [threading.Thread(target=self._work) for _ in range(traffic.senders)]
        self._tasks: list[_Task] = []
        self._bodies: list[bytes] = []
        self._unsettled: Counter[int] = Counter()
        #: How many requests were answered how; those that were not answered count as 0.
        self.answers: Counter[int] = Counter()
        #: Events that were answered 2xx, which is all that Segment looks at.
        self.believed_delivered: set[int] = set()
        #: Events that were answered so that Segment would discard them.
        self.dropped: set[int] = set()
        #: Events in a request that the sender gave up waiting for.
        self.timed_out: set[int] = set()

    def __enter__(self) -> Self:
        for due in self._schedule(time.monotonic()):
            self._bodies.append(_make_body(len(self._bodies)))
            twice = self._traffic.repeats and random.random() < 0.01
            for _ in range(2 if twice else 1):
                self._add(due, len(self._bodies) - 1)
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    @property
    def events(self) -> int:
        """The number of distinct events."""
        return len(self._bodies)

    @property
    def unsettled(self) -> int:
        """The number of events that the sender is not done with."""
        with self._changed:
            return len(self._unsettled)

    def _schedule(self, start: float) -> Iterator[float]:
        """Yield the moments at which events are due: in bursts, which batches are made of."""
        offset = 0.0
        while offset < self._traffic.seconds:
            burst = random.choice((1, random.randint(2, self._traffic.largest_batch)))
            yield from itertools.repeat(start + offset, burst)
            offset += burst / self._traffic.events_per_second

    def _add(self, due: float, number: int, attempt: int = 0) -> None:
        heapq.heappush(self._tasks, _Task(due, next(self._orders), number, attempt))
        if not attempt:
            self._unsettled[number] += 1

    def _work(self) -> None:
        while tasks := self._take():
            status = self._deliver([task.number for task in tasks])
            with self._changed:
                self.answers[status] += 1
                for task in tasks:
                    self._settle(task, status)
                self._changed.notify_all()

    def _take(self) -> Sequence[_Task]:
        """Wait for events to be due and return those of the next request; none at the end."""
        size = random.choice((1, random.randint(2, self._traffic.largest_batch)))
        with self._changed:
            while not self._stopping:
                now = time.monotonic()
                tasks: list[_Task] = []
                while self._tasks and self._tasks[0].due <= now and len(tasks) < size:
                    tasks.append(heapq.heappop(self._tasks))
                if tasks:
                    return tasks
                self._changed.wait(self._tasks[0].due - now if self._tasks else None)
            return ()

    def _deliver(self, numbers: Sequence[int]) -> int:
        """Make a request and return the status of the answer, or 0 if there is none."""
        bodies = [self._bodies[number] for number in numbers]
        body = bodies[0] if len(bodies) == 1 else b"[%b]" % b",".join(bodies)
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_TIMEOUT_SECONDS)
        headers = {"Content-Type": "application/json", "User-Agent": "Segment (Actions)"}
        try:
            connection.request("POST", self._path, body, headers)
            return connection.getresponse().status
        except TimeoutError:
            with self._changed:
                self.timed_out.update(numbers)
            return 0
        except (OSError, http.client.HTTPException):
            return 0
        finally:
            connection.close()

    def _settle(self, task: _Task, status: int) -> None:
        now = time.monotonic()
        if _is_to_be_retried(status):
            # The exponent is limited, for no float is as large as what a patient sender comes to.
            exponent = min(task.attempt, _LONGEST_BACKOFF_ATTEMPT)
            longest = min(_SHORTEST_BACKOFF_SECONDS * 2**exponent, _LONGEST_BACKOFF_SECONDS)
            wait = random.uniform(_SHORTEST_BACKOFF_SECONDS, longest)
            self._add(now + wait, task.number, task.attempt + 1)
            return
        self._unsettled[task.number] -= 1
        if not self._unsettled[task.number]:
            del self._unsettled[task.number]
        if not 200 <= status < 300:
            self.dropped.add(task.number)
            return
        self.believed_delivered.add(task.number)
        if self._traffic.repeats and random.random() < 0.03:
            self._add(now + random.uniform(0, _LONGEST_BACKOFF_SECONDS), task.number)


def _is_to_be_retried(status: int) -> bool:
    if status >= 500:
        return status != 501
    return status == 0 or 300 <= status < 400 or status in (408, 423, 429)


def _make_body(number: int) -> bytes:
    return encode(
        make_event(
            messageId=f"drill-{number:06}",
            userId=str(1 + number % USERS),
            properties=make_properties(data={"code": "mobile", "number": number}),
        )
    )
