"""The settings: name, type, default and check of each, in one table.

Values are read from Django's settings at every use and checked each time, so that an override is
seen at once and a wrong value can never be half obeyed. Nothing is read at import.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Generic, TypeVar

from django.conf import settings
from django.core.cache import caches
from django.core.exceptions import ImproperlyConfigured

T_co = TypeVar("T_co", covariant=True)

_ABSENT = object()

PREFIX = "TRACKING_SEGMENTIO_"

# A century: so long ago there is always a date.
_MAX_DAYS = 36_500

#: Segment's mobile libraries, by the name they send in `context.library.name`.
MOBILE_LIBRARIES = (
    "analytics-android",
    "analytics-ios",
    "analytics-kotlin",
    "analytics-swift",
    "@segment/analytics-react-native",
    "analytics-react-native",
    "analytics-flutter",
)


#: The functions that a delivery's payload is handed to, by the value of the setting. They are
#: named, not imported: the core does without what only some sites use.
DELIVERIES = {
    "inline": "segmentio_bridge.pipeline.process",
    "celery": "segmentio_bridge.tasks.enqueue",
}


@dataclass(frozen=True)
class Setting(Generic[T_co]):
    """One setting; `parse` turns a site's value into the form the code works with.

    `parse` raises TypeError or ValueError for a value that is not what `expects` says.
    """

    name: str
    default: object
    expects: str
    parse: Callable[[object], T_co]

    @cached_property
    def parsed_default(self) -> T_co:
        """The default, in the form the code works with."""
        return self.parse(self.default)

    def get(self) -> T_co:
        """Return the parsed value of the setting as it is now.

        Raises ImproperlyConfigured, which names the setting and never shows its value.
        """
        # By way of `settings` itself it takes microseconds to find that a setting is absent, which
        # most are in most sites: an error is raised and caught for each.
        value = getattr(settings._wrapped, self.name, _ABSENT)  # type: ignore[misc]  # unknown to the plugin
        if value is _ABSENT:
            return self.parsed_default
        try:
            return self.parse(value)
        except (TypeError, ValueError):
            # The original error may quote the value, and the value may be a secret.
            raise ImproperlyConfigured(f"{self.name} must be {self.expects}.") from None


def _string_list(value: object) -> tuple[str, ...]:
    # A tuple, set or frozenset is what many sites write where a list is meant.
    if not isinstance(value, list | tuple | set | frozenset):
        raise TypeError
    if not all(isinstance(item, str) for item in value):
        raise TypeError
    return tuple(value)


def _secrets(value: object) -> tuple[bytes, ...]:
    if value is None:
        return ()
    secrets = (value,) if isinstance(value, str) else _string_list(value)
    return tuple(secret.encode() for secret in secrets if secret)


def _lower_cased(value: object) -> tuple[str, ...]:
    items = tuple(item.lower() for item in _string_list(value))
    if "" in items:
        # Every name contains the empty string: all events would be ignored.
        raise ValueError
    return items


def _source_map(value: object) -> Mapping[str, str | None]:
    if not isinstance(value, Mapping):
        raise TypeError
    for library, source in value.items():
        if not isinstance(library, str) or not (source is None or isinstance(source, str)):
            raise TypeError
    return value


def _whole_number(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError
    if value < 0:
        raise ValueError
    return value


def _positive_integer(value: object) -> int:
    number = _whole_number(value)
    if number == 0:
        raise ValueError
    return number


def _days(value: object) -> int:
    number = _positive_integer(value)
    if number > _MAX_DAYS:
        raise ValueError
    return number


def _cache_alias(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    if value not in list(caches):
        raise ValueError
    return value


def _delivery(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    if value not in DELIVERIES:
        raise ValueError
    return DELIVERIES[value]


WEBHOOK_SECRET = Setting(
    f"{PREFIX}WEBHOOK_SECRET",
    None,
    "None, a string, or a list of strings",
    _secrets,
)
SIGNATURE_SECRET = Setting(
    f"{PREFIX}SIGNATURE_SECRET",
    None,
    "None, a string, or a list of strings",
    _secrets,
)
ALLOWED_TYPES = Setting(
    f"{PREFIX}ALLOWED_TYPES",
    ["track"],
    "a list of non-empty strings",
    lambda value: frozenset(_lower_cased(value)),
)
DISALLOWED_SUBSTRING_NAMES = Setting(
    f"{PREFIX}DISALLOWED_SUBSTRING_NAMES",
    [],
    "a list of non-empty strings",
    _lower_cased,
)
SOURCE_MAP = Setting(
    f"{PREFIX}SOURCE_MAP",
    dict.fromkeys(MOBILE_LIBRARIES, "mobile"),
    "a dictionary from library names to event sources, all strings",
    _source_map,
)
PROTECTED_CONTEXT_KEYS = Setting(
    f"{PREFIX}PROTECTED_CONTEXT_KEYS",
    [],
    "a list of strings",
    lambda value: frozenset(_string_list(value)),
)
MAX_BODY_BYTES = Setting(
    f"{PREFIX}MAX_BODY_BYTES",
    16 * 1024 * 1024,
    "a positive number of bytes",
    _positive_integer,
)
DELIVERY = Setting(
    f"{PREFIX}DELIVERY",
    "inline",
    " or ".join(f'"{delivery}"' for delivery in DELIVERIES),
    _delivery,
)
DEDUPLICATION_SECONDS = Setting(
    f"{PREFIX}DEDUPLICATION_SECONDS",
    0,
    "a number of whole seconds, 0 for none",
    _whole_number,
)
CACHE = Setting(
    f"{PREFIX}CACHE",
    "default",
    "the name of one of the CACHES",
    _cache_alias,
)
QUARANTINE_RETENTION_DAYS = Setting(
    f"{PREFIX}QUARANTINE_RETENTION_DAYS",
    30,
    f"a positive number of whole days, at most {_MAX_DAYS}",
    _days,
)
QUARANTINE_MAX_ROWS = Setting(
    f"{PREFIX}QUARANTINE_MAX_ROWS",
    100_000,
    "a positive number of rows",
    _positive_integer,
)

SETTINGS: tuple[Setting[object], ...] = (
    WEBHOOK_SECRET,
    SIGNATURE_SECRET,
    ALLOWED_TYPES,
    DISALLOWED_SUBSTRING_NAMES,
    SOURCE_MAP,
    PROTECTED_CONTEXT_KEYS,
    MAX_BODY_BYTES,
    DELIVERY,
    DEDUPLICATION_SECONDS,
    CACHE,
    QUARANTINE_RETENTION_DAYS,
    QUARANTINE_MAX_ROWS,
)
