"""Stored events as the payload of a delivery once more, and trusted no more than in the first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from ..exceptions import MalformedBody
from ..outcomes import Reason
from ..payload import Payload, parse_events
from .models import QuarantinedEvent

T = TypeVar("T")


def redeliver(
    rows: Sequence[QuarantinedEvent], take: Callable[[Payload], Sequence[T]], malformed: T
) -> list[T]:
    """Return what `take` makes of each event, given all of them in one payload.

    Where that cannot be parsed, each event is given in one of its own. `malformed` is the answer
    for what is no JSON, and is given to nothing: a body that was refused was refused as a whole,
    and may be cut.

    Raises what `take` raises, but for MalformedBody, which it has to raise before it does anything.
    """
    raws = [row.raw for row in rows if row.reason != Reason.MALFORMED_BODY]
    answers = iter(_redeliver(raws, take, malformed))
    return [malformed if row.reason == Reason.MALFORMED_BODY else next(answers) for row in rows]


def _redeliver(raws: list[bytes], take: Callable[[Payload], Sequence[T]], malformed: T) -> list[T]:
    if not raws:
        return []
    try:
        # Each of them has been parsed as an element of a batch, or could have been.
        return list(take(parse_events(b"[%b]" % b",".join(raws))))
    except MalformedBody:
        if len(raws) == 1:
            return [malformed]
    # Nothing has been emitted. One of them is too deep for the stack that is left here, or somebody
    # has changed it.
    return [answer for raw in raws for answer in _redeliver([raw], take, malformed)]
