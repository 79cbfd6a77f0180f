"""From the bytes of a body to raw events.

The bytes come from an authenticated sender, or were kept from one, and are trusted in nothing else.
How many there may be is for those to say who read them. Raises MalformedBody.
"""

from __future__ import annotations

import json
import re
from codecs import getincrementaldecoder
from collections.abc import Callable, Iterator
from math import isinf
from typing import Any, NoReturn

from .exceptions import MalformedBody


class Payload:
    """The raw events of one delivery, in their order; each may be anything that JSON can say.

    A batch is parsed each time it is iterated over, a piece at a time: what is done with an event
    finds it in the processor's cache, and no text of a whole batch need exist. A piece ends with
    the event that makes it 64 KiB or more; where events do not begin alike, with the batch.
    Iterating raises MalformedBody where the body turns out to be no JSON.
    """

    __slots__ = ("_body", "_start", "single")

    def __init__(self, body: bytes, *, start: int = 0, single: dict[str, Any] | None = None):
        self._body = body
        self._start = start
        #: The one raw event of a delivery that is no batch.
        self.single = single

    def __iter__(self) -> Iterator[Any]:
        if self.single is not None:
            return iter((self.single,))
        return _read_batch(self._body, self._start, _decode)

    def slices(self) -> Iterator[bytes]:
        """Yield the bytes that each raw event has in the body, without white space around them.

        Parses the body once more. Raises MalformedBody where iterating would.
        """
        if self.single is not None:
            return iter((self._body.strip(_WHITE_SPACE),))
        return _read_batch(self._body, self._start, _slice)


def parse_events(body: bytes) -> Payload:
    """Return the raw events of `body`: the elements of an array, or the one object.

    Elements of an array can be anything that JSON can say; validation is for later. Of a name that
    an object has twice, the last counts.

    Raises MalformedBody, here or while a batch is iterated over, if the body is not UTF-8, not
    strict JSON (RFC 8259, without numbers that no IEEE double can hold), too deeply nested to
    parse, or neither an object nor an array.
    """
    batch = _START_OF_BATCH.match(body)
    if batch:
        return Payload(body, start=batch.end())
    value = _decode(body)
    if not isinstance(value, dict):
        raise MalformedBody
    return Payload(body, single=value)


def find_signable(body: bytes) -> Iterator[bytes]:
    """Yield what a sender may have signed: the whole body, and of a batch its first element.

    The element's bytes are those of the body, since parsing and encoding it again would give
    others. Of what follows the first element nothing is parsed. Never raises: of what is no JSON,
    the body is all there is.

    Segment documents the body
    (https://segment.com/docs/connections/destinations/catalog/actions-webhook/); the sender in its
    package @segment/actions-core signs the first element of a batch.
    """
    yield body
    batch = _START_OF_BATCH.match(body)
    if batch is None:
        return
    first = _find_first(body, batch.end())
    if first is not None:
        yield first


def _find_first(body: bytes, start: int) -> bytes | None:
    """Return the bytes of the value at `start`, if there is one.

    No more of a batch is decoded than a few times the length of that value: a stranger's can have
    the size that is allowed.
    """
    size = _PIECE_BYTES
    while True:
        is_all = start + size >= len(body)
        try:
            text = _UTF_8().decode(body[start : start + size], final=is_all)
            _, end = _DECODER.raw_decode(text)
        except ValueError:
            if is_all:
                return None
        except RecursionError:
            return None
        else:
            # What ends where the piece does may go on behind it, as a number can.
            if is_all or end < len(text):
                return text[:end].encode()
        size *= 8


def _read_batch(body: bytes, start: int, read: Callable[[bytes], list[Any]]) -> Iterator[Any]:
    """Yield what `read` makes of an array, for the array whose first element begins at `start`.

    The array is read in pieces, which halves the memory: a single emoji makes each character of a
    text take four bytes, so that no large text should ever exist. A piece ends where an object ends
    and the next begins with the name that the first element begins with. Where that is not between
    two elements, the piece is no JSON, and all the rest is read at once.
    """
    name = _FIRST_NAME.match(body, start)
    boundary = b"}," + name[0] if name else None
    while boundary and (end := body.find(boundary, start + _PIECE_BYTES)) >= 0:
        try:
            elements = read(b"[%b]" % body[start : end + 1])
        except MalformedBody:
            break
        yield from elements
        start = end + len(b"},")
    yield from read(b"[" + body[start:])


def _decode(text: bytes) -> Any:
    try:
        return _DECODER.decode(text.decode())
    except (ValueError, RecursionError):
        # The original error quotes the body.
        raise MalformedBody from None


def _slice(array: bytes) -> list[bytes]:
    """Return the bytes of each element of an array."""
    elements: list[bytes] = []
    try:
        text = array.decode()
        if _EMPTY_ARRAY.fullmatch(text):
            return elements
        separator = _START_OF_ARRAY.match(text)
        while separator:
            start = separator.end()
            _, end = _DECODER.raw_decode(text, start)
            elements.append(text[start:end].encode())
            separator = _SEPARATOR.match(text, end)
            if separator is None and not _END_OF_ARRAY.fullmatch(text, end):
                raise MalformedBody
    except (ValueError, RecursionError):
        raise MalformedBody from None
    return elements


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _finite_float(digits: str) -> float:
    value = float(digits)
    if isinf(value):
        raise ValueError
    return value


def _finite_integer(digits: str) -> int:
    # JavaScript reads an integer of more than 309 digits as Infinity, like any other number that
    # overflows. The limit also keeps Python's quadratic conversion short, whatever the
    # interpreter's own limit is set to.
    if len(digits) > 300:
        _finite_float(digits)
    return int(digits)


_PIECE_BYTES = 64 * 1024
_UTF_8 = getincrementaldecoder("utf-8")

# What JSON allows around values, and nothing that only Python takes for white space.
_WHITE_SPACE = b" \t\n\r"
_START_OF_BATCH = re.compile(rb"[ \t\n\r]*\[[ \t\n\r]*")
_START_OF_ARRAY = re.compile(r"\[[ \t\n\r]*")
_SEPARATOR = re.compile(r"[ \t\n\r]*,[ \t\n\r]*")
_END_OF_ARRAY = re.compile(r"[ \t\n\r]*\][ \t\n\r]*")
_EMPTY_ARRAY = re.compile(r"\[[ \t\n\r]*\][ \t\n\r]*")
_FIRST_NAME = re.compile(rb'\{"[^"]*":')

_DECODER = json.JSONDecoder(
    parse_constant=_refuse_constant, parse_float=_finite_float, parse_int=_finite_integer
)
