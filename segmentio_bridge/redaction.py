"""What may be written to a log about things that came over the wire; they are not trusted."""

from __future__ import annotations

from types import TracebackType

_MAX_CHARACTERS = 200

#: What a logger takes as `exc_info`.
ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]


class WithheldError(Exception):
    """Stands in a log for an error whose own message may quote an event."""


def printable(value: object) -> str:
    """Return `value` in quotes, in printable ASCII and cut at 200 characters; `-` for None.

    Control characters, quotes and line ends are escaped, so that no value can forge a log line. It
    is cut before that, and an escape has up to ten characters.
    """
    return "-" if value is None else ascii(str(value)[:_MAX_CHARACTERS])


def withheld(error: BaseException) -> ExcInfo:
    """Return `exc_info` for a logger: the error's traceback and type, but not its message.

    The message and the chain of causes can hold anything that the failing code was given.
    """
    kind = f"{type(error).__module__}.{type(error).__qualname__}"
    stand_in = WithheldError(f"{kind} (its message is withheld: it may quote the event)")
    return (WithheldError, stand_in, error.__traceback__)
