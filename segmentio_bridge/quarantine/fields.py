"""Text from the wire, in any database: columns whose content is plain ASCII.

What comes over the wire can hold what a database refuses: MySQL's utf8mb3 tables, which many sites
still have, take no emoji, PostgreSQL takes no NUL, and none takes bytes that are no UTF-8. A column
that refuses one event would refuse its whole delivery. So everything but printable ASCII is stored
as `%xx` for each byte of its UTF-8 (RFC 3986, section 2.1), and so is the percent sign;
`urllib.parse.unquote_to_bytes`, or the like in any language, gives the bytes back. Python code
never sees that form, but for lookups of a part of a text, such as `contains`, which have to be
given `encode(part)`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper

if TYPE_CHECKING:
    _Field = models.Field[str, str]
    _TextField = models.TextField[str, str]
    _CharField = models.CharField[str, str]
else:
    _Field = models.Field
    _TextField = models.TextField
    _CharField = models.CharField


def encode(text: str) -> str:
    """Return the ASCII form of `text`, which may stand for any bytes by way of surrogateescape.

    It has up to three characters for each byte. Raises UnicodeEncodeError for a surrogate that
    stands for no byte.
    """
    stored = _NOT_STORED_AS_IT_IS.sub(_escape, text.encode("utf-8", "surrogateescape"))
    return stored.decode("ascii")


def decode(stored: str) -> str:
    """Return the text that `encode` made `stored` of."""
    return unquote_to_bytes(stored).decode("utf-8", "surrogateescape")


def clean(text: str, max_length: int) -> str:
    """Return `text` so that it can be shown everywhere, in at most `max_length` ASCII characters.

    That is the length that `encode` gives it, which a column has room for.
    Control characters and lone surrogates become U+FFFD; what is too long is cut.
    """
    text = text[:max_length]
    if not text.isprintable():
        text = "".join(_printable(character) for character in text)
    stored = encode(text)
    if len(stored) <= max_length:
        return text
    whole = _CUT_ESCAPE.sub("", stored[:max_length])
    return unquote_to_bytes(whole).decode("utf-8", "ignore")


class _WireField(_Field):
    def get_prep_value(self, value: Any) -> Any:
        """Return the form in which `value` is stored and compared."""
        value = super().get_prep_value(value)
        return encode(value) if isinstance(value, str) else value

    def from_db_value(
        self, value: str | None, expression: object, connection: BaseDatabaseWrapper
    ) -> str | None:
        """Return the text of a stored value."""
        return None if value is None else decode(value)


class WireTextField(_WireField, _TextField):
    """Text of any length, and of any content."""


class WireCharField(_WireField, _CharField):
    """Text that `clean` has been applied to; `max_length` is that of its ASCII form."""


def _escape(match: re.Match[bytes]) -> bytes:
    return b"%" + match[0].hex("%").encode()


def _printable(character: str) -> str:
    return character if character.isprintable() else "\ufffd"


_NOT_STORED_AS_IT_IS = re.compile(rb"[^\t\n\r -$&-~]+")
_CUT_ESCAPE = re.compile(r"%[0-9a-f]?$")
